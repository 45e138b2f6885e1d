//! The catalogues and the code, compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use dinhba_core::claims::{Purpose, Role};
use dinhba_core::dossier::SERVICES;
use dinhba_core::event::Form;
use dinhba_core::filing;
use dinhba_core::schema::{RELATIONS, RULES, RecordKind};
use dinhba_core::standing::Standing;
use dinhba_core::text::is_nfc;
use dinhba_core::units::Tier;
use fluent_syntax::ast::{Entry, Expression, InlineExpression, Pattern, PatternElement};

use super::*;

/// Parameters of a pattern, in variants too.
fn parameters(pattern: &Pattern<&str>, found: &mut BTreeSet<String>) {
    for element in &pattern.elements {
        let PatternElement::Placeable { expression } = element else { continue };
        let inline = match expression {
            Expression::Inline(inline) => inline,
            Expression::Select { selector, variants } => {
                variants.iter().for_each(|variant| parameters(&variant.value, found));
                selector
            }
        };
        if let InlineExpression::VariableReference { id } = inline {
            found.insert(id.name.to_owned());
        }
    }
}

/// The messages of a language's file: their keys, with the parameters.
fn messages(name: &str, lang: Lang) -> BTreeMap<String, BTreeSet<String>> {
    let (_, texts) = FILES.iter().find(|(file, _)| *file == name).expect("a file");
    let file = resource(name, texts[lang as usize]);
    let message = |entry: &Entry<&str>| match entry {
        Entry::Message(message) => {
            let mut found = BTreeSet::new();
            parameters(message.value.as_ref().expect("a message has a text"), &mut found);
            Some((message.id.name.to_owned(), found))
        }
        Entry::Junk { content } => panic!("{name}: {content}"),
        _ => None,
    };
    file.entries().filter_map(message).collect()
}

/// Files of the workspace with an ending, below folders.
fn sources(folders: &[&str]) -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).expect("a source");
                found.push((path, text));
            }
        }
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut found = Vec::new();
    folders.iter().for_each(|folder| walk(&workspace.join(folder), &mut found));
    found
}

/// What stands between quotes behind each of `marks` in a text.
fn named_by<'a>(text: &'a str, marks: &'a [&str]) -> impl Iterator<Item = &'a str> {
    marks.iter().flat_map(|mark| text.split(mark).skip(1)).filter_map(|rest| {
        let rest = rest.trim_start().strip_prefix('"')?;
        rest.split('"').next()
    })
}

#[test]
fn both_languages_have_the_same_messages_with_the_same_parameters() {
    for (name, _) in FILES {
        let (english, vietnamese) = (messages(name, Lang::En), messages(name, Lang::Vi));
        let keys = |all: &BTreeMap<String, BTreeSet<String>>| all.keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&english), keys(&vietnamese), "{name}.ftl");
        for (key, parameters) in &english {
            match name {
                // What fills a hole may be of no use in another language.
                "phrases" => assert!(vietnamese[key].is_subset(parameters), "{key}"),
                // A form has its title in English, and a label; a role has its name, and a label.
                _ => {
                    let called = ["title", "role", "label"];
                    let others = |all: &BTreeSet<String>| {
                        all.iter().filter(|name| !called.contains(&name.as_str())).cloned().collect::<Vec<_>>()
                    };
                    assert_eq!(others(parameters), others(&vietnamese[key]), "{key}");
                }
            }
        }
    }
}

#[test]
fn vietnamese_is_written_as_it_is_stored_and_is_no_english() {
    for (name, [english, vietnamese]) in FILES {
        assert!(is_nfc(vietnamese), "{name}.ftl");
        let text = |file: &str| {
            let lines = file.lines().filter_map(|line| line.split_once(" = "));
            lines.map(|(key, text)| (key.to_owned(), text.to_owned())).collect::<BTreeMap<_, _>>()
        };
        let english = text(english);
        for (key, said) in text(vietnamese) {
            // Some tables have had Vietnamese titles in both languages, and some messages are nothing but their parameters.
            let is_of_both = english[&key].chars().any(|c| c as u32 > 0x7f) || !letters(&said);
            assert!(said != english[&key] || is_of_both, "{key}: {said}");
        }
    }
}

/// Whether anything stands outside of parameters.
fn letters(text: &str) -> bool {
    let mut depth = 0;
    text.chars().any(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        depth == 0 && c.is_alphabetic()
    })
}

#[test]
fn each_key_that_the_code_names_exists_and_each_that_exists_is_named() {
    let mut all = sources(&["client/src"]);
    all.retain(|(path, _)| !path.ends_with("language/tests.rs"));
    let text: String = all.iter().map(|(_, text)| text.as_str()).collect();
    let said: BTreeSet<&str> = named_by(&text, &["say!("]).collect();
    let titles: BTreeSet<String> = all
        .iter()
        // The tests of tables have titles of their own.
        .flat_map(|(_, text)| {
            named_by(text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default(), &["column("])
        })
        .filter(|name| !name.is_empty())
        .map(|name| format!("title-{name}"))
        .collect();
    let file = |name| messages(name, Lang::En).into_keys().collect::<BTreeSet<_>>();
    let (verbs, errors) = (file("verbs"), file("errors"));
    let absent: Vec<&str> =
        said.iter().copied().filter(|key| !verbs.contains(*key) && !errors.contains(*key)).collect();
    assert_eq!(absent, Vec::<&str>::new(), "named and not there");
    // `detail-untranslated` aside, a key is a literal where it is used.
    let unused = verbs.union(&errors).filter(|key| !said.contains(key.as_str())).collect::<Vec<_>>();
    assert_eq!(unused, Vec::<&String>::new(), "there and not named");
    assert_eq!(titles, file("titles"));
}

#[test]
fn each_word_of_a_closed_list_has_a_word_in_both_languages() {
    let kinds = RecordKind::ALL.iter().map(|kind| ("kind", kind.name().to_owned()));
    let tiers = Tier::ALL.iter().map(|tier| ("tier", tier.name().to_owned()));
    let roles = Role::ALL.iter().map(|role| ("role", role.to_string()));
    let purposes = Purpose::ALL.iter().map(|purpose| ("purpose", purpose.name().to_owned()));
    let relations = RELATIONS.iter().map(|(name, _)| ("relation", (*name).to_owned()));
    let standings = Standing::ALL.iter().map(|standing| ("standing", standing.name().to_owned()));
    let services = SERVICES.iter().map(|service| ("service", service.name.to_owned()));
    // What can be looked at is listed only where it is named.
    let commands = sources(&["node/core/src"]).into_iter().find(|(path, _)| path.ends_with("command.rs"));
    let commands = commands.expect("the commands").1;
    let looked: Vec<_> = commands.lines().filter(|line| line.trim().starts_with("Looked::")).collect();
    let looked = looked.iter().flat_map(|line| named_by(line, &["=>"])).map(|word| ("looked", word.to_owned()));
    let words = kinds.chain(tiers).chain(roles).chain(purposes).chain(relations);
    for (list, word) in words.chain(standings).chain(looked).chain(services) {
        assert_eq!(word_in(Lang::En, list, &word), Some(word.clone()), "{list}: what programs write is English");
        assert!(word_in(Lang::Vi, list, &word).is_some_and(|said| said != word), "{list}: {word}");
    }
}

#[test]
fn each_law_is_named_in_vietnamese() {
    let forms = Form::ALL.iter().map(|form| form.law);
    let rules = RULES.iter().map(|rule| rule.law).chain(filing::rules().map(|rule| rule.law));
    for law in forms.chain(rules) {
        assert_eq!(Message::law(law).text(Lang::En), law);
        let said = Message::law(law).text(Lang::Vi);
        let english = ["Law", "Code", "Decree", "article", " and ", " to ", "Circular"];
        assert!(english.iter().all(|word| !said.contains(word)), "{law}: {said}");
    }
    assert_eq!(
        Message::law("Law on Residence 68/2020/QH14, articles 20 to 22").text(Lang::Vi),
        "Luật Cư trú 68/2020/QH14, Điều 20 đến 22"
    );
}

#[test]
fn each_phrase_is_written_somewhere() {
    let folders = ["client/src", "node/src", "node/core/src"];
    let text: String = sources(&folders).into_iter().map(|(_, text)| text).collect();
    // As the compiler reads it: a line that goes on, quotes, and the hyphen that a constant's place has.
    let mut written = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("\\\n") {
        written.push_str(before);
        rest = after.trim_start();
    }
    written.push_str(rest);
    let written = written.replace("\\\"", "\"");
    let (_, [english, _]) = FILES.iter().find(|(name, _)| *name == "phrases").expect("the book");
    let mut shapes = BTreeSet::new();
    for (key, phrase) in english.lines().filter_map(|line| line.split_once(" = ")) {
        let shape: String =
            phrase.split('{').map(|piece| piece.split_once('}').map_or(piece, |(_, rest)| rest)).collect();
        assert!(shapes.insert(shape), "{key} is another phrase too, but for the names of its holes");
    }
    let system = "(os error ";
    for piece in phrases::letters_of_all() {
        // What stands around a hole may be of two sentences.
        for part in piece.split([':', ';', '(', ')', '?', ',']).map(str::trim).filter(|part| part.len() >= 12) {
            let is_known = written.contains(part) || piece.contains(system);
            assert!(is_known, "nobody says this any more: {part}");
        }
    }
}

#[test]
fn a_language_is_told_by_the_command_line_then_by_the_environment_in_its_order() {
    let lang = |words: &[&str], vars: &[(&str, &str)]| {
        let env = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Lang::of_words(words.iter().map(|word| (*word).to_owned()), &env)
    };
    let all = [("DINHBA_LANG", "vi"), ("LC_ALL", "en_US.UTF-8"), ("LC_MESSAGES", "en"), ("LANG", "C")];
    assert_eq!(lang(&[], &[]), Lang::En);
    assert_eq!(lang(&["get", "--lang", "en"], &all), Lang::En);
    assert_eq!(lang(&["--lang=vi", "get"], &[("DINHBA_LANG", "en")]), Lang::Vi);
    assert_eq!(lang(&["get", "--", "--lang", "vi"], &[]), Lang::En);
    assert_eq!(lang(&[], &all), Lang::Vi);
    assert_eq!(lang(&[], &[("LC_ALL", "vi_VN.UTF-8"), ("LANG", "en_US.UTF-8")]), Lang::Vi);
    assert_eq!(lang(&[], &[("LC_ALL", "C"), ("LANG", "vi_VN.UTF-8")]), Lang::En, "the first that is set counts");
    assert_eq!(lang(&[], &[("LC_MESSAGES", "vi"), ("LANG", "C")]), Lang::Vi);
    assert_eq!(lang(&[], &[("DINHBA_LANG", ""), ("LC_ALL", ""), ("LANG", "vi-VN")]), Lang::Vi, "an empty one is none");
    assert_eq!(lang(&[], &[("DINHBA_LANG", "fr"), ("LANG", "vi")]), Lang::En);
    for (tag, found) in [("vi", Some(Lang::Vi)), ("en_GB@euro", Some(Lang::En)), ("de", None), ("POSIX", None)] {
        assert_eq!(Lang::named(tag), found, "{tag}");
    }
}

#[test]
fn days_stand_first_in_vietnam_and_instants_are_told_by_its_clocks() {
    let vi = |text: &str| Lang::Vi.days(text);
    assert_eq!(vi("1990-03-08"), "08/03/1990");
    assert_eq!((vi("1990-03"), vi("1990")), ("03/1990".to_owned(), "1990".to_owned()));
    assert_eq!(vi("from 2026-01-02 to 2026-02-03."), "from 02/01/2026 to 03/02/2026.");
    for kept in ["02683@2025-06-30", "KS-2026-17", "2025-07-01T08:30:00Z", "r-2026-01-02", "12-2026-05"] {
        assert_eq!(vi(kept), kept);
    }
    assert_eq!(Lang::En.days("1990-03-08"), "1990-03-08");
    assert_eq!(Lang::Vi.instant(1_750_000_000_000), "15/06/2025 22:06:40");
    assert_eq!(Lang::En.instant(1_750_000_000_000), "2025-06-15T15:06:40Z");
    assert_eq!(Lang::Vi.instant(1_750_014_400_000), "16/06/2025 02:06:40", "another day there");
    assert_eq!(Lang::ALL.map(|lang| lang.instant(0)), [String::new(), String::new()]);
}

#[test]
fn sentences_that_were_made_elsewhere_are_told_in_vietnamese() {
    let vi = |text: &str| Message::detail(text).text(Lang::Vi);
    assert_eq!(
        vi("birth_date is not a date: write 1975-03-02 or 02/03/1975, 1975-03 or 03/1975, or 1975"),
        "Ngày, tháng, năm sinh (birth_date): không phải là ngày; viết 02/03/1975, 03/1975 hoặc 1975"
    );
    let future =
        "birth_date lies after 2026-06-15, which is today by this node's clock: check it, or have the clock set";
    assert!(vi(future).contains("15/06/2026 theo đồng hồ"), "{}", vi(future));
    let two = "no connection to 10.0.0.5:7400: Connection refused (os error 111)";
    assert_eq!(vi(two), "không nối được với 10.0.0.5:7400: máy kia từ chối kết nối (lỗi 111)");
    assert_eq!(
        vi("birth needs one child, not 0"),
        "Đăng ký khai sinh: cần một Trẻ được khai sinh (child), không phải 0"
    );
    let holidays = "tet has 5 days, and 0 are given: the list has a hole; 2027-01-02 stands there twice";
    assert_eq!(vi(holidays), "Tết Nguyên đán có 5 ngày mà chỉ ghi 0: danh sách còn thiếu; 02/01/2027: có hai lần");
    assert_eq!(vi("sex must be one of: male, female"), "Giới tính (sex): phải là một trong: Nam, Nữ");
    assert_eq!(vi("inputs.date: date is needed"), "Ngày (date): còn thiếu");
    let deep = "inputs.date: ".repeat(60) + "date is needed";
    assert!(vi(&deep).contains(&deep), "nobody has a sentence so deep, and it takes no time");
    let long = format!("no connection to 10.0.0.5:7400: {}", "x".repeat(2_000));
    assert!(vi(&long).contains(&long), "what is so long is no sentence");
    assert_eq!(vi("something new"), "(nguyên văn: something new)");
    assert_eq!(Message::detail("something new").text(Lang::En), "something new");
    assert_eq!(Message::from("something new").text(Lang::Vi), "something new");
}

#[test]
fn rules_are_told_in_the_words_of_their_language_with_the_law() {
    let rule = filing::rules().find(|rule| rule.is_warning).expect("a warning");
    let told = format!("{}: subjects[0]: {} / {} ({})", rule.name, rule.text, rule.text_vi, rule.law);
    let said = Message::detail(&told).text(Lang::Vi);
    assert!(said.starts_with(rule.text_vi) && said.contains(rule.name) && said.contains("--grounds"), "{said}");
    assert!(!said.contains(rule.text) && !said.contains("Law"), "{said}");
    let rule = &RULES[0];
    let said = Message::detail(&dinhba_core::validity::rule_text(rule.id.0)).text(Lang::Vi);
    assert!(said.starts_with(rule.text_vi.trim_end_matches('.')) && said.contains(rule.name), "{said}");
}
