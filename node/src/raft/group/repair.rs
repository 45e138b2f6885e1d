//! A group's start on this node, and its repair: a state that can be had from nothing here is made from another member's
//! snapshot, at the start and while the node runs.
//!
//! What a repair does: the replica is stopped; a snapshot is fetched that goes at least up to where the log here was purged
//! (`fetch`); it becomes the only one here, and the state is dropped (`stored`); the replica is started, installs it and
//! goes on with its own log. Vote and log are not touched, so nothing is promised anew; entries are removed only where the
//! snapshot shows that a majority accepted others in their place. Until then calls of other members are answered as by a node
//! that does not run the group, and readers here are refused until the state is again where they had seen it.
//!
//! Limits: a group of one member has nobody to ask. Whom to ask is known from the configuration, the log, and what can be read of
//! state and snapshots: if all of these name only members that are gone, it asks them for ever, and says so. A running replica
//! is repaired so at most once in [`REPAIRS_APART`].

use std::sync::{Arc, Weak};
use std::time::Duration;

use dinhba_core::inject::{is_armed, sometimes};
use dinhba_core::store::StoreError;
use futures::channel::oneshot;
use openraft::Raft;

use super::fetch::{ASK_PAUSE_MAX, Asker, Lending};
use super::{Group, Handle, Inner, Setup, Slot, StartError, Status, config, receive, timers};
use crate::log::LOST_VOTE;
use crate::proof::Proof;
use crate::raft::condition::Condition;
use crate::raft::log_store::LogStore;
use crate::raft::machine::StateMachine;
use crate::raft::network::Network;
use crate::raft::stored::{ENGINE_DAMAGED, Stored, cannot_replace, drop_unreadable, named_members, unreachable_state};
use crate::runtime::watch::{Receiver, WatchReceiver};
use crate::runtime::{self, Instant};

/// At most one repair of a running replica from another member in this time: each sends the whole state, and what is damaged
/// again at once has another cause.
const REPAIRS_APART: Duration = Duration::from_secs(600);

/// How long the parts of a stopped replica may take to end: one of them may be writing a snapshot.
const END_WAIT: Duration = Duration::from_secs(30 * 60);

/// Why a replica cannot be started.
enum Unfit {
    /// Its state can be had from nothing here; another member may have it.
    Damaged(StoreError),
    Refused(StartError),
}

impl From<StoreError> for Unfit {
    fn from(error: StoreError) -> Self {
        Unfit::Refused(StartError::Store(error))
    }
}

/// A replica that runs, and what resolves when nothing of it touches the disk any more.
struct Opened {
    inner: Arc<Inner>,
    ended: oneshot::Receiver<()>,
}

/// What is to be done next.
enum Phase {
    Running(oneshot::Receiver<()>),
    Lost(StoreError),
}

/// Opens log and state, up to where openraft takes over.
async fn prepare(setup: &Setup, condition: &Arc<Condition>) -> Result<(LogStore, StateMachine), Unfit> {
    let group = setup.group;
    let log = LogStore::open(Arc::clone(&setup.log), group)?;
    if log.has_vote() {
        drop_unreadable(&*setup.state, group)
            .map_err(|error| cannot_replace(&*setup.disk, &setup.snapshot_dir, group, error))?;
    }
    let (state, disk, machine) = (Arc::clone(&setup.state), Arc::clone(&setup.disk), (setup.machine)());
    let opened = StateMachine::open_under(Arc::clone(condition), state, group, disk, &setup.snapshot_dir, machine);
    let machine = opened.map_err(|error| damaged_unless_for_good(setup, error))?.with_log(log.clone());
    // Nothing is applied before a vote is durable: the log was lost, and with it what this node had promised.
    let is_lost = !log.has_vote() && !is_armed("take-lost-log-for-new");
    if let Some(applied) = machine.applied().filter(|_| is_lost) {
        sometimes("a node that lost its log is refused", true);
        return Err(Unfit::from(StoreError::Corrupt {
            place: format!("log of {group}"),
            detail: format!("the state goes to {applied}, and the log knows of no vote: it was lost; {LOST_VOTE}"),
        }));
    }
    // What a majority holds is applied, also before this node's own log has flushed it: after a power cut the state may
    // go further than the log. openraft then purges the log up to the state, and expects a snapshot there, as wherever it purged.
    let (applied, last) = (machine.applied().map(|applied| applied.index), log.last()?);
    // openraft would take a state that is gone for one in which nothing was applied, and go on from there.
    let (purged, snapshot) = (log.purged()?, machine.snapshot_position());
    if purged > applied.max(snapshot.map(|at| at.index)) {
        return Err(damaged_unless_for_good(setup, unreachable_state(group, purged)));
    }
    // Where the newest one was damaged, there may be the one before it, which a power cut brought back.
    let is_short = snapshot.map(|at| at.index) < purged;
    if sometimes("a state goes further than its log", applied > last) || is_short {
        machine.ensure_snapshot().map_err(|error| damaged_unless_for_good(setup, error))?;
    }
    // A snapshot of another member may show that a majority accepted other entries than some at the end of this log, which
    // nobody else has. openraft would refuse to start with both.
    if let Some(at) = snapshot.filter(|at| Some(at.index) > applied)
        && let Some(here) = log.at(at.index)?
        && here != at
    {
        machine.verify_snapshot().map_err(|error| damaged_unless_for_good(setup, error))?;
        tracing::warn!(%group, %here, accepted = %at, "entries that no majority accepted are removed");
        log.truncate_from(at.index).await?;
    }
    Ok((log, machine))
}

/// What damage there means that was met in opening the state. Without a vote, or where the engine's own files are damaged,
/// another member's snapshot would not help.
fn damaged_unless_for_good(setup: &Setup, error: StoreError) -> Unfit {
    let has_vote = LogStore::open(Arc::clone(&setup.log), setup.group).is_ok_and(|log| log.has_vote());
    match error {
        StoreError::Corrupt { .. } if has_vote && !is_engine_damaged(setup) => Unfit::Damaged(error),
        error => Unfit::from(error),
    }
}

fn is_engine_damaged(setup: &Setup) -> bool {
    setup.disk.list(&setup.snapshot_dir).is_ok_and(|names| names.iter().any(|name| name == ENGINE_DAMAGED))
}

async fn open(setup: &Setup, condition: &Arc<Condition>, pulse: &Proof) -> Result<Opened, Unfit> {
    let (group, here) = (setup.group, setup.node.0);
    let config = Arc::new(config(setup).map_err(Unfit::Refused)?);
    let (log, mut machine) = prepare(setup, condition).await?;
    let (ended, lender, applied) = (machine.ended(), machine.lender(), machine.applied());
    let network = Network::new(setup.pool.clone(), group, here);
    let raft = match Raft::new(here, config, network, log, machine).await {
        Ok(raft) => raft,
        Err(error) if condition.take_loss() => {
            let detail = format!("{error}");
            return Err(damaged_unless_for_good(
                setup,
                StoreError::Corrupt { place: format!("state of {group}"), detail },
            ));
        }
        Err(error) => return Err(Unfit::Refused(StartError::Raft(error.to_string()))),
    };
    let heard = Arc::default();
    runtime::spawn(
        "timers",
        timers::keep(raft.clone(), Arc::clone(&heard), setup.pool.clone(), setup.settings.clone()),
    );
    // If a snapshot was installed, it has said so itself.
    condition.whole(applied.map(|applied| applied.index));
    let receiving = receive::Receiving::new(Arc::clone(&setup.disk), &setup.snapshot_dir, group);
    let inner = Inner {
        group,
        here,
        raft,
        heard,
        pool: setup.pool.clone(),
        barriers: Default::default(),
        receiving,
        lending: Lending::new(group, lender),
        condition: Arc::clone(condition),
        pulse: pulse.clone(),
        disk: setup.disk_proof.clone(),
        hand_over_wait: Duration::from_millis(setup.settings.election_ms_max),
    };
    Ok(Opened { inner: Arc::new(inner), ended })
}

pub(super) async fn start(setup: Setup) -> Result<Group, StartError> {
    let condition = Arc::new(Condition::default());
    let mut keeper = Keeper::new(setup, Arc::clone(&condition));
    let opened = match open(&keeper.setup, &condition, &keeper.pulse).await {
        // The log alone is enough: nobody is asked.
        Err(Unfit::Damaged(why)) if keeper.purged()?.is_none() => {
            keeper.begin_again(&why)?;
            open(&keeper.setup, &condition, &keeper.pulse).await
        }
        opened => opened,
    };
    let (handle, phase) = match opened {
        Ok(Opened { inner, ended }) => {
            let handle = Handle::new(
                &keeper.setup,
                Arc::clone(&condition),
                keeper.pulse.clone(),
                Slot::Here(Arc::clone(&inner)),
            );
            handle.serve(&inner);
            (handle, Phase::Running(ended))
        }
        Err(Unfit::Refused(error)) => return Err(error),
        Err(Unfit::Damaged(why)) => {
            keeper.learn();
            if keeper.asker.others.is_empty() {
                return Err(StartError::Store(why));
            }
            condition.begin();
            let away = Slot::away(Status::unknown(), &repairs(&why.to_string()), true);
            (Handle::new(&keeper.setup, condition, keeper.pulse.clone(), away), Phase::Lost(why))
        }
    };
    let handle = Arc::new(handle);
    keeper.handle = Arc::downgrade(&handle);
    let ending = Ending(handle.subscribe());
    handle.kept_by(runtime::spawn("group", keeper.keep(ending, phase)));
    Ok(Group { handle })
}

/// What the status says of a replica that waits for another member.
fn repairs(why: &str) -> String {
    format!("its state is damaged, and fetched from another member: {why}")
}

struct Keeper {
    setup: Setup,
    condition: Arc<Condition>,
    pulse: Proof,
    handle: Weak<Handle>,
    asker: Asker,
    repaired: Option<Instant>,
}

impl Keeper {
    fn new(setup: Setup, condition: Arc<Condition>) -> Self {
        let mut asker = Asker {
            group: setup.group,
            here: setup.node.0,
            pool: setup.pool.clone(),
            disk: Arc::clone(&setup.disk),
            dir: setup.snapshot_dir.clone(),
            others: Default::default(),
            incoming: None,
            refusals: Default::default(),
        };
        setup.peers.iter().for_each(|(node, address)| asker.learn(*node, address));
        let pulse = Proof::new("no proposal has passed", setup.settings.unproved_max());
        Keeper { setup, condition, pulse, handle: Weak::new(), asker, repaired: None }
    }

    fn log(&self) -> Result<LogStore, StoreError> {
        LogStore::open(Arc::clone(&self.setup.log), self.setup.group)
    }

    fn purged(&self) -> Result<Option<u64>, StoreError> {
        self.log()?.purged()
    }

    /// Looks for members in what is here.
    fn learn(&mut self) {
        let setup = &self.setup;
        let named = named_members(&*setup.state, setup.group, &*setup.disk, &setup.snapshot_dir);
        named.iter().for_each(|membership| self.asker.learn_all(membership.membership()));
        match self.log().and_then(|log| log.memberships()) {
            Ok(named) => named.iter().for_each(|membership| self.asker.learn_all(membership)),
            Err(error) => tracing::warn!(group = %self.setup.group, %error, "the log cannot be searched for members"),
        }
    }

    fn begin_again(&self, why: &StoreError) -> Result<(), StoreError> {
        let setup = &self.setup;
        tracing::warn!(group = %setup.group, %why, "the state is damaged: it is made again from the log");
        self.stored()?.begin_again()
    }

    /// What the stopped replica left.
    fn stored(&self) -> Result<Stored, StoreError> {
        let setup = &self.setup;
        let (state, disk) = (Arc::clone(&setup.state), Arc::clone(&setup.disk));
        Stored::new(state, setup.group, disk, &setup.snapshot_dir, Arc::default())
    }

    /// Starts the replica again whenever its state is lost, until the group ends or cannot be started.
    async fn keep(mut self, mut ending: Ending, mut phase: Phase) {
        loop {
            let next = match phase {
                Phase::Running(ended) => self.stop_when_lost(ended, &mut ending).await,
                Phase::Lost(why) => self.repair(why, &mut ending).await.map(Phase::Running),
            };
            match next {
                Some(next) => phase = next,
                None => return,
            }
        }
    }

    /// Waits until the replica loses its state, and stops it; none if there is nobody to have it from, or the group ends.
    async fn stop_when_lost(&mut self, ended: oneshot::Receiver<()>, ending: &mut Ending) -> Option<Phase> {
        ending.or(self.condition.loss()).await?;
        self.condition.take_loss();
        let handle = self.handle.upgrade()?;
        let status = handle.status();
        for (node, (address, _)) in &status.members {
            self.asker.learn(*node, address);
        }
        if self.asker.others.is_empty() || is_engine_damaged(&self.setup) {
            return None;
        }
        let why = status.stopped.clone().unwrap_or_else(|| "damage was met".to_owned());
        tracing::warn!(group = %self.setup.group, why, "this replica is made again from another member's snapshot");
        self.condition.begin();
        handle.groups.remove(self.setup.group);
        let old = handle.replace(Slot::away(status, &repairs(&why), true))?;
        drop(handle);
        // It answers with an error only if its task is already gone.
        let _ = old.raft.shutdown().await;
        drop(old);
        if runtime::timeout(END_WAIT, ended).await.is_err() {
            tracing::error!(group = %self.setup.group, "the stopped replica does not end: restart the node");
            return None;
        }
        if let Some(again) = self.repaired.map(|at| at + REPAIRS_APART) {
            ending.or(runtime::sleep_until(again)).await?;
        }
        self.repaired = Some(runtime::now());
        Some(Phase::Lost(StoreError::Corrupt { place: format!("state of {}", self.setup.group), detail: why }))
    }

    /// Has the state from another member, and starts the replica; none if it does not start, or the group ends.
    async fn repair(&mut self, mut why: StoreError, ending: &mut Ending) -> Option<oneshot::Receiver<()>> {
        let opened = loop {
            match self.try_repair(&why, ending).await {
                None => return None,
                Some(Ok(opened)) => break Ok(opened),
                Some(Err(Unfit::Refused(error))) => break Err(error),
                Some(Err(Unfit::Damaged(again))) => {
                    tracing::warn!(group = %self.setup.group, %again, "the state is still damaged");
                    why = again;
                    ending.or(runtime::sleep(ASK_PAUSE_MAX)).await?;
                }
            }
        };
        let handle = self.handle.upgrade()?;
        match opened {
            Ok(Opened { inner, ended }) => {
                handle.serve(&inner);
                handle.replace(Slot::Here(Arc::clone(&inner)));
                if handle.is_ended() {
                    handle.groups.remove(self.setup.group);
                    let _ = inner.raft.shutdown().await;
                    return None;
                }
                sometimes("a replica runs again with another member's snapshot", true);
                tracing::warn!(group = %self.setup.group, "this replica runs again");
                Some(ended)
            }
            Err(error) => {
                tracing::error!(group = %self.setup.group, %error, "replica stopped");
                handle.replace(Slot::away(handle.status(), &error.to_string(), false));
                None
            }
        }
    }

    /// One attempt; none if the group ends meanwhile.
    async fn try_repair(&mut self, why: &StoreError, ending: &mut Ending) -> Option<Result<Opened, Unfit>> {
        let reach = match self.settle_log().await {
            Ok(reach) => reach,
            Err(error) => return Some(Err(error.into())),
        };
        self.learn();
        let adopted = match reach {
            None => self.begin_again(why),
            Some(reach) => {
                let handle = self.handle.clone();
                let tell = |why: String| {
                    if let Some(handle) = handle.upgrade() {
                        handle.replace(Slot::away(handle.status(), &repairs(&why), true));
                    }
                };
                let (meta, file) = ending.or(self.asker.fetch(reach, tell)).await?;
                self.stored().and_then(|stored| runtime::blocking(|| stored.adopt(&meta, file)))
            }
        };
        Some(match adopted {
            Ok(()) => open(&self.setup, &self.condition, &self.pulse).await,
            Err(error) => Err(error.into()),
        })
    }

    /// Waits until what the old replica had begun to write is durable, so that nothing of it comes after what follows; gives
    /// the last entry that the log no longer holds.
    async fn settle_log(&self) -> Result<Option<u64>, StoreError> {
        let log = self.log()?;
        log.truncate_from(log.last()?.map_or(0, |last| last + 1)).await?;
        self.purged()
    }
}

/// The end of the group, for what waits.
struct Ending(Receiver<Slot>);

impl Ending {
    /// What `waited` gives; none if the group ends before, or nobody wants it any more.
    async fn or<T>(&mut self, waited: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.come() => None,
            output = waited => Some(output),
        }
    }

    async fn come(&mut self) {
        while !matches!(*self.0.borrow_and_update(), Slot::Ended(_)) && self.0.changed().await.is_ok() {}
    }
}
