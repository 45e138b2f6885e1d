//! What each node takes for the directory is what the entries and the records of ancestor shards say that it has, and what
//! operators were told they changed: which sites there are, below whom, with which keys, and which units.
//!
//! Judged once all is in step: until then a node may be a moment behind what it holds. Does not check: by which rules the records are
//! folded, since the product's own fold is asked; of changes by operators, where sites are reached.

use std::collections::BTreeSet;

use dinhba_core::place::{Place, PlaceEntry, Said};
use dinhba_core::record::Record;
use dinhba_core::registry;
use dinhba_core::store::StoreError;
use dinhba_node::hosted::Hosted;
use dinhba_node::node::Node;

use super::{Check, World};
use crate::country::Power;
use crate::scenario::{Promise, What, directory};
use crate::trace::SitePlace;

pub struct DirectoryTrue;

/// The directory as a node's first group has it.
fn folded(hosted: &Hosted) -> Result<Place, StoreError> {
    let (mut place, said) = hosted.look(|view| {
        let (mut place, mut said) = (Place::default(), Vec::new());
        for (_, entry) in registry::read_range::<PlaceEntry>(view, hosted.keys().places())? {
            place.put(entry);
        }
        for entry in place.shards.values().filter(|entry| entry.is_ancestor()) {
            let records = registry::read_range::<Record>(view, hosted.keys().records(entry.shard))?;
            let records = records.into_iter().map(|(key, record)| Ok((registry::record_of(&key)?, record)));
            let records = records.collect::<Result<_, StoreError>>()?;
            said.push(Said { shard: entry.shard, home: entry.unit, records });
        }
        Ok((place, said))
    })?;
    place.say_units(&said, directory());
    place.say_holidays(&said, directory());
    place.say_sites(said, &directory().with(&place.units).0);
    Ok(place)
}

/// What a node takes for so, and is not.
fn faults_of(world: &World, node: &Node, changed: &BTreeSet<SitePlace>) -> Vec<String> {
    let (shared, country, mut found) = (&node.shared, &world.country, Vec::new());
    let Some(hosted) = shared.site_group() else { return found };
    // One that cannot be read is `alive`'s to tell of.
    let Ok(folded) = folded(hosted) else { return found };
    let place = shared.place();
    if *place != folded {
        found.push("its directory is not what its records say".to_owned());
    }
    for site in changed {
        let plan = &country.sites()[*site];
        let parent = country.parent(*site).map(|above| country.sites()[above].id);
        let listed = place.sites.get(&plan.id);
        let signs = |listed: &dinhba_core::place::ListedSite| {
            let spelled = |key: &[u8; 32]| key.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            listed.keys.iter().any(|key| spelled(key) == country.public_key(*site))
        };
        if !listed.is_some_and(|listed| listed.is_active && listed.parent == parent && signs(listed)) {
            found.push(format!("its directory does not say of {} what operators changed", plan.code));
        }
    }
    let ledger = world.oracle.ledger();
    let (units, shared_units) = (ledger.units.iter(), shared.units());
    let covered = units.filter(|(request, _)| ledger.told.get(request).is_some_and(|told| ledger.is_covered(told)));
    for (_, unit) in covered {
        if shared_units.get(unit.id) != Some(unit) {
            found.push(format!("it does not know the unit {} that the centre made", unit.code));
        }
    }
    let said = ledger.holidays.iter();
    let covered = said.filter(|(request, _)| ledger.told.get(request).is_some_and(|told| ledger.is_covered(told)));
    for (_, year) in covered {
        if !place.calendar.years.contains_key(year) {
            found.push(format!("it does not know the holidays of {year} that the centre said"));
        }
    }
    found
}

/// Sites of which operators changed something that they were told is so.
fn changed(world: &World) -> BTreeSet<SitePlace> {
    let faults = world.country.scenario().faults.iter().enumerate();
    let done = faults.filter(|(place, _)| world.country.is_done(*place));
    let site = |what: &What| match what {
        What::AddSite { site } | What::RekeySite { site, .. } | What::MoveSite { site, .. } => {
            Some(world.country.site(site))
        }
        _ => None,
    };
    done.filter_map(|(_, fault)| site(&fault.what)).collect()
}

impl Check for DirectoryTrue {
    fn promise(&self) -> Promise {
        Promise::DirectoryTrue
    }

    fn judge(&mut self, world: &World) -> Vec<String> {
        let (country, changed, mut found) = (&world.country, changed(world), Vec::new());
        let count = country.machines().len();
        for place in 0..count {
            let (power, node) = {
                let machines = country.machines();
                (machines[place].power.clone(), machines[place].node.clone())
            };
            let Some(node) = node.filter(|_| power == Power::On) else { continue };
            // Who left, or was never let in, hears nothing any more.
            let is_member = node.shared.site_group().is_some_and(|hosted| {
                hosted.group.status().stopped.is_none() && super::converges::is_member(world, hosted.id(), place)
            });
            if is_member {
                let name = country.name(place);
                found.extend(faults_of(world, &node, &changed).into_iter().map(|text| format!("{name}: {text}")));
            }
        }
        found
    }
}
