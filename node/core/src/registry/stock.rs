//! The stocks of a shard ([`crate::stock`]), kept as records change.

use std::collections::BTreeMap;

use super::{Tx, corrupt, read_range};
use crate::date::Date;
use crate::encoding::Malformed;
use crate::ids::ShardId;
use crate::inject::is_armed;
use crate::keys::{Keys, day_of, suffix};
use crate::record::Record;
use crate::stock::{Counted, Stock, counted};
use crate::store::{StateView, StoreError};

/// How many of each there are.
pub type Stocks = BTreeMap<Counted, u64>;

/// Puts what a record counts as in the place of what it counted as.
pub(super) fn replace(
    tx: &mut Tx<'_>,
    shard: ShardId,
    (before, after): (&BTreeMap<Counted, u64>, &BTreeMap<Counted, u64>),
) -> Result<(), StoreError> {
    if before == after {
        return Ok(());
    }
    for (counts, is_added) in [(after, true), (before, false)] {
        for (counted, count) in counts {
            if !is_added && matches!(counted.stock, Stock::Open(..)) && is_armed("stock-stays") {
                continue;
            }
            let key = tx.keys().stock(shard, counted);
            let there: u64 = tx.get(&key)?.unwrap_or(0);
            let missing = || corrupt(&key, Malformed { what: "stock: it counts less than there is" });
            let now = if is_added { there + count } else { there.checked_sub(*count).ok_or_else(missing)? };
            if now == 0 { tx.delete(key) } else { tx.put(key, &now) }
        }
    }
    Ok(())
}

/// What is in a key.
fn counted_of(key: &[u8]) -> Result<Counted, StoreError> {
    let read = || {
        let (code, days) = suffix(key, 0).split_first_chunk::<2>()?;
        let (day, began) = days.split_first_chunk::<4>()?;
        Some(Counted { stock: Stock::of_code(*code)?, day: day_of(*day), began: day_of(began.try_into().ok()?) })
    };
    read().ok_or_else(|| corrupt(key, Malformed { what: "key of a stock" }))
}

/// The stocks of a shard, whole; of steps that are done, those that were from one day to another, both included.
///
/// # Errors
/// What cannot be read.
pub fn stocks(view: &dyn StateView, keys: Keys, shard: ShardId, done: (Date, Date)) -> Result<Stocks, StoreError> {
    let mut found = Stocks::new();
    for range in keys.stocks(shard, done) {
        for (key, count) in read_range::<u64>(view, range)? {
            found.insert(counted_of(&key)?, count);
        }
    }
    Ok(found)
}

/// The same as the records of the shard make them: for whoever checks a state.
///
/// # Errors
/// What cannot be read.
pub fn stocks_recounted(view: &dyn StateView, keys: Keys, shard: ShardId) -> Result<Stocks, StoreError> {
    let mut found = Stocks::new();
    for (_, record) in read_range::<Record>(view, keys.records(shard))? {
        for (counted, count) in counted(&record) {
            *found.entry(counted).or_default() += count;
        }
    }
    Ok(found)
}
