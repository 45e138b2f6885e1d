//! Text into rows of cells, strictly: RFC 4180 with any one separator.
//!
//! Written here because the crate `csv`, which writes our tables, reads with tolerance: a quote without an end swallows
//! what follows, and nobody is told. Here a quote stands around a whole cell or is doubled inside such a cell, all rows end
//! alike, and anything else is said with its line. What reads as a row is read by `csv` to the same cells (tested below).

use csv::StringRecord;

use super::{COLUMNS_MAX, Problem, too_many_columns};

/// What may stand between cells; of separators that fit a header alike, the first is taken.
pub(super) const SEPARATORS: [u8; 4] = *b",;\t|";

/// A row of a table's text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// The line on which it begins, from 1.
    pub(super) line: u64,
    pub(super) cells: StringRecord,
    /// Whether a line end follows it.
    pub(super) is_ended: bool,
}

/// Reads rows, the blank ones too; after an error there is nothing more to read.
#[derive(Clone)]
pub(super) struct Rows<'a> {
    text: &'a str,
    separator: u8,
    at: usize,
    line: u64,
    /// How the rows so far end.
    end: Option<&'static str>,
}

impl<'a> Rows<'a> {
    /// The rows of `text`, which has no lone carriage return.
    pub(super) fn of(text: &'a str, separator: u8) -> Self {
        Rows { text, separator, at: 0, line: 1, end: None }
    }

    /// Leaves out the first line.
    pub(super) fn skip_line(&mut self) {
        self.at = self.text.find('\n').map_or(self.text.len(), |at| at + 1);
        self.line += 1;
    }

    fn row(&mut self) -> Result<Row, Problem> {
        let mut row = Row { line: self.line, cells: StringRecord::new(), is_ended: false };
        loop {
            let cell = match self.peek() {
                Some(b'"') => self.quoted()?,
                _ => self.plain()?.to_owned(),
            };
            row.cells.push_field(&cell);
            if row.cells.len() > COLUMNS_MAX {
                return Err(too_many_columns(row.line));
            }
            match self.peek() {
                Some(byte) if byte == self.separator => self.at += 1,
                None => return Ok(row),
                Some(b'\n') => {
                    self.end_row("\n")?;
                    return Ok(Row { is_ended: true, ..row });
                }
                Some(b'\r') => {
                    self.end_row("\r\n")?;
                    return Ok(Row { is_ended: true, ..row });
                }
                Some(_) => {
                    let text =
                        "something stands behind a quote that ends a cell: a quote inside a cell is written twice";
                    return Err(Problem::at(self.line, text));
                }
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn plain(&mut self) -> Result<&'a str, Problem> {
        let rest = &self.text[self.at..];
        let is_end = |byte: u8| byte == self.separator || matches!(byte, b'"' | b'\r' | b'\n');
        let len = rest.bytes().position(is_end).unwrap_or(rest.len());
        self.at += len;
        match self.peek() {
            Some(b'"') => Err(Problem::at(
                self.line,
                "a quote inside a cell that does not begin with one: put the whole cell in quotes and double the one inside, \
                 or take it out",
            )),
            _ => Ok(&rest[..len]),
        }
    }

    fn quoted(&mut self) -> Result<String, Problem> {
        let (opened, mut cell) = (self.line, String::new());
        self.at += 1;
        loop {
            let rest = &self.text[self.at..];
            let Some(len) = rest.find('"') else {
                return Err(Problem::at(opened, "the quote that begins a cell has no end: close it, or take it out"));
            };
            cell.push_str(&rest[..len].replace("\r\n", "\n"));
            self.line += rest[..len].matches('\n').count() as u64;
            self.at += len + 1;
            if self.peek() != Some(b'"') {
                return Ok(cell);
            }
            cell.push('"');
            self.at += 1;
        }
    }

    fn end_row(&mut self, end: &'static str) -> Result<(), Problem> {
        if *self.end.get_or_insert(end) != end {
            let text = "ends otherwise than the rows before it: were files put together? Save the file with one kind of line ends";
            return Err(Problem::at(self.line, text));
        }
        self.at += end.len();
        self.line += 1;
        Ok(())
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<Row, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.text.len() {
            return None;
        }
        let row = self.row();
        if row.is_err() {
            self.at = self.text.len();
        }
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(text: &str) -> Vec<Result<Vec<String>, u64>> {
        let cells = |row: Row| row.cells.iter().map(str::to_owned).collect();
        Rows::of(text, b',').map(|row| row.map(cells).map_err(|problem| problem.line)).collect()
    }

    #[test]
    fn what_is_not_in_form_is_an_error_of_its_line() {
        for (text, line) in [
            ("a,b\n1,\"x\n2,y\n", 2),
            ("a,b\n1,\"x\"\n2,\"y\"\"\n", 3),
            ("a,b\n1,x\"y\n", 2),
            ("a,b\n1, \"x\"\n", 2),
            ("a,b\n1,\"x\"y\n", 2),
            ("a,b\n1,\"x\ny\"z\n", 3),
            ("a,b\r\n1,x\n", 2),
            ("a,b\n1,x\r\n", 2),
        ] {
            assert_eq!(rows(text).last().unwrap(), &Err(line), "{text:?}");
        }
    }

    #[test]
    fn lines_are_those_of_the_file() {
        let text = "a,b\r\n1,\"x\r\ny\"\r\n\r\n2,\r\n3,";
        let found: Vec<_> = Rows::of(text, b',').map(|row| row.unwrap()).map(|row| (row.line, row.is_ended)).collect();
        assert_eq!(found, [(1, true), (2, true), (4, true), (5, true), (6, false)]);
        assert_eq!(rows(text)[1], Ok(vec!["1".to_owned(), "x\ny".to_owned()]));
        assert_eq!(rows(text)[4], Ok(vec!["3".to_owned(), String::new()]));
    }

    proptest! {
        #[test]
        fn a_table_that_csv_wrote_comes_back(
            table in prop::collection::vec(prop::collection::vec("[aề\",\n; ]{0,6}", 2..=2), 1..6), crlf: bool,
        ) {
            let end = if crlf { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') };
            let mut out = csv::WriterBuilder::new().terminator(end).from_writer(Vec::new());
            for row in &table {
                out.write_record(row).unwrap();
            }
            let text = String::from_utf8(out.into_inner().unwrap()).unwrap();
            let table: Vec<_> = table.into_iter().map(Ok).collect();
            prop_assert_eq!(rows(&text), table);
        }

        #[test]
        fn what_reads_as_rows_reads_alike_elsewhere(text in "[ab\",\n]{0,30}") {
            let found = rows(&text);
            prop_assume!(found.iter().all(Result::is_ok));
            let mut table = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
            let theirs: Vec<Vec<String>> =
                table.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect();
            // That crate leaves blank lines out.
            let ours: Vec<Vec<String>> = found.into_iter().map(Result::unwrap).filter(|row| row != &[""]).collect();
            let theirs: Vec<Vec<String>> = theirs.into_iter().filter(|row| row != &[""]).collect();
            prop_assert_eq!(ours, theirs);
        }
    }
}
