//! After healing, every site has a leader that serves, and no node refuses to run without a reason that a fault gave it.
//!
//! How long that may take is watched by the run itself, which also makes a fresh edit at every commune and reads it at every
//! site above. Does not check: how fast anything is.

use super::{Check, World};
use crate::country::Power;
use crate::scenario::{Promise, What};
use crate::trace::NodePlace;

pub struct Alive;

/// Whether a fault of the scenario damages what a node of this site has, so that it is right to refuse.
fn was_damaged(world: &World, node: NodePlace) -> bool {
    let site = &world.country.sites()[world.country.machines()[node].site].code;
    world.country.scenario().faults.iter().any(|fault| match &fault.what {
        What::Rot { node, .. } | What::ForgetVote { node } | What::LoseDisk { node } => node.site == *site,
        What::RemoveNode { node } | What::ReplaceNode { node } => node.site == *site,
        _ => false,
    })
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
            if !was_damaged(world, node) {
                found.push(format!("{} does not run: {why}", world.country.name(node)));
            }
        }
        for (node, group, status) in world.running() {
            if let Some(why) = status.stopped
                && !was_damaged(world, node)
            {
                found.push(format!("{}: group {group} has stopped: {why}", world.country.name(node)));
            }
        }
        found
    }
}
