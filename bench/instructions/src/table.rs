//! The table of what each work may take, and what is said of a count beside it. A line is a name and a number; `#` begins a remark.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};

/// By how much a count may be above the table, in a hundred: what a change elsewhere moves by the layout of the program alone is less.
pub const RISE_MAX: u64 = 3;

/// The line that names the compiler.
const COMPILER: &str = "compiler";

/// The table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// By which compiler the counted program was built.
    pub compiler: String,
    /// Instructions of one, by work.
    pub counts: BTreeMap<String, u64>,
}

/// What a count says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As the table says.
    AsBefore,
    /// Less: the line should say so, so that the gain is not lost again unseen.
    Cheaper,
    /// More than may be.
    Dearer,
    /// The table has no such line.
    Unknown,
}

impl Table {
    /// Reads it.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let mut table = Table { compiler: String::new(), counts: BTreeMap::new() };
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            match line.split_once(char::is_whitespace) {
                None if line.is_empty() => {}
                None => bail!("{line:?} is no line of a table: write a name and a number"),
                Some((COMPILER, name)) => table.compiler = name.trim().to_owned(),
                Some((name, count)) => {
                    let count =
                        count.trim().replace('_', "").parse().with_context(|| format!("the count of {name}"))?;
                    table.counts.insert(name.to_owned(), count);
                }
            }
        }
        Ok(table)
    }

    /// What it says of a count.
    pub fn judge(&self, work: &str, counted: u64) -> Verdict {
        let Some(before) = self.counts.get(work) else { return Verdict::Unknown };
        if counted * 100 > before * (100 + RISE_MAX) {
            Verdict::Dearer
        } else if counted * 100 < before * (100 - RISE_MAX) {
            Verdict::Cheaper
        } else {
            Verdict::AsBefore
        }
    }
}

/// By how much a count is above another, in a hundred.
pub fn rise(before: u64, now: u64) -> f64 {
    (now as f64 / before as f64 - 1.0) * 100.0
}

/// A line of the table.
pub fn line(work: &str, count: u64) -> String {
    format!("{work:<22} {count}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rise_of_more_than_the_bound_is_dearer_and_one_within_it_is_not() {
        let text = "# remark\ncompiler rustc 1.95.0\nchange  10_000 # what for\nread 7\n";
        let table = Table::parse(text).unwrap();
        assert_eq!(table.compiler, "rustc 1.95.0");
        let judged = [10_000, 10_300, 10_301, 9_700, 9_699].map(|count| table.judge("change", count));
        let expected = [Verdict::AsBefore, Verdict::AsBefore, Verdict::Dearer, Verdict::AsBefore, Verdict::Cheaper];
        assert_eq!(judged, expected);
        assert_eq!(table.judge("other", 1), Verdict::Unknown);
        assert_eq!(Table::parse(&line("read", 7)).unwrap().counts, [("read".to_owned(), 7)].into());
    }

    #[test]
    fn what_is_no_table_is_refused() {
        assert!(Table::parse("change").is_err());
        assert!(Table::parse("change many").is_err());
    }

    #[test]
    fn the_committed_table_has_a_line_for_each_work_and_none_beside_them() {
        let table = Table::parse(crate::TABLE).unwrap();
        let works: Vec<&str> = crate::works::WORKS.iter().map(|work| work.name).collect();
        assert!(works.iter().all(|work| table.counts.contains_key(*work)));
        assert_eq!((works.len(), table.compiler.is_empty()), (table.counts.len(), false));
    }

    #[test]
    fn each_work_does_what_it_says() {
        for work in crate::works::WORKS {
            work.run().unwrap();
        }
    }
}
