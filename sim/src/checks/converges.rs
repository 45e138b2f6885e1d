//! After healing, all sites of a shard hold the same edits and the same records, and say so of themselves: of communes' shards, and
//! of what units above say.
//!
//! Equal heads and digests are compared first, as the sites themselves do; at the end the edits and records are compared
//! as they lie in the state engines. Does not check: what they hold (`nothing_lost`).

use std::collections::{BTreeMap, BTreeSet};

use dinhba_core::command::Heads;
use dinhba_core::ids::{GroupId, Hash, ShardId};
use dinhba_core::keys::Keys;
use dinhba_core::registry::{self, ShardState};

use super::{Check, World};
use crate::country::Power;
use crate::scenario::Promise;
use crate::state::{ShardCopy, engine, shard_copy};
use crate::trace::{NodePlace, SitePlace};

pub struct Converges;

/// The machine that has applied most of a group, of those that run.
pub(super) fn best(world: &World, group: GroupId) -> Option<NodePlace> {
    let running = world.running();
    let sound = running.iter().filter(|(_, of, status)| *of == group && status.stopped.is_none());
    sound.max_by_key(|(_, _, status)| status.applied).map(|(node, _, _)| *node)
}

/// Whether a node is one of those that a group names now, going by who has applied most. Who was never let in, or left,
/// hears nothing any more, even if nobody could tell the operator so.
pub(super) fn is_member(world: &World, group: GroupId, node: NodePlace) -> bool {
    let (running, id) = (world.running(), world.country.machines()[node].id);
    let of_group = || running.iter().filter(|(_, of, _)| *of == group);
    let most = of_group().map(|(.., status)| status.applied).max().flatten();
    of_group().filter(|(.., status)| status.applied == most).any(|(.., status)| status.members.contains_key(&id))
}

/// A member that runs and has not yet applied what others of its group have.
fn lags(world: &World) -> Option<String> {
    let running = world.running();
    for (node, group, status) in &running {
        let most = running.iter().filter(|(_, of, _)| of == group).map(|(.., status)| status.applied).max().flatten();
        if status.stopped.is_none() && status.applied < most && is_member(world, *group, *node) {
            let (name, applied) = (world.country.name(*node), status.applied);
            return Some(format!("{name} has applied {applied:?} of {group}, and others {most:?}"));
        }
    }
    None
}

/// The sites that are there and hold a shard.
fn holders(world: &World, shard: ShardId) -> Vec<SitePlace> {
    let sites = world.country.sites().iter().enumerate();
    let founded = sites.filter(|(place, _)| world.country.is_founded(*place));
    founded.filter(|(_, site)| site.shards().any(|held| held == shard)).map(|(place, _)| place).collect()
}

/// What is not in step yet: nothing once all sites of all shards hold the same, every child has proof of it, and no member
/// of a group is behind the others.
#[must_use]
pub fn behind(world: &World) -> Option<String> {
    let country = &world.country;
    let shards: BTreeSet<ShardId> = country.sites().iter().flat_map(|site| site.shards().collect::<Vec<_>>()).collect();
    for shard in shards {
        let mut first: Option<(SitePlace, Heads, ShardState)> = None;
        for site in holders(world, shard) {
            let name = &country.sites()[site].code;
            let Some(group) = country.sites()[site].group_of(shard) else { continue };
            let Some(node) = best(world, group) else { return Some(format!("{name} does not run")) };
            let state = engine(country, node);
            let (Ok(Some(here)), Ok(heads)) = (
                registry::read::<ShardState>(&*state, &Keys(group).shard(shard)),
                registry::heads(&*state, Keys(group), shard),
            ) else {
                return Some(format!("{name} has no shard {shard}"));
            };
            if here.unnumbered > 0 {
                return Some(format!("{} persons of {shard} wait for a personal number at {name}", here.unnumbered));
            }
            match &first {
                None => first = Some((site, heads, here.clone())),
                Some((other, their_heads, there)) => {
                    let other = &country.sites()[*other].code;
                    if heads != *their_heads {
                        return Some(format!("{name} and {other} have other heads of {shard}"));
                    }
                    if (here.edits_digest, here.state_digest) != (there.edits_digest, there.state_digest) {
                        return Some(format!("{name} and {other} have equal heads and other digests of {shard}"));
                    }
                }
            }
            if let Some(parent) = country.parent(site) {
                let parent = country.sites()[parent].id;
                let key = Keys(group).statement(shard, parent);
                let proof = registry::read::<dinhba_core::command::Statement>(&*state, &key).ok().flatten();
                let proved = proof.is_some_and(|statement| {
                    let body = statement.body;
                    let (Ok(heads), edits, records) =
                        (registry::heads(&*state, Keys(group), shard), here.edits_digest, here.state_digest)
                    else {
                        return false;
                    };
                    body.heads == heads && body.edits == edits && body.state == records
                });
                if !proved {
                    return Some(format!("{name} has no proof from above for {shard}"));
                }
            }
        }
    }
    lags(world)
}

fn differences(one: &ShardCopy, other: &ShardCopy) -> Option<&'static str> {
    let hashes = |copy: &ShardCopy| copy.edits.values().map(|(hash, _)| *hash).collect::<BTreeSet<Hash>>();
    if hashes(one) != hashes(other) {
        return Some("edits");
    }
    (one.records.values().ne(other.records.values())).then_some("records")
}

impl Check for Converges {
    fn promise(&self) -> Promise {
        Promise::Converges
    }

    fn judge(&mut self, world: &World) -> Vec<String> {
        let country = &world.country;
        let running = world.running();
        let mut found: Vec<String> = behind(world).into_iter().collect();
        let shards: BTreeSet<ShardId> =
            country.sites().iter().flat_map(|site| site.shards().collect::<Vec<_>>()).collect();
        for shard in shards {
            let mut first: Option<(String, ShardCopy)> = None;
            for site in holders(world, shard) {
                let machines = country.machines_of(site);
                let Some(group) = country.sites()[site].group_of(shard) else { continue };
                // A follower hears a moment later than its leader what is decided.
                let applied: BTreeMap<NodePlace, Option<u64>> = running
                    .iter()
                    .filter(|(node, of, _)| machines.contains(node) && *of == group)
                    .map(|(node, _, status)| (*node, status.applied))
                    .collect();
                let most = applied.values().max().copied().flatten();
                let up_to_date = |node: &NodePlace| applied.get(node).is_some_and(|applied| *applied == most);
                let is_on = |node: &NodePlace| country.machines()[*node].power == Power::On;
                for node in machines.iter().copied().filter(|node| is_on(node) && up_to_date(node)) {
                    let Ok(Some(copy)) = shard_copy(&*engine(country, node), group, shard) else { continue };
                    let name = country.name(node);
                    match &first {
                        None => first = Some((name, copy)),
                        Some((other, their)) => {
                            if let Some(what) = differences(&copy, their) {
                                found.push(format!("{name} and {other} hold other {what} of {shard}"));
                            }
                        }
                    }
                }
            }
        }
        found
    }
}
