//! The repair of a fork. A site whose data came back from an old backup numbers edits that its neighbours know by other
//! content. Its edits above the last common one leave the log, are re-issued under a new incarnation with their request
//! ids, times and claims, and their receipts are mapped; what the neighbours hold of the old incarnation then merges as
//! any other author's. Nothing that was acknowledged is lost on either side.

use std::collections::{BTreeMap, BTreeSet};

use super::fold::{Entering, enter, refold};
use super::{AuthorState, GroupState, Poison, ShardState, StoredEdit, Tx, corrupt};
use crate::command::{Answer, Cursor, Digest, Nothing, RefusalCode, Renew};
use crate::edit::{Author, Dot, EXTENSION_REISSUE_OF, Edit};
use crate::encoding::Wire;
use crate::ids::{Hash, RecordId};
use crate::store::StoreError;

pub(super) fn apply(tx: &mut Tx<'_>, group: &GroupState, renew: &Renew) -> Result<Answer, StoreError> {
    let Some(mut shard) = tx.shard(renew.shard)? else {
        return Ok(Answer::refused(RefusalCode::Unknown, format!("shard {} is not hosted here", renew.shard)));
    };
    let key = tx.keys().author(renew.shard, renew.author);
    let head: Option<AuthorState> = tx.get(&key)?;
    let own = shard.own.id() == renew.author || head.as_ref().is_some_and(|head| head.author.site == group.site);
    let number = head.as_ref().map_or(0, |head| head.number);
    if !own || renew.common > number {
        return Ok(Answer::refused(RefusalCode::Invalid, "only a site's own edits can be renewed, from one it holds"));
    }
    let forked = take_out(tx, &mut shard, head, renew)?;
    let records: BTreeSet<RecordId> = forked.iter().map(|edit| edit.header.record).collect();
    for record in records {
        refold(tx, &mut shard, record, renew.now_ms)?;
    }
    let author = Author { site: group.site, shard: renew.shard, incarnation: renew.incarnation };
    shard.own = author;
    shard.epoch = renew.epoch;
    reissue(tx, &mut shard, author, forked, renew.now_ms)?;
    // The neighbours' streams leave out what came from here; only heads tell them what is missing now.
    for (key, _) in tx.range::<Cursor>(tx.keys().cursors(renew.shard))? {
        tx.delete(key);
    }
    tx.put_shard(&shard);
    Ok(Answer::Done(Nothing))
}

/// Takes the author's edits above `common` out of the log; returns them in order.
fn take_out(
    tx: &mut Tx<'_>,
    shard: &mut ShardState,
    head: Option<AuthorState>,
    renew: &Renew,
) -> Result<Vec<Edit>, StoreError> {
    let Some(mut head) = head else { return Ok(Vec::new()) };
    let (id, keys) = (renew.shard, tx.keys());
    let mut forked = Vec::new();
    for number in renew.common + 1..=head.number {
        let dot = Dot { actor: renew.author, counter: number };
        let key = keys.edit(id, &dot);
        let stored: StoredEdit = tx.must(&key)?;
        let edit = Edit::from_bytes(&stored.bytes).map_err(|error| corrupt(&key, error))?;
        let poison_key = keys.poison(id, &dot);
        if tx.get::<Poison>(&poison_key)?.is_some() {
            shard.poisoned -= 1;
            tx.delete(poison_key);
        }
        shard.edits_digest.subtract(Digest::of(&tx.context.digest_key, &stored.hash.0));
        tx.delete(keys.history_entry(id, edit.header.record, stored.position));
        tx.delete(keys.arrival(id, stored.position));
        tx.delete(key);
        forked.push(edit);
    }
    let author_key = keys.author(id, renew.author);
    if renew.common == 0 {
        tx.delete(author_key);
    } else {
        let common = Dot { actor: renew.author, counter: renew.common };
        let stored: StoredEdit = tx.must(&keys.edit(id, &common))?;
        head = AuthorState { number: renew.common, hash: stored.hash, parked: None, ..head };
        tx.put(author_key, &head);
    }
    Ok(forked)
}

/// Numbers the edits anew for `author`; what one of them overwrote of the others keeps pointing at it.
fn reissue(
    tx: &mut Tx<'_>,
    shard: &mut ShardState,
    author: Author,
    forked: Vec<Edit>,
    now_ms: i64,
) -> Result<(), StoreError> {
    let (id, actor) = (shard.info.shard, author.id());
    let mut renamed: BTreeMap<Dot, Dot> = BTreeMap::new();
    let (mut number, mut previous) = (0, Hash::default());
    for mut edit in forked {
        let old = edit.dot();
        let session = edit.header.origin.request.session;
        let secret: [u8; 32] = tx.must(&tx.keys().secret(id, old.actor, session))?;
        tx.put(tx.keys().secret(id, actor, session), &secret);
        number += 1;
        edit.header.author = author;
        edit.header.number = number;
        edit.header.previous = previous;
        edit.header.extensions.retain(|(tag, _)| *tag != EXTENSION_REISSUE_OF);
        edit.header.extensions.insert(0, (EXTENSION_REISSUE_OF, old.to_bytes()));
        edit.header.extensions.sort();
        for change in &mut edit.changes {
            for dot in &mut change.overwrites {
                if let Some(new) = renamed.get(dot) {
                    *dot = new.clone();
                }
            }
            change.overwrites.sort();
        }
        let new = edit.dot();
        tx.put(tx.keys().alias(id, &old), &new);
        renamed.insert(old, new);
        previous = edit.hash(&secret);
        let bytes = edit.to_bytes();
        enter(tx, shard, Entering { edit: &edit, bytes, hash: previous, from: None, poison: None }, now_ms)?;
    }
    Ok(())
}
