//! The node's own door: with what it serves, and with what it dials.
//!
//! Owns: turning `[tls]` into a door at which every caller shows a certificate ([`Door::admit`]), a gRPC server
//! ([`Door::server`]), and the node's dialer ([`Door::dialer`]); listening.
//! Promises: without a certificate of the authority, valid now, nobody gets past the handshake, and who did not is told of and
//! counted (`refusals`); without TLS the node listens on loopback addresses alone, whatever a name resolves to; the node's own
//! certificate, key and configuration fit each other, or it does not start. No one machine and no one caller keeps others
//! out by being slow or many, and people do not keep nodes out (`porter`, which says what many machines can do).
//! Leaves to others: who the caller is (`pki::peer_identity`), what it may do, the gRPC services, and the limit on a message.
//! No connection stays for ever (`visits`), so that a caller's certificate that ends, or a node that was removed, is seen.
//! Limits: certificates are read at start, so a renewed one needs a restart; there is no revocation list; that a caller's
//! certificate ends is not seen before its connection has had its time.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dinhba_client::handshake::Validity;
use dinhba_client::tls::{
    Credentials, DialError, HEADER_BYTES_MAX, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT, LoopbackDialer, STREAMS_MAX,
    TlsDialer, authorities, certificates, private_key,
};
use dinhba_client::transport::Dial;
use dinhba_core::claims::Identity;
use futures::StreamExt;
use rustls::CertificateError;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::{Interceptor, InterceptorLayer};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Status};
use tower::layer::util::{Identity as NoLayer, Stack};

use crate::config::{Address, Config, Tls};
use crate::pki::{TrustHeader, certificate_identity};
use crate::refusals::Refusals;
use crate::runtime;

mod porter;
mod visits;

use porter::{Handshakes, Porter};

pub use porter::Inside;
pub use visits::{Bounds, Visitor, receive};

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
        let porter = Arc::new(Porter::new(tls, refusals));
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
    is_issued_by(&chain, credentials).map_err(|reason| DoorError::Misfit {
        key: "tls.certificate",
        path: path.display().to_string(),
        reason,
        instead: "name the certificate that the authority in tls.ca issued, or that authority: every peer would refuse this one",
    })?;
    certified_key(credentials, &rustls::crypto::ring::default_provider()).map(drop).map_err(|reason| {
        DoorError::Misfit {
            key: "tls.key",
            path: key_path.display().to_string(),
            reason,
            instead: "name the private key that belongs to tls.certificate",
        }
    })
}

/// Whether the authority issued a certificate, at some time: whether that is now is asked with every handshake.
fn is_issued_by(chain: &[CertificateDer<'_>], credentials: &Credentials) -> Result<(), String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = Arc::new(authorities(&credentials.ca)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
    let verifier = verifier.map_err(|error| error.to_string())?;
    let (leaf, between) = chain.split_first().ok_or("no certificate in it")?;
    // A time at which all of both is valid; if there is none, dates are what is wrong, and are told elsewhere.
    let validities = [&credentials.certificate, &credentials.ca].map(|pem| Validity::of(pem));
    let from = validities.iter().flatten().map(|validity| validity.from.0).max().unwrap_or_default();
    let at = UnixTime::since_unix_epoch(Duration::from_millis(u64::try_from(from).unwrap_or_default()));
    match verifier.verify_client_cert(leaf, between, at) {
        Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
            Err("the authority in tls.ca did not issue it".to_owned())
        }
        _ => Ok(()),
    }
}

fn certified_key(credentials: &Credentials, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let (chain, key) = (certificates(&credentials.certificate)?, private_key(&credentials.key)?);
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => "the key does not match the certificate".to_owned(),
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests;
