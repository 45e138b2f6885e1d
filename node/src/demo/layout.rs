//! The country of the demonstration: which sites, nodes, groups and shards there are, and all files they start with.
//!
//! Owns: the choice of units (real ones of 2024: the centre, one province, two of its districts, four of their communes),
//! ids, ports, certificates, configuration files and the place file. Promises: with equal seeds, equal ids; ports are
//! free at the moment they are chosen, and lie outside the range from which the system takes ports for outgoing
//! connections, so that a node that restarts finds its port again.
//! Leaves to others: starting anything (`processes`), the forwarders whose addresses children dial (`cutter`).
//!
//! ```text
//! <dir>/pki                        the development authority
//! <dir>/identities/<name>/         ca.pem, cert.pem, key.pem of an officer, for the command line
//! <dir>/place.csv                  all sites and shards
//! <dir>/nodes/<code>-<n>/          node.toml, node.log, data
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use dinhba_client::ambient::Machine;
use dinhba_client::tls::{TlsDialer, named, node_name};
use dinhba_client::{Client, Limits};
use dinhba_core::claims::Role;
use dinhba_core::ids::{GroupId, NodeId, ShardId, SiteId, UnitId};
use dinhba_core::units::{BEFORE_REFORM, Directory, Tier};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::config::{
    Address, CONNECTION_AGE_MS, Config, Engine, Group, Link, Log, Member, Node, Numbers, Parent, ParentNode, Place,
    Raft, Site, Storage, Tls,
};
use crate::pki::{DevAuthority, read_public_key};

/// Lào Cai, a province of the mountains, with two of its districts: Bát Xát and Mường Khương.
const PROVINCE: &str = "10";
const DISTRICTS: [&str; 2] = ["082", "083"];
/// Communes of each district that take part.
const COMMUNES_EACH: usize = 2;
/// Nodes of the centre, the province and the districts: the least that outlive the loss of one.
const NODES_ABOVE: usize = 3;
/// Where ports are looked for: below the range of outgoing connections (32768 and up, as Linux has it).
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Slower than the default: sixteen nodes share one machine's cores and disk, and a late heartbeat costs more of both.
const HEARTBEAT_MS: u64 = 500;
const ELECTION_MS: (u64, u64) = (1_500, 3_000);
/// A child that was cut off tries again at least this often, so that its return is noticed by people who watch.
const BACKOFF_MAX_MS: u64 = 1_000;
const BACKOFF_MIN_MS: u64 = 200;

/// A node of a site.
#[derive(Debug, Clone)]
pub struct NodePlan {
    /// Its id.
    pub id: NodeId,
    /// Where it listens.
    pub port: u16,
    /// Its directory.
    pub dir: PathBuf,
}

impl NodePlan {
    /// `127.0.0.1:<port>`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.join("node.toml")
    }
    /// What it writes to standard output and error.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join("node.log")
    }
}

/// A site.
#[derive(Debug, Clone)]
pub struct SitePlan {
    /// Its id.
    pub id: SiteId,
    /// The unit that it serves.
    pub unit: UnitId,
    /// The unit's code.
    pub code: String,
    /// The unit's name.
    pub name: String,
    /// The unit's level.
    pub tier: Tier,
    /// The place of the site above it in [`Country::sites`].
    pub parent: Option<usize>,
    /// Its nodes.
    pub nodes: Vec<NodePlan>,
    /// Its groups and the shards that each hosts.
    pub groups: Vec<(GroupId, Vec<ShardId>)>,
}

impl SitePlan {
    /// The shards that it holds, in order.
    #[must_use]
    pub fn shards(&self) -> Vec<ShardId> {
        let mut shards: Vec<_> = self.groups.iter().flat_map(|(_, shards)| shards.iter().copied()).collect();
        shards.sort();
        shards
    }
}

/// A shard and the sites on its way up.
#[derive(Debug, Clone)]
pub struct Home {
    /// The shard.
    pub shard: ShardId,
    /// Its home commune.
    pub unit: UnitId,
    /// As records write the commune: `02683@2025-06-30`.
    pub written: String,
    /// The places of its commune, district, province and centre in [`Country::sites`].
    pub way_up: [usize; 4],
}

/// The country.
#[derive(Clone)]
pub struct Country {
    /// Where all of it lies.
    pub dir: PathBuf,
    /// The units.
    pub directory: Arc<Directory>,
    /// The sites, parents before children; the first is the centre.
    pub sites: Vec<SitePlan>,
    /// The shards, in the order of their communes.
    pub homes: Vec<Home>,
}

impl Country {
    /// Chooses units, ids and ports.
    pub fn plan(dir: &Path, seed: u64) -> Result<Self> {
        let directory = Directory::vietnam()?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut sites: Vec<SitePlan> = Vec::new();
        let unit = |code: &str| {
            directory.by_code(code, BEFORE_REFORM).with_context(|| format!("unit {code} is not in the list of 2024"))
        };
        // (unit, the place of the parent)
        let mut chosen = vec![(unit("00")?, None), (unit(PROVINCE)?, Some(0))];
        for code in DISTRICTS {
            chosen.push((unit(code)?, Some(1)));
        }
        for (place, code) in DISTRICTS.iter().enumerate() {
            let communes = directory.descendants(unit(code)?.id, Tier::Commune, BEFORE_REFORM);
            chosen.extend(communes.into_iter().take(COMMUNES_EACH).map(|commune| (commune, Some(2 + place))));
        }
        let nodes_in_all: usize =
            chosen.iter().map(|(unit, _)| if unit.tier == Tier::Commune { 1 } else { NODES_ABOVE }).sum();
        let mut ports = free_ports(nodes_in_all)?.into_iter();
        for (unit, parent) in &chosen {
            let count = if unit.tier == Tier::Commune { 1 } else { NODES_ABOVE };
            let nodes = (1..=count)
                .map(|number| {
                    let port = ports.next().context("a port for each node was counted")?;
                    let dir = dir.join("nodes").join(format!("{}-{number}", unit.code));
                    Ok(NodePlan { id: NodeId(rng.random()), port, dir })
                })
                .collect::<Result<_>>()?;
            sites.push(SitePlan {
                id: SiteId(rng.random()),
                unit: unit.id,
                code: unit.code.clone(),
                name: unit.name.clone(),
                tier: unit.tier,
                parent: *parent,
                nodes,
                groups: Vec::new(),
            });
        }
        let mut homes = Vec::new();
        for (place, site) in sites.iter().enumerate().filter(|(_, site)| site.tier == Tier::Commune) {
            let district = site.parent.context("a commune has a parent")?;
            let written = format!("{}@{BEFORE_REFORM}", site.code);
            let shard = ShardId(rng.random());
            homes.push(Home { shard, unit: site.unit, written, way_up: [place, district, 1, 0] });
        }
        for (place, site) in sites.iter_mut().enumerate() {
            let mut shards: Vec<ShardId> =
                homes.iter().filter(|home| home.way_up.contains(&place)).map(|home| home.shard).collect();
            shards.sort();
            let mut ids = [GroupId(rng.random()), GroupId(rng.random())];
            ids.sort();
            // The centre's first group keeps the tree; each province has one of its own. Elsewhere one does for all.
            site.groups = match site.tier {
                Tier::Central => vec![(ids[0], Vec::new()), (ids[1], shards)],
                _ => vec![(ids[0], shards)],
            };
        }
        Ok(Country { dir: dir.to_owned(), directory: Arc::new(directory), sites, homes })
    }

    /// Writes certificates, keys, the place file and every node's configuration. `dialed` says at which address a site
    /// reaches a node of its parent.
    pub fn write(&self, engine: Engine, dialed: impl Fn(usize, NodeId) -> Option<String>) -> Result<()> {
        let authority = DevAuthority::create(&self.dir.join("pki"))?;
        let mut place = String::from("kind,id,unit,parent,public_key\n");
        for site in &self.sites {
            let key = authority.issue_site_key(site.id)?;
            let public: String =
                read_public_key(&key.public)?.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
            let parent = site.parent.map(|parent| self.sites[parent].id.to_string()).unwrap_or_default();
            writeln!(place, "site,{},{},{parent},{public}", site.id, site.unit)?;
        }
        for home in &self.homes {
            writeln!(place, "shard,{},{},,", home.shard, home.unit)?;
        }
        fs::write(self.dir.join("place.csv"), place)?;
        for (at, site) in self.sites.iter().enumerate() {
            for role in [Role::Registrar, Role::Operator] {
                self.write_identity(&authority, at, role)?;
            }
            for node in &site.nodes {
                fs::create_dir_all(&node.dir)?;
                authority.issue_node(site.id, node.id)?;
                let config = self.config(at, node, engine, &dialed)?;
                fs::write(node.config(), config.to_toml()?)?;
            }
        }
        self.write_identity(&authority, 0, Role::Auditor)
    }

    fn write_identity(&self, authority: &DevAuthority, site: usize, role: Role) -> Result<()> {
        let paths = authority.issue_person(&self.subject(site, role), role, self.sites[site].unit)?;
        let dir = self.identity(site, role);
        fs::create_dir_all(&dir)?;
        for (from, to) in [(&paths.ca, "ca.pem"), (&paths.certificate, "cert.pem"), (&paths.key, "key.pem")] {
            // Copies keep the mode: readable for their owner alone.
            fs::copy(from, dir.join(to))?;
        }
        Ok(())
    }

    fn config(
        &self,
        at: usize,
        node: &NodePlan,
        engine: Engine,
        dialed: &impl Fn(usize, NodeId) -> Option<String>,
    ) -> Result<Config> {
        let site = &self.sites[at];
        let pki = self.dir.join("pki");
        let address = |text: String| text.parse::<Address>().map_err(|error| anyhow!("{text}: {error}"));
        let groups: Vec<GroupId> = site.groups.iter().map(|(group, _)| *group).collect();
        let members = site
            .nodes
            .iter()
            .map(|member| Ok(Member { id: member.id, address: address(member.address())?, groups: groups.clone() }));
        let parent = match site.parent {
            None => None,
            Some(above) => {
                let mut nodes = Vec::new();
                for above in &self.sites[above].nodes {
                    let at_address = dialed(at, above.id).with_context(|| format!("{} is not forwarded", above.id))?;
                    nodes.push(ParentNode { id: above.id, address: address(at_address)? });
                }
                let addresses = nodes.iter().map(|node| node.address.clone()).collect();
                Some(Parent { site: self.sites[above].id, addresses, nodes })
            }
        };
        Ok(Config {
            node: Node {
                id: node.id,
                site: site.id,
                data_dir: node.dir.join("data"),
                listen: address(node.address())?,
                advertise: address(node.address())?,
                metrics_listen: None,
                connection_age_ms: CONNECTION_AGE_MS,
            },
            tls: Tls::Mutual {
                ca: pki.join("ca.pem"),
                certificate: pki.join("nodes").join(format!("{}.pem", node.id)),
                key: pki.join("nodes").join(format!("{}.key", node.id)),
            },
            site: Site {
                unit: site.unit,
                code: Some(site.code.clone()),
                signing_key: pki.join("sites").join(format!("{}.key", site.id)),
                secrets: pki.join("sites").join(format!("{}.secrets", site.id)),
                bootstrap: site.nodes.first().is_some_and(|first| first.id == node.id),
                members: members.collect::<Result<_>>()?,
                groups: site.groups.iter().map(|(id, shards)| Group { id: *id, shards: shards.clone() }).collect(),
            },
            parent,
            storage: Storage { engine },
            raft: Raft {
                heartbeat_ms: HEARTBEAT_MS,
                election_min_ms: ELECTION_MS.0,
                election_max_ms: ELECTION_MS.1,
                ..Raft::default()
            },
            link: Link { backoff_min_ms: BACKOFF_MIN_MS, backoff_max_ms: BACKOFF_MAX_MS, ..Link::default() },
            numbers: Numbers::default(),
            log: Log::default(),
            place: Some(Place { file: self.dir.join("place.csv") }),
        })
    }

    fn subject(&self, site: usize, role: Role) -> String {
        format!("{role}.{}", self.sites[site].code)
    }

    /// Where the certificate of a site's officer lies.
    #[must_use]
    pub fn identity(&self, site: usize, role: Role) -> PathBuf {
        self.dir.join("identities").join(format!("{role}-{}", self.sites[site].code))
    }

    /// A client of site `site`, as an officer of the unit of site `of`.
    pub fn client(&self, site: usize, of: usize, role: Role, limits: Limits) -> Result<Client> {
        self.client_of(self.sites[site].nodes.iter(), of, role, limits)
    }

    /// A client of these nodes, which are of one site.
    pub fn client_of<'a>(
        &self,
        nodes: impl Iterator<Item = &'a NodePlan>,
        of: usize,
        role: Role,
        limits: Limits,
    ) -> Result<Client> {
        let dir = self.identity(of, role);
        let [ca, certificate, key] = ["ca.pem", "cert.pem", "key.pem"].map(|name| dir.join(name));
        let credentials = dinhba_client::tls::Credentials::read(&ca, &certificate, &key)?;
        let addresses = nodes.map(|node| named(&node_name(node.id), &node.address()));
        Ok(Client::new(Arc::new(TlsDialer::new(&credentials)), addresses, Arc::new(Machine::default()), limits))
    }

    /// The sites as one reads a tree: each followed by those below it; with their depth.
    #[must_use]
    pub fn in_tree_order(&self) -> Vec<(usize, usize)> {
        let mut order = Vec::with_capacity(self.sites.len());
        let mut open = vec![(0, 0)];
        while let Some((at, depth)) = open.pop() {
            order.push((at, depth));
            let below = self.sites.iter().enumerate().rev().filter(|(_, site)| site.parent == Some(at));
            open.extend(below.map(|(child, _)| (child, depth + 1)));
        }
        order
    }

    /// Which shards have their home in which commune, as records write it.
    #[must_use]
    pub fn shards_by_commune(&self) -> BTreeMap<String, usize> {
        self.homes.iter().enumerate().map(|(at, home)| (home.written.clone(), at)).collect()
    }
}

/// Ports that nobody listens at, all different.
fn free_ports(count: usize) -> Result<Vec<u16>> {
    let mut held = Vec::new();
    let start = PORTS.start + (crate::runtime::random_u64() % u64::from(PORTS.end - PORTS.start)) as u16;
    for port in (start..PORTS.end).chain(PORTS.start..start) {
        if held.len() == count {
            break;
        }
        // Held until all are found, so that each is found once.
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            held.push((port, listener));
        }
    }
    if held.len() < count {
        return Err(anyhow!("fewer than {count} free ports between {} and {}", PORTS.start, PORTS.end));
    }
    Ok(held.into_iter().map(|(port, _)| port).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(dir: &Path, seed: u64) -> Country {
        let country = Country::plan(dir, seed).unwrap();
        country.write(Engine::Memory, |_, node| Some(format!("127.0.0.1:{}", 1 + node.0 % 60_000))).unwrap();
        country
    }

    #[test]
    fn the_country_is_cut_from_the_real_tree() {
        let country = Country::plan(Path::new("/nowhere"), 1).unwrap();
        let tiers: Vec<_> = country.sites.iter().map(|site| (site.tier, site.nodes.len())).collect();
        use Tier::{Central, Commune, District, Province};
        assert_eq!(tiers[..4], [(Central, 3), (Province, 3), (District, 3), (District, 3)]);
        assert_eq!(tiers[4..], [(Commune, 1); 4]);
        for home in &country.homes {
            let [commune, district, province, centre] = home.way_up.map(|at| &country.sites[at]);
            assert_eq!([commune.parent, district.parent], [Some(home.way_up[1]), Some(1)]);
            assert!(country.directory.is_within(commune.unit, district.unit));
            assert!(country.directory.is_within(district.unit, province.unit));
            for site in [commune, district, province, centre] {
                assert!(site.shards().contains(&home.shard), "{}", site.name);
            }
        }
        let order = [(0, 0), (1, 1), (2, 2), (4, 3), (5, 3), (3, 2), (6, 3), (7, 3)];
        assert_eq!(country.in_tree_order(), order);
        assert_eq!(country.sites.iter().map(|site| site.shards().len()).collect::<Vec<_>>(), [4, 4, 2, 2, 1, 1, 1, 1]);
        let mut ports: Vec<_> = country.sites.iter().flat_map(|site| &site.nodes).map(|node| node.port).collect();
        ports.dedup();
        assert_eq!(ports.len(), 16);
    }

    #[test]
    fn a_seed_gives_the_same_ids_again() {
        let ids = |seed| {
            let country = Country::plan(Path::new("/nowhere"), seed).unwrap();
            let shards: Vec<_> = country.homes.iter().map(|home| home.shard).collect();
            let nodes: Vec<_> = country.sites.iter().flat_map(|site| &site.nodes).map(|node| node.id).collect();
            (shards, nodes)
        };
        assert_eq!(ids(5), ids(5));
        assert_ne!(ids(5), ids(6));
    }

    #[test]
    fn every_node_starts_with_a_valid_file() {
        let dir = tempfile::tempdir().unwrap();
        let country = written(dir.path(), 1);
        for (at, site) in country.sites.iter().enumerate() {
            for (number, node) in site.nodes.iter().enumerate() {
                let config = Config::load(&node.config()).unwrap();
                assert_eq!(config.node.id, node.id);
                assert_eq!(config.site.bootstrap, number == 0);
                assert_eq!(config.site.members.len(), site.nodes.len());
                let parent = config.parent.as_ref();
                assert_eq!(parent.map(|parent| parent.site), site.parent.map(|above| country.sites[above].id));
                assert_eq!(parent.map_or(0, |parent| parent.nodes.len()), if at == 0 { 0 } else { 3 });
                crate::tls::Door::open(&config).unwrap();
            }
            country.client(at, at, Role::Registrar, Limits::default()).unwrap();
        }
    }

    #[test]
    fn the_place_file_names_every_site_and_shard() {
        let dir = tempfile::tempdir().unwrap();
        let country = written(dir.path(), 1);
        let text = fs::read_to_string(dir.path().join("place.csv")).unwrap();
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        assert_eq!(reader.headers().unwrap(), &["kind", "id", "unit", "parent", "public_key"][..]);
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!(rows.len(), country.sites.len() + country.homes.len());
        assert_eq!(&rows[0][3], "");
        assert_eq!(rows[1][3], country.sites[0].id.to_string());
        assert!(rows[..8].iter().all(|row| row[4].len() == 64 && &row[0] == "site"));
        assert_eq!(rows[8][1], country.homes[0].shard.to_string());
        assert_eq!(rows[8][2], country.homes[0].unit.to_string());
    }
}
