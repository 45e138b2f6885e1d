//! The node's own door: with what it serves, and with what it dials.
//!
//! Owns: turning `[tls]` into a door at which every caller shows a certificate ([`Door::admit`]), a gRPC server
//! ([`Door::server`]), and the node's dialer ([`Door::dialer`]); listening; how many may stand in the door and be inside.
//! Promises: without a certificate of the authority, valid now, nobody gets past the handshake, and who did not is told of and
//! counted (`refusals`); without TLS the node listens on loopback addresses alone, whatever a name resolves to; the node's own
//! certificate, key and configuration fit each other, or it does not start. Nobody keeps others out by being slow or many: a
//! handshake has an end, callers of one address and of one identity have a share, and nodes have places that people cannot take.
//! Leaves to others: who the caller is (`pki::peer_identity`), what it may do, the gRPC services, and the limit on a message.
//! Limits: certificates are read at start, so a renewed one needs a restart; there is no revocation list; that a caller's
//! certificate ends is not seen on a connection that stays open.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use dinhba_client::handshake::{By, Fault, Refusal, Validity};
use dinhba_client::tls::{
    ALPN_HTTP2, CONNECT_TIMEOUT, Credentials, DialError, HEADER_BYTES_MAX, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT,
    LoopbackDialer, STREAMS_MAX, TlsDialer, authorities, certificates, private_key,
};
use dinhba_client::transport::Dial;
use dinhba_core::claims::Identity;
use dinhba_core::date::InstantMs;
use futures::StreamExt;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ServerConfig, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::either::Either;
use tonic::service::{Interceptor, InterceptorLayer};
use tonic::transport::Server;
use tonic::transport::server::{Connected, TcpIncoming};
use tonic::{Request, Status};
use tower::layer::util::{Identity as NoLayer, Stack};

use crate::config::{Address, Config, Tls};
use crate::pki::{Shown, TrustHeader, certificate_identity};
use crate::refusals::{Refusals, Side};
use crate::runtime;

/// Handshakes under way: some tens of kB each, over within [`CONNECT_TIMEOUT`], and thousands a second where nobody dawdles.
const HANDSHAKES_MAX: usize = 256;
/// Of these for one address: a quarter, so that one machine that sends nothing does not keep the others out.
const HANDSHAKES_OF_ONE_MAX: usize = 64;
/// Open connections: with the handshakes, the engine's tables and the log they stay below the 1,024 files that a system allows a
/// process by default.
const CONNECTIONS_MAX: usize = 512;
/// Of these for people and applications: the rest is for nodes, so that a crowd does not cut the site off from itself.
const CONNECTIONS_OF_PEOPLE_MAX: usize = 384;
/// Of these for one identity: an application's pool is some dozens, a peer or a link has one per node and group.
const CONNECTIONS_OF_ONE_MAX: usize = 64;
/// After what the operating system refuses to accept, such as when no more files may be open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the node cannot open its door.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DoorError {
    /// A file cannot be read.
    #[error("[tls] {0}")]
    File(#[from] DialError),
    /// What is in a file does not fit.
    #[error("`{key}` {path}: {reason}: {instead}")]
    Misfit {
        /// The configuration's key.
        key: &'static str,
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
        /// What to do.
        instead: &'static str,
    },
    /// TLS could not be set up from files that looked well.
    #[error("TLS cannot be set up: {0}: check the files of [tls]")]
    Setup(String),
    /// Without TLS a name led to another address than this machine's own.
    #[error("{address} is {resolved}, which is not this machine alone: without TLS, listen at 127.0.0.1")]
    NotLoopback {
        /// As configured.
        address: String,
        /// What it stands for.
        resolved: SocketAddr,
    },
    /// The address cannot be listened at.
    #[error("cannot listen at {address}: {reason}: stop what uses the port, or choose another address")]
    Listen {
        /// As configured.
        address: String,
        /// What the operating system said.
        reason: String,
    },
}

/// With what a node serves and dials.
#[derive(Debug, Clone)]
pub enum Door {
    /// Mutual TLS.
    Mutual(Credentials),
    /// No protection, this machine alone; callers say who they are, and so does this node.
    UnsafeLoopback(Identity),
}

/// Marks requests whose header may say who sent them; see [`TrustHeader`].
#[derive(Debug, Clone, Copy)]
pub struct MarkTrust {
    header: bool,
}

impl Interceptor for MarkTrust {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if self.header {
            request.extensions_mut().insert(TrustHeader);
        }
        Ok(request)
    }
}

/// A gRPC server to which services are added.
pub type DoorServer = Server<Stack<InterceptorLayer<MarkTrust>, NoLayer>>;

impl Door {
    /// Reads and checks what `[tls]` names.
    pub fn open(config: &Config) -> Result<Self, DoorError> {
        let own = Identity::Node { site: config.node.site, node: config.node.id };
        match &config.tls {
            Tls::UnsafeLoopback => Ok(Door::UnsafeLoopback(own)),
            Tls::Mutual { ca, certificate, key } => {
                let credentials = Credentials::read(ca, certificate, key)?;
                check_ca(ca, &credentials)?;
                check_own(certificate, key, &credentials, &own)?;
                Ok(Door::Mutual(credentials))
            }
        }
    }

    /// Until when this node's own certificate is valid; without TLS it has none.
    #[must_use]
    pub fn validity(&self) -> Option<Validity> {
        match self {
            Door::Mutual(credentials) => Validity::of(&credentials.certificate),
            Door::UnsafeLoopback(_) => None,
        }
    }

    /// A server with the time limits of both ends.
    #[must_use]
    pub fn server(&self) -> DoorServer {
        let header = matches!(self, Door::UnsafeLoopback(_));
        Server::builder()
            .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
            .http2_max_header_list_size(HEADER_BYTES_MAX)
            .max_concurrent_streams(STREAMS_MAX)
            .layer(InterceptorLayer::new(MarkTrust { header }))
    }

    /// Those of the callers at `incoming` that get in. Needs a tokio runtime around it.
    pub fn admit(
        &self,
        mut incoming: TcpIncoming,
        refusals: Arc<Refusals>,
    ) -> Result<ReceiverStream<io::Result<Inside>>, DoorError> {
        let tls = match self {
            Door::Mutual(credentials) => Some(Handshakes::new(credentials).map_err(DoorError::Setup)?),
            Door::UnsafeLoopback(_) => None,
        };
        let porter = Arc::new(Porter { tls, refusals, crowd: Arc::default() });
        // Who has got in waits for the server alone, which takes everybody at once.
        let (inside, admitted) = mpsc::channel(1);
        runtime::spawn("door", async move {
            loop {
                let accepted = tokio::select! {
                    accepted = incoming.next() => accepted,
                    () = inside.closed() => return,
                };
                match accepted {
                    Some(Ok(stream)) => porter.receive(stream, &inside),
                    Some(Err(error)) => {
                        tracing::warn!(%error, "callers cannot be received now");
                        runtime::sleep(ACCEPT_PAUSE).await;
                    }
                    None => return,
                }
            }
        });
        Ok(ReceiverStream::new(admitted))
    }

    /// Dials other nodes as this one.
    #[must_use]
    pub fn dialer(&self) -> Arc<dyn Dial> {
        match self {
            Door::Mutual(credentials) => Arc::new(TlsDialer::new(credentials)),
            Door::UnsafeLoopback(own) => Arc::new(LoopbackDialer::new(own)),
        }
    }

    /// Listens at `address`; if unsafe, only on this machine. Needs a tokio runtime around it.
    pub fn listen(&self, address: &Address) -> Result<TcpIncoming, DoorError> {
        let sockets = sockets(address)?;
        if let Door::UnsafeLoopback(_) = self {
            // The configuration was checked by its text; what counts is what the text stands for.
            if let Some(resolved) = sockets.iter().find(|socket| !socket.ip().is_loopback()) {
                return Err(DoorError::NotLoopback { address: address.to_string(), resolved: *resolved });
            }
        }
        bind(address, &sockets)
    }
}

/// Listens at `address`, for the page of metrics. Needs a tokio runtime around it.
pub fn listen_plain(address: &Address) -> Result<TcpIncoming, DoorError> {
    bind(address, &sockets(address)?)
}

fn sockets(address: &Address) -> Result<Vec<SocketAddr>, DoorError> {
    address.resolve().map_err(|error| listen_error(address, error))
}

/// Listens at the first address: `localhost` has two, and peers dial the one that is advertised.
fn bind(address: &Address, sockets: &[SocketAddr]) -> Result<TcpIncoming, DoorError> {
    let socket = sockets.first().ok_or_else(|| listen_error(address, "it stands for no address"))?;
    let incoming = TcpIncoming::bind(*socket).map_err(|error| listen_error(address, error))?;
    Ok(incoming.with_nodelay(Some(true)))
}

fn listen_error(address: &Address, reason: impl std::fmt::Display) -> DoorError {
    DoorError::Listen { address: address.to_string(), reason: reason.to_string() }
}

fn check_ca(path: &Path, credentials: &Credentials) -> Result<(), DoorError> {
    authorities(&credentials.ca).map(drop).map_err(|reason| DoorError::Misfit {
        key: "tls.ca",
        path: path.display().to_string(),
        reason,
        instead: "name the authority's certificate",
    })
}

fn check_own(path: &Path, key_path: &Path, credentials: &Credentials, own: &Identity) -> Result<(), DoorError> {
    let misfit = |reason: String| DoorError::Misfit {
        key: "tls.certificate",
        path: path.display().to_string(),
        reason,
        instead: "name the certificate that was issued for node.id and node.site",
    };
    let chain = certificates(&credentials.certificate).map_err(misfit)?;
    let leaf = chain.first().ok_or_else(|| misfit("no certificate in it".to_owned()))?;
    let named = certificate_identity(leaf).map_err(|error| misfit(error.to_string()))?;
    if named != *own {
        return Err(misfit(format!("it is the certificate of {}, and this node is {}", named.uri(), own.uri())));
    }
    certified_key(credentials, &rustls::crypto::ring::default_provider()).map(drop).map_err(|reason| {
        DoorError::Misfit {
            key: "tls.key",
            path: key_path.display().to_string(),
            reason,
            instead: "name the private key that belongs to tls.certificate",
        }
    })
}

fn certified_key(credentials: &Credentials, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let (chain, key) = (certificates(&credentials.certificate)?, private_key(&credentials.key)?);
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => "the key does not match the certificate".to_owned(),
        other => other.to_string(),
    })
}

/// What each handshake is made with.
struct Handshakes {
    provider: Arc<CryptoProvider>,
    callers: Arc<dyn ClientCertVerifier>,
    own: Arc<SingleCertAndKey>,
    validity: Option<Validity>,
}

impl Handshakes {
    fn new(credentials: &Credentials) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = Arc::new(authorities(&credentials.ca)?);
        let callers = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
        let own = Arc::new(SingleCertAndKey::from(certified_key(credentials, &provider)?));
        let callers = callers.map_err(|error| error.to_string())?;
        Ok(Handshakes { provider, callers, own, validity: Validity::of(&credentials.certificate) })
    }

    /// A configuration of its own for each handshake, whose witness says afterwards who was refused.
    fn config(&self, witness: Arc<Witness>) -> Result<ServerConfig, rustls::Error> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider));
        let builder = builder.with_safe_default_protocol_versions()?.with_client_cert_verifier(witness);
        let mut config = builder.with_cert_resolver(Arc::clone(&self.own) as _);
        config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
        // Nobody comes back without showing a certificate that is valid then.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

/// Remembers whose certificate is being verified.
#[derive(Debug)]
struct Witness {
    callers: Arc<dyn ClientCertVerifier>,
    seen: OnceLock<CertificateDer<'static>>,
}

impl ClientCertVerifier for Witness {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.callers.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let _ = self.seen.set(end_entity.clone().into_owned());
        self.callers.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.callers.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.callers.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.callers.supported_verify_schemes()
    }
}

/// How many stand in the door, by address, and how many are inside, by identity.
#[derive(Debug, Default)]
struct Crowd {
    handshakes: Count<IpAddr>,
    connections: Count<String>,
    people: usize,
}

#[derive(Debug)]
struct Count<K> {
    all: usize,
    of_one: BTreeMap<K, usize>,
}

impl<K> Default for Count<K> {
    fn default() -> Self {
        Count { all: 0, of_one: BTreeMap::new() }
    }
}

impl<K: Ord> Count<K> {
    fn of(&self, one: &K) -> usize {
        self.of_one.get(one).copied().unwrap_or_default()
    }

    fn add(&mut self, one: K) {
        self.all += 1;
        *self.of_one.entry(one).or_default() += 1;
    }

    fn remove(&mut self, one: &K) {
        self.all -= 1;
        if let Some(count) = self.of_one.get_mut(one) {
            *count -= 1;
            if *count == 0 {
                self.of_one.remove(one);
            }
        }
    }
}

/// A place in the door or inside, which is free again when it is dropped.
struct Place {
    crowd: Arc<Mutex<Crowd>>,
    whose: Whose,
}

enum Whose {
    Address(IpAddr),
    Person(String),
    Node(String),
}

impl Place {
    fn take(crowd: &Arc<Mutex<Crowd>>, whose: Whose) -> Result<Self, Fault> {
        let mut counts = crowd.lock().unwrap_or_else(PoisonError::into_inner);
        match &whose {
            Whose::Address(address) => {
                if counts.handshakes.all >= HANDSHAKES_MAX {
                    return Err(Fault::Many("too many handshakes of all under way"));
                }
                if counts.handshakes.of(address) >= HANDSHAKES_OF_ONE_MAX {
                    return Err(Fault::Many("too many handshakes under way"));
                }
                counts.handshakes.add(*address);
            }
            Whose::Person(identity) | Whose::Node(identity) => {
                let is_person = matches!(whose, Whose::Person(_));
                if counts.connections.of(identity) >= CONNECTIONS_OF_ONE_MAX {
                    return Err(Fault::Many("too many connections open"));
                }
                if counts.connections.all >= CONNECTIONS_MAX || is_person && counts.people >= CONNECTIONS_OF_PEOPLE_MAX
                {
                    return Err(Fault::Many("come when too many connections of all were open"));
                }
                counts.people += usize::from(is_person);
                counts.connections.add(identity.clone());
            }
        }
        drop(counts);
        Ok(Place { crowd: Arc::clone(crowd), whose })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.crowd.lock().unwrap_or_else(PoisonError::into_inner);
        match &self.whose {
            Whose::Address(address) => counts.handshakes.remove(address),
            Whose::Node(identity) => counts.connections.remove(identity),
            Whose::Person(identity) => {
                counts.people -= 1;
                counts.connections.remove(identity);
            }
        }
    }
}

/// Lets callers in, or not.
struct Porter {
    tls: Option<Handshakes>,
    refusals: Arc<Refusals>,
    crowd: Arc<Mutex<Crowd>>,
}

impl Porter {
    /// Sees to one caller, beside the others.
    fn receive(self: &Arc<Self>, stream: TcpStream, inside: &mpsc::Sender<io::Result<Inside>>) {
        // Who has gone already needs no answer.
        let Ok(peer) = stream.peer_addr() else { return };
        let address = peer.ip().to_canonical();
        let place = match Place::take(&self.crowd, Whose::Address(address)) {
            Ok(place) => place,
            Err(fault) => return self.tell(address.to_string(), By::Us, fault),
        };
        let (porter, inside) = (Arc::clone(self), inside.clone());
        runtime::spawn("handshake", async move {
            let let_in = porter.let_in(stream, address).await;
            drop(place);
            match let_in {
                // The server takes no more when the node stops.
                Ok(let_in) => drop(inside.send(Ok(let_in)).await),
                Err(refusal) => porter.refusals.note(Side::Door, &refusal),
            }
        });
    }

    fn tell(&self, peer: String, by: By, fault: Fault) {
        self.refusals.note(Side::Door, &self.refusal(peer, by, fault));
    }

    fn refusal(&self, peer: String, by: By, fault: Fault) -> Refusal {
        let own = self.tls.as_ref().and_then(|tls| tls.validity);
        Refusal { peer, by, fault, own, now: InstantMs(runtime::utc_ms()) }
    }

    async fn let_in(&self, stream: TcpStream, address: IpAddr) -> Result<Inside, Refusal> {
        let Some(tls) = &self.tls else {
            // All say of themselves who they are, in each request: no two connections are known to be of one.
            let place = Place::take(&self.crowd, Whose::Node(format!("{address} {}", runtime::random_u64())));
            let place = place.map_err(|fault| self.refusal(address.to_string(), By::Us, fault))?;
            return Ok(Inside { way: Either::Left(stream), shown: Shown(None), _place: place });
        };
        let witness = Arc::new(Witness { callers: Arc::clone(&tls.callers), seen: OnceLock::new() });
        let config = tls
            .config(Arc::clone(&witness))
            .map_err(|error| self.refusal(address.to_string(), By::Us, Fault::Other(error.to_string())))?;
        let accepting = TlsAcceptor::from(Arc::new(config)).accept(stream);
        let accepted = runtime::timeout(CONNECT_TIMEOUT, accepting).await;
        let shown = witness.seen.get().map(|certificate| certificate_identity(certificate));
        let peer = match &shown {
            Some(Ok(identity)) => format!("{address} ({})", identity.uri()),
            Some(Err(_)) => format!("{address} (nobody by its certificate)"),
            None => address.to_string(),
        };
        let refused = |by, fault| self.refusal(peer.clone(), by, fault);
        let stream = match accepted {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(Refusal::of(&error, peer, tls.validity, InstantMs(runtime::utc_ms()))),
            Err(_) => return Err(refused(By::Us, Fault::Slow)),
        };
        if stream.get_ref().1.alpn_protocol() != Some(ALPN_HTTP2) {
            return Err(refused(By::Us, Fault::Tls));
        }
        let whose = match &shown {
            Some(Ok(identity @ Identity::Node { .. })) => Whose::Node(identity.uri()),
            Some(Ok(identity)) => Whose::Person(identity.uri()),
            // Its first call will say what is wrong.
            Some(Err(_)) | None => Whose::Person(String::new()),
        };
        let place = Place::take(&self.crowd, whose).map_err(|fault| refused(By::Us, fault))?;
        Ok(Inside { way: Either::Right(Box::new(stream)), shown: Shown(shown), _place: place })
    }
}

/// A caller's connection, once it is in.
pub struct Inside {
    way: Either<TcpStream, Box<TlsStream<TcpStream>>>,
    shown: Shown,
    _place: Place,
}

impl Connected for Inside {
    type ConnectInfo = Shown;
    fn connect_info(&self) -> Shown {
        self.shown.clone()
    }
}

impl AsyncRead for Inside {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.way).poll_read(task, buffer)
    }
}

impl AsyncWrite for Inside {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.way).poll_write(task, bytes)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.way).poll_write_vectored(task, slices)
    }
    fn is_write_vectored(&self) -> bool {
        self.way.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.way).poll_flush(task)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.way).poll_shutdown(task)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use crate::runtime::JoinHandle;
    use dinhba_client::tls::{IDENTITY_HEADER, named, node_name, site_name};
    use dinhba_client::transport::Transport;
    use dinhba_core::claims::Role;
    use dinhba_core::ids::{NodeId, SiteId, UnitId};
    use futures::future::BoxFuture;
    use tokio::sync::oneshot;
    use tonic::codegen::http;
    use tonic::transport::Certificate;
    use tonic_health::ServingStatus;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    use tonic_health::pb::health_server::{Health, HealthServer};
    use tower::ServiceExt;

    use super::*;
    use crate::metrics::Metrics;
    use crate::pki::{CertPaths, DevAuthority, peer_identity};
    use crate::refusals::Telling;

    const SITE: SiteId = SiteId(0x51);
    const NODE: NodeId = NodeId(0x11);
    const UNIT: UnitId = UnitId(0xc3);

    /// A health service that resolves every caller, as a node's services do.
    struct Caller {
        seen: mpsc::UnboundedSender<Identity>,
    }

    #[tonic::async_trait]
    impl Health for Caller {
        async fn check(
            &self,
            request: Request<HealthCheckRequest>,
        ) -> Result<tonic::Response<tonic_health::pb::HealthCheckResponse>, Status> {
            self.seen.send(peer_identity(&request)?).expect("the test listens");
            Ok(tonic::Response::new(tonic_health::pb::HealthCheckResponse { status: ServingStatus::Serving as i32 }))
        }

        type WatchStream = tokio_stream::Empty<Result<tonic_health::pb::HealthCheckResponse, Status>>;
        async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<tonic::Response<Self::WatchStream>, Status> {
            Ok(tonic::Response::new(tokio_stream::empty()))
        }
    }

    /// A node that serves, and whom it saw.
    struct Served {
        port: u16,
        seen: mpsc::UnboundedReceiver<Identity>,
        metrics: Metrics,
        _stop: oneshot::Sender<()>,
        _task: JoinHandle<()>,
    }

    impl Served {
        /// The node's address, for dialers that expect `name` there.
        fn address(&self, name: &str) -> String {
            named(name, &format!("127.0.0.1:{}", self.port))
        }
    }

    fn serve(door: &Door) -> Served {
        let (sender, seen) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = incoming.local_addr().unwrap().port();
        let metrics = Metrics::new();
        let callers = door.admit(incoming, Arc::new(Refusals::new(metrics.clone()))).unwrap();
        let router = door.server().add_service(HealthServer::new(Caller { seen: sender }));
        let task = crate::runtime::spawn("server", async move {
            let until = async {
                let _ = stopped.await;
            };
            router.serve_with_incoming_shutdown(callers, until).await.unwrap();
        });
        Served { port, seen, metrics, _stop: stop, _task: task }
    }

    async fn call(transport: Transport) -> Result<(), Status> {
        let mut client = HealthClient::new(transport);
        let call = client.check(HealthCheckRequest { service: String::new() });
        crate::runtime::timeout(Duration::from_secs(5), call).await.expect("an answer or a refusal").map(|_| ())
    }

    async fn dial_and_call(dialer: &dyn Dial, address: String) -> Result<(), String> {
        let transport = dialer.dial(address).await.map_err(|error| error.to_string())?;
        call(transport).await.map_err(|status| format!("{status:?}"))
    }

    fn door_of(paths: &CertPaths) -> Door {
        Door::Mutual(paths.read().unwrap())
    }

    #[tokio::test]
    async fn an_officer_gets_in_as_what_the_certificate_says() {
        let dir = tempfile::tempdir().unwrap();
        let authority = DevAuthority::create(dir.path()).unwrap();
        let mut served = serve(&door_of(&authority.issue_node(SITE, NODE).unwrap()));
        let lan = authority.issue_person("lan", Role::Registrar, UNIT).unwrap();
        // By the node's name, by its site's, and by the host alone.
        for address in [
            served.address(&node_name(NODE)),
            served.address(&site_name(SITE)),
            format!("127.0.0.1:{}", served.port),
            format!("localhost:{}", served.port),
        ] {
            dial_and_call(&TlsDialer::new(&lan.read().unwrap()), address).await.unwrap();
            let Identity::Person(claims) = served.seen.recv().await.unwrap() else { panic!("a person is no node") };
            assert_eq!((&*claims.subject, claims.role, claims.unit), ("lan", Role::Registrar, UNIT));
            let der = certificates(&lan.read().unwrap().certificate).unwrap().remove(0);
            assert_eq!(claims.evidence.0, blake3::hash(&der).as_bytes()[..16]);
        }
    }

    #[tokio::test]
    async fn a_node_gets_in_as_a_node() {
        let dir = tempfile::tempdir().unwrap();
        let authority = DevAuthority::create(dir.path()).unwrap();
        let mut served = serve(&door_of(&authority.issue_node(SITE, NODE).unwrap()));
        let peer = door_of(&authority.issue_node(SITE, NodeId(0x12)).unwrap());
        dial_and_call(&*peer.dialer(), served.address(&node_name(NODE))).await.unwrap();
        assert_eq!(served.seen.recv().await, Some(Identity::Node { site: SITE, node: NodeId(0x12) }));
    }

    #[tokio::test]
    async fn a_caller_of_another_authority_does_not_get_in() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let authority = DevAuthority::create(dir.path()).unwrap();
        let other = DevAuthority::create(elsewhere.path()).unwrap();
        let node = authority.issue_node(SITE, NODE).unwrap();
        let mut served = serve(&door_of(&node));
        let address = served.address(&node_name(NODE));

        // It does not believe the node, and would not get in if it did.
        let stranger = other.issue_person("lan", Role::Operator, UNIT).unwrap().read().unwrap();
        let error = dial_and_call(&TlsDialer::new(&stranger), address.clone()).await.unwrap_err();
        assert!(error.contains("is of another authority"), "{error}");
        let believing = Credentials { ca: node.read().unwrap().ca, ..stranger };
        let refused = dial_and_call(&TlsDialer::new(&believing), address.clone()).await;
        assert!(refused.is_err());

        // Nor does anybody without a certificate, or without TLS, whatever they say that they are.
        let nameless = tonic::transport::Endpoint::from_shared(format!("https://localhost:{}", served.port)).unwrap();
        let tls = tonic::transport::ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&believing.ca));
        if let Ok(channel) = nameless.tls_config(tls).unwrap().connect().await {
            let status = HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap_err();
            // The handshake refuses, not the service: that would say "unauthenticated".
            assert_ne!(status.code(), tonic::Code::Unauthenticated, "{status:?}");
        }
        let own = Identity::Node { site: SITE, node: NODE };
        assert!(dial_and_call(&LoopbackDialer::new(&own), address).await.is_err());
        assert!(served.seen.try_recv().is_err(), "nobody was seen inside");
    }

    #[tokio::test]
    async fn a_dialer_leaves_when_another_node_answers() {
        let dir = tempfile::tempdir().unwrap();
        let authority = DevAuthority::create(dir.path()).unwrap();
        let served = serve(&door_of(&authority.issue_node(SITE, NODE).unwrap()));
        let peer = door_of(&authority.issue_node(SITE, NodeId(0x12)).unwrap()).dialer();
        for name in [node_name(NodeId(0x13)), site_name(SiteId(0x52)), "example.org".to_owned()] {
            let error = dial_and_call(&*peer, served.address(&name)).await.unwrap_err();
            assert!(error.contains(&format!("is not that of \"{name}\"")), "{error}");
        }
    }

    #[tokio::test]
    async fn an_officers_certificate_cannot_play_a_node() {
        let dir = tempfile::tempdir().unwrap();
        let authority = DevAuthority::create(dir.path()).unwrap();
        let served = serve(&door_of(&authority.issue_person("lan", Role::Operator, UNIT).unwrap()));
        let peer = door_of(&authority.issue_node(SITE, NODE).unwrap()).dialer();
        let error = dial_and_call(&*peer, format!("127.0.0.1:{}", served.port)).await.unwrap_err();
        assert!(error.contains("nodes serve with certificates of nodes"), "{error}");
    }

    impl Served {
        /// Waits until so many handshakes were refused by `by` for `reason`.
        async fn refused(&self, by: &str, reason: &str, times: u32) {
            let line =
                format!("dinhba_handshakes_refused_total{{side=\"door\",by=\"{by}\",reason=\"{reason}\"}} {times}\n");
            for _ in 0..500 {
                if self.metrics.page().contains(&line) {
                    return;
                }
                runtime::sleep(Duration::from_millis(20)).await;
            }
            panic!("{line} is not in {}", self.metrics.page());
        }
    }

    const DAY_MS: i64 = 24 * 60 * 60 * 1000;

    /// Valid from so many days after today until so many days after it.
    fn days(from: i64, until: i64) -> Validity {
        let now = runtime::utc_ms();
        Validity { from: InstantMs(now + from * DAY_MS), until: InstantMs(now + until * DAY_MS) }
    }

    #[tokio::test]
    async fn a_caller_whose_certificate_is_not_valid_is_told_so_first_and_the_node_knows() {
        let dir = tempfile::tempdir().unwrap();
        let authority = DevAuthority::create(dir.path()).unwrap();
        let served = serve(&door_of(&authority.issue_node(SITE, NODE).unwrap()));
        let address = served.address(&node_name(NODE));
        for (subject, validity, start, reason) in [
            ("old", days(-30, -1), "this end's own certificate expired on ", "expired"),
            ("early", days(365, 730), "this end's own certificate is not valid before ", "not_yet_valid"),
        ] {
            let authority = DevAuthority::open(dir.path()).unwrap().valid(validity);
            let credentials = authority.issue_person(subject, Role::Registrar, UNIT).unwrap().read().unwrap();
            let dialer = TlsDialer::new(&credentials);
            let error = dial_and_call(&dialer, address.clone()).await.unwrap_err();
            assert!(error.starts_with(start), "{error}");
            assert!(
                error.contains("is this machine's clock right? (it says 2") && error.contains("refuses it"),
                "{error}"
            );
            // Known before anybody is dialed, too.
            assert!(dialer.check().unwrap_err().to_string().starts_with(start));
            served.refused("us", reason, 1).await;
        }
        let other = tempfile::tempdir().unwrap();
        let stranger = DevAuthority::create(other.path()).unwrap().issue_person("lan", Role::Registrar, UNIT).unwrap();
        let stranger =
            Credentials { ca: std::fs::read_to_string(authority.ca_path()).unwrap(), ..stranger.read().unwrap() };
        let error = dial_and_call(&TlsDialer::new(&stranger), address.clone()).await.unwrap_err();
        assert_eq!(
            error,
            format!(
                "{address} refuses this end: its certificate is of another authority: give both ends certificates of one, \
                 and its certificate as `ca`"
            )
        );
        served.refused("us", "other_authority", 1).await;
        let mixed =
            Credentials { key: authority.issue_node(SITE, NodeId(0x13)).unwrap().read().unwrap().key, ..stranger };
        let error = dial_and_call(&TlsDialer::new(&mixed), address).await.unwrap_err();
        assert!(error.starts_with("the key does not match the certificate: "), "{error}");
    }

    #[tokio::test]
    async fn a_node_that_callers_refuse_is_told_so_and_they_know_why() {
        let dir = tempfile::tempdir().unwrap();
        let authority = DevAuthority::create(dir.path()).unwrap();
        let dialer = TlsDialer::new(&authority.issue_person("lan", Role::Registrar, UNIT).unwrap().read().unwrap());
        let elsewhere = tempfile::tempdir().unwrap();
        let issue = |authority: DevAuthority, node| authority.issue_node(SITE, node).unwrap().read().unwrap();
        let valid = |validity| DevAuthority::open(dir.path()).unwrap().valid(validity);
        let stranger = Credentials {
            // It would let the caller in.
            ca: std::fs::read_to_string(authority.ca_path()).unwrap(),
            ..issue(DevAuthority::create(elsewhere.path()).unwrap(), NODE)
        };
        for (credentials, says, reason) in [
            (issue(valid(days(-30, -1)), NodeId(1)), "expired on ", "expired_or_not_yet_valid"),
            (issue(valid(days(365, 730)), NodeId(2)), "is not valid before ", "expired_or_not_yet_valid"),
            (stranger, "is of another authority: ", "other_authority"),
            (issue(valid(days(-1, 1)), NodeId(3)), "is not that of \"example.org\" but of ", "other_name"),
        ] {
            let served = serve(&Door::Mutual(credentials));
            let name = if reason == "other_name" { "example.org".to_owned() } else { site_name(SITE) };
            let address = served.address(&name);
            let error = dial_and_call(&dialer, address.clone()).await.unwrap_err();
            assert!(error.starts_with(&format!("the certificate of {address} {says}")), "{error}");
            let asks = error.contains("is this machine's clock right? (it says 2");
            assert_eq!(asks, reason == "expired_or_not_yet_valid", "{error}");
            served.refused("them", reason, 1).await;
        }
    }

    #[tokio::test]
    async fn who_shows_nothing_says_nothing_or_speaks_otherwise_is_counted_as_such() {
        let dir = tempfile::tempdir().unwrap();
        let authority = DevAuthority::create(dir.path()).unwrap();
        let node = authority.issue_node(SITE, NODE).unwrap();
        let served = serve(&door_of(&node));
        let address = format!("127.0.0.1:{}", served.port);
        let mut silent = TcpStream::connect(&address).await.unwrap();

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = tls.with_root_certificates(authorities(&node.read().unwrap().ca).unwrap()).with_no_client_auth();
        let stream = TcpStream::connect(&address).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let _nameless = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, stream).await;
        served.refused("us", "no_certificate", 1).await;

        let own = Identity::Node { site: SITE, node: NODE };
        assert!(dial_and_call(&LoopbackDialer::new(&own), address).await.is_err());
        served.refused("us", "no_tls", 1).await;

        // Cut after a while: it holds a place of the handshakes under way.
        let mut answer = Vec::new();
        let cut = tokio::io::AsyncReadExt::read_to_end(&mut silent, &mut answer);
        let cut = runtime::timeout(CONNECT_TIMEOUT + Duration::from_secs(5), cut).await;
        assert!(cut.is_ok() && answer.is_empty(), "{cut:?}");
        served.refused("us", "slow", 1).await;
    }

    #[tokio::test]
    async fn one_address_does_not_fill_the_door_and_it_is_free_again() {
        let dir = tempfile::tempdir().unwrap();
        let authority = DevAuthority::create(dir.path()).unwrap();
        let served = serve(&door_of(&authority.issue_node(SITE, NODE).unwrap()));
        let address = format!("127.0.0.1:{}", served.port);
        let mut silent = Vec::new();
        for _ in 0..HANDSHAKES_OF_ONE_MAX + 3 {
            silent.push(TcpStream::connect(&address).await.unwrap());
        }
        served.refused("us", "too_many", 3).await;
        served.refused("us", "slow", u32::try_from(HANDSHAKES_OF_ONE_MAX).unwrap()).await;
        let lan = authority.issue_person("lan", Role::Registrar, UNIT).unwrap();
        dial_and_call(&TlsDialer::new(&lan.read().unwrap()), address).await.unwrap();
    }

    #[tokio::test]
    async fn one_caller_does_not_take_all_places_inside() {
        let dir = tempfile::tempdir().unwrap();
        let authority = DevAuthority::create(dir.path()).unwrap();
        let served = serve(&door_of(&authority.issue_node(SITE, NODE).unwrap()));
        let address = format!("127.0.0.1:{}", served.port);
        let dialer = |subject: &str| {
            TlsDialer::new(&authority.issue_person(subject, Role::Registrar, UNIT).unwrap().read().unwrap())
        };
        let (lan, hoa) = (dialer("lan"), dialer("hoa"));
        let mut open = Vec::new();
        for _ in 0..CONNECTIONS_OF_ONE_MAX {
            open.push(lan.dial(address.clone()).await.unwrap());
        }
        let error = lan.dial(address.clone()).await.map(drop).unwrap_err().to_string();
        assert!(error.contains("broke off in the handshake"), "{error}");
        served.refused("us", "too_many", 1).await;
        dial_and_call(&hoa, address.clone()).await.unwrap();
        drop(open);
        for _ in 0..100 {
            if lan.dial(address.clone()).await.is_ok() {
                return;
            }
            runtime::sleep(Duration::from_millis(20)).await;
        }
        panic!("the places are not free again");
    }

    #[test]
    fn nodes_have_places_that_people_cannot_take() {
        let crowd = Arc::default();
        let people: Vec<_> =
            (0..CONNECTIONS_MAX).filter_map(|one| Place::take(&crowd, Whose::Person(one.to_string())).ok()).collect();
        assert_eq!(people.len(), CONNECTIONS_OF_PEOPLE_MAX);
        let nodes: Vec<_> =
            (0..CONNECTIONS_MAX).filter_map(|one| Place::take(&crowd, Whose::Node(one.to_string())).ok()).collect();
        assert_eq!(nodes.len(), CONNECTIONS_MAX - CONNECTIONS_OF_PEOPLE_MAX);
        drop((people, nodes));
        let crowd = crowd.lock().unwrap();
        assert!(crowd.connections.of_one.is_empty() && crowd.connections.all == 0 && crowd.people == 0);
    }

    #[tokio::test]
    async fn twenty_refusals_are_one_line_of_the_log_at_either_end() {
        #[derive(Clone, Default)]
        struct Page(Arc<Mutex<Vec<u8>>>);
        impl io::Write for Page {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let page = Page::default();
        let writer = page.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let _logged = tracing::subscriber::set_default(subscriber);

        let dir = tempfile::tempdir().unwrap();
        let authority = DevAuthority::create(dir.path()).unwrap();
        let served = serve(&door_of(&authority.issue_node(SITE, NODE).unwrap()));
        let old = DevAuthority::open(dir.path()).unwrap().valid(days(-30, -1)).issue_node(SITE, NodeId(0x12)).unwrap();
        let metrics = Metrics::new();
        let dialer = Telling::new(door_of(&old).dialer(), Arc::new(Refusals::new(metrics.clone())));
        for _ in 0..20 {
            dialer.dial(served.address(&node_name(NODE))).await.map(drop).unwrap_err();
        }
        served.refused("us", "expired", 20).await;
        let counted = "{side=\"dial\",by=\"them\",reason=\"expired_or_not_yet_valid\"} 20";
        assert!(metrics.page().contains(counted), "{}", metrics.page());
        let page = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        let lines = |what: &str| page.lines().filter(|line| line.contains(what)).collect::<Vec<_>>();
        let (door, dial) = (lines("a caller did not get in"), lines("a node could not be called"));
        assert_eq!((door.len(), dial.len()), (1, 1), "{page}");
        let whom = "127.0.0.1 (spiffe://dinhba/site/s-0000000000000051/n-0000000000000012)";
        assert!(door[0].contains(&format!("the certificate of {whom} expired on 2")), "{page}");
        assert!(dial[0].contains("this end's own certificate expired on 2"), "{page}");
    }

    /// Adds a header of its own to what another dialer sends.
    struct Claiming {
        inner: TlsDialer,
        uri: &'static str,
    }

    impl Dial for Claiming {
        fn dial(
            &self,
            address: String,
        ) -> BoxFuture<'static, Result<Transport, dinhba_client::transport::TransportError>> {
            let (dialed, uri) = (self.inner.dial(address), self.uri);
            Box::pin(async move {
                Ok(Transport::new(dialed.await?.map_request(move |mut request: http::Request<tonic::body::Body>| {
                    request.headers_mut().insert(IDENTITY_HEADER, http::HeaderValue::from_static(uri));
                    request
                })))
            })
        }
    }

    #[tokio::test]
    async fn a_header_does_not_make_an_officer_somebody_else() {
        let dir = tempfile::tempdir().unwrap();
        let authority = DevAuthority::create(dir.path()).unwrap();
        let mut served = serve(&door_of(&authority.issue_node(SITE, NODE).unwrap()));
        let lan = authority.issue_person("lan", Role::Auditor, UNIT).unwrap();
        let claiming = Claiming {
            inner: TlsDialer::new(&lan.read().unwrap()),
            uri: "spiffe://dinhba/person/chief/registrar/u-0000000000000001",
        };
        dial_and_call(&claiming, served.address(&node_name(NODE))).await.unwrap();
        let seen = served.seen.recv().await.unwrap();
        assert_eq!(seen.uri(), "spiffe://dinhba/person/lan/auditor/u-00000000000000c3");
    }

    #[tokio::test]
    async fn without_tls_callers_on_this_machine_say_who_they_are() {
        let own = Identity::Node { site: SITE, node: NODE };
        let mut served = serve(&Door::UnsafeLoopback(own.clone()));
        let address = served.address(&node_name(NODE));
        dial_and_call(&*Door::UnsafeLoopback(own.clone()).dialer(), address).await.unwrap();
        assert_eq!(served.seen.recv().await, Some(own));

        let silent = tonic::transport::Endpoint::from_shared(format!("http://127.0.0.1:{}", served.port)).unwrap();
        let mut client = HealthClient::new(silent.connect().await.unwrap());
        let status = client.check(HealthCheckRequest::default()).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
    }

    #[tokio::test]
    async fn without_tls_no_other_machine_is_listened_to() {
        let door = Door::UnsafeLoopback(Identity::Node { site: SITE, node: NODE });
        let refused = door.listen(&"0.0.0.0:7400".parse().unwrap()).err().unwrap();
        assert!(matches!(refused, DoorError::NotLoopback { .. }), "{refused}");
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address: Address = taken.local_addr().unwrap().to_string().parse().unwrap();
        let refused = door.listen(&address).err().unwrap().to_string();
        assert!(refused.contains("stop what uses the port"), "{refused}");
        drop(taken);
        assert!(door.listen(&address).is_ok());
    }

    fn config(paths: &CertPaths) -> Config {
        let text = format!(
            "[node]\nid = \"{NODE}\"\nsite = \"{SITE}\"\ndata_dir = \"d\"\nlisten = \"127.0.0.1:7400\"\n\
             [tls]\nca = {:?}\ncertificate = {:?}\nkey = {:?}\n[site]\nunit = \"{UNIT}\"\nsigning_key = \"k\"\n",
            paths.ca, paths.certificate, paths.key
        );
        Config::parse(&text, Path::new("/")).unwrap()
    }

    #[test]
    fn files_that_do_not_fit_each_other_are_named_at_start() {
        let dir = tempfile::tempdir().unwrap();
        let authority = DevAuthority::create(dir.path()).unwrap();
        let own = authority.issue_node(SITE, NODE).unwrap();
        let other = authority.issue_node(SITE, NodeId(0x12)).unwrap();
        assert!(matches!(Door::open(&config(&own)), Ok(Door::Mutual(_))));

        let misfit = |paths: &CertPaths| match Door::open(&config(paths)).unwrap_err() {
            DoorError::Misfit { key, reason, .. } => (key, reason),
            error => panic!("{error}"),
        };
        assert_eq!(
            misfit(&other),
            (
                "tls.certificate",
                "it is the certificate of spiffe://dinhba/site/s-0000000000000051/n-0000000000000012, and this node \
                 is spiffe://dinhba/site/s-0000000000000051/n-0000000000000011"
                    .to_owned()
            )
        );
        assert_eq!(misfit(&CertPaths { key: other.key.clone(), ..own.clone() }).0, "tls.key");
        let absent = CertPaths { key: PathBuf::from("/nowhere/node.key"), ..own };
        let error = Door::open(&config(&absent)).unwrap_err().to_string();
        assert!(error.starts_with("[tls] /nowhere/node.key: "), "{error}");
    }
}
