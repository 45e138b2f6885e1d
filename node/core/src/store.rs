//! The only disk that the rest of the program knows: two small traits.
//!
//! [`StateEngine`] holds the folded state of all groups of a node in one ordered key space; the first eight bytes of
//! each key are the group (see `keys`). [`LogEngine`] holds the Raft logs and votes of all groups of a node.
//! Both are synchronous. Values are checksummed and sealed by the implementation, below these traits.
//!
//! The order that makes it safe: persist, flush, then acknowledge. `StateEngine::apply` is not flushed; the applied
//! index travels in its batch and the log replays. `sync` runs before a snapshot counts as taken and before the log is
//! purged, and only what is below a synced state is purged.

use crate::ids::GroupId;

/// What went wrong below the storage traits. Any of these stops the replica that met it: it concerns this machine only.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused: a full disk, a read error, a lost device.
    #[error("disk: {0}")]
    Io(String),
    /// The disk is full. Said apart, since an operator can help.
    #[error("the disk is full: free some space, then restart the node ({0})")]
    Full(String),
    /// Bytes came back other than they were written.
    #[error("damaged data at {place}: {detail}")]
    Corrupt {
        /// The file or the key (in hex) that is damaged.
        place: String,
        /// What was expected.
        detail: String,
    },
    /// Whole, and not to be read by this version: made by a newer one.
    #[error("{place} was written by a newer version ({detail}): upgrade this node; its data is not damaged")]
    Newer {
        /// Where it stands.
        place: String,
        /// What is not understood.
        detail: String,
    },
    /// Whole, and under a secret key that this machine was not given.
    #[error("{place} needs another key ({detail}): give the node the secrets of its site; its data is not damaged")]
    Keyed {
        /// What.
        place: String,
        /// Which key is asked for.
        detail: String,
    },
    /// A snapshot is being put in the place of the state.
    #[error("the state is being replaced: ask again in a moment")]
    Replacing,
    /// An earlier failure to flush poisoned the engine; only a restart clears it.
    #[error("storage stopped after an earlier error: {0}")]
    Poisoned(String),
}

/// A key and its value, or why it cannot be read.
pub type ScanItem = Result<(Vec<u8>, Vec<u8>), StoreError>;
/// An ordered walk over a range of keys, from either end.
pub type Scan<'a> = Box<dyn DoubleEndedIterator<Item = ScanItem> + 'a>;

/// A consistent view of the state.
pub trait StateView: Send {
    /// The value under `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
    /// All keys in `from..to` (half open), in order of their bytes.
    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> Scan<'a>;
}

/// Puts and deletes that become visible together or not at all. The last write to a key counts.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Key, and its new value or `None` to delete it.
    pub writes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl std::fmt::Debug for Batch {
    /// Lengths only: values are personal data, and the key of a conflict has the key of an element.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let length = |value: &Option<Vec<u8>>| value.as_ref().map(Vec::len);
        f.debug_list().entries(self.writes.iter().map(|(key, value)| (key.len(), length(value)))).finish()
    }
}

impl Batch {
    /// Sets `key` to `value`.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.writes.push((key, Some(value)));
    }
    /// Removes `key`, if it is there.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.writes.push((key, None));
    }
}

/// The folded state of all groups of one node.
pub trait StateEngine: StateView + Send + Sync {
    /// Makes the batch visible at once and atomically, across power loss too; not durable until [`sync`](Self::sync).
    fn apply(&self, batch: Batch) -> Result<(), StoreError>;
    /// Everything applied earlier is durable when this returns: after a crash it is there, or the opening reports damage, as
    /// one engine always does. An error poisons the engine.
    fn sync(&self) -> Result<(), StoreError>;
    /// A view that later batches do not change.
    fn snapshot(&self) -> Result<Box<dyn StateView + '_>, StoreError>;
    /// Removes every key in `from..to`; like `apply`, durable after `sync`. Used to replace a group by a snapshot.
    fn clear(&self, from: &[u8], to: &[u8]) -> Result<(), StoreError>;
    /// Ends an orderly use: everything is durable when this returns, and a later call may be refused. Whoever does not call
    /// it and goes leaves it to the drop, or to the next opening to see to what a crash left.
    fn close(&self) -> Result<(), StoreError> {
        self.sync()
    }
}

/// Called once, when what it was given with is durable or has failed. May run on the writer's thread: it must not block.
pub type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Where a group's log begins and ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogState {
    /// The last saved vote, as given.
    pub vote: Option<Vec<u8>>,
    /// The last purged index and the mark given with it.
    pub purged: Option<(u64, Vec<u8>)>,
    /// The last entry present: its index and bytes.
    pub last: Option<(u64, Vec<u8>)>,
}

/// The Raft logs and votes of all groups of one node. Indexes are per group and contiguous.
pub trait LogEngine: Send + Sync {
    /// Appends entries `(index, bytes)`, visible to `read` on return; `done` runs after the flush that covers them.
    /// Appends of all groups that wait at one moment share one flush. An index at or below the last is an error: call
    /// `truncate_from` first. After any failed flush the engine is poisoned.
    fn append(&self, group: GroupId, entries: Vec<(u64, Vec<u8>)>, done: Done);
    /// Replaces the group's vote; `done` runs once it is durable.
    fn save_vote(&self, group: GroupId, vote: Vec<u8>, done: Done);
    /// Drops all entries at `index` and above; `done` once durable.
    fn truncate_from(&self, group: GroupId, index: u64, done: Done);
    /// Drops all entries up to and including `index`, and keeps `mark` (the purged log id) in their place. `index` may
    /// lie beyond the last entry (after a snapshot was installed): the log is then empty and goes on at `index + 1`.
    fn purge_to(&self, group: GroupId, index: u64, mark: Vec<u8>, done: Done);
    /// Has the disk answer a flush, though nothing may be there to write: `done` runs once everything that was called for
    /// earlier is durable. It never waits, and never poisons the engine unless the disk refuses.
    fn touch(&self, done: Done);
    /// Entries with `from <= index < to` that are present, in order, without gaps from the first present one.
    fn read(&self, group: GroupId, from: u64, to: u64) -> Result<Vec<(u64, Vec<u8>)>, StoreError>;
    /// The vote, and where the log begins and ends.
    fn state(&self, group: GroupId) -> Result<LogState, StoreError>;
    /// Every group that has ever saved anything, in order.
    fn groups(&self) -> Result<Vec<GroupId>, StoreError>;
}
