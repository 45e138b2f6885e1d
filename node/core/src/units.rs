//! Administrative units: what a code meant on a day, and which unit contains which.
//!
//! A unit is named by (code, date), never by its code alone: in the reform of 2025-07-01 most new communes re-used an old
//! code, many of them one of another province. Here each (code, date) resolves to a permanent [`UnitId`], which values and
//! documents hold. The lists of 2024 and 2025 are built in (see `data/NOTICE`); ids derive from them alone, so every site
//! has the same ones without asking.
//!
//! Limits. The lists are two states of the country: units that ended before 2024 are not in them, and a unit of the 2024
//! list is taken to have been there since ever, so that old dates resolve. Every unit but the centre ends with the reform,
//! also where only its superior changed. What became of a unit in the reform is not here but in the plan of the
//! reorganisation. What the state makes of units afterwards is said by the centre to all sites ([`said`]).

pub mod said;

use std::collections::BTreeMap;
use std::fmt;

use crate::date::Date;
use crate::ids::UnitId;

/// The first day of the tree without districts.
pub const REFORM: Date = match Date::new(2025, 7, 1) {
    Ok(date) => date,
    Err(_) => panic!("a day of the calendar"),
};
/// The last day of the tree before it.
pub const BEFORE_REFORM: Date = match Date::new(2025, 6, 30) {
    Ok(date) => date,
    Err(_) => panic!("a day of the calendar"),
};

const LIST_2024: &str = include_str!("../data/units-2024.csv");
const LIST_2025: &str = include_str!("../data/units-2025.csv");

/// A level of the tree, highest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Tier {
    /// The ministry.
    Central = 0,
    /// 63 provinces, since the reform 34.
    Province = 1,
    /// Until the reform.
    District = 2,
    /// Where records have their home.
    Commune = 3,
}

impl Tier {
    /// All, highest first.
    pub const ALL: [Tier; 4] = [Tier::Central, Tier::Province, Tier::District, Tier::Commune];

    /// Its word in lists and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Tier::Central => "central",
            Tier::Province => "province",
            Tier::District => "district",
            Tier::Commune => "commune",
        }
    }

    /// The tier of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| tier.name() == name)
    }

    /// The tier whose codes look like `code`. Codes are unique within a tier only, and their lengths tell tiers apart.
    #[must_use]
    pub fn of_code(code: &str) -> Option<Self> {
        if !code.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        match code.len() {
            2 if code == "00" => Some(Tier::Central),
            2 => Some(Tier::Province),
            3 => Some(Tier::District),
            5 => Some(Tier::Commune),
            _ => None,
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An administrative unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its permanent id.
    pub id: UnitId,
    /// Its level.
    pub tier: Tier,
    /// Its code, while it is valid.
    pub code: String,
    /// Its name, with its kind in front ("Phường Phúc Xá").
    pub name: String,
    /// The unit above it; none for the centre.
    pub parent: Option<UnitId>,
    /// Its first day.
    pub valid_from: Date,
    /// Its last day; none while it lasts.
    pub valid_to: Option<Date>,
}

impl Unit {
    /// Whether it existed on that day.
    #[must_use]
    pub fn is_valid_on(&self, day: Date) -> bool {
        self.valid_from <= day && self.valid_to.is_none_or(|last| day <= last)
    }

    /// A day on which its code means it: its last, or its first while it lasts.
    #[must_use]
    pub fn named_at(&self) -> Date {
        self.valid_to.unwrap_or(self.valid_from)
    }
}

/// Why a list of units is no tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitsError {
    /// A line that is no unit.
    #[error("line {line} of the list of units: {reason}")]
    Line {
        /// From 1, the header.
        line: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// A unit that does not fit the others.
    #[error("unit {code} ({tier}): {reason}")]
    Unit {
        /// Its code.
        code: String,
        /// Its tier.
        tier: Tier,
        /// What is wrong.
        reason: &'static str,
    },
}

/// The four-tier tree before the reform: every unit that existed on [`BEFORE_REFORM`].
///
/// # Errors
/// A damaged list.
pub fn load_2024() -> Result<Vec<Unit>, UnitsError> {
    load(LIST_2024, "2024", Date::MIN, Some(BEFORE_REFORM))
}

/// The three-tier tree since the reform. Its centre is that of [`load_2024`]: the ministry went on.
///
/// # Errors
/// A damaged list.
pub fn load_2025() -> Result<Vec<Unit>, UnitsError> {
    load(LIST_2025, "2025", REFORM, None)
}

fn load(list: &str, edition: &str, valid_from: Date, valid_to: Option<Date>) -> Result<Vec<Unit>, UnitsError> {
    // The centre outlives every edition of the list, so its id depends on none.
    let id = |tier: Tier, code: &str| match tier {
        Tier::Central => derive_id(tier, code, Date::MIN, "2024"),
        _ => derive_id(tier, code, valid_from, edition),
    };
    let mut units = Vec::new();
    for (index, row) in list.lines().enumerate().skip(1) {
        let fail = |reason| UnitsError::Line { line: index + 1, reason };
        let columns: Vec<&str> = row.split(',').collect();
        let [tier, code, parent, name, _lat, _lon] = columns[..] else {
            return Err(fail("must have six columns: tier, code, parent, name, lat, lon"));
        };
        let tier = Tier::named(tier).ok_or(fail("has an unknown tier"))?;
        if Tier::of_code(code) != Some(tier) {
            return Err(fail("has a code of another tier"));
        }
        let parent = match (tier, Tier::of_code(parent)) {
            (Tier::Central, _) => None,
            (_, Some(above)) => Some(id(above, parent)),
            (_, None) => return Err(fail("has no parent")),
        };
        let (valid_from, valid_to) = if tier == Tier::Central { (Date::MIN, None) } else { (valid_from, valid_to) };
        let (code, name) = (code.to_owned(), name.to_owned());
        units.push(Unit { id: id(tier, &code), tier, code, name, parent, valid_from, valid_to });
    }
    Ok(units)
}

fn derive_id(tier: Tier, code: &str, valid_from: Date, edition: &str) -> UnitId {
    let mut hasher = blake3::Hasher::new_derive_key("dinhba 2026 unit id");
    // Separators, since the parts have no fixed lengths.
    hasher.update(format!("{tier}/{code}/{valid_from}/{edition}").as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    UnitId(u64::from_be_bytes(first))
}

/// A unit as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named<'a> {
    /// Its official code: two digits for a province and the centre, three for a district, five for a commune.
    pub code: &'a str,
    /// A day on which that code means this unit; always the same one for a unit.
    pub at: Date,
    /// Its name, with its kind in front ("Phường Phúc Xá").
    pub name: &'a str,
}

/// From codes to units and back.
pub trait Resolve {
    /// The unit that `code` meant on the day `at`.
    fn unit(&self, code: &str, at: Date) -> Option<UnitId>;
    /// How `unit` is written.
    fn named(&self, unit: UnitId) -> Option<Named<'_>>;
}

/// Knows no unit: for places where values hold ids only.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoUnits;

impl Resolve for NoUnits {
    fn unit(&self, _code: &str, _at: Date) -> Option<UnitId> {
        None
    }
    fn named(&self, _unit: UnitId) -> Option<Named<'_>> {
        None
    }
}

/// All units that are known, of all times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    by_id: BTreeMap<UnitId, Unit>,
    /// Under (tier, code, first day): the last at or before a day is the one, if it still lasted.
    by_code: BTreeMap<(Tier, String, Date), UnitId>,
    children: BTreeMap<UnitId, Vec<UnitId>>,
}

impl Directory {
    /// The units of Vietnam before and since the reform.
    ///
    /// # Errors
    /// A damaged list.
    pub fn vietnam() -> Result<Self, UnitsError> {
        let (before, since) = (load_2024()?, load_2025()?);
        Self::new(before.into_iter().chain(since.into_iter().filter(|unit| unit.tier != Tier::Central)))
    }

    /// A directory of `units`, in any order.
    ///
    /// # Errors
    /// A unit twice, two under one code on one day, or a unit whose parent is missing, lower, or never there with it.
    pub fn new(units: impl IntoIterator<Item = Unit>) -> Result<Self, UnitsError> {
        let mut directory = Directory::default();
        for unit in units {
            let place = (unit.tier, unit.code.clone(), unit.valid_from);
            if let Some(before) =
                directory.by_code.insert(place, unit.id).or(directory.by_id.get(&unit.id).map(|u| u.id))
            {
                let reason = if before == unit.id { "is there twice" } else { "shares its code and first day" };
                return Err(refuse(&unit, reason));
            }
            directory.by_id.insert(unit.id, unit);
        }
        directory.check_codes()?;
        for unit in directory.by_id.values() {
            let Some(above) = unit.parent else { continue };
            let above =
                directory.by_id.get(&above).ok_or_else(|| refuse(unit, "has a parent that is not in the list"))?;
            // Parents are of a higher tier, so there is no cycle and every walk up or down ends.
            if above.tier >= unit.tier {
                return Err(refuse(unit, "has a parent that is not above it"));
            }
            if !above.is_valid_on(unit.named_at()) {
                return Err(refuse(unit, "has a parent of another time"));
            }
            directory.children.entry(above.id).or_default().push(unit.id);
        }
        let by_id = &directory.by_id;
        for children in directory.children.values_mut() {
            children.sort_by_key(|child| by_id.get(child).map(|unit| (unit.valid_from, unit.tier, unit.code.clone())));
        }
        Ok(directory)
    }

    fn check_codes(&self) -> Result<(), UnitsError> {
        let in_order: Vec<&Unit> = self.by_code.values().filter_map(|&id| self.get(id)).collect();
        for pair in in_order.windows(2) {
            let (earlier, later) = (pair[0], pair[1]);
            let same_code = (earlier.tier, &earlier.code) == (later.tier, &later.code);
            if same_code && earlier.is_valid_on(later.valid_from) {
                return Err(refuse(later, "begins before the unit that had its code ended"));
            }
        }
        Ok(())
    }

    /// The unit of that id.
    #[must_use]
    pub fn get(&self, id: UnitId) -> Option<&Unit> {
        self.by_id.get(&id)
    }

    /// Every unit, in order of the ids.
    pub fn iter(&self) -> impl Iterator<Item = &Unit> {
        self.by_id.values()
    }

    /// The unit that `code` meant on `day`.
    #[must_use]
    pub fn by_code(&self, code: &str, day: Date) -> Option<&Unit> {
        let tier = Tier::of_code(code)?;
        let first = (tier, code.to_owned(), Date::MIN);
        let last = (tier, code.to_owned(), day);
        let (_, &id) = self.by_code.range(first..=last).next_back()?;
        self.get(id).filter(|unit| unit.is_valid_on(day))
    }

    /// The units right below `id`, of all times.
    pub fn children(&self, id: UnitId) -> impl Iterator<Item = &Unit> {
        self.children.get(&id).into_iter().flatten().filter_map(|child| self.get(*child))
    }

    /// The units above `id`, nearest first; without `id` itself.
    pub fn ancestors(&self, id: UnitId) -> impl Iterator<Item = &Unit> {
        let above = |unit: &Unit| unit.parent.and_then(|parent| self.get(parent));
        std::iter::successors(self.get(id).and_then(above), move |unit| above(unit))
    }

    /// The units from the centre down to `id`, inclusive; of one that is not known, it alone.
    #[must_use]
    pub fn path(&self, id: UnitId) -> Vec<UnitId> {
        let mut path: Vec<UnitId> = self.ancestors(id).map(|above| above.id).collect();
        path.reverse();
        path.push(id);
        path
    }

    /// Whether `id` is `above` or lies in it.
    #[must_use]
    pub fn is_within(&self, id: UnitId, above: UnitId) -> bool {
        id == above || self.ancestors(id).any(|unit| unit.id == above)
    }

    /// The units of `tier` in `id` on `day`, `id` itself included if it is of that tier; in order of their codes.
    #[must_use]
    pub fn descendants(&self, id: UnitId, tier: Tier, day: Date) -> Vec<&Unit> {
        let mut found = Vec::new();
        let mut open: Vec<UnitId> = vec![id];
        while let Some(unit) = open.pop().and_then(|id| self.get(id)) {
            if !unit.is_valid_on(day) {
                continue;
            }
            if unit.tier == tier {
                found.push(unit);
            } else if unit.tier < tier {
                open.extend(self.children.get(&unit.id).into_iter().flatten());
            }
        }
        found.sort_by(|a, b| a.code.cmp(&b.code));
        found
    }

    /// Its name and those of the units above it up to the province: "Phường Phúc Xá, Quận Ba Đình, Thành phố Hà Nội".
    #[must_use]
    pub fn path_name(&self, id: UnitId) -> Option<String> {
        let unit = self.get(id)?;
        let above = self.ancestors(id).filter(|unit| unit.tier != Tier::Central);
        let names: Vec<&str> = std::iter::once(unit).chain(above).map(|unit| unit.name.as_str()).collect();
        Some(names.join(", "))
    }
}

impl Resolve for Directory {
    fn unit(&self, code: &str, at: Date) -> Option<UnitId> {
        self.by_code(code, at).map(|unit| unit.id)
    }
    fn named(&self, unit: UnitId) -> Option<Named<'_>> {
        self.get(unit).map(|unit| Named { code: &unit.code, at: unit.named_at(), name: &unit.name })
    }
}

fn refuse(unit: &Unit, reason: &'static str) -> UnitsError {
    UnitsError::Unit { code: unit.code.clone(), tier: unit.tier, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{display, field, parse};
    use crate::text;

    fn day(text: &str) -> Date {
        text.parse().expect(text)
    }

    #[test]
    fn the_lists_are_whole() {
        let count = |units: &[Unit], tier| units.iter().filter(|unit| unit.tier == tier).count();
        let before = load_2024().unwrap();
        assert_eq!(Tier::ALL.map(|tier| count(&before, tier)), [1, 63, 696, 10_035]);
        let since = load_2025().unwrap();
        assert_eq!(Tier::ALL.map(|tier| count(&since, tier)), [1, 34, 0, 3_321]);
        let directory = Directory::vietnam().unwrap();
        assert_eq!(directory.iter().count(), before.len() + since.len() - 1);
        for unit in directory.iter() {
            assert_eq!(text::check(&unit.name, 100), Ok(()), "{}", unit.code);
            assert_eq!(directory.by_code(&unit.code, unit.named_at()), Some(unit));
            let top = directory.ancestors(unit.id).last().unwrap_or(unit);
            assert_eq!(top.tier, Tier::Central, "{}", unit.code);
        }
    }

    #[test]
    fn a_code_means_one_unit_before_the_reform_and_another_since() {
        let directory = Directory::vietnam().unwrap();
        let before = directory.by_code("00004", BEFORE_REFORM).unwrap();
        let since = directory.by_code("00004", REFORM).unwrap();
        assert_ne!(before.id, since.id);
        assert_eq!(directory.path_name(before.id).unwrap(), "Phường Trúc Bạch, Quận Ba Đình, Thành phố Hà Nội");
        assert_eq!(directory.path_name(since.id).unwrap(), "Phường Ba Đình, Thành phố Hà Nội");
        assert_eq!(directory.by_code("00004", day("1975-01-01")), Some(before));
        assert_eq!(directory.by_code("00001", REFORM), None, "the code was not given again");
        assert_eq!(directory.by_code("001", REFORM), None, "districts are gone");
        assert_eq!(directory.by_code("00", BEFORE_REFORM), directory.by_code("00", REFORM), "the centre went on");
        for code in ["", "0", "0001", "ABCDE", "000010"] {
            assert_eq!(directory.by_code(code, REFORM), None);
        }
    }

    #[test]
    fn ids_are_permanent() {
        let directory = Directory::vietnam().unwrap();
        let id = |code, day| directory.by_code(code, day).unwrap().id.to_string();
        let known = [id("00", REFORM), id("01", BEFORE_REFORM), id("00001", BEFORE_REFORM), id("00004", REFORM)];
        assert_eq!(known, ["u-783647f1f24d0fef", "u-547b2d12877c11f0", "u-fdf59cf64cd434d4", "u-6a9f4e8711b52a25"]);
    }

    #[test]
    fn the_tree_is_walked_at_a_day() {
        let directory = Directory::vietnam().unwrap();
        let centre = directory.by_code("00", REFORM).unwrap().id;
        let count = |tier, day| directory.descendants(centre, tier, day).len();
        assert_eq!(Tier::ALL.map(|tier| count(tier, BEFORE_REFORM)), [1, 63, 696, 10_035]);
        assert_eq!(Tier::ALL.map(|tier| count(tier, REFORM)), [1, 34, 0, 3_321]);
        let hanoi = directory.by_code("01", BEFORE_REFORM).unwrap().id;
        let communes = directory.descendants(hanoi, Tier::Commune, BEFORE_REFORM);
        assert!(communes.windows(2).all(|pair| pair[0].code < pair[1].code));
        assert!(communes.iter().all(|commune| directory.is_within(commune.id, hanoi)));
        assert!(directory.descendants(hanoi, Tier::Commune, REFORM).is_empty());
        assert!(!directory.is_within(hanoi, communes[0].id) && directory.is_within(hanoi, centre));
        assert_eq!(directory.path_name(UnitId(1)), None);
    }

    #[test]
    fn an_old_document_keeps_its_meaning() {
        let directory = Directory::vietnam().unwrap();
        let written = parse(field::ORIGIN, "unit=00004@1999-05-01; line=số 5", &directory).unwrap();
        assert_eq!(display(field::ORIGIN, &written.encode(), &directory), "unit=00004@2025-06-30; line=số 5");
        let again = parse(field::ORIGIN, "00004@2025-06-30;line=số 5", &directory);
        assert_eq!(again, Ok(written.clone()));
        assert_ne!(parse(field::ORIGIN, "00004@2025-07-01;line=số 5", &directory), Ok(written));
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        let unit = |id, tier, code: &str, parent: Option<u64>, from: &str, to: Option<&str>| Unit {
            id: UnitId(id),
            tier,
            code: code.to_owned(),
            name: "x".to_owned(),
            parent: parent.map(UnitId),
            valid_from: day(from),
            valid_to: to.map(day),
        };
        let centre = || unit(1, Tier::Central, "00", None, "1900-01-01", None);
        let province = |id, parent, from, to| unit(id, Tier::Province, "01", Some(parent), from, to);
        let reason = |units: Vec<Unit>| match Directory::new(units) {
            Err(UnitsError::Unit { reason, .. }) => reason,
            _ => "",
        };
        assert_eq!(reason(vec![province(2, 1, "2000-01-01", Some("2001-01-01")), centre()]), "");
        assert_eq!(reason(vec![centre(), centre()]), "is there twice");
        let again = unit(1, Tier::Province, "02", None, "1900-01-01", None);
        assert_eq!(reason(vec![centre(), again]), "is there twice");
        let (a, b) = (province(2, 1, "2000-01-01", Some("2001-01-01")), province(3, 1, "2001-01-01", None));
        assert_eq!(reason(vec![centre(), a.clone(), b]), "begins before the unit that had its code ended");
        assert_eq!(reason(vec![centre(), a.clone(), Unit { id: UnitId(4), ..a }]), "shares its code and first day");
        assert_eq!(reason(vec![centre(), province(2, 9, "2000-01-01", None)]), "has a parent that is not in the list");
        assert_eq!(reason(vec![province(2, 2, "2000-01-01", None)]), "has a parent that is not above it");
        assert_eq!(
            reason(vec![centre(), province(2, 1, "1899-01-01", Some("1899-12-31"))]),
            "has a parent of another time"
        );
        assert!(matches!(load("h\ncommune,001,01,x,0,0", "t", REFORM, None), Err(UnitsError::Line { line: 2, .. })));
        assert!(matches!(load("h\ncommune,00001,01,x", "t", REFORM, None), Err(UnitsError::Line { line: 2, .. })));
    }
}
