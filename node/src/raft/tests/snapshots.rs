//! Snapshots on their way from one member to another, and into a replica that has nothing whole of its own.

use super::*;

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
        check: crate::raft::incoming::check_of(&hash, offset, &data),
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
async fn a_node_whose_newest_snapshot_rots_does_not_go_on_from_one_below_what_its_log_has() {
    let (mut nodes, mut groups, leader) = three().await;
    write_and_purge(&groups, leader, 100).await;
    let damaged = (leader + 1) % 3;
    let dir = nodes[damaged].snapshots(GROUP);
    let only = |node: &TestNode| match node.disk.list(&dir).expect("memory").as_slice() {
        [name] => dir.join(name),
        names => panic!("{names:?}"),
    };
    let older = only(&nodes[damaged]);
    let bytes = nodes[damaged].disk.read(&older).expect("memory");
    write_and_purge(&groups, leader, 100).await;
    nodes[damaged].crash(&groups[damaged]).await;
    // A power cut brings the older one back, whose removal was not on the disk yet.
    nodes[damaged].disk.flip_bit(&only(&nodes[damaged]), 5000);
    nodes[damaged].disk.open(&older, true).expect("memory").write_at(0, &bytes).expect("memory");
    propose(&groups[leader], "missed").await;
    nodes[damaged].come_back().await;
    groups[damaged] = nodes[damaged].start(GROUP).await;
    groups[damaged].barrier(WAIT).await.expect("all live");
    let status = groups[damaged].status();
    assert!(status.snapshot >= status.purged && status.stopped.is_none(), "{status:#?}");
    assert_eq!(nodes[damaged].commands(GROUP), nodes[leader].commands(GROUP));
    assert_ne!(only(&nodes[damaged]), older);
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
