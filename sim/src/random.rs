//! A scenario from a seed: a small country, people of several kinds, and a random part of all disasters.
//!
//! Promises: equal seeds give equal scenarios; each can be run ([`Scenario::check`]) and stays within what the promises
//! cover, except that a lone node of a site may lose its disk or be restored ([`Scenario::may_lose`] names it).
//!
//! Swarm testing (Groce et al., 2012): each run leaves out most kinds of faults and of work, since what is always present
//! hides what only happens without it. Knobs are drawn from few values that differ much.
//!
//! Limits: a site loses at most one node for good in a run, so that a second loss never meets a successor that has not yet
//! caught up. No key is revoked: what only it signed is then lost to whoever loses his disk.

use std::time::Duration;

use dinhba_core::level::LEVEL_MAX;
use dinhba_core::units::{BEFORE_REFORM, Tier};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::scenario::{
    CENTRE, Fault, Knobs, Network, NodeRef, NodesPerTier, Officer, Place, SHIPPED, Scenario, Site, Store, Takes, Theft,
    Tree, What, Which, Work, directory, unit,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// Nothing goes wrong earlier: the sites are founded in a calm.
const CALM: Duration = Duration::from_secs(5);
/// One run in so many takes days: it costs as much as ten others.
const DAYS_ONE_IN: u64 = 60;
/// Most faults that are tried in a run.
const FAULTS_MAX: u64 = 16;
/// Pieces of work of one who does his worst: each is worth a hundred of anybody else's.
const WORST_MAX: u64 = 3;
/// Draws for one fault, until it is one that fits. Most kinds fit at once; some fit no small country.
const TRIES: usize = 8;
/// A new node is brought at least so long after the old one was lost.
const REPLACED_AFTER: Duration = Duration::from_secs(30);

/// One seed in so many is a short story that comes with the simulator: rare branches that chance comes to too seldom.
const STORY_ONE_IN: u64 = 8;
/// Stories that last longer cost as much as ten random runs.
const STORY_MAX: Duration = Duration::from_secs(15 * 60);

/// The scenario of `seed`: a random one, or a story.
#[must_use]
pub fn scenario(seed: u64) -> Scenario {
    let mut draw = Draw(ChaCha8Rng::seed_from_u64(!seed));
    if !draw.one_in(STORY_ONE_IN) {
        return drawn(seed);
    }
    let stories: Vec<Scenario> = SHIPPED.iter().filter_map(|(_, text)| Scenario::parse(text).ok()).collect();
    let short: Vec<Scenario> = stories.into_iter().filter(|story| story.lasts <= STORY_MAX).collect();
    Scenario { seed, ..draw.one_of(&short) }
}

/// The random scenario of `seed`.
fn drawn(seed: u64) -> Scenario {
    let mut draw = Draw(ChaCha8Rng::seed_from_u64(seed));
    let takes_days = draw.one_in(DAYS_ONE_IN);
    let lasts = if takes_days {
        draw.length(12 * HOUR, 36 * HOUR)
    } else {
        // The shorter of two: more runs see more than longer ones.
        draw.length(2 * MINUTE, 30 * MINUTE).min(draw.length(2 * MINUTE, 30 * MINUTE))
    };
    let tree = draw.tree();
    let mut scenario = Scenario {
        name: format!("random_{seed}"),
        about: "A random country.".to_owned(),
        seed,
        lasts,
        settles_within: if takes_days { 60 * MINUTE } else { 10 * MINUTE },
        beyond_promises: false,
        knobs: draw.knobs(takes_days),
        network: draw.network(),
        officers: draw.officers(&tree, lasts),
        tree,
        faults: Vec::new(),
        promises: Vec::new(),
    };
    let kinds = draw.faults(&mut scenario);
    scenario.faults.sort_by_key(|fault| fault.at);
    let of = if kinds.is_empty() { "nothing".to_owned() } else { kinds.join(", ") };
    scenario.about.push_str(&format!(" What may go wrong: {of}."));
    scenario
}

/// Draws from the seed.
struct Draw(ChaCha8Rng);

impl Draw {
    /// From 0 to `bound` - 1; 0 for a bound of 0.
    fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound.max(1)
    }
    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most.saturating_sub(least) + 1)
    }
    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
    fn one_of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize].clone()
    }
    fn some_of<T: Clone>(&mut self, choices: &[T]) -> Option<T> {
        if choices.is_empty() { None } else { Some(self.one_of(choices)) }
    }

    /// In whole milliseconds; each order of magnitude as likely as another.
    fn length(&mut self, least: Duration, most: Duration) -> Duration {
        let ms = |length: Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX).max(1);
        let (least, most) = (ms(least), ms(most).max(ms(least)));
        let doublings = (most / least).ilog2();
        let from = least << self.below(u64::from(doublings) + 1);
        Duration::from_millis(self.between(from, most.min(2 * from)))
    }

    fn tree(&mut self) -> Tree {
        let communes_of = |district: &str| -> Vec<String> {
            let Some(district) = unit(district) else { return Vec::new() };
            let communes = directory().descendants(district.id, Tier::Commune, BEFORE_REFORM);
            communes.into_iter().map(|unit| unit.code.clone()).collect()
        };
        let inside = |code: &str, tier| -> Vec<String> {
            let units = unit(code).map(|above| directory().descendants(above.id, tier, BEFORE_REFORM));
            units.unwrap_or_default().into_iter().map(|unit| unit.code.clone()).collect()
        };
        let province = self.one_of(&inside(CENTRE, Tier::Province));
        let mut choices = inside(&province, Tier::District);
        // Five island districts have no communes.
        choices.retain(|district| !communes_of(district).is_empty());
        let mut districts = Vec::new();
        for _ in 0..self.between(1, 2.min(choices.len() as u64)) {
            districts.push(choices.swap_remove(self.below(choices.len() as u64) as usize));
        }
        districts.sort();
        let mut communes = Vec::new();
        for district in &districts {
            let mut choices = communes_of(district);
            let wanted = if districts.len() == 1 { self.between(1, 4) } else { self.between(1, 2) };
            for _ in 0..wanted.min(choices.len() as u64) {
                communes.push(choices.swap_remove(self.below(choices.len() as u64) as usize));
            }
        }
        communes.sort();
        let nodes = NodesPerTier {
            central: self.one_of(&[1, 3]),
            province: self.one_of(&[1, 3, 3]),
            district: self.one_of(&[1, 3]),
            commune: self.one_of(&[1, 1, 1, 3]),
        };
        Tree { province, districts, communes, nodes }
    }

    fn knobs(&mut self, takes_days: bool) -> Knobs {
        let ms = Duration::from_millis;
        // Heartbeats are most of what a quiet country costs.
        let heartbeat = if takes_days { ms(10_000) } else { ms(self.one_of(&[100, 250, 500, 1_000])) };
        let election_min = heartbeat * if takes_days { 3 } else { self.one_of(&[3, 4, 5]) };
        Knobs {
            heartbeat,
            election_min,
            election_max: 2 * election_min,
            snapshot_every: self.one_of(&[10, 50, 200, 1_000]),
            keep_entries: self.one_of(&[0, 10, 100]),
            segment_bytes: self.one_of(&[2_048, 16_384, 65_536, 1 << 20]),
            flush: self.one_of(&[Duration::from_micros(200), ms(2), ms(20), ms(80)]),
            link_backoff_min: ms(self.one_of(&[100, 500])),
            link_backoff_max: ms(self.one_of(&[1_000, 5_000, 30_000])),
            level: self.between(1, LEVEL_MAX.into()) as u16,
        }
    }

    fn network(&mut self) -> Network {
        let latency = Duration::from_millis(self.one_of(&[1, 20, 100, 300]));
        Network {
            latency,
            jitter: self.one_of(&[Duration::ZERO, latency / 4, latency]),
            bits_per_second: self.one_of(&[0, 64_000, 256_000, 2_000_000]),
            latency_inside: Duration::from_micros(self.one_of(&[200, 1_000, 5_000])),
        }
    }

    fn officers(&mut self, tree: &Tree, lasts: Duration) -> Vec<Officer> {
        // So many pieces of work of one officer, whether the run takes minutes or days.
        let pieces = self.one_of(&[20, 60, 200]);
        let mut works: Vec<Work> = Work::ALL.iter().map(|(_, work)| *work).collect();
        works.retain(|work| *work != Work::Shared && self.one_in(2));
        if works.is_empty() {
            works.push(Work::Mixed);
        }
        let mut officers = Vec::new();
        let mut officer = |draw: &mut Draw, at: String, shards: Vec<String>, does| {
            let every = (lasts / pieces).max(Duration::from_millis(200));
            officers.push(Officer {
                at,
                shards,
                every: draw.length(every / 2, 2 * every),
                starts: if draw.one_in(3) { draw.length(SECOND, lasts / 2) } else { Duration::ZERO },
                edits: match does {
                    Work::Worst => draw.between(1, WORST_MAX) as u32,
                    _ if draw.one_in(4) => draw.between(1, 20) as u32,
                    _ => 0,
                },
                does,
                impatient: draw.one_in(4),
            });
        };
        let codes: Vec<String> = tree.codes().map(str::to_owned).collect();
        for _ in 0..self.between(1, 4) {
            // Most work is done where records have their home, but for what is said to all below.
            let at = if self.one_in(3) { self.one_of(&codes) } else { self.one_of(&tree.communes) };
            let does = self.one_of(&works);
            let at = match does {
                Work::Sites if !self.one_in(4) => {
                    let above: Vec<String> =
                        codes.iter().filter(|code| !tree.communes.contains(*code)).cloned().collect();
                    self.one_of(&above)
                }
                Work::Units => CENTRE.to_owned(),
                _ => at,
            };
            officer(self, at, Vec::new(), does);
        }
        if self.one_in(2) {
            let commune = self.one_of(&tree.communes);
            let mut way_up = std::iter::successors(Some(commune.clone()), |code| tree.parent_of(code));
            let away = self.between(1, 3) as usize;
            officer(self, commune.clone(), vec![commune.clone()], Work::Shared);
            if let Some(above) = way_up.nth(away) {
                officer(self, above, vec![commune], Work::Shared);
            }
        }
        officers
    }

    /// Adds faults of few kinds, and returns the kinds that were to choose from.
    fn faults(&mut self, scenario: &mut Scenario) -> Vec<&'static str> {
        let rarity = self.one_of(&[2, 4, 8]);
        let kinds: Vec<&str> = What::KINDS.into_iter().filter(|_| self.one_in(rarity)).collect();
        if kinds.is_empty() {
            return kinds;
        }
        for _ in 0..self.between(1, FAULTS_MAX) {
            let kind = self.one_of(&kinds);
            for _ in 0..TRIES {
                if self.fault(scenario, kind) {
                    break;
                }
            }
        }
        kinds
    }

    /// Adds a fault of that kind, if the draw is one that fits.
    fn fault(&mut self, scenario: &mut Scenario, kind: &str) -> bool {
        let until = scenario.lasts;
        let at = self.moment(CALM, until * 19 / 20);
        let Some(what) = self.what(scenario, kind, at) else { return false };
        let longest = until.saturating_sub(at);
        let lasts = match what.takes() {
            Takes::AWhile if !self.one_in(10) => Some(self.length(SECOND, until / 2).min(longest)),
            _ => None,
        };
        let mut with_it = scenario.clone();
        if let What::Gone { node } | What::ForgetVote { node } | What::Rot { node, store: Store::Log, .. } = &what
            && self.one_in(2)
        {
            let at = self.moment(at + REPLACED_AFTER, at + 4 * REPLACED_AFTER);
            with_it.faults.push(Fault { at, lasts: None, what: What::ReplaceNode { node: node.clone() } });
        }
        if let What::Rot { node, store: Store::State, times } = &what
            && matches!(node.which, Which::Number(_))
            && self.one_in(2)
        {
            // So that it cannot make its state again from what it has.
            let what = What::Rot { node: node.clone(), store: Store::Snapshots, times: *times };
            with_it.faults.push(Fault { at, lasts: None, what });
        }
        with_it.faults.push(Fault { at, lasts, what });
        with_it.beyond_promises = with_it.faults.iter().any(|fault| takes_a_lone_disk(&fault.what));
        let fits = with_it.check().is_ok() && loses_little(&with_it);
        if fits {
            *scenario = with_it;
        }
        fits
    }

    /// In whole milliseconds.
    fn moment(&mut self, from: Duration, to: Duration) -> Duration {
        let span = u64::try_from(to.saturating_sub(from).as_millis()).unwrap_or(u64::MAX);
        from + Duration::from_millis(self.below(span))
    }

    fn what(&mut self, scenario: &Scenario, kind: &str, at: Duration) -> Option<What> {
        let tree = &scenario.tree;
        let sites = tree.sites();
        let several: Vec<Site> = sites.iter().filter(|site| site.nodes > 1).cloned().collect();
        let lone: Vec<Site> = sites.iter().filter(|site| site.nodes == 1).cloned().collect();
        let any = self.one_of(&sites);
        let node = self.node(&any);
        // What takes a node out of a site names it, so that nobody is counted twice.
        let numbered = self
            .some_of(&several)
            .map(|site| NodeRef { which: Which::Number(self.between(1, site.nodes.into()) as u8), site: site.code });
        let alone = self.some_of(&lone).map(|site| NodeRef { site: site.code, which: Which::Number(1) });
        let (a, b) = self.line(&sites, &several);
        Some(match kind {
            "dark" => What::Dark { sites: self.part(tree) },
            "cut" => What::Cut { a, b },
            "cut_one_way" if self.one_in(2) => What::CutOneWay { from: a, to: b },
            "cut_one_way" => What::CutOneWay { from: b, to: a },
            "slow" => {
                let latency = self.length(Duration::from_millis(50), 2 * SECOND);
                What::Slow { a, b, bits_per_second: self.one_of(&[9_600, 64_000]), latency }
            }
            "flap" => What::Flap { a, b, every: self.length(SECOND / 5, 20 * SECOND) },
            "lossy" => What::Lossy { a, b, per_mille: self.one_of(&[1, 10, 100, 500]) },
            "crash" => What::Crash { node },
            "kill" => What::Kill { node },
            "older" => What::Older { node },
            "crash_loop" => {
                let times = self.between(2, 6) as u32;
                What::CrashLoop { node, times, every: self.length(SECOND, 20 * SECOND) }
            }
            "pause" => What::Pause { node },
            "isolate" => {
                let site = self.some_of(&several)?;
                What::Isolate { node: self.node(&site) }
            }
            "gone" => What::Gone { node: numbered? },
            "rot" => {
                let times = self.one_of(&[1, 1, 8]);
                match self.below(4) {
                    0 | 1 => What::Rot { node: numbered?, store: Store::Log, times },
                    2 => What::Rot { node: numbered.unwrap_or(node), store: Store::State, times },
                    _ => What::Rot { node, store: self.one_of(&[Store::State, Store::Snapshots]), times },
                }
            }
            "slow_disk" => What::SlowDisk { node, flush: self.length(SECOND / 20, 5 * SECOND) },
            "full_disk" => What::FullDisk { node },
            "failing_disk" => What::FailingDisk { node },
            "lose_disk" => What::LoseDisk { node: alone? },
            "restore" => {
                let backup_at = self.moment(CALM.min(at / 2), at);
                What::Restore { node: alone?, backup_at, twice: self.one_in(3) }
            }
            "forget_vote" => What::ForgetVote { node: numbered? },
            "clock" => {
                let ahead = self.length(SECOND, 400 * 24 * HOUR).as_millis() as i64;
                What::Clock { node, offset_ms: if self.one_in(2) { ahead } else { -ahead } }
            }
            "drift" => What::Drift { node, ppm: self.one_of(&[-50_000, -500, 500, 50_000]) },
            "add_node" => What::AddNode { site: any.code },
            "remove_node" => What::RemoveNode { node: numbered? },
            "replace_node" => What::ReplaceNode { node: numbered? },
            "transfer_leader" => What::TransferLeader { site: self.some_of(&several)?.code },
            "snapshot" => What::Snapshot { site: any.code },
            "raise_level" => What::RaiseLevel { site: any.code, level: LEVEL_MAX },
            // The others of its district, if there are any, have a site from the beginning.
            "add_site" => What::AddSite { site: self.one_of(&tree.communes) },
            "rekey_site" => What::RekeySite { site: any.code, revokes: false },
            "move_site" => {
                let site = self.one_of(&sites[1..]).code;
                let way_up = std::iter::successors(tree.parent_of(&site), |code| tree.parent_of(code));
                let parent = self.one_of(&way_up.collect::<Vec<_>>());
                What::MoveSite { site, parent }
            }
            "thief" => {
                let theft = self.one_of(&Theft::ALL).1;
                // All but the centre, which comes first, have one above.
                What::Thief { site: self.one_of(&sites[1..]).code, theft }
            }
            _ => return None,
        })
    }

    fn node(&mut self, site: &Site) -> NodeRef {
        let which = match self.below(4) {
            0 | 1 => Which::Leader,
            2 if site.nodes > 1 => Which::Follower,
            _ => Which::Number(self.between(1, site.nodes.into()) as u8),
        };
        NodeRef { site: site.code.clone(), which }
    }

    /// The two ends of a line that is used: a site and the one above, or two nodes of a site.
    fn line(&mut self, sites: &[Site], several: &[Site]) -> (Place, Place) {
        if let Some(site) = self.some_of(several).filter(|_| self.one_in(2)) {
            let (code, count) = (&site.code, u64::from(site.nodes));
            let first = self.below(count);
            let second = (first + self.between(1, count - 1)) % count;
            let end = |number| Place::Node(NodeRef { site: code.clone(), which: Which::Number(number as u8 + 1) });
            return (end(first), end(second));
        }
        // All but the centre, which comes first, have one above.
        let below = self.one_of(&sites[1..]);
        let above = Place::Site(below.parent.clone().unwrap_or_else(|| CENTRE.to_owned()));
        let end = if self.one_in(4) { Place::Node(self.node(&below)) } else { Place::Site(below.code) };
        (end, above)
    }

    /// A district with its communes, or any sites.
    fn part(&mut self, tree: &Tree) -> Vec<String> {
        let district = self.one_of(&tree.districts);
        let mut part: Vec<String> = if self.one_in(2) {
            let communes = tree.shards_of(&district);
            std::iter::once(district).chain(communes).collect()
        } else {
            tree.codes().filter(|_| self.one_in(2)).map(str::to_owned).collect()
        };
        if part.is_empty() {
            part.push(tree.province.clone());
        }
        part
    }
}

const fn takes_a_lone_disk(what: &What) -> bool {
    matches!(what, What::LoseDisk { .. } | What::Restore { .. })
}

/// Whether only lone nodes lose a majority, and no site more than one node for good.
fn loses_little(scenario: &Scenario) -> bool {
    let majority_is_lone = {
        let mut without = scenario.clone();
        without.faults.retain(|fault| !takes_a_lone_disk(&fault.what));
        without.may_lose().is_empty()
    };
    let loses = |code: &str| {
        let mut nodes: Vec<&NodeRef> = Vec::new();
        for fault in &scenario.faults {
            if let What::Gone { node }
            | What::ForgetVote { node }
            | What::Rot { node, store: Store::Log | Store::State, .. }
            | What::RemoveNode { node }
            | What::ReplaceNode { node } = &fault.what
                && node.site == code
            {
                nodes.push(node);
            }
        }
        // Who leads may be another node each time.
        let (mut numbered, named): (Vec<&NodeRef>, Vec<&NodeRef>) =
            nodes.into_iter().partition(|node| matches!(node.which, Which::Number(_)));
        numbered.sort();
        numbered.dedup();
        numbered.len() + named.len()
    };
    majority_is_lone && scenario.tree.codes().all(|code| scenario.tree.nodes_of(code) == 1 || loses(code) <= 1)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    const SEEDS: u64 = 600;

    #[test]
    fn a_seed_gives_the_same_scenario_and_another_seed_another() {
        assert_eq!(drawn(7), drawn(7));
        let mut different: Vec<Scenario> = Vec::new();
        for seed in 0..20 {
            let seen = Scenario { seed: 0, name: String::new(), ..drawn(seed) };
            assert!(!different.contains(&seen), "{seed}");
            different.push(seen);
        }
    }

    #[test]
    fn every_scenario_can_be_run_and_written_down() {
        for seed in (0..SEEDS).chain([u64::MAX]) {
            let scenario = drawn(seed);
            assert_eq!(scenario.check(), Ok(()), "{seed}");
            let file = scenario.to_toml();
            assert_eq!(Scenario::parse(&file).as_ref(), Ok(&scenario), "{seed}: {file}");
            assert!(loses_little(&scenario), "{seed}");
            for site in scenario.may_lose() {
                assert_eq!(scenario.tree.nodes_of(&site), 1, "{seed}");
            }
        }
    }

    #[test]
    fn a_swarm_has_every_kind_and_leaves_every_kind_out() {
        let mut runs_with: BTreeMap<&str, u64> = BTreeMap::new();
        let mut works = BTreeSet::new();
        let (mut days, mut calm) = (0, 0);
        for seed in 0..SEEDS {
            let scenario = drawn(seed);
            let kinds: BTreeSet<&str> = scenario.faults.iter().map(|fault| fault.what.kind()).collect();
            calm += u64::from(kinds.is_empty());
            for kind in kinds {
                *runs_with.entry(kind).or_default() += 1;
            }
            works.extend(scenario.officers.iter().map(|officer| officer.does));
            days += u64::from(scenario.lasts >= 12 * HOUR);
        }
        for kind in What::KINDS {
            let runs = runs_with.get(kind).copied().unwrap_or_default();
            assert!((SEEDS / 40..SEEDS / 2).contains(&runs), "{kind}: {runs} of {SEEDS}");
        }
        assert_eq!(works.len(), Work::ALL.len());
        assert!((1..SEEDS / 20).contains(&days), "{days} of {SEEDS} take days");
        assert!(calm < SEEDS / 4, "{calm} of {SEEDS} have no fault");
    }
}
