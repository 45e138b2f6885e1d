//! Why there is no answer, in the language of whoever asked.
//!
//! A node says a reason of a closed list, which fields are wrong, and a sentence in English. The reason tells what became of the
//! request and what to do next; rules are told in their own words in both languages, with the law. The sentence is
//! told as the book of phrases has it, or else as the node wrote it, marked as such: nothing that a node says is left out.

use std::borrow::Cow;

use dinhba_core::filing;
use dinhba_core::schema::RULES;
use dinhba_proto::v1::{self, Reason};

use super::{Kind, Lang, Message, catalogue, phrases, say, written};
use crate::error::{Error, Problem};
use crate::tls::DialError;

impl Error {
    /// In a language, for people: what is wrong and what to do. It holds no value of a record.
    #[must_use]
    pub fn text(&self, lang: Lang) -> String {
        self.message().text(lang)
    }

    pub(crate) fn message(&self) -> Message {
        match self {
            Error::Stale(stale) => say!("error-stale", fields = moved(stale)),
            Error::Refused { reason, text, .. } => refused(*reason, text),
            Error::Unreachable { text, fault } => unreachable(text, fault.as_deref()),
            Error::OutcomeUnknown { request: Some(request), text } => {
                say!("error-outcome-unknown-of", request = request, text = Message::detail(text))
            }
            Error::OutcomeUnknown { request: None, text } => {
                say!("error-outcome-unknown", text = Message::detail(text))
            }
            Error::Protocol(what) => say!("error-protocol", what = Message::detail(what)),
        }
    }
}

impl Problem {
    /// In a language, for people.
    #[must_use]
    pub fn text_in(&self, lang: Lang) -> String {
        Message::detail(&self.text).text(lang)
    }

    /// Where it is, in a language; empty where the node left some out.
    #[must_use]
    pub fn place_in(&self, lang: Lang) -> String {
        phrases::place_in(lang, &self.field)
    }
}

/// The fields that moved, without the keys of elements: one may be the number of a card.
fn moved(stale: &v1::Stale) -> Message {
    let mut names: Vec<&str> = stale.fields.iter().map(|moved| moved.field.as_str()).collect();
    names.dedup();
    let mut said: Vec<Message> = Vec::new();
    for name in names {
        if !said.is_empty() {
            said.push(Message::plain(", "));
        }
        said.push(Message(Kind::Field(name.to_owned())));
    }
    if stale.more > 0 {
        said.push(say!("error-stale-more", count = stale.more));
    }
    Message::row(said)
}

fn refused(reason: Reason, text: &str) -> Message {
    let detail = Message::detail(text);
    match reason {
        Reason::Invalid => say!("refused-invalid", detail = detail),
        Reason::Denied => say!("refused-denied", detail = detail),
        Reason::RuleBroken => say!("refused-rule-broken", detail = detail),
        Reason::NotFound => say!("refused-not-found", detail = detail),
        Reason::Exists => say!("refused-exists", detail = detail),
        Reason::Stale => say!("refused-stale", detail = detail),
        Reason::LevelTooLow => say!("refused-level-too-low", detail = detail),
        Reason::Precondition => say!("refused-precondition", detail = detail),
        Reason::BeyondEnd => say!("refused-beyond-end", detail = detail),
        Reason::NotAccepted => say!("refused-not-accepted", detail = detail),
        Reason::Overloaded => say!("refused-overloaded", detail = detail),
        Reason::OutcomeUnknown => say!("refused-outcome-unknown", detail = detail),
        Reason::Damaged => say!("refused-damaged", detail = detail),
        Reason::Bug => say!("refused-bug", detail = detail),
        Reason::Unspecified => say!("refused", detail = detail),
    }
}

fn unreachable(text: &str, fault: Option<&DialError>) -> Message {
    match fault.map(ToString::to_string) {
        // What is known to be wrong comes first, and no advice that leads elsewhere.
        Some(fault) if fault == text => say!("error-unreachable-by-fault", fault = Message::detail(text)),
        Some(fault) => {
            say!("error-unreachable-with-fault", fault = Message::detail(&fault), text = Message::detail(text))
        }
        None => say!("error-unreachable", text = Message::detail(text)),
    }
}

/// A rule that is told by its name and English words, in the words of its language.
pub(super) fn of_rule(lang: Lang, text: &str) -> Option<String> {
    let (name, _) = text.split_once(": ")?;
    let of_records = RULES.iter().map(|rule| (rule.name, rule.text_vi, rule.law, false));
    let of_events = filing::rules().map(|rule| (rule.name, rule.text_vi, rule.law, rule.is_warning));
    let (name, text, law, is_warning) = of_records.chain(of_events).find(|(known, ..)| *known == name)?;
    // The sentence ends with the law.
    let (text, law) = (text.trim_end_matches('.'), Message::law(law));
    let said = match is_warning {
        false => say!("rule-broken", text = text, law = law, name = name),
        true => say!("rule-warns", text = text, law = law, name = name),
    };
    Some(said.text(lang))
}

/// Names and words of laws as the tables of forms and rules write them: keys of the catalogue, the longer words first.
const LAWS: [&str; 14] = [
    "law-nationality",
    "law-marriage",
    "law-identification",
    "law-civil-status",
    "law-residence",
    "law-adoption",
    "law-civil-code",
    "law-law",
    "law-before",
    "law-articles",
    "law-article",
    "law-decree",
    "law-and",
    "law-to",
];

/// A reference to the law.
pub(super) fn law_in(lang: Lang, text: &str) -> String {
    let known = |key: &str, lang| written(lang, key, std::iter::empty()).unwrap_or_default();
    LAWS.iter()
        .fold(Cow::from(text), |text, key| text.replace(&known(key, Lang::En), &known(key, lang)).into())
        .into_owned()
}

/// What was made elsewhere and is in no book, marked as such.
pub(super) fn detail_in(lang: Lang, text: &str) -> String {
    if lang == Lang::En {
        return text.to_owned();
    }
    debug_assert!(catalogue(lang).has_message("detail-untranslated"));
    phrases::translated(lang, text).unwrap_or_else(|| say!("detail-untranslated", text = text).text(lang))
}
