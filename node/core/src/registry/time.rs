//! The group's time, and what expires by it.
//!
//! Each entry of the log carries its proposer's clock, and the group's time is the highest that its log has seen: the same at
//! all replicas, and it never goes back. A clock that was set ahead by mistake takes it along; so what rests on it has long
//! terms, and is never what a record says.
//!
//! Receipts answer a request that is sent again. Those of a session in a shard are kept until [`RECEIPT_DAYS`] after the last day on
//! which one of its edits came there. Each entry of the log clears away a few of them, so that a site that was off for a year does not
//! stand still on its first day.

use super::{GroupState, Tx, corrupt};
use crate::encoding::Malformed;
use crate::ids::{SessionId, ShardId};
use crate::keys::own_suffix;
use crate::store::StoreError;

/// Days after a session's last edit for which a request of it that is sent again gets its first answer.
pub const RECEIPT_DAYS: u32 = 400;

/// Receipts that one entry of the log clears away.
const CLEARED_MAX: usize = 256;

const DAY_MS: i64 = 86_400_000;

fn day(ms: i64) -> u32 {
    u32::try_from(ms / DAY_MS).unwrap_or(0)
}

/// Takes note of a proposer's clock at the beginning of its entry.
pub(super) fn advance(tx: &mut Tx<'_>, at_ms: i64) -> Result<(), StoreError> {
    let Some(mut group) = tx.group()?.filter(|group| group.time_ms < at_ms) else { return Ok(()) };
    group.time_ms = at_ms;
    let today = day(at_ms);
    if group.cleared_day < today && clear(tx, today)? {
        group.cleared_day = today;
    }
    tx.put_group(&group);
    Ok(())
}

/// Clears away some of what has expired; whether that was all.
fn clear(tx: &mut Tx<'_>, today: u32) -> Result<bool, StoreError> {
    let keys = tx.keys();
    let mut left = CLEARED_MAX;
    for row in tx.first_keys(keys.expired(today.saturating_sub(RECEIPT_DAYS)), CLEARED_MAX)? {
        let of =
            own_suffix(&row, 4).split_first_chunk::<8>().and_then(|(shard, rest)| Some((shard, rest.first_chunk()?)));
        let (shard, session) = of.ok_or_else(|| corrupt(&row, Malformed { what: "key of a session's day" }))?;
        let (shard, session) = (ShardId(u64::from_be_bytes(*shard)), SessionId(*session));
        let receipts = tx.first_keys(keys.requests(shard, session), left)?;
        left -= receipts.len();
        receipts.into_iter().for_each(|receipt| tx.delete(receipt));
        if left == 0 {
            return Ok(false);
        }
        tx.delete(keys.session(shard, session));
        tx.delete(row);
        left -= 1;
    }
    Ok(left > 0)
}

/// Takes note that a session was used in a shard. A group that is made again from an archive has no time yet: then the day counts on
/// which the edit was received.
pub(super) fn used(tx: &mut Tx<'_>, shard: ShardId, session: SessionId, received_ms: i64) -> Result<(), StoreError> {
    let keys = tx.keys();
    let time_ms = tx.group()?.map_or(0, |group: GroupState| group.time_ms);
    let today = day(if time_ms == 0 { received_ms } else { time_ms });
    let last: Option<u32> = tx.get_held(&keys.session(shard, session))?;
    if last == Some(today) {
        return Ok(());
    }
    if let Some(last) = last {
        tx.delete(keys.expiry(last, shard, session));
    }
    tx.put(keys.session(shard, session), &today);
    tx.put_bytes(keys.expiry(today, shard, session), Vec::new());
    Ok(())
}
