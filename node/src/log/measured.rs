//! A log engine whose appends are timed for the figures.

use std::sync::Arc;

use dinhba_core::ids::GroupId;
use dinhba_core::store::{Done, LogEngine, LogState, StoreError};

use crate::metrics::Metrics;
use crate::runtime;

/// Passes everything on, and counts how long appends waited for their flush.
pub struct Measured {
    log: Arc<dyn LogEngine>,
    metrics: Metrics,
}

impl Measured {
    /// Times the appends of `log`.
    #[must_use]
    pub fn new(log: Arc<dyn LogEngine>, metrics: Metrics) -> Self {
        Measured { log, metrics }
    }
}

impl LogEngine for Measured {
    fn append(&self, group: GroupId, entries: Vec<(u64, Vec<u8>)>, done: Done) {
        let (metrics, began, count) = (self.metrics.clone(), runtime::now(), entries.len());
        let timed = move |result: Result<(), StoreError>| {
            match &result {
                Ok(()) => metrics.log_flush(runtime::now() - began, count),
                Err(error) => metrics.store_error(error),
            }
            done(result);
        };
        self.log.append(group, entries, Box::new(timed));
    }
    fn save_vote(&self, group: GroupId, vote: Vec<u8>, done: Done) {
        self.log.save_vote(group, vote, done);
    }
    fn truncate_from(&self, group: GroupId, index: u64, done: Done) {
        self.log.truncate_from(group, index, done);
    }
    fn purge_to(&self, group: GroupId, index: u64, mark: Vec<u8>, done: Done) {
        self.log.purge_to(group, index, mark, done);
    }
    fn touch(&self, done: Done) {
        self.log.touch(done);
    }
    fn read(&self, group: GroupId, from: u64, to: u64) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        self.log.read(group, from, to)
    }
    fn state(&self, group: GroupId) -> Result<LogState, StoreError> {
        self.log.state(group)
    }
    fn groups(&self) -> Result<Vec<GroupId>, StoreError> {
        self.log.groups()
    }
}
