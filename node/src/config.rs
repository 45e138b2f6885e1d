//! The file of `dinhba node --config FILE`: TOML, checked whole before anything starts.
//!
//! Owns: the keys ([`KEYS`] lists every one with what to write), their defaults and bounds, and the rules between them.
//! Promises: a [`Config`] is valid; an unknown key is an error; each error names the key by its full path, the line,
//! the reason and what to write instead; [`Config::to_toml`] writes a file that [`Config::parse`] reads back to the
//! same value. Relative paths are taken from the file's directory.
//! Leaves to others: whether files named here exist and fit (`tls`, `pki`, `datadir`). `dinhba.example.toml` beside the
//! crate is the documented example.
//! Limit: the first error is reported, not all of them. `site.bootstrap`, `site.members`, `site.groups` and `place` are
//! what a site is born with; once it lives, they are replicated data and the file no longer changes them.

mod parse;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use dinhba_client::tls::is_loopback;
use dinhba_core::blocks::FIRST_SERIAL;
use dinhba_core::ids::{GroupId, NodeId, ShardId, SiteId, UnitId};
use serde::{Serialize, Serializer};

/// A site has at most this many nodes: a larger quorum is slower and no safer.
pub const MEMBERS_MAX: usize = 7;
/// Groups of one site: the centre has dozens; the bound keeps a mistake from starting thousands of elections.
pub const GROUPS_MAX: usize = 1024;
/// Addresses of a parent: one per node.
pub const ADDRESSES_MAX: usize = MEMBERS_MAX;
/// The longest host name of the DNS.
const HOST_BYTES_MAX: usize = 253;

/// Every key with what to write there. The one list behind error messages.
pub const KEYS: &[(&str, &str)] = &[
    ("node.id", "the node's id, for example \"n-0000000000000001\""),
    ("node.site", "the id of its site, for example \"s-0000000000000001\""),
    ("node.data_dir", "a directory of this node alone, for example \"/var/lib/dinhba\""),
    ("node.listen", "an IP address and a port, for example \"0.0.0.0:7400\""),
    ("node.advertise", "host:port under which other nodes reach this one, for example \"10.0.0.5:7400\""),
    ("node.metrics_listen", "an IP address and a port, for example \"127.0.0.1:7401\", or leave it out"),
    ("node.connection_age_ms", "1000 to 86400000; the default is 3600000"),
    ("tls.ca", "the path of the authority's certificate, PEM"),
    ("tls.certificate", "the path of this node's certificate, PEM"),
    ("tls.key", "the path of this node's private key, PEM"),
    ("tls.unsafe_loopback", "ca, certificate and key, or, on this machine alone, unsafe_loopback = true"),
    ("site.unit", "the id of the unit that the site serves, for example \"u-0000000000000001\""),
    ("site.code", "the unit's code today, 2, 3 or 5 digits in quotes, for example \"01\", or leave it out"),
    ("site.signing_key", "the path of the site's Ed25519 private key, PKCS #8 in PEM"),
    ("site.secrets", "the path of the site's secrets: the keys of its index, its backups and the country's digests"),
    ("site.bootstrap", "true on exactly one node of a new site, at its first start; else leave it out"),
    ("site.members", "one [[site.members]] per node of the new site, at most 7"),
    ("site.members[].id", "a node's id, for example \"n-0000000000000001\""),
    ("site.members[].address", "host:port of that node, for example \"10.0.0.5:7400\""),
    ("site.members[].groups", "the ids of the groups that it hosts, for example [\"g-0000000000000001\"]"),
    ("site.groups", "one [[site.groups]] per Raft group of the new site"),
    ("site.groups[].id", "a group's id, for example \"g-0000000000000001\""),
    ("site.groups[].shards", "the ids of its shards, for example [\"h-0000000000000001\"]"),
    ("parent.site", "the id of the parent's site, for example \"s-0000000000000001\"; the centre has no [parent]"),
    ("parent.addresses", "host:port of 1 to 7 nodes of the parent, for example [\"10.0.0.1:7400\"]"),
    ("parent.nodes", "one [[parent.nodes]] per node of the parent that has another address from here"),
    ("parent.nodes[].id", "a node's id, for example \"n-0000000000000001\""),
    ("parent.nodes[].address", "host:port at which this site reaches that node, for example \"10.0.0.1:7400\""),
    (
        "storage.engine",
        "\"lsm\" (the default), \"fjall\", \"sled\" (experimental) or \"memory\" (loses everything at exit)",
    ),
    ("raft.heartbeat_ms", "10 to 10000; the default is 250"),
    ("raft.election_min_ms", "at least 3 heartbeats, at most 60000; the default is 1000"),
    ("raft.election_max_ms", "more than election_min_ms, at most 60000; the default is 2000"),
    ("raft.snapshot_every_entries", "1 to 10000000; the default is 50000"),
    ("raft.keep_entries", "0 to 10000000; the default is 10000"),
    ("link.backoff_min_ms", "10 to 60000; the default is 500"),
    ("link.backoff_max_ms", "at least backoff_min_ms, at most 3600000; the default is 60000"),
    ("link.batch_bytes_max", "1024 to 49152; the default is 49152"),
    ("numbers.first_serial", "0 to 999999; the default is 500000"),
    ("log.level", "\"error\", \"warn\", \"info\" (the default), \"debug\" or \"trace\""),
    ("log.format", "\"text\" (the default) or \"json\""),
    ("place.file", "the path of the country's place file"),
];

/// What is wrong with the file. One line: key, line, reason, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The key's full path, for example `site.members[1].address`; empty if the file as a whole is meant.
    pub key: String,
    /// The line, from 1, if the key is in the file.
    pub line: Option<usize>,
    /// What is wrong.
    pub reason: String,
    /// What to write.
    pub instead: String,
}

impl fmt::Display for ConfigError {
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

impl std::error::Error for ConfigError {}

/// `host:port`. The host is an IP address or a DNS name, the port is not 0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// An IP address (IPv6 without brackets) or a DNS name.
    host: String,
    port: u16,
}

/// The text is not `host:port`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not host:port with a port from 1 to 65535")]
pub struct AddressError;

impl Address {
    /// Whether it is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    /// Whether the host is an IP address and no name.
    #[must_use]
    pub fn is_ip(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok()
    }

    /// Whether it means every address of this machine, which others cannot dial.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
    }

    /// The socket addresses that it stands for, asking the system's resolver for a name.
    pub fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        Ok((self.host.as_str(), self.port).to_socket_addrs()?.collect())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (host, port) = text.rsplit_once(':').ok_or(AddressError)?;
        let port: u16 = port.parse().map_err(|_| AddressError)?;
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().map_err(|_| AddressError)?.to_string(),
            None => host.to_owned(),
        };
        let label = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        let known = host.parse::<IpAddr>().is_ok() && (!host.contains(':') || text.starts_with('['));
        let named = host.len() <= HOST_BYTES_MAX && host.split('.').all(label);
        if port == 0 || !(known || named) {
            return Err(AddressError);
        }
        Ok(Address { host, port })
    }
}

fn as_text<T: fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn as_text_option<T: fmt::Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

fn as_texts<T: fmt::Display, S: Serializer>(values: &[T], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(ToString::to_string))
}

/// A node's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Config {
    /// This process.
    pub node: Node,
    /// How its connections are protected.
    pub tls: Tls,
    /// The site that it belongs to.
    pub site: Site,
    /// Where the site's link leads; absent at the centre.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// Where state is kept.
    pub storage: Storage,
    /// Consensus inside the site.
    pub raft: Raft,
    /// The link to the parent.
    pub link: Link,
    /// Personal numbers.
    pub numbers: Numbers,
    /// What the process says of itself.
    pub log: Log,
    /// The tree of units that a new site begins with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// `[node]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Which node this is.
    #[serde(serialize_with = "as_text")]
    pub id: NodeId,
    /// Its site.
    #[serde(serialize_with = "as_text")]
    pub site: SiteId,
    /// Where all its data lies.
    pub data_dir: PathBuf,
    /// Where it takes connections.
    #[serde(serialize_with = "as_text")]
    pub listen: Address,
    /// Under which address others reach it; the default is `listen`.
    #[serde(serialize_with = "as_text")]
    pub advertise: Address,
    /// Where it answers `/metrics` and `/healthz`, if anywhere.
    #[serde(serialize_with = "as_text_option", skip_serializing_if = "Option::is_none")]
    pub metrics_listen: Option<Address>,
    /// How old a connection may become that came in through the door; then it is to be followed by another one.
    pub connection_age_ms: u64,
}

/// An hour: a certificate that ended, or was never looked at again, counts for so long at most; and another handshake in that time
/// is nothing, also on a thin link.
pub const CONNECTION_AGE_MS: u64 = 3_600_000;

/// `[tls]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// Mutual TLS with these PEM files.
    Mutual {
        /// The authority's certificate.
        ca: PathBuf,
        /// This node's certificate.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
    /// None, and callers say who they are: `unsafe_loopback = true`, accepted on a loopback address only.
    UnsafeLoopback,
}

impl Serialize for Tls {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Tls::Mutual { ca, certificate, key } => {
                BTreeMap::from([("ca", ca), ("certificate", certificate), ("key", key)]).serialize(serializer)
            }
            Tls::UnsafeLoopback => BTreeMap::from([("unsafe_loopback", true)]).serialize(serializer),
        }
    }
}

/// `[site]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Site {
    /// The unit that it serves.
    #[serde(serialize_with = "as_text")]
    pub unit: UnitId,
    /// The unit's code at the time of writing, for people who read the file; nothing is derived from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The private key that signs the site's heads.
    pub signing_key: PathBuf,
    /// The keys of its index, of its backups and of the country's digests.
    pub secrets: PathBuf,
    /// Whether this node founds the site.
    pub bootstrap: bool,
    /// The nodes that the site begins with, in order of their ids.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Member>,
    /// The groups that it begins with, in order of their ids.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
}

/// `[[site.members]]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// The node.
    #[serde(serialize_with = "as_text")]
    pub id: NodeId,
    /// How to reach it.
    #[serde(serialize_with = "as_text")]
    pub address: Address,
    /// The groups that it hosts, in order.
    #[serde(serialize_with = "as_texts")]
    pub groups: Vec<GroupId>,
}

/// `[[site.groups]]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// The group.
    #[serde(serialize_with = "as_text")]
    pub id: GroupId,
    /// The shards that it hosts, in order; a site without a commune's records may begin with none.
    #[serde(serialize_with = "as_texts")]
    pub shards: Vec<ShardId>,
}

/// `[parent]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Parent {
    /// The parent's site.
    #[serde(serialize_with = "as_text")]
    pub site: SiteId,
    /// Where its nodes are, to be tried in this order.
    #[serde(serialize_with = "as_texts")]
    pub addresses: Vec<Address>,
    /// Where this site reaches a node of the parent, if not at the address under which the parent knows it (behind a
    /// forwarder, for one); in order of their ids.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<ParentNode>,
}

/// `[[parent.nodes]]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParentNode {
    /// The node.
    #[serde(serialize_with = "as_text")]
    pub id: NodeId,
    /// How this site reaches it.
    #[serde(serialize_with = "as_text")]
    pub address: Address,
}

/// The state engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// By name: the default of earlier versions, with a journal of its own.
    Fjall,
    /// The default: no journal but the Raft log.
    #[default]
    Lsm,
    /// By name, experimental.
    Sled,
    /// For tests: nothing survives the process.
    Memory,
}

impl Engine {
    const ALL: [Engine; 4] = [Engine::Fjall, Engine::Lsm, Engine::Sled, Engine::Memory];

    /// The engine's name, as in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Engine::Fjall => "fjall",
            Engine::Lsm => "lsm",
            Engine::Sled => "sled",
            Engine::Memory => "memory",
        }
    }

    /// The engine called `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Engine::ALL.into_iter().find(|engine| engine.name() == name)
    }
}

/// `[storage]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Storage {
    /// Which engine keeps the state.
    pub engine: Engine,
}

/// `[raft]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Raft {
    /// How often a leader says that it lives.
    pub heartbeat_ms: u64,
    /// A follower waits between this and `election_max_ms` before it stands for election.
    pub election_min_ms: u64,
    /// See `election_min_ms`.
    pub election_max_ms: u64,
    /// A snapshot is taken after so many entries.
    pub snapshot_every_entries: u64,
    /// So many entries are kept behind a snapshot, for followers that are a little late.
    pub keep_entries: u64,
}

impl Default for Raft {
    fn default() -> Self {
        // Four missed heartbeats, and a commune's computer that pauses a second does not lose its leader for it.
        Raft {
            heartbeat_ms: 250,
            election_min_ms: 1000,
            election_max_ms: 2000,
            snapshot_every_entries: 50_000,
            keep_entries: 10_000,
        }
    }
}

/// `[link]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    /// The first wait after a failed dial; it doubles up to `backoff_max_ms`.
    pub backoff_min_ms: u64,
    /// The longest wait between dials.
    pub backoff_max_ms: u64,
    /// Edits in one batch, before compression: what a cut can cost on a thin link. A larger command travels alone.
    pub batch_bytes_max: u64,
}

impl Default for Link {
    fn default() -> Self {
        // 16 kB take two seconds on a 64 kbit/s link: what a cut can cost. A minute bounds how late a link is noticed
        // back.
        Link { backoff_min_ms: 500, backoff_max_ms: 60_000, batch_bytes_max: 49_152 }
    }
}

/// `[numbers]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Numbers {
    /// At the centre alone: the first serial of each series of personal numbers that is granted in blocks. Below it are those that
    /// were given before there were blocks.
    pub first_serial: u64,
}

impl Default for Numbers {
    fn default() -> Self {
        Numbers { first_serial: FIRST_SERIAL.into() }
    }
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Level {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl Level {
    const ALL: [Level; 5] = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];

    /// The level's name, as in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line, for collectors.
    Json,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Log {
    /// The least important level that is logged.
    pub level: Level,
    /// How it looks.
    pub format: Format,
}

/// `[place]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The country's place file, read once, when the site is founded.
    pub file: PathBuf,
}

impl Config {
    /// Reads and checks the file at `path`.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let whole = |reason: String, instead: &str| ConfigError {
            key: String::new(),
            line: None,
            reason: format!("{}: {reason}", path.display()),
            instead: instead.to_owned(),
        };
        let text = std::fs::read_to_string(path)
            .map_err(|error| whole(error.to_string(), "the path of a file that this user may read"))?;
        let path = std::path::absolute(path)
            .map_err(|error| whole(error.to_string(), "the path of a file that this user may read"))?;
        Self::parse(&text, path.parent().unwrap_or(Path::new("/")))
    }

    /// Checks `text`; relative paths in it are taken from `base`.
    pub fn parse(text: &str, base: &Path) -> Result<Self, ConfigError> {
        parse::parse(text, base)
    }

    /// The file that says all of this. Fails only if a path is not UTF-8, which TOML has no form for.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}
