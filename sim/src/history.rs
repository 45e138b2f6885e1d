//! What officers asked of sites and what they were told: the material of the checks.
//!
//! Owns: the record of operations, in the order in which they were called and answered. Promises: moments are all different
//! and in the order in which things happened, also within one instant of virtual time.
//! Leaves to others: who asks what (`officers`), and what may be concluded (`checks`).
//!
//! One operation is one request on one field of one record, with all its retries and with all nodes that it was sent to: it
//! begins with the first call and ends with the first definite answer. An edit of several fields is an operation on each.
//! If it was refused as stale for the sake of another field, then on this one nothing was done.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dinhba_core::ids::RecordId;
use dinhba_core::record::FieldKey;

/// When something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Its place in the order of everything that was recorded.
    pub sequence: u64,
    /// Virtual time since the run began.
    pub at: Duration,
}

/// Names a value of a field; never that of another write. Not a dot: a client that was given no answer knows none, and a
/// re-issued edit has another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(pub u64);

/// The current values of a field: none before the first write, several in a conflict.
pub type Values = BTreeSet<ValueId>;

/// A field of a record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The record.
    pub record: RecordId,
    /// The field, and which of its elements.
    pub field: FieldKey,
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// What is there?
    Read,
    /// Put `id` in the place of what I saw.
    Write {
        /// What the author saw.
        overwrites: Values,
        /// The new value.
        id: ValueId,
    },
}

/// What was answered. No answer, or one that does not say what became of the request, is none of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered {
    /// A read saw these.
    Saw(Values),
    /// The write was accepted.
    Accepted,
    /// The write was refused, since other values were there than its author saw; which, a read would tell.
    Stale,
    /// The write was refused for another reason, and had no effect.
    Refused,
}

/// One request on one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Code of the site that was asked.
    pub site: String,
    /// Who asked: his place in the scenario.
    pub officer: usize,
    /// The field.
    pub key: Key,
    /// When it was first sent.
    pub called: Moment,
    /// What was asked.
    pub asked: Asked,
    /// The first definite answer; absent if there was none.
    pub answered: Option<(Moment, Answered)>,
}

/// Names an operation of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OperationId(usize);

/// All operations of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    operations: Vec<Operation>,
    moments: u64,
}

impl History {
    fn moment(&mut self, at: Duration) -> Moment {
        self.moments += 1;
        Moment { sequence: self.moments, at }
    }

    /// `officer` sends a request now.
    pub fn called(&mut self, at: Duration, site: &str, officer: usize, key: Key, asked: Asked) -> OperationId {
        let called = self.moment(at);
        self.operations.push(Operation { site: site.to_owned(), officer, key, called, asked, answered: None });
        OperationId(self.operations.len() - 1)
    }

    /// A definite answer came now. Only the first counts; later ones answer other sendings of the same request.
    pub fn answered(&mut self, at: Duration, operation: OperationId, answer: Answered) {
        let moment = self.moment(at);
        if let Some(operation) = self.operations.get_mut(operation.0)
            && operation.answered.is_none()
        {
            operation.answered = Some((moment, answer));
        }
    }

    /// All operations, in the order of their calls.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The operations on each field, at whatever site.
    #[must_use]
    pub fn by_key(&self) -> BTreeMap<&Key, Vec<&Operation>> {
        let mut found: BTreeMap<&Key, Vec<&Operation>> = BTreeMap::new();
        for operation in &self.operations {
            found.entry(&operation.key).or_default().push(operation);
        }
        found
    }
}
