//! Some of the deliberate faults are caught, each within few seeds: the checks can fail. All of them, within more seeds:
//! `dinhba-sim mutants`.

use std::thread;

use dinhba_sim::mutants::{self, Mutant, Verdict};

/// Of the log, of reads, of answers, of digests, of merges, of links, of commands and of thieves; those that short runs show.
const NAMES: [&str; 9] = [
    "leader-restore",
    "read-local",
    "swap-answers",
    "keep-old-digest",
    "drop-edit-in-merge",
    "forget-cursor",
    "drop-part-in-merge",
    "shown-unlogged",
    "take-unsealed",
];

/// The seeds that each meets.
const SEEDS: std::ops::Range<u64> = 1..6;

#[test]
fn deliberate_faults_are_caught() {
    let hunt = |names: &[&str]| -> Vec<String> {
        let missed = |name: &&str| {
            let mutant = Mutant::named(name).expect("it is one");
            match mutants::run(mutant, SEEDS) {
                Verdict::Caught { promise, .. } if mutant.may_break(promise) => None,
                verdict => Some(format!("{name}: {verdict:?}")),
            }
        };
        names.iter().filter_map(missed).collect()
    };
    let (some, others) = NAMES.split_at(NAMES.len() / 2);
    let missed: Vec<String> = thread::scope(|scope| {
        let threads = [scope.spawn(|| hunt(some)), scope.spawn(|| hunt(others))];
        threads.into_iter().flat_map(|thread| thread.join().expect("runs are guarded")).collect()
    });
    assert_eq!(missed, Vec::<String>::new());
}
