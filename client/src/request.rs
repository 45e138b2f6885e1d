//! Requests: why they are made, how they are named, and what an edit consists of.

use std::sync::atomic::{AtomicU64, Ordering};

use dinhba_core::claims::{Case, ClaimsError, Purpose};
use dinhba_core::ids::{RecordId, RequestId, SessionId, ShardId};
use dinhba_core::number::PersonNumber;
use dinhba_core::schema::{self, FieldId, RecordKind};
use dinhba_core::text::{tidy, to_nfc};
use dinhba_proto::v1;

use crate::ambient::Ambient;
use crate::error::Error;

/// Why a request is made; every request carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// For what.
    pub purpose: Purpose,
    /// For which case file.
    pub case: Case,
}

impl Context {
    /// Reads both from text, as people type it: the case is brought to normal form NFC, without needless spaces.
    ///
    /// # Errors
    /// What is missing or wrong, and what to give instead.
    pub fn parse(purpose: &str, case: &str) -> Result<Self, ClaimsError> {
        Ok(Context { purpose: purpose.parse()?, case: tidy(case).parse()? })
    }

    pub(crate) fn wire(&self) -> Option<v1::Context> {
        Some(v1::Context { purpose: self.purpose.name().to_owned(), case: self.case.to_string() })
    }
}

/// Whom to find: by a number, or by a name or a part of it together with what is known of the birth date.
#[derive(Clone, Default)]
pub struct Find {
    /// A personal number, or an old identity number of nine digits; then nothing else.
    pub number: String,
    /// The name, or some of its words with the call name among them.
    pub name: String,
    /// The day, month or year of birth, or the first and the last of some years (`1988..1992`).
    pub born: String,
    /// Only whose home is there: a unit's code, code and day, or id; empty for all of the site.
    pub unit: String,
    /// Only whose mother has such a name; empty for anybody's.
    pub mother: String,
    /// Goes on where a page ended: its `next`; empty for the first page.
    pub after: Vec<u8>,
}

impl Find {
    /// By a number.
    #[must_use]
    pub fn by_number(number: &str) -> Self {
        Find { number: number.to_owned(), ..Find::default() }
    }

    /// By a name and what is known of the birth date.
    #[must_use]
    pub fn by_name(name: &str, born: &str) -> Self {
        Find { name: name.to_owned(), born: born.to_owned(), ..Find::default() }
    }

    pub(crate) fn wire(&self, context: &Context) -> v1::FindRequest {
        v1::FindRequest {
            context: context.wire(),
            number: self.number.clone(),
            name: to_nfc(&self.name),
            birth_date: self.born.clone(),
            unit: self.unit.clone(),
            mother: to_nfc(&self.mother),
            after: self.after.clone(),
        }
    }
}

/// Names whom it looks for in no log.
impl std::fmt::Debug for Find {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.number.is_empty() { "Find(by name)" } else { "Find(by number)" })
    }
}

/// A run of named requests: sixteen bytes that nobody else has, and a counter from 1.
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    last: AtomicU64,
}

impl Session {
    /// A session under a new random name.
    pub fn mint(ambient: &dyn Ambient) -> Self {
        let mut id = [0; 16];
        ambient.fill(&mut id);
        Session::resume(SessionId(id), 0)
    }

    /// A session that has used its counter up to `last`; 0 for a new one.
    #[must_use]
    pub fn resume(id: SessionId, last: u64) -> Self {
        Session { id, last: AtomicU64::new(last) }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The name of its next request.
    pub fn next(&self) -> RequestId {
        RequestId { session: self.id, counter: self.last.fetch_add(1, Ordering::Relaxed) + 1 }
    }
}

/// Reads `q-<32 hex digits>/<counter>`, as requests are printed.
#[must_use]
pub fn parse_request(text: &str) -> Option<RequestId> {
    let (session, counter) = text.split_once('/')?;
    let request = RequestId { session: session.parse().ok()?, counter: counter.parse().ok()? };
    (request.counter > 0).then_some(request)
}

/// An edit that was accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    /// The request.
    pub request: RequestId,
    /// Proof of the acceptance.
    pub receipt: v1::Receipt,
    /// Whether it had been accepted before.
    pub replayed: bool,
    /// Whether it holds only until a second person says something of it.
    pub pending: bool,
    /// The records of its parts, in order.
    pub records: Vec<RecordId>,
    /// The personal number that the event gave: of a birth without one it is pending, and given later.
    pub number: Option<PersonNumber>,
}

impl Accepted {
    pub(crate) fn from_wire(request: RequestId, reply: v1::EditReply) -> Result<Self, Error> {
        let records = reply.records.iter().map(|id| id.parse()).collect::<Result<_, _>>();
        Ok(Accepted {
            request,
            receipt: reply.receipt.ok_or(Error::Protocol("an acceptance without a receipt"))?,
            replayed: reply.replayed,
            pending: reply.pending,
            records: records.map_err(|_| Error::Protocol("no record id"))?,
            number: match reply.personal_number.as_str() {
                "" => None,
                number => Some(number.parse().map_err(|_| Error::Protocol("no personal number"))?),
            },
        })
    }
}

/// Puts an edit together: parts that create records or change records as they were read.
///
/// The id of a record that part `n` creates is [`RecordId::derive`]`(request, n)`, known before anything is sent; within the
/// edit itself `@n` stands for it.
#[derive(Debug, Clone)]
pub struct EditBuilder {
    request: v1::EditRequest,
    /// For each part, the record as it was read.
    seen: Vec<Option<v1::Record>>,
}

impl EditBuilder {
    /// An edit without parts.
    #[must_use]
    pub fn new(context: &Context) -> Self {
        EditBuilder {
            request: v1::EditRequest { context: context.wire(), ..v1::EditRequest::default() },
            seen: Vec::new(),
        }
    }

    /// The shard of its records. Without it, the one whose home is the caller's unit, or that of the first record read.
    pub fn shard(&mut self, shard: ShardId) -> &mut Self {
        self.request.shard = shard.to_string();
        self
    }

    /// Adds a part that creates a record; returns the part's place.
    pub fn create(&mut self, kind: RecordKind) -> usize {
        self.request.parts.push(v1::Part { kind: kind.name().to_owned(), ..v1::Part::default() });
        self.seen.push(None);
        self.seen.len() - 1
    }

    /// Adds a part that changes `record` as it was read; returns the part's place. What [`set`](Self::set) replaces are
    /// exactly the values that were read: if others have come since, the edit is refused as stale.
    pub fn change(&mut self, record: &v1::Record) -> usize {
        if self.request.shard.is_empty() {
            self.request.shard.clone_from(&record.shard);
        }
        let part = v1::Part { record: record.id.clone(), kind: record.kind.clone(), ..v1::Part::default() };
        self.request.parts.push(part);
        self.seen.push(Some(record.clone()));
        self.seen.len() - 1
    }

    /// Gives a field of part `part` a value in its text form; an empty one clears it. Setting it twice keeps the later. A
    /// relation may be named in Vietnamese (`mẹ`).
    ///
    /// # Panics
    /// If there is no such part.
    pub fn set(&mut self, part: usize, field: &str, element: &str, value: &str) -> &mut Self {
        let element = element_key(&self.request.parts[part].kind, field, element);
        let element = element.as_str();
        let seen = self.seen[part].as_ref().and_then(|record| field_of(record, field, element));
        let overwrites = dots_of(seen);
        let changes = &mut self.request.parts[part].changes;
        changes.retain(|change| (change.field.as_str(), change.element.as_str()) != (field, element));
        changes.push(v1::FieldChange {
            field: field.to_owned(),
            element: element.to_owned(),
            value: to_nfc(value),
            overwrites,
        });
        self
    }

    /// Takes back what [`set`](Self::set) put into a part.
    pub(crate) fn leave_out(&mut self, part: usize, field: &str, element: &str) {
        let changes = &mut self.request.parts[part].changes;
        changes.retain(|change| (change.field.as_str(), change.element.as_str()) != (field, element));
    }

    /// From when part `part` holds in law, as a (partial) date. Without it: from the day it is received.
    ///
    /// # Panics
    /// If there is no such part.
    pub fn valid_from(&mut self, part: usize, date: &str) -> &mut Self {
        date.clone_into(&mut self.request.parts[part].valid_from);
        self
    }

    /// Why.
    pub fn grounds(&mut self, grounds: &str) -> &mut Self {
        self.request.grounds = tidy(grounds);
        self
    }

    /// Makes it the decision of a conflict; needs grounds.
    pub fn decision(&mut self) -> &mut Self {
        self.request.decision = true;
        self
    }

    /// The number of its parts.
    #[must_use]
    pub fn parts(&self) -> usize {
        self.seen.len()
    }

    /// The message to send, and to send again, under the name `request`.
    #[must_use]
    pub fn build(&self, request: RequestId, authored_ms: i64) -> v1::EditRequest {
        v1::EditRequest { request: Some(wire_request(request)), authored_ms, ..self.request.clone() }
    }
}

/// The key that a typed element means: a relation may be named in Vietnamese.
pub(crate) fn element_key(kind: &str, field: &str, typed: &str) -> String {
    let known = RecordKind::named(kind).and_then(|kind| FieldId::named(kind, field));
    known.map_or_else(|| typed.to_owned(), |known| schema::element(known, typed))
}

/// The field of a record as it was read.
#[must_use]
pub fn field_of<'a>(record: &'a v1::Record, field: &str, element: &str) -> Option<&'a v1::Field> {
    record.fields.iter().find(|found| found.field == field && found.element == element)
}

/// The names of all values of these fields, rising, each once.
pub(crate) fn dots_of<'f>(fields: impl IntoIterator<Item = &'f v1::Field>) -> Vec<v1::Dot> {
    let values = fields.into_iter().flat_map(|field| &field.values);
    let mut dots: Vec<v1::Dot> = values.filter_map(|value| value.dot.clone()).collect();
    dots.sort_by(|a, b| (&a.author, a.number).cmp(&(&b.author, b.number)));
    dots.dedup();
    dots
}

pub(crate) fn wire_request(request: RequestId) -> v1::RequestId {
    v1::RequestId { session: request.session.0.to_vec(), counter: request.counter }
}

pub(crate) fn request_of(wire: Option<&v1::RequestId>) -> Option<RequestId> {
    let wire = wire?;
    Some(RequestId { session: SessionId(wire.session.as_slice().try_into().ok()?), counter: wire.counter })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ambient::Machine;

    fn context() -> Context {
        Context::parse("registration", "HS-1").unwrap()
    }

    #[test]
    fn a_session_counts_from_one_and_two_sessions_differ() {
        let session = Session::mint(&Machine::default());
        assert_eq!([session.next().counter, session.next().counter], [1, 2]);
        assert_ne!(session.id(), Session::mint(&Machine::default()).id());
        assert_eq!(Session::resume(session.id(), 2).next(), RequestId { session: session.id(), counter: 3 });
    }

    #[test]
    fn a_request_is_read_as_it_is_printed() {
        let request = RequestId { session: SessionId([0xab; 16]), counter: 12 };
        assert_eq!(parse_request(&request.to_string()), Some(request));
        for bad in ["", "q-ab/1", "12", &format!("{}/0", request.session), &format!("{}/x", request.session)] {
            assert_eq!(parse_request(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_edit_replaces_what_was_read_and_nothing_else() {
        let dot = |author: u8, number| v1::Dot { author: vec![author; 16], number };
        let value = |dot| v1::FieldValue { value: "x".into(), dot: Some(dot), ..v1::FieldValue::default() };
        let field = |element: &str, values| v1::Field {
            field: "relative".into(),
            element: element.into(),
            values,
            ..v1::Field::default()
        };
        let record = v1::Record {
            id: RecordId([1; 16]).to_string(),
            kind: "person".into(),
            shard: ShardId(4).to_string(),
            fields: vec![
                field("father", vec![value(dot(2, 1)), value(dot(1, 9)), value(dot(1, 3))]),
                field("mother", vec![value(dot(7, 7))]),
            ],
            ..v1::Record::default()
        };
        let mut edit = EditBuilder::new(&context());
        let part = edit.change(&record);
        edit.set(part, "relative", "father", "name=A").set(part, "email", "", "a@example.com");
        let built = edit.build(RequestId { session: SessionId([5; 16]), counter: 3 }, 77);
        assert_eq!((built.shard.as_str(), built.authored_ms), (record.shard.as_str(), 77));
        assert_eq!(built.request.unwrap().counter, 3);
        assert_eq!(built.parts[0].changes[0].overwrites, [dot(1, 3), dot(1, 9), dot(2, 1)]);
        assert_eq!(built.parts[0].changes[1].overwrites, []);
    }

    #[test]
    fn values_go_out_in_normal_form_and_the_later_one_counts() {
        let mut edit = EditBuilder::new(&context());
        let child = edit.create(RecordKind::Person);
        edit.set(child, "note", "", "one").set(child, "note", "", "Ho\u{61}\u{300}").valid_from(child, "2025-01-02");
        let built = edit.build(RequestId::default(), 0);
        assert_eq!(built.parts[0].changes.len(), 1);
        assert_eq!(built.parts[0].changes[0].value, "Hoà");
        assert_eq!((built.parts[0].record.as_str(), built.parts[0].valid_from.as_str()), ("", "2025-01-02"));
    }
}
