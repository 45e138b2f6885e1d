//! Records into files: those of a unit, and invented ones.
//!
//! An extract names its records `@r-…` and refers to them by the same names, so that importing it elsewhere keeps who
//! belongs to whom. It is its owner's alone to read, and has its name only once it is whole. Limits: of a disputed field
//! the value received last is written, and how many were left out is said; a broken extract is begun anew, since what it
//! would have to go on from may have changed meanwhile.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use dinhba_core::date::Date;
use dinhba_core::ids::{ShardId, UnitId};
use dinhba_core::schema::{FieldId, RecordKind};
use dinhba_core::units::{BEFORE_REFORM, Directory, REFORM, Resolve};
use dinhba_proto::v1;
use futures::StreamExt;
use serde_json::json;

use super::{Desk, Exit, Failure, Generate};
use crate::client::Client;
use crate::draft::{Draft, DraftField, DraftRecord, TEMPORARY, map_references};
use crate::import::{Format, Writer, write};
use crate::language::{Message, say};
use crate::request::Context;

pub(super) fn directory() -> Result<Directory, Failure> {
    Directory::vietnam().map_err(|error| Failure::other(error.to_string()))
}

/// Where records are written to, and how.
pub(super) struct Output {
    /// None is the standard output.
    path: Option<PathBuf>,
    format: Format,
}

impl Output {
    /// A file's form is told by its name, unless it is said; what is no ordinary file, such as a pipe, gets NDJSON.
    pub(super) fn of(path: Option<PathBuf>, format: Option<Format>) -> Result<Self, Failure> {
        let path = path.filter(|path| path.as_os_str() != "-");
        let by_name = || match &path {
            Some(path) if fs::metadata(path).map_or(true, |there| there.is_file()) => {
                Format::of(path).ok_or_else(|| Failure::usage(say!("name-file-by-form", file = path.display())))
            }
            _ => Ok(Format::Ndjson),
        };
        let format = format.map_or_else(by_name, Ok)?;
        Ok(Output { path, format })
    }

    fn of_file(&self, error: io::Error) -> Failure {
        match &self.path {
            Some(path) => Failure::of_file(path, error),
            None => Failure::Output(error),
        }
    }
}

pub(super) fn generate(command: &Generate, desk: &mut Desk<'_>) -> Result<Exit, Failure> {
    let directory = directory()?;
    let units: Vec<UnitId> = command.units.iter().map(|unit| find_unit(&directory, unit)).collect::<Result<_, _>>()?;
    let drafts = crate::generate::generate(&directory, &units, command.persons, command.seed)
        .map_err(|error| Failure::usage(error.to_string()))?;
    let records = drafts.flat_map(|draft: Draft| draft.records);
    let output = Output::of(command.output.clone(), command.format)?;
    let of_file = |error| output.of_file(error);
    let count = match &output.path {
        None => write(output.format, records, &mut *desk.out).map_err(of_file)?,
        Some(path) => write(output.format, records, File::create(path).map_err(of_file)?).map_err(of_file)?,
    };
    match &output.path {
        Some(path) if desk.json => desk.show(|_| String::new(), || json!({ "records": count, "file": path }))?,
        _ => desk.remark(&say!("invented-records", count = count)),
    }
    for word in command.units.iter().filter_map(|unit| ambiguous(&directory, unit)) {
        desk.remark(&word);
    }
    Ok(Exit::Done)
}

/// What to know of a code that has meant two units and came without a day.
fn ambiguous(directory: &Directory, code: &str) -> Option<Message> {
    let [before, today] = [BEFORE_REFORM, REFORM].map(|day| directory.unit(code, day));
    let (before, today) = (before?, today?);
    let name = |unit| directory.path_name(unit).unwrap_or_default();
    (before != today).then(|| {
        let written = format!("{code}@{BEFORE_REFORM}");
        say!("code-of-two-units", code = code, today = name(today), before = name(before), written = written)
    })
}

/// Says which units codes mean.
pub(super) fn units(units: &[String], desk: &mut Desk<'_>) -> Result<Exit, Failure> {
    let directory = directory()?;
    let found: Vec<UnitId> = units.iter().map(|unit| find_unit(&directory, unit)).collect::<Result<_, _>>()?;
    for unit in found.into_iter().filter_map(|id| directory.get(id)) {
        let (id, tier, path) =
            (unit.id.to_string(), unit.tier.name(), directory.path_name(unit.id).unwrap_or_default());
        desk.show(
            |lang| {
                let tier = Message::word("tier", tier).text(lang);
                format!("{id}  {tier:<8}  {:<5}  {path}", unit.code)
            },
            || json!({ "unit": id, "code": unit.code, "name": unit.name, "tier": tier, "path": path }),
        )?;
    }
    Ok(Exit::Done)
}

/// The unit that is named by its id, or by its code and a day.
pub(super) fn unit_typed(directory: &impl Resolve, unit: &str) -> Option<UnitId> {
    let by_code = || {
        let (code, day) = unit.split_once('@')?;
        directory.unit(code, day.parse::<Date>().ok()?)
    };
    unit.parse().ok().or_else(by_code)
}

pub(super) fn find_unit(directory: &Directory, unit: &str) -> Result<UnitId, Failure> {
    // A code alone means today's unit, or else the last one that had it.
    let alone = || [REFORM, BEFORE_REFORM].into_iter().find_map(|day| directory.unit(unit, day));
    unit_typed(directory, unit).or_else(alone).ok_or_else(|| Failure::usage(say!("no-unit-known", unit = unit)))
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
    output: &Output,
    desk: &mut Desk<'_>,
) -> Result<(), Failure> {
    let directory = client.units().await?;
    let mut pages = std::pin::pin!(client.export(context, shard));
    let mut tally = Tally::default();
    let of_file = |error| output.of_file(error);
    // Before anything is asked for: what cannot be written should not have been looked at.
    let mut extract = output.path.as_deref().map(Extract::begin).transpose().map_err(of_file)?;
    let out: &mut (dyn Write + Send) = match &mut extract {
        Some(extract) => extract,
        None => &mut *desk.out,
    };
    let mut writer = Writer::begin(output.format, out).map_err(of_file)?;
    let mut watch_from = 0;
    while let Some(page) = pages.next().await {
        let page = page?;
        watch_from = page.watch_from;
        for record in &page.records {
            writer.put(&draft_of(record, &directory, &mut tally)?).map_err(of_file)?;
        }
    }
    tally.records = writer.finish().map_err(of_file)?;
    if let Some(extract) = extract {
        extract.finish().map_err(of_file)?;
    }
    let Tally { records, values_left_out, fields_unknown } = tally;
    if desk.json {
        let mut summary = json!({
            "records": records, "values_left_out": values_left_out, "fields_unknown": fields_unknown,
            "watch_from": watch_from,
        });
        let Some(path) = &output.path else { return desk.aside(&summary) };
        summary["file"] = json!(path);
        return desk.show(|_| String::new(), || summary);
    }
    let of = shard.map(|shard| format!(" --shard {shard}")).unwrap_or_default();
    let watch = format!("dinhba watch{of} --from {watch_from}");
    desk.remark(&say!("exported", count = records, watch = watch));
    if values_left_out > 0 {
        desk.remark(&say!("values-left-out", count = values_left_out));
    }
    if fields_unknown > 0 {
        desk.remark(&say!("fields-left-out", count = fields_unknown));
    }
    Ok(())
}

/// The file of an extract. It gets its name once it is whole: what has that name stays until then, and nobody takes a
/// broken extract for a whole one.
pub(super) struct Extract {
    file: BufWriter<File>,
    path: PathBuf,
    /// Where it is written meanwhile; none for what is no ordinary file, such as a pipe.
    part: Option<PathBuf>,
}

impl Extract {
    /// What is written over: the file, and where it is written meanwhile.
    pub(super) fn paths(path: &Path) -> (PathBuf, Option<PathBuf>) {
        // A link stays one: what it points to is replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let is_replaced = fs::metadata(&path).map_or(true, |there| there.is_file());
        let part = is_replaced.then(|| {
            let mut name = path.clone().into_os_string();
            name.push(".part");
            PathBuf::from(name)
        });
        (path, part)
    }

    pub(super) fn begin(path: &Path) -> io::Result<Self> {
        let (path, part) = Self::paths(path);
        let mut options = OpenOptions::new();
        // All of a unit's personal data.
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = BufWriter::new(options.open(part.as_ref().unwrap_or(&path))?);
        Ok(Extract { file, path, part })
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.file.flush()?;
        if let Some(part) = &self.part {
            self.file.get_ref().sync_all()?;
            fs::rename(part, &self.path)?;
        }
        self.part = None;
        Ok(())
    }
}

impl Drop for Extract {
    fn drop(&mut self) {
        if let Some(part) = &self.part
            && let Err(error) = fs::remove_file(part)
        {
            tracing::warn!(%error, "the unfinished extract cannot be removed");
        }
    }
}

impl Write for Extract {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn draft_of(record: &v1::Record, directory: &Directory, tally: &mut Tally) -> Result<DraftRecord, Failure> {
    let kind = RecordKind::named(&record.kind)
        .ok_or_else(|| Failure::Other(say!("record-of-unknown-kind", record = &record.id)))?;
    let named = record.unit.parse().ok().and_then(|unit| directory.named(unit));
    let mut fields = Vec::new();
    for field in &record.fields {
        // Of equals the first, as a node shows them.
        let Some(latest) = field.values.iter().rev().max_by_key(|value| value.received_ms) else { continue };
        let Some(id) = FieldId::named(kind, &field.field) else {
            tally.fields_unknown += 1;
            continue;
        };
        if field.disputed {
            tally.values_left_out += field.values.len() as u64 - 1;
        }
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
    let mark = |id: &str| Some(format!("{TEMPORARY}{id}"));
    map_references(field, text, mark).unwrap_or_else(|| text.to_owned())
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
        let value =
            |text: &str, received_ms| v1::FieldValue { value: text.into(), received_ms, ..v1::FieldValue::default() };
        let field = |name: &str, values| v1::Field { field: name.into(), values, ..v1::Field::default() };
        let record = v1::Record {
            id: ID.into(),
            kind: "person".into(),
            unit: unit.to_string(),
            fields: vec![
                v1::Field {
                    disputed: true,
                    ..field("birth_date", vec![value("1975-02-03", 9), value("1975-03-02", 1)])
                },
                // Without legal weight: the latest counts, and of equals the first.
                field("note", vec![value("b", 9), value("a", 9), value("c", 1)]),
                field("email", vec![value("", 1)]),
                field("invented_later", vec![value("x", 1)]),
            ],
            ..v1::Record::default()
        };
        let mut tally = Tally::default();
        let draft = draft_of(&record, &directory, &mut tally).unwrap();
        assert_eq!((draft.id.as_str(), draft.home.as_deref()), (&*format!("@{ID}"), Some("00001@2025-06-30")));
        assert_eq!(draft.text(field::BIRTH_DATE), Some("1975-02-03"));
        assert_eq!((draft.text(field::NOTE), draft.fields.len()), (Some("b"), 2));
        assert_eq!(tally, Tally { records: 0, values_left_out: 1, fields_unknown: 1 });
    }

    #[test]
    fn a_broken_extract_leaves_what_was_there() {
        let dir = std::env::temp_dir().join(format!("dinhba-extract-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("02683.ndjson");
        let names = || fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
        fs::write(&path, "old").unwrap();
        let mut broken = Extract::begin(&path).unwrap();
        broken.write_all(b"new").unwrap();
        drop(broken);
        assert_eq!((fs::read_to_string(&path).unwrap(), names()), ("old".to_owned(), vec!["02683.ndjson".into()]));
        let mut whole = Extract::begin(&path).unwrap();
        whole.write_all(b"new").unwrap();
        whole.finish().unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap(), names()), ("new".to_owned(), vec!["02683.ndjson".into()]));
        // What is no file is written to, and stays what it is.
        Extract::begin(Path::new("/dev/null")).unwrap().finish().unwrap();
        assert!(Extract::begin(&dir.join("absent/x")).is_err());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_code_that_changed_hands_is_pointed_out() {
        let directory = directory().unwrap();
        let word = ambiguous(&directory, "02683").unwrap().to_string();
        assert!(word.contains("Xã Bát Xát") && word.contains("02683@2025-06-30"), "{word}");
        for clear in ["02683@2025-06-30", "082", "99999", "u-d3e3493909ea6b7b"] {
            assert_eq!(ambiguous(&directory, clear), None, "{clear}");
        }
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
