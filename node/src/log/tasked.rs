//! The driver of the log for the simulator: [`Tasked`] flushes in a task, and a flush takes time.

use std::future::poll_fn;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use dinhba_core::ids::GroupId;
use dinhba_core::store::{Done, LogEngine, LogState, StoreError};
use tokio::sync::Notify;

use super::commit::{Queue, close};
use super::segments::{LogOptions, SegmentLog};
use crate::disk::Disk;
use crate::runtime;
use crate::seal::Sealer;

/// One writer task for all groups of a node, with the order and the sharing of flushes of
/// [`GroupCommit`](super::GroupCommit).
///
/// Half of a flush's time passes before the disk is touched and half between the sync and the acknowledgements, so that a
/// crash can fall before, into and after it. A killed task answers nobody, as a process that died.
///
/// Limit: a call never waits for room, since it could only wait by stopping the one thread: callers that stage faster
/// than a slow disk takes it cost memory.
pub struct Tasked {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    /// Something waits, or the end has come.
    work: Notify,
    flush_time: Arc<dyn Fn() -> Duration + Send + Sync>,
}

/// Passes `time`, and lets others run even if it is none.
async fn pass(time: Duration) {
    if !time.is_zero() {
        return runtime::sleep(time).await;
    }
    let mut yielded = false;
    poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write_until_closed(&self) {
        loop {
            let flush = {
                let mut queue = self.lock();
                if queue.is_empty() && queue.closing {
                    close(&mut queue.log);
                    return;
                }
                (!queue.is_empty()).then(|| queue.begin())
            };
            let Some(flush) = flush else {
                self.work.notified().await;
                continue;
            };
            let time = (self.flush_time)();
            pass(time / 2).await;
            let flushed = flush.run();
            pass(time - time / 2).await;
            let answers = flushed.end(&mut self.lock().log);
            answers.tell();
        }
    }
}

impl Tasked {
    /// Opens the log in `dir` and starts its writer: to be called from a task of the node. `flush_time` is asked at each
    /// flush. Dropping the log lets the writer, if it lives, write what waits and close in good order.
    pub fn open_with(
        disk: Arc<dyn Disk>,
        dir: &Path,
        sealer: Arc<dyn Sealer>,
        options: LogOptions,
        flush_time: Arc<dyn Fn() -> Duration + Send + Sync>,
    ) -> Result<Arc<dyn LogEngine>, StoreError> {
        let log = SegmentLog::open_with(disk, dir, sealer, options)?;
        let shared = Arc::new(Shared { queue: Mutex::new(Queue::new(log)), work: Notify::new(), flush_time });
        let writer = Arc::clone(&shared);
        runtime::spawn("log writer", async move { writer.write_until_closed().await });
        Ok(Arc::new(Tasked { shared }))
    }

    fn submit(&self, done: Done, stage: impl FnOnce(&mut SegmentLog) -> Result<(), StoreError>) {
        let submitted = self.shared.lock().submit(done, stage);
        match submitted {
            Ok(()) => self.shared.work.notify_one(),
            Err(answers) => answers.tell(),
        }
    }
}

impl Drop for Tasked {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.work.notify_one();
    }
}

impl LogEngine for Tasked {
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
        self.shared.lock().log.read(group, from, to)
    }
    fn state(&self, group: GroupId) -> Result<LogState, StoreError> {
        self.shared.lock().log.state(group)
    }
    fn groups(&self) -> Result<Vec<GroupId>, StoreError> {
        self.shared.lock().log.groups()
    }
}
