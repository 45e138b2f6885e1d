//! What an officer of Vietnam reads: each verb in Vietnamese, and no English word in what it says.

use clap::CommandFactory;
use dinhba_core::event::Form;
use prost::Message as _;
use prost_types::Any;
use tonic::Status;

use super::*;
use crate::error::node_status;
use crate::language::help_in;

/// English words that stand in no name of a field, a verb or an option, and are none in Vietnamese.
const ENGLISH: &str = "the of and is are was were not this that with for by from has have been which there here whose \
    record records accepted request receipt edits hash pending disputed received nothing nobody more same waits second \
    person held since late days yes refused unknown already write give needs shows sites rows found known left before \
    after read changed cannot must none without again print usage options arguments commands default possible values";

/// The words of a text, but for what is typed: names with joints, options, and what stands in backticks or quotes.
fn words(text: &str) -> Vec<String> {
    let mut is_typed = false;
    let outside: String = text
        .chars()
        .filter(|c| {
            let is_mark = *c == '`';
            is_typed ^= is_mark;
            !is_typed && !is_mark
        })
        .collect();
    let is_joint = |word: &str| word.contains(['_', '-', '=', '@', '/', '<', '[', '.', '#']) || word.starts_with('\'');
    let tokens = outside.split_whitespace().map(|word| word.trim_matches(|c: char| "(),;:!?\"“”.…]".contains(c)));
    tokens.filter(|word| !is_joint(word)).map(str::to_lowercase).collect()
}

/// Panics if an English word stands in a text.
pub(crate) fn assert_vietnamese(text: &str) {
    let english: Vec<&str> = ENGLISH.split_whitespace().collect();
    // Commands that are proposed, and codes that may be chosen, stand as they are typed.
    let told = text.lines().map(|line| line.split("dinhba ").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let found: Vec<String> = words(&told).into_iter().filter(|word| english.contains(&word.as_str())).collect();
    assert!(found.is_empty(), "{found:?} in\n{text}");
    assert!(dinhba_core::text::is_nfc(text), "{text}");
}

async fn say_vi(memory: &Memory, words: &[&str]) -> Said {
    let said = say(memory, &[words, &["--lang", "vi"]].concat()).await;
    assert_vietnamese(&said.out);
    assert_vietnamese(&said.err);
    said
}

#[tokio::test]
async fn a_birth_is_registered_and_a_rule_refuses_one() {
    let memory = Memory::default();
    let birth = ["birth", "name=Trần/Thị/Mai", "sex=nữ", "birth-date=01/05/2026"];
    let said = say_vi(&memory, &birth).await;
    assert!(said.out.starts_with("Đăng ký khai sinh: đã đăng ký\n  Trẻ được khai sinh: r-"), "{}", said.out);
    assert!(said.out.contains("đã ghi nhận: r-") && said.out.contains("mã yêu cầu  q-"), "{}", said.out);
    // Programs get what they got.
    let [english, vietnamese] = ["en", "vi"].map(|lang| async move {
        let memory = Memory::default();
        let words = ["birth", "name=Trần/Thị/Mai", "sex=nữ", "birth-date=01/05/2026", "--json", "--lang", lang];
        say(&memory, &words).await.json()
    });
    let (mut english, mut vietnamese) = (english.await, vietnamese.await);
    for object in [&mut english, &mut vietnamese] {
        for key in ["request", "records", "subjects"] {
            object[key] = Json::Null;
        }
    }
    assert_eq!(english, vietnamese);

    let rule = dinhba_core::filing::rules().next().expect("a rule");
    let text = format!("{}: {} / {} ({})", rule.name, rule.text, rule.text_vi, rule.law);
    let error = refusal(Code::InvalidArgument, v1::Reason::RuleBroken, &text, Vec::new());
    let told = error.text(Lang::Vi);
    assert!(told.starts_with("Trái quy định; chưa có gì được ghi: ") && told.contains(rule.text_vi), "{told}");
    assert!(told.contains("Cần làm:") && told.contains("Luật") && !told.contains(rule.text), "{told}");
    assert_eq!(error.to_string(), text);
    assert_vietnamese(&told);
}

fn refusal(code: Code, reason: v1::Reason, text: &str, details: Vec<Any>) -> Error {
    let status: Status = node_status(code, text, reason, details);
    Error::refused(&crate::error::Told::from(&status))
}

#[test]
fn each_reason_says_what_became_of_it_and_what_to_do_next() {
    let unknown = "a sentence that nobody has translated";
    for number in 1..=14 {
        let reason = v1::Reason::try_from(number).expect("a reason");
        let error = refusal(Code::FailedPrecondition, reason, unknown, Vec::new());
        assert_eq!(error.to_string(), unknown, "in English it is what the node says");
        let told = error.text(Lang::Vi);
        assert!(told.contains(&format!("(nguyên văn: {unknown})")), "{told}");
        let others = told.replace(unknown, "");
        assert!(reason == v1::Reason::BeyondEnd || others.contains("Cần làm:"), "{reason:?}: {told}");
        assert_vietnamese(&others);
    }
    let moved = v1::Moved { field: "birth_date".into(), ..v1::Moved::default() };
    let stale = v1::Stale { record: "r-00000000000000000000000000000001".into(), fields: vec![moved], more: 2 };
    let detail = Any { type_url: v1::STALE_TYPE_URL.to_owned(), value: stale.encode_to_vec() };
    let error = refusal(Code::Aborted, v1::Reason::Stale, "stale", vec![detail]);
    let told = Failure::Client(error).text(Lang::Vi);
    assert!(told.contains("Ngày, tháng, năm sinh (birth_date) và 2 trường khác"), "{told}");
    assert!(told.ends_with("dinhba get r-00000000000000000000000000000001"), "{told}");
    assert_vietnamese(&told);
}

#[tokio::test]
async fn each_verb_of_an_officer_speaks_vietnamese() {
    let (memory, scrap) = (Memory::default(), Scrap::new("vietnamese"));
    let id =
        say(&memory, &["edit", "--create", "person", "name=Lò/Văn/Ún", "sex=male", "birth_date=1990-03-08", "--json"])
            .await;
    let id = id.json()["records"][0].as_str().unwrap().to_owned();
    let request =
        say(&memory, &["edit", &id, "note=một", "--json"]).await.json()["request"].as_str().unwrap().to_owned();
    let nobody = "r-00000000000000000000000000000009";
    let file =
        scrap.file("people.csv", "id,name,birth_date\n1,Lê/Văn/An,1990-01-01\n2,,31/02/1990\n3,Lê/Văn/Ba,31/02/1990\n");
    let torn = scrap.file("torn.csv", "id,name\n1,\"Lê/Văn/An\n");
    let extract = scrap.0.join("extract.csv").display().to_string();
    let lines: Vec<Vec<&str>> = vec![
        vec!["get", &id],
        vec!["get", nobody],
        vec!["edit", &id, "email=a@b.vn"],
        vec!["edit", &id],
        vec!["edit", "nobody"],
        vec!["find", "--name", "lò", "--born", "1990"],
        vec!["find"],
        vec!["members", &id],
        vec!["households", &id],
        vec!["dossiers", &id],
        vec!["history", &id],
        vec!["conflicts"],
        vec!["pending"],
        vec!["confirm", &id],
        vec!["reject", &id],
        vec!["resolve", &id, "name", "Lò Văn Ún", "--grounds", "Giấy khai sinh"],
        vec!["resolve", &id, "ethnicity", "Thái", "--grounds", "Giấy khai sinh"],
        vec!["work"],
        vec!["work", "--overdue"],
        vec!["held", &request],
        vec!["figures"],
        vec!["figures", "--targets"],
        vec!["target", "list"],
        vec!["quality"],
        vec!["numbers"],
        vec!["roll", "--on", "24/05/2026"],
        vec!["holidays", "list"],
        vec!["holidays", "set", "2027", "2027-02-05", "--grounds", "TB 88"],
        vec!["import", &file, "--quiet"],
        vec!["import", &file, "--check"],
        vec!["import", &torn],
        vec!["export", "-o", &extract],
        vec!["units", "02683@2025-06-30"],
        vec!["units", "99999"],
        vec!["rules"],
        vec!["events"],
        vec!["status"],
        vec!["birth", "nonsense"],
        vec!["birth", "nonsense=1"],
        vec!["death", "date=1"],
    ];
    for line in lines {
        let said = say_vi(&memory, &line).await;
        assert!(!(said.out.is_empty() && said.err.is_empty()) || line[0] == "roll", "{line:?} says nothing");
    }
    for form in Form::ALL {
        let said = say(&memory, &["events", form.event.name(), "--lang", "vi"]).await;
        assert_vietnamese(
            &said
                .out
                .lines()
                .map(|line| line.split('…').next_back().unwrap_or_default())
                .collect::<Vec<_>>()
                .join("\n"),
        );
    }
}

#[test]
fn an_event_that_lacks_something_says_so_in_vietnamese() {
    let violations =
        [("inputs.date", "date: date is needed"), ("subjects[0].inputs.sex", "sex must be one of: male, female")];
    let field_violations = violations.iter().map(|(field, text)| tonic_types::pb::bad_request::FieldViolation {
        field: (*field).to_owned(),
        description: (*text).to_owned(),
        ..Default::default()
    });
    let bad = tonic_types::pb::BadRequest { field_violations: field_violations.collect() };
    let detail = Any { type_url: "type.googleapis.com/google.rpc.BadRequest".to_owned(), value: bad.encode_to_vec() };
    let text = "2 things are wrong: date is needed; sex must be one of: male, female";
    let error = refusal(Code::InvalidArgument, v1::Reason::Invalid, text, vec![detail]);
    let told = Failure::Client(error).text(Lang::Vi);
    assert!(told.contains("có 2 điểm chưa đúng") && told.contains("Ngày (date): còn thiếu"), "{told}");
    assert!(told.contains("hồ sơ thứ 1, ") && told.contains("phải là một trong: Nam, Nữ"), "{told}");
    assert_vietnamese(&told);
}

/// The commands below one, with their keys in the catalogue of the help.
fn commands(command: &clap::Command, key: &str, found: &mut Vec<(String, clap::Command)>) {
    for below in command.get_subcommands() {
        let key = if key.is_empty() { below.get_name().to_owned() } else { format!("{key}-{}", below.get_name()) };
        commands(below, &key, found);
        found.push((key, below.clone()));
    }
}

/// Verbs of operators, of which only what they are about is told in Vietnamese.
fn is_of_operators(key: &str) -> bool {
    ["site", "unit"].iter().any(|verb| key == *verb || key.starts_with(&format!("{verb}-")))
}

/// What the node's program has beside the verbs.
const OF_THE_NODE: [&str; 9] =
    ["node", "restore", "demo", "pki", "pki-dev", "pki-dev-create", "pki-dev-node", "pki-dev-person", "pki-dev-site"];

#[test]
fn the_help_of_each_verb_and_option_is_there_in_vietnamese_and_no_other() {
    let mut found = Vec::new();
    commands(&Program::command(), "", &mut found);
    let mut used: std::collections::BTreeSet<(String, String)> = std::collections::BTreeSet::new();
    for (key, command) in &found {
        let is_event = Event::named(key).is_some_and(|event| event.form().is_some());
        let of = if is_event { "filed" } else { key.as_str() };
        assert!(help_in(Lang::Vi, of, None).is_some(), "{key} has no help in Vietnamese");
        used.insert((of.to_owned(), String::new()));
        for arg in command.get_arguments() {
            let option = arg.get_id().as_str().replace('_', "-");
            let place = [of, "options"].into_iter().find(|key| help_in(Lang::Vi, key, Some(&option)).is_some());
            match place {
                Some(place) => {
                    used.insert((place.to_owned(), option));
                }
                None => assert!(is_of_operators(key), "{key}: {option} has no help in Vietnamese"),
            }
        }
    }
    used.extend(["help", "version"].map(|option| ("options".to_owned(), option.to_owned())));
    let others = ["program", "help", "exit-codes", "about-files", "options", "completions"];
    used.extend(others.iter().chain(&OF_THE_NODE).map(|key| ((*key).to_owned(), String::new())));
    assert_eq!(used, crate::language::help_keys(), "what is there and what is used");
}

#[test]
fn the_help_speaks_vietnamese() {
    let mut program = translate(Program::command(), Lang::Vi);
    // Each line of the list begins with a verb.
    let list = program.render_help().to_string();
    let behind_verbs = |line: &str| {
        line.strip_prefix("  ").map_or(line, |line| line.split_once(' ').map_or("", |(_, rest)| rest)).to_owned()
    };
    assert_vietnamese(&list.lines().map(behind_verbs).collect::<Vec<_>>().join("\n"));
    let mut found = Vec::new();
    commands(&program, "", &mut found);
    for (key, mut command) in found {
        // Events' forms have names of inputs in rows; they have a test of their own.
        if is_of_operators(&key) || key.contains("help") || Event::named(&key).is_some() {
            continue;
        }
        let help = command.render_long_help().to_string();
        assert!(help.contains("Cách dùng: ") && help.contains("Tùy chọn"), "{help}");
        // How it is written, in one line or two, has the verb's own name.
        let told = help.lines().filter(|line| !line.contains(" dinhba"));
        assert_vietnamese(&told.collect::<Vec<_>>().join("\n"));
    }
    // In English it is as it was written.
    let help = |program: &mut clap::Command| program.render_long_help().to_string();
    assert_eq!(help(&mut translate(Program::command(), Lang::En)), help(&mut Program::command()));
}

#[test]
fn a_wrong_command_line_is_told_in_vietnamese() {
    let told = |line: &str| {
        let program = translate(Program::command(), Lang::Vi);
        let error = program.try_get_matches_from(std::iter::once("dinhba").chain(line.split_whitespace())).unwrap_err();
        help::misuse(&error, Lang::Vi)
    };
    let lines = [
        ("get nonsense", "nonsense\" không đúng dạng mã"),
        ("find --name An", "còn thiếu: --born"),
        ("no-such-verb", "không có lệnh no-such-verb"),
        ("figures --by week", "chọn một trong: unit, day, month, all"),
        ("find --nme An", "không có tùy chọn --nme\ncó phải là --name?"),
        ("find --number 1 --name An --born 1990", "không dùng chung được"),
        ("status --timeout", "--timeout <GIÂY> cần có giá trị"),
    ];
    for (line, words) in lines {
        let told = told(line);
        assert!(told.contains(words) && told.contains("--help"), "{line}: {told}");
        assert_vietnamese(&told.lines().filter(|line| !line.contains("Cách dùng")).collect::<Vec<_>>().join("\n"));
    }
}
