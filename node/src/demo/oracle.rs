//! What must be true of every copy of a shard, given what the nodes told their clients.
//!
//! Owns: the ledger of all edits that were acknowledged (and of those whose outcome was never told), and the comparison of
//! a [`Copy`], read back from one node, with it. Promises: it believes receipts and nothing else that nodes say of
//! themselves; an acknowledged edit that is absent, or whose value is gone though no edit of the history named it, is
//! [lost](Problem::loses).
//! Leaves to others: reading copies (`examine`). Everything here is pure.
//! Limit: an edit whose name a fork changed is recognised by what the history says that its author numbered it as.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use dinhba_core::ids::{AuthorId, RecordId, RequestId, ShardId};
use dinhba_core::level::LEVEL_FIRST;
use dinhba_core::schema::{Class, FieldId, field};

/// An edit's name: its author and number.
pub type Dot = (AuthorId, u64);
/// A field of a record: the field and its element key.
pub type Cell = (FieldId, String);
/// What names an acknowledged edit here: its dot, and its request too if a node gave its dot to another edit as well.
pub type Told = (Dot, Option<RequestId>);
/// The values of a cell, by the edits that wrote them.
type Values = BTreeMap<Dot, String>;

/// What an edit does to one cell.
#[derive(Clone, PartialEq, Eq)]
pub struct Change {
    /// The new value: its text in the one form that nodes show it in.
    pub value: String,
    /// The edits whose values it replaces.
    pub overwrites: BTreeSet<Dot>,
}

/// One edit, as it was sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Sent {
    /// Where the record lives.
    pub shard: ShardId,
    /// The record.
    pub record: RecordId,
    /// The request that it is a part of.
    pub request: RequestId,
    /// What it changes.
    pub changes: BTreeMap<Cell, Change>,
}

/// One edit, as the history of a node shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The record.
    pub record: RecordId,
    /// The request that it came from.
    pub request: RequestId,
    /// What it changes.
    pub changes: BTreeMap<Cell, Change>,
    /// Its hash in the author's chain.
    pub hash: Vec<u8>,
    /// Whether it is set aside and not in effect.
    pub set_aside: bool,
    /// Whether a site's program gave somebody a personal number by it, as offices do of themselves.
    pub gives_number: bool,
    /// The dot its author numbered it as, if a fork gave it another name since.
    pub numbered_as: Option<Dot>,
}

/// A cell, as a node shows it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Shown {
    /// Its values.
    pub values: Values,
    /// Whether the node asks for a decision.
    pub disputed: bool,
}

/// A record, as a node shows it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct ShownRecord {
    /// Its cells.
    pub cells: BTreeMap<Cell, Shown>,
    /// Rules that it breaks.
    pub broken_rules: Vec<String>,
}

/// All that one node says of one shard.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Copy {
    /// The whole history.
    pub entries: BTreeMap<Dot, Entry>,
    /// Every record.
    pub records: BTreeMap<RecordId, ShownRecord>,
}

/// A promise that a copy breaks. Says where, never what a value is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// An acknowledged edit is not in the history.
    Missing(Dot),
    /// An acknowledged edit, whose name was given to another as well, is not in the history.
    SameName(Dot, RequestId),
    /// An edit's value is gone, and no edit named it.
    Gone(Dot, RecordId, Cell),
    /// An edit in the history is not the one that was acknowledged under that name.
    Altered(Dot),
    /// An edit in the history that nobody sent, or that was refused.
    Uninvited(Dot),
    /// An edit was set aside without a cause.
    SetAside(Dot),
    /// A value is shown that was replaced, or that nobody wrote there.
    Undead(Dot, RecordId, Cell),
    /// A conflict was raised where none is.
    Disputed(RecordId, Cell),
    /// Different legal values stand side by side and nobody is asked.
    Undisputed(RecordId, Cell),
    /// A rule is said to be broken; nothing in this story breaks one.
    Rule(RecordId, String),
}

impl Problem {
    /// The acknowledged edit that is lost by it.
    #[must_use]
    pub fn loses(&self) -> Option<Told> {
        match self {
            Problem::Missing(dot) | Problem::Gone(dot, ..) | Problem::Altered(dot) => Some((*dot, None)),
            Problem::SameName(dot, request) => Some((*dot, Some(*request))),
            _ => None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |(author, number): &Dot| format!("edit {number} of {author}");
        let cell = |(field, element): &Cell| match element.as_str() {
            "" => field.to_string(),
            element => format!("{field}[{element}]"),
        };
        match self {
            Problem::Missing(dot) => write!(f, "{} was acknowledged and is not in the history", name(dot)),
            Problem::SameName(dot, request) => {
                write!(f, "{}, request {request}, was acknowledged, shares its name and is not there", name(dot))
            }
            Problem::Gone(dot, record, at) => {
                write!(f, "{} of {record}: the value of {} is gone, and no edit named it", cell(at), name(dot))
            }
            Problem::Altered(dot) => write!(f, "{} in the history is not the one that was acknowledged", name(dot)),
            Problem::Uninvited(dot) => write!(f, "{} is in the history, and no client was told so", name(dot)),
            Problem::SetAside(dot) => write!(f, "{} was set aside without a cause", name(dot)),
            Problem::Undead(dot, record, at) => {
                write!(f, "{} of {record}: {} is shown though it does not count", cell(at), name(dot))
            }
            Problem::Disputed(record, at) => write!(f, "{} of {record}: a conflict where there is none", cell(at)),
            Problem::Undisputed(record, at) => {
                write!(f, "{} of {record}: different values, and no conflict", cell(at))
            }
            Problem::Rule(record, rule) => write!(f, "{record} breaks a rule without a cause: {rule}"),
        }
    }
}

/// What the comparison of one copy came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// What is wrong; none if all promises are kept.
    pub problems: BTreeSet<Problem>,
    /// The acknowledged edits that are in the history as they were sent.
    pub found: BTreeSet<Told>,
    /// The personal numbers that the office gave of itself, and to whom.
    pub given: BTreeSet<(String, RecordId)>,
    /// A hash over all of the copy: two nodes whose copies are equal have equal ones.
    pub digest: [u8; 32],
}

/// All that clients were told.
#[derive(Default)]
pub struct Oracle {
    acknowledged: BTreeMap<Dot, Sent>,
    /// Acknowledged under a name that another edit has too.
    same_name: Vec<(Dot, Sent)>,
    /// Requests without a definite answer: they may be in a history or not.
    open: BTreeMap<RequestId, Vec<Sent>>,
}

impl Oracle {
    /// An edit was acknowledged under the names from `first` on, one per part.
    pub fn acknowledge(&mut self, first: Dot, parts: Vec<Sent>) {
        for (number, part) in (first.1..).zip(parts) {
            let dot = (first.0, number);
            self.open.remove(&part.request);
            match self.acknowledged.get(&dot) {
                Some(before) if *before != part => self.same_name.push((dot, part)),
                _ => drop(self.acknowledged.insert(dot, part)),
            }
        }
    }

    /// The outcome of a request is not known.
    pub fn leave_open(&mut self, request: RequestId, parts: Vec<Sent>) {
        self.open.insert(request, parts);
    }

    /// How many edits were acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.len() + self.same_name.len()
    }

    /// How many edits of each shard were acknowledged.
    #[must_use]
    pub fn per_shard(&self) -> BTreeMap<ShardId, u64> {
        let mut counts = BTreeMap::new();
        let sent = self.acknowledged.values().chain(self.same_name.iter().map(|(_, sent)| sent));
        sent.for_each(|sent| *counts.entry(sent.shard).or_default() += 1);
        counts
    }

    /// How many requests have no definite answer.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// The conflicts that the acknowledged edits come to: cells with legal weight and different values that do not know
    /// of each other.
    #[must_use]
    pub fn conflicts(&self) -> BTreeSet<(ShardId, RecordId, Cell)> {
        let homes: BTreeMap<RecordId, ShardId> =
            self.acknowledged.values().map(|sent| (sent.record, sent.shard)).collect();
        let writes = self.acknowledged.iter().map(|(dot, sent)| (*dot, sent.record, &sent.changes));
        let mut found = BTreeSet::new();
        for ((record, cell), values) in fold(writes) {
            if is_dispute(&cell, &values) {
                found.insert((homes[&record], record, cell));
            }
        }
        found
    }

    /// Compares a node's copy of `shard` with what clients were told.
    #[must_use]
    pub fn examine(&self, shard: ShardId, copy: &Copy) -> Findings {
        let mut findings = Findings { digest: digest(copy), ..Findings::default() };
        // Where a chain forked, several were numbered alike.
        let renamed: BTreeMap<(Dot, RequestId), Dot> =
            copy.entries.iter().filter_map(|(dot, entry)| Some(((entry.numbered_as?, entry.request), *dot))).collect();
        let mut known: BTreeSet<Dot> = BTreeSet::new();
        for (told, sent) in self.acknowledged.iter().filter(|(_, sent)| sent.shard == shard) {
            let dot = renamed.get(&(*told, sent.request)).unwrap_or(told);
            let Some(entry) = copy.entries.get(dot) else {
                findings.problems.insert(Problem::Missing(*told));
                continue;
            };
            known.insert(*dot);
            let same = (entry.record, entry.request) == (sent.record, sent.request)
                && same_changes(&entry.changes, &sent.changes, dot == told);
            if same {
                findings.found.insert((*told, None));
            } else {
                findings.problems.insert(Problem::Altered(*told));
            }
        }
        // At most one of two edits can be in the history under one name; the other must be there under some name.
        for (told, sent) in self.same_name.iter().filter(|(_, sent)| sent.shard == shard) {
            let is_it = |entry: &Entry| {
                (entry.record, entry.request) == (sent.record, sent.request)
                    && same_changes(&entry.changes, &sent.changes, true)
            };
            match copy.entries.iter().find(|(_, entry)| is_it(entry)) {
                Some((dot, _)) => {
                    known.insert(*dot);
                    findings.found.insert((*told, Some(sent.request)));
                }
                None => drop(findings.problems.insert(Problem::SameName(*told, sent.request))),
            }
        }
        for (dot, entry) in &copy.entries {
            let is_open = self.open.get(&entry.request).is_some_and(|parts| {
                parts
                    .iter()
                    .any(|sent| sent.record == entry.record && same_changes(&entry.changes, &sent.changes, true))
            });
            let is_number = |(field, _): &Cell| *field == field::PERSONAL_NUMBER;
            let is_given = entry.gives_number && entry.changes.keys().all(is_number);
            if is_given {
                findings.given.extend(entry.changes.values().map(|change| (change.value.clone(), entry.record)));
            }
            if !known.contains(dot) && !is_open && !is_given {
                findings.problems.insert(Problem::Uninvited(*dot));
            }
            if entry.set_aside {
                findings.problems.insert(Problem::SetAside(*dot));
            }
        }
        compare_records(copy, &mut findings.problems);
        findings
    }
}

/// Whether two edits do the same. What a renamed edit replaces may have been renamed itself, so it is not compared.
fn same_changes(one: &BTreeMap<Cell, Change>, other: &BTreeMap<Cell, Change>, with_overwrites: bool) -> bool {
    let same = |a: &Change, b: &Change| a.value == b.value && (!with_overwrites || a.overwrites == b.overwrites);
    one.len() == other.len()
        && one.iter().all(|(cell, change)| other.get(cell).is_some_and(|there| same(change, there)))
}

/// The values that count: all that were written, but those that a later edit named.
fn fold<'a>(
    writes: impl Iterator<Item = (Dot, RecordId, &'a BTreeMap<Cell, Change>)>,
) -> BTreeMap<(RecordId, Cell), Values> {
    let mut written: BTreeMap<(RecordId, Cell), Values> = BTreeMap::new();
    let mut replaced: BTreeSet<((RecordId, Cell), Dot)> = BTreeSet::new();
    for (dot, record, changes) in writes {
        for (cell, change) in changes {
            let at = (record, cell.clone());
            replaced.extend(change.overwrites.iter().map(|named| (at.clone(), *named)));
            written.entry(at).or_default().insert(dot, change.value.clone());
        }
    }
    for (at, dot) in replaced {
        if let Some(values) = written.get_mut(&at) {
            values.remove(&dot);
        }
    }
    written
}

fn is_dispute((field, _): &Cell, values: &Values) -> bool {
    let distinct: BTreeSet<&String> = values.values().collect();
    field.class(LEVEL_FIRST) == Class::Adjudicated && distinct.len() > 1
}

/// The records that a node shows must be those that its history comes to.
fn compare_records(copy: &Copy, problems: &mut BTreeSet<Problem>) {
    let writes = copy.entries.iter().filter(|(_, entry)| !entry.set_aside);
    let expected = fold(writes.map(|(dot, entry)| (*dot, entry.record, &entry.changes)));
    let nothing = Shown::default();
    for ((record, cell), values) in &expected {
        let shown = copy.records.get(record).and_then(|shown| shown.cells.get(cell)).unwrap_or(&nothing);
        for (dot, value) in values {
            if shown.values.get(dot) != Some(value) {
                problems.insert(Problem::Gone(*dot, *record, cell.clone()));
            }
        }
        match (is_dispute(cell, values), shown.disputed) {
            (false, true) => problems.insert(Problem::Disputed(*record, cell.clone())),
            (true, false) => problems.insert(Problem::Undisputed(*record, cell.clone())),
            _ => false,
        };
    }
    for (record, shown) in &copy.records {
        for (cell, at_node) in &shown.cells {
            let counts = expected.get(&(*record, cell.clone()));
            for dot in at_node.values.keys().filter(|dot| counts.is_none_or(|values| !values.contains_key(dot))) {
                problems.insert(Problem::Undead(*dot, *record, cell.clone()));
            }
        }
        problems.extend(shown.broken_rules.iter().map(|rule| Problem::Rule(*record, rule.clone())));
    }
}

fn digest(copy: &Copy) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_be_bytes());
        hasher.update(bytes);
    };
    for ((author, number), entry) in &copy.entries {
        part(&author.0);
        part(&number.to_be_bytes());
        part(&entry.hash);
    }
    for (record, shown) in &copy.records {
        part(&record.0);
        for ((field, element), at) in &shown.cells {
            part(&field.0.to_be_bytes());
            part(element.as_bytes());
            part(&[u8::from(at.disputed)]);
            for ((author, number), value) in &at.values {
                part(&author.0);
                part(&number.to_be_bytes());
                part(value.as_bytes());
            }
        }
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dinhba_core::ids::SessionId;

    const SHARD: ShardId = ShardId(7);
    const LAN: RecordId = RecordId([1; 16]);
    const NAME: FieldId = field::NAME;

    fn dot(author: u8, number: u64) -> Dot {
        (AuthorId([author; 16]), number)
    }

    fn sent(counter: u64, field: FieldId, value: &str, overwrites: &[Dot]) -> Sent {
        let change = Change { value: value.to_owned(), overwrites: overwrites.iter().copied().collect() };
        Sent {
            shard: SHARD,
            record: LAN,
            request: RequestId { session: SessionId([9; 16]), counter },
            changes: BTreeMap::from([((field, String::new()), change)]),
        }
    }

    /// A copy as a node that does everything right would show it.
    fn faithful(oracle: &Oracle) -> Copy {
        let mut copy = Copy::default();
        for (dot, sent) in &oracle.acknowledged {
            let Sent { record, request, changes, .. } = sent.clone();
            let hash = format!("{dot:?}").into_bytes();
            copy.entries.insert(
                *dot,
                Entry { record, request, changes, hash, set_aside: false, gives_number: false, numbered_as: None },
            );
        }
        let writes = copy.entries.iter().map(|(dot, entry)| (*dot, entry.record, &entry.changes));
        for ((record, cell), values) in fold(writes) {
            let disputed = is_dispute(&cell, &values);
            copy.records.entry(record).or_default().cells.insert(cell, Shown { values, disputed });
        }
        copy
    }

    /// Lan's name is registered at one site, then corrected at two that do not see each other.
    fn story(field: FieldId) -> Oracle {
        let mut oracle = Oracle::default();
        oracle.acknowledge(dot(1, 1), vec![sent(1, field, "Lan", &[])]);
        oracle.acknowledge(dot(1, 2), vec![sent(2, field, "Lân", &[dot(1, 1)])]);
        oracle.acknowledge(dot(2, 1), vec![sent(3, field, "Lam", &[dot(1, 1)])]);
        oracle
    }

    fn shown(copy: &mut Copy, field: FieldId) -> &mut Shown {
        copy.records.get_mut(&LAN).unwrap().cells.get_mut(&(field, String::new())).unwrap()
    }

    fn problems(oracle: &Oracle, copy: &Copy) -> Vec<Problem> {
        oracle.examine(SHARD, copy).problems.into_iter().collect()
    }

    #[test]
    fn what_keeps_its_promises_has_no_problem() {
        let oracle = story(NAME);
        let findings = oracle.examine(SHARD, &faithful(&oracle));
        assert_eq!(findings.problems, BTreeSet::new());
        assert_eq!(findings.found.len(), 3);
        assert_eq!(oracle.conflicts(), BTreeSet::from([(SHARD, LAN, (NAME, String::new()))]));
        assert_eq!(oracle.per_shard(), BTreeMap::from([(SHARD, 3)]));
    }

    #[test]
    fn a_lost_edit_is_found() {
        let oracle = story(NAME);
        let mut copy = faithful(&oracle);
        copy.entries.remove(&dot(1, 2));
        shown(&mut copy, NAME).values.remove(&dot(1, 2));
        shown(&mut copy, NAME).disputed = false;
        assert_eq!(problems(&oracle, &copy), [Problem::Missing(dot(1, 2))]);
        assert_eq!(Problem::Missing(dot(1, 2)).loses(), Some((dot(1, 2), None)));
    }

    #[test]
    fn a_value_that_is_silently_overwritten_is_lost() {
        let oracle = story(NAME);
        let mut copy = faithful(&oracle);
        // The last one to arrive won: the history is whole, and the record forgot the other.
        shown(&mut copy, NAME).values.remove(&dot(1, 2));
        shown(&mut copy, NAME).disputed = false;
        let at = (NAME, String::new());
        let expected = [Problem::Gone(dot(1, 2), LAN, at.clone()), Problem::Undisputed(LAN, at)];
        assert_eq!(problems(&oracle, &copy), expected);
        assert_eq!(expected[0].loses(), Some((dot(1, 2), None)));
        assert_eq!(expected[1].loses(), None);
    }

    #[test]
    fn a_value_that_was_replaced_does_not_come_back() {
        let oracle = story(NAME);
        let mut copy = faithful(&oracle);
        shown(&mut copy, NAME).values.insert(dot(1, 1), "Lan".to_owned());
        assert_eq!(problems(&oracle, &copy), [Problem::Undead(dot(1, 1), LAN, (NAME, String::new()))]);
    }

    #[test]
    fn fields_without_legal_weight_raise_no_conflict() {
        let oracle = story(field::EMAIL);
        assert_eq!(oracle.conflicts(), BTreeSet::new());
        let mut copy = faithful(&oracle);
        assert_eq!(problems(&oracle, &copy), []);
        shown(&mut copy, field::EMAIL).disputed = true;
        assert_eq!(problems(&oracle, &copy), [Problem::Disputed(LAN, (field::EMAIL, String::new()))]);
    }

    #[test]
    fn a_decision_that_names_both_values_ends_the_conflict() {
        let mut oracle = story(NAME);
        oracle.acknowledge(dot(2, 2), vec![sent(4, NAME, "Lan", &[dot(1, 2), dot(2, 1)])]);
        assert_eq!(oracle.conflicts(), BTreeSet::new());
        assert_eq!(problems(&oracle, &faithful(&oracle)), []);
    }

    #[test]
    fn a_name_that_was_given_twice_hides_no_loss() {
        let mut oracle = story(NAME);
        let copy = faithful(&oracle);
        let mail = sent(7, field::EMAIL, "lan@example.com", &[]);
        oracle.acknowledge(dot(2, 1), vec![mail.clone()]);
        assert_eq!(oracle.acknowledged(), 4);
        let lost = Problem::SameName(dot(2, 1), mail.request);
        assert_eq!(lost.loses(), Some((dot(2, 1), Some(mail.request))));
        assert_eq!(problems(&oracle, &copy), [lost]);
        // Told the same again, as after a retry: no harm.
        let mut oracle = story(NAME);
        oracle.acknowledge(dot(2, 1), vec![sent(3, NAME, "Lam", &[dot(1, 1)])]);
        assert_eq!(oracle.acknowledged(), 3);
        assert_eq!(problems(&oracle, &copy), []);
    }

    #[test]
    fn what_nobody_was_told_of_is_found_unless_its_outcome_is_open() {
        let mut oracle = story(NAME);
        let mut later = story(NAME);
        later.acknowledge(dot(1, 3), vec![sent(9, field::EMAIL, "lan@example.com", &[])]);
        let copy = faithful(&later);
        assert_eq!(problems(&oracle, &copy), [Problem::Uninvited(dot(1, 3))]);
        let parts = vec![sent(9, field::EMAIL, "lan@example.com", &[])];
        oracle.leave_open(parts[0].request, parts);
        assert_eq!(problems(&oracle, &copy), []);
        // It may be absent too.
        assert_eq!(problems(&oracle, &faithful(&story(NAME))), []);
    }

    #[test]
    fn an_edit_with_other_content_is_not_the_one_that_was_acknowledged() {
        let oracle = story(NAME);
        let mut copy = faithful(&oracle);
        let change = copy.entries.get_mut(&dot(2, 1)).unwrap().changes.get_mut(&(NAME, String::new())).unwrap();
        change.value = "Mai".to_owned();
        shown(&mut copy, NAME).values.insert(dot(2, 1), "Mai".to_owned());
        assert_eq!(problems(&oracle, &copy), [Problem::Altered(dot(2, 1))]);
    }

    #[test]
    fn an_edit_renamed_by_a_fork_counts_as_the_one_that_was_acknowledged() {
        let oracle = story(NAME);
        let mut copy = faithful(&oracle);
        let mut entry = copy.entries.remove(&dot(1, 2)).unwrap();
        entry.numbered_as = Some(dot(1, 2));
        copy.entries.insert(dot(3, 1), entry);
        let values = &mut shown(&mut copy, NAME).values;
        let value = values.remove(&dot(1, 2)).unwrap();
        values.insert(dot(3, 1), value);
        assert_eq!(problems(&oracle, &copy), []);
    }

    #[test]
    fn copies_that_differ_have_different_digests() {
        let oracle = story(NAME);
        let copy = faithful(&oracle);
        let digest = |copy: &Copy| oracle.examine(SHARD, copy).digest;
        let mut other = copy.clone();
        other.entries.get_mut(&dot(2, 1)).unwrap().hash = b"another".to_vec();
        assert_ne!(digest(&copy), digest(&other));
        let mut other = copy.clone();
        shown(&mut other, NAME).disputed = false;
        assert_ne!(digest(&copy), digest(&other));
        assert_eq!(digest(&copy), digest(&copy.clone()));
    }

    #[test]
    fn a_message_names_the_place_and_no_value() {
        let oracle = story(NAME);
        let mut copy = faithful(&oracle);
        shown(&mut copy, NAME).values.clear();
        for problem in problems(&oracle, &copy) {
            let text = problem.to_string();
            assert!(!text.contains("Lân") && !text.contains("Lam"), "{text}");
        }
    }
}
