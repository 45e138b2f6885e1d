//! The answering side of a group: what other members ask of this replica.

use std::sync::{Arc, Weak};
use std::time::Duration;

use dinhba_core::ids::NodeId;
use dinhba_proto::peer::v1 as wire;
use futures::future::BoxFuture;
use openraft::raft::AppendEntriesResponse;

use super::{Attempt, Inner, ProposeError, ReadError};
use crate::raft::network::{
    append_answer_to_wire, append_from_wire, transfer_answer_to_wire, transfer_from_wire, vote_answer_to_wire,
    vote_request_from_wire,
};
use crate::raft::peer::{Body, Serve, failure};
use crate::raft::types::{COMMAND_BYTES_MAX, Malformed};
use crate::runtime;
use crate::runtime::watch::WatchReceiver;

/// The longest that a forwarded proposal or read waits here: its caller has given up by then.
const FORWARDED_WAIT_MAX: Duration = Duration::from_secs(60);

/// A group as its peers see it; it does not keep the group alive.
pub(super) struct Served(Weak<Inner>);

impl Served {
    pub(super) fn new(inner: &Arc<Inner>) -> Self {
        Served(Arc::downgrade(inner))
    }
}

impl Serve for Served {
    fn serve(&self, caller: Option<NodeId>, body: Body) -> BoxFuture<'static, Body> {
        let inner = self.0.upgrade();
        Box::pin(async move {
            match inner {
                Some(inner) => inner.answer(caller, body).await,
                None => failure(wire::FailureKind::NoGroup, "the group has stopped here"),
            }
        })
    }
}

fn malformed(error: &Malformed) -> Body {
    failure(wire::FailureKind::Malformed, error.to_string())
}

pub(super) fn stopped(error: &impl ToString) -> Body {
    failure(wire::FailureKind::Stopped, error.to_string())
}

impl Inner {
    async fn answer(&self, caller: Option<NodeId>, body: Body) -> Body {
        match body {
            Body::Append(request) => match append_from_wire(request) {
                Ok(request) => {
                    // Not when it is answered, which is after a flush: openraft counts its silence from here on.
                    let came = runtime::now();
                    match self.raft.append_entries(request).await {
                        Ok(answer) => {
                            if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
                                self.heard.at(came);
                            }
                            // Without entries it says nothing of the disk, and a leader must not count on one that hangs.
                            match self.disk.overdue() {
                                Ok(()) => append_answer_to_wire(&answer),
                                Err(why) => stopped(&why),
                            }
                        }
                        Err(error) => stopped(&error),
                    }
                }
                Err(error) => malformed(&error),
            },
            Body::Vote(request) => match vote_request_from_wire(request) {
                Ok(request) => match self.raft.vote(request).await {
                    Ok(answer) => vote_answer_to_wire(&answer),
                    Err(error) => stopped(&error),
                },
                Err(error) => malformed(&error),
            },
            Body::PreVote(request) => match vote_request_from_wire(request) {
                Ok(request) => match self.raft.pre_vote(request).await {
                    Ok(answer) => vote_answer_to_wire(&answer),
                    Err(error) => stopped(&error),
                },
                Err(error) => malformed(&error),
            },
            Body::Transfer(request) => match transfer_from_wire(request) {
                Ok(request) => match self.raft.handle_transfer_leader(request).await {
                    Ok(answer) => transfer_answer_to_wire(&answer),
                    Err(error) => stopped(&error),
                },
                Err(error) => malformed(&error),
            },
            Body::Snapshot(chunk) => self.receiving.chunk(&self.raft, chunk).await,
            Body::Fetch(request) => self.lend(caller, &request),
            Body::Propose(request) => self.propose_for_peer(request).await,
            Body::ReadIndex(_) => self.read_index_for_peer().await,
            Body::Pulse(_) => self.tell_pulse(),
            _ => failure(wire::FailureKind::Malformed, "not a call to a group"),
        }
    }

    /// A snapshot is all that the group knows: it is given to members only, not to every node of the site.
    fn lend(&self, caller: Option<NodeId>, request: &wire::FetchRequest) -> Body {
        let metrics = self.raft.metrics();
        let members = Arc::clone(&metrics.borrow_watched().membership_config);
        match caller.filter(|caller| members.get_node(&caller.0).is_none()) {
            Some(stranger) => failure(
                wire::FailureKind::Refused,
                format!("{stranger} is no member of {}, as far as is known here", self.group),
            ),
            None => self.lending.answer(request),
        }
    }

    /// Only here, never passed on: two nodes that believe each other to lead must not send a command in circles.
    async fn propose_for_peer(&self, request: wire::ProposeRequest) -> Body {
        use wire::propose_answer::Result as Kind;
        if request.command.len() > COMMAND_BYTES_MAX {
            return failure(wire::FailureKind::Refused, "the command is too long");
        }
        let wait = Duration::from_millis(request.wait_ms).min(FORWARDED_WAIT_MAX);
        let result = match self.propose_here(request.command, runtime::now() + wait).await {
            Attempt::Done(done) => Kind::Done(wire::Proposed { index: done.index, answer: done.answer }),
            Attempt::Again(_) => Kind::NotLeader(self.leader_to_wire()),
            Attempt::Failed(ProposeError::Stopped(why)) => return stopped(&why),
            Attempt::Failed(_) => Kind::Unknown(wire::Blank {}),
        };
        Body::ProposeAnswer(wire::ProposeAnswer { result: Some(result) })
    }

    async fn read_index_for_peer(&self) -> Body {
        use wire::read_index_answer::Result as Kind;
        let result = match self.read_index_here(runtime::now() + FORWARDED_WAIT_MAX).await {
            Ok(index) => Kind::Index(index),
            Err(ReadError::Stopped(why)) => return stopped(&why),
            Err(_) => Kind::NotLeader(self.leader_to_wire()),
        };
        Body::ReadIndexAnswer(wire::ReadIndexAnswer { result: Some(result) })
    }
}
