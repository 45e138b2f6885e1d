//! Records, edits and lists, as tables for people and as JSON for programs.

use dinhba_core::date::InstantMs;
use dinhba_core::event::Event;
use dinhba_core::ids::AuthorId;
use dinhba_core::schema::{FieldId, RecordKind};
use dinhba_core::units::Directory;
use dinhba_proto::v1;
use serde_json::{Value as Json, json};

use super::sheet::{Cell, Sheet, Tint, column};
use crate::request::{Accepted, request_of};

/// `text` without what a terminal would obey.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '·' } else { c }).collect()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes that hex digits stand for.
pub(super) fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        digits.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

pub(super) fn instant(ms: i64) -> String {
    if ms == 0 { String::new() } else { InstantMs(ms).to_string() }
}

pub(super) fn author(bytes: &[u8]) -> String {
    bytes.try_into().map_or_else(|_| hex(bytes), |bytes| AuthorId(bytes).to_string())
}

fn dot(dot: Option<&v1::Dot>) -> String {
    dot.map(|dot| format!("{}/{}", author(&dot.author), dot.number)).unwrap_or_default()
}

pub(super) fn moved_json(moved: &v1::Moved) -> Json {
    let dots: Vec<String> = moved.dots.iter().map(|named| dot(Some(named))).collect();
    json!({ "field": moved.field, "element": moved.element, "dots": dots })
}

pub(super) fn field_name(field: &str, element: &str) -> String {
    if element.is_empty() { field.to_owned() } else { format!("{field}[{element}]") }
}

/// The name for people: as the node says it, else as this schema does.
fn label(kind: &str, field: &v1::Field) -> String {
    if !field.label.is_empty() {
        return field.label.clone();
    }
    label_of(kind, &field.field)
}

fn label_of(kind: &str, field: &str) -> String {
    let known = RecordKind::named(kind).and_then(|kind| FieldId::named(kind, field)).and_then(FieldId::get);
    known.map_or_else(|| field.to_owned(), |known| known.label.to_owned())
}

pub(super) fn record(record: &v1::Record) -> String {
    let mut fields = Sheet::new([
        column("trường").wraps(14).spare(1),
        column("field"),
        column("giá trị").wraps(14),
        column("").wraps(24),
    ]);
    for field in &record.fields {
        for (index, value) in field.values.iter().enumerate() {
            let (name, key) = match index {
                0 => (label(&record.kind, field), field_name(&field.field, &field.element)),
                _ => (String::new(), String::new()),
            };
            let remark = match (field.disputed, value.pending) {
                (true, _) => Cell::from(format!("disputed, received {}", instant(value.received_ms))).tinted(Tint::Bad),
                (false, true) => Cell::from("pending: waits for a second person").tinted(Tint::Bad),
                (false, false) => Cell::from(""),
            };
            fields.add_row([plain(&name).into(), key.into(), plain(&value.value).into(), remark]);
        }
    }
    let home = plain(&format!("{} {}", record.unit_code, record.unit_name));
    let mut out = format!("{} {}  {}  {}\n{}", record.kind, record.id, home.trim(), record.shard, fields.text());
    for rule in &record.broken_rules {
        out.push_str(&format!("\nbroken rule {}", plain(rule)));
    }
    out
}

pub(super) fn record_json(record: &v1::Record) -> Json {
    let fields = record.fields.iter().map(|field| {
        json!({
            "field": field.field, "element": field.element, "label": label(&record.kind, field),
            "disputed": field.disputed, "values": field.values.iter().map(value_json).collect::<Vec<_>>(),
        })
    });
    json!({
        "id": record.id, "kind": record.kind, "shard": record.shard,
        "unit": record.unit, "unit_code": record.unit_code, "unit_name": record.unit_name,
        "fields": fields.collect::<Vec<_>>(), "broken_rules": record.broken_rules,
    })
}

fn value_json(value: &v1::FieldValue) -> Json {
    json!({
        "value": value.value, "dot": dot(value.dot.as_ref()), "received_ms": value.received_ms,
        "pending": value.pending,
    })
}

/// One line for each record found.
pub(super) fn found(reply: &v1::FindReply) -> String {
    let mut rows = Sheet::new([
        column("record"),
        column("họ tên").wraps(14),
        column("ngày sinh").wraps(10),
        column("đơn vị").wraps(12).spare(1),
        column(""),
    ]);
    for record in &reply.records {
        let values = |name: &str| {
            let found = record.fields.iter().find(|field| field.field == name);
            let texts: Vec<&str> =
                found.iter().flat_map(|field| &field.values).map(|value| value.value.as_str()).collect();
            // A name is written with slashes between its parts.
            plain(&texts.join(" ≠ ").replace('/', " ")).split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let is_disputed = record.fields.iter().any(|field| field.disputed) || !record.broken_rules.is_empty();
        let remark = if is_disputed { Cell::from("disputed").tinted(Tint::Bad) } else { Cell::from("") };
        rows.add_row([
            record.id.clone().into(),
            values("name").into(),
            values("birth_date").into(),
            plain(&record.unit_name).into(),
            remark,
        ]);
    }
    rows.text()
}

fn changes(changes: &[v1::FieldChange]) -> String {
    let change = |change: &v1::FieldChange| {
        let name = field_name(&change.field, &change.element);
        if change.value.is_empty() { format!("{name} cleared") } else { format!("{name}={}", change.value) }
    };
    plain(&changes.iter().map(change).collect::<Vec<_>>().join("\n"))
}

/// What an edit is to people: the event, or else its kind.
fn happened(entry: &v1::Entry) -> String {
    let is_event = !entry.event.is_empty() && entry.event != Event::Change.name();
    if is_event { entry.event_label.clone() } else { entry.kind.clone() }
}

pub(super) fn history(entries: &[v1::Entry]) -> String {
    let mut rows = Sheet::new([
        column("no.").number(),
        column("received").spare(3),
        column("by").wraps(16).spare(1),
        column("unit").wraps(12).spare(4),
        column("what").wraps(12),
        column("changes").wraps(26),
        column("held by").spare(2),
    ]);
    for entry in entries {
        let number = entry.dot.as_ref().map(|dot| dot.number.to_string()).unwrap_or_default();
        let mut what = happened(entry);
        if entry.numbered_as.is_some() {
            what.push_str(" (on a branch)");
        }
        if !entry.set_aside.is_empty() {
            what.push_str(&format!("\nset aside: {}", entry.set_aside));
        } else if !entry.standing.is_empty() {
            what.push_str(&format!("\n{} ({})", entry.standing, short(&entry.hash)));
        }
        if !entry.grounds.is_empty() {
            what.push_str(&format!("\nbecause {}", entry.grounds));
        }
        rows.add_row([
            number,
            instant(entry.received_ms),
            plain(&format!("{} ({})\n{} {}", entry.subject, entry.role, entry.purpose, entry.case)),
            plain(&entry.site_unit),
            plain(&what),
            changes(&entry.changes),
            entry.held_by.join("\n"),
        ]);
    }
    rows.text()
}

/// How an edit is called on the command line: enough digits of its hash.
pub(super) fn short(hash: &[u8]) -> String {
    hex(&hash[..hash.len().min(4)])
}

/// What waits for a second person.
pub(super) fn pending(entries: &[v1::Entry]) -> String {
    let mut rows = Sheet::new([
        column("edit"),
        column("received").spare(3),
        column("by").wraps(14).spare(1),
        column("unit").wraps(12).spare(4),
        column("record"),
        column("what").wraps(12).spare(2),
        column("changes").wraps(26),
    ]);
    for entry in entries {
        rows.add_row([
            short(&entry.hash),
            instant(entry.received_ms),
            plain(&entry.subject),
            plain(&entry.site_unit),
            entry.record.clone(),
            plain(&happened(entry)),
            changes(&entry.changes),
        ]);
    }
    rows.text()
}

/// One line of the change feed.
pub(super) fn entry_line(entry: &v1::Entry) -> String {
    plain(&format!(
        "{} {} {} {} {} {}: {}",
        entry.position,
        instant(entry.received_ms),
        entry.site_unit,
        entry.subject,
        happened(entry),
        entry.record,
        changes(&entry.changes).replace('\n', ", ")
    ))
}

pub(super) fn entry_json(entry: &v1::Entry) -> Json {
    let changes = entry.changes.iter().map(|change| {
        json!({
            "field": change.field, "element": change.element, "label": label_of(&entry.record_kind, &change.field),
            "value": change.value,
            "overwrites": change.overwrites.iter().map(|overwritten| dot(Some(overwritten))).collect::<Vec<_>>(),
        })
    });
    json!({
        "position": entry.position, "dot": dot(entry.dot.as_ref()), "site": entry.site, "site_unit": entry.site_unit,
        "kind": entry.kind, "event": entry.event, "event_label": entry.event_label,
        "record": entry.record, "record_kind": entry.record_kind, "subject": entry.subject, "role": entry.role, "purpose": entry.purpose, "case": entry.case,
        "grounds": entry.grounds, "authored_ms": entry.authored_ms, "received_ms": entry.received_ms,
        "valid_from": entry.valid_from, "changes": changes.collect::<Vec<_>>(), "hash": hex(&entry.hash),
        "held_by": entry.held_by, "set_aside": entry.set_aside, "standing": entry.standing,
        "numbered_as": entry.numbered_as.as_ref().map(|of| dot(Some(of))),
        "request": request_of(entry.request.as_ref()).map(|request| request.to_string()),
    })
}

pub(super) fn conflicts(reply: &v1::ConflictsReply) -> String {
    let mut rows = Sheet::new([
        column("since").spare(1),
        column("record"),
        column("trường").wraps(14).spare(2),
        column("field or rule").wraps(14),
        column("giá trị").wraps(14),
    ]);
    for conflict in &reply.conflicts {
        let values: Vec<&str> = conflict.values.iter().map(|value| value.value.as_str()).collect();
        let name = field_name(&conflict.field, &conflict.element);
        let is_rule = conflict.field.is_empty();
        rows.add_row([
            instant(conflict.since_ms),
            conflict.record.clone(),
            if is_rule { String::new() } else { label_of(&conflict.record_kind, &conflict.field) },
            plain(if is_rule { &conflict.rule } else { &name }),
            plain(&values.join("\n")),
        ]);
    }
    rows.text()
}

pub(super) fn conflict_json(conflict: &v1::Conflict) -> Json {
    json!({
        "record": conflict.record, "record_kind": conflict.record_kind, "shard": conflict.shard,
        "field": conflict.field, "element": conflict.element, "rule": conflict.rule,
        "values": conflict.values.iter().map(value_json).collect::<Vec<_>>(), "since_ms": conflict.since_ms,
    })
}

pub(super) fn accesses(entries: &[v1::Access], directory: &Directory) -> String {
    let unit = |id: &str| {
        let known = id.parse().ok().and_then(|unit| directory.get(unit));
        known.map_or_else(|| id.to_owned(), |unit| format!("{} {}", unit.code, unit.name))
    };
    let mut rows = Sheet::new([
        column("no.").number().spare(1),
        column("at").spare(5),
        column("who").wraps(14),
        column("unit").wraps(12).spare(4),
        column("why").wraps(14).spare(3),
        column("looked at").spare(2),
        column("target"),
        column(""),
    ]);
    for access in entries {
        rows.add_row([
            access.number.to_string().into(),
            instant(access.at_ms).into(),
            plain(&format!("{} ({})", access.subject, access.role)).into(),
            plain(&unit(&access.unit)).into(),
            plain(&format!("{} {}", access.purpose, access.case)).into(),
            access.looked.clone().into(),
            access.target.clone().into(),
            if access.allowed { Cell::from("") } else { Cell::from("denied").tinted(Tint::Bad) },
        ]);
    }
    rows.text()
}

pub(super) fn access_json(group: &str, access: &v1::Access) -> Json {
    json!({
        "group": group, "number": access.number, "subject": access.subject, "role": access.role, "unit": access.unit,
        "purpose": access.purpose, "case": access.case, "looked": access.looked, "shard": access.shard,
        "target": access.target, "at_ms": access.at_ms, "allowed": access.allowed, "hash": hex(&access.hash),
    })
}

pub(super) fn accepted(accepted: &Accepted) -> String {
    let receipt = &accepted.receipt;
    let records: Vec<String> = accepted.records.iter().map(ToString::to_string).collect();
    let already = if accepted.replayed { " (it had been accepted before)" } else { "" };
    let pending = match accepted.pending {
        true => "\npending  it holds, and a second person must confirm it: `dinhba pending`, `dinhba confirm`",
        false => "",
    };
    format!(
        "accepted{already}: {}{pending}\nreceipt  {} of {}, {} edits, hash {}\nrequest  {}",
        records.join(", "),
        dot(receipt.first.as_ref()),
        receipt.shard,
        receipt.count,
        hex(&receipt.hash),
        accepted.request
    )
}

pub(super) fn accepted_json(accepted: &Accepted) -> Json {
    let receipt = &accepted.receipt;
    json!({
        "request": accepted.request.to_string(), "replayed": accepted.replayed, "pending": accepted.pending,
        "personal_number": accepted.number.map(|number| number.to_string()),
        "records": accepted.records.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "receipt": {
            "shard": receipt.shard, "first": dot(receipt.first.as_ref()), "count": receipt.count,
            "hash": hex(&receipt.hash),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SHARD;

    fn person() -> v1::Record {
        let value = |text: &str, number| v1::FieldValue {
            value: text.into(),
            dot: Some(v1::Dot { author: vec![1; 16], number }),
            received_ms: 1_750_000_000_000,
            pending: false,
        };
        v1::Record {
            id: "r-00000000000000000000000000000001".into(),
            kind: "person".into(),
            shard: SHARD.to_string(),
            unit_code: "00001".into(),
            unit_name: "Phường Phúc Xá".into(),
            fields: vec![
                v1::Field {
                    field: "name".into(), values: vec![value("Nguyễn/Thị/Hòa", 1)], ..v1::Field::default()
                },
                v1::Field {
                    field: "birth_date".into(),
                    values: vec![value("1975-03-02", 1), value("1975-02-03", 9)],
                    disputed: true,
                    ..v1::Field::default()
                },
                v1::Field {
                    field: "relative".into(),
                    element: "father".into(),
                    values: vec![value("name=Lê 漢\u{1b}[2J", 1)],
                    ..v1::Field::default()
                },
            ],
            broken_rules: vec!["death_before_birth: check both".into()],
            ..v1::Record::default()
        }
    }

    #[test]
    fn a_record_is_shown_with_its_labels_and_its_disputes() {
        let shown = record(&person());
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "person r-00000000000000000000000000000001  00001 Phường Phúc Xá  h-0000000000000011");
        assert!(lines[2].starts_with("Họ, chữ đệm và tên khai sinh"), "{shown}");
        assert!(lines[3].contains("1975-03-02") && lines[3].contains("disputed, received 2025-06-15T15:06:40Z"));
        assert!(lines[4].contains("1975-02-03") && !lines[4].contains("birth_date"), "{shown}");
        assert!(lines[5].contains("relative[father]") && lines[5].contains("Lê 漢·[2J"), "{shown}");
        assert_eq!(lines[6], "broken rule death_before_birth: check both");
        // The columns stand below each other, counted as a terminal counts.
        let at = |line: &str, word: &str| line[..line.find(word).unwrap()].chars().count();
        assert_eq!(at(lines[2], "name"), at(lines[3], "birth_date"));
        assert_eq!(at(lines[2], "Nguyễn"), at(lines[4], "1975-02-03"));
    }

    #[test]
    fn json_of_a_record_keeps_its_keys() {
        let object = record_json(&person());
        assert_eq!(object["fields"][1]["disputed"], json!(true));
        assert_eq!(object["fields"][1]["label"], json!("Ngày, tháng, năm sinh"));
        assert_eq!(object["fields"][1]["values"][1]["dot"], json!("a-01010101010101010101010101010101/9"));
        let keys: Vec<&String> = object.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["broken_rules", "fields", "id", "kind", "shard", "unit", "unit_code", "unit_name"]);
    }

    #[test]
    fn a_list_of_finds_reads_as_names_are_spoken() {
        let shown = found(&v1::FindReply { records: vec![person()], next: Vec::new() });
        assert!(shown.lines().nth(1).unwrap().contains("Nguyễn Thị Hòa"), "{shown}");
        assert!(shown.contains("1975-03-02 ≠ 1975-02-03") && shown.contains("disputed"), "{shown}");
    }
}
