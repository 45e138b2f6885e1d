//! Text of records: one normal form to store, one folded form to search.
//!
//! Stored text is NFC, one line, without doubled, leading or trailing spaces, and made of the characters of a fixed table:
//! so equal names are equal bytes, nothing invisible hides in a value, and every replica judges alike whatever Unicode
//! version its compiler knows. [`tidy`] brings what people type into that form; [`check`] refuses what is not in it.
//!
//! Limits: the table holds Latin, Greek, Cyrillic, Thai, Lao, Khmer, Cham, Tai Viet, Kana, Hangul and Han (with chữ Nôm),
//! and common punctuation; emoji and other scripts are refused. [`fold`] forgets all diacritics, so it finds too much
//! ("ma", "má", "mã"), never too little; of scripts beyond Latin, Greek and Cyrillic it only takes the marks away.

mod folding;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::level::Folding;

/// Marks on one letter. Vietnamese needs two; more serves only to draw over neighbouring lines.
const MARKS_IN_A_ROW_MAX: usize = 3;

/// Below it no character is a mark.
const MARKS_FIRST: char = '\u{300}';

/// Why a text is refused. Messages never hold the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// More than the field allows.
    #[error("is too long: at most {chars_max} characters")]
    TooLong {
        /// The bound.
        chars_max: usize,
    },
    /// Bytes that are no UTF-8.
    #[error("is not UTF-8 text")]
    NotUtf8,
    /// Text in another normal form.
    #[error("is not in Unicode normal form NFC: normalise it before sending")]
    NotNfc,
    /// A control, invisible, private, unassigned or otherwise unlisted character.
    #[error("has a character that is not allowed (number {position}): remove control and invisible characters")]
    Forbidden {
        /// Its place, counted in characters from 1.
        position: usize,
    },
    /// Spaces at an end or side by side.
    #[error("has needless spaces: trim it and use single spaces")]
    Spaces,
}

/// Whether `text` is in normal form NFC.
#[must_use]
pub fn is_nfc(text: &str) -> bool {
    text.chars().all(is_always_nfc) || unicode_normalization::is_nfc(text)
}

/// Whether a character is in NFC by itself and beside any other one: Latin letters with their accents in one, as all of Vietnamese.
/// None of them is a mark.
fn is_always_nfc(c: char) -> bool {
    c < MARKS_FIRST || ('\u{1e00}'..='\u{1eff}').contains(&c)
}

/// `text` in normal form NFC.
#[must_use]
pub fn to_nfc(text: &str) -> String {
    if is_nfc(text) { text.to_owned() } else { text.nfc().collect() }
}

/// `text` in the form that is stored: NFC, white space collapsed to single spaces, none at the ends.
#[must_use]
pub fn tidy(text: &str) -> String {
    if is_nfc(text) { collapse_spaces(text.chars()) } else { collapse_spaces(text.nfc()) }
}

/// Whether `text` may be stored in a field of at most `chars_max` characters.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn check(text: &str, chars_max: usize) -> Result<(), TextError> {
    // UTF-8 takes at most four bytes a character: a huge text is refused before anything walks over it.
    if text.len() > chars_max.saturating_mul(4) || text.chars().count() > chars_max {
        return Err(TextError::TooLong { chars_max });
    }
    let (mut marks, mut is_plain) = (0, true);
    for (index, c) in text.chars().enumerate() {
        let is_always_nfc = is_always_nfc(c);
        is_plain &= is_always_nfc;
        marks = if !is_always_nfc && is_combining_mark(c) { marks + 1 } else { 0 };
        if !is_allowed(c) || marks > MARKS_IN_A_ROW_MAX {
            return Err(TextError::Forbidden { position: index + 1 });
        }
    }
    if !is_plain && !is_nfc(text) {
        return Err(TextError::NotNfc);
    }
    if text.starts_with(' ') || text.ends_with(' ') || text.contains("  ") {
        return Err(TextError::Spaces);
    }
    Ok(())
}

/// What search compares: plain lower-case Latin letters without accents, one apostrophe, one hyphen, white space collapsed.
/// Letters that no decomposition makes plain become what people type for them (`ƀ` is `b`, `đ` is `d`), Greek and Cyrillic
/// ones too, letter by letter; those that stand in a word with Latin letters are taken for the Latin letters that they look
/// like. Idempotent; the same for every normal form and for old and new tone placement ("Hoà", "hòa").
#[must_use]
pub fn fold(text: &str) -> String {
    // Compatibility forms (full-width letters, no-break spaces) come apart too.
    let plain: Vec<char> = text.nfkd().filter(|&c| !is_combining_mark(c)).collect();
    let mut out = String::with_capacity(plain.len());
    for word in plain.split_inclusive(|&c| script(c).is_none()) {
        let is_latin = word.iter().any(|&c| script(c) == Some(Script::Latin));
        for &c in word {
            let lookalike = if is_latin { replacement(folding::LOOKALIKES, c) } else { None };
            let replaced =
                lookalike.or_else(|| replacement(folding::SIGNS, c)).or_else(|| replacement(folding::LETTERS, c));
            match replaced {
                Some(plain) => out.push_str(plain),
                None => out.push(c.to_ascii_lowercase()),
            }
        }
    }
    collapse_spaces(out.chars())
}

/// The words of a name, folded: whatever separates them (spaces, apostrophes, hyphens, dots) is gone.
#[must_use]
pub fn words(name: &str, folding: Folding) -> Vec<String> {
    let is_between = |c: char| c.is_ascii() && !c.is_ascii_alphanumeric();
    let folded = match folding {
        Folding::First => fold(name),
    };
    folded.split(is_between).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn replacement(table: &[(char, &'static str)], c: char) -> Option<&'static str> {
    table.binary_search_by_key(&c, |(from, _)| *from).ok().map(|at| table[at].1)
}

/// A script of those that names are written in. Kana, Hangul and Han stand together, since they are mixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Script {
    Latin,
    Greek,
    Cyrillic,
    Thai,
    Lao,
    Khmer,
    Cham,
    TaiViet,
    EastAsian,
}

/// The script of a letter among the characters that may be stored; none of a mark or a sign.
fn script(c: char) -> Option<Script> {
    Some(match c as u32 {
        0x41..=0x5A | 0x61..=0x7A | 0xAA | 0xBA | 0xC0..=0xD6 | 0xD8..=0xF6 | 0xF8..=0x2AF | 0x1E00..=0x1EFF => {
            Script::Latin
        }
        0x370..=0x3FF => Script::Greek,
        0x400..=0x52F => Script::Cyrillic,
        0xE01..=0xE5B => Script::Thai,
        0xE81..=0xEDF => Script::Lao,
        0x1780..=0x17E9 => Script::Khmer,
        0x3005..=0x3007 | 0x3041..=0x30FF | 0x3400..=0x9FFF | 0xAC00..=0xD7A3 | 0x20000..=0x3134A => Script::EastAsian,
        0xAA00..=0xAA5F => Script::Cham,
        0xAA80..=0xAADF => Script::TaiViet,
        _ => return None,
    })
}

/// Whether a word of `name` mixes scripts: then one of its letters is not what it looks like, and nobody who types the word
/// finds it.
#[must_use]
pub fn mixes_scripts(name: &str) -> bool {
    let mut of_word = None;
    name.chars().any(|c| match script(c) {
        Some(script) => of_word.replace(script).is_some_and(|before| before != script),
        None => {
            if !is_combining_mark(c) {
                of_word = None;
            }
            false
        }
    })
}

fn collapse_spaces(chars: impl Iterator<Item = char>) -> String {
    let mut out = String::new();
    let mut gap = false;
    for c in chars {
        if c.is_whitespace() {
            gap = !out.is_empty();
        } else {
            if gap {
                out.push(' ');
                gap = false;
            }
            out.push(c);
        }
    }
    out
}

/// First and last of each range of characters that may be stored, in order. All were assigned before Unicode 15, and
/// none is invisible. The table is fixed here because replicas re-check: a newer compiler must not judge otherwise.
#[rustfmt::skip]
const ALLOWED: &[(u32, u32)] = &[
    // Latin, its marks (without the invisible joiner U+034F).
    (0x20, 0x7E), (0xA1, 0xAC), (0xAE, 0x34E), (0x350, 0x36F),
    // Greek, Cyrillic.
    (0x370, 0x377), (0x37A, 0x37F), (0x384, 0x38A), (0x38C, 0x38C), (0x38E, 0x3A1), (0x3A3, 0x52F),
    // Thai, Lao.
    (0xE01, 0xE3A), (0xE3F, 0xE5B),
    (0xE81, 0xE82), (0xE84, 0xE84), (0xE86, 0xE8A), (0xE8C, 0xEA3), (0xEA5, 0xEA5), (0xEA7, 0xEBD), (0xEC0, 0xEC4),
    (0xEC6, 0xEC6), (0xEC8, 0xECD), (0xED0, 0xED9), (0xEDC, 0xEDF),
    // Khmer, without its two invisible vowels.
    (0x1780, 0x17B3), (0x17B6, 0x17DD), (0x17E0, 0x17E9),
    // Latin with two diacritics: most of Vietnamese.
    (0x1E00, 0x1EFF),
    // Dashes, quotes, bullets, primes; currency with the đồng; the number sign.
    (0x2010, 0x2027), (0x2030, 0x205E), (0x20A0, 0x20C0), (0x2116, 0x2116),
    // Punctuation, Kana, Han.
    (0x3001, 0x3003), (0x3005, 0x3011), (0x3041, 0x3096), (0x3099, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF),
    // Cham, Tai Viet, Hangul.
    (0xAA00, 0xAA36), (0xAA40, 0xAA4D), (0xAA50, 0xAA59), (0xAA5C, 0xAA5F), (0xAA80, 0xAAC2), (0xAADB, 0xAADF),
    (0xAC00, 0xD7A3),
    // Han beyond the first plane, where many chữ Nôm are.
    (0x20000, 0x2A6DF), (0x2A700, 0x2B738), (0x2B740, 0x2B81D), (0x2B820, 0x2CEA1), (0x2CEB0, 0x2EBE0),
    (0x30000, 0x3134A),
];

fn is_allowed(c: char) -> bool {
    // Most of what is written; the table has them too.
    if matches!(c, ' '..='~' | '\u{ae}'..='\u{34e}' | '\u{1e00}'..='\u{1eff}') {
        return true;
    }
    let code = c as u32;
    let after = ALLOWED.partition_point(|&(first, _)| first <= code);
    after > 0 && code <= ALLOWED[after - 1].1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use unicode_normalization::char::canonical_combining_class;
    use unicode_normalization::{IsNormalized, is_nfc_quick};

    #[test]
    fn what_is_taken_for_nfc_at_a_glance_is_and_what_is_allowed_at_a_glance_stands_in_the_table() {
        for c in '\0'..=char::MAX {
            if is_always_nfc(c) {
                assert_eq!(is_nfc_quick(std::iter::once(c)), IsNormalized::Yes, "{c:?}");
                assert!(!is_combining_mark(c) && canonical_combining_class(c) == 0, "{c:?}");
            }
            let is_listed = ALLOWED.iter().any(|(first, last)| (*first..=*last).contains(&(c as u32)));
            assert_eq!(is_allowed(c), is_listed, "{c:?}");
        }
    }

    #[test]
    fn search_does_not_see_accents_case_or_tone_placement() {
        for (name, folded) in [
            ("Hoà", "hoa"),
            ("hòa", "hoa"),
            ("HOA", "hoa"),
            ("Ho\u{61}\u{300}", "hoa"),
            ("Nguyễn Thị Thuý", "nguyen thi thuy"),
            ("NGUYỄN  THỊ\tTHÚY ", "nguyen thi thuy"),
            ("Đặng Hữu Đức", "dang huu duc"),
            ("Ðặng Hữu Ðức", "dang huu duc"),
            ("Trương Quỳnh Như", "truong quynh nhu"),
            ("Lường Văn Ướt", "luong van uot"),
            ("H'Hen Niê", "h'hen nie"),
            ("H’Hen Niê", "h'hen nie"),
            ("HʼHen Niê", "h'hen nie"),
            ("H‘Hen Niê", "h'hen nie"),
            ("H`Hen Niê", "h'hen nie"),
            ("Y Ƀhăm Êban", "y bham eban"),
            ("ƀč Ñ Ơ̆ Ƭ", "bc n o t"),
            ("Nguyễn–Lê", "nguyen-le"),
            ("Lò\u{200b} Văn Ɓun", "lo van bun"),
            ("Łukasz Møller-Weiß Æðel", "lukasz moller-weiss aedel"),
            ("İstanbul Iğdır", "istanbul igdir"),
            ("Ольга Иванова", "olga ivanova"),
            ("Αθηνά", "athina"),
            // The first letter of each is Cyrillic.
            ("Аn Сường", "an cuong"),
            ("Thạch សុខ", "thach សខ"),
            ("Phường Phúc\u{a0}Xá", "phuong phuc xa"),
            ("ＡＮ", "an"),
            ("", ""),
        ] {
            assert_eq!(fold(name), folded, "{name}");
            assert_eq!(fold(&name.nfd().collect::<String>()), folded, "{name} in NFD");
        }
    }

    #[test]
    fn what_people_type_becomes_storable() {
        let typed = " Nguye\u{302}\u{303}n \u{a0} Va\u{306}n\tAn\n";
        assert_eq!(tidy(typed), "Nguyễn Văn An");
        assert_eq!(check(&tidy(typed), 13), Ok(()));
        assert_eq!(check(typed, 100), Err(TextError::Forbidden { position: 11 }));
    }

    #[test]
    fn what_must_not_be_stored_is_refused() {
        assert_eq!(check("Nguyễn", 5), Err(TextError::TooLong { chars_max: 5 }));
        assert_eq!(check(&"a".repeat(10_000_000), 5), Err(TextError::TooLong { chars_max: 5 }));
        assert_eq!(check("Hoa\u{300}", 9), Err(TextError::NotNfc));
        assert_eq!(check("An  Bình", 9), Err(TextError::Spaces));
        assert_eq!(check(" An", 9), Err(TextError::Spaces));
        for bad in
            ['\0', '\n', '\u{7f}', '\u{ad}', '\u{200b}', '\u{202e}', '\u{2066}', '\u{feff}', '\u{e000}', '\u{378}']
        {
            assert_eq!(check(&format!("A{bad}"), 9), Err(TextError::Forbidden { position: 2 }), "{bad:?}");
        }
        assert_eq!(check("x\u{327}\u{328}\u{329}\u{32a}", 9), Err(TextError::Forbidden { position: 5 }));
        assert_eq!(check("𡗶 Đỗ Bá Ưng (1/2), số 5", 99), Ok(()));
    }

    #[test]
    fn the_words_of_a_name_do_not_depend_on_what_stands_between_them() {
        for name in ["H'Hen Niê", "H’Hen  Niê", "h ʼ hen niê", "H-Hen Niê", "H. Hen Niê", "H´Hen Niê"] {
            assert_eq!(words(name, Folding::First), ["h", "hen", "nie"], "{name}");
        }
        assert_eq!(words("Nguyễn-Lê O.", Folding::First), ["nguyen", "le", "o"]);
        assert_eq!(words(" ' - ", Folding::First), [""; 0]);
    }

    #[test]
    fn a_word_of_two_scripts_is_told_from_two_words() {
        for name in ["Nguyễn Văn An", "An Иванов", "An-Иван", "H'Hen", "Lê 漢", "山田 ゆき", "Ơ̆", "កុមារ"]
        {
            assert!(!mixes_scripts(name), "{name}");
        }
        for name in ["Аn", "Nguyễn Vаn", "Αn", "Lê漢", "x\u{301}а"] {
            assert!(mixes_scripts(name), "{name}");
        }
    }

    #[test]
    fn the_tables_say_what_well_kept_crates_say() {
        use folding::{LETTERS, LOOKALIKES, SIGNS};
        for table in [LETTERS, SIGNS, LOOKALIKES] {
            assert!(table.windows(2).all(|pair| pair[0].0 < pair[1].0));
        }
        let plain = |c: char| any_ascii::any_ascii_char(c).to_ascii_lowercase();
        for (c, folded) in LETTERS {
            assert_eq!(*folded, plain(*c), "{c}");
        }
        // Every letter that may be stored is folded, if the crate knows letters for it.
        let folded_scripts = [Some(Script::Latin), Some(Script::Greek), Some(Script::Cyrillic)];
        let letters =
            (ALLOWED[0].0..0x1F00).filter_map(char::from_u32).filter(|c| folded_scripts.contains(&script(*c)));
        let is_plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase());
        // A Greek mark that stands alone is a space and a mark.
        let letters = letters.filter(|&c| !is_combining_mark(c) && is_allowed(c) && c.is_alphabetic() && c != 'ͺ');
        let missed: Vec<char> = letters.filter(|c| is_plain(&plain(*c)) && !is_plain(&fold(&c.to_string()))).collect();
        assert_eq!(missed, [] as [char; 0]);
        for (c, looks) in LOOKALIKES {
            let skeleton: String = unicode_security::skeleton(&c.to_string()).collect();
            // The skeleton of a capital I is an l.
            let skeleton = if skeleton == "l" && c.is_uppercase() { "i".to_owned() } else { skeleton.to_lowercase() };
            assert_eq!(*looks, skeleton, "{c}");
        }
    }

    #[test]
    fn the_table_is_in_order() {
        assert!(ALLOWED.iter().all(|(first, last)| first <= last));
        assert!(ALLOWED.windows(2).all(|pair| pair[0].1 < pair[1].0));
    }

    proptest! {
        #[test]
        fn folding_twice_changes_nothing(text in any::<String>()) {
            let once = fold(&text);
            prop_assert_eq!(fold(&once), once);
        }

        #[test]
        fn folding_does_not_depend_on_the_normal_form(text in any::<String>()) {
            prop_assert_eq!(fold(&text.nfd().collect::<String>()), fold(&to_nfc(&text)));
        }

        #[test]
        fn tidy_text_stays_as_it_is(text in any::<String>()) {
            let once = tidy(&text);
            prop_assert!(is_nfc(&once));
            prop_assert_eq!(tidy(&once), once);
        }
    }
}
