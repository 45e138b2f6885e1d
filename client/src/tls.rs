//! Dialing a node: mutual TLS over TCP, or plain TCP on the own machine for development.
//!
//! Owns: the two [`Dial`]s of production, the names that a node's certificate carries, the time limits of a connection.
//! Promises: a [`TlsDialer`] talks only to a server whose certificate chains to the given authority *and* carries the
//! expected name; a dead link is noticed within about ten seconds, by HTTP/2 pings; a [`LoopbackDialer`] never sends
//! its unprotected identity to another machine.
//! Leaves to others: retries and their back-off; issuing certificates; the limit on a message, which gRPC clients and
//! servers set themselves from [`MESSAGE_BYTES_MAX`].
//! Limit: in TLS 1.3 a server refuses a client's certificate after the client has finished its half of the handshake,
//! so a refused caller may see its first call fail, not the dialing.
//!
//! An address is `host:port`, or `name@host:port` ([`named`]) to say which name the certificate must carry. Without a
//! name it must carry the host. Links and peers always give a name: an address may have passed to another node.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use dinhba_core::claims::Identity;
use dinhba_core::ids::{NodeId, SiteId};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::HeaderValue;
use tonic::body::Body;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tower::ServiceExt;

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
    /// The other end cannot be reached, or is not who it should be.
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

/// Dials with mutual TLS.
#[derive(Debug, Clone)]
pub struct TlsDialer {
    tls: ClientTlsConfig,
}

impl TlsDialer {
    /// A dialer that shows and believes `credentials`.
    #[must_use]
    pub fn new(credentials: &Credentials) -> Self {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&credentials.ca))
            .identity(tonic::transport::Identity::from_pem(&credentials.certificate, &credentials.key))
            .timeout(CONNECT_TIMEOUT);
        TlsDialer { tls }
    }
}

impl Dial for TlsDialer {
    fn dial(&self, address: String) -> BoxFuture<'static, Result<Transport, TransportError>> {
        let tls = self.tls.clone();
        async move {
            let (name, host_port) = split_name(&address);
            let tls = match name {
                Some(name) => tls.domain_name(name),
                None => tls,
            };
            let endpoint = endpoint("https", host_port, &address)?
                .tls_config(tls)
                .map_err(|error| DialError::Refused { address: address.clone(), reason: causes(&error) })?;
            let channel = connect(&endpoint, &address).await?;
            Ok(Transport::new(channel.map_err(TransportError::from)))
        }
        .boxed()
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
            let endpoint = endpoint("http", host_port, &address)?;
            if !endpoint.uri().host().is_some_and(is_loopback) {
                return Err(DialError::NotLoopback { address }.into());
            }
            let channel = connect(&endpoint, &address).await?;
            let add_identity = move |mut request: http::Request<Body>| {
                request.headers_mut().insert(IDENTITY_HEADER, identity.clone());
                request
            };
            Ok(Transport::new(channel.map_request(add_identity).map_err(TransportError::from)))
        }
        .boxed()
    }
}

fn endpoint(scheme: &str, host_port: &str, address: &str) -> Result<Endpoint, DialError> {
    let bad = || DialError::Address { address: address.to_owned() };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{host_port}")).map_err(|_| bad())?;
    let authority = endpoint.uri().authority().ok_or_else(bad)?;
    // A path, a user or an absent port would be ignored silently.
    if authority.as_str() != host_port || authority.port_u16().is_none_or(|port| port == 0) {
        return Err(bad());
    }
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .http2_max_header_list_size(HEADER_BYTES_MAX))
}

async fn connect(endpoint: &Endpoint, address: &str) -> Result<Channel, DialError> {
    // The endpoint's own limits hold for TCP and for TLS apart, and when it reconnects; this one for both together.
    match tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect()).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(DialError::Refused { address: address.to_owned(), reason: causes(&error) }),
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
