//! The network between the nodes and the people of a simulated country.
//!
//! A connection behaves like gRPC over TCP: what is sent on one stream arrives in order or not at all; a message takes
//! the path's latency, jitter and its share of the bandwidth; on a path that is cut it waits. A connection whose keep-alives
//! get no answer in time breaks at both ends: nothing gets through, or too much is queued before them. A process that ends
//! breaks its connections at once; a power cut is silent, and its peers notice later. What serves a call runs as a task of
//! the listening node, and dies with it.
//!
//! Leaves out: TLS and HTTP/2 framing (the server's and client's message code is the real one), flow-control windows, and
//! name resolution. The identity of a caller is what its dialer was made with, as its certificate would say.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use dinhba_client::tls::{IDENTITY_HEADER, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT, node_name, site_name, split_name};
use dinhba_client::transport::{Dial, Transport, TransportError};
use dinhba_core::claims::Identity;
use dinhba_core::ids::{NodeId, SiteId};
use dinhba_node::pki::TrustHeader;
use dinhba_node::runtime::{self, NodeScope};
use futures::FutureExt;
use futures::channel::{mpsc, oneshot};
use futures::future::{BoxFuture, Either, select};
use futures::stream::StreamExt;
use http::HeaderValue;
use http_body::{Body as _, Frame};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use tonic::body::Body;
use tonic::service::Routes;
use tower::util::BoxCloneSyncService;
use tower::{ServiceExt, service_fn};

use crate::executor::Handle;

/// A connection over which nothing got through for so long is broken.
const SILENCE_MAX: Duration = KEEP_ALIVE_INTERVAL.saturating_add(KEEP_ALIVE_TIMEOUT);

/// How often a message that waits on a cut path looks whether it is mended.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What a frame costs on the wire beside its bytes: HTTP/2, TLS, TCP and IP headers.
const OVERHEAD_BYTES: u64 = 90;

/// How long a lost packet is waited for before it is sent again.
const RETRANSMIT: Duration = Duration::from_millis(300);

/// Somebody on the network: a node or a person, at a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Its tasks.
    pub scope: NodeScope,
    /// The site in whose rooms it stands, by its place in the country.
    pub site: usize,
}

/// How messages fare on a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// Nothing gets through.
    pub cut: bool,
    /// One way.
    pub latency: Duration,
    /// Up to so much more, at random.
    pub jitter: Duration,
    /// 0 for no limit. All connections from one site to another share it.
    pub bits_per_second: u64,
    /// Of a thousand messages so many are lost once and sent again; a tenth of the losses breaks the connection.
    pub lost_per_mille: u16,
}

/// Which ends a disturbance concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// A whole site.
    Site(usize),
    /// One node.
    Node(NodeScope),
    /// Everybody.
    Anyone,
}

impl End {
    fn is(self, endpoint: Endpoint) -> bool {
        match self {
            End::Site(site) => endpoint.site == site,
            End::Node(scope) => endpoint.scope == scope,
            End::Anyone => true,
        }
    }
}

/// What a disturbance does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing gets through.
    Cut,
    /// Slower, and thinner unless 0.
    Slow(Duration, u64),
    /// Loses so many of a thousand messages.
    Lossy(u16),
}

/// A disturbance of the ways from one end to another, in this direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disturbance {
    /// Who sends.
    pub from: End,
    /// Who receives. Traffic inside one site is concerned only if an end is a node.
    pub to: End,
    /// What happens.
    pub trouble: Trouble,
}

/// Names a disturbance, to end it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DisturbanceId(u64);

#[derive(Clone)]
struct Listener {
    endpoint: Endpoint,
    names: [String; 2],
    routes: Routes,
}

struct State {
    inside: Path,
    between: Path,
    rng: ChaCha8Rng,
    listeners: BTreeMap<String, Listener>,
    disturbances: BTreeMap<DisturbanceId, Disturbance>,
    next: u64,
    connections: BTreeMap<u64, Arc<Connection>>,
    /// When the way from one site to another has sent what it was given.
    busy_until: BTreeMap<(usize, usize), runtime::Instant>,
    messages: BTreeMap<(usize, usize), Count>,
    total: Count,
}

/// Messages and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Frames.
    pub messages: u64,
    /// With headers.
    pub bytes: u64,
}

impl Count {
    fn add(&mut self, bytes: u64) {
        self.messages += 1;
        self.bytes += bytes;
    }
}

/// The network; clones are the same.
#[derive(Clone)]
pub struct Wire {
    simulator: Handle,
    state: Arc<Mutex<State>>,
}

struct Connection {
    from: Endpoint,
    to: Endpoint,
    end: Mutex<Ends>,
}

#[derive(Default)]
struct Ends {
    broken: Option<&'static str>,
    /// Who waits for it to break, by the number of their [`Watch`].
    waiting: BTreeMap<u64, Waker>,
    watches: u64,
    /// When the last message of each direction arrives: no later one overtakes it.
    last: [Option<runtime::Instant>; 2],
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Reset(&'static str);

impl Connection {
    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn break_off(&self, why: &'static str) {
        let waiting = {
            let mut ends = self.ends();
            ends.broken.get_or_insert(why);
            std::mem::take(&mut ends.waiting)
        };
        waiting.into_values().for_each(Waker::wake);
    }

    fn watch(self: &Arc<Self>) -> Watch {
        let mut ends = self.ends();
        ends.watches += 1;
        Watch { connection: Arc::clone(self), number: ends.watches }
    }

    fn direction(&self, forth: bool) -> (Endpoint, Endpoint) {
        if forth { (self.from, self.to) } else { (self.to, self.from) }
    }
}

/// Somebody who waits for a connection to break.
struct Watch {
    connection: Arc<Connection>,
    number: u64,
}

impl Watch {
    /// Why it is broken; if it is not, the task is woken when it breaks.
    fn broken(&self, task: &Context<'_>) -> Option<Reset> {
        let mut ends = self.connection.ends();
        if ends.broken.is_none() {
            match ends.waiting.get_mut(&self.number) {
                Some(waker) => waker.clone_from(task.waker()),
                None => _ = ends.waiting.insert(self.number, task.waker().clone()),
            }
        }
        ends.broken.map(Reset)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.connection.ends().waiting.remove(&self.number);
    }
}

/// One message on its way.
struct Packet<T> {
    due: runtime::Instant,
    content: T,
}

impl Wire {
    /// A network whose undisturbed ways are `inside` one site and `between` two.
    #[must_use]
    pub fn new(simulator: Handle, seed: u64, inside: Path, between: Path) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(0x77_69_72_65);
        let state = State {
            inside,
            between,
            rng,
            listeners: BTreeMap::new(),
            disturbances: BTreeMap::new(),
            next: 0,
            connections: BTreeMap::new(),
            busy_until: BTreeMap::new(),
            messages: BTreeMap::new(),
            total: Count::default(),
        };
        Wire { simulator, state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on calls to `address` reach these services.
    pub fn listen(&self, address: &str, endpoint: Endpoint, site: SiteId, node: NodeId, routes: Routes) {
        let names = [node_name(node), site_name(site)];
        self.state().listeners.insert(address.to_owned(), Listener { endpoint, names, routes });
    }

    /// The process is gone. Its peers hear of it, or, after a power cut, do not.
    pub fn gone(&self, endpoint: Endpoint, is_heard: bool) {
        let (listeners, connections) = {
            let mut state = self.state();
            let (gone, stay) =
                std::mem::take(&mut state.listeners).into_iter().partition(|(_, l)| l.endpoint == endpoint);
            state.listeners = stay;
            let concerned = |c: &Arc<Connection>| c.from == endpoint || c.to == endpoint;
            let (gone_too, stay) = std::mem::take(&mut state.connections).into_iter().partition(|(_, c)| concerned(c));
            state.connections = stay;
            let (gone, gone_too): (BTreeMap<String, Listener>, BTreeMap<u64, Arc<Connection>>) = (gone, gone_too);
            (gone, gone_too)
        };
        // Outside the lock: services own connections of their own.
        drop(listeners);
        if is_heard {
            connections.into_values().for_each(|connection| connection.break_off("the peer's process ended"));
            return;
        }
        for connection in connections.into_values() {
            // Not a task of the node: it has no power.
            self.simulator.spawn_in(NodeScope::default(), "silence", async move {
                runtime::sleep(SILENCE_MAX).await;
                connection.break_off("the peer stopped answering");
            });
        }
    }

    /// Begins a disturbance.
    pub fn disturb(&self, disturbance: Disturbance) -> DisturbanceId {
        let mut state = self.state();
        let id = DisturbanceId(state.next);
        state.next += 1;
        state.disturbances.insert(id, disturbance);
        id
    }

    /// Ends a disturbance.
    pub fn mend(&self, id: DisturbanceId) {
        self.state().disturbances.remove(&id);
    }

    /// Forgets who listens and what is connected.
    pub fn close(&self) {
        let (listeners, connections) = {
            let mut state = self.state();
            (std::mem::take(&mut state.listeners), std::mem::take(&mut state.connections))
        };
        drop((listeners, connections));
    }

    /// Ends all disturbances.
    pub fn mend_all(&self) {
        self.state().disturbances.clear();
    }

    /// Messages from site to site since the last call.
    #[must_use]
    pub fn take_counts(&self) -> BTreeMap<(usize, usize), Count> {
        std::mem::take(&mut self.state().messages)
    }

    /// All messages since the country was laid out, those inside a site too.
    #[must_use]
    pub fn total(&self) -> Count {
        self.state().total
    }

    /// Connects for somebody.
    #[must_use]
    pub fn dialer(&self, from: Endpoint, identity: &Identity) -> Arc<dyn Dial> {
        let identity = HeaderValue::from_str(&identity.uri()).expect("an identity's URI is printable ASCII");
        Arc::new(Dialer { wire: self.clone(), from, identity })
    }

    /// When a message that is sent now arrives, if the way stays as it is.
    fn send(&self, connection: &Connection, forth: bool, bytes: usize) -> runtime::Instant {
        let (from, to) = connection.direction(forth);
        let mut state = self.state();
        let path = state.path(from, to);
        let bytes = bytes as u64 + OVERHEAD_BYTES;
        state.messages.entry((from.site, to.site)).or_default().add(bytes);
        state.total.add(bytes);
        let now = runtime::now();
        let mut sent = now;
        if let Some(micros) = (bytes * 8 * 1_000_000).checked_div(path.bits_per_second) {
            let takes = Duration::from_micros(micros);
            let way = (from.site, to.site);
            let free = state.busy_until.get(&way).copied().unwrap_or(now).max(now);
            if free - now > SILENCE_MAX {
                // What was queued went with the connections that had queued it.
                state.busy_until.remove(&way);
                drop(state);
                connection.break_off("too much is queued");
                return now;
            }
            sent = free + takes;
            state.busy_until.insert(way, sent);
        }
        let mut arrives = sent + path.latency + state.up_to(path.jitter);
        if path.lost_per_mille > 0 {
            let mut wait = RETRANSMIT;
            while state.rng.next_u64() % 1000 < u64::from(path.lost_per_mille) {
                if state.rng.next_u64().is_multiple_of(10) {
                    drop(state);
                    connection.break_off("too many packets were lost");
                    return arrives;
                }
                arrives += wait;
                wait *= 2;
            }
        }
        drop(state);
        let last = &mut connection.ends().last[usize::from(forth)];
        let arrives = last.map_or(arrives, |last| last.max(arrives));
        *last = Some(arrives);
        arrives
    }

    fn is_cut(&self, connection: &Connection, forth: bool) -> bool {
        let (from, to) = connection.direction(forth);
        self.state().path(from, to).cut
    }

    /// Waits until `due`, and as long as the way is cut; an error if the connection breaks.
    async fn arrive(&self, connection: &Arc<Connection>, forth: bool, due: runtime::Instant) -> Result<(), Reset> {
        let watch = connection.watch();
        let waited = async {
            runtime::sleep_until(due).await;
            while self.is_cut(connection, forth) {
                if runtime::now() - due > SILENCE_MAX {
                    connection.break_off("nothing got through");
                }
                runtime::sleep(LOOK_EVERY).await;
            }
        };
        let mut waited = std::pin::pin!(waited);
        std::future::poll_fn(|task| match watch.broken(task) {
            Some(reset) => Poll::Ready(Err(reset)),
            None => waited.as_mut().poll(task).map(Ok),
        })
        .await
    }
}

impl State {
    fn path(&self, from: Endpoint, to: Endpoint) -> Path {
        let mut path = if from.site == to.site { self.inside } else { self.between };
        for disturbance in self.disturbances.values() {
            let by_node = matches!(disturbance.from, End::Node(_)) || matches!(disturbance.to, End::Node(_));
            if !disturbance.from.is(from) || !disturbance.to.is(to) || (from.site == to.site && !by_node) {
                continue;
            }
            match disturbance.trouble {
                Trouble::Cut => path.cut = true,
                Trouble::Slow(latency, bits_per_second) => {
                    path.latency = path.latency.max(latency);
                    if bits_per_second > 0 {
                        path.bits_per_second = bits_per_second;
                    }
                }
                Trouble::Lossy(per_mille) => path.lost_per_mille = path.lost_per_mille.max(per_mille),
            }
        }
        path
    }

    fn up_to(&mut self, most: Duration) -> Duration {
        let most = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        if most == 0 { Duration::ZERO } else { Duration::from_micros(self.rng.next_u64() % most) }
    }
}

struct Dialer {
    wire: Wire,
    from: Endpoint,
    identity: HeaderValue,
}

impl Dial for Dialer {
    fn dial(&self, address: String) -> BoxFuture<'static, Result<Transport, TransportError>> {
        let (wire, from, identity) = (self.wire.clone(), self.from, self.identity.clone());
        async move { wire.connect(from, &address, identity).await.map_err(TransportError::from) }.boxed()
    }
}

impl Wire {
    async fn connect(&self, from: Endpoint, address: &str, identity: HeaderValue) -> Result<Transport, Reset> {
        let (name, host_port) = split_name(address);
        // The way there is that of the address, whether anybody listens or not.
        let listener = self.state().listeners.get(host_port).cloned();
        let Some(listener) = listener else {
            let round_trip = self.state().between.latency * 2;
            runtime::sleep(round_trip).await;
            return Err(Reset("nobody listens there"));
        };
        let connection = Arc::new(Connection { from, to: listener.endpoint, end: Mutex::default() });
        for forth in [true, false] {
            let due = self.send(&connection, forth, 0);
            self.arrive(&connection, forth, due).await?;
        }
        let routes = {
            let mut state = self.state();
            // The process may have ended meanwhile, and another one begun in its place.
            let now = state.listeners.get(host_port).filter(|now| now.endpoint == listener.endpoint);
            let Some(Listener { names, routes, .. }) = now.cloned() else { return Err(Reset("nobody listens there")) };
            if name.is_some_and(|name| !names.iter().any(|known| known == name)) {
                return Err(Reset("the certificate is another's"));
            }
            let id = state.next;
            state.next += 1;
            state.connections.retain(|_, open| Arc::strong_count(open) > 1);
            state.connections.insert(id, Arc::clone(&connection));
            routes
        };
        let wire = self.clone();
        let transport = service_fn(move |mut request: http::Request<Body>| {
            request.headers_mut().insert(IDENTITY_HEADER, identity.clone());
            request.extensions_mut().insert(TrustHeader);
            let (wire, connection, routes) = (wire.clone(), Arc::clone(&connection), routes.clone());
            async move { wire.call(connection, routes, request).await.map_err(TransportError::from) }
        });
        Ok(BoxCloneSyncService::new(transport))
    }

    async fn call(
        &self,
        connection: Arc<Connection>,
        routes: Routes,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, Reset> {
        let watch = connection.watch();
        if let Some(why) = connection.ends().broken {
            return Err(Reset(why));
        }
        let (head, body) = request.into_parts();
        let body = self.ship(&connection, true, body).await;
        let due = self.send(&connection, true, 0);
        let (sender, answer) = oneshot::channel();
        let (wire, serving) = (self.clone(), Arc::clone(&connection));
        self.simulator.spawn_in(connection.to.scope, "serve", async move {
            if wire.arrive(&serving, true, due).await.is_err() {
                return;
            }
            // A caller that goes away takes its call along, as a reset of its stream would.
            let mut sender = sender;
            let handled = routes.oneshot(http::Request::from_parts(head, body));
            let Either::Left((Ok(response), _)) = select(handled, sender.cancellation()).await else { return };
            let (head, body) = response.into_parts();
            let body = wire.ship(&serving, false, body).await;
            let due = wire.send(&serving, false, 0);
            let _ = sender.send(Packet { due, content: http::Response::from_parts(head, body) });
        });
        let mut answer = answer;
        let answered = std::future::poll_fn(|task| match watch.broken(task) {
            Some(reset) => Poll::Ready(Err(reset)),
            None => match answer.poll_unpin(task) {
                Poll::Ready(Ok(answer)) => Poll::Ready(Ok(answer)),
                // Who served it is gone: a matter of time until that is noticed.
                Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
            },
        });
        let answer = answered.await?;
        self.arrive(&connection, false, answer.due).await?;
        Ok(answer.content)
    }

    /// Sends a body: the result is what arrives at the other end. Runs on at the sending end for as long as there is more.
    async fn ship(&self, connection: &Arc<Connection>, forth: bool, body: Body) -> Body {
        let (sender, packets) = mpsc::unbounded();
        let (dropped, unwanted) = oneshot::channel();
        let mut pump = Pump { wire: self.clone(), watch: connection.watch(), forth, body, sender, unwanted };
        let done = std::future::poll_fn(|task| Poll::Ready(pump.poll_all(task).is_ready())).await;
        if !done {
            runtime::spawn("send", std::future::poll_fn(move |task| pump.poll_all(task)));
        }
        Body::new(Arriving {
            wire: self.clone(),
            watch: connection.watch(),
            forth,
            packets,
            next: VecDeque::new(),
            sleep: None,
            ended: false,
            _dropped: dropped,
        })
    }
}

/// What travels of a body; `None` is its end.
type Part = Option<Result<Frame<Bytes>, tonic::Status>>;

/// The sending end of a body.
struct Pump {
    wire: Wire,
    watch: Watch,
    forth: bool,
    body: Body,
    sender: mpsc::UnboundedSender<Packet<Part>>,
    /// Ends when the receiving end is dropped.
    unwanted: oneshot::Receiver<()>,
}

impl Pump {
    fn poll_all(&mut self, task: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.watch.broken(task).is_some() || self.unwanted.poll_unpin(task).is_ready() {
                return Poll::Ready(());
            }
            let part = std::task::ready!(Pin::new(&mut self.body).poll_frame(task));
            let bytes = match &part {
                Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
                _ => 0,
            };
            let ended = !matches!(part, Some(Ok(_)));
            let due = self.wire.send(&self.watch.connection, self.forth, bytes);
            if self.sender.unbounded_send(Packet { due, content: part }).is_err() || ended {
                return Poll::Ready(());
            }
        }
    }
}

/// The receiving end of a body.
struct Arriving {
    wire: Wire,
    watch: Watch,
    forth: bool,
    packets: mpsc::UnboundedReceiver<Packet<Part>>,
    next: VecDeque<Packet<Part>>,
    sleep: Option<Pin<Box<runtime::Sleep>>>,
    ended: bool,
    _dropped: oneshot::Sender<()>,
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = TransportError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TransportError>>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        if let Some(reset) = this.watch.broken(task) {
            this.ended = true;
            return Poll::Ready(Some(Err(reset.into())));
        }
        loop {
            if this.next.is_empty() {
                match std::task::ready!(this.packets.poll_next_unpin(task)) {
                    Some(packet) => this.next.push_back(packet),
                    // The sender's task is gone without a word: a matter of time until that is noticed.
                    None => return Poll::Pending,
                }
            }
            if let Some(sleep) = &mut this.sleep {
                std::task::ready!(sleep.as_mut().poll(task));
                this.sleep = None;
            }
            let (due, now) = (this.next.front().map_or_else(runtime::now, |packet| packet.due), runtime::now());
            if now < due {
                this.sleep = Some(Box::pin(runtime::sleep_until(due)));
                continue;
            }
            if this.wire.is_cut(&this.watch.connection, this.forth) {
                if now - due > SILENCE_MAX {
                    this.watch.connection.break_off("nothing got through");
                    this.ended = true;
                    return Poll::Ready(Some(Err(Reset("nothing got through").into())));
                }
                this.sleep = Some(Box::pin(runtime::sleep(LOOK_EVERY)));
                continue;
            }
            let part = this.next.pop_front().and_then(|packet| packet.content);
            this.ended = !matches!(part, Some(Ok(_)));
            return Poll::Ready(part.map(|part| part.map_err(TransportError::from)));
        }
    }
}
