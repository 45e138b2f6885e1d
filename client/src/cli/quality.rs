//! How good the records are, on the command line.

use dinhba_proto::v1;
use serde_json::{Value as Json, json};

use super::sheet::{Cell, Sheet, Tint, column};
use super::{Desk, Failure, show};
use crate::client::Client;
use crate::language::{Lang, Message, say};
use crate::request::Context;

/// What `quality` takes.
#[derive(clap::Args)]
pub struct Quality {
    /// A unit with all below it: its code, code and day (02683@2025-06-30) or id (u-…); without it, all that the caller may see
    #[arg(long)]
    unit: Option<String>,
}

/// So many of all, in hundredths of a percent; none of nothing.
fn share(of: u64, all: u64) -> Option<u64> {
    (u128::from(of) * 10_000).checked_div(u128::from(all)).and_then(|share| u64::try_from(share).ok())
}

/// A share as people write it: rounded down, so that 100 % is all.
fn percent(share: Option<u64>) -> String {
    share.map_or_else(|| "—".to_owned(), |share| format!("{}.{:02} %", share / 100, share % 100))
}

/// Correct, complete, clean.
fn shares(unit: &v1::UnitQuality) -> [Option<u64>; 3] {
    let v1::UnitQuality { records, disputed, doubled, required, filled, .. } = unit;
    [
        share(records.saturating_sub(*disputed), *records),
        share(*filled, *required),
        share(records.saturating_sub(*doubled), *records),
    ]
}

fn live(lang: Lang, unit: &v1::UnitQuality) -> Cell {
    let since = match unit.step_at_ms {
        0 => say!("never"),
        at => Message::plain(lang.instant(at)),
    };
    match (unit.step.as_str(), unit.pending_up) {
        ("top", _) => Cell::from(say!("the-centre").text(lang)),
        ("in_step", _) => Cell::from(say!("live-in-step", since = since).text(lang)).tinted(Tint::Good),
        (_, pending) => Cell::from(say!("live-behind", count = pending, since = since).text(lang)).tinted(Tint::Bad),
    }
}

/// The counts of all units together.
fn sum(lang: Lang, units: &[v1::UnitQuality]) -> v1::UnitQuality {
    let mut all = v1::UnitQuality { unit_name: say!("all-units").text(lang), ..v1::UnitQuality::default() };
    for unit in units {
        all.records += unit.records;
        all.disputed += unit.disputed;
        all.doubled += unit.doubled;
        all.required += unit.required;
        all.filled += unit.filled;
    }
    all
}

fn table(lang: Lang, units: &[v1::UnitQuality]) -> String {
    let mut rows = Sheet::titled(
        lang,
        [
            column("unit").wraps(16),
            column("records").number(),
            column("correct").number(),
            column("complete").number(),
            column("clean").number(),
            column("live").wraps(20),
        ],
    );
    let all = sum(lang, units);
    for (unit, is_sum) in units.iter().map(|unit| (unit, false)).chain((units.len() > 1).then_some((&all, true))) {
        let [correct, complete, clean] = shares(unit).map(|share| Cell::from(percent(share)));
        let name = show::plain(format!("{} {}", unit.unit_code, unit.unit_name).trim());
        let live = if is_sum { Cell::from("") } else { live(lang, unit) };
        rows.add_row([name.into(), unit.records.to_string().into(), correct, complete, clean, live]);
    }
    rows.text()
}

fn json_of(unit: &v1::UnitQuality) -> Json {
    let [correct, complete, clean] = shares(unit).map(|share| share.map(|share| share as f64 / 10_000.0));
    json!({
        "shard": unit.shard, "unit": unit.unit, "unit_code": unit.unit_code, "unit_name": unit.unit_name,
        "records": unit.records, "disputed": unit.disputed, "doubled": unit.doubled, "required": unit.required,
        "filled": unit.filled, "correct": correct, "complete": complete, "clean": clean, "step": unit.step,
        "step_at_ms": unit.step_at_ms, "pending_up": unit.pending_up,
    })
}

pub(super) async fn show_quality(
    client: &Client,
    context: &Context,
    desk: &mut Desk<'_>,
    command: Quality,
) -> Result<(), Failure> {
    let units = client.quality(context, &command.unit.unwrap_or_default()).await?;
    desk.show(|lang| table(lang, &units), || json!({ "units": units.iter().map(json_of).collect::<Vec<_>>() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::vietnamese::assert_vietnamese;

    #[test]
    fn shares_are_rounded_down_and_of_nothing_there_are_none() {
        let unit = v1::UnitQuality { records: 30_000, disputed: 1, required: 3, filled: 2, ..Default::default() };
        assert_eq!(shares(&unit).map(percent), ["99.99 %", "66.66 %", "100.00 %"]);
        assert_eq!(shares(&v1::UnitQuality::default()).map(percent), ["—", "—", "—"]);
        let top = v1::UnitQuality { step: "top".into(), ..unit.clone() };
        let in_step = v1::UnitQuality { step: "in_step".into(), step_at_ms: 1_750_000_000_000, ..unit.clone() };
        assert_vietnamese(&table(Lang::Vi, &[unit.clone(), top, in_step]));
        let text = table(Lang::En, &[unit.clone(), unit]);
        assert!(text.contains("60000") && text.contains("all"), "{text}");
    }
}
