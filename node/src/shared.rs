//! What all parts of a node share: its configuration, its groups, and the directory as this node knows it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};
use std::time::Duration;

use dinhba_client::handshake::Validity;
use dinhba_client::transport::Dial;
use dinhba_core::ids::{GroupId, NodeId, ShardId, SiteId, UnitId};
use dinhba_core::inject::is_armed;
use dinhba_core::place::{Place, PlaceEntry, Said};
use dinhba_core::record::Record;
use dinhba_core::registry::{read_range, record_of};
use dinhba_core::store::{LogEngine, StoreError};
use dinhba_core::units::{Directory, UnitsError};
use ed25519_dalek::SigningKey;
use openraft_rt::watch::{WatchReceiver, WatchSender};

use crate::call::Joined;
use crate::config::Config;
use crate::disk::Disk;
use crate::hosted::Hosted;
use crate::metrics::Metrics;
use crate::numbers::Numbers;
use crate::proof::Proof;
use crate::raft::peer::{Groups, PeerPool};
use crate::refusals::Refusals;
use crate::runtime::watch;
use crate::secrets::Secrets;
use crate::sessions::{LinkReports, Sessions};

/// How often what no event tells of is looked after; where heartbeats are rarer, as often as they.
pub(crate) const RHYTHM: Duration = Duration::from_millis(500);

/// How long a peer may take to answer a call of [`Call`].
pub(crate) const CALL_WAIT: Duration = Duration::from_secs(3);

/// The site above, and where its nodes are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Above {
    pub site: SiteId,
    pub addresses: Vec<String>,
}

/// The country's units, and what the centre says of some that fits no tree.
#[derive(Debug, Default)]
pub struct Units {
    pub(crate) all: Directory,
    pub(crate) misfits: BTreeMap<UnitId, UnitsError>,
}

impl std::ops::Deref for Units {
    type Target = Directory;

    fn deref(&self) -> &Directory {
        &self.all
    }
}

/// What all parts of a node share.
pub struct Shared {
    /// The configuration.
    pub config: Config,
    /// The country's units, as they are built in.
    pub(crate) listed_units: Arc<Directory>,
    /// The highest feature level that this node works at.
    pub level_max: u16,
    /// Figures.
    pub metrics: Metrics,
    /// How the links are doing.
    pub links: LinkReports,
    /// Those that children have with groups here.
    pub(crate) sessions: Sessions,
    pub(crate) signing_key: SigningKey,
    /// What index, backups and digests are keyed with.
    pub(crate) secrets: Secrets,
    pub(crate) dial: Arc<dyn Dial>,
    /// Handshakes that did not end well, and what operators may do and others tried.
    pub(crate) refusals: Arc<Refusals>,
    /// Until when the node's own certificate is valid; not without TLS.
    pub(crate) certificate: OnceLock<Validity>,
    pub(crate) disk: Arc<dyn Disk>,
    /// Not kept open by this: it ends with the groups that write to it.
    pub(crate) log: Weak<dyn LogEngine>,
    pub(crate) disk_proof: Proof,
    pub(crate) room_proof: Proof,
    pub(crate) pool: PeerPool,
    pub(crate) groups: Groups,
    /// Whether the data directory was empty at the start.
    pub(crate) is_new: bool,
    pub(crate) hosted: OnceLock<BTreeMap<GroupId, Hosted>>,
    pub(crate) caught_up: AtomicBool,
    pub(crate) left: AtomicBool,
    /// The other nodes of this site that left it for good.
    pub(crate) gone: watch::Sender<BTreeSet<NodeId>>,
    pub(crate) place: RwLock<(Arc<Place>, Arc<Units>)>,
    /// Which blocks of personal numbers this site may use.
    pub(crate) numbers: Numbers,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) stopping: watch::Receiver<bool>,
}

impl Shared {
    /// The groups that run here; none before they have started.
    pub fn hosted(&self) -> impl Iterator<Item = &Hosted> {
        self.hosted.get().into_iter().flat_map(BTreeMap::values)
    }

    /// A group that runs here.
    pub fn group(&self, group: GroupId) -> Option<&Hosted> {
        self.hosted.get()?.get(&group)
    }

    /// The group that hosts a shard here.
    pub fn host_of(&self, shard: ShardId) -> Option<&Hosted> {
        let listed = self.place().shards.get(&shard).and_then(|entry| self.group(entry.group));
        // While a site is founded its groups have their shards before the directory lists them.
        listed.or_else(|| self.hosted().find(|hosted| matches!(hosted.shard(shard), Ok(Some(_)))))
    }

    /// The site's first group, which keeps the directory.
    pub fn site_group(&self) -> Option<&Hosted> {
        self.hosted.get()?.values().next()
    }

    /// The directory of sites, nodes, groups and shards, as this replica has it.
    pub fn place(&self) -> Arc<Place> {
        Arc::clone(&self.place.read().unwrap_or_else(PoisonError::into_inner).0)
    }

    /// The country's units as they are now: what is built in, and what the centre says.
    pub fn units(&self) -> Arc<Units> {
        Arc::clone(&self.place.read().unwrap_or_else(PoisonError::into_inner).1)
    }

    /// A unit's code and name; empty of one that is not known.
    pub(crate) fn unit_words(&self, unit: UnitId) -> (String, String) {
        self.units().get(unit).map(|unit| (unit.code.clone(), unit.name.clone())).unwrap_or_default()
    }

    /// This site.
    pub fn site(&self) -> SiteId {
        self.config.node.site
    }

    /// Whether the groups here have shown, since the start, everything that was acknowledged before it. A replica that lost
    /// what it had not flushed may lack even its shards until then, and must refuse nothing as unknown.
    pub fn has_caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Acquire)
    }

    /// Whether this node was removed from its site, as far as it has heard.
    pub fn has_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    /// It was removed: from now on it serves nobody.
    pub(crate) fn leave(&self) {
        self.left.store(true, Ordering::Release);
    }

    /// The nodes of this site that left it for good, as they are heard of.
    pub(crate) fn gone(&self) -> watch::Receiver<BTreeSet<NodeId>> {
        WatchSender::subscribe(&self.gone)
    }

    /// Parts with those who left: their connections are cut. Whether a node is still to leave: its id is spent, and a group has it as a
    /// member, which may be for ever.
    pub(crate) fn part(&self) -> bool {
        let (place, gone) = (self.place(), self.gone());
        let here = self.config.node.id;
        let mut is_to_leave = false;
        let spent = place.nodes.values().filter(|entry| !entry.present && entry.node != here);
        for node in spent.map(|entry| entry.node) {
            if WatchReceiver::borrow_watched(&gone).contains(&node) {
                continue;
            }
            // Of a group that has not begun here it is not known whom it has.
            let mut members = self.hosted().map(|hosted| hosted.group.status().members);
            if members.any(|members| members.is_empty() || members.contains_key(&node)) {
                is_to_leave = true;
                continue;
            }
            tracing::info!(%node, site = %self.site(), "a node left this site for good: its connections are cut");
            self.pool.forget(node);
            self.gone.send_if_modified(|gone| gone.insert(node));
        }
        is_to_leave
    }

    /// Whether the site has another node, as far as is known here.
    pub fn has_others(&self) -> bool {
        let here = self.config.node.id;
        let members = self.hosted().any(|hosted| hosted.group.status().members.keys().any(|node| *node != here));
        members || self.place().nodes.values().any(|entry| entry.present && entry.node != here)
    }

    /// Whether the node is stopping.
    pub fn is_stopping(&self) -> bool {
        *WatchReceiver::borrow_watched(&self.stopping)
    }

    /// Changes when the node stops.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.clone()
    }

    /// The site above, as the directory has it; as configured, while nothing was said from above of this site, or where the one
    /// that was said is reached.
    pub(crate) fn parent(&self) -> Option<Above> {
        let (place, configured) = (self.place(), self.config.parent.as_ref().map(|parent| parent.site));
        let said = match place.sites.get(&self.site()) {
            Some(listed) if listed.said.is_some() && !is_armed("parent-as-configured") => Some(listed.parent?),
            _ => None,
        };
        let said = said.map(|site| self.above(&place, site));
        let is_reached = said.as_ref().is_some_and(|above| !above.addresses.is_empty());
        let configured = configured.filter(|_| !is_reached).map(|site| self.above(&place, site));
        configured.or(said)
    }

    /// A site above, and where it is reached as far as is known here.
    fn above(&self, place: &Place, site: SiteId) -> Above {
        let configured = self.config.parent.as_ref();
        let configured =
            configured.filter(|parent| parent.site == site).into_iter().flat_map(|parent| &parent.addresses);
        let mut addresses: Vec<String> = configured.map(ToString::to_string).collect();
        for address in place.sites.get(&site).into_iter().flat_map(|listed| &listed.addresses) {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        Above { site, addresses }
    }

    /// Whether a site is linked below this one, as the directory has it.
    pub(crate) fn is_child(&self, site: SiteId) -> bool {
        let place = self.place();
        place.sites.get(&site).is_some_and(|listed| listed.is_active && listed.parent == Some(self.site()))
    }

    /// Whether a site may be linked below this one: it is said to be, or it lies in this one's area, and may not have heard yet that
    /// it is linked elsewhere now. Nobody else would tell it, and it has a right to all that is spoken of.
    pub(crate) fn may_be_child(&self, site: SiteId) -> bool {
        let (place, own) = (self.place(), self.config.site.unit);
        let units = self.units();
        let is_below = |unit| unit != own && units.is_within(unit, own) && !is_armed("moved-site-shut-out");
        self.is_child(site) || place.sites.get(&site).is_some_and(|listed| listed.is_active && is_below(listed.unit))
    }

    /// Where to dial a node of the parent that advertises `address`.
    pub(crate) fn parent_address(&self, node: NodeId, address: &str) -> String {
        let known = self.config.parent.iter().flat_map(|parent| &parent.nodes).find(|known| known.id == node);
        known.map_or_else(|| address.to_owned(), |known| known.address.to_string())
    }

    /// How often what no event tells of is looked after.
    pub(crate) fn rhythm(&self) -> Duration {
        RHYTHM.max(Duration::from_millis(self.config.raft.heartbeat_ms))
    }

    pub(crate) fn backoff_min(&self) -> Duration {
        Duration::from_millis(self.config.link.backoff_min_ms)
    }

    pub(crate) fn backoff_max(&self) -> Duration {
        Duration::from_millis(self.config.link.backoff_max_ms)
    }

    /// The units from the centre down to `unit`, inclusive.
    pub fn path(&self, unit: UnitId) -> Vec<UnitId> {
        self.units().path(unit)
    }

    /// What this node can say to another of its site that has no data and asks whether it ever took part.
    pub(crate) async fn joined(&self, node: NodeId) -> Result<Joined, String> {
        if self.hosted.get().is_none() {
            // Who has data and is not at work yet must not say that there is none.
            let nobody = Joined { joined: false, formed: false, running: false, left: false };
            return if self.is_new { Ok(nobody) } else { Err("this node is starting".to_owned()) };
        }
        let known = async || {
            let place = self.place();
            let entry = place.nodes.get(&node);
            let is_spent = entry.is_some_and(|entry| !entry.present);
            let (mut formed, mut joined, mut is_member) = (false, entry.is_some(), false);
            for hosted in self.hosted() {
                let members = hosted.group.members().await.map_err(|error| error.to_string())?;
                formed |= !members.is_empty();
                is_member |= members.contains_key(&node);
                joined |= members.get(&node).is_some_and(|(_, votes)| *votes);
            }
            Ok::<_, String>(Joined { joined, formed, running: true, left: is_spent && !is_member })
        };
        let first = known().await?;
        if first.joined || !first.formed {
            return Ok(first);
        }
        // What this replica has not heard yet may be just that.
        for hosted in self.hosted() {
            hosted.group.barrier(CALL_WAIT).await.map_err(|error| error.to_string())?;
        }
        self.refresh_place().map_err(|error| error.to_string())?;
        known().await
    }

    pub(crate) fn refresh_place(&self) -> Result<(), StoreError> {
        let Some(hosted) = self.site_group() else { return Ok(()) };
        // Held while the state is read: of two that do this at once, the later one has read the later state.
        let mut kept = self.place.write().unwrap_or_else(PoisonError::into_inner);
        let (mut place, said) = hosted.look(|view| {
            let mut place = Place::default();
            for (_, entry) in read_range::<PlaceEntry>(view, hosted.keys().places())? {
                place.put(entry);
            }
            let mut said = Vec::new();
            for entry in place.shards.values().filter(|entry| entry.is_ancestor() && entry.group == hosted.id()) {
                let records = read_range::<Record>(view, hosted.keys().records(entry.shard))?;
                let records = records.into_iter().map(|(key, record)| Ok((record_of(&key)?, record)));
                let records = records.collect::<Result<_, StoreError>>()?;
                said.push(Said { shard: entry.shard, home: entry.unit, records });
            }
            Ok((place, said))
        })?;
        place.say_units(&said, &self.listed_units);
        if place.units != kept.0.units {
            let (all, misfits) = self.listed_units.with(&place.units);
            for (unit, error) in misfits.iter().filter(|(unit, error)| kept.1.misfits.get(*unit) != Some(*error)) {
                tracing::error!(%unit, %error, "what the centre says of a unit counts for nothing: see `dinhba unit list`");
            }
            kept.1 = Arc::new(Units { all, misfits });
        }
        place.say_holidays(&said, &self.listed_units);
        place.say_sites(said, &kept.1);
        if place != *kept.0 {
            kept.0 = Arc::new(place);
        }
        Ok(())
    }

    /// Whether the site was founded for the unit that is configured. What is said from above does not count here: a slip there must not
    /// keep a node from starting.
    pub(crate) fn check_unit(&self) -> anyhow::Result<()> {
        let entries =
            self.site_group().map(|hosted| hosted.look(|view| read_range::<PlaceEntry>(view, hosted.keys().places())));
        // What cannot be read is not judged: it is made again.
        let Some(Ok(entries)) = entries else { return Ok(()) };
        let own = entries.into_iter().find_map(|(_, entry)| match entry {
            PlaceEntry::Site(entry) if entry.site == self.site() => Some(entry.unit),
            _ => None,
        });
        let unit = self.config.site.unit;
        match own.filter(|own| *own != unit) {
            None => Ok(()),
            Some(own) => anyhow::bail!(
                "site.unit: this site was founded for {own}, and the configuration says {unit}: correct it (`dinhba units CODE` prints \
                 the id of the unit of that code)"
            ),
        }
    }

    /// Whether the directory has what founding writes last: the site's groups and shards. From then on the place file is not
    /// read any more.
    pub(crate) fn is_founded(&self) -> bool {
        let place = self.place();
        let mut groups = self.config.site.groups.iter();
        place.sites.contains_key(&self.site())
            && groups.all(|group| {
                let mut shards = group.shards.iter();
                place.groups.contains_key(&group.id) && shards.all(|shard| place.shards.contains_key(shard))
            })
    }
}
