//! Pages of runs that are made up.

use dinhba_core::ids::{Hash, RecordId};

use super::*;
use crate::random;
use crate::run::Violation;
use crate::scenario::Fault;

const ZERO: u64 = 4;

fn at(seconds: u64, event: Event) -> Entry {
    Entry { at: Duration::from_secs(seconds), event }
}

fn hash(number: u32) -> Hash {
    let mut hash = [0; 32];
    hash[..4].copy_from_slice(&number.to_be_bytes());
    Hash(hash)
}

fn accepted(seconds: u64, site: SitePlace, number: u32, work: &'static str) -> Entry {
    let mut record = [0; 16];
    record[..4].copy_from_slice(&number.to_be_bytes());
    let (request, record) = (format!("q/{number}"), RecordId(record));
    at(seconds, Event::Accepted { officer: 0, site, request, record, work, hash: hash(number) })
}

/// A run in which a node fell, an edit went up, a conflict was decided and a promise broke.
fn run() -> (Scenario, Outcome) {
    let mut scenario = random::scenario(25);
    scenario.name = "a_bad_day".to_owned();
    let crash = What::Crash { node: "00/1".parse().expect("a node") };
    scenario.faults = vec![Fault { at: Duration::from_secs(10), lasts: Some(Duration::from_secs(5)), what: crash }];
    let sites = scenario.tree.sites();
    let commune = sites.len() - 1;
    let nodes = sites.iter().enumerate().map(|(place, site)| (format!("{}/1", site.code), place)).collect();
    let text = "00/1: power cut <script>alert(1)</script>".to_owned();
    let group = "g-1".to_owned();
    let mut entries = vec![
        at(0, Event::Phase { name: "forming" }),
        at(0, Event::NodeStarts { node: 0 }),
        at(1, Event::NodeRuns { node: 0 }),
        at(2, Event::Leads { node: 0, group: group.clone(), term: 1 }),
        at(ZERO, Event::Phase { name: "safety" }),
        accepted(6, commune, 1, "birth"),
        at(8, Event::Arrived { site: 0, hashes: vec![hash(1)] }),
        at(9, Event::Traffic { ways: vec![(commune, sites.len() - 2, 7, 900)] }),
        at(14, Event::FaultBegins { fault: 0, kind: "crash", text, nodes: vec![0], sites: vec![0] }),
        at(14, Event::NodeStops { node: 0, why: "power cut".to_owned() }),
        at(15, Event::Conflicts { site: commune, open: 2 }),
        at(16, Event::NotAccepted { officer: 0, site: commune, told: "stale & <b>old</b>".to_owned() }),
        at(17, accepted(17, commune, 2, "decision").event),
        at(17, Event::Conflicts { site: commune, open: 1 }),
        at(19, Event::NodeStarts { node: 0 }),
        at(19, Event::FaultEnds { fault: 0 }),
        at(20, Event::NodeRuns { node: 0 }),
        at(21, Event::Leads { node: 0, group, term: 2 }),
        at(24, Event::Phase { name: "healing" }),
    ];
    let text = "an <i>edit</i> is missing".to_owned();
    entries.push(at(30, Event::Violation { promise: "nothing_lost", text: text.clone() }));
    let violations = vec![Violation { promise: "nothing_lost", at: Duration::from_secs(30), text }];
    let outcome = Outcome { hash: "ab12".to_owned(), violations, entries, nodes, ..Outcome::default() };
    (scenario, outcome)
}

#[test]
fn the_verdict_comes_first_and_leads_to_the_place() {
    let (scenario, outcome) = run();
    let page = page(&scenario, &outcome, "again --seed 25");
    let verdict = page.find("a promise is broken").expect("the verdict");
    assert!(verdict < page.find("<main>").expect("the rest"), "violations come before all else");
    assert!(page.contains("href=\"#broken-0\"") && page.contains("id=\"broken-0\""), "the link has its end");
    assert!(page.contains("00:00:26 (phase “healing”)"), "times count from when officers began");
    assert!(page.contains(words::promise("nothing_lost")), "the promise is explained");
    let good = super::page(&scenario, &Outcome { violations: Vec::new(), ..outcome }, "again");
    assert!(good.contains("Every promise was kept") && !good.contains("id=\"broken-0\""));
}

#[test]
fn the_page_has_its_parts() {
    let (scenario, outcome) = run();
    let page = page(&scenario, &outcome, "again --seed 25");
    for id in ["tree", "faults", "time", "edits", "conflicts", "lines", "people", "more"] {
        assert!(page.contains(&format!("<section id=\"{id}\">")) && page.contains(&format!("href=\"#{id}\"")), "{id}");
    }
    for site in 0..scenario.tree.sites().len() {
        assert!(page.contains(&format!("id=\"site-{site}\"")), "each site has its rows");
    }
    for text in ["Trung ương", "again --seed 25", "ab12", "leads group 1 of its site in term 2", "<h3>Decisions</h3>"]
    {
        assert!(page.contains(text), "{text}");
    }
}

#[test]
fn text_of_a_run_cannot_become_markup() {
    let (mut scenario, outcome) = run();
    scenario.about = "</p><script>alert(2)</script>".to_owned();
    let page = page(&scenario, &outcome, "<img src=x>");
    for markup in ["<script>alert", "<i>edit", "<b>old", "<img"] {
        assert!(!page.contains(markup), "{markup}");
    }
    assert!(page.contains("&lt;script&gt;alert(1)") && page.contains("stale &amp; &lt;b&gt;old"));
}

#[test]
fn the_page_needs_nothing_else() {
    let (scenario, outcome) = run();
    let page = page(&scenario, &outcome, "again");
    for outside in ["http:", "https:", "src=", "@import", "url(", "<link"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(!STYLE.contains("</style") && !SCRIPT.contains("</script"));
}

#[test]
fn nodes_edits_and_conflicts_are_followed() {
    let (scenario, outcome) = run();
    let story = Story::of(&scenario, &outcome);
    let lengths: Vec<u64> = story.states[0].iter().map(|span| (span.to - span.from).as_secs()).collect();
    assert_eq!(lengths, [1, 13, 5, 1, 10], "starts, runs, off, starts, runs");
    let leads: Vec<_> = story.leads[0].iter().map(|span| (span.from.as_secs(), span.to.as_secs(), span.what)).collect();
    assert_eq!(leads, [(2, 14, (0, 1)), (21, 30, (0, 2))], "a node that stops leads no more");
    assert_eq!((story.faults[0].from.as_secs(), story.faults[0].to.as_secs()), (14, 19));
    let way = &story.ways[0];
    assert_eq!(way.arrived[Tier::Central as usize], Some(Duration::from_secs(8)));
    assert_eq!(way.arrived[Tier::Commune as usize], Some(Duration::from_secs(6)), "it was there at once");
    assert_eq!((way.arrived[Tier::Province as usize], way.took()), (None, None));
}

#[test]
fn long_runs_are_cut_and_say_so() {
    let (scenario, mut outcome) = run();
    let commune = scenario.tree.sites().len() - 1;
    outcome
        .entries
        .extend((0..20_000).map(|number| accepted(40 + u64::from(number) / 10, commune, 10 + number, "card")));
    let text = "again and again".to_owned();
    let violation = Violation { promise: "alive", at: Duration::from_secs(50), text };
    outcome.violations.extend(vec![violation.clone(); 500]);
    let later = |second| Violation { at: Duration::from_secs(second), ..violation.clone() };
    outcome.violations.extend((60..120).map(later));
    let page = page(&scenario, &outcome, "again");
    assert!(page.contains(&format!("{} of 20,002 edits are listed", edits::ROWS_MAX)));
    assert!(page.contains("again and again (500 times)"), "what is said often is said once");
    assert!(page.contains("And 12 more."));
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
}

#[test]
fn a_run_that_never_began_has_a_page_too() {
    let scenario = random::scenario(1);
    let violation = Violation { promise: "no_panic", at: Duration::ZERO, text: "panicked".to_owned() };
    let outcome = Outcome { violations: vec![violation], ..Outcome::default() };
    let page = page(&scenario, &outcome, "again");
    assert!(page.contains("panicked") && page.contains("No edit was accepted."));
}
