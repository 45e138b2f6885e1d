//! Dialing a node: mutual TLS over TCP, or plain TCP on the own machine for development.
//!
//! Owns: the two [`Dial`]s of production, the names that a node's certificate carries, the time limits of a connection.
//! Promises: a [`TlsDialer`] talks only to a server whose certificate chains to the given authority *and* carries the
//! expected name; a dead link is noticed within about ten seconds, by HTTP/2 pings; a [`LoopbackDialer`] never sends
//! its unprotected identity to another machine.
//! Leaves to others: retries and their back-off; issuing certificates; the limit on a message, which gRPC clients and
//! servers set themselves from [`MESSAGE_BYTES_MAX`].
//! In TLS 1.3 a server refuses a client's certificate after the client has finished its half of the handshake. So a dialer
//! waits for the server's first word, one more round trip, and says what became of it: who refused whom, and why.
//!
//! An address is `host:port`, or `name@host:port` ([`named`]) to say which name the certificate must carry. Without a
//! name it must carry the host. Links and peers always give a name: an address may have passed to another node.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use dinhba_core::claims::Identity;
use dinhba_core::date::InstantMs;
use dinhba_core::ids::{NodeId, SiteId};
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use http::HeaderValue;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tower::ServiceExt;

use crate::ambient::{Ambient, Machine};
use crate::handshake::{By, Fault, Refusal, Validity};
use crate::transport::{Dial, Transport, TransportError};

/// From dialing to a usable connection. Three seconds are five round trips over a satellite.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A silent connection is asked for a sign of life this often. Small enough to notice a cut before a person gives up,
/// large enough to be nothing on a thin link (17 bytes).
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// An answer that takes longer means that the link is dead; with the interval, it is noticed in about ten seconds.
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest gRPC message: far above a batch (16 kB) or a page, small enough that a hundred of them fit in the memory
/// of a commune's computer.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// The largest header list: metadata here is a few short lines.
pub const HEADER_BYTES_MAX: u32 = 16 << 10;
/// Calls at once on one connection; peers and links need a few streams, an application's pool some dozens.
pub const STREAMS_MAX: u32 = 256;
/// What HTTP/2 is called in a handshake.
pub const ALPN_HTTP2: &[u8] = b"h2";
/// Carries the caller's identity where there is no certificate to carry it.
pub const IDENTITY_HEADER: &str = "dinhba-identity";

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The address cannot be used.
    #[error("{address:?} is not an address: write host:port, for example 10.0.0.5:7400")]
    Address {
        /// As given.
        address: String,
    },
    /// Plain connections stay on this machine.
    #[error("{address} is not on this machine: an identity without TLS goes to 127.0.0.1 or localhost only; use TLS")]
    NotLoopback {
        /// As given.
        address: String,
    },
    /// A file of the credentials cannot be used.
    #[error("{path}: {reason}: give a PEM file that this user may read")]
    Credentials {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// What is in the files of the credentials does not fit together.
    #[error("{0}")]
    Misfit(String),
    /// One's own certificate is not valid now.
    #[error("{0}")]
    Untimely(String),
    /// The two ends did not agree: who refused whom, and why.
    #[error("{0}")]
    Handshake(Box<Refusal>),
    /// The other end cannot be reached.
    #[error("no connection to {address}: {reason}")]
    Refused {
        /// As given, with the expected name.
        address: String,
        /// The whole chain of causes.
        reason: String,
    },
    /// No answer in time.
    #[error("no connection to {address} within {} s: check the link and that the node runs", CONNECT_TIMEOUT.as_secs())]
    Timeout {
        /// As given, with the expected name.
        address: String,
    },
}

impl DialError {
    /// The error of a dialer, or what caused an error of a transport.
    #[must_use]
    pub fn in_chain<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a DialError> {
        std::iter::successors(Some(error), |error| error.source()).find_map(|error| error.downcast_ref())
    }

    /// Whether certificates, keys or clocks are the cause, so that trying again does not help.
    #[must_use]
    pub fn lasts(&self) -> bool {
        match self {
            DialError::Handshake(refusal) => refusal.fault.lasts(),
            DialError::Misfit(_) | DialError::Untimely(_) => true,
            _ => false,
        }
    }

    /// The same words each time, for logs: without what a clock said.
    #[must_use]
    pub fn lasting(&self) -> String {
        match self {
            DialError::Handshake(refusal) => refusal.lasting(),
            other => other.to_string(),
        }
    }
}

/// An error of a dialer in words that are the same each time, for logs and what is compared.
#[must_use]
pub fn lasting(error: &TransportError) -> String {
    match DialError::in_chain(&**error) {
        Some(error) => error.lasting(),
        None => error.to_string(),
    }
}

/// The name that the certificate of node `node` carries.
#[must_use]
pub fn node_name(node: NodeId) -> String {
    format!("{node}.node.dinhba")
}

/// The name that the certificates of all nodes of site `site` carry.
#[must_use]
pub fn site_name(site: SiteId) -> String {
    format!("{site}.site.dinhba")
}

/// `address`, at which only a server whose certificate carries `name` is to be talked to.
#[must_use]
pub fn named(name: &str, address: &str) -> String {
    format!("{name}@{address}")
}

/// The expected name, if one is given, and `host:port`.
#[must_use]
pub fn split_name(address: &str) -> (Option<&str>, &str) {
    match address.split_once('@') {
        Some((name, address)) => (Some(name), address),
        None => (None, address),
    }
}

/// Whether `host` (an IP address, bracketed or not, or a name) is this machine. Of names only `localhost` is.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// What a caller shows and what it believes: its certificate with its key, and the authority's certificate.
#[derive(Clone)]
pub struct Credentials {
    /// The authority's certificate, PEM.
    pub ca: String,
    /// The caller's certificate (and what lies between it and the authority), PEM.
    pub certificate: String,
    /// The caller's private key, PEM.
    pub key: String,
}

impl fmt::Debug for Credentials {
    // Not derived: a key must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads the three PEM files.
    pub fn read(ca: &Path, certificate: &Path, key: &Path) -> Result<Self, DialError> {
        Ok(Credentials {
            ca: read_pem(ca, "CERTIFICATE")?,
            certificate: read_pem(certificate, "CERTIFICATE")?,
            key: read_pem(key, "PRIVATE KEY")?,
        })
    }
}

/// Reads a file that must hold a PEM block whose label ends in `label` (keys have several: `EC PRIVATE KEY`).
fn read_pem(path: &Path, label: &str) -> Result<String, DialError> {
    let refused = |reason: String| DialError::Credentials { path: path.display().to_string(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
    let found = text.lines().any(|line| {
        line.strip_prefix("-----BEGIN ")
            .and_then(|line| line.trim_end().strip_suffix("-----"))
            .is_some_and(|found| found.ends_with(label))
    });
    if found { Ok(text) } else { Err(refused(format!("no PEM block {label:?} in it"))) }
}

/// Certificates of a PEM text.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.map_err(|error| error.to_string())?;
    if found.is_empty() { Err("no certificate in it".to_owned()) } else { Ok(found) }
}

/// The private key of a PEM text.
pub fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| match error {
        pem::Error::NoItemsFound => "no private key in it".to_owned(),
        other => other.to_string(),
    })
}

/// The authorities of a PEM text.
pub fn authorities(pem: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}

/// Dials with mutual TLS.
#[derive(Debug, Clone)]
pub struct TlsDialer {
    tls: Result<Arc<ClientConfig>, DialError>,
    own: Option<Validity>,
}

fn client_config(credentials: &Credentials) -> Result<ClientConfig, String> {
    let roots = authorities(&credentials.ca).map_err(|reason| format!("the authority's certificate: {reason}"))?;
    let chain = certificates(&credentials.certificate).map_err(|reason| format!("the certificate: {reason}"))?;
    let key = private_key(&credentials.key).map_err(|reason| format!("the key: {reason}"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?.with_root_certificates(roots);
    let mut tls = builder.with_client_auth_cert(chain, key).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            "the key does not match the certificate: give the key that was made with it".to_owned()
        }
        other => format!("the certificate and its key: {other}"),
    })?;
    tls.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    // Whoever comes back shows its certificate again.
    tls.resumption = rustls::client::Resumption::disabled();
    Ok(tls)
}

fn now() -> InstantMs {
    InstantMs(Machine::default().utc_ms())
}

impl TlsDialer {
    /// A dialer that shows and believes `credentials`. If they do not fit together, each dialing says so.
    #[must_use]
    pub fn new(credentials: &Credentials) -> Self {
        TlsDialer {
            tls: client_config(credentials).map(Arc::new).map_err(DialError::Misfit),
            own: Validity::of(&credentials.certificate),
        }
    }

    /// Whether anybody could be reached with the credentials: they fit together, and are valid by this machine's clock.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self) -> Result<(), DialError> {
        self.tls.as_ref().map_err(Clone::clone)?;
        self.own.and_then(|own| own.complaint(now())).map_or(Ok(()), |text| Err(DialError::Untimely(text)))
    }
}

impl Dial for TlsDialer {
    fn dial(&self, address: String) -> BoxFuture<'static, Result<Transport, TransportError>> {
        let TlsDialer { tls, own } = self.clone();
        async move {
            let tls = tls?;
            let (name, host_port) = split_name(&address);
            // The handshake is ours, so that its end is known; to tonic the way is a plain one.
            let endpoint = endpoint(host_port, &address)?;
            let bad = || DialError::Address { address: address.clone() };
            let name = name.or_else(|| endpoint.uri().host()).ok_or_else(bad)?;
            let name = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
            let name = ServerName::try_from(name.to_owned()).map_err(|_| bad())?;
            let origin = format!("https://{host_port}").parse().map_err(|_| bad())?;
            let way = Way { tls, name, host_port: host_port.to_owned(), address: address.clone(), own };
            let connector = tower::service_fn(move |_: http::Uri| way.clone().open().map_ok(TokioIo::new));
            let channel = connect(endpoint.origin(origin).connect_with_connector(connector), &address).await?;
            Ok(Transport::new(channel.map_err(TransportError::from)))
        }
        .boxed()
    }
}

/// The way to one node, which is gone again when a connection breaks.
#[derive(Clone)]
struct Way {
    tls: Arc<ClientConfig>,
    name: ServerName<'static>,
    host_port: String,
    address: String,
    own: Option<Validity>,
}

impl Way {
    async fn open(self) -> Result<Greeted, DialError> {
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, self.clone().handshake()).await;
        opened.unwrap_or(Err(DialError::Timeout { address: self.address }))
    }

    async fn handshake(self) -> Result<Greeted, DialError> {
        let Way { tls, name, host_port, address, own } = self;
        let refused = |error: io::Error| DialError::Refused { address: address.clone(), reason: error.to_string() };
        let stream = TcpStream::connect(&host_port).await.map_err(refused)?;
        stream.set_nodelay(true).map_err(refused)?;
        let failed =
            |error: io::Error| DialError::Handshake(Box::new(Refusal::of(&error, address.clone(), own, now())));
        let mut stream = TlsConnector::from(tls).connect(name, stream).await.map_err(failed)?;
        if stream.get_ref().1.alpn_protocol() != Some(ALPN_HTTP2) {
            let (peer, now) = (address.clone(), now());
            return Err(DialError::Handshake(Box::new(Refusal { peer, by: By::Us, fault: Fault::Tls, own, now })));
        }
        // An HTTP/2 server speaks first, once it has let the caller in.
        let mut first = [0];
        stream.read_exact(&mut first).await.map_err(failed)?;
        Ok(Greeted { first: Some(first[0]), stream })
    }
}

/// A connection whose first byte was read already.
struct Greeted {
    first: Option<u8>,
    stream: TlsStream<TcpStream>,
}

impl AsyncRead for Greeted {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buffer.remaining() > 0
            && let Some(first) = self.first.take()
        {
            buffer.put_slice(&[first]);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(task, buffer)
    }
}

impl AsyncWrite for Greeted {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(task, bytes)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(task, slices)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(task)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}

/// Dials without protection, on this machine only; the server believes the identity that the dialer sends. For
/// development: the server must have been started with `unsafe_loopback`.
#[derive(Debug, Clone)]
pub struct LoopbackDialer {
    identity: HeaderValue,
}

impl LoopbackDialer {
    /// A dialer that calls itself `identity`.
    #[must_use]
    pub fn new(identity: &Identity) -> Self {
        let identity = HeaderValue::from_str(&identity.uri()).expect("an identity's URI is printable ASCII");
        LoopbackDialer { identity }
    }
}

impl Dial for LoopbackDialer {
    fn dial(&self, address: String) -> BoxFuture<'static, Result<Transport, TransportError>> {
        let identity = self.identity.clone();
        async move {
            // There is no certificate to compare a name with; both ends are this machine.
            let (_, host_port) = split_name(&address);
            let endpoint = endpoint(host_port, &address)?;
            if !endpoint.uri().host().is_some_and(is_loopback) {
                return Err(DialError::NotLoopback { address }.into());
            }
            let channel = connect(endpoint.connect(), &address).await?;
            let add_identity = move |mut request: http::Request<Body>| {
                request.headers_mut().insert(IDENTITY_HEADER, identity.clone());
                request
            };
            Ok(Transport::new(channel.map_request(add_identity).map_err(TransportError::from)))
        }
        .boxed()
    }
}

fn endpoint(host_port: &str, address: &str) -> Result<Endpoint, DialError> {
    let bad = || DialError::Address { address: address.to_owned() };
    let endpoint = Endpoint::from_shared(format!("http://{host_port}")).map_err(|_| bad())?;
    let authority = endpoint.uri().authority().ok_or_else(bad)?;
    // A path, a user or an absent port would be ignored silently.
    if authority.as_str() != host_port || authority.port_u16().is_none_or(|port| port == 0) {
        return Err(bad());
    }
    Ok(endpoint
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .http2_max_header_list_size(HEADER_BYTES_MAX))
}

async fn connect(
    connecting: impl Future<Output = Result<Channel, tonic::transport::Error>>,
    address: &str,
) -> Result<Channel, DialError> {
    // For all steps together. What reconnects later has its own limit, or the caller's.
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(DialError::in_chain(&error)
            .cloned()
            .unwrap_or_else(|| DialError::Refused { address: address.to_owned(), reason: causes(&error) })),
        Err(_) => Err(DialError::Timeout { address: address.to_owned() }),
    }
}

/// An error with all that caused it: tonic's own text is "transport error" alone.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use dinhba_core::claims::{Claims, Role};
    use dinhba_core::ids::{EvidenceId, UnitId};

    use super::*;

    fn lan() -> Identity {
        Identity::Person(Claims::new("lan", Role::Registrar, UnitId(3), EvidenceId::default()).unwrap())
    }

    async fn refusal(dialer: impl Dial, address: &str) -> DialError {
        match dialer.dial(address.to_owned()).await {
            Ok(_) => panic!("{address} must not be reached"),
            Err(error) => *error.downcast::<DialError>().expect("dialers fail with a DialError"),
        }
    }

    #[test]
    fn an_address_may_carry_the_name_that_is_expected() {
        let name = node_name(NodeId(1));
        assert_eq!(name, "n-0000000000000001.node.dinhba");
        assert_eq!(site_name(SiteId(2)), "s-0000000000000002.site.dinhba");
        assert_eq!(split_name(&named(&name, "10.0.0.5:7400")), (Some(&*name), "10.0.0.5:7400"));
        assert_eq!(split_name("10.0.0.5:7400"), (None, "10.0.0.5:7400"));
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for host in ["127.0.0.1", "127.3.2.1", "::1", "[::1]", "localhost"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["0.0.0.0", "10.0.0.5", "::", "localhost.example.org", ""] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[tokio::test]
    async fn an_unprotected_identity_stays_on_this_machine() {
        for address in ["10.0.0.5:7400", "example.org:7400", "localhost@10.0.0.5:7400"] {
            let expected = DialError::NotLoopback { address: address.into() };
            assert_eq!(refusal(LoopbackDialer::new(&lan()), address).await, expected);
        }
    }

    #[tokio::test]
    async fn what_is_not_host_and_port_is_refused() {
        for address in ["", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", "127.0.0.1:7400/x", "a b:1"] {
            let expected = DialError::Address { address: address.into() };
            assert_eq!(refusal(LoopbackDialer::new(&lan()), address).await, expected);
        }
    }

    #[tokio::test]
    async fn nobody_listening_is_said_at_once() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let error = refusal(LoopbackDialer::new(&lan()), &address).await.to_string();
        assert!(error.contains("refused"), "{error}");
    }

    #[test]
    fn credentials_are_pem_files() {
        let key_for_certificate = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let error = Credentials::read(&key_for_certificate, &key_for_certificate, &key_for_certificate).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("Cargo.toml: no PEM block \"CERTIFICATE\" in it: give a PEM file that this user may read")
        );
        let secret = Credentials { ca: String::new(), certificate: String::new(), key: "secret".into() };
        assert!(!format!("{secret:?}").contains("secret"));
    }
}
