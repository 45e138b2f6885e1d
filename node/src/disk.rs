//! The disk seam: the only file operations that the log and the snapshots use.
//!
//! `RealDisk` is the operating system's; the simulator's disk loses what was not synced, tears the last write and rots
//! bits. Engines of other people (fjall, sled) do their own file work and stay outside.

use std::path::Path;

use dinhba_core::store::StoreError;

/// A directory tree.
pub trait Disk: Send + Sync {
    /// Opens the file at `path`, for reading and writing. With `create`, makes an empty one if there is none.
    fn open(&self, path: &Path, create: bool) -> Result<Box<dyn DiskFile>, StoreError>;
    /// The names of the files in `dir`, sorted. An absent directory has none.
    fn list(&self, dir: &Path) -> Result<Vec<String>, StoreError>;
    /// Makes `dir` and its parents; fine if it is there.
    fn create_dir(&self, dir: &Path) -> Result<(), StoreError>;
    /// Removes a file; fine if it is not there.
    fn remove(&self, path: &Path) -> Result<(), StoreError>;
    /// Renames a file over another, atomically; durable after `sync_dir`.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError>;
    /// Makes creations, removals and renames in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> Result<(), StoreError>;
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Reads into `buffer` from `offset`; returns how many bytes there were (fewer only at the end of the file).
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError>;
    /// Writes all of `bytes` at `offset`; durable after `sync`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError>;
    /// The file's length in bytes.
    fn len(&self) -> Result<u64, StoreError>;
    /// Cuts or extends (with zeros) the file to `len`.
    fn set_len(&self, len: u64) -> Result<(), StoreError>;
    /// Everything written earlier is durable when this returns (`fdatasync`).
    fn sync(&self) -> Result<(), StoreError>;
    /// Whether the file is empty.
    fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(self.len()? == 0)
    }
}
