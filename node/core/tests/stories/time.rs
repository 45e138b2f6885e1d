//! The time of a group, and what expires by it.

use crate::memory::{Office, accepted, create_command, refusal, request};
use dinhba_core::command::{Command, Raise, RefusalCode};
use dinhba_core::keys::{Space, space_of};
use dinhba_core::registry::{GroupState, RECEIPT_DAYS, read};
use dinhba_core::schema::field;

#[test]
fn the_time_of_a_group_never_goes_back_and_receipts_expire_by_it_a_few_at_a_time() {
    const DAY_MS: i64 = 86_400_000;
    let mut office = Office::new(1);
    let time = |office: &Office| read::<GroupState>(&office.state, &office.keys().group()).unwrap().unwrap().time_ms;
    let receipts = |office: &Office| {
        let is_receipt = |key: &&Vec<u8>| space_of(key) == Some(Space::Request as u8);
        office.state.0.keys().filter(is_receipt).count()
    };
    office.now_ms = 1_000 * DAY_MS;
    for counter in 1..=600 {
        office.create(request(1, counter), "Lê//An");
    }
    office.now_ms -= 30 * DAY_MS;
    let last = office.create(request(2, 1), "Lê//Bình");
    assert_eq!(time(&office), 1_000 * DAY_MS, "a clock that was set back changes nothing");
    // Made again from its archive, it answers as before.
    let mut archive = Vec::new();
    let mut numbered = Office::new(7);
    numbered.now_ms = 1_000 * DAY_MS;
    let mut birth = create_command(request(3, 1), "Lê//Chi");
    birth.origin.received_ms = 1_000 * DAY_MS;
    accepted(numbered.edit(birth.clone()));
    numbered.back_up(&mut archive);
    let mut restored = numbered.founded_from(&archive, None).unwrap();
    for _ in 0..3 {
        restored.now_ms += 1;
        assert!(accepted(restored.edit(birth.clone())).replayed);
    }

    // The second session is used until later.
    office.now_ms = 1_200 * DAY_MS;
    accepted(office.set(request(2, 2), last, field::SEX, "male"));

    let days = i64::from(RECEIPT_DAYS);
    office.now_ms = (1_000 + days) * DAY_MS;
    let retry = |office: &mut Office| office.edit(create_command(request(1, 1), "Lê//An"));
    assert!(accepted(retry(&mut office)).replayed, "on the last day it is answered as at first");
    office.now_ms += DAY_MS;
    let mut left = vec![receipts(&office)];
    while *left.last().unwrap() > 2 {
        office.now_ms += 1;
        office.run(Command::Raise(Raise { level: 1, now_ms: 1 }));
        left.push(receipts(&office));
    }
    assert_eq!(left, [602, 346, 90, 2], "a bounded number for each entry");
    let (code, text) = refusal(retry(&mut office));
    assert!(code == RefusalCode::Exists && text.contains("exists already"), "nobody is registered twice: {text}");
    assert!(accepted(office.edit(create_command(request(2, 1), "Lê//Bình"))).replayed);

    office.now_ms = (1_201 + days) * DAY_MS;
    office.run(Command::Raise(Raise { level: 1, now_ms: 1 }));
    let kept = |space: Space| office.state.0.keys().filter(|key| space_of(key) == Some(space as u8)).count();
    assert_eq!((kept(Space::Request), kept(Space::Session), kept(Space::Expiry)), (0, 0, 0));
}
