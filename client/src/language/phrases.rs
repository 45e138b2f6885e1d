//! Sentences that were made elsewhere, in English: by a node, whose refusals carry one beside their reason, and by modules that
//! know nothing of languages (what is wrong with a value, a file, a certificate, an archive).
//!
//! The book of phrases (`phrases.ftl`) has each of them as it is written there, with holes for what differs, and the same in the other
//! languages. A sentence is looked up by what stands between the holes; what fills a hole may be a phrase itself. Names of fields become
//! their labels, days are written as the language has it. What is not in the book is not translated: whoever shows it says
//! beside it what is known otherwise ([`super::refusals`]).
//! Limits: of phrases that fit, the one with the most letters of its own counts; a hole is filled with as little as fits.

use std::sync::LazyLock;

use dinhba_core::event::Form;
use dinhba_core::schema::{FIELDS, Type};
use fluent_bundle::FluentValue;
use fluent_syntax::ast::{Entry, Expression, InlineExpression, PatternElement};

use super::{FILES, Lang, resource, word_in, written};

/// A phrase, as it is written in English.
struct Phrase {
    key: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Letters(String),
    Hole(String),
}

impl Phrase {
    fn letters(&self) -> usize {
        let letters = self.pieces.iter().map(|piece| match piece {
            Piece::Letters(letters) => letters.len(),
            Piece::Hole(_) => 0,
        });
        letters.sum()
    }
}

/// The phrases, those with the most letters first.
static BOOK: LazyLock<Vec<Phrase>> = LazyLock::new(|| {
    let mut book = Vec::new();
    for (name, [english, _]) in FILES.iter().filter(|(name, _)| *name == "phrases") {
        for entry in resource(name, english).entries() {
            let Entry::Message(message) = entry else { continue };
            let elements = message.value.iter().flat_map(|pattern| &pattern.elements);
            let pieces = elements.map(|element| match element {
                PatternElement::TextElement { value } => Piece::Letters((*value).to_owned()),
                PatternElement::Placeable { expression: Expression::Inline(inline) } => match inline {
                    InlineExpression::VariableReference { id } => Piece::Hole(id.name.to_owned()),
                    InlineExpression::StringLiteral { value } => Piece::Letters((*value).to_owned()),
                    _ => panic!("{}: a phrase has letters and parameters", message.id.name),
                },
                PatternElement::Placeable { .. } => panic!("{}: a phrase has no variants", message.id.name),
            });
            book.push(Phrase { key: message.id.name.to_owned(), pieces: joined(pieces) });
        }
    }
    book.sort_by_key(|phrase| std::cmp::Reverse(phrase.letters()));
    book
});

/// Letters that follow letters are one piece.
fn joined(pieces: impl Iterator<Item = Piece>) -> Vec<Piece> {
    let mut joined: Vec<Piece> = Vec::new();
    for piece in pieces {
        match (joined.last_mut(), piece) {
            (Some(Piece::Letters(before)), Piece::Letters(letters)) => before.push_str(&letters),
            (_, piece) => joined.push(piece),
        }
    }
    joined
}

/// What fills the holes, if a text is the phrase.
fn filled<'a>(pieces: &'a [Piece], text: &'a str) -> Option<Vec<(&'a str, &'a str)>> {
    match pieces {
        [] => text.is_empty().then(Vec::new),
        [Piece::Letters(letters), rest @ ..] => filled(rest, text.strip_prefix(letters.as_str())?),
        [Piece::Hole(name)] => (!text.is_empty()).then(|| vec![(name.as_str(), text)]),
        [Piece::Hole(name), rest @ ..] => {
            let next = match &rest[0] {
                Piece::Letters(letters) => letters.as_str(),
                Piece::Hole(_) => return None,
            };
            text.match_indices(next).map(|(at, _)| at).filter(|at| *at > 0).find_map(|at| {
                let mut holes = filled(rest, &text[at..])?;
                holes.insert(0, (name.as_str(), &text[..at]));
                Some(holes)
            })
        }
    }
}

/// A sentence in another language; none if it is not in the book.
pub(super) fn translated(lang: Lang, text: &str) -> Option<String> {
    if lang == Lang::En {
        return None;
    }
    if let Some(said) = super::refusals::of_rule(lang, text) {
        return Some(said);
    }
    let found = BOOK.iter().find_map(|phrase| Some((phrase, filled(&phrase.pieces, text)?)));
    let (phrase, holes) = found?;
    written(lang, &phrase.key, holes.into_iter().map(|(name, filled)| (name, FluentValue::from(hole(lang, name, filled)))))
}

/// What fills a hole, in another language, by the name of the hole.
fn hole(lang: Lang, name: &str, text: &str) -> String {
    match name {
        "at" | "field" | "input" => label(text),
        "event" => event(text),
        "kind" => word_in(lang, "kind", text).unwrap_or_else(|| text.to_owned()),
        "fields" => text.split(", ").map(label).collect::<Vec<_>>().join(", "),
        "day" | "first" | "last" => lang.days(text),
        _ => translated(lang, text).unwrap_or_else(|| text.to_owned()),
    }
}

fn event(name: &str) -> String {
    dinhba_core::event::Event::named(name).map_or_else(|| name.to_owned(), |event| event.label().to_owned())
}

/// What a field, a part of one (`relative.since`) or an input of a form is called by people, with its name.
pub(super) fn label(name: &str) -> String {
    let (field, part) = name.split_once('.').unwrap_or((name, ""));
    let known = FIELDS.iter().find(|one| one.name == field);
    let of_field = known.map(|known| {
        let part = match &known.ty {
            Type::Struct(of) => of.parts.iter().find(|one| one.name == part),
            _ => None,
        };
        part.map_or_else(|| known.label.to_owned(), |part| format!("{}: {}", known.label, part.label))
    });
    let inputs = || Form::ALL.iter().flat_map(|form| form.inputs.iter().chain(form.roles.iter().flat_map(|role| role.inputs)));
    let of_input = || inputs().find(|input| input.name == name).map(|input| input.label().to_owned());
    let of_role = || {
        let mut roles = Form::ALL.iter().flat_map(|form| form.roles);
        roles.find(|role| role.name == name).map(|role| role.label.to_owned())
    };
    match of_field.or_else(of_input).or_else(of_role) {
        Some(label) => format!("{label} ({name})"),
        None => name.to_owned(),
    }
}
