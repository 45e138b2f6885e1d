//! After healing, every site has a leader that serves, and no node refuses to run, or has to be replaced, without a reason that a
//! fault gave this very node.
//!
//! How long that may take is watched by the run itself, which also makes a fresh edit at every site, and tells of nodes that
//! had to be replaced. Does not check: how fast anything is.

use super::{Check, World};
use crate::country::Power;
use crate::scenario::Promise;
use crate::trace::NodePlace;

pub struct Alive;

/// Faults that damage what a node has, or take it out of its site, so that it is right to refuse.
const DAMAGING: [&str; 6] = ["rot", "forget_vote", "lose_disk", "remove_node", "replace_node", "gone"];

/// Whether it may be right that a node does not run: such a fault hit it, or half of its site's nodes, which are then no
/// majority.
pub fn is_excused(world: &World, node: NodePlace) -> bool {
    let is_damaged = |node: &NodePlace| DAMAGING.iter().any(|kind| world.country.was_hit(kind, *node));
    let nodes: Vec<NodePlace> = {
        let machines = world.country.machines();
        let site = machines[node].site;
        (0..machines.len()).filter(|other| machines[*other].site == site).collect()
    };
    is_damaged(&node) || 2 * nodes.iter().filter(|other| is_damaged(other)).count() >= nodes.len()
}

impl Check for Alive {
    fn promise(&self) -> Promise {
        Promise::Alive
    }

    fn judge(&mut self, world: &World) -> Vec<String> {
        let mut found = Vec::new();
        let refused: Vec<(NodePlace, String)> = {
            let machines = world.country.machines();
            let refused = machines.iter().enumerate().filter_map(|(place, machine)| match &machine.power {
                Power::Refused(why) => Some((place, why.clone())),
                _ => None,
            });
            refused.collect()
        };
        for (node, why) in refused {
            if !is_excused(world, node) {
                found.push(format!("{} does not run: {why}", world.country.name(node)));
            }
        }
        for (node, group, status) in world.running() {
            if let Some(why) = status.stopped
                && !is_excused(world, node)
            {
                found.push(format!("{}: group {group} has stopped: {why}", world.country.name(node)));
            }
        }
        found
    }
}
