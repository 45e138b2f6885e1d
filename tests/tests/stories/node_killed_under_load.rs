//! Nodes of a site are killed at random moments while officers edit. Whatever was acknowledged is on every node, once.

use std::time::Duration;

use dinhba_core::ids::GroupId;
use dinhba_node::config::Engine;
use dinhba_tests::country::{Country, site};
use dinhba_tests::evidence::{agree, all_hold};
use dinhba_tests::officer::Ledger;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::load::Load;
use crate::{PROGRAM, seed};

const COMMUNE: &str = "02683";

/// Who is killed.
#[derive(Clone, Copy)]
enum Victim {
    Leader,
    Follower,
}

async fn killed_under_load(engine: Engine, victims: &[Victim]) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed());
    let mut country = Country::plan(PROGRAM, &[site(COMMUNE, 3, None, &[COMMUNE])]).await;
    country.configure(COMMUNE, |config| config.storage.engine = engine);
    country.start_all();
    country.ready().await;
    let (shard, ledger) = (country.shard(COMMUNE), Ledger::default());
    let load = Load::start(&country, COMMUNE, COMMUNE, COMMUNE, 4, &ledger);
    for victim in victims {
        tokio::time::sleep(Duration::from_millis(rng.random_range(300..1200))).await;
        let leader = country.leader(COMMUNE).await;
        let at = match victim {
            Victim::Leader => leader,
            Victim::Follower => (leader + 1 + rng.random_range(0..2)) % 3,
        };
        let node = country.node(COMMUNE, at);
        let before = ledger.len();
        country.kill(node.id);
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..2500))).await;
        country.start_node(&node);
        country.site_ready(COMMUNE).await;
        eprintln!("killed {} after {before} edits, back at {}", node.id, ledger.len());
    }
    // A busy machine takes longer to do as much.
    for _ in 0..600 {
        if ledger.len() > 30 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    load.stop().await;
    assert!(ledger.len() > 30, "only {} edits: too few to mean anything", ledger.len());
    let status = agree(&country, &[COMMUNE], shard).await;
    assert!(status.edits >= ledger.len() as u64);
    all_hold(&country, &[COMMUNE], shard, COMMUNE, &ledger).await;
    let group: GroupId = country.sites[COMMUNE].groups[0].0;
    for node in &country.sites[COMMUNE].nodes {
        let status = country.status(COMMUNE, node).await.unwrap();
        assert_eq!((status.groups[0].group.clone(), status.groups[0].voters.len()), (group.to_string(), 3));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_killed_leaders_and_followers() {
    killed_under_load(Engine::Fjall, &[Victim::Leader, Victim::Follower, Victim::Leader]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_it_does_with_an_engine_that_has_no_journal() {
    killed_under_load(Engine::Lsm, &[Victim::Leader, Victim::Follower]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_it_does_with_the_sled_engine() {
    killed_under_load(Engine::Sled, &[Victim::Leader]).await;
}
