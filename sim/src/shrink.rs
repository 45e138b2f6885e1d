//! A smaller scenario that fails alike: what a person reads instead of the one that a swarm found.
//!
//! Delta debugging (Zeller and Hildebrandt, 2002) over the parts of a scenario: districts, communes, faults, officers and
//! nodes are taken away, first many at once, then one by one; then times, numbers of edits and settings are made smaller
//! or usual. What refers to something that was taken away goes with it.
//!
//! Promises: the result fails as the given scenario does, and can be run; it depends on the scenario and on the answers
//! alone; nothing is asked twice. Leaves to others: what failing means; a run must fail with the same check.
//! Limits: the result is small, not smallest: no single step makes it smaller, if the budget sufficed. The seed stays, as
//! does how long healing may take, since with less everything fails.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use dinhba_core::units::Tier;

use crate::scenario::{Fault, Knobs, Network, Officer, Scenario, Tree, What};

/// Nothing is made shorter than this: a second is as readable as less.
const SECOND: Duration = Duration::from_secs(1);

/// The smallest scenario found that `fails`, which is asked at most `budget` times. The given one is taken to fail.
#[must_use]
pub fn shrink(scenario: &Scenario, mut fails: impl FnMut(&Scenario) -> bool, budget: usize) -> Scenario {
    let mut search = Search { best: scenario.clone(), fails: &mut fails, left: budget, asked: BTreeSet::new() };
    search.ask_never_again(scenario);
    loop {
        let before = search.best.clone();
        for pass in PASSES {
            pass(&mut search);
        }
        if search.best == before || search.left == 0 {
            return search.best;
        }
    }
}

/// What saves most comes first.
const PASSES: [fn(&mut Search<'_>); 9] = [
    fewer_districts,
    fewer_communes,
    fewer_faults,
    fewer_officers,
    fewer_nodes,
    shorter,
    less_of_each_officer,
    less_of_each_fault,
    usual_settings,
];

struct Search<'a> {
    best: Scenario,
    fails: &'a mut dyn FnMut(&Scenario) -> bool,
    left: usize,
    /// Hashes of what was asked.
    asked: BTreeSet<[u8; 32]>,
}

impl Search<'_> {
    /// False if it was asked before.
    fn ask_never_again(&mut self, scenario: &Scenario) -> bool {
        self.asked.insert(*blake3::hash(format!("{scenario:?}").as_bytes()).as_bytes())
    }

    /// Whether the best with this change fails too; then it is the best.
    fn takes(&mut self, change: impl FnOnce(&mut Scenario)) -> bool {
        let mut smaller = self.best.clone();
        change(&mut smaller);
        let Some(smaller) = made_whole(smaller) else { return false };
        if self.left == 0 || !self.ask_never_again(&smaller) {
            return false;
        }
        self.left -= 1;
        let fails = (self.fails)(&smaller);
        if fails {
            self.best = smaller;
        }
        fails
    }

    /// Removes what it can of a list: all, halves, quarters and so on to single elements.
    fn without(&mut self, count: impl Fn(&Scenario) -> usize, remove: impl Fn(&mut Scenario, Range<usize>)) {
        let mut size = count(&self.best);
        while size > 0 {
            let mut start = 0;
            while start < count(&self.best) {
                let end = (start + size).min(count(&self.best));
                if !self.takes(|scenario| remove(scenario, start..end)) {
                    start += size;
                }
            }
            size /= 2;
        }
    }
}

/// Takes away what refers to something that is not there; none if nothing is left that can be run.
fn made_whole(mut scenario: Scenario) -> Option<Scenario> {
    while let Err(error) = scenario.check() {
        let mut path = error.key.split('.');
        let (list, place) = indexed(path.next()?)?;
        let (inner, entry) = path.next().and_then(indexed).unzip();
        match list {
            "faults" => {
                let fault = scenario.faults.get_mut(place)?;
                match (&mut fault.what, entry) {
                    (What::Dark { sites }, Some(entry)) if sites.len() > 1 && entry < sites.len() => {
                        sites.remove(entry);
                    }
                    // It ends after the scenario: then with it.
                    _ if error.key.ends_with(".lasts") && fault.lasts.is_some() => fault.lasts = None,
                    _ => {
                        scenario.faults.remove(place);
                    }
                }
            }
            "officers" => {
                let shards = &mut scenario.officers.get_mut(place)?.shards;
                // Without any he would work on all.
                match entry.filter(|entry| inner == Some("shards") && shards.len() > 1 && *entry < shards.len()) {
                    Some(entry) => {
                        shards.remove(entry);
                    }
                    None => {
                        scenario.officers.remove(place);
                    }
                }
            }
            "tree" => match (inner?, entry?) {
                ("districts", district) if district < scenario.tree.districts.len() => {
                    scenario.tree.districts.remove(district);
                }
                ("communes", commune) if commune < scenario.tree.communes.len() => {
                    scenario.tree.communes.remove(commune);
                }
                _ => return None,
            },
            _ => return None,
        }
    }
    Some(scenario)
}

/// `faults[3]`: "faults" and 3. Of a key without a place: itself and a place where nothing is.
fn indexed(step: &str) -> Option<(&str, usize)> {
    match step.strip_suffix(']') {
        Some(step) => {
            let (list, place) = step.split_once('[')?;
            Some((list, place.parse().ok()?))
        }
        None => Some((step, usize::MAX)),
    }
}

fn fewer_faults(search: &mut Search<'_>) {
    search.without(
        |scenario| scenario.faults.len(),
        |scenario, range| {
            scenario.faults.drain(range);
        },
    );
}

fn fewer_officers(search: &mut Search<'_>) {
    search.without(
        |scenario| scenario.officers.len(),
        |scenario, range| {
            scenario.officers.drain(range);
        },
    );
}

fn fewer_districts(search: &mut Search<'_>) {
    search.without(
        |scenario| scenario.tree.districts.len(),
        |scenario, range| {
            let Tree { districts, .. } = &mut scenario.tree;
            districts.drain(range);
        },
    );
}

fn fewer_communes(search: &mut Search<'_>) {
    search.without(
        |scenario| scenario.tree.communes.len(),
        |scenario, range| {
            scenario.tree.communes.drain(range);
        },
    );
}

fn fewer_nodes(search: &mut Search<'_>) {
    for tier in Tier::ALL {
        let count = search.best.tree.nodes.of(tier);
        for fewer in [1, count.saturating_sub(2), count.saturating_sub(1)] {
            let taken = (1..count).contains(&fewer)
                && search.takes(|scenario| {
                    let nodes = &mut scenario.tree.nodes;
                    match tier {
                        Tier::Central => nodes.central = fewer,
                        Tier::Province => nodes.province = fewer,
                        Tier::District => nodes.district = fewer,
                        Tier::Commune => nodes.commune = fewer,
                    }
                });
            if taken {
                break;
            }
        }
    }
}

/// Half of it, or less if that is enough; in whole seconds.
fn shorter_lengths(length: Duration) -> impl Iterator<Item = Duration> {
    let seconds = length.as_secs();
    let lengths = [seconds / 8, seconds / 2, seconds * 3 / 4].map(|seconds| Duration::from_secs(seconds).max(SECOND));
    lengths.into_iter().filter(move |shorter| *shorter < length)
}

fn smaller_numbers(number: u32) -> impl Iterator<Item = u32> {
    [1, number / 8, number / 2, number.saturating_sub(1)]
        .into_iter()
        .filter(move |smaller| (1..number).contains(smaller))
}

/// Ends earlier, or everything happens in half the time.
fn shorter(search: &mut Search<'_>) {
    while shorter_lengths(search.best.lasts).any(|lasts| search.takes(|scenario| scenario.lasts = lasts)) {}
    let halve = |scenario: &mut Scenario| {
        let half = |length: &mut Duration| *length /= 2;
        half(&mut scenario.lasts);
        for officer in &mut scenario.officers {
            half(&mut officer.starts);
        }
        for Fault { at, lasts, what } in &mut scenario.faults {
            half(at);
            lasts.iter_mut().for_each(half);
            match what {
                What::Restore { backup_at, .. } => half(backup_at),
                What::CrashLoop { every, .. } | What::Flap { every, .. } => half(every),
                _ => {}
            }
        }
    };
    while search.best.lasts >= 2 * SECOND && search.takes(halve) {}
}

fn less_of_each_officer(search: &mut Search<'_>) {
    let mut place = 0;
    while let Some(officer) = search.best.officers.get(place) {
        let was = officer.clone();
        if was.impatient {
            search.takes(|scenario| each(&mut scenario.officers, place, |officer| officer.impatient = false));
        }
        if !was.starts.is_zero() {
            search.takes(|scenario| each(&mut scenario.officers, place, |officer| officer.starts = Duration::ZERO));
        }
        // As many as fit is more than any number that is tried.
        let edits = |officer: &Officer| if officer.edits == 0 { 256 } else { officer.edits };
        while search.best.officers.get(place).map(edits).is_some_and(|now| {
            smaller_numbers(now).any(|fewer| {
                search.takes(|scenario| each(&mut scenario.officers, place, |officer| officer.edits = fewer))
            })
        }) {}
        place += 1;
    }
}

/// Changes one of `things`, if it is there.
fn each<T>(things: &mut [T], place: usize, change: impl FnOnce(&mut T)) {
    if let Some(thing) = things.get_mut(place) {
        change(thing);
    }
}

fn less_of_each_fault(search: &mut Search<'_>) {
    let mut place = 0;
    while place < search.best.faults.len() {
        let dark = |scenario: &Scenario| match scenario.faults.get(place).map(|fault| &fault.what) {
            Some(What::Dark { sites }) => sites.len(),
            _ => 0,
        };
        search.without(dark, |scenario, range| {
            each(&mut scenario.faults, place, |fault| {
                if let What::Dark { sites } = &mut fault.what {
                    sites.drain(range);
                }
            });
        });
        let until = search.best.lasts;
        while search.best.faults.get(place).and_then(|fault| fault.lasts).is_some_and(|now| {
            shorter_lengths(now.min(until)).any(|lasts| {
                search.takes(|scenario| each(&mut scenario.faults, place, |fault| fault.lasts = Some(lasts)))
            })
        }) {}
        match search.best.faults.get(place).map(|fault| fault.what.clone()) {
            Some(What::CrashLoop { times, .. } | What::Rot { times, .. }) => {
                let _ = smaller_numbers(times).any(|fewer| {
                    search.takes(|scenario| {
                        each(&mut scenario.faults, place, |fault| {
                            if let What::CrashLoop { times, .. } | What::Rot { times, .. } = &mut fault.what {
                                *times = fewer;
                            }
                        });
                    })
                });
            }
            Some(What::Restore { twice: true, .. }) => {
                search.takes(|scenario| {
                    each(&mut scenario.faults, place, |fault| {
                        if let What::Restore { twice, .. } = &mut fault.what {
                            *twice = false;
                        }
                    });
                });
            }
            _ => {}
        }
        place += 1;
    }
}

/// What is as usual need not be read.
fn usual_settings(search: &mut Search<'_>) {
    if search.best.beyond_promises {
        search.takes(|scenario| scenario.beyond_promises = false);
    }
    let (knobs, network) = (Knobs::default(), Network::default());
    if !search.takes(|scenario| scenario.knobs = knobs.clone()) {
        let usual: [fn(&mut Knobs, Knobs); 7] = [
            |knobs, Knobs { heartbeat, election_min, election_max, .. }| {
                (knobs.heartbeat, knobs.election_min, knobs.election_max) = (heartbeat, election_min, election_max);
            },
            |knobs, usual| knobs.snapshot_every = usual.snapshot_every,
            |knobs, usual| knobs.keep_entries = usual.keep_entries,
            |knobs, usual| knobs.segment_bytes = usual.segment_bytes,
            |knobs, usual| knobs.flush = usual.flush,
            |knobs, Knobs { link_backoff_min, link_backoff_max, .. }| {
                (knobs.link_backoff_min, knobs.link_backoff_max) = (link_backoff_min, link_backoff_max);
            },
            |knobs, usual| knobs.level = usual.level,
        ];
        for set in usual {
            search.takes(|scenario| set(&mut scenario.knobs, knobs.clone()));
        }
    }
    if !search.takes(|scenario| scenario.network = network.clone()) {
        let usual: [fn(&mut Network, Network); 3] = [
            |network, Network { latency, latency_inside, .. }| {
                (network.latency, network.latency_inside) = (latency, latency_inside);
            },
            |network, usual| network.jitter = usual.jitter,
            |network, usual| network.bits_per_second = usual.bits_per_second,
        ];
        for set in usual {
            search.takes(|scenario| set(&mut scenario.network, network.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;
    use crate::scenario::{NodeRef, SHIPPED, Which, Work};

    fn shipped(name: &str) -> Scenario {
        let (_, text) = SHIPPED.iter().find(|(other, _)| *other == name).unwrap();
        Scenario::parse(text).unwrap()
    }

    /// Asked so often, each shrink of these tests is done.
    const ENOUGH: usize = 2_000;

    #[test]
    fn a_bug_of_one_fault_and_one_officer_shrinks_to_them() {
        // The province's leader loses power while somebody edits what others edit too, in a dark commune.
        let fails = |scenario: &Scenario| {
            let has = |found: fn(&What) -> bool| scenario.faults.iter().any(|fault| found(&fault.what));
            has(|what| matches!(what, What::Dark { sites } if sites.iter().any(|site| site == "02953")))
                && has(|what| matches!(what, What::Crash { node } if node.site == "10"))
                && scenario.tree.nodes.province > 1
                && scenario.officers.iter().any(|officer| officer.does == Work::Shared && officer.edits != 1)
        };
        let small = shrink(&shipped("typhoon"), fails, ENOUGH);
        assert!(fails(&small));
        assert_eq!(small.check(), Ok(()));
        assert_eq!((small.faults.len(), small.officers.len()), (2, 1), "{}", small.to_toml());
        assert_eq!((small.tree.districts.len(), small.tree.communes.len()), (1, 1));
        assert_eq!(small.tree.nodes_in_all(), 1 + 2 + 1 + 1);
        assert_eq!(small.officers[0].edits, 2);
        assert!(matches!(&small.faults[0].what, What::Dark { sites } if sites.len() == 1));
        assert!(small.lasts < Duration::from_secs(60), "{:?}", small.lasts);
        assert_eq!((small.knobs, small.network), (Knobs::default(), Network::default()));
    }

    #[test]
    fn what_needs_many_faults_keeps_them() {
        let crashes = |scenario: &Scenario| {
            scenario.faults.iter().filter(|fault| matches!(fault.what, What::Crash { .. })).count()
        };
        let small = shrink(&shipped("leader_restarts_before_its_flush"), |scenario| crashes(scenario) >= 3, ENOUGH);
        assert_eq!((crashes(&small), small.faults.len(), small.officers.len()), (3, 3, 0));
    }

    #[test]
    fn every_random_scenario_shrinks_to_one_that_fails_alike() {
        for seed in 0..60 {
            let large = random::scenario(seed);
            let Some(kind) = large.faults.last().map(|fault| fault.what.kind()) else { continue };
            let fails = |scenario: &Scenario| scenario.faults.iter().any(|fault| fault.what.kind() == kind);
            let mut asked: Vec<Scenario> = Vec::new();
            let small = shrink(
                &large,
                |scenario| {
                    assert_eq!(scenario.check(), Ok(()), "seed {seed}");
                    assert!(!asked.contains(scenario), "seed {seed} asks twice");
                    asked.push(scenario.clone());
                    fails(scenario)
                },
                ENOUGH,
            );
            assert!(asked.len() < ENOUGH, "seed {seed} takes too long");
            assert_eq!((small.faults.len(), small.officers.len()), (1, 0), "seed {seed}: {kind}");
            // One is added beside another that was there before.
            let communes = if kind == "add_site" { 2 } else { 1 };
            assert_eq!(small.tree.communes.len(), communes, "seed {seed}: {kind}");
            assert_eq!((small.seed, small.settles_within), (seed, large.settles_within));
            assert_eq!(shrink(&large, fails, ENOUGH), small, "seed {seed} is not the same again");
        }
    }

    #[test]
    fn the_budget_is_kept_and_nothing_is_made_up() {
        let large = random::scenario(3);
        for budget in [0, 1, 7] {
            let mut asked = 0;
            let small = shrink(
                &large,
                |_| {
                    asked += 1;
                    true
                },
                budget,
            );
            assert_eq!(asked, budget);
            assert_eq!(small == large, budget == 0);
        }
        assert_eq!(shrink(&large, |_| false, ENOUGH), large);
    }

    #[test]
    fn what_refers_to_something_gone_goes_with_it() {
        let mut scenario = shipped("one_way_fibre");
        let node = |site: &str, number| NodeRef { site: site.to_owned(), which: Which::Number(number) };
        let at = Duration::from_secs(60);
        scenario.faults.push(Fault { at, lasts: None, what: What::Crash { node: node("10", 3) } });
        scenario.faults.push(Fault { at, lasts: None, what: What::Kill { node: node("083", 1) } });
        let sites = vec!["083".to_owned(), "02683".to_owned()];
        scenario.faults.push(Fault { at, lasts: Some(85 * at), what: What::Dark { sites } });
        assert_eq!(scenario.check(), Ok(()));
        scenario.tree.districts.retain(|district| district != "083");
        scenario.tree.nodes.province = 1;
        scenario.lasts = 40 * at;
        let whole = made_whole(scenario).unwrap();
        assert_eq!(whole.tree.communes, ["02683", "02686"]);
        let kinds: Vec<&str> = whole.faults.iter().map(|fault| fault.what.kind()).collect();
        assert_eq!(kinds, ["cut_one_way", "dark"]);
        assert_eq!(whole.faults[1].what, What::Dark { sites: vec!["02683".to_owned()] });
        assert_eq!(whole.faults[1].lasts, None);
        assert!(whole.officers.iter().all(|officer| whole.tree.has(&officer.at)));
        assert_eq!(whole.officers.len(), 4);
    }
}
