//! The seams of clock, chance and tasks.
//!
//! Everything in the node that waits, measures time, draws a random number or starts a task does it through this
//! module; so does openraft, through [`Runtime`]. In production the calls go to tokio and the operating system. On a
//! thread where a simulator is installed ([`install`]) they go to it, and the same code runs in virtual time.
//!
//! Promises: on a simulated thread nothing here depends on the machine, so one seed gives one run. Tasks inherit the
//! [`NodeScope`] of the task that spawned them, so that a simulator can end all tasks of one node.
//!
//! Limits: channels are tokio's `mpsc` and `oneshot`, whose wake-ups are first come first served; `watch` is our own,
//! since tokio's wakes its receivers in random order. An [`Instant`] means nothing on another thread's simulator.

mod openraft_impl;
pub mod watch;

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::oneshot;

pub use openraft_impl::Runtime;

/// Names a node to the simulator; a task belongs to the node of the task that spawned it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct NodeScope(pub u64);

/// Names a registered timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimerId(pub u64);

/// What stands in for tokio and the operating system on the thread where it is installed.
///
/// It polls its tasks on that thread only; `Send` and `Sync` are asked for because futures and wakers carry handles.
pub trait Simulated: Send + Sync {
    /// Starts a task in the current node scope.
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>);
    /// Virtual time since the simulation began.
    fn now(&self) -> Duration;
    /// What the current node's wall clock shows, in milliseconds since 1970 UTC; it may be wrong on purpose.
    fn utc_ms(&self) -> i64;
    /// Calls `waker` once `at` (on [`now`](Self::now)'s clock) is reached.
    fn register_timer(&self, at: Duration, waker: Waker) -> TimerId;
    /// Forgets a timer; fine if it has run.
    fn cancel_timer(&self, timer: TimerId);
    /// Fills `bytes` from the seed.
    fn fill_random(&self, bytes: &mut [u8]);
}

thread_local! {
    static SIMULATED: RefCell<Option<Arc<dyn Simulated>>> = const { RefCell::new(None) };
}

/// Sends this thread's calls to `simulated` until the guard is dropped.
#[must_use = "dropping the guard uninstalls the simulator"]
pub fn install(simulated: Arc<dyn Simulated>) -> Installed {
    Installed { previous: SIMULATED.replace(Some(simulated)) }
}

/// Uninstalls a simulator when dropped.
pub struct Installed {
    previous: Option<Arc<dyn Simulated>>,
}

impl Drop for Installed {
    fn drop(&mut self) {
        let ended = SIMULATED.replace(self.previous.take());
        drop(ended);
    }
}

fn simulated() -> Option<Arc<dyn Simulated>> {
    // `try_with`: a task that is dropped with its thread may still ask.
    SIMULATED.try_with(|cell| cell.borrow().clone()).ok().flatten()
}

/// A point in time, to measure with; never goes back, and is unrelated to any calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant {
    /// Nanoseconds since the start of the process or of the simulation; signed, so that going back before it is fine.
    nanos: i64,
}

impl Instant {
    /// The start of the process, or of the simulation.
    pub const START: Instant = Instant { nanos: 0 };

    fn from_start(since: Duration) -> Self {
        Instant { nanos: nanos(since) }
    }

    fn since_start(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.nanos).unwrap_or(0))
    }
}

/// Saturates after 292 years.
fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Instant { nanos: self.nanos.saturating_add(nanos(duration)) }
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;
    fn sub(self, duration: Duration) -> Self {
        Instant { nanos: self.nanos.saturating_sub(nanos(duration)) }
    }
}

impl Sub for Instant {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.nanos.saturating_sub(earlier.nanos)).unwrap_or(0))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, duration: Duration) {
        *self = *self - duration;
    }
}

/// The start of the process, on tokio's clock: instants count from here.
#[allow(clippy::disallowed_methods, reason = "this is the seam")]
fn process_start() -> tokio::time::Instant {
    static START: OnceLock<tokio::time::Instant> = OnceLock::new();
    *START.get_or_init(tokio::time::Instant::now)
}

/// The present.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "this is the seam")]
pub fn now() -> Instant {
    match simulated() {
        Some(simulated) => Instant::from_start(simulated.now()),
        None => {
            let start = process_start();
            Instant::from_start(tokio::time::Instant::now().duration_since(start))
        }
    }
}

/// This node's wall clock: milliseconds since 1970, UTC. It may jump, and it may be wrong by hours.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "this is the seam")]
pub fn utc_ms() -> i64 {
    match simulated() {
        Some(simulated) => simulated.utc_ms(),
        None => match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        },
    }
}

/// Fills `bytes` with randomness from the operating system, or from the simulator's seed.
#[allow(clippy::disallowed_methods, reason = "this is the seam")]
pub fn fill_random(bytes: &mut [u8]) {
    match simulated() {
        Some(simulated) => simulated.fill_random(bytes),
        // Ids and keys are made of this; a node that cannot have it must not go on with something weaker.
        None => getrandom::fill(bytes).expect("the operating system gives random bytes"),
    }
}

/// Random bytes.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill_random(&mut bytes);
    bytes
}

/// A random number.
#[must_use]
pub fn random_u64() -> u64 {
    u64::from_le_bytes(random())
}

/// A random duration between half of `around` and one and a half of it, so that many waiters do not act in step.
#[must_use]
pub fn jitter(around: Duration) -> Duration {
    let half = around / 2;
    let spread = u64::try_from(around.as_micros()).unwrap_or(u64::MAX).max(1);
    half + Duration::from_micros(random_u64() % spread)
}

/// Starts a task. `name` says what it does, in the simulator's reports.
///
/// The task goes on if the handle is dropped.
#[allow(clippy::disallowed_methods, reason = "this is the seam")]
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    match simulated() {
        Some(simulated) => {
            let (sender, receiver) = oneshot::channel();
            simulated.spawn(
                name,
                Box::pin(async move {
                    // Nobody waits for it: fine.
                    let _ = sender.send(future.await);
                }),
            );
            JoinHandle(Handle::Simulated(receiver))
        }
        None => JoinHandle(Handle::Tokio(tokio::spawn(future))),
    }
}

/// Waits for a task's result.
pub struct JoinHandle<T>(Handle<T>);

enum Handle<T> {
    Tokio(tokio::task::JoinHandle<T>),
    Simulated(oneshot::Receiver<T>),
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").finish_non_exhaustive()
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Handle::Tokio(handle) => Pin::new(handle)
                .poll(context)
                .map_err(|error| if error.is_panic() { JoinError::Panicked } else { JoinError::Ended }),
            Handle::Simulated(receiver) => Pin::new(receiver).poll(context).map_err(|_| JoinError::Ended),
        }
    }
}

/// A task gave no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// It panicked.
    #[error("the task panicked")]
    Panicked,
    /// It was ended from outside: the runtime shut down, or its node was killed.
    #[error("the task was ended")]
    Ended,
}

/// Waits for `duration`.
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(now() + duration)
}

/// Waits until `deadline`.
#[allow(clippy::disallowed_methods, reason = "this is the seam")]
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep(match simulated() {
        Some(simulated) => Sleeping::Simulated { simulated, deadline: deadline.since_start(), timer: None },
        None => Sleeping::Tokio(Box::pin(tokio::time::sleep_until(process_start() + deadline.since_start()))),
    })
}

/// Completes at a set time.
pub struct Sleep(Sleeping);

enum Sleeping {
    Tokio(Pin<Box<tokio::time::Sleep>>),
    Simulated { simulated: Arc<dyn Simulated>, deadline: Duration, timer: Option<(TimerId, Waker)> },
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").finish_non_exhaustive()
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Sleeping::Tokio(sleep) => sleep.as_mut().poll(context),
            Sleeping::Simulated { simulated, deadline, timer } => {
                if simulated.now() >= *deadline {
                    return Poll::Ready(());
                }
                let same = timer.as_ref().is_some_and(|(_, waker)| waker.will_wake(context.waker()));
                if !same {
                    if let Some((old, _)) = timer.take() {
                        simulated.cancel_timer(old);
                    }
                    let waker = context.waker().clone();
                    *timer = Some((simulated.register_timer(*deadline, waker.clone()), waker));
                }
                Poll::Pending
            }
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Sleeping::Simulated { simulated, timer, .. } = &mut self.0
            && let Some((timer, _)) = timer.take()
        {
            simulated.cancel_timer(timer);
        }
    }
}

/// Gives `future` until `duration` has passed.
pub fn timeout<F: Future>(duration: Duration, future: F) -> Timeout<F> {
    timeout_at(now() + duration, future)
}

/// Gives `future` until `deadline`.
pub fn timeout_at<F: Future>(deadline: Instant, future: F) -> Timeout<F> {
    Timeout { future: Box::pin(future), sleep: sleep_until(deadline) }
}

/// A future with a deadline; when it is missed, the future is dropped with this.
#[derive(Debug)]
pub struct Timeout<F> {
    future: Pin<Box<F>>,
    sleep: Sleep,
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // The future first: a result that came just in time counts.
        if let Poll::Ready(output) = self.future.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(&mut self.sleep).poll(context).map(|()| Err(Elapsed))
    }
}

/// The deadline passed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the deadline passed")]
pub struct Elapsed;

/// Runs work that occupies the thread for long (reading and writing whole files) without holding up other tasks.
pub fn blocking<T>(work: impl FnOnce() -> T) -> T {
    if simulated().is_some() {
        return work();
    }
    match tokio::runtime::Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(tokio::runtime::RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openraft_s_own_suite_passes_on_tokio() {
        openraft_rt::testing::Suite::<Runtime>::test_all();
    }

    #[test]
    fn an_instant_before_the_start_is_earlier_and_never_a_negative_duration() {
        let start = Instant::from_start(Duration::ZERO);
        let before = start - Duration::from_secs(5);
        assert!(before < start);
        assert_eq!(before - start, Duration::ZERO);
        assert_eq!(start - before, Duration::from_secs(5));
    }
}
