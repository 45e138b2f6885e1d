//! The standing of an edit: what officers said of it, beside what it says of a record. An edit of grave consequence waits for a
//! second person, who confirms or rejects it; any edit may be held, and released again.
//!
//! It is a field of the record like any other, whose element is the edit that is meant, by its hash: so it is chained, signed, logged
//! and merged like all that officers write; who has not seen what a colleague said is refused as stale; and what two offices said of one
//! edit at once is a conflict that an officer decides. What it makes of the record is a function of the set of edits, and stands in
//! `registry::standing`.

use crate::edit::{Change, Edit, EditKind, GROUNDS};
use crate::ids::{Hash, RecordId};
use crate::schema::{FieldId, RecordKind, Second, field};

/// What is said of an edit. The numbers are the codes of the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// By a second person: it holds.
    Confirmed = 1,
    /// It does not hold, and never did.
    Rejected = 2,
    /// It does not hold until it is released: its author's authority is in doubt.
    Held = 3,
    /// As if it had not been held.
    Released = 4,
}

impl Standing {
    /// All, in the order of their codes.
    pub const ALL: [Standing; 4] = [Standing::Confirmed, Standing::Rejected, Standing::Held, Standing::Released];

    /// Its word, as in files, on the wire and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Standing::Confirmed => "confirmed",
            Standing::Rejected => "rejected",
            Standing::Held => "held",
            Standing::Released => "released",
        }
    }

    /// What that word says.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Standing::ALL.into_iter().find(|standing| standing.name() == name)
    }

    /// The kind of edit that says so.
    #[must_use]
    pub fn kind(self) -> EditKind {
        match self {
            Standing::Confirmed => EditKind::Confirmation,
            Standing::Rejected => EditKind::Reject,
            Standing::Held => EditKind::Hold,
            Standing::Released => EditKind::Release,
        }
    }

    /// What an edit of that kind says; none of a kind that says something else.
    #[must_use]
    pub fn of_kind(kind: EditKind) -> Option<Self> {
        Standing::ALL.into_iter().find(|standing| standing.kind() == kind)
    }

    /// The value of the field.
    #[must_use]
    pub fn value(self) -> Vec<u8> {
        vec![self as u8]
    }

    /// What a value of the field says; none of one that was cleared.
    #[must_use]
    pub fn of_value(value: &[u8]) -> Option<Self> {
        Standing::ALL.into_iter().find(|standing| value == [*standing as u8])
    }

    /// Whether it rests on grounds: whoever takes something out of a record says why.
    #[must_use]
    pub fn needs_grounds(self) -> bool {
        matches!(self, Standing::Rejected | Standing::Held)
    }
}

/// The field of a kind of record that says how its edits stand; none of sites, of which operators write.
#[must_use]
pub fn standing_field(kind: RecordKind) -> Option<FieldId> {
    match kind {
        RecordKind::Person => Some(field::STANDING),
        RecordKind::Household => Some(field::HOUSEHOLD_STANDING),
        RecordKind::Dossier => Some(field::DOSSIER_STANDING),
        RecordKind::Site
        | RecordKind::Unit
        | RecordKind::Block
        | RecordKind::Target
        | RecordKind::Calendar
        | RecordKind::Unknown(_) => None,
    }
}

/// Whether a field says how edits stand.
#[must_use]
pub fn is_standing(field: FieldId) -> bool {
    [field::STANDING, field::HOUSEHOLD_STANDING, field::DOSSIER_STANDING].contains(&field)
}

/// The element of an edit: the first half of its hash, in hexadecimal digits. Nobody finds a second edit with the same.
#[must_use]
pub fn standing_key(hash: &Hash) -> Vec<u8> {
    hash.to_string().as_bytes()[..32].to_vec()
}

/// Whether changes are pending until a second person confirms them. It depends on what they say and not on what their author calls
/// them, so that no site can leave the second person out. `makes_it` says whether they make the record.
#[must_use]
pub fn needs_second(kind: EditKind, changes: &[Change], makes_it: impl FnOnce() -> bool) -> bool {
    // Also of who decides between several values, since he may have written them, or none of them.
    let replaces = |change: &Change| is_grave(change) && !change.overwrites.is_empty();
    let always = |change: &Change| second_of(change) == Second::Always;
    match kind {
        EditKind::Proposal => true,
        EditKind::Change | EditKind::Decision => {
            // What makes a record replaces nothing.
            changes.iter().any(replaces) || (changes.iter().any(always) && !makes_it())
        }
        _ => false,
    }
}

fn second_of(change: &Change) -> Second {
    change.field.get().map_or(Second::No, |field| field.second)
}

/// Whether one person cannot settle what a change puts in the place of a value.
#[must_use]
pub fn is_grave(change: &Change) -> bool {
    second_of(change) != Second::No
}

impl Edit {
    /// Whether it waits for a second person, as long as nobody said anything of it.
    #[must_use]
    pub fn needs_second(&self) -> bool {
        needs_second(self.header.kind, &self.changes, || self.makes_record())
    }

    /// Whether it says that it makes its record. Another site may say so too, under the name of the same request.
    #[must_use]
    pub fn makes_record(&self) -> bool {
        let header = &self.header;
        header.record == RecordId::derive(header.origin.request, header.part)
    }

    /// What it says of how another edit stands, if that is what it says.
    #[must_use]
    pub fn standing_change(&self) -> Option<&Change> {
        self.changes.iter().find(|change| is_standing(change.field))
    }
}

/// Whether changes say what their kind may: how one edit stands, or what a record is, and not both.
///
/// # Errors
/// What to do instead.
pub fn check_kind(kind: EditKind, changes: &[Change]) -> Result<(), &'static str> {
    let mut said = changes.iter().filter(|change| change.field != GROUNDS);
    let (first, is_one) = (said.next(), said.next().is_none());
    let has_any = changes.iter().any(|change| is_standing(change.field));
    match (Standing::of_kind(kind), kind) {
        (Some(standing), _) => {
            let is_said = first.is_some_and(|change| is_standing(change.field) && change.value == standing.value());
            if is_said && is_one { Ok(()) } else { Err("it says how one edit stands, and nothing else") }
        }
        (None, EditKind::Decision) if has_any && !is_one => {
            Err("decide how an edit stands by itself, apart from other fields")
        }
        (None, EditKind::Decision) => Ok(()),
        (None, _) if has_any => Err("how an edit stands is not edited: confirm, reject, hold or release it"),
        (None, _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::codes;

    #[test]
    fn the_codes_of_the_field_are_what_is_said() {
        let codes: Vec<(u8, &str)> = codes::STANDING.iter().map(|code| (code.number, code.name)).collect();
        assert_eq!(codes, Standing::ALL.map(|standing| (standing as u8, standing.name())));
        assert!(Standing::ALL.iter().all(|standing| Standing::of_value(&standing.value()) == Some(*standing)));
    }
}
