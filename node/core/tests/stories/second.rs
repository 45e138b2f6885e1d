//! Ways around the second person, and ways to keep officers from saying how an edit stands, that a changed program or bad luck
//! opens.

use dinhba_core::claims::Claims;
use dinhba_core::command::{Answer, Cursor, EditCommand, Item, PartDraft, RefusalCode};
use dinhba_core::edit::{Author, Change, Dot, Edit, EditKind, GROUNDS, Header};
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{AuthorId, Hash, Incarnation, RecordId, RequestId, SiteId};
use dinhba_core::registry::{Poison, ToJudge, to_judge};
use dinhba_core::schema::{FieldId, RecordKind, field};
use dinhba_core::standing::{Standing, standing_field, standing_key};
use dinhba_core::sync::Batch;

use crate::memory::{
    Office, SHARD, accepted, aside, command, edits, meet, person, refusal, request, seal_all, shown, value,
};

const THIEF: SiteId = SiteId(66);
const SECRET: [u8; 32] = [7; 32];

fn change(field: FieldId, text: &str, overwrites: Vec<Dot>) -> Change {
    Change { field, element: Vec::new(), value: value(field, text), overwrites }
}

/// What an officer says of an edit, as the door makes it a command: of all edits of its command.
fn judged(
    office: &Office,
    (who, request): (Claims, RequestId),
    (record, edit): (RecordId, &Hash),
    standing: Standing,
) -> Option<EditCommand> {
    let all = to_judge(&office.state, &office.context, SHARD, record, &standing_key(edit)).unwrap()?;
    let part = |edit: ToJudge| {
        let grounds = Change { field: GROUNDS, element: vec![], value: b"no such paper".to_vec(), overwrites: vec![] };
        let field = standing_field(edit.record_kind).unwrap();
        let said = Change { field, element: edit.key, value: standing.value(), overwrites: edit.said };
        PartDraft {
            record: edit.record,
            record_kind: edit.record_kind,
            create: false,
            valid_from: Vec::new(),
            changes: vec![grounds, said],
        }
    };
    let mut asked = command(request, standing.kind(), record, false, Vec::new());
    asked.parts = all.into_iter().map(part).collect();
    asked.origin.claims = who;
    Some(asked)
}

/// Says it; panics if there is no such edit.
fn says(office: &mut Office, who: (Claims, RequestId), edit: (RecordId, &Hash), standing: Standing) -> Answer {
    let command = judged(office, who, edit, standing).expect("the record has this edit");
    office.edit(command)
}

/// A chain that a changed program writes.
#[derive(Clone)]
struct Chain {
    author: Author,
    number: u64,
    hash: Hash,
    all: Vec<Edit>,
}

impl Chain {
    fn of(site: SiteId, life: u8) -> Self {
        let author = Author { site, shard: SHARD, incarnation: Incarnation([life; 16]) };
        Chain { author, number: 0, hash: Hash::default(), all: Vec::new() }
    }

    /// Writes a command; returns the hashes of its edits.
    fn write(
        &mut self,
        (who, request): (Claims, RequestId),
        kind: EditKind,
        parts: Vec<(RecordId, Vec<Change>)>,
    ) -> Vec<Hash> {
        let of = parts.len() as u32;
        let mut hashes = Vec::new();
        for (part, (record, changes)) in parts.into_iter().enumerate() {
            self.number += 1;
            let mut origin = command(request, kind, record, false, Vec::new()).origin;
            origin.claims = who.clone();
            let header = Header {
                level: 1,
                author: self.author,
                number: self.number,
                previous: self.hash,
                kind,
                event: dinhba_core::event::Event::Change,
                record,
                record_kind: RecordKind::Person,
                part: part as u32,
                of,
                origin,
                valid_from: Vec::new(),
                extensions: Vec::new(),
            };
            let edit = Edit { header, changes };
            self.hash = edit.hash(&SECRET);
            hashes.push(self.hash);
            self.all.push(edit);
        }
        hashes
    }

    fn dot(&self) -> Dot {
        Dot { actor: self.author.id(), counter: self.number }
    }
}

fn take(office: &mut Office, edits: &[Edit]) {
    let start = Cursor::start([1; 16]);
    let secrets: std::collections::BTreeSet<_> =
        edits.iter().map(|edit| (edit.dot().actor, edit.header.origin.request.session)).collect();
    let mut batch = Batch {
        shard: SHARD,
        start,
        end: start,
        items: edits.iter().map(|edit| Item { dot: edit.dot(), bytes: edit.to_bytes() }).collect(),
        secrets: secrets.into_iter().map(|(author, session)| (author, session, SECRET)).collect(),
        seals: Vec::new(),
    };
    seal_all(&mut batch);
    let merged = office.merge(THIEF, batch, 6);
    assert!(merged.taken && merged.parked.is_empty(), "{merged:?}");
}

fn born(office: &mut Office) -> RecordId {
    let lan = office.create(request(1, 1), "Nguyễn/Thị/Lan");
    assert!(!accepted(office.set(request(1, 2), lan, field::BIRTH_DATE, "1990-03-08")).pending);
    lan
}

#[test]
fn a_decision_over_a_value_that_nobody_wrote_waits_like_a_change() {
    let mut district = Office::new(2);
    let lan = born(&mut district);
    let mut seen = district.record(lan).dots(&(field::BIRTH_DATE, vec![]));
    seen.push(Dot { actor: AuthorId([0xff; 16]), counter: 9 });
    let mut thief = Chain::of(THIEF, 1);
    let who = (person("tran.binh", 9), request(9, 1));
    thief.write(who, EditKind::Decision, vec![(lan, vec![change(field::BIRTH_DATE, "1970-01-01", seen)])]);
    take(&mut district, &thief.all);
    assert_eq!(shown(&district.record(lan), field::BIRTH_DATE), ["1970-01-01"]);
    assert_eq!(district.shard().pending, 1, "one person alone replaced a birth date");
}

#[test]
fn who_wrote_two_birth_dates_at_two_sites_does_not_settle_them_alone() {
    let (mut commune, mut district) = (Office::new(1), Office::new(2));
    let lan = born(&mut commune);
    meet(&mut commune, &mut district);
    assert!(accepted(commune.set(request(2, 1), lan, field::BIRTH_DATE, "1971-01-01")).pending);
    assert!(accepted(district.set(request(3, 1), lan, field::BIRTH_DATE, "1972-01-01")).pending);
    meet(&mut commune, &mut district);
    assert_eq!(commune.shard().pending, 2);
    let decided = accepted(commune.decide(request(2, 2), lan, field::BIRTH_DATE, "1973-01-01"));
    assert!(decided.pending, "one and the same person wrote all of it");
    assert_eq!(commune.shard().pending, 1);
}

#[test]
fn the_name_of_the_request_that_made_a_record_makes_it_once() {
    for (at, text) in [(field::BIRTH_DATE, "1970-01-01"), (field::DEATH_DATE, "2020-01-01")] {
        for is_first in [false, true] {
            let mut district = Office::new(2);
            let lan = born(&mut district);
            let overwrites = district.record(lan).dots(&(at, vec![]));
            let mut thief = Chain::of(THIEF, 1);
            let who = (person("tran.binh", 9), request(1, 1));
            thief.write(who, EditKind::Change, vec![(lan, vec![change(at, text, overwrites)])]);
            if is_first {
                let mut other = Office::new(3);
                take(&mut other, &thief.all);
                other.merge(district.site, district.stream(), 6);
                take(&mut district, &thief.all);
                assert_eq!(other.shard().state_digest, district.shard().state_digest);
                assert_eq!(other.shard().pending, district.shard().pending);
            } else {
                take(&mut district, &thief.all);
            }
            assert_eq!(district.shard().pending, 1, "one person alone wrote {at}");
        }
    }
}

#[test]
fn a_birth_date_that_is_held_is_not_replaced_by_one_person() {
    let mut commune = Office::new(1);
    let lan = born(&mut commune);
    let (_, first) = edits(&commune, lan)[1].clone();
    let alone = |at| (person("tran.binh", 2), request(2, at));
    accepted(says(&mut commune, alone(1), (lan, &first), Standing::Held));
    assert_eq!(shown(&commune.record(lan), field::BIRTH_DATE), [""; 0]);
    let mut set =
        command(request(2, 2), EditKind::Change, lan, false, vec![change(field::BIRTH_DATE, "1970-01-01", vec![])]);
    set.origin.claims = alone(2).0;
    assert!(accepted(commune.edit(set)).pending);
    assert_eq!(shown(&commune.record(lan), field::BIRTH_DATE), ["1970-01-01"]);
    assert_eq!(commune.shard().pending, 1, "one person alone put another birth date there");
}

/// A request that a commune took, forgot, and took again; what an officer says of the second answer meanwhile.
fn taken_twice(standing: Standing) -> (Office, Office, RecordId) {
    let (mut commune, mut district) = (Office::new(1), Office::new(2));
    let lan = born(&mut commune);
    district.merge(commune.site, commune.stream(), 6);
    let mut restored = commune.clone();
    let dots = commune.record(lan).dots(&(field::BIRTH_DATE, vec![]));
    let asked =
        command(request(1, 7), EditKind::Change, lan, false, vec![change(field::BIRTH_DATE, "1991-03-08", dots)]);
    accepted(commune.edit(asked.clone()));
    district.merge(commune.site, commune.stream(), 6);
    restored.skip_chance(1_000);
    let mut again = asked;
    again.origin.received_ms += 5;
    accepted(restored.edit(again));
    let (_, edit) = edits(&restored, lan).pop().unwrap();
    accepted(says(&mut restored, (person("tran.binh", 2), request(2, 1)), (lan, &edit), standing));
    meet(&mut restored, &mut district);
    (restored, district, lan)
}

#[test]
fn what_is_said_of_an_answer_that_was_given_twice_holds_for_the_one_that_counts() {
    let (_, district, lan) = taken_twice(Standing::Confirmed);
    assert_eq!(
        (shown(&district.record(lan), field::BIRTH_DATE), district.shard().pending),
        (vec!["1991-03-08".into()], 0)
    );
    let (_, district, lan) = taken_twice(Standing::Rejected);
    assert_eq!(
        (shown(&district.record(lan), field::BIRTH_DATE), district.shard().pending),
        (vec!["1990-03-08".into()], 0)
    );
    let (mut commune, mut district, lan) = taken_twice(Standing::Held);
    assert_eq!(shown(&district.record(lan), field::BIRTH_DATE), ["1990-03-08"]);
    // And an officer replaces what was said of it.
    let all = edits(&district, lan);
    let first = all.iter().find(|(edit, hash)| {
        let key = (field::STANDING, standing_key(hash));
        edit.header.origin.request == request(1, 7) && !district.record(lan).values(&key).is_empty()
    });
    let (_, first) = first.expect("it is said of the one that counts");
    accepted(says(&mut district, (person("le.chi", 3), request(3, 1)), (lan, first), Standing::Released));
    accepted(says(&mut district, (person("le.chi", 3), request(3, 2)), (lan, first), Standing::Confirmed));
    meet(&mut commune, &mut district);
    assert_eq!(
        (shown(&commune.record(lan), field::BIRTH_DATE), commune.shard().pending),
        (vec!["1991-03-08".into()], 0)
    );
}

#[test]
fn the_answer_that_counts_replaces_what_the_other_one_replaced() {
    // Two lives of a site, each with the answer to one request of an event, over what it found.
    let mut district = Office::new(2);
    let lan = born(&mut district);
    let who = || person("tran.binh", 9);
    let (mut one, mut two) = (Chain::of(THIEF, 1), Chain::of(THIEF, 2));
    one.write((who(), request(8, 5)), EditKind::Change, vec![(lan, vec![change(field::NOTE, "as asked", vec![])])]);
    two.write((who(), request(8, 4)), EditKind::Change, vec![(lan, vec![change(field::NOTE, "between", vec![])])]);
    let between = two.dot();
    two.write(
        (who(), request(8, 5)),
        EditKind::Change,
        vec![(lan, vec![change(field::NOTE, "as asked", vec![between])])],
    );
    two.all[1].header.origin.received_ms += 9;
    take(&mut district, &one.all);
    take(&mut district, &two.all);
    assert_eq!(aside(&district), [Poison::Twin]);
    assert_eq!(shown(&district.record(lan), field::NOTE), ["as asked"], "what it replaced does not come back");
}

#[test]
fn a_command_that_grew_from_half_of_another_is_judged_like_any() {
    let mut district = Office::new(2);
    let lan = born(&mut district);
    let an = district.create(request(1, 5), "Lê//An");
    let who = (person("tran.binh", 9), request(9, 1));
    let mut thief = Chain::of(THIEF, 1);
    let died = |text| change(field::DEATH_DATE, text, vec![]);
    let mut other = thief.clone();
    thief.write(who.clone(), EditKind::Change, vec![(lan, vec![died("2020-01-01")]), (an, vec![died("2020-01-02")])]);
    let hashes =
        other.write(who, EditKind::Change, vec![(lan, vec![died("2020-01-01")]), (an, vec![died("2020-01-03")])]);
    take(&mut district, &thief.all);
    take(&mut district, &other.all);
    let second = (person("le.chi", 3), request(3, 1));
    accepted(says(&mut district, second, (an, &hashes[1]), Standing::Rejected));
}

#[test]
fn a_command_of_two_edits_of_one_record_is_judged_like_any() {
    let mut district = Office::new(2);
    let lan = born(&mut district);
    let mut thief = Chain::of(THIEF, 1);
    let who = (person("tran.binh", 9), request(9, 1));
    let parts = vec![
        (lan, vec![change(field::DEATH_DATE, "2020-01-01", vec![])]),
        (lan, vec![change(field::NOTE, "a note", vec![])]),
    ];
    let hashes = thief.write(who, EditKind::Change, parts);
    take(&mut district, &thief.all);
    let second = (person("le.chi", 3), request(3, 1));
    accepted(says(&mut district, second, (lan, &hashes[0]), Standing::Rejected));
    assert_eq!(shown(&district.record(lan), field::DEATH_DATE), [""; 0]);
}

#[test]
fn a_command_with_an_edit_of_a_record_that_is_not_there_is_judged_like_any() {
    let mut district = Office::new(2);
    let lan = born(&mut district);
    let mut thief = Chain::of(THIEF, 1);
    let who = (person("tran.binh", 9), request(9, 1));
    let nowhere = RecordId::derive(request(9, 9), 0);
    let mut bad = change(field::NOTE, "a note", vec![]);
    bad.value = vec![0xff];
    let parts = vec![(lan, vec![change(field::DEATH_DATE, "2020-01-01", vec![])]), (nowhere, vec![bad])];
    let hashes = thief.write(who, EditKind::Change, parts);
    take(&mut district, &thief.all);
    let second = (person("le.chi", 3), request(3, 1));
    assert_eq!(shown(&district.record(lan), field::DEATH_DATE), ["2020-01-01"]);
    accepted(says(&mut district, second, (lan, &hashes[0]), Standing::Rejected));
    assert_eq!(shown(&district.record(lan), field::DEATH_DATE), [""; 0]);
}

#[test]
fn a_command_that_also_says_how_another_edit_stands_is_judged_like_any() {
    let mut district = Office::new(2);
    let lan = born(&mut district);
    let an = district.create(request(1, 5), "Lê//An");
    let (_, other) = edits(&district, an).pop().unwrap();
    let said = Change {
        field: field::STANDING,
        element: standing_key(&other),
        value: Standing::Confirmed.value(),
        overwrites: vec![],
    };
    let mut thief = Chain::of(THIEF, 1);
    let who = (person("tran.binh", 9), request(9, 1));
    let parts = vec![(lan, vec![change(field::DEATH_DATE, "2020-01-01", vec![])]), (an, vec![said])];
    let hashes = thief.write(who, EditKind::Change, parts);
    thief.all[1].header.kind = EditKind::Confirmation;
    take(&mut district, &thief.all);
    let second = (person("le.chi", 3), request(3, 1));
    accepted(says(&mut district, second, (lan, &hashes[0]), Standing::Rejected));
}

#[test]
fn words_that_replace_each_other_are_heard_in_any_order() {
    let lan = RecordId::derive(request(1, 1), 0);
    let mut author = Chain::of(SiteId(61), 1);
    let sex = change(field::SEX, "male", vec![]);
    let target = author.write((person("nguyen.lan", 1), request(5, 1)), EditKind::Proposal, vec![(lan, vec![sex])])[0];
    let (mut one, mut two) = (Chain::of(THIEF, 1), Chain::of(THIEF, 2));
    let said = |of: &Chain| Change {
        field: field::STANDING,
        element: standing_key(&target),
        value: Standing::Rejected.value(),
        overwrites: vec![Dot { actor: of.author.id(), counter: 1 }],
    };
    let (by_one, by_two) = (said(&two), said(&one));
    // Void, as the target's author says it, but as long as the target is not there.
    one.write((person("nguyen.lan", 1), request(6, 1)), EditKind::Reject, vec![(lan, vec![by_one])]);
    two.write((person("tran.binh", 2), request(6, 2)), EditKind::Reject, vec![(lan, vec![by_two])]);
    let states = [[&author, &one, &two], [&one, &two, &author]].map(|order| {
        let mut office = Office::new(2);
        order.into_iter().for_each(|chain| take(&mut office, &chain.all));
        (office.shard().state_digest, office.shard().pending, aside(&office).len())
    });
    assert_eq!(states[0], states[1]);
    assert_eq!((states[0].1, states[0].2), (0, 2), "the author's own word is void, and the other's rejects");
}

#[test]
fn its_author_does_not_release_what_was_rejected_or_held() {
    let mut district = Office::new(2);
    let lan = born(&mut district);
    accepted(district.set(request(1, 3), lan, field::BIRTH_DATE, "1991-03-08"));
    let (_, edit) = edits(&district, lan).pop().unwrap();
    accepted(says(&mut district, (person("tran.binh", 2), request(2, 1)), (lan, &edit), Standing::Rejected));
    assert_eq!(shown(&district.record(lan), field::BIRTH_DATE), ["1990-03-08"]);
    // A changed program lets the author himself release what was rejected.
    let key = (field::STANDING, standing_key(&edit));
    let said = Change {
        field: field::STANDING,
        element: standing_key(&edit),
        value: Standing::Released.value(),
        overwrites: district.record(lan).dots(&key),
    };
    let mut thief = Chain::of(THIEF, 1);
    thief.write((person("nguyen.lan", 1), request(9, 1)), EditKind::Release, vec![(lan, vec![said])]);
    take(&mut district, &thief.all);
    assert_eq!(shown(&district.record(lan), field::BIRTH_DATE), ["1990-03-08"], "its author undid a rejection");
    // Nor does the door, what was held.
    accepted(district.set(request(1, 4), lan, field::OTHER_NAME, "Lan Anh"));
    let (_, edit) = edits(&district, lan).pop().unwrap();
    accepted(says(&mut district, (person("tran.binh", 2), request(2, 2)), (lan, &edit), Standing::Held));
    let own = says(&mut district, (person("nguyen.lan", 1), request(1, 5)), (lan, &edit), Standing::Released);
    assert_eq!(refusal(own).0, RefusalCode::Denied, "his authority is in doubt");
}

/// What is read for one more word in a record into which a changed program wrote so many edits under one name of a request.
fn read_for_a_word(count: u64) -> u64 {
    let mut district = Office::new(2);
    let lan = born(&mut district);
    let (_, edit) = edits(&district, lan).pop().unwrap();
    let mut thief = Chain::of(THIEF, 1);
    for _ in 0..count {
        let note = vec![(lan, vec![change(field::NOTE, "x", vec![])])];
        thief.write((person("tran.binh", 9), request(9, 1)), EditKind::Change, note);
    }
    take(&mut district, &thief.all);
    accepted(says(&mut district, (person("le.chi", 2), request(2, 1)), (lan, &edit), Standing::Held));
    district.read
}

#[test]
fn a_record_is_folded_anew_in_steps_that_are_linear_in_its_edits() {
    let (less, more) = (read_for_a_word(100), read_for_a_word(200));
    assert!(more < 3 * less, "{less} and {more} values were read");
}

#[test]
fn what_is_said_of_a_person_as_of_a_household_is_replaced_like_any() {
    let mut district = Office::new(2);
    let lan = born(&mut district);
    accepted(district.set(request(1, 3), lan, field::BIRTH_DATE, "1991-03-08"));
    let (_, edit) = edits(&district, lan).pop().unwrap();
    let said = Change {
        field: field::HOUSEHOLD_STANDING,
        element: standing_key(&edit),
        value: Standing::Released.value(),
        overwrites: vec![],
    };
    let mut thief = Chain::of(THIEF, 1);
    thief.write((person("pham.dung", 9), request(9, 1)), EditKind::Release, vec![(lan, vec![said])]);
    thief.all[0].header.record_kind = RecordKind::Household;
    take(&mut district, &thief.all);
    assert_eq!(district.shard().pending, 1);
    accepted(says(&mut district, (person("le.chi", 2), request(2, 1)), (lan, &edit), Standing::Rejected));
    assert_eq!(shown(&district.record(lan), field::BIRTH_DATE), ["1990-03-08"], "a word that nobody could replace");
}

#[test]
fn two_lives_that_replace_each_other_take_no_value_away() {
    let lan = RecordId::derive(request(1, 1), 0);
    let (mut one, mut two) = (Chain::of(THIEF, 1), Chain::of(THIEF, 2));
    let mut honest = Office::new(2);
    assert_eq!(born(&mut honest), lan);
    let mut seen = honest.record(lan).dots(&(field::BIRTH_DATE, vec![]));
    seen.push(Dot { actor: two.author.id(), counter: 1 });
    seen.sort();
    let who = |at| (person("tran.binh", 8), request(8, at));
    one.write(who(1), EditKind::Change, vec![(lan, vec![change(field::BIRTH_DATE, "1970-01-01", seen)])]);
    let back = vec![one.dot()];
    two.write(who(2), EditKind::Change, vec![(lan, vec![change(field::BIRTH_DATE, "1970-01-02", back)])]);
    let states = [[&one, &two], [&two, &one]].map(|order| {
        let mut district = honest.clone();
        order.into_iter().for_each(|chain| take(&mut district, &chain.all));
        assert_eq!(shown(&district.record(lan), field::BIRTH_DATE).len(), 2, "nothing is left of what was there");
        assert_eq!((district.shard().pending, district.shard().conflicts), (2, 1));
        district.shard().state_digest
    });
    assert_eq!(states[0], states[1]);
}

#[test]
fn who_names_what_another_site_will_write_next_does_not_take_it_away() {
    let mut district = Office::new(2);
    let lan = born(&mut district);
    let own = district.record(lan).dots(&(field::BIRTH_DATE, vec![])).remove(0);
    let mut thief = Chain::of(THIEF, 1);
    let next = Dot { actor: own.actor, counter: own.counter + 1 };
    let note = change(field::NOTE, "a lie", vec![next]);
    thief.write((person("tran.binh", 8), request(8, 1)), EditKind::Change, vec![(lan, vec![note])]);
    take(&mut district, &thief.all);
    accepted(district.set(request(1, 9), lan, field::NOTE, "the truth"));
    assert!(shown(&district.record(lan), field::NOTE).contains(&"the truth".to_owned()), "it was acknowledged");
    let mut other = Office::new(3);
    other.merge(district.site, district.stream(), 6);
    assert_eq!(other.shard().state_digest, district.shard().state_digest);
}

#[test]
fn an_answer_that_counts_does_not_replace_itself_by_way_of_its_twin() {
    let mut district = Office::new(2);
    let lan = born(&mut district);
    let honest = district.record(lan).dots(&(field::BIRTH_DATE, vec![]));
    let (mut first, mut twin) = (Chain::of(THIEF, 1), Chain::of(THIEF, 2));
    let named = Dot { actor: twin.author.id(), counter: 1 };
    let who = (person("tran.binh", 9), request(9, 1));
    let over = |seen: Vec<Dot>| vec![(lan, vec![change(field::BIRTH_DATE, "1970-01-01", seen)])];
    twin.write(who.clone(), EditKind::Change, over(honest.clone()));
    let mut both = [honest, vec![named]].concat();
    both.sort();
    first.write(who, EditKind::Change, over(both));
    first.all[0].header.origin.received_ms = 0;
    for edits in [&twin.all, &first.all] {
        take(&mut district, edits);
    }
    assert_eq!(aside(&district), [Poison::Twin]);
    assert_eq!(shown(&district.record(lan), field::BIRTH_DATE), ["1970-01-01"]);
    assert_eq!(district.shard().pending, 1, "one person alone wrote it");
}
