//! State in a log-structured merge tree of our own: fjall's tree without fjall's journal.
//!
//! The Raft log is the journal. What was applied lies in memtables until they are written out, whole and in their order, so
//! whatever ends the process or the machine leaves the batches up to some one of them, and the position that travels in each
//! batch says which: the log replays from exactly there. `sync` writes the memtable out, and the log below a snapshot is purged
//! only after that, so what a crash takes is always in the log.
//!
//! What can be relied on, and why:
//!
//! - *Nobody sees half of a batch, on the disk or in memory.* One lock is held by who commits, from the number of the batch to
//!   its publication, and a memtable is exchanged for the next only under that lock. Reads go by the published number, which is ours: the
//!   tree's own jumps above a batch that is being inserted whenever tables are registered.
//! - *Nobody waits for himself.* Whoever fills a memtable while the one before it is not written out yet writes that out himself, by
//!   the tree's lock for that. One thread does it otherwise, and merges tables; it is told by a flag, not by a queue.
//! - *What only grows is written once.* Edits, their places in the stream and the access log go to segments (`state/segments.rs`),
//!   and the tree holds where each lies. Segments are made durable before the memtable that leads into them, in which their end stands
//!   beside the position; the next opening cuts them there.
//! - *What somebody still reads stays.* Each published number that a reader holds is kept in a map, and the least of them is what the
//!   tree is told when it drops older values and tables.
//!
//! A failure to write poisons the engine, whoever met it. Damage that merging met is noted in a file ([`DAMAGED`]) besides, so that the
//! next opening says so and the node begins with new files; a block that no reader asks for would be met again after each
//! start otherwise.
//!
//! Leaves to `lsm-tree`: the format of its files, their checksums, and that a list of tables is replaced in one step.
//!
//! Limits: a start after a crash replays up to two memtables from the log. An end in order waits for the merge at hand, as fjall's does.
//! What was cleared from segments, as a group is that a snapshot replaces, goes on taking its room there.

mod engine;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use dinhba_core::keys::{Space, space_of};
use dinhba_core::store::StoreError;
use lsm_tree::compaction::Leveled;
use lsm_tree::config::{
    BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry, PinningPolicy, RestartIntervalPolicy,
};
use lsm_tree::{
    AbstractTree, AnyTree, Cache, CompressionType, Config, DescriptorTable, Error, InternalValue, SeqNo,
    SequenceNumberCounter, Slice, Tree, ValueType,
};

use super::segments::{End, Place, Segments};
use super::{KEY_BYTES_MAX, Poison, Write};
use crate::disk::{RealDisk, io_error, is_structural};
use crate::seal::{Sealer, hex};

pub(super) use engine::LsmState;

/// Blocks kept in memory. 16 nodes share a laptop: 16 times this is a quarter of a GiB.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// A memtable is written out at this size. Larger ones are merged less often and hold more that was overwritten meanwhile; but this
/// and the one before it, which may not be written out yet, are memory, and what a start after a crash replays: about a second.
const MEMTABLE_BYTES: u64 = 32 * 1024 * 1024;
/// Tables of the newest level that are merged into the next at once: rarely, since most keys are as good as random, and each time about
/// all of the next level is written anew.
const MERGED_AT_ONCE: u8 = 8;
/// Tables of the newest level at which who commits waits for merging: each is one more place to look for a key.
const NEWEST_TABLES_MAX: usize = 20;
/// Who waits for merging looks again after this: far less than it takes, far more than a look.
const MERGE_POLL: Duration = Duration::from_millis(2);
/// Merging that was waited for so long will not end: the largest takes minutes on a slow disk. The replica stops then and says so.
const MERGE_WAIT_MAX: Duration = Duration::from_secs(15 * 60);
/// Open tables per node: 16 nodes stay well below the 1,024 files that a shell allows by default to each.
const OPEN_FILES: usize = 128;

/// The file whose lock keeps others out.
const LOCK: &str = "lock";
/// What merging found damaged, if it did.
const DAMAGED: &str = "damaged";
/// `lsm-tree`'s file that names the present list of tables, and the directory of these.
const CURRENT: &str = "current";
const TABLES: &str = "tables";
/// What begins the names of files that `lsm-tree` renames once they are whole.
const TEMPORARY_PREFIX: &str = ".tmp";
/// The directory of segments.
const SEGMENTS: &str = "segments";
/// Under which the tree keeps the segments' end. No other key is so long.
static END_KEY: [u8; KEY_BYTES_MAX + 1] = [0xff; KEY_BYTES_MAX + 1];

/// Whether what is under a key is written once and never again.
#[must_use]
pub fn is_grown(key: &[u8]) -> bool {
    const GROWN: [u8; 3] = [Space::Edit as u8, Space::Arrival as u8, Space::Access as u8];
    space_of(key).is_some_and(|space| GROWN.contains(&space))
}

/// A tree with a node's settings, without codec: one commit at a time, views of whole batches, and a thread that writes out and merges.
pub struct Unjournaled {
    shared: Arc<Shared>,
    worker: Mutex<Option<JoinHandle<()>>>,
    _lock: File,
}

struct Shared {
    tree: Tree,
    segments: Segments,
    memtable_bytes: u64,
    /// The number of the next batch, or list of tables: the tree takes numbers of it too.
    next: SequenceNumberCounter,
    /// As of the last commit. Reads copy it, so they never wait for a commit.
    latest: Mutex<Arc<Moment>>,
    moments: Arc<Moments>,
    /// Whose turn it is to commit or to exchange memtables, and how long merging has been waited for. Poisoned by a batch that was broken
    /// off, which so never reaches the disk.
    turn: Mutex<Duration>,
    orders: Mutex<Orders>,
    is_ordered: Condvar,
    poison: Poison,
    dir: PathBuf,
    place: String,
}

/// What the thread is to do.
#[derive(Default)]
struct Orders {
    is_work: bool,
    is_end: bool,
}

/// Numbers up to which somebody reads, and how many do.
type Moments = Mutex<BTreeMap<SeqNo, usize>>;

/// A published number: what lies below it stays readable for as long as this is there.
struct Moment {
    number: SeqNo,
    moments: Arc<Moments>,
}

impl Moment {
    fn new(number: SeqNo, moments: &Arc<Moments>) -> Arc<Self> {
        *lock(moments).entry(number).or_default() += 1;
        Arc::new(Moment { number, moments: Arc::clone(moments) })
    }
}

impl Drop for Moment {
    fn drop(&mut self) {
        let mut moments = lock(&self.moments);
        if let Some(count) = moments.get_mut(&self.number) {
            *count -= 1;
            if *count == 0 {
                moments.remove(&self.number);
            }
        }
    }
}

/// A panic poisons the engine (`Poison`); these locks add nothing to that.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn place(dir: &Path) -> String {
    format!("lsm-tree in {}", dir.display())
}

fn tree_error(dir: &Path, error: Error) -> StoreError {
    match error {
        Error::Io(error) => io_error("lsm-tree in", dir, &error),
        other => StoreError::Corrupt { place: place(dir), detail: format!("{other:?}") },
    }
}

/// An error in opening a tree: files that do not fit together are damage.
fn opening_error(dir: &Path, error: Error) -> StoreError {
    match error {
        Error::Io(error) if is_structural(&error) => damaged(dir, error.to_string()),
        other => tree_error(dir, other),
    }
}

fn damaged(dir: &Path, detail: String) -> StoreError {
    StoreError::Corrupt { place: place(dir), detail }
}

#[allow(clippy::disallowed_methods, reason = "merging is a thread of its own and stays out of the simulator")]
fn pause() {
    thread::sleep(MERGE_POLL);
}

fn config(dir: &Path, next: &SequenceNumberCounter) -> Config {
    // An edit looks for many keys that are not there yet, so filters and indexes of all but the last levels stay in memory: they
    // outgrow the cache otherwise, and are read again for each key. What is stored is compressed already.
    let filter = |policy| FilterPolicyEntry::Bloom(policy);
    Config::new(dir, next.clone(), SequenceNumberCounter::default())
        .use_cache(Arc::new(Cache::with_capacity_bytes(CACHE_BYTES)))
        .use_descriptor_table(Some(Arc::new(DescriptorTable::new(OPEN_FILES))))
        .data_block_restart_interval_policy(RestartIntervalPolicy::new([10, 16]))
        .data_block_compression_policy(CompressionPolicy::all(CompressionType::None))
        .filter_policy(FilterPolicy::new([
            filter(BloomConstructionPolicy::FalsePositiveRate(0.0001)),
            filter(BloomConstructionPolicy::BitsPerKey(10.0)),
        ]))
        .filter_block_pinning_policy(PinningPolicy::all(true))
        .index_block_pinning_policy(PinningPolicy::all(true))
}

/// Makes the directory if it is not there, locks it, and looks whether it holds a tree.
fn prepare(dir: &Path) -> Result<File, StoreError> {
    let failed = |error: io::Error| opening_error(dir, Error::Io(error));
    fs::create_dir_all(dir).map_err(failed)?;
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)?;
    let locked = OpenOptions::new().write(true).create(true).truncate(false).open(dir.join(LOCK)).map_err(failed)?;
    match locked.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(StoreError::Io(format!("{}: another process has it open", place(dir))));
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    if let Ok(found) = fs::read_to_string(dir.join(DAMAGED)) {
        return Err(damaged(dir, found));
    }
    let mut has_tables = false;
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX) {
            fs::remove_file(entry.path()).map_err(failed)?;
        } else if entry.file_name() == TABLES {
            has_tables = fs::read_dir(entry.path()).map_err(failed)?.next().is_some();
        }
    }
    // `lsm-tree` would begin a new tree. It writes no table before that file.
    if has_tables && !dir.join(CURRENT).try_exists().map_err(failed)? {
        return Err(damaged(dir, format!("there are tables, and no {CURRENT:?} says which")));
    }
    Ok(locked)
}

impl Unjournaled {
    /// Opens or makes a tree in `dir`: what was written out last is there.
    ///
    /// # Errors
    ///
    /// Damage, another process that has it open, or what the operating system says.
    pub fn open(dir: &Path, sealer: Arc<dyn Sealer>) -> Result<Self, StoreError> {
        Self::open_with(dir, sealer, MEMTABLE_BYTES)
    }

    fn open_with(dir: &Path, sealer: Arc<dyn Sealer>, memtable_bytes: u64) -> Result<Self, StoreError> {
        Poison::default().read(&place(dir), || {
            let lock = prepare(dir)?;
            let next = SequenceNumberCounter::default();
            let opened = config(dir, &next).open().map_err(|error| opening_error(dir, error))?;
            let AnyTree::Standard(tree) = opened else {
                return Err(damaged(dir, "it is a tree of another kind".to_owned()));
            };
            // A reader at 0 would see nothing, whatever is there.
            next.fetch_max(tree.get_highest_persisted_seqno().map_or(1, |highest| highest + 1));
            let end = tree.get(END_KEY, next.get()).map_err(|error| opening_error(dir, error))?;
            let end = end.map_or(Some(End::default()), |end| End::from_bytes(&end));
            let end = end.ok_or_else(|| damaged(dir, "the end of its segments cannot be read".to_owned()))?;
            let segments = Segments::open(Arc::new(RealDisk), &dir.join(SEGMENTS), sealer, end)?;
            let moments = Arc::new(Moments::default());
            let shared = Arc::new(Shared {
                latest: Mutex::new(Moment::new(next.get(), &moments)),
                tree,
                segments,
                memtable_bytes,
                next,
                moments,
                turn: Mutex::default(),
                orders: Mutex::new(Orders { is_work: true, is_end: false }),
                is_ordered: Condvar::new(),
                poison: Poison::default(),
                dir: dir.to_owned(),
                place: place(dir),
            });
            let worker = thread::Builder::new().name("state-writer".to_owned()).spawn({
                let shared = Arc::clone(&shared);
                move || shared.work_until_ended()
            });
            let worker = worker.map_err(|error| StoreError::Io(format!("start the state's thread: {error}")))?;
            Ok(Unjournaled { shared, worker: Mutex::new(Some(worker)), _lock: lock })
        })
    }

    /// Commits writes, each a key and its value or that there is none; of no key two. A value that is [written once](is_grown) is
    /// sealed and checked here, any other by who gives it.
    ///
    /// # Errors
    ///
    /// What writing met, now or before; the tree takes no more writes then.
    pub fn commit(&self, writes: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Result<(), StoreError> {
        let shared = &*self.shared;
        shared.poison.write(&shared.place, || shared.commit(writes))
    }

    /// Everything committed is on the disk when this returns.
    ///
    /// # Errors
    ///
    /// As of [`commit`](Self::commit).
    pub fn sync(&self) -> Result<(), StoreError> {
        let shared = &*self.shared;
        shared.poison.write(&shared.place, || {
            let turn = shared.turn()?;
            let flushing = shared.tree.get_flush_lock();
            shared.exchange(&flushing)?;
            drop(turn);
            shared.write_out(&flushing)?;
            drop(flushing);
            shared.let_go()
        })?;
        shared.order(|orders| orders.is_work = true);
        Ok(())
    }

    /// Ends the thread, after the merge at hand.
    fn end(&self) {
        self.shared.order(|orders| orders.is_end = true);
        let worker = lock(&self.worker).take();
        if worker.is_some_and(|worker| worker.join().is_err()) {
            tracing::error!(place = %self.shared.place, "the state's thread panicked");
        }
    }
}

impl Drop for Unjournaled {
    /// An orderly end loses nothing. Who cares whether it worked calls `sync` and looks.
    fn drop(&mut self) {
        if !self.shared.poison.is_set()
            && let Err(error) = self.sync()
        {
            tracing::error!(place = %self.shared.place, %error, "state not written out at shutdown");
        }
        self.end();
    }
}

impl Shared {
    fn failed(&self, error: Error) -> StoreError {
        tree_error(&self.dir, error)
    }

    fn read<T>(&self, work: impl FnOnce() -> lsm_tree::Result<T>) -> Result<T, StoreError> {
        self.poison.read(&self.place, || work().map_err(|error| self.failed(error)))
    }

    fn turn(&self) -> Result<MutexGuard<'_, Duration>, StoreError> {
        self.turn.lock().map_err(|_| StoreError::Poisoned("a batch was broken off".to_owned()))
    }

    fn latest(&self) -> Arc<Moment> {
        Arc::clone(&lock(&self.latest))
    }

    /// The least number that somebody reads at, or may from now on.
    fn least(&self) -> SeqNo {
        lock(&self.moments).keys().next().copied().unwrap_or(0)
    }

    fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let mut waited = self.turn()?;
        self.make_room(&mut waited)?;
        let number = self.next.next();
        let entry = |(key, value): Write| {
            Ok(match value {
                Some(value) if is_grown(&key) => {
                    let place = self.segments.append(&key, &value)?;
                    InternalValue::from_components(key, place.to_bytes(), number, ValueType::Value)
                }
                Some(stored) => InternalValue::from_components(key, stored, number, ValueType::Value),
                None => InternalValue::new_tombstone(key, number),
            })
        };
        // What may fail is done before the memtable has any of it: somebody may write that out before he hears of the failure.
        let entries = writes.into_iter().map(entry).collect::<Result<Vec<_>, StoreError>>()?;
        let memtable = self.tree.active_memtable();
        for entry in entries {
            let _sizes = memtable.insert(entry);
        }
        self.publish();
        Ok(())
    }

    /// Shows everything that was committed. Only in one's turn: every number that was given to a batch belongs to a whole one then.
    fn publish(&self) {
        let now = Moment::new(self.next.get(), &self.moments);
        let before = std::mem::replace(&mut *lock(&self.latest), now);
        drop(before);
    }

    /// Exchanges a full memtable for an empty one, in one's turn. The one before it is on the disk then.
    fn make_room(&self, waited: &mut Duration) -> Result<(), StoreError> {
        if self.tree.active_memtable().size() < self.memtable_bytes {
            return Ok(());
        }
        while self.tree.l0_run_count() >= NEWEST_TABLES_MAX {
            self.poison.read(&self.place, || Ok(()))?;
            if *waited >= MERGE_WAIT_MAX {
                let seconds = waited.as_secs();
                let text = format!("{}: nothing was merged for {seconds} s: restart the node", self.place);
                return Err(StoreError::Io(text));
            }
            pause();
            *waited += MERGE_POLL;
        }
        *waited = Duration::ZERO;
        let flushing = self.tree.get_flush_lock();
        self.write_out(&flushing)?;
        self.exchange(&flushing)?;
        self.order(|orders| orders.is_work = true);
        Ok(())
    }

    /// Exchanges the memtable for an empty one, in one's turn, and while nobody writes out: who does so has made the segments durable
    /// up to the end in each memtable that takes no more, and writes all of these.
    fn exchange(&self, _flushing: &MutexGuard<'_, ()>) -> Result<(), StoreError> {
        let memtable = self.tree.active_memtable();
        if !memtable.is_empty() {
            let (end, number) = (self.segments.end()?, self.next.next());
            let _sizes =
                memtable.insert(InternalValue::from_components(&END_KEY[..], end.to_bytes(), number, ValueType::Value));
            self.tree.rotate_memtable();
        }
        Ok(())
    }

    /// Writes out the memtables that take no more, after the segments into which they lead.
    fn write_out(&self, flushing: &MutexGuard<'_, ()>) -> Result<(), StoreError> {
        if self.tree.sealed_memtable_count() == 0 {
            return Ok(());
        }
        self.segments.sync()?;
        let written = self.tree.flush(flushing, self.least());
        written.map(drop).map_err(|error| self.failed(error))
    }

    /// Lets go of memtables that were written out and tables that were merged, but for what somebody still reads.
    fn let_go(&self) -> Result<(), StoreError> {
        let turn = self.turn()?;
        self.publish();
        drop(turn);
        let least = self.least();
        let mut history = self.tree.get_version_history_lock();
        history.maintenance(&self.tree.config.path, least).map_err(|error| self.failed(error))
    }

    fn order(&self, order: impl FnOnce(&mut Orders)) {
        order(&mut lock(&self.orders));
        self.is_ordered.notify_one();
    }

    /// What the thread does.
    fn work_until_ended(&self) {
        loop {
            let mut orders = lock(&self.orders);
            while !orders.is_work && !orders.is_end {
                orders = self.is_ordered.wait(orders).unwrap_or_else(PoisonError::into_inner);
            }
            if orders.is_end {
                return;
            }
            orders.is_work = false;
            drop(orders);
            if let Err(error) = self.poison.write(&self.place, || self.write_out_and_merge()) {
                if !matches!(error, StoreError::Poisoned(_)) {
                    tracing::error!(place = %self.place, %error, "state not written out or merged");
                }
                self.note_damage(&error);
                return;
            }
        }
    }

    fn write_out_and_merge(&self) -> Result<(), StoreError> {
        let strategy = Arc::new(Leveled::default().with_l0_threshold(MERGED_AT_ONCE));
        loop {
            let flushing = self.tree.get_flush_lock();
            self.write_out(&flushing)?;
            drop(flushing);
            let before = self.tree.current_version().id();
            self.tree.compact(strategy.clone(), self.least()).map_err(|error| self.failed(error))?;
            self.let_go()?;
            if self.tree.current_version().id() == before || lock(&self.orders).is_end {
                return Ok(());
            }
        }
    }

    /// Leaves word of damage for the next opening.
    fn note_damage(&self, error: &StoreError) {
        let StoreError::Corrupt { detail, .. } = error else { return };
        let note = || {
            let path = self.dir.join(DAMAGED);
            fs::write(&path, format!("found when tables were merged: {detail}"))?;
            File::open(path)?.sync_all()?;
            File::open(&self.dir)?.sync_all()
        };
        if let Err(error) = note() {
            tracing::error!(place = %self.place, %error, "damage not noted");
        }
    }

    fn get(&self, moment: &Moment, key: &[u8]) -> Result<Option<Slice>, StoreError> {
        self.read(|| self.tree.get(key, moment.number))
    }

    /// A value that is written once, of what the tree has under its key.
    fn grown(&self, key: &[u8], stored: &[u8]) -> Result<Vec<u8>, StoreError> {
        let place = Place::from_bytes(stored).ok_or_else(|| StoreError::Corrupt {
            place: format!("key {}", hex(key)),
            detail: "no place in a segment has so many bytes".to_owned(),
        })?;
        self.poison.read(&self.place, || self.segments.read(place, key))
    }
}
