//! Raft groups: the consensus of one site, from openraft, over this project's disk and network.
//!
//! Read in this order: `types` (what openraft calls things here, and their bytes), `log_store` and `machine` (openraft's
//! storage traits over the engines), `snapshot` (the file format), `peer` (one stream per peer for all groups),
//! `network` (openraft's calls over it), `incoming` (a snapshot's file while it arrives), `group` (one group: propose, read,
//! change members; its start, and its repair from another member).
//!
//! Promises: an answered proposal is on the disks of a majority and applied here; a barrier that returned shows every
//! earlier acknowledged proposal, at any node. Commands and answers are opaque bytes; what they mean is the business of
//! the [`machine::Machine`] above.

pub(crate) mod condition;
pub mod group;
mod incoming;
pub mod log_store;
pub mod machine;
pub mod network;
pub mod peer;
pub mod snapshot;
pub(crate) mod stored;
pub mod types;

#[cfg(test)]
mod storage_tests;
#[cfg(test)]
mod tests;

/// In-memory engines, disk and machine for tests, and the simulator's own tests.
pub mod test_support;
