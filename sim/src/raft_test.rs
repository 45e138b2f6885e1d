//! A group of three nodes in the simulator: real openraft, real gRPC code, no sockets.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dinhba_client::transport::{Dial, Transport, TransportError};
use dinhba_core::ids::{GroupId, NodeId};
use dinhba_core::store::StateEngine;
use dinhba_node::disk::Disk;
use dinhba_node::raft::group::{Group, Role, Settings, Setup, disk_proof};
use dinhba_node::raft::peer::{AdmitAll, App, Body as PeerBody, Groups, PeerPool, PeerService};
use dinhba_node::raft::test_support::{ChainMachine, MemoryDisk, MemoryLog, MemoryState};
use dinhba_node::runtime::{self, NodeScope};
use dinhba_proto::peer::v1 as peer;
use futures::future::BoxFuture;
use tokio::sync::oneshot;
use tonic::body::Body;
use tower::util::BoxCloneSyncService;
use tower::{ServiceExt, service_fn};

use crate::executor::{Handle, Simulator};

const GROUP: GroupId = GroupId(1);
const WAIT: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_secs(600);

struct NoApp;

impl App for NoApp {
    fn app(&self, _: GroupId, _: Vec<u8>) -> BoxFuture<'static, Result<Vec<u8>, String>> {
        Box::pin(async { Err("nothing here".into()) })
    }
}

/// Who listens where; a node that is dead does not.
#[derive(Clone)]
struct Wire {
    simulator: Handle,
    listeners: Arc<Mutex<BTreeMap<String, (NodeScope, PeerService)>>>,
}

impl Wire {
    fn listeners(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, (NodeScope, PeerService)>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dial for Wire {
    fn dial(&self, address: String) -> BoxFuture<'static, Result<Transport, TransportError>> {
        let address = dinhba_client::tls::split_name(&address).1.to_owned();
        let found = self.listeners().get(&address).cloned();
        let simulator = self.simulator.clone();
        Box::pin(async move {
            let (scope, service) = found.ok_or("nobody listens")?;
            let server = service.into_server();
            let transport = service_fn(move |request: http::Request<Body>| {
                // The listener's task, so that what serves the call dies with the listener.
                let (sender, answer) = oneshot::channel();
                let server = server.clone();
                simulator.spawn_in(scope, "accept", async move {
                    let _ = sender.send(server.oneshot(request).await);
                });
                async move {
                    match answer.await {
                        Ok(Ok(response)) => Ok(response),
                        Ok(Err(never)) => match never {},
                        Err(_) => Err(TransportError::from("the peer died")),
                    }
                }
            });
            Ok(BoxCloneSyncService::new(transport))
        })
    }
}

struct Node {
    id: NodeId,
    scope: NodeScope,
    address: String,
    wire: Wire,
    log: Arc<MemoryLog>,
    state: Arc<MemoryState>,
    disk: Arc<MemoryDisk>,
}

impl Node {
    fn new(id: u64, wire: &Wire) -> Self {
        Node {
            id: NodeId(id),
            scope: NodeScope(id),
            address: format!("node-{id}"),
            wire: wire.clone(),
            log: Arc::default(),
            state: Arc::default(),
            disk: Arc::default(),
        }
    }

    async fn start(&self) -> Group {
        let groups = Groups::default();
        let service = PeerService::new(groups.clone(), Arc::new(NoApp), Arc::new(AdmitAll));
        self.wire.listeners().insert(self.address.clone(), (self.scope, service));
        let setup = Setup {
            group: GROUP,
            node: self.id,
            log: Arc::clone(&self.log) as _,
            state: Arc::clone(&self.state) as _,
            disk: Arc::clone(&self.disk) as _,
            snapshot_dir: PathBuf::from("snapshots"),
            machine: {
                let state = Arc::clone(&self.state) as Arc<dyn StateEngine>;
                Box::new(move || Box::new(ChainMachine::new(Arc::clone(&state), GROUP)))
            },
            peers: Vec::new(),
            pool: PeerPool::new(Arc::new(self.wire.clone())),
            groups,
            settings: Settings::default(),
            disk_proof: disk_proof(WAIT),
        };
        let started = self.wire.simulator.spawn_in(self.scope, "start", Group::start(setup)).await;
        started.expect("nobody kills it yet").expect("memory")
    }

    fn kill(&self) {
        self.wire.listeners().remove(&self.address);
        self.wire.simulator.kill(self.scope);
    }

    async fn propose(&self, group: &Group, number: u64) -> Vec<u8> {
        let group = group.clone();
        let proposing = async move { group.propose(number.to_be_bytes().to_vec(), WAIT).await };
        let accepted = self.wire.simulator.spawn_in(self.scope, "propose", proposing).await;
        accepted.expect("it is not killed").expect("a majority lives").answer
    }

    fn commands(&self) -> Vec<Vec<u8>> {
        ChainMachine::commands(&*self.state, GROUP).expect("memory")
    }
}

async fn leader(groups: &[(usize, Group)]) -> usize {
    loop {
        if let Some((place, _)) = groups.iter().find(|(_, group)| group.status().role == Role::Leader) {
            return *place;
        }
        runtime::sleep(Duration::from_millis(100)).await;
    }
}

/// The story: elect, write 50, lose the leader, go on, come back. Gives what every node then holds.
async fn story(simulator: Handle) -> Vec<Vec<Vec<u8>>> {
    let wire = Wire { simulator: simulator.clone(), listeners: Arc::default() };
    let nodes: Vec<Node> = (1..=3).map(|id| Node::new(id, &wire)).collect();
    let mut groups = Vec::new();
    for (place, node) in nodes.iter().enumerate() {
        groups.push((place, node.start().await));
    }
    let voters = nodes.iter().map(|node| (node.id, node.address.clone())).collect();
    groups[0].1.initialize(voters).await.expect("it is new");
    let first = leader(&groups).await;
    for number in 0..50 {
        let place = usize::try_from(number).expect("small") % 3;
        simulator.record(&nodes[place].propose(&groups[place].1, number).await);
    }

    nodes[first].kill();
    groups.remove(first);
    leader(&groups).await;
    for number in 50..60 {
        let (place, group) = &groups[usize::try_from(number).expect("small") % 2];
        simulator.record(&nodes[*place].propose(group, number).await);
    }

    groups.insert(first, (first, nodes[first].start().await));
    for (place, group) in &groups {
        let group = group.clone();
        let barrier = async move { group.barrier(WAIT).await };
        let reached = simulator.spawn_in(nodes[*place].scope, "barrier", barrier).await;
        reached.expect("it is not killed").expect("all live");
    }
    nodes.iter().map(Node::commands).collect()
}

fn run(seed: u64) -> (Vec<Vec<Vec<u8>>>, String) {
    let mut simulator = Simulator::new(seed);
    let handle = simulator.handle();
    let held = simulator.run(LIMIT, story(handle));
    let held = held.unwrap_or_else(|| panic!("seed {seed} came to no end: {:?}", simulator.extent()));
    (held, simulator.hash())
}

#[test]
fn three_nodes_elect_write_lose_their_leader_and_go_on_and_a_seed_repeats_it() {
    let expected: Vec<Vec<u8>> = (0..60u64).map(|number| number.to_be_bytes().to_vec()).collect();
    let mut hashes = Vec::new();
    for seed in 1..=5 {
        let (held, hash) = run(seed);
        for commands in &held {
            assert_eq!(*commands, expected, "seed {seed}");
        }
        assert_eq!(run(seed), (held, hash.clone()), "seed {seed} did not repeat");
        hashes.push(hash);
    }
    hashes.dedup();
    assert_eq!(hashes.len(), 5, "seeds do not differ");
}

/// The beginning of a snapshot is sent, and offered once more; how many files are there each time, and long after.
async fn half_a_snapshot(simulator: Handle) -> Vec<usize> {
    let wire = Wire { simulator: simulator.clone(), listeners: Arc::default() };
    let (there, here) = (Node::new(1, &wire), Node::new(2, &wire));
    let group = here.start().await;
    let pool = PeerPool::new(Arc::new(wire.clone()));
    let mut files = Vec::new();
    let count = || here.disk.list(&PathBuf::from("snapshots")).expect("memory").len();
    for transfer in [1, 2] {
        let chunk = peer::SnapshotChunk {
            transfer,
            vote: Some(peer::Vote { term: 1, node: 1, committed: true }),
            position: Some(peer::Position { membership: Some(peer::Membership::default()), ..Default::default() }),
            bytes: 500,
            hash: vec![9; 32],
            data: vec![1; 100],
            resumable: true,
            ..Default::default()
        };
        let (pool, address) = (pool.clone(), here.address.clone());
        let call = async move { pool.call(2, &address, GROUP, PeerBody::Snapshot(chunk), WAIT).await };
        let answer = simulator.spawn_in(there.scope, "send", call).await.expect("it is not killed");
        assert!(matches!(answer, Ok(PeerBody::SnapshotAnswer(answer)) if answer.next == 100));
        runtime::sleep(Duration::from_secs(400)).await;
        files.push(count());
    }
    runtime::sleep(Duration::from_secs(300)).await;
    files.push(count());
    drop(group);
    files
}

#[test]
fn a_snapshot_that_nobody_goes_on_sending_is_removed() {
    let mut simulator = Simulator::new(1);
    let handle = simulator.handle();
    let files = simulator.run(Duration::from_secs(3600), half_a_snapshot(handle));
    assert_eq!(files, Some(vec![1, 1, 0]), "kept for ten minutes after it was last offered");
}
