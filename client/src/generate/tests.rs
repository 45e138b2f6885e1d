//! Stories about invented people and the files they travel in.

use std::collections::{BTreeMap, BTreeSet};

use dinhba_core::ids::RecordId;
use dinhba_core::schema::{FieldId, RecordKind, completeness, field, parse, rules, validate};
use dinhba_core::units::{BEFORE_REFORM, Directory, REFORM};

use super::files::{Format, RowError, read, read_from, write};
use super::*;

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
            validate(record.kind, *field, element.as_bytes(), &bytes).unwrap();
            sheet.insert((*field, element.as_bytes().to_vec()), vec![bytes]);
        }
        assert_eq!(sheet.len(), record.fields.len(), "no field stands twice");
        let lookup = |field, element: &[u8]| {
            sheet.get(&(field, element.to_vec())).into_iter().flatten().map(Vec::as_slice).collect()
        };
        let broken: Vec<_> = rules(record.kind, |_| true, |_| true, &lookup)
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

#[test]
fn files_bring_back_what_was_written() {
    let (_, drafts) = population(300, 4);
    let all: Vec<DraftRecord> = records(&drafts).cloned().collect();
    let folder = tempfile_dir();
    for (name, format) in [("people.ndjson", Format::Ndjson), ("people.csv", Format::Csv)] {
        let path = folder.join(name);
        let written = write(format, all.iter().cloned(), std::fs::File::create(&path).unwrap()).unwrap();
        assert_eq!(written, all.len() as u64);
        let back: Vec<DraftRecord> = read(&path).unwrap().collect::<Result<_, _>>().unwrap();
        assert!(back == all, "{name}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

fn tempfile_dir() -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("dinhba-files-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn rows(format: Format, text: &'static [u8]) -> Vec<Result<DraftRecord, RowError>> {
    read_from(format, text).unwrap().collect()
}

fn error(line: u64, reason: &str) -> Result<DraftRecord, RowError> {
    Err(RowError { line, reason: reason.to_owned() })
}

#[test]
fn a_table_from_an_office_reads_as_it_is() {
    let table = "\u{feff}Họ, chữ đệm và tên khai sinh;NGÀY, THÁNG, NĂM SINH;Giới tính;relative[Father];relative;màu\n\
        Lê  Thi\u{323} Ho\u{300}a;02/03/1975;Nữ;name=Lê An;\"mother: name=Bùi Mai\nchild-1: name=Trần Bình\";đỏ\n\
        ;;;;;\n\
        Trần An;1980;Nam;;không rõ;\n\
        Bùi An;1981\n";
    // Labels that hold the separator of another form need no quotes here.
    let found = rows(Format::Csv, table.as_bytes());
    assert_eq!(found.len(), 4);
    assert_eq!(found[0], error(1, "column 6 is not of the schema and is left out"));
    let first = found[1].as_ref().unwrap();
    assert_eq!((first.kind, first.id.as_str(), &first.home), (RecordKind::Person, "@row2", &None));
    let texts: Vec<_> =
        first.fields.iter().map(|f| (f.field.to_string(), f.element.as_str(), f.text.as_str())).collect();
    let expected = [
        ("name", "", "Lê Thị Hòa"),
        ("birth_date", "", "02/03/1975"),
        ("sex", "", "Nữ"),
        ("relative", "child-1", "name=Trần Bình"),
        ("relative", "father", "name=Lê An"),
        ("relative", "mother", "name=Bùi Mai"),
    ];
    assert_eq!(texts, expected.map(|(field, element, text)| (field.to_owned(), element, text)));
    assert_eq!(found[2], error(5, "relative must have an element key on each line: father: …"));
    assert_eq!(found[3].as_ref().unwrap().fields.len(), 2, "a short row has what it has");
}

#[test]
fn a_table_is_cut_where_its_header_makes_sense_and_its_lines_are_those_of_the_file() {
    // Three commas, one tab; line ends of another system; a blank line.
    let table = "Họ, chữ đệm và tên khai sinh\tNgày, tháng, năm sinh\r\nLê Chi\t\"1975\r\n\"\r\n\r\nLê An\t1980\tx\r\n";
    let found = rows(Format::Csv, table.as_bytes());
    let texts: Vec<_> = found[0].as_ref().unwrap().fields.iter().map(|f| f.text.as_str()).collect();
    assert_eq!((texts, found[0].as_ref().unwrap().id.as_str()), (vec!["Lê Chi", "1975"], "@row2"));
    assert_eq!(found[1], error(5, "has more cells than there are columns"));
}

#[test]
fn bad_rows_are_errors_of_their_own() {
    let table =
        b"kind,id,name,head\nperson,1,An,r-1\nperson,2,\xff,\nhousehold,3,,@p1\nperson,4,Binh,,extra\nalien,5,An,\n";
    let found = rows(Format::Csv, table);
    assert_eq!(found[0], error(2, "head is no field of a person"));
    assert_eq!(found[1], error(3, "is not UTF-8 text"));
    assert_eq!(found[2].as_ref().unwrap().text(field::HEAD), Some("@p1"));
    assert_eq!(found[3], error(5, "has more cells than there are columns"));
    assert_eq!(found[4], error(6, "kind must be person or household"));
    assert_eq!(found.len(), 5);

    let lines = br#"{"id":"1","fields":{"name":"An","note":"","collective":null}}

{"fields":{"colour":"red"}}
{"fields":{"name":["An"]}}
not json
{"fields":{"name":"An"},"more":1}
{"kind":"household","fields":{"collective":true}}
{"fields":{"relative":"father: name=A","relative[father]":"name=B"}}
[]"#;
    let found = rows(Format::Ndjson, lines);
    let first = found[0].as_ref().unwrap();
    assert_eq!(
        (first.id.as_str(), first.text(field::NOTE)),
        ("1", Some("")),
        "an empty text clears, null says nothing"
    );
    assert_eq!(found[1], error(3, "has an unknown field"));
    assert_eq!(found[2], error(4, "name must be a text"));
    assert_eq!(found[3], error(5, "is no JSON object (column 2)"));
    assert_eq!(found[4], error(6, "has keys other than kind, id, home and fields"));
    assert_eq!(found[5].as_ref().unwrap().text(field::COLLECTIVE), Some("yes"));
    assert_eq!(found[6], error(8, "relative stands there twice"));
    assert_eq!(found[7], error(9, "is no JSON object"));
}

#[test]
fn an_endless_line_is_one_error() {
    let mut text = vec![b'x'; 3 * 1024 * 1024];
    text.extend_from_slice(b"\n{\"fields\":{\"name\":\"An\"}}\n");
    let found: Vec<_> = read_from(Format::Ndjson, std::io::Cursor::new(text)).unwrap().collect();
    assert_eq!(found[0], error(1, "is longer than 1048576 bytes"));
    assert_eq!(found[1].as_ref().map(|record| record.id.as_str()), Ok("@row2"));
    assert_eq!(found.len(), 2);
}
