//! Records in files that people can open: NDJSON and CSV, written here and read with tolerance.
//!
//! **NDJSON** (`.ndjson`): one record a line, `{"kind":"person","id":"@p1","home":"00001@2025-06-30","fields":{…}}`. The
//! keys of `fields` are names of the schema, repeated ones with their element key: `"relative[father]"`.
//!
//! **CSV** (`.csv`): one record a row, wide, so that a spreadsheet shows a person on a line. UTF-8 with a byte order mark,
//! without which spreadsheets garble Vietnamese. Columns: `kind`, `id`, `home`, then every field of the schema by name.
//! A cell of a repeated field (`relative`, `identity_card`, `document`) holds one element a line: `father: name=…`.
//! An empty cell says nothing about a field; it does not clear it.
//!
//! Reading takes more than is written: commas, semicolons or tabs between columns; columns in any order, by their
//! Vietnamese labels too; a column per element (`relative[father]`); rows without `kind` (a person), `id` (`@row<line>`) or
//! `home`. All text comes out in normal form NFC. What cannot be read is an error of its row, never the end of the file, and
//! never silent: an unknown column is an error of the first line, said once, and the rest is read.
//! Whether a text is a value of its field is left to `schema::parse`.
//!
//! Limits: a line of NDJSON has [`LINE_BYTES_MAX`] bytes at most; one CSV row is held in memory.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use dinhba_core::schema::{ELEMENT_BYTES_MAX, FieldId, RecordKind, Repeat, fields};
use dinhba_core::text::{fold, tidy, to_nfc};
use serde_json::{Map, Value as Json, json};

use super::{DraftField, DraftRecord};

/// Bytes of a line of NDJSON: far more than a record of all fields needs, little enough to hold.
pub const LINE_BYTES_MAX: u64 = 1024 * 1024;

/// What a reader yields.
pub type Row = Result<DraftRecord, RowError>;

/// A row that cannot be read. Says where and why, never what stood there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct RowError {
    /// The line of the file on which the row begins, from 1.
    pub line: u64,
    /// What is wrong.
    pub reason: String,
}

/// A form of file.
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
            "csv" | "tsv" => Some(Format::Csv),
            _ => None,
        }
    }
}

/// Writes records in `format`; returns how many.
///
/// # Errors
/// Those of `out`.
pub fn write(format: Format, records: impl IntoIterator<Item = DraftRecord>, out: impl Write) -> io::Result<u64> {
    match format {
        Format::Ndjson => write_ndjson(records, out),
        Format::Csv => write_csv(records, out),
    }
}

fn write_ndjson(records: impl IntoIterator<Item = DraftRecord>, out: impl Write) -> io::Result<u64> {
    let mut out = io::BufWriter::new(out);
    let mut count = 0;
    for record in records {
        let key = |entry: &DraftField| match entry.element.as_str() {
            "" => entry.field.to_string(),
            element => format!("{}[{element}]", entry.field),
        };
        let fields: Map<String, Json> = record.fields.iter().map(|entry| (key(entry), json!(entry.text))).collect();
        let mut object = json!({ "kind": record.kind.name(), "id": record.id, "fields": fields });
        if let Some(home) = &record.home {
            object["home"] = json!(home);
        }
        writeln!(out, "{object}")?;
        count += 1;
    }
    out.flush()?;
    Ok(count)
}

fn write_csv(records: impl IntoIterator<Item = DraftRecord>, mut out: impl Write) -> io::Result<u64> {
    out.write_all("\u{feff}".as_bytes())?;
    let mut table = csv::Writer::from_writer(out);
    let names = column_names();
    table.write_record(["kind", "id", "home"].iter().copied().chain(names.iter().copied()))?;
    let mut count = 0;
    for record in records {
        let mut cells: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for entry in &record.fields {
            let line = if entry.element.is_empty() {
                entry.text.clone()
            } else {
                format!("{}: {}", entry.element, entry.text)
            };
            cells.entry(entry.field.to_string()).or_default().push(line);
        }
        let home = record.home.clone().unwrap_or_default();
        let row = [record.kind.name().to_owned(), record.id.clone(), home].into_iter();
        table.write_record(row.chain(names.iter().map(|&name| cells.remove(name).unwrap_or_default().join("\n"))))?;
        if let Some(name) = cells.keys().next() {
            return Err(io::Error::other(format!("{name} is not in the schema: write NDJSON, which takes any field")));
        }
        count += 1;
    }
    table.flush()?;
    Ok(count)
}

/// The names of all fields, each once: `note` is one column for persons and households.
fn column_names() -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for field in RecordKind::ALL.into_iter().flat_map(fields) {
        if !names.contains(&field.name) {
            names.push(field.name);
        }
    }
    names
}

/// Reads the records of a file; its form is told by its name, else by how it begins.
///
/// # Errors
/// The file cannot be opened. What is wrong inside it comes with its row.
pub fn read(path: &Path) -> io::Result<Box<dyn Iterator<Item = Row>>> {
    let mut file = File::open(path)?;
    let mut start = [0; 64];
    let len = file.read(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    let begins_as_json = || start[..len].trim_ascii_start().starts_with(b"{");
    let format = Format::of(path).unwrap_or_else(|| if begins_as_json() { Format::Ndjson } else { Format::Csv });
    read_from(format, file)
}

/// Reads records from anything.
///
/// # Errors
/// The first bytes cannot be read.
pub fn read_from(format: Format, input: impl Read + 'static) -> io::Result<Box<dyn Iterator<Item = Row>>> {
    let mut input = BufReader::new(input);
    if input.fill_buf()?.starts_with("\u{feff}".as_bytes()) {
        input.consume("\u{feff}".len());
    }
    Ok(match format {
        Format::Ndjson => Box::new(Lines { input, line: 0, is_done: false }),
        Format::Csv => Box::new(Table::new(input)?),
    })
}

struct Lines<R> {
    input: R,
    line: u64,
    is_done: bool,
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        while !self.is_done {
            self.line += 1;
            let fail = |reason: String| Some(Err(RowError { line: self.line, reason }));
            let mut bytes = Vec::new();
            match (&mut self.input).take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut bytes) {
                Ok(0) => self.is_done = true,
                Ok(len) if len as u64 > LINE_BYTES_MAX => {
                    if !bytes.ends_with(b"\n") && skip_line(&mut self.input).is_err() {
                        self.is_done = true;
                    }
                    return fail(format!("is longer than {LINE_BYTES_MAX} bytes"));
                }
                Ok(_) if bytes.trim_ascii().is_empty() => {}
                Ok(_) => {
                    return Some(read_object(self.line, &bytes).map_err(|reason| RowError { line: self.line, reason }));
                }
                Err(error) => {
                    self.is_done = true;
                    return fail(format!("cannot be read: {error}"));
                }
            }
        }
        None
    }
}

/// Passes over the rest of a line without holding it.
fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        let end = buffer.iter().position(|&b| b == b'\n');
        let (used, is_over) = (end.map_or(buffer.len(), |at| at + 1), end.is_some() || buffer.is_empty());
        input.consume(used);
        if is_over {
            return Ok(());
        }
    }
}

fn read_object(line: u64, bytes: &[u8]) -> Result<DraftRecord, String> {
    // The parser's own message may quote the text: its place is enough.
    let object: Json =
        serde_json::from_slice(bytes).map_err(|e| format!("is no JSON object (column {})", e.column()))?;
    let Json::Object(mut object) = object else { return Err("is no JSON object".to_owned()) };
    let mut text_of = |key: &str| match object.remove(key) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(text)) => Ok(Some(tidy(&text)).filter(|text| !text.is_empty())),
        Some(_) => Err(format!("{key} must be a text")),
    };
    let (kind, id, home) = (text_of("kind")?, text_of("id")?, text_of("home")?);
    let mut record = start_record(line, kind.as_deref(), id, home)?;
    let Some(Json::Object(entries)) = object.remove("fields") else {
        return Err("has no object \"fields\"".to_owned());
    };
    if !object.is_empty() {
        return Err("has keys other than kind, id, home and fields".to_owned());
    }
    for (key, value) in entries {
        let column = Column::named(&key).ok_or("has an unknown field")?;
        let text = match value {
            Json::String(text) => text,
            Json::Null => continue,
            Json::Number(number) => number.to_string(),
            Json::Bool(flag) => if flag { "yes" } else { "no" }.to_owned(),
            Json::Array(_) | Json::Object(_) => return Err(format!("{} must be a text", column.name)),
        };
        column.put(&mut record, &text, Empty::Clears)?;
    }
    finish(record)
}

fn start_record(
    line: u64,
    kind: Option<&str>,
    id: Option<String>,
    home: Option<String>,
) -> Result<DraftRecord, String> {
    let kind = match kind.map(fold).as_deref() {
        None | Some("nguoi") => RecordKind::Person,
        Some("ho") => RecordKind::Household,
        Some(name) => RecordKind::named(name).ok_or("kind must be person or household")?,
    };
    Ok(DraftRecord { kind, id: id.unwrap_or_else(|| format!("@row{line}")), home, fields: Vec::new() })
}

fn finish(mut record: DraftRecord) -> Parsed {
    record.sort();
    let twice =
        record.fields.windows(2).find(|pair| (pair[0].field, &pair[0].element) == (pair[1].field, &pair[1].element));
    match twice {
        Some(pair) => Err(format!("{} stands there twice", pair[0].field)),
        None => Ok(record),
    }
}

type Parsed = Result<DraftRecord, String>;

/// What an empty text says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Empty {
    Nothing,
    Clears,
}

/// Where the texts of a column or key go.
#[derive(Clone)]
struct Column {
    name: String,
    element: String,
}

impl Column {
    /// By the name or the label of a field, perhaps with an element key behind it; none if no kind of record has it.
    fn named(header: &str) -> Option<Self> {
        let header = tidy(header);
        let (name, element) = match header.strip_suffix(']').and_then(|header| header.split_once('[')) {
            Some((name, element)) => (name.trim(), element.trim().to_lowercase()),
            None => (header.as_str(), String::new()),
        };
        let folded = fold(name).replace(' ', "_");
        let known = RecordKind::ALL.into_iter().flat_map(fields);
        let known = known.into_iter().find(|f| f.name == folded || fold(f.label).replace(' ', "_") == folded);
        let name = match known {
            Some(field) => field.name.to_owned(),
            None => FieldId::named(RecordKind::Person, name)?.to_string(),
        };
        Some(Column { name, element })
    }

    fn put(&self, record: &mut DraftRecord, text: &str, empty: Empty) -> Result<(), String> {
        let is_empty = text.trim().is_empty();
        if is_empty && empty == Empty::Nothing {
            return Ok(());
        }
        let field = FieldId::named(record.kind, &self.name);
        let field = field.ok_or_else(|| format!("{} is no field of a {}", self.name, record.kind))?;
        let repeats = field.get().is_some_and(|field| field.repeat != Repeat::Once);
        if !repeats || !self.element.is_empty() {
            record.put(field, &self.element, tidy(text));
            return Ok(());
        }
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let line = tidy(line);
            let split = line.split_once(':').filter(|(element, _)| element.len() <= ELEMENT_BYTES_MAX);
            let (element, text) =
                split.ok_or_else(|| format!("{} must have an element key on each line: father: …", self.name))?;
            record.put(field, &element.trim().to_lowercase(), text.trim());
        }
        Ok(())
    }
}

/// What a column of a table is.
enum Role {
    Kind,
    Id,
    Home,
    Field(Column),
    Ignored,
}

impl Role {
    /// By the header of the column; none if it is not known.
    fn named(header: &str) -> Option<Self> {
        Some(match fold(header).as_str() {
            "kind" => Role::Kind,
            "id" => Role::Id,
            "home" => Role::Home,
            "" => Role::Ignored,
            _ => Role::Field(Column::named(header)?),
        })
    }
}

/// What stands between columns: that which makes most of the header known, since labels may have commas in them.
fn delimiter_of(header: &[u8]) -> u8 {
    let known = |delimiter: u8| {
        let mut table = csv::ReaderBuilder::new().has_headers(false).delimiter(delimiter).from_reader(header);
        let Some(Ok(row)) = table.byte_records().next() else { return (0, 0) };
        let names = row.iter().map(|name| to_nfc(&String::from_utf8_lossy(name)));
        let known = names.filter(|name| matches!(Role::named(name), Some(role) if !matches!(role, Role::Ignored)));
        (known.count(), row.len())
    };
    // Of equals the last one wins.
    [b'\t', b';', b','].into_iter().max_by_key(|&delimiter| known(delimiter)).unwrap_or(b',')
}

/// Hands out a file line by line, so that whoever reads a row knows on which line it began: the readers take no more than
/// they need.
pub(crate) struct ByLine<R> {
    pub(crate) input: R,
    pub(crate) lines: LineMark,
}

/// Which line of a file is being read; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct LineMark(Arc<Mutex<LineCount>>);

#[derive(Default)]
struct LineCount {
    /// Lines that were begun.
    handed_out: u64,
    is_inside: bool,
    /// The first line with anything on it that was handed out since the last row.
    first: Option<u64>,
}

impl LineMark {
    fn lock(&self) -> std::sync::MutexGuard<'_, LineCount> {
        // A poisoned lock guards plain numbers.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on, what is read belongs to the next row.
    pub(crate) fn begin_row(&self) {
        self.lock().first = None;
    }

    /// The line on which that row began.
    pub(crate) fn of_row(&self) -> u64 {
        let count = self.lock();
        count.first.unwrap_or(count.handed_out)
    }

    /// That line, if anything was read since.
    pub(crate) fn read_since(&self) -> Option<u64> {
        self.lock().first
    }
}

impl<R: BufRead> Read for ByLine<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.input.fill_buf()?;
        let end = available.iter().position(|&b| b == b'\n').map_or(available.len(), |at| at + 1).min(buffer.len());
        buffer[..end].copy_from_slice(&available[..end]);
        let mut count = self.lines.lock();
        if end > 0 && !count.is_inside {
            count.handed_out += 1;
        }
        if count.first.is_none() && !buffer[..end].trim_ascii().is_empty() {
            count.first = Some(count.handed_out);
        }
        count.is_inside = end > 0 && buffer[end - 1] != b'\n';
        drop(count);
        self.input.consume(end);
        Ok(end)
    }
}

struct Table<R> {
    rows: csv::ByteRecordsIntoIter<ByLine<R>>,
    lines: LineMark,
    roles: Vec<Role>,
    errors: VecDeque<RowError>,
    is_done: bool,
}

impl<R: BufRead> Table<R> {
    fn new(mut input: R) -> io::Result<Self> {
        let start = input.fill_buf()?;
        let header = start.split(|&b| b == b'\n').next().unwrap_or_default();
        let delimiter = delimiter_of(header);
        let lines = LineMark::default();
        let input = ByLine { input, lines: lines.clone() };
        let mut table = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(input);
        let mut errors = VecDeque::new();
        let mut roles = Vec::new();
        for (index, name) in table.byte_headers()?.iter().enumerate() {
            let name = to_nfc(&String::from_utf8_lossy(name));
            roles.push(Role::named(&name).unwrap_or_else(|| {
                let reason = format!("column {} is not of the schema and is left out", index + 1);
                errors.push_back(RowError { line: 1, reason });
                Role::Ignored
            }));
        }
        Ok(Table { rows: table.into_byte_records(), lines, roles, errors, is_done: false })
    }

    fn record(&self, line: u64, row: &csv::ByteRecord) -> Parsed {
        let text = |cell: &[u8]| String::from_utf8(cell.to_vec()).map_err(|_| "is not UTF-8 text".to_owned());
        let (mut kind, mut id, mut home) = (None, None, None);
        if row.iter().skip(self.roles.len()).any(|cell| !cell.is_empty()) {
            return Err("has more cells than there are columns".to_owned());
        }
        for (cell, role) in row.iter().zip(&self.roles) {
            let place = match role {
                Role::Kind => &mut kind,
                Role::Id => &mut id,
                Role::Home => &mut home,
                Role::Field(_) | Role::Ignored => continue,
            };
            *place = Some(tidy(&text(cell)?)).filter(|text| !text.is_empty());
        }
        let mut record = start_record(line, kind.as_deref(), id, home)?;
        for (cell, role) in row.iter().zip(&self.roles) {
            if let Role::Field(column) = role {
                column.put(&mut record, &text(cell)?, Empty::Nothing)?;
            }
        }
        finish(record)
    }
}

impl<R: BufRead> Iterator for Table<R> {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        if let Some(error) = self.errors.pop_front() {
            return Some(Err(error));
        }
        while !self.is_done {
            // The parser counts from the end of the row before, which with CRLF lies on that row's own line.
            self.lines.begin_row();
            let row = self.rows.next();
            let line = self.lines.of_row();
            match row {
                None => self.is_done = true,
                Some(Ok(row)) if row.iter().all(|cell| cell.trim_ascii().is_empty()) => {}
                Some(Ok(row)) => return Some(self.record(line, &row).map_err(|reason| RowError { line, reason })),
                Some(Err(error)) => {
                    // Rows of any length pass, so what is left are errors of the disk: they would come again for ever.
                    self.is_done = true;
                    return Some(Err(RowError { line, reason: format!("cannot be read: {error}") }));
                }
            }
        }
        None
    }
}
