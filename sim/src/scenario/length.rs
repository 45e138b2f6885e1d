//! Lengths of time as people write them: `72h`, `90m`, `250ms`, `7d`, `1h30m`.
//!
//! Promises: what [`write`] gives, [`parse`] takes back as the same length.

use std::time::Duration;

/// The units, largest first, in nanoseconds.
const UNITS: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// The length that `text` says: whole numbers with units, larger units first; `0` needs none.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, behind) = rest.split_at(digits);
        let letters = behind.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, behind) = behind.split_at(letters);
        let (_, worth) = units.find(|(name, _)| *name == unit)?;
        // As 64 bits, so that the product fits into 128.
        nanos += u128::from(number.parse::<u64>().ok()?) * worth;
        rest = behind;
    }
    let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
    (!text.is_empty()).then(|| Duration::new(seconds, (nanos % 1_000_000_000) as u32))
}

/// `length` in the fewest units.
pub(crate) fn write(length: Duration) -> String {
    let mut left = length.as_nanos();
    let mut text = String::new();
    for (name, worth) in UNITS {
        if left >= worth {
            text.push_str(&format!("{}{name}", left / worth));
            left %= worth;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Milliseconds forward, or back if a `-` stands in front.
pub(crate) fn parse_offset_ms(text: &str) -> Option<i64> {
    let (sign, length) = text.strip_prefix('-').map_or((1, text), |length| (-1, length));
    let length = parse(length)?;
    if !length.subsec_nanos().is_multiple_of(1_000_000) {
        return None;
    }
    i64::try_from(length.as_millis()).ok()?.checked_mul(sign)
}

/// The reverse of [`parse_offset_ms`].
pub(crate) fn write_offset_ms(offset_ms: i64) -> String {
    let sign = if offset_ms < 0 { "-" } else { "" };
    format!("{sign}{}", write(Duration::from_millis(offset_ms.unsigned_abs())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_are_read_as_people_write_them() {
        for (text, seconds) in
            [("72h", 259_200), ("90m", 5_400), ("7d", 604_800), ("1h30m", 5_400), ("0", 0), ("0s", 0)]
        {
            assert_eq!(parse(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse("250ms"), Some(Duration::from_millis(250)));
        for text in
            ["", "h", "90", "30m1h", "1h1h", "1 h", "-1h", "1.5h", "1y", "99999999999999999999d", "184467440737095516d"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(write(Duration::from_millis(5_400_250)), "1h30m250ms");
        assert_eq!(write(Duration::from_secs(72 * 3_600)), "3d");
        assert_eq!(parse_offset_ms("-365d"), Some(-31_536_000_000));
        assert_eq!(parse_offset_ms("1us"), None);
    }

    proptest! {
        #[test]
        fn every_length_comes_back(seconds in 0..u64::MAX / 2, nanos in 0..1_000_000_000_u32, offset in -1_000_000_000_000_i64..1_000_000_000_000) {
            let length = Duration::new(seconds, nanos);
            prop_assert_eq!(parse(&write(length)), Some(length));
            prop_assert_eq!(parse_offset_ms(&write_offset_ms(offset)), Some(offset));
        }
    }
}
