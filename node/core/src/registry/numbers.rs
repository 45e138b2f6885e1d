//! Whose a personal number is. Two records of a shard with one number are a conflict at both, for as long as both have it:
//! either a person stands twice in the register, or a number was written down wrongly, and only an officer can tell. Like all
//! that derives from records, it is the same in whatever order their edits came.
//!
//! Limit: records of other shards are not compared. A number that is written down in two communes is found by a search at a
//! site that holds both.

use std::collections::BTreeSet;

use super::{ShardState, Tx};
use crate::command::{ConflictEntry, ConflictKey, Nothing};
use crate::encoding::Wire;
use crate::ids::{RecordId, ShardId};
use crate::search::{Term, personal_numbers};
use crate::store::StoreError;

/// Takes note of the numbers that a record has no more, and of those that it has now. Its bytes are stored already.
pub(super) fn held(
    tx: &mut Tx<'_>,
    shard: &mut ShardState,
    id: RecordId,
    (before, after): (&BTreeSet<Term>, &BTreeSet<Term>),
    now_ms: i64,
) -> Result<(), StoreError> {
    let home = shard.info.shard;
    let mut touched = BTreeSet::from([id]);
    for number in before.symmetric_difference(after) {
        let key = tx.keys().number(home, number);
        let mut holders: Vec<RecordId> = tx.get(&key)?.unwrap_or_default();
        holders.retain(|holder| *holder != id);
        // Of several others each has the conflict, with or without this one.
        if let [other] = holders[..] {
            touched.insert(other);
        }
        if after.contains(number) {
            holders.push(id);
            holders.sort_unstable();
        }
        if holders.is_empty() { tx.delete(key) } else { tx.put(key, &holders) }
    }
    if before != after {
        for record in touched {
            judge(tx, shard, record, now_ms)?;
        }
    }
    Ok(())
}

/// Opens or ends the conflict of one record.
fn judge(tx: &mut Tx<'_>, shard: &mut ShardState, id: RecordId, now_ms: i64) -> Result<(), StoreError> {
    let home = shard.info.shard;
    let key = tx.keys().conflict(home, id, &ConflictKey::Number(Nothing).to_bytes());
    let (mut is_shared, level) = (false, tx.level()?);
    if let Some((record, _)) = tx.record(home, id)? {
        for number in personal_numbers(level, &record, &tx.context.index_key.secret) {
            let holders: Vec<RecordId> = tx.get(&tx.keys().number(home, &number))?.unwrap_or_default();
            is_shared |= holders.len() > 1;
        }
    }
    let was_shared = is_open(tx, home, id)?;
    match (was_shared, is_shared) {
        (false, true) => {
            tx.put(key, &ConflictEntry { since_ms: now_ms });
            shard.conflicts += 1;
        }
        (true, false) => {
            tx.delete(key);
            shard.conflicts -= 1;
        }
        _ => {}
    }
    Ok(())
}

/// Whether another record of the shard has a number of this one.
pub(super) fn is_open(tx: &Tx<'_>, shard: ShardId, id: RecordId) -> Result<bool, StoreError> {
    Ok(tx.bytes(&tx.keys().conflict(shard, id, &ConflictKey::Number(Nothing).to_bytes()))?.is_some())
}
