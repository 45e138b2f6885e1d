//! What is asked of a group's leader, whether it is here or elsewhere: to write a command, and up to which index a state shows all
//! that was acknowledged.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use dinhba_core::ids::NodeId;
use dinhba_core::inject::sometimes;
use dinhba_proto::peer::v1 as wire;
use openraft::ReadPolicy;
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};
use tokio::sync::oneshot;

use super::{Accepted, Inner, ProposeError, ReadError, unknown_address};
use crate::raft::peer::{Body, CallError};
use crate::raft::types::Proposal;
use crate::runtime::watch::WatchReceiver;
use crate::runtime::{self, Instant};

/// Pause before an attempt is repeated when no leader is known.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// How long one round of a barrier is tried; callers have their own deadlines.
const BARRIER_WAIT: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Barriers {
    pub(super) running: bool,
    pub(super) waiting: Vec<oneshot::Sender<Result<u64, ReadError>>>,
}

/// How one attempt to propose ended.
pub(super) enum Attempt {
    Done(Accepted),
    /// Not accepted; another attempt may be.
    Again(String),
    Failed(ProposeError),
}

impl Inner {
    /// Waits a moment before another attempt; false if the deadline leaves no time for one.
    pub(super) async fn pause(&self, deadline: Instant) -> bool {
        let until = runtime::now() + runtime::jitter(RETRY_PAUSE);
        if until >= deadline {
            return false;
        }
        runtime::sleep_until(until).await;
        true
    }

    pub(super) async fn attempt(&self, command: Vec<u8>, deadline: Instant) -> Attempt {
        match self.leader() {
            None => Attempt::Again("no leader is known".into()),
            Some((leader, _)) if leader.0 == self.here => self.propose_here(command, deadline).await,
            Some((leader, address)) if address.is_empty() => Attempt::Again(unknown_address(leader)),
            Some((leader, address)) => self.forward(leader.0, &address, command, deadline).await,
        }
    }

    pub(super) async fn propose_here(&self, command: Vec<u8>, deadline: Instant) -> Attempt {
        let write = self.raft.client_write(Proposal(command));
        match runtime::timeout_at(deadline, write).await {
            Ok(Ok(response)) => Attempt::Done(Accepted { index: response.log_id.index, answer: response.data.0 }),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => {
                Attempt::Again("this node does not lead".into())
            }
            Ok(Err(RaftError::APIError(error))) => {
                // An entry that another leader's log replaced here: it may yet be accepted, from a third node's.
                sometimes("the lead is lost with a proposal on its way", true);
                Attempt::Failed(ProposeError::Unknown(error.to_string()))
            }
            Ok(Err(RaftError::Fatal(error))) => Attempt::Failed(ProposeError::Stopped(error.to_string())),
            Err(_) => Attempt::Failed(ProposeError::Unknown("the deadline passed".into())),
        }
    }

    async fn forward(&self, leader: u64, address: &str, command: Vec<u8>, deadline: Instant) -> Attempt {
        use wire::propose_answer::Result as Kind;
        let body = Body::Propose(wire::ProposeRequest {
            command,
            wait_ms: u64::try_from((deadline - runtime::now()).as_millis()).unwrap_or(u64::MAX),
        });
        match self.pool.call(leader, address, self.group, body, deadline - runtime::now()).await {
            Ok(Body::ProposeAnswer(wire::ProposeAnswer { result: Some(result) })) => match result {
                Kind::Done(done) => Attempt::Done(Accepted { index: done.index, answer: done.answer }),
                Kind::NotLeader(_) => Attempt::Again(format!("{} does not lead", NodeId(leader))),
                Kind::Unknown(_) => Attempt::Failed(ProposeError::Unknown("the leader lost its lead".into())),
            },
            Ok(Body::Failure(failure)) => match failure.kind() {
                // The only kinds that are said before the command reaches the group.
                wire::FailureKind::NoGroup | wire::FailureKind::Refused => Attempt::Again(failure.detail),
                _ => Attempt::Failed(ProposeError::Unknown(failure.detail)),
            },
            Ok(_) => Attempt::Failed(ProposeError::Unknown("an answer of another kind".into())),
            Err(CallError::NotSent(why)) => Attempt::Again(why),
            Err(CallError::Lost(why)) if sometimes("a forwarded proposal has no answer", true) => {
                Attempt::Failed(ProposeError::Unknown(why))
            }
            Err(CallError::Lost(why)) => Attempt::Failed(ProposeError::Unknown(why)),
        }
    }

    /// Rounds of barriers, as long as callers wait.
    pub(super) async fn run_barriers(self: Arc<Self>) {
        loop {
            // Who comes from now on waits for the next round: this one may have asked the leader too early for it.
            let waiting = {
                let mut barriers = self.barriers.lock().unwrap_or_else(PoisonError::into_inner);
                let waiting = std::mem::take(&mut barriers.waiting);
                if waiting.is_empty() {
                    barriers.running = false;
                    return;
                }
                waiting
            };
            let result = self.barrier_round(&waiting).await;
            for caller in waiting {
                let _ = caller.send(result.clone());
            }
        }
    }

    async fn barrier_round(&self, waiting: &[oneshot::Sender<Result<u64, ReadError>>]) -> Result<u64, ReadError> {
        let deadline = runtime::now() + BARRIER_WAIT;
        let index = loop {
            let why = match self.read_index(deadline).await {
                Ok(index) => break index,
                Err(ReadError::NoLeader(why)) => why,
                Err(error) => return Err(error),
            };
            if waiting.iter().all(oneshot::Sender::is_closed) || !self.pause(deadline).await {
                return Err(ReadError::NoLeader(why));
            }
        };
        let mut changes = self.raft.data_metrics();
        let reached = changes.wait_until(|data| data.last_applied.is_some_and(|applied| applied.index >= index));
        match runtime::timeout_at(deadline, reached).await {
            Ok(Ok(_)) => Ok(index),
            Ok(Err(_)) => Err(ReadError::Stopped("the replica shut down".into())),
            Err(_) => {
                let applied = self.raft.data_metrics().borrow_watched().last_applied.map(|id| id.index);
                Err(ReadError::Behind { applied, wanted: index })
            }
        }
    }

    /// An index up to which a state shows everything acknowledged before; from here if this node leads.
    async fn read_index(&self, deadline: Instant) -> Result<u64, ReadError> {
        use wire::read_index_answer::Result as Kind;
        match self.leader() {
            None => Err(ReadError::NoLeader("no leader is known".into())),
            Some((leader, _)) if leader.0 == self.here => self.read_index_here(deadline).await,
            Some((leader, address)) if address.is_empty() => Err(ReadError::NoLeader(unknown_address(leader))),
            Some((leader, address)) => {
                let body = Body::ReadIndex(wire::ReadIndexRequest {});
                let no_leader = |why: String| Err(ReadError::NoLeader(why));
                match self.pool.call(leader.0, &address, self.group, body, deadline - runtime::now()).await {
                    Ok(Body::ReadIndexAnswer(wire::ReadIndexAnswer { result: Some(result) })) => match result {
                        Kind::Index(index) => Ok(index),
                        Kind::NotLeader(_) => no_leader(format!("{leader} does not lead")),
                    },
                    Ok(Body::Failure(failure)) => no_leader(failure.detail),
                    Ok(_) => no_leader("an answer of another kind".into()),
                    Err(error) => no_leader(error.to_string()),
                }
            }
        }
    }

    pub(super) async fn read_index_here(&self, deadline: Instant) -> Result<u64, ReadError> {
        // Not the lease: it has no margin for clocks that drift.
        match runtime::timeout_at(deadline, self.raft.get_read_log_id(ReadPolicy::ReadIndex)).await {
            Ok(Ok((read, _))) => Ok(read.log_id().index),
            Ok(Err(RaftError::APIError(
                error @ (LinearizableReadError::ForwardToLeader(_) | LinearizableReadError::QuorumNotEnough(_)),
            ))) => Err(ReadError::NoLeader(error.to_string())),
            Ok(Err(RaftError::Fatal(error))) => Err(ReadError::Stopped(error.to_string())),
            Err(_) => Err(ReadError::NoLeader("the deadline passed".into())),
        }
    }
}
