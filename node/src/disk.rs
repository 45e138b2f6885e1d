//! The disk seam: the only file operations that the log, the snapshots and the reader of the place file use.
//!
//! `RealDisk` is the operating system's; the simulator's disk loses what was not synced, tears the last write and rots
//! bits. Engines of other people (fjall, sled) do their own file work and stay outside.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

use dinhba_core::store::StoreError;
use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// A directory tree.
pub trait Disk: Send + Sync {
    /// Opens the file at `path`, for reading and writing. With `create`, makes an empty one if there is none.
    fn open(&self, path: &Path, create: bool) -> Result<Box<dyn DiskFile>, StoreError>;
    /// All bytes of the file at `path`, which need not be writable.
    fn read(&self, path: &Path) -> Result<Vec<u8>, StoreError> {
        let file = self.open(path, false)?;
        let length =
            usize::try_from(file.len()?).map_err(|_| StoreError::Io(format!("read {}: too large", path.display())))?;
        let mut bytes = vec![0; length];
        let count = file.read_at(0, &mut bytes)?;
        bytes.truncate(count);
        Ok(bytes)
    }
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
    /// How many bytes can still be written below `dir`. A disk in memory has no end.
    fn free_bytes(&self, _dir: &Path) -> Result<u64, StoreError> {
        Ok(u64::MAX)
    }
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

/// What an operating system's refusal means to the store. A full disk or quota is said apart, since an operator can help.
pub(crate) fn io_error(what: &str, path: &Path, error: &io::Error) -> StoreError {
    let text = format!("{what} {}: {error}", path.display());
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full(text),
        _ => StoreError::Io(text),
    }
}

/// Whether an error in opening what was there tells of files that do not fit together (one is missing, cut off, or of another
/// kind) and not of a disk that failed.
pub(crate) fn is_structural(error: &io::Error) -> bool {
    use ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::NotFound
            | Kind::AlreadyExists
            | Kind::UnexpectedEof
            | Kind::InvalidData
            | Kind::InvalidInput
            | Kind::IsADirectory
            | Kind::NotADirectory
            | Kind::DirectoryNotEmpty
    )
}

/// The operating system's disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

struct RealFile {
    file: File,
    path: Box<Path>,
}

impl RealFile {
    fn failed(&self, what: &str) -> impl Fn(io::Error) -> StoreError {
        move |error| io_error(what, &self.path, &error)
    }
}

/// Fine if there was nothing to find.
fn unless_absent(outcome: io::Result<()>) -> io::Result<()> {
    outcome.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

fn sync_directory(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| io_error("sync directory", dir, &error))
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, create: bool) -> Result<Box<dyn DiskFile>, StoreError> {
        let opened = OpenOptions::new().read(true).write(true).create(create).truncate(false).open(path);
        let file = opened.map_err(|error| io_error("open", path, &error))?;
        Ok(Box::new(RealFile { file, path: path.into() }))
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, StoreError> {
        fs::read(path).map_err(|error| io_error("read", path, &error))
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, StoreError> {
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| io_error("list", dir, &error))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| io_error("list", dir, &error))?;
            if entry.file_type().map_err(|error| io_error("list", dir, &error))?.is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Durable on return: each directory made is synced into its parent, since a log in a directory that a power cut
    /// takes away is no log.
    fn create_dir(&self, dir: &Path) -> Result<(), StoreError> {
        if dir.is_dir() {
            return Ok(());
        }
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            self.create_dir(parent)?;
        }
        match fs::create_dir(dir) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(io_error("make directory", dir, &error));
            }
            _ => {}
        }
        sync_directory(parent.unwrap_or(Path::new(".")))
    }

    fn remove(&self, path: &Path) -> Result<(), StoreError> {
        unless_absent(fs::remove_file(path)).map_err(|error| io_error("remove", path, &error))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        fs::rename(from, to).map_err(|error| io_error("rename", from, &error))
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), StoreError> {
        sync_directory(dir)
    }

    fn free_bytes(&self, dir: &Path) -> Result<u64, StoreError> {
        let found = statvfs(dir).map_err(|error| io_error("ask for the space at", dir, &error.into()))?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed("read")(error)),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all_at(bytes, offset).map_err(self.failed("write"))
    }

    fn len(&self) -> Result<u64, StoreError> {
        self.file.metadata().map(|metadata| metadata.len()).map_err(self.failed("measure"))
    }

    /// Extends with blocks that the file system has set aside, where it can: a full disk is then met here, and not in
    /// the middle of a segment.
    fn set_len(&self, len: u64) -> Result<(), StoreError> {
        let now = self.len()?;
        if len > now {
            match fallocate(&self.file, FallocateFlags::empty(), now, len - now).map_err(io::Error::from) {
                Ok(()) => return Ok(()),
                Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::InvalidInput) => {}
                Err(error) => return Err(self.failed("extend")(error)),
            }
        }
        self.file.set_len(len).map_err(self.failed("set the length of"))
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(self.failed("sync"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_file_is_made_written_read_renamed_and_removed() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        let disk = RealDisk;
        assert_eq!(disk.list(&dir).unwrap(), Vec::<String>::new(), "an absent directory has no files");
        disk.create_dir(&dir).unwrap();
        disk.create_dir(&dir).unwrap();
        assert!(matches!(disk.open(&dir.join("x"), false).map(|_| ()), Err(StoreError::Io(_))));

        let file = disk.open(&dir.join("x"), true).unwrap();
        file.write_at(3, b"abc").unwrap();
        file.set_len(8).unwrap();
        file.sync().unwrap();
        let mut buffer = [7; 10];
        assert_eq!(file.read_at(0, &mut buffer).unwrap(), 8);
        assert_eq!(&buffer, b"\0\0\0abc\0\0\x07\x07");
        file.set_len(4).unwrap();
        assert_eq!(file.len().unwrap(), 4);
        assert_eq!(disk.read(&dir.join("x")).unwrap(), b"\0\0\0a");
        assert!(matches!(disk.read(&dir.join("y")), Err(StoreError::Io(_))));

        disk.rename(&dir.join("x"), &dir.join("y")).unwrap();
        disk.sync_dir(&dir).unwrap();
        assert_eq!(disk.list(&dir).unwrap(), ["y"]);
        disk.remove(&dir.join("y")).unwrap();
        disk.remove(&dir.join("y")).unwrap();
    }

    #[test]
    fn a_full_disk_is_told_from_other_errors() {
        let full = io_error("write", Path::new("f"), &io::Error::from_raw_os_error(28));
        assert!(matches!(full, StoreError::Full(_)), "{full}");
        let other = io_error("write", Path::new("f"), &io::Error::from_raw_os_error(5));
        assert!(matches!(other, StoreError::Io(_)), "{other}");
    }
}
