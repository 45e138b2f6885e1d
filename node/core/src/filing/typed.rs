//! An event as people type it, and as it stands on the wire: names and texts.

use super::check;
use crate::command::{Filed, Subject};
use crate::date::Date;
use crate::edit::Dot;
use crate::event::{Event, Form, INPUTS_MAX, Input, SUBJECTS_MAX};
use crate::ids::RecordId;
use crate::level;
use crate::record::FieldKey;
use crate::schema::{At, Content, FieldId, Invalid, Value, element, parse, parse_part};
use crate::units::Resolve;

/// Fields that one correction puts right: more than a person has.
const CORRECTIONS_MAX: usize = 64;

/// An event in words.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Typed {
    /// The event's name.
    pub event: String,
    /// The records that it is about.
    pub subjects: Vec<TypedSubject>,
    /// What is known of the event as a whole: names of inputs, and texts.
    pub inputs: Vec<(String, String)>,
    /// On what it rests.
    pub grounds: String,
}

/// A record in it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct TypedSubject {
    /// The name of its role.
    pub role: String,
    /// The record; none if the event makes it.
    pub record: Option<RecordId>,
    /// Which card.
    pub element: String,
    /// The values that the officer was shown.
    pub seen: Vec<Dot>,
    /// Names of inputs, and texts.
    pub inputs: Vec<(String, String)>,
    /// Of a correction: field, element and text; an empty text clears the field.
    pub corrections: Vec<(String, String, String)>,
}

// Personal data never reaches a log.
impl std::fmt::Debug for Typed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} records", self.event, self.subjects.len())
    }
}

impl std::fmt::Debug for TypedSubject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} as {}", self.record, self.role)
    }
}

/// Something that is wrong with an event: where, and what to do. Never holds a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// A path: `inputs.date`, `subjects[1].inputs.relation`.
    pub path: String,
    /// What to do.
    pub text: String,
    /// Whether the day alone forbids it: another day, or another node's clock, need not.
    pub is_early: bool,
}

struct Reader<'a> {
    units: &'a dyn Resolve,
    today: Date,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn wrong(&mut self, path: String, text: impl Into<String>) {
        self.problems.push(Problem { path, text: text.into(), is_early: false });
    }

    fn inputs(&mut self, asked: &'static [Input], typed: &[(String, String)], path: &str) -> Vec<(u8, Vec<u8>)> {
        let mut read: Vec<(u8, Vec<u8>)> = Vec::new();
        for (name, text) in typed {
            let path = format!("{path}inputs.{}", quoted(name));
            let Some((at, input)) = asked.iter().enumerate().find(|(_, input)| input.name == name) else {
                let names: Vec<&str> = asked.iter().map(|input| input.name).collect();
                let known = if names.is_empty() { "nothing is asked here".to_owned() } else { names.join(", ") };
                self.wrong(path, format!("is not asked by this form: {known}"));
                continue;
            };
            let at = u8::try_from(at).unwrap_or(u8::MAX);
            match self.content(input, text) {
                _ if read.iter().any(|(place, _)| *place == at) => self.wrong(path, "is given twice"),
                Ok(Content::Cleared) => self.wrong(path, "is empty: leave it out, or fill it in"),
                Ok(content) => {
                    if let Some(text) = early(input, &content, self.today) {
                        self.problems.push(Problem { path, text, is_early: true });
                    }
                    read.push((at, content.encode()));
                }
                Err(text) => self.wrong(path, text),
            }
        }
        read.sort();
        read
    }

    fn content(&self, input: &Input, text: &str) -> Result<Content, String> {
        let read = match input.part {
            None => parse(input.field, text, self.units).map(|value| value.content().clone()),
            Some(part) => parse_part(input.field, part, text, self.units),
        };
        read.map_err(|error| named_so(input, error))
    }

    fn corrections(&mut self, subject: &TypedSubject, form: &Form, at: usize) -> Vec<(FieldKey, Vec<u8>)> {
        let Some((_, role)) = form.role(&subject.role) else { return Vec::new() };
        let mut read: Vec<(FieldKey, Vec<u8>)> = Vec::new();
        for (name, typed, text) in &subject.corrections {
            let path = format!("subjects[{at}].corrections.{}", quoted(name));
            let Some(field) = FieldId::named(role.kind, name).filter(|field| field.get().is_some()) else {
                self.wrong(path, format!("is no field of a {}", role.kind));
                continue;
            };
            let key = (field, element(field, typed).into_bytes());
            match parse(field, text, self.units) {
                Ok(_) if read.iter().any(|(other, _)| *other == key) => self.wrong(path, "is corrected twice"),
                Ok(value) => {
                    if let Err(error) = value.check_past(self.today) {
                        self.problems.push(Problem { path, text: error.to_string(), is_early: true });
                    }
                    read.push((key, value.encode()));
                }
                Err(error) => self.wrong(path, error.to_string()),
            }
        }
        read.sort();
        read
    }
}

/// As much of a name that somebody sent as an answer has room for.
fn quoted(name: &str) -> String {
    name.chars().take(40).collect()
}

/// Why an input lies after the day, if it does and may not.
fn early(input: &Input, content: &Content, today: Date) -> Option<String> {
    let value = match input.part {
        None => Value::new(input.field, content.clone()).ok()?,
        Some(part) => Value::of_part(input.field, part, content.clone())?,
    };
    value.check_past(today).err().map(|error| named_so(input, error))
}

/// An error of a field's value, with the name that the form has for it.
fn named_so(input: &Input, error: Invalid) -> String {
    let at = At { field: input.field, part: input.part };
    let text = error.to_string();
    let rest = text.strip_prefix(&at.to_string()).or_else(|| text.strip_prefix(&input.field.to_string()));
    rest.map_or_else(|| text.clone(), |rest| format!("{}{rest}", input.name))
}

impl Typed {
    /// Before anything walks over it.
    fn too_much(&self) -> Option<String> {
        let is_too_much = self.subjects.len() > SUBJECTS_MAX
            || self.inputs.len() > INPUTS_MAX
            || self.subjects.iter().any(|one| one.inputs.len() > INPUTS_MAX || one.corrections.len() > CORRECTIONS_MAX);
        is_too_much.then(|| {
            format!(
                "an event is about at most {SUBJECTS_MAX} records, with {INPUTS_MAX} inputs and {CORRECTIONS_MAX} corrections for each"
            )
        })
    }

    /// What was filled in, or all that is wrong with it, whatever the records are. `level` is the highest that may be in force.
    ///
    /// # Errors
    /// The problems; if all are early ones, nothing else is wrong.
    pub fn read(&self, level: u16, today: Date, units: &dyn Resolve) -> Result<Filed, Vec<Problem>> {
        let known = Event::named(&self.event).filter(|event| level::has(level, event.since()));
        let Some((event, form)) = known.and_then(|event| Some((event, event.form()?))) else {
            let text = "is no event of this version: `dinhba events` shows them".to_owned();
            return Err(vec![Problem { path: "event".to_owned(), text, is_early: false }]);
        };
        if let Some(text) = self.too_much() {
            return Err(vec![Problem { path: "event".to_owned(), text, is_early: false }]);
        }
        let mut reader = Reader { units, today, problems: Vec::new() };
        let mut subjects = Vec::with_capacity(self.subjects.len());
        for (at, typed) in self.subjects.iter().enumerate() {
            let Some((place, role)) = form.role(&typed.role) else {
                let names: Vec<&str> = form.roles.iter().map(|role| role.name).collect();
                reader.wrong(format!("subjects[{at}].role"), format!("is none of {}", names.join(", ")));
                continue;
            };
            let inputs = reader.inputs(role.inputs, &typed.inputs, &format!("subjects[{at}]."));
            let corrections = reader.corrections(typed, form, at);
            let mut seen = typed.seen.clone();
            seen.sort();
            seen.dedup();
            let (record, element) = (typed.record, typed.element.clone());
            subjects.push(Subject { role: place, record, element, seen, inputs, corrections });
        }
        let inputs = reader.inputs(form.inputs, &self.inputs, "");
        let filed = Filed { event, subjects, inputs, grounds: self.grounds.clone() };
        let has_errors = reader.problems.iter().any(|problem| !problem.is_early);
        // What could not be read is missing here, and was said.
        if !has_errors {
            for (place, text) in check(level, &filed) {
                reader.wrong(place.path(), text);
            }
        }
        if reader.problems.is_empty() { Ok(filed) } else { Err(reader.problems) }
    }
}
