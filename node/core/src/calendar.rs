//! Working days: Monday to Friday without public holidays. Holidays are set for each year (Tết goes by the moon, and what falls on a weekend
//! is made up for), so they are data: the centre says those of a year in a record of its ancestor shard, and every site counts by it.
//!
//! Pure. Promises: a year is taken whole or not at all ([`Year::new`]); a year of which nothing was said has the holidays that every year
//! has, and what is counted over it says that it may change ([`Deadline::is_sure`]).

use std::collections::{BTreeMap, BTreeSet};

use crdts::CmRDT;

use crate::date::Date;
use crate::edit::{Change, Dot};
use crate::ids::AuthorId;
use crate::record::{Record, Write};
use crate::schema::codes::HOLIDAY;
use crate::schema::{RecordKind, field};

/// The holidays of one year.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Year {
    /// Days off, and which holiday each is: a name of the list of holidays.
    off: BTreeMap<Date, &'static str>,
    /// Days of a weekend on which offices work, in the place of another day.
    worked: BTreeSet<Date>,
}

/// A day of each year: month and day.
type DayOfYear = (u8, u8);

/// Those of which the law fixes how many days they have, and those that fall on one day of each year (Labour Code 45/2019/QH14,
/// article 112).
const STATUTORY: [(&str, usize, Option<DayOfYear>); 6] = [
    ("new_year", 1, Some((1, 1))),
    ("tet", 5, None),
    ("hung_kings", 1, None),
    ("victory", 1, Some((4, 30))),
    ("labour", 1, Some((5, 1))),
    ("national_day", 2, Some((9, 2))),
];

/// The first and the last day, by month and day, between which a holiday of the moon's calendar may lie.
const BY_THE_MOON: [(&str, DayOfYear, DayOfYear); 2] = [("tet", (1, 18), (2, 25)), ("hung_kings", (3, 25), (5, 2))];

impl Year {
    /// The days off of a year with their holidays, and the days of weekends that are worked; or all that is wrong with them, in words.
    ///
    /// # Errors
    /// A day of another year, a holiday that is no such, one of which days are missing or are too many, and a holiday at a weekend for
    /// which no other day is off (Labour Code, article 111).
    pub fn new(year: u16, off: &[(Date, &str)], worked: &[Date]) -> Result<Self, Vec<String>> {
        let (mut taken, mut wrong) = (Year::default(), Vec::new());
        for (day, named) in off {
            let Some(known) = HOLIDAY.iter().find(|code| code.name == *named) else {
                let names: Vec<&str> = HOLIDAY.iter().map(|code| code.name).collect();
                wrong.push(format!("{day}: {named} is no holiday: {}", names.join(", ")));
                continue;
            };
            if taken.off.insert(*day, known.name).is_some() {
                wrong.push(format!("{day} stands there twice"));
            }
        }
        taken.worked.extend(worked.iter().copied());
        let days = || taken.off.keys().chain(&taken.worked);
        wrong.extend(days().filter(|day| day.year() != year).map(|day| format!("{day} is no day of {year}")));
        for day in &taken.worked {
            if !is_weekend(*day) {
                wrong.push(format!("{day} is worked anyway: only a Saturday or Sunday can be worked instead"));
            } else if taken.off.contains_key(day) {
                wrong.push(format!("{day} cannot be off and worked"));
            }
        }
        for (name, count, fixed) in STATUTORY {
            let days: Vec<Date> = taken.of(name).collect();
            if days.len() != count {
                wrong.push(format!("{name} has {count} days, and {} are given: the list has a hole", days.len()));
            }
            if !days.windows(2).all(|two| two[0].days() + 1 == two[1].days()) {
                wrong.push(format!("the days of {name} follow each other: the list has a hole"));
            }
            if let Some((month, day)) = fixed.filter(|_| !days.is_empty())
                && !days.iter().any(|it| (it.month(), it.day()) == (month, day))
            {
                wrong.push(format!("{name} is on {year}-{month:02}-{day:02}"));
            }
        }
        for (name, from, to) in BY_THE_MOON {
            for day in taken.of(name).filter(|day| !(from..=to).contains(&(day.month(), day.day()))) {
                wrong.push(format!("{day} cannot be {name}"));
            }
        }
        let at_weekend = taken.off.iter().filter(|(day, name)| is_weekend(**day) && is_statutory(name)).count();
        let made_up: Vec<Date> = taken.of("compensation").collect();
        wrong.extend(
            made_up
                .iter()
                .filter(|day| is_weekend(**day))
                .map(|day| format!("{day} is no working day: it makes up for nothing")),
        );
        if made_up.len() < at_weekend {
            let text = format!(
                "{at_weekend} holidays fall on a weekend, and {} days make up for them (compensation): the list has a hole",
                made_up.len()
            );
            wrong.push(text);
        }
        if wrong.is_empty() { Ok(taken) } else { Err(wrong) }
    }

    /// The days of a holiday, in order.
    fn of<'y>(&'y self, holiday: &'y str) -> impl Iterator<Item = Date> + 'y {
        self.off.iter().filter(move |(_, name)| **name == holiday).map(|(day, _)| *day)
    }

    /// Its days off, each with its holiday, in order.
    pub fn days_off(&self) -> impl Iterator<Item = (Date, &'static str)> + '_ {
        self.off.iter().map(|(day, name)| (*day, *name))
    }

    /// Days of weekends that are worked, in order.
    pub fn days_worked(&self) -> impl Iterator<Item = Date> + '_ {
        self.worked.iter().copied()
    }

    /// What a record would say once these changes are made; see [`said`](Self::said).
    #[must_use]
    pub fn after(mut record: Record, changes: &[Change]) -> Option<(u16, Result<Self, Vec<String>>)> {
        // Later than all that is there.
        let dot = Dot { actor: AuthorId::default(), counter: u64::MAX };
        record.apply(Write::new(dot, i64::MAX, changes));
        Year::said(&record)
    }

    /// The year that a record is about, with what it says of it; or why that counts for nothing.
    #[must_use]
    pub fn said(record: &Record) -> Option<(u16, Result<Self, Vec<String>>)> {
        if record.kind != RecordKind::Calendar {
            return None;
        }
        let year: u16 = record.text(field::CALENDAR_YEAR)?.parse().ok()?;
        let (mut off, mut worked) = (Vec::new(), Vec::new());
        for ((of, element), _) in record.fields() {
            let Some(value) = record.value(*of, element).filter(|value| !value.is_cleared()) else { continue };
            let day = std::str::from_utf8(element).ok().and_then(|day| day.parse::<Date>().ok());
            match (*of, day, value.code()) {
                (field::CALENDAR_OFF, Some(day), Some(holiday)) => off.push((day, holiday)),
                (field::CALENDAR_WORKED, Some(day), _) => worked.push(day),
                (field::CALENDAR_OFF | field::CALENDAR_WORKED, ..) => {
                    return Some((year, Err(vec!["a day or a holiday of a newer version".to_owned()])));
                }
                _ => {}
            }
        }
        Some((year, Year::new(year, &off, &worked)))
    }
}

fn is_statutory(holiday: &str) -> bool {
    STATUTORY.iter().any(|(name, ..)| *name == holiday)
}

/// Whether a day is a Saturday or a Sunday.
fn is_weekend(day: Date) -> bool {
    // 1970-01-01 was a Thursday.
    (day.days() + 3).rem_euclid(7) >= 5
}

/// A day until which something is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    /// Its last day.
    pub day: Date,
    /// Whether the holidays of all years that were counted over were said.
    pub is_sure: bool,
}

/// The holidays of all years that were said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Calendar {
    /// By year.
    pub years: BTreeMap<u16, Year>,
}

impl Calendar {
    /// Whether offices work on a day, as far as is known.
    #[must_use]
    pub fn is_working(&self, day: Date) -> bool {
        match self.years.get(&day.year()) {
            Some(year) => year.worked.contains(&day) || !(is_weekend(day) || year.off.contains_key(&day)),
            None => {
                let is_fixed = |fixed: &(&str, usize, Option<DayOfYear>)| fixed.2 == Some((day.month(), day.day()));
                !(is_weekend(day) || STATUTORY.iter().any(is_fixed))
            }
        }
    }

    /// The last day of so many working days after `since`. With none: that day, or the first working day after it.
    #[must_use]
    pub fn after(&self, since: Date, working_days: u16) -> Deadline {
        let (mut day, mut left) = (since, working_days);
        let mut is_sure = self.years.contains_key(&day.year());
        while left > 0 || !self.is_working(day) {
            if day == Date::MAX {
                return Deadline { day, is_sure: false };
            }
            day = Date::from_days(day.days() + 1);
            is_sure &= self.years.contains_key(&day.year());
            left -= u16::from(left > 0 && self.is_working(day));
        }
        Deadline { day, is_sure }
    }

    /// The last day since when something may be open whose so many working days ended before `today`; none if there is none.
    #[must_use]
    pub fn last_overdue(&self, today: Date, working_days: u16) -> Option<Date> {
        let mut since = today;
        while self.after(since, working_days).day >= today {
            if since == Date::MIN {
                return None;
            }
            since = Date::from_days(since.days() - 1);
        }
        Some(since)
    }

    /// The first day since when something may be open whose so many working days end on `day` or later.
    #[must_use]
    pub fn first_due_from(&self, day: Date, working_days: u16) -> Date {
        self.last_overdue(day, working_days).map_or(Date::MIN, |before| Date::from_days(before.days() + 1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn day(text: &str) -> Date {
        text.parse().unwrap()
    }

    /// The holidays of 2027, as the state may set them: Tết from the eve on, two holidays on a weekend made up for.
    pub(crate) const OF_2027: [(&str, &str); 14] = [
        ("2027-01-01", "new_year"),
        ("2027-02-05", "tet"),
        ("2027-02-06", "tet"),
        ("2027-02-07", "tet"),
        ("2027-02-08", "tet"),
        ("2027-02-09", "tet"),
        ("2027-02-10", "compensation"),
        ("2027-02-11", "compensation"),
        ("2027-04-16", "hung_kings"),
        ("2027-04-30", "victory"),
        ("2027-05-01", "labour"),
        ("2027-05-03", "compensation"),
        ("2027-09-02", "national_day"),
        ("2027-09-03", "national_day"),
    ];

    fn off() -> Vec<(Date, &'static str)> {
        OF_2027.iter().map(|(date, name)| (day(date), *name)).collect()
    }

    fn calendar() -> Calendar {
        Calendar { years: [(2027, Year::new(2027, &off(), &[]).unwrap())].into() }
    }

    #[test]
    fn weekends_and_holidays_do_not_count() {
        let calendar = calendar();
        let due = |since: &str, days| calendar.after(day(since), days).day.to_string();
        assert_eq!(due("2027-03-01", 0), "2027-03-01", "a Monday");
        assert_eq!(due("2027-03-06", 0), "2027-03-08", "a Saturday");
        assert_eq!(due("2027-03-05", 1), "2027-03-08");
        assert_eq!(due("2027-03-05", 5), "2027-03-12");
        assert_eq!(due("2027-02-04", 1), "2027-02-12", "over Tết");
        assert_eq!(due("2027-04-29", 1), "2027-05-04");
    }

    #[test]
    fn what_is_counted_over_a_year_of_which_nothing_was_said_may_change() {
        let calendar = calendar();
        assert!(calendar.after(day("2027-12-30"), 1).is_sure);
        let over = calendar.after(day("2027-12-31"), 1);
        assert_eq!(
            (over.day.to_string().as_str(), over.is_sure),
            ("2028-01-03", false),
            "new year's day is off in every year"
        );
    }

    #[test]
    fn a_list_with_a_hole_is_refused_and_says_where() {
        for missing in 0..OF_2027.len() {
            let mut list = off();
            let (day, name) = list.remove(missing);
            let wrong = Year::new(2027, &list, &[]).unwrap_err().join("; ");
            assert!(wrong.contains("hole") || wrong.contains(name), "{day} {name}: {wrong}");
        }
        let said = |off: &[(Date, &str)], worked: &[Date]| Year::new(2027, off, worked).unwrap_err().join("; ");
        let mut elsewhere = off();
        elsewhere[8].0 = day("2027-08-16");
        assert!(said(&elsewhere, &[]).contains("cannot be hung_kings"));
        assert!(said(&off(), &[day("2027-03-01")]).contains("worked anyway"));
        assert!(said(&off(), &[day("2027-02-06")]).contains("off and worked"));
        assert!(said(&[&off()[..], &[(day("2028-03-01"), "other")]].concat(), &[]).contains("no day of 2027"));
        assert!(said(&[&off()[..], &[(day("2027-03-01"), "carnival")]].concat(), &[]).contains("is no holiday"));
    }

    proptest! {
        #[test]
        fn deadlines_rise_with_the_day_and_are_found_backwards(since in 0i64..1_500, days in 0u16..40, more in 0i64..40) {
            let calendar = calendar();
            let at = |days: i64| Date::from_days(day("2026-01-01").days() + days);
            let due = calendar.after(at(since), days).day;
            prop_assert!(calendar.is_working(due) && due >= at(since));
            prop_assert!(calendar.after(at(since + more), days).day >= due);
            let last = calendar.last_overdue(due, days).unwrap();
            prop_assert!(calendar.after(last, days).day < due);
            prop_assert!(calendar.after(calendar.first_due_from(due, days), days).day >= due);
        }
    }
}
