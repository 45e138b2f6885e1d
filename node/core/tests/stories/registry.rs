//! What a group answers: stories of one office and of two.

use std::collections::BTreeSet;

use crate::memory::{
    Office, PATH, SHARD, accepted, claims, command, create_command, refusal, request, seal_all, value,
};
use dinhba_core::access_log::{AccessEntry, Looked};
use dinhba_core::archive::{Content, Edits, Piece};
use dinhba_core::claims::Role;
use dinhba_core::command::{
    Adopt, Answer, Command, Cursor, EditCommand, Item, Moved, PartDraft, Proposal, Raise, RefusalCode, ShardInfo, Stale,
};
use dinhba_core::edit::{Change, Dot, Edit, EditKind, GROUNDS};
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{EvidenceId, Incarnation, NodeId, RecordId, RequestId, ShardId, UnitId};
use dinhba_core::place::{NodeEntry, PlaceEntry};
use dinhba_core::registry::{COMMANDS_MAX, Names, alias_id, apply, authors, read, tips};
use dinhba_core::schema::field;
use dinhba_core::sync::Skip;

#[test]
fn a_retry_is_told_the_first_answer_and_changes_nothing() {
    let mut office = Office::new(1);
    let first = accepted(office.edit(create_command(request(1, 1), "Lê//An")));
    let before = office.state.0.clone();
    let mut retry = create_command(request(1, 1), "Lê//An");
    retry.origin.received_ms += 60_000;
    retry.origin.claims.evidence = EvidenceId([2; 16]);
    let again = accepted(office.edit(retry));
    assert_eq!((again.receipt, again.replayed), (first.receipt, true));
    assert_eq!(office.state.0, before);
}

#[test]
fn another_request_under_the_name_of_an_accepted_one_is_refused_as_such_whoever_brought_that_one() {
    let mut office = Office::new(1);
    let second_shard = ShardId(78);
    let info = ShardInfo { shard: second_shard, path: PATH.to_vec() };
    office.run(Command::Adopt(Adopt { info, incarnation: Incarnation([5; 16]), epoch: [5; 16] }));
    accepted(office.edit(create_command(request(1, 1), "Lê//An")));
    let mut neighbour = Office::new(2);
    neighbour.create(request(1, 2), "Lê//An");
    office.merge(neighbour.site, neighbour.stream(), 1);
    let before = office.state.0.clone();
    let mut refused = |edit: EditCommand, how: &str| {
        let (code, text) = refusal(office.edit(edit));
        assert_eq!(code, RefusalCode::Exists);
        assert!(text.contains(how) && text.contains("new name"), "{text}");
        assert_eq!(office.state.0, before);
    };
    for counter in [1, 2] {
        refused(create_command(request(1, counter), "Lê//Bình"), "other content");
        let mut colleague = create_command(request(1, counter), "Lê//An");
        colleague.origin.claims.subject = "tran.binh".parse().unwrap();
        refused(colleague, "another caller");
        refused(EditCommand { shard: second_shard, ..create_command(request(1, counter), "Lê//An") }, "another shard");
        let mut longer = create_command(request(1, counter), "Lê//An");
        longer.parts.push(PartDraft { record: RecordId::derive(request(1, counter), 1), ..longer.parts[0].clone() });
        refused(longer, "other content");
    }
    let mut outsider = create_command(request(1, 1), "Lê//An");
    outsider.origin.claims = claims(Role::Registrar, UnitId(99));
    assert_eq!(refusal(office.edit(outsider)).0, RefusalCode::Denied, "who may not edit is not told what was");
}

#[test]
fn where_a_chain_forks_within_a_command_its_receipt_names_its_edits() {
    let family = |name: &str| {
        let mut family = create_command(request(2, 1), "Lê//An");
        for part in 1..3 {
            let mut next = create_command(request(2, 1), if part == 2 { name } else { "Lê//Bình" }).parts.remove(0);
            next.record = RecordId::derive(request(2, 1), part);
            family.parts.push(next);
        }
        family
    };
    // One author that says two things of the last part, as no honest one does.
    let mut one = Office::new(2);
    let mut other = one.clone();
    for (office, name) in [(&mut one, "Lê//Chi"), (&mut other, "Lê//Dung")] {
        accepted(office.run(Command::Edit(Box::new(family(name)))));
    }
    for streams in [[one.stream(), other.stream()], [other.stream(), one.stream()]] {
        let mut here = Office::new(1);
        for batch in streams {
            here.merge(one.site, batch, 1);
        }
        assert_eq!(here.shard().arrivals, 4);
        let told = ["Lê//Chi", "Lê//Dung"].map(|name| match here.edit(family(name)) {
            Answer::Accepted(accepted) => {
                let key = here.keys().edit(SHARD, &accepted.receipt.first);
                assert!(here.state.0.contains_key(&key), "{accepted:?}");
                assert!(accepted.replayed && accepted.receipt.count == 3);
                true
            }
            Answer::Refused(refusal) => refusal.code != RefusalCode::Exists,
            other => panic!("{other:?}"),
        });
        assert_eq!(told.iter().filter(|told| **told).count(), 1, "the first that came is the one that is told");
    }
}

#[test]
fn an_edit_that_claims_to_replace_itself_or_what_comes_after_it_stands_beside_the_others() {
    let (mut here, mut liar) = (Office::new(1), Office::new(2));
    let record = here.create(request(1, 1), "Lê//An");
    liar.merge(here.site, here.stream(), 1);
    liar.set(request(2, 1), record, field::SEX, "male");
    liar.set(request(2, 2), record, field::SEX, "female");
    let mut lying = liar.stream();
    lying.items.drain(..1);
    let own = liar.shard().own.id();
    for item in &mut lying.items {
        let mut edit = Edit::from_bytes(&item.bytes).unwrap();
        edit.changes[0].overwrites = (1..=3).map(|counter| Dot { actor: own, counter }).collect();
        item.bytes = edit.to_bytes();
    }
    let secret = lying.secrets.iter().find(|(author, ..)| *author == own).unwrap().2;
    let first = Edit::from_bytes(&lying.items[0].bytes).unwrap();
    let mut second = Edit::from_bytes(&lying.items[1].bytes).unwrap();
    second.header.previous = first.hash(&secret);
    lying.items[1].bytes = second.to_bytes();
    seal_all(&mut lying);
    assert_eq!(here.merge(liar.site, lying, 1).folded, 2);
    let values = here.record(record).values(&(field::SEX, vec![])).to_vec();
    assert_eq!(
        values.iter().map(|tagged| tagged.dot.counter).collect::<Vec<_>>(),
        [2],
        "only what was there is replaced"
    );
}

#[test]
fn grounds_are_text_as_values_are() {
    let mut office = Office::new(1);
    office.raise();
    let record = office.create(request(1, 1), "Lê//An");
    for (counter, grounds) in [(2, "giay\u{7}"), (3, "an\u{200b}"), (4, "hai  chỗ"), (5, "e\u{302}")] {
        let grounds =
            Change { field: GROUNDS, element: vec![], value: grounds.as_bytes().to_vec(), overwrites: vec![] };
        let change = Change { field: field::NOTE, element: vec![], value: value(field::NOTE, "x"), overwrites: vec![] };
        let edit = command(request(1, counter), EditKind::Change, record, false, vec![grounds, change]);
        let (code, text) = refusal(office.edit(edit));
        assert!(code == RefusalCode::Invalid && text.starts_with("grounds: "), "{text}");
    }
}

#[test]
fn a_list_of_places_is_written_whole_or_not_at_all() {
    let mut office = Office::new(1);
    let node = |node: u64, present| {
        PlaceEntry::Node(NodeEntry { node: NodeId(node), address: "127.0.0.1:1".into(), present, level_max: 1 })
    };
    assert!(matches!(office.run(Command::Place(vec![node(1, true), node(2, true)])), Answer::Done(_)));
    assert!(matches!(office.run(Command::Place(vec![node(2, false)])), Answer::Done(_)));
    let before = office.state.0.clone();
    for list in [vec![node(3, true), node(2, true)], vec![node(1, false), node(1, true)]] {
        assert_eq!(refusal(office.run(Command::Place(list))).0, RefusalCode::Exists);
        assert_eq!(office.state.0, before);
    }
}

#[test]
fn an_edit_over_values_that_a_colleague_replaced_is_told_what_moved_and_shown_no_value() {
    let mut office = Office::new(1);
    let record = office.create(request(1, 1), "Lê//An");
    let seen = office.record(record).dots(&(field::NAME, vec![]));
    accepted(office.set(request(2, 1), record, field::NAME, "Lê/Thị/An"));
    let change =
        Change { field: field::NAME, element: vec![], value: value(field::NAME, "Lê/Văn/An"), overwrites: seen };
    let before = office.state.0.clone();
    let answer =
        office.run(Command::Edit(Box::new(command(request(1, 2), EditKind::Change, record, false, vec![change]))));
    let Answer::Stale(stale) = answer else { panic!("{answer:?}") };
    let key = (field::NAME, vec![]);
    let dots = office.record(record).dots(&key);
    assert_eq!(stale, Stale { record, fields: vec![Moved { key, dots }], more: 0 });
    // Whoever names nothing that he saw sees nothing either.
    let probe = |field| Change { field, element: vec![], value: value(field, "Lê/Văn/An"), overwrites: vec![] };
    let probe = command(request(1, 3), EditKind::Change, record, false, vec![probe(field::NAME)]);
    let answer = office.run(Command::Edit(Box::new(probe)));
    let bytes = answer.to_bytes();
    let values: Vec<Vec<u8>> = office
        .record(record)
        .fields()
        .flat_map(|(_, values)| values.iter().map(|tagged| tagged.value.clone()))
        .collect();
    assert!(matches!(answer, Answer::Stale(_)) && !values.is_empty());
    for value in values.into_iter().filter(|value| value.len() > 4) {
        assert!(!bytes.windows(value.len()).any(|window| window == value), "an answer holds a value");
    }
    assert_eq!(office.state.0, before);
}

#[test]
fn whoever_has_no_right_is_refused_and_nothing_changes() {
    let mut office = Office::new(1);
    let before = office.state.0.clone();
    for (role, unit) in [(Role::Auditor, PATH[3]), (Role::Operator, PATH[3]), (Role::Registrar, UnitId(99))] {
        let mut edit = create_command(request(1, 1), "Lê//An");
        edit.origin.claims = claims(role, unit);
        assert_eq!(refusal(office.run(Command::Edit(Box::new(edit)))).0, RefusalCode::Denied);
    }
    assert_eq!(office.state.0, before);
}

#[test]
fn bad_input_is_refused_with_what_to_do() {
    let mut office = Office::new(1);
    let record = office.create(request(1, 1), "Lê//An");
    let before = office.state.0.clone();
    let mut try_part = |record, create, changes: Vec<Change>| {
        let edit = command(request(1, 2), EditKind::Change, record, create, changes);
        refusal(office.run(Command::Edit(Box::new(edit))))
    };
    let change = |field, value: &[u8]| Change { field, element: vec![], value: value.to_vec(), overwrites: vec![] };
    let note = field::NOTE;
    assert_eq!(try_part(RecordId([9; 16]), false, vec![change(note, b"x")]).0, RefusalCode::Unknown);
    assert_eq!(try_part(RecordId([9; 16]), true, vec![change(note, b"x")]).0, RefusalCode::Invalid);
    assert_eq!(try_part(record, false, vec![]).0, RefusalCode::Invalid);
    assert_eq!(try_part(record, false, vec![change(note, b"x"), change(note, b"y")]).0, RefusalCode::Invalid);
    assert_eq!(try_part(record, false, vec![change(note, &[0xff])]).0, RefusalCode::Invalid);
    assert_eq!(try_part(record, false, vec![change(note, &vec![b'x'; 10 << 20])]).0, RefusalCode::Invalid);
    assert_eq!(try_part(record, false, vec![change(field::HEAD, b"x")]).0, RefusalCode::Invalid);
    let (code, text) = try_part(record, false, vec![change(field::BIRTH_DATE, b"SECRET-02-30")]);
    assert_eq!(code, RefusalCode::Invalid);
    assert!(text.contains("birth_date") && !text.contains("SECRET"), "names the field, hides the value: {text}");
    assert_eq!(try_part(record, false, vec![change(GROUNDS, b"why"), change(note, b"x")]).0, RefusalCode::Level);
    assert_eq!(office.state.0, before);
}

#[test]
fn a_record_has_a_bound_at_its_authors_door_and_none_in_a_merge() {
    let (mut here, mut there) = (Office::new(1), Office::new(2));
    let record = here.create(request(1, 1), "Lê//An");
    there.merge(here.site, here.stream(), 1);
    let attach = |number: u64| {
        command(request(1, 10 + number), EditKind::Change, record, false, papers(&format!("paper-{number}"), 16))
    };
    let mut taken = (0..8).take_while(|number| match here.edit(attach(*number)) {
        Answer::Accepted(_) => true,
        Answer::Refused(refusal) => {
            assert!(refusal.code == RefusalCode::Rule && refusal.text.contains("may take 65536"), "{refusal:?}");
            false
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(taken.by_ref().count(), 3);
    let before = here.state.0.clone();
    assert_eq!(refusal(here.edit(attach(9))).0, RefusalCode::Rule);
    assert_eq!(here.state.0, before);

    // Another office filled it too meanwhile: both are taken, whichever came first, and it can be made smaller again.
    for number in 4..7 {
        let papers = papers(&format!("paper-{}", 10 + number), 16);
        let edit = command(request(2, number), EditKind::Change, record, false, papers);
        accepted(there.edit(edit));
    }
    here.merge(there.site, there.stream(), 1);
    there.merge(here.site, here.stream(), 1);
    assert_eq!(here.shard().state_digest, there.shard().state_digest);
    assert!(here.record(record).to_bytes().len() > 100_000);
    let element = b"paper-0-00".to_vec();
    let overwrites = here.record(record).dots(&(field::DOCUMENT, element.clone()));
    let smaller = Change { field: field::DOCUMENT, element, value: value(field::DOCUMENT, "kind=x"), overwrites };
    accepted(here.edit(command(request(1, 30), EditKind::Change, record, false, vec![smaller])));
}

#[test]
fn kinds_that_are_reserved_are_refused() {
    let mut office = Office::new(1);
    let mut edit = create_command(request(1, 1), "Lê//An");
    edit.kind = EditKind::Move;
    assert_eq!(refusal(office.run(Command::Edit(Box::new(edit)))).0, RefusalCode::Level);
}

#[test]
fn an_edit_that_would_break_a_rule_is_refused_and_a_merge_that_breaks_it_is_a_conflict() {
    let (mut here, mut there) = (Office::new(1), Office::new(2));
    let record = here.create(request(1, 1), "Lê//An");
    accepted(here.set(request(1, 2), record, field::BIRTH_DATE, "1975-03-02"));
    let (code, text) = refusal(here.set(request(1, 3), record, field::DEATH_DATE, "1970-01-01"));
    assert!(code == RefusalCode::Rule && text.contains("death_before_birth"), "{text}");

    there.merge(here.site, here.stream(), 1);
    accepted(here.set(request(1, 4), record, field::BIRTH_DATE, "1985-03-02"));
    accepted(there.set(request(2, 1), record, field::DEATH_DATE, "1980-01-01"));
    there.merge(here.site, here.stream(), 2);
    assert_eq!(there.shard().conflicts, 1);
}

#[test]
fn a_command_of_many_parts_enters_whole_or_not_at_all() {
    let mut office = Office::new(1);
    let mut edit = create_command(request(1, 1), "Lê//An");
    let mut second = edit.parts[0].clone();
    second.record = RecordId::derive(request(1, 1), 1);
    edit.parts.push(second.clone());
    let mut broken = edit.clone();
    broken.parts[1].changes[0].value = vec![0xff];
    assert_eq!(refusal(office.run(Command::Edit(Box::new(broken)))).0, RefusalCode::Invalid);
    assert_eq!(office.shard().arrivals, 0);
    let accepted = accepted(office.run(Command::Edit(Box::new(edit))));
    assert_eq!((accepted.receipt.first.counter, accepted.receipt.count), (1, 2));
    assert_eq!((office.shard().persons, office.shard().arrivals), (2, 2));
}

#[test]
fn concurrent_legal_values_are_a_conflict_until_decided_and_latest_ones_are_not() {
    let (mut here, mut there) = (Office::new(1), Office::new(2));
    let record = here.create(request(1, 1), "Lê//An");
    there.merge(here.site, here.stream(), 1);
    accepted(here.set(request(1, 2), record, field::SEX, "male"));
    accepted(there.set(request(2, 1), record, field::SEX, "female"));
    accepted(here.set(request(1, 3), record, field::MOBILE_NUMBER, "0912345678"));
    accepted(there.set(request(2, 2), record, field::MOBILE_NUMBER, "0987654321"));
    let (to_there, to_here) = (here.stream(), there.stream());
    there.merge(here.site, to_there, 2);
    here.merge(there.site, to_here, 2);
    assert_eq!((here.shard().conflicts, there.shard().conflicts), (1, 1));
    assert_eq!(here.records(), there.records().into_iter().map(|(k, r)| (swap_group(k, &here), r)).collect::<Vec<_>>());
    assert_eq!(here.shard().state_digest, there.shard().state_digest);

    let grounds_missing = here.set(request(1, 4), record, field::SEX, "female");
    accepted(grounds_missing);
    assert_eq!(here.shard().conflicts, 0, "an edit that saw both values settles the field too");
    let (code, _) = refusal(here.decide(request(1, 5), record, field::SEX, "female"));
    assert_eq!(code, RefusalCode::Unknown, "nothing is left to decide");
    accepted(there.decide(request(2, 3), record, field::SEX, "female"));
    let to_there = here.stream();
    there.merge(here.site, to_there, 3);
    assert_eq!(there.shard().conflicts, 0, "both offices decided alike");
}

fn swap_group(mut key: Vec<u8>, office: &Office) -> Vec<u8> {
    key[..8].copy_from_slice(&office.context.group.0.to_be_bytes());
    key
}

#[test]
fn a_batch_is_taken_only_where_the_cursor_stands_and_twice_is_harmless() {
    let (mut here, mut there) = (Office::new(1), Office::new(2));
    let record = here.create(request(1, 1), "Lê//An");
    let first = here.stream();
    accepted(here.set(request(1, 2), record, field::SEX, "male"));
    let mut second = here.stream();
    second.items.remove(0);
    second.start = first.end;
    assert!(!there.merge(here.site, second.clone(), 1).taken, "the cursor is not there yet");
    assert!(there.merge(here.site, first.clone(), 1).taken);
    assert!(there.merge(here.site, second.clone(), 1).taken);
    let before = there.shard();
    assert!(!there.merge(here.site, second, 1).taken, "the cursor has moved on");
    let again = there.merge(here.site, first, 1);
    assert_eq!((again.folded, again.known), (0, 1), "a beginning may come again");
    assert_eq!(there.shard(), before);
}

#[test]
fn a_broken_chain_parks_its_author_and_nobody_else() {
    let (mut bad, mut good, mut there) = (Office::new(1), Office::new(2), Office::new(3));
    let record = bad.create(request(1, 1), "Lê//An");
    accepted(bad.set(request(1, 2), record, field::SEX, "male"));
    good.create(request(2, 1), "Lê//Bình");
    let mut batch = bad.stream();
    batch.items.extend(good.stream().items);
    batch.secrets.extend(good.stream().secrets);
    // It gives its word for two edits that do not follow on each other.
    batch.items.remove(0);
    seal_all(&mut batch);
    let merged = there.merge(bad.site, batch, 1);
    assert!(merged.taken);
    assert_eq!(merged.parked, [bad.shard().own.id()], "{merged:?}");
    assert_eq!((merged.folded, there.shard().persons), (1, 1));
}

#[test]
fn both_branches_of_a_fork_stay_with_their_receipts_and_are_called_alike_everywhere() {
    let (mut commune, mut district) = (Office::new(1), Office::new(2));
    let record = commune.create(request(1, 1), "Lê//An");
    let backup = commune.clone();
    accepted(commune.set(request(1, 2), record, field::SEX, "male"));
    accepted(commune.set(request(1, 3), record, field::NOTE, "as told"));
    district.merge(commune.site, commune.stream(), 1);

    let mut restored = backup;
    let old_author = restored.shard().own.id();
    let number = Change {
        field: field::MOBILE_NUMBER,
        element: vec![],
        value: value(field::MOBILE_NUMBER, "0912345678"),
        overwrites: vec![],
    };
    let add_phone = command(request(7, 1), EditKind::Change, record, false, vec![number]);
    let phone = accepted(restored.edit(add_phone.clone()));
    let fork = Dot { actor: old_author, counter: 2 };
    assert_eq!(phone.receipt.first, fork, "the number that the district knows otherwise");
    let merged = restored.merge(district.site, district.stream(), 2);
    assert!(merged.taken && merged.parked.is_empty(), "{merged:?}");
    assert_ne!(restored.shard().own.id(), old_author, "it numbers nothing more under that incarnation");
    district.merge(restored.site, restored.stream(), 3);

    let retry = accepted(restored.edit(add_phone));
    assert!(retry.replayed);
    assert_eq!(retry.receipt.hash, phone.receipt.hash, "the edit is the same,");
    assert_eq!(retry.receipt.first, fork, "and so is what its author called it,");
    let alias = Dot { actor: alias_id(old_author, &phone.receipt.hash), counter: 2 };
    for office in [&restored, &district] {
        let dots = office.record(record).dots(&(field::MOBILE_NUMBER, vec![]));
        assert_eq!(dots, std::slice::from_ref(&alias), "though not its name");
        let name = Names::new(&office.state, office.keys(), SHARD).of(&fork, &phone.receipt.hash).unwrap();
        assert_eq!(name, alias);
        assert_eq!(office.record(record).dots(&(field::NOTE, vec![])), [Dot { actor: old_author, counter: 3 }]);
        for field in [field::SEX, field::NOTE, field::MOBILE_NUMBER] {
            assert_eq!(office.record(record).values(&(field, vec![])).len(), 1);
        }
    }
    let heads = restored.here().heads(SHARD).unwrap();
    assert_eq!(heads.values().map(|(number, _)| *number).collect::<BTreeSet<_>>(), BTreeSet::from([2, 3]));
    assert_eq!(
        (heads[&old_author].0, heads[&alias.actor]),
        (3, (2, phone.receipt.hash)),
        "the longest has its author's id"
    );
    assert_eq!(heads, district.here().heads(SHARD).unwrap());
    assert_eq!(restored.shard().state_digest, district.shard().state_digest);
    assert_eq!(restored.shard().edits_digest, district.shard().edits_digest);
}

#[test]
fn what_a_neighbour_lacks_of_a_forked_chain_is_counted_from_the_fork() {
    let (mut commune, mut district) = (Office::new(1), Office::new(2));
    let record = commune.create(request(1, 1), "Lê//An");
    let backup = commune.clone();
    accepted(commune.set(request(1, 2), record, field::SEX, "male"));
    accepted(commune.set(request(1, 3), record, field::NOTE, "as told"));
    district.merge(commune.site, commune.stream(), 1);
    let lacks = |who: &Office, of: &Office| of.here().edits_above(SHARD, &who.here().heads(SHARD).unwrap()).unwrap();
    assert_eq!((lacks(&district, &commune), lacks(&backup, &commune)), (0, 2));

    let mut restored = backup;
    accepted(restored.set(request(7, 1), record, field::MOBILE_NUMBER, "0912345678"));
    assert_eq!(lacks(&district, &restored), 2, "another number 3: who knows what is common before they have spoken?");
    let mine = restored.shard().own.id();
    let holds = |who: &Office, of: &Office, actor, counter| {
        let held = of.here().known_to_hold(SHARD, &who.here().heads(SHARD).unwrap()).unwrap();
        held.covers(&Dot { actor, counter })
    };
    assert!(!holds(&district, &restored, mine, 2), "it has another edit of that name");
    restored.merge(district.site, district.stream(), 2);
    let known = authors(&restored.state, restored.keys(), SHARD).unwrap();
    let first = tips(&known)[&mine].0;
    assert!(holds(&district, &restored, first, 3) && holds(&district, &restored, mine, 1), "whatever it calls them");
    assert_eq!(lacks(&district, &restored), 1, "two branches above number 1, one of them there under an older name");
    accepted(restored.set(request(7, 2), record, field::NOTE, "by phone"));
    assert_eq!((lacks(&district, &restored), lacks(&restored, &district)), (2, 0));
    assert_eq!(lacks(&Office::new(3), &restored), restored.shard().arrivals);
    district.merge(restored.site, restored.stream(), 3);
    assert_eq!(lacks(&district, &restored), 0);
}

#[test]
fn an_edit_over_a_number_that_two_branches_have_replaces_what_its_author_can_have_meant_or_nothing() {
    let (mut commune, mut district) = (Office::new(1), Office::new(2));
    let record = commune.create(request(1, 1), "Lê//An");
    let backup = commune.clone();
    accepted(commune.set(request(1, 2), record, field::NOTE, "first life"));
    accepted(commune.set(request(1, 3), record, field::SEX, "male"));
    district.merge(commune.site, commune.stream(), 1);
    accepted(district.set(request(2, 1), record, field::NOTE, "district"));
    accepted(district.set(request(2, 2), record, field::SEX, "female"));

    let mut restored = backup;
    accepted(restored.set(request(7, 1), record, field::NOTE, "second life"));
    accepted(restored.set(request(7, 2), record, field::NOTE, "second life, again"));
    restored.merge(district.site, district.stream(), 2);
    district.merge(restored.site, restored.stream(), 3);
    assert_eq!(restored.record(record), district.record(record));
    let values = |field| district.record(record).values(&(field, vec![])).len();
    assert_eq!(values(field::SEX), 1, "only one branch wrote the sex under number 3");
    assert_eq!(values(field::NOTE), 3, "both wrote a note under number 2: the first life's, the district's, the last");
}

#[test]
fn the_secret_of_a_session_that_went_on_after_a_restore_is_another_and_both_are_kept() {
    let (mut commune, mut district) = (Office::new(1), Office::new(2));
    let record = commune.create(request(1, 1), "Lê//An");
    let mut backup = commune.clone();
    backup.skip_chance(100);
    let lives = [&mut commune, &mut backup].map(|life| {
        for counter in 2..5 {
            accepted(life.set(request(9, counter), record, field::NOTE, &format!("note {counter}")));
        }
        life.stream()
    });
    assert_ne!(lives[0].secrets, lives[1].secrets);
    for life in lives {
        district.merge(commune.site, life, 1);
    }
    let state = district.shard();
    let (mut start, mut scanned, mut third) = (Cursor::start(state.epoch), 0, Office::new(3));
    let mut batches = 0;
    while scanned < state.arrivals {
        let (batch, position) = district.batch(start, scanned, &Skip::default(), usize::MAX);
        (start, scanned, batches) = (batch.end, position, batches + 1);
        assert!(third.merge(district.site, batch, 1).taken);
    }
    assert_eq!(batches, 2, "a batch has one secret per session");
    assert_eq!(third.here().heads(SHARD).unwrap(), district.here().heads(SHARD).unwrap());
    assert_eq!(third.shard().state_digest, district.shard().state_digest);
}

#[test]
fn every_read_is_chained_in_the_access_log_the_refused_ones_too() {
    let mut office = Office::new(1);
    let entry = |role, unit| AccessEntry {
        claims: claims(role, unit),
        purpose: dinhba_core::claims::Purpose::Verification,
        case: "XM-1".parse().unwrap(),
        looked: Looked::Record,
        shard: Some(SHARD),
        subject: [5; 16],
        at_ms: 7,
    };
    let entries =
        vec![entry(Role::Registrar, PATH[1]), entry(Role::Registrar, UnitId(50)), entry(Role::Operator, PATH[0])];
    let answer = office.run(Command::Access(entries));
    assert_eq!(answer, Answer::Access(vec![true, false, false]));
    let group: dinhba_core::registry::GroupState = read(&office.state, &office.keys().group()).unwrap().unwrap();
    let mut hash = Default::default();
    for number in 1..=3 {
        let logged: dinhba_core::access_log::LoggedAccess =
            read(&office.state, &office.keys().access(number)).unwrap().unwrap();
        hash = dinhba_core::registry::next_access_hash(&hash, &logged.entry, logged.allowed);
        assert_eq!(hash, logged.hash);
    }
    assert_eq!((group.access_count, group.access_hash), (3, hash));
}

#[test]
fn the_access_log_of_a_group_is_for_those_who_may_see_all_of_it() {
    let mut office = Office::new(1);
    let (near, far) = (PATH, [PATH[0], PATH[1], UnitId(30), UnitId(40)]);
    let info = ShardInfo { shard: ShardId(78), path: far.to_vec() };
    office.run(Command::Adopt(Adopt { info, incarnation: Incarnation([8; 16]), epoch: [8; 16] }));
    let mut look = |unit, looked| {
        let entry = AccessEntry {
            claims: claims(if looked == Looked::AccessLog { Role::Auditor } else { Role::Registrar }, unit),
            purpose: dinhba_core::claims::Purpose::Inspection,
            case: "AU-1".parse().unwrap(),
            looked,
            shard: None,
            subject: [0; 16],
            at_ms: 7,
        };
        office.run(Command::Access(vec![entry]))
    };
    assert_eq!(look(near[3], Looked::Find), Answer::Access(vec![true]));
    assert_eq!(look(near[3], Looked::AccessLog), Answer::Access(vec![false]), "the neighbour commune's is in it too");
    assert_eq!(look(near[1], Looked::AccessLog), Answer::Access(vec![true]));
}

#[test]
fn an_entry_of_too_many_commands_is_refused_whole_and_the_next_is_taken() {
    let mut office = Office::new(1);
    let before = office.state.0.clone();
    let renewals = |count| {
        let commands = vec![Command::Raise(Raise { level: 2, now_ms: 1 }); count];
        Proposal { at_ms: 1, commands }.to_bytes()
    };
    let entries = [(10, renewals(COMMANDS_MAX + 1)), (11, renewals(0))];
    let (answers, batch) = apply(&office.state, &office.context, &entries).unwrap();
    let answers = Vec::<Answer>::from_bytes(&answers[0]).unwrap();
    assert_eq!(answers.len(), COMMANDS_MAX + 1, "each caller is told");
    for answer in answers {
        let (code, text) = refusal(answer);
        assert!(code == RefusalCode::Invalid && text.contains("nothing of this one was done"), "{text}");
    }
    assert!(batch.writes.is_empty());
    assert_eq!(office.state.0, before);
    let (answers, _) = apply(&office.state, &office.context, &[(10, renewals(COMMANDS_MAX))]).unwrap();
    assert!(Vec::<Answer>::from_bytes(&answers[0]).unwrap().iter().all(|answer| matches!(answer, Answer::Done(_))));
    office.create(request(1, 1), "Lê//An");
}

/// So many documents with long texts, of some 1,100 bytes each.
fn papers(name: &str, count: usize) -> Vec<Change> {
    let long = |chars: usize| "ế".repeat(chars);
    let text = format!("kind={}; number={}; issued_by={}", long(100), long(50), long(200));
    let paper = |number: usize| Change {
        field: field::DOCUMENT,
        element: format!("{name}-{number:02}").into_bytes(),
        value: value(field::DOCUMENT, &text),
        overwrites: vec![],
    };
    (0..count).map(paper).collect()
}

/// A command of `parts` persons, each with papers that fill most of an edit.
fn large(request: RequestId, parts: u32) -> EditCommand {
    let mut edit = create_command(request, "Lê//An");
    let part = edit.parts.remove(0);
    edit.parts =
        (0..parts).map(|place| PartDraft { record: RecordId::derive(request, place), ..part.clone() }).collect();
    for part in &mut edit.parts {
        part.changes.extend(papers("paper", 54));
    }
    edit
}

#[test]
fn a_command_that_no_batch_could_carry_is_refused_here_and_if_it_comes_from_elsewhere() {
    let mut office = Office::new(1);
    let before = office.state.0.clone();
    let (code, text) = refusal(office.edit(large(request(1, 1), 5)));
    assert!(code == RefusalCode::Invalid && text.contains("split it"), "{text}");
    assert_eq!(office.state.0, before);

    // Two commands that are right, told as one by a neighbour that does not keep the bound.
    accepted(office.edit(large(request(1, 1), 3)));
    let mut other = Office::new(2);
    let mut batch = office.stream();
    let secret = batch.secrets[0].2;
    let (mut number, mut previous) = (0, Default::default());
    let edits: Vec<Edit> = batch.items.iter().map(|item| Edit::from_bytes(&item.bytes).unwrap()).collect();
    batch.items = edits
        .iter()
        .chain(&edits)
        .map(|edit| {
            let mut edit = edit.clone();
            (edit.header.part, edit.header.of) = (number, 6);
            number += 1;
            (edit.header.number, edit.header.previous) = (u64::from(number), previous);
            previous = edit.hash(&secret);
            Item { dot: edit.dot(), bytes: edit.to_bytes() }
        })
        .collect();
    seal_all(&mut batch);
    let merged = other.merge(office.site, batch, 1);
    assert_eq!((merged.refused, other.shard().arrivals), (Some(office.shard().own.id()), 0));
    assert_eq!(other.merge(office.site, office.stream(), 2).folded, 3, "what keeps the bound is taken");
}

#[test]
fn a_stream_is_read_in_batches_that_split_no_command() {
    let mut office = Office::new(1);
    for counter in 1..=20 {
        let mut edit = create_command(request(1, counter), "Lê//An");
        for part in 1..5 {
            let mut more = edit.parts[0].clone();
            more.record = RecordId::derive(request(1, counter), part);
            edit.parts.push(more);
        }
        accepted(office.run(Command::Edit(Box::new(edit))));
    }
    let state = office.shard();
    let (mut start, mut scanned, mut seen) = (Cursor::start(state.epoch), 0, 0);
    while scanned < state.arrivals {
        let skip = Skip::default();
        let (batch, position) = office.batch(start, scanned, &skip, 1);
        assert_eq!(batch.items.len(), 5);
        (start, scanned, seen) = (batch.end, position, seen + batch.items.len());
    }
    assert_eq!(seen, 100);
}

#[test]
fn an_archive_is_put_back_up_to_a_time_and_only_if_every_hash_is_as_it_says() {
    let mut office = Office::new(1);
    let record = office.create(request(1, 1), "Lê//An");
    for counter in 2..=9 {
        accepted(office.set(request(1, counter), record, field::NOTE, &format!("note {counter}")));
    }
    let entry = AccessEntry {
        claims: claims(Role::Operator, PATH[3]),
        purpose: dinhba_core::claims::Purpose::Maintenance,
        case: "BK-1".parse().unwrap(),
        looked: Looked::Backup,
        shard: None,
        subject: [0; 16],
        at_ms: 5,
    };
    assert_eq!(office.run(Command::Access(vec![entry.clone()])), Answer::Access(vec![true]));
    let neighbour = AccessEntry { claims: claims(Role::Operator, UnitId(99)), ..entry };
    assert_eq!(office.run(Command::Access(vec![neighbour])), Answer::Access(vec![false]), "not an operator of here");
    let mut archive = Vec::new();
    office.back_up(&mut archive);
    // A request's counter is its time here.
    for (until, edits) in [(0, 0), (1, 1), (6, 6), (9, 9), (99, 9)] {
        let again = office.founded_from(&archive, Some(until)).unwrap();
        assert_eq!((again.shard().arrivals, again.summary().accesses), (edits, 2), "until {until}");
    }
    let notes = |office: &Office| office.record(record).dots(&(field::NOTE, vec![])).len();
    assert_eq!(notes(&office.founded_from(&archive, Some(1)).unwrap()), 0);

    let spoil = |spoil: &dyn Fn(&mut Piece, &mut Content)| {
        let mut archive = archive.clone();
        archive.iter_mut().for_each(|(piece, content)| spoil(piece, content));
        office.founded_from(&archive, None).map(|_| ()).unwrap_err().to_string()
    };
    let with_edits = |change: &dyn Fn(&mut Edits)| {
        spoil(&|_, content| {
            if let Content::Edits(edits) = content {
                change(edits);
            }
        })
    };
    assert!(with_edits(&|edits| drop(edits.items.remove(3))).contains("does not follow on those before it"));
    assert!(with_edits(&|edits| edits.items.swap(3, 4)).contains("does not follow on those before it"));
    assert!(with_edits(&|edits| drop(edits.items.pop())).contains("do not lead to position 9"));
    assert!(with_edits(&|edits| edits.secrets[0].2[5] ^= 1).contains("does not follow on those before it"));
    assert!(with_edits(&|edits| edits.secrets.clear()).contains("no secret"));
    assert!(with_edits(&|edits| edits.sources.clear()).contains("without a source"));
    assert!(with_edits(&|edits| edits.items[2].bytes.truncate(9)).contains("malformed"));
    assert!(spoil(&|piece, _| piece.after += 1).contains("where 1 is next"));
    assert!(spoil(&|piece, _| piece.hash.0[1] ^= 1).contains("with the hash that it says"));
    let accesses = spoil(&|_, content| {
        if let Content::Accesses(accesses) = content {
            accesses[0].entry.at_ms += 1;
        }
    });
    assert!(accesses.contains("entry 1 does not follow on the one before it"), "{accesses}");
}
