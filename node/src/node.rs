//! A node: everything that runs in one process, started and stopped in the order that keeps its promises.
//!
//! Start: configuration checked, data directory locked and its owner compared, engines opened, the door opened; then a
//! node whose directory is empty asks its site whether its id had joined before (a node that forgot its vote must never
//! vote under its old name); then the groups start, and the founding node forms the site. Stop: the door closes, links
//! and groups end, the state is synced and closed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};
use std::time::Duration;

use anyhow::Context as _;
use dinhba_client::handshake::Validity;
use dinhba_client::transport::Dial;
use dinhba_core::command::{Adopt, Answer, Command, Form, ShardInfo};
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{GroupId, Incarnation, NodeId, ShardId, SiteId, UnitId};
use dinhba_core::place::{GroupEntry, NodeEntry, Place, PlaceEntry, ShardEntry};
use dinhba_core::registry::{Context, read_range};
use dinhba_core::store::{LogEngine, StateEngine, StoreError};
use dinhba_core::units::Directory;
use dinhba_proto::peer::v1::App as AppFrame;
use ed25519_dalek::SigningKey;
use futures::FutureExt;
use futures::future::{BoxFuture, Either};
use openraft_rt::watch::{WatchReceiver, WatchSender};

use crate::call::{Call, Joined};
use crate::config::Config;
use crate::datadir::{DataDir, Owner};
use crate::disk::{Disk, RealDisk};
use crate::hosted::{Hosted, PROPOSE_WAIT, Parts, ProposalFailed};
use crate::link::{LinkReports, keep_parent_links};
use crate::log::{GroupCommit, LOST_VOTE, Measured, refuse_lost};
use crate::metrics::Metrics;
use crate::place_file::{self, PlaceFile};
use crate::proof::{Proof, Spell};
use crate::raft::group::{Group, Settings, Setup, StartError, disk_proof};
use crate::raft::peer::{App, Body, Groups, PeerPool};
use crate::raft::stored::ENGINE_DAMAGED;
use crate::refusals::{Refusals, Telling};
use crate::runtime::{self, watch};
use crate::seal::Unsealed;
use crate::state::{self, EngineKind};
use crate::tls::Door;
use crate::{link, pki, server};

/// The feature level that new groups are formed at; operators raise it once every node runs a version that knows more.
const LEVEL_FIRST: u16 = 1;

/// How often what no event tells of is looked after; where heartbeats are rarer, as often as they.
const RHYTHM: Duration = Duration::from_millis(500);

/// Pause before a group that has no leader yet is asked again what it has: a fraction of an election.
const CATCH_UP_PAUSE: Duration = Duration::from_millis(100);

/// How long a peer may take to answer a call of [`Call`].
const CALL_WAIT: Duration = Duration::from_secs(3);

/// How long open connections may go on when the node stops.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// The country whose units are built in.
const COUNTRY: &str = "vietnam";

/// What all replicas of a group know beside its state.
pub(crate) fn context(group: GroupId, signing_key: &SigningKey) -> Context {
    Context {
        group,
        index_key: blake3::derive_key("dinhba 2026 index", &signing_key.to_bytes()),
        digest_key: blake3::derive_key("dinhba 2026 digest", b"country"),
    }
}

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
    /// The country's units.
    pub directory: Arc<Directory>,
}

/// What all parts of a node share.
pub struct Shared {
    /// The configuration.
    pub config: Config,
    /// The country's units.
    pub directory: Arc<Directory>,
    /// Figures.
    pub metrics: Metrics,
    /// How the links are doing.
    pub links: LinkReports,
    pub(crate) signing_key: SigningKey,
    pub(crate) dial: Arc<dyn Dial>,
    /// Handshakes that did not end well.
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
    place: RwLock<Arc<Place>>,
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
        Arc::clone(&self.place.read().unwrap_or_else(PoisonError::into_inner))
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
        let mut path: Vec<UnitId> = self.directory.ancestors(unit).map(|above| above.id).collect();
        path.reverse();
        path.push(unit);
        path
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
            let (mut formed, mut joined, left) = (false, entry.is_some(), entry.is_some_and(|entry| !entry.present));
            for hosted in self.hosted() {
                let members = hosted.group.members().await.map_err(|error| error.to_string())?;
                formed |= !members.is_empty();
                joined |= members.get(&node).is_some_and(|(_, votes)| *votes);
            }
            Ok::<_, String>(Joined { joined, formed, running: true, left })
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
        let mut place = Place::default();
        for (_, entry) in hosted.look(|view| read_range::<PlaceEntry>(view, hosted.keys().places()))? {
            place.put(entry);
        }
        *kept = Arc::new(place);
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
                Call::Change(change) => {
                    let hosted = shared.group(group).ok_or("the group does not run here")?;
                    let members = change.carry_out(&hosted.group).await.map_err(|error| error.to_string())?;
                    Ok(members.to_bytes())
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
    pub fn prepare(config: Config, seams: &Seams, signing_key: SigningKey) -> Node {
        let (stop, stopping) = watch::channel(false);
        let metrics = Metrics::new();
        let refusals = Arc::new(Refusals::new(metrics.clone()));
        let dial: Arc<dyn Dial> = Arc::new(Telling::new(Arc::clone(&seams.dial), Arc::clone(&refusals)));
        let shared = Arc::new(Shared {
            directory: Arc::clone(&seams.directory),
            metrics,
            links: LinkReports::default(),
            signing_key,
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
            place: RwLock::default(),
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
            let context = context(group, &shared.signing_key);
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

/// Refuses to take part under an id that has joined before: its data is lost, and with it its votes.
///
/// The founder waits until all others take part. So whoever votes in a group has been admitted before the group began, and
/// if it asks again, it has forgotten; and a founding member whose first start is slow is waited for.
async fn refuse_a_forgotten_vote(shared: &Shared) -> anyhow::Result<()> {
    let config = &shared.config;
    let others: Vec<_> = config.site.members.iter().filter(|member| member.id != config.node.id).collect();
    let (mut answered, mut said) = (BTreeSet::new(), None);
    while answered.len() < others.len() {
        anyhow::ensure!(!shared.is_stopping(), "the node was stopped before the others of its site had answered");
        for other in others.iter().filter(|other| !answered.contains(&other.id)).collect::<Vec<_>>() {
            let request = Body::App(AppFrame { payload: Call::Joined(config.node.id).to_bytes() });
            let group = other.groups.first().copied().unwrap_or_default();
            let called = shared.pool.call(other.id.0, &other.address.to_string(), group, request, CALL_WAIT).await;
            let Ok(Body::AppAnswer(answer)) = called else { continue };
            let Ok(answer) = Joined::from_bytes(&answer.payload) else { continue };
            if answer.running || !config.site.bootstrap {
                answered.insert(other.id);
            }
            anyhow::ensure!(
                !answer.joined,
                "node.id: {} has joined this site before, and its data directory is empty: a node that lost its data must \
                 not vote under its old name. Remove it (`dinhba site remove-node`), then start with a new id and add it",
                config.node.id
            );
            if answer.formed {
                return Ok(());
            }
        }
        if answered.len() < others.len() {
            if said.replace(answered.len()) != Some(answered.len()) {
                tracing::info!(
                    answered = answered.len(),
                    of = others.len(),
                    "waiting for the other nodes of a new site"
                );
            }
            runtime::sleep(RHYTHM).await;
        }
    }
    Ok(())
}

/// Keeps the directory in memory in step with the site's first group.
async fn follow_place(shared: Arc<Shared>) {
    let Some(mut moved) = shared.site_group().map(Hosted::follow_directory) else { return };
    let unreadable = Spell::default();
    while WatchReceiver::changed(&mut moved).await.is_ok() {
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

/// Founds the site and registers this node: again and again until done, and after every change.
async fn do_chores(shared: Arc<Shared>) {
    let (mut founded, unfounded) = (!shared.config.site.bootstrap, Spell::default());
    let mut stopping = shared.stopping();
    let every = shared.rhythm();
    while !shared.is_stopping() {
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

/// Forms every group of a new site and writes its directory. All steps are repeated safely.
async fn found_site(shared: &Shared) -> anyhow::Result<bool> {
    if shared.is_founded() {
        return Ok(true);
    }
    let config = &shared.config;
    let file = match &config.place {
        Some(place) => place_file::read(shared.disk.as_ref(), &place.file)?,
        None => PlaceFile::default(),
    };
    let home_of = |shard: ShardId| {
        file.shards.get(&shard).copied().ok_or_else(|| {
            anyhow::anyhow!("place.file: has no line for the shard {shard} of site.groups; add its home commune")
        })
    };
    for hosted in shared.hosted() {
        let group = hosted.id();
        if hosted.group.status().members.is_empty() {
            let voters = config.site.members.iter().filter(|member| member.groups.contains(&group));
            let voters = voters.map(|member| (member.id, member.address.to_string())).collect();
            if let Err(error) = hosted.group.initialize(voters).await {
                tracing::debug!(%group, %error, "not initialized now");
            }
        }
        done(hosted, Command::Form(Form { site: config.node.site, level: LEVEL_FIRST })).await?;
        let shards = config.site.groups.iter().filter(|g| g.id == group).flat_map(|g| &g.shards);
        for shard in shards {
            let unit = home_of(*shard)?;
            if hosted.shard(*shard)?.is_none() {
                let info = ShardInfo { shard: *shard, path: shared.path(unit) };
                let (incarnation, epoch) = (Incarnation(link::random()), link::random());
                done(hosted, Command::Adopt(Adopt { info, incarnation, epoch })).await?;
            }
        }
    }
    let Some(first) = shared.site_group() else { return Ok(false) };
    // What is replicated counts, also if this replica has not shown it yet: the file must not replace it.
    first.group.barrier(PROPOSE_WAIT).await?;
    shared.refresh_place()?;
    let mut entries: Vec<PlaceEntry> = file.sites.values().cloned().map(PlaceEntry::Site).collect();
    for group in &config.site.groups {
        let members = config.site.members.iter().filter(|member| member.groups.contains(&group.id));
        let members = members.map(|member| member.id).collect();
        entries.push(PlaceEntry::Group(GroupEntry { group: group.id, members }));
        for shard in &group.shards {
            entries.push(PlaceEntry::Shard(ShardEntry { shard: *shard, unit: home_of(*shard)?, group: group.id }));
        }
    }
    let place = shared.place();
    entries.retain(|entry| !is_in(&place, entry));
    if !entries.is_empty() {
        for part in entries.chunks(512) {
            done(first, Command::Place(part.to_vec())).await?;
        }
        tracing::info!(site = %config.node.site, "the site is founded");
    }
    Ok(true)
}

fn is_in(place: &Place, entry: &PlaceEntry) -> bool {
    match entry {
        PlaceEntry::Site(entry) => place.sites.contains_key(&entry.site),
        PlaceEntry::Node(entry) => place.nodes.contains_key(&entry.node),
        PlaceEntry::Group(entry) => place.groups.contains_key(&entry.group),
        PlaceEntry::Shard(entry) => place.shards.contains_key(&entry.shard),
    }
}

/// Writes this node into the directory when it has joined, or listens elsewhere than before.
async fn register_node(shared: &Shared) -> anyhow::Result<()> {
    let (config, place) = (&shared.config, shared.place());
    let Some(first) = shared.site_group() else { return Ok(()) };
    let is_member = first.group.status().members.contains_key(&config.node.id);
    let entry = NodeEntry { node: config.node.id, address: config.node.advertise.to_string(), present: true };
    if is_member && first.state()?.is_some() && place.nodes.get(&entry.node) != Some(&entry) {
        done(first, Command::Place(vec![PlaceEntry::Node(entry)])).await?;
    }
    Ok(())
}

async fn done(hosted: &Hosted, command: Command) -> Result<(), ProposalFailed> {
    match hosted.propose(command).await? {
        (Answer::Done(_), _) => Ok(()),
        (Answer::Refused(refusal), _) => Err(ProposalFailed::NotAccepted(refusal.text)),
        (other, _) => Err(ProposalFailed::NotAccepted(format!("unexpected answer {other:?}"))),
    }
}

/// Opens the state in the data directory. If the engine's own files are damaged, as it says itself or as a replica found that
/// could not replace its part, they are set aside, and the groups fill new ones from their snapshots and logs; a group that
/// cannot says so and refuses to start. Never without the votes: a node that has neither state nor vote looks like a new one.
fn open_state(
    kind: EngineKind,
    data: &Path,
    config: &Config,
    log: &dyn LogEngine,
) -> anyhow::Result<Arc<dyn StateEngine>> {
    let dir = data.join("state");
    let open = || state::open(kind, &dir, Arc::new(Unsealed));
    let marks: Vec<PathBuf> = config.site.groups.iter().map(|group| snapshots_of(data, group.id)).collect();
    let marks: Vec<PathBuf> =
        marks.into_iter().map(|dir| dir.join(ENGINE_DAMAGED)).filter(|mark| mark.exists()).collect();
    let damage = if marks.is_empty() {
        match open() {
            Err(damage @ StoreError::Corrupt { .. }) => damage.to_string(),
            opened => return Ok(opened?),
        }
    } else {
        "a replica could not replace its part of it".to_owned()
    };
    let lost = |what: String| StoreError::Corrupt {
        place: dir.display().to_string(),
        detail: format!("{damage}; and {what}: {LOST_VOTE}"),
    };
    let groups = log.groups()?;
    for group in &groups {
        if log.state(*group)?.vote.is_none() {
            return Err(lost(format!("the log has no vote of {group}")).into());
        }
    }
    if groups.is_empty() {
        return Err(lost("the log is empty".to_owned()).into());
    }
    let aside = data.join("state.damaged");
    tracing::warn!(%damage, aside = %aside.display(), "the state is set aside, and made again from snapshots and log");
    if aside.exists() {
        std::fs::remove_dir_all(&aside).with_context(|| aside.display().to_string())?;
    }
    std::fs::rename(&dir, &aside).with_context(|| dir.display().to_string())?;
    let opened = open()?;
    for mark in marks {
        std::fs::remove_file(&mark).with_context(|| mark.display().to_string())?;
    }
    Ok(opened)
}

/// What to do about a node whose data cannot be used: it depends on whether others of its site have it.
pub(crate) fn remedy(config: &Config, has_others: bool) -> String {
    let node = config.node.id;
    if has_others {
        return format!(
            "if that is damage, the others of its site have what it had: remove this node (`dinhba site remove-node {node}`), and \
             add one with a new id and an empty data directory; if a majority of them is damaged, restore the site from an \
             archive (`dinhba restore`)"
        );
    }
    let parent = match &config.parent {
        Some(parent) => format!(
            ", or move its data directory away and start it empty: its parent {} gives back what it holds, and what it had not \
             sent up is lost",
            parent.site
        ),
        None => String::new(),
    };
    format!(
        "if that is damage, no other node of this site has what it had: restore it from an archive (`dinhba restore`){parent}"
    )
}

/// A start that failed over what lies in the data directory, with what to do.
fn with_remedy(config: &Config, error: anyhow::Error) -> anyhow::Error {
    let is_damage = |error: &StoreError| matches!(error, StoreError::Corrupt { .. });
    let damaged = error.downcast_ref::<StoreError>().is_some_and(is_damage)
        || matches!(error.downcast_ref::<StartError>(), Some(StartError::Store(error)) if is_damage(error));
    if damaged {
        let has_others = config.site.members.iter().any(|member| member.id != config.node.id);
        return anyhow::anyhow!("{error:#}; {}", remedy(config, has_others));
    }
    error
}

/// Where the snapshots of a group lie in a data directory.
pub(crate) fn snapshots_of(data: &Path, group: GroupId) -> PathBuf {
    data.join("snapshots").join(group.to_string())
}

/// Whose data directory a node of this configuration has.
pub(crate) fn owner_of(config: &Config) -> Owner {
    Owner { node: config.node.id, site: config.node.site, engine: config.storage.engine, country: COUNTRY.to_owned() }
}

/// Runs a node of this configuration until `stop` resolves: the whole of `dinhba node`.
pub async fn run(config: Config, stop: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
    let told = config.clone();
    run_here(config, stop).await.map_err(|error| with_remedy(&told, error))
}

async fn run_here(config: Config, stop: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
    let signing_key = pki::read_signing_key(&config.site.signing_key)?;
    let door = Door::open(&config)?;
    // First the port: it is the error that people make most, and nothing on the disk is touched by it.
    let incoming = door.listen(&config.node.listen)?;
    let data = DataDir::open(&config.node.data_dir, &owner_of(&config)).context("node.data_dir")?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let kind: EngineKind = config.storage.engine.name().parse()?;
    let log_dir = data.path().join("log");
    if data.is_admitted() {
        refuse_lost(&*disk, &log_dir)?;
    }
    let log = GroupCommit::open(Arc::clone(&disk), &log_dir, Arc::new(Unsealed))?;
    let mut seams = Seams {
        state: open_state(kind, data.path(), &config, &*log)?,
        log,
        disk,
        snapshots: data.path().join("snapshots"),
        dial: door.dialer(),
        is_new: !data.is_admitted(),
        directory: Arc::new(Directory::vietnam()?),
    };
    let state = Arc::clone(&seams.state);
    let node = Arc::new(Node::prepare(config, &seams, signing_key));
    let (closed, closing) = futures::channel::oneshot::channel::<()>();
    let serving = runtime::spawn("server", server::serve(Arc::clone(&node), door, incoming, closing));
    let mut stop = std::pin::pin!(stop.fuse());
    // The only part of a start that may wait for others, so the only one that must be left on request.
    let admission = async {
        if seams.is_new {
            node.admit().await?;
            data.admit()?;
        }
        anyhow::Ok(())
    };
    let admitted = match futures::future::select(std::pin::pin!(admission), stop.as_mut()).await {
        Either::Left((admitted, _)) => Some(admitted),
        Either::Right(_) => None,
    };
    seams.is_new = false;
    let result = match admitted {
        Some(Ok(())) => match node.start(seams).await {
            Ok(()) => {
                tracing::info!("the node has started, and catches up with its site");
                stop.await;
                tracing::info!("stopping");
                Ok(())
            }
            Err(error) => Err(error),
        },
        Some(Err(error)) => Err(error),
        None => Ok(()),
    };
    node.stop().await;
    let _ = closed.send(());
    let _ = runtime::timeout(STOP_WAIT, serving).await;
    // Not left to a drop: tasks that are abandoned still hold it.
    if let Err(error) = runtime::blocking(|| state.close()) {
        tracing::error!(%error, "the state could not be closed");
    }
    drop(data);
    result
}

#[cfg(test)]
mod tests {
    use dinhba_client::transport::{Transport, TransportError};

    use super::*;
    use crate::hosted::{ENTRIES_IN_FLIGHT_MAX, QUEUE_MAX};
    use crate::raft::test_support::{MemoryDisk, MemoryLog, MemoryState};

    const GROUP: GroupId = GroupId(1);
    const CONFIG: &str = r#"[node]
id = "n-0000000000000011"
site = "s-0000000000000051"
data_dir = "data"
listen = "127.0.0.1:7400"
[tls]
unsafe_loopback = true
[site]
unit = "u-00000000000000c3"
signing_key = "site.key"
[[site.members]]
id = "n-0000000000000011"
address = "127.0.0.1:7400"
groups = ["g-0000000000000001"]
[[site.groups]]
id = "g-0000000000000001"
shards = ["h-0000000000000001"]
"#;

    /// Reaches nobody.
    struct Alone;

    impl Dial for Alone {
        fn dial(&self, _: String) -> BoxFuture<'static, Result<Transport, TransportError>> {
            async { Err(TransportError::from("nobody is there")) }.boxed()
        }
    }

    async fn node(is_new: bool) -> (Node, Seams) {
        let config = Config::parse(CONFIG, Path::new("/nowhere")).expect("a good configuration");
        let seams = Seams {
            directory: Arc::new(Directory::vietnam().expect("the units are built in")),
            state: Arc::new(MemoryState::default()),
            log: Arc::new(MemoryLog::default()),
            disk: Arc::new(MemoryDisk::default()),
            snapshots: PathBuf::from("snapshots"),
            dial: Arc::new(Alone),
            is_new,
        };
        let node = Node::prepare(config, &seams, SigningKey::from_bytes(&[1; 32]));
        (node, seams)
    }

    #[test]
    fn what_is_to_be_done_about_damage_depends_on_who_else_has_the_data() {
        let config = Config::parse(CONFIG, Path::new("/nowhere")).expect("a good configuration");
        let damage = || StoreError::Corrupt { place: "log".to_owned(), detail: "a bad frame".to_owned() }.into();
        let alone = with_remedy(&config, damage()).to_string();
        assert!(alone.starts_with("damaged data at log: a bad frame; "), "{alone}");
        assert!(
            alone.contains("dinhba restore") && !alone.contains("remove-node") && !alone.contains("parent"),
            "{alone}"
        );
        let below = CONFIG.to_owned() + "[parent]\nsite = \"s-0000000000000050\"\naddresses = [\"127.0.0.1:7300\"]\n";
        let below = Config::parse(&below, Path::new("/nowhere")).expect("a good configuration");
        assert!(with_remedy(&below, damage()).to_string().contains("its parent s-0000000000000050 gives back"));
        let others = CONFIG.replace(
            "[[site.groups]]",
            "[[site.members]]\nid = \"n-0000000000000012\"\naddress = \"127.0.0.1:7402\"\n\
             groups = [\"g-0000000000000001\"]\n[[site.groups]]",
        );
        let others = Config::parse(&others, Path::new("/nowhere")).expect("a good configuration");
        for error in [damage(), StartError::Store(StoreError::Io("gone".to_owned())).into()] {
            let is_damage = error.to_string().contains("damaged");
            let told = with_remedy(&others, error).to_string();
            assert_eq!(told.contains("dinhba site remove-node n-0000000000000011"), is_damage, "{told}");
        }
    }

    #[tokio::test]
    async fn beyond_its_queue_a_group_takes_no_command() {
        let (node, seams) = node(true).await;
        node.start(seams).await.expect("there is nobody to wait for");
        let hosted = node.shared.group(GROUP).expect("it runs");
        // Nothing runs between these, and nobody leads.
        let propose = || hosted.propose(Command::Place(Vec::new())).now_or_never();
        let mut waiting: Vec<_> =
            (0..QUEUE_MAX).map(|_| Box::pin(hosted.propose(Command::Place(Vec::new())))).collect();
        assert!(waiting.iter_mut().all(|proposal| proposal.now_or_never().is_none()));
        assert_eq!(propose(), Some(Err(ProposalFailed::Overloaded)));
        node.stop().await;
    }

    #[tokio::test]
    async fn what_waits_for_longer_than_its_caller_is_not_proposed() {
        let (node, seams) = node(true).await;
        node.start(seams).await.expect("there is nobody to wait for");
        let hosted = node.shared.group(GROUP).expect("it runs");
        // Nobody leads, so that an entry is given up after a while, and those behind it have waited by then.
        let propose = || hosted.propose(Command::Place(Vec::new()));
        let mut all: Vec<_> = Vec::new();
        for _ in 0..ENTRIES_IN_FLIGHT_MAX {
            let mut proposal = Box::pin(propose());
            assert!((&mut proposal).now_or_never().is_none());
            runtime::sleep(Duration::from_millis(1)).await;
            all.push(proposal);
        }
        let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(propose())).collect();
        assert!(waiting.iter_mut().all(|proposal| proposal.now_or_never().is_none()));
        for outcome in futures::future::join_all(all).await {
            assert!(matches!(outcome, Err(ProposalFailed::NotAccepted(_))), "{outcome:?}");
        }
        for outcome in futures::future::join_all(waiting).await {
            assert_eq!(outcome, Err(ProposalFailed::Overloaded));
        }
        node.stop().await;
    }

    #[tokio::test]
    async fn a_read_does_not_wait_for_others_to_be_proposed_and_few_others_are_under_way_beside_it() {
        let (node, seams) = node(true).await;
        node.start(seams).await.expect("there is nobody to wait for");
        let hosted = node.shared.group(GROUP).expect("it runs");
        // Nobody leads: what is proposed is given up after a while, and what waits has waited for too long by then.
        let read = || Box::pin(hosted.propose(Command::Access(Vec::new())));
        let other = || Box::pin(hosted.propose(Command::Place(Vec::new())));
        let mut all = Vec::new();
        for mut pair in [[read(), other()], [read(), other()]] {
            assert!(pair.iter_mut().all(|proposal| proposal.now_or_never().is_none()));
            runtime::sleep(Duration::from_millis(1)).await;
            all.extend(pair);
        }
        for _ in 2..ENTRIES_IN_FLIGHT_MAX {
            let mut proposal = read();
            assert!((&mut proposal).now_or_never().is_none());
            runtime::sleep(Duration::from_millis(1)).await;
            all.push(proposal);
        }
        for (place, outcome) in futures::future::join_all(all).await.into_iter().enumerate() {
            let is_late = outcome == Err(ProposalFailed::Overloaded);
            assert_eq!(is_late, place == 3, "only the second of the others had to wait, {place}: {outcome:?}");
        }
        node.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_voter_has_joined_as_soon_as_the_log_names_it_and_nobody_is_called_new_by_one_who_cannot_know() {
        let (returning, _) = node(false).await;
        assert!(returning.shared.joined(NodeId(0x12)).await.is_err(), "it has data, and has not looked yet");

        let (founder, seams) = node(true).await;
        let said = |joined, formed, running| Ok(Joined { joined, formed, running, left: false });
        assert_eq!(founder.shared.joined(NodeId(0x12)).await, said(false, false, false));
        founder.start(seams).await.expect("there is nobody to wait for");
        assert_eq!(founder.shared.joined(NodeId(0x12)).await, said(false, false, true));

        // The other voter has not said a word yet, so there is no leader, and nothing is in the directory.
        let group = founder.shared.group(GROUP).expect("it runs").group.clone();
        let voters = [0x11, 0x12].map(|id| (NodeId(id), format!("127.0.0.1:74{id:02}"))).into();
        group.initialize(voters).await.expect("it is new");
        assert_eq!(founder.shared.joined(NodeId(0x12)).await, said(true, true, true));
        assert!(founder.shared.joined(NodeId(0x13)).await.is_err(), "without a leader it cannot know who else joined");
        founder.stop().await;
    }
}
