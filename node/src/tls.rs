//! The node's own door: with what it serves, and with what it dials.
//!
//! Owns: turning `[tls]` into a gRPC server that asks every caller for a certificate ([`Door::server`]), and into the
//! node's dialer ([`Door::dialer`]); listening. Promises: without a certificate of the authority nobody gets past the
//! handshake; without TLS the node listens on loopback addresses alone, whatever a name resolves to; the node's own
//! certificate, key and configuration fit each other, or it does not start.
//! Leaves to others: who the caller is (`pki::peer_identity`), what it may do, the gRPC services, and the limit on a
//! message: services set `MESSAGE_BYTES_MAX` themselves.
//! Limits: certificates are read at start, so a renewed one needs a restart; there is no revocation list.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use dinhba_client::tls::{
    CONNECT_TIMEOUT, Credentials, DialError, HEADER_BYTES_MAX, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT, LoopbackDialer,
    STREAMS_MAX, TlsDialer,
};
use dinhba_client::transport::Dial;
use dinhba_core::claims::Identity;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tonic::service::{Interceptor, InterceptorLayer};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Server, ServerTlsConfig};
use tonic::{Request, Status};
use tower::layer::util::{Identity as NoLayer, Stack};

use crate::config::{Address, Config, Tls};
use crate::pki::{TrustHeader, certificate_identity};

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

    /// A server with the time limits of both ends and, unless unsafe, with client certificates required.
    pub fn server(&self) -> Result<DoorServer, DoorError> {
        let server = Server::builder()
            .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
            .http2_max_header_list_size(HEADER_BYTES_MAX)
            .max_concurrent_streams(STREAMS_MAX);
        let (server, header) = match self {
            Door::UnsafeLoopback(_) => (server, true),
            Door::Mutual(credentials) => {
                let tls = ServerTlsConfig::new()
                    .identity(tonic::transport::Identity::from_pem(&credentials.certificate, &credentials.key))
                    .client_ca_root(Certificate::from_pem(&credentials.ca))
                    .client_auth_optional(false)
                    .timeout(CONNECT_TIMEOUT);
                (server.tls_config(tls).map_err(|error| DoorError::Setup(error.to_string()))?, false)
            }
        };
        Ok(server.layer(InterceptorLayer::new(MarkTrust { header })))
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

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = rustls_pemfile::certs(&mut pem.as_bytes()).collect();
    let found = found.map_err(|error| error.to_string())?;
    if found.is_empty() { Err("no certificate in it".to_owned()) } else { Ok(found) }
}

fn check_ca(path: &Path, credentials: &Credentials) -> Result<(), DoorError> {
    let mut roots = rustls::RootCertStore::empty();
    let added = certificates(&credentials.ca).and_then(|found| {
        found.into_iter().try_for_each(|certificate| roots.add(certificate)).map_err(|error| error.to_string())
    });
    added.map_err(|reason| DoorError::Misfit {
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
    let key_misfit = |reason: String| DoorError::Misfit {
        key: "tls.key",
        path: key_path.display().to_string(),
        reason,
        instead: "name the private key that belongs to tls.certificate",
    };
    let key: PrivateKeyDer<'static> = rustls_pemfile::private_key(&mut credentials.key.as_bytes())
        .map_err(|error| key_misfit(error.to_string()))?
        .ok_or_else(|| key_misfit("no private key in it".to_owned()))?;
    CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider())
        .map_err(|error| key_misfit(error.to_string()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use crate::runtime::JoinHandle;
    use dinhba_client::tls::{IDENTITY_HEADER, named, node_name, site_name};
    use dinhba_client::transport::Transport;
    use dinhba_core::claims::Role;
    use dinhba_core::ids::{NodeId, SiteId, UnitId};
    use futures::future::BoxFuture;
    use tokio::sync::{mpsc, oneshot};
    use tonic::codegen::http;
    use tonic_health::ServingStatus;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    use tonic_health::pb::health_server::{Health, HealthServer};
    use tower::ServiceExt;

    use super::*;
    use crate::pki::{CertPaths, DevAuthority, peer_identity};

    const SITE: SiteId = SiteId(0x51);
    const NODE: NodeId = NodeId(0x11);
    const UNIT: UnitId = UnitId(0xc3);

    /// A health service that resolves every caller, as a node's services do.
    struct Witness {
        seen: mpsc::UnboundedSender<Identity>,
    }

    #[tonic::async_trait]
    impl Health for Witness {
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
        let router = door.server().unwrap().add_service(HealthServer::new(Witness { seen: sender }));
        let task = crate::runtime::spawn("server", async move {
            let until = async {
                let _ = stopped.await;
            };
            router.serve_with_incoming_shutdown(incoming, until).await.unwrap();
        });
        Served { port, seen, _stop: stop, _task: task }
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
        assert!(error.contains("UnknownIssuer") || error.contains("BadSignature"), "{error}");
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
            assert!(error.contains("not valid for name"), "{error}");
        }
    }

    #[tokio::test]
    async fn an_officers_certificate_cannot_play_a_node() {
        let dir = tempfile::tempdir().unwrap();
        let authority = DevAuthority::create(dir.path()).unwrap();
        let served = serve(&door_of(&authority.issue_person("lan", Role::Operator, UNIT).unwrap()));
        let peer = door_of(&authority.issue_node(SITE, NODE).unwrap()).dialer();
        let error = dial_and_call(&*peer, format!("127.0.0.1:{}", served.port)).await.unwrap_err();
        assert!(error.contains("does not allow extended key usage for server authentication"), "{error}");
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
