//! Rows of a file become edits: numbered by their lines, put together with what they refer to, judged before they are sent.
//!
//! Neighbouring rows that refer to each other (a household and its members) are one edit: all of them are registered, or
//! none. An edit takes [`PARTS_MAX`] rows; a longer household goes on in the next edit. The line of an edit's first row is
//! its counter in the session, so that mending a bad row in its place changes no other edit's name.
//! The file is read twice: first every row is judged and learns the id that its record will have, then the edits are
//! built, so that a row may refer to any other, wherever it stands. In memory are the names of the rows, not the rows.
//!
//! Limits: rows are only ever created; a row that names an existing record is a bad one. The file must not change while
//! it is read.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::Path;

use dinhba_core::edit::PARTS_MAX;
use dinhba_core::ids::{RecordId, RequestId, SessionId};
use dinhba_core::schema::{parse, validate};
use dinhba_core::units::Directory;

use crate::generate::files::{ByLine, Format, LineMark, Row, read_from};
use crate::generate::{DraftRecord, TEMPORARY};

/// Bytes of texts in one edit: above what 64 ordinary persons need, and half a minute on a link of 64 kbit/s.
pub(super) const GROUP_BYTES_MAX: usize = 128 * 1024;

/// A row that is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) line: u64,
    pub(super) reason: String,
}

/// Rows that are one edit.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// With their lines.
    pub(super) rows: Vec<(u64, DraftRecord)>,
    names: BTreeSet<String>,
    bytes: usize,
}

impl Group {
    /// The counter of its request.
    pub(super) fn counter(&self) -> u64 {
        self.rows.first().map_or(0, |(line, _)| *line)
    }

    fn takes(&self, record: &DraftRecord, names: &BTreeSet<String>) -> bool {
        use dinhba_core::schema::RecordKind::Household;
        let Some((_, first)) = self.rows.first() else { return true };
        let has_household = self.rows.iter().any(|(_, row)| row.kind == Household);
        self.rows.len() < PARTS_MAX
            && self.bytes + size(record) <= GROUP_BYTES_MAX
            && !(record.kind == Household && has_household)
            && record.home == first.home
            && !self.names.is_disjoint(names)
    }
}

fn size(record: &DraftRecord) -> usize {
    record.fields.iter().map(|entry| entry.text.len() + entry.element.len()).sum()
}

/// A piece of a file.
pub(super) enum Piece {
    Group(Group),
    Bad(Problem),
}

/// Reads a file into groups.
pub(super) struct Groups {
    rows: Box<dyn Iterator<Item = Row>>,
    lines: LineMark,
    current: Group,
}

impl Groups {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut file = std::fs::File::open(path)?;
        let format = match Format::of(path) {
            Some(format) => format,
            None => {
                let mut start = [0; 64];
                let len = file.read(&mut start)?;
                io::Seek::rewind(&mut file)?;
                let is_json = start[..len].trim_ascii_start().starts_with(b"{");
                if is_json { Format::Ndjson } else { Format::Csv }
            }
        };
        Groups::of(format, file)
    }

    pub(super) fn of(format: Format, input: impl Read + 'static) -> io::Result<Self> {
        let lines = LineMark::default();
        let input = ByLine { input: io::BufReader::new(input), lines: lines.clone() };
        Ok(Groups { rows: read_from(format, input)?, lines, current: Group::default() })
    }
}

impl Iterator for Groups {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        loop {
            self.lines.begin_row();
            let Some(row) = self.rows.next() else {
                let last = std::mem::take(&mut self.current);
                return (!last.rows.is_empty()).then_some(Piece::Group(last));
            };
            let record = match row {
                Ok(record) => record,
                // What is said of the whole table comes without reading on.
                Err(error) => {
                    let line = self.lines.read_since().unwrap_or(error.line);
                    return Some(Piece::Bad(Problem { line, reason: error.reason }));
                }
            };
            let line = self.lines.of_row();
            let mut names: BTreeSet<String> = record.references().into_iter().collect();
            names.insert(record.id.clone());
            let full = if self.current.takes(&record, &names) { None } else { Some(std::mem::take(&mut self.current)) };
            self.current.bytes += size(&record);
            self.current.names.extend(names);
            self.current.rows.push((line, record));
            if let Some(full) = full {
                return Some(Piece::Group(full));
            }
        }
    }
}

/// What is known of an edit before it is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) rows: u32,
    /// Why it is not sent: the first bad row.
    pub(super) bad: Option<u64>,
    /// Other edits whose records it refers to.
    pub(super) refers_to: Vec<u64>,
}

/// The first reading: every row judged, every record named.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) rows: u64,
    pub(super) edits: BTreeMap<u64, Planned>,
    /// Rows that are not taken, in order of their lines.
    pub(super) problems: Vec<Problem>,
    /// Counter and part of each row that can be referred to.
    names: BTreeMap<String, (u64, u32)>,
}

/// A row that refers to rows outside its edit, until all rows are known.
struct Waiting {
    counter: u64,
    line: u64,
    is_bad: bool,
    names: Vec<String>,
}

impl Plan {
    /// Judges all of `groups`. `check_home` says what is wrong with a row's home, if anything.
    pub(super) fn make(
        groups: Groups,
        directory: &Directory,
        check_home: &dyn Fn(Option<&str>) -> Option<String>,
    ) -> Self {
        let mut plan = Plan::default();
        let mut waiting: Vec<Waiting> = Vec::new();
        for piece in groups {
            let group = match piece {
                Piece::Group(group) => group,
                Piece::Bad(problem) => {
                    // What is wrong with the first line of a table is no row.
                    plan.rows += u64::from(problem.line > 1);
                    plan.problems.push(problem);
                    continue;
                }
            };
            let counter = group.counter();
            plan.rows += group.rows.len() as u64;
            let mut planned = Planned { rows: group.rows.len() as u32, ..Planned::default() };
            for (part, (line, record)) in group.rows.iter().enumerate() {
                let problem = check_home(record.home.as_deref()).or_else(|| check(record, directory).err());
                let problem = problem.or_else(|| {
                    let other = plan.names.get(&record.id).map(|(other, _)| other);
                    other.map(|other| format!("its id stands on another row too (edit of line {other})"))
                });
                let is_bad = problem.is_some();
                match problem {
                    None => {
                        plan.names.insert(record.id.clone(), (counter, part as u32));
                    }
                    Some(reason) => {
                        planned.bad = planned.bad.or(Some(*line));
                        plan.problems.push(Problem { line: *line, reason });
                    }
                }
                // References inside the edit settle themselves; the others once all rows are known.
                let elsewhere: Vec<String> = record
                    .references()
                    .into_iter()
                    .filter(|name| !group.rows.iter().any(|(_, r)| r.id == *name))
                    .collect();
                if !elsewhere.is_empty() {
                    waiting.push(Waiting { counter, line: *line, is_bad, names: elsewhere });
                }
            }
            plan.edits.insert(counter, planned);
        }
        for row in waiting {
            plan.settle(row);
        }
        plan.hold_back();
        plan
    }

    /// What a row refers to outside its own edit must be a good row or an existing record.
    fn settle(&mut self, Waiting { counter, line, is_bad, names }: Waiting) {
        for name in &names {
            let Some(planned) = self.edits.get_mut(&counter) else { return };
            match self.names.get(name) {
                Some((other, _)) => planned.refers_to.push(*other),
                None if existing(name).is_some() => {}
                None => {
                    planned.bad = planned.bad.or(Some(line));
                    if !is_bad {
                        let reason = "refers to a row that is not in the file or is bad".to_owned();
                        self.problems.push(Problem { line, reason });
                    }
                    return;
                }
            }
        }
    }

    /// An edit that refers to one that is not sent is not sent either, and so on.
    fn hold_back(&mut self) {
        loop {
            let bad: BTreeSet<u64> =
                self.edits.iter().filter(|(_, planned)| planned.bad.is_some()).map(|(counter, _)| *counter).collect();
            let mut found = false;
            for (counter, planned) in &mut self.edits {
                let Some(other) = planned.refers_to.iter().find(|other| bad.contains(other)) else { continue };
                if planned.bad.is_none() {
                    planned.bad = Some(*counter);
                    let reason = format!("refers to a row of the edit of line {other}, which is bad");
                    self.problems.push(Problem { line: *counter, reason });
                    found = true;
                }
            }
            if !found {
                self.problems.sort_by_key(|problem| problem.line);
                return;
            }
        }
    }

    /// Rows that are not sent: bad ones, and those that belong to one edit with a bad one.
    pub(super) fn rows_bad(&self) -> u64 {
        let sent: u64 = self.edits.values().filter(|planned| planned.bad.is_none()).map(|p| u64::from(p.rows)).sum();
        self.rows - sent
    }

    /// The rows of a group with the ids that their records will have; nothing for an edit that is not sent.
    pub(super) fn linked(&self, session: SessionId, group: Group) -> Option<Vec<DraftRecord>> {
        if self.edits.get(&group.counter())?.bad.is_some() {
            return None;
        }
        let id = |name: &str| match self.names.get(name) {
            Some(&(counter, part)) => Some(RecordId::derive(RequestId { session, counter }, part)),
            None => existing(name),
        };
        let link = |(_, mut record): (u64, DraftRecord)| record.link(id).ok().map(|()| record);
        group.rows.into_iter().map(link).collect()
    }
}

/// The record that a temporary name means outside the file that it was exported to.
fn existing(name: &str) -> Option<RecordId> {
    name.strip_prefix(TEMPORARY)?.parse().ok()
}

/// Whether a row's values are values of its fields.
fn check(record: &DraftRecord, directory: &Directory) -> Result<(), String> {
    if record.id.parse::<RecordId>().is_ok() {
        return Err("names an existing record, and import only creates: change it with edit".to_owned());
    }
    let mut linked = record.clone();
    linked.link(|_| Some(RecordId::default())).map_err(|error| error.to_string())?;
    let mut is_empty = true;
    for entry in linked.fields.iter().filter(|entry| !entry.text.is_empty()) {
        let value = parse(entry.field, &entry.text, directory).map_err(|error| error.to_string())?;
        validate(record.kind, entry.field, entry.element.as_bytes(), &value.encode())
            .map_err(|error| error.to_string())?;
        is_empty = false;
    }
    if is_empty { Err("says nothing: no field has a value".to_owned()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &'static str) -> Plan {
        let groups = Groups::of(Format::Ndjson, text.as_bytes()).unwrap();
        Plan::make(groups, &Directory::vietnam().unwrap(), &|_| None)
    }

    fn counters(plan: &Plan) -> Vec<(u64, u32, Option<u64>)> {
        plan.edits.iter().map(|(counter, planned)| (*counter, planned.rows, planned.bad)).collect()
    }

    fn lines(plan: &Plan) -> Vec<u64> {
        plan.problems.iter().map(|problem| problem.line).collect()
    }

    const HOUSEHOLDS: &str = r#"{"kind":"household","id":"@h1","fields":{"head":"@p1"}}
{"id":"@p1","fields":{"name":"Nguyễn An","household":"@h1"}}
{"id":"@p2","fields":{"name":"Nguyễn Bình","household":"@h1"}}

{"kind":"household","id":"@h2","fields":{"head":"@p3"}}
{"id":"@p3","fields":{"name":"Lê Chi","household":"@h2"}}
{"id":"@p4","fields":{"name":"Lê Dung"}}
"#;

    #[test]
    fn a_household_is_one_edit_under_its_line() {
        let plan = plan(HOUSEHOLDS);
        assert_eq!(counters(&plan), [(1, 3, None), (5, 2, None), (7, 1, None)]);
        assert_eq!((plan.rows, plan.rows_bad()), (6, 0));
        let session = SessionId([3; 16]);
        let Some(Piece::Group(group)) = Groups::of(Format::Ndjson, HOUSEHOLDS.as_bytes()).unwrap().next() else {
            panic!("a group")
        };
        let rows = plan.linked(session, group).unwrap();
        let derived = |part| RecordId::derive(RequestId { session, counter: 1 }, part).to_string();
        assert_eq!(rows[0].text(dinhba_core::schema::field::HEAD), Some(&*derived(1)));
        assert_eq!(rows[2].text(dinhba_core::schema::field::HOUSEHOLD), Some(&*derived(0)));
    }

    #[test]
    fn the_household_may_stand_after_its_people_or_far_away() {
        let people_first = r#"{"id":"@p1","fields":{"name":"Nguyễn An","household":"@h1"}}
{"id":"@p2","fields":{"name":"Nguyễn Bình","household":"@h1"}}
{"kind":"household","id":"@h1","fields":{"head":"@p1"}}
{"id":"@p9","fields":{"name":"Lê Chi","household":"@h9"}}
{"id":"@p8","fields":{"name":"Lê Dung"}}
{"kind":"household","id":"@h9","fields":{"head":"@p9"}}
"#;
        let plan = plan(people_first);
        assert_eq!(counters(&plan), [(1, 3, None), (4, 1, None), (5, 1, None), (6, 1, None)]);
        assert_eq!((&*plan.edits[&4].refers_to, &*plan.edits[&6].refers_to), (&[6][..], &[4][..]));
    }

    #[test]
    fn a_large_household_goes_on_in_the_next_edit() {
        let mut text = r#"{"kind":"household","id":"@h","fields":{"head":"@p1","collective":"yes"}}"#.to_owned();
        for number in 1..=150 {
            text.push_str(&format!(
                "\n{{\"id\":\"@p{number}\",\"fields\":{{\"name\":\"Lê Chi\",\"household\":\"@h\"}}}}"
            ));
        }
        let groups = Groups::of(Format::Ndjson, io::Cursor::new(text)).unwrap();
        let plan = Plan::make(groups, &Directory::vietnam().unwrap(), &|_| None);
        assert_eq!(counters(&plan), [(1, 64, None), (65, 64, None), (129, 23, None)]);
        assert!(plan.edits[&129].refers_to.iter().all(|other| *other == 1));
    }

    #[test]
    fn a_bad_row_holds_back_its_edit_and_what_refers_to_it_and_nothing_else() {
        let text = r#"{"kind":"household","id":"@h1","fields":{"head":"@p1"}}
{"id":"@p1","fields":{"name":"Nguyễn An","household":"@h1","birth_date":"yesterday"}}
not json
{"id":"@p3","fields":{"name":"Lê Chi"}}
{"id":"@p4","fields":{"name":"Lê Dung","relative[father]":"name=An; record=@p1"}}
{"id":"@p5","fields":{"name":"Lê Em","household":"@nowhere"}}
{"id":"@p3","fields":{"name":"Lê Chi"}}
{"id":"r-00000000000000000000000000000001","fields":{"name":"Lê Gia"}}
{"id":"@p7","fields":{"note":""}}
{"id":"@p8","fields":{"name":"Lê Hoa","household":"@r-00000000000000000000000000000001"}}
"#;
        let plan = plan(text);
        assert_eq!(lines(&plan), [2, 3, 5, 6, 7, 8, 9], "{:?}", plan.problems);
        assert!(plan.problems[0].reason.starts_with("birth_date"), "{:?}", plan.problems[0]);
        let sent: Vec<u64> = plan.edits.iter().filter(|(_, p)| p.bad.is_none()).map(|(c, _)| *c).collect();
        assert_eq!(sent, [4, 10]);
        assert_eq!((plan.rows, plan.rows_bad()), (10, 8));
    }

    #[test]
    fn mending_a_row_in_its_place_renames_no_other_edit() {
        let broken = HOUSEHOLDS.replace(r#"{"id":"@p2""#, r#"{"id" "@p2""#);
        let groups = Groups::of(Format::Ndjson, io::Cursor::new(broken)).unwrap();
        let plan_broken = Plan::make(groups, &Directory::vietnam().unwrap(), &|_| None);
        let keys = |plan: &Plan| plan.edits.keys().copied().collect::<Vec<_>>();
        assert_eq!(keys(&plan_broken), keys(&plan(HOUSEHOLDS)));
    }

    #[test]
    fn bad_rows_of_a_table_from_a_spreadsheet_are_told_by_their_lines() {
        let table = "\u{feff}id;name;note\r\n@a;Lê Chi;\"hai\r\ndòng\"\r\n\r\n@b;Lê Dung;x;y\r\n@c;Lê Em;x;y\r\n";
        let groups = Groups::of(Format::Csv, table.as_bytes()).unwrap();
        let plan = Plan::make(groups, &Directory::vietnam().unwrap(), &|_| None);
        assert_eq!((lines(&plan), counters(&plan)), (vec![5, 6], vec![(2, 1, None)]));
    }

    #[test]
    fn lines_are_those_of_the_file() {
        let table = "\u{feff}name,note\nLê Chi,\"two\nlines\"\n\nLê Dung,x\n";
        let groups = Groups::of(Format::Csv, table.as_bytes()).unwrap();
        let found: Vec<u64> = groups
            .filter_map(|piece| match piece {
                Piece::Group(group) => Some(group.counter()),
                Piece::Bad(_) => None,
            })
            .collect();
        assert_eq!(found, [2, 5]);
    }
}
