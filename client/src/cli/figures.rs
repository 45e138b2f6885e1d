//! Figures: how many of each event there were, by unit, day or month, as a table with bars, or as CSV. How far targets are is in `target`.

use std::collections::BTreeMap;
use std::io;

use dinhba_core::date::{Date, InstantMs};
use dinhba_core::event::Event;
use dinhba_proto::v1;
use serde_json::{Value as Json, json};

use super::sheet::{Sheet, column};
use super::{Desk, Failure, show, stocks, target};
use crate::client::Client;
use crate::language::{Lang, day, say};
use crate::request::Context;

/// What `figures` takes.
#[derive(clap::Args)]
pub struct Figures {
    /// A unit with all below it: its code, code and day (02683@2025-06-30) or id (u-…); without it, all that you may see
    #[arg(long)]
    unit: Option<String>,
    /// The first day on which offices received them; without it, 30 days before the last
    #[arg(long, value_name = "DAY")]
    from: Option<Date>,
    /// The last day; without it, today
    #[arg(long, value_name = "DAY")]
    to: Option<Date>,
    /// What stands in a row of its own
    #[arg(long, value_enum, default_value = "unit")]
    by: By,
    /// How far the targets are instead, with a forecast, and who is behind
    #[arg(long, conflicts_with_all = ["from", "to", "by"])]
    targets: bool,
    /// How many cards, accounts and steps of dossiers are in which state instead, and how many steps are late; of those that are done, the
    /// ones of these days
    #[arg(long, conflicts_with = "targets")]
    stocks: bool,
    /// Writes CSV
    #[arg(long)]
    csv: bool,
}

/// What figures are added up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// Each unit.
    Unit,
    /// Each day.
    Day,
    /// Each month.
    Month,
    /// All in one.
    All,
}

/// Days that are shown if nobody says which.
const DAYS: i64 = 30;

/// Signs of the longest bar: a table of a narrow terminal has room for them.
const BAR: u64 = 20;

/// A row of its own, and an event.
type Key = (String, Event);

/// Counts added up, in order.
fn rows(units: &[v1::UnitFigures], by: By) -> BTreeMap<Key, u64> {
    let mut rows = BTreeMap::new();
    for unit in units {
        for figure in &unit.figures {
            let row = match by {
                By::Unit => format!("{} {}", unit.unit_code, unit.unit_name).trim().to_owned(),
                By::Day => figure.day.clone(),
                By::Month => figure.day.get(..7).unwrap_or(&figure.day).to_owned(),
                By::All => String::new(),
            };
            // What a newer version counts is shown together.
            let event = Event::ALL.iter().find(|event| event.name() == figure.event).copied();
            *rows.entry((row, event.unwrap_or(Event::Unknown(u8::MAX)))).or_default() += figure.count;
        }
    }
    rows
}

fn table(lang: Lang, rows: &BTreeMap<Key, u64>) -> String {
    let most = rows.values().max().copied().unwrap_or(1).max(1);
    let mut sheet = Sheet::titled(
        lang,
        [
            column("").wraps(16),
            column("happened").wraps(20),
            column("event").spare(1),
            column("count").number(),
            column("").spare(2),
        ],
    );
    let mut before = "";
    for ((row, event), count) in rows {
        let bar = "█".repeat(usize::try_from((count * BAR).div_ceil(most)).unwrap_or(0));
        let name = if before == row { String::new() } else { lang.days(&show::plain(row)) };
        before = row;
        sheet.add_row([name, event.label().to_owned(), event.name().to_owned(), count.to_string(), bar]);
    }
    sheet.text()
}

fn json_of(rows: &BTreeMap<Key, u64>, (from, to): (Date, Date)) -> Json {
    let row = |((row, event), count): (&Key, &u64)| json!({ "row": row, "event": event.name(), "label": event.label(), "count": count });
    json!({ "from": from.to_string(), "to": to.to_string(), "figures": rows.iter().map(row).collect::<Vec<_>>() })
}

pub(super) async fn show_figures(
    client: &Client,
    context: &Context,
    desk: &mut Desk<'_>,
    command: Figures,
) -> Result<(), Failure> {
    if command.targets {
        return target::show_progress(client, context, desk, (command.unit, command.csv)).await;
    }
    let today = InstantMs(client.ambient().utc_ms()).date_in_vietnam();
    let to = command.to.unwrap_or(today);
    let from = command.from.unwrap_or_else(|| Date::from_days(to.days() - DAYS));
    if command.stocks {
        let by_unit = match command.by {
            By::Unit => true,
            By::All => false,
            By::Day | By::Month => {
                return Err(Failure::usage(say!("stocks-by")));
            }
        };
        return stocks::show_stocks(client, context, desk, (command.unit, by_unit, command.csv), (from, to)).await;
    }
    let units = client.figures(context, command.unit.as_deref().unwrap_or(""), (from, to)).await?;
    let rows = rows(&units, command.by);
    if command.csv {
        let mut writer = csv::Writer::from_writer(&mut *desk.out);
        writer.write_record(["row", "event", "label", "count"]).map_err(io::Error::from)?;
        for ((row, event), count) in &rows {
            let record = [row.as_str(), event.name(), event.label(), &count.to_string()];
            writer.write_record(record).map_err(io::Error::from)?;
        }
        return Ok(writer.flush()?);
    }
    desk.show(|lang| table(lang, &rows), || json_of(&rows, (from, to)))?;
    if rows.is_empty() {
        desk.remark(&say!("nothing-received", from = day(from), to = day(to)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(code: &str, figures: &[(&str, &str, u64)]) -> v1::UnitFigures {
        let figure = |(day, event, count): &(&str, &str, u64)| v1::Figure {
            day: (*day).into(),
            event: (*event).into(),
            count: *count,
        };
        v1::UnitFigures {
            unit_code: code.into(),
            figures: figures.iter().map(figure).collect(),
            ..v1::UnitFigures::default()
        }
    }

    #[test]
    fn figures_are_added_up_by_what_is_asked_and_the_longest_bar_is_the_most() {
        let units = [
            unit("02683", &[("2026-01-30", "birth", 3), ("2026-02-01", "birth", 1), ("2026-02-01", "death", 1)]),
            unit("02686", &[("2026-02-01", "birth", 4), ("2026-02-01", "of a newer version", 9)]),
        ];
        let counts = |by| rows(&units, by).into_values().collect::<Vec<_>>();
        assert_eq!(counts(By::Unit), [4, 1, 4, 9]);
        assert_eq!(counts(By::Day), [3, 5, 1, 9]);
        assert_eq!(counts(By::Month), [3, 5, 1, 9]);
        assert_eq!(counts(By::All), [8, 1, 9]);
        let told = table(Lang::Vi, &rows(&units[..1], By::Month));
        assert!(told.contains("01/2026"), "{told}");
        crate::cli::tests::vietnamese::assert_vietnamese(&told);
        let shown = table(Lang::En, &rows(&units[..1], By::All));
        let bars: Vec<usize> = shown.lines().map(|line| line.matches('█').count()).filter(|count| *count > 0).collect();
        assert_eq!(bars, [20, 5], "{shown}");
        assert!(shown.contains("Đăng ký khai sinh"), "{shown}");
    }
}
