//! State in fjall 3: by name, the default of earlier versions.
//!
//! One keyspace holds everything. A batch is written to the operating system at once, so that a killed process loses
//! nothing; `sync` is what survives a power cut. fjall refuses writes after a failed one, and so do we.
//!
//! Two traps of fjall 3.1, which [`Paced`] keeps clear of:
//!
//! - `get` and `range` of a keyspace see half of a batch that is being committed, and so does a snapshot that is opened
//!   meanwhile, if a flush or a compaction ends just then: that publishes a number above the batch's. So a snapshot is
//!   opened by who commits, after each commit, and every read goes through a copy of the latest one.
//! - Each commit into a full memtable asks the worker for another one, on a channel of 1,000 places; the only worker then sends
//!   itself a message on that channel, and waits for ever if it is full. So fjall never asks: a full memtable is handed
//!   over here, before the next commit, and where the worker has not caught up it is waited for, with an end.
//!
//! Leaves to fjall: compaction, its own block checksums, the lock on its directory (one process at a time).

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use dinhba_core::store::{Batch, Scan, ScanItem, StateEngine, StateView, StoreError};
use fjall::compaction::Leveled;
use fjall::config::PinningPolicy;
use fjall::{
    AbstractTree, Database, Error, Guard, Iter, Keyspace, KeyspaceCreateOptions, LsmError, OwnedWriteBatch,
    PersistMode, Readable, Snapshot,
};

use super::{CLEAR_BATCH_KEYS, Poison, Write, in_order};
use crate::disk::{io_error, is_structural};
use crate::seal::Codec;

/// Blocks kept in memory. 16 nodes share a laptop: 16 times this is a quarter of a GiB.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// A memtable is handed over to be written out at this size.
const MEMTABLE_BYTES: u64 = 16 * 1024 * 1024;
/// Memtables that wait to be written out, at most: with the one being filled they are 64 MiB, which is what may come in
/// while the one worker compacts. At four fjall would hold writers up inside a commit, and for ever if its worker has died.
const WAITING_MAX: usize = 3;
/// Tables of the newest level from which on fjall holds writers up inside a commit, and from some more on for ever if its worker
/// has died.
const NEWEST_TABLES_MAX: usize = 20;
/// Who waits for the worker looks again after this: far less than a flush takes, far more than a look.
const WORKER_POLL: Duration = Duration::from_millis(2);
/// A worker that wrote nothing out for so long will not: the largest compaction takes minutes on a slow disk. The replica
/// stops then and says so, which is better than waiting where nobody sees it.
const WORKER_WAIT_MAX: Duration = Duration::from_secs(15 * 60);
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
    fjall: Paced,
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

/// An error in opening a database: files that do not fit together are damage.
fn opening_error(dir: &Path, error: Error) -> StoreError {
    match error {
        Error::Io(error) | Error::Storage(LsmError::Io(error)) if is_structural(&error) => {
            StoreError::Corrupt { place: format!("fjall in {}", dir.display()), detail: error.to_string() }
        }
        other => fjall_error(dir, other),
    }
}

/// fjall with a node's settings: one commit at a time, none into a full memtable, and views only of whole batches.
pub struct Paced {
    /// As of the last commit. Reads copy it, so they never wait for a commit.
    latest: Mutex<Snapshot>,
    /// Whose turn it is to commit, and how long the worker has been waited for.
    turn: Mutex<Duration>,
    state: Keyspace,
    database: Database,
    memtable_bytes: u64,
}

impl Paced {
    /// Opens or makes a database in `dir`, and the keyspace that holds everything.
    pub fn open(dir: &Path) -> fjall::Result<Self> {
        Self::open_with(dir, MEMTABLE_BYTES)
    }

    fn open_with(dir: &Path, memtable_bytes: u64) -> fjall::Result<Self> {
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
                .max_memtable_size(u64::MAX)
                .compaction_strategy(Arc::new(Leveled::default().with_l0_threshold(MERGED_AT_ONCE)))
                .filter_block_pinning_policy(PinningPolicy::all(true))
                .index_block_pinning_policy(PinningPolicy::all(true))
        };
        let state = database.keyspace("state", options)?;
        Ok(Paced { latest: Mutex::new(database.snapshot()), turn: Mutex::default(), state, database, memtable_bytes })
    }

    /// Commits what `fill` puts into a batch.
    pub fn commit(&self, fill: impl FnOnce(&mut OwnedWriteBatch, &Keyspace)) -> fjall::Result<()> {
        let mut batch = self.database.batch();
        fill(&mut batch, &self.state);
        let mut waited = lock(&self.turn);
        self.make_room(&mut waited)?;
        batch.commit()?;
        let snapshot = self.database.snapshot();
        *lock(&self.latest) = snapshot;
        Ok(())
    }

    /// Hands a full memtable over, once the worker has caught up with those before it. Fails if the engine has, or if the
    /// worker has been waited for too long, whoever did.
    fn make_room(&self, waited: &mut Duration) -> fjall::Result<()> {
        let tree = &self.state.tree;
        if tree.active_memtable().size() < self.memtable_bytes {
            return Ok(());
        }
        while tree.sealed_memtable_count() >= WAITING_MAX || tree.l0_run_count() >= NEWEST_TABLES_MAX {
            if *waited >= WORKER_WAIT_MAX {
                let text = format!("its worker has written nothing out for {} s: restart the node", waited.as_secs());
                return Err(Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, text)));
            }
            // Writes nothing; says whether the worker has failed.
            self.database.persist(PersistMode::Buffer)?;
            pause();
            *waited += WORKER_POLL;
        }
        *waited = Duration::ZERO;
        self.state.rotate_memtable().map(drop)
    }

    fn snapshot(&self) -> Snapshot {
        lock(&self.latest).clone()
    }
}

#[allow(clippy::disallowed_methods, reason = "fjall's worker is a thread of its own and stays out of the simulator")]
fn pause() {
    thread::sleep(WORKER_POLL);
}

/// A panic in fjall poisons the engine (`Poison`); the lock adds nothing to that.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FjallState {
    /// Opens or makes a database in `dir`.
    pub(super) fn open(dir: &Path, codec: Codec) -> Result<Self, StoreError> {
        let place = format!("fjall in {}", dir.display());
        let fjall = Poison::default().read(&place, || Paced::open(dir).map_err(|error| opening_error(dir, error)))?;
        Ok(FjallState { fjall, codec, poison: Poison::default(), dir: dir.to_owned(), place })
    }

    fn read<T>(&self, work: impl FnOnce() -> fjall::Result<T>) -> Result<T, StoreError> {
        self.poison.read(&self.place, || work().map_err(|error| fjall_error(&self.dir, error)))
    }

    fn write<T>(&self, work: impl FnOnce() -> fjall::Result<T>) -> Result<T, StoreError> {
        self.poison.write(&self.place, || work().map_err(|error| fjall_error(&self.dir, error)))
    }

    fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        self.write(|| {
            self.fjall.commit(|batch, state| {
                for (key, stored) in writes {
                    match stored {
                        Some(stored) => batch.insert(state, key, stored),
                        None => batch.remove(state, key),
                    }
                }
            })
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
        let stored = self.read(|| self.fjall.snapshot().get(&self.fjall.state, key))?;
        self.decode(key, stored)
    }

    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> Scan<'a> {
        self.walk(from, to, || self.fjall.snapshot().range(&self.fjall.state, from..to))
    }
}

impl StateEngine for FjallState {
    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        self.commit(in_order(batch, |key, value| self.codec.encode(key, &value))?)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.write(|| self.fjall.database.persist(PersistMode::SyncAll))
    }

    fn snapshot(&self) -> Result<Box<dyn StateView + '_>, StoreError> {
        let snapshot = self.read(|| Ok(self.fjall.snapshot()))?;
        Ok(Box::new(FjallView { engine: self, snapshot }))
    }

    fn clear(&self, from: &[u8], to: &[u8]) -> Result<(), StoreError> {
        let mut from = from.to_vec();
        while from.as_slice() < to {
            let keys = self.read(|| {
                let range = self.fjall.snapshot().range(&self.fjall.state, from.as_slice()..to).take(CLEAR_BATCH_KEYS);
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
        let stored = self.engine.read(|| self.snapshot.get(&self.engine.fjall.state, key))?;
        self.engine.decode(key, stored)
    }

    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> Scan<'a> {
        self.engine.walk(from, to, || self.snapshot.range(&self.engine.fjall.state, from..to))
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
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::super::tests::{damaged_in_turn, is_open_or_damage};
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
    fn whatever_happens_to_its_files_it_opens_or_says_that_they_are_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let fjall = Paced::open_with(dir.path(), 4 * 1024).unwrap();
        for number in 0..400_u32 {
            fjall.commit(|batch, keyspace| batch.insert(keyspace, number.to_be_bytes(), [7; 64])).unwrap();
        }
        drop(fjall);
        let opened = |dir: &Path| FjallState::open(dir, Codec::new(Arc::new(Unsealed))).map(drop);
        let told = damaged_in_turn(dir.path(), &opened);
        assert!(told.iter().filter(|(_, outcome)| outcome.is_err()).count() > 8, "{told:?}");
        assert_eq!(told.iter().find(|(_, outcome)| !is_open_or_damage(outcome)), None);
    }

    #[test]
    fn a_burst_of_small_batches_is_written_out_and_closed() {
        // Tiny memtables, so that many fill up while the worker is busy. With fjall's own hand-over its worker waits for
        // itself after at most some thousands of these batches; then nothing is written out any more.
        const MEMTABLE: u64 = 256 * 1024;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let (done, is_done) = std::sync::mpsc::channel();
        let burst = thread::Builder::new().spawn(move || {
            let fjall = Paced::open_with(&path, MEMTABLE).unwrap();
            let mut largest = 0;
            for number in 0..200_000_u32 {
                // Keys that lie anywhere, so that compaction has something to do.
                let key = number.wrapping_mul(2_654_435_761).to_be_bytes();
                fjall.commit(|batch, state| batch.insert(state, key, [7; 40])).unwrap();
                largest = largest.max(fjall.state.tree.active_memtable().size());
            }
            fjall.state.rotate_memtable().unwrap();
            while fjall.state.tree.sealed_memtable_count() > 0 {
                pause();
            }
            drop(fjall);
            done.send(largest).unwrap();
        });
        let largest = is_done.recv_timeout(Duration::from_secs(120)).expect("the worker waits for ever");
        burst.unwrap().join().unwrap();
        assert!(largest < MEMTABLE + 1024, "a memtable of {largest} bytes");
        let again = Paced::open(dir.path()).unwrap();
        assert_eq!(again.snapshot().iter(&again.state).count(), 200_000);
    }

    #[test]
    fn no_view_shows_half_a_batch_while_memtables_are_written_out() {
        let dir = tempfile::tempdir().unwrap();
        let fjall = Paced::open_with(dir.path(), 64 * 1024).unwrap();
        let (first, last) = (0_u32.to_be_bytes(), 999_u32.to_be_bytes());
        let is_over = AtomicBool::new(false);
        let seen = thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut seen = BTreeSet::new();
                while !is_over.load(Ordering::Relaxed) {
                    let view = fjall.snapshot();
                    let pair =
                        [first, last].map(|key| view.get(&fjall.state, key).unwrap().map(|value| value.to_vec()));
                    assert_eq!(pair[0], pair[1], "half of a batch");
                    seen.insert(pair[0].clone());
                }
                seen.len()
            });
            for number in 0..200_u32 {
                fjall
                    .commit(|batch, state| {
                        (0..1_000_u32).for_each(|key| batch.insert(state, key.to_be_bytes(), number.to_be_bytes()));
                    })
                    .unwrap();
            }
            is_over.store(true, Ordering::Relaxed);
            reader.join().unwrap()
        });
        assert!(seen > 20, "the reader saw {seen} batches");
    }

    #[test]
    fn who_waits_for_a_worker_that_does_nothing_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let fjall = Paced::open_with(dir.path(), 1).unwrap();
        let put = |key: u8| fjall.commit(|batch, state| batch.insert(state, [key], [key]));
        put(1).unwrap();
        // Nothing is written out while somebody else flushes.
        let flushing = fjall.state.tree.get_flush_lock();
        (2..=4).for_each(|key| put(key).unwrap());
        *lock(&fjall.turn) = WORKER_WAIT_MAX - 3 * WORKER_POLL;
        for _ in 0..2 {
            assert!(matches!(put(5), Err(Error::Io(error)) if error.to_string().contains("restart the node")));
        }
        drop(flushing);
        *lock(&fjall.turn) = Duration::ZERO;
        put(6).unwrap();
    }

    #[test]
    fn a_worker_that_failed_ends_the_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let fjall = Arc::new(Paced::open_with(dir.path(), 1).unwrap());
        let flushing = fjall.state.tree.get_flush_lock();
        let (done, is_done) = std::sync::mpsc::channel();
        let writing = Arc::clone(&fjall);
        let writer = thread::Builder::new().spawn(move || {
            let put = |key: u32| writing.commit(|batch, state| batch.insert(state, key.to_be_bytes(), [1]));
            done.send((0..).find_map(|key| put(key).err())).unwrap();
        });
        while fjall.state.tree.sealed_memtable_count() < WAITING_MAX {
            pause();
        }
        // As a disk that takes no new file.
        std::fs::remove_dir_all(dir.path().join("keyspaces")).unwrap();
        drop(flushing);
        let error = is_done.recv_timeout(Duration::from_secs(30)).expect("a writer waits for ever");
        assert!(matches!(error, Some(Error::Poisoned)), "{error:?}");
        writer.unwrap().join().unwrap();
    }

    #[test]
    fn a_second_opening_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _state = FjallState::open(dir.path(), Codec::new(Arc::new(Unsealed))).unwrap();
        let second = FjallState::open(dir.path(), Codec::new(Arc::new(Unsealed))).map(drop);
        assert!(matches!(second, Err(StoreError::Io(text)) if text.contains("another process")));
    }
}
