//! A node: everything that runs in one process, started and stopped in the order that keeps its promises.
//!
//! Start: configuration checked, data directory locked and its owner compared, engines opened, the door opened; then a
//! node whose directory is empty asks its site whether its id had joined before (a node that forgot its vote must never
//! vote under its old name); then the groups start, and the founding node forms the site. Stop: the door closes, links
//! and groups end, the state is synced and closed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};
use std::time::Duration;

use anyhow::Context as _;
use dinhba_client::handshake::Validity;
use dinhba_client::transport::Dial;
use dinhba_core::command::Nothing;
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{GroupId, NodeId, ShardId, SiteId, UnitId};
use dinhba_core::inject::is_armed;
use dinhba_core::place::{Place, PlaceEntry, Said};
use dinhba_core::record::Record;
use dinhba_core::registry::{Context, GroupState, check_keys, read, read_range, record_of};
use dinhba_core::store::{LogEngine, StateEngine, StoreError};
use dinhba_core::units::{Directory, UnitsError};
use ed25519_dalek::SigningKey;
use futures::FutureExt;
use futures::future::BoxFuture;
use openraft_rt::watch::{WatchReceiver, WatchSender};

use crate::call::{Call, Changed, Joined};
use crate::config::Config;
use crate::disk::Disk;
use crate::hosted::{Hosted, PROPOSE_WAIT, Parts};
use crate::link::{LinkReports, Sessions, keep_parent_links};
use crate::log::Measured;
use crate::metrics::Metrics;
use crate::pki::SiteKeys;
use crate::proof::{Proof, Spell};
use crate::raft::group::{Group, Settings, Setup, disk_proof};
use crate::raft::peer::{App, Groups, PeerPool};
use crate::refusals::{Refusals, Telling};
use crate::runtime::{self, watch};
use crate::secrets::Secrets;

mod found;
mod process;
#[cfg(test)]
mod tests;

pub use process::run;
pub(crate) use process::{owner_of, remedy, snapshots_of};

use found::{adopt_missing, found_site, refuse_a_forgotten_vote, register_node};

/// How often what no event tells of is looked after; where heartbeats are rarer, as often as they.
const RHYTHM: Duration = Duration::from_millis(500);

/// How long a peer may take to answer a call of [`Call`].
const CALL_WAIT: Duration = Duration::from_secs(3);

/// Pause before a group that has no leader yet is asked again what it has: a fraction of an election.
const CATCH_UP_PAUSE: Duration = Duration::from_millis(100);

/// How the groups of a node of this configuration keep time and compact their logs.
fn settings(config: &Config) -> Settings {
    let raft = &config.raft;
    Settings {
        heartbeat_ms: raft.heartbeat_ms,
        election_ms_min: raft.election_min_ms,
        election_ms_max: raft.election_max_ms,
        snapshot_every: raft.snapshot_every_entries,
        log_keep: raft.keep_entries,
    }
}

/// What a node is started with, beside its configuration: the seams.
pub struct Seams {
    /// The folded state.
    pub state: Arc<dyn StateEngine>,
    /// The Raft log.
    pub log: Arc<dyn LogEngine>,
    /// Snapshots, and the place file.
    pub disk: Arc<dyn Disk>,
    /// Where snapshots lie.
    pub snapshots: PathBuf,
    /// Reaches other nodes.
    pub dial: Arc<dyn Dial>,
    /// Whether the data directory was empty.
    pub is_new: bool,
    /// The country's units, as they are built in.
    pub directory: Arc<Directory>,
    /// The highest feature level that this node works at: [`LEVEL_MAX`](dinhba_core::level::LEVEL_MAX), or less, if it was
    /// told to do as an older version would.
    pub level_max: u16,
}

/// The site above, and where its nodes are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Above {
    pub site: SiteId,
    pub addresses: Vec<String>,
}

/// The country's units, and what the centre says of some that fits no tree.
#[derive(Debug, Default)]
pub struct Units {
    all: Directory,
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
    listed_units: Arc<Directory>,
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
    is_new: bool,
    hosted: OnceLock<BTreeMap<GroupId, Hosted>>,
    caught_up: AtomicBool,
    left: AtomicBool,
    /// The other nodes of this site that left it for good.
    gone: watch::Sender<BTreeSet<NodeId>>,
    place: RwLock<(Arc<Place>, Arc<Units>)>,
    stop: watch::Sender<bool>,
    stopping: watch::Receiver<bool>,
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
    fn part(&self) -> bool {
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
    async fn joined(&self, node: NodeId) -> Result<Joined, String> {
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
        place.say_sites(said, &kept.1);
        if place != *kept.0 {
            kept.0 = Arc::new(place);
        }
        Ok(())
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

/// The answering side of [`Call`].
struct Calls(Arc<Shared>);

impl App for Calls {
    fn app(&self, group: GroupId, request: Vec<u8>) -> BoxFuture<'static, Result<Vec<u8>, String>> {
        let shared = Arc::clone(&self.0);
        async move {
            match Call::from_bytes(&request).map_err(|error| error.to_string())? {
                Call::Joined(node) => Ok(shared.joined(node).await?.to_bytes()),
                Call::LevelMax(Nothing) => Ok(shared.level_max.to_bytes()),
                Call::Change(change) => {
                    let hosted = shared.group(group).ok_or("the group does not run here")?;
                    // No error: whoever asked must hear whether something may have been changed.
                    Ok(Changed::from(change.carry_out(&hosted.group).await).to_bytes())
                }
            }
        }
        .boxed()
    }
}

/// A running node.
pub struct Node {
    /// What its parts share.
    pub shared: Arc<Shared>,
}

impl Node {
    /// Starts the node's groups over the seams; the door is the caller's: see [`run`] and `server`.
    pub fn prepare(config: Config, seams: &Seams, keys: SiteKeys) -> Node {
        let SiteKeys { signing: signing_key, secrets } = keys;
        let (stop, stopping) = watch::channel(false);
        let metrics = Metrics::new();
        let refusals = Arc::new(Refusals::new(metrics.clone()));
        let dial: Arc<dyn Dial> = Arc::new(Telling::new(Arc::clone(&seams.dial), Arc::clone(&refusals)));
        let shared = Arc::new(Shared {
            listed_units: Arc::clone(&seams.directory),
            level_max: seams.level_max,
            metrics,
            links: LinkReports::default(),
            sessions: Sessions::default(),
            signing_key,
            secrets,
            dial: Arc::clone(&dial),
            refusals,
            certificate: OnceLock::new(),
            disk: Arc::clone(&seams.disk),
            log: Arc::downgrade(&seams.log),
            disk_proof: disk_proof(settings(&config).unproved_max()),
            room_proof: Proof::new("the room on the disk has not been seen", settings(&config).unproved_max()),
            pool: PeerPool::new(dial),
            groups: Groups::default(),
            is_new: seams.is_new,
            hosted: OnceLock::new(),
            caught_up: AtomicBool::new(false),
            left: AtomicBool::new(false),
            gone: watch::channel(BTreeSet::new()).0,
            place: RwLock::new((
                Arc::default(),
                Arc::new(Units { all: (*seams.directory).clone(), ..Units::default() }),
            )),
            stop,
            stopping,
            config,
        });
        Node { shared }
    }

    /// What answers the calls of peers.
    #[must_use]
    pub fn calls(&self) -> Arc<dyn App> {
        Arc::new(Calls(Arc::clone(&self.shared)))
    }

    /// Asks the other nodes whether this one, which has no data, ever joined under its id; an error if so. Waits until
    /// they can tell. [`start`](Self::start) does it too if the seams say that the node is new.
    pub async fn admit(&self) -> anyhow::Result<()> {
        refuse_a_forgotten_vote(&self.shared).await
    }

    /// Starts the groups and what follows them.
    pub async fn start(&self, seams: Seams) -> anyhow::Result<()> {
        let shared = &self.shared;
        if seams.is_new {
            refuse_a_forgotten_vote(shared).await?;
        }
        let own: BTreeSet<GroupId> = shared
            .config
            .site
            .members
            .iter()
            .find(|member| member.id == shared.config.node.id)
            .map(|member| member.groups.iter().copied().collect())
            .unwrap_or_else(|| shared.config.site.groups.iter().map(|group| group.id).collect());
        let log: Arc<dyn LogEngine> = Arc::new(Measured::new(Arc::clone(&seams.log), shared.metrics.clone()));
        let mut hosted = BTreeMap::new();
        for group in own {
            let context = shared.secrets.context(group, shared.level_max);
            fits(&*seams.state, &context)?;
            let (machine, host) = Parts::new(Arc::clone(&seams.state), context, shared.metrics.clone()).split();
            let setup = Setup {
                group,
                node: shared.config.node.id,
                log: Arc::clone(&log),
                state: Arc::clone(&seams.state),
                disk: Arc::clone(&seams.disk),
                snapshot_dir: seams.snapshots.join(group.to_string()),
                machine: Box::new(move || Box::new(machine.clone())),
                peers: shared
                    .config
                    .site
                    .members
                    .iter()
                    .filter(|member| member.groups.contains(&group))
                    .map(|member| (member.id, member.address.to_string()))
                    .collect(),
                pool: shared.pool.clone(),
                groups: shared.groups.clone(),
                settings: settings(&shared.config),
                disk_proof: shared.disk_proof.clone(),
            };
            hosted.insert(group, host(Group::start(setup).await?));
        }
        anyhow::ensure!(!hosted.is_empty(), "site.groups: this node hosts no group; list at least one");
        for group in hosted.values() {
            runtime::spawn("links", keep_parent_links(Arc::clone(shared), group.clone()));
        }
        anyhow::ensure!(shared.hosted.set(hosted).is_ok(), "a node starts once");
        match shared.refresh_place() {
            // Made again with the next entry; until the node has caught up, it says of nothing that it is unknown.
            Err(StoreError::Corrupt { .. } | StoreError::Replacing) => {}
            read => read?,
        }
        runtime::spawn("catch up", catch_up(Arc::clone(shared)));
        runtime::spawn("place", follow_place(Arc::clone(shared)));
        runtime::spawn("chores", do_chores(Arc::clone(shared)));
        Ok(())
    }

    /// Ends links and groups, and makes the state durable.
    pub async fn stop(&self) {
        let _ = WatchSender::send(&self.shared.stop, true);
        for hosted in self.shared.hosted() {
            hosted.group.shutdown().await;
            if let Err(error) = hosted.sync() {
                tracing::error!(group = %hosted.id(), %error, "the state could not be synced");
            }
        }
        self.shared.pool.disconnect();
    }
}

/// Refuses a state that is under other keys than this node has, or above the feature level that it works at: nothing of it could be
/// told, and nothing be applied. What cannot be read now is made again, and judged when it is applied to.
fn fits(state: &dyn StateEngine, context: &Context) -> anyhow::Result<()> {
    let formed = state.snapshot().and_then(|view| read::<GroupState>(&*view, &context.keys().group()));
    if let Ok(Some(group)) = formed {
        context.check_level(group.level)?;
        check_keys(context, (group.index_key, group.digest_key)).context("site.secrets")?;
    }
    Ok(())
}

/// Keeps the directory in memory in step with the site's first group.
async fn follow_place(shared: Arc<Shared>) {
    let Some(mut moved) = shared.site_group().map(Hosted::follow_directory) else { return };
    let unreadable = Spell::default();
    loop {
        // A removal is in the directory first, and in the groups' members afterwards, which tell nobody here.
        let changed = WatchReceiver::changed(&mut moved);
        let changed = match shared.part() {
            true => runtime::timeout(shared.rhythm(), changed).await,
            false => Ok(changed.await),
        };
        match changed {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => continue,
        }
        while let Err(error) = shared.refresh_place()
            && !shared.is_stopping()
        {
            if unreadable.failed() {
                tracing::warn!(%error, "the directory cannot be read");
            }
            runtime::sleep(shared.rhythm()).await;
        }
        if let Some(spell) = unreadable.ended() {
            tracing::info!(?spell, "the directory can be read again");
        }
    }
}

/// Waits for each group to show what its leader has; see [`Shared::has_caught_up`].
async fn catch_up(shared: Arc<Shared>) {
    let mut stopping = shared.stopping();
    for hosted in shared.hosted() {
        while let Err(error) = hosted.group.barrier(PROPOSE_WAIT).await {
            tracing::debug!(group = %hosted.id(), %error, "this replica has not caught up yet");
            if runtime::timeout(CATCH_UP_PAUSE, WatchReceiver::changed(&mut stopping)).await.is_ok() {
                return;
            }
        }
    }
    let unreadable = Spell::default();
    while let Err(error) = shared.refresh_place() {
        if unreadable.failed() {
            tracing::error!(%error, "the directory cannot be read: nothing is answered before it can");
        }
        if runtime::timeout(CATCH_UP_PAUSE, WatchReceiver::changed(&mut stopping)).await.is_ok() {
            return;
        }
    }
    shared.caught_up.store(true, Ordering::Release);
    tracing::info!(node = %shared.config.node.id, site = %shared.site(), "the node runs");
}

/// Founds the site, registers this node, and hosts what belongs here: again and again until done, and after every change.
async fn do_chores(shared: Arc<Shared>) {
    let (mut founded, unfounded) = (!shared.config.site.bootstrap, Spell::default());
    let mut stopping = shared.stopping();
    let every = shared.rhythm();
    // The directory by which this node, as the leader, last hosted everything that belongs here.
    let mut adopted: Option<Arc<Place>> = None;
    while !shared.is_stopping() {
        let place = shared.place();
        if founded && adopted.as_ref().is_none_or(|adopted| !Arc::ptr_eq(adopted, &place)) {
            match adopt_missing(&shared, &place).await {
                Ok(true) => adopted = Some(place),
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, "not every shard that belongs here is hosted yet"),
            }
        }
        if !founded {
            match found_site(&shared).await {
                Ok(done) => founded = done,
                Err(error) if unfounded.failed() => tracing::info!(%error, "the site is not founded yet"),
                Err(error) => tracing::debug!(%error, "the site is not founded yet"),
            }
        } else if let Err(error) = register_node(&shared).await {
            tracing::debug!(%error, "the node is not registered yet");
        }
        let pause = runtime::timeout(every, WatchReceiver::changed(&mut stopping)).await;
        if pause.is_ok() {
            return;
        }
    }
}
