//! Whether there is a state that readers may be shown, and whether somebody met damage in it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;

/// Between a group's machine, one after the other, and those who read its state past it: whether there is a state now, and
/// whether they met damage in it.
#[derive(Debug, Default)]
pub(crate) struct Condition {
    /// Odd while the state is replaced.
    replacing: AtomicU64,
    /// The first entry that readers have not been shown: a state that ends before it must not be shown any more.
    shown: AtomicU64,
    suspect: AtomicBool,
    lost: AtomicBool,
    told: Notify,
}

impl Condition {
    /// A number that differs after each replacement; none while the state is replaced, or if that failed. A view that was
    /// taken between two equal answers shows a state.
    pub(crate) fn steady(&self) -> Option<u64> {
        let number = self.replacing.load(Ordering::SeqCst);
        number.is_multiple_of(2).then_some(number)
    }

    /// Says that a reader met damage; whether it is the first to say so.
    pub(crate) fn suspect(&self) -> bool {
        !self.suspect.swap(true, Ordering::SeqCst)
    }

    pub(super) fn take_suspicion(&self) -> bool {
        self.suspect.swap(false, Ordering::SeqCst)
    }

    /// From now on there is no state.
    pub(crate) fn begin(&self) {
        self.replacing.fetch_or(1, Ordering::SeqCst);
    }

    /// There is a whole state up to `applied`. If readers have seen a later one, they wait until it is there again.
    pub(crate) fn whole(&self, applied: Option<u64>) {
        let end = applied.map_or(0, |index| index + 1);
        if self.shown.fetch_max(end, Ordering::SeqCst) <= end && self.steady().is_none() {
            self.replacing.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Says that the state is damaged and cannot be had again from what is on this node.
    pub(crate) fn lose(&self) {
        self.lost.store(true, Ordering::SeqCst);
        self.told.notify_one();
    }

    /// Whether that was said since this was asked last.
    pub(crate) fn take_loss(&self) -> bool {
        self.lost.swap(false, Ordering::SeqCst)
    }

    /// Waits until it is said.
    pub(crate) async fn loss(&self) {
        while !self.lost.load(Ordering::SeqCst) {
            self.told.notified().await;
        }
    }
}
