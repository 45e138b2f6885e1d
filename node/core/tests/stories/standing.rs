//! What takes two persons, what is held, and what was accepted twice: the same at every site that holds the edits, whoever's door
//! let them in.

use dinhba_core::claims::Claims;
use dinhba_core::command::{Answer, ConflictKey, EditCommand, PendingEntry, RefusalCode};
use dinhba_core::date::InstantMs;
use dinhba_core::edit::{Change, Edit, EditKind, GROUNDS};
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{Hash, RecordId, RequestId};
use dinhba_core::registry::{AsOf, Past, Poison, as_of, conflicts_of, figures, read_range, recount};
use dinhba_core::schema::field;
use dinhba_core::standing::{Standing, standing_key};
use dinhba_core::sync::Batch;

use crate::memory::{
    Office, SHARD, accepted, aside, command, edits, meet, person, refusal, request, seal_all, shown, value,
};

/// What somebody says of an edit, over all that this office knows was said of it.
fn says(
    office: &mut Office,
    (who, request): (Claims, RequestId),
    record: RecordId,
    edit: Hash,
    standing: Standing,
) -> Answer {
    let current = office.record(record);
    let overwrites = current.dots(&(field::STANDING, standing_key(&edit)));
    let grounds =
        Change { field: GROUNDS, element: Vec::new(), value: b"as in the register".to_vec(), overwrites: vec![] };
    let change = Change { field: field::STANDING, element: standing_key(&edit), value: standing.value(), overwrites };
    let mut command = command(request, standing.kind(), record, false, vec![grounds, change]);
    command.origin.claims = who;
    office.edit(command)
}

fn waiting(office: &Office) -> usize {
    let entries = read_range::<PendingEntry>(&office.state, office.keys().all_pending(SHARD, None)).unwrap();
    assert_eq!(office.shard().pending, entries.len() as u64);
    entries.len()
}

/// A stream whose last edit was written by a changed program.
fn with_last(mut batch: Batch, change: impl FnOnce(&mut Edit)) -> Batch {
    let item = batch.items.last_mut().unwrap();
    let mut edit = Edit::from_bytes(&item.bytes).unwrap();
    change(&mut edit);
    item.bytes = edit.to_bytes();
    batch.seals.clear();
    seal_all(&mut batch);
    batch
}

/// A person with a birth date, and another birth date that her office entered over it.
fn corrected(office: &mut Office) -> RecordId {
    let lan = office.create(request(1, 1), "Nguyễn/Thị/Lan");
    assert!(!accepted(office.set(request(1, 2), lan, field::BIRTH_DATE, "1990-03-08")).pending, "the first one");
    assert!(accepted(office.set(request(1, 3), lan, field::BIRTH_DATE, "1991-03-08")).pending);
    lan
}

#[test]
fn a_grave_change_holds_and_is_pending_until_a_second_person_confirms_it() {
    let (mut commune, mut district) = (Office::new(1), Office::new(2));
    let lan = corrected(&mut commune);
    assert_eq!(shown(&commune.record(lan), field::BIRTH_DATE), ["1991-03-08"]);
    assert_eq!(waiting(&commune), 1);
    meet(&mut commune, &mut district);
    assert_eq!(waiting(&district), 1, "it shows at once everywhere");

    let edit = edits(&district, lan).pop().unwrap().1;
    let again = says(&mut district, (person("nguyen.lan", 7), request(2, 1)), lan, edit, Standing::Confirmed);
    assert_eq!(refusal(again).0, RefusalCode::Denied, "the same person with another certificate");
    let again = says(&mut district, (person("tran.binh", 1), request(2, 1)), lan, edit, Standing::Confirmed);
    assert_eq!(refusal(again).0, RefusalCode::Denied, "another name on the same certificate");
    let second = (person("tran.binh", 2), request(2, 1));
    assert!(!accepted(says(&mut district, second.clone(), lan, edit, Standing::Confirmed)).pending);
    assert_eq!(waiting(&district), 0);
    let replayed = says(&mut district, second, lan, edit, Standing::Confirmed);
    assert!(accepted(replayed).replayed, "asked again, though it is said already");
    let third = says(&mut district, (person("le.chi", 3), request(3, 1)), lan, edit, Standing::Rejected);
    assert_eq!(refusal(third).0, RefusalCode::Rule, "nothing waits any more");
    meet(&mut commune, &mut district);
    assert_eq!((waiting(&commune), aside(&commune)), (0, vec![]));
    assert_eq!(shown(&commune.record(lan), field::BIRTH_DATE), ["1991-03-08"]);
}

#[test]
fn a_rejection_brings_back_what_was_replaced_and_keeps_what_was_built_on_it() {
    let (mut commune, mut district) = (Office::new(1), Office::new(2));
    let lan = corrected(&mut commune);
    meet(&mut commune, &mut district);
    let rejected = edits(&commune, lan).pop().unwrap().1;
    let second = (person("tran.binh", 2), request(2, 1));
    accepted(says(&mut district, second, lan, rejected, Standing::Rejected));
    assert_eq!(shown(&district.record(lan), field::BIRTH_DATE), ["1990-03-08"]);
    assert_eq!(aside(&district), [Poison::Rejected]);
    assert_eq!(district.shard().poisoned, 0, "nobody has to look after it");
    // Meanwhile the commune corrects its correction.
    assert!(accepted(commune.set(request(1, 4), lan, field::BIRTH_DATE, "1992-03-08")).pending);
    meet(&mut commune, &mut district);
    assert_eq!(shown(&commune.record(lan), field::BIRTH_DATE), ["1990-03-08", "1992-03-08"]);
    let both = commune.record(lan);
    let disputed = ConflictKey::Field((field::BIRTH_DATE, Vec::new()));
    assert!(conflicts_of(2, &both).contains(&disputed));
    // Who decides between them wrote one of them: it takes another one.
    assert!(accepted(commune.decide(request(1, 5), lan, field::BIRTH_DATE, "1990-03-08")).pending);
    assert_eq!((shown(&commune.record(lan), field::BIRTH_DATE), waiting(&commune)), (vec!["1990-03-08".into()], 1));
}

#[test]
fn who_writes_again_over_what_waits_is_all_that_waits() {
    let mut commune = Office::new(1);
    let lan = corrected(&mut commune);
    accepted(commune.set(request(1, 4), lan, field::BIRTH_DATE, "1992-03-08"));
    assert_eq!(waiting(&commune), 1, "the first correction shows nowhere any more");
}

#[test]
fn what_two_offices_say_of_an_edit_at_once_an_officer_decides() {
    let (mut commune, mut district) = (Office::new(1), Office::new(2));
    let lan = corrected(&mut commune);
    meet(&mut commune, &mut district);
    let edit = edits(&commune, lan).pop().unwrap().1;
    accepted(says(&mut commune, (person("tran.binh", 2), request(2, 1)), lan, edit, Standing::Rejected));
    accepted(says(&mut district, (person("le.chi", 3), request(3, 1)), lan, edit, Standing::Confirmed));
    meet(&mut commune, &mut district);
    assert_eq!(shown(&commune.record(lan), field::BIRTH_DATE), ["1991-03-08"], "nothing goes while they disagree");
    assert_eq!(waiting(&commune), 1);
    let said = ConflictKey::Field((field::STANDING, standing_key(&edit)));
    assert!(conflicts_of(2, &commune.record(lan)).contains(&said));

    let decide = |who: Claims, office: &Office| -> EditCommand {
        let overwrites = office.record(lan).dots(&(field::STANDING, standing_key(&edit)));
        let grounds =
            Change { field: GROUNDS, element: vec![], value: b"the paper of 1990".to_vec(), overwrites: vec![] };
        let value = Standing::Rejected.value();
        let change = Change { field: field::STANDING, element: standing_key(&edit), value, overwrites };
        let mut command = command(request(4, 1), EditKind::Decision, lan, false, vec![grounds, change]);
        command.origin.claims = who;
        command
    };
    let own = decide(person("nguyen.lan", 9), &commune);
    assert_eq!(refusal(commune.edit(own)).0, RefusalCode::Denied, "whose edit it is does not decide");
    let other = decide(person("pham.dung", 4), &commune);
    accepted(commune.edit(other));
    meet(&mut commune, &mut district);
    assert_eq!(shown(&district.record(lan), field::BIRTH_DATE), ["1990-03-08"]);
}

#[test]
fn a_site_whose_door_lets_one_person_confirm_is_not_believed_above() {
    let (mut commune, mut district) = (Office::new(1), Office::new(2));
    let lan = corrected(&mut commune);
    let edit = edits(&commune, lan).pop().unwrap().1;
    accepted(says(&mut commune, (person("tran.binh", 2), request(2, 1)), lan, edit, Standing::Confirmed));
    // A changed program has the officer who wrote the edit say so himself.
    let forged = with_last(commune.stream(), |edit| edit.header.origin.claims = person("nguyen.lan", 1));
    district.merge(commune.site, forged, 6);
    assert_eq!(aside(&district), [Poison::Void]);
    assert_eq!(waiting(&district), 1);
    assert!(district.record(lan).standing(&edit).next().is_none());
}

#[test]
fn a_site_that_leaves_the_second_person_out_changes_nothing_of_it() {
    let (mut commune, mut district) = (Office::new(1), Office::new(2));
    let lan = commune.create(request(1, 1), "Nguyễn/Thị/Lan");
    accepted(commune.set(request(1, 2), lan, field::DEATH_DATE, "2024-01-02"));
    let forged = with_last(commune.stream(), |edit| edit.header.kind = EditKind::Change);
    district.merge(commune.site, forged, 6);
    assert_eq!(waiting(&district), 1, "what waits is said by what it changes, not by what it is called");
}

#[test]
fn a_held_edit_is_out_until_it_is_released() {
    let (mut commune, mut district) = (Office::new(1), Office::new(2));
    let lan = commune.create(request(1, 1), "Nguyễn/Thị/Lan");
    accepted(commune.set(request(1, 2), lan, field::OTHER_NAME, "Lan Anh"));
    accepted(commune.set(request(1, 3), lan, field::OTHER_NAME, "Tư Lan"));
    meet(&mut commune, &mut district);
    let (edit, superior) = (edits(&commune, lan).pop().unwrap().1, |at| (person("tran.binh", 2), request(2, at)));
    let early = says(&mut district, superior(1), lan, edit, Standing::Released);
    assert_eq!(refusal(early).1, "it is not held");
    let nothing = says(&mut district, superior(1), lan, edit, Standing::Rejected);
    assert_eq!(refusal(nothing).0, RefusalCode::Rule, "what holds is corrected, or held first");
    accepted(says(&mut district, superior(1), lan, edit, Standing::Held));
    meet(&mut commune, &mut district);
    assert_eq!(shown(&commune.record(lan), field::OTHER_NAME), ["Lan Anh"]);
    assert_eq!(aside(&commune), [Poison::Held]);
    accepted(says(&mut district, superior(2), lan, edit, Standing::Released));
    meet(&mut commune, &mut district);
    assert_eq!((shown(&commune.record(lan), field::OTHER_NAME), aside(&commune)), (vec!["Tư Lan".into()], vec![]));
}

#[test]
fn words_that_come_together_have_their_record_folded_once() {
    const EDITS: u64 = 200;
    const WORDS: u64 = 50;
    // An edit, its chain and what was said of it, and the edit that it speaks of.
    const READS_EACH_MAX: u64 = 20;
    let (mut commune, mut district) = (Office::new(1), Office::new(2));
    let lan = commune.create(request(1, 1), "Nguyễn/Thị/Lan");
    for counter in 2..=EDITS {
        accepted(commune.set(request(1, counter), lan, field::NOTE, &format!("note {counter}")));
    }
    meet(&mut commune, &mut district);
    let written = edits(&commune, lan);
    for (at, (_, edit)) in written.iter().rev().take(WORDS as usize).enumerate() {
        accepted(says(&mut commune, (person("tran.binh", 2), request(2, at as u64 + 1)), lan, *edit, Standing::Held));
    }
    let mut words = commune.stream();
    words.items = words.items.split_off(EDITS as usize);
    assert_eq!(district.merge(commune.site, words, 6).folded, WORDS as u32);
    let read = district.read;
    meet(&mut commune, &mut district);
    assert_eq!(aside(&district).len(), WORDS as usize);
    assert!(read <= 3 * EDITS + WORDS * READS_EACH_MAX, "{read} reads for {WORDS} words over {EDITS} edits");
}

#[test]
fn all_edits_of_a_command_stand_alike_and_are_spoken_of_at_once() {
    let mut commune = Office::new(1);
    let (lan, an) = (commune.create(request(1, 1), "Nguyễn/Thị/Lan"), commune.create(request(1, 2), "Lê//An"));
    let died = Change {
        field: field::DEATH_DATE,
        element: vec![],
        value: value(field::DEATH_DATE, "2024-01-02"),
        overwrites: vec![],
    };
    let mut both = command(request(1, 3), EditKind::Change, lan, false, vec![died]);
    let widowed = Change {
        field: field::MARITAL_STATUS,
        element: vec![],
        value: value(field::MARITAL_STATUS, "widowed"),
        overwrites: vec![],
    };
    both.parts.extend(command(request(1, 3), EditKind::Change, an, false, vec![widowed]).parts);
    assert!(accepted(commune.edit(both)).pending);
    assert_eq!(waiting(&commune), 2, "also what follows from it");
    let (one, other) = (edits(&commune, lan).pop().unwrap().1, edits(&commune, an).pop().unwrap().1);
    let half = says(&mut commune, (person("tran.binh", 2), request(2, 1)), lan, one, Standing::Rejected);
    assert_eq!(refusal(half).0, RefusalCode::Invalid);
    let grounds = Change { field: GROUNDS, element: vec![], value: b"she lives".to_vec(), overwrites: vec![] };
    let said = |edit: &Hash| Change {
        field: field::STANDING,
        element: standing_key(edit),
        value: Standing::Rejected.value(),
        overwrites: vec![],
    };
    let mut whole = command(request(2, 1), EditKind::Reject, lan, false, vec![grounds.clone(), said(&one)]);
    whole.parts.extend(command(request(2, 1), EditKind::Reject, an, false, vec![grounds, said(&other)]).parts);
    whole.origin.claims = person("tran.binh", 2);
    accepted(commune.edit(whole));
    assert_eq!((waiting(&commune), aside(&commune).len()), (0, 2));
    assert!(shown(&commune.record(lan), field::DEATH_DATE).is_empty());
}

#[test]
fn how_an_edit_stands_is_not_edited() {
    let mut commune = Office::new(1);
    let lan = corrected(&mut commune);
    let (edit, plain) = (edits(&commune, lan).pop().unwrap().1, EditKind::Change);
    let change = Change {
        field: field::STANDING,
        element: standing_key(&edit),
        value: Standing::Confirmed.value(),
        overwrites: vec![],
    };
    let answer = commune.edit(command(request(5, 1), plain, lan, false, vec![change]));
    assert_eq!(
        refusal(answer),
        (RefusalCode::Invalid, "how an edit stands is not edited: confirm, reject, hold or release it".to_owned())
    );
    let unknown = says(&mut commune, (person("tran.binh", 2), request(2, 1)), lan, Hash([9; 32]), Standing::Confirmed);
    assert_eq!(refusal(unknown).0, RefusalCode::Unknown);
}

#[test]
fn a_record_as_it_was_known_knows_nothing_of_what_was_said_later() {
    let mut commune = Office::new(1);
    let lan = corrected(&mut commune);
    let edit = edits(&commune, lan).pop().unwrap().1;
    accepted(says(&mut commune, (person("tran.binh", 2), request(2, 40)), lan, edit, Standing::Rejected));
    let at = |known| {
        let as_of_then = AsOf { known: Some(InstantMs(known)), in_law: None };
        match as_of(&commune.state, &commune.context, SHARD, lan, as_of_then).unwrap() {
            Past::Record(record) => shown(&record, field::BIRTH_DATE),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((at(39), at(40)), (vec!["1991-03-08".to_owned()], vec!["1990-03-08".to_owned()]));
}

#[test]
fn a_request_that_was_accepted_twice_counts_and_is_shown_once() {
    for is_archived in [false, true] {
        let (mut commune, mut district) = (Office::new(1), Office::new(2));
        let lan = commune.create(request(1, 1), "Nguyễn/Thị/Lan");
        district.merge(commune.site, commune.stream(), 6);
        let mut archive = Vec::new();
        commune.back_up(&mut archive);
        let old_copy = commune.clone();
        // Accepted, passed on, and forgotten.
        let overwrites = commune.record(lan).dots(&(field::MOBILE_NUMBER, vec![]));
        let phone = Change {
            field: field::MOBILE_NUMBER,
            element: vec![],
            value: value(field::MOBILE_NUMBER, "01620000001"),
            overwrites,
        };
        let asked = command(request(1, 7), EditKind::Change, lan, false, vec![phone]);
        let first = accepted(commune.edit(asked.clone()));
        district.merge(commune.site, commune.stream(), 6);
        accepted(district.set(request(3, 1), lan, field::NOTE, "a note"));

        let mut restored = match is_archived {
            true => commune.founded_from(&archive, None).unwrap(),
            false => old_copy,
        };
        restored.skip_chance(1_000);
        let mut again = asked.clone();
        again.origin.received_ms += 5;
        let second = accepted(restored.edit(again));
        assert!(!second.replayed && second.receipt.hash != first.receipt.hash, "it knew of nothing");
        // Somebody who saw the second one there goes on from it.
        accepted(restored.set(request(4, 1), lan, field::MOBILE_NUMBER, "01620000002"));

        meet(&mut restored, &mut district);
        for office in [&restored, &district] {
            assert_eq!(aside(office), [Poison::Twin]);
            assert_eq!(office.shard().poisoned, 0);
            let phones = shown(&office.record(lan), field::MOBILE_NUMBER);
            assert_eq!(phones, ["01620000002"], "whoever replaced the one replaced the other");
            let counted = figures(&office.state, office.keys(), SHARD, ALL_DAYS, 9).unwrap().0;
            assert_eq!(counted, recount(&office.state, &office.context, SHARD).unwrap());
        }
        let one_more = restored.edit(asked);
        assert!(accepted(one_more).replayed);
    }
}

const ALL_DAYS: (dinhba_core::date::Date, dinhba_core::date::Date) =
    (dinhba_core::date::Date::MIN, dinhba_core::date::Date::MAX);

#[test]
fn another_request_under_the_name_of_a_forgotten_one_is_no_twin() {
    let (mut commune, mut district) = (Office::new(1), Office::new(2));
    let lan = commune.create(request(1, 1), "Nguyễn/Thị/Lan");
    let old_copy = commune.clone();
    accepted(commune.set(request(1, 7), lan, field::OTHER_NAME, "Lan Anh"));
    district.merge(commune.site, commune.stream(), 6);
    let mut restored = old_copy;
    restored.skip_chance(1_000);
    accepted(restored.set(request(1, 7), lan, field::OTHER_NAME, "Tư Lan"));
    meet(&mut restored, &mut district);
    assert_eq!(shown(&district.record(lan), field::OTHER_NAME).len(), 2, "both were told that they are accepted");
    assert_eq!(aside(&district), []);
}
