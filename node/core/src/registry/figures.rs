//! Figures: how many of each event a shard has, by the day on which its office received it. Counted as edits enter, so that
//! nobody can type one in, and nobody has to count at night: at any time they equal a recount of the log ([`recount`]).
//!
//! An event counts once, with the first edit of its command, and as long as that edit is not set aside: so a figure is a
//! function of the set of edits and the level, like all that derives. A birth that an officer corrected afterwards is one birth
//! and one correction.
//!
//! Limit: the day is that of the office's clock.

use std::collections::BTreeMap;

use super::{Arrival, Context, Poison, Tx, corrupt};
use crate::date::{Date, InstantMs};
use crate::edit::Header;
use crate::encoding::{Malformed, Wire};
use crate::event::Event;
use crate::ids::ShardId;
use crate::inject::is_armed;
use crate::keys::{Keys, suffix};
use crate::standing::Standing;
use crate::store::{StateView, StoreError};

/// How many of each event there were on each day.
pub type Figures = BTreeMap<(Date, Event), u64>;

/// The day of an edit, and its event; none of an edit that goes on with a command, or only says how another one stands (a decision of that counts).
fn counted(header: &Header) -> Option<(Date, Event)> {
    let day = InstantMs(header.origin.received_ms).date_in_vietnam();
    (header.part == 0 && Standing::of_kind(header.kind).is_none()).then_some((day, header.event))
}

/// An edit counts from now on, or no more.
#[inline(never)] // its share is told when instructions are counted
pub(super) fn count(tx: &mut Tx<'_>, shard: ShardId, header: &Header, counts: bool) -> Result<(), StoreError> {
    let Some((day, event)) = counted(header) else { return Ok(()) };
    if !counts && is_armed("figures-keep-what-is-set-aside") {
        return Ok(());
    }
    let key = tx.keys().figure(shard, day, event);
    let before: u64 = tx.get_held(&key)?.unwrap_or(0);
    let missing = || corrupt(&key, Malformed { what: "figure: it counts less than there is" });
    let after = if counts { before + 1 } else { before.checked_sub(1).ok_or_else(missing)? };
    match after {
        0 => tx.delete(key),
        after => tx.put(key, &after),
    }
    Ok(())
}

/// The figures of a shard from one day to another, both included; at most `count_max` of them, and whether there are more.
///
/// # Errors
/// What cannot be read.
pub fn figures(
    view: &dyn StateView,
    keys: Keys,
    shard: ShardId,
    (from, to): (Date, Date),
    count_max: usize,
) -> Result<(Figures, bool), StoreError> {
    let (start, end) = keys.figures(shard, from, to);
    let mut found = Figures::new();
    for item in view.scan(&start, &end) {
        let (key, bytes) = item?;
        if found.len() == count_max {
            return Ok((found, true));
        }
        let count = u64::from_bytes(&bytes).map_err(|error| corrupt(&key, error))?;
        found.insert(figure_of(&key)?, count);
    }
    Ok((found, false))
}

/// The day and the event of a key.
fn figure_of(key: &[u8]) -> Result<(Date, Event), StoreError> {
    let malformed = || corrupt(key, Malformed { what: "key of a figure" });
    let (day, event) = suffix(key, 0).split_first_chunk::<4>().ok_or_else(malformed)?;
    let day = Date::from_days(i64::from(u32::from_be_bytes(*day)) + Date::MIN.days());
    Ok((day, Event::from_bytes(event).map_err(|error| corrupt(key, error))?))
}

/// The figures of a shard as its edits make them: for whoever checks a state.
///
/// # Errors
/// What cannot be read, and an edit that is named and is not there.
pub fn recount(view: &dyn StateView, context: &Context, shard: ShardId) -> Result<Figures, StoreError> {
    let tx = Tx::new(view, context);
    let mut found = Figures::new();
    for (_, Arrival { dot, .. }) in tx.range::<Arrival>(tx.keys().arrivals(shard, 0))? {
        if tx.get::<Poison>(&tx.keys().poison(shard, &dot))?.is_none()
            && let Some(figure) = counted(&tx.edit_at(shard, &dot)?.0.header)
        {
            *found.entry(figure).or_default() += 1;
        }
    }
    Ok(found)
}
