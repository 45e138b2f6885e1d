use std::path::Path;

use super::*;

const EXAMPLE: &str = include_str!("../../dinhba.example.toml");

/// The least that a file can say.
const LEAST: &str = r#"[node]
id = "n-0000000000000011"
site = "s-0000000000000051"
data_dir = "data"
listen = "127.0.0.1:7400"
[tls]
unsafe_loopback = true
[site]
unit = "u-00000000000000c3"
signing_key = "site.key"
secrets = "site.secrets"
"#;

/// A site that is founded, on two nodes.
const FOUNDED: &str = r#"[node]
id = "n-0000000000000011"
site = "s-0000000000000051"
data_dir = "data"
listen = "127.0.0.1:7400"
[tls]
unsafe_loopback = true
[place]
file = "place.csv"
[site]
unit = "u-00000000000000c3"
signing_key = "site.key"
secrets = "site.secrets"
bootstrap = true
[[site.members]]
id = "n-0000000000000011"
address = "127.0.0.1:7400"
groups = ["g-0000000000000001"]
[[site.members]]
id = "n-0000000000000012"
address = "127.0.0.1:7410"
groups = ["g-0000000000000001"]
[[site.groups]]
id = "g-0000000000000001"
shards = ["h-0000000000000001"]
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/etc/dinhba"))
}

/// `text` with its line that begins with `start` replaced by `line`; empty removes it.
fn with_line(text: &str, start: &str, line: &str) -> String {
    assert_eq!(text.lines().filter(|old| old.starts_with(start)).count(), 1, "{start}");
    let lines = text.lines().filter_map(|old| match old.starts_with(start) {
        true if line.is_empty() => None,
        true => Some(line),
        false => Some(old),
    });
    lines.map(|line| format!("{line}\n")).collect()
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    let error = parse(text).expect_err(expected);
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_founder_hosts_all_groups_and_everybody_the_first() {
    let second = "[[site.groups]]\nid = \"g-0000000000000002\"\nshards = [\"h-0000000000000002\"]\n";
    let member = "[[site.members]]\nid = \"n-0000000000000013\"\naddress = \"127.0.0.1:7420\"\n";
    for (groups, said) in [
        (r#"["g-0000000000000001", "g-0000000000000002"]"#, "leaves g-0000000000000002 to others"),
        (r#"["g-0000000000000002"]"#, "leaves n-0000000000000013 without g-0000000000000001"),
    ] {
        let error = parse(&format!("{FOUNDED}{second}{member}groups = {groups}\n")).expect_err(said);
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[test]
fn the_example_says_everything() {
    let config = parse(EXAMPLE).unwrap();
    let groups = vec![GroupId(1), GroupId(2)];
    let member =
        |id: u64, address: &str| Member { id: NodeId(id), address: address.parse().unwrap(), groups: groups.clone() };
    let expected = Config {
        node: Node {
            id: NodeId(0x11),
            site: SiteId(0x51),
            data_dir: "/var/lib/dinhba".into(),
            listen: "0.0.0.0:7400".parse().unwrap(),
            advertise: "10.0.0.5:7400".parse().unwrap(),
            metrics_listen: Some("127.0.0.1:7401".parse().unwrap()),
            connection_age_ms: CONNECTION_AGE_MS,
        },
        tls: Tls::Mutual {
            ca: "/etc/dinhba/tls/ca.pem".into(),
            certificate: "/etc/dinhba/tls/n-0000000000000011.pem".into(),
            key: "/etc/dinhba/tls/n-0000000000000011.key".into(),
        },
        site: Site {
            unit: UnitId(0xc3),
            code: Some("01".to_owned()),
            signing_key: "/etc/dinhba/tls/s-0000000000000051.key".into(),
            secrets: "/etc/dinhba/tls/s-0000000000000051.secrets".into(),
            bootstrap: true,
            members: vec![member(0x11, "10.0.0.5:7400"), member(0x12, "10.0.0.6:7400"), member(0x13, "10.0.0.7:7400")],
            groups: vec![
                Group { id: GroupId(1), shards: vec![ShardId(1), ShardId(2)] },
                Group { id: GroupId(2), shards: vec![ShardId(3)] },
            ],
        },
        parent: Some(Parent {
            site: SiteId(1),
            addresses: vec!["10.0.1.1:7400".parse().unwrap(), "10.0.1.2:7400".parse().unwrap()],
            nodes: vec![ParentNode { id: NodeId(1), address: "192.168.7.1:7400".parse().unwrap() }],
        }),
        storage: Storage { engine: Engine::Lsm },
        raft: Raft::default(),
        link: Link::default(),
        numbers: Numbers::default(),
        log: Log { level: Level::Info, format: Format::Text },
        place: Some(Place { file: "/etc/dinhba/place.csv".into() }),
    };
    assert_eq!(config, expected);
}

#[test]
fn the_example_has_every_key_and_its_comments_show_the_defaults() {
    // Without the marks, each commented key is a key; what it shows must be what its absence means.
    let spoken: String = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    assert_eq!(parse(&spoken), parse(EXAMPLE));
    for (key, _) in KEYS.iter().filter(|(key, _)| *key != "tls.unsafe_loopback") {
        let last = key.rsplit('.').next().unwrap();
        let found = spoken.lines().any(|line| line.starts_with(&format!("{last} = ")) || line == format!("[[{key}]]"));
        assert!(found, "{key} is not in the example");
    }
}

#[test]
fn the_least_file_gets_defaults() {
    let config = parse(LEAST).unwrap();
    assert_eq!(config.node.advertise, config.node.listen);
    assert_eq!(config.node.data_dir, Path::new("/etc/dinhba/data"));
    assert_eq!((config.node.metrics_listen, config.parent, config.place), (None, None, None));
    assert_eq!(config.tls, Tls::UnsafeLoopback);
    assert!(!config.site.bootstrap);
    assert_eq!((config.site.code, config.site.members, config.site.groups), (None, vec![], vec![]));
    assert_eq!(config.storage.engine, Engine::Lsm);
    let raft = Raft {
        heartbeat_ms: 250,
        election_min_ms: 1000,
        election_max_ms: 2000,
        snapshot_every_entries: 50_000,
        keep_entries: 10_000,
    };
    assert_eq!(config.raft, raft);
    assert_eq!(config.link, Link { backoff_min_ms: 500, backoff_max_ms: 60_000, batch_bytes_max: 49_152 });
    assert_eq!(config.log, Log { level: Level::Info, format: Format::Text });
}

#[test]
fn what_is_written_is_read_back() {
    for text in [EXAMPLE, LEAST, FOUNDED] {
        let config = parse(text).unwrap();
        let written = config.to_toml().unwrap();
        assert_eq!(Config::parse(&written, Path::new("/elsewhere")), Ok(config), "{written}");
    }
    let mut config = parse(LEAST).unwrap();
    config.storage.engine = Engine::Memory;
    config.log = Log { level: Level::Trace, format: Format::Json };
    config.node.listen = "[::1]:7400".parse().unwrap();
    assert_eq!(parse(&config.to_toml().unwrap()), Ok(config));
}

#[test]
fn a_file_is_read_relative_to_itself_or_named_in_the_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    let error = Config::load(&path).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}: ", path.display())), "{error}");
    std::fs::write(&path, LEAST).unwrap();
    assert_eq!(Config::load(&path).unwrap().node.data_dir, dir.path().join("data"));
}

#[test]
fn an_address_is_a_host_and_a_port() {
    for text in ["127.0.0.1:7400", "[::1]:7400", "localhost:1", "node-1.lao-cai.example:65535"] {
        assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
    }
    for text in ["", "host", ":7400", "host:", "host:0", "host:65536", "::1:7400", "a b:1", "x@host:1", "http://h:1"] {
        assert_eq!(text.parse::<Address>(), Err(AddressError), "{text}");
    }
    let address = |text: &str| text.parse::<Address>().unwrap();
    assert!(address("0.0.0.0:1").is_wildcard() && address("[::]:1").is_wildcard());
    assert!(address("localhost:1").is_loopback() && !address("10.0.0.5:1").is_loopback());
}

#[test]
fn what_is_not_toml_is_shown_with_its_line() {
    refused(
        "[node]\nid = n-1\n",
        "`node.id` (line 2) is not TOML: invalid float, expected `nan`: \
         write the node's id, for example \"n-0000000000000001\"",
    );
    refused(
        "[node]\nwhat is this\n",
        "(line 2) is not TOML: key with no value, expected `=`: write `key = value` under a [table]",
    );
    refused(
        &with_line(LEAST, "data_dir", "id = \"n-0000000000000012\""),
        "`node.id` (line 4) is there twice: write it once",
    );
}

#[test]
fn an_unknown_key_is_shown_with_the_known_ones() {
    refused(
        &with_line(LEAST, "listen", "lisen = \"127.0.0.1:7400\""),
        "`node.lisen` (line 5) is not a key: there is no \"lisen\" here: \
         write one of id, site, data_dir, listen, advertise, metrics_listen, connection_age_ms",
    );
    refused(
        &format!("{LEAST}[strorage]\nengine = \"fjall\"\n"),
        "`strorage` (line 12) is not a key: there is no \"strorage\" here: \
         write one of node, tls, site, parent, storage, raft, link, numbers, log, place",
    );
    refused(
        &with_line(FOUNDED, "address = \"127.0.0.1:7410\"", "adress = \"127.0.0.1:7410\""),
        "`site.members[1].adress` (line 21) is not a key: there is no \"adress\" here: write one of id, address, groups",
    );
}

#[test]
fn a_missing_key_is_shown_with_what_to_write() {
    refused(
        &with_line(LEAST, "id", ""),
        "`node.id` is missing: write the node's id, for example \"n-0000000000000001\"",
    );
    refused(
        &with_line(LEAST, "site", ""),
        "`node.site` is missing: write the id of its site, for example \"s-0000000000000001\"",
    );
    refused(
        &with_line(LEAST, "data_dir", ""),
        "`node.data_dir` is missing: write a directory of this node alone, for example \"/var/lib/dinhba\"",
    );
    refused(
        &with_line(LEAST, "listen", ""),
        "`node.listen` is missing: write an IP address and a port, for example \"0.0.0.0:7400\"",
    );
    refused(
        &with_line(LEAST, "unit", ""),
        "`site.unit` is missing: write the id of the unit that the site serves, for example \"u-0000000000000001\"",
    );
    refused(
        &with_line(LEAST, "signing_key", ""),
        "`site.signing_key` is missing: write the path of the site's Ed25519 private key, PKCS #8 in PEM",
    );
    refused(
        &with_line(LEAST, "secrets", ""),
        "`site.secrets` is missing: write the path of the site's secrets: the keys of its index, its backups and the \
         country's digests",
    );
    refused(
        &with_line(LEAST, "unsafe_loopback", ""),
        "`tls.unsafe_loopback` and the certificates are missing: write ca, certificate and key, or, on this machine \
         alone, unsafe_loopback = true",
    );
    refused(
        &with_line(LEAST, "unsafe_loopback", "ca = \"ca.pem\""),
        "`tls.certificate` is missing: write the path of this node's certificate, PEM",
    );
    refused(
        &with_line(FOUNDED, "id = \"n-0000000000000012\"", ""),
        "`site.members[1].id` (line 19) is missing: write a node's id, for example \"n-0000000000000001\"",
    );
    refused(
        &with_line(FOUNDED, "shards", ""),
        "`site.groups[0].shards` (line 23) is missing: write the ids of its shards, for example \
         [\"h-0000000000000001\"]",
    );
    refused(
        &format!("{LEAST}[parent]\nsite = \"s-0000000000000001\"\n"),
        "`parent.addresses` is missing: write host:port of 1 to 7 nodes of the parent, for example [\"10.0.0.1:7400\"]",
    );
    refused(&format!("{LEAST}[place]\n"), "`place.file` is missing: write the path of the country's place file");
}

#[test]
fn a_value_of_the_wrong_kind_is_shown_with_what_to_write() {
    refused(
        &with_line(LEAST, "id", "id = 17"),
        "`node.id` (line 2) invalid type: integer `17`, expected a string: \
         write the node's id, for example \"n-0000000000000001\"",
    );
    refused(
        &with_line(LEAST, "unsafe_loopback", "unsafe_loopback = \"yes\""),
        "`tls.unsafe_loopback` (line 7) invalid type: string \"yes\", expected a boolean: \
         write ca, certificate and key, or, on this machine alone, unsafe_loopback = true",
    );
    refused(
        &format!("{LEAST}[raft]\nheartbeat_ms = -1\n"),
        "`raft.heartbeat_ms` (line 13) invalid value: integer `-1`, expected u64: write 10 to 10000; the default is 250",
    );
    refused(
        &with_line(FOUNDED, "shards", "shards = [\"h-0000000000000001\", 2]"),
        "`site.groups[0].shards[1]` (line 25) invalid type: integer `2`, expected a string: \
         write the ids of its shards, for example [\"h-0000000000000001\"]",
    );
    refused(
        &format!("log = 5\n{LEAST}"),
        "`log` (line 1) invalid type: integer `5`, expected a table: write a table with keys out of level, format",
    );
}

#[test]
fn a_wrong_id_or_word_is_shown_with_a_right_one() {
    refused(
        &with_line(LEAST, "id", "id = \"s-0000000000000011\""),
        "`node.id` (line 2) is wrong: \"s-0000000000000011\" is not a node id: expected `n-` and 16 hex digits: \
         write the node's id, for example \"n-0000000000000001\"",
    );
    refused(
        &with_line(LEAST, "data_dir", "data_dir = \"\""),
        "`node.data_dir` (line 4) is empty: write a directory of this node alone, for example \"/var/lib/dinhba\"",
    );
    refused(
        &format!("{LEAST}code = \"1a\"\n"),
        "`site.code` (line 12) is no code with \"1a\": \
         write the unit's code today, 2, 3 or 5 digits in quotes, for example \"01\", or leave it out",
    );
    refused(
        &format!("{LEAST}[storage]\nengine = \"rocksdb\"\n"),
        "`storage.engine` (line 13) has no meaning with \"rocksdb\": \
         write \"lsm\" (the default), \"fjall\", \"sled\" (experimental) or \"memory\" (loses everything at exit)",
    );
    refused(
        &format!("{LEAST}[log]\nlevel = \"loud\"\n"),
        "`log.level` (line 13) has no meaning with \"loud\": \
         write \"error\", \"warn\", \"info\" (the default), \"debug\" or \"trace\"",
    );
    refused(
        &format!("{LEAST}[log]\nformat = \"xml\"\n"),
        "`log.format` (line 13) has no meaning with \"xml\": write \"text\" (the default) or \"json\"",
    );
}

#[test]
fn an_address_that_does_not_serve_is_shown() {
    let listen = "write an IP address and a port, for example \"0.0.0.0:7400\"";
    refused(
        &with_line(LEAST, "listen", "listen = \"7400\""),
        &format!("`node.listen` (line 5) is wrong: not host:port with a port from 1 to 65535: {listen}"),
    );
    refused(
        &with_line(LEAST, "listen", "listen = \"node-1:7400\""),
        &format!("`node.listen` (line 5) is a name, and a node listens at an address: {listen}"),
    );
    let advertise = "write host:port under which other nodes reach this one, for example \"10.0.0.5:7400\"";
    refused(
        &with_line(LEAST, "listen", "listen = \"0.0.0.0:7400\""),
        &format!(
            "`node.advertise` is missing, and node.listen means every address, while others need one to dial: {advertise}"
        ),
    );
    refused(
        &with_line(LEAST, "data_dir", "data_dir = \"d\"\nadvertise = \"[::]:7400\""),
        &format!("`node.advertise` (line 5) means every address, and others need one to dial: {advertise}"),
    );
    refused(
        &with_line(LEAST, "data_dir", "data_dir = \"d\"\nmetrics_listen = \"127.0.0.1:7400\""),
        "`node.metrics_listen` (line 5) is the same as node.listen: \
         write an IP address and a port, for example \"127.0.0.1:7401\", or leave it out",
    );
}

#[test]
fn no_tls_is_for_this_machine_alone() {
    let instead = "write ca, certificate and key, or, on this machine alone, unsafe_loopback = true";
    let open = "would let anybody in the network be anybody, since node.listen or node.advertise is not an address of \
                this machine alone";
    refused(
        &with_line(LEAST, "listen", "listen = \"10.0.0.5:7400\""),
        &format!("`tls.unsafe_loopback` (line 7) {open}: {instead}"),
    );
    refused(
        &with_line(LEAST, "data_dir", "data_dir = \"d\"\nadvertise = \"10.0.0.5:7400\""),
        &format!("`tls.unsafe_loopback` (line 8) {open}: {instead}"),
    );
    refused(
        &with_line(LEAST, "unsafe_loopback", "unsafe_loopback = true\nkey = \"node.key\""),
        &format!("`tls.unsafe_loopback` (line 7) contradicts the certificate beside it: {instead}"),
    );
    refused(
        &with_line(LEAST, "unsafe_loopback", "unsafe_loopback = false"),
        "`tls.ca` is missing: write the path of the authority's certificate, PEM",
    );
}

#[test]
fn a_number_out_of_bounds_is_shown_with_the_bounds() {
    let raft = |lines: &str| format!("{LEAST}[raft]\n{lines}\n");
    let link = |lines: &str| format!("{LEAST}[link]\n{lines}\n");
    refused(
        &with_line(LEAST, "data_dir", "data_dir = \"d\"\nconnection_age_ms = 999"),
        "`node.connection_age_ms` (line 5) is out of bounds with 999: write 1000 to 86400000; the default is 3600000",
    );
    refused(
        &raft("heartbeat_ms = 5"),
        "`raft.heartbeat_ms` (line 13) is out of bounds with 5: write 10 to 10000; the default is 250",
    );
    refused(
        &raft("heartbeat_ms = 500"),
        "`raft.election_min_ms` is out of bounds with 1000: heartbeat_ms is 500: \
         write at least 3 heartbeats, at most 60000; the default is 1000",
    );
    refused(
        &raft("election_min_ms = 2000"),
        "`raft.election_max_ms` is out of bounds with 2000: election_min_ms is 2000: \
         write more than election_min_ms, at most 60000; the default is 2000",
    );
    refused(
        &raft("snapshot_every_entries = 0"),
        "`raft.snapshot_every_entries` (line 13) is out of bounds with 0: write 1 to 10000000; the default is 50000",
    );
    refused(
        &raft("keep_entries = 10000001"),
        "`raft.keep_entries` (line 13) is out of bounds with 10000001: write 0 to 10000000; the default is 10000",
    );
    refused(
        &link("backoff_min_ms = 5"),
        "`link.backoff_min_ms` (line 13) is out of bounds with 5: write 10 to 60000; the default is 500",
    );
    refused(
        &link("backoff_min_ms = 700\nbackoff_max_ms = 600"),
        "`link.backoff_max_ms` (line 14) is out of bounds with 600: backoff_min_ms is 700: \
         write at least backoff_min_ms, at most 3600000; the default is 60000",
    );
    refused(
        &link("batch_bytes_max = 100"),
        "`link.batch_bytes_max` (line 13) is out of bounds with 100: write 1024 to 49152; the default is 49152",
    );
}

#[test]
fn a_site_that_cannot_be_founded_is_shown() {
    let members = "write one [[site.members]] per node of the new site, at most 7";
    refused(
        &with_line(FOUNDED, "file", "").replace("[place]\n", ""),
        "`place.file` is missing, and a site is founded with a tree of units: write the path of the country's place file",
    );
    refused(
        &format!("{LEAST}bootstrap = true\n"),
        "`site.groups` (line 12) is missing, and site.bootstrap founds a site with groups: \
         write one [[site.groups]] per Raft group of the new site",
    );
    refused(
        &FOUNDED.replacen("n-0000000000000011", "n-0000000000000019", 1),
        &format!(
            "`site.members` (line 14) does not list this node, and site.bootstrap founds a site with it: {members}"
        ),
    );
    refused(
        &FOUNDED.replacen("127.0.0.1:7400", "127.0.0.1:7409", 1),
        &format!(
            "`site.members` (line 14) says that this node is at 127.0.0.1:7400, and node.advertise that it is at \
             127.0.0.1:7409: {members}"
        ),
    );
    let many: String = (0..6)
        .map(|i| {
            format!("[[site.members]]\nid = \"n-000000000000002{i}\"\naddress = \"h:{}\"\ngroups = []\n", 7500 + i)
        })
        .collect();
    refused(&format!("{FOUNDED}{many}"), &format!("`site.members` (line 46) has more than 7 entries: {members}"));
    refused(
        &FOUNDED.replace("groups = [\"g-0000000000000001\"]", "groups = []"),
        &format!("`site.members` (line 15) leaves g-0000000000000001 without a node that hosts it: {members}"),
    );
}

#[test]
fn members_and_groups_fit_each_other() {
    let node = "write a node's id, for example \"n-0000000000000001\"";
    refused(
        &FOUNDED.replace("n-0000000000000012", "n-0000000000000011"),
        &format!("`site.members[1].id` (line 20) repeats n-0000000000000011: {node}"),
    );
    let address = "write host:port of that node, for example \"10.0.0.5:7400\"";
    refused(
        &FOUNDED.replace("7410", "7400"),
        &format!("`site.members[1].address` (line 21) repeats another member's with 127.0.0.1:7400: {address}"),
    );
    refused(
        &FOUNDED.replace("127.0.0.1:7410", "0.0.0.0:7410"),
        &format!("`site.members[1].address` (line 21) cannot be dialed with 0.0.0.0:7410: {address}"),
    );
    let hosted = "write the ids of the groups that it hosts, for example [\"g-0000000000000001\"]";
    refused(
        &FOUNDED.replacen("[\"g-0000000000000001\"]", "[\"g-0000000000000002\"]", 1),
        &format!("`site.members[0].groups` (line 18) names g-0000000000000002, which is not in site.groups: {hosted}"),
    );
    refused(
        &FOUNDED.replacen("[\"g-0000000000000001\"]", "[\"g-0000000000000001\", \"g-0000000000000001\"]", 1),
        &format!("`site.members[0].groups` (line 18) names a group twice: {hosted}"),
    );
    let again = "[[site.groups]]\nid = \"g-0000000000000001\"\nshards = []\n";
    refused(
        &format!("{FOUNDED}{again}"),
        "`site.groups[1].id` (line 27) repeats g-0000000000000001: write a group's id, for example \"g-0000000000000001\"",
    );
    let shared = "[[site.groups]]\nid = \"g-0000000000000002\"\nshards = [\"h-0000000000000001\"]\n";
    refused(
        &format!("{FOUNDED}{shared}"),
        "`site.groups[1].shards` (line 28) repeats h-0000000000000001, and a shard lies in one group: \
         write the ids of its shards, for example [\"h-0000000000000001\"]",
    );
}

#[test]
fn a_parent_is_another_site_that_can_be_dialed() {
    let parent = |site: &str, addresses: &str| format!("{LEAST}[parent]\nsite = \"{site}\"\naddresses = {addresses}\n");
    refused(
        &parent("s-0000000000000051", "[\"10.0.0.1:7400\"]"),
        "`parent.site` (line 13) is this node's own site, and no site is its own parent: \
         write the id of the parent's site, for example \"s-0000000000000001\"; the centre has no [parent]",
    );
    let instead = "write host:port of 1 to 7 nodes of the parent, for example [\"10.0.0.1:7400\"]";
    refused(&parent("s-0000000000000001", "[]"), &format!("`parent.addresses` (line 14) has 0 entries: {instead}"));
    refused(
        &parent("s-0000000000000001", "[\"0.0.0.0:7400\"]"),
        &format!("`parent.addresses` (line 14) cannot be dialed with 0.0.0.0:7400: {instead}"),
    );
}

#[test]
fn a_node_of_the_parent_may_be_reached_at_an_address_of_its_own() {
    let parent = |nodes: &str| {
        format!("{LEAST}[parent]\nsite = \"s-0000000000000001\"\naddresses = [\"10.0.0.1:7400\"]\n{nodes}")
    };
    let node = |id: u64, address: &str| format!("[[parent.nodes]]\nid = \"{}\"\naddress = \"{address}\"\n", NodeId(id));
    let config = parse(&parent(&(node(2, "10.9.0.2:1") + &node(1, "10.9.0.1:1")))).unwrap();
    let nodes = config.parent.as_ref().unwrap().nodes.iter().map(|node| (node.id, node.address.to_string()));
    assert_eq!(nodes.collect::<Vec<_>>(), [(NodeId(1), "10.9.0.1:1".into()), (NodeId(2), "10.9.0.2:1".into())]);
    assert_eq!(parse(&config.to_toml().unwrap()), Ok(config));
    refused(
        &parent(&(node(1, "10.9.0.1:1") + &node(1, "10.9.0.2:1"))),
        "`parent.nodes[1].id` (line 19) repeats n-0000000000000001: \
         write a node's id, for example \"n-0000000000000001\"",
    );
    refused(
        &parent(&node(1, "0.0.0.0:1")),
        "`parent.nodes[0].address` (line 17) cannot be dialed with 0.0.0.0:1: \
         write host:port at which this site reaches that node, for example \"10.0.0.1:7400\"",
    );
}
