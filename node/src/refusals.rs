//! Handshakes that did not end well, at the node's door and where it dials: each told once in the log, all of them counted.
//!
//! Owns: what is told and counted ([`Refusals`]), and a dialer that does so ([`Telling`]). Promises: of one peer, one reason and
//! one side there is one line in `SAID_AGAIN`, which says how many there were since; no more than `SAID_MAX` lines in that
//! time in all, whoever calls. Leaves to others: what is refused, and its words (`dinhba_client::handshake`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dinhba_client::handshake::{By, Refusal};
use dinhba_client::tls::DialError;
use dinhba_client::transport::{Dial, Transport, TransportError};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::metrics::Metrics;
use crate::runtime::{self, Instant};

/// A peer that comes again and again is told of again after this: often enough to be found in today's log.
const SAID_AGAIN: Duration = Duration::from_secs(60 * 60);
/// Peers and reasons that are remembered: far more than a site has nodes and officers with a fault at once.
const SAID_MAX: usize = 256;

/// At which end of a connection this node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// It was called.
    Door,
    /// It called.
    Dial,
}

impl Side {
    fn word(self) -> &'static str {
        match self {
            Side::Door => "door",
            Side::Dial => "dial",
        }
    }
}

/// At which side, whether by us, why, whom.
type Key = (Side, bool, &'static str, String);

struct Said {
    at: Instant,
    /// Since then.
    again: u64,
}

/// What was told of, and the figures.
pub struct Refusals {
    metrics: Metrics,
    said: Mutex<BTreeMap<Key, Said>>,
}

impl Refusals {
    /// None yet; they are counted in `metrics`.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Refusals { metrics, said: Mutex::default() }
    }

    /// One more.
    pub fn note(&self, side: Side, refusal: &Refusal) {
        let (by_us, reason) = (refusal.by == By::Us, refusal.fault.word());
        let by = if by_us { "us" } else { "them" };
        self.metrics.handshake_refused(side.word(), by, reason);
        let Some(again) = self.to_say((side, by_us, reason, refusal.peer.clone())) else { return };
        let (peer, detail) = (&refusal.peer, refusal.lasting());
        match side {
            Side::Door => tracing::warn!(peer, by, reason, again, detail, "a caller did not get in"),
            Side::Dial => tracing::warn!(peer, by, reason, again, detail, "a node could not be called"),
        }
    }

    /// How many were not told of since the last line, if there is to be one now.
    fn to_say(&self, key: Key) -> Option<u64> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let now = runtime::now();
        if let Some(before) = said.get_mut(&key) {
            if now - before.at < SAID_AGAIN {
                before.again += 1;
                return None;
            }
            let again = before.again;
            *before = Said { at: now, again: 0 };
            return Some(again);
        }
        if said.len() >= SAID_MAX {
            said.retain(|_, before| now - before.at < SAID_AGAIN);
        }
        // Beyond that the figures must do.
        if said.len() >= SAID_MAX {
            return None;
        }
        said.insert(key, Said { at: now, again: 0 });
        Some(0)
    }
}

/// A dialer that tells of handshakes that did not end well.
pub struct Telling {
    dial: Arc<dyn Dial>,
    refusals: Arc<Refusals>,
}

impl Telling {
    /// Dials by `dial`.
    #[must_use]
    pub fn new(dial: Arc<dyn Dial>, refusals: Arc<Refusals>) -> Self {
        Telling { dial, refusals }
    }
}

impl Dial for Telling {
    fn dial(&self, address: String) -> BoxFuture<'static, Result<Transport, TransportError>> {
        let (dialing, refusals) = (self.dial.dial(address), Arc::clone(&self.refusals));
        async move {
            dialing.await.inspect_err(|error| {
                if let Some(DialError::Handshake(refusal)) = DialError::in_chain(&**error) {
                    refusals.note(Side::Dial, refusal);
                }
            })
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use dinhba_client::handshake::Fault;
    use dinhba_core::date::InstantMs;

    use super::*;

    fn refusal(peer: &str, fault: Fault) -> Refusal {
        Refusal { peer: peer.to_owned(), by: By::Us, fault, own: None, now: InstantMs(0) }
    }

    #[test]
    fn each_peer_and_reason_is_told_once_and_all_are_counted() {
        let metrics = Metrics::new();
        let refusals = Refusals::new(metrics.clone());
        let key = |peer: &str| (Side::Door, true, "other_authority", peer.to_owned());
        assert_eq!(refusals.to_say(key("a")), Some(0));
        assert_eq!(refusals.to_say(key("a")), None);
        assert_eq!(refusals.to_say(key("b")), Some(0));
        for _ in 0..20 {
            refusals.note(Side::Door, &refusal("c", Fault::Authority));
        }
        assert!(
            metrics
                .page()
                .contains("dinhba_handshakes_refused_total{side=\"door\",by=\"us\",reason=\"other_authority\"} 20")
        );
        // A crowd fills no log.
        let told = (0..10_000).filter(|peer| refusals.to_say(key(&peer.to_string())).is_some()).count();
        assert!(told < SAID_MAX, "{told}");
    }
}
