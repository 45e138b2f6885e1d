//! A run as data: the country, its people, what goes wrong when, and which promises are checked.
//!
//! Owns: the types, their defaults, and the small questions about a tree that everybody asks (which sites, how many nodes,
//! which shards). A [`Scenario`] is all that a run depends on: drawn from a seed, read from a file, or made smaller from a
//! failing one, it is the same type, and equal scenarios give equal runs.
//! Leaves to others: what goes wrong (`fault`) and where (`place`), the promises (`promise`), the file form (`parse`, `write`),
//! which scenarios can be run (`rules`), running them.
//!
//! Units are written as their codes of 2024, which is how operators know them. A site is named by its unit's code. Times
//! count from the beginning of the run, in virtual time.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use dinhba_core::units::{BEFORE_REFORM, Directory, Tier, Unit};

pub use error::ScenarioError;
pub use fault::{Fault, Store, Takes, Theft, What};
pub use place::{NodeRef, Place, RefError, Which};
pub use promise::Promise;
pub use shipped::SHIPPED;

mod error;
mod fault;
mod length;
mod parse;
mod place;
mod promise;
mod rules;
mod shipped;
#[cfg(test)]
mod tests;
mod write;

/// The code of the centre.
pub const CENTRE: &str = "00";
/// Most nodes of a site, as the product has it.
pub const NODES_MAX: u8 = 7;

/// A run.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// What people call it; lower case letters, digits and `_`.
    pub name: String,
    /// What happens and what it shows, for an operator.
    pub about: String,
    /// Decides everything that the scenario leaves open.
    pub seed: u64,
    /// How long the safety phase lasts: officers work and faults happen, and nothing that was promised may break.
    pub lasts: Duration,
    /// How long after all faults have ended the tree may take to be in step and to serve everywhere.
    pub settles_within: Duration,
    /// Whether faults may take a majority of a site's disks for good. What such a site ([`Scenario::may_lose`]) alone held
    /// may then be missing; whatever another site held may not.
    pub beyond_promises: bool,
    /// The sites and their nodes.
    pub tree: Tree,
    /// How nodes are set up.
    pub knobs: Knobs,
    /// What lies between nodes.
    pub network: Network,
    /// Who works.
    pub officers: Vec<Officer>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// What is checked; empty for all.
    pub promises: Vec<Promise>,
}

/// The part of the country that takes part: the centre, a province, some of its districts, some of their communes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// The province's code.
    pub province: String,
    /// Codes of districts of the province.
    pub districts: Vec<String>,
    /// Codes of communes of these districts. Each is the home of one shard.
    pub communes: Vec<String>,
    /// How many nodes the sites have.
    pub nodes: NodesPerTier,
}

/// How many nodes a site has, by its tier; 1 to [`NODES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodesPerTier {
    /// The centre.
    pub central: u8,
    /// The province.
    pub province: u8,
    /// Each district.
    pub district: u8,
    /// Each commune.
    pub commune: u8,
}

/// How nodes are set up; the same everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Knobs {
    /// How often a leader says that it lives.
    pub heartbeat: Duration,
    /// A follower waits at least so long before it stands for election.
    pub election_min: Duration,
    /// And at most so long.
    pub election_max: Duration,
    /// Entries of a group's log between two snapshots.
    pub snapshot_every: u64,
    /// Entries that stay in the log below a snapshot.
    pub keep_entries: u64,
    /// Size of a segment file of the log.
    pub segment_bytes: u64,
    /// How long a flush of the disk takes.
    pub flush: Duration,
    /// A link that broke dials again after at least so long.
    pub link_backoff_min: Duration,
    /// And after at most so long.
    pub link_backoff_max: Duration,
    /// The feature level that groups start with.
    pub level: u16,
}

/// What lies between nodes, until a fault changes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// One way between two sites.
    pub latency: Duration,
    /// Added to each latency: from nothing to this, drawn for each message.
    pub jitter: Duration,
    /// Between two sites, in each direction; 0 for no limit.
    pub bits_per_second: u64,
    /// One way between two nodes of a site.
    pub latency_inside: Duration,
}

/// A person who works at a site, one request after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Officer {
    /// Code of the unit at whose site he works.
    pub at: String,
    /// Codes of the communes whose records he works on; empty for all of his unit.
    pub shards: Vec<String>,
    /// From one piece of work to the next.
    pub every: Duration,
    /// When he begins.
    pub starts: Duration,
    /// How many pieces of work he does; 0 for as many as fit into the safety phase.
    pub edits: u32,
    /// What he does.
    pub does: Work,
    /// Whether he tries again after short timeouts, and sends the same request to two nodes.
    pub impatient: bool,
}

/// What an officer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// Registers births: new records.
    Births,
    /// Issues identity cards: one edit on one of many records.
    Cards,
    /// Edits one legal field of few records, which officers at other tiers edit too: conflicts.
    Shared,
    /// All of them, and reads.
    Mixed,
    /// Looks at records in all ways that there are.
    Reads,
    /// Registers households with their members, and changes several records at once: commands of 2 to 5 parts.
    Families,
    /// Files events: births, deaths, marriages, corrections.
    Events,
    /// Files births alone, of boys and girls.
    Newborns,
    /// As an operator: says where sites are reached, for all below his unit, and looks at what was said.
    Sites,
    /// As an operator of the centre: makes communes.
    Units,
    /// What a caller may do and nobody should: records that grow to their bound, names of requests that are used again,
    /// streams that stand unread, more edits under way than anybody needs.
    Worst,
}

impl Work {
    /// All, with their words in files.
    pub const ALL: [(&'static str, Work); 11] = [
        ("births", Work::Births),
        ("cards", Work::Cards),
        ("shared", Work::Shared),
        ("mixed", Work::Mixed),
        ("reads", Work::Reads),
        ("families", Work::Families),
        ("events", Work::Events),
        ("newborns", Work::Newborns),
        ("sites", Work::Sites),
        ("units", Work::Units),
        ("worst", Work::Worst),
    ];
}

/// The word of `value` in a table of all of its kind.
pub(crate) fn word<T: Copy + PartialEq>(words: &[(&'static str, T)], value: T) -> &'static str {
    words.iter().find(|(_, other)| *other == value).map_or("", |(word, _)| word)
}

impl Default for NodesPerTier {
    /// The least above the communes that outlives the loss of a node.
    fn default() -> Self {
        NodesPerTier { central: 3, province: 3, district: 3, commune: 1 }
    }
}

impl NodesPerTier {
    /// Of a site of `tier`.
    #[must_use]
    pub const fn of(&self, tier: Tier) -> u8 {
        match tier {
            Tier::Central => self.central,
            Tier::Province => self.province,
            Tier::District => self.district,
            Tier::Commune => self.commune,
        }
    }
}

impl Default for Knobs {
    fn default() -> Self {
        Knobs {
            heartbeat: Duration::from_millis(500),
            election_min: Duration::from_millis(1_500),
            election_max: Duration::from_millis(3_000),
            snapshot_every: 1_000,
            keep_entries: 500,
            segment_bytes: 1 << 20,
            flush: Duration::from_millis(2),
            link_backoff_min: Duration::from_millis(200),
            link_backoff_max: Duration::from_secs(30),
            level: 1,
        }
    }
}

impl Default for Network {
    fn default() -> Self {
        Network {
            latency: Duration::from_millis(20),
            jitter: Duration::from_millis(5),
            bits_per_second: 2_000_000,
            latency_inside: Duration::from_micros(500),
        }
    }
}

/// A site of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Its unit's code.
    pub code: String,
    /// Its unit's level.
    pub tier: Tier,
    /// Code of the site above it; none for the centre.
    pub parent: Option<String>,
    /// How many nodes it starts with, numbered from 1.
    pub nodes: u8,
    /// Codes of the communes whose shards it holds, in order.
    pub shards: Vec<String>,
}

/// The units of Vietnam, which scenarios name by their codes of 2024.
#[must_use]
pub fn directory() -> &'static Directory {
    static VIETNAM: LazyLock<Directory> =
        LazyLock::new(|| Directory::vietnam().expect("the lists that are built in are whole"));
    &VIETNAM
}

/// The unit that a scenario means with `code`.
#[must_use]
pub fn unit(code: &str) -> Option<&'static Unit> {
    directory().by_code(code, BEFORE_REFORM)
}

impl Tree {
    /// The codes of all sites, those above before those below.
    pub fn codes(&self) -> impl Iterator<Item = &str> {
        let above = [CENTRE, self.province.as_str()].into_iter();
        above.chain(self.districts.iter().chain(&self.communes).map(String::as_str))
    }

    /// Whether it has a site of that code.
    #[must_use]
    pub fn has(&self, code: &str) -> bool {
        self.codes().any(|site| site == code)
    }

    /// How many nodes the site starts with; 0 for one that is not in the tree.
    #[must_use]
    pub fn nodes_of(&self, code: &str) -> u8 {
        if !self.has(code) {
            return 0;
        }
        Tier::of_code(code).map_or(0, |tier| self.nodes.of(tier))
    }

    /// The communes, in order, whose shards the site holds: those in its unit.
    #[must_use]
    pub fn shards_of(&self, code: &str) -> Vec<String> {
        let Some(above) = unit(code) else { return Vec::new() };
        let inside =
            |commune: &&String| unit(commune).is_some_and(|commune| directory().is_within(commune.id, above.id));
        let mut shards: Vec<String> = self.communes.iter().filter(inside).cloned().collect();
        shards.sort();
        shards
    }

    /// The code of the site above; none for the centre.
    #[must_use]
    pub fn parent_of(&self, code: &str) -> Option<String> {
        directory().get(unit(code)?.parent?).map(|above| above.code.clone())
    }

    /// All sites, those above before those below.
    #[must_use]
    pub fn sites(&self) -> Vec<Site> {
        let site = |code: &str| {
            Some(Site {
                code: code.to_owned(),
                tier: Tier::of_code(code)?,
                parent: self.parent_of(code),
                nodes: self.nodes_of(code),
                shards: self.shards_of(code),
            })
        };
        self.codes().filter_map(site).collect()
    }

    /// How many nodes all sites start with.
    #[must_use]
    pub fn nodes_in_all(&self) -> usize {
        self.codes().map(|code| usize::from(self.nodes_of(code))).sum()
    }
}

impl Officer {
    /// The codes of the communes whose records he works on, in order.
    #[must_use]
    pub fn works_on(&self, tree: &Tree) -> Vec<String> {
        if !self.shards.is_empty() {
            let mut shards = self.shards.clone();
            shards.sort();
            return shards;
        }
        tree.shards_of(&self.at)
    }
}

impl Scenario {
    /// The promises to check.
    #[must_use]
    pub fn promised(&self) -> BTreeSet<Promise> {
        if self.promises.is_empty() {
            Promise::ALL.iter().map(|(_, promise)| *promise).collect()
        } else {
            self.promises.iter().copied().collect()
        }
    }

    /// The codes of communes that have no site at first: one is added later.
    #[must_use]
    pub fn added_later(&self) -> BTreeSet<&str> {
        let added = self.faults.iter().filter_map(|fault| match &fault.what {
            What::AddSite { site } => Some(site.as_str()),
            _ => None,
        });
        added.collect()
    }

    /// The highest feature level that any group is at in the end.
    #[must_use]
    pub fn level_max(&self) -> u16 {
        let raised = self.faults.iter().filter_map(|fault| match fault.what {
            What::RaiseLevel { level, .. } => Some(level),
            _ => None,
        });
        raised.chain([self.knobs.level]).max().unwrap_or(1)
    }

    /// The codes of sites of which a majority of disks is lost for good, so that what they alone held may be missing.
    #[must_use]
    pub fn may_lose(&self) -> BTreeSet<String> {
        rules::majorities_lost(self).into_iter().map(|lost| lost.site).collect()
    }
}
