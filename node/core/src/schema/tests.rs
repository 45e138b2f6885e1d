//! Stories about values, their bytes and their texts.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::date::Date;
use crate::ids::UnitId;
use crate::level::{LEVEL_FIRST, LEVEL_MAX, limits};
use crate::units::{Named, NoUnits, Resolve};

struct TwoWards;

impl Resolve for TwoWards {
    fn unit(&self, code: &str, at: Date) -> Option<UnitId> {
        let reform: Date = "2025-07-01".parse().ok()?;
        (code == "00004").then_some(if at < reform { UnitId(1) } else { UnitId(2) })
    }
    fn named(&self, unit: UnitId) -> Option<Named<'_>> {
        let (day, name) = match unit.0 {
            1 => ("2025-06-30", "Phường Trúc Bạch"),
            2 => ("2025-07-01", "Phường Ba Đình"),
            _ => return None,
        };
        Some(Named { code: "00004", at: day.parse().ok()?, name })
    }
}

fn id(name: &str) -> FieldId {
    FieldId::named(RecordKind::Person, name).or_else(|| FieldId::named(RecordKind::Household, name)).expect(name)
}

fn read(name: &str, text: &str) -> Result<Value, Invalid> {
    parse(id(name), text, &TwoWards)
}

/// What a text becomes when it is stored and shown again.
fn shown(name: &str, text: &str) -> String {
    let value = read(name, text).unwrap_or_else(|error| panic!("{name}: {error}"));
    display(id(name), &value.encode(), &TwoWards)
}

fn at(name: &str, part: &'static str) -> At {
    At { field: id(name), part: Some(part) }
}

#[test]
fn the_table_is_sound() {
    assert!(FIELDS.windows(2).all(|pair| pair[0].id < pair[1].id), "ids are in order and unique");
    for kind in RecordKind::ALL {
        let names: BTreeSet<_> = fields(kind).map(|field| field.name).collect();
        assert_eq!(names.len(), fields(kind).count());
        for field in fields(kind) {
            assert_eq!(FieldId::named(kind, field.name), Some(field.id));
            assert_eq!(field.id.to_string(), field.name);
            assert!(field.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", field.name);
            assert!((LEVEL_FIRST..=LEVEL_MAX).contains(&field.since));
            assert!(field.required == Required::Never || field.repeat == Repeat::Once, "{}", field.name);
            if let Type::Struct(of) = field.ty {
                assert!(of.parts.iter().all(|part| !matches!(part.ty, Type::Struct(_))), "{} nests", field.name);
            }
        }
    }
}

#[test]
fn what_is_sensitive_cannot_be_searched() {
    let sensitive: Vec<_> = FIELDS.iter().filter(|field| field.sensitivity == Sensitivity::Sensitive).collect();
    assert_eq!(sensitive.iter().map(|field| field.name).collect::<Vec<_>>(), ["ethnicity", "religion", "blood_group"]);
    assert!(sensitive.iter().all(|field| field.search == Search::No));

    // The table says what the index does: its terms look at these fields and at no other.
    let searchable = FIELDS.iter().filter(|field| field.search != Search::No).map(|field| field.id);
    assert_eq!(searchable.collect::<BTreeSet<_>>(), BTreeSet::from(crate::search::SEARCHED));
    let dot = crate::edit::Dot { actor: crate::ids::AuthorId([1; 16]), counter: 1 };
    let typed = [("ethnicity", "kinh"), ("religion", "none"), ("blood_group", "a+")];
    let changes = typed.map(|(name, typed)| crate::edit::Change {
        field: id(name),
        element: Vec::new(),
        value: read(name, typed).unwrap().encode(),
        overwrites: Vec::new(),
    });
    let mut record = crate::record::Record::new(RecordKind::Person);
    crdts::CmRDT::apply(&mut record, crate::record::Write::new(dot, 0, &changes));
    assert!(crate::search::terms(LEVEL_MAX, &record, &[7; 32]).is_empty());
}

#[test]
fn texts_become_values_and_read_the_same() {
    for (field, typed, shows) in [
        ("name", "Nguyễn Thị Minh Anh", "Nguyễn/Thị Minh/Anh"),
        ("name", " nguye\u{302}\u{303}n / thị /  minh  anh ", "nguyễn/thị/minh anh"),
        ("name", "//Y Moan", "//Y Moan"),
        ("name", "Hằng", "//Hằng"),
        ("name", "Lê An", "Lê//An"),
        ("personal_number", "001 075 000123", "001075000123"),
        ("birth_date", "02/03/1975", "1975-03-02"),
        ("birth_date", "1975", "1975"),
        ("sex", "Nữ", "female"),
        ("sex", "nam", "male"),
        ("birth_date", "02.03.1975", "1975-03-02"),
        ("birth_date", "03/1975", "1975-03"),
        ("marital_status", "Có chồng; since=2/5/2001", "status=married; since=2001-05-02"),
        ("ethnicity", "khơ me", "khmer"),
        ("ethnicity", "Khơ-me", "khmer"),
        ("nationality", "VN", "VN"),
        ("nationality", "viet nam", "VN"),
        ("birth_place", "00004@30/06/2025", "unit=00004@2025-06-30"),
        ("birth_place", "00004@1999-01-01", "unit=00004@2025-06-30"),
        (
            "birth_place",
            "unit=00004@2026-01-01; line=Bệnh viện; country=VN",
            "unit=00004@2025-07-01; country=VN; line=Bệnh viện",
        ),
        ("birth_place", "u-00000000000000ff", "unit=u-00000000000000ff"),
        ("birth_place", r"line=a\;b = c\\d", r"line=a\;b = c\\d"),
        ("marital_status", "married; since=2001-05-02", "status=married; since=2001-05-02"),
        ("marital_status", "Chưa kết hôn", "status=single"),
        ("mobile_number", "0912.345 678", "0912345678"),
        ("email", "an@example.vn", "an@example.vn"),
        ("collective", "Có", "yes"),
        ("head", "r-000000000000000000000000000000aa", "r-000000000000000000000000000000aa"),
        ("note", "  hai   dòng\nmột ", "hai dòng một"),
        ("note", " ", ""),
    ] {
        assert_eq!(shown(field, typed), shows);
        assert_eq!(shown(field, shows), shows, "shown texts read the same");
    }
    let name = read("name", "Nguyễn/Thị/Minh Anh").unwrap();
    assert_eq!(name.spoken().as_deref(), Some("Nguyễn Thị Minh Anh"));
    assert_eq!(
        display(id("birth_place"), &read("birth_place", "00004@2025-01-01").unwrap().encode(), &NoUnits),
        "unit=u-0000000000000001"
    );
}

#[test]
fn what_is_wrong_is_refused_by_name_and_without_the_value() {
    let refused = |field: &str, typed: &str| read(field, typed).expect_err(typed).to_string();
    for (field, typed, says) in [
        ("name", "Nguyễn 2", "name.given must be made of letters, spaces, apostrophes, hyphens and dots"),
        (
            "name",
            "Nguyễn/Văn/Аn",
            "name.given must be written in one script per word: type it anew, one of its letters only looks like the right one",
        ),
        ("name", "A/B/C/D", "name.given must be made of letters, spaces, apostrophes, hyphens and dots"),
        ("name", "Nguyễn/Thị/", "name.given is missing: add given=…"),
        (
            "birth_date",
            "1975-02-30",
            "birth_date is not a day of the calendar: the day stands before the month, as in 31/12/1975, or last, as in 1975-12-31",
        ),
        (
            "birth_date",
            "yesterday",
            "birth_date is not a date: write 1975-03-02 or 02/03/1975, 1975-03 or 03/1975, or 1975",
        ),
        ("personal_number", "12345", "personal_number must have 12 digits, not 5"),
        ("sex", "x", "sex must be one of: male, female"),
        (
            "nationality",
            "ZZ",
            "nationality must be two capital letters of ISO 3166-1 (VN), the country's name, or XX for stateless",
        ),
        (
            "birth_place",
            "99999@2025-01-01",
            "birth_place.unit: no unit is known under this code on this date; check both, or give the unit's id (u-…)",
        ),
        (
            "birth_place",
            "00004",
            "birth_place.unit must be a unit's code and a day on which it meant the unit \
                                  (00001@2025-06-30), or its id (u-…)",
        ),
        (
            "birth_place",
            "colour=red",
            "birth_place must be written as part=value; part=value, each part once, of: unit, country, line",
        ),
        (
            "birth_place",
            "line=a; line=b",
            "birth_place must be written as part=value; part=value, each part once, of: unit, country, line",
        ),
        ("temporary_absence", "from=2025-02; until=2025-01", "temporary_absence.until must not be earlier than from"),
        ("permanent_residence", "line=Thôn Đông", "permanent_residence.unit is missing: add unit=…"),
        ("email", "an@host", "email must be an e-mail address (name@example.vn)"),
        ("mobile_number", "12", "mobile_number must be 8 to 15 digits, perhaps with + in front"),
        ("old_identity_number", "12", "old_identity_number must be digits only, as many as the paper has"),
        ("head", "r-1", "head must be a record id (r- and 32 hex digits)"),
        ("collective", "maybe", "collective must be yes or no"),
        (
            "other_name",
            "A\u{202e}B",
            "other_name has a character that is not allowed (number 2): remove control and invisible characters",
        ),
    ] {
        assert_eq!(refused(field, typed), says);
    }
    let long = read("name", &"A".repeat(61)).unwrap_err();
    assert_eq!(long, Invalid::Text { at: at("name", "given"), error: TextError::TooLong { chars_max: 60 } });
}

#[test]
fn what_has_happened_does_not_lie_in_the_future() {
    let today: Date = "2026-11-28".parse().unwrap();
    let checked = |field: &str, typed: &str| read(field, typed).unwrap().check_past(today);
    let number =
        |born: u16| crate::number::PersonNumber::new(1, crate::number::Sex::Male, born, 1).unwrap().to_string();
    let (this_year, next_year) = (number(2026), number(2027));
    for (field, typed) in [
        ("birth_date", "2026-11-28"),
        // The year is known and the day is not: it may have been.
        ("birth_date", "2026"),
        ("death_date", "2026-11"),
        ("personal_number", &this_year),
        ("identity_card", "number=001075000123; kind=cccd; issued=2026-11-28; valid_to=2051-03-02"),
        ("temporary_residence", "unit=00004@2025-01-01; from=2026-12-01; until=2028-11-30"),
        ("temporary_absence", "from=2026-12-01; until=2027"),
        ("nationality", "VN"),
        ("birth_date", ""),
    ] {
        assert_eq!(checked(field, typed), Ok(()), "{field} {typed}");
    }
    for (field, typed, part) in [
        ("birth_date", "2199", None),
        ("birth_date", "2026-11-29", None),
        ("birth_date", "2026-12", None),
        ("death_date", "2190-01-01", None),
        ("disappearance_date", "2027", None),
        ("personal_number", &next_year, None),
        ("relative", &format!("name=Lê An; number={next_year}"), Some("number")),
        ("relative", "name=Lê An; since=2027", Some("since")),
        ("identity_card", "number=001075000123; kind=cccd; issued=2026-11-29", Some("issued")),
        ("marital_status", "married; since=2026-11-29", Some("since")),
        ("permanent_residence", "unit=00004@2025-01-01; since=2027", Some("since")),
        ("document", "kind=Giấy khai sinh; issued=2027", Some("issued")),
    ] {
        let at = At { field: id(field), part };
        assert_eq!(checked(field, typed), Err(Invalid::Future { at, today }), "{field} {typed}");
    }
    let said = checked("birth_date", "2199").unwrap_err().to_string();
    assert_eq!(
        said,
        "birth_date lies after 2026-11-28, which is today by this node's clock: check it, or have the clock set"
    );
}

#[test]
fn a_record_takes_only_its_own_fields_keys_and_sizes() {
    let person = RecordKind::Person;
    let name = read("name", "Lê An").unwrap().encode();
    let child = read("relative", "name=Lê An").unwrap().encode();
    assert_eq!(validate(LEVEL_FIRST, person, id("name"), b"", &name), Ok(()));
    assert_eq!(validate(LEVEL_FIRST, person, id("name"), b"", b""), Ok(()), "clearing");
    assert_eq!(
        validate(LEVEL_FIRST, RecordKind::Household, id("name"), b"", &name),
        Err(Invalid::Kind { field: id("name"), kind: RecordKind::Household })
    );
    assert_eq!(
        validate(LEVEL_FIRST, person, id("name"), b"1", &name),
        Err(Invalid::ElementUnexpected { field: id("name") })
    );
    for element in [&b"father"[..], b"mother", b"spouse", b"spouse-1", b"child-2", b"legal-representative-1"] {
        assert_eq!(validate(LEVEL_FIRST, person, id("relative"), element, &child), Ok(()));
    }
    for element in
        [&b""[..], b"father-1", b"child", b"child-", b"children-1", b"uncle-1", b"child-A", &[b'a'; 49], b"\xff"]
    {
        assert_eq!(
            validate(LEVEL_FIRST, person, id("relative"), element, &child),
            Err(Invalid::Element { field: id("relative") })
        );
    }
    let huge = vec![b'a'; 10_000_000];
    for field in FIELDS {
        let element: &[u8] = match field.repeat {
            Repeat::Once => b"",
            Repeat::Keyed => b"1",
            Repeat::Relation => b"child-1",
        };
        let error = validate(LEVEL_FIRST, field.kind, field.id, element, &huge).unwrap_err();
        assert_eq!(
            error,
            Invalid::TooLarge { at: At { field: field.id, part: None }, bytes_max: limits(LEVEL_FIRST).value_bytes }
        );
        assert!(matches!(parse(field.id, &"a".repeat(10_000_000), &NoUnits), Err(Invalid::TooLarge { .. })));
    }
}

#[test]
fn relations_are_named_in_vietnamese_too() {
    for (typed, key) in [
        ("mẹ", "mother"),
        ("Bố", "father"),
        ("CHA", "father"),
        ("vợ", "spouse"),
        ("con-1", "child-1"),
        ("Mother", "mother"),
        ("child-ab", "child-ab"),
        ("người đại diện-2", "legal-representative-2"),
    ] {
        assert_eq!(element(field::RELATIVE, typed), key);
        assert!(validate_element(field::RELATIVE.get().unwrap(), key.as_bytes()).is_ok(), "{key}");
    }
    assert_eq!(element(field::DOCUMENT, "Mẹ"), "Mẹ", "keys of other fields are nobody's name");
    assert!(validate_element(field::RELATIVE.get().unwrap(), element(field::RELATIVE, "concon-1").as_bytes()).is_err());
}

#[test]
fn an_older_node_keeps_what_a_newer_one_wrote() {
    let (person, newer) = (RecordKind::Person, FieldId(777));
    let none = Err(Invalid::Field { field: newer, level: LEVEL_FIRST });
    assert_eq!(validate(LEVEL_FIRST, person, newer, b"", &[0, 255, 3]), none, "not folded, but kept in its edit");
    assert_eq!((newer.class(LEVEL_MAX), newer.sensitivity()), (Class::Adjudicated, Sensitivity::Sensitive));
    assert_eq!(FieldId::named(person, &newer.to_string()), Some(newer));
    assert_eq!(FieldId::named(person, "field-1"), None, "a known field has one name");
    assert_eq!(display(newer, &[0, 255, 3], &NoUnits), "0x00ff03");
    assert_eq!(parse(newer, "0x00ff03", &NoUnits).unwrap().encode(), [0, 255, 3]);
    assert!(parse(newer, "0x0", &NoUnits).is_err() && parse(newer, "plain", &NoUnits).is_err());

    let mut with_new_part = read("marital_status", "married").unwrap().encode();
    with_new_part.extend([9, 0, 2, 0xab, 0xcd]);
    let text = display(id("marital_status"), &with_new_part, &NoUnits);
    assert_eq!(text, "status=married; part-9=0xabcd");
    assert_eq!(read("marital_status", &text).unwrap().encode(), with_new_part);

    let mut name_with_new_part = read("name", "Lê//An").unwrap().encode();
    name_with_new_part.extend([3, 0, 1, 0xab]);
    let text = display(id("name"), &name_with_new_part, &NoUnits);
    assert_eq!(text, "family=Lê; given=An; part-3=0xab");
    assert_eq!(read("name", &text).unwrap().encode(), name_with_new_part);
}

#[test]
fn values_do_not_show_in_logs() {
    let value = read("name", "Nguyễn Văn An").unwrap();
    assert_eq!(format!("{value:?}"), "name(23 bytes)");
    assert_eq!(format!("{:?}", value.content()), "Content(23 bytes)");
}

#[test]
fn encodings_stay_as_they_are() {
    for (field, text, bytes) in [
        ("name", "Lê//An", &b"\x00\x00\x03L\xc3\xaa\x02\x00\x02An"[..]),
        ("personal_number", "001075000123", b"\x00\x40\x13\x33\x3b"),
        ("birth_date", "1975-03", b"\x07\xb7\x03"),
        ("sex", "female", b"\x02"),
        ("nationality", "VN", b"VN"),
        ("birth_place", "00004@2025-01-01", b"\x00\x00\x08\0\0\0\0\0\0\0\x01"),
        ("marital_status", "married; since=2001", b"\x00\x00\x01\x02\x01\x00\x02\x07\xd1"),
        ("collective", "no", b"\x00"),
    ] {
        assert_eq!(read(field, text).unwrap().encode(), bytes, "{field}");
    }
}

#[test]
fn a_value_built_by_the_program_is_checked_too() {
    let date = "1975".parse().unwrap();
    assert_eq!(Value::new(field::BIRTH_DATE, Content::Date(date)), read("birth_date", "1975"));
    assert!(Value::new(field::BIRTH_DATE, Content::Flag(true)).is_err());
    assert!(Value::new(field::NOTE, Content::Text(" ".into())).is_err());
    assert!(Value::new(field::NOTE, Content::Text(String::new())).is_err());
}

/// Texts for any field: good ones of every type, mixed, so that some fit and most nearly do.
fn any_text() -> impl Strategy<Value = String> {
    let atoms = prop::sample::select(vec![
        "1975",
        "1975-03-02",
        "00004@2025-01-01",
        "u-0000000000000007",
        "r-00000000000000000000000000000007",
        "VN",
        "yes",
        "male",
        "married",
        "cccd",
        "001075000123",
        "0912345678",
        "an@example.vn",
        "Nguyễn Văn An",
        "Lê//An",
        "từ; đến",
        r"a\b",
    ]);
    let part = prop::sample::select(vec![
        "unit", "line", "country", "since", "from", "until", "status", "number", "kind", "name",
    ]);
    let named = prop::collection::btree_map(part, atoms.clone(), 1..4).prop_map(|parts: BTreeMap<_, _>| {
        let escape = |text: &str| text.replace('\\', r"\\").replace(';', r"\;");
        parts.iter().map(|(name, text)| format!("{name}={}", escape(text))).collect::<Vec<_>>().join(";")
    });
    prop_oneof![atoms.prop_map(str::to_owned), named, any::<String>(), "[A-Za-zà-ỹ /;=\\\\-]{0,20}"]
}

fn any_field() -> impl Strategy<Value = FieldId> {
    (0..FIELDS.len()).prop_map(|at| FIELDS[at].id)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn whatever_reads_is_stored_and_shown_the_same(field in any_field(), text in any_text()) {
        if let Ok(value) = parse(field, &text, &TwoWards) {
            let bytes = value.encode();
            prop_assert_eq!(&Value::decode(field, &bytes), &Ok(value.clone()));
            let shown = display(field, &bytes, &TwoWards);
            prop_assert_eq!(parse(field, &shown, &TwoWards).map(|v| v.encode()), Ok(bytes), "{}", shown);
        }
    }

    #[test]
    fn bytes_that_decode_are_the_canonical_ones(
        field in any_field(),
        bytes in prop::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..40),
    ) {
        if let Ok(value) = Value::decode(field, &bytes) {
            prop_assert_eq!(value.encode(), bytes);
        }
    }

    #[test]
    fn damaged_bytes_are_refused_or_another_value(
        field in any_field(), text in any_text(), place in any::<prop::sample::Index>(), flip in 1u8..,
    ) {
        if let Ok(value) = parse(field, &text, &TwoWards) && !value.is_cleared() {
            let mut bytes = value.encode();
            let place = place.index(bytes.len());
            bytes[place] ^= flip;
            if let Ok(other) = Value::decode(field, &bytes) {
                prop_assert!(other != value);
                prop_assert_eq!(other.encode(), bytes);
            }
        }
    }
}
