//! Feature levels: what depends on the oldest program that runs in a group.
//!
//! Each group has a level, which its operators raise. Whatever replicas decide or derive is a function of state, command and
//! level. So a program that knows a higher level computes at a lower one, bit for bit, what the program did that knew no
//! more; and what is set aside at one is set aside by all. What each level brought stands in tables with a `since`: fields,
//! parts of values and codes of lists, rules (`schema`), kinds of edits and records, roles and purposes (`edit`, `claims`).
//! Here is what is no table: limits, and how names are folded.
//!
//! Left to others: who raises a level, and when no member forbids it (the node); what is made anew then
//! (`registry/raise.rs`). Not of the level are bounds without which an edit cannot even be read (`PARTS_MAX`,
//! `EDIT_BYTES_MAX`, `COMMAND_BYTES_MAX`, those of a batch): a neighbour with a lower one could take nothing any more. They
//! are of the format, as the tables of characters are.

/// The level that a group is formed at.
pub const LEVEL_FIRST: u16 = 1;

/// The highest level that this program knows. Level 2 has grounds (field 0) with plain changes, not only with decisions, and
/// the rule `status_before_birth`.
pub const LEVEL_MAX: u16 = 2;

/// The level from which a plain change may carry grounds.
pub const LEVEL_GROUNDS: u16 = 2;

/// What an author may write, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The grounds of an edit: two paragraphs.
    pub grounds_bytes: usize,
    /// A value of a field: no text of the schema needs more, and a record of all fields stays small.
    pub value_bytes: usize,
    /// The encoded size of a record after an officer's edit: fifty times an ordinary person with its cards and papers. With
    /// the values that two offices leave beside each other it is still a value that every engine takes, and as text an answer
    /// takes it. It binds at the author's door alone: a merge takes what came, whatever the order.
    pub record_bytes: usize,
}

/// From which level on which limits hold.
const LIMITS: &[(u16, Limits)] =
    &[(LEVEL_FIRST, Limits { grounds_bytes: 2_000, value_bytes: 8 * 1024, record_bytes: 64 * 1024 })];

/// What an author may write at a level.
#[must_use]
pub fn limits(level: u16) -> Limits {
    at(level, LIMITS)
}

/// How names are made plain for search. Terms of the index derive from it, so another way is another variant of a higher
/// level: the former stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folding {
    /// [`words`](crate::text::words) with the tables of `text/folding.rs`.
    First,
}

/// From which level on names are folded how.
const FOLDINGS: &[(u16, Folding)] = &[(LEVEL_FIRST, Folding::First)];

/// How names are folded at a level.
#[must_use]
pub fn folding(level: u16) -> Folding {
    at(level, FOLDINGS)
}

/// What holds at a level: the entry that began last.
fn at<T: Copy>(level: u16, table: &[(u16, T)]) -> T {
    let (first, rest) = table.split_first().expect("a table begins with the first level");
    rest.iter().rev().find(|(since, _)| *since <= level).unwrap_or(first).1
}

/// Whether a level has what is there since another, if ever.
#[must_use]
pub fn has(level: u16, since: Option<u16>) -> bool {
    since.is_some_and(|since| since <= level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_each_level_holds_what_began_last() {
        let table = [(1, 'a'), (3, 'b'), (4, 'c')];
        assert_eq!([0, 1, 2, 3, 4, 9].map(|level| at(level, &table)), ['a', 'a', 'a', 'b', 'c', 'c']);
        let begin = |mut since: Vec<u16>| {
            assert!(since[0] == LEVEL_FIRST && since.windows(2).all(|two| two[0] < two[1]), "{since:?}");
            assert!(since.pop() <= Some(LEVEL_MAX));
        };
        begin(LIMITS.iter().map(|(since, _)| *since).collect());
        begin(FOLDINGS.iter().map(|(since, _)| *since).collect());
    }

    #[test]
    fn what_is_there_since_a_level_is_there_from_then_on_and_what_is_unknown_never() {
        assert_eq!([Some(1), Some(2), Some(3), None].map(|since| has(2, since)), [true, true, false, false]);
    }
}
