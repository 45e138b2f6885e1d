//! Invented holidays of a year.

use dinhba_core::calendar::Calendar;
use dinhba_core::date::Date;

use crate::holidays::Holidays;

/// Holidays of the year that have no fixed day, as they are invented: Tết and the day of the Hùng kings, by month and day.
const BY_THE_MOON: [(&str, u8, [u8; 2]); 2] = [("tet", 2, [3, 7]), ("hung_kings", 4, [12, 12])];
const FIXED: [(&str, u8, [u8; 2]); 4] =
    [("new_year", 1, [1, 1]), ("victory", 4, [30, 30]), ("labour", 5, [1, 1]), ("national_day", 9, [2, 3])];

/// A whole list of holidays of a year, as no state set it: Tết is on the same days of each year. For each that falls on a weekend one of the
/// working days after Tết is off.
///
/// # Panics
/// Of a year that no record may name.
#[must_use]
pub fn holidays(year: u16) -> Holidays {
    let day = |month, day| Date::new(year, month, day).expect("a year that records may name");
    let mut off = Vec::new();
    for (name, month, [first, last]) in FIXED.into_iter().chain(BY_THE_MOON) {
        off.extend((first..=last).map(|of| (day(month, of), name.to_owned())));
    }
    // Nothing was said of any year yet, so that only weekends and fixed days are off.
    let bare = Calendar::default();
    let is_weekend = |day: &Date| {
        let (before, after) = (Date::from_days(day.days() - 7), Date::from_days(day.days() + 7));
        !(bare.is_working(before) || bare.is_working(after))
    };
    let at_weekend = off.iter().filter(|(day, _)| is_weekend(day)).count();
    let working = (8..=28).map(|of| day(2, of)).filter(|day| bare.is_working(*day));
    off.extend(working.take(at_weekend).map(|day| (day, "compensation".to_owned())));
    Holidays { year, off, worked: Vec::new() }
}

#[cfg(test)]
mod tests {
    use dinhba_core::calendar::Year;

    use super::*;

    #[test]
    fn invented_holidays_have_no_hole() {
        for year in 1990..2100 {
            let Holidays { off, worked, .. } = holidays(year);
            let off: Vec<(Date, &str)> = off.iter().map(|(day, name)| (*day, name.as_str())).collect();
            assert_eq!(Year::new(year, &off, &worked).err(), None, "{year}");
        }
    }
}
