//! Stories of the command line, against a site in memory.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use dinhba_core::ids::UnitId;
use dinhba_core::units::{BEFORE_REFORM, Directory, Resolve};
use dinhba_proto::v1;
use serde_json::json;
use tonic::Code;

use super::*;
use crate::client::Client;
use crate::error::Error;
use crate::testing::{Fault, Memory, SHARD, context, shard_status};

pub(crate) mod vietnamese;

#[derive(Parser)]
#[command(after_help = EXIT_CODES)]
struct Program {
    #[command(flatten)]
    before: Connection,
    #[command(subcommand)]
    line: Line,
}

struct Top {
    connection: Connection,
    verb: Verb,
}

impl std::fmt::Debug for Top {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a verb, with {:?}", self.connection)
    }
}

impl Top {
    fn try_parse_from<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Top, clap::Error> {
        let Program { before, line: Line { verb, connection } } = Program::try_parse_from(words)?;
        Ok(Top { connection: connection.or(before), verb })
    }
}

fn parse(line: &str) -> Result<Top, clap::Error> {
    Top::try_parse_from(std::iter::once("dinhba").chain(line.split_whitespace()))
}

/// What a command wrote, and how it ended.
struct Said {
    exit: Exit,
    out: String,
    err: String,
}

impl Said {
    fn json(&self) -> Json {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

async fn say(memory: &Memory, words: &[&str]) -> Said {
    say_with(&memory.client(&["a", "b"]), words).await
}

async fn say_with(client: &Client, words: &[&str]) -> Said {
    let top = Top::try_parse_from(std::iter::once("dinhba").chain(words.iter().copied())).unwrap();
    let lang = top.connection.lang.unwrap_or_default();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut desk = Desk { out: &mut out, err: &mut err, json: top.connection.json, lang };
    let done = match verbs::here(&top.verb, &top.connection, &mut desk) {
        Some(done) => done,
        None => verbs::run(top.verb, client, &context(), &mut desk).await,
    };
    let exit = done.unwrap_or_else(|failure| desk.fail(&failure));
    Said { exit, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

/// A file in a folder of its own, removed at the end of the test.
struct Scrap(PathBuf);

impl Scrap {
    fn new(test: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("dinhba-cli-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Scrap(folder)
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }
}

impl Drop for Scrap {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_commands_fit_together() {
    use clap::CommandFactory;
    Program::command().debug_assert();
    let help = Program::command().render_help().to_string();
    assert!(help.contains("Exit codes:") && help.contains("8  a file was imported but for some rows"), "{help}");
}

/// The first lines of the help of each verb, with those below it.
fn abouts(verb: &clap::Command, path: &str, found: &mut Vec<(String, String)>) {
    for below in verb.get_subcommands() {
        let path = format!("{path} {}", below.get_name());
        for about in [below.get_about(), below.get_long_about()] {
            found.push((path.clone(), about.map(ToString::to_string).unwrap_or_default()));
        }
        abouts(below, &path, found);
    }
}

#[test]
fn the_help_of_a_verb_is_about_the_verb() {
    use clap::CommandFactory;
    let mut found = Vec::new();
    abouts(&Program::command(), "", &mut found);
    assert!(found.len() > 100);
    let mut by_about: std::collections::BTreeMap<&str, &str> = std::collections::BTreeMap::new();
    for (path, about) in &found {
        assert!(!about.is_empty(), "{path} says nothing of itself");
        let other = by_about.insert(about, path).unwrap_or(path);
        assert_eq!(other, path, "they say the same: {about}");
    }
}

#[tokio::test]
async fn a_backup_goes_on_after_every_break_and_the_next_one_begins_where_it_ended() {
    let (memory, scrap) = (Memory::default(), Scrap::new("backup"));
    let dir = scrap.0.join("archive").display().to_string();
    let first = say(&memory, &["backup", &dir, "--json"]).await;
    assert_eq!((first.exit, first.json()["number"].clone()), (Exit::Done, json!(1)), "{}", first.err);
    let second = say(&memory, &["backup", &dir, "--json"]).await;
    assert_eq!((second.exit, second.json()["number"].clone()), (Exit::Done, json!(2)), "{}", second.err);

    let looked = say(&memory, &["backup", "verify", &dir, "--json"]).await;
    assert_eq!(looked.exit, Exit::Done);
    let numbers: Vec<Json> =
        looked.json()["backups"].as_array().unwrap().iter().map(|one| one["bytes"].clone()).collect();
    assert!(
        numbers.len() == 2 && numbers[0].as_u64() > numbers[1].as_u64(),
        "the second has only a summary: {numbers:?}"
    );

    let path = scrap.0.join("archive/backup-000001");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let looked = say(&memory, &["backup", "verify", &dir]).await;
    assert_eq!(looked.exit, Exit::Usage);
    assert!(looked.err.contains("backup-000001 is damaged at byte"), "{}", looked.err);
    let nothing = say(&memory, &["backup", "verify", &scrap.0.join("absent").display().to_string()]).await;
    assert!(nothing.exit == Exit::Usage && nothing.err.contains("holds no backup"), "{}", nothing.err);
}

#[test]
fn a_command_may_run_on_any_thread() {
    fn is_send<T: Send>(_: impl Fn(Verb, Connection) -> T) {}
    is_send(run);
}

#[test]
fn options_may_stand_anywhere_and_wrong_ones_are_told() {
    let top = parse("get r-00000000000000000000000000000001 --node a:1,b:2 --node c:3 --json --timeout 3").unwrap();
    assert_eq!(top.connection.nodes, ["a:1", "b:2", "c:3"]);
    assert!(top.connection.json && matches!(top.verb, Verb::Get { .. }));
    for bad in [
        "get r-1",
        "find --name An",
        "find --number 1 --name An --born 1975",
        "edit",
        "edit --create alien name=An",
        "edit r-00000000000000000000000000000001 a=b --shard h-0000000000000001",
        "import f --shard h-0000000000000001 --unit 00001",
        "import f --check --rejected g",
        "import f --list ",
        "export --format xlsx",
        "status --timeout 0",
        "status --unsafe-loopback x --identity y",
        "resolve r-00000000000000000000000000000001 name An",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_time_that_is_given_bounds_every_verb() {
    let limits = |line: &str| parse(line).unwrap().connection.limits();
    let given = limits("site remove-node n-0000000000000001 --timeout 10");
    assert_eq!([given.deadline, given.admin], [Duration::from_secs(10); 2]);
    let short = limits("status --timeout 1");
    assert_eq!([short.turn, short.attempt, short.deadline, short.admin], [Duration::from_secs(1); 4]);
    let usual = limits("status");
    assert_eq!([usual.deadline, usual.admin], [15, 60].map(Duration::from_secs));
}

#[tokio::test]
async fn the_calls_of_one_errand_end_together() {
    let memory = Memory::default();
    memory.register().down.extend(["a".to_owned(), "b".to_owned()]);
    let client = memory.client(&["a", "b"]).for_errand(Duration::from_millis(100));
    let began = std::time::Instant::now();
    for _ in 0..3 {
        assert!(client.status(&context()).await.is_err());
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[test]
fn programs_are_told_of_a_wrong_command_line_in_json_too() {
    for (line, words) in [
        ("get nonsense --json", "\"nonsense\" is not a record id"),
        ("--json find --name An", "were not provided: --born <BORN>"),
        ("--json no-such-verb", "unrecognized subcommand"),
    ] {
        let object = misuse(&parse(line).unwrap_err()).json();
        assert_eq!(object["error"], json!("invalid"));
        let message = object["message"].as_str().unwrap();
        assert!(message.contains(words) && !message.contains(['\n', '\u{1b}']), "{message}");
    }
}

#[test]
fn what_is_not_given_comes_from_the_environment_or_is_asked_for() {
    let env = |name: &str| match name {
        "DINHBA_NODE" => Some("a:1, b:2".to_owned()),
        "DINHBA_PURPOSE" => Some("registration".to_owned()),
        _ => None,
    };
    let message = |connection: &Connection, env: &dyn Fn(&str) -> Option<String>| {
        let failure = connection.open(env).err().expect("it must be refused");
        assert_eq!(failure.exit(), Exit::Usage);
        failure.to_string()
    };
    let mut connection = parse("status").unwrap().connection;
    assert!(message(&connection, &|_| None).contains("--purpose"));
    assert!(message(&connection, &env).contains("--case"));
    connection.case = Some("x".repeat(65));
    assert!(message(&connection, &env).contains("the case is too long: at most 64 characters"));
    connection.case = Some(" 12/QĐ-UBND".into());
    assert!(message(&connection, &env).contains("--identity"));
    connection.identity = Some("/nowhere".into());
    assert!(message(&connection, &env).contains("/nowhere/ca.pem"));
    connection.identity = None;
    connection.unsafe_loopback = Some("spiffe://dinhba/person/lan/chief/u-0000000000000003".into());
    assert!(message(&connection, &env).contains("not a role"));
    connection.unsafe_loopback = Some("spiffe://dinhba/person/lan/registrar/u-0000000000000003".into());
    assert!(connection.open(&env).is_ok());
    assert!(message(&connection, &|name| env(name).filter(|_| name != "DINHBA_NODE")).contains("--node"));
    for wrong in ["a", "a:0", "a:99999", ":1", "n@a"] {
        let env = |name: &str| if name == "DINHBA_NODE" { Some(format!("b:1,{wrong}")) } else { env(name) };
        assert!(message(&connection, &env).contains("host:port"), "{wrong}");
    }
    connection.purpose = Some("curiosity".into());
    assert!(message(&connection, &env).contains("not a purpose"));
}

#[test]
fn assignments_are_read_to_the_letter() {
    let read = |word: &'static str| verbs::assignment(word).map_err(|failure| failure.to_string());
    assert_eq!(read("name=Nguyễn/Thị/Hòa"), Ok(("name", "", "Nguyễn/Thị/Hòa")));
    assert_eq!(read("relative[father]=name=An; since=2001"), Ok(("relative", "father", "name=An; since=2001")));
    assert_eq!(read("email="), Ok(("email", "", "")));
    for bad in ["name", "=x", "relative[]=x", "relative[father=x", "[father]=x", "a b=x"] {
        assert!(read(bad).is_err(), "{bad}");
    }
}

#[test]
fn every_error_has_its_exit_code() {
    let refused = |code| Exit::of(&Error::refusal(code, ""));
    assert_eq!(refused(Code::InvalidArgument), Exit::Usage);
    assert_eq!(refused(Code::PermissionDenied), Exit::Denied);
    assert_eq!(refused(Code::NotFound), Exit::NotFound);
    assert_eq!(refused(Code::AlreadyExists), Exit::Stale);
    assert_eq!(refused(Code::FailedPrecondition), Exit::Other);
    assert_eq!(Exit::of(&Error::Unreachable { text: String::new(), fault: None }), Exit::Unreachable);
    assert_eq!(Exit::of(&Error::OutcomeUnknown { request: None, text: String::new() }), Exit::Unknown);
    // The table of the help and the codes are the same.
    for code in (0..=9).chain([130]) {
        assert!(EXIT_CODES.lines().any(|line| line.starts_with(&format!("{code:>3}  "))), "{code}");
    }
}

#[tokio::test]
async fn a_person_is_registered_read_and_changed() {
    let memory = Memory::default();
    let said = say(&memory, &["edit", "--create", "person", "name=Nguyễn/Thị/Hòa", "sex=female", "--json"]).await;
    assert_eq!(said.exit, Exit::Done, "{}", said.err);
    let id = said.json()["records"][0].as_str().unwrap().to_owned();
    let said = say(&memory, &["edit", &id, "name=Nguyễn/Thị/Hoa", "relative[father]=name=Nguyễn An"]).await;
    assert!(said.out.starts_with(&format!("accepted: {id}")), "{}{}", said.out, said.err);
    let said = say(&memory, &["get", &id]).await;
    assert!(said.out.contains("Nguyễn/Thị/Hoa") && said.out.contains("relative[father]"), "{}", said.out);
    let said = say(&memory, &["get", "r-00000000000000000000000000000001", "--json"]).await;
    assert_eq!(said.exit, Exit::NotFound);
    let error: Json = serde_json::from_str(&said.err).unwrap();
    assert_eq!(error["error"], json!("not_found"));
    let said = say(&memory, &["edit", "Hòa", "name=x"]).await;
    assert_eq!(said.exit, Exit::Usage);
    let said = say(&memory, &["edit", &id]).await;
    assert!(said.exit == Exit::Usage && said.err.contains("add field=value"), "{}", said.err);
}

#[test]
fn a_verb_takes_the_options_that_it_uses_and_its_help_shows_no_others() {
    use clap::CommandFactory;
    let help = |path: &[&str]| {
        let mut program = Program::command();
        program.build();
        let mut verb = &mut program;
        for name in path {
            verb = verb.find_subcommand_mut(name).expect(name);
        }
        verb.render_help().to_string()
    };
    for path in [&["units"][..], &["fields"], &["generate"], &["backup", "verify"]] {
        let help = help(path);
        assert!(!help.contains("--node") && !help.contains("--case") && help.contains("--json"), "{path:?}: {help}");
    }
    for path in [&["status"][..], &["edit"], &["backup"], &["site", "add-node"], &["site", "snapshot"]] {
        let help = help(path);
        assert!(help.contains("--node") && help.contains("--case") && help.contains("--json"), "{path:?}: {help}");
    }
    assert!(!help(&["site"]).contains("--node"));
    assert!(parse("units --node a:1 00001").is_err() && parse("fields --json").unwrap().connection.json);
    // Before the verb or after it; after it counts.
    let top = parse("--node a:1 --case A --json status --case B").unwrap();
    assert_eq!((top.connection.nodes, top.connection.case.as_deref()), (vec!["a:1".to_owned()], Some("B")));
    assert!(top.connection.json && top.connection.timeout.is_none());
    let unused = parse("--node a:1 units 00001").unwrap().connection.refuse_unused().unwrap_err();
    assert!(unused.exit() == Exit::Usage && unused.to_string().contains("--node"), "{unused}");
    parse("--json units 00001").unwrap().connection.refuse_unused().unwrap();
}

#[tokio::test]
async fn a_page_says_how_to_go_on_and_the_last_says_nothing() {
    let memory = Memory::default();
    for name in ["name=Lò Văn Ún", "name=Lò Thị Ọi", "name=Lò Thị Ín"] {
        assert_eq!(say(&memory, &["edit", "--create", "person", name]).await.exit, Exit::Done);
    }
    let household = "r-00000000000000000000000000000001";
    let said = say(&memory, &["members", household]).await;
    assert_eq!(said.out.lines().count(), 3, "a head and two: {}", said.out);
    assert!(said.err.contains("go on with the same and --after 02"), "{}", said.err);
    let said = say(&memory, &["members", household, "--after", "02"]).await;
    assert_eq!((said.out.lines().count(), said.err.as_str()), (2, ""), "{}", said.out);
    let said = say(&memory, &["members", household, "--json"]).await.json();
    assert_eq!((said["records"].as_array().unwrap().len(), &said["next"]), (2, &json!("02")));
    let said = say(&memory, &["households", household]).await;
    assert!(said.exit == Exit::Done && said.err.contains("none is known"), "{}", said.err);
    for bad in ["0", "xy", "ơơ", "+1"] {
        assert!(parse(&format!("members {household} --after {bad}")).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn a_relation_is_named_in_either_language() {
    let memory = Memory::default();
    let said = say(&memory, &["edit", "--create", "person", "relative[mẹ]=name=Lò Thị Ín", "--json"]).await;
    let id = said.json()["records"][0].as_str().unwrap().to_owned();
    say(&memory, &["edit", &id, "relative[mother]=name=Lò Thị Ín B"]).await;
    let changes = |at: usize| memory.register().applied[at].parts[0].changes[0].clone();
    assert_eq!((changes(0).element.as_str(), changes(1).element.as_str()), ("mother", "mother"));
    assert_eq!(changes(1).overwrites.len(), 1);
    let said = say(&memory, &["resolve", &id, "relative[mẹ]", "name=Lò Thị Ín", "--grounds", "Giấy khai sinh"]).await;
    assert_eq!(said.exit, Exit::Done, "{}", said.err);
    assert_eq!((changes(2).element.as_str(), changes(2).overwrites.len()), ("mother", 1));
}

#[tokio::test]
async fn a_stale_edit_says_what_moved_and_shows_no_value_that_was_not_read() {
    let memory = Memory::default();
    let said = say(&memory, &["edit", "--create", "person", "note=one", "--json"]).await;
    let id = said.json()["records"][0].as_str().unwrap().to_owned();
    // Between the reading and the writing a colleague was faster: what is read is a moment old.
    let client = memory.client(&["a"]);
    let read = client.get(&context(), id.parse().unwrap()).await.unwrap();
    say(&memory, &["edit", &id, "note=two"]).await;
    let mut late = crate::request::EditBuilder::new(&context());
    let part = late.change(&read);
    late.set(part, "note", "", "three");
    let error = client.edit(&client.session(), &late).await.unwrap_err();
    assert!(!format!("{error:?}").contains("two"), "{error:?}");
    for json in [false, true] {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit = Desk { out: &mut out, err: &mut err, json, lang: Lang::En }.fail(&Failure::Client(error.clone()));
        let err = String::from_utf8(err).unwrap();
        assert_eq!((exit, out), (Exit::Stale, Vec::new()));
        assert!(err.contains("has changed since it was read (note)") && !err.contains("two"), "{err}");
        assert!(err.contains(&id), "the next step names the record: {err}");
    }
}

#[tokio::test]
async fn an_unknown_outcome_names_the_request_and_the_request_finds_it() {
    let memory = Memory::default();
    memory.faults("a", vec![Fault::CutAfter; 500]);
    let words = ["edit", "--create", "person", "note=one", "--json"];
    let said = say_with(&memory.client(&["a"]), &words).await;
    assert_eq!(said.exit, Exit::Unknown, "{}", said.err);
    let error: Json = serde_json::from_str(&said.err).unwrap();
    let request = error["request"].as_str().unwrap();
    assert!(error["message"].as_str().unwrap().contains(&format!("--request {request}")), "{error}");
    memory.faults("a", []);
    let mut again = words.to_vec();
    again.extend(["--request", request]);
    let said = say_with(&memory.client(&["a"]), &again).await;
    assert_eq!(said.json()["replayed"], json!(true));
    assert_eq!(memory.register().applied.len(), 1);
}

#[tokio::test]
async fn a_conflict_is_decided_with_grounds() {
    let memory = Memory::default();
    let said = say(&memory, &["edit", "--create", "person", "birth_date=1975", "--json"]).await;
    let id = said.json()["records"][0].as_str().unwrap().to_owned();
    let said = say(&memory, &["resolve", &id, "birth_date", "1976", "--grounds", "Giấy khai sinh"]).await;
    assert_eq!(said.exit, Exit::Done, "{}", said.err);
    let decision = memory.register().applied[1].clone();
    assert!(decision.decision && decision.grounds == "Giấy khai sinh");
    assert_eq!(decision.parts[0].changes[0].overwrites.len(), 1);
    let said = say(&memory, &["resolve", &id, "sex", "male", "--grounds", "x"]).await;
    assert_eq!(said.exit, Exit::NotFound);
}

#[tokio::test]
async fn the_site_is_looked_at_and_looked_after() {
    let memory = Memory::default();
    let said = say(&memory, &["status"]).await;
    assert!(said.out.contains("Quận Ba Đình"), "{}", said.out);
    assert_eq!(say(&memory, &["status", "--json"]).await.json()["unit_name"], json!("Quận Ba Đình"));
    memory.register().sick = "the disk has answered no flush for 5 s".to_owned();
    let said = say(&memory, &["status"]).await;
    assert_eq!(said.exit, Exit::Unwell);
    assert!(said.out.starts_with("NOT WELL: n-0000000000000001: the disk has answered no flush"), "{}", said.out);
    let said = say(&memory, &["status", "--json"]).await;
    assert_eq!((said.exit, said.json()["healthy"].clone()), (Exit::Unwell, json!(false)));
    memory.register().sick.clear();
    assert_eq!(say(&memory, &["site", "raise-level", "2"]).await.out, "feature level 2\n");
    assert_eq!(say(&memory, &["site", "snapshot", "--json"]).await.json(), json!({ "groups": [] }));
    let said = say(&memory, &["access-log"]).await;
    assert_eq!(said.exit, Exit::Denied);
    assert_eq!(say(&memory, &["find"]).await.exit, Exit::Usage);
    memory.register().down.extend(["a".to_owned(), "b".to_owned()]);
    assert_eq!(say(&memory, &["status"]).await.exit, Exit::Unreachable);
}

#[tokio::test]
async fn a_status_of_many_pages_is_one_and_conflicts_say_how_to_go_on() {
    let memory = Memory::default();
    let shard = |number: u64| shard_status(ShardId(number), UnitId(number), "00001", &format!("Phường {number}"));
    memory.register().shards = (1..=7).map(shard).collect();
    for others in [0, 1, 2] {
        memory.register().other_nodes_answer = others;
        let said = say(&memory, &["status", "--json"]).await.json();
        let shards = said["groups"][0]["shards"].as_array().unwrap().clone();
        let ids: Vec<Json> = shards.iter().map(|shard| shard["shard"].clone()).collect();
        let expected: Vec<Json> = (1..=7).map(|number| json!(ShardId(number).to_string())).collect();
        assert_eq!(
            (ids, said["groups"].as_array().unwrap().len(), &said["nodes"][0]["present"]),
            (expected, 1, &json!(true))
        );
    }
    let rows = say(&memory, &["status"]).await.out;
    let edits = (7 * 12).to_string();
    assert!(rows.lines().nth(2).is_some_and(|row| row.split_whitespace().any(|word| word == edits)), "the sum: {rows}");

    let conflict = |since_ms| v1::Conflict { since_ms, field: "name".into(), ..v1::Conflict::default() };
    memory.register().conflicts = vec![conflict(1), conflict(2)];
    let said = say(&memory, &["conflicts"]).await;
    assert!(said.err.contains("go on with the same and --after 01"), "{}", said.err);
    let said = say(&memory, &["conflicts", "--after", "01", "--json"]).await;
    assert_eq!((&said.json()["conflicts"][0]["since_ms"], &said.json()["next"]), (&json!(2), &json!("")));
    assert!(!said.err.contains("--after"), "{}", said.err);
}

#[tokio::test]
async fn a_file_is_imported_once_whatever_breaks() {
    let (memory, scrap) = (Memory::default(), Scrap::new("once"));
    let people = scrap.0.join("people.ndjson").display().to_string();
    let top = parse(&format!("generate --persons 200 --units 00001@2025-06-30 -o {people}")).unwrap();
    let Verb::Generate(generate) = &top.verb else { panic!("generate") };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    export::generate(generate, &mut Desk { out: &mut out, err: &mut err, json: false, lang: Lang::En }).unwrap();
    // Without numbers nothing is looked up: after the units are asked for comes the stream that breaks.
    let text = std::fs::read_to_string(&people).unwrap();
    let (rows, mut unnumbered) = (text.lines().count(), String::new());
    for line in text.lines() {
        let mut object: Json = serde_json::from_str(line).unwrap();
        object["fields"].as_object_mut().unwrap().remove("personal_number");
        unnumbered.push_str(&format!("{object}\n"));
    }
    std::fs::write(&people, unnumbered).unwrap();

    let words = ["import", &people, "--shard", &SHARD.to_string(), "--json"];
    // The first attempt gets so far and no further.
    let mut faults = vec![Fault::Pass, Fault::CutStream(20)];
    faults.extend(vec![Fault::CutStream(0); 500]);
    memory.faults("a", faults);
    let said = say_with(&memory.client(&["a"]), &words).await;
    assert_eq!(said.exit, Exit::Unknown, "{}", said.err);
    let summary = said.json();
    assert!(summary["accepted"].as_u64().unwrap() > 0 && summary["unanswered"].as_u64().unwrap() > 0, "{summary}");

    memory.faults("a", []);
    let summary = say_with(&memory.client(&["a"]), &words).await.json();
    assert_eq!(summary["rows"], json!(rows));
    assert!(summary["already_there"].as_u64().unwrap() > 0 && summary["accepted"].as_u64().unwrap() > 0, "{summary}");
    let said = say_with(&memory.client(&["a"]), &words).await;
    assert_eq!((said.exit, said.json()["already_there"].clone()), (Exit::Done, json!(rows)));
    assert_eq!(memory.register().records.len(), rows);
    // References inside the file are those of the register.
    let register = memory.register();
    let heads = register.records.values().flat_map(|record| &record.fields).filter(|field| field.field == "head");
    assert!(heads.clone().count() > 0);
    assert!(heads.clone().all(|field| register.records.contains_key(&field.values[0].value)));
}

const TWO_HOUSEHOLDS: &str = r#"{"kind":"household","id":"@h1","fields":{"head":"@p1"}}
{"id":"@p1","fields":{"name":"Nguye\u0302\u0303n An","household":"@h1"}}
{"kind":"household","id":"@h2","fields":{"head":"@p2"}}
{"id":"@p2","fields":{"name":"Lê Bình","birth_date":"31/02/1975","household":"@h2"}}
{"id":"@p3","fields":{"name":"Lê Chi","note":"bad"}}
"#;

#[tokio::test]
async fn bad_rows_are_told_by_line_and_mended() {
    let (memory, scrap) = (Memory::default(), Scrap::new("bad"));
    memory.register().poison = Some("bad".into());
    let file = scrap.file("people.ndjson", TWO_HOUSEHOLDS);
    let said = say(&memory, &["import", &file, "--json"]).await;
    assert_eq!(said.exit, Exit::BadRows, "{}", said.err);
    let summary = said.json();
    assert_eq!([&summary["accepted"], &summary["refused"], &summary["bad"]], [&json!(2), &json!(1), &json!(2)]);
    let lines = |summary: &Json| -> Vec<u64> {
        summary["problems"].as_array().unwrap().iter().map(|problem| problem["line"].as_u64().unwrap()).collect()
    };
    assert_eq!(lines(&summary), [3, 4, 5]);
    let names: Vec<String> = memory.register().applied[1].parts[0].changes.iter().map(|c| c.value.clone()).collect();
    assert!(names.contains(&"Nguyễn An".to_owned()), "in normal form: {names:?}");

    let rejected = scrap.0.join("rejected.ndjson").display().to_string();
    let said = say(&memory, &["import", &file, "--rejected", &rejected]).await;
    assert!(said.err.contains("line 4: birth_date"), "{}", said.err);
    assert!(said.out.starts_with("5 rows: 0 accepted, 2 already there, 1 refused, 2 bad"), "{}", said.out);
    assert!(said.out.contains("already there: lines 1, 2\n") && said.out.contains(&rejected), "{}", said.out);
    let text = std::fs::read_to_string(&rejected).unwrap();
    assert!(text.lines().count() == 3 && text.contains("\"rejected\":\"refused:"), "{text}");

    // By itself, and then with all the others.
    let mended = scrap.file("mended.ndjson", &text.replace("31/02", "28/02").replace("\"bad\"", "\"good\""));
    let said = say(&memory, &["import", &mended]).await;
    assert!(said.out.starts_with("3 rows: 3 accepted, 0 already there, 0 refused, 0 bad"), "{}{}", said.out, said.err);
    let file = scrap.file("people.ndjson", &TWO_HOUSEHOLDS.replace("31/02", "28/02").replace("\"bad\"", "\"good\""));
    let said = say(&memory, &["import", &file]).await;
    assert!(said.out.starts_with("5 rows: 0 accepted, 5 already there, 0 refused, 0 bad"), "{}{}", said.out, said.err);
    assert_eq!(memory.register().records.len(), 5);
    assert_eq!(say(&memory, &["import", "/nowhere.ndjson"]).await.exit, Exit::Other);
    assert_eq!(say(&memory, &["import", &file, "--rejected", &file]).await.exit, Exit::Usage);
}

#[tokio::test]
async fn rejected_rows_never_take_the_place_of_what_is_read() {
    let (memory, scrap) = (Memory::default(), Scrap::new("place"));
    let table = "id,name,born\n1,Lê/Văn/An,31/02/1990\n";
    let (file, columns) =
        (scrap.file("people.csv", table), scrap.file("columns.csv", "column,field\nborn,birth_date\n"));
    let link = scrap.0.join("link.csv").display().to_string();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let same = format!("{}/./people.csv", scrap.0.display());
    let untouched = |said: &Said| {
        assert_eq!(said.exit, Exit::Usage, "{}{}", said.out, said.err);
        assert!(said.err.contains("--rejected names"), "{}", said.err);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), table);
    };
    for rejected in [&file, &same, &link, &columns] {
        untouched(&say(&memory, &["import", &file, "--columns", &columns, "--rejected", rejected]).await);
    }
    // Nor where it is written until it is whole.
    let part = scrap.file("rejected.csv.part", "id,name\n1,\n");
    let rejected = scrap.0.join("rejected.csv").display().to_string();
    untouched(&say(&memory, &["import", &part, "--rejected", &rejected]).await);
    assert_eq!(std::fs::read_to_string(&part).unwrap(), "id,name\n1,\n");
    assert!(memory.register().calls.is_empty(), "not even asked");
}

#[tokio::test]
async fn rejected_rows_are_written_under_a_name_of_their_form() {
    let (memory, scrap) = (Memory::default(), Scrap::new("form"));
    let table = scrap.file("people.csv", "id,name\n1,Lê/Văn/An\n2,\n");
    let lines = scrap.file("people.ndjson", TWO_HOUSEHOLDS);
    let path = |name: &str| scrap.0.join(name).display().to_string();
    for (file, name) in [(&table, "r.ndjson"), (&table, "r.xlsx"), (&table, "r.tsv"), (&lines, "r.csv")] {
        let said = say(&memory, &["import", file, "--rejected", &path(name)]).await;
        assert!(said.exit == Exit::Usage && said.err.contains("--rejected"), "{name}: {}", said.err);
        assert!(!scrap.0.join(name).exists());
    }
    assert_eq!(say(&memory, &["import", &table, "--rejected", "-"]).await.exit, Exit::Usage);
    assert!(memory.register().calls.is_empty(), "not even asked");
    for (file, name) in [(&table, "r.csv"), (&table, "r.txt"), (&table, "r"), (&lines, "r.ndjson")] {
        let said = say(&memory, &["import", file, "--rejected", &path(name)]).await;
        assert_eq!(said.exit, Exit::BadRows, "{name}: {}", said.err);
        assert!(scrap.0.join(name).exists(), "{name}");
    }
}

#[tokio::test]
async fn what_was_done_is_said_whatever_becomes_of_the_rejected_rows() {
    let (memory, scrap) = (Memory::default(), Scrap::new("full"));
    let file = scrap.file("people.csv", "id,name\n1,Lê/Văn/An\n2,\n");
    let absent = scrap.0.join("absent/r.csv").display().to_string();
    assert_eq!(say(&memory, &["import", &file, "--rejected", &absent]).await.exit, Exit::Other);
    assert!(memory.register().calls.is_empty(), "what cannot be written is found out before anything is asked");
    let said = say(&memory, &["import", &file, "--rejected", "/dev/full"]).await;
    assert_eq!(said.exit, Exit::Other);
    assert!(said.out.starts_with("2 rows: 1 accepted, 0 already there, 0 refused, 1 bad"), "{}", said.out);
    assert!(said.err.contains("/dev/full: No space left"), "{}", said.err);
    let said = say(&memory, &["import", &file, "--rejected", "/dev/full", "--json"]).await;
    assert_eq!((said.json()["already_there"].clone(), said.json()["rejected_file"].clone()), (json!(1), Json::Null));
}

#[tokio::test]
async fn rows_of_which_nothing_is_known_are_to_be_sent_again() {
    let (memory, scrap) = (Memory::default(), Scrap::new("unanswered"));
    let shard = SHARD.to_string();
    let file = scrap.file("people.csv", "id,name\n1,Lê/Văn/An\n");
    assert_eq!(say(&memory, &["import", &file, "--shard", &shard]).await.exit, Exit::Done);
    // Refused, but after a sending that may be under way.
    let file = scrap.file("people.csv", "id,name\n1,Lê/Văn/Anh\n");
    memory.faults("a", [Fault::CutStream(0)]);
    let said = say_with(&memory.client(&["a"]), &["import", &file, "--shard", &shard]).await;
    assert_eq!(said.exit, Exit::Unknown, "{}{}", said.out, said.err);
    assert!(
        said.out.starts_with("1 rows: 0 accepted, 0 already there, 0 refused, 0 bad, 1 not answered"),
        "{}",
        said.out
    );
}

#[test]
fn a_fault_of_certificates_is_said_once() {
    let fault = crate::tls::DialError::Misfit("the key does not match".to_owned());
    let error = Error::Unreachable { text: fault.to_string(), fault: Some(Box::new(fault)) };
    let text = import::go_on(error.into()).to_string();
    assert_eq!(text.matches("the key does not match").count(), 1, "{text}");
    assert!(text.contains("run the same import again"), "{text}");
}

#[tokio::test]
async fn nothing_is_sent_of_a_file_that_is_doubted_and_it_is_said_by_line() {
    let (memory, scrap) = (Memory::default(), Scrap::new("doubted"));
    let rows = "id,name,birth_date,note\n1,Lê/Thị/Hoa,1990-01-01,\"chưa rõ\n2,Vũ/Văn/Ba,1991-02-02,\n";
    let file = scrap.file("people.csv", rows);
    let said = say(&memory, &["import", &file]).await;
    assert_eq!(said.exit, Exit::Usage);
    assert!(said.err.contains("nothing was sent:\n  line 2: the quote"), "{}", said.err);
    let file = scrap.file("people.csv", "id,name,birthdate\n1,Lê/Thị/Hoa,1990\n2,Vũ/Văn/Ba,1991\n");
    let said = say(&memory, &["import", &file, "--json"]).await;
    let error: Json = serde_json::from_str(&said.err).unwrap();
    assert_eq!((said.exit, error["problems"][0]["line"].clone()), (Exit::Usage, json!(1)));
    assert!(error["message"].as_str().unwrap().contains("is it birth_date?"), "{error}");
    assert!(memory.register().calls.is_empty(), "not even asked");

    // The same with what the columns are.
    let columns = scrap.file("columns.csv", "column,field\nbirthdate,birth_date\n");
    let said = say(&memory, &["import", &file, "--columns", &columns]).await;
    assert!(said.out.starts_with("2 rows: 2 accepted"), "{}{}", said.out, said.err);
    let said = say(&memory, &["import", &file, "--ignore-column", "birthdate"]).await;
    assert_eq!(said.exit, Exit::BadRows, "the same persons, who say less now");
    assert!(said.err.contains("line 2: refused") && said.err.contains("--list"), "{}", said.err);
    assert_eq!(memory.register().records.len(), 2);
    let said = say(&memory, &["import", &file, "--ignore-column", "birthdate", "--list", "thôn 2"]).await;
    assert!(said.out.starts_with("2 rows: 2 accepted"), "{}{}", said.out, said.err);
}

#[tokio::test]
async fn a_check_says_what_an_import_would_and_asks_nobody() {
    let (memory, scrap) = (Memory::default(), Scrap::new("check"));
    let file = scrap.file("people.ndjson", TWO_HOUSEHOLDS);
    let said = say(&memory, &["import", &file, "--check"]).await;
    assert_eq!(said.exit, Exit::BadRows);
    assert!(said.out.starts_with("5 rows: 3 could be sent, 2 bad"), "{}", said.out);
    assert!(said.err.contains("line 4: birth_date") && said.err.contains("2 persons have neither"), "{}", said.err);
    let file = scrap.file("people.csv", "id;Họ, chữ đệm và tên khai sinh;home\n1;Lê/Văn/An;00001@2025-06-30\n");
    let said = say(&memory, &["import", &file, "--check", "--json"]).await;
    assert_eq!((said.exit, said.json()["columns"].clone()), (Exit::Done, json!(["id", "name", "home"])));
    let file = scrap.file("people.csv", "id,name\n1,\"Lê/Văn/An\n");
    assert_eq!(say(&memory, &["import", &file, "--check"]).await.exit, Exit::Usage);
    assert!(memory.register().calls.is_empty());
}

#[tokio::test]
async fn a_personal_number_that_another_record_has_is_told_before_anything_is_sent() {
    let (memory, scrap) = (Memory::default(), Scrap::new("number"));
    let words = ["edit", "--create", "person", "name=Lê/Văn/An", "personal_number=001090000001", "--json"];
    let known = say(&memory, &words).await.json()["records"][0].as_str().unwrap().to_owned();
    let file = scrap.file(
        "people.csv",
        "kind,id,name,personal_number,household,head\nperson,1,Vũ/Văn/Ba,001090000001,,\nperson,2,Vũ/Văn/Tư,001090000002,,\n\
         household,3,,,,@1\nperson,4,Vũ/Văn/Năm,,@3,\n",
    );
    let said = say(&memory, &["import", &file]).await;
    assert_eq!(said.exit, Exit::BadRows);
    assert!(said.err.contains(&format!("line 2: its personal number is that of {known}")), "{}", said.err);
    assert!(said.err.contains("line 4: refers to line 2"), "{}", said.err);
    assert!(said.out.starts_with("4 rows: 1 accepted, 0 already there, 0 refused, 3 bad"), "{}", said.out);
    let said = say(&memory, &["import", &file, "--allow-known-numbers", "--json"]).await;
    assert_eq!(said.exit, Exit::Done, "{}", said.err);
    assert_eq!((said.json()["accepted"].clone(), said.json()["warnings"][0]["line"].clone()), (json!(3), json!(2)));
    assert_eq!(said.json()["warnings_unlisted"], json!(0));
    // From now on the rows are there, whoever else has their number.
    let said = say(&memory, &["import", &file]).await;
    assert!(said.out.starts_with("4 rows: 0 accepted, 4 already there"), "{}{}", said.out, said.err);
}

#[tokio::test]
async fn a_known_number_may_be_taken_of_an_extract_too_but_no_record_that_is_here() {
    let (memory, scrap) = (Memory::default(), Scrap::new("extract-number"));
    let words = ["edit", "--create", "person", "name=Lê/Văn/An", "personal_number=001090000001", "--json"];
    let known = say(&memory, &words).await.json()["records"][0].as_str().unwrap().to_owned();
    let row = |id: &str| {
        format!(r#"{{"id":"@{id}","fields":{{"name":"Lê/Văn/An","personal_number":"001090000001"}}}}"#) + "\n"
    };
    let file = scrap.file("people.ndjson", &row("r-0000000000000000000000000000000a"));
    let said = say(&memory, &["import", &file]).await;
    assert!(said.exit == Exit::BadRows && said.err.contains("--allow-known-numbers"), "{}", said.err);
    let said = say(&memory, &["import", &file, "--allow-known-numbers", "--json"]).await;
    assert_eq!((said.exit, said.json()["accepted"].clone()), (Exit::Done, json!(1)), "{}{}", said.out, said.err);
    assert_eq!(said.json()["warnings"][0]["line"], json!(1));
    let file = scrap.file("people.ndjson", &row(&known));
    let said = say(&memory, &["import", &file, "--allow-known-numbers"]).await;
    assert!(said.exit == Exit::BadRows && said.err.contains("which is here"), "{}", said.err);
}

#[tokio::test]
async fn an_interrupted_import_says_what_was_done_and_goes_on() {
    let (memory, scrap) = (Memory::default(), Scrap::new("interrupted"));
    let rows: String = (1..=500).map(|id| format!("{id},Lê/Văn/An\n")).collect();
    let file = scrap.file("people.csv", &format!("id,name\n{rows}"));
    let Verb::Import(import) = parse(&format!("import {file}")).unwrap().verb else { panic!("import") };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut desk = Desk { out: &mut out, err: &mut err, json: true, lang: Lang::En };
    let has_begun = memory.clone();
    let interrupted = std::future::poll_fn(|_| match has_begun.register().applied.len() {
        0..20 => std::task::Poll::Pending,
        _ => std::task::Poll::Ready(()),
    });
    let exit = import::run(import, &memory.client(&["a"]), &context(), &mut desk, interrupted).await.unwrap();
    assert_eq!(exit, Exit::Interrupted);
    let summary: Json = serde_json::from_slice(&out).unwrap();
    let [accepted, unanswered] = ["accepted", "unanswered"].map(|key| summary[key].as_u64().unwrap());
    assert!(accepted < 500 && accepted + unanswered == 500 && summary["interrupted"] == json!(true), "{summary}");
    let said = say(&memory, &["import", &file]).await;
    assert_eq!((said.exit, memory.register().records.len()), (Exit::Done, 500), "{}", said.err);
}

#[tokio::test]
async fn rows_go_to_the_shard_of_their_home() {
    let (memory, scrap) = (Memory::default(), Scrap::new("home"));
    let unit = Directory::vietnam().unwrap().unit("00001", BEFORE_REFORM).unwrap();
    memory.register().shards = vec![shard_status(ShardId(7), unit, "00001", "Phường Phúc Xá")];
    let file = scrap
        .file("people.csv", "name;home\nLê Chi;00001@2025-06-30\nLê Dung;00004@2025-06-30\nLê Em;\nLê Gia;somewhere\n");
    let said = say(&memory, &["import", &file, "--json"]).await;
    let summary = said.json();
    assert_eq!([&summary["accepted"], &summary["bad"]], [&json!(2), &json!(2)], "{summary}");
    let shards: Vec<String> = memory.register().applied.iter().map(|edit| edit.shard.clone()).collect();
    assert_eq!(shards, [ShardId(7).to_string(), SHARD.to_string()]);
    let said = say(&memory, &["import", &file, "--unit", "00001", "--json"]).await;
    assert_eq!((said.exit, said.json()["already_there"].clone()), (Exit::Done, json!(1)), "{}", said.err);
    assert!(memory.register().applied[2..].iter().all(|edit| edit.shard == ShardId(7).to_string()));
    assert_eq!(say(&memory, &["import", &file, "--unit", "00004"]).await.exit, Exit::NotFound);
}

#[tokio::test]
async fn an_extract_can_be_imported_elsewhere() {
    let (memory, elsewhere, scrap) = (Memory::default(), Memory::default(), Scrap::new("extract"));
    let file = scrap.file("people.ndjson", &TWO_HOUSEHOLDS.replace("31/02", "28/02"));
    assert_eq!(say(&memory, &["import", &file]).await.exit, Exit::Done);
    let extract = scrap.0.join("extract.ndjson").display().to_string();
    let said = say(&memory, &["export", "--output", &extract]).await;
    assert!(said.err.contains("5 records") && said.err.contains("watch --from 6"), "{}", said.err);
    assert_eq!(say(&memory, &["export", "-o", "-"]).await.out, std::fs::read_to_string(&extract).unwrap());
    let said = say(&memory, &["import", &extract]).await;
    assert!(said.out.starts_with("5 rows: 0 accepted, 0 already there, 0 refused, 5 bad"), "{}{}", said.out, said.err);
    assert!(said.err.contains("which is here"), "{}", said.err);
    let table = scrap.0.join("extract.csv").display().to_string();
    assert_eq!(say(&memory, &["export", "-o", &table]).await.exit, Exit::Done);
    assert!(std::fs::read_to_string(&table).unwrap().starts_with("\u{feff}kind,id,home,name,"));
    assert_eq!(say(&memory, &["export", "-o", &format!("{table}.xlsx")]).await.exit, Exit::Usage);
    let said = say(&elsewhere, &["import", &table]).await;
    assert!(said.out.starts_with("5 rows: 5 accepted"), "{}{}", said.out, said.err);
    let said = say(&elsewhere, &["import", &extract]).await;
    assert!(said.out.starts_with("5 rows: 0 accepted, 5 already there"), "{}{}", said.out, said.err);
    let register = elsewhere.register();
    let linked = register.records.values().flat_map(|record| &record.fields).filter(|field| field.field == "household");
    assert!(
        linked.clone().count() == 2
            && linked.clone().all(|field| register.records.contains_key(&field.values[0].value))
    );
}

#[tokio::test]
async fn a_watch_writes_a_line_for_each_edit() {
    let memory = Memory::default();
    for _ in 0..3 {
        say(&memory, &["edit", "--create", "person", "note=x"]).await;
    }
    let said = say(&memory, &["watch", "--from", "1", "--count", "3", "--json"]).await;
    let positions: Vec<_> = said
        .out
        .lines()
        .map(|line| serde_json::from_str::<Json>(line).unwrap()["position"].as_u64().unwrap())
        .collect();
    assert_eq!(positions, [1, 2, 3]);
}
