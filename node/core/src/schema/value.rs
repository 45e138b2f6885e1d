//! Values: typed in the program, canonical bytes in records and edits, plain text for people and files.
//!
//! Each value has exactly one encoding, so equal values are equal bytes: decoding refuses every other. The text form of each
//! type stands at [`Type`]; `parse(display(value)) == value` whenever the units are known both times.
//! A part that a newer schema added to a structured value is shown as opaque bytes, like an unknown field, and folded into no
//! record before the level has it.

use std::fmt;

use super::{At, Code, FieldId, Form, Invalid, Part, Shape, Struct, Tense, Type, UNKNOWN_BYTES_MAX, codes};
use crate::date::{Date, PartialDate};
use crate::ids::{Incarnation, RecordId, ShardId, SiteId, UnitId};
use crate::level::{LEVEL_MAX, limits};
use crate::number::{NumberError, PersonNumber};
use crate::text::{self, TextError};
use crate::units::Resolve;

/// A value of a field. `Debug` shows the field and the length only: personal data never reaches a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Value {
    field: FieldId,
    content: Content,
}

/// What a value says.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// Nothing: the field is cleared.
    Cleared,
    /// A text.
    Text(String),
    /// A date.
    Date(PartialDate),
    /// A choice of a list.
    Code(&'static Code),
    /// Two letters of a country.
    Country([u8; 2]),
    /// A personal number.
    Number(PersonNumber),
    /// A unit.
    Unit(UnitId),
    /// Another record.
    Record(RecordId),
    /// Yes or no.
    Flag(bool),
    /// Parts by their place in [`Struct::parts`], in order.
    Parts(Vec<(u8, Content)>),
    /// Bytes of a newer schema.
    Opaque(Vec<u8>),
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({} bytes)", self.field, self.encode().len())
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({} bytes)", encode(self).len())
    }
}

impl Value {
    /// A value built by the program.
    ///
    /// # Errors
    /// Content that the field does not take.
    pub fn new(field: FieldId, content: Content) -> Result<Self, Invalid> {
        let value = Value { field, content };
        let decoded = Value::decode(field, &value.encode())?;
        if decoded == value { Ok(value) } else { Err(Invalid::Encoding { at: At { field, part: None } }) }
    }

    /// A value of which only one part is known; it may lack others that it needs.
    pub(crate) fn of_part(field: FieldId, part: &str, content: Content) -> Option<Self> {
        let at = structure(field)?.parts.iter().position(|known| known.name == part)?;
        Some(Value { field, content: Content::Parts(vec![(u8::try_from(at).ok()?, content)]) })
    }

    /// The value that clears `field`.
    #[must_use]
    pub fn cleared(field: FieldId) -> Self {
        Value { field, content: Content::Cleared }
    }

    /// Its canonical bytes; none for a cleared field.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(&self.content)
    }

    /// Reads what [`encode`](Self::encode) wrote, with all that this version knows: to show it. What derives from a value must not
    /// differ between versions, and is read by [`decode_at`](Self::decode_at).
    ///
    /// # Errors
    /// Bytes that no value of the field has, or that are not the canonical ones.
    pub fn decode(field: FieldId, bytes: &[u8]) -> Result<Self, Invalid> {
        Value::decode_at(LEVEL_MAX, field, bytes)
    }

    /// Reads a value as a version does that knows a feature level and no more.
    ///
    /// # Errors
    /// Bytes that no value of the field has at that level, or that are not the canonical ones.
    pub fn decode_at(level: u16, field: FieldId, bytes: &[u8]) -> Result<Self, Invalid> {
        let at = At { field, part: None };
        let bytes_max = bytes_max(level, field);
        if bytes.len() > bytes_max {
            return Err(Invalid::TooLarge { at, bytes_max });
        }
        let content = match field.at(level) {
            _ if bytes.is_empty() => Content::Cleared,
            Some(known) => decode(level, at, &known.ty, bytes)?,
            None => Content::Opaque(bytes.to_vec()),
        };
        Ok(Value { field, content })
    }

    /// Whether it has a part that the level at which it was read does not know.
    #[must_use]
    pub fn has_unknown_part(&self) -> bool {
        let Content::Parts(parts) = &self.content else { return false };
        parts.iter().any(|(_, part)| matches!(part, Content::Opaque(_)))
    }

    /// The field it is a value of.
    #[must_use]
    pub fn field(&self) -> FieldId {
        self.field
    }

    /// What it says.
    #[must_use]
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Whether it clears the field.
    #[must_use]
    pub fn is_cleared(&self) -> bool {
        self.content == Content::Cleared
    }

    /// The part of that name, if the value has it.
    #[must_use]
    pub fn part(&self, name: &str) -> Option<&Content> {
        let Content::Parts(parts) = &self.content else { return None };
        let of = structure(self.field)?;
        parts
            .iter()
            .find(|(index, _)| of.parts.get(usize::from(*index)).is_some_and(|p| p.name == name))
            .map(|(_, c)| c)
    }

    /// The date, of a field of dates.
    #[must_use]
    pub fn date(&self) -> Option<PartialDate> {
        self.content.date()
    }

    /// The personal number, of a field of numbers.
    #[must_use]
    pub fn number(&self) -> Option<PersonNumber> {
        self.content.number()
    }

    /// The record referred to, of a field of references.
    #[must_use]
    pub fn record(&self) -> Option<RecordId> {
        self.content.record()
    }

    /// The name of the code, of a coded field.
    #[must_use]
    pub fn code(&self) -> Option<&'static str> {
        self.content.code()
    }

    /// A text as it is, and a person's name as it is spoken ("Nguyễn Thị Minh Anh"): what word search takes apart.
    #[must_use]
    pub fn spoken(&self) -> Option<String> {
        match &self.content {
            Content::Text(text) => Some(text.clone()),
            Content::Parts(parts) if structure(self.field)?.form == Form::Slashes => {
                let words = parts.iter().filter_map(|(_, part)| match part {
                    Content::Text(text) => Some(text.as_str()),
                    _ => None,
                });
                Some(words.collect::<Vec<_>>().join(" "))
            }
            _ => None,
        }
    }

    /// Whether nothing that it says to have happened lies after `today`. Of a date whose day is unknown the first day counts.
    ///
    /// # Errors
    /// The part that does.
    pub fn check_past(&self, today: Date) -> Result<(), Invalid> {
        let check = |part: Option<&'static str>, ty: &Type, content: &Content| {
            let is_future = match (ty, content) {
                (Type::Date(Tense::Past), Content::Date(date)) => date.earliest() > today,
                (Type::Number, Content::Number(number)) => number.birth_year() > today.year(),
                _ => false,
            };
            let at = At { field: self.field, part };
            if is_future { Err(Invalid::Future { at, today }) } else { Ok(()) }
        };
        match (&self.content, self.field.get().map(|field| &field.ty)) {
            (Content::Parts(parts), Some(Type::Struct(of))) => parts.iter().try_for_each(|(index, content)| {
                of.parts.get(usize::from(*index)).map_or(Ok(()), |part| check(Some(part.name), &part.ty, content))
            }),
            (content, Some(ty)) => check(None, ty, content),
            (_, None) => Ok(()),
        }
    }

    /// Its text form; the inverse of [`parse`].
    #[must_use]
    pub fn display(&self, units: &dyn Resolve) -> String {
        match (&self.content, self.field.get().map(|field| &field.ty)) {
            (Content::Parts(parts), Some(Type::Struct(of))) => display_parts(of, parts, units),
            (content, _) => display_scalar(content, units),
        }
    }
}

impl Content {
    /// Its canonical bytes; none if it clears.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a value of a field, or of one part of it, as a version does that knows a feature level and no more.
    ///
    /// # Errors
    /// Bytes that it cannot have, or that are not the canonical ones.
    pub fn decode_at(level: u16, field: FieldId, part: Option<&'static str>, bytes: &[u8]) -> Result<Self, Invalid> {
        let Some(part) = part else { return Value::decode_at(level, field, bytes).map(|value| value.content) };
        let at = At { field, part: Some(part) };
        let bytes_max = bytes_max(level, field);
        if bytes.len() > bytes_max {
            return Err(Invalid::TooLarge { at, bytes_max });
        }
        decode(level, at, part_type(field, part).ok_or(Invalid::Parts { at })?, bytes)
    }

    /// The date, if it is one.
    #[must_use]
    pub fn date(&self) -> Option<PartialDate> {
        if let Content::Date(date) = self { Some(*date) } else { None }
    }
    /// The personal number, if it is one.
    #[must_use]
    pub fn number(&self) -> Option<PersonNumber> {
        if let Content::Number(number) = self { Some(*number) } else { None }
    }
    /// The record, if it is a reference.
    #[must_use]
    pub fn record(&self) -> Option<RecordId> {
        if let Content::Record(record) = self { Some(*record) } else { None }
    }
    /// The unit, if it is one.
    #[must_use]
    pub fn unit(&self) -> Option<UnitId> {
        if let Content::Unit(unit) = self { Some(*unit) } else { None }
    }
    /// The name of the code, if it is one.
    #[must_use]
    pub fn code(&self) -> Option<&'static str> {
        if let Content::Code(code) = self { Some(code.name) } else { None }
    }
}

/// Reads the text form of a value of `field`; an empty text clears it. White space is tidied and text brought to NFC, so
/// that what people type or import becomes canonical.
///
/// # Errors
/// Why the text is no value of the field.
pub fn parse(field: FieldId, typed: &str, units: &dyn Resolve) -> Result<Value, Invalid> {
    let at = At { field, part: None };
    // Refused before anything is done with it; decomposed text shrinks by a third at most when composed.
    let bytes_max = 2 * bytes_max(LEVEL_MAX, field) + 2;
    if typed.len() > bytes_max {
        return Err(Invalid::TooLarge { at, bytes_max });
    }
    let typed = text::tidy(typed);
    let content = match field.get().map(|field| &field.ty) {
        _ if typed.is_empty() => Content::Cleared,
        Some(Type::Struct(of)) => parse_parts(field, of, &typed, units)?,
        Some(ty) => parse_scalar(at, ty, &typed, units)?,
        None => Content::Opaque(from_hex(at, &typed)?),
    };
    Value::decode(field, &encode(&content))
}

/// Reads the text form of one part of a value of `field`, as [`parse`] reads that of a whole one.
///
/// # Errors
/// Why the text is not such a part.
pub fn parse_part(field: FieldId, part: &'static str, typed: &str, units: &dyn Resolve) -> Result<Content, Invalid> {
    let at = At { field, part: Some(part) };
    let bytes_max = 2 * bytes_max(LEVEL_MAX, field) + 2;
    if typed.len() > bytes_max {
        return Err(Invalid::TooLarge { at, bytes_max });
    }
    let typed = text::tidy(typed);
    if typed.is_empty() {
        return Err(Invalid::PartMissing { at });
    }
    let content = parse_scalar(at, part_type(field, part).ok_or(Invalid::Parts { at })?, &typed, units)?;
    Content::decode_at(LEVEL_MAX, field, Some(part), &encode(&content))
}

fn part_type(field: FieldId, part: &str) -> Option<&'static Type> {
    let of = structure(field)?;
    of.parts.iter().find(|known| known.name == part).map(|known| &known.ty)
}

/// What a stored value says, or one part of it: the rest was checked when it was stored and is not looked at again.
pub(super) fn peek(field: FieldId, bytes: &[u8], part: Option<&str>) -> Option<Content> {
    let at = At { field, part: None };
    let Some(wanted) = part else { return decode(LEVEL_MAX, at, &field.get()?.ty, bytes).ok() };
    let of = structure(field)?;
    let wanted = of.parts.iter().position(|part| part.name == wanted)?;
    let mut rest = bytes;
    while let [index, len_high, len_low, after @ ..] = rest {
        let (part, after) = after.split_at_checked(usize::from(u16::from_be_bytes([*len_high, *len_low])))?;
        if usize::from(*index) == wanted {
            return decode(LEVEL_MAX, at, &of.parts[wanted].ty, part).ok();
        }
        rest = after;
    }
    None
}

/// The text form of the bytes of a value; of bytes that this version cannot read, `0x` and their hex digits.
#[must_use]
pub fn display(field: FieldId, bytes: &[u8], units: &dyn Resolve) -> String {
    match Value::decode(field, bytes) {
        Ok(value) => value.display(units),
        Err(_) => to_hex(bytes),
    }
}

/// The bytes that a value of a field may have.
fn bytes_max(level: u16, field: FieldId) -> usize {
    if field.at(level).is_some() { limits(level).value_bytes } else { UNKNOWN_BYTES_MAX }
}

fn structure(field: FieldId) -> Option<&'static Struct> {
    match field.get()?.ty {
        Type::Struct(of) => Some(of),
        _ => None,
    }
}

/// For a message: the parts that a value at `at` may have.
pub(super) fn part_names(at: At) -> String {
    let parts = structure(at.field).map_or(&[][..], |of| of.parts);
    parts.iter().map(|part| part.name).collect::<Vec<_>>().join(", ")
}

// Bytes.

fn encode(content: &Content) -> Vec<u8> {
    match content {
        Content::Cleared => Vec::new(),
        Content::Text(text) => text.as_bytes().to_vec(),
        Content::Date(date) => date.to_bytes(),
        Content::Code(code) => vec![code.number],
        Content::Country(letters) => letters.to_vec(),
        Content::Number(number) => number.to_bytes().to_vec(),
        Content::Unit(unit) => unit.0.to_be_bytes().to_vec(),
        Content::Record(record) => record.0.to_vec(),
        Content::Flag(flag) => vec![u8::from(*flag)],
        Content::Opaque(bytes) => bytes.clone(),
        Content::Parts(parts) => {
            let mut out = Vec::new();
            for (index, part) in parts {
                let bytes = encode(part);
                out.push(*index);
                // A part beyond the bound of a value cannot pass `decode`, so the length it wraps to is never stored.
                out.extend((bytes.len() as u16).to_be_bytes());
                out.extend(bytes);
            }
            out
        }
    }
}

fn decode(level: u16, at: At, ty: &Type, bytes: &[u8]) -> Result<Content, Invalid> {
    let encoding = Invalid::Encoding { at };
    Ok(match *ty {
        Type::Text { chars_max, shape } => {
            let text = str::from_utf8(bytes).map_err(|_| Invalid::Text { at, error: TextError::NotUtf8 })?;
            text::check(text, chars_max).map_err(|error| Invalid::Text { at, error })?;
            check_shape(at, shape, text)?;
            Content::Text(text.to_owned())
        }
        Type::Date(_) => Content::Date(PartialDate::from_bytes(bytes).map_err(|error| Invalid::Date { at, error })?),
        Type::Code(choices) => match choices.iter().find(|code| [code.number] == bytes && code.since <= level) {
            Some(code) => Content::Code(code),
            None => return Err(Invalid::Code { at, choices }),
        },
        Type::Country if codes::is_country(bytes) => Content::Country(bytes.try_into().map_err(|_| encoding)?),
        Type::Country => return Err(Invalid::Shape { at, wanted: COUNTRY_WANTED }),
        Type::Number => Content::Number(
            PersonNumber::from_bytes(bytes).map_err(|error: NumberError| Invalid::Number { at, error })?,
        ),
        Type::Unit => Content::Unit(UnitId(u64::from_be_bytes(bytes.try_into().map_err(|_| encoding)?))),
        Type::Record(_) => Content::Record(RecordId(bytes.try_into().map_err(|_| encoding)?)),
        Type::Flag => match bytes {
            [flag @ 0..=1] => Content::Flag(*flag == 1),
            _ => return Err(encoding),
        },
        Type::Struct(of) => decode_parts(level, at.field, of, bytes)?,
    })
}

fn decode_parts(level: u16, field: FieldId, of: &'static Struct, mut bytes: &[u8]) -> Result<Content, Invalid> {
    let encoding = Invalid::Encoding { at: At { field, part: None } };
    let mut parts: Vec<(u8, Content)> = Vec::new();
    while let [index, len_high, len_low, rest @ ..] = bytes {
        let len = usize::from(u16::from_be_bytes([*len_high, *len_low]));
        let in_order = parts.last().is_none_or(|(last, _)| last < index);
        if len == 0 || len > rest.len() || !in_order {
            return Err(encoding);
        }
        let (part_bytes, after) = rest.split_at(len);
        let content = match of.parts.get(usize::from(*index)).filter(|part| part.since <= level) {
            Some(part) => decode(level, At { field, part: Some(part.name) }, &part.ty, part_bytes)?,
            None => Content::Opaque(part_bytes.to_vec()),
        };
        parts.push((*index, content));
        bytes = after;
    }
    if !bytes.is_empty() || parts.is_empty() {
        return Err(encoding);
    }
    check_parts(level, field, of, &parts)?;
    Ok(Content::Parts(parts))
}

fn check_parts(level: u16, field: FieldId, of: &'static Struct, parts: &[(u8, Content)]) -> Result<(), Invalid> {
    let find = |at: usize| parts.iter().find(|(index, _)| usize::from(*index) == at).map(|(_, content)| content);
    for (index, part) in of.parts.iter().enumerate() {
        if part.required && part.since <= level && find(index).is_none() {
            return Err(Invalid::PartMissing { at: At { field, part: Some(part.name) } });
        }
    }
    if let Some((first, second)) = of.in_order
        && let (Some(Content::Date(from)), Some(Content::Date(to))) = (find(first), find(second))
        && to.surely_precedes(*from)
    {
        let at = At { field, part: Some(of.parts[second].name) };
        return Err(Invalid::Order { at, earlier: of.parts[first].name });
    }
    Ok(())
}

const COUNTRY_WANTED: &str = "two capital letters of ISO 3166-1 (VN), the country's name, or XX for stateless";

fn check_shape(at: At, shape: Shape, text: &str) -> Result<(), Invalid> {
    let digits = |text: &str, min: usize, max: usize| {
        (min..=max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
    };
    let (fits, wanted) = match shape {
        Shape::Free => (true, ""),
        Shape::Name if text.chars().all(is_name_char) => (
            !text::mixes_scripts(text),
            "written in one script per word: type it anew, one of its letters only looks like the right one",
        ),
        Shape::Name => (false, "made of letters, spaces, apostrophes, hyphens and dots"),
        Shape::Digits { min, max } => (digits(text, min, max), "digits only, as many as the paper has"),
        Shape::Phone => {
            (digits(text.strip_prefix('+').unwrap_or(text), 8, 15), "8 to 15 digits, perhaps with + in front")
        }
        Shape::Email => (is_email(text), "an e-mail address (name@example.vn)"),
        Shape::Site => {
            (text.parse::<SiteId>().is_ok_and(|id| id.to_string() == text), "a site id (s- and 16 hex digits)")
        }
        Shape::Shard => {
            (text.parse::<ShardId>().is_ok_and(|id| id.to_string() == text), "a shard id (h- and 16 hex digits)")
        }
        Shape::Unit => {
            (text.parse::<UnitId>().is_ok_and(|id| id.to_string() == text), "the id of a unit (u- and 16 hex digits)")
        }
        Shape::Incarnation => (
            text.parse::<Incarnation>().is_ok_and(|id| id.to_string() == text),
            "an incarnation (i- and 32 hex digits)",
        ),
        Shape::Key => (key_of(text).is_some(), "the 64 hex digits of an Ed25519 key, in small letters"),
        Shape::Hash => (key_of(text).is_some(), "the 64 hex digits of a BLAKE3 hash, in small letters"),
        Shape::Address => (is_address(text), "host:port"),
    };
    if fits { Ok(()) } else { Err(Invalid::Shape { at, wanted }) }
}

/// The key that 64 hex digits in small letters write.
#[must_use]
pub fn key_of(digits: &str) -> Option<[u8; 32]> {
    let small = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != 64 || !digits.as_bytes().iter().all(small) {
        return None;
    }
    let mut key = [0; 32];
    for (byte, pair) in key.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(key)
}

fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic()) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Among the characters that may be stored, whether names use it.
fn is_name_char(c: char) -> bool {
    match c {
        '\0'..='\x7f' => c.is_ascii_alphabetic() || matches!(c, ' ' | '\'' | '-' | '.' | '`'),
        // What keyboards and word processors make of an apostrophe or a hyphen; search does not tell them apart.
        '‘' | '’' | '′' | '´' | '‐' | '‑' | '–' => true,
        '\u{a1}'..='\u{bf}' | '×' | '÷' | '\u{2010}'..='\u{2116}' | '\u{3001}'..='\u{3011}' => false,
        _ => true,
    }
}

fn is_email(text: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_graphic() && !b"@,;<>\"".contains(&b));
    text.split_once('@').is_some_and(|(name, host)| plain(name) && plain(host) && host.contains('.'))
}

// Text.

fn parse_scalar(at: At, ty: &Type, typed: &str, units: &dyn Resolve) -> Result<Content, Invalid> {
    let without_gaps = |gaps: &[char]| typed.chars().filter(|c| !gaps.contains(c)).collect::<String>();
    Ok(match ty {
        Type::Text { shape: Shape::Phone, .. } => Content::Text(without_gaps(&[' ', '.', '-', '(', ')'])),
        Type::Text { shape: Shape::Digits { .. }, .. } => Content::Text(without_gaps(&[' ', '.'])),
        Type::Text { .. } => Content::Text(typed.to_owned()),
        Type::Date(_) => Content::Date(typed.parse().map_err(|error| Invalid::Date { at, error })?),
        Type::Code(choices) => Content::Code(codes::find(choices, typed).ok_or(Invalid::Code { at, choices })?),
        Type::Country => Content::Country(codes::country(typed).ok_or(Invalid::Shape { at, wanted: COUNTRY_WANTED })?),
        Type::Number => Content::Number(without_gaps(&[' ']).parse().map_err(|error| Invalid::Number { at, error })?),
        Type::Unit => Content::Unit(parse_unit(at, typed, units)?),
        Type::Record(_) => {
            let wanted = "a record id (r- and 32 hex digits)";
            Content::Record(typed.parse().map_err(|_| Invalid::Shape { at, wanted })?)
        }
        Type::Flag => match text::fold(typed).as_str() {
            "yes" | "co" => Content::Flag(true),
            "no" | "khong" => Content::Flag(false),
            _ => return Err(Invalid::Shape { at, wanted: "yes or no" }),
        },
        // Structures do not nest: a test over the table keeps it so.
        Type::Struct(_) => return Err(Invalid::Parts { at }),
    })
}

fn parse_unit(at: At, typed: &str, units: &dyn Resolve) -> Result<UnitId, Invalid> {
    if let Ok(unit) = typed.parse() {
        return Ok(unit);
    }
    let wanted = "a unit's code and a day on which it meant the unit (00001@2025-06-30), or its id (u-…)";
    let (code, day) = typed.split_once('@').ok_or(Invalid::Shape { at, wanted })?;
    let day: Date = day.parse().map_err(|error| Invalid::Date { at, error })?;
    units.unit(code, day).ok_or(Invalid::UnknownUnit { at })
}

fn parse_parts(field: FieldId, of: &'static Struct, typed: &str, units: &dyn Resolve) -> Result<Content, Invalid> {
    let whole = At { field, part: None };
    let texts: Vec<(usize, String)> = match of.form {
        // No name has an equals sign: this is the form in which a part of a newer schema is shown.
        Form::Slashes if !typed.contains('=') => split_name(typed),
        Form::Slashes | Form::Named => {
            let mut texts = Vec::new();
            for (place, segment) in split(typed, ';').into_iter().enumerate() {
                match (segment.split_once('='), place) {
                    (Some((name, value)), _) => {
                        texts.push((part_index(of, name.trim()).ok_or(Invalid::Parts { at: whole })?, value.to_owned()))
                    }
                    (None, 0) => texts.push((0, segment)),
                    (None, _) => return Err(Invalid::Parts { at: whole }),
                }
            }
            texts
        }
    };
    let mut parts = Vec::new();
    for (index, typed) in texts {
        let typed = typed.trim();
        let stored = u8::try_from(index).map_err(|_| Invalid::Parts { at: whole })?;
        match of.parts.get(index) {
            _ if typed.is_empty() => {}
            Some(Part { name, ty, .. }) => {
                parts.push((stored, parse_scalar(At { field, part: Some(name) }, ty, typed, units)?));
            }
            None => parts.push((stored, Content::Opaque(from_hex(whole, typed)?))),
        }
    }
    parts.sort_by_key(|(index, _)| *index);
    if parts.is_empty() || parts.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(Invalid::Parts { at: whole });
    }
    // Before the length is encoded in two bytes: `decode` could not tell what it wrapped from.
    let bytes_max = bytes_max(LEVEL_MAX, field);
    let too_long = |(_, content): &(u8, Content)| encode(content).len() > bytes_max;
    if parts.iter().any(too_long) {
        return Err(Invalid::TooLarge { at: whole, bytes_max });
    }
    Ok(Content::Parts(parts))
}

/// The place of a part by its name, or by `part-<place>` if a newer schema added it.
fn part_index(of: &Struct, name: &str) -> Option<usize> {
    of.parts.iter().position(|part| part.name == name).or_else(|| {
        let index = name.strip_prefix("part-")?.parse::<usize>().ok()?;
        (index >= of.parts.len()).then_some(index)
    })
}

fn split_name(typed: &str) -> Vec<(usize, String)> {
    if typed.contains('/') {
        return typed.splitn(3, '/').map(str::to_owned).enumerate().collect();
    }
    let words: Vec<&str> = typed.split(' ').collect();
    match words.as_slice() {
        [family, middle @ .., given] => {
            vec![(0, (*family).to_owned()), (1, middle.join(" ")), (2, (*given).to_owned())]
        }
        _ => vec![(2, typed.to_owned())],
    }
}

/// The segments between unescaped separators, without the escapes.
fn split(typed: &str, separator: char) -> Vec<String> {
    let mut segments = vec![String::new()];
    let mut escaped = false;
    for c in typed.chars() {
        if !escaped && c == '\\' {
            escaped = true;
        } else if !escaped && c == separator {
            segments.push(String::new());
        } else {
            escaped = false;
            if let Some(segment) = segments.last_mut() {
                segment.push(c);
            }
        }
    }
    segments
}

fn display_parts(of: &Struct, parts: &[(u8, Content)], units: &dyn Resolve) -> String {
    let is_known = |(index, _): &(u8, Content)| usize::from(*index) < of.parts.len();
    if of.form == Form::Slashes && parts.iter().all(is_known) {
        let find = |at: usize| parts.iter().find(|(index, _)| usize::from(*index) == at);
        let texts = (0..of.parts.len()).map(|at| find(at).map_or_else(String::new, |(_, c)| display_scalar(c, units)));
        return texts.collect::<Vec<_>>().join("/");
    }
    let texts = parts.iter().map(|(index, content)| {
        let value = display_scalar(content, units).replace('\\', r"\\").replace(';', r"\;");
        match of.parts.get(usize::from(*index)) {
            Some(part) => format!("{}={value}", part.name),
            None => format!("part-{index}={value}"),
        }
    });
    texts.collect::<Vec<_>>().join("; ")
}

fn display_scalar(content: &Content, units: &dyn Resolve) -> String {
    match content {
        Content::Cleared => String::new(),
        Content::Text(text) => text.clone(),
        Content::Date(date) => date.to_string(),
        Content::Code(code) => code.name.to_owned(),
        Content::Country(letters) => letters.iter().map(|&letter| char::from(letter)).collect(),
        Content::Number(number) => number.to_string(),
        Content::Unit(unit) => match units.named(*unit) {
            Some(named) => format!("{}@{}", named.code, named.at),
            None => unit.to_string(),
        },
        Content::Record(record) => record.to_string(),
        Content::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
        Content::Opaque(bytes) => to_hex(bytes),
        // Only at the top of a value, where `display_parts` takes them.
        Content::Parts(_) => to_hex(&encode(content)),
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |out, byte| out + &format!("{byte:02x}"))
}

fn from_hex(at: At, typed: &str) -> Result<Vec<u8>, Invalid> {
    let wanted = Invalid::Shape { at, wanted: "0x and hex digits: this version does not know it" };
    let digits = typed.strip_prefix("0x").filter(|d| d.len() % 2 == 0 && d.bytes().all(|b| b.is_ascii_hexdigit()));
    let digits = digits.ok_or(wanted.clone())?;
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| wanted.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEWER: u16 = 2;
    static CODES: &[Code] = &[
        Code { number: 1, name: "old", label: "", aliases: &[], since: 1 },
        Code { number: 2, name: "new", label: "", aliases: &[], since: NEWER },
    ];
    static PARTS: Struct = Struct {
        form: Form::Named,
        parts: &[
            Part { name: "kind", label: "", ty: Type::Code(CODES), required: true, since: 1 },
            Part { name: "flag", label: "", ty: Type::Flag, required: true, since: NEWER },
        ],
        in_order: None,
    };

    #[test]
    fn at_a_level_a_value_is_read_as_by_a_version_that_knows_no_more() {
        let read = |level, ty: &Type, bytes: &[u8]| {
            decode(level, At { field: FieldId(1), part: None }, ty, bytes)
                .map(|content| Value { field: FieldId(1), content })
        };
        let codes = Type::Code(CODES);
        assert!(read(1, &codes, &[1]).is_ok() && read(1, &codes, &[2]).is_err() && read(NEWER, &codes, &[2]).is_ok());
        let parts = Type::Struct(&PARTS);
        let old = read(1, &parts, &[0, 0, 1, 1]).unwrap();
        assert!(!old.has_unknown_part(), "what the level asks for is there");
        assert!(read(NEWER, &parts, &[0, 0, 1, 1]).is_err(), "and here it is not");
        // Whatever stands in a part that is not there yet: a version that does not know it cannot tell.
        for flag in [0, 1, 9] {
            assert!(read(1, &parts, &[0, 0, 1, 1, 1, 0, 1, flag]).unwrap().has_unknown_part());
            let newer = read(NEWER, &parts, &[0, 0, 1, 1, 1, 0, 1, flag]);
            assert_eq!(newer.is_ok_and(|value| !value.has_unknown_part()), flag < 2);
        }
    }
}
