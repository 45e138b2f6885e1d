//! Tables for people, which fit the terminal: fewer columns where it is narrow, never broken ones.
//!
//! A column is kept whole (ids, numbers, dates: what is copied and compared) or holds text that may go on in the next line.
//! What has no room is left out, the least important first, and the last line says what. Where the output is no terminal
//! nothing is left out and no line goes on: it can be cut and searched with the usual tools.
//! States have colours where somebody sees them, unless `NO_COLOR` is set (no-color.org), `CLICOLOR` is 0, or the terminal
//! is `dumb`; `CLICOLOR_FORCE` has them everywhere.

use std::io::IsTerminal;
use std::sync::OnceLock;

use comfy_table::{
    Cell as TableCell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table, Width, presets,
};

use crate::language::{Lang, Message, say};

/// What is written on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Paper {
    /// Columns of a terminal; none if it is not one.
    pub width: Option<u16>,
    /// Whether states have colours.
    pub is_colored: bool,
}

/// That of the standard output; of nothing until [`Paper::take`] has looked.
static PAPER: OnceLock<Paper> = OnceLock::new();

impl Paper {
    /// Has tables written for the standard output, as it is.
    pub fn take() {
        let is_terminal = std::io::stdout().is_terminal();
        let width = if is_terminal { Table::new().width() } else { None };
        let env = |name: &str| std::env::var(name).ok();
        let paper = Paper { width, is_colored: is_colored(is_terminal, &env) };
        PAPER.get_or_init(|| paper);
    }
}

fn is_colored(is_terminal: bool, env: &dyn Fn(&str) -> Option<String>) -> bool {
    let set = |name: &str| env(name).filter(|value| !value.is_empty());
    if set("NO_COLOR").is_some() {
        return false;
    }
    let forced = set("CLICOLOR_FORCE").is_some_and(|force| force != "0");
    let is_able = set("CLICOLOR").as_deref() != Some("0") && set("TERM").as_deref() != Some("dumb");
    forced || (is_terminal && is_able)
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    name: &'static str,
    spare: u8,
    wraps_at: Option<u16>,
    is_number: bool,
}

/// A column that is kept whole.
#[must_use]
pub const fn column(name: &'static str) -> Column {
    Column { name, spare: 0, wraps_at: None, is_number: false }
}

impl Column {
    /// It may be left out: the highest first.
    #[must_use]
    pub const fn spare(self, spare: u8) -> Self {
        Column { spare, ..self }
    }
    /// Text that may go on in the next line, in a column of at least so many letters.
    #[must_use]
    pub const fn wraps(self, at: u16) -> Self {
        Column { wraps_at: Some(at), ..self }
    }
    /// Numbers stand right.
    #[must_use]
    pub const fn number(self) -> Self {
        Column { is_number: true, ..self }
    }
}

/// What a state says at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tint {
    /// As it should be.
    Good,
    /// On its way.
    Waits,
    /// Somebody must look.
    Bad,
}

/// What stands in a row and a column.
#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    tint: Option<Tint>,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Cell { text: text.into(), tint: None }
    }
}

impl Cell {
    /// The same with a colour.
    #[must_use]
    pub fn tinted(self, tint: Tint) -> Self {
        Cell { tint: Some(tint), ..self }
    }
}

/// A table.
#[derive(Debug, Clone)]
pub struct Sheet {
    columns: Vec<Column>,
    /// What the columns are called, in their order.
    titles: Vec<String>,
    lang: Lang,
    rows: Vec<Vec<Cell>>,
    preset: &'static str,
}

impl Sheet {
    /// A table without lines, whose columns are called by their names, in English.
    #[must_use]
    pub fn new(columns: impl Into<Vec<Column>>) -> Self {
        let columns: Vec<Column> = columns.into();
        let titles = columns.iter().map(|column| column.name.to_owned()).collect();
        Sheet { columns, titles, lang: Lang::En, rows: Vec::new(), preset: presets::NOTHING }
    }

    /// The same in a language: the names are keys of its titles.
    #[must_use]
    pub fn titled(lang: Lang, columns: impl Into<Vec<Column>>) -> Self {
        let columns: Vec<Column> = columns.into();
        let title = |column: &Column| match column.name {
            "" => String::new(),
            name => Message::word("title", name).text(lang),
        };
        Sheet { titles: columns.iter().map(title).collect(), lang, ..Sheet::new(columns) }
    }

    /// The same with lines around it.
    #[must_use]
    pub fn framed(self) -> Self {
        Sheet { preset: presets::UTF8_FULL_CONDENSED, ..self }
    }

    /// Adds a row; what is missing at its end is empty.
    pub fn add_row<C: Into<Cell>>(&mut self, row: impl IntoIterator<Item = C>) {
        let mut row: Vec<Cell> = row.into_iter().map(Into::into).collect();
        row.resize_with(self.columns.len(), || Cell::from(""));
        self.rows.push(row);
    }

    /// As text for the standard output, without blanks at the ends of lines.
    #[must_use]
    pub fn text(&self) -> String {
        self.text_on(PAPER.get().copied().unwrap_or_default())
    }

    /// As text.
    #[must_use]
    pub fn text_on(&self, paper: Paper) -> String {
        let is_framed = self.preset != presets::NOTHING;
        let head = |title: &String| if is_framed { title.clone() } else { title.to_uppercase() };
        let heads: Vec<String> = self.titles.iter().map(head).collect();
        let shown = self.that_fit(&heads, paper.width, is_framed);
        let mut table = Table::new();
        table.load_preset(self.preset).set_header(shown.iter().map(|&at| &heads[at]));
        table.force_no_tty();
        if paper.is_colored {
            table.enforce_styling();
        }
        if let Some(width) = paper.width {
            // What pads the first cell is taken off below.
            table.set_content_arrangement(ContentArrangement::Dynamic);
            table.set_width(if is_framed { width } else { width.saturating_add(2) });
        }
        for row in &self.rows {
            table.add_row(shown.iter().map(|&at| cell(&row[at], paper)));
        }
        for (place, &at) in shown.iter().enumerate() {
            let Some(column) = table.column_mut(place) else { continue };
            if self.columns[at].is_number {
                column.set_cell_alignment(CellAlignment::Right);
            }
            column.set_constraint(match self.columns[at].wraps_at {
                None => ColumnConstraint::ContentWidth,
                // With the blanks on both sides; not more than it needs.
                Some(least) => ColumnConstraint::LowerBoundary(Width::Fixed(least.min(self.natural(&heads, at)) + 2)),
            });
        }
        let lines = table.lines().map(|line| {
            let line = line.trim_end();
            // The preset pads every cell, the first as well.
            if is_framed { line } else { line.strip_prefix(' ').unwrap_or(line) }.to_owned()
        });
        let mut lines: Vec<String> = lines.collect();
        let left_out: Vec<&str> =
            (0..self.columns.len()).filter(|at| !shown.contains(at)).map(|at| self.titles[at].as_str()).collect();
        if !left_out.is_empty() {
            lines.push(say!("no-room", columns = left_out.join(", ")).text(self.lang));
        }
        lines.join("\n")
    }

    /// How many letters a column takes if nothing in it goes on in the next line.
    fn natural(&self, heads: &[String], at: usize) -> u16 {
        let cells = self.rows.iter().flat_map(|row| row[at].text.lines());
        let widest = cells.chain([heads[at].as_str()]).map(letters).max().unwrap_or(0);
        u16::try_from(widest).unwrap_or(u16::MAX)
    }

    /// The columns that are shown in so many letters.
    fn that_fit(&self, heads: &[String], width: Option<u16>, is_framed: bool) -> Vec<usize> {
        let mut shown: Vec<usize> = (0..self.columns.len()).collect();
        let Some(width) = width else { return shown };
        // Blanks on both sides of a cell, and with lines one beside each.
        let (beside, around) = if is_framed { (3, 1) } else { (2, 0) };
        let needs = |at: usize| {
            let natural = self.natural(heads, at);
            usize::from(self.columns[at].wraps_at.map_or(natural, |least| natural.min(least)))
        };
        let sum = |shown: &[usize]| shown.iter().map(|&at| needs(at) + beside).sum::<usize>() + around;
        let limit = usize::from(width) + if is_framed { 0 } else { 2 };
        while sum(&shown) > limit {
            let spare = shown.iter().enumerate().filter(|(_, at)| self.columns[**at].spare > 0);
            let Some((place, _)) = spare.max_by_key(|(_, at)| self.columns[**at].spare) else { break };
            shown.remove(place);
        }
        shown
    }
}

fn cell(cell: &Cell, paper: Paper) -> TableCell {
    let shown = TableCell::new(&cell.text);
    let color = cell.tint.filter(|_| paper.is_colored).map(|tint| match tint {
        Tint::Good => Color::Green,
        Tint::Waits => Color::Yellow,
        Tint::Bad => Color::Red,
    });
    if let Some(color) = color { shown.fg(color) } else { shown }
}

/// How many columns of a terminal a line takes.
fn letters(line: &str) -> usize {
    console::measure_text_width(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "r-0123456789abcdef0123456789abcdef";

    fn sheet() -> Sheet {
        let mut sheet = Sheet::new([
            column("record"),
            column("name").wraps(12),
            column("unit").wraps(12).spare(1),
            column("edits").number().spare(2),
            column("state"),
        ]);
        let row: [Cell; 5] = [
            ID.into(),
            "Nguyễn Thị Minh Khai Hòa Bình".into(),
            "Xã Ngam La 漢".into(),
            "12".into(),
            Cell::from("behind").tinted(Tint::Waits),
        ];
        sheet.add_row(row);
        sheet
    }

    fn on(width: Option<u16>) -> String {
        sheet().text_on(Paper { width, is_colored: false })
    }

    #[test]
    fn a_narrow_terminal_gets_fewer_columns_and_no_broken_ids() {
        for width in [60_u16, 72, 80, 100, 200] {
            let text = on(Some(width));
            assert!(text.contains(ID), "{width}:\n{text}");
            for line in text.lines() {
                assert!(letters(line) <= usize::from(width), "{width}: {} letters in {line:?}", letters(line));
            }
        }
        let narrow = on(Some(60));
        assert!(narrow.ends_with("(no room for: unit, edits)"), "{narrow}");
        assert!(!narrow.contains("Ngam") && narrow.contains("behind") && narrow.contains("Khai"), "{narrow}");
        assert!(on(Some(72)).ends_with("(no room for: edits)"), "{}", on(Some(72)));
        assert!(!on(Some(100)).contains("no room"), "{}", on(Some(100)));
    }

    #[test]
    fn a_column_that_goes_on_is_never_narrower_than_its_words() {
        let date = "2026-11-28T18:47:33.208Z";
        let mut sheet = Sheet::new([
            column("unit").wraps(11),
            column("shard"),
            column("pending up").number(),
            column("conflicts").number(),
            column("in step").wraps(24),
        ]);
        sheet.add_row(["Thị trấn Bát Xát", "h-0c86001bcb12544a", "0", "0", &format!("in step {date}")]);
        let text = sheet.text_on(Paper { width: Some(80), is_colored: false });
        assert!(text.contains(date) && text.contains("h-0c86001bcb12544a"), "{text}");
        assert!(text.lines().all(|line| letters(line) <= 80), "{text}");
    }

    #[test]
    fn what_is_no_terminal_gets_everything_in_one_line_each() {
        let text = on(None);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("Nguyễn Thị Minh Khai Hòa Bình") && text.contains("12"), "{text}");
    }

    #[test]
    fn a_frame_fits_too() {
        for width in [70_u16, 80, 120] {
            let text = sheet().framed().text_on(Paper { width: Some(width), is_colored: false });
            assert!(text.lines().all(|line| letters(line) <= usize::from(width)), "{width}:\n{text}");
            assert!(text.contains(ID), "{text}");
        }
    }

    #[test]
    fn states_have_colours_where_somebody_sees_them() {
        let colored = sheet().text_on(Paper { width: Some(100), is_colored: true });
        assert!(colored.contains("\u{1b}[") && !on(Some(100)).contains('\u{1b}'), "{colored:?}");
        // The columns stand where they stand without.
        let plain = console::strip_ansi_codes(&colored).into_owned();
        assert_eq!(plain.lines().map(str::trim_end).collect::<Vec<_>>().join("\n"), on(Some(100)));
        let is = |is_terminal, env: &[(&str, &str)]| {
            is_colored(is_terminal, &|name| {
                env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert!(is(true, &[]) && is(true, &[("NO_COLOR", "")]) && is(false, &[("CLICOLOR_FORCE", "1")]));
        assert!(!is(false, &[]) && !is(true, &[("NO_COLOR", "1")]) && !is(true, &[("CLICOLOR", "0")]));
        assert!(!is(true, &[("TERM", "dumb")]) && !is(true, &[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")]));
    }
}
