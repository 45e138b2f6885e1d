//! What an officer does in a day: each event as a line of a script, and what becomes of the records. The script is
//! `tests/data/events.txt`; what it comes to is compared line by line with `tests/golden/events.txt`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use dinhba_core::claims::Role;
use dinhba_core::command::{Answer, Command, FileCommand};
use dinhba_core::date::{Date, InstantMs};
use dinhba_core::edit::Dot;
use dinhba_core::event::{Event, Form};
use dinhba_core::filing::{Problem, Typed, TypedSubject};
use dinhba_core::ids::{RecordId, RequestId, SiteId, UnitId};
use dinhba_core::level::LEVEL_MAX;
use dinhba_core::record::Record;
use dinhba_core::registry::read_range;
use dinhba_core::schema::{FieldId, display};
use dinhba_core::sync::Skip;
use dinhba_core::units::NoUnits;

use crate::golden::compare;
use crate::memory::{Office, PATH, SHARD, accepted, claims, command, refusal, request, value};

const TODAY: Date = match Date::new(2026, 6, 15) {
    Ok(day) => day,
    Err(_) => panic!("a day"),
};

/// All that a reader of a record is shown.
fn seen(record: &Record) -> Vec<Dot> {
    let dots: BTreeSet<Dot> = record.fields().flat_map(|(_, values)| values).map(|tagged| tagged.dot.clone()).collect();
    dots.into_iter().collect()
}

fn file(office: &mut Office, request: RequestId, typed: &Typed) -> Result<Answer, Vec<Problem>> {
    let filed = typed.read(LEVEL_MAX, TODAY, &NoUnits)?;
    let mut origin =
        command(request, dinhba_core::edit::EditKind::Change, RecordId::default(), false, Vec::new()).origin;
    origin.received_ms = office.now_ms;
    let command = FileCommand { shard: SHARD, origin, secret: [request.session.0[0]; 32], filed, blocks: Vec::new() };
    Ok(office.run(Command::File(Box::new(command))))
}

/// A script's world: an office, and the records by the names that the script gives them.
struct Desk {
    office: Office,
    names: BTreeMap<String, RecordId>,
    next: u64,
}

impl Desk {
    fn new() -> Self {
        let mut office = Office::new(1);
        office.now_ms = InstantMs::start_of(TODAY).0;
        Desk { office, names: BTreeMap::new(), next: 0 }
    }

    fn is_there(&self, record: RecordId) -> bool {
        let key = self.office.keys().record(SHARD, record);
        self.office.state.0.contains_key(&key)
    }

    /// `birth | child:name=Lê An | mother=@lan | grounds=… -> @an`
    fn typed(&self, line: &str) -> Typed {
        let mut words = line.split(" | ");
        let event = words.next().unwrap_or_default().trim().to_owned();
        let form = Event::named(&event).and_then(Event::form);
        let mut typed = Typed { event, ..Typed::default() };
        for role in form.iter().flat_map(|form| form.roles).filter(|role| role.is_new) {
            typed.subjects.push(TypedSubject { role: role.name.to_owned(), ..TypedSubject::default() });
        }
        for word in words {
            let (name, text) = word.trim().split_once('=').expect(word);
            let is_role = form.is_some_and(|form| form.role(name).is_some());
            match name.split_once([':', '!', '#']) {
                _ if name == "grounds" => typed.grounds = text.to_owned(),
                _ if is_role => {
                    let record = *self.names.get(text).expect(text);
                    let seen = if self.is_there(record) { seen(&self.office.record(record)) } else { Vec::new() };
                    let role = name.to_owned();
                    typed.subjects.push(TypedSubject { role, record: Some(record), seen, ..TypedSubject::default() });
                }
                Some((role, input)) => {
                    let subject = typed.subjects.iter_mut().rev().find(|subject| subject.role == role).expect(word);
                    if name.contains('!') {
                        let (field, element) = input.split_once('[').unwrap_or((input, ""));
                        let element = element.trim_end_matches(']').to_owned();
                        subject.corrections.push((field.to_owned(), element, text.to_owned()));
                    } else if name.contains('#') {
                        subject.element = text.to_owned();
                    } else {
                        subject.inputs.push((input.to_owned(), self.named(text)));
                    }
                }
                None => typed.inputs.push((name.to_owned(), self.named(text))),
            }
        }
        typed
    }

    /// A text in which the script's names of records are their ids.
    fn named(&self, text: &str) -> String {
        let longest_first = self.names.iter().rev();
        longest_first.fold(text.to_owned(), |text, (name, id)| text.replace(name, &id.to_string()))
    }

    fn told(&self, text: &str) -> String {
        self.names.iter().fold(text.to_owned(), |text, (name, id)| text.replace(&id.to_string(), name))
    }

    fn run(&mut self, line: &str, out: &mut String) {
        let (line, names) = line.split_once(" -> ").unwrap_or((line, ""));
        self.next += 1;
        let request = request(7, self.next);
        let typed = self.typed(line);
        let _ = writeln!(out, "\n{line}{}{names}", if names.is_empty() { "" } else { " -> " });
        let answer = match file(&mut self.office, request, &typed) {
            Ok(answer) => answer,
            Err(problems) => {
                for Problem { path, text, is_early } in problems {
                    let early = if is_early { " (early)" } else { "" };
                    let _ = writeln!(out, "  wrong{early}: {path}: {}", self.told(&text));
                }
                return;
            }
        };
        for (at, name) in names.split(' ').filter(|name| !name.is_empty()).enumerate() {
            self.names.insert(name.to_owned(), RecordId::derive(request, at as u32));
        }
        match answer {
            Answer::Accepted(accepted) => {
                let (first, count) = (accepted.receipt.first.counter, u64::from(accepted.receipt.count));
                for number in first..first + count {
                    self.show(number, out);
                }
            }
            Answer::Refused(refusal) => {
                let _ = writeln!(out, "  refused as {}: {}", refusal.code.name(), self.told(&refusal.text));
            }
            Answer::Stale(stale) => {
                let fields: Vec<String> = stale.fields.iter().map(|moved| moved.key.0.to_string()).collect();
                let _ = writeln!(out, "  stale: {} of {}", fields.join(", "), self.told(&stale.record.to_string()));
            }
            other => panic!("{other:?}"),
        }
    }

    /// What an edit put into its record.
    fn show(&self, number: u64, out: &mut String) {
        let actor = self.office.shard().own.id();
        let key = self.office.keys().edit(SHARD, &Dot { actor, counter: number });
        let stored: dinhba_core::registry::StoredEdit =
            dinhba_core::registry::read(&self.office.state, &key).unwrap().unwrap();
        let edit = <dinhba_core::edit::Edit as dinhba_core::encoding::Wire>::from_bytes(&stored.bytes).unwrap();
        let header = &edit.header;
        let name = self.told(&header.record.to_string());
        let date = dinhba_core::date::PartialDate::from_bytes(&header.valid_from).map(|date| format!(" from {date}"));
        let _ = writeln!(out, "  {} {name}{}", header.event, date.unwrap_or_default());
        for change in &edit.changes {
            let element = String::from_utf8_lossy(&change.element);
            let element = if element.is_empty() { String::new() } else { format!("[{element}]") };
            let text = match change.field {
                dinhba_core::edit::GROUNDS => String::from_utf8_lossy(&change.value).into_owned(),
                field => self.told(&display(field, &change.value, &NoUnits)),
            };
            let field = if change.field == dinhba_core::edit::GROUNDS {
                "grounds".to_owned()
            } else {
                change.field.to_string()
            };
            let mark = if change.overwrites.is_empty() { "+" } else { "~" };
            let _ = writeln!(out, "    {mark} {field}{element} = {text}");
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test reads its own files")]
fn an_officers_day_is_what_the_script_says() {
    let path = format!("{}/tests/data/events.txt", env!("CARGO_MANIFEST_DIR"));
    let script = std::fs::read_to_string(path).unwrap();
    let (mut desk, mut out) = (Desk::new(), String::new());
    let mut filed = BTreeSet::new();
    for line in script.lines() {
        match line.trim() {
            "" => {}
            comment if comment.starts_with("# ") => {
                let _ = writeln!(out, "\n{comment}");
            }
            line => {
                let before = out.len();
                desk.run(line, &mut out);
                if out[before..].contains("\n    ") {
                    filed.insert(line.split(' ').next().unwrap_or_default().to_owned());
                }
            }
        }
    }
    compare("events", &out);
    for form in Form::ALL {
        assert!(filed.contains(form.event.name()), "the script files no {}", form.event);
    }
}

fn birth(name: &str) -> Typed {
    let inputs = [("name", name), ("sex", "nữ"), ("birth-date", "2026-06-01")];
    let inputs = inputs.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec();
    Typed {
        event: "birth".to_owned(),
        subjects: vec![TypedSubject { role: "child".to_owned(), inputs, ..TypedSubject::default() }],
        ..Typed::default()
    }
}

fn death(office: &Office, record: RecordId) -> Typed {
    let seen = seen(&office.record(record));
    let subject = TypedSubject { role: "deceased".to_owned(), record: Some(record), seen, ..TypedSubject::default() };
    let inputs = vec![("date".to_owned(), "2026-06-10".to_owned())];
    Typed { event: "death".to_owned(), subjects: vec![subject], inputs, grounds: String::new() }
}

#[test]
fn an_event_that_is_filed_again_is_the_same_though_the_records_moved_on() {
    let mut office = Office::new(1);
    let first = accepted(file(&mut office, request(3, 1), &birth("Lê Thị An")).unwrap());
    assert!(!first.replayed);
    let child = RecordId::derive(request(3, 1), 0);
    let died = death(&office, child);
    accepted(file(&mut office, request(3, 2), &died).unwrap());
    // What the officer saw is another thing by now, and does not count.
    for (request, typed) in [(request(3, 1), birth("Lê Thị An")), (request(3, 2), death(&office, child))] {
        assert!(accepted(file(&mut office, request, &typed).unwrap()).replayed);
    }
    let (_, text) = refusal(file(&mut office, request(3, 1), &birth("Lê Thị Ân")).unwrap());
    assert!(text.contains("with other content"), "{text}");
    // An edit does not pass for the event, nor an event for the edit.
    let (_, text) = refusal(office.edit(crate::memory::create_command(request(3, 1), "Lê Thị An")));
    assert!(text.contains("with other content"), "{text}");
    office.create(request(3, 9), "Trần Văn Bình");
    let (_, text) = refusal(file(&mut office, request(3, 9), &birth("Trần Văn Bình")).unwrap());
    assert!(text.contains("with other content"), "{text}");
}

#[test]
fn nothing_that_the_officer_did_not_see_is_replaced() {
    let mut office = Office::new(1);
    accepted(file(&mut office, request(3, 1), &birth("Lê Thị An")).unwrap());
    let child = RecordId::derive(request(3, 1), 0);
    let sex = dinhba_core::schema::field::SEX;
    let change = |office: &Office, text: &str| {
        let record = office.record(child);
        let subject = TypedSubject {
            role: "person".to_owned(),
            record: Some(child),
            seen: seen(&record),
            inputs: vec![("sex".to_owned(), text.to_owned())],
            ..TypedSubject::default()
        };
        let (event, grounds) = ("sex-change".to_owned(), "Quyết định 12/QĐ-UBND".to_owned());
        Typed { event, subjects: vec![subject], inputs: Vec::new(), grounds }
    };
    let typed = change(&office, "nam");
    // A colleague is faster.
    accepted(office.set(request(4, 1), child, sex, "nam"));
    let Answer::Stale(stale) = file(&mut office, request(3, 2), &typed).unwrap() else { panic!("it is not stale") };
    assert_eq!(stale.fields[0].key.0, sex);
    // Who saw nothing replaces nothing; what nobody wrote needs not to be seen.
    let blind = TypedSubject { role: "person".to_owned(), record: Some(child), ..TypedSubject::default() };
    let inputs = vec![("unit".to_owned(), PATH[3].to_string())];
    let blind = Typed { event: "dwelling".to_owned(), subjects: vec![blind], inputs, ..Typed::default() };
    accepted(file(&mut office, request(3, 3), &blind).unwrap());
    let mut blind = death(&office, child);
    blind.subjects[0].seen.clear();
    assert!(
        !matches!(file(&mut office, request(3, 5), &blind).unwrap(), Answer::Accepted(_)),
        "a birth date is looked at"
    );
    let mut blind = change(&office, "nữ");
    blind.subjects[0].seen.clear();
    assert!(!matches!(file(&mut office, request(3, 4), &blind).unwrap(), Answer::Accepted(_)));
}

#[test]
fn an_event_decides_no_dispute() {
    let (mut one, mut two) = (Office::new(1), Office::new(2));
    let child = one.create(request(3, 1), "Lê Thị An");
    let batch = one.stream();
    two.merge(SiteId(1), batch, 5);
    let name = dinhba_core::schema::field::NAME;
    accepted(one.set(request(3, 2), child, name, "Lê Thị Ân"));
    accepted(two.set(request(4, 1), child, name, "Lê Thị Ẩn"));
    let start =
        dinhba_core::registry::read::<dinhba_core::command::Cursor>(&two.state, &two.keys().cursor(SHARD, SiteId(1)))
            .unwrap()
            .unwrap();
    let batch = one.batch(start, start.position, &Skip::default(), usize::MAX).0;
    two.merge(SiteId(1), batch, 6);
    let subject = TypedSubject {
        role: "person".to_owned(),
        record: Some(child),
        seen: seen(&two.record(child)),
        inputs: vec![("name".to_owned(), "Lê Thị An".to_owned())],
        ..TypedSubject::default()
    };
    let (event, grounds) = ("name-change".to_owned(), "Quyết định 12/QĐ-UBND".to_owned());
    let typed = Typed { event, subjects: vec![subject], inputs: Vec::new(), grounds };
    let (_, text) = refusal(file(&mut two, request(4, 2), &typed).unwrap());
    assert!(text.contains("name is in dispute"), "{text}");
    // A death is registered all the same, and leaves the dispute to whoever decides it.
    let died = death(&two, child);
    accepted(file(&mut two, request(4, 3), &died).unwrap());
}

#[test]
fn who_may_not_edit_files_nothing() {
    let mut office = Office::new(1);
    let filed = birth("Lê Thị An").read(LEVEL_MAX, TODAY, &NoUnits).unwrap();
    for (role, unit) in [(Role::Auditor, PATH[3]), (Role::Operator, PATH[3]), (Role::Registrar, UnitId(99))] {
        let mut origin =
            command(request(3, 1), dinhba_core::edit::EditKind::Change, RecordId::default(), false, Vec::new()).origin;
        origin.claims = claims(role, unit);
        let command = FileCommand { shard: SHARD, origin, secret: [3; 32], filed: filed.clone(), blocks: Vec::new() };
        let (code, _) = refusal(office.run(Command::File(Box::new(command))));
        assert_eq!(code, dinhba_core::command::RefusalCode::Denied);
    }
    assert!(read_range::<Record>(&office.state, office.keys().records(SHARD)).unwrap().is_empty());
}

#[test]
fn the_parts_of_an_event_are_one_edit_that_says_what_it_was() {
    let mut desk = Desk::new();
    let mut out = String::new();
    desk.run("birth | child:name=Lê An | child:sex=nam | child:birth-date=1990 -> @an", &mut out);
    desk.run("birth | child:name=Hồ Na | child:sex=nữ | child:birth-date=1991 -> @na", &mut out);
    desk.run("marriage | spouse=@an | spouse=@na | date=2020-05-01", &mut out);
    let record = desk.office.record(desk.names["@an"]);
    let status = record.shown(&(dinhba_core::schema::field::MARITAL_STATUS, Vec::new())).unwrap();
    assert_eq!(status.value, value(dinhba_core::schema::field::MARITAL_STATUS, "married; since=2020-05-01"));
    let named = |field: FieldId, element: &str| record.shown(&(field, element.as_bytes().to_vec())).is_some();
    assert!(named(dinhba_core::schema::field::RELATIVE, "spouse"), "{out}");
}

#[test]
fn a_record_is_read_as_it_was_in_law_and_as_it_was_known() {
    use dinhba_core::date::InstantMs;
    use dinhba_core::registry::{AsOf, Past, as_of};
    use dinhba_core::schema::field;

    let mut desk = Desk::new();
    let mut out = String::new();
    let day = |text: &str| text.parse::<Date>().unwrap();
    let noon = |text: &str| InstantMs::start_of(day(text)).0 + 12 * 3_600_000;
    let file = |desk: &mut Desk, on: &str, line: &str, out: &mut String| {
        desk.office.now_ms = noon(on);
        desk.run(line, out);
    };
    file(
        &mut desk,
        "2026-01-10",
        "birth | child:name=Lê An | child:sex=nam | child:birth-date=1990-03-08 -> @an",
        &mut out,
    );
    let settle = "permanent-residence | person=@an | unit=u-0000000000000001 | since=2000-01-01";
    file(&mut desk, "2026-01-10", settle, &mut out);
    // A move that was told of late, and one that was corrected before it began.
    let moved = "permanent-residence | person=@an | unit=u-0000000000000002 | since=2026-02-01";
    file(&mut desk, "2026-03-01", moved, &mut out);
    let absent = "temporary-absence | person=@an | from=2026-08-01 | reason=làm việc";
    file(&mut desk, "2026-03-02", absent, &mut out);
    let absent = "temporary-absence | person=@an | from=2026-07-01 | reason=học tập";
    file(&mut desk, "2026-03-03", absent, &mut out);
    assert!(!out.contains("refused") && !out.contains("stale") && !out.contains("wrong"), "{out}");

    let shown = |known: Option<&str>, in_law: Option<&str>, field: FieldId| -> Option<String> {
        let asked = AsOf { known: known.map(|known| InstantMs(noon(known))), in_law: in_law.map(day) };
        let past = as_of(&desk.office.state, &desk.office.context, SHARD, desk.names["@an"], asked).unwrap();
        let Past::Record(record) = past else { return None };
        let key = (field, Vec::new());
        assert!(record.values(&key).len() <= 1, "{asked:?}");
        record.shown(&key).map(|tagged| display(field, &tagged.value, &NoUnits))
    };
    let home = |known, in_law| {
        let text = shown(known, in_law, field::PERMANENT_RESIDENCE);
        text.map(|text| text.split("; ").next().unwrap_or_default()[22..].to_owned())
    };
    assert_eq!(home(None, None).as_deref(), Some("2"));
    assert_eq!(home(None, Some("2026-01-31")).as_deref(), Some("1"), "in law the move had not happened");
    assert_eq!(home(None, Some("2026-02-01")).as_deref(), Some("2"), "and here it had, though nobody knew");
    assert_eq!(home(Some("2026-02-15"), None).as_deref(), Some("1"), "as it was known then");
    assert_eq!(home(Some("2026-02-15"), Some("2026-02-15")).as_deref(), Some("1"));
    assert_eq!(home(None, Some("1999-12-31")), None);
    assert_eq!(shown(None, Some("1990-03-08"), field::NAME).as_deref(), Some("Lê//An"), "he was born by then");
    assert_eq!(shown(None, Some("1990-03-07"), field::NAME), None);
    assert_eq!(shown(Some("2026-01-09"), None, field::NAME), None);
    // The second absence replaced one that had not begun: on the day between there is the second alone.
    assert_eq!(
        shown(None, Some("2026-07-15"), field::TEMPORARY_ABSENCE).as_deref(),
        Some("from=2026-07-01; reason=study")
    );
    assert_eq!(shown(None, Some("2026-06-30"), field::TEMPORARY_ABSENCE), None);
    // With all that is written it is the record.
    let all = as_of(&desk.office.state, &desk.office.context, SHARD, desk.names["@an"], AsOf::default()).unwrap();
    let fields =
        |record: &Record| record.fields().map(|(key, values)| (key.clone(), values.to_vec())).collect::<Vec<_>>();
    let Past::Record(all) = all else { panic!("there is a record") };
    assert_eq!(fields(&all), fields(&desk.office.record(desk.names["@an"])));
}

#[test]
fn figures_say_what_happened_on_which_day_and_equal_a_recount() {
    use dinhba_core::date::InstantMs;
    use dinhba_core::registry::{Figures, figures, recount};

    let mut desk = Desk::new();
    let mut out = String::new();
    let day = |text: &str| text.parse::<Date>().unwrap();
    for (on, line) in [
        ("2026-01-10", "birth | child:name=Lê An | child:sex=nam | child:birth-date=1990-03-08 -> @an"),
        ("2026-01-10", "birth | child:name=Hồ Na | child:sex=nữ | child:birth-date=1991-03-08 -> @na"),
        ("2026-01-11", "marriage | spouse=@an | spouse=@na | date=2020-05-01"),
        ("2026-01-11", "birth | child:name=Lê Mai | child:sex=nữ | child:birth-date=2026-01-02 | mother=@na -> @mai"),
        (
            "2026-01-11",
            "household-founded | head=@na | member=@mai | member:relation=con | since=2026-01-11 | unit=u-0000000000000004 -> @ho",
        ),
        // Refused: nothing is counted.
        ("2026-01-12", "marriage | spouse=@an | spouse=@na | date=2020-05-01"),
        ("2026-01-12", "death | deceased=@an | spouse=@na | date=2026-01-11"),
    ] {
        desk.office.now_ms = InstantMs::start_of(day(on)).0 + 8 * 3_600_000;
        desk.run(line, &mut out);
    }
    let told = |office: &Office, from: &str, to: &str| {
        let (found, more) = figures(&office.state, office.keys(), SHARD, (day(from), day(to)), 100).unwrap();
        assert!(!more);
        found
    };
    let all = told(&desk.office, "1800-01-01", "2199-12-31");
    let expected = [
        ("2026-01-10", Event::Birth, 2),
        ("2026-01-11", Event::Birth, 1),
        ("2026-01-11", Event::Marriage, 1),
        ("2026-01-11", Event::HouseholdFounded, 1),
        ("2026-01-12", Event::Death, 1),
    ];
    assert_eq!(all, expected.map(|(on, event, count)| ((day(on), event), count)).into(), "{out}");
    let births: u64 = told(&desk.office, "2026-01-11", "2026-01-11").values().sum();
    assert_eq!(births, 3);
    assert_eq!(recount(&desk.office.state, &desk.office.context, SHARD).unwrap(), all);
    // Of a neighbour that took the stream they are the same.
    let mut above = Office::new(2);
    above.merge(SiteId(1), desk.office.stream(), 5);
    assert_eq!(told(&above, "1800-01-01", "2199-12-31"), all);
    let (some, more) = figures(&above.state, above.keys(), SHARD, (Date::MIN, Date::MAX), 2).unwrap();
    assert!(some.len() == 2 && more);
    // Nobody can type one in: a plain edit counts as what it is.
    let other = desk.office.create(request(9, 1), "Trần Văn Ba");
    assert!(desk.is_there(other));
    let counted: Figures = told(&desk.office, "1970-01-01", "1970-01-02");
    assert_eq!(counted, [((day("1970-01-01"), Event::Change), 1)].into());
}
