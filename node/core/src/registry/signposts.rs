//! Signposts: what a group knows of where its shards have something, so that a question to ten thousand of them is not put to each.
//! In which shards a record is, under which shards a search finds a term, when whose receipts expire, and where something is to be done.
//!
//! They say nothing that the shards do not say themselves, and are the same in whatever order edits came. A shard that is moved
//! leaves them behind: where its range is taken in they are made again, with [`signposts_of`].

use super::{Context, Tx, corrupt, read, read_range, record_of, work};
use crate::encoding::Malformed;
use crate::ids::{RecordId, SessionId, ShardId};
use crate::keys::{Keys, suffix};
use crate::search::Term;
use crate::store::{Batch, StateView, StoreError};

/// Notes that a shard has a term in its index.
pub(super) fn put_term(tx: &mut Tx<'_>, shard: ShardId, term: &Term) {
    tx.put_bytes(tx.keys().term(term, shard), Vec::new());
}

/// Notes that a record of a shard is not found by a term any more, once that is gone from its index.
pub(super) fn take_term(tx: &mut Tx<'_>, shard: ShardId, term: &Term) -> Result<(), StoreError> {
    if tx.is_empty(tx.keys().index_signed(shard, term))? {
        tx.delete(tx.keys().term(term, shard));
    }
    Ok(())
}

/// The shards of the group that have a record, as the next command sees it.
pub(super) fn homes_here(tx: &Tx<'_>, record: RecordId) -> Result<Vec<ShardId>, StoreError> {
    Ok(tx.get_held(&tx.keys().home(record))?.unwrap_or_default())
}

/// Notes that a shard has a record.
pub(super) fn put_home(tx: &mut Tx<'_>, shard: ShardId, record: RecordId) -> Result<(), StoreError> {
    let mut shards = homes_here(tx, record)?;
    if let Err(place) = shards.binary_search(&shard) {
        shards.insert(place, shard);
    }
    tx.put(tx.keys().home(record), &shards);
    Ok(())
}

/// Notes that a shard has a record no more.
pub(super) fn take_home(tx: &mut Tx<'_>, shard: ShardId, record: RecordId) -> Result<(), StoreError> {
    let mut shards = homes_here(tx, record)?;
    shards.retain(|other| *other != shard);
    let key = tx.keys().home(record);
    if shards.is_empty() {
        tx.delete(key)
    } else {
        tx.put(key, &shards)
    }
    Ok(())
}

/// The shards of a group that have a record, in order: one, but for an error.
pub fn homes(view: &dyn StateView, keys: Keys, record: RecordId) -> Result<Vec<ShardId>, StoreError> {
    Ok(read(view, &keys.home(record))?.unwrap_or_default())
}

/// The signposts to all that is in the range of a shard: a few keys for each record, in one batch.
pub fn signposts_of(view: &dyn StateView, context: &Context, shard: ShardId) -> Result<Batch, StoreError> {
    let (mut tx, keys) = (Tx::new(view, context), context.keys());
    let scanned = |range: (Vec<u8>, Vec<u8>)| view.scan(&range.0, &range.1);
    for item in scanned(keys.records(shard)) {
        put_home(&mut tx, shard, record_of(&item?.0)?)?;
    }
    for item in scanned(keys.indexes(shard)) {
        let (key, _) = item?;
        put_term(&mut tx, shard, first_16(&key)?);
    }
    if let Some(state) = tx.shard(shard)? {
        tx.host(&state);
    }
    for (key, day) in read_range::<u32>(view, keys.sessions(shard))? {
        tx.put_bytes(keys.expiry(day, shard, SessionId(*first_16(&key)?)), Vec::new());
    }
    work::signpost(&mut tx, view, shard)?;
    Ok(tx.into_batch())
}

fn first_16(key: &[u8]) -> Result<&[u8; 16], StoreError> {
    suffix(key, 0).first_chunk().ok_or_else(|| corrupt(key, Malformed { what: "key of an index or a session" }))
}
