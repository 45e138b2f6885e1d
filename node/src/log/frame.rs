//! The bytes of the log: a header per segment, then frames.
//!
//! All numbers are little endian.
//!
//! ```text
//! segment: magic 8 | number 8 | first sequence 8 | size of the file 8 | CRC-32C of these 4 | frames…
//! frame:   CRC-32C 4 | length of the payload 4 | sequence 8 | flushed 8 | group 8 | index 8 | kind 1 | payload
//! ```
//!
//! *Sequence* counts the frames of a node, over all groups and segments, without gaps; in a file that was used before,
//! what is left of its earlier life has lower numbers. *Flushed* is the last sequence that was durable when the frame
//! was written: a bad frame is damage, rather than a write that a power cut tore, if a good one behind it says so.

use dinhba_core::ids::GroupId;
use dinhba_core::inject::is_armed;

use crate::seal::checksum;

/// Names the format and its version.
const MAGIC: [u8; 8] = *b"dinhba\x00\x01";
/// The header of a segment.
pub(super) const SEGMENT_HEADER_BYTES: usize = 36;
/// The header of a frame.
pub(super) const FRAME_HEADER_BYTES: usize = 41;

/// What a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The entry at `index`.
    Entry,
    /// The group's vote.
    Vote,
    /// Entries at `index` and above are gone.
    Truncate,
    /// Entries up to `index` are gone; the payload is the mark.
    Purge,
    /// The group exists, though it has nothing to show.
    Known,
    /// Nothing but that all before it was flushed.
    Mark,
}

const KINDS: [(Kind, u8); 6] =
    [(Kind::Entry, 1), (Kind::Vote, 2), (Kind::Truncate, 3), (Kind::Purge, 4), (Kind::Known, 5), (Kind::Mark, 6)];

/// The last of these codes.
const KIND_MAX: u8 = 6;

impl Kind {
    fn code(self) -> u8 {
        KINDS.iter().find(|(kind, _)| *kind == self).map_or(0, |(_, code)| *code)
    }
}

/// One frame, its payload sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub sequence: u64,
    pub flushed: u64,
    pub group: GroupId,
    pub index: u64,
    pub kind: Kind,
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// How many bytes the frame takes.
    pub fn length(&self) -> usize {
        FRAME_HEADER_BYTES + self.payload.len()
    }

    /// Appends the frame's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        // A payload is bounded by `PAYLOAD_BYTES_MAX`, far below this.
        out.extend_from_slice(&u32::try_from(self.payload.len()).unwrap_or(u32::MAX).to_le_bytes());
        for number in [self.sequence, self.flushed, self.group.0, self.index] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.push(self.kind.code());
        let sum = checksum(&out[start + 4..], self.payload);
        out[start..start + 4].copy_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(self.payload);
    }

    /// The frame at the start of `bytes`, if a good one is there.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>()?;
        let payload = rest.get(..u32_at(header, 4)? as usize)?;
        let (kind, _) = KINDS.iter().find(|(_, code)| *code == header[FRAME_HEADER_BYTES - 1])?;
        if u32_at(header, 0)? != checksum(&header[4..], payload) && !is_armed("skip-checksum") {
            return None;
        }
        Some(Frame {
            sequence: u64_at(header, 8)?,
            flushed: u64_at(header, 16)?,
            group: GroupId(u64_at(header, 24)?),
            index: u64_at(header, 32)?,
            kind: *kind,
            payload,
        })
    }

    /// The first good frame in `bytes`, at any offset, that was written after `sequence` had been flushed.
    pub fn find_written_after(bytes: &'a [u8], sequence: u64) -> Option<(usize, Self)> {
        // A plain loop with the cheapest question first: it looks at every byte of a recycled segment.
        for kind_at in FRAME_HEADER_BYTES - 1..used(bytes) {
            if matches!(bytes[kind_at], 1..=KIND_MAX) {
                let offset = kind_at + 1 - FRAME_HEADER_BYTES;
                let here = &bytes[offset..];
                if u64_at(here, 16)? >= sequence
                    && u64_at(here, 8)? > sequence
                    && let Some(frame) = Frame::parse(here)
                {
                    return Some((offset, frame));
                }
            }
        }
        None
    }
}

/// How many bytes there are up to the last that is not zero.
pub(super) fn used(bytes: &[u8]) -> usize {
    const BLOCK: usize = 4096;
    let Some(block) = bytes.chunks(BLOCK).rposition(|block| *block != [0; BLOCK][..block.len()]) else { return 0 };
    let rest = &bytes[block * BLOCK..bytes.len().min((block + 1) * BLOCK)];
    block * BLOCK + rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// Where a sealed payload belongs.
pub(super) fn place(group: GroupId, index: u64, kind: Kind) -> [u8; 17] {
    let mut place = [0; 17];
    place[..8].copy_from_slice(&group.0.to_le_bytes());
    place[8..16].copy_from_slice(&index.to_le_bytes());
    place[16] = kind.code();
    place
}

/// The header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub number: u64,
    pub first_sequence: u64,
    pub size: u64,
}

impl SegmentHeader {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for number in [self.number, self.first_sequence, self.size] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&checksum(b"segment", &out).to_le_bytes());
        out
    }

    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let body = bytes.get(..SEGMENT_HEADER_BYTES - 4)?;
        if !body.starts_with(&MAGIC) || u32_at(bytes, SEGMENT_HEADER_BYTES - 4)? != checksum(b"segment", body) {
            return None;
        }
        Some(SegmentHeader { number: u64_at(body, 8)?, first_sequence: u64_at(body, 16)?, size: u64_at(body, 24)? })
    }
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..)?.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: &[u8]) -> Frame<'_> {
        Frame { sequence: 7, flushed: 5, group: GroupId(3), index: 9, kind: Kind::Purge, payload }
    }

    #[test]
    fn a_frame_comes_back_and_no_flipped_bit_is_missed() {
        let mut bytes = Vec::new();
        frame(b"mark").encode(&mut bytes);
        assert_eq!(bytes.len(), frame(b"mark").length());
        bytes.extend_from_slice(b"what follows");
        assert_eq!(Frame::parse(&bytes), Some(frame(b"mark")));
        for bit in 0..frame(b"mark").length() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Frame::parse(&flipped), None, "bit {bit}");
        }
        assert_eq!(Frame::parse(&[0; 100]), None, "an empty file holds no frames");
    }

    #[test]
    fn a_frame_written_after_a_flush_is_found_at_any_offset() {
        let mut bytes = vec![9; 13];
        frame(b"").encode(&mut bytes);
        bytes.extend_from_slice(&[0; 50]);
        assert_eq!(Frame::find_written_after(&bytes, 5).map(|(offset, _)| offset), Some(13));
        assert_eq!(Frame::find_written_after(&bytes, 6), None);
    }

    #[test]
    fn the_end_of_what_was_written_is_found() {
        for (length, last) in
            [(0, None), (9, None), (9, Some(8)), (20_000, Some(0)), (20_000, Some(4096)), (4097, Some(4096))]
        {
            let mut bytes = vec![0; length];
            last.into_iter().for_each(|last: usize| bytes[last] = 1);
            assert_eq!(used(&bytes), last.map_or(0, |last| last + 1), "{last:?} of {length}");
        }
    }

    #[test]
    fn a_segment_header_comes_back_whole_or_not_at_all() {
        let header = SegmentHeader { number: 2, first_sequence: 40, size: 8192 };
        let bytes = header.encode();
        assert_eq!(bytes.len(), SEGMENT_HEADER_BYTES);
        assert_eq!(SegmentHeader::parse(&bytes), Some(header));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::parse(&flipped), None, "bit {bit}");
        }
    }
}
