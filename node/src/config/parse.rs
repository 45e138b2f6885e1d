//! From the file's text to a [`Config`]: first the shape (serde, which refuses unknown keys), then each value, then the
//! rules between them.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use dinhba_core::ids::{GroupId, NodeId, ShardId};
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{
    ADDRESSES_MAX, Address, CONNECTION_AGE_MS, Config, ConfigError, Engine, Format, GROUPS_MAX, Group, KEYS, Level,
    Link, Log, MEMBERS_MAX, Member, Node, Numbers, Parent, ParentNode, Place, Raft, Site, Storage, Tls,
};

type Text = Option<Spanned<String>>;
type Texts = Option<Spanned<Vec<Spanned<String>>>>;
type Number = Option<Spanned<u64>>;
type Flag = Option<Spanned<bool>>;

// Everything is optional in shape, so that an absent key is reported by its full path and not by serde.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
struct RawFile {
    node: RawNode,
    tls: RawTls,
    site: RawSite,
    parent: Option<RawParent>,
    storage: RawStorage,
    raft: RawRaft,
    link: RawLink,
    numbers: RawNumbers,
    log: RawLog,
    place: Option<RawPlace>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
struct RawNode {
    id: Text,
    site: Text,
    data_dir: Text,
    listen: Text,
    advertise: Text,
    metrics_listen: Text,
    connection_age_ms: Number,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
struct RawTls {
    ca: Text,
    certificate: Text,
    key: Text,
    unsafe_loopback: Flag,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
struct RawSite {
    unit: Text,
    code: Text,
    signing_key: Text,
    secrets: Text,
    bootstrap: Flag,
    members: Vec<Spanned<RawMember>>,
    groups: Vec<Spanned<RawGroup>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
struct RawMember {
    id: Text,
    address: Text,
    groups: Texts,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
struct RawGroup {
    id: Text,
    shards: Texts,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
struct RawParent {
    site: Text,
    addresses: Texts,
    nodes: Vec<Spanned<RawParentNode>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
struct RawParentNode {
    id: Text,
    address: Text,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
struct RawStorage {
    engine: Text,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
struct RawRaft {
    heartbeat_ms: Number,
    election_min_ms: Number,
    election_max_ms: Number,
    snapshot_every_entries: Number,
    keep_entries: Number,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
struct RawLink {
    backoff_min_ms: Number,
    backoff_max_ms: Number,
    batch_bytes_max: Number,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
struct RawNumbers {
    first_serial: Number,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
struct RawLog {
    level: Text,
    format: Text,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
struct RawPlace {
    file: Text,
}

pub(super) fn parse(text: &str, base: &Path) -> Result<Config, ConfigError> {
    let source = Source { text, base };
    let raw: RawFile = toml::from_str(text).map_err(|error| source.shape_error(&error))?;
    let node = source.node(raw.node)?;
    let tls = source.tls(raw.tls, &node)?;
    let config = Config {
        site: source.site(raw.site, &node)?,
        tls,
        parent: raw.parent.map(|raw| source.parent(raw, &node)).transpose()?,
        storage: source.storage(raw.storage)?,
        raft: source.raft(raw.raft)?,
        link: source.link(raw.link)?,
        numbers: source.numbers(&raw.numbers)?,
        log: source.log(raw.log)?,
        place: raw.place.map(|raw| source.place(raw)).transpose()?,
        node,
    };
    if config.site.bootstrap && config.place.is_none() {
        return Err(source.error("place.file", None, "is missing, and a site is founded with a tree of units"));
    }
    Ok(config)
}

struct Source<'a> {
    text: &'a str,
    base: &'a Path,
}

/// `site.members[3].id` as [`KEYS`] has it: `site.members[].id`.
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
fn keys_of(key: &str) -> String {
    let table = if key.is_empty() { String::new() } else { format!("{}.", general(key)) };
    let inside = KEYS.iter().filter_map(|(key, _)| key.strip_prefix(&table));
    let mut names: Vec<&str> = inside.map(|rest| rest.split(['.', '[']).next().unwrap_or(rest)).collect();
    names.dedup();
    names.join(", ")
}

/// What to write at `key`.
fn instead_of(key: &str) -> String {
    let key = general(key);
    let hint = |wanted: &str| KEYS.iter().find(|(key, _)| *key == wanted).map(|(_, instead)| (*instead).to_owned());
    if let Some(instead) = hint(&key) {
        return instead;
    }
    // An element of a plain list has no hint of its own; the list has.
    if let Some(instead) = key.strip_suffix("[]").filter(|_| keys_of(&key).is_empty()).and_then(hint) {
        return instead;
    }
    match keys_of(&key) {
        _ if key.is_empty() => "`key = value` under a [table]".to_owned(),
        keys if keys.is_empty() => "`key = value`, with a known key".to_owned(),
        keys => format!("a table with keys out of {keys}"),
    }
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
    Some(match header.map(|header| header.trim_matches(['[', ']'])) {
        Some(table) => format!("{table}.{}", key.trim()),
        None => key.trim().to_owned(),
    })
}

impl Source<'_> {
    fn error(&self, key: &str, span: Option<Range<usize>>, reason: impl Display) -> ConfigError {
        let line = span.map(|span| self.line(span.start));
        ConfigError { key: key.to_owned(), line, reason: reason.to_string(), instead: instead_of(key) }
    }

    fn line(&self, offset: usize) -> usize {
        self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
    }

    /// An error of TOML or serde, with the key that it happened at.
    fn shape_error(&self, error: &toml::de::Error) -> ConfigError {
        let offset = error.span().map_or(0, |span| span.start);
        let (table, syntax_errors) = DeTable::parse_recoverable(self.text);
        let key = path_at(table.get_ref(), "", offset).or_else(|| path_by_lines(self.text, offset)).unwrap_or_default();
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
        ConfigError { key, line: Some(self.line(offset)), reason, instead }
    }

    fn required<T>(&self, key: &str, value: Option<Spanned<T>>) -> Result<Spanned<T>, ConfigError> {
        value.ok_or_else(|| self.error(key, None, "is missing"))
    }

    fn value<T>(&self, key: &str, text: &Spanned<String>) -> Result<T, ConfigError>
    where
        T: FromStr<Err: Display>,
    {
        text.get_ref().parse().map_err(|error| self.error(key, Some(text.span()), format!("is wrong: {error}")))
    }

    fn required_value<T>(&self, key: &str, text: Text) -> Result<T, ConfigError>
    where
        T: FromStr<Err: Display>,
    {
        self.value(key, &self.required(key, text)?)
    }

    fn path(&self, key: &str, text: Text) -> Result<PathBuf, ConfigError> {
        let text = self.required(key, text)?;
        if text.get_ref().is_empty() {
            return Err(self.error(key, Some(text.span()), "is empty"));
        }
        Ok(self.base.join(text.get_ref()))
    }

    /// A number within `range`, else `default`.
    fn number(&self, key: &str, number: &Number, range: RangeInclusive<u64>, default: u64) -> Result<u64, ConfigError> {
        let Some(number) = number else { return Ok(default) };
        let value = *number.get_ref();
        if !range.contains(&value) {
            return Err(self.error(key, Some(number.span()), format!("is out of bounds with {value}")));
        }
        Ok(value)
    }

    /// One of a few words, else the first.
    fn word<T: Copy>(&self, key: &str, text: &Text, words: &[(&str, T)], default: T) -> Result<T, ConfigError> {
        let Some(text) = text else { return Ok(default) };
        let found = words.iter().find(|(word, _)| word == text.get_ref());
        found
            .map(|(_, value)| *value)
            .ok_or_else(|| self.error(key, Some(text.span()), format!("has no meaning with {:?}", text.get_ref())))
    }

    /// Where to listen: this machine must know the address without asking a resolver.
    fn listen(&self, key: &str, text: &Spanned<String>) -> Result<Address, ConfigError> {
        let address: Address = self.value(key, text)?;
        if !(address.is_ip() || address.is_loopback()) {
            return Err(self.error(key, Some(text.span()), "is a name, and a node listens at an address"));
        }
        Ok(address)
    }

    fn node(&self, raw: RawNode) -> Result<Node, ConfigError> {
        let id = self.required_value("node.id", raw.id)?;
        let site = self.required_value("node.site", raw.site)?;
        let data_dir = self.path("node.data_dir", raw.data_dir)?;
        let listen = self.listen("node.listen", &self.required("node.listen", raw.listen)?)?;
        let advertise_span = raw.advertise.as_ref().map(Spanned::span);
        let advertise = match &raw.advertise {
            Some(text) => self.value("node.advertise", text)?,
            None => listen.clone(),
        };
        if advertise.is_wildcard() {
            let reason = match advertise_span {
                Some(_) => "means every address, and others need one to dial",
                None => "is missing, and node.listen means every address, while others need one to dial",
            };
            return Err(self.error("node.advertise", advertise_span, reason));
        }
        let metrics_listen = match &raw.metrics_listen {
            Some(text) => {
                let address = self.listen("node.metrics_listen", text)?;
                if address == listen {
                    return Err(self.error("node.metrics_listen", Some(text.span()), "is the same as node.listen"));
                }
                Some(address)
            }
            None => None,
        };
        let age = &raw.connection_age_ms;
        let connection_age_ms = self.number("node.connection_age_ms", age, 1_000..=86_400_000, CONNECTION_AGE_MS)?;
        Ok(Node { id, site, data_dir, listen, advertise, metrics_listen, connection_age_ms })
    }

    fn tls(&self, raw: RawTls, node: &Node) -> Result<Tls, ConfigError> {
        let any_file = raw.ca.is_some() || raw.certificate.is_some() || raw.key.is_some();
        match raw.unsafe_loopback {
            Some(flag) if *flag.get_ref() => {
                let refused = |reason| Err(self.error("tls.unsafe_loopback", Some(flag.span()), reason));
                if any_file {
                    return refused("contradicts the certificate beside it");
                }
                if !node.listen.is_loopback() || !node.advertise.is_loopback() {
                    return refused(
                        "would let anybody in the network be anybody, since node.listen or node.advertise is not \
                         an address of this machine alone",
                    );
                }
                Ok(Tls::UnsafeLoopback)
            }
            None if !any_file => Err(self.error("tls.unsafe_loopback", None, "and the certificates are missing")),
            _ => Ok(Tls::Mutual {
                ca: self.path("tls.ca", raw.ca)?,
                certificate: self.path("tls.certificate", raw.certificate)?,
                key: self.path("tls.key", raw.key)?,
            }),
        }
    }

    fn site(&self, raw: RawSite, node: &Node) -> Result<Site, ConfigError> {
        let unit = self.required_value("site.unit", raw.unit)?;
        let code = match raw.code {
            Some(text) => {
                let digits = text.get_ref();
                if !matches!(digits.len(), 2 | 3 | 5) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(self.error("site.code", Some(text.span()), format!("is no code with {digits:?}")));
                }
                Some(text.into_inner())
            }
            None => None,
        };
        let signing_key = self.path("site.signing_key", raw.signing_key)?;
        let secrets = self.path("site.secrets", raw.secrets)?;
        let bootstrap_span = raw.bootstrap.as_ref().map(Spanned::span);
        let bootstrap = raw.bootstrap.is_some_and(Spanned::into_inner);
        let groups = self.groups(&raw.groups)?;
        let members = self.members(&raw.members, &groups)?;
        if bootstrap {
            let missing = |key, what| Err(self.error(key, bootstrap_span.clone(), what));
            if groups.is_empty() {
                return missing("site.groups", "is missing, and site.bootstrap founds a site with groups");
            }
            let Some(own) = members.iter().find(|member| member.id == node.id) else {
                return missing("site.members", "does not list this node, and site.bootstrap founds a site with it");
            };
            if let Some(other) = groups.iter().find(|group| !own.groups.contains(&group.id)) {
                let reason = format!("leaves {} to others, and site.bootstrap founds all groups here", other.id);
                return Err(self.error("site.members", bootstrap_span, reason));
            }
            if own.address != node.advertise {
                let (own, advertise) = (&own.address, &node.advertise);
                let reason = format!("says that this node is at {own}, and node.advertise that it is at {advertise}");
                return Err(self.error("site.members", bootstrap_span, reason));
            }
        }
        Ok(Site { unit, code, signing_key, secrets, bootstrap, members, groups })
    }

    fn groups(&self, raw: &[Spanned<RawGroup>]) -> Result<Vec<Group>, ConfigError> {
        if let Some(beyond) = raw.get(GROUPS_MAX) {
            return Err(self.error("site.groups", Some(beyond.span()), format!("has more than {GROUPS_MAX} entries")));
        }
        let mut groups: Vec<Group> = Vec::with_capacity(raw.len());
        let mut shards_seen: BTreeSet<ShardId> = BTreeSet::new();
        for (i, spanned) in raw.iter().enumerate() {
            let key = |name: &str| format!("site.groups[{i}].{name}");
            let raw = spanned.get_ref();
            let id: GroupId = self.required_in(&key("id"), raw.id.as_ref(), spanned)?;
            if groups.iter().any(|group| group.id == id) {
                return Err(self.error(&key("id"), raw.id.as_ref().map(Spanned::span), format!("repeats {id}")));
            }
            let mut shards: Vec<ShardId> = self.list(&key("shards"), raw.shards.as_ref(), spanned)?;
            for shard in &shards {
                if !shards_seen.insert(*shard) {
                    let reason = format!("repeats {shard}, and a shard lies in one group");
                    return Err(self.error(&key("shards"), raw.shards.as_ref().map(Spanned::span), reason));
                }
            }
            shards.sort();
            groups.push(Group { id, shards });
        }
        groups.sort_by_key(|group| group.id);
        Ok(groups)
    }

    fn members(&self, raw: &[Spanned<RawMember>], groups: &[Group]) -> Result<Vec<Member>, ConfigError> {
        if let Some(beyond) = raw.get(MEMBERS_MAX) {
            return Err(self.error(
                "site.members",
                Some(beyond.span()),
                format!("has more than {MEMBERS_MAX} entries"),
            ));
        }
        let mut members: Vec<Member> = Vec::with_capacity(raw.len());
        for (i, spanned) in raw.iter().enumerate() {
            let key = |name: &str| format!("site.members[{i}].{name}");
            let raw = spanned.get_ref();
            let id: NodeId = self.required_in(&key("id"), raw.id.as_ref(), spanned)?;
            if members.iter().any(|member| member.id == id) {
                return Err(self.error(&key("id"), raw.id.as_ref().map(Spanned::span), format!("repeats {id}")));
            }
            let address: Address = self.required_in(&key("address"), raw.address.as_ref(), spanned)?;
            let refused = |what: &str| {
                let reason = format!("{what} with {address}");
                Err(self.error(&key("address"), raw.address.as_ref().map(Spanned::span), reason))
            };
            if address.is_wildcard() {
                return refused("cannot be dialed");
            }
            if members.iter().any(|member| member.address == address) {
                return refused("repeats another member's");
            }
            let mut hosted: Vec<GroupId> = self.list(&key("groups"), raw.groups.as_ref(), spanned)?;
            hosted.sort();
            let unknown = hosted.iter().find(|hosted| !groups.iter().any(|group| group.id == **hosted));
            if let Some(unknown) = unknown {
                let reason = format!("names {unknown}, which is not in site.groups");
                return Err(self.error(&key("groups"), raw.groups.as_ref().map(Spanned::span), reason));
            }
            if hosted.windows(2).any(|pair| pair[0] == pair[1]) {
                let span = raw.groups.as_ref().map(Spanned::span);
                return Err(self.error(&key("groups"), span, "names a group twice"));
            }
            members.push(Member { id, address, groups: hosted });
        }
        let homeless = groups.iter().find(|group| !members.iter().any(|member| member.groups.contains(&group.id)));
        if let Some(group) = homeless {
            let reason = format!("leaves {} without a node that hosts it", group.id);
            return Err(self.error("site.members", raw.first().map(Spanned::span), reason));
        }
        let first = groups.iter().map(|group| group.id).min();
        let lacks_first =
            |member: &&Member| !member.groups.is_empty() && first.is_some_and(|id| !member.groups.contains(&id));
        if let (Some(member), Some(first)) = (members.iter().find(lacks_first), first) {
            let reason =
                format!("leaves {} without {first}, the site's first group, which keeps its directory", member.id);
            return Err(self.error("site.members", raw.first().map(Spanned::span), reason));
        }
        members.sort_by_key(|member| member.id);
        Ok(members)
    }

    /// A required value of a repeated table, whose line stands in for an absent key's.
    fn required_in<T, R>(&self, key: &str, text: Option<&Spanned<String>>, at: &Spanned<R>) -> Result<T, ConfigError>
    where
        T: FromStr<Err: Display>,
    {
        let text = text.ok_or_else(|| self.error(key, Some(at.span()), "is missing"))?;
        self.value(key, text)
    }

    fn list<T, R>(
        &self,
        key: &str,
        texts: Option<&Spanned<Vec<Spanned<String>>>>,
        at: &Spanned<R>,
    ) -> Result<Vec<T>, ConfigError>
    where
        T: FromStr<Err: Display>,
    {
        let texts = texts.ok_or_else(|| self.error(key, Some(at.span()), "is missing"))?;
        texts.get_ref().iter().map(|text| self.value(key, text)).collect()
    }

    fn parent(&self, raw: RawParent, node: &Node) -> Result<Parent, ConfigError> {
        let site_text = self.required("parent.site", raw.site)?;
        let site = self.value("parent.site", &site_text)?;
        if site == node.site {
            let reason = "is this node's own site, and no site is its own parent";
            return Err(self.error("parent.site", Some(site_text.span()), reason));
        }
        let texts = self.required("parent.addresses", raw.addresses)?;
        let addresses: Vec<Address> = self.list("parent.addresses", Some(&texts), &texts)?;
        if addresses.is_empty() || addresses.len() > ADDRESSES_MAX {
            let reason = format!("has {} entries", addresses.len());
            return Err(self.error("parent.addresses", Some(texts.span()), reason));
        }
        if let Some(wildcard) = addresses.iter().find(|address| address.is_wildcard()) {
            let reason = format!("cannot be dialed with {wildcard}");
            return Err(self.error("parent.addresses", Some(texts.span()), reason));
        }
        let nodes = self.parent_nodes(&raw.nodes)?;
        Ok(Parent { site, addresses, nodes })
    }

    fn parent_nodes(&self, raw: &[Spanned<RawParentNode>]) -> Result<Vec<ParentNode>, ConfigError> {
        if let Some(beyond) = raw.get(ADDRESSES_MAX) {
            let reason = format!("has more than {ADDRESSES_MAX} entries");
            return Err(self.error("parent.nodes", Some(beyond.span()), reason));
        }
        let mut nodes: Vec<ParentNode> = Vec::with_capacity(raw.len());
        for (i, spanned) in raw.iter().enumerate() {
            let key = |name: &str| format!("parent.nodes[{i}].{name}");
            let raw = spanned.get_ref();
            let id: NodeId = self.required_in(&key("id"), raw.id.as_ref(), spanned)?;
            if nodes.iter().any(|node| node.id == id) {
                return Err(self.error(&key("id"), raw.id.as_ref().map(Spanned::span), format!("repeats {id}")));
            }
            let address: Address = self.required_in(&key("address"), raw.address.as_ref(), spanned)?;
            if address.is_wildcard() {
                let reason = format!("cannot be dialed with {address}");
                return Err(self.error(&key("address"), raw.address.as_ref().map(Spanned::span), reason));
            }
            nodes.push(ParentNode { id, address });
        }
        nodes.sort_by_key(|node| node.id);
        Ok(nodes)
    }

    fn storage(&self, raw: RawStorage) -> Result<Storage, ConfigError> {
        let words = Engine::ALL.map(|engine| (engine.name(), engine));
        Ok(Storage { engine: self.word("storage.engine", &raw.engine, &words, Engine::default())? })
    }

    fn raft(&self, raw: RawRaft) -> Result<Raft, ConfigError> {
        let default = Raft::default();
        let heartbeat_ms = self.number("raft.heartbeat_ms", &raw.heartbeat_ms, 10..=10_000, default.heartbeat_ms)?;
        let election_min_ms =
            self.number("raft.election_min_ms", &raw.election_min_ms, 30..=60_000, default.election_min_ms)?;
        if election_min_ms < 3 * heartbeat_ms {
            let reason = format!("is out of bounds with {election_min_ms}: heartbeat_ms is {heartbeat_ms}");
            return Err(self.error("raft.election_min_ms", raw.election_min_ms.map(|number| number.span()), reason));
        }
        let election_max_ms =
            self.number("raft.election_max_ms", &raw.election_max_ms, 31..=60_000, default.election_max_ms)?;
        if election_max_ms <= election_min_ms {
            let reason = format!("is out of bounds with {election_max_ms}: election_min_ms is {election_min_ms}");
            return Err(self.error("raft.election_max_ms", raw.election_max_ms.map(|number| number.span()), reason));
        }
        let (every, keep) = (&raw.snapshot_every_entries, &raw.keep_entries);
        Ok(Raft {
            heartbeat_ms,
            election_min_ms,
            election_max_ms,
            snapshot_every_entries: self.number(
                "raft.snapshot_every_entries",
                every,
                1..=10_000_000,
                default.snapshot_every_entries,
            )?,
            keep_entries: self.number("raft.keep_entries", keep, 0..=10_000_000, default.keep_entries)?,
        })
    }

    fn link(&self, raw: RawLink) -> Result<Link, ConfigError> {
        let default = Link::default();
        let backoff_min_ms =
            self.number("link.backoff_min_ms", &raw.backoff_min_ms, 10..=60_000, default.backoff_min_ms)?;
        let backoff_max_ms =
            self.number("link.backoff_max_ms", &raw.backoff_max_ms, 10..=3_600_000, default.backoff_max_ms)?;
        if backoff_max_ms < backoff_min_ms {
            let reason = format!("is out of bounds with {backoff_max_ms}: backoff_min_ms is {backoff_min_ms}");
            return Err(self.error("link.backoff_max_ms", raw.backoff_max_ms.map(|number| number.span()), reason));
        }
        let batch_bytes_max =
            self.number("link.batch_bytes_max", &raw.batch_bytes_max, 1024..=49_152, default.batch_bytes_max)?;
        Ok(Link { backoff_min_ms, backoff_max_ms, batch_bytes_max })
    }

    fn numbers(&self, raw: &RawNumbers) -> Result<Numbers, ConfigError> {
        let default = Numbers::default();
        let first_serial = self.number("numbers.first_serial", &raw.first_serial, 0..=999_999, default.first_serial)?;
        Ok(Numbers { first_serial })
    }

    fn log(&self, raw: RawLog) -> Result<Log, ConfigError> {
        let levels = Level::ALL.map(|level| (level.name(), level));
        let formats = [("text", Format::Text), ("json", Format::Json)];
        Ok(Log {
            level: self.word("log.level", &raw.level, &levels, Level::default())?,
            format: self.word("log.format", &raw.format, &formats, Format::default())?,
        })
    }

    fn place(&self, raw: RawPlace) -> Result<Place, ConfigError> {
        Ok(Place { file: self.path("place.file", raw.file)? })
    }
}
