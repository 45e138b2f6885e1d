//! The promises, one file each. A check looks at the running world from time to time, and judges it at the end.
//!
//! Adding one is a file, a line in [`all`], and its word in [`Promise`].

use std::collections::BTreeSet;

use dinhba_core::ids::{GroupId, ShardId, SiteId};
use dinhba_core::store::{StateView, StoreError};
use dinhba_node::raft::group::Status;
use dinhba_node::raft::snapshot::position_key;

use crate::country::{Country, Power};
use crate::oracle::Oracle;
use crate::scenario::Promise;
use crate::state::{ShardCopy, engine, shard_copy};
use crate::trace::{NodePlace, SitePlace};

mod alive;
mod bounds_hold;
mod chains_hold;
mod commands_whole;
mod converges;
mod digests_true;
mod directory_true;
pub mod linearizability;
mod linearizable;
mod links_go_on;
mod names_stay;
mod never_back;
mod nothing_forged;
mod nothing_lost;
mod numbers_once;
mod reads_logged;
mod replicas_agree;
mod standing;
mod statements_true;

pub use alive::is_excused;
pub use converges::behind;

/// Where a machine has a copy of a shard.
pub struct CopyPlace {
    /// The machine.
    pub node: NodePlace,
    /// The group that hosts the shard there.
    pub group: GroupId,
    /// The shard.
    pub shard: ShardId,
}

/// What the checks look at.
#[derive(Clone)]
pub struct World {
    /// Sites and machines.
    pub country: Country,
    /// What people were told.
    pub oracle: Oracle,
}

impl World {
    /// The running nodes with the states of their groups, by machine.
    #[must_use]
    pub fn running(&self) -> Vec<(NodePlace, GroupId, Status)> {
        let nodes: Vec<_> = {
            let machines = self.country.machines();
            let on = machines.iter().enumerate().filter(|(_, machine)| machine.power == Power::On);
            on.filter_map(|(place, machine)| Some((place, machine.node.clone()?))).collect()
        };
        let mut running = Vec::new();
        for (place, node) in nodes {
            running.extend(node.shared.hosted().map(|hosted| (place, hosted.id(), hosted.group.status())));
        }
        running
    }

    /// Whether a site lost a disk or got an old one, by a fault or by an operator who mended what was damaged; or somebody has
    /// its key, and forks its chains as if it had.
    #[must_use]
    pub fn was_set_back(&self, site: SitePlace) -> bool {
        let faults = &self.country.scenario().faults;
        let of_nodes = || faults.iter().filter(|fault| fault.what.sets_back()).map(|fault| fault.what.kind());
        let is_hit = |node: NodePlace| of_nodes().any(|kind| self.country.was_hit(kind, node));
        let nodes = self.country.all_machines_of(site);
        self.country.was_stolen(site) || self.lost().contains(&site) || nodes.into_iter().any(is_hit)
    }

    /// Sites whose only disk was lost, or replaced by an old one.
    #[must_use]
    pub fn lost(&self) -> BTreeSet<SitePlace> {
        self.oracle.ledger().losses.iter().map(|loss| loss.site).collect()
    }

    /// Sites whose keys somebody has, or had.
    #[must_use]
    pub fn stolen(&self) -> BTreeSet<SiteId> {
        let sites = self.country.sites().iter().enumerate();
        sites.filter(|(place, _)| self.country.was_stolen(*place)).map(|(_, site)| site.id).collect()
    }

    /// Whether all nodes of a site run as they were first started.
    #[must_use]
    pub fn never_restarted(&self, site: SitePlace) -> bool {
        let machines = self.country.machines();
        let mut of_site = machines.iter().filter(|machine| machine.site == site);
        of_site.all(|machine| machine.lives == 1 && machine.power == Power::On)
    }

    /// What a check finds in the copies that machines have of shards, under their names: in each that is a state, and not one
    /// that is half put in place. A copy that cannot be read is found, too ([`unreadable`](Self::unreadable)).
    pub fn copies(&self, mut find: impl FnMut(&CopyPlace, &ShardCopy) -> Vec<String>) -> Vec<String> {
        let mut found = Vec::new();
        for (site, plan) in self.country.sites().iter().enumerate() {
            for node in self.country.machines_of(site) {
                let (state, name) = (engine(&self.country, node), self.country.name(node));
                for (group, shard) in plan.hosts().filter(|(group, _)| self.is_state(node, *group)) {
                    match shard_copy(&*state, group, shard) {
                        Ok(Some(copy)) => {
                            let texts = find(&CopyPlace { node, group, shard }, &copy);
                            found.extend(texts.into_iter().map(|text| format!("{name}, {shard}: {text}")));
                        }
                        Ok(None) => {}
                        Err(error) => found.extend(self.unreadable(node, group, &error)),
                    }
                }
            }
        }
        found
    }

    /// In words, that something of a group cannot be read at a machine. Nothing if bits of its disk flipped, which is a reason:
    /// then it is found and refused, and `alive` asks about it.
    #[must_use]
    pub fn unreadable(&self, node: NodePlace, group: GroupId, error: &StoreError) -> Option<String> {
        let has_reason = self.country.was_hit("rot", node) || !self.is_state(node, group);
        (!has_reason).then(|| format!("{}: no bit flipped, and yet: {error}", self.country.name(node)))
    }

    /// Whether what a machine has of a group is a state of it: while one is put in place of another it has no position.
    fn is_state(&self, node: NodePlace, group: GroupId) -> bool {
        !matches!(engine(&self.country, node).get(&position_key(group)), Ok(None))
    }
}

/// A promise under watch. What it finds is text for people; it never names a value of a record.
pub trait Check: Send {
    /// The promise.
    fn promise(&self) -> Promise;

    /// Of so many looks at the world, it takes one: some read all that is there.
    fn every(&self) -> u64 {
        1
    }

    /// Looks while officers work and faults happen.
    fn look(&mut self, world: &World) -> Vec<String> {
        let _ = world;
        Vec::new()
    }

    /// Judges once everything is healed and in step, or should be.
    fn judge(&mut self, world: &World) -> Vec<String> {
        let _ = world;
        Vec::new()
    }
}

/// All checks.
#[must_use]
pub fn all() -> Vec<Box<dyn Check>> {
    vec![
        Box::new(linearizable::Linearizable),
        Box::new(replicas_agree::ReplicasAgree),
        Box::new(digests_true::DigestsTrue),
        Box::new(directory_true::DirectoryTrue),
        Box::<commands_whole::CommandsWhole>::default(),
        Box::new(nothing_forged::NothingForged),
        Box::new(bounds_hold::BoundsHold),
        Box::new(chains_hold::ChainsHold),
        Box::new(converges::Converges),
        Box::new(nothing_lost::NothingLost),
        Box::new(numbers_once::NumbersOnce),
        Box::<never_back::NeverBack>::default(),
        Box::new(statements_true::StatementsTrue),
        Box::new(links_go_on::LinksGoOn),
        Box::<names_stay::NamesStay>::default(),
        Box::new(reads_logged::ReadsLogged),
        Box::new(alive::Alive),
    ]
}

#[cfg(test)]
mod testing {
    use dinhba_core::claims::{Claims, Purpose, Role};
    use dinhba_core::edit::{Author, Edit, EditKind, Header, Origin};
    use dinhba_core::event::Event;
    use dinhba_core::ids::{EvidenceId, Hash, Incarnation, RecordId, RequestId, SessionId, ShardId, SiteId, UnitId};
    use dinhba_core::schema::RecordKind;

    /// A site's only life in a shard.
    pub fn author(site: u64) -> Author {
        Author { site: SiteId(site), shard: ShardId(2), incarnation: Incarnation([3; 16]) }
    }

    /// A part of a command on a person, without a change.
    pub fn edit(author: Author, number: u64, (part, of): (u32, u32), request: u64) -> Edit {
        let origin = Origin {
            request: RequestId { session: SessionId([6; 16]), counter: request },
            claims: Claims::new("a", Role::Registrar, UnitId(8), EvidenceId::default()).expect("claims"),
            purpose: Purpose::Registration,
            case: "HS-1".parse().expect("a case"),
            authored_ms: 0,
            received_ms: 0,
        };
        let header = Header {
            level: 1,
            author,
            number,
            previous: Hash::default(),
            kind: EditKind::Change,
            event: Event::Change,
            record: RecordId::default(),
            record_kind: RecordKind::Person,
            part,
            of,
            origin,
            valid_from: Vec::new(),
            extensions: Vec::new(),
        };
        Edit { header, changes: Vec::new() }
    }
}
