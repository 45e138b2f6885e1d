//! Work lists: an entry for each thing that an officer has to do ([`crate::work`]), kept as edits enter. They go by kind and day, so that the
//! first of a list are those that are due first, and what a page costs follows what it shows; a signpost of the group says under which kind and
//! day a shard has some, so that the list of a province is not put together from all of its communes.

use std::collections::BTreeSet;

use super::{Tx, corrupt, read_range, record_of};
use crate::command::{ConflictEntry, ConflictKey, PendingEntry};
use crate::date::{Date, InstantMs};
use crate::dossier::open_steps;
use crate::encoding::{Malformed, Wire};
use crate::ids::{RecordId, ShardId};
use crate::inject::is_armed;
use crate::keys::{Keys, own_suffix, suffix};
use crate::record::Record;
use crate::schema::RecordKind;
use crate::store::{StateView, StoreError};
use crate::work::{Entry, Work};

/// The kind of work that a conflict is.
fn of_conflict(conflict: &ConflictKey) -> Work {
    match conflict {
        ConflictKey::Field(_) => Work::Conflict,
        ConflictKey::Rule(_) => Work::Rule,
        ConflictKey::Number(_) => Work::NumberTwice,
    }
}

/// The entry of a conflict.
pub(super) fn conflict(record: RecordId, conflict: &ConflictKey, since_ms: i64) -> Entry {
    Entry { work: of_conflict(conflict), since: day(since_ms), record, item: conflict.to_bytes() }
}

/// The entry of an edit that waits for a second person; `name` as in the key of what waits.
pub(super) fn second(record: RecordId, name: Vec<u8>, since_ms: i64) -> Entry {
    Entry { work: Work::Second, since: day(since_ms), record, item: name }
}

/// The entry of a person who waits for a number.
pub(super) fn number(record: RecordId, since_ms: i64) -> Entry {
    Entry { work: Work::Number, since: day(since_ms), record, item: Vec::new() }
}

fn day(at_ms: i64) -> Date {
    InstantMs(at_ms).date_in_vietnam()
}

/// The steps of a dossier that somebody has to do something about, with their days.
#[inline(never)] // its share is told when instructions are counted
pub(super) fn steps(record: &Record) -> BTreeSet<(Work, Date)> {
    if record.kind != RecordKind::Dossier {
        return BTreeSet::new();
    }
    let place = |at: usize| u8::try_from(at).unwrap_or(u8::MAX);
    let work = |(service, step, stage, since)| (Work::Step(stage, place(service), place(step)), since);
    open_steps(record).into_iter().map(work).collect()
}

/// Puts an entry into the lists of a shard.
#[inline(never)] // its share is told when instructions are counted
pub(super) fn open(tx: &mut Tx<'_>, shard: ShardId, entry: &Entry) {
    if is_armed("work-forgotten") && entry.work == Work::Second {
        return;
    }
    let keys = tx.keys();
    tx.put_bytes(keys.due(entry.work, entry.since, shard), Vec::new());
    tx.put_bytes(keys.work(shard, entry), Vec::new());
}

/// Takes an entry off.
#[inline(never)] // its share is told when instructions are counted
pub(super) fn close(tx: &mut Tx<'_>, shard: ShardId, entry: &Entry) -> Result<(), StoreError> {
    if is_armed("work-stays") && matches!(entry.work, Work::Step(..)) {
        return Ok(());
    }
    let keys = tx.keys();
    tx.delete(keys.work(shard, entry));
    if tx.is_empty(keys.work_on(shard, entry.work, entry.since))? {
        tx.delete(keys.due(entry.work, entry.since, shard));
    }
    Ok(())
}

/// The entry in a key of a shard's lists.
///
/// # Errors
/// A key that is none.
pub fn entry_of(key: &[u8]) -> Result<Entry, StoreError> {
    let read = || {
        let (work, rest) = suffix(key, 0).split_first()?;
        let (since, rest) = rest.split_first_chunk::<4>()?;
        let (record, item) = rest.split_first_chunk::<16>()?;
        let since = crate::keys::day_of(*since);
        Some(Entry { work: Work::of_code(*work)?, since, record: RecordId(*record), item: item.to_vec() })
    };
    read().ok_or_else(|| corrupt(key, Malformed { what: "key of a work list" }))
}

/// The shard in a signpost to a work list, and the day.
///
/// # Errors
/// A key that is none.
pub fn due_of(key: &[u8]) -> Result<(Date, ShardId), StoreError> {
    let read = || {
        let (day, shard) = own_suffix(key, 0).get(1..)?.split_first_chunk::<4>()?;
        Some((crate::keys::day_of(*day), ShardId(u64::from_be_bytes(shard.try_into().ok()?))))
    };
    read().ok_or_else(|| corrupt(key, Malformed { what: "signpost of a work list" }))
}

/// Makes the signposts to the lists of a shard.
pub(super) fn signpost(tx: &mut Tx<'_>, view: &dyn StateView, shard: ShardId) -> Result<(), StoreError> {
    let (from, to) = tx.keys().all_work(shard);
    for item in view.scan(&from, &to) {
        let entry = entry_of(&item?.0)?;
        tx.put_bytes(tx.keys().due(entry.work, entry.since, shard), Vec::new());
    }
    Ok(())
}

/// The lists of a shard, whole: for whoever checks a state.
///
/// # Errors
/// What cannot be read.
pub fn work(view: &dyn StateView, keys: Keys, shard: ShardId) -> Result<BTreeSet<Entry>, StoreError> {
    let (from, to) = keys.all_work(shard);
    view.scan(&from, &to).map(|item| entry_of(&item?.0)).collect()
}

/// What they must be by what is open in the shard; each has its signpost, too.
///
/// # Errors
/// What cannot be read, and a signpost that is missing.
pub fn work_recounted(view: &dyn StateView, keys: Keys, shard: ShardId) -> Result<BTreeSet<Entry>, StoreError> {
    let mut found = BTreeSet::new();
    for (key, since) in read_range::<ConflictEntry>(view, keys.conflicts(shard, None))? {
        let (record, rest) = record_in(&key)?;
        let of = ConflictKey::from_bytes(rest).map_err(|error| corrupt(&key, error))?;
        found.insert(conflict(record, &of, since.since_ms));
    }
    for (key, waits) in read_range::<PendingEntry>(view, keys.all_pending(shard, None))? {
        let (record, name) = record_in(&key)?;
        found.insert(second(record, name.to_vec(), waits.since_ms));
    }
    for (key, since) in read_range::<Option<i64>>(view, keys.all_unnumbered(shard))? {
        let (record, _) = record_in(&key)?;
        found.extend(since.map(|since_ms| number(record, since_ms)));
    }
    for (key, record) in read_range::<Record>(view, keys.records(shard))? {
        let id = record_of(&key)?;
        let entry = |(work, since)| Entry { work, since, record: id, item: Vec::new() };
        found.extend(steps(&record).into_iter().map(entry));
    }
    for entry in &found {
        let key = keys.due(entry.work, entry.since, shard);
        if view.get(&key)?.is_none() {
            return Err(corrupt(&key, Malformed { what: "signpost of a work list: it is missing" }));
        }
    }
    Ok(found)
}

fn record_in(key: &[u8]) -> Result<(RecordId, &[u8]), StoreError> {
    let parts = suffix(key, 0).split_first_chunk().map(|(record, rest)| (RecordId(*record), rest));
    parts.ok_or_else(|| corrupt(key, Malformed { what: "key that begins with a record" }))
}
