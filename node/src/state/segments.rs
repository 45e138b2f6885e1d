//! What only grows: values that are written once and never again, in files that are only appended to.
//!
//! A tree that merges its tables writes each value anew several times. Edits, their places in the stream and the access log
//! do not change, so they are written here once, many in a block that is compressed as a whole, and the tree holds where each lies.
//! A file read from its beginning gives the values in the order in which they came, with their keys.
//!
//! Over the [`Disk`] seam, so that a simulator can tear and rot it. Promises: what [`Segments::read`] gives is what was appended under that
//! key, or an error; what lies before an [`End`] is durable once [`Segments::sync`] returned after that end was taken. Whoever keeps the places
//! keeps the end beside them, and gives it to the next opening, which cuts off what lies behind: no place that was kept leads there.
//!
//! ```text
//! segment = block…              named by its number, in ten digits
//! block   = length of sealed (4) | CRC-32C of sealed and its place (4) | sealed
//! sealed  = the sealer's, of a Zstandard frame of values
//! values  = (length of key (2) | length of value (4) | key | value)…
//! ```
//!
//! All numbers are little endian.
//!
//! Limit: nothing is taken back. What was cleared or overwritten goes on taking its room.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dinhba_core::store::StoreError;

use crate::compression;
use crate::disk::{Disk, DiskFile};
use crate::seal::{Sealer, checksum, hex};

/// No block has more, whatever is read.
const BLOCK_BYTES_MAX: usize = 16 << 20;
/// Far above all bounds of edits, and far below a block.
const VALUE_BYTES_MAX: usize = BLOCK_BYTES_MAX / 4;
/// Blocks that are kept as they were written or read: who goes through a history asks for one after the other.
const BLOCKS_KEPT: usize = 64;
/// Files that are kept open.
const FILES_KEPT: usize = 16;

/// Bytes before what is sealed in a block.
const HEADER_BYTES: usize = 8;
/// Bytes before a key in a block.
const LENGTHS_BYTES: usize = 6;

/// How large things are. Tests have them smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentSizes {
    /// A block is written when its values have this many bytes: enough for what they have in common to be found, few enough to be
    /// read for one of them.
    pub block_bytes: usize,
    /// A segment that has this many bytes is followed by the next.
    pub segment_bytes: u32,
}

impl Default for SegmentSizes {
    fn default() -> Self {
        SegmentSizes { block_bytes: 16 * 1024, segment_bytes: 256 << 20 }
    }
}

/// Where a value lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    segment: u32,
    offset: u32,
    index: u16,
}

impl Place {
    /// Bytes of a place.
    pub const BYTES: usize = 10;

    /// As it is kept.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&self.segment.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..].copy_from_slice(&self.index.to_le_bytes());
        bytes
    }

    /// What `to_bytes` gave; nothing of other bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (segment, rest) = bytes.split_first_chunk()?;
        let (offset, rest) = rest.split_first_chunk()?;
        let [segment, offset] = [segment, offset].map(|number| u32::from_le_bytes(*number));
        Some(Place { segment, offset, index: u16::from_le_bytes(rest.try_into().ok()?) })
    }
}

/// Up to where there is something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct End {
    segment: u32,
    length: u32,
}

impl End {
    /// As it is kept.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&self.segment.to_le_bytes());
        bytes[4..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    /// What `to_bytes` gave; nothing of other bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (segment, rest) = bytes.split_first_chunk()?;
        Some(End { segment: u32::from_le_bytes(*segment), length: u32::from_le_bytes(rest.try_into().ok()?) })
    }
}

/// Values in order, with their keys.
#[derive(Default)]
struct Block {
    bytes: Vec<u8>,
    values: Vec<(Range<usize>, Range<usize>)>,
}

impl Block {
    fn push(&mut self, key: &[u8], value: &[u8]) {
        let key_bytes = u16::try_from(key.len()).expect("no key is longer than 1 KiB");
        let value_bytes = u32::try_from(value.len()).expect("no value is longer than 4 GiB");
        self.bytes.extend_from_slice(&key_bytes.to_le_bytes());
        self.bytes.extend_from_slice(&value_bytes.to_le_bytes());
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.values.push((begin..begin + key.len(), begin + key.len()..self.bytes.len()));
    }

    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let (mut values, mut rest) = (Vec::new(), &bytes[..]);
        while let Some((lengths, after)) = rest.split_first_chunk::<LENGTHS_BYTES>() {
            let key = usize::from(u16::from_le_bytes([lengths[0], lengths[1]]));
            let value = usize::try_from(u32::from_le_bytes([lengths[2], lengths[3], lengths[4], lengths[5]])).ok()?;
            let begin = bytes.len() - after.len();
            let end = begin.checked_add(key)?.checked_add(value)?;
            rest = bytes.get(end..)?;
            values.push((begin..begin + key, begin + key..end));
        }
        rest.is_empty().then_some(Block { bytes, values })
    }

    fn get(&self, index: u16, key: &[u8]) -> Option<&[u8]> {
        let (found, value) = self.values.get(usize::from(index))?;
        (&self.bytes[found.clone()] == key).then(|| &self.bytes[value.clone()])
    }
}

/// A few things by number, the last used at the back.
struct Kept<K, T> {
    most: usize,
    things: VecDeque<(K, Arc<T>)>,
}

impl<K: PartialEq + Copy, T> Kept<K, T> {
    fn new(most: usize) -> Self {
        Kept { most, things: VecDeque::new() }
    }

    fn get(&mut self, key: K) -> Option<Arc<T>> {
        let at = self.things.iter().rposition(|(found, _)| *found == key)?;
        let thing = self.things.remove(at)?;
        let found = Arc::clone(&thing.1);
        self.things.push_back(thing);
        Some(found)
    }

    fn put(&mut self, key: K, thing: Arc<T>) {
        if self.things.len() >= self.most {
            self.things.pop_front();
        }
        self.things.push_back((key, thing));
    }
}

type File = Box<dyn DiskFile>;

/// Segments in a directory.
pub struct Segments {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    sealer: Arc<dyn Sealer>,
    sizes: SegmentSizes,
    tail: Mutex<Tail>,
    blocks: Mutex<Kept<(u32, u32), Block>>,
    files: Mutex<Kept<u32, File>>,
}

/// Where the next block goes.
struct Tail {
    end: End,
    file: Arc<File>,
    block: Block,
    /// Written since they were synced, and whether a name is new.
    unsynced: Vec<Arc<File>>,
    is_named: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn path_of(dir: &Path, segment: u32) -> PathBuf {
    dir.join(format!("{segment:010}"))
}

/// What the checksum covers besides the block, and what its sealer binds.
fn place_of(segment: u32, offset: u32) -> [u8; 8] {
    let mut place = [0; 8];
    place[..4].copy_from_slice(&segment.to_le_bytes());
    place[4..].copy_from_slice(&offset.to_le_bytes());
    place
}

impl Segments {
    /// Opens what lies in `dir` up to `end`, and removes what lies behind it.
    ///
    /// # Errors
    ///
    /// Damage, if less is there than that; or what the disk says.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, sealer: Arc<dyn Sealer>, end: End) -> Result<Self, StoreError> {
        Self::open_with(disk, dir, sealer, end, SegmentSizes::default())
    }

    /// [`open`](Self::open) with other sizes.
    ///
    /// # Errors
    ///
    /// The same.
    pub fn open_with(
        disk: Arc<dyn Disk>,
        dir: &Path,
        sealer: Arc<dyn Sealer>,
        end: End,
        sizes: SegmentSizes,
    ) -> Result<Self, StoreError> {
        disk.create_dir(dir)?;
        let damaged = |segment: u32, detail: String| {
            let place = path_of(dir, segment).display().to_string();
            StoreError::Corrupt { place, detail }
        };
        let mut there = Vec::new();
        for name in disk.list(dir)? {
            match name.parse::<u32>() {
                Ok(segment) if segment <= end.segment => there.push(segment),
                _ => disk.remove(&dir.join(name))?,
            }
        }
        // The last one is made if nothing lies in it.
        let count = end.segment + u32::from(end.length > 0);
        if let Some(missing) = (0..count).find(|segment| !there.contains(segment)) {
            return Err(damaged(missing, "it is not there".to_owned()));
        }
        let file = disk.open(&path_of(dir, end.segment), true)?;
        let found = file.len()?;
        if found < u64::from(end.length) {
            return Err(damaged(end.segment, format!("it has {found} bytes, and {} were written", end.length)));
        }
        if found > u64::from(end.length) {
            file.set_len(end.length.into())?;
        }
        file.sync()?;
        disk.sync_dir(dir)?;
        let file = Arc::new(file);
        let mut files = Kept::new(FILES_KEPT);
        files.put(end.segment, Arc::clone(&file));
        Ok(Segments {
            disk,
            dir: dir.to_owned(),
            sealer,
            sizes,
            tail: Mutex::new(Tail { end, file, block: Block::default(), unsynced: Vec::new(), is_named: false }),
            blocks: Mutex::new(Kept::new(BLOCKS_KEPT)),
            files: Mutex::new(files),
        })
    }

    /// Appends a value; it can be read at once.
    ///
    /// # Errors
    ///
    /// What the disk says of a block that became full. Nothing may be appended after that. A value that fits into no block.
    pub fn append(&self, key: &[u8], value: &[u8]) -> Result<Place, StoreError> {
        if value.len() > VALUE_BYTES_MAX {
            let text = format!("a value of {} bytes: up to {VALUE_BYTES_MAX} are written once", value.len());
            return Err(StoreError::Io(text));
        }
        let mut tail = lock(&self.tail);
        let index = u16::try_from(tail.block.values.len()).expect("a block with more is full");
        let place = Place { segment: tail.end.segment, offset: tail.end.length, index };
        tail.block.push(key, value);
        if tail.block.bytes.len() >= self.sizes.block_bytes || index == u16::MAX {
            self.write_block(&mut tail)?;
        }
        Ok(place)
    }

    /// The end of all that was appended.
    ///
    /// # Errors
    ///
    /// As of [`append`](Self::append).
    pub fn end(&self) -> Result<End, StoreError> {
        let mut tail = lock(&self.tail);
        self.write_block(&mut tail)?;
        Ok(tail.end)
    }

    fn write_block(&self, tail: &mut Tail) -> Result<(), StoreError> {
        if tail.block.values.is_empty() {
            return Ok(());
        }
        let block = std::mem::take(&mut tail.block);
        let place = place_of(tail.end.segment, tail.end.length);
        let packed = compression::pack(&block.bytes);
        let sealed = self.sealer.seal(&place, &packed);
        let length = u32::try_from(sealed.len()).expect("a block is far below 4 GiB");
        let mut bytes = Vec::with_capacity(HEADER_BYTES + sealed.len());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&checksum(&place, &sealed).to_le_bytes());
        bytes.extend_from_slice(&sealed);
        tail.file.write_at(tail.end.length.into(), &bytes)?;
        if tail.unsynced.last().is_none_or(|last| !Arc::ptr_eq(last, &tail.file)) {
            tail.unsynced.push(Arc::clone(&tail.file));
        }
        lock(&self.blocks).put((tail.end.segment, tail.end.length), Arc::new(block));
        tail.end.length += u32::try_from(bytes.len()).expect("a block is far below 4 GiB");
        if tail.end.length >= self.sizes.segment_bytes {
            let end = End { segment: tail.end.segment + 1, length: 0 };
            tail.file = Arc::new(self.disk.open(&path_of(&self.dir, end.segment), true)?);
            tail.end = end;
            tail.is_named = true;
            lock(&self.files).put(end.segment, Arc::clone(&tail.file));
        }
        Ok(())
    }

    /// What lies before each end that was taken is durable when this returns.
    ///
    /// # Errors
    ///
    /// What the disk says; what was not synced may be lost then, and nothing may be appended.
    pub fn sync(&self) -> Result<(), StoreError> {
        let mut tail = lock(&self.tail);
        let (unsynced, is_named) = (std::mem::take(&mut tail.unsynced), std::mem::take(&mut tail.is_named));
        drop(tail);
        unsynced.iter().try_for_each(|file| file.sync())?;
        if is_named { self.disk.sync_dir(&self.dir) } else { Ok(()) }
    }

    /// The value that was appended there under `key`.
    ///
    /// # Errors
    ///
    /// Damage, if it cannot be had or was another key's.
    pub fn read(&self, place: Place, key: &[u8]) -> Result<Vec<u8>, StoreError> {
        let tail = lock(&self.tail);
        let is_in_tail = (tail.end.segment, tail.end.length) == (place.segment, place.offset);
        let found = is_in_tail.then(|| tail.block.get(place.index, key).map(<[u8]>::to_vec));
        drop(tail);
        let found = match found {
            Some(found) => found,
            None => self.block(place)?.get(place.index, key).map(<[u8]>::to_vec),
        };
        found.ok_or_else(|| {
            let detail = format!("{} has no value of the key {} there", self.describe(place), hex(key));
            StoreError::Corrupt { place: format!("key {}", hex(key)), detail }
        })
    }

    fn describe(&self, place: Place) -> String {
        format!("{} at {}", path_of(&self.dir, place.segment).display(), place.offset)
    }

    fn block(&self, place: Place) -> Result<Arc<Block>, StoreError> {
        let name = (place.segment, place.offset);
        if let Some(block) = lock(&self.blocks).get(name) {
            return Ok(block);
        }
        let block = Arc::new(self.read_block(place)?);
        lock(&self.blocks).put(name, Arc::clone(&block));
        Ok(block)
    }

    fn read_block(&self, place: Place) -> Result<Block, StoreError> {
        let damaged = |detail: &str| StoreError::Corrupt { place: self.describe(place), detail: detail.to_owned() };
        let kept = lock(&self.files).get(place.segment);
        let file = match kept {
            Some(file) => file,
            None => {
                let file = Arc::new(self.disk.open(&path_of(&self.dir, place.segment), false)?);
                lock(&self.files).put(place.segment, Arc::clone(&file));
                file
            }
        };
        let mut header = [0; HEADER_BYTES];
        if file.read_at(place.offset.into(), &mut header)? < HEADER_BYTES {
            return Err(damaged("the file ends before the block"));
        }
        let [length, expected] = [&header[..4], &header[4..]]
            .map(|part| part.iter().rev().fold(0_u32, |number, byte| number << 8 | u32::from(*byte)));
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > BLOCK_BYTES_MAX {
            return Err(damaged("a block is not so long"));
        }
        let mut sealed = vec![0; length];
        if file.read_at(u64::from(place.offset) + HEADER_BYTES as u64, &mut sealed)? < length {
            return Err(damaged("the file ends in the block"));
        }
        let name = place_of(place.segment, place.offset);
        if checksum(&name, &sealed) != expected {
            return Err(damaged("the checksum of the block is wrong"));
        }
        let packed = self.sealer.open(&name, &sealed)?;
        let values = compression::unpack(&packed, BLOCK_BYTES_MAX);
        let values = values.ok_or_else(|| damaged("the block is not one that was compressed here"))?;
        Block::parse(values).ok_or_else(|| damaged("the block's values do not fit into it"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::disk::RealDisk;
    use crate::seal::Unsealed;

    fn open(dir: &Path, end: End) -> Result<Segments, StoreError> {
        Segments::open(Arc::new(RealDisk), dir, Arc::new(Unsealed), end)
    }

    fn key(number: u32) -> Vec<u8> {
        [b"key of ".as_slice(), &number.to_be_bytes()].concat()
    }

    fn value(number: u32) -> Vec<u8> {
        format!("value {number}, ").repeat(usize::try_from(number % 50).unwrap()).into_bytes()
    }

    fn fill(segments: &Segments, numbers: Range<u32>) -> Vec<(u32, Place)> {
        numbers.map(|number| (number, segments.append(&key(number), &value(number)).unwrap())).collect()
    }

    fn all_there(segments: &Segments, places: &[(u32, Place)]) {
        for (number, place) in places {
            assert_eq!(segments.read(*place, &key(*number)).unwrap(), value(*number));
            assert_eq!(Place::from_bytes(&place.to_bytes()), Some(*place));
        }
    }

    #[test]
    fn what_was_appended_is_there_at_once_and_after_an_opening_up_to_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let segments = open(dir.path(), End::default()).unwrap();
        let mut places = fill(&segments, 0..3_000);
        all_there(&segments, &places);
        let end = segments.end().unwrap();
        assert_eq!(segments.end().unwrap(), end, "nothing came");
        segments.sync().unwrap();
        fill(&segments, 3_000..6_000);
        drop(segments);
        let end = End::from_bytes(&end.to_bytes()).unwrap();
        let segments = open(dir.path(), end).unwrap();
        assert_eq!(fs::metadata(path_of(dir.path(), 0)).unwrap().len(), u64::from(end.length));
        all_there(&segments, &places);
        places.extend(fill(&segments, 7_000..9_000));
        all_there(&segments, &places);
        let stored = u64::from(segments.end().unwrap().length);
        let plain: usize = places.iter().map(|(number, _)| key(*number).len() + value(*number).len()).sum();
        assert!(stored * 5 < plain as u64, "{stored} of {plain} bytes");
    }

    #[test]
    fn a_value_is_had_only_by_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let segments = open(dir.path(), End::default()).unwrap();
        let places = fill(&segments, 0..2);
        for _ in 0..2 {
            assert!(matches!(segments.read(places[0].1, &key(1)), Err(StoreError::Corrupt { .. })));
            let beyond = Place { index: 2, ..places[0].1 };
            assert!(matches!(segments.read(beyond, &key(1)), Err(StoreError::Corrupt { .. })));
            segments.end().unwrap();
        }
    }

    #[test]
    fn every_damage_of_a_block_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let segments = open(dir.path(), End::default()).unwrap();
        let places = fill(&segments, 0..40);
        let end = segments.end().unwrap();
        drop(segments);
        let path = path_of(dir.path(), 0);
        let whole = fs::read(&path).unwrap();
        for byte in 0..whole.len() {
            let mut rotten = whole.clone();
            rotten[byte] ^= 1 << (byte % 8);
            fs::write(&path, rotten).unwrap();
            let read = open(dir.path(), end).unwrap().read(places[7].1, &key(7));
            assert!(matches!(read, Err(StoreError::Corrupt { .. })), "byte {byte}");
        }
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(matches!(open(dir.path(), end), Err(StoreError::Corrupt { .. })), "shorter than it was");
        fs::remove_file(&path).unwrap();
        assert!(matches!(open(dir.path(), end), Err(StoreError::Corrupt { .. })), "gone");
        let later = End { segment: 1, length: 0 };
        assert!(matches!(open(dir.path(), later), Err(StoreError::Corrupt { .. })), "an earlier one is gone");
    }

    #[test]
    fn what_lies_behind_the_end_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["0000000001", "0000000007", "something else"] {
            fs::write(dir.path().join(name), "left").unwrap();
        }
        let segments = open(dir.path(), End::default()).unwrap();
        assert_eq!(RealDisk.list(dir.path()).unwrap(), ["0000000000"]);
        fill(&segments, 0..10);
        drop(segments);
        assert_eq!(open(dir.path(), End::default()).unwrap().end().unwrap(), End::default());
    }

    #[test]
    fn what_fits_into_no_block_is_refused_and_what_does_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let segments = open(dir.path(), End::default()).unwrap();
        assert!(segments.append(b"a", &vec![1; VALUE_BYTES_MAX + 1]).is_err());
        let large = vec![7; VALUE_BYTES_MAX];
        let place = segments.append(b"a", &large).unwrap();
        let end = segments.end().unwrap();
        drop(segments);
        assert_eq!(open(dir.path(), end).unwrap().read(place, b"a").unwrap(), large);
    }
}
