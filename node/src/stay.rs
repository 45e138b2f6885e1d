//! How long a connection may stay, as the calls on it see that.
//!
//! A connection that came in through the door has an age ([`crate::tls`] sees to it). When it is reached, what would go on for as
//! long as both ends live is told to go on elsewhere: a stream between peers moves to another connection, a link's session and a
//! feed end with a status that says so, from where they stood. What ends by itself is left to end.
//! Calls without a [`Stay`] came past the door, as in the simulator: nothing tells them to go.

use futures::FutureExt;
use futures::future::{self, BoxFuture};

use crate::runtime::watch::{self, WatchReceiver, WatchSender};

/// Of each request, whether the connection on which it came has had its time: an extension.
#[derive(Clone)]
pub struct Stay(watch::Receiver<bool>);

/// Ends a [`Stay`].
pub struct Ending(watch::Sender<bool>);

impl Stay {
    /// A connection's, and what ends it.
    #[must_use]
    pub fn begin() -> (Self, Ending) {
        let (ending, stay) = watch::channel(false);
        (Stay(stay), Ending(ending))
    }

    /// Resolves when a request's connection has had its time.
    pub(crate) fn over(extensions: &http::Extensions) -> BoxFuture<'static, ()> {
        let Some(Stay(mut is_over)) = extensions.get::<Stay>().cloned() else { return future::pending().boxed() };
        async move {
            if WatchReceiver::wait_until(&mut is_over, |is_over| *is_over).await.is_err() {
                // The connection is gone, and its calls find out by themselves.
                future::pending::<()>().await;
            }
        }
        .boxed()
    }
}

impl Ending {
    /// The connection has had its time.
    pub fn end(&self) {
        // Nobody may be on it.
        let _ = WatchSender::send(&self.0, true);
    }
}
