//! What goes wrong, or what operators do: the kinds of faults, and whom each meets.

use std::time::Duration;

use super::{NodeRef, Place};

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
    /// A commune of the tree has no site until then: operators of the centre add it to the directory, and it is founded with the
    /// place file that they are given.
    AddSite {
        /// Code of the commune.
        site: String,
    },
    /// Operators of the centre give a site another key, which the directory says first, and start its nodes again with it, one
    /// after the other.
    RekeySite {
        /// Code.
        site: String,
        /// Whether the former keys verify nothing any more, once every site holds what they signed; if that does not happen
        /// within the safety phase, they go on verifying.
        revokes: bool,
    },
    /// Operators of the centre link a site below another one of those above it; nobody restarts it.
    MoveSite {
        /// Code.
        site: String,
        /// Code of the site that is above it from then on.
        parent: String,
    },
    /// For a while, somebody who has the key of a site speaks to the site above in its name, beside the site itself. One who comes
    /// again has the key that was stolen first.
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
    /// levels that nobody knows, one record flooded with edits as large as may be.
    Forks,
    /// Lives of the site by the thousand, and secrets of a session. Once as many are known as may be, a site that needs a new
    /// one gets none under this key: not together with faults that set it back, and where the site has not written yet only if it gets
    /// another key afterwards.
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
    pub const KINDS: [&'static str; 32] = [
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
        "add_site",
        "rekey_site",
        "move_site",
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
            What::AddSite { .. } => "add_site",
            What::RekeySite { .. } => "rekey_site",
            What::MoveSite { .. } => "move_site",
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
            | What::RaiseLevel { .. }
            | What::AddSite { .. }
            | What::RekeySite { .. }
            | What::MoveSite { .. } => Takes::AMoment,
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

    /// Whether it takes from a site's node what the node was told was kept, or gives its chains a second hand: afterwards its
    /// site may need a new life.
    #[must_use]
    pub const fn sets_back(&self) -> bool {
        matches!(
            self,
            What::LoseDisk { .. }
                | What::Restore { .. }
                | What::ForgetVote { .. }
                | What::Thief { theft: Theft::Forks, .. }
        )
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
            | What::AddSite { site }
            | What::RekeySite { site, .. }
            | What::Thief { site, .. } => vec![site],
            What::MoveSite { site, parent } => vec![site, parent],
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
