//! What a backup holds of a site, and what it is made from: a pure format, the same at the node that gives it out, the
//! client that keeps it and the node that is restored from it.
//!
//! The edit log is the database, so an archive is that log: of each shard the edits in the order of their arrival, of each
//! group its access log, and at the end of each backup a [`Summary`] of what they fold to. Both logs only ever grow and
//! never change, so a backup is "what lies above the last one", consistent without holding the site up, and there is one
//! kind of it: the first begins at nothing. (An archive of the folded state would restore faster, but would need a new base
//! again and again, and a list of what changed since.)
//!
//! A backup is a list of [`Frame`]s: a [`Begin`], [`Piece`]s, a [`Summary`]. `proto/ARCHIVE.md` specifies the file around
//! them. What is open to read in a frame are ids, positions, counts and hashes; the rest is sealed by the node.
//!
//! Left out, since others tell it again at the first contact: the statements of other sites, cursors in their streams, and
//! whose chain does not fit. Limit: a conflict's age is counted from its edits, not from when they arrived here.

mod refill;

use std::collections::BTreeMap;

pub use refill::{Life, Misfit, RefillError, refill_accesses, refill_edits, refound};

use crate::access_log::LoggedAccess;
use crate::claims::SUBJECT_BYTES_MAX;
use crate::command::{Cursor, Epoch, Item, ShardInfo};
use crate::digest::Digest;
use crate::encoding::{Malformed, Wire};
use crate::ids::{AuthorId, GroupId, Hash, Incarnation, NodeId, SessionId, ShardId, SiteId};
use crate::keys::Keys;
use crate::place::PlaceEntry;
use crate::registry::{Arrival, GroupState, ShardState, corrupt, read, read_range};
use crate::store::{StateView, StoreError};
use crate::sync::{Here, Skip, position_of};
use crate::{wire_enum, wire_struct};

/// The longest frame: edits of [`PIECE_BYTES`] and one more command or batch, or the directory of a country.
pub const FRAME_BYTES_MAX: usize = 3 << 20;

/// Edits or accesses in one piece before compression: a page that costs little memory, and little to send again.
pub const PIECE_BYTES: usize = 256 << 10;

/// Accesses read for one piece. Each has at most a few hundred bytes beside its subject and case.
const ACCESSES_MAX: usize = PIECE_BYTES / (2 * SUBJECT_BYTES_MAX);

/// One part of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The first.
    Begin(Begin),
    /// A stretch of one log.
    Piece(Piece),
    /// The last.
    Summary(Summary),
}

/// Which backup it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    /// Whose.
    pub site: SiteId,
    /// Its number in its archive, from 1.
    pub number: u64,
    /// The hash at the end of the backup before it; zero for the first.
    pub previous: Hash,
}

/// A log of a group: the edits of a shard, or its accesses.
pub type LogName = (GroupId, Option<ShardId>);

/// Up to where logs are held: the last position (0 for nothing) and the hash there.
pub type Reached = BTreeMap<LogName, (u64, Hash)>;

/// A stretch of one log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The group.
    pub group: GroupId,
    /// The shard whose edits these are; none for the group's access log.
    pub shard: Option<ShardId>,
    /// Where it begins: after this position.
    pub after: u64,
    /// Its last position.
    pub to: u64,
    /// The log's hash there: the stream's running hash, or that of the access log's chain.
    pub hash: Hash,
    /// A [`Content`], compressed and sealed.
    pub sealed: Vec<u8>,
}

/// What a piece holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Edits.
    Edits(Edits),
    /// Accesses.
    Accesses(Vec<LoggedAccess>),
}

/// A stretch of a shard's edits, in the order of arrival; it never splits a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edits {
    /// The edits.
    pub items: Vec<Item>,
    /// The neighbour each came from, if any, as runs: how many edits in a row, and whence. What came in one batch is one run.
    pub sources: Vec<(u32, Option<SiteId>)>,
    /// The words of the sites of those that came from neighbours: which of the items, from 0, and the signature.
    pub seals: Vec<(u32, [u8; 64])>,
    /// The secrets of their sessions.
    pub secrets: Vec<(AuthorId, SessionId, [u8; 32])>,
}

/// What a backup and those before it fold to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Whose.
    pub site: SiteId,
    /// The node that gave it out.
    pub node: NodeId,
    /// When, UTC milliseconds, by that node's clock: everything that was acknowledged before is in it.
    pub taken_ms: i64,
    /// The groups, in order.
    pub groups: Vec<GroupSummary>,
    /// The directory (a list of [`PlaceEntry`]), compressed and sealed.
    pub sealed: Vec<u8>,
}

/// A group at the moment of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSummary {
    /// The group.
    pub group: GroupId,
    /// Its feature level.
    pub level: u16,
    /// The last entry of its log that is in the backup.
    pub applied: u64,
    /// Its nodes there, in order, those without a vote too.
    pub members: Vec<NodeId>,
    /// The number of the key of its shards' digests.
    pub digest_key: u32,
    /// The last entry of its access log.
    pub accesses: u64,
    /// That entry's hash.
    pub access_hash: Hash,
    /// Its shards, in order.
    pub shards: Vec<ShardSummary>,
}

/// A shard at the moment of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardSummary {
    /// The shard and its place in the tree.
    pub info: ShardInfo,
    /// The life in which the site numbered its edits.
    pub incarnation: Incarnation,
    /// Edits.
    pub edits: u64,
    /// The running hash over them.
    pub running: Hash,
    /// Their digest.
    pub edits_digest: Digest,
    /// The digest of the records folded from them.
    pub state_digest: Digest,
    /// Person records.
    pub persons: u64,
    /// Household records.
    pub households: u64,
    /// Open conflicts.
    pub conflicts: u64,
    /// Edits set aside.
    pub set_aside: u64,
}

wire_struct! {
    Begin { site, number, previous }
    Piece { group, shard, after, to, hash, sealed }
    Edits { items, sources, seals, secrets }
    Summary { site, node, taken_ms, groups, sealed }
    GroupSummary { group, level, applied, members, digest_key, accesses, access_hash, shards }
    ShardSummary {
        info, incarnation, edits, running, edits_digest, state_digest, persons, households, conflicts, set_aside,
    }
}
wire_enum! { Frame, "frame of an archive" { 1 => Begin, 2 => Piece, 3 => Summary } }
wire_enum! { Content, "content of an archive" { 1 => Edits, 2 => Accesses } }

impl Piece {
    /// The log that it is of.
    #[must_use]
    pub fn log(&self) -> LogName {
        (self.group, self.shard)
    }

    /// Where its content is sealed: bytes that were sealed for one place do not open at another.
    #[must_use]
    pub fn place(&self, site: SiteId) -> Vec<u8> {
        let Piece { group, shard, after, to, hash, sealed: _ } = self;
        let mut place = b"archive piece ".to_vec();
        (site, *group, *shard).encode(&mut place);
        (*after, *to, *hash).encode(&mut place);
        place
    }
}

impl Summary {
    /// Where the directory is sealed.
    #[must_use]
    pub fn place(&self) -> Vec<u8> {
        let mut place = b"archive summary ".to_vec();
        (self.site, self.taken_ms).encode(&mut place);
        place
    }

    /// Up to where the logs go.
    #[must_use]
    pub fn reached(&self) -> Reached {
        let logs = self.groups.iter().flat_map(|group| {
            let accesses = ((group.group, None), (group.accesses, group.access_hash));
            let edits =
                group.shards.iter().map(|shard| ((group.group, Some(shard.info.shard)), (shard.edits, shard.running)));
            std::iter::once(accesses).chain(edits)
        });
        logs.collect()
    }

    /// Edits of all shards.
    #[must_use]
    pub fn edits(&self) -> u64 {
        self.groups.iter().flat_map(|group| &group.shards).map(|shard| shard.edits).sum()
    }
}

/// Adds a piece to what is held, if it follows on it; else says what does not fit.
pub fn advance(reached: &mut Reached, piece: &Piece) -> Result<(), String> {
    let at = reached.get(&piece.log()).map_or(0, |(position, _)| *position);
    if piece.after != at || piece.to <= at {
        let log = log_text(piece.log());
        return Err(format!("{log}: positions {} to {} where {} is next", piece.after + 1, piece.to, at + 1));
    }
    reached.insert(piece.log(), (piece.to, piece.hash));
    Ok(())
}

/// A log's name for people.
#[must_use]
pub fn log_text((group, shard): LogName) -> String {
    match shard {
        Some(shard) => format!("edits of {shard}"),
        None => format!("access log of {group}"),
    }
}

impl GroupSummary {
    /// What a group is at this moment, as `view` shows it; nothing until it is formed. Where its log stands and who its
    /// members are is the Raft adapter's to know.
    pub fn read(
        view: &dyn StateView,
        group: GroupId,
        applied: u64,
        members: Vec<NodeId>,
    ) -> Result<Option<Self>, StoreError> {
        let keys = Keys(group);
        let Some(state) = read::<GroupState>(view, &keys.group())? else { return Ok(None) };
        let shards = read_range::<ShardState>(view, keys.shards())?.into_iter().map(|(_, shard)| summary(shard));
        Ok(Some(GroupSummary {
            group,
            level: state.level,
            applied,
            members,
            digest_key: state.digest_key,
            accesses: state.access_count,
            access_hash: state.access_hash,
            shards: shards.collect(),
        }))
    }
}

fn summary(shard: ShardState) -> ShardSummary {
    ShardSummary {
        info: shard.info,
        incarnation: shard.own.incarnation,
        edits: shard.arrivals,
        running: shard.running,
        edits_digest: shard.edits_digest,
        state_digest: shard.state_digest,
        persons: shard.persons,
        households: shard.households,
        conflicts: shard.conflicts,
        set_aside: shard.poisoned,
    }
}

/// Whether a log goes through this position with this hash: an archive that does not is of another life of the site.
pub fn goes_through(view: &dyn StateView, log: LogName, (position, hash): (u64, Hash)) -> Result<bool, StoreError> {
    let keys = Keys(log.0);
    if position == 0 {
        return Ok(hash == Hash::default());
    }
    Ok(match log.1 {
        Some(shard) => read::<Arrival>(view, &keys.arrival(shard, position))?.is_some_and(|at| at.running == hash),
        None => read::<LoggedAccess>(view, &keys.access(position))?.is_some_and(|at| at.hash == hash),
    })
}

/// The next piece of a log after a position, up to `last`, and its content; nothing where it ends.
pub fn next_piece(
    view: &dyn StateView,
    log: LogName,
    after: u64,
    last: u64,
) -> Result<Option<(Piece, Content)>, StoreError> {
    if after >= last {
        return Ok(None);
    }
    let (group, shard) = log;
    let (to, hash, content) = match shard {
        Some(shard) => edits_after(view, Keys(group), shard, after, last)?,
        None => accesses_after(view, Keys(group), after, last)?,
    };
    Ok(Some((Piece { group, shard, after, to, hash, sealed: Vec::new() }, content)))
}

fn edits_after(
    view: &dyn StateView,
    keys: Keys,
    shard: ShardId,
    after: u64,
    last: u64,
) -> Result<(u64, Hash, Content), StoreError> {
    let here = Here { view, keys };
    let missing = |what| corrupt(&keys.arrival(shard, after + 1), Malformed { what });
    let state = here.shard(shard)?.ok_or_else(|| missing("archive: the shard is missing"))?;
    let start = Cursor { epoch: Epoch::default(), position: after, running: Hash::default() };
    let (batch, _, scanned) = here.batch(&state, start, after, &Skip::default(), PIECE_BYTES)?;
    // The stream may have grown since the summary was made: by whole commands of this site and whole batches of neighbours.
    let (to, mut items) = (scanned.min(last), batch.items);
    items.truncate(usize::try_from(to - after).unwrap_or(usize::MAX));
    let mut sources: Vec<(u32, Option<SiteId>)> = Vec::new();
    let (mut running, mut is_ended) = (Hash::default(), true);
    for item in view.scan(&keys.arrival(shard, after + 1), &keys.arrival(shard, to + 1)) {
        let (key, value) = item?;
        let arrival = Arrival::from_bytes(&value).map_err(|error| corrupt(&key, error))?;
        running = arrival.running;
        match sources.last_mut() {
            Some((count, source)) if *source == arrival.from && (source.is_none() || !is_ended) => *count += 1,
            _ => sources.push((1, arrival.from)),
        }
        is_ended = arrival.last;
    }
    let seals = read_range::<[u8; 64]>(view, (keys.seal(shard, after + 1), keys.seal(shard, to + 1)))?.into_iter();
    let seals = seals.map(|(key, signature)| Ok(((position_of(&key)? - after - 1) as u32, signature)));
    let seals: Vec<(u32, [u8; 64])> = seals.collect::<Result<_, StoreError>>()?;
    let count: u64 = sources.iter().map(|(count, _)| u64::from(*count)).sum();
    if to <= after || count != to - after || items.len() as u64 != count {
        return Err(missing("archive: an edit is missing"));
    }
    Ok((to, running, Content::Edits(Edits { items, sources, seals, secrets: batch.secrets })))
}

fn accesses_after(view: &dyn StateView, keys: Keys, after: u64, last: u64) -> Result<(u64, Hash, Content), StoreError> {
    let to = last.min(after + ACCESSES_MAX as u64);
    let range = (keys.access(after + 1), keys.access(to + 1));
    let accesses: Vec<LoggedAccess> = read_range(view, range.clone())?.into_iter().map(|(_, access)| access).collect();
    match accesses.last() {
        Some(end) if accesses.len() as u64 == to - after => Ok((to, end.hash, Content::Accesses(accesses))),
        _ => Err(corrupt(&range.0, Malformed { what: "archive: an access is missing" })),
    }
}

/// The directory, as a summary seals it.
pub fn directory(view: &dyn StateView, site_group: GroupId) -> Result<Vec<u8>, StoreError> {
    let entries = read_range::<PlaceEntry>(view, Keys(site_group).places())?;
    Ok(entries.into_iter().map(|(_, entry)| entry).collect::<Vec<_>>().to_bytes())
}
