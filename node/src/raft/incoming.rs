//! A snapshot file on its way here, chunk by chunk.
//!
//! Promises: what [`Incoming`] holds is the beginning of the file that was announced, as far as the sender says the truth about
//! each chunk; a chunk that is falsified, cut, out of order or of another file is refused, and what came before it stays, so a
//! transfer that was broken off goes on from there. Only the hash of the whole, at the end, makes the file one that counts.
//! Memory: one chunk.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dinhba_core::ids::{GroupId, Hash};
use dinhba_core::store::StoreError;
use dinhba_proto::peer::v1 as wire;

use super::snapshot::{self, SnapshotFile};
use super::types::SnapshotMeta;
use crate::disk::{Disk, DiskFile};
use crate::runtime::{self, Instant};

/// The data of one snapshot chunk: small beside a frame, so that heartbeats on the same stream are not held up.
pub const CHUNK_BYTES_MAX: usize = 256 << 10;

/// How long a file that is not asked for, or does not grow, is kept for a transfer to go on: a line that is cut for longer is
/// cut for hours, and a busy group has a newer snapshot by then.
pub(super) const PARTIAL_KEPT: Duration = Duration::from_secs(600);

/// The length of the hash that ends a snapshot file.
const HASH_BYTES: u64 = 32;

/// Why a chunk was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotTaken {
    /// It is not what it should be. What came before it is as it was.
    #[error("{0}")]
    Refused(String),
    /// The disk here refused: what the file holds now is not known.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a chunk's `check` must be.
pub(super) fn check_of(hash: &[u8], offset: u64, data: &[u8]) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(hash).update(&offset.to_be_bytes()).update(data);
    hasher.finalize().as_bytes().to_vec()
}

/// Judges a chunk by itself; gives the hash of the file that it is of.
pub(super) fn judge(chunk: &wire::SnapshotChunk) -> Result<Hash, NotTaken> {
    let refused = |why: String| Err(NotTaken::Refused(why));
    let (offset, length) = (chunk.offset, chunk.data.len());
    let Ok(hash) = <[u8; 32]>::try_from(&chunk.hash[..]) else {
        return refused(format!("the hash of a file has 32 bytes, this one {}", chunk.hash.len()));
    };
    if length == 0 || length > CHUNK_BYTES_MAX {
        return refused(format!("a chunk has 1 to {CHUNK_BYTES_MAX} bytes, this one {length}"));
    }
    if offset.checked_add(length as u64).is_none_or(|end| end > chunk.bytes) {
        return refused(format!("a chunk of {length} bytes at {offset} reaches beyond the file's {}", chunk.bytes));
    }
    if !chunk.check.is_empty() && chunk.check != check_of(&chunk.hash, offset, &chunk.data) {
        return refused(format!("the chunk at {offset} is not what was sent: its check differs"));
    }
    Ok(Hash(hash))
}

/// The beginning of a snapshot file.
pub(super) struct Incoming {
    hash: Hash,
    bytes: u64,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    next: u64,
    hasher: Box<blake3::Hasher>,
    touched: Instant,
}

impl Incoming {
    /// An empty file at `path` for what `chunk`, which was judged, is the first of.
    pub(super) fn begin(disk: &dyn Disk, path: PathBuf, hash: Hash, bytes: u64) -> Result<Self, StoreError> {
        disk.remove(&path)?;
        let file = disk.open(&path, true)?;
        Ok(Incoming { hash, bytes, path, file, next: 0, hasher: Box::default(), touched: runtime::now() })
    }

    /// Which file it is, by its hash.
    pub(super) fn hash(&self) -> Hash {
        self.hash
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How much of it is here.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// When something was last done for it.
    pub(super) fn touched(&self) -> Instant {
        self.touched
    }

    /// Whether it is the beginning of this file.
    pub(super) fn is_of(&self, hash: Hash, bytes: u64) -> bool {
        (self.hash, self.bytes) == (hash, bytes)
    }

    /// Whether all of it is here.
    pub(super) fn is_complete(&self) -> bool {
        self.next == self.bytes
    }

    /// Says that its transfer goes on.
    pub(super) fn touch(&mut self) {
        self.touched = runtime::now();
    }

    /// Writes a chunk behind what is here.
    pub(super) fn take(&mut self, chunk: &wire::SnapshotChunk) -> Result<(), NotTaken> {
        let hash = judge(chunk)?;
        if !self.is_of(hash, chunk.bytes) {
            return Err(NotTaken::Refused(format!(
                "a chunk of the file {hash} of {} bytes, where {} of {} bytes comes in",
                chunk.bytes, self.hash, self.bytes
            )));
        }
        if chunk.offset != self.next {
            let (offset, next) = (chunk.offset, self.next);
            return Err(NotTaken::Refused(format!("a chunk out of order: {offset} where {next} is next")));
        }
        self.file.write_at(chunk.offset, &chunk.data)?;
        // The last bytes are the hash itself, over all that comes before.
        let hashed = self.bytes.saturating_sub(HASH_BYTES).saturating_sub(chunk.offset);
        let hashed = usize::try_from(hashed).unwrap_or(usize::MAX).min(chunk.data.len());
        self.hasher.update(&chunk.data[..hashed]);
        self.next += chunk.data.len() as u64;
        self.touch();
        Ok(())
    }

    /// Makes a complete file durable and checks that it is the one that was announced.
    pub(super) fn finish(
        self,
        disk: &dyn Disk,
        group: GroupId,
        announced: &SnapshotMeta,
    ) -> Result<SnapshotFile, StoreError> {
        let place = self.path.display().to_string();
        let corrupt = |detail: &str| StoreError::Corrupt { place: place.clone(), detail: detail.into() };
        self.file.sync()?;
        if *self.hasher.finalize().as_bytes() != self.hash.0 {
            return Err(corrupt("the received bytes have another hash"));
        }
        let (found, file) = snapshot::open(disk, &self.path, group)?;
        if found != *announced || file.hash != self.hash {
            return Err(corrupt("the received file is not the one that was announced"));
        }
        Ok(file)
    }
}
