//! Between wire messages and domain types.

use dinhba_core::command::{Receipt, ShardInfo};
use dinhba_core::date::{InstantMs, PartialDate};
use dinhba_core::edit::{Change, Dot, Edit, GROUNDS};
use dinhba_core::ids::{AuthorId, Hash, RecordId, RequestId, SessionId, ShardId};
use dinhba_core::record::{FieldKey, Record, Tagged, are_disputed};
use dinhba_core::registry::{Poison, StoredEdit};
use dinhba_core::schema::{self, Content, FieldId, RecordKind, display, parse};
use dinhba_core::standing::{Standing, is_standing};
use dinhba_core::text::is_nfc;
use dinhba_core::units::Resolve;
use dinhba_core::validity;
use dinhba_proto::v1;
use tonic::Status;

use super::answer::{Problem, details_of, dot_to_wire};
use super::keep;
use crate::runtime;
use crate::shared::Shared;

/// What a field takes in an answer beside its label and its element's key: its name, tags and lengths.
const FIELD_BYTES: usize = 48;
/// What a value takes beside its text: its dot, when it was received, tags and lengths; and what a code is longer as a word.
const VALUE_BYTES: usize = 64;

pub(super) fn dots_from_wire(what: &str, dots: &[v1::Dot]) -> Result<Vec<Dot>, String> {
    let read = |dot: &v1::Dot| match <[u8; 16]>::try_from(dot.author.as_slice()) {
        Ok(author) if dot.number > 0 => Ok(Dot { actor: AuthorId(author), counter: dot.number }),
        _ => Err(format!("{what}: a dot has 16 bytes of author and a number from 1, as read")),
    };
    dots.iter().map(read).collect()
}

/// The shard that a request names, or `home`.
pub(super) fn shard_named(named: &str, home: ShardId, problems: &mut Vec<Problem>) -> ShardId {
    if named.is_empty() {
        return home;
    }
    let read = named.parse::<ShardId>().map_err(|error| format!("shard: {error}"));
    keep(problems, "shard", read).unwrap_or(home)
}

/// What is said of a unit that nobody knows.
pub(super) const NO_SUCH_UNIT: &str = "there is no such administrative unit; write code@date";

pub(super) fn request_from_wire(request: Option<v1::RequestId>) -> Result<RequestId, &'static str> {
    let request = request.unwrap_or_default();
    let session: Result<[u8; 16], _> = request.session.try_into();
    match session {
        Ok(session) if request.counter > 0 => Ok(RequestId { session: SessionId(session), counter: request.counter }),
        _ => Err("request: give 16 random bytes of session, and a counter from 1 that no other request of it has"),
    }
}

pub(super) fn request_to_wire(request: RequestId) -> v1::RequestId {
    v1::RequestId { session: request.session.0.to_vec(), counter: request.counter }
}

pub(super) fn kind_from_wire(kind: &str) -> Result<RecordKind, &'static str> {
    RecordKind::named(kind).ok_or("kind: write person, household or site")
}

/// A civil date in its text form, as canonical bytes; empty for none.
pub(super) fn date_from_wire(what: &str, text: &str) -> Result<Vec<u8>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let date: PartialDate = text.parse().map_err(|error| format!("{what}: {error}"))?;
    Ok(date.to_bytes())
}

/// A change as an application writes it, and what is wrong with it for this day only; or what is wrong with it. `records` are the records that the edit creates, for
/// `@0`, `@1`, ….
pub(super) fn change_from_wire(
    shared: &Shared,
    kind: RecordKind,
    change: &v1::FieldChange,
    records: &[RecordId],
) -> Result<(Change, Option<String>), String> {
    let field = FieldId::named(kind, &change.field).ok_or_else(|| {
        let name: String = change.field.chars().take(40).collect();
        format!("{name:?} is not a field of a {kind}: `dinhba fields` lists those of the schema")
    })?;
    if !is_nfc(&change.value) || !is_nfc(&change.element) {
        return Err(format!("{field}: send text in Unicode normal form NFC"));
    }
    let text = link_records(&change.value, records)
        .ok_or_else(|| format!("{field}: what stands after @ names no part of this edit"))?;
    let value = parse(field, &text, &**shared.units()).map_err(|error| error.to_string())?;
    let early = value.check_past(InstantMs(runtime::utc_ms()).date_in_vietnam()).err().map(|error| error.to_string());
    if !knows_units(shared, value.content()) {
        return Err(format!("{field}: {NO_SUCH_UNIT}"));
    }
    let mut overwrites = dots_from_wire("overwrites", &change.overwrites)?;
    overwrites.sort();
    let element = schema::element(field, &change.element).into_bytes();
    Ok((Change { field, element, value: value.encode(), overwrites }, early))
}

/// Where a change stands, for whoever sent it: by its field, and of repeating fields as the how manieth of the part. Not by
/// the element's key, which may be the number of a card. What is none of the changes is the grounds, which all parts share.
pub(super) fn change_path(part: usize, kind: RecordKind, changes: &[v1::FieldChange], at: usize) -> String {
    let Some(change) = changes.get(at) else { return "grounds".to_owned() };
    let Some(field) = FieldId::named(kind, &change.field) else { return format!("parts[{part}].changes[{at}]") };
    let repeats = !change.element.is_empty();
    let nth = changes[..=at].iter().filter(|other| other.field == change.field).count();
    let nth = if repeats { format!("#{nth}") } else { String::new() };
    format!("parts[{part}].changes[{field}{nth}]")
}

/// Puts the ids of new records in the place of `@0`, `@1`, …, as a whole value or as a `record=` part; none if one names no
/// record.
fn link_records(value: &str, records: &[RecordId]) -> Option<String> {
    let resolve = |reference: &str| -> Option<String> {
        let record = records.get(reference.parse::<usize>().ok()?);
        record.map(ToString::to_string)
    };
    if let Some(reference) = value.strip_prefix('@') {
        return resolve(reference);
    }
    if !value.contains("record=@") {
        return Some(value.to_owned());
    }
    let parts: Option<Vec<String>> = value
        .split(';')
        .map(|part| match part.trim_start().strip_prefix("record=@") {
            Some(reference) => Some(format!(" record={}", resolve(reference.trim())?)),
            None => Some(part.to_owned()),
        })
        .collect();
    Some(parts?.join(";").trim().to_owned())
}

/// Whether every unit in a value exists.
pub(super) fn knows_units(shared: &Shared, content: &Content) -> bool {
    match content {
        Content::Unit(unit) => shared.units().get(*unit).is_some(),
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

fn value_to_wire(units: &dyn Resolve, record: &Record, field: FieldId, tagged: &Tagged) -> v1::FieldValue {
    v1::FieldValue {
        value: display(field, &tagged.value, units),
        dot: Some(dot_to_wire(&tagged.dot)),
        received_ms: tagged.received_ms,
        pending: record.pending().contains_key(&tagged.dot),
    }
}

/// A record as an application reads it at a feature level. Of a `latest` field only the value that counts is shown first.
pub(super) fn record_to_wire(
    shared: &Shared,
    (shard, level): (&ShardInfo, u16),
    id: RecordId,
    record: &Record,
) -> v1::Record {
    let unit = shard.path.last().copied().unwrap_or_default();
    let (unit_code, unit_name) = shared.unit_words(unit);
    // How edits stand their history shows; here only what is to be decided of it.
    let is_shown = |(key, values): &(&FieldKey, &[Tagged])| !is_standing(key.0) || are_disputed(values);
    let fields = record.fields().filter(is_shown);
    let units = shared.units();
    let fields = fields.map(|(key, values)| field_to_wire(&**units, level, record, (key, values)));
    v1::Record {
        id: id.to_string(),
        kind: record.kind.to_string(),
        shard: shard.shard.to_string(),
        unit: unit.to_string(),
        unit_code,
        unit_name,
        fields: fields.collect(),
        broken_rules: validity::broken_rules(level, record, |_| true).into_iter().map(validity::rule_text).collect(),
    }
}

fn field_to_wire(units: &dyn Resolve, level: u16, record: &Record, (key, values): (&FieldKey, &[Tagged])) -> v1::Field {
    v1::Field {
        field: key.0.to_string(),
        element: element_text(&key.1),
        values: latest_first(values).into_iter().map(|tagged| value_to_wire(units, record, key.0, tagged)).collect(),
        disputed: validity::is_adjudicated(level, key.0) && are_disputed(values),
        label: key.0.get().map_or("", |field| field.label).to_owned(),
    }
}

/// About how many bytes a record takes in an answer, rather too many: with names and labels it is several times what is stored.
pub(super) fn shown_bytes(record: &Record) -> usize {
    let of_field = |(key, values): (&FieldKey, &[Tagged])| {
        let label = key.0.get().map_or(0, |field| field.label.len());
        FIELD_BYTES
            + label
            + key.1.len()
            + values.iter().map(|tagged| VALUE_BYTES + 2 * tagged.value.len()).sum::<usize>()
    };
    record.fields().map(of_field).sum()
}

fn latest_first(values: &[Tagged]) -> Vec<&Tagged> {
    let mut shown: Vec<&Tagged> = values.iter().collect();
    shown.sort_by_key(|tagged| std::cmp::Reverse((tagged.received_ms, tagged.dot.clone())));
    shown
}

/// The values of one field, latest first.
pub(super) fn values_to_wire(shared: &Shared, record: &Record, key: &FieldKey) -> Vec<v1::FieldValue> {
    let (units, values) = (shared.units(), latest_first(record.values(key)));
    values.into_iter().map(|tagged| value_to_wire(&**units, record, key.0, tagged)).collect()
}

/// A refusal inside a stream of edits.
pub(super) fn status_to_refused(status: &Status) -> v1::Refused {
    v1::Refused { code: status.code() as i32, message: status.message().to_owned(), details: details_of(status) }
}

/// An edit as history and the change feed show it, under its present name: where others have its number, that is not the
/// dot in its header.
pub(super) fn entry_to_wire(
    shared: &Shared,
    name: &Dot,
    stored: &StoredEdit,
    edit: &Edit,
    (poison, standing): (Option<Poison>, &str),
    held_by: Vec<String>,
) -> v1::Entry {
    let header = &edit.header;
    let origin = &header.origin;
    let place = shared.place();
    let site_unit = place.sites.get(&header.author.site).map(|entry| {
        let (code, name) = shared.unit_words(entry.unit);
        format!("{code} {name}")
    });
    let changes = edit.changes.iter().filter(|change| change.field != GROUNDS).map(|change| v1::FieldChange {
        field: change.field.to_string(),
        element: element_text(&change.element),
        value: display(change.field, &change.value, &**shared.units()),
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
        event: header.event.name().to_owned(),
        event_label: header.event.label().to_owned(),
        standing: standing.to_owned(),
    }
}

/// How an edit stands in its record, in a word; empty if nothing is to be said of that.
pub(super) fn standing_word(record: &Record, name: &Dot, hash: &Hash) -> &'static str {
    let mut said = record.standing(hash).filter_map(|tagged| Standing::of_value(&tagged.value));
    match said.next() {
        Some(first) if said.any(|other| other != first) => "disputed",
        _ if record.pending().contains_key(name) => "pending",
        Some(first) => first.name(),
        None => "",
    }
}

/// The canonical bytes of the grounds, as a change.
pub(super) fn grounds_change(grounds: &str) -> Result<Option<Change>, &'static str> {
    if grounds.is_empty() {
        return Ok(None);
    }
    if !is_nfc(grounds) {
        return Err("grounds: send text in Unicode normal form NFC");
    }
    Ok(Some(Change { field: GROUNDS, element: Vec::new(), value: grounds.as_bytes().to_vec(), overwrites: Vec::new() }))
}

#[cfg(test)]
mod tests {
    use dinhba_client::tls::MESSAGE_BYTES_MAX;
    use dinhba_core::encoding::Wire;
    use dinhba_core::ids::SiteId;
    use dinhba_core::level::LEVEL_MAX;
    use dinhba_core::record::Write;
    use dinhba_core::schema::field;
    use dinhba_core::share::Weight;
    use dinhba_core::units::NoUnits;
    use prost::Message;

    use super::super::records::SHOWN_BYTES_MAX;
    use super::*;

    /// As much as one site can write into a record before it floods it, `count` changes to an edit.
    fn largest(count: u32, change: impl Fn(u32) -> Change) -> Record {
        let mut record = Record::new(RecordKind::Person);
        for number in 0.. {
            let changes: Vec<Change> = (number * count..(number + 1) * count).map(&change).collect();
            let weight = Weight::new(SiteId(1), AuthorId([1; 16]), &changes);
            if !record.shares.takes(&weight) {
                return record;
            }
            record.shares.add(&weight);
            // Each goes by an alias of its own.
            let mut id = [0xee; 16];
            id[..4].copy_from_slice(&number.to_be_bytes());
            crdts::CmRDT::apply(
                &mut record,
                Write::new(Dot { actor: AuthorId(id), counter: u64::MAX }, i64::MIN, &changes),
            );
        }
        unreachable!("a share is bounded")
    }

    fn change(field: FieldId, element: String, value: Vec<u8>) -> Change {
        Change { field, element: element.into_bytes(), value, overwrites: Vec::new() }
    }

    #[test]
    fn a_page_that_ends_with_the_largest_record_fits_a_message() {
        let text = |field, text: &str| parse(field, text, &NoUnits).unwrap().encode();
        let (sex, note) = (text(field::SEX, "female"), text(field::NOTE, &"x".repeat(1_000)));
        let record = text(field::HOUSEHOLD, &RecordId([7; 16]).to_string());
        let records = [
            largest(1, |at| change(field::RELATIVE, format!("child-{at:05}"), Vec::new())),
            largest(500, |at| change(field::RELATIVE, format!("child-{at:05}"), Vec::new())),
            largest(1, |at| change(field::DOCUMENT, format!("{at:05}"), Vec::new())),
            largest(1, |_| change(field::SEX, String::new(), sex.clone())),
            largest(1, |_| change(field::NOTE, String::new(), note.clone())),
            largest(1, |_| change(field::HOUSEHOLD, String::new(), record.clone())),
        ];
        for record in records {
            let shown: usize = record
                .fields()
                .map(|field| field_to_wire(&NoUnits, LEVEL_MAX, &record, field))
                .map(|field| field.encoded_len() + 6)
                .sum();
            println!("{} bytes stored, {shown} shown, {} thought", record.to_bytes().len(), shown_bytes(&record));
            assert!(shown <= shown_bytes(&record), "a page would be larger than it thinks");
            assert!(SHOWN_BYTES_MAX + shown < MESSAGE_BYTES_MAX, "{shown}");
        }
    }
}
