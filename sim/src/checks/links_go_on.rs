//! A site speaks with the site that it is linked below now, and knows how far it has taken a neighbour's stream, so that a link that
//! was cut goes on where it stood.
//!
//! Asked is, once all is in step, that some node of the site tells of a link to the site above; that there is a position for every
//! neighbour from which an edit came, and that it is one of its present stream. Does not check: whether the link is up at this
//! moment; how far the position is, since a stream that began anew may rightly stop before what was taken earlier; the neighbour from
//! which a site was moved away; streams of a site that lost a disk or got an old one; shards where an author is parked.

use dinhba_core::command::Cursor;
use dinhba_core::ids::{GroupId, ShardId};
use dinhba_core::keys::Keys;
use dinhba_core::registry::{self, Arrival, ShardState};

use super::{Check, World};
use crate::country::Power;
use crate::scenario::Promise;
use crate::state::engine;
use crate::trace::{NodePlace, SitePlace};

pub struct LinksGoOn;

fn shard_at(world: &World, node: NodePlace, group: GroupId, shard: ShardId) -> Option<ShardState> {
    registry::read(&*engine(&world.country, node), &Keys(group).shard(shard)).ok().flatten()
}

fn forgotten(world: &World, site: SitePlace, peer: SitePlace) -> Vec<String> {
    let country = &world.country;
    let (Some(here), Some(there)) =
        (country.machines_of(site).into_iter().next(), country.machines_of(peer).into_iter().next())
    else {
        return Vec::new();
    };
    let (plan, other) = (&country.sites()[site], &country.sites()[peer]);
    let state = engine(country, here);
    let mut found = Vec::new();
    for shard in plan.shards() {
        let (Some(group), Some(theirs)) = (plan.group_of(shard), other.group_of(shard)) else { continue };
        let keys = Keys(group);
        let arrivals = registry::read_range::<Arrival>(&*state, keys.arrivals(shard, 0)).unwrap_or_default();
        let authors = registry::authors(&*state, keys, shard).unwrap_or_default();
        let came = arrivals.iter().any(|(_, arrival)| arrival.from == Some(other.id));
        let Some(stream) = shard_at(world, there, theirs, shard) else { continue };
        if !came || authors.values().any(|author| author.parked.is_some()) {
            continue;
        }
        let cursor = registry::read::<Cursor>(&*state, &keys.cursor(shard, other.id)).ok().flatten();
        if cursor.is_none_or(|cursor| cursor.epoch != stream.epoch) {
            found.push(format!("{} does not know how far it took the stream of {} of {shard}", plan.code, other.code));
        }
    }
    found
}

/// What is wrong if no node of a site speaks with the one that it is linked below; it may still reach all by way of another.
fn unlinked(world: &World, site: SitePlace, parent: SitePlace) -> Option<String> {
    let country = &world.country;
    let (plan, above) = (&country.sites()[site], &country.sites()[parent]);
    let nodes: Vec<_> = {
        let machines = country.machines();
        let on = machines.iter().filter(|machine| machine.site == site && machine.power == Power::On);
        on.filter_map(|machine| machine.node.clone()).collect()
    };
    let speaks = nodes.iter().any(|node| {
        let links = node.shared.links.all();
        links.into_iter().any(|((_, peer), report)| report.up && peer == above.id)
    });
    let text = || format!("{} is linked below {}, and has no link to it", plan.code, above.code);
    (!nodes.is_empty() && country.is_founded(site) && !speaks).then(text)
}

impl Check for LinksGoOn {
    fn promise(&self) -> Promise {
        Promise::LinksGoOn
    }

    fn judge(&mut self, world: &World) -> Vec<String> {
        let mut found = Vec::new();
        for site in 0..world.country.sites().len() {
            let Some(parent) = world.country.parent(site) else { continue };
            found.extend(unlinked(world, site, parent));
            if world.was_set_back(site) || world.was_set_back(parent) {
                continue;
            }
            found.extend(forgotten(world, site, parent));
            found.extend(forgotten(world, parent, site));
        }
        found
    }
}
