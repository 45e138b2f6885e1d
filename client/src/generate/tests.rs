//! Stories about invented people.

use std::collections::{BTreeMap, BTreeSet};

use dinhba_core::ids::RecordId;
use dinhba_core::level::LEVEL_MAX;
use dinhba_core::schema::{FieldId, RecordKind, completeness, field, parse, rules, validate};
use dinhba_core::units::{BEFORE_REFORM, Directory, REFORM};

use super::*;
use crate::draft::{Draft, DraftField, DraftRecord, Unlinked};

fn population(persons: usize, seed: u64) -> (Directory, Vec<Draft>) {
    let directory = Directory::vietnam().unwrap();
    // A ward of Hanoi, highland communes of Hà Giang, Sơn La and Đắk Lắk, one of Trà Vinh.
    let codes = ["00001", "00721", "03646", "24130", "29236"];
    let communes: Vec<_> =
        codes.iter().filter_map(|code| directory.by_code(code, BEFORE_REFORM)).map(|u| u.id).collect();
    assert!(communes.len() >= 3, "some of the codes are in the list");
    let drafts = generate(&directory, &communes, persons, seed).unwrap().collect();
    (directory, drafts)
}

fn records(drafts: &[Draft]) -> impl Iterator<Item = &DraftRecord> {
    drafts.iter().flat_map(|draft| &draft.records)
}

fn persons(drafts: &[Draft]) -> impl Iterator<Item = &DraftRecord> {
    records(drafts).filter(|record| record.kind == RecordKind::Person)
}

/// Any id will do where nobody looks it up.
fn invented_id(temporary: &str) -> Option<RecordId> {
    let mut bytes = [0; 16];
    bytes[0] = if temporary.starts_with("@p") { 1 } else { 2 };
    bytes[8..].copy_from_slice(&temporary[2..].parse::<u64>().ok()?.to_be_bytes());
    Some(RecordId(bytes))
}

#[test]
fn a_seed_gives_the_same_people_every_time() {
    let (_, drafts) = population(60, 7);
    assert_eq!(population(60, 7).1, drafts);
    assert_ne!(population(60, 8).1, drafts);
    // The last household may be cut short; all before it do not depend on how many follow.
    assert_eq!(population(200, 7).1[..drafts.len() - 1], drafts[..drafts.len() - 1]);
    let names: Vec<_> = persons(&drafts).filter_map(|p| p.text(field::NAME)).take(4).collect();
    assert_eq!(names, ["Nguyễn/Minh/Long", "Trần/Văn/Khang", "Nguyễn/Hoàng/Nga", "Nông/Thị/Thúy"]);
}

#[test]
fn invented_people_are_valid_and_in_order() {
    let (directory, drafts) = population(3000, 1);
    assert_eq!(persons(&drafts).count(), 3000);
    let (mut pending, mut incomplete) = (0, 0);
    for record in records(&drafts) {
        let mut record = record.clone();
        record.link(invented_id).unwrap();
        let mut sheet: BTreeMap<(FieldId, Vec<u8>), Vec<Vec<u8>>> = BTreeMap::new();
        for DraftField { field, element, text } in &record.fields {
            let bytes = parse(*field, text, &directory).unwrap_or_else(|e| panic!("{e}: {text}")).encode();
            validate(LEVEL_MAX, record.kind, *field, element.as_bytes(), &bytes).unwrap();
            sheet.insert((*field, element.as_bytes().to_vec()), vec![bytes]);
        }
        assert_eq!(sheet.len(), record.fields.len(), "no field stands twice");
        let lookup = |field, element: &[u8]| {
            sheet.get(&(field, element.to_vec())).into_iter().flatten().map(Vec::as_slice).collect()
        };
        let broken: Vec<_> = rules(LEVEL_MAX, record.kind, |_| true, |_| true, &lookup)
            .iter()
            .filter_map(|id| id.get())
            .map(|rule| rule.name)
            .collect();
        assert_eq!(broken, [""; 0], "{:?}", record.fields.iter().map(|f| &f.text).collect::<Vec<_>>());
        let missing = completeness(record.kind, &lookup, BEFORE_REFORM).missing;
        pending += usize::from(missing == [field::PERSONAL_NUMBER]);
        incomplete += usize::from(!missing.is_empty() && missing != [field::PERSONAL_NUMBER]);
    }
    assert_eq!(incomplete, 0);
    assert!((1..100).contains(&pending), "a few numbers are pending: {pending}");
}

#[test]
fn numbers_are_unique_and_references_stay_in_the_draft() {
    let (_, drafts) = population(3000, 2);
    let numbers: Vec<_> = persons(&drafts).filter_map(|p| p.text(field::PERSONAL_NUMBER)).collect();
    assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), numbers.len());
    let ids: Vec<_> = records(&drafts).map(|record| &record.id).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    for draft in &drafts {
        let ids: BTreeSet<_> = draft.records.iter().map(|record| record.id.clone()).collect();
        assert_eq!(draft.records[0].kind, RecordKind::Household);
        assert!(draft.records.iter().flat_map(DraftRecord::references).all(|id| ids.contains(&id)));
    }
}

#[test]
fn the_population_looks_like_one() {
    let (_, drafts) = population(6000, 3);
    let share = |matches: &dyn Fn(&DraftRecord) -> bool| 100 * persons(&drafts).filter(|p| matches(p)).count() / 6000;
    let women = share(&|p| p.text(field::SEX) == Some("female"));
    assert!((46..=54).contains(&women), "{women} % women");
    let children = share(&|p| p.text(field::BIRTH_DATE).is_some_and(|date| date >= "2010-07"));
    assert!((15..=35).contains(&children), "{children} % under 15");
    let old = share(&|p| p.text(field::BIRTH_DATE).is_some_and(|date| date < "1960"));
    assert!((5..=18).contains(&old), "{old} % above 65");
    let size = 6000.0 / drafts.len() as f64;
    assert!((2.5..4.2).contains(&size), "{size} persons in a household");
    let nguyen = share(&|p| p.text(field::NAME).is_some_and(|name| name.starts_with("Nguyễn/")));
    assert!((8..=40).contains(&nguyen), "{nguyen} % Nguyễn");
    let peoples: BTreeSet<_> = persons(&drafts).filter_map(|p| p.text(field::ETHNICITY)).collect();
    assert!(peoples.len() > 4, "{peoples:?}");
}

#[test]
fn people_live_in_the_communes_of_after_the_reform_too() {
    let directory = Directory::vietnam().unwrap();
    let commune = directory.by_code("00004", REFORM).unwrap().id;
    let drafts: Vec<_> = generate(&directory, &[commune], 50, 1).unwrap().collect();
    assert!(records(&drafts).all(|record| record.home.as_deref() == Some("00004@2025-07-01")));
    assert_eq!(persons(&drafts).count(), 50);
    assert_eq!(generate(&directory, &[], 5, 1).err(), Some(GenerateError::NoCommune));
    let province = directory.by_code("01", REFORM).unwrap().id;
    assert_eq!(generate(&directory, &[province], 5, 1).err(), Some(GenerateError::NotACommune { unit: province }));
}

#[test]
fn references_are_linked_once_the_ids_are_known() {
    let text = r"name=A\;record=@p9; record=@p2".to_owned();
    let entry = DraftField { field: field::RELATIVE, element: "spouse".to_owned(), text };
    let home = DraftField { field: field::HOUSEHOLD, element: String::new(), text: "@h1".to_owned() };
    let mut record =
        DraftRecord { kind: RecordKind::Person, id: "@p1".to_owned(), home: None, fields: vec![entry, home] };
    assert_eq!(record.references(), ["@p2", "@h1"]);
    let before = record.clone();
    let only_people = |id: &str| invented_id(id).filter(|_| id.starts_with("@p"));
    assert_eq!(record.link(only_people), Err(Unlinked { field: field::HOUSEHOLD }));
    assert_eq!(record, before);
    record.link(invented_id).unwrap();
    assert_eq!(record.fields[0].text, r"name=A\;record=@p9; record=r-01000000000000000000000000000002");
    assert_eq!(record.fields[1].text, "r-02000000000000000000000000000001");
    assert_eq!(record.references(), [""; 0]);
}
