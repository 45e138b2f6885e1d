//! What the values of one record must not say together, and which fields a record still lacks.
//!
//! A merge can bring two correct edits to a record that is not: a marriage beside an earlier death. Rules are re-checked
//! after it; a broken rule is an open conflict for an officer, never a refused or lost edit.
//! A rule counts as broken only if every combination of the current values breaks it: then it stays broken however the
//! conflicts of single fields are decided. A cleared or unreadable value breaks nothing.
//! Limits: rules look at one record; whatever needs two (both spouses, a child's parents) compares what the record itself
//! says of the other. None needs today's date.

use super::value::peek;
use super::{Field, FieldId, RecordKind, Repeat, Required, field, fields};
use crate::date::{Date, PartialDate};
use crate::level::LEVEL_FIRST;
use crate::number::{PersonNumber, Sex};

/// The permanent number of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub u16);

impl RuleId {
    /// The rule of that number; `None` for a rule of a newer schema.
    #[must_use]
    pub fn get(self) -> Option<&'static Rule> {
        RULES.iter().find(|rule| rule.id == self)
    }
}

/// A rule over the values of one record.
#[derive(Debug)]
pub struct Rule {
    /// Its permanent number.
    pub id: RuleId,
    /// Its name on the wire and on the command line.
    pub name: &'static str,
    /// What is wrong and what to look at.
    pub text: &'static str,
    /// The article that it implements.
    pub law: &'static str,
    /// What is wrong, for officers.
    pub text_vi: &'static str,
    /// The fields it looks at: an edit of none of them cannot break it.
    pub fields: &'static [FieldId],
    /// Those of them without which it is not broken.
    pub needs: &'static [FieldId],
    /// The first feature level that has it. What it reads is there at that level.
    pub since: u16,
    broken: fn(&Lookup) -> bool,
}

/// Gives the encoded current values of a field under an element key (empty for a field that stands once).
pub type Lookup<'a> = dyn Fn(FieldId, &[u8]) -> Vec<&'a [u8]> + 'a;

/// The day the Law on Marriage and Family 52/2014/QH13 came into force; earlier marriages had other ages.
pub const MARRIAGE_LAW: Date = match Date::new(2015, 1, 1) {
    Ok(date) => date,
    Err(_) => panic!("a day of the calendar"),
};
/// Its article 8: ages of women and men at marriage.
const MARRIAGE_AGES: (u16, u16) = (18, 20);
/// Article 27 of the Law on Residence: a temporary residence is registered for two years at most.
const TEMPORARY_YEARS_MAX: u16 = 2;

/// Every rule, in order of its id. All are about persons.
pub static RULES: &[Rule] = &[
    Rule {
        id: RuleId(1),
        name: "death_before_birth",
        text: "The date of death or disappearance lies before the date of birth: check both against their documents.",
        law: "Law on Civil Status 60/2014/QH13, article 33",
        text_vi: "Ngày chết hoặc mất tích trước ngày sinh: kiểm tra cả hai theo giấy tờ.",
        fields: &[field::BIRTH_DATE, field::DEATH_DATE, field::DISAPPEARANCE_DATE],
        needs: &[field::BIRTH_DATE],
        since: LEVEL_FIRST,
        broken: |lookup| {
            [field::DEATH_DATE, field::DISAPPEARANCE_DATE].iter().any(|&end| {
                let ends = dates(lookup, end, b"", None);
                // Most people live: nothing more is read of them.
                !ends.is_empty()
                    && always(&ends, &dates(lookup, field::BIRTH_DATE, b"", None), |end, birth| {
                        end.surely_precedes(birth)
                    })
            })
        },
    },
    Rule {
        id: RuleId(2),
        name: "number_against_sex",
        text: "The personal number says another sex than the record: correct the sex, or have the number cancelled and \
               issued anew.",
        law: "Law on Identification 26/2023/QH15, article 12; Decree 70/2024, article 11",
        text_vi: "Số định danh không khớp giới tính: điều chỉnh giới tính, hoặc hủy và xác lập lại số.",
        fields: &[field::PERSONAL_NUMBER, field::SEX],
        needs: &[field::PERSONAL_NUMBER, field::SEX],
        since: LEVEL_FIRST,
        broken: |lookup| {
            always(&numbers(lookup, field::PERSONAL_NUMBER, b"", None), &sexes(lookup), |number, sex| {
                number.sex() != sex
            })
        },
    },
    Rule {
        id: RuleId(3),
        name: "number_against_birth_date",
        text: "The personal number says another birth year than the record: correct the date, or have the number cancelled \
               and issued anew.",
        law: "Law on Identification 26/2023/QH15, article 12; Decree 70/2024, article 11",
        text_vi: "Số định danh không khớp năm sinh: điều chỉnh ngày sinh, hoặc hủy và xác lập lại số.",
        fields: &[field::PERSONAL_NUMBER, field::BIRTH_DATE],
        needs: &[field::PERSONAL_NUMBER, field::BIRTH_DATE],
        since: LEVEL_FIRST,
        broken: |lookup| {
            let births = dates(lookup, field::BIRTH_DATE, b"", None);
            always(&numbers(lookup, field::PERSONAL_NUMBER, b"", None), &births, |n, birth| {
                n.birth_year() != birth.year()
            })
        },
    },
    Rule {
        id: RuleId(4),
        name: "marriage_after_death",
        text: "The marital status began after the date of death: one of the two belongs to another person or is wrong.",
        law: "Law on Marriage and Family 52/2014/QH13, article 65",
        text_vi: "Tình trạng hôn nhân bắt đầu sau ngày chết: một trong hai thông tin sai hoặc của người khác.",
        fields: &[field::DEATH_DATE, field::MARITAL_STATUS],
        needs: &[field::DEATH_DATE, field::MARITAL_STATUS],
        since: LEVEL_FIRST,
        broken: |lookup| {
            let deaths = dates(lookup, field::DEATH_DATE, b"", None);
            let since = dates(lookup, field::MARITAL_STATUS, b"", Some("since"));
            always(&deaths, &since, |death, since| death.surely_precedes(since))
        },
    },
    Rule {
        id: RuleId(5),
        name: "married_under_age",
        text: "The marriage began before the legal age (20 for men, 18 for women): check the dates.",
        law: "Law on Marriage and Family 52/2014/QH13, article 8",
        text_vi: "Kết hôn khi chưa đủ tuổi (nam 20, nữ 18): kiểm tra các ngày.",
        fields: &[field::BIRTH_DATE, field::SEX, field::MARITAL_STATUS],
        needs: &[field::BIRTH_DATE, field::SEX, field::MARITAL_STATUS],
        since: LEVEL_FIRST,
        broken: |lookup| {
            let births = dates(lookup, field::BIRTH_DATE, b"", None);
            let sexes = sexes(lookup);
            let marriages = all(lookup, field::MARITAL_STATUS, b"", |bytes| {
                let part = |name| peek(field::MARITAL_STATUS, bytes, Some(name));
                let married = part("status")?.code()? == "married";
                if married { part("since")?.date() } else { None }
            });
            let (women, men) = MARRIAGE_AGES;
            always(&marriages, &births, |since, birth| {
                let age_at_most = birth.earliest().years_until(since.latest());
                let age = |sex: &Sex| if *sex == Sex::Female { women } else { men };
                since.earliest() >= MARRIAGE_LAW && !sexes.is_empty() && sexes.iter().all(|sex| age_at_most < age(sex))
            })
        },
    },
    Rule {
        id: RuleId(6),
        name: "single_with_spouse",
        text: "The marital status is single beside a present spouse: correct one of them.",
        law: "Law on Marriage and Family 52/2014/QH13, article 5",
        text_vi: "Chưa kết hôn nhưng có vợ hoặc chồng: điều chỉnh một trong hai.",
        fields: &[field::MARITAL_STATUS, field::RELATIVE],
        needs: &[field::MARITAL_STATUS, field::RELATIVE],
        since: LEVEL_FIRST,
        broken: |lookup| {
            let single = all(lookup, field::MARITAL_STATUS, b"", |bytes| {
                Some(peek(field::MARITAL_STATUS, bytes, Some("status"))?.code()? == "single")
            });
            let spouses = all(lookup, field::RELATIVE, b"spouse", |_| Some(()));
            always(&single, &spouses, |single, ()| single)
        },
    },
    Rule {
        id: RuleId(7),
        name: "residence_after_death",
        text: "The permanent residence began after the date of death: check the date of death first.",
        law: "Law on Residence 68/2020/QH14, article 24",
        text_vi: "Nơi thường trú bắt đầu sau ngày chết: kiểm tra ngày chết trước.",
        fields: &[field::DEATH_DATE, field::PERMANENT_RESIDENCE],
        needs: &[field::DEATH_DATE, field::PERMANENT_RESIDENCE],
        since: LEVEL_FIRST,
        broken: |lookup| {
            let deaths = dates(lookup, field::DEATH_DATE, b"", None);
            let since = dates(lookup, field::PERMANENT_RESIDENCE, b"", Some("since"));
            always(&deaths, &since, |death, since| death.surely_precedes(since))
        },
    },
    Rule {
        id: RuleId(8),
        name: "residence_before_birth",
        text: "The permanent residence began before the date of birth: check both.",
        law: "Law on Residence 68/2020/QH14, article 20",
        text_vi: "Nơi thường trú bắt đầu trước ngày sinh: kiểm tra cả hai.",
        fields: &[field::BIRTH_DATE, field::PERMANENT_RESIDENCE],
        needs: &[field::BIRTH_DATE, field::PERMANENT_RESIDENCE],
        since: LEVEL_FIRST,
        broken: |lookup| {
            let births = dates(lookup, field::BIRTH_DATE, b"", None);
            let since = dates(lookup, field::PERMANENT_RESIDENCE, b"", Some("since"));
            always(&since, &births, |since, birth| since.surely_precedes(birth))
        },
    },
    Rule {
        id: RuleId(9),
        name: "temporary_residence_too_long",
        text: "The temporary residence is registered for more than two years: register it anew.",
        law: "Law on Residence 68/2020/QH14, article 27",
        text_vi: "Tạm trú quá hai năm: phải đăng ký lại.",
        fields: &[field::TEMPORARY_RESIDENCE],
        needs: &[field::TEMPORARY_RESIDENCE],
        since: LEVEL_FIRST,
        broken: |lookup| {
            let spans = all(lookup, field::TEMPORARY_RESIDENCE, b"", |bytes| {
                let part = |name| peek(field::TEMPORARY_RESIDENCE, bytes, Some(name))?.date();
                Some((part("from")?, part("until")?))
            });
            // One day beyond: from the second anniversary on it is longer than two years.
            let too_long = |&(from, until): &(PartialDate, PartialDate)| {
                let day_before = Date::from_days(until.earliest().days() - 1);
                from.latest().years_until(day_before) >= TEMPORARY_YEARS_MAX
            };
            !spans.is_empty() && spans.iter().all(too_long)
        },
    },
    Rule {
        id: RuleId(10),
        name: "parent_not_older",
        text: "The personal number of the father or mother says a birth year that is not before the child's: the number \
               belongs to somebody else, or the date of birth is wrong.",
        law: "Law on Marriage and Family 52/2014/QH13, article 88",
        text_vi: "Số định danh của cha hoặc mẹ cho năm sinh không trước năm sinh của con: số của người khác, hoặc ngày sinh sai.",
        fields: &[field::BIRTH_DATE, field::RELATIVE],
        needs: &[field::BIRTH_DATE, field::RELATIVE],
        since: LEVEL_FIRST,
        broken: |lookup| {
            let births = dates(lookup, field::BIRTH_DATE, b"", None);
            [&b"father"[..], b"mother"].iter().any(|&parent| {
                let numbers = numbers(lookup, field::RELATIVE, parent, Some("number"));
                always(&numbers, &births, |number, birth| number.birth_year() >= birth.year())
            })
        },
    },
    Rule {
        id: RuleId(11),
        name: "parent_of_wrong_sex",
        text: "The personal number of the father is a woman's, or that of the mother a man's: the two may be exchanged.",
        law: "Law on Marriage and Family 52/2014/QH13, article 88",
        text_vi: "Số định danh của cha là của nữ, hoặc của mẹ là của nam: có thể đã nhập nhầm.",
        fields: &[field::RELATIVE],
        needs: &[field::RELATIVE],
        since: LEVEL_FIRST,
        broken: |lookup| {
            [(&b"father"[..], Sex::Male), (b"mother", Sex::Female)].iter().any(|&(parent, sex)| {
                let numbers = numbers(lookup, field::RELATIVE, parent, Some("number"));
                !numbers.is_empty() && numbers.iter().all(|number| number.sex() != sex)
            })
        },
    },
    Rule {
        id: RuleId(12),
        name: "one_record_as_both_parents",
        text: "Father and mother are the same record: correct one of them.",
        law: "Law on Marriage and Family 52/2014/QH13, article 88",
        text_vi: "Cha và mẹ là cùng một hồ sơ: điều chỉnh một trong hai.",
        fields: &[field::RELATIVE],
        needs: &[field::RELATIVE],
        since: LEVEL_FIRST,
        broken: |lookup| {
            let record = |bytes: &[u8]| peek(field::RELATIVE, bytes, Some("record"))?.record();
            let fathers = all(lookup, field::RELATIVE, b"father", record);
            let mothers = all(lookup, field::RELATIVE, b"mother", record);
            always(&fathers, &mothers, |father, mother| father == mother)
        },
    },
    Rule {
        id: RuleId(13),
        name: "status_before_birth",
        text: "The marital status began before the date of birth: check both.",
        law: "Law on Marriage and Family 52/2014/QH13, article 8",
        text_vi: "Tình trạng hôn nhân bắt đầu trước ngày sinh: kiểm tra cả hai.",
        fields: &[field::BIRTH_DATE, field::MARITAL_STATUS],
        needs: &[field::BIRTH_DATE, field::MARITAL_STATUS],
        since: 2,
        broken: |lookup| {
            let births = dates(lookup, field::BIRTH_DATE, b"", None);
            let since = dates(lookup, field::MARITAL_STATUS, b"", Some("since"));
            always(&since, &births, |since, birth| since.surely_precedes(birth))
        },
    },
];

/// The rules of a feature level among `looked_at` that a record breaks, in order. `has` says whether it has any value of a field.
#[must_use]
pub fn rules(
    level: u16,
    kind: RecordKind,
    looked_at: impl Fn(&Rule) -> bool,
    has: impl Fn(FieldId) -> bool,
    lookup: &Lookup,
) -> Vec<RuleId> {
    // All are about persons; a test keeps it so.
    if kind != RecordKind::Person {
        return Vec::new();
    }
    let may_be_broken =
        |rule: &&Rule| rule.since <= level && looked_at(rule) && rule.needs.iter().all(|field| has(*field));
    RULES.iter().filter(may_be_broken).filter(|rule| (rule.broken)(lookup)).map(|rule| rule.id).collect()
}

/// How many of the fields that a record should have it has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Completeness {
    /// Required fields.
    pub required: u32,
    /// Those that are missing, in order.
    pub missing: Vec<FieldId>,
}

/// Which fields a record should have on the day `today` by its age and status, and which it lacks. A person whose birth
/// date is missing counts as grown up.
#[must_use]
pub fn completeness(kind: RecordKind, lookup: &Lookup, today: Date) -> Completeness {
    let is_filled = |field: FieldId| lookup(field, b"").iter().any(|bytes| !bytes.is_empty());
    let is_dead = kind == RecordKind::Person && (is_filled(field::DEATH_DATE) || is_filled(field::DISAPPEARANCE_DATE));
    let births = if kind == RecordKind::Person { dates(lookup, field::BIRTH_DATE, b"", None) } else { Vec::new() };
    let age = births.iter().map(|birth| birth.latest().years_until(today)).min().unwrap_or(u16::MAX);
    let is_required = |field: &&Field| match field.required {
        Required::Never => false,
        Required::Always => true,
        Required::Living => !is_dead,
        Required::LivingFromAge(from) => !is_dead && age >= from,
    };
    debug_assert!(fields(kind).filter(is_required).all(|field| field.repeat == Repeat::Once));
    let mut out = Completeness::default();
    for field in fields(kind).filter(is_required) {
        out.required += 1;
        if !is_filled(field.id) {
            out.missing.push(field.id);
        }
    }
    out
}

/// What `read` finds in each current value; nothing if it does not find it in all of them.
fn all<T>(lookup: &Lookup, field: FieldId, element: &[u8], read: impl Fn(&[u8]) -> Option<T>) -> Vec<T> {
    let read_filled = |bytes: &[u8]| if bytes.is_empty() { None } else { read(bytes) };
    lookup(field, element).into_iter().map(read_filled).collect::<Option<_>>().unwrap_or_default()
}

fn dates(lookup: &Lookup, field: FieldId, element: &[u8], part: Option<&str>) -> Vec<PartialDate> {
    all(lookup, field, element, |bytes| peek(field, bytes, part)?.date())
}

fn numbers(lookup: &Lookup, field: FieldId, element: &[u8], part: Option<&str>) -> Vec<PersonNumber> {
    all(lookup, field, element, |bytes| peek(field, bytes, part)?.number())
}

fn sexes(lookup: &Lookup) -> Vec<Sex> {
    all(lookup, field::SEX, b"", |bytes| match peek(field::SEX, bytes, None)?.code()? {
        "male" => Some(Sex::Male),
        "female" => Some(Sex::Female),
        _ => None,
    })
}

/// Whether every pair is broken, and there is one.
fn always<A: Copy, B: Copy>(left: &[A], right: &[B], broken: impl Fn(A, B) -> bool) -> bool {
    !left.is_empty() && !right.is_empty() && left.iter().all(|&a| right.iter().all(|&b| broken(a, b)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::level::LEVEL_MAX;
    use crate::schema::parse;
    use crate::units::NoUnits;

    /// Field, element key and text.
    type Entries<'a> = &'a [(&'a str, &'a str, &'a str)];

    #[derive(Default)]
    struct Sheet(BTreeMap<(FieldId, Vec<u8>), Vec<Vec<u8>>>);

    impl Sheet {
        /// A person with these current values; a field named twice has two.
        fn of(entries: Entries) -> Self {
            let mut sheet = Sheet::default();
            for (name, element, text) in entries {
                let field = FieldId::named(RecordKind::Person, name).expect(name);
                let value = parse(field, text, &NoUnits).expect(text);
                sheet.0.entry((field, element.as_bytes().to_vec())).or_default().push(value.encode());
            }
            sheet
        }

        fn values(&self, field: FieldId, element: &[u8]) -> Vec<&[u8]> {
            self.0.get(&(field, element.to_vec())).into_iter().flatten().map(Vec::as_slice).collect()
        }

        fn broken(&self) -> Vec<&'static str> {
            let lookup = |field, element: &[u8]| self.values(field, element);
            let has = |field| self.0.keys().any(|(there, _)| *there == field);
            rules(LEVEL_MAX, RecordKind::Person, |_| true, has, &lookup)
                .iter()
                .map(|id| id.get().expect("a rule of this schema").name)
                .collect()
        }

        fn missing(&self, today: &str) -> Vec<String> {
            let lookup = |field, element: &[u8]| self.values(field, element);
            let found = completeness(RecordKind::Person, &lookup, today.parse().expect(today));
            found.missing.iter().map(ToString::to_string).collect()
        }
    }

    const UNIT: &str = "u-0000000000000001";

    #[test]
    fn a_life_in_order_breaks_nothing() {
        let life = [
            ("name", "", "Nguyễn Thị Hòa"),
            ("personal_number", "", "001150000001"),
            ("birth_date", "", "1950"),
            ("sex", "", "female"),
            ("marital_status", "", "married; since=1970"),
            ("relative", "spouse", "name=Trần Văn An; number=001048000002"),
            ("relative", "mother", "number=001130000002"),
            ("permanent_residence", "", &format!("{UNIT}; since=1950")),
            ("death_date", "", "2020-05"),
        ];
        assert_eq!(Sheet::of(&life).broken(), [""; 0]);
    }

    #[test]
    fn each_rule_finds_its_case_and_no_other() {
        let residence = |since: &str| format!("{UNIT}; since={since}");
        let (late, early) = (residence("2021"), residence("1949-12-31"));
        let temporary = |until: &str| format!("{UNIT}; from=2023-01-01; until={until}");
        let (short, long) = (temporary("2025-01-01"), temporary("2025-01-02"));
        let same = "record=r-00000000000000000000000000000007";
        let cases: &[(&str, Entries)] = &[
            ("death_before_birth", &[("birth_date", "", "1950"), ("death_date", "", "1949-12-31")]),
            ("death_before_birth", &[("birth_date", "", "1950"), ("disappearance_date", "", "1949")]),
            ("", &[("birth_date", "", "1950"), ("death_date", "", "1950")]),
            ("number_against_sex", &[("personal_number", "", "001050000001"), ("sex", "", "Nữ")]),
            ("number_against_birth_date", &[("personal_number", "", "001050000001"), ("birth_date", "", "1951")]),
            (
                "marriage_after_death",
                &[("death_date", "", "2020"), ("marital_status", "", "married; since=2021-01-01")],
            ),
            ("", &[("death_date", "", "2020"), ("marital_status", "", "married; since=2020-12")]),
            (
                "married_under_age",
                &[
                    ("birth_date", "", "2000-06-02"),
                    ("sex", "", "male"),
                    ("marital_status", "", "married; since=2020-06-01"),
                ],
            ),
            (
                "",
                &[
                    ("birth_date", "", "2000-06-02"),
                    ("sex", "", "female"),
                    ("marital_status", "", "married; since=2020-06-01"),
                ],
            ),
            ("", &[("birth_date", "", "1945"), ("sex", "", "female"), ("marital_status", "", "married; since=1961")]),
            ("single_with_spouse", &[("marital_status", "", "single"), ("relative", "spouse", "name=Lê An")]),
            ("", &[("marital_status", "", "single"), ("relative", "spouse-1", "name=Lê An")]),
            ("residence_after_death", &[("death_date", "", "2020"), ("permanent_residence", "", &late)]),
            ("residence_before_birth", &[("birth_date", "", "1950"), ("permanent_residence", "", &early)]),
            ("", &[("temporary_residence", "", &short)]),
            ("temporary_residence_too_long", &[("temporary_residence", "", &long)]),
            ("parent_not_older", &[("birth_date", "", "1950"), ("relative", "father", "number=001050000001")]),
            ("parent_of_wrong_sex", &[("relative", "mother", "number=001050000001")]),
            ("one_record_as_both_parents", &[("relative", "father", same), ("relative", "mother", same)]),
            (
                "status_before_birth",
                &[("birth_date", "", "1990-05-02"), ("marital_status", "", "divorced; since=1990-05-01")],
            ),
            ("", &[("birth_date", "", "1990-05-02"), ("marital_status", "", "single; since=1990")]),
        ];
        for (rule, entries) in cases {
            let expected: &[&str] = if rule.is_empty() { &[] } else { &[rule] };
            assert_eq!(Sheet::of(entries).broken(), expected, "{entries:?}");
        }
        for rule in RULES {
            assert!(cases.iter().any(|(name, _)| *name == rule.name), "no case for {}", rule.name);
        }
    }

    #[test]
    fn an_open_conflict_breaks_a_rule_only_if_no_decision_can_mend_it() {
        let open = [("birth_date", "", "1950"), ("birth_date", "", "2005"), ("death_date", "", "2001")];
        assert_eq!(Sheet::of(&open).broken(), [""; 0]);
        let hopeless = [("birth_date", "", "2004"), ("birth_date", "", "2005"), ("death_date", "", "2001")];
        assert_eq!(Sheet::of(&hopeless).broken(), ["death_before_birth"]);
        let cleared = [("birth_date", "", "2004"), ("death_date", "", ""), ("death_date", "", "2001")];
        assert_eq!(Sheet::of(&cleared).broken(), [""; 0]);
    }

    #[test]
    fn what_is_required_depends_on_age_and_status() {
        let mut entries = vec![
            ("name", "", "Nguyễn Văn An"),
            ("personal_number", "", "001207000001"),
            ("birth_date", "", "2007-03-02"),
            ("sex", "", "male"),
            ("birth_registration_place", "", UNIT),
            ("origin", "", "country=LA"),
            ("ethnicity", "", "Kinh"),
            ("nationality", "", "VN"),
        ];
        let living = ["permanent_residence", "relation_to_head", "household"];
        assert_eq!(Sheet::of(&entries).missing("2025-03-01"), living);
        let grown_up = ["permanent_residence", "marital_status", "relation_to_head", "household"];
        assert_eq!(Sheet::of(&entries).missing("2025-03-02"), grown_up);
        entries.push(("death_date", "", "2025-01"));
        assert_eq!(Sheet::of(&entries).missing("2025-03-02"), [""; 0]);
        entries.push(("sex", "", ""));
        assert_eq!(Sheet::of(&entries).missing("2025-03-02"), [""; 0]);
        assert_eq!(Sheet::of(&[]).missing("2025-03-02").len(), 12);
    }

    #[test]
    fn rules_of_persons_say_nothing_of_households() {
        let any = |_: FieldId, _: &[u8]| vec![&[1_u8][..]];
        assert_eq!(rules(LEVEL_MAX, RecordKind::Household, |_| true, |_| true, &any), []);
        for rule in RULES {
            let is_of_persons = |id: &FieldId| id.get().is_some_and(|field| field.kind == RecordKind::Person);
            assert!(rule.fields.iter().all(is_of_persons), "{}", rule.name);
            assert!(rule.needs.iter().all(|field| rule.fields.contains(field)), "{}", rule.name);
            let reads_what_is_there = rule.fields.iter().all(|field| field.at(rule.since).is_some());
            assert!((LEVEL_FIRST..=LEVEL_MAX).contains(&rule.since) && reads_what_is_there, "{}", rule.name);
        }
        let empty = completeness(RecordKind::Household, &|_, _| Vec::new(), MARRIAGE_LAW);
        assert_eq!(empty, Completeness { required: 2, missing: vec![field::HEAD, field::HOUSEHOLD_RESIDENCE] });
    }
}
