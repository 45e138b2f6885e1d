//! NDJSON: a record a line, `{"kind":"person","id":"@p1","home":"00001@2025-06-30","fields":{…}}`.

use std::fmt;

use dinhba_core::ids::RecordId;
use dinhba_core::schema::RecordKind;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::columns::{Column, REJECTED, Role, Titles};
use super::{Drafted, finish, kind_of, start};

/// Bytes of a line: far more than a record of all fields needs.
pub(super) const LINE_BYTES_MAX: usize = 1024 * 1024;

/// What `fields` holds, in its order; a key that stands there twice is an error, not a choice.
#[derive(Default)]
struct Entries(Vec<(String, Json)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Entries;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries: Vec<(String, Json)> = Vec::new();
                while let Some((key, value)) = map.next_entry()? {
                    if entries.iter().any(|(known, _)| *known == key) {
                        return Err(A::Error::custom("a key twice"));
                    }
                    entries.push((key, value));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

impl Serialize for Entries {
    /// A key that stands there twice is written twice: nobody has chosen.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Object {
    /// Why the row was rejected: written, and passed over.
    #[serde(default, deserialize_with = "passed_over")]
    rejected: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    home: Option<String>,
    fields: Entries,
}

fn passed_over<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| String::new())
}

/// Whether the line is a whole object at all: if not, the file is cut or damaged.
pub(super) fn check_form(line: &str) -> Result<(), String> {
    if line.len() > LINE_BYTES_MAX {
        return Err(format!("is longer than {LINE_BYTES_MAX} bytes"));
    }
    // The parser's own message may quote the text: the place is enough.
    match serde_json::from_str::<IgnoredAny>(line) {
        Ok(_) if line.trim_start().starts_with('{') => Ok(()),
        Ok(_) => Err("is no JSON object".to_owned()),
        Err(error) => Err(format!("is no whole JSON object (column {})", error.column())),
    }
}

pub(super) fn read(text: &str, titles: &Titles) -> Drafted {
    let object: Object = serde_json::from_str(text).map_err(|_| {
        "must have the texts kind, id and home, the object fields, no others, and each key once".to_owned()
    })?;
    let mut record = start(object.kind.as_deref(), object.id, object.home)?;
    for (key, value) in object.fields.0 {
        let Some(column) = titles.column(&key).ok_or("has an unknown field")? else { continue };
        let Some(text) = text_of(&column, value)? else { continue };
        column.put(&mut record, &text)?;
    }
    finish(record)
}

/// A value as text; none says nothing.
fn text_of(column: &Column, value: Json) -> Result<Option<String>, String> {
    Ok(Some(match value {
        Json::Null => return Ok(None),
        Json::String(text) => text,
        Json::Number(_) if column.is_digits() => {
            return Err(format!("{} must be a text: a number loses its leading zeros", column.name));
        }
        Json::Number(number) if number.is_f64() => {
            return Err(format!("{} must be a text: a number loses digits", column.name));
        }
        Json::Number(number) => number.to_string(),
        Json::Bool(flag) => if flag { "yes" } else { "no" }.to_owned(),
        Json::Array(_) | Json::Object(_) => return Err(format!("{} must be a text", column.name)),
    }))
}

/// The line again with why it was rejected, and each reference that `find` knows replaced by it. Keys are then the schema's,
/// so that the line is read without the caller's titles; a line that is no row of ours stays as it is.
pub(super) fn rejected(text: &str, reason: &str, titles: &Titles, find: &dyn Fn(&str) -> Option<RecordId>) -> String {
    let Ok(object) = serde_json::from_str::<Object>(text) else { return with_reason(text, reason) };
    let kind = kind_of(object.kind.as_deref().unwrap_or_default()).unwrap_or(RecordKind::Person);
    let entries = object.fields.0.into_iter().filter_map(|(key, value)| {
        let Some(column) = titles.column(&key) else { return Some((key, value)) };
        let column = column?;
        let value = match value {
            Json::String(text) => json!(column.relink(kind, &text, find)),
            other => other,
        };
        Some((Role::Field(column).title().unwrap_or(key), value))
    });
    let object = Object { fields: Entries(entries.collect()), rejected: reason.to_owned(), ..object };
    serde_json::to_string(&object).expect("what was read as JSON is written as JSON")
}

/// The line with the reason as its first key, in the place of an earlier one.
fn with_reason(text: &str, reason: &str) -> String {
    let whole = text.trim_start();
    let inside = whole.strip_prefix('{').unwrap_or(whole).trim_start();
    let earlier = inside.strip_prefix(&format!("\"{REJECTED}\":")).and_then(|value| {
        let mut values = serde_json::Deserializer::from_str(value).into_iter::<IgnoredAny>();
        values.next()?.ok()?;
        let rest = value[values.byte_offset()..].trim_start();
        Some(rest.strip_prefix(',').unwrap_or(rest))
    });
    let inside = earlier.unwrap_or(inside);
    let comma = if inside.starts_with('}') { "" } else { "," };
    format!("{{\"{REJECTED}\":{}{comma}{inside}", json!(reason))
}
