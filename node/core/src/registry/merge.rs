//! A batch of a neighbour's stream: taken only if it begins where the cursor stands, so doubled batches and old leaders
//! are harmless. Its commands enter whole if the edit before them is here, are passed over if they are here, and their
//! edits are set aside if they cannot be folded. What does not chain parks its author only, and the neighbour is asked
//! once to go by heads.
//!
//! Whoever numbered an edit gives its word for it, with a [`Seal`] over it or over a later edit that chains to it in the
//! same batch. A batch with an edit for which nobody does, whose bytes cannot be read, or whose command is not whole, is taken in
//! no part, and leaves nothing behind: an honest neighbour sends none, and nobody can make this site remember authors that there are not. The
//! signatures were checked at the door.

use std::collections::{BTreeMap, BTreeSet};

use super::fold::{Entered, Entering, enter, poison_of};
use super::renew::leave;
use super::{Arrival, AuthorState, GroupState, Parked, ShardState, StoredEdit, Tx};
use crate::command::{Answer, Checked, Cursor, Item, MergeCommand, Merged, RefusalCode, Seal};
use crate::edit::{Author, COMMAND_BYTES_MAX, Dot, EDIT_BYTES_MAX, Edit, Header};
use crate::encoding::Wire;
use crate::ids::{AuthorId, Hash, KeyMark, SessionId, SiteId};
use crate::inject::{is_armed, sometimes};
use crate::share::{FLOOD_BYTES, LIFE_BYTES_MAX};
use crate::store::StoreError;

/// Edits in one batch: several times what a full batch holds of the smallest edits.
pub const ITEMS_MAX: usize = 4_096;

/// Secrets of one session of one author: more than one only if its site came back from a backup meanwhile.
pub const SECRETS_MAX: usize = 16;

/// Lives of one site as an author of one shard that are taken of it under one key: a site begins a new one when its data came back from
/// a backup. Beyond that, its key is in wrong hands, and it needs another one: under that it has as many again.
pub const LIVES_OF_KEY_MAX: usize = 64;

/// The same under all of its keys: it may lose some.
pub const LIVES_MAX: usize = 256;
// What is left of all lives of a site that floods a record is no more than it may write of it otherwise.
const _: () = assert!(LIVES_MAX as u64 * LIFE_BYTES_MAX <= FLOOD_BYTES);

type Secrets = BTreeMap<(AuthorId, SessionId), [u8; 32]>;

/// With which keys authors' sites gave their words in a batch.
type WordKeys = BTreeMap<Author, KeyMark>;

pub(super) fn apply(tx: &mut Tx<'_>, group: &GroupState, command: MergeCommand) -> Result<Answer, StoreError> {
    let MergeCommand { peer, now_ms, shard: id, start, end, items, secrets, seals } = command;
    let Some(mut shard) = tx.shard(id)? else {
        let text = format!("shard {id} is not hosted by this group");
        return Ok(Answer::refused(RefusalCode::Unknown, text));
    };
    let cursor_key = tx.keys().cursor(id, peer);
    let cursor: Option<Cursor> = tx.get(&cursor_key)?;
    let begins = start == Cursor::start(start.epoch);
    let mut merged = Merged {
        shard: id,
        taken: false,
        cursor,
        folded: 0,
        known: 0,
        poisoned: 0,
        rewound: false,
        parked: Vec::new(),
        refused: None,
    };
    let fits = begins || cursor == Some(start);
    if sometimes("a batch is refused", !fits || items.len() > ITEMS_MAX) {
        return Ok(Answer::Merged(merged));
    }
    let secrets: Secrets = secrets.into_iter().map(|(author, session, secret)| ((author, session), secret)).collect();
    let keys: WordKeys = seals.iter().map(|Checked { seal, key }| (seal.tip.author, *key)).collect();
    let parts: Result<Vec<Part<'_>>, AuthorId> =
        items.iter().map(|item| read_part(item, &shard, &secrets).ok_or(item.dot.actor)).collect();
    let commands = match parts {
        Ok(parts) => match refused(tx, &shard, &parts, &secrets, (&seals, &keys))? {
            None => commands(parts),
            Some(author) => Err(author),
        },
        Err(author) => Err(author),
    };
    let commands = match commands {
        Ok(commands) => commands,
        Err(author) => {
            merged.refused = Some(author);
            return Ok(Answer::Merged(merged));
        }
    };
    let (before, mut entered) = (shard.arrivals, Entered::default());
    for parts in commands {
        take(tx, &mut shard, group.level, (&secrets, &keys), parts, (peer, now_ms), (&mut entered, &mut merged))?;
    }
    let entered = entered.settle(tx, &mut shard, now_ms)?;
    (merged.folded, merged.poisoned) = (entered.folded, entered.poisoned);
    if shard.arrivals > before {
        keep_seals(tx, &shard, &seals)?;
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

/// An edit, read and hashed.
struct Part<'b> {
    edit: Edit,
    dot: &'b Dot,
    hash: Hash,
    bytes: &'b [u8],
}

/// An author of the batch for one of whose edits nobody gives its word, who has too many lives, or one of whose sessions has
/// too many secrets.
fn refused(
    tx: &Tx<'_>,
    shard: &ShardState,
    parts: &[Part<'_>],
    secrets: &Secrets,
    (seals, keys): (&[Checked], &WordKeys),
) -> Result<Option<AuthorId>, StoreError> {
    // A word counts for its own author's edits alone: somebody else's hash in it, or in an edit, proves nothing.
    let mut sealed: BTreeSet<(Author, u64, Hash)> =
        seals.iter().map(|Checked { seal: Seal { tip, .. }, .. }| (tip.author, tip.number, tip.hash)).collect();
    for Part { edit, hash, .. } in parts.iter().rev() {
        let Header { author, number, previous, .. } = edit.header;
        let for_any = is_armed("word-for-others") && sealed.iter().any(|(_, _, other)| other == hash);
        if !sealed.contains(&(author, number, *hash)) && !for_any && !is_armed("take-unsealed") {
            return Ok(Some(author.id()));
        }
        sealed.insert((author, number - 1, previous));
    }
    for ((author, session), secret) in secrets {
        let known: Vec<[u8; 32]> =
            tx.get_held(&tx.keys().secret(shard.info.shard, *author, *session))?.unwrap_or_default();
        if known.len() >= SECRETS_MAX && !known.contains(secret) {
            return Ok(Some(*author));
        }
    }
    let mut new: BTreeSet<(Author, KeyMark)> = BTreeSet::new();
    for author in parts.iter().map(|part| part.edit.header.author).collect::<BTreeSet<Author>>() {
        if tx.author(shard.info.shard, author.id())?.is_none() {
            new.insert((author, keys.get(&author).copied().unwrap_or_default()));
        }
    }
    if new.is_empty() || is_armed("unbounded-lives") {
        return Ok(None);
    }
    // Branches are of the life that they grew in, and of its key.
    let known = tx.range::<AuthorState>(tx.keys().authors(shard.info.shard))?;
    let mut all: BTreeSet<(Author, KeyMark)> = known.into_iter().map(|(_, state)| (state.author, state.key)).collect();
    all.extend(&new);
    let is_beyond = |(author, key): &&(Author, KeyMark)| {
        let of_site = all.iter().filter(|(other, _)| other.site == author.site);
        of_site.clone().count() > LIVES_MAX || of_site.filter(|(_, other)| other == key).count() > LIVES_OF_KEY_MAX
    };
    let beyond = new.iter().find(is_beyond);
    sometimes("a site has no room for another life", beyond.is_some());
    let is_rekeyed = |(author, key): &(Author, KeyMark)| {
        all.iter().any(|(other, before)| other.site == author.site && *before > KeyMark::default() && before != key)
    };
    sometimes("a site begins a life under another key", beyond.is_none() && new.iter().any(is_rekeyed));
    Ok(beyond.map(|(author, _)| author.id()))
}

/// Keeps the words of author sites, so that they go on with the edits; and lets this site's batches end here.
fn keep_seals(tx: &mut Tx<'_>, shard: &ShardState, seals: &[Checked]) -> Result<(), StoreError> {
    let id = shard.info.shard;
    for Checked { seal: Seal { tip, signature }, .. } in seals {
        let Some(place) = tx.locate(id, tip.author.id(), tip.number, &tip.hash)? else { continue };
        let stored: StoredEdit = tx.must(&tx.keys().edit(id, &place))?;
        tx.put(tx.keys().seal(id, stored.position), signature);
    }
    end_batch(tx, shard)
}

/// Lets this site's batches end with the edit that came last.
pub(crate) fn end_batch(tx: &mut Tx<'_>, shard: &ShardState) -> Result<(), StoreError> {
    let key = tx.keys().arrival(shard.info.shard, shard.arrivals);
    let arrival: Arrival = tx.must(&key)?;
    tx.put(key, &Arrival { last: true, ..arrival });
    Ok(())
}

/// The edits by commands; or the author of one that is not whole, or so large that it would fit no batch to the next site, and
/// hold up the whole stream before it.
fn commands(parts: Vec<Part<'_>>) -> Result<Vec<Vec<Part<'_>>>, AuthorId> {
    let mut commands: Vec<Vec<Part<'_>>> = Vec::new();
    for part in parts {
        let header = &part.edit.header;
        match commands.last_mut().filter(|command| !is_whole(command)) {
            Some(command) if follows(command, &part) => command.push(part),
            None if header.part == 0 => commands.push(vec![part]),
            Some(command) => return Err(command[0].edit.header.author.id()),
            None => return Err(header.author.id()),
        }
    }
    let bytes = |command: &[Part<'_>]| command.iter().map(|part| part.bytes.len()).sum::<usize>();
    let is_fit = |command: &Vec<Part<'_>>| is_whole(command) && bytes(command) <= COMMAND_BYTES_MAX;
    match commands.iter().find(|command| !is_fit(command)) {
        Some(_) if is_armed("take-half-commands") => Ok(commands),
        Some(command) => Err(command[0].edit.header.author.id()),
        None => Ok(commands),
    }
}

fn is_whole(command: &[Part<'_>]) -> bool {
    command.last().is_some_and(|part| part.edit.header.part + 1 == part.edit.header.of)
}

/// Whether `next` goes on where a command has come to.
fn follows(command: &[Part<'_>], next: &Part<'_>) -> bool {
    command.last().is_some_and(|before| {
        let (last, header) = (&before.edit.header, &next.edit.header);
        header.author == last.author
            && header.part == last.part + 1
            && header.number - 1 == last.number
            && header.previous == before.hash
            && (header.of, &header.origin) == (last.of, &last.origin)
    })
}

/// Reads and hashes an edit. One without a change says nothing, and its hash depends on no secret.
fn read_part<'b>(item: &'b Item, shard: &ShardState, secrets: &Secrets) -> Option<Part<'b>> {
    if item.bytes.len() > EDIT_BYTES_MAX {
        return None;
    }
    let edit = Edit::from_bytes(&item.bytes).ok()?;
    if edit.dot() != item.dot || edit.header.author.shard != shard.info.shard || edit.changes.is_empty() {
        return None;
    }
    let secret = secrets.get(&(item.dot.actor, edit.header.origin.request.session))?;
    let hash = edit.hash(secret);
    Some(Part { edit, dot: &item.dot, hash, bytes: &item.bytes })
}

/// Takes a whole command: what of it is here is passed over, the rest enters.
fn take(
    tx: &mut Tx<'_>,
    shard: &mut ShardState,
    level: u16,
    (secrets, keys): (&Secrets, &WordKeys),
    parts: Vec<Part<'_>>,
    (peer, now_ms): (SiteId, i64),
    (entered, merged): (&mut Entered, &mut Merged),
) -> Result<(), StoreError> {
    let id = shard.info.shard;
    let Some(first) = parts.first() else { return Ok(()) };
    let (header, dot) = (first.edit.header.clone(), first.dot.clone());
    let is_next = match header.number {
        1 => header.previous == Hash::default(),
        number => tx.locate(id, dot.actor, number - 1, &header.previous)?.is_some(),
    };
    let secret_of = (dot.actor, header.origin.request.session);
    let key = keys.get(&header.author).copied().unwrap_or_default();
    if !is_next || !keep_secret(tx, id, secret_of, secrets)? {
        return park(tx, shard, &first.edit, (peer, key), Parked::Chain, merged);
    }
    for Part { edit, hash, bytes, .. } in parts {
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
        if is_armed("drop-part-in-merge") && edit.header.part > 0 {
            merged.known += 1;
            continue;
        }
        if sometimes("an incarnation is left in a merge", header.author == shard.own) {
            leave(shard, now_ms);
        }
        merged.rewound |= tx.author(id, dot.actor)?.is_some_and(|state| state.parked.is_some());
        let poison = poison_of(&edit, &shard.info, level);
        let (dot, from) = (Dot { actor: dot.actor, counter: edit.header.number }, Some(peer));
        let entering = Entering { edit: &edit, dot, bytes: bytes.to_vec(), hash, from, key, poison, transition: None };
        enter(tx, shard, entering, entered, now_ms)?;
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
    edit: &Edit,
    (peer, by): (SiteId, KeyMark),
    reason: Parked,
    merged: &mut Merged,
) -> Result<(), StoreError> {
    let author = edit.dot().actor;
    let key = tx.keys().author(shard.info.shard, author);
    let known: Option<AuthorState> = tx.get(&key)?;
    if known.as_ref().is_some_and(|state| state.parked.is_some()) {
        return Ok(());
    }
    sometimes("an author is parked", true);
    merged.parked.push(author);
    merged.rewound = true;
    let state = known.unwrap_or(AuthorState {
        author: edit.header.author,
        number: 0,
        hash: Hash::default(),
        from: Some(peer),
        key: by,
        parked: None,
        trunk: None,
        aside: 0,
    });
    tx.put(key, &AuthorState { parked: Some(reason), ..state });
    Ok(())
}
