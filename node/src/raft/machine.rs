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
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use dinhba_core::ids::GroupId;
use dinhba_core::inject::{is_armed, rarely, sometimes};
use dinhba_core::store::{Batch, StateEngine, StoreError};
use futures::channel::oneshot;
use futures::{FutureExt, Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use openraft::{EntryPayload, OptionalSend};

use super::condition::Condition;
use super::log_store::{LogStore, to_io};
use super::snapshot::{self, SnapshotFile, is_machine_key, position_key};
use super::stored::{Stored, cannot_replace, encode_position, read_position, unreachable_state};
use super::types::{Answer, CommittedLeaderId, Entry, LogId, Node, SnapshotMeta, StoredMembership, TypeConfig};
use crate::disk::Disk;
use crate::runtime::{self, Instant};

/// Commands in one engine batch: enough to share its cost, few enough that the first is answered soon.
const BATCH_COMMANDS_MAX: usize = 256;

/// Bytes of commands in one engine batch: what it changes is a small multiple of this.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// At most one rebuilding of the state in this time: what is damaged again at once has a cause that rebuilding does not cure,
/// and each costs a reading of the whole state.
const REBUILDS_APART: Duration = Duration::from_secs(600);

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

/// One group's state, for openraft.
pub struct StateMachine {
    stored: Arc<Stored>,
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
        let stored = Stored::new(engine, group, disk, dir, condition)?;
        stored.finish_interrupted_install()?;
        stored.find_current()?;
        let position = read_position(&*stored.engine.snapshot()?, group)?;
        let mut machine = machine;
        machine.replaced();
        let (machine, stored, running) = (Mutex::new(machine), Arc::new(stored), Arc::new(Running(None)));
        Ok(StateMachine { stored, machine, position, stopped: false, log: None, rebuilt: None, running })
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
        &self.stored.condition
    }

    /// For those who are given this replica's snapshots.
    pub(crate) fn lender(&self) -> Lender {
        Lender { stored: Arc::clone(&self.stored), running: Arc::downgrade(&self.running) }
    }

    /// Where the newest snapshot here goes.
    pub(crate) fn snapshot_position(&self) -> Option<LogId> {
        self.stored.current().as_ref().and_then(|(meta, _)| meta.last_log_id)
    }

    /// Reads the newest snapshot here and checks it.
    pub(crate) fn verify_snapshot(&self) -> Result<(), StoreError> {
        let current = self.stored.current().clone();
        current.map_or(Ok(()), |(_, file)| snapshot::verify(&file, self.stored.group).map(drop))
    }

    /// Says that the state is lost here, if there is another member who may have it.
    fn lose(&self) -> bool {
        let has_others = self.position.last_membership.nodes().count() > 1;
        if has_others {
            self.stored.condition.lose();
        }
        has_others
    }

    /// Decides a run; if damage is met in the state, repairs that first.
    fn decide_on_a_whole_state(&mut self, run: &Run) -> Result<Vec<Vec<u8>>, StoreError> {
        // Until one is due again the suspicion stands, and nobody tells it anew.
        if self.may_rebuild() && self.stored.condition.take_suspicion() {
            match self.source() {
                Ok(source) => self.rebuild_or_mark(source)?,
                Err(error) if self.lose() => return Err(error),
                // Whoever meets the damage is refused; what does not touch it goes on.
                Err(error) => tracing::error!(group = %self.stored.group, %error, "a damaged state stays as it is"),
            }
        }
        match self.decide(run) {
            Err(damage @ StoreError::Corrupt { .. }) if self.may_rebuild() => {
                tracing::warn!(group = %self.stored.group, %damage, "the state is damaged");
                let source = self.source().map_err(|error| {
                    self.lose();
                    let detail = format!("{damage}; and it cannot be made again: {error}");
                    StoreError::Corrupt { place: format!("state of {}", self.stored.group), detail }
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
        let group = self.stored.group;
        let purged = self.log.as_ref().map(LogStore::purged).transpose()?.flatten();
        let current = self.stored.current().clone();
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
            Err(unreachable_state(self.stored.group, Some(next)))
        } else {
            Ok(entries)
        }
    }

    /// Makes the state again; if the engine does not even take that, leaves word for the next start.
    fn rebuild_or_mark(&mut self, source: Source) -> Result<(), StoreError> {
        let rebuilt = runtime::blocking(|| self.rebuild(source));
        rebuilt.map_err(|error| cannot_replace(&*self.stored.disk, &self.stored.dir, self.stored.group, error))
    }

    /// Makes the state again, up to where it was. Readers are refused until it is whole, and for good if that fails.
    fn rebuild(&mut self, source: Source) -> Result<(), StoreError> {
        sometimes("a damaged state is made again", true);
        let (stored, upto) = (Arc::clone(&self.stored), self.position.last_log_id);
        let exclusive = stored.exclusive();
        stored.condition.begin();
        self.rebuilt = Some(runtime::now());
        self.position = match source {
            Source::Snapshot(file) => stored.install(file)?,
            Source::Nothing => stored.drop_state().map(|()| SnapshotMeta::default())?,
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
            return Err(unreachable_state(stored.group, upto.map(|upto| upto.index)));
        }
        stored.condition.whole(upto.map(|upto| upto.index));
        drop(exclusive);
        tracing::warn!(group = %stored.group, ?from, ?upto, "the state is made again from snapshot and log");
        Ok(())
    }

    /// Up to where the state goes.
    pub(crate) fn applied(&self) -> Option<LogId> {
        self.position.last_log_id
    }

    /// Writes a snapshot of the state as it is, unless there is one.
    pub(crate) fn ensure_snapshot(&self) -> Result<(), StoreError> {
        let newest = self.stored.current().as_ref().and_then(|(meta, _)| meta.last_log_id);
        if newest < self.position.last_log_id {
            self.stored.build()?;
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
            tracing::error!(group = %self.stored.group, %error, "replica stopped");
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
        let group = self.stored.group;
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
            self.stored.engine.apply(alone)?;
        } else {
            batch.put(position_key(group), encode_position(&position));
        }
        self.stored.engine.apply(batch)?;
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
            self.stored.condition.whole(Some(last.index));
            self.machine().applied(last.index);
        }
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { stored: Arc::clone(&self.stored), _running: Arc::clone(&self.running) }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, file: SnapshotFile) -> Result<(), io::Error> {
        let stored = Arc::clone(&self.stored);
        let installed = runtime::blocking(|| {
            let _exclusive = stored.exclusive();
            stored.condition.begin();
            let (meta, file) = stored.take_in(file)?;
            let installed = stored.replace_or_mark(meta, file)?;
            stored.condition.whole(installed.last_log_id.map(|last| last.index));
            Ok(installed)
        });
        let installed = match installed {
            Ok(installed) => installed,
            Err(error) => return Err(self.stop(error)),
        };
        if installed != *meta {
            let detail = format!("the snapshot goes to {installed}, not to {meta}");
            let place = format!("state of {}", self.stored.group);
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
        let Some((meta, snapshot)) = self.stored.current().clone() else { return Ok(None) };
        // The receiver refuses a damaged file, and would be sent the same one for ever.
        let whole = runtime::blocking(|| match snapshot::verify(&snapshot, self.stored.group) {
            Err(damage @ StoreError::Corrupt { .. }) => {
                tracing::warn!(group = %self.stored.group, %damage, "a snapshot is damaged: it is written anew");
                sometimes("a snapshot that rotted is written anew", true);
                // A state that was dropped, since it was to be made from this file, is none to write one of.
                let purged = self.log.as_ref().map(LogStore::purged).transpose()?.flatten();
                if self.position.last_log_id.map(|last| last.index) < purged {
                    return Err(unreachable_state(self.stored.group, purged));
                }
                self.stored.build()
            }
            verified => verified.map(|_| (meta, snapshot)),
        });
        match whole {
            Ok((meta, snapshot)) => Ok(Some(Snapshot { meta, snapshot })),
            Err(error) => {
                if matches!(error, StoreError::Corrupt { .. }) {
                    // Its members may not be known here any more: whoever starts the group knows whether there are others.
                    self.stored.condition.lose();
                }
                Err(self.stop(error))
            }
        }
    }
}

/// Writes a snapshot beside the running machine.
pub struct Builder {
    stored: Arc<Stored>,
    _running: Arc<Running>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<Snapshot<CommittedLeaderId, u64, Node, SnapshotFile>, io::Error> {
        let built = runtime::blocking(|| self.stored.build());
        let (meta, snapshot) = match built {
            Ok(built) => built,
            // The machine makes the state again before it applies the next entry, and openraft asks anew later: what it
            // gets is no newer than what it has.
            Err(damage @ StoreError::Corrupt { .. }) => {
                tracing::warn!(group = %self.stored.group, %damage, "the state is damaged, no snapshot is written of it");
                self.stored.condition.suspect();
                let current = self.stored.current().clone();
                sometimes("the first snapshot meets damage", current.is_none());
                current.unwrap_or_else(|| (SnapshotMeta::default(), SnapshotFile::of_nothing(&self.stored.dir)))
            }
            Err(error) => {
                tracing::error!(group = %self.stored.group, %error, "snapshot failed");
                return Err(to_io(error));
            }
        };
        Ok(Snapshot { meta, snapshot })
    }
}

/// Gives snapshots of a running replica to members whose own are damaged.
pub(crate) struct Lender {
    stored: Arc<Stored>,
    running: Weak<Running>,
}

impl Lender {
    /// A whole snapshot that goes at least up to entry `reach`: the newest one, or a new one.
    pub(crate) fn lend(&self, reach: u64) -> Result<(SnapshotMeta, SnapshotFile), StoreError> {
        let stored = &self.stored;
        // While it is held, a replica that stops is not started again over the same files.
        let Some(_running) = self.running.upgrade() else {
            return Err(StoreError::Io("the replica here has stopped".to_owned()));
        };
        let reaches = |meta: &SnapshotMeta| meta.last_log_id.is_some_and(|last| last.index >= reach);
        let current = stored.current().clone();
        if let Some((meta, file)) = current.filter(|(meta, _)| reaches(meta)) {
            match snapshot::verify(&file, stored.group) {
                Ok(_) => return Ok((meta, file)),
                Err(damage @ StoreError::Corrupt { .. }) => {
                    tracing::warn!(group = %stored.group, %damage, "a snapshot is damaged: it is written anew");
                }
                Err(error) => return Err(error),
            }
        }
        let position = read_position(&*stored.engine.snapshot()?, stored.group)?;
        if !reaches(&position) {
            let here = position.last_log_id.map_or_else(|| "nothing".to_owned(), |last| last.index.to_string());
            return Err(StoreError::Io(format!("the state here goes up to {here}, and {reach} is wanted")));
        }
        let built = stored.build();
        if let Err(StoreError::Corrupt { .. }) = &built {
            stored.condition.suspect();
        }
        built
    }
}
