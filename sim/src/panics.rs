//! A panic inside a run, as text with its place, instead of lines on stderr.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    /// The first panic since this thread began to guard: the cause of those that follow while it unwinds.
    static FIRST: RefCell<Option<String>> = const { RefCell::new(None) };
    /// How many guards this thread is in.
    static GUARDS: Cell<u32> = const { Cell::new(0) };
}

/// Runs `f`; of a panic, what it said and where.
///
/// # Errors
/// A panic's message.
pub fn caught<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    keep_quietly();
    GUARDS.set(GUARDS.get() + 1);
    let result = catch_unwind(AssertUnwindSafe(f));
    GUARDS.set(GUARDS.get() - 1);
    result.map_err(|_| FIRST.take().unwrap_or_else(|| "panicked without a message".to_owned()))
}

/// From now on panics under a guard are kept; all others are printed as ever.
fn keep_quietly() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // A thread that ends may have no locals any more, and a panic in here would abort.
            if GUARDS.try_with(Cell::get).unwrap_or(0) == 0 {
                return usual(info);
            }
            let _ = FIRST.try_with(|first| {
                if let Ok(mut first) = first.try_borrow_mut() {
                    first.get_or_insert_with(|| info.to_string());
                }
            });
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_with_its_place_and_forgotten() {
        let told = caught(|| panic!("the roof leaks")).expect_err("it panics");
        assert!(told.contains("the roof leaks") && told.contains("panics.rs"), "{told}");
        assert_eq!(caught(|| caught(|| panic!("inside")).is_err()), Ok(true));
        assert_eq!(caught(|| 3), Ok(3));
    }
}
