//! The pulse of a replica: the proof, taken again and again, that a proposal which came in here would pass.
//!
//! Nothing is written for it: an idle commune's log does not grow, and no snapshot comes of it. What stands for the proposal:
//!
//! - At the leader: its core answers and is not handing the lead over; a majority has answered it within its lease; all that was
//!   in its log when it was asked is accepted and applied; its own disk answers flushes.
//! - At the others: the leader says when it last saw so, and what it had applied then is applied here too.
//!
//! A majority of disks that hang would not show so at an idle leader. It does all the same, since a node whose own disk does not
//! answer lets no message of a leader count (`serve`).
//!
//! Leaves to others: to call it in time ([`Group::prove`]), and to look at the disk.

use std::time::Duration;

use dinhba_proto::peer::v1 as wire;
use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};

use super::{Group, Inner, unknown_address};
use crate::proof::Proof;
use crate::raft::peer::Body;
use crate::runtime::watch::WatchReceiver;
use crate::runtime::{self, Instant};

impl Group {
    /// Proves, if it can within `wait`, that a proposal passes; see [`health`](Self::health).
    pub async fn prove(&self, wait: Duration) {
        self.handle.pulse.begin();
        let outcome = match self.inner() {
            Ok(inner) => {
                // A silence may be as long as the evidence counts: it is told before it ends.
                match inner.leader() {
                    Some((leader, _)) if leader.0 == inner.here => self.handle.pulse.tried("no majority has answered"),
                    Some((leader, _)) => self.handle.pulse.tried(format!("the leader {leader} has not answered")),
                    None => {}
                }
                inner.prove(runtime::now() + wait).await
            }
            Err(stopped) => Err(stopped),
        };
        match outcome {
            Ok(then) => self.handle.pulse.worked(then),
            Err(why) => self.handle.pulse.failed(why),
        }
    }

    /// Why a proposal would not pass here, or how long ago it is proved that one would. A replica that has stopped is not well
    /// whatever was proved before.
    pub fn health(&self) -> Result<Duration, String> {
        match self.status().stopped {
            Some(why) => Err(format!("this replica has stopped: {why}")),
            None => self.handle.pulse.verdict(),
        }
    }

    /// How old the last proof is; none if there was never one.
    #[must_use]
    pub fn proved(&self) -> Option<Duration> {
        self.handle.pulse.age()
    }
}

/// What a node keeps of its own disk while nobody looks at it.
#[must_use]
pub fn disk_proof(limit: Duration) -> Proof {
    Proof::new("the disk has answered no flush", limit)
}

impl Inner {
    /// When it was so that a proposal which came in here would pass, or why it is not so.
    async fn prove(&self, deadline: Instant) -> Result<Instant, String> {
        let (then, index) = match self.leader() {
            None => return Err("no leader is known".to_owned()),
            Some((leader, _)) if leader.0 == self.here => self.passes_here(deadline).await?,
            Some((leader, address)) if address.is_empty() => return Err(unknown_address(leader)),
            Some((leader, address)) => {
                let passing = self.ask_leader(leader.0, &address, deadline).await;
                passing.map_err(|why| format!("the leader {leader}: {why}"))?
            }
        };
        self.reaches(index, deadline).await?;
        Ok(then)
    }

    /// Asks the leader; gives when it saw that proposals pass, and what it had applied.
    async fn ask_leader(&self, leader: u64, address: &str, deadline: Instant) -> Result<(Instant, u64), String> {
        use wire::pulse_answer::Result as Kind;
        let (asked, body) = (runtime::now(), Body::Pulse(wire::PulseRequest {}));
        match self.pool.call(leader, address, self.group, body, deadline - asked).await {
            Ok(Body::PulseAnswer(wire::PulseAnswer { result: Some(Kind::Passing(passing)) })) => {
                Ok((asked - Duration::from_millis(passing.age_ms), passing.applied))
            }
            Ok(Body::PulseAnswer(wire::PulseAnswer { result: Some(Kind::Sick(why)) })) => Err(why),
            Ok(Body::Failure(failure)) => Err(failure.detail),
            Ok(_) => Err("an answer of another kind".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// At the leader: when a majority last answered, if that was within the lease, and the last entry of the log.
    async fn passes_here(&self, deadline: Instant) -> Result<(Instant, u64), String> {
        self.disk.overdue()?;
        let asked = runtime::now();
        // The lease has no margin for clocks that drift, which a read needs and this does not.
        match runtime::timeout_at(deadline, self.raft.get_read_log_id(ReadPolicy::LeaseRead)).await {
            Ok(Ok((read, _))) => {
                let metrics = self.raft.metrics();
                let metrics = metrics.borrow_watched();
                // One who is a majority alone is asked by nobody else.
                let is_alone = metrics.membership_config.membership().voter_ids().count() == 1;
                let acked = metrics.last_quorum_acked.map_or(asked, |acked| acked.into_inner());
                let then = if is_alone { asked } else { acked.min(asked) };
                Ok((then, metrics.last_log_index.unwrap_or_default().max(read.log_id().index)))
            }
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_)))) => {
                Err("this node leads no more, or is handing the lead over".to_owned())
            }
            Ok(Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)))) => {
                Err("no majority of the members answers".to_owned())
            }
            Ok(Err(RaftError::Fatal(error))) => Err(error.to_string()),
            Err(_) => Err("the replica itself does not answer".to_owned()),
        }
    }

    /// Waits until the state here shows `index`.
    async fn reaches(&self, index: u64, deadline: Instant) -> Result<(), String> {
        let mut changes = self.raft.data_metrics();
        let reached = changes.wait_until(|data| data.last_applied.is_some_and(|applied| applied.index >= index));
        match runtime::timeout_at(deadline, reached).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return Err("the replica has stopped".to_owned()),
            Err(_) => {
                let data = self.raft.data_metrics();
                let data = data.borrow_watched();
                let [applied, accepted] =
                    [&data.last_applied, &data.local_committed].map(|id| id.as_ref().map_or(0, |id| id.index));
                return Err(if accepted < index && self.raft.is_leader() {
                    format!("entry {index} is accepted by no majority, the last that is is {accepted}")
                } else {
                    format!("this replica has not caught up: it shows entry {applied}, and entry {index} is wanted")
                });
            }
        }
        match self.condition.steady() {
            Some(_) => Ok(()),
            None => Err("the state of this replica is being replaced".to_owned()),
        }
    }

    /// The answer to a member that follows this one.
    pub(super) fn tell_pulse(&self) -> Body {
        use wire::pulse_answer::Result as Kind;
        let applied = self.raft.data_metrics().borrow_watched().last_applied.map_or(0, |applied| applied.index);
        let result = match self.pulse.verdict() {
            _ if !self.raft.is_leader() => Kind::Sick("it does not lead".to_owned()),
            Ok(age) => {
                let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
                Kind::Passing(wire::Passing { age_ms, applied })
            }
            Err(why) => Kind::Sick(why),
        };
        Body::PulseAnswer(wire::PulseAnswer { result: Some(result) })
    }
}
