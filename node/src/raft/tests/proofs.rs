//! A group is well as long as that is proved, and mends itself where it can.

use super::*;

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
