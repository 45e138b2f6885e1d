//! What a client takes from its surroundings: time, waiting and chance. Production takes them from the machine; the
//! simulator hands over its own, and the same client runs in virtual time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use futures::future::{BoxFuture, Either, select};
use rand::RngCore;

/// Clock and chance.
pub trait Ambient: Send + Sync + 'static {
    /// Time since some fixed moment; never goes back.
    fn elapsed(&self) -> Duration;
    /// What the wall clock says: UTC milliseconds.
    fn utc_ms(&self) -> i64;
    /// Is done after `duration`.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
    /// Fills `bytes` at random.
    fn fill(&self, bytes: &mut [u8]);
}

/// The machine's own clock and chance, with tokio's timers.
#[derive(Debug)]
pub struct Machine {
    started: Instant,
}

impl Default for Machine {
    fn default() -> Self {
        Machine { started: Instant::now() }
    }
}

impl Ambient for Machine {
    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
    fn utc_ms(&self) -> i64 {
        // A clock before 1970 is wrong anyway; the site stamps its own time of receipt.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }
    fn fill(&self, bytes: &mut [u8]) {
        rand::rng().fill_bytes(bytes);
    }
}

/// What `work` gives, if it is done within `limit`.
pub(crate) async fn within<T>(ambient: &dyn Ambient, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    match select(std::pin::pin!(work), ambient.sleep(limit)).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}

/// A time from `half` of `full` to `full`: callers that failed together do not come back together.
pub(crate) fn jitter(ambient: &dyn Ambient, full: Duration) -> Duration {
    let mut byte = [0];
    ambient.fill(&mut byte);
    full / 2 + full * u32::from(byte[0]) / 510
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_between_half_and_full() {
        let (machine, full) = (Machine::default(), Duration::from_millis(100));
        for _ in 0..500 {
            let pause = jitter(&machine, full);
            assert!(pause >= full / 2 && pause <= full, "{pause:?}");
        }
    }

    #[tokio::test]
    async fn work_that_takes_too_long_is_given_up() {
        let machine = Machine::default();
        assert_eq!(within(&machine, Duration::from_secs(5), async { 7 }).await, Some(7));
        assert_eq!(within(&machine, Duration::from_millis(1), futures::future::pending::<()>()).await, None);
    }
}
