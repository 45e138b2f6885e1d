//! From a file's text to a [`Scenario`]: first the shape (serde, which refuses unknown keys), then each value, then the
//! rules between them.
//!
//! Promises: an error names the key and its line and says what to write; what parses can be run.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::error::{ScenarioError, instead_of, keys_of};
use super::{Fault, Knobs, Network, NodesPerTier, Officer, Promise, Scenario, Store, Theft, Tree, What, Work, length};

/// How long healing may take if the file does not say.
const SETTLES_WITHIN: Duration = Duration::from_secs(10 * 60);

type Text = Option<String>;
type Texts = Option<Vec<String>>;

// Everything is optional in shape, so that an absent key is reported by its full path and not by serde.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
struct RawFile {
    name: Text,
    about: Text,
    seed: Option<u64>,
    lasts: Text,
    settles_within: Text,
    beyond_promises: bool,
    promises: Vec<String>,
    tree: RawTree,
    knobs: RawKnobs,
    network: RawNetwork,
    officers: Vec<RawOfficer>,
    faults: Vec<RawFault>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
struct RawTree {
    province: Text,
    districts: Texts,
    communes: Texts,
    nodes: RawNodes,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
struct RawNodes {
    central: Option<u8>,
    province: Option<u8>,
    district: Option<u8>,
    commune: Option<u8>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
struct RawKnobs {
    heartbeat: Text,
    election_min: Text,
    election_max: Text,
    snapshot_every: Option<u64>,
    keep_entries: Option<u64>,
    segment_bytes: Option<u64>,
    flush: Text,
    link_backoff_min: Text,
    link_backoff_max: Text,
    level: Option<u16>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
struct RawNetwork {
    latency: Text,
    jitter: Text,
    bits_per_second: Option<u64>,
    latency_inside: Text,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
struct RawOfficer {
    at: Text,
    shards: Vec<String>,
    every: Text,
    starts: Text,
    edits: u32,
    does: Text,
    impatient: bool,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
struct RawFault {
    at: Text,
    lasts: Text,
    what: Text,
    sites: Texts,
    site: Text,
    node: Text,
    a: Text,
    b: Text,
    from: Text,
    to: Text,
    every: Text,
    times: Option<u32>,
    per_mille: Option<u16>,
    bits_per_second: Option<u64>,
    latency: Text,
    store: Text,
    flush: Text,
    backup_at: Text,
    twice: Option<bool>,
    offset: Text,
    ppm: Option<i64>,
    level: Option<u16>,
    theft: Text,
    parent: Text,
    revokes: Option<bool>,
}

impl Scenario {
    /// The scenario that a file's text tells.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key and line.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let raw: RawFile = toml::from_str(text).map_err(|error| shape_error(text, &error))?;
        let scenario = raw.read().and_then(|scenario| scenario.check().map(|()| scenario));
        scenario.map_err(|error| ScenarioError { line: line_of_key(text, &error.key), ..error })
    }
}

type Read<T> = Result<T, ScenarioError>;

fn required<T>(key: &str, value: Option<T>) -> Read<T> {
    value.ok_or_else(|| ScenarioError::at(key, "is missing"))
}

fn text_length(key: &str, text: &str) -> Read<Duration> {
    length::parse(text).ok_or_else(|| {
        ScenarioError::at(key, format!("is no length with {text:?}: numbers with units out of d, h, m, s, ms, us, ns"))
    })
}

fn required_length(key: &str, text: Text) -> Read<Duration> {
    text_length(key, &required(key, text)?)
}

fn length_or(key: &str, text: Text, default: Duration) -> Read<Duration> {
    text.map_or(Ok(default), |text| text_length(key, &text))
}

/// One of a few words.
fn word<T: Copy>(key: &str, text: &str, words: &[(&str, T)]) -> Read<T> {
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(|| ScenarioError::at(key, format!("has no meaning with {text:?}")))
}

fn value<T: FromStr<Err: Display>>(key: &str, text: Text) -> Read<T> {
    let text = required(key, text)?;
    text.parse().map_err(|error| ScenarioError::at(key, format!("is wrong with {text:?}: {error}")))
}

impl RawFile {
    fn read(self) -> Read<Scenario> {
        let promise = |(i, text): (usize, &String)| word(&format!("promises[{i}]"), text, &Promise::ALL);
        Ok(Scenario {
            name: required("name", self.name)?,
            about: required("about", self.about)?,
            seed: self.seed.unwrap_or_default(),
            lasts: required_length("lasts", self.lasts)?,
            settles_within: length_or("settles_within", self.settles_within, SETTLES_WITHIN)?,
            beyond_promises: self.beyond_promises,
            promises: self.promises.iter().enumerate().map(promise).collect::<Read<_>>()?,
            tree: self.tree.read()?,
            knobs: self.knobs.read()?,
            network: self.network.read()?,
            officers: self.officers.into_iter().enumerate().map(|(i, raw)| raw.read(i)).collect::<Read<_>>()?,
            faults: self.faults.into_iter().enumerate().map(|(i, raw)| raw.read(i)).collect::<Read<_>>()?,
        })
    }
}

impl RawTree {
    fn read(self) -> Read<Tree> {
        let default = NodesPerTier::default();
        let nodes = NodesPerTier {
            central: self.nodes.central.unwrap_or(default.central),
            province: self.nodes.province.unwrap_or(default.province),
            district: self.nodes.district.unwrap_or(default.district),
            commune: self.nodes.commune.unwrap_or(default.commune),
        };
        Ok(Tree {
            province: required("tree.province", self.province)?,
            districts: required("tree.districts", self.districts)?,
            communes: required("tree.communes", self.communes)?,
            nodes,
        })
    }
}

impl RawKnobs {
    fn read(self) -> Read<Knobs> {
        let default = Knobs::default();
        Ok(Knobs {
            heartbeat: length_or("knobs.heartbeat", self.heartbeat, default.heartbeat)?,
            election_min: length_or("knobs.election_min", self.election_min, default.election_min)?,
            election_max: length_or("knobs.election_max", self.election_max, default.election_max)?,
            snapshot_every: self.snapshot_every.unwrap_or(default.snapshot_every),
            keep_entries: self.keep_entries.unwrap_or(default.keep_entries),
            segment_bytes: self.segment_bytes.unwrap_or(default.segment_bytes),
            flush: length_or("knobs.flush", self.flush, default.flush)?,
            link_backoff_min: length_or("knobs.link_backoff_min", self.link_backoff_min, default.link_backoff_min)?,
            link_backoff_max: length_or("knobs.link_backoff_max", self.link_backoff_max, default.link_backoff_max)?,
            level: self.level.unwrap_or(default.level),
        })
    }
}

impl RawNetwork {
    fn read(self) -> Read<Network> {
        let default = Network::default();
        Ok(Network {
            latency: length_or("network.latency", self.latency, default.latency)?,
            jitter: length_or("network.jitter", self.jitter, default.jitter)?,
            bits_per_second: self.bits_per_second.unwrap_or(default.bits_per_second),
            latency_inside: length_or("network.latency_inside", self.latency_inside, default.latency_inside)?,
        })
    }
}

impl RawOfficer {
    fn read(self, place: usize) -> Read<Officer> {
        let of = |name: &str| format!("officers[{place}].{name}");
        Ok(Officer {
            at: required(&of("at"), self.at)?,
            shards: self.shards,
            every: required_length(&of("every"), self.every)?,
            starts: length_or(&of("starts"), self.starts, Duration::ZERO)?,
            edits: self.edits,
            does: word(&of("does"), &required(&of("does"), self.does)?, &Work::ALL)?,
            impatient: self.impatient,
        })
    }
}

impl RawFault {
    fn read(mut self, place: usize) -> Read<Fault> {
        let of = |name: &str| format!("faults[{place}].{name}");
        let at = required_length(&of("at"), self.at.take())?;
        let lasts = self.lasts.take().map(|text| text_length(&of("lasts"), &text)).transpose()?;
        let kind = required(&of("what"), self.what.take())?;
        let what = self.what(&kind, of)?;
        if let Some(other) = self.left() {
            let reason = format!("has no meaning with what = {kind:?}");
            return Err(ScenarioError::at(of(other), reason).instead("nothing there"));
        }
        Ok(Fault { at, lasts, what })
    }

    /// Takes the keys that belong to a fault of this kind.
    fn what(&mut self, kind: &str, of: impl Fn(&str) -> String) -> Read<What> {
        let raw = self;
        // What many kinds share.
        macro_rules! take {
            (node) => {
                value(&of("node"), raw.node.take())?
            };
            (site) => {
                required(&of("site"), raw.site.take())?
            };
            (place $name:ident) => {
                value(&of(stringify!($name)), raw.$name.take())?
            };
            (length $name:ident) => {
                required_length(&of(stringify!($name)), raw.$name.take())?
            };
            (number $name:ident) => {
                required(&of(stringify!($name)), raw.$name.take())?
            };
        }
        Ok(match kind {
            "dark" => What::Dark { sites: required(&of("sites"), raw.sites.take())? },
            "cut" => What::Cut { a: take!(place a), b: take!(place b) },
            "cut_one_way" => What::CutOneWay { from: take!(place from), to: take!(place to) },
            "slow" => What::Slow {
                a: take!(place a),
                b: take!(place b),
                bits_per_second: take!(number bits_per_second),
                latency: take!(length latency),
            },
            "flap" => What::Flap { a: take!(place a), b: take!(place b), every: take!(length every) },
            "lossy" => What::Lossy { a: take!(place a), b: take!(place b), per_mille: take!(number per_mille) },
            "crash" => What::Crash { node: take!(node) },
            "kill" => What::Kill { node: take!(node) },
            "older" => What::Older { node: take!(node) },
            "crash_loop" => {
                What::CrashLoop { node: take!(node), times: take!(number times), every: take!(length every) }
            }
            "pause" => What::Pause { node: take!(node) },
            "isolate" => What::Isolate { node: take!(node) },
            "gone" => What::Gone { node: take!(node) },
            "rot" => {
                let store = required(&of("store"), raw.store.take())?;
                let times = raw.times.take().unwrap_or(1);
                What::Rot { node: take!(node), store: word(&of("store"), &store, &Store::ALL)?, times }
            }
            "slow_disk" => What::SlowDisk { node: take!(node), flush: take!(length flush) },
            "full_disk" => What::FullDisk { node: take!(node) },
            "failing_disk" => What::FailingDisk { node: take!(node) },
            "lose_disk" => What::LoseDisk { node: take!(node) },
            "restore" => What::Restore {
                node: take!(node),
                backup_at: take!(length backup_at),
                twice: raw.twice.take().unwrap_or_default(),
            },
            "forget_vote" => What::ForgetVote { node: take!(node) },
            "clock" => {
                let text = required(&of("offset"), raw.offset.take())?;
                let offset_ms = length::parse_offset_ms(&text)
                    .ok_or_else(|| ScenarioError::at(of("offset"), format!("is no offset with {text:?}")))?;
                What::Clock { node: take!(node), offset_ms }
            }
            "drift" => What::Drift { node: take!(node), ppm: take!(number ppm) },
            "add_node" => What::AddNode { site: take!(site) },
            "remove_node" => What::RemoveNode { node: take!(node) },
            "replace_node" => What::ReplaceNode { node: take!(node) },
            "transfer_leader" => What::TransferLeader { site: take!(site) },
            "snapshot" => What::Snapshot { site: take!(site) },
            "raise_level" => What::RaiseLevel { site: take!(site), level: take!(number level) },
            "add_site" => What::AddSite { site: take!(site) },
            "rekey_site" => What::RekeySite { site: take!(site), revokes: raw.revokes.take().unwrap_or_default() },
            "move_site" => What::MoveSite { site: take!(site), parent: required(&of("parent"), raw.parent.take())? },
            "thief" => {
                let theft = required(&of("theft"), raw.theft.take())?;
                What::Thief { site: take!(site), theft: word(&of("theft"), &theft, &Theft::ALL)? }
            }
            _ => return Err(ScenarioError::at(of("what"), format!("has no meaning with {kind:?}"))),
        })
    }

    /// A key that no one took.
    fn left(&self) -> Option<&'static str> {
        let left = [
            ("sites", self.sites.is_some()),
            ("site", self.site.is_some()),
            ("node", self.node.is_some()),
            ("a", self.a.is_some()),
            ("b", self.b.is_some()),
            ("from", self.from.is_some()),
            ("to", self.to.is_some()),
            ("every", self.every.is_some()),
            ("times", self.times.is_some()),
            ("per_mille", self.per_mille.is_some()),
            ("bits_per_second", self.bits_per_second.is_some()),
            ("latency", self.latency.is_some()),
            ("store", self.store.is_some()),
            ("flush", self.flush.is_some()),
            ("backup_at", self.backup_at.is_some()),
            ("twice", self.twice.is_some()),
            ("offset", self.offset.is_some()),
            ("ppm", self.ppm.is_some()),
            ("level", self.level.is_some()),
            ("theft", self.theft.is_some()),
            ("parent", self.parent.is_some()),
            ("revokes", self.revokes.is_some()),
        ];
        left.into_iter().find(|(_, is_left)| *is_left).map(|(key, _)| key)
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// The line of `key`; if it is absent, of the table that it belongs to.
fn line_of_key(text: &str, key: &str) -> Option<usize> {
    let (table, _) = DeTable::parse_recoverable(text);
    let mut table = Some(table.get_ref());
    let mut array: Option<&DeArray<'_>> = None;
    let mut found = None;
    for step in key.split(['.', '[']) {
        let (offset, value) = match step.strip_suffix(']') {
            Some(index) => {
                let Some(value) = index.parse().ok().and_then(|index: usize| array?.get(index)) else { break };
                (value.span().start, value.get_ref())
            }
            None => {
                let Some((name, value)) = table.and_then(|table| table.get_key_value(step)) else { break };
                (name.span().start, value.get_ref())
            }
        };
        found = Some(line_at(text, offset));
        (table, array) = match value {
            DeValue::Table(table) => (Some(table), None),
            DeValue::Array(values) => (None, Some(values)),
            _ => (None, None),
        };
    }
    found
}

/// The path of the deepest key or value in `table` that covers `offset`.
fn path_at(table: &DeTable<'_>, path: &str, offset: usize) -> Option<String> {
    table.iter().find_map(|(key, value)| {
        let path = if path.is_empty() { key.get_ref().to_string() } else { format!("{path}.{}", key.get_ref()) };
        if key.span().contains(&offset) { Some(path) } else { path_in(value, &path, offset) }
    })
}

fn path_in(value: &Spanned<DeValue<'_>>, path: &str, offset: usize) -> Option<String> {
    let inside = match value.get_ref() {
        DeValue::Table(table) => path_at(table, path, offset),
        DeValue::Array(values) => {
            values.iter().enumerate().find_map(|(i, value)| path_in(value, &format!("{path}[{i}]"), offset))
        }
        _ => None,
    };
    inside.or_else(|| value.span().contains(&offset).then(|| path.to_owned()))
}

/// The path of the key on the line of `offset`, told from the lines alone: for what the parser dropped.
fn path_by_lines(text: &str, offset: usize) -> Option<String> {
    let start = text.get(..offset)?.rfind('\n').map_or(0, |newline| newline + 1);
    let (key, _) = text[start..].lines().next()?.split_once('=')?;
    let header = text[..start].lines().rev().find_map(|line| line.trim().strip_prefix('[')?.strip_suffix(']'));
    Some(match header {
        Some(header) => match header.strip_prefix('[').and_then(|header| header.strip_suffix(']')) {
            Some(list) => {
                let before = text[..start].lines().filter(|line| line.trim() == format!("[[{list}]]")).count();
                format!("{list}[{}].{}", before.saturating_sub(1), key.trim())
            }
            None => format!("{header}.{}", key.trim()),
        },
        None => key.trim().to_owned(),
    })
}

/// An error of TOML or serde, with the key that it happened at.
fn shape_error(text: &str, error: &toml::de::Error) -> ScenarioError {
    let offset = error.span().map_or(0, |span| span.start);
    let (table, syntax_errors) = DeTable::parse_recoverable(text);
    let key = path_at(table.get_ref(), "", offset).or_else(|| path_by_lines(text, offset)).unwrap_or_default();
    let (parent, last) = key.rsplit_once('.').unwrap_or(("", &key));
    let (reason, instead) = if error.message() == "duplicate key" {
        ("is there twice".to_owned(), "it once".to_owned())
    } else if !syntax_errors.is_empty() {
        (format!("is not TOML: {}", error.message()), instead_of(&key))
    } else if error.message().starts_with("unknown field") {
        (format!("is not a key: there is no {last:?} here"), format!("one of {}", keys_of(parent)))
    } else {
        (error.message().to_owned(), instead_of(&key))
    };
    ScenarioError { key, line: Some(line_at(text, offset)), reason, instead }
}
