//! Stories of groups on several nodes, over real sockets on this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dinhba_client::transport::{Dial, Transport, TransportError};
use dinhba_core::ids::{GroupId, NodeId};
use dinhba_core::store::{Batch, LogEngine, StateEngine, StoreError};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Endpoint, Server};
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use super::group::{Accepted, ChangeError, Group, ProposeError, Role, Settings, Setup, StartError, Status, disk_proof};
use super::machine::Machine;
use super::peer::{AdmitAll, App, Body, CallError, FRAME_BYTES_MAX, Groups, PeerPool, PeerService, Serve};
use super::test_support::{ChainMachine, MemoryDisk, MemoryLog, MemoryState};
use crate::call::{Change, ChangeKind};
use crate::disk::Disk;
use crate::proof::Proof;
use crate::runtime;
use dinhba_proto::peer::v1 as wire;

mod connections;
mod members;
mod proofs;
mod snapshots;

const GROUP: GroupId = GroupId(1);
const OTHER_GROUP: GroupId = GroupId(2);

/// Ample on a busy machine; a passing test waits for none of it.
const WAIT: Duration = Duration::from_secs(20);

/// Two elections of these groups.
const UNPROVED_MAX: Duration = Duration::from_millis(1200);

/// Dials plain HTTP/2, and counts.
#[derive(Default)]
struct PlainDial {
    dialled: Mutex<BTreeMap<String, usize>>,
}

impl Dial for PlainDial {
    fn dial(&self, address: String) -> BoxFuture<'static, Result<Transport, TransportError>> {
        let address = dinhba_client::tls::split_name(&address).1.to_owned();
        *self.dialled.lock().expect("no panic").entry(address.clone()).or_default() += 1;
        Box::pin(async move {
            let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
            Ok(BoxCloneSyncService::new(channel.map_err(TransportError::from)))
        })
    }
}

/// Echoes, unless told to refuse.
struct Echo(AtomicUsize);

impl App for Echo {
    fn app(&self, _: GroupId, request: Vec<u8>) -> BoxFuture<'static, Result<Vec<u8>, String>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move { if request == b"refuse" { Err("asked to".into()) } else { Ok(request) } })
    }
}

/// Applies as its inner one does, only later.
struct Slow(ChainMachine);

impl Machine for Slow {
    #[allow(clippy::disallowed_methods, reason = "it holds up the replica on purpose")]
    fn apply(&mut self, commands: &[(u64, Vec<u8>)]) -> Result<(Vec<Vec<u8>>, Batch), StoreError> {
        std::thread::sleep(Duration::from_millis(15));
        self.0.apply(commands)
    }
    fn applied(&mut self, index: u64) {
        self.0.applied(index);
    }
    fn replaced(&mut self) {
        self.0.replaced();
    }
}

type Machines = Box<dyn Fn() -> Box<dyn Machine> + Send + Sync>;

struct TestNode {
    id: NodeId,
    address: String,
    log: Arc<MemoryLog>,
    state: Arc<MemoryState>,
    disk: Arc<MemoryDisk>,
    disk_proof: Proof,
    dial: Arc<PlainDial>,
    pool: PeerPool,
    groups: Groups,
    stop: tokio::sync::watch::Sender<bool>,
}

impl TestNode {
    async fn new(id: u64) -> TestNode {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let dial = Arc::new(PlainDial::default());
        let mut node = TestNode {
            id: NodeId(id),
            address: address.to_string(),
            log: Arc::default(),
            state: Arc::default(),
            disk: Arc::default(),
            disk_proof: disk_proof(UNPROVED_MAX),
            pool: PeerPool::new(Arc::clone(&dial) as Arc<dyn Dial>),
            dial,
            groups: Groups::default(),
            stop: tokio::sync::watch::channel(false).0,
        };
        node.listen(listener);
        node
    }

    fn listen(&mut self, listener: TcpListener) {
        self.stop = tokio::sync::watch::channel(false).0;
        let mut stopped = self.stop.subscribe();
        let service = PeerService::new(self.groups.clone(), Arc::new(Echo(AtomicUsize::new(0))), Arc::new(AdmitAll));
        runtime::spawn("server", async move {
            let serving = Server::builder()
                .add_service(service.into_server())
                .serve_with_incoming(TcpListenerStream::new(listener));
            tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => {}
                _ = serving => {}
            }
        });
    }

    fn machine(&self, group: GroupId) -> Machines {
        let state = Arc::clone(&self.state) as Arc<dyn StateEngine>;
        Box::new(move || Box::new(ChainMachine::new(Arc::clone(&state), group)))
    }

    async fn start(&self, group: GroupId) -> Group {
        self.start_with(group, self.machine(group)).await
    }

    async fn start_with(&self, group: GroupId, machine: Machines) -> Group {
        Group::start(Setup { machine, ..self.setup(group) }).await.expect("it starts")
    }

    fn snapshots(&self, group: GroupId) -> PathBuf {
        PathBuf::from(format!("{}/{group}", self.id))
    }

    fn setup(&self, group: GroupId) -> Setup {
        Setup {
            group,
            node: self.id,
            log: Arc::clone(&self.log) as Arc<dyn LogEngine>,
            machine: self.machine(group),
            peers: Vec::new(),
            state: Arc::clone(&self.state) as Arc<dyn StateEngine>,
            disk: Arc::clone(&self.disk) as _,
            snapshot_dir: self.snapshots(group),
            pool: self.pool.clone(),
            groups: self.groups.clone(),
            settings: Settings {
                heartbeat_ms: 60,
                election_ms_min: 300,
                election_ms_max: 600,
                snapshot_every: 1_000_000,
                log_keep: 0,
            },
            disk_proof: self.disk_proof.clone(),
        }
    }

    /// As if the process had gone: nobody answers, nothing is called.
    async fn crash(&self, group: &Group) {
        group.shutdown().await;
        self.stop.send_replace(true);
        self.pool.disconnect();
    }

    async fn come_back(&mut self) {
        let address: SocketAddr = self.address.parse().expect("an address");
        for _ in 0..200 {
            // The server that stopped may not have let go of it yet.
            if let Ok(listener) = TcpListener::bind(address).await {
                return self.listen(listener);
            }
            runtime::sleep(Duration::from_millis(20)).await;
        }
        panic!("{address} is not free");
    }

    fn commands(&self, group: GroupId) -> Vec<Vec<u8>> {
        ChainMachine::commands(&*self.state, group).expect("memory")
    }
}

/// Three nodes with one group, and the place of the leader among them.
async fn three() -> (Vec<TestNode>, Vec<Group>, usize) {
    let mut nodes = Vec::new();
    let mut groups = Vec::new();
    for id in 1..=3 {
        nodes.push(TestNode::new(id).await);
        groups.push(nodes[nodes.len() - 1].start(GROUP).await);
    }
    groups[0].initialize(voters(&nodes)).await.expect("it is new");
    let leader = leader(&groups).await;
    (nodes, groups, leader)
}

fn voters(nodes: &[TestNode]) -> BTreeMap<NodeId, String> {
    nodes.iter().map(|node| (node.id, node.address.clone())).collect()
}

/// Waits until all of them follow one of them.
async fn leader(groups: &[Group]) -> usize {
    for _ in 0..1000 {
        let leaders: BTreeSet<_> = groups.iter().map(|group| group.status().leader).collect();
        if let Some(place) = groups.iter().position(|group| group.status().role == Role::Leader)
            && leaders.len() == 1
            && !leaders.contains(&None)
        {
            return place;
        }
        runtime::sleep(Duration::from_millis(20)).await;
    }
    panic!("no leader: {:#?}", groups.iter().map(Group::status).collect::<Vec<_>>());
}

async fn propose(group: &Group, command: &str) -> Accepted {
    group.propose(command.as_bytes().to_vec(), WAIT).await.expect("a majority lives")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_outlives_its_leader_who_catches_up_after_coming_back() {
    let (mut nodes, mut groups, first) = three().await;
    for number in 0..30 {
        // At every node: those who do not lead pass it on.
        propose(&groups[number % 3], &format!("before {number}")).await;
    }
    nodes[first].crash(&groups[first]).await;
    let alive: Vec<Group> = (0..3).filter(|&place| place != first).map(|place| groups[place].clone()).collect();
    for number in 0..10 {
        propose(&alive[number % 2], &format!("after {number}")).await;
    }
    nodes[first].come_back().await;
    groups[first] = nodes[first].start(GROUP).await;
    propose(&groups[first], "by the one who came back").await;

    for (node, group) in nodes.iter().zip(&groups) {
        group.barrier(WAIT).await.expect("a majority lives");
        let commands = node.commands(GROUP);
        assert_eq!(commands.len(), 41);
        assert_eq!(commands, nodes[0].commands(GROUP));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_barrier_at_a_follower_shows_what_was_acknowledged_elsewhere() {
    let (nodes, mut groups, leader) = three().await;
    let follower = (leader + 1) % 3;
    groups[follower].shutdown().await;
    let slow = {
        let state = Arc::clone(&nodes[follower].state) as Arc<dyn StateEngine>;
        move || Box::new(Slow(ChainMachine::new(Arc::clone(&state), GROUP))) as Box<dyn Machine>
    };
    groups[follower] = nodes[follower].start_with(GROUP, Box::new(slow)).await;
    for number in 0..20 {
        let accepted = propose(&groups[leader], &number.to_string()).await;
        // Many at once share rounds, and each sees the proposal.
        let barriers = futures::future::join_all((0..8).map(|_| groups[follower].barrier(WAIT))).await;
        for reached in barriers {
            assert!(reached.expect("a majority lives") >= accepted.index);
        }
        assert_eq!(nodes[follower].commands(GROUP).len(), number + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_groups_share_one_connection_per_peer() {
    let (nodes, groups, _) = three().await;
    let mut others = Vec::new();
    for node in &nodes {
        others.push(node.start(OTHER_GROUP).await);
    }
    others[1].initialize(voters(&nodes)).await.expect("it is new");
    leader(&others).await;
    for number in 0..20 {
        for group in [&groups[number % 3], &others[(number + 1) % 3]] {
            propose(group, &number.to_string()).await;
        }
    }
    for place in 0..3 {
        groups[place].barrier(WAIT).await.expect("all live");
        others[place].barrier(WAIT).await.expect("all live");
        assert_eq!((nodes[place].commands(GROUP).len(), nodes[place].commands(OTHER_GROUP).len()), (20, 20));
    }
    for node in &nodes {
        let dialled = node.dial.dialled.lock().expect("no panic").clone();
        assert!(dialled.values().all(|&count| count == 1), "{} dialled {dialled:?}", node.id);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nobody_is_told_a_wrong_outcome() {
    let (nodes, groups, leader) = three().await;
    propose(&groups[leader], "fine").await;
    let (second, third) = ((leader + 1) % 3, (leader + 2) % 3);
    nodes[second].crash(&groups[second]).await;
    nodes[third].crash(&groups[third]).await;
    // The leader has written it to its own log: it may yet commit.
    let error = groups[leader].propose(b"lonely".to_vec(), Duration::from_millis(500)).await.expect_err("no majority");
    assert!(!error.surely_not_accepted(), "{error}");
    assert!(groups[leader].barrier(Duration::from_millis(500)).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_without_a_leader_says_that_nothing_was_accepted() {
    let (nodes, groups, leader) = three().await;
    let (second, third) = ((leader + 1) % 3, (leader + 2) % 3);
    nodes[leader].crash(&groups[leader]).await;
    nodes[second].crash(&groups[second]).await;
    // A command that was under way when the connection broke may be anywhere; after that nothing is sent.
    let mut errors = Vec::new();
    for _ in 0..5 {
        let lonely = groups[third].propose(b"lonely".to_vec(), Duration::from_millis(500)).await;
        errors.push(lonely.expect_err("no majority"));
    }
    assert!(errors[4].surely_not_accepted(), "{errors:?}");
    let long = groups[third].propose(vec![0; (1 << 20) + 1], WAIT).await;
    assert_eq!(long, Err(ProposeError::TooLong((1 << 20) + 1)));
}

/// Answers more than any frame takes.
struct Verbose;

impl Machine for Verbose {
    fn apply(&mut self, commands: &[(u64, Vec<u8>)]) -> Result<(Vec<Vec<u8>>, Batch), StoreError> {
        Ok((vec![vec![0; FRAME_BYTES_MAX + 1]; commands.len()], Batch::default()))
    }
    fn applied(&mut self, _: u64) {}
    fn replaced(&mut self) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_whose_answer_is_too_long_for_a_frame_was_perhaps_accepted() {
    let nodes = [TestNode::new(1).await, TestNode::new(2).await];
    let groups = [
        nodes[0].start_with(GROUP, Box::new(|| Box::new(Verbose))).await,
        nodes[1].start_with(GROUP, Box::new(|| Box::new(Verbose))).await,
    ];
    groups[0].initialize(voters(&nodes)).await.expect("it is new");
    let leader = leader(&groups).await;
    let last = groups[leader].status().last;
    let outcome = groups[1 - leader].propose(b"command".to_vec(), WAIT).await;
    assert!(matches!(outcome, Err(ProposeError::Unknown(_))), "{outcome:?}");
    assert_eq!(groups[leader].status().last, last.map(|last| last + 1), "it was proposed once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_log_was_lost_under_its_state_does_not_start() {
    let mut node = TestNode::new(1).await;
    let group = node.start(GROUP).await;
    group.initialize(voters(std::slice::from_ref(&node))).await.expect("it is new");
    propose(&group, "applied").await;
    node.crash(&group).await;
    node.log = Arc::default();
    let Err(StartError::Store(StoreError::Corrupt { detail, .. })) = Group::start(node.setup(GROUP)).await else {
        panic!("it started and may vote again");
    };
    assert!(detail.contains("must not vote again"), "{detail}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn app_calls_are_answered_refused_or_surely_not_sent() {
    let (here, there) = (TestNode::new(1).await, TestNode::new(2).await);
    let call = |request: &[u8]| {
        let body = Body::App(wire::App { payload: request.to_vec() });
        let (pool, address) = (here.pool.clone(), there.address.clone());
        async move { pool.call(2, &address, GROUP, body, Duration::from_secs(3)).await }
    };
    assert_eq!(call(b"hello").await, Ok(Body::AppAnswer(wire::App { payload: b"hello".to_vec() })));
    assert!(matches!(call(b"refuse").await, Ok(Body::Failure(failure)) if failure.detail == "asked to"));
    assert!(matches!(call(&vec![0; 5 << 20]).await, Err(CallError::NotSent(_))), "too long for a frame");
    assert_eq!(call(b"still here").await, Ok(Body::AppAnswer(wire::App { payload: b"still here".to_vec() })));
    let nobody = here.pool.call(3, "127.0.0.1:1", GROUP, Body::App(wire::App::default()), WAIT).await;
    assert!(matches!(nobody, Err(CallError::NotSent(_))), "{nobody:?}");
}
