//! An archive on a disk: a directory with one file per backup, `backup-000001` and on, each chained to the one before it.
//!
//! ```text
//! "dinhbaB2"
//! frame*       length (4 bytes, big endian, of the payload), CRC-32C of length and payload (4), payload
//! BLAKE3       of everything above (32)
//! ```
//!
//! A payload is a [`Frame`]; what it holds of people is sealed. Promises: a file gets its name once it is whole and on the
//! disk; a broken transfer goes on where it stopped; [`Archive::verify`] reads every byte, and names file and place of the
//! first that is not as it was written. It needs no key. Leaves to others: opening what is sealed, and whether it folds to
//! what it says (the node that is restored from it).
//!
//! Limit: whoever can write the files can replace the whole chain; keep copies where the site's operators cannot write.

use std::cmp::Ordering;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use dinhba_core::archive::{Begin, FRAME_BYTES_MAX, Frame, Piece, Reached, Summary, advance};
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{Hash, SiteId};

const MAGIC: &[u8; 8] = b"dinhbaB2";
const HASH_BYTES: u64 = 32;
const FRAME_HEAD_BYTES: usize = 8;

/// The start of a backup's file name; its number follows in six digits or more, so that names sort by it.
const PREFIX: &str = "backup-";

/// The end of the name of a backup that is still on its way.
const PART: &str = ".part";

/// Read ahead at a time.
const READ_BYTES: usize = 1 << 20;

/// Why an archive cannot be used. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The disk's.
    #[error("{}: {error}{}", .path.display(), advice(.error))]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// It is not as it was written.
    #[error("{} is damaged at byte {offset}: {why}; fetch another copy of this file, or restore from another archive", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the part begins that cannot be trusted.
        offset: u64,
        /// What was found.
        why: String,
    },
    /// A newer program wrote it.
    #[error("{} was written by a newer version of dinhba: use that", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
    },
    /// An older program wrote it, in a form that this one does not read.
    #[error("{} was written by an older version of dinhba: read it with that, and begin a new archive with this one", .path.display())]
    Older {
        /// The file.
        path: PathBuf,
    },
    /// A backup between two others is not there.
    #[error("{} is missing from the archive: bring it back, those after it are of no use without it", .path.display())]
    Missing {
        /// Its path.
        path: PathBuf,
    },
    /// There is no backup.
    #[error("{} holds no backup: name the directory that `dinhba backup` wrote", .path.display())]
    Empty {
        /// The directory.
        path: PathBuf,
    },
    /// A file is not the one that follows on those before it.
    #[error("{}: {why}", .path.display())]
    Strange {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// Another process writes to it.
    #[error("another backup is being written to {}: wait for it, or stop it", .path.display())]
    Busy {
        /// The directory.
        path: PathBuf,
    },
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull => ": free some space, then do the same again; it goes on where it stopped",
        _ => "",
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> ArchiveError + '_ {
    move |error| ArchiveError::Io { path: path.to_owned(), error }
}

/// A backup that was read to its end and is whole.
#[derive(Debug, Clone)]
pub struct Backup {
    /// Its file.
    pub path: PathBuf,
    /// The first frame.
    pub begin: Begin,
    /// The last frame.
    pub summary: Summary,
    /// The hash at its end.
    pub hash: Hash,
    /// Its length.
    pub bytes: u64,
}

/// An archive.
#[derive(Debug)]
pub struct Archive {
    dir: PathBuf,
    /// The number of the last backup.
    last: u64,
}

impl Archive {
    /// The archive in `dir`, which may be absent.
    ///
    /// # Errors
    /// If the directory cannot be listed, or a backup is missing between others.
    pub fn open(dir: &Path) -> Result<Self, ArchiveError> {
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Archive { dir: dir.to_owned(), last: 0 }),
            Err(error) => return Err(failed(dir)(error)),
        };
        let mut numbers = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed(dir))?.file_name();
            let digits = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
            numbers.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        let archive = Archive { dir: dir.to_owned(), last: numbers.last().copied().unwrap_or(0) };
        match (1..=archive.last).zip(numbers).find(|(wanted, found)| wanted != found) {
            Some((missing, _)) => Err(ArchiveError::Missing { path: archive.path(missing) }),
            None => Ok(archive),
        }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{PREFIX}{number:06}"))
    }

    /// Reads every byte of every backup; all of them, in order, if they are as they were written.
    ///
    /// # Errors
    /// The first thing that is not.
    pub fn verify(&self) -> Result<Vec<Backup>, ArchiveError> {
        let mut backups: Vec<Backup> = Vec::new();
        for number in 1..=self.last {
            let backup = self.read(number, backups.last(), |_| Ok::<_, ArchiveError>(()))?;
            backups.push(backup);
        }
        if backups.is_empty() {
            return Err(ArchiveError::Empty { path: self.dir.clone() });
        }
        Ok(backups)
    }

    /// Reads a backup and hands its pieces over, in order. With the backup before it, checks that it follows on that one.
    ///
    /// # Errors
    /// If it is not as it was written, or an error of `each`. Only at the end is it known to be whole.
    pub fn read<E: From<ArchiveError>>(
        &self,
        number: u64,
        before: Option<&Backup>,
        mut each: impl FnMut(Piece) -> Result<(), E>,
    ) -> Result<Backup, E> {
        let path = self.path(number);
        let strange = |why: &str| ArchiveError::Strange { path: path.clone(), why: why.to_owned() };
        let mut frames = Frames::open(&path)?;
        let Some(Frame::Begin(begin)) = frames.next()? else {
            return Err(frames.damaged("it does not begin as a backup").into());
        };
        if begin.number != number {
            return Err(strange(&format!(
                "it is backup number {}, under another's name: give it its own back",
                begin.number
            ))
            .into());
        }
        if before.is_some_and(|before| before.begin.site != begin.site) {
            return Err(
                strange(&format!("it is of site {}, and those before it are not: take it out", begin.site)).into()
            );
        }
        if before.is_some_and(|before| before.hash != begin.previous) {
            return Err(strange(
                "it follows on another backup than the one before it here: an archive is one directory, unmixed",
            )
            .into());
        }
        let follows = before.is_some() || number == 1;
        let mut reached = before.map(|before| before.summary.reached()).unwrap_or_default();
        let mut summary = None;
        while let Some(frame) = frames.next()? {
            match frame {
                Frame::Piece(piece) if summary.is_none() => {
                    if follows {
                        advance(&mut reached, &piece).map_err(|why| frames.damaged(&why))?;
                    }
                    each(piece)?;
                }
                Frame::Summary(last) if summary.is_none() => summary = Some(last),
                _ => return Err(frames.damaged("a part of a backup where none belongs").into()),
            }
        }
        let summary = summary.ok_or_else(|| frames.damaged("it has no summary at its end"))?;
        if summary.site != begin.site || (follows && !is_reached(&summary, &reached)) {
            return Err(frames.damaged("it does not hold what its summary says").into());
        }
        let (hash, bytes) = frames.finish()?;
        Ok(Backup { path, begin, summary, hash, bytes })
    }
}

fn is_reached(summary: &Summary, reached: &Reached) -> bool {
    let held = |all: &Reached| -> Reached {
        all.iter().filter(|(_, (position, _))| *position > 0).map(|(log, at)| (*log, *at)).collect()
    };
    held(&summary.reached()) == held(reached)
}

/// A walk over the frames of a file.
struct Frames {
    path: PathBuf,
    file: BufReader<File>,
    /// Where the next frame begins.
    offset: u64,
    /// Where the last frame began: what is said to be damaged.
    frame: u64,
    /// Where the frames end and the hash begins.
    end: u64,
    hasher: blake3::Hasher,
}

impl Frames {
    fn open(path: &Path) -> Result<Self, ArchiveError> {
        let file = File::open(path).map_err(failed(path))?;
        let bytes = file.metadata().map_err(failed(path))?.len();
        let mut frames = Frames {
            path: path.to_owned(),
            file: BufReader::with_capacity(READ_BYTES, file),
            offset: 0,
            frame: 0,
            end: bytes.saturating_sub(HASH_BYTES),
            hasher: blake3::Hasher::new(),
        };
        let mut magic = [0; MAGIC.len()];
        if frames.end < magic.len() as u64 {
            return Err(frames.damaged("it is too short to be a backup"));
        }
        frames.take(&mut magic)?;
        let ([name @ .., version], [ours @ .., known]) = (&magic, MAGIC);
        let path = path.to_owned();
        match version.cmp(known) {
            _ if name != ours || !version.is_ascii_digit() => Err(frames.damaged("it is not a backup")),
            Ordering::Equal => Ok(frames),
            Ordering::Greater => Err(ArchiveError::Newer { path }),
            Ordering::Less => Err(ArchiveError::Older { path }),
        }
    }

    fn damaged(&self, why: &str) -> ArchiveError {
        ArchiveError::Damaged { path: self.path.clone(), offset: self.frame, why: why.to_owned() }
    }

    fn take(&mut self, buffer: &mut [u8]) -> Result<(), ArchiveError> {
        if self.end - self.offset < buffer.len() as u64 {
            return Err(self.damaged("it ends in the middle"));
        }
        self.file.read_exact(buffer).map_err(failed(&self.path))?;
        self.hasher.update(buffer);
        self.offset += buffer.len() as u64;
        Ok(())
    }

    /// The next frame; none at the end of them.
    fn next(&mut self) -> Result<Option<Frame>, ArchiveError> {
        self.frame = self.offset;
        if self.offset == self.end {
            return Ok(None);
        }
        let mut head = [0; FRAME_HEAD_BYTES];
        self.take(&mut head)?;
        let [length, check] = halves(head);
        if length as usize > FRAME_BYTES_MAX {
            return Err(self.damaged("a part of an impossible length"));
        }
        let mut payload = vec![0; length as usize];
        self.take(&mut payload)?;
        if checksum(&payload) != check {
            return Err(
                self.damaged(&format!("the checksum of these {} bytes is wrong", FRAME_HEAD_BYTES + payload.len()))
            );
        }
        Frame::from_bytes(&payload).map(Some).map_err(|error| self.damaged(&error.to_string()))
    }

    /// Checks the hash at the end; returns it with the file's length.
    fn finish(mut self) -> Result<(Hash, u64), ArchiveError> {
        let mut hash = Hash::default();
        self.file.read_exact(&mut hash.0).map_err(failed(&self.path))?;
        self.frame = self.end;
        if *self.hasher.finalize().as_bytes() != hash.0 {
            return Err(self.damaged("the hash at its end is not that of what stands before it"));
        }
        Ok((hash, self.end + HASH_BYTES))
    }
}

fn halves(head: [u8; FRAME_HEAD_BYTES]) -> [u32; 2] {
    let number = u64::from_be_bytes(head);
    [(number >> 32) as u32, (number & u64::from(u32::MAX)) as u32]
}

/// Over the length too: a flipped bit there must not be taken for a longer frame's.
fn checksum(payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&(payload.len() as u32).to_be_bytes()), payload)
}

/// A backup that is being written.
#[derive(Debug)]
pub struct Writer {
    archive: Archive,
    part: PathBuf,
    file: File,
    hasher: blake3::Hasher,
    bytes: u64,
    number: u64,
    reached: Reached,
    resumed: bool,
    // Held, not read: the lock lives as long as the open file.
    _lock: File,
}

impl Writer {
    /// Begins the next backup of the archive in `dir`, which is made if it is absent, or goes on with a broken one.
    ///
    /// # Errors
    /// If the last backup is not whole or of another site, another process writes here, or the disk refuses.
    pub fn begin(dir: &Path, site: SiteId) -> Result<Self, ArchiveError> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed(dir))?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let path = dir.join("lock");
        let lock = options.open(&path).map_err(failed(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ArchiveError::Busy { path: dir.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(failed(&path)(error)),
        }
        let archive = Archive::open(dir)?;
        let last = match archive.last {
            0 => None,
            last => Some(archive.read(last, None, |_| Ok::<_, ArchiveError>(()))?),
        };
        if let Some(last) = last.as_ref().filter(|last| last.begin.site != site) {
            let why =
                format!("it is of site {}, and these nodes are of {site}: name another directory", last.begin.site);
            return Err(ArchiveError::Strange { path: last.path.clone(), why });
        }
        let number = archive.last + 1;
        let begin = Begin { site, number, previous: last.as_ref().map(|last| last.hash).unwrap_or_default() };
        let part = PathBuf::from(format!("{}{PART}", archive.path(number).display()));
        let file = options.open(&part).map_err(failed(&part))?;
        let mut writer = Writer {
            archive,
            part,
            file,
            hasher: blake3::Hasher::new(),
            bytes: 0,
            number,
            reached: last.map(|last| last.summary.reached()).unwrap_or_default(),
            resumed: false,
            _lock: lock,
        };
        let whole = writer.whole_frames(&begin)?;
        writer.file.set_len(whole).map_err(failed(&writer.part))?;
        writer.file.seek(SeekFrom::Start(whole)).map_err(failed(&writer.part))?;
        writer.bytes = whole;
        if whole == 0 {
            writer.write(MAGIC)?;
            writer.append(&Frame::Begin(begin).to_bytes())?;
        }
        Ok(writer)
    }

    /// How far a part that an earlier call left can be used: up to its last whole frame, if it is of the same backup.
    fn whole_frames(&mut self, begin: &Begin) -> Result<u64, ArchiveError> {
        let bytes = self.file.metadata().map_err(failed(&self.part))?.len();
        if bytes == 0 {
            return Ok(0);
        }
        // It has no hash at its end yet: frames may go to the end of the file.
        let opened = Frames::open(&self.part).map(|frames| Frames { end: bytes, ..frames });
        let Ok(mut frames) = opened else { return Ok(0) };
        if !matches!(frames.next(), Ok(Some(Frame::Begin(found))) if found == *begin) {
            return Ok(0);
        }
        let (mut whole, mut hasher) = (frames.offset, frames.hasher.clone());
        while let Ok(Some(Frame::Piece(piece))) = frames.next() {
            if advance(&mut self.reached, &piece).is_err() {
                break;
            }
            (whole, hasher) = (frames.offset, frames.hasher.clone());
            self.resumed = true;
        }
        self.hasher = hasher;
        Ok(whole)
    }

    /// Up to where the archive holds each log, with what came of this backup.
    #[must_use]
    pub fn reached(&self) -> &Reached {
        &self.reached
    }

    /// Whether it goes on with what an earlier call left.
    #[must_use]
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.file.write_all(bytes).map_err(failed(&self.part))?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn append(&mut self, payload: &[u8]) -> Result<(), ArchiveError> {
        self.write(&(payload.len() as u32).to_be_bytes())?;
        self.write(&checksum(payload).to_be_bytes())?;
        self.write(payload)
    }

    /// Adds a piece.
    ///
    /// # Errors
    /// If it does not follow on what is here, or the disk refuses; then what is whole of it stays for the next call.
    pub fn add(&mut self, piece: Piece) -> Result<(), ArchiveError> {
        let mut reached = self.reached.clone();
        advance(&mut reached, &piece)
            .map_err(|why| ArchiveError::Strange { path: self.part.clone(), why: format!("the node sent {why}") })?;
        self.append(&Frame::Piece(piece).to_bytes())?;
        self.reached = reached;
        Ok(())
    }

    /// Ends the backup: on the disk and under its name when it returns.
    ///
    /// # Errors
    /// If the summary is not of what is here, or the disk refuses.
    pub fn finish(mut self, summary: Summary) -> Result<Backup, ArchiveError> {
        if !is_reached(&summary, &self.reached) {
            let why = "the node's summary is not of what it sent: take the backup again".to_owned();
            return Err(ArchiveError::Strange { path: self.part, why });
        }
        self.append(&Frame::Summary(summary).to_bytes())?;
        let hash = Hash(*self.hasher.finalize().as_bytes());
        self.write(&hash.0)?;
        self.file.sync_all().map_err(failed(&self.part))?;
        let path = self.archive.path(self.number);
        fs::rename(&self.part, &path).map_err(failed(&path))?;
        File::open(&self.archive.dir).and_then(|dir| dir.sync_all()).map_err(failed(&self.archive.dir))?;
        self.archive.last = self.number;
        self.archive.read(self.number, None, |_| Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use dinhba_core::archive::GroupSummary;
    use dinhba_core::ids::{GroupId, NodeId};

    use super::*;

    const SITE: SiteId = SiteId(5);
    const GROUP: GroupId = GroupId(7);

    fn hash(position: u64) -> Hash {
        Hash(*blake3::hash(&position.to_be_bytes()).as_bytes())
    }

    fn piece(after: u64, to: u64) -> Piece {
        Piece { group: GROUP, shard: None, after, to, hash: hash(to), sealed: vec![after as u8; 3000] }
    }

    fn summary(accesses: u64) -> Summary {
        let group = GroupSummary {
            group: GROUP,
            level: 1,
            applied: 9,
            members: Vec::new(),
            digest_key: 1,
            accesses,
            access_hash: hash(accesses),
            shards: Vec::new(),
        };
        Summary { site: SITE, node: NodeId(1), taken_ms: 1, groups: vec![group], sealed: vec![1] }
    }

    fn add(dir: &Path, ends: &[u64]) -> Backup {
        let mut writer = Writer::begin(dir, SITE).unwrap();
        let mut after = writer.reached().values().next().map_or(0, |at| at.0);
        for to in ends {
            writer.add(piece(after, *to)).unwrap();
            after = *to;
        }
        writer.finish(summary(after)).unwrap()
    }

    fn archive() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        add(dir.path(), &[3, 8]);
        add(dir.path(), &[9]);
        add(dir.path(), &[20, 21, 30]);
        dir
    }

    fn verify(dir: &Path) -> Result<Vec<Backup>, ArchiveError> {
        Archive::open(dir)?.verify()
    }

    #[test]
    fn backups_follow_on_one_another_and_are_read_back_in_order() {
        let dir = archive();
        let backups = verify(dir.path()).unwrap();
        assert_eq!(backups.iter().map(|backup| backup.begin.number).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(backups[1].hash, backups[2].begin.previous);
        let mut ends = Vec::new();
        let archive = Archive::open(dir.path()).unwrap();
        for number in 1..=archive.last {
            let each = |piece: Piece| {
                ends.push(piece.to);
                Ok::<_, ArchiveError>(())
            };
            archive.read(number, None, each).unwrap();
        }
        assert_eq!(ends, [3, 8, 9, 20, 21, 30]);
    }

    #[test]
    fn any_flipped_bit_is_found_and_named_with_its_file_and_place() {
        let dir = archive();
        let path = dir.path().join("backup-000002");
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(&path, &flipped).unwrap();
            match verify(dir.path()) {
                Err(ArchiveError::Damaged { path: found, offset, .. }) => {
                    assert_eq!(found, path);
                    assert!(offset <= at as u64 && at as u64 - offset < 3200, "byte {at} was looked for at {offset}");
                }
                // One bit of the version makes it look newer, and no other does.
                Err(ArchiveError::Newer { .. }) => assert_eq!(at, MAGIC.len() - 1),
                other => panic!("byte {at}: {other:?}"),
            }
        }
        for cut in [0, 7, 8, 30, whole.len() / 2, whole.len() - 33, whole.len() - 1] {
            fs::write(&path, &whole[..cut]).unwrap();
            let found = verify(dir.path()).unwrap_err();
            assert!(matches!(found, ArchiveError::Damaged { .. }), "cut to {cut}: {found}");
        }
        fs::write(&path, &whole).unwrap();
        verify(dir.path()).unwrap();
    }

    #[test]
    fn what_is_missing_mixed_up_or_not_there_is_said() {
        let (dir, other) = (archive(), archive());
        let (second, third) = (dir.path().join("backup-000002"), dir.path().join("backup-000003"));
        assert!(matches!(verify(&dir.path().join("absent")), Err(ArchiveError::Empty { .. })));
        // Another archive's second: the same edits, but not the same file.
        let mut strange = fs::read(&second).unwrap();
        fs::remove_file(&second).unwrap();
        assert!(matches!(verify(dir.path()), Err(ArchiveError::Missing { path }) if path == second));
        fs::rename(&third, &second).unwrap();
        assert!(matches!(verify(dir.path()), Err(ArchiveError::Strange { .. })));
        fs::remove_file(&second).unwrap();
        add(dir.path(), &[10]);
        fs::copy(other.path().join("backup-000003"), &third).unwrap();
        assert!(matches!(verify(dir.path()), Err(ArchiveError::Strange { path, .. }) if path == third));
        let version = MAGIC.len() - 1;
        strange[version] = MAGIC[version] + 1;
        fs::write(&second, &strange).unwrap();
        assert!(matches!(verify(dir.path()), Err(ArchiveError::Newer { path }) if path == second));
        strange[version] = MAGIC[version] - 1;
        fs::write(&second, &strange).unwrap();
        assert!(matches!(verify(dir.path()), Err(ArchiveError::Older { path }) if path == second));
    }

    #[test]
    fn a_broken_backup_goes_on_at_its_last_whole_frame_and_changes_nothing_before() {
        let dir = archive();
        let part = dir.path().join("backup-000004.part");
        let mut writer = Writer::begin(dir.path(), SITE).unwrap();
        assert!(matches!(Writer::begin(dir.path(), SITE), Err(ArchiveError::Busy { .. })));
        writer.add(piece(30, 40)).unwrap();
        let whole = fs::metadata(&part).unwrap().len();
        writer.add(piece(40, 50)).unwrap();
        assert!(writer.add(piece(60, 70)).is_err(), "there is a gap before it");
        drop(writer);
        let bytes = fs::metadata(&part).unwrap().len();
        OpenOptions::new().write(true).open(&part).unwrap().set_len(bytes - 1).unwrap();
        assert_eq!(verify(dir.path()).unwrap().len(), 3, "what is not whole does not count");

        let mut writer = Writer::begin(dir.path(), SITE).unwrap();
        assert!(writer.resumed());
        assert_eq!(fs::metadata(&part).unwrap().len(), whole);
        assert_eq!(writer.reached().values().copied().collect::<Vec<_>>(), [(40, hash(40))]);
        writer.add(piece(40, 60)).unwrap();
        writer.finish(summary(60)).unwrap();
        assert!(!part.exists());
        assert_eq!(verify(dir.path()).unwrap().len(), 4);
        // A part of something else is not gone on with.
        fs::write(part.with_file_name("backup-000005.part"), b"thesis, chapter one, with more than forty bytes")
            .unwrap();
        assert!(!Writer::begin(dir.path(), SITE).unwrap().resumed());
        assert!(matches!(Writer::begin(dir.path(), SiteId(6)), Err(ArchiveError::Strange { .. })));
        let writer = Writer::begin(dir.path(), SITE).unwrap();
        assert!(writer.finish(summary(99)).is_err(), "it does not hold what the summary says");
    }
}
