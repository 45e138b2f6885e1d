//! Records that are not registered yet, as they come out of a file or out of `generate`.
//!
//! A [`DraftRecord`] has plain texts (those of `dinhba_core::schema`) as its values, and refers to others by the ids that
//! stand in its file or that were made for it (`@p12`). Whoever registers them learns the real ids and puts them in with
//! [`DraftRecord::link`].

use dinhba_core::ids::RecordId;
use dinhba_core::schema::{FieldId, RecordKind, Type};

/// What a reference to a record that is not registered yet begins with.
pub const TEMPORARY: char = '@';

/// Records that belong together: a household and its people. The household comes first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Draft {
    /// The records.
    pub records: Vec<DraftRecord>,
}

/// A record that is not registered yet.
#[derive(Clone, PartialEq, Eq)]
pub struct DraftRecord {
    /// What it is about.
    pub kind: RecordKind,
    /// What its file calls it, or a temporary id (`@p12`); empty if it has none.
    pub id: String,
    /// Its home commune as a code and a day (`00001@2025-06-30`), if it is said.
    pub home: Option<String>,
    /// Its values, in order of the schema, then of the element keys.
    pub fields: Vec<DraftField>,
}

/// A value of a draft.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DraftField {
    /// The field.
    pub field: FieldId,
    /// The element key; empty for a field that stands once.
    pub element: String,
    /// The text form of the value.
    pub text: String,
}

// Personal data never reaches a log.
impl std::fmt::Debug for DraftRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} fields", self.kind, self.fields.len())
    }
}

impl std::fmt::Debug for DraftField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} bytes)", self.field, self.text.len())
    }
}

/// A draft refers to a record whose id is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} refers to a record that is not registered: register what it names first")]
pub struct Unlinked {
    /// The field that refers to it.
    pub field: FieldId,
}

impl DraftRecord {
    /// Puts real ids in the place of others. `find` knows the id of each registered draft.
    ///
    /// # Errors
    /// The first reference that `find` does not know; the record is then unchanged.
    pub fn link(&mut self, find: impl Fn(&str) -> Option<RecordId>) -> Result<(), Unlinked> {
        let mut fields = self.fields.clone();
        for DraftField { field, text, .. } in &mut fields {
            let unlinked = Unlinked { field: *field };
            let linked = map_references(*field, text, |name| match is_record(name) {
                true => Some(name.to_owned()),
                false => find(name).map(|id| id.to_string()),
            });
            *text = linked.ok_or(unlinked)?;
        }
        self.fields = fields;
        Ok(())
    }

    /// The ids that it refers to and that are no record's, in order of the fields.
    #[must_use]
    pub fn references(&self) -> Vec<String> {
        let mut found = Vec::new();
        for DraftField { field, text, .. } in &self.fields {
            map_references(*field, text, |name| {
                if !is_record(name) {
                    found.push(name.to_owned());
                }
                Some(String::new())
            });
        }
        found
    }

    /// The text of a field that stands once.
    #[must_use]
    pub fn text(&self, field: FieldId) -> Option<&str> {
        let found = self.fields.iter().find(|entry| entry.field == field && entry.element.is_empty());
        found.map(|entry| entry.text.as_str())
    }

    /// Adds a value; [`sort`](Self::sort) brings it to its place.
    pub(crate) fn put(&mut self, field: FieldId, element: &str, text: impl Into<String>) {
        self.fields.push(DraftField { field, element: element.to_owned(), text: text.into() });
    }

    pub(crate) fn sort(&mut self) {
        self.fields.sort();
    }
}

fn is_record(name: &str) -> bool {
    name.parse::<RecordId>().is_ok()
}

/// `text` with each reference replaced, be it a record's id or another; `None` if one has no replacement.
pub(crate) fn map_references(
    field: FieldId,
    text: &str,
    mut replace: impl FnMut(&str) -> Option<String>,
) -> Option<String> {
    let Some(known) = field.get() else { return Some(text.to_owned()) };
    match known.ty {
        Type::Record(_) if !text.trim().is_empty() => replace(text.trim()),
        Type::Struct(of) => {
            let is_reference = |name: &str| of.parts.iter().any(|p| p.name == name && matches!(p.ty, Type::Record(_)));
            let mut segments = Vec::new();
            for segment in split_unescaped(text) {
                match segment.split_once('=') {
                    Some((name, id)) if is_reference(name.trim()) && !id.trim().is_empty() => {
                        segments.push(format!("{name}={}", replace(id.trim())?));
                    }
                    _ => segments.push(segment.to_owned()),
                }
            }
            Some(segments.join(";"))
        }
        _ => Some(text.to_owned()),
    }
}

/// The segments of a structured text, with their escapes.
fn split_unescaped(text: &str) -> Vec<&str> {
    let mut segments = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, c) in text.char_indices() {
        if c == ';' && !escaped {
            segments.push(&text[start..at]);
            start = at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    segments.push(&text[start..]);
    segments
}
