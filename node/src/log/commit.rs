//! Two drivers of the log: [`GroupCommit`] with a thread of its own, [`Inline`] without.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use dinhba_core::ids::GroupId;
use dinhba_core::store::{Done, LogEngine, LogState, StoreError};

use super::segments::{LogOptions, SegmentLog};
use super::writer::{Finished, Job};
use crate::disk::Disk;
use crate::seal::Sealer;

/// Staged bytes above which `append` and the others wait for the writer: a few flushes' worth, and twice this is the
/// most memory that a slow disk can cost.
const STAGED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// One writer thread for all groups of a node: what waits when it looks shares one flush.
///
/// A call waits while more than 8 MiB are staged. A [`Done`] runs on the writer's thread and must not call the log.
pub struct GroupCommit {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

struct Shared {
    queue: Mutex<Queue>,
    /// Something waits, or the end has come.
    work: Condvar,
    /// The writer took what was staged.
    room: Condvar,
}

/// What waits for the next flush.
pub(super) struct Queue {
    pub log: SegmentLog,
    /// Who waits for what is staged, in the order of the calls.
    waiting: Vec<Done>,
    pub closing: bool,
}

impl Queue {
    pub fn new(log: SegmentLog) -> Self {
        Queue { log, waiting: Vec::new(), closing: false }
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Stages for `done`, which then waits for the next flush; or the answer that it is to be told now.
    pub fn submit(
        &mut self,
        done: Done,
        stage: impl FnOnce(&mut SegmentLog) -> Result<(), StoreError>,
    ) -> Result<(), Answers> {
        match stage(&mut self.log) {
            Ok(()) => {
                self.waiting.push(done);
                Ok(())
            }
            Err(error) => Err(Answers { waiting: vec![done], outcome: Err(error) }),
        }
    }

    /// Persist, flush, then acknowledge: `begin`, [`Flush::run`], [`Flushed::end`], [`Answers::tell`]. Each takes what
    /// the one before it gives, so there is no other order.
    ///
    /// `waiting` is taken under the same lock as the frames, so whoever is told waited for frames of this job or an
    /// earlier one. The job writes and flushes outside the lock: others stage meanwhile, and share the next flush. Only
    /// after `end` has recorded the outcome is anyone told: who asks the log on being told finds it settled or
    /// poisoned. A job that failed is never tried again, since after a failed flush nobody knows what the disk holds.
    pub fn begin(&mut self) -> Flush {
        Flush { waiting: std::mem::take(&mut self.waiting), work: self.log.check().map(|()| self.log.take()) }
    }
}

/// One flush and who waits for it; no work if nothing is staged or the log has failed.
pub(super) struct Flush {
    waiting: Vec<Done>,
    work: Result<Option<Job>, StoreError>,
}

impl Flush {
    pub fn run(self) -> Flushed {
        Flushed { waiting: self.waiting, finished: self.work.map(|job| job.map(Job::run)) }
    }
}

/// What came of a flush, before anyone knows.
pub(super) struct Flushed {
    waiting: Vec<Done>,
    finished: Result<Option<Finished>, StoreError>,
}

impl Flushed {
    pub fn end(self, log: &mut SegmentLog) -> Answers {
        let outcome = self.finished.and_then(|finished| finished.map_or(Ok(()), |finished| log.finish(finished)));
        Answers { waiting: self.waiting, outcome }
    }
}

/// To be told without the lock.
#[must_use]
pub(super) struct Answers {
    waiting: Vec<Done>,
    outcome: Result<(), StoreError>,
}

impl Answers {
    pub fn tell(self) {
        for done in self.waiting {
            done(self.outcome.clone());
        }
    }
}

impl Shared {
    // A panic under the lock is the writer's, which has poisoned the log, or a caller's before it changed anything.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_what_waits<'a>(&'a self, mut queue: MutexGuard<'a, Queue>) {
        let flush = queue.begin();
        drop(queue);
        self.room.notify_all();
        let flushed = flush.run();
        let answers = flushed.end(&mut self.lock().log);
        // A failed log holds nobody back.
        self.room.notify_all();
        answers.tell();
    }

    fn write_until_closed(&self) {
        let _watch = Watch(self);
        loop {
            let mut queue = self.lock();
            while queue.is_empty() && !queue.closing {
                queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            if queue.is_empty() {
                close(&mut queue.log);
                return;
            }
            self.write_what_waits(queue);
        }
    }
}

/// Poisons the log if the writer panics, so that nobody waits for it.
struct Watch<'a>(&'a Shared);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let error = StoreError::Poisoned("the log's writer panicked".to_owned());
            let mut queue = self.0.lock();
            queue.log.fail(&error);
            queue.closing = true;
            let waiting = std::mem::take(&mut queue.waiting);
            drop(queue);
            self.0.room.notify_all();
            Answers { waiting, outcome: Err(error) }.tell();
        }
    }
}

pub(super) fn close(log: &mut SegmentLog) {
    if log.check().is_ok()
        && let Err(error) = log.close()
    {
        tracing::error!(%error, "log not synced at shutdown");
    }
}

impl GroupCommit {
    /// Opens the log in `dir` and starts its writer. Dropping it writes what waits, flushes and joins the writer.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, sealer: Arc<dyn Sealer>) -> Result<Arc<dyn LogEngine>, StoreError> {
        Self::open_with(disk, dir, sealer, LogOptions::default())
    }

    /// [`open`](Self::open) with other sizes.
    pub fn open_with(
        disk: Arc<dyn Disk>,
        dir: &Path,
        sealer: Arc<dyn Sealer>,
        options: LogOptions,
    ) -> Result<Arc<dyn LogEngine>, StoreError> {
        let log = SegmentLog::open_with(disk, dir, sealer, options)?;
        let queue = Mutex::new(Queue::new(log));
        let shared = Arc::new(Shared { queue, work: Condvar::new(), room: Condvar::new() });
        let writer = thread::Builder::new().name("log-writer".to_owned()).spawn({
            let shared = shared.clone();
            move || shared.write_until_closed()
        });
        let writer = writer.map_err(|error| StoreError::Io(format!("start the log's writer: {error}")))?;
        Ok(Arc::new(GroupCommit { shared, writer: Some(writer) }))
    }

    fn submit(&self, done: Done, stage: impl FnOnce(&mut SegmentLog) -> Result<(), StoreError>) {
        let mut queue = self.shared.lock();
        while queue.log.staged_bytes() >= STAGED_BYTES_MAX && queue.log.check().is_ok() {
            queue = self.shared.room.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let submitted = queue.submit(done, stage);
        drop(queue);
        match submitted {
            Ok(()) => self.shared.work.notify_one(),
            Err(answers) => answers.tell(),
        }
    }
}

impl Drop for GroupCommit {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.work.notify_one();
        if let Some(writer) = self.writer.take().filter(|writer| writer.thread().id() != thread::current().id())
            && writer.join().is_err()
        {
            tracing::error!("the log's writer panicked");
        }
    }
}

impl LogEngine for GroupCommit {
    fn append(&self, group: GroupId, entries: Vec<(u64, Vec<u8>)>, done: Done) {
        self.submit(done, |log| log.append(group, entries));
    }
    fn save_vote(&self, group: GroupId, vote: Vec<u8>, done: Done) {
        self.submit(done, |log| log.save_vote(group, vote));
    }
    fn truncate_from(&self, group: GroupId, index: u64, done: Done) {
        self.submit(done, |log| log.truncate_from(group, index));
    }
    fn purge_to(&self, group: GroupId, index: u64, mark: Vec<u8>, done: Done) {
        self.submit(done, |log| log.purge_to(group, index, mark));
    }
    fn touch(&self, done: Done) {
        // Nothing is staged by it, so there is no room to wait for.
        let submitted = self.shared.lock().submit(done, SegmentLog::touch);
        match submitted {
            Ok(()) => self.shared.work.notify_one(),
            Err(answers) => answers.tell(),
        }
    }
    fn read(&self, group: GroupId, from: u64, to: u64) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        self.shared.lock().log.read(group, from, to)
    }
    fn state(&self, group: GroupId) -> Result<LogState, StoreError> {
        self.shared.lock().log.state(group)
    }
    fn groups(&self) -> Result<Vec<GroupId>, StoreError> {
        self.shared.lock().log.groups()
    }
}

/// The log without a thread: each call flushes before it returns. For the simulator and tests.
pub struct Inline {
    log: Mutex<SegmentLog>,
}

impl Inline {
    /// Opens the log in `dir`.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, sealer: Arc<dyn Sealer>) -> Result<Arc<dyn LogEngine>, StoreError> {
        Self::open_with(disk, dir, sealer, LogOptions::default())
    }

    /// [`open`](Self::open) with other sizes.
    pub fn open_with(
        disk: Arc<dyn Disk>,
        dir: &Path,
        sealer: Arc<dyn Sealer>,
        options: LogOptions,
    ) -> Result<Arc<dyn LogEngine>, StoreError> {
        Ok(Arc::new(Inline { log: Mutex::new(SegmentLog::open_with(disk, dir, sealer, options)?) }))
    }

    fn lock(&self) -> MutexGuard<'_, SegmentLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stage, flush, let go of the lock, acknowledge.
    fn submit(&self, done: Done, stage: impl FnOnce(&mut SegmentLog) -> Result<(), StoreError>) {
        let outcome = {
            let mut log = self.lock();
            stage(&mut log).and_then(|()| log.flush())
        };
        done(outcome);
    }
}

impl Drop for Inline {
    fn drop(&mut self) {
        close(&mut self.lock());
    }
}

impl LogEngine for Inline {
    fn append(&self, group: GroupId, entries: Vec<(u64, Vec<u8>)>, done: Done) {
        self.submit(done, |log| log.append(group, entries));
    }
    fn save_vote(&self, group: GroupId, vote: Vec<u8>, done: Done) {
        self.submit(done, |log| log.save_vote(group, vote));
    }
    fn truncate_from(&self, group: GroupId, index: u64, done: Done) {
        self.submit(done, |log| log.truncate_from(group, index));
    }
    fn purge_to(&self, group: GroupId, index: u64, mark: Vec<u8>, done: Done) {
        self.submit(done, |log| log.purge_to(group, index, mark));
    }
    fn touch(&self, done: Done) {
        self.submit(done, SegmentLog::touch);
    }
    fn read(&self, group: GroupId, from: u64, to: u64) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        self.lock().read(group, from, to)
    }
    fn state(&self, group: GroupId) -> Result<LogState, StoreError> {
        self.lock().state(group)
    }
    fn groups(&self) -> Result<Vec<GroupId>, StoreError> {
        self.lock().groups()
    }
}
