//! A batch of a neighbour's stream: taken only if it begins where the cursor stands, so doubled batches and old leaders
//! are harmless. Its commands enter whole if the edit before them is here, are passed over if they are here, and their
//! edits are set aside if they cannot be folded. What does not chain parks its author only, and the neighbour is asked
//! once to go by heads.

use std::collections::BTreeMap;

use super::fold::{Entering, enter, poison_of};
use super::renew::leave;
use super::{AuthorState, GroupState, Parked, ShardState, Tx};
use crate::command::{Answer, Batch, Cursor, Item, MergeCommand, Merged, RefusalCode};
use crate::edit::{Author, COMMAND_BYTES_MAX, Dot, EDIT_BYTES_MAX, Edit};
use crate::encoding::Wire;
use crate::ids::{AuthorId, Hash, Incarnation, SessionId, SiteId};
use crate::inject::{is_armed, sometimes};
use crate::store::StoreError;

/// Edits in one batch: several times what a full batch holds of the smallest edits.
pub const ITEMS_MAX: usize = 4_096;

/// Secrets of one session of one author: more than one only if its site came back from a backup meanwhile.
pub const SECRETS_MAX: usize = 16;

type Secrets = BTreeMap<(AuthorId, SessionId), [u8; 32]>;

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
    let fits = begins || cursor == Some(batch.start);
    if sometimes("a batch is refused", !fits || batch.items.len() > ITEMS_MAX) {
        return Ok(Answer::Merged(merged));
    }
    let Batch { items, secrets, end, .. } = batch;
    let secrets: Secrets = secrets.into_iter().map(|(author, session, secret)| ((author, session), secret)).collect();
    let mut rest = items.as_slice();
    while let Some(first) = rest.first() {
        let (command, after) = take_command(rest, &shard, &secrets);
        rest = after;
        match command {
            Ok(parts) => take(tx, &mut shard, group.level, &secrets, parts, (peer, now_ms), &mut merged)?,
            Err(reason) => park(tx, &shard, (&first.dot, None), peer, reason, &mut merged)?,
        }
    }
    tx.put_shard(&shard);
    merged.taken = true;
    // What the sender left out for heads that no longer hold must come again, also if the link is cut right now.
    merged.cursor = (!merged.rewound).then_some(end);
    match &merged.cursor {
        Some(_) if is_armed("forget-cursor") => {}
        Some(cursor) => tx.put(cursor_key, cursor),
        None => tx.delete(cursor_key),
    }
    Ok(Answer::Merged(merged))
}

/// A part of a command, read and hashed.
struct Part<'b> {
    edit: Edit,
    hash: Hash,
    bytes: &'b [u8],
}

/// Reads the edits of one command from the front, or why they are none; returns what follows them.
fn take_command<'b>(
    items: &'b [Item],
    shard: &ShardState,
    secrets: &Secrets,
) -> (Result<Vec<Part<'b>>, Parked>, &'b [Item]) {
    let mut parts: Vec<Part<'b>> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let read = match read_part(item, shard, secrets) {
            Ok(part) => part,
            Err(reason) => return (Err(reason), &items[index + 1..]),
        };
        let header = &read.edit.header;
        let follows = parts.last().map_or(header.part == 0, |before| {
            let last = &before.edit.header;
            header.author == last.author
                && header.part == last.part + 1
                && header.number - 1 == last.number
                && header.previous == before.hash
                && (header.of, &header.origin) == (last.of, &last.origin)
        });
        if !follows {
            // What does not follow may be the beginning of the next command.
            return (Err(Parked::Chain), &items[index.max(1)..]);
        }
        let is_last = header.part + 1 == header.of;
        parts.push(read);
        if is_last {
            // Taken here, it would fit no batch to the next site, and hold up the whole stream before it.
            if parts.iter().map(|part| part.bytes.len()).sum::<usize>() > COMMAND_BYTES_MAX {
                return (Err(Parked::Unreadable), &items[index + 1..]);
            }
            return (Ok(parts), &items[index + 1..]);
        }
    }
    (Err(Parked::Chain), &[])
}

fn read_part<'b>(item: &'b Item, shard: &ShardState, secrets: &Secrets) -> Result<Part<'b>, Parked> {
    if item.bytes.len() > EDIT_BYTES_MAX {
        return Err(Parked::Unreadable);
    }
    let edit = Edit::from_bytes(&item.bytes).map_err(|_| Parked::Unreadable)?;
    if edit.dot() != item.dot || edit.header.author.shard != shard.info.shard {
        return Err(Parked::Unreadable);
    }
    let secret = secrets.get(&(item.dot.actor, edit.header.origin.request.session)).ok_or(Parked::Chain)?;
    let hash = edit.hash(secret);
    Ok(Part { edit, hash, bytes: &item.bytes })
}

/// Takes a whole command: what of it is here is passed over, the rest enters.
fn take(
    tx: &mut Tx<'_>,
    shard: &mut ShardState,
    level: u16,
    secrets: &Secrets,
    parts: Vec<Part<'_>>,
    (peer, now_ms): (SiteId, i64),
    merged: &mut Merged,
) -> Result<(), StoreError> {
    let id = shard.info.shard;
    let Some(first) = parts.first() else { return Ok(()) };
    let (header, dot) = (first.edit.header.clone(), first.edit.dot());
    let is_next = match header.number {
        1 => header.previous == Hash::default(),
        number => tx.locate(id, dot.actor, number - 1, &header.previous)?.is_some(),
    };
    let secret_of = (dot.actor, header.origin.request.session);
    if !is_next || !keep_secret(tx, id, secret_of, secrets)? {
        return park(tx, shard, (&dot, Some(header.author)), peer, Parked::Chain, merged);
    }
    for Part { edit, hash, bytes } in parts {
        let is_known = tx.locate(id, dot.actor, edit.header.number, &hash)?.is_some();
        // Bounded: each double would double again on every way that it takes.
        let again = is_armed("apply-twice") && tx.author(id, dot.actor)?.is_none_or(|root| root.aside == 0);
        if sometimes("an edit comes again", is_known) && !again {
            merged.known += 1;
            continue;
        }
        if is_armed("drop-edit-in-merge") && edit.header.number.is_multiple_of(5) {
            merged.known += 1;
            continue;
        }
        if sometimes("an incarnation is left in a merge", dot.actor == shard.own.id()) {
            leave(shard, now_ms);
        }
        merged.rewound |= tx.author(id, dot.actor)?.is_some_and(|state| state.parked.is_some());
        let poison = poison_of(&edit, level);
        sometimes("an edit is set aside", poison.is_some());
        let (dot, from) = (Dot { actor: dot.actor, counter: edit.header.number }, Some(peer));
        let entering = Entering { edit: &edit, dot, bytes: bytes.to_vec(), hash, from, poison, transition: None };
        enter(tx, shard, entering, now_ms)?;
        *(if poison.is_some() { &mut merged.poisoned } else { &mut merged.folded }) += 1;
    }
    Ok(())
}

/// Keeps a session's secret beside those that are known of it. A site that came back from a backup in the middle of a
/// session has drawn another one.
pub(crate) fn keep_secret(
    tx: &mut Tx<'_>,
    shard: crate::ids::ShardId,
    of: (AuthorId, SessionId),
    secrets: &Secrets,
) -> Result<bool, StoreError> {
    let Some(secret) = secrets.get(&of) else { return Ok(false) };
    let key = tx.keys().secret(shard, of.0, of.1);
    let mut known: Vec<[u8; 32]> = tx.get_held(&key)?.unwrap_or_default();
    if known.contains(secret) {
        return Ok(true);
    }
    sometimes("a session has two secrets", !known.is_empty());
    if known.len() >= SECRETS_MAX {
        return Ok(false);
    }
    known.push(*secret);
    tx.put(key, &known);
    Ok(true)
}

/// Remembers that an author's chain does not fit, until an edit comes that does. The first time, the neighbour is to go
/// by heads: it may have left out what is missing.
fn park(
    tx: &mut Tx<'_>,
    shard: &ShardState,
    (dot, author): (&Dot, Option<Author>),
    peer: SiteId,
    reason: Parked,
    merged: &mut Merged,
) -> Result<(), StoreError> {
    let key = tx.keys().author(shard.info.shard, dot.actor);
    let known: Option<AuthorState> = tx.get(&key)?;
    if known.as_ref().is_some_and(|state| state.parked.is_some()) {
        return Ok(());
    }
    sometimes("an author is parked", true);
    merged.parked.push(dot.actor);
    merged.rewound = true;
    // Of an author of whom nothing could be read, only the neighbour that named it is known.
    let unknown = Author { site: peer, shard: shard.info.shard, incarnation: Incarnation::default() };
    let state = known.unwrap_or(AuthorState {
        author: author.unwrap_or(unknown),
        number: 0,
        hash: Hash::default(),
        from: Some(peer),
        parked: None,
        trunk: None,
        aside: 0,
    });
    tx.put(key, &AuthorState { parked: Some(reason), ..state });
    Ok(())
}
