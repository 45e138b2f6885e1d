//! The schema, for whoever writes `field=value` by hand.

use dinhba_core::schema::{
    Class, Code, Field, Form, RELATIONS, RecordKind, Repeat, Sensitivity, Shape, Struct, Tense, Type, fields,
};
use serde_json::{Value as Json, json};

use super::sheet::{Sheet, column};
use super::{Desk, Exit, Failure};

/// Codes that a line of the table names; a longer list is in `--json`.
const CODES_SHOWN_MAX: usize = 12;

/// Lists the fields of a kind of record, or of both.
pub(super) fn list(kind: Option<RecordKind>, desk: &mut Desk<'_>) -> Result<Exit, Failure> {
    let wanted =
        || RecordKind::ALL.into_iter().filter(move |one| kind.is_none_or(|kind| kind == *one)).flat_map(fields);
    desk.show(|| as_text(wanted()), || json!({ "fields": wanted().map(as_json).collect::<Vec<_>>() }))?;
    Ok(Exit::Done)
}

fn as_text(wanted: impl Iterator<Item = &'static Field>) -> String {
    let mut rows = Sheet::new([
        column("kind").spare(1),
        column("field"),
        column("trường").wraps(16).spare(2),
        column("how it is written").wraps(24),
    ]);
    for field in wanted {
        rows.add_row([field.kind.name().to_owned(), written_name(field), field.label.to_owned(), form(&field.ty)]);
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
        "kind": field.kind.name(), "field": field.name, "label": field.label, "form": form(&field.ty),
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

fn form(ty: &Type) -> String {
    match ty {
        Type::Text { chars_max, shape: Shape::Free } => format!("text, up to {chars_max} characters"),
        Type::Text { chars_max, shape: Shape::Name } => {
            format!("letters (each word in one script), up to {chars_max} characters")
        }
        Type::Text { shape: Shape::Digits { min, max }, .. } if min == max => format!("{min} digits"),
        Type::Text { shape: Shape::Digits { min, max }, .. } => format!("{min} to {max} digits"),
        Type::Text { shape: Shape::Phone, .. } => "telephone number, 8 to 15 digits".to_owned(),
        Type::Text { shape: Shape::Email, .. } => "e-mail address".to_owned(),
        Type::Text { shape: Shape::Site, .. } => "s-…".to_owned(),
        Type::Text { shape: Shape::Shard, .. } => "h-…".to_owned(),
        Type::Text { shape: Shape::Unit, .. } => "u-…".to_owned(),
        Type::Text { shape: Shape::Incarnation, .. } => "i-…".to_owned(),
        Type::Text { shape: Shape::Key | Shape::Hash, .. } => "64 hex digits".to_owned(),
        Type::Text { shape: Shape::Address, .. } => "host:port".to_owned(),
        Type::Date(Tense::Past) => "1975-03-02 or 02/03/1975, 1975-03, 1975; not to come".to_owned(),
        Type::Date(Tense::Any) => "1975-03-02 or 02/03/1975, 1975-03, 1975; may be to come".to_owned(),
        Type::Code(codes) if codes.len() <= CODES_SHOWN_MAX => {
            codes.iter().map(|code| code.name).collect::<Vec<_>>().join(" | ")
        }
        Type::Code(codes) => {
            let some: Vec<&str> = codes.iter().take(3).map(|code| code.name).collect();
            format!("{} | … ({} in all; these and what else may be typed: --json)", some.join(" | "), codes.len())
        }
        Type::Country => "VN, or the country's name".to_owned(),
        Type::Number => "12 digits".to_owned(),
        Type::Unit => "code@day: 02683@2025-06-30".to_owned(),
        Type::Record(kind) => format!("r-… of a {kind}"),
        Type::Flag => "yes | no".to_owned(),
        Type::Struct(Struct { form: Form::Slashes, parts, .. }) => {
            let names = parts.iter().map(|part| part.name).collect::<Vec<_>>().join("/");
            let chars = parts.first().map(|part| format!("; each {}", form(&part.ty))).unwrap_or_default();
            names + &chars
        }
        Type::Struct(Struct { form: Form::Named, parts, .. }) => {
            let part = |part: &dinhba_core::schema::Part| {
                let needed = if part.required { "" } else { "?" };
                format!("{}{needed}=<{}>", part.name, form(&part.ty))
            };
            parts.iter().map(part).collect::<Vec<_>>().join(";\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_listed_with_a_form() {
        let shown = as_text(RecordKind::ALL.into_iter().flat_map(fields));
        for field in RecordKind::ALL.into_iter().flat_map(fields) {
            assert!(shown.contains(field.name) && !form(&field.ty).is_empty(), "{}", field.name);
        }
        assert!(shown.contains("family/middle/given") && shown.contains("relative[child-<key>]"), "{shown}");
        assert!(shown.contains("male | female") && shown.contains("since?=<1975-03-02"), "{shown}");
    }
}
