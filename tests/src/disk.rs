//! A disk for real processes that can lose power: a file system in user space (FUSE).
//!
//! Owns: a mount point, and a directory on a real disk, in which lies what was flushed. A write lands in memory, as in an
//! operating system's cache, and is remembered; `fsync` and `fdatasync` bring what is remembered of that file to the real
//! disk, and flush it there. Names (files made, renamed, removed) are a journal of their own, in order, as a journaling file
//! system keeps them; the `fsync` of a directory commits it up to the last change of that directory. A flushed *file* does
//! not bring its name along: POSIX promises no more, though ext4 does.
//!
//! [`Disk::lose_power`] takes the file system away, forgets what was not flushed as a [`Cut`] says, and mounts it anew.
//! [`Disk::set`] makes it full, slow, or unable to read. Nothing is cached above it (`FOPEN_DIRECT_IO`), so a read error is
//! met by whoever reads; the price is that files cannot be mapped shared, which no engine here does.
//!
//! Left out: hard links, symbolic links, extended attributes, times, permissions beyond a mode. Space is counted in bytes of
//! files, holes included. If this process is killed, its mounts stay behind, dead: `umount` them by hand.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::ValueEnum;
use fuser::{BackgroundSession, Config, MountOption};

use self::files::Files;
use self::kernel::Answering;

mod files;
mod kernel;
#[cfg(test)]
mod tests;

/// Threads that answer, so that a slow flush holds up only who waits for it.
const THREADS: usize = 4;
/// How often, and how long each time, a mount is waited for that a killed process has not let go of yet: two seconds.
const UNMOUNT_TRIES: u32 = 100;
const UNMOUNT_WAIT: Duration = Duration::from_millis(20);

/// What becomes of writes that were not flushed when the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Cut {
    /// All are gone.
    Clean,
    /// Of each file the first few are there, and of the next one a part.
    Torn,
    /// Any of them are there, sector by sector, later ones without earlier ones.
    Scattered,
}

/// What is wrong with the disk at present.
#[derive(Debug, Clone, Default)]
pub struct Trouble {
    /// It holds no more than so many bytes.
    pub bytes_max: Option<u64>,
    /// Of the blocks of files below this path (relative, the empty one is all) one in so many cannot be read: always the
    /// same ones, as on a disk with bad sectors.
    pub unreadable: Option<(PathBuf, u32)>,
    /// Flushes take up to so long; one in [`Trouble::STALLS_ONE_IN`] takes ten times that.
    pub slow: Option<Duration>,
    /// Flushes do not come back, until that is mended.
    pub hangs: bool,
    /// Files are said to be flushed, and are not.
    pub lies: bool,
}

impl Trouble {
    /// Of how many slow flushes one stalls.
    pub const STALLS_ONE_IN: u32 = 50;
}

/// What a power cut took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Writes that were not flushed, of which something is gone.
    pub writes: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Names made, changed or removed, of which nothing is left.
    pub names: u64,
}

/// A mounted disk. Unmounted when dropped; what it holds is gone then.
pub struct Disk {
    files: Arc<Mutex<Files>>,
    at: PathBuf,
    session: Option<BackgroundSession>,
}

impl Disk {
    /// Mounts an empty disk at `at`; what is flushed to it lies in `backing`. Both are made. Its chances come from `seed`.
    ///
    /// # Errors
    /// Where this process may not mount (no `/dev/fuse`, or neither root nor `fusermount3`).
    pub fn mount(at: &Path, backing: &Path, seed: u64) -> io::Result<Self> {
        fs::create_dir_all(at)?;
        fs::create_dir_all(backing)?;
        let mut disk =
            Disk { files: Arc::new(Mutex::new(Files::new(backing, seed))), at: at.to_owned(), session: None };
        disk.attach()?;
        Ok(disk)
    }

    fn attach(&mut self) -> io::Result<()> {
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("dinhba-disk".to_owned()), MountOption::NoAtime];
        config.n_threads = Some(THREADS);
        self.session = Some(fuser::spawn_mount(Answering(Arc::clone(&self.files)), &self.at, &config)?);
        Ok(())
    }

    /// Takes the file system away, once nobody has a file of it open any more.
    fn detach(&mut self) -> io::Result<()> {
        let Some(session) = self.session.take() else { return Ok(()) };
        let mut tries = 0;
        // The session's own unmounting cannot be tried again.
        while let Err(error) = rustix::mount::unmount(&self.at, rustix::mount::UnmountFlags::empty()) {
            tries += 1;
            match error {
                rustix::io::Errno::BUSY if tries < UNMOUNT_TRIES => std::thread::sleep(UNMOUNT_WAIT),
                // Not root: the session knows `fusermount3`.
                rustix::io::Errno::PERM => return session.umount_and_join(),
                error => {
                    self.session = Some(session);
                    return Err(error.into());
                }
            }
        }
        session.join()
    }

    /// Cuts the power of a machine whose processes were killed, and gives it back.
    ///
    /// # Errors
    /// If a process still has a file open, or the real disk fails.
    pub fn lose_power(&mut self, cut: Cut) -> io::Result<Lost> {
        self.detach()?;
        let lost = lock(&self.files).forget(cut)?;
        self.attach()?;
        Ok(lost)
    }

    /// What is wrong with it from now on.
    pub fn set(&self, trouble: Trouble) {
        lock(&self.files).trouble = trouble;
    }

    /// How many operations met what is or was wrong with it: were refused, or waited.
    #[must_use]
    pub fn met(&self) -> u64 {
        lock(&self.files).met
    }

    /// Bytes of all files.
    #[must_use]
    pub fn used(&self) -> u64 {
        lock(&self.files).used
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = self.detach() {
            eprintln!("{} stays mounted: {error}", self.at.display());
        }
    }
}

fn lock(files: &Mutex<Files>) -> MutexGuard<'_, Files> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
}
