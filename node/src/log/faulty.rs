//! A disk in memory that fails on demand. A power cut keeps what was synced and, of the rest, what a seed says: nothing,
//! all, a torn beginning, or some sectors in any order. After a power cut every call fails, as for a process that died.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use dinhba_core::store::StoreError;

use crate::disk::{Disk, DiskFile};

/// What a power cut keeps or loses as a whole. Small, so that it tears frames of some tens of bytes.
const SECTOR_BYTES: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The power goes. The write that meets it may be torn.
    PowerCut,
    /// No space: the call writes half of its bytes at most.
    Full,
    /// A sync fails, and what it was for is lost; other calls fail too.
    Broken,
}

#[derive(Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Len(u64),
}

#[derive(Clone, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

fn change(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(offset, new) => {
            let offset = *offset as usize;
            bytes.resize(bytes.len().max(offset + new.len()), 0);
            bytes[offset..offset + new.len()].copy_from_slice(new);
        }
        Change::Len(len) => bytes.resize(*len as usize, 0),
    }
}

type Names = BTreeMap<PathBuf, usize>;

#[derive(Default)]
struct Inner {
    files: Vec<Content>,
    names: Names,
    /// The names after each change since the last sync of a directory; the first are durable.
    names_since_sync: Vec<Names>,
    calls: usize,
    syncs: usize,
    fault: Option<(usize, Fault)>,
    dead: bool,
}

#[derive(Clone, Default)]
pub(super) struct FaultyDisk(Arc<Mutex<Inner>>);

struct FaultyFile(FaultyDisk, usize);

/// A small generator of numbers (splitmix64): tests need many, not good ones.
fn mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl FaultyDisk {
    /// The `at`-th changing call from now, counted from 1, meets `fault`.
    pub fn fail_at(&self, at: usize, fault: Fault) {
        let mut inner = self.0.lock().unwrap();
        inner.fault = Some((inner.calls + at, fault));
    }

    pub fn syncs(&self) -> usize {
        self.0.lock().unwrap().syncs
    }

    /// The disk as the next process finds it after a power cut now.
    pub fn after_power_cut(&self, seed: u64) -> FaultyDisk {
        let inner = self.0.lock().unwrap();
        let mut random = seed;
        let keeps = seed % 4;
        let files = inner.files.iter().map(|content| {
            let mut now = content.durable.clone();
            let torn = mix(&mut random) as usize % (content.unsynced.len() + 1);
            for (at, unsynced) in content.unsynced.iter().enumerate() {
                match (keeps, unsynced) {
                    (0, _) => {}
                    (1, _) => change(&mut now, unsynced),
                    (2, _) if at < torn => change(&mut now, unsynced),
                    (2, Change::Write(offset, bytes)) if at == torn => {
                        let count = mix(&mut random) as usize % (bytes.len() + 1);
                        change(&mut now, &Change::Write(*offset, bytes[..count].to_vec()));
                    }
                    (3, Change::Write(offset, bytes)) => {
                        for (sector, part) in bytes.chunks(SECTOR_BYTES).enumerate() {
                            if mix(&mut random).is_multiple_of(2) {
                                let offset = offset + (sector * SECTOR_BYTES) as u64;
                                change(&mut now, &Change::Write(offset, part.to_vec()));
                            }
                        }
                    }
                    (3, Change::Len(_)) => change(&mut now, unsynced),
                    _ => {}
                }
            }
            Content { durable: now.clone(), now, unsynced: Vec::new() }
        });
        let files = files.collect();
        let choices = inner.names_since_sync.len().max(1);
        let chosen = if keeps == 0 { 0 } else { mix(&mut random) as usize % choices };
        let names = inner.names_since_sync.get(chosen).cloned().unwrap_or_default();
        let inner = Inner { files, names_since_sync: vec![names.clone()], names, ..Inner::default() };
        FaultyDisk(Arc::new(Mutex::new(inner)))
    }

    /// A copy that goes its own way.
    pub fn copy(&self) -> FaultyDisk {
        let inner = self.0.lock().unwrap();
        let (files, names) = (inner.files.clone(), inner.names.clone());
        let names_since_sync = inner.names_since_sync.clone();
        FaultyDisk(Arc::new(Mutex::new(Inner { files, names, names_since_sync, ..Inner::default() })))
    }

    /// Changes the bytes of a file behind everyone's back.
    pub fn meddle(&self, path: &Path, with: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = self.0.lock().unwrap();
        let id = inner.names[path];
        with(&mut inner.files[id].now);
        inner.files[id].durable = inner.files[id].now.clone();
    }

    pub fn bytes(&self, path: &Path) -> Vec<u8> {
        let inner = self.0.lock().unwrap();
        inner.files[inner.names[path]].now.clone()
    }

    /// Runs `work` as one changing call; tells it if it is the one to fail.
    fn step<T>(&self, work: impl FnOnce(&mut Inner, Option<Fault>) -> T) -> Result<T, StoreError> {
        let mut inner = self.0.lock().unwrap();
        if inner.dead {
            return Err(StoreError::Io("no power".to_owned()));
        }
        inner.calls += 1;
        let fault = inner.fault.filter(|(at, _)| *at == inner.calls).map(|(_, fault)| fault);
        let value = work(&mut inner, fault);
        match fault {
            None => Ok(value),
            Some(Fault::Full) => Err(StoreError::Full("no space".to_owned())),
            Some(Fault::Broken) => Err(StoreError::Io("broken".to_owned())),
            Some(Fault::PowerCut) => {
                inner.dead = true;
                Err(StoreError::Io("power cut".to_owned()))
            }
        }
    }

    fn change_names(&self, with: impl FnOnce(&mut Names)) -> Result<(), StoreError> {
        self.step(|inner, fault| {
            // A call that meets a power cut may have got through to the disk's journal.
            if matches!(fault, None | Some(Fault::PowerCut)) {
                if inner.names_since_sync.is_empty() {
                    inner.names_since_sync.push(Names::new());
                }
                with(&mut inner.names);
                let names = inner.names.clone();
                inner.names_since_sync.push(names);
            }
        })
    }
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, create: bool) -> Result<Box<dyn DiskFile>, StoreError> {
        let known = {
            let inner = self.0.lock().unwrap();
            if inner.dead {
                return Err(StoreError::Io("no power".to_owned()));
            }
            inner.names.get(path).copied()
        };
        let id = match known {
            Some(id) => id,
            None if create => {
                let id = {
                    let mut inner = self.0.lock().unwrap();
                    inner.files.push(Content::default());
                    inner.files.len() - 1
                };
                self.change_names(|names| {
                    names.insert(path.to_owned(), id);
                })?;
                id
            }
            None => return Err(StoreError::Io(format!("{} is not there", path.display()))),
        };
        Ok(Box::new(FaultyFile(self.clone(), id)))
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, StoreError> {
        let inner = self.0.lock().unwrap();
        let here = inner.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(here.filter_map(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned()).collect())
    }

    fn create_dir(&self, _dir: &Path) -> Result<(), StoreError> {
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<(), StoreError> {
        self.change_names(|names| {
            names.remove(path);
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        self.change_names(|names| {
            if let Some(id) = names.remove(from) {
                names.insert(to.to_owned(), id);
            }
        })
    }

    fn sync_dir(&self, _dir: &Path) -> Result<(), StoreError> {
        self.step(|inner, fault| {
            if fault.is_none() {
                inner.names_since_sync = vec![inner.names.clone()];
            }
        })
    }
}

impl DiskFile for FaultyFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        let inner = self.0.0.lock().unwrap();
        let bytes = inner.files[self.1].now.get(offset as usize..).unwrap_or_default();
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.0.step(|inner, fault| {
            let count = if matches!(fault, Some(Fault::Full | Fault::Broken)) { bytes.len() / 2 } else { bytes.len() };
            let write = Change::Write(offset, bytes[..count].to_vec());
            change(&mut inner.files[self.1].now, &write);
            inner.files[self.1].unsynced.push(write);
        })
    }

    fn len(&self) -> Result<u64, StoreError> {
        Ok(self.0.0.lock().unwrap().files[self.1].now.len() as u64)
    }

    fn set_len(&self, len: u64) -> Result<(), StoreError> {
        self.0.step(|inner, fault| {
            if fault.is_none() {
                change(&mut inner.files[self.1].now, &Change::Len(len));
                inner.files[self.1].unsynced.push(Change::Len(len));
            }
        })
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.0.step(|inner, fault| {
            inner.syncs += 1;
            let content = &mut inner.files[self.1];
            match fault {
                None => {
                    content.durable = content.now.clone();
                    content.unsynced.clear();
                }
                // The system drops the dirty pages and says so once.
                Some(Fault::Broken) => content.unsynced.clear(),
                Some(_) => {}
            }
        })
    }
}
