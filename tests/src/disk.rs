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

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How long the kernel may believe what it was told of a name or a file: nobody changes it but by way of the kernel.
const TTL: Duration = Duration::from_secs(60);
/// Threads that answer, so that a slow flush holds up only who waits for it.
const THREADS: usize = 4;
/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;
/// What a disk reads or not.
const BLOCK_BYTES: u64 = 4096;
/// How often, and how long each time, a mount is waited for that a killed process has not let go of yet: two seconds.
const UNMOUNT_TRIES: u32 = 100;
const UNMOUNT_WAIT: Duration = Duration::from_millis(20);
/// `fallocate` that leaves the length of the file as it is.
const KEEP_SIZE: i32 = 1;
/// What `statfs` tells of a disk without a limit.
const PLENTY_BYTES: u64 = 1 << 40;

/// What becomes of writes that were not flushed when the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// A change of a file that is not on the disk yet.
enum Pending {
    Write(u64, Vec<u8>),
    Length(u64),
}

struct Regular {
    /// As processes see it.
    now: Vec<u8>,
    /// What the disk does not have yet, in order.
    pending: Vec<Pending>,
    /// What the disk has.
    flushed: File,
    opened: u32,
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

struct State {
    backing: PathBuf,
    inodes: BTreeMap<u64, Inode>,
    next: u64,
    /// The names that are on the disk, and those that are not yet.
    flushed: BTreeMap<u64, BTreeMap<OsString, u64>>,
    namings: Vec<Naming>,
    trouble: Trouble,
    rng: ChaCha8Rng,
    /// Bytes of all files, kept up with every change.
    used: u64,
    /// How often [`Trouble`] was met.
    met: u64,
}

type Answer<T> = Result<T, Errno>;

impl State {
    fn dir(&mut self, inode: u64) -> Answer<&mut BTreeMap<OsString, u64>> {
        match &mut self.inodes.get_mut(&inode).ok_or(Errno::ENOENT)?.node {
            Node::Dir(names) => Ok(names),
            Node::File(_) => Err(Errno::ENOTDIR),
        }
    }

    fn file(&mut self, inode: u64) -> Answer<&mut Regular> {
        match &mut self.inodes.get_mut(&inode).ok_or(Errno::ENOENT)?.node {
            Node::File(file) => Ok(file),
            Node::Dir(_) => Err(Errno::EISDIR),
        }
    }

    fn find(&mut self, parent: u64, name: &OsStr) -> Answer<u64> {
        self.dir(parent)?.get(name).copied().ok_or(Errno::ENOENT)
    }

    fn attributes(&self, inode: u64) -> Answer<FileAttr> {
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

    fn make(&mut self, parent: u64, name: &OsStr, mode: u32, is_dir: bool) -> Answer<u64> {
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

    fn remove(&mut self, parent: u64, name: &OsStr, is_dir: bool) -> Answer<()> {
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

    fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr), flags: RenameFlags) -> Answer<()> {
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

    fn let_go(&mut self, inode: u64) {
        let Ok(file) = self.file(inode) else { return };
        if !file.named && file.opened == 0 {
            let freed = std::mem::take(&mut file.now).len() as u64;
            file.pending.clear();
            self.used -= freed;
        }
    }

    fn room(&mut self, more: u64) -> Answer<()> {
        if self.trouble.bytes_max.is_some_and(|most| self.used + more > most) {
            self.met += 1;
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    fn write(&mut self, inode: u64, offset: u64, data: &[u8]) -> Answer<()> {
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

    fn set_length(&mut self, inode: u64, length: u64) -> Answer<()> {
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

    fn read(&mut self, inode: u64, offset: u64, size: u32) -> Answer<&[u8]> {
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
    fn delay(&mut self) -> Option<Duration> {
        let slow = self.trouble.slow?;
        self.met += 1;
        let stalls = self.rng.next_u32().is_multiple_of(Trouble::STALLS_ONE_IN);
        Some(if stalls { slow * 10 } else { slow.mul_f64(self.rng.random_range(0.0..1.0)) })
    }

    fn flush(&mut self, inode: u64) -> Answer<()> {
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

    fn flush_dir(&mut self, inode: u64) {
        let Some(last) = self.namings.iter().rposition(|naming| naming.touches(inode)) else { return };
        for naming in self.namings.drain(..=last) {
            naming.apply(&mut self.flushed);
        }
    }

    /// Forgets what was not flushed, but for what `cut` lets through.
    fn forget(&mut self, cut: Cut) -> io::Result<Lost> {
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

/// The file system's answers to the kernel.
struct Answering(Arc<Mutex<State>>);

impl Answering {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    fn entry(&self, found: impl FnOnce(&mut State) -> Answer<u64>) -> Answer<FileAttr> {
        let mut state = self.state();
        let inode = found(&mut state)?;
        state.attributes(inode)
    }

    fn opened(&self, inode: u64, by: i32) {
        let mut state = self.state();
        if let Ok(file) = state.file(inode) {
            file.opened = file.opened.saturating_add_signed(by);
        }
        state.let_go(inode);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn empty(reply: ReplyEmpty, answer: Answer<()>) {
    match answer {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

fn entry(reply: ReplyEntry, answer: Answer<FileAttr>) {
    match answer {
        Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
        Err(error) => reply.error(error),
    }
}

#[allow(clippy::too_many_arguments, reason = "the kernel's protocol")]
impl Filesystem for Answering {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        entry(reply, self.entry(|state| state.find(parent.0, name)));
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.state().attributes(inode.0) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let changed = self.entry(|state| {
            if let (Some(mode), Some(inode)) = (mode, state.inodes.get_mut(&inode.0)) {
                inode.mode = (mode & 0o7777) as u16;
            }
            if let Some(size) = size {
                state.set_length(inode.0, size)?;
            }
            Ok(inode.0)
        });
        match changed {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        entry(reply, self.entry(|state| state.make(parent.0, name, mode, true)));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.state().remove(parent.0, name, false));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.state().remove(parent.0, name, true));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        empty(reply, self.state().rename((parent.0, name), (newparent.0, newname), flags));
    }

    fn open(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.opened(inode.0, 1);
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, _: i32, reply: ReplyCreate) {
        match self.entry(|state| state.make(parent.0, name, mode, false)) {
            Ok(attributes) => {
                self.opened(attributes.ino.0, 1);
                reply.created(&TTL, &attributes, Generation(0), FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
            }
            Err(error) => reply.error(error),
        }
    }

    fn release(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.opened(inode.0, -1);
        reply.ok();
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.state().read(inode.0, offset, size) {
            Ok(bytes) => reply.data(bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.state().write(inode.0, offset, data) {
            Ok(()) => reply.written(u32::try_from(data.len()).expect("the kernel writes less at a time")),
            Err(error) => reply.error(error),
        }
    }

    fn fsync(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let delay = self.state().delay();
        if let Some(delay) = delay {
            std::thread::sleep(delay);
        }
        empty(reply, self.state().flush(inode.0));
    }

    fn fsyncdir(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.state().flush_dir(inode.0);
        reply.ok();
    }

    fn fallocate(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let mut state = self.state();
        let now = state.file(inode.0).map(|file| file.now.len() as u64);
        let answer = match (mode, now) {
            (_, Err(error)) => Err(error),
            (0, Ok(now)) if now < offset + length => state.set_length(inode.0, offset + length),
            (0, Ok(_)) => Ok(()),
            (KEEP_SIZE, Ok(now)) => state.room((offset + length).saturating_sub(now)),
            _ => Err(Errno::EOPNOTSUPP),
        };
        empty(reply, answer);
    }

    fn readdir(&self, _: &Request, inode: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let mut state = self.state();
        let names = match state.dir(inode.0) {
            Ok(names) => names.clone(),
            Err(error) => return reply.error(error),
        };
        let dots = [(OsString::from("."), inode.0), (OsString::from(".."), inode.0)];
        for (at, (name, number)) in dots.into_iter().chain(names).enumerate().skip(usize::try_from(offset).unwrap_or(0))
        {
            let is_file = state.file(number).is_ok();
            let kind = if is_file { FileType::RegularFile } else { FileType::Directory };
            if reply.add(INodeNo(number), at as u64 + 1, kind, &name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let state = self.state();
        let blocks = |bytes: u64| bytes / SECTOR_BYTES as u64;
        let most = state.trouble.bytes_max.unwrap_or(PLENTY_BYTES);
        let free = blocks(most.saturating_sub(state.used));
        reply.statfs(blocks(most), free, free, u64::from(u32::MAX), u64::from(u32::MAX), SECTOR_BYTES as u32, 255, 0);
    }
}

/// A mounted disk. Unmounted when dropped; what it holds is gone then.
pub struct Disk {
    state: Arc<Mutex<State>>,
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
        let root = Inode { node: Node::Dir(BTreeMap::new()), mode: 0o700, path: PathBuf::new() };
        let state = State {
            backing: backing.to_owned(),
            inodes: BTreeMap::from([(INodeNo::ROOT.0, root)]),
            next: INodeNo::ROOT.0 + 1,
            flushed: BTreeMap::new(),
            namings: Vec::new(),
            trouble: Trouble::default(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            used: 0,
            met: 0,
        };
        let mut disk = Disk { state: Arc::new(Mutex::new(state)), at: at.to_owned(), session: None };
        disk.attach()?;
        Ok(disk)
    }

    fn attach(&mut self) -> io::Result<()> {
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("dinhba-disk".to_owned()), MountOption::NoAtime];
        config.n_threads = Some(THREADS);
        self.session = Some(fuser::spawn_mount(Answering(Arc::clone(&self.state)), &self.at, &config)?);
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
        let lost = lock(&self.state).forget(cut)?;
        self.attach()?;
        Ok(lost)
    }

    /// What is wrong with it from now on.
    pub fn set(&self, trouble: Trouble) {
        lock(&self.state).trouble = trouble;
    }

    /// How many operations met what is or was wrong with it: were refused, or waited.
    #[must_use]
    pub fn met(&self) -> u64 {
        lock(&self.state).met
    }

    /// Bytes of all files.
    #[must_use]
    pub fn used(&self) -> u64 {
        lock(&self.state).used
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = self.detach() {
            eprintln!("{} stays mounted: {error}", self.at.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// None where nothing can be mounted.
    fn disk(dir: &Path) -> Option<Disk> {
        match Disk::mount(&dir.join("disk"), &dir.join("flushed"), 1) {
            Ok(disk) => Some(disk),
            Err(error) => {
                println!("skipped: no file system in user space can be mounted here: {error}");
                None
            }
        }
    }

    #[test]
    fn what_was_flushed_outlives_the_power_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let Some(mut disk) = disk(dir.path()) else { return };
        let root = dir.path().join("disk");
        fs::create_dir(root.join("d")).unwrap();
        let sync = |path: &Path| File::open(path).unwrap().sync_all().unwrap();
        let mut file = File::create(root.join("d/a")).unwrap();
        file.write_all(b"flushed").unwrap();
        file.sync_data().unwrap();
        sync(&root.join("d"));
        file.write_all(b" and not").unwrap();
        // The bytes are flushed, the names of file and of directory are not.
        let mut nameless = File::create(root.join("d/b")).unwrap();
        nameless.write_all(b"b").unwrap();
        nameless.sync_all().unwrap();
        fs::rename(root.join("d/a"), root.join("d/c")).unwrap();
        assert_eq!(fs::read(root.join("d/c")).unwrap(), b"flushed and not");
        drop((file, nameless));
        let lost = disk.lose_power(Cut::Clean).unwrap();
        assert_eq!(lost, Lost { writes: 1, bytes: 8, names: 2 });
        assert_eq!(fs::read(root.join("d/a")).unwrap(), b"flushed");
        assert_eq!(fs::read_dir(root.join("d")).unwrap().count(), 1);
        assert_eq!(disk.used(), 7);
        // A name without bytes, and bytes that were cut off.
        File::create(root.join("d/e")).unwrap().write_all(b"e").unwrap();
        sync(&root.join("d"));
        File::options().write(true).open(root.join("d/a")).unwrap().set_len(2).unwrap();
        disk.lose_power(Cut::Clean).unwrap();
        assert_eq!((fs::read(root.join("d/e")).unwrap(), fs::read(root.join("d/a")).unwrap().len()), (vec![], 7));
    }

    #[test]
    fn a_torn_cut_leaves_a_beginning_and_a_scattered_one_whole_sectors() {
        let dir = tempfile::tempdir().unwrap();
        let Some(mut disk) = disk(dir.path()) else { return };
        let path = dir.path().join("disk/a");
        let (mut lengths, mut holes) = (std::collections::BTreeSet::new(), 0);
        for _ in 0..10 {
            let file = File::create(&path).unwrap();
            file.sync_all().unwrap();
            File::open(dir.path().join("disk")).unwrap().sync_all().unwrap();
            for at in 0..20 {
                file.write_all_at(&[1; 1000], at * 1000).unwrap();
            }
            drop(file);
            disk.lose_power(Cut::Torn).unwrap();
            let found = fs::read(&path).unwrap();
            assert!(found.iter().all(|byte| *byte == 1));
            lengths.insert(found.len());
            let file = File::create(&path).unwrap();
            file.write_all_at(&[0; 20_480], 0).unwrap();
            file.sync_all().unwrap();
            file.write_all_at(&[1; 20_480], 0).unwrap();
            drop(file);
            disk.lose_power(Cut::Scattered).unwrap();
            let found = fs::read(&path).unwrap();
            let sectors: Vec<bool> = found.chunks(SECTOR_BYTES).map(|sector| sector[0] == 1).collect();
            assert!(found.chunks(SECTOR_BYTES).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
            holes += sectors.windows(2).filter(|pair| !pair[0] && pair[1]).count();
        }
        assert!(lengths.len() > 3 && holes > 10, "{lengths:?}, {holes} holes");
    }

    #[test]
    fn it_is_full_unreadable_and_slow_when_it_is_told_to_be() {
        let dir = tempfile::tempdir().unwrap();
        let Some(disk) = disk(dir.path()) else { return };
        let path = dir.path().join("disk/a");
        fs::write(&path, [1; 1000]).unwrap();
        disk.set(Trouble { bytes_max: Some(1500), ..Trouble::default() });
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let full = |error: io::Error| error.kind() == io::ErrorKind::StorageFull;
        assert!(file.write_all_at(&[1; 1000], 1000).is_err_and(full) && file.set_len(2000).is_err_and(full));
        file.write_all_at(&[2; 500], 1000).unwrap();
        disk.set(Trouble { unreadable: Some(("a".into(), 1)), ..Trouble::default() });
        assert_eq!(fs::read(&path).unwrap_err().raw_os_error(), Some(5));
        disk.set(Trouble { slow: Some(Duration::from_millis(200)), ..Trouble::default() });
        let began = std::time::Instant::now();
        (0..5).for_each(|_| file.sync_all().unwrap());
        assert!(began.elapsed() > Duration::from_millis(50));
        disk.set(Trouble::default());
        fs::remove_file(&path).unwrap();
        assert_eq!((disk.used(), file.metadata().unwrap().len()), (1500, 1500), "it is still open");
    }
}
