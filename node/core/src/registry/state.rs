//! What a group's state is made of: the types of its values, but for records, receipts and what a neighbour said.

use crate::command::{Epoch, ShardInfo};
use crate::digest::Digest;
use crate::edit::{Author, Dot};
use crate::ids::{GroupId, Hash, Incarnation, KeyMark, SiteId};
use crate::keys::Keys;
use crate::quality::Quality;
use crate::schema::RecordKind;
use crate::store::StoreError;
use crate::{wire_code, wire_struct};

/// A secret key, and the number by which it is spoken of. Another secret has another number, also at other sites that have it.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// From 1; the highest is the newest.
    pub id: u32,
    /// Known to nobody else.
    pub secret: [u8; 32],
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "key {}", self.id)
    }
}

/// What every replica of a group knows beside its state.
#[derive(Clone)]
pub struct Context {
    /// The group.
    pub group: GroupId,
    /// Keys the search index, so that its keys tell nothing; the same on all nodes of a site, kept outside the data.
    pub index_key: Key,
    /// Keys the digests; the same in the whole country.
    pub digest_key: Key,
    /// The highest feature level that this replica works at: [`LEVEL_MAX`](crate::level::LEVEL_MAX), unless its process
    /// was told to know less. It decides nothing but where the replica stops, and so may differ between replicas.
    pub level_max: u16,
}

impl Context {
    /// The keys of the group's state.
    #[must_use]
    pub fn keys(&self) -> Keys {
        Keys(self.group)
    }

    /// Whether this replica works at a feature level.
    ///
    /// # Errors
    /// The one that stops it: others know the level and go on, and it must not.
    pub fn check_level(&self, level: u16) -> Result<(), StoreError> {
        if level <= self.level_max {
            return Ok(());
        }
        let known = self.level_max;
        Err(StoreError::Newer {
            place: self.group.to_string(),
            detail: format!("it is at feature level {level}, and this version knows up to {known}"),
        })
    }
}

/// The group itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupState {
    /// The site that runs it.
    pub site: SiteId,
    /// Rules and encodings above this level are not used.
    pub level: u16,
    /// The number of the key under which the index is.
    pub index_key: u32,
    /// The number of the key of the digests.
    pub digest_key: u32,
    /// The highest clock of a proposer so far, UTC milliseconds.
    pub time_ms: i64,
    /// The day, counted from 1970, up to which expired receipts were cleared away.
    pub cleared_day: u32,
    /// The name of its access log, beside the group.
    pub incarnation: Incarnation,
    /// Entries in the access log.
    pub access_count: u64,
    /// The access log's chain.
    pub access_hash: Hash,
}

/// A hosted shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardState {
    /// The shard and its place in the tree.
    pub info: ShardInfo,
    /// This site as its author.
    pub own: Author,
    /// The name of this site's stream.
    pub epoch: Epoch,
    /// Edits in the stream: the last position.
    pub arrivals: u64,
    /// The running hash over the stream.
    pub running: Hash,
    /// The digest of all edits.
    pub edits_digest: Digest,
    /// The digest of all records.
    pub state_digest: Digest,
    /// Person records.
    pub persons: u64,
    /// Household records.
    pub households: u64,
    /// Dossiers.
    pub dossiers: u64,
    /// Open conflicts.
    pub conflicts: u64,
    /// Edits set aside that want a higher level or a look: see [`Poison::is_counted`].
    pub poisoned: u64,
    /// Edits that wait for a second person.
    pub pending: u64,
    /// Persons to whom a personal number is due.
    pub unnumbered: u64,
    /// How good its records are.
    pub quality: Quality,
    /// Sites that have had several lives as its authors, or whose chains branch: of these, one request may have been accepted
    /// twice.
    pub reborn: Vec<SiteId>,
}

impl ShardState {
    /// The counter of records of a kind; none of those that only ancestor shards have.
    pub(crate) fn counter(&mut self, kind: RecordKind) -> Option<&mut u64> {
        match kind {
            RecordKind::Person => Some(&mut self.persons),
            RecordKind::Household => Some(&mut self.households),
            RecordKind::Dossier => Some(&mut self.dossiers),
            // No edit of an unknown kind is folded.
            RecordKind::Site
            | RecordKind::Unit
            | RecordKind::Block
            | RecordKind::Target
            | RecordKind::Calendar
            | RecordKind::Unknown(_) => None,
        }
    }

    /// A shard without an edit.
    #[must_use]
    pub fn new(info: ShardInfo, own: Author, epoch: Epoch) -> Self {
        ShardState {
            info,
            own,
            epoch,
            arrivals: 0,
            running: Hash::default(),
            edits_digest: Digest::default(),
            state_digest: Digest::default(),
            persons: 0,
            households: 0,
            dossiers: 0,
            conflicts: 0,
            poisoned: 0,
            pending: 0,
            unnumbered: 0,
            quality: Quality::default(),
            reborn: Vec::new(),
        }
    }
}

/// How far an author's chain, or one of its branches, is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorState {
    /// Who.
    pub author: Author,
    /// Its last edit held.
    pub number: u64,
    /// That edit's hash.
    pub hash: Hash,
    /// The neighbour from which its edits come; none for this site itself.
    pub from: Option<SiteId>,
    /// The key with which its site gave its word for the first of its edits that came, or for one that could not be taken.
    pub key: KeyMark,
    /// Set in the author's first branch when its chain broke.
    pub parked: Option<Parked>,
    /// Where the edit lies from which this branch grew; none for the author's first branch.
    pub trunk: Option<Dot>,
    /// The highest number on the author's other branches; 0 if there are none. Kept in its first branch alone.
    pub aside: u64,
}

/// Why an author's edits are not taken any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parked {
    /// The edit before it is not held, or its command is not whole.
    Chain,
}

/// An edit as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredEdit {
    /// Its position in this site's stream.
    pub position: u64,
    /// Its hash.
    pub hash: Hash,
    /// Its canonical bytes.
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for StoredEdit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {:?}, {} B", self.position, self.hash, self.bytes.len())
    }
}

/// One position of this site's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Where the edit lies.
    pub dot: Dot,
    /// The neighbour it came from; it is not sent back there.
    pub from: Option<SiteId>,
    /// The running hash up to here.
    pub running: Hash,
    /// Whether a batch may end here: after a command of this site, or after all that came in one batch, for whose end there
    /// are [`Seal`](crate::command::Seal)s.
    pub last: bool,
}

/// Why an edit is set aside: it counts in chain and heads, and is not folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Poison {
    /// Its feature level is above the group's; it is folded when the level rises.
    Level,
    /// Its kind, or its record's, or its author's role or purpose is none that the group's level knows, and may be one of a higher
    /// one: it is looked at again when the level rises. Or its record may not be in this sort of shard, which no level changes.
    Kind,
    /// A field, or a part of a value, is none that the group's level knows, and may be one of a higher one: it is looked at again
    /// when the level rises. Or a value is not one of its field, which no level changes.
    Value,
    /// Its site floods the record with edits, and this one is beyond the first of its life: see [`crate::share`]. Looked at
    /// after the others, so that what each of them says of an edit does not change.
    Flood,
    /// Another edit is an acceptance of the same request, and counts.
    Twin,
    /// An officer holds it.
    Held,
    /// An officer rejected it.
    Rejected,
    /// It says of another edit what its author may not say of it.
    Void,
}

wire_struct! {
    GroupState { site, level, index_key, digest_key, time_ms, cleared_day, incarnation, access_count, access_hash }
    ShardState { info, own, epoch, arrivals, running, edits_digest, state_digest, persons, households, dossiers, conflicts, poisoned, pending, unnumbered, quality, reborn }
    AuthorState { author, number, hash, from, key, parked, trunk, aside }
    StoredEdit { position, hash, bytes }
    Arrival { dot, from, running, last }
}
wire_code! { Parked, "reason of parking" { 2 => Chain } }
wire_code! { Poison, "reason of setting aside" {
    1 => Level, 2 => Kind, 3 => Value, 4 => Flood, 5 => Twin, 6 => Held, 7 => Rejected, 8 => Void,
} }

impl Parked {
    /// The word that tables and JSON print.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Parked::Chain => "chain",
        }
    }
}

impl Poison {
    /// Whether it is said by the other edits of its record: then it is judged anew whenever they are folded anew.
    #[must_use]
    pub fn is_by_others(self) -> bool {
        matches!(self, Poison::Twin | Poison::Held | Poison::Rejected | Poison::Void)
    }

    /// Whether somebody must do something about it. What officers decided is as it should be.
    #[must_use]
    pub fn is_counted(self) -> bool {
        !self.is_by_others()
    }

    /// The word that tables and JSON print.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Poison::Level => "level",
            Poison::Kind => "kind",
            Poison::Value => "value",
            Poison::Flood => "flood",
            Poison::Twin => "twin",
            Poison::Held => "held",
            Poison::Rejected => "rejected",
            Poison::Void => "void",
        }
    }
}
