//! What people are told, in their language: English or Vietnamese.
//!
//! Owns: which language it is ([`Lang`]), the catalogues (`client/i18n`, in the syntax of Project Fluent, embedded here), and
//! what is said before it is known to whom ([`Message`]): a key of the catalogues with its parameters, which becomes text where
//! it is shown. So an error is made once, programs get it in English, and people in their language.
//! Promises: both catalogues have the same messages with the same parameters, each that the code names, and none that it does
//! not: `tests` compares them. English is the language of what is shown to programs, and what there is no word for stays in it.
//! Leaves to others: sentences that were made elsewhere, in English, by a node or another module (`phrases`), and the help of
//! the command line (`cli::help`).

mod phrases;
mod refusals;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::LazyLock;

use dinhba_core::date::InstantMs;
use fluent_bundle::concurrent::FluentBundle;
use fluent_bundle::{FluentArgs, FluentResource, FluentValue};
use unic_langid::LanguageIdentifier;

/// A message: its key, and its parameters by name.
macro_rules! say {
    ($key:literal $(, $name:ident = $value:expr)* $(,)?) => {
        $crate::language::Message::of($key)$(.with(stringify!($name), $value))*
    };
}
pub(crate) use say;

/// A language.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Lang {
    /// English.
    #[default]
    En,
    /// Vietnamese.
    Vi,
}

/// Hours that Vietnam's clocks are ahead of UTC.
const VIETNAM_MS: i64 = 7 * 60 * 60 * 1000;

impl Lang {
    /// Both.
    pub const ALL: [Lang; 2] = [Lang::En, Lang::Vi];

    /// The language of a tag or a locale: `vi`, `vi-VN`, `vi_VN.UTF-8`.
    #[must_use]
    pub fn named(tag: &str) -> Option<Self> {
        let tag = tag.split(['.', '@']).next().unwrap_or_default();
        let named: LanguageIdentifier = tag.parse().ok()?;
        Lang::ALL.into_iter().find(|lang| named.language == lang.id().language)
    }

    /// What the environment says, the first of these that is set: `DINHBA_LANG`, `LC_ALL`, `LC_MESSAGES`, `LANG`. A language that
    /// there is not here is English.
    #[must_use]
    pub fn of_environment(env: &dyn Fn(&str) -> Option<String>) -> Self {
        let said = |name: &str| env(name).filter(|value| !value.is_empty());
        let first = ["DINHBA_LANG", "LC_ALL", "LC_MESSAGES", "LANG"].into_iter().find_map(said);
        first.and_then(|tag| Lang::named(&tag)).unwrap_or_default()
    }

    /// What a command line says before it is read, as is needed for its help and for what is wrong with it; else what the
    /// environment says.
    #[must_use]
    pub fn of_words(words: impl IntoIterator<Item = String>, env: &dyn Fn(&str) -> Option<String>) -> Self {
        let mut words = words.into_iter().take_while(|word| word != "--");
        let mut said = None;
        while let Some(word) = words.next() {
            if word == "--lang" {
                said = words.next();
            } else if let Some(tag) = word.strip_prefix("--lang=") {
                said = Some(tag.to_owned());
            }
        }
        said.and_then(|tag| Lang::named(&tag)).unwrap_or_else(|| Lang::of_environment(env))
    }

    fn id(self) -> LanguageIdentifier {
        let tag = match self {
            Lang::En => "en",
            Lang::Vi => "vi",
        };
        tag.parse().expect("a tag of a language")
    }

    /// A day, a month or a year, or a text in which some stand, as it is written in this language: the day first in Vietnam. A unit's
    /// code with its day (`02683@2025-06-30`) stays as it is typed.
    #[must_use]
    pub fn days(self, text: &str) -> String {
        match self {
            Lang::En => text.to_owned(),
            Lang::Vi => days_first(text),
        }
    }

    /// An instant: in Vietnam by its clocks. Nothing of none.
    #[must_use]
    pub fn instant(self, ms: i64) -> String {
        match self {
            _ if ms == 0 => String::new(),
            Lang::En => InstantMs(ms).to_string(),
            Lang::Vi => {
                let day = self.days(&InstantMs(ms).date_in_vietnam().to_string());
                let seconds = ms.saturating_add(VIETNAM_MS).div_euclid(1000).rem_euclid(24 * 60 * 60);
                format!("{day} {:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
            }
        }
    }
}

/// `1990-03-08` as `08/03/1990`, `1990-03` as `03/1990`, wherever they stand by themselves.
fn days_first(text: &str) -> String {
    let is_of_word = |c: char| c.is_alphanumeric() || "-@/_.:".contains(c);
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        // A full stop or a colon may follow a day in a sentence.
        let day = word.trim_end_matches(['.', ':']);
        out.push_str(&day_first(day).unwrap_or_else(|| day.to_owned()));
        out.push_str(&word[day.len()..]);
        let next = after.find(is_of_word).unwrap_or(after.len());
        out.push_str(&after[..next]);
        rest = &after[next..];
    }
    out
}

fn day_first(word: &str) -> Option<String> {
    let parts: Vec<&str> = word.split('-').collect();
    let is_number = |part: &str, digits: usize| part.len() == digits && part.bytes().all(|b| b.is_ascii_digit());
    let is_date = |rest: &[&str]| rest.iter().all(|part| is_number(part, 2));
    match parts.as_slice() {
        [year, rest @ ..] if (1..=2).contains(&rest.len()) && is_number(year, 4) && is_date(rest) => {
            Some(parts.iter().rev().copied().collect::<Vec<_>>().join("/"))
        }
        _ => None,
    }
}

type Bundle = FluentBundle<FluentResource>;

/// The files of the catalogues: their name, and what they hold in each language.
const FILES: [(&str, [&str; 2]); 5] = [
    ("verbs", [include_str!("../i18n/en/verbs.ftl"), include_str!("../i18n/vi/verbs.ftl")]),
    ("titles", [include_str!("../i18n/en/titles.ftl"), include_str!("../i18n/vi/titles.ftl")]),
    ("words", [include_str!("../i18n/en/words.ftl"), include_str!("../i18n/vi/words.ftl")]),
    ("errors", [include_str!("../i18n/en/errors.ftl"), include_str!("../i18n/vi/errors.ftl")]),
    ("phrases", [include_str!("../i18n/en/phrases.ftl"), include_str!("../i18n/vi/phrases.ftl")]),
];

/// The help in Vietnamese.
const HELP_VI: &str = include_str!("../i18n/vi/help.ftl");

static HELP: LazyLock<Bundle> = LazyLock::new(|| bundle_of(Lang::Vi, [("help", HELP_VI)]));
static ENGLISH: LazyLock<Bundle> = LazyLock::new(|| bundle(Lang::En));
static VIETNAMESE: LazyLock<Bundle> = LazyLock::new(|| bundle(Lang::Vi));

fn bundle(lang: Lang) -> Bundle {
    bundle_of(lang, FILES.map(|(name, texts)| (name, texts[lang as usize])))
}

fn bundle_of<'a>(lang: Lang, files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Bundle {
    let mut bundle = FluentBundle::new_concurrent(vec![lang.id()]);
    // Marks of direction around parameters, which no terminal needs.
    bundle.set_use_isolating(false);
    for (name, text) in files {
        let file = resource(name, text);
        bundle.add_resource(file).unwrap_or_else(|twice| panic!("{name}.ftl: {twice:?}"));
    }
    bundle
}

fn resource(name: &str, text: &str) -> FluentResource {
    FluentResource::try_new(text.to_owned()).unwrap_or_else(|(_, errors)| panic!("{name}.ftl: {errors:?}"))
}

fn catalogue(lang: Lang) -> &'static Bundle {
    match lang {
        Lang::En => &ENGLISH,
        Lang::Vi => &VIETNAMESE,
    }
}

/// The text of a key; none if there is no such key.
fn written<'a>(lang: Lang, key: &str, args: impl Iterator<Item = (&'a str, FluentValue<'a>)>) -> Option<String> {
    let bundle = catalogue(lang);
    let pattern = bundle.get_message(key)?.value()?;
    let args: FluentArgs<'_> = args.collect();
    let mut errors = Vec::new();
    let text = bundle.format_pattern(pattern, Some(&args), &mut errors);
    debug_assert!(errors.is_empty(), "{key}: {errors:?}");
    Some(text.into_owned())
}

/// What is said, before it is known in which language.
#[derive(Debug, Clone, PartialEq)]
pub struct Message(Kind);

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    /// Of the catalogues.
    Of(&'static str, Vec<(&'static str, Arg)>),
    /// A word of a closed list, by the list and itself. Of a newer version's words it is shown as it is.
    Word(&'static str, String),
    /// Made elsewhere, in English.
    Made(String),
    /// The same, which is marked as such where it is in no book.
    Detail(String),
    /// The name of a field.
    Field(String),
    /// A reference to the law.
    Law(String),
    /// As it is, in any language: ids, names, values.
    Plain(String),
    /// One after the other.
    Row(Vec<Message>),
}

/// A parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Arg {
    /// As it is.
    Text(String),
    /// A number, by which a language may say something else of one than of many.
    Number(u64),
    /// Something that is said itself.
    Said(Box<Message>),
    /// A day, a month or a year.
    Day(String),
    /// An instant.
    Instant(i64),
}

/// A day as a parameter.
pub(crate) fn day(day: impl fmt::Display) -> Arg {
    Arg::Day(day.to_string())
}

/// An instant as a parameter.
pub(crate) fn instant(ms: i64) -> Arg {
    Arg::Instant(ms)
}

impl Message {
    /// A message of the catalogues; use `say!`.
    #[must_use]
    pub fn of(key: &'static str) -> Self {
        Message(Kind::Of(key, Vec::new()))
    }

    /// With a parameter; use `say!`.
    #[must_use]
    pub fn with(mut self, name: &'static str, arg: impl Into<Arg>) -> Self {
        if let Kind::Of(_, args) = &mut self.0 {
            args.push((name, arg.into()));
        }
        self
    }

    /// A word of a closed list, such as the tiers of units.
    #[must_use]
    pub fn word(list: &'static str, word: impl Into<String>) -> Self {
        Message(Kind::Word(list, word.into()))
    }

    /// What is the same in every language.
    #[must_use]
    pub fn plain(text: impl Into<String>) -> Self {
        Message(Kind::Plain(text.into()))
    }

    /// What was made elsewhere, in English, beside what is said of it in every language.
    #[must_use]
    pub fn detail(text: &str) -> Self {
        Message(Kind::Detail(text.to_owned()))
    }

    /// A reference to the law, as the tables of forms and rules have it.
    #[must_use]
    pub fn law(text: &str) -> Self {
        Message(Kind::Law(text.to_owned()))
    }

    /// What is wrong with a file, by its line.
    pub(crate) fn of_problem(problem: &crate::import::Problem) -> Self {
        let reason = Message::from(problem.reason.as_str());
        match problem.line {
            0 => say!("problem-of-file", reason = reason),
            line => say!("problem-at-line", line = line, reason = reason),
        }
    }

    /// Messages one after the other, with nothing between.
    #[must_use]
    pub fn row(messages: impl IntoIterator<Item = Message>) -> Self {
        Message(Kind::Row(messages.into_iter().collect()))
    }

    /// The same, and another after it.
    #[must_use]
    pub fn then(self, next: Message) -> Self {
        Message::row([self, next])
    }

    /// As text.
    #[must_use]
    pub fn text(&self, lang: Lang) -> String {
        match &self.0 {
            Kind::Of(key, args) => {
                let args = args.iter().map(|(name, arg)| (*name, arg.value(lang)));
                written(lang, key, args).unwrap_or_else(|| panic!("{key} is in no catalogue"))
            }
            Kind::Word(list, word) => word_in(lang, list, word).unwrap_or_else(|| word.clone()),
            Kind::Made(text) => phrases::translated(lang, text).unwrap_or_else(|| text.clone()),
            Kind::Detail(text) => refusals::detail_in(lang, text),
            Kind::Field(name) if lang == Lang::En => name.clone(),
            Kind::Field(name) => phrases::label(name),
            Kind::Law(text) => refusals::law_in(lang, text),
            Kind::Plain(text) => text.clone(),
            Kind::Row(all) => all.iter().map(|message| message.text(lang)).collect(),
        }
    }
}

/// The help of a verb or, by its attribute, of one of its options, where it does not stand in the code: in another language than
/// English.
pub(crate) fn help_in(lang: Lang, key: &str, option: Option<&str>) -> Option<String> {
    if lang == Lang::En {
        return None;
    }
    let message = HELP.get_message(key)?;
    let pattern = match option {
        None => message.value()?,
        Some(option) => message.get_attribute(option)?.value(),
    };
    Some(HELP.format_pattern(pattern, None, &mut Vec::new()).into_owned())
}

/// The verbs of which there is help in the catalogue, and their options.
#[cfg(test)]
pub(crate) fn help_keys() -> std::collections::BTreeSet<(String, String)> {
    let file = resource("help", HELP_VI);
    let of = |entry: &fluent_syntax::ast::Entry<&str>| match entry {
        fluent_syntax::ast::Entry::Message(message) => {
            let options = message.attributes.iter().map(|option| option.id.name).chain([""]);
            options.map(|option| (message.id.name.to_owned(), option.to_owned())).collect()
        }
        _ => Vec::new(),
    };
    file.entries().flat_map(of).collect()
}

/// A word of a closed list, if it is known.
fn word_in(lang: Lang, list: &str, word: &str) -> Option<String> {
    let is_key = |c: char| c.is_ascii_alphanumeric();
    let word: String = word.chars().map(|c| if is_key(c) { c.to_ascii_lowercase() } else { '-' }).collect();
    written(lang, &format!("{list}-{word}"), std::iter::empty())
}

/// In English, as programs get it.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(Lang::En))
    }
}

/// What was made elsewhere, in English: it is looked up in the book of phrases where another language is wanted.
impl From<String> for Message {
    fn from(text: String) -> Self {
        Message(Kind::Made(text))
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Message(Kind::Made(text.to_owned()))
    }
}

impl Arg {
    fn value(&self, lang: Lang) -> FluentValue<'static> {
        match self {
            Arg::Text(text) => FluentValue::from(text.clone()),
            Arg::Number(number) => FluentValue::from(*number),
            Arg::Said(message) => FluentValue::from(message.text(lang)),
            Arg::Day(day) => FluentValue::from(lang.days(day)),
            Arg::Instant(ms) => FluentValue::from(lang.instant(*ms)),
        }
    }
}

impl From<Message> for Arg {
    fn from(message: Message) -> Self {
        Arg::Said(Box::new(message))
    }
}

macro_rules! texts {
    ($($of:ty),*) => {$(
        impl From<$of> for Arg {
            fn from(text: $of) -> Self {
                Arg::Text(text.to_string())
            }
        }
    )*};
}
texts!(String, &String, &str, &&str, std::path::Display<'_>, dinhba_core::ids::RecordId, dinhba_core::ids::ShardId);
texts!(dinhba_core::ids::RequestId, &dinhba_core::ids::RequestId, dinhba_core::ids::SiteId, dinhba_core::ids::AuthorId);
texts!(dinhba_core::ids::UnitId, dinhba_core::number::PersonNumber);

macro_rules! numbers {
    ($($of:ty),*) => {$(
        impl From<$of> for Arg {
            fn from(number: $of) -> Self {
                Arg::Number(number as u64)
            }
        }
    )*};
}
numbers!(u16, u32, u64, usize);
