//! Ends a process whose run hangs: a task that never yields stops virtual time, and nothing inside the run can tell of it.
//!
//! It looks from a thread of its own and changes nothing in the run, so equal seeds stay equal.
//!
//! Limit: it ends the whole process, other runs too, since a thread cannot be stopped from outside.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::executor::Handle;

/// One poll may take so long of wall time: the longest judgement of a run of days takes a fraction of it.
const POLL_MAX: Duration = Duration::from_secs(300);

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Watches until it is dropped.
pub struct Watched(#[allow(dead_code, reason = "its end is the sign")] Sender<()>);

/// Watches a run: if one poll goes on for five minutes, tells seed and task and exits with 1.
#[must_use]
pub fn watch(handle: Handle, seed: u64) -> Watched {
    watch_with(handle, POLL_MAX, LOOK_EVERY, move |task| {
        eprintln!(
            "seed {seed}: the task {task:?} has not yielded for {} s: it hangs. Run it under a debugger: \
             cargo run --release -p dinhba-sim -- run --seed {seed}",
            POLL_MAX.as_secs()
        );
        std::process::exit(1);
    })
}

fn watch_with(handle: Handle, longest: Duration, every: Duration, hangs: impl Fn(&str) + Send + 'static) -> Watched {
    let (alive, ends) = mpsc::channel();
    thread::spawn(move || {
        let (mut seen, mut since) = (handle.pulse(), Instant::now());
        while ends.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
            let now = handle.pulse();
            if now != seen {
                (seen, since) = (now, Instant::now());
            } else if since.elapsed() > longest {
                hangs(seen.1);
                return;
            }
        }
    });
    Watched(alive)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use dinhba_node::runtime;

    use super::*;
    use crate::executor::Simulator;

    #[test]
    fn a_task_that_never_yields_is_named() {
        let named = Arc::new(Mutex::new(None));
        let mut simulator = Simulator::new(1);
        let told = Arc::clone(&named);
        let _watched =
            watch_with(simulator.handle(), Duration::from_millis(50), Duration::from_millis(5), move |task| {
                *told.lock().expect("nobody panics") = Some(task.to_owned())
            });
        let seen = Arc::clone(&named);
        simulator.run(Duration::from_secs(1), async move {
            let stuck = runtime::spawn("stuck", async move {
                while seen.lock().expect("nobody panics").is_none() {
                    thread::sleep(Duration::from_millis(1));
                }
            });
            let _ = stuck.await;
        });
        assert_eq!(named.lock().expect("nobody panics").as_deref(), Some("stuck"));
    }
}
