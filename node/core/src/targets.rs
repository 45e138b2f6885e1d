//! Targets: how many of an event a unit is to reach by a day, and what its figures say of it.
//!
//! A target is a record of the ancestor shard of the unit that sets it, so all below hear of it, and those above too. It counts for
//! a unit within that one alone: whoever reads it asks the tree, as of what is said of sites, so a site whose key was stolen sets
//! none for anybody beside or above it. Unit and event stay as they were set; how many and when changes as one value.
//!
//! What was reached are figures, which nobody can type in; [`forecast`] is a function of them and of the day. It takes the pace as it
//! was: no holidays, no seasons. Limits: events count by the day on which their office received them, by its clock; and whoever files
//! events that never happened reaches a target with them.

use std::collections::BTreeMap;
use std::ops::Bound;

use crdts::CmRDT;

use crate::date::Date;
use crate::edit::{Change, Dot};
use crate::encoding::{Malformed, Reader, Wire};
use crate::event::Event;
use crate::ids::{AuthorId, UnitId};
use crate::level;
use crate::record::{Record, Write};
use crate::schema::{Content, RecordKind, Value, field};
use crate::wire_struct;

/// The highest count: ten events of everybody in the country. What is above is a slip of the finger.
pub const COUNT_MAX: u64 = 999_999_999;

/// Days of the longest target: ten years, twice the longest plan of the state. Its figures are read day by day.
pub const DAYS_MAX: i64 = 3_653;

/// Days from which the pace is taken: four weeks, so that each weekday is in them as often as the others. Of more, an office that
/// hurried or fell ill would show it late; of fewer, one holiday would.
pub const PACE_DAYS: i64 = 28;

/// How many there are to be, from which day to which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aim {
    first: Date,
    last: Date,
    count: u64,
}

/// Why there is no such aim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoAim {
    /// Nothing is to be reached, or more than there will ever be.
    #[error("the count must be 1 to {COUNT_MAX}")]
    Count,
    /// The deadline comes first.
    #[error("the last day lies before the first: give a later one")]
    Order,
    /// It runs too long.
    #[error("a target runs for ten years at most: give an earlier last day, and set another one then")]
    Span,
}

impl Aim {
    /// At least `count`, from the first day to the last one, both included.
    ///
    /// # Errors
    /// What is beyond the bounds.
    pub fn new(first: Date, last: Date, count: u64) -> Result<Self, NoAim> {
        let aim = Aim { first, last, count };
        if !(1..=COUNT_MAX).contains(&count) {
            return Err(NoAim::Count);
        }
        match aim.days() {
            ..=0 => Err(NoAim::Order),
            1..=DAYS_MAX => Ok(aim),
            _ => Err(NoAim::Span),
        }
    }

    /// What a value of the field says; none of a cleared one.
    ///
    /// # Errors
    /// What is beyond the bounds.
    pub fn of(value: &Value) -> Option<Result<Self, NoAim>> {
        let date = |part| value.part(part)?.date();
        let Content::Text(count) = value.part("count")? else { return None };
        Some(Aim::new(date("from")?.earliest(), date("until")?.latest(), count.parse().ok()?))
    }

    /// The first day.
    #[must_use]
    pub fn first(&self) -> Date {
        self.first
    }

    /// The last day.
    #[must_use]
    pub fn last(&self) -> Date {
        self.last
    }

    /// How many there are to be.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    fn days(&self) -> i64 {
        self.last.days() - self.first.days() + 1
    }

    /// The part of it that falls to some of all, by their number, rounded up: at least one.
    #[must_use]
    pub fn part(&self, some: u64, all: u64) -> Aim {
        let part = (u128::from(self.count) * u128::from(some)).div_ceil(u128::from(all.max(1)));
        Aim { count: u64::try_from(part).map_or(self.count, |part| part.clamp(1, self.count)), ..*self }
    }
}

impl std::fmt::Display for Aim {
    /// As the field is written.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "count={}; from={}; until={}", self.count, self.first, self.last)
    }
}

/// A target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The unit that is to reach it, with all below it.
    pub unit: UnitId,
    /// The event that counts.
    pub event: Event,
    /// How many, and when.
    pub aim: Aim,
}

impl Target {
    /// What a record says; nothing of one that was withdrawn, or does not say what a target needs.
    #[must_use]
    pub fn of(record: &Record) -> Option<Self> {
        let is_withdrawn = |record: &Record| {
            record.value(field::TARGET_WITHDRAWN, b"").is_some_and(|flag| *flag.content() == Content::Flag(true))
        };
        if record.kind != RecordKind::Target || is_withdrawn(record) {
            return None;
        }
        Some(Target {
            unit: record.value(field::TARGET_UNIT, b"")?.content().unit()?,
            event: Event::named(&record.text(field::TARGET_EVENT)?)?,
            aim: Aim::of(&record.value(field::TARGET_AIM, b"")?)?.ok()?,
        })
    }

    /// What a record would say once these changes are made.
    #[must_use]
    pub fn after(mut record: Record, changes: &[Change]) -> Option<Self> {
        // Later than all that is there.
        let dot = Dot { actor: AuthorId::default(), counter: u64::MAX };
        record.apply(Write::new(dot, i64::MAX, changes));
        Target::of(&record)
    }
}

wire_struct! { Target { unit, event, aim } }

impl Wire for Aim {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.first.days(), self.last.days(), self.count).encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (first, last, count): (i64, i64, u64) = Wire::decode(input)?;
        Aim::new(Date::from_days(first), Date::from_days(last), count).map_err(|_| Malformed { what: "aim" })
    }
}

/// Whether a change says what a target may say, beyond what its field asks of it; the text names the field and what to do.
///
/// # Errors
/// What is wrong.
pub fn check(level: u16, change: &Change) -> Result<(), String> {
    let value = || Value::decode_at(level, change.field, &change.value).ok();
    match change.field {
        field::TARGET_EVENT => {
            // Of a mere change nobody knows what happened, so that any edit would do.
            let named = |name: &str| Event::named(name).filter(|event| level::has(level, event.since()));
            match value().and_then(|value| value.spoken()) {
                Some(name) if named(&name).is_none() => {
                    Err("event: name an event that is filed, as `dinhba events` lists them".to_owned())
                }
                _ => Ok(()),
            }
        }
        field::TARGET_AIM => match value().as_ref().and_then(Aim::of) {
            Some(Err(error)) => Err(format!("aim: {error}")),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Whether the changes of one edit may make a target, or change one.
///
/// # Errors
/// What to do instead.
pub fn check_all(makes: bool, changes: &[Change]) -> Result<(), &'static str> {
    let said = |of| changes.iter().find(|change| change.field == of);
    let fixed = [field::TARGET_UNIT, field::TARGET_EVENT];
    let has = |of| said(of).is_some_and(|change| !change.value.is_empty());
    if !has(field::TARGET_GROUNDS) {
        return Err("a target needs its grounds, and each change of it too: name the plan or the decision");
    }
    if makes && ![field::TARGET_UNIT, field::TARGET_EVENT, field::TARGET_AIM].into_iter().all(has) {
        return Err("a target says its unit, its event and its aim: give all three");
    }
    if !makes && fixed.into_iter().any(|of| said(of).is_some()) {
        return Err("a target keeps its unit and its event: withdraw it, and set another one");
    }
    if said(field::TARGET_AIM).is_some_and(|change| change.value.is_empty()) {
        return Err("a target has an aim: withdraw it if nothing is to be reached");
    }
    Ok(())
}

/// What figures say of an aim on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forecast {
    /// Events from the first day up to today, those after the last day among them.
    pub done: u64,
    /// How many there would be with yesterday, had each day its equal part; all of them after the last day.
    pub due: u64,
    /// Days of it that are left, today among them; 0 after the last.
    pub days_left: u32,
    /// Events of the days that the pace is taken from.
    pub recent: u64,
    /// How many days that are, at least one: those before today, at most [`PACE_DAYS`]; on the first day, it alone.
    pub recent_days: u32,
    /// What is to be expected.
    pub outlook: Outlook,
}

/// What is to be expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// It has not begun.
    NotBegun,
    /// It was reached on that day.
    Reached(Date),
    /// It will be reached on that day at the present pace.
    Expected(Date),
    /// At the present pace it will never be reached, or in no year that records know.
    Never,
}

impl Outlook {
    /// Its word on the wire and in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Outlook::NotBegun => "not-begun",
            Outlook::Reached(_) => "reached",
            Outlook::Expected(_) => "expected",
            Outlook::Never => "never",
        }
    }

    /// The day, if there is one.
    #[must_use]
    pub const fn day(self) -> Option<Date> {
        match self {
            Outlook::Reached(day) | Outlook::Expected(day) => Some(day),
            Outlook::NotBegun | Outlook::Never => None,
        }
    }

    /// How many days that is before a deadline; negative if it is later.
    #[must_use]
    pub fn days_early(self, last: Date) -> Option<i64> {
        Some(last.days() - self.day()?.days())
    }
}

impl Forecast {
    /// How far it is of what is due: who is behind comes first.
    #[must_use]
    pub fn by_due(&self) -> u128 {
        u128::from(self.done) * u128::from(COUNT_MAX) / u128::from(self.due.max(1))
    }
}

/// What events by their days say of an aim. Days before the first count for nothing, and neither do those after today: an office's
/// clock may be ahead.
///
/// The pace is that of whole days: in the morning nobody is late for what the afternoon brings.
#[must_use]
pub fn forecast(aim: &Aim, by_day: &BTreeMap<Date, u64>, today: Date) -> Forecast {
    let (first, now) = (aim.first.days(), today.days());
    let since = |from: i64| {
        let days = by_day.range((Bound::Included(Date::from_days(from.max(first))), Bound::Unbounded));
        days.map(|(day, count)| (*day, *count)).take_while(|(day, _)| *day <= today)
    };
    let (mut done, mut reached) = (0_u64, None);
    for (day, count) in since(first) {
        done = done.saturating_add(count);
        if done >= aim.count {
            reached.get_or_insert(day);
        }
    }
    let of_today = by_day.get(&today).copied().filter(|_| first <= now).unwrap_or(0);
    let days_over = (now - first).max(0);
    let recent_days = days_over.clamp(1, PACE_DAYS);
    let (recent_from, before) = if days_over > 0 { (now - recent_days, done - of_today) } else { (now, 0) };
    let recent = since(recent_from)
        .filter(|(day, _)| days_over == 0 || *day < today)
        .fold(0_u64, |sum, (_, count)| sum.saturating_add(count));
    let expected = || {
        let missing = u128::from(aim.count.saturating_sub(before)) * recent_days as u128;
        let days = (recent > 0).then(|| missing.div_ceil(u128::from(recent)))?;
        let day = now.checked_add(i64::try_from(days.max(1)).ok()? - 1)?;
        (day <= Date::MAX.days()).then(|| Date::from_days(day))
    };
    let outlook = match reached {
        Some(day) => Outlook::Reached(day),
        None if now < first => Outlook::NotBegun,
        None => expected().map_or(Outlook::Never, Outlook::Expected),
    };
    Forecast {
        done,
        due: aim.count * days_over.min(aim.days()).unsigned_abs() / aim.days().unsigned_abs(),
        days_left: u32::try_from((aim.last.days() - now.max(first) + 1).max(0)).unwrap_or(u32::MAX),
        recent,
        recent_days: recent_days as u32,
        outlook,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn day(text: &str) -> Date {
        text.parse().unwrap()
    }

    fn aim(first: &str, last: &str, count: u64) -> Aim {
        Aim::new(day(first), day(last), count).unwrap()
    }

    /// So many on each of some days.
    fn days(first: &str, last: &str, count: u64) -> BTreeMap<Date, u64> {
        (day(first).days()..=day(last).days()).map(|day| (Date::from_days(day), count)).collect()
    }

    #[test]
    fn an_aim_has_bounds() {
        let new = |first: &str, last: &str, count| Aim::new(day(first), day(last), count).err();
        assert_eq!(new("2026-03-01", "2026-03-01", 1), None);
        assert_eq!(new("2026-03-01", "2036-02-29", COUNT_MAX), None);
        assert_eq!(new("2026-03-01", "2026-03-01", 0), Some(NoAim::Count));
        assert_eq!(new("2026-03-01", "2026-03-01", COUNT_MAX + 1), Some(NoAim::Count));
        assert_eq!(new("2026-03-01", "2026-02-28", 1), Some(NoAim::Order));
        assert_eq!(new("2026-03-01", "2036-03-02", 1), Some(NoAim::Span));
    }

    #[test]
    fn a_part_is_by_number_and_never_nothing() {
        let whole = aim("2026-03-01", "2026-03-31", 1000);
        assert_eq!(
            [(1, 3), (0, 3), (3, 3), (9, 3), (1, 0)].map(|(some, all)| whole.part(some, all).count),
            [334, 1, 1000, 1000, 1000]
        );
    }

    #[test]
    fn a_pace_says_on_which_day_and_how_many_days_early() {
        // A hundred days, a thousand cards: ten a day.
        let aim = aim("2026-01-01", "2026-04-10", 1000);
        let at = |by_day: &BTreeMap<Date, u64>, today: &str| forecast(&aim, by_day, day(today));
        let fast = at(&days("2026-01-01", "2026-01-20", 20), "2026-01-21");
        assert_eq!((fast.done, fast.due, fast.days_left, fast.recent, fast.recent_days), (400, 200, 80, 400, 20));
        // Six hundred are missing, thirty days with today.
        assert_eq!(fast.outlook, Outlook::Expected(day("2026-02-19")));
        assert_eq!(fast.outlook.days_early(aim.last), Some(50));
        let slow = at(&days("2026-01-01", "2026-01-20", 5), "2026-01-21");
        assert_eq!(slow.outlook, Outlook::Expected(day("2026-07-19")));
        assert_eq!(slow.outlook.days_early(aim.last), Some(-100));
        assert!(slow.by_due() < fast.by_due());
        // The last four weeks say how fast it goes, not the ones before.
        let tired: BTreeMap<_, _> =
            days("2026-01-01", "2026-01-31", 20).into_iter().chain(days("2026-02-01", "2026-02-28", 1)).collect();
        assert_eq!((at(&tired, "2026-03-01").recent, at(&tired, "2026-03-01").recent_days), (28, 28));
        assert_eq!(at(&tired, "2026-03-01").outlook, Outlook::Expected(day("2027-02-15")));
        // And then none at all.
        assert_eq!(at(&tired, "2026-03-29").outlook, Outlook::Never);
    }

    #[test]
    fn what_is_reached_says_when_and_stays_so() {
        let aim = aim("2026-01-01", "2026-01-31", 100);
        let by_day = days("2026-01-01", "2026-02-28", 7);
        for (today, outlook) in [
            ("2025-12-31", Outlook::NotBegun),
            ("2026-01-14", Outlook::Expected(day("2026-01-15"))),
            ("2026-01-15", Outlook::Reached(day("2026-01-15"))),
            ("2026-02-20", Outlook::Reached(day("2026-01-15"))),
        ] {
            assert_eq!(forecast(&aim, &by_day, day(today)).outlook, outlook, "{today}");
        }
        let late = forecast(&aim, &days("2026-01-25", "2026-02-28", 5), day("2026-02-20"));
        assert_eq!((late.outlook, late.days_left, late.due), (Outlook::Reached(day("2026-02-13")), 0, 100));
        assert_eq!(late.outlook.days_early(aim.last), Some(-13));
    }

    #[test]
    fn the_first_day_has_its_own_pace_and_the_last_one_is_left() {
        let aim = aim("2026-01-01", "2026-01-10", 100);
        let at = |count: u64, today: &str| forecast(&aim, &[(day("2026-01-01"), count)].into(), day(today));
        let first = at(20, "2026-01-01");
        assert_eq!((first.due, first.recent, first.recent_days, first.days_left), (0, 20, 1, 10));
        assert_eq!(first.outlook, Outlook::Expected(day("2026-01-05")));
        assert_eq!(at(0, "2026-01-01").outlook, Outlook::Never);
        assert_eq!(at(100, "2026-01-01").outlook, Outlook::Reached(day("2026-01-01")));
        assert_eq!((at(20, "2026-01-10").days_left, at(20, "2026-01-11").days_left), (1, 0));
        assert_eq!(at(20, "2025-12-30").days_left, 10);
        // What was received before the first day, or is dated after today, is not of it.
        let others = [(day("2025-12-31"), 500), (day("2026-01-05"), 500)].into();
        assert_eq!(forecast(&aim, &others, day("2026-01-04")).done, 0);
    }

    fn any_day() -> impl Strategy<Value = Date> {
        prop_oneof![
            // Near each other, so that something happens; and anywhere.
            4 => (0_i64..200).prop_map(|days| Date::from_days(20_000 + days)),
            1 => (Date::MIN.days()..=Date::MAX.days()).prop_map(Date::from_days),
        ]
    }

    fn any_aim() -> impl Strategy<Value = Aim> {
        (any_day(), 0..DAYS_MAX, prop_oneof![1_u64..500, 1..=COUNT_MAX]).prop_map(|(first, days, count)| {
            let last = Date::from_days(first.days() + days);
            Aim::new(first, last, count).unwrap()
        })
    }

    fn any_figures() -> impl Strategy<Value = BTreeMap<Date, u64>> {
        let count = prop_oneof![9 => 0_u64..20, 1 => any::<u64>()];
        prop::collection::btree_map(any_day(), count, 0..40)
    }

    proptest! {
        #[test]
        fn it_is_reached_exactly_when_as_many_are_done(aim in any_aim(), by_day in any_figures(), today in any_day()) {
            let found = forecast(&aim, &by_day, today);
            prop_assert_eq!(matches!(found.outlook, Outlook::Reached(_)), found.done >= aim.count());
            prop_assert!(found.due <= aim.count() && (1..=PACE_DAYS).contains(&i64::from(found.recent_days)));
            match found.outlook {
                Outlook::Reached(day) => prop_assert!(aim.first() <= day && day <= today),
                Outlook::Expected(day) => prop_assert!(day >= today && found.recent > 0),
                Outlook::NotBegun => prop_assert!(today < aim.first() && found.done == 0),
                Outlook::Never => prop_assert!(aim.first() <= today),
            }
        }

        #[test]
        fn more_is_never_later(aim in any_aim(), mut by_day in any_figures(), today in any_day(), on in any_day(), more in 1_u64..50) {
            let before = forecast(&aim, &by_day, today);
            let count = by_day.entry(on).or_default();
            *count = count.saturating_add(more);
            let after = forecast(&aim, &by_day, today);
            prop_assert!(after.done >= before.done && after.due == before.due && after.by_due() >= before.by_due());
            if let Some(day) = before.outlook.day() {
                prop_assert!(after.outlook.day().is_some_and(|sooner| sooner <= day), "{before:?} {after:?}");
            }
        }

        #[test]
        fn a_target_has_one_encoding(aim in any_aim()) {
            let target = Target { unit: UnitId(5), event: Event::CardDelivered, aim };
            prop_assert_eq!(Target::from_bytes(&target.to_bytes()), Ok(target));
        }
    }
}
