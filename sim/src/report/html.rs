//! Small parts of the page: text made safe, times and amounts for people, tables.

use std::time::Duration;

use crate::tables::clock;

/// `text` as it can stand in an element or a quoted attribute.
pub(super) fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' => safe.push(' '),
            control if control.is_control() => safe.push('·'),
            letter => safe.push(letter),
        }
    }
    safe
}

/// A length of time in words: two units at most.
pub(super) fn length(length: Duration) -> String {
    let ms = length.as_millis();
    let two = |big: u128, big_unit: &str, small: u128, small_unit: &str| {
        if small == 0 { format!("{big} {big_unit}") } else { format!("{big} {big_unit} {small} {small_unit}") }
    };
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..10_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        10_000..60_000 => format!("{} s", ms / 1_000),
        60_000..3_600_000 => two(ms / 60_000, "min", ms / 1_000 % 60, "s"),
        3_600_000..86_400_000 => two(ms / 3_600_000, "h", ms / 60_000 % 60, "min"),
        _ => two(ms / 86_400_000, "d", ms / 3_600_000 % 24, "h"),
    }
}

/// A moment, counted from when the officers began to work, as scenario files count.
pub(super) fn moment(at: Duration, zero: Duration) -> String {
    if at >= zero { clock(at - zero) } else { format!("−{}", clock(zero - at)) }
}

/// The same to the second.
pub(super) fn second(at: Duration, zero: Duration) -> String {
    let whole = Duration::from_secs;
    if at >= zero { clock(whole((at - zero).as_secs())) } else { format!("−{}", clock(whole((zero - at).as_secs()))) }
}

/// An amount of data.
pub(super) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{}.{} kB", bytes / 1_000, bytes % 1_000 / 100),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
    }
}

/// A number with its noun: `1 edit`, `3 edits`.
pub(super) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", crate::tables::count(number))
}

/// A cell of a table.
pub(super) enum Cell {
    /// Text, made safe here.
    Text(String),
    /// A number or a time: stands right.
    Number(String),
    /// Markup that was made elsewhere.
    Markup(String),
}

impl Cell {
    pub(super) fn text(text: impl AsRef<str>) -> Self {
        Cell::Text(text.as_ref().to_owned())
    }
}

/// A table that scrolls for itself where the page is narrow.
pub(super) fn table(class: &str, head: &[&str], rows: &[Vec<Cell>]) -> String {
    let mut html = format!("<div class=\"wide\"><table class=\"{class}\"><thead><tr>");
    let is_number = |column: usize| rows.first().is_some_and(|row| matches!(row.get(column), Some(Cell::Number(_))));
    for (column, name) in head.iter().enumerate() {
        let class = if is_number(column) { " class=\"n\"" } else { "" };
        html.push_str(&format!("<th{class}>{}</th>", safe(name)));
    }
    html.push_str("</tr></thead><tbody>\n");
    for row in rows {
        html.push_str("<tr>");
        for cell in row {
            match cell {
                Cell::Text(text) => html.push_str(&format!("<td>{}</td>", safe(text))),
                Cell::Number(text) => html.push_str(&format!("<td class=\"n\">{}</td>", safe(text))),
                Cell::Markup(markup) => html.push_str(&format!("<td>{markup}</td>")),
            }
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>\n");
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_text_stays_text() {
        assert_eq!(safe("<b a='1' c=\"2\">&</b>\n\u{7}"), "&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;&amp;&lt;/b&gt; ·");
        let table = table("x", &["<i>"], &[vec![Cell::text("<u>"), Cell::Number("<s>".to_owned())]]);
        assert!(!["<i>", "<u>", "<s>"].iter().any(|tag| table.contains(tag)), "{table}");
    }

    #[test]
    fn times_are_told_in_words() {
        let told = [0, 950, 1_250, 59_000, 61_000, 3_600_000, 90_061_000].map(|ms| length(Duration::from_millis(ms)));
        assert_eq!(told, ["0 ms", "950 ms", "1.2 s", "59 s", "1 min 1 s", "1 h", "1 d 1 h"]);
        let zero = Duration::from_secs(10);
        assert_eq!(moment(Duration::from_millis(11_500), zero), "00:00:01.500");
        assert_eq!(second(Duration::from_secs(4), zero), "−00:00:06");
    }
}
