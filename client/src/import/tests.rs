//! Stories about files: whoever was in one is registered, once, or named as not.

use std::collections::BTreeMap;

use dinhba_core::ids::{RecordId, RequestId};
use dinhba_core::schema::{field, parse};
use dinhba_core::units::{BEFORE_REFORM, Directory};
use proptest::prelude::*;
use proptest::sample::Index;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rust_xlsxwriter::{Format as CellFormat, Workbook};

use super::plan::Plan;
use super::*;
use crate::draft::DraftField;
use crate::generate::generate;

/// Both lists of units are long, and do not change.
fn directory() -> &'static Directory {
    static DIRECTORY: std::sync::OnceLock<Directory> = std::sync::OnceLock::new();
    DIRECTORY.get_or_init(|| Directory::vietnam().unwrap())
}

fn doubts(bytes: &[u8], name: &str) -> Vec<(u64, String)> {
    let read = Records::read(bytes, Some(Path::new(name)), &Reading::default());
    read.err().unwrap_or_default().into_iter().map(|problem| (problem.line, problem.reason)).collect()
}

fn records(bytes: &[u8], name: &str) -> Records {
    let read = Records::read(bytes, Some(Path::new(name)), &Reading::default());
    read.unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn rows(bytes: &[u8], name: &str) -> Vec<(u64, Result<DraftRecord, String>)> {
    records(bytes, name).rows().collect()
}

fn texts(record: &DraftRecord) -> Vec<(String, String, String)> {
    record.fields.iter().map(|f| (f.field.to_string(), f.element.clone(), f.text.clone())).collect()
}

#[test]
fn nothing_is_taken_from_a_file_whose_structure_is_in_doubt() {
    const HEADER: &str = "id,name,birth_date,note\n";
    for (what, text, line) in [
        ("a quote without an end", "1,Lê/Thị/Hoa,1990-01-01,\"chưa rõ\n2,Vũ/Văn/Ba,1991-02-02,\n", 2),
        ("one that ends two rows below", "1,Lê/Văn/A,1990,\"chưa\n2,Vũ/Văn/B,1991,\n3,Bùi/Văn/C,1992,\"\n", 2),
        ("one that ends in the next row", "1,Lê/Văn/A,1990,\"chưa\n2,Vũ/Văn/B,1991,\"\n3,Bùi/Văn/C,1992,\n", 2),
        ("a quote around two cells", "1,\"Lê/Văn/A,1990\",x\n", 2),
        ("a quote inside a cell", "1,Lê/Văn/A,1990,5\" \n", 2),
        ("a row cut in its middle", "1,Lê/Văn/A,1990,x\n2,Vũ/Văn/B\n", 3),
        ("a row of too many cells", "1,Lê/Văn/A,1990,x,y\n", 2),
        ("a last row without an end", "1,Lê/Văn/A,1990,x\n2,Vũ/Văn/B,1991,chư", 3),
        ("lone carriage returns", "1,Lê/Văn/A,1990,x\r2,Vũ/Văn/B,1991,y\r", 2),
        ("mixed line ends", "1,Lê/Văn/A,1990,x\r\n2,Vũ/Văn/B,1991,y\n", 2),
        ("a header again", "1,Lê/Văn/A,1990,x\nid,name,birth_date,note\n2,Vũ/Văn/B,1991,y\n", 3),
        ("a NUL", "1,Lê/Văn/A,1990,\0\n", 2),
    ] {
        let found = doubts(format!("{HEADER}{text}").as_bytes(), "people.csv");
        assert_eq!(found.first().map(|(line, _)| *line), Some(line), "{what}: {found:?}");
        assert!(found.iter().all(|(_, reason)| !reason.contains("Lê")), "{what}: {found:?}");
    }
    for (what, text) in [
        ("nothing", ""),
        ("a header alone", HEADER),
        ("no header", "1,Lê/Văn/A,1990,x\n2,Vũ/Văn/B,1991,y\n"),
        ("an unknown column", "id,name,birthdate\n1,Lê/Văn/A,1990\n"),
        ("a doubled column", "id,name,name\n1,Lê/Văn/A,Lê/Văn/B\n"),
        ("something without a title", "id,name,\n1,Lê/Văn/A,1990\n"),
        ("a title over two lines", "id,\"name\n1,Lê/Văn/A\nbirth_date\"\n"),
        ("an unknown separator", "sep=x\nid,name\n1,Lê/Văn/A\n"),
    ] {
        assert_ne!(doubts(text.as_bytes(), "people.csv"), [], "{what}");
    }
    let cut = format!("{HEADER}1,Lê/Văn/A,1990,x");
    let whole = Reading { is_whole: true, ..Reading::default() };
    assert!(Records::read(cut.as_bytes(), None, &whole).is_ok(), "unless the caller knows better");
    for (what, text, line) in [
        ("a broken first line", "{\"id\" \"1\"}\n{\"fields\":{\"name\":\"An\"}}\n", 1),
        ("a cut last line", "{\"fields\":{\"name\":\"An\"}}\n{\"fields\":{\"name\":\"Bì", 2),
        ("two on a line", "{\"fields\":{\"name\":\"An\"}}{\"fields\":{\"name\":\"An\"}}\n", 1),
        ("an array", "[{\"fields\":{\"name\":\"An\"}}]\n", 1),
    ] {
        let found = doubts(text.as_bytes(), "people.ndjson");
        assert_eq!(found.first().map(|(line, _)| *line), Some(line), "{what}: {found:?}");
    }
    assert_eq!(
        doubts(&[b"{\"fields\":{\"note\":\"".as_slice(), &vec![b'x'; 3 << 20], b"\"}}\n"].concat(), "x.ndjson").len(),
        1
    );
    for (what, bytes) in [("xls", workbook::OLD_MARK), ("half a workbook", b"PK\x03\x04....".as_slice())] {
        assert_eq!(doubts(bytes, "people.xlsx").len(), 1, "{what}");
    }
}

#[test]
fn a_table_from_an_office_reads_as_it_is() {
    let table = "sep=;\r\nHọ, chữ đệm và tên khai sinh;NGÀY, THÁNG, NĂM SINH;Giới tính;relative[Father];relative;;\r\n\
        Lê  Thi\u{323} Ho\u{300}a;02/03/1975;Nữ;name=Lê An;\"Mẹ: name=Bùi Mai\nchild-1: name=Trần Bình\";;\r\n\
        ;;;;\r\n\
        Trần An;1980;Nam;;không rõ;;\r\n\r\n\
        \"Bùi An\";1981;;;;;\r\n";
    let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain(table.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    for bytes in [table.as_bytes().to_vec(), format!("\u{feff}{table}").into_bytes(), utf16] {
        let found = rows(&bytes, "people.txt");
        assert_eq!(found.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [3, 6, 8]);
        let expected = [
            ("name", "", "Lê Thị Hòa"),
            ("birth_date", "", "02/03/1975"),
            ("sex", "", "Nữ"),
            ("relative", "child-1", "name=Trần Bình"),
            ("relative", "father", "name=Lê An"),
            ("relative", "mother", "name=Bùi Mai"),
        ];
        let expected = expected.map(|(field, element, text)| (field.to_owned(), element.to_owned(), text.to_owned()));
        assert_eq!(texts(found[0].1.as_ref().unwrap()), expected);
        assert_eq!(found[1].1, Err("relative must have an element key on each line: father: …".to_owned()));
    }
}

#[test]
fn bad_rows_are_errors_of_their_own() {
    let table = "kind,id,name,head\nperson,1,An,r-1\nhousehold,3,,@p1\nalien,5,An,\n";
    let found = rows(table.as_bytes(), "x.csv");
    assert_eq!(found[0].1, Err("head is no field of a person".to_owned()));
    assert_eq!(found[1].1.as_ref().unwrap().text(field::HEAD), Some("@p1"));
    assert_eq!(found[2].1, Err("kind must be person or household".to_owned()));
    let lines = br#"{"id":"1","fields":{"name":"An","note":"","collective":null}}

{"fields":{"colour":"red"}}
{"fields":{"name":["An"]}}
{"fields":{"name":"An"},"more":1}
{"kind":"household","fields":{"collective":true}}
{"fields":{"relative":"father: name=A","relative[father]":"name=B"}}
{"fields":{"name":"An","name":"B"}}
{"id":"1","id":"2","fields":{"name":"An"}}
{"fields":{"personal_number":1075000123}}
{"fields":{"name":"An"},"rejected":"it was"}"#;
    let found: Vec<_> = rows(lines, "x.ndjson");
    let wrong = |at: usize| found[at].1.as_ref().err().map(String::as_str);
    let first = found[0].1.as_ref().unwrap();
    assert_eq!((first.id.as_str(), first.fields.len()), ("1", 1), "an empty text and null say nothing");
    assert_eq!((found[1].0, wrong(1)), (3, Some("has an unknown field")));
    assert_eq!(wrong(2), Some("name must be a text"));
    assert!(wrong(3).unwrap().contains("no others"));
    assert_eq!(found[4].1.as_ref().unwrap().text(field::COLLECTIVE), Some("yes"));
    assert_eq!(wrong(5), Some("relative stands there twice"));
    assert!(wrong(6).is_some() && wrong(7).is_some(), "a key twice is no choice");
    assert!(wrong(8).unwrap().contains("leading zeros"));
    assert_eq!(wrong(9), None);
}

fn workbook(build: impl FnOnce(&mut Workbook)) -> Vec<u8> {
    let mut book = Workbook::new();
    build(&mut book);
    book.save_to_buffer().unwrap()
}

#[test]
fn a_sheet_is_read_by_what_its_cells_are() {
    let bytes = workbook(|book| {
        book.add_worksheet();
        let sheet = book.add_worksheet();
        let date = CellFormat::new().set_num_format("dd/mm/yyyy");
        for (column, title) in ["id", "name", "birth_date", "personal_number", "note", "relative"].iter().enumerate() {
            sheet.write_string(0, column as u16, *title).unwrap();
        }
        sheet.write_number(2, 0, 7.0).unwrap();
        sheet.write_string(2, 1, "Lê/Thị/Hòa").unwrap();
        sheet.write_number_with_format(2, 2, 32874.0, &date).unwrap();
        sheet.write_string(2, 3, "001190000123").unwrap();
        sheet.write_number(2, 4, 12.0).unwrap();
        sheet.write_string(2, 5, "father: name=A\nmother: name=B").unwrap();
        sheet.write_number(3, 0, 8.0).unwrap();
        sheet.write_string(3, 1, "Lê/Văn/Ba").unwrap();
        sheet.write_number(3, 2, 1980.0).unwrap();
        sheet.write_number(3, 3, 1190000123.0).unwrap();
        sheet.write_number(4, 0, 9.0).unwrap();
        sheet.write_string(4, 1, "Lê/Văn/Tư").unwrap();
        sheet.write_number_with_format(4, 2, 32874.5, &date).unwrap();
        sheet.write_number(5, 0, 10.0).unwrap();
        sheet.write_string(5, 1, "Lê/Văn/Năm").unwrap();
        sheet.write_number_with_format(5, 4, 32874.0, &date).unwrap();
    });
    let found = rows(&bytes, "people.xlsx");
    let lines: Vec<_> = found.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [3, 4, 5, 6], "rows as the sheet numbers them");
    let first = found[0].1.as_ref().unwrap();
    assert_eq!(
        (first.id.as_str(), first.text(field::BIRTH_DATE), first.text(field::NOTE)),
        ("7", Some("1990-01-01"), Some("12"))
    );
    assert_eq!(first.fields.iter().filter(|f| f.field == field::RELATIVE).count(), 2);
    let wrong = |at: usize| found[at].1.clone().unwrap_err();
    assert!(wrong(1).starts_with("personal_number is a number in the sheet"), "{}", wrong(1));
    assert!(wrong(2).starts_with("birth_date is a date with a time of day"), "{}", wrong(2));
    assert!(wrong(3).starts_with("note is a date in the sheet"), "{}", wrong(3));
}

/// The rows that are wrong as they come back from the file that is written of them, unmended.
fn written_again(records: &Records, name: &str) -> (String, Vec<Result<DraftRecord, String>>) {
    let wrong: Vec<Option<String>> = records.rows().map(|(_, row)| row.err()).collect();
    let mut out = Vec::new();
    records.write_rejected(&mut out, &|at| wrong[at].clone(), &|_| None).unwrap();
    let again = rows(&out, name).into_iter().map(|(_, row)| row).collect();
    (String::from_utf8(out).unwrap(), again)
}

#[test]
fn what_a_sheet_does_not_say_is_never_taken_for_a_value() {
    let bytes = workbook(|book| {
        let sheet = book.add_worksheet();
        let date = CellFormat::new().set_num_format("dd/mm/yyyy");
        for (column, title) in ["id", "name", "note", "residence_file_number"].iter().enumerate() {
            sheet.write_string(0, column as u16, *title).unwrap();
        }
        for (row, id) in (1..).zip(["a", "", "c", "d"]) {
            sheet.write_string(row, 0, id).unwrap();
            sheet.write_string(row, 1, format!("Lê/Văn/{row}")).unwrap();
        }
        sheet.write_number_with_format(1, 2, 32874.0, &date).unwrap();
        sheet.write_number(2, 0, 7.5).unwrap();
        sheet.write_number(3, 3, 12.0).unwrap();
        sheet.write_string(4, 2, "hỏi lại?").unwrap();
    });
    let records = records(&bytes, "people.xlsx");
    let wrong: Vec<_> = records.rows().map(|(_, row)| row.err().unwrap_or_default()).collect();
    assert!(wrong[0].starts_with("note is a date") && wrong[1].starts_with("id is no whole number"), "{wrong:?}");
    assert!(wrong[2].starts_with("residence_file_number is a number") && wrong[3].is_empty(), "{wrong:?}");
    let (text, again) = written_again(&records, "rejected.csv");
    assert!(again.len() == 3 && again.iter().all(Result::is_err), "{text}");
    // What could not be read elsewhere is no value either.
    for lost in ["name,note\nLê/Văn/An,L\u{fffd}\n", "id,name\n\u{fffd}1,Lê/Văn/An\n"] {
        assert!(rows(lost.as_bytes(), "x.csv")[0].1.is_err(), "{lost}");
    }
    assert!(rows("{\"fields\":{\"name\":\"L\u{fffd}\"}}\n".as_bytes(), "x.ndjson")[0].1.is_err());
}

#[test]
fn ids_that_are_numbers_in_a_sheet_are_counted() {
    let book = |is_number: bool| {
        workbook(|book| {
            let sheet = book.add_worksheet();
            ["id", "name"].iter().enumerate().for_each(|(at, title)| {
                sheet.write_string(0, at as u16, *title).unwrap();
            });
            sheet.write_string(1, 0, "007").unwrap();
            sheet.write_string(1, 1, "Lê/Văn/An").unwrap();
            if is_number {
                sheet.write_number_with_format(1, 0, 7.0, &CellFormat::new().set_num_format("000")).unwrap();
            }
        })
    };
    assert_eq!([true, false].map(|is_number| records(&book(is_number), "x.xlsx").ids_as_numbers()), [1, 0]);
}

#[test]
fn rejected_rows_of_a_sheet_make_a_table_that_is_in_no_doubt() {
    let bytes = workbook(|book| {
        let sheet = book.add_worksheet();
        for (column, title) in ["id", "name", "birth_date", "note", "relative"].iter().enumerate() {
            sheet.write_string(0, column as u16, *title).unwrap();
        }
        for (row, cells) in (1..).zip([
            ["1\n", "Lê/Văn\n/An", "", "hai\ndòng", "father: name=A\nmother: name=B"],
            ["2", "Lê/Văn/Ba", "", "x", "father: name=A\ncó nhà"],
            ["3", "Lê/Văn/Tư", "", "a\rb", "father: name=A\rB\nmother: name=C"],
            ["4", "Lê/Văn/Năm", "", "\u{feff}x", ""],
        ]) {
            for (column, cell) in cells.iter().enumerate() {
                sheet.write_string(row, column as u16, *cell).unwrap();
            }
        }
    });
    let records = records(&bytes, "people.xlsx");
    let before: Vec<_> = records.rows().map(|(_, row)| row).collect();
    let mut out = Vec::new();
    records.write_rejected(&mut out, &|_| Some("why".to_owned()), &|_| None).unwrap();
    let after: Vec<_> = rows(&out, "rejected.csv").into_iter().map(|(_, row)| row).collect();
    assert!(after[0] == before[0] && after[0].is_ok(), "{after:?}");
    assert!(after[1].is_err() && after[2].is_ok() && after[3].is_err(), "{after:?}");
}

#[test]
fn rejected_lines_lose_nothing_and_stay_rejected() {
    let deep = format!("{{\"id\":\"8\",\"fields\":{{\"name\":{}1{}}}}}", "[".repeat(200), "]".repeat(200));
    let lines = [
        r#"{"id":"1","fields":{"name":"An","name":"B"}}"#,
        r#"{"id":"2","fields":{"name":"An","note":1e999}}"#,
        r#"{"id":"3","fields":{"name":"An","Họ, chữ đệm và tên khai sinh":"B"}}"#,
        r#"{"id":"4","fields":{"Tên":"An","Số":1090000001,"Ghi":null,"relative":"father: name=A"}}"#,
        r#"{"id":"5","id":"6","fields":{"name":"An"}}"#,
        r#"{"fields":{"name":"An"},"more":1}"#,
        r#"{"rejected":"it, {was}","id":"7","fields":{"colour":"red"}}"#,
        r#"{"id":"9","fields":{"name":"An","note":12345678901234567890123}}"#,
        r#"{"id":"10","fields":{"Tên":"An","name":"B"}}"#,
        r#"  { }"#,
        &deep,
    ];
    let titles = Titles::read("column,field\nTên,name\nSố,personal_number\nGhi,note\n".as_bytes()).unwrap();
    let reading = Reading { titles, ..Reading::default() };
    let first = Records::read(lines.join("\n").as_bytes(), Some(Path::new("x.ndjson")), &reading);
    let first = first.unwrap_or_else(|problems| panic!("{problems:?}"));
    assert!(first.rows().all(|(_, row)| row.is_err()), "all are wrong");
    let (text, again) = written_again(&first, "x.ndjson");
    assert_eq!(again.len(), lines.len(), "{text}");
    for (at, row) in again.iter().enumerate() {
        assert!(row.is_err(), "{}", text.lines().nth(at).unwrap());
    }
    let reason = again[3].as_ref().err().unwrap();
    assert!(reason.starts_with("personal_number must be a text"), "by the schema's names: {reason}");
    // However often it is written: one reason, and all that stood there.
    let (more, _) = written_again(&records(text.as_bytes(), "x.ndjson"), "x.ndjson");
    assert_eq!(more.lines().count(), lines.len(), "{more}");
    assert!(more.lines().all(|line| line.matches("\"rejected\"").count() == 1), "{more}");
    for all in [r#""name":"An","name":"B""#, "1e999", r#""id":"5","id":"6""#, r#""more":1"#, &"[".repeat(200)] {
        assert!(more.contains(all), "{all}: {more}");
    }
}

#[test]
fn a_formula_without_its_result_is_no_empty_cell() {
    let with = |result: &str| {
        let bytes = workbook(|book| {
            let sheet = book.add_worksheet();
            sheet.write_string(0, 0, "name").unwrap();
            sheet.write_string(0, 1, "note").unwrap();
            sheet.write_string(1, 0, "Lê/Văn/An").unwrap();
            sheet.write_formula(1, 1, rust_xlsxwriter::Formula::new("A2").set_result("here")).unwrap();
            sheet.write_formula(2, 0, rust_xlsxwriter::Formula::new("A2").set_result("here")).unwrap();
        });
        replaced(&bytes, "xl/worksheets/sheet1.xml", " t=\"str\"><f>A2</f><v>here</v>", result)
    };
    let found = rows(&with(" t=\"str\"><f>A2</f><v>here</v>"), "x.xlsx");
    assert!(found.len() == 2 && found[0].1.is_ok(), "{found:?}");
    for absent in ["><f>A2</f><v></v>", "><f>A2</f>", "><f>A2</f><v/>", "><f t=\"shared\" si=\"0\"/><v/>"] {
        let found = rows(&with(absent), "x.xlsx");
        let wrong = |at: usize| found[at].1.as_ref().err().cloned().unwrap_or_default();
        assert!(found.len() == 2 && wrong(0).starts_with("note is a formula"), "{absent}: {found:?}");
        assert!(wrong(1).starts_with("name is a formula"), "{absent}: {found:?}");
    }
    // A formula whose result is nothing says nothing.
    let found = rows(&with(" t=\"str\"><f>A2</f><v></v>"), "x.xlsx");
    assert!(found.len() == 1 && found[0].1.is_ok(), "{found:?}");
}

/// A workbook in one of whose parts a text is another one.
fn replaced(book: &[u8], part: &str, old: &str, new: &str) -> Vec<u8> {
    let mut from = zip::ZipArchive::new(std::io::Cursor::new(book)).unwrap();
    let mut to = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for at in 0..from.len() {
        let mut file = from.by_index(at).unwrap();
        let (name, mut text) = (file.name().unwrap().into_owned(), String::new());
        file.read_to_string(&mut text).unwrap();
        if name == part {
            assert!(text.contains(old), "{text}");
            text = text.replace(old, new);
        }
        to.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        to.write_all(text.as_bytes()).unwrap();
    }
    to.finish().unwrap().into_inner()
}

#[test]
fn a_table_has_so_many_columns_and_no_more() {
    let header = |count: usize| (0..count).map(|at| format!("x{at}")).collect::<Vec<_>>().join(",");
    let found = doubts(format!("{}\n", header(200)).as_bytes(), "x.csv");
    assert_eq!(found.len(), DOUBTS_MAX);
    for text in [format!("{}\n", header(COLUMNS_MAX + 1)), format!("name{}\nAn\n", ",".repeat(100_000))] {
        let found = doubts(text.as_bytes(), "x.csv");
        assert!(found.len() == 1 && found[0].1.contains("more than 256"), "{found:?}");
    }
    let far = workbook(|book| {
        let sheet = book.add_worksheet();
        sheet.write_string(0, 0, "name").unwrap();
        sheet.write_string(0, 16_000, "note").unwrap();
        sheet.write_string(1, 0, "Lê/Văn/An").unwrap();
    });
    let found = doubts(&far, "x.xlsx");
    assert!(found.len() == 1 && found[0].1.contains("more than 256"), "{found:?}");
}

#[test]
fn a_table_takes_so_much_memory_and_no_more() {
    let roles = vec![columns::Role::Unnamed; 2];
    let mut table = Table { bytes: TABLE_BYTES_MAX - 100, ..Table::of(StringRecord::new(), roles) };
    let line = |text: &str| Line { line: 2, cells: StringRecord::from(vec![text, ""]), problem: None };
    assert!(table.take(line("An")).is_ok());
    assert!(table.take(line(&"x".repeat(70))).is_err(), "the places of cells count too");
}

#[test]
fn a_label_means_the_field_of_the_rows_kind() {
    let table = "kind,id,name,head,Số hồ sơ cư trú\nperson,1,An,,77\nhousehold,2,,@1,88\n";
    let records = records(table.as_bytes(), "x.csv");
    let numbers = |records: &Records| {
        let row = |(_, row): (u64, Result<DraftRecord, String>)| {
            let row = row.unwrap();
            let [one, other] = [field::RESIDENCE_FILE_NUMBER, field::HOUSEHOLD_FILE_NUMBER];
            (row.text(one).map(str::to_owned), row.text(other).map(str::to_owned))
        };
        records.rows().map(row).collect::<Vec<_>>()
    };
    let expected = [(Some("77".to_owned()), None), (None, Some("88".to_owned()))];
    assert_eq!(numbers(&records), expected);
    // Written again, it still means both.
    let mut out = Vec::new();
    records.write_rejected(&mut out, &|_| Some("why".to_owned()), &|_| None).unwrap();
    assert_eq!(numbers(&super::tests::records(&out, "x.csv")), expected);
    let lines = r#"{"kind":"household","id":"2","fields":{"Số hồ sơ cư trú":"88"}}"#;
    let row = rows(lines.as_bytes(), "x.ndjson").remove(0).1.unwrap();
    assert_eq!(row.text(field::HOUSEHOLD_FILE_NUMBER), Some("88"));
    let twice = doubts("name,residence_file_number,Số hồ sơ cư trú\nAn,1,2\n".as_bytes(), "x.csv");
    assert!(twice.len() == 1 && twice[0].1.contains("a second time"), "{twice:?}");
}

#[test]
fn sheets_that_may_hide_somebody_are_doubted() {
    let head = |sheet: &mut rust_xlsxwriter::Worksheet| {
        sheet.write_string(0, 0, "name").unwrap();
        sheet.write_string(1, 0, "Lê/Văn/An").unwrap();
    };
    let two = workbook(|book| {
        head(book.add_worksheet().set_name("Thôn 1").unwrap());
        head(book.add_worksheet().set_name("Thôn 2").unwrap());
    });
    assert!(doubts(&two, "x.xlsx")[0].1.contains("--sheet: Thôn 1, Thôn 2"));
    let reading = |name: &str| Reading { sheet: Some(name.to_owned()), ..Reading::default() };
    assert_eq!(Records::read(&two, None, &reading("Thôn 2")).unwrap().count(), 1);
    assert!(Records::read(&two, None, &reading("Thôn 3")).is_err());
    let twice = workbook(|book| {
        let sheet = book.add_worksheet();
        head(sheet);
        sheet.write_string(2, 0, "Name").unwrap();
    });
    assert!(doubts(&twice, "x.xlsx")[0].1.contains("is the header again"));
    let merged = workbook(|book| {
        let sheet = book.add_worksheet();
        head(sheet);
        sheet.merge_range(2, 0, 3, 0, "Lê/Văn/Ba", &CellFormat::new()).unwrap();
    });
    assert_eq!(doubts(&merged, "x.xlsx")[0].0, 3);
    let beside = workbook(|book| {
        let sheet = book.add_worksheet();
        head(sheet);
        sheet.write_string(1, 3, "x").unwrap();
    });
    assert_eq!(doubts(&beside, "x.xlsx")[0].0, 2);
    let mut cut = two;
    cut.truncate(cut.len() - 30);
    assert_eq!(doubts(&cut, "x.xlsx").len(), 1);
}

/// A site that keeps what it accepted: a request's name, and what it said.
#[derive(Default)]
struct Register(BTreeMap<RequestId, (RecordId, DraftRecord)>);

#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    accepted: usize,
    already_there: usize,
    /// Lines that were refused, here or there.
    named: Vec<u64>,
}

impl Outcome {
    fn sum(&self) -> usize {
        self.accepted + self.already_there + self.named.len()
    }
}

impl Register {
    /// What an import does; nothing of a file that is doubted.
    fn import(&mut self, bytes: &[u8], name: &str) -> Option<(Outcome, Records, Plan)> {
        let records = Records::read(bytes, Some(Path::new(name)), &Reading::default()).ok()?;
        let plan = Plan::make(&records, directory(), &|_| Ok(7), "");
        let mut outcome = Outcome::default();
        for (at, (line, row)) in (0..).zip(records.rows()) {
            if plan.rows[at as usize].bad.is_some() {
                outcome.named.push(line);
                continue;
            }
            let mut row = row.unwrap();
            row.link(|name| plan.find(name)).unwrap();
            (row.id, row.home) = (String::new(), None);
            // As the site keeps it, however it was typed.
            for entry in &mut row.fields {
                entry.text = parse(entry.field, &entry.text, directory()).unwrap().display(directory());
            }
            match self.0.get(&plan.request(at)) {
                None => {
                    self.0.insert(plan.request(at), (plan.record(at), row));
                    outcome.accepted += 1;
                }
                Some((_, before)) if *before == row => outcome.already_there += 1,
                Some(_) => outcome.named.push(line),
            }
        }
        Some((outcome, records, plan))
    }

    /// Whether all references are to records that are here.
    fn is_linked(&self) -> bool {
        let ids: Vec<String> = self.0.values().map(|(id, _)| id.to_string()).collect();
        let reference = |f: &&DraftField| f.field == field::HEAD || f.field == field::HOUSEHOLD;
        self.0.values().flat_map(|(_, record)| &record.fields).filter(reference).all(|f| ids.contains(&f.text))
    }
}

fn population(seed: u64, has_ids: bool) -> Vec<DraftRecord> {
    let directory = directory();
    let commune = directory.by_code("00001", BEFORE_REFORM).unwrap().id;
    let mut people: Vec<DraftRecord> =
        generate(directory, &[commune], 8, seed).unwrap().flat_map(|draft| draft.records).collect();
    for record in people.iter_mut().filter(|_| has_ids) {
        record.id.remove(0);
    }
    people
}

/// A way in which a file of the same people may lie there.
#[derive(Debug, Clone, Copy)]
struct Saved {
    form: u8,
    separator: u8,
    quotes_all: bool,
    crlf: bool,
    encoding: u8,
    order: u64,
}

fn saved() -> impl Strategy<Value = Saved> {
    (0..4_u8, prop::sample::select(b",;\t".to_vec()), any::<bool>(), any::<bool>(), 0..4_u8, any::<u64>()).prop_map(
        |(form, separator, quotes_all, crlf, encoding, order)| Saved {
            form,
            separator,
            quotes_all,
            crlf,
            encoding,
            order,
        },
    )
}

/// The cells of a table of people.
fn cells(people: &[DraftRecord]) -> Vec<Vec<String>> {
    let mut out = Vec::new();
    write(Format::Csv, people.iter().cloned(), &mut out).unwrap();
    let mut table = csv::ReaderBuilder::new().has_headers(false).from_reader(&out[3..]);
    table.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
}

/// A table as text, and the name that its file may have.
fn table_text(rows: &[Vec<String>], saved: Saved) -> Vec<u8> {
    let mut table = csv::WriterBuilder::new();
    table.delimiter(saved.separator);
    table.quote_style(if saved.quotes_all { csv::QuoteStyle::Always } else { csv::QuoteStyle::Necessary });
    table.terminator(if saved.crlf { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') });
    let mut table = table.from_writer(Vec::new());
    rows.iter().for_each(|row| table.write_record(row).unwrap());
    encode(&String::from_utf8(table.into_inner().unwrap()).unwrap(), saved.encoding)
}

fn encode(text: &str, encoding: u8) -> Vec<u8> {
    match encoding {
        0 => text.as_bytes().to_vec(),
        1 => format!("\u{feff}{text}").into_bytes(),
        2 => [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect(),
        _ => [0xfe, 0xff].into_iter().chain(text.encode_utf16().flat_map(u16::to_be_bytes)).collect(),
    }
}

fn save(people: &[DraftRecord], saved: Saved) -> (Vec<u8>, &'static str) {
    let mut people = people.to_vec();
    people.shuffle(&mut rand_chacha::ChaCha8Rng::seed_from_u64(saved.order));
    match saved.form {
        0 => {
            let mut out = Vec::new();
            write(Format::Ndjson, people, &mut out).unwrap();
            (encode(&String::from_utf8(out).unwrap(), saved.encoding), "people.ndjson")
        }
        1 => {
            let rows = cells(&people);
            let book = workbook(|book| {
                let sheet = book.add_worksheet();
                for (row, cells) in rows.iter().enumerate() {
                    for (column, cell) in cells.iter().enumerate().filter(|(_, cell)| !cell.is_empty()) {
                        sheet.write_string(row as u32, column as u16, cell).unwrap();
                    }
                }
            });
            (book, "people.xlsx")
        }
        _ => (table_text(&cells(&people), saved), "people.csv"),
    }
}

/// What may happen to a file.
#[derive(Debug, Clone)]
enum Damage {
    Cut(Index),
    Quote(Index),
    TwoQuotes(Index, Index),
    CarriageReturn(Index),
    /// A cell is emptied.
    Emptied(Index, Index),
    /// A cell is taken out, with its separator.
    Removed(Index, Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<Index>;
    prop_oneof![
        index().prop_map(Damage::Cut),
        index().prop_map(Damage::Quote),
        (index(), index()).prop_map(|(one, two)| Damage::TwoQuotes(one, two)),
        index().prop_map(Damage::CarriageReturn),
        (index(), index()).prop_map(|(row, column)| Damage::Emptied(row, column)),
        (index(), index()).prop_map(|(row, column)| Damage::Removed(row, column)),
    ]
}

fn damaged(people: &[DraftRecord], saved: Saved, damage: &Damage) -> Vec<u8> {
    let mut rows = cells(people);
    let insert = |at: &[Index], what: char| {
        let mut text: Vec<char> =
            String::from_utf8(table_text(&rows, Saved { encoding: 0, ..saved })).unwrap().chars().collect();
        at.iter().for_each(|at| text.insert(at.index(text.len() + 1), what));
        encode(&text.into_iter().collect::<String>(), saved.encoding)
    };
    match damage {
        Damage::Quote(at) => return insert(&[*at], '"'),
        Damage::TwoQuotes(one, two) => return insert(&[*one, *two], '"'),
        Damage::CarriageReturn(at) => return insert(&[*at], '\r'),
        Damage::Cut(at) => {
            let mut bytes = table_text(&rows, saved);
            bytes.truncate(at.index(bytes.len()));
            return bytes;
        }
        Damage::Emptied(row, column) => {
            let row = 1 + row.index(rows.len() - 1);
            let column = column.index(rows[row].len());
            rows[row][column].clear();
        }
        Damage::Removed(row, column) => {
            let row = row.index(rows.len());
            let column = column.index(rows[row].len());
            let text = String::from_utf8(table_text(&rows, Saved { encoding: 0, ..saved })).unwrap();
            // The writer insists on rows of one length, so the row is put in as text.
            let mut short = rows[row].clone();
            short.remove(column);
            let line =
                |row: Vec<String>| String::from_utf8(table_text(&[row], Saved { encoding: 0, ..saved })).unwrap();
            return encode(&text.replacen(&line(rows[row].clone()), &line(short), 1), saved.encoding);
        }
    }
    table_text(&rows, saved)
}

proptest! {
    // A file takes a while: an eighth of what is asked for.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 8))]

    #[test]
    fn the_same_people_in_any_form_are_registered_once(
        seed in 0..1000_u64, has_ids: bool, first in saved(), second in saved(),
    ) {
        let people = population(seed, has_ids);
        let mut register = Register::default();
        let (bytes, name) = save(&people, first);
        let (outcome, ..) = register.import(&bytes, name).unwrap();
        prop_assert_eq!(outcome, Outcome { accepted: people.len(), ..Outcome::default() });
        prop_assert!(register.is_linked());
        let (bytes, name) = save(&people, second);
        let (outcome, ..) = register.import(&bytes, name).unwrap();
        prop_assert_eq!(outcome, Outcome { already_there: people.len(), ..Outcome::default() });
    }

    #[test]
    fn a_damaged_file_loses_nobody_and_doubles_nobody(
        seed in 0..1000_u64, saved in saved(), damage in damage(), mended in saved(),
    ) {
        let people = population(seed, true);
        let mut register = Register::default();
        let bytes = damaged(&people, saved, &damage);
        for again in [false, true] {
            if let Some((outcome, records, _)) = register.import(&bytes, "people.csv") {
                // A cut may take whole rows away; nothing else may make fewer of them.
                let is_whole = records.count() == people.len();
                prop_assert!(is_whole || matches!(damage, Damage::Cut(_)), "{} of {}", records.count(), people.len());
                prop_assert_eq!(outcome.sum(), people.len().min(records.count()), "each is registered or named");
                prop_assert!(!again || outcome.accepted == 0, "twice is once");
            }
        }
        let (bytes, name) = save(&people, mended);
        let (outcome, ..) = register.import(&bytes, name).unwrap();
        prop_assert_eq!(outcome.sum(), people.len());
        // Whoever is named here was registered from the damaged file, under the same id with less in a cell.
        prop_assert_eq!(register.0.len(), people.len());
        prop_assert!(outcome.named.len() <= 1, "{:?}", outcome.named);
    }

    #[test]
    fn rejected_rows_are_mended_and_imported_by_themselves(
        seed in 0..1000_u64, has_ids: bool, saved in saved(), wrong in prop::collection::vec(any::<Index>(), 1..4),
    ) {
        const WRONG: &str = "31/02/1990";
        let people = population(seed, has_ids);
        let mut broken = people.clone();
        let mut right = BTreeMap::new();
        for at in wrong {
            let record = &mut broken[at.index(people.len())];
            let name = record.id.clone();
            if let Some(entry) = record.fields.iter_mut().find(|entry| entry.field == field::BIRTH_DATE) {
                right.entry(name).or_insert_with(|| std::mem::replace(&mut entry.text, WRONG.to_owned()));
            }
        }
        let mut register = Register::default();
        let (bytes, name) = save(&broken, saved);
        let (outcome, records, plan) = register.import(&bytes, name).unwrap();
        prop_assert!(outcome.named.len() >= right.len());
        if !right.is_empty() {
            let mut rejected = Vec::new();
            let reason = |at: usize| plan.rows[at].bad.clone();
            records.write_rejected(&mut rejected, &reason, &|name| plan.find(name)).unwrap();
            // Whoever mends it types the right dates, row by row.
            let mut text = String::from_utf8(rejected).unwrap();
            for (id, date) in &right {
                let id = if name == "people.ndjson" { format!("\"id\":\"{id}\"") } else { format!(",{id},") };
                let is_theirs = |line: &&str| line.contains(&id) && line.contains(WRONG);
                let line = text.lines().find(is_theirs).unwrap().to_owned();
                text = text.replacen(&line, &line.replace(WRONG, date), 1);
            }
            let kind = if name == "people.ndjson" { name } else { "rejected.csv" };
            let (mended, ..) = register.import(text.as_bytes(), kind).unwrap();
            prop_assert_eq!(mended, Outcome { accepted: outcome.named.len(), ..Outcome::default() });
        }
        prop_assert!(register.is_linked());
        let (bytes, name) = save(&people, saved);
        let (outcome, ..) = register.import(&bytes, name).unwrap();
        prop_assert_eq!(outcome, Outcome { already_there: people.len(), ..Outcome::default() });
    }
}

#[test]
fn a_row_is_known_by_its_id_or_by_what_it_says() {
    let mut register = Register::default();
    let mut import = |text: &str| register.import(text.as_bytes(), "x.csv").map(|(outcome, ..)| outcome).unwrap();
    let outcome = |accepted, already_there, named: &[u64]| Outcome { accepted, already_there, named: named.to_vec() };
    assert_eq!(import("id,name,birth_date\n1,Lê/Văn/An,1990-03-08\n2,Vũ/Văn/Ba,1991\n"), outcome(2, 0, &[]));
    assert_eq!(
        import("id;tên gọi khác;name;birth_date\n3;;Bùi/Văn/Tư;1992\n1;;Lê/Văn/An;08/03/1990\n"),
        outcome(1, 1, &[])
    );
    assert_eq!(
        import("id,name,birth_date\n9,Lê/Văn/Chín,1999\n1,Lê/Văn/An,1990-03-09\n"),
        outcome(1, 0, &[3]),
        "a corrected value"
    );
    assert_eq!(import("name,birth_date\nLê/Văn/An,1990\n"), outcome(1, 0, &[]), "another row than that of the id");
    assert_eq!(import("birth_date,name\n1990,Lê/Văn/An\n1990,Lê/Văn/Bình\n"), outcome(1, 1, &[]), "a row inserted");
    assert_eq!(import("id,name\n7,Lê/Văn/An\n7,Lê/Văn/Bình\n8,Lê/Văn/Em\n"), outcome(1, 0, &[2, 3]), "an id twice");
    assert_eq!(import("name\nLê/Văn/Gia\nLê/Văn/Gia\n"), outcome(1, 0, &[3]), "who says the same may be the same");
    assert_eq!(import("id,name\n20,Lê/Văn/Gia\n,Lê/Văn/Hoa\n"), outcome(1, 0, &[3]), "an id that fell out");
    assert_eq!(import("id,name\n21,Lê/Văn/Kim\n22,\n"), outcome(1, 0, &[3]), "a name that fell out");
    let numbers =
        "id,name,personal_number\n30,Lê/Văn/A,001090000001\n31,Lê/Văn/B,001090000001\n32,Lê/Văn/C,001090000002\n";
    assert_eq!(import(numbers), outcome(1, 0, &[2, 3]), "a number twice");
}

#[test]
fn a_bad_row_holds_back_what_refers_to_it_and_nothing_else() {
    let text = r#"{"kind":"household","id":"h1","fields":{"head":"p1"}}
{"id":"p1","fields":{"name":"Nguyễn An","household":"@h1","birth_date":"yesterday"}}
{"id":"p3","fields":{"name":"Lê Chi"}}
{"id":"p4","fields":{"name":"Lê Dung","relative[father]":"name=An; record=@p1"}}
{"id":"p5","fields":{"name":"Lê Em","household":"@nowhere"}}
{"id":"r-00000000000000000000000000000001","fields":{"name":"Lê Gia"}}
{"id":"p7","fields":{"note":""}}
{"id":"p8","fields":{"name":"Lê Hoa","household":"@r-00000000000000000000000000000001"}}
{"kind":"household","id":"h2","fields":{"head":"@p3"}}
{"id":"p9","fields":{"name":"Lê Khoa","household":"h2","birth_date":"1990","death_date":"1980"}}
"#;
    let records = records(text.as_bytes(), "x.ndjson");
    let plan = Plan::make(&records, directory(), &|_| Ok(7), "");
    let found: Vec<_> = plan.problems().map(|problem| (problem.line, problem.reason)).collect();
    let lines: Vec<_> = found.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [1, 2, 4, 5, 6, 7, 10], "{found:?}");
    assert!(found[0].1.contains("line 2") && found[1].1.starts_with("birth_date"), "{found:?}");
    assert!(found[6].1.starts_with("death_before_birth"), "{found:?}");
    let lists = ["", "thôn 2"].map(|list| Plan::make(&records, directory(), &|_| Ok(7), list));
    assert_ne!(lists[0].request(2), lists[1].request(2), "ids of two lists are two");
}

#[test]
fn files_bring_back_what_was_written() {
    for (name, format) in [("people.ndjson", Format::Ndjson), ("people.csv", Format::Csv)] {
        let people = population(4, false);
        let mut out = Vec::new();
        assert_eq!(write(format, people.iter().cloned(), &mut out).unwrap(), people.len() as u64);
        let back: Vec<DraftRecord> = rows(&out, name).into_iter().map(|(_, row)| row.unwrap()).collect();
        assert!(back == people, "{name}");
    }
}
