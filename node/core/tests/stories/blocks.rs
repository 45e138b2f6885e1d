//! Blocks of personal numbers: granted from the centre down, used by one life of one site, never given twice.

use std::collections::BTreeSet;

use dinhba_core::blocks::{Block, Granted, Wanted};
use dinhba_core::claims::{Purpose, Role};
use dinhba_core::command::{Adopt, Answer, Command, Cursor, FileCommand, GrantCommand, RefusalCode, Renew, ShardInfo};
use dinhba_core::date::Date;
use dinhba_core::edit::{Author, Change, EditKind, Origin};
use dinhba_core::encoding::Wire;
use dinhba_core::event::Event;
use dinhba_core::filing::{Typed, TypedSubject};
use dinhba_core::ids::{Incarnation, RecordId, RequestId, ShardId};
use dinhba_core::level::LEVEL_MAX;
use dinhba_core::number::{PersonNumber, Series};
use dinhba_core::record::Record;
use dinhba_core::registry::{ShardState, blocks, blocks_of, numbers_taken, read, read_range, taken};
use dinhba_core::schema::field;
use dinhba_core::sync::Skip;
use dinhba_core::units::NoUnits;
use proptest::prelude::*;

use dinhba_core::work::Work;

use crate::memory::{Office, PATH, SHARD, accepted, claims, command, meet, refusal, request, seal_all};

const GIRLS: &str = "001326";

/// The ancestor shard of the unit at a depth.
fn above(depth: usize) -> ShardId {
    ShardId::of_unit_above(PATH[depth])
}

/// A site that hosts the commune's shard and those of the units above it.
fn office(site: u64) -> Office {
    let mut office = Office::new(site);
    for depth in 1..PATH.len() {
        let info = ShardInfo::of_unit_above(PATH[..depth].to_vec());
        let (incarnation, epoch) = (Incarnation(office.random()), office.random());
        office.run(Command::Adopt(Adopt { info, incarnation, epoch }));
    }
    office
}

fn state(office: &Office, shard: ShardId) -> ShardState {
    read(&office.state, &office.keys().shard(shard)).unwrap().unwrap()
}

fn own(office: &Office, shard: ShardId) -> Author {
    state(office, shard).own
}

fn series(digits: &str) -> Series {
    digits.parse().unwrap()
}

fn by_site(request: RequestId) -> Origin {
    let mut origin = command(request, EditKind::Change, RecordId::default(), false, Vec::new()).origin;
    origin.claims = claims(Role::Site, PATH[0]);
    origin.purpose = Purpose::Registration;
    origin
}

fn grant(office: &mut Office, request: RequestId, depth: usize, wanted: Vec<Wanted>) -> Answer {
    let grant =
        GrantCommand { shard: above(depth), origin: by_site(request), secret: [7; 32], first_serial: 500, wanted };
    office.run(Command::Grant(Box::new(grant)))
}

fn want(series: Series, holder: Author, count: u32, granted: u64) -> Wanted {
    Wanted { series, holder, count, granted, avoided: Vec::new() }
}

/// One shard's edits from one office to another.
fn bring(from: &Office, to: &mut Office, shard: ShardId) {
    let of = state(from, shard);
    let (mut batch, _, _) = from.here().batch(&of, Cursor::start(of.epoch), 0, &Skip::default(), usize::MAX).unwrap();
    seal_all(&mut batch);
    let merged = to.merge(from.site, batch, 3);
    assert!(merged.taken && merged.refused.is_none(), "{merged:?}");
}

fn granted(office: &Office, depth: usize) -> Vec<Granted> {
    blocks(&office.state, office.keys(), above(depth), None).unwrap()
}

/// What a site may use in a shard.
fn usable(office: &Office, shard: ShardId) -> Vec<Block> {
    let holder = own(office, shard);
    let found = blocks_of(&office.state, office.keys(), &PATH[..3], &BTreeSet::from([holder])).unwrap();
    found.get(&holder).cloned().unwrap_or_default()
}

/// Their serials, from and to.
fn rows(blocks: &[Block]) -> Vec<(u32, u32)> {
    blocks.iter().map(|block| (block.serials().start, block.serials().end)).collect()
}

fn birth(office: &mut Office, request: RequestId, sex: &str, blocks: Vec<Block>) -> Answer {
    let inputs = [("name", "Lê/Thị/An"), ("sex", sex), ("birth-date", "2026-03-08")];
    let inputs = inputs.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec();
    let child = TypedSubject { role: "child".to_owned(), inputs, ..TypedSubject::default() };
    let typed = Typed { event: "birth".to_owned(), subjects: vec![child], ..Typed::default() };
    let filed = typed.read(LEVEL_MAX, Date::new(2026, 6, 15).unwrap(), &NoUnits).unwrap();
    let mut origin = by_site(request);
    origin.claims = claims(Role::Registrar, PATH[3]);
    office.run(Command::File(Box::new(FileCommand { shard: SHARD, origin, secret: [9; 32], filed, blocks })))
}

fn number_of(office: &Office, request: RequestId) -> Option<PersonNumber> {
    office.record(RecordId::derive(request, 0)).value(field::PERSONAL_NUMBER, b"")?.number()
}

/// What the site's program files for somebody who waits.
fn assign(office: &mut Office, request: RequestId, record: RecordId, blocks: Vec<Block>) -> Answer {
    let now = office.record(record);
    let seen = now.fields().flat_map(|(_, values)| values).map(|tagged| tagged.dot.clone()).collect::<BTreeSet<_>>();
    let person = TypedSubject {
        role: "person".to_owned(),
        record: Some(record),
        seen: seen.into_iter().collect(),
        ..TypedSubject::default()
    };
    let typed = Typed { event: Event::NumberAssigned.name().to_owned(), subjects: vec![person], ..Typed::default() };
    let filed = typed.read(LEVEL_MAX, Date::new(2026, 6, 15).unwrap(), &NoUnits).unwrap();
    let origin = by_site(request);
    office.run(Command::File(Box::new(FileCommand { shard: SHARD, origin, secret: [9; 32], filed, blocks })))
}

/// The country from the centre to one commune, each with blocks of girls of 2026.
struct Country {
    centre: Office,
    province: Office,
    district: Office,
    commune: Office,
}

impl Country {
    fn new() -> Self {
        let [centre, province, district, commune] = [1, 2, 3, 4].map(office);
        Country { centre, province, district, commune }
    }

    /// Each grants to the one below, and all hear of it.
    fn grant(&mut self, session: u8, counts: [u32; 3]) {
        let girls = series(GIRLS);
        let Country { centre, province, district, commune } = self;
        let before = |office: &Office, depth: usize, holder: Author| -> u64 {
            let to = granted(office, depth).into_iter().filter(|granted| granted.block.holder == holder);
            to.map(|granted| u64::from(granted.block.count)).sum()
        };
        let holder = own(province, above(1));
        let wanted = want(girls, holder, counts[0], before(centre, 0, holder));
        accepted(grant(centre, request(session, 1), 0, vec![wanted]));
        bring(centre, province, above(0));
        let holder = own(district, above(2));
        let wanted = want(girls, holder, counts[1], before(province, 1, holder));
        accepted(grant(province, request(session, 2), 1, vec![wanted]));
        bring(province, district, above(0));
        bring(province, district, above(1));
        let holder = own(commune, SHARD);
        let wanted = want(girls, holder, counts[2], before(district, 2, holder));
        accepted(grant(district, request(session, 3), 2, vec![wanted]));
        for depth in 0..3 {
            bring(district, commune, above(depth));
        }
    }
}

#[test]
fn a_birth_far_from_every_line_has_a_number_of_the_block_that_came_down_the_tree() {
    let mut country = Country::new();
    country.grant(20, [100, 40, 3]);
    let commune = &mut country.commune;
    let usable = usable(commune, SHARD);
    assert_eq!(rows(&usable), [(500, 503)]);
    let numbers: Vec<Option<String>> = (1..=4)
        .map(|child| {
            let told = accepted(birth(commune, request(30, child), "female", usable.clone())).number;
            assert_eq!(told, number_of(commune, request(30, child)), "whoever files it is told");
            told.map(|number| number.to_string())
        })
        .collect();
    let given = |serial: &str| Some(format!("{GIRLS}{serial}"));
    assert_eq!(numbers, [given("000500"), given("000501"), given("000502"), None], "the last one waits");
    // Nothing was granted for boys.
    accepted(birth(commune, request(30, 5), "male", usable.clone()));
    assert_eq!((number_of(commune, request(30, 5)), state(commune, SHARD).unnumbered), (None, 2));

    // The same request again is known, though the numbers have moved on.
    let again = accepted(birth(commune, request(30, 1), "female", usable.clone()));
    assert_eq!((again.replayed, again.number.map(|number| number.to_string())), (true, given("000500")));
    let waits = RecordId::derive(request(30, 4), 0);
    let (code, text) = refusal(assign(commune, request(31, 1), waits, usable));
    assert!(code == RefusalCode::Rule && text.contains("no_number_to_give"), "{text}");

    // More comes, and who waits is given the next one.
    country.grant(21, [10, 10, 5]);
    let more = self::usable(&country.commune, SHARD);
    accepted(assign(&mut country.commune, request(31, 2), waits, more.clone()));
    let number = country.commune.record(waits).value(field::PERSONAL_NUMBER, b"").unwrap().number().unwrap();
    assert!(more.iter().any(|block| block.has(number)));
    assert_eq!(state(&country.commune, SHARD).unnumbered, 1);
    let (code, _) = refusal(assign(&mut country.commune, request(31, 3), waits, more));
    assert_eq!(code, RefusalCode::Rule, "she has one");
}

#[test]
fn a_life_that_came_back_uses_no_block_of_the_one_before() {
    let mut country = Country::new();
    country.grant(20, [100, 40, 3]);
    let commune = &mut country.commune;
    let old = usable(commune, SHARD);
    let author = own(commune, SHARD).id();
    let (incarnation, epoch) = (Incarnation(commune.random()), commune.random());
    commune.run(Command::Renew(Renew { shard: SHARD, author, incarnation, epoch }));
    assert_eq!(usable(commune, SHARD), []);
    // Also where the door still has what it looked up before.
    accepted(birth(commune, request(30, 1), "female", old.clone()));
    assert_eq!((number_of(commune, request(30, 1)), state(commune, SHARD).unnumbered), (None, 1));
    country.grant(21, [10, 10, 5]);
    let new = usable(&country.commune, SHARD);
    assert!(new.iter().all(|block| old.iter().all(|old| old.serials().end <= block.first)), "{new:?} after {old:?}");
}

#[test]
fn nobody_is_granted_twice_and_nothing_is_granted_that_one_does_not_have() {
    let mut country = Country::new();
    let girls = series(GIRLS);
    let (to, shard) = (own(&country.province, above(1)), above(0));
    let centre = &mut country.centre;
    // Two leaders ask for the same.
    accepted(grant(centre, request(20, 1), 0, vec![want(girls, to, 100, 0)]));
    let (code, text) = refusal(grant(centre, request(21, 1), 0, vec![want(girls, to, 100, 0)]));
    assert!(code == RefusalCode::Rule && text.contains("nothing of it is to be granted"), "{text}");
    // One of several was granted; the other one is.
    let boys = series("001226");
    accepted(grant(
        centre,
        request(21, 2),
        0,
        vec![want(girls, to, 100, 0), want(boys, to, 50, 0), want(boys, to, 50, 0)],
    ));
    let rows: Vec<_> =
        granted(centre, 0).into_iter().map(|granted| (granted.block.series, granted.block.serials())).collect();
    assert_eq!(rows, [(boys, 500..550), (girls, 500..600)]);
    // What was typed in somewhere is left out.
    let old = series("001299");
    let typed = Wanted { avoided: vec![(500, 510), (515, 999_000)], ..want(old, to, 100, 0) };
    accepted(grant(centre, request(21, 3), 0, vec![typed]));
    let of_old = granted(centre, 0).into_iter().find(|granted| granted.block.series == old).unwrap();
    assert_eq!((of_old.block.serials().start, of_old.block.serials().end), (510, 515));
    // No officer grants, and nobody edits what was granted.
    let mut origin = by_site(request(22, 1));
    origin.claims = claims(Role::Operator, PATH[0]);
    let wanted = vec![want(girls, to, 1, 100)];
    let command = GrantCommand { shard, origin, secret: [7; 32], first_serial: 0, wanted };
    assert_eq!(refusal(centre.run(Command::Grant(Box::new(command)))).0, RefusalCode::Denied);
    let block = RecordId::derive(request(20, 1), 0);
    let count = Change { field: field::BLOCK_COUNT, element: vec![], value: b"9".to_vec(), overwrites: vec![] };
    let mut edit = command_of_operator(request(22, 2), block, count);
    edit.shard = shard;
    assert_eq!(refusal(centre.run(Command::Edit(Box::new(edit)))).0, RefusalCode::Invalid);

    // A district that was granted nothing has nothing to grant; nor has a province what it has granted already.
    let commune = own(&country.commune, SHARD);
    let (code, _) = refusal(grant(&mut country.district, request(23, 1), 2, vec![want(girls, commune, 5, 0)]));
    assert_eq!(code, RefusalCode::Rule);
    bring(&country.centre, &mut country.province, above(0));
    let district = own(&country.district, above(2));
    accepted(grant(&mut country.province, request(24, 1), 1, vec![want(girls, district, 70, 0)]));
    accepted(grant(&mut country.province, request(24, 2), 1, vec![want(girls, district, 70, 70)]));
    assert_eq!(granted(&country.province, 1)[1].block.serials(), 570..600, "what is left");
    let (code, _) = refusal(grant(&mut country.province, request(24, 3), 1, vec![want(girls, district, 70, 100)]));
    assert_eq!(code, RefusalCode::Rule);
}

fn command_of_operator(request: RequestId, record: RecordId, change: Change) -> dinhba_core::command::EditCommand {
    let mut command = command(request, EditKind::Change, record, false, vec![change]);
    command.origin.claims = claims(Role::Operator, PATH[0]);
    command.parts[0].record_kind = dinhba_core::schema::RecordKind::Block;
    command
}

#[test]
fn a_thief_of_a_districts_key_grants_numbers_that_nobody_uses() {
    let mut country = Country::new();
    country.grant(20, [100, 40, 3]);
    // As if it were the centre: from all numbers there are, in the district's own shard.
    let girls = series(GIRLS);
    let commune = own(&country.commune, SHARD);
    let mut thief = Office::new(3);
    let info = ShardInfo { shard: above(2), path: vec![PATH[2]] };
    thief.run(Command::Adopt(Adopt { info, incarnation: Incarnation([0xbb; 16]), epoch: [0xbb; 16] }));
    let wanted = vec![want(girls, commune, 1000, 0)];
    let command =
        GrantCommand { shard: above(2), origin: origin_of(PATH[2]), secret: [7; 32], first_serial: 510, wanted };
    accepted(thief.run(Command::Grant(Box::new(command))));
    bring(&thief, &mut country.commune, above(2));
    assert_eq!(granted(&country.commune, 2).len(), 2);
    assert_eq!(rows(&usable(&country.commune, SHARD)), [(500, 503)]);
}

fn origin_of(unit: dinhba_core::ids::UnitId) -> Origin {
    let mut origin = by_site(request(40, 1));
    origin.claims = claims(Role::Site, unit);
    origin
}

#[test]
fn a_number_once_written_is_given_to_nobody_else_whatever_became_of_it() {
    let mut country = Country::new();
    country.grant(20, [100, 40, 3]);
    let commune = &mut country.commune;
    let usable = usable(commune, SHARD);
    // Typed in, then taken back by a correction.
    let typed = commune.create(request(30, 1), "Lê/Thị/Lan");
    accepted(commune.set(request(30, 2), typed, field::PERSONAL_NUMBER, "001326000500"));
    let overwrites = commune.record(typed).dots(&(field::PERSONAL_NUMBER, Vec::new()));
    let clear = Change { field: field::PERSONAL_NUMBER, element: vec![], value: vec![], overwrites };
    accepted(commune.edit(command(request(30, 3), EditKind::Change, typed, false, vec![clear])));
    accepted(birth(commune, request(30, 4), "female", usable));
    assert_eq!(number_of(commune, request(30, 4)).unwrap().to_string(), "001326000501");
    let girls = series(GIRLS);
    assert_eq!(taken(&commune.state, commune.keys(), SHARD, (girls, &(500..503))).unwrap(), 2);
    assert_eq!(numbers_taken(&commune.state, commune.keys(), SHARD).unwrap().len(), 2);
}

/// Which numbers the edits of a shard ever wrote, counted anew from the edits.
fn recounted(office: &Office) -> BTreeSet<PersonNumber> {
    let stored: Vec<(Vec<u8>, dinhba_core::registry::StoredEdit)> =
        read_range(&office.state, office.keys().edits(SHARD)).unwrap();
    let edits = stored.iter().map(|(_, stored)| dinhba_core::edit::Edit::from_bytes(&stored.bytes).unwrap());
    let of = |change: &Change| {
        PersonNumber::from_bytes(&change.value).ok().filter(|_| change.field == field::PERSONAL_NUMBER)
    };
    edits.flat_map(|edit| edit.changes).filter_map(|change| of(&change)).collect()
}

proptest! {
    /// Two communes' offices and whoever registers for one of them above it, births and grants at random, lost and renewed lives:
    /// no number twice, and the ledger is what the edits say.
    #[test]
    fn no_number_twice_and_the_ledger_is_complete(steps: Vec<(u8, u8)>) {
        let mut country = Country::new();
        country.grant(20, [1000, 400, 4]);
        let mut counter = 0;
        for (step, sex) in steps.into_iter().take(40) {
            counter += 1;
            match step % 8 {
                0 => country.grant(100 + counter as u8, [50, 20, 1 + u32::from(step / 8)]),
                1 => {
                    let commune = &mut country.commune;
                    let author = own(commune, SHARD).id();
                    let (incarnation, epoch) = (Incarnation(commune.random()), commune.random());
                    commune.run(Command::Renew(Renew { shard: SHARD, author, incarnation, epoch }));
                }
                2 => meet(&mut country.commune, &mut country.district),
                3 => {
                    let usable = usable(&country.district, SHARD);
                    accepted(birth(&mut country.district, request(31, counter), "female", usable));
                }
                _ => {
                    let usable = usable(&country.commune, SHARD);
                    let sex = if sex % 4 == 0 { "male" } else { "female" };
                    accepted(birth(&mut country.commune, request(30, counter), sex, usable));
                }
            }
        }
        let numbers = |record: &Record| record.value(field::PERSONAL_NUMBER, b"").and_then(|value| value.number());
        let given: Vec<PersonNumber> = country.commune.records().iter().filter_map(|(_, record)| numbers(record)).collect();
        let apart: BTreeSet<PersonNumber> = given.iter().copied().collect();
        prop_assert_eq!(given.len(), apart.len());
        let anew = recounted(&country.commune);
        prop_assert_eq!(&anew, &apart);
        prop_assert_eq!(&numbers_taken(&country.commune.state, country.commune.keys(), SHARD).unwrap(), &anew);
        let waiting = country.commune.records().iter().filter(|(_, record)| numbers(record).is_none()).count();
        prop_assert_eq!(state(&country.commune, SHARD).unnumbered as usize, waiting);
        prop_assert_eq!(country.commune.listed().iter().filter(|entry| entry.work == Work::Number).count(), waiting);
        // What each granted lies in what it was granted, and apart.
        for depth in 0..3 {
            let rows: Vec<_> = granted(&country.commune, depth).into_iter().map(|granted| granted.block.serials()).collect();
            for (at, one) in rows.iter().enumerate() {
                prop_assert!(rows[at + 1..].iter().all(|two| one.end <= two.start || two.end <= one.start));
            }
        }
        meet(&mut country.commune, &mut country.district);
        prop_assert_eq!(recounted(&country.district), anew);
    }
}
