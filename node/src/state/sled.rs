//! State in sled 0.34: experimental, chosen by name.
//!
//! sled does not say what a crash left: its `flush` ends in `sync_file_range`, which does not reach the disk's cache, it
//! never syncs its blob files, a batch that fails in its middle stays there in part, and its recovery takes what it cannot
//! read for the end of its log. After power cuts that left parts of unflushed writes it opened without an error, as a state
//! that was not what had been written. So nothing of it is trusted after a crash: a note of one byte beside its files
//! ([`NOTE`]) says [`WHOLE`] only between a [`close`](Base::close), which makes all files durable, and the next opening. An
//! opening that finds [`IN_USE`] reports damage, and the node makes the state again from snapshots and log, which hold
//! everything: the log is purged only up to a durable snapshot.
//!
//! So [`sync`](Base::sync) makes nothing durable that a crash would spare; it hands everything to the operating system,
//! and finds out what the disk refuses.
//!
//! Known limits. A start after a crash takes as long as the newest snapshot and the log above it are long. Values above
//! [`VALUE_BYTES_MAX`] are refused. A damaged file makes sled panic or forget the newest batches; panics in our calls are
//! caught, poison the engine and read as damage, those in sled's own threads are not. All files are read once before sled
//! opens them; a read that fails later and not again, during recovery, can make it forget. A file that rotted between a close and
//! an opening is not found by this.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use dinhba_core::store::StoreError;
use sled::{Config, Db};

use super::overlaid::{Base, Overlaid, Pairs};
use super::{Poison, Writes};
use crate::disk::{io_error, is_structural};
use crate::seal::{Codec, hex};

/// A stored value has at most this many bytes: twice the largest record that a site can make (`dinhba_core::share`).
pub(super) const VALUE_BYTES_MAX: usize = 4 << 20;
/// Longer values are kept in pieces of so many bytes. sled moves a page of some 100 KiB to a file of its own, makes a new file
/// whenever it changes, and lets go of the old ones late: a value of 4 MiB that changed 200 times left a GiB of them, in
/// pieces it takes a few times its own length.
const PIECE_BYTES: usize = 32 * 1024;
/// What a key in sled begins with: here lie the values, each under its own key; that of one in pieces is empty, which none is
/// otherwise, since each has a checksum.
const VALUES: u8 = 0;
/// Here lie pieces, each under the length of the key, the key and its number.
const PIECES: u8 = 1;
/// sled's page cache: 16 nodes share a laptop, and 16 times this is a quarter of a GiB.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// One byte, durable before what it says begins to hold. It is overwritten in place, since the disk may be full, and locked
/// while the database is open.
const NOTE: &str = "note";
/// Nothing was written yet: what lies beside it may be there in part, and is made anew.
const NEW: u8 = b'n';
/// The database is open and was written, or was when the process ended.
const IN_USE: u8 = b'u';
/// The database was closed, and all of it is durable.
const WHOLE: u8 = b'w';
/// How often, and how long each time, a lock is waited for that an earlier opening in this process, or sled's threads,
/// keep for a moment: two seconds in all.
const LOCK_TRIES: u32 = 100;
const LOCK_WAIT: Duration = Duration::from_millis(20);

/// An open sled database.
pub(super) struct SledBase {
    /// Until it is closed.
    db: Option<Db>,
    dir: PathBuf,
    /// The keys of the values that are in pieces.
    pieced: BTreeSet<Vec<u8>>,
    note: File,
    /// Whether the note says that it is in use.
    is_noted: bool,
}

fn place(dir: &Path) -> String {
    format!("sled in {}", dir.display())
}

fn sled_error(dir: &Path, error: sled::Error) -> StoreError {
    match error {
        sled::Error::Io(error) => io_error("sled in", dir, &error),
        sled::Error::Corruption { at, .. } => StoreError::Corrupt { place: place(dir), detail: format!("at {at:?}") },
        other => StoreError::Io(format!("{}: {other}", place(dir))),
    }
}

/// Opens or makes a sled database in `dir`. Damage if it was not closed since it was last written.
pub(super) fn open(dir: &Path, codec: Codec) -> Result<Overlaid<SledBase>, StoreError> {
    let base = Poison::default().read(&dir.display().to_string(), || {
        let failed = |error| io_error("open", dir, &error);
        let note = open_note(dir).map_err(failed)?;
        let is_noted = match read_note(dir, &note).map_err(failed)? {
            WHOLE => {
                // sled's recovery takes what it cannot read for the end of its log, so a bad sector is to be met here.
                for_all(dir, &|file| io::copy(file, &mut io::sink()).map(drop)).map_err(failed)?;
                // Recovery writes too.
                write_note(&note, IN_USE).map_err(failed)?;
                true
            }
            NEW => {
                make(dir, &note).map_err(failed)?;
                false
            }
            _ => {
                let detail = "it was not closed in order, and sled does not find out what that left".to_owned();
                return Err(StoreError::Corrupt { place: place(dir), detail });
            }
        };
        // No flusher thread: a panic in a thread of sled's could not be caught.
        let config = Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        let db = config.open().map_err(|error| match error {
            sled::Error::Io(error) if !is_structural(&error) => io_error("sled in", dir, &error),
            other => StoreError::Corrupt { place: place(dir), detail: other.to_string() },
        })?;
        let pieced = pieced(&db).map_err(|error| sled_error(dir, error))?;
        Ok(SledBase { db: Some(db), dir: dir.to_owned(), pieced, note, is_noted })
    })?;
    Ok(Overlaid::new(base, codec))
}

fn value_key(key: &[u8]) -> Vec<u8> {
    [&[VALUES], key].concat()
}

/// What the keys of the pieces of a value begin with. No key is longer than two bytes can say.
fn pieces_key(key: &[u8]) -> Vec<u8> {
    [&[PIECES], &(key.len() as u16).to_be_bytes()[..], key].concat()
}

/// The keys of the values that are in pieces.
fn pieced(db: &Db) -> sled::Result<BTreeSet<Vec<u8>>> {
    let key = |piece: sled::IVec| {
        let (length, rest) = piece[1..].split_first_chunk::<2>()?;
        Some(rest.get(..usize::from(u16::from_be_bytes(*length)))?.to_vec())
    };
    let pieces = db.scan_prefix([PIECES]).keys();
    pieces.filter_map(|piece| piece.map(key).transpose()).collect()
}

/// The note, locked; it says nothing where it was not there.
fn open_note(dir: &Path) -> io::Result<File> {
    fs::create_dir_all(dir)?;
    let note = File::options().read(true).write(true).create(true).truncate(false).open(dir.join(NOTE))?;
    lock(&note)?;
    Ok(note)
}

/// What the note says: [`NEW`] also if it says nothing and nothing lies beside it, [`IN_USE`] if something does.
fn read_note(dir: &Path, note: &File) -> io::Result<u8> {
    let mut found = [0];
    if note.read_at(&mut found, 0)? == 1 {
        return Ok(found[0]);
    }
    Ok(if fs::read_dir(dir)?.count() == 1 { NEW } else { IN_USE })
}

fn write_note(note: &File, says: u8) -> io::Result<()> {
    note.write_all_at(&[says], 0)?;
    note.sync_data()
}

/// Makes a directory in which nothing but a durable note is.
fn make(dir: &Path, note: &File) -> io::Result<()> {
    write_note(note, NEW)?;
    for entry in fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()? {
        match entry.path() {
            path if path.is_dir() => fs::remove_dir_all(path)?,
            path if entry.file_name() != NOTE => fs::remove_file(path)?,
            _ => {}
        }
    }
    sync_path(dir)?;
    sync_path(dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))
}

/// Does something with every file below `dir`.
fn for_all(dir: &Path, work: &dyn Fn(&mut File) -> io::Result<()>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            for_all(&path, work)?;
        } else {
            work(&mut File::open(path)?)?;
        }
    }
    Ok(())
}

/// Makes all files below `dir` durable, and their names.
fn sync_all(dir: &Path) -> io::Result<()> {
    for_all(dir, &|file| file.sync_all())?;
    sync_path(&dir.join("blobs"))?;
    sync_path(dir)
}

fn sync_path(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[allow(clippy::disallowed_methods, reason = "sled starts threads of its own and stays out of the simulator")]
fn lock(file: &File) -> io::Result<()> {
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_WAIT),
            outcome => return Ok(outcome?),
        }
    }
    Ok(file.try_lock()?)
}

impl SledBase {
    fn db(&self) -> Result<&Db, StoreError> {
        self.db.as_ref().ok_or_else(|| StoreError::Poisoned("it was closed".to_owned()))
    }

    fn failed(&self, error: sled::Error) -> StoreError {
        sled_error(&self.dir, error)
    }

    /// A value, of what lies under its key.
    fn whole(&self, key: &[u8], found: &sled::IVec) -> Result<Vec<u8>, StoreError> {
        if !found.is_empty() {
            return Ok(found.to_vec());
        }
        let pieces = self.db()?.scan_prefix(pieces_key(key)).values();
        let pieces: sled::Result<Vec<sled::IVec>> = pieces.collect();
        Ok(pieces.map_err(|error| self.failed(error))?.concat())
    }

    /// Puts a value into a batch in place of the one that is there; nothing if there is to be none.
    fn put(&self, batch: &mut sled::Batch, key: &[u8], stored: Option<&[u8]>) -> Result<(), StoreError> {
        if self.pieced.contains(key) {
            for piece in self.db()?.scan_prefix(pieces_key(key)).keys() {
                batch.remove(piece.map_err(|error| self.failed(error))?);
            }
        }
        match stored {
            None => batch.remove(value_key(key)),
            Some(stored) if stored.len() <= PIECE_BYTES => batch.insert(value_key(key), stored),
            Some(stored) => {
                batch.insert(value_key(key), &[]);
                for (number, piece) in (0_u16..).zip(stored.chunks(PIECE_BYTES)) {
                    batch.insert([&pieces_key(key)[..], &number.to_be_bytes()].concat(), piece);
                }
            }
        }
        Ok(())
    }
}

impl Base for SledBase {
    fn place(&self) -> String {
        place(&self.dir)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.db()?.get(value_key(key)).map_err(|error| self.failed(error))?;
        found.map(|found| self.whole(key, &found)).transpose()
    }

    fn page(&self, from: &[u8], to: &[u8], backwards: bool, limit: usize) -> Result<Pairs, StoreError> {
        if from >= to {
            return Ok(Pairs::new());
        }
        let range = self.db()?.range(value_key(from)..value_key(to));
        let copy = |pair: sled::Result<(sled::IVec, sled::IVec)>| {
            let (key, found) = pair.map_err(|error| self.failed(error))?;
            let key = key[1..].to_vec();
            let value = self.whole(&key, &found)?;
            Ok((key, value))
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
            self.put(&mut batch, key, stored.as_deref())?;
        }
        if !self.is_noted {
            write_note(&self.note, IN_USE).map_err(|error| io_error("write", &self.dir.join(NOTE), &error))?;
            self.is_noted = true;
        }
        self.db()?.apply_batch(batch).map_err(|error| self.failed(error))?;
        for (key, stored) in writes {
            if stored.as_ref().is_some_and(|stored| stored.len() > PIECE_BYTES) {
                self.pieced.insert(key.clone());
            } else {
                self.pieced.remove(key);
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.db()?.flush().map(drop).map_err(|error| self.failed(error))
    }

    /// The note goes last: once sled has let go, and all that it wrote is durable.
    fn close(&mut self) -> Result<(), StoreError> {
        self.sync()?;
        drop(self.db.take());
        if !self.is_noted {
            return Ok(());
        }
        let closed = || {
            // sled's threads keep its lock for a moment, and may write until they let it go.
            lock(&File::open(self.dir.join("db"))?)?;
            sync_all(&self.dir)?;
            write_note(&self.note, WHOLE)
        };
        closed().map_err(|error| io_error("close", &self.dir, &error))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dinhba_core::store::{Batch, StateEngine, StateView};

    use super::super::tests::{damaged_in_turn, is_open_or_damage};
    use super::*;
    use crate::seal::Unsealed;

    fn put(key: &[u8], value: &[u8]) -> Batch {
        Batch { writes: vec![(key.to_vec(), Some(value.to_vec()))] }
    }

    #[test]
    fn a_value_too_large_is_refused_with_its_whole_batch_and_the_engine_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let state = open(dir.path(), uncompressed()).unwrap();
        let mut batch = put(b"small", b"value");
        batch.writes.extend(put(b"large", &[1; VALUE_BYTES_MAX]).writes);
        assert!(matches!(state.apply(batch), Err(StoreError::Io(text)) if text.contains("use fjall")));
        assert_eq!(state.get(b"small").unwrap(), None);
        state.apply(put(b"small", b"value")).unwrap();
    }

    #[test]
    fn whatever_happens_to_its_files_it_opens_or_says_that_they_are_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let state = open(dir.path(), codec()).unwrap();
        for number in 0..400_u32 {
            state.apply(put(&number.to_be_bytes(), &[7; 64])).unwrap();
        }
        state.close().unwrap();
        drop(state);
        let told = damaged_in_turn(dir.path(), &|dir| open(dir, codec()).map(drop));
        assert!(told.len() > 8, "{told:?}");
        assert_eq!(told.iter().find(|(_, outcome)| !is_open_or_damage(outcome)), None);
    }

    fn codec() -> Codec {
        Codec::new(Arc::new(Unsealed))
    }

    /// For tests of how long a value is where it is stored.
    fn uncompressed() -> Codec {
        Codec::uncompressed(Arc::new(Unsealed))
    }

    /// What a process that is killed now leaves.
    fn killed(dir: &Path) -> tempfile::TempDir {
        fn copy(from: &Path, to: &Path) {
            fs::create_dir_all(to).unwrap();
            for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
                let to = to.join(entry.file_name());
                if entry.path().is_dir() {
                    copy(&entry.path(), &to);
                } else {
                    fs::copy(entry.path(), to).unwrap();
                }
            }
        }
        let left = tempfile::tempdir().unwrap();
        copy(dir, left.path());
        left
    }

    fn is_damage(dir: &Path) -> bool {
        matches!(open(dir, codec()), Err(StoreError::Corrupt { .. }))
    }

    /// Bytes below a directory.
    fn bytes_in(dir: &Path) -> u64 {
        let bytes = std::cell::Cell::new(0);
        for_all(dir, &|file| file.metadata().map(|data| bytes.set(bytes.get() + data.len()))).unwrap();
        bytes.get()
    }

    #[test]
    fn a_large_value_in_pieces_comes_back_changes_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let state = open(dir.path(), uncompressed()).unwrap();
        let large = |round: u8| vec![round; 20 * PIECE_BYTES + usize::from(round)];
        for round in 1..60_u8 {
            state.apply(put(b"large", &large(round))).unwrap();
            state.apply(put(&[b'l', round], &[round; 300])).unwrap();
            assert_eq!(state.get(b"large").unwrap(), Some(large(round)));
            // As a node does before each snapshot.
            if round % 10 == 0 {
                state.sync().unwrap();
            }
        }
        state.close().unwrap();
        drop(state);
        let bytes = bytes_in(dir.path());
        assert!(bytes < 30 * large(0).len() as u64, "{bytes}: each change left all of it");

        let state = open(dir.path(), uncompressed()).unwrap();
        let found: Vec<_> = state.scan(b"l", b"m").map(Result::unwrap).collect();
        assert_eq!((found.len(), &found[59]), (60, &(b"large".to_vec(), large(59))));
        // Others begin with its key, or are what it begins with; and it becomes short.
        state.apply(put(b"large and more", &large(7))).unwrap();
        state.apply(put(b"larg", &large(8))).unwrap();
        state.apply(put(b"large", b"short")).unwrap();
        let left = || state.with_base(|base| base.db().unwrap().scan_prefix(pieces_key(b"large")).count());
        assert_eq!(left(), 0);
        let found = [b"large and more".as_slice(), b"larg", b"large"].map(|key| state.get(key).unwrap().unwrap());
        assert_eq!(found, [large(7), large(8), b"short".to_vec()]);
        state.apply(put(b"large", &large(9))).unwrap();
        state.clear(b"large", b"large ").unwrap();
        assert_eq!((left(), state.get(b"large").unwrap()), (0, None));
        assert_eq!(state.get(b"large and more").unwrap(), Some(large(7)));
    }

    #[test]
    fn a_lost_piece_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let state = open(dir.path(), uncompressed()).unwrap();
        state.apply(put(b"large", &[7; 3 * PIECE_BYTES])).unwrap();
        let lost = [&pieces_key(b"large")[..], &[0, 1]].concat();
        assert!(state.with_base(|base| base.db().unwrap().remove(lost)).unwrap().is_some());
        assert!(matches!(state.get(b"large"), Err(StoreError::Corrupt { .. })));
    }

    #[test]
    fn pages_that_sled_moves_to_blob_files_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let state = open(dir.path(), uncompressed()).unwrap();
        for number in 0..40_u8 {
            state.apply(put(&[number], &[number; 100_000])).unwrap();
        }
        drop(state);
        assert!(fs::read_dir(dir.path().join("blobs")).unwrap().count() > 0);
        let state = open(dir.path(), codec()).unwrap();
        assert_eq!(state.scan(&[0], &[255]).map(|item| item.unwrap().1.len()).sum::<usize>(), 4_000_000);
    }

    #[test]
    fn what_was_not_closed_reads_as_damage_also_if_it_was_synced_or_only_opened() {
        let dir = tempfile::tempdir().unwrap();
        let state = open(dir.path(), codec()).unwrap();
        state.apply(put(b"a", b"1")).unwrap();
        state.sync().unwrap();
        assert!(is_damage(killed(dir.path()).path()));
        drop(state);
        let closed = killed(dir.path());
        assert_eq!(open(closed.path(), codec()).unwrap().get(b"a").unwrap(), Some(b"1".to_vec()));
        let state = open(dir.path(), codec()).unwrap();
        let left = killed(dir.path());
        assert!(is_damage(left.path()) && is_damage(left.path()), "it says so again");
        drop(state);
        fs::remove_file(dir.path().join(NOTE)).unwrap();
        assert!(is_damage(dir.path()), "nothing says that it was closed");
    }

    #[test]
    fn what_is_closed_while_others_have_it_is_whole_and_refuses_them() {
        let dir = tempfile::tempdir().unwrap();
        let state = open(dir.path(), codec()).unwrap();
        state.apply(put(b"a", b"1")).unwrap();
        let view = state.snapshot().unwrap();
        state.close().unwrap();
        assert!(matches!(view.get(b"a"), Err(StoreError::Poisoned(_))));
        assert!(matches!(state.apply(put(b"a", b"2")), Err(StoreError::Poisoned(_))));
        let again = open(killed(dir.path()).path(), codec()).unwrap();
        assert_eq!(again.get(b"a").unwrap(), Some(b"1".to_vec()));
    }

    #[test]
    fn what_failed_is_not_closed() {
        let dir = tempfile::tempdir().unwrap();
        let state = open(dir.path(), codec()).unwrap();
        state.apply(put(b"a", b"1")).unwrap();
        state.stop("a batch was broken off");
        drop(state);
        assert!(is_damage(dir.path()));
    }

    #[test]
    fn what_was_never_written_is_made_anew_and_what_was_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        // As a power cut may leave it: sled says of such a `conf` that an older version wrote it.
        let conf = "segment_size: 524288\nuse_compression: false\nversion: 0.3";
        drop(open(&path, codec()).unwrap());
        fs::write(path.join("conf"), conf).unwrap();
        fs::write(path.join("db"), [0; 1000]).unwrap();
        let state = open(&path, codec()).unwrap();
        drop(open(killed(&path).path(), codec()).unwrap());
        state.apply(put(b"a", b"1")).unwrap();
        drop(state);
        assert_eq!(open(&path, codec()).unwrap().get(b"a").unwrap(), Some(b"1".to_vec()));
        fs::write(path.join("conf"), conf).unwrap();
        assert!(open(&path, codec()).is_err(), "what was used is not thrown away");
        assert!(path.join("db").exists());
        // As a power cut leaves a directory in which nothing was durable but a name.
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(NOTE), "").unwrap();
        drop(open(dir.path(), codec()).unwrap());
    }

    #[test]
    fn a_value_under_anothers_key_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let state = open(dir.path(), codec()).unwrap();
        state.with_base(|base| base.write(&Writes::from([(vec![2], Some(codec().encode(&[1], b"value")))]))).unwrap();
        assert!(matches!(state.get(&[2]), Err(StoreError::Corrupt { place, .. }) if place == "key 02"));
    }
}
