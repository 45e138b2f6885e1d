//! What belongs to a shard begins with it: a shard is taken to another store by its range and the group's entry of it.

use std::collections::BTreeMap;

use crate::memory::{Memory, Office, PATH, SHARD, accepted, command, create_command, refusal, request, value};
use crate::orders::{Crowd, draft, forge, order, site};
use dinhba_core::command::{Adopt, Answer, Command, EditCommand, RefusalCode, ShardInfo, Statement};
use dinhba_core::digest::Digest;
use dinhba_core::edit::{Change, EditKind};
use dinhba_core::ids::{Incarnation, RecordId, ShardId, SiteId};
use dinhba_core::keys::{Space, own_suffix, space_of};
use dinhba_core::record::Record;
use dinhba_core::registry::{Arrival, ShardState, StoredEdit, homes, read, read_range, record_of, signposts_of};
use dinhba_core::schema::field;
use dinhba_core::store::{Batch, StateView};
use proptest::prelude::*;

const SECOND: ShardId = ShardId(78);

fn adopt_second(office: &mut Office) {
    let info = ShardInfo { shard: SECOND, path: PATH.to_vec() };
    office.run(Command::Adopt(Adopt { info, incarnation: Incarnation([5; 16]), epoch: [5; 16] }));
}

fn in_second(command: EditCommand) -> EditCommand {
    EditCommand { shard: SECOND, ..command }
}

/// The same group with one of its shards, made from that one's range and the group's entry of it.
fn moved(office: &Office, shard: ShardId) -> Office {
    let (keys, mut there) = (office.keys(), office.clone());
    there.state = Memory::default();
    let mut copied = Batch::default();
    let (from, to) = keys.of_shard(shard);
    office.state.scan(&from, &to).for_each(|item| {
        let (key, bytes) = item.unwrap();
        copied.put(key, bytes);
    });
    for key in [keys.group(), keys.shard(shard)] {
        copied.put(key.clone(), office.state.get(&key).unwrap().unwrap());
    }
    there.state.write(copied);
    let signs = signposts_of(&there.state, &office.context, shard).unwrap();
    there.state.write(signs);
    there
}

/// The shard that a key is of, or speaks of.
fn shard_of(key: &[u8]) -> Option<ShardId> {
    let number = |bytes: &[u8]| Some(ShardId(u64::from_be_bytes(*bytes.first_chunk()?)));
    match space_of(key)? {
        space if space >= Space::Author as u8 => number(&key[9..]),
        space if space == Space::Shard as u8 => number(own_suffix(key, 0)),
        space if space == Space::Term as u8 => number(own_suffix(key, 8)),
        space if space == Space::Expiry as u8 => number(own_suffix(key, 4)),
        _ => None,
    }
}

/// What the group of `office` holds of a shard, its signposts too.
fn held(office: &Office, shard: ShardId) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let of_shard = |(key, _): &(&Vec<u8>, &Vec<u8>)| shard_of(key) == Some(shard);
    office.state.0.iter().filter(of_shard).map(|(key, bytes)| (key.clone(), bytes.clone())).collect()
}

/// Digests and counts that come of the shard's edits and records are those that it says.
fn assert_adds_up(office: &Office, shard: ShardId) {
    let (keys, context) = (office.keys(), &office.context);
    let state: ShardState = read(&office.state, &keys.shard(shard)).unwrap().unwrap();
    let (mut edits, mut records) = (Digest::default(), Digest::default());
    let arrivals: Vec<(Vec<u8>, Arrival)> = read_range(&office.state, keys.arrivals(shard, 1)).unwrap();
    assert_eq!(arrivals.len() as u64, state.arrivals);
    for (_, arrival) in arrivals {
        let stored: StoredEdit = read(&office.state, &keys.edit(shard, &arrival.dot)).unwrap().unwrap();
        edits.add(Digest::of(&context.digest_key.secret, &stored.hash.0));
    }
    let (from, to) = keys.records(shard);
    for item in office.state.scan(&from, &to) {
        let (key, bytes) = item.unwrap();
        let id = record_of(&key).unwrap();
        records.add(Digest::of(&context.digest_key.secret, &[&id.0[..], &bytes].concat()));
        assert_eq!(homes(&office.state, keys, id).unwrap(), [shard]);
    }
    assert_eq!((edits, records), (state.edits_digest, state.state_digest));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_shard_is_whole_where_its_range_and_the_groups_entry_of_it_are(
        drafts in prop::collection::vec(draft(Crowd::Sites), 1..14),
        wishes in prop::collection::vec(any::<u32>(), 14),
        names in prop::collection::vec(0..3_u8, 1..6),
    ) {
        let all = forge(&drafts);
        let mut office = site(&all, &order(&all, &wishes), &[2], 1);
        adopt_second(&mut office);
        // One session works in both shards.
        let births: Vec<EditCommand> = names.iter().zip(1..).map(|(name, counter)| {
            let birth = create_command(request(1, counter), ["Lê//An", "Lê//Bình", "Lê//Chi"][usize::from(*name)]);
            if counter % 2 == 0 { in_second(birth) } else { birth }
        }).collect();
        let before = office.clone();
        for birth in &births {
            let (others, shard) = (if birth.shard == SHARD { SECOND } else { SHARD }, birth.shard);
            let untouched = held(&office, others);
            accepted(office.edit(birth.clone()));
            prop_assert_eq!(held(&office, others), untouched, "an edit of {} wrote elsewhere", shard);
        }
        prop_assert!(held(&office, SHARD) != held(&before, SHARD));
        for shard in [SHARD, SECOND] {
            let mut there = moved(&office, shard);
            prop_assert_eq!(held(&there, shard), held(&office, shard), "the signposts are made again as they were");
            assert_adds_up(&there, shard);
            assert_adds_up(&office, shard);
            // It goes on as the one that it was taken from.
            let mut here = office.clone();
            for birth in births.iter().filter(|birth| birth.shard == shard) {
                let again = accepted(there.edit(birth.clone()));
                prop_assert!(again.replayed);
                prop_assert_eq!(again, accepted(here.edit(birth.clone())));
            }
            let next = EditCommand { shard, secret: [4; 32], ..create_command(request(2, 1), "Lê//Dung") };
            let next = Command::Edit(Box::new(next));
            prop_assert_eq!(there.run(next.clone()), here.run(next));
            prop_assert_eq!(held(&there, shard), held(&here, shard));
        }
    }
}

#[test]
fn every_kind_of_command_of_a_shard_leaves_another_alone() {
    let (mut office, mut neighbour) = (Office::new(1), Office::new(2));
    adopt_second(&mut office);
    accepted(office.edit(in_second(create_command(request(3, 1), "Lê//An"))));
    let untouched = held(&office, SECOND);
    let record = office.create(request(1, 1), "Lê//An");
    let number = "001190000123";
    office.set(request(1, 2), record, field::PERSONAL_NUMBER, number);
    office.set(request(1, 3), record, field::NAME, "Lê//Bình");
    let other = neighbour.create(request(2, 1), "Lê//An");
    neighbour.set(request(2, 2), other, field::PERSONAL_NUMBER, number);
    office.merge(neighbour.site, neighbour.stream(), 1);
    let body = neighbour.here().statement(SHARD, neighbour.here().heads(SHARD).unwrap(), 1).unwrap().unwrap();
    office.run(Command::Keep(vec![Statement { body, signature: [5; 64] }]));
    office.raise();
    assert!(office.shard().conflicts > 0, "a number that two have");
    assert_eq!(held(&office, SECOND), untouched);
    let (keys, here) = (office.keys(), held(&office, SHARD));
    for of_shard in [
        keys.cursor(SHARD, SiteId(2)),
        keys.statement(SHARD, SiteId(2)),
        keys.seal(SHARD, office.shard().arrivals),
        keys.request(SHARD, request(1, 3)),
        keys.session(SHARD, request(1, 3).session),
    ] {
        assert!(here.contains_key(&of_shard), "{of_shard:?}");
    }
}

#[test]
fn a_signpost_stands_for_as_long_as_somebody_is_found_by_its_term() {
    let mut office = Office::new(1);
    let signs = |office: &Office| office.state.0.keys().filter(|key| space_of(key) == Some(Space::Term as u8)).count();
    let born = |counter, name: &str| {
        let mut birth = create_command(request(1, counter), name);
        let change =
            |field, text: &str| Change { field, element: vec![], value: value(field, text), overwrites: vec![] };
        birth.parts[0].changes.push(change(field::BIRTH_DATE, "1990-05-01"));
        birth.parts[0].changes.sort_by_key(|change| change.field);
        birth
    };
    for counter in [1, 2] {
        accepted(office.edit(born(counter, "Lê//An")));
    }
    let of_one_name = signs(&office);
    assert!(of_one_name > 0);
    let [first, second] = [1, 2].map(|counter| RecordId::derive(request(1, counter), 0));
    office.set(request(1, 3), first, field::NAME, "Trần//Bình");
    assert_eq!(signs(&office), 2 * of_one_name, "the other is still called so");
    office.set(request(1, 4), second, field::NAME, "Trần//Bình");
    assert_eq!(signs(&office), of_one_name, "nobody is any more");
}

#[test]
fn a_requests_name_counts_within_its_shard_and_no_record_is_made_in_two() {
    let mut office = Office::new(1);
    adopt_second(&mut office);
    let here = office.create(request(1, 1), "Lê//An");
    accepted(office.edit(in_second(create_command(request(2, 1), "Lê//Bình"))));
    let (code, text) = refusal(office.edit(in_second(create_command(request(1, 1), "Lê//An"))));
    assert!(code == RefusalCode::Exists && text.contains("for another shard"), "{text}");

    let there = RecordId::derive(request(2, 1), 0);
    let note = |shard, record, text: &str| {
        let change =
            Change { field: field::NOTE, element: vec![], value: value(field::NOTE, text), overwrites: vec![] };
        EditCommand { shard, ..command(request(1, 2), EditKind::Change, record, false, vec![change]) }
    };
    let (one, other) = (note(SHARD, here, "here"), note(SECOND, there, "there"));
    let told = [accepted(office.edit(one.clone())), accepted(office.edit(other.clone()))];
    let again = [one, other].map(|command| accepted(office.edit(command)));
    assert_eq!(again.clone().map(|accepted| accepted.receipt), told.map(|accepted| accepted.receipt));
    assert!(again.iter().all(|accepted| accepted.replayed), "each shard answers with its own receipt");
    let noted: Record = read(&office.state, &office.keys().record(SECOND, there)).unwrap().unwrap();
    assert_eq!(noted.dots(&(field::NOTE, Vec::new())).len(), 1);
    let (code, text) = refusal(office.edit(note(SHARD, here, "something else")));
    assert!(code == RefusalCode::Exists && text.contains("other content"), "{text}");
    assert!(matches!(office.edit(note(SECOND, here, "here")), Answer::Refused(_)));
}
