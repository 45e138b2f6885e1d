//! What happened in a run, in order of virtual time: what the report draws, and what the run's hash covers beside the order
//! of all polls. Personal data does not enter it: records are named by their ids.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dinhba_core::ids::{Hash, RecordId};

use crate::executor::Handle;

/// A site, by its place in the country's list.
pub type SitePlace = usize;
/// A node, by its place in the country's list.
pub type NodePlace = usize;

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A part of the run begins: `forming`, `safety`, `healing`, `judging`.
    Phase {
        /// Its name.
        name: &'static str,
    },
    /// A fault begins, or a moment's fault happens.
    FaultBegins {
        /// Its place in the scenario.
        fault: usize,
        /// Its kind.
        kind: &'static str,
        /// What it hits, for people.
        text: String,
        /// The nodes and sites that it hits.
        nodes: Vec<NodePlace>,
        /// See `nodes`.
        sites: Vec<SitePlace>,
    },
    /// A fault is over.
    FaultEnds {
        /// Its place in the scenario.
        fault: usize,
    },
    /// A node was started.
    NodeStarts {
        /// Which.
        node: NodePlace,
    },
    /// A node's groups run.
    NodeRuns {
        /// Which.
        node: NodePlace,
    },
    /// A node stopped, or was stopped.
    NodeStops {
        /// Which.
        node: NodePlace,
        /// How: `power cut`, `killed`, `gone`, or the reason why it refused to start.
        why: String,
    },
    /// A node says that it leads its group.
    Leads {
        /// Which.
        node: NodePlace,
        /// The group.
        group: String,
        /// Since which term.
        term: u64,
    },
    /// An officer was told that an edit is accepted.
    Accepted {
        /// The officer's place in the scenario.
        officer: usize,
        /// Where.
        site: SitePlace,
        /// The request.
        request: String,
        /// The record.
        record: RecordId,
        /// What was done: `birth`, `card`, `shared`, `decision`, `branches`, `several`, `many`, `growth`.
        work: &'static str,
        /// The hash of its last edit.
        hash: Hash,
    },
    /// An officer was told something else: `stale`, `refused`, `unreachable`, `unknown`.
    NotAccepted {
        /// The officer's place in the scenario.
        officer: usize,
        /// Where.
        site: SitePlace,
        /// What he was told.
        told: String,
    },
    /// Edits are there that a site had not held at the last look.
    Arrived {
        /// Where.
        site: SitePlace,
        /// The hashes of the edits.
        hashes: Vec<Hash>,
    },
    /// A site's open conflicts changed.
    Conflicts {
        /// Where.
        site: SitePlace,
        /// How many are open now.
        open: u64,
    },
    /// Messages between sites since the last such event: (from, to, messages, bytes).
    Traffic {
        /// See above.
        ways: Vec<(SitePlace, SitePlace, u64, u64)>,
    },
    /// All sites of all shards are in step again.
    InStep,
    /// A promise is broken.
    Violation {
        /// The promise.
        promise: &'static str,
        /// What was seen.
        text: String,
    },
}

/// An event with its time.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Virtual time since the run began.
    pub at: Duration,
    /// What happened.
    pub event: Event,
}

/// The events of a run; clones are the same.
#[derive(Clone)]
pub struct Trace {
    simulator: Handle,
    entries: Arc<Mutex<Vec<Entry>>>,
}

impl Trace {
    /// An empty one.
    #[must_use]
    pub fn new(simulator: Handle) -> Self {
        Trace { simulator, entries: Arc::default() }
    }

    /// Adds what happened now.
    pub fn add(&self, event: Event) {
        let entry = Entry { at: self.simulator.now(), event };
        self.simulator.record(format!("{:?}", entry.event).as_bytes());
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }

    /// Virtual time.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.simulator.now()
    }

    /// Everything until now.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
