//! What the nodes of one site ask each other, beside Raft: carried by the peer stream as an application frame.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dinhba_core::command::Nothing;
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
    /// What is the highest feature level that you know, as a `u16`? Asked of a node that is about to become a member.
    LevelMax(Nothing),
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
    /// Whether it was removed for good and is out, as the one who answers knows: the directory says so, and no membership in
    /// force there has it any more. Once so, always so.
    pub left: bool,
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

/// What became of a change at the leader: the answer to [`Call::Change`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// It is so, and these are the members.
    Done(Members),
    /// It was refused; nothing was changed.
    Refused(String),
    /// The one who was asked does not lead; nothing was changed.
    NotLeader(String),
    /// It may have been carried out, or in part.
    Unknown(String),
}

/// The members of a group as its leader has them after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    /// Who votes.
    pub voters: Vec<NodeId>,
    /// Who follows without a vote.
    pub learners: Vec<NodeId>,
}

wire_struct! {
    Members { voters, learners }
    Joined { joined, formed, running, left }
    Change { kind, node, address }
}
wire_enum! { Call, "call" { 1 => Joined, 2 => Change, 3 => LevelMax } }
wire_enum! { Changed, "outcome of a change" { 1 => Done, 2 => Refused, 3 => NotLeader, 4 => Unknown } }
wire_code! { ChangeKind, "change of members" { 1 => Add, 2 => Promote, 3 => Remove, 4 => Lead } }

impl From<Result<Members, ChangeError>> for Changed {
    fn from(carried: Result<Members, ChangeError>) -> Self {
        match carried {
            Ok(members) => Changed::Done(members),
            Err(error @ ChangeError::Refused(_)) => Changed::Refused(error.to_string()),
            Err(error @ ChangeError::NotLeader { .. }) => Changed::NotLeader(error.to_string()),
            // A replica may stop between the steps of a change.
            Err(error @ (ChangeError::Unknown(_) | ChangeError::Stopped(_))) => Changed::Unknown(error.to_string()),
        }
    }
}

impl Change {
    /// Carries the change out at the leader, which `group` must be. It goes on if the caller gives up: a change of voters
    /// takes two steps, and between them the group would be left with two sets of voters.
    ///
    /// What it is about is looked up in the membership in force, which is the leader's: what the caller saw may be old.
    pub async fn carry_out(&self, group: &Group) -> Result<Members, ChangeError> {
        let (change, group) = (self.clone(), group.clone());
        let carrying = async move {
            change.carry_out_here(&group).await?;
            let (voters, learners): (Vec<_>, Vec<_>) =
                members(&group).await?.into_iter().partition(|(_, (_, votes))| *votes);
            let nodes = |members: Vec<(NodeId, (String, bool))>| members.into_iter().map(|(node, _)| node).collect();
            Ok(Members { voters: nodes(voters), learners: nodes(learners) })
        };
        let carried = runtime::spawn("change of members", carrying);
        match runtime::timeout(CHANGE_WAIT, carried).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => Err(ChangeError::Unknown(error.to_string())),
            Err(_) => Err(ChangeError::Unknown("it has not ended yet".to_owned())),
        }
    }

    async fn carry_out_here(&self, group: &Group) -> Result<(), ChangeError> {
        let members = members(group).await?;
        let refused = |text: String| Err(ChangeError::Refused(text));
        let (node, there) = (self.node, members.get(&self.node));
        match (self.kind, there) {
            (ChangeKind::Add, Some((address, _))) if *address != self.address => {
                return refused(format!(
                    "{node} is a member already, at {address}: remove it, and add one with a new id"
                ));
            }
            (ChangeKind::Add, Some((_, true)))
            | (ChangeKind::Promote, Some((_, true)))
            | (ChangeKind::Remove, None) => {
                return Ok(());
            }
            (ChangeKind::Add, None) => {
                if let Some((other, _)) = members.iter().find(|(_, (address, _))| *address == self.address) {
                    return refused(format!("{other} listens at {}: give the new node's own address", self.address));
                }
            }
            (ChangeKind::Promote, None) => return refused(format!("{node} is no learner: start it and add it first")),
            (ChangeKind::Remove, Some((_, true))) if members.values().filter(|(_, votes)| *votes).count() == 1 => {
                return refused(format!("{node} is the only voter: add and promote another node first"));
            }
            _ => {}
        }
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

/// The members in force, as the replica here has them.
async fn members(group: &Group) -> Result<BTreeMap<NodeId, (String, bool)>, ChangeError> {
    group.members().await.map_err(|error| ChangeError::Stopped(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_done_is_told_so_to_the_node_that_asked() {
        let told = |error: ChangeError| Changed::from_bytes(&Changed::from(Err(error)).to_bytes()).unwrap();
        let text = || "why".to_owned();
        assert!(matches!(told(ChangeError::Refused(text())), Changed::Refused(why) if why.contains("why")));
        assert!(matches!(told(ChangeError::NotLeader { leader: None }), Changed::NotLeader(_)));
        for error in [ChangeError::Unknown(text()), ChangeError::Stopped(text())] {
            assert!(matches!(told(error), Changed::Unknown(why) if why.contains("why")));
        }
    }
}
