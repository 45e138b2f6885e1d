//! The one place where an edit enters log, chain, record, indexes and digests; and the refolding of a record from its
//! edits, which gives the same state as if they had come in any other order.

use std::collections::BTreeSet;

use crdts::CmRDT;

use super::family::{grow, is_entangled, resolve};
use super::{Arrival, GroupState, LEVEL_MAX, Poison, ShardState, StoredEdit, Tx, corrupt};
use crate::command::{Answer, ConflictEntry, ConflictKey, Digest, Nothing, Raise, Receipt, RefusalCode};
use crate::edit::{Dot, Edit, EditKind};
use crate::encoding::Wire;
use crate::ids::{Hash, RecordId, ShardId, SiteId};
use crate::inject::{is_armed, sometimes};
use crate::lens;
use crate::record::{Record, Write};
use crate::schema::FieldId;
use crate::store::StoreError;

/// The running hash of a stream after one more edit.
#[must_use]
pub fn running_hash(before: &Hash, edit: &Hash) -> Hash {
    let mut hasher = blake3::Hasher::new_derive_key("dinhba 2026 stream");
    hasher.update(&before.0).update(&edit.0);
    Hash(*hasher.finalize().as_bytes())
}

/// An edit that is ready to enter: decoded, chained, hashed.
pub(crate) struct Entering<'e> {
    pub edit: &'e Edit,
    pub bytes: Vec<u8>,
    pub hash: Hash,
    /// The neighbour it came from, if any.
    pub from: Option<SiteId>,
    /// Set if it must not be folded.
    pub poison: Option<Poison>,
    /// What was seen of its record when the edit was decided, if it was.
    pub foreseen: Option<Foreseen>,
}

/// A record before an edit, and the conflicts in which the fields of the edit are before and after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Foreseen {
    pub old: Option<(Record, Vec<u8>)>,
    pub before: BTreeSet<ConflictKey>,
    pub after: BTreeSet<ConflictKey>,
}

impl Foreseen {
    /// What becomes of the conflicts of a record's touched fields.
    pub fn between(old: Option<(Record, Vec<u8>)>, new: Option<&Record>, touches: impl Fn(FieldId) -> bool) -> Self {
        let conflicts = |record: Option<&Record>| record.map(|it| conflicts_among(it, &touches)).unwrap_or_default();
        let (before, after) = (conflicts(old.as_ref().map(|(record, _)| record)), conflicts(new));
        Foreseen { old, before, after }
    }
}

/// Enters one edit that follows its author's head.
pub(crate) fn enter(
    tx: &mut Tx<'_>,
    shard: &mut ShardState,
    entering: Entering<'_>,
    now_ms: i64,
) -> Result<(), StoreError> {
    let Entering { edit, bytes, hash, from, poison, foreseen } = entering;
    let (id, header, keys) = (shard.info.shard, &edit.header, tx.keys());
    let dot = grow(tx, shard, edit, hash, from, now_ms)?;

    shard.arrivals += 1;
    shard.running = running_hash(&shard.running, &hash);
    shard.edits_digest.add(Digest::of(&tx.context.digest_key, &hash.0));
    let arrival = Arrival { dot: dot.clone(), from, running: shard.running, last: header.part + 1 == header.of };
    tx.put(keys.arrival(id, shard.arrivals), &arrival);
    tx.put(keys.edit(id, &dot), &StoredEdit { position: shard.arrivals, hash, bytes });
    tx.put(keys.history_entry(id, header.record, shard.arrivals), &dot);
    if arrival.last {
        remember_request(tx, id, edit, (&dot, hash), foreseen.is_some())?;
    }
    if let Some(poison) = poison {
        shard.poisoned += 1;
        tx.put(keys.poison(id, &dot), &poison);
        return Ok(());
    }
    if sometimes("a record is folded anew", is_entangled(tx, id, edit, &dot)?) {
        return refold(tx, shard, header.record, now_ms);
    }
    let touched: Vec<FieldId> = edit.changes.iter().map(|change| change.field).collect();
    let (old, known) = match foreseen {
        Some(Foreseen { old, before, after }) => (old, Some((before, after))),
        None => (tx.record(id, header.record)?, None),
    };
    let mut new = old.as_ref().map_or_else(|| Record::new(header.record_kind), |(record, _)| record.clone());
    fold_in(&mut new, edit, &dot);
    // Rules depend on the kind.
    let is_other = old.as_ref().is_some_and(|(old, _)| old.kind != new.kind);
    let touches = |field| is_other || touched.contains(&field);
    let foreseen = match known {
        Some((before, after)) => Foreseen { old, before, after },
        None => Foreseen::between(old, Some(&new), touches),
    };
    debug_assert_eq!(foreseen, Foreseen::between(tx.record(id, header.record)?, Some(&new), touches));
    replace(tx, shard, header.record, foreseen, Some(&new), touches, now_ms);
    Ok(())
}

/// Folds an edit into its record under its name. If edits disagree about the record's kind, the lowest counts, so that
/// the order in which they came does not.
fn fold_in(record: &mut Record, edit: &Edit, name: &Dot) {
    record.kind = record.kind.min(edit.header.record_kind);
    let mut write = Write { dot: name.clone(), ..Write::from(edit) };
    if is_armed("decision-overwrites-unseen") && edit.header.kind == EditKind::Decision {
        for change in &mut write.changes {
            change.overwrites = record.dots(&(change.field, change.element.clone()));
        }
    }
    record.apply(write);
}

/// The first acceptance of a request that comes here is the one that a retry is told.
fn remember_request(
    tx: &mut Tx<'_>,
    shard: ShardId,
    edit: &Edit,
    (name, hash): (&Dot, Hash),
    is_surely_first: bool,
) -> Result<(), StoreError> {
    let key = tx.keys().request(edit.header.origin.request);
    if (is_surely_first || tx.get::<Receipt>(&key)?.is_none()) && !is_armed("lose-request-id") {
        let first = Dot { actor: name.actor, counter: name.counter - u64::from(edit.header.part) };
        tx.put(key, &Receipt { shard, first, count: edit.header.of, hash });
    }
    Ok(())
}

/// Puts a record in the place of its former state, with everything that derives from it. Fields that `touches` denies are
/// as they were, so that what derives from them alone is.
fn replace(
    tx: &mut Tx<'_>,
    shard: &mut ShardState,
    id: RecordId,
    foreseen: Foreseen,
    new: Option<&Record>,
    touches: impl Fn(FieldId) -> bool,
    now_ms: i64,
) {
    let Foreseen { old, before: conflicts_before, after: conflicts_now } = foreseen;
    let (keys, home) = (tx.keys(), shard.info.shard);
    let digest = |bytes: &[u8]| {
        let member = [&id.0[..], bytes].concat();
        Digest::of(&tx.context.digest_key, &member)
    };
    if let Some((_, bytes)) = &old
        && !is_armed("keep-old-digest")
    {
        shard.state_digest.subtract(digest(bytes));
    }
    let new_bytes = new.map(Wire::to_bytes);
    if let Some(bytes) = &new_bytes {
        shard.state_digest.add(digest(bytes));
    }

    let terms = |record: Option<&Record>| -> BTreeSet<[u8; 16]> {
        record
            .filter(|_| lens::SEARCHED.iter().any(|field| touches(*field)))
            .map(|record| lens::search_terms(record, &tx.context.index_key))
            .unwrap_or_default()
    };
    let old_record = old.as_ref().map(|(record, _)| record);
    let (terms_before, terms_now) = (terms(old_record), terms(new));

    for term in terms_before.difference(&terms_now) {
        tx.delete(keys.index(term, home, id));
    }
    for term in terms_now.difference(&terms_before) {
        tx.put_bytes(keys.index(term, home, id), Vec::new());
    }
    sometimes("a conflict opens", conflicts_now.difference(&conflicts_before).next().is_some());
    for conflict in conflicts_before.difference(&conflicts_now) {
        tx.delete(keys.conflict(home, id, &conflict.to_bytes()));
    }
    for conflict in conflicts_now.difference(&conflicts_before) {
        tx.put(keys.conflict(home, id, &conflict.to_bytes()), &ConflictEntry { since_ms: now_ms });
    }
    shard.conflicts = shard.conflicts + conflicts_now.len() as u64 - conflicts_before.len() as u64;

    if let Some(record) = old_record {
        *lens::counter(shard, record.kind) -= 1;
    }
    match (new, new_bytes) {
        (Some(record), Some(bytes)) => {
            *lens::counter(shard, record.kind) += 1;
            tx.put_bytes(keys.record(home, id), bytes);
            if old_record.is_none() {
                tx.put_bytes(keys.index(&id.0, home, id), Vec::new());
            }
        }
        _ => {
            tx.delete(keys.record(home, id));
            tx.delete(keys.index(&id.0, home, id));
        }
    }
}

/// What an officer must decide about a record: legal fields with several different values, and rules that do not hold.
#[must_use]
pub fn conflicts_of(record: &Record) -> BTreeSet<ConflictKey> {
    conflicts_among(record, |_| true)
}

/// Of those, what touched fields may have brought or ended.
fn conflicts_among(record: &Record, touches: impl Fn(FieldId) -> bool) -> BTreeSet<ConflictKey> {
    let fields = record
        .fields()
        .filter(|(key, _)| touches(key.0) && lens::is_adjudicated(key.0) && record.is_disputed(key))
        .map(|(key, _)| ConflictKey::Field(key.clone()));
    fields.chain(lens::broken_rules(record, &touches).into_iter().map(ConflictKey::Rule)).collect()
}

/// Folds a record anew from those of its edits that are not set aside.
pub(super) fn refold(tx: &mut Tx<'_>, shard: &mut ShardState, id: RecordId, now_ms: i64) -> Result<(), StoreError> {
    let home = shard.info.shard;
    let old = tx.record(home, id)?;
    let mut edits: Vec<(Dot, Edit)> = Vec::new();
    for (_, dot) in tx.range::<Dot>(tx.keys().history(home, id))? {
        let key = tx.keys().edit(home, &dot);
        let stored: StoredEdit = tx.must(&key)?;
        edits.push((dot, Edit::from_bytes(&stored.bytes).map_err(|error| corrupt(&key, error))?));
    }
    resolve(tx, home, &mut edits)?;
    let mut new: Option<Record> = None;
    for (dot, edit) in &edits {
        if tx.get::<Poison>(&tx.keys().poison(home, dot))?.is_none() {
            fold_in(new.get_or_insert_with(|| Record::new(edit.header.record_kind)), edit, dot);
        }
    }
    let foreseen = Foreseen::between(old, new.as_ref(), |_| true);
    replace(tx, shard, id, foreseen, new.as_ref(), |_| true, now_ms);
    Ok(())
}

/// Why an edit must be set aside in a group of this level, if it must.
pub(crate) fn poison_of(edit: &Edit, level: u16) -> Option<Poison> {
    let header = &edit.header;
    if header.level > level {
        return Some(Poison::Level);
    }
    if !header.kind.is_known() {
        return Some(Poison::Kind);
    }
    let valid = edit.changes.iter().all(|change| lens::validate(header.record_kind, change).is_ok());
    (!valid).then_some(Poison::Value)
}

/// Raises the group's feature level by one and folds the edits that waited for it.
pub(super) fn raise(tx: &mut Tx<'_>, mut group: GroupState, raise: &Raise) -> Result<Answer, StoreError> {
    let Raise { level, now_ms } = *raise;
    if level == group.level {
        return Ok(Answer::Done(Nothing));
    }
    if level != group.level + 1 || level > LEVEL_MAX {
        let text = format!(
            "the level can rise by one, to {} at most; this group is at {}, these nodes know up to {LEVEL_MAX}",
            group.level + 1,
            group.level
        );
        return Ok(Answer::refused(RefusalCode::Level, text));
    }
    group.level = level;
    tx.put_group(&group);
    for (_, mut shard) in tx.range::<ShardState>(tx.keys().shards())? {
        let home = shard.info.shard;
        let mut waiting = BTreeSet::new();
        for (key, poison) in tx.range::<Poison>(tx.keys().poisons(home))? {
            let dot = poison_dot(&key)?;
            let edit_key = tx.keys().edit(home, &dot);
            let stored: StoredEdit = tx.must(&edit_key)?;
            let edit = Edit::from_bytes(&stored.bytes).map_err(|error| corrupt(&edit_key, error))?;
            if poison == Poison::Level && edit.header.level <= level {
                match poison_of(&edit, level) {
                    Some(other) => tx.put(key, &other),
                    None => {
                        sometimes("an edit that was set aside is folded", true);
                        tx.delete(key);
                        shard.poisoned -= 1;
                        waiting.insert(edit.header.record);
                    }
                }
            }
        }
        for record in waiting {
            refold(tx, &mut shard, record, now_ms)?;
        }
        tx.put_shard(&shard);
    }
    Ok(Answer::Done(Nothing))
}

/// The dot in the key of an edit that is set aside.
fn poison_dot(key: &[u8]) -> Result<Dot, StoreError> {
    let suffix = crate::keys::suffix(key, 8);
    let parts = suffix.split_first_chunk::<16>().and_then(|(actor, rest)| Some((*actor, rest.try_into().ok()?)));
    let (actor, counter) =
        parts.ok_or_else(|| corrupt(key, crate::encoding::Malformed { what: "key of an edit set aside" }))?;
    Ok(Dot { actor: crate::ids::AuthorId(actor), counter: u64::from_be_bytes(counter) })
}
