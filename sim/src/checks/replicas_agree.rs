//! Nodes of a group that have applied the same entries hold the same bytes.
//!
//! Compared are all keys and values of the group, whenever two of its nodes are found at the same applied index, and at the
//! end. Does not check: replicas that are never seen at one index; damaged ones, which refuse to be read.

use std::collections::BTreeMap;

use dinhba_core::ids::GroupId;
use dinhba_core::keys::Keys;
use dinhba_core::store::StateView;
use dinhba_node::raft::snapshot::position_key;
use dinhba_node::state::MemoryState;

use super::{Check, World};
use crate::scenario::Promise;
use crate::state::engine;
use crate::trace::NodePlace;

pub struct ReplicasAgree;

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

/// The first key that is at one of them alone, or has another value.
fn first_difference(one: &MemoryState, other: &MemoryState, group: GroupId) -> Option<Vec<u8>> {
    let (from, to) = Keys(group).all();
    let (mut here, mut there) = (one.scan(&from, &to), other.scan(&from, &to));
    loop {
        match (here.next(), there.next()) {
            (Some(Ok(a)), Some(Ok(b))) if a == b => {}
            (Some(Ok((a, _))), Some(Ok((b, _)))) => return Some(a.min(b)),
            (Some(Ok((key, _))), None) | (None, Some(Ok((key, _)))) => return Some(key),
            _ => return None,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Replicas that say they are at one position of a group, each with the index that its node tells of.
type AtOnePosition = BTreeMap<(GroupId, Vec<u8>), Vec<(NodePlace, Option<u64>)>>;

fn compare(world: &World) -> Vec<String> {
    // By what the states say: what a node tells of itself may be an entry behind.
    let mut at = AtOnePosition::new();
    for (node, group, status) in world.running().into_iter().filter(|(.., status)| status.stopped.is_none()) {
        if let Ok(Some(position)) = engine(&world.country, node).get(&position_key(group)) {
            at.entry((group, position)).or_default().push((node, status.applied));
        }
    }
    let mut found = Vec::new();
    for ((group, _), nodes) in at.into_iter().filter(|(_, nodes)| nodes.len() > 1) {
        let states: Vec<_> = nodes.iter().map(|(node, _)| engine(&world.country, *node)).collect();
        let hashes: Vec<_> = states.iter().map(|state| hash_of(state, group)).collect();
        let (first, index) = nodes[0];
        for (place, (node, _)) in nodes.iter().enumerate() {
            if hashes[0].is_some() && hashes[place].is_some() && hashes[0] != hashes[place] {
                let (one, other) = (world.country.name(first), world.country.name(*node));
                let key = first_difference(&states[0], &states[place], group).map(|key| hex(&key));
                found.push(format!(
                    "{one} and {other} differ in group {group} near entry {index:?}, first at key {key:?}"
                ));
            }
        }
    }
    found
}

impl Check for ReplicasAgree {
    fn promise(&self) -> Promise {
        Promise::ReplicasAgree
    }

    /// Reading whole states is what costs most.
    fn every(&self) -> u64 {
        20
    }

    fn look(&mut self, world: &World) -> Vec<String> {
        compare(world)
    }

    fn judge(&mut self, world: &World) -> Vec<String> {
        compare(world)
    }
}
