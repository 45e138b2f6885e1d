//! The simulator is tested: deliberate faults in the node's code, each of which the checks must catch.
//!
//! A mutant is armed by name ([`dinhba_core::inject::is_armed`]) and runs in the same random scenarios as everything else,
//! one seed after the other, until a check says that a promise is broken. One that is missed shows that the checks, or the
//! mix of faults, are too weak.
//!
//! Limit: a mutant is a fault that somebody thought of.

use std::time::Duration;

use crate::scenario::{Promise, Scenario};
use crate::{random, run};

/// Seeds within which every mutant must be caught.
pub const SEEDS_MAX: u64 = 200;

/// A deliberate fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mutant {
    /// Its name in the code.
    pub name: &'static str,
    /// What it breaks.
    pub breaks: &'static str,
    /// The promises that it may break: another that catches it says that something is not understood.
    pub promises: &'static [Promise],
    /// The scenario that it needs, if random ones come to it too seldom; its seed is replaced.
    pub needs: Option<&'static str>,
}

/// What came of a mutant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A check caught it.
    Caught {
        /// In the run with this seed.
        seed: u64,
        /// The promise that was found broken first.
        promise: &'static str,
        /// When, in the run's time.
        at: Duration,
        /// What was seen.
        text: String,
    },
    /// No check did.
    Missed,
}

impl Mutant {
    /// The mutant with that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Mutant> {
        ALL.iter().find(|mutant| mutant.name == name)
    }

    /// The scenario that it meets under a seed.
    #[must_use]
    pub fn scenario(&self, seed: u64) -> Scenario {
        let needed = self.needs.and_then(|text| Scenario::parse(text).ok());
        needed.map_or_else(|| random::scenario(seed), |scenario| Scenario { seed, ..scenario })
    }

    /// Whether a promise is one of those that it may break.
    #[must_use]
    pub fn may_break(&self, promise: &str) -> bool {
        self.promises.iter().any(|expected| expected.name() == promise)
    }
}

/// Runs a mutant under one seed after the other until it is caught.
#[must_use]
pub fn run(mutant: &Mutant, seeds: std::ops::Range<u64>) -> Verdict {
    run_by(mutant, seeds, run::run_with)
}

/// The same, where `runs` runs a scenario with a mutant.
#[must_use]
pub fn run_by(
    mutant: &Mutant,
    seeds: std::ops::Range<u64>,
    runs: impl Fn(&Scenario, Option<&'static str>) -> run::Outcome,
) -> Verdict {
    for seed in seeds {
        let outcome = runs(&mutant.scenario(seed), Some(mutant.name));
        if let Some(first) = outcome.violations.into_iter().next() {
            return Verdict::Caught { seed, promise: first.promise, at: first.at, text: first.text };
        }
    }
    Verdict::Missed
}

const LEADER_RESTARTS: &str = include_str!("../scenarios/leader_restarts_before_its_flush.toml");

use Promise::{
    Alive, ChainsHold, Converges, Linearizable, LinksGoOn, NeverBack, NothingLost, ReadsLogged, ReplicasAgree,
    StatementsTrue,
};

const fn random(name: &'static str, breaks: &'static str, promises: &'static [Promise]) -> Mutant {
    Mutant { name, breaks, promises, needs: None }
}

/// All mutants.
pub const ALL: &[Mutant] = &[
    // The log and the disk.
    random(
        "acknowledge-before-flush",
        "The log says that an entry is durable when it is only written: a power cut takes what was acknowledged.",
        &[NothingLost, Alive, Linearizable, NeverBack, ReplicasAgree, ChainsHold, Converges],
    ),
    random(
        "skip-checksum",
        "The log takes frames whose checksum is wrong: torn or rotten entries are replayed.",
        &[Alive, ReplicasAgree, NothingLost, Converges, ChainsHold, NeverBack],
    ),
    random(
        "vote-not-saved",
        "Only the first vote of a node is saved: after a restart it votes twice in a term.",
        &[NeverBack, NothingLost, ReplicasAgree, Linearizable, Alive],
    ),
    Mutant {
        name: "leader-restore",
        breaks: "A leader that restarts leads on without an election, and without what its followers acknowledged for it.",
        promises: &[NothingLost, ReplicasAgree, Linearizable, Alive],
        needs: Some(LEADER_RESTARTS),
    },
    random(
        "purge-too-far",
        "The log is purged up to a snapshot below which the state is not durable yet.",
        &[Alive, ReplicasAgree, NothingLost, Converges, NeverBack],
    ),
    // The state.
    random(
        "apply-out-of-batch",
        "The position is stored before what the entries changed: a power cut between the two loses their effect.",
        &[ReplicasAgree, NothingLost, Converges, ChainsHold, Alive, Linearizable],
    ),
    random(
        "snapshot-forgets-a-space",
        "A snapshot lacks the receipts: who installs it answers a repeated request as a new one.",
        &[ReplicasAgree, NothingLost, Linearizable],
    ),
    random(
        "install-over-old-state",
        "A snapshot is installed over the old state, so that what was deleted since stays.",
        &[ReplicasAgree, Converges, Alive],
    ),
    // Requests.
    random(
        "read-local",
        "A read does not wait until its entry in the access log is applied here: it may show what was long overwritten.",
        &[Linearizable],
    ),
    random(
        "read-unlogged",
        "One read of three is answered without an entry in the access log.",
        &[ReadsLogged, Linearizable],
    ),
    random("ignore-stale", "An edit of a field that moved on since its author saw it is accepted.", &[Linearizable]),
    random(
        "lose-request-id",
        "The receipt of an accepted request is not stored: a retry is a new edit.",
        &[NothingLost, Linearizable],
    ),
    random(
        "swap-answers",
        "The answers to commands that share a log entry go to the wrong callers.",
        &[NothingLost, Linearizable, Alive],
    ),
    random(
        "unacknowledged-told-accepted",
        "A request whose outcome is not known is answered as accepted.",
        &[NothingLost, Linearizable],
    ),
    // Chains and merges.
    random(
        "reuse-number",
        "A site gives a number that it has given before.",
        &[ChainsHold, NeverBack, Converges, NothingLost, Linearizable],
    ),
    random(
        "skip-hash-check",
        "An edit is known, or follows, by its number alone: of two branches of a chain one is passed over.",
        &[Converges, NothingLost, Alive, ChainsHold],
    ),
    random(
        "apply-twice",
        "An edit that is here already enters again.",
        &[ChainsHold, Converges, NothingLost, Alive, NeverBack],
    ),
    random("drop-edit-in-merge", "A merge passes one edit of five over.", &[Alive, Converges, NothingLost]),
    random(
        "decision-overwrites-unseen",
        "A decision replaces also the values that its author had not seen.",
        &[NothingLost, Converges, Alive],
    ),
    random(
        "keep-old-digest",
        "A record's old state stays in the digest of all records: sites that hold the same do not know it.",
        &[Alive, Converges],
    ),
    // Links.
    random(
        "forget-cursor",
        "The position in a neighbour's stream is not stored: each batch is refused, and the stream begins again.",
        &[LinksGoOn, Converges, Alive],
    ),
    random("no-renew", "A site that came back from a backup keeps its incarnation.", &[Alive, Converges, ChainsHold]),
    random("statement-lies", "A site states that it holds what its neighbour stated to hold.", &[StatementsTrue]),
    random(
        "newest-date-wins",
        "Of two statements of a site the one with the later date counts: after a clock that was ahead, nothing does.",
        &[Alive, Converges],
    ),
];
