//! The simulated disk of one machine: [`SimDisk`].
//!
//! It forgets, tears, rots, fills up and breaks as disks do, and always the same way for one seed. A power cut keeps
//! what was synced; of the rest it keeps, file by file, nothing, all, a beginning whose last write is torn, or some
//! sectors of 512 bytes. Creations, renames and removals that no `sync_dir` covered stay up to a random one. A killed
//! process loses nothing that it wrote. Either way every file that was open is dead: each call on it is an error.
//!
//! A power cut also happens in the middle of a flush: [`SimDisk::cut_power_at`] sets the call that meets it.
//!
//! Cost: files are pages shared between the present, the durable image and backups; a sync costs the pages that it covers,
//! and space that is set aside costs nothing.
//!
//! Limits: directories are durable when made; nothing is lost by a disk that is only slow ([`SimDisk::flush_time`] is for
//! the log's driver to wait). A failed sync shows what was durable before; some systems go on showing what was lost until
//! they restart. Rot spares what the last sync of a file wrote, since the log takes damage there for a torn write.

mod content;
#[cfg(test)]
mod segments;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dinhba_core::store::StoreError;
use dinhba_node::disk::{Disk, DiskFile};
use futures::channel::oneshot;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use self::content::Content;

/// What a disk has done and suffered since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskFigures {
    /// Bytes of all writes.
    pub bytes_written: u64,
    /// Syncs of files that succeeded.
    pub syncs: u64,
    /// Calls refused because the disk was full.
    pub refused_full: u64,
    /// Syncs that failed.
    pub syncs_failed: u64,
    /// Power cuts.
    pub power_cuts: u64,
    /// Power cuts after which something that was written, or a change of names, was gone.
    pub power_cuts_lost: u64,
    /// Power cuts after which something that was written was there in part.
    pub power_cuts_torn: u64,
    /// Bits flipped.
    pub rotten_bits: u64,
}

/// A disk; clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    /// Of a process's own view of the disk: when it was mounted.
    epoch: Option<u64>,
}

/// By path, the file's number.
type Names = BTreeMap<PathBuf, u64>;

struct State {
    random: ChaCha8Rng,
    files: BTreeMap<u64, File>,
    file_next: u64,
    names: Names,
    durable_names: Names,
    /// What leads from the durable names to the present ones.
    renames: Vec<NameChange>,
    dirs: BTreeSet<PathBuf>,
    /// Files opened in an earlier epoch are dead.
    epoch: u64,
    is_dark: bool,
    /// So many changing calls until the power goes, and whom to tell.
    cut_at: Option<(u64, oneshot::Sender<()>)>,
    full: bool,
    failing: bool,
    flush_time: Duration,
    figures: DiskFigures,
}

#[derive(Clone, Default)]
struct File {
    content: Content,
    /// How often it is open. A file without a name lives as long as it is.
    handles: usize,
}

enum NameChange {
    Put(PathBuf, u64),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, u64),
}

impl NameChange {
    fn apply(&self, names: &mut Names) {
        match self {
            NameChange::Put(path, file) => {
                names.insert(path.clone(), *file);
            }
            NameChange::Remove(path) => {
                names.remove(path);
            }
            NameChange::Rename(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
        }
    }

    /// The directory whose sync makes it durable.
    fn dir(&self) -> Option<&Path> {
        let (NameChange::Put(path, _) | NameChange::Remove(path) | NameChange::Rename(_, path, _)) = self;
        path.parent()
    }

    fn file(&self) -> Option<u64> {
        match self {
            NameChange::Put(_, file) | NameChange::Rename(_, _, file) => Some(*file),
            NameChange::Remove(_) => None,
        }
    }
}

fn no_power() -> StoreError {
    StoreError::Io("the process that opened this is dead".to_owned())
}

fn io(what: &str, path: &Path, reason: &str) -> StoreError {
    StoreError::Io(format!("{what} {}: {reason}", path.display()))
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn content(&mut self, file: u64) -> &mut Content {
        &mut self.files.entry(file).or_default().content
    }

    /// Counts a changing call; true if it is the one that meets the power cut.
    fn meets_cut(&mut self) -> bool {
        match &mut self.cut_at {
            None => false,
            Some((calls, _)) => {
                *calls = calls.saturating_sub(1);
                *calls == 0
            }
        }
    }

    /// The end of a changing call: the power goes now if it is the one.
    fn end_call(&mut self, meets_cut: bool) -> Result<(), StoreError> {
        if !meets_cut {
            return Ok(());
        }
        self.lose_power();
        self.is_dark = true;
        if let Some((_, told)) = self.cut_at.take() {
            let _nobody_listens = told.send(());
        }
        Err(no_power())
    }

    fn refuse_if_full(&mut self, what: &str, path: &Path) -> Result<(), StoreError> {
        if self.full {
            self.figures.refused_full += 1;
            return Err(StoreError::Full(format!("{what} {}: no space left on device", path.display())));
        }
        Ok(())
    }

    fn change_names(&mut self, change: NameChange) -> Result<(), StoreError> {
        let meets_cut = self.meets_cut();
        change.apply(&mut self.names);
        self.renames.push(change);
        self.end_call(meets_cut)
    }

    /// All processes are dead: their files with them.
    fn end_processes(&mut self) {
        self.epoch += 1;
        self.is_dark = false;
        self.cut_at = None;
        for file in self.files.values_mut() {
            file.handles = 0;
        }
        self.forget_files();
    }

    fn lose_power(&mut self) {
        let renames = std::mem::take(&mut self.renames);
        let kept = self.random.next_u64() % (renames.len() as u64 + 1);
        let mut lost = kept < renames.len() as u64;
        let mut torn = false;
        for (_, change) in (0..kept).zip(&renames) {
            change.apply(&mut self.durable_names);
        }
        self.names = self.durable_names.clone();
        for file in self.files.values_mut() {
            let damage = file.content.power_cut(&mut self.random);
            lost |= damage.lost;
            torn |= damage.torn;
            file.handles = 0;
        }
        self.epoch += 1;
        self.forget_files();
        self.figures.power_cuts += 1;
        self.figures.power_cuts_lost += u64::from(lost);
        self.figures.power_cuts_torn += u64::from(torn);
    }

    /// Drops the files that nobody can reach any more.
    fn forget_files(&mut self) {
        let mut named: BTreeSet<u64> = self.names.values().chain(self.durable_names.values()).copied().collect();
        named.extend(self.renames.iter().filter_map(NameChange::file));
        self.files.retain(|number, file| file.handles > 0 || named.contains(number));
    }

    fn sync_dir(&mut self, dir: &Path) -> Result<(), StoreError> {
        let meets_cut = self.meets_cut();
        if !meets_cut {
            let (here, others) =
                std::mem::take(&mut self.renames).into_iter().partition(|change| change.dir() == Some(dir));
            self.renames = others;
            if self.failing {
                self.figures.syncs_failed += 1;
                self.names = self.durable_names.clone();
                self.renames.iter().for_each(|change| change.apply(&mut self.names));
                return Err(io("sync directory", dir, "input/output error"));
            }
            let here: Vec<NameChange> = here;
            here.iter().for_each(|change| change.apply(&mut self.durable_names));
            self.forget_files();
        }
        self.end_call(meets_cut)
    }
}

impl SimDisk {
    /// An empty disk whose accidents come from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let state = State {
            random: ChaCha8Rng::seed_from_u64(seed),
            files: BTreeMap::new(),
            file_next: 0,
            names: Names::new(),
            durable_names: Names::new(),
            renames: Vec::new(),
            dirs: BTreeSet::new(),
            epoch: 0,
            is_dark: false,
            cut_at: None,
            full: false,
            failing: false,
            flush_time: Duration::ZERO,
            figures: DiskFigures::default(),
        };
        SimDisk { state: Arc::new(Mutex::new(state)), epoch: None }
    }

    /// The disk as one process has it: after the next power cut or kill every call on it is an error, so that nothing
    /// which outlives the process can reach the next one's files.
    #[must_use]
    pub fn mount(&self) -> SimDisk {
        SimDisk { state: Arc::clone(&self.state), epoch: Some(self.lock().epoch) }
    }

    /// Cuts the power, and gives it back: the next process may open files at once. After a cut that
    /// [`cut_power_at`](Self::cut_power_at) made it only gives the power back.
    pub fn power_cut(&self) {
        let mut state = self.lock();
        if !state.is_dark {
            state.lose_power();
        }
        state.end_processes();
    }

    /// The power goes in the `calls`-th changing call from now, counted from 1 (writes, syncs, and changes of length or
    /// names count): that call does not finish. Everything is an error until [`power_cut`](Self::power_cut). The
    /// receiver resolves when it happens; it is cancelled if the process ends before.
    pub fn cut_power_at(&self, calls: u64) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.lock().cut_at = Some((calls.max(1), sender));
        receiver
    }

    /// Calls off a cut that was set and has not happened.
    pub fn call_off_cut(&self) {
        self.lock().cut_at = None;
    }

    /// Whether the power went in the middle of a call and is not back.
    #[must_use]
    pub fn is_dark(&self) -> bool {
        self.lock().is_dark
    }

    /// The process dies and the machine does not: what it wrote is there, still not synced. After a power cut in the
    /// middle of a call it gives the power back.
    pub fn kill(&self) {
        self.lock().end_processes();
    }

    /// A backup: another disk with what a copy of the files would show now, all of it durable there.
    #[must_use]
    pub fn copy(&self) -> SimDisk {
        let copy = SimDisk::new(0);
        {
            let (state, mut to) = (self.lock(), lock(&copy.state));
            let file = |number: &u64| state.files.get(number).map(|file| (*number, file.content.copy()));
            let files = state.names.values().filter_map(file);
            to.files = files.map(|(number, content)| (number, File { content, handles: 0 })).collect();
            to.file_next = state.file_next;
            to.names = state.names.clone();
            to.durable_names = state.names.clone();
            to.dirs = state.dirs.clone();
            to.random = state.random.clone();
        }
        copy
    }

    /// Replaces everything by a backup, which may be restored again. The process that ran is dead. Faults and figures stay.
    pub fn restore(&self, backup: &SimDisk) {
        // Copied first: the backup stays as it is, and may even be a clone of this disk.
        let copy = backup.copy();
        let (mut from, mut state) = (lock(&copy.state), self.lock());
        state.files = std::mem::take(&mut from.files);
        state.file_next = state.file_next.max(from.file_next);
        state.names = std::mem::take(&mut from.names);
        state.durable_names = std::mem::take(&mut from.durable_names);
        state.renames.clear();
        state.dirs = std::mem::take(&mut from.dirs);
        state.end_processes();
    }

    /// Loses everything: a new disk. The process that ran is dead. Faults and figures stay.
    pub fn lose_all(&self) {
        self.restore(&SimDisk::new(0));
    }

    /// Loses every file below a directory, as a repair of the file system or an operator's hand would. No process runs.
    pub fn lose_dir(&self, dir: &Path) {
        let mut state = self.lock();
        let State { names, durable_names, .. } = &mut *state;
        for names in [names, durable_names] {
            names.retain(|path, _| !path.starts_with(dir));
        }
        state.renames.clear();
        state.forget_files();
    }

    /// While set, writes, extensions and creations are refused as on a full disk; a write may get through in part.
    pub fn set_full(&self, full: bool) {
        self.lock().full = full;
    }

    /// While set, every sync fails, and what it was for is lost.
    pub fn set_failing(&self, failing: bool) {
        self.lock().failing = failing;
    }

    /// Sets how long a flush takes: nobody waits here, it is for the log's driver to ask.
    pub fn set_flush_time(&self, time: Duration) {
        self.lock().flush_time = time;
    }

    /// How long a flush takes.
    #[must_use]
    pub fn flush_time(&self) -> Duration {
        self.lock().flush_time
    }

    /// Flips one bit of cold data below a directory: durable, and older than the last sync of its file. `pick` chooses
    /// which. Tells what it hit; `None` if nothing is cold.
    pub fn rot(&self, below: &Path, pick: u64) -> Option<String> {
        let mut state = self.lock();
        let durable = state
            .names
            .iter()
            .filter(|(path, file)| path.starts_with(below) && state.durable_names.get(*path) == Some(*file));
        let durable: Vec<(PathBuf, u64)> = durable.map(|(path, file)| (path.clone(), *file)).collect();
        let count = durable.len() as u64;
        let first = usize::try_from(pick.checked_rem(count)?).ok()?;
        for (path, file) in durable[first..].iter().chain(&durable[..first]) {
            if let Some(at) = state.content(*file).rot(pick / count) {
                state.figures.rotten_bits += 1;
                return Some(format!("{} at byte {at}", path.display()));
            }
        }
        None
    }

    /// What happened so far.
    #[must_use]
    pub fn figures(&self) -> DiskFigures {
        self.lock().figures
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// For a call: an error if the process that makes it is dead.
    fn enter(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        enter(&self.state, self.epoch)
    }
}

fn enter(state: &Mutex<State>, epoch: Option<u64>) -> Result<MutexGuard<'_, State>, StoreError> {
    let state = lock(state);
    if state.is_dark || epoch.is_some_and(|epoch| epoch != state.epoch) {
        return Err(no_power());
    }
    Ok(state)
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, create: bool) -> Result<Box<dyn DiskFile>, StoreError> {
        let mut state = self.enter()?;
        let number = match state.names.get(path) {
            Some(number) => *number,
            None if !create => return Err(io("open", path, "no such file")),
            None => {
                if path.parent().is_none_or(|dir| !state.dirs.contains(dir)) {
                    return Err(io("open", path, "no such directory"));
                }
                state.refuse_if_full("open", path)?;
                let number = state.file_next;
                state.file_next += 1;
                state.files.insert(number, File::default());
                state.change_names(NameChange::Put(path.to_owned(), number))?;
                number
            }
        };
        state.files.entry(number).or_default().handles += 1;
        Ok(Box::new(SimFile { state: Arc::clone(&self.state), epoch: state.epoch, number, path: path.into() }))
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, StoreError> {
        let state = self.enter()?;
        let here = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(here.filter_map(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned()).collect())
    }

    fn create_dir(&self, dir: &Path) -> Result<(), StoreError> {
        let mut state = self.enter()?;
        if !state.dirs.contains(dir) {
            state.refuse_if_full("make directory", dir)?;
            state.dirs.extend(dir.ancestors().map(Path::to_owned));
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<(), StoreError> {
        let mut state = self.enter()?;
        if state.names.contains_key(path) {
            state.change_names(NameChange::Remove(path.to_owned()))?;
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        let mut state = self.enter()?;
        let number = *state.names.get(from).ok_or_else(|| io("rename", from, "no such file"))?;
        state.change_names(NameChange::Rename(from.to_owned(), to.to_owned(), number))
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), StoreError> {
        self.enter()?.sync_dir(dir)
    }
}

struct SimFile {
    state: Arc<Mutex<State>>,
    epoch: u64,
    number: u64,
    path: Box<Path>,
}

impl SimFile {
    fn enter(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        enter(&self.state, Some(self.epoch))
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        if state.epoch == self.epoch
            && let Some(file) = state.files.get_mut(&self.number)
        {
            file.handles -= 1;
        }
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        Ok(self.enter()?.content(self.number).read(offset, buffer))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let mut state = self.enter()?;
        if let Err(full) = state.refuse_if_full("write", &self.path) {
            let part = state.random.next_u64() % (bytes.len() as u64 + 1);
            let part = &bytes[..usize::try_from(part).unwrap_or(0)];
            state.content(self.number).write(offset, part);
            return Err(full);
        }
        let meets_cut = state.meets_cut();
        state.figures.bytes_written += bytes.len() as u64;
        state.content(self.number).write(offset, bytes);
        state.end_call(meets_cut)
    }

    fn len(&self) -> Result<u64, StoreError> {
        Ok(self.enter()?.content(self.number).len())
    }

    fn set_len(&self, len: u64) -> Result<(), StoreError> {
        let mut state = self.enter()?;
        if len > state.content(self.number).len() {
            state.refuse_if_full("extend", &self.path)?;
        }
        let meets_cut = state.meets_cut();
        state.content(self.number).set_len(len);
        state.end_call(meets_cut)
    }

    fn sync(&self) -> Result<(), StoreError> {
        let mut state = self.enter()?;
        if state.failing {
            state.figures.syncs_failed += 1;
            state.content(self.number).drop_unsynced();
            return Err(io("sync", &self.path, "input/output error"));
        }
        let meets_cut = state.meets_cut();
        if !meets_cut {
            state.content(self.number).sync();
            state.figures.syncs += 1;
        }
        state.end_call(meets_cut)
    }
}
