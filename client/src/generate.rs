//! Synthetic populations, and the files that records come from and go to.
//!
//! A [`Draft`] is a household with its people as records that are not registered yet: their fields are plain texts (those
//! of `dinhba_core::schema`), and they refer to each other by temporary ids (`@p12`). Whoever registers them learns the
//! real ids and puts them in with [`DraftRecord::link`].
//!
//! - [`generate`] invents drafts: the same for the same seed, on every machine.
//! - [`files`] writes and reads records as NDJSON or CSV.
//!
//! Everybody here is invented. Telephone numbers have the eleven digits that Vietnam gave up in 2018, so nobody answers them;
//! e-mail addresses are of `example.com`. Personal numbers have the form of real ones, as they must: they prove nothing.

pub mod files;
mod names;
mod people;
#[cfg(test)]
mod tests;

use dinhba_core::ids::RecordId;
use dinhba_core::schema::{FieldId, RecordKind, Type};

pub use people::{Generate, GenerateError, generate};

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
    /// Its temporary id (`@p12`), or whatever a file calls it.
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
    /// Puts real ids in the place of temporary ones. `find` knows the id of each registered draft.
    ///
    /// # Errors
    /// The first reference that `find` does not know; the record is then unchanged.
    pub fn link(&mut self, find: impl Fn(&str) -> Option<RecordId>) -> Result<(), Unlinked> {
        let mut fields = self.fields.clone();
        for DraftField { field, text, .. } in &mut fields {
            let unlinked = Unlinked { field: *field };
            let linked = map_references(*field, text, |temporary| find(temporary).map(|id| id.to_string()));
            *text = linked.ok_or(unlinked)?;
        }
        self.fields = fields;
        Ok(())
    }

    /// The temporary ids that it refers to, in order of the fields.
    #[must_use]
    pub fn references(&self) -> Vec<String> {
        let mut found = Vec::new();
        for DraftField { field, text, .. } in &self.fields {
            map_references(*field, text, |temporary| {
                found.push(temporary.to_owned());
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
    fn put(&mut self, field: FieldId, element: &str, text: impl Into<String>) {
        self.fields.push(DraftField { field, element: element.to_owned(), text: text.into() });
    }

    fn sort(&mut self) {
        self.fields.sort();
    }
}

/// `text` with each temporary reference replaced; `None` if one has no replacement.
fn map_references(field: FieldId, text: &str, mut replace: impl FnMut(&str) -> Option<String>) -> Option<String> {
    let Some(known) = field.get() else { return Some(text.to_owned()) };
    match known.ty {
        Type::Record(_) if text.starts_with(TEMPORARY) => replace(text),
        Type::Struct(of) => {
            let is_reference = |name: &str| of.parts.iter().any(|p| p.name == name && matches!(p.ty, Type::Record(_)));
            let mut segments = Vec::new();
            for segment in split_unescaped(text) {
                match segment.split_once('=') {
                    Some((name, id)) if is_reference(name.trim()) && id.trim().starts_with(TEMPORARY) => {
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
