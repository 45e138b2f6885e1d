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
async fn a_learner_joins_by_snapshot_and_takes_over_a_vote() {
    let (nodes, groups, first) = three().await;
    for number in 0..200 {
        propose(&groups[first], &format!("{number} {}", "x".repeat(3000))).await;
    }
    // More than one chunk, and nothing of it left in the log.
    groups[first].snapshot().await.expect("it runs");
    assert!(groups[first].wait_for(WAIT, |status| status.snapshot >= Some(200)).await);
    groups[first].purge(200).await.expect("it runs");
    assert!(groups[first].wait_for(WAIT, |status| status.purged >= Some(200)).await);

    let fourth = TestNode::new(4).await;
    let joined = fourth.start(GROUP).await;
    groups[first].add_learner(fourth.id, fourth.address.clone(), true).await.expect("it leads");
    assert!(joined.wait_for(WAIT, |status| status.applied >= Some(200)).await, "{:#?}", joined.status());
    assert!(joined.status().snapshot >= Some(200), "it came by snapshot");
    assert_eq!(joined.status().role, Role::Learner);
    joined.barrier(WAIT).await.expect("a majority lives");
    assert_eq!(fourth.commands(GROUP), nodes[first].commands(GROUP));

    groups[first].promote(BTreeSet::from([fourth.id])).await.expect("it leads");
    assert!(joined.wait_for(WAIT, |status| status.role == Role::Follower).await);
    let removed = (first + 1) % 3;
    groups[first].remove(nodes[removed].id).await.expect("it leads");
    let members: Vec<NodeId> = groups[first].status().members.into_keys().collect();
    assert_eq!(members.len(), 3);
    assert!(!members.contains(&nodes[removed].id));

    // The one who came last can lead, and what follows reaches everybody who is left.
    groups[first].transfer_leader(fourth.id).await.expect("it leads");
    assert!(joined.wait_for(WAIT, |status| status.role == Role::Leader).await, "{:#?}", joined.status());
    propose(&groups[first], "after the change").await;
    assert!(matches!(
        groups[first].remove(fourth.id).await,
        Err(ChangeError::NotLeader { leader: Some((leader, _)) }) if leader == fourth.id
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lead_is_handed_to_voters_only_and_comes_back_from_one_who_does_not_take_it() {
    let only = TestNode::new(1).await;
    let group = only.start(GROUP).await;
    group.initialize(voters(std::slice::from_ref(&only))).await.expect("it is new");
    assert!(group.wait_for(WAIT, |status| status.role == Role::Leader).await);
    propose(&group, "before").await;
    let learner = TestNode::new(2).await;
    group.add_learner(learner.id, learner.address.clone(), false).await.expect("it leads");
    group.transfer_leader(only.id).await.expect("nothing is to be done");
    for (node, why) in [(learner.id, "has no vote"), (NodeId(9), "no member")] {
        let refused = group.transfer_leader(node).await;
        assert!(matches!(&refused, Err(ChangeError::Refused(text)) if text.contains(why)), "{node}: {refused:?}");
    }
    propose(&group, "after").await;

    // A voter that is away: of two, so that nobody else could be elected meanwhile.
    let (nodes, groups, leader) = three().await;
    let away = (leader + 1) % 3;
    nodes[away].crash(&groups[away]).await;
    let refused = groups[leader].transfer_leader(nodes[away].id).await;
    assert!(matches!(refused, Err(ChangeError::Refused(_))), "{refused:?}");
    let alive: Vec<Group> = (0..3).filter(|&place| place != away).map(|place| groups[place].clone()).collect();
    for group in &alive {
        propose(group, "as ever").await;
    }
}

/// Keeps the proofs of these groups fresh, until it is dropped.
struct Provers(Arc<AtomicBool>);

impl Provers {
    fn start<'a>(groups: impl IntoIterator<Item = &'a Group>) -> Provers {
        let stop: Arc<AtomicBool> = Arc::default();
        for group in groups {
            let (group, stop) = (group.clone(), Arc::clone(&stop));
            runtime::spawn("prover", async move {
                while !stop.load(Ordering::Relaxed) {
                    group.prove(UNPROVED_MAX / 2).await;
                    runtime::sleep(UNPROVED_MAX / 6).await;
                }
            });
        }
        Provers(stop)
    }
}

impl Drop for Provers {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn becomes(what: &str, limit: Duration, holds: impl Fn() -> bool) {
    let began = runtime::now();
    while !holds() {
        assert!(runtime::now() - began < limit, "{what}: not within {limit:?}");
        runtime::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_well_only_as_long_as_it_is_proved_that_proposals_pass() {
    let (mut nodes, mut groups, leader) = three().await;
    assert!(groups[leader].health().is_err(), "nothing was proved yet");
    let provers = Provers::start(&groups);
    becomes("all are well", WAIT, || groups.iter().all(|group| group.health().is_ok())).await;
    let before = groups.iter().map(|group| group.status().last).collect::<Vec<_>>();
    runtime::sleep(UNPROVED_MAX).await;
    assert_eq!(before, groups.iter().map(|group| group.status().last).collect::<Vec<_>>(), "nothing is written for it");

    // One that stays behind is not well, and says why; the others are.
    let (behind, third) = ((leader + 1) % 3, (leader + 2) % 3);
    drop(provers);
    groups[behind].shutdown().await;
    let stuck = {
        let state = Arc::clone(&nodes[behind].state) as Arc<dyn StateEngine>;
        move || Box::new(Stuck(ChainMachine::new(Arc::clone(&state), GROUP))) as Box<dyn Machine>
    };
    groups[behind] = nodes[behind].start_with(GROUP, Box::new(stuck)).await;
    let provers = Provers::start(&groups);
    for number in 0..3 {
        propose(&groups[leader], &number.to_string()).await;
    }
    becomes("who has not caught up is not well", WAIT, || {
        groups[behind].health().is_err_and(|why| why.contains("has not caught up"))
    })
    .await;
    becomes("the others are", WAIT, || [leader, third].iter().all(|&at| groups[at].health().is_ok())).await;
    drop(provers);

    // Without a majority nobody is, within the time and what a busy machine adds; and it ends with the illness.
    groups[behind].shutdown().await;
    groups[behind] = nodes[behind].start(GROUP).await;
    let provers = Provers::start(&groups);
    becomes("all are well again", WAIT, || groups.iter().all(|group| group.health().is_ok())).await;
    for place in [behind, third] {
        nodes[place].crash(&groups[place]).await;
    }
    becomes("the last one is not well", UNPROVED_MAX * 2, || groups[leader].health().is_err()).await;
    let why = groups[leader].health().expect_err("just so");
    assert!(why.contains("no majority") || why.contains("no leader"), "{why}");
    assert!(groups[third].health().is_err_and(|why| why.contains("has stopped")));
    assert_eq!(groups[third].status().leader, None, "what one that has stopped believed does not count");
    nodes[third].come_back().await;
    groups[third] = nodes[third].start(GROUP).await;
    let other = Provers::start([&groups[third]]);
    becomes("both are well", WAIT, || [leader, third].iter().all(|&at| groups[at].health().is_ok())).await;
    drop((provers, other));
}

/// Applies nothing for a long time.
struct Stuck(ChainMachine);

impl Machine for Stuck {
    #[allow(clippy::disallowed_methods, reason = "it holds up the replica on purpose")]
    fn apply(&mut self, commands: &[(u64, Vec<u8>)]) -> Result<(Vec<Vec<u8>>, Batch), StoreError> {
        std::thread::sleep(UNPROVED_MAX * 3);
        self.0.apply(commands)
    }
    fn applied(&mut self, index: u64) {
        self.0.applied(index);
    }
    fn replaced(&mut self) {
        self.0.replaced();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_counts_on_a_member_whose_disk_does_not_answer() {
    let (nodes, groups, leader) = three().await;
    let _provers = Provers::start(&groups);
    becomes("all are well", WAIT, || groups.iter().all(|group| group.health().is_ok())).await;
    // Nobody writes, so nothing but this would show it.
    for place in [(leader + 1) % 3, (leader + 2) % 3] {
        nodes[place].disk_proof.refused("the disk hangs");
    }
    becomes("the leader of two such is not well", UNPROVED_MAX * 3, || groups[leader].health().is_err()).await;
    for node in &nodes {
        node.disk_proof.worked(runtime::now());
    }
    becomes("all are well again", WAIT, || groups.iter().all(|group| group.health().is_ok())).await;
    nodes[leader].disk_proof.refused("the disk hangs");
    becomes("who follows such a leader is not well", UNPROVED_MAX * 3, || {
        groups.iter().all(|group| group.health().is_err_and(|why| why.contains("the disk hangs")))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_whose_log_went_back_is_sent_it_again_by_the_same_leader() {
    let (mut nodes, mut groups, leader) = three().await;
    for number in 0..20 {
        propose(&groups[leader], &number.to_string()).await;
    }
    let back = (leader + 1) % 3;
    assert!(groups[back].wait_for(WAIT, |status| status.applied >= Some(20)).await);
    nodes[back].crash(&groups[back]).await;
    // The end of its log and its state are gone, its vote is not.
    let (lost, gone) = futures::channel::oneshot::channel();
    nodes[back].log.truncate_from(GROUP, 12, Box::new(|cut| _ = lost.send(cut)));
    gone.await.expect("told").expect("memory");
    nodes[back].state = Arc::default();
    nodes[back].come_back().await;
    groups[back] = nodes[back].start(GROUP).await;
    let _provers = Provers::start(&groups);
    becomes("it has caught up", WAIT, || groups[back].health().is_ok()).await;
    assert_eq!(nodes[back].commands(GROUP), nodes[leader].commands(GROUP));
    assert_eq!(groups[leader].status().role, Role::Leader, "nobody else was elected for it");
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

// On one thread, so that the change cannot end before its caller has gone.
#[tokio::test]
async fn a_change_of_members_goes_on_when_the_caller_gives_up() {
    let (nodes, groups, mut at) = three().await;
    loop {
        // The members that are there must be committed before there can be others.
        propose(&groups[at], "before").await;
        let gone = nodes[(at + 1) % 3].id;
        let Status { role, term, .. } = groups[at].status();
        if role == Role::Leader {
            let change = Change { kind: ChangeKind::Remove, node: gone, address: String::new() };
            let outcome = change.carry_out(&groups[at]).now_or_never();
            assert!(outcome.is_none(), "nothing has run yet: {outcome:?}");
            let has_left = |status: &Status| !status.members.contains_key(&gone);
            let ended = groups[at].wait_for(WAIT, |status| has_left(status) || status.term != term).await;
            assert!(ended, "{:?}", groups[at].status().members);
            if has_left(&groups[at].status()) {
                return;
            }
        }
        // On a busy machine there may have been another election, and nobody goes on with what the former leader began.
        at = leader(&groups).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_added_once_it_has_everything_and_not_before() {
    let (nodes, groups, leader) = three().await;
    propose(&groups[leader], "before").await;
    let fourth = TestNode::new(4).await;
    let change = |kind| Change { kind, node: fourth.id, address: fourth.address.clone() };
    let add = change(ChangeKind::Add);
    let early = runtime::timeout(Duration::from_millis(700), add.carry_out(&groups[leader])).await;
    assert!(early.is_err(), "nobody runs there: {early:?}");
    let group = fourth.start(GROUP).await;
    add.carry_out(&groups[leader]).await.expect("twice is fine");
    group.barrier(WAIT).await.expect("all live");
    assert_eq!(fourth.commands(GROUP), nodes[leader].commands(GROUP));
    change(ChangeKind::Promote).carry_out(&groups[leader]).await.expect("it has caught up");
    assert!(groups[leader].wait_for(WAIT, |status| status.members[&fourth.id].1).await);
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

/// A chunk of a file of `bytes` bytes, all of them ones.
fn chunk_at(transfer: u64, bytes: u64, offset: u64, count: usize) -> wire::SnapshotChunk {
    let (hash, data) = (vec![9; 32], vec![1; count]);
    wire::SnapshotChunk {
        transfer,
        vote: Some(wire::Vote { term: 1, node: 1, committed: true }),
        position: Some(wire::Position {
            applied: Some(wire::LogId { term: 1, index: 5 }),
            membership_id: None,
            membership: Some(wire::Membership::default()),
        }),
        bytes,
        check: super::incoming::check_of(&hash, offset, &data),
        hash,
        offset,
        data,
        resumable: true,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_chunk_is_refused_with_its_reason_and_what_came_before_it_stays() {
    let (there, here) = (TestNode::new(1).await, TestNode::new(2).await);
    let _group = here.start(GROUP).await;
    let send = async |chunk| there.pool.call(2, &here.address, GROUP, Body::Snapshot(chunk), WAIT).await;
    let next = async |chunk| match send(chunk).await {
        Ok(Body::SnapshotAnswer(answer)) => answer.next,
        other => panic!("{other:?}"),
    };
    let why = async |chunk| match send(chunk).await {
        Ok(Body::Failure(failure)) => failure.detail,
        other => panic!("it was taken: {other:?}"),
    };
    let files = || here.disk.list(&here.snapshots(GROUP)).expect("memory");

    let first = chunk_at(7, 100, 0, 100);
    assert!(why(first).await.contains("another hash"), "whole, and not what was announced");
    assert_eq!(files(), Vec::<String>::new());

    assert_eq!(next(chunk_at(8, 500, 0, 100)).await, 100);
    assert_eq!(next(chunk_at(8, 500, 100, 100)).await, 200);
    let mut falsified = chunk_at(8, 500, 200, 100);
    falsified.data[17] ^= 1;
    assert!(why(falsified).await.contains("its check differs"));
    let mut cut = chunk_at(8, 500, 200, 100);
    cut.data.truncate(99);
    assert!(why(cut).await.contains("its check differs"));
    let mut moved = chunk_at(8, 500, 200, 100);
    moved.offset = 300;
    assert!(why(moved).await.contains("its check differs"), "a check is of one place");
    assert!(why(chunk_at(8, 500, 300, 100)).await.contains("out of order: 300 where 200 is next"));
    assert!(why(chunk_at(8, 500, 100, 100)).await.contains("out of order: 100 where 200 is next"));
    assert!(why(chunk_at(8, 500, 450, 100)).await.contains("beyond the file's 500"));
    let mut other = chunk_at(8, 500, 200, 100);
    other.hash = vec![8; 32];
    other.check = Vec::new();
    assert!(why(other).await.contains("a chunk of the file 0808"));
    assert!(why(chunk_at(9, 500, 200, 100)).await.contains("begin again"), "of a transfer that nobody began");

    // Offered again, by whomever: it goes on. Its former sender is told, and so is one that cannot go on.
    assert_eq!(next(chunk_at(10, 500, 0, 100)).await, 200);
    assert!(why(chunk_at(8, 500, 200, 100)).await.contains("another took over"));
    assert_eq!(next(chunk_at(10, 500, 200, 100)).await, 300);
    let older = wire::SnapshotChunk { resumable: false, check: Vec::new(), ..chunk_at(11, 500, 0, 100) };
    assert_eq!(next(older).await, 100, "who does not know of going on begins anew");
    assert_eq!(files().len(), 1);
    // Another snapshot takes the place of what will not be finished.
    assert_eq!(next(chunk_at(12, 700, 0, 100)).await, 100);
    assert_eq!(files(), ["incoming-000000000000000c.tmp"]);
}

/// Stands before a group, counts the bytes of snapshots that pass, and cuts the line at one of the chunks.
struct Cutting {
    inner: Arc<dyn Serve>,
    cut_at: usize,
    cut: Box<dyn Fn() + Send + Sync>,
    /// Offset and length of every chunk.
    passed: Mutex<Vec<(u64, usize)>>,
}

impl Cutting {
    fn pass(&self, chunk: &wire::SnapshotChunk) -> bool {
        let mut passed = self.passed.lock().expect("no panic");
        passed.push((chunk.offset, chunk.data.len()));
        passed.len() != self.cut_at
    }
}

/// What a call is answered whose line was cut: nothing, for longer than the test lasts.
async fn cut_off(cut: &(dyn Fn() + Send + Sync)) -> Body {
    cut();
    runtime::sleep(WAIT * 2).await;
    Body::App(wire::App::default())
}

struct CuttingServe(Arc<Cutting>);

impl Serve for CuttingServe {
    fn serve(&self, caller: Option<NodeId>, body: Body) -> BoxFuture<'static, Body> {
        let cutting = Arc::clone(&self.0);
        Box::pin(async move {
            match &body {
                // On its way here.
                Body::Snapshot(chunk) if !cutting.pass(chunk) => cut_off(&*cutting.cut).await,
                // On its way from here.
                Body::Fetch(_) => match cutting.inner.serve(caller, body).await {
                    Body::FetchAnswer(chunk) if !chunk.data.is_empty() && !cutting.pass(&chunk) => {
                        cut_off(&*cutting.cut).await
                    }
                    answer => answer,
                },
                _ => cutting.inner.serve(caller, body).await,
            }
        })
    }
}

/// Puts one before the group at `node`; it closes the connections of `pools`.
fn cut_snapshots(node: &TestNode, cut_at: usize, pools: Vec<PeerPool>) -> Arc<Cutting> {
    let inner = node.groups.get(GROUP).expect("it runs");
    let cut = Box::new(move || pools.iter().for_each(PeerPool::disconnect));
    let cutting = Arc::new(Cutting { inner, cut_at, cut, passed: Mutex::default() });
    node.groups.insert(GROUP, Arc::new(CuttingServe(Arc::clone(&cutting))));
    cutting
}

/// What was sent beyond the file itself.
fn sent_again(passed: &[(u64, usize)]) -> u64 {
    let sent: u64 = passed.iter().map(|(_, count)| *count as u64).sum();
    let bytes = passed.iter().map(|(offset, count)| offset + *count as u64).max().unwrap_or(0);
    sent - bytes
}

/// Writes `count` commands of 3,000 bytes, has them in snapshots everywhere, and nothing of them in the logs.
async fn write_and_purge(groups: &[Group], leader: usize, count: usize) {
    for number in 0..count {
        propose(&groups[leader], &format!("{number} {}", "x".repeat(3000))).await;
    }
    snapshot_and_purge(groups).await;
}

async fn snapshot_and_purge(groups: &[Group]) {
    for group in groups {
        let reached = group.barrier(WAIT).await.expect("a majority lives");
        group.snapshot().await.expect("it runs");
        assert!(group.wait_for(WAIT, |status| status.snapshot >= Some(reached)).await, "{:#?}", group.status());
        group.purge(reached).await.expect("it runs");
        assert!(group.wait_for(WAIT, |status| status.purged >= Some(reached)).await, "{:#?}", group.status());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_s_transfer_that_is_cut_goes_on_where_it_was() {
    const CUT_AT: usize = 5;
    let (nodes, groups, leader) = three().await;
    write_and_purge(&groups, leader, 600).await;
    let fourth = TestNode::new(4).await;
    let joined = fourth.start(GROUP).await;
    let cutting = cut_snapshots(&fourth, CUT_AT, vec![nodes[leader].pool.clone()]);
    groups[leader].add_learner(fourth.id, fourth.address.clone(), true).await.expect("it leads");
    assert!(joined.wait_for(WAIT, |status| status.applied >= Some(600)).await, "{:#?}", joined.status());
    assert_eq!(fourth.commands(GROUP), nodes[leader].commands(GROUP));

    let passed = cutting.passed.lock().expect("no panic").clone();
    let bytes = passed.iter().map(|(offset, count)| offset + *count as u64).max().unwrap_or(0);
    // The chunk that was cut off, and the small one with which the file was offered again.
    let (again, cut) = (sent_again(&passed), passed[CUT_AT - 1].1 as u64);
    println!("{bytes} bytes in {} chunks, {again} of them sent again after a cut in chunk {CUT_AT}", passed.len());
    assert!(passed.len() > CUT_AT + 2, "{passed:?}");
    assert_eq!(passed[CUT_AT].0, 0, "offered again: {passed:?}");
    assert_eq!(passed[CUT_AT + 1].0, passed[CUT_AT - 1].0, "and gone on with: {passed:?}");
    assert_eq!(again, cut + passed[CUT_AT].1 as u64);
    assert_eq!(fourth.disk.list(&fourth.snapshots(GROUP)).expect("memory").len(), 1, "nothing is left of the transfer");
}

/// Damages what a node holds of the group, but for its log and vote.
fn rot(node: &TestNode) {
    node.state.rot(&GROUP.0.to_be_bytes());
    rot_snapshots(node);
}

fn rot_snapshots(node: &TestNode) {
    let dir = node.snapshots(GROUP);
    for name in node.disk.list(&dir).expect("memory") {
        node.disk.flip_bit(&dir.join(name), 5000);
    }
}

/// The vote, and all entries of the log.
type Promised = (Option<Vec<u8>>, Vec<(u64, Vec<u8>)>);

fn promised(node: &TestNode) -> Promised {
    let vote = node.log.state(GROUP).expect("memory").vote;
    (vote, node.log.read(GROUP, 0, u64::MAX).expect("memory"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_back_with_damaged_state_and_snapshots_has_them_from_another() {
    let (mut nodes, mut groups, leader) = three().await;
    write_and_purge(&groups, leader, 300).await;
    // In its log alone.
    for number in 0..20 {
        propose(&groups[leader], &format!("kept {number}")).await;
    }
    let (damaged, other) = ((leader + 1) % 3, (leader + 2) % 3);
    groups[damaged].barrier(WAIT).await.expect("all live");
    nodes[damaged].crash(&groups[damaged]).await;
    rot(&nodes[damaged]);
    let (vote, log) = promised(&nodes[damaged]);
    assert!(log.len() >= 20);
    for number in 0..20 {
        propose(&groups[leader], &format!("missed {number}")).await;
    }
    // The lines of both others are down: it is there, says why it does not run, and accepts and reads nothing.
    for place in [leader, other] {
        nodes[place].stop.send_replace(true);
        nodes[place].pool.disconnect();
    }
    nodes[damaged].come_back().await;
    groups[damaged] = nodes[damaged].start(GROUP).await;
    let told = |status: &Status| status.stopped.as_ref().is_some_and(|why| why.contains("n-0"));
    assert!(groups[damaged].wait_for(WAIT, told).await, "{:#?}", groups[damaged].status());
    let status = groups[damaged].status();
    assert_eq!(status.role, Role::Stopped);
    let error = groups[damaged].propose(b"too early".to_vec(), WAIT).await.expect_err("it does not run");
    assert!(error.surely_not_accepted(), "{error}");
    assert!(groups[damaged].barrier(WAIT).await.is_err());
    assert_eq!(groups[damaged].condition().steady(), None, "readers are refused");
    assert_eq!(promised(&nodes[damaged]), (vote.clone(), log.clone()));

    // Of the others one has no snapshot to give either.
    rot_snapshots(&nodes[other]);
    nodes[other].state.rot(&GROUP.0.to_be_bytes());
    for place in [leader, other] {
        nodes[place].come_back().await;
    }
    let before = groups[other].condition().steady();
    groups[other].condition().suspect();
    propose(&groups[leader], "after").await;
    let repaired = |_: &_| groups[other].condition().steady().is_some_and(|now| Some(now) != before);
    assert!(groups[other].wait_for(WAIT, repaired).await, "{:#?}", groups[other].status());
    let runs = groups[damaged].wait_for(WAIT, |status| status.stopped.is_none()).await;
    assert!(runs, "{:#?}", groups[damaged].status());
    for place in 0..3 {
        groups[place].barrier(WAIT * 3).await.expect("all live");
        assert_eq!(nodes[place].commands(GROUP).len(), 341);
        assert_eq!(nodes[place].commands(GROUP), nodes[leader].commands(GROUP));
        assert!(groups[place].condition().steady().is_some());
    }
    let (_, now) = promised(&nodes[damaged]);
    assert!(log.iter().all(|entry| now.contains(entry)), "its log was not its own any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_replica_that_cannot_repair_itself_is_started_again_with_another_s_snapshot() {
    let (nodes, groups, leader) = three().await;
    write_and_purge(&groups, leader, 300).await;
    let damaged = (leader + 1) % 3;
    groups[damaged].barrier(WAIT).await.expect("all live");
    let before = groups[damaged].condition().steady().expect("it runs");
    rot(&nodes[damaged]);
    // As a reader does that meets it: the next entry finds the snapshot damaged too.
    assert!(groups[damaged].condition().suspect());
    propose(&groups[leader], "met").await;
    let other = |_: &_| groups[damaged].condition().steady().is_some_and(|now| now != before);
    assert!(groups[damaged].wait_for(WAIT, other).await, "{:#?}", groups[damaged].status());
    propose(&groups[damaged], "by the one that was repaired").await;
    for (node, group) in nodes.iter().zip(&groups) {
        group.barrier(WAIT).await.expect("all live");
        assert_eq!(node.commands(GROUP).len(), 302);
        assert_eq!(node.commands(GROUP), nodes[leader].commands(GROUP));
        assert_eq!(group.status().stopped, None);
    }
    groups[damaged].shutdown().await;
    assert_eq!(groups[damaged].status().role, Role::Stopped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetched_snapshot_is_cut_and_goes_on_where_it_was() {
    let (mut nodes, mut groups, leader) = three().await;
    write_and_purge(&groups, leader, 600).await;
    let (damaged, other) = ((leader + 1) % 3, (leader + 2) % 3);
    nodes[damaged].crash(&groups[damaged]).await;
    rot(&nodes[damaged]);
    let cutters = [leader, other].map(|place| cut_snapshots(&nodes[place], 4, vec![nodes[damaged].pool.clone()]));
    nodes[damaged].come_back().await;
    groups[damaged] = nodes[damaged].start(GROUP).await;
    groups[damaged].wait_for(WAIT, |status| status.stopped.is_none()).await;
    groups[damaged].barrier(WAIT).await.expect("all live");
    assert_eq!(nodes[damaged].commands(GROUP), nodes[leader].commands(GROUP));
    let mut passed: Vec<_> = cutters.iter().flat_map(|one| one.passed.lock().expect("no panic").clone()).collect();
    passed.sort_unstable();
    let lost: usize = cutters.iter().filter_map(|one| one.passed.lock().expect("no panic").get(3).map(|at| at.1)).sum();
    println!("{} chunks, {} bytes sent again after cuts", passed.len(), sent_again(&passed));
    assert!(lost > 0, "nothing was cut: {passed:?}");
    // Both snapshots are of one position, so their files are the same: the second goes on with what the first had given.
    assert_eq!(sent_again(&passed), lost as u64, "only what was cut off is sent again: {passed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_given_to_members_alone_and_only_if_it_helps() {
    let (nodes, groups, leader) = three().await;
    write_and_purge(&groups, leader, 20).await;
    let served = nodes[leader].groups.get(GROUP).expect("it runs");
    let ask = |caller, reach| served.serve(caller, Body::Fetch(wire::FetchRequest { reach, ..Default::default() }));
    let Body::Failure(refused) = ask(Some(NodeId(9)), 0).await else { panic!("a stranger was given it") };
    assert!(refused.detail.contains("is no member"), "{}", refused.detail);
    let answer = async |reach| loop {
        match ask(Some(nodes[(leader + 1) % 3].id), reach).await {
            Body::FetchAnswer(chunk) if chunk.data.is_empty() => runtime::sleep(Duration::from_millis(10)).await,
            answer => return answer,
        }
    };
    assert!(matches!(answer(20).await, Body::FetchAnswer(chunk) if chunk.offset == 0));
    let Body::Failure(refused) = answer(2_000).await else { panic!("it does not go so far") };
    assert!(refused.detail.contains("2000 is wanted"), "{}", refused.detail);
    // A newer one is written if the one there is does not reach.
    let last = propose(&groups[leader], "one more").await.index;
    let Body::FetchAnswer(chunk) = answer(last).await else { panic!("it goes so far") };
    assert!(chunk.position.and_then(|at| at.applied).is_some_and(|applied| applied.index >= last));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_no_majority_accepted_give_way_to_a_fetched_snapshot() {
    let (mut nodes, mut groups, leader) = three().await;
    write_and_purge(&groups, leader, 50).await;
    let (second, third) = ((leader + 1) % 3, (leader + 2) % 3);
    for place in [second, third] {
        nodes[place].crash(&groups[place]).await;
    }
    // Written to its own log, and to no other.
    for number in 0..30 {
        let lonely = format!("lonely {number}").into_bytes();
        let _ = groups[leader].propose(lonely, Duration::from_millis(20)).await;
    }
    let last = groups[leader].status().last;
    nodes[leader].crash(&groups[leader]).await;
    rot(&nodes[leader]);
    for place in [second, third] {
        nodes[place].come_back().await;
        groups[place] = nodes[place].start(GROUP).await;
    }
    for number in 0..10 {
        propose(&groups[second], &format!("accepted {number}")).await;
    }
    let accepted = propose(&groups[third], "accepted").await.index;
    assert!(Some(accepted) < last, "or the story is another");
    snapshot_and_purge(&[groups[second].clone(), groups[third].clone()]).await;

    nodes[leader].come_back().await;
    groups[leader] = nodes[leader].start(GROUP).await;
    let runs = groups[leader].wait_for(WAIT, |status| status.stopped.is_none()).await;
    assert!(runs, "{:#?}", groups[leader].status());
    propose(&groups[leader], "by the one that was repaired").await;
    for (node, group) in nodes.iter().zip(&groups) {
        group.barrier(WAIT).await.expect("all live");
        assert_eq!(node.commands(GROUP), nodes[second].commands(GROUP));
        assert_eq!(node.commands(GROUP).len(), 62);
        assert!(!node.commands(GROUP).iter().any(|command| command.starts_with(b"lonely")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_one_says_what_to_do_and_one_with_its_whole_log_needs_nobody() {
    let mut node = TestNode::new(1).await;
    let keeping = |node: &TestNode| {
        let setup = node.setup(GROUP);
        let settings = Settings { log_keep: 1000, ..setup.settings.clone() };
        Group::start(Setup { settings, ..setup })
    };
    let mut group = keeping(&node).await.expect("it starts");
    group.initialize(voters(std::slice::from_ref(&node))).await.expect("it is new");
    for number in 0..20 {
        propose(&group, &number.to_string()).await;
    }
    group.snapshot().await.expect("it runs");
    assert!(group.wait_for(WAIT, |status| status.snapshot >= Some(20)).await);
    node.crash(&group).await;
    node.state.rot(&GROUP.0.to_be_bytes());
    let dir = node.snapshots(GROUP);
    for name in node.disk.list(&dir).expect("memory") {
        node.disk.flip_bit(&dir.join(name), 100);
    }
    node.come_back().await;
    group = keeping(&node).await.expect("it starts");
    propose(&group, "again").await;
    assert_eq!(node.commands(GROUP).len(), 21, "the log has everything");

    snapshot_and_purge(std::slice::from_ref(&group)).await;
    node.crash(&group).await;
    node.state.rot(&GROUP.0.to_be_bytes());
    for name in node.disk.list(&dir).expect("memory") {
        node.disk.flip_bit(&dir.join(name), 100);
    }
    let Err(StartError::Store(StoreError::Corrupt { detail, .. })) = Group::start(node.setup(GROUP)).await else {
        panic!("it started from nothing");
    };
    assert!(detail.contains("leads beyond entry") || detail.contains("damaged on purpose"), "{detail}");
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
