//! Feature levels: what is above one waits aside, and what only a newer version knows is kept as it came.

use crate::memory::{Memory, Office, SHARD, accepted, command, refusal, request, seal_all, value};
use dinhba_core::claims::{Purpose, Role};
use dinhba_core::command::{
    Answer, Command, ConflictEntry, ConflictKey, Form, Proposal, Raise, RefusalCode, StatementBody,
};
use dinhba_core::digest::Digest;
use dinhba_core::edit::{Change, Edit, EditKind, GROUNDS};
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{Incarnation, NodeId, RecordId, SiteId};
use dinhba_core::level::{LEVEL_FIRST, LEVEL_MAX};
use dinhba_core::place::{NodeEntry, PlaceEntry};
use dinhba_core::registry::{Context, GroupState, Poison, apply, read, read_range};
use dinhba_core::schema::{FieldId, RecordKind, field};
use dinhba_core::store::StoreError;
use dinhba_core::sync::{Batch, are_comparable, proves_in_step};

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

/// The rules that an office says a record breaks.
fn broken(office: &Office, record: RecordId) -> Vec<u16> {
    let range = office.keys().conflicts(SHARD, Some(record));
    let conflicts: Vec<(Vec<u8>, ConflictEntry)> = read_range(&office.state, range.clone()).unwrap();
    let rules = conflicts.into_iter().filter_map(|(key, _)| match ConflictKey::from_bytes(&key[range.0.len()..]) {
        Ok(ConflictKey::Rule(rule)) => Some(rule),
        _ => None,
    });
    rules.collect()
}

#[test]
fn a_rule_of_a_level_judges_nothing_below_it_and_all_that_is_there_when_the_level_rises() {
    const RULE: u16 = 13;
    let mut here = Office::new(1);
    let child = here.create(request(1, 1), "Lê//An");
    let other = here.create(request(1, 2), "Lê//Bình");
    for (counter, field, text) in
        [(3, field::BIRTH_DATE, "1990-05-02"), (4, field::MARITAL_STATUS, "divorced; since=1980")]
    {
        accepted(here.set(request(1, counter), child, field, text));
    }
    accepted(here.set(request(1, 5), other, field::BIRTH_DATE, "1990-05-02"));
    let records = here.records();
    assert_eq!(
        (broken(&here, child), here.shard().conflicts),
        (vec![], 0),
        "as a version says that knows no such rule"
    );
    assert!(matches!(here.raise(), Answer::Done(_)));
    assert_eq!((broken(&here, child), here.shard().conflicts), (vec![RULE], 1));
    assert_eq!(here.records(), records, "what was written is not touched");
    let (code, text) = refusal(here.set(request(1, 6), other, field::MARITAL_STATUS, "widowed; since=1985"));
    assert!(code == RefusalCode::Rule && text.starts_with("status_before_birth"), "{text}");

    // A site that was at that level when the edits came has the same.
    let mut there = Office::new(2);
    there.raise();
    there.merge(here.site, here.stream(), 1);
    assert_eq!((broken(&there, child), there.shard().conflicts), (vec![RULE], 1));
    assert_eq!(here.shard().state_digest, there.shard().state_digest);
    // And decides it as any other.
    accepted(here.decide(request(1, 7), child, field::BIRTH_DATE, "1950-05-02"));
    assert_eq!((broken(&here, child), here.shard().conflicts), (vec![], 0));
}

#[test]
fn a_level_that_a_node_of_the_directory_does_not_know_is_refused_and_the_node_named() {
    let mut office = Office::new(1);
    let entry = |node, present, level_max| {
        let address = format!("127.0.0.1:{node}");
        Command::Place(vec![PlaceEntry::Node(NodeEntry { node: NodeId(node), address, present, level_max })])
    };
    for (node, present, level_max) in [(1, true, 2), (2, true, 1), (3, false, 1)] {
        assert!(matches!(office.run(entry(node, present, level_max)), Answer::Done(_)));
    }
    let before = office.state.0.clone();
    let (code, text) = refusal(office.raise());
    assert!(code == RefusalCode::Level && text.contains(&NodeId(2).to_string()) && text.contains("up to 1"), "{text}");
    assert_eq!(office.state.0, before);
    office.run(entry(2, true, 0));
    let (_, text) = refusal(office.raise());
    assert!(text.contains("has not said"), "{text}");
    // Who left does not count, and who was started with another version says so.
    office.run(entry(2, true, 2));
    assert!(matches!(office.raise(), Answer::Done(_)));
}

#[test]
fn a_replica_that_was_told_to_know_less_works_below_and_stops_above() {
    let mut older = Office::new(1);
    older.context.level_max = LEVEL_FIRST;
    let record = older.create(request(1, 1), "Lê//An");
    let raise = Proposal { at_ms: 1, commands: vec![Command::Raise(Raise { level: 2, now_ms: 1 })] }.to_bytes();
    let stopped = apply(&older.state, &older.context, &[(9, raise)]).unwrap_err();
    let StoreError::Newer { detail, .. } = &stopped else { panic!("{stopped:?}") };
    assert!(detail.contains("level 2") && detail.contains("up to 1"), "{detail}");
    // As whole as it was, for one that knows more.
    older.context.level_max = LEVEL_MAX;
    assert!(matches!(older.raise(), Answer::Done(_)));
    accepted(older.set(request(1, 2), record, field::SEX, "male"));
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
fn digests_under_different_keys_and_at_different_levels_are_no_difference() {
    let mut office = Office::new(1);
    office.create(request(1, 1), "Lê//An");
    let here = office.here();
    let ours = here.statement(SHARD, here.heads(SHARD).unwrap(), 1).unwrap().unwrap();
    assert!(proves_in_step(&ours, &ours) && are_comparable(&ours, &ours));
    let theirs = StatementBody { digest_key: 2, ..ours.clone() };
    assert!(!proves_in_step(&theirs, &ours) && !are_comparable(&theirs, &ours));
    let theirs = StatementBody { state: Digest([7; 32]), ..ours.clone() };
    assert!(!proves_in_step(&theirs, &ours) && are_comparable(&theirs, &ours), "that is a difference");
    let higher = StatementBody { level: 2, ..theirs };
    assert!(!proves_in_step(&higher, &ours) && !are_comparable(&higher, &ours), "the same edits may make that there");
    let higher = StatementBody { level: 2, ..ours.clone() };
    assert!(proves_in_step(&higher, &ours), "and may not");
}
