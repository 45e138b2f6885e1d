//! Days and instants, without a clock: what a date in a record may be, and how an instant reads.
//!
//! [`Date`] is a day of the Gregorian calendar, [`PartialDate`] one whose month or day nobody knows (common for the old),
//! [`InstantMs`] a point in time. All have canonical bytes whose order is the order of the values.
//! Limits: records know the years 1800 to 2199; leap seconds do not exist.

use std::fmt;
use std::str::FromStr;

/// The first year a record may name: before it, no living person and no document of this register.
pub const YEAR_MIN: u16 = 1800;
/// The last year: beyond it a date is a typing error, not a fact or a plan.
pub const YEAR_MAX: u16 = 2199;

const MS_PER_DAY: i64 = 86_400_000;
/// Civil time in Vietnam is UTC+07:00 all year.
const VIETNAM_MS: i64 = 7 * 3_600_000;

/// Why a date or an instant is refused. Messages never hold the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DateError {
    /// Not of the form.
    #[error("is not a date: write 1975-03-02 or 02/03/1975, 1975-03 or 03/1975, or 1975")]
    Form,
    /// Of the form, but no day of the calendar.
    #[error(
        "is not a day of the calendar: the day stands before the month, as in 31/12/1975, or last, as in 1975-12-31"
    )]
    NoSuchDay,
    /// A year that no record names.
    #[error("has a year outside {YEAR_MIN} to {YEAR_MAX}")]
    Year,
    /// An instant not of the form of RFC 3339.
    #[error("is not an instant: write 2025-07-01T08:30:00Z")]
    InstantForm,
}

/// A day of the calendar.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

impl Date {
    /// The first day a record may name.
    pub const MIN: Date = Date { year: YEAR_MIN, month: 1, day: 1 };
    /// The last day a record may name.
    pub const MAX: Date = Date { year: YEAR_MAX, month: 12, day: 31 };

    /// The day `day` of `month` of `year`.
    ///
    /// # Errors
    /// A year out of bounds, or no such day.
    pub const fn new(year: u16, month: u8, day: u8) -> Result<Self, DateError> {
        if year < YEAR_MIN || year > YEAR_MAX {
            return Err(DateError::Year);
        }
        if month == 0 || month > 12 || day == 0 || day > days_in_month(year, month) {
            return Err(DateError::NoSuchDay);
        }
        Ok(Date { year, month, day })
    }

    /// Its year.
    #[must_use]
    pub const fn year(self) -> u16 {
        self.year
    }
    /// Its month, from 1.
    #[must_use]
    pub const fn month(self) -> u8 {
        self.month
    }
    /// Its day, from 1.
    #[must_use]
    pub const fn day(self) -> u8 {
        self.day
    }

    /// Days since 1970-01-01.
    #[must_use]
    pub fn days(self) -> i64 {
        days_from_civil(i64::from(self.year), i64::from(self.month), i64::from(self.day))
    }

    /// The day `days` days after 1970-01-01; the nearest bound, if that lies outside.
    #[must_use]
    pub fn from_days(days: i64) -> Self {
        if days <= Self::MIN.days() {
            return Self::MIN;
        }
        if days >= Self::MAX.days() {
            return Self::MAX;
        }
        let (year, month, day) = civil_from_days(days);
        // The bounds just checked make every part fit.
        Date { year: year as u16, month: month as u8, day: day as u8 }
    }

    /// Whole years from this day to `later`, as a birthday counts; 0 if `later` is earlier.
    #[must_use]
    pub fn years_until(self, later: Date) -> u16 {
        let before_birthday = (later.month, later.day) < (self.month, self.day);
        later.year.saturating_sub(self.year).saturating_sub(u16::from(before_birthday))
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl fmt::Debug for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Date {
    type Err = DateError;
    fn from_str(text: &str) -> Result<Self, DateError> {
        text.parse::<PartialDate>()?.exact().ok_or(DateError::Form)
    }
}

/// A date of which the day, or the month and the day, may be unknown.
///
/// Ordered by its earliest day; of two that begin on one day the less exact comes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartialDate {
    year: u16,
    /// 0 where unknown; then `day` is 0 too.
    month: u8,
    /// 0 where unknown.
    day: u8,
}

impl PartialDate {
    /// A date with as many parts as are known. A day needs its month.
    ///
    /// # Errors
    /// A year out of bounds, or no such month or day.
    pub const fn new(year: u16, month: Option<u8>, day: Option<u8>) -> Result<Self, DateError> {
        let (least_month, least_day) = match (month, day) {
            (None, Some(_)) => return Err(DateError::NoSuchDay),
            (None, None) => (1, 1),
            (Some(month), None) => (month, 1),
            (Some(month), Some(day)) => (month, day),
        };
        match Date::new(year, least_month, least_day) {
            Err(error) => Err(error),
            Ok(date) => Ok(PartialDate {
                year,
                month: if month.is_some() { date.month } else { 0 },
                day: if day.is_some() { date.day } else { 0 },
            }),
        }
    }

    /// Its year, which is always known.
    #[must_use]
    pub const fn year(self) -> u16 {
        self.year
    }

    /// The day, if it is known.
    #[must_use]
    pub fn exact(self) -> Option<Date> {
        (self.day > 0).then_some(Date { year: self.year, month: self.month, day: self.day })
    }

    /// The first day it may mean.
    #[must_use]
    pub fn earliest(self) -> Date {
        Date { year: self.year, month: self.month.max(1), day: self.day.max(1) }
    }

    /// The last day it may mean.
    #[must_use]
    pub fn latest(self) -> Date {
        let month = if self.month == 0 { 12 } else { self.month };
        let day = if self.day == 0 { days_in_month(self.year, month) } else { self.day };
        Date { year: self.year, month, day }
    }

    /// Whether some day it may mean lies before some day `other` may mean.
    #[must_use]
    pub fn could_precede(self, other: PartialDate) -> bool {
        self.earliest() < other.latest()
    }

    /// Whether every day it may mean lies before every day `other` may mean.
    #[must_use]
    pub fn surely_precedes(self, other: PartialDate) -> bool {
        self.latest() < other.earliest()
    }

    /// Canonical bytes: two of the year, then one each for the month and the day, where known.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        let mut out = self.year.to_be_bytes().to_vec();
        out.extend([self.month, self.day].iter().take_while(|&&part| part > 0));
        out
    }

    /// Reads [`to_bytes`](Self::to_bytes).
    ///
    /// # Errors
    /// Any other bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DateError> {
        match *bytes {
            [y0, y1] => Self::new(u16::from_be_bytes([y0, y1]), None, None),
            [y0, y1, month] => Self::new(u16::from_be_bytes([y0, y1]), Some(month), None),
            [y0, y1, month, day] => Self::new(u16::from_be_bytes([y0, y1]), Some(month), Some(day)),
            _ => Err(DateError::Form),
        }
    }
}

impl From<Date> for PartialDate {
    fn from(date: Date) -> Self {
        PartialDate { year: date.year, month: date.month, day: date.day }
    }
}

impl fmt::Display for PartialDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}", self.year)?;
        [self.month, self.day].iter().take_while(|&&part| part > 0).try_for_each(|part| write!(f, "-{part:02}"))
    }
}

impl fmt::Debug for PartialDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PartialDate {
    type Err = DateError;
    /// Reads what people type: the year first (`1975-03-02`, `1975-03`, `1975`) or last, as on Vietnamese papers
    /// (`02/03/1975`, `2.3.1975`, `03/1975`): then the day stands before the month, never after it. Between the parts is one
    /// of `-`, `/` and `.`, the same everywhere.
    fn from_str(text: &str) -> Result<Self, DateError> {
        let separator = text.chars().find(|c| matches!(c, '-' | '/' | '.')).unwrap_or('-');
        let mut parts: Vec<&str> = text.split(separator).map(str::trim).collect();
        if parts.first().is_some_and(|part| part.len() < 4) {
            parts.reverse();
        }
        let (year, month, day) = match parts[..] {
            [year] => (year, None, None),
            [year, month] => (year, Some(month), None),
            [year, month, day] => (year, Some(month), Some(day)),
            _ => return Err(DateError::Form),
        };
        let part = |part: Option<&str>| part.map(|part| number(part, 1..=2)).transpose();
        Self::new(number(year, 4..=4)?, part(month)?, part(day)?)
    }
}

/// Digits and nothing else: the parsers of `std` would take a sign too.
fn number<T: FromStr>(text: &str, digits: std::ops::RangeInclusive<usize>) -> Result<T, DateError> {
    if !digits.contains(&text.len()) || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(DateError::Form);
    }
    text.parse().map_err(|_| DateError::Form)
}

/// A point in time: milliseconds since 1970-01-01T00:00:00Z. Reads and prints as RFC 3339.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct InstantMs(pub i64);

impl InstantMs {
    /// The day it is in Vietnam (UTC+07:00); the nearest bound of [`Date`], if that lies outside.
    #[must_use]
    pub fn date_in_vietnam(self) -> Date {
        Date::from_days(self.0.saturating_add(VIETNAM_MS).div_euclid(MS_PER_DAY))
    }

    /// The first instant of `date` in Vietnam.
    #[must_use]
    pub fn start_of(date: Date) -> Self {
        InstantMs(date.days() * MS_PER_DAY - VIETNAM_MS)
    }

    /// Canonical bytes, whose order is that of time.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 8] {
        (self.0 ^ i64::MIN).to_be_bytes()
    }

    /// Reads [`to_bytes`](Self::to_bytes).
    #[must_use]
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        InstantMs(i64::from_be_bytes(bytes) ^ i64::MIN)
    }
}

impl fmt::Display for InstantMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, ms) = (self.0.div_euclid(MS_PER_DAY), self.0.rem_euclid(MS_PER_DAY));
        let (year, month, day) = civil_from_days(days);
        // RFC 3339 ends at four digits; beyond them the sign of ISO 8601 says that the year is unusual.
        match year {
            0..=9999 => write!(f, "{year:04}")?,
            _ => write!(f, "{year:+07}")?,
        }
        let (seconds, ms) = (ms / 1000, ms % 1000);
        write!(f, "-{month:02}-{day:02}T{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)?;
        if ms > 0 {
            write!(f, ".{ms:03}")?;
        }
        f.write_str("Z")
    }
}

impl fmt::Debug for InstantMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for InstantMs {
    type Err = DateError;
    /// Reads RFC 3339 with any offset, years 0000 to 9999; digits beyond milliseconds are dropped.
    fn from_str(text: &str) -> Result<Self, DateError> {
        let form = DateError::InstantForm;
        let two = |text: Option<&str>, max: i64| -> Result<i64, DateError> {
            let n = number::<i64>(text.ok_or(form)?, 2..=2).map_err(|_| form)?;
            if n <= max { Ok(n) } else { Err(form) }
        };
        let (date, rest) = text.split_once('T').ok_or(form)?;
        let mut parts = date.split('-');
        let year: i64 = number(parts.next().ok_or(form)?, 4..=4).map_err(|_| form)?;
        let (month, day) = (two(parts.next(), 12)?, two(parts.next(), 31)?);
        let days = days_from_civil(year, month.max(1), day);
        if parts.next().is_some() || civil_from_days(days) != (year, month, day) {
            return Err(DateError::NoSuchDay);
        }

        let (time, offset_minutes) = if let Some(time) = rest.strip_suffix('Z') {
            (time, 0)
        } else {
            let at = rest.rfind(['+', '-']).ok_or(form)?;
            let (hours, minutes) = rest[at + 1..].split_once(':').ok_or(form)?;
            let minutes = two(Some(hours), 23)? * 60 + two(Some(minutes), 59)?;
            (&rest[..at], if rest[at..].starts_with('-') { -minutes } else { minutes })
        };
        let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
        let mut parts = clock.split(':');
        let (hour, minute, second) = (two(parts.next(), 23)?, two(parts.next(), 59)?, two(parts.next(), 59)?);
        let fraction: i64 = {
            number::<i64>(fraction, 1..=9).map_err(|_| form)?;
            format!("{fraction:0<3}")[..3].parse().map_err(|_| form)?
        };
        if parts.next().is_some() {
            return Err(form);
        }
        let seconds = hour * 3600 + minute * 60 + second - offset_minutes * 60;
        Ok(InstantMs(days * MS_PER_DAY + seconds * 1000 + fraction))
    }
}

const fn days_in_month(year: u16, month: u8) -> u8 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a day of the Gregorian calendar (Hinnant, "chrono-compatible low-level date algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn partial(text: &str) -> PartialDate {
        text.parse().expect(text)
    }

    #[test]
    fn dates_read_and_print() {
        for text in ["1975", "1975-03", "1975-03-02", "1800-01-01", "2199-12-31", "2000-02-29"] {
            assert_eq!(partial(text).to_string(), text);
        }
        for (typed, read) in [
            ("02/03/1975", "1975-03-02"),
            ("2/3/1975", "1975-03-02"),
            ("02-03-1975", "1975-03-02"),
            ("02.03.1975", "1975-03-02"),
            ("2. 3. 1975", "1975-03-02"),
            ("1975/03/02", "1975-03-02"),
            ("1975-3-2", "1975-03-02"),
            ("31/12/1975", "1975-12-31"),
            ("03/1975", "1975-03"),
            ("3-1975", "1975-03"),
            ("1975/3", "1975-03"),
        ] {
            assert_eq!(partial(typed).to_string(), read, "{typed}");
        }
        for text in [
            "",
            "75",
            "1975-03-02-01",
            "+975",
            "1975-03-",
            "１９７５",
            "02/03/75",
            "02/03-1975",
            "/1975",
            "1/2/3/1975",
            "1988-1992",
            "03/02/01975",
            "012/03/1975",
            "tháng 3",
        ] {
            assert_eq!(text.parse::<PartialDate>(), Err(DateError::Form), "{text}");
        }
        for text in
            ["1975-13", "1975-00", "1975-02-29", "1900-02-29", "1975-04-31", "1975-04-00", "12/31/1975", "31/02/1975"]
        {
            assert_eq!(text.parse::<PartialDate>(), Err(DateError::NoSuchDay), "{text}");
        }
        assert_eq!("1799".parse::<PartialDate>(), Err(DateError::Year));
        assert_eq!("2200-01".parse::<PartialDate>(), Err(DateError::Year));
        assert_eq!("1975-03".parse::<Date>(), Err(DateError::Form));
        assert_eq!("31/12/1975".parse::<Date>().map(|date| date.to_string()), Ok("1975-12-31".to_owned()));
    }

    #[test]
    fn an_unknown_day_compares_by_what_it_may_be() {
        assert!(partial("1975") < partial("1975-01"));
        assert!(partial("1975-01") < partial("1975-01-01"));
        assert!(partial("1975-01-31") < partial("1975-02"));
        assert!(partial("1975").could_precede(partial("1975-01-02")));
        assert!(!partial("1975").could_precede(partial("1975-01-01")));
        assert!(partial("1975-06-01").could_precede(partial("1975")));
        assert!(partial("1974-12").surely_precedes(partial("1975")));
        assert!(!partial("1975-06").surely_precedes(partial("1975")));
        assert_eq!(partial("2024-02").latest().to_string(), "2024-02-29");
    }

    #[test]
    fn an_age_counts_birthdays() {
        let born: Date = "2000-02-29".parse().unwrap();
        assert_eq!(born.years_until("2018-02-28".parse().unwrap()), 17);
        assert_eq!(born.years_until("2018-03-01".parse().unwrap()), 18);
        assert_eq!(born.years_until("1990-01-01".parse().unwrap()), 0);
    }

    #[test]
    fn instants_read_as_rfc_3339() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (1_751_302_800_000, "2025-06-30T17:00:00Z"),
            (951_782_400_050, "2000-02-29T00:00:00.050Z"),
        ] {
            assert_eq!(InstantMs(ms).to_string(), text);
            assert_eq!(text.parse(), Ok(InstantMs(ms)));
        }
        assert_eq!("2025-07-01T00:00:00+07:00".parse(), Ok(InstantMs(1_751_302_800_000)));
        assert_eq!("2025-07-01T00:00:00.1239-01:30".parse(), Ok(InstantMs(1_751_333_400_123)));
        for text in ["2025-07-01", "2025-07-01T00:00Z", "2025-07-01T24:00:00Z", "2025-07-01T00:00:00", "Tđ+é"] {
            assert!(text.parse::<InstantMs>().is_err(), "{text}");
        }
        assert_eq!("2025-02-29T00:00:00Z".parse::<InstantMs>(), Err(DateError::NoSuchDay));
        assert_eq!("2025-00-10T00:00:00Z".parse::<InstantMs>(), Err(DateError::NoSuchDay));
        assert!(InstantMs(i64::MAX).to_string().starts_with("+292278994-"));
        assert!(InstantMs(i64::MIN).to_string().starts_with("-292275055-"));
    }

    #[test]
    fn the_reform_began_at_midnight_in_hanoi() {
        let reform: Date = "2025-07-01".parse().unwrap();
        let midnight: InstantMs = "2025-06-30T17:00:00Z".parse().unwrap();
        assert_eq!(InstantMs::start_of(reform), midnight);
        assert_eq!(midnight.date_in_vietnam(), reform);
        assert_eq!(InstantMs(midnight.0 - 1).date_in_vietnam().to_string(), "2025-06-30");
        assert_eq!(InstantMs(i64::MAX).date_in_vietnam(), Date::MAX);
        assert_eq!(InstantMs(i64::MIN).date_in_vietnam(), Date::MIN);
    }

    prop_compose! {
        fn any_partial()(days in Date::MIN.days()..=Date::MAX.days(), parts in 1..=3) -> PartialDate {
            let date = Date::from_days(days);
            PartialDate::new(date.year(), (parts > 1).then_some(date.month()), (parts > 2).then_some(date.day())).unwrap()
        }
    }

    proptest! {
        #[test]
        fn days_count_through_the_calendar(days in Date::MIN.days()..Date::MAX.days()) {
            prop_assert_eq!(Date::from_days(days).days(), days);
            prop_assert!(Date::from_days(days) < Date::from_days(days + 1));
        }

        #[test]
        fn bytes_and_text_of_dates_come_back_and_keep_order(a in any_partial(), b in any_partial()) {
            prop_assert_eq!(PartialDate::from_bytes(&a.to_bytes()), Ok(a));
            prop_assert_eq!(a.to_string().parse(), Ok(a));
            prop_assert_eq!(a.to_bytes().cmp(&b.to_bytes()), a.cmp(&b));
            prop_assert!(a.earliest() <= a.latest());
            prop_assert!(a.earliest() < b.earliest() || a >= b || a.earliest() == b.earliest());
        }

        #[test]
        fn accepted_bytes_are_canonical(bytes in prop::collection::vec(any::<u8>(), 0..6)) {
            if let Ok(date) = PartialDate::from_bytes(&bytes) {
                prop_assert_eq!(date.to_bytes(), bytes);
            }
        }

        #[test]
        fn instants_come_back(ms in any::<i64>(), near in -62_167_219_200_000_i64..253_402_300_800_000) {
            prop_assert_eq!(InstantMs::from_bytes(InstantMs(ms).to_bytes()), InstantMs(ms));
            prop_assert_eq!(InstantMs(near).to_string().parse(), Ok(InstantMs(near)));
            prop_assert_eq!(InstantMs(ms).to_bytes().cmp(&InstantMs(near).to_bytes()), ms.cmp(&near));
        }
    }
}
