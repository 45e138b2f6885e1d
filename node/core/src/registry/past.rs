//! A record as it was: two times, and both at once. *Known*: of its edits only those that an office had received by a moment.
//! *In law*: only those that held on a day, whenever they were written down.
//!
//! Folded anew from the edits, so it costs what the record's history has, and shows what the edits say: what was set aside is
//! left out, as in the record of today. An edit that did not count yet may have been replaced by one that did: then that one
//! replaces, too, what the other had.
//!
//! Limit: *received* is the time of the office that wrote the edit, by its clock; when it came here is not kept.

use std::collections::{BTreeMap, BTreeSet};

use crdts::CmRDT;

use super::branches::{Held, resolve};
use super::fold::held_at;
use super::standing::judge;
use super::{Context, Tx};
use crate::date::{Date, InstantMs, PartialDate};
use crate::edit::{Dot, Header};
use crate::ids::{RecordId, ShardId};
use crate::record::{FieldKey, Record, Write};
use crate::standing::Standing;
use crate::store::{StateView, StoreError};

/// As of when a record is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AsOf {
    /// As it was known at that moment; without it, as it is known now.
    pub known: Option<InstantMs>,
    /// As it was in law on that day; without it, with all that is written, also what is to come.
    pub in_law: Option<Date>,
}

impl AsOf {
    /// Whether it asks for anything but the record of now.
    #[must_use]
    pub fn is_past(&self) -> bool {
        *self != AsOf::default()
    }

    /// The day from which an edit holds: what it says, or the day on which its office received it.
    fn day_of(header: &Header) -> Date {
        let received = InstantMs(header.origin.received_ms).date_in_vietnam();
        PartialDate::from_bytes(&header.valid_from).map_or(received, PartialDate::earliest)
    }

    fn is_known(&self, header: &Header) -> bool {
        self.known.is_none_or(|known| header.origin.received_ms <= known.0)
    }

    /// What is said of another edit holds from the beginning: what was rejected never held.
    fn counts(&self, header: &Header) -> bool {
        let holds = |day| AsOf::day_of(header) <= day || Standing::of_kind(header.kind).is_some();
        self.is_known(header) && self.in_law.is_none_or(holds)
    }
}

/// Edits of a record that is folded anew for a reader: an ordinary life has a few hundred.
pub const EDITS_MAX: usize = 5_000;

/// What there was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Past {
    /// The record as it was.
    Record(Record),
    /// Nothing of it counted then.
    Nothing,
    /// It has more than 5,000 edits: its history tells of them in pages.
    TooLong,
}

/// A record as it was.
///
/// # Errors
/// What cannot be read.
pub fn as_of(
    view: &dyn StateView,
    context: &Context,
    shard: ShardId,
    record: RecordId,
    as_of: AsOf,
) -> Result<Past, StoreError> {
    let tx = Tx::new(view, context);
    let keys = tx.some_keys(tx.keys().history(shard, record), EDITS_MAX + 1)?;
    if keys.len() > EDITS_MAX {
        return Ok(Past::TooLong);
    }
    let mut held = Vec::new();
    for key in keys {
        let place: Dot = tx.must(&key)?;
        // What was not known yet says nothing of the others.
        held.extend(held_at(&tx, shard, place)?.map(|(held, _)| held));
    }
    let names = resolve(&tx, shard, &mut held)?;
    let (known, unknown): (Vec<_>, Vec<_>) =
        held.into_iter().zip(names).partition(|(held, _)| as_of.is_known(&held.edit.header));
    let (mut held, names): (Vec<_>, Vec<_>) = known.into_iter().unzip();
    let Some(state) = tx.shard(shard)? else { return Ok(Past::Nothing) };
    let kind = held.iter().filter(|held| held.poison.is_none()).map(|held| held.edit.header.record_kind).min();
    let judged = judge(&tx, (&state.info, kind), &mut held, &names)?;
    let (known, unknown) =
        (held.into_iter().zip(names).zip(judged.aside), unknown.into_iter().zip(std::iter::repeat(None)));
    let sound = known.chain(unknown).filter(|((held, _), aside)| held.poison.is_none() && aside.is_none());
    let writes = sound.map(|((Held { edit, .. }, name), _)| (Write::of(&edit, name), edit.header));
    let (counting, others): (Vec<_>, Vec<_>) = writes.partition(|(_, header)| as_of.counts(header));
    // What was replaced by edits that do not count.
    let mut passed_over: BTreeMap<(Dot, FieldKey), Vec<Dot>> = BTreeMap::new();
    for (Write { dot, changes, .. }, _) in others {
        for change in changes {
            passed_over.insert((dot.clone(), (change.field, change.element)), change.overwrites);
        }
    }
    let mut found: Option<Record> = None;
    for (mut write, header) in counting {
        for change in &mut write.changes {
            let key = (change.field, change.element.clone());
            change.overwrites = all_replaced(&passed_over, &key, std::mem::take(&mut change.overwrites));
        }
        let record = found.get_or_insert_with(|| Record::new(header.record_kind));
        record.kind = record.kind.min(header.record_kind);
        record.apply(write);
    }
    Ok(found.map_or(Past::Nothing, Past::Record))
}

/// These values of a field, and all that were replaced by those of them that do not count.
fn all_replaced(passed_over: &BTreeMap<(Dot, FieldKey), Vec<Dot>>, key: &FieldKey, named: Vec<Dot>) -> Vec<Dot> {
    let (mut all, mut new) = (BTreeSet::new(), named);
    while let Some(dot) = new.pop() {
        if all.insert(dot.clone()) {
            new.extend(passed_over.get(&(dot, key.clone())).into_iter().flatten().cloned());
        }
    }
    all.into_iter().collect()
}
