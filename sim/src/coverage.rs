//! What a swarm must have seen: rare branches of the node's code, and the points at which rare paths are made common.
//!
//! Each name stands in the code of node and core, or in that of the thieves who come to them, at `inject::sometimes` or
//! `inject::rarely`. A swarm that never reached one of them tests less than it seems to: it says so.
//!
//! Limit: that a branch was reached does not say that anything was checked there.

use std::collections::BTreeMap;

/// Branches that some run of a swarm must reach.
pub const SOMETIMES: &[&str] = &[
    // Personal numbers.
    "blocks of numbers are granted",
    "a number is assigned from a block",
    "a number is assigned later",
    "a number is held in two shards",
    // Edits.
    "an edit is stale",
    "another request has the name of an accepted one",
    "a request is answered again",
    "a conflict opens",
    "a conflict is decided",
    "a value is overwritten before it comes",
    "a session has two secrets",
    // Chains.
    "an author is parked",
    "a parked author goes on",
    "a chain branches",
    "an edit is called otherwise",
    "a record is folded anew",
    "an incarnation is left in a merge",
    "an incarnation is renewed",
    "a site has no room for another life",
    "a site begins a life under another key",
    // Links.
    "a batch is refused",
    "an edit comes again",
    "a batch is passed over",
    "a session begins again",
    "the last common edit is looked for",
    "a kept cursor does not fit",
    "a child is sent back to ask where a shard is",
    "a stream is renewed under a session",
    "a link ends since the lead moved",
    "a link ends since its site is linked elsewhere",
    "what was refused may be good now",
    "the shard of an added commune is hosted",
    "a unit is said from above",
    "holidays are said from above",
    "a shard wakes",
    "an access log is found to be cut",
    // Raft.
    "the lead is lost with a proposal on its way",
    "a forwarded proposal has no answer",
    "a command meets no leader",
    "a command waits too long for its turn",
    "several commands share an entry",
    "a command is proposed beside reads",
    "entries that nobody accepted are removed",
    "a snapshot is installed",
    "a snapshot's transfer begins anew",
    "a snapshot's transfer goes on where it broke off",
    "a snapshot is fetched from another member",
    "a replica runs again with another member's snapshot",
    "the first snapshot meets damage",
    "a damaged snapshot is removed",
    "a snapshot that rotted is written anew",
    "a damaged state is made again",
    "a reader meets damage",
    "a node that lost its log is refused",
    "the log's torn end is cut off",
    "a state goes further than its log",
    // Levels.
    "an edit is set aside",
    "an edit that was set aside is folded",
    "a rise of the level shows a conflict",
    // Thieves.
    "a site floods a record",
    "a thief's fork is taken",
    "a thief's next edit is taken",
    "a thief's edit that nobody knows is taken",
    "a thief's command that is known in part is taken",
    "a thief's flood is taken",
    "a thief's overwrites of what is not there are taken",
    "a thief's key is revoked",
    // Events.
    "an event is filed",
    // How edits stand.
    "a request was accepted twice",
    "an edit is confirmed or rejected",
];

/// Points at which a run takes a rare path by lot.
pub const RARELY: &[&str] = &[
    "a batch of one command",
    "two hashes at a time",
    "few shards are greeted by digests",
    "an empty batch moves a cursor",
    "an edit is left out of a batch",
    "a batch is proposed twice",
    "a link is lost before it acknowledges",
    "an entry of one command",
    "an entry waits for company",
    "an answer is lost",
    "entries are applied one by one",
    "a snapshot in small frames",
    "a snapshot in small pieces",
];

/// What many runs have reached together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// How often each branch and point was reached.
    pub reached: BTreeMap<&'static str, u64>,
    /// How often each kind of fault hit somebody.
    pub faults: BTreeMap<&'static str, u64>,
}

impl Coverage {
    /// Adds a run.
    pub fn add(&mut self, outcome: &crate::run::Outcome) {
        for (all, one) in [(&mut self.reached, &outcome.reached), (&mut self.faults, &outcome.faults)] {
            one.iter().for_each(|(name, count)| *all.entry(*name).or_default() += count);
        }
    }

    /// The branches and points of the lists that no run has reached.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let all = SOMETIMES.iter().chain(RARELY).copied();
        all.filter(|name| !self.reached.contains_key(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;

    fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).expect("the sources are there") {
            let path = entry.expect("the sources are there").path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("inject.rs") {
                found.push(path);
            }
        }
    }

    /// The names that the code gives to `function`.
    fn names(function: &str) -> BTreeSet<String> {
        let node = Path::new(env!("CARGO_MANIFEST_DIR")).join("../node");
        let mut files = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/thieves.rs")];
        sources(&node.join("src"), &mut files);
        sources(&node.join("core/src"), &mut files);
        let mut found = BTreeSet::new();
        for file in files {
            let text = std::fs::read_to_string(file).expect("the sources are there");
            for after in text.split(&format!("{function}(")).skip(1) {
                if let Some((name, _)) = after.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"')) {
                    found.insert(name.to_owned());
                }
            }
        }
        found
    }

    #[test]
    fn every_file_has_a_line_in_the_architecture() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let text = std::fs::read_to_string(root.join("node/ARCHITECTURE.md")).expect("it is there");
        let (_, table) = text.split_once("## Every file").expect("it has the table");
        let mut lines: BTreeSet<(&str, &str)> = BTreeSet::new();
        for line in table.lines().filter(|line| line.contains("| `")) {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            assert!(lines.insert((cells[1], cells[2].trim_matches('`'))), "twice: {line}");
            assert!(cells[3].len() > 20, "it says too little: {line}");
        }
        let mut there: BTreeSet<(String, String)> = BTreeSet::new();
        for (name, place) in
            [("core", "node/core/src"), ("node", "node/src"), ("client", "client/src"), ("sim", "sim/src")]
        {
            let (mut files, place) = (Vec::new(), root.join(place));
            sources(&place, &mut files);
            let below = files.iter().map(|file| file.strip_prefix(&place).expect("below it").display().to_string());
            let is_code = |file: &String| !file.ends_with("tests.rs") && !file.contains("/tests/");
            // `sources` leaves it out.
            let inject = (name == "core").then(|| "inject.rs".to_owned());
            there.extend(below.filter(is_code).chain(inject).map(|file| (name.to_owned(), file)));
        }
        let there: BTreeSet<(&str, &str)> = there.iter().map(|(name, file)| (name.as_str(), file.as_str())).collect();
        assert_eq!(lines, there);
    }

    #[test]
    fn the_lists_name_what_is_in_the_code() {
        let listed = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(names("sometimes"), listed(SOMETIMES));
        assert_eq!(&names("rarely") | &names("rarely_once"), listed(RARELY));
        let mutants: Vec<&str> = crate::mutants::ALL.iter().map(|mutant| mutant.name).collect();
        assert_eq!(names("is_armed"), listed(&mutants));
        assert_eq!(listed(&mutants).len(), mutants.len(), "each has its own name");
    }
}
