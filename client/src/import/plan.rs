//! Every row of a file judged and named before anything is sent.
//!
//! Each row is an edit of its own, under a request that the row itself names: the session comes from the shard (and the list,
//! if the caller gives it a name), the counter from the row's own id, or without one from what the row says. So the same row
//! is the same request in whatever order, form, encoding or file it comes, and is registered once; a row is never taken for
//! another one's because it stands on its line. A value corrected under the same id is the same request with other content,
//! which the site refuses as such. A value corrected in a row *without* an id makes it another row, so it would be registered
//! beside the first: [`Plan::without_id`] counts those that nothing but their content tells apart.
//!
//! What a row says are the canonical bytes of its values, so `08/03/1990` is `1990-03-08`. References are left out of it: what
//! somebody's household or mother is called in a file must not make two persons of one. Only a household's head is a part of
//! what the household is.
//!
//! A row that refers to one that is not sent is not sent either. In memory are the names of the rows, some 250 bytes each.
//!
//! Limits: two rows that say the same and have no ids cannot be told from one row that stands there twice: the second is
//! refused here, and one that comes in a later file is found to be there already. The caller lists both.

use std::collections::BTreeMap;

use dinhba_core::date::Date;
use dinhba_core::ids::{RecordId, RequestId, SessionId, ShardId};
use dinhba_core::level::{LEVEL_FIRST, LEVEL_MAX};
use dinhba_core::number::PersonNumber;
use dinhba_core::schema::{FieldId, RecordKind, field, parse, rules, validate};
use dinhba_core::units::Directory;
use dinhba_core::validity::rule_text;

use super::{Problem, Records};
use crate::draft::{DraftRecord, TEMPORARY, map_references};

/// What is known of a row before it is sent.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The line on which it begins.
    pub line: u64,
    /// Where it goes.
    pub place: u64,
    /// Its request's counter.
    counter: u64,
    /// Whether its name comes from its own id.
    pub has_own_id: bool,
    /// Its personal number.
    pub number: Option<PersonNumber>,
    /// The record that it was exported as.
    pub exported: Option<RecordId>,
    /// Other rows to which it refers.
    pub refers_to: Vec<u32>,
    /// Why it is not sent.
    pub bad: Option<String>,
}

/// All rows of a file, judged.
#[derive(Debug)]
pub struct Plan {
    /// In the order of the file.
    pub rows: Vec<Planned>,
    list: String,
    /// Rows by what others call them.
    names: BTreeMap<String, u32>,
    /// Rows with neither an id of their own nor a personal number.
    pub without_id: usize,
}

/// What others call a row: its id without the mark.
fn called(name: &str) -> &str {
    name.strip_prefix(TEMPORARY).unwrap_or(name)
}

/// The record that a name means outside the file that it was exported to.
fn existing(name: &str) -> Option<RecordId> {
    called(name).parse().ok()
}

/// Whether an id is the row's own everywhere, not a name inside its file.
fn is_own(id: &str) -> bool {
    !(id.is_empty() || id.starts_with(TEMPORARY)) || existing(id).is_some()
}

fn hash_of(what: &str, parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key("dinhba 2026 imported row");
    for part in [what.as_bytes()].iter().chain(parts) {
        hasher.update(&(part.len() as u64).to_be_bytes()).update(part);
    }
    *hasher.finalize().as_bytes().first_chunk().expect("a hash has 32 bytes")
}

/// A counter starts at 1.
fn counter_of(hash: [u8; 16]) -> u64 {
    let [first @ .., _, _, _, _, _, _, _, _] = hash;
    u64::from_be_bytes(first).max(1)
}

/// A row whose values are values of their fields.
struct Judged {
    /// What it says, but for references.
    said: [u8; 16],
    number: Option<PersonNumber>,
    refers_to: Vec<u32>,
    /// Whom a household names as its head.
    head: Option<String>,
}

impl Plan {
    /// Judges every row. `place` says where a row of that home goes, or what is wrong with it; `list` is the name of the list
    /// that the rows' ids belong to, or nothing.
    #[must_use]
    pub fn make(
        records: &Records,
        directory: &Directory,
        place: &dyn Fn(Option<&str>) -> Result<u64, String>,
        list: &str,
    ) -> Self {
        let mut plan = Plan { rows: Vec::new(), list: list.to_owned(), names: BTreeMap::new(), without_id: 0 };
        // First what the rows are called, so that a row may refer to any other; those of each kind that have their own ids.
        let mut kinds = Vec::new();
        for (line, row) in records.rows() {
            let at = plan.rows.len() as u32;
            let mut planned = Planned {
                line,
                place: 0,
                counter: 0,
                has_own_id: false,
                number: None,
                exported: None,
                refers_to: Vec::new(),
                bad: None,
            };
            match row {
                Err(reason) => planned.bad = Some(reason),
                Ok(record) if record.id.parse::<RecordId>().is_ok() => {
                    let text = "names an existing record, and import only creates: change it with edit";
                    planned.bad = Some(text.to_owned());
                }
                Ok(record) => {
                    kinds.push((at, record.kind));
                    planned.has_own_id = is_own(&record.id);
                    planned.exported = existing(&record.id);
                    let name = Some(called(&record.id).to_owned()).filter(|name| !name.is_empty());
                    if let Some(other) = name.and_then(|name| plan.names.insert(name, at)) {
                        let other_line = plan.rows[other as usize].line;
                        planned.bad = Some(format!("its id stands on line {other_line} too"));
                        plan.reject(other, format!("its id stands on line {line} too"));
                    }
                }
            }
            plan.rows.push(planned);
        }
        for kind in RecordKind::OF_PEOPLE {
            let of_kind = kinds.iter().filter(|(_, of)| *of == kind).map(|(at, _)| *at);
            let (own, others): (Vec<u32>, Vec<u32>) = of_kind.partition(|at| plan.rows[*at as usize].has_own_id);
            for at in others.into_iter().filter(|_| !own.is_empty()) {
                plan.reject(at, format!("has no id of its own, while another {kind} of the file has one"));
            }
        }
        plan.judge(records, directory, place);
        plan.hold_back();
        plan
    }

    /// Rejects what says that something happened which lies after a day: a site refuses it by its own. Only where no site is
    /// asked: a clock here that is behind must keep nobody out.
    pub fn reject_early(&mut self, records: &Records, directory: &Directory, today: Date) {
        for (at, (_, row)) in (0..).zip(records.rows()) {
            let Ok(record) = row else { continue };
            let early = record
                .fields
                .iter()
                .filter(|entry| !entry.text.is_empty())
                .find_map(|entry| parse(entry.field, &entry.text, directory).ok()?.check_past(today).err());
            if let Some(early) = early {
                self.reject(at, early.to_string());
            }
        }
        self.hold_back();
    }

    fn judge(&mut self, records: &Records, directory: &Directory, place: &dyn Fn(Option<&str>) -> Result<u64, String>) {
        let mut heads: Vec<(u32, String)> = Vec::new();
        let mut numbers: BTreeMap<PersonNumber, u32> = BTreeMap::new();
        for (at, (_, row)) in (0..).zip(records.rows()) {
            let Ok(record) = row else { continue };
            let judged = match place(record.home.as_deref()) {
                Ok(place) => {
                    self.rows[at as usize].place = place;
                    self.judge_one(&record, directory)
                }
                Err(reason) => Err(reason),
            };
            let Judged { said, number, refers_to, head } = match judged {
                Ok(judged) => judged,
                Err(reason) => {
                    self.reject(at, reason);
                    continue;
                }
            };
            if let Some(number) = number
                && let Some(other) = numbers.insert(number, at)
            {
                let lines = [other, at].map(|at| self.rows[at as usize].line);
                self.reject(at, format!("its personal number stands on line {} too", lines[0]));
                self.reject(other, format!("its personal number stands on line {} too", lines[1]));
            }
            let planned = &mut self.rows[at as usize];
            (planned.number, planned.refers_to) = (number, refers_to);
            if planned.has_own_id {
                planned.counter = counter_of(hash_of("id", &[called(&record.id).as_bytes()]));
            } else {
                planned.counter = counter_of(said);
                self.without_id += usize::from(number.is_none() && record.kind == RecordKind::Person);
                heads.extend(head.map(|head| (at, head)));
            }
        }
        // Persons have their names by now.
        for (at, head) in heads {
            let head = match self.names.get(called(&head)) {
                Some(row) => Some(self.record(*row)),
                None => existing(&head),
            };
            let said = self.rows[at as usize].counter.to_be_bytes();
            let both = hash_of("household", &[&said, &head.unwrap_or_default().0]);
            self.rows[at as usize].counter = counter_of(both);
        }
        let mut known: BTreeMap<(u64, u64), u32> = BTreeMap::new();
        for at in 0..self.rows.len() as u32 {
            let Planned { place, counter, .. } = self.rows[at as usize];
            if counter == 0 {
                continue;
            }
            if let Some(other) = known.insert((place, counter), at) {
                let other_line = self.rows[other as usize].line;
                known.insert((place, counter), other);
                self.reject(
                    at,
                    format!(
                        "says the same as line {other_line}, perhaps but for references: take one out, or, if they are \
                         two, give each row an id of its own"
                    ),
                );
            }
        }
    }

    /// Whether a row's values are values of its fields and what it refers to is there; what it says.
    fn judge_one(&self, record: &DraftRecord, directory: &Directory) -> Result<Judged, String> {
        let mut refers_to = Vec::new();
        for name in record.references() {
            match self.names.get(called(&name)) {
                Some(at) => refers_to.push(*at),
                None if existing(&name).is_some() => {}
                None => return Err("refers to a row that is not in the file or cannot be read".to_owned()),
            }
        }
        let mut values: Vec<(FieldId, &[u8], Vec<u8>)> = Vec::new();
        let mut parts: Vec<Vec<u8>> = vec![record.kind.name().as_bytes().to_vec()];
        let mut number = None;
        for entry in record.fields.iter().filter(|entry| !entry.text.is_empty()) {
            let read = |stand_in: &dyn Fn(&str) -> RecordId| {
                let text = map_references(entry.field, &entry.text, |name| Some(stand_in(name).to_string()));
                parse(entry.field, &text.unwrap_or_default(), directory).map_err(|error| error.to_string())
            };
            // Rules compare whom a row refers to; what it says, does not hold that: see above.
            let value = read(&|name| existing(name).unwrap_or(RecordId(hash_of("name", &[called(name).as_bytes()]))))?;
            let bytes = value.encode();
            validate(LEVEL_MAX, record.kind, entry.field, entry.element.as_bytes(), &bytes)
                .map_err(|error| error.to_string())?;
            if entry.field == field::PERSONAL_NUMBER {
                number = value.number();
            }
            let says = read(&|_| RecordId::default())?.encode();
            parts.extend([entry.field.0.to_be_bytes().to_vec(), entry.element.as_bytes().to_vec(), says]);
            values.push((entry.field, entry.element.as_bytes(), bytes));
        }
        let has = |wanted: FieldId| values.iter().any(|(field, ..)| *field == wanted);
        if values.is_empty() {
            return Err("says nothing: no field has a value".to_owned());
        }
        if record.kind == RecordKind::Person && !has(field::NAME) {
            return Err("has no name: give it one, or register a person without a name with edit".to_owned());
        }
        let lookup = |wanted: FieldId, element: &[u8]| {
            let found = values.iter().find(|(field, of, _)| *field == wanted && *of == element);
            found.map(|(.., bytes)| bytes.as_slice()).into_iter().collect()
        };
        // Rules that every site has; of those of a higher level the site says whether it has them.
        if let Some(broken) = rules(LEVEL_FIRST, record.kind, |_| true, has, &lookup).first() {
            return Err(rule_text(broken.0));
        }
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let head = record.text(field::HEAD).map(str::to_owned);
        Ok(Judged { said: hash_of("content", &parts), number, refers_to, head })
    }

    /// Says that a row is not sent, unless something has been said against it already.
    pub fn reject(&mut self, at: u32, reason: String) {
        self.rows[at as usize].bad.get_or_insert(reason);
    }

    /// A row that refers to one that is not sent is not sent either, and so on.
    pub fn hold_back(&mut self) {
        let mut referrers: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (at, row) in (0..).zip(&self.rows) {
            for other in &row.refers_to {
                referrers.entry(*other).or_default().push(at);
            }
        }
        let mut open: Vec<u32> = (0..).zip(&self.rows).filter(|(_, row)| row.bad.is_some()).map(|(at, _)| at).collect();
        while let Some(other) = open.pop() {
            for at in referrers.remove(&other).unwrap_or_default() {
                if self.rows[at as usize].bad.is_none() {
                    let line = self.rows[other as usize].line;
                    self.reject(at, format!("refers to line {line}, which is not taken"));
                    open.push(at);
                }
            }
        }
    }

    /// The rows that are sent, in the order of the file.
    pub fn good(&self) -> impl Iterator<Item = u32> {
        (0..).zip(&self.rows).filter(|(_, row)| row.bad.is_none()).map(|(at, _)| at)
    }

    /// The name of a row's request.
    #[must_use]
    pub fn request(&self, at: u32) -> RequestId {
        let Planned { place, counter, .. } = self.rows[at as usize];
        let session = SessionId(hash_of("session", &[ShardId(place).to_string().as_bytes(), self.list.as_bytes()]));
        RequestId { session, counter }
    }

    /// The record that a row makes.
    #[must_use]
    pub fn record(&self, at: u32) -> RecordId {
        RecordId::derive(self.request(at), 0)
    }

    /// The row that a name means.
    #[must_use]
    pub fn row(&self, name: &str) -> Option<u32> {
        self.names.get(called(name)).copied()
    }

    /// The record that a name means: that of a row which is sent, or one that exists.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<RecordId> {
        match self.row(name) {
            Some(at) if self.rows[at as usize].bad.is_none() => Some(self.record(at)),
            Some(_) => None,
            None => existing(name),
        }
    }

    /// What is wrong with rows, in the order of the file.
    pub fn problems(&self) -> impl Iterator<Item = Problem> {
        self.rows.iter().filter_map(|row| Some(Problem { line: row.line, reason: row.bad.clone()? }))
    }
}
