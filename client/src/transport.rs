//! How a request reaches a node: a boxed tower service, so that production dials TLS over TCP and the simulator hands
//! over an in-memory service, and no caller can tell.

use futures::future::BoxFuture;
use tonic::body::Body;
use tower::util::BoxCloneSyncService;

/// Any error of a transport.
pub type TransportError = Box<dyn std::error::Error + Send + Sync>;

/// A connection to one node that carries gRPC calls.
pub type Transport = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, TransportError>;

/// Makes connections.
pub trait Dial: Send + Sync + 'static {
    /// Connects to the node that listens at `address` (`host:port`).
    fn dial(&self, address: String) -> BoxFuture<'static, Result<Transport, TransportError>>;
}
