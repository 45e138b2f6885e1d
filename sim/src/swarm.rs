//! Many runs on all cores: fresh seeds, a tally of what happened, and the first failure made small.
//!
//! Owns: which seeds run where, and what is counted. Leaves to others: what a run is (`run`), how it is shown (`tables`).
//!
//! Limit: a swarm by time ends with the runs that it began; how many those are depends on the machine. Its runs do not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::coverage::Coverage;
use crate::mutants::{self, Mutant, Verdict};
use crate::run::{Outcome, Violation, guarded};
use crate::scenario::Scenario;
use crate::shrink;
use crate::trace::Event;

/// Fresh seeds are so short: they are typed by people, and written into files whose numbers have a sign.
const SEED_BITS: u32 = 40;

/// A run that takes longer is told of: the longest of days take minutes.
pub const SLOW: Duration = Duration::from_secs(600);
/// How often that is looked at.
const SLOW_LOOK_EVERY: Duration = Duration::from_millis(500);

/// What a swarm does.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Seeds count up from here; without it each is fresh.
    pub first: Option<u64>,
    /// It ends after so many runs.
    pub runs_max: Option<u64>,
    /// And no run begins after so long.
    pub begins_within: Option<Duration>,
    /// How many runs at once.
    pub threads: usize,
    /// Whether it goes on after a failure.
    pub keeps_going: bool,
    /// A deliberate fault in the node's code.
    pub mutant: Option<&'static Mutant>,
}

/// A run that broke a promise.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// What it broke.
    pub violations: Vec<Violation>,
}

/// How often a kind of fault happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Happened {
    /// Times that it hit somebody.
    pub times: u64,
    /// Times that it found nobody to hit.
    pub missed: u64,
    /// Runs in which it hit somebody.
    pub runs: u64,
}

/// What came of many runs.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// How many.
    pub runs: u64,
    /// Their failures, in the order of their ends.
    pub failures: Vec<Failure>,
    /// The sums of their figures.
    pub figures: BTreeMap<&'static str, u64>,
    /// The rare branches and the kinds of fault that they came to.
    pub coverage: Coverage,
    /// Faults by kind, with those that found nobody.
    pub faults: BTreeMap<&'static str, Happened>,
    /// Requests that were answered with something else than acceptance.
    pub not_accepted: u64,
    /// Wall time that runs took, over all threads.
    pub busy: Duration,
}

impl Tally {
    /// Adds a run.
    pub fn add(&mut self, seed: u64, outcome: &Outcome, took: Duration) {
        self.runs += 1;
        self.busy += took;
        self.coverage.add(outcome);
        for (name, count) in &outcome.figures {
            *self.figures.entry(name).or_default() += count;
        }
        let mut hit = BTreeSet::new();
        for entry in &outcome.entries {
            match &entry.event {
                Event::FaultBegins { kind, nodes, sites, .. } => {
                    let happened = self.faults.entry(kind).or_default();
                    if nodes.is_empty() && sites.is_empty() {
                        happened.missed += 1;
                    } else {
                        happened.times += 1;
                        happened.runs += u64::from(hit.insert(*kind));
                    }
                }
                Event::NotAccepted { .. } => self.not_accepted += 1,
                _ => {}
            }
        }
        if !outcome.holds() {
            self.failures.push(Failure { seed, violations: outcome.violations.clone() });
        }
    }

    /// A figure's sum.
    #[must_use]
    pub fn figure(&self, name: &str) -> u64 {
        self.figures.get(name).copied().unwrap_or_default()
    }

    /// Virtual seconds per second of one core.
    #[must_use]
    pub fn speed(&self) -> f64 {
        self.figure("virtual_seconds") as f64 / self.busy.as_secs_f64().max(f64::EPSILON)
    }
}

/// Runs a swarm; `progress` is called after each run, `slow` once with the seed of a run that takes longer than [`SLOW`]: it
/// may be one that never ends, which nobody can stop but by ending the process.
pub fn swarm(plan: &Plan, progress: impl Fn(&Tally) + Sync, slow: impl Fn(u64) + Sync) -> Tally {
    let began = Instant::now();
    let (begun, stops) = (AtomicU64::new(0), AtomicBool::new(false));
    let tally = Mutex::new(Tally::default());
    let running: Mutex<BTreeMap<u64, Instant>> = Mutex::default();
    let next = || {
        let place = begun.fetch_add(1, Ordering::Relaxed);
        let goes_on = plan.runs_max.is_none_or(|runs| place < runs)
            && plan.begins_within.is_none_or(|limit| began.elapsed() < limit);
        if !goes_on || stops.load(Ordering::Relaxed) {
            return None;
        }
        Some(plan.first.map_or_else(fresh_seed, |first| first.wrapping_add(place)))
    };
    let work = || {
        while let Some(seed) = next() {
            let started = Instant::now();
            running.lock().unwrap_or_else(PoisonError::into_inner).insert(seed, started);
            let outcome = guarded(&mutants::scenario(plan.mutant, seed), plan.mutant.map(|mutant| mutant.name));
            running.lock().unwrap_or_else(PoisonError::into_inner).remove(&seed);
            if !outcome.holds() && !plan.keeps_going {
                stops.store(true, Ordering::Relaxed);
            }
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.add(seed, &outcome, started.elapsed());
            progress(&tally);
        }
    };
    let watch = |workers: &[thread::ScopedJoinHandle<'_, ()>]| {
        let mut told = BTreeSet::new();
        while workers.iter().any(|worker| !worker.is_finished()) {
            thread::sleep(SLOW_LOOK_EVERY);
            let running = running.lock().unwrap_or_else(PoisonError::into_inner);
            for (seed, _) in running.iter().filter(|(_, started)| started.elapsed() > SLOW) {
                if told.insert(*seed) {
                    slow(*seed);
                }
            }
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..plan.threads.max(1)).map(|_| scope.spawn(work)).collect();
        watch(&workers);
    });
    tally.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// A seed that nobody chose.
///
/// # Panics
/// If the operating system has no randomness.
#[must_use]
pub fn fresh_seed() -> u64 {
    getrandom::u64().expect("the operating system gives randomness") >> (u64::BITS - SEED_BITS)
}

/// The smallest scenario found that breaks the same promise, within so many runs and so long.
#[must_use]
pub fn smaller(
    scenario: &Scenario,
    mutant: Option<&Mutant>,
    promise: &str,
    budget: usize,
    limit: Duration,
) -> Scenario {
    let began = Instant::now();
    let breaks = |outcome: &Outcome| outcome.violations.iter().any(|violation| violation.promise == promise);
    let fails =
        |candidate: &Scenario| began.elapsed() < limit && breaks(&guarded(candidate, mutant.map(|mutant| mutant.name)));
    shrink::shrink(scenario, fails, budget)
}

/// What came of each mutant within so many seeds, on so many threads; `progress` is called when one is done.
pub fn hunt(
    mutants: &[&'static Mutant],
    seeds: u64,
    threads: usize,
    progress: impl Fn(&Mutant, &Verdict) + Sync,
) -> Vec<(&'static Mutant, Verdict)> {
    let begun = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let work = || {
        while let Some((place, mutant)) = {
            let place = begun.fetch_add(1, Ordering::Relaxed);
            mutants.get(place).map(|mutant| (place, *mutant))
        } {
            let verdict = mutants::run(mutant, 1..seeds.saturating_add(1));
            progress(mutant, &verdict);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((place, mutant, verdict));
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(work);
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(place, ..)| *place);
    done.into_iter().map(|(_, mutant, verdict)| (mutant, verdict)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Entry;

    #[test]
    fn faults_are_counted_by_kind() {
        let begins = |kind, nodes: Vec<usize>| Entry {
            at: Duration::ZERO,
            event: Event::FaultBegins { fault: 0, kind, text: String::new(), nodes, sites: Vec::new() },
        };
        let entries =
            vec![begins("crash", vec![1]), begins("crash", vec![2]), begins("crash", vec![]), begins("rot", vec![0])];
        let figures = BTreeMap::from([("accepted", 3)]);
        let outcome = Outcome { entries, figures, ..Outcome::default() };
        let mut tally = Tally::default();
        tally.add(1, &outcome, Duration::from_secs(1));
        tally.add(2, &outcome, Duration::from_secs(1));
        assert_eq!(tally.faults["crash"], Happened { times: 4, missed: 2, runs: 2 });
        assert_eq!(tally.faults["rot"], Happened { times: 2, missed: 0, runs: 2 });
        assert_eq!((tally.runs, tally.figure("accepted"), tally.failures.len()), (2, 6, 0));
    }
}
