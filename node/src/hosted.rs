//! A group that this node hosts: commands go in and come back with their answers, reads wait for their entry in the
//! access log, and whoever follows the state is told when it moves.
//!
//! Commands of all callers that wait at one moment share one log entry, so that a burst costs few flushes; reads are
//! logged apart, so that they need not wait for edits to be proposed. A caller is told exactly one of three things: the
//! answer, that nothing was accepted, or that the outcome is not known.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use dinhba_core::access_log::{AccessEntry, Looked};
use dinhba_core::command::{Answer, Command, Proposal, ShardInfo};
use dinhba_core::edit::COMMAND_BYTES_MAX;
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{GroupId, ShardId};
use dinhba_core::inject::{is_armed, rarely, sometimes};
use dinhba_core::keys::Keys;
use dinhba_core::level::LEVEL_FIRST;
use dinhba_core::registry::{self, COMMANDS_MAX, Context, GroupState, ShardState};
use dinhba_core::store::{Batch, StateEngine, StateView, StoreError};
use dinhba_core::sync::{BATCH_BYTES, Moved};
use futures::channel::oneshot;
use futures::{FutureExt as _, StreamExt as _};
use openraft_rt::watch::{WatchReceiver, WatchSender};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_stream::wrappers::ReceiverStream;

use crate::metrics::Metrics;
use crate::moves::Moves;
use crate::raft::group::{Accepted, Group};
use crate::raft::machine::Machine;
use crate::runtime;
use crate::runtime::watch;

/// Commands that may wait for their turn, of reads and of others. More is refused: by then the disk is seconds behind.
pub(crate) const QUEUE_MAX: usize = 4_096;

/// A command that waited longer for its turn is refused: its caller, who waits five seconds for all of it, is about to send
/// it again, and what nobody waits for any more must not hold up the rest.
const TURN_WAIT_MAX: Duration = Duration::from_secs(3);

/// Commands in one log entry; also bounded by bytes. Below the registry's own bound.
const ENTRY_COMMANDS_MAX: usize = 256;

/// Bytes of commands in one log entry: a fraction of what a frame between peers takes.
const ENTRY_BYTES_MAX: usize = 384 * 1024;

/// Log entries proposed at once, of reads and of others: enough to keep the disk busy while the network answers.
pub(crate) const ENTRIES_IN_FLIGHT_MAX: usize = 8;

/// Bytes of commands that are under way at once beside reads, in one log entry: some eight registrations. A read waits for
/// what is before it in the log. The fewer they are, the sooner reads come back and the fewer edits a busy site takes
/// meanwhile; what was measured stands in `ARCHITECTURE.md` at "Reads beside writers".
const BYTES_BESIDE_READS: usize = 10_000;

/// For so long after a read the next one is expected: officers look at one record after the other.
const READS_GO_ON: Duration = Duration::from_millis(50);

/// How long an entry waits for more commands where a simulation makes it wait: several people's work.
const COMPANY_WAIT: Duration = Duration::from_millis(300);

/// How long a proposal waits for a leader and a majority before its outcome is called unknown.
pub const PROPOSE_WAIT: Duration = Duration::from_secs(10);

const _: () = assert!(ENTRY_COMMANDS_MAX <= COMMANDS_MAX);
// A batch holds at most one command beyond its usual size, and headers are a fraction of that.
const _: () = assert!(COMMAND_BYTES_MAX + 2 * BATCH_BYTES <= ENTRY_BYTES_MAX);

/// Why a command has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposalFailed {
    /// Too many commands wait, or too long. Nothing was accepted.
    #[error(
        "overloaded: {QUEUE_MAX} commands wait already, or this one waited {} s; nothing was accepted, try again in a moment",
        TURN_WAIT_MAX.as_secs()
    )]
    Overloaded,
    /// Nothing was accepted.
    #[error("nothing was accepted: {0}")]
    NotAccepted(String),
    /// It may have been accepted.
    #[error("the outcome is not known, send the same request again to this site: {0}")]
    Unknown(String),
    /// This machine's storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The registry as the group's machine; a clone goes on for it when the replica is started again.
#[derive(Clone)]
pub struct RegistryMachine {
    engine: Arc<dyn StateEngine>,
    context: Context,
    applied: watch::Sender<u64>,
    moves: Moves,
    /// What moved since that was told last.
    moved: BTreeSet<ShardId>,
    /// Whether all of it did.
    is_replaced: bool,
    /// Tells of changes of the directory.
    directory: watch::Sender<()>,
    /// Whether there is one that was not told of yet.
    directory_moved: bool,
    /// The ancestor shards of the group, whose records are of the directory too; none if they must be looked up.
    ancestors: Option<BTreeSet<ShardId>>,
    metrics: Metrics,
}

impl Machine for RegistryMachine {
    fn apply(&mut self, entries: &[(u64, Vec<u8>)]) -> Result<(Vec<Vec<u8>>, Batch), StoreError> {
        let folded = self.engine.snapshot().and_then(|view| {
            let folded = registry::apply(&*view, &self.context, entries)?;
            if self.ancestors.is_none() {
                let shards: Vec<(_, ShardState)> = registry::read_range(&*view, self.context.keys().shards())?;
                let ancestors = shards.into_iter().filter(|(_, shard)| shard.info.is_ancestor());
                self.ancestors = Some(ancestors.map(|(_, shard)| shard.info.shard).collect());
            }
            Ok(folded)
        });
        let (answers, batch) = folded.inspect_err(|error| self.metrics.store_error(error))?;
        let keys = self.context.keys();
        self.moved.extend(batch.writes.iter().filter_map(|(key, _)| keys.shard_that_moves(key)));
        let (from, to) = self.context.keys().places();
        for (key, _) in &batch.writes {
            if (&from..&to).contains(&key) {
                self.directory_moved = true;
                // Whatever is hosted from now on is entered there too.
                self.ancestors = None;
                break;
            }
            let is_of_directory = |shard| self.ancestors.as_ref().is_some_and(|ancestors| ancestors.contains(&shard));
            self.directory_moved |=
                keys.shard_of_record(key).is_some_and(is_of_directory) && !is_armed("directory-misses-records");
        }
        Ok((answers, batch))
    }

    fn applied(&mut self, index: u64) {
        let moved = Moved::Shards(std::mem::take(&mut self.moved));
        self.moves.note(if std::mem::take(&mut self.is_replaced) { Moved::Any } else { moved });
        // Nobody listens while the node starts or stops.
        let _ = WatchSender::send(&self.applied, index);
        if std::mem::take(&mut self.directory_moved) {
            self.directory.send_if_modified(|_| true);
        }
    }

    fn replaced(&mut self) {
        self.ancestors = None;
        self.is_replaced = true;
        self.applied.send_if_modified(|_| true);
        self.directory.send_if_modified(|_| true);
    }
}

/// Who waits for a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A reader, for an entry of the access log.
    Read,
    /// The caller of an edit, who asks again if the outcome is not known.
    Edit,
    /// A neighbour for its batch, or the site itself, as when it is founded.
    Other,
}

impl From<&Command> for Kind {
    fn from(command: &Command) -> Self {
        match command {
            Command::Access(_) => Kind::Read,
            Command::Edit(_) | Command::File(_) => Kind::Edit,
            _ => Kind::Other,
        }
    }
}

struct Waiting {
    /// The command, encoded.
    bytes: Vec<u8>,
    kind: Kind,
    since: runtime::Instant,
    answer: oneshot::Sender<Result<(Answer, u64), ProposalFailed>>,
}

/// Whether a deliberate fault leaves looks of this kind out of the access log.
fn is_left_out(looked: Looked) -> bool {
    match looked {
        Looked::Find => is_armed("find-unlogged"),
        Looked::Shown => is_armed("shown-unlogged"),
        Looked::History => is_armed("history-unlogged"),
        Looked::Conflicts => is_armed("conflicts-unlogged"),
        Looked::Members | Looked::Households => is_armed("members-unlogged"),
        Looked::Watch => is_armed("watch-unlogged"),
        Looked::Export => is_armed("export-unlogged"),
        _ => false,
    }
}

/// A hosted group; clones are the same.
#[derive(Clone)]
pub struct Hosted {
    /// Raft.
    pub group: Group,
    /// Keys and the group's id.
    pub context: Context,
    engine: Arc<dyn StateEngine>,
    applied: watch::Receiver<u64>,
    moves: Moves,
    directory: watch::Receiver<()>,
    reads: mpsc::Sender<Waiting>,
    others: mpsc::Sender<Waiting>,
    last_read: LastRead,
    metrics: Metrics,
    unreadable: Arc<OnceLock<String>>,
    homes: Arc<Mutex<Homes>>,
}

/// Where the shards of a group have their homes, kept in memory: what is hosted stays where it is.
#[derive(Default)]
struct Homes {
    /// How often the state had moved when it was looked at; none before the first time.
    seen: Option<u64>,
    all: Arc<BTreeMap<ShardId, ShardInfo>>,
}

/// When somebody read last.
#[derive(Clone, Default)]
struct LastRead(Arc<Mutex<Option<runtime::Instant>>>);

impl LastRead {
    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(runtime::now());
    }

    fn is_recent(&self) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|at| runtime::now() - at < READS_GO_ON)
    }
}

/// What becomes the machine before Raft starts, and follows it afterwards.
pub struct Parts {
    /// For [`crate::raft::group::Setup`].
    pub machine: RegistryMachine,
    applied: watch::Receiver<u64>,
    moves: Moves,
    directory: watch::Receiver<()>,
    engine: Arc<dyn StateEngine>,
    context: Context,
    metrics: Metrics,
}

impl Parts {
    /// The machine of a group over `engine`.
    #[must_use]
    pub fn new(engine: Arc<dyn StateEngine>, context: Context, metrics: Metrics) -> Self {
        let (applies, applied) = watch::channel(0);
        let (changes, directory) = watch::channel(());
        let moves = Moves::default();
        let machine = RegistryMachine {
            engine: Arc::clone(&engine),
            context: context.clone(),
            applied: applies,
            moves: moves.clone(),
            moved: BTreeSet::new(),
            is_replaced: false,
            directory: changes,
            directory_moved: false,
            ancestors: None,
            metrics: metrics.clone(),
        };
        Parts { machine, applied, moves, directory, engine, context, metrics }
    }

    /// What follows the running group; takes the machine out first.
    pub fn split(self) -> (RegistryMachine, impl FnOnce(Group) -> Hosted) {
        let Parts { machine, applied, moves, directory, engine, context, metrics } = self;
        let host = move |group: Group| {
            let (reads, waiting_reads) = mpsc::channel(QUEUE_MAX);
            let (others, waiting_others) = mpsc::channel(QUEUE_MAX);
            let last_read = LastRead::default();
            let beside_reads = {
                let last_read = last_read.clone();
                move || sometimes("a command is proposed beside reads", last_read.is_recent())
            };
            runtime::spawn("proposer", propose_all(group.clone(), waiting_reads, || false, metrics.clone()));
            runtime::spawn("proposer", propose_all(group.clone(), waiting_others, beside_reads, metrics.clone()));
            Hosted {
                group,
                context,
                engine,
                applied,
                moves,
                directory,
                reads,
                others,
                last_read,
                metrics,
                unreadable: Arc::default(),
                homes: Arc::default(),
            }
        };
        (machine, host)
    }
}

/// Gathers waiting commands into log entries and hands their answers out. Where they must keep themselves small, one entry
/// is under way at a time, of few bytes unless its first command alone has more.
async fn propose_all(
    group: Group,
    waiting: mpsc::Receiver<Waiting>,
    must_be_small: impl Fn() -> bool,
    metrics: Metrics,
) {
    let permits = Arc::new(Semaphore::new(ENTRIES_IN_FLIGHT_MAX));
    let mut waiting = ReceiverStream::new(waiting).peekable();
    while let Some(first) = waiting.next().await {
        let (share, bytes_max) =
            if must_be_small() { (ENTRIES_IN_FLIGHT_MAX, BYTES_BESIDE_READS) } else { (1, ENTRY_BYTES_MAX) };
        let permit = Arc::clone(&permits).acquire_many_owned(share as u32).await;
        if rarely("an entry waits for company") {
            runtime::sleep(COMPANY_WAIT).await;
        }
        let mut bytes = first.bytes.len();
        let mut entry = vec![first];
        while entry.len() < ENTRY_COMMANDS_MAX && !rarely("an entry of one command") {
            let fits = |next: &Waiting| bytes + next.bytes.len() <= bytes_max;
            let Some(next) = Pin::new(&mut waiting).next_if(fits).now_or_never().flatten() else { break };
            bytes += next.bytes.len();
            entry.push(next);
        }
        refuse_late(&mut entry);
        if entry.is_empty() {
            continue;
        }
        let (group, metrics) = (group.clone(), metrics.clone());
        runtime::spawn("proposal", async move {
            propose_entry(&group, entry, &metrics).await;
            drop(permit);
        });
    }
}

/// Refuses what waited for too long.
fn refuse_late(entry: &mut Vec<Waiting>) {
    let now = runtime::now();
    for late in entry.extract_if(.., |waiting| now - waiting.since > TURN_WAIT_MAX) {
        sometimes("a command waits too long for its turn", true);
        // A caller that has gone away need not be told.
        let _ = late.answer.send(Err(ProposalFailed::Overloaded));
    }
}

async fn propose_entry(group: &Group, entry: Vec<Waiting>, metrics: &Metrics) {
    // Founding a site and the like has nobody who asks again.
    let are_edits = entry.iter().all(|waiting| waiting.kind == Kind::Edit);
    let (commands, mut answers): (Vec<Vec<u8>>, Vec<_>) =
        entry.into_iter().map(|waiting| (waiting.bytes, waiting.answer)).unzip();
    sometimes("several commands share an entry", commands.len() > 1);
    let is_lost = are_edits && rarely("an answer is lost");
    if is_armed("swap-answers") && are_edits {
        answers.reverse();
    }
    let began = runtime::now();
    let outcome = group.propose(Proposal::of_encoded(runtime::utc_ms(), &commands), PROPOSE_WAIT).await;
    metrics.proposal(group.id(), runtime::now() - began);
    let outcome = match outcome {
        Ok(_) if is_lost => Err(ProposalFailed::Unknown("the answer was lost on its way".to_owned())),
        Ok(Accepted { index, answer }) => Vec::<Answer>::from_bytes(&answer)
            .ok()
            .filter(|list| list.len() == answers.len())
            .map(|list| (list, index))
            .ok_or_else(|| ProposalFailed::Unknown("the leader's answer cannot be read".to_owned())),
        Err(error) if sometimes("a command meets no leader", error.surely_not_accepted()) => {
            Err(ProposalFailed::NotAccepted(error.to_string()))
        }
        Err(error) => Err(ProposalFailed::Unknown(error.to_string())),
    };
    // A caller that has gone away asks again with the same request.
    match outcome {
        Ok((list, index)) => {
            answers.into_iter().zip(list).for_each(|(caller, answer)| _ = caller.send(Ok((answer, index))));
        }
        Err(error) => answers.into_iter().for_each(|caller| _ = caller.send(Err(error.clone()))),
    }
}

impl Hosted {
    /// The group's id.
    #[must_use]
    pub fn id(&self) -> GroupId {
        self.context.group
    }

    /// The keys of its state.
    #[must_use]
    pub fn keys(&self) -> Keys {
        self.context.keys()
    }

    /// Looks at a consistent view of the state, as this replica has it. Damage that is met has it made again.
    pub fn look<T>(&self, look: impl FnOnce(&dyn StateView) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let steady = self.group.condition().steady();
        let view = self.engine.snapshot()?;
        if steady.is_none() || steady != self.group.condition().steady() {
            return Err(StoreError::Replacing);
        }
        let looked = look(&*view);
        // Blocks that a disk cannot read do not come back by themselves, and nobody need ask for them again soon.
        if let Err(error @ (StoreError::Io(_) | StoreError::Poisoned(_))) = &looked
            && self.unreadable.set(error.to_string()).is_ok()
        {
            self.metrics.store_error(error);
            tracing::error!(group = %self.id(), %error, "the state cannot be read: look at the disk, then restart the node");
        }
        if let Err(damage @ StoreError::Corrupt { .. }) = &looked
            && sometimes("a reader meets damage", self.group.condition().suspect())
        {
            tracing::warn!(group = %self.id(), %damage, "the state is damaged");
            // The machine looks after it when it applies the next entry: let there be one.
            let hosted = self.clone();
            runtime::spawn("suspicion", async move { hosted.propose(Command::Access(Vec::new())).await.map(|_| ()) });
        }
        looked
    }

    /// An error if a reader has met something that the disk could not read, since the start.
    pub fn readable(&self) -> Result<(), String> {
        self.unreadable.get().map_or(Ok(()), |error| {
            Err(format!("the state could not be read ({error}): look at the disk, then restart the node"))
        })
    }

    /// The group's own state, once it is formed.
    pub fn state(&self) -> Result<Option<GroupState>, StoreError> {
        self.look(|view| registry::read(view, &self.keys().group()))
    }

    /// The feature level at which it works; the first, until it is formed.
    pub fn level(&self) -> Result<u16, StoreError> {
        Ok(self.state()?.map_or(LEVEL_FIRST, |state| state.level))
    }

    /// The shards that it hosts, in order.
    pub fn shards(&self) -> Result<Vec<ShardState>, StoreError> {
        let shards = self.look(|view| registry::read_range(view, self.keys().shards()))?;
        Ok(shards.into_iter().map(|(_, shard)| shard).collect())
    }

    /// Where the hosted shards have their homes: what is asked with every search, and read anew only where something moved.
    pub fn homes(&self) -> Result<Arc<BTreeMap<ShardId, ShardInfo>>, StoreError> {
        let mut kept = self.homes.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the state is read: what moves meanwhile is looked at the next time.
        let (moved, count) = self.moves.since(kept.seen.unwrap_or(0));
        match moved {
            Moved::Shards(moved) if kept.seen.is_some() => {
                for shard in moved {
                    if !kept.all.contains_key(&shard)
                        && let Some(state) = self.shard(shard)?
                    {
                        Arc::make_mut(&mut kept.all).insert(shard, state.info);
                    }
                }
            }
            _ => {
                let all = self.shards()?.into_iter().map(|state| (state.info.shard, state.info));
                kept.all = Arc::new(all.collect());
            }
        }
        kept.seen = Some(count);
        Ok(Arc::clone(&kept.all))
    }

    /// A hosted shard.
    pub fn shard(&self, shard: ShardId) -> Result<Option<ShardState>, StoreError> {
        self.look(|view| registry::read(view, &self.keys().shard(shard)))
    }

    /// Proposes one command and waits for its answer and its place in the log.
    pub async fn propose(&self, command: Command) -> Result<(Answer, u64), ProposalFailed> {
        self.propose_encoded(command.to_bytes(), Kind::from(&command)).await
    }

    /// Proposes a command by its bytes.
    pub(crate) async fn propose_encoded(&self, bytes: Vec<u8>, kind: Kind) -> Result<(Answer, u64), ProposalFailed> {
        if bytes.len() > ENTRY_BYTES_MAX {
            let text = format!("a command may have {ENTRY_BYTES_MAX} bytes, this one has {}: split it", bytes.len());
            return Err(ProposalFailed::NotAccepted(text));
        }
        let (answer, answered) = oneshot::channel();
        // A channel whose bound counts what waits: with the one of `futures`, each new sender may add one more.
        let queue = if kind == Kind::Read {
            self.last_read.note();
            &self.reads
        } else {
            &self.others
        };
        queue.try_send(Waiting { bytes, kind, since: runtime::now(), answer }).map_err(|error| match error {
            TrySendError::Full(_) => ProposalFailed::Overloaded,
            TrySendError::Closed(_) => ProposalFailed::NotAccepted("this node is stopping".to_owned()),
        })?;
        answered.await.unwrap_or_else(|_| Err(ProposalFailed::Unknown("this node is stopping".to_owned())))
    }

    /// Writes reads into the access log; returns which of them may go on. When it returns, this replica shows everything
    /// that was acknowledged before the call: the entries' place in the log is the read's point in time.
    pub async fn log_accesses(&self, entries: Vec<AccessEntry>) -> Result<Vec<bool>, ProposalFailed> {
        if is_armed("read-unlogged") && runtime::random_u64().is_multiple_of(3) {
            return Ok(vec![true; entries.len()]);
        }
        self.log_as(Kind::Read, entries).await
    }

    /// The same for readers whom nobody waits for: their entries take their turn among the edits, which so lose nothing of
    /// their pace.
    pub async fn log_accesses_in_turn(&self, entries: Vec<AccessEntry>) -> Result<Vec<bool>, ProposalFailed> {
        self.log_as(Kind::Other, entries).await
    }

    async fn log_as(&self, kind: Kind, entries: Vec<AccessEntry>) -> Result<Vec<bool>, ProposalFailed> {
        if !entries.is_empty() && entries.iter().all(|entry| is_left_out(entry.looked)) {
            return Ok(vec![true; entries.len()]);
        }
        let (answer, index) = self.propose_encoded(Command::Access(entries).to_bytes(), kind).await?;
        if !is_armed("read-local") {
            self.wait_applied(index).await?;
        }
        match answer {
            Answer::Access(allowed) => Ok(allowed),
            other => Err(ProposalFailed::NotAccepted(format!("the access log answered {other:?}"))),
        }
    }

    /// Waits until this replica has applied a place in the log.
    pub async fn wait_applied(&self, index: u64) -> Result<(), ProposalFailed> {
        let mut applied = self.applied.clone();
        let waited = runtime::timeout(PROPOSE_WAIT, WatchReceiver::wait_until_ge(&mut applied, &index)).await;
        match waited {
            Ok(Ok(_)) => Ok(()),
            _ => Err(ProposalFailed::NotAccepted(format!("this replica did not reach log entry {index} in time"))),
        }
    }

    /// Follows the state: `changed` returns after each move.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.applied.clone()
    }

    /// Which shards moved when.
    pub(crate) fn moves(&self) -> &Moves {
        &self.moves
    }

    /// Follows the directory of units and sites, where this group keeps one: `changed` returns after each change.
    #[must_use]
    pub fn follow_directory(&self) -> watch::Receiver<()> {
        self.directory.clone()
    }

    /// Makes everything applied durable.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.engine.sync()
    }
}
