//! Search: by which terms a record is in the index, and who is found by what an officer types.
//!
//! A term is a keyed hash, so the index tells nothing. Terms find too much: whoever asks reads what a term
//! points to and lets [`Search::matches`] decide before anything is shown. A person has, for each year in which it may be
//! born, one term of its *whole name*, which is its letters in alphabetical order, so that the order of the words and what
//! stands between them do not count; and one of its *call name*, by which alone people are asked for. With the personal
//! number, the old one and the household these are four to six terms of 50 bytes, each with a signpost
//! of 26 in its group.
//!
//! A name is compared in words as [`words`] folds them: without accents, capitals, apostrophes, hyphens and dots. It is found
//! by its whole, in any order and with any spaces; and by some of its words, in any order, if the call name is one of them:
//! `lan`, `thị lan`, `nguyễn lan`, `thu hà nguyễn`. A family name alone finds nobody: that would be a list.
//!
//! A birth date is compared by the days that it may mean: one that is known as a month is found by each of its days, and one
//! that is known to the day by its month and its year.
//!
//! Limits. The call name is the last word, and the one after a particle at the beginning (`H'Hen Niê`, `Y Bhăm Êban`). Typed as one word with another (`nguyen mylinh` for
//! `Nguyễn Thị Mỹ Linh`) it is found with the whole name only. Slips of the ear and of the accents (`Kha` for `Kà`, `dĩ` for `vĩ`) are not forgiven: that is the business of who
//! looks for duplicates. A person without a birth date is found by number alone.

use std::collections::BTreeSet;
use std::str::FromStr;

use crate::date::{Date, DateError, PartialDate};
use crate::ids::{RecordId, first_16};
use crate::level::{Folding, folding};
use crate::number::{NumberError, PersonNumber};
use crate::record::Record;
use crate::schema::{Content, FieldId, Value, field};
use crate::text::words;

/// A keyed hash in the index.
pub type Term = [u8; 16];

/// Years that one search may ask for: who knows less than that knows too little to be told.
pub const YEARS_MAX: u16 = 5;
/// Words of a name that is searched for: the longest known have eight.
pub const WORDS_MAX: usize = 16;
/// Bytes of it: what a record holds is shorter.
const NAME_BYTES_MAX: usize = 1024;
/// Digits of an identity number of before 2016.
const OLD_NUMBER_DIGITS: usize = 9;

/// Why nobody can be searched for so. Messages never hold what was typed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SearchError {
    /// Neither a personal number nor an old identity number.
    #[error("number {0}; an old identity number has {OLD_NUMBER_DIGITS}")]
    Number(NumberError),
    /// No letters, or too many words.
    #[error("{what}: give 1 to {WORDS_MAX} words of it")]
    Name {
        /// Which name.
        what: &'static str,
    },
    /// No date.
    #[error("birth_date {0}; or the first and the last of some years, as in 1988..1992")]
    Date(DateError),
    /// A span that ends before it begins, or is too long.
    #[error("birth_date: give two dates in order, of at most {YEARS_MAX} years: 1988..1992")]
    Years,
}

/// The days on which somebody may be born who is searched for. Reads as a date of any kind, or as two of them with `..`
/// between; years take a hyphen too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Born {
    first: Date,
    last: Date,
}

impl FromStr for Born {
    type Err = SearchError;
    fn from_str(text: &str) -> Result<Self, SearchError> {
        let text = text.trim();
        let is_year = |text: &str| text.len() == 4 && text.bytes().all(|b| b.is_ascii_digit());
        let years = |sign: char| text.split_once(sign).map(|(first, last)| (first.trim(), last.trim()));
        let years = ['-', '–'].into_iter().filter_map(years).find(|(first, last)| is_year(first) && is_year(last));
        let (first, last) = text.split_once("..").or(years).unwrap_or((text, text));
        let date = |text: &str| text.trim().parse::<PartialDate>().map_err(SearchError::Date);
        let born = Born { first: date(first)?.earliest(), last: date(last)?.latest() };
        let is_span = born.first <= born.last && born.last.year() - born.first.year() < YEARS_MAX;
        if is_span { Ok(born) } else { Err(SearchError::Years) }
    }
}

impl Born {
    fn may_be(self, date: PartialDate) -> bool {
        date.earliest() <= self.last && self.first <= date.latest()
    }
}

/// What is searched for, at a feature level: names are folded as there, and values read as there.
#[derive(Clone, PartialEq, Eq)]
pub struct Search {
    level: u16,
    wanted: Wanted,
}

#[derive(Clone, PartialEq, Eq)]
enum Wanted {
    Number(String),
    Named {
        words: Vec<String>,
        born: Born,
        /// Words of the mother's name; none if she may be anybody.
        mother: Vec<String>,
    },
}

impl Search {
    /// By a personal number, or by an identity number of nine digits.
    ///
    /// # Errors
    /// A text that is neither.
    pub fn by_number(level: u16, typed: &str) -> Result<Self, SearchError> {
        let digits: String = typed.chars().filter(|c| !c.is_whitespace() && *c != '.').collect();
        if digits.len() == OLD_NUMBER_DIGITS && digits.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(Search { level, wanted: Wanted::Number(digits) });
        }
        let number: PersonNumber = digits.parse().map_err(SearchError::Number)?;
        Ok(Search { level, wanted: Wanted::Number(number.to_string()) })
    }

    /// By a name or a part of it, together with what is known of the birth date; and, unless empty, the mother's name.
    ///
    /// # Errors
    /// What is missing or wrong.
    pub fn by_name(level: u16, name: &str, born: &str, mother: &str) -> Result<Self, SearchError> {
        let bounded = |what, name: &str| {
            // Before anything walks over it.
            let words = if name.len() <= NAME_BYTES_MAX { name_words(name, folding(level)) } else { Vec::new() };
            if (1..=WORDS_MAX).contains(&words.len()) { Ok(words) } else { Err(SearchError::Name { what }) }
        };
        let mother = if mother.trim().is_empty() { Vec::new() } else { bounded("mother", mother)? };
        let wanted = Wanted::Named { words: bounded("name", name)?, born: born.parse()?, mother };
        Ok(Search { level, wanted })
    }

    /// The terms that point to whom it may mean, those of the whole name first.
    #[must_use]
    pub fn terms(&self, index_key: &[u8; 32]) -> Vec<Term> {
        match &self.wanted {
            Wanted::Number(number) => vec![number_term(index_key, number)],
            Wanted::Named { words, born, .. } => {
                let years = || born.first.year()..=born.last.year();
                let whole = years().map(|year| whole_term(index_key, words, year));
                // The call name stands last more often than elsewhere.
                let mut asked: Vec<&String> = Vec::new();
                words.iter().rev().for_each(|word| {
                    if !asked.contains(&word) {
                        asked.push(word)
                    }
                });
                let called = asked.into_iter().flat_map(|word| years().map(|year| call_term(index_key, word, year)));
                whole.chain(called).collect()
            }
        }
    }

    /// Whether `record` is among those it means. Of a disputed field any value will do.
    #[must_use]
    pub fn matches(&self, record: &Record) -> bool {
        match &self.wanted {
            Wanted::Number(wanted) => numbers(self.level, record).iter().any(|number| number == wanted),
            Wanted::Named { words, born, mother } => {
                let is_mother = |name: &Vec<String>| has_words(name, &respaced(name, mother));
                births(self.level, record).into_iter().any(|date| born.may_be(date))
                    && names(self.level, record).iter().any(|name| name.is_meant(words))
                    && (mother.is_empty() || mothers(self.level, record).iter().any(is_mother))
            }
        }
    }

    /// What the access log keeps of it: equal searches are equal there, and it does not tell for what.
    #[must_use]
    pub fn hash(&self, index_key: &[u8; 32], unit: &str) -> Term {
        let text = match &self.wanted {
            Wanted::Number(number) => number.clone(),
            Wanted::Named { words, born, mother } => {
                let days = format!("{}..{}", born.first, born.last);
                [words.join(" "), days, mother.join(" "), unit.to_owned()].join("\n")
            }
        };
        term(index_key, "search", text.as_bytes())
    }
}

/// The fields that [`terms`] looks at.
pub(crate) const SEARCHED: [FieldId; 9] = [
    field::PERSONAL_NUMBER,
    field::FORMER_NUMBER,
    field::OLD_IDENTITY_NUMBER,
    field::NAME,
    field::OTHER_NAME,
    field::BIRTH_DATE,
    field::HOUSEHOLD,
    field::HEAD,
    field::DOSSIER_PERSON,
];

/// The terms by which a record is found at a level. A disputed field is found by each of its values.
#[must_use]
pub fn terms(level: u16, record: &Record, index_key: &[u8; 32]) -> BTreeSet<Term> {
    let mut terms = BTreeSet::new();
    terms.extend(numbers(level, record).iter().map(|number| number_term(index_key, number)));
    let years: BTreeSet<u16> = births(level, record).into_iter().map(PartialDate::year).collect();
    for name in if years.is_empty() { Vec::new() } else { names(level, record) } {
        for &year in &years {
            terms.insert(whole_term(index_key, &name.words, year));
            terms.extend(name.called().map(|called| call_term(index_key, called, year)));
        }
    }
    let named = [
        (field::HOUSEHOLD, members_term as fn(&_, _) -> _),
        (field::HEAD, headed_term),
        (field::DOSSIER_PERSON, dossiers_term),
    ];
    for (field, of) in named {
        terms.extend(values(level, record, field).iter().filter_map(Value::record).map(|named| of(index_key, named)));
    }
    terms
}

/// The term of the persons who name `household` as theirs.
#[must_use]
pub fn members_term(index_key: &[u8; 32], household: RecordId) -> Term {
    term(index_key, "household", &household.0)
}

/// The term of the households whose head is `person`.
#[must_use]
pub fn headed_term(index_key: &[u8; 32], person: RecordId) -> Term {
    term(index_key, "head", &person.0)
}

/// The term of the dossiers about `person`.
#[must_use]
pub fn dossiers_term(index_key: &[u8; 32], person: RecordId) -> Term {
    term(index_key, "dossier", &person.0)
}

/// The households that a person names as theirs: one, unless it is disputed.
#[must_use]
pub fn households_of(level: u16, record: &Record) -> Vec<RecordId> {
    values(level, record, field::HOUSEHOLD).iter().filter_map(Value::record).collect()
}

/// Proves that a place in the answer of `asked`, which is a hash of the question, was given out by this site.
#[must_use]
pub fn place_proof(index_key: &[u8; 32], asked: &Term, place: &[u8]) -> Term {
    term(index_key, "place", &[asked, place].concat())
}

/// The terms of a record's personal numbers: one, unless it is disputed. One that was cancelled is in no conflict any more.
#[must_use]
pub fn personal_numbers(level: u16, record: &Record, index_key: &[u8; 32]) -> BTreeSet<Term> {
    let numbers = values(level, record, field::PERSONAL_NUMBER);
    numbers.iter().filter_map(Value::number).map(|number| number_term(index_key, &number.to_string())).collect()
}

/// The personal numbers of a record that were cancelled.
fn former(level: u16, record: &Record) -> Vec<PersonNumber> {
    let fields = record.fields().filter(|((field, _), _)| *field == field::FORMER_NUMBER);
    let values = fields.flat_map(|(_, values)| values);
    let values = values.filter_map(|tagged| Value::decode_at(level, field::FORMER_NUMBER, &tagged.value).ok());
    values.filter_map(|value| value.part("number")?.number()).collect()
}

/// The term of a personal number, of any that was one, and of an old identity number.
#[must_use]
pub fn number_term(index_key: &[u8; 32], number: &str) -> Term {
    term(index_key, "number", number.as_bytes())
}

fn whole_term(index_key: &[u8; 32], name: &[String], year: u16) -> Term {
    let mut letters: Vec<char> = name.iter().flat_map(|word| word.chars()).collect();
    letters.sort_unstable();
    term(index_key, "name", format!("{}\n{year}", String::from_iter(letters)).as_bytes())
}

fn call_term(index_key: &[u8; 32], word: &str, year: u16) -> Term {
    term(index_key, "called", format!("{word}\n{year}").as_bytes())
}

fn term(index_key: &[u8; 32], kind: &str, bytes: &[u8]) -> Term {
    let mut hasher = blake3::Hasher::new_keyed(index_key);
    hasher.update(kind.as_bytes()).update(&[0]).update(bytes);
    first_16(&hasher.finalize())
}

fn values(level: u16, record: &Record, field: FieldId) -> Vec<Value> {
    let tagged = record.values(&(field, Vec::new())).iter();
    tagged.filter_map(|tagged| Value::decode_at(level, field, &tagged.value).ok()).collect()
}

fn numbers(level: u16, record: &Record) -> Vec<String> {
    let personal = values(level, record, field::PERSONAL_NUMBER);
    let old = values(level, record, field::OLD_IDENTITY_NUMBER);
    let personal = personal.iter().filter_map(Value::number).map(|number| number.to_string());
    let former = former(level, record).into_iter().map(|number| number.to_string());
    personal.chain(old.iter().filter_map(Value::spoken)).chain(former).collect()
}

fn births(level: u16, record: &Record) -> Vec<PartialDate> {
    values(level, record, field::BIRTH_DATE).iter().filter_map(Value::date).collect()
}

fn names(level: u16, record: &Record) -> Vec<Name> {
    let spoken = [field::NAME, field::OTHER_NAME].map(|field| values(level, record, field));
    spoken.iter().flatten().filter_map(Value::spoken).map(|name| Name::of(&name, folding(level))).collect()
}

fn mothers(level: u16, record: &Record) -> Vec<Vec<String>> {
    let tagged = record.values(&(field::RELATIVE, b"mother".to_vec())).iter();
    let values = tagged.filter_map(|tagged| Value::decode_at(level, field::RELATIVE, &tagged.value).ok());
    values
        .filter_map(|value| match value.part("name") {
            Some(Content::Text(name)) => Some(name_words(name, folding(level))),
            _ => None,
        })
        .collect()
}

/// A name as it is compared.
struct Name {
    words: Vec<String>,
    /// Whether a particle stands at its beginning (`H'`, `Y`, `K'`, `A`, `Ka`), so that the call name follows it.
    is_led: bool,
}

impl Name {
    fn of(spoken: &str, folding: Folding) -> Self {
        let words = words(spoken, folding);
        let is_led = words.first().is_some_and(|first| {
            let is_joined = first.starts_with(['h', 'y']) && particle_of(first).is_some();
            first.len() == 1 || first == "ka" || is_joined
        });
        Name { words: taken_apart(&words), is_led }
    }

    /// The words by which people call its bearer.
    fn called(&self) -> impl Iterator<Item = &String> {
        let (last, others) = self.words.split_last().map_or((None, &[][..]), |(last, others)| (Some(last), others));
        let led = others.iter().skip(1).find(|word| word.len() > 1).filter(|_| self.is_led);
        last.into_iter().chain(led)
    }

    /// Whether it is meant by what was typed.
    fn is_meant(&self, typed: &[String]) -> bool {
        let typed = &respaced(&self.words, typed)[..];
        let is_whole = typed.len() == self.words.len();
        has_words(&self.words, typed) && (is_whole || self.called().any(|called| typed.contains(called)))
    }
}

/// The words of a name.
fn name_words(name: &str, folding: Folding) -> Vec<String> {
    taken_apart(&words(name, folding))
}

/// Words of which a particle that is written together with what follows is one of its own: `Hhen` is `H'Hen`.
fn taken_apart(words: &[String]) -> Vec<String> {
    let mut out = Vec::with_capacity(words.len());
    for mut word in words.iter().map(String::as_str) {
        while let Some((particle, rest)) = particle_of(word) {
            out.push(particle.to_owned());
            word = rest;
        }
        out.push(word.to_owned());
    }
    out
}

/// The particle with which a word begins, and the rest: no Vietnamese word begins with `h` or `y` and a consonant, or with
/// `k` and any but an `h`. (Some clans do, `Ksor`: taken apart on both sides, they are found all the same.)
fn particle_of(word: &str) -> Option<(&str, &str)> {
    let is_vowel = |b: u8| matches!(b, b'a' | b'e' | b'i' | b'o' | b'u' | b'y');
    match *word.as_bytes() {
        [b'k', b'h', ..] => None,
        [b'h' | b'k' | b'y', second, _, ..] if second.is_ascii_alphabetic() && !is_vowel(second) => {
            Some(word.split_at(1))
        }
        _ => None,
    }
}

/// What was typed, with the spaces that the name has: words that are one in the name are joined, and one that is several in
/// it is taken apart (`Al-Rashid` and `alrashid`).
fn respaced(name: &[String], typed: &[String]) -> Vec<String> {
    /// The words from `at` on that are `whole` together; none if one of them alone is.
    fn run<'a>(words: &'a [String], at: usize, whole: &str) -> Option<&'a [String]> {
        let (mut rest, mut end) = (whole, at);
        while !rest.is_empty() {
            rest = rest.strip_prefix(words.get(end)?.as_str())?;
            end += 1;
        }
        (end >= at + 2).then(|| &words[at..end])
    }
    let mut out = Vec::new();
    let mut at = 0;
    while at < typed.len() {
        let word = &typed[at];
        let parts = (0..name.len()).find_map(|from| run(name, from, word)).filter(|_| !name.contains(word));
        let joined = name.iter().find_map(|whole| run(typed, at, whole));
        if let Some(joined) = joined {
            out.push(joined.concat());
            at += joined.len();
        } else {
            out.extend_from_slice(parts.unwrap_or(std::slice::from_ref(word)));
            at += 1;
        }
    }
    out
}

/// Whether each word that was typed is one of the name's, and twice if it was typed twice.
fn has_words(name: &[String], typed: &[String]) -> bool {
    let count = |words: &[String], word: &String| words.iter().filter(|one| *one == word).count();
    typed.iter().all(|word| count(typed, word) <= count(name, word))
}
