//! Every answer that showed a record is in the access log of the group that served it, under its reader's name, and was there
//! before the answer; and the log is numbered and chained without a gap.
//!
//! Counted are all ways to look: a record, its history, what a search or a work list shows, the members of a household, the
//! households of a person, the change feed with each record in it, an extract. Does not check: the logs of sites that lost a disk or got an old
//! one; whether the entry came first, where a node was ever restarted, since what it had applied may be gone for a while.

use dinhba_core::access_log::LoggedAccess;
use dinhba_core::ids::{GroupId, Hash};
use dinhba_core::keys::Keys;
use dinhba_core::registry::{self, GroupState, next_access_hash};
use dinhba_core::store::StateView;

use super::{Check, World};
use crate::looks::{self, Counts};
use crate::scenario::Promise;
use crate::state::engine;
use crate::trace::SitePlace;

pub struct ReadsLogged;

/// How often each look stands in a log, and what is wrong with the log.
fn log_of(view: &dyn StateView, group: GroupId, logged: &mut Counts) -> Vec<String> {
    let keys = Keys(group);
    let Ok(Some(state)) = registry::read::<GroupState>(view, &keys.group()) else { return Vec::new() };
    let (mut found, mut hash) = (Vec::new(), Hash::default());
    for number in 1..=state.access_count {
        let Ok(Some(entry)) = registry::read::<LoggedAccess>(view, &keys.access(number)) else {
            found.push(format!("entry {number} of the access log of {group} is missing"));
            return found;
        };
        hash = next_access_hash(&hash, &entry.entry, entry.allowed);
        if hash != entry.hash {
            found.push(format!("entry {number} of the access log of {group} does not chain"));
            return found;
        }
        looks::add(logged, &entry);
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
        let is_broken = |site: SitePlace| ledger.breaks.iter().any(|(broken, _)| *broken == site);
        for (site, plan) in country.sites().iter().enumerate().filter(|(site, _)| !is_broken(*site)) {
            for (group, _) in &plan.groups {
                let Some(node) = super::converges::best(world, *group) else { continue };
                let mut logged = Counts::new();
                found.extend(log_of(&*engine(country, node), *group, &mut logged));
                for (look, shown) in ledger.looks.shown.get(&(site, *group)).into_iter().flatten() {
                    let there = logged.get(look).copied().unwrap_or_default();
                    if there < *shown {
                        let (person, looked, code) = (&look.person, look.looked, &plan.code);
                        found.push(format!(
                            "{code}: {person} was shown something {shown} times by {looked}, logged {there} times"
                        ));
                    }
                }
            }
        }
        let early =
            ledger.looks.early.iter().filter(|((site, _), ..)| !is_broken(*site) && world.never_restarted(*site));
        found.extend(early.map(|((site, _), look, at)| {
            let code = &country.sites()[*site].code;
            format!("{code}: what {} was shown by {} at {at:?} was not logged then", look.person, look.looked)
        }));
        found
    }
}
