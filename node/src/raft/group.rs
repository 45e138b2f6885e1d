//! One running group on this node: propose, read behind a barrier, change members.
//!
//! Promises: [`Group::propose`] answers only what a majority holds on disk and this site has applied; its errors tell
//! whether the command surely was not accepted. [`Group::barrier`] works at any member: what is read here after it
//! returned includes every proposal that was acknowledged before it was called. Barriers that wait at the same time
//! share one round.
//!
//! A replica whose state is damaged beyond what it has itself is stopped, and started again with another member's snapshot
//! (`keep`): meanwhile every call here is answered as by one that has stopped, and nothing is proposed.
//!
//! Leaves to others: what commands mean, and telling a repeated command from a new one: after an unknown outcome the
//! caller proposes the same command again, and the machine recognises its request id.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dinhba_core::ids::{GroupId, NodeId};
use dinhba_core::inject::is_armed;
use dinhba_core::store::{LogEngine, StateEngine, StoreError};
use dinhba_proto::peer::v1 as wire;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::raft::VoteRequest;
use openraft::{ChangeMembers, Config, Raft, ServerState, SnapshotPolicy};
use tokio::sync::oneshot;

use super::condition::Condition;
use super::machine::{Machine, StateMachine};
use super::peer::{Groups, PeerPool};
use super::types::{COMMAND_BYTES_MAX, LogId, Membership, Node, RaftVote, TypeConfig};
use crate::disk::Disk;
use crate::proof::Proof;
use crate::runtime::watch::{self, WatchReceiver, WatchSender};
use crate::runtime::{self, JoinHandle};

mod fetch;
mod leader;
mod pulse;
mod receive;
mod repair;
mod serve;
mod timers;

use leader::{Attempt, Barriers};

pub use pulse::disk_proof;

/// Entries in one message to a follower: with small entries, what keeps both sides busy for some milliseconds.
const MESSAGE_ENTRIES_MAX: u64 = 1024;

/// How far a follower may be behind before it is sent a snapshot, in snapshot intervals: more would replay longer than
/// a snapshot takes.
const LAG_SNAPSHOTS: u64 = 2;

/// Entries purged at a time: purging each on its own would flush for each.
const PURGE_ENTRIES: u64 = 256;

/// How a group keeps time and compacts its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Between two heartbeats of a leader.
    pub heartbeat_ms: u64,
    /// A follower that hears nothing for a random time from here...
    pub election_ms_min: u64,
    /// ...to here asks to be elected.
    pub election_ms_max: u64,
    /// Entries between two snapshots.
    pub snapshot_every: u64,
    /// Entries kept in the log below a snapshot, for followers that are a little behind.
    pub log_keep: u64,
}

impl Settings {
    /// How long it may be unproved that a proposal passes: two elections, since one of them may end without a leader.
    #[must_use]
    pub fn unproved_max(&self) -> Duration {
        2 * Duration::from_millis(self.election_ms_max)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            heartbeat_ms: 250,
            election_ms_min: 1000,
            election_ms_max: 2000,
            snapshot_every: 20_000,
            log_keep: 5_000,
        }
    }
}

/// What a group is started with.
pub struct Setup {
    /// The group.
    pub group: GroupId,
    /// This node.
    pub node: NodeId,
    /// Holds the group's log and vote.
    pub log: Arc<dyn LogEngine>,
    /// Holds the group's state.
    pub state: Arc<dyn StateEngine>,
    /// Holds the group's snapshots...
    pub disk: Arc<dyn Disk>,
    /// ...in this directory, where nothing else lies.
    pub snapshot_dir: PathBuf,
    /// What commands mean: a machine for each time that the replica is started.
    pub machine: Box<dyn Fn() -> Box<dyn Machine> + Send + Sync>,
    /// Who else is known to be a member, by node and address: asked for a snapshot if nothing here leads to the state.
    pub peers: Vec<(NodeId, String)>,
    /// Reaches the other members.
    pub pool: PeerPool,
    /// Where calls of the other members arrive.
    pub groups: Groups,
    /// Times and bounds.
    pub settings: Settings,
    /// Whether the node's disk answers: while it does not, this replica lets nobody count on it. From [`disk_proof`].
    pub disk_proof: Proof,
}

/// A group could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings contradict each other.
    #[error("settings: {0}")]
    Settings(String),
    /// What the disk holds of the group cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// openraft refused it.
    #[error("raft: {0}")]
    Raft(String),
}

/// A proposal has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// The command is longer than a group takes. Surely not accepted.
    #[error("a command of {0} bytes is too long, the most is {COMMAND_BYTES_MAX}")]
    TooLong(usize),
    /// No leader was known, or none could be reached, until the deadline. Surely not accepted.
    #[error("no leader took it in time: {0}")]
    NoLeader(String),
    /// It may have been accepted, or may yet be: propose the same command again to find out.
    #[error("the outcome is not known: {0}")]
    Unknown(String),
    /// This replica has stopped; the outcome is not known.
    #[error("the replica has stopped: {0}")]
    Stopped(String),
}

impl ProposeError {
    /// Whether the command certainly never took and never will take effect.
    #[must_use]
    pub fn surely_not_accepted(&self) -> bool {
        match self {
            ProposeError::TooLong(_) | ProposeError::NoLeader(_) => true,
            ProposeError::Unknown(_) | ProposeError::Stopped(_) => false,
        }
    }
}

/// A barrier did not come to pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader with a majority answered in time.
    #[error("no leader confirmed the read in time: {0}")]
    NoLeader(String),
    /// This replica did not catch up in time.
    #[error("this replica is at entry {applied:?} and did not reach {wanted} in time")]
    Behind {
        /// Up to where it has applied.
        applied: Option<u64>,
        /// Up to where it would have to.
        wanted: u64,
    },
    /// This replica has stopped.
    #[error("the replica has stopped: {0}")]
    Stopped(String),
}

/// A change of members did not come to pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Ask the leader, if one is known: its node and address. Nothing was changed.
    #[error("not the leader; the leader is {leader:?}")]
    NotLeader {
        /// Who leads, as far as known.
        leader: Option<(NodeId, String)>,
    },
    /// Refused; nothing was changed.
    #[error("refused: {0}")]
    Refused(String),
    /// It may have been carried out, or in part: look at the status.
    #[error("the outcome is not known: {0}")]
    Unknown(String),
    /// This replica has stopped.
    #[error("the replica has stopped: {0}")]
    Stopped(String),
}

/// An accepted proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The command's place in the log.
    pub index: u64,
    /// What the machine answered.
    pub answer: Vec<u8>,
}

/// What a replica is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Leads.
    Leader,
    /// Votes and follows.
    Follower,
    /// Asks to be elected.
    Candidate,
    /// Follows without a vote.
    Learner,
    /// Has stopped.
    Stopped,
}

/// A look at a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What this replica is.
    pub role: Role,
    /// Whom it believes to lead.
    pub leader: Option<NodeId>,
    /// The term it is in.
    pub term: u64,
    /// The last entry of its log.
    pub last: Option<u64>,
    /// The last entry that a majority holds, as far as it knows.
    pub committed: Option<u64>,
    /// The last entry that it applied.
    pub applied: Option<u64>,
    /// The last entry in its newest snapshot.
    pub snapshot: Option<u64>,
    /// The last entry that its log no longer holds.
    pub purged: Option<u64>,
    /// The members, each with its address and whether it votes.
    pub members: BTreeMap<NodeId, (String, bool)>,
    /// Up to where each member's log matches, if this replica leads.
    pub matched: BTreeMap<NodeId, Option<u64>>,
    /// Why it stopped, if it did.
    pub stopped: Option<String>,
    /// Whether it will run again by itself.
    pub heals: bool,
}

/// A group on this node; clones are the same.
#[derive(Clone)]
pub struct Group {
    handle: Arc<Handle>,
}

/// What of a group outlives its replica.
struct Handle {
    group: GroupId,
    condition: Arc<Condition>,
    pulse: Proof,
    groups: Groups,
    slot: watch::Sender<Slot>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

/// The replica, or how it was last seen.
#[derive(Clone)]
enum Slot {
    Here(Arc<Inner>),
    /// It does not run, and may come back.
    Away(Arc<Status>),
    /// It was shut down.
    Ended(Arc<Status>),
}

/// A running replica.
struct Inner {
    group: GroupId,
    here: u64,
    raft: Raft<TypeConfig, StateMachine>,
    heard: Arc<timers::Heard>,
    pool: PeerPool,
    barriers: Mutex<Barriers>,
    receiving: Arc<receive::Receiving>,
    lending: Arc<fetch::Lending>,
    condition: Arc<Condition>,
    pulse: Proof,
    disk: Proof,
    /// How long a hand-over may take: the longest silence that ends in an election.
    hand_over_wait: Duration,
}

fn config(setup: &Setup) -> Result<Config, StartError> {
    let settings = &setup.settings;
    Config {
        cluster_name: setup.group.to_string(),
        heartbeat_interval: settings.heartbeat_ms,
        election_timeout_min: settings.election_ms_min,
        election_timeout_max: settings.election_ms_max,
        // A leader that comes back must be elected anew: its state machine may be behind what it acknowledged.
        enable_leader_restore: Some(is_armed("leader-restore")),
        enable_pre_vote: Some(true),
        // A follower that lost the end of its log, or came back with an older one, is sent it again. Without this its leader
        // would go on from where it once was, in vain and in silence, for as long as it leads.
        allow_log_reversion: Some(true),
        max_payload_entries: MESSAGE_ENTRIES_MAX,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(settings.snapshot_every),
        max_in_snapshot_log_to_keep: settings.log_keep,
        purge_batch_size: PURGE_ENTRIES.min(settings.log_keep.max(1)),
        replication_lag_threshold: settings.snapshot_every.saturating_mul(LAG_SNAPSHOTS).max(settings.log_keep),
        snapshot_max_chunk_size: super::incoming::CHUNK_BYTES_MAX as u64,
        ..Config::default()
    }
    .validate()
    .map_err(|error| StartError::Settings(error.to_string()))
}

impl Group {
    /// Opens the group's log and state, and takes part.
    ///
    /// A node that is new to a group waits until the leader adds it; a new group begins with [`initialize`](Self::initialize).
    /// If the state is damaged, and only other members can have it, the group is there and does not run until one has given it:
    /// see its [`status`](Self::status).
    pub async fn start(setup: Setup) -> Result<Group, StartError> {
        repair::start(setup).await
    }

    fn inner(&self) -> Result<Arc<Inner>, String> {
        match &*self.handle.slot.borrow_watched() {
            Slot::Here(inner) => Ok(Arc::clone(inner)),
            Slot::Away(status) | Slot::Ended(status) => Err(status.stopped.clone().unwrap_or_default()),
        }
    }

    fn changeable(&self) -> Result<Arc<Inner>, ChangeError> {
        self.inner().map_err(ChangeError::Stopped)
    }

    /// The group's id.
    #[must_use]
    pub fn id(&self) -> GroupId {
        self.handle.group
    }

    /// For those who read the group's state past its machine.
    pub(crate) fn condition(&self) -> &Condition {
        &self.handle.condition
    }

    /// Begins a new group with these voters (node and address), on one of them and once. The others learn of it.
    pub async fn initialize(&self, voters: BTreeMap<NodeId, String>) -> Result<(), ChangeError> {
        let voters: BTreeMap<u64, Node> =
            voters.into_iter().map(|(node, address)| (node.0, Node { address })).collect();
        self.changeable()?.raft.initialize(voters).await.map_err(|error| match error {
            RaftError::APIError(error) => ChangeError::Refused(error.to_string()),
            RaftError::Fatal(error) => ChangeError::Stopped(error.to_string()),
        })
    }

    /// Whether a node is a voter or a learner, as far as this replica knows; false if it does not run.
    #[must_use]
    pub fn has_member(&self, node: NodeId) -> bool {
        let Ok(inner) = self.inner() else { return false };
        let metrics = inner.raft.metrics();
        let members = Arc::clone(&metrics.borrow_watched().membership_config);
        members.get_node(&node.0).is_some()
    }

    /// Proposes a command, here or at the leader, and waits at most `wait` for its answer.
    pub async fn propose(&self, command: Vec<u8>, wait: Duration) -> Result<Accepted, ProposeError> {
        if command.len() > COMMAND_BYTES_MAX {
            return Err(ProposeError::TooLong(command.len()));
        }
        let deadline = runtime::now() + wait;
        let inner = self.inner().map_err(ProposeError::NoLeader)?;
        loop {
            let why = match inner.attempt(command.clone(), deadline).await {
                Attempt::Done(accepted) => return Ok(accepted),
                Attempt::Failed(error) => return Err(error),
                Attempt::Again(why) => why,
            };
            if !inner.pause(deadline).await {
                return Err(ProposeError::NoLeader(why));
            }
        }
    }

    /// Waits until this replica shows everything that was acknowledged, anywhere in the site, before the call.
    ///
    /// Returns the log index up to which it does.
    pub async fn barrier(&self, wait: Duration) -> Result<u64, ReadError> {
        let inner = self.inner().map_err(ReadError::Stopped)?;
        let (sender, receiver) = oneshot::channel();
        let start = {
            let mut barriers = inner.barriers.lock().unwrap_or_else(PoisonError::into_inner);
            barriers.waiting.push(sender);
            !std::mem::replace(&mut barriers.running, true)
        };
        if start {
            runtime::spawn("barrier", Arc::clone(&inner).run_barriers());
        }
        match runtime::timeout(wait, receiver).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(ReadError::Stopped("the barrier's task ended".into())),
            Err(_) => Err(ReadError::NoLeader("the deadline passed".into())),
        }
    }

    /// Adds a member that follows without a vote, at the leader; with `wait_for_it`, returns once it has caught up.
    pub async fn add_learner(&self, node: NodeId, address: String, wait_for_it: bool) -> Result<(), ChangeError> {
        let inner = self.changeable()?;
        inner.changed(inner.raft.add_learner(node.0, Node { address }, wait_for_it)).await
    }

    /// Gives learners a vote, at the leader.
    pub async fn promote(&self, nodes: BTreeSet<NodeId>) -> Result<(), ChangeError> {
        let nodes = nodes.into_iter().map(|node| node.0).collect();
        let inner = self.changeable()?;
        inner.changed(inner.raft.change_membership(ChangeMembers::AddVoterIds(nodes), false)).await
    }

    /// Removes a member, voter or learner, at the leader. Its node id must never come back to the group.
    pub async fn remove(&self, node: NodeId) -> Result<(), ChangeError> {
        let inner = self.changeable()?;
        let is_voter = inner.raft.voter_ids().any(|voter| voter == node.0);
        let nodes = BTreeSet::from([node.0]);
        let change = if is_voter { ChangeMembers::RemoveVoters(nodes) } else { ChangeMembers::RemoveNodes(nodes) };
        inner.changed(inner.raft.change_membership(change, false)).await
    }

    /// Has the leader, which this must be, hand over to `node`, and waits for it. A hand-over has an end: if the other has not
    /// taken the lead in the time of an election, this replica stands for it again, and an error says so. Not to be dropped
    /// before it returns.
    pub async fn transfer_leader(&self, node: NodeId) -> Result<(), ChangeError> {
        let inner = self.changeable()?;
        if !inner.raft.is_leader() {
            return Err(ChangeError::NotLeader { leader: inner.leader() });
        }
        let members = self.members().await.map_err(|error| ChangeError::Stopped(error.to_string()))?;
        match members.get(&node) {
            Some((_, true)) => {}
            Some(_) => return Err(ChangeError::Refused(format!("{node} has no vote: promote it first"))),
            None => return Err(ChangeError::Refused(format!("{node} is no member: see the status for the voters"))),
        }
        if node.0 == inner.here {
            return Ok(());
        }
        let term = inner.status().term;
        inner.trigger(inner.raft.trigger().transfer_leader(node.0)).await?;
        let moved = |status: &Status| status.stopped.is_some() || (status.term > term && status.leader.is_some());
        self.wait_for(inner.hand_over_wait, moved).await;
        let status = self.status();
        match status.leader {
            Some(leader) if leader == node => return Ok(()),
            Some(leader) if status.term > term => {
                return Err(ChangeError::Refused(format!("{leader} was elected in its place")));
            }
            _ => {}
        }
        inner.take_back(term, node).await?;
        Err(ChangeError::Refused(format!("{node} did not take the lead in time: see that it runs and has caught up")))
    }

    /// Asks for an election now instead of after a silence; for tests and for operators who know.
    pub async fn elect(&self) -> Result<(), ChangeError> {
        let inner = self.changeable()?;
        inner.trigger(inner.raft.trigger().elect(true)).await
    }

    /// Begins to write a snapshot. Returns at once: watch the status.
    pub async fn snapshot(&self) -> Result<(), ChangeError> {
        let inner = self.changeable()?;
        inner.trigger(inner.raft.trigger().snapshot()).await
    }

    /// Removes log entries up to and including `index` that a snapshot covers.
    pub async fn purge(&self, index: u64) -> Result<(), ChangeError> {
        let inner = self.changeable()?;
        inner.trigger(inner.raft.trigger().purge_log(index)).await
    }

    /// Whether this replica believes that it leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.inner().is_ok_and(|inner| inner.raft.is_leader())
    }

    /// Who leads, as far as this replica knows: node and address.
    #[must_use]
    pub fn leader(&self) -> Option<(NodeId, String)> {
        self.inner().ok()?.leader()
    }

    /// A look at this replica; if it does not run, at what it was when it did.
    #[must_use]
    pub fn status(&self) -> Status {
        self.handle.status()
    }

    /// The members that this replica's log names, as in [`status`](Self::status), which may be a moment behind it; none if
    /// the group is not begun.
    pub async fn members(&self) -> Result<BTreeMap<NodeId, (String, bool)>, ReadError> {
        let inner = self.inner().map_err(ReadError::Stopped)?;
        let asked = inner.raft.with_raft_state(|state| members(state.membership_state.effective().membership()));
        asked.await.map_err(|error| ReadError::Stopped(error.to_string()))
    }

    /// Waits until [`status`](Self::status) satisfies `wanted`; whether it did so within `wait`.
    pub async fn wait_for(&self, wait: Duration, wanted: impl Fn(&Status) -> bool) -> bool {
        let waiting = async {
            let mut slots = self.handle.subscribe();
            loop {
                let slot = slots.borrow_and_update().clone();
                if wanted(&self.status()) {
                    return true;
                }
                let Slot::Here(inner) = slot else {
                    if matches!(slot, Slot::Ended(_)) || slots.changed().await.is_err() {
                        return wanted(&self.status());
                    }
                    continue;
                };
                let mut changes = inner.raft.metrics();
                drop(inner);
                loop {
                    let _ = changes.borrow_and_update();
                    if wanted(&self.status()) {
                        return true;
                    }
                    tokio::select! {
                        biased;
                        _ = slots.changed() => break,
                        changed = changes.changed() => if changed.is_err() {
                            // It has stopped. It may be started again.
                            if wanted(&self.status()) || slots.changed().await.is_err() {
                                return wanted(&self.status());
                            }
                            break;
                        }
                    }
                }
            }
        };
        runtime::timeout(wait, waiting).await.unwrap_or(false)
    }

    /// Stops taking part; the disk keeps everything. Returns when nothing of it runs any more.
    pub async fn shutdown(&self) {
        self.handle.groups.remove(self.handle.group);
        let last = self.status();
        let stopped = last.stopped.or_else(|| Some("it was shut down".to_owned()));
        let ended = Slot::Ended(Arc::new(Status { role: Role::Stopped, leader: None, stopped, heals: false, ..last }));
        if let Some(inner) = self.handle.replace(ended) {
            // It answers with an error only if its task is already gone.
            let _ = inner.raft.shutdown().await;
        }
        let keeper = self.handle.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(keeper) = keeper {
            let _ = keeper.await;
        }
    }
}

impl Status {
    /// Of a replica that has not run yet.
    fn unknown() -> Status {
        Status {
            role: Role::Stopped,
            leader: None,
            term: 0,
            last: None,
            committed: None,
            applied: None,
            snapshot: None,
            purged: None,
            members: BTreeMap::new(),
            matched: BTreeMap::new(),
            stopped: None,
            heals: false,
        }
    }
}

impl Slot {
    fn away(last: Status, why: &str, heals: bool) -> Slot {
        let stopped = Some(why.to_owned());
        let away = Status { role: Role::Stopped, leader: None, matched: BTreeMap::new(), stopped, heals, ..last };
        Slot::Away(Arc::new(away))
    }
}

impl Handle {
    fn new(setup: &Setup, condition: Arc<Condition>, pulse: Proof, slot: Slot) -> Handle {
        let (group, groups) = (setup.group, setup.groups.clone());
        Handle { group, condition, pulse, groups, slot: watch::channel(slot).0, keeper: Mutex::default() }
    }

    fn subscribe(&self) -> watch::Receiver<Slot> {
        self.slot.subscribe()
    }

    fn kept_by(&self, keeper: JoinHandle<()>) {
        *self.keeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(keeper);
    }

    /// From now on the other members reach this replica.
    fn serve(&self, inner: &Arc<Inner>) {
        self.groups.insert(self.group, Arc::new(serve::Served::new(inner)));
    }

    fn is_ended(&self) -> bool {
        matches!(*self.slot.borrow_watched(), Slot::Ended(_))
    }

    /// Puts something else in place of what is there, unless the group has ended; gives the replica that was there.
    fn replace(&self, slot: Slot) -> Option<Arc<Inner>> {
        let mut old = None;
        self.slot.send_if_modified(|current| {
            let is_open = !matches!(current, Slot::Ended(_));
            if is_open && let Slot::Here(inner) = std::mem::replace(current, slot) {
                old = Some(inner);
            }
            is_open
        });
        old
    }

    fn status(&self) -> Status {
        let slot = self.slot.borrow_watched().clone();
        match slot {
            Slot::Here(inner) => inner.status(),
            Slot::Away(status) | Slot::Ended(status) => (*status).clone(),
        }
    }
}

/// A vote was heard of before the entry that names the members.
fn unknown_address(leader: NodeId) -> String {
    format!("{leader} leads, and where it listens is not known yet")
}

fn members(membership: &Membership) -> BTreeMap<NodeId, (String, bool)> {
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let member = |(&node, data): (&u64, &Node)| (NodeId(node), (data.address.clone(), voters.contains(&node)));
    membership.nodes().map(member).collect()
}

impl Inner {
    fn status(&self) -> Status {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let index = |id: &Option<LogId>| id.map(|id| id.index);
        let stopped = match (&metrics.running_state, metrics.state) {
            (Err(why), _) => Some(why.to_string()),
            (_, ServerState::Shutdown) => Some("it was shut down".to_owned()),
            _ => None,
        };
        Status {
            role: match (&metrics.running_state, metrics.state) {
                (Err(_), _) | (_, ServerState::Shutdown) => Role::Stopped,
                (_, ServerState::Leader) => Role::Leader,
                (_, ServerState::Candidate) => Role::Candidate,
                (_, ServerState::Follower) => Role::Follower,
                (_, ServerState::Learner) => Role::Learner,
            },
            // What one that has stopped believed is no more than that.
            leader: metrics.current_leader.map(NodeId).filter(|_| stopped.is_none()),
            term: metrics.current_term,
            last: metrics.last_log_index,
            committed: index(&metrics.local_committed),
            applied: index(&metrics.last_applied),
            snapshot: index(&metrics.snapshot),
            purged: index(&metrics.purged),
            members: members(metrics.membership_config.membership()),
            matched: metrics
                .replication
                .iter()
                .flatten()
                .map(|(&node, matched)| (NodeId(node), index(matched)))
                .collect(),
            stopped,
            heals: false,
        }
    }

    fn leader(&self) -> Option<(NodeId, String)> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let leader = metrics.current_leader?;
        let address = metrics.membership_config.get_node(&leader).map(|node| node.address.clone());
        Some((NodeId(leader), address.unwrap_or_default()))
    }

    fn leader_to_wire(&self) -> wire::Leader {
        wire::Leader { member: self.leader().map(|(node, address)| wire::Member { node: node.0, address }) }
    }

    async fn changed<T>(
        &self,
        change: impl Future<Output = Result<T, RaftError<TypeConfig, ClientWriteError<TypeConfig>>>>,
    ) -> Result<(), ChangeError> {
        match change.await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(error)) => Err(match error {
                ClientWriteError::ForwardToLeader(leader) => ChangeError::NotLeader {
                    leader: leader
                        .leader_id
                        .map(|id| (NodeId(id), leader.leader_node.map(|node| node.address).unwrap_or_default())),
                },
                ClientWriteError::LogEntryDiscarded(_) => ChangeError::Unknown(error.to_string()),
                ClientWriteError::ChangeMembershipError(error) => ChangeError::Refused(error.to_string()),
                // Also said when the second of the two steps fails.
                ClientWriteError::PreconditionFailed(error) => ChangeError::Unknown(error.to_string()),
            }),
            Err(RaftError::Fatal(error)) => Err(ChangeError::Stopped(error.to_string())),
        }
    }

    /// Ends a hand-over that came to nothing: openraft would take no proposal until somebody else leads. The lead of this term
    /// ends as if `node` had asked for votes, by this replica's vote for it in the next term; then it stands itself in a later one.
    async fn take_back(&self, term: u64, node: NodeId) -> Result<(), ChangeError> {
        let stopped = |error: &dyn std::fmt::Display| ChangeError::Stopped(error.to_string());
        let request = VoteRequest {
            vote: RaftVote::new(term + 1, node.0),
            // It takes no entries meanwhile.
            last_log_id: self.raft.data_metrics().borrow_watched().last_log,
            leadership_transfer: true,
        };
        self.raft.vote(request).await.map_err(|error| stopped(&error))?;
        tracing::warn!(group = %self.group, "a hand-over of the lead came to nothing: this node stands for it again");
        self.trigger(self.raft.trigger().elect(true)).await
    }

    async fn trigger<E: ToString>(&self, trigger: impl Future<Output = Result<(), E>>) -> Result<(), ChangeError> {
        trigger.await.map_err(|error| ChangeError::Stopped(error.to_string()))
    }
}
