//! A node: everything that runs in one process, started and stopped in the order that keeps its promises.
//!
//! Start: configuration checked, data directory locked and its owner compared, engines opened, the door opened; then a
//! node whose directory is empty asks its site whether its id had joined before (a node that forgot its vote must never
//! vote under its old name); then the groups start, and the founding node forms the site. Stop: the door closes, links
//! and groups end, the state is synced and closed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use dinhba_client::transport::Dial;
use dinhba_core::command::Nothing;
use dinhba_core::encoding::Wire;
use dinhba_core::ids::GroupId;
use dinhba_core::place::Place;
use dinhba_core::registry::{Context, GroupState, check_keys, read};
use dinhba_core::store::{LogEngine, StateEngine, StoreError};
use dinhba_core::units::Directory;
use futures::FutureExt;
use futures::future::BoxFuture;
use openraft_rt::watch::{WatchReceiver, WatchSender};

use crate::call::{Call, Changed};
use crate::config::Config;
use crate::disk::Disk;
use crate::hosted::{Hosted, PROPOSE_WAIT, Parts};
use crate::link::keep_parent_links;
use crate::log::Measured;
use crate::metrics::Metrics;
use crate::numbers;
use crate::pki::SiteKeys;
use crate::proof::{Proof, Spell};
use crate::raft::group::{Group, Settings, Setup, disk_proof};
use crate::raft::peer::{App, Groups, PeerPool};
use crate::refusals::{Refusals, Telling};
use crate::runtime::{self, watch};
use crate::sessions::{LinkReports, Sessions};
use crate::shared::{Shared, Units};

mod found;
mod process;
#[cfg(test)]
mod tests;

pub use process::run;
pub(crate) use process::{owner_of, remedy, snapshots_of};

use found::{adopt_missing, found_site, refuse_a_forgotten_vote, register_node};

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
            numbers: numbers::Numbers::default(),
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
        shared.check_unit()?;
        runtime::spawn("catch up", catch_up(Arc::clone(shared)));
        runtime::spawn("place", follow_place(Arc::clone(shared)));
        runtime::spawn("chores", do_chores(Arc::clone(shared)));
        runtime::spawn("numbers", numbers::keep(Arc::clone(shared)));
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
    if let Err(error) = numbers::learn(&shared) {
        tracing::debug!(%error, "which numbers may be given is not known yet: who is born waits for his");
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
