//! How the registry looks at records through the schema of a feature level: which values may be, what is in dispute.

use crate::date::PartialDate;
use crate::edit::{Change, GROUNDS};
use crate::level::limits;
use crate::record::Record;
use crate::schema::{Class, FieldId, RecordKind, Rule, RuleId, rules, validate as validate_value};
use crate::targets;
use crate::text::check;

/// Whether a change may stand in a record of this kind; the text names the field and what to do, never the value.
pub fn validate(level: u16, kind: RecordKind, change: &Change) -> Result<(), String> {
    if change.field == GROUNDS {
        let text = std::str::from_utf8(&change.value).map_err(|_| "grounds: not UTF-8 text".to_owned())?;
        let bytes_max = limits(level).grounds_bytes;
        if change.value.len() > bytes_max || !change.overwrites.is_empty() {
            return Err(format!("grounds: give at most {bytes_max} bytes of text, replacing nothing"));
        }
        return check(text, bytes_max).map_err(|error| format!("grounds: {error}"));
    }
    validate_value(level, kind, change.field, &change.element, &change.value).map_err(|invalid| invalid.to_string())?;
    targets::check(level, change)
}

/// Whether bytes are a civil date, or empty.
#[must_use]
pub fn is_valid_date(bytes: &[u8]) -> bool {
    bytes.is_empty() || PartialDate::from_bytes(bytes).is_ok()
}

/// Whether several values of a field are a conflict at a level.
#[must_use]
pub fn is_adjudicated(level: u16, field: FieldId) -> bool {
    field.class(level) == Class::Adjudicated
}

/// The rules of a level that a record breaks, of those that look at a touched field: an edit of others leaves the rest as it was.
#[must_use]
pub fn broken_rules(level: u16, record: &Record, touches: impl Fn(FieldId) -> bool) -> Vec<u16> {
    let looked_at = |rule: &Rule| rule.fields.iter().any(|field| touches(*field));
    let lookup = |field: FieldId, element: &[u8]| {
        let values = record.values(&(field, element.to_vec()));
        values.iter().map(|tagged| tagged.value.as_slice()).collect()
    };
    // Asked for several fields by each rule: they are looked up in a list, which is in order, not in the record.
    let written: Vec<FieldId> = record.fields().map(|((field, _), _)| *field).collect();
    let has = |field: FieldId| written.binary_search(&field).is_ok();
    rules(level, record.kind, looked_at, has, &lookup).into_iter().map(|rule| rule.0).collect()
}

/// What a rule asks for.
#[must_use]
pub fn rule_text(rule: u16) -> String {
    RuleId(rule).get().map_or_else(
        || format!("rule {rule}"),
        |rule| format!("{}: {} / {} ({})", rule.name, rule.text, rule.text_vi, rule.law),
    )
}

/// What to do where two records of a shard have one personal number.
pub const NUMBER_TWICE: &str = "number_twice: another record here has this personal number: find both by it, and correct the \
                                one whose paper says another, or clear the number of the one that stands here twice";
