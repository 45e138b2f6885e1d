//! Records into files, as NDJSON or as a table. What is written here is read by the rest of this room.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use dinhba_core::schema::{RecordKind, fields};
use serde_json::{Map, Value as Json, json};

use crate::draft::{DraftField, DraftRecord};

/// A form of file that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Ndjson,
    /// A table.
    Csv,
}

impl Format {
    /// By the end of the file's name; none if it says nothing.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "ndjson" | "jsonl" | "json" => Some(Format::Ndjson),
            "csv" => Some(Format::Csv),
            _ => None,
        }
    }

    /// By its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "ndjson" => Some(Format::Ndjson),
            "csv" => Some(Format::Csv),
            _ => None,
        }
    }
}

/// Writes records one after the other.
pub struct Writer<W: Write> {
    form: Form<W>,
    count: u64,
}

enum Form<W: Write> {
    Ndjson(BufWriter<W>),
    Csv { table: Box<csv::Writer<W>>, names: Vec<&'static str> },
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn begin(format: Format, out: W) -> io::Result<Self> {
        let form = match format {
            Format::Ndjson => Form::Ndjson(BufWriter::new(out)),
            Format::Csv => {
                let names = column_names();
                let table = begin_table(out, ["kind", "id", "home"].iter().chain(&names))?;
                Form::Csv { table: Box::new(table), names }
            }
        };
        Ok(Writer { form, count: 0 })
    }

    /// Adds a record.
    ///
    /// # Errors
    /// Those of `out`; a field that a table has no column for.
    pub fn put(&mut self, record: &DraftRecord) -> io::Result<()> {
        match &mut self.form {
            Form::Ndjson(out) => writeln!(out, "{}", object(record))?,
            Form::Csv { table, names } => table.write_record(row(record, names)?)?,
        }
        self.count += 1;
        Ok(())
    }

    /// Ends the file; returns how many records are in it.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn finish(mut self) -> io::Result<u64> {
        match &mut self.form {
            Form::Ndjson(out) => out.flush()?,
            Form::Csv { table, .. } => table.flush()?,
        }
        Ok(self.count)
    }
}

/// Writes records in `format`; returns how many.
///
/// # Errors
/// Those of `out`.
pub fn write(format: Format, records: impl IntoIterator<Item = DraftRecord>, out: impl Write) -> io::Result<u64> {
    let mut writer = Writer::begin(format, out)?;
    for record in records {
        writer.put(&record)?;
    }
    writer.finish()
}

/// Begins a table as spreadsheets take it: without the byte order mark they garble Vietnamese.
pub(super) fn begin_table<W: Write>(
    mut out: W,
    titles: impl IntoIterator<Item = impl AsRef<[u8]>>,
) -> io::Result<csv::Writer<W>> {
    out.write_all("\u{feff}".as_bytes())?;
    let mut table = csv::Writer::from_writer(out);
    table.write_record(titles)?;
    Ok(table)
}

fn object(record: &DraftRecord) -> Json {
    let key = |entry: &DraftField| match entry.element.as_str() {
        "" => entry.field.to_string(),
        element => format!("{}[{element}]", entry.field),
    };
    let fields: Map<String, Json> = record.fields.iter().map(|entry| (key(entry), json!(entry.text))).collect();
    let mut object = json!({ "kind": record.kind.name(), "id": record.id, "fields": fields });
    if let Some(home) = &record.home {
        object["home"] = json!(home);
    }
    object
}

fn row(record: &DraftRecord, names: &[&'static str]) -> io::Result<Vec<String>> {
    let mut cells: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in &record.fields {
        let line = match entry.element.as_str() {
            "" => entry.text.clone(),
            element => format!("{element}: {}", entry.text),
        };
        cells.entry(entry.field.to_string()).or_default().push(line);
    }
    let home = record.home.clone().unwrap_or_default();
    let mut row = vec![record.kind.name().to_owned(), record.id.clone(), home];
    row.extend(names.iter().map(|&name| cells.remove(name).unwrap_or_default().join("\n")));
    match cells.keys().next() {
        None => Ok(row),
        Some(name) => {
            Err(io::Error::other(format!("{name} is not in the schema: write NDJSON, which takes any field")))
        }
    }
}

/// The names of all fields, each once: `note` is one column for persons and households.
fn column_names() -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for field in RecordKind::OF_PEOPLE.into_iter().flat_map(fields) {
        if !names.contains(&field.name) {
            names.push(field.name);
        }
    }
    names
}
