//! A site in memory: a small register behind real generated servers, and connections that break where a test wants it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use dinhba_core::archive::{Frame, GroupSummary, Piece, Summary};
use dinhba_core::encoding::Wire as _;
use dinhba_core::ids::{AuthorId, GroupId, Hash, NodeId, RecordId, RequestId, ShardId, SiteId, UnitId};
use dinhba_proto::v1;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use prost::Message;
use prost_types::Any;
use tonic::body::Body;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::pb::{RetryInfo, Status as RichStatus};
use tower::Service;
use v1::records_server::{Records, RecordsServer};
use v1::site_server::{Site, SiteServer};

use crate::ambient::Machine;
use crate::client::{Client, Limits};
use crate::error::node_status;
use crate::request::{Context, request_of};
use crate::transport::{Dial, Transport, TransportError};

/// What happens to the next call at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing; it passes.
    Pass,
    /// The connection breaks before the node sees it.
    CutBefore,
    /// The node does it, and the connection breaks before the answer.
    CutAfter,
    /// The node answers this and does nothing.
    Say(Code),
    /// The same, and after how long it may be asked again.
    Later(Code, Duration),
    /// Something in between answers this, which the node never saw.
    Fake(Code),
    /// The node does it and never answers.
    Silence,
    /// A stream breaks after so many answers; the node has done what it was sent by then, perhaps more.
    CutStream(usize),
    /// A feed stays open for longer than the patience of the client, with nothing to say, and breaks.
    QuietStream,
}

/// The site's register.
#[derive(Debug, Default)]
pub(crate) struct Register {
    pub(crate) records: BTreeMap<String, v1::Record>,
    pub(crate) answers: BTreeMap<RequestId, v1::EditReply>,
    /// Every edit that was applied.
    pub(crate) applied: Vec<v1::EditRequest>,
    pub(crate) shards: Vec<v1::ShardStatus>,
    faults: BTreeMap<String, VecDeque<Fault>>,
    pub(crate) down: Vec<String>,
    /// The node of each call that reached one.
    pub(crate) calls: Vec<String>,
    /// Connections that came about.
    pub(crate) dials: usize,
    cut_stream: Option<usize>,
    is_quiet: bool,
    /// The next edit of a stream is too much, and may come again after so long.
    pub(crate) busy: Option<Duration>,
    /// Values that make an edit refused.
    pub(crate) poison: Option<String>,
    /// Why the nodes are not well, if they are not.
    pub(crate) sick: String,
    /// How often it was asked who holds a request.
    pub(crate) held_calls: u64,
    pub(crate) conflicts: Vec<v1::Conflict>,
    /// How often a page of a status is asked of a node that did not begin it.
    pub(crate) other_nodes_answer: usize,
}

#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<Register>>);

pub(crate) fn context() -> Context {
    Context::parse("registration", "HS-1").unwrap()
}

pub(crate) const AUTHOR: AuthorId = AuthorId([9; 16]);
pub(crate) const SHARD: ShardId = ShardId(0x11);

/// A status of a node.
pub(crate) fn said(code: Code, text: &str) -> Status {
    said_with(code, text, Vec::new())
}

fn said_with(code: Code, text: &str, details: Vec<Any>) -> Status {
    let reason = match code {
        Code::InvalidArgument => v1::Reason::Invalid,
        Code::PermissionDenied => v1::Reason::Denied,
        Code::NotFound => v1::Reason::NotFound,
        Code::AlreadyExists => v1::Reason::Exists,
        Code::Aborted => v1::Reason::Stale,
        Code::Unavailable => v1::Reason::NotAccepted,
        Code::ResourceExhausted => v1::Reason::Overloaded,
        _ => v1::Reason::OutcomeUnknown,
    };
    node_status(code, text, reason, details)
}

/// After how long to ask again, as a node says it.
fn retry_info(after: Duration) -> Any {
    let retry_delay = prost_types::Duration::try_from(after).ok();
    let value = RetryInfo { retry_delay }.encode_to_vec();
    Any { type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(), value }
}

impl Memory {
    pub(crate) fn register(&self) -> MutexGuard<'_, Register> {
        self.0.lock().unwrap()
    }

    /// What happens to the next calls at `node`.
    pub(crate) fn faults(&self, node: &str, faults: impl IntoIterator<Item = Fault>) {
        self.register().faults.insert(node.to_owned(), faults.into_iter().collect());
    }

    /// A client of nodes `a`, `b`, …, that loses patience within a moment.
    pub(crate) fn client(&self, nodes: &[&str]) -> Client {
        let limits = Limits {
            turn: Duration::from_millis(100),
            attempt: Duration::from_millis(150),
            deadline: Duration::from_millis(600),
            admin: Duration::from_millis(600),
            pause_min: Duration::from_millis(2),
            pause_max: Duration::from_millis(10),
        };
        let nodes = nodes.iter().map(|&node| node.to_owned());
        Client::new(Arc::new(self.clone()), nodes, Arc::new(Machine::default()), limits)
    }

    fn apply(&self, edit: v1::EditRequest) -> Result<v1::EditReply, Status> {
        let mut register = self.register();
        let request = request_of(edit.request.as_ref()).ok_or_else(|| said(Code::InvalidArgument, "no request"))?;
        if let Some(reply) = register.answers.get(&request) {
            let says = |edit: &v1::EditRequest| {
                let parts = edit.parts.clone().into_iter().map(|mut part| {
                    part.changes.iter_mut().for_each(|change| change.overwrites.clear());
                    part.changes.sort_by_key(|change| (change.field.clone(), change.element.clone()));
                    part
                });
                parts.collect::<Vec<_>>()
            };
            let before = register.applied.iter().find(|before| before.request == edit.request);
            if before.is_some_and(|before| says(before) != says(&edit)) {
                return Err(said(
                    Code::AlreadyExists,
                    &format!("request {request} was made before, with other content"),
                ));
            }
            return Ok(v1::EditReply { replayed: true, ..reply.clone() });
        }
        let poison = register.poison.clone();
        if edit.parts.iter().flat_map(|part| &part.changes).any(|change| Some(&change.value) == poison.as_ref()) {
            return Err(said(Code::InvalidArgument, "that value is refused"));
        }
        let first = register.applied.iter().map(|edit| edit.parts.len() as u64).sum::<u64>() + 1;
        let mut records = Vec::new();
        for (index, part) in edit.parts.iter().enumerate() {
            let dot = v1::Dot { author: AUTHOR.0.to_vec(), number: first + index as u64 };
            let is_new = part.record.is_empty();
            let id = if is_new { RecordId::derive(request, index as u32).to_string() } else { part.record.clone() };
            let mut record = match register.records.get(&id) {
                Some(record) => record.clone(),
                None if is_new => v1::Record {
                    id: id.clone(),
                    kind: part.kind.clone(),
                    shard: SHARD.to_string(),
                    unit_code: "00001".into(),
                    unit_name: "Phường Phúc Xá".into(),
                    ..v1::Record::default()
                },
                None => return Err(said(Code::NotFound, &format!("no record {id}"))),
            };
            for change in &part.changes {
                let name = (&change.field, &change.element);
                let at = record.fields.iter().position(|found| (&found.field, &found.element) == name);
                let dots: Vec<v1::Dot> = at
                    .map(|at| record.fields[at].values.iter().filter_map(|v| v.dot.clone()).collect())
                    .unwrap_or_default();
                if dots != change.overwrites {
                    let moved = v1::Moved { field: change.field.clone(), element: change.element.clone(), dots };
                    let stale = v1::Stale { record: id, fields: vec![moved], more: 0 };
                    let detail = Any { type_url: v1::STALE_TYPE_URL.to_owned(), value: stale.encode_to_vec() };
                    return Err(node_status(Code::Aborted, "stale", v1::Reason::Stale, vec![detail]));
                }
                let value = v1::FieldValue {
                    value: change.value.clone(),
                    dot: Some(dot.clone()),
                    received_ms: 1_750_000_000_000,
                    pending: false,
                };
                let field = v1::Field {
                    field: change.field.clone(),
                    element: change.element.clone(),
                    values: vec![value],
                    disputed: false,
                    label: change.field.to_uppercase(),
                };
                match at {
                    Some(at) => record.fields[at] = field,
                    None => record.fields.push(field),
                }
            }
            records.push(id.clone());
            register.records.insert(id, record);
        }
        let receipt = v1::Receipt {
            shard: if edit.shard.is_empty() { SHARD.to_string() } else { edit.shard.clone() },
            first: Some(v1::Dot { author: AUTHOR.0.to_vec(), number: first }),
            count: edit.parts.len() as u32,
            hash: vec![1; 32],
        };
        let reply = v1::EditReply { receipt: Some(receipt), records, ..v1::EditReply::default() };
        register.answers.insert(request, reply.clone());
        register.applied.push(edit);
        Ok(reply)
    }
}

impl Dial for Memory {
    fn dial(&self, address: String) -> BoxFuture<'static, Result<Transport, TransportError>> {
        let memory = self.clone();
        async move {
            if memory.register().down.contains(&address) {
                return Err(format!("{address}: connection refused").into());
            }
            memory.register().dials += 1;
            Ok(Transport::new(Wire { memory, address }))
        }
        .boxed()
    }
}

/// A connection to one node.
#[derive(Clone)]
struct Wire {
    memory: Memory,
    address: String,
}

impl Service<http::Request<Body>> for Wire {
    type Response = http::Response<Body>;
    type Error = TransportError;
    type Future = BoxFuture<'static, Result<Self::Response, TransportError>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), TransportError>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Wire { memory, address } = self.clone();
        async move {
            let fault = {
                let mut register = memory.register();
                register.calls.push(address.clone());
                register.faults.get_mut(&address).and_then(VecDeque::pop_front).unwrap_or(Fault::Pass)
            };
            match fault {
                Fault::CutBefore => return Err("connection reset".into()),
                Fault::Say(code) => return Ok(said(code, "as the test wants it").into_http()),
                Fault::Later(code, after) => {
                    return Ok(said_with(code, "as the test wants it", vec![retry_info(after)]).into_http());
                }
                Fault::Fake(code) => return Ok(Status::new(code, "nothing was accepted, says a proxy").into_http()),
                Fault::CutStream(answers) => memory.register().cut_stream = Some(answers),
                Fault::QuietStream => memory.register().is_quiet = true,
                Fault::Pass | Fault::CutAfter | Fault::Silence => {}
            }
            let reply = if request.uri().path().starts_with("/dinhba.v1.Site/") {
                SiteServer::new(memory).call(request).await
            } else {
                RecordsServer::new(memory).call(request).await
            };
            match fault {
                Fault::CutAfter => Err("connection reset".into()),
                Fault::Silence => futures::future::pending().await,
                _ => Ok(reply.unwrap_or_else(|never| match never {})),
            }
        }
        .boxed()
    }
}

#[tonic::async_trait]
impl Records for Memory {
    type EditManyStream = BoxStream<'static, Result<v1::EditManyReply, Status>>;
    type WatchStream = BoxStream<'static, Result<v1::WatchReply, Status>>;
    type ExportStream = BoxStream<'static, Result<v1::ExportReply, Status>>;
    type RollStream = BoxStream<'static, Result<v1::RollReply, Status>>;

    async fn edit(&self, request: Request<v1::EditRequest>) -> Result<Response<v1::EditReply>, Status> {
        self.apply(request.into_inner()).map(Response::new)
    }

    /// Takes the inputs of each subject that is made as its fields, as a birth does.
    async fn file(&self, request: Request<v1::FileRequest>) -> Result<Response<v1::EditReply>, Status> {
        let v1::FileRequest { context, request, shard, grounds, authored_ms, subjects, .. } = request.into_inner();
        let field = |input: v1::Input| {
            let field = input.name.replace('-', "_");
            v1::FieldChange { field, value: input.value, ..v1::FieldChange::default() }
        };
        let part = |subject: v1::Subject| v1::Part {
            record: subject.record,
            kind: "person".to_owned(),
            changes: subject.inputs.into_iter().map(field).collect(),
            ..v1::Part::default()
        };
        let parts = subjects.into_iter().map(part).collect();
        let edit =
            v1::EditRequest { context, request, shard, grounds, authored_ms, parts, ..v1::EditRequest::default() };
        self.apply(edit).map(Response::new)
    }

    async fn receipt(&self, _: Request<v1::ReceiptRequest>) -> Result<Response<v1::ReceiptReply>, Status> {
        Err(Status::unimplemented("nothing is signed here"))
    }

    async fn roll(&self, _: Request<v1::RollRequest>) -> Result<Response<Self::RollStream>, Status> {
        Ok(Response::new(stream::empty().boxed()))
    }

    async fn held(&self, request: Request<v1::HeldRequest>) -> Result<Response<v1::HeldReply>, Status> {
        let mut register = self.register();
        register.held_calls += 1;
        let by = |tier: &str| v1::HeldBy { tier: tier.to_owned(), holds: true, ..v1::HeldBy::default() };
        let tiers = ["commune", "district"];
        let count = if register.held_calls > 2 { 2 } else { 1 };
        let sites: Vec<v1::HeldBy> = tiers.into_iter().take(count).map(by).collect();
        let reached = sites.iter().any(|by| by.tier == request.get_ref().until);
        Ok(Response::new(v1::HeldReply { sites, reached }))
    }

    async fn figures(&self, _: Request<v1::FiguresRequest>) -> Result<Response<v1::FiguresReply>, Status> {
        Ok(Response::new(v1::FiguresReply::default()))
    }

    async fn targets(&self, _: Request<v1::TargetsRequest>) -> Result<Response<v1::TargetsReply>, Status> {
        Ok(Response::new(v1::TargetsReply::default()))
    }

    async fn numbers(&self, _: Request<v1::NumbersRequest>) -> Result<Response<v1::NumbersReply>, Status> {
        Ok(Response::new(v1::NumbersReply::default()))
    }

    async fn events(&self, _: Request<v1::EventsRequest>) -> Result<Response<v1::EventsReply>, Status> {
        Ok(Response::new(v1::EventsReply::default()))
    }

    async fn edit_many(
        &self,
        request: Request<Streaming<v1::EditRequest>>,
    ) -> Result<Response<Self::EditManyStream>, Status> {
        let memory = self.clone();
        let cut = self.register().cut_stream.take();
        let replies = request.into_inner().enumerate().map(move |(index, edit)| {
            let edit = edit?;
            let request = edit.request.clone();
            let busy = memory.register().busy.take();
            let busy = busy.map(|after| said_with(Code::ResourceExhausted, "too much", vec![retry_info(after)]));
            let outcome = match busy.map_or_else(|| memory.apply(edit), Err) {
                Ok(reply) => v1::edit_many_reply::Outcome::Accepted(reply),
                Err(status) => v1::edit_many_reply::Outcome::Refused(v1::Refused {
                    code: status.code() as i32,
                    message: status.message().to_owned(),
                    details: RichStatus::decode(status.details()).unwrap_or_default().details,
                }),
            };
            if cut.is_some_and(|cut| index >= cut) {
                return Err(Status::unknown("connection reset"));
            }
            Ok(v1::EditManyReply { request, outcome: Some(outcome) })
        });
        Ok(Response::new(replies.boxed()))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetReply>, Status> {
        let id = request.into_inner().record;
        let record = self.register().records.get(&id).cloned();
        let record = record.ok_or_else(|| {
            said(Code::NotFound, &format!("no record {id} at this site: ask a site above it, or check the id"))
        })?;
        Ok(Response::new(v1::GetReply { record: Some(record) }))
    }

    /// By number alone, as far as it goes.
    async fn find(&self, request: Request<v1::FindRequest>) -> Result<Response<v1::FindReply>, Status> {
        let number = request.into_inner().number;
        let has_number = |record: &&v1::Record| {
            let mut fields = record.fields.iter().filter(|field| field.field == "personal_number");
            number.is_empty() || fields.any(|field| field.values.iter().any(|value| value.value == number))
        };
        let records = self.register().records.values().filter(has_number).cloned().collect();
        Ok(Response::new(v1::FindReply { records, next: Vec::new() }))
    }

    /// Pages of two, whatever the household.
    async fn members_of(&self, request: Request<v1::MembersOfRequest>) -> Result<Response<v1::FindReply>, Status> {
        let after = request.get_ref().after.first().copied().unwrap_or(0);
        let all: Vec<v1::Record> = self.register().records.values().cloned().collect();
        let page: Vec<v1::Record> = all.iter().skip(usize::from(after)).take(2).cloned().collect();
        let next = if usize::from(after) + 2 < all.len() { vec![after + 2] } else { Vec::new() };
        Ok(Response::new(v1::FindReply { records: page, next }))
    }

    async fn households_of(&self, _: Request<v1::HouseholdsOfRequest>) -> Result<Response<v1::FindReply>, Status> {
        Ok(Response::new(v1::FindReply::default()))
    }

    async fn dossiers_of(&self, _: Request<v1::DossiersOfRequest>) -> Result<Response<v1::FindReply>, Status> {
        Ok(Response::new(v1::FindReply::default()))
    }

    async fn quality(&self, _: Request<v1::QualityRequest>) -> Result<Response<v1::QualityReply>, Status> {
        Ok(Response::new(v1::QualityReply::default()))
    }

    async fn stocks(&self, _: Request<v1::StocksRequest>) -> Result<Response<v1::StocksReply>, Status> {
        Ok(Response::new(v1::StocksReply::default()))
    }

    async fn work(&self, _: Request<v1::WorkRequest>) -> Result<Response<v1::WorkReply>, Status> {
        Ok(Response::new(v1::WorkReply::default()))
    }

    async fn history(&self, _: Request<v1::HistoryRequest>) -> Result<Response<v1::HistoryReply>, Status> {
        Ok(Response::new(v1::HistoryReply::default()))
    }

    /// Those that there are, one on a page.
    async fn conflicts(&self, request: Request<v1::ConflictsRequest>) -> Result<Response<v1::ConflictsReply>, Status> {
        let (register, at) = (self.register(), request.get_ref().after.first().copied().unwrap_or_default());
        let conflicts: Vec<_> = register.conflicts.iter().skip(at.into()).take(1).cloned().collect();
        let more = register.conflicts.len() > usize::from(at) + 1;
        let next = if more { vec![at + 1] } else { Vec::new() };
        Ok(Response::new(v1::ConflictsReply { conflicts, more, next }))
    }

    async fn judge(&self, _: Request<v1::JudgeRequest>) -> Result<Response<v1::EditReply>, Status> {
        Err(said(Code::NotFound, "this record has no such edit here"))
    }

    async fn pending(&self, _: Request<v1::PendingRequest>) -> Result<Response<v1::PendingReply>, Status> {
        Ok(Response::new(v1::PendingReply::default()))
    }

    /// One entry for each edit, then the end of the stream, or a cut.
    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let from = request.into_inner().from;
        let cut = self.register().cut_stream.take().unwrap_or(usize::MAX);
        let count = self.register().applied.len() as u64;
        let entries = (from..=count)
            .take(cut)
            .map(|position| Ok(v1::WatchReply { entry: Some(v1::Entry { position, ..v1::Entry::default() }) }));
        if std::mem::take(&mut self.register().is_quiet) {
            let end = tokio::time::sleep(Duration::from_millis(700)).map(|()| Err(Status::unknown("connection reset")));
            return Ok(Response::new(stream::once(end).boxed()));
        }
        let end = Err(Status::unknown("connection reset"));
        Ok(Response::new(stream::iter(entries.collect::<Vec<_>>()).chain(stream::iter([end])).boxed()))
    }

    async fn export(&self, _: Request<v1::ExportRequest>) -> Result<Response<Self::ExportStream>, Status> {
        let records: Vec<_> = self.register().records.values().cloned().collect();
        let watch_from = self.register().applied.len() as u64 + 1;
        let pages: Vec<_> =
            records.chunks(2).map(|page| Ok(v1::ExportReply { records: page.to_vec(), watch_from })).collect();
        Ok(Response::new(stream::iter(pages).boxed()))
    }

    async fn access_log(&self, _: Request<v1::AccessLogRequest>) -> Result<Response<v1::AccessLogReply>, Status> {
        Err(said(Code::PermissionDenied, "access-log needs the role auditor"))
    }
}

#[tonic::async_trait]
impl Site for Memory {
    /// Two shards on a page. Each page is another node's in turn where that is wanted: that refuses to go on.
    async fn status(&self, request: Request<v1::StatusRequest>) -> Result<Response<v1::StatusReply>, Status> {
        let mut register = self.register();
        let health = register.sick.clone();
        let at = request.get_ref().after.first().copied().unwrap_or_default();
        if at > 0 && register.other_nodes_answer > 0 {
            register.other_nodes_answer -= 1;
            return Err(said(Code::InvalidArgument, "after: send what the page before gave"));
        }
        let shards: Vec<_> = register.shards.iter().skip(at.into()).take(2).cloned().collect();
        let next = if register.shards.len() > usize::from(at) + 2 { vec![at + 2] } else { Vec::new() };
        Ok(Response::new(v1::StatusReply { health, next, ..status(shards) }))
    }
    async fn add_node(&self, _: Request<v1::AddNodeRequest>) -> Result<Response<v1::MembersReply>, Status> {
        Ok(Response::new(v1::MembersReply::default()))
    }
    async fn promote_node(&self, _: Request<v1::NodeRequest>) -> Result<Response<v1::MembersReply>, Status> {
        Ok(Response::new(v1::MembersReply::default()))
    }
    async fn remove_node(&self, _: Request<v1::NodeRequest>) -> Result<Response<v1::MembersReply>, Status> {
        Ok(Response::new(v1::MembersReply::default()))
    }
    async fn transfer_leader(
        &self,
        _: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::MembersReply>, Status> {
        Ok(Response::new(v1::MembersReply::default()))
    }
    async fn snapshot(&self, _: Request<v1::SnapshotRequest>) -> Result<Response<v1::SnapshotReply>, Status> {
        Ok(Response::new(v1::SnapshotReply::default()))
    }
    async fn raise_level(
        &self,
        request: Request<v1::RaiseLevelRequest>,
    ) -> Result<Response<v1::RaiseLevelReply>, Status> {
        Ok(Response::new(v1::RaiseLevelReply { level: request.into_inner().level }))
    }
    type BackupStream = BoxStream<'static, Result<v1::BackupReply, Status>>;

    /// An access log of 5 entries: each stream breaks after one, until all are held; then their summary.
    async fn backup(&self, request: Request<v1::BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        const LAST: u64 = 5;
        let group = GroupId(7);
        let after = request.get_ref().held.first().map_or(0, |held| held.position);
        let hash = |position: u64| Hash([position as u8; 32]);
        let frame = |frame: Frame| Ok(v1::BackupReply { frame: frame.to_bytes() });
        let mut replies = Vec::new();
        if after < LAST {
            let to = after + 1;
            let sealed = vec![to as u8; 40];
            replies.push(frame(Frame::Piece(Piece { group, shard: None, after, to, hash: hash(to), sealed })));
            replies.push(Err(Status::unknown("connection reset")));
        } else {
            let access_hash = hash(LAST);
            let group = GroupSummary {
                group,
                level: 1,
                applied: 9,
                members: Vec::new(),
                digest_key: 1,
                accesses: LAST,
                access_hash,
                shards: Vec::new(),
            };
            let site = request.get_ref().site.parse().map_err(|_| Status::invalid_argument("site"))?;
            let summary = Summary { site, node: NodeId(1), taken_ms: 9, groups: vec![group], sealed: Vec::new() };
            replies.push(frame(Frame::Summary(summary)));
        }
        Ok(Response::new(stream::iter(replies).boxed()))
    }

    async fn units(&self, _: Request<v1::UnitsRequest>) -> Result<Response<v1::UnitsReply>, Status> {
        Ok(Response::new(v1::UnitsReply::default()))
    }

    async fn holidays(&self, _: Request<v1::HolidaysRequest>) -> Result<Response<v1::HolidaysReply>, Status> {
        Ok(Response::new(v1::HolidaysReply::default()))
    }

    async fn sites(&self, _: Request<v1::SitesRequest>) -> Result<Response<v1::SitesReply>, Status> {
        Ok(Response::new(v1::SitesReply::default()))
    }

    async fn release_author(
        &self,
        _: Request<v1::ReleaseAuthorRequest>,
    ) -> Result<Response<v1::ReleaseAuthorReply>, Status> {
        Ok(Response::new(v1::ReleaseAuthorReply {}))
    }
}

/// A district of three nodes with one group.
pub(crate) fn status(shards: Vec<v1::ShardStatus>) -> v1::StatusReply {
    let node = |id: u64, present| v1::NodeStatus {
        node: NodeId(id).to_string(),
        address: format!("10.0.0.{id}:7400"),
        present,
        level_max: if id == 2 { 0 } else { 2 },
    };
    v1::StatusReply {
        node: NodeId(1).to_string(),
        site: SiteId(0x77).to_string(),
        unit: UnitId(1).to_string(),
        unit_code: "001".into(),
        unit_name: "Quận Ba Đình".into(),
        tier: "district".into(),
        parent_site: SiteId(0x70).to_string(),
        nodes: vec![node(1, true), node(2, true), node(3, false)],
        groups: vec![v1::GroupStatus {
            group: GroupId(5).to_string(),
            leader: NodeId(2).to_string(),
            term: 4,
            role: "follower".into(),
            level: 1,
            shards,
            ..v1::GroupStatus::default()
        }],
        links: vec![v1::LinkStatus {
            direction: "up".into(),
            peer_site: SiteId(0x70).to_string(),
            group: GroupId(5).to_string(),
            state: "waiting".into(),
            detail: "no route".into(),
            since_ms: 1_750_000_000_000,
        }],
        version: "0.1.0".into(),
        level_max: 1,
        health: String::new(),
        home_shard: SHARD.to_string(),
        next: Vec::new(),
    }
}

pub(crate) fn shard_status(shard: ShardId, unit: UnitId, code: &str, name: &str) -> v1::ShardStatus {
    v1::ShardStatus {
        shard: shard.to_string(),
        unit: unit.to_string(),
        unit_code: code.into(),
        unit_name: name.into(),
        persons: 3,
        households: 1,
        edits: 12,
        pending_up: 2,
        step: "behind".into(),
        step_at_ms: 1_750_000_000_000,
        ..v1::ShardStatus::default()
    }
}
