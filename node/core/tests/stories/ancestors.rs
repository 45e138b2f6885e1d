//! What a unit says to all below it: which records stand in its shard, who may write and read them, and what the directory
//! makes of them.

use std::collections::BTreeSet;

use dinhba_core::access_log::{AccessEntry, Looked};
use dinhba_core::claims::{Purpose, Role};
use dinhba_core::command::{Adopt, Answer, Command, Cursor, EditCommand, PartDraft, RefusalCode, ShardInfo};
use dinhba_core::date::Date;
use dinhba_core::edit::{Change, Edit};
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{Incarnation, RecordId, RequestId, ShardId, SiteId, UnitId};
use dinhba_core::keys::suffix;
use dinhba_core::place::{Place, PlaceEntry, Said, SiteEntry};
use dinhba_core::record::Record;
use dinhba_core::registry::{ShardState, read, read_range};
use dinhba_core::schema::{FieldId, RecordKind, field, parse};
use dinhba_core::sync::Skip;
use dinhba_core::units::{Directory, NoUnits, Tier, Unit};

use crate::memory::{Office, PATH, SHARD, accepted, claims, create_command, request, seal_all};

/// What is written, by field and element.
type Fields<'a> = [(FieldId, &'a str, &'a str)];

fn office() -> Office {
    office_of(1)
}

/// An office that hosts the ancestor shards of all units above its commune too.
pub fn office_of(site: u64) -> Office {
    let mut office = Office::new(site);
    for depth in 1..PATH.len() {
        let info = ShardInfo::of_unit_above(PATH[..depth].to_vec());
        let (incarnation, epoch) = (Incarnation(office.random()), office.random());
        let adopt = Command::Adopt(Adopt { info, incarnation, epoch });
        assert!(matches!(office.run(adopt.clone()), Answer::Done(_)));
        assert!(matches!(office.run(adopt), Answer::Done(_)), "safe to repeat");
    }
    office
}

fn says(request: RequestId, depth: usize, fields: &Fields<'_>) -> EditCommand {
    let mut command = create_command(request, "Lê//An");
    let mut changes: Vec<Change> = fields
        .iter()
        .map(|(field, element, text)| Change {
            field: *field,
            element: element.as_bytes().to_vec(),
            value: parse(*field, text, &NoUnits).unwrap().encode(),
            overwrites: Vec::new(),
        })
        .collect();
    changes.sort_by(|one, two| (one.field, &one.element).cmp(&(two.field, &two.element)));
    command.shard = ShardId::of_unit_above(PATH[depth]);
    command.origin.claims = claims(Role::Operator, PATH[0]);
    let record = RecordId::derive(request, 0);
    command.parts =
        vec![PartDraft { record, record_kind: RecordKind::Site, create: true, valid_from: Vec::new(), changes }];
    command
}

fn site_of(number: u64) -> String {
    SiteId(number).to_string()
}

fn of_site(site: u64, unit: UnitId, key: &str) -> Vec<(FieldId, &'static str, String)> {
    vec![
        (field::SITE, "", site_of(site)),
        (field::SITE_UNIT, "", unit.to_string()),
        (field::SITE_KEY, "one", key.repeat(32)),
        (field::SITE_STATE, "", "active".to_owned()),
    ]
}

fn say(office: &mut Office, counter: u64, depth: usize, fields: &[(FieldId, &str, String)]) -> Answer {
    let fields: Vec<(FieldId, &str, &str)> =
        fields.iter().map(|(field, element, text)| (*field, *element, text.as_str())).collect();
    office.edit(says(request(1, counter), depth, &fields))
}

fn refused(answer: Answer, code: RefusalCode, words: &str) {
    let Answer::Refused(refusal) = answer else { panic!("{answer:?}") };
    assert!(refusal.code == code && refusal.text.contains(words), "{refusal:?}");
}

/// The units of `PATH`, each in the one before it, and two more provinces.
fn units() -> Directory {
    let unit = |id: UnitId, code: &str, parent| Unit {
        id,
        tier: Tier::of_code(code).unwrap(),
        code: code.to_owned(),
        name: format!("Đơn vị {code}"),
        parent,
        valid_from: Date::MIN,
        valid_to: None,
    };
    let path = ["00", "01", "001", "00001"].into_iter().enumerate();
    let path = path.map(|(at, code)| unit(PATH[at], code, at.checked_sub(1).map(|above| PATH[above])));
    let others = [(50, "02"), (51, "03")].map(|(id, code)| unit(UnitId(id), code, Some(PATH[0])));
    Directory::new(path.chain(others)).unwrap()
}

/// The directory of an office that was founded with `seeds`, and the units that there are by it.
fn directory(office: &Office, seeds: &[(u64, UnitId)]) -> (Place, Directory) {
    let mut place = Place::default();
    for (site, unit) in seeds {
        let (site, unit) = (SiteId(*site), *unit);
        place.put(PlaceEntry::Site(SiteEntry { site, unit, parent: None, public_key: [0x5e; 32] }));
    }
    let said = PATH[..PATH.len() - 1].iter().map(|unit| {
        let shard = ShardId::of_unit_above(*unit);
        let records: Vec<(Vec<u8>, Record)> = read_range(&office.state, office.keys().records(shard)).unwrap();
        let records =
            records.into_iter().map(|(key, record)| (RecordId(*suffix(&key, 0).first_chunk().unwrap()), record));
        Said { shard, home: *unit, records: records.collect() }
    });
    let said: Vec<Said> = said.collect();
    place.say_units(&said, &units());
    let (units, _) = units().with(&place.units);
    place.say_sites(said, &units);
    (place, units)
}

#[test]
fn people_stay_in_communes_and_sites_in_ancestor_shards() {
    let mut office = office();
    assert!(ShardInfo::of_unit_above(PATH[..1].to_vec()).is_ancestor());
    assert!(!ShardInfo { shard: SHARD, path: PATH.to_vec() }.is_ancestor());
    let mut person = create_command(request(1, 1), "Lê//An");
    person.shard = ShardId::of_unit_above(PATH[0]);
    person.origin.claims = claims(Role::Operator, PATH[0]);
    refused(office.edit(person), RefusalCode::Invalid, "shard of a commune");
    let fields = of_site(9, PATH[3], "ab");
    let fields: Vec<_> = fields.iter().map(|(field, element, text)| (*field, *element, text.as_str())).collect();
    let mut site = says(request(1, 2), 0, &fields);
    site.shard = SHARD;
    site.origin.claims = claims(Role::Registrar, PATH[0]);
    refused(office.edit(site), RefusalCode::Invalid, "ancestor shard");
    accepted(office.edit(says(request(1, 3), 0, &fields)));
    let shard: ShardState =
        read(&office.state, &office.keys().shard(ShardId::of_unit_above(PATH[0]))).unwrap().unwrap();
    assert_eq!((shard.arrivals, shard.persons, shard.households, shard.conflicts), (1, 0, 0, 0));
}

#[test]
fn operators_of_a_unit_or_above_write_and_those_below_read() {
    let mut office = office();
    let fields = of_site(9, PATH[3], "ab");
    let fields: Vec<_> = fields.iter().map(|(field, element, text)| (*field, *element, text.as_str())).collect();
    for (role, unit) in
        [(Role::Registrar, PATH[0]), (Role::Auditor, PATH[0]), (Role::Operator, PATH[2]), (Role::Operator, UnitId(99))]
    {
        let mut command = says(request(1, 1), 1, &fields);
        command.origin.claims = claims(role, unit);
        refused(office.edit(command), RefusalCode::Denied, "edit-sites");
    }
    for (unit, counter) in [(PATH[0], 1), (PATH[1], 2)] {
        let mut command = says(request(1, counter), 1, &fields);
        command.origin.claims = claims(Role::Operator, unit);
        accepted(office.edit(command));
    }
    let mut look = |role, unit, looked, shard| {
        let (claims, subject) = (claims(role, unit), [5; 16]);
        let case = "XM-1".parse().unwrap();
        let entry = AccessEntry { claims, purpose: Purpose::Verification, case, looked, shard, subject, at_ms: 7 };
        office.run(Command::Access(vec![entry])) == Answer::Access(vec![true])
    };
    let above = Some(ShardId::of_unit_above(PATH[0]));
    for looked in [Looked::Record, Looked::History, Looked::Export, Looked::Watch] {
        for unit in PATH {
            assert!(
                look(Role::Operator, unit, looked, above) && look(Role::Auditor, unit, looked, above),
                "{looked:?}"
            );
        }
        assert!(!look(Role::Operator, UnitId(99), looked, above) && !look(Role::Registrar, PATH[3], looked, above));
        // Nothing of it is said of people.
        assert!(!look(Role::Operator, PATH[0], looked, Some(SHARD)), "{looked:?}");
    }
    assert!(look(Role::Operator, PATH[3], Looked::Sites, None) && !look(Role::Registrar, PATH[3], Looked::Sites, None));
    // What belongs to everybody below does not make a group another's.
    for looked in [Looked::Backup, Looked::AddNode] {
        assert!(look(Role::Operator, PATH[3], looked, None), "{looked:?}");
        assert!(!look(Role::Operator, UnitId(99), looked, None), "{looked:?}");
    }
    assert!(look(Role::Auditor, PATH[3], Looked::AccessLog, None));
    assert!(
        look(Role::Registrar, PATH[3], Looked::Find, None) && !look(Role::Registrar, UnitId(99), Looked::Find, None)
    );
}

#[test]
fn the_directory_is_what_was_said_over_what_was_founded() {
    let mut office = office();
    let seeds = [(1, PATH[0]), (2, PATH[1]), (4, PATH[3])];
    let mut fields = of_site(4, PATH[3], "ab");
    fields.push((field::SITE_KEY, "two", "cd".repeat(32)));
    fields.push((field::SITE_PARENT, "", site_of(2)));
    fields.push((field::SITE_ADDRESS, "1", "10.0.0.5:7400".to_owned()));
    accepted(say(&mut office, 1, 1, &fields));
    accepted(say(&mut office, 2, 0, &of_site(7, UnitId(50), "ef")));
    let (place, _) = directory(&office, &seeds);
    assert_eq!(place.sites.keys().copied().collect::<Vec<_>>(), [1, 2, 4, 7].map(SiteId));
    let commune = &place.sites[&SiteId(4)];
    assert_eq!(
        commune.keys,
        BTreeSet::from([[0xab; 32], [0xcd; 32]]),
        "the founding file's key is no longer among them"
    );
    assert_eq!((commune.parent, commune.addresses.as_slice()), (Some(SiteId(2)), &["10.0.0.5:7400".to_owned()][..]));
    assert_eq!(place.sites[&SiteId(2)].keys, BTreeSet::from([[0x5e; 32]]), "of whom nothing was said, as founded");

    // A key that is cleared is none; a later record of the same site replaces the earlier one.
    let record = RecordId::derive(request(1, 1), 0);
    let shard = ShardId::of_unit_above(PATH[1]);
    let key = (field::SITE_KEY, b"one".to_vec());
    let now: Record = read(&office.state, &office.keys().record(shard, record)).unwrap().unwrap();
    let mut revoke = says(request(1, 3), 1, &[]);
    let change = Change { field: key.0, element: key.1.clone(), value: Vec::new(), overwrites: now.dots(&key) };
    revoke.parts[0] = PartDraft { record, create: false, changes: vec![change], ..revoke.parts[0].clone() };
    accepted(office.edit(revoke));
    assert_eq!(directory(&office, &seeds).0.sites[&SiteId(4)].keys, BTreeSet::from([[0xcd; 32]]));
    let mut again = of_site(4, PATH[3], "77");
    again[3].2 = "retired".to_owned();
    accepted(say(&mut office, 4, 1, &again));
    let (place, _) = directory(&office, &seeds);
    let retired = &place.sites[&SiteId(4)];
    assert!(!retired.is_active && place.site_of(PATH[3]).is_none() && retired.keys == BTreeSet::from([[0x77; 32]]));

    // A higher unit's word counts, whenever it came.
    accepted(say(&mut office, 5, 0, &of_site(4, PATH[3], "11")));
    accepted(say(&mut office, 6, 1, &of_site(4, PATH[3], "22")));
    assert_eq!(directory(&office, &seeds).0.sites[&SiteId(4)].keys, BTreeSet::from([[0x11; 32]]));
}

#[test]
fn a_unit_speaks_of_nobody_beside_or_above_it() {
    let mut office = office();
    let seeds = [(1, PATH[0]), (2, PATH[1]), (3, PATH[2]), (8, UnitId(50))];
    // The district: of the centre, of a neighbour, of the neighbour's site as if it served a commune of its own, of a site
    // that nobody knows and that serves another's unit; and of itself, which it may.
    for (counter, site, unit) in
        [(1, 1, PATH[0]), (2, 8, UnitId(50)), (3, 8, PATH[3]), (4, 9, UnitId(51)), (5, 3, PATH[2])]
    {
        accepted(say(&mut office, counter, 2, &of_site(site, unit, "66")));
    }
    let (place, _) = directory(&office, &seeds);
    assert_eq!(place.sites.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 8].map(SiteId));
    let said: Vec<SiteId> =
        place.sites.values().filter(|listed| listed.said.is_some()).map(|listed| listed.site).collect();
    assert_eq!(said, [SiteId(3)]);
    assert_eq!(place.sites[&SiteId(8)].unit, UnitId(50));
}

/// What the centre says of a unit, as an operator's client writes it: a unit above is named by its id.
fn of_unit(id: UnitId, code: &str, parent: UnitId, days: (&str, &str)) -> Vec<(FieldId, &'static str, String)> {
    let mut fields = vec![
        (field::UNIT, "", id.to_string()),
        (field::UNIT_CODE, "", code.to_owned()),
        (field::UNIT_NAME, "", format!("Đơn vị mới {code}")),
        (field::UNIT_PARENT, "", parent.to_string()),
        (field::UNIT_FROM, "", days.0.to_owned()),
    ];
    fields.extend((!days.1.is_empty()).then(|| (field::UNIT_TO, "", days.1.to_owned())));
    fields
}

fn say_unit(office: &mut Office, counter: u64, depth: usize, fields: &[(FieldId, &str, String)]) -> Answer {
    let fields: Vec<(FieldId, &str, &str)> =
        fields.iter().map(|(field, element, text)| (*field, *element, text.as_str())).collect();
    let mut command = says(request(1, counter), depth, &fields);
    command.parts[0].record_kind = RecordKind::Unit;
    office.edit(command)
}

#[test]
fn a_unit_that_the_centre_says_is_one_and_its_site_may_serve_it() {
    let mut office = office();
    let seeds = [(1, PATH[0]), (2, PATH[1])];
    let (district, commune) = (UnitId(60), UnitId(61));
    // The commune first: the order in which things are said does not matter.
    accepted(say_unit(&mut office, 1, 0, &of_unit(commune, "00002", district, ("2027-01-01", ""))));
    accepted(say(&mut office, 2, 1, &of_site(7, commune, "ef")));
    let (place, units) = directory(&office, &seeds);
    assert!(units.get(commune).is_none() && !place.sites.contains_key(&SiteId(7)), "nobody knows where it lies");
    accepted(say_unit(&mut office, 3, 0, &of_unit(district, "002", PATH[1], ("2027-01-01", ""))));
    let (place, units) = directory(&office, &seeds);
    let day: Date = "2027-01-01".parse().unwrap();
    assert_eq!(units.by_code("00002", day).unwrap().id, commune);
    assert_eq!(units.by_code("00002", "2026-12-31".parse().unwrap()), None);
    assert!(units.is_within(commune, PATH[1]));
    assert_eq!(place.sites[&SiteId(7)].unit, commune);

    refused(
        say_unit(&mut office, 4, 1, &of_unit(UnitId(62), "00003", PATH[2], ("2027-01-01", ""))),
        RefusalCode::Invalid,
        "of the country",
    );
    let mut command = says(request(1, 5), 0, &[(field::UNIT_NAME, "", "Xã Mới")]);
    command.parts[0].record_kind = RecordKind::Unit;
    command.shard = SHARD;
    command.origin.claims = claims(Role::Registrar, PATH[3]);
    refused(office.edit(command), RefusalCode::Invalid, "of the country");
}

#[test]
fn what_is_said_of_units_and_fits_no_tree_counts_for_nothing_and_says_why() {
    let of = |id, code: &str, parent, (from, to): (&str, &str)| Unit {
        id: UnitId(id),
        tier: Tier::of_code(code).unwrap(),
        code: code.to_owned(),
        name: "Xã Mới".to_owned(),
        parent: Some(parent),
        valid_from: from.parse().unwrap(),
        valid_to: to.parse().ok(),
    };
    let listed = |id: UnitId, to: &str| Unit { valid_to: to.parse().ok(), ..units().get(id).unwrap().clone() };
    let all = [
        (listed(PATH[3], "2026-12-31"), ""),
        (of(60, "00001", PATH[2], ("2027-01-01", "")), ""),
        (of(61, "00001", PATH[2], ("2027-06-01", "")), "has the code of another one in its time"),
        (of(62, "00009", PATH[2], ("2027-06-01", "2027-05-31")), "ends before it begins"),
        (of(63, "00009", UnitId(99), ("2027-06-01", "")), "has a parent that is not in the list"),
        (of(64, "009", PATH[3], ("2027-06-01", "")), "has a parent that is not above it"),
        (of(65, "00008", PATH[3], ("2027-06-01", "")), "has a parent that is not above it"),
        (of(66, "00", PATH[0], ("2027-06-01", "")), "is the country, which nobody makes or ends"),
        (Unit { parent: Some(PATH[0]), ..listed(PATH[2], "") }, "keeps its code"),
        (of(67, "004", UnitId(51), ("2027-01-01", "2027-12-31")), ""),
        (of(68, "00007", UnitId(67), ("2028-01-01", "")), "has a parent of another time"),
        (Unit { name: "Tỉnh Đổi Tên".to_owned(), ..listed(UnitId(50), "") }, ""),
    ];
    let said = all.iter().map(|(unit, _)| (unit.id, unit.clone())).collect();
    let (units, misfits) = units().with(&said);
    for (unit, reason) in &all {
        let told = misfits.get(&unit.id).map(ToString::to_string).unwrap_or_default();
        assert!(told.contains(reason) && told.is_empty() == reason.is_empty(), "{unit:?}: {told}");
    }
    let day = |text: &str| text.parse::<Date>().unwrap();
    assert_eq!(units.by_code("00001", day("2026-12-31")).unwrap().id, PATH[3]);
    assert_eq!(units.by_code("00001", day("2027-01-01")).unwrap().id, UnitId(60));
    assert_eq!(units.get(UnitId(50)).unwrap().name, "Tỉnh Đổi Tên");
    assert_eq!(units.get(PATH[2]).unwrap().parent, Some(PATH[1]));
    let communes = units.descendants(PATH[0], Tier::Commune, day("2027-07-01"));
    assert_eq!(communes.into_iter().map(|unit| unit.id).collect::<Vec<_>>(), [UnitId(60)]);
}

#[test]
fn what_a_record_of_a_site_may_hold() {
    let parse = |field, text: &str| parse(field, text, &NoUnits).map(|value| value.encode()).is_ok();
    let key = "0123456789abcdef".repeat(4);
    for (field, good, bad) in [
        (field::SITE, site_of(5), "s-5".to_owned()),
        (field::SITE_PARENT, site_of(5), "n-0000000000000005".to_owned()),
        (field::SITE_SHARD, ShardId(5).to_string(), site_of(5)),
        (field::SITE_KEY, key.clone(), key.to_uppercase()),
        (field::SITE_KEY, key.clone(), key[1..].to_owned()),
        (field::SITE_ADDRESS, "dk.example.vn:7400".to_owned(), "dk.example.vn".to_owned()),
        (field::SITE_ADDRESS, "[::1]:7400".to_owned(), "10.0.0.5:0".to_owned()),
        (field::SITE_STATE, "retired".to_owned(), "gone".to_owned()),
    ] {
        assert!(parse(field, &good), "{field} {good}");
        assert!(!parse(field, &bad), "{field} {bad}");
    }
    assert!(parse(field::UNIT, &UnitId(5).to_string()) && !parse(field::UNIT, &site_of(5)));
    assert_eq!([3, 4].map(|code| RecordKind::from_bytes(&[code])), [Ok(RecordKind::Site), Ok(RecordKind::Unit)]);
}

#[test]
fn people_that_a_neighbour_puts_into_an_ancestor_shard_are_set_aside() {
    let (mut author, mut other) = (office(), office());
    accepted(say(&mut author, 1, 1, &of_site(4, PATH[3], "ab")));
    let shard = ShardId::of_unit_above(PATH[1]);
    let state: ShardState = read(&author.state, &author.keys().shard(shard)).unwrap().unwrap();
    let start = Cursor::start(state.epoch);
    let (mut batch, _, _) = author.here().batch(&state, start, 0, &Skip::default(), usize::MAX).unwrap();
    let mut edit = Edit::from_bytes(&batch.items[0].bytes).unwrap();
    edit.header.record_kind = RecordKind::Person;
    batch.items[0].bytes = edit.to_bytes();
    seal_all(&mut batch);
    let merged = other.merge(SiteId(2), batch, 1);
    assert_eq!((merged.folded, merged.poisoned), (0, 1));
    let state: ShardState = read(&other.state, &other.keys().shard(shard)).unwrap().unwrap();
    assert_eq!((state.persons, state.arrivals), (0, 1), "it counts in the chain, and nobody is there");
}
