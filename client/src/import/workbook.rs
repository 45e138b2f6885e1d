//! Sheets of a workbook (`.xlsx`) into rows of cells.
//!
//! A sheet knows what text does not: whether a cell is a number or a date. A date becomes what `schema::parse` reads, in a
//! column of dates; a number in a column of digits has lost its leading zeros, and a date elsewhere was a text that the
//! spreadsheet took for one: both are errors of their row, and nothing is guessed. So is a formula whose result the file
//! does not hold, as programs write it that compute nothing. A number as an id is taken, and counted.

use std::io::Cursor;

use calamine::{DataRef, Reader, SheetType, Xlsx, XlsxCellFormulaMetadataRecord as Found};
use csv::StringRecord;

use super::columns::{Role, Titles, columns_of};
use super::{COLUMNS_MAX, HEADER_AGAIN, LOST, Line, Problem, Table, too_many_columns, untitled};

/// How a workbook begins: it is a ZIP archive.
pub(super) const MARK: &[u8] = b"PK\x03\x04";
/// How an old workbook begins, and one with a password.
pub(super) const OLD_MARK: &[u8] = &[0xd0, 0xcf, 0x11, 0xe0];

/// Whole numbers above it are not exact in a sheet, which keeps fifteen digits.
const EXACT_MAX: f64 = 1e15;

/// The last serial of a date before which spreadsheets count a day, 1900-02-29, that never was.
const SERIAL_LAST_WRONG: f64 = 60.0;

type Workbook<'a> = Xlsx<Cursor<&'a [u8]>>;

fn unreadable<E>(_: E) -> Vec<Problem> {
    vec![Problem::of_file(
        "is no whole workbook: it is cut, damaged, protected by a password or of another kind; save it as .xlsx or \
         \"CSV UTF-8\" without a password",
    )]
}

/// The rows of the sheet that is named, or else of the only one in which something stands.
pub(super) fn read(bytes: &[u8], wanted: Option<&str>, titles: &Titles) -> Result<Table, Vec<Problem>> {
    let mut book: Workbook<'_> = Xlsx::new(Cursor::new(bytes)).map_err(unreadable)?;
    let sheets: Vec<String> = book
        .sheets_metadata()
        .iter()
        .filter(|sheet| sheet.typ == SheetType::WorkSheet)
        .map(|sheet| sheet.name.clone())
        .collect();
    let name = match wanted {
        Some(wanted) => sheets.iter().find(|name| *name == wanted).cloned().ok_or_else(|| {
            vec![Problem::of_file(format!("has no sheet of that name; it has: {}", sheets.join(", ")))]
        })?,
        None => {
            let mut full = Vec::new();
            for name in &sheets {
                if has_content(&mut book, name).map_err(unreadable)? {
                    full.push(name.clone());
                }
            }
            match full.as_slice() {
                [one] => one.clone(),
                [] => return Err(vec![Problem::of_file("is empty")]),
                several => {
                    let text = format!("has several sheets with rows; name one with --sheet: {}", several.join(", "));
                    return Err(vec![Problem::of_file(text)]);
                }
            }
        }
    };
    let merged = book.merge_cells_by_sheet_name(&name).map_err(unreadable)?;
    if let Some(region) = merged.iter().min_by_key(|region| region.start) {
        let text = "has merged cells, of which only the first holds its value: split them, and fill in each";
        return Err(vec![Problem::at(u64::from(region.start.0) + 1, text)]);
    }
    rows(&mut book, &name, titles).map_err(|problems| problems.unwrap_or_else(|| unreadable(())))
}

fn has_content(book: &mut Workbook<'_>, name: &str) -> Result<bool, ()> {
    let mut cells = book.worksheet_cells_reader(name).map_err(drop)?;
    while let Some(found) = cells.next_cell_with_formula_metadata().map_err(drop)? {
        if Cell::of(&found).is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_blank(value: &DataRef<'_>) -> bool {
    match value {
        DataRef::Empty => true,
        DataRef::String(text) => text.trim().is_empty(),
        DataRef::SharedString(text) => text.trim().is_empty(),
        _ => false,
    }
}

/// What stands in a cell, before it is known what its column is.
#[derive(Clone)]
enum Cell {
    Text(String),
    Number(f64),
    Date(String),
    /// What is nothing that could be registered, and why.
    Wrong(&'static str),
}

impl Cell {
    /// What was found in a sheet; none if nothing stands there.
    fn of(found: &Found<'_>) -> Option<Self> {
        // A result that is an empty text is one.
        if found.formula.is_some() && matches!(found.value, DataRef::Empty) {
            return Some(Cell::Wrong(
                "is a formula whose result the file does not hold: open it in a spreadsheet, and save it",
            ));
        }
        (!is_blank(&found.value)).then(|| Cell::with(&found.value))
    }

    fn with(value: &DataRef<'_>) -> Self {
        match value {
            DataRef::Empty => Cell::Text(String::new()),
            DataRef::String(text) => Cell::Text(text.clone()),
            DataRef::SharedString(text) => Cell::Text((*text).to_owned()),
            DataRef::Bool(flag) => Cell::Text(if *flag { "yes" } else { "no" }.to_owned()),
            DataRef::Int(number) => Cell::Number(*number as f64),
            DataRef::Float(number) => Cell::Number(*number),
            DataRef::DateTime(date) if !date.is_datetime() => Cell::Wrong("is a length of time in the sheet"),
            DataRef::DateTime(date) => {
                let (year, month, day, hour, minute, second, milli) = date.to_ymd_hms_milli();
                if date.as_f64() <= SERIAL_LAST_WRONG {
                    Cell::Wrong("is a date before March 1900 or none at all: type it as text, year-month-day")
                } else if (hour, minute, second, milli) != (0, 0, 0, 0) {
                    Cell::Wrong("is a date with a time of day: type the date alone")
                } else {
                    Cell::Date(format!("{year:04}-{month:02}-{day:02}"))
                }
            }
            DataRef::DateTimeIso(text) => match text.split_once('T') {
                None => Cell::Date(text.clone()),
                Some((date, time)) if time.trim_matches(['0', ':', '.', 'Z']).is_empty() => Cell::Date(date.to_owned()),
                Some(_) => Cell::Wrong("is a date with a time of day: type the date alone"),
            },
            DataRef::DurationIso(_) => Cell::Wrong("is a length of time in the sheet"),
            DataRef::Error(_) => Cell::Wrong("is an error of a formula"),
        }
    }

    /// What a file of rejected rows shows of a cell that is wrong: it is never taken for a value.
    fn shown(&self) -> String {
        match self {
            Cell::Text(text) | Cell::Date(text) => format!("{LOST}{text}"),
            Cell::Number(number) => format!("{LOST}{number}"),
            Cell::Wrong(_) => LOST.to_owned(),
        }
    }

    /// The text for a column, or what is wrong.
    fn text(self, role: &Role) -> Result<String, (String, &'static str)> {
        let shown = self.shown();
        self.checked(role).map_err(|reason| (shown, reason))
    }

    fn checked(self, role: &Role) -> Result<String, &'static str> {
        let is = |test: fn(&super::columns::Column) -> bool| matches!(role, Role::Field(column) if test(column));
        match self {
            Cell::Text(text) => Ok(text),
            Cell::Wrong(reason) => Err(reason),
            Cell::Date(date) if is(super::columns::Column::is_date) => Ok(date),
            Cell::Date(_) => {
                Err("is a date in the sheet, which takes a text for one: format the column as text, and type it again")
            }
            Cell::Number(_) if is(super::columns::Column::is_digits) => Err(
                "is a number in the sheet, whose leading zeros are lost: format the column as text, and type it again",
            ),
            Cell::Number(number) if number.fract() == 0.0 && number.abs() < EXACT_MAX => Ok(format!("{number:.0}")),
            Cell::Number(_) => {
                Err("is no whole number, or one of too many digits: format the column as text, and type it again")
            }
        }
    }
}

/// Puts cells into rows as they come; `None` as an error is a workbook that cannot be read.
fn rows(book: &mut Workbook<'_>, name: &str, titles: &Titles) -> Result<Table, Option<Vec<Problem>>> {
    let mut cells = book.worksheet_cells_reader(name).map_err(|_| None)?;
    let mut table: Option<Table> = None;
    let mut row: Vec<(u32, Cell)> = Vec::new();
    let (mut at, mut bytes) = (0, 0);
    loop {
        let found = cells.next_cell_with_formula_metadata().map_err(|_| None)?;
        let position = found.as_ref().map(|found| found.pos);
        if position.is_none_or(|(line, _)| line != at) {
            finish_row(u64::from(at) + 1, std::mem::take(&mut row), titles, &mut table).map_err(Some)?;
            bytes = 0;
        }
        let (Some(found), Some((line, column))) = (found, position) else { break };
        let is_in_order = line > at || (line == at && row.last().is_none_or(|(last, _)| *last < column));
        if !is_in_order {
            return Err(None);
        }
        at = line;
        if let Some(cell) = Cell::of(&found) {
            // Those of one row, which may be all there are.
            bytes += size_of::<(u32, Cell)>() + if let Cell::Text(text) = &cell { text.len() } else { 0 };
            if bytes > super::TABLE_BYTES_MAX {
                return Err(Some(vec![super::too_large()]));
            }
            row.push((column, cell));
        }
    }
    table.ok_or_else(|| Some(vec![Problem::of_file("is empty")]))
}

/// The cells of a row as they are shown, each in its column.
fn as_shown(cells: &[(u32, Cell)]) -> StringRecord {
    let mut row = StringRecord::new();
    for (column, cell) in cells {
        while (row.len() as u32) < *column {
            row.push_field("");
        }
        row.push_field(&cell.clone().text(&Role::Ignored).unwrap_or_else(|(shown, _)| shown));
    }
    row
}

/// The first row in which something stands is the header.
fn finish_row(
    line: u64,
    cells: Vec<(u32, Cell)>,
    titles: &Titles,
    table: &mut Option<Table>,
) -> Result<(), Vec<Problem>> {
    if cells.is_empty() {
        return Ok(());
    }
    let Some(table) = table else {
        if cells.last().is_some_and(|(column, _)| *column as usize >= COLUMNS_MAX) {
            return Err(vec![too_many_columns(line)]);
        }
        let header = as_shown(&cells);
        let roles = columns_of(line, &header, titles)?;
        *table = Some(Table::of(header, roles));
        return Ok(());
    };
    if table.is_header(&as_shown(&cells)) {
        return Err(vec![Problem::at(line, HEADER_AGAIN)]);
    }
    let mut found = Line { line, cells: StringRecord::new(), problem: None };
    for (column, cell) in cells {
        while (found.cells.len() as u32) < column.min(table.roles.len() as u32) {
            found.cells.push_field("");
        }
        match table.roles.get(column as usize) {
            None | Some(Role::Unnamed) => {
                return Err(vec![Problem::at(line, untitled(column as usize + 1))]);
            }
            Some(Role::Ignored) => found.cells.push_field(""),
            Some(role) => {
                table.ids_as_numbers += u64::from(*role == Role::Id && matches!(cell, Cell::Number(_)));
                let text = cell.text(role).unwrap_or_else(|(shown, reason)| {
                    found.problem.get_or_insert_with(|| format!("{} {reason}", role.title().unwrap_or_default()));
                    shown
                });
                found.cells.push_field(&text);
            }
        }
    }
    while found.cells.len() < table.roles.len() {
        found.cells.push_field("");
    }
    table.take(found)
}
