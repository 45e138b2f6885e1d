//! What the access log keeps of each read, and of what operators do to a site; and where such a log stands, as sites tell each other. Who may
//! look at what is in `access`; how entries are chained, in `registry::access`.

use crate::claims::{Case, Claims, Purpose};
use crate::ids::{GroupId, Hash, Incarnation, ShardId};
use crate::{wire_code, wire_struct};

/// What was read, or what an operator did to the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// One record, as it is.
    Record,
    /// A search; `subject` is a keyed hash of it. What it found follows, an entry for each record.
    Find,
    /// A record's history.
    History,
    /// A work list of conflicts. The records on it follow, an entry for each.
    Conflicts,
    /// An extract of a unit.
    Export,
    /// The change feed, before it begins; and a record that a page of it shows.
    Watch,
    /// The access log itself.
    AccessLog,
    /// A sealed backup of everything that the group holds.
    Backup,
    /// A record that an answer showed beside others: what a search found, what a work list told of it.
    Shown,
    /// The members of a household, which is the subject.
    Members,
    /// The households of a person, who is the subject.
    Households,
    /// A node was to be added; for this and the next three `subject` ends with the node's id.
    AddNode,
    /// A node was to be given a vote.
    PromoteNode,
    /// A node was to be removed.
    RemoveNode,
    /// The lead was to be handed to a node.
    TransferLeader,
    /// A snapshot was to be taken.
    Snapshot,
    /// The level was to be raised; `subject` ends with it.
    RaiseLevel,
    /// An author was to be taken again; `subject` is the author.
    ReleaseAuthor,
    /// The directory of the country's sites.
    Sites,
    /// How many events there were.
    Figures,
    /// A work list of what waits for a second person. The records on it follow, an entry for each.
    Pending,
    /// A work list of all that is to be done. The records on it follow, an entry for each.
    Work,
    /// The dossiers of a person, who is the subject.
    Dossiers,
}

/// One read of personal data, as the access log keeps it for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessEntry {
    /// Who.
    pub claims: Claims,
    /// Why.
    pub purpose: Purpose,
    /// For which case.
    pub case: Case,
    /// What.
    pub looked: Looked,
    /// Whose records; `None` for all shards of the group that the caller may see.
    pub shard: Option<ShardId>,
    /// The record, or the keyed hash of the search terms, or what an operator's act is about, or zero.
    pub subject: [u8; 16],
    /// When, UTC milliseconds, by the door's clock.
    pub at_ms: i64,
}

/// An access as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedAccess {
    /// The entry.
    pub entry: AccessEntry,
    /// Whether it was allowed.
    pub allowed: bool,
    /// The chain's hash after this entry.
    pub hash: Hash,
}

/// Where an access log stands. A log is named by its group and by that one's incarnation: whatever is made again from an archive
/// lacks what was looked at since, and goes on under a name of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AccessHead {
    /// Whose reads it has.
    pub group: GroupId,
    /// In which life.
    pub incarnation: Incarnation,
    /// Entries.
    pub count: u64,
    /// The chain's hash after the last of them.
    pub hash: Hash,
    /// The group's time, UTC milliseconds. Of two heads that its log went through, the one with the later time has no fewer
    /// entries.
    pub time_ms: i64,
}

/// What is known of another site's access log by that site's own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessSeen {
    /// The furthest that it was said to stand.
    pub head: AccessHead,
    /// The first word that the log cannot have come to from there: entries were taken out, or others put in their place.
    pub differs: Option<AccessHead>,
}

wire_struct! {
    AccessEntry { claims, purpose, case, looked, shard, subject, at_ms }
    LoggedAccess { entry, allowed, hash }
    AccessHead { group, incarnation, count, hash, time_ms }
    AccessSeen { head, differs }
}

wire_code! { Looked, "kind of read" {
    1 => Record, 2 => Find, 3 => History, 4 => Conflicts, 5 => Export, 6 => Watch, 7 => AccessLog,
    8 => Backup, 9 => Shown, 10 => Members, 11 => Households, 12 => AddNode, 13 => PromoteNode, 14 => RemoveNode,
    15 => TransferLeader, 16 => Snapshot, 17 => RaiseLevel, 18 => ReleaseAuthor, 19 => Sites,
    20 => Figures, 21 => Pending, 22 => Work, 23 => Dossiers,
} }

impl Looked {
    /// The word that tables and JSON print.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Looked::Record => "record",
            Looked::Find => "find",
            Looked::History => "history",
            Looked::Conflicts => "conflicts",
            Looked::Export => "export",
            Looked::Watch => "watch",
            Looked::AccessLog => "access-log",
            Looked::Backup => "backup",
            Looked::Shown => "shown",
            Looked::Members => "members",
            Looked::Households => "households",
            Looked::AddNode => "add-node",
            Looked::PromoteNode => "promote-node",
            Looked::RemoveNode => "remove-node",
            Looked::TransferLeader => "transfer-leader",
            Looked::Snapshot => "snapshot",
            Looked::RaiseLevel => "raise-level",
            Looked::ReleaseAuthor => "release-author",
            Looked::Sites => "sites",
            Looked::Figures => "figures",
            Looked::Pending => "pending",
            Looked::Work => "work",
            Looked::Dossiers => "dossiers",
        }
    }
}
