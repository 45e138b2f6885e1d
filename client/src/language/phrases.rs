//! Sentences that were made elsewhere, in English: by a node, whose refusals carry one beside their reason, and by modules that
//! know nothing of languages (what is wrong with a value, a file, a certificate, an archive).
//!
//! The book of phrases (`phrases.ftl`) has each of them as it is written there, with holes for what differs, and the same in the other
//! languages. A sentence is looked up by what stands between the holes; what fills a hole may be a phrase itself. Names of fields become
//! their labels, days are written as the language has it. What is not in the book is not translated: whoever shows it says
//! beside it what is known otherwise ([`super::refusals`]).
//! Limits: of phrases that fit, the one with the most letters of its own counts; a hole is filled with as little as fits; phrases stand
//! in each other [`DEPTH_MAX`] deep.

use std::sync::LazyLock;

use dinhba_core::event::Form;
use dinhba_core::schema::codes::HOLIDAY;
use dinhba_core::schema::{Code, FIELDS, Type};
use fluent_bundle::FluentValue;
use fluent_syntax::ast::{Entry, Expression, InlineExpression, PatternElement};

use super::{FILES, Lang, resource, say, word_in, written};

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

/// Phrases in phrases that are told: a sentence of a node about one of another module, behind what it is about. What a node sends must not
/// take long to be read, whatever it is.
const DEPTH_MAX: usize = 5;

/// What is longer is no sentence, and is told as it came: to try every way in which the holes of a phrase may be filled takes the longer, the
/// more often its letters stand in the text.
const TEXT_BYTES_MAX: usize = 2_000;

/// Holes for one word: ids, numbers, days, names of fields.
const ONE_WORD: [&str; 27] = [
    "record", "shard", "request", "edit", "count", "most", "least", "bytes", "day", "number", "line", "column", "code",
    "position", "level", "event", "input", "field", "kind", "role", "own", "action", "given", "year", "seconds",
    "address", "holiday",
];

/// Whether a text may fill a hole.
fn fills(name: &str, text: &str) -> bool {
    let is_narrow = ONE_WORD.contains(&name);
    !(text.is_empty() || is_narrow && text.contains(char::is_whitespace))
}

/// What fills the holes, if a text is the phrase.
fn filled<'a>(pieces: &'static [Piece], text: &'a str) -> Option<Vec<(&'static str, &'a str)>> {
    match pieces {
        [] => text.is_empty().then(Vec::new),
        [Piece::Letters(letters), rest @ ..] => filled(rest, text.strip_prefix(letters.as_str())?),
        [Piece::Hole(name)] => fills(name, text).then(|| vec![(name.as_str(), text)]),
        [Piece::Hole(name), rest @ ..] => {
            let next = match &rest[0] {
                Piece::Letters(letters) => letters.as_str(),
                Piece::Hole(_) => return None,
            };
            text.match_indices(next).map(|(at, _)| at).filter(|at| fills(name, &text[..*at])).find_map(|at| {
                let mut holes = filled(rest, &text[at..])?;
                holes.insert(0, (name.as_str(), &text[..at]));
                Some(holes)
            })
        }
    }
}

/// A sentence in another language; none if it is not in the book.
pub(super) fn translated(lang: Lang, text: &str) -> Option<String> {
    if lang == Lang::En || text.len() > TEXT_BYTES_MAX {
        return None;
    }
    within(lang, text, DEPTH_MAX)
}

/// The same of what stands in a phrase that stands in others, `depth` of them yet.
fn within(lang: Lang, text: &str, depth: usize) -> Option<String> {
    let depth = depth.checked_sub(1)?;
    let is_of_field = text.split_once(": ").is_some_and(|(place, _)| is_path(place) || label(place) != place);
    let of_place = || behind_its_place(lang, text, depth);
    let of_book = || of_book(lang, text, depth);
    let found = super::refusals::of_rule(lang, text);
    // Of a phrase that begins with a hole, the place would be a part of what fills it.
    let found =
        if is_of_field { found.or_else(of_place).or_else(of_book) } else { found.or_else(of_book).or_else(of_place) };
    found.or_else(|| one_by_one(lang, text, depth))
}

/// Several sentences, each of which is in the book.
fn one_by_one(lang: Lang, text: &str, depth: usize) -> Option<String> {
    const MARK: &str = "; ";
    let all: Option<Vec<String>> = text.split(MARK).map(|one| within(lang, one, depth)).collect();
    Some(all.filter(|_| text.contains(MARK))?.join(MARK))
}

/// Whether it is the path of something in a request: `inputs.date`, `subjects[0]`.
fn is_path(place: &str) -> bool {
    place.contains(['.', '[']) && !place.contains(char::is_whitespace)
}

/// What a path of a request is called by people: which of the records, and which input or field.
pub(super) fn place_in(lang: Lang, path: &str) -> String {
    if lang == Lang::En {
        return path.to_owned();
    }
    if !is_path(path) {
        return label(path);
    }
    let inside = |text: &str| {
        let (_, rest) = text.split_once('[')?;
        rest.split_once(']').map(|(inside, _)| inside.to_owned())
    };
    let (first, last) = (path.split('.').next().unwrap_or(path), path.rsplit('.').next().unwrap_or(path));
    let number = inside(first).and_then(|at| at.parse::<u32>().ok());
    let of =
        number.filter(|_| first.starts_with("subjects")).map(|at| say!("place-subject", number = at + 1).text(lang));
    let of_field = match inside(last) {
        // `parts[0].changes[birth_date]`
        Some(field) if last.starts_with("changes") => Some(label(&field)),
        _ if last == first => None,
        _ => Some(label(last)),
    };
    let said: Vec<String> = of.into_iter().chain(of_field).collect();
    if said.is_empty() { path.to_owned() } else { said.join(", ") }
}

fn of_book(lang: Lang, text: &str, depth: usize) -> Option<String> {
    let (phrase, holes) = BOOK.iter().find_map(|phrase| Some((phrase, filled(&phrase.pieces, text)?)))?;
    // What may be chosen is told as people call it.
    let codes = holes.iter().find(|(name, _)| *name == "at").and_then(|(_, at)| codes_of(at)).unwrap_or_default();
    let filled = |(name, filled): (&'static str, &str)| match name {
        "choices" => {
            FluentValue::from(filled.split(", ").map(|code| code_in(codes, code)).collect::<Vec<_>>().join(", "))
        }
        _ => FluentValue::from(hole(lang, name, filled, depth)),
    };
    written(lang, &phrase.key, holes.into_iter().map(|hole| (hole.0, filled(hole))))
}

/// A sentence behind what it is about: the path of a field in a request, a node, a record, or a rule.
fn behind_its_place(lang: Lang, text: &str, depth: usize) -> Option<String> {
    let (place, said) = text.split_once(": ")?;
    let is_place = !place.is_empty() && !place.trim_start_matches("record ").contains(char::is_whitespace);
    let said = within(lang, said, depth).filter(|_| is_place)?;
    let place = place_in(lang, place.strip_prefix("record ").unwrap_or(place));
    // What is told of a field begins with its name.
    Some(if said.starts_with(&place) { said } else { format!("{place}: {said}") })
}

/// What stands between the holes of the phrases.
#[cfg(test)]
pub(super) fn letters_of_all() -> impl Iterator<Item = String> {
    BOOK.iter().flat_map(|phrase| &phrase.pieces).filter_map(|piece| match piece {
        Piece::Letters(letters) => Some(letters.clone()),
        Piece::Hole(_) => None,
    })
}

/// What fills a hole, in another language, by the name of the hole.
fn hole(lang: Lang, name: &str, text: &str, depth: usize) -> String {
    match name {
        // A day may stand where a field does.
        "at" | "field" | "input" => lang.days(&label(text)),
        "event" => event(text),
        "kind" | "role" | "standing" => word_in(lang, name, text).unwrap_or_else(|| text.to_owned()),
        "holiday" => code_in(HOLIDAY, text).to_owned(),
        "own" => word_in(lang, "role", text).unwrap_or_else(|| text.to_owned()),
        "fields" => text.split(", ").map(label).collect::<Vec<_>>().join(", "),
        "day" | "first" | "last" => lang.days(text),
        _ => within(lang, text, depth).unwrap_or_else(|| text.to_owned()),
    }
}

/// The codes that may stand in a field, a part of one, or an input of a form.
fn codes_of(name: &str) -> Option<&'static [Code]> {
    let of_type = |ty: &'static Type, part: &str| match ty {
        Type::Code(codes) => Some(*codes),
        Type::Struct(of) => of.parts.iter().find(|one| one.name == part).and_then(|part| match part.ty {
            Type::Code(codes) => Some(codes),
            _ => None,
        }),
        _ => None,
    };
    let (field, part) = name.split_once('.').unwrap_or((name, ""));
    FIELDS.iter().find(|one| one.name == field).and_then(|known| of_type(&known.ty, part))
}

/// A code as people call it.
fn code_in<'a>(codes: &'static [Code], name: &'a str) -> &'a str {
    codes.iter().find(|code| code.name == name).map_or(name, |code| code.label)
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
    let inputs =
        || Form::ALL.iter().flat_map(|form| form.inputs.iter().chain(form.roles.iter().flat_map(|role| role.inputs)));
    // Of several that forms call otherwise, the shortest says what they have in common: a day is a day.
    let of_input = || {
        let labels = inputs().filter(|input| input.name == name).map(|input| input.label().to_owned());
        labels.min_by_key(|label| label.chars().count())
    };
    let of_role = || {
        let mut roles = Form::ALL.iter().flat_map(|form| form.roles);
        roles.find(|role| role.name == name).map(|role| role.label.to_owned())
    };
    match of_field.or_else(of_input).or_else(of_role) {
        Some(label) => format!("{label} ({name})"),
        None => name.to_owned(),
    }
}
