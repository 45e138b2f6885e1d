//! The machines of a country's nodes, and what operators and disasters do to them.
//!
//! A machine is a disk, a state engine, a clock and a plug; a node is what runs on it, started through the same
//! `Node::prepare` and `start` as in production.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dinhba_core::claims::Identity;
use dinhba_core::ids::NodeId;
use dinhba_core::level::LEVEL_MAX;
use dinhba_node::config::{self, Config, Member};
use dinhba_node::disk::Disk;
use dinhba_node::log::{LogOptions, Tasked, refuse_lost};
use dinhba_node::node::{Node, Seams};
use dinhba_node::pki::SiteKeys;
use dinhba_node::runtime::NodeScope;
use dinhba_node::seal::Unsealed;
use dinhba_node::secrets::Secrets;
use dinhba_node::server;
use dinhba_node::state::MemoryState;

use super::{Country, lock};
use crate::disk::SimDisk;
use crate::trace::{Event, NodePlace, SitePlace};
use crate::wire::Endpoint;

/// Where machines keep the log of their groups.
pub const LOG_DIR: &str = "/data/log";
/// Where machines keep the snapshots of their groups.
pub const SNAPSHOT_DIR: &str = "/data/snapshots";
/// Where machines keep the file that sites are founded with.
const PLACE_FILE: &str = "/data/place.csv";

/// Keys the digests of every simulated country.
const DIGEST_SECRET: [u8; 32] = [9; 32];

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

impl Country {
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
            numbers: config::Numbers::default(),
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
    pub(super) fn lay_site(&self, site: SitePlace) {
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
            let site = &lock(&self.0.now)[endpoint.site];
            (site.key.clone(), site.place_file.clone().unwrap_or_default())
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
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
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
