//! The repair of a fork. A site whose data came back from an old backup numbers edits that its neighbours know by other
//! content. Two branches of one author are then in the world, and both were acknowledged.
//!
//! The site that forked moves its own branch: its edits above the last common one leave the log and are re-issued under a
//! new incarnation, with their request ids, times and claims, each naming the (dot, hash) that it replaces; receipts
//! are mapped. What the neighbour holds of the old incarnation then merges as any other author's.
//!
//! A neighbour that had got the abandoned branch takes it out when the first re-issue arrives. What it holds of the
//! branch beyond the re-issues is *stranded*: kept, counted as set aside, and given back towards its site, which re-issues
//! it.

use std::collections::{BTreeMap, BTreeSet};

use super::fold::{Entering, enter, refold};
use super::merge::keep_secrets;
use super::{AuthorState, GroupState, Poison, ShardState, StoredEdit, Tx, corrupt};
use crate::command::{Answer, Branch, Cursor, Digest, Nothing, Receipt, RefusalCode, Renew};
use crate::edit::{Author, Dot, EXTENSION_REISSUE_OF, Edit};
use crate::encoding::Wire;
use crate::ids::{AuthorId, Hash, RecordId, RequestId};
use crate::store::StoreError;

/// An edit that left the log.
struct TakenOut {
    edit: Edit,
    stored: StoredEdit,
}

pub(super) fn apply(tx: &mut Tx<'_>, group: &GroupState, renew: &Renew) -> Result<Answer, StoreError> {
    let Some(mut shard) = tx.shard(renew.shard)? else {
        return Ok(Answer::refused(RefusalCode::Unknown, format!("shard {} is not hosted here", renew.shard)));
    };
    let head: Option<AuthorState> = tx.get(&tx.keys().author(renew.shard, renew.author))?;
    let own = shard.own.id() == renew.author || head.as_ref().is_some_and(|head| head.author.site == group.site);
    if !own || renew.common > head.map_or(0, |head| head.number) {
        return Ok(Answer::refused(RefusalCode::Invalid, "only a site's own edits can be renewed, from one it holds"));
    }
    let forked = take_out(tx, &mut shard, renew.author, renew.common, renew.now_ms)?;
    shard.own = Author { site: group.site, shard: renew.shard, incarnation: renew.incarnation };
    shard.epoch = renew.epoch;
    reissue(tx, &mut shard, forked, renew.now_ms)?;
    // The neighbours' streams leave out what came from here; only heads tell them what is missing now.
    for (key, _) in tx.range::<Cursor>(tx.keys().cursors(renew.shard))? {
        tx.delete(key);
    }
    tx.put_shard(&shard);
    Ok(Answer::Done(Nothing))
}

/// Re-issues what neighbours kept of an abandoned branch of this site, unless it was re-issued before; keeps what another
/// site must re-issue until it can be passed on.
pub(super) fn reissue_branch(tx: &mut Tx<'_>, branch: &Branch) -> Result<Answer, StoreError> {
    let Some(mut shard) = tx.shard(branch.shard)? else {
        return Ok(Answer::refused(RefusalCode::Unknown, format!("shard {} is not hosted here", branch.shard)));
    };
    keep_secrets(tx, branch.shard, &branch.secrets)?;
    let mut lost = Vec::new();
    let mut known: BTreeMap<RequestId, bool> = BTreeMap::new();
    for item in &branch.items {
        let Ok(edit) = Edit::from_bytes(&item.bytes) else { continue };
        let author = edit.header.author;
        let request = edit.header.origin.request;
        let secret_key = tx.keys().secret(branch.shard, author.id(), request.session);
        let Some(secret) = tx.get(&secret_key)? else { continue };
        let stored = StoredEdit { position: 0, hash: edit.hash(&secret), bytes: item.bytes.clone() };
        if author.shard != branch.shard {
            continue;
        }
        if author.site != shard.own.site {
            strand(tx, &mut shard, &edit, &stored)?;
            continue;
        }
        let is_known = match known.get(&request) {
            Some(is_known) => *is_known,
            None => tx.get::<Receipt>(&tx.keys().request(request))?.is_some(),
        };
        known.insert(request, is_known);
        if !is_known {
            lost.push(TakenOut { edit, stored });
        }
    }
    reissue(tx, &mut shard, lost, branch.now_ms)?;
    tx.put_shard(&shard);
    Ok(Answer::Done(Nothing))
}

/// Takes an abandoned branch out when the re-issue of one of its edits arrives. Returns whether there was one.
pub(super) fn supersede(
    tx: &mut Tx<'_>,
    shard: &mut ShardState,
    reissue: &Edit,
    old: &Dot,
    old_hash: &Hash,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let id = shard.info.shard;
    let stranded_key = tx.keys().stranded(id, old, old_hash);
    if tx.get::<StoredEdit>(&stranded_key)?.is_some() {
        tx.delete(stranded_key);
        shard.poisoned -= 1;
        return Ok(false);
    }
    let held = tx.edit(id, old)?.filter(|held| held.hash == *old_hash);
    let head: Option<AuthorState> = tx.get(&tx.keys().author(id, old.actor))?;
    // Only its own site abandons a branch.
    let same_site = head.is_some_and(|head| head.author.site == reissue.header.author.site);
    if held.is_none() || !same_site || old.actor == reissue.dot().actor {
        return Ok(false);
    }
    let branch = take_out(tx, shard, old.actor, old.counter - 1, now_ms)?;
    for TakenOut { edit, stored } in branch.into_iter().skip(1) {
        strand(tx, shard, &edit, &stored)?;
    }
    Ok(true)
}

/// Keeps an edit that is on no branch held here, unless it is held or was re-issued after all.
fn strand(tx: &mut Tx<'_>, shard: &mut ShardState, edit: &Edit, stored: &StoredEdit) -> Result<(), StoreError> {
    let (id, dot) = (shard.info.shard, edit.dot());
    let key = tx.keys().stranded(id, &dot, &stored.hash);
    let held = tx.edit(id, &dot)?.is_some_and(|held| held.hash == stored.hash);
    let reissued = tx.get::<Dot>(&tx.keys().alias(id, &dot, &stored.hash))?.is_some();
    if !held && !reissued && tx.get::<StoredEdit>(&key)?.is_none() {
        shard.poisoned += 1;
        tx.put(key, stored);
    }
    Ok(())
}

/// Takes an author's edits above `common` out of log and records; returns them in order.
fn take_out(
    tx: &mut Tx<'_>,
    shard: &mut ShardState,
    author: AuthorId,
    common: u64,
    now_ms: i64,
) -> Result<Vec<TakenOut>, StoreError> {
    let (id, keys) = (shard.info.shard, tx.keys());
    let author_key = keys.author(id, author);
    let Some(head) = tx.get::<AuthorState>(&author_key)? else { return Ok(Vec::new()) };
    let mut branch = Vec::new();
    for counter in common + 1..=head.number {
        let dot = Dot { actor: author, counter };
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
        branch.push(TakenOut { edit, stored });
    }
    if common == 0 {
        tx.delete(author_key);
    } else {
        let stored: StoredEdit = tx.must(&keys.edit(id, &Dot { actor: author, counter: common }))?;
        tx.put(author_key, &AuthorState { number: common, hash: stored.hash, parked: None, ..head });
    }
    let records: BTreeSet<RecordId> = branch.iter().map(|taken| taken.edit.header.record).collect();
    for record in records {
        refold(tx, shard, record, now_ms)?;
    }
    Ok(branch)
}

/// Numbers the edits on for this site's present incarnation; what one of them overwrote of the others keeps pointing at
/// it.
fn reissue(tx: &mut Tx<'_>, shard: &mut ShardState, branch: Vec<TakenOut>, now_ms: i64) -> Result<(), StoreError> {
    let (id, author) = (shard.info.shard, shard.own);
    let (mut number, mut previous) = tx.head(id, author.id())?;
    let mut renamed: BTreeMap<Dot, Dot> = BTreeMap::new();
    for TakenOut { mut edit, stored } in branch {
        let old = edit.dot();
        let session = edit.header.origin.request.session;
        let secret: [u8; 32] = tx.must(&tx.keys().secret(id, old.actor, session))?;
        tx.put(tx.keys().secret(id, author.id(), session), &secret);
        number += 1;
        edit.header.author = author;
        edit.header.number = number;
        edit.header.previous = previous;
        edit.header.extensions.retain(|(tag, _)| *tag != EXTENSION_REISSUE_OF);
        edit.header.extensions.push((EXTENSION_REISSUE_OF, (old.clone(), stored.hash).to_bytes()));
        edit.header.extensions.sort();
        for change in &mut edit.changes {
            for dot in &mut change.overwrites {
                if let Some(new) = renamed.get(dot) {
                    *dot = new.clone();
                }
            }
            change.overwrites.sort();
        }
        renamed.insert(old, edit.dot());
        previous = edit.hash(&secret);
        let bytes = edit.to_bytes();
        enter(tx, shard, Entering { edit: &edit, bytes, hash: previous, from: None, poison: None }, now_ms)?;
    }
    Ok(())
}
