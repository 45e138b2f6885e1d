//! What the command line shows of runs: tables for people.

use std::time::Duration;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

use crate::coverage::{Coverage, RARELY, SOMETIMES};
use crate::mutants::{Mutant, Verdict};
use crate::run::{Outcome, Violation};
use crate::scenario::What;
use crate::swarm::Tally;

/// So many failing seeds are listed; the rest is counted.
const FAILURES_MAX: usize = 20;
/// So many characters of a violation stand in a table.
const TEXT_MAX: usize = 110;

/// A table; the columns from the second on are numbers if `numbers` says so.
#[must_use]
pub fn table(head: &[&str], rows: &[Vec<String>], numbers: bool) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(head.to_vec());
    for row in rows {
        table.add_row(row.clone());
    }
    if numbers {
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// `1234567` as `1,234,567`.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A virtual time, as `3d 02:15:07.250`; days and milliseconds only where there are any.
#[must_use]
pub fn clock(at: Duration) -> String {
    let seconds = at.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let days = if days > 0 { format!("{days}d ") } else { String::new() };
    let millis = if at.subsec_millis() > 0 { format!(".{:03}", at.subsec_millis()) } else { String::new() };
    format!("{days}{hours:02}:{minutes:02}:{:02}{millis}", seconds % 60)
}

/// Violations, each on a line.
#[must_use]
pub fn violations(violations: &[Violation]) -> String {
    let line =
        |violation: &Violation| format!("{:>16}  {}: {}", clock(violation.at), violation.promise, violation.text);
    violations.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A run's figures.
#[must_use]
pub fn figures(outcome: &Outcome, took: Duration) -> Table {
    let mut rows: Vec<Vec<String>> =
        outcome.figures.iter().map(|(name, number)| vec![name.replace('_', " "), count(*number)]).collect();
    for (name, figure) in [("virtual seconds", "virtual_seconds"), ("messages", "messages"), ("polls", "polls")] {
        let all = outcome.figures.get(figure).copied().unwrap_or_default() as f64;
        let speed = (all / took.as_secs_f64().max(f64::EPSILON)).round() as u64;
        rows.push(vec![format!("{name} per second"), count(speed)]);
    }
    table(&["figure", ""], &rows, true)
}

/// A swarm in numbers.
#[must_use]
pub fn summary(tally: &Tally) -> Table {
    let row = |name: &str, text: String| vec![name.to_owned(), text];
    let mut rows = vec![
        row("runs", count(tally.runs)),
        row("runs that broke a promise", count(tally.failures.len() as u64)),
        row("virtual time", clock(Duration::from_secs(tally.figure("virtual_seconds")))),
        row("virtual seconds per second of one core", format!("{:.0}", tally.speed())),
        row("requests not accepted", count(tally.not_accepted)),
    ];
    let others = tally.figures.iter().filter(|(name, _)| **name != "virtual_seconds");
    rows.extend(others.map(|(name, number)| row(&name.replace('_', " "), count(*number))));
    table(&["swarm", ""], &rows, true)
}

/// Which faults happened how often; also those that never did.
#[must_use]
pub fn faults(tally: &Tally) -> Table {
    let rows: Vec<Vec<String>> = What::KINDS
        .iter()
        .map(|kind| {
            let happened = tally.faults.get(kind).copied().unwrap_or_default();
            let times = if happened.times == 0 { "never".to_owned() } else { count(happened.times) };
            vec![(*kind).to_owned(), times, count(happened.runs), count(happened.missed)]
        })
        .collect();
    table(&["fault", "times", "runs", "found nobody"], &rows, true)
}

/// Which rare branches of the node's code were reached how often; also those that never were.
#[must_use]
pub fn coverage(coverage: &Coverage) -> Table {
    let row = |kind: &str, name: &&'static str| {
        let times = coverage.reached.get(*name).copied();
        vec![(*name).to_owned(), times.map_or_else(|| "NEVER".to_owned(), count), kind.to_owned()]
    };
    let sometimes = SOMETIMES.iter().map(|name| row("must happen", name));
    let rarely = RARELY.iter().map(|name| row("made common", name));
    let rows: Vec<Vec<String>> = sometimes.chain(rarely).collect();
    table(&["branch", "times", "why"], &rows, true)
}

/// What came of mutants.
#[must_use]
pub fn mutants(hunted: &[(&'static Mutant, Verdict)]) -> Table {
    let rows: Vec<Vec<String>> = hunted
        .iter()
        .map(|(mutant, verdict)| match verdict {
            Verdict::Caught { seed, promise, at, .. } => {
                let promise =
                    if mutant.may_break(promise) { (*promise).to_owned() } else { format!("{promise}, UNEXPECTED") };
                vec![mutant.name.to_owned(), promise, seed.to_string(), clock(*at)]
            }
            Verdict::Missed => vec![mutant.name.to_owned(), "MISSED".to_owned(), String::new(), String::new()],
        })
        .collect();
    table(&["mutant", "caught by", "seed", "at"], &rows, false)
}

/// The failing seeds.
#[must_use]
pub fn failures(tally: &Tally) -> Table {
    let rows: Vec<Vec<String>> = tally
        .failures
        .iter()
        .take(FAILURES_MAX)
        .map(|failure| {
            let first = failure.violations.first();
            let text = first.map(|violation| violation.text.replace('\n', " ")).unwrap_or_default();
            let promise = first.map_or("", |violation| violation.promise);
            vec![failure.seed.to_string(), promise.to_owned(), text.chars().take(TEXT_MAX).collect()]
        })
        .collect();
    table(&["seed", "promise", "what was seen first"], &rows, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_readable() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(clock(Duration::from_millis(61_250)), "00:01:01.250");
        assert_eq!(clock(Duration::from_secs(3 * 86_400 + 3_600)), "3d 01:00:00");
    }

    #[test]
    fn faults_that_never_happened_are_listed() {
        let text = faults(&Tally::default()).to_string();
        assert!(What::KINDS.iter().all(|kind| text.contains(kind)), "{text}");
        assert_eq!(text.matches("never").count(), What::KINDS.len());
    }
}
