//! How a request reaches a node: a boxed tower service, so that production dials TLS over TCP and the simulator hands
//! over an in-memory service, and no caller can tell.

use std::task::Poll;

use futures::TryFutureExt;
use futures::future::{BoxFuture, MapErr};
use tonic::body::Body;
use tower::Service;
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

/// A transport whose errors are of a plain type: with the boxed ones, the compiler cannot see that tonic's futures are `Send`.
#[derive(Clone)]
pub struct Line(pub Transport);

/// An error of a transport.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Broken(#[source] TransportError);

impl Service<http::Request<Body>> for Line {
    type Response = http::Response<Body>;
    type Error = Broken;
    type Future = MapErr<<Transport as Service<http::Request<Body>>>::Future, fn(TransportError) -> Broken>;

    fn poll_ready(&mut self, task: &mut std::task::Context<'_>) -> Poll<Result<(), Broken>> {
        self.0.poll_ready(task).map_err(Broken as fn(TransportError) -> Broken)
    }
    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.0.call(request).map_err(Broken as fn(TransportError) -> Broken)
    }
}
