//! The counts of how good a shard's records are ([`crate::quality`]), kept as records change.

use std::collections::BTreeMap;

use super::{ShardState, Tx, corrupt, read_range};
use crate::command::{ConflictEntry, ConflictKey};
use crate::date::Date;
use crate::encoding::{Malformed, Wire};
use crate::ids::{RecordId, ShardId};
use crate::keys::{Keys, day_of, suffix};
use crate::quality::{Fullness, Quality};
use crate::record::Record;
use crate::store::{StateView, StoreError};

/// How many fields records must have from a day on, and how many of these are filled.
pub type Coming = BTreeMap<Date, (u64, u64)>;

/// Puts what a record must have in the place of what it had to have.
pub(super) fn replace(
    tx: &mut Tx<'_>,
    shard: &mut ShardState,
    (before, after): (Option<&Fullness>, Option<&Fullness>),
) -> Result<(), StoreError> {
    if before == after {
        return Ok(());
    }
    let part = |of: Option<&Fullness>| of.map_or((0, 0), |of| (u64::from(of.required), u64::from(of.filled)));
    let (was, is) = (part(before), part(after));
    shard.quality.required = shard.quality.required + is.0 - was.0;
    shard.quality.filled = shard.quality.filled + is.1 - was.1;
    let coming = |of: Option<&Fullness>| of.map(|of| of.coming.clone()).unwrap_or_default();
    let (was, is) = (coming(before), coming(after));
    if was == is {
        return Ok(());
    }
    for (days, is_added) in [(is, true), (was, false)] {
        for (day, is_filled) in days {
            let key = tx.keys().coming(shard.info.shard, day);
            let (required, filled): (u64, u64) = tx.get(&key)?.unwrap_or_default();
            let (one, its) = (1, u64::from(is_filled));
            let now = if is_added { (required + one, filled + its) } else { (required - one, filled - its) };
            if now == (0, 0) { tx.delete(key) } else { tx.put(key, &now) }
        }
    }
    Ok(())
}

/// Whether anything of a record is in dispute or breaks a rule, as the next command sees it.
pub(super) fn is_disputed(tx: &Tx<'_>, shard: ShardId, record: RecordId) -> Result<bool, StoreError> {
    Ok(!tx.is_empty(tx.keys().conflicts(shard, Some(record)))?)
}

/// Counts a record as in dispute or not, once its conflicts are what they are.
pub(super) fn judge(tx: &Tx<'_>, shard: &mut ShardState, record: RecordId, was: bool) -> Result<(), StoreError> {
    let is = is_disputed(tx, shard.info.shard, record)?;
    shard.quality.disputed = shard.quality.disputed + u64::from(is) - u64::from(was);
    Ok(())
}

/// What the records of a shard must have from which day on.
///
/// # Errors
/// What cannot be read.
pub fn coming(view: &dyn StateView, keys: Keys, shard: ShardId) -> Result<Coming, StoreError> {
    let day = |key: &[u8]| suffix(key, 0).first_chunk().map(|day| day_of(*day));
    let all = read_range::<(u64, u64)>(view, keys.all_coming(shard))?.into_iter();
    all.map(|(key, count)| Ok((day(&key).ok_or_else(|| corrupt(&key, Malformed { what: "key of a day" }))?, count)))
        .collect()
}

/// The counts as the records and conflicts of a shard make them: for whoever checks a state.
///
/// # Errors
/// What cannot be read.
pub fn quality_recounted(view: &dyn StateView, keys: Keys, shard: ShardId) -> Result<(Quality, Coming), StoreError> {
    let (mut quality, mut coming) = (Quality::default(), Coming::new());
    for (_, record) in read_range::<Record>(view, keys.records(shard))? {
        let Some(full) = Fullness::of(&record) else { continue };
        quality.required += u64::from(full.required);
        quality.filled += u64::from(full.filled);
        for (day, is_filled) in full.coming {
            let count = coming.entry(day).or_default();
            *count = (count.0 + 1, count.1 + u64::from(is_filled));
        }
    }
    let mut last = None;
    for (key, _) in read_range::<ConflictEntry>(view, keys.conflicts(shard, None))? {
        let (record, conflict) = suffix(&key, 0).split_at_checked(16).unwrap_or_default();
        let conflict = ConflictKey::from_bytes(conflict).map_err(|error| corrupt(&key, error))?;
        quality.doubled += u64::from(matches!(conflict, ConflictKey::Number(_)));
        quality.disputed += u64::from(last.as_deref() != Some(record));
        last = Some(record.to_vec());
    }
    Ok((quality, coming))
}
