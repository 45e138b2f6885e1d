//! Every edit that somebody was told is accepted is held at every site of its shard, and every value of a field is what the
//! edits say: written, and overwritten by nobody who had seen it. So an accepted value is visible, replaced by one whose
//! author had seen it, or in conflict.
//!
//! Does not check: nodes that left their group; edits that were alone on a disk that the scenario took away beyond the promises; the values of records
//! whose authors' chains are forked (there, names of values are resolved by rules of their own).

use std::collections::{BTreeMap, BTreeSet};

use dinhba_core::edit::{Dot, GROUNDS};
use dinhba_core::ids::Hash;
use dinhba_core::record::FieldKey;

use super::converges::is_member;
use super::{Check, World};
use crate::country::Power;
use crate::scenario::Promise;
use crate::state::{ShardCopy, engine, shard_copy};

pub struct NothingLost;

/// The fields of records that do not follow from the edits.
fn misfolded(copy: &ShardCopy) -> Vec<String> {
    if copy.state.poisoned > 0 || copy.authors.iter().any(|author| author.trunk.is_some()) {
        return Vec::new();
    }
    let mut written: BTreeMap<(Vec<u8>, FieldKey), BTreeSet<Dot>> = BTreeMap::new();
    let mut overwritten: BTreeSet<((Vec<u8>, FieldKey), Dot)> = BTreeSet::new();
    for (dot, (_, edit)) in &copy.edits {
        for change in edit.changes.iter().filter(|change| change.field != GROUNDS) {
            let key = (edit.header.record.0.to_vec(), (change.field, change.element.clone()));
            written.entry(key.clone()).or_default().insert(dot.clone());
            overwritten.extend(change.overwrites.iter().map(|old| (key.clone(), old.clone())));
        }
    }
    let mut found = Vec::new();
    let mut shown: BTreeMap<(Vec<u8>, FieldKey), BTreeSet<Dot>> = BTreeMap::new();
    for (key, record) in &copy.records {
        let id = key[key.len().saturating_sub(16)..].to_vec();
        for (field, values) in record.fields() {
            shown.insert((id.clone(), field.clone()), values.iter().map(|value| value.dot.clone()).collect());
        }
    }
    for (key, dots) in written {
        let expected: BTreeSet<Dot> =
            dots.into_iter().filter(|dot| !overwritten.contains(&(key.clone(), dot.clone()))).collect();
        let there = shown.remove(&key).unwrap_or_default();
        if there != expected {
            found.push(format!(
                "field {:?} of a record has {} values, where its edits make {}",
                key.1.0,
                there.len(),
                expected.len()
            ));
        }
    }
    found.extend(shown.keys().map(|key| format!("field {:?} of a record has values that nobody wrote", key.1.0)));
    found
}

impl Check for NothingLost {
    fn promise(&self) -> Promise {
        Promise::NothingLost
    }

    fn judge(&mut self, world: &World) -> Vec<String> {
        let country = &world.country;
        let ledger = world.oracle.ledger();
        let mut found = ledger.contradictions.clone();
        for (site, plan) in country.sites().iter().enumerate() {
            for node in country.machines_of(site) {
                if country.machines()[node].power != Power::On {
                    continue;
                }
                let name = country.name(node);
                for (group, shards) in plan.groups.iter().filter(|(group, _)| is_member(world, *group, node)) {
                    for shard in shards {
                        let Ok(Some(copy)) = shard_copy(&*engine(country, node), *group, *shard) else { continue };
                        let held: BTreeSet<Hash> = copy.edits.values().map(|(hash, _)| *hash).collect();
                        let due =
                            ledger.told.iter().filter(|(_, told)| told.shard == *shard && ledger.is_covered(told));
                        for (request, told) in due.filter(|(_, told)| !held.contains(&told.hash)) {
                            let at = told.at;
                            let by = &country.sites()[told.site].code;
                            found.push(format!(
                                "{name} lacks edit {} ({request}), accepted by {by} at {at:?}",
                                told.hash
                            ));
                        }
                        found.extend(misfolded(&copy).into_iter().map(|text| format!("{name}, {shard}: {text}")));
                    }
                }
            }
        }
        found
    }
}
