//! A person, typed: what a record says, field by field, with what is in dispute about it and what waits for a second person.
//!
//! ```no_run
//! # async fn show(client: dinhba_client::Client, context: dinhba_client::Context, id: dinhba_core::ids::RecordId)
//! # -> Result<(), Box<dyn std::error::Error>> {
//! use dinhba_client::person::Person;
//!
//! let units = client.units().await?;
//! let person = Person::of(&client.get(&context, id).await?, &units)?;
//! println!("{} was born on {:?}", person.name.as_deref().unwrap_or("somebody"), person.birth_date);
//! for conflict in &person.conflicts {
//!     println!("an officer has to decide about {}: {:?}", conflict.field, conflict.values);
//! }
//! # Ok(()) }
//! ```
//!
//! Of a field with several values the latest is shown, as everywhere; [`Person::conflicts`] has the others. What a newer version wrote
//! and this one cannot read stands in [`Person::unread`], and is in none of the fields.

use dinhba_core::date::PartialDate;
use dinhba_core::ids::{RecordId, ShardId, UnitId};
use dinhba_core::number::{PersonNumber, Sex};
use dinhba_core::schema::{Content, FieldId, RecordKind, Value, field, parse};
use dinhba_core::units::Resolve;
use dinhba_proto::v1;

use crate::error::Error;

/// A person.
#[derive(Clone, PartialEq, Eq)]
pub struct Person {
    /// The record.
    pub id: RecordId,
    /// Where it lives.
    pub shard: ShardId,
    /// The home commune.
    pub home: UnitId,
    /// Family, middle and given name, as they are spoken.
    pub name: Option<String>,
    /// The day of birth, or as much of it as is known.
    pub birth_date: Option<PartialDate>,
    /// The day of death.
    pub death_date: Option<PartialDate>,
    /// The sex.
    pub sex: Option<Sex>,
    /// The personal number.
    pub number: Option<PersonNumber>,
    /// The code of the country.
    pub nationality: Option<[u8; 2]>,
    /// The code of the ethnicity (`dinhba fields` lists them).
    pub ethnicity: Option<&'static str>,
    /// The code of the marital status.
    pub marital_status: Option<&'static str>,
    /// Where the person is registered for good.
    pub permanent_residence: Option<Residence>,
    /// The household's record.
    pub household: Option<RecordId>,
    /// Parents, spouse, children, representatives.
    pub relatives: Vec<Relative>,
    /// Legal fields with several values: an officer must decide each.
    pub conflicts: Vec<Conflict>,
    /// Fields with a value that waits for a second person.
    pub pending: Vec<String>,
    /// Rules that the record breaks since a merge, in words.
    pub broken_rules: Vec<String>,
    /// Fields that this version cannot read.
    pub unread: Vec<String>,
}

/// Names the record, and nobody.
impl std::fmt::Debug for Person {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Person({})", self.id)
    }
}

/// Where somebody lives.
#[derive(Clone, PartialEq, Eq)]
pub struct Residence {
    /// The unit.
    pub unit: Option<UnitId>,
    /// House, street, hamlet.
    pub line: Option<String>,
    /// Since when.
    pub since: Option<PartialDate>,
}

/// Somebody who belongs to a person.
#[derive(Clone, PartialEq, Eq)]
pub struct Relative {
    /// As what: `father`, `spouse-1`, ... (the element of the field).
    pub role: String,
    /// The name, as it is spoken.
    pub name: Option<String>,
    /// The personal number.
    pub number: Option<PersonNumber>,
    /// The record, if it is known.
    pub record: Option<RecordId>,
}

/// Names the unit, and no house.
impl std::fmt::Debug for Residence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Residence({:?})", self.unit)
    }
}

/// Names the role, and nobody.
impl std::fmt::Debug for Relative {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Relative({})", self.role)
    }
}

/// A legal field that has several values.
#[derive(Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The field.
    pub field: String,
    /// Which of several, by its key; empty if it stands once.
    pub element: String,
    /// The values, latest first, as they are written.
    pub values: Vec<String>,
}

/// Names the field, and no value.
impl std::fmt::Debug for Conflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Conflict({}, {} values)", self.field, self.values.len())
    }
}

impl Person {
    /// What a record says of a person. `units` are those of the country: [`Client::units`](crate::Client::units).
    ///
    /// # Errors
    /// [`Error::Protocol`] if it is no person's.
    pub fn of(record: &v1::Record, units: &dyn Resolve) -> Result<Self, Error> {
        if record.kind != RecordKind::Person.name() {
            return Err(Error::Protocol("the record is no person's"));
        }
        let id = |text: &str| text.parse().map_err(|_| Error::Protocol("no record id"));
        let shard = record.shard.parse().map_err(|_| Error::Protocol("no shard id"))?;
        let home = record.unit.parse().map_err(|_| Error::Protocol("no unit id"))?;
        let mut person = Person {
            id: id(&record.id)?,
            shard,
            home,
            name: None,
            birth_date: None,
            death_date: None,
            sex: None,
            number: None,
            nationality: None,
            ethnicity: None,
            marital_status: None,
            permanent_residence: None,
            household: None,
            relatives: Vec::new(),
            conflicts: Vec::new(),
            pending: Vec::new(),
            broken_rules: record.broken_rules.clone(),
            unread: Vec::new(),
        };
        for shown in &record.fields {
            let Some(latest) = shown.values.first() else { continue };
            if shown.disputed {
                let values = shown.values.iter().map(|value| value.value.clone()).collect();
                let (field, element) = (shown.field.clone(), shown.element.clone());
                person.conflicts.push(Conflict { field, element, values });
            }
            if shown.values.iter().any(|value| value.pending) {
                person.pending.push(shown.field.clone());
            }
            let id = FieldId::named(RecordKind::Person, &shown.field).filter(|id| id.get().is_some());
            match id.and_then(|id| parse(id, &latest.value, units).ok()) {
                Some(value) if !value.is_cleared() => person.take(&shown.element, &value),
                Some(_) => {}
                None => person.unread.push(shown.field.clone()),
            }
        }
        Ok(person)
    }

    fn take(&mut self, element: &str, value: &Value) {
        match value.field() {
            field::NAME => self.name = value.spoken(),
            field::BIRTH_DATE => self.birth_date = value.date(),
            field::DEATH_DATE => self.death_date = value.date(),
            field::SEX => self.sex = value.code().map(|code| if code == "male" { Sex::Male } else { Sex::Female }),
            field::PERSONAL_NUMBER => self.number = value.number(),
            field::NATIONALITY => {
                self.nationality = match value.content() {
                    Content::Country(code) => Some(*code),
                    _ => None,
                }
            }
            field::ETHNICITY => self.ethnicity = value.code(),
            field::MARITAL_STATUS => self.marital_status = value.part("status").and_then(Content::code),
            field::HOUSEHOLD => self.household = value.record(),
            field::PERMANENT_RESIDENCE => {
                self.permanent_residence = Some(Residence {
                    unit: value.part("unit").and_then(Content::unit),
                    line: text(value, "line"),
                    since: value.part("since").and_then(Content::date),
                });
            }
            field::RELATIVE => self.relatives.push(Relative {
                role: element.to_owned(),
                name: text(value, "name"),
                number: value.part("number").and_then(Content::number),
                record: value.part("record").and_then(Content::record),
            }),
            _ => {}
        }
    }

    /// Whether nothing of it is open: no conflict, no value that waits, no rule that is broken.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.conflicts.is_empty() && self.pending.is_empty() && self.broken_rules.is_empty()
    }
}

fn text(value: &Value, part: &str) -> Option<String> {
    match value.part(part)? {
        Content::Text(text) => Some(text.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use dinhba_core::units::Directory;

    use super::*;

    fn shown(name: &str, element: &str, values: &[&str], disputed: bool) -> v1::Field {
        let value = |text: &&str| v1::FieldValue { value: (*text).to_owned(), ..v1::FieldValue::default() };
        v1::Field {
            field: name.to_owned(),
            element: element.to_owned(),
            values: values.iter().map(value).collect(),
            disputed,
            label: String::new(),
        }
    }

    fn record(fields: Vec<v1::Field>) -> v1::Record {
        v1::Record {
            id: RecordId([7; 16]).to_string(),
            kind: "person".to_owned(),
            shard: ShardId(1).to_string(),
            unit: UnitId(2).to_string(),
            fields,
            ..v1::Record::default()
        }
    }

    #[test]
    fn a_record_is_read_field_by_field_with_what_is_open_and_what_is_not_known() {
        let units = Directory::vietnam().unwrap();
        let unit = units.by_code("02683", dinhba_core::units::BEFORE_REFORM).unwrap().id;
        let mut read = record(vec![
            shown("name", "", &["Nguyễn/Thị/Lan"], false),
            shown("birth_date", "", &["1990-03-08", "1990-03"], true),
            shown("sex", "", &["female"], false),
            shown("personal_number", "", &["001190000018"], false),
            shown("nationality", "", &["VN"], false),
            shown("permanent_residence", "", &["unit=02683@2025-06-30; line=thôn 3; since=2020-01-02"], false),
            shown("relative", "father", &["name=Nguyễn Văn Nam; number=001060000011"], false),
            shown("field-900", "", &["0xab"], false),
        ]);
        read.fields[2].values[0].pending = true;
        let person = Person::of(&read, &units).unwrap();
        assert_eq!(person.name.as_deref(), Some("Nguyễn Thị Lan"));
        assert_eq!(person.birth_date.map(|date| date.to_string()).as_deref(), Some("1990-03-08"));
        assert_eq!((person.sex, person.nationality), (Some(Sex::Female), Some(*b"VN")));
        assert_eq!(person.number.map(|number| number.to_string()).as_deref(), Some("001190000018"));
        let residence = person.permanent_residence.as_ref().unwrap();
        assert_eq!((residence.unit, residence.line.as_deref()), (Some(unit), Some("thôn 3")));
        assert_eq!(
            (person.relatives[0].role.as_str(), person.relatives[0].name.as_deref()),
            ("father", Some("Nguyễn Văn Nam"))
        );
        assert_eq!((person.conflicts[0].field.as_str(), person.conflicts[0].values.len()), ("birth_date", 2));
        assert_eq!(
            (person.pending.as_slice(), person.unread.as_slice()),
            (&["sex".to_owned()][..], &["field-900".to_owned()][..])
        );
        assert!(!person.is_settled());
        assert!(
            !format!("{person:?} {:?}", person.conflicts).contains("1990"),
            "what is printed by chance names nobody"
        );

        let household = v1::Record { kind: "household".to_owned(), ..record(Vec::new()) };
        assert!(Person::of(&household, &units).is_err());
        assert!(Person::of(&record(Vec::new()), &units).unwrap().is_settled());
    }
}
