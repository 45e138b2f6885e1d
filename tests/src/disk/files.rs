//! The files of a disk as processes see them, what of them is flushed, and what a power cut makes of the rest.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fuser::{Errno, FileAttr, FileType, INodeNo, RenameFlags};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Cut, Lost, Trouble};

/// What a disk writes whole or not at all.
pub(super) const SECTOR_BYTES: usize = 512;
/// What a disk reads or not.
const BLOCK_BYTES: u64 = 4096;

/// A change of a file that is not on the disk yet.
enum Pending {
    Write(u64, Vec<u8>),
    Length(u64),
}

pub(super) struct Regular {
    /// As processes see it.
    pub(super) now: Vec<u8>,
    /// What the disk does not have yet, in order.
    pending: Vec<Pending>,
    /// What the disk has.
    flushed: File,
    pub(super) opened: u32,
    named: bool,
}

enum Node {
    File(Regular),
    Dir(BTreeMap<OsString, u64>),
}

struct Inode {
    node: Node,
    mode: u16,
    /// Where it was made: what [`Trouble::unreadable`] goes by.
    path: PathBuf,
}

/// A change of names, which happens whole or not at all.
#[derive(Clone)]
enum Naming {
    Put { dir: u64, name: OsString, inode: u64 },
    Take { dir: u64, name: OsString },
    Move { from: (u64, OsString), to: (u64, OsString) },
}

impl Naming {
    fn touches(&self, inode: u64) -> bool {
        match self {
            Naming::Put { dir, .. } | Naming::Take { dir, .. } => *dir == inode,
            Naming::Move { from, to } => from.0 == inode || to.0 == inode,
        }
    }

    fn apply(&self, dirs: &mut BTreeMap<u64, BTreeMap<OsString, u64>>) {
        match self {
            Naming::Put { dir, name, inode } => {
                dirs.entry(*dir).or_default().insert(name.clone(), *inode);
            }
            Naming::Take { dir, name } => {
                dirs.entry(*dir).or_default().remove(name);
            }
            Naming::Move { from, to } => {
                if let Some(inode) = dirs.entry(from.0).or_default().remove(&from.1) {
                    dirs.entry(to.0).or_default().insert(to.1.clone(), inode);
                }
            }
        }
    }
}

pub(super) struct Files {
    backing: PathBuf,
    inodes: BTreeMap<u64, Inode>,
    next: u64,
    /// The names that are on the disk, and those that are not yet.
    flushed: BTreeMap<u64, BTreeMap<OsString, u64>>,
    namings: Vec<Naming>,
    pub(super) trouble: Trouble,
    rng: ChaCha8Rng,
    /// Bytes of all files, kept up with every change.
    pub(super) used: u64,
    /// How often [`Trouble`] was met.
    pub(super) met: u64,
}

pub(super) type Answer<T> = Result<T, Errno>;

impl Files {
    /// An empty disk.
    pub(super) fn new(backing: &Path, seed: u64) -> Self {
        let root = Inode { node: Node::Dir(BTreeMap::new()), mode: 0o700, path: PathBuf::new() };
        Files {
            backing: backing.to_owned(),
            inodes: BTreeMap::from([(INodeNo::ROOT.0, root)]),
            next: INodeNo::ROOT.0 + 1,
            flushed: BTreeMap::new(),
            namings: Vec::new(),
            trouble: Trouble::default(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            used: 0,
            met: 0,
        }
    }

    pub(super) fn dir(&mut self, inode: u64) -> Answer<&mut BTreeMap<OsString, u64>> {
        match &mut self.inodes.get_mut(&inode).ok_or(Errno::ENOENT)?.node {
            Node::Dir(names) => Ok(names),
            Node::File(_) => Err(Errno::ENOTDIR),
        }
    }

    pub(super) fn file(&mut self, inode: u64) -> Answer<&mut Regular> {
        match &mut self.inodes.get_mut(&inode).ok_or(Errno::ENOENT)?.node {
            Node::File(file) => Ok(file),
            Node::Dir(_) => Err(Errno::EISDIR),
        }
    }

    pub(super) fn find(&mut self, parent: u64, name: &OsStr) -> Answer<u64> {
        self.dir(parent)?.get(name).copied().ok_or(Errno::ENOENT)
    }

    /// Sets the mode bits of a file or directory.
    pub(super) fn set_mode(&mut self, inode: u64, mode: u32) {
        if let Some(inode) = self.inodes.get_mut(&inode) {
            inode.mode = (mode & 0o7777) as u16;
        }
    }

    pub(super) fn attributes(&self, inode: u64) -> Answer<FileAttr> {
        let found = self.inodes.get(&inode).ok_or(Errno::ENOENT)?;
        let (kind, size) = match &found.node {
            Node::File(file) => (FileType::RegularFile, file.now.len() as u64),
            Node::Dir(_) => (FileType::Directory, 0),
        };
        let time = SystemTime::UNIX_EPOCH;
        Ok(FileAttr {
            ino: INodeNo(inode),
            size,
            blocks: size.div_ceil(SECTOR_BYTES as u64),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm: found.mode,
            nlink: 1,
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    pub(super) fn make(&mut self, parent: u64, name: &OsStr, mode: u32, is_dir: bool) -> Answer<u64> {
        if self.find(parent, name).is_ok() {
            return Err(Errno::EEXIST);
        }
        self.room(1)?;
        let inode = self.next;
        self.next += 1;
        let node = if is_dir {
            Node::Dir(BTreeMap::new())
        } else {
            let flushed = backing_file(&self.backing, inode).map_err(Errno::from)?;
            Node::File(Regular { now: Vec::new(), pending: Vec::new(), flushed, opened: 0, named: true })
        };
        let path = self.inodes[&parent].path.join(name);
        self.dir(parent)?.insert(name.to_owned(), inode);
        self.inodes.insert(inode, Inode { node, mode: (mode & 0o7777) as u16, path });
        self.namings.push(Naming::Put { dir: parent, name: name.to_owned(), inode });
        Ok(inode)
    }

    pub(super) fn remove(&mut self, parent: u64, name: &OsStr, is_dir: bool) -> Answer<()> {
        let inode = self.find(parent, name)?;
        match &self.inodes[&inode].node {
            Node::Dir(_) if !is_dir => return Err(Errno::EISDIR),
            Node::File(_) if is_dir => return Err(Errno::ENOTDIR),
            Node::Dir(names) if !names.is_empty() => return Err(Errno::ENOTEMPTY),
            _ => {}
        }
        self.dir(parent)?.remove(name);
        self.namings.push(Naming::Take { dir: parent, name: name.to_owned() });
        self.unnamed(inode);
        Ok(())
    }

    pub(super) fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr), flags: RenameFlags) -> Answer<()> {
        let inode = self.find(from.0, from.1)?;
        let replaced = self.find(to.0, to.1).ok();
        if flags.contains(RenameFlags::RENAME_NOREPLACE) && replaced.is_some() {
            return Err(Errno::EEXIST);
        }
        if !(flags - RenameFlags::RENAME_NOREPLACE).is_empty() {
            return Err(Errno::EINVAL);
        }
        if let Some(replaced) = replaced.filter(|replaced| *replaced != inode) {
            if matches!(&self.inodes[&replaced].node, Node::Dir(names) if !names.is_empty()) {
                return Err(Errno::ENOTEMPTY);
            }
            self.unnamed(replaced);
        }
        self.dir(from.0)?.remove(from.1);
        self.dir(to.0)?.insert(to.1.to_owned(), inode);
        let naming = Naming::Move { from: (from.0, from.1.to_owned()), to: (to.0, to.1.to_owned()) };
        self.namings.push(naming);
        Ok(())
    }

    /// The file has no name any more; without a process that has it open, its space is free.
    fn unnamed(&mut self, inode: u64) {
        if let Ok(file) = self.file(inode) {
            file.named = false;
        }
        self.let_go(inode);
    }

    pub(super) fn let_go(&mut self, inode: u64) {
        let Ok(file) = self.file(inode) else { return };
        if !file.named && file.opened == 0 {
            let freed = std::mem::take(&mut file.now).len() as u64;
            file.pending.clear();
            self.used -= freed;
        }
    }

    /// Whether so many bytes more fit.
    pub(super) fn room(&mut self, more: u64) -> Answer<()> {
        if self.trouble.bytes_max.is_some_and(|most| self.used + more > most) {
            self.met += 1;
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    pub(super) fn write(&mut self, inode: u64, offset: u64, data: &[u8]) -> Answer<()> {
        let end = offset + data.len() as u64;
        let more = end.saturating_sub(self.file(inode)?.now.len() as u64);
        if more > 0 {
            self.room(more)?;
        }
        let pending = Pending::Write(offset, data.to_vec());
        let file = self.file(inode)?;
        put(&mut file.now, offset, data);
        file.pending.push(pending);
        self.used += more;
        Ok(())
    }

    pub(super) fn set_length(&mut self, inode: u64, length: u64) -> Answer<()> {
        let before = self.file(inode)?.now.len() as u64;
        if length > before {
            self.room(length - before)?;
        }
        let file = self.file(inode)?;
        file.now.resize(usize::try_from(length).map_err(|_| Errno::EFBIG)?, 0);
        file.pending.push(Pending::Length(length));
        self.used = self.used - before + length;
        Ok(())
    }

    pub(super) fn read(&mut self, inode: u64, offset: u64, size: u32) -> Answer<&[u8]> {
        let end = (offset + u64::from(size)).min(self.file(inode)?.now.len() as u64);
        if let Some((below, one_in)) = &self.trouble.unreadable
            && self.inodes.get(&inode).is_some_and(|inode| inode.path.starts_with(below))
            && (offset / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES)).any(|block| is_bad(inode, block, *one_in))
        {
            self.met += 1;
            return Err(Errno::EIO);
        }
        let now = &self.file(inode)?.now;
        let from = now.len().min(usize::try_from(offset).unwrap_or(usize::MAX));
        Ok(&now[from..now.len().min(from.saturating_add(size as usize))])
    }

    /// How long this flush is to take.
    pub(super) fn delay(&mut self) -> Option<Duration> {
        let slow = self.trouble.slow?;
        self.met += 1;
        let stalls = self.rng.next_u32().is_multiple_of(Trouble::STALLS_ONE_IN);
        Some(if stalls { slow * 10 } else { slow.mul_f64(self.rng.random_range(0.0..1.0)) })
    }

    /// Brings what the disk does not have of a file yet to it.
    pub(super) fn flush(&mut self, inode: u64) -> Answer<()> {
        if self.trouble.lies {
            self.met += 1;
            return Ok(());
        }
        let file = self.file(inode)?;
        // Only what is on the real disk is taken off the list.
        for pending in &file.pending {
            pending.apply(&file.flushed).map_err(Errno::from)?;
        }
        file.flushed.sync_data().map_err(Errno::from)?;
        file.pending.clear();
        Ok(())
    }

    /// Commits the names up to the last change of a directory.
    pub(super) fn flush_dir(&mut self, inode: u64) {
        let Some(last) = self.namings.iter().rposition(|naming| naming.touches(inode)) else { return };
        for naming in self.namings.drain(..=last) {
            naming.apply(&mut self.flushed);
        }
    }

    /// Forgets what was not flushed, but for what `cut` lets through.
    pub(super) fn forget(&mut self, cut: Cut) -> io::Result<Lost> {
        let mut lost = Lost::default();
        let kept = match cut {
            Cut::Clean => 0,
            // Names are journaled: some of the first ones, in order.
            Cut::Torn | Cut::Scattered => self.rng.random_range(0..=self.namings.len()),
        };
        lost.names = (self.namings.len() - kept) as u64;
        for naming in self.namings.drain(..).take(kept) {
            naming.apply(&mut self.flushed);
        }
        for inode in self.inodes.values_mut() {
            let Node::File(file) = &mut inode.node else { continue };
            let whole = match cut {
                Cut::Clean => 0,
                Cut::Torn => self.rng.random_range(0..=file.pending.len()),
                Cut::Scattered => file.pending.len(),
            };
            for (at, pending) in file.pending.drain(..).enumerate() {
                let is_lost = match (cut, at.cmp(&whole)) {
                    (Cut::Torn, std::cmp::Ordering::Less) => {
                        pending.apply(&file.flushed)?;
                        false
                    }
                    (Cut::Torn, std::cmp::Ordering::Equal) => {
                        if let Pending::Write(offset, bytes) = &pending {
                            let part = self.rng.random_range(0..=bytes.len());
                            file.flushed.write_all_at(&bytes[..part], *offset)?;
                        }
                        true
                    }
                    (Cut::Scattered, _) => scatter(&pending, &file.flushed, &mut self.rng)?,
                    _ => true,
                };
                if let (true, Pending::Write(_, bytes)) = (is_lost, &pending) {
                    lost.writes += 1;
                    lost.bytes += bytes.len() as u64;
                }
            }
        }
        self.boot()?;
        Ok(lost)
    }

    /// Begins from what the disk has.
    fn boot(&mut self) -> io::Result<()> {
        let mut known = std::mem::take(&mut self.inodes);
        let mut wanted = vec![u64::from(INodeNo::ROOT)];
        while let Some(number) = wanted.pop() {
            let Some(mut inode) = known.remove(&number) else { continue };
            match &mut inode.node {
                Node::Dir(names) => {
                    *names = self.flushed.get(&number).cloned().unwrap_or_default();
                    wanted.extend(names.values());
                }
                Node::File(file) => {
                    file.now = fs::read(backing_path(&self.backing, number))?;
                    (file.opened, file.named) = (0, true);
                }
            }
            self.inodes.insert(number, inode);
        }
        for (number, inode) in known {
            self.flushed.remove(&number);
            if matches!(inode.node, Node::File(_)) {
                fs::remove_file(backing_path(&self.backing, number))?;
            }
        }
        let lengths = self.inodes.values().map(|inode| match &inode.node {
            Node::File(file) => file.now.len() as u64,
            Node::Dir(_) => 0,
        });
        self.used = lengths.sum();
        Ok(())
    }
}

/// Whether a block is one of the bad ones: by chance, but always the same.
fn is_bad(inode: u64, block: u64, one_in: u32) -> bool {
    let mixed = (inode << 32 ^ block).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 33).is_multiple_of(u64::from(one_in))
}

fn put(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let offset = usize::try_from(offset).expect("a file of a test fits into memory");
    if bytes.len() < offset + data.len() {
        bytes.resize(offset + data.len(), 0);
    }
    bytes[offset..offset + data.len()].copy_from_slice(data);
}

impl Pending {
    fn apply(&self, file: &File) -> io::Result<()> {
        match self {
            Pending::Write(offset, bytes) => file.write_all_at(bytes, *offset),
            Pending::Length(length) => file.set_len(*length),
        }
    }
}

/// Keeps some of the sectors; whether any is lost.
fn scatter(pending: &Pending, file: &File, rng: &mut ChaCha8Rng) -> io::Result<bool> {
    match pending {
        Pending::Length(_) => pending.apply(file).map(|()| false),
        Pending::Write(offset, bytes) => {
            let mut is_lost = false;
            let mut at = 0;
            while at < bytes.len() {
                let from = usize::try_from(*offset).expect("a file of a test fits into memory") + at;
                let end = bytes.len().min(at + SECTOR_BYTES - from % SECTOR_BYTES);
                if rng.random() {
                    file.write_all_at(&bytes[at..end], from as u64)?;
                } else {
                    is_lost = true;
                }
                at = end;
            }
            Ok(is_lost)
        }
    }
}

fn backing_path(backing: &Path, inode: u64) -> PathBuf {
    backing.join(inode.to_string())
}

fn backing_file(backing: &Path, inode: u64) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).open(backing_path(backing, inode))
}
