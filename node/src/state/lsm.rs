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

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use dinhba_core::keys::{Space, space_of};
use dinhba_core::store::{Batch, Scan, ScanItem, StateEngine, StateView, StoreError};
use lsm_tree::compaction::Leveled;
use lsm_tree::config::{
    BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry, PinningPolicy, RestartIntervalPolicy,
};
use lsm_tree::{
    AbstractTree, AnyTree, Cache, CompressionType, Config, DescriptorTable, Error, Guard, InternalValue, IterGuardImpl,
    SeqNo, SequenceNumberCounter, Slice, Tree, ValueType,
};

use super::segments::{End, Place, Segments};
use super::{CLEAR_BATCH_KEYS, KEY_BYTES_MAX, Poison, Write, in_order};
use crate::disk::{RealDisk, io_error, is_structural};
use crate::seal::{Codec, Sealer, hex};

/// Blocks kept in memory. 16 nodes share a laptop: 16 times this is a quarter of a GiB.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// A memtable is written out at this size. Larger ones are merged less often and hold more that was overwritten meanwhile; but this
/// and the one before it, which may not be written out yet, are memory, and what a start after a crash replays: under a second.
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

/// A node's state in a tree without a journal.
pub(super) struct LsmState {
    tree: Unjournaled,
    codec: Codec,
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

impl LsmState {
    /// Opens or makes a tree in `dir`.
    pub(super) fn open(dir: &Path, sealer: Arc<dyn Sealer>) -> Result<Self, StoreError> {
        Ok(LsmState { tree: Unjournaled::open(dir, Arc::clone(&sealer))?, codec: Codec::new(sealer) })
    }

    fn decode(&self, key: &[u8], stored: &[u8]) -> Result<Vec<u8>, StoreError> {
        if is_grown(key) { self.shared().grown(key, stored) } else { self.codec.decode(key, stored) }
    }

    fn shared(&self) -> &Shared {
        &self.tree.shared
    }

    fn get_at(&self, moment: &Moment, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        // A key that is not there may be empty, or longer than any that is.
        if key.is_empty() {
            return Ok(None);
        }
        let stored = self.shared().get(moment, key)?;
        stored.map(|stored| self.decode(key, &stored)).transpose()
    }

    fn walk<'a>(&'a self, moment: &Arc<Moment>, from: &[u8], to: &[u8]) -> Scan<'a> {
        let to = to.min(&END_KEY[..]);
        if from >= to {
            return Box::new(std::iter::empty());
        }
        match self.shared().read(|| Ok(self.shared().tree.range(from..to, moment.number, None))) {
            Ok(iter) => Box::new(Walk { engine: self, iter: Some(iter), _moment: Arc::clone(moment) }),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }
}

impl StateView for LsmState {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.get_at(&self.shared().latest(), key)
    }

    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> Scan<'a> {
        self.walk(&self.shared().latest(), from, to)
    }
}

impl StateEngine for LsmState {
    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        self.tree.commit(in_order(
            batch,
            |key, value| {
                if is_grown(key) { value } else { self.codec.encode(key, &value) }
            },
        )?)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.tree.sync()
    }

    fn snapshot(&self) -> Result<Box<dyn StateView + '_>, StoreError> {
        let moment = self.shared().read(|| Ok(self.shared().latest()))?;
        Ok(Box::new(View { engine: self, moment }))
    }

    fn clear(&self, from: &[u8], to: &[u8]) -> Result<(), StoreError> {
        let (mut from, to) = (from.to_vec(), to.min(&END_KEY[..]));
        while from.as_slice() < to {
            let keys = self.shared().read(|| {
                let range = self.shared().tree.range(from.as_slice()..to, self.shared().latest().number, None);
                let keys = range.take(CLEAR_BATCH_KEYS).map(|guard| guard.key().map(|key| key.to_vec()));
                keys.collect::<lsm_tree::Result<Vec<_>>>()
            })?;
            // The next walk starts above the tombstones of this one, not in front of them.
            let Some(last) = keys.last() else { break };
            from = [last.as_slice(), &[0]].concat();
            self.tree.commit(keys.into_iter().map(|key| (key, None)).collect())?;
        }
        Ok(())
    }

    fn close(&self) -> Result<(), StoreError> {
        self.tree.sync()?;
        self.tree.end();
        Ok(())
    }
}

struct View<'a> {
    engine: &'a LsmState,
    moment: Arc<Moment>,
}

impl StateView for View<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.engine.get_at(&self.moment, key)
    }

    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> Scan<'a> {
        self.engine.walk(&self.moment, from, to)
    }
}

/// A walk that ends after its first error.
struct Walk<'a> {
    engine: &'a LsmState,
    iter: Option<Box<dyn DoubleEndedIterator<Item = IterGuardImpl> + Send>>,
    _moment: Arc<Moment>,
}

impl Walk<'_> {
    fn step(
        &mut self,
        step: impl FnOnce(&mut (dyn DoubleEndedIterator<Item = IterGuardImpl> + Send)) -> Option<IterGuardImpl>,
    ) -> Option<ScanItem> {
        let iter = self.iter.as_mut()?;
        let pair = self.engine.shared().read(|| step(&mut **iter).map(Guard::into_inner).transpose()).transpose()?;
        let item = pair.and_then(|(key, stored)| Ok((key.to_vec(), self.engine.decode(&key, &stored)?)));
        if item.is_err() {
            self.iter = None;
        }
        Some(item)
    }
}

impl Iterator for Walk<'_> {
    type Item = ScanItem;
    fn next(&mut self) -> Option<ScanItem> {
        self.step(|iter| iter.next())
    }
}

impl DoubleEndedIterator for Walk<'_> {
    fn next_back(&mut self) -> Option<ScanItem> {
        self.step(|iter| iter.next_back())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;

    use dinhba_core::ids::{GroupId, ShardId};
    use dinhba_core::keys::Keys;
    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;

    use super::super::tests::{damaged_in_turn, is_open_or_damage};
    use super::*;
    use crate::seal::Unsealed;

    type Map = BTreeMap<Vec<u8>, Vec<u8>>;

    /// Where a batch says which it is, as a node's batches do.
    const POSITION: &[u8] = b"position";
    /// The least memtable: several are written out and merged within a test.
    const SMALL: u64 = 48 * 1024;

    fn open(dir: &Path, memtable_bytes: u64) -> Result<Unjournaled, StoreError> {
        Unjournaled::open_with(dir, Arc::new(Unsealed), memtable_bytes)
    }

    fn put(key: &[u8], value: &[u8]) -> Write {
        (key.to_vec(), Some(value.to_vec()))
    }

    fn get(tree: &Unjournaled, key: &[u8]) -> Option<Vec<u8>> {
        let stored = tree.shared.get(&tree.shared.latest(), key).unwrap()?;
        Some(if is_grown(key) { tree.shared.grown(key, &stored).unwrap() } else { stored.to_vec() })
    }

    fn all(tree: &Unjournaled, moment: &Moment) -> Map {
        let range = tree.shared.tree.iter(moment.number, None);
        let pairs = range.map(|guard| guard.into_inner().unwrap()).filter(|(key, _)| **key != END_KEY);
        let value = |key: &[u8], stored: Slice| {
            if is_grown(key) { tree.shared.grown(key, &stored).unwrap() } else { stored.to_vec() }
        };
        pairs.map(|(key, stored)| (key.to_vec(), value(&key, stored))).collect()
    }

    fn position(tree: &Unjournaled) -> u32 {
        get(tree, POSITION).map_or(0, |value| u32::from_be_bytes(value.try_into().unwrap()))
    }

    /// The batch of a number: keys anywhere, some of them of earlier batches, some removed.
    fn batch(number: u32) -> Vec<Write> {
        let mut writes = BTreeMap::from([(POSITION.to_vec(), Some(number.to_be_bytes().to_vec()))]);
        for part in 0..8_u32 {
            let drawn = blake3::hash(&[number.to_be_bytes(), part.to_be_bytes()].concat());
            let drawn = drawn.as_bytes();
            let key = (u16::from_be_bytes([drawn[0], drawn[1]]) % 3_000).to_be_bytes().to_vec();
            let value = (!drawn[2].is_multiple_of(5)).then(|| drawn.repeat(usize::from(drawn[3] % 8)));
            writes.insert(key, value);
        }
        // What only grows: most of it once, some of it again, as after a snapshot was put in place.
        let keys = Keys(GroupId(1));
        for part in 0..4_u64 {
            let at = if part == 3 { u64::from(number) / 2 } else { u64::from(number) * 3 + part };
            let value = format!("{number} {part} ").repeat(usize::try_from(at % 60).unwrap());
            writes.insert(keys.arrival(ShardId(7), at), Some(value.into_bytes()));
        }
        if number.is_multiple_of(90) {
            writes.insert(keys.arrival(ShardId(7), u64::from(number)), None);
        }
        writes.into_iter().collect()
    }

    /// The state after all batches up to a number.
    #[derive(Default)]
    struct Model {
        at: u32,
        map: Map,
    }

    impl Model {
        fn up_to(number: u32) -> Self {
            let mut model = Model::default();
            while model.at < number {
                model.step();
            }
            model
        }

        fn step(&mut self) -> Vec<Write> {
            self.at += 1;
            let writes = batch(self.at);
            for (key, value) in &writes {
                match value {
                    Some(value) => drop(self.map.insert(key.clone(), value.clone())),
                    None => drop(self.map.remove(key)),
                }
            }
            writes
        }
    }

    /// As if the process were killed between two steps of its thread.
    fn kill(tree: Unjournaled) {
        tree.shared.poison.0.set("killed".to_owned()).unwrap();
        drop(tree);
    }

    fn tables(dir: &Path) -> usize {
        fs::read_dir(dir.join(TABLES)).unwrap().count()
    }

    #[test]
    fn a_value_under_anothers_key_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let state = LsmState::open(dir.path(), Arc::new(Unsealed)).unwrap();
        state.tree.commit(vec![put(b"b", &state.codec.encode(b"a", b"value"))]).unwrap();
        let damaged = |error: &StoreError| matches!(error, StoreError::Corrupt { place, .. } if place == "key 62");
        assert!(state.get(b"b").is_err_and(|error| damaged(&error)));
        let walked: Vec<_> = state.scan(b"a", b"z").collect();
        assert!(matches!(walked.as_slice(), [Err(error)] if damaged(error)));
        assert_eq!(state.get(b"a").unwrap(), None, "a bad value does not stop the engine");
    }

    #[test]
    fn whatever_happens_to_its_files_it_opens_or_says_that_they_are_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let tree = open(dir.path(), 4 * 1024).unwrap();
        for number in 0..400_u32 {
            tree.commit(vec![put(&number.to_be_bytes(), &[7; 64])]).unwrap();
        }
        drop(tree);
        let told = damaged_in_turn(dir.path(), &|dir| LsmState::open(dir, Arc::new(Unsealed)).map(drop));
        assert!(told.iter().filter(|(_, outcome)| outcome.is_err()).count() > 8, "{told:?}");
        assert_eq!(told.iter().find(|(_, outcome)| !is_open_or_damage(outcome)), None);
        let lost = told.iter().find(|(what, _)| what == "current gone").unwrap();
        assert!(lost.1.is_err(), "an empty state in place of one that was there");
    }

    #[test]
    fn a_burst_of_small_batches_is_written_out_and_closed() {
        const MEMTABLE: u64 = 256 * 1024;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let (done, is_done) = mpsc::channel();
        let burst = thread::Builder::new().spawn(move || {
            let tree = open(&path, MEMTABLE).unwrap();
            let (mut largest, mut sealed) = (0, 0);
            for number in 0..200_000_u32 {
                // Keys that lie anywhere, so that merging has something to do.
                let key = number.wrapping_mul(2_654_435_761).to_be_bytes();
                tree.commit(vec![put(&key, &[7; 40])]).unwrap();
                largest = largest.max(tree.shared.tree.active_memtable().size());
                sealed = sealed.max(tree.shared.tree.sealed_memtable_count());
            }
            drop(tree);
            done.send((largest, sealed)).unwrap();
        });
        let (largest, sealed) = is_done.recv_timeout(Duration::from_secs(120)).expect("somebody waits for ever");
        burst.unwrap().join().unwrap();
        assert!(largest < MEMTABLE + 1024 && sealed <= 1, "{sealed} memtables and one of {largest} bytes");
        let again = Unjournaled::open(dir.path(), Arc::new(Unsealed)).unwrap();
        assert_eq!(all(&again, &again.shared.latest()).len(), 200_000);
    }

    #[test]
    fn no_view_shows_half_a_batch_while_memtables_are_written_out_and_merged() {
        let dir = tempfile::tempdir().unwrap();
        let tree = open(dir.path(), 64 * 1024).unwrap();
        let (first, last) = (0_u32.to_be_bytes(), 999_u32.to_be_bytes());
        let is_over = AtomicBool::new(false);
        let seen = thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut seen = BTreeSet::new();
                while !is_over.load(Ordering::Relaxed) {
                    let moment = tree.shared.latest();
                    let pair =
                        [first, last].map(|key| tree.shared.get(&moment, &key).unwrap().map(|value| value.to_vec()));
                    assert_eq!(pair[0], pair[1], "half of a batch");
                    seen.insert(pair[0].clone());
                }
                seen.len()
            });
            // Another one has everything written out all the time, by which the tree's own number moves.
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    tree.sync().unwrap();
                }
            });
            for number in 0..300_u32 {
                let writes = (0..1_000_u32).map(|key| put(&key.to_be_bytes(), &number.to_be_bytes()));
                tree.commit(writes.collect()).unwrap();
            }
            is_over.store(true, Ordering::Relaxed);
            reader.join().unwrap()
        });
        assert!(seen > 20, "the reader saw {seen} batches");
    }

    #[test]
    fn a_view_keeps_what_it_shows_and_lets_go_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let tree = open(dir.path(), SMALL).unwrap();
        let mut model = Model::default();
        let mut views = Vec::new();
        for _ in 0..2_000 {
            tree.commit(model.step()).unwrap();
            if model.at % 250 == 0 {
                views.push((tree.shared.latest(), model.map.clone()));
            }
        }
        tree.sync().unwrap();
        for (moment, map) in &views {
            assert_eq!(&all(&tree, moment), map);
        }
        let kept = tables(dir.path());
        drop(views);
        tree.sync().unwrap();
        tree.end();
        tree.shared.let_go().unwrap();
        assert_eq!(tree.shared.tree.version_free_list_len(), 0);
        let left = tables(dir.path());
        assert!(left < kept && left == tree.shared.tree.table_count(), "{kept} files before, {left} after");
        assert_eq!(all(&tree, &tree.shared.latest()), model.map);
    }

    #[derive(Debug, Clone)]
    enum Act {
        Commit(u32),
        Sync,
        Kill,
        End,
    }

    #[test]
    fn whenever_it_ends_it_is_whole_up_to_its_position() {
        let act = prop_oneof![
            6 => (1..200_u32).prop_map(Act::Commit),
            1 => Just(Act::Sync),
            2 => Just(Act::Kill),
            1 => Just(Act::End),
        ];
        let config = ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() };
        let run = TestRunner::new(config).run(&prop::collection::vec(act, 1..16), |acts| {
            let dir = tempfile::tempdir().unwrap();
            let open = || open(dir.path(), SMALL).unwrap();
            let (mut tree, mut model, mut synced) = (open(), Model::default(), 0);
            for act in acts {
                match act {
                    Act::Commit(count) => (0..count).for_each(|_| tree.commit(model.step()).unwrap()),
                    Act::Sync => {
                        tree.sync().unwrap();
                        synced = model.at;
                    }
                    Act::Kill => {
                        kill(tree);
                        tree = open();
                        assert!((synced..=model.at).contains(&position(&tree)));
                        model = Model::up_to(position(&tree));
                        synced = model.at;
                    }
                    Act::End => {
                        drop(tree);
                        tree = open();
                        synced = model.at;
                    }
                }
                assert_eq!(all(&tree, &tree.shared.latest()), model.map);
            }
            Ok(())
        });
        run.unwrap_or_else(|failure| panic!("{failure}"));
    }

    const VICTIM: &str = "DINHBA_LSM_VICTIM";

    #[test]
    #[ignore = "the process that the test below kills"]
    fn victim() {
        let Some(dir) = std::env::var_os(VICTIM) else { return };
        let tree = open(Path::new(&dir), SMALL).unwrap();
        for number in position(&tree) + 1.. {
            tree.commit(batch(number)).unwrap();
            if number % 100 == 0 {
                tree.sync().unwrap();
                println!("synced {number}");
            }
        }
    }

    #[test]
    fn a_process_that_is_killed_leaves_a_state_that_is_whole_up_to_its_position() {
        let times = std::env::var("DINHBA_KILLS").map_or(8_u64, |times| times.parse().unwrap());
        let dir = tempfile::tempdir().unwrap();
        let mut model = Model::default();
        for round in 0..times {
            let mut victim = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "state::lsm::tests::victim", "--ignored", "--nocapture"])
                .env(VICTIM, dir.path())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let told = BufReader::new(victim.stdout.take().unwrap());
            thread::park_timeout(Duration::from_millis(60 + round * 37 % 400));
            victim.kill().unwrap();
            victim.wait().unwrap();
            let synced =
                told.lines().map_while(Result::ok).filter_map(|line| line.strip_prefix("synced ")?.parse().ok());
            let synced: u32 = synced.last().unwrap_or(model.at);
            let tree = open(dir.path(), SMALL).unwrap();
            let at = position(&tree);
            assert!(at >= synced, "round {round}: {synced} was synced, and {at} is there");
            while model.at < at {
                model.step();
            }
            assert_eq!(all(&tree, &tree.shared.latest()), model.map, "round {round}");
        }
        println!("{times} kills, {} batches", model.at);
        assert!(model.at > 0);
    }

    #[test]
    fn a_disk_that_takes_no_new_file_stops_it() {
        let dir = tempfile::tempdir().unwrap();
        let state = LsmState { tree: open(dir.path(), SMALL).unwrap(), codec: Codec::new(Arc::new(Unsealed)) };
        fs::remove_dir_all(dir.path().join(TABLES)).unwrap();
        let error = (0..).find_map(|number| state.tree.commit(batch(number)).err()).unwrap();
        assert!(matches!(error, StoreError::Io(_) | StoreError::Poisoned(_)), "{error}");
        let poisoned = |error: StoreError| matches!(error, StoreError::Poisoned(_));
        assert!(state.sync().is_err_and(poisoned) && state.apply(Batch::default()).is_err_and(poisoned));
        assert!(state.get(b"a").is_err_and(poisoned) && state.clear(b"a", b"b").is_err_and(poisoned));
        assert!(state.snapshot().map(drop).is_err_and(poisoned));
        assert!(state.scan(b"a", b"b").next().is_some_and(|item| item.is_err_and(poisoned)));
    }

    #[test]
    fn damage_that_only_merging_meets_is_told_by_the_next_opening() {
        let dir = tempfile::tempdir().unwrap();
        let tree = open(dir.path(), SMALL).unwrap();
        let mut model = Model::default();
        (0..200).for_each(|_| tree.commit(model.step()).unwrap());
        drop(tree);
        for table in fs::read_dir(dir.path().join(TABLES)).unwrap() {
            let path = table.unwrap().path();
            let mut bytes = fs::read(&path).unwrap();
            bytes[100..200].fill(0xa5);
            fs::write(&path, bytes).unwrap();
        }
        let tree = open(dir.path(), SMALL).unwrap();
        let failed = (0..20_000).find_map(|_| tree.commit(model.step()).err());
        assert!(matches!(failed, Some(StoreError::Poisoned(_))), "{failed:?}");
        drop(tree);
        let again = Unjournaled::open(dir.path(), Arc::new(Unsealed)).map(drop);
        assert!(matches!(&again, Err(StoreError::Corrupt { detail, .. }) if detail.contains("merged")), "{again:?}");
    }

    #[test]
    fn who_waits_for_merging_that_does_not_happen_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let tree = open(dir.path(), 1).unwrap();
        tree.end();
        let mut written = 0_u32;
        let failed = loop {
            *lock(&tree.shared.turn) = MERGE_WAIT_MAX - 3 * MERGE_POLL;
            // From the least to the greatest key, so that no table fits behind another.
            let writes = vec![put(&[0], &[1]), put(&[1, 0], &written.to_be_bytes()), put(&[255], &[1])];
            match tree.commit(writes) {
                Ok(()) => written += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(&failed, StoreError::Io(text) if text.contains("restart the node")), "{failed}");
        assert!(written as usize >= NEWEST_TABLES_MAX, "{written}");
    }

    #[test]
    fn a_second_opening_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let state = LsmState::open(dir.path(), Arc::new(Unsealed)).unwrap();
        let second = LsmState::open(dir.path(), Arc::new(Unsealed)).map(drop);
        assert!(matches!(second, Err(StoreError::Io(text)) if text.contains("another process")));
        drop(state);
        LsmState::open(dir.path(), Arc::new(Unsealed)).unwrap();
    }
}
