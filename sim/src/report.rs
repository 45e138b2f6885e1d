//! One run as a page for people: the verdict first, then the tree, the time line, the lines between sites, every edit's way
//! and the conflicts.
//!
//! Promises: the page is one file that needs nothing else; text from the run cannot become markup; its size has a bound
//! for each part, and where something is left out the page says so. It works without its script, which only zooms, filters
//! and shows tooltips where there is no pointer. Times count from when the officers began, as in scenario files.
//!
//! Limits: it shows what the trace has, which is looked at about every second: what came and went in between is not there.

use std::collections::BTreeMap;
use std::time::Duration;

use dinhba_core::units::Tier;

use crate::run::Outcome;
use crate::scenario::{Scenario, What};
use crate::tables::count;
use crate::trace::{Entry, Event, SitePlace};

use html::{Cell, bytes, counted, length, moment, safe, second, table};
use story::Story;

mod edits;
mod html;
mod story;
mod timeline;
mod words;

const STYLE: &str = include_str!("report/page.css");
const SCRIPT: &str = include_str!("report/page.js");

/// So many violations are listed, and drawn; the rest is counted.
const VIOLATIONS_MAX: usize = 50;
/// Of what one look found broken of a promise, so many texts.
const TEXTS_MAX: usize = 5;
/// So many events before the first violation are told, and so many after it.
const BEFORE_MAX: usize = 20;
/// So many edits among them: the rest of what happened is rarer, and says more.
const EDITS_BEFORE_MAX: usize = 8;
const AFTER_MAX: usize = 10;
/// So many events are told at the end of the page.
const LOG_MAX: usize = 600;
/// So many decisions, and so many kinds of refusals, are listed.
const LIST_MAX: usize = 100;

/// The page of a run; `replay` is the command that runs it again.
#[must_use]
pub fn page(scenario: &Scenario, outcome: &Outcome, replay: &str) -> String {
    let story = Story::of(scenario, outcome);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{} — dinhba simulator</title>\n<style>\n{STYLE}</style></head><body>\n",
        safe(&scenario.name)
    );
    html.push_str(&verdict(&story, replay));
    let parts: [(&str, &str, String); 8] = [
        ("tree", "The tree", tree(&story)),
        ("faults", "What went wrong", faults(&story)),
        ("time", "Time line", timeline_part(&story)),
        ("edits", "Every edit’s way", edits::edits(&story)),
        ("conflicts", "Conflicts and decisions", conflicts(&story)),
        ("lines", "Messages between sites", lines(&story)),
        ("people", "Officers", people(&story)),
        ("more", "Settings, figures and log", more(&story)),
    ];
    html.push_str("<nav>");
    for (id, title, _) in &parts {
        html.push_str(&format!("<a href=\"#{id}\">{title}</a> "));
    }
    html.push_str("</nav>\n<main>\n");
    for (id, title, body) in &parts {
        html.push_str(&format!("<section id=\"{id}\"><h2>{title}</h2>\n{body}</section>\n"));
    }
    html.push_str(&format!("</main>\n<script>\n{SCRIPT}</script></body></html>\n"));
    html
}

/// The part of a run in which a moment lies.
fn phase_at(story: &Story<'_>, at: Duration) -> &'static str {
    story.phases.iter().rev().find(|phase| phase.from <= at).map_or("", |phase| phase.what)
}

fn verdict(story: &Story<'_>, replay: &str) -> String {
    let (scenario, outcome) = (story.scenario, story.outcome);
    let broken = outcome.violations.len() as u64;
    let (class, words) = if outcome.holds() {
        ("good", "Every promise was kept".to_owned())
    } else {
        ("bad", format!("{}: a promise is broken", counted(broken, "violation")))
    };
    let mut html = format!(
        "<header><p class=\"kind\">dinhba simulator · a run in virtual time, synthetic data only</p><h1>{}</h1>\n\
         <p class=\"verdict {class}\">{words}</p>\n",
        safe(&scenario.name.replace('_', " "))
    );
    html.push_str(&violations(story));
    for paragraph in scenario.about.split("\n\n") {
        html.push_str(&format!("<p class=\"about\">{}</p>\n", safe(paragraph)));
    }
    html.push_str(&format!("<p>{}</p>\n", safe(&in_short(story))));
    html.push_str(&format!(
        "<dl class=\"replay\"><dt>Seed</dt><dd><code>{}</code></dd><dt>Run it again</dt><dd><code>{}</code></dd>\
         <dt>Hash of all that happened</dt><dd><code>{}</code></dd></dl></header>\n",
        scenario.seed,
        safe(replay),
        safe(&outcome.hash)
    ));
    html
}

/// The run in a few sentences.
fn in_short(story: &Story<'_>) -> String {
    let scenario = story.scenario;
    let named = |number: usize, noun: &str| counted(number as u64, noun);
    let decisions = story.ways.iter().filter(|way| way.work == "decision").count();
    let begun = story.faults.iter().filter(|fault| fault.what.place < scenario.faults.len()).count();
    let mut text = format!(
        "{} with {} ran for {} of virtual time, of which officers worked {}. Of {}, {} were accepted ({} of them decided a \
         conflict). {} happened.",
        named(story.sites.len(), "site"),
        named(story.outcome.nodes.len().max(scenario.tree.nodes_in_all()), "node"),
        length(story.end),
        length(scenario.lasts),
        named(story.ways.len() + story.not_accepted.len(), "edit"),
        count(story.ways.len() as u64),
        count(decisions as u64),
        named(begun, "fault"),
    );
    let healing = story.phases.iter().find(|phase| phase.what == "healing");
    match (healing, story.in_step) {
        (Some(healing), Some(at)) => {
            text.push_str(&format!(
                " When all faults were over, the sites were in step after {} (allowed: {}).",
                length(at.saturating_sub(healing.from)),
                length(scenario.settles_within)
            ));
        }
        (Some(_), None) => {
            text.push_str(&format!(
                " When all faults were over, the sites did not come in step within {}.",
                length(scenario.settles_within)
            ));
        }
        (None, _) => text.push_str(" The run ended before the faults were over."),
    }
    text
}

/// What was seen, and how often.
type Texts<'a> = BTreeMap<&'a str, u64>;

fn violations(story: &Story<'_>) -> String {
    let all = &story.outcome.violations;
    let Some(first) = all.iter().min_by_key(|violation| violation.at) else { return String::new() };
    let mut html = String::from("<ol class=\"violations\">\n");
    // One look may find many: they stand together, each text once.
    let mut groups: BTreeMap<(Duration, &str), (usize, Texts<'_>)> = BTreeMap::new();
    for (place, violation) in all.iter().enumerate() {
        let (_, texts) = groups.entry((violation.at, violation.promise)).or_insert((place, Texts::new()));
        *texts.entry(&violation.text).or_default() += 1;
    }
    for ((at, promise), (place, texts)) in groups.iter().take(VIOLATIONS_MAX) {
        let text = |(text, times): (&&str, &u64)| match times {
            1 => format!("<li>{}</li>", safe(text)),
            times => format!("<li>{} ({} times)</li>", safe(text), count(*times)),
        };
        let more = match texts.len().saturating_sub(TEXTS_MAX) {
            0 => String::new(),
            more => format!("<li>and {} more</li>", count(more as u64)),
        };
        html.push_str(&format!(
            "<li><b>{}</b> at {} (phase “{}”). <small>The promise: {}</small><ul>{}{more}</ul>\
             <a href=\"#broken-{place}\" data-jump=\"{}\">show it on the time line</a></li>\n",
            safe(promise),
            moment(*at, story.zero),
            phase_at(story, *at),
            words::promise(promise),
            texts.iter().take(TEXTS_MAX).map(text).collect::<String>(),
            at.as_secs_f64(),
        ));
    }
    html.push_str("</ol>\n");
    if groups.len() > VIOLATIONS_MAX {
        html.push_str(&format!("<p>And {} more.</p>\n", count((groups.len() - VIOLATIONS_MAX) as u64)));
    }
    html.push_str(&format!(
        "<h3>What happened around the first</h3>\n<p>A promise is found broken when a check looks; what broke it happened \
         before. Messages and most edits are left out.</p>\n{}",
        around(story, first.at)
    ));
    html
}

/// The events before a moment and a few after it.
fn around(story: &Story<'_>, at: Duration) -> String {
    let entries = &story.outcome.entries;
    let middle = entries.iter().position(|entry| matches!(entry.event, Event::Violation { .. }) || entry.at > at);
    let middle = middle.unwrap_or(entries.len());
    let is_told = |entry: &&Entry| !matches!(entry.event, Event::Traffic { .. } | Event::Arrived { .. });
    let is_edit = |entry: &&Entry| matches!(entry.event, Event::Accepted { .. } | Event::NotAccepted { .. });
    let mut edits = 0;
    let few_edits = |entry: &&Entry| {
        edits += usize::from(is_edit(entry));
        !is_edit(entry) || edits <= EDITS_BEFORE_MAX
    };
    let before = entries[..middle].iter().rev().filter(is_told).filter(few_edits);
    let mut before: Vec<&Entry> = before.take(BEFORE_MAX + EDITS_BEFORE_MAX).collect();
    before.reverse();
    let after = entries[middle..].iter().filter(is_told).take(AFTER_MAX);
    log(story, before.into_iter().chain(after))
}

/// Events in words, one on a line.
fn log<'e>(story: &Story<'_>, entries: impl Iterator<Item = &'e Entry>) -> String {
    let mut html = String::from("<ol class=\"log\">\n");
    for entry in entries {
        let Some(text) = story.tell(&entry.event) else { continue };
        let class = match entry.event {
            Event::Violation { .. } => " class=\"bad\"",
            Event::FaultBegins { .. } | Event::NodeStops { .. } => " class=\"odd\"",
            _ => "",
        };
        html.push_str(&format!("<li{class}><time>{}</time> {}</li>\n", moment(entry.at, story.zero), safe(&text)));
    }
    html + "</ol>\n"
}

fn tree(story: &Story<'_>) -> String {
    let mut html = String::from(
        "<p>Each box is a site: the nodes that serve one office. Officers work at any of them, also when the line to the one \
         above is cut; edits travel up and down along the lines until all sites of a commune’s records hold the same.</p>\n\
         <ul class=\"tree\">\n",
    );
    branch(story, 0, &mut html);
    html + "</ul>\n"
}

fn branch(story: &Story<'_>, site: SitePlace, html: &mut String) {
    let Some(plan) = story.sites.get(site) else { return };
    let accepted = story.ways.iter().filter(|way| way.site == site).count() as u64;
    let faults = story.faults.iter().filter(|fault| fault.what.sites.contains(&site)).count() as u64;
    let nodes = story.nodes_of(site).len().max(usize::from(plan.nodes)) as u64;
    let shards = match plan.tier {
        Tier::Commune => String::new(),
        _ => format!(" · records of {}", counted(plan.shards.len() as u64, "commune")),
    };
    let faults = if faults > 0 { format!(" · <b>{}</b>", counted(faults, "fault")) } else { String::new() };
    let open = story.conflicts.get(&site).and_then(|steps| steps.last()).map_or(0, |(_, open)| *open);
    let open = if open > 0 { format!(" · {} open at the end", counted(open, "conflict")) } else { String::new() };
    html.push_str(&format!(
        "<li class=\"tier-{}\"><a class=\"box\" href=\"#site-{site}\"><b>{}</b> <small>{} {}</small><br>{}{shards} · {} \
         accepted here{faults}{open}</a>",
        plan.tier.name(),
        safe(&story.name(site)),
        words::tier(plan.tier),
        safe(&plan.code),
        counted(nodes, "node"),
        counted(accepted, "edit"),
    ));
    let children = (site + 1..story.sites.len()).filter(|child| story.parents[*child] == Some(site));
    let children: Vec<SitePlace> = children.collect();
    if !children.is_empty() {
        html.push_str("<ul>\n");
        children.into_iter().for_each(|child| branch(story, child, html));
        html.push_str("</ul>");
    }
    html.push_str("</li>\n");
}

fn faults(story: &Story<'_>) -> String {
    if story.faults.is_empty() {
        return "<p>Nothing: no fault happened in this run.</p>".to_owned();
    }
    let planned = story.scenario.faults.len();
    let rows: Vec<Vec<Cell>> = story
        .faults
        .iter()
        .take(LIST_MAX)
        .map(|fault| {
            let what = &fault.what;
            let kind = what.kind.replace('_', " ");
            let kind = if what.place >= planned { format!("repair: {kind}") } else { kind };
            let ends = story.scenario.faults.get(what.place).and_then(|planned| {
                let between = if matches!(planned.what, What::CutOneWay { .. }) { "to" } else { "and" };
                planned.what.ends().map(|(a, b)| vec![format!("{a} {between} {b}")])
            });
            let whom: Vec<String> = if let Some(ends) = ends {
                ends
            } else if what.nodes.is_empty() {
                what.sites.iter().map(|site| story.name(*site)).collect()
            } else {
                what.nodes.iter().map(|node| story.node(*node)).collect()
            };
            vec![
                Cell::Number(second(fault.from, story.zero)),
                Cell::Number(if fault.to > fault.from { length(fault.to - fault.from) } else { "a moment".to_owned() }),
                Cell::Markup(format!(
                    "<i class=\"k {}\"></i> <b>{}</b><br><small>{}</small>",
                    words::fault_class(what.kind),
                    safe(&kind),
                    words::fault(what.kind)
                )),
                Cell::text(if whom.is_empty() { "nobody".to_owned() } else { whom.join(", ") }),
                Cell::text(&what.text),
            ]
        })
        .collect();
    let note = if story.faults.len() > LIST_MAX {
        format!("<p>{} of {} are listed.</p>", LIST_MAX, count(story.faults.len() as u64))
    } else {
        String::new()
    };
    format!(
        "<p>Everything that was done to the country, in order. The scenario has {}; repairs are what operators do when the \
         faults are over.</p>{note}{}",
        counted(planned as u64, "fault"),
        table("faults", &["at", "for", "what", "whom", "as it happened"], &rows)
    )
}

fn timeline_part(story: &Story<'_>) -> String {
    format!(
        "<p>From left to right: {} of virtual time. 00:00:00 is when officers begin to work, as in scenario files. Each site has \
         its faults, its nodes (the dark line at the foot of a node: it leads), the edits that were accepted or arrived there, its \
         open conflicts, and the messages over its line to the site above (upwards: to it; downwards: from it; the height grows \
         with the root of their number, on one scale for all lines). Times and terms of leaders are as seen about every \
         {}.</p>\n{}",
        length(story.end),
        length(crate::run::looks_every(story.scenario.lasts)),
        timeline::timeline(story)
    )
}

fn conflicts(story: &Story<'_>) -> String {
    let intro = "<p>When two offices change one legal field without having seen each other’s edit, both values stay, and the \
                 field is in conflict until an authorised officer decides. All sites show the same conflicts once they are in \
                 step.</p>";
    let decisions: Vec<_> = story.ways.iter().filter(|way| way.work == "decision").collect();
    if story.conflicts.is_empty() && decisions.is_empty() {
        return format!("{intro}<p>There were none in this run.</p>");
    }
    let rows: Vec<Vec<Cell>> = (0..story.sites.len())
        .map(|site| {
            let steps = story.conflicts.get(&site).map(Vec::as_slice).unwrap_or_default();
            let most = steps.iter().map(|(_, open)| *open).max().unwrap_or(0);
            let ends = steps.iter().skip(1).map(|(at, _)| *at).chain([story.end]);
            let time: Duration =
                steps.iter().zip(ends).filter(|((_, open), _)| *open > 0).map(|((from, _), to)| to - *from).sum();
            let decided = decisions.iter().filter(|way| way.site == site).count() as u64;
            vec![
                Cell::text(story.name(site)),
                Cell::Number(count(most)),
                Cell::Number(count(steps.last().map_or(0, |(_, open)| *open))),
                Cell::Number(if time.is_zero() { "—".to_owned() } else { length(time) }),
                Cell::Number(count(decided)),
            ]
        })
        .collect();
    let mut html = intro.to_owned();
    html.push_str(&table("conflict", &["site", "most at once", "at the end", "time with any", "decided here"], &rows));
    if decisions.is_empty() {
        return html + "<p>Nobody decided one.</p>";
    }
    let shown: Vec<Vec<Cell>> = decisions
        .iter()
        .take(LIST_MAX)
        .map(|way| {
            let known =
                way.took().map_or_else(|| "not seen everywhere".to_owned(), |took| format!("+{}", length(took)));
            vec![
                Cell::Number(moment(way.at, story.zero)),
                Cell::text(story.name(way.site)),
                Cell::text(story::short(&way.record)),
                Cell::Number(known),
            ]
        })
        .collect();
    let note = if decisions.len() > LIST_MAX {
        format!(", the first {LIST_MAX} of {}", decisions.len())
    } else {
        String::new()
    };
    html.push_str(&format!("<h3>Decisions{note}</h3>"));
    html + &table("decisions", &["at", "by", "record", "held by all tiers after"], &shown)
}

fn lines(story: &Story<'_>) -> String {
    let mut rows = Vec::new();
    for (site, parent) in story.parents.iter().enumerate() {
        let Some(parent) = *parent else { continue };
        let flows = |from, to| story.flows.get(&(from, to)).map(Vec::as_slice).unwrap_or_default();
        let (up, down) = (flows(site, parent), flows(parent, site));
        let sum = |flows: &[story::Flow]| {
            let (messages, size) = flows.iter().fold((0, 0), |(m, b), flow| (m + flow.messages, b + flow.bytes));
            [Cell::Number(count(messages)), Cell::Number(bytes(size))]
        };
        let mut moments: Vec<Duration> = up.iter().chain(down).map(|flow| flow.at).collect();
        moments.extend([Duration::ZERO, story.end]);
        moments.sort();
        let silence = moments.windows(2).map(|pair| (pair[1] - pair[0], pair[0])).max().unwrap_or_default();
        let mut row = vec![Cell::text(format!("{} – {}", story.name(site), story.name(parent)))];
        row.extend(sum(up));
        row.extend(sum(down));
        row.push(Cell::Number(length(silence.0)));
        row.push(Cell::Number(second(silence.1, story.zero)));
        rows.push(row);
    }
    if rows.is_empty() {
        return "<p>There is no line.</p>".to_owned();
    }
    let others = story.flows.keys().filter(|(from, to)| {
        story.parents.get(*from) != Some(&Some(*to)) && story.parents.get(*to) != Some(&Some(*from))
    });
    let others = match others.count() {
        0 => String::new(),
        number => {
            format!("<p>{} carried messages between sites that are not neighbours.</p>", counted(number as u64, "way"))
        }
    };
    format!(
        "<p>Each line of the tree, and what passed over it. Over time they are drawn in the time line, in the last row of each \
         site. A long silence is a cut, or nothing to say.</p>{}{others}",
        table("lines", &["line", "up", "", "down", "", "longest silence", "from"], &rows)
    )
}

fn people(story: &Story<'_>) -> String {
    let scenario = story.scenario;
    let rows: Vec<Vec<Cell>> = scenario
        .officers
        .iter()
        .enumerate()
        .map(|(place, officer)| {
            let of = |event: &Event| match event {
                Event::Accepted { officer, .. } => (u64::from(*officer == place), 0),
                Event::NotAccepted { officer, .. } => (0, u64::from(*officer == place)),
                _ => (0, 0),
            };
            let (accepted, refused) = story.outcome.entries.iter().fold((0, 0), |(a, r), entry| {
                let (accepted, refused) = of(&entry.event);
                (a + accepted, r + refused)
            });
            let at = story.sites.iter().position(|site| site.code == officer.at);
            let impatient = if officer.impatient { ", impatiently" } else { "" };
            vec![
                Cell::text(at.map_or_else(|| officer.at.clone(), |site| story.name(site))),
                Cell::text(format!("{}{impatient}", words::work(officer.does))),
                Cell::Number(length(officer.every)),
                Cell::Number(count(accepted)),
                Cell::Number(count(refused)),
            ]
        })
        .collect();
    let mut html = table("officers", &["at", "does", "every", "accepted", "not accepted"], &rows);
    let mut told: BTreeMap<(SitePlace, String), u64> = BTreeMap::new();
    for (_, site, text) in &story.not_accepted {
        *told.entry((*site, text.clone())).or_default() += 1;
    }
    if !told.is_empty() {
        let mut told: Vec<_> = told.into_iter().collect();
        told.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
        let rows: Vec<Vec<Cell>> = told
            .into_iter()
            .take(LIST_MAX)
            .map(|((site, text), times)| {
                vec![Cell::text(story.name(site)), Cell::text(text), Cell::Number(count(times))]
            })
            .collect();
        html.push_str(
            "<h3>What others were told</h3><p>“stale”: the field had changed since the officer read it. “unreachable”: no node of \
             his site answered, and the edit has no effect. “unknown”: it may have been accepted; the same request finds out \
             later.</p>",
        );
        html.push_str(&table("told", &["site", "told", "times"], &rows));
    }
    html
}

fn more(story: &Story<'_>) -> String {
    let (scenario, outcome) = (story.scenario, story.outcome);
    let figures: Vec<Vec<Cell>> = outcome
        .figures
        .iter()
        .map(|(name, number)| vec![Cell::text(name.replace('_', " ")), Cell::Number(count(*number))])
        .collect();
    let kinds: std::collections::BTreeSet<&str> = scenario.faults.iter().map(|fault| What::kind(&fault.what)).collect();
    let entries = outcome.entries.iter().filter(|entry| {
        !matches!(
            entry.event,
            Event::Traffic { .. } | Event::Arrived { .. } | Event::Accepted { .. } | Event::NotAccepted { .. }
        )
    });
    let all = entries.clone().count();
    let note = if all > LOG_MAX { format!(" (the first {LOG_MAX} of {})", count(all as u64)) } else { String::new() };
    format!(
        "<details><summary>The scenario, as a file</summary><p>Kinds of faults: {}.</p><pre>{}</pre></details>\n\
         <details><summary>Figures</summary>{}</details>\n\
         <details><summary>Log of nodes, faults and conflicts{note}</summary>{}</details>\n",
        safe(&kinds.into_iter().collect::<Vec<_>>().join(", ")),
        // Line breaks stay in a `pre`.
        scenario.to_toml().lines().map(safe).collect::<Vec<_>>().join("\n"),
        table("figures", &["figure", "count"], &figures),
        log(story, entries.take(LOG_MAX))
    )
}

#[cfg(test)]
mod tests;
