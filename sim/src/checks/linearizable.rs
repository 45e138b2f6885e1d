//! What clients of a site were told about a field could have come from one register, asked one request at a time.
//!
//! See `linearizability` for the search. Undecided searches are counted in the figures of a run.
//!
//! Does not check: sites whose disk was lost or restored; and, at all sites, fields in which a site wrote that was restored
//! from a copy. Where both branches of such a fork wrote a field under one number, an overwrite may have meant either, and
//! a value that was replaced is shown beside the others again: a conflict for an officer, and no register does that.

use std::collections::BTreeSet;

use super::linearizability::Violation;
use super::{Check, World, linearizability};
use crate::history::Asked;
use crate::scenario::{Promise, What};

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
        let forked: BTreeSet<&str> = world
            .country
            .scenario()
            .faults
            .iter()
            .filter_map(|fault| match &fault.what {
                What::Restore { node, .. } => Some(node.site.as_str()),
                _ => None,
            })
            .collect();
        let by_key = ledger.history.by_key();
        let is_forked = |violation: &&Violation| {
            let mut operations = by_key.get(&violation.key).into_iter().flatten();
            operations.any(|one| forked.contains(one.site.as_str()) && matches!(one.asked, Asked::Write { .. }))
        };
        let counted = findings.violations.iter().filter(|violation| !broken.contains(&violation.site));
        counted.filter(|violation| !is_forked(violation)).map(ToString::to_string).collect()
    }
}
