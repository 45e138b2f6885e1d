//! Work lists: what stands on them is what is open, in whatever order it came, and each entry has its signpost.

use std::collections::BTreeSet;

use dinhba_core::command::{Answer, Command, FileCommand};
use dinhba_core::date::{Date, InstantMs};
use dinhba_core::dossier::Stage;
use dinhba_core::edit::{Change, Dot, EditKind};
use dinhba_core::filing::{Typed, TypedSubject};
use dinhba_core::ids::{RecordId, RequestId};
use dinhba_core::level::LEVEL_MAX;
use dinhba_core::record::Record;
use dinhba_core::registry::{due_of, signposts_of, stocks};
use dinhba_core::schema::{FieldId, RecordKind, field};
use dinhba_core::stock::{Counted, Stock};
use dinhba_core::store::StateView;
use dinhba_core::units::NoUnits;
use dinhba_core::work::{Entry, Work};

use crate::memory::{Office, SHARD, accepted, command, refusal, request, value};

const MONDAY: Date = match Date::new(2026, 6, 15) {
    Ok(day) => day,
    Err(_) => panic!("a day"),
};

fn at(office: &mut Office, day: i64) {
    office.now_ms = InstantMs::start_of(Date::from_days(MONDAY.days() + day)).0;
}

fn filed(office: &mut Office, request: RequestId, typed: &Typed) -> Answer {
    let today = InstantMs(office.now_ms).date_in_vietnam();
    let filed = typed.read(LEVEL_MAX, today, &NoUnits).expect("filled in rightly");
    let mut origin = command(request, EditKind::Change, RecordId::default(), false, Vec::new()).origin;
    origin.received_ms = office.now_ms;
    let command = FileCommand { shard: SHARD, origin, secret: [request.session.0[0]; 32], filed, blocks: Vec::new() };
    office.run(Command::File(Box::new(command)))
}

fn typed(office: &Office, event: &str, subjects: &[(&str, Option<RecordId>)], inputs: &[(&str, &str)]) -> Typed {
    let seen = |record: &Record| {
        let dots: BTreeSet<Dot> =
            record.fields().flat_map(|(_, values)| values).map(|tagged| tagged.dot.clone()).collect();
        dots.into_iter().collect()
    };
    let subject = |(role, record): &(&str, Option<RecordId>)| TypedSubject {
        role: (*role).to_owned(),
        record: *record,
        seen: record.map(|record| seen(&office.record(record))).unwrap_or_default(),
        ..TypedSubject::default()
    };
    let text = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
    Typed {
        event: event.to_owned(),
        subjects: subjects.iter().map(subject).collect(),
        inputs: inputs.iter().map(text).collect(),
        grounds: String::new(),
    }
}

fn birth(office: &Office, dossier: Option<RecordId>) -> Typed {
    let dossier = dossier.map(|dossier| ("dossier", Some(dossier)));
    let subjects: Vec<(&str, Option<RecordId>)> = [("child", None)].into_iter().chain(dossier).collect();
    let mut typed = typed(office, "birth", &subjects, &[]);
    let inputs = [("name", "Lê An"), ("sex", "nam"), ("birth-date", "2026-06-01"), ("nationality", "VN")];
    let place = [("registration-place", "unit=u-0000000000000004")];
    typed.subjects[0].inputs =
        inputs.into_iter().chain(place).map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
    typed
}

/// Opens a dossier for a birth, by the first request.
fn open_dossier(office: &mut Office) -> RecordId {
    let inputs = [("service", "birth"), ("applicant", "Lê Hoa")];
    let opened = typed(office, "dossier-opened", &[("dossier", None)], &inputs);
    accepted(filed(office, request(1, 1), &opened));
    RecordId::derive(request(1, 1), 0)
}

/// What stands on the lists, as kind and days after the Monday.
fn listed(office: &Office) -> Vec<(Work, i64)> {
    let entries = office.listed();
    assert_eq!(signs(office), entries.iter().map(|entry| (entry.work, entry.since)).collect());
    entries.iter().map(|Entry { work, since, .. }| (*work, since.days() - MONDAY.days())).collect()
}

/// The kinds and days for which a signpost stands.
fn signs(office: &Office) -> BTreeSet<(Work, Date)> {
    let mut found = BTreeSet::new();
    for kind in Work::all() {
        let (from, to) = office.keys().dues_between(kind, (Date::MIN, Date::MAX));
        for item in office.state.scan(&from, &to) {
            let (day, shard) = due_of(&item.unwrap().0).unwrap();
            assert_eq!(shard, SHARD);
            found.insert((kind, day));
        }
    }
    found
}

#[test]
fn a_dossier_is_on_the_list_of_whoever_is_next_from_the_day_on_which_it_is_his_turn() {
    let step = |stage, step| Work::Step(stage, 0, step);
    let mut office = Office::new(1);
    at(&mut office, 0);
    let dossier = open_dossier(&mut office);
    assert_eq!(listed(&office), [(step(Stage::Open, 0), 0)]);

    at(&mut office, 1);
    let asked = typed(
        &office,
        "dossier-papers-asked",
        &[("dossier", Some(dossier))],
        &[("step", "birth registration"), ("lacking", "Giấy chứng sinh")],
    );
    accepted(filed(&mut office, request(1, 2), &asked));
    assert_eq!(listed(&office), [(step(Stage::Papers, 0), 1)]);

    // The number is pending, and two steps begin side by side.
    at(&mut office, 2);
    let born = birth(&office, Some(dossier));
    accepted(filed(&mut office, request(1, 3), &born));
    assert_eq!(listed(&office), [(Work::Number, 2), (step(Stage::Open, 1), 2), (step(Stage::Open, 2), 2)]);

    at(&mut office, 3);
    let mut refused =
        typed(&office, "dossier-step-rejected", &[("dossier", Some(dossier))], &[("step", "health insurance")]);
    refused.grounds = "Công văn 5/BHXH".to_owned();
    accepted(filed(&mut office, request(1, 4), &refused));
    assert_eq!(listed(&office), [(Work::Number, 2), (step(Stage::Open, 1), 2), (step(Stage::Failed, 2), 3)]);

    let mut closed = typed(&office, "dossier-closed", &[("dossier", Some(dossier))], &[("date", "2026-06-18")]);
    closed.grounds = "Rút hồ sơ".to_owned();
    accepted(filed(&mut office, request(1, 5), &closed));
    assert_eq!(listed(&office), [(Work::Number, 2)]);
}

#[test]
fn stocks_tell_steps_by_their_days_and_what_was_done_stays_counted() {
    let (birth_registration, residence, insurance) = (0, 1, 2);
    let mut office = Office::new(1);
    at(&mut office, 0);
    let dossier = open_dossier(&mut office);
    assert_eq!(stocked(&office), [(Stock::Open(Stage::Open, 0, birth_registration), 0, 0, 1)]);

    at(&mut office, 2);
    let born = birth(&office, Some(dossier));
    accepted(filed(&mut office, request(1, 2), &born));
    let open = |step| (Stock::Open(Stage::Open, 0, step), 2, 0, 1);
    let done = (Stock::Done(0, birth_registration), 2, 0, 1);
    assert_eq!(stocked(&office), [open(residence), open(insurance), done]);

    // A dossier that is closed has nothing open, and what was done of it was done.
    at(&mut office, 3);
    let mut closed = typed(&office, "dossier-closed", &[("dossier", Some(dossier))], &[("date", "2026-06-18")]);
    closed.grounds = "Rút hồ sơ".to_owned();
    accepted(filed(&mut office, request(1, 3), &closed));
    assert_eq!(stocked(&office), [done]);

    // A card and an account are counted under the state in which each is, and under no other.
    let person = RecordId::derive(request(1, 2), 0);
    let card = "number=001226000001; kind=can_cuoc; state=";
    let write = |office: &mut Office, counter: u64, changes: &[(FieldId, &str, &str)]| {
        let record = office.record(person);
        let change = |(field, element, text): &(FieldId, &str, &str)| Change {
            field: *field,
            element: element.as_bytes().to_vec(),
            value: value(*field, text),
            overwrites: record.dots(&(*field, element.as_bytes().to_vec())),
        };
        let changes = changes.iter().map(change).collect();
        let edit = command(request(1, counter), EditKind::Change, person, false, changes);
        accepted(office.run(Command::Edit(Box::new(edit))));
    };
    write(
        &mut office,
        4,
        &[
            (field::IDENTITY_CARD, "1", &format!("{card}lost")),
            (field::IDENTITY_CARD, "2", &format!("{card}requested")),
            (field::E_IDENTIFICATION, "", "level_1"),
        ],
    );
    let plain = |stock, count| (stock, Date::MIN.days() - MONDAY.days(), Date::MIN.days() - MONDAY.days(), count);
    let (requested, lost) = (plain(Stock::Card(1), 1), plain(Stock::Card(7), 1));
    assert_eq!(stocked(&office), [requested, lost, plain(Stock::Account(2), 1), done]);
    write(&mut office, 5, &[(field::IDENTITY_CARD, "2", &format!("{card}lost")), (field::E_IDENTIFICATION, "", "")]);
    assert_eq!(stocked(&office), [plain(Stock::Card(7), 2), done]);
}

/// The stocks, with their days after the Monday: that of a step that is done, and that on which its term began.
fn stocked(office: &Office) -> Vec<(Stock, i64, i64, u64)> {
    office.listed();
    let stocks = stocks(&office.state, office.keys(), SHARD, (Date::MIN, Date::MAX)).unwrap();
    let after = |day: Date| day.days() - MONDAY.days();
    let row = |(counted, count): (&Counted, &u64)| {
        let began = if matches!(counted.stock, Stock::Open(..)) { 0 } else { after(counted.began) };
        (counted.stock, after(counted.day), began, *count)
    };
    stocks.iter().map(row).collect()
}

#[test]
fn what_was_done_has_failed_once_something_before_it_is_taken_up_again() {
    let step = |stage, step| Work::Step(stage, 0, step);
    let mut office = Office::new(1);
    at(&mut office, 0);
    let dossier = open_dossier(&mut office);
    let born = birth(&office, Some(dossier));
    accepted(filed(&mut office, request(1, 2), &born));
    let of_step = |office: &Office, event: &str, inputs: &[(&str, &str)]| {
        let mut said = typed(office, event, &[("dossier", Some(dossier))], inputs);
        said.grounds = "Quyết định 3/QĐ-UBND".to_owned();
        said
    };
    let done = of_step(&office, "dossier-step-done", &[("step", "health insurance"), ("result", "GD 4")]);
    accepted(filed(&mut office, request(1, 3), &done));
    assert_eq!(listed(&office), [(Work::Number, 0), (step(Stage::Open, 1), 0)]);
    at(&mut office, 1);
    let again = of_step(&office, "dossier-step-reopened", &[("step", "birth registration")]);
    accepted(filed(&mut office, request(1, 4), &again));
    // Whose turn it is not any more waits; what was done all the same, somebody has to look at.
    assert_eq!(listed(&office), [(Work::Number, 0), (step(Stage::Open, 0), 1), (step(Stage::Failed, 2), 0)]);
    let mut edit = command(request(1, 5), EditKind::Change, dossier, false, Vec::new());
    edit.parts[0].record_kind = RecordKind::Dossier;
    let closed = Change {
        field: field::DOSSIER_CLOSED,
        element: Vec::new(),
        value: value(field::DOSSIER_CLOSED, "2026-06-15"),
        overwrites: Vec::new(),
    };
    edit.parts[0].changes = vec![closed];
    let (_, text) = refusal(office.edit(edit));
    assert!(text.contains("by its events"), "{text}");
}

#[test]
fn what_two_offices_wrote_is_on_the_list_until_it_is_decided_and_a_shard_that_is_moved_has_its_signposts() {
    let (mut one, mut two) = (Office::new(1), Office::new(2));
    at(&mut one, 0);
    at(&mut two, 4);
    let born = birth(&one, None);
    accepted(filed(&mut one, request(1, 1), &born));
    let child = RecordId::derive(request(1, 1), 0);
    send(&one, &mut two);
    assert_eq!(listed(&two), [(Work::Number, 4)], "since the day on which it came here");
    accepted(one.set(request(1, 2), child, field::OTHER_NAME, "Bi"));
    accepted(two.set(request(2, 1), child, field::OTHER_NAME, "Bo"));
    at(&mut one, 7);
    send(&two, &mut one);
    assert_eq!(listed(&one), [(Work::Conflict, 7), (Work::Number, 0)]);

    let batch = signposts_of(&one.state, &one.context, SHARD).unwrap();
    let before = signs(&one);
    for (kind, day) in &before {
        one.state.0.remove(&one.keys().due(*kind, *day, SHARD));
    }
    one.state.write(batch);
    assert_eq!(signs(&one), before);

    accepted(one.decide(request(1, 3), child, field::OTHER_NAME, "Bi"));
    assert_eq!(listed(&one), [(Work::Number, 0)]);
}

fn send(from: &Office, to: &mut Office) {
    to.merge(from.site, from.stream(), to.now_ms);
}
