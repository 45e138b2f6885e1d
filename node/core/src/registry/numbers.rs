//! Whose a personal number is. Two records that this group holds with one number are a conflict at both, for as long as both have it:
//! either a person stands twice in the register, or a number was written down wrongly, and only an officer can tell. Like all
//! that derives from records, it is the same in whatever order their edits came. Two communes that never hear of each other do not
//! know of it; their district does, and its officers decide.
//!
//! Limit: shards of other groups of the site are not compared: where a site has several, a number that is written down in two of them is
//! found by a search.

use std::collections::BTreeSet;

use super::{ShardState, Tx, quality, work};
use crate::command::{ConflictEntry, ConflictKey, Nothing};
use crate::encoding::Wire;
use crate::ids::{RecordId, ShardId};
use crate::inject::sometimes;
use crate::keys::own_suffix;
use crate::search::{Term, personal_numbers};
use crate::store::StoreError;

/// Shards that are asked for one number: two are enough, but for those that have it among the numbers that were cancelled.
const SHARDS_MAX: usize = 64;

/// Takes note of the numbers that a record has no more, and of those that it has now. Its bytes are stored already.
pub(super) fn held(
    tx: &mut Tx<'_>,
    shard: &mut ShardState,
    id: RecordId,
    (before, after): (&BTreeSet<Term>, &BTreeSet<Term>),
    now_ms: i64,
) -> Result<(), StoreError> {
    if before == after {
        return Ok(());
    }
    let home = shard.info.shard;
    let (mut touched, mut is_shared) = (BTreeSet::new(), false);
    for number in before.symmetric_difference(after) {
        let key = tx.keys().number(home, number);
        let mut holders: Vec<RecordId> = tx.get(&key)?.unwrap_or_default();
        holders.retain(|holder| *holder != id);
        if after.contains(number) {
            holders.push(id);
            holders.sort_unstable();
        }
        if holders.is_empty() {
            tx.delete(key)
        } else {
            tx.put(key, &holders)
        }
        let others = others(tx, number, (home, id))?;
        is_shared |= after.contains(number) && !others.is_empty();
        // Of several others each has the conflict, with or without this one.
        if let [other] = others[..] {
            sometimes("a number is held in two shards", other.0 != home);
            touched.insert(other);
        }
    }
    for number in before.intersection(after) {
        is_shared |= !others(tx, number, (home, id))?.is_empty();
    }
    debug_assert_eq!(is_shared, has_shared(tx, (home, id))?);
    judge(tx, shard, id, is_shared, now_ms)?;
    for (of, record) in touched {
        let is_shared = has_shared(tx, (of, record))?;
        if of == home {
            judge(tx, shard, record, is_shared, now_ms)?;
        } else if let Some(mut other) = tx.shard(of)? {
            judge(tx, &mut other, record, is_shared, now_ms)?;
            tx.put_shard(&other);
        }
    }
    Ok(())
}

/// Whether another record has a number of this one, as it is stored.
fn has_shared(tx: &Tx<'_>, (home, id): (ShardId, RecordId)) -> Result<bool, StoreError> {
    let Some((record, _)) = tx.record(home, id)? else { return Ok(false) };
    for number in personal_numbers(tx.level()?, &record, &tx.context.index_key.secret) {
        if !others(tx, &number, (home, id))?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The first two records that have a number, beside one that is asked about.
fn others(tx: &Tx<'_>, number: &Term, asked: (ShardId, RecordId)) -> Result<Vec<(ShardId, RecordId)>, StoreError> {
    let mut shards = BTreeSet::from([asked.0]);
    for key in tx.some_keys(tx.keys().terms_from(number, ShardId(0)), SHARDS_MAX)? {
        shards.extend(own_suffix(&key, 8).first_chunk().map(|shard| ShardId(u64::from_be_bytes(*shard))));
    }
    let mut found = Vec::new();
    for shard in shards {
        let holders: Vec<RecordId> = tx.get(&tx.keys().number(shard, number))?.unwrap_or_default();
        found.extend(holders.into_iter().map(|holder| (shard, holder)).filter(|holder| *holder != asked));
        if found.len() > 1 {
            break;
        }
    }
    Ok(found)
}

/// Opens or ends the conflict of one record.
fn judge(
    tx: &mut Tx<'_>,
    shard: &mut ShardState,
    id: RecordId,
    is_shared: bool,
    now_ms: i64,
) -> Result<(), StoreError> {
    let home = shard.info.shard;
    let key = tx.keys().conflict(home, id, &ConflictKey::Number(Nothing).to_bytes());
    let was_shared = is_open(tx, home, id)?;
    match (was_shared, is_shared) {
        (false, true) => {
            let was = quality::is_disputed(tx, home, id)?;
            tx.put(key, &ConflictEntry { since_ms: now_ms });
            shard.quality.doubled += 1;
            quality::judge(tx, shard, id, was)?;
            work::open(tx, home, &work::conflict(id, &ConflictKey::Number(Nothing), now_ms));
            shard.conflicts += 1;
        }
        (true, false) => {
            let ConflictEntry { since_ms } = tx.must(&key)?;
            tx.delete(key);
            shard.quality.doubled -= 1;
            quality::judge(tx, shard, id, true)?;
            work::close(tx, home, &work::conflict(id, &ConflictKey::Number(Nothing), since_ms))?;
            shard.conflicts -= 1;
        }
        _ => {}
    }
    Ok(())
}

/// Whether another record has a number of this one.
pub(super) fn is_open(tx: &Tx<'_>, shard: ShardId, id: RecordId) -> Result<bool, StoreError> {
    Ok(tx.bytes(&tx.keys().conflict(shard, id, &ConflictKey::Number(Nothing).to_bytes()))?.is_some())
}
