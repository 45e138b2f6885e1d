//! Which site serves which unit, which group of a site hosts which shard, which nodes run which group: replicated data
//! of each site's first group. The units themselves and their (code, date) names are in `units`.
//!
//! An entry replaces the one with the same key. What a site knows of others is what it must know to talk to them: every
//! site of the country with its parent and public key; nodes, groups and shards only of itself.

use std::collections::BTreeMap;

use crate::encoding::{Malformed, Wire};
use crate::ids::{GroupId, NodeId, ShardId, SiteId, UnitId};
use crate::{wire_enum, wire_struct};

/// One entry of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceEntry {
    /// A site of the country.
    Site(SiteEntry),
    /// A node of this site.
    Node(NodeEntry),
    /// A group of this site.
    Group(GroupEntry),
    /// A shard and the group of this site that hosts it.
    Shard(ShardEntry),
}

/// A site of the country.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteEntry {
    /// The site.
    pub site: SiteId,
    /// The unit that it serves.
    pub unit: UnitId,
    /// The site above; none for the centre.
    pub parent: Option<SiteId>,
    /// The Ed25519 key that verifies its statements.
    pub public_key: [u8; 32],
}

/// A node of this site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEntry {
    /// The node.
    pub node: NodeId,
    /// Where peers, children and clients reach it: `host:port`.
    pub address: String,
    /// Whether it is still part of the site. Ids are never re-used, so a node that left stays listed.
    pub present: bool,
}

/// A group of this site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupEntry {
    /// The group.
    pub group: GroupId,
    /// The nodes that voted in it when it was formed; Raft's own membership is the authority from then on.
    pub members: Vec<NodeId>,
}

/// A shard and where it is hosted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardEntry {
    /// The shard.
    pub shard: ShardId,
    /// Its home commune.
    pub unit: UnitId,
    /// The group of this site that hosts it.
    pub group: GroupId,
}

wire_struct! {
    SiteEntry { site, unit, parent, public_key }
    NodeEntry { node, address, present }
    GroupEntry { group, members }
    ShardEntry { shard, unit, group }
}
wire_enum! { PlaceEntry, "entry of the directory" { 1 => Site, 2 => Node, 3 => Group, 4 => Shard } }

impl PlaceEntry {
    /// What the entry is about: entries with equal keys replace each other.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        match self {
            PlaceEntry::Site(entry) => (1_u8, entry.site).to_bytes(),
            PlaceEntry::Node(entry) => (2_u8, entry.node).to_bytes(),
            PlaceEntry::Group(entry) => (3_u8, entry.group).to_bytes(),
            PlaceEntry::Shard(entry) => (4_u8, entry.shard).to_bytes(),
        }
    }
}

/// The directory, folded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// All sites of the country.
    pub sites: BTreeMap<SiteId, SiteEntry>,
    /// The nodes of this site.
    pub nodes: BTreeMap<NodeId, NodeEntry>,
    /// The groups of this site.
    pub groups: BTreeMap<GroupId, GroupEntry>,
    /// The shards of this site.
    pub shards: BTreeMap<ShardId, ShardEntry>,
}

impl Place {
    /// The shard of this site whose home a unit is.
    #[must_use]
    pub fn home_of(&self, unit: UnitId) -> Option<ShardId> {
        self.shards.values().find(|entry| entry.unit == unit).map(|entry| entry.shard)
    }

    /// Folds one entry in.
    pub fn put(&mut self, entry: PlaceEntry) {
        match entry {
            PlaceEntry::Site(entry) => drop(self.sites.insert(entry.site, entry)),
            PlaceEntry::Node(entry) => drop(self.nodes.insert(entry.node, entry)),
            PlaceEntry::Group(entry) => drop(self.groups.insert(entry.group, entry)),
            PlaceEntry::Shard(entry) => drop(self.shards.insert(entry.shard, entry)),
        }
    }

    /// Folds stored entries.
    pub fn read<'a>(entries: impl Iterator<Item = &'a [u8]>) -> Result<Self, Malformed> {
        let mut place = Place::default();
        for bytes in entries {
            place.put(PlaceEntry::from_bytes(bytes)?);
        }
        Ok(place)
    }

    /// The sites above `site`, nearest first.
    #[must_use]
    pub fn ancestors(&self, site: SiteId) -> Vec<SiteId> {
        let mut above = Vec::new();
        let mut next = self.sites.get(&site).and_then(|entry| entry.parent);
        while let Some(parent) = next.filter(|parent| !above.contains(parent)) {
            above.push(parent);
            next = self.sites.get(&parent).and_then(|entry| entry.parent);
        }
        above
    }

    /// The site that serves a unit.
    #[must_use]
    pub fn site_of(&self, unit: UnitId) -> Option<&SiteEntry> {
        self.sites.values().find(|entry| entry.unit == unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_replaces_its_predecessor_and_a_cycle_of_parents_ends() {
        let site = |site, parent| {
            PlaceEntry::Site(SiteEntry {
                site: SiteId(site),
                unit: UnitId(site),
                parent: Some(SiteId(parent)),
                public_key: [0; 32],
            })
        };
        let mut place = Place::default();
        [site(1, 9), site(1, 2), site(2, 1)].into_iter().for_each(|entry| place.put(entry));
        assert_eq!(place.ancestors(SiteId(1)), [SiteId(2), SiteId(1)]);
    }
}
