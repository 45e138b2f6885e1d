//! Events: what an officer files. [`EventBuilder`] takes any event of the table in [`dinhba_core::event`]; [`Birth`],
//! [`Death`], [`Marriage`] and [`PermanentResidence`] are the commonest of them, with what each needs as arguments, so that
//! one cannot be left out.
//!
//! ```no_run
//! # async fn register(client: dinhba_client::client::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use dinhba_client::event::Birth;
//! use dinhba_client::request::Context;
//! use dinhba_core::number::Sex;
//!
//! let context = Context::parse("registration", "12/2026")?;
//! let birth = Birth::of("Nguyễn Thị Mai", Sex::Female, "2026-06-01".parse()?).ethnicity("Kinh").nationality("VN");
//! let accepted = client.file(&client.session(), &birth.build(&context)).await?;
//! println!("registered as {}", accepted.records[0]);
//! # Ok(()) }
//! ```
//!
//! An event replaces only what its builder was shown: records are given to it as they were read. If they have moved on, the
//! answer is [`Error::Stale`](crate::error::Error::Stale): read them again, and look.

use dinhba_core::date::PartialDate;
use dinhba_core::event::Event;
use dinhba_core::ids::{RequestId, ShardId};
use dinhba_core::number::Sex;
use dinhba_core::text::{tidy, to_nfc};
use dinhba_proto::v1;

use crate::request::{Context, dots_of, wire_request};

/// Puts an event together.
#[derive(Clone)]
pub struct EventBuilder {
    request: v1::FileRequest,
}

/// Names the event, and nobody.
impl std::fmt::Debug for EventBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} records", self.request.event, self.request.subjects.len())
    }
}

impl EventBuilder {
    /// An event without anything filled in.
    #[must_use]
    pub fn new(context: &Context, event: Event) -> Self {
        let (context, event) = (context.wire(), event.name().to_owned());
        EventBuilder { request: v1::FileRequest { context, event, ..v1::FileRequest::default() } }
    }

    /// The shard of its records. Without it, that of the first record that it is about, or else the one whose home is the
    /// caller's unit.
    pub fn shard(&mut self, shard: ShardId) -> &mut Self {
        self.request.shard = shard.to_string();
        self
    }

    /// Adds a record that the event makes, in this role; returns its place among the subjects.
    pub fn create(&mut self, role: &str) -> usize {
        self.subject(v1::Subject { role: role.to_owned(), ..v1::Subject::default() })
    }

    /// Adds a record as it was read, in this role; returns its place among the subjects.
    pub fn about(&mut self, role: &str, record: &v1::Record) -> usize {
        if self.request.shard.is_empty() {
            self.request.shard.clone_from(&record.shard);
        }
        let seen = dots_of(&record.fields);
        let (role, record) = (role.to_owned(), record.id.clone());
        self.subject(v1::Subject { role, record, seen, ..v1::Subject::default() })
    }

    fn subject(&mut self, subject: v1::Subject) -> usize {
        self.request.subjects.push(subject);
        self.request.subjects.len() - 1
    }

    /// Fills in an input of the event.
    pub fn set(&mut self, input: &str, value: &str) -> &mut Self {
        put(&mut self.request.inputs, input, value);
        self
    }

    /// Fills in an input of a subject.
    ///
    /// # Panics
    /// If there is no such subject.
    pub fn set_of(&mut self, subject: usize, input: &str, value: &str) -> &mut Self {
        put(&mut self.request.subjects[subject].inputs, input, value);
        self
    }

    /// Which card of a subject is meant, by its element key.
    ///
    /// # Panics
    /// If there is no such subject.
    pub fn element_of(&mut self, subject: usize, element: &str) -> &mut Self {
        element.clone_into(&mut self.request.subjects[subject].element);
        self
    }

    /// Corrects a field of a subject; an empty value clears it, and of several for one field the last one counts.
    ///
    /// # Panics
    /// If there is no such subject.
    pub fn correct(&mut self, subject: usize, field: &str, element: &str, value: &str) -> &mut Self {
        let subject = &mut self.request.subjects[subject];
        subject.corrections.retain(|other| (other.field.as_str(), other.element.as_str()) != (field, element));
        let (field, element, value) = (field.to_owned(), to_nfc(element), to_nfc(value));
        subject.corrections.push(v1::FieldChange { field, element, value, overwrites: Vec::new() });
        self
    }

    /// On what it rests.
    pub fn grounds(&mut self, grounds: &str) -> &mut Self {
        self.request.grounds = tidy(grounds);
        self
    }

    /// The message to send, and to send again, under the name `request`.
    #[must_use]
    pub fn build(&self, request: RequestId, authored_ms: i64) -> v1::FileRequest {
        v1::FileRequest { request: Some(wire_request(request)), authored_ms, ..self.request.clone() }
    }
}

/// The later one counts.
fn put(inputs: &mut Vec<v1::Input>, name: &str, value: &str) {
    inputs.retain(|input| input.name != name);
    inputs.push(v1::Input { name: name.to_owned(), value: to_nfc(value) });
}

/// A birth.
#[derive(Clone)]
pub struct Birth {
    inputs: Vec<(&'static str, String)>,
    beside: Vec<(&'static str, v1::Record)>,
    paper: Vec<(&'static str, String)>,
}

macro_rules! inputs {
    ($($(#[$doc:meta])* $name:ident = $input:literal;)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name(mut self, text: &str) -> Self {
            self.inputs.push(($input, text.to_owned()));
            self
        }
    )*};
}

impl Birth {
    /// Of a child with that name ("Nguyễn Thị Mai", or "Nguyễn/Thị/Mai" if its parts could be taken for others).
    #[must_use]
    pub fn of(name: &str, sex: Sex, date: PartialDate) -> Self {
        let sex = match sex {
            Sex::Male => "male",
            Sex::Female => "female",
        };
        let inputs = vec![("name", name.to_owned()), ("sex", sex.to_owned()), ("birth-date", date.to_string())];
        Birth { inputs, beside: Vec::new(), paper: Vec::new() }
    }

    inputs! {
        /// Where it was born, as a place of the schema.
        birth_place = "birth-place";
        /// Where the birth is registered.
        registration_place = "registration-place";
        /// The place of origin.
        origin = "origin";
        /// The people that the child belongs to.
        ethnicity = "ethnicity";
        /// The nationality.
        nationality = "nationality";
        /// The personal number, if it was given elsewhere.
        number = "number";
        /// The permanent residence.
        residence = "residence";
        /// What the child is to the head of its [`household`](Self::household).
        relation = "relation";
        /// The father, if he has no record here: his name, number, nationality.
        father_named = "father-named";
        /// The mother, if she has no record here.
        mother_named = "mother-named";
    }

    /// The mother, as she was read.
    #[must_use]
    pub fn mother(mut self, record: &v1::Record) -> Self {
        self.beside.push(("mother", record.clone()));
        self
    }

    /// The father, as he was read.
    #[must_use]
    pub fn father(mut self, record: &v1::Record) -> Self {
        self.beside.push(("father", record.clone()));
        self
    }

    /// The household that the child belongs to, as it was read; needs its [`relation`](Self::relation) to the head.
    #[must_use]
    pub fn household(mut self, record: &v1::Record) -> Self {
        self.beside.push(("household", record.clone()));
        self
    }

    /// The paper that it rests on: its kind and number.
    #[must_use]
    pub fn paper(mut self, kind: &str, number: &str) -> Self {
        self.paper = vec![("paper", kind.to_owned()), ("paper-number", number.to_owned())];
        self
    }

    /// The event.
    #[must_use]
    pub fn build(&self, context: &Context) -> EventBuilder {
        let mut event = EventBuilder::new(context, Event::Birth);
        let child = event.create("child");
        for (name, value) in &self.inputs {
            event.set_of(child, name, value);
        }
        for (role, record) in &self.beside {
            event.about(role, record);
        }
        for (name, value) in &self.paper {
            event.set(name, value);
        }
        event
    }
}

/// A death.
#[derive(Clone)]
pub struct Death {
    deceased: v1::Record,
    date: PartialDate,
    spouse: Option<v1::Record>,
}

impl Death {
    /// Of a person as it was read.
    #[must_use]
    pub fn of(deceased: &v1::Record, date: PartialDate) -> Self {
        Death { deceased: deceased.clone(), date, spouse: None }
    }

    /// The spouse, who is widowed by it.
    #[must_use]
    pub fn spouse(mut self, record: &v1::Record) -> Self {
        self.spouse = Some(record.clone());
        self
    }

    /// The event.
    #[must_use]
    pub fn build(&self, context: &Context) -> EventBuilder {
        let mut event = EventBuilder::new(context, Event::Death);
        event.about("deceased", &self.deceased);
        if let Some(spouse) = &self.spouse {
            event.about("spouse", spouse);
        }
        event.set("date", &self.date.to_string());
        event
    }
}

/// A marriage.
#[derive(Clone)]
pub struct Marriage {
    spouses: Vec<v1::Record>,
    other: String,
    date: PartialDate,
}

impl Marriage {
    /// Of two persons of this register, as they were read.
    #[must_use]
    pub fn of(one: &v1::Record, two: &v1::Record, date: PartialDate) -> Self {
        Marriage { spouses: vec![one.clone(), two.clone()], other: String::new(), date }
    }

    /// Of a person of this register with one of another commune's: name and number, as a relative of the schema.
    #[must_use]
    pub fn with(one: &v1::Record, other: &str, date: PartialDate) -> Self {
        Marriage { spouses: vec![one.clone()], other: other.to_owned(), date }
    }

    /// The event.
    #[must_use]
    pub fn build(&self, context: &Context) -> EventBuilder {
        let mut event = EventBuilder::new(context, Event::Marriage);
        for spouse in &self.spouses {
            event.about("spouse", spouse);
        }
        event.set("date", &self.date.to_string());
        if !self.other.is_empty() {
            event.set("other", &self.other);
        }
        event
    }
}

/// A permanent residence.
#[derive(Clone)]
pub struct PermanentResidence {
    persons: Vec<v1::Record>,
    inputs: Vec<(&'static str, String)>,
}

impl PermanentResidence {
    /// Of persons as they were read, in a unit (code and day, or id), from a day on.
    #[must_use]
    pub fn of(persons: &[v1::Record], unit: &str, since: PartialDate) -> Self {
        let inputs = vec![("unit", unit.to_owned()), ("since", since.to_string())];
        PermanentResidence { persons: persons.to_vec(), inputs }
    }

    inputs! {
        /// House, street, hamlet.
        line = "line";
        /// The residence file.
        file_number = "file-number";
    }

    /// The event.
    #[must_use]
    pub fn build(&self, context: &Context) -> EventBuilder {
        let mut event = EventBuilder::new(context, Event::PermanentResidence);
        for person in &self.persons {
            event.about("person", person);
        }
        for (name, value) in &self.inputs {
            event.set(name, value);
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use dinhba_core::filing::{Typed, TypedSubject};
    use dinhba_core::ids::{RecordId, SessionId};
    use dinhba_core::level::LEVEL_MAX;
    use dinhba_core::units::NoUnits;

    use super::*;

    fn record(number: u8) -> v1::Record {
        let value = |author: u8| v1::FieldValue {
            value: "x".into(),
            dot: Some(v1::Dot { author: vec![author; 16], number: 1 }),
            received_ms: 0,
            pending: false,
        };
        let field = |values| v1::Field { field: "name".into(), values, ..v1::Field::default() };
        v1::Record {
            id: RecordId([number; 16]).to_string(),
            kind: "person".into(),
            shard: ShardId(4).to_string(),
            fields: vec![field(vec![value(2), value(1)]), field(vec![value(2)])],
            ..v1::Record::default()
        }
    }

    /// What the builders put together is what the forms take.
    fn fits(event: &EventBuilder) -> v1::FileRequest {
        let built = event.build(RequestId { session: SessionId([5; 16]), counter: 1 }, 7);
        let inputs =
            |inputs: &[v1::Input]| inputs.iter().map(|input| (input.name.clone(), input.value.clone())).collect();
        let subject = |subject: &v1::Subject| TypedSubject {
            role: subject.role.clone(),
            record: subject.record.parse().ok(),
            inputs: inputs(&subject.inputs),
            ..TypedSubject::default()
        };
        let typed = Typed {
            event: built.event.clone(),
            subjects: built.subjects.iter().map(subject).collect(),
            inputs: inputs(&built.inputs),
            grounds: built.grounds.clone(),
        };
        let today = "2026-06-15".parse().expect("a day");
        typed.read(LEVEL_MAX, today, &NoUnits).expect("a form that is filled in");
        built
    }

    #[test]
    fn builders_fill_in_what_the_forms_ask() {
        let date: PartialDate = "2026-06-01".parse().unwrap();
        let context = Context::parse("registration", "HS-1").unwrap();
        let birth = Birth::of("Nguyễn Thị Mai", Sex::Female, date).ethnicity("Kinh").nationality("VN");
        let birth = birth.mother(&record(1)).father_named("name=Lê Văn Ba").paper("Giấy chứng sinh", "5/2026");
        let built = fits(&birth.build(&context));
        assert_eq!(built.subjects.len(), 2);
        assert_eq!((built.subjects[0].record.as_str(), built.shard), ("", ShardId(4).to_string()));
        assert_eq!(built.subjects[1].seen.len(), 2, "each value that was shown, once");
        fits(&Death::of(&record(1), date).spouse(&record(2)).build(&context));
        fits(&Marriage::of(&record(1), &record(2), date).build(&context));
        fits(&Marriage::with(&record(1), "name=Lê Văn Ba; number=001090000002", date).build(&context));
        let residence =
            PermanentResidence::of(&[record(1)], "u-0000000000000004", date).line("Số 5").file_number("HS-1");
        fits(&residence.build(&context));
    }

    #[test]
    fn the_later_of_two_values_counts_and_nobody_is_named_in_a_log() {
        let context = Context::parse("registration", "HS-1").unwrap();
        let mut event = EventBuilder::new(&context, Event::NameChange);
        let person = event.about("person", &record(3));
        event.set_of(person, "name", "Lê An").set_of(person, "name", "Le\u{302} A\u{302}n").grounds(" Quyết định  1 ");
        let built = event.build(RequestId { session: SessionId([5; 16]), counter: 1 }, 7);
        assert_eq!(built.subjects[0].inputs, [v1::Input { name: "name".into(), value: "Lê Ân".into() }]);
        assert_eq!(built.grounds, "Quyết định 1");
        assert!(!format!("{event:?}").contains("Lê"));
    }
}
