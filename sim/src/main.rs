//! The simulator's command line.
use dinhba_sim::scenario::*;
use std::time::{Duration, Instant};
fn main() {
    let seed: u64 = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(1);
    let officer = |at: &str, does, every| Officer {
        at: at.into(),
        shards: vec![],
        every: Duration::from_millis(every),
        starts: Duration::ZERO,
        edits: 0,
        does,
        impatient: false,
    };
    let scenario = Scenario {
        name: "try".into(),
        about: String::new(),
        seed,
        lasts: Duration::from_secs(300),
        settles_within: Duration::from_secs(300),
        beyond_promises: false,
        tree: Tree {
            province: "10".into(),
            districts: vec!["082".into(), "083".into()],
            communes: vec!["02683".into(), "02686".into(), "02752".into(), "02755".into()],
            nodes: NodesPerTier::default(),
        },
        knobs: Knobs::default(),
        network: Network::default(),
        officers: vec![
            officer("02683", Work::Mixed, 2000),
            officer("082", Work::Shared, 3000),
            officer("10", Work::Mixed, 3000),
            officer("00", Work::Shared, 5000),
            officer("02755", Work::Mixed, 4000),
        ],
        faults: vec![
            Fault {
                at: Duration::from_secs(60),
                lasts: Some(Duration::from_secs(60)),
                what: What::Dark { sites: vec!["02683".into()] },
            },
            Fault {
                at: Duration::from_secs(80),
                lasts: Some(Duration::from_secs(20)),
                what: What::Crash { node: "10/leader".parse().unwrap() },
            },
        ],
        promises: vec![],
    };
    let began = Instant::now();
    let outcome = dinhba_sim::run::run(&scenario);
    let took = began.elapsed();
    for entry in &outcome.entries {
        if std::env::args().nth(2).is_some() {
            println!("{:?} {:?}", entry.at, entry.event);
        }
    }
    println!(
        "{} {:?} {:?} {:.1} virtual s/s",
        outcome.hash,
        outcome.figures,
        took,
        outcome.figures["virtual_seconds"] as f64 / took.as_secs_f64()
    );
    for v in outcome.violations {
        println!("VIOLATED {} at {:?}: {}", v.promise, v.at, v.text);
    }
}
