//! The directory: which site serves which unit, which group of a site hosts which shard, which nodes run which group. The
//! units and their (code, date) names are in `units`; here is what the centre says of them.
//!
//! Nodes, groups and shards are a site's own: entries, replicated in its first group, of which one replaces the one with
//! the same key. The sites of the country, and the units that the state makes, are a fold of the records of the ancestor shards that
//! this site hosts; what it was founded with is a seed beneath them ([`Place::say_units`], [`Place::say_sites`]). No place file is read after the founding, so none
//! writes over what was said from above.
//!
//! Who may say what: an ancestor shard speaks of sites in its unit alone, and a higher one's word counts. So a site whose
//! key was stolen can mislead those below it, and nobody beside or above it. Of units the centre alone speaks.

use std::collections::{BTreeMap, BTreeSet};

use crate::calendar::{Calendar, Year};
use crate::edit::Dot;
use crate::encoding::{Malformed, Wire};
use crate::ids::{GroupId, NodeId, RecordId, ShardId, SiteId, UnitId};
use crate::inject::{is_armed, sometimes};
use crate::record::Record;
use crate::schema::{FieldId, RecordKind, field, key_of};
use crate::units::{Directory, Unit};
use crate::{wire_enum, wire_struct};

/// One entry of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceEntry {
    /// A site of the country, as a founding file has it.
    Site(SiteEntry),
    /// A node of this site.
    Node(NodeEntry),
    /// A group of this site.
    Group(GroupEntry),
    /// A shard and the group of this site that hosts it.
    Shard(ShardEntry),
    /// Another key of a site, as a founding file has it.
    Key(KeyEntry),
    /// A unit that is not built in, as a founding file has it.
    Unit(Unit),
}

/// A site of the country, as a founding file has it.
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

/// Another key of a site, as a founding file has it: of one that had a former key, both are needed to take what it signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyEntry {
    /// The site.
    pub site: SiteId,
    /// The Ed25519 key.
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
    /// The highest feature level that its program knows, as it said when it started last; 0 if it has said none yet.
    pub level_max: u16,
}

/// Whether the program of a node that said of itself `level_max` knows a feature level; if not, what to do.
///
/// # Errors
/// The text that refuses a raise to that level.
pub fn knows(node: NodeId, level_max: u16, level: u16) -> Result<(), String> {
    match level_max {
        0 => Err(format!("{node} has not said which feature levels it knows: start it, and raise the level then")),
        _ if level_max < level => Err(format!(
            "{node} knows feature levels up to {level_max}: start it with a version that knows {level}, or remove it, and \
             raise the level then"
        )),
        _ => Ok(()),
    }
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
    /// Its home.
    pub unit: UnitId,
    /// The group of this site that hosts it.
    pub group: GroupId,
}

wire_struct! {
    SiteEntry { site, unit, parent, public_key }
    NodeEntry { node, address, present, level_max }
    GroupEntry { group, members }
    ShardEntry { shard, unit, group }
    KeyEntry { site, public_key }
}
wire_enum! { PlaceEntry, "entry of the directory" { 1 => Site, 2 => Node, 3 => Group, 4 => Shard, 5 => Key, 6 => Unit } }

impl PlaceEntry {
    /// What the entry is about: entries with equal keys replace each other.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        match self {
            PlaceEntry::Site(entry) => (1_u8, entry.site).to_bytes(),
            PlaceEntry::Node(entry) => (2_u8, entry.node).to_bytes(),
            PlaceEntry::Group(entry) => (3_u8, entry.group).to_bytes(),
            PlaceEntry::Shard(entry) => (4_u8, entry.shard).to_bytes(),
            PlaceEntry::Key(entry) => (5_u8, entry.site, entry.public_key).to_bytes(),
            PlaceEntry::Unit(unit) => (6_u8, unit.id).to_bytes(),
        }
    }
}

impl ShardEntry {
    /// Whether it is an ancestor shard, of the unit that is its home.
    #[must_use]
    pub fn is_ancestor(&self) -> bool {
        self.shard == ShardId::of_unit_above(self.unit)
    }
}

/// A site of the country, as the directory has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedSite {
    /// The site.
    pub site: SiteId,
    /// The unit that it serves.
    pub unit: UnitId,
    /// The site above; none for the centre.
    pub parent: Option<SiteId>,
    /// The Ed25519 keys that verify its statements and seals. Any will do: what was signed before a key was followed by
    /// another stays signed, also for a site that is founded later. A key that was revoked is not among them.
    pub keys: BTreeSet<[u8; 32]>,
    /// Where its nodes are reached; none if only the configurations of its children say so.
    pub addresses: Vec<String>,
    /// The shard that it writes, if it is a commune's and a record says so.
    pub shard: Option<ShardId>,
    /// Whether it serves its unit. Of one that was retired edits are still on their way, and must be known as its own.
    pub is_active: bool,
    /// The ancestor shard and the record that say so; none if the site was founded with it.
    pub said: Option<(ShardId, RecordId)>,
}

impl From<SiteEntry> for ListedSite {
    fn from(seed: SiteEntry) -> Self {
        let SiteEntry { site, unit, parent, public_key } = seed;
        let keys = BTreeSet::from([public_key]);
        ListedSite { site, unit, parent, keys, addresses: Vec::new(), shard: None, is_active: true, said: None }
    }
}

/// The texts of all elements of a field.
fn texts(record: &Record, of: FieldId) -> Vec<String> {
    let elements = record.fields().filter(|((field, _), _)| *field == of);
    elements.filter_map(|((_, element), _)| record.value(of, element)?.spoken()).collect()
}

impl ListedSite {
    /// What a record of an ancestor shard says; nothing if it lacks the site or its unit.
    fn of(shard: ShardId, id: RecordId, record: &Record) -> Option<Self> {
        if record.kind != RecordKind::Site {
            return None;
        }
        Some(ListedSite {
            site: record.text(field::SITE)?.parse().ok()?,
            unit: record.value(field::SITE_UNIT, b"")?.content().unit()?,
            parent: record.text(field::SITE_PARENT).and_then(|parent| parent.parse().ok()),
            keys: texts(record, field::SITE_KEY).iter().filter_map(|digits| key_of(digits)).collect(),
            addresses: texts(record, field::SITE_ADDRESS),
            shard: record.text(field::SITE_SHARD).and_then(|shard| shard.parse().ok()),
            is_active: record.value(field::SITE_STATE, b"").and_then(|state| state.code()) != Some("retired"),
            said: Some((shard, id)),
        })
    }
}

/// What an ancestor shard says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The shard.
    pub shard: ShardId,
    /// The unit that says it.
    pub home: UnitId,
    /// Its records.
    pub records: Vec<(RecordId, Record)>,
}

impl Said {
    /// What its records say, by what each is about: of several about the same, the one that was written last.
    fn latest<K: Ord, T>(&self, of: impl Fn(RecordId, &Record) -> Option<(K, T)>) -> BTreeMap<K, T> {
        let mut latest: BTreeMap<K, ((i64, Dot), T)> = BTreeMap::new();
        let when = |values: &[crate::record::Tagged]| {
            values.iter().map(|tagged| (tagged.received_ms, tagged.dot.clone())).max()
        };
        for (id, record) in &self.records {
            let Some((key, one)) = of(*id, record) else { continue };
            let Some(when) = record.fields().filter_map(|(_, values)| when(values)).max() else { continue };
            if latest.get(&key).is_none_or(|(before, _)| *before < when) {
                latest.insert(key, (when, one));
            }
        }
        latest.into_iter().map(|(key, (_, one))| (key, one)).collect()
    }
}

/// The directory, folded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// All sites of the country.
    pub sites: BTreeMap<SiteId, ListedSite>,
    /// What the centre says of units; see [`Directory::with`].
    pub units: BTreeMap<UnitId, Unit>,
    /// Which records say so.
    pub unit_records: BTreeMap<UnitId, RecordId>,
    /// The public holidays that the centre says.
    pub calendar: Calendar,
    /// Which records say those of a year, and why what one says counts for nothing, if it does.
    pub calendar_records: BTreeMap<u16, (RecordId, Vec<String>)>,
    /// The nodes of this site.
    pub nodes: BTreeMap<NodeId, NodeEntry>,
    /// The groups of this site.
    pub groups: BTreeMap<GroupId, GroupEntry>,
    /// The shards of this site.
    pub shards: BTreeMap<ShardId, ShardEntry>,
}

impl Place {
    /// The shard of this site with the records of a commune.
    #[must_use]
    pub fn home_of(&self, unit: UnitId) -> Option<ShardId> {
        self.shards.values().find(|entry| entry.unit == unit && !entry.is_ancestor()).map(|entry| entry.shard)
    }

    /// Lays what the centre says of units over what is here already, which the site was founded with.
    pub fn say_units(&mut self, said: &[Said], units: &Directory) {
        if is_armed("units-not-said") {
            return;
        }
        let is_centre = |unit| units.get(unit).is_some_and(|unit| unit.parent.is_none());
        for said in said.iter().filter(|said| is_centre(said.home)) {
            for (id, (record, unit)) in said.latest(|id, record| Unit::of(record).map(|unit| (unit.id, (id, unit)))) {
                sometimes("a unit is said from above", true);
                self.units.insert(id, unit);
                self.unit_records.insert(id, record);
            }
        }
    }

    /// Takes what the centre says of public holidays.
    pub fn say_holidays(&mut self, said: &[Said], units: &Directory) {
        let is_centre = |unit| units.get(unit).is_some_and(|unit| unit.parent.is_none());
        for said in said.iter().filter(|said| is_centre(said.home)) {
            for (year, (record, said)) in
                said.latest(|id, record| Some(Year::said(record)?).map(|(year, said)| (year, (id, said))))
            {
                sometimes("holidays are said from above", true);
                let misfit = said.as_ref().err().cloned().unwrap_or_default();
                self.calendar.years.extend(said.ok().map(|said| (year, said)));
                self.calendar_records.insert(year, (record, misfit));
            }
        }
    }

    /// Lays what ancestor shards say of sites over what is here already, which the site was founded with. The order in which the
    /// shards are given does not matter. `units` are all that there are, with those that are said.
    pub fn say_sites(&mut self, mut said: Vec<Said>, units: &Directory) {
        // From the top down: what a higher unit says of a site is not said otherwise further down.
        said.sort_by_key(|said| (units.ancestors(said.home).count(), said.shard));
        for said in said {
            let latest =
                said.latest(|id, record| ListedSite::of(said.shard, id, record).map(|listed| (listed.site, listed)));
            for (site, mut listed) in latest {
                if is_armed("revoked-key-verifies") {
                    listed.keys.extend(self.sites.get(&site).into_iter().flat_map(|before| &before.keys));
                }
                let may_replace = match self.sites.get(&site) {
                    Some(before) if before.said.is_some() => false,
                    Some(seed) => units.is_within(seed.unit, said.home),
                    None => true,
                };
                if may_replace && units.is_within(listed.unit, said.home) {
                    self.sites.insert(site, listed);
                }
            }
        }
    }

    /// Folds one entry in.
    pub fn put(&mut self, entry: PlaceEntry) {
        match entry {
            PlaceEntry::Site(entry) => drop(self.sites.insert(entry.site, entry.into())),
            PlaceEntry::Node(entry) => drop(self.nodes.insert(entry.node, entry)),
            PlaceEntry::Group(entry) => drop(self.groups.insert(entry.group, entry)),
            PlaceEntry::Shard(entry) => drop(self.shards.insert(entry.shard, entry)),
            // In the order of their keys, entries of sites come first.
            PlaceEntry::Key(entry) => {
                self.sites.get_mut(&entry.site).map(|listed| listed.keys.insert(entry.public_key));
            }
            PlaceEntry::Unit(unit) => drop(self.units.insert(unit.id, unit)),
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
    pub fn site_of(&self, unit: UnitId) -> Option<&ListedSite> {
        self.sites.values().find(|listed| listed.unit == unit && listed.is_active)
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
