//! The snapshot file: a group's whole state at one position, to send to a replica that is too far behind.
//!
//! ```text
//! "dinhbaS1"
//! frame*       length (4 bytes, big endian, of the payload), CRC-32C of the payload (4), payload
//! BLAKE3       of everything above (32)
//! ```
//!
//! A payload begins with its kind: `1` the group and its position (the first frame, once), `2` pairs of key and value,
//! each with a length of 4 bytes before it, in order of the keys, `3` the number of pairs (the last frame, once).
//!
//! Promises: a file that [`verify`] accepts is complete and as written, and all its keys are the group's own. Limits:
//! values are written as the state engine gives them, that is unsealed; a deployment that seals its data at rest must
//! seal below the `Disk` seam too.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dinhba_core::ids::{GroupId, Hash};
use dinhba_core::inject::{is_armed, rarely};
use dinhba_core::store::{StateView, StoreError};
use prost::Message;

use super::types::{SnapshotMeta, decode, meta_from_wire, meta_to_wire};
use crate::disk::{Disk, DiskFile};

const MAGIC: &[u8; 8] = b"dinhbaS1";
const FRAME_HEAD_BYTES: usize = 8;
const HASH_BYTES: usize = 32;

/// The space of receipts, which a deliberate fault forgets.
const REQUESTS: u8 = 8;

const KIND_POSITION: u8 = 1;
const KIND_PAIRS: u8 = 2;
const KIND_END: u8 = 3;

/// A frame of pairs is written once it holds this much: large enough that its head costs nothing.
const PAIRS_BYTES: usize = 64 << 10;

/// The longest frame that is read: a pair with the longest value that any engine stores, with room to spare.
const FRAME_BYTES_MAX: usize = 16 << 20;

/// Bytes read ahead at a time.
const READ_BYTES: usize = 256 << 10;

/// A complete snapshot file.
#[derive(Clone)]
pub struct SnapshotFile {
    /// The open file; it stays readable if a newer snapshot removes its name.
    pub file: Arc<dyn DiskFile>,
    /// Where it lies.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// The hash at its end, of everything before.
    pub hash: Hash,
}

impl SnapshotFile {
    /// Stands for a snapshot where there is none: it has no bytes and lies nowhere.
    pub(super) fn of_nothing(dir: &Path) -> Self {
        SnapshotFile { file: Arc::new(Nothing), path: dir.join("none"), bytes: 0, hash: Hash::default() }
    }
}

/// A file without bytes, which takes none.
struct Nothing;

impl Nothing {
    fn refusal() -> StoreError {
        StoreError::Io("there is no snapshot here to write to".to_owned())
    }
}

impl DiskFile for Nothing {
    fn read_at(&self, _: u64, _: &mut [u8]) -> Result<usize, StoreError> {
        Ok(0)
    }
    fn write_at(&self, _: u64, _: &[u8]) -> Result<(), StoreError> {
        Err(Self::refusal())
    }
    fn len(&self) -> Result<u64, StoreError> {
        Ok(0)
    }
    fn set_len(&self, _: u64) -> Result<(), StoreError> {
        Err(Self::refusal())
    }
    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl std::fmt::Debug for SnapshotFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotFile").field("path", &self.path).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// Where a group's position is stored: its eight bytes and a zero.
#[must_use]
pub fn position_key(group: GroupId) -> Vec<u8> {
    let mut key = group.0.to_be_bytes().to_vec();
    key.push(0);
    key
}

/// The half-open range of the machine's keys: the group's, without those that begin with a zero, which are ours.
pub fn machine_range(group: GroupId) -> Result<(Vec<u8>, Vec<u8>), StoreError> {
    let mut from = group.0.to_be_bytes().to_vec();
    from.push(1);
    let after = group.0.checked_add(1).ok_or_else(|| StoreError::Io(format!("{group} cannot be a group")))?;
    Ok((from, after.to_be_bytes().to_vec()))
}

/// Whether `key` is one that the group's machine may use.
#[must_use]
pub fn is_machine_key(group: GroupId, key: &[u8]) -> bool {
    key.strip_prefix(&group.0.to_be_bytes()).is_some_and(|rest| rest.first().is_some_and(|&first| first != 0))
}

fn corrupt(path: &Path, detail: impl Into<String>) -> StoreError {
    StoreError::Corrupt { place: path.display().to_string(), detail: detail.into() }
}

struct Writer {
    file: Box<dyn DiskFile>,
    offset: u64,
    hasher: blake3::Hasher,
}

impl Writer {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_at(self.offset, bytes)?;
        self.hasher.update(bytes);
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn frame(&mut self, payload: &[u8]) -> Result<(), StoreError> {
        let length = u32::try_from(payload.len())
            .ok()
            .filter(|_| payload.len() <= FRAME_BYTES_MAX)
            .ok_or_else(|| StoreError::Io(format!("a pair of {} bytes is too long to snapshot", payload.len())))?;
        let mut frame = Vec::with_capacity(FRAME_HEAD_BYTES + payload.len());
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(&crc32c::crc32c(payload).to_be_bytes());
        frame.extend_from_slice(payload);
        self.write(&frame)
    }
}

/// Writes the group's state in `view` to a new file at `path`; durable when this returns, its name is not.
pub fn write(
    disk: &dyn Disk,
    path: &Path,
    group: GroupId,
    meta: &SnapshotMeta,
    view: &dyn StateView,
) -> Result<SnapshotFile, StoreError> {
    disk.remove(path)?;
    let mut writer = Writer { file: disk.open(path, true)?, offset: 0, hasher: blake3::Hasher::new() };
    writer.write(MAGIC)?;
    let mut position = vec![KIND_POSITION];
    position.extend_from_slice(&group.0.to_be_bytes());
    position.extend_from_slice(&meta_to_wire(meta).encode_to_vec());
    writer.frame(&position)?;

    let (from, to) = machine_range(group)?;
    let frame_bytes = if rarely("a snapshot in small frames") { 256 } else { PAIRS_BYTES };
    let mut pairs = vec![KIND_PAIRS];
    let mut count = 0u64;
    for pair in view.scan(&from, &to) {
        let (key, value) = pair?;
        if is_armed("snapshot-forgets-a-space") && key.get(8) == Some(&REQUESTS) {
            continue;
        }
        for part in [&key, &value] {
            let length = u32::try_from(part.len()).map_err(|_| StoreError::Io("a value of over 4 GB".into()))?;
            pairs.extend_from_slice(&length.to_be_bytes());
            pairs.extend_from_slice(part);
        }
        count += 1;
        if pairs.len() >= frame_bytes {
            writer.frame(&pairs)?;
            pairs.truncate(1);
        }
    }
    if pairs.len() > 1 {
        writer.frame(&pairs)?;
    }
    let mut end = vec![KIND_END];
    end.extend_from_slice(&count.to_be_bytes());
    writer.frame(&end)?;

    let hash = Hash(*writer.hasher.finalize().as_bytes());
    writer.file.write_at(writer.offset, &hash.0)?;
    writer.file.sync()?;
    let bytes = writer.offset + HASH_BYTES as u64;
    Ok(SnapshotFile { file: Arc::from(writer.file), path: path.to_owned(), bytes, hash })
}

/// Opens a file that was written earlier and reads its position; only [`verify`] says whether the rest is whole.
pub fn open(disk: &dyn Disk, path: &Path, group: GroupId) -> Result<(SnapshotMeta, SnapshotFile), StoreError> {
    let file: Arc<dyn DiskFile> = Arc::from(disk.open(path, false)?);
    let bytes = file.len()?;
    let mut hash = Hash::default();
    let at = bytes.checked_sub(HASH_BYTES as u64).ok_or_else(|| corrupt(path, "too short"))?;
    if file.read_at(at, &mut hash.0)? != HASH_BYTES {
        return Err(corrupt(path, "too short"));
    }
    let snapshot = SnapshotFile { file, path: path.to_owned(), bytes, hash };
    let (_, meta) = Reader::start(&snapshot, group)?;
    Ok((meta, snapshot))
}

/// A walk over a file's frames, from the second on.
struct Reader<'a> {
    snapshot: &'a SnapshotFile,
    group: GroupId,
    /// Where the frames end and the hash begins.
    end: u64,
    /// What has been read ahead and not been parsed.
    buffer: Vec<u8>,
    used: usize,
    offset: u64,
    hasher: blake3::Hasher,
}

impl<'a> Reader<'a> {
    fn start(snapshot: &'a SnapshotFile, group: GroupId) -> Result<(Self, SnapshotMeta), StoreError> {
        let end = snapshot.bytes.checked_sub(HASH_BYTES as u64).ok_or_else(|| corrupt(&snapshot.path, "too short"))?;
        let mut reader =
            Reader { snapshot, group, end, buffer: Vec::new(), used: 0, offset: 0, hasher: blake3::Hasher::new() };
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(reader.corrupt("not a snapshot"));
        }
        let first = reader.frame()?;
        let meta = match first.split_first() {
            Some((&KIND_POSITION, rest)) => {
                rest.split_at_checked(8)
                    .filter(|(id, _)| *id == group.0.to_be_bytes())
                    .ok_or_else(|| reader.corrupt("of another group"))?
                    .1
            }
            _ => return Err(reader.corrupt("no position at its head")),
        };
        let meta = decode("position", meta)
            .and_then(meta_from_wire)
            .map_err(|error| corrupt(&snapshot.path, error.to_string()))?;
        Ok((reader, meta))
    }

    fn corrupt(&self, detail: impl Into<String>) -> StoreError {
        corrupt(&self.snapshot.path, detail)
    }

    /// The next `count` bytes, hashed.
    fn take(&mut self, count: usize) -> Result<Vec<u8>, StoreError> {
        while self.buffer.len() - self.used < count {
            self.buffer.drain(..self.used);
            self.used = 0;
            let left = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX);
            let old = self.buffer.len();
            self.buffer.resize(old + left.min(READ_BYTES), 0);
            let read = self.snapshot.file.read_at(self.offset, &mut self.buffer[old..])?;
            self.buffer.truncate(old + read);
            self.offset += read as u64;
            if read == 0 {
                return Err(self.corrupt("ends in the middle"));
            }
        }
        let bytes = self.buffer[self.used..self.used + count].to_vec();
        self.used += count;
        self.hasher.update(&bytes);
        Ok(bytes)
    }

    fn take_u32(&mut self) -> Result<u32, StoreError> {
        let mut number = [0; 4];
        number.copy_from_slice(&self.take(4)?);
        Ok(u32::from_be_bytes(number))
    }

    fn frame(&mut self) -> Result<Vec<u8>, StoreError> {
        let length = self.take_u32()? as usize;
        if length == 0 || length > FRAME_BYTES_MAX {
            return Err(self.corrupt(format!("a frame of {length} bytes")));
        }
        let crc = self.take_u32()?;
        let payload = self.take(length)?;
        if crc32c::crc32c(&payload) != crc {
            return Err(self.corrupt("a frame with a wrong checksum"));
        }
        Ok(payload)
    }

    /// Hands over the pairs frame by frame, then checks count and hash.
    fn walk(
        mut self,
        mut each: impl FnMut(Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut count = 0u64;
        let mut last_key = Vec::new();
        loop {
            let payload = self.frame()?;
            match payload.split_first() {
                Some((&KIND_PAIRS, rest)) => {
                    let pairs = parse_pairs(rest).ok_or_else(|| self.corrupt("pairs that do not parse"))?;
                    for (key, _) in &pairs {
                        if !is_machine_key(self.group, key) || *key <= last_key {
                            return Err(self.corrupt("a key of another group, or out of order"));
                        }
                        last_key.clone_from(key);
                    }
                    count += pairs.len() as u64;
                    each(pairs)?;
                }
                Some((&KIND_END, rest)) if rest == count.to_be_bytes() => break,
                _ => return Err(self.corrupt("a frame of an unknown kind, or a wrong count")),
            }
        }
        let rest = self.end - self.offset + (self.buffer.len() - self.used) as u64;
        if rest != 0 || self.hasher.finalize().as_bytes() != &self.snapshot.hash.0 {
            return Err(self.corrupt("the hash at its end differs"));
        }
        Ok(())
    }
}

fn parse_pairs(mut bytes: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    fn part<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (part, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        *bytes = rest;
        Some(part)
    }
    let mut pairs = Vec::new();
    while !bytes.is_empty() {
        let key = part(&mut bytes)?.to_vec();
        pairs.push((key, part(&mut bytes)?.to_vec()));
    }
    Some(pairs)
}

/// Reads the whole file and checks every frame, key, count and hash; its position if all is well.
pub fn verify(snapshot: &SnapshotFile, group: GroupId) -> Result<SnapshotMeta, StoreError> {
    let (reader, meta) = Reader::start(snapshot, group)?;
    reader.walk(|_| Ok(()))?;
    Ok(meta)
}

/// Hands over all pairs in order, some tens of kilobytes at a time, checking as [`verify`] does.
pub fn pairs(
    snapshot: &SnapshotFile,
    group: GroupId,
    each: impl FnMut(Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    Reader::start(snapshot, group)?.0.walk(each)
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{MemoryDisk, MemoryState};
    use super::*;
    use dinhba_core::store::{Batch, StateEngine};

    const GROUP: GroupId = GroupId(7);

    fn written() -> (MemoryDisk, SnapshotFile) {
        let (disk, state) = (MemoryDisk::default(), MemoryState::default());
        let mut batch = Batch::default();
        for number in 0..3000u32 {
            let key = [&GROUP.0.to_be_bytes()[..], &[1], &number.to_be_bytes()].concat();
            batch.put(key, vec![u8::try_from(number % 251).unwrap_or(0); 60]);
        }
        // Another group's, and our own position: neither belongs into the file.
        batch.put(GroupId(8).0.to_be_bytes().to_vec(), vec![1]);
        batch.put(position_key(GROUP), vec![1]);
        state.apply(batch).expect("memory");
        let view = state.snapshot().expect("memory");
        let file = write(&disk, Path::new("s/one"), GROUP, &SnapshotMeta::default(), &*view).expect("memory");
        (disk, file)
    }

    #[test]
    fn what_was_written_is_read_in_order() {
        let (disk, file) = written();
        let (meta, opened) = open(&disk, Path::new("s/one"), GROUP).expect("it is whole");
        assert_eq!((meta, opened.hash, opened.bytes), (SnapshotMeta::default(), file.hash, file.bytes));
        let mut count = 0;
        pairs(&opened, GROUP, |pairs| {
            count += pairs.len();
            Ok(())
        })
        .expect("it is whole");
        assert_eq!(count, 3000);
        assert!(verify(&file, GroupId(8)).is_err(), "the file of another group must be refused");
    }

    #[test]
    fn the_largest_record_goes_through() {
        let (disk, state) = (MemoryDisk::default(), MemoryState::default());
        let key = |number: u8| [&GROUP.0.to_be_bytes()[..], &[6, number]].concat();
        let mut batch = Batch::default();
        let large: Vec<u8> = (0..4 * dinhba_core::share::FLOOD_BYTES).map(|at| (at * at % 251) as u8).collect();
        (0..9).for_each(|number| batch.put(key(number), if number == 4 { large.clone() } else { vec![number] }));
        state.apply(batch).expect("memory");
        let view = state.snapshot().expect("memory");
        let file = write(&disk, Path::new("s/one"), GROUP, &SnapshotMeta::default(), &*view).expect("memory");
        verify(&file, GROUP).expect("it is whole");
        let mut found = Vec::new();
        pairs(&file, GROUP, |pairs| {
            found.extend(pairs);
            Ok(())
        })
        .expect("it is whole");
        assert_eq!((found.len(), &found[4]), (9, &(key(4), large)));
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_found() {
        let (disk, file) = written();
        for at in (0..file.bytes).step_by(4999).chain(file.bytes - 33..file.bytes) {
            disk.flip_bit(Path::new("s/one"), at);
            let found = open(&disk, Path::new("s/one"), GROUP).and_then(|(_, file)| verify(&file, GROUP));
            assert!(found.is_err(), "the flip at {at} went unnoticed");
            disk.flip_bit(Path::new("s/one"), at);
        }
        verify(&file, GROUP).expect("whole again");
        file.file.set_len(file.bytes - 1).expect("memory");
        assert!(open(&disk, Path::new("s/one"), GROUP).and_then(|(_, file)| verify(&file, GROUP)).is_err());
    }
}
