//! A watch channel: one value, many readers, only the latest value counts.
//!
//! Like tokio's, with one difference: receivers wake in the order in which they were made, so that a simulation can be
//! repeated. Locks are held for moments only, and a [`Ref`] is one: keep it short, and never across an `await`.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::task::{Poll, Waker};

use openraft_rt::watch as seam;
use openraft_rt::{OptionalSend, OptionalSync};

pub use seam::{RecvError, SendError, WatchReceiver, WatchSender};

/// The channel, as openraft names it.
#[derive(Debug, Clone, Copy)]
pub struct Watch;

struct Shared<T> {
    // Taken before `state` where both are.
    value: RwLock<T>,
    state: Mutex<State>,
}

struct State {
    version: u64,
    senders: usize,
    receivers: usize,
    receiver_next: u64,
    waiting: BTreeMap<u64, Waker>,
}

// A panic while a lock is held leaves a value that is old or new, never half: it may still be read.
impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> Ref<'_, T> {
        Ref(self.value.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A look at the value; writers wait while it lives.
#[derive(Debug)]
pub struct Ref<'a, T>(RwLockReadGuard<'a, T>);

impl<T> Deref for Ref<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// Sets the value.
pub struct Sender<T>(Arc<Shared<T>>);

/// Reads the value and waits for the next.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    id: u64,
    seen: u64,
}

/// Makes a channel with a first value.
pub fn channel<T>(first: T) -> (Sender<T>, Receiver<T>) {
    let state = State { version: 0, senders: 1, receivers: 1, receiver_next: 1, waiting: BTreeMap::new() };
    let shared = Arc::new(Shared { value: RwLock::new(first), state: Mutex::new(state) });
    (Sender(Arc::clone(&shared)), Receiver { shared, id: 0, seen: 0 })
}

fn wake(waiting: BTreeMap<u64, Waker>) {
    for waker in waiting.into_values() {
        waker.wake();
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.state().senders += 1;
        Sender(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.senders -= 1;
        if state.senders == 0 {
            let waiting = std::mem::take(&mut state.waiting);
            drop(state);
            wake(waiting);
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        let mut state = self.shared.state();
        state.receivers += 1;
        state.receiver_next += 1;
        Receiver { shared: Arc::clone(&self.shared), id: state.receiver_next - 1, seen: self.seen }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.receivers -= 1;
        let waker = state.waiting.remove(&self.id);
        drop(state);
        drop(waker);
    }
}

impl seam::Watch for Watch {
    type Sender<T: OptionalSend + OptionalSync> = Sender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = Receiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = Ref<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(first: T) -> (Sender<T>, Receiver<T>) {
        channel(first)
    }
}

impl<T: OptionalSend + OptionalSync> WatchSender<Watch, T> for Sender<T> {
    fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.0.state().receivers == 0 {
            return Err(SendError(value));
        }
        self.send_if_modified(|current| {
            *current = value;
            true
        });
        Ok(())
    }

    fn send_if_modified<F>(&self, modify: F) -> bool
    where
        F: FnOnce(&mut T) -> bool,
    {
        let mut value = self.0.value.write().unwrap_or_else(PoisonError::into_inner);
        if !modify(&mut value) {
            return false;
        }
        // Raised while the value is locked: nobody sees the new value under the old version.
        let mut state = self.0.state();
        state.version += 1;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop(value);
        wake(waiting);
        true
    }

    fn borrow_watched(&self) -> Ref<'_, T> {
        self.0.read()
    }

    fn subscribe(&self) -> Receiver<T> {
        let mut state = self.0.state();
        state.receivers += 1;
        state.receiver_next += 1;
        Receiver { shared: Arc::clone(&self.0), id: state.receiver_next - 1, seen: state.version }
    }
}

impl<T: OptionalSend + OptionalSync> WatchReceiver<Watch, T> for Receiver<T> {
    async fn changed(&mut self) -> Result<(), RecvError> {
        let Receiver { shared, id, seen } = self;
        poll_fn(move |context| {
            let mut state = shared.state();
            if state.version != *seen {
                *seen = state.version;
                return Poll::Ready(Ok(()));
            }
            if state.senders == 0 {
                return Poll::Ready(Err(RecvError(())));
            }
            let old = state.waiting.insert(*id, context.waker().clone());
            drop(state);
            drop(old);
            Poll::Pending
        })
        .await
    }

    fn borrow_watched(&self) -> Ref<'_, T> {
        self.shared.read()
    }

    fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let value = self.shared.read();
        self.seen = self.shared.state().version;
        value
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_receiver_sees_each_change_once_and_then_the_end() {
        let (sender, mut receiver) = channel(1);
        assert!(receiver.changed().now_or_never().is_none());
        sender.send(2).expect("a receiver lives");
        assert_eq!(receiver.changed().now_or_never(), Some(Ok(())));
        assert_eq!(*receiver.borrow_watched(), 2);
        assert!(!sender.send_if_modified(|_| false));
        assert!(receiver.changed().now_or_never().is_none());
        drop(sender);
        assert_eq!(receiver.changed().now_or_never(), Some(Err(RecvError(()))));
    }

    #[test]
    fn a_value_without_readers_is_refused() {
        let (sender, receiver) = channel(1);
        drop(receiver);
        assert_eq!(sender.send(2), Err(SendError(2)));
        assert_eq!(*sender.borrow_watched(), 1);
    }
}
