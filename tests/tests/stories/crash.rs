//! Sites break in every way, a few times each; `cargo run --release -p dinhba-tests --bin crash` does so as often as wished.

use dinhba_node::config::Engine;
use dinhba_tests::crash::{CUTS, Disaster, Plan, run, table};
use dinhba_tests::disk::{Cut, Disk};

use crate::{PROGRAM, seed};

/// How often each breaks here: a minute for all of them.
const ROUNDS: [(Disaster, usize); 5] =
    [(Disaster::Kills, 5), (Disaster::Power, 4), (Disaster::Full, 2), (Disaster::Errors, 2), (Disaster::Slow, 2)];

/// Whether a file system in user space can be mounted; a word about it where it cannot.
fn can_mount() -> bool {
    let dir = tempfile::tempdir().unwrap();
    match Disk::mount(&dir.path().join("disk"), &dir.path().join("flushed"), 0) {
        Ok(_) => true,
        Err(error) => {
            println!("skipped but for kills: no file system in user space can be mounted here: {error}");
            false
        }
    }
}

async fn nothing_is_lost(engine: Engine) {
    let (seed, can_mount) = (seed(), can_mount());
    let mut outcomes = Vec::new();
    for (disaster, rounds) in ROUNDS {
        if can_mount || disaster == Disaster::Kills {
            let cuts = CUTS.to_vec();
            let plan = Plan { engine, disaster, rounds, seed, cuts, jobs: 2, lying: false };
            let outcome = run(PROGRAM, &plan).await;
            outcomes.push((plan, outcome));
        }
    }
    println!("{}", table(&outcomes));
    for (plan, outcome) in &outcomes {
        assert!(outcome.is_good(), "{} {}: {:#?}", plan.engine.name(), plan.disaster, outcome.wrong);
        assert_eq!(outcome.rounds, plan.rounds);
        assert!(outcome.acknowledged > 20, "{}: too few edits to mean anything", plan.disaster);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_that_breaks_in_every_way_loses_nothing() {
    nothing_is_lost(Engine::Fjall).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_does_one_whose_engine_has_no_journal() {
    nothing_is_lost(Engine::Lsm).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_does_one_with_the_sled_engine() {
    nothing_is_lost(Engine::Sled).await;
}

/// The comparison finds what it is for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_lies_about_its_flushes_is_found_out_by_a_power_cut() {
    if !can_mount() {
        return;
    }
    let cuts = vec![Cut::Clean];
    let plan =
        Plan { engine: Engine::Fjall, disaster: Disaster::Power, rounds: 1, seed: 1, cuts, jobs: 1, lying: true };
    let outcome = run(PROGRAM, &plan).await;
    assert!(outcome.lost > 0, "nothing was found to be lost: {:#?}", outcome.wrong);
}
