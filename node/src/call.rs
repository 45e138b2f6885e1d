//! What the nodes of one site ask each other, beside Raft: carried by the peer stream as an application frame.

use std::collections::BTreeSet;
use std::time::Duration;

use dinhba_core::encoding::Wire;
use dinhba_core::ids::NodeId;
use dinhba_core::{wire_code, wire_enum, wire_struct};

use crate::raft::group::{ChangeError, Group, Role, Status};
use crate::runtime;

/// How long a change of members may take: a learner must catch up.
pub const CHANGE_WAIT: Duration = Duration::from_secs(120);

/// How long of this it may take to catch up.
const CATCH_UP_WAIT: Duration = Duration::from_secs(110);

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
    /// Whether the node is known to have joined: it is in the directory, or votes in a group.
    pub joined: bool,
    /// Whether the site is founded, as the one who answers knows; if not, nobody has joined.
    pub formed: bool,
    /// Whether the one who answers takes part itself, or will when the site is founded.
    pub running: bool,
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
}

wire_struct! {
    Joined { joined, formed, running }
    Change { kind, node, address }
}
wire_enum! { Call, "call" { 1 => Joined, 2 => Change } }
wire_code! { ChangeKind, "change of members" { 1 => Add, 2 => Promote, 3 => Remove, 4 => Lead } }

impl Change {
    /// Carries the change out at the leader, which `group` must be. It goes on if the caller gives up: a change of voters
    /// takes two steps, and between them the group would be left with two sets of voters.
    pub async fn carry_out(&self, group: &Group) -> Result<(), ChangeError> {
        let (change, group) = (self.clone(), group.clone());
        let carried = runtime::spawn("change of members", async move { change.carry_out_here(&group).await });
        match runtime::timeout(CHANGE_WAIT, carried).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => Err(ChangeError::Unknown(error.to_string())),
            Err(_) => Err(ChangeError::Unknown("it has not ended yet".to_owned())),
        }
    }

    async fn carry_out_here(&self, group: &Group) -> Result<(), ChangeError> {
        match self.kind {
            ChangeKind::Add => {
                group.add_learner(self.node, self.address.clone(), false).await?;
                self.has_caught_up(group).await.map_err(ChangeError::Unknown)
            }
            // A vote for a node that has never run would be taken for one that it forgot, see `Joined`.
            ChangeKind::Promote => {
                self.has_caught_up(group).await.map_err(ChangeError::Refused)?;
                group.promote(BTreeSet::from([self.node])).await
            }
            ChangeKind::Remove => group.remove(self.node).await,
            ChangeKind::Lead => group.transfer_leader(self.node).await,
        }
    }

    /// Waits until the node has all that the leader has now. Not openraft's own waiting: to it, who lacks less than the
    /// lag at which a snapshot is sent has caught up, also if nobody is there.
    async fn has_caught_up(&self, group: &Group) -> Result<(), String> {
        let wanted = group.status().last;
        let has_all = |status: &Status| {
            let votes = status.members.get(&self.node).is_some_and(|(_, votes)| *votes);
            votes || status.matched.get(&self.node).is_some_and(|matched| matched.is_some() && *matched >= wanted)
        };
        let ended = |status: &Status| status.role != Role::Leader || has_all(status);
        if group.wait_for(CATCH_UP_WAIT, ended).await && has_all(&group.status()) {
            return Ok(());
        }
        Err(format!("{} is not, or not yet, where the leader is: see that it runs, and do this again", self.node))
    }

    /// The change as a call's bytes.
    #[must_use]
    pub fn to_call(&self) -> Vec<u8> {
        Call::Change(self.clone()).to_bytes()
    }
}
