//! A simulated country: sites, the machines of their nodes, and what operators and disasters do to them.
//!
//! A machine is a disk, a state engine, a clock and a plug; a node is what runs on it, started through the same
//! `Node::prepare` and `start` as in production. Everything that hits a machine goes through this module, so that the
//! trace has it.
//!
//! Leaves to others: when what happens (`faults`), who works (`officers`), whether the promises hold (`checks`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dinhba_client::{Client, Limits};
use dinhba_core::claims::{Claims, Identity, Role};
use dinhba_core::ids::{EvidenceId, GroupId, NodeId, ShardId, SiteId, UnitId};
use dinhba_core::level::LEVEL_MAX;
use dinhba_core::units::{Directory, Tier};
use dinhba_node::config::{self, Config, Member};
use dinhba_node::disk::Disk;
use dinhba_node::log::{LogOptions, Tasked, refuse_lost};
use dinhba_node::node::{Node, Seams};
use dinhba_node::pki::SiteKeys;
use dinhba_node::raft::group::Role as RaftRole;
use dinhba_node::runtime::NodeScope;
use dinhba_node::seal::Unsealed;
use dinhba_node::secrets::Secrets;
use dinhba_node::server;
use dinhba_node::state::MemoryState;
use ed25519_dalek::SigningKey;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::ambient::VirtualAmbient;
use crate::disk::SimDisk;
use crate::executor::Handle;
use crate::scenario::{NodeRef, Scenario, Which, directory, unit};
use crate::trace::{Event, NodePlace, SitePlace, Trace};
use crate::wire::{Endpoint, Path, Wire};

/// Scopes of people begin here; those of machines below.
const PEOPLE: u64 = 1 << 32;

/// Keys the digests of every simulated country.
const DIGEST_SECRET: [u8; 32] = [9; 32];

/// A site.
pub struct Site {
    /// The code of its unit.
    pub code: String,
    /// Its id.
    pub id: SiteId,
    /// Its unit.
    pub unit: UnitId,
    /// Its level.
    pub tier: Tier,
    /// The site above.
    pub parent: Option<SitePlace>,
    /// Its groups with the shards that each hosts. All its nodes are members of all.
    pub groups: Vec<(GroupId, Vec<ShardId>)>,
    key: SigningKey,
}

impl Site {
    /// All its shards.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.groups.iter().flat_map(|(_, shards)| shards.iter().copied())
    }

    /// All its shards, each with the group that hosts it.
    pub fn hosts(&self) -> impl Iterator<Item = (GroupId, ShardId)> + '_ {
        self.groups.iter().flat_map(|(group, shards)| shards.iter().map(|shard| (*group, *shard)))
    }

    /// The group that hosts a shard.
    #[must_use]
    pub fn group_of(&self, shard: ShardId) -> Option<GroupId> {
        self.groups.iter().find(|(_, shards)| shards.contains(&shard)).map(|(group, _)| *group)
    }
}

/// How a machine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Power {
    /// Its node runs, or starts.
    On,
    /// It is off, and will be on again.
    Off,
    /// Its node refused to start, or gave up: an operator has to look.
    Refused(String),
    /// It never comes back.
    Gone,
}

/// A machine with its node.
pub struct Machine {
    /// Its site.
    pub site: SitePlace,
    /// Its number at the site, from 1.
    pub number: u8,
    /// The node.
    pub id: NodeId,
    /// Where it stands.
    pub endpoint: Endpoint,
    /// Its configuration.
    pub config: Config,
    /// Its files.
    pub disk: SimDisk,
    /// Its state.
    pub state: Arc<MemoryState>,
    /// Whether its data directory is that of a node that was let in.
    pub admitted: bool,
    /// How it is.
    pub power: Power,
    /// The node, once it was prepared.
    pub node: Option<Arc<Node>>,
    /// How often it was started.
    pub lives: u64,
    /// The highest feature level that its program knows, from the next start on.
    pub level_max: u16,
}

/// A copy of what a machine's disk holds.
pub struct Backup {
    disk: SimDisk,
    state: MemoryState,
    admitted: bool,
}

impl Backup {
    /// The copy of its state.
    #[must_use]
    pub fn state(&self) -> &MemoryState {
        &self.state
    }
}

/// The country; clones are the same.
#[derive(Clone)]
pub struct Country(Arc<Inner>);

struct Inner {
    simulator: Handle,
    scenario: Scenario,
    sites: Vec<Site>,
    shards: BTreeMap<String, ShardId>,
    units: Arc<Directory>,
    place_file: Vec<u8>,
    machines: Mutex<Vec<Machine>>,
    people: Mutex<u64>,
    hits: Mutex<Hits>,
    rng: Mutex<ChaCha8Rng>,
    wire: Wire,
    trace: Trace,
}

/// Whom faults have hit so far, by their kinds.
#[derive(Default)]
struct Hits {
    nodes: BTreeSet<(&'static str, NodePlace)>,
    sites: BTreeSet<(&'static str, SitePlace)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Country {
    /// Lays the country out; nothing runs yet.
    #[must_use]
    pub fn new(simulator: Handle, scenario: &Scenario, trace: Trace) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(scenario.seed);
        rng.set_stream(0x6c61_6e64);
        let network = &scenario.network;
        let between = Path {
            cut: false,
            latency: network.latency,
            jitter: network.jitter,
            bits_per_second: network.bits_per_second,
            lost_per_mille: 0,
        };
        let inside =
            Path { latency: network.latency_inside, jitter: network.latency_inside, bits_per_second: 0, ..between };
        let wire = Wire::new(simulator.clone(), scenario.seed, inside, between);
        let shards: BTreeMap<String, ShardId> =
            scenario.tree.communes.iter().map(|code| (code.clone(), ShardId(rng.next_u64()))).collect();
        let planned = scenario.tree.sites();
        let sites: Vec<Site> = planned
            .iter()
            .map(|plan| {
                let mut key = [0; 32];
                rng.fill_bytes(&mut key);
                let mut own: Vec<ShardId> = plan.shards.iter().map(|code| shards[code]).collect();
                own.sort();
                let mut ids = [GroupId(rng.next_u64()), GroupId(rng.next_u64())];
                ids.sort();
                // As the real centre is laid out: its first group keeps the tree, each province has one of its own.
                let groups = match plan.tier {
                    Tier::Central => vec![(ids[0], Vec::new()), (ids[1], own)],
                    _ => vec![(ids[0], own)],
                };
                Site {
                    code: plan.code.clone(),
                    id: SiteId(rng.next_u64()),
                    unit: unit(&plan.code).expect("a scenario's units exist").id,
                    tier: plan.tier,
                    parent: plan
                        .parent
                        .as_ref()
                        .map(|code| planned.iter().position(|other| other.code == *code).expect("a tree")),
                    groups,
                    key: SigningKey::from_bytes(&key),
                }
            })
            .collect();
        let country = Country(Arc::new(Inner {
            simulator,
            scenario: scenario.clone(),
            place_file: place_file(&sites, &shards),
            sites,
            shards,
            units: Arc::new(directory().clone()),
            machines: Mutex::default(),
            people: Mutex::new(PEOPLE),
            hits: Mutex::default(),
            rng: Mutex::new(rng),
            wire,
            trace,
        }));
        // Children's configurations name their parents' nodes, so parents come first.
        for (place, plan) in planned.iter().enumerate() {
            for number in 1..=plan.nodes {
                country.lay_machine(place, number);
            }
        }
        country.found();
        country
    }

    /// The sites, parents first.
    #[must_use]
    pub fn sites(&self) -> &[Site] {
        &self.0.sites
    }

    /// The scenario.
    #[must_use]
    pub fn scenario(&self) -> &Scenario {
        &self.0.scenario
    }

    /// The network.
    #[must_use]
    pub fn wire(&self) -> &Wire {
        &self.0.wire
    }

    /// The trace.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.0.trace
    }

    /// The simulator.
    #[must_use]
    pub fn simulator(&self) -> &Handle {
        &self.0.simulator
    }

    /// The site with a code.
    ///
    /// # Panics
    /// If the tree has none: a scenario's codes were checked.
    #[must_use]
    pub fn site(&self, code: &str) -> SitePlace {
        self.0.sites.iter().position(|site| site.code == code).expect("a scenario's sites are in its tree")
    }

    /// The shard of a commune.
    #[must_use]
    pub fn shard(&self, commune: &str) -> ShardId {
        self.0.shards[commune]
    }

    /// A random number, from the scenario's seed.
    #[must_use]
    pub fn random(&self) -> u64 {
        lock(&self.0.rng).next_u64()
    }

    /// One of so many by lot, counted from 0.
    #[must_use]
    pub fn pick(&self, count: usize) -> usize {
        usize::try_from(self.random() % count.max(1) as u64).unwrap_or(0)
    }

    /// Notes whom a fault hits.
    pub fn note_hit(&self, kind: &'static str, nodes: &[NodePlace], sites: &[SitePlace]) {
        let mut hits = lock(&self.0.hits);
        hits.nodes.extend(nodes.iter().map(|node| (kind, *node)));
        hits.sites.extend(sites.iter().map(|site| (kind, *site)));
    }

    /// Whether a fault of that kind has hit this very node.
    #[must_use]
    pub fn was_hit(&self, kind: &'static str, node: NodePlace) -> bool {
        lock(&self.0.hits).nodes.contains(&(kind, node))
    }

    /// The key of a site, for whoever steals it.
    #[must_use]
    pub fn stolen_key(&self, site: SitePlace) -> SigningKey {
        self.0.sites[site].key.clone()
    }

    /// Whether somebody has the site's key, or had it.
    #[must_use]
    pub fn was_stolen(&self, site: SitePlace) -> bool {
        lock(&self.0.hits).sites.contains(&("thief", site))
    }

    /// Looks at the machines.
    pub fn machines(&self) -> MutexGuard<'_, Vec<Machine>> {
        lock(&self.0.machines)
    }

    /// All machines that a site ever had.
    #[must_use]
    pub fn all_machines_of(&self, site: SitePlace) -> Vec<NodePlace> {
        let machines = self.machines();
        (0..machines.len()).filter(|place| machines[*place].site == site).collect()
    }

    /// The machines of a site that are not gone.
    #[must_use]
    pub fn machines_of(&self, site: SitePlace) -> Vec<NodePlace> {
        let all = self.all_machines_of(site);
        let machines = self.machines();
        all.into_iter().filter(|place| machines[*place].power != Power::Gone).collect()
    }

    /// How people call a node: `10/2`.
    #[must_use]
    pub fn name(&self, node: NodePlace) -> String {
        let machines = self.machines();
        format!("{}/{}", self.0.sites[machines[node].site].code, machines[node].number)
    }

    /// The node that a scenario means now; none if it is not there, or nobody leads.
    #[must_use]
    pub fn resolve(&self, node: &NodeRef) -> Option<NodePlace> {
        let site = self.site(&node.site);
        let machines = self.machines();
        let mut those = machines.iter().enumerate().filter(|(_, machine)| machine.site == site);
        let leads = |machine: &Machine| {
            machine.power == Power::On
                && machine.node.as_ref().and_then(|node| node.shared.site_group().cloned()).is_some_and(|hosted| {
                    let status = hosted.group.status();
                    status.role == RaftRole::Leader
                })
        };
        let found = match node.which {
            Which::Number(number) => those.find(|(_, machine)| machine.number == number),
            Which::Leader => those.find(|(_, machine)| leads(machine)),
            Which::Follower => those.find(|(_, machine)| machine.power == Power::On && !leads(machine)),
        };
        found.map(|(place, _)| place)
    }

    /// Adds a machine to a site, switched off; for a site that is founded, an operator has to add its node.
    pub fn lay_machine(&self, site: SitePlace, number: u8) -> NodePlace {
        let disk = SimDisk::new(self.random());
        let id = NodeId(self.random());
        let plan = &self.0.sites[site];
        let mut machines = self.machines();
        let place = machines.len();
        let address: config::Address =
            format!("10.{}.0.{number}:7400", site + 1).parse().expect("an address is well-formed");
        let parent = plan.parent.map(|above| {
            let nodes = machines.iter().filter(|machine| machine.site == above);
            let addresses = nodes.map(|machine| machine.config.node.listen.clone()).take(config::ADDRESSES_MAX);
            config::Parent { site: self.0.sites[above].id, addresses: addresses.collect(), nodes: Vec::new() }
        });
        let knobs = &self.0.scenario.knobs;
        let config = Config {
            node: config::Node {
                id,
                site: plan.id,
                data_dir: PathBuf::from("/data"),
                listen: address.clone(),
                advertise: address,
                metrics_listen: None,
                connection_age_ms: config::CONNECTION_AGE_MS,
            },
            tls: config::Tls::UnsafeLoopback,
            site: config::Site {
                unit: plan.unit,
                code: Some(plan.code.clone()),
                signing_key: PathBuf::from("/unused"),
                secrets: PathBuf::from("/unused"),
                bootstrap: false,
                members: Vec::new(),
                groups: plan
                    .groups
                    .iter()
                    .map(|(id, shards)| config::Group { id: *id, shards: shards.clone() })
                    .collect(),
            },
            parent,
            storage: config::Storage { engine: config::Engine::Memory },
            raft: config::Raft {
                heartbeat_ms: millis(knobs.heartbeat),
                election_min_ms: millis(knobs.election_min),
                election_max_ms: millis(knobs.election_max),
                snapshot_every_entries: knobs.snapshot_every,
                keep_entries: knobs.keep_entries,
            },
            link: config::Link {
                backoff_min_ms: millis(knobs.link_backoff_min),
                backoff_max_ms: millis(knobs.link_backoff_max),
                ..config::Link::default()
            },
            log: config::Log::default(),
            place: Some(config::Place { file: PathBuf::from(PLACE_FILE) }),
        };
        machines.push(Machine {
            site,
            number,
            id,
            endpoint: Endpoint { scope: NodeScope(place as u64 + 1), site },
            config,
            disk,
            state: Arc::new(MemoryState::new(Arc::new(Unsealed))),
            admitted: false,
            power: Power::Off,
            node: None,
            lives: 0,
            level_max: LEVEL_MAX,
        });
        place
    }

    /// Writes the first members into all configurations; the first node of each site founds it.
    fn found(&self) {
        let mut machines = self.machines();
        for (place, site) in self.0.sites.iter().enumerate() {
            let members: Vec<Member> = machines
                .iter()
                .filter(|machine| machine.site == place)
                .map(|machine| Member {
                    id: machine.id,
                    address: machine.config.node.listen.clone(),
                    groups: site.groups.iter().map(|(group, _)| *group).collect(),
                })
                .collect();
            for machine in machines.iter_mut().filter(|machine| machine.site == place) {
                machine.config.site.members = members.clone();
                machine.config.site.bootstrap = machine.number == 1;
            }
        }
    }

    /// The members that a node added later is configured with: those of the first node.
    pub fn introduce(&self, node: NodePlace) {
        let mut machines = self.machines();
        let site = machines[node].site;
        let members =
            machines.iter().find(|machine| machine.site == site).map(|machine| machine.config.site.members.clone());
        machines[node].config.site.members = members.unwrap_or_default();
    }

    /// Gives a machine a program that knows feature levels up to this one, for its next start.
    pub fn set_level_max(&self, node: NodePlace, level: u16) {
        self.machines()[node].level_max = level;
    }

    /// Switches a machine on.
    pub fn start(&self, node: NodePlace) {
        let (endpoint, life) = {
            let mut machines = self.machines();
            let machine = &mut machines[node];
            if matches!(machine.power, Power::On | Power::Gone) {
                return;
            }
            machine.power = Power::On;
            machine.lives += 1;
            (machine.endpoint, machine.lives)
        };
        self.0.trace.add(Event::NodeStarts { node });
        let country = self.clone();
        self.0.simulator.spawn_in(endpoint.scope, "boot", async move {
            match country.boot(node).await {
                Ok(()) => country.0.trace.add(Event::NodeRuns { node }),
                Err(why) => country.give_up(node, life, &format!("{why:#}")),
            }
        });
    }

    async fn boot(&self, node: NodePlace) -> anyhow::Result<()> {
        let knobs = &self.0.scenario.knobs;
        let (config, disk, state, endpoint, admitted, level_max) = {
            let machines = self.machines();
            let machine = &machines[node];
            let state = Arc::clone(&machine.state);
            let (endpoint, admitted, level_max) = (machine.endpoint, machine.admitted, machine.level_max);
            (machine.config.clone(), machine.disk.mount(), state, endpoint, admitted, level_max)
        };
        let site = &self.0.sites[endpoint.site];
        write_file(&disk, FilePath::new(PLACE_FILE), &self.0.place_file)?;
        let identity = Identity::Node { site: site.id, node: config.node.id };
        let options = LogOptions { segment_bytes: knobs.segment_bytes, cache_bytes: 256 * 1024 };
        let flush = {
            let disk = disk.clone();
            Arc::new(move || disk.flush_time())
        };
        let shared_disk: Arc<dyn Disk> = Arc::new(disk);
        if admitted {
            refuse_lost(&*shared_disk, FilePath::new(LOG_DIR))?;
        }
        let mut seams = Seams {
            state,
            log: Tasked::open_with(
                Arc::clone(&shared_disk),
                FilePath::new(LOG_DIR),
                Arc::new(Unsealed),
                options,
                flush,
            )?,
            disk: shared_disk,
            snapshots: PathBuf::from(SNAPSHOT_DIR),
            dial: self.0.wire.dialer(endpoint, &identity),
            is_new: !admitted,
            directory: Arc::clone(&self.0.units),
            level_max,
        };
        let address = config.node.listen.to_string();
        // The same at each start, and of no site but this one.
        let [index, backup] =
            [1, 2].map(|kind| *blake3::hash(&[&site.id.0.to_be_bytes()[..], &[kind]].concat()).as_bytes());
        let keys = SiteKeys { signing: site.key.clone(), secrets: Secrets::first(index, backup, DIGEST_SECRET) };
        let prepared = Arc::new(Node::prepare(config, &seams, keys));
        let id = prepared.shared.config.node.id;
        self.0.wire.listen(&address, endpoint, site.id, id, server::routes(&prepared));
        self.machines()[node].node = Some(Arc::clone(&prepared));
        if !admitted {
            prepared.admit().await?;
            self.machines()[node].admitted = true;
            seams.is_new = false;
        }
        prepared.start(seams).await
    }

    /// A node that cannot go on ends as a process would.
    fn give_up(&self, node: NodePlace, life: u64, why: &str) {
        {
            let mut machines = self.machines();
            let machine = &mut machines[node];
            if machine.lives != life || machine.power != Power::On {
                return;
            }
            machine.power = Power::Refused(why.to_owned());
        }
        self.0.trace.add(Event::NodeStops { node, why: why.to_owned() });
        let country = self.clone();
        // Not from within: a task cannot drop itself.
        self.0.simulator.spawn_in(NodeScope::default(), "give up", async move {
            if country.machines()[node].lives == life {
                country.unplug(node, true);
            }
        });
    }

    /// Ends the tasks of a machine.
    fn unplug(&self, node: NodePlace, is_heard: bool) {
        let (endpoint, prepared) = {
            let mut machines = self.machines();
            (machines[node].endpoint, machines[node].node.take())
        };
        self.0.wire.gone(endpoint, is_heard);
        self.0.simulator.kill(endpoint.scope);
        // Outside the lock: it owns tasks, files and connections.
        drop(prepared);
    }

    /// The power goes: what was not flushed is lost, and peers hear nothing. Stays off until [`start`](Self::start).
    pub fn cut_power(&self, node: NodePlace) {
        if !self.switch_off(node, Power::Off, "power cut") {
            return;
        }
        let survives = self.random();
        {
            let machines = self.machines();
            machines[node].disk.power_cut();
        }
        self.unplug(node, false);
        let mut machines = self.machines();
        let machine = &mut machines[node];
        let unsynced = machine.state.unsynced() as u64;
        // Of what the engine had not flushed, any number of the oldest batches may have reached the disk.
        let keep = if survives.is_multiple_of(3) { 0 } else { survives / 3 % (unsynced + 1) };
        machine.state = Arc::new(machine.state.after_power_cut(usize::try_from(keep).unwrap_or(0)));
    }

    /// The process is killed; the machine goes on, and with it what was written.
    pub fn kill(&self, node: NodePlace) {
        if self.switch_off(node, Power::Off, "killed") {
            self.machines()[node].disk.kill();
            self.unplug(node, true);
            let mut machines = self.machines();
            machines[node].state = Arc::new(machines[node].state.after_kill());
        }
    }

    /// The machine and its disk are gone for good.
    pub fn take_away(&self, node: NodePlace) {
        let was_on = self.switch_off(node, Power::Gone, "gone for good");
        self.machines()[node].disk.lose_all();
        if was_on {
            self.unplug(node, false);
        }
    }

    fn switch_off(&self, node: NodePlace, power: Power, why: &str) -> bool {
        let was_on = {
            let mut machines = self.machines();
            let before = std::mem::replace(&mut machines[node].power, power);
            if before == Power::Gone {
                machines[node].power = before;
                return false;
            }
            before == Power::On
        };
        if was_on {
            self.0.trace.add(Event::NodeStops { node, why: why.to_owned() });
        }
        was_on
    }

    /// A machine that is off loses its whole disk.
    pub fn wipe(&self, node: NodePlace) {
        let mut machines = self.machines();
        let machine = &mut machines[node];
        machine.disk.lose_all();
        machine.state = Arc::new(MemoryState::new(Arc::new(Unsealed)));
        machine.admitted = false;
    }

    /// A machine that is off loses its log, and with it its votes; the state stays.
    pub fn lose_log(&self, node: NodePlace) {
        self.machines()[node].disk.lose_dir(FilePath::new(LOG_DIR));
    }

    /// Lets go of all nodes and lines, at the end of a run: they own one another, and would never be freed.
    pub fn close(&self) {
        let nodes: Vec<_> = self.machines().iter_mut().map(|machine| machine.node.take()).collect();
        drop(nodes);
        self.0.wire.close();
    }

    /// Copies a machine's disk, as it is.
    #[must_use]
    pub fn back_up(&self, node: NodePlace) -> Backup {
        let machines = self.machines();
        let machine = &machines[node];
        Backup { disk: machine.disk.copy(), state: machine.state.copy(), admitted: machine.admitted }
    }

    /// A machine that is off gets the copy for its disk.
    pub fn restore(&self, node: NodePlace, backup: &Backup) {
        let mut machines = self.machines();
        let machine = &mut machines[node];
        machine.disk.restore(&backup.disk);
        machine.state = Arc::new(backup.state.copy());
        machine.admitted = backup.admitted;
    }

    /// Where a new person stands who works at a site.
    #[must_use]
    pub fn person(&self, site: SitePlace) -> Endpoint {
        let mut people = lock(&self.0.people);
        *people += 1;
        Endpoint { scope: NodeScope(*people), site }
    }

    /// What the access log calls a person.
    #[must_use]
    pub fn subject(&self, person: Endpoint) -> String {
        format!("person{}", person.scope.0 - PEOPLE)
    }

    /// A person's client of a site, which asks the site's node of the place `first` first: not all computers of an office
    /// have the same node at the head of their list.
    #[must_use]
    pub fn client(&self, person: Endpoint, role: Role, limits: Limits, first: usize) -> Client {
        let site = &self.0.sites[person.site];
        let subject = self.subject(person);
        let claims = Claims::new(&subject, role, site.unit, EvidenceId::default()).expect("a subject is well-formed");
        let machines = self.machines();
        let nodes = machines.iter().filter(|machine| machine.site == person.site && machine.power != Power::Gone);
        let mut addresses: Vec<String> = nodes.map(|machine| machine.config.node.listen.to_string()).collect();
        let first = first % addresses.len().max(1);
        addresses.rotate_left(first);
        let dial = self.0.wire.dialer(person, &Identity::Person(claims));
        Client::new(dial, addresses, Arc::new(VirtualAmbient::default()), limits)
    }
}

/// Where machines keep the log of their groups.
pub const LOG_DIR: &str = "/data/log";
/// Where machines keep the snapshots of their groups.
pub const SNAPSHOT_DIR: &str = "/data/snapshots";
/// Where machines keep the file that sites are founded with.
const PLACE_FILE: &str = "/data/place.csv";

fn place_file(sites: &[Site], shards: &BTreeMap<String, ShardId>) -> Vec<u8> {
    use std::fmt::Write as _;
    let mut text = String::from("kind,id,unit,parent,public_key\n");
    for site in sites {
        let parent = site.parent.map(|above| sites[above].id.to_string()).unwrap_or_default();
        let public: String =
            site.key.verifying_key().to_bytes().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        let _ = writeln!(text, "site,{},{},{parent},{public}", site.id, site.unit);
    }
    for (code, shard) in shards {
        let home = unit(code).expect("a scenario's units exist").id;
        let _ = writeln!(text, "shard,{shard},{home},,");
    }
    text.into_bytes()
}

fn write_file(disk: &SimDisk, path: &FilePath, bytes: &[u8]) -> anyhow::Result<()> {
    disk.create_dir(path.parent().unwrap_or(path))?;
    let file = disk.open(path, true)?;
    if file.len()? != bytes.len() as u64 {
        file.set_len(0)?;
        file.write_at(0, bytes)?;
        file.sync()?;
    }
    Ok(())
}
