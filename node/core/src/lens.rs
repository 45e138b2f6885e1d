//! How the registry looks at records through the schema: which values may be, what is in dispute, what is searchable.

use std::collections::BTreeSet;

use crate::date::PartialDate;
use crate::edit::{Change, GROUNDS};
use crate::ids::first_16;
use crate::record::Record;
use crate::registry::ShardState;
use crate::schema::{Class, FieldId, RecordKind, Rule, RuleId, Value, field, rules, validate as validate_value};
use crate::text::{check, fold};

/// The length of the grounds of an edit: two paragraphs.
pub const GROUNDS_BYTES_MAX: usize = 2_000;

/// Whether a change may stand in a record of this kind; the text names the field and what to do, never the value.
pub fn validate(kind: RecordKind, change: &Change) -> Result<(), String> {
    if change.field == GROUNDS {
        let text = std::str::from_utf8(&change.value).map_err(|_| "grounds: not UTF-8 text".to_owned())?;
        if change.value.len() > GROUNDS_BYTES_MAX || !change.overwrites.is_empty() {
            return Err(format!("grounds: give at most {GROUNDS_BYTES_MAX} bytes of text, replacing nothing"));
        }
        return check(text, GROUNDS_BYTES_MAX).map_err(|error| format!("grounds: {error}"));
    }
    validate_value(kind, change.field, &change.element, &change.value).map_err(|invalid| invalid.to_string())
}

/// Whether bytes are a civil date, or empty.
#[must_use]
pub fn is_valid_date(bytes: &[u8]) -> bool {
    bytes.is_empty() || PartialDate::from_bytes(bytes).is_ok()
}

/// Whether several values of a field are a conflict.
#[must_use]
pub fn is_adjudicated(field: FieldId) -> bool {
    field.class() == Class::Adjudicated
}

/// The rules that a record breaks, of those that look at a touched field: an edit of others leaves the rest as it was.
#[must_use]
pub fn broken_rules(record: &Record, touches: impl Fn(FieldId) -> bool) -> Vec<u16> {
    let looked_at = |rule: &Rule| rule.fields.iter().any(|field| touches(*field));
    let lookup = |field: FieldId, element: &[u8]| {
        let values = record.values(&(field, element.to_vec()));
        values.iter().map(|tagged| tagged.value.as_slice()).collect()
    };
    // Asked for several fields by each rule: they are looked up in a list, which is in order, not in the record.
    let written: Vec<FieldId> = record.fields().map(|((field, _), _)| *field).collect();
    let has = |field: FieldId| written.binary_search(&field).is_ok();
    rules(record.kind, looked_at, has, &lookup).into_iter().map(|rule| rule.0).collect()
}

/// What a rule asks for.
#[must_use]
pub fn rule_text(rule: u16) -> String {
    RuleId(rule).get().map_or_else(|| format!("rule {rule}"), |rule| format!("{}: {}", rule.name, rule.text))
}

/// The counter of records of a kind.
pub fn counter(shard: &mut ShardState, kind: RecordKind) -> &mut u64 {
    match kind {
        RecordKind::Person => &mut shard.persons,
        RecordKind::Household => &mut shard.households,
    }
}

/// The keyed hash under which a personal number is indexed.
#[must_use]
pub fn number_term(index_key: &[u8; 32], number: &str) -> [u8; 16] {
    term(index_key, "number", number)
}

/// The keyed hash under which a name, in any spelling of accents, is indexed together with a birth date as it is
/// written (`1975`, `1975-03`, `1975-03-02`).
#[must_use]
pub fn name_term(index_key: &[u8; 32], name: &str, birth_date: &str) -> [u8; 16] {
    folded_name_term(index_key, &fold(name), birth_date)
}

fn folded_name_term(index_key: &[u8; 32], folded: &str, birth_date: &str) -> [u8; 16] {
    term(index_key, "name", &format!("{folded}\n{birth_date}"))
}

fn term(index_key: &[u8; 32], kind: &str, text: &str) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_keyed(index_key);
    hasher.update(kind.as_bytes()).update(&[0]).update(text.as_bytes());
    first_16(&hasher.finalize())
}

/// The fields that [`search_terms`] looks at.
pub const SEARCHED: [FieldId; 3] = [field::PERSONAL_NUMBER, field::NAME, field::BIRTH_DATE];

/// The terms by which a record is found. A disputed field is found by each of its values. A birth date is found by its
/// year alone too, since people often know no more.
#[must_use]
pub fn search_terms(record: &Record, index_key: &[u8; 32]) -> BTreeSet<[u8; 16]> {
    let values = |field: FieldId| {
        let tagged = record.values(&(field, Vec::new())).iter();
        tagged.filter_map(move |tagged| Value::decode(field, &tagged.value).ok()).collect::<Vec<_>>()
    };
    let mut terms = BTreeSet::new();
    for number in values(field::PERSONAL_NUMBER).iter().filter_map(Value::number) {
        terms.insert(number_term(index_key, &number.to_string()));
    }
    let names: Vec<String> = values(field::NAME).iter().filter_map(Value::spoken).map(|name| fold(&name)).collect();
    for date in values(field::BIRTH_DATE).iter().filter_map(Value::date) {
        let written = date.to_string();
        let year = written.split('-').next().unwrap_or(&written).to_owned();
        for (name, written) in names.iter().flat_map(|name| [(name, &written), (name, &year)]) {
            terms.insert(folded_name_term(index_key, name, written));
        }
    }
    terms
}
