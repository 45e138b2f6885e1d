//! The schema: which fields a person, a household, a site and what else units say have, and what a value of each may be.
//!
//! The fields of a person are those of article 9 of the Law on Identification (26/2023/QH15). There are no biometrics and
//! never will be. Field ids are permanent: one is never re-used, parts of a structured value and codes of a list are only
//! added. A field this version does not know passes as opaque bytes, so an older node keeps what a newer one wrote.
//!
//! A name is *one* structured value (family, middle, given), not three fields: an officer decides on a name as a whole,
//! and two corrections made apart must not merge into a name that nobody entered.
//! Members of a household are the persons whose `household` names it; the household names its head only, so that a
//! membership is never written twice.
//!
//! Everything here is pure and the same on every replica: [`validate`] may be asked at the door and again in `apply`.
//! Left to others: who may write a field (`access`), how concurrent values merge (`record`), indexes, the ledger of
//! personal numbers. Limit: a value's meaning is checked alone; what two values must not say together is in [`rules`].

pub mod codes;
mod fields;
mod rules;
#[cfg(test)]
mod tests;
mod value;

use std::fmt;

use crate::date::{Date, DateError};
use crate::level;
use crate::number::NumberError;
use crate::text::{TextError, fold};

pub use codes::Code;
pub use fields::{FIELDS, field};
pub use rules::{Completeness, Lookup, MARRIAGE_LAW, RULES, Rule, RuleId, completeness, rules};
pub use value::{Content, Value, display, key_of, parse, parse_part};

/// Bytes of a value of a field from a newer schema: more than any field should need, less than hurts a thin link.
pub const UNKNOWN_BYTES_MAX: usize = 64 * 1024;
/// Bytes of an element key: a record id or a card number fits.
pub const ELEMENT_BYTES_MAX: usize = 48;

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// A person.
    Person,
    /// A household.
    Household,
    /// A site of the country; not of people, and only in ancestor shards.
    Site,
    /// An administrative unit; only in the centre's ancestor shard.
    Unit,
    /// A block of personal numbers that a unit grants to a site below it; only in ancestor shards.
    Block,
    /// How many of an event a unit is to reach by a day; only in ancestor shards.
    Target,
    /// A dossier: a service that is declared once, and the steps that it goes through.
    Dossier,
    /// The public holidays of a year; only in the centre's ancestor shard.
    Calendar,
    /// A kind of a newer version, in an edit that came from elsewhere; its code.
    Unknown(u8),
}

impl RecordKind {
    /// All that this version knows, in order.
    pub const ALL: [RecordKind; 8] = [
        RecordKind::Person,
        RecordKind::Household,
        RecordKind::Site,
        RecordKind::Unit,
        RecordKind::Block,
        RecordKind::Target,
        RecordKind::Dossier,
        RecordKind::Calendar,
    ];

    /// Those that communes keep of people, in order.
    pub const OF_PEOPLE: [RecordKind; 3] = [RecordKind::Person, RecordKind::Household, RecordKind::Dossier];

    /// Its word on the wire, in files and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            RecordKind::Person => "person",
            RecordKind::Household => "household",
            RecordKind::Site => "site",
            RecordKind::Unit => "unit",
            RecordKind::Block => "block",
            RecordKind::Target => "target",
            RecordKind::Dossier => "dossier",
            RecordKind::Calendar => "calendar",
            RecordKind::Unknown(_) => "unknown",
        }
    }

    /// The feature level that brought it; none if this version does not know it.
    #[must_use]
    pub const fn since(self) -> Option<u16> {
        match self {
            RecordKind::Person | RecordKind::Household => Some(level::LEVEL_FIRST),
            RecordKind::Site | RecordKind::Unit | RecordKind::Block => Some(level::LEVEL_FIRST),
            RecordKind::Target => Some(level::LEVEL_FIRST),
            RecordKind::Dossier | RecordKind::Calendar => Some(level::LEVEL_FIRST),
            RecordKind::Unknown(_) => None,
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The kind of that number.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        <Self as crate::encoding::Wire>::from_bytes(&[number]).ok().filter(|kind| Self::ALL.contains(kind))
    }
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The permanent number of a field. Prints as its name, or as `field-<number>` if this version does not know it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldId(pub u16);

/// Ids of fields are below it.
const ID_END: usize = 6_100;

/// Where each field stands in [`FIELDS`], by its id; the last number for those that are none. It is asked for dozens of times for each edit.
static PLACES: [u8; ID_END] = {
    let (mut places, mut at) = ([u8::MAX; ID_END], 0);
    assert!(FIELDS.len() < u8::MAX as usize);
    while at < FIELDS.len() {
        places[FIELDS[at].id.0 as usize] = at as u8;
        at += 1;
    }
    places
};

impl FieldId {
    /// What the schema says of it; `None` for a field of a newer schema.
    #[must_use]
    pub fn get(self) -> Option<&'static Field> {
        let place = *PLACES.get(usize::from(self.0))?;
        FIELDS.get(usize::from(place))
    }

    /// The field of `kind` with that name; also reads `field-<number>` of a field that is not known.
    #[must_use]
    pub fn named(kind: RecordKind, name: &str) -> Option<FieldId> {
        if let Some(field) = FIELDS.iter().find(|field| field.kind == kind && field.name == name) {
            return Some(field.id);
        }
        let id = FieldId(name.strip_prefix("field-")?.parse().ok()?);
        (id.get().is_none() && id.to_string() == name).then_some(id)
    }

    /// What the schema of a feature level says of it; `None` for a field above the level.
    #[must_use]
    pub fn at(self, level: u16) -> Option<&'static Field> {
        self.get().filter(|field| field.since <= level)
    }

    /// Whether concurrent values are a conflict or the latest wins, at a feature level. An unknown field is treated as one that
    /// matters.
    #[must_use]
    pub fn class(self, level: u16) -> Class {
        self.at(level).map_or(Class::Adjudicated, |field| field.class)
    }

    /// How its values are guarded. An unknown field is guarded as well as any.
    #[must_use]
    pub fn sensitivity(self) -> Sensitivity {
        self.get().map_or(Sensitivity::Sensitive, |field| field.sensitivity)
    }
}

impl fmt::Display for FieldId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.get() {
            Some(field) => f.write_str(field.name),
            None => write!(f, "field-{}", self.0),
        }
    }
}

impl fmt::Debug for FieldId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What becomes of concurrent values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Legal weight: all are kept until an officer decides.
    Adjudicated,
    /// No legal weight: the latest is read, the others stay in history.
    Latest,
}

/// How a value is guarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sensitivity {
    /// Says nothing about a person.
    Plain,
    /// Personal data.
    Personal,
    /// Sensitive personal data (Law 91/2025): never indexed, never searchable.
    Sensitive,
}

/// How records are found by a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Search {
    /// Not at all.
    No,
    /// By the whole value.
    Exact,
    /// By its words, folded.
    Words,
}

/// How often a field stands in a record, and what its element keys look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Once: the element key is empty.
    Once,
    /// Many times, under keys of `a`-`z`, `0`-`9` and `-`.
    Keyed,
    /// Many times, under keys that begin with a relation: `father`, `mother`, `spouse`, or `child-<key>` and so on.
    Relation,
}

/// Relations that an element key of [`Repeat::Relation`] may begin with, and whether `-<key>` may follow. A person has one
/// father, one mother and one present spouse: two entered apart are a conflict. Former spouses are `spouse-<key>`.
pub const RELATIONS: &[(&str, bool)] = &[
    ("father", false),
    ("mother", false),
    ("spouse", true),
    ("child", true),
    ("legal-representative", true),
    ("represented-person", true),
];

/// What is typed for a relation, besides its name, as [`fold`] leaves it.
const RELATION_ALIASES: &[(&str, &str)] = &[
    ("cha", "father"),
    ("bo", "father"),
    ("me", "mother"),
    ("vo", "spouse"),
    ("chong", "spouse"),
    ("con", "child"),
    ("nguoi dai dien", "legal-representative"),
    ("nguoi dai dien hop phap", "legal-representative"),
    ("nguoi duoc dai dien", "represented-person"),
];

/// The element key that is meant: relations are named in Vietnamese too (`mẹ`, `con-1`), and in capitals. What is no key stays
/// as it is, and is refused where it is validated.
#[must_use]
pub fn element(field: FieldId, typed: &str) -> String {
    if field.get().is_none_or(|field| field.repeat != Repeat::Relation) {
        return typed.to_owned();
    }
    let folded = fold(typed);
    let alias = |(alias, relation): &(&str, &str)| {
        let rest = folded.strip_prefix(alias)?;
        (rest.is_empty() || rest.starts_with('-')).then(|| format!("{relation}{rest}"))
    };
    RELATION_ALIASES.iter().find_map(alias).unwrap_or(folded)
}

/// When a record without the field is incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Required {
    /// Never.
    Never,
    /// Always.
    Always,
    /// While the person lives (always, for a household).
    Living,
    /// While the person lives and has reached that age.
    LivingFromAge(u16),
}

/// Which edits of a field one person cannot settle: they hold, and are pending until a second one confirms them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Second {
    /// None.
    No,
    /// Those that replace or clear a value.
    Replaced,
    /// All but the one by which the record is made.
    Always,
}

/// The form of a text beyond its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Any text.
    Free,
    /// A person's name or a part of it: letters, spaces, apostrophes, hyphens and dots; the letters of each word from one
    /// script, since a Cyrillic А in a Latin name looks right and is found by nobody.
    Name,
    /// Digits only, that many.
    Digits {
        /// At least.
        min: usize,
        /// At most.
        max: usize,
    },
    /// A telephone number: 8 to 15 digits, perhaps with `+` in front.
    Phone,
    /// An e-mail address.
    Email,
    /// The id of a site: `s-…`.
    Site,
    /// The id of a shard: `h-…`.
    Shard,
    /// The id of an administrative unit: `u-…`.
    Unit,
    /// A life of a site's data: `i-…`.
    Incarnation,
    /// An Ed25519 key that verifies: 64 hex digits.
    Key,
    /// A BLAKE3 hash: 64 hex digits.
    Hash,
    /// Where a node is reached: `host:port`.
    Address,
}

/// Whether a date may lie after the day on which it is entered. A node compares at its door: days go by, so what a replica
/// judges again later, or another site's clock, must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tense {
    /// No: something that has happened.
    Past,
    /// Yes: the end of a validity, a stay that is announced.
    Any,
}

/// What a value is made of. The text form of each, which [`parse`] reads and [`display`] writes, stands behind it.
#[derive(Debug, Clone, Copy)]
pub enum Type {
    /// The text itself.
    Text {
        /// Characters at most.
        chars_max: usize,
        /// Its form.
        shape: Shape,
    },
    /// `1975`, `1975-03`, `1975-03-02`; reading takes `03/1975` and `02/03/1975` too, day first.
    Date(Tense),
    /// The name of one of the codes (`male`); reading takes its label ("Nam") and its other names too, all without regard to
    /// accents, hyphens, apostrophes, spaces and capitals.
    Code(&'static [Code]),
    /// Two capital letters of ISO 3166-1, or `XX` for stateless; reading takes the country's name ("Việt Nam", "Laos") and
    /// its three letters too.
    Country,
    /// Twelve digits; reading drops spaces.
    Number,
    /// `00001@2025-06-30`: a code and a day on which it meant the unit, or the unit's id `u-…`.
    Unit,
    /// `r-…`.
    Record(RecordKind),
    /// `yes` or `no`.
    Flag,
    /// Several parts.
    Struct(&'static Struct),
}

/// A value of several parts that change together.
#[derive(Debug)]
pub struct Struct {
    /// How it is written.
    pub form: Form,
    /// Its parts; only ever added to, at the end.
    pub parts: &'static [Part],
    /// Two parts, by place, that are dates and must not be in the wrong order.
    pub in_order: Option<(usize, usize)>,
}

/// How a structured value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `part=value; part=value`, with `\;` for a semicolon and `\\` for a backslash inside a value. The first part may be
    /// written without its name: `married; since=2001-05-02`.
    Named,
    /// The three parts of a name with slashes between them: `Nguyễn/Thị/Minh Anh`, `//Y Moan`. Reading takes a name
    /// without slashes too (the first word is then the family name, the last the given name) and [`Form::Named`].
    Slashes,
}

/// One part of a structured value.
#[derive(Debug)]
pub struct Part {
    /// Its name in the text form.
    pub name: &'static str,
    /// Its name for people.
    pub label: &'static str,
    /// What it is made of; never a structure itself.
    pub ty: Type,
    /// Whether the value makes no sense without it.
    pub required: bool,
    /// The first feature level that has it; below, what stands in its place is opaque bytes.
    pub since: u16,
}

/// A field of the schema.
#[derive(Debug)]
pub struct Field {
    /// Its permanent number.
    pub id: FieldId,
    /// Its name on the wire, in files and on the command line; unique within its kind of record.
    pub name: &'static str,
    /// Its name for people.
    pub label: &'static str,
    /// The kind of record it belongs to.
    pub kind: RecordKind,
    /// What its values are made of.
    pub ty: Type,
    /// What becomes of concurrent values. The first level that changes it needs a table of classes by level.
    pub class: Class,
    /// How values are guarded.
    pub sensitivity: Sensitivity,
    /// How records are found by it.
    pub search: Search,
    /// How often it stands in a record.
    pub repeat: Repeat,
    /// When a record without it is incomplete.
    pub required: Required,
    /// Which of its edits need a second person.
    pub second: Second,
    /// The first feature level that has it.
    pub since: u16,
}

/// The fields of a kind of record, in order of their ids.
pub fn fields(kind: RecordKind) -> impl Iterator<Item = &'static Field> {
    FIELDS.iter().filter(move |field| field.kind == kind)
}

/// A field, or a part of its value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// The field.
    pub field: FieldId,
    /// The part, by name.
    pub part: Option<&'static str>,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.field.fmt(f)?;
        self.part.map_or(Ok(()), |part| write!(f, ".{part}"))
    }
}

impl fmt::Debug for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a value is refused. Messages name the field and say what to do; they never hold the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A field of another kind of record.
    #[error("{field} is no field of a {kind}")]
    Kind {
        /// The field.
        field: FieldId,
        /// The record's kind.
        kind: RecordKind,
    },
    /// An element key on a field that stands once.
    #[error("{field} stands once in a record: leave out the element key")]
    ElementUnexpected {
        /// The field.
        field: FieldId,
    },
    /// No element key, or one of the wrong form.
    #[error("{field} needs an element key of a-z, 0-9 and '-', at most {ELEMENT_BYTES_MAX} characters{}", relations(*.field))]
    Element {
        /// The field.
        field: FieldId,
    },
    /// A value above its bound.
    #[error("{at} is too large: at most {bytes_max} bytes")]
    TooLarge {
        /// Where.
        at: At,
        /// The bound.
        bytes_max: usize,
    },
    /// A text that may not be stored.
    #[error("{at} {error}")]
    Text {
        /// Where.
        at: At,
        /// Why.
        error: TextError,
    },
    /// A text of the wrong form.
    #[error("{at} must be {wanted}")]
    Shape {
        /// Where.
        at: At,
        /// What it must be.
        wanted: &'static str,
    },
    /// No date of a record.
    #[error("{at} {error}")]
    Date {
        /// Where.
        at: At,
        /// Why.
        error: DateError,
    },
    /// No personal number.
    #[error("{at} {error}")]
    Number {
        /// Where.
        at: At,
        /// Why.
        error: NumberError,
    },
    /// A field that there is not yet.
    #[error("{field} is no field of feature level {level}: leave it out, or raise the level once every node knows it")]
    Field {
        /// The field.
        field: FieldId,
        /// The level.
        level: u16,
    },
    /// A part of a structured value that there is not yet.
    #[error(
        "{field} has a part that feature level {level} does not have: leave it out, or raise the level once every node knows it"
    )]
    UnknownPart {
        /// The field.
        field: FieldId,
        /// The level.
        level: u16,
    },
    /// None of the codes.
    #[error("{at} must be one of: {}", codes::names(.choices))]
    Code {
        /// Where.
        at: At,
        /// What there is.
        choices: &'static [Code],
    },
    /// A unit that the directory does not know.
    #[error("{at}: no unit is known under this code on this date; check both, or give the unit's id (u-…)")]
    UnknownUnit {
        /// Where.
        at: At,
    },
    /// A part that is missing.
    #[error("{at} is missing: add {}=…", .at.part.unwrap_or_default())]
    PartMissing {
        /// The part.
        at: At,
    },
    /// A structured value in the wrong form.
    #[error("{at} must be written as part=value; part=value, each part once, of: {}", value::part_names(*.at))]
    Parts {
        /// Where.
        at: At,
    },
    /// Something that has happened, and not yet.
    #[error("{at} lies after {today}, which is today by this node's clock: check it, or have the clock set")]
    Future {
        /// Where.
        at: At,
        /// The day it was compared with.
        today: Date,
    },
    /// Two dates in the wrong order.
    #[error("{at} must not be earlier than {earlier}")]
    Order {
        /// The later part.
        at: At,
        /// The part that must come first.
        earlier: &'static str,
    },
    /// Bytes that this schema does not write.
    #[error("{at} is not in its canonical encoding")]
    Encoding {
        /// Where.
        at: At,
    },
}

fn relations(field: FieldId) -> String {
    if field.get().is_none_or(|field| field.repeat != Repeat::Relation) {
        return String::new();
    }
    let forms = RELATIONS.iter().map(|(name, keyed)| if *keyed { format!("{name}-<key>") } else { (*name).to_owned() });
    format!(", one of: spouse, {}", forms.collect::<Vec<_>>().join(", "))
}

/// Whether a record of `kind` may hold `bytes` in `field` under `element` at a feature level. Empty bytes clear it. A field
/// above the level is none: every version that works at this level says so, those that know it too; and so for codes, and for
/// parts of values. What may stand at a level may stand at every higher one.
///
/// # Errors
/// The first thing that is wrong.
pub fn validate(level: u16, kind: RecordKind, field: FieldId, element: &[u8], bytes: &[u8]) -> Result<(), Invalid> {
    let known = field.at(level).ok_or(Invalid::Field { field, level })?;
    if known.kind != kind {
        return Err(Invalid::Kind { field, kind });
    }
    validate_element(known, element)?;
    let value = Value::decode_at(level, field, bytes)?;
    if value.has_unknown_part() { Err(Invalid::UnknownPart { field, level }) } else { Ok(()) }
}

fn validate_element(field: &Field, element: &[u8]) -> Result<(), Invalid> {
    let is_token = |bytes: &[u8]| bytes.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    let fits = (1..=ELEMENT_BYTES_MAX).contains(&element.len()) && is_token(element);
    match field.repeat {
        Repeat::Once if element.is_empty() => Ok(()),
        Repeat::Once => Err(Invalid::ElementUnexpected { field: field.id }),
        Repeat::Keyed if fits => Ok(()),
        Repeat::Relation if fits && RELATIONS.iter().any(|relation| names_relation(element, *relation)) => Ok(()),
        Repeat::Keyed | Repeat::Relation => Err(Invalid::Element { field: field.id }),
    }
}

fn names_relation(element: &[u8], (name, keyed): (&str, bool)) -> bool {
    match element.strip_prefix(name.as_bytes()) {
        // Of those that may be many, only a present spouse needs no key.
        Some([]) => !keyed || name == "spouse",
        Some([b'-', _, ..]) => keyed,
        _ => false,
    }
}
