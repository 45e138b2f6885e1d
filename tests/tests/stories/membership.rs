//! A centre with the groups of two provinces: a node joins, learns, votes; another is taken out by command, the leader at
//! that; officers notice nothing, and the id of the one that left is never taken again. And operators who work against each
//! other leave a site that serves.

use std::fs;
use std::time::Duration;

use dinhba_client::{Error, Limits};
use dinhba_core::claims::Role;
use dinhba_tests::country::{Country, Wish, eventually, operating, site};
use dinhba_tests::evidence::{agree, all_hold};
use dinhba_tests::officer::{Ledger, Officer};
use dinhba_tests::process::refusal;

use crate::PROGRAM;
use crate::load::Load;

const CENTRE: &str = "00";
/// Two communes of Lào Cai share a group; one of Hà Nội has another.
const COMMUNES: [&str; 3] = ["02683", "02686", "00001"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_come_and_go_while_officers_work() {
    let [one, two, three] = COMMUNES;
    let wish = Wish { code: CENTRE, nodes: 3, parent: None, groups: vec![vec![one, two], vec![three]] };
    let mut country = Country::start(PROGRAM, &[wish]).await;
    let ledger = Ledger::default();
    let load: Vec<Load> =
        COMMUNES.iter().map(|commune| Load::start(&country, CENTRE, CENTRE, commune, 1, &ledger)).collect();

    let new = country.new_node(CENTRE);
    country.start_node(&new);
    let operator = country.site_client(CENTRE, Role::Operator, CENTRE);
    let added = operator.add_node(&operating(), new.id, &new.address()).await.unwrap();
    assert_eq!(added.groups.len(), 2);
    eventually("the new node is a learner of both groups", Duration::from_secs(10), async || {
        let Some(status) = country.status(CENTRE, &new).await else { return false };
        let learners = vec![new.id.to_string()];
        status.groups.len() == 2 && status.groups.iter().all(|g| g.role == "learner" && g.learners == learners)
    })
    .await;
    operator.promote_node(&operating(), new.id).await.unwrap();

    let leaving = country.node(CENTRE, country.leader(CENTRE).await);
    let others: Vec<_> =
        country.sites[CENTRE].nodes.iter().filter(|node| node.id != leaving.id).cloned().chain([new.clone()]).collect();
    let operator = country.client(&others, Role::Operator, CENTRE);
    operator.remove_node(&operating(), leaving.id).await.unwrap();
    country.sites.get_mut(CENTRE).unwrap().nodes = others;
    country.site_ready(CENTRE).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    for load in load {
        load.stop().await;
    }
    assert!(ledger.len() > 20, "only {} edits", ledger.len());

    let mut voters: Vec<String> = country.sites[CENTRE].nodes.iter().map(|node| node.id.to_string()).collect();
    voters.sort();
    for node in &country.sites[CENTRE].nodes {
        let status = country.status(CENTRE, node).await.unwrap();
        let mut hosted: Vec<usize> =
            status.groups.iter().map(|group| group.shards.iter().filter(|shard| !shard.ancestor).count()).collect();
        hosted.sort_unstable();
        assert_eq!(hosted, [1, 2]);
        assert!(status.groups.iter().all(|group| group.voters == voters && group.learners.is_empty()));
    }
    for commune in COMMUNES {
        agree(&country, &[CENTRE], country.shard(commune)).await;
        all_hold(&country, &[CENTRE], country.shard(commune), CENTRE, &ledger).await;
    }

    // The one that left: it is not taken back by command, nor with its old data, nor without it.
    let refused = operator.add_node(&operating(), leaving.id, &leaving.address()).await.unwrap_err();
    let Error::Refused { text, .. } = &refused else { panic!("{refused:?}") };
    assert!(text.contains("for good") && text.contains("new id"), "{text}");
    country.kill(leaving.id);
    country.start_node(&leaving);
    tokio::time::sleep(Duration::from_secs(3)).await;
    for node in &country.sites[CENTRE].nodes {
        let status = country.status(CENTRE, node).await.unwrap();
        assert!(status.groups.iter().all(|group| group.voters == voters && !group.leader.is_empty()));
    }
    country.kill(leaving.id);
    fs::remove_dir_all(leaving.data()).unwrap();
    let (code, text) = refusal(country.program(), &leaving.config_file(), Duration::from_secs(10));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("has joined this site before") && text.contains("new id"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_operators_who_take_out_both_nodes_at_once_leave_one_that_serves() {
    let commune = COMMUNES[0];
    let country = Country::start(PROGRAM, &[site(commune, 2, None, &[commune])]).await;
    let nodes = country.sites[commune].nodes.clone();
    let remove = async |asked: usize| {
        let operator = country.client([&nodes[asked]], Role::Operator, commune);
        let operator = operator.with_limits(Limits { admin: Duration::from_secs(15), ..Limits::default() });
        operator.remove_node(&operating(), nodes[1 - asked].id).await
    };
    let (one, other) = tokio::join!(remove(0), remove(1));
    assert!(one.is_err() || other.is_err(), "somebody has to vote");
    let ledger = Ledger::default();
    let officer = Officer::new(country.site_client(commune, Role::Registrar, commune), country.shard(commune), &ledger);
    eventually("the site serves", Duration::from_secs(40), async || officer.register("Lò/Thị/Pha").await.is_ok()).await;
    // Longer than whoever left takes to find out; and nothing is proposed in vain meanwhile.
    let mut last = 0;
    eventually("it is quiet", Duration::from_secs(40), async || {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let mut lasts = Vec::new();
        for node in &nodes {
            lasts.extend(country.status(commune, node).await.map(|status| status.groups[0].last_log));
        }
        let newest = lasts.into_iter().max().unwrap_or_default();
        std::mem::replace(&mut last, newest) == newest
    })
    .await;
    officer.register("Lò/Thị/Say").await.unwrap();
}
