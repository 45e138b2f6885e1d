//! Who lives in a commune on a day: the roll of an election, or any other list of residents by age.
//!
//! On the roll is whoever, by the record as it was in law on that day, is a person, is alive, is registered in the commune for good,
//! and is of the age that is asked for, as birthdays count (Law on Election of Deputies 85/2015, article 2: of age on the day). A date of
//! which the day is not known may leave that open: then the person is on the roll, as a *doubtful* one, and an officer looks.
//!
//! Left to others: whose rights were taken away by a court, and who is entered where he lives for a time; neither is in these records.

use crate::date::{Date, PartialDate};
use crate::ids::UnitId;
use crate::record::Record;
use crate::schema::{Content, RecordKind, field};

/// Which residents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roll {
    /// On which day.
    pub on: Date,
    /// Whole years of age at least.
    pub age_min: u16,
    /// And at most.
    pub age_max: u16,
}

/// Somebody who is on a roll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Whether it is not certain, since a date is not known to the day.
    pub is_doubtful: bool,
}

impl Roll {
    /// Whether a record, as it was in law on the day, is on the roll of a unit.
    #[must_use]
    pub fn lists(&self, record: &Record, unit: UnitId) -> Option<Listed> {
        if record.kind != RecordKind::Person {
            return None;
        }
        let date = |field| record.value(field, b"")?.date();
        // Who died on the day was alive on it.
        let death = date(field::DEATH_DATE).map_or(Answer::No, |death| before(death, self.on));
        let residence = record.value(field::PERMANENT_RESIDENCE, b"")?;
        if residence.part("unit").and_then(Content::unit) != Some(unit) {
            return None;
        }
        let day = |part: &str| residence.part(part).and_then(Content::date);
        let moved_in = day("since").map_or(Answer::Yes, |since| before(since, self.on).or(is_on(since, self.on)));
        let moved_out = day("until").map_or(Answer::No, |until| before(until, self.on));
        let born = date(field::BIRTH_DATE);
        let of_age = born.map_or(Answer::Maybe, |born| {
            let (most, least) = (born.earliest().years_until(self.on), born.latest().years_until(self.on));
            let fits = |age| (self.age_min..=self.age_max).contains(&age);
            match (born.earliest() > self.on, fits(most), fits(least)) {
                (true, ..) => Answer::No,
                (_, true, true) => Answer::Yes,
                // Between two ages that do not fit may lie one that does.
                (_, false, false) if most < self.age_min || least > self.age_max => Answer::No,
                _ => Answer::Maybe,
            }
        });
        let all = [moved_in, of_age, death.not(), moved_out.not()];
        (!all.contains(&Answer::No)).then(|| Listed { is_doubtful: all.contains(&Answer::Maybe) })
    }
}

/// What can be said where dates are known in part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    No,
    Maybe,
    Yes,
}

impl Answer {
    fn of(is_sure: bool, is_possible: bool) -> Self {
        match (is_sure, is_possible) {
            (true, _) => Answer::Yes,
            (false, true) => Answer::Maybe,
            (false, false) => Answer::No,
        }
    }

    fn not(self) -> Self {
        match self {
            Answer::No => Answer::Yes,
            Answer::Maybe => Answer::Maybe,
            Answer::Yes => Answer::No,
        }
    }

    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Answer::Yes, _) | (_, Answer::Yes) => Answer::Yes,
            (Answer::No, Answer::No) => Answer::No,
            _ => Answer::Maybe,
        }
    }
}

/// Whether it lies before a day.
fn before(date: PartialDate, day: Date) -> Answer {
    Answer::of(date.latest() < day, date.earliest() < day)
}

/// Whether it is that day.
fn is_on(date: PartialDate, day: Date) -> Answer {
    Answer::of(date.exact() == Some(day), (date.earliest()..=date.latest()).contains(&day))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edit::{Change, Dot};
    use crate::ids::AuthorId;
    use crate::record::Write;
    use crate::schema::{FieldId, parse};
    use crate::units::NoUnits;

    const HOME: UnitId = UnitId(7);

    fn person(fields: &[(FieldId, &str)]) -> Record {
        let mut record = Record::new(RecordKind::Person);
        let change = |(field, text): &(FieldId, &str)| Change {
            field: *field,
            element: Vec::new(),
            value: parse(*field, text, &NoUnits).unwrap().encode(),
            overwrites: Vec::new(),
        };
        let changes = fields.iter().map(change).collect();
        crdts::CmRDT::apply(
            &mut record,
            Write { dot: Dot { actor: AuthorId([1; 16]), counter: 1 }, received_ms: 1, changes },
        );
        record
    }

    fn listed(born: &str, more: &[(FieldId, &str)]) -> Option<bool> {
        let home = format!("unit={HOME}");
        let mut fields = vec![(field::BIRTH_DATE, born), (field::PERMANENT_RESIDENCE, home.as_str())];
        fields.retain(|(field, text)| !text.is_empty() && !more.iter().any(|(other, _)| other == field));
        fields.extend(more);
        fields.sort_by_key(|(field, _)| *field);
        let roll = Roll { on: "2026-05-24".parse().unwrap(), age_min: 18, age_max: u16::MAX };
        roll.lists(&person(&fields), HOME).map(|listed| listed.is_doubtful)
    }

    #[test]
    fn whoever_is_of_age_on_the_day_is_on_the_roll_and_who_may_be_is_doubtful() {
        for (born, expected) in [
            ("2008-05-24", Some(false)),
            ("2008-05-25", None),
            ("2008-05", Some(true)),
            ("2008", Some(true)),
            ("2007", Some(false)),
            ("2009", None),
            ("2008-02-29", Some(false)),
            ("", Some(true)),
        ] {
            assert_eq!(listed(born, &[]), expected, "{born:?}");
        }
    }

    #[test]
    fn whoever_died_or_lives_elsewhere_is_not() {
        let dead = |date| listed("1990-03-08", &[(field::DEATH_DATE, date)]);
        assert_eq!([dead("2026-05-23"), dead("2026-05-24"), dead("2026-05")], [None, Some(false), Some(true)]);
        let lives = |text: String| listed("1990-03-08", &[(field::PERMANENT_RESIDENCE, &text)]);
        assert_eq!(lives(format!("unit={}", UnitId(8))), None);
        assert_eq!(lives(format!("unit={HOME}; since=2026-05-24")), Some(false));
        assert_eq!(lives(format!("unit={HOME}; since=2026-05-25")), None);
        assert_eq!(lives(format!("unit={HOME}; since=2026-05")), Some(true));
        assert_eq!(lives(format!("unit={HOME}; since=2020-01-01; until=2026-05-23; end=moved")), None);
        let nobody = Roll { on: "2026-05-24".parse().unwrap(), age_min: 0, age_max: 200 };
        assert_eq!(nobody.lists(&Record::new(RecordKind::Household), HOME), None);
        assert_eq!(nobody.lists(&Record::new(RecordKind::Person), HOME), None, "nowhere");
    }

    #[test]
    fn ages_have_an_end_too() {
        let roll = |age_min, age_max| Roll { on: "2026-05-24".parse().unwrap(), age_min, age_max };
        let home = format!("unit={HOME}");
        let child = person(&[(field::BIRTH_DATE, "2020"), (field::PERMANENT_RESIDENCE, home.as_str())]);
        let doubtful = |age_min, age_max| roll(age_min, age_max).lists(&child, HOME).map(|listed| listed.is_doubtful);
        assert_eq!(doubtful(5, 6), Some(false));
        assert_eq!((doubtful(6, 6), doubtful(5, 5)), (Some(true), Some(true)));
        assert_eq!((doubtful(7, 9), doubtful(0, 4)), (None, None));
    }
}
