//! What people and machines send by mistake: each is refused with an error that says what to do, nothing changes, and the
//! node goes on serving.

use std::fs;
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use dinhba_client::Error;
use dinhba_client::tls::{TlsDialer, named, node_name};
use dinhba_client::transport::{Dial, Line, Transport};
use dinhba_core::claims::Role;
use dinhba_core::ids::{NodeId, UnitId};
use dinhba_node::config::{Place, Tls};
use dinhba_node::datadir::FORMAT;
use dinhba_proto::v1;
use dinhba_proto::v1::records_client::RecordsClient;
use dinhba_tests::country::{Country, NodePlan, operating, site};
use dinhba_tests::evidence::shard_status;
use dinhba_tests::officer::{Ledger, Officer};
use dinhba_tests::process::refusal;
use futures::StreamExt;
use serde_json::Value as Json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tonic::Code;
use tonic_types::StatusExt;
use tower::{Service, ServiceExt};

use crate::PROGRAM;

const COMMUNE: &str = "02683";
const NEIGHBOUR: &str = "02686";
const REFUSAL_WAIT: Duration = Duration::from_secs(10);

async fn dial(country: &Country, node: &NodePlan, role: Role, unit: &str) -> Transport {
    let dialer = TlsDialer::new(&country.credentials(role, unit));
    dialer.dial(named(&node_name(node.id), &node.address())).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_bad_request_is_refused_with_what_to_do_and_changes_nothing() {
    let country = Country::start(PROGRAM, &[site(COMMUNE, 1, None, &[COMMUNE])]).await;
    let (shard, ledger, node) = (country.shard(COMMUNE), Ledger::default(), country.node(COMMUNE, 0));
    let officer = Officer::new(country.site_client(COMMUNE, Role::Registrar, COMMUNE), shard, &ledger);
    let record = officer.register("Chảo/Thị/Mẩy").await.unwrap();
    let before = shard_status(&country, COMMUNE, &node, shard).await.unwrap();

    let good = || {
        let edit = officer.birth("Chảo/Láo/Tả");
        edit.build(officer.client.session().next(), 0)
    };
    let with = |field: &str, value: &str| {
        let mut edit = good();
        let change = v1::FieldChange { field: field.into(), value: value.into(), ..v1::FieldChange::default() };
        edit.parts[0].changes.retain(|change| change.field != field);
        edit.parts[0].changes.push(change);
        edit
    };
    let context = |purpose: &str, case: &str| {
        let context = Some(v1::Context { purpose: purpose.into(), case: case.into() });
        v1::EditRequest { context, ..good() }
    };
    let mut unread = with("note", "x");
    unread.parts[0].record = record.to_string();
    unread.parts[0].changes.retain(|change| change.field == "birth_date");
    let elsewhere = v1::EditRequest { shard: country.shard(NEIGHBOUR).to_string(), ..good() };
    let unnamed = v1::EditRequest { request: None, ..good() };
    let empty = v1::EditRequest { parts: Vec::new(), ..good() };
    let undecided = v1::EditRequest { decision: true, ..good() };
    #[rustfmt::skip]
    let cases: Vec<(&str, v1::EditRequest, Code, &[&str])> = vec![
        ("no context", v1::EditRequest { context: None, ..good() }, Code::InvalidArgument, &["purpose"]),
        ("no purpose", context("", "HS-1"), Code::InvalidArgument, &["purpose"]),
        ("no case", context("registration", ""), Code::InvalidArgument, &["case"]),
        ("unknown purpose", context("curiosity", "HS-1"), Code::InvalidArgument, &["purpose", "registration"]),
        ("no request id", unnamed, Code::InvalidArgument, &["request"]),
        ("no parts", empty, Code::InvalidArgument, &[]),
        ("unknown field", with("shoe_size", "42"), Code::InvalidArgument, &["shoe_size", "schema"]),
        ("unknown unit", with("permanent_residence", "unit=99999@2024-01-01"), Code::InvalidArgument, &["permanent_residence"]),
        ("impossible date", with("birth_date", "2024-02-30"), Code::InvalidArgument, &["birth_date"]),
        ("a birth to come", with("birth_date", "2199"), Code::InvalidArgument, &["birth_date", "today"]),
        ("a death to come", with("death_date", "01/01/2190"), Code::InvalidArgument, &["death_date", "today"]),
        ("letters of two scripts", with("other_name", "Аn"), Code::InvalidArgument, &["other_name", "one script"]),
        ("a case with what is not seen", context("registration", "HS\u{200b}1"), Code::InvalidArgument, &["case", "invisible"]),
        ("not a code", with("sex", "x"), Code::InvalidArgument, &["sex"]),
        ("too long", with("note", &"a".repeat(1_001)), Code::InvalidArgument, &["note", "1000"]),
        ("almost half a megabyte", with("note", &"a".repeat(500_000)), Code::InvalidArgument, &["note", "at most"]),
        ("ten megabytes", with("note", &"a".repeat(10 << 20)), Code::InvalidArgument, &["524288", "split"]),
        ("not NFC", with("note", "Ho\u{61}\u{300}"), Code::InvalidArgument, &["note", "NFC"]),
        ("a control character", with("note", "a\u{7}b"), Code::InvalidArgument, &["note"]),
        ("another area's shard", elsewhere, Code::NotFound, &["shard", "ask"]),
        ("a decision without grounds", undecided, Code::InvalidArgument, &["grounds"]),
        ("an edit that has not seen the value", unread, Code::Aborted, &["birth_date"]),
    ];
    let mut client = RecordsClient::new(Line(dial(&country, &node, Role::Registrar, COMMUNE).await))
        .max_encoding_message_size(64 << 20);
    let mut wrong = Vec::new();
    for (what, request, code, words) in cases {
        match client.edit(request).await {
            Ok(accepted) => wrong.push(format!("{what}: accepted: {accepted:?}")),
            Err(status) => {
                let text = status.message();
                if status.code() != code || !words.iter().all(|word| text.contains(word)) {
                    wrong.push(format!("{what}: wanted {code:?} with {words:?}, got {:?}: {text}", status.code()));
                }
                if text.contains("aaaa") || text.contains("2024-02-30") {
                    wrong.push(format!("{what}: a value of a record is in the message"));
                }
            }
        }
    }
    // A registrar of the neighbouring commune, for a record that is not theirs.
    let mut neighbour = RecordsClient::new(Line(dial(&country, &node, Role::Registrar, NEIGHBOUR).await));
    let denied = neighbour.edit(good()).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied, "{denied:?}");

    // All that is wrong with an edit is told at once, by field, as any client reads it.
    let change = |field: &str, element: &str, value: &str| v1::FieldChange {
        field: field.into(),
        element: element.into(),
        value: value.into(),
        overwrites: Vec::new(),
    };
    let mut many = good();
    many.context = Some(v1::Context { purpose: "curiosity".into(), case: "HS-1".into() });
    many.parts[0].valid_from = "yesterday".into();
    many.parts[0].changes = vec![
        change("birth_date", "", "2024-02-30"),
        change("sex", "", "x"),
        change("note", "", "one"),
        change("note", "", "two"),
        change("relative", "father", "name=A"),
        change("relative", "mother", "unit=nowhere"),
    ];
    many.parts.push(v1::Part { kind: "building".into(), ..v1::Part::default() });
    let status = client.edit(many).await.unwrap_err();
    let told = status.get_error_details();
    let fields: Vec<&str> =
        told.bad_request().unwrap().field_violations.iter().map(|problem| problem.field.as_str()).collect();
    let expected = [
        "context.purpose",
        "parts[0].valid_from",
        "parts[0].changes[birth_date]",
        "parts[0].changes[sex]",
        "parts[0].changes[relative#2]",
        "parts[1].kind",
        "parts[0].changes[note]",
    ];
    assert_eq!((status.code(), fields.as_slice()), (Code::InvalidArgument, &expected[..]), "{status:?}");
    assert_eq!(told.error_info().map(|info| info.reason.as_str()), Some("INVALID"));

    // However much is wrong or has moved on, the answer is one that a client can read.
    let mut hopeless = good();
    let wrong_part = v1::Part {
        kind: "person".into(),
        changes: (0..60).map(|at| change(&format!("ổ_khóa_{at}_{}", "ặ".repeat(40)), "", "x")).collect(),
        ..v1::Part::default()
    };
    hopeless.parts = vec![wrong_part; 60];
    let status = client.edit(hopeless).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(status.message().starts_with("3600 things are wrong"), "{}", status.message());
    let mut wide = good();
    wide.parts[0].record = record.to_string();
    let ghosts = vec![v1::Dot { author: vec![9; 16], number: 1 }];
    let key = |at: usize| format!("child-{at}-{}", "x".repeat(30));
    wide.parts[0].changes = (0..500)
        .map(|at| v1::FieldChange { overwrites: ghosts.clone(), ..change("relative", &key(at), "name=A") })
        .collect();
    let status = client.edit(wide).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted, "{status:?}");
    assert_eq!(status.get_error_details().error_info().map(|info| info.reason.as_str()), Some("STALE"));

    // Editing is no way to look: what is told of a stale edit holds no value, and is not in the access log since it shows none.
    let Err(Error::Stale(stale)) = officer
        .client
        .edit(&officer.client.session(), &{
            let mut edit = dinhba_client::EditBuilder::new(&officer.context);
            let empty = v1::Record {
                id: record.to_string(),
                kind: "person".into(),
                shard: shard.to_string(),
                ..v1::Record::default()
            };
            let part = edit.change(&empty);
            edit.set(part, "name", "", "A/Thị/B").set(part, "birth_date", "", "1990");
            edit
        })
        .await
    else {
        panic!("an edit that has seen nothing is stale");
    };
    let moved: Vec<(&str, usize)> = stale.fields.iter().map(|one| (one.field.as_str(), one.dots.len())).collect();
    assert_eq!((stale.record.as_str(), moved), (&*record.to_string(), vec![("name", 1), ("birth_date", 1)]));

    // Bytes that are no message.
    for body in ["\0\0\0\0\u{4}\u{7f}\u{7f}\u{7f}\u{7f}", "\0\0\0\0\u{9}abc", "garbage"] {
        let request = http::Request::post("https://node/dinhba.v1.Records/Edit")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(tonic::body::Body::new(body.to_owned()))
            .unwrap();
        let mut transport = dial(&country, &node, Role::Registrar, COMMUNE).await;
        let reply = transport.ready().await.unwrap().call(request).await.unwrap();
        let status = tonic::Status::from_header_map(reply.headers()).map(|status| status.code());
        // An internal error would leave it open whether something was accepted.
        if status != Some(Code::InvalidArgument) {
            wrong.push(format!("malformed bytes {body:?}: answered {status:?}"));
        }
    }
    // Garbage on the port, and connections that say nothing.
    let mut silent = Vec::new();
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], b"\x16\x03\x01\xff\xff\x01", b""] {
        let mut stream = TcpStream::connect(node.address()).await.unwrap();
        let _ = stream.write_all(garbage).await;
        if garbage.is_empty() {
            silent.push(stream);
        } else {
            let mut said = Vec::new();
            let _ = tokio::time::timeout(Duration::from_secs(1), stream.read_to_end(&mut said)).await;
        }
    }
    assert_eq!(wrong, Vec::<String>::new());

    // A feed does not wait for what may never come.
    for from in [3, 1 << 60] {
        let watched = officer.client.watch(&officer.context, Some(shard), from).take(1).collect::<Vec<_>>();
        let watched = tokio::time::timeout(Duration::from_secs(10), watched).await.expect("it says so");
        let Err(Error::Refused { code: Code::OutOfRange, text, .. }) = &watched[0] else { panic!("{watched:?}") };
        assert!(text.contains("position 2"), "{text}");
    }
    let next = officer.client.watch(&officer.context, Some(shard), 2).take(1).collect::<Vec<_>>();
    assert!(tokio::time::timeout(Duration::from_secs(1), next).await.is_err(), "the next one is waited for");

    // A mistyped node is not spent, and the last voter does not go.
    let operator = country.site_client(COMMUNE, Role::Operator, COMMUNE);
    let code = |answer: Result<v1::MembersReply, Error>| match answer {
        Err(Error::Refused { code, .. }) => code,
        other => panic!("{other:?}"),
    };
    let nobody = NodeId(7);
    assert_eq!(code(operator.promote_node(&operating(), nobody).await), Code::NotFound);
    assert_eq!(code(operator.remove_node(&operating(), nobody).await), Code::NotFound);
    assert_eq!(code(operator.remove_node(&operating(), node.id).await), Code::FailedPrecondition);
    let nodes = operator.status(&operating()).await.unwrap().nodes;
    assert_eq!(nodes.iter().map(|node| node.present).collect::<Vec<_>>(), [true], "{nodes:?}");

    let after = shard_status(&country, COMMUNE, &node, shard).await.unwrap();
    assert_eq!((before.heads, before.state_digest), (after.heads, after.state_digest), "nothing changed");
    client.edit(good()).await.unwrap();
    officer.write(record, "note", "", "still serving").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_with_a_message_that_cannot_be_read_answers_all_that_came_before() {
    let country = Country::start(PROGRAM, &[site(COMMUNE, 1, None, &[COMMUNE])]).await;
    let (shard, ledger, node) = (country.shard(COMMUNE), Ledger::default(), country.node(COMMUNE, 0));
    let officer = Officer::new(country.site_client(COMMUNE, Role::Registrar, COMMUNE), shard, &ledger);
    let session = officer.client.session();
    let good = || officer.birth("Chảo/Láo/Tả").build(session.next(), 0);
    let mut huge = good();
    huge.parts[0].changes[0].value = "a".repeat(1 << 20);
    // The caller's side stays open, as that of an application which has more to send.
    let (sender, edits) = futures::channel::mpsc::unbounded();
    (0..100).map(|_| good()).chain([huge, good()]).for_each(|edit| sender.unbounded_send(edit).unwrap());
    let mut client = RecordsClient::new(Line(dial(&country, &node, Role::Registrar, COMMUNE).await))
        .max_encoding_message_size(64 << 20);
    let replies = client.edit_many(edits).await.unwrap().into_inner().collect::<Vec<_>>();
    let mut replies = tokio::time::timeout(Duration::from_secs(20), replies).await.expect("it ends");
    let status = replies.pop().unwrap().unwrap_err();
    assert_eq!(status.get_error_details().error_info().map(|info| info.reason.as_str()), Some("INVALID"), "{status:?}");
    assert_eq!(replies.len(), 100);
    for reply in replies {
        let outcome = reply.unwrap().outcome;
        assert!(matches!(outcome, Some(v1::edit_many_reply::Outcome::Accepted(_))), "{outcome:?}");
    }
    let status = shard_status(&country, COMMUNE, &node, shard).await.unwrap();
    assert_eq!(status.persons, 100, "and no other was accepted");
    drop(sender);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_set_up_wrongly_says_what_to_do_and_leaves_the_data_alone() {
    let mut country = Country::start(PROGRAM, &[site(COMMUNE, 1, None, &[COMMUNE])]).await;
    let (shard, ledger, node) = (country.shard(COMMUNE), Ledger::default(), country.node(COMMUNE, 0));
    let officer = Officer::new(country.site_client(COMMUNE, Role::Registrar, COMMUNE), shard, &ledger);
    officer.register("Chảo/Thị/Mẩy").await.unwrap();

    let trial = |change: &dyn Fn(&mut NodePlan)| {
        let mut trial = node.clone();
        trial.dir = country.dir().join("trial");
        fs::create_dir_all(&trial.dir).unwrap();
        change(&mut trial);
        trial.write();
        refusal(country.program(), &trial.config_file(), REFUSAL_WAIT)
    };
    let free = |trial: &mut NodePlan| {
        // Another port than that of the running node: here it is the data directory that matters.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        trial.config.node.listen = format!("127.0.0.1:{port}").parse().unwrap();
    };
    let mut wrong = Vec::new();
    let mut expect = |what: &str, (code, text): (Option<i32>, String), words: &[&str]| {
        if code != Some(1) || !words.iter().all(|word| text.contains(word)) || text.contains("panicked") {
            wrong.push(format!("{what}: exit code {code:?}, wanted {words:?}: {text}"));
        }
    };
    expect("port in use", trial(&|_| {}), &["cannot listen at", &node.address(), "choose another address"]);
    expect(
        "directory in use",
        trial(&free),
        &["in use by a running process", &country.process(node.id).id().to_string()],
    );
    let (ended, took) = country.terminate(node.id);
    assert!(ended.is_some_and(|status| status.success()), "ended with {ended:?} after {took:?}");

    let mut other = country.new_node(COMMUNE);
    other.config.node.data_dir = node.data();
    other.write();
    let other_id = other.id.to_string();
    let other = refusal(country.program(), &other.config_file(), REFUSAL_WAIT);
    expect("another node's directory", other, &["belongs to node", &node.id.to_string(), &other_id, "node.id"]);

    let trial = |change: &dyn Fn(&mut NodePlan)| {
        let mut trial = node.clone();
        trial.dir = country.dir().join("trial");
        change(&mut trial);
        trial.write();
        refusal(country.program(), &trial.config_file(), REFUSAL_WAIT)
    };
    let engine = trial(&|trial| trial.config.storage.engine = dinhba_node::config::Engine::Sled);
    expect("another engine", engine, &["belongs to engine", "storage.engine"]);
    let [ca, certificate, key] = country.identity(Role::Registrar, COMMUNE);
    let foreign = trial(&|trial| {
        let Tls::Mutual { key: own, .. } = &mut trial.config.tls else { unreachable!("stories use TLS") };
        own.clone_from(&key);
    });
    expect("a key that does not fit the certificate", foreign, &["key"]);
    let person = trial(&|trial| {
        trial.config.tls = Tls::Mutual { ca: ca.clone(), certificate: certificate.clone(), key: key.clone() };
    });
    expect("a person's certificate", person, &["certificate"]);
    let absent = trial(&|trial| trial.config.site.signing_key = "/nowhere/key".into());
    expect("no signing key", absent, &["site.signing_key", "/nowhere/key"]);
    let absent = trial(&|trial| trial.config.site.secrets = "/nowhere/secrets".into());
    expect("no secrets", absent, &["site.secrets", "/nowhere/secrets"]);
    let unit = trial(&|trial| trial.config.site.unit = UnitId(7));
    expect("a unit that does not exist", unit, &["site.unit", "u-0000000000000007", "dinhba units"]);
    let unfounded = trial(&|trial| {
        trial.config.node.data_dir = trial.dir.join("new");
        trial.config.place = Some(Place { file: "/nowhere/place.csv".into() });
    });
    expect("a new site without a place file", unfounded, &["place.file", "/nowhere/place.csv"]);
    let no_directory = trial(&|trial| trial.config.node.data_dir = trial.config_file());
    expect("a file for a directory", no_directory, &["node.data_dir"]);

    let identity = node.data().join("identity");
    let written = fs::read_to_string(&identity).unwrap();
    for (format, words) in [(FORMAT + 1, "newer program"), (FORMAT - 1, "export its records")] {
        let other = written.replace(&format!("format = {FORMAT}"), &format!("format = {format}"));
        assert_ne!(other, written);
        fs::write(&identity, other).unwrap();
        expect("another format", trial(&|_| {}), &[&format!("has format {format}"), words]);
    }
    fs::write(&identity, written.replace("node", "mode")).unwrap();
    expect("a damaged identity", trial(&|_| {}), &["identity", "damaged", "backup"]);
    fs::write(&identity, &written).unwrap();

    let text = fs::read_to_string(node.config_file()).unwrap();
    let broken = country.dir().join("broken.toml");
    for (what, from, to, words) in [
        ("an unknown key", "[raft]", "[raft]\nspeed = 9", &["raft.speed", "line"][..]),
        ("a bad value", "heartbeat_ms = 250", "heartbeat_ms = 0", &["raft.heartbeat_ms", "line", "10 to 10000"][..]),
        ("a bad id", "s-", "t-", &["node.site", "line"][..]),
    ] {
        assert!(text.contains(from), "{from}");
        fs::write(&broken, text.replacen(from, to, 1)).unwrap();
        expect(what, refusal(country.program(), &broken, REFUSAL_WAIT), words);
    }
    assert_eq!(wrong, Vec::<String>::new());

    country.start_node(&node);
    country.site_ready(COMMUNE).await;
    officer.register("Chảo/Láo/Lở").await.unwrap();
    assert_eq!(shard_status(&country, COMMUNE, &node, shard).await.unwrap().edits, 2);
}

/// What `dinhba import` said to a file that it read from its standard input.
struct Imported {
    code: Option<i32>,
    told: Json,
    err: String,
}

impl Imported {
    fn counts(&self) -> [u64; 5] {
        ["accepted", "already_there", "refused", "bad", "unanswered"]
            .map(|key| self.told[key].as_u64().unwrap_or(u64::MAX))
    }
}

fn import_command(country: &Country, options: &[&str]) -> Command {
    let [ca, certificate, key] = country.identity(Role::Registrar, COMMUNE);
    let node = country.node(COMMUNE, 0);
    let mut command = Command::new(PROGRAM);
    command.args(["import", "-", "--json", "--purpose", "registration", "--case", "HS-9", "--node"]);
    command.arg(format!("{}.node.dinhba@{}", node.id, node.address()));
    command.arg("--ca").arg(ca).arg("--cert").arg(certificate).arg("--key").arg(key).args(options);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn import(country: &Country, file: &[u8], options: &[&str]) -> Imported {
    let mut child = import_command(country, options).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Who refuses the file may have ended by then.
    let _ = stdin.write_all(file).await;
    drop(stdin);
    let ended = child.wait_with_output().await.unwrap();
    Imported {
        code: ended.status.code(),
        told: serde_json::from_slice(&ended.stdout).unwrap_or_default(),
        err: String::from_utf8(ended.stderr).unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_in_a_file_is_registered_once_or_named_as_not() {
    let country = Country::start(PROGRAM, &[site(COMMUNE, 1, None, &[COMMUNE])]).await;
    let (shard, ledger, node) = (country.shard(COMMUNE), Ledger::default(), country.node(COMMUNE, 0));
    const ROWS: &str = "id,name,birth_date,note\n1,Lê/Thị/Hoa,1990-01-01,chưa rõ\n2,Vũ/Văn/Ba,1991-02-02,\n";
    let mut wrong = Vec::new();
    for (what, file, line) in [
        ("a quote without an end", ROWS.replace("chưa rõ", "\"chưa rõ"), 2),
        ("an unknown column", ROWS.replace("birth_date", "birthdate"), 1),
        ("a row that is cut", ROWS.replace("1991-02-02,", "1991-02-02"), 3),
        ("a file that is cut", ROWS[..ROWS.len() - 1].to_owned(), 3),
        ("lone carriage returns", ROWS.replace('\n', "\r"), 1),
        ("a broken object", "{\"id\"\n{\"fields\":{\"name\":\"An\"}}\n".to_owned(), 1),
    ] {
        let said = import(&country, file.as_bytes(), &[]).await;
        let error: Json = serde_json::from_str(&said.err).unwrap_or_default();
        if (said.code, &error["problems"][0]["line"]) != (Some(2), &Json::from(line)) {
            wrong.push(format!("{what}: exit code {:?}, wanted line {line}: {}", said.code, said.err));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(shard_status(&country, COMMUNE, &node, shard).await.unwrap().edits, 0, "nothing was taken");

    let said = import(&country, ROWS.as_bytes(), &[]).await;
    assert_eq!((said.code, said.counts()), (Some(0), [2, 0, 0, 0, 0]), "{}", said.err);
    let crlf = format!("\u{feff}{}", ROWS.replace('\n', "\r\n").replace(',', ";"));
    let said = import(&country, crlf.as_bytes(), &[]).await;
    assert_eq!((said.code, said.counts()), (Some(0), [0, 2, 0, 0, 0]), "{}", said.err);
    let inserted = ROWS.replace("1,Lê", "0,Bùi/Văn/Không,1989,\n1,Lê").replace("1991-02-02", "1991-02-03");
    let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain(inserted.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    let said = import(&country, &utf16, &[]).await;
    assert_eq!((said.code, said.counts()), (Some(8), [1, 1, 1, 0, 0]), "{}", said.err);
    assert_eq!(said.told["problems"][0]["line"], 4, "{}", said.told);

    // Interrupted, and the same again.
    let many: String = (0..20_000).map(|id| format!("x{id},Lê/Văn/An,1990,\n")).collect();
    let many = format!("id,name,birth_date,note\n{many}");
    let mut child = import_command(&country, &["--quiet"]).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(many.as_bytes()).await.unwrap();
    drop(stdin);
    while shard_status(&country, COMMUNE, &node, shard).await.unwrap().edits < 100 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let id = rustix::process::Pid::from_raw(child.id().unwrap() as i32).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    let ended = child.wait_with_output().await.unwrap();
    let told: Json = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!((ended.status.code(), &told["interrupted"]), (Some(130), &Json::from(true)), "{told}");
    assert!(told["unanswered"].as_u64().unwrap() > 0, "{told}");
    let said = import(&country, many.as_bytes(), &[]).await;
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(said.counts()[0] + said.counts()[1], 20_000, "{}", said.told);
    assert_eq!(shard_status(&country, COMMUNE, &node, shard).await.unwrap().edits, 20_003);

    // Whoever sends a request again with other content is told that it is not there.
    let officer = Officer::new(country.site_client(COMMUNE, Role::Registrar, COMMUNE), shard, &ledger);
    let request = officer.client.session().next();
    let birth = officer.birth("Chảo/Láo/Tả");
    officer.client.edit_as(request, &birth).await.unwrap();
    assert!(officer.client.edit_as(request, &birth).await.unwrap().replayed);
    let other = officer.client.edit_as(request, &officer.birth("Chảo/Láo/Lở")).await;
    assert!(matches!(other, Err(Error::Refused { code: Code::AlreadyExists, .. })), "{other:?}");
}
