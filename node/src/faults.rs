//! Deliberate faults, armed by name in test builds only: a check that cannot fail proves nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dinhba_core::ids::AuthorId;
use dinhba_proto::v1;

/// The edit that is swallowed, counted in this process; 0 for none.
const SWALLOWED: u64 = 40;

static WRITES_ANCESTORS: AtomicBool = AtomicBool::new(false);
static ARMED: AtomicU64 = AtomicU64::new(0);
static EDITS: AtomicU64 = AtomicU64::new(0);

/// Arms a fault.
///
/// # Errors
/// A name that is no fault.
pub fn arm(name: &str) -> Result<(), String> {
    match name {
        "drop-edit" => ARMED.store(SWALLOWED, Ordering::SeqCst),
        "write-ancestors" => WRITES_ANCESTORS.store(true, Ordering::SeqCst),
        other => return Err(format!("{other:?} is no fault: there are drop-edit and write-ancestors")),
    }
    Ok(())
}

/// Whether this site numbers edits of shards that it may not write.
pub(crate) fn writes_ancestors() -> bool {
    WRITES_ANCESTORS.load(Ordering::SeqCst)
}

/// Whether this edit is to be acknowledged and forgotten.
pub(crate) fn swallows_edit() -> bool {
    let armed = ARMED.load(Ordering::SeqCst);
    armed > 0 && EDITS.fetch_add(1, Ordering::SeqCst) + 1 == armed
}

/// What is told of an edit that was swallowed: the first one of `author`.
pub(crate) fn receipt_of_nothing(author: AuthorId) -> v1::Receipt {
    let first = v1::Dot { author: author.0.to_vec(), number: 1 };
    v1::Receipt { first: Some(first), count: 1, ..Default::default() }
}
