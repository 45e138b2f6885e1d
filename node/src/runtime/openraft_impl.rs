//! [`Runtime`]: openraft's `AsyncRuntime` on top of the parent module's functions.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::time::Duration;

use openraft_rt::{AsyncRuntime, OptionalSend};
use openraft_rt_tokio::{TokioMpsc, TokioMutex, TokioOneshot};

use super::watch::Watch;
use super::{Elapsed, Instant, JoinError, JoinHandle, Sleep, Timeout};

/// openraft's runtime: tokio in production, the installed simulator in a simulation.
pub struct Runtime {
    tokio: tokio::runtime::Runtime,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}

/// Random numbers from the chance seam, for openraft's election timeouts.
#[derive(Debug, Clone, Copy)]
pub struct Chance;

impl rand_core::TryRng for Chance {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        super::fill_random(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(super::random_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        super::fill_random(bytes);
        Ok(())
    }
}

impl openraft_rt::Instant for Instant {
    fn now() -> Self {
        super::now()
    }
}

impl AsyncRuntime for Runtime {
    type JoinError = JoinError;
    type JoinHandle<T: OptionalSend + 'static> = JoinHandle<T>;
    type Sleep = Sleep;
    type Instant = Instant;
    type TimeoutError = Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = Timeout<T>;
    type ThreadLocalRng = Chance;
    type Mpsc = TokioMpsc;
    type Watch = Watch;
    type Oneshot = TokioOneshot;
    type Mutex<T: OptionalSend + 'static> = TokioMutex<T>;

    fn spawn<T>(future: T) -> JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        super::spawn("openraft", future)
    }

    fn sleep(duration: Duration) -> Sleep {
        super::sleep(duration)
    }

    fn sleep_until(deadline: Instant) -> Sleep {
        super::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Timeout<F> {
        super::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Instant, future: F) -> Timeout<F> {
        super::timeout_at(deadline, future)
    }

    fn is_panic(error: &JoinError) -> bool {
        *error == JoinError::Panicked
    }

    fn thread_rng() -> Chance {
        Chance
    }

    /// For openraft's tests only; the node brings its own tokio runtime.
    #[allow(clippy::expect_used, reason = "tests only")]
    fn new(threads: usize) -> Self {
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build()
            .expect("the operating system gives threads");
        Runtime { tokio }
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.tokio.block_on(future)
    }

    // In place: a thread of its own would be beyond the simulator.
    async fn spawn_blocking<F, T>(work: F) -> Result<T, io::Error>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        Ok(super::blocking(work))
    }
}
