//! Nobody's edits are another's: what a site is said to have written, it has numbered itself, whoever has whose key.
//!
//! Looked at is where edits of a site came from, at that site; and at the end whether every site's edits, wherever they lie,
//! are held where they were written, whether a shard has edits of sites alone that serve its unit or one above it, whoever
//! has whose key, and that nothing is held which is signed with a key that verified nothing any more. Does not check: edits of a
//! site whose key was stolen, which nobody can tell from the thief's, and of one that lost a disk, whose edits come back from its
//! neighbours.

use std::collections::{BTreeMap, BTreeSet};

use dinhba_core::edit::Edit;
use dinhba_core::ids::{Hash, SiteId, UnitId};
use dinhba_core::keys::Keys;
use dinhba_core::registry::{self, Arrival};

use super::converges::best;
use super::{Check, World};
use crate::scenario::Promise;
use crate::state::{engine, hashes_of_machine};
use crate::trace::SitePlace;

pub struct NothingForged;

/// Sites whose edits are their own: nobody has their key, and they lost nothing.
fn honest(world: &World) -> Vec<SitePlace> {
    (0..world.country.sites().len()).filter(|site| !world.was_set_back(*site)).collect()
}

/// Edits of a site that came to it from a neighbour.
fn come_home(world: &World, site: SitePlace) -> Vec<String> {
    let (plan, mut found) = (&world.country.sites()[site], Vec::new());
    for (group, shard) in plan.hosts() {
        let Some(node) = best(world, group) else { continue };
        let (state, keys) = (engine(&world.country, node), Keys(group));
        let read = || {
            let arrivals = registry::read_range::<Arrival>(&*state, keys.arrivals(shard, 0))?;
            Ok((registry::authors(&*state, keys, shard)?, arrivals))
        };
        let (authors, arrivals) = match read() {
            Ok(read) => read,
            Err(error) => {
                found.extend(world.unreadable(node, group, &error));
                continue;
            }
        };
        let is_own =
            |arrival: &Arrival| authors.get(&arrival.dot.actor).is_some_and(|state| state.author.site == plan.id);
        let foreign = arrivals.iter().filter(|(_, arrival)| arrival.from.is_some() && is_own(arrival)).count();
        if foreign > 0 {
            found.push(format!(
                "{}, {shard}: {foreign} edits that it is to have written came from a neighbour",
                plan.code
            ));
        }
    }
    found
}

/// Edits of honest sites that their sites do not hold, and edits of sites that there are not.
fn foreign_everywhere(world: &World) -> Vec<String> {
    let country = &world.country;
    let held: BTreeMap<SiteId, BTreeSet<Hash>> = honest(world)
        .into_iter()
        .map(|site| {
            let machines = country.machines_of(site).into_iter();
            (country.sites()[site].id, machines.flat_map(|node| hashes_of_machine(country, node)).collect())
        })
        .collect();
    let known: BTreeSet<SiteId> = country.sites().iter().map(|site| site.id).collect();
    let is_forged = |(hash, edit): &&(Hash, Edit)| {
        let author = edit.header.author.site;
        !known.contains(&author) || held.get(&author).is_some_and(|held| !held.contains(hash))
    };
    world.copies(|_, copy| match copy.edits.values().filter(is_forged).count() {
        0 => Vec::new(),
        forged => vec![format!("{forged} edits that their authors never wrote")],
    })
}

/// Edits of sites that have no say in the shard, and such as are signed with a key that was revoked.
fn without_a_say(world: &World) -> Vec<String> {
    let units: BTreeMap<SiteId, UnitId> = world.country.sites().iter().map(|site| (site.id, site.unit)).collect();
    world.copies(|_, copy| {
        let has_say =
            |edit: &Edit| units.get(&edit.header.author.site).is_some_and(|unit| copy.state.info.path.contains(unit));
        let foreign = copy.edits.values().filter(|(_, edit)| !has_say(edit)).count();
        let late = copy.edits.values().filter(|(hash, _)| world.country.is_late(hash)).count();
        let mut found = Vec::new();
        if foreign > 0 {
            found.push(format!("{foreign} edits of sites that serve neither its unit nor one above it"));
        }
        if late > 0 {
            found.push(format!("{late} edits that a key signed after it was revoked"));
        }
        found
    })
}

impl Check for NothingForged {
    fn promise(&self) -> Promise {
        Promise::NothingForged
    }

    fn every(&self) -> u64 {
        20
    }

    fn look(&mut self, world: &World) -> Vec<String> {
        honest(world).into_iter().flat_map(|site| come_home(world, site)).collect()
    }

    fn judge(&mut self, world: &World) -> Vec<String> {
        let mut found = self.look(world);
        found.extend(foreign_everywhere(world));
        found.extend(without_a_say(world));
        found
    }
}
