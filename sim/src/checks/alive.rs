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

/// Faults that damage what a node has, so that it is right to refuse.
const DAMAGING: [&str; 4] = ["rot", "forget_vote", "lose_disk", "gone"];

/// What operators do to take a node out of its site: those who stay keep their votes.
const TAKING_OUT: [&str; 2] = ["remove_node", "replace_node"];

/// Whether it may be right that a node does not run: it was damaged or taken out, or half of its site's nodes were damaged, so
/// that the others are no majority.
pub fn is_excused(world: &World, node: NodePlace) -> bool {
    let is_hit = |kinds: &[&'static str], node: NodePlace| kinds.iter().any(|kind| world.country.was_hit(kind, node));
    let site = world.country.machines()[node].site;
    let nodes = world.country.all_machines_of(site);
    let damaged = nodes.iter().filter(|other| is_hit(&DAMAGING, **other)).count();
    is_hit(&DAMAGING, node) || is_hit(&TAKING_OUT, node) || 2 * damaged >= nodes.len()
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
