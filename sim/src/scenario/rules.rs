//! Which disks a scenario takes for good.

use std::time::Duration;

use super::{NodeRef, Scenario, Store, What, Which};

/// A fault that takes a majority of a site's disks for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MajorityLost {
    /// Code of the site.
    pub(crate) site: String,
    /// The fault's place in the scenario.
    pub(crate) fault: usize,
}

/// Nodes of a site, as faults take and bring them.
struct Nodes {
    members: usize,
    /// Those of the members that are lost and not yet replaced. `leader` may be another node each time, so it counts
    /// each time.
    lost: Vec<NodeRef>,
}

impl Nodes {
    fn is_lost(&self, node: &NodeRef) -> bool {
        matches!(node.which, Which::Number(_)) && self.lost.contains(node)
    }

    fn lose(&mut self, node: &NodeRef) {
        if !self.is_lost(node) {
            self.lost.push(node.clone());
        }
    }

    fn find_again(&mut self, node: &NodeRef) {
        if self.is_lost(node) {
            self.lost.retain(|lost| lost != node);
        }
    }

    fn has_majority(&self) -> bool {
        2 * self.lost.len() < self.members
    }
}

/// The faults that take a majority of a site's disks for good. A replaced node counts as replaced at once: a scenario
/// gives its successor the time to catch up before the next loss.
pub(crate) fn majorities_lost(scenario: &Scenario) -> Vec<MajorityLost> {
    let mut found = Vec::new();
    for code in scenario.tree.codes() {
        let mut nodes = Nodes { members: usize::from(scenario.tree.nodes_of(code)), lost: Vec::new() };
        for fault in in_time(scenario) {
            let what = &scenario.faults[fault].what;
            if !what.sites().contains(&code) {
                continue;
            }
            match what {
                What::Gone { node }
                | What::LoseDisk { node }
                | What::Restore { node, .. }
                | What::ForgetVote { node }
                | What::Rot { node, store: Store::Log } => nodes.lose(node),
                What::ReplaceNode { node } => {
                    nodes.lose(node);
                    if nodes.has_majority() {
                        nodes.find_again(node);
                    }
                    if !matches!(node.which, Which::Number(_)) {
                        nodes.lost.pop();
                    }
                }
                What::AddNode { .. } => nodes.members += 1,
                What::RemoveNode { node } => {
                    nodes.find_again(node);
                    nodes.members = nodes.members.saturating_sub(1);
                }
                _ => continue,
            }
            if !nodes.has_majority() {
                found.push(MajorityLost { site: code.to_owned(), fault });
            }
        }
    }
    found
}

/// The places of the faults, in the order in which they begin.
pub(crate) fn in_time(scenario: &Scenario) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scenario.faults.len()).collect();
    order.sort_by_key(|&fault| -> Duration { scenario.faults[fault].at });
    order
}
