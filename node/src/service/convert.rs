//! Between wire messages and domain types.

use dinhba_core::command::{Receipt, Stale};
use dinhba_core::date::{InstantMs, PartialDate};
use dinhba_core::edit::{Change, Dot, Edit, GROUNDS};
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{AuthorId, RecordId, RequestId, SessionId};
use dinhba_core::lens;
use dinhba_core::record::{FieldKey, Record, Tagged, are_disputed};
use dinhba_core::registry::{Poison, ShardState, StoredEdit};
use dinhba_core::schema::{self, Content, FieldId, RecordKind, display, parse};
use dinhba_core::text::is_nfc;
use dinhba_proto::v1;
use prost::Message;
use tonic::{Code, Status};

use super::site::unit_words;
use crate::node::Shared;
use crate::runtime;

pub(super) fn dot_to_wire(dot: &Dot) -> v1::Dot {
    v1::Dot { author: dot.actor.0.to_vec(), number: dot.counter }
}

pub(super) fn dot_from_wire(dot: v1::Dot) -> Result<Dot, Status> {
    let author: Result<[u8; 16], _> = dot.author.try_into();
    match author {
        Ok(author) if dot.number > 0 => Ok(Dot { actor: AuthorId(author), counter: dot.number }),
        _ => Err(Status::invalid_argument("overwrites: a dot has 16 bytes of author and a number from 1, as read")),
    }
}

pub(super) fn request_from_wire(request: Option<v1::RequestId>) -> Result<RequestId, Status> {
    let request = request.unwrap_or_default();
    let session: Result<[u8; 16], _> = request.session.try_into();
    match session {
        Ok(session) if request.counter > 0 => Ok(RequestId { session: SessionId(session), counter: request.counter }),
        _ => Err(Status::invalid_argument(
            "request: give 16 random bytes of session, and a counter from 1 that no other request of it has",
        )),
    }
}

pub(super) fn request_to_wire(request: RequestId) -> v1::RequestId {
    v1::RequestId { session: request.session.0.to_vec(), counter: request.counter }
}

pub(super) fn kind_from_wire(kind: &str) -> Result<RecordKind, Status> {
    RecordKind::named(kind).ok_or_else(|| Status::invalid_argument("kind: write person or household"))
}

/// A civil date in its text form, as canonical bytes; empty for none.
pub(super) fn date_from_wire(what: &str, text: &str) -> Result<Vec<u8>, Status> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let date: PartialDate = text.parse().map_err(|error| Status::invalid_argument(format!("{what}: {error}")))?;
    Ok(date.to_bytes())
}

/// A change as an application writes it. `records` are the records that the edit creates, for `@0`, `@1`, ….
pub(super) fn change_from_wire(
    shared: &Shared,
    kind: RecordKind,
    change: v1::FieldChange,
    records: &[RecordId],
) -> Result<Change, Status> {
    let field = FieldId::named(kind, &change.field).ok_or_else(|| {
        let name: String = change.field.chars().take(40).collect();
        Status::invalid_argument(format!(
            "{name:?} is not a field of a {kind}: `dinhba fields` lists those of the schema"
        ))
    })?;
    if !is_nfc(&change.value) || !is_nfc(&change.element) {
        return Err(Status::invalid_argument(format!("{field}: send text in Unicode normal form NFC")));
    }
    let text = link_records(&change.value, records)
        .map_err(|reference| Status::invalid_argument(format!("{field}: {reference} names no part of this edit")))?;
    let value = parse(field, &text, &*shared.directory).map_err(|error| Status::invalid_argument(error.to_string()))?;
    value
        .check_past(InstantMs(runtime::utc_ms()).date_in_vietnam())
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    if !knows_units(shared, value.content()) {
        return Err(Status::invalid_argument(format!(
            "{field}: there is no such administrative unit; write code@date"
        )));
    }
    let overwrites: Result<Vec<Dot>, Status> = change.overwrites.into_iter().map(dot_from_wire).collect();
    let mut overwrites = overwrites?;
    overwrites.sort();
    let element = schema::element(field, &change.element).into_bytes();
    Ok(Change { field, element, value: value.encode(), overwrites })
}

/// Puts the ids of new records in the place of `@0`, `@1`, …, as a whole value or as a `record=` part.
fn link_records(value: &str, records: &[RecordId]) -> Result<String, String> {
    let resolve = |reference: &str| -> Result<String, String> {
        let index = reference.parse::<usize>().ok();
        let record = index.and_then(|index| records.get(index));
        record.map(ToString::to_string).ok_or_else(|| format!("@{}", reference.chars().take(8).collect::<String>()))
    };
    if let Some(reference) = value.strip_prefix('@') {
        return resolve(reference);
    }
    if !value.contains("record=@") {
        return Ok(value.to_owned());
    }
    let parts: Result<Vec<String>, String> = value
        .split(';')
        .map(|part| match part.trim_start().strip_prefix("record=@") {
            Some(reference) => Ok(format!(" record={}", resolve(reference.trim())?)),
            None => Ok(part.to_owned()),
        })
        .collect();
    Ok(parts?.join(";").trim().to_owned())
}

/// Whether every unit in a value exists.
fn knows_units(shared: &Shared, content: &Content) -> bool {
    match content {
        Content::Unit(unit) => shared.directory.get(*unit).is_some(),
        Content::Parts(parts) => parts.iter().all(|(_, part)| knows_units(shared, part)),
        _ => true,
    }
}

pub(super) fn receipt_to_wire(receipt: &Receipt) -> v1::Receipt {
    v1::Receipt {
        shard: receipt.shard.to_string(),
        first: Some(dot_to_wire(&receipt.first)),
        count: receipt.count,
        hash: receipt.hash.0.to_vec(),
    }
}

fn element_text(element: &[u8]) -> String {
    String::from_utf8_lossy(element).into_owned()
}

fn value_to_wire(shared: &Shared, field: FieldId, tagged: &Tagged) -> v1::FieldValue {
    v1::FieldValue {
        value: display(field, &tagged.value, &*shared.directory),
        dot: Some(dot_to_wire(&tagged.dot)),
        received_ms: tagged.received_ms,
    }
}

/// A record as an application reads it. Of a `latest` field only the value that counts is shown first.
pub(super) fn record_to_wire(shared: &Shared, shard: &ShardState, id: RecordId, record: &Record) -> v1::Record {
    let unit = shard.info.path.last().copied().unwrap_or_default();
    let (unit_code, unit_name) = unit_words(shared, unit);
    let fields = record.fields().map(|(key, values)| field_to_wire(shared, key, values));
    v1::Record {
        id: id.to_string(),
        kind: record.kind.to_string(),
        shard: shard.info.shard.to_string(),
        unit: unit.to_string(),
        unit_code,
        unit_name,
        fields: fields.collect(),
        broken_rules: lens::broken_rules(record, |_| true).into_iter().map(lens::rule_text).collect(),
    }
}

fn field_to_wire(shared: &Shared, key: &FieldKey, values: &[Tagged]) -> v1::Field {
    let mut shown: Vec<&Tagged> = values.iter().collect();
    shown.sort_by_key(|tagged| std::cmp::Reverse((tagged.received_ms, tagged.dot.clone())));
    v1::Field {
        field: key.0.to_string(),
        element: element_text(&key.1),
        values: shown.into_iter().map(|tagged| value_to_wire(shared, key.0, tagged)).collect(),
        disputed: lens::is_adjudicated(key.0) && are_disputed(values),
        label: key.0.get().map_or("", |field| field.label).to_owned(),
    }
}

/// The values of one field, latest first.
pub(super) fn values_to_wire(shared: &Shared, record: &Record, key: &FieldKey) -> Vec<v1::FieldValue> {
    field_to_wire(shared, key, record.values(key)).values
}

/// A stale edit: the status that carries the record as it is now.
pub(super) fn stale_to_status(shared: &Shared, shard: &ShardState, stale: &Stale) -> Status {
    let wire = stale_to_wire(shared, shard, stale);
    let text = format!(
        "stale: {} of {} moved on since you read them; read the record again and decide anew",
        wire.fields.join(", "),
        stale.record
    );
    Status::with_details(Code::Aborted, text, wire.encode_to_vec().into())
}

fn stale_to_wire(shared: &Shared, shard: &ShardState, stale: &Stale) -> v1::Stale {
    let name = |(field, element): &FieldKey| match element.is_empty() {
        true => field.to_string(),
        false => format!("{field}[{}]", element_text(element)),
    };
    v1::Stale {
        fields: stale.fields.iter().map(name).collect(),
        current: Some(record_to_wire(shared, shard, stale.record, &stale.current)),
    }
}

/// A refusal inside a stream of edits.
pub(super) fn status_to_refused(status: &Status) -> v1::Refused {
    v1::Refused {
        code: status.code() as i32,
        message: status.message().to_owned(),
        stale: (status.code() == Code::Aborted).then(|| v1::Stale::decode(status.details()).ok()).flatten(),
    }
}

/// An edit as history and the change feed show it, under its present name: on a branch of a forked chain that is not the one
/// in its header.
pub(super) fn entry_to_wire(
    shared: &Shared,
    name: &Dot,
    stored: &StoredEdit,
    edit: &Edit,
    poison: Option<Poison>,
    held_by: Vec<String>,
) -> v1::Entry {
    let header = &edit.header;
    let origin = &header.origin;
    let place = shared.place();
    let site_unit = place.sites.get(&header.author.site).map(|entry| {
        let (code, name) = unit_words(shared, entry.unit);
        format!("{code} {name}")
    });
    let changes = edit.changes.iter().filter(|change| change.field != GROUNDS).map(|change| v1::FieldChange {
        field: change.field.to_string(),
        element: element_text(&change.element),
        value: display(change.field, &change.value, &*shared.directory),
        overwrites: change.overwrites.iter().map(dot_to_wire).collect(),
    });
    v1::Entry {
        dot: Some(dot_to_wire(name)),
        site: header.author.site.to_string(),
        site_unit: site_unit.unwrap_or_default(),
        kind: header.kind.name().to_owned(),
        record: header.record.to_string(),
        record_kind: header.record_kind.to_string(),
        subject: origin.claims.subject.to_string(),
        role: origin.claims.role.to_string(),
        purpose: origin.purpose.to_string(),
        case: origin.case.to_string(),
        grounds: edit.grounds().map(element_text).unwrap_or_default(),
        authored_ms: origin.authored_ms,
        received_ms: origin.received_ms,
        valid_from: PartialDate::from_bytes(&header.valid_from).map(|date| date.to_string()).unwrap_or_default(),
        changes: changes.collect(),
        hash: stored.hash.0.to_vec(),
        held_by,
        set_aside: poison.map_or("", Poison::name).to_owned(),
        numbered_as: (*name != edit.dot()).then(|| dot_to_wire(&edit.dot())),
        request: Some(request_to_wire(origin.request)),
        position: stored.position,
    }
}

/// The canonical bytes of the grounds, as a change.
pub(super) fn grounds_change(grounds: &str) -> Result<Option<Change>, Status> {
    if grounds.is_empty() {
        return Ok(None);
    }
    if !is_nfc(grounds) {
        return Err(Status::invalid_argument("grounds: send text in Unicode normal form NFC"));
    }
    Ok(Some(Change { field: GROUNDS, element: Vec::new(), value: grounds.as_bytes().to_vec(), overwrites: Vec::new() }))
}

/// An edit from its stored bytes.
pub(super) fn stored_edit(stored: &StoredEdit) -> Result<Edit, Status> {
    Edit::from_bytes(&stored.bytes).map_err(|error| Status::data_loss(format!("a stored edit cannot be read: {error}")))
}
