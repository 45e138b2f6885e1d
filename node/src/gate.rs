//! What a call may cost before a service sees it: who may call what at all, how long a message may be, how much one caller and
//! all of them may send and have open at once, how long a message may take to come, and how long a page of a feed may lie
//! untaken; and that what has no end of its own ends with its connection. (Other answers are one message of at most 4 MiB, and bounded with the calls.)
//!
//! Owns: the layer ([`Gate`]) around all services of the node's door, the one table of methods (`rule`). Promises: **memory is
//! budgeted before it is reserved**: a message is handed on once all of it is here, so that who announces megabytes and sends
//! five bytes costs five bytes; what is here counts on the caller's budget until it is answered, or in a stream of messages until
//! the next one begins. A service that keeps more of them than one counts them itself: many edits by `Budget`, the peer service
//! by its own bound. Calls that are for nodes alone are refused to people before anything of them is read, and people cannot use
//! up what nodes need of bytes and calls. Who sends nothing of a message that is due, or takes nothing of a feed, is cut off after
//! `BYTES_WITHIN` and `TAKEN_WITHIN`, and what was held is freed. Leaves to others: how many connections there are (`tls`), what
//! a call means (`service`).
//! Limits: what HTTP/2 itself holds for a connection (a window of a MiB, and headers) is not in the budget; connections are
//! bounded instead. Calls that come without the door, in the simulator, do not pass here.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dinhba_client::tls::MESSAGE_BYTES_MAX;
use dinhba_core::claims::Identity;
use dinhba_core::edit::COMMAND_BYTES_MAX;
use futures::FutureExt;
use futures::future::{self, BoxFuture, Fuse};
use http_body::{Body as _, Frame};
use tokio::sync::mpsc;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::pki::{Shown, TrustHeader, identity_of};
use crate::raft::peer::FRAME_BYTES_MAX;
use crate::runtime::{self, Sleep};
use crate::service::answer::{denied, move_on, outcome_unknown, overloaded};
use crate::stay::Stay;

/// A question of a few fields: ids, a name, a date, the context.
const QUESTION_BYTES_MAX: usize = 16 << 10;
/// An edit in protobuf: the largest command takes some more bytes there than in our own encoding.
const EDIT_BYTES_MAX: usize = 2 * COMMAND_BYTES_MAX;
/// All shards of the country, by name.
const LOCATE_BYTES_MAX: usize = 1 << 20;
/// What the messages of one person or application that are here and not answered may take: sixteen of the largest edits, or
/// thousands of usual ones.
const BYTES_OF_PERSON_MAX: usize = 8 << 20;
/// The same of one node: a frame of each of some groups.
const BYTES_OF_NODE_MAX: usize = 32 << 20;
/// The same of all people together, and of all callers: what is above it is for nodes.
const BYTES_OF_PEOPLE_MAX: usize = 64 << 20;
const BYTES_MAX: usize = 128 << 20;
/// Calls of one caller under way: an application's threads, several times; a few kB each.
const CALLS_OF_ONE_MAX: usize = 1024;
/// Calls of all people together, and of all callers: what is above it is for nodes, of which each has a stream or two for each
/// of its groups.
const CALLS_OF_PEOPLE_MAX: usize = 6144;
const CALLS_MAX: usize = 8192;
/// Of these, streams that stay open (watch, export, backup, many edits) of one person or application: each holds a page or a few
/// hundred kB of edits.
const FEEDS_OF_ONE_MAX: usize = 32;
/// The same of all.
const FEEDS_MAX: usize = 256;
/// Within a message the next bytes come within this, or never; so does the only message of a call that is no stream of them.
const BYTES_WITHIN: Duration = Duration::from_secs(30);
/// Who takes nothing of a feed for so long is gone, or will ask again: a piece crosses the thinnest link in seconds.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);
/// A feed is handed on in pieces of this, whatever its pages are: who takes it steadily over 64 kbit/s has two seconds for each.
const PIECE_BYTES: usize = 16 << 10;

/// What a method asks of its callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    is_for_nodes: bool,
    message_bytes_max: usize,
    /// Whether the answer stays open for as long as the caller likes.
    is_feed: bool,
    /// Whether that has no end of its own, so that the end of its connection ends it.
    is_endless: bool,
    /// Whether more than one message may come, each when it likes.
    is_stream: bool,
}

/// The rule for the method at `path`.
fn rule(path: &str) -> Rule {
    let people = |message_bytes_max| Rule {
        is_for_nodes: false,
        message_bytes_max,
        is_feed: false,
        is_endless: false,
        is_stream: false,
    };
    let nodes = |message_bytes_max| Rule { is_for_nodes: true, ..people(message_bytes_max) };
    let feed = |message_bytes_max| Rule { is_feed: true, ..people(message_bytes_max) };
    let endless = |rule| Rule { is_endless: true, ..rule };
    let stream = |rule| Rule { is_stream: true, ..rule };
    match path {
        "/dinhba.peer.v1.Peer/Stream" => stream(nodes(FRAME_BYTES_MAX)),
        "/dinhba.v1.Link/Session" => stream(nodes(MESSAGE_BYTES_MAX)),
        "/dinhba.v1.Link/Locate" => nodes(LOCATE_BYTES_MAX),
        "/dinhba.v1.Records/Edit" | "/dinhba.v1.Records/File" => people(EDIT_BYTES_MAX),
        "/dinhba.v1.Records/EditMany" => endless(stream(feed(EDIT_BYTES_MAX))),
        "/dinhba.v1.Records/Watch" => endless(feed(QUESTION_BYTES_MAX)),
        "/dinhba.v1.Records/Export" | "/dinhba.v1.Records/Roll" => feed(QUESTION_BYTES_MAX),
        // Where an archive stands, for each shard of the site.
        "/dinhba.v1.Site/Backup" => feed(MESSAGE_BYTES_MAX),
        "/grpc.health.v1.Health/Watch" => endless(feed(QUESTION_BYTES_MAX)),
        _ if path.starts_with("/grpc.reflection.") => endless(stream(feed(QUESTION_BYTES_MAX))),
        _ if path.starts_with("/dinhba.peer.") || path.starts_with("/dinhba.v1.Link/") => nodes(QUESTION_BYTES_MAX),
        _ => people(QUESTION_BYTES_MAX),
    }
}

/// What one caller has under way.
#[derive(Debug, Default)]
struct Usage {
    bytes: usize,
    calls: usize,
    feeds: usize,
}

/// What all have under way.
#[derive(Debug, Default)]
struct Ledger {
    callers: BTreeMap<Arc<str>, Usage>,
    /// Of people: bytes and calls.
    people: Usage,
    all: Usage,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call under way: its part of the ledger is given back when the last part of it is dropped.
#[derive(Debug)]
struct Call {
    ledger: Arc<Mutex<Ledger>>,
    caller: Arc<str>,
    is_person: bool,
    is_feed: bool,
    bytes: AtomicUsize,
}

impl Call {
    fn open(ledger: &Arc<Mutex<Ledger>>, caller: &Identity, is_feed: bool) -> Result<Self, Status> {
        let is_person = matches!(caller, Identity::Person(_));
        let caller: Arc<str> = caller.uri().into();
        let busy = |what: &str, most| {
            let text = format!("{what} are under way, at most {most}; nothing was accepted: end some, or wait");
            Err(overloaded(text))
        };
        let mut entries = lock(ledger);
        let (calls, feeds) = entries.callers.get(&caller).map_or((0, 0), |usage| (usage.calls, usage.feeds));
        if calls >= CALLS_OF_ONE_MAX {
            return busy("many calls of this caller", CALLS_OF_ONE_MAX);
        }
        let calls_max = if is_person { CALLS_OF_PEOPLE_MAX } else { CALLS_MAX };
        if entries.all.calls >= CALLS_MAX || is_person && entries.people.calls >= CALLS_OF_PEOPLE_MAX {
            return busy("many calls of all", calls_max);
        }
        if is_feed && feeds >= FEEDS_OF_ONE_MAX {
            return busy("many streams of this caller", FEEDS_OF_ONE_MAX);
        }
        if is_feed && entries.all.feeds >= FEEDS_MAX {
            return busy("many streams of all", FEEDS_MAX);
        }
        let usage = entries.callers.entry(Arc::clone(&caller)).or_default();
        usage.calls += 1;
        usage.feeds += usize::from(is_feed);
        entries.all.calls += 1;
        entries.people.calls += usize::from(is_person);
        entries.all.feeds += usize::from(is_feed);
        drop(entries);
        Ok(Call { ledger: Arc::clone(ledger), caller, is_person, is_feed, bytes: AtomicUsize::new(0) })
    }

    /// Counts bytes that are here, until they are released.
    fn charge(&self, bytes: usize) -> Result<(), Status> {
        self.count(bytes)?;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Counts bytes until they are taken off.
    fn count(&self, bytes: usize) -> Result<(), Status> {
        let most = if self.is_person { BYTES_OF_PERSON_MAX } else { BYTES_OF_NODE_MAX };
        let mut ledger = lock(&self.ledger);
        let people_is_full = self.is_person && ledger.people.bytes + bytes > BYTES_OF_PEOPLE_MAX;
        if ledger.all.bytes + bytes > BYTES_MAX || people_is_full {
            return Err(overloaded(
                "all callers together are sending more than this node holds at once; nothing was accepted: wait a little",
            ));
        }
        let usage = ledger.callers.entry(Arc::clone(&self.caller)).or_default();
        if usage.bytes + bytes > most {
            return Err(overloaded(format!(
                "this caller is sending more than {most} bytes at once; nothing was accepted: send less at a time"
            )));
        }
        usage.bytes += bytes;
        ledger.all.bytes += bytes;
        ledger.people.bytes += if self.is_person { bytes } else { 0 };
        Ok(())
    }

    /// What was counted is gone.
    fn release(&self) {
        let bytes = self.bytes.swap(0, Ordering::Relaxed);
        if bytes > 0 {
            self.take_off(&mut lock(&self.ledger), bytes);
        }
    }

    fn take_off(&self, ledger: &mut Ledger, bytes: usize) {
        ledger.all.bytes -= bytes;
        ledger.people.bytes -= if self.is_person { bytes } else { 0 };
        if let Some(usage) = ledger.callers.get_mut(&self.caller) {
            usage.bytes -= bytes;
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut ledger = lock(&self.ledger);
        self.take_off(&mut ledger, self.bytes.load(Ordering::Relaxed));
        ledger.all.calls -= 1;
        ledger.people.calls -= usize::from(self.is_person);
        ledger.all.feeds -= usize::from(self.is_feed);
        if let Some(usage) = ledger.callers.get_mut(&self.caller) {
            usage.calls -= 1;
            usage.feeds -= usize::from(self.is_feed);
            if usage.calls == 0 {
                ledger.callers.remove(&self.caller);
            }
        }
    }
}

/// The budget of a call's sender, for a service that keeps messages of a stream while the next ones come.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Call>);

impl Budget {
    /// Counts bytes on it until what is returned is dropped.
    pub(crate) fn hold(&self, bytes: usize) -> Result<Held, Status> {
        self.0.count(bytes)?;
        Ok(Held { call: Arc::clone(&self.0), bytes })
    }
}

/// A part of a [`Budget`] that is in use.
#[derive(Debug)]
pub(crate) struct Held {
    call: Arc<Call>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.call.take_off(&mut lock(&self.call.ledger), self.bytes);
    }
}

/// How long is waited for a caller.
#[derive(Debug, Clone, Copy)]
struct Patience {
    bytes_within: Duration,
    taken_within: Duration,
}

/// The layer.
#[derive(Debug, Clone)]
pub struct Gate {
    ledger: Arc<Mutex<Ledger>>,
    patience: Patience,
}

impl Default for Gate {
    fn default() -> Self {
        let patience = Patience { bytes_within: BYTES_WITHIN, taken_within: TAKEN_WITHIN };
        Gate { ledger: Arc::default(), patience }
    }
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;
    fn layer(&self, inner: S) -> Gated<S> {
        Gated { inner, ledger: Arc::clone(&self.ledger), patience: self.patience }
    }
}

/// A service behind the gate.
#[derive(Debug, Clone)]
pub struct Gated<S> {
    inner: S,
    ledger: Arc<Mutex<Ledger>>,
    patience: Patience,
}

impl<S> Gated<S> {
    /// Whether the call may go on: its part of the ledger and its rule.
    fn admit(&self, request: &mut http::Request<Body>) -> Result<(Arc<Call>, Rule), Status> {
        let caller = identity_of(request.extensions(), request.headers())?;
        let rule = rule(request.uri().path());
        if rule.is_for_nodes && matches!(caller, Identity::Person(_)) {
            return Err(denied("this is for nodes: people and applications use the records service"));
        }
        let call = Call::open(&self.ledger, &caller, rule.is_feed)?;
        if request.extensions().get::<TrustHeader>().is_some() {
            // So that a header is read once. Where there is a certificate, it is there already.
            request.extensions_mut().insert(Shown(Some(Ok(caller))));
        }
        Ok((Arc::new(call), rule))
    }
}

impl<S> Service<http::Request<Body>> for Gated<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<http::Response<Body>, S::Error>>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let (call, rule) = match self.admit(&mut request) {
            Ok(admitted) => admitted,
            Err(status) => return std::future::ready(Ok(status.into_http())).boxed(),
        };
        let Patience { bytes_within, taken_within } = self.patience;
        if rule.is_stream {
            request.extensions_mut().insert(Budget(Arc::clone(&call)));
        }
        // A stream of messages ends where the next one would begin, after the answers to all before it; an answer alone where it is.
        let over = |ends: bool| (ends && rule.is_endless).then(|| Stay::over(request.extensions()));
        let (asking_over, answer_over) = (over(rule.is_stream), over(!rule.is_stream));
        let whole = |body| Body::new(Whole::new(body, rule, bytes_within, asking_over, Arc::clone(&call)));
        let answering = self.inner.call(request.map(whole));
        async move {
            Ok(answering.await?.map(|body| match rule.is_feed {
                true => Body::new(Fed::new(body, taken_within, answer_over, call)),
                false => Body::new(Counted { body, _call: call }),
            }))
        }
        .boxed()
    }
}

/// A request's body, of which whole messages are handed on.
struct Whole {
    body: Body,
    rule: Rule,
    call: Arc<Call>,
    /// What is here of the present message, with the five bytes in front of it.
    part: BytesMut,
    /// What came after it.
    rest: Bytes,
    within: Duration,
    silence: Option<Sleep>,
    /// When no more messages are to come, if anything says so.
    over: Option<Fuse<BoxFuture<'static, ()>>>,
}

impl Whole {
    /// The five bytes in front of a message: whether it is compressed, and its length.
    const HEADER: usize = 5;

    fn new(body: Body, rule: Rule, within: Duration, over: Option<BoxFuture<'static, ()>>, call: Arc<Call>) -> Self {
        let over = over.map(FutureExt::fuse);
        Whole { body, rule, call, part: BytesMut::new(), rest: Bytes::new(), within, silence: None, over }
    }

    /// Moves bytes to the present message; it, if that makes it whole.
    fn advance(&mut self) -> Result<Option<Bytes>, Status> {
        if self.part.is_empty() && !self.rest.is_empty() {
            // The one before it has been answered, or is counted by who keeps it.
            self.call.release();
            // Most messages come in one piece, which is handed on as it is.
            if let Some(header) = self.rest.first_chunk() {
                let length = self.length(header)?;
                if self.rest.len() >= Self::HEADER + length {
                    self.call.charge(length)?;
                    return Ok(Some(self.rest.split_to(Self::HEADER + length)));
                }
            }
        }
        if self.part.len() < Self::HEADER {
            let missing = self.rest.len().min(Self::HEADER - self.part.len());
            self.part.extend_from_slice(&self.rest.split_to(missing));
        }
        let Some(header) = self.part.first_chunk() else { return Ok(None) };
        let length = self.length(header)?;
        let missing = self.rest.len().min(Self::HEADER + length - self.part.len());
        self.call.charge(missing)?;
        self.part.extend_from_slice(&self.rest.split_to(missing));
        if self.part.len() < Self::HEADER + length {
            return Ok(None);
        }
        Ok(Some(std::mem::take(&mut self.part).freeze()))
    }

    /// The length that is announced in front of a message.
    fn length(&self, [_, a, b, c, d]: &[u8; Self::HEADER]) -> Result<usize, Status> {
        let length = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).unwrap_or(usize::MAX);
        let limit = self.rule.message_bytes_max;
        if length > limit {
            // As the transport would say it, so that it is put into our words in one place.
            return Err(Status::out_of_range(format!(
                "Error, decoded message length too large: found {length} bytes, the limit is: {limit} bytes"
            )));
        }
        Ok(length)
    }
}

impl http_body::Body for Whole {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if self.part.is_empty() && self.over.as_mut().is_some_and(|over| over.poll_unpin(task).is_ready()) {
                return Poll::Ready(Some(Err(move_on())));
            }
            if let Some(message) = self.advance()? {
                self.silence = None;
                return Poll::Ready(Some(Ok(Frame::data(message))));
            }
            match Pin::new(&mut self.body).poll_frame(task) {
                Poll::Ready(Some(frame)) => match frame?.into_data() {
                    Ok(bytes) => {
                        self.silence = None;
                        self.rest = bytes;
                    }
                    // Trailers, of which a request has none that mean anything.
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                Poll::Ready(None) if self.part.is_empty() => return Poll::Ready(None),
                Poll::Ready(None) => {
                    self.part = BytesMut::new();
                    return Poll::Ready(Some(Err(Status::internal("Unexpected EOF decoding stream."))));
                }
                Poll::Pending if self.part.is_empty() && self.rule.is_stream => return Poll::Pending,
                Poll::Pending => {
                    let within = self.within;
                    let silence = self.silence.get_or_insert_with(|| runtime::sleep(within));
                    if Pin::new(silence).poll(task).is_pending() {
                        return Poll::Pending;
                    }
                    self.part = BytesMut::new();
                    let text = format!("the rest of the message did not come within {} s", within.as_secs());
                    return Poll::Ready(Some(Err(outcome_unknown(text))));
                }
            }
        }
    }
}

/// An answer's body, until whose end the call counts.
struct Counted {
    body: Body,
    _call: Arc<Call>,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(task)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

type Frames = mpsc::Receiver<Result<Frame<Bytes>, Status>>;

/// An answer's body that is cut off if nobody takes it, or if its connection has had its time.
struct Fed {
    frames: Frames,
    /// With what it was.
    cut: Arc<Mutex<Option<Status>>>,
    _call: Arc<Call>,
}

impl Fed {
    fn new(body: Body, within: Duration, over: Option<BoxFuture<'static, ()>>, call: Arc<Call>) -> Self {
        let (sender, frames) = mpsc::channel(1);
        let cut = Arc::default();
        let over = over.unwrap_or_else(|| future::pending().boxed());
        runtime::spawn("feed", feed(body, sender, within, over, Arc::clone(&cut)));
        Fed { frames, cut, _call: call }
    }
}

/// Hands on what a body gives, for as long as it is taken.
async fn feed(
    mut body: Body,
    frames: mpsc::Sender<Result<Frame<Bytes>, Status>>,
    within: Duration,
    mut over: BoxFuture<'static, ()>,
    cut: Arc<Mutex<Option<Status>>>,
) {
    loop {
        let frame = tokio::select! {
            frame = std::future::poll_fn(|task| Pin::new(&mut body).poll_frame(task)) => frame,
            () = frames.closed() => return,
            () = &mut over => return *lock(&cut) = Some(move_on()),
        };
        let Some(frame) = frame else { return };
        for piece in pieces(frame) {
            match runtime::timeout(within, frames.send(piece)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => {
                    let text = format!("nothing was taken for {} s: ask again", within.as_secs());
                    return *lock(&cut) = Some(outcome_unknown(text));
                }
            }
        }
    }
}

/// A frame in pieces, so that it shows whether it is being taken.
fn pieces(frame: Result<Frame<Bytes>, Status>) -> impl Iterator<Item = Result<Frame<Bytes>, Status>> {
    let (mut data, mut other) = match frame.map(Frame::into_data) {
        Ok(Ok(data)) => (data, None),
        Ok(Err(frame)) => (Bytes::new(), Some(Ok(frame))),
        Err(status) => (Bytes::new(), Some(Err(status))),
    };
    std::iter::from_fn(move || match data.is_empty() {
        true => other.take(),
        false => Some(Ok(Frame::data(data.split_to(data.len().min(PIECE_BYTES))))),
    })
}

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(self.frames.poll_recv(task));
        if frame.is_none()
            && let Some(status) = lock(&self.cut).take()
        {
            let mut trailers = http::HeaderMap::new();
            status.add_header(&mut trailers)?;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Poll::Ready(frame)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use dinhba_core::claims::{Claims, Role};
    use dinhba_core::ids::{EvidenceId, NodeId, SiteId, UnitId};
    use futures::StreamExt;
    use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
    use tonic::Code;
    use tower::ServiceExt;

    use super::*;

    const EDIT: &str = "/dinhba.v1.Records/Edit";
    const WATCH: &str = "/dinhba.v1.Records/Watch";

    const HASTE: Duration = Duration::from_millis(100);

    fn hasty() -> Gate {
        Gate { patience: Patience { bytes_within: HASTE, taken_within: HASTE }, ..Gate::default() }
    }

    fn person(subject: &str) -> Identity {
        Identity::Person(Claims::new(subject, Role::Registrar, UnitId(3), EvidenceId::default()).unwrap())
    }

    fn node() -> Identity {
        Identity::Node { site: SiteId(1), node: NodeId(2) }
    }

    /// A body to which the test gives what it likes, when it likes.
    fn body() -> (UnboundedSender<Bytes>, Body) {
        let (sender, chunks) = unbounded();
        (sender, Body::new(Given(chunks)))
    }

    struct Given(UnboundedReceiver<Bytes>);

    impl http_body::Body for Given {
        type Data = Bytes;
        type Error = Status;
        fn poll_frame(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            self.0.poll_next_unpin(task).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
        }
    }

    fn header(length: u32) -> Bytes {
        [&[0][..], &length.to_be_bytes()].concat().into()
    }

    fn request(caller: &Identity, path: &str, body: Body) -> http::Request<Body> {
        let mut request = http::Request::builder().uri(path).body(body).unwrap();
        request.extensions_mut().insert(Shown(Some(Ok(caller.clone()))));
        request
    }

    /// A service that reads one message and says how long it was, behind the gate.
    fn reading(
        gate: &Gate,
    ) -> impl Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible, Future: Send> + Clone
    {
        gate.layer(tower::service_fn(|mut request: http::Request<Body>| async move {
            let frame = std::future::poll_fn(|task| Pin::new(request.body_mut()).poll_frame(task)).await;
            Ok(match frame {
                Some(Ok(frame)) => {
                    let length = frame.data_ref().map_or(0, Bytes::len);
                    http::Response::builder().header("length", length).body(Body::empty()).unwrap()
                }
                Some(Err(status)) => status.into_http(),
                None => http::Response::new(Body::empty()),
            })
        }))
    }

    fn refusal(response: &http::Response<Body>) -> (Code, String) {
        let status = Status::from_header_map(response.headers()).expect("it was refused");
        (status.code(), status.message().to_owned())
    }

    #[tokio::test]
    async fn a_message_is_handed_on_once_it_is_whole_and_counts_until_then_as_what_is_here() {
        let gate = Gate::default();
        let (sender, body) = body();
        let reading = reading(&gate).oneshot(request(&person("lan"), EDIT, body));
        let mut reading = std::pin::pin!(reading);
        sender.unbounded_send(header(300_000)).unwrap();
        assert!((&mut reading).now_or_never().is_none());
        assert_eq!(lock(&gate.ledger).all.bytes, 0, "nothing is here but an announcement");
        for _ in 0..3 {
            sender.unbounded_send(vec![1; 99_999].into()).unwrap();
            assert!((&mut reading).now_or_never().is_none());
        }
        assert_eq!(lock(&gate.ledger).all.bytes, 299_997);
        // The end of this message and the beginning of the next one come together.
        sender.unbounded_send(vec![0; 5].into()).unwrap();
        let response = reading.await.unwrap();
        assert_eq!(response.headers()["length"], "300005");
        drop(response);
        let ledger = lock(&gate.ledger);
        assert!(ledger.callers.is_empty() && ledger.all.bytes == 0 && ledger.all.calls == 0);
        assert!(ledger.people.bytes == 0 && ledger.people.calls == 0);
    }

    #[tokio::test]
    async fn what_is_too_long_for_a_method_is_refused_by_its_first_five_bytes() {
        let gate = Gate::default();
        for (path, most) in [
            ("/grpc.health.v1.Health/Check", QUESTION_BYTES_MAX),
            ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", QUESTION_BYTES_MAX),
            ("/dinhba.v1.Site/Status", QUESTION_BYTES_MAX),
            ("/dinhba.v1.Records/Find", QUESTION_BYTES_MAX),
            (WATCH, QUESTION_BYTES_MAX),
            (EDIT, EDIT_BYTES_MAX),
        ] {
            let (sender, body) = body();
            sender.unbounded_send(header(u32::try_from(most).unwrap() + 1)).unwrap();
            let response = reading(&gate).oneshot(request(&person("lan"), path, body)).now_or_never();
            let (code, text) = refusal(&response.expect("at once").unwrap());
            assert!(code == Code::OutOfRange && text.contains("too large"), "{path}: {text}");
        }
    }

    #[tokio::test]
    async fn what_is_for_nodes_is_refused_to_people_unread() {
        let gate = Gate::default();
        for path in ["/dinhba.v1.Link/Session", "/dinhba.v1.Link/Locate", "/dinhba.peer.v1.Peer/Stream"] {
            let (sender, body) = body();
            let response = reading(&gate).oneshot(request(&person("lan"), path, body)).now_or_never();
            assert_eq!(refusal(&response.expect("at once").unwrap()).0, Code::PermissionDenied, "{path}");
            assert!(sender.is_closed(), "{path}: nothing more is wanted");
            let (sender, body) = self::body();
            sender.unbounded_send(header(100_000)).unwrap();
            assert!(reading(&gate).oneshot(request(&node(), path, body)).now_or_never().is_none());
        }
    }

    #[tokio::test]
    async fn one_caller_has_a_share_of_bytes_calls_and_streams_and_the_others_have_theirs() {
        let gate = Gate::default();
        let mut open = Vec::new();
        let mut send = |caller: &Identity, path, bytes: usize| {
            let (sender, body) = body();
            sender.unbounded_send(header(u32::try_from(bytes).unwrap() + 1)).unwrap();
            sender.unbounded_send(vec![1; bytes].into()).unwrap();
            let mut reading = reading(&gate).oneshot(request(caller, path, body)).boxed();
            let answer = (&mut reading).now_or_never();
            open.push((sender, reading));
            answer.map(|response| refusal(&response.unwrap()))
        };
        let (lan, hoa) = (person("lan"), person("hoa"));
        for _ in 0..BYTES_OF_PERSON_MAX / 500_000 {
            assert_eq!(send(&lan, EDIT, 500_000), None);
        }
        let (code, text) = send(&lan, EDIT, 500_000).expect("it has its share");
        assert!(code == Code::ResourceExhausted && text.contains("send less at a time"), "{text}");
        assert_eq!(send(&hoa, EDIT, 500_000), None);
        let refused = (0..1000).find_map(|number| send(&person(&format!("p{number}")), EDIT, 500_000));
        assert!(refused.is_some_and(|(_, text)| text.contains("all callers together")), "people have a share");
        assert_eq!(send(&node(), "/dinhba.peer.v1.Peer/Stream", 500_000), None);
        open.clear();
        assert!(lock(&gate.ledger).callers.is_empty());

        let call = |caller: &Identity, is_feed| Call::open(&gate.ledger, caller, is_feed);
        let feeds: Vec<_> = (0..FEEDS_OF_ONE_MAX).map(|_| call(&lan, true).unwrap()).collect();
        assert!(call(&lan, true).unwrap_err().message().contains("streams of this caller"));
        let calls: Vec<_> = (0..CALLS_OF_ONE_MAX - FEEDS_OF_ONE_MAX).map(|_| call(&lan, false).unwrap()).collect();
        assert!(call(&lan, false).unwrap_err().message().contains("calls of this caller"));
        assert!(call(&hoa, true).is_ok());
        drop((feeds, calls));
        assert!(call(&lan, true).is_ok());
    }

    #[tokio::test]
    async fn a_message_whose_rest_does_not_come_ends_the_call() {
        let gate = hasty();
        let (sender, body) = body();
        sender.unbounded_send(header(100)).unwrap();
        let response = reading(&gate).oneshot(request(&person("lan"), EDIT, body)).await.unwrap();
        assert_eq!(refusal(&response).0, Code::Unknown);
        drop(sender);
    }

    #[tokio::test]
    async fn a_call_whose_only_message_does_not_come_ends_and_a_stream_may_wait() {
        let gate = hasty();
        for path in
            [EDIT, WATCH, "/dinhba.v1.Site/Backup", "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"]
        {
            let (sender, body) = body();
            let reading = reading(&gate).oneshot(request(&person("lan"), path, body));
            let response = runtime::timeout(50 * HASTE, reading).await.expect(path).unwrap();
            assert_eq!(refusal(&response).0, Code::Unknown, "{path}");
            drop(sender);
        }
        for (caller, path) in [
            (person("lan"), "/dinhba.v1.Records/EditMany"),
            (person("lan"), "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"),
            (node(), "/dinhba.peer.v1.Peer/Stream"),
            (node(), "/dinhba.v1.Link/Session"),
        ] {
            let (sender, body) = body();
            let reading = reading(&gate).oneshot(request(&caller, path, body));
            assert!(runtime::timeout(3 * HASTE, reading).await.is_err(), "{path}");
            drop(sender);
        }
    }

    #[test]
    fn people_cannot_use_up_the_calls_and_what_stays_open_is_a_feed() {
        let gate = Gate::default();
        let call = |caller: &Identity| Call::open(&gate.ledger, caller, false);
        let people: Vec<_> = (0..CALLS_MAX).map_while(|at| call(&person(&format!("p{}", at / 500))).ok()).collect();
        assert_eq!(people.len(), CALLS_OF_PEOPLE_MAX);
        assert!(call(&node()).is_ok());
        drop(people);
        assert!(lock(&gate.ledger).people.calls == 0 && call(&person("lan")).is_ok());
        for path in
            ["/grpc.health.v1.Health/Watch", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", WATCH]
        {
            assert!(rule(path).is_feed, "{path}");
        }
        assert!(!rule("/grpc.health.v1.Health/Check").is_feed);
    }

    #[test]
    fn what_a_service_keeps_of_a_stream_counts_on_its_senders_budget() {
        let gate = Gate::default();
        let budget = || Budget(Arc::new(Call::open(&gate.ledger, &person("lan"), true).unwrap()));
        // As many streams as it likes: the budget is one.
        let held: Vec<_> = (0..100).map_while(|_| budget().hold(1 << 20).ok()).collect();
        assert_eq!(held.len(), BYTES_OF_PERSON_MAX >> 20);
        assert!(budget().hold(1).unwrap_err().message().contains("send less at a time"));
        drop(held);
        assert!(budget().hold(1).is_ok() && lock(&gate.ledger).callers.is_empty());
    }

    #[tokio::test]
    async fn what_has_no_end_of_its_own_ends_with_its_connections_time() {
        let gate = Gate::default();
        let (stay, ending) = Stay::begin();
        let on_it = |path, body| {
            let mut request = request(&person("lan"), path, body);
            request.extensions_mut().insert(stay.clone());
            request
        };
        // A feed, of which nothing came yet.
        let (pages, page_body) = body();
        let page_body = Mutex::new(Some(page_body));
        let feeding = gate.layer(tower::service_fn(move |_: http::Request<Body>| {
            let pages = lock(&page_body).take().expect("called once");
            async move { Ok::<_, Infallible>(http::Response::new(pages)) }
        }));
        let mut feed = feeding.oneshot(on_it(WATCH, Body::empty())).await.unwrap().into_body();
        // A stream of edits, in the middle of one.
        let (edits, edit_body) = body();
        edits.unbounded_send(header(3)).unwrap();
        edits.unbounded_send(vec![1].into()).unwrap();
        let (seen, mut messages) = unbounded();
        let reading = gate.layer(tower::service_fn(move |mut request: http::Request<Body>| {
            let seen = seen.clone();
            async move {
                while let Some(frame) = std::future::poll_fn(|task| Pin::new(request.body_mut()).poll_frame(task)).await
                {
                    let is_over = frame.is_err();
                    seen.unbounded_send(frame.map(|frame| frame.into_data().unwrap())).unwrap();
                    if is_over {
                        break;
                    }
                }
                Ok::<_, Infallible>(http::Response::new(Body::empty()))
            }
        }));
        let reading = runtime::spawn("reading", reading.oneshot(on_it("/dinhba.v1.Records/EditMany", edit_body)));
        // One edit, which ends by itself.
        let (edit, one_body) = body();
        let mut one = std::pin::pin!(self::reading(&gate).oneshot(on_it(EDIT, one_body)));
        assert!((&mut one).now_or_never().is_none());
        runtime::sleep(HASTE).await;
        ending.end();
        let trailers = std::future::poll_fn(|task| Pin::new(&mut feed).poll_frame(task)).await.unwrap().unwrap();
        let status = Status::from_header_map(&trailers.into_trailers().unwrap()).unwrap();
        assert!(status.code() == Code::Unavailable && dinhba_client::error::moves_on(&status), "{status:?}");
        runtime::sleep(HASTE).await;
        assert!(pages.is_closed(), "what the feed held is freed");
        edits.unbounded_send(vec![1, 1, 0, 0].into()).unwrap();
        let first: Bytes = messages.next().await.unwrap().unwrap();
        assert_eq!(first.len(), 8, "the one that had begun");
        assert!(dinhba_client::error::moves_on(&messages.next().await.unwrap().unwrap_err()));
        assert!(reading.await.unwrap().is_ok());
        edit.unbounded_send(header(1)).unwrap();
        edit.unbounded_send(vec![1].into()).unwrap();
        assert_eq!(one.await.unwrap().headers()["length"], "6");
    }

    #[tokio::test]
    async fn who_takes_nothing_of_a_feed_is_cut_off_and_who_takes_it_is_not() {
        let gate = hasty();
        let (sender, pages) = body();
        let pages = Mutex::new(Some(pages));
        let feeding = gate.layer(tower::service_fn(move |_: http::Request<Body>| {
            let pages = lock(&pages).take().expect("called once");
            async move { Ok::<_, Infallible>(http::Response::new(pages)) }
        }));
        let mut feed = feeding.oneshot(request(&person("lan"), WATCH, Body::empty())).await.unwrap().into_body();
        let mut next = async || std::future::poll_fn(|task| Pin::new(&mut feed).poll_frame(task)).await;
        for _ in 0..3 {
            // Nothing to take is no fault.
            runtime::sleep(2 * HASTE).await;
            sender.unbounded_send(vec![1; 1000].into()).unwrap();
            assert_eq!(next().await.unwrap().unwrap().data_ref().map(Bytes::len), Some(1000));
        }
        // A page that is taken slowly is taken.
        sender.unbounded_send(vec![1; 10 * PIECE_BYTES].into()).unwrap();
        for _ in 0..10 {
            runtime::sleep(HASTE / 2).await;
            assert_eq!(next().await.unwrap().unwrap().data_ref().map(Bytes::len), Some(PIECE_BYTES));
        }
        for _ in 0..10 {
            sender.unbounded_send(vec![1; 1000].into()).unwrap();
        }
        runtime::sleep(2 * HASTE).await;
        assert!(sender.is_closed(), "what the feed held is freed");
        assert!(next().await.unwrap().unwrap().is_data());
        let trailers = next().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(Status::from_header_map(&trailers).unwrap().code(), Code::Unknown);
    }
}
