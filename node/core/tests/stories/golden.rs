//! Scripts that a person can read, compared byte for byte: encodings as vectors for other implementations, and what
//! records, registry and sessions do, event by event. After an intended change, write them anew with
//! `DINHBA_GOLDEN=write cargo test -p dinhba-core golden` and read the difference.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use crate::memory::{Office, SHARD, command, create_command, request, seal, value};
use crdts::CmRDT;
use dinhba_core::command::{Answer, Command, Cursor, EditCommand, Renew};
use dinhba_core::edit::{Change, Dot, Edit, EditKind, commitment};
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{AuthorId, Incarnation, KeyMark, RecordId, SiteId};
use dinhba_core::record::{Record, Write, are_disputed};
use dinhba_core::registry::{alias_id, authors};
use dinhba_core::schema::{FieldId, RecordKind, field};
use dinhba_core::sync::{Ack, Ask, Batch, Effect, Event, Message, Moved, Session, Skip};

/// Compares with the file, or writes it.
#[expect(clippy::disallowed_methods, reason = "a test reads its own files")]
pub fn compare(name: &str, text: &str) {
    let path = format!("{}/tests/golden/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var("DINHBA_GOLDEN").is_ok_and(|word| word == "write") {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    for (line, (ours, theirs)) in text.lines().zip(golden.lines()).enumerate() {
        assert_eq!(ours, theirs, "{name}.txt, line {}", line + 1);
    }
    assert_eq!(text.lines().count(), golden.lines().count(), "{name}.txt ends elsewhere");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Names for what would be long numbers, in the order in which they are met.
#[derive(Default)]
struct Names(BTreeMap<AuthorId, String>);

impl Names {
    fn author(&mut self, id: AuthorId) -> String {
        let next = char::from(b'A' + self.0.len() as u8).to_string();
        self.0.entry(id).or_insert(next).clone()
    }

    fn dot(&mut self, dot: &Dot) -> String {
        format!("{}{}", self.author(dot.actor), dot.counter)
    }

    fn heads(&mut self, heads: &dinhba_core::command::Heads) -> String {
        let mut heads: Vec<String> = heads
            .iter()
            .map(|(author, (number, hash))| format!("{}{number}={}", self.author(*author), &hex(&hash.0)[..8]))
            .collect();
        heads.sort();
        format!("{{{}}}", heads.join(" "))
    }

    fn record(&mut self, record: &Record) -> String {
        let mut text = String::new();
        for ((field, _), values) in record.fields() {
            let values: Vec<String> = values
                .iter()
                .map(|tagged| format!("{:?}@{}", String::from_utf8_lossy(&tagged.value), self.dot(&tagged.dot)))
                .collect();
            let _ = write!(text, " {}: {}", field.0, values.join(" | "));
        }
        text
    }

    fn cursor(cursor: &Cursor) -> String {
        format!("{}+{}", &hex(&cursor.epoch)[..4], cursor.position)
    }

    fn batch(&mut self, batch: &Batch) -> String {
        let items: Vec<String> = batch.items.iter().map(|item| self.dot(&item.dot)).collect();
        let (start, end) = (Self::cursor(&batch.start), Self::cursor(&batch.end));
        format!("batch {start}..{end} [{}] {} secrets", items.join(" "), batch.secrets.len())
    }

    fn message(&mut self, message: &Message) -> String {
        match message {
            Message::Hello(hello) => {
                let shard = &hello.shards[0];
                let cursor = shard.cursor.as_ref().map_or("none".to_owned(), Self::cursor);
                format!("hello stream {} heads {} cursor {cursor}", &hex(&shard.epoch)[..4], self.heads(&shard.heads))
            }
            Message::Greet(shards) => format!("greets about {} shards", shards.len()),
            Message::Batch(batch) => self.batch(batch),
            Message::Ack(ack) => format!("ack {}", Self::cursor(&ack.cursor)),
            Message::Again(again) => format!("again {}", self.heads(&again.heads)),
            Message::Ask(ask) => format!("ask {} {}..={}", self.author(ask.author), ask.from, ask.to),
            Message::Hashes(hashes) => {
                let list: Vec<String> = hashes.hashes.iter().map(|hash| hex(&hash.0)[..8].to_owned()).collect();
                format!("hashes {} from {} [{}]", self.author(hashes.author), hashes.from, list.join(" "))
            }
            Message::Statements(statements) => {
                let said: Vec<String> = statements
                    .iter()
                    .map(|said| format!("statement of {} {}", said.body.site.0, self.heads(&said.body.heads)))
                    .collect();
                said.join("; ")
            }
        }
    }
}

#[test]
fn vectors() {
    let mut text =
        String::from("# Vectors of the canonical encoding, in hex; EDIT.md and LINK.md say how to read them.\n");
    let mut say = |what: &str, bytes: &[u8]| {
        let _ = writeln!(text, "{what}\n  {}", hex(bytes));
    };
    for number in [0, 127, 128, 300, u64::MAX] {
        say(&format!("number {number}"), &number.to_bytes());
    }
    for number in [0, -1, 1, i64::MIN] {
        say(&format!("signed {number}"), &number.to_bytes());
    }
    say("text Hòa", &"Hòa".to_owned().to_bytes());
    say("optional byte 5", &Some(5_u8).to_bytes());
    say("no byte", &None::<u8>.to_bytes());
    say("map 1: a, 2: b", &BTreeMap::from([(1_u64, "a".to_owned()), (2, "b".to_owned())]).to_bytes());

    let mut office = Office::new(1);
    let mut family = create_command(request(9, 1), "Lê/Thị/Hòa");
    let mut second = family.parts[0].clone();
    second.record = RecordId::derive(request(9, 1), 1);
    family.parts.push(second);
    office.run(Command::Edit(Box::new(EditCommand { secret: [0x5e; 32], ..family })));
    let state = office.shard();
    let batch = office.batch(Cursor::start(state.epoch), 0, &Skip::default(), usize::MAX).0;
    say("author: site 1, shard 77, an incarnation", &state.own.to_bytes());
    say("its id", &state.own.id().0);
    let session = request(9, 1).session.0;
    say(&format!("record of part 1 of request {} 1", hex(&session)), &RecordId::derive(request(9, 1), 1).0);
    for (index, item) in batch.items.iter().enumerate() {
        let edit = Edit::from_bytes(&item.bytes).unwrap();
        say(&format!("edit {}", index + 1), &item.bytes);
        for (place, change) in edit.changes.iter().enumerate() {
            say("  its change", &change.to_bytes());
            say("  its commitment, with secret 32 x 5e", &commitment(&edit.salt(&[0x5e; 32], place as u32), change));
        }
        say("  its hash", &edit.hash(&[0x5e; 32]).0);
    }
    let hash = Edit::from_bytes(&batch.items[1].bytes).unwrap().hash(&[0x5e; 32]);
    say("the alias of this author for the second", &alias_id(state.own.id(), &hash).0);
    say("a batch of both", &batch.to_bytes());
    say("message: batch", &Message::Batch(Box::new(batch.clone())).to_bytes());
    say("message: ack", &Message::Ack(Ack { shard: SHARD, cursor: batch.end }).to_bytes());
    say("message: ask", &Message::Ask(Ask { shard: SHARD, author: state.own.id(), from: 1, to: 2 }).to_bytes());
    let mut speaker = Session::new(SiteId(2), false, BTreeSet::from([SHARD]));
    let Effect::Send(hello) = speaker.handle(&office.here(), Event::Opened).unwrap().remove(0) else { panic!() };
    say("message: hello", &hello.to_bytes());
    compare("vectors", &text);
}

#[test]
fn record() {
    let mut text = String::from("# One field, two authors: what is current after each write.\n");
    let mut names = Names::default();
    let mut record = Record::new(RecordKind::Person);
    let dot = |author: u8, counter| Dot { actor: AuthorId([author; 16]), counter };
    let script: [(&str, Dot, &str, &[Dot]); 6] = [
        ("first", dot(1, 1), "An", &[]),
        ("concurrent", dot(2, 1), "Ân", &[]),
        ("over the second only", dot(2, 2), "Ấn", &[dot(2, 1)]),
        ("over one that is not here yet", dot(2, 3), "Bình", &[dot(1, 2), dot(2, 2)]),
        ("the one that was missing: it is replaced already", dot(1, 2), "Am", &[dot(1, 1)]),
        ("a decision over all", dot(1, 3), "An", &[dot(2, 3)]),
    ];
    for (story, dot, value, overwrites) in script {
        let change = Change {
            field: FieldId(1),
            element: Vec::new(),
            value: value.as_bytes().to_vec(),
            overwrites: overwrites.to_vec(),
        };
        let over: Vec<String> = overwrites.iter().map(|dot| names.dot(dot)).collect();
        let _ = writeln!(text, "{story}: {} writes {value:?} over [{}]", names.dot(&dot), over.join(" "));
        record.apply(Write { dot, received_ms: 1, changes: vec![change] });
        let disputed = if are_disputed(record.values(&(FieldId(1), Vec::new()))) { ", disputed" } else { "" };
        let _ = writeln!(text, "  ={}{disputed}", names.record(&record));
        let _ = writeln!(text, "  {}", hex(&record.to_bytes()));
    }
    compare("record", &text);
}

#[test]
fn registry() {
    let mut text = String::from("# Commands of one office, and what is answered.\n");
    let mut names = Names::default();
    let mut office = Office::new(1);
    let mut peer = Office::new(2);
    names.author(office.shard().own.id());
    let person = RecordId::derive(request(1, 1), 0);
    let edit = |counter, field, text: &str, overwrites: Vec<Dot>| {
        let change = Change { field, element: Vec::new(), value: value(field, text), overwrites };
        Command::Edit(Box::new(command(request(1, counter), EditKind::Change, person, false, vec![change])))
    };
    peer.create(request(2, 1), "Lê//Bình");
    let state = peer.shard();
    let batch = peer.batch(Cursor::start(state.epoch), 0, &Skip::default(), usize::MAX).0;
    let seen = vec![Dot { actor: office.shard().own.id(), counter: 1 }];
    let merge = |batch: Batch| Command::Merge(Box::new(batch.into_command(SiteId(2), 3, |_| Some(KeyMark(1)))));
    let mut late = batch.clone();
    late.start = Cursor { position: 7, ..late.end };
    let script = [
        ("create a person", Command::Edit(Box::new(create_command(request(1, 1), "Lê//An")))),
        ("the same request again", Command::Edit(Box::new(create_command(request(1, 1), "Lê//An")))),
        ("another request under its name", Command::Edit(Box::new(create_command(request(1, 1), "Lê//Khác")))),
        ("change the name that was seen", edit(2, field::NAME, "Lê//Ân", seen.clone())),
        ("change the name that was seen before that", edit(3, field::NAME, "Lê//Ấn", seen)),
        ("an edit of a record that is not here", {
            let change = Change { field: field::NOTE, element: vec![], value: b"x".to_vec(), overwrites: vec![] };
            let there = RecordId([7; 16]);
            Command::Edit(Box::new(command(request(1, 4), EditKind::Change, there, false, vec![change])))
        }),
        ("a batch of a neighbour", merge(batch.clone())),
        ("the same batch: a beginning may come again", merge(batch)),
        ("a batch from where the cursor does not stand", merge(late)),
    ];
    for (story, command) in script {
        let answer = match office.run(command) {
            Answer::Accepted(accepted) => {
                let replayed = if accepted.replayed { ", told before" } else { "" };
                let (first, hash) = (names.dot(&accepted.receipt.first), hex(&accepted.receipt.hash.0));
                format!("accepted {first}, hash {}{replayed}", &hash[..16])
            }
            Answer::Stale(stale) => {
                let moved = stale.fields.iter().map(|moved| {
                    let dots: Vec<String> = moved.dots.iter().map(|dot| names.dot(dot)).collect();
                    format!("{} {}", moved.key.0, dots.join(" "))
                });
                format!("stale: {}", moved.collect::<Vec<_>>().join(", "))
            }
            Answer::Refused(refusal) => format!("refused ({}): {}", refusal.code.name(), refusal.text),
            Answer::Merged(merged) => {
                let cursor = merged.cursor.as_ref().map_or("none".to_owned(), Names::cursor);
                let (taken, folded, known) = (merged.taken, merged.folded, merged.known);
                format!("merged: taken {taken}, folded {folded}, known {known}, cursor {cursor}")
            }
            other => format!("{other:?}"),
        };
        let shard = office.shard();
        let _ = writeln!(text, "{story}\n  {answer}");
        let _ = writeln!(
            text,
            "  {} edits {}, {} persons, {} conflicts, records {}",
            shard.arrivals,
            &hex(&shard.edits_digest.0)[..16],
            shard.persons,
            shard.conflicts,
            &hex(&shard.state_digest.0)[..16],
        );
    }
    compare("registry", &text);
}

/// Two sessions, message by message, until nothing more is said.
struct Transcript {
    text: String,
    names: Names,
    offices: [Office; 2],
    sessions: [Session; 2],
    wires: [VecDeque<Message>; 2],
}

const WHO: [&str; 2] = ["child ", "parent"];

impl Transcript {
    fn new(child: Office, parent: Office) -> Self {
        let sessions = Self::sessions(&child, &parent);
        let mut names = Names::default();
        for office in [&child, &parent] {
            names.author(office.shard().own.id());
        }
        let text = String::from("# What two sites say and do; A is the child as an author, B the parent.\n");
        Transcript { text, names, offices: [child, parent], sessions, wires: Default::default() }
    }

    fn sessions(child: &Office, parent: &Office) -> [Session; 2] {
        let shards = BTreeSet::from([SHARD]);
        [Session::new(parent.site, false, shards.clone()), Session::new(child.site, true, shards)]
    }

    fn title(&mut self, title: &str) {
        let _ = writeln!(self.text, "\n## {title}");
    }

    fn event(&mut self, end: usize, what: &str, event: Event) {
        let _ = writeln!(self.text, "{} <- {what}", WHO[end]);
        for effect in self.sessions[end].handle(&self.offices[end].here(), event).unwrap() {
            match effect {
                Effect::Send(message) => {
                    let _ = writeln!(self.text, "{}    says {}", WHO[end], self.names.message(&message));
                    self.wires[end].push_back(message);
                }
                Effect::Edits { mut batch, own } => {
                    seal(&mut batch, own);
                    let message = Message::Batch(batch);
                    let _ = writeln!(self.text, "{}    says {}", WHO[end], self.names.message(&message));
                    self.wires[end].push_back(message);
                }
                Effect::Merge(batch) => {
                    let peer = self.offices[1 - end].site;
                    let merged = self.offices[end].merge(peer, batch, 5);
                    let (taken, folded, known) = (merged.taken, merged.folded, merged.known);
                    let _ =
                        writeln!(self.text, "{}    merges: taken {taken}, folded {folded}, known {known}", WHO[end]);
                    self.event(end, "merged", Event::Merged(merged));
                    self.event(end, "advanced", Event::Advanced(Moved::Any));
                }
                Effect::Renew { author, .. } => {
                    let _ = writeln!(self.text, "{}    renews {}", WHO[end], self.names.author(author));
                    let office = &mut self.offices[end];
                    let (incarnation, epoch) = (Incarnation(office.random()), office.random());
                    let renew = Renew { shard: SHARD, author, incarnation, epoch };
                    office.run(Command::Renew(renew));
                    return self.connect("the link is opened anew");
                }
                Effect::State { own, .. } => {
                    let said: Vec<String> = own.iter().map(|body| self.names.heads(&body.heads)).collect();
                    let _ = writeln!(self.text, "{}    states {}", WHO[end], said.join("; "));
                }
                other => {
                    let _ = writeln!(self.text, "{}    {other:?}", WHO[end]);
                }
            }
        }
    }

    fn connect(&mut self, title: &str) {
        self.title(title);
        self.sessions = Self::sessions(&self.offices[0], &self.offices[1]);
        self.wires = Default::default();
        self.event(0, "opened", Event::Opened);
        self.event(1, "opened", Event::Opened);
    }

    fn run(&mut self) {
        while let Some(end) = (0..2).find(|end| !self.wires[*end].is_empty()) {
            let message = self.wires[end].pop_front().unwrap();
            let what = self.names.message(&message);
            self.event(1 - end, &what, Event::Received(message));
        }
    }

    fn finish(mut self, name: &str) {
        let heads = [0, 1].map(|end| self.offices[end].here().heads(SHARD).unwrap());
        assert_eq!(heads[0], heads[1]);
        assert_eq!(self.offices[0].shard().state_digest, self.offices[1].shard().state_digest);
        let _ = writeln!(self.text, "\nboth hold {}", self.names.heads(&heads[0]));
        compare(name, &self.text);
    }
}

#[test]
fn session_in_step() {
    let (mut child, mut parent) = (Office::new(1), Office::new(2));
    let record = child.create(request(1, 1), "Lê//An");
    parent.create(request(2, 1), "Lê//Bình");
    let mut transcript = Transcript::new(child, parent);
    transcript.connect("first contact");
    transcript.run();
    transcript.title("an edit in steady state");
    transcript.offices[0].set(request(1, 2), record, field::NOTE, "x");
    transcript.event(0, "advanced", Event::Advanced(Moved::Any));
    transcript.run();
    transcript.title("time passes");
    transcript.event(0, "tick", Event::Tick(1_000));
    transcript.event(1, "tick", Event::Tick(1_000));
    transcript.run();
    transcript.offices[0].set(request(1, 3), record, field::NOTE, "y");
    transcript.connect("after a cut, with one unsent edit: one round trip");
    transcript.run();
    transcript.finish("session_in_step");
}

#[test]
fn session_after_a_restore() {
    let (mut child, parent) = (Office::new(1), Office::new(2));
    let record = child.create(request(1, 1), "Lê//An");
    let mut backup = child.clone();
    backup.skip_chance(100);
    child.set(request(1, 2), record, field::NOTE, "first life");
    child.set(request(1, 3), record, field::SEX, "male");
    let mut transcript = Transcript::new(child, parent);
    transcript.connect("before the restore");
    transcript.run();
    backup.set(request(1, 4), record, field::NOTE, "second life");
    transcript.offices[0] = backup;
    transcript.connect("the child came back from a backup and made an edit before anyone noticed");
    transcript.run();
    let parked = transcript.offices.iter().flat_map(|office| authors(&office.state, office.keys(), SHARD).unwrap());
    assert!(parked.into_iter().all(|(_, state)| state.parked.is_none()));
    transcript.finish("session_after_a_restore");
}
