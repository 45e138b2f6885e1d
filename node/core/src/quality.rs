//! How good the records of a commune are, in the words of those in charge: *correct* (đúng: nothing in them is in dispute and no rule is broken),
//! *complete* (đủ: what the law wants of a person or a household is filled in) and *clean* (sạch: nobody stands there twice, as far as
//! numbers show it). Whether they are *live* (sống) the site's links tell.
//!
//! Kept by `apply` as edits enter (`registry::quality`), and at any time equal to a recount. What a record must have depends on age, and nobody
//! edits a record on somebody's birthday: so what will be wanted from a day on is counted under that day.

use crate::date::Date;
use crate::record::Record;
use crate::schema::{FIELDS, FieldId, RecordKind, Required, Value, field};
use crate::wire_struct;

/// Fields that say how a record stands, beside those that it must have.
const STATUS: [FieldId; 3] = [field::BIRTH_DATE, field::DEATH_DATE, field::DISAPPEARANCE_DATE];

/// The counts of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quality {
    /// Records in which something is in dispute or breaks a rule.
    pub disputed: u64,
    /// Records with a personal number that another one has too.
    pub doubled: u64,
    /// Fields that its records must have, whatever anybody's age...
    pub required: u64,
    /// ...and those of them that are filled.
    pub filled: u64,
}

wire_struct! { Quality { disputed, doubled, required, filled } }

/// What a record must have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fullness {
    /// Fields that it must have, whatever the age...
    pub required: u32,
    /// ...and those of them that are filled.
    pub filled: u32,
    /// Fields that it must have from a day on, and whether they are filled.
    pub coming: Vec<(Date, bool)>,
}

/// Whether a change of a field may change what a record must have, or has of it.
#[must_use]
pub fn bears(field: FieldId) -> bool {
    STATUS.contains(&field) || field.get().is_some_and(|field| field.required != Required::Never)
}

impl Fullness {
    /// Of a record; nothing of one that communes do not keep of people. A person whose birth date is missing counts as grown up.
    #[must_use]
    pub fn of(record: &Record) -> Option<Self> {
        if !RecordKind::OF_PEOPLE.contains(&record.kind) {
            return None;
        }
        // Asked for each field of the schema: they are looked up in a list, which is in order, not in the record.
        let of_whole = record.fields().filter(|((_, element), _)| element.is_empty());
        let filled = of_whole.filter(|(_, values)| values.iter().any(|tagged| !tagged.value.is_empty()));
        let filled: Vec<FieldId> = filled.map(|((field, _), _)| *field).collect();
        let is_filled = |field: FieldId| filled.binary_search(&field).is_ok();
        let is_dead = is_filled(field::DEATH_DATE) || is_filled(field::DISAPPEARANCE_DATE);
        let births = record.values(&(field::BIRTH_DATE, Vec::new())).iter();
        let births: Option<Vec<Date>> = births
            .filter(|tagged| !tagged.value.is_empty())
            .map(|tagged| Some(Value::decode(field::BIRTH_DATE, &tagged.value).ok()?.date()?.latest()))
            .collect();
        let born = births.unwrap_or_default().into_iter().max();
        let mut found = Fullness::default();
        for field in FIELDS.iter().filter(|field| field.kind == record.kind) {
            let is_filled = is_filled(field.id);
            match (field.required, born) {
                (Required::Never, _) => {}
                (Required::Living | Required::LivingFromAge(_), _) if is_dead => {}
                (Required::LivingFromAge(age), Some(born)) => found.coming.push((birthday(born, age), is_filled)),
                _ => {
                    found.required += 1;
                    found.filled += u32::from(is_filled);
                }
            }
        }
        Some(found)
    }
}

/// The first day on which somebody who was born on a day has an age.
fn birthday(born: Date, age: u16) -> Date {
    let year = born.year() + age;
    let day = Date::new(year, born.month(), born.day()).or_else(|_| Date::new(year, 3, 1));
    day.unwrap_or(Date::MAX)
}

#[cfg(test)]
mod tests {
    use crdts::CmRDT;
    use proptest::prelude::*;

    use super::*;
    use crate::edit::{Change, Dot};
    use crate::ids::AuthorId;
    use crate::record::Write;
    use crate::schema::{completeness, parse};
    use crate::units::NoUnits;

    fn person(fields: &[(FieldId, &str)]) -> Record {
        let mut record = Record::new(RecordKind::Person);
        for (at, (field, text)) in (1..).zip(fields) {
            let value = parse(*field, text, &NoUnits).unwrap().encode();
            let change = Change { field: *field, element: Vec::new(), value, overwrites: Vec::new() };
            record.apply(Write::new(Dot { actor: AuthorId([1; 16]), counter: at }, 0, &[change]));
        }
        record
    }

    proptest! {
        #[test]
        fn on_any_day_it_is_what_the_schema_says_of_the_record(
            born in prop::option::of((1900u16..2030, 1u8..=12, 1u8..=28)),
            is_leap in any::<bool>(),
            status in any::<bool>(),
            died in any::<bool>(),
            sex in any::<bool>(),
            today in 0i64..80_000,
        ) {
            let born = match born {
                Some((year, ..)) if is_leap => Some(format!("{}-02-29", year / 4 * 4).replace("1900-02-29", "1904-02-29")),
                Some((year, month, day)) => Some(format!("{year}-{month:02}-{day:02}")),
                None => None,
            };
            let mut fields: Vec<(FieldId, &str)> = Vec::new();
            fields.extend(born.iter().map(|born| (field::BIRTH_DATE, born.as_str())));
            fields.extend(sex.then_some((field::SEX, "nam")));
            fields.extend(status.then_some((field::MARITAL_STATUS, "single")));
            fields.extend(died.then_some((field::DEATH_DATE, "2040-01-01")));
            let record = person(&fields);
            let today = Date::from_days(Date::new(1900, 1, 1).unwrap().days() + today);
            let lookup = |field: FieldId, element: &[u8]| {
                record.values(&(field, element.to_vec())).iter().map(|tagged| tagged.value.as_slice()).collect()
            };
            let says = completeness(RecordKind::Person, &lookup, today);
            let full = Fullness::of(&record).unwrap();
            let due: Vec<bool> = full.coming.iter().filter(|(day, _)| *day <= today).map(|(_, is_filled)| *is_filled).collect();
            let required = full.required + due.len() as u32;
            let filled = full.filled + due.iter().filter(|is_filled| **is_filled).count() as u32;
            prop_assert_eq!((required, required - filled), (says.required, says.missing.len() as u32));
        }
    }
}
