//! The personal number of the Law on Identification: what its twelve digits say.
//!
//! Three digits of the place of birth registration, one of century and sex, two of the birth year, six of a serial. There
//! is no check digit. A number can be cancelled and issued anew, so it is an attribute of a record and never its key. The place
//! digits are history: they do not change when provinces merge. All numbers that differ in their serial alone are a [`Series`];
//! who may give which of them is in `blocks`.

use std::fmt;
use std::str::FromStr;

use crate::encoding::{Malformed, Reader, Wire};

/// The first serial that does not fit into six digits.
pub const SERIAL_END: u32 = 1_000_000;
const NUMBER_END: u64 = 1_000_000_000_000;
const FIRST_CENTURY: u16 = 1900;

/// Sex as the number carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sex {
    /// Even century-and-sex digit.
    Male,
    /// Odd century-and-sex digit.
    Female,
}

impl Sex {
    /// Both.
    pub const ALL: [Sex; 2] = [Sex::Male, Sex::Female];

    /// That of a code of the field; none of another one.
    #[must_use]
    pub fn of_code(name: &str) -> Option<Self> {
        match name {
            "male" => Some(Sex::Male),
            "female" => Some(Sex::Female),
            _ => None,
        }
    }
}

/// Why a text is no personal number. Messages never hold the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// Not twelve characters.
    #[error("must have 12 digits, not {got}")]
    Length {
        /// How many characters there were.
        got: usize,
    },
    /// A character that is no digit.
    #[error("must be digits only: character {position} is none")]
    NotADigit {
        /// Its place, from 1.
        position: usize,
    },
    /// A text that is no series.
    #[error("must have 6 digits: the place (3), century and sex (1), the birth year (2)")]
    Series,
    /// Bytes that no number has.
    #[error("is not the encoding of a personal number")]
    Bytes,
    /// A place, year or serial out of its range.
    #[error("cannot be built: place 0 to 999, birth year 1900 to 2399, serial 0 to 999999")]
    Range,
}

/// Twelve digits. `Debug` hides them: it is personal data.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersonNumber(u64);

/// All numbers of one place, sex and birth year: the first six digits of each. Prints as these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Series(u32);

impl Series {
    /// That of persons of a sex and birth year whose birth is registered at `place`.
    ///
    /// # Errors
    /// [`NumberError::Range`].
    pub fn new(place: u16, sex: Sex, birth_year: u16) -> Result<Self, NumberError> {
        PersonNumber::new(place, sex, birth_year, 0).map(PersonNumber::series)
    }

    /// Its number with a serial.
    ///
    /// # Errors
    /// [`NumberError::Range`].
    pub fn number(self, serial: u32) -> Result<PersonNumber, NumberError> {
        if serial >= SERIAL_END {
            return Err(NumberError::Range);
        }
        Ok(PersonNumber(u64::from(self.0) * u64::from(SERIAL_END) + u64::from(serial)))
    }

    /// The place of birth registration.
    #[must_use]
    pub fn place(self) -> u16 {
        (self.0 / 1000) as u16
    }

    /// The sex.
    #[must_use]
    pub fn sex(self) -> Sex {
        if (self.0 / 100 % 10).is_multiple_of(2) { Sex::Male } else { Sex::Female }
    }

    /// The birth year.
    #[must_use]
    pub fn birth_year(self) -> u16 {
        FIRST_CENTURY + (self.0 / 100 % 10 / 2 * 100 + self.0 % 100) as u16
    }

    /// In a key, in order.
    #[must_use]
    pub fn key_bytes(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }

    /// Reads [`key_bytes`](Self::key_bytes).
    ///
    /// # Errors
    /// [`NumberError::Bytes`].
    pub fn from_key_bytes(bytes: [u8; 4]) -> Result<Self, NumberError> {
        let digits = u32::from_be_bytes(bytes);
        if digits < SERIAL_END { Ok(Series(digits)) } else { Err(NumberError::Bytes) }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06}", self.0)
    }
}

impl FromStr for Series {
    type Err = NumberError;
    fn from_str(text: &str) -> Result<Self, NumberError> {
        let digits: u32 = Some(text)
            .filter(|text| text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse().ok())
            .ok_or(NumberError::Series)?;
        Ok(Series(digits))
    }
}

impl Wire for Series {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let digits = u32::decode(input)?;
        if digits < SERIAL_END { Ok(Series(digits)) } else { Err(Malformed { what: "series of numbers" }) }
    }
}

impl PersonNumber {
    /// The series that it is of.
    #[must_use]
    pub fn series(self) -> Series {
        Series((self.0 / u64::from(SERIAL_END)) as u32)
    }

    /// The number of the `serial`-th person of that sex and birth year registered at `place`.
    ///
    /// # Errors
    /// [`NumberError::Range`].
    pub fn new(place: u16, sex: Sex, birth_year: u16, serial: u32) -> Result<Self, NumberError> {
        let centuries = birth_year.checked_sub(FIRST_CENTURY).ok_or(NumberError::Range)? / 100;
        if place > 999 || centuries > 4 || serial >= SERIAL_END {
            return Err(NumberError::Range);
        }
        let century_sex = u64::from(centuries) * 2 + u64::from(sex == Sex::Female);
        let digits = u64::from(place) * 1000 + century_sex * 100 + u64::from(birth_year % 100);
        Ok(PersonNumber(digits * u64::from(SERIAL_END) + u64::from(serial)))
    }

    /// The place of birth registration: a province code of its time, or a country code.
    #[must_use]
    pub fn place(self) -> u16 {
        (self.0 / 1_000_000_000) as u16
    }

    /// The sex it implies.
    #[must_use]
    pub fn sex(self) -> Sex {
        if self.century_sex().is_multiple_of(2) { Sex::Male } else { Sex::Female }
    }

    /// The birth year it implies.
    #[must_use]
    pub fn birth_year(self) -> u16 {
        FIRST_CENTURY + self.century_sex() / 2 * 100 + (self.0 / 1_000_000 % 100) as u16
    }

    /// The last six digits.
    #[must_use]
    pub fn serial(self) -> u32 {
        (self.0 % u64::from(SERIAL_END)) as u32
    }

    fn century_sex(self) -> u16 {
        (self.0 / 100_000_000 % 10) as u16
    }

    /// Canonical bytes, whose order is that of the digits.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 5] {
        let [_, _, _, bytes @ ..] = self.0.to_be_bytes();
        bytes
    }

    /// Reads [`to_bytes`](Self::to_bytes).
    ///
    /// # Errors
    /// [`NumberError::Bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NumberError> {
        let bytes: [u8; 5] = bytes.try_into().map_err(|_| NumberError::Bytes)?;
        let number = bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
        if number < NUMBER_END { Ok(PersonNumber(number)) } else { Err(NumberError::Bytes) }
    }
}

impl Wire for PersonNumber {
    fn encode(&self, out: &mut Vec<u8>) {
        PersonNumber::to_bytes(*self).encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let bytes = <[u8; 5]>::decode(input)?;
        PersonNumber::from_bytes(&bytes).map_err(|_| Malformed { what: "personal number" })
    }
}

impl fmt::Display for PersonNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012}", self.0)
    }
}

impl fmt::Debug for PersonNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PersonNumber(12 digits)")
    }
}

impl FromStr for PersonNumber {
    type Err = NumberError;
    fn from_str(text: &str) -> Result<Self, NumberError> {
        if let Some(at) = text.chars().position(|c| !c.is_ascii_digit()) {
            return Err(NumberError::NotADigit { position: at + 1 });
        }
        if text.len() != 12 {
            return Err(NumberError::Length { got: text.len() });
        }
        text.parse().map(PersonNumber).map_err(|_| NumberError::Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_says_where_when_and_which_sex() {
        let number: PersonNumber = "001075000123".parse().unwrap();
        assert_eq!((number.place(), number.sex(), number.birth_year(), number.serial()), (1, Sex::Male, 1975, 123));
        let number: PersonNumber = "079308654321".parse().unwrap();
        assert_eq!(
            (number.place(), number.sex(), number.birth_year(), number.serial()),
            (79, Sex::Female, 2008, 654_321)
        );
        assert_eq!("000499000000".parse::<PersonNumber>().unwrap().birth_year(), 2199);
        assert_eq!(format!("{number:?}"), "PersonNumber(12 digits)");
    }

    #[test]
    fn a_series_is_what_its_numbers_begin_with() {
        let series: Series = "079308".parse().unwrap();
        assert_eq!((series.place(), series.sex(), series.birth_year()), (79, Sex::Female, 2008));
        assert_eq!(Series::new(79, Sex::Female, 2008), Ok(series));
        assert_eq!(series.number(7).unwrap().to_string(), "079308000007");
        assert_eq!(series.number(SERIAL_END), Err(NumberError::Range));
        assert_eq!("79308".parse::<Series>(), Err(NumberError::Series));
        assert_eq!("07930x".parse::<Series>(), Err(NumberError::Series));
    }

    #[test]
    fn a_wrong_number_is_refused_exactly() {
        assert_eq!("00107500012".parse::<PersonNumber>(), Err(NumberError::Length { got: 11 }));
        assert_eq!("0010750001234".parse::<PersonNumber>(), Err(NumberError::Length { got: 13 }));
        assert_eq!("".parse::<PersonNumber>(), Err(NumberError::Length { got: 0 }));
        assert_eq!("00107500O123".parse::<PersonNumber>(), Err(NumberError::NotADigit { position: 9 }));
        assert_eq!("+01075000123".parse::<PersonNumber>(), Err(NumberError::NotADigit { position: 1 }));
        assert_eq!("００107500".parse::<PersonNumber>(), Err(NumberError::NotADigit { position: 1 }));
        assert_eq!(PersonNumber::new(1, Sex::Male, 1899, 0), Err(NumberError::Range));
        assert_eq!(PersonNumber::new(1, Sex::Male, 2400, 0), Err(NumberError::Range));
        assert_eq!(PersonNumber::new(1000, Sex::Male, 1999, 0), Err(NumberError::Range));
        assert_eq!(PersonNumber::new(1, Sex::Male, 1999, SERIAL_END), Err(NumberError::Range));
        assert_eq!(PersonNumber::from_bytes(&[255; 5]), Err(NumberError::Bytes));
    }

    proptest! {
        #[test]
        fn numbers_come_back(a in 0..NUMBER_END, b in 0..NUMBER_END) {
            let number = PersonNumber(a);
            prop_assert_eq!(number.to_string().parse(), Ok(number));
            prop_assert_eq!(PersonNumber::from_bytes(&number.to_bytes()), Ok(number));
            prop_assert_eq!(<PersonNumber as Wire>::from_bytes(&Wire::to_bytes(&number)), Ok(number));
            let built = PersonNumber::new(number.place(), number.sex(), number.birth_year(), number.serial());
            prop_assert_eq!(built, Ok(number));
            let series = number.series();
            prop_assert_eq!(series.number(number.serial()), Ok(number));
            prop_assert_eq!(Series::new(number.place(), number.sex(), number.birth_year()), Ok(series));
            prop_assert_eq!(Series::from_key_bytes(series.key_bytes()), Ok(series));
            prop_assert_eq!(number.to_bytes().cmp(&PersonNumber(b).to_bytes()), a.cmp(&b));
        }
    }
}
