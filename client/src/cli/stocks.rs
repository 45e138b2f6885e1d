//! How many there are in which state, on the command line: `figures --stocks`.

use std::collections::BTreeMap;
use std::io;

use dinhba_core::date::Date;
use dinhba_proto::v1;
use serde_json::{Value as Json, json};

use super::sheet::{Sheet, column};
use super::{Desk, Failure, show};
use crate::client::Client;
use crate::language::{Lang, say};
use crate::request::Context;

/// Where a row stands: its unit in words, cards before accounts before steps, and states and steps in the order in which the service told them first.
type Key = (String, Option<usize>, usize);

const KINDS: [&str; 3] = ["card", "account", "step"];

/// The rows of all units, each with its counts added up.
fn rows(units: &[v1::UnitStocks], by_unit: bool) -> Vec<(String, v1::Stock)> {
    let name = |stock: &v1::Stock| (stock.of.clone(), stock.service.clone(), stock.step.clone(), stock.state.clone());
    let (mut told, mut rows) = (BTreeMap::new(), BTreeMap::<Key, v1::Stock>::new());
    for unit in units {
        let words = if by_unit { format!("{} {}", unit.unit_code, unit.unit_name) } else { String::new() };
        for stock in &unit.stocks {
            let next = told.len();
            let place = *told.entry(name(stock)).or_insert(next);
            let kind = KINDS.iter().position(|of| *of == stock.of);
            let key = (words.trim().to_owned(), kind, place);
            let row = rows.entry(key).or_insert(v1::Stock { count: 0, late: 0, ..stock.clone() });
            row.count += stock.count;
            row.late += stock.late;
        }
    }
    rows.into_iter().map(|((unit, ..), stock)| (unit, stock)).collect()
}

fn label(stock: &v1::Stock) -> &str {
    match stock.of.as_str() {
        "card" => "Thẻ căn cước",
        "account" => "Tài khoản định danh điện tử",
        _ => &stock.step_label,
    }
}

fn table(lang: Lang, rows: &[(String, v1::Stock)]) -> String {
    let mut sheet = Sheet::titled(
        lang,
        [
            column("").wraps(16),
            column("").wraps(24),
            column("in-state").wraps(16),
            column("state-code").spare(1),
            column("count").number(),
            column("late").number(),
        ],
    );
    let mut before = None;
    for (unit, stock) in rows {
        let name = if before == Some(unit) { String::new() } else { show::plain(unit) };
        before = Some(unit);
        let late = if stock.of == "step" { stock.late.to_string() } else { String::new() };
        let [label, state_label, state] = [label(stock), &stock.state_label, &stock.state].map(show::plain);
        sheet.add_row([name, label, state_label, state, stock.count.to_string(), late]);
    }
    sheet.text()
}

fn json_of(unit: &str, stock: &v1::Stock) -> Json {
    json!({
        "row": unit, "of": stock.of, "service": stock.service, "step": stock.step, "state": stock.state,
        "label": stock.state_label, "count": stock.count, "late": stock.late,
    })
}

pub(super) async fn show_stocks(
    client: &Client,
    context: &Context,
    desk: &mut Desk<'_>,
    (unit, by_unit, is_csv): (Option<String>, bool, bool),
    (from, to): (Date, Date),
) -> Result<(), Failure> {
    let units = client.stocks(context, &unit.unwrap_or_default(), (from, to)).await?;
    let rows = rows(&units, by_unit);
    if is_csv {
        let mut writer = csv::Writer::from_writer(&mut *desk.out);
        writer
            .write_record(["row", "of", "service", "step", "state", "label", "count", "late"])
            .map_err(io::Error::from)?;
        for (unit, stock) in &rows {
            let v1::Stock { of, service, step, state, state_label, count, late, .. } = stock;
            let record = [unit, of, service, step, state, state_label, &count.to_string(), &late.to_string()];
            writer.write_record(record).map_err(io::Error::from)?;
        }
        return Ok(writer.flush()?);
    }
    let all = || rows.iter().map(|(unit, stock)| json_of(unit, stock)).collect::<Vec<_>>();
    desk.show(
        |lang| table(lang, &rows),
        || json!({ "from": from.to_string(), "to": to.to_string(), "stocks": all() }),
    )?;
    if rows.is_empty() {
        desk.remark(&say!("no-stocks"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stock(of: &str, step: &str, state: &str, count: u64, late: u64) -> v1::Stock {
        let [of, step, state] = [of, step, state].map(str::to_owned);
        v1::Stock {
            of,
            step_label: step.clone(),
            state_label: state.clone(),
            step,
            state,
            count,
            late,
            ..Default::default()
        }
    }

    fn unit(code: &str, stocks: Vec<v1::Stock>) -> v1::UnitStocks {
        v1::UnitStocks { unit_code: code.into(), stocks, ..v1::UnitStocks::default() }
    }

    #[test]
    fn units_are_told_apart_or_added_up_with_cards_before_accounts_before_steps() {
        let units = [
            unit("02683", vec![stock("step", "permanent_residence", "open", 2, 1)]),
            unit(
                "02701",
                vec![stock("card", "", "requested", 5, 0), stock("step", "permanent_residence", "open", 1, 1)],
            ),
        ];
        let counts = |by_unit| {
            rows(&units, by_unit).iter().map(|(unit, row)| (unit.clone(), row.count, row.late)).collect::<Vec<_>>()
        };
        assert_eq!(counts(true), [("02683".into(), 2, 1), ("02701".into(), 5, 0), ("02701".into(), 1, 1)]);
        assert_eq!(counts(false), [(String::new(), 5, 0), (String::new(), 3, 2)]);
        let text = table(Lang::En, &rows(&units, true));
        assert!(text.contains("Thẻ căn cước") && text.contains("permanent_residence"), "{text}");
        assert!(table(Lang::Vi, &rows(&units, false)).contains("HẠN"));
    }
}
