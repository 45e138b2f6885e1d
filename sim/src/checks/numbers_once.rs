//! No personal number that was given from a block stands in the records of two persons, and no site granted a number twice; unless a
//! site went on from an old copy of its data, or its key was stolen: then nobody could know before it met another one.
//!
//! Judged over all copies together, since the two may lie in communes that never hear of each other. Does not check: that the ledger is
//! what the edits say (`digests_true`); that nobody waits for a number in the end (`converges`).

use std::collections::{BTreeMap, BTreeSet};

use dinhba_core::blocks::{FIRST_SERIAL, Granted};
use dinhba_core::ids::{RecordId, ShardId};
use dinhba_core::keys::Keys;
use dinhba_core::number::PersonNumber;
use dinhba_core::registry;
use dinhba_core::schema::{RecordKind, field};

use super::{Check, World};
use crate::scenario::Promise;
use crate::state::engine;

pub struct NumbersOnce;

/// Of blocks that were granted by one author in one series, those that have a number in common.
fn overlaps(granted: &[Granted]) -> usize {
    let mut rows: Vec<_> =
        granted.iter().map(|granted| (granted.by, granted.block.series, granted.block.serials())).collect();
    rows.sort_by_key(|(by, series, row)| (*by, *series, row.start, row.end));
    let overlap = |two: &[(_, _, std::ops::Range<u32>)]| {
        (two[0].0, two[0].1) == (two[1].0, two[1].1) && two[1].2.start < two[0].2.end
    };
    rows.windows(2).filter(|two| overlap(two)).count()
}

impl Check for NumbersOnce {
    fn promise(&self) -> Promise {
        Promise::NumbersOnce
    }

    fn judge(&mut self, world: &World) -> Vec<String> {
        let country = &world.country;
        let mut holders: BTreeMap<PersonNumber, BTreeSet<(ShardId, RecordId)>> = BTreeMap::new();
        let mut found = world.copies(|_, copy| {
            let shard = copy.state.info.shard;
            for (key, record) in copy.records.iter().filter(|(_, record)| record.kind == RecordKind::Person) {
                let number = record.value(field::PERSONAL_NUMBER, b"").and_then(|value| value.number());
                if let Some(number) = number.filter(|number| number.serial() >= FIRST_SERIAL) {
                    let id = key.as_slice().try_into().map(RecordId).unwrap_or_default();
                    holders.entry(number).or_default().insert((shard, id));
                }
            }
            Vec::new()
        });
        // A number goes down the tree: whoever was set back on the way may have granted it twice.
        let is_set_back = (0..country.sites().len()).any(|site| world.was_set_back(site));
        if is_set_back {
            return found;
        }
        let ledger = world.oracle.ledger();
        let of_blocks = ledger.numbers.iter().filter(|(number, _)| number.serial() >= FIRST_SERIAL);
        for (_, requests) in of_blocks.filter(|(_, requests)| requests.len() > 1) {
            found.push(format!("officers were told of one number by several requests: {requests:?}"));
        }
        let twice = holders.values().filter(|holders| holders.len() > 1);
        found.extend(
            twice.map(|holders| format!("one personal number stands in {} records: {holders:?}", holders.len())),
        );
        for (site, plan) in country.sites().iter().enumerate() {
            for node in country.machines_of(site) {
                for (group, shard) in plan.hosts() {
                    let Ok(granted) = registry::blocks(&*engine(country, node), Keys(group), shard, None) else {
                        continue;
                    };
                    let count = overlaps(&granted);
                    if count > 0 {
                        found.push(format!("{}, {shard}: {count} blocks have numbers of others", country.name(node)));
                    }
                }
            }
        }
        found
    }
}
