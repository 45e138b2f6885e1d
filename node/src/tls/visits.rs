//! What becomes of those who got in: each is served until it leaves, its time is over, or its node was removed from the site.
//!
//! Promises: no connection stays for longer than twice `node.connection_age_ms`. Between a third of that and all of it (not all
//! at one moment) it is told to go: what goes on for as long as both ends live hears it by its [`Stay`], HTTP/2 takes no new calls
//! on it (GOAWAY), and what is under way may end; what has not ended after as long again is cut off. So a certificate counts for
//! no longer than that after its end. A node of this site that was removed is cut off at once; when it comes again it has
//! [`LEFT_STAY`], in which it hears that it was removed.
//! Limits: without TLS nobody is known by a connection, and only what a service cuts off itself ends at once.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use dinhba_core::claims::Identity;
use dinhba_core::ids::{NodeId, SiteId};
use futures::future::{self, BoxFuture};
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Error;

use super::porter::{Inside, Tether};
use crate::runtime;
use crate::runtime::watch::{self, WatchReceiver};
use crate::stay::Stay;

/// How long a node that was removed stays when it comes again: a question and its answer over a slow line.
const LEFT_STAY: Duration = Duration::from_secs(10);

/// What bounds a visit.
#[derive(Clone)]
pub struct Bounds {
    /// How old a connection may become before what is under way on it has as long again.
    pub age_max: Duration,
    /// This site.
    pub site: SiteId,
    /// Its nodes that were removed for good.
    pub left: watch::Receiver<BTreeSet<NodeId>>,
}

impl Bounds {
    fn has_left(&self, caller: Option<&Identity>) -> bool {
        matches!(caller, Some(Identity::Node { site, node })
            if *site == self.site && WatchReceiver::borrow_watched(&self.left).contains(node))
    }

    /// Resolves once the caller has left the site.
    async fn leaves(mut self, caller: Option<Identity>) {
        while !self.has_left(caller.as_ref()) {
            if WatchReceiver::changed(&mut self.left).await.is_err() {
                future::pending::<()>().await;
            }
        }
    }
}

/// A caller, as a server takes it; there is no second one.
pub type Visitor = BoxStream<'static, io::Result<Inside>>;

/// Serves callers until `closing`, then waits until all of them are gone. `serve` is a server for one connection; what it is given
/// resolves when it is to take no more calls.
pub async fn receive<Serving>(
    mut callers: ReceiverStream<io::Result<Inside>>,
    bounds: Bounds,
    closing: impl Future<Output = ()> + Clone + Send + 'static,
    serve: impl Fn(Stay, Visitor, BoxFuture<'static, ()>) -> Serving,
) where
    Serving: Future<Output = Result<(), Error>> + Send + 'static,
{
    let (here, mut all_gone) = mpsc::channel::<()>(1);
    loop {
        let inside = tokio::select! {
            biased;
            () = closing.clone() => break,
            inside = callers.next() => inside,
        };
        let Some(Ok(mut inside)) = inside else { break };
        let (stay, ending) = Stay::begin();
        let (caller, Tether { gone, cut }) = (inside.whose().cloned(), inside.tether());
        let (ask, asked) = oneshot::channel::<()>();
        let inside = stream::once(future::ready(Ok(inside))).chain(stream::pending()).boxed();
        let serving = serve(stay, inside, asked.map(drop).boxed());
        let (bounds, closing, here) = (bounds.clone(), closing.clone(), here.clone());
        runtime::spawn("visit", async move {
            let is_out = bounds.has_left(caller.as_ref());
            let age = if is_out { LEFT_STAY } else { runtime::jitter(bounds.age_max / 3 * 2) };
            let grace = if is_out { Duration::ZERO } else { bounds.age_max };
            let ends = async {
                let mut leaves = match is_out {
                    true => future::pending().boxed(),
                    false => bounds.leaves(caller).boxed(),
                };
                tokio::select! {
                    () = closing => {
                        let _ = ask.send(());
                        // The process waits for it, for a moment.
                        return future::pending().await;
                    }
                    () = &mut leaves => return drop(cut),
                    () = runtime::sleep(age) => {}
                }
                ending.end();
                let _ = ask.send(());
                tokio::select! {
                    () = leaves => {}
                    () = runtime::sleep(grace) => {}
                }
                drop(cut);
            };
            // Whatever is dropped with this has ended, or must not go on.
            tokio::select! {
                _ = serving => {}
                _ = gone => {}
                () = ends.then(|()| future::pending()) => {}
            }
            drop(here);
        });
    }
    drop((callers, here));
    while all_gone.recv().await.is_some() {}
}
