//! The Raft logs and votes of all groups of a node, in segment files over the [`Disk`](crate::disk::Disk) seam.
//!
//! Read bottom-up: `frame` (bytes), `index` (what is where), `writer` (the disk work of a flush and its order),
//! `segments` (the log, synchronous), `recover` (reading it back), `commit` and `tasked` (who flushes
//! when).
//!
//! Promises what [`LogEngine`](dinhba_core::store::LogEngine) promises: what was acknowledged survives a power cut, an
//! unacknowledged entry is there whole or not at all, and damage in what was acknowledged is `Corrupt` with file and
//! offset. After a failed write or flush every call is an error until the log is opened anew.
//!
//! Leaves to others: when to purge, and the meaning of entries, votes and marks. One process at a time may open a
//! directory; the lock of the state engine beside it sees to that.

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod faulty;
#[cfg(test)]
mod model;

mod commit;
mod frame;
mod index;
mod measured;
mod recover;
mod segments;
mod tasked;
mod writer;

pub use commit::{GroupCommit, Inline};
pub use measured::Measured;
pub use recover::refuse_lost;
pub use segments::{LogOptions, MARK_BYTES_MAX, PAYLOAD_BYTES_MAX, SegmentLog};
pub use tasked::Tasked;
