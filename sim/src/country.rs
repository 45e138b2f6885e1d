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
use dinhba_core::ids::{EvidenceId, GroupId, Hash, NodeId, RequestId, ShardId, SiteId, UnitId};
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
use crate::scenario::{CENTRE, NodeRef, Scenario, Which, directory, unit};
use crate::trace::{Event, NodePlace, SitePlace, Trace};
use crate::wire::{Endpoint, Path, Wire};

/// Scopes of people begin here; those of machines below.
const PEOPLE: u64 = 1 << 32;

/// Keys the digests of every simulated country.
const DIGEST_SECRET: [u8; 32] = [9; 32];

/// A site, founded or still to be.
pub struct Site {
    /// The code of its unit.
    pub code: String,
    /// Its id.
    pub id: SiteId,
    /// Its unit.
    pub unit: UnitId,
    /// Its level.
    pub tier: Tier,
    /// Its groups with all shards that each hosts sooner or later: those of communes, and ancestor shards. All its nodes are
    /// members of all.
    pub groups: Vec<(GroupId, Vec<ShardId>)>,
    /// Which of them its configuration names: the others it hosts once the directory says so.
    configured: BTreeSet<ShardId>,
}

/// How a site stands now: what operators change of it.
struct Standing {
    /// The site above.
    parent: Option<SitePlace>,
    /// With what it signs.
    key: SigningKey,
    /// With what it signed before.
    former: Vec<SigningKey>,
    /// With what whoever stole a key of it signs.
    stolen: Option<SigningKey>,
    /// The edits by which keys of it were revoked.
    revocations: Vec<Hash>,
    /// What it is founded with; none before.
    place_file: Option<Arc<Vec<u8>>>,
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
    ancestors: BTreeSet<ShardId>,
    units: Arc<Directory>,
    standings: Mutex<Vec<Standing>>,
    /// One for each site: its operators say one thing of another site at a time.
    turns: Vec<Turn>,
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
    /// Edits that a thief signed with a key when it was revoked where he sent them: nobody may have them.
    late: BTreeSet<Hash>,
    /// Requests that faults made and whose outcome is not known, by the faults' places.
    open: BTreeMap<usize, RequestId>,
    /// Faults of which all was done that there is to do, by their places in the scenario.
    done: BTreeSet<usize>,
}

/// Who has it may speak.
pub type Turn = Arc<futures::lock::Mutex<()>>;

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
        let later = scenario.added_later();
        // Who is added gets the shard that its unit's id says, as the directory has it.
        let shard_of = |code: &String, drawn| match later.contains(code.as_str()) {
            true => ShardId::of_commune(unit(code).expect("a scenario's units exist").id),
            false => ShardId(drawn),
        };
        let communes = scenario.tree.communes.iter();
        let shards: BTreeMap<String, ShardId> =
            communes.map(|code| (code.clone(), shard_of(code, rng.next_u64()))).collect();
        let planned = scenario.tree.sites();
        let (mut sites, mut standings) = (Vec::new(), Vec::new());
        for plan in &planned {
            let mut key = [0; 32];
            rng.fill_bytes(&mut key);
            let mut own: Vec<ShardId> = plan.shards.iter().map(|code| shards[code]).collect();
            own.sort();
            let mut ids = [GroupId(rng.next_u64()), GroupId(rng.next_u64())];
            ids.sort();
            let unit = unit(&plan.code).expect("a scenario's units exist").id;
            let is_later = |code: &&String| later.contains(code.as_str()) && **code != plan.code;
            let added: BTreeSet<ShardId> = plan.shards.iter().filter(is_later).map(|code| shards[code]).collect();
            let (added, mut configured): (Vec<ShardId>, Vec<ShardId>) =
                own.into_iter().partition(|shard| added.contains(shard));
            let mut first: Vec<ShardId> = added.into_iter().chain(ancestor_shards(scenario, unit)).collect();
            let known = configured.iter().copied().collect();
            // As the real centre is laid out: its first group keeps the tree, each province has one of its own.
            let groups = match plan.tier {
                Tier::Central => vec![(ids[0], first), (ids[1], configured)],
                _ => {
                    configured.append(&mut first);
                    vec![(ids[0], configured)]
                }
            };
            sites.push(Site {
                code: plan.code.clone(),
                id: SiteId(rng.next_u64()),
                unit,
                tier: plan.tier,
                groups,
                configured: known,
            });
            let above = |code: &String| planned.iter().position(|other| other.code == *code).expect("a tree");
            let parent = plan.parent.as_ref().map(above);
            let key = SigningKey::from_bytes(&key);
            standings.push(Standing {
                parent,
                key,
                former: Vec::new(),
                stolen: None,
                revocations: Vec::new(),
                place_file: None,
            });
        }
        let founded: Vec<SitePlace> =
            (0..sites.len()).filter(|site| !later.contains(sites[*site].code.as_str())).collect();
        let file = Arc::new(place_file(&sites, &standings, &founded, &shards));
        for site in &founded {
            standings[*site].place_file = Some(Arc::clone(&file));
        }
        let country = Country(Arc::new(Inner {
            simulator,
            scenario: scenario.clone(),
            turns: sites.iter().map(|_| Turn::default()).collect(),
            standings: Mutex::new(standings),
            sites,
            shards,
            ancestors: ancestor_shards(scenario, unit(CENTRE).expect("the centre is a unit").id),
            units: Arc::new(directory().clone()),
            machines: Mutex::default(),
            people: Mutex::new(PEOPLE),
            hits: Mutex::default(),
            rng: Mutex::new(rng),
            wire,
            trace,
        }));
        // Children's configurations name their parents' nodes, so parents come first.
        for place in founded {
            country.lay_site(place);
        }
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

    /// Whether there is such a shard yet: that of a commune is there once its site is.
    #[must_use]
    pub fn has_shard(&self, shard: ShardId) -> bool {
        let commune = self.0.shards.iter().find(|(_, known)| **known == shard);
        commune.is_none_or(|(code, _)| self.is_founded(self.site(code)))
    }

    /// Whether a shard is an ancestor shard: what a unit above the communes says.
    #[must_use]
    pub fn is_ancestor(&self, shard: ShardId) -> bool {
        self.0.ancestors.contains(&shard)
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

    /// The key of a site, for whoever steals it; who comes again has the one that was stolen first.
    #[must_use]
    pub fn stolen_key(&self, site: SitePlace) -> SigningKey {
        let standing = &mut lock(&self.0.standings)[site];
        standing.stolen.get_or_insert_with(|| standing.key.clone()).clone()
    }

    /// What verifies the site's signatures, as people write it.
    #[must_use]
    pub fn public_key(&self, site: SitePlace) -> String {
        spelled(&lock(&self.0.standings)[site].key)
    }

    /// The site above, as operators have it; none above the centre.
    #[must_use]
    pub fn parent(&self, site: SitePlace) -> Option<SitePlace> {
        lock(&self.0.standings)[site].parent
    }

    /// The site is linked below another one from now on.
    pub fn set_parent(&self, site: SitePlace, parent: SitePlace) {
        lock(&self.0.standings)[site].parent = Some(parent);
    }

    /// The site signs with another key from its next start on.
    pub fn set_key(&self, site: SitePlace, key: SigningKey) {
        let standing = &mut lock(&self.0.standings)[site];
        let former = std::mem::replace(&mut standing.key, key);
        standing.former.push(former);
    }

    /// Former keys of the site verify nothing any more, wherever this edit is.
    pub fn note_revocation(&self, site: SitePlace, edit: Hash) {
        let standing = &mut lock(&self.0.standings)[site];
        standing.revocations.push(edit);
        standing.former.clear();
    }

    /// The edits by which keys of a site were revoked.
    #[must_use]
    pub fn revocations(&self, site: SitePlace) -> Vec<Hash> {
        lock(&self.0.standings)[site].revocations.clone()
    }

    /// Whether the site is there, or on its way.
    #[must_use]
    pub fn is_founded(&self, site: SitePlace) -> bool {
        lock(&self.0.standings)[site].place_file.is_some()
    }

    /// Founds a site that was not there before, with the file that its operators were given.
    pub fn found_site(&self, site: SitePlace, place_file: String) {
        lock(&self.0.standings)[site].place_file = Some(Arc::new(place_file.into_bytes()));
        self.lay_site(site);
    }

    /// What operators write into the file with which a site is founded anew: the sites that stand there, as they are by now.
    fn write_place_file(&self, site: SitePlace) {
        let mut standings = lock(&self.0.standings);
        let Some(file) = standings[site].place_file.clone() else { return };
        let text = String::from_utf8_lossy(&file);
        let is_named = |site: &SitePlace| text.contains(&format!("site,{},", self.0.sites[*site].id));
        let mut written = String::from(PLACE_HEADER);
        for named in (0..self.0.sites.len()).filter(is_named) {
            written.push_str(&site_lines(&self.0.sites, &standings, named));
        }
        for line in text.lines().filter(|line| line.starts_with("shard,")) {
            written.push_str(&format!("{line}\n"));
        }
        standings[site].place_file = Some(Arc::new(written.into_bytes()));
    }

    /// Whose turn it is to say something of another site, of the operators of one.
    #[must_use]
    pub fn turn(&self, site: SitePlace) -> Turn {
        Arc::clone(&self.0.turns[site])
    }

    /// Where the nodes of a site are reached.
    #[must_use]
    pub fn addresses(&self, site: SitePlace) -> Vec<String> {
        let machines = self.machines();
        let there = machines.iter().filter(|machine| machine.site == site && machine.power != Power::Gone);
        there.map(|machine| machine.config.node.listen.to_string()).take(config::ADDRESSES_MAX).collect()
    }

    /// Keeps the request of a fault whose outcome is not known, or that there is none.
    pub fn note_open(&self, fault: usize, request: Option<RequestId>) {
        let mut hits = lock(&self.0.hits);
        match request {
            Some(request) => drop(hits.open.insert(fault, request)),
            None => drop(hits.open.remove(&fault)),
        }
    }

    /// The request of a fault whose outcome is not known.
    #[must_use]
    pub fn open(&self, fault: usize) -> Option<RequestId> {
        lock(&self.0.hits).open.get(&fault).copied()
    }

    /// Notes edits that are signed with a key which verifies nothing any more where they are sent.
    pub fn note_late(&self, edits: impl IntoIterator<Item = Hash>) {
        lock(&self.0.hits).late.extend(edits);
    }

    /// Whether an edit is signed with a key that verified nothing any more.
    #[must_use]
    pub fn is_late(&self, edit: &Hash) -> bool {
        lock(&self.0.hits).late.contains(edit)
    }

    /// Notes that of a fault, by its place in the scenario, all is done that there is to do.
    pub fn note_done(&self, fault: usize) {
        lock(&self.0.hits).done.insert(fault);
    }

    /// Whether of a fault all is done that there is to do.
    #[must_use]
    pub fn is_done(&self, fault: usize) -> bool {
        lock(&self.0.hits).done.contains(&fault)
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
        let parent = self.parent(site).map(|above| self.configured_parent(&machines, above));
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
                    .map(|(id, shards)| {
                        let shards = shards.iter().copied().filter(|shard| plan.configured.contains(shard));
                        config::Group { id: *id, shards: shards.collect() }
                    })
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

    /// What a site below it is configured with.
    fn configured_parent(&self, machines: &[Machine], above: SitePlace) -> config::Parent {
        let nodes = machines.iter().filter(|machine| machine.site == above);
        let addresses = nodes.map(|machine| machine.config.node.listen.clone()).take(config::ADDRESSES_MAX);
        config::Parent { site: self.0.sites[above].id, addresses: addresses.collect(), nodes: Vec::new() }
    }

    /// Lays the first machines of a site, and writes all of them into the configuration of each; the first node founds it.
    fn lay_site(&self, site: SitePlace) {
        let plan = &self.0.sites[site];
        let laid: Vec<NodePlace> =
            (1..=self.0.scenario.tree.nodes_of(&plan.code)).map(|number| self.lay_machine(site, number)).collect();
        let mut machines = self.machines();
        let member = |machine: &Machine| Member {
            id: machine.id,
            address: machine.config.node.listen.clone(),
            groups: plan.groups.iter().map(|(group, _)| *group).collect(),
        };
        let members: Vec<Member> = laid.iter().map(|node| member(&machines[*node])).collect();
        for node in laid {
            let machine = &mut machines[node];
            (machine.config.site.members, machine.config.site.bootstrap) = (members.clone(), machine.number == 1);
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
        let (key, place_file) = {
            let standing = &lock(&self.0.standings)[endpoint.site];
            (standing.key.clone(), standing.place_file.clone().unwrap_or_default())
        };
        write_file(&disk, FilePath::new(PLACE_FILE), &place_file)?;
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
        let keys = SiteKeys { signing: key, secrets: Secrets::first(index, backup, DIGEST_SECRET) };
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

    /// A machine that is off loses its whole disk. Its operators write into its configuration and its place file what is so by
    /// now: with that it begins.
    pub fn wipe(&self, node: NodePlace) {
        let mut machines = self.machines();
        let site = machines[node].site;
        self.write_place_file(site);
        let parent = self.parent(site).map(|above| self.configured_parent(&machines, above));
        let machine = &mut machines[node];
        machine.config.parent = parent;
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

/// The ancestor shards that a site of a unit hosts: of the units above the communes on the way to it, and below it.
fn ancestor_shards(scenario: &Scenario, own: UnitId) -> BTreeSet<ShardId> {
    let above = scenario.tree.sites().into_iter().filter(|site| site.tier != Tier::Commune);
    let units = above.filter_map(|site| Some(unit(&site.code)?.id));
    let is_hosted = |unit: &UnitId| directory().is_within(*unit, own) || directory().is_within(own, *unit);
    units.filter(is_hosted).map(ShardId::of_unit_above).collect()
}

fn spelled(key: &SigningKey) -> String {
    key.verifying_key().to_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

const PLACE_HEADER: &str = "kind,id,unit,parent,public_key\n";

/// The lines of a site in a place file, one for each of its keys.
fn site_lines(sites: &[Site], standings: &[Standing], site: SitePlace) -> String {
    let (Standing { parent, key, former, .. }, plan) = (&standings[site], &sites[site]);
    let parent = parent.map(|above| sites[above].id.to_string()).unwrap_or_default();
    let line = |key| format!("site,{},{},{parent},{}\n", plan.id, plan.unit, spelled(key));
    std::iter::once(key).chain(former).map(line).collect()
}

fn place_file(
    sites: &[Site],
    standings: &[Standing],
    founded: &[SitePlace],
    shards: &BTreeMap<String, ShardId>,
) -> Vec<u8> {
    let mut text = String::from(PLACE_HEADER);
    for site in founded {
        text.push_str(&site_lines(sites, standings, *site));
    }
    let is_there = |code: &&String| founded.iter().any(|site| sites[*site].code == **code);
    for code in shards.keys().filter(is_there) {
        let home = unit(code).expect("a scenario's units exist").id;
        text.push_str(&format!("shard,{},{home},,\n", shards[code]));
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
