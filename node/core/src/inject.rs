//! Named points in the code at which a simulation interferes or listens. Without the feature `faults`, as in every
//! release, they are constants that the compiler removes.
//!
//! - [`is_armed`]: a deliberate fault of our own, so that the checks can be shown to catch it;
//! - [`rarely`]: a rare path that is right at any time and that a simulation makes common;
//! - [`sometimes`]: counts that a rare branch was reached.
//!
//! The core stays pure in what it gives back: what is installed is of one thread, a simulation runs on one thread, and
//! all of its randomness comes from a seed. A thread on which nothing is installed behaves as a release. What [`rarely`]
//! guards must not show in a replica's state, or replicas would differ.
//!
//! The names stand in lists of the simulator, and a test of it compares those with the code.

#[cfg(feature = "faults")]
pub use armed::{Counts, Installed, calm, install};
#[cfg(feature = "faults")]
use armed::{arms, count, draws};

/// Whether this program was built with what a simulation interferes with: it is slower then, and nothing that is measured of it counts.
pub const IS_BUILT_IN: bool = cfg!(feature = "faults");

/// Whether the deliberate fault of this name is on.
#[inline(always)]
#[must_use]
pub fn is_armed(fault: &'static str) -> bool {
    #[cfg(feature = "faults")]
    return arms(fault);
    #[cfg(not(feature = "faults"))]
    {
        let _ = fault;
        false
    }
}

/// Counts that `condition` held here. Returns it, so that the branch can stand in one line.
#[inline(always)]
pub fn sometimes(branch: &'static str, condition: bool) -> bool {
    #[cfg(feature = "faults")]
    if condition {
        count(branch);
    }
    let _ = branch;
    condition
}

/// Whether to take the rare path here, though nothing asks for it.
#[inline(always)]
#[must_use]
pub fn rarely(point: &'static str) -> bool {
    #[cfg(feature = "faults")]
    return draws(point);
    #[cfg(not(feature = "faults"))]
    {
        let _ = point;
        false
    }
}

/// As [`rarely`], and at most once in a simulation.
#[inline(always)]
#[must_use]
pub fn rarely_once(point: &'static str) -> bool {
    #[cfg(feature = "faults")]
    return !armed::was_reached(point) && draws(point);
    #[cfg(not(feature = "faults"))]
    {
        let _ = point;
        false
    }
}

#[cfg(feature = "faults")]
mod armed {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeMap;

    /// How often each branch was reached and each point drawn.
    pub type Counts = BTreeMap<&'static str, u64>;

    /// Of the points of a run, one in so many is active: what always happens hides what happens without it.
    const ACTIVE_ONE_IN: u64 = 3;

    /// An active point is taken once in so many visits.
    const TAKEN_ONE_IN: u64 = 4;

    struct State {
        /// Of the points; none if they are off.
        seed: Option<u64>,
        draws: u64,
        counts: Counts,
    }

    thread_local! {
        static ARMED: Cell<Option<&'static str>> = const { Cell::new(None) };
        static STATE: RefCell<Option<State>> = const { RefCell::new(None) };
    }

    /// Ends the interference when it is dropped.
    pub struct Installed(());

    /// Arms one fault or none on this thread, and lets the rare paths be taken by this seed. What was installed before
    /// is replaced.
    #[must_use]
    pub fn install(fault: Option<&'static str>, seed: Option<u64>) -> Installed {
        ARMED.set(fault);
        STATE.set(Some(State { seed, draws: 0, counts: Counts::new() }));
        Installed(())
    }

    /// From now on no rare path is taken on this thread: some of them put off what else would be done soon.
    pub fn calm() {
        STATE.with_borrow_mut(|state| {
            if let Some(state) = state {
                state.seed = None;
            }
        });
    }

    impl Installed {
        /// What was reached so far; points under the name with which they were drawn.
        #[must_use]
        pub fn counts(&self) -> Counts {
            STATE.with_borrow(|state| state.as_ref().map(|state| state.counts.clone()).unwrap_or_default())
        }
    }

    impl Drop for Installed {
        fn drop(&mut self) {
            ARMED.set(None);
            STATE.set(None);
        }
    }

    pub(super) fn arms(fault: &'static str) -> bool {
        ARMED.get() == Some(fault)
    }

    pub(super) fn count(branch: &'static str) {
        STATE.with_borrow_mut(|state| {
            if let Some(state) = state {
                *state.counts.entry(branch).or_default() += 1;
            }
        });
    }

    pub(super) fn was_reached(point: &'static str) -> bool {
        STATE.with_borrow(|state| state.as_ref().is_some_and(|state| state.counts.contains_key(point)))
    }

    pub(super) fn draws(point: &'static str) -> bool {
        STATE.with_borrow_mut(|state| {
            let Some(State { seed: Some(seed), draws, counts }) = state else { return false };
            let name = point.bytes().fold(*seed, |sum, byte| mixed(sum ^ u64::from(byte)));
            if !name.is_multiple_of(ACTIVE_ONE_IN) {
                return false;
            }
            *draws += 1;
            let taken = mixed(name ^ *draws).is_multiple_of(TAKEN_ONE_IN);
            if taken {
                *counts.entry(point).or_default() += 1;
            }
            taken
        })
    }

    /// One step of splitmix64.
    fn mixed(seed: u64) -> u64 {
        let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    #[cfg(test)]
    mod tests {
        use super::super::{is_armed, rarely, sometimes};
        use super::*;

        #[test]
        fn what_is_installed_works_until_it_is_dropped() {
            let taken = |seed| {
                let installed = install(Some("forget"), Some(seed));
                assert!(is_armed("forget") && !is_armed("remember"));
                sometimes("seen", false);
                sometimes("seen", true);
                let taken: Vec<bool> = (0..200).map(|_| rarely("cut early")).collect();
                calm();
                assert!((0..20).all(|_| !rarely("cut early")), "calm");
                let counts = installed.counts();
                assert_eq!(counts.get("seen"), Some(&1));
                assert_eq!(
                    counts.get("cut early").copied().unwrap_or(0),
                    taken.iter().filter(|taken| **taken).count() as u64
                );
                taken
            };
            let runs: Vec<Vec<bool>> = (0..20).map(taken).collect();
            assert_eq!(runs, (0..20).map(taken).collect::<Vec<_>>(), "a seed says which are taken");
            let active = runs.iter().filter(|run| run.contains(&true)).count();
            assert!((2..18).contains(&active), "{active} of 20 runs take it");
            assert!(!is_armed("forget") && !rarely("cut early"));
            assert!(sometimes("seen", true), "it gives back the condition on a thread without any");
        }
    }
}
