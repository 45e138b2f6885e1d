//! Whose a personal number is.

use crate::memory::{Office, PATH, SHARD, accepted, claims, command, create_command, request, value};
use dinhba_core::claims::Role;
use dinhba_core::command::{Adopt, Command, ConflictEntry, ConflictKey, Nothing, ShardInfo};
use dinhba_core::edit::{Change, EditKind};
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{Incarnation, RecordId, ShardId, UnitId};
use dinhba_core::keys::suffix;
use dinhba_core::registry::{ShardState, read, read_range};
use dinhba_core::schema::field;

/// The conflicts of a shard, by record.
fn open_conflicts(office: &Office) -> Vec<(RecordId, ConflictKey)> {
    conflicts_in(office, SHARD)
}

fn conflicts_in(office: &Office, shard: ShardId) -> Vec<(RecordId, ConflictKey)> {
    let found: Vec<(Vec<u8>, ConflictEntry)> = read_range(&office.state, office.keys().conflicts(shard, None)).unwrap();
    let named = found.iter().map(|(key, _)| {
        let record = RecordId(*suffix(key, 0).first_chunk().unwrap());
        (record, ConflictKey::from_bytes(suffix(key, 16)).unwrap())
    });
    named.collect()
}

#[test]
fn two_records_with_one_personal_number_are_a_conflict_at_both_until_one_has_it_no_more() {
    const NUMBER: &str = "001190000123";
    let numbered = |office: &mut Office, session, record| {
        accepted(office.set(request(session, 2), record, field::PERSONAL_NUMBER, NUMBER));
    };
    let (mut here, mut there) = (Office::new(1), Office::new(2));
    let (lan, hoa) = (here.create(request(1, 1), "Lê/Thị/Lan"), there.create(request(2, 1), "Lê/Thị/Hoa"));
    numbered(&mut here, 1, lan);
    numbered(&mut there, 2, hoa);
    assert_eq!((open_conflicts(&here), open_conflicts(&there)), (vec![], vec![]), "neither knows of the other");

    here.merge(there.site, there.stream(), 1);
    there.merge(here.site, here.stream(), 1);
    let twice = ConflictKey::Number(Nothing);
    let mut both = vec![(lan, twice.clone()), (hoa, twice)];
    both.sort();
    for office in [&here, &there] {
        assert_eq!((open_conflicts(office), office.shard().conflicts), (both.clone(), 2));
    }
    assert_eq!(here.shard().state_digest, there.shard().state_digest);

    // A third, and its number is cleared again; then the paper of the second says another.
    let third = here.create(request(1, 3), "Lê/Thị/Mai");
    accepted(here.set(request(1, 4), third, field::PERSONAL_NUMBER, NUMBER));
    assert_eq!(here.shard().conflicts, 3);
    let overwrites = here.record(third).dots(&(field::PERSONAL_NUMBER, Vec::new()));
    let clear = Change { field: field::PERSONAL_NUMBER, element: vec![], value: vec![], overwrites };
    accepted(here.edit(command(request(1, 5), EditKind::Change, third, false, vec![clear])));
    assert_eq!((open_conflicts(&here), here.shard().conflicts), (both, 2));
    accepted(here.decide(request(1, 6), hoa, field::PERSONAL_NUMBER, "001190000456"));
    assert_eq!((open_conflicts(&here), here.shard().conflicts), (vec![], 0));
    there.merge(here.site, here.stream(), 2);
    assert_eq!((open_conflicts(&there), there.shard().conflicts), (vec![], 0));
}

#[test]
fn two_communes_that_never_hear_of_each_other_are_told_by_their_district() {
    const NUMBER: &str = "001190000123";
    const OTHER: ShardId = ShardId(78);
    let mut district = Office::new(1);
    let info = ShardInfo { shard: OTHER, path: vec![PATH[0], PATH[1], PATH[2], UnitId(5)] };
    let (incarnation, epoch) = (Incarnation(district.random()), district.random());
    district.run(Command::Adopt(Adopt { info, incarnation, epoch }));
    let write = |district: &mut Office, session, shard, record: Option<RecordId>, number: &str| {
        let request = request(session, 1);
        let overwrites = record.map(|record| {
            let now: dinhba_core::record::Record =
                read(&district.state, &district.keys().record(shard, record)).unwrap().unwrap();
            now.dots(&(field::PERSONAL_NUMBER, Vec::new()))
        });
        let bytes = if number.is_empty() { Vec::new() } else { value(field::PERSONAL_NUMBER, number) };
        let change = |overwrites| Change { field: field::PERSONAL_NUMBER, element: vec![], value: bytes, overwrites };
        let mut edit = match (record, overwrites) {
            (Some(record), Some(seen)) => command(request, EditKind::Change, record, false, vec![change(seen)]),
            _ => {
                let mut new = create_command(request, "Lê/Thị/Lan");
                new.parts[0].changes.push(change(Vec::new()));
                new
            }
        };
        edit.shard = shard;
        edit.origin.claims = claims(Role::Registrar, PATH[2]);
        accepted(district.edit(edit));
        RecordId::derive(request, 0)
    };
    let counted = |district: &Office| {
        [SHARD, OTHER].map(|shard| {
            let state: ShardState = read(&district.state, &district.keys().shard(shard)).unwrap().unwrap();
            assert_eq!(state.conflicts as usize, conflicts_in(district, shard).len());
            state.conflicts
        })
    };
    let lan = write(&mut district, 1, SHARD, None, NUMBER);
    assert_eq!(counted(&district), [0, 0]);
    let hoa = write(&mut district, 2, OTHER, None, NUMBER);
    assert_eq!(counted(&district), [1, 1]);
    // A third one; then the second is none of them any more, and at last one is left.
    let mai = write(&mut district, 3, OTHER, None, NUMBER);
    assert_eq!(counted(&district), [1, 2]);
    write(&mut district, 4, OTHER, Some(hoa), "");
    assert_eq!(counted(&district), [1, 1]);
    write(&mut district, 5, SHARD, Some(lan), "001190000777");
    assert_eq!(counted(&district), [0, 0]);
    write(&mut district, 6, OTHER, Some(mai), "001190000777");
    assert_eq!(counted(&district), [1, 1]);
}
