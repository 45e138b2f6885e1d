//! The content of one simulated file: what a reader sees, what the disk holds for certain, and what lies between.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;

/// Files are kept in pages of this size, shared between the present, the durable image and backups until one changes.
/// As an operating system's.
const PAGE_BYTES: usize = 4096;

/// What a disk writes whole or not at all.
const SECTOR_BYTES: u64 = 512;

/// Bytes of a file; a page that is not there is all zeros, so that setting space aside costs nothing.
#[derive(Clone, Default)]
struct Image {
    len: u64,
    pages: BTreeMap<u64, Arc<[u8; PAGE_BYTES]>>,
}

/// The parts of `range` by page: the page, where in it, and where in `range`.
fn by_page(range: Range<u64>) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let page_bytes = PAGE_BYTES as u64;
    (range.start / page_bytes..range.end.div_ceil(page_bytes)).map(move |page| {
        let base = page * page_bytes;
        let (from, to) = (range.start.max(base), range.end.min(base + page_bytes));
        let small = |bytes: u64| usize::try_from(bytes).expect("within what is in memory");
        (page, small(from - base)..small(to - base), small(from - range.start)..small(to - range.start))
    })
}

impl Image {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let count = self.len.saturating_sub(offset).min(buffer.len() as u64);
        for (page, inside, part) in by_page(offset..offset + count) {
            match self.pages.get(&page) {
                Some(bytes) => buffer[part].copy_from_slice(&bytes[inside]),
                None => buffer[part].fill(0),
            }
        }
        usize::try_from(count).expect("not above the buffer's length")
    }

    fn page(&mut self, page: u64) -> &mut [u8; PAGE_BYTES] {
        Arc::make_mut(self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE_BYTES])))
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (page, inside, part) in by_page(offset..offset + bytes.len() as u64) {
            self.page(page)[inside].copy_from_slice(&bytes[part]);
        }
        self.len = self.len.max(offset + bytes.len() as u64);
    }

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            let page_bytes = PAGE_BYTES as u64;
            self.pages.split_off(&len.div_ceil(page_bytes));
            let inside = usize::try_from(len % page_bytes).expect("below a page");
            if inside > 0 && self.pages.contains_key(&(len / page_bytes)) {
                self.page(len / page_bytes)[inside..].fill(0);
            }
        }
        self.len = len;
    }

    /// Takes over what `other` has in `range`, as far as `other` goes.
    fn take_over(&mut self, other: &Image, range: Range<u64>) {
        let range = range.start..range.end.min(other.len);
        if !range.is_empty() {
            let mut bytes = vec![0; usize::try_from(range.end - range.start).expect("within what is in memory")];
            other.read(range.start, &mut bytes);
            self.write(range.start, &bytes);
        }
    }
}

/// A change that was not synced. Its bytes are the present ones: a system writes a page back as it is by then.
#[derive(Clone)]
enum Change {
    Write(Range<u64>),
    Len(u64),
}

/// What a power cut did to a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Damage {
    /// Something that was written is not there.
    pub lost: bool,
    /// A write, or a row of them, is there in part.
    pub torn: bool,
}

/// One file.
#[derive(Clone, Default)]
pub(super) struct Content {
    now: Image,
    durable: Image,
    unsynced: Vec<Change>,
    /// What the last sync made durable; everything else that is durable is cold.
    fresh: Vec<Range<u64>>,
}

impl Content {
    pub fn len(&self) -> u64 {
        self.now.len
    }

    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        self.now.read(offset, buffer)
    }

    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.now.write(offset, bytes);
            self.unsynced.push(Change::Write(offset..offset + bytes.len() as u64));
        }
    }

    pub fn set_len(&mut self, len: u64) {
        self.now.set_len(len);
        self.unsynced.push(Change::Len(len));
    }

    pub fn sync(&mut self) {
        if self.unsynced.is_empty() {
            return;
        }
        let changes = std::mem::take(&mut self.unsynced);
        let resized = changes.iter().any(|change| matches!(change, Change::Len(_)));
        if resized {
            self.durable = self.now.clone();
        } else {
            for page in pages(&changes) {
                if let Some(bytes) = self.now.pages.get(&page) {
                    self.durable.pages.insert(page, Arc::clone(bytes));
                }
            }
            self.durable.len = self.now.len;
        }
        self.fresh = written(&changes);
        // A file written whole, once, has no last write behind older ones.
        if !resized && self.fresh.first() == Some(&(0..self.now.len)) {
            self.fresh.clear();
        }
    }

    /// Back to what is durable; true if that changed anything.
    pub fn drop_unsynced(&mut self) -> bool {
        let any = !self.unsynced.is_empty();
        if any {
            self.unsynced.clear();
            self.now = self.durable.clone();
        }
        any
    }

    /// The file as the next start finds it: of what was not synced there is nothing, all, a beginning whose last write is
    /// torn, or some sectors.
    pub fn power_cut(&mut self, random: &mut ChaCha8Rng) -> Damage {
        if self.unsynced.is_empty() {
            return Damage::default();
        }
        let changes = std::mem::take(&mut self.unsynced);
        self.fresh.extend(written(&changes));
        let damage = match random.next_u64() % 4 {
            0 => Damage { lost: true, torn: false },
            1 => {
                self.durable = self.now.clone();
                Damage::default()
            }
            2 => self.keep_beginning(&changes, random),
            _ => self.keep_sectors(&changes, random),
        };
        self.now = self.durable.clone();
        damage
    }

    fn keep_beginning(&mut self, changes: &[Change], random: &mut ChaCha8Rng) -> Damage {
        let torn_at = draw(random, changes.len() as u64);
        for (at, change) in (0..).zip(changes) {
            match change {
                Change::Write(range) if at == torn_at => {
                    let kept = draw(random, range.end - range.start);
                    self.durable.take_over(&self.now, range.start..range.start + kept);
                    return Damage { lost: true, torn: kept > 0 || at > 0 };
                }
                Change::Len(_) if at == torn_at => return Damage { lost: true, torn: at > 0 },
                Change::Write(range) => self.durable.take_over(&self.now, range.clone()),
                Change::Len(len) => self.durable.set_len(*len),
            }
        }
        Damage::default()
    }

    fn keep_sectors(&mut self, changes: &[Change], random: &mut ChaCha8Rng) -> Damage {
        let (mut kept, mut lost) = (false, false);
        if changes.iter().any(|change| matches!(change, Change::Len(_))) {
            if random.next_u64().is_multiple_of(2) {
                self.durable.set_len(self.now.len);
                kept = true;
            } else {
                lost = true;
            }
        }
        let sectors = written(changes).into_iter();
        let sectors = sectors.flat_map(|range| range.start / SECTOR_BYTES..range.end.div_ceil(SECTOR_BYTES));
        for sector in sectors.collect::<BTreeSet<u64>>() {
            if random.next_u64().is_multiple_of(2) {
                self.durable.take_over(&self.now, sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES);
                kept = true;
            } else {
                lost = true;
            }
        }
        Damage { lost, torn: kept && lost }
    }

    /// Flips a bit of what was durable before the last sync and not touched since; returns the byte. `pick` chooses.
    pub fn rot(&mut self, pick: u64) -> Option<u64> {
        let dirty = pages(&self.unsynced);
        let pages: Vec<u64> = self.durable.pages.keys().copied().filter(|page| !dirty.contains(page)).collect();
        let count = pages.len() as u64;
        let first = usize::try_from(pick.checked_rem(count)?).ok()?;
        let pick = pick / count;
        for page in pages[first..].iter().chain(&pages[..first]) {
            let bytes = &self.durable.pages[page];
            let base = page * PAGE_BYTES as u64;
            let here = base..base + PAGE_BYTES as u64;
            let near = self.fresh.iter().filter(|range| range.start < here.end && here.start < range.end);
            let near: Vec<&Range<u64>> = near.collect();
            let is_fresh = |at: u64| near.iter().any(|range| range.contains(&at));
            // Zeros behind the last byte that means something are space set aside: rot in them shows nothing.
            let Some(last) = bytes.iter().rposition(|byte| *byte != 0) else { continue };
            let cold: Vec<u64> =
                (base..=base + last as u64).filter(|at| *at < self.durable.len && !is_fresh(*at)).collect();
            let Some(place) = pick.checked_rem(cold.len() as u64) else { continue };
            let at = cold[usize::try_from(place).ok()?];
            let bit = 1 << (pick / cold.len() as u64 % 8);
            let inside = usize::try_from(at - base).ok()?;
            for image in [&mut self.durable, &mut self.now] {
                image.page(*page)[inside] ^= bit;
            }
            return Some(at);
        }
        None
    }

    /// What a copy of the file holds: the present, which counts as durable in the place that it is copied to.
    pub fn copy(&self) -> Content {
        let mut fresh = self.fresh.clone();
        fresh.extend(written(&self.unsynced));
        Content { now: self.now.clone(), durable: self.now.clone(), unsynced: Vec::new(), fresh }
    }
}

/// What the changes wrote, in order, with neighbours joined.
fn written(changes: &[Change]) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for change in changes {
        match (change, ranges.last_mut()) {
            (Change::Len(_), _) => {}
            (Change::Write(range), Some(last)) if range.start == last.end => last.end = range.end,
            (Change::Write(range), _) => ranges.push(range.clone()),
        }
    }
    ranges
}

fn pages(changes: &[Change]) -> BTreeSet<u64> {
    written(changes).into_iter().flat_map(|range| by_page(range).map(|(page, _, _)| page)).collect()
}

/// A number from 0 to `most`, both included.
fn draw(random: &mut ChaCha8Rng, most: u64) -> u64 {
    random.next_u64() % (most + 1)
}
