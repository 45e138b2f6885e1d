//! openraft's state machine over the node's [`StateEngine`], for one group.
//!
//! Owns the group's position (applied log id and membership), stored beside the state under the group's eight bytes and
//! a zero, and the group's snapshot files. What commands mean is the [`Machine`]'s business.
//!
//! Promises:
//! - one engine batch holds what a run of commands changed and the position after it: after a crash the log replays
//!   from exactly there;
//! - a snapshot counts only once the state below it is durable, so purging the log up to it loses nothing;
//! - a snapshot that was being installed when the node stopped is installed again at the next start, or the start is
//!   refused; a half-installed state is never served;
//! - damage that is met in the state is repaired beside the running group: the state is made again from the newest
//!   snapshot here and the log above it, both of which are checked, and the vote is not touched;
//! - where that is not here, because the snapshot is damaged too, the replica stops, and its group starts it again with the
//!   snapshot of another member (see `group`); until the state is again where readers have seen it, they are refused;
//! - any other `StoreError`, from engine or machine, is logged once and stops this replica, and so does damage where
//!   the disk cannot even be cleared.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use dinhba_core::ids::GroupId;
use dinhba_core::inject::{is_armed, rarely, sometimes};
use dinhba_core::store::{Batch, StateEngine, StateView, StoreError};
use futures::channel::oneshot;
use futures::{FutureExt, Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use openraft::{EntryPayload, OptionalSend};
use prost::Message;
use tokio::sync::Notify;

use super::log_store::{LogStore, to_io};
use super::snapshot::{self, SnapshotFile, is_machine_key, machine_range, position_key};
use super::types::{
    Answer, CommittedLeaderId, Entry, LogId, Node, SnapshotMeta, StoredMembership, TypeConfig, decode, meta_from_wire,
    meta_to_wire,
};
use crate::disk::Disk;
use crate::runtime::{self, Instant};

/// Commands in one engine batch: enough to share its cost, few enough that the first is answered soon.
const BATCH_COMMANDS_MAX: usize = 256;

/// Bytes of commands in one engine batch: what it changes is a small multiple of this.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// At most one rebuilding of the state in this time: what is damaged again at once has a cause that rebuilding does not cure,
/// and each costs a reading of the whole state.
const REBUILDS_APART: Duration = Duration::from_secs(600);

/// The start of a complete snapshot's file name; index and term follow, so that names sort by age.
const COMPLETE_PREFIX: &str = "snapshot-";

/// The name of an empty file beside the snapshots, there after a damaged state could not be replaced: the engine's own
/// files are damaged, and the next start begins with new ones (see `node`).
pub(crate) const ENGINE_DAMAGED: &str = "engine-damaged";

/// The end of a file name that means nothing after a restart.
const TEMPORARY_SUFFIX: &str = ".tmp";

const BUILDING: &str = "building.tmp";

/// What the commands of a group mean.
///
/// It must be deterministic: replicas that apply the same commands in the same order hold equal bytes. All its keys
/// begin with the group's eight bytes and a byte that is not zero.
pub trait Machine: Send + 'static {
    /// Decides committed commands, each with its log index, in order: one answer each, and what they change.
    ///
    /// Reads see the state before the first of them. The batch becomes visible after this returns. An error stops this
    /// replica: a refusal that all replicas agree on is an answer.
    #[allow(clippy::type_complexity, reason = "answers and batch, side by side")]
    fn apply(&mut self, commands: &[(u64, Vec<u8>)]) -> Result<(Vec<Vec<u8>>, Batch), StoreError>;

    /// The state is visible up to log index `index`, and the answers to commands are on their way.
    fn applied(&mut self, index: u64);

    /// The whole state was replaced by a snapshot: forget what was remembered of the old one.
    fn replaced(&mut self);
}

/// Between a group's machine, one after the other, and those who read its state past it: whether there is a state now, and
/// whether they met damage in it.
#[derive(Debug, Default)]
pub(crate) struct Condition {
    /// Odd while the state is replaced.
    replacing: AtomicU64,
    /// The first entry that readers have not been shown: a state that ends before it must not be shown any more.
    shown: AtomicU64,
    suspect: AtomicBool,
    lost: AtomicBool,
    told: Notify,
}

impl Condition {
    /// A number that differs after each replacement; none while the state is replaced, or if that failed. A view that was
    /// taken between two equal answers shows a state.
    pub(crate) fn steady(&self) -> Option<u64> {
        let number = self.replacing.load(Ordering::SeqCst);
        number.is_multiple_of(2).then_some(number)
    }

    /// Says that a reader met damage; whether it is the first to say so.
    pub(crate) fn suspect(&self) -> bool {
        !self.suspect.swap(true, Ordering::SeqCst)
    }

    fn take_suspicion(&self) -> bool {
        self.suspect.swap(false, Ordering::SeqCst)
    }

    /// From now on there is no state.
    pub(crate) fn begin(&self) {
        self.replacing.fetch_or(1, Ordering::SeqCst);
    }

    /// There is a whole state up to `applied`. If readers have seen a later one, they wait until it is there again.
    pub(crate) fn whole(&self, applied: Option<u64>) {
        let end = applied.map_or(0, |index| index + 1);
        if self.shown.fetch_max(end, Ordering::SeqCst) <= end && self.steady().is_none() {
            self.replacing.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Says that the state is damaged and cannot be had again from what is on this node.
    pub(crate) fn lose(&self) {
        self.lost.store(true, Ordering::SeqCst);
        self.told.notify_one();
    }

    /// Whether that was said since this was asked last.
    pub(crate) fn take_loss(&self) -> bool {
        self.lost.swap(false, Ordering::SeqCst)
    }

    /// Waits until it is said.
    pub(crate) async fn loss(&self) {
        while !self.lost.load(Ordering::SeqCst) {
            self.told.notified().await;
        }
    }
}

struct Shared {
    condition: Arc<Condition>,
    /// Held while a snapshot is written and while the state is replaced: neither must see the other half done.
    exclusive: Mutex<()>,
    engine: Arc<dyn StateEngine>,
    group: GroupId,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    current: Mutex<Option<(SnapshotMeta, SnapshotFile)>>,
}

/// One group's state, for openraft.
pub struct StateMachine {
    shared: Arc<Shared>,
    /// The lock is never waited for: openraft wants its state machine shareable, and a machine need not be.
    machine: Mutex<Box<dyn Machine>>,
    position: SnapshotMeta,
    stopped: bool,
    /// Where entries are read again if the state is damaged.
    log: Option<LogStore>,
    rebuilt: Option<Instant>,
    running: Arc<Running>,
}

/// Held by everything of a machine that may touch the disk: when the last of it is gone, the receiver is told.
struct Running(#[allow(dead_code, reason = "its drop is what tells")] Option<oneshot::Sender<()>>);

/// What a damaged state can be made from, before the entries of the log.
enum Source {
    Snapshot(SnapshotFile),
    /// The log holds everything.
    Nothing,
}

/// Under this key lies, while a snapshot is installed, the name of its file.
fn installing_key(group: GroupId) -> Vec<u8> {
    let mut key = position_key(group);
    key.push(1);
    key
}

fn encode_position(position: &SnapshotMeta) -> Vec<u8> {
    meta_to_wire(position).encode_to_vec()
}

/// Up to where a group's state goes in `view`, and who its members are there.
pub(crate) fn read_position(view: &dyn StateView, group: GroupId) -> Result<SnapshotMeta, StoreError> {
    let Some(bytes) = view.get(&position_key(group))? else { return Ok(SnapshotMeta::default()) };
    decode("position", &bytes)
        .and_then(meta_from_wire)
        .map_err(|error| StoreError::Corrupt { place: format!("position of {group}"), detail: error.to_string() })
}

/// What makes a group's state one that goes up to `position`.
pub(crate) fn position_batch(group: GroupId, position: &SnapshotMeta) -> Batch {
    let mut batch = Batch::default();
    batch.put(position_key(group), encode_position(position));
    batch
}

impl Shared {
    fn new(
        engine: Arc<dyn StateEngine>,
        group: GroupId,
        disk: Arc<dyn Disk>,
        dir: &Path,
        condition: Arc<Condition>,
    ) -> Result<Self, StoreError> {
        machine_range(group)?;
        disk.create_dir(dir)?;
        let (exclusive, current) = (Mutex::default(), Mutex::default());
        Ok(Shared { condition, exclusive, engine, group, disk, dir: dir.to_owned(), current })
    }

    fn current(&self) -> MutexGuard<'_, Option<(SnapshotMeta, SnapshotFile)>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn complete_path(&self, meta: &SnapshotMeta) -> PathBuf {
        let (index, term) = meta.last_log_id.map_or((0, 0), |id| (id.index, id.leader_id.term));
        self.dir.join(format!("{COMPLETE_PREFIX}{index:016x}-{term:016x}"))
    }

    /// Gives a durable file its lasting name.
    fn complete(&self, meta: &SnapshotMeta, mut file: SnapshotFile) -> Result<SnapshotFile, StoreError> {
        let path = self.complete_path(meta);
        if file.path != path {
            self.disk.rename(&file.path, &path)?;
            self.disk.sync_dir(&self.dir)?;
            file.path = path;
        }
        Ok(file)
    }

    /// Makes `file` the snapshot that is sent to others, unless a newer one came meanwhile; the older is removed.
    fn make_current(&self, meta: SnapshotMeta, file: SnapshotFile) -> Result<(), StoreError> {
        let mut current = self.current();
        let stale = match &mut *current {
            Some((newer, _)) if newer.last_log_id > meta.last_log_id => Some(file),
            slot => slot.replace((meta, file)).map(|(_, old)| old),
        };
        let kept = current.as_ref().map(|(_, file)| file.path.clone());
        drop(current);
        match stale {
            Some(stale) if Some(&stale.path) != kept.as_ref() => self.disk.remove(&stale.path),
            _ => Ok(()),
        }
    }

    fn exclusive(&self) -> MutexGuard<'_, ()> {
        self.exclusive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn build(&self) -> Result<(SnapshotMeta, SnapshotFile), StoreError> {
        let _exclusive = self.exclusive();
        let view = self.engine.snapshot()?;
        let meta = read_position(&*view, self.group)?;
        let file = snapshot::write(&*self.disk, &self.dir.join(BUILDING), self.group, &meta, &*view)?;
        drop(view);
        // Only now may the log below it go: what it holds is also durable in the engine.
        self.engine.sync()?;
        let file = self.complete(&meta, file)?;
        self.make_current(meta.clone(), file.clone())?;
        Ok((meta, file))
    }

    /// Replaces the group's state by the file's. The order makes a crash at any point visible: see the module's promises.
    fn install(&self, file: SnapshotFile) -> Result<SnapshotMeta, StoreError> {
        let (meta, file) = self.take_in(file)?;
        self.replace_by(meta, file)
    }

    /// Verifies a whole snapshot and gives it its lasting name. Nothing is replaced yet.
    fn take_in(&self, file: SnapshotFile) -> Result<(SnapshotMeta, SnapshotFile), StoreError> {
        let meta = snapshot::verify(&file, self.group)?;
        let file = self.complete(&meta, file)?;
        Ok((meta, file))
    }

    fn replace_by(&self, meta: SnapshotMeta, file: SnapshotFile) -> Result<SnapshotMeta, StoreError> {
        sometimes("a snapshot is installed", true);
        let name = file.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut batch = Batch::default();
        batch.put(installing_key(self.group), name.into_bytes());
        batch.delete(position_key(self.group));
        self.engine.apply(batch)?;
        self.engine.sync()?;

        let (from, to) = machine_range(self.group)?;
        if !is_armed("install-over-old-state") {
            self.engine.clear(&from, &to)?;
        }
        snapshot::pairs(&file, self.group, |pairs| {
            let writes = pairs.into_iter().map(|(key, value)| (key, Some(value))).collect();
            self.engine.apply(Batch { writes })
        })?;
        // An engine may keep later batches and lose earlier ones unless a sync stands between.
        self.engine.sync()?;

        let mut batch = Batch::default();
        batch.put(position_key(self.group), encode_position(&meta));
        batch.delete(installing_key(self.group));
        self.engine.apply(batch)?;
        self.engine.sync()?;
        self.make_current(meta.clone(), file)?;
        Ok(meta)
    }

    /// The group as if nothing had been applied.
    fn drop_state(&self) -> Result<(), StoreError> {
        // The position first: without it, what is left after a crash in the middle counts as nothing.
        drop_state(&*self.engine, self.group)
    }

    fn remove_snapshots(&self) -> Result<(), StoreError> {
        for name in self.disk.list(&self.dir)?.iter().filter(|name| name.starts_with(COMPLETE_PREFIX)) {
            self.disk.remove(&self.dir.join(name))?;
        }
        self.disk.sync_dir(&self.dir)
    }

    /// Installs again what a crash interrupted.
    fn finish_interrupted_install(&self) -> Result<(), StoreError> {
        let Some(name) = self.engine.get(&installing_key(self.group))? else { return Ok(()) };
        let name = String::from_utf8(name).unwrap_or_default();
        let path = self.dir.join(&name);
        tracing::warn!(group = %self.group, file = %path.display(), "installing an interrupted snapshot again");
        let taken = snapshot::open(&*self.disk, &path, self.group).and_then(|(_, file)| self.take_in(file));
        let (meta, file) = taken.map_err(|error| StoreError::Corrupt {
            place: format!("state of {}", self.group),
            detail: format!(
                "an installation of the snapshot {name:?} was interrupted and cannot be repeated ({error}); \
                 remove this node from its group and let it join anew"
            ),
        })?;
        self.replace_or_mark(meta, file).map(|_| ())
    }

    /// Replaces the state by a whole snapshot; if the engine does not take it, leaves word for the next start.
    fn replace_or_mark(&self, meta: SnapshotMeta, file: SnapshotFile) -> Result<SnapshotMeta, StoreError> {
        let replaced = self.replace_by(meta, file);
        replaced.map_err(|error| cannot_replace(&*self.disk, &self.dir, self.group, error))
    }

    /// Finds the newest complete snapshot and removes everything else.
    fn find_current(&self) -> Result<(), StoreError> {
        let mut damaged = false;
        for name in self.disk.list(&self.dir)?.iter().rev() {
            let path = self.dir.join(name);
            if name.ends_with(TEMPORARY_SUFFIX) {
                self.disk.remove(&path)?;
            } else if name.starts_with(COMPLETE_PREFIX) {
                match snapshot::open(&*self.disk, &path, self.group) {
                    Ok((meta, file)) if self.complete_path(&meta) == path => self.make_current(meta, file)?,
                    result => {
                        let error = result.err().map(|error| error.to_string());
                        tracing::warn!(group = %self.group, file = %path.display(), error, "removed a damaged snapshot");
                        self.disk.remove(&path)?;
                        damaged = sometimes("a damaged snapshot is removed", true);
                    }
                }
            }
        }
        // openraft expects a snapshot wherever the log was purged.
        if damaged && self.current().is_none() {
            self.build()?;
        }
        Ok(())
    }
}

fn drop_state(engine: &dyn StateEngine, group: GroupId) -> Result<(), StoreError> {
    let mut batch = Batch::default();
    batch.delete(position_key(group));
    batch.delete(installing_key(group));
    engine.apply(batch)?;
    engine.sync()?;
    let (from, to) = machine_range(group)?;
    engine.clear(&from, &to)?;
    engine.sync()
}

/// Writes the first snapshot of a group that does not run, to `dir`; durable when this returns.
pub(crate) fn write_snapshot(
    engine: Arc<dyn StateEngine>,
    group: GroupId,
    disk: Arc<dyn Disk>,
    dir: &Path,
) -> Result<(), StoreError> {
    Shared::new(engine, group, disk, dir, Arc::default())?.build().map(drop)
}

/// What to say where a state can be neither read nor replaced; if the engine's own files are to blame, leaves word beside the
/// group's snapshots for the next start.
pub(crate) fn cannot_replace(disk: &dyn Disk, dir: &Path, group: GroupId, error: StoreError) -> StoreError {
    // After a full disk and the like the next start does it again.
    if !matches!(error, StoreError::Corrupt { .. } | StoreError::Poisoned(_)) {
        return error;
    }
    let mark = || {
        disk.create_dir(dir)?;
        disk.open(&dir.join(ENGINE_DAMAGED), true)?.sync()?;
        disk.sync_dir(dir)
    };
    if let Err(unmarked) = mark() {
        return unmarked;
    }
    let detail = format!(
        "it cannot be replaced ({error}): restart the node, and it begins with new files, filled from snapshots and log"
    );
    StoreError::Corrupt { place: format!("state of {group}"), detail }
}

/// Makes a whole snapshot that another member gave the only one here, and drops the state: the group's next start installs it.
/// A crash in between leaves the old state with a snapshot from which it can be made again.
pub(crate) fn adopt(
    engine: Arc<dyn StateEngine>,
    group: GroupId,
    disk: Arc<dyn Disk>,
    dir: &Path,
    meta: &SnapshotMeta,
    file: SnapshotFile,
) -> Result<(), StoreError> {
    let shared = Shared::new(engine, group, disk, dir, Arc::default())?;
    // What is here is damaged, and may claim to be newer.
    shared.remove_snapshots()?;
    shared.complete(meta, file)?;
    shared.drop_state().map_err(|error| cannot_replace(&*shared.disk, dir, group, error))
}

/// Drops a damaged state and the snapshots beside it, for a group whose log holds everything.
pub(crate) fn begin_again(
    engine: Arc<dyn StateEngine>,
    group: GroupId,
    disk: Arc<dyn Disk>,
    dir: &Path,
) -> Result<(), StoreError> {
    let shared = Shared::new(engine, group, disk, dir, Arc::default())?;
    shared.remove_snapshots()?;
    shared.drop_state().map_err(|error| cannot_replace(&*shared.disk, dir, group, error))
}

/// Whom the state and the snapshots of a group name as members, as far as they can be read.
pub(crate) fn named_members(
    engine: &dyn StateView,
    group: GroupId,
    disk: &dyn Disk,
    dir: &Path,
) -> Vec<StoredMembership> {
    let names = disk.list(dir).unwrap_or_default();
    let snapshots = names.iter().filter(|name| name.starts_with(COMPLETE_PREFIX));
    let snapshots = snapshots.filter_map(|name| snapshot::open(disk, &dir.join(name), group).ok());
    let metas = read_position(engine, group).into_iter().chain(snapshots.map(|(meta, _)| meta));
    metas.map(|meta| meta.last_membership).collect()
}

/// Drops a state of which not even the position can be read; whether it did. openraft then installs the newest snapshot
/// here and applies the log above it. Only for a group whose log has its vote: without a position and a vote the node
/// would be taken for a new one.
pub(crate) fn drop_unreadable(engine: &dyn StateEngine, group: GroupId) -> Result<bool, StoreError> {
    let read = engine.get(&installing_key(group)).and_then(|_| read_position(engine, group));
    match read {
        Err(error @ StoreError::Corrupt { .. }) => {
            tracing::warn!(%group, %error, "the state is damaged: it is made again from snapshot and log");
            drop_state(engine, group)?;
            Ok(true)
        }
        other => other.map(|_| false),
    }
}

impl StateMachine {
    /// Opens the group's state; `dir` holds the group's snapshots and nothing else.
    pub fn open(
        engine: Arc<dyn StateEngine>,
        group: GroupId,
        disk: Arc<dyn Disk>,
        dir: &Path,
        machine: Box<dyn Machine>,
    ) -> Result<Self, StoreError> {
        Self::open_under(Arc::default(), engine, group, disk, dir, machine)
    }

    /// The same, in a condition that outlives it.
    pub(crate) fn open_under(
        condition: Arc<Condition>,
        engine: Arc<dyn StateEngine>,
        group: GroupId,
        disk: Arc<dyn Disk>,
        dir: &Path,
        machine: Box<dyn Machine>,
    ) -> Result<Self, StoreError> {
        let shared = Shared::new(engine, group, disk, dir, condition)?;
        shared.finish_interrupted_install()?;
        shared.find_current()?;
        let position = read_position(&*shared.engine.snapshot()?, group)?;
        let mut machine = machine;
        machine.replaced();
        let (machine, shared, running) = (Mutex::new(machine), Arc::new(shared), Arc::new(Running(None)));
        Ok(StateMachine { shared, machine, position, stopped: false, log: None, rebuilt: None, running })
    }

    /// The same, which repairs its state with the entries of this log.
    pub(crate) fn with_log(self, log: LogStore) -> Self {
        StateMachine { log: Some(log), ..self }
    }

    /// Resolves when nothing of this machine runs any more.
    pub(crate) fn ended(&mut self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.running = Arc::new(Running(Some(sender)));
        receiver
    }

    /// For those who read the state past the machine.
    #[cfg(test)]
    pub(crate) fn condition(&self) -> &Condition {
        &self.shared.condition
    }

    /// For those who are given this replica's snapshots.
    pub(crate) fn lender(&self) -> Lender {
        Lender { shared: Arc::clone(&self.shared), running: Arc::downgrade(&self.running) }
    }

    /// Where the newest snapshot here goes.
    pub(crate) fn snapshot_position(&self) -> Option<LogId> {
        self.shared.current().as_ref().and_then(|(meta, _)| meta.last_log_id)
    }

    /// Reads the newest snapshot here and checks it.
    pub(crate) fn verify_snapshot(&self) -> Result<(), StoreError> {
        let current = self.shared.current().clone();
        current.map_or(Ok(()), |(_, file)| snapshot::verify(&file, self.shared.group).map(drop))
    }

    /// Says that the state is lost here, if there is another member who may have it.
    fn lose(&self) -> bool {
        let has_others = self.position.last_membership.nodes().count() > 1;
        if has_others {
            self.shared.condition.lose();
        }
        has_others
    }

    /// Decides a run; if damage is met in the state, repairs that first.
    fn decide_on_a_whole_state(&mut self, run: &Run) -> Result<Vec<Vec<u8>>, StoreError> {
        // Until one is due again the suspicion stands, and nobody tells it anew.
        if self.may_rebuild() && self.shared.condition.take_suspicion() {
            match self.source() {
                Ok(source) => self.rebuild_or_mark(source)?,
                Err(error) if self.lose() => return Err(error),
                // Whoever meets the damage is refused; what does not touch it goes on.
                Err(error) => tracing::error!(group = %self.shared.group, %error, "a damaged state stays as it is"),
            }
        }
        match self.decide(run) {
            Err(damage @ StoreError::Corrupt { .. }) if self.may_rebuild() => {
                tracing::warn!(group = %self.shared.group, %damage, "the state is damaged");
                let source = self.source().map_err(|error| {
                    self.lose();
                    let detail = format!("{damage}; and it cannot be made again: {error}");
                    StoreError::Corrupt { place: format!("state of {}", self.shared.group), detail }
                })?;
                self.rebuild_or_mark(source)?;
                self.decide(run)
            }
            decided => decided,
        }
    }

    fn may_rebuild(&self) -> bool {
        let is_due = |at: Instant| runtime::now() - at >= REBUILDS_APART;
        self.log.is_some() && self.rebuilt.is_none_or(is_due)
    }

    /// What the state can be made from; reads the whole snapshot and the log above it. Nothing is changed yet.
    fn source(&self) -> Result<Source, StoreError> {
        let group = self.shared.group;
        let purged = self.log.as_ref().map(LogStore::purged).transpose()?.flatten();
        let current = self.shared.current().clone();
        let reaches = |meta: &SnapshotMeta| meta.last_log_id.map(|last| last.index) >= purged;
        let (source, start) = match current.filter(|(meta, _)| reaches(meta)) {
            Some((meta, file)) => match snapshot::verify(&file, group) {
                Err(_) if purged.is_none() => (Source::Nothing, None),
                verified => (verified.map(|_| Source::Snapshot(file))?, meta.last_log_id),
            },
            None if purged.is_none() => (Source::Nothing, None),
            None => return Err(unreachable_state(group, purged)),
        };
        let mut next = start.map_or(0, |start| start.index + 1);
        while let Some(last) = self.some_entries(next, self.position.last_log_id)?.last() {
            next = last.log_id.index + 1;
        }
        Ok(source)
    }

    /// Some entries of the log from `next` on, none of them beyond where the state is.
    fn some_entries(&self, next: u64, upto: Option<LogId>) -> Result<Vec<Entry>, StoreError> {
        let end = upto.map_or(0, |upto| upto.index + 1);
        let entries = self.log.as_ref().map(|log| log.some(next, end)).transpose()?.unwrap_or_default();
        if entries.is_empty() && next < end {
            Err(unreachable_state(self.shared.group, Some(next)))
        } else {
            Ok(entries)
        }
    }

    /// Makes the state again; if the engine does not even take that, leaves word for the next start.
    fn rebuild_or_mark(&mut self, source: Source) -> Result<(), StoreError> {
        let rebuilt = runtime::blocking(|| self.rebuild(source));
        rebuilt.map_err(|error| cannot_replace(&*self.shared.disk, &self.shared.dir, self.shared.group, error))
    }

    /// Makes the state again, up to where it was. Readers are refused until it is whole, and for good if that fails.
    fn rebuild(&mut self, source: Source) -> Result<(), StoreError> {
        sometimes("a damaged state is made again", true);
        let (shared, upto) = (Arc::clone(&self.shared), self.position.last_log_id);
        let exclusive = shared.exclusive();
        shared.condition.begin();
        self.rebuilt = Some(runtime::now());
        self.position = match source {
            Source::Snapshot(file) => shared.install(file)?,
            Source::Nothing => shared.drop_state().map(|()| SnapshotMeta::default())?,
        };
        self.machine().replaced();
        let from = self.position.last_log_id;
        loop {
            let next = self.position.last_log_id.map_or(0, |at| at.index + 1);
            let mut run = Run::default();
            for entry in self.some_entries(next, upto)? {
                run.add(entry, None);
            }
            if run.last.is_none() {
                break;
            }
            self.decide(&run)?;
        }
        if self.position.last_log_id != upto {
            return Err(unreachable_state(shared.group, upto.map(|upto| upto.index)));
        }
        shared.condition.whole(upto.map(|upto| upto.index));
        drop(exclusive);
        tracing::warn!(group = %shared.group, ?from, ?upto, "the state is made again from snapshot and log");
        Ok(())
    }

    /// Up to where the state goes.
    pub(crate) fn applied(&self) -> Option<LogId> {
        self.position.last_log_id
    }

    /// Writes a snapshot of the state as it is, unless there is one.
    pub(crate) fn ensure_snapshot(&self) -> Result<(), StoreError> {
        let newest = self.shared.current().as_ref().and_then(|(meta, _)| meta.last_log_id);
        if newest < self.position.last_log_id {
            self.shared.build()?;
        }
        Ok(())
    }

    fn machine(&mut self) -> &mut dyn Machine {
        &mut **self.machine.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs the error that stops this replica, once.
    fn stop(&mut self, error: StoreError) -> io::Error {
        if !self.stopped {
            self.stopped = true;
            tracing::error!(group = %self.shared.group, %error, "replica stopped");
        }
        to_io(error)
    }

    /// What is ready, up to the bounds of a batch; waits for the first.
    async fn ready_run<S>(entries: &mut S) -> Result<Run, io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin,
    {
        let mut run = Run::default();
        let mut bytes = 0;
        let mut next = entries.next().await;
        while let Some(item) = next {
            let (entry, responder) = item?;
            bytes += run.add(entry, responder);
            let is_full = run.responders.len() >= BATCH_COMMANDS_MAX || bytes >= BATCH_BYTES_MAX;
            if is_full || rarely("entries are applied one by one") {
                break;
            }
            next = entries.next().now_or_never().flatten();
        }
        Ok(run)
    }

    /// Decides a run of commands and makes one batch of what they change and the position.
    fn decide(&mut self, run: &Run) -> Result<Vec<Vec<u8>>, StoreError> {
        let (answers, mut batch) =
            if run.commands.is_empty() { Default::default() } else { self.machine().apply(&run.commands)? };
        let group = self.shared.group;
        if answers.len() != run.commands.len() {
            return Err(StoreError::Io(format!("{} answers to {} commands", answers.len(), run.commands.len())));
        }
        if batch.writes.iter().any(|(key, _)| !is_machine_key(group, key)) {
            return Err(StoreError::Io(format!("the machine of {group} writes outside its keys")));
        }
        let mut position = self.position.clone();
        position.last_log_id = run.last.or(position.last_log_id);
        if let Some(membership) = &run.membership {
            position.last_membership = membership.clone();
        }
        if is_armed("apply-out-of-batch") {
            let mut alone = Batch::default();
            alone.put(position_key(group), encode_position(&position));
            self.shared.engine.apply(alone)?;
        } else {
            batch.put(position_key(group), encode_position(&position));
        }
        self.shared.engine.apply(batch)?;
        self.position = position;
        Ok(answers)
    }
}

/// Entries that are applied together.
#[derive(Default)]
struct Run {
    commands: Vec<(u64, Vec<u8>)>,
    /// For every entry: whether it is a command, and who waits for it.
    responders: Vec<(bool, Option<ApplyResponder<TypeConfig>>)>,
    membership: Option<StoredMembership>,
    last: Option<LogId>,
}

impl Run {
    /// Adds an entry; returns the bytes of its command.
    fn add(&mut self, entry: Entry, responder: Option<ApplyResponder<TypeConfig>>) -> usize {
        let mut bytes = 0;
        let is_command = match entry.payload {
            EntryPayload::Blank => false,
            EntryPayload::Normal(command) => {
                bytes = command.0.len();
                self.commands.push((entry.log_id.index, command.0));
                true
            }
            EntryPayload::Membership(membership) => {
                self.membership = Some(StoredMembership::new(Some(entry.log_id), membership));
                false
            }
        };
        self.responders.push((is_command, responder));
        self.last = Some(entry.log_id);
        bytes
    }
}

/// The state cannot be had from what is on this node.
pub(crate) fn unreachable_state(group: GroupId, entry: Option<u64>) -> StoreError {
    let entry = entry.map_or_else(|| "some".to_owned(), |index| index.to_string());
    StoreError::Corrupt {
        place: format!("state of {group}"),
        detail: format!(
            "neither state, nor snapshot, nor log here leads beyond entry {entry}. In a site of several nodes remove this one \
             (`dinhba site remove-node`) and add one with a new id. A site of one node: restore it from an archive \
             (`dinhba restore`), or start it with an empty data directory, and its parent gives back what it holds"
        ),
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.position.last_log_id, self.position.last_membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        loop {
            let run = Self::ready_run(&mut entries).await?;
            let Some(last) = run.last else { return Ok(()) };
            let mut answers = match self.decide_on_a_whole_state(&run) {
                Ok(answers) => answers.into_iter(),
                Err(error) => return Err(self.stop(error)),
            };
            for (is_command, responder) in run.responders {
                let answer = if is_command { answers.next().unwrap_or_default() } else { Vec::new() };
                if let Some(responder) = responder {
                    responder.send(Answer(answer));
                }
            }
            // A state that was behind what readers had seen may be where they were.
            self.shared.condition.whole(Some(last.index));
            self.machine().applied(last.index);
        }
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { shared: Arc::clone(&self.shared), _running: Arc::clone(&self.running) }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, file: SnapshotFile) -> Result<(), io::Error> {
        let shared = Arc::clone(&self.shared);
        let installed = runtime::blocking(|| {
            let _exclusive = shared.exclusive();
            shared.condition.begin();
            let (meta, file) = shared.take_in(file)?;
            let installed = shared.replace_or_mark(meta, file)?;
            shared.condition.whole(installed.last_log_id.map(|last| last.index));
            Ok(installed)
        });
        let installed = match installed {
            Ok(installed) => installed,
            Err(error) => return Err(self.stop(error)),
        };
        if installed != *meta {
            let detail = format!("the snapshot goes to {installed}, not to {meta}");
            let place = format!("state of {}", self.shared.group);
            return Err(self.stop(StoreError::Corrupt { place, detail }));
        }
        let applied = installed.last_log_id.map(|last| last.index);
        self.position = installed;
        self.machine().replaced();
        // Whoever waits for an entry below has it now, and no later one may ever come.
        applied.into_iter().for_each(|index| self.machine().applied(index));
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<Snapshot<CommittedLeaderId, u64, Node, SnapshotFile>>, io::Error> {
        let Some((meta, snapshot)) = self.shared.current().clone() else { return Ok(None) };
        // The receiver refuses a damaged file, and would be sent the same one for ever.
        let whole = runtime::blocking(|| match snapshot::verify(&snapshot, self.shared.group) {
            Err(damage @ StoreError::Corrupt { .. }) => {
                tracing::warn!(group = %self.shared.group, %damage, "a snapshot is damaged: it is written anew");
                sometimes("a snapshot that rotted is written anew", true);
                // A state that was dropped, since it was to be made from this file, is none to write one of.
                let purged = self.log.as_ref().map(LogStore::purged).transpose()?.flatten();
                if self.position.last_log_id.map(|last| last.index) < purged {
                    return Err(unreachable_state(self.shared.group, purged));
                }
                self.shared.build()
            }
            verified => verified.map(|_| (meta, snapshot)),
        });
        match whole {
            Ok((meta, snapshot)) => Ok(Some(Snapshot { meta, snapshot })),
            Err(error) => {
                if matches!(error, StoreError::Corrupt { .. }) {
                    // Its members may not be known here any more: whoever starts the group knows whether there are others.
                    self.shared.condition.lose();
                }
                Err(self.stop(error))
            }
        }
    }
}

/// Writes a snapshot beside the running machine.
pub struct Builder {
    shared: Arc<Shared>,
    _running: Arc<Running>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<Snapshot<CommittedLeaderId, u64, Node, SnapshotFile>, io::Error> {
        let built = runtime::blocking(|| self.shared.build());
        let (meta, snapshot) = match built {
            Ok(built) => built,
            // The machine makes the state again before it applies the next entry, and openraft asks anew later: what it
            // gets is no newer than what it has.
            Err(damage @ StoreError::Corrupt { .. }) => {
                tracing::warn!(group = %self.shared.group, %damage, "the state is damaged, no snapshot is written of it");
                self.shared.condition.suspect();
                let current = self.shared.current().clone();
                sometimes("the first snapshot meets damage", current.is_none());
                current.unwrap_or_else(|| (SnapshotMeta::default(), SnapshotFile::of_nothing(&self.shared.dir)))
            }
            Err(error) => {
                tracing::error!(group = %self.shared.group, %error, "snapshot failed");
                return Err(to_io(error));
            }
        };
        Ok(Snapshot { meta, snapshot })
    }
}

/// Gives snapshots of a running replica to members whose own are damaged.
pub(crate) struct Lender {
    shared: Arc<Shared>,
    running: Weak<Running>,
}

impl Lender {
    /// A whole snapshot that goes at least up to entry `reach`: the newest one, or a new one.
    pub(crate) fn lend(&self, reach: u64) -> Result<(SnapshotMeta, SnapshotFile), StoreError> {
        let shared = &self.shared;
        // While it is held, a replica that stops is not started again over the same files.
        let Some(_running) = self.running.upgrade() else {
            return Err(StoreError::Io("the replica here has stopped".to_owned()));
        };
        let reaches = |meta: &SnapshotMeta| meta.last_log_id.is_some_and(|last| last.index >= reach);
        let current = shared.current().clone();
        if let Some((meta, file)) = current.filter(|(meta, _)| reaches(meta)) {
            match snapshot::verify(&file, shared.group) {
                Ok(_) => return Ok((meta, file)),
                Err(damage @ StoreError::Corrupt { .. }) => {
                    tracing::warn!(group = %shared.group, %damage, "a snapshot is damaged: it is written anew");
                }
                Err(error) => return Err(error),
            }
        }
        let position = read_position(&*shared.engine.snapshot()?, shared.group)?;
        if !reaches(&position) {
            let here = position.last_log_id.map_or_else(|| "nothing".to_owned(), |last| last.index.to_string());
            return Err(StoreError::Io(format!("the state here goes up to {here}, and {reach} is wanted")));
        }
        let built = shared.build();
        if let Err(StoreError::Corrupt { .. }) = &built {
            shared.condition.suspect();
        }
        built
    }
}
