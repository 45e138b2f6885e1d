//! What was refused at the node's door, and where it dials: handshakes that did not end well, and calls of what operators do by
//! those who may not. Each is told once in the log, all of them are counted.
//!
//! Owns: what is told and counted ([`Refusals`]), and a dialer that does so ([`Telling`]). Promises: of one peer, one reason and
//! one side there is one line in `SAID_AGAIN`, which says how many there were since; no more than `SAID_MAX` lines in that
//! time of each side, whoever calls, and then one that says that there are no more. Who showed no certificate that holds is one
//! peer by address, whatever names it invents. Leaves to others: what is refused, and its words (`dinhba_client::handshake`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dinhba_client::handshake::{By, Refusal};
use dinhba_client::tls::DialError;
use dinhba_client::transport::{Dial, Transport, TransportError};
use dinhba_core::claims::Claims;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::metrics::Metrics;
use crate::runtime::{self, Instant};

/// A peer that comes again and again is told of again after this: often enough to be found in today's log.
const SAID_AGAIN: Duration = Duration::from_secs(60 * 60);
/// Peers and reasons that are remembered, of each side: far more than a site has nodes and officers with a fault at once.
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

/// Whether by us, why, whom.
type Key = (bool, &'static str, String);

struct Said {
    at: Instant,
    /// Since then.
    again: u64,
}

/// Things of one kind, each of which is told once in [`SAID_AGAIN`].
struct Sayings<K> {
    what: &'static str,
    kept: Mutex<Kept<K>>,
}

struct Kept<K> {
    said: BTreeMap<K, Said>,
    /// When it was told that there are too many.
    full_at: Option<Instant>,
}

impl<K: Ord> Sayings<K> {
    fn new(what: &'static str) -> Self {
        Sayings { what, kept: Mutex::new(Kept { said: BTreeMap::new(), full_at: None }) }
    }

    /// How many were not told of since the last line, if there is to be one now.
    fn to_say(&self, key: K) -> Option<u64> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let now = runtime::now();
        if let Some(before) = kept.said.get_mut(&key) {
            if now - before.at < SAID_AGAIN {
                before.again += 1;
                return None;
            }
            let again = before.again;
            *before = Said { at: now, again: 0 };
            return Some(again);
        }
        if kept.said.len() >= SAID_MAX {
            kept.said.retain(|_, before| now - before.at < SAID_AGAIN);
        }
        // Beyond that the figures must do.
        if kept.said.len() >= SAID_MAX {
            if kept.full_at.is_none_or(|at| now - at >= SAID_AGAIN) {
                kept.full_at = Some(now);
                tracing::warn!(what = self.what, most = SAID_MAX, "too many to be told of one by one: see the metrics");
            }
            return None;
        }
        kept.said.insert(key, Said { at: now, again: 0 });
        Some(0)
    }
}

/// What was told of, and the figures.
pub struct Refusals {
    metrics: Metrics,
    door: Sayings<Key>,
    dial: Sayings<Key>,
    acts: Sayings<String>,
}

impl Refusals {
    /// None yet; they are counted in `metrics`.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Refusals {
            metrics,
            door: Sayings::new("callers that did not get in"),
            dial: Sayings::new("nodes that could not be called"),
            acts: Sayings::new("callers of what operators do"),
        }
    }

    /// One more handshake. `whose` is for whom there is one line: the peer as far as it is known who it is.
    pub fn note(&self, side: Side, whose: &str, refusal: &Refusal) {
        let (by_us, reason) = (refusal.by == By::Us, refusal.fault.word());
        let by = if by_us { "us" } else { "them" };
        self.metrics.handshake_refused(side.word(), by, reason);
        let sayings = match side {
            Side::Door => &self.door,
            Side::Dial => &self.dial,
        };
        let Some(again) = sayings.to_say((by_us, reason, whose.to_owned())) else { return };
        let (peer, detail) = (&refusal.peer, refusal.lasting());
        match side {
            Side::Door => tracing::warn!(peer, by, reason, again, detail, "a caller did not get in"),
            Side::Dial => tracing::warn!(peer, by, reason, again, detail, "a node could not be called"),
        }
    }

    /// Somebody asked for what operators do, and may not.
    pub(crate) fn note_act(&self, claims: &Claims) {
        self.metrics.act_refused();
        let Claims { subject, role, unit, .. } = claims;
        if let Some(again) = self.acts.to_say(subject.to_string()) {
            tracing::warn!(%subject, %role, %unit, again, "somebody who may not asked for what operators do");
        }
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
                    refusals.note(Side::Dial, &refusal.peer, refusal);
                }
            })
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use dinhba_client::handshake::Fault;
    use dinhba_core::claims::Role;
    use dinhba_core::date::InstantMs;
    use dinhba_core::ids::{EvidenceId, UnitId};

    use super::*;

    fn refusal(peer: &str, fault: Fault) -> Refusal {
        Refusal { peer: peer.to_owned(), by: By::Us, fault, own: None, now: InstantMs(0) }
    }

    #[test]
    fn each_peer_and_reason_is_told_once_and_all_are_counted() {
        let metrics = Metrics::new();
        let refusals = Refusals::new(metrics.clone());
        let key = |peer: &str| (true, "other_authority", peer.to_owned());
        assert_eq!(refusals.door.to_say(key("a")), Some(0));
        assert_eq!(refusals.door.to_say(key("a")), None);
        assert_eq!(refusals.door.to_say(key("b")), Some(0));
        for _ in 0..20 {
            refusals.note(Side::Door, "c", &refusal("c", Fault::Authority));
        }
        assert!(
            metrics
                .page()
                .contains("dinhba_handshakes_refused_total{side=\"door\",by=\"us\",reason=\"other_authority\"} 20")
        );
        // A crowd fills no log.
        let told = (0..10_000).filter(|peer| refusals.door.to_say(key(&peer.to_string())).is_some()).count();
        assert!(told < SAID_MAX, "{told}");
        assert!(refusals.door.kept.lock().unwrap().full_at.is_some(), "and it is said that there are more");
        // It silences nothing but itself.
        assert_eq!(refusals.dial.to_say(key("a")), Some(0));
    }

    #[test]
    fn who_invents_names_is_one_peer_and_is_told_of_once() {
        let refusals = Refusals::new(Metrics::new());
        for name in 0..1000 {
            refusals.note(Side::Door, "192.0.2.7", &refusal(&format!("192.0.2.7 (n-{name})"), Fault::Authority));
        }
        assert_eq!(refusals.door.kept.lock().unwrap().said.len(), 1);
    }

    #[test]
    fn who_asks_again_and_again_for_what_operators_do_is_told_of_once() {
        let refusals = Refusals::new(Metrics::new());
        let claims = |name| Claims::new(name, Role::Registrar, UnitId(3), EvidenceId::default()).unwrap();
        for _ in 0..9 {
            refusals.note_act(&claims("lan"));
        }
        refusals.note_act(&claims("hoa"));
        assert_eq!(refusals.acts.kept.lock().unwrap().said.len(), 2);
        assert_eq!(refusals.acts.to_say(claims("lan").subject.to_string()), None);
        assert!(refusals.metrics.page().contains("dinhba_acts_refused_total 10"));
    }
}
