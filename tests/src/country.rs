//! Sites of a country on this machine: ids, ports, certificates, configurations, lines, and the processes of their nodes.
//!
//! A story names its sites by the codes of real units of 2024, parents first. Every site reaches its parent over a [`Line`] of
//! its own, one entrance per node of the parent, and knows no other way. Ports are leased from a directory that all tests on
//! this machine share, below the range of outgoing connections, so a node that restarts finds its port again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dinhba_client::ambient::Machine;
use dinhba_client::tls::{Credentials, LoopbackDialer, TlsDialer, named, node_name};
use dinhba_client::transport::Dial;
use dinhba_client::{Client, Context, Limits};
use dinhba_core::claims::{Claims, Identity, Role};
use dinhba_core::ids::{EvidenceId, GroupId, NodeId, ShardId, SiteId, UnitId};
use dinhba_core::units::{BEFORE_REFORM, Directory, Unit};
use dinhba_node::config::{
    CONNECTION_AGE_MS, Config, Engine, Group, Link, Log, Member, Node, Numbers, Parent, ParentNode, Place, Raft,
    Storage, Tls,
};
use dinhba_node::pki::{DevAuthority, read_public_key, read_signing_key};
use dinhba_proto::v1;
use tempfile::TempDir;

use crate::line::Line;
use crate::process::{self, Running};

/// The first port that is leased: below the range of outgoing connections (32768 and up, as Linux has it).
const PORT_FIRST: u16 = 12_000;
/// Ports of one country, and how many countries at once.
const PORTS_EACH: u16 = 16;
const LEASES: u16 = 500;

/// How long a site may take to be ready: an election, and the founding, on a busy machine.
const READY_WAIT: Duration = Duration::from_secs(30);
/// Time between two looks at something that should come to pass.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A node of a site.
#[derive(Debug, Clone)]
pub struct NodePlan {
    /// Its id.
    pub id: NodeId,
    /// Where it listens.
    pub port: u16,
    /// Its directory.
    pub dir: PathBuf,
    /// Its configuration, as it was last written.
    pub config: Config,
    /// Up to which feature level it works when it is started; all that the program knows, unless it stands for an older one.
    pub level_max: Option<u16>,
}

impl NodePlan {
    /// `127.0.0.1:<port>`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
    /// The file of its configuration.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.dir.join("node.toml")
    }
    /// What it writes.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join("node.log")
    }
    /// The command that runs it.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        process::node_command(program, &self.config_file(), self.level_max)
    }
    /// Its data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.config.node.data_dir.clone()
    }
    /// Writes its configuration.
    pub fn write(&self) {
        fs::write(self.config_file(), self.config.to_toml().expect("a configuration can be written")).expect("disk");
    }
}

/// A site.
#[derive(Clone)]
pub struct Site {
    /// Its id.
    pub id: SiteId,
    /// Its unit.
    pub unit: UnitId,
    /// The unit's code.
    pub code: String,
    /// Its nodes.
    pub nodes: Vec<NodePlan>,
    /// Its groups and what each hosts.
    pub groups: Vec<(GroupId, Vec<ShardId>)>,
    /// Its line to its parent.
    pub line: Line,
}

/// What a story wants.
#[derive(Debug, Clone)]
pub struct Wish<'a> {
    /// The unit's code of 2024.
    pub code: &'a str,
    /// Nodes.
    pub nodes: usize,
    /// The code of the parent's unit.
    pub parent: Option<&'a str>,
    /// For each group, the codes of the communes whose shards it hosts.
    pub groups: Vec<Vec<&'a str>>,
}

/// A site of `nodes` nodes with one group for the shards of `communes`.
#[must_use]
pub fn site<'a>(code: &'a str, nodes: usize, parent: Option<&'a str>, communes: &[&'a str]) -> Wish<'a> {
    Wish { code, nodes, parent, groups: vec![communes.to_vec()] }
}

/// The country of one story.
pub struct Country {
    /// The units.
    pub directory: Arc<Directory>,
    /// Its sites by the codes of their units.
    pub sites: BTreeMap<String, Site>,
    program: PathBuf,
    running: BTreeMap<NodeId, Running>,
    authority: DevAuthority,
    ports: std::ops::Range<u16>,
    next_id: u64,
    is_plain: bool,
    /// Communes that were added.
    added: BTreeSet<String>,
    _lease: File,
    dir: TempDir,
}

fn free_ports() -> (File, std::ops::Range<u16>) {
    let dir = std::env::temp_dir().join("dinhba-tests-ports");
    fs::create_dir_all(&dir).expect("the directory of leases can be made");
    for lease in 0..LEASES {
        let file = File::create(dir.join(lease.to_string())).expect("a lease can be written");
        if file.try_lock().is_err() {
            continue;
        }
        let ports = PORT_FIRST + lease * PORTS_EACH..PORT_FIRST + (lease + 1) * PORTS_EACH;
        // Somebody else on this machine may listen there.
        if ports.clone().all(|port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return (file, ports);
        }
    }
    panic!("no free ports between {PORT_FIRST} and {}", PORT_FIRST + LEASES * PORTS_EACH);
}

impl Country {
    /// Lays out the sites; nothing runs yet. `program` is `env!("CARGO_BIN_EXE_dinhba-tested")`.
    pub async fn plan(program: &str, wishes: &[Wish<'_>]) -> Self {
        let dir = tempfile::Builder::new().prefix("dinhba-story-").tempdir().expect("a temporary directory");
        let directory = Arc::new(Directory::vietnam().expect("the units are built in"));
        let authority = DevAuthority::create(&dir.path().join("pki")).expect("an authority");
        let (lease, ports) = free_ports();
        let mut country = Country {
            directory,
            sites: BTreeMap::new(),
            program: program.into(),
            running: BTreeMap::new(),
            authority,
            ports,
            next_id: 1,
            is_plain: false,
            added: BTreeSet::new(),
            _lease: lease,
            dir,
        };
        for wish in wishes {
            country.lay(wish).await;
        }
        country.write_place();
        country
    }

    /// Lays out the sites and starts all nodes.
    pub async fn start(program: &str, wishes: &[Wish<'_>]) -> Self {
        let mut country = Country::plan(program, wishes).await;
        country.start_all();
        country.ready().await;
        country
    }

    /// Starts every node.
    pub fn start_all(&mut self) {
        let all: Vec<NodePlan> = self.sites.values().flat_map(|site| site.nodes.clone()).collect();
        for node in all {
            self.start_node(&node);
        }
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The unit of a code of 2024.
    #[must_use]
    pub fn unit(&self, code: &str) -> UnitId {
        self.directory.by_code(code, BEFORE_REFORM).unwrap_or_else(|| panic!("no unit {code} in 2024")).id
    }

    /// Takes note of a unit that the centre made.
    pub fn learn(&mut self, unit: &Unit) {
        Arc::make_mut(&mut self.directory).take(unit).expect("a unit that fits the others");
    }

    /// Lays out a site that is added while the others run: it knows itself and those above it. Its commune's shard has the
    /// name that all give it.
    pub async fn lay_added(&mut self, wish: &Wish<'_>) {
        self.added.extend(wish.groups.iter().flatten().map(|commune| (*commune).to_owned()));
        self.lay(wish).await;
        let mut place = String::from("kind,id,unit,parent,public_key\n");
        let mut next = Some(wish.code.to_owned());
        while let Some(code) = next {
            let site = &self.sites[&code];
            let parent = site.nodes[0].config.parent.as_ref().map(|above| above.site);
            let above = parent.map(|parent| parent.to_string()).unwrap_or_default();
            place.push_str(&format!("site,{},{},{above},{}\n", site.id, site.unit, self.public_key(&code)));
            next = self.sites.values().find(|other| Some(other.id) == parent).map(|other| other.code.clone());
        }
        for commune in wish.groups.iter().flatten() {
            place.push_str(&format!("shard,{},{},,\n", self.shard(commune), self.unit(commune)));
        }
        let file = self.dir.path().join(format!("place-{}.csv", wish.code));
        fs::write(&file, place).expect("disk");
        self.configure(wish.code, |config| config.place = Some(Place { file: file.clone() }));
    }

    /// The key that verifies what a site signs, in hex digits: of the file that its nodes are started with.
    #[must_use]
    pub fn public_key(&self, code: &str) -> String {
        let key = read_signing_key(&self.sites[code].nodes[0].config.site.signing_key).expect("a site's key");
        key.verifying_key().to_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Gives a site's nodes another key, for their next start.
    pub fn rekey(&mut self, code: &str) {
        let id = SiteId(self.id());
        let file = self.authority.issue_site_key(id).expect("a site's key").signing;
        self.configure(code, |config| config.site.signing_key = file.clone());
    }

    /// The shard of a commune: the same at all its sites.
    #[must_use]
    pub fn shard(&self, commune: &str) -> ShardId {
        if self.added.contains(commune) {
            return ShardId::of_commune(self.unit(commune));
        }
        ShardId(0xc000_0000 + commune.parse::<u64>().expect("a commune's code is a number"))
    }

    async fn lay(&mut self, wish: &Wish<'_>) {
        let (id, unit) = (SiteId(self.id()), self.unit(wish.code));
        let line = Line::default();
        let parent = match wish.parent {
            None => None,
            Some(code) => {
                let above = &self.sites[code];
                let mut nodes = Vec::new();
                for node in &above.nodes {
                    let address = line.forward(node.address().parse().expect("an address")).await;
                    nodes.push(ParentNode { id: node.id, address: address.to_string().parse().expect("an address") });
                }
                let addresses = nodes.iter().map(|node| node.address.clone()).collect();
                Some(Parent { site: above.id, addresses, nodes })
            }
        };
        let groups: Vec<(GroupId, Vec<ShardId>)> = wish
            .groups
            .iter()
            .map(|communes| {
                let mut shards: Vec<ShardId> = communes.iter().map(|commune| self.shard(commune)).collect();
                shards.sort();
                (GroupId(self.id()), shards)
            })
            .collect();
        let key = self.authority.issue_site_key(id).expect("a site's key");
        let nodes: Vec<(NodeId, u16)> = (0..wish.nodes).map(|_| (NodeId(self.id()), self.port())).collect();
        let members: Vec<Member> = nodes
            .iter()
            .map(|(node, port)| Member {
                id: *node,
                address: format!("127.0.0.1:{port}").parse().expect("an address"),
                groups: groups.iter().map(|(group, _)| *group).collect(),
            })
            .collect();
        let plans = nodes.iter().enumerate().map(|(number, (node, port))| {
            let dir = self.dir.path().join(format!("{}-{node}", wish.code));
            fs::create_dir_all(&dir).expect("disk");
            let paths = self.authority.issue_node(id, *node).expect("a certificate");
            let address: dinhba_node::config::Address = format!("127.0.0.1:{port}").parse().expect("an address");
            let config = Config {
                node: Node {
                    id: *node,
                    site: id,
                    data_dir: dir.join("data"),
                    listen: address.clone(),
                    advertise: address,
                    metrics_listen: None,
                    connection_age_ms: CONNECTION_AGE_MS,
                },
                tls: Tls::Mutual { ca: paths.ca, certificate: paths.certificate, key: paths.key },
                site: dinhba_node::config::Site {
                    unit,
                    code: Some(wish.code.to_owned()),
                    signing_key: key.signing.clone(),
                    secrets: key.secrets.clone(),
                    bootstrap: number == 0,
                    members: members.clone(),
                    groups: groups.iter().map(|(id, shards)| Group { id: *id, shards: shards.clone() }).collect(),
                },
                parent: parent.clone(),
                storage: Storage { engine: Engine::default() },
                raft: Raft { heartbeat_ms: 250, election_min_ms: 800, election_max_ms: 1_500, ..Raft::default() },
                link: Link { backoff_min_ms: 50, backoff_max_ms: 300, ..Link::default() },
                numbers: Numbers::default(),
                log: Log::default(),
                place: Some(Place { file: self.dir.path().join("place.csv") }),
            };
            let plan = NodePlan { id: *node, port: *port, dir, config, level_max: None };
            plan.write();
            plan
        });
        let nodes = plans.collect();
        let site = Site { id, unit, code: wish.code.to_owned(), nodes, groups, line };
        self.sites.insert(wish.code.to_owned(), site);
    }

    /// A port that nobody of this country has.
    pub fn port(&mut self) -> u16 {
        self.ports.next().expect("a story has at most as many nodes as it leases ports")
    }

    fn write_place(&self) {
        let mut place = String::from("kind,id,unit,parent,public_key\n");
        let mut homes = BTreeMap::new();
        for site in self.sites.values() {
            let public = self.dir.path().join("pki/sites").join(format!("{}.pub", site.id));
            let public = read_public_key(&public).expect("a public key").to_bytes();
            let public: String = public.iter().map(|byte| format!("{byte:02x}")).collect();
            let parent = site.nodes[0].config.parent.as_ref().map(|above| above.site.to_string()).unwrap_or_default();
            place.push_str(&format!("site,{},{},{parent},{public}\n", site.id, site.unit));
            for shard in site.groups.iter().flat_map(|(_, shards)| shards) {
                let code = format!("{:05}", shard.0 - 0xc000_0000);
                homes.insert(*shard, self.unit(&code));
            }
        }
        for (shard, unit) in homes {
            place.push_str(&format!("shard,{shard},{unit},,\n"));
        }
        fs::write(self.dir.path().join("place.csv"), place).expect("disk");
    }

    /// Changes the configurations of a site's nodes, before they start.
    pub fn configure(&mut self, code: &str, change: impl Fn(&mut Config)) {
        for node in &mut self.sites.get_mut(code).expect("a site of the story").nodes {
            change(&mut node.config);
            node.write();
        }
    }

    /// Takes TLS away from all nodes and clients, before anything starts: to be measured beside what has none.
    pub fn unprotected(&mut self) {
        self.is_plain = true;
        for code in self.sites.keys().cloned().collect::<Vec<_>>() {
            self.configure(&code, |config| config.tls = Tls::UnsafeLoopback);
        }
    }

    /// Where everything lies.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// A node of a site, by its place from 0.
    #[must_use]
    pub fn node(&self, code: &str, at: usize) -> NodePlan {
        self.sites[code].nodes[at].clone()
    }

    /// Lets a node of a site stand for a version that knows feature levels up to this one, or for this version, from its next
    /// start on; gives the node.
    pub fn set_version(&mut self, code: &str, at: usize, level_max: Option<u16>) -> NodePlan {
        let node = &mut self.sites.get_mut(code).expect("a site of the story").nodes[at];
        node.level_max = level_max;
        node.clone()
    }

    /// A new node of a site: its certificate and configuration. It does not run, and the site does not know it.
    pub fn new_node(&mut self, code: &str) -> NodePlan {
        let (id, port) = (NodeId(self.id()), self.port());
        let site = &self.sites[code];
        let dir = self.dir.path().join(format!("{code}-{id}"));
        fs::create_dir_all(&dir).expect("disk");
        let paths = self.authority.issue_node(site.id, id).expect("a certificate");
        let mut config = site.nodes[0].config.clone();
        config.node.id = id;
        config.node.data_dir = dir.join("data");
        config.node.listen = format!("127.0.0.1:{port}").parse().expect("an address");
        config.node.advertise = config.node.listen.clone();
        config.tls = Tls::Mutual { ca: paths.ca, certificate: paths.certificate, key: paths.key };
        config.site.bootstrap = false;
        let plan = NodePlan { id, port, dir, config, level_max: None };
        plan.write();
        plan
    }

    /// Starts a node.
    pub fn start_node(&mut self, node: &NodePlan) {
        self.start_faulty(node, None);
    }

    /// Starts a node with a fault armed in it.
    pub fn start_faulty(&mut self, node: &NodePlan, fault: Option<&str>) {
        let running = Running::start(node.command(&self.program), &node.log(), fault);
        self.running.insert(node.id, running);
    }

    /// The process of a node.
    pub fn process(&mut self, node: NodeId) -> &mut Running {
        self.running.get_mut(&node).expect("the node runs")
    }

    /// Kills a node as a power cut would end it.
    pub fn kill(&mut self, node: NodeId) {
        self.running.remove(&node).expect("the node runs").kill();
    }

    /// Asks a node to end, and waits for at most ten seconds; how it ended, and after how long.
    pub fn terminate(&mut self, node: NodeId) -> (Option<ExitStatus>, Duration) {
        self.running.remove(&node).expect("the node runs").terminate(Duration::from_secs(10))
    }

    /// A client of some nodes of one site, as a person of a unit.
    #[must_use]
    pub fn client<'a>(&self, nodes: impl IntoIterator<Item = &'a NodePlan>, role: Role, unit: &str) -> Client {
        let addresses: Vec<String> =
            nodes.into_iter().map(|node| named(&node_name(node.id), &node.address())).collect();
        let dial: Arc<dyn Dial> = if self.is_plain {
            let subject = format!("{role}.{unit}");
            let claims = Claims::new(&subject, role, self.unit(unit), EvidenceId::default()).expect("a person");
            Arc::new(LoopbackDialer::new(&Identity::Person(claims)))
        } else {
            Arc::new(TlsDialer::new(&self.credentials(role, unit)))
        };
        Client::new(dial, addresses, Arc::new(Machine::default()), limits())
    }

    /// A client of a whole site, as a person of a unit.
    #[must_use]
    pub fn site_client(&self, code: &str, role: Role, unit: &str) -> Client {
        self.client(&self.sites[code].nodes, role, unit)
    }

    /// The certificate of a person, issued at first use.
    #[must_use]
    pub fn credentials(&self, role: Role, unit: &str) -> Credentials {
        let [ca, certificate, key] = self.identity(role, unit).map(|path| fs::read_to_string(path).expect("disk"));
        Credentials { ca, certificate, key }
    }

    /// The files of a person's identity: authority, certificate, key.
    #[must_use]
    pub fn identity(&self, role: Role, unit: &str) -> [PathBuf; 3] {
        let dir = self.dir.path().join(format!("people-{role}-{unit}"));
        let files = ["ca.pem", "cert.pem", "key.pem"].map(|name| dir.join(name));
        if !dir.exists() {
            let paths =
                self.authority.issue_person(&format!("{role}.{unit}"), role, self.unit(unit)).expect("a person");
            fs::create_dir_all(&dir).expect("disk");
            for (from, to) in [paths.ca, paths.certificate, paths.key].iter().zip(&files) {
                fs::copy(from, to).expect("disk");
            }
        }
        files
    }

    /// A node's own view of its site.
    pub async fn status(&self, code: &str, node: &NodePlan) -> Option<v1::StatusReply> {
        let client = self.client([node], Role::Operator, code).with_limits(Limits {
            attempt: Duration::from_secs(2),
            deadline: Duration::from_secs(2),
            ..limits()
        });
        client.status(&operating()).await.ok()
    }

    /// Waits until every running node of every site serves: all groups led, all shards there.
    pub async fn ready(&self) {
        for code in self.sites.keys() {
            self.site_ready(code).await;
        }
    }

    /// Waits until every running node of a site serves.
    pub async fn site_ready(&self, code: &str) {
        let site = &self.sites[code];
        for node in site.nodes.iter().filter(|node| self.running.contains_key(&node.id)) {
            // A member may leave groups to others; a node that was added has all.
            let member = node.config.site.members.iter().find(|member| member.id == node.id);
            let groups = member.map_or(site.groups.len(), |member| member.groups.len());
            eventually(&format!("{} of {code} serves", node.id), READY_WAIT, async || {
                let Some(status) = self.status(code, node).await else { return false };
                status.health.is_empty()
                    && status.groups.len() == groups
                    && status.groups.iter().all(|group| {
                        let planned = site.groups.iter().find(|(id, _)| id.to_string() == group.group);
                        !group.leader.is_empty()
                            && planned.is_some_and(|(_, shards)| {
                                shards.len() == group.shards.iter().filter(|shard| !shard.ancestor).count()
                            })
                            && !status.nodes.is_empty()
                    })
            })
            .await;
        }
    }

    /// The place of the node that leads a site's first group.
    pub async fn leader(&self, code: &str) -> usize {
        let site = &self.sites[code];
        let mut found = None;
        eventually(&format!("{code} has a leader"), READY_WAIT, async || {
            for node in site.nodes.iter().filter(|node| self.running.contains_key(&node.id)) {
                let Some(status) = self.status(code, node).await else { continue };
                let leader = status.groups.first().map(|group| group.leader.clone()).unwrap_or_default();
                let at = site
                    .nodes
                    .iter()
                    .position(|node| node.id.to_string() == leader && self.running.contains_key(&node.id));
                if at.is_some() {
                    found = at;
                    return true;
                }
            }
            false
        })
        .await;
        found.expect("a leader was found")
    }
}

impl Drop for Country {
    fn drop(&mut self) {
        self.running.clear();
        if std::thread::panicking() {
            for node in self.sites.values().flat_map(|site| &site.nodes) {
                eprintln!("{}:\n  {}", node.log().display(), process::tail(&node.log()));
            }
        }
    }
}

/// How long clients of the stories wait: less than people do, more than an election takes.
#[must_use]
pub fn limits() -> Limits {
    Limits {
        turn: Duration::from_secs(2),
        attempt: Duration::from_secs(4),
        deadline: Duration::from_secs(25),
        admin: Duration::from_secs(30),
        pause_min: Duration::from_millis(20),
        pause_max: Duration::from_millis(200),
    }
}

/// Why operators ask.
#[must_use]
pub fn operating() -> Context {
    Context::parse("maintenance", "VH-1").expect("a purpose and a case")
}

/// Waits until something holds; panics with `what` if it does not in time.
pub async fn eventually(what: &str, limit: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < limit, "{what}: not within {limit:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Copies a directory with all that is in it.
pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("disk");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("disk");
        }
    }
}
