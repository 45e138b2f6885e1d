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
//! - a `StoreError`, from engine or machine, is logged once and stops this replica.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dinhba_core::ids::GroupId;
use dinhba_core::inject::{is_armed, rarely, sometimes};
use dinhba_core::store::{Batch, StateEngine, StateView, StoreError};
use futures::{FutureExt, Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use openraft::{EntryPayload, OptionalSend};
use prost::Message;

use super::log_store::to_io;
use super::snapshot::{self, SnapshotFile, is_machine_key, machine_range, position_key};
use super::types::{
    Answer, CommittedLeaderId, LogId, Node, SnapshotMeta, StoredMembership, TypeConfig, decode, meta_from_wire,
    meta_to_wire,
};
use crate::disk::Disk;
use crate::runtime;

/// Commands in one engine batch: enough to share its cost, few enough that the first is answered soon.
const BATCH_COMMANDS_MAX: usize = 256;

/// Bytes of commands in one engine batch: what it changes is a small multiple of this.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// The start of a complete snapshot's file name; index and term follow, so that names sort by age.
const COMPLETE_PREFIX: &str = "snapshot-";

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

struct Shared {
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

    fn build(&self) -> Result<(SnapshotMeta, SnapshotFile), StoreError> {
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
        sometimes("a snapshot is installed", true);
        let meta = snapshot::verify(&file, self.group)?;
        let file = self.complete(&meta, file)?;
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

    /// Installs again what a crash interrupted.
    fn finish_interrupted_install(&self) -> Result<(), StoreError> {
        let Some(name) = self.engine.get(&installing_key(self.group))? else { return Ok(()) };
        let name = String::from_utf8(name).unwrap_or_default();
        let path = self.dir.join(&name);
        tracing::warn!(group = %self.group, file = %path.display(), "installing an interrupted snapshot again");
        snapshot::open(&*self.disk, &path, self.group).and_then(|(_, file)| self.install(file)).map(|_| ()).map_err(
            |error| StoreError::Corrupt {
                place: format!("state of {}", self.group),
                detail: format!(
                    "an installation of the snapshot {name:?} was interrupted and cannot be repeated ({error}); \
                     remove this node from its group and let it join anew"
                ),
            },
        )
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

impl StateMachine {
    /// Opens the group's state; `dir` holds the group's snapshots and nothing else.
    pub fn open(
        engine: Arc<dyn StateEngine>,
        group: GroupId,
        disk: Arc<dyn Disk>,
        dir: &Path,
        machine: Box<dyn Machine>,
    ) -> Result<Self, StoreError> {
        machine_range(group)?;
        disk.create_dir(dir)?;
        let shared = Shared { engine, group, disk, dir: dir.to_owned(), current: Mutex::new(None) };
        shared.finish_interrupted_install()?;
        shared.find_current()?;
        let position = read_position(&*shared.engine.snapshot()?, group)?;
        let mut machine = machine;
        machine.replaced();
        Ok(StateMachine { shared: Arc::new(shared), machine: Mutex::new(machine), position, stopped: false })
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
            let is_command = match entry.payload {
                EntryPayload::Blank => false,
                EntryPayload::Normal(command) => {
                    bytes += command.0.len();
                    run.commands.push((entry.log_id.index, command.0));
                    true
                }
                EntryPayload::Membership(membership) => {
                    run.membership = Some(StoredMembership::new(Some(entry.log_id), membership));
                    false
                }
            };
            run.responders.push((is_command, responder));
            run.last = Some(entry.log_id);
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
            let mut answers = match self.decide(&run) {
                Ok(answers) => answers.into_iter(),
                Err(error) => return Err(self.stop(error)),
            };
            for (is_command, responder) in run.responders {
                let answer = if is_command { answers.next().unwrap_or_default() } else { Vec::new() };
                if let Some(responder) = responder {
                    responder.send(Answer(answer));
                }
            }
            self.machine().applied(last.index);
        }
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { shared: Arc::clone(&self.shared) }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, file: SnapshotFile) -> Result<(), io::Error> {
        let installed = match runtime::blocking(|| self.shared.install(file)) {
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
        let current = self.shared.current().clone();
        Ok(current.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

/// Writes a snapshot beside the running machine.
pub struct Builder {
    shared: Arc<Shared>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<Snapshot<CommittedLeaderId, u64, Node, SnapshotFile>, io::Error> {
        let (meta, snapshot) = runtime::blocking(|| self.shared.build()).map_err(|error| {
            tracing::error!(group = %self.shared.group, %error, "snapshot failed");
            to_io(error)
        })?;
        Ok(Snapshot { meta, snapshot })
    }
}
