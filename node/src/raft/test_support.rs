//! Engines, a disk and a machine that live in memory, for tests of what stands above them.
//!
//! They keep every promise of the traits and lose nothing: how real storage fails is the business of the engines' own
//! tests and of the simulator.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dinhba_core::ids::GroupId;
use dinhba_core::store::{Batch, Done, LogEngine, LogState, Scan, StateEngine, StateView, StoreError};

use super::machine::Machine;
use crate::disk::{Disk, DiskFile};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// A [`StateEngine`] in memory.
#[derive(Debug, Default)]
pub struct MemoryState {
    map: Mutex<Arc<Map>>,
    rotten: Mutex<Arc<BTreeSet<Vec<u8>>>>,
    fail: Mutex<Option<StoreError>>,
}

/// The values, and the keys of those that are damaged.
struct MemoryView(Arc<Map>, Arc<BTreeSet<Vec<u8>>>);

impl MemoryState {
    /// Lets every later write fail with `error`, or none again.
    pub fn fail_with(&self, error: Option<StoreError>) {
        *lock(&self.fail) = error;
    }

    /// Damages every value there is under keys that begin with `prefix`.
    pub fn rot(&self, prefix: &[u8]) {
        let keys = lock(&self.map).keys().filter(|key| key.starts_with(prefix)).cloned().collect::<Vec<_>>();
        Arc::make_mut(&mut lock(&self.rotten)).extend(keys);
    }

    fn view(&self) -> MemoryView {
        MemoryView(Arc::clone(&lock(&self.map)), Arc::clone(&lock(&self.rotten)))
    }

    /// Everything that it holds.
    #[must_use]
    pub fn contents(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        (**lock(&self.map)).clone()
    }

    fn check(&self) -> Result<(), StoreError> {
        lock(&self.fail).clone().map_or(Ok(()), Err)
    }
}

impl MemoryView {
    fn whole(&self, key: &[u8], value: &[u8]) -> Result<Vec<u8>, StoreError> {
        if self.1.contains(key) {
            return Err(StoreError::Corrupt { place: "a key".into(), detail: "damaged on purpose".into() });
        }
        Ok(value.to_vec())
    }
}

impl StateView for MemoryView {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.get(key).map(|value| self.whole(key, value)).transpose()
    }

    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> Scan<'a> {
        let range = self.0.range(from.to_vec()..to.to_vec());
        Box::new(range.map(|(key, value)| Ok((key.clone(), self.whole(key, value)?))))
    }
}

impl StateView for MemoryState {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.view().get(key)
    }

    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> Scan<'a> {
        let found: Vec<_> = self.view().scan(from, to).collect();
        Box::new(found.into_iter())
    }
}

impl StateEngine for MemoryState {
    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        self.check()?;
        let mut map = lock(&self.map);
        let map = Arc::make_mut(&mut map);
        for (key, value) in batch.writes {
            Arc::make_mut(&mut lock(&self.rotten)).remove(&key);
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.check()
    }

    fn snapshot(&self) -> Result<Box<dyn StateView + '_>, StoreError> {
        Ok(Box::new(self.view()))
    }

    fn clear(&self, from: &[u8], to: &[u8]) -> Result<(), StoreError> {
        self.check()?;
        let outside = |key: &Vec<u8>| &key[..] < from || &key[..] >= to;
        Arc::make_mut(&mut lock(&self.map)).retain(|key, _| outside(key));
        Arc::make_mut(&mut lock(&self.rotten)).retain(outside);
        Ok(())
    }
}

#[derive(Debug, Default)]
struct GroupLog {
    vote: Option<Vec<u8>>,
    purged: Option<(u64, Vec<u8>)>,
    entries: BTreeMap<u64, Vec<u8>>,
}

/// A [`LogEngine`] in memory; it calls `done` before it returns.
#[derive(Debug, Default)]
pub struct MemoryLog {
    groups: Mutex<BTreeMap<GroupId, GroupLog>>,
}

impl MemoryLog {
    fn change(&self, group: GroupId, done: Done, change: impl FnOnce(&mut GroupLog) -> Result<(), StoreError>) {
        let result = change(lock(&self.groups).entry(group).or_default());
        done(result);
    }
}

impl LogEngine for MemoryLog {
    fn append(&self, group: GroupId, entries: Vec<(u64, Vec<u8>)>, done: Done) {
        self.change(group, done, |log| {
            for (index, bytes) in entries {
                let last = log.entries.last_key_value().map(|(&last, _)| last);
                let last = last.or(log.purged.as_ref().map(|(index, _)| *index));
                if last.is_some_and(|last| last + 1 != index) {
                    return Err(StoreError::Io(format!("entry {index} after {last:?}")));
                }
                log.entries.insert(index, bytes);
            }
            Ok(())
        });
    }

    fn save_vote(&self, group: GroupId, vote: Vec<u8>, done: Done) {
        self.change(group, done, |log| {
            log.vote = Some(vote);
            Ok(())
        });
    }

    fn truncate_from(&self, group: GroupId, index: u64, done: Done) {
        self.change(group, done, |log| {
            log.entries.split_off(&index);
            Ok(())
        });
    }

    fn purge_to(&self, group: GroupId, index: u64, mark: Vec<u8>, done: Done) {
        self.change(group, done, |log| {
            log.entries = log.entries.split_off(&(index + 1));
            log.purged = Some((index, mark));
            Ok(())
        });
    }

    fn touch(&self, done: Done) {
        done(Ok(()));
    }

    fn read(&self, group: GroupId, from: u64, to: u64) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let groups = lock(&self.groups);
        let Some(log) = groups.get(&group) else { return Ok(Vec::new()) };
        Ok(log.entries.range(from..to.max(from)).map(|(&index, bytes)| (index, bytes.clone())).collect())
    }

    fn state(&self, group: GroupId) -> Result<LogState, StoreError> {
        let groups = lock(&self.groups);
        let Some(log) = groups.get(&group) else { return Ok(LogState::default()) };
        let last = log.entries.last_key_value().map(|(&index, bytes)| (index, bytes.clone()));
        Ok(LogState { vote: log.vote.clone(), purged: log.purged.clone(), last })
    }

    fn groups(&self) -> Result<Vec<GroupId>, StoreError> {
        Ok(lock(&self.groups).keys().copied().collect())
    }
}

type Bytes = Arc<Mutex<Vec<u8>>>;

/// A [`Disk`] in memory.
#[derive(Debug, Default)]
pub struct MemoryDisk {
    files: Mutex<BTreeMap<PathBuf, Bytes>>,
}

struct MemoryFile(Bytes);

impl MemoryDisk {
    /// Damages a file.
    pub fn flip_bit(&self, path: &Path, offset: u64) {
        if let Some(file) = lock(&self.files).get(path)
            && let Some(byte) = usize::try_from(offset).ok().and_then(|at| lock(file).get(at).copied())
        {
            lock(file)[usize::try_from(offset).unwrap_or(0)] = byte ^ 4;
        }
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &Path, create: bool) -> Result<Box<dyn DiskFile>, StoreError> {
        let mut files = lock(&self.files);
        if !create && !files.contains_key(path) {
            return Err(StoreError::Io(format!("no file {}", path.display())));
        }
        Ok(Box::new(MemoryFile(Arc::clone(files.entry(path.to_owned()).or_default()))))
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, StoreError> {
        let files = lock(&self.files);
        let names = files.keys().filter(|path| path.parent() == Some(dir)).filter_map(|path| path.file_name());
        Ok(names.map(|name| name.to_string_lossy().into_owned()).collect())
    }

    fn create_dir(&self, _: &Path) -> Result<(), StoreError> {
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<(), StoreError> {
        lock(&self.files).remove(path);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        let mut files = lock(&self.files);
        let file = files.remove(from).ok_or_else(|| StoreError::Io(format!("no file {}", from.display())))?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> Result<(), StoreError> {
        Ok(())
    }
}

impl DiskFile for MemoryFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        let file = lock(&self.0);
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(file.len());
        let count = buffer.len().min(file.len() - from);
        buffer[..count].copy_from_slice(&file[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let mut file = lock(&self.0);
        let from = usize::try_from(offset).map_err(|_| StoreError::Io("beyond memory".into()))?;
        let to = from + bytes.len();
        if file.len() < to {
            file.resize(to, 0);
        }
        file[from..to].copy_from_slice(bytes);
        Ok(())
    }

    fn len(&self) -> Result<u64, StoreError> {
        Ok(lock(&self.0).len() as u64)
    }

    fn set_len(&self, len: u64) -> Result<(), StoreError> {
        lock(&self.0).resize(usize::try_from(len).map_err(|_| StoreError::Io("beyond memory".into()))?, 0);
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// A machine that keeps every command under its log index and answers with a running hash of all of them: two replicas
/// that applied the same commands in the same order give the same answers, and no others do.
pub struct ChainMachine {
    engine: Arc<dyn StateEngine>,
    group: GroupId,
    hash: Option<[u8; 32]>,
}

impl ChainMachine {
    /// A machine over the group's part of `engine`.
    #[must_use]
    pub fn new(engine: Arc<dyn StateEngine>, group: GroupId) -> Self {
        ChainMachine { engine, group, hash: None }
    }

    fn key(&self, kind: u8, rest: &[u8]) -> Vec<u8> {
        [&self.group.0.to_be_bytes()[..], &[kind], rest].concat()
    }

    /// The commands that `engine` holds for `group`, in order.
    pub fn commands(engine: &dyn StateView, group: GroupId) -> Result<Vec<Vec<u8>>, StoreError> {
        let prefix = |kind: u8| [&group.0.to_be_bytes()[..], &[kind]].concat();
        engine.scan(&prefix(1), &prefix(2)).map(|item| item.map(|(_, value)| value)).collect()
    }
}

impl Machine for ChainMachine {
    fn apply(&mut self, commands: &[(u64, Vec<u8>)]) -> Result<(Vec<Vec<u8>>, Batch), StoreError> {
        let mut hash = match self.hash {
            Some(hash) => hash,
            None => match self.engine.get(&self.key(2, &[]))? {
                Some(bytes) => <[u8; 32]>::try_from(bytes).map_err(|_| StoreError::Io("a hash".into()))?,
                None => [0; 32],
            },
        };
        let mut batch = Batch::default();
        let mut answers = Vec::new();
        for (index, command) in commands {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&hash).update(command);
            hash = *hasher.finalize().as_bytes();
            batch.put(self.key(1, &index.to_be_bytes()), command.clone());
            answers.push(hash.to_vec());
        }
        batch.put(self.key(2, &[]), hash.to_vec());
        self.hash = Some(hash);
        Ok((answers, batch))
    }

    fn applied(&mut self, _: u64) {}

    fn replaced(&mut self) {
        self.hash = None;
    }
}
