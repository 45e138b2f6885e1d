//! What makes a scenario one that can be run: units that exist, nodes that are there, times that fit, and no more disks
//! lost than the promises cover.
//!
//! Leaves to others: whether the story makes sense. A crash of a node that is down already is allowed and does nothing.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use dinhba_core::level::LEVEL_MAX;
use dinhba_core::units::Tier;

use super::error::ScenarioError;
use super::{
    CENTRE, Fault, Knobs, NODES_MAX, NodeRef, Officer, Place, Promise, Scenario, Store, Takes, Theft, What, Which,
};
use super::{directory, unit};

/// The most bits that one fault flips: enough to spoil all that a node of a small country holds.
const ROT_MAX: u64 = 1_000;

/// The longest phase: a year of virtual time is more than any promise speaks of, and sums of times stay far from overflow.
const LASTS_MAX: Duration = Duration::from_secs(366 * 86_400);
/// The longest name; it is also a file's name.
const NAME_LETTERS_MAX: usize = 60;
/// Most sites: a run is one thread, and a country of a thousand offices is not what it is for. The largest province fits.
const SITES_MAX: usize = 300;
/// Most officers and most faults, each: more than anybody writes or reads.
const LINES_MAX: usize = 1_000;
/// Waits that a scenario sets are at most this long: latencies and flushes.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// The shortest time between two pieces of work: an officer who never waits would stop the virtual clock.
const EVERY_MIN: Duration = Duration::from_millis(1);
/// After so long a key that is revoked verifies nothing any more, anywhere, if all lines are whole.
const HEARD_WITHIN: Duration = Duration::from_secs(60);
/// A clock that runs a tenth too fast or slow is broken beyond what any machine shows.
const PPM_MAX: u64 = 100_000;
/// Clocks are at most a century off, so that they stay within the calendar.
const OFFSET_MS_MAX: u64 = 100 * 366 * 86_400_000;

type Checked = Result<(), ScenarioError>;

fn wrong(key: impl Into<String>, reason: impl Into<String>) -> Checked {
    Err(ScenarioError::at(key, reason))
}

fn ensure(fits: bool, key: &str, reason: impl Into<String>) -> Checked {
    if fits { Ok(()) } else { wrong(key, reason) }
}

/// Within bounds, and in whole milliseconds, as the nodes' configuration has it.
fn whole_ms(key: &str, length: Duration, range: RangeInclusive<u64>) -> Checked {
    ensure(length.subsec_nanos().is_multiple_of(1_000_000), key, "is not in whole milliseconds")?;
    ensure(u64::try_from(length.as_millis()).is_ok_and(|ms| range.contains(&ms)), key, "is out of bounds")
}

fn within(key: &str, number: u64, range: RangeInclusive<u64>) -> Checked {
    ensure(range.contains(&number), key, format!("is out of bounds with {number}"))
}

fn wait(key: &str, length: Duration) -> Checked {
    ensure(length <= WAIT_MAX, key, "is too long")
}

/// Whether `text` is the code of a unit of that tier.
fn is_unit(text: &str, tier: Tier) -> bool {
    Tier::of_code(text) == Some(tier) && unit(text).is_some()
}

impl Scenario {
    /// Whether it can be run.
    ///
    /// # Errors
    /// The first thing that is wrong, without a line.
    pub fn check(&self) -> Result<(), ScenarioError> {
        let letters = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
        ensure(!self.name.is_empty() && self.name.bytes().all(letters), "name", "is no name")?;
        ensure(self.name.len() <= NAME_LETTERS_MAX, "name", "is too long")?;
        ensure(!self.about.trim().is_empty(), "about", "is empty")?;
        for (key, length) in [("lasts", self.lasts), ("settles_within", self.settles_within)] {
            ensure(!length.is_zero(), key, "is nothing")?;
            ensure(length <= LASTS_MAX, key, "is too long")?;
        }
        let promises: BTreeSet<Promise> = self.promises.iter().copied().collect();
        ensure(promises.len() == self.promises.len(), "promises", "names one twice")?;
        self.check_tree()?;
        self.knobs.check()?;
        wait("network.latency", self.network.latency)?;
        wait("network.jitter", self.network.jitter)?;
        wait("network.latency_inside", self.network.latency_inside)?;
        ensure(self.officers.len() <= LINES_MAX, "officers", format!("has more than {LINES_MAX} entries"))?;
        for (i, officer) in self.officers.iter().enumerate() {
            self.check_officer(&format!("officers[{i}]"), officer)?;
        }
        ensure(self.faults.len() <= LINES_MAX, "faults", format!("has more than {LINES_MAX} entries"))?;
        for (i, fault) in self.faults.iter().enumerate() {
            self.check_fault(&format!("faults[{i}]"), fault)?;
        }
        self.check_nodes()?;
        self.check_losses()
    }

    fn check_tree(&self) -> Checked {
        let tree = &self.tree;
        if !is_unit(&tree.province, Tier::Province) {
            return wrong("tree.province", format!("is no province with {:?}", tree.province));
        }
        let lists = [
            ("tree.districts", Tier::District, &tree.districts, std::slice::from_ref(&tree.province)),
            ("tree.communes", Tier::Commune, &tree.communes, &tree.districts[..]),
        ];
        for (key, tier, codes, above) in lists {
            ensure(!codes.is_empty(), key, "is empty")?;
            for (i, code) in codes.iter().enumerate() {
                let key = format!("{key}[{i}]");
                ensure(is_unit(code, tier), &key, format!("is no {tier} with {code:?}"))?;
                let parent = tree.parent_of(code).unwrap_or_default();
                ensure(above.contains(&parent), &key, format!("lies in {parent}, which is not in the tree"))?;
                ensure(!codes[..i].contains(code), &key, format!("repeats {code}"))?;
            }
        }
        for (i, district) in tree.districts.iter().enumerate() {
            let has_communes = tree.communes.iter().any(|commune| tree.parent_of(commune).as_ref() == Some(district));
            ensure(has_communes, &format!("tree.districts[{i}]"), format!("has no commune of {district}"))?;
        }
        let sites = tree.codes().count();
        ensure(sites <= SITES_MAX, "tree.communes", format!("makes {sites} sites, more than {SITES_MAX}"))?;
        for tier in Tier::ALL {
            within(&format!("tree.nodes.{tier}"), tree.nodes.of(tier).into(), 1..=NODES_MAX.into())?;
        }
        Ok(())
    }

    fn check_officer(&self, key: &str, officer: &Officer) -> Checked {
        let of = |name: &str| format!("{key}.{name}");
        let Some(unit) = unit(&officer.at).filter(|_| self.tree.has(&officer.at)) else {
            return wrong(of("at"), format!("is no unit of the tree with {:?}", officer.at));
        };
        for (i, shard) in officer.shards.iter().enumerate() {
            let key = format!("{key}.shards[{i}]");
            ensure(self.tree.communes.contains(shard), &key, format!("is no commune of the tree with {shard:?}"))?;
            let inside = super::unit(shard).is_some_and(|commune| directory().is_within(commune.id, unit.id));
            ensure(inside, &key, format!("is not in {}, so its site does not hold it, with {shard:?}", officer.at))?;
            ensure(!officer.shards[..i].contains(shard), &key, format!("repeats {shard}"))?;
        }
        ensure(officer.every >= EVERY_MIN, &of("every"), "is too short")?;
        ensure(officer.every <= LASTS_MAX, &of("every"), "is too long")?;
        ensure(officer.starts < self.lasts, &of("starts"), "is not within the scenario")
    }

    fn check_fault(&self, key: &str, fault: &Fault) -> Checked {
        let of = |name: &str| format!("{key}.{name}");
        if let What::AddSite { .. } | What::RekeySite { .. } | What::MoveSite { .. } = &fault.what {
            // What is said by an old directory says again what was so then, and the later word counts.
            let restores = |other: &Fault| matches!(&other.what, What::Restore { node, .. } if node.site == CENTRE);
            ensure(
                !self.faults.iter().any(restores),
                &of("what"),
                "is said at the centre, which comes back from an old copy",
            )?;
        }
        ensure(fault.at < self.lasts, &of("at"), "is not within the scenario")?;
        if let Some(lasts) = fault.lasts {
            let kind = fault.what.kind();
            if fault.what.takes() == Takes::AMoment {
                let reason = format!("has no meaning with {kind:?}, which happens once");
                return Err(ScenarioError::at(of("lasts"), reason).instead("nothing there"));
            }
            ensure(!lasts.is_zero(), &of("lasts"), "is nothing")?;
        }
        let site = |key: &str, code: &str| {
            ensure(self.tree.has(code), &of(key), format!("is no site of the tree with {code:?}"))
        };
        let node = |key: &str, node: &NodeRef| {
            site(key, &node.site)?;
            let is_alone = self.tree.nodes_of(&node.site) < 2 && self.joins(&node.site, fault.at) == 0;
            let follows = node.which == Which::Follower;
            ensure(!(is_alone && follows), &of(key), format!("does not exist, since {} has one node", node.site))
        };
        let place = |key: &str, place: &Place| match place {
            Place::Site(code) => site(key, code),
            Place::Node(at) => node(key, at),
        };
        if let Some((a, b)) = fault.what.ends() {
            let [key_a, key_b] = match fault.what {
                What::CutOneWay { .. } => ["from", "to"],
                _ => ["a", "b"],
            };
            place(key_a, a)?;
            place(key_b, b)?;
            let is_whole = matches!(a, Place::Site(_)) || matches!(b, Place::Site(_));
            let overlap = a == b || (a.site() == b.site() && is_whole);
            ensure(!overlap, &of(key_b), format!("is not apart from `{key_a}`"))?;
        }
        if let Some(at) = fault.what.node() {
            node("node", at)?;
        }
        match &fault.what {
            What::Dark { sites } => {
                ensure(!sites.is_empty(), &of("sites"), "is empty")?;
                for (i, code) in sites.iter().enumerate() {
                    site(&format!("sites[{i}]"), code)?;
                    ensure(!sites[..i].contains(code), &of(&format!("sites[{i}]")), format!("repeats {code}"))?;
                }
            }
            What::Slow { latency, .. } => wait(&of("latency"), *latency)?,
            What::SlowDisk { flush, .. } => wait(&of("flush"), *flush)?,
            What::Flap { every, .. } => ensure(*every >= EVERY_MIN, &of("every"), "is too short")?,
            What::Lossy { per_mille, .. } => within(&of("per_mille"), (*per_mille).into(), 1..=1_000)?,
            What::Rot { times, .. } => within(&of("times"), (*times).into(), 1..=ROT_MAX)?,
            What::CrashLoop { times, every, .. } => {
                ensure(*every >= EVERY_MIN, &of("every"), "is too short")?;
                ensure(*times > 0, &of("times"), "is 0")?;
                ensure(fault.ends(self.lasts) <= self.lasts, &of("times"), "ends after the scenario")?;
            }
            What::LoseDisk { node } | What::Restore { node, .. } => {
                let nodes = self.tree.nodes_of(&node.site);
                if nodes > 1 || self.joins(&node.site, self.lasts) > 0 {
                    let reason = format!("is not at a site of one node: {} has more", node.site);
                    let advice = "a node of a site of one node, or `what = \"replace_node\"`";
                    return Err(ScenarioError::at(of("node"), reason).instead(advice));
                }
                if let What::Restore { backup_at, .. } = fault.what {
                    ensure(backup_at < fault.at, &of("backup_at"), "is not before the copy is needed")?;
                }
            }
            What::Clock { offset_ms, .. } => {
                ensure(offset_ms.unsigned_abs() <= OFFSET_MS_MAX, &of("offset"), "is more than a century")?;
            }
            What::Drift { ppm, .. } => {
                ensure(
                    (1..=PPM_MAX).contains(&ppm.unsigned_abs()),
                    &of("ppm"),
                    format!("is out of bounds with {ppm}"),
                )?;
            }
            What::AddNode { site: code } | What::TransferLeader { site: code } | What::Snapshot { site: code } => {
                site("site", code)?;
            }
            What::RaiseLevel { site: code, level } => {
                site("site", code)?;
                within(&of("level"), (*level).into(), 1..=LEVEL_MAX.into())?;
            }
            What::AddSite { site: code } => {
                site("site", code)?;
                ensure(self.tree.communes.contains(code), &of("site"), format!("is no commune with {code:?}"))?;
                let adds = |other: &&Fault| matches!(&other.what, What::AddSite { site } if site == code);
                ensure(self.faults.iter().filter(adds).count() == 1, &of("site"), format!("is added twice: {code}"))?;
                let are_all = self.added_later().len() == self.tree.communes.len();
                ensure(!are_all, &of("site"), "leaves the tree without a commune at first")?;
            }
            What::RekeySite { site: code, revokes } => {
                site("site", code)?;
                let other =
                    self.faults.iter().find(|other| *revokes && self.is_against_a_revocation(fault, code, other));
                let kind = other.map(|other| other.what.kind()).unwrap_or_default();
                let reason = format!("takes away what {kind:?} at another time of this scenario needs");
                ensure(other.is_none(), &of("revokes"), reason)?;
                // An old copy of a disk does not know the key, and nobody but the centre could tell of it.
                let restores = self.faults.iter().any(|other| matches!(other.what, What::Restore { .. }));
                let is_heard = self.tree.parent_of(code).is_some() || !restores;
                ensure(is_heard, &of("site"), "has nobody above to tell who comes back from an old copy of its key")?;
            }
            What::MoveSite { site: code, parent } => {
                site("site", code)?;
                site("parent", parent)?;
                let is_above = unit(code)
                    .zip(unit(parent))
                    .is_some_and(|(below, above)| below.id != above.id && directory().is_within(below.id, above.id));
                ensure(is_above, &of("parent"), format!("is not above {code}, with {parent:?}"))?;
            }
            What::Thief { site: code, theft } => {
                site("site", code)?;
                let has_parent = self.tree.parent_of(code).is_some();
                ensure(has_parent, &of("site"), format!("has nobody above to speak to, with {code:?}"))?;
                let is_set_back = |other: &Fault| {
                    // What rots beyond mending is lost in the end.
                    let sets_back = other.what.sets_back() || matches!(other.what, What::Rot { .. });
                    sets_back && other.what.sites().contains(&code.as_str())
                };
                let needs_a_life = *theft == Theft::Crowds && self.faults.iter().any(is_set_back);
                ensure(!needs_a_life, &of("theft"), format!("leaves {code} without a life that it needs elsewhere"))?;
            }
            _ => {}
        }
        ensure(fault.ends(self.lasts) <= self.lasts, &of("lasts"), "ends after the scenario")
    }

    /// Whether something bears on keys of a site that are revoked. Who loses what he had does not get it back from others, if it was
    /// signed with such a key; and what a thief says in the moments in which some have heard of it and others have not is held
    /// by some and not by others.
    fn is_against_a_revocation(&self, revokes: &Fault, code: &str, other: &Fault) -> bool {
        match &other.what {
            What::Thief { site, .. } if site == code => {
                other.at < revokes.at.saturating_add(HEARD_WITHIN) && revokes.at < other.ends(self.lasts)
            }
            What::Thief { .. } => false,
            what => what.sets_back() || matches!(what, What::Rot { .. } | What::Gone { .. } | What::AddSite { .. }),
        }
    }

    /// How many nodes join a site before `until`.
    fn joins(&self, code: &str, until: Duration) -> usize {
        let joins = |fault: &&Fault| match &fault.what {
            What::AddNode { site } => site == code && fault.at < until,
            What::ReplaceNode { node } => node.site == code && fault.at < until,
            _ => false,
        };
        self.faults.iter().filter(joins).count()
    }

    /// The nodes that faults name by number are there then.
    fn check_nodes(&self) -> Checked {
        let mut lost: BTreeSet<&NodeRef> = BTreeSet::new();
        let mut left: BTreeSet<&NodeRef> = BTreeSet::new();
        for place in in_time(self) {
            let fault = &self.faults[place];
            let ends = fault.what.ends().map_or([None; 2], |(a, b)| {
                let [key_a, key_b] =
                    if matches!(fault.what, What::CutOneWay { .. }) { ["from", "to"] } else { ["a", "b"] };
                [Some((key_a, a)), Some((key_b, b))]
            });
            let nodes = ends.into_iter().flatten().filter_map(|(key, end)| match end {
                Place::Node(node) => Some((key, node)),
                Place::Site(_) => None,
            });
            for (name, node) in fault.what.node().map(|node| ("node", node)).into_iter().chain(nodes) {
                let Which::Number(number) = node.which else { continue };
                let key = format!("faults[{place}].{name}");
                let there = usize::from(self.tree.nodes_of(&node.site)) + self.joins(&node.site, fault.at);
                ensure(usize::from(number) <= there, &key, format!("is no node of its site with \"{node}\""))?;
                ensure(!left.contains(node), &key, format!("has left its site before, with \"{node}\""))?;
                let takes_out = matches!(fault.what, What::ReplaceNode { .. } | What::RemoveNode { .. });
                ensure(takes_out || !lost.contains(node), &key, format!("was lost before, with \"{node}\""))?;
                match fault.what {
                    What::Gone { .. } | What::ForgetVote { .. } => lost.insert(node),
                    What::ReplaceNode { .. } | What::RemoveNode { .. } => left.insert(node),
                    _ => continue,
                };
            }
        }
        Ok(())
    }

    fn check_losses(&self) -> Checked {
        for (code, nodes) in self.tree.codes().map(|code| (code, usize::from(self.tree.nodes_of(code)))) {
            let added: Vec<usize> = (0..self.faults.len())
                .filter(|&fault| matches!(&self.faults[fault].what, What::AddNode { site } if site == code))
                .collect();
            if let Some(&beyond) = added.get(usize::from(NODES_MAX).saturating_sub(nodes)) {
                return wrong(format!("faults[{beyond}].site"), format!("would have more than {NODES_MAX} nodes"));
            }
        }
        if self.beyond_promises {
            return Ok(());
        }
        let Some(MajorityLost { site, fault }) = majorities_lost(self).into_iter().next() else { return Ok(()) };
        let reason = format!("takes a majority of the disks of {site} for good, which no promise covers");
        let advice = "`beyond_promises = true` at the top, if that is meant";
        Err(ScenarioError::at(format!("faults[{fault}].node"), reason).instead(advice))
    }
}

impl Knobs {
    fn check(&self) -> Checked {
        whole_ms("knobs.heartbeat", self.heartbeat, 10..=10_000)?;
        whole_ms("knobs.election_min", self.election_min, 30..=60_000)?;
        ensure(self.election_min >= 3 * self.heartbeat, "knobs.election_min", "is too short")?;
        whole_ms("knobs.election_max", self.election_max, 31..=60_000)?;
        ensure(self.election_max > self.election_min, "knobs.election_max", "is too short")?;
        within("knobs.snapshot_every", self.snapshot_every, 1..=10_000_000)?;
        within("knobs.keep_entries", self.keep_entries, 0..=10_000_000)?;
        within("knobs.segment_bytes", self.segment_bytes, 512..=1 << 30)?;
        wait("knobs.flush", self.flush)?;
        whole_ms("knobs.link_backoff_min", self.link_backoff_min, 10..=60_000)?;
        whole_ms("knobs.link_backoff_max", self.link_backoff_max, 10..=3_600_000)?;
        ensure(self.link_backoff_max >= self.link_backoff_min, "knobs.link_backoff_max", "is too short")?;
        within("knobs.level", self.level.into(), 1..=LEVEL_MAX.into())
    }
}

/// A fault that takes a majority of a site's disks for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MajorityLost {
    /// Code of the site.
    pub(super) site: String,
    /// The fault's place in the scenario.
    pub(super) fault: usize,
}

/// Nodes of a site, as faults take and bring them.
struct Nodes {
    members: usize,
    /// Those of the members that are lost and not yet replaced. `leader` may be another node each time, so it counts
    /// each time.
    lost: Vec<NodeRef>,
}

impl Nodes {
    fn lose(&mut self, node: &NodeRef) {
        let is_known = matches!(node.which, Which::Number(_)) && self.lost.contains(node);
        if !is_known {
            self.lost.push(node.clone());
        }
    }

    /// It is no longer a member, or another is one in its place.
    fn forget(&mut self, node: &NodeRef) {
        if let Some(last) = self.lost.iter().rposition(|lost| lost == node) {
            self.lost.remove(last);
        }
    }

    fn has_majority(&self) -> bool {
        2 * self.lost.len() < self.members
    }
}

/// The faults that take a majority of a site's disks for good. A replaced node counts as replaced at once: a scenario
/// gives its successor the time to catch up before the next loss.
pub(super) fn majorities_lost(scenario: &Scenario) -> Vec<MajorityLost> {
    let mut found = Vec::new();
    for code in scenario.tree.codes() {
        let mut nodes = Nodes { members: usize::from(scenario.tree.nodes_of(code)), lost: Vec::new() };
        for fault in in_time(scenario) {
            let what = &scenario.faults[fault].what;
            if !what.sites().contains(&code) {
                continue;
            }
            match what {
                What::Gone { node }
                | What::LoseDisk { node }
                | What::Restore { node, .. }
                | What::ForgetVote { node }
                | What::Rot { node, store: Store::Log, .. }
                | What::ReplaceNode { node } => nodes.lose(node),
                // A replica makes a damaged state again, with the snapshot of another where its own is damaged too. Until it has
                // met the damage, and then for a while, it may stand still, and others give it nothing that they have not
                // heard of themselves: counted as lost. A lone node is mended by its parent.
                What::Rot { node, store: Store::State, .. } if nodes.members > 1 => nodes.lose(node),
                What::AddNode { .. } => nodes.members += 1,
                What::RemoveNode { node } => {
                    nodes.forget(node);
                    nodes.members = nodes.members.saturating_sub(1);
                }
                _ => continue,
            }
            if !nodes.has_majority() {
                found.push(MajorityLost { site: code.to_owned(), fault });
            }
            if let What::ReplaceNode { node } = what {
                nodes.forget(node);
            }
        }
    }
    found
}

/// The places of the faults, in the order in which they begin.
fn in_time(scenario: &Scenario) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scenario.faults.len()).collect();
    order.sort_by_key(|&fault| scenario.faults[fault].at);
    order
}
