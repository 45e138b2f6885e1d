//! The promises, one file each. A check looks at the running world from time to time, and judges it at the end.
//!
//! Adding one is a file, a line in [`all`], and its word in [`Promise`].

use dinhba_node::raft::group::Status;

use crate::country::{Country, Power};
use crate::oracle::Oracle;
use crate::scenario::{Promise, What};
use crate::trace::{NodePlace, SitePlace};

mod alive;
mod bounds_hold;
mod chains_hold;
mod commands_whole;
mod converges;
mod digests_true;
pub mod linearizability;
mod linearizable;
mod links_go_on;
mod names_stay;
mod never_back;
mod nothing_forged;
mod nothing_lost;
mod reads_logged;
mod replicas_agree;
mod statements_true;

pub use alive::is_excused;
pub use converges::behind;

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
    pub fn running(&self) -> Vec<(NodePlace, dinhba_core::ids::GroupId, Status)> {
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
        if self.country.was_stolen(site) {
            return true;
        }
        if self.oracle.ledger().losses.iter().any(|loss| loss.site == site) {
            return true;
        }
        let code = &self.country.sites()[site].code;
        let faults = &self.country.scenario().faults;
        faults.iter().any(|fault| matches!(&fault.what, What::ForgetVote { node } if node.site == *code))
    }
}

/// A promise under watch. What it finds is text for people; it never names a value of a record.
pub trait Check: Send {
    /// The promise.
    fn promise(&self) -> Promise;

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
        Box::<replicas_agree::ReplicasAgree>::default(),
        Box::<digests_true::DigestsTrue>::default(),
        Box::<commands_whole::CommandsWhole>::default(),
        Box::<nothing_forged::NothingForged>::default(),
        Box::<bounds_hold::BoundsHold>::default(),
        Box::new(chains_hold::ChainsHold),
        Box::new(converges::Converges),
        Box::new(nothing_lost::NothingLost),
        Box::<never_back::NeverBack>::default(),
        Box::<statements_true::StatementsTrue>::default(),
        Box::new(links_go_on::LinksGoOn),
        Box::<names_stay::NamesStay>::default(),
        Box::new(reads_logged::ReadsLogged),
        Box::new(alive::Alive),
    ]
}
