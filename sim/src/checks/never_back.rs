//! Terms never go back, over all lives of a node; within one life neither do the applied index nor the heads.
//!
//! What was applied and not yet flushed may be gone after a power cut, and is applied again: so heads are watched within one
//! life of a process. A disk that is lost, or replaced by an old copy, begins a new life in every respect. A state that is made
//! again from an older snapshot is looked at when it may be read again: then it must be where it was. Finality is not there
//! yet, and so not checked.

use std::collections::BTreeMap;
use std::time::Duration;

use dinhba_core::ids::{AuthorId, GroupId, ShardId};
use dinhba_core::keys::Keys;
use dinhba_core::registry;
use dinhba_core::store::StoreError;
use dinhba_node::raft::group::Status;

use super::{Check, World};
use crate::scenario::Promise;
use crate::state::engine;
use crate::trace::NodePlace;

#[derive(Default)]
pub struct NeverBack {
    /// The terms that replicas show: in which life which, and since when.
    shown: BTreeMap<(NodePlace, GroupId), (u64, u64, Duration)>,
    /// Those that they have promised.
    terms: BTreeMap<(NodePlace, GroupId), u64>,
    applied: BTreeMap<(NodePlace, GroupId), (u64, Option<u64>)>,
    heads: BTreeMap<(NodePlace, ShardId, AuthorId), (u64, u64)>,
}

/// Whether a fault hit this very node that makes it forget.
fn may_forget(world: &World, node: NodePlace) -> bool {
    ["restore", "lose_disk", "forget_vote"].iter().any(|kind| world.country.was_hit(kind, node))
}

/// Whether readers are refused, since the state is being put in place.
pub(super) fn is_replaced(world: &World, node: NodePlace, group: GroupId) -> bool {
    let node = world.country.machines()[node].node.clone();
    let looked = node.and_then(|node| node.shared.group(group).map(|hosted| hosted.look(|_| Ok(()))));
    matches!(looked, Some(Err(StoreError::Replacing)))
}

impl NeverBack {
    /// The term that a replica has promised, by this look: its vote is durable. The status does not say so, and shows a term
    /// before its vote is flushed; a vote that the disk refuses stops the replica.
    fn promised(&mut self, world: &World, (node, group): (NodePlace, GroupId), status: &Status) -> u64 {
        let (life, flush) = {
            let machine = &world.country.machines()[node];
            (machine.lives, machine.disk.flush_time())
        };
        let now = world.country.simulator().now();
        let shown = self.shown.entry((node, group)).or_default();
        if (shown.0, shown.1) != (life, status.term) {
            *shown = (life, status.term, now);
        }
        // A flush may wait for one under way.
        let is_durable = status.stopped.is_none() && now - shown.2 > 2 * flush;
        let before = self.terms.get(&(node, group)).copied().unwrap_or_default();
        if is_durable { status.term } else { before.min(status.term) }
    }
}

impl Check for NeverBack {
    fn promise(&self) -> Promise {
        Promise::NeverBack
    }

    fn look(&mut self, world: &World) -> Vec<String> {
        let mut found = Vec::new();
        for (node, group, status) in world.running() {
            let name = world.country.name(node);
            let life = world.country.machines()[node].lives;
            // A replica that has only just begun has read nothing of its log yet.
            if status.term == 0 {
                continue;
            }
            let promised = self.promised(world, (node, group), &status);
            let term = self.terms.entry((node, group)).or_default();
            if status.term < *term && !may_forget(world, node) {
                found.push(format!("{name}: term of {group} went from {term} back to {}", status.term));
            }
            *term = promised;
            if is_replaced(world, node, group) {
                continue;
            }
            let before = self.applied.insert((node, group), (life, status.applied));
            if let Some((life_before, applied)) = before
                && life_before == life
                && status.applied < applied
            {
                found.push(format!("{name}: {group} had applied {applied:?} and now {:?}", status.applied));
            }
            let site = &world.country.sites()[world.country.machines()[node].site];
            let state = engine(&world.country, node);
            for shard in site.groups.iter().filter(|(id, _)| *id == group).flat_map(|(_, shards)| shards) {
                let Ok(authors) = registry::authors(&*state, Keys(group), *shard) else { continue };
                for (id, author) in &authors {
                    let before = self.heads.insert((node, *shard, *id), (life, author.number));
                    if let Some((life_before, number)) = before
                        && life_before == life
                        && author.number < number
                    {
                        found.push(format!("{name}: {id} of {shard} went from {number} back to {}", author.number));
                    }
                }
            }
        }
        found
    }
}
