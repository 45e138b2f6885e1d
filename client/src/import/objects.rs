//! NDJSON: a record a line, `{"kind":"person","id":"@p1","home":"00001@2025-06-30","fields":{…}}`.

use std::fmt;

use dinhba_core::ids::RecordId;
use serde::Deserialize;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::{Value as Json, json};

use super::columns::{Column, Empty, REJECTED, Titles};
use super::{Drafted, finish, start};

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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Object {
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    home: Option<String>,
    fields: Entries,
    #[serde(default)]
    #[allow(dead_code)] // Passed over: why the row was rejected once.
    rejected: IgnoredAny,
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
        column.put(&mut record, &text, Empty::Clears)?;
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
        Json::Number(number) => number.to_string(),
        Json::Bool(flag) => if flag { "yes" } else { "no" }.to_owned(),
        Json::Array(_) | Json::Object(_) => return Err(format!("{} must be a text", column.name)),
    }))
}

/// The line again with why it was rejected, and each reference that `find` knows replaced by it.
pub(super) fn rejected(
    text: &str,
    reason: &str,
    kind: dinhba_core::schema::RecordKind,
    titles: &Titles,
    find: &dyn Fn(&str) -> Option<RecordId>,
) -> Option<Json> {
    let Json::Object(mut object) = serde_json::from_str(text).ok()? else { return None };
    if let Some(Json::Object(fields)) = object.get_mut("fields") {
        let mut mended = serde_json::Map::new();
        for (key, value) in std::mem::take(fields) {
            match (titles.column(&key), value) {
                (Some(None), _) => {}
                (Some(Some(column)), Json::String(text)) => {
                    let title = super::columns::Role::Field(column.clone()).title().unwrap_or(key);
                    mended.insert(title, json!(column.relink(kind, &text, find)));
                }
                (_, value) => {
                    mended.insert(key, value);
                }
            }
        }
        *fields = mended;
    }
    object.insert(REJECTED.to_owned(), json!(reason));
    Some(Json::Object(object))
}
