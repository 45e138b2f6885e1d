//! Records into files: those of a unit, and invented ones.
//!
//! An extract names its records `@r-…` and refers to them by the same names, so that importing it elsewhere keeps who
//! belongs to whom. Limit: of a disputed field the value received last is written, and how many were left out is said.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use dinhba_core::date::Date;
use dinhba_core::ids::{RecordId, ShardId, UnitId};
use dinhba_core::schema::{FieldId, RecordKind, Type};
use dinhba_core::units::{BEFORE_REFORM, Directory, REFORM, Resolve};
use dinhba_proto::v1;
use futures::StreamExt;

use super::{Desk, Exit, Failure, Generate};
use crate::client::Client;
use crate::generate::files::{self, Format};
use crate::generate::{Draft, DraftField, DraftRecord, TEMPORARY};
use crate::request::Context;

pub(super) fn directory() -> Result<Directory, Failure> {
    Directory::vietnam().map_err(|error| Failure::Other(error.to_string()))
}

fn create(path: &Path) -> Result<File, Failure> {
    File::create(path).map_err(|error| Failure::File { what: path.display().to_string(), error })
}

pub(super) fn generate(command: &Generate, desk: &mut Desk<'_>) -> Result<Exit, Failure> {
    let directory = directory()?;
    let units: Vec<UnitId> = command.units.iter().map(|unit| find_unit(&directory, unit)).collect::<Result<_, _>>()?;
    let drafts = crate::generate::generate(&directory, &units, command.persons, command.seed)
        .map_err(|error| Failure::Usage(error.to_string()))?;
    let records = drafts.flat_map(|draft: Draft| draft.records);
    let count = match &command.output {
        None => files::write(Format::Ndjson, records, &mut *desk.out)?,
        Some(path) => {
            let format = Format::of(path).ok_or_else(|| {
                Failure::usage(format!("{}: name the file .ndjson or .csv, so that its form is clear", path.display()))
            })?;
            files::write(format, records, create(path)?)
                .map_err(|error| Failure::File { what: path.display().to_string(), error })?
        }
    };
    desk.remark(&format!("{count} invented records"));
    Ok(Exit::Done)
}

/// Says which units codes mean.
pub(super) fn units(units: &[String], desk: &mut Desk<'_>) -> Result<Exit, Failure> {
    let directory = directory()?;
    let found: Vec<UnitId> = units.iter().map(|unit| find_unit(&directory, unit)).collect::<Result<_, _>>()?;
    for unit in found.into_iter().filter_map(|id| directory.get(id)) {
        let (id, tier, path) =
            (unit.id.to_string(), unit.tier.name(), directory.path_name(unit.id).unwrap_or_default());
        desk.show(
            || format!("{id}  {tier:<8}  {:<5}  {path}", unit.code),
            || serde_json::json!({ "unit": id, "code": unit.code, "name": unit.name, "tier": tier, "path": path }),
        )?;
    }
    Ok(Exit::Done)
}

fn find_unit(directory: &Directory, unit: &str) -> Result<UnitId, Failure> {
    let (code, day) = unit.split_once('@').unwrap_or((unit, ""));
    // A code alone means today's unit, or else the last one that had it.
    let days = if day.is_empty() { vec![REFORM, BEFORE_REFORM] } else { day.parse::<Date>().into_iter().collect() };
    let found = unit.parse().ok().or_else(|| days.into_iter().find_map(|day| directory.unit(code, day)));
    found.ok_or_else(|| {
        Failure::usage(format!(
            "no unit is known as {unit}: write its code and a day (00001@2025-06-30), or its id (u-…)"
        ))
    })
}

/// What was written, and what was not.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    records: u64,
    values_left_out: u64,
    fields_unknown: u64,
}

pub(super) async fn export(
    client: &Client,
    context: &Context,
    shard: Option<ShardId>,
    output: Option<&Path>,
    desk: &mut Desk<'_>,
) -> Result<(), Failure> {
    let directory = directory()?;
    let mut records = std::pin::pin!(client.export(context, shard));
    let mut tally = Tally::default();
    // The file is made once there is something to write: a refusal leaves what is there.
    let mut file = None;
    while let Some(record) = records.next().await {
        let draft = draft_of(&record?, &directory, &mut tally)?;
        tally.records += 1;
        match output {
            None => files::write(Format::Ndjson, [draft], &mut *desk.out)?,
            Some(path) => {
                if file.is_none() {
                    file = Some(std::io::BufWriter::new(create(path)?));
                }
                let Some(file) = &mut file else { continue };
                files::write(Format::Ndjson, [draft], &mut Unflushed(file))?
            }
        };
    }
    match (output, file) {
        (Some(path), None) => drop(create(path)?),
        (_, Some(mut file)) => file.flush()?,
        (None, None) => {}
    }
    let Tally { records, values_left_out, fields_unknown } = tally;
    desk.remark(&format!("{records} records"));
    if values_left_out > 0 {
        desk.remark(&format!("{values_left_out} values of disputed fields were left out: only the latest is written"));
    }
    if fields_unknown > 0 {
        desk.remark(&format!("{fields_unknown} fields of a newer schema were left out: use a newer version"));
    }
    Ok(())
}

/// Keeps the writer of one record from flushing the file after each.
struct Unflushed<'a, W>(&'a mut W);

impl<W: Write> Write for Unflushed<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn draft_of(record: &v1::Record, directory: &Directory, tally: &mut Tally) -> Result<DraftRecord, Failure> {
    let kind = RecordKind::named(&record.kind)
        .ok_or_else(|| Failure::Other(format!("record {} is of a kind that this version does not know", record.id)))?;
    let named = record.unit.parse().ok().and_then(|unit| directory.named(unit));
    let mut fields = Vec::new();
    for field in &record.fields {
        let Some(latest) = field.values.iter().max_by_key(|value| value.received_ms) else { continue };
        let Some(id) = FieldId::named(kind, &field.field) else {
            tally.fields_unknown += 1;
            continue;
        };
        tally.values_left_out += field.values.len() as u64 - 1;
        if !latest.value.is_empty() {
            let text = mark_references(id, &latest.value);
            fields.push(DraftField { field: id, element: field.element.clone(), text });
        }
    }
    Ok(DraftRecord {
        kind,
        id: format!("{TEMPORARY}{}", record.id),
        home: named.map(|named| format!("{}@{}", named.code, named.at)),
        fields,
    })
}

/// `text` with the mark of a temporary id before each reference to a record.
fn mark_references(field: FieldId, text: &str) -> String {
    let mark = |id: &str| id.parse::<RecordId>().is_ok().then(|| format!("{TEMPORARY}{id}"));
    match field.get().map(|known| &known.ty) {
        Some(Type::Record(_)) => mark(text).unwrap_or_else(|| text.to_owned()),
        Some(Type::Struct(of)) => {
            let is_reference = |name: &str| of.parts.iter().any(|p| p.name == name && matches!(p.ty, Type::Record(_)));
            let mut out = String::new();
            // A semicolon inside a value has a backslash before it, and so has a backslash.
            let (mut start, mut is_escaped) = (0, false);
            let ends = text.char_indices().filter_map(|(at, c)| {
                let ends = c == ';' && !is_escaped;
                is_escaped = c == '\\' && !is_escaped;
                ends.then_some(at)
            });
            for end in ends.chain([text.len()]) {
                let segment = &text[start..end];
                let marked = segment.split_once('=').filter(|(name, _)| is_reference(name.trim()));
                match marked.and_then(|(name, id)| Some(format!("{name}={}", mark(id.trim())?))) {
                    Some(marked) => out.push_str(&marked),
                    None => out.push_str(segment),
                }
                if end < text.len() {
                    out.push(';');
                }
                start = end + 1;
            }
            out
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use dinhba_core::schema::field;

    use super::*;

    const ID: &str = "r-0000000000000000000000000000000a";

    #[test]
    fn references_and_only_references_are_marked() {
        assert_eq!(mark_references(field::HOUSEHOLD, ID), format!("@{ID}"));
        assert_eq!(mark_references(field::NOTE, ID), ID);
        let text = format!(r"name=A\; record={ID}; record={ID}; since=2001");
        let marked = format!(r"name=A\; record={ID}; record=@{ID}; since=2001");
        assert_eq!(mark_references(field::RELATIVE, &text), marked);
    }

    #[test]
    fn a_record_becomes_a_row_and_what_is_left_out_is_counted() {
        let directory = directory().unwrap();
        let unit = find_unit(&directory, "00001@2025-06-30").unwrap();
        let value = |text: &str, received_ms| v1::FieldValue { value: text.into(), dot: None, received_ms };
        let field = |name: &str, values| v1::Field { field: name.into(), values, ..v1::Field::default() };
        let record = v1::Record {
            id: ID.into(),
            kind: "person".into(),
            unit: unit.to_string(),
            fields: vec![
                field("birth_date", vec![value("1975-03-02", 1), value("1975-02-03", 9)]),
                field("email", vec![value("", 1)]),
                field("invented_later", vec![value("x", 1)]),
            ],
            ..v1::Record::default()
        };
        let mut tally = Tally::default();
        let draft = draft_of(&record, &directory, &mut tally).unwrap();
        assert_eq!((draft.id.as_str(), draft.home.as_deref()), (&*format!("@{ID}"), Some("00001@2025-06-30")));
        assert_eq!(draft.text(field::BIRTH_DATE), Some("1975-02-03"));
        assert_eq!(draft.fields.len(), 1);
        assert_eq!(tally, Tally { records: 0, values_left_out: 1, fields_unknown: 1 });
    }

    #[test]
    fn a_unit_is_found_by_code_and_day() {
        let directory = directory().unwrap();
        let before = find_unit(&directory, "00001@2025-06-30").unwrap();
        assert_eq!(find_unit(&directory, &before.to_string()).unwrap(), before);
        assert!(matches!(find_unit(&directory, "99999"), Err(Failure::Usage(_))));
        assert!(matches!(find_unit(&directory, "00001@yesterday"), Err(Failure::Usage(_))));
    }
}
