//! The ledger of personal numbers on the command line.

use dinhba_core::number::{PersonNumber, Series, Sex};
use dinhba_proto::v1;
use serde_json::{Value as Json, json};

use super::sheet::{Sheet, column};
use super::{Desk, Failure, show};
use crate::client::Client;
use crate::language::{Lang, Message, say};
use crate::request::Context;

/// What `numbers` takes.
#[derive(clap::Args)]
pub struct Numbers {
    /// A unit with all below it: its code, code and day (02683@2025-06-30) or id (u-…); without it, the site's own
    #[arg(long)]
    unit: Option<String>,
    /// One series: place (3 digits), century and sex (1), birth year (2), as its numbers begin (010126); without it, all of which
    /// blocks were granted
    #[arg(long)]
    series: Option<Series>,
    /// What became of one number (twelve digits); whose it is, `find --number` tells
    #[arg(long, conflicts_with_all = ["series", "unit"])]
    number: Option<PersonNumber>,
}

/// What became of a number, in words.
fn way(lang: Lang, way: &v1::NumberWay) -> String {
    let state = match way.state.as_str() {
        "free" => say!("number-free"),
        "on-the-way" => say!("number-on-the-way"),
        "left" => say!("number-left"),
        "assigned" => say!("number-assigned"),
        "void" => say!("number-void", why = Message::from(way.why.as_str())),
        "outside" => say!("number-outside"),
        _ => say!("number-unknown"),
    };
    let mut text = format!("{}: {}", way.number, state.text(lang));
    for grant in &way.grants {
        let unit = |code: &str, name: &str| show::plain(format!("{code} {name}").trim());
        let (by, to) = (unit(&grant.by_code, &grant.by_name), unit(&grant.to_code, &grant.to_name));
        let (count, first, site) = (grant.count, &grant.first, &grant.site);
        let told = say!("number-grant", by = by, count = count, first = first, to = to, site = site);
        text.push_str(&format!("\n  {}", told.text(lang)));
    }
    text
}

fn way_json(way: &v1::NumberWay) -> Json {
    let grant = |grant: &v1::NumberGrant| json!({ "by": grant.by_code, "to": grant.to_code, "site": grant.site, "first": grant.first, "count": grant.count });
    json!({
        "number": way.number, "state": way.state, "why": way.why, "grants": way.grants.iter().map(grant).collect::<Vec<_>>(),
    })
}

/// What a series is of, in words.
fn of(series: &str) -> String {
    let Ok(series) = series.parse::<Series>() else { return String::new() };
    let sex = if series.sex() == Sex::Male { "nam" } else { "nữ" };
    format!("{sex} {}", series.birth_year())
}

fn table(lang: Lang, reply: &v1::NumbersReply) -> String {
    let mut ledger = Sheet::titled(
        lang,
        [
            column("series"),
            column("series-of"),
            column("numbers").number(),
            column("free").number(),
            column("on-the-way").number().spare(2),
            column("left").number(),
            column("assigned").number(),
            column("void").number(),
            column("adds-up"),
            column("in-no-block").number().spare(1),
        ],
    );
    for series in &reply.series {
        let v1::NumberSeries { total, free, on_the_way, left, assigned, void, .. } = series;
        let counts = [total, free, on_the_way, left, assigned, void].map(ToString::to_string);
        let adds_up = if series.complete { say!("adds-up") } else { say!("does-not-add-up") };
        let cells = [series.series.clone(), of(&series.series)].into_iter().chain(counts);
        let outside = series.outside.map(|outside| outside.to_string()).unwrap_or_default();
        ledger.add_row(cells.chain([adds_up.text(lang), outside]));
    }
    let columns = [
        column("unit").wraps(16),
        column("waiting").number(),
        column("left-by-series").wraps(20),
        column("days-left").number(),
    ];
    let mut units = Sheet::titled(lang, columns);
    for unit in &reply.units {
        let name = show::plain(&format!("{} {}", unit.unit_code, unit.unit_name));
        let left: Vec<String> = unit.left.iter().map(|left| format!("{}: {}", left.series, left.left)).collect();
        let days = unit.days_left.map_or_else(|| "—".to_owned(), |days| days.to_string());
        units.add_row([name, unit.waiting.to_string(), left.join(", "), days]);
    }
    format!("{}\n{}", ledger.text(), units.text())
}

fn json_of(reply: &v1::NumbersReply) -> Json {
    let series = |one: &v1::NumberSeries| {
        json!({
            "series": one.series, "total": one.total, "free": one.free, "on_the_way": one.on_the_way, "left": one.left,
            "assigned": one.assigned, "void": one.void, "complete": one.complete, "outside": one.outside,
        })
    };
    let unit = |one: &v1::UnitNumbers| {
        let left: serde_json::Map<String, Json> =
            one.left.iter().map(|left| (left.series.clone(), json!(left.left))).collect();
        json!({
            "shard": one.shard, "unit": one.unit, "unit_code": one.unit_code, "unit_name": one.unit_name,
            "waiting": one.waiting, "left": left, "days_left": one.days_left,
        })
    };
    let (series, units): (Vec<Json>, Vec<Json>) =
        (reply.series.iter().map(series).collect(), reply.units.iter().map(unit).collect());
    json!({ "series": series, "units": units })
}

/// Below so many days somebody should see to it that the line to the site above works again.
const DAYS_TO_WARN: u32 = 15;

pub(super) async fn show_numbers(
    client: &Client,
    context: &Context,
    desk: &mut Desk<'_>,
    command: Numbers,
) -> Result<(), Failure> {
    if let Some(number) = command.number {
        let told = client.way_of_number(context, number).await?;
        return desk.show(|lang| way(lang, &told), || way_json(&told));
    }
    let reply = client.numbers(context, command.unit.as_deref().unwrap_or(""), command.series).await?;
    desk.show(|lang| table(lang, &reply), || json_of(&reply))?;
    for series in reply.series.iter().filter(|series| !series.complete) {
        desk.remark(&say!("series-does-not-add-up", series = &series.series));
    }
    for unit in reply.units.iter().filter(|unit| unit.days_left.is_some_and(|days| days < DAYS_TO_WARN)) {
        let (days, name) = (unit.days_left.unwrap_or_default(), show::plain(&unit.unit_name));
        desk.remark(&say!("numbers-last", unit = name, days = days));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::vietnamese::assert_vietnamese;

    #[test]
    fn a_ledger_that_does_not_add_up_says_so() {
        let series = |complete| v1::NumberSeries { series: "010326".into(), total: 10, complete, ..Default::default() };
        let unit = v1::UnitNumbers { unit_code: "02683".into(), waiting: 2, days_left: Some(9), ..Default::default() };
        let reply = v1::NumbersReply { series: vec![series(true), series(false)], units: vec![unit], way: None };
        let shown = table(Lang::En, &reply);
        assert!(shown.contains("nữ 2026") && shown.contains("NO") && shown.contains("02683"), "{shown}");
        let told = table(Lang::Vi, &reply);
        assert!(told.contains("KHÔNG KHỚP"), "{told}");
        assert_vietnamese(&told);
        assert_eq!(json_of(&reply)["units"][0]["days_left"], 9);
    }

    #[test]
    fn the_way_of_a_number_is_told_from_the_top_down() {
        let grant =
            |by: &str, to: &str| v1::NumberGrant { by_code: by.into(), to_code: to.into(), ..Default::default() };
        let grants = vec![grant("00", "10"), grant("10", "02683")];
        for state in ["free", "on-the-way", "left", "assigned", "void", "outside", "elsewhere"] {
            let way_of = v1::NumberWay { state: state.into(), grants: grants.clone(), ..Default::default() };
            assert_vietnamese(&way(Lang::Vi, &way_of));
        }
        let told = way(
            Lang::En,
            &v1::NumberWay { number: "010326500001".into(), state: "left".into(), grants, ..Default::default() },
        );
        assert!(told.starts_with("010326500001: granted, and not assigned yet\n  00 granted"), "{told}");
        assert!(told.find("to 10").unwrap() < told.find("to 02683").unwrap(), "{told}");
    }
}
