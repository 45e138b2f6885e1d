//! What clients of a site were told about a field could have come from one register, asked one request at a time.
//!
//! See `linearizability` for the search. A site's history is cut where a disk was lost or restored. Undecided searches are
//! counted in the figures of a run.

use super::{Check, World, linearizability};
use crate::scenario::Promise;

pub struct Linearizable;

impl Check for Linearizable {
    fn promise(&self) -> Promise {
        Promise::Linearizable
    }

    fn judge(&mut self, world: &World) -> Vec<String> {
        let mut ledger = world.oracle.ledger();
        let broken: Vec<String> =
            ledger.breaks.iter().map(|(site, _)| world.country.sites()[*site].code.clone()).collect();
        let findings = linearizability::check(&ledger.history, linearizability::WORK_MAX);
        ledger.undecided = findings.undecided.len();
        let counted = findings.violations.iter().filter(|violation| !broken.contains(&violation.site));
        counted.map(ToString::to_string).collect()
    }
}
