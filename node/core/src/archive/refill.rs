//! A group from its archive. What is put back goes the way that every edit goes, through the registry's `fold`, so a
//! restored state is the one that these edits fold to, and every hash is computed anew; what does not fit is a [`Misfit`].
//!
//! The site that comes back is a new incarnation and a new stream, whatever its neighbours know: it must not number an
//! edit again that was accepted after the backup.

use std::collections::BTreeMap;

use super::{Edits, GroupSummary, Piece, advance, log_text};
use crate::access_log::LoggedAccess;
use crate::command::{Epoch, Item};
use crate::edit::{Author, Dot, Edit};
use crate::encoding::{Malformed, Wire};
use crate::ids::{Hash, Incarnation, KeyMark, ShardId, SiteId};
use crate::place::PlaceEntry;
use crate::registry::{
    Context, Entering, GroupState, ShardState, Tx, end_batch, enter_alone, keep_secret, next_access_hash, poison_of,
};
use crate::store::{Batch, StateView, StoreError};

/// A new life of a site as the author of one shard; both random.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// Under which it numbers.
    pub incarnation: Incarnation,
    /// The name of its stream.
    pub epoch: Epoch,
}

/// What an archive holds does not fold to what it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}")]
pub struct Misfit {
    /// Of which log.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
}

/// Why a piece was not put back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefillError {
    /// The archive's fault.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// The disk's.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn misfit(piece: &Piece, why: impl Into<String>) -> RefillError {
    Misfit { what: log_text(piece.log()), why: why.into() }.into()
}

/// A group without edits, in a new incarnation: its shards, each in a new life, and, for the site's first group, the directory. Both
/// are random.
pub fn refound(
    view: &dyn StateView,
    context: &Context,
    site: SiteId,
    group: &GroupSummary,
    (incarnation, lives): (Incarnation, &BTreeMap<ShardId, Life>),
    places: &[PlaceEntry],
) -> Batch {
    let mut tx = Tx::new(view, context);
    let level = group.level;
    let access_hash = Hash::default();
    tx.put_group(&GroupState {
        site,
        level,
        index_key: context.index_key.id,
        digest_key: context.digest_key.id,
        time_ms: 0,
        cleared_day: 0,
        incarnation,
        access_count: 0,
        access_hash,
    });
    for shard in &group.shards {
        let Some(life) = lives.get(&shard.info.shard) else { continue };
        let own = Author { site, shard: shard.info.shard, incarnation: life.incarnation };
        tx.host(&ShardState::new(shard.info.clone(), own, life.epoch));
    }
    for entry in places {
        tx.put(tx.keys().place(&entry.key()), entry);
    }
    tx.into_batch()
}

/// Puts a piece of a shard's edits back, up to the first command that some site received after `until_ms`. Returns what
/// changes, and whether all of it was put back.
pub fn refill_edits(
    view: &dyn StateView,
    context: &Context,
    piece: &Piece,
    edits: Edits,
    until_ms: Option<i64>,
) -> Result<(Batch, bool), RefillError> {
    let mut tx = Tx::new(view, context);
    let (group, shard) = (tx.group()?, piece.shard.unwrap_or_default());
    let (Some(group), Some(mut shard)) = (group, tx.shard(shard)?) else {
        return Err(misfit(piece, "its summary does not name the shard"));
    };
    let mut reached = [(piece.log(), (shard.arrivals, shard.running))].into();
    advance(&mut reached, piece).map_err(|why| misfit(piece, why))?;
    let secrets: BTreeMap<_, _> =
        edits.secrets.into_iter().map(|(author, session, secret)| ((author, session), secret)).collect();
    let read = |item: Item| Ok((Edit::from_bytes(&item.bytes)?, item.bytes));
    let items: Result<Vec<(Edit, Vec<u8>)>, Malformed> = edits.items.into_iter().map(read).collect();
    let mut items = items.map_err(|error| misfit(piece, error.to_string()))?;
    let mut seals: BTreeMap<u32, [u8; 64]> = edits.seals.into_iter().collect();
    let count = items.len();
    items.truncate(up_to(&items, &edits.sources, until_ms));
    let is_whole = items.len() == count;
    let mut sources =
        edits.sources.iter().flat_map(|(count, from)| (0..*count).map(move |at| (*from, at + 1 == *count)));
    for (at, (edit, bytes)) in (0..).zip(items) {
        let header = &edit.header;
        let (author, session) = (header.author.id(), header.origin.request.session);
        let named = || format!("edit {} of {author}", header.number);
        let secret = secrets.get(&(author, session)).ok_or_else(|| misfit(piece, format!("{}: no secret", named())))?;
        let (hash, id) = (edit.hash(secret), shard.info.shard);
        let is_next = match header.number {
            1 => header.previous == Hash::default(),
            number => tx.locate(id, author, number - 1, &header.previous)?.is_some(),
        };
        let is_new = tx.locate(id, author, header.number, &hash)?.is_none();
        if header.author.shard != id || !is_next || !is_new || !keep_secret(&mut tx, id, (author, session), &secrets)? {
            return Err(misfit(piece, format!("{} does not follow on those before it", named())));
        }
        let (from, is_last) = sources.next().ok_or_else(|| misfit(piece, "edits without a source"))?;
        let (poison, now_ms) = (poison_of(&edit, &shard.info, group.level), header.origin.received_ms);
        let dot = Dot { actor: author, counter: header.number };
        let entering =
            Entering { edit: &edit, dot, bytes, hash, from, key: KeyMark::default(), poison, transition: None };
        enter_alone(&mut tx, &mut shard, entering, now_ms)?;
        if let Some(signature) = seals.remove(&at) {
            tx.put(tx.keys().seal(id, shard.arrivals), &signature);
        }
        if is_last && from.is_some() {
            end_batch(&mut tx, &shard)?;
        }
    }
    if is_whole && (shard.arrivals, shard.running) != (piece.to, piece.hash) {
        return Err(misfit(
            piece,
            format!("its edits do not lead to position {} with the hash that it says", piece.to),
        ));
    }
    tx.put_shard(&shard);
    Ok((tx.into_batch(), is_whole))
}

/// How many of the edits to put back: up to the first command that some site received after `until_ms`. What came from a
/// neighbour in one batch is put back whole or not at all, since there are no seals within it; the rest comes again.
fn up_to(items: &[(Edit, Vec<u8>)], sources: &[(u32, Option<SiteId>)], until_ms: Option<i64>) -> usize {
    let is_late = |(edit, _): &(Edit, Vec<u8>)| {
        edit.header.part == 0 && until_ms.is_some_and(|until| edit.header.origin.received_ms > until)
    };
    let mut at = 0;
    for (count, from) in sources {
        let run = items.get(at..).unwrap_or_default();
        let run = &run[..run.len().min(*count as usize)];
        match (run.iter().position(is_late), from) {
            (Some(late), None) => return at + late,
            (Some(_), Some(_)) => return at,
            (None, _) => at += run.len(),
        }
    }
    items.len()
}

/// Puts a piece of a group's access log back.
pub fn refill_accesses(
    view: &dyn StateView,
    context: &Context,
    piece: &Piece,
    accesses: &[LoggedAccess],
) -> Result<Batch, RefillError> {
    let mut tx = Tx::new(view, context);
    let mut group = tx.group()?.ok_or_else(|| misfit(piece, "its summary does not name the group"))?;
    let mut reached = [(piece.log(), (group.access_count, group.access_hash))].into();
    advance(&mut reached, piece).map_err(|why| misfit(piece, why))?;
    for access in accesses {
        group.access_count += 1;
        group.access_hash = next_access_hash(&group.access_hash, &access.entry, access.allowed);
        if group.access_hash != access.hash {
            return Err(misfit(piece, format!("entry {} does not follow on the one before it", group.access_count)));
        }
        tx.put(tx.keys().access(group.access_count), access);
    }
    if (group.access_count, group.access_hash) != (piece.to, piece.hash) {
        return Err(misfit(
            piece,
            format!("its entries do not lead to number {} with the hash that it says", piece.to),
        ));
    }
    tx.put_group(&group);
    Ok(tx.into_batch())
}
