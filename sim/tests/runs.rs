//! Whole countries under random disasters: a fixed set of seeds, the same in every run of the tests. Fresh ones are the
//! swarm's (`dinhba-sim swarm`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use dinhba_sim::scenario::{SHIPPED, Scenario};
use dinhba_sim::trace::Event;
use dinhba_sim::{random, run};

/// Short runs whose faults are of many kinds.
const SEEDS: [u64; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 15];

#[test]
fn every_promise_is_kept_under_the_fixed_seeds() {
    let next = AtomicU64::new(0);
    let broken = || {
        let mut broken = Vec::new();
        while let Some(seed) = SEEDS.get(usize::try_from(next.fetch_add(1, Ordering::Relaxed)).expect("few")) {
            let outcome = run::guarded(&random::scenario(*seed), None);
            if let Some(first) = outcome.violations.first() {
                broken.push(format!("seed {seed}: {} at {:?}: {}", first.promise, first.at, first.text));
            }
        }
        broken
    };
    let broken: Vec<String> = thread::scope(|scope| {
        let threads = [scope.spawn(broken), scope.spawn(broken)];
        threads.into_iter().flat_map(|thread| thread.join().expect("runs are guarded")).collect()
    });
    assert_eq!(broken, Vec::<String>::new(), "replay one with `dinhba-sim run --seed N`");
}

#[test]
fn a_node_that_rots_beyond_itself_is_mended_by_the_others_and_not_replaced() {
    let (_, text) = SHIPPED.iter().find(|(name, _)| *name == "rotten_beyond_itself").expect("it is shipped");
    let outcome = run::guarded(&Scenario::parse(text).expect("it is well written"), None);
    assert_eq!(outcome.violations, Vec::new());
    let reached = |name: &str| outcome.reached.get(name).copied().unwrap_or(0);
    // Of the four damages, some may be mended from the node's own snapshot: which ones depends on when it was written last.
    assert!(reached("a snapshot is fetched from another member") >= 2, "{:?}", outcome.reached);
    assert!(reached("a replica runs again with another member's snapshot") >= 2, "{:?}", outcome.reached);
    let is_replacement =
        |event: &Event| matches!(event, Event::FaultBegins { text, .. } if text.contains("is replaced"));
    assert!(!outcome.entries.iter().any(|entry| is_replacement(&entry.event)));
}
