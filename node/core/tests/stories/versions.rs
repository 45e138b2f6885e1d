//! Feature levels: what is above one waits aside, and what only a newer version knows is kept as it came.

use crate::memory::{Memory, Office, SHARD, accepted, command, refusal, request, seal_all, value};
use dinhba_core::claims::{Purpose, Role};
use dinhba_core::command::{Answer, Batch, Command, Digest, Form, Proposal, Raise, RefusalCode, StatementBody};
use dinhba_core::edit::{Change, Edit, EditKind, GROUNDS};
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{Incarnation, SiteId};
use dinhba_core::registry::{Context, GroupState, LEVEL_MAX, Poison, apply, read, read_range};
use dinhba_core::schema::{FieldId, RecordKind, field};
use dinhba_core::store::StoreError;
use dinhba_core::sync::{are_comparable, proves_in_step};

#[test]
fn an_edit_above_the_level_waits_aside_and_is_folded_when_the_level_rises() {
    let (mut here, mut there) = (Office::new(1), Office::new(2));
    let record = here.create(request(1, 1), "Lê//An");
    here.raise();
    let changes = vec![
        Change { field: GROUNDS, element: vec![], value: b"as the father said".to_vec(), overwrites: vec![] },
        Change { field: field::SEX, element: vec![], value: value(field::SEX, "male"), overwrites: vec![] },
    ];
    accepted(here.run(Command::Edit(Box::new(command(request(1, 2), EditKind::Change, record, false, changes)))));
    let merged = there.merge(here.site, here.stream(), 1);
    assert_eq!((merged.folded, merged.poisoned, there.shard().poisoned), (1, 1, 1));
    assert!(there.record(record).values(&(field::SEX, vec![])).is_empty());
    assert_eq!(here.shard().edits_digest, there.shard().edits_digest, "it counts in the log all the same");
    there.raise();
    assert_eq!(there.shard().poisoned, 0);
    assert_eq!(here.shard().state_digest, there.shard().state_digest);
}

/// The last edit of a stream, as a newer version of its site would have written it.
fn as_newer(batch: &mut Batch, change: impl FnOnce(&mut Edit)) {
    let item = batch.items.last_mut().unwrap();
    let mut edit = Edit::from_bytes(&item.bytes).unwrap();
    change(&mut edit);
    item.bytes = edit.to_bytes();
    batch.seals.clear();
    seal_all(batch);
}

#[test]
fn what_only_a_newer_version_knows_is_kept_as_it_came_passed_on_and_set_aside() {
    let mut author = Office::new(1);
    let record = author.create(request(1, 1), "Lê//An");
    accepted(author.set(request(1, 2), record, field::SEX, "male"));
    let field_of_tomorrow = |edit: &mut Edit| edit.changes[0].field = FieldId(900);
    type Newer<'a> = &'a dyn Fn(&mut Edit);
    let cases: [(&str, Poison, Newer<'_>); 7] = [
        ("a field above the level", Poison::Level, &|edit| {
            edit.header.level = 9;
            field_of_tomorrow(edit);
        }),
        ("a field that its level does not have", Poison::Value, &field_of_tomorrow),
        ("a kind", Poison::Kind, &|edit| edit.header.kind = EditKind::Unknown(77)),
        ("a kind of record", Poison::Kind, &|edit| edit.header.record_kind = RecordKind::Unknown(77)),
        ("a role", Poison::Kind, &|edit| edit.header.origin.claims.role = Role::Unknown(77)),
        ("a purpose", Poison::Kind, &|edit| edit.header.origin.purpose = Purpose::Unknown(77)),
        ("an extension", Poison::Level, &|edit| {
            edit.header.level = 9;
            edit.header.extensions = vec![(5, vec![1, 2])];
        }),
    ];
    for (what, reason, change) in cases {
        let (mut here, mut there) = (Office::new(2), Office::new(3));
        let mut batch = author.stream();
        as_newer(&mut batch, change);
        let bytes = batch.items[1].bytes.clone();
        let merged = here.merge(author.site, batch, 1);
        assert_eq!((merged.folded, merged.poisoned, merged.parked.len()), (1, 1, 0), "{what}");
        assert!(here.record(record).values(&(field::SEX, vec![])).is_empty(), "{what}");
        let reasons: Vec<(Vec<u8>, Poison)> = read_range(&here.state, here.keys().poisons(SHARD)).unwrap();
        assert_eq!(reasons[0].1, reason, "{what}");
        assert_eq!(here.stream().items[1].bytes, bytes, "{what}: byte for byte");
        assert_eq!(there.merge(here.site, here.stream(), 1).poisoned, 1, "{what}");
        here.raise();
        assert_eq!(here.shard().poisoned, 1, "{what}: the next level has it no more than this one");
    }
    let unknown = Change { field: FieldId(900), element: vec![], value: vec![1], overwrites: vec![] };
    let edit = command(request(1, 3), EditKind::Change, record, false, vec![unknown]);
    let (code, text) = refusal(author.edit(edit));
    assert!(code == RefusalCode::Invalid && text.contains("no field of feature level 1"), "{text}");
}

#[test]
fn a_replica_stops_at_a_level_above_its_own_and_changes_nothing() {
    let mut office = Office::new(1);
    office.create(request(1, 1), "Lê//An");
    let entry = |level| Proposal { at_ms: 1, commands: vec![Command::Raise(Raise { level, now_ms: 1 })] }.to_bytes();
    for level in 2..=LEVEL_MAX {
        assert!(matches!(office.run(Command::Raise(Raise { level, now_ms: 1 })), Answer::Done(_)));
    }
    let stops = |office: &Office, level| apply(&office.state, &office.context, &[(99, entry(level))]);
    assert!(matches!(stops(&office, LEVEL_MAX + 1), Err(StoreError::Newer { .. })));
    let (answers, batch) = stops(&office, LEVEL_MAX + 2).unwrap();
    let (code, text) = refusal(Vec::<Answer>::from_bytes(&answers[0]).unwrap().remove(0));
    assert!(code == RefusalCode::Level && text.contains("rise by one"), "{text}");
    assert!(batch.writes.is_empty());
    // A state that a newer version left behind.
    let key = office.keys().group();
    let mut group: GroupState = read(&office.state, &key).unwrap().unwrap();
    group.level = LEVEL_MAX + 1;
    office.state.0.insert(key, group.to_bytes());
    assert!(matches!(stops(&office, 1), Err(StoreError::Newer { .. })));
}

#[test]
fn a_replica_without_the_keys_of_its_group_stops_and_says_which_it_lacks() {
    let office = Office::new(1);
    let entry = Proposal { at_ms: 1, commands: vec![Command::Raise(Raise { level: 2, now_ms: 1 })] }.to_bytes();
    let with = |change: fn(&mut Context)| {
        let mut context = office.context.clone();
        change(&mut context);
        apply(&office.state, &context, &[(99, entry.clone())]).map(drop)
    };
    with(|_| ()).unwrap();
    let lacking = with(|context| context.index_key.id = 2).unwrap_err().to_string();
    assert!(lacking.contains("index key 1 is asked for, this node has 2"), "{lacking}");
    let lacking = with(|context| context.digest_key.id = 3).unwrap_err().to_string();
    assert!(lacking.contains("digest key 1 is asked for, this node has 3"), "{lacking}");
    // One that is to take part in a founding, and was given other secrets.
    let form = Command::Form(Form {
        site: SiteId(1),
        level: 1,
        index_key: 2,
        digest_key: 1,
        incarnation: Incarnation([1; 16]),
    });
    let entry = Proposal { at_ms: 1, commands: vec![form] }.to_bytes();
    let unformed = apply(&Memory::default(), &office.context, &[(1, entry)]);
    assert!(matches!(unformed, Err(StoreError::Keyed { .. })));
}

#[test]
fn digests_under_different_keys_prove_nothing_and_are_no_difference() {
    let mut office = Office::new(1);
    office.create(request(1, 1), "Lê//An");
    let here = office.here();
    let ours = here.statement(SHARD, here.heads(SHARD).unwrap(), 1).unwrap().unwrap();
    assert!(proves_in_step(&ours, &ours) && are_comparable(&ours, &ours));
    let theirs = StatementBody { digest_key: 2, ..ours.clone() };
    assert!(!proves_in_step(&theirs, &ours) && !are_comparable(&theirs, &ours));
    let theirs = StatementBody { state: Digest([7; 32]), ..ours.clone() };
    assert!(!proves_in_step(&theirs, &ours) && are_comparable(&theirs, &ours), "that is a difference");
}
