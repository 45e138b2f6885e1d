//! The targets that ancestor shards set, as they derive from their records: what reads them needs not read sites, units and blocks.

use super::corrupt;
use crate::encoding::{Malformed, Wire};
use crate::ids::{RecordId, ShardId, UnitId};
use crate::keys::{Keys, suffix};
use crate::store::{StateView, StoreError};
use crate::targets::Target;

/// The targets that an ancestor shard sets for a unit, or for all, in the order of the units; at most `count_max`, and whether there are
/// more. Whether it may set one for the unit is for the reader to ask: see [`crate::targets`].
///
/// # Errors
/// What cannot be read.
pub fn targets(
    view: &dyn StateView,
    keys: Keys,
    shard: ShardId,
    unit: Option<UnitId>,
    count_max: usize,
) -> Result<(Vec<(RecordId, Target)>, bool), StoreError> {
    let (start, end) = keys.targets(shard, unit);
    let mut found = Vec::new();
    for item in view.scan(&start, &end) {
        let (key, bytes) = item?;
        if found.len() == count_max {
            return Ok((found, true));
        }
        let record = suffix(&key, size_of::<UnitId>()).first_chunk().copied().map(RecordId);
        let record = record.ok_or_else(|| corrupt(&key, Malformed { what: "key of a target" }))?;
        found.push((record, Target::from_bytes(&bytes).map_err(|error| corrupt(&key, error))?));
    }
    Ok((found, false))
}
