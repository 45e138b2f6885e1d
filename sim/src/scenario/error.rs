//! What is wrong with a scenario: which key, in which line, why, and what to write.

use std::fmt;

/// A scenario that cannot be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScenarioError {
    /// The key's full path, for example `faults[1].node`; empty if the scenario as a whole is meant.
    pub key: String,
    /// The line, from 1, if it came from a file and the key, or the table that it belongs to, is there.
    pub line: Option<usize>,
    /// What is wrong.
    pub reason: String,
    /// What to write.
    pub instead: String,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "`{}` ", self.key)?;
        }
        if let Some(line) = self.line {
            write!(f, "(line {line}) ")?;
        }
        write!(f, "{}: write {}", self.reason, self.instead)
    }
}

impl std::error::Error for ScenarioError {}

/// Every key, in the order of the file, and what to write there.
const KEYS: [(&str, &str); 61] = [
    ("name", "a name of lower case letters, digits and _, such as \"typhoon\""),
    ("about", "what happens and what it shows"),
    ("seed", "a number from 0 to 18446744073709551615"),
    ("lasts", "how long it lasts, such as \"10m\" or \"1h30m\", at most \"366d\""),
    ("settles_within", "a length such as \"10m\", at most \"366d\""),
    ("beyond_promises", "true if a majority of a site's disks may be lost for good, else false"),
    (
        "promises",
        "a list out of \"linearizable\", \"replicas_agree\", \"chains_hold\", \"converges\", \"nothing_lost\", \"never_back\" and \"alive\", each once",
    ),
    ("tree.province", "the code of a province of 2024, such as \"10\""),
    (
        "tree.districts",
        "codes of districts of the province, such as [\"082\", \"083\"], each with a commune in tree.communes",
    ),
    ("tree.communes", "codes of communes of these districts, such as [\"02683\", \"02686\"]"),
    ("tree.nodes.central", "a number of nodes from 1 to 7"),
    ("tree.nodes.province", "a number of nodes from 1 to 7"),
    ("tree.nodes.district", "a number of nodes from 1 to 7"),
    ("tree.nodes.commune", "a number of nodes from 1 to 7"),
    ("knobs.heartbeat", "whole milliseconds from \"10ms\" to \"10s\""),
    ("knobs.election_min", "whole milliseconds from 3 times knobs.heartbeat to \"1m\""),
    ("knobs.election_max", "whole milliseconds above knobs.election_min, to \"1m\""),
    ("knobs.snapshot_every", "a number of entries from 1 to 10000000"),
    ("knobs.keep_entries", "a number of entries from 0 to 10000000"),
    ("knobs.segment_bytes", "a number of bytes from 512 to 1073741824"),
    ("knobs.flush", "a length up to \"1m\", such as \"2ms\""),
    ("knobs.link_backoff_min", "whole milliseconds from \"10ms\" to \"1m\""),
    ("knobs.link_backoff_max", "whole milliseconds from knobs.link_backoff_min to \"1h\""),
    ("knobs.level", "1, or a higher feature level that these nodes know"),
    ("network.latency", "a length up to \"1m\", such as \"20ms\""),
    ("network.jitter", "a length up to \"1m\", such as \"5ms\""),
    ("network.bits_per_second", "a number such as 64000, or 0 for no limit"),
    ("network.latency_inside", "a length up to \"1m\", such as \"1ms\""),
    ("officers[].at", "the code of a unit of the tree, at whose site he works"),
    ("officers[].shards", "codes of communes of the tree that lie in his unit, or leave it out for all of them"),
    ("officers[].every", "a length from \"1ms\", such as \"30s\""),
    ("officers[].starts", "a length below `lasts`"),
    ("officers[].edits", "a number up to 4294967295, or 0 for as many as fit"),
    (
        "officers[].does",
        "\"births\", \"cards\", \"shared\", \"mixed\", \"reads\", \"families\", \"events\", \"sites\" or \"worst\"",
    ),
    ("officers[].impatient", "true or false"),
    ("faults[].at", "when it begins: a length below `lasts` of the scenario, such as \"30s\""),
    ("faults[].lasts", "a length, such as \"90s\", that ends within the scenario"),
    ("faults[].what", "one of "),
    ("faults[].sites", "codes of sites of the tree, such as [\"02683\"], each once"),
    ("faults[].site", "the code of a site of the tree, such as \"10\""),
    ("faults[].node", "a node that is there, such as \"10/1\", \"10/leader\" or \"10/follower\""),
    ("faults[].a", "a site of the tree such as \"10\", or a node such as \"10/1\", apart from `b`"),
    ("faults[].b", "a site of the tree such as \"10\", or a node such as \"10/1\", apart from `a`"),
    ("faults[].from", "a site of the tree such as \"10\", or a node such as \"10/1\", apart from `to`"),
    ("faults[].to", "a site of the tree such as \"10\", or a node such as \"10/1\", apart from `from`"),
    ("faults[].every", "a length from \"1ms\", such as \"5s\""),
    ("faults[].times", "a number from 1: of crashes so that all lie within the scenario, of flipped bits to 1000"),
    ("faults[].per_mille", "a number from 1 to 1000"),
    ("faults[].bits_per_second", "a number such as 64000, or 0 for no limit"),
    ("faults[].latency", "a length up to \"1m\", such as \"300ms\""),
    ("faults[].store", "\"log\", \"state\" or \"snapshots\""),
    ("faults[].flush", "a length up to \"1m\", such as \"2s\""),
    ("faults[].backup_at", "a length below `at`, such as \"10m\""),
    ("faults[].twice", "true or false"),
    ("faults[].offset", "whole milliseconds, such as \"365d\" or \"-2h\""),
    ("faults[].ppm", "parts in a million from -100000 to 100000, other than 0"),
    ("faults[].level", "a feature level that these nodes know, from 1"),
    ("faults[].theft", "\"forges\", \"forks\" or \"crowds\""),
    ("faults[].parent", "the code of a site of a unit above that of `site`, such as \"10\""),
    ("faults[].revokes", "true if the former keys are to verify nothing any more, else false"),
    ("", "`key = value` under a [table]"),
];

/// `faults[3].node` as [`KEYS`] has it: `faults[].node`.
fn general(key: &str) -> String {
    let mut general = String::new();
    let mut in_index = false;
    for letter in key.chars() {
        in_index = (in_index || letter == '[') && letter != ']';
        if !in_index || letter == '[' {
            general.push(letter);
        }
    }
    general
}

/// The keys of the table at `key`, with commas between; of the file, if it is empty. Empty if it is no table.
pub(super) fn keys_of(key: &str) -> String {
    let table = if key.is_empty() { String::new() } else { format!("{}.", general(key)) };
    let inside = KEYS.iter().filter_map(|(key, _)| key.strip_prefix(&table)).filter(|key| !key.is_empty());
    let mut names: Vec<&str> = inside.map(|rest| rest.split(['.', '[']).next().unwrap_or(rest)).collect();
    names.dedup();
    names.join(", ")
}

/// What to write at `key`.
pub(super) fn instead_of(key: &str) -> String {
    let key = general(key);
    let hint = |wanted: &str| KEYS.iter().find(|(key, _)| *key == wanted).map(|(_, instead)| (*instead).to_owned());
    if key == "faults[].what" {
        return format!("one of {}", super::What::KINDS.map(|kind| format!("{kind:?}")).join(", "));
    }
    if let Some(instead) = hint(&key) {
        return instead;
    }
    // An element of a plain list has no hint of its own; the list has.
    if let Some(instead) = key.strip_suffix("[]").filter(|_| keys_of(&key).is_empty()).and_then(hint) {
        return instead;
    }
    match keys_of(&key) {
        keys if keys.is_empty() => "`key = value`, with a known key".to_owned(),
        keys => format!("a table with keys out of {keys}"),
    }
}

impl ScenarioError {
    /// That `key` is wrong for this reason.
    pub(super) fn at(key: impl Into<String>, reason: impl Into<String>) -> Self {
        let key = key.into();
        let instead = instead_of(&key);
        ScenarioError { key, line: None, reason: reason.into(), instead }
    }

    /// With another advice.
    pub(super) fn instead(mut self, instead: impl Into<String>) -> Self {
        self.instead = instead.into();
        self
    }
}
