//! Every read that was answered is in the site's access log, and the log is numbered and chained without a gap.
//!
//! Does not check: who an entry names, and the logs of sites that lost a disk or got an old one.

use std::collections::BTreeMap;

use dinhba_core::command::{LoggedAccess, Looked};
use dinhba_core::ids::{GroupId, Hash};
use dinhba_core::keys::Keys;
use dinhba_core::registry::{self, GroupState, next_access_hash};
use dinhba_core::store::StateView;

use super::{Check, World};
use crate::history::{Answered, Asked};
use crate::scenario::Promise;
use crate::state::engine;

pub struct ReadsLogged;

/// How often each record was read, and what is wrong with the log.
fn log_of(view: &dyn StateView, group: GroupId, reads: &mut BTreeMap<[u8; 16], u64>) -> Vec<String> {
    let keys = Keys(group);
    let Ok(Some(state)) = registry::read::<GroupState>(view, &keys.group()) else { return Vec::new() };
    let (mut found, mut hash) = (Vec::new(), Hash::default());
    for number in 1..=state.access_count {
        let Ok(Some(logged)) = registry::read::<LoggedAccess>(view, &keys.access(number)) else {
            found.push(format!("entry {number} of the access log of {group} is missing"));
            return found;
        };
        hash = next_access_hash(&hash, &logged.entry, logged.allowed);
        if hash != logged.hash {
            found.push(format!("entry {number} of the access log of {group} does not chain"));
            return found;
        }
        if logged.allowed && logged.entry.looked == Looked::Record {
            *reads.entry(logged.entry.subject).or_default() += 1;
        }
    }
    if hash != state.access_hash {
        found.push(format!("the access log of {group} does not end in its head"));
    }
    found
}

impl Check for ReadsLogged {
    fn promise(&self) -> Promise {
        Promise::ReadsLogged
    }

    fn judge(&mut self, world: &World) -> Vec<String> {
        let country = &world.country;
        let ledger = world.oracle.ledger();
        let mut found = Vec::new();
        for (site, plan) in country.sites().iter().enumerate() {
            if ledger.breaks.iter().any(|(broken, _)| *broken == site) {
                continue;
            }
            let bests: Vec<_> = plan.groups.iter().map(|(group, _)| super::converges::best(world, *group)).collect();
            if bests.contains(&None) {
                continue;
            }
            let mut reads = BTreeMap::new();
            for ((group, _), node) in plan.groups.iter().zip(bests.into_iter().flatten()) {
                found.extend(log_of(&*engine(country, node), *group, &mut reads));
            }
            let mut answered: BTreeMap<[u8; 16], u64> = BTreeMap::new();
            for operation in ledger.history.operations().iter().filter(|operation| operation.site == plan.code) {
                if let (Asked::Read, Some((_, Answered::Saw(_)))) = (&operation.asked, &operation.answered) {
                    *answered.entry(operation.key.record.0).or_default() += 1;
                }
            }
            let missing = answered.iter().filter(|(record, count)| reads.get(*record).unwrap_or(&0) < count).count();
            if missing > 0 {
                found.push(format!("{}: of {missing} records, reads are missing in the access log", plan.code));
            }
        }
        found
    }
}
