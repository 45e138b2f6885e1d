//! Filing an event: from what an officer fills in and the records that are there to the parts of one edit.
//!
//! Pure, and the same at every replica of a feature level: it is asked in `apply`, so that nothing comes between what is looked at
//! and what is written. The form's inputs go where its table says ([`Form`]); what an event does beyond that is in `effects`: a
//! death ends residence, card and account. The parts are then an edit like any other, with all that is asked of one.
//!
//! An event rests only on what the officer saw: he names the values of each record that he was shown, and if one that the event
//! reads, copies or replaces is not among them, he is told which fields, and looks again. So an event answers nothing that a
//! logged look did not. A value in dispute is replaced by nobody's event: that would be a decision, and is made as one.
//!
//! Left to others: whether the parts break a rule of their records (`schema::rules`), who may file (`access`), dates that lie
//! after the day (the door).

mod effects;
mod typed;

pub use effects::rules;
pub use typed::{Problem, Typed, TypedSubject};

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::command::{Answer, Filed, MOVED_DOTS_MAX, MOVED_MAX, Moved, PartDraft, RefusalCode, Stale};
use crate::date::{Date, PartialDate};
use crate::edit::{Change, Dot, GROUNDS};
use crate::event::{Form, Goes, INPUTS_MAX, Input, Role, SUBJECTS_MAX};
use crate::ids::{RecordId, RequestId, UnitId};
use crate::inject::is_armed;
use crate::level;
use crate::number::{PersonNumber, Sex};
use crate::record::{FieldKey, Record, Tagged, are_disputed};
use crate::schema::{Content, FieldId, RecordKind, Type, Value, field};
use crate::store::StoreError;

/// Values of one record that an officer may name as seen: a record at its bound has fewer.
pub const SEEN_MAX: usize = 4_096;

/// Where in a form something is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The whole.
    Event,
    /// A subject, by its place.
    Subject(usize),
    /// An input of the event, by name.
    Input(&'static str),
    /// An input of a subject.
    SubjectInput(usize, &'static str),
}

/// Why an event is not filed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotFiled {
    /// It is filled in wrongly, whatever the records are.
    Form(Place, String),
    /// A rule of the event, in words, with the law it comes from.
    Rule(Place, &'static EventRule),
    /// A record is not there, or not of that kind.
    Unknown(Place, String),
    /// What it would replace has moved on.
    Stale(Stale),
    /// What it would replace is in dispute.
    Disputed(Place, FieldId),
}

impl Place {
    /// The path of it in a request.
    #[must_use]
    pub fn path(self) -> String {
        match self {
            Place::Event => "event".to_owned(),
            Place::Subject(at) => format!("subjects[{at}]"),
            Place::Input(name) => format!("inputs.{name}"),
            Place::SubjectInput(at, name) => format!("subjects[{at}].inputs.{name}"),
        }
    }
}

impl NotFiled {
    /// What a caller is told.
    #[must_use]
    pub fn answer(self) -> Answer {
        let at = |place: Place, text: String| match place {
            Place::Event => text,
            place => format!("{}: {text}", place.path()),
        };
        match self {
            NotFiled::Form(place, text) => Answer::refused(RefusalCode::Invalid, at(place, text)),
            NotFiled::Rule(place, EventRule { name, law, text, text_vi, is_warning }) => {
                let text = at(place, format!("{text} / {text_vi}"));
                let way = if *is_warning { ASK_FOR_GROUNDS } else { "" };
                Answer::refused(RefusalCode::Rule, format!("{name}: {text} ({law}){way}"))
            }
            NotFiled::Unknown(place, text) => Answer::refused(RefusalCode::Unknown, at(place, text)),
            NotFiled::Stale(stale) => Answer::Stale(stale),
            NotFiled::Disputed(place, field) => {
                let text = format!("{field} is in dispute here: decide the conflict first, then file the event");
                Answer::refused(RefusalCode::Rule, at(place, text))
            }
        }
    }
}

/// What is said with a warning.
const ASK_FOR_GROUNDS: &str = "; if it is so, file it with grounds that say why / nếu đúng như vậy, ghi rõ căn cứ";

/// A rule of events.
#[derive(Debug, PartialEq, Eq)]
pub struct EventRule {
    /// Its name.
    pub name: &'static str,
    /// The law.
    pub law: &'static str,
    /// What is wrong and what to do.
    pub text: &'static str,
    /// The same for officers.
    pub text_vi: &'static str,
    /// Whether it is only a warning: an officer who is sure says why, and the event is filed with these grounds.
    pub is_warning: bool,
}

/// What filing looks at.
pub trait Registered {
    /// A record of the shard.
    ///
    /// # Errors
    /// The store's.
    fn record(&self, id: RecordId) -> Result<Option<Record>, StoreError>;

    /// The first records of the shard that have, or had, a personal number; a few are enough to tell that it is taken.
    ///
    /// # Errors
    /// The store's.
    fn holders(&self, number: PersonNumber) -> Result<Vec<(RecordId, Record)>, StoreError>;

    /// How many persons of the shard name a household as theirs, counted up to one more than an event is about.
    ///
    /// # Errors
    /// The store's.
    fn members(&self, household: RecordId) -> Result<usize, StoreError>;

    /// The unit whose records these are.
    fn home(&self) -> UnitId;

    /// The next personal number for somebody of that sex and birth year, of those that this site may give.
    ///
    /// # Errors
    /// The store's.
    fn next_number(&self, sex: Sex, birth_year: u16) -> Result<Option<PersonNumber>, StoreError>;
}

/// What is wrong with a form by itself. The door says all of it.
#[must_use]
pub fn check(level: u16, filed: &Filed) -> Vec<(Place, String)> {
    let mut found = Vec::new();
    let Some(form) = filed.event.form().filter(|_| level::has(level, filed.event.since())) else {
        return vec![(Place::Event, "no such event at this feature level: see the list of events".to_owned())];
    };
    if filed.subjects.len() > SUBJECTS_MAX {
        return vec![(Place::Event, format!("an event is about at most {SUBJECTS_MAX} records: file it in several"))];
    }
    if form.needs_grounds && filed.grounds.trim().is_empty() {
        let text = "needs its grounds: the number, date and issuer of the decision or judgment it rests on";
        found.push((Place::Event, format!("{} {text}", filed.event)));
    }
    for (at, role) in form.roles.iter().enumerate() {
        let count = filed.subjects.iter().filter(|subject| usize::from(subject.role) == at).count();
        let (least, most) = role.count;
        if !(least..=most).contains(&count) {
            let text = match (least, most) {
                (1, 1) => format!("needs one {}", role.name),
                (0, most) => format!("has at most {most} of {}", role.name),
                (least, most) => format!("needs {least} to {most} of {}", role.name),
            };
            found.push((Place::Event, format!("{} {text}, not {count}", filed.event)));
        }
    }
    let mut records = BTreeSet::new();
    for (at, subject) in filed.subjects.iter().enumerate() {
        let mut wrong = |text: String| found.push((Place::Subject(at), text));
        let Some(role) = form.roles.get(usize::from(subject.role)) else {
            wrong("is no subject of this event".to_owned());
            continue;
        };
        match subject.record {
            Some(_) if role.is_new => wrong(format!("the {} is made by the event: name no record", role.name)),
            None if !role.is_new => wrong(format!("say which record the {} is", role.name)),
            Some(record) if !records.insert(record) => wrong(format!("record {record} stands in the event twice")),
            _ => {}
        }
        if subject.seen.len() > SEEN_MAX || !subject.seen.windows(2).all(|two| two[0] < two[1]) {
            wrong(format!("seen: at most {SEEN_MAX} names of values, rising"));
        }
        if !form.corrects && !subject.corrections.is_empty() {
            wrong("only a correction changes fields by their names".to_owned());
        }
        if !subject.corrections.windows(2).all(|two| two[0].0 < two[1].0) {
            wrong("a field is corrected twice: say once what is right".to_owned());
        }
        let of_subject = |name| Place::SubjectInput(at, name);
        check_inputs(level, role.inputs, &subject.inputs, of_subject, &mut found);
    }
    check_inputs(level, form.inputs, &filed.inputs, Place::Input, &mut found);
    found
}

fn check_inputs(
    level: u16,
    asked: &'static [Input],
    given: &[(u8, Vec<u8>)],
    place: impl Fn(&'static str) -> Place,
    found: &mut Vec<(Place, String)>,
) {
    debug_assert!(asked.len() <= INPUTS_MAX);
    if !given.windows(2).all(|two| two[0].0 < two[1].0) {
        found.push((Place::Event, "inputs stand in the order of the form, each once".to_owned()));
        return;
    }
    for (at, bytes) in given {
        match asked.get(usize::from(*at)) {
            None => found.push((Place::Event, format!("the form has no input {at}"))),
            Some(input) => {
                if let Err(error) = read(level, input, bytes) {
                    found.push((place(input.name), error));
                }
            }
        }
    }
    for (at, input) in asked.iter().enumerate().filter(|(_, input)| input.is_required) {
        if !given.iter().any(|(place, _)| usize::from(*place) == at) {
            found.push((place(input.name), format!("{} is needed", input.name)));
        }
    }
}

/// The content of an input.
fn read(level: u16, input: &Input, bytes: &[u8]) -> Result<Content, String> {
    Content::decode_at(level, input.field, input.part, bytes).map_err(|error| error.to_string())
}

fn inputs_of(level: u16, asked: &'static [Input], given: &[(u8, Vec<u8>)]) -> Inputs {
    let content = |(place, bytes): &(u8, Vec<u8>)| {
        let input = asked.get(usize::from(*place))?;
        Some((input.name, read(level, input, bytes).ok()?))
    };
    given.iter().filter_map(content).collect()
}

/// An event on its way to an edit.
struct Case<'a> {
    level: u16,
    filed: &'a Filed,
    form: &'static Form,
    request: RequestId,
    /// The day on which it is filed.
    on: Date,
    works: Vec<Work>,
    inputs: Inputs,
    there: &'a dyn Registered,
    /// Element keys that were made so far.
    keys: u32,
}

/// A record that an event is about, and what becomes of it.
struct Work {
    level: u16,
    role: &'static Role,
    id: RecordId,
    is_new: bool,
    element: String,
    record: Record,
    inputs: Inputs,
    changes: BTreeMap<FieldKey, Vec<u8>>,
    seen: Vec<Dot>,
    /// What the event looked at: the officer must have seen it.
    looked: RefCell<BTreeSet<FieldKey>>,
}

/// What was given, by the inputs' names.
type Inputs = BTreeMap<&'static str, Content>;

/// Parts of structured values, by field.
type Parts = BTreeMap<FieldId, Vec<(&'static str, Content)>>;

/// Why filing stops: it is refused, or the state cannot be read.
enum Stop {
    Refused(NotFiled),
    Store(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Stop::Store(error)
    }
}

/// The role of a record that is looked at beside those of an event.
static BESIDE: Role =
    Role { name: "", label: "", kind: RecordKind::Person, is_new: false, count: (0, 0), is_main: false, inputs: &[] };

impl Work {
    /// A record that no officer named.
    fn beside(level: u16, id: RecordId, record: Record) -> Self {
        Work {
            level,
            role: &BESIDE,
            id,
            is_new: false,
            element: String::new(),
            record,
            inputs: BTreeMap::new(),
            changes: BTreeMap::new(),
            seen: Vec::new(),
            looked: RefCell::default(),
        }
    }

    /// The value of a field as it will be: none if there is none, or if several are there.
    fn value(&self, field: FieldId, element: &str) -> Option<Value> {
        let key = (field, element.as_bytes().to_vec());
        match self.changes.get(&key) {
            Some(bytes) => self.read(field, bytes),
            None => self.before(field, element),
        }
    }

    /// The same as it was before the event.
    fn before(&self, field: FieldId, element: &str) -> Option<Value> {
        match self.all_before(field, element) {
            values if are_disputed(values) => None,
            values => self.read(field, &values.first()?.value),
        }
    }

    /// Whether a field had any value before the event, in dispute or not.
    fn had_any(&self, field: FieldId, element: &str) -> bool {
        self.all_before(field, element).iter().any(|tagged| !tagged.value.is_empty())
    }

    fn all_before(&self, field: FieldId, element: &str) -> &[Tagged] {
        let key = (field, element.as_bytes().to_vec());
        let values = self.record.values(&key);
        self.looked.borrow_mut().insert(key);
        values
    }

    /// As a version reads it that knows the group's level and no more.
    fn read(&self, field: FieldId, bytes: &[u8]) -> Option<Value> {
        Value::decode_at(self.level, field, bytes).ok().filter(|value| !value.is_cleared())
    }

    fn part(&self, field: FieldId, element: &str, part: &str) -> Option<Content> {
        self.value(field, element)?.part(part).cloned()
    }

    fn code(&self, field: FieldId) -> Option<&'static str> {
        self.value(field, "")?.code()
    }

    /// The element keys under which a field has a value, in dispute or not.
    fn elements(&self, field: FieldId) -> Vec<String> {
        let keys = self.record.fields().map(|(key, _)| key).chain(self.changes.keys());
        let of_field = keys.filter(|(named, _)| *named == field);
        let names: BTreeSet<String> = of_field.filter_map(|(_, key)| String::from_utf8(key.clone()).ok()).collect();
        let has = |name: &String| self.had_any(field, name) || self.value(field, name).is_some();
        names.into_iter().filter(has).collect()
    }

    fn is_disputed(&self, field: FieldId, element: &str) -> bool {
        are_disputed(self.all_before(field, element))
    }

    fn set(&mut self, field: FieldId, element: &str, content: Content) {
        let bytes = content.encode();
        self.changes.insert((field, element.as_bytes().to_vec()), bytes);
    }

    fn clear(&mut self, field: FieldId, element: &str) {
        if self.value(field, element).is_some() {
            self.set(field, element, Content::Cleared);
        }
    }

    /// Whether a fact of the birth is changed by it.
    fn corrects_birth(&self) -> bool {
        let facts = [
            field::NAME,
            field::BIRTH_DATE,
            field::SEX,
            field::BIRTH_PLACE,
            field::BIRTH_REGISTRATION_PLACE,
            field::ORIGIN,
            field::ETHNICITY,
        ];
        !self.changes.is_empty() && self.changes.keys().all(|(field, _)| facts.contains(field))
    }

    /// Sets some parts of a structured value, and leaves the others as they are.
    fn amend(&mut self, field: FieldId, element: &str, parts: &[(&str, Content)]) {
        let present = self.value(field, element);
        let mut all = match present.map(|value| value.content().clone()) {
            Some(Content::Parts(parts)) => parts.into_iter().collect(),
            _ => BTreeMap::new(),
        };
        all.extend(parts.iter().filter_map(|(name, content)| Some((part_place(field, name)?, content.clone()))));
        self.set(field, element, Content::Parts(all.into_iter().collect()));
    }
}

/// The place of a part in its field's values.
fn part_place(field: FieldId, name: &str) -> Option<u8> {
    let Type::Struct(of) = field.get()?.ty else { return None };
    u8::try_from(of.parts.iter().position(|part| part.name == name)?).ok()
}

impl Case<'_> {
    /// The subjects of a role, by their places.
    fn all(&self, role: &str) -> Vec<usize> {
        (0..self.works.len()).filter(|at| self.works[*at].role.name == role).collect()
    }

    fn one(&self, role: &str) -> Option<usize> {
        self.all(role).first().copied()
    }

    /// What was given for an input of the event.
    fn input(&self, name: &str) -> Option<Content> {
        self.inputs.get(name).cloned()
    }

    /// The same of a date.
    fn input_date(&self, name: &str) -> Option<PartialDate> {
        self.inputs.get(name)?.date()
    }

    /// The civil date of the event.
    fn date(&self) -> Option<PartialDate> {
        let of_event = ["date", "since", "from"].into_iter().find_map(|name| self.input_date(name));
        // Whoever is born is, from that day on; and what was wrong of a birth was so from then.
        of_event.or_else(|| self.works.iter().find_map(|work| work.inputs.get("birth-date")?.date())).or_else(|| {
            self.works.iter().filter(|work| self.form.corrects && work.corrects_birth()).find_map(Work::born)
        })
    }

    /// An element key that no other edit takes, wherever it is made: two offices that are apart file two papers, not one that is
    /// in dispute.
    fn fresh_key(&mut self) -> String {
        self.keys += 1;
        let RecordId(bytes) = RecordId::derive(self.request, u32::MAX - self.keys);
        bytes[..5].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Puts the inputs where the form says.
    fn fill(&mut self) {
        for at in 0..self.works.len() {
            let role = self.works[at].role;
            let given = |asked: &'static [Input], inputs: &Inputs| -> Vec<(&Input, Content)> {
                asked.iter().filter_map(|input| Some((input, inputs.get(input.name)?.clone()))).collect()
            };
            let own = given(role.inputs, &self.works[at].inputs);
            let shared = if role.is_main { given(self.form.inputs, &self.inputs) } else { Vec::new() };
            let work = &mut self.works[at];
            let fits = |input: &Input| input.field.get().is_some_and(|field| field.kind == role.kind);
            // Parts of one value change together: on the way from one to the other it may be none that makes sense.
            let (mut whole, mut amended) = (Parts::new(), Parts::new());
            for (input, content) in shared.into_iter().chain(own).filter(|(input, _)| fits(input)) {
                match (input.goes, input.part) {
                    (Goes::Field, None) => work.set(input.field, "", content),
                    (Goes::Element(element), _) => work.set(input.field, element, content),
                    (Goes::Field, Some(part)) => whole.entry(input.field).or_default().push((part, content)),
                    (Goes::Amends, Some(part)) => amended.entry(input.field).or_default().push((part, content)),
                    (Goes::Amends, None) | (Goes::Event, _) => {}
                }
            }
            for (field, parts) in whole {
                let parts: BTreeMap<u8, Content> =
                    parts.into_iter().filter_map(|(name, content)| Some((part_place(field, name)?, content))).collect();
                work.set(field, "", Content::Parts(parts.into_iter().collect()));
            }
            for (field, parts) in amended {
                work.amend(field, "", &parts);
            }
        }
        for (work, subject) in self.works.iter_mut().zip(&self.filed.subjects) {
            work.changes.extend(subject.corrections.iter().cloned());
        }
    }

    /// What the event would replace that is in dispute.
    fn check_disputes(&self) -> Result<(), NotFiled> {
        for (at, work) in self.works.iter().enumerate() {
            if let Some((field, _)) = work.changes.keys().find(|key| are_disputed(work.record.values(key))) {
                return Err(NotFiled::Disputed(Place::Subject(at), *field));
            }
        }
        Ok(())
    }

    /// What the officer did not see of what the event looked at or replaces. Of a record that he did not read nothing is told,
    /// and of elements only those that he named or saw: a key may be a number.
    fn check_seen(&self) -> Result<(), NotFiled> {
        for (at, work) in self.works.iter().enumerate() {
            let mut moved: Vec<Moved> = Vec::new();
            let looked = work.looked.borrow();
            for key in work.changes.keys().collect::<BTreeSet<_>>().union(&looked.iter().collect()) {
                let key: &FieldKey = key;
                let values = work.record.values(key);
                let is_unseen = values.iter().any(|tagged| work.seen.binary_search(&tagged.dot).is_err());
                if is_unseen && !is_armed("file-replaces-the-unseen") {
                    if work.seen.is_empty() {
                        let text = "name the values of this record that were seen: read it first";
                        return Err(NotFiled::Form(Place::Subject(at), text.to_owned()));
                    }
                    let is_told = key.1.is_empty()
                        || self.filed.subjects[at].corrections.iter().any(|(named, _)| named == key)
                        || values.iter().any(|tagged| work.seen.binary_search(&tagged.dot).is_ok());
                    let mut dots = if is_told { work.record.dots(key) } else { Vec::new() };
                    dots.truncate(MOVED_DOTS_MAX);
                    let key = (key.0, if is_told { key.1.clone() } else { Vec::new() });
                    moved.retain(|other| other.key != key);
                    moved.push(Moved { key, dots });
                }
            }
            if !moved.is_empty() {
                let more = u32::try_from(moved.len().saturating_sub(MOVED_MAX)).unwrap_or(u32::MAX);
                moved.truncate(MOVED_MAX);
                return Err(NotFiled::Stale(Stale { record: work.id, fields: moved, more }));
            }
        }
        Ok(())
    }

    /// The parts, without those records of which nothing changes.
    fn parts(self, date: Option<PartialDate>) -> Vec<PartDraft> {
        let valid_from = date.map(PartialDate::to_bytes).unwrap_or_default();
        let grounds = (!self.filed.grounds.is_empty()).then(|| Change {
            field: GROUNDS,
            element: Vec::new(),
            value: self.filed.grounds.clone().into_bytes(),
            overwrites: Vec::new(),
        });
        let mut parts = Vec::new();
        for work in self.works {
            let Work { id, is_new, record, changes, role, .. } = work;
            let says_so = |key: &FieldKey, value: &Vec<u8>| match record.values(key) {
                [one] => one.value == *value,
                [] => value.is_empty(),
                _ => false,
            };
            let changes: Vec<Change> = changes
                .into_iter()
                .filter(|(key, value)| !says_so(key, value))
                .map(|(key, value)| {
                    let overwrites = record.dots(&key);
                    let (field, element) = key;
                    Change { field, element, value, overwrites }
                })
                .collect();
            if !changes.is_empty() {
                let changes = grounds.clone().into_iter().chain(changes).collect();
                parts.push(PartDraft {
                    record: id,
                    record_kind: role.kind,
                    create: is_new,
                    valid_from: valid_from.clone(),
                    changes,
                });
            }
        }
        parts
    }
}

/// The parts of the edit that an event is, filed on a day under the name `request`; or why it is none. The form was [`check`]ed at this
/// level.
///
/// # Errors
/// The store's.
pub fn file(
    level: u16,
    filed: &Filed,
    (request, on): (RequestId, Date),
    there: &dyn Registered,
) -> Result<Result<Vec<PartDraft>, NotFiled>, StoreError> {
    match filed_parts(level, filed, (request, on), there) {
        Ok(parts) => Ok(Ok(parts)),
        Err(Stop::Refused(not_filed)) => Ok(Err(not_filed)),
        Err(Stop::Store(error)) => Err(error),
    }
}

fn filed_parts(
    level: u16,
    filed: &Filed,
    (request, on): (RequestId, Date),
    there: &dyn Registered,
) -> Result<Vec<PartDraft>, Stop> {
    let refuse = |not_filed| Err(Stop::Refused(not_filed));
    if let Some((place, text)) = check(level, filed).into_iter().next() {
        return refuse(NotFiled::Form(place, text));
    }
    let Some(form) = filed.event.form() else {
        return refuse(NotFiled::Form(Place::Event, "no form".to_owned()));
    };
    let mut works = Vec::with_capacity(filed.subjects.len());
    // The ids of new records derive from their places among the parts, and they are the first of these.
    let mut new = 0;
    for (at, subject) in filed.subjects.iter().enumerate() {
        let role = &form.roles[usize::from(subject.role)];
        let (id, record) = match subject.record {
            None => {
                new += 1;
                (RecordId::derive(request, new - 1), Record::new(role.kind))
            }
            Some(id) => match there.record(id)? {
                Some(record) if record.kind == role.kind => (id, record),
                Some(_) => {
                    let text = format!("record {id} is no {}: it cannot be the {}", role.kind, role.name);
                    return refuse(NotFiled::Unknown(Place::Subject(at), text));
                }
                None => {
                    let text = format!("no record {id} in this shard for the {}", role.name);
                    return refuse(NotFiled::Unknown(Place::Subject(at), text));
                }
            },
        };
        let (inputs, changes) = (inputs_of(level, role.inputs, &subject.inputs), BTreeMap::new());
        let (element, seen, is_new) = (subject.element.clone(), subject.seen.clone(), subject.record.is_none());
        let looked = RefCell::default();
        works.push(Work { level, role, id, is_new, element, record, inputs, changes, seen, looked });
    }
    let inputs = inputs_of(level, form.inputs, &filed.inputs);
    let mut case = Case { level, filed, form, request, on, works, inputs, there, keys: 0 };
    case.fill();
    let done = effects::of(&mut case);
    let date = case.date();
    // First: a refusal tells what is there, and only to whom it was shown.
    case.check_seen().map_err(Stop::Refused)?;
    done?;
    case.check_disputes().map_err(Stop::Refused)?;
    // Those that the event makes come first, so that each has the place its id derives from.
    case.works.sort_by_key(|work| !work.is_new);
    let parts = case.parts(date);
    if parts.is_empty() {
        let text = "the records say all of this already: nothing is to be filed".to_owned();
        return refuse(NotFiled::Form(Place::Event, text));
    }
    Ok(parts)
}
