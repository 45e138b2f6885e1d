//! Bytes become text, or it is said why not. Nothing is guessed: text in an encoding that does not name itself would be
//! registered with wrong letters.

use super::Problem;

const UTF8_MARK: &[u8] = &[0xef, 0xbb, 0xbf];
const UTF16_LITTLE_MARK: &[u8] = &[0xff, 0xfe];
const UTF16_BIG_MARK: &[u8] = &[0xfe, 0xff];

/// The text of a file: UTF-8, or UTF-16 with its mark.
pub(super) fn decode(bytes: &[u8]) -> Result<String, Problem> {
    let text = if let Some(rest) = bytes.strip_prefix(UTF16_LITTLE_MARK) {
        from_utf16(rest, u16::from_le_bytes)?
    } else if let Some(rest) = bytes.strip_prefix(UTF16_BIG_MARK) {
        from_utf16(rest, u16::from_be_bytes)?
    } else {
        from_utf8(bytes.strip_prefix(UTF8_MARK).unwrap_or(bytes))?
    };
    check(&text)?;
    Ok(text)
}

fn from_utf8(bytes: &[u8]) -> Result<String, Problem> {
    if let Ok(text) = str::from_utf8(bytes) {
        return Ok(text.to_owned());
    }
    let at = str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), |_| bytes.len());
    let line = 1 + bytes[..at].iter().filter(|&&byte| byte == b'\n').count() as u64;
    Err(Problem::at(
        line,
        "is not UTF-8 text: in the spreadsheet, save the table as \"CSV UTF-8\" or as .xlsx; convert a file in TCVN3, VNI \
         or Windows-1258 to UTF-8 first; a file that is UTF-8 elsewhere is damaged here",
    ))
}

fn from_utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, Problem> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let units = pairs.iter().map(|pair| unit(*pair));
    let text: Result<String, _> = char::decode_utf16(units).collect();
    match text {
        Ok(text) if rest.is_empty() => Ok(text),
        _ => Err(Problem::of_file("is UTF-16 text that is damaged or cut: save it again, best as \"CSV UTF-8\"")),
    }
}

fn check(text: &str) -> Result<(), Problem> {
    let line_at = |at: usize| 1 + text[..at].matches('\n').count() as u64;
    if text.trim().is_empty() {
        return Err(Problem::of_file("is empty"));
    }
    if let Some(at) = text.find('\0') {
        let reason = "has NUL characters: it is no text, damaged, or UTF-16 without a mark; save it as \"CSV UTF-8\"";
        return Err(Problem::at(line_at(at), reason));
    }
    if let Some(at) = text.find('\u{feff}') {
        let reason = "a byte order mark in the middle: were files put together? Import each by itself";
        return Err(Problem::at(line_at(at), reason));
    }
    let bytes = text.as_bytes();
    let is_lone = |(at, &byte): (usize, &u8)| (byte == b'\r' && bytes.get(at + 1) != Some(&b'\n')).then_some(at);
    if let Some(at) = bytes.iter().enumerate().find_map(is_lone) {
        let reason = "a carriage return alone, as old programs end lines: save the file with ordinary line ends";
        return Err(Problem::at(line_at(at), reason));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, mark: &[u8], bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        mark.iter().copied().chain(text.encode_utf16().flat_map(bytes)).collect()
    }

    #[test]
    fn what_names_its_encoding_is_read() {
        let text = "id,name\r\n1,Lê/Thị/Hòa 𡗶\r\n";
        assert_eq!(decode(text.as_bytes()).as_deref(), Ok(text));
        assert_eq!(decode(format!("\u{feff}{text}").as_bytes()).as_deref(), Ok(text));
        assert_eq!(decode(&utf16(text, UTF16_LITTLE_MARK, u16::to_le_bytes)).as_deref(), Ok(text));
        assert_eq!(decode(&utf16(text, UTF16_BIG_MARK, u16::to_be_bytes)).as_deref(), Ok(text));
    }

    #[test]
    fn what_does_not_is_named_with_its_line() {
        let line = |bytes: &[u8]| decode(bytes).map(drop).map_err(|problem| problem.line);
        assert_eq!(line(b"id,name\n1,L\xea\n"), Err(2), "Windows-1258");
        assert_eq!(line(&utf16("id\n1\n", &[], u16::to_le_bytes)), Err(1), "UTF-16 without a mark");
        let mut cut = utf16("id\n1\n", UTF16_LITTLE_MARK, u16::to_le_bytes);
        cut.pop();
        assert_eq!(line(&cut), Err(0));
        assert_eq!(line(b"id\r1\r2\r"), Err(1));
        assert_eq!(line(b"id\r\n1\r2\r\n"), Err(2));
        assert_eq!(line("id\n1\n\u{feff}id\n2\n".as_bytes()), Err(3));
        for empty in [&b""[..], b"\xef\xbb\xbf", b" \r\n\n"] {
            assert_eq!(line(empty), Err(0));
        }
    }
}
