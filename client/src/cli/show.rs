//! Records, edits and lists, as tables for people and as JSON for programs.

use dinhba_core::event::Event;
use dinhba_core::ids::AuthorId;
use dinhba_core::schema::{FieldId, RecordKind, Type};
use dinhba_core::units::Directory;
use dinhba_proto::v1;
use serde_json::{Value as Json, json};

use super::sheet::{Cell, Sheet, Tint, column};
use crate::language::{Lang, Message, instant, say};
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

/// The label of a field of whatever kind of record has one of that name.
pub(super) fn label_of_any(field: &str) -> String {
    let labels = RecordKind::ALL.iter().map(|kind| label_of(kind.name(), field));
    labels.into_iter().find(|label| label != field).unwrap_or_else(|| field.to_owned())
}

fn label_of(kind: &str, field: &str) -> String {
    let known = RecordKind::named(kind).and_then(|kind| FieldId::named(kind, field)).and_then(FieldId::get);
    known.map_or_else(|| field.to_owned(), |known| known.label.to_owned())
}

/// What a field is called where changes are told: as it is written in English, and by its label in another language.
fn name_in(lang: Lang, kind: &str, field: &str, element: &str) -> String {
    match lang {
        Lang::En => field_name(field, element),
        Lang::Vi => field_name(&label_of(kind, field), &Message::word("relation", element).text(lang)),
    }
}

/// A value as people of a language write it: codes by their labels, days with the day first. Names of parts stay, since they are typed.
fn value_in(lang: Lang, kind: &str, field: &str, value: &str) -> String {
    let known = RecordKind::named(kind).and_then(|kind| FieldId::named(kind, field)).and_then(FieldId::get);
    match (lang, known) {
        (Lang::En, _) | (_, None) => value.to_owned(),
        (_, Some(known)) => match &known.ty {
            Type::Struct(of) if value.contains('=') => {
                let part = |text: &str| {
                    let (name, value) = text.split_once('=')?;
                    let part = of.parts.iter().find(|part| part.name == name.trim())?;
                    Some(format!("{name}={}", scalar_in(lang, &part.ty, value)))
                };
                // A semicolon within a value comes after a backslash, and what is cut there is no part.
                value
                    .split("; ")
                    .map(|text| part(text).unwrap_or_else(|| text.to_owned()))
                    .collect::<Vec<_>>()
                    .join("; ")
            }
            ty => scalar_in(lang, ty, value),
        },
    }
}

fn scalar_in(lang: Lang, ty: &Type, value: &str) -> String {
    match ty {
        Type::Code(codes) => {
            codes.iter().find(|code| code.name == value).map_or_else(|| value.to_owned(), |code| code.label.to_owned())
        }
        Type::Date(_) => lang.days(value),
        Type::Flag => Message::word("flag", value).text(lang),
        _ => value.to_owned(),
    }
}

pub(super) fn record(lang: Lang, record: &v1::Record) -> String {
    let mut fields = Sheet::titled(
        lang,
        [column("label").wraps(14).spare(1), column("field"), column("value").wraps(14), column("").wraps(24)],
    );
    for field in &record.fields {
        for (index, value) in field.values.iter().enumerate() {
            let (name, key) = match index {
                0 => (label(&record.kind, field), field_name(&field.field, &field.element)),
                _ => (String::new(), String::new()),
            };
            let remark = match (field.disputed, value.pending) {
                (true, _) => say!("value-disputed", at = instant(value.received_ms)).text(lang),
                (false, true) => say!("value-pending").text(lang),
                (false, false) => String::new(),
            };
            let shown = value_in(lang, &record.kind, &field.field, &value.value);
            let remark = Cell::from(remark).tinted(Tint::Bad);
            fields.add_row([plain(&name).into(), key.into(), plain(&shown).into(), remark]);
        }
    }
    let home = plain(&format!("{} {}", record.unit_code, record.unit_name));
    let kind = Message::word("kind", &record.kind).text(lang);
    let mut out = format!("{kind} {}  {}  {}\n{}", record.id, home.trim(), record.shard, fields.text());
    for rule in &record.broken_rules {
        out.push_str(&format!("\n{}", plain(&say!("broken-rule", rule = Message::from(rule.as_str())).text(lang))));
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
pub(super) fn found(lang: Lang, reply: &v1::FindReply) -> String {
    let mut rows = Sheet::titled(
        lang,
        [
            column("record"),
            column("full-name").wraps(14),
            column("born").wraps(10),
            column("home").wraps(12).spare(1),
            column(""),
        ],
    );
    for record in &reply.records {
        let values = |name: &str| {
            let found = record.fields.iter().find(|field| field.field == name);
            let texts: Vec<&str> =
                found.iter().flat_map(|field| &field.values).map(|value| value.value.as_str()).collect();
            // A name is written with slashes between its parts.
            plain(&texts.join(" ≠ ").replace('/', " ")).split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let is_disputed = record.fields.iter().any(|field| field.disputed) || !record.broken_rules.is_empty();
        let remark = match is_disputed {
            true => Cell::from(say!("disputed").text(lang)).tinted(Tint::Bad),
            false => Cell::from(""),
        };
        rows.add_row([
            record.id.clone().into(),
            values("name").into(),
            lang.days(&values("birth_date")).into(),
            plain(&record.unit_name).into(),
            remark,
        ]);
    }
    rows.text()
}

fn changes(lang: Lang, entry: &v1::Entry) -> String {
    let kind = &entry.record_kind;
    let change = |change: &v1::FieldChange| {
        let name = name_in(lang, kind, &change.field, &change.element);
        match change.value.as_str() {
            "" => say!("change-cleared", field = name).text(lang),
            value => format!("{name}={}", value_in(lang, kind, &change.field, value)),
        }
    };
    plain(&entry.changes.iter().map(change).collect::<Vec<_>>().join("\n"))
}

/// What an edit is to people: the event, or else its kind.
fn happened(lang: Lang, entry: &v1::Entry) -> String {
    let is_event = !entry.event.is_empty() && entry.event != Event::Change.name();
    if is_event { entry.event_label.clone() } else { Message::word("edit", &entry.kind).text(lang) }
}

/// Who wrote it, as what.
fn author_of(lang: Lang, subject: &str, role: &str) -> String {
    format!("{subject} ({})", Message::word("role", role).text(lang))
}

/// Why it was asked: the purpose, and the case.
fn reason(lang: Lang, purpose: &str, case: &str) -> String {
    format!("{} {case}", Message::word("purpose", purpose).text(lang))
}

pub(super) fn history(lang: Lang, entries: &[v1::Entry]) -> String {
    let mut rows = Sheet::titled(
        lang,
        [
            column("number").number(),
            column("received").spare(3),
            column("by").wraps(16).spare(1),
            column("unit").wraps(12).spare(4),
            column("what").wraps(12),
            column("changes").wraps(26),
            column("held-by").spare(2),
        ],
    );
    for entry in entries {
        let number = entry.dot.as_ref().map(|dot| dot.number.to_string()).unwrap_or_default();
        let mut what = vec![happened(lang, entry)];
        if entry.numbered_as.is_some() {
            what[0] = say!("on-a-branch", what = &what[0]).text(lang);
        }
        if !entry.set_aside.is_empty() {
            what.push(say!("set-aside", why = Message::word("aside", &entry.set_aside)).text(lang));
        } else if !entry.standing.is_empty() {
            let standing = Message::word("standing", &entry.standing).text(lang);
            what.push(format!("{standing} ({})", short(&entry.hash)));
        }
        if !entry.grounds.is_empty() {
            what.push(say!("because", grounds = &entry.grounds).text(lang));
        }
        let by = author_of(lang, &entry.subject, &entry.role) + "\n" + &reason(lang, &entry.purpose, &entry.case);
        let held_by: Vec<String> = entry.held_by.iter().map(|tier| Message::word("tier", tier).text(lang)).collect();
        rows.add_row([
            number,
            lang.instant(entry.received_ms),
            plain(&by),
            plain(&entry.site_unit),
            plain(&what.join("\n")),
            changes(lang, entry),
            held_by.join("\n"),
        ]);
    }
    rows.text()
}

/// How an edit is called on the command line: enough digits of its hash.
pub(super) fn short(hash: &[u8]) -> String {
    hex(&hash[..hash.len().min(4)])
}

/// What waits for a second person.
pub(super) fn pending(lang: Lang, entries: &[v1::Entry]) -> String {
    let mut rows = Sheet::titled(
        lang,
        [
            column("edit"),
            column("received").spare(3),
            column("by").wraps(14).spare(1),
            column("unit").wraps(12).spare(4),
            column("record"),
            column("what").wraps(12).spare(2),
            column("changes").wraps(26),
        ],
    );
    for entry in entries {
        rows.add_row([
            short(&entry.hash),
            lang.instant(entry.received_ms),
            plain(&entry.subject),
            plain(&entry.site_unit),
            entry.record.clone(),
            plain(&happened(lang, entry)),
            changes(lang, entry),
        ]);
    }
    rows.text()
}

/// One line of the change feed.
pub(super) fn entry_line(lang: Lang, entry: &v1::Entry) -> String {
    plain(&format!(
        "{} {} {} {} {} {}: {}",
        entry.position,
        lang.instant(entry.received_ms),
        entry.site_unit,
        entry.subject,
        happened(lang, entry),
        entry.record,
        changes(lang, entry).replace('\n', ", ")
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

pub(super) fn conflicts(lang: Lang, reply: &v1::ConflictsReply) -> String {
    let mut rows = Sheet::titled(
        lang,
        [
            column("since").spare(1),
            column("record"),
            column("label").wraps(14).spare(2),
            column("field-or-rule").wraps(14),
            column("value").wraps(14),
        ],
    );
    for conflict in &reply.conflicts {
        let kind = &conflict.record_kind;
        let values = conflict.values.iter().map(|value| value_in(lang, kind, &conflict.field, &value.value));
        let values: Vec<String> = values.collect();
        let rule = Message::from(conflict.rule.as_str()).text(lang);
        let name = field_name(&conflict.field, &conflict.element);
        let is_rule = conflict.field.is_empty();
        rows.add_row([
            lang.instant(conflict.since_ms),
            conflict.record.clone(),
            if is_rule { String::new() } else { label_of(kind, &conflict.field) },
            plain(if is_rule { &rule } else { &name }),
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

pub(super) fn accesses(lang: Lang, entries: &[v1::Access], directory: &Directory) -> String {
    let unit = |id: &str| {
        let known = id.parse().ok().and_then(|unit| directory.get(unit));
        known.map_or_else(|| id.to_owned(), |unit| format!("{} {}", unit.code, unit.name))
    };
    let mut rows = Sheet::titled(
        lang,
        [
            column("number").number().spare(1),
            column("at").spare(5),
            column("who").wraps(14),
            column("unit").wraps(12).spare(4),
            column("why").wraps(14).spare(3),
            column("looked-at").spare(2),
            column("looked-target"),
            column(""),
        ],
    );
    for access in entries {
        rows.add_row([
            access.number.to_string().into(),
            lang.instant(access.at_ms).into(),
            plain(&author_of(lang, &access.subject, &access.role)).into(),
            plain(&unit(&access.unit)).into(),
            plain(&reason(lang, &access.purpose, &access.case)).into(),
            Message::word("looked", &access.looked).text(lang).into(),
            access.target.clone().into(),
            Cell::from(if access.allowed { String::new() } else { say!("access-denied").text(lang) }).tinted(Tint::Bad),
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

pub(super) fn accepted(lang: Lang, accepted: &Accepted) -> String {
    let receipt = &accepted.receipt;
    let records: Vec<String> = accepted.records.iter().map(ToString::to_string).collect();
    let records = records.join(", ");
    let mut lines = vec![match accepted.replayed {
        true => say!("accepted-before", records = records),
        false => say!("accepted", records = records),
    }];
    if accepted.pending {
        lines.push(say!("accepted-pending"));
    }
    let (first, shard, hash) = (dot(receipt.first.as_ref()), &receipt.shard, hex(&receipt.hash));
    lines.push(say!("accepted-receipt", first = first, shard = shard, count = receipt.count, hash = hash));
    lines.push(say!("accepted-request", request = &accepted.request));
    lines.iter().map(|line| line.text(lang)).collect::<Vec<_>>().join("\n")
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
    use crate::cli::tests::vietnamese::assert_vietnamese;
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
        let shown = record(Lang::En, &person());
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
    fn records_and_their_history_are_told_in_vietnamese() {
        let told = record(Lang::Vi, &person());
        assert!(told.contains("02/03/1975") && told.contains("còn mâu thuẫn, nhận lúc 15/06/2025 22:06:40"), "{told}");
        assert!(told.starts_with("công dân r-"), "{told}");
        assert_vietnamese(&told);
        let reply = v1::FindReply { records: vec![person()], next: Vec::new() };
        let told = found(Lang::Vi, &reply);
        assert!(told.contains("02/03/1975 ≠ 03/02/1975"), "{told}");
        assert_vietnamese(&told);
        let change = |field: &str, element: &str, value: &str| v1::FieldChange {
            field: field.into(),
            element: element.into(),
            value: value.into(),
            ..v1::FieldChange::default()
        };
        let entry = v1::Entry {
            kind: "change".into(),
            record_kind: "person".into(),
            role: "registrar".into(),
            purpose: "correction".into(),
            case: "12/2026".into(),
            subject: "lan".into(),
            standing: "pending".into(),
            grounds: "Quyết định 12".into(),
            held_by: vec!["commune".into(), "district".into()],
            changes: vec![
                change("sex", "", "female"),
                change("birth_date", "", "1990-03-08"),
                change("marital_status", "", "status=married; since=2012-05-01"),
                change("relative", "father", ""),
            ],
            hash: vec![1, 2, 3, 4],
            ..v1::Entry::default()
        };
        let told = history(Lang::Vi, std::slice::from_ref(&entry));
        for word in ["lan (cán bộ đăng ký)", "cải chính 12/2026", "chờ xác nhận (01020304)", "08/03/1990", "01/05/2012"]
        {
            assert!(told.contains(word), "{word} in {told}");
        }
        for word in ["Giới tính=Nữ", "[cha]: đã xóa", "xã", "huyện", "căn cứ: Quyết định 12"] {
            assert!(told.contains(word), "{word} in {told}");
        }
        assert_vietnamese(&told);
        assert_vietnamese(&pending(Lang::Vi, &[entry]));
        let rule = validity_rule();
        let conflict = v1::Conflict { record_kind: "person".into(), rule, ..v1::Conflict::default() };
        assert_vietnamese(&conflicts(
            Lang::Vi,
            &v1::ConflictsReply { conflicts: vec![conflict], ..Default::default() },
        ));
    }

    fn validity_rule() -> String {
        dinhba_core::validity::rule_text(dinhba_core::schema::RULES[0].id.0)
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
        let shown = found(Lang::En, &v1::FindReply { records: vec![person()], next: Vec::new() });
        assert!(shown.lines().nth(1).unwrap().contains("Nguyễn Thị Hòa"), "{shown}");
        assert!(shown.contains("1975-03-02 ≠ 1975-02-03") && shown.contains("disputed"), "{shown}");
    }
}
