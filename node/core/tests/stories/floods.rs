//! A site that writes more into one record than a record may hold: a stolen key, or an operator who means harm. What it wrote
//! is kept and passed on, the record stays one that everybody can carry, and what others wrote into it stays in it.

#![expect(clippy::disallowed_macros, reason = "what was measured, for people")]

use std::collections::BTreeSet;
use std::time::Duration;

use crate::memory::{Office, PATH, SHARD, accepted, aside, claims, refusal, request, seal_all, value};
use dinhba_core::claims::{Purpose, Role};
use dinhba_core::command::{Answer, Cursor, Item, Merged, RefusalCode};
use dinhba_core::edit::{Author, Change, Dot, Edit, EditKind, Header, Origin};
use dinhba_core::encoding::Wire;
use dinhba_core::event::Event;
use dinhba_core::ids::{Hash, Incarnation, RecordId, SiteId};
use dinhba_core::record::{Record, Write};
use dinhba_core::registry::Poison;
use dinhba_core::schema::{FieldId, RecordKind, field};
use dinhba_core::share::{FLOOD_BYTES, LIFE_BYTES_MAX, SHARE_BYTES_MAX, Weight};
use dinhba_core::sync::{Batch, Skip};

const THIEF: SiteId = SiteId(66);
const SECRET: [u8; 32] = [7; 32];
/// What one batch of a hostile neighbour may hold.
const BATCH_BYTES: usize = 900_000;

/// The end of a chain that its key's thief goes on with.
#[derive(Debug, Clone, Copy)]
struct Chain {
    author: Author,
    number: u64,
    hash: Hash,
}

impl Chain {
    fn of_life(life: u64) -> Self {
        let mut incarnation = [1; 16];
        incarnation[..8].copy_from_slice(&life.to_be_bytes());
        let author = Author { site: THIEF, shard: SHARD, incarnation: Incarnation(incarnation) };
        Chain { author, number: 0, hash: Hash::default() }
    }

    fn write(&mut self, record: RecordId, changes: Vec<Change>) -> Edit {
        self.number += 1;
        let header = Header {
            level: 1,
            author: self.author,
            number: self.number,
            previous: self.hash,
            kind: EditKind::Change,
            event: Event::Change,
            record,
            record_kind: RecordKind::Person,
            part: 0,
            of: 1,
            origin: Origin {
                request: request(66, self.number),
                claims: claims(Role::Registrar, PATH[3]),
                purpose: Purpose::Registration,
                case: "KS-1".parse().unwrap(),
                authored_ms: 1,
                received_ms: 1,
            },
            valid_from: Vec::new(),
            extensions: Vec::new(),
        };
        let edit = Edit { header, changes };
        self.hash = edit.hash(&SECRET);
        edit
    }
}

fn change(field: FieldId, element: &str, value: Vec<u8>) -> Change {
    Change { field, element: element.as_bytes().to_vec(), value, overwrites: Vec::new() }
}

/// So many papers, each under a key of its own.
fn papers(from: usize, count: usize) -> Vec<Change> {
    (from..from + count).map(|number| change(field::DOCUMENT, &format!("{number:07}"), Vec::new())).collect()
}

fn take(office: &mut Office, edits: &[Edit]) -> Merged {
    let secrets: BTreeSet<_> =
        edits.iter().map(|edit| (edit.dot().actor, edit.header.origin.request.session)).collect();
    let start = Cursor::start([1; 16]);
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
    merged
}

/// How long something takes: told, never judged.
#[allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "the clock of the test, not of the core")]
fn timed(work: impl FnOnce()) -> Duration {
    let began = std::time::Instant::now();
    work();
    began.elapsed()
}

/// Takes edits by as many in a batch as a batch holds; how long the longest batch took.
fn take_all(office: &mut Office, edits: &[Edit]) -> Duration {
    let (mut rest, mut longest) = (edits, Duration::ZERO);
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take(4_096).take_while(|edit| {
            bytes += edit.to_bytes().len();
            bytes <= BATCH_BYTES
        });
        let (now, later) = rest.split_at(fits.count());
        longest = longest.max(timed(|| drop(take(office, now))));
        rest = later;
    }
    longest
}

fn copy_of(office: &Office, bytes_max: usize) -> Office {
    let mut copy = Office::new(9);
    copy.raise();
    let (mut start, mut scanned) = (Cursor::start(office.shard().epoch), 0);
    while scanned < office.shard().arrivals {
        let (batch, position) = office.batch(start, scanned, &Skip::default(), bytes_max);
        (start, scanned) = (batch.end, position);
        assert!(copy.merge(office.site, batch, 1).taken);
    }
    copy
}

fn agree(one: &Office, two: &Office) {
    assert_eq!(one.shard().edits_digest, two.shard().edits_digest);
    assert_eq!(one.shard().state_digest, two.shard().state_digest);
    assert_eq!(one.shard().poisoned, two.shard().poisoned);
}

fn name(text: &str) -> Change {
    change(field::NAME, "", value(field::NAME, text))
}

#[test]
fn of_megabytes_in_one_record_the_first_edits_count_and_all_are_kept() {
    let mut district = Office::new(1);
    let record = RecordId::derive(request(66, 1), 0);
    let mut chain = Chain::of_life(1);
    take(&mut district, &[chain.write(record, vec![name("Giàng/Thị/Mỷ")])]);
    accepted(district.set(request(1, 1), record, field::NOTE, "the district's own"));
    let before = district.record(record);

    let mut edits: Vec<Edit> = (0..20).map(|count| chain.write(record, papers(1_000 * count, 1_000))).collect();
    edits.push(chain.write(record, vec![name("Kẻ//Cắp")]));
    let note = change(field::NOTE, "", value(field::NOTE, &"ế".repeat(1_000)));
    edits.extend((0..1_600).map(|_| chain.write(record, vec![note.clone()])));
    let bytes: usize = edits.iter().map(|edit| edit.to_bytes().len()).sum();
    let longest = take_all(&mut district, &edits);
    println!("{} edits, {bytes} bytes: the longest batch took {longest:.1?}", edits.len());
    assert!(bytes > 5_000_000);

    let flooded = district.record(record);
    assert!(flooded.to_bytes().len() < 1_000, "{}", flooded.to_bytes().len());
    assert!(flooded.fields().eq(before.fields()), "the registration, and what the district wrote");
    assert_eq!(flooded.shares.written(THIEF), None);
    assert_eq!(aside(&district), vec![Poison::Flood; edits.len()]);
    assert_eq!(district.shard().arrivals, edits.len() as u64 + 2);
    // Whoever takes it over from here, in pieces of another size, comes to the same.
    agree(&copy_of(&district, 48 * 1024), &district);

    // An edit more of the thief costs as little as any, and so does one of the district.
    take(&mut district, &[chain.write(record, vec![name("Kẻ//Cắp")])]);
    assert!(district.read < 30, "{} values read", district.read);
    accepted(district.set(request(1, 2), record, field::NOTE, "and once more"));
    assert!(district.read < 30, "{} values read", district.read);
}

#[test]
fn branches_and_lives_make_no_more_of_a_flooded_record() {
    let mut district = Office::new(1);
    let record = RecordId::derive(request(66, 1), 0);
    let mut first = Chain::of_life(1);
    take(&mut district, &[first.write(record, vec![name("Giàng/Thị/Mỷ")])]);
    let root = first;
    let flood: Vec<Edit> = (0..20).map(|count| first.write(record, papers(1_000 * count, 1_000))).collect();
    take_all(&mut district, &flood);
    // Branches from its first edit, and from before it; each of as much as counts of a life.
    let mut branches = Vec::new();
    for count in 0..20 {
        let mut chain = if count % 2 == 0 { root } else { Chain::of_life(1) };
        branches.extend((0..3).map(|_| chain.write(record, papers(100_000 + 20 * count, 20))));
    }
    take_all(&mut district, &branches);
    let of_one = district.record(record).to_bytes().len();
    assert!(of_one < 4 * LIFE_BYTES_MAX as usize, "{of_one}");
    // One that grows where all are out already is not even compared with the others.
    take(&mut district, &[first.write(record, papers(0, 1))]);
    let mut fork = Chain { number: 12, hash: flood[10].hash(&SECRET), ..root };
    let edit = fork.write(record, papers(7, 1));
    take(&mut district, &[edit]);
    assert!(district.read < 150, "{} values read", district.read);

    let lives: Vec<Edit> = (2..=60)
        .flat_map(|life| {
            let mut chain = Chain::of_life(life);
            (0..2).map(move |count| chain.write(record, papers(life as usize * 1_000 + 60 * count, 60)))
        })
        .collect();
    let longest = take_all(&mut district, &lives);
    let of_sixty = district.record(record).to_bytes().len();
    println!("60 lives leave {of_sixty} bytes, the longest batch took {longest:.1?}");
    assert!((10 * of_one..60 * 4 * LIFE_BYTES_MAX as usize).contains(&of_sixty), "{of_sixty}");
    agree(&copy_of(&district, 300_000), &district);
}

#[test]
fn an_office_may_edit_a_record_ten_thousand_times_and_then_another_goes_on() {
    let mut commune = Office::new(2);
    let record = commune.create(request(1, 1), "Lê//An");
    let backup = commune.clone();
    let mut district = Office::new(1);
    for counter in 2..=10_000 {
        let answer = commune.set(request(1, counter), record, field::NOTE, &format!("{counter}"));
        accepted(answer);
    }
    district.merge(commune.site, commune.stream(), 1);
    // A backup of the commune from the very beginning is put into service: the record is folded anew, of all its edits.
    let mut second = backup;
    second.skip_chance(100_000);
    accepted(second.set(request(3, 1), record, field::NOTE, "from the backup"));
    let mut merged = None;
    let took = timed(|| merged = Some(district.merge(commune.site, second.stream(), 1)));
    println!("10,000 edits are folded anew in {took:.0?}");
    assert_eq!((merged.unwrap().folded, district.shard().poisoned), (1, 0));
    assert!(district.read < 50_000, "{} values read: more than a few for each edit", district.read);

    let refused = (10_001_u64..20_000).find_map(|counter| {
        match commune.set(request(1, counter), record, field::NOTE, &format!("{counter}")) {
            Answer::Accepted(_) => None,
            other => Some(refusal(other)),
        }
    });
    let (code, text) = refused.expect("there is an end");
    assert_eq!(code, RefusalCode::Rule);
    assert!(text.contains("ask another site that holds it, such as the one above"), "{text}");
    let written = commune.record(record).shares.written(commune.site).unwrap();
    assert!((SHARE_BYTES_MAX - 100..=SHARE_BYTES_MAX).contains(&written), "{written}");
    commune.create(request(1, 30_000), "Lê//Bình");

    let (start, scanned) = (Cursor::start(commune.shard().epoch), 0);
    district.merge(commune.site, commune.batch(start, scanned, &Skip::default(), usize::MAX).0, 1);
    assert_eq!(aside(&district), [], "no honest site floods");
    accepted(district.set(request(4, 1), record, field::NOTE, "the district goes on"));
}

#[test]
fn the_bytes_of_a_share_are_at_most_four_times_its_cost() {
    let dot = |of: u64, counter| {
        let mut id = [0xee; 16];
        id[8..].copy_from_slice(&of.to_be_bytes());
        Dot { actor: dinhba_core::ids::AuthorId(id), counter }
    };
    // All that can be long is: each edit has an alias, an hour in the far past, and names an edit of somebody who will come.
    let worst = |element: &dyn Fn(u64) -> Vec<u8>, overwritten: u64| {
        let mut record = Record::new(RecordKind::Person);
        let life = dot(0, 1).actor;
        for count in 1.. {
            let overwrites = (0..overwritten).map(|at| dot(1_000_000_000 + count * 100 + at, u64::MAX)).collect();
            let changes =
                vec![Change { field: field::DOCUMENT, element: element(count), value: Vec::new(), overwrites }];
            let weight = Weight::new(THIEF, life, &changes);
            if !record.shares.takes(&weight) {
                break;
            }
            record.shares.add(&weight);
            let name = dot(count, u64::from(u32::MAX));
            crdts::CmRDT::apply(&mut record, Write::new(name, i64::MIN, &changes));
        }
        record.to_bytes().len() as f64 / FLOOD_BYTES as f64
    };
    let once = |_: u64| Vec::new();
    let each = |count: u64| format!("{count:05}").into_bytes();
    let found = [worst(&once, 0), worst(&once, 1), worst(&once, 40), worst(&each, 1), worst(&each, 5)];
    println!("bytes for each byte of cost: {found:.2?}");
    assert!(found.iter().all(|ratio| *ratio < 4.0), "{found:?}");
    assert!(found.iter().any(|ratio| *ratio > 2.5), "{found:?}: it was the worst");
}
