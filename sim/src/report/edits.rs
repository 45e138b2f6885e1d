//! Every edit's way: how long until each tier held it.

use std::time::Duration;

use dinhba_core::units::Tier;

use super::html::{Cell, counted, length, moment, safe, table};
use super::story::{Story, Way, short};
use super::words;
use crate::tables::count;

/// So many edits stand in the table: those that did not come everywhere and the slowest first, then a fair part of the rest.
pub(super) const ROWS_MAX: usize = 400;
/// Of these, so many may be chosen for being slow.
const SLOW_MAX: usize = 200;

/// Bounds of the columns of the latency table.
const BOUNDS: [(u64, &str); 10] = [
    (1_000, "1 s"),
    (2_000, "2 s"),
    (5_000, "5 s"),
    (15_000, "15 s"),
    (60_000, "1 min"),
    (300_000, "5 min"),
    (1_800_000, "30 min"),
    (21_600_000, "6 h"),
    (86_400_000, "1 day"),
    (u64::MAX, "more"),
];

/// The charts and the table.
pub(super) fn edits(story: &Story<'_>) -> String {
    if story.ways.is_empty() {
        return "<p>No edit was accepted.</p>".to_owned();
    }
    let mut html = latency(story);
    html.push_str(&scatter(story));
    html.push_str(&ways(story));
    html
}

fn delay(way: &Way, tier: Tier) -> Option<Duration> {
    way.arrived[tier as usize].map(|at| at.saturating_sub(way.at))
}

/// Whether a tier is one where the edit had to come from elsewhere.
fn is_elsewhere(story: &Story<'_>, way: &Way, tier: Tier) -> bool {
    story.tier(way.site) != Some(tier)
}

/// For each tier, how many edits took how long.
fn latency(story: &Story<'_>) -> String {
    let mut head = vec!["within"];
    head.extend(Tier::ALL.map(words::tier));
    let all = Tier::ALL.map(|tier| story.ways.iter().filter(|way| is_elsewhere(story, way, tier)).count());
    let shade = |part: usize, column: usize| {
        let share = part as f64 / all[column].max(1) as f64;
        let text = if part == 0 { "·".to_owned() } else { count(part as u64) };
        Cell::Markup(format!("<span class=\"heat\" style=\"--share:{share:.3}\">{text}</span>"))
    };
    let mut rows = Vec::new();
    let mut least = 0;
    for (bound, name) in BOUNDS {
        let within = |way: &&Way, tier| {
            is_elsewhere(story, way, tier)
                && delay(way, tier).is_some_and(|delay| (least..bound).contains(&(delay.as_millis() as u64)))
        };
        let counts = Tier::ALL.map(|tier| story.ways.iter().filter(|way| within(way, tier)).count());
        least = bound;
        if counts.iter().all(|count| *count == 0) {
            continue;
        }
        let mut row = vec![Cell::text(name)];
        row.extend(counts.into_iter().enumerate().map(|(column, part)| shade(part, column)));
        rows.push(row);
    }
    let never = Tier::ALL.map(|tier| story.ways.iter().filter(|way| way.arrived[tier as usize].is_none()).count());
    let mut row = vec![Cell::text("not seen there")];
    row.extend(never.into_iter().enumerate().map(|(column, part)| shade(part, column)));
    rows.push(row);
    format!(
        "<h3>How long until each tier held an edit</h3><p>Each column counts the edits that were accepted at another tier, by how \
         long after the acceptance a site of this tier was first seen to hold them. Sites are looked at about every {}; what \
         came in between counts from the next look.</p>{}",
        length(looked_every(story)),
        table("heats", &head, &rows)
    )
}

/// How often a run looks at its sites.
fn looked_every(story: &Story<'_>) -> Duration {
    crate::run::looks_every(story.scenario.lasts)
}

/// Each edit as a dot: when it was accepted, and how long until the last tier held it.
fn scatter(story: &Story<'_>) -> String {
    const WIDTH: f64 = 1_000.0;
    const HEIGHT: f64 = 200.0;
    let longest = story.ways.iter().filter_map(Way::took).max().unwrap_or_default().as_secs_f64().max(1.0);
    // Logarithmic from a tenth of a second.
    let decades = (longest / 0.1).log10().max(1.0);
    let y = |seconds: f64| HEIGHT - HEIGHT * ((seconds.max(0.1) / 0.1).log10() / decades).clamp(0.0, 1.0);
    let x = |at: Duration| WIDTH * at.as_secs_f64() / story.end.as_secs_f64();
    let mut dots = Tier::ALL.map(|_| std::collections::BTreeSet::new());
    for way in &story.ways {
        if let (Some(took), Some(tier)) = (way.took(), story.tier(way.site)) {
            dots[tier as usize].insert((x(way.at) as i64, y(took.as_secs_f64()) as i64));
        }
    }
    let paths: String = Tier::ALL
        .map(|tier| {
            let path: String = dots[tier as usize].iter().map(|(x, y)| format!("M{x} {y}h0")).collect();
            format!("<path class=\"dots tier-{}\" d=\"{path}\"/>", tier.name())
        })
        .concat();
    let lines: Vec<(f64, &str)> = [
        (1.0, "1 s"),
        (10.0, "10 s"),
        (60.0, "1 min"),
        (600.0, "10 min"),
        (3_600.0, "1 h"),
        (36_000.0, "10 h"),
        (86_400.0, "1 day"),
        (259_200.0, "3 days"),
    ]
    .into_iter()
    .filter(|(seconds, _)| *seconds <= longest)
    .collect();
    let grid: String =
        lines.iter().map(|(s, _)| format!("<path class=\"grid\" d=\"M0 {0:.1}H{WIDTH}\"/>", y(*s))).collect();
    let labels: String = lines
        .iter()
        .map(|(seconds, name)| format!("<span style=\"top:{:.2}%\">{name}</span>", 100.0 * y(*seconds) / HEIGHT))
        .collect();
    let legend = Tier::ALL
        .map(|tier| format!("<li><i class=\"k tier-{}\"></i>accepted at a {}</li>", tier.name(), words::tier(tier)));
    format!(
        "<h3>When, and how long to the last tier</h3><p>Each dot is an edit: from left to right when it was accepted, the higher \
         the longer until all four tiers held it. A dark commune shows as a slope: what waited, waited for the same line.</p>\
         <ul class=\"legend\">{}</ul><div class=\"scatter\"><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\">{grid}{paths}</svg>{labels}</div>",
        legend.concat()
    )
}

/// Which edits stand in the table, by their places.
fn chosen(story: &Story<'_>) -> Vec<usize> {
    let all = story.ways.len();
    if all <= ROWS_MAX {
        return (0..all).collect();
    }
    let mut slowest: Vec<usize> = (0..all).collect();
    // What never came everywhere is the slowest of all.
    slowest.sort_by_key(|place| std::cmp::Reverse(story.ways[*place].took().unwrap_or(Duration::MAX)));
    let mut chosen: Vec<usize> = slowest.drain(..SLOW_MAX).collect();
    slowest.sort_unstable();
    let rest = ROWS_MAX - SLOW_MAX;
    chosen.extend((0..rest).map(|place| slowest[place * slowest.len() / rest]));
    chosen.sort_unstable();
    chosen
}

fn ways(story: &Story<'_>) -> String {
    let rows: Vec<Vec<Cell>> = chosen(story)
        .into_iter()
        .map(|place| {
            let way = &story.ways[place];
            let mut row = vec![
                Cell::Number(moment(way.at, story.zero)),
                Cell::text(story.name(way.site)),
                Cell::text(way.work),
                Cell::Markup(format!(
                    "<code title=\"record {}, request {}\">{}</code>",
                    way.record,
                    safe(&way.request),
                    short(&way.record)
                )),
            ];
            row.extend(Tier::ALL.map(|tier| match delay(way, tier) {
                _ if story.tier(way.site) == Some(tier) => Cell::Markup("<b>here</b>".to_owned()),
                Some(delay) => Cell::text(format!("+{}", length(delay))),
                None => Cell::Markup("<em>not seen</em>".to_owned()),
            }));
            row
        })
        .collect();
    let all = story.ways.len();
    let note = if all > rows.len() {
        format!(
            "{} of {} are listed: those that did not come everywhere and the slowest, and of the others a part that is spread \
             evenly.",
            count(rows.len() as u64),
            counted(all as u64, "edit")
        )
    } else {
        format!("All {} are listed.", counted(all as u64, "edit"))
    };
    let mut head = vec!["accepted at", "by", "what", "record"];
    head.extend(Tier::ALL.map(words::tier));
    format!(
        "<h3>Edit by edit</h3><p>{note}</p><p><label>Filter <input type=\"search\" id=\"filter\" placeholder=\"a site, a kind of work, a record, “not seen”\"></label> <span id=\"shown\"></span></p>\
         <div class=\"tall\">{}</div>",
        table("ways", &head, &rows)
    )
}
