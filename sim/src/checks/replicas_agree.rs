//! Nodes of a group that have applied the same entries hold the same bytes.
//!
//! Compared are all keys and values of the group, whenever two of its nodes are found at the same applied index, and at the
//! end. Does not check: replicas that are never seen at one index; damaged ones, which refuse to be read.

use std::collections::BTreeMap;

use dinhba_core::ids::GroupId;
use dinhba_core::keys::Keys;
use dinhba_core::store::StateView;
use dinhba_node::state::MemoryState;

use super::{Check, World};
use crate::scenario::Promise;
use crate::state::engine;
use crate::trace::NodePlace;

/// While a run goes on, so many looks pass between two comparisons: reading whole states is what costs most.
const LOOKS_PER_COMPARISON: u64 = 20;

#[derive(Default)]
pub struct ReplicasAgree {
    looks: u64,
}

fn hash_of(state: &MemoryState, group: GroupId) -> Option<blake3::Hash> {
    let (from, to) = Keys(group).all();
    let mut hasher = blake3::Hasher::new();
    for item in state.scan(&from, &to) {
        let (key, value) = item.ok()?;
        hasher.update(&(key.len() as u64).to_le_bytes()).update(&key);
        hasher.update(&(value.len() as u64).to_le_bytes()).update(&value);
    }
    Some(hasher.finalize())
}

fn compare(world: &World) -> Vec<String> {
    let mut at: BTreeMap<(GroupId, u64), Vec<NodePlace>> = BTreeMap::new();
    for (node, group, status) in world.running() {
        if let (Some(applied), None) = (status.applied, status.stopped) {
            at.entry((group, applied)).or_default().push(node);
        }
    }
    let mut found = Vec::new();
    for ((group, index), nodes) in at.into_iter().filter(|(_, nodes)| nodes.len() > 1) {
        let hashes: Vec<_> = nodes.iter().map(|node| hash_of(&engine(&world.country, *node), group)).collect();
        for (node, hash) in nodes.iter().zip(&hashes) {
            if let (Some(first), Some(hash)) = (hashes[0], hash)
                && first != *hash
            {
                let (one, other) = (world.country.name(nodes[0]), world.country.name(*node));
                found.push(format!("{one} and {other} differ in group {group} at entry {index}"));
            }
        }
    }
    found
}

impl Check for ReplicasAgree {
    fn promise(&self) -> Promise {
        Promise::ReplicasAgree
    }

    fn look(&mut self, world: &World) -> Vec<String> {
        self.looks += 1;
        if self.looks.is_multiple_of(LOOKS_PER_COMPARISON) { compare(world) } else { Vec::new() }
    }

    fn judge(&mut self, world: &World) -> Vec<String> {
        compare(world)
    }
}
