//! Reading the log back after a stop of any kind.
//!
//! Every frame of every segment but the last must be there: a segment gets its name only after those before it were
//! synced. In the last one, the first bad frame is the end, unless a good frame behind it was written after that place
//! had been flushed: then it is damage. What lies behind the end is overwritten with zeros, so that frames of a torn
//! write never line up with later ones.
//!
//! Limits: a whole missing *last* segment, removed by hand, is not noticed. An empty directory in the place of a log is, by
//! who knows that there was one: [`refuse_lost`]. Damage in the last flush passes for a torn write if the mark behind that flush was lost too.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use dinhba_core::inject::{is_armed, sometimes};
use dinhba_core::store::StoreError;

use super::frame::{Frame, Kind, SEGMENT_HEADER_BYTES, SegmentHeader, place, used};
use super::index::{GroupLog, Index, Slot};
use super::segments::{LogOptions, SegmentLog, damaged};
use super::writer::{Writer, segment_path};
use crate::disk::{Disk, DiskFile};
use crate::seal::Sealer;

struct Found {
    header: SegmentHeader,
    file: Arc<dyn DiskFile>,
}

impl SegmentLog {
    /// Opens the log in `dir`, or makes it, and recovers what is there.
    ///
    /// # Errors
    /// `Corrupt`, with file and offset, if anything that was acknowledged is damaged. A write that a power cut tore is
    /// cut off. Damage in the very last flush is taken for such a write if what marks the flush was lost with it.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, sealer: Arc<dyn Sealer>) -> Result<Self, StoreError> {
        Self::open_with(disk, dir, sealer, LogOptions::default())
    }

    /// [`open`](Self::open) with other sizes. They may differ from one opening to the next.
    pub fn open_with(
        disk: Arc<dyn Disk>,
        dir: &Path,
        sealer: Arc<dyn Sealer>,
        options: LogOptions,
    ) -> Result<Self, StoreError> {
        recover(disk, dir, sealer, options)
    }
}

fn recover(
    disk: Arc<dyn Disk>,
    dir: &Path,
    sealer: Arc<dyn Sealer>,
    options: LogOptions,
) -> Result<SegmentLog, StoreError> {
    disk.create_dir(dir)?;
    let mut found = BTreeMap::new();
    for name in disk.list(dir)? {
        if let Some(number) = name.strip_suffix(".seg").and_then(segment_number) {
            found.insert(number, open_segment(disk.as_ref(), dir, number)?);
        } else if name.strip_suffix(".free").and_then(segment_number).is_some() {
            // May hold frames of a segment that was never begun, with numbers that will be used again.
            disk.remove(&dir.join(name))?;
        }
    }
    if found.is_empty() {
        let header = SegmentHeader { number: 1, first_sequence: 1, size: options.segment_bytes };
        found.insert(1, Found { header, file: begin(&disk, dir, options, header)? });
    }

    let mut index = Index::new(options.cache_bytes);
    let firsts: Vec<(u64, u64)> =
        found.values().map(|found| (found.header.number, found.header.first_sequence)).collect();
    for pair in firsts.windows(2) {
        if pair[0].0 + 1 != pair[1].0 {
            return Err(damaged(dir, pair[0].0 + 1, 0, "the segment is missing"));
        }
    }
    let mut end = (0, 0);
    for (at, found) in found.values().enumerate() {
        let until = firsts.get(at + 1).map(|(_, first)| *first);
        end = replay(dir, found, until, sealer.as_ref(), &mut index)?;
    }
    check_gaps(dir, &index)?;

    let (end, next_sequence) = end;
    let last = found.last_entry().expect("there is at least one segment").into_mut();
    let (active, size, file) = (last.header.number, last.header.size, last.file.clone());
    let files = found.into_iter().map(|(number, found)| (number, found.file)).collect();
    let writer = Writer {
        disk,
        dir: dir.to_owned(),
        segment_bytes: options.segment_bytes,
        active: file.clone(),
        spares: Vec::new(),
    };
    let mut log = SegmentLog {
        dir: dir.to_owned(),
        sealer,
        segment_bytes: options.segment_bytes,
        index,
        files,
        active,
        end,
        size,
        next_sequence,
        flushed: next_sequence - 1,
        parts: Vec::new(),
        staged_bytes: 0,
        writer: Some(writer),
        failed: None,
    };
    // From here on the caller acts on what was found, some of which may be in the system's cache only: sync it, with a
    // mark that says so.
    if let Some((offset, bytes)) = log.mark(next_sequence - 1) {
        file.write_at(offset, &bytes)?;
    }
    file.sync()?;
    log.index.settle(next_sequence - 1);
    Ok(log)
}

/// Why a node does not start whose log, and with it its vote, is lost. What to do then depends on whether its site has others.
pub(crate) const LOST_VOTE: &str = "a node that forgot its vote must not vote again";

/// Refuses to begin a log anew where a node had one, and with it its votes. A log has a segment from its first opening on.
pub fn refuse_lost(disk: &dyn Disk, dir: &Path) -> Result<(), StoreError> {
    disk.create_dir(dir)?;
    if disk.list(dir)?.iter().any(|name| name.ends_with(".seg")) || is_armed("take-lost-log-for-new") {
        return Ok(());
    }
    sometimes("a node that lost its log is refused", true);
    Err(StoreError::Corrupt {
        place: dir.display().to_string(),
        detail: format!("the log is gone, and this node has taken part before: {LOST_VOTE}"),
    })
}

fn segment_number(stem: &str) -> Option<u64> {
    (stem.len() == 16).then(|| u64::from_str_radix(stem, 16).ok())?
}

fn begin(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    options: LogOptions,
    header: SegmentHeader,
) -> Result<Arc<dyn DiskFile>, StoreError> {
    let path = super::writer::spare_path(dir, header.number);
    let active = Arc::from(disk.open(&path, true)?);
    let (disk, dir) = (disk.clone(), dir.to_owned());
    let mut writer = Writer { disk, dir, segment_bytes: options.segment_bytes, active, spares: Vec::new() };
    writer.begin_segment(header.number, header.size, &header.encode())
}

fn open_segment(disk: &dyn Disk, dir: &Path, number: u64) -> Result<Found, StoreError> {
    let file: Arc<dyn DiskFile> = Arc::from(disk.open(&segment_path(dir, number), false)?);
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    let count = file.read_at(0, &mut bytes)?;
    let header = SegmentHeader::parse(&bytes[..count]).filter(|header| header.number == number);
    let header = header.ok_or_else(|| damaged(dir, number, 0, "the header of the segment is bad"))?;
    let length = file.len()?;
    if length < header.size {
        return Err(damaged(dir, number, length, &format!("the file ends here, not at {}", header.size)));
    }
    Ok(Found { header, file })
}

/// Replays one segment into `index`: to its end, or for the last segment (no `until`) to the first bad frame, behind
/// which it clears. Returns where the next frame goes and its sequence.
fn replay(
    dir: &Path,
    found: &Found,
    until: Option<u64>,
    sealer: &dyn Sealer,
    index: &mut Index,
) -> Result<(u64, u64), StoreError> {
    let Found { header: SegmentHeader { number, first_sequence, size }, file } = found;
    let length = usize::try_from(*size).map_err(|_| damaged(dir, *number, 0, "the size of the segment is absurd"))?;
    let mut bytes = vec![0; length];
    let count = file.read_at(0, &mut bytes)?;
    bytes.truncate(count);
    index.add_segment(*number);
    let (mut offset, mut sequence) = (SEGMENT_HEADER_BYTES, *first_sequence);
    while until.is_none_or(|until| sequence < until) {
        let frame = Frame::parse(&bytes[offset..]).filter(|frame| frame.sequence == sequence);
        let Some(frame) = frame else {
            if until.is_some() {
                return Err(damaged(dir, *number, offset as u64, "a bad frame, with a later segment behind it"));
            }
            clear_tail(dir, *number, file.as_ref(), &bytes, offset, sequence)?;
            break;
        };
        let wrong = replay_frame(&frame, *number, offset as u64, sealer, index)?;
        if let Some(detail) = wrong {
            return Err(damaged(dir, *number, offset as u64, &detail));
        }
        offset += frame.length();
        sequence += 1;
    }
    Ok((offset as u64, sequence))
}

/// Cuts a torn write off behind `offset`, where the frame `sequence` would be.
fn clear_tail(
    dir: &Path,
    number: u64,
    file: &dyn DiskFile,
    bytes: &[u8],
    offset: usize,
    sequence: u64,
) -> Result<(), StoreError> {
    let tail = &bytes[offset..];
    if let Some((distance, good)) = Frame::find_written_after(tail, sequence) {
        let at = offset + distance;
        let detail =
            format!("frame {sequence} is bad, and frame {} at byte {at} was written after its flush", good.sequence);
        return Err(damaged(dir, number, offset as u64, &detail));
    }
    let torn = used(tail);
    if sometimes("the log's torn end is cut off", torn > 0) {
        file.write_at(offset as u64, &vec![0; torn])?;
        file.sync()?;
    }
    Ok(())
}

/// Replays one frame. What it returns is wrong with it.
fn replay_frame(
    frame: &Frame<'_>,
    segment: u64,
    offset: u64,
    sealer: &dyn Sealer,
    index: &mut Index,
) -> Result<Option<String>, StoreError> {
    let Frame { group, index: at, kind, sequence, .. } = *frame;
    if kind == Kind::Mark {
        return Ok(None);
    }
    let log = index.known(group);
    match kind {
        Kind::Entry => {
            // Older segments may be gone, and with them the entries before this one: `check_gaps` looks at the end.
            let above_purged = log.purged.as_ref().is_none_or(|(purged, _)| at > *purged);
            if !above_purged || (!log.slots.is_empty() && log.next() != Some(at)) || at == u64::MAX {
                return Ok(Some(format!("entry {at} of {group} is out of order")));
            }
            let Ok(length) = u32::try_from(frame.length()) else { return Ok(Some("a frame too large".to_owned())) };
            index.push(group, at, Slot { segment, offset, length, sequence, bytes: None });
        }
        Kind::Vote => log.vote = Some(sealer.open(&place(group, at, kind), frame.payload)?),
        Kind::Truncate => index.truncate(group, at),
        Kind::Purge if at == u64::MAX => return Ok(Some(format!("a purge of all of {group}"))),
        Kind::Purge => {
            let mark = sealer.open(&place(group, at, kind), frame.payload)?;
            index.purge(group, at, mark);
        }
        Kind::Known | Kind::Mark => {}
    }
    Ok(None)
}

/// Each group's entries must go on where its purge ended.
fn check_gaps(dir: &Path, index: &Index) -> Result<(), StoreError> {
    for (group, log) in index.groups() {
        let GroupLog { purged, first, slots, .. } = log;
        let fits = purged.as_ref().map_or(*first <= 1, |(purged, _)| *first == purged + 1);
        if !slots.is_empty() && !fits {
            let expected = purged.as_ref().map_or(0, |(purged, _)| purged + 1);
            let place = format!("{} of {group}", dir.display());
            let detail = format!("entries {expected} to {} are missing", first - 1);
            return Err(StoreError::Corrupt { place, detail });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::segments::SegmentLog;
    use crate::raft::test_support::MemoryDisk;
    use crate::seal::Unsealed;

    #[test]
    fn a_log_that_is_gone_is_told_from_one_that_was_never_written_to() {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
        let dir = Path::new("log");
        assert!(refuse_lost(&*disk, dir).is_err());
        let options = LogOptions { segment_bytes: 4096, cache_bytes: 0 };
        drop(SegmentLog::open_with(Arc::clone(&disk), dir, Arc::new(Unsealed), options).expect("memory"));
        assert_eq!(refuse_lost(&*disk, dir), Ok(()));
    }
}
