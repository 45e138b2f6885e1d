//! When a replica keeps time. openraft looks at its timers five times in the time of a heartbeat, in every group, whether
//! anything can come of it or not; of a node with many idle groups that is most of the work. Here its ticks run only while an
//! election may be due:
//!
//! - A leader sends its heartbeats from here, at the same moments as all leaders of its node. Without other members it sends none.
//! - A follower's ticks rest while it hears its leader, and run again well before the silence is long enough for an election:
//!   openraft then decides when, as always.
//! - One without a vote is never elected.
//!
//! Nothing else in openraft hangs on its ticks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dinhba_core::inject::is_armed;
use openraft::{Raft, ServerState};

use super::Settings;
use crate::raft::machine::StateMachine;
use crate::raft::peer::PeerPool;
use crate::raft::types::TypeConfig;
use crate::runtime::watch::WatchReceiver;
use crate::runtime::{self, Instant};

/// When the last message of a leader came that a replica took.
#[derive(Debug, Default)]
pub(super) struct Heard(Mutex<Option<Instant>>);

impl Heard {
    /// One has come then.
    pub(super) fn at(&self, then: Instant) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = (*last).max(Some(then));
    }

    fn last(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a replica has to do with time.
enum Part {
    /// Leads others.
    Beats,
    /// Follows with a vote.
    Listens,
    /// Neither hears nor is heard in time: alone, or without a vote.
    Rests,
    /// Has no leader.
    Elects,
}

/// Keeps the time of a replica, as long as it runs.
pub(super) async fn keep(raft: Raft<TypeConfig, StateMachine>, heard: Arc<Heard>, pool: PeerPool, settings: Settings) {
    let heartbeat = Duration::from_millis(settings.heartbeat_ms);
    let silence = Duration::from_millis(settings.election_ms_min) / 2;
    let mut changes = raft.server_metrics();
    let mut beat = runtime::now();
    loop {
        let part = {
            let now = changes.borrow_and_update();
            let has_others = now.membership_config.membership().nodes().any(|(node, _)| *node != now.id);
            match now.state {
                ServerState::Leader if has_others => Part::Beats,
                ServerState::Leader | ServerState::Learner => Part::Rests,
                ServerState::Follower if now.current_leader.is_some() => Part::Listens,
                _ => Part::Elects,
            }
        };
        let now = runtime::now();
        let (ticks, until) = match part {
            Part::Rests => (false, None),
            Part::Elects => (true, None),
            Part::Beats => {
                if now >= beat {
                    beat = pool.next_beat(heartbeat);
                    // It answers with an error only if the replica has stopped.
                    let _ = raft.trigger().heartbeat().await;
                }
                (false, Some(beat))
            }
            Part::Listens => match heard.last().map(|at| at + silence).filter(|until| now < *until) {
                Some(until) => (false, Some(until)),
                None if is_armed("rest-for-ever") => (false, None),
                None => (true, Some(now + silence)),
            },
        };
        raft.runtime_config().tick(ticks);
        let changed = match until {
            None => changes.changed().await,
            Some(until) => match runtime::timeout_at(until, changes.changed()).await {
                Ok(changed) => changed,
                Err(_) => continue,
            },
        };
        if changed.is_err() {
            return;
        }
    }
}
