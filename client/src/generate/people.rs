//! Invents households: ages from a pyramid, people with plausible names, papers and relations, in the given communes.
//!
//! What is invented is in order: it passes the schema, breaks no rule of a record, and is complete but for a few numbers
//! that are pending. Draft after draft comes from one stream of random numbers, so the first thousand people of a seed are
//! the same however many follow.
//!
//! Limits: relations end at the household; nobody has moved, divorced twice or changed a name.

use std::collections::BTreeMap;

use dinhba_core::blocks::FIRST_SERIAL;
use dinhba_core::date::{Date, PartialDate};
use dinhba_core::ids::UnitId;
use dinhba_core::number::{PersonNumber, Sex};
use dinhba_core::schema::{RecordKind, field};
use dinhba_core::text;
use dinhba_core::units::{Directory, Tier};
use rand::Rng;
use rand::SeedableRng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::names;
use crate::draft::{Draft, DraftRecord};

/// Why nothing can be generated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenerateError {
    /// No commune to live in.
    #[error("no commune given: name at least one")]
    NoCommune,
    /// A unit that is no commune, or unknown.
    #[error("{unit} is no commune of this directory")]
    NotACommune {
        /// The unit.
        unit: UnitId,
    },
}

/// Serials of one (place, sex, year) are spread by this step, which shares no factor with their number, so none comes twice.
const SERIAL_STEP: u32 = 387_421;
/// The youngest mother and the oldest.
const MOTHER_AGES: std::ops::RangeInclusive<i64> = 19..=42;
const DAYS_PER_YEAR: f64 = 365.25;
const CARD_OFFICE: &str = "Cục Cảnh sát quản lý hành chính về trật tự xã hội";

/// Heads of households: ages and the weight of each, from the census' share of households.
const HEAD_AGES: &[(i64, i64, u32)] =
    &[(22, 29, 11), (30, 39, 25), (40, 49, 24), (50, 59, 20), (60, 69, 12), (70, 88, 8)];

struct Place {
    /// `00001@2025-06-30`.
    unit: String,
    province: String,
    is_urban: bool,
}

/// The drafts of one seed, until the people are used up.
pub struct Generate {
    rng: ChaCha8Rng,
    today: Date,
    homes: Vec<Place>,
    /// Where those come from who were born somewhere else.
    elsewhere: Vec<Place>,
    persons_left: usize,
    person_next: u64,
    household_next: u64,
    serials: BTreeMap<(u16, Sex, u16), u32>,
}

/// Households in `communes` with `persons` people in all. Everything is dated as on the day that names the first commune:
/// the last day of a unit that has ended, the first of one that lasts.
///
/// # Errors
/// No commune, or a unit that is none.
pub fn generate(
    directory: &Directory,
    communes: &[UnitId],
    persons: usize,
    seed: u64,
) -> Result<Generate, GenerateError> {
    let commune = |&unit: &UnitId| {
        let found = directory.get(unit).filter(|found| found.tier == Tier::Commune);
        found.ok_or(GenerateError::NotACommune { unit })
    };
    let communes: Vec<_> = communes.iter().map(commune).collect::<Result<_, _>>()?;
    let today = communes.first().ok_or(GenerateError::NoCommune)?.named_at();
    let place = |unit: &dinhba_core::units::Unit| Place {
        unit: format!("{}@{}", unit.code, unit.named_at()),
        province: directory.ancestors(unit.id).find(|u| u.tier == Tier::Province).map_or("00", |u| &u.code).to_owned(),
        is_urban: unit.name.starts_with("Phường") || unit.name.starts_with("Thị trấn"),
    };
    let mut all: Vec<_> = directory.iter().filter(|u| u.tier == Tier::Commune && u.is_valid_on(today)).collect();
    all.sort_by(|a, b| a.code.cmp(&b.code));
    Ok(Generate {
        rng: ChaCha8Rng::seed_from_u64(seed),
        today,
        homes: communes.into_iter().map(place).collect(),
        elsewhere: all.into_iter().map(place).collect(),
        persons_left: persons,
        person_next: 1,
        household_next: 1,
        serials: BTreeMap::new(),
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Head,
    Spouse,
    Child,
    Parent,
}

/// A person while the household is put together.
struct Member {
    id: String,
    role: Role,
    sex: Sex,
    born: Date,
    birth: PartialDate,
    /// Family, middle, given.
    name: [String; 3],
    number: Option<PersonNumber>,
    died: Option<Date>,
    status: &'static str,
}

/// What all members share.
struct Setting {
    home: usize,
    origin: String,
    line: String,
    ethnicity: &'static str,
    religion: &'static str,
    household: String,
    file_number: String,
    married: Option<Date>,
}

impl Iterator for Generate {
    type Item = Draft;

    fn next(&mut self) -> Option<Draft> {
        if self.persons_left == 0 {
            return None;
        }
        let mut setting = self.setting();
        let members = self.members(&mut setting);
        self.persons_left -= members.len();
        Some(self.draft(&setting, &members))
    }
}

impl Generate {
    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        *choices.choose(&mut self.rng).expect("the tables of names are not empty")
    }

    fn weighted<T: Copy>(&mut self, choices: &[(T, u32)]) -> T {
        let total: u32 = choices.iter().map(|(_, weight)| weight).sum();
        let mut at = self.rng.random_range(0..total);
        for &(choice, weight) in choices {
            if at < weight {
                return choice;
            }
            at -= weight;
        }
        unreachable!("`at` is below the sum of the weights")
    }

    /// A day on which somebody was born who is `age` today.
    fn born_at(&mut self, age: i64) -> Date {
        let days = (age as f64 * DAYS_PER_YEAR) as i64 + self.rng.random_range(1..365);
        Date::from_days(self.today.days() - days)
    }

    fn age(&self, born: Date) -> i64 {
        i64::from(born.years_until(self.today))
    }

    fn setting(&mut self) -> Setting {
        let home = self.rng.random_range(0..self.homes.len() as u64) as usize;
        let number = self.rng.random_range(1..200);
        let line = if self.homes[home].is_urban {
            format!("Số {number} đường {}", self.one_of(names::STREETS))
        } else {
            format!("Thôn {}", self.one_of(names::HAMLETS))
        };
        let minorities = names::peoples(&self.homes[home].province);
        let share: u32 = minorities.iter().map(|(_, share)| share).sum();
        let ethnicity = if share > 0 && self.chance(share) { self.weighted(minorities) } else { "kinh" };
        let believers: &[(&'static str, u32)] = match ethnicity {
            "khmer" => &[("buddhism", 90), ("none", 10)],
            "cham" => &[("brahmanism", 50), ("islam", 40), ("none", 10)],
            "hmong" | "e_de" | "gia_rai" => &[("protestantism", 30), ("none", 70)],
            _ => &[
                ("none", 86),
                ("catholicism", 6),
                ("buddhism", 5),
                ("hoa_hao", 1),
                ("cao_dai", 1),
                ("protestantism", 1),
            ],
        };
        let religion = self.weighted(believers);
        let origin = if self.chance(80) { self.homes[home].unit.clone() } else { self.birth_place(home, 100).0 };
        let household = format!("@h{}", self.household_next);
        let file_number = format!("HS-{}-{:06}", &self.homes[home].unit[..5], self.household_next);
        self.household_next += 1;
        Setting { home, origin, line, ethnicity, religion, household, file_number, married: None }
    }

    /// The unit and the province of a birth: at home, or with `percent` somewhere else.
    fn birth_place(&mut self, home: usize, percent: u32) -> (String, String) {
        let place = if self.chance(percent) {
            &self.elsewhere[self.rng.random_range(0..self.elsewhere.len() as u64) as usize]
        } else {
            &self.homes[home]
        };
        (place.unit.clone(), place.province.clone())
    }

    fn members(&mut self, setting: &mut Setting) -> Vec<Member> {
        let ranges: Vec<((i64, i64), u32)> = HEAD_AGES.iter().map(|&(from, to, weight)| ((from, to), weight)).collect();
        let (from, to) = self.weighted(&ranges);
        let age = self.rng.random_range(from..=to);
        let head_sex = if self.chance(72) { Sex::Male } else { Sex::Female };
        let mut members = vec![self.member(Role::Head, head_sex, age, setting, None)];

        let has_spouse = self.persons_left > 1 && self.chance(if age < 30 { 55 } else { 82 });
        let mut mother_age = (head_sex == Sex::Female).then_some(age);
        if has_spouse {
            let (sex, gap) = match head_sex {
                Sex::Male => (Sex::Female, self.rng.random_range(-2..=7)),
                Sex::Female => (Sex::Male, self.rng.random_range(-7..=2)),
            };
            let spouse_age = (age - gap).max(21);
            members.push(self.member(Role::Spouse, sex, spouse_age, setting, None));
            mother_age = Some(if sex == Sex::Female { spouse_age } else { age });
            setting.married = Some(self.wedding(&members));
        }
        // A woman alone may have children; a man alone here has none.
        if let Some(mother_age) = mother_age {
            self.children(setting, &mut members, mother_age);
        }
        if self.persons_left > members.len() && age < 60 && self.chance(14) {
            let parent_age = age + self.rng.random_range(22..=34);
            let sex = if self.chance(65) { Sex::Female } else { Sex::Male };
            // An elder who is the head's father, or the mother; the head carries the father's family name.
            let family = (sex == Sex::Male).then(|| members[0].name[0].clone());
            members.push(self.member(Role::Parent, sex, parent_age, setting, family));
        }
        let status = if has_spouse { "married" } else { self.status_alone(age, members.len() > 1) };
        for member in &mut members {
            member.status = match member.role {
                Role::Head | Role::Spouse => status,
                Role::Child => "single",
                Role::Parent => "widowed",
            };
        }
        members
    }

    fn status_alone(&mut self, age: i64, has_family: bool) -> &'static str {
        match age {
            ..30 if !has_family => "single",
            60.. => self.weighted(&[("widowed", 75), ("single", 15), ("divorced", 10)]),
            _ => self.weighted(&[("single", 40), ("divorced", 40), ("widowed", 20)]),
        }
    }

    /// A day on which both were grown up, and that has come.
    fn wedding(&mut self, members: &[Member]) -> Date {
        // One year above the age of the law, since of some birth dates only the year is known.
        let grown_up =
            members.iter().map(|member| member.born.days() + (21.2 * DAYS_PER_YEAR) as i64).max().unwrap_or(0);
        let latest = self.today.days() - 1;
        let day = grown_up + self.rng.random_range(0..6 * 365);
        Date::from_days(day.min(latest).max(grown_up.min(latest)))
    }

    fn children(&mut self, setting: &Setting, members: &mut Vec<Member>, mother_age: i64) {
        let wanted = self.weighted(&[(0, 12), (1, 26), (2, 42), (3, 15), (4, 5)]);
        let mut age_at_birth = self.rng.random_range(*MOTHER_AGES.start()..=29);
        // Children take the father's family name; a woman alone gives hers.
        let father = members.iter().find(|member| member.sex == Sex::Male).unwrap_or(&members[0]);
        let family = father.name[0].clone();
        let parents_born = members.iter().map(|member| member.born).max().unwrap_or(self.today);
        for _ in 0..wanted {
            let age = mother_age - age_at_birth;
            age_at_birth += self.rng.random_range(2..=5);
            let stays = age < 19 || (age < 32 && self.chance(45));
            let is_possible = age >= 0 && age_at_birth <= *MOTHER_AGES.end() && self.age(parents_born) - age >= 17;
            if !is_possible || !stays || members.len() >= self.persons_left {
                continue;
            }
            // 111 boys to 100 girls.
            let sex = if self.rng.random_range(0..211) < 111 { Sex::Male } else { Sex::Female };
            members.push(self.member(Role::Child, sex, age, setting, Some(family.clone())));
        }
    }

    fn member(&mut self, role: Role, sex: Sex, age: i64, setting: &Setting, family: Option<String>) -> Member {
        let born = self.born_at(age);
        let name = self.name(sex, born, setting, family);
        // Of old people sometimes only the year of birth is known.
        let birth = if born.year() < 1965 && self.chance(25) {
            PartialDate::new(born.year(), None, None).unwrap_or(born.into())
        } else {
            born.into()
        };
        let id = format!("@p{}", self.person_next);
        self.person_next += 1;
        let died = (role == Role::Parent && self.chance(12)).then(|| {
            let days_ago = self.rng.random_range(1..3000);
            Date::from_days(self.today.days() - days_ago)
        });
        Member { id, role, sex, born, birth, name, number: None, died, status: "single" }
    }

    fn name(&mut self, sex: Sex, born: Date, setting: &Setting, family: Option<String>) -> [String; 3] {
        if setting.ethnicity == "e_de" {
            let clan = self.one_of(names::E_DE_CLANS);
            let given = match sex {
                Sex::Male => format!("Y {} {clan}", self.one_of(names::E_DE_MEN)),
                Sex::Female => format!("H'{} {clan}", self.one_of(names::E_DE_WOMEN)),
            };
            return [String::new(), String::new(), given];
        }
        let is_south = self.homes[setting.home].province.as_str() >= "48";
        let regional = if is_south { names::FAMILIES_SOUTH } else { names::FAMILIES_NORTH };
        let families = names::families(setting.ethnicity).unwrap_or(regional);
        let own = self.weighted(families);
        let (middles, givens) = match (sex, born.year() < 1980) {
            (Sex::Male, true) => (names::MIDDLE_MEN_OLD, names::MEN_OLD),
            (Sex::Male, false) => (names::MIDDLE_MEN_YOUNG, names::MEN_YOUNG),
            (Sex::Female, true) => (names::MIDDLE_WOMEN_OLD, names::WOMEN_OLD),
            (Sex::Female, false) => (names::MIDDLE_WOMEN_YOUNG, names::WOMEN_YOUNG),
        };
        let (middle, given) = (self.one_of(middles), self.one_of(givens));
        let middle = if middle == given { "" } else { middle };
        [family.unwrap_or_else(|| own.to_owned()), middle.to_owned(), given.to_owned()]
    }

    /// The next number of that place, sex and year, of those that were given before there were blocks; none once they are used up:
    /// "number pending".
    fn number(&mut self, province: &str, sex: Sex, year: u16) -> Option<PersonNumber> {
        let place: u16 = province.parse().ok()?;
        let used = self.serials.entry((place, sex, year)).or_insert(0);
        if *used >= FIRST_SERIAL {
            return None;
        }
        // Each year starts elsewhere, so that numbers do not all end alike.
        let start = u64::from(place) * 7919 + u64::from(year) * 104_729;
        let serial = (start + u64::from(*used) * u64::from(SERIAL_STEP)) % u64::from(FIRST_SERIAL);
        *used += 1;
        PersonNumber::new(place, sex, year, serial as u32).ok()
    }
}

fn spoken(name: &[String; 3]) -> String {
    name.iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join(" ")
}

fn relative(member: &Member, since: Option<Date>) -> String {
    let mut text = format!("name={}", spoken(&member.name));
    if let Some(number) = member.number {
        text += &format!("; number={number}");
    }
    text += &format!("; nationality=VN; record={}", member.id);
    if let Some(since) = since {
        text += &format!("; since={since}");
    }
    text
}

impl Generate {
    fn draft(&mut self, setting: &Setting, members: &[Member]) -> Draft {
        let mut people = Vec::new();
        let mut numbered: Vec<Member> = Vec::new();
        for member in members {
            let (unit, province) = self.birth_place(setting.home, if member.role == Role::Spouse { 35 } else { 12 });
            let number = if self.chance(99) { self.number(&province, member.sex, member.birth.year()) } else { None };
            numbered.push(Member { name: member.name.clone(), id: member.id.clone(), number, ..*member });
            people.push(self.person(setting, numbered.last().unwrap_or(member), &unit));
        }
        self.relate(setting, &numbered, &mut people);
        let home = self.homes[setting.home].unit.clone();
        let mut household = DraftRecord {
            kind: RecordKind::Household,
            id: setting.household.clone(),
            home: Some(home.clone()),
            fields: Vec::new(),
        };
        household.put(field::HEAD, "", members.first().map_or("", |head| &head.id));
        household.put(field::HOUSEHOLD_RESIDENCE, "", format!("unit={home}; line={}", setting.line));
        household.put(field::HOUSEHOLD_FILE_NUMBER, "", &setting.file_number);
        household.put(field::COLLECTIVE, "", "no");
        let mut records = vec![household];
        records.append(&mut people);
        records.iter_mut().for_each(DraftRecord::sort);
        Draft { records }
    }

    fn person(&mut self, setting: &Setting, member: &Member, birth_unit: &str) -> DraftRecord {
        let home = self.homes[setting.home].unit.clone();
        let age = self.age(member.born);
        let mut record = DraftRecord {
            kind: RecordKind::Person,
            id: member.id.clone(),
            home: Some(home.clone()),
            fields: Vec::new(),
        };
        record.put(field::NAME, "", member.name.join("/"));
        if let Some(number) = member.number {
            record.put(field::PERSONAL_NUMBER, "", number.to_string());
        }
        record.put(field::BIRTH_DATE, "", member.birth.to_string());
        record.put(field::SEX, "", if member.sex == Sex::Male { "male" } else { "female" });
        record.put(field::BIRTH_PLACE, "", format!("unit={birth_unit}; country=VN"));
        record.put(field::BIRTH_REGISTRATION_PLACE, "", format!("unit={birth_unit}; country=VN"));
        record.put(field::ORIGIN, "", format!("unit={}", setting.origin));
        record.put(field::ETHNICITY, "", setting.ethnicity);
        record.put(field::RELIGION, "", setting.religion);
        record.put(field::NATIONALITY, "", "VN");
        if self.chance(30) {
            let group = self.weighted(&[("o", 42), ("b", 31), ("a", 21), ("ab", 6)]);
            record.put(field::BLOOD_GROUP, "", group);
        }
        if age >= 27 && self.chance(50) {
            record.put(
                field::OLD_IDENTITY_NUMBER,
                "",
                format!("{:09}", self.rng.random_range(10_000_000..400_000_000)),
            );
        }
        if member.died.is_none() {
            self.card(&mut record, member, age);
            self.residence(&mut record, setting, member, &home);
            self.contact(&mut record, member, age);
        }
        record.put(field::RESIDENCE_FILE_NUMBER, "", &setting.file_number);
        if age >= 18 {
            let since = setting.married.filter(|_| member.status == "married");
            let since = since.map_or_else(String::new, |day| format!("; since={day}"));
            record.put(field::MARITAL_STATUS, "", format!("status={}{since}", member.status));
        }
        if let Some(died) = member.died {
            record.put(field::DEATH_DATE, "", died.to_string());
        }
        record
    }

    /// Cards run to the birthdays at 25, 40 and 60; after that for life.
    fn card(&mut self, record: &mut DraftRecord, member: &Member, age: i64) {
        let Some(number) = member.number.filter(|_| age >= 14) else { return };
        let days_with_card = ((age - 13) * 365).min(1600);
        let issued = Date::from_days(self.today.days() - self.rng.random_range(1..days_with_card));
        let ends = [25, 40, 60].into_iter().find(|&end| i64::from(member.born.years_until(issued)) < end);
        let valid_to = ends.map_or_else(String::new, |end| {
            let end = Date::from_days(member.born.days() + (end as f64 * DAYS_PER_YEAR) as i64 + 1);
            format!("; valid_to={end}")
        });
        let is_over = ends.is_some_and(|end| age >= end);
        let state = if is_over { "expired" } else { "delivered" };
        record.put(
            field::IDENTITY_CARD,
            &format!("cccd-{issued}"),
            format!("number={number}; kind=cccd; state={state}; issued={issued}; issued_by={CARD_OFFICE}{valid_to}"),
        );
        let levels = [("none", 30), ("level_1_activated", 15), ("level_2", 15), ("level_2_activated", 40)];
        record.put(field::E_IDENTIFICATION, "", self.weighted(&levels));
    }

    fn residence(&mut self, record: &mut DraftRecord, setting: &Setting, member: &Member, home: &str) {
        let since = match (member.role, setting.married) {
            (Role::Spouse, Some(day)) => day,
            // Registered some weeks after the birth, by the latest today.
            _ => Date::from_days((member.birth.latest().days() + 30).min(self.today.days())),
        };
        let place = format!("unit={home}; line={}", setting.line);
        record.put(field::PERMANENT_RESIDENCE, "", format!("{place}; since={since}"));
        record.put(field::CURRENT_DWELLING, "", place);
        let relation = match (member.role, member.sex) {
            (Role::Head, _) => "head",
            (Role::Spouse, Sex::Female) => "wife",
            (Role::Spouse, Sex::Male) => "husband",
            (Role::Child, _) => "child",
            (Role::Parent, _) => "parent",
        };
        record.put(field::RELATION_TO_HEAD, "", relation);
        record.put(field::HOUSEHOLD, "", &setting.household);
        if self.age(member.born) >= 18 && self.chance(3) {
            let (unit, _) = self.birth_place(setting.home, 100);
            let from = self.today.days() - self.rng.random_range(1..300);
            let (from, until) = (Date::from_days(from), Date::from_days(from + 365));
            record.put(field::TEMPORARY_RESIDENCE, "", format!("unit={unit}; from={from}; until={until}"));
            record.put(field::TEMPORARY_ABSENCE, "", format!("from={from}; until={until}; unit={unit}; reason=Đi làm"));
        }
    }

    fn contact(&mut self, record: &mut DraftRecord, member: &Member, age: i64) {
        if age >= 13 && self.chance(80) {
            let prefix = self.one_of(&["0120", "0122", "0162", "0165", "0168", "0169", "0188", "0199"]);
            record.put(field::MOBILE_NUMBER, "", format!("{prefix}{:07}", self.rng.random_range(0..10_000_000)));
        }
        if (16..70).contains(&age) && self.chance(25) {
            let [family, _, given] = member.name.each_ref().map(|part| text::fold(part));
            let name: String = format!("{given}.{family}").chars().filter(|c| c.is_ascii_alphanumeric()).collect();
            let number = self.rng.random_range(10..9999);
            record.put(field::EMAIL, "", format!("{name}{number}@example.com"));
        }
    }

    /// Everybody names father, mother, spouse and children of the same household.
    fn relate(&mut self, setting: &Setting, members: &[Member], people: &mut [DraftRecord]) {
        for (member, record) in members.iter().zip(people) {
            for other in members {
                let (element, since) = match (member.role, other.role) {
                    (Role::Head, Role::Spouse) | (Role::Spouse, Role::Head) => ("spouse".to_owned(), setting.married),
                    (Role::Head | Role::Spouse, Role::Child) | (Role::Parent, Role::Head) => {
                        (format!("child-{}", &other.id[1..]), None)
                    }
                    (Role::Child, Role::Head | Role::Spouse) | (Role::Head, Role::Parent) => {
                        (if other.sex == Sex::Male { "father" } else { "mother" }.to_owned(), None)
                    }
                    _ => continue,
                };
                record.put(field::RELATIVE, &element, relative(other, since));
            }
        }
    }
}
