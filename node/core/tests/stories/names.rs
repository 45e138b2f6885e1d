//! Who is found by what: five hundred names as people write them, and as officers type them.

use dinhba_core::edit::{Change, Dot};
use dinhba_core::ids::{AuthorId, RecordId};
use dinhba_core::level::LEVEL_FIRST;
use dinhba_core::record::{Record, Write};
use dinhba_core::schema::{FieldId, RecordKind, field, parse};
use dinhba_core::search::{Search, SearchError, headed_term, members_term, terms};
use dinhba_core::units::NoUnits;

use crdts::CmRDT;

const NAMES: &str = include_str!("../data/names.txt");
const KEY: [u8; 32] = [5; 32];

fn record_of(kind: RecordKind, fields: &[(FieldId, &str, &str)]) -> Record {
    let mut record = Record::new(kind);
    for (number, (field, element, text)) in fields.iter().enumerate() {
        let value = parse(*field, text, &NoUnits).unwrap_or_else(|error| panic!("{text}: {error}")).encode();
        let change = Change { field: *field, element: element.as_bytes().to_vec(), value, overwrites: Vec::new() };
        record.apply(Write::new(Dot { actor: AuthorId([1; 16]), counter: number as u64 + 1 }, 1, &[change]));
    }
    record
}

fn person(name: &str, born: &str) -> Record {
    record_of(RecordKind::Person, &[(field::NAME, "", name), (field::BIRTH_DATE, "", born)])
}

/// As a site does it: the index points to the record, and the record is what is meant.
fn finds(search: &Search, record: &Record) -> bool {
    let pointing = terms(LEVEL_FIRST, record, &KEY);
    search.terms(&KEY).iter().any(|term| pointing.contains(term)) && search.matches(record)
}

fn by_name(name: &str, born: &str) -> Search {
    Search::by_name(LEVEL_FIRST, name, born, "").unwrap_or_else(|error| panic!("{name} @ {born}: {error}"))
}

#[test]
fn five_hundred_people_are_found_by_what_officers_type_and_by_nothing_else() {
    let (mut people, mut wrong, mut asked) = (0, Vec::new(), 0);
    for line in NAMES.lines().filter(|line| !line.starts_with('#')) {
        let [name, born, found, not_found] = line.split(';').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let record = person(name, born.trim());
        people += 1;
        for (searches, must) in [(found, true), (not_found, false)] {
            for typed in searches.split('|') {
                let (typed_name, typed_born) = typed.split_once('@').expect(typed);
                asked += 1;
                if finds(&by_name(typed_name, typed_born), &record) != must {
                    wrong.push(format!("{name} ({born}) by {typed}: found must be {must}"));
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new(), "{} of {asked}", wrong.len());
    assert_eq!(people, 500);
    assert!(asked > 10_000);
}

#[test]
fn a_person_costs_the_index_few_terms() {
    let count = |record: &Record| terms(LEVEL_FIRST, record, &KEY).len();
    assert_eq!(count(&person("Nguyễn/Thị Ngọc/Lan", "1990-03-08")), 2);
    assert_eq!(count(&person("//H'Hen Niê", "1990")), 3);
    assert_eq!(count(&record_of(RecordKind::Person, &[(field::NAME, "", "Lê//An")])), 0, "without a birth date");
    let all: usize = NAMES
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(';').collect::<Vec<_>>())
        .map(|row| count(&person(row[0], row[1].trim())))
        .sum();
    assert!(all <= 500 * 9 / 4, "{all}");
}

#[test]
fn a_birth_date_is_compared_by_the_days_that_it_may_mean() {
    for (recorded, asked, must) in [
        ("1990-03-08", "1990", true),
        ("1990-03-08", "1990-03", true),
        ("1990-03-08", "08/03/1990", true),
        ("1990-03-08", "8.3.1990", true),
        ("1990-03-08", "1988..1992", true),
        ("1990-03-08", "1990-1994", true),
        ("1990-03-08", "1990-03-01 .. 1990-03-31", true),
        ("1990-03-08", "09/03/1990", false),
        ("1990-03-08", "04/1990", false),
        ("1990-03-08", "1989", false),
        ("1990-03-08", "1991..1995", false),
        ("1990-03", "08/03/1990", true),
        ("1990-03", "1990-03", true),
        ("1990-03", "08/04/1990", false),
        ("1990", "08/03/1990", true),
        ("1990", "12/1990", true),
        ("1990", "31/12/1989", false),
    ] {
        assert_eq!(finds(&by_name("lan", asked), &person("Lê/Thị/Lan", recorded)), must, "{recorded} by {asked}");
    }
    for bad in ["1988..1993", "1992..1988", "1988..", "..1992", "1988..1990..1992"] {
        assert!(Search::by_name(LEVEL_FIRST, "lan", bad, "").is_err(), "{bad}");
    }
    assert!(
        matches!(Search::by_name(LEVEL_FIRST, "lan", "", ""), Err(SearchError::Date(_))),
        "a name alone would be a list"
    );
}

#[test]
fn what_finds_nobody_is_refused_and_not_repeated() {
    for (name, mother) in
        [("", ""), (" '-. ", ""), (&*"lan ".repeat(17), ""), (&*"a".repeat(1 << 20), ""), ("lan", "'")]
    {
        let error = Search::by_name(LEVEL_FIRST, name, "1990", mother).err().expect("refused");
        assert!(matches!(error, SearchError::Name { .. }) && !error.to_string().contains("lan"), "{error}");
    }
    for bad in ["", "12345678", "0123456789", "01234567890a"] {
        assert!(matches!(Search::by_number(LEVEL_FIRST, bad), Err(SearchError::Number(_))), "{bad}");
    }
}

#[test]
fn a_disputed_or_a_second_name_finds_too() {
    let fields = [
        (field::NAME, "", "Lê/Thị/Lan"),
        (field::NAME, "", "Lê/Thị/Loan"),
        (field::OTHER_NAME, "", "Tư Mận"),
        (field::BIRTH_DATE, "", "1990"),
        (field::BIRTH_DATE, "", "1991-05"),
    ];
    let record = record_of(RecordKind::Person, &fields);
    for (name, born) in
        [("lan", "1990"), ("lê thị loan", "05/1991"), ("loan", "1990"), ("tư mận", "1991"), ("mận", "1990")]
    {
        assert!(finds(&by_name(name, born), &record), "{name} {born}");
    }
    assert!(!finds(&by_name("lan", "1992"), &record) && !finds(&by_name("tư", "1990"), &record));
}

#[test]
fn many_of_one_name_are_told_apart_by_their_mothers() {
    let fields = |mother| {
        [(field::NAME, "", "Lê/Thị/Lan"), (field::BIRTH_DATE, "", "1990"), (field::RELATIVE, "mother", mother)]
    };
    let of = |mother| record_of(RecordKind::Person, &fields(mother));
    let search = |mother| Search::by_name(LEVEL_FIRST, "lan", "1990", mother).unwrap();
    for typed in ["Trần Thị Mận", "tran thi man", "mận", "thị mận", "trần", "Mận Trần"] {
        assert!(finds(&search(typed), &of("name=Trần Thị Mận")), "{typed}");
        assert!(!finds(&search(typed), &of("name=Vũ Ngọc Hoa")), "{typed}");
        assert!(!finds(&search(typed), &of("number=001150000001")), "{typed}: nobody is named");
        assert!(!finds(&search(typed), &person("Lê/Thị/Lan", "1990")), "{typed}: nobody is known");
    }
}

#[test]
fn numbers_of_both_kinds_find_however_they_are_spaced() {
    let fields = [(field::PERSONAL_NUMBER, "", "001190000001"), (field::OLD_IDENTITY_NUMBER, "", "012345678")];
    let record = record_of(RecordKind::Person, &fields);
    for typed in ["001190000001", "001 190 000001", "012345678", "012 345 678", "012.345.678"] {
        assert!(finds(&Search::by_number(LEVEL_FIRST, typed).unwrap(), &record), "{typed}");
    }
    for typed in ["001190000002", "012345679"] {
        assert!(!finds(&Search::by_number(LEVEL_FIRST, typed).unwrap(), &record), "{typed}");
    }
}

#[test]
fn what_a_search_is_for_does_not_show_in_its_hash_but_that_it_is_the_same_does() {
    let hash = |name, born, unit| by_name(name, born).hash(&KEY, unit);
    assert_eq!(hash("Lê Thị Lan", "1990", ""), hash("le  thi lan", "01/01/1990..31/12/1990", ""));
    for other in [hash("Lê Thị Lan", "1991", ""), hash("Lê Lan", "1990", ""), hash("Lê Thị Lan", "1990", "02683")]
    {
        assert_ne!(other, hash("Lê Thị Lan", "1990", ""));
    }
    assert_ne!(by_name("lan", "1990").hash(&KEY, ""), by_name("lan", "1990").hash(&[6; 32], ""));
}

#[test]
fn households_and_persons_point_to_each_other() {
    let (household, head) = (RecordId([1; 16]), RecordId([2; 16]));
    let member = record_of(RecordKind::Person, &[(field::HOUSEHOLD, "", &household.to_string())]);
    assert!(terms(LEVEL_FIRST, &member, &KEY).contains(&members_term(&KEY, household)));
    let home = record_of(RecordKind::Household, &[(field::HEAD, "", &head.to_string())]);
    assert!(terms(LEVEL_FIRST, &home, &KEY).contains(&headed_term(&KEY, head)));
    assert_ne!(members_term(&KEY, household), headed_term(&KEY, household));
}
