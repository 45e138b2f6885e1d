//! What openraft's type parameters are here, and their bytes.
//!
//! The bytes of an entry, as [`encode_entry`] makes them, are what the log stores and what travels to peers.
//! Everything that decodes checks: a required field that is absent, an id out of order or a voter that is no member is
//! [`Malformed`], never a default. Limits: a command is at most [`COMMAND_BYTES_MAX`] long.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use dinhba_proto::peer::v1 as wire;
use openraft::vote::leader_id_std;
use openraft::{EntryPayload, Vote};
use prost::Message;

/// The longest command a group takes: a fraction of a frame, so that one always fits with its envelope.
pub const COMMAND_BYTES_MAX: usize = 1 << 20;

/// The most members a group has: a site has 1 to 7 nodes, and while one is replaced both are members.
pub const MEMBERS_MAX: usize = 16;

/// The longest address of a node: a host name has at most 253 bytes.
const ADDRESS_BYTES_MAX: usize = 300;

openraft::declare_raft_types!(
    /// openraft's types in this program. One leader per term; ids are plain numbers, as in `ids::NodeId`.
    pub TypeConfig:
        D = Proposal,
        R = Answer,
        NodeId = u64,
        Node = Node,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = crate::runtime::Runtime,
);

/// A command, opaque to the group.
#[derive(Clone, PartialEq, Eq)]
pub struct Proposal(pub Vec<u8>);

/// What the machine answered to a command; empty for an entry that is not a command.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer(pub Vec<u8>);

// Commands and answers hold personal data: they never print.
impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proposal({} bytes)", self.0.len())
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({} bytes)", self.0.len())
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// How a member is reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// `host:port`.
    pub address: String,
}

/// openraft's names with this program's types.
pub type CommittedLeaderId = leader_id_std::CommittedLeaderId<u64>;
/// A place in the log.
pub type LogId = openraft::LogId<CommittedLeaderId>;
/// An entry of the log.
pub type Entry = openraft::impls::Entry<CommittedLeaderId, EntryPayload<Proposal, u64, Node>>;
/// A vote, or a leader's right.
pub type RaftVote = Vote<leader_id_std::LeaderId<u64, u64>>;
/// Who takes part.
pub type Membership = openraft::Membership<u64, Node>;
/// Who takes part, and since which entry.
pub type StoredMembership = openraft::StoredMembership<CommittedLeaderId, u64, Node>;
/// Up to where a snapshot goes.
pub type SnapshotMeta = openraft::SnapshotMeta<CommittedLeaderId, u64, Node>;

/// Bytes from a disk or a peer are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what}: {why}")]
pub struct Malformed {
    /// The thing that did not parse.
    pub what: &'static str,
    /// What is wrong with it.
    pub why: String,
}

fn malformed(what: &'static str, why: impl Into<String>) -> Malformed {
    Malformed { what, why: why.into() }
}

fn required<T>(value: Option<T>, what: &'static str, field: &str) -> Result<T, Malformed> {
    value.ok_or_else(|| malformed(what, format!("`{field}` is absent")))
}

/// Parses a protobuf message.
pub(crate) fn decode<M: Message + Default>(what: &'static str, bytes: &[u8]) -> Result<M, Malformed> {
    M::decode(bytes).map_err(|error| malformed(what, error.to_string()))
}

/// To the wire.
#[must_use]
pub fn log_id_to_wire(id: &LogId) -> wire::LogId {
    wire::LogId { term: id.leader_id.term, index: id.index }
}

/// From the wire: the largest index is refused, so that the one after it is always a number.
pub fn log_id_from_wire(id: wire::LogId) -> Result<LogId, Malformed> {
    if id.index == u64::MAX {
        return Err(malformed("log id", "an index beyond all logs"));
    }
    Ok(LogId::new_term_index(id.term, id.index))
}

/// From the wire, where it may be absent.
pub fn log_id_optional(id: Option<wire::LogId>) -> Result<Option<LogId>, Malformed> {
    id.map(log_id_from_wire).transpose()
}

/// To the wire.
#[must_use]
pub fn vote_to_wire(vote: &RaftVote) -> wire::Vote {
    wire::Vote { term: vote.leader_id.term, node: vote.leader_id.voted_for, committed: vote.committed }
}

/// From the wire.
#[must_use]
pub fn vote_from_wire(vote: wire::Vote) -> RaftVote {
    if vote.committed { Vote::new_committed(vote.term, vote.node) } else { Vote::new(vote.term, vote.node) }
}

/// From the wire, where it must be there.
pub fn vote_required(vote: Option<wire::Vote>, what: &'static str) -> Result<RaftVote, Malformed> {
    required(vote, what, "vote").map(vote_from_wire)
}

/// To the wire.
#[must_use]
pub fn membership_to_wire(membership: &Membership) -> wire::Membership {
    wire::Membership {
        voters: membership
            .get_joint_config()
            .iter()
            .map(|set| wire::Voters { nodes: set.iter().copied().collect() })
            .collect(),
        members: membership.nodes().map(|(&node, data)| wire::Member { node, address: data.address.clone() }).collect(),
    }
}

/// From the wire: at most two voter sets, members in order and once each, every voter a member.
pub fn membership_from_wire(membership: wire::Membership) -> Result<Membership, Malformed> {
    const WHAT: &str = "membership";
    if membership.members.len() > MEMBERS_MAX {
        return Err(malformed(WHAT, format!("{} members, at most {MEMBERS_MAX}", membership.members.len())));
    }
    if membership.voters.len() > 2 {
        return Err(malformed(WHAT, format!("{} sets of voters, at most 2", membership.voters.len())));
    }
    let mut nodes = BTreeMap::new();
    for member in membership.members {
        if nodes.last_key_value().is_some_and(|(&last, _)| last >= member.node) {
            return Err(malformed(WHAT, "members out of order"));
        }
        if member.address.len() > ADDRESS_BYTES_MAX {
            return Err(malformed(WHAT, "an address is too long"));
        }
        nodes.insert(member.node, Node { address: member.address });
    }
    let voters: Vec<BTreeSet<u64>> = membership.voters.into_iter().map(|set| set.nodes.into_iter().collect()).collect();
    if voters.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(voters, nodes).map_err(|error| malformed(WHAT, error.to_string()))
}

/// The bytes of an entry, in the log and on the wire.
#[must_use]
pub fn encode_entry(entry: &Entry) -> Vec<u8> {
    let payload = match &entry.payload {
        EntryPayload::Blank => wire::entry::Payload::Blank(wire::Blank {}),
        EntryPayload::Normal(proposal) => wire::entry::Payload::Command(proposal.0.clone()),
        EntryPayload::Membership(membership) => wire::entry::Payload::Membership(membership_to_wire(membership)),
    };
    wire::Entry { id: Some(log_id_to_wire(&entry.log_id)), payload: Some(payload) }.encode_to_vec()
}

/// The entry that `bytes` hold.
pub fn decode_entry(bytes: &[u8]) -> Result<Entry, Malformed> {
    const WHAT: &str = "log entry";
    let entry: wire::Entry = decode(WHAT, bytes)?;
    let payload = match required(entry.payload, WHAT, "payload")? {
        wire::entry::Payload::Blank(_) => EntryPayload::Blank,
        wire::entry::Payload::Command(command) => EntryPayload::Normal(Proposal(command)),
        wire::entry::Payload::Membership(membership) => EntryPayload::Membership(membership_from_wire(membership)?),
    };
    Ok(Entry { log_id: log_id_from_wire(required(entry.id, WHAT, "id")?)?, payload })
}

/// The bytes of a vote, in the log.
#[must_use]
pub fn encode_vote(vote: &RaftVote) -> Vec<u8> {
    vote_to_wire(vote).encode_to_vec()
}

/// The vote that `bytes` hold.
pub fn decode_vote(bytes: &[u8]) -> Result<RaftVote, Malformed> {
    decode::<wire::Vote>("vote", bytes).map(vote_from_wire)
}

/// The bytes of a log id: the mark that the log keeps in place of what it purged.
#[must_use]
pub fn encode_log_id(id: &LogId) -> Vec<u8> {
    log_id_to_wire(id).encode_to_vec()
}

/// The log id that `bytes` hold.
pub fn decode_log_id(bytes: &[u8]) -> Result<LogId, Malformed> {
    decode::<wire::LogId>("log id", bytes).and_then(log_id_from_wire)
}

/// To the wire: a snapshot's reach is the position that is stored with the state.
#[must_use]
pub fn meta_to_wire(meta: &SnapshotMeta) -> wire::Position {
    wire::Position {
        applied: meta.last_log_id.as_ref().map(log_id_to_wire),
        membership_id: meta.last_membership.log_id().as_ref().map(log_id_to_wire),
        membership: Some(membership_to_wire(meta.last_membership.membership())),
    }
}

/// From the wire.
pub fn meta_from_wire(position: wire::Position) -> Result<SnapshotMeta, Malformed> {
    let membership = membership_from_wire(required(position.membership, "position", "membership")?)?;
    Ok(SnapshotMeta {
        last_log_id: log_id_optional(position.applied)?,
        last_membership: StoredMembership::new(log_id_optional(position.membership_id)?, membership),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership() -> Membership {
        let nodes = [1, 2, 3].map(|id| (id, Node { address: format!("node-{id}:7001") }));
        Membership::new(vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 3])], BTreeMap::from(nodes))
            .expect("all voters are members")
    }

    #[test]
    fn every_kind_of_entry_comes_back_as_it_was() {
        for payload in [
            EntryPayload::Blank,
            EntryPayload::Normal(Proposal(vec![])),
            EntryPayload::Normal(Proposal(vec![1, 2, 3])),
            EntryPayload::Membership(membership()),
        ] {
            let entry = Entry { log_id: LogId::new_term_index(3, 9), payload };
            assert_eq!(decode_entry(&encode_entry(&entry)), Ok(entry));
        }
    }

    #[test]
    fn an_entry_without_an_id_or_a_payload_is_malformed() {
        let bare = wire::Entry { id: Some(wire::LogId { term: 1, index: 1 }), payload: None };
        assert!(decode_entry(&bare.encode_to_vec()).is_err());
        let payload = Some(wire::entry::Payload::Command(vec![1]));
        assert!(decode_entry(&wire::Entry { id: None, payload }.encode_to_vec()).is_err());
        assert!(decode_entry(&[0xff; 7]).is_err());
    }

    #[test]
    fn an_index_after_which_there_is_none_is_malformed() {
        let id = Some(wire::LogId { term: 1, index: u64::MAX });
        let payload = Some(wire::entry::Payload::Blank(wire::Blank {}));
        assert!(decode_entry(&wire::Entry { id, payload }.encode_to_vec()).is_err());
    }

    #[test]
    fn a_voter_who_is_no_member_is_malformed() {
        let mut wire = membership_to_wire(&membership());
        assert!(membership_from_wire(wire.clone()).is_ok());
        wire.members.remove(0);
        assert!(membership_from_wire(wire).is_err());
    }

    #[test]
    fn members_out_of_order_are_malformed() {
        let mut wire = membership_to_wire(&membership());
        wire.members.swap(0, 1);
        assert!(membership_from_wire(wire).is_err());
    }

    #[test]
    fn a_command_never_prints() {
        let entry = EntryPayload::<Proposal, u64, Node>::Normal(Proposal(b"Nguyen".to_vec()));
        assert_eq!(format!("{entry:?} {entry}"), "normal:Proposal(6 bytes) normal:Proposal(6 bytes)");
    }
}
