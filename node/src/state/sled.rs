//! State in sled 0.34: experimental, chosen by name.
//!
//! sled's own `flush` ends in `sync_file_range`, which does not reach the disk's cache: in power cuts it lost
//! acknowledged writes. So `sync` here flushes and then calls `fdatasync` on sled's `db` file. Pages with more than
//! 128 kB of values go to files of their own under `blobs`, which sled never syncs at all: those are synced first. Nor does
//! it sync `conf`, without which it does not open: that is synced at each opening, and a database whose making a power cut
//! broke off is made anew.
//!
//! A batch that fails in its middle stays there in part: the next opening reads as damage. sled's recovery takes what it cannot read for the end of its log, so an opening reads all files once before.
//!
//! Known limits. Values above [`VALUE_BYTES_MAX`] are refused. A damaged file makes sled panic or forget the newest
//! batches; panics in our calls are caught, poison the engine and read as damage, those in sled's own threads are not. A
//! power cut between a write of sled's and the next `sync` can leave a page whose blob file is not on the disk. A power cut
//! that leaves *parts* of unflushed writes (some disks and controllers do) can leave a database that sled opens without an
//! error and that is not what was written: crash tests saw edits doubled or missing and replicas that differ. A read that
//! fails once and not again, during recovery, can do the same.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use dinhba_core::store::StoreError;
use sled::{Config, Db};

use super::overlaid::{Base, Overlaid, Pairs};
use super::{Poison, Writes};
use crate::disk::io_error;
use crate::seal::{Codec, hex};

/// A stored value has at most this many bytes: above it sled moves each value to a file of its own and never syncs it.
pub(super) const VALUE_BYTES_MAX: usize = 128 * 1024;
/// sled's page cache: 16 nodes share a laptop, and 16 times this is a quarter of a GiB.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// Empty; there while a database is made. What lies beside it then was never used, and may be there in part.
const MAKING: &str = "making";
/// Holds [`WHOLE`] until a batch fails in its middle, of which sled keeps a part; then [`BROKEN`], for the next opening. It is
/// overwritten, not made, since the disk may be full.
const DOUBT: &str = "doubt";
const WHOLE: &[u8] = b"0";
const BROKEN: &[u8] = b"1";
/// How often, and how long each time, an opening waits for an earlier one in this process to let go: two seconds in all.
const LOCK_TRIES: u32 = 100;
const LOCK_WAIT: Duration = Duration::from_millis(20);

/// An open sled database.
pub(super) struct SledBase {
    db: Db,
    dir: PathBuf,
    file: File,
    /// Says whether a batch was broken off: see [`DOUBT`].
    doubt: File,
    /// Blob files that were synced already. They are written once, under names that are not used again.
    blobs_synced: Mutex<BTreeSet<OsString>>,
}

fn sled_error(dir: &Path, error: sled::Error) -> StoreError {
    match error {
        sled::Error::Io(error) => io_error("sled in", dir, &error),
        sled::Error::Corruption { at, .. } => {
            StoreError::Corrupt { place: format!("sled in {}", dir.display()), detail: format!("at {at:?}") }
        }
        other => StoreError::Io(format!("sled in {}: {other}", dir.display())),
    }
}

/// Opens or makes a sled database in `dir`.
pub(super) fn open(dir: &Path, codec: Codec) -> Result<Overlaid<SledBase>, StoreError> {
    let base = Poison::default().read(&dir.display().to_string(), || {
        let is_new = prepare(dir).map_err(|error| io_error("make", dir, &error))?;
        read_all(dir).map_err(|error| io_error("read", dir, &error))?;
        let doubt = open_doubt(dir)?;
        // No flusher thread: we say when to sync, and a panic in a thread of sled's could not be caught.
        let config = Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        let db = open_unlocked(&config).map_err(|error| sled_error(dir, error))?;
        let file = File::open(dir.join("db")).map_err(|error| io_error("open", &dir.join("db"), &error))?;
        // What sled wrote without syncing it, and the names of its files.
        for path in [dir.join("conf"), dir.join("db"), dir.to_owned()] {
            sync_path(&path).map_err(|error| io_error("sync", &path, &error))?;
        }
        if is_new {
            let made = fs::remove_file(dir.join(MAKING)).and_then(|()| sync_path(dir));
            made.map_err(|error| io_error("make", dir, &error))?;
        }
        Ok(SledBase { db, dir: dir.to_owned(), file, doubt, blobs_synced: Mutex::default() })
    })?;
    Ok(Overlaid::new(base, codec))
}

/// Whether a database is to be made in `dir`. Notes that it is being made, after clearing what a broken attempt left.
fn prepare(dir: &Path) -> io::Result<bool> {
    fs::create_dir_all(dir)?;
    if dir.join(MAKING).exists() {
        // The note goes last.
        for entry in fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()? {
            match entry.path() {
                path if path.is_dir() => fs::remove_dir_all(path)?,
                path if entry.file_name() != MAKING => fs::remove_file(path)?,
                _ => {}
            }
        }
        sync_path(dir)?;
        return Ok(true);
    }
    let is_new = fs::read_dir(dir)?.next().is_none();
    if is_new {
        File::create(dir.join(MAKING))?;
        sync_path(dir)?;
        sync_path(dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
    }
    Ok(is_new)
}

/// Reads every file once. sled's recovery takes what it cannot read for the end of its log and goes on without it, so a bad
/// sector is to be met here.
fn read_all(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            read_all(&path)?;
        } else {
            io::copy(&mut File::open(path)?, &mut io::sink())?;
        }
    }
    Ok(())
}

/// Refuses a database of which a batch was broken off: the node makes the state again from snapshots and log.
fn open_doubt(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join(DOUBT);
    let failed = |error| io_error("open", &path, &error);
    let mut options = File::options();
    let doubt = options.read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    let mut found = [0];
    if doubt.read_at(&mut found, 0).map_err(failed)? == 1 && found == BROKEN {
        let detail = "a batch was broken off by an error, and a part of it may be there".to_owned();
        return Err(StoreError::Corrupt { place: format!("sled in {}", dir.display()), detail });
    }
    doubt.write_all_at(WHOLE, 0).and_then(|()| doubt.sync_all()).map_err(failed)?;
    Ok(doubt)
}

/// Leaves word that a batch was broken off, by an error or a panic, unless it is forgotten.
struct Doubt<'a>(&'a File);

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.write_all_at(BROKEN, 0).and_then(|()| self.0.sync_data()) {
            tracing::error!(%error, "a batch was broken off, and that cannot be noted");
        }
    }
}

fn sync_path(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Opens, and waits while the lock is held: sled's threads keep it for a moment after the database was dropped.
#[allow(clippy::disallowed_methods, reason = "sled starts threads of its own and stays out of the simulator")]
fn open_unlocked(config: &Config) -> sled::Result<Db> {
    for _ in 0..LOCK_TRIES {
        match config.open() {
            Err(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock") => {
                thread::sleep(LOCK_WAIT);
            }
            outcome => return outcome,
        }
    }
    config.open()
}

impl SledBase {
    fn failed(&self, error: sled::Error) -> StoreError {
        sled_error(&self.dir, error)
    }

    fn sync_blobs(&self) -> Result<(), StoreError> {
        let dir = self.dir.join("blobs");
        let failed = |error| io_error("sync", &dir, &error);
        let mut synced = self.blobs_synced.lock().unwrap_or_else(PoisonError::into_inner);
        let mut present = BTreeSet::new();
        for entry in fs::read_dir(&dir).map_err(failed)? {
            present.insert(entry.map_err(failed)?.file_name());
        }
        if !present.is_subset(&synced) {
            for name in present.difference(&synced) {
                match File::open(dir.join(name)).and_then(|blob| blob.sync_all()) {
                    // sled removed it meanwhile: nothing points to it.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    outcome => outcome.map_err(failed)?,
                }
            }
            File::open(&dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
        }
        *synced = present;
        Ok(())
    }
}

impl Base for SledBase {
    fn place(&self) -> String {
        format!("sled in {}", self.dir.display())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.db.get(key).map_err(|error| self.failed(error))?.map(|value| value.to_vec()))
    }

    fn page(&self, from: &[u8], to: &[u8], backwards: bool, limit: usize) -> Result<Pairs, StoreError> {
        if from >= to {
            return Ok(Pairs::new());
        }
        let range = self.db.range(from..to);
        let copy = |pair: sled::Result<(sled::IVec, sled::IVec)>| {
            pair.map(|(key, value)| (key.to_vec(), value.to_vec())).map_err(|error| self.failed(error))
        };
        if backwards {
            let mut page = range.rev().take(limit).map(copy).collect::<Result<Pairs, _>>()?;
            page.reverse();
            Ok(page)
        } else {
            range.take(limit).map(copy).collect()
        }
    }

    fn admit(&self, writes: &Writes) -> Result<(), StoreError> {
        for (key, stored) in writes {
            let length = stored.as_ref().map_or(0, Vec::len);
            if length > VALUE_BYTES_MAX {
                let text = format!(
                    "sled holds values of up to {VALUE_BYTES_MAX} bytes; the one under key {} has {length}: use fjall",
                    hex(key)
                );
                return Err(StoreError::Io(text));
            }
        }
        Ok(())
    }

    fn write(&mut self, writes: &Writes) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for (key, stored) in writes {
            match stored {
                Some(stored) => batch.insert(key.as_slice(), stored.as_slice()),
                None => batch.remove(key.as_slice()),
            }
        }
        let doubt = Doubt(&self.doubt);
        self.db.apply_batch(batch).map_err(|error| self.failed(error))?;
        std::mem::forget(doubt);
        Ok(())
    }

    /// Blobs first, then what points to them, then the disk's cache.
    fn sync(&self) -> Result<(), StoreError> {
        self.sync_blobs()?;
        self.db.flush().map_err(|error| self.failed(error))?;
        self.file.sync_data().map_err(|error| io_error("sync", &self.dir.join("db"), &error))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dinhba_core::store::{Batch, StateEngine, StateView};

    use super::*;
    use crate::seal::Unsealed;

    fn put(key: &[u8], value: &[u8]) -> Batch {
        Batch { writes: vec![(key.to_vec(), Some(value.to_vec()))] }
    }

    #[test]
    fn a_value_too_large_is_refused_with_its_whole_batch_and_the_engine_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let state = open(dir.path(), Codec::new(Arc::new(Unsealed))).unwrap();
        let mut batch = put(b"small", b"value");
        batch.writes.extend(put(b"large", &[1; VALUE_BYTES_MAX]).writes);
        assert!(matches!(state.apply(batch), Err(StoreError::Io(text)) if text.contains("use fjall")));
        assert_eq!(state.get(b"small").unwrap(), None);
        state.apply(put(b"small", b"value")).unwrap();
    }

    #[test]
    fn pages_that_sled_moves_to_blob_files_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let state = open(dir.path(), Codec::new(Arc::new(Unsealed))).unwrap();
        for number in 0..40_u8 {
            state.apply(put(&[number], &[number; 100_000])).unwrap();
        }
        state.sync().unwrap();
        assert!(state.with_base(|base| !base.blobs_synced.lock().unwrap().is_empty()), "there were blobs to sync");
        drop(state);
        let state = open(dir.path(), Codec::new(Arc::new(Unsealed))).unwrap();
        assert_eq!(state.scan(&[0], &[255]).map(|item| item.unwrap().1.len()).sum::<usize>(), 4_000_000);
    }

    #[test]
    fn a_database_whose_making_was_broken_off_is_made_anew_and_another_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let codec = Codec::new(Arc::new(Unsealed));
        // As a power cut may leave it: sled says of such a `conf` that an older version wrote it.
        let conf = "segment_size: 524288\nuse_compression: false\nversion: 0.3";
        fs::create_dir_all(path.join("blobs")).unwrap();
        fs::write(path.join(MAKING), "").unwrap();
        fs::write(path.join("conf"), conf).unwrap();
        fs::write(path.join("db"), [0; 1000]).unwrap();
        let state = open(&path, codec.clone()).unwrap();
        assert!(!path.join(MAKING).exists());
        state.apply(put(b"a", b"1")).unwrap();
        state.sync().unwrap();
        drop(state);
        assert_eq!(open(&path, codec.clone()).unwrap().get(b"a").unwrap(), Some(b"1".to_vec()));
        fs::write(path.join("conf"), conf).unwrap();
        assert!(open(&path, codec).is_err(), "what was used is not thrown away");
        assert!(path.join("db").exists());
    }

    #[test]
    fn a_database_of_which_a_batch_was_broken_off_reads_as_damage() {
        let dir = tempfile::tempdir().unwrap();
        let codec = Codec::new(Arc::new(Unsealed));
        let state = open(dir.path(), codec.clone()).unwrap();
        state.apply(put(b"a", b"1")).unwrap();
        drop(state);
        let state = open(dir.path(), codec.clone()).unwrap();
        state.with_base(|base| drop(Doubt(&base.doubt)));
        drop(state);
        assert!(matches!(open(dir.path(), codec), Err(StoreError::Corrupt { .. })));
    }

    #[test]
    fn a_value_under_anothers_key_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let codec = Codec::new(Arc::new(Unsealed));
        let state = open(dir.path(), codec.clone()).unwrap();
        state.with_base(|base| base.write(&Writes::from([(vec![2], Some(codec.encode(&[1], b"value")))]))).unwrap();
        assert!(matches!(state.get(&[2]), Err(StoreError::Corrupt { place, .. }) if place == "key 02"));
    }
}
