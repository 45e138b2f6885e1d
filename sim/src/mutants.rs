//! The simulator is tested: deliberate faults in the node's code, each of which the checks must catch.
//!
//! A mutant is armed by name ([`dinhba_core::inject::is_armed`]) and runs in the same random scenarios as everything else,
//! one seed after the other, until a check says that a promise is broken. One that is missed shows that the checks, or the
//! mix of faults, are too weak. What is found without the mutant as well does not count.
//!
//! Runs are cut short: a fault of the code that needs hours to show is one that the swarm has to find.
//!
//! Limit: a mutant is a fault that somebody thought of.

use std::time::Duration;

use crate::random;
use crate::run::guarded;
use crate::scenario::{Promise, Scenario, What};

/// Seeds within which every mutant must be caught.
pub const SEEDS_MAX: u64 = 200;

/// A mutant's run lasts so long at most.
const LASTS_MAX: Duration = Duration::from_secs(240);

/// Nothing of a run so short is in step later than this after healing: several of the longest pauses of a link.
const SETTLES_MAX: Duration = Duration::from_secs(300);

/// The shortest pause between the heartbeats of a group in these runs.
const HEARTBEAT_MIN: Duration = Duration::from_millis(500);

/// People of a run cut short work at least so often.
const SLOWEST_PACE: Duration = Duration::from_secs(3);

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
        needed.map_or_else(|| cut_short(random::scenario(seed)), |scenario| Scenario { seed, ..scenario })
    }

    /// Whether a promise is one of those that it may break.
    #[must_use]
    pub fn may_break(&self, promise: &str) -> bool {
        self.promises.iter().any(|expected| expected.name() == promise)
    }
}

/// The scenario of a seed: the random one, or that which a mutant meets.
#[must_use]
pub fn scenario(mutant: Option<&Mutant>, seed: u64) -> Scenario {
    mutant.map_or_else(|| random::scenario(seed), |mutant| mutant.scenario(seed))
}

/// A scenario in little time: what would go wrong within half an hour goes wrong within minutes, and the pauses of
/// groups, most of what a run costs, are not the shortest.
fn cut_short(mut scenario: Scenario) -> Scenario {
    let knobs = &mut scenario.knobs;
    if knobs.heartbeat < HEARTBEAT_MIN {
        let pauses = (knobs.election_min.as_millis() / knobs.heartbeat.as_millis().max(1)) as u32;
        knobs.heartbeat = HEARTBEAT_MIN;
        (knobs.election_min, knobs.election_max) = (HEARTBEAT_MIN * pauses, HEARTBEAT_MIN * pauses * 2);
    }
    scenario.settles_within = SETTLES_MAX;
    let pace = scenario.lasts.as_secs_f64() / LASTS_MAX.as_secs_f64();
    if pace <= 1.0 {
        return scenario;
    }
    let sooner = |time: Duration| Duration::from_millis((time.as_secs_f64() * 1000.0 / pace) as u64);
    for officer in &mut scenario.officers {
        officer.starts = sooner(officer.starts);
        officer.every = officer.every.min(SLOWEST_PACE);
    }
    for fault in &mut scenario.faults {
        fault.at = sooner(fault.at);
        fault.lasts = fault.lasts.map(sooner);
        match &mut fault.what {
            What::Restore { backup_at, .. } => *backup_at = sooner(*backup_at),
            What::CrashLoop { every, .. } => *every = sooner(*every),
            _ => {}
        }
    }
    scenario.lasts = LASTS_MAX;
    scenario
}

/// Runs a mutant under one seed after the other until it is caught.
#[must_use]
pub fn run(mutant: &Mutant, seeds: std::ops::Range<u64>) -> Verdict {
    for seed in seeds {
        let scenario = mutant.scenario(seed);
        let outcome = guarded(&scenario, Some(mutant.name));
        let Some(first) = outcome.violations.into_iter().next() else { continue };
        // What is wrong anyway proves nothing.
        if guarded(&scenario, None).holds() {
            return Verdict::Caught { seed, promise: first.promise, at: first.at, text: first.text };
        }
    }
    Verdict::Missed
}

const LEFT_BEHIND: &str = include_str!("../scenarios/follower_left_behind.toml");
const ROTTEN_LOG: &str = include_str!("../scenarios/rotten_log.toml");
const LEADER_RESTARTS: &str = include_str!("../scenarios/leader_restarts_before_its_flush.toml");
const WITHOUT_ITS_LOG: &str = include_str!("../scenarios/without_its_log.toml");
const CROWDED: &str = include_str!("../scenarios/crowded_counter.toml");
const STOLEN_KEY: &str = include_str!("../scenarios/stolen_key.toml");
const HOSTILE: &str = include_str!("../scenarios/hostile_callers.toml");
const ASKED_AGAIN: &str = include_str!("../scenarios/asked_again_after_a_restore.toml");
const NEW_SITES: &str = include_str!("../scenarios/sites_come_and_move.toml");
const REVOKED_KEY: &str = include_str!("../scenarios/revoked_key.toml");

use Promise::{
    Alive, BoundsHold, ChainsHold, CommandsWhole, Converges, DigestsTrue, DirectoryTrue, Linearizable, LinksGoOn,
    NamesStay, NeverBack, NothingForged, NothingLost, NumbersOnce, ReadsLogged, ReplicasAgree, StatementsTrue,
};

const fn random(name: &'static str, breaks: &'static str, promises: &'static [Promise]) -> Mutant {
    Mutant { name, breaks, promises, needs: None }
}

/// A guard against thieves that is left out.
const fn thieves(name: &'static str, breaks: &'static str, promises: &'static [Promise]) -> Mutant {
    Mutant { name, breaks, promises, needs: Some(STOLEN_KEY) }
}

/// A guard against callers that is left out.
const fn callers(name: &'static str, breaks: &'static str, promises: &'static [Promise]) -> Mutant {
    Mutant { name, breaks, promises, needs: Some(HOSTILE) }
}

/// What a unit above says is not heeded.
const fn directory(name: &'static str, breaks: &'static str, promises: &'static [Promise]) -> Mutant {
    Mutant { name, breaks, promises, needs: Some(NEW_SITES) }
}

/// All mutants.
pub const ALL: &[Mutant] = &[
    // The log and the disk.
    random(
        "acknowledge-before-flush",
        "The log says that an entry is durable when it is only written: a power cut takes what was acknowledged.",
        &[NothingLost, Alive, Linearizable, NeverBack, ReplicasAgree, ChainsHold, Converges],
    ),
    Mutant {
        name: "skip-checksum",
        breaks: "The log takes frames whose checksum is wrong: torn or rotten entries are replayed.",
        promises: &[Alive, ReplicasAgree, NothingLost, Converges, ChainsHold, NeverBack],
        needs: Some(ROTTEN_LOG),
    },
    random(
        "vote-not-saved",
        "Only the first vote of a node is saved: after a restart it votes twice in a term.",
        &[NeverBack, NothingLost, ReplicasAgree, Linearizable, Alive],
    ),
    Mutant {
        name: "leader-restore",
        breaks: "A leader that restarts leads on without an election, and without what its followers acknowledged for it.",
        promises: &[NothingLost, ReplicasAgree, Linearizable, Alive, NamesStay],
        needs: Some(LEADER_RESTARTS),
    },
    random(
        "purge-too-far",
        "The log is purged further than the snapshot goes.",
        &[Alive, ReplicasAgree, NothingLost, Converges, NeverBack],
    ),
    // The state.
    random(
        "apply-out-of-batch",
        "The position is stored before what the entries changed: a power cut between the two loses their effect.",
        &[
            ReplicasAgree,
            NothingLost,
            Converges,
            ChainsHold,
            ReadsLogged,
            Alive,
            Linearizable,
            NamesStay,
            DigestsTrue,
            CommandsWhole,
        ],
    ),
    random(
        "snapshot-forgets-a-space",
        "A snapshot lacks the receipts: who installs it answers a repeated request as a new one.",
        &[ReplicasAgree, NothingLost, Linearizable],
    ),
    Mutant {
        name: "install-over-old-state",
        breaks: "A snapshot is installed over the old state, so that what was deleted since stays.",
        promises: &[ReplicasAgree, Converges, Alive, DigestsTrue],
        needs: Some(LEFT_BEHIND),
    },
    random("rest-for-ever", "A follower that has heard its leader once never asks to be elected.", &[Alive]),
    // Requests.
    Mutant {
        name: "read-local",
        breaks: "A read does not wait until its entry in the access log is applied here: it may show what was long overwritten.",
        promises: &[Linearizable],
        needs: Some(CROWDED),
    },
    random(
        "read-unlogged",
        "One read of three is answered without an entry in the access log.",
        &[ReadsLogged, Linearizable],
    ),
    callers("find-unlogged", "A search is not in the access log, though what it shows is.", &[ReadsLogged]),
    callers(
        "shown-unlogged",
        "What a search or a work list shows of records is not in the access log.",
        &[ReadsLogged],
    ),
    callers("history-unlogged", "A history is shown without an entry in the access log.", &[ReadsLogged]),
    callers("conflicts-unlogged", "A work list is not in the access log, though its records are.", &[ReadsLogged]),
    callers("members-unlogged", "Who lives together is shown without an entry in the access log.", &[ReadsLogged]),
    callers("watch-unlogged", "The change feed goes on without entries in the access log.", &[ReadsLogged]),
    callers("export-unlogged", "All of a unit is taken out without an entry in the access log.", &[ReadsLogged]),
    callers(
        "receipt-ignores-content",
        "Whatever has the name of an accepted request is told to be accepted.",
        &[NothingLost],
    ),
    random("numbers-forgotten", "Which personal numbers were given is forgotten.", &[NumbersOnce, DigestsTrue]),
    random("work-forgotten", "What waits for a second person stands on no work list.", &[DigestsTrue]),
    random("work-stays", "A step of a dossier that was done stays on the work list.", &[DigestsTrue]),
    random("stock-stays", "A step of a dossier that was done still counts as open.", &[DigestsTrue]),
    random(
        "grant-from-the-start",
        "A block is granted from the first number on, whatever was granted.",
        &[NumbersOnce],
    ),
    callers("record-unbounded", "A record may grow without end.", &[BoundsHold, NothingLost]),
    random("file-replaces-the-unseen", "An event replaces what its officer was not shown.", &[Linearizable]),
    random("ignore-stale", "An edit of a field that moved on since its author saw it is accepted.", &[Linearizable]),
    random(
        "lose-request-id",
        "The receipt of an accepted request is not stored: a retry is a new edit.",
        &[NothingLost, Linearizable, Alive],
    ),
    Mutant {
        name: "swap-answers",
        breaks: "The answers to commands that share a log entry go to the wrong callers.",
        promises: &[NothingLost, Linearizable, Alive],
        needs: Some(CROWDED),
    },
    random(
        "unacknowledged-told-accepted",
        "A request whose outcome is not known is answered as accepted.",
        &[NothingLost, Linearizable],
    ),
    random(
        "not-found-local",
        "A node says that something is not there by what it has itself: what its site accepted a moment ago is not known.",
        &[NothingLost, Linearizable],
    ),
    Mutant {
        name: "take-lost-log-for-new",
        breaks: "A node that lost its log beside a state that it kept takes part again, and votes twice in a term.",
        promises: &[NeverBack, NothingLost, ReplicasAgree, Linearizable, Alive],
        needs: Some(WITHOUT_ITS_LOG),
    },
    // Chains and merges.
    random(
        "reuse-number",
        "A site gives a number that it has given before.",
        &[ChainsHold, NeverBack, Converges, NothingLost, Linearizable, DigestsTrue, CommandsWhole],
    ),
    random(
        "skip-hash-check",
        "An edit is known, or follows, by its number alone: of two branches of a chain one is passed over.",
        &[Converges, NothingLost, Alive, ChainsHold, DigestsTrue, CommandsWhole],
    ),
    random(
        "apply-twice",
        "An edit that is here already enters again, once of each author.",
        &[ChainsHold, Converges, NothingLost, Alive, NeverBack, NamesStay, DigestsTrue, CommandsWhole],
    ),
    random(
        "drop-edit-in-merge",
        "A merge passes one edit of five over.",
        &[Alive, Converges, NothingLost, CommandsWhole, ChainsHold],
    ),
    callers(
        "drop-part-in-merge",
        "Of a command of several edits a merge takes the first alone.",
        &[CommandsWhole, Alive, Converges, NothingLost],
    ),
    // Thieves.
    thieves(
        "take-unsealed",
        "A batch is taken though nobody gave a word for its edits.",
        &[NothingForged, NamesStay, Alive, Converges, ChainsHold],
    ),
    thieves(
        "word-for-others",
        "A word counts for whatever edit has the hash in it, whoever's that is.",
        &[NothingForged, NamesStay, Alive, Converges, ChainsHold],
    ),
    thieves(
        "door-takes-any-word",
        "Words are not checked, neither whose they are nor whether they are signed.",
        &[NothingForged, NamesStay, Alive, Converges, ChainsHold],
    ),
    thieves("unbounded-lives", "A site has as many lives as somebody with its key says.", &[BoundsHold]),
    thieves("unbounded-shares", "A site writes as much into a record as somebody with its key says.", &[BoundsHold]),
    Mutant {
        name: "one-person-confirms",
        breaks: "Whoever wrote an edit of grave consequence may confirm it himself.",
        promises: &[NothingLost],
        needs: Some(ASKED_AGAIN),
    },
    Mutant {
        name: "twins-stand-twice",
        breaks: "A request that a restored site took twice counts twice.",
        promises: &[NothingLost],
        needs: Some(ASKED_AGAIN),
    },
    thieves("figures-keep-what-is-set-aside", "What is set aside goes on counting in the figures.", &[DigestsTrue]),
    thieves(
        "take-half-commands",
        "A batch may end in the middle of a command.",
        &[CommandsWhole, ChainsHold, Alive, Converges],
    ),
    thieves(
        "replace-the-unseen",
        "An edit replaces itself, and what its author wrote after it, if it says so: a value goes without one in its place.",
        &[NothingLost, DigestsTrue, Converges, Alive],
    ),
    thieves(
        "any-site-writes-anywhere",
        "A site's word counts in every shard, also in what units above it say to all below them.",
        &[NothingForged, DirectoryTrue, Alive, Converges],
    ),
    // The way downwards.
    directory(
        "directory-misses-records",
        "What units above say is kept and passed on, and moves no directory until something else does.",
        &[DirectoryTrue, Alive, Converges],
    ),
    directory(
        "units-not-said",
        "What the centre says of units is kept and passed on, and nobody knows of them.",
        &[DirectoryTrue],
    ),
    directory(
        "added-commune-not-hosted",
        "The shard of a commune that is added is not hosted at the sites above it.",
        &[Alive, Converges],
    ),
    directory(
        "parent-as-configured",
        "A site dials whom its configuration names, whatever the directory says.",
        &[LinksGoOn, Alive, Converges],
    ),
    directory(
        "moved-site-shut-out",
        "Who is linked elsewhere now is refused where he was, before he has heard of it: nobody is left to tell him.",
        &[DirectoryTrue, Alive, Converges],
    ),
    Mutant {
        name: "revoked-key-verifies",
        breaks: "A key that a site had when it was founded verifies for ever, though it was revoked.",
        promises: &[NothingForged],
        needs: Some(REVOKED_KEY),
    },
    random(
        "decision-overwrites-unseen",
        "A decision replaces also the values that its author had not seen.",
        &[NothingLost, Converges, Alive, Linearizable, DigestsTrue],
    ),
    random(
        "keep-old-digest",
        "A record's old state stays in the digest of all records: sites that hold the same do not know it.",
        &[DigestsTrue],
    ),
    // Links.
    random(
        "forget-cursor",
        "The position in a neighbour's stream is not stored: each batch is refused, and the stream begins again.",
        &[LinksGoOn, Converges, Alive],
    ),
    random(
        "speak-before-caught-up",
        "A node that leads again speaks to neighbours before it shows what its site has: told of its own edits, it takes \
         itself for restored.",
        &[NamesStay],
    ),
    random("no-renew", "A site that came back from a backup keeps its incarnation.", &[Alive, Converges, ChainsHold]),
    random(
        "statement-lies",
        "A site states that it holds what its neighbour stated to hold.",
        &[StatementsTrue, Alive, Converges],
    ),
    random(
        "newest-date-wins",
        "Of two statements of a site the one with the later date counts: after a clock that was ahead, nothing does.",
        &[Alive, Converges],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_cut_short_can_be_run() {
        for seed in 0..SEEDS_MAX {
            let scenario = cut_short(random::scenario(seed));
            assert_eq!(scenario.check(), Ok(()), "{seed}");
            assert!(scenario.lasts <= LASTS_MAX);
        }
        for mutant in ALL {
            assert!(!mutant.promises.is_empty() && Mutant::named(mutant.name) == Some(mutant));
            assert_eq!(mutant.scenario(7).seed, 7);
        }
    }
}
