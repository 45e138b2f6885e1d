//! A new incarnation for a site whose data came back from an old backup: it must never number edits again that its
//! neighbours know by other content. What it numbered before it noticed stays as it is, as a branch of the old
//! incarnation's chain (`branches`).

use super::{GroupState, ShardState, Tx};
use crate::command::{Answer, Nothing, RefusalCode, Renew};
use crate::edit::Author;
use crate::ids::{Incarnation, first_16};
use crate::inject::sometimes;
use crate::store::StoreError;

/// Gives the site a new incarnation, unless the one that it had in mind is replaced already.
pub(super) fn apply(tx: &mut Tx<'_>, group: &GroupState, renew: &Renew) -> Result<Answer, StoreError> {
    let Some(mut shard) = tx.shard(renew.shard)? else {
        return Ok(Answer::refused(RefusalCode::Unknown, format!("shard {} is not hosted here", renew.shard)));
    };
    if sometimes("an incarnation is renewed", shard.own.id() == renew.author) {
        shard.own = Author { site: group.site, shard: renew.shard, incarnation: renew.incarnation };
        shard.epoch = renew.epoch;
        tx.put_shard(&shard);
    }
    Ok(Answer::Done(Nothing))
}

/// Leaves an incarnation of which a neighbour knew an edit that this site did not. `apply` has no chance to draw from:
/// what makes the new incarnation unlike any other is this site's stream so far and the time at the door.
pub(super) fn leave(shard: &mut ShardState, now_ms: i64) {
    let mut hasher = blake3::Hasher::new_derive_key("dinhba 2026 incarnation");
    hasher.update(&shard.own.incarnation.0).update(&shard.running.0).update(&now_ms.to_be_bytes());
    shard.own.incarnation = Incarnation(first_16(&hasher.finalize()));
}
