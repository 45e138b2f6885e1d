//! Whether a run is the same when it is run again, and where it first is not.
//!
//! Limit: two runs in one process share what the process was started with (its addresses, its environment). Two processes
//! are compared by their hashes (`golden`).

use crate::run::Outcome;
use crate::run::guarded;
use crate::scenario::Scenario;

/// Runs a scenario twice, each time on a thread of its own.
#[must_use]
pub fn run_twice(scenario: &Scenario) -> (Outcome, Outcome) {
    (guarded(scenario, None), guarded(scenario, None))
}

/// Where two runs first differ, for people; none if they are equal.
#[must_use]
pub fn first_difference(one: &Outcome, other: &Outcome) -> Option<String> {
    let both = one.entries.iter().zip(&other.entries).enumerate();
    for (place, (a, b)) in both {
        if a != b {
            return Some(format!(
                "entry {place} of the trace:\n  {:?} {:?}\n  {:?} {:?}",
                a.at, a.event, b.at, b.event
            ));
        }
    }
    if one.entries.len() != other.entries.len() {
        let common = one.entries.len().min(other.entries.len());
        let longer = if one.entries.len() > common { ("first", one) } else { ("second", other) };
        let next = &longer.1.entries[common];
        return Some(format!(
            "after {common} equal entries, the {} run goes on: {:?} {:?}",
            longer.0, next.at, next.event
        ));
    }
    if one.violations != other.violations {
        return Some("equal traces, other violations".to_owned());
    }
    let figures = one.figures.iter().find(|(name, count)| other.figures.get(*name) != Some(count));
    if let Some((name, count)) = figures {
        return Some(format!("equal traces, but {name} is {count} and {:?}", other.figures.get(name)));
    }
    (one.hash != other.hash).then(|| {
        format!("equal traces and figures, other hashes: {} and {}: tasks ran in another order", one.hash, other.hash)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::trace::{Entry, Event};

    fn outcome(phases: &[&'static str], hash: &str) -> Outcome {
        let entry = |name: &&'static str| Entry { at: Duration::from_secs(1), event: Event::Phase { name } };
        let entries = phases.iter().map(entry).collect();
        Outcome { entries, hash: hash.to_owned(), ..Outcome::default() }
    }

    #[test]
    fn the_first_difference_is_named() {
        let one = outcome(&["forming", "safety"], "a");
        assert_eq!(first_difference(&one, &one), None);
        let told = |other: &Outcome| first_difference(&one, other).unwrap_or_default();
        assert!(told(&outcome(&["forming", "healing"], "a")).starts_with("entry 1 of the trace"));
        assert!(told(&outcome(&["forming"], "a")).contains("the first run goes on"));
        assert!(told(&outcome(&["forming", "safety", "healing"], "a")).contains("the second run goes on"));
        assert!(told(&outcome(&["forming", "safety"], "b")).contains("other hashes"));
        let more = Outcome { figures: BTreeMap::from([("polls", 1)]), ..one.clone() };
        assert!(first_difference(&more, &one).unwrap_or_default().contains("polls is 1"));
    }
}
