//! The time line: a row for each node, line and kind of event, by site, all on one scale.
//!
//! Places along the time are percentages, so that the page zooms by making the rows wider. What comes in large numbers
//! (edits, messages) is one path of at most [`BINS`] steps, never one element each.

use std::collections::BTreeSet;
use std::time::Duration;

use super::html::{bytes, counted, length, moment, safe, second};
use super::story::{Flow, Lead, Span, State, Story};
use super::words;
use crate::tables::count;
use crate::trace::SitePlace;

/// Charts have so many steps: more than a screen has pixels, at little cost.
const BINS: usize = 1_200;
/// Of one node, so many states and so many periods of leading are drawn; a crash loop has tens.
const SPANS_MAX: usize = 400;
/// Faults are drawn in so many rows of a site; more than that at once are only in the table.
const FAULT_ROWS_MAX: usize = 8;
/// So many marks of broken promises are drawn; they cover one another long before.
const MARKS_MAX: usize = 500;
/// Ticks of the axis before the page's script draws finer ones.
const TICKS: u32 = 8;

/// The steps between ticks that people read easily, in seconds.
pub(super) const STEPS: [u64; 18] =
    [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400];

/// The time line with its controls.
pub(super) fn timeline(story: &Story<'_>) -> String {
    let mut html = controls(story);
    html.push_str("<div class=\"scroll\" id=\"scroll\"><div class=\"canvas\" id=\"canvas\">\n");
    html.push_str(&marks(story));
    html.push_str(&row("axis", "time", &axis(story)));
    html.push_str(&row("phases", "phase", &phases(story)));
    for site in 0..story.sites.len() {
        html.push_str(&site_rows(story, site));
    }
    html.push_str("</div></div>\n<p class=\"hint\" id=\"hint\">Point at a bar, or tap it, to read what it is.</p>\n");
    html
}

fn controls(story: &Story<'_>) -> String {
    let zooms =
        [1, 3, 10, 30, 100].map(|zoom| format!("<button type=\"button\" data-zoom=\"{zoom}\">{zoom}×</button>"));
    let shows = [
        ("lane-node", "nodes"),
        ("lane-fault", "faults"),
        ("lane-edits", "edits"),
        ("lane-conflicts", "conflicts"),
        ("lane-line", "messages"),
    ]
    .map(|(class, name)| format!("<label><input type=\"checkbox\" checked data-shows=\"{class}\"> {name}</label>"));
    format!(
        "<div class=\"controls\" data-zero=\"{}\" data-total=\"{}\"><span class=\"zooms\">Zoom {}</span> <span class=\"shows\">{}</span></div>\n{LEGEND}",
        story.zero.as_secs_f64(),
        story.end.as_secs_f64(),
        zooms.concat(),
        shows.concat()
    )
}

const LEGEND: &str = "<ul class=\"legend\">\
<li><i class=\"k up\"></i>node runs</li><li><i class=\"k starts\"></i>starts</li><li><i class=\"k off\"></i>off</li>\
<li><i class=\"k held\"></i>paused</li><li><i class=\"k lead\"></i>leads its group</li>\
<li><i class=\"k f-net\"></i>network</li><li><i class=\"k f-node\"></i>machine</li><li><i class=\"k f-disk\"></i>disk</li>\
<li><i class=\"k f-clock\"></i>clock</li><li><i class=\"k f-ops\"></i>operators</li>\
<li><i class=\"k accepted\"></i>edits accepted here</li><li><i class=\"k arrived\"></i>edits from other sites arrive</li>\
<li><i class=\"k refused\"></i>not accepted</li><li><i class=\"k open\"></i>open conflicts</li>\
<li><i class=\"k decided\"></i>decision</li><li><i class=\"k above\"></i>messages to the site above</li>\
<li><i class=\"k below\"></i>messages from it</li><li><i class=\"k broken\"></i>broken promise</li></ul>\n";

/// Where a moment lies, in percent.
fn percent(story: &Story<'_>, at: Duration) -> f64 {
    100.0 * at.as_secs_f64() / story.end.as_secs_f64()
}

fn row(class: &str, label: &str, lane: &str) -> String {
    format!(
        "<div class=\"row {class}\"><div class=\"label\">{}</div><div class=\"lane\">{lane}</div></div>\n",
        safe(label)
    )
}

/// Lines through all rows: where promises break.
fn marks(story: &Story<'_>) -> String {
    let mut html = String::from("<div class=\"marks\">");
    let healing = story.phases.iter().find(|phase| phase.what == "healing");
    if let Some(healing) = healing {
        let left = percent(story, healing.from);
        html.push_str(&format!("<span class=\"after\" style=\"left:{left:.4}%\"></span>"));
    }
    // As the list has them: one for each promise at each moment.
    let mut drawn: BTreeSet<(Duration, &str)> = BTreeSet::new();
    for (place, violation) in story.outcome.violations.iter().enumerate() {
        if drawn.len() < MARKS_MAX && drawn.insert((violation.at, violation.promise)) {
            let left = percent(story, violation.at);
            html.push_str(&format!("<span class=\"broken\" id=\"broken-{place}\" style=\"left:{left:.4}%\"></span>"));
        }
    }
    html.push_str("</div>\n");
    html
}

fn axis(story: &Story<'_>) -> String {
    let total = story.end.saturating_sub(story.zero).as_secs();
    let step =
        STEPS.into_iter().find(|step| total / step <= u64::from(TICKS)).unwrap_or(86_400 * (1 + total / 864_000));
    let mut html = String::from("<div class=\"ticks\" id=\"ticks\">");
    for seconds in (0..=total).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
        let at = story.zero + Duration::from_secs(seconds);
        html.push_str(&format!("<span style=\"left:{:.4}%\">{}</span>", percent(story, at), second(at, story.zero)));
    }
    html.push_str("</div>");
    html
}

fn phases(story: &Story<'_>) -> String {
    let mut svg = String::from("<svg height=\"18\">");
    for phase in &story.phases {
        let title = format!("{}: {}, {}", phase.what, words::phase(phase.what), length(phase.to - phase.from));
        svg.push_str(&bar(story, phase.from, phase.to, 1, 16, "phase", phase.what, &title));
    }
    svg + "</svg>"
}

/// A bar with its name inside, cut where the bar ends, and all of it as a tooltip.
#[expect(clippy::too_many_arguments, reason = "a drawing call; a struct would only name them twice")]
fn bar(
    story: &Story<'_>,
    from: Duration,
    to: Duration,
    y: u32,
    height: u32,
    class: &str,
    name: &str,
    title: &str,
) -> String {
    let (x, width) = (percent(story, from), (percent(story, to) - percent(story, from)).max(0.0));
    let text = if name.is_empty() || height < 10 {
        String::new()
    } else {
        format!(
            "<svg x=\"{x:.4}%\" y=\"{y}\" width=\"{width:.4}%\" height=\"{height}\"><text x=\"4\" y=\"{}\">{}</text></svg>",
            height - 4,
            safe(name)
        )
    };
    format!(
        "<g><title>{}</title><rect class=\"{class}\" x=\"{x:.4}%\" y=\"{y}\" width=\"{width:.4}%\" height=\"{height}\"/>{text}</g>",
        safe(title)
    )
}

fn site_rows(story: &Story<'_>, site: SitePlace) -> String {
    let Some(plan) = story.sites.get(site) else { return String::new() };
    let mut html = format!(
        "<div class=\"group\" id=\"site-{site}\"><div class=\"site\"><span>{} <small>{} {}</small></span></div>\n",
        safe(&story.name(site)),
        words::tier(plan.tier),
        safe(&plan.code)
    );
    let faults = fault_rows(story, site);
    if !faults.is_empty() {
        html.push_str(&row("lane-fault", "faults", &faults));
    }
    for node in story.nodes_of(site) {
        let name = story.node(node);
        let short = name.split_once('/').map_or(name.as_str(), |(_, number)| number);
        html.push_str(&row("lane-node", &format!("node {short}"), &node_lane(story, node)));
    }
    html.push_str(&row("lane-edits", "edits", &edits_lane(story, site)));
    if story.conflicts.contains_key(&site) {
        html.push_str(&row("lane-conflicts", "conflicts", &conflicts_lane(story, site)));
    }
    if let Some(Some(parent)) = story.parents.get(site) {
        html.push_str(&row("lane-line", "messages", &line_lane(story, site, *parent)));
    }
    html + "</div>\n"
}

/// The faults that meet a site or its nodes, packed into rows.
fn fault_rows(story: &Story<'_>, site: SitePlace) -> String {
    let here = story.faults.iter().filter(|fault| fault.what.sites.contains(&site));
    let mut ends: Vec<Duration> = Vec::new();
    let mut bars = String::new();
    // A name beside a bar of no width needs room before the next.
    let room = story.end / 20;
    for fault in here {
        let place = ends.iter().position(|end| *end <= fault.from).unwrap_or(ends.len());
        if place >= FAULT_ROWS_MAX {
            continue;
        }
        let end = fault.to.max(fault.from + room);
        if place == ends.len() {
            ends.push(end)
        } else {
            ends[place] = end
        }
        let y = 1 + 15 * u32::try_from(place).unwrap_or(0);
        let kind = fault.what.kind.replace('_', " ");
        let title = format!(
            "{kind} ({}): {}; at {}, for {}",
            words::fault(fault.what.kind),
            fault.what.text,
            moment(fault.from, story.zero),
            length(fault.to - fault.from)
        );
        let narrow = fault.to - fault.from < room;
        let class = words::fault_class(fault.what.kind);
        bars.push_str(&bar(story, fault.from, fault.to, y, 13, class, if narrow { "" } else { &kind }, &title));
        if narrow {
            let x = percent(story, fault.to).min(94.0);
            bars.push_str(&format!("<svg x=\"{x:.4}%\" y=\"{y}\" height=\"13\" overflow=\"visible\"><text class=\"beside\" x=\"4\" y=\"10\">{}</text></svg>", safe(&kind)));
        }
    }
    if ends.is_empty() { String::new() } else { format!("<svg height=\"{}\">{bars}</svg>", 15 * ends.len() + 1) }
}

fn node_lane(story: &Story<'_>, node: usize) -> String {
    let mut svg = String::from("<svg height=\"18\">");
    let none: Vec<Span<State>> = Vec::new();
    for span in story.states.get(node).unwrap_or(&none).iter().take(SPANS_MAX) {
        let (class, name, what) = match &span.what {
            State::Starts => ("starts", "", "starts".to_owned()),
            State::Up => ("up", "", "runs".to_owned()),
            State::Off(why) => ("off", why.as_str(), format!("off: {why}")),
        };
        let title = format!(
            "{} {what}, from {} for {}",
            story.node(node),
            moment(span.from, story.zero),
            length(span.to - span.from)
        );
        svg.push_str(&bar(story, span.from, span.to, 2, 14, class, name, &title));
    }
    let held = story.faults.iter().filter(|fault| fault.what.kind == "pause" && fault.what.nodes.contains(&node));
    for fault in held {
        let title = format!("{} is paused for {}", story.node(node), length(fault.to - fault.from));
        svg.push_str(&bar(story, fault.from, fault.to, 2, 14, "held", "paused", &title));
    }
    let no_leads: Vec<Span<Lead>> = Vec::new();
    for span in story.leads.get(node).unwrap_or(&no_leads).iter().take(SPANS_MAX) {
        let (group, term) = span.what;
        // A centre has two groups; each has a line of its own.
        let y = if group == 0 { 12 } else { 6 };
        let title = format!(
            "{} leads group {} of its site in term {term}, from {} for {}",
            story.node(node),
            group + 1,
            moment(span.from, story.zero),
            length(span.to - span.from)
        );
        svg.push_str(&bar(story, span.from, span.to, y, 3, "lead", "", &title));
    }
    svg + "</svg>"
}

/// A chart that stretches with its row; `height` is that of its scale.
fn chart(class: &str, height: u32, paths: &str, title: &str) -> String {
    format!(
        "<svg class=\"{class}\" viewBox=\"0 0 {BINS} {height}\" preserveAspectRatio=\"none\" height=\"{height}\"><title>{}</title>{paths}</svg>",
        safe(title)
    )
}

fn bin(story: &Story<'_>, at: Duration) -> usize {
    ((at.as_secs_f64() / story.end.as_secs_f64() * BINS as f64) as usize).min(BINS - 1)
}

/// One stroke for each bin in which something happened.
fn strokes(story: &Story<'_>, moments: impl Iterator<Item = Duration>, from: u32, to: u32, class: &str) -> String {
    let bins: BTreeSet<usize> = moments.map(|at| bin(story, at)).collect();
    let path: String = bins.iter().map(|bin| format!("M{bin}.5 {from}V{to}")).collect();
    if path.is_empty() { path } else { format!("<path class=\"{class}\" d=\"{path}\"/>") }
}

fn edits_lane(story: &Story<'_>, site: SitePlace) -> String {
    let accepted = || story.ways.iter().filter(|way| way.site == site);
    let refused = || story.not_accepted.iter().filter(|(_, at, _)| *at == site);
    let arrived = story.arrivals.get(&site).map(Vec::as_slice).unwrap_or_default();
    let title = format!(
        "{} accepted here; {} not accepted",
        counted(accepted().count() as u64, "edit"),
        counted(refused().count() as u64, "request")
    );
    let mut paths = strokes(story, arrived.iter().copied(), 10, 16, "arrived");
    paths.push_str(&strokes(story, accepted().map(|way| way.at), 1, 9, "accepted"));
    paths.push_str(&strokes(story, refused().map(|(at, _, _)| *at), 17, 22, "refused"));
    chart("edits", 23, &paths, &title)
}

fn conflicts_lane(story: &Story<'_>, site: SitePlace) -> String {
    let steps = story.conflicts.get(&site).map(Vec::as_slice).unwrap_or_default();
    let most = steps.iter().map(|(_, open)| *open).max().unwrap_or(0);
    let y = |open: u64| 21.0 - 19.0 * open as f64 / most.max(1) as f64;
    let mut path = String::from("M0 21");
    // Of several changes in a bin the last is drawn: there are at most as many steps as bins.
    let mut last = usize::MAX;
    for (at, open) in steps {
        let bin = bin(story, *at);
        if bin == last {
            path.push_str(&format!("V{:.1}", y(*open)));
        } else {
            path.push_str(&format!("H{bin}V{:.1}", y(*open)));
        }
        last = bin;
    }
    path.push_str(&format!("H{BINS}V21Z"));
    let decisions = story.ways.iter().filter(|way| way.site == site && way.work == "decision");
    let decided = strokes(story, decisions.map(|way| way.at), 0, 22, "decided");
    let title = format!(
        "open conflicts: at most {} at once, {} at the end",
        count(most),
        count(steps.last().map_or(0, |(_, open)| *open))
    );
    chart("conflicts", 22, &format!("<path class=\"open\" d=\"{path}\"/>{decided}"), &title)
}

/// Messages over the line to the site above, up and down.
fn line_lane(story: &Story<'_>, site: SitePlace, parent: SitePlace) -> String {
    let most = story.flows.values().flat_map(|flows| binned(story, flows)).max().unwrap_or(1).max(1);
    let area = |from: SitePlace, to: SitePlace, class: &str, sign: f64| {
        let flows = story.flows.get(&(from, to)).map(Vec::as_slice).unwrap_or_default();
        let bins = binned(story, flows);
        let mut path = String::from("M0 15");
        let mut last = u64::MAX;
        for (place, messages) in bins.iter().enumerate() {
            if *messages != last {
                // The root, so that one edit shows beside a catching-up of thousands.
                let height = 14.0 * (*messages as f64 / most as f64).sqrt();
                path.push_str(&format!("H{place}V{:.1}", 15.0 - sign * height));
                last = *messages;
            }
        }
        format!("<path class=\"{class}\" d=\"{path}H{BINS}V15Z\"/>")
    };
    let sum = |from, to| {
        let flows = story.flows.get(&(from, to)).map(Vec::as_slice).unwrap_or_default();
        let (messages, size) = flows.iter().fold((0, 0), |(m, b), flow| (m + flow.messages, b + flow.bytes));
        format!("{} ({})", counted(messages, "message"), bytes(size))
    };
    let title = format!("to {}: {}; from it: {}", story.name(parent), sum(site, parent), sum(parent, site));
    let paths = area(site, parent, "above", 1.0) + &area(parent, site, "below", -1.0);
    chart("line", 30, &paths, &title)
}

fn binned(story: &Story<'_>, flows: &[Flow]) -> Vec<u64> {
    let mut bins = vec![0; BINS];
    for flow in flows {
        bins[bin(story, flow.at)] += flow.messages;
    }
    bins
}
