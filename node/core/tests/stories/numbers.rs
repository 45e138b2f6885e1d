//! Whose a personal number is.

use crate::memory::{Office, SHARD, accepted, command, request};
use dinhba_core::command::{ConflictEntry, ConflictKey, Nothing};
use dinhba_core::edit::{Change, EditKind};
use dinhba_core::encoding::Wire;
use dinhba_core::ids::RecordId;
use dinhba_core::keys::suffix;
use dinhba_core::registry::read_range;
use dinhba_core::schema::field;

/// The conflicts of a shard, by record.
fn open_conflicts(office: &Office) -> Vec<(RecordId, ConflictKey)> {
    let found: Vec<(Vec<u8>, ConflictEntry)> = read_range(&office.state, office.keys().conflicts(SHARD, None)).unwrap();
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
