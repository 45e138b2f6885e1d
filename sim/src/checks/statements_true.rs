//! No site states edits that it does not hold: what is shown as held above is held there.
//!
//! Looked at are the statements that machines keep of other sites, against what lies in the state engines of the site that
//! signed them. Does not check: statements of a site of which a machine was ever restarted or wiped, since what it had
//! applied may be gone from its engine for a while; those of a site whose key was stolen; digests and dates.

use dinhba_core::command::Statement;
use dinhba_core::edit::Dot;
use dinhba_core::ids::{GroupId, Hash, ShardId};
use dinhba_core::keys::Keys;
use dinhba_core::registry::{self, StoredEdit};
use dinhba_core::store::StateView;

use super::{Check, World};
use crate::scenario::Promise;
use crate::state::{engine, hashes_of_machine};
use crate::trace::SitePlace;

pub struct StatementsTrue;

/// Whether a machine of the site holds the edit; by its name, which is quick, or under any other.
fn is_held(world: &World, site: SitePlace, place: (GroupId, ShardId), head: &Dot, hash: Hash) -> bool {
    let key = Keys(place.0).edit(place.1, head);
    let machines = world.country.machines_of(site);
    let by_name = |node: &usize| {
        let stored = registry::read::<StoredEdit>(&*engine(&world.country, *node), &key);
        stored.ok().flatten().is_some_and(|stored| stored.hash == hash)
    };
    machines.iter().any(by_name)
        || machines.iter().any(|node| {
            // A value that rotted is still there, and nobody knows which edit it was.
            let (from, to) = Keys(place.0).all();
            hashes_of_machine(&world.country, *node).contains(&hash)
                || engine(&world.country, *node).scan(&from, &to).any(|item| item.is_err())
        })
}

fn lies(world: &World) -> Vec<String> {
    let country = &world.country;
    let lost = world.lost();
    let is_asked = |site: SitePlace| !lost.contains(&site) && !country.was_stolen(site) && world.never_restarted(site);
    let mut found = Vec::new();
    for (reader, plan) in country.sites().iter().enumerate() {
        let Some(node) = country.machines_of(reader).into_iter().next() else { continue };
        let state = engine(country, node);
        for (group, shard) in plan.hosts() {
            let kept = registry::read_range::<Statement>(&*state, Keys(group).statements(shard));
            if let Err(error) = &kept {
                found.extend(world.unreadable(node, group, error));
            }
            for (_, Statement { body, .. }) in kept.unwrap_or_default() {
                let Some(site) = country.sites().iter().position(|other| other.id == body.site) else { continue };
                let Some(theirs) = country.sites()[site].group_of(shard).filter(|_| is_asked(site)) else { continue };
                for (actor, (counter, hash)) in body.heads {
                    if !is_held(world, site, (theirs, shard), &Dot { actor, counter }, hash) {
                        let code = &country.sites()[site].code;
                        found.push(format!("{code} states that it holds {hash} of {shard}, which it does not"));
                    }
                }
            }
        }
    }
    found
}

impl Check for StatementsTrue {
    fn promise(&self) -> Promise {
        Promise::StatementsTrue
    }

    /// Statements come with each change, and lies stay for a while.
    fn every(&self) -> u64 {
        5
    }

    fn look(&mut self, world: &World) -> Vec<String> {
        lies(world)
    }

    fn judge(&mut self, world: &World) -> Vec<String> {
        lies(world)
    }
}
