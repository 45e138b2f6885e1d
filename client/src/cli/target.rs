//! Targets on the command line: how they are set, changed and withdrawn, and how far they are.

use std::io;

use dinhba_core::date::Date;
use dinhba_core::event::Event;
use dinhba_core::ids::{RecordId, RequestId};
use dinhba_core::targets::Aim;
use dinhba_proto::v1;
use serde_json::{Value as Json, json};

use super::sheet::{Cell, Sheet, Tint, column};
use super::show::plain;
use super::wording::{send, show_accepted};
use super::{Desk, Failure, event, export, request};
use crate::client::Client;
use crate::language::{Lang, Message, day, say};
use crate::request::{Context, EditBuilder};
use crate::targets::{ChangeTarget, SetTarget, TargetsOf};

/// What can be said of targets, by a registrar of the unit that sets them.
#[derive(Debug, clap::Subcommand)]
pub enum Target {
    /// The targets that bear on a unit: of it, of those within it and of those above it
    List(Asked),
    /// Sets a target for a unit within one's own: all sites below and above learn of it
    Set {
        /// The unit, by code and day (02683@2025-06-30) or id (u-…)
        unit: String,
        /// The event that counts, as `dinhba events` lists them
        #[arg(value_parser = event::event)]
        event: Event,
        /// How many there are to be
        count: u64,
        /// The first day
        #[arg(long, value_name = "DAY")]
        from: Date,
        /// The last day
        #[arg(long, value_name = "DAY")]
        until: Date,
        /// The plan or decision by which it is so
        #[arg(long)]
        grounds: String,
        /// The unit that sets it; without it, your own
        #[arg(long, value_name = "UNIT")]
        by: Option<String>,
        /// Does it again, under a request whose outcome was not known
        #[arg(long, value_parser = request)]
        request: Option<RequestId>,
    },
    /// Gives a target another count or another last day
    Change {
        /// The target (r-…)
        record: RecordId,
        /// How many there are to be
        #[arg(long, required_unless_present = "until")]
        count: Option<u64>,
        /// The last day
        #[arg(long, value_name = "DAY")]
        until: Option<Date>,
        /// The plan or decision by which it is so
        #[arg(long)]
        grounds: String,
    },
    /// Withdraws a target: it counts no more, and its history stays
    Withdraw {
        /// The target (r-…)
        record: RecordId,
        /// The plan or decision by which it is so
        #[arg(long)]
        grounds: String,
    },
}

/// Which targets are wanted.
#[derive(Debug, clap::Args)]
pub struct Asked {
    /// The unit: its code, code and day (02683@2025-06-30) or id (u-…); without it, your own, or the site's if that is below it
    #[arg(long)]
    unit: Option<String>,
    /// Only of this event
    #[arg(long, value_parser = event::event)]
    event: Option<Event>,
    /// Also what ended, if it was not before this day; without it, thirty days ago
    #[arg(long, value_name = "DAY")]
    since: Option<Date>,
}

pub(super) async fn run(
    client: &Client,
    context: &Context,
    desk: &mut Desk<'_>,
    command: Target,
) -> Result<(), Failure> {
    let known = async |record, grounds: &str| ChangeTarget::of(&client.get(context, record).await?, grounds);
    let (edit, again) = match command {
        Target::List(Asked { unit, event, since }) => {
            let asked = TargetsOf { unit: unit.unwrap_or_default(), event, since };
            let reply = client.targets(context, &asked).await?;
            desk.show(|lang| list(lang, &reply), || json_of(&reply))?;
            remark_if_none(desk, &reply);
            return Ok(());
        }
        Target::Set { unit, event, count, from, until, grounds, by, request } => {
            let aim = Aim::new(from, until, count).map_err(|error| Failure::usage(error.to_string()))?;
            let units = client.units().await?;
            let set = SetTarget::of(export::find_unit(&units, &unit)?, event, aim, &grounds);
            let set = match by {
                Some(by) => set.by(export::find_unit(&units, &by)?),
                None => set,
            };
            (set.build(context), request)
        }
        Target::Change { record, count, until, grounds } => {
            let mut change = known(record, &grounds).await?;
            if let Some(count) = count {
                change = change.count(count);
            }
            if let Some(last) = until {
                change = change.last(last);
            }
            (built(&change, context)?, None)
        }
        Target::Withdraw { record, grounds } => (built(&known(record, &grounds).await?.withdrawn(), context)?, None),
    };
    show_accepted(desk, &send(client, again, &edit).await?)
}

fn built(change: &ChangeTarget, context: &Context) -> Result<EditBuilder, Failure> {
    change.build(context).map_err(|error| Failure::usage(error.to_string()))
}

fn remark_if_none(desk: &mut Desk<'_>, reply: &v1::TargetsReply) {
    if reply.targets.is_empty() {
        desk.remark(&say!("no-targets"));
    }
}

fn unit(code: &str, name: &str) -> String {
    plain(format!("{code} {name}").trim())
}

fn list(lang: Lang, reply: &v1::TargetsReply) -> String {
    let mut rows = Sheet::titled(
        lang,
        [
            column("target"),
            column("home").wraps(14),
            column("happened").wraps(16).spare(2),
            column("event").spare(3),
            column("count").number(),
            column("from"),
            column("until"),
            column("set-by").wraps(12).spare(1),
        ],
    );
    for target in &reply.targets {
        rows.add_row([
            target.record.clone(),
            unit(&target.unit_code, &target.unit_name),
            plain(&target.event_label),
            target.event.clone(),
            target.count.to_string(),
            lang.days(&target.first),
            lang.days(&target.last),
            unit(&target.set_by_code, &target.set_by_name),
        ]);
    }
    rows.text()
}

/// Signs of a bar: as wide as the longest of the figures.
const BAR: u64 = 20;

/// What is done, and what is due and is not done, of a count.
fn bar(progress: &v1::Progress, count: u64) -> String {
    let signs = |part: u64| {
        let signs = (u128::from(part.min(count)) * u128::from(BAR)).div_ceil(u128::from(count.max(1)));
        usize::try_from(signs).unwrap_or(0)
    };
    let (done, due) = (signs(progress.done), signs(progress.due));
    "█".repeat(done) + &"░".repeat(due.saturating_sub(done))
}

/// What is to be expected, as an officer says it.
fn outlook(lang: Lang, progress: &v1::Progress, count: u64) -> Cell {
    let days = progress.days_early.unwrap_or_default();
    let early = match days {
        0 => say!("on-the-last-day"),
        1.. => say!("days-early", days = days.unsigned_abs()),
        _ => say!("days-late", days = days.unsigned_abs()),
    };
    let tint = if days < 0 { Tint::Bad } else { Tint::Good };
    match progress.outlook.as_str() {
        "reached" => {
            let text = say!("target-reached", day = day(&progress.day), early = early);
            Cell::from(text.text(lang)).tinted(tint)
        }
        "expected" => {
            let text = say!("target-expected", day = day(&progress.day), early = early);
            Cell::from(text.text(lang)).tinted(tint)
        }
        "never" => Cell::from(say!("target-never").text(lang)).tinted(Tint::Bad),
        "not-begun" => Cell::from(say!("target-not-begun").text(lang)),
        _ if count == 0 => Cell::from(""),
        // Of a newer version.
        other => Cell::from(plain(other)),
    }
}

/// How many a day, to one digit.
fn pace(progress: &v1::Progress) -> String {
    let tenths = u128::from(progress.recent) * 10 / u128::from(progress.recent_days.max(1));
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn percent(done: u64, count: u64) -> String {
    match count {
        0 => String::new(),
        count => format!("{}%", u128::from(done) * 100 / u128::from(count)),
    }
}

/// How far the targets are: each by itself, and below it the units that make it up, the slowest first.
fn table(lang: Lang, reply: &v1::TargetsReply) -> String {
    let mut out = Vec::new();
    for target in &reply.targets {
        let columns = [
            column("home").wraps(14),
            column("done").number(),
            column("done-of").number(),
            column("").number(),
            column("due-by-now").number().spare(3),
            column("a-day").number().spare(2),
            column("").spare(4),
            column("forecast").wraps(20).spare(1),
        ];
        let mut rows = Sheet::titled(lang, columns);
        let mut add = |name: String, count: u64, progress: &v1::Progress| {
            let of = if count == 0 { String::new() } else { count.to_string() };
            let due = if count == 0 { String::new() } else { progress.due.to_string() };
            let cells: [Cell; 8] = [
                name.into(),
                progress.done.to_string().into(),
                of.into(),
                percent(progress.done, count).into(),
                due.into(),
                pace(progress).into(),
                bar(progress, count).into(),
                outlook(lang, progress, count),
            ];
            rows.add_row(cells);
        };
        if let Some(progress) = &target.progress {
            add(unit(&target.unit_code, &target.unit_name), target.count, progress);
        }
        for below in &target.below {
            let progress = below.progress.clone().unwrap_or_default();
            add(format!("  {}", unit(&below.unit_code, &below.unit_name)), below.part, &progress);
        }
        let left = match &target.progress {
            Some(progress) => say!("days-left", days = progress.days_left),
            None => Message::plain(""),
        };
        let head = say!(
            "target-head",
            label = plain(&target.event_label),
            event = &target.event,
            unit = unit(&target.unit_code, &target.unit_name),
            count = target.count,
            first = day(&target.first),
            last = day(&target.last),
            left = left,
        );
        out.push(format!("{}\n{}\n", head.text(lang), rows.text()));
    }
    out.join("\n")
}

fn progress_json(progress: Option<&v1::Progress>) -> Json {
    progress.map_or(Json::Null, |progress| {
        json!({
            "done": progress.done, "due": progress.due, "days_left": progress.days_left, "recent": progress.recent,
            "recent_days": progress.recent_days, "outlook": progress.outlook, "day": progress.day,
            "days_early": progress.days_early,
        })
    })
}

fn json_of(reply: &v1::TargetsReply) -> Json {
    let below = |below: &v1::UnitProgress| {
        json!({
            "unit": below.unit, "unit_code": below.unit_code, "unit_name": below.unit_name, "part": below.part,
            "own": below.own, "persons": below.persons, "progress": progress_json(below.progress.as_ref()),
        })
    };
    let target = |target: &v1::Target| {
        json!({
            "record": target.record, "shard": target.shard, "set_by": target.set_by, "set_by_code": target.set_by_code,
            "set_by_name": target.set_by_name, "unit": target.unit, "unit_code": target.unit_code,
            "unit_name": target.unit_name, "event": target.event, "label": target.event_label, "first": target.first,
            "last": target.last, "count": target.count, "progress": progress_json(target.progress.as_ref()),
            "below": target.below.iter().map(below).collect::<Vec<_>>(),
        })
    };
    json!({ "today": reply.today, "targets": reply.targets.iter().map(target).collect::<Vec<_>>() })
}

/// A row for each target and, by its record, one for each unit below it.
fn write_csv(out: &mut dyn io::Write, reply: &v1::TargetsReply) -> Result<(), csv::Error> {
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record([
        "target",
        "unit",
        "unit_name",
        "event",
        "first",
        "last",
        "count",
        "done",
        "due",
        "days_left",
        "recent",
        "recent_days",
        "outlook",
        "day",
        "days_early",
    ])?;
    for target in &reply.targets {
        let whole = (&target.unit_code, &target.unit_name, target.count, target.progress.as_ref());
        let below = target.below.iter().map(|row| (&row.unit_code, &row.unit_name, row.part, row.progress.as_ref()));
        for (code, name, count, progress) in std::iter::once(whole).chain(below) {
            let Some(progress) = progress else { continue };
            writer.write_record([
                &target.record,
                code,
                name,
                &target.event,
                &target.first,
                &target.last,
                &count.to_string(),
                &progress.done.to_string(),
                &progress.due.to_string(),
                &progress.days_left.to_string(),
                &progress.recent.to_string(),
                &progress.recent_days.to_string(),
                &progress.outlook,
                &progress.day,
                &progress.days_early.map(|days| days.to_string()).unwrap_or_default(),
            ])?;
        }
    }
    Ok(writer.flush()?)
}

/// How far the targets are that bear on a unit.
pub(super) async fn show_progress(
    client: &Client,
    context: &Context,
    desk: &mut Desk<'_>,
    (unit, as_csv): (Option<String>, bool),
) -> Result<(), Failure> {
    let asked = TargetsOf { unit: unit.unwrap_or_default(), ..TargetsOf::default() };
    let reply = client.targets(context, &asked).await?;
    match as_csv {
        true => write_csv(&mut *desk.out, &reply).map_err(io::Error::from)?,
        false => desk.show(|lang| table(lang, &reply), || json_of(&reply))?,
    }
    remark_if_none(desk, &reply);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::vietnamese::assert_vietnamese;

    fn reply() -> v1::TargetsReply {
        let progress = |done, due, outlook: &str, days_early| v1::Progress {
            done,
            due,
            days_left: 40,
            recent: 91,
            recent_days: 28,
            outlook: outlook.into(),
            day: "2026-12-31".into(),
            days_early,
        };
        let row = |code: &str, part, progress| v1::UnitProgress {
            unit_code: code.into(),
            part,
            progress: Some(progress),
            ..v1::UnitProgress::default()
        };
        let target = v1::Target {
            unit_code: "082".into(),
            unit_name: "Huyện Bát Xát".into(),
            event: "card-delivered".into(),
            event_label: "Trả thẻ căn cước".into(),
            first: "2026-10-01".into(),
            last: "2027-02-16".into(),
            count: 1000,
            progress: Some(progress(600, 500, "expected", Some(47))),
            below: vec![
                row("02683", 500, progress(100, 250, "never", None)),
                row("02686", 500, progress(500, 250, "reached", Some(-3))),
            ],
            ..v1::Target::default()
        };
        let above = v1::Target {
            unit_code: "10".into(),
            below: vec![row("082", 0, v1::Progress { done: 600, ..v1::Progress::default() })],
            ..v1::Target::default()
        };
        v1::TargetsReply { today: "2026-11-30".into(), targets: vec![target, above] }
    }

    #[test]
    fn a_target_is_shown_with_its_forecast_and_who_falls_behind() {
        let shown = table(Lang::En, &reply());
        let line = |start: &str| shown.lines().find(|line| line.trim_start().starts_with(start)).unwrap();
        let whole = line("082 Huyện Bát Xát ");
        assert!(whole.contains("60%") && whole.contains("3.2"), "{shown}");
        assert!(whole.contains("at this pace on 2026-12-31, 47 days early"), "{shown}");
        assert_eq!(whole.matches('█').count(), 12, "{shown}");
        let slow = line("02683");
        assert_eq!((slow.matches('█').count(), slow.matches('░').count()), (4, 6), "{shown}");
        assert!(slow.contains("not at this pace") && line("02686").contains("reached on 2026-12-31, 3 days late"));
        assert!(shown.contains("Trả thẻ căn cước (card-delivered): 082 Huyện Bát Xát, 1000 from"), "{shown}");
        assert!(shown.contains("40 days left"), "{shown}");
    }

    #[test]
    fn targets_are_told_in_vietnamese() {
        let told = table(Lang::Vi, &reply());
        assert!(told.contains("với đà này đạt ngày 31/12/2026, sớm 47 ngày") && told.contains("trễ 3 ngày"), "{told}");
        assert_vietnamese(&told);
        assert_vietnamese(&list(Lang::Vi, &reply()));
    }

    #[test]
    fn a_file_has_a_row_for_each_target_and_unit() {
        let mut out = Vec::new();
        write_csv(&mut out, &reply()).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 1 + 3 + 1, "{text}");
        assert!(text.contains(
            ",082,Huyện Bát Xát,card-delivered,2026-10-01,2027-02-16,1000,600,500,40,91,28,expected,2026-12-31,47"
        ));
        assert_eq!(json_of(&reply())["targets"][0]["below"][1]["progress"]["days_early"], -3);
        assert_eq!(json_of(&reply())["targets"][1]["progress"], Json::Null);
    }
}
