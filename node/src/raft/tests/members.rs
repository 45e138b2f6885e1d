//! Who takes part, who votes and who leads.

use super::*;

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
