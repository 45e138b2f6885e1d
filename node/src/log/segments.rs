//! The log itself, synchronous and without threads: [`SegmentLog`].
//!
//! A call *stages* its frames: the logical state changes at once and the bytes wait in memory. `flush` writes all that
//! waits and syncs. `flush` comes in three steps (`take`, [`Job::run`], `finish`), so that a driver can do the middle one
//! outside its lock; `read` and the other calls go on meanwhile.
//!
//! Each segment begins with a copy of all votes and purge marks, so that the oldest segment is needed only for the
//! entries in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dinhba_core::ids::GroupId;
use dinhba_core::store::{LogState, StoreError};

use super::frame::{FRAME_HEADER_BYTES, Frame, Kind, SEGMENT_HEADER_BYTES, SegmentHeader, place};
use super::index::{GroupLog, Index, Slot};
use super::writer::{Finished, Job, Part, Writer, segment_path};
use crate::disk::DiskFile;
use crate::seal::Sealer;

/// The largest entry: a Raft entry carries a batch of edits, of which the largest are some hundred kB.
pub const PAYLOAD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The largest vote or purge mark. They are some tens of bytes, and every segment begins with all of them.
pub const MARK_BYTES_MAX: usize = 4096;

/// Sizes that tests and the simulator make smaller.
#[derive(Debug, Clone, Copy)]
pub struct LogOptions {
    /// A segment file's size. 8 MiB: a rotation's three syncs are spread over thousands of entries, and 16 nodes on one
    /// laptop begin with 128 MiB.
    pub segment_bytes: u64,
    /// Recent entries kept in memory. 4 MiB: what a follower that is a second behind asks for.
    pub cache_bytes: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions { segment_bytes: 8 * 1024 * 1024, cache_bytes: 4 * 1024 * 1024 }
    }
}

/// The Raft logs and votes of all groups of a node.
pub struct SegmentLog {
    pub(super) dir: PathBuf,
    pub(super) sealer: Arc<dyn Sealer>,
    pub(super) segment_bytes: u64,
    pub(super) index: Index,
    /// The live segments that are on the disk, for reading.
    pub(super) files: BTreeMap<u64, Arc<dyn DiskFile>>,
    /// The segment that frames are staged for, where the next one goes, and where the segment ends.
    pub(super) active: u64,
    pub(super) end: u64,
    pub(super) size: u64,
    pub(super) next_sequence: u64,
    /// The last sequence that an earlier job covers: durable by the time that a frame staged now is written.
    pub(super) flushed: u64,
    pub(super) parts: Vec<Part>,
    pub(super) staged_bytes: usize,
    /// `None` while a job runs.
    pub(super) writer: Option<Writer>,
    pub(super) failed: Option<String>,
}

impl SegmentLog {
    /// Stages `entries`, whose indexes go on where the group's log ends; the first of all is 0 or 1.
    pub fn append(&mut self, group: GroupId, entries: Vec<(u64, Vec<u8>)>) -> Result<(), StoreError> {
        self.check()?;
        let mut next = self.index.groups().get(&group).and_then(GroupLog::next);
        for (index, bytes) in &entries {
            let fits = next.map_or(*index <= 1, |next| next == *index);
            if !fits || *index == u64::MAX {
                let expected = next.map_or_else(|| "0 or 1".to_owned(), |next| next.to_string());
                return Err(refused(group, &format!("entry {index} where {expected} comes next")));
            }
            if bytes.len() > PAYLOAD_BYTES_MAX {
                return Err(refused(group, &format!("entry {index} of {} bytes: too large", bytes.len())));
            }
            next = Some(index + 1);
        }
        for (index, bytes) in entries {
            let (offset, length, sequence) = self.stage(group, index, Kind::Entry, &bytes);
            let slot = Slot { segment: self.active, offset, length, sequence, bytes: Some(bytes.into()) };
            self.index.push(group, index, slot);
        }
        Ok(())
    }

    /// Stages the group's vote.
    pub fn save_vote(&mut self, group: GroupId, vote: Vec<u8>) -> Result<(), StoreError> {
        self.check_mark(group, &vote)?;
        self.stage(group, 0, Kind::Vote, &vote);
        self.index.known(group).vote = Some(vote);
        Ok(())
    }

    /// Stages that entries at `index` and above are gone.
    pub fn truncate_from(&mut self, group: GroupId, index: u64) -> Result<(), StoreError> {
        self.check()?;
        let last = self.index.groups().get(&group).filter(|log| !log.slots.is_empty()).and_then(GroupLog::next);
        if last.is_some_and(|next| index < next) {
            self.stage(group, index, Kind::Truncate, &[]);
            self.index.truncate(group, index);
        }
        Ok(())
    }

    /// Stages that entries up to `index` are gone. Below what is purged already, there is nothing to do.
    pub fn purge_to(&mut self, group: GroupId, index: u64, mark: Vec<u8>) -> Result<(), StoreError> {
        self.check_mark(group, &mark)?;
        if index == u64::MAX {
            return Err(refused(group, "a purge that leaves no index to go on at"));
        }
        let purged = self.index.groups().get(&group).and_then(|log| log.purged.as_ref());
        if purged.is_none_or(|(purged, _)| *purged < index) {
            self.stage(group, index, Kind::Purge, &mark);
            self.index.purge(group, index, mark);
        }
        Ok(())
    }

    /// The entries `from <= index < to` that are present, staged ones too.
    pub fn read(&self, group: GroupId, from: u64, to: u64) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        self.check()?;
        let Some(log) = self.index.groups().get(&group) else { return Ok(Vec::new()) };
        let end = log.first + log.slots.len() as u64;
        (from.max(log.first)..to.min(end)).map(|index| Ok((index, self.entry(group, log, index)?))).collect()
    }

    /// The vote, and where the log begins and ends.
    pub fn state(&self, group: GroupId) -> Result<LogState, StoreError> {
        self.check()?;
        let Some(log) = self.index.groups().get(&group) else { return Ok(LogState::default()) };
        let last = match log.slots.len() as u64 {
            0 => None,
            count => Some((log.first + count - 1, self.entry(group, log, log.first + count - 1)?)),
        };
        Ok(LogState { vote: log.vote.clone(), purged: log.purged.clone(), last })
    }

    /// Every group that has ever saved anything, in order.
    pub fn groups(&self) -> Result<Vec<GroupId>, StoreError> {
        self.check()?;
        Ok(self.index.groups().keys().copied().collect())
    }

    /// Makes all that is staged durable.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        self.check()?;
        match self.take() {
            Some(job) => self.finish(job.run()),
            None => Ok(()),
        }
    }

    /// Stages a flush though there may be nothing to write: the disk is to answer.
    pub fn touch(&mut self) -> Result<(), StoreError> {
        self.check()?;
        if self.parts.is_empty() {
            self.parts.push(Part { number: self.active, offset: self.end, bytes: Vec::new(), fresh: None });
        }
        Ok(())
    }

    /// Flushes, and makes the mark of the last flush durable too, so that damage in it cannot pass for a torn write.
    pub fn close(&mut self) -> Result<(), StoreError> {
        self.flush()?;
        let synced = self.writer.as_ref().map_or(Ok(()), |writer| writer.active.sync());
        synced.inspect_err(|error| self.fail(error))
    }

    /// Bytes staged and not taken.
    pub(crate) fn staged_bytes(&self) -> usize {
        self.staged_bytes
    }

    /// What is staged, as work for the disk; `None` if there is none or a job is still out. Whoever takes it runs it
    /// and hands what came of it to [`finish`](Self::finish).
    pub(crate) fn take(&mut self) -> Option<Job> {
        if self.parts.is_empty() {
            return None;
        }
        let writer = self.writer.take()?;
        let last = self.next_sequence - 1;
        // Where nothing was written there is nothing to say of it: an idle log does not grow by being touched.
        let is_written = self.parts.iter().any(|part| part.fresh.is_some() || !part.bytes.is_empty());
        let mark = if is_written { self.mark(last) } else { None };
        let mut free = Vec::new();
        while let Some(segment) = self.index.dead_segment(self.active) {
            self.index.remove_segment(segment);
            free.push(segment);
        }
        self.flushed = last;
        self.staged_bytes = 0;
        Some(Job { writer, parts: std::mem::take(&mut self.parts), mark, free, last })
    }

    /// Takes back what `take` gave. An error poisons the log.
    pub(crate) fn finish(&mut self, finished: Finished) -> Result<(), StoreError> {
        self.writer = Some(finished.writer);
        if let Err(error) = &finished.outcome {
            self.fail(error);
            return finished.outcome;
        }
        self.files.extend(finished.opened);
        for number in finished.freed {
            self.files.remove(&number);
        }
        self.index.settle(finished.last);
        Ok(())
    }

    /// Refuses every later call.
    pub(crate) fn fail(&mut self, error: &StoreError) {
        if self.failed.is_none() {
            self.failed = Some(error.to_string());
        }
    }

    /// An error if the log was poisoned.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.failed.as_ref().map_or(Ok(()), |reason| Err(StoreError::Poisoned(reason.clone())))
    }

    fn check_mark(&self, group: GroupId, bytes: &[u8]) -> Result<(), StoreError> {
        self.check()?;
        if bytes.len() > MARK_BYTES_MAX {
            return Err(refused(group, &format!("a vote or mark of {} bytes: too large", bytes.len())));
        }
        Ok(())
    }

    /// Puts a frame behind the last one, in a new segment if it has no room in this one.
    fn stage(&mut self, group: GroupId, index: u64, kind: Kind, plain: &[u8]) -> (u64, u32, u64) {
        let sealed = self.sealer.seal(&place(group, index, kind), plain);
        let length = (FRAME_HEADER_BYTES + sealed.len()) as u64;
        if self.end + length > self.size {
            self.rotate(length);
        }
        if self.parts.is_empty() {
            self.parts.push(Part { number: self.active, offset: self.end, bytes: Vec::new(), fresh: None });
        }
        self.put(group, index, kind, &sealed)
    }

    fn put(&mut self, group: GroupId, index: u64, kind: Kind, sealed: &[u8]) -> (u64, u32, u64) {
        let (offset, sequence) = (self.end, self.next_sequence);
        let frame = Frame { sequence, flushed: self.flushed, group, index, kind, payload: sealed };
        let length = frame.length();
        let part = self.parts.last_mut().expect("the caller began a part");
        frame.encode(&mut part.bytes);
        self.staged_bytes += length;
        self.next_sequence += 1;
        self.end += length as u64;
        (offset, u32::try_from(length).unwrap_or(u32::MAX), sequence)
    }

    /// Begins a segment: its header, then what the older ones say of votes and purges, so that they can go.
    fn rotate(&mut self, needed: u64) {
        if self.parts.is_empty() {
            // Says that the segment which ends here is to be synced before the next one begins.
            self.parts.push(Part { number: self.active, offset: self.end, bytes: Vec::new(), fresh: None });
        }
        let frames = carried(self.index.groups(), self.sealer.as_ref());
        let carried_bytes: usize = frames.iter().map(|(_, _, _, sealed)| FRAME_HEADER_BYTES + sealed.len()).sum();
        self.active += 1;
        self.size = self.segment_bytes.max((SEGMENT_HEADER_BYTES + carried_bytes) as u64 + needed);
        self.end = SEGMENT_HEADER_BYTES as u64;
        let header = SegmentHeader { number: self.active, first_sequence: self.next_sequence, size: self.size };
        self.parts.push(Part { number: self.active, offset: 0, bytes: header.encode(), fresh: Some(self.size) });
        for (group, index, kind, sealed) in frames {
            self.put(group, index, kind, &sealed);
        }
        self.index.add_segment(self.active);
    }

    /// A frame that says that all before it was flushed, if there is room for one.
    pub(super) fn mark(&mut self, flushed: u64) -> Option<(u64, Vec<u8>)> {
        let sequence = self.next_sequence;
        let frame = Frame { sequence, flushed, group: GroupId(0), index: 0, kind: Kind::Mark, payload: &[] };
        if self.end + frame.length() as u64 > self.size {
            return None;
        }
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        let offset = self.end;
        self.next_sequence += 1;
        self.end += bytes.len() as u64;
        Some((offset, bytes))
    }

    fn entry(&self, group: GroupId, log: &GroupLog, index: u64) -> Result<Vec<u8>, StoreError> {
        let missing = |detail: &str| StoreError::Corrupt {
            place: format!("entry {index} of {group}"),
            detail: detail.to_owned(),
        };
        let slot = log.slot(index).ok_or_else(|| missing("not in the index"))?;
        if let Some(bytes) = &slot.bytes {
            return Ok(bytes.to_vec());
        }
        let file = self.files.get(&slot.segment).ok_or_else(|| missing("its segment is gone"))?;
        let mut bytes = vec![0; slot.length as usize];
        let count = file.read_at(slot.offset, &mut bytes)?;
        let frame = Frame::parse(&bytes[..count]);
        let frame = frame.filter(|frame| {
            (frame.sequence, frame.group, frame.index, frame.kind) == (slot.sequence, group, index, Kind::Entry)
        });
        let frame =
            frame.ok_or_else(|| damaged(&self.dir, slot.segment, slot.offset, "an entry is not what was written"))?;
        self.sealer.open(&place(group, index, Kind::Entry), frame.payload)
    }
}

/// The frames that a new segment begins with.
fn carried(groups: &BTreeMap<GroupId, GroupLog>, sealer: &dyn Sealer) -> Vec<(GroupId, u64, Kind, Vec<u8>)> {
    let mut frames = Vec::new();
    let mut add = |group: GroupId, index, kind, plain: &[u8]| {
        frames.push((group, index, kind, sealer.seal(&place(group, index, kind), plain)));
    };
    for (group, log) in groups {
        if let Some(vote) = &log.vote {
            add(*group, 0, Kind::Vote, vote);
        }
        if let Some((index, mark)) = &log.purged {
            add(*group, *index, Kind::Purge, mark);
        }
        if log.vote.is_none() && log.purged.is_none() {
            add(*group, 0, Kind::Known, &[]);
        }
    }
    frames
}

fn refused(group: GroupId, what: &str) -> StoreError {
    StoreError::Io(format!("the log of {group} refused {what}"))
}

/// Damage at an exact place.
pub(super) fn damaged(dir: &Path, segment: u64, offset: u64, detail: &str) -> StoreError {
    let place = format!("{} at byte {offset}", segment_path(dir, segment).display());
    StoreError::Corrupt { place, detail: detail.to_owned() }
}
