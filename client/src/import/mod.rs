//! Files of persons: what is read, what is doubted, and what is written.
//!
//! **NDJSON**: one record a line, `{"kind":"person","id":"@p1","home":"00001@2025-06-30","fields":{…}}`. The keys of
//! `fields` are names of the schema, repeated ones with their element key: `"relative[father]"`.
//!
//! **Tables**: one record a row, wide, so that a spreadsheet shows a person on a line; as text (commas, semicolons, tabs or
//! bars between cells, a first line `sep=;`, UTF-8 or UTF-16 with its mark) or as a sheet of a workbook (`.xlsx`). Columns by
//! the fields' names or Vietnamese labels, in any order, or by a table of [`Titles`]; `kind`, `id` and `home` beside them. A
//! cell of a repeated field (`relative`, `identity_card`, `document`) holds one element a line: `father: name=…`; a column
//! per element (`relative[father]`) does too. An empty cell says nothing about a field.
//!
//! A row without `kind` is a person. Its `id` is its own (a number of the list, a file number), or, with `@` in front, a name
//! inside the file to which other rows refer; `@r-…`, which an extract gives, is its own too. A label means the field of the
//! row's kind. All text comes out in normal form NFC.
//!
//! **Nothing is taken from a file whose structure is in doubt**: [`Records::read`] gives the rows of the whole file or says
//! what is doubtful, by line. Doubtful is what may make one row of two or half a row of one: a quote without an end or
//! inside a cell; a line break in a cell whose field does not repeat, or without a key on each line; more or fewer cells than
//! the header has; a last row without a line end, which may be cut; an unknown or doubled column, something in a column
//! without a title, more than 256 columns, a header that comes again; mixed or lone line ends, NUL, an encoding that does not name itself; merged
//! cells, several sheets; a line that is no whole object. Whether a text is a value of its field concerns its row alone, and
//! is left to `plan`.
//!
//! What could not be read, here or wherever the file comes from, stands as U+FFFD and is refused with its row.
//!
//! Limits: the file is held in memory, at most [`FILE_BYTES_MAX`] and [`ROWS_MAX`], and a table's cells beside it, in at most
//! twice as many bytes; a workbook is unpacked before its size is known. Rows are only ever created.

mod cells;
mod columns;
mod objects;
pub mod plan;

#[cfg(test)]
mod tests;
mod text;
mod workbook;
mod write;

use std::io::{self, Read, Write};
use std::path::Path;

use csv::StringRecord;
use dinhba_core::ids::RecordId;
use dinhba_core::schema::RecordKind;
use dinhba_core::text::{fold, tidy};

use self::cells::Rows;
use self::columns::{REJECTED, Role, columns_of, element_of, on_one_line, separator_of};
use crate::draft::DraftRecord;

pub use columns::Titles;
pub use write::{Format, Writer, write};

/// Bytes of a file, as they lie there and as text: five times a commune of 100,000 persons with all fields, and what an
/// office's computer can hold some times over.
pub const FILE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Rows of a file: a district's. Beside its cells, some 250 bytes are remembered of each.
pub const ROWS_MAX: usize = 1_000_000;

/// Columns of a table: the fields of all records, and one for each relative of a large family, some times over.
const COLUMNS_MAX: usize = 256;

/// Bytes of a table's cells, with the place of each: twice those of the largest file, so that a district's rows have room
/// for a cell of every field, and rows of nothing but separators take no more.
const TABLE_BYTES_MAX: usize = 2 * FILE_BYTES_MAX;

/// Stands for what could not be read, here or wherever a file comes from. It is never taken for a value.
const LOST: &str = "\u{fffd}";

/// Doubts that are said at once: a file with more is wrong as a whole.
const DOUBTS_MAX: usize = 20;

/// Something that is wrong with a file or one of its rows. Says where and why, never what stood there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line of the file, or the row of the sheet, from 1; 0 for the file as a whole.
    pub line: u64,
    /// What is wrong, and what to do.
    pub reason: String,
}

impl Problem {
    fn at(line: u64, reason: impl Into<String>) -> Self {
        Problem { line, reason: reason.into() }
    }

    fn of_file(reason: impl Into<String>) -> Self {
        Problem::at(0, reason)
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&crate::language::Message::of_problem(self).to_string())
    }
}

fn too_large() -> Problem {
    Problem::of_file(format!("is larger than {} MiB: split it", FILE_BYTES_MAX / (1024 * 1024)))
}

fn too_many_columns(line: u64) -> Problem {
    Problem::at(line, format!("has more than {COLUMNS_MAX} columns: leave out those that hold nothing of a record"))
}

/// What the caller says of a file.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// What titles of columns mean.
    pub titles: Titles,
    /// The sheet of a workbook; without it, the only one in which something stands.
    pub sheet: Option<String>,
    /// That a last row without a line end is a whole one.
    pub is_whole: bool,
}

/// Reads everything that `input` has, up to [`FILE_BYTES_MAX`].
///
/// # Errors
/// Those of `input`; more bytes than that.
pub fn take_bytes(input: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, too_large().to_string()));
    }
    Ok(bytes)
}

/// What a row became: a record, or why it is none.
type Drafted = Result<DraftRecord, String>;

/// A row of a table.
struct Line {
    line: u64,
    /// As many as there are columns.
    cells: StringRecord,
    /// What a sheet says against one of them.
    problem: Option<String>,
}

struct Table {
    header: StringRecord,
    roles: Vec<Role>,
    lines: Vec<Line>,
    /// Of all cells, with the place of each.
    bytes: usize,
    /// Rows whose id is a number in a sheet.
    ids_as_numbers: u64,
}

const HEADER_AGAIN: &str = "is the header again: were files put together? Import each by itself";

fn untitled(column: usize) -> String {
    format!("something stands in column {column}, which has no title: name it, or empty it")
}

/// What cells take in memory.
fn bytes_of(cells: &StringRecord) -> usize {
    cells.as_slice().len() + cells.len() * size_of::<usize>()
}

enum Content {
    Table(Table),
    /// Lines of text with their numbers, each a whole JSON object.
    Objects {
        text: String,
        titles: Titles,
    },
}

/// The rows of a file whose structure is in no doubt.
pub struct Records(Content);

impl Records {
    /// Reads a file; `named` is how it is called, which tells its form unless its first bytes do.
    ///
    /// # Errors
    /// Everything that makes its structure doubtful, at most twenty problems.
    pub fn read(bytes: &[u8], named: Option<&Path>, reading: &Reading) -> Result<Self, Vec<Problem>> {
        if bytes.starts_with(workbook::OLD_MARK) {
            let text =
                "is an old workbook (.xls) or has a password: save it as .xlsx or \"CSV UTF-8\" without a password";
            return Err(vec![Problem::of_file(text)]);
        }
        let content = if bytes.starts_with(workbook::MARK) {
            Content::Table(workbook::read(bytes, reading.sheet.as_deref(), &reading.titles)?)
        } else if reading.sheet.is_some() {
            return Err(vec![Problem::of_file("is no workbook (.xlsx), so it has no sheets: leave out --sheet")]);
        } else {
            let text = text::decode(bytes).map_err(|problem| vec![problem])?;
            let is_objects = match named.and_then(Format::of) {
                Some(format) => format == Format::Ndjson,
                None => text.trim_start().starts_with('{'),
            };
            if is_objects { objects_of(text, reading)? } else { Content::Table(table_of(&text, reading)?) }
        };
        let records = Records(content);
        match records.count() {
            0 => Err(vec![Problem::of_file("has a header and no row")]),
            1..=ROWS_MAX => Ok(records),
            _ => Err(vec![Problem::of_file(format!("has more than {ROWS_MAX} rows: split it"))]),
        }
    }

    fn count(&self) -> usize {
        match &self.0 {
            Content::Table(table) => table.lines.len(),
            Content::Objects { text, .. } => lines_of(text).count(),
        }
    }

    /// What each column is taken for, in order; none for what is passed over, nothing for NDJSON.
    #[must_use]
    pub fn columns(&self) -> Vec<Option<String>> {
        match &self.0 {
            Content::Table(table) => table.roles.iter().map(Role::title).collect(),
            Content::Objects { .. } => Vec::new(),
        }
    }

    /// The form in which rejected rows are written: objects as objects, and every table as text.
    #[must_use]
    pub fn rejected_format(&self) -> Format {
        match &self.0 {
            Content::Table(_) => Format::Csv,
            Content::Objects { .. } => Format::Ndjson,
        }
    }

    /// Rows whose id is a number in a sheet, which has no leading zeros whatever it shows: as text it would be another id.
    #[must_use]
    pub fn ids_as_numbers(&self) -> u64 {
        match &self.0 {
            Content::Table(table) => table.ids_as_numbers,
            Content::Objects { .. } => 0,
        }
    }

    /// Every row with its line: the record that stands there, or why there is none.
    pub fn rows(&self) -> Box<dyn Iterator<Item = (u64, Result<DraftRecord, String>)> + '_> {
        match &self.0 {
            Content::Table(table) => Box::new(table.lines.iter().map(|line| (line.line, table.record(line)))),
            Content::Objects { text, titles } => {
                Box::new(lines_of(text).map(|(line, text)| (line, objects::read(text, titles))))
            }
        }
    }

    /// Writes some of the rows as they stand here into a file that can be mended and imported by itself. `rejected` says why
    /// a row (by its place, from 0) is one of them; `find` knows the records of the others, to which these may refer.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_rejected(
        &self,
        out: impl Write,
        rejected: &dyn Fn(usize) -> Option<String>,
        find: &dyn Fn(&str) -> Option<RecordId>,
    ) -> io::Result<()> {
        match &self.0 {
            Content::Table(table) => {
                let titles: Vec<String> = table.roles.iter().filter_map(Role::title).collect();
                let titles = titles.iter().map(String::as_str).chain([REJECTED]);
                let mut written = write::begin_table(out, titles)?;
                for (place, line) in table.lines.iter().enumerate() {
                    if let Some(reason) = rejected(place) {
                        written.write_record(table.relinked(line, find).chain([reason]))?;
                    }
                }
                written.flush()
            }
            Content::Objects { text, titles } => {
                let mut out = io::BufWriter::new(out);
                for (place, (_, text)) in lines_of(text).enumerate() {
                    if let Some(reason) = rejected(place) {
                        writeln!(out, "{}", objects::rejected(text, &reason, titles, find))?;
                    }
                }
                out.flush()
            }
        }
    }
}

/// The lines on which anything stands.
fn lines_of(text: &str) -> impl Iterator<Item = (u64, &str)> {
    (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty())
}

fn objects_of(text: String, reading: &Reading) -> Result<Content, Vec<Problem>> {
    let doubts = lines_of(&text).filter_map(|(line, text)| {
        let reason = objects::check_form(text).err()?;
        Some(Problem::at(line, reason))
    });
    let doubts: Vec<Problem> = doubts.take(DOUBTS_MAX).collect();
    if doubts.is_empty() { Ok(Content::Objects { text, titles: reading.titles.clone() }) } else { Err(doubts) }
}

fn table_of(text: &str, reading: &Reading) -> Result<Table, Vec<Problem>> {
    let one = |problem| vec![problem];
    let named = text.lines().next().and_then(|line| line.strip_prefix("sep=")).map(str::as_bytes);
    let mut rows = match named {
        Some([separator]) if cells::SEPARATORS.contains(separator) => {
            let mut rows = Rows::of(text, *separator);
            rows.skip_line();
            rows
        }
        Some(_) => return Err(one(Problem::at(1, "names no separator that is known: sep=; or sep=,"))),
        None => Rows::of(text, separator_of(text, &reading.titles)),
    };
    let is_blank = |cells: &StringRecord| cells.iter().all(|cell| cell.trim().is_empty());
    let header = loop {
        match rows.next() {
            None => return Err(one(Problem::of_file("is empty"))),
            Some(row) => {
                let row = row.map_err(one)?;
                if !is_blank(&row.cells) {
                    break row;
                }
            }
        }
    };
    if let Some(column) = header.cells.iter().position(|title| title.contains('\n')) {
        let text = format!("the title of column {} runs over several lines: has its quote an end?", column + 1);
        return Err(one(Problem::at(header.line, text)));
    }
    let mut table = Table::of(header.cells.clone(), columns_of(header.line, &header.cells, &reading.titles)?);
    let (mut doubts, mut last) = (Vec::new(), (header.line, header.is_ended));
    for row in rows {
        if doubts.len() >= DOUBTS_MAX {
            break;
        }
        let row = match row {
            Ok(row) => row,
            Err(problem) => {
                doubts.push(problem);
                break;
            }
        };
        last = (row.line, row.is_ended);
        if is_blank(&row.cells) {
            continue;
        }
        if let Some(reason) = table.doubt(&row.cells) {
            doubts.push(Problem::at(row.line, reason));
        } else {
            table.take(Line { line: row.line, cells: row.cells, problem: None })?;
        }
    }
    if let ((line, false), true, false) = (last, doubts.is_empty(), reading.is_whole) {
        let text =
            "the file ends within this line: is it cut? If the row is whole, add a line end, or say so with --whole";
        doubts.push(Problem::at(line, text));
    }
    if doubts.is_empty() { Ok(table) } else { Err(doubts) }
}

impl Table {
    fn of(header: StringRecord, roles: Vec<Role>) -> Self {
        Table { header, roles, lines: Vec::new(), bytes: 0, ids_as_numbers: 0 }
    }

    /// Why a row of cells may not be the row that was meant.
    fn doubt(&self, cells: &StringRecord) -> Option<String> {
        let (here, wanted) = (cells.len(), self.roles.len());
        if here != wanted {
            return Some(format!(
                "has {here} cells and the header {wanted}: is the row cut, or is a separator or a quote missing?"
            ));
        }
        if self.is_header(cells) {
            return Some(HEADER_AGAIN.to_owned());
        }
        for ((cell, role), column) in cells.iter().zip(&self.roles).zip(1..) {
            if *role == Role::Unnamed && !cell.trim().is_empty() {
                return Some(untitled(column));
            }
            let takes_lines = matches!(role, Role::Field(field) if field.takes_lines());
            let has_keys = || cell.lines().all(|line| line.trim().is_empty() || element_of(line).is_some());
            if cell.contains('\n') && !(takes_lines && has_keys()) {
                return Some(format!(
                    "the cell of column {column} runs over several lines: has its quote an end? Write it on one line, or, \
                     where a field repeats, with a key on each (father: …)"
                ));
            }
        }
        None
    }

    fn is_header(&self, cells: &StringRecord) -> bool {
        cells.len() == self.header.len() && cells.iter().map(fold).eq(self.header.iter().map(fold))
    }

    fn take(&mut self, line: Line) -> Result<(), Vec<Problem>> {
        if self.lines.len() >= ROWS_MAX {
            return Err(vec![Problem::of_file(format!("has more than {ROWS_MAX} rows: split it"))]);
        }
        self.bytes += bytes_of(&line.cells);
        if self.bytes > TABLE_BYTES_MAX {
            return Err(vec![too_large()]);
        }
        self.lines.push(line);
        Ok(())
    }

    fn cell(line: &Line, roles: &[Role], wanted: &Role) -> Option<String> {
        let at = roles.iter().position(|role| role == wanted)?;
        Some(tidy(line.cells.get(at)?)).filter(|text| !text.is_empty())
    }

    fn record(&self, line: &Line) -> Drafted {
        if let Some(problem) = &line.problem {
            return Err(problem.clone());
        }
        let cell = |role| Table::cell(line, &self.roles, &role);
        let mut record = start(cell(Role::Kind).as_deref(), cell(Role::Id), cell(Role::Home))?;
        for (cell, role) in line.cells.iter().zip(&self.roles) {
            if let Role::Field(column) = role {
                column.put(&mut record, cell)?;
            }
        }
        finish(record)
    }

    /// The cells of the columns that have a title, with each reference that `find` knows replaced by it, and nothing in them
    /// that puts a table of text in doubt.
    fn relinked<'a>(
        &'a self,
        line: &'a Line,
        find: &'a dyn Fn(&str) -> Option<RecordId>,
    ) -> impl Iterator<Item = String> + 'a {
        let kind = Table::cell(line, &self.roles, &Role::Kind).map(|kind| kind_of(&kind));
        let kind = kind.and_then(Result::ok).unwrap_or(RecordKind::Person);
        line.cells.iter().zip(&self.roles).filter_map(move |(cell, role)| match role {
            Role::Field(column) => Some(column.relink(kind, cell, find)),
            Role::Kind | Role::Id | Role::Home => Some(on_one_line(cell)),
            Role::Ignored | Role::Unnamed => None,
        })
    }
}

fn kind_of(text: &str) -> Result<RecordKind, String> {
    match fold(text).as_str() {
        "" | "nguoi" => Ok(RecordKind::Person),
        "ho" => Ok(RecordKind::Household),
        name => RecordKind::OF_PEOPLE
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| "kind must be person or household".to_owned()),
    }
}

fn start(kind: Option<&str>, id: Option<String>, home: Option<String>) -> Drafted {
    let tidied = |text: Option<String>| text.map(|text| tidy(&text)).filter(|text| !text.is_empty());
    let (id, home) = (tidied(id).unwrap_or_default(), tidied(home));
    Ok(DraftRecord { kind: kind_of(kind.unwrap_or_default())?, id, home, fields: Vec::new() })
}

fn finish(mut record: DraftRecord) -> Drafted {
    record.sort();
    let twice =
        record.fields.windows(2).find(|pair| (pair[0].field, &pair[0].element) == (pair[1].field, &pair[1].element));
    if let Some(pair) = twice {
        return Err(format!("{} stands there twice", pair[0].field));
    }
    match lost(&record) {
        Some(name) => Err(format!("{name} holds {LOST}, which stands for what could not be read: type it anew")),
        None => Ok(record),
    }
}

/// Where a record holds what could not be read.
fn lost(record: &DraftRecord) -> Option<String> {
    let is_lost = |text: &str| text.contains(LOST);
    let field = record.fields.iter().find(|entry| is_lost(&entry.text) || is_lost(&entry.element));
    let others = [("id", Some(record.id.as_str())), ("home", record.home.as_deref())];
    let other = others.into_iter().find(|(_, text)| text.is_some_and(is_lost)).map(|(name, _)| name.to_owned());
    other.or_else(|| field.map(|entry| entry.field.to_string()))
}
