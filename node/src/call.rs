//! What the nodes of one site ask each other, beside Raft: carried by the peer stream as an application frame.

use std::collections::BTreeSet;

use dinhba_core::encoding::Wire;
use dinhba_core::ids::NodeId;
use dinhba_core::{wire_code, wire_enum, wire_struct};

use crate::raft::group::{ChangeError, Group};

/// A question to a node of the same site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Does the site know this node as one that has joined? A node with an empty directory asks before it takes part.
    Joined(NodeId),
    /// Change the members of the frame's group; only its leader can.
    Change(Change),
}

/// The answer to [`Call::Joined`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined {
    /// Whether the node is known to have joined.
    pub joined: bool,
    /// Whether the one who answers has data of the site; if not, it cannot know.
    pub formed: bool,
}

/// A change of a group's members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What to do.
    pub kind: ChangeKind,
    /// With which node.
    pub node: NodeId,
    /// Where it listens, for an addition.
    pub address: String,
}

/// The kinds of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// Add as a learner, and wait until it has caught up.
    Add,
    /// Make a learner a voter.
    Promote,
    /// Remove.
    Remove,
    /// Hand the leadership over.
    Lead,
    /// Take a snapshot, at the one asked, and purge the log below it.
    Snapshot,
}

wire_struct! {
    Joined { joined, formed }
    Change { kind, node, address }
}
wire_enum! { Call, "call" { 1 => Joined, 2 => Change } }
wire_code! { ChangeKind, "change of members" { 1 => Add, 2 => Promote, 3 => Remove, 4 => Lead, 5 => Snapshot } }

impl Change {
    /// Carries the change out at the leader, which `group` must be.
    pub async fn carry_out(&self, group: &Group) -> Result<(), ChangeError> {
        match self.kind {
            ChangeKind::Add => group.add_learner(self.node, self.address.clone(), true).await,
            ChangeKind::Promote => group.promote(BTreeSet::from([self.node])).await,
            ChangeKind::Remove => group.remove(self.node).await,
            ChangeKind::Lead => group.transfer_leader(self.node).await,
            ChangeKind::Snapshot => group.snapshot().await,
        }
    }

    /// The change as a call's bytes.
    #[must_use]
    pub fn to_call(&self) -> Vec<u8> {
        Call::Change(self.clone()).to_bytes()
    }
}
