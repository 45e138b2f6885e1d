//! Targets: who sets them, what they must say, who reads them, and what derives from their records at every site alike.

use dinhba_core::access_log::{AccessEntry, Looked};
use dinhba_core::claims::{Purpose, Role};
use dinhba_core::command::{Answer, Command, Cursor, EditCommand, PartDraft, RefusalCode};
use dinhba_core::edit::{Change, Dot, Edit};
use dinhba_core::encoding::Wire;
use dinhba_core::event::Event;
use dinhba_core::ids::{RecordId, RequestId, ShardId, SiteId, UnitId};
use dinhba_core::record::Record;
use dinhba_core::registry::{Poison, ShardState, read, read_range, targets};
use dinhba_core::schema::{FieldId, RecordKind, field};
use dinhba_core::sync::{Batch, Skip};
use dinhba_core::targets::Target;
use proptest::prelude::*;

use crate::ancestors::office_of;
use crate::memory::{Office, PATH, SHARD, accepted, claims, create_command, refusal, request, seal_all, value};

const AIM: &str = "count=500; from=2026-12-01; until=2027-02-28";

fn province() -> ShardId {
    ShardId::of_unit_above(PATH[1])
}

fn change(field: FieldId, text: &str) -> Change {
    let value = if text.is_empty() { Vec::new() } else { value(field, text) };
    Change { field, element: Vec::new(), value, overwrites: Vec::new() }
}

/// A registrar of the province, in its shard.
fn command(request: RequestId, record: Option<RecordId>, changes: Vec<Change>) -> EditCommand {
    let mut command = create_command(request, "Lê//An");
    (command.shard, command.origin.claims) = (province(), claims(Role::Registrar, PATH[1]));
    let (create, record) = (record.is_none(), record.unwrap_or(RecordId::derive(request, 0)));
    command.parts =
        vec![PartDraft { record, record_kind: RecordKind::Target, create, valid_from: Vec::new(), changes }];
    command
}

fn set(counter: u64, unit: UnitId, event: &str, aim: &str) -> EditCommand {
    let fields = [
        (field::TARGET_UNIT, unit.to_string()),
        (field::TARGET_EVENT, event.to_owned()),
        (field::TARGET_AIM, aim.to_owned()),
        (field::TARGET_GROUNDS, "KH 12".to_owned()),
    ];
    command(request(1, counter), None, fields.iter().map(|(field, text)| change(*field, text)).collect())
}

/// A change of a target as it is now, with grounds.
fn changed(office: &Office, counter: u64, record: RecordId, of: FieldId, text: &str) -> EditCommand {
    let now: Record = read(&office.state, &office.keys().record(province(), record)).unwrap().unwrap();
    let seen = |of: FieldId, text: &str| Change { overwrites: now.dots(&(of, Vec::new())), ..change(of, text) };
    let mut changes = vec![seen(of, text), seen(field::TARGET_GROUNDS, &format!("KH {counter}"))];
    changes.sort_by_key(|change| change.field);
    command(request(1, counter), Some(record), changes)
}

fn here(office: &Office, unit: Option<UnitId>) -> Vec<(RecordId, Target)> {
    targets(&office.state, office.keys(), province(), unit, usize::MAX).unwrap().0
}

fn refused(office: &mut Office, command: EditCommand, code: RefusalCode, words: &str) {
    let (given, text) = refusal(office.edit(command));
    assert!(given == code && text.contains(words), "{given:?}: {text}");
}

#[test]
fn a_target_is_set_changed_and_withdrawn_by_edits_and_its_history_stays() {
    let mut office = office_of(1);
    accepted(office.edit(set(1, PATH[3], "card-delivered", AIM)));
    let record = here(&office, None)[0].0;
    let of = |office: &Office| here(office, Some(PATH[3])).into_iter().map(|(_, target)| target).collect::<Vec<_>>();
    let [target] = of(&office)[..] else { panic!("{:?}", of(&office)) };
    assert_eq!((target.unit, target.event, target.aim.to_string().as_str()), (PATH[3], Event::CardDelivered, AIM));
    assert!(here(&office, Some(PATH[2])).is_empty());
    let more = "count=600; from=2026-12-01; until=2027-03";
    let late = changed(&office, 3, record, field::TARGET_AIM, AIM);
    accepted(office.edit(changed(&office.clone(), 2, record, field::TARGET_AIM, more)));
    assert_eq!(of(&office)[0].aim.to_string(), "count=600; from=2026-12-01; until=2027-03-31");
    assert!(matches!(office.edit(late), Answer::Stale(_)), "a colleague was faster");
    accepted(office.edit(changed(&office.clone(), 4, record, field::TARGET_WITHDRAWN, "yes")));
    assert!(of(&office).is_empty());
    let history = read_range::<Dot>(&office.state, office.keys().history(province(), record));
    assert_eq!(history.unwrap().len(), 3);
    accepted(office.edit(changed(&office.clone(), 5, record, field::TARGET_WITHDRAWN, "")));
    assert_eq!(of(&office).len(), 1);
}

#[test]
fn registrars_of_the_unit_and_of_those_above_set_targets_and_nothing_else_of_what_it_says() {
    let mut office = office_of(1);
    for (role, unit) in [
        (Role::Operator, PATH[1]),
        (Role::Auditor, PATH[1]),
        (Role::Site, PATH[1]),
        (Role::Registrar, PATH[2]),
        (Role::Registrar, UnitId(99)),
    ] {
        let mut command = set(1, PATH[3], "birth", AIM);
        command.origin.claims = claims(role, unit);
        refused(&mut office, command, RefusalCode::Denied, "set-targets");
    }
    for (counter, unit) in [(1, PATH[0]), (2, PATH[1])] {
        let mut command = set(counter, PATH[3], "birth", AIM);
        command.origin.claims = claims(Role::Registrar, unit);
        accepted(office.edit(command));
    }
    // Who may set targets says nothing of sites, not in one edit with a target either.
    let mut site = set(3, PATH[3], "birth", AIM);
    let about = PartDraft {
        record: RecordId::derive(request(1, 3), 1),
        record_kind: RecordKind::Site,
        changes: vec![change(field::SITE, &SiteId(9).to_string())],
        ..site.parts[0].clone()
    };
    site.parts.push(about.clone());
    refused(&mut office, site.clone(), RefusalCode::Invalid, "edits of their own");
    site.parts = vec![PartDraft { record: RecordId::derive(request(1, 3), 0), ..about }];
    refused(&mut office, site, RefusalCode::Denied, "edit-sites");
    let mut commune = set(4, PATH[3], "birth", AIM);
    (commune.shard, commune.origin.claims) = (SHARD, claims(Role::Registrar, PATH[3]));
    refused(&mut office, commune, RefusalCode::Invalid, "dinhba target set");
}

#[test]
fn a_target_says_what_it_needs_and_keeps_its_unit_and_its_event() {
    let mut office = office_of(1);
    let long = "count=5; from=2026-01-01; until=2036-01-02";
    for (event, aim, words) in [
        ("change", AIM, "name an event that is filed"),
        ("card-stolen", AIM, "name an event that is filed"),
        ("birth", "count=0; from=2026-01-01; until=2026-01-02", "count must be 1"),
        ("birth", long, "ten years at most"),
        ("", AIM, "give all three"),
        ("birth", "", "give all three"),
    ] {
        refused(&mut office, set(1, PATH[3], event, aim), RefusalCode::Invalid, words);
    }
    let mut without = set(1, PATH[3], "birth", AIM);
    without.parts[0].changes.pop();
    refused(&mut office, without, RefusalCode::Invalid, "needs its grounds");
    accepted(office.edit(set(1, PATH[3], "birth", AIM)));
    let record = here(&office, None)[0].0;
    for (of, text, words) in [
        (field::TARGET_UNIT, PATH[2].to_string(), "keeps its unit"),
        (field::TARGET_EVENT, "death".to_owned(), "keeps its unit"),
        (field::TARGET_AIM, String::new(), "withdraw it"),
    ] {
        let command = changed(&office.clone(), 2, record, of, &text);
        refused(&mut office, command, RefusalCode::Invalid, words);
    }
    let mut without = changed(&office.clone(), 2, record, field::TARGET_WITHDRAWN, "yes");
    without.parts[0].changes.pop();
    refused(&mut office, without, RefusalCode::Invalid, "needs its grounds");
}

#[test]
fn whoever_works_below_reads_the_targets_and_their_histories() {
    let mut office = office_of(1);
    accepted(office.edit(set(1, PATH[3], "birth", AIM)));
    let target = here(&office, None)[0].0;
    let mut may = |role, unit, looked, subject: RecordId| {
        let (claims, case) = (claims(role, unit), "TK-1".parse().unwrap());
        let (shard, subject) = (Some(province()), subject.0);
        let entry = AccessEntry { claims, purpose: Purpose::Statistics, case, looked, shard, subject, at_ms: 7 };
        office.run(Command::Access(vec![entry])) == Answer::Access(vec![true])
    };
    for looked in [Looked::Record, Looked::History] {
        for unit in PATH {
            assert!(Role::ALL.iter().all(|role| may(*role, unit, looked, target)), "{looked:?}");
        }
        assert!(!may(Role::Registrar, UnitId(99), looked, target));
        // Of what else stands there a registrar reads nothing.
        assert!(!may(Role::Registrar, PATH[1], looked, RecordId([9; 16])));
    }
    assert!(!may(Role::Registrar, PATH[1], Looked::Export, target));
}

/// What an office's shard of the province has, for a neighbour.
fn stream(office: &Office) -> Batch {
    let state: ShardState = read(&office.state, &office.keys().shard(province())).unwrap().unwrap();
    let start = Cursor::start(state.epoch);
    let (mut batch, _, _) = office.here().batch(&state, start, 0, &Skip::default(), usize::MAX).unwrap();
    seal_all(&mut batch);
    batch
}

#[test]
fn what_a_changed_program_makes_of_a_target_is_set_aside_at_every_other_site() {
    for (of, bytes) in [
        (field::TARGET_EVENT, b"change".to_vec()),
        (field::TARGET_AIM, value(field::TARGET_AIM, "count=0; from=2026-01-01; until=2026-01-02")),
        (field::TARGET_AIM, value(field::TARGET_AIM, "count=5; from=2026-01-01; until=2066-01-02")),
    ] {
        let (mut author, mut other) = (office_of(1), office_of(2));
        accepted(author.edit(set(1, PATH[3], "birth", AIM)));
        let mut batch = stream(&author);
        let mut edit = Edit::from_bytes(&batch.items[0].bytes).unwrap();
        edit.changes.iter_mut().find(|change| change.field == of).unwrap().value = bytes;
        batch.items[0].bytes = edit.to_bytes();
        seal_all(&mut batch);
        let merged = other.merge(SiteId(1), batch, 1);
        assert_eq!((merged.folded, merged.poisoned), (0, 1), "{of}");
        let aside: Vec<Poison> =
            read_range(&other.state, other.keys().poisons(province())).unwrap().into_iter().map(|(_, it)| it).collect();
        assert_eq!((aside, here(&other, None)), (vec![Poison::Value], Vec::new()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Two offices of the province's way set and change targets of which they do not hear at once.
    #[test]
    fn what_is_listed_is_what_the_records_say_at_both(steps in prop::collection::vec((any::<bool>(), 0_u8..4, 0_usize..4, 1_u32..9), 1..24)) {
        let mut offices = [office_of(1), office_of(2)];
        let mut made = Vec::new();
        for ((counter, (first, step, which, count)), session) in (1_u64..).zip(steps).zip(3_u8..) {
            let at = usize::from(!first);
            let aim = format!("count={count}; from=2026-12-01; until=2027-02-28");
            let known: Vec<RecordId> = made.iter().copied().filter(|id| {
                read::<Record>(&offices[at].state, &offices[at].keys().record(province(), *id)).unwrap().is_some()
            }).collect();
            let mut command = match (step, known.get(which)) {
                (1, Some(id)) => changed(&offices[at].clone(), counter, *id, field::TARGET_AIM, &aim),
                (2, Some(id)) => changed(&offices[at].clone(), counter, *id, field::TARGET_WITHDRAWN, "yes"),
                (3, _) => {
                    let batch = stream(&offices[at]);
                    let from = offices[at].site;
                    offices[1 - at].merge(from, batch, 1);
                    continue;
                }
                _ => set(counter, PATH[1 + which % 3], "birth", &aim),
            };
            command.origin.request = request(session, counter);
            if command.parts[0].create {
                command.parts[0].record = RecordId::derive(command.origin.request, 0);
                made.push(command.parts[0].record);
            }
            accepted(offices[at].edit(command));
        }
        for at in [0, 1] {
            let (batch, from) = (stream(&offices[at]), offices[at].site);
            offices[1 - at].merge(from, batch, 1);
        }
        for office in &offices {
            let records: Vec<(Vec<u8>, Record)> = read_range(&office.state, office.keys().records(province())).unwrap();
            let mut said: Vec<Target> = records.iter().filter_map(|(_, record)| Target::of(record)).collect();
            said.sort_by_key(|target| (target.unit, target.aim.count()));
            let mut listed: Vec<Target> = here(office, None).into_iter().map(|(_, target)| target).collect();
            listed.sort_by_key(|target| (target.unit, target.aim.count()));
            prop_assert_eq!(listed, said);
        }
        prop_assert_eq!(here(&offices[0], None), here(&offices[1], None));
    }
}
