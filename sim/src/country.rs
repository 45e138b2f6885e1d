//! A simulated country: its sites and its people, and who of them was hit by what. `sites` has what operators change of sites,
//! `machines` those of their nodes; everything that hits one goes through there, so that the trace has it.
//!
//! Leaves to others: when what happens (`faults`), who works (`officers`), whether the promises hold (`checks`).

mod machines;
mod sites;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dinhba_client::{Client, Limits};
use dinhba_core::claims::{Claims, Identity, Role};
use dinhba_core::ids::{EvidenceId, GroupId, Hash, RequestId, ShardId, SiteId, UnitId};
use dinhba_core::units::{Directory, Tier};
use dinhba_node::raft::group::Role as RaftRole;
use dinhba_node::runtime::NodeScope;
use ed25519_dalek::SigningKey;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::ambient::VirtualAmbient;
use crate::executor::Handle;
use crate::scenario::{CENTRE, NodeRef, Scenario, Which, directory, unit};
use crate::trace::{NodePlace, SitePlace, Trace};
use crate::wire::{Endpoint, Path, Wire};

pub use machines::{Backup, LOG_DIR, Machine, Power, SNAPSHOT_DIR};
pub(crate) use sites::spelled;
use sites::{SiteNow, place_file};

/// Scopes of people begin here; those of machines below.
const PEOPLE: u64 = 1 << 32;

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
    /// Of each site, what is so by now.
    now: Mutex<Vec<SiteNow>>,
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
        let (mut sites, mut now) = (Vec::new(), Vec::new());
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
            now.push(SiteNow {
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
        let file = Arc::new(place_file(&sites, &now, &founded, &shards));
        for site in &founded {
            now[*site].place_file = Some(Arc::clone(&file));
        }
        let country = Country(Arc::new(Inner {
            simulator,
            scenario: scenario.clone(),
            turns: sites.iter().map(|_| Turn::default()).collect(),
            now: Mutex::new(now),
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

    /// The commune whose shard it is; none of an ancestor shard.
    #[must_use]
    pub fn home(&self, shard: ShardId) -> Option<UnitId> {
        let (code, _) = self.0.shards.iter().find(|(_, known)| **known == shard)?;
        unit(code).map(|unit| unit.id)
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

    /// Lets go of all nodes and lines, at the end of a run: they own one another, and would never be freed.
    pub fn close(&self) {
        let nodes: Vec<_> = self.machines().iter_mut().map(|machine| machine.node.take()).collect();
        drop(nodes);
        self.0.wire.close();
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

/// The ancestor shards that a site of a unit hosts: of the units above the communes on the way to it, and below it.
fn ancestor_shards(scenario: &Scenario, own: UnitId) -> BTreeSet<ShardId> {
    let above = scenario.tree.sites().into_iter().filter(|site| site.tier != Tier::Commune);
    let units = above.filter_map(|site| Some(unit(&site.code)?.id));
    let is_hosted = |unit: &UnitId| directory().is_within(*unit, own) || directory().is_within(own, *unit);
    units.filter(is_hosted).map(ShardId::of_unit_above).collect()
}
