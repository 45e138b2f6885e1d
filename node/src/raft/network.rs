//! openraft's calls to other members, over the pool's shared streams, and their conversion to and from frames.
//!
//! Every answer is checked; one that does not fit its call counts as a network error. A snapshot travels in chunks, each
//! answered before the next is sent, with its offset, a check, and the file's hash with all of them. The first is small: whoever
//! has the beginning of this file from a transfer that was broken off says where to go on.

use std::future::Future;
use std::time::Duration;

use dinhba_core::ids::GroupId;
use dinhba_core::inject::rarely;
use dinhba_core::store::StoreError;
use dinhba_proto::peer::v1 as wire;
use futures::{Stream, StreamExt};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::storage::Snapshot;
use openraft::{OptionalSend, StorageError};

use super::incoming::{CHUNK_BYTES_MAX, check_of};
use super::peer::{Body, CallError, PeerPool};
use super::snapshot::SnapshotFile;
use super::types::{
    CommittedLeaderId, Malformed, Node, RaftVote, SnapshotMeta, TypeConfig, decode_entry, encode_entry,
    log_id_from_wire, log_id_optional, log_id_to_wire, meta_to_wire, vote_from_wire, vote_required, vote_to_wire,
};
use crate::runtime;

/// The data of the first chunk: what is sent again for nothing when a transfer goes on that was broken off.
const OFFER_BYTES: usize = 4 << 10;

/// How long one chunk may take: a bad link carries 256 kB in this time.
pub(super) const CHUNK_WAIT: Duration = Duration::from_secs(60);

/// How long the last one may take, which the receiver answers after installing: hours of writing are a fault, minutes not.
const INSTALL_WAIT: Duration = Duration::from_secs(30 * 60);

/// How long the news that entries are committed waits for further entries to go with. A caller who makes one edit after the
/// other sends the next within a millisecond of the last answer.
const COMMITTED_WAIT: Duration = Duration::from_millis(2);

/// Makes openraft's connections for one group.
pub struct Network {
    pool: PeerPool,
    group: GroupId,
    here: u64,
}

impl Network {
    /// For the replica of `group` on node `here`.
    #[must_use]
    pub fn new(pool: PeerPool, group: GroupId, here: u64) -> Self {
        Network { pool, group, here }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Member;

    async fn new_client(&mut self, target: u64, node: &Node) -> Member {
        Member { pool: self.pool.clone(), group: self.group, here: self.here, target, address: node.address.clone() }
    }
}

/// One other member of the group.
pub struct Member {
    pool: PeerPool,
    group: GroupId,
    here: u64,
    target: u64,
    address: String,
}

/// Turns an answer of the wrong kind into an error.
fn unexpected(what: &'static str, body: Body) -> Malformed {
    let why = match body {
        Body::Failure(failure) => format!("refused: {}", failure.detail),
        _ => "an answer of another kind".into(),
    };
    Malformed { what, why }
}

fn network_error(error: &Malformed) -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::from_string(error))
}

impl Member {
    async fn call(&self, action: RPCTypes, body: Body, wait: Duration) -> Result<Body, RPCError<TypeConfig>> {
        use wire::FailureKind::{NoGroup, Stopped};
        let started = runtime::now();
        let answer = self.pool.call(self.target, &self.address, self.group, body, wait).await;
        // openraft waits a while before it tries again, which it does not after other errors.
        if let Ok(Body::Failure(failure)) = &answer
            && matches!(failure.kind(), NoGroup | Stopped)
        {
            return Err(RPCError::Unreachable(Unreachable::from_string(&failure.detail)));
        }
        answer.map_err(|error| match error {
            CallError::NotSent(why) => RPCError::Unreachable(Unreachable::from_string(why)),
            CallError::Lost(_) if runtime::now() - started >= wait => {
                RPCError::Timeout(Timeout { action, id: self.here, target: self.target, timeout: wait })
            }
            CallError::Lost(why) => RPCError::Network(NetworkError::from_string(why)),
        })
    }

    async fn ask_vote(&self, body: Body, option: &RPCOption) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let answer = self.call(RPCTypes::Vote, body, option.soft_ttl()).await?;
        vote_answer_from_wire(answer).map_err(|error| network_error(&error))
    }

    async fn send_chunks(
        &self,
        vote: RaftVote,
        snapshot: Snapshot<CommittedLeaderId, u64, Node, SnapshotFile>,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let file = snapshot.snapshot;
        let transfer = runtime::random_u64();
        let chunk_bytes = if rarely("a snapshot in small pieces") { 1 << 10 } else { CHUNK_BYTES_MAX };
        let mut offset = 0;
        loop {
            let count_max = if offset == 0 { chunk_bytes.min(OFFER_BYTES) } else { chunk_bytes };
            let chunk = chunk_of(&snapshot.meta, &file, offset, count_max).map_err(|error| {
                StreamingError::StorageError(StorageError::read_snapshot(None, error_source(&error)))
            })?;
            let chunk = wire::SnapshotChunk { transfer, vote: Some(vote_to_wire(&vote)), resumable: true, ..chunk };
            let count = chunk.data.len() as u64;
            let is_last = offset + count == file.bytes;
            let wait = if is_last { INSTALL_WAIT } else { CHUNK_WAIT };
            let answer = self.call(RPCTypes::InstallSnapshot, Body::Snapshot(chunk), wait).await?;
            let answer = match answer {
                Body::SnapshotAnswer(answer) => answer,
                other => return Err(network_error(&unexpected("snapshot answer", other)).into()),
            };
            if let Some(vote) = answer.vote {
                return Ok(SnapshotResponse::new(vote_from_wire(vote)));
            }
            // Only the first may be answered with a place further on.
            let is_resumed = offset == 0 && answer.next < file.bytes && answer.next > 0;
            if is_last || (answer.next != offset + count && !is_resumed) {
                let why = format!("expects offset {} after {offset} and {count} bytes", answer.next);
                return Err(network_error(&Malformed { what: "snapshot answer", why }).into());
            }
            offset = answer.next;
        }
    }
}

/// The part of a snapshot file from `offset` on, at most `count_max` bytes of it.
pub(super) fn chunk_of(
    meta: &SnapshotMeta,
    file: &SnapshotFile,
    offset: u64,
    count_max: usize,
) -> Result<wire::SnapshotChunk, StoreError> {
    let left = file.bytes.saturating_sub(offset);
    let mut data = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(count_max)];
    if file.file.read_at(offset, &mut data)? != data.len() {
        let place = file.path.display().to_string();
        return Err(StoreError::Corrupt { place, detail: "it ends before its length".to_owned() });
    }
    let check = check_of(&file.hash.0, offset, &data);
    let (position, hash) = (Some(meta_to_wire(meta)), file.hash.0.to_vec());
    Ok(wire::SnapshotChunk { position, bytes: file.bytes, hash, offset, data, check, ..Default::default() })
}

fn error_source(error: &impl ToString) -> <TypeConfig as openraft::RaftTypeConfig>::ErrorSource {
    openraft::errors::ErrorSource::from_string(error.to_string())
}

/// The same requests but for those that only tell what is committed and that the next one tells too: of a lone caller, half of
/// all messages. What is dropped is answered with the next, since an answer stands for all before it.
fn with_entries(
    requests: impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
) -> BoxStream<'static, AppendEntriesRequest<TypeConfig>> {
    // The first asks how far the other is: nothing follows before its answer.
    let all = futures::stream::unfold((requests, true), |(mut requests, is_first)| async move {
        let mut request = requests.next().await?;
        let until = runtime::now() + COMMITTED_WAIT;
        while request.entries.is_empty() && !is_first {
            match runtime::timeout_at(until, requests.next()).await {
                Ok(Some(next)) => request = next,
                Ok(None) | Err(_) => break,
            }
        }
        Some((request, (requests, false)))
    });
    Box::pin(all)
}

/// What openraft gives and takes for a stream of requests to append.
type Appended<'s> = BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>;

impl RaftNetworkV2<TypeConfig> for Member {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let body = Body::Append(append_to_wire(&request));
        let answer = self.call(RPCTypes::AppendEntries, body, option.soft_ttl()).await?;
        append_answer_from_wire(answer).map_err(|error| network_error(&error))
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<Appended<'s>, RPCError<TypeConfig>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        stream_append_sequential(self, with_entries(input), option)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_vote(Body::Vote(vote_request_to_wire(&request)), &option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_vote(Body::PreVote(vote_request_to_wire(&request)), &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: RaftVote,
        snapshot: Snapshot<CommittedLeaderId, u64, Node, SnapshotFile>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            result = self.send_chunks(vote, snapshot) => result,
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let body = Body::Transfer(wire::TransferRequest {
            from: Some(vote_to_wire(request.from_leader())),
            to: *request.to_node_id(),
            last: request.last_log_id().map(log_id_to_wire),
        });
        let answer = self.call(RPCTypes::TransferLeader, body, option.soft_ttl()).await?;
        transfer_answer_from_wire(answer).map_err(|error| network_error(&error))
    }
}

fn append_to_wire(request: &AppendEntriesRequest<TypeConfig>) -> wire::AppendRequest {
    wire::AppendRequest {
        vote: Some(vote_to_wire(&request.vote)),
        previous: request.prev_log_id.as_ref().map(log_id_to_wire),
        committed: request.leader_commit.as_ref().map(log_id_to_wire),
        entries: request.entries.iter().map(encode_entry).collect(),
    }
}

/// Parses a request to append; the entries follow each other and the one before them.
pub(crate) fn append_from_wire(request: wire::AppendRequest) -> Result<AppendEntriesRequest<TypeConfig>, Malformed> {
    const WHAT: &str = "append request";
    let previous = log_id_optional(request.previous)?;
    let entries: Vec<_> = request.entries.iter().map(|bytes| decode_entry(bytes)).collect::<Result<_, _>>()?;
    let mut before = previous.map(|id| id.index);
    for entry in &entries {
        let index = entry.log_id.index;
        if before.map_or(0, |before| before + 1) != index {
            return Err(Malformed { what: WHAT, why: format!("entry {index} after {before:?}") });
        }
        before = Some(index);
    }
    Ok(AppendEntriesRequest {
        vote: vote_required(request.vote, WHAT)?,
        prev_log_id: previous,
        entries,
        leader_commit: log_id_optional(request.committed)?,
    })
}

pub(crate) fn append_answer_to_wire(answer: &AppendEntriesResponse<TypeConfig>) -> Body {
    use wire::append_answer::Result as Kind;
    let result = match answer {
        AppendEntriesResponse::Success => Kind::Success(wire::Blank {}),
        AppendEntriesResponse::Conflict => Kind::Conflict(wire::Blank {}),
        AppendEntriesResponse::HigherVote(vote) => Kind::HigherVote(vote_to_wire(vote)),
        AppendEntriesResponse::PartialSuccess(Some(upto)) => Kind::Partial(log_id_to_wire(upto)),
        // Nothing was appended, which for the leader is the same as a mismatch at the start.
        AppendEntriesResponse::PartialSuccess(None) => Kind::Conflict(wire::Blank {}),
    };
    Body::AppendAnswer(wire::AppendAnswer { result: Some(result) })
}

fn append_answer_from_wire(body: Body) -> Result<AppendEntriesResponse<TypeConfig>, Malformed> {
    use wire::append_answer::Result as Kind;
    match body {
        Body::AppendAnswer(wire::AppendAnswer { result: Some(result) }) => Ok(match result {
            Kind::Success(_) => AppendEntriesResponse::Success,
            Kind::Conflict(_) => AppendEntriesResponse::Conflict,
            Kind::HigherVote(vote) => AppendEntriesResponse::HigherVote(vote_from_wire(vote)),
            Kind::Partial(upto) => AppendEntriesResponse::PartialSuccess(Some(log_id_from_wire(upto)?)),
        }),
        other => Err(unexpected("append answer", other)),
    }
}

fn vote_request_to_wire(request: &VoteRequest<TypeConfig>) -> wire::VoteRequest {
    wire::VoteRequest {
        vote: Some(vote_to_wire(&request.vote)),
        last: request.last_log_id.as_ref().map(log_id_to_wire),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(crate) fn vote_request_from_wire(request: wire::VoteRequest) -> Result<VoteRequest<TypeConfig>, Malformed> {
    Ok(VoteRequest {
        vote: vote_required(request.vote, "vote request")?,
        last_log_id: log_id_optional(request.last)?,
        leadership_transfer: request.leadership_transfer,
    })
}

pub(crate) fn vote_answer_to_wire(answer: &VoteResponse<TypeConfig>) -> Body {
    Body::VoteAnswer(wire::VoteAnswer {
        vote: Some(vote_to_wire(&answer.vote)),
        granted: answer.vote_granted,
        last: answer.last_log_id.as_ref().map(log_id_to_wire),
    })
}

fn vote_answer_from_wire(body: Body) -> Result<VoteResponse<TypeConfig>, Malformed> {
    match body {
        Body::VoteAnswer(answer) => Ok(VoteResponse {
            vote: vote_required(answer.vote, "vote answer")?,
            vote_granted: answer.granted,
            last_log_id: log_id_optional(answer.last)?,
        }),
        other => Err(unexpected("vote answer", other)),
    }
}

pub(crate) fn transfer_from_wire(
    request: wire::TransferRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, Malformed> {
    let from = vote_required(request.from, "transfer request")?;
    Ok(TransferLeaderRequest::new(from, request.to, log_id_optional(request.last)?))
}

pub(crate) fn transfer_answer_to_wire(answer: &TransferLeaderResponse<TypeConfig>) -> Body {
    use wire::transfer_answer::Result as Kind;
    let result = match answer {
        Ok(()) => Kind::Accepted(wire::Blank {}),
        Err(TransferLeaderError::VoteChanged { expected, actual }) => Kind::VoteChanged(wire::TransferVoteChanged {
            expected: Some(vote_to_wire(expected)),
            actual: Some(vote_to_wire(actual)),
        }),
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => Kind::LogBehind(wire::TransferLogBehind {
            expected: expected.as_ref().map(log_id_to_wire),
            actual: actual.as_ref().map(log_id_to_wire),
        }),
    };
    Body::TransferAnswer(wire::TransferAnswer { result: Some(result) })
}

fn transfer_answer_from_wire(body: Body) -> Result<TransferLeaderResponse<TypeConfig>, Malformed> {
    use wire::transfer_answer::Result as Kind;
    const WHAT: &str = "transfer answer";
    match body {
        Body::TransferAnswer(wire::TransferAnswer { result: Some(result) }) => Ok(match result {
            Kind::Accepted(_) => Ok(()),
            Kind::VoteChanged(votes) => Err(TransferLeaderError::VoteChanged {
                expected: vote_required(votes.expected, WHAT)?,
                actual: vote_required(votes.actual, WHAT)?,
            }),
            Kind::LogBehind(ids) => Err(TransferLeaderError::LogNotFlushed {
                expected: log_id_optional(ids.expected)?,
                actual: log_id_optional(ids.actual)?,
            }),
        }),
        other => Err(unexpected(WHAT, other)),
    }
}

#[cfg(test)]
mod tests {
    use futures::channel::mpsc;

    use super::*;
    use crate::raft::types::LogId;

    /// A request that tells that all up to `committed` is, with so many entries.
    fn request(committed: u64, entries: u64) -> AppendEntriesRequest<TypeConfig> {
        let id = |index| LogId::new_term_index(1, index);
        let entry = |index| openraft::entry::RaftEntry::new_blank(id(index));
        AppendEntriesRequest {
            vote: RaftVote::new_committed(1, 1),
            prev_log_id: Some(id(9)),
            entries: (10..10 + entries).map(entry).collect(),
            leader_commit: Some(id(committed)),
        }
    }

    async fn next(
        requests: &mut (impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin),
    ) -> Option<(u64, usize)> {
        let request = requests.next().await?;
        Some((request.leader_commit.unwrap().index, request.entries.len()))
    }

    #[tokio::test]
    async fn what_is_committed_is_told_with_the_next_entries_or_a_moment_later() {
        let (leader, requests) = mpsc::unbounded();
        let mut sent = with_entries(requests);
        leader.unbounded_send(request(1, 0)).unwrap();
        assert_eq!(next(&mut sent).await, Some((1, 0)), "the first asks how far the follower is, and is not held up");
        leader.unbounded_send(request(2, 0)).unwrap();
        leader.unbounded_send(request(3, 0)).unwrap();
        leader.unbounded_send(request(4, 2)).unwrap();
        assert_eq!(next(&mut sent).await, Some((4, 2)), "entries that come soon tell it too");
        leader.unbounded_send(request(5, 0)).unwrap();
        assert_eq!(next(&mut sent).await, Some((5, 0)), "without any it is told alone");
        leader.unbounded_send(request(6, 0)).unwrap();
        drop(leader);
        assert_eq!(next(&mut sent).await, Some((6, 0)), "and before the stream ends");
        assert_eq!(next(&mut sent).await, None);
    }
}
