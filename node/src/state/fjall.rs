//! State in fjall 3: the default.
//!
//! One keyspace holds everything. A batch is written to the operating system at once, so that a killed process loses
//! nothing; `sync` is what survives a power cut. fjall refuses writes after a failed one, and so do we.
//!
//! Trap: `get` and `range` of a fjall keyspace read past the last published batch, so they see half of a batch that is
//! being committed, and a walk sees later ones. Every read here goes through a snapshot.
//!
//! Leaves to fjall: compaction, its own block checksums, the lock on its directory (one process at a time).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dinhba_core::store::{Batch, Scan, ScanItem, StateEngine, StateView, StoreError};
use fjall::compaction::Leveled;
use fjall::config::PinningPolicy;
use fjall::{Database, Error, Guard, Iter, Keyspace, KeyspaceCreateOptions, LsmError, PersistMode, Readable, Snapshot};

use super::{CLEAR_BATCH_KEYS, Poison, Write, in_order};
use crate::disk::io_error;
use crate::seal::Codec;

/// Blocks kept in memory. 16 nodes share a laptop: 16 times this is a quarter of a GiB.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// A memtable is written out at this size. fjall holds writers up, a tenth of a second at a time, while four wait to be
/// written, so this is a quarter of what may come in while the one worker compacts; with the one being filled, 80 MiB are
/// the most that a node's memtables take.
const MEMTABLE_BYTES: u64 = 16 * 1024 * 1024;
/// The least that fjall allows. Replay at a start costs about 12 ms per MB, so under a second.
const JOURNAL_BYTES: u64 = 64 * 1024 * 1024;
/// One thread flushes and compacts. Of several, fjall 3.1 keeps the first for flushes, and while another compacts, that
/// one hands the next compaction back to the queue without a pause: it took a fifth of a busy node's time.
const WORKERS: usize = 1;
/// Tables of the newest level that are merged into the next at once. Most keys are as good as random, so each time about all of
/// the next level is written anew: half as often with 8 as with fjall's 4. With 12 it is rarer still, but a node of a million
/// records then took some 400 MB, and up to twice as long to start. From 20 on fjall holds writers up.
const MERGED_AT_ONCE: u8 = 8;
/// Open tables per node: 16 nodes stay well below the 1,024 files that a shell allows by default to each.
const OPEN_FILES: usize = 128;

/// A node's state in fjall.
pub(super) struct FjallState {
    state: Keyspace,
    database: Database,
    codec: Codec,
    poison: Poison,
    dir: PathBuf,
    place: String,
}

fn fjall_error(dir: &Path, error: Error) -> StoreError {
    match error {
        Error::Io(error) | Error::Storage(LsmError::Io(error)) => io_error("fjall in", dir, &error),
        Error::Poisoned => StoreError::Poisoned(format!("fjall in {} failed to write", dir.display())),
        Error::Locked => StoreError::Io(format!("fjall in {}: another process has it open", dir.display())),
        other => StoreError::Corrupt { place: format!("fjall in {}", dir.display()), detail: format!("{other:?}") },
    }
}

/// Opens or makes a database in `dir`, with a node's settings, and the keyspace that holds everything.
pub fn database(dir: &Path) -> fjall::Result<(Database, Keyspace)> {
    let builder = Database::builder(dir)
        .cache_size(CACHE_BYTES)
        .max_journaling_size(JOURNAL_BYTES)
        .worker_threads(WORKERS)
        .max_cached_files(Some(OPEN_FILES));
    let database = builder.open()?;
    // An edit looks for many keys that are not there yet. fjall's defaults read the filters and the index of its middle
    // levels from the file each time once they outgrow the cache: at a million records that took six parts of seven
    // of a node's time. Those levels are bounded, so this is some tens of MB; lower levels are in small blocks.
    let options = || {
        KeyspaceCreateOptions::default()
            .max_memtable_size(MEMTABLE_BYTES)
            .compaction_strategy(Arc::new(Leveled::default().with_l0_threshold(MERGED_AT_ONCE)))
            .filter_block_pinning_policy(PinningPolicy::all(true))
            .index_block_pinning_policy(PinningPolicy::all(true))
    };
    let state = database.keyspace("state", options)?;
    Ok((database, state))
}

impl FjallState {
    /// Opens or makes a database in `dir`.
    pub(super) fn open(dir: &Path, codec: Codec) -> Result<Self, StoreError> {
        let place = format!("fjall in {}", dir.display());
        let (database, state) =
            Poison::default().read(&place, || database(dir).map_err(|error| fjall_error(dir, error)))?;
        Ok(FjallState { state, database, codec, poison: Poison::default(), dir: dir.to_owned(), place })
    }

    fn read<T>(&self, work: impl FnOnce() -> fjall::Result<T>) -> Result<T, StoreError> {
        self.poison.read(&self.place, || work().map_err(|error| fjall_error(&self.dir, error)))
    }

    fn write<T>(&self, work: impl FnOnce() -> fjall::Result<T>) -> Result<T, StoreError> {
        self.poison.write(&self.place, || work().map_err(|error| fjall_error(&self.dir, error)))
    }

    fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        self.write(|| {
            let mut batch = self.database.batch();
            for (key, stored) in writes {
                match stored {
                    Some(stored) => batch.insert(&self.state, key, stored),
                    None => batch.remove(&self.state, key),
                }
            }
            batch.commit()
        })
    }

    fn walk<'a>(&'a self, from: &[u8], to: &[u8], range: impl FnOnce() -> Iter) -> Scan<'a> {
        // fjall's range panics if it is the wrong way round.
        if from >= to {
            return Box::new(std::iter::empty());
        }
        match self.read(|| Ok(range())) {
            Ok(iter) => Box::new(Walk { engine: self, iter: Some(iter) }),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }

    fn decode(&self, key: &[u8], stored: Option<impl AsRef<[u8]>>) -> Result<Option<Vec<u8>>, StoreError> {
        stored.map(|stored| self.codec.decode(key, stored.as_ref())).transpose()
    }
}

impl StateView for FjallState {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let stored = self.read(|| self.database.snapshot().get(&self.state, key))?;
        self.decode(key, stored)
    }

    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> Scan<'a> {
        self.walk(from, to, || self.database.snapshot().range(&self.state, from..to))
    }
}

impl StateEngine for FjallState {
    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        self.commit(in_order(batch, &self.codec)?)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.write(|| self.database.persist(PersistMode::SyncAll))
    }

    fn snapshot(&self) -> Result<Box<dyn StateView + '_>, StoreError> {
        let snapshot = self.read(|| Ok(self.database.snapshot()))?;
        Ok(Box::new(FjallView { engine: self, snapshot }))
    }

    fn clear(&self, from: &[u8], to: &[u8]) -> Result<(), StoreError> {
        let mut from = from.to_vec();
        while from.as_slice() < to {
            let keys = self.read(|| {
                let range = self.database.snapshot().range(&self.state, from.as_slice()..to).take(CLEAR_BATCH_KEYS);
                range.map(|guard| guard.key().map(|key| key.to_vec())).collect::<fjall::Result<Vec<_>>>()
            })?;
            // The next walk starts above the tombstones of this one, not in front of them.
            let Some(last) = keys.last() else { break };
            from = [last.as_slice(), &[0]].concat();
            self.commit(keys.into_iter().map(|key| (key, None)).collect())?;
        }
        Ok(())
    }
}

struct FjallView<'a> {
    engine: &'a FjallState,
    snapshot: Snapshot,
}

impl StateView for FjallView<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let stored = self.engine.read(|| self.snapshot.get(&self.engine.state, key))?;
        self.engine.decode(key, stored)
    }

    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> Scan<'a> {
        self.engine.walk(from, to, || self.snapshot.range(&self.engine.state, from..to))
    }
}

/// A walk that ends after its first error.
struct Walk<'a> {
    engine: &'a FjallState,
    iter: Option<Iter>,
}

impl Walk<'_> {
    fn step(&mut self, step: impl FnOnce(&mut Iter) -> Option<Guard>) -> Option<ScanItem> {
        let iter = self.iter.as_mut()?;
        let pair = self.engine.read(|| step(iter).map(Guard::into_inner).transpose()).transpose()?;
        let item = pair.and_then(|(key, stored)| Ok((key.to_vec(), self.engine.codec.decode(&key, &stored)?)));
        if item.is_err() {
            self.iter = None;
        }
        Some(item)
    }
}

impl Iterator for Walk<'_> {
    type Item = ScanItem;
    fn next(&mut self) -> Option<ScanItem> {
        self.step(Iter::next)
    }
}

impl DoubleEndedIterator for Walk<'_> {
    fn next_back(&mut self) -> Option<ScanItem> {
        self.step(Iter::next_back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::Unsealed;

    #[test]
    fn a_value_under_anothers_key_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let state = FjallState::open(dir.path(), Codec::new(Arc::new(Unsealed))).unwrap();
        let stored = state.codec.encode(b"a", b"value");
        state.commit(vec![(b"b".to_vec(), Some(stored))]).unwrap();
        let damaged = |error: &StoreError| matches!(error, StoreError::Corrupt { place, .. } if place == "key 62");
        assert!(state.get(b"b").is_err_and(|error| damaged(&error)));
        let walked: Vec<_> = state.scan(b"a", b"z").collect();
        assert!(matches!(walked.as_slice(), [Err(error)] if damaged(error)));
        assert_eq!(state.get(b"a").unwrap(), None, "a bad value does not stop the engine");
    }

    #[test]
    fn a_second_opening_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _state = FjallState::open(dir.path(), Codec::new(Arc::new(Unsealed))).unwrap();
        let second = FjallState::open(dir.path(), Codec::new(Arc::new(Unsealed))).map(drop);
        assert!(matches!(second, Err(StoreError::Io(text)) if text.contains("another process")));
    }
}
