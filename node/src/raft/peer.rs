//! One stream per peer, for the calls of all groups.
//!
//! [`PeerPool`] is the calling side: it dials a peer when it is first needed, numbers the calls, hands each answer to
//! its caller, and dials anew, with back-off, after a connection is lost. [`PeerService`] is the answering side: it
//! passes each call to the group that is addressed.
//!
//! Promises: a call fails as [`CallError::NotSent`] only if the peer cannot have seen it; it fails as
//! [`CallError::Lost`] if it may have. When a connection ends, all calls that wait on it fail at once. Calls may overtake
//! each other: whoever needs an order waits for the answer. A connection that has had its time is followed by another one before it
//! is closed, so that no call is lost for it. A caller that was removed from the site is answered once, so that it hears of that, and
//! its stream ends, also one that stood when it was removed.
//!
//! Leaves to others: who may connect ([`Admit`]), TLS (the `Dial` of the caller), what calls mean ([`Serve`]).

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use dinhba_client::tls::{lasting, named, node_name};
use dinhba_client::transport::{Dial, Line};
use dinhba_core::ids::{GroupId, NodeId};
use dinhba_proto::peer::v1::{self as wire, peer_client::PeerClient, peer_server};
use futures::FutureExt;
use futures::future::{self, BoxFuture};
use futures::stream::{FuturesUnordered, Stream, StreamExt};
use prost::Message;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::proof::Spell;
use crate::runtime::watch::{self, WatchReceiver, WatchSender};
use crate::runtime::{self, Instant};
use crate::stay::Stay;

pub use wire::frame::Body;

/// The longest frame: a full message of entries (2 MB and one more command) with room to spare.
pub const FRAME_BYTES_MAX: usize = 4 << 20;

/// Calls that wait for one peer: beyond this the peer is not keeping up, and more would only grow memory.
const CALLS_MAX: usize = 4096;

/// Frames written and not yet sent: beyond this callers wait, within their deadlines.
const OUTGOING_MAX: usize = 64;

/// Calls of one peer that are served at a time, and their bytes, but for the last of them: what the door lets one node send. The
/// rest wait in the transport's window.
const SERVED_MAX: usize = 1024;
const SERVED_BYTES_MAX: usize = 32 << 20;

/// How long connecting may take: a few round trips of a bad link.
const DIAL_WAIT: Duration = Duration::from_secs(5);

/// A connection on which calls went unanswered for so long is given up: three election timeouts.
const SILENCE_MAX: Duration = Duration::from_secs(6);

/// The first pause after a failed connection; doubles up to [`BACKOFF_MAX`].
const BACKOFF_FIRST: Duration = Duration::from_millis(50);

/// The longest pause: a returned peer should hear of its groups within an election timeout.
const BACKOFF_MAX: Duration = Duration::from_millis(1500);

/// A connection that ends sooner is as one that failed: a peer that takes it and lets go of it at once is not dialled at every call.
const BRIEF: Duration = Duration::from_secs(5);

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The peer has not seen it.
    #[error("not sent: {0}")]
    NotSent(String),
    /// The peer may have seen it, and may have carried it out.
    #[error("sent, but no answer came: {0}")]
    Lost(String),
}

/// The calling side; clones share the connections.
#[derive(Clone)]
pub struct PeerPool {
    dial: Arc<dyn Dial>,
    links: Arc<Mutex<Links>>,
    began: Instant,
}

/// By node and address: a node that moves is another link.
type Links = BTreeMap<(u64, String), Arc<Link>>;

struct Link {
    address: String,
    state: watch::Sender<LinkState>,
    away: Spell,
}

#[derive(Clone)]
enum LinkState {
    Down { retry_at: Option<Instant>, failures: u32, why: String },
    Dialing,
    Up(Arc<Connection>),
}

struct Connection {
    outgoing: mpsc::Sender<wire::Frame>,
    pending: Arc<Mutex<Pending>>,
    since: Instant,
    /// How often in a row there was none before it, or a brief one.
    failures_before: u32,
}

#[derive(Default)]
struct Pending {
    closed: bool,
    call_next: u64,
    calls: BTreeMap<u64, oneshot::Sender<Body>>,
    /// Since when calls wait and nothing has come.
    silent_since: Option<Instant>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PeerPool {
    /// A pool that connects with `dial`.
    #[must_use]
    pub fn new(dial: Arc<dyn Dial>) -> Self {
        PeerPool { dial, links: Arc::default(), began: runtime::now() }
    }

    /// Calls `group` at node `node` and waits for the answer, at most `wait`.
    pub async fn call(
        &self,
        node: u64,
        address: &str,
        group: GroupId,
        body: Body,
        wait: Duration,
    ) -> Result<Body, CallError> {
        let deadline = runtime::now() + wait;
        let link = self.link(node, address);
        let connection = match runtime::timeout_at(deadline, link.connection(&self.dial)).await {
            Ok(connection) => connection?,
            Err(_) => return Err(CallError::NotSent(format!("no connection to {address} in time"))),
        };
        let result = connection.call(group, body, deadline).await;
        if connection.is_silent() {
            link.down(&connection, "the peer stopped answering");
        }
        result
    }

    /// The next moment at which all groups of the node send what is due `every` so often: together it costs a few wake-ups,
    /// one by one a few for each.
    pub(crate) fn next_beat(&self, every: Duration) -> Instant {
        let since = runtime::now() - self.began;
        let beats = since.as_nanos() / every.as_nanos().max(1) + 1;
        self.began + every.saturating_mul(u32::try_from(beats).unwrap_or(u32::MAX))
    }

    /// Closes every connection; later calls dial anew.
    pub fn disconnect(&self) {
        let links = std::mem::take(&mut *lock(&self.links));
        links.into_values().for_each(|link| link.disconnect());
    }

    /// Closes the connections to a node, of which nothing is wanted any more.
    pub fn forget(&self, node: NodeId) {
        let of_it: Vec<Arc<Link>> = {
            let mut links = lock(&self.links);
            let of_it = links.iter().filter(|((of, _), _)| *of == node.0).map(|(_, link)| Arc::clone(link)).collect();
            links.retain(|(of, _), _| *of != node.0);
            of_it
        };
        of_it.iter().for_each(|link| link.disconnect());
    }

    fn link(&self, node: u64, address: &str) -> Arc<Link> {
        let mut links = lock(&self.links);
        let link = links.entry((node, address.to_owned())).or_insert_with(|| {
            let down = LinkState::Down { retry_at: None, failures: 0, why: String::new() };
            // The certificate must be the peer's own: an address alone may have been given to another node.
            let address = named(&node_name(NodeId(node)), address);
            Arc::new(Link { address, state: watch::channel(down).0, away: Spell::default() })
        });
        Arc::clone(link)
    }
}

impl Link {
    fn disconnect(&self) {
        self.state.send_if_modified(|state| {
            if let LinkState::Up(connection) = state {
                connection.close();
            }
            *state = LinkState::Down { retry_at: None, failures: 0, why: "disconnected".into() };
            true
        });
    }

    /// The open connection; dials if there is none, unless the last attempt failed just now.
    async fn connection(self: &Arc<Self>, dial: &Arc<dyn Dial>) -> Result<Arc<Connection>, CallError> {
        let mut states = self.state.subscribe();
        loop {
            let state = states.borrow_and_update().clone();
            match state {
                LinkState::Up(connection) => return Ok(connection),
                LinkState::Dialing => {}
                LinkState::Down { retry_at: Some(retry_at), why, .. } if runtime::now() < retry_at => {
                    return Err(CallError::NotSent(format!("{} is away: {why}", self.address)));
                }
                LinkState::Down { .. } => self.start_dialing(dial),
            }
            // The sender is `self`, so the channel is open.
            let _ = states.changed().await;
        }
    }

    fn start_dialing(self: &Arc<Self>, dial: &Arc<dyn Dial>) {
        let mut failures_before = 0;
        let start = self.state.send_if_modified(|state| match state {
            LinkState::Down { failures, .. } => {
                failures_before = *failures;
                *state = LinkState::Dialing;
                true
            }
            _ => false,
        });
        if !start {
            return;
        }
        // A task of its own: the caller may give up before a slow link is up.
        let (link, dial) = (Arc::clone(self), Arc::clone(dial));
        runtime::spawn("dial peer", async move {
            let connecting = runtime::timeout(DIAL_WAIT, link.connect(&dial, failures_before)).await;
            let state = match connecting.unwrap_or_else(|_| Err("connecting took too long".into())) {
                Ok(connection) => {
                    if let Some(away) = link.away.ended() {
                        tracing::info!(peer = link.address, ?away, "a node of this site is back");
                    }
                    LinkState::Up(Arc::new(connection))
                }
                Err(why) => {
                    link.is_away(&why);
                    Self::backed_off(failures_before + 1, why)
                }
            };
            link.state.send_if_modified(|slot| {
                *slot = state;
                true
            });
        });
    }

    fn backed_off(failures: u32, why: String) -> LinkState {
        let pause = BACKOFF_FIRST.saturating_mul(1 << failures.clamp(1, 8).saturating_sub(1)).min(BACKOFF_MAX);
        LinkState::Down { retry_at: Some(runtime::now() + runtime::jitter(pause)), failures, why }
    }

    async fn connect(self: &Arc<Self>, dial: &Arc<dyn Dial>, failures_before: u32) -> Result<Connection, String> {
        let transport = dial.dial(self.address.clone()).await.map_err(|error| lasting(&error))?;
        let mut client = PeerClient::new(Line(transport))
            .max_decoding_message_size(FRAME_BYTES_MAX)
            .max_encoding_message_size(FRAME_BYTES_MAX);
        let (outgoing, frames) = mpsc::channel(OUTGOING_MAX);
        let answers = client.stream(ReceiverStream::new(frames)).await.map_err(|status| status.to_string())?;
        let connection = Connection { outgoing, pending: Arc::default(), since: runtime::now(), failures_before };
        let (pending, link) = (Arc::clone(&connection.pending), Arc::downgrade(self));
        runtime::spawn("peer answers", read_answers(answers.into_inner(), pending, link, Arc::clone(dial)));
        Ok(connection)
    }

    fn uses(&self, pending: &Arc<Mutex<Pending>>) -> bool {
        let state = self.state.borrow_watched();
        matches!(&*state, LinkState::Up(current) if Arc::ptr_eq(&current.pending, pending))
    }

    /// Opens another connection in the place of one that has had its time. The calls on that one are left to be answered: it closes
    /// when the last of them lets go of it.
    fn renew(self: &Arc<Self>, dial: &Arc<dyn Dial>, old: &Arc<Mutex<Pending>>) {
        let (link, dial, old) = (Arc::clone(self), Arc::clone(dial), Arc::clone(old));
        runtime::spawn("dial peer again", async move {
            let mut pause = BACKOFF_FIRST;
            while link.uses(&old) {
                if let Ok(Ok(connection)) = runtime::timeout(DIAL_WAIT, link.connect(&dial, 0)).await {
                    let connection = Arc::new(connection);
                    link.state.send_if_modified(|state| match state {
                        LinkState::Up(current) if Arc::ptr_eq(&current.pending, &old) => {
                            *state = LinkState::Up(connection);
                            true
                        }
                        _ => false,
                    });
                    return;
                }
                runtime::sleep(runtime::jitter(pause)).await;
                pause = (2 * pause).min(BACKOFF_MAX);
            }
        });
    }

    /// Said once, for all groups, until it is back.
    fn is_away(&self, why: &str) {
        if self.away.failed() {
            tracing::warn!(peer = self.address, why, "a node of this site is away");
        }
    }

    /// Gives up `connection`, if it is still the one in use.
    fn down(&self, connection: &Connection, why: &str) {
        self.down_if(&connection.pending, why);
        connection.close();
    }

    fn down_if(&self, pending: &Arc<Mutex<Pending>>, why: &str) {
        self.state.send_if_modified(|state| match state {
            LinkState::Up(current) if Arc::ptr_eq(&current.pending, pending) => {
                self.is_away(why);
                let was_brief = runtime::now() - current.since < BRIEF;
                let failures = if was_brief { current.failures_before + 1 } else { 1 };
                *state = Self::backed_off(failures, why.to_owned());
                true
            }
            _ => false,
        });
    }
}

async fn read_answers(
    mut answers: Streaming<wire::Frame>,
    pending: Arc<Mutex<Pending>>,
    link: Weak<Link>,
    dial: Arc<dyn Dial>,
) {
    let mut moves_on = false;
    let why = loop {
        match answers.message().await {
            Ok(Some(wire::Frame { body: Some(Body::MoveOn(_)), .. })) => {
                if !std::mem::replace(&mut moves_on, true)
                    && let Some(link) = link.upgrade()
                {
                    link.renew(&dial, &pending);
                }
            }
            Ok(Some(frame)) => {
                let caller = {
                    let mut pending = lock(&pending);
                    pending.silent_since = None;
                    pending.calls.remove(&frame.call)
                };
                // Neither an answer that came too late nor one without a body reaches anyone; the caller times out.
                if let (Some(caller), Some(body)) = (caller, frame.body) {
                    let _ = caller.send(body);
                }
            }
            Ok(None) => break "the peer closed the stream".to_owned(),
            Err(status) => break status.to_string(),
        }
    };
    if let Some(link) = link.upgrade() {
        link.down_if(&pending, &why);
    }
    close(&pending);
}

fn close(pending: &Mutex<Pending>) {
    let calls = {
        let mut pending = lock(pending);
        pending.closed = true;
        std::mem::take(&mut pending.calls)
    };
    // Dropping the senders tells the callers.
    drop(calls);
}

/// Forgets a call whose caller no longer waits.
struct Registered<'a> {
    pending: &'a Mutex<Pending>,
    call: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let forgotten = lock(self.pending).calls.remove(&self.call);
        drop(forgotten);
    }
}

impl Connection {
    fn close(&self) {
        close(&self.pending);
    }

    fn is_silent(&self) -> bool {
        lock(&self.pending).silent_since.is_some_and(|since| runtime::now() - since > SILENCE_MAX)
    }

    fn register(&self) -> Result<(Registered<'_>, oneshot::Receiver<Body>), CallError> {
        let mut pending = lock(&self.pending);
        if pending.closed {
            return Err(CallError::NotSent("the connection was just lost".into()));
        }
        if pending.calls.len() >= CALLS_MAX {
            return Err(CallError::NotSent(format!("{CALLS_MAX} calls already wait for this peer")));
        }
        pending.call_next += 1;
        let call = pending.call_next;
        let (sender, receiver) = oneshot::channel();
        pending.calls.insert(call, sender);
        Ok((Registered { pending: &self.pending, call }, receiver))
    }

    async fn call(&self, group: GroupId, body: Body, deadline: Instant) -> Result<Body, CallError> {
        let frame = wire::Frame { call: 0, group: group.0, body: Some(body) };
        let bytes = frame.encoded_len();
        // Leaves room for the call number: an oversized frame would end the whole stream.
        if bytes > FRAME_BYTES_MAX - 16 {
            return Err(CallError::NotSent(format!("a frame of {bytes} bytes is too long")));
        }
        let (registered, answer) = self.register()?;
        let frame = wire::Frame { call: registered.call, ..frame };
        match runtime::timeout_at(deadline, self.outgoing.send(frame)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(CallError::NotSent("the connection was just lost".into())),
            Err(_) => return Err(CallError::NotSent("the peer takes no more frames for now".into())),
        }
        lock(&self.pending).silent_since.get_or_insert_with(runtime::now);
        match runtime::timeout_at(deadline, answer).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(_)) => Err(CallError::Lost("the connection broke".into())),
            Err(_) => Err(CallError::Lost("the deadline passed".into())),
        }
    }
}

/// Carries out the calls to one group.
pub trait Serve: Send + Sync + 'static {
    /// Answers one call of `caller`, who is not known where everyone is let in; several run at once.
    fn serve(&self, caller: Option<NodeId>, body: Body) -> BoxFuture<'static, Body>;
}

/// The groups that run on this node; clones are the same.
#[derive(Clone, Default)]
pub struct Groups(Arc<RwLock<BTreeMap<GroupId, Arc<dyn Serve>>>>);

impl Groups {
    /// From now on calls to `group` go to `serve`.
    pub fn insert(&self, group: GroupId, serve: Arc<dyn Serve>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(group, serve);
    }

    /// From now on calls to `group` are refused.
    pub fn remove(&self, group: GroupId) {
        let removed = self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&group);
        drop(removed);
    }

    pub(super) fn get(&self, group: GroupId) -> Option<Arc<dyn Serve>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&group).cloned()
    }
}

/// Answers `App` calls: what the node above the groups says to its peers.
pub trait App: Send + Sync + 'static {
    /// The answer, or why there is none, for people; then nothing was changed.
    fn app(&self, group: GroupId, request: Vec<u8>) -> BoxFuture<'static, Result<Vec<u8>, String>>;
}

/// Decides who may connect.
pub trait Admit: Send + Sync + 'static {
    /// Which node of this site calls; refuses everybody else. The request carries the connection's certificate. None only where
    /// everyone is trusted.
    #[allow(clippy::result_large_err, reason = "tonic's own type, once per connection")]
    fn admit(&self, request: &Request<Streaming<wire::Frame>>) -> Result<Option<NodeId>, Status>;

    /// Whether it may make this call now, or why not; then nothing is done. Asked before each call is served.
    fn may_call(&self, caller: NodeId, group: GroupId, body: &Body) -> Result<(), String>;

    /// Resolves once it has left the site for good, to what its streams end with.
    fn left(&self, caller: NodeId) -> BoxFuture<'static, Status>;
}

/// Lets everyone in: for tests, and for nodes that share one process.
#[derive(Debug, Clone, Copy)]
pub struct AdmitAll;

impl Admit for AdmitAll {
    fn admit(&self, _: &Request<Streaming<wire::Frame>>) -> Result<Option<NodeId>, Status> {
        Ok(None)
    }

    fn may_call(&self, _: NodeId, _: GroupId, _: &Body) -> Result<(), String> {
        Ok(())
    }

    fn left(&self, _: NodeId) -> BoxFuture<'static, Status> {
        future::pending().boxed()
    }
}

/// The answering side.
#[derive(Clone)]
pub struct PeerService {
    groups: Groups,
    app: Arc<dyn App>,
    admit: Arc<dyn Admit>,
}

impl PeerService {
    /// Serves `groups`.
    #[must_use]
    pub fn new(groups: Groups, app: Arc<dyn App>, admit: Arc<dyn Admit>) -> Self {
        PeerService { groups, app, admit }
    }

    /// The tonic service, with the bounds of this module.
    #[must_use]
    pub fn into_server(self) -> peer_server::PeerServer<Self> {
        peer_server::PeerServer::new(self)
            .max_decoding_message_size(FRAME_BYTES_MAX)
            .max_encoding_message_size(FRAME_BYTES_MAX)
    }

    async fn answer(self, caller: Option<NodeId>, frame: wire::Frame) -> wire::Frame {
        let group = GroupId(frame.group);
        let may_call = |body: &Body| caller.map_or(Ok(()), |caller| self.admit.may_call(caller, group, body));
        let barred = frame.body.as_ref().and_then(|body| may_call(body).err());
        let answer = match frame.body {
            _ if barred.is_some() => failure(wire::FailureKind::Refused, barred.unwrap_or_default()),
            None => failure(wire::FailureKind::Malformed, "a frame without a body"),
            Some(Body::App(request)) => match self.app.app(group, request.payload).await {
                Ok(payload) => Body::AppAnswer(wire::App { payload }),
                Err(detail) => failure(wire::FailureKind::Refused, detail),
            },
            Some(body) => match self.groups.get(group) {
                Some(serve) => serve.serve(caller, body).await,
                None => failure(wire::FailureKind::NoGroup, format!("{group} does not run here")),
            },
        };
        let answer = wire::Frame { call: frame.call, group: frame.group, body: Some(answer) };
        if answer.encoded_len() > FRAME_BYTES_MAX {
            let body = failure(wire::FailureKind::AnswerTooLong, "the answer is too long for a frame");
            return wire::Frame { body: Some(body), ..answer };
        }
        answer
    }

    async fn serve_stream(
        self,
        caller: Option<NodeId>,
        mut calls: Streaming<wire::Frame>,
        answers: mpsc::Sender<Result<wire::Frame, Status>>,
        over: BoxFuture<'static, ()>,
    ) {
        let left = caller.map_or_else(|| future::pending().boxed(), |caller| self.admit.left(caller));
        let (mut left, mut over) = (left.fuse(), over.fuse());
        let had_left = (&mut left).now_or_never();
        let (mut running, mut bytes) = (FuturesUnordered::new(), 0);
        loop {
            tokio::select! {
                biased;
                status = &mut left => {
                    // Whether it takes that or not.
                    let _ = answers.try_send(Err(status));
                    return;
                }
                () = &mut over => {
                    let move_on = wire::Frame { call: 0, group: 0, body: Some(Body::MoveOn(wire::Blank {})) };
                    if answers.send(Ok(move_on)).await.is_err() {
                        return;
                    }
                }
                Some((answer, length)) = running.next() => {
                    bytes -= length;
                    if answers.send(Ok(answer)).await.is_err() {
                        return;
                    }
                    if let Some(status) = had_left {
                        let _ = answers.try_send(Err(status));
                        return;
                    }
                }
                frame = calls.message(), if running.len() < SERVED_MAX && bytes < SERVED_BYTES_MAX => match frame {
                    Ok(Some(frame)) => {
                        let length = frame.encoded_len();
                        bytes += length;
                        running.push(self.clone().answer(caller, frame).map(move |answer| (answer, length)));
                    }
                    // The caller is gone: nobody waits for what still runs.
                    Ok(None) | Err(_) => return,
                },
            }
        }
    }
}

/// An answer that says why there is none.
pub(crate) fn failure(kind: wire::FailureKind, detail: impl Into<String>) -> Body {
    Body::Failure(wire::Failure { kind: kind.into(), detail: detail.into() })
}

#[tonic::async_trait]
impl peer_server::Peer for PeerService {
    type StreamStream = Pin<Box<dyn Stream<Item = Result<wire::Frame, Status>> + Send>>;

    async fn stream(&self, request: Request<Streaming<wire::Frame>>) -> Result<Response<Self::StreamStream>, Status> {
        let caller = self.admit.admit(&request)?;
        let over = Stay::over(request.extensions());
        let (sender, answers) = mpsc::channel(OUTGOING_MAX);
        runtime::spawn("serve peer", self.clone().serve_stream(caller, request.into_inner(), sender, over));
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}
