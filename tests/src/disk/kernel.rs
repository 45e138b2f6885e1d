//! What the kernel asks of a file system in user space, and what it is answered.

use std::ffi::{OsStr, OsString};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags,
    RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs,
    ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::files::{Answer, Files, SECTOR_BYTES};
use super::lock;

/// How long the kernel may believe what it was told of a name or a file: nobody changes it but by way of the kernel.
const TTL: Duration = Duration::from_secs(60);
/// `fallocate` that leaves the length of the file as it is.
const KEEP_SIZE: i32 = 1;
/// What `statfs` tells of a disk without a limit.
const PLENTY_BYTES: u64 = 1 << 40;

/// How often a flush that hangs looks whether it still does.
const HANGS_LOOK: Duration = Duration::from_millis(20);

/// The file system's answers to the kernel.
pub(super) struct Answering(pub(super) Arc<Mutex<Files>>);

impl Answering {
    fn files(&self) -> MutexGuard<'_, Files> {
        lock(&self.0)
    }

    fn entry(&self, found: impl FnOnce(&mut Files) -> Answer<u64>) -> Answer<FileAttr> {
        let mut files = self.files();
        let inode = found(&mut files)?;
        files.attributes(inode)
    }

    fn opened(&self, inode: u64, by: i32) {
        let mut files = self.files();
        if let Ok(file) = files.file(inode) {
            file.opened = file.opened.saturating_add_signed(by);
        }
        files.let_go(inode);
    }
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
        entry(reply, self.entry(|files| files.find(parent.0, name)));
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.files().attributes(inode.0) {
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
        let changed = self.entry(|files| {
            if let Some(mode) = mode {
                files.set_mode(inode.0, mode);
            }
            if let Some(size) = size {
                files.set_length(inode.0, size)?;
            }
            Ok(inode.0)
        });
        match changed {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        entry(reply, self.entry(|files| files.make(parent.0, name, mode, true)));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.files().remove(parent.0, name, false));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.files().remove(parent.0, name, true));
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
        empty(reply, self.files().rename((parent.0, name), (newparent.0, newname), flags));
    }

    fn open(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.opened(inode.0, 1);
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, _: i32, reply: ReplyCreate) {
        match self.entry(|files| files.make(parent.0, name, mode, false)) {
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
        match self.files().read(inode.0, offset, size) {
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
        match self.files().write(inode.0, offset, data) {
            Ok(()) => reply.written(u32::try_from(data.len()).expect("the kernel writes less at a time")),
            Err(error) => reply.error(error),
        }
    }

    fn fsync(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let delay = self.files().delay();
        if let Some(delay) = delay {
            std::thread::sleep(delay);
        }
        while self.files().trouble.hangs {
            std::thread::sleep(HANGS_LOOK);
        }
        empty(reply, self.files().flush(inode.0));
    }

    fn fsyncdir(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.files().flush_dir(inode.0);
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
        let mut files = self.files();
        let now = files.file(inode.0).map(|file| file.now.len() as u64);
        let answer = match (mode, now) {
            (_, Err(error)) => Err(error),
            (0, Ok(now)) if now < offset + length => files.set_length(inode.0, offset + length),
            (0, Ok(_)) => Ok(()),
            (KEEP_SIZE, Ok(now)) => files.room((offset + length).saturating_sub(now)),
            _ => Err(Errno::EOPNOTSUPP),
        };
        empty(reply, answer);
    }

    fn readdir(&self, _: &Request, inode: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let mut files = self.files();
        let names = match files.dir(inode.0) {
            Ok(names) => names.clone(),
            Err(error) => return reply.error(error),
        };
        let dots = [(OsString::from("."), inode.0), (OsString::from(".."), inode.0)];
        for (at, (name, number)) in dots.into_iter().chain(names).enumerate().skip(usize::try_from(offset).unwrap_or(0))
        {
            let is_file = files.file(number).is_ok();
            let kind = if is_file { FileType::RegularFile } else { FileType::Directory };
            if reply.add(INodeNo(number), at as u64 + 1, kind, &name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let files = self.files();
        let blocks = |bytes: u64| bytes / SECTOR_BYTES as u64;
        let most = files.trouble.bytes_max.unwrap_or(PLENTY_BYTES);
        let free = blocks(most.saturating_sub(files.used));
        reply.statfs(blocks(most), free, free, u64::from(u32::MAX), u64::from(u32::MAX), SECTOR_BYTES as u32, 255, 0);
    }
}
