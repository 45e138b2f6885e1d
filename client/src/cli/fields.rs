//! The schema, for whoever writes `field=value` by hand.

use dinhba_core::schema::{
    Class, Code, Field, Form, RELATIONS, RecordKind, Repeat, Sensitivity, Shape, Struct, Tense, Type, fields,
};
use serde_json::{Value as Json, json};

use super::sheet::{Sheet, column};
use super::{Desk, Exit, Failure};
use crate::language::{Lang, Message, say};

/// Codes that a line of the table names; a longer list is in `--json`.
const CODES_SHOWN_MAX: usize = 12;

/// Lists the fields of a kind of record, or of both.
pub(super) fn list(kind: Option<RecordKind>, desk: &mut Desk<'_>) -> Result<Exit, Failure> {
    let wanted =
        || RecordKind::ALL.into_iter().filter(move |one| kind.is_none_or(|kind| kind == *one)).flat_map(fields);
    desk.show(|lang| as_text(lang, wanted()), || json!({ "fields": wanted().map(as_json).collect::<Vec<_>>() }))?;
    Ok(Exit::Done)
}

fn as_text(lang: Lang, wanted: impl Iterator<Item = &'static Field>) -> String {
    let columns = [
        column("kind").spare(1),
        column("field"),
        column("label").wraps(16).spare(2),
        column("how-it-is-written").wraps(24),
    ];
    let mut rows = Sheet::titled(lang, columns);
    for field in wanted {
        let kind = Message::word("kind", field.kind.name()).text(lang);
        rows.add_row([kind, written_name(field), field.label.to_owned(), form(lang, &field.ty)]);
    }
    rows.text()
}

fn as_json(field: &'static Field) -> Json {
    let codes: Vec<&str> = match field.ty {
        Type::Code(codes) => codes.iter().map(|code| code.name).collect(),
        _ => Vec::new(),
    };
    let choices = match field.ty {
        Type::Code(codes) => codes.iter().map(choice_json).collect(),
        _ => Vec::new(),
    };
    json!({
        "kind": field.kind.name(), "field": field.name, "label": field.label, "form": form(Lang::En, &field.ty),
        "repeated": field.repeat != Repeat::Once, "codes": codes, "choices": choices,
        "conflicts": field.class == Class::Adjudicated, "sensitive": field.sensitivity == Sensitivity::Sensitive,
    })
}

/// A code with all that may be typed for it, besides accents, hyphens, apostrophes, spaces and capitals.
fn choice_json(code: &Code) -> Json {
    json!({ "name": code.name, "label": code.label, "aliases": code.aliases })
}

fn written_name(field: &Field) -> String {
    match field.repeat {
        Repeat::Once => field.name.to_owned(),
        Repeat::Keyed => format!("{}[<key>]", field.name),
        Repeat::Relation => {
            let keys =
                RELATIONS.iter().map(|(name, keyed)| if *keyed { format!("{name}-<key>") } else { (*name).into() });
            keys.map(|key| format!("{}[{key}]", field.name)).collect::<Vec<_>>().join("\n")
        }
    }
}

fn form(lang: Lang, ty: &Type) -> String {
    let said = match ty {
        Type::Text { chars_max, shape: Shape::Free } => say!("written-text", count = *chars_max),
        Type::Text { chars_max, shape: Shape::Name } => say!("written-letters", count = *chars_max),
        Type::Text { shape: Shape::Digits { min, max }, .. } if min == max => say!("written-digits", count = *min),
        Type::Text { shape: Shape::Digits { min, max }, .. } => say!("written-digits-between", min = *min, max = *max),
        Type::Text { shape: Shape::Phone, .. } => say!("written-phone"),
        Type::Text { shape: Shape::Email, .. } => say!("written-email"),
        Type::Text { shape: Shape::Site, .. } => Message::plain("s-…"),
        Type::Text { shape: Shape::Shard, .. } => Message::plain("h-…"),
        Type::Text { shape: Shape::Unit, .. } => Message::plain("u-…"),
        Type::Text { shape: Shape::Incarnation, .. } => Message::plain("i-…"),
        Type::Text { shape: Shape::Key | Shape::Hash, .. } => say!("written-hex"),
        Type::Text { shape: Shape::Address, .. } => Message::plain("host:port"),
        Type::Date(Tense::Past) => say!("written-day-past"),
        Type::Date(Tense::Any) => say!("written-day"),
        Type::Code(codes) if codes.len() <= CODES_SHOWN_MAX => {
            Message::plain(codes.iter().map(|code| word(lang, code)).collect::<Vec<_>>().join(" | "))
        }
        Type::Code(codes) => {
            let some: Vec<&str> = codes.iter().take(3).map(|code| word(lang, code)).collect();
            say!("written-codes", some = some.join(" | "), count = codes.len())
        }
        Type::Country => say!("written-country"),
        Type::Number => say!("written-digits", count = 12_usize),
        Type::Unit => say!("written-unit"),
        Type::Record(kind) => say!("written-record", kind = Message::word("kind", kind.name())),
        Type::Flag => say!("written-flag"),
        Type::Struct(Struct { form: Form::Slashes, parts, .. }) => {
            let names = parts.iter().map(|part| part.name).collect::<Vec<_>>().join("/");
            match parts.first() {
                Some(part) => say!("written-slashes", names = names, each = form(lang, &part.ty)),
                None => Message::plain(names),
            }
        }
        Type::Struct(Struct { form: Form::Named, parts, .. }) => {
            let part = |part: &dinhba_core::schema::Part| {
                let needed = if part.required { "" } else { "?" };
                format!("{}{needed}=<{}>", part.name, form(lang, &part.ty))
            };
            Message::plain(parts.iter().map(part).collect::<Vec<_>>().join(";\n"))
        }
    };
    said.text(lang)
}

/// What is typed for a code: both its name and its label may be.
fn word(lang: Lang, code: &'static Code) -> &'static str {
    match lang {
        Lang::En => code.name,
        Lang::Vi => code.label,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_listed_with_a_form() {
        let told = as_text(Lang::Vi, RecordKind::OF_PEOPLE.into_iter().flat_map(fields));
        crate::cli::tests::vietnamese::assert_vietnamese(&told);
        let shown = as_text(Lang::En, RecordKind::ALL.into_iter().flat_map(fields));
        for field in RecordKind::ALL.into_iter().flat_map(fields) {
            assert!(shown.contains(field.name) && !form(Lang::En, &field.ty).is_empty(), "{}", field.name);
        }
        assert!(shown.contains("family/middle/given") && shown.contains("relative[child-<key>]"), "{shown}");
        assert!(shown.contains("male | female") && shown.contains("since?=<1975-03-02"), "{shown}");
    }
}
