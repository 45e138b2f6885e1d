//! A batch of a neighbour's stream: taken only if it begins where the cursor stands, so doubled batches and old leaders
//! are harmless; its edits enter if they chain, are skipped if they are here, are set aside if they cannot be folded. A
//! broken chain parks its author only.

use std::collections::BTreeSet;

use super::fold::{Entering, enter, poison_of};
use super::renew::supersede;
use super::{AuthorState, GroupState, Parked, ShardState, Tx};
use crate::command::{Answer, Batch, Cursor, Item, MergeCommand, Merged, RefusalCode};
use crate::edit::{Dot, Edit};
use crate::encoding::Wire;
use crate::ids::{AuthorId, Hash, SessionId, ShardId, SiteId};
use crate::store::StoreError;

/// What to do with one item of a batch.
enum Verdict {
    /// It is the author's next edit. If the author was parked, its chain is whole again.
    Enter {
        edit: Box<Edit>,
        hash: Hash,
        parked: bool,
    },
    Known {
        parked: bool,
    },
    Park(Parked),
    /// It follows what its author was parked for, was re-issued under another name, or is a fork of this site's own.
    Skip,
    /// Edits before it are missing: the sender must go by heads.
    Gap,
}

pub(super) fn apply(tx: &mut Tx<'_>, group: &GroupState, command: MergeCommand) -> Result<Answer, StoreError> {
    let MergeCommand { peer, batch, now_ms } = command;
    let Some(mut shard) = tx.shard(batch.shard)? else {
        let text = format!("shard {} is not hosted by this group", batch.shard);
        return Ok(Answer::refused(RefusalCode::Unknown, text));
    };
    let cursor_key = tx.keys().cursor(batch.shard, peer);
    let cursor: Option<Cursor> = tx.get(&cursor_key)?;
    let begins = batch.start == Cursor::start(batch.start.epoch);
    let mut merged = Merged {
        shard: batch.shard,
        taken: false,
        cursor,
        folded: 0,
        known: 0,
        poisoned: 0,
        rewound: false,
        parked: Vec::new(),
    };
    if !(begins || cursor == Some(batch.start)) || has_gap(tx, &shard, &batch)? {
        return Ok(Answer::Merged(merged));
    }
    keep_secrets(tx, batch.shard, &batch.secrets)?;
    for item in &batch.items {
        match judge(tx, &shard, item)? {
            Verdict::Enter { edit, hash, parked } => {
                merged.rewound |= parked;
                let poison = poison_of(&edit, group.level);
                let bytes = item.bytes.clone();
                if let Some((old, old_hash)) = edit.reissue_of() {
                    merged.rewound |= supersede(tx, &mut shard, &edit, &old, &old_hash, now_ms)?;
                }
                enter(tx, &mut shard, Entering { edit: &edit, bytes, hash, from: Some(peer), poison }, now_ms)?;
                *(if poison.is_some() { &mut merged.poisoned } else { &mut merged.folded }) += 1;
            }
            Verdict::Known { parked } => {
                merged.known += 1;
                if parked {
                    release(tx, &shard, item)?;
                    merged.rewound = true;
                }
            }
            Verdict::Park(reason) => {
                park(tx, &shard, item, peer, reason)?;
                merged.parked.push(item.dot.actor);
            }
            Verdict::Skip => {}
            Verdict::Gap => {
                // `has_gap` looked at every item; a gap can only follow an edit that was just parked.
                park(tx, &shard, item, peer, Parked::Chain)?;
                merged.parked.push(item.dot.actor);
            }
        }
    }
    tx.put_shard(&shard);
    merged.taken = true;
    // What the sender left out for heads that no longer hold must come again, also if the link is cut right now.
    merged.cursor = (!merged.rewound).then_some(batch.end);
    match &merged.cursor {
        Some(cursor) => tx.put(cursor_key, cursor),
        None => tx.delete(cursor_key),
    }
    Ok(Answer::Merged(merged))
}

/// Whether the batch jumps over edits of an author whose chain is whole so far.
fn has_gap(tx: &Tx<'_>, shard: &ShardState, batch: &Batch) -> Result<bool, StoreError> {
    let mut checked: BTreeSet<AuthorId> = BTreeSet::new();
    for item in batch.items.iter().filter(|item| checked.insert(item.dot.actor)) {
        let state: Option<AuthorState> = tx.get(&tx.keys().author(shard.info.shard, item.dot.actor))?;
        let (number, parked) = state.map_or((0, None), |state| (state.number, state.parked));
        if parked.is_none() && item.dot.counter > number + 1 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Keeps the secrets of sessions that are not known yet.
pub(super) fn keep_secrets(
    tx: &mut Tx<'_>,
    shard: ShardId,
    secrets: &[(AuthorId, SessionId, [u8; 32])],
) -> Result<(), StoreError> {
    for (author, session, secret) in secrets {
        let key = tx.keys().secret(shard, *author, *session);
        if tx.get::<[u8; 32]>(&key)?.is_none() {
            tx.put(key, secret);
        }
    }
    Ok(())
}

fn judge(tx: &Tx<'_>, shard: &ShardState, item: &Item) -> Result<Verdict, StoreError> {
    let (id, dot) = (shard.info.shard, &item.dot);
    let state: Option<AuthorState> = tx.get(&tx.keys().author(id, dot.actor))?;
    let parked = state.as_ref().is_some_and(|state| state.parked.is_some());
    let (number, head) = state.map_or((0, Hash::default()), |state| (state.number, state.hash));
    if dot.counter > number + 1 {
        return Ok(if parked { Verdict::Skip } else { Verdict::Gap });
    }
    let Ok(edit) = Edit::from_bytes(&item.bytes) else { return Ok(Verdict::Park(Parked::Unreadable)) };
    if edit.dot() != *dot || edit.header.author.shard != id {
        return Ok(Verdict::Park(Parked::Unreadable));
    }
    let secret: Option<[u8; 32]> = tx.get(&tx.keys().secret(id, dot.actor, edit.header.origin.request.session))?;
    let Some(secret) = secret else { return Ok(Verdict::Park(Parked::Chain)) };
    let hash = edit.hash(&secret);
    if tx.get::<Dot>(&tx.keys().alias(id, dot, &hash))?.is_some() {
        return Ok(Verdict::Skip);
    }
    // A fork of this site's own edits is found by comparing heads, and repaired by `renew`.
    let is_own = edit.header.author.site == shard.own.site;
    let fits = if dot.counter <= number {
        tx.edit(id, dot)?.is_some_and(|held| held.hash == hash)
    } else {
        edit.header.previous == head
    };
    Ok(match (fits, dot.counter <= number) {
        (true, true) => Verdict::Known { parked },
        (true, false) => Verdict::Enter { edit: Box::new(edit), hash, parked },
        (false, _) if is_own => Verdict::Skip,
        (false, true) => Verdict::Park(Parked::Fork),
        (false, false) => Verdict::Park(Parked::Chain),
    })
}

/// Takes an author's edits again: what held it up was another branch, and this neighbour has the one that is held here.
fn release(tx: &mut Tx<'_>, shard: &ShardState, item: &Item) -> Result<(), StoreError> {
    let key = tx.keys().author(shard.info.shard, item.dot.actor);
    let state: AuthorState = tx.must(&key)?;
    tx.put(key, &AuthorState { parked: None, ..state });
    Ok(())
}

/// Takes nothing more of an author until an edit comes that fits its chain.
fn park(tx: &mut Tx<'_>, shard: &ShardState, item: &Item, peer: SiteId, reason: Parked) -> Result<(), StoreError> {
    let key = tx.keys().author(shard.info.shard, item.dot.actor);
    let mut state = match (tx.get::<AuthorState>(&key)?, Edit::from_bytes(&item.bytes)) {
        (Some(state), _) => state,
        (None, Ok(edit)) if edit.dot() == item.dot => {
            AuthorState { author: edit.header.author, number: 0, hash: Hash::default(), from: Some(peer), parked: None }
        }
        // Nothing readable is known of this author: the batch's sender is told by `Merged::parked`.
        (None, _) => return Ok(()),
    };
    state.parked = Some(reason);
    tx.put(key, &state);
    Ok(())
}
