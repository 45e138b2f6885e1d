//! A run as data: the country, its people, what goes wrong when, and which promises are checked.
//!
//! Owns: the types, their defaults, and the small questions about a tree that everybody asks (which sites, how many nodes,
//! which shards). A [`Scenario`] is all that a run depends on: drawn from a seed, read from a file, or made smaller from a
//! failing one, it is the same type, and equal scenarios give equal runs.
//! Leaves to others: the file form (`parse`, `write`), which scenarios can be run (`rules`), running them.
//!
//! Units are written as their codes of 2024, which is how operators know them. A site is named by its unit's code. Times
//! count from the beginning of the run, in virtual time.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;
use std::time::Duration;

use dinhba_core::units::{BEFORE_REFORM, Directory, Tier, Unit};

pub use error::ScenarioError;
pub use shipped::SHIPPED;

mod error;
mod length;
mod parse;
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
    /// What a caller may do and nobody should: records that grow to their bound, names of requests that are used again,
    /// streams that stand unread, more edits under way than anybody needs.
    Worst,
}

impl Work {
    /// All, with their words in files.
    pub const ALL: [(&'static str, Work); 7] = [
        ("births", Work::Births),
        ("cards", Work::Cards),
        ("shared", Work::Shared),
        ("mixed", Work::Mixed),
        ("reads", Work::Reads),
        ("families", Work::Families),
        ("worst", Work::Worst),
    ];
}

/// Something that goes wrong, or that operators do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// When it begins.
    pub at: Duration,
    /// How long it lasts; absent for until the end of the safety phase, and for what happens in a moment
    /// ([`What::takes`]).
    pub lasts: Option<Duration>,
    /// What it is.
    pub what: What,
}

/// A kind of fault, and whom it meets. "A while" is [`Fault::lasts`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// For a while, nothing passes between these sites and any other, nor between one of them and another. Their insides
    /// work on.
    Dark {
        /// Codes.
        sites: Vec<String>,
    },
    /// For a while, nothing passes between the two, in either direction.
    Cut {
        /// One end.
        a: Place,
        /// The other.
        b: Place,
    },
    /// For a while, what `from` sends does not reach `to`; the other direction works.
    CutOneWay {
        /// Whose messages vanish.
        from: Place,
        /// Whom they were for.
        to: Place,
    },
    /// For a while, a thin and long line between the two.
    Slow {
        /// One end.
        a: Place,
        /// The other.
        b: Place,
        /// In each direction; 0 for no limit.
        bits_per_second: u64,
        /// One way.
        latency: Duration,
    },
    /// For a while, the line is cut, whole, cut and so on, beginning with cut.
    Flap {
        /// One end.
        a: Place,
        /// The other.
        b: Place,
        /// From one change to the next.
        every: Duration,
    },
    /// For a while, connections break.
    Lossy {
        /// One end.
        a: Place,
        /// The other.
        b: Place,
        /// Of 1,000 messages, how many break their connection.
        per_mille: u16,
    },
    /// A power cut: what was not flushed is lost, the last write may be torn. The node starts again after a while.
    Crash {
        /// Which.
        node: NodeRef,
    },
    /// The process is killed; the machine, and so what was written, stays. The node starts again after a while.
    Kill {
        /// Which.
        node: NodeRef,
    },
    /// For a while the node runs an older program, which knows the first feature level alone: it is killed and started as that, and
    /// at the end killed and started as this one. At a site above that level the older one does not run.
    Older {
        /// Which.
        node: NodeRef,
    },
    /// A power cut again and again; the node starts at once after each.
    CrashLoop {
        /// Which.
        node: NodeRef,
        /// How often.
        times: u32,
        /// From one cut to the next.
        every: Duration,
    },
    /// For a while the machine stands still and does not know it.
    Pause {
        /// Which.
        node: NodeRef,
    },
    /// No line between a node and the others of its site; its clients and other sites reach it as before.
    Isolate {
        /// Which.
        node: NodeRef,
    },
    /// The node and its disk never come back.
    Gone {
        /// Which.
        node: NodeRef,
    },
    /// Bits flip in data that was flushed long ago.
    Rot {
        /// Where.
        node: NodeRef,
        /// In which files.
        store: Store,
        /// How many bits, each somewhere: 1 to 1,000.
        times: u32,
    },
    /// For a while flushes take longer.
    SlowDisk {
        /// Where.
        node: NodeRef,
        /// How long a flush takes.
        flush: Duration,
    },
    /// For a while nothing more fits on the disk.
    FullDisk {
        /// Where.
        node: NodeRef,
    },
    /// For a while writes and flushes fail. What was flushed before stays.
    FailingDisk {
        /// Where.
        node: NodeRef,
    },
    /// The machine fails, and after a while the node starts with an empty disk. At a site of one node only; elsewhere a
    /// node is replaced ([`What::ReplaceNode`]).
    LoseDisk {
        /// Which.
        node: NodeRef,
    },
    /// The machine fails, and after a while the node starts with a copy of its disk. At a site of one node only.
    Restore {
        /// Which.
        node: NodeRef,
        /// When the copy was taken.
        backup_at: Duration,
        /// Whether, once the node serves again, the same copy is put back a second time.
        twice: bool,
    },
    /// A power cut, after which the node comes back without its vote. It must be refused.
    ForgetVote {
        /// Which.
        node: NodeRef,
    },
    /// For a while the node's wall clock is off; it jumps to the wrong time and back.
    Clock {
        /// Which.
        node: NodeRef,
        /// By how much; positive for a clock that is ahead.
        offset_ms: i64,
    },
    /// For a while the node's clocks run at the wrong pace.
    Drift {
        /// Which.
        node: NodeRef,
        /// Parts in a million; positive for a clock that runs fast.
        ppm: i64,
    },
    /// A new node joins the site, under the next number.
    AddNode {
        /// Code.
        site: String,
    },
    /// The node is taken out of its site and switched off.
    RemoveNode {
        /// Which.
        node: NodeRef,
    },
    /// The node fails for good; it is taken out of its site, and a new one joins under the next number.
    ReplaceNode {
        /// Which; it may be gone already.
        node: NodeRef,
    },
    /// The leaders of the site hand over to other nodes.
    TransferLeader {
        /// Code.
        site: String,
    },
    /// All nodes of the site take a snapshot now.
    Snapshot {
        /// Code.
        site: String,
    },
    /// An operator raises the feature level of the site's groups; the sites around it go on at theirs.
    RaiseLevel {
        /// Code.
        site: String,
        /// To which level; nothing happens if the groups are at it.
        level: u16,
    },
    /// For a while, somebody who has the key of a site speaks to the site above in its name, beside the site itself.
    Thief {
        /// Code of the site whose key was stolen: one that has a site above.
        site: String,
        /// What he is after.
        theft: Theft,
    },
}

/// What a thief of a site's key is after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Theft {
    /// Nothing that may be taken: garbage, lies about cursors and heads, edits of others, edits without their author's word,
    /// commands that are not whole.
    Forges,
    /// What must be taken, since the key says so: forks of the site's own chains, overwrites of what is not there, kinds and
    /// levels that nobody knows, edits as large as may be.
    Forks,
    /// Lives of the site by the thousand. Once as many are known as may be, a site that needs a new one gets none: not
    /// together with faults that set it back.
    Crowds,
}

impl Theft {
    /// All, with their words in files.
    pub const ALL: [(&'static str, Theft); 3] =
        [("forges", Theft::Forges), ("forks", Theft::Forks), ("crowds", Theft::Crowds)];
}

/// What a fault's [`Fault::lasts`] means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// A state that begins and ends; until the end of the safety phase if it does not say.
    AWhile,
    /// It happens in a moment, or says itself how long it takes; it has no [`Fault::lasts`].
    AMoment,
}

impl What {
    /// All kinds, by their words in files and tables.
    pub const KINDS: [&'static str; 29] = [
        "dark",
        "cut",
        "cut_one_way",
        "slow",
        "flap",
        "lossy",
        "crash",
        "kill",
        "older",
        "crash_loop",
        "pause",
        "isolate",
        "gone",
        "rot",
        "slow_disk",
        "full_disk",
        "failing_disk",
        "lose_disk",
        "restore",
        "forget_vote",
        "clock",
        "drift",
        "add_node",
        "remove_node",
        "replace_node",
        "transfer_leader",
        "snapshot",
        "raise_level",
        "thief",
    ];

    /// The word for its kind, one of [`What::KINDS`].
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            What::Dark { .. } => "dark",
            What::Cut { .. } => "cut",
            What::CutOneWay { .. } => "cut_one_way",
            What::Slow { .. } => "slow",
            What::Flap { .. } => "flap",
            What::Lossy { .. } => "lossy",
            What::Crash { .. } => "crash",
            What::Kill { .. } => "kill",
            What::Older { .. } => "older",
            What::CrashLoop { .. } => "crash_loop",
            What::Pause { .. } => "pause",
            What::Isolate { .. } => "isolate",
            What::Gone { .. } => "gone",
            What::Rot { .. } => "rot",
            What::SlowDisk { .. } => "slow_disk",
            What::FullDisk { .. } => "full_disk",
            What::FailingDisk { .. } => "failing_disk",
            What::LoseDisk { .. } => "lose_disk",
            What::Restore { .. } => "restore",
            What::ForgetVote { .. } => "forget_vote",
            What::Clock { .. } => "clock",
            What::Drift { .. } => "drift",
            What::AddNode { .. } => "add_node",
            What::RemoveNode { .. } => "remove_node",
            What::ReplaceNode { .. } => "replace_node",
            What::TransferLeader { .. } => "transfer_leader",
            What::Snapshot { .. } => "snapshot",
            What::RaiseLevel { .. } => "raise_level",
            What::Thief { .. } => "thief",
        }
    }

    /// Whether it lasts.
    #[must_use]
    pub const fn takes(&self) -> Takes {
        match self {
            What::CrashLoop { .. }
            | What::Gone { .. }
            | What::Rot { .. }
            | What::AddNode { .. }
            | What::RemoveNode { .. }
            | What::ReplaceNode { .. }
            | What::TransferLeader { .. }
            | What::Snapshot { .. }
            | What::RaiseLevel { .. } => Takes::AMoment,
            _ => Takes::AWhile,
        }
    }

    /// The node that it meets, if it meets one.
    #[must_use]
    pub const fn node(&self) -> Option<&NodeRef> {
        match self {
            What::Crash { node }
            | What::Kill { node }
            | What::Older { node }
            | What::CrashLoop { node, .. }
            | What::Pause { node }
            | What::Isolate { node }
            | What::Gone { node }
            | What::Rot { node, .. }
            | What::SlowDisk { node, .. }
            | What::FullDisk { node }
            | What::FailingDisk { node }
            | What::LoseDisk { node }
            | What::Restore { node, .. }
            | What::ForgetVote { node }
            | What::Clock { node, .. }
            | What::Drift { node, .. }
            | What::RemoveNode { node }
            | What::ReplaceNode { node } => Some(node),
            _ => None,
        }
    }

    /// The two ends of the line that it meets, if it meets one; of a one-way cut, from and to.
    #[must_use]
    pub const fn ends(&self) -> Option<(&Place, &Place)> {
        match self {
            What::Cut { a, b } | What::Slow { a, b, .. } | What::Flap { a, b, .. } | What::Lossy { a, b, .. } => {
                Some((a, b))
            }
            What::CutOneWay { from, to } => Some((from, to)),
            _ => None,
        }
    }

    /// The codes of all sites that it names.
    #[must_use]
    pub fn sites(&self) -> Vec<&str> {
        match self {
            What::Dark { sites } => sites.iter().map(String::as_str).collect(),
            What::AddNode { site }
            | What::TransferLeader { site }
            | What::Snapshot { site }
            | What::RaiseLevel { site, .. }
            | What::Thief { site, .. } => vec![site],
            other => match (other.node(), other.ends()) {
                (Some(node), _) => vec![&node.site],
                (None, Some((a, b))) => vec![a.site(), b.site()],
                (None, None) => Vec::new(),
            },
        }
    }
}

/// Files of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Store {
    /// The groups' log and votes.
    Log,
    /// The records and their indexes.
    State,
    /// The snapshots of the groups.
    Snapshots,
}

impl Store {
    /// All, with their words in files.
    pub const ALL: [(&'static str, Store); 3] =
        [("log", Store::Log), ("state", Store::State), ("snapshots", Store::Snapshots)];
}

/// A node: `10/1`, `10/leader`, `10/follower`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeRef {
    /// Code of its site.
    pub site: String,
    /// Which of the site's.
    pub which: Which,
}

/// Which node of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    /// By number, from 1. A node that joins later has the next; numbers are never used again.
    Number(u8),
    /// Whoever leads the site's first group when the fault begins.
    Leader,
    /// The first by number, when the fault begins, of those that do not lead the site's first group.
    Follower,
}

/// An end of a line: a whole site (`10`) or a node (`10/2`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// All nodes of the site with this code.
    Site(String),
    /// One node.
    Node(NodeRef),
}

impl Place {
    /// The code of its site.
    #[must_use]
    pub fn site(&self) -> &str {
        match self {
            Place::Site(code) => code,
            Place::Node(node) => &node.site,
        }
    }
}

/// The text names no node, or no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it must be a code, a `/` and a number from 1, `leader` or `follower`")]
pub struct RefError;

impl fmt::Display for NodeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.which {
            Which::Number(number) => write!(f, "{}/{number}", self.site),
            Which::Leader => write!(f, "{}/leader", self.site),
            Which::Follower => write!(f, "{}/follower", self.site),
        }
    }
}

impl FromStr for NodeRef {
    type Err = RefError;
    fn from_str(text: &str) -> Result<Self, RefError> {
        let (site, which) = text.split_once('/').ok_or(RefError)?;
        let which = match which {
            "leader" => Which::Leader,
            "follower" => Which::Follower,
            number => match number.parse() {
                // One way to write it, so that equal files mean equal things.
                Ok(n) if n > 0 && !number.starts_with(['0', '+']) => Which::Number(n),
                _ => return Err(RefError),
            },
        };
        Ok(NodeRef { site: site.to_owned(), which })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Site(code) => f.write_str(code),
            Place::Node(node) => node.fmt(f),
        }
    }
}

impl FromStr for Place {
    type Err = RefError;
    fn from_str(text: &str) -> Result<Self, RefError> {
        if text.contains('/') { text.parse().map(Place::Node) } else { Ok(Place::Site(text.to_owned())) }
    }
}

/// A check, one file each in `checks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// What clients of a site saw could have come from one register at a time.
    Linearizable,
    /// Nodes of a group are equal byte for byte at equal applied index.
    ReplicasAgree,
    /// Every author's edits are chained without a gap.
    ChainsHold,
    /// After healing, all sites of a shard hold the same.
    Converges,
    /// What was acknowledged is visible, replaced by who had seen it, in conflict, or held.
    NothingLost,
    /// Heads, terms and finality never go back.
    NeverBack,
    /// After healing, everything works within [`Scenario::settles_within`].
    Alive,
    /// No site states edits that it does not hold.
    StatementsTrue,
    /// A link that was cut goes on where it stood.
    LinksGoOn,
    /// A site that lost nothing keeps its incarnation.
    NamesStay,
    /// Whatever showed a record is in the access log, and was there before.
    ReadsLogged,
    /// What a replica keeps beside its edits follows from them.
    DigestsTrue,
    /// No replica shows a part of a command.
    CommandsWhole,
    /// Nobody's edits are another's.
    NothingForged,
    /// What callers and thieves leave behind stays within its bounds.
    BoundsHold,
}

impl Promise {
    /// All, with their words in files.
    pub const ALL: [(&'static str, Promise); 15] = [
        ("linearizable", Promise::Linearizable),
        ("replicas_agree", Promise::ReplicasAgree),
        ("chains_hold", Promise::ChainsHold),
        ("converges", Promise::Converges),
        ("nothing_lost", Promise::NothingLost),
        ("never_back", Promise::NeverBack),
        ("alive", Promise::Alive),
        ("statements_true", Promise::StatementsTrue),
        ("links_go_on", Promise::LinksGoOn),
        ("names_stay", Promise::NamesStay),
        ("reads_logged", Promise::ReadsLogged),
        ("digests_true", Promise::DigestsTrue),
        ("commands_whole", Promise::CommandsWhole),
        ("nothing_forged", Promise::NothingForged),
        ("bounds_hold", Promise::BoundsHold),
    ];

    /// Its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        word(&Self::ALL, self)
    }
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

impl Fault {
    /// When it is over, in a scenario whose safety phase lasts `until`. What happens in a moment is over at once; a loop of
    /// crashes after its last.
    #[must_use]
    pub fn ends(&self, until: Duration) -> Duration {
        match (&self.what, self.what.takes()) {
            (What::CrashLoop { times, every, .. }, _) => self.at.saturating_add(every.saturating_mul(*times)),
            (_, Takes::AMoment) => self.at,
            (_, Takes::AWhile) => self.lasts.map_or(until, |lasts| self.at.saturating_add(lasts)),
        }
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
