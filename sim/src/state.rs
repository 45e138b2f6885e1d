//! What the machines of a run hold, read from their state engines past the nodes: the checks' own eyes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dinhba_core::edit::{Dot, Edit};
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{GroupId, Hash, ShardId};
use dinhba_core::keys::Keys;
use dinhba_core::record::Record;
use dinhba_core::registry::{self, AuthorState, Poison, ShardState, StoredEdit};
use dinhba_core::store::{StateView, StoreError};
use dinhba_node::state::MemoryState;

use crate::country::Country;
use crate::trace::{NodePlace, SitePlace};

/// A shard as a machine holds it.
pub struct ShardCopy {
    /// Its head data.
    pub state: ShardState,
    /// Its authors.
    pub authors: Vec<AuthorState>,
    /// Its edits, by where they lie at this site, with their hashes.
    pub edits: BTreeMap<Dot, (Hash, Edit)>,
    /// Where those of its edits lie that are set aside, and why.
    pub aside: BTreeMap<Dot, Poison>,
    /// Its records as they are stored: key suffix and canonical bytes.
    pub records: BTreeMap<Vec<u8>, Record>,
}

/// Reads a shard whole.
pub fn shard_copy(view: &dyn StateView, group: GroupId, shard: ShardId) -> Result<Option<ShardCopy>, StoreError> {
    let keys = Keys(group);
    let Some(state) = registry::read::<ShardState>(view, &keys.shard(shard))? else { return Ok(None) };
    let authors = registry::read_range::<AuthorState>(view, keys.authors(shard))?;
    let (mut edits, mut aside) = (BTreeMap::new(), BTreeMap::new());
    for (_, arrival) in registry::read_range::<registry::Arrival>(view, keys.arrivals(shard, 0))? {
        let key = keys.edit(shard, &arrival.dot);
        let Some(stored) = registry::read::<StoredEdit>(view, &key)? else {
            return Err(StoreError::Corrupt {
                place: format!("shard {shard}"),
                detail: format!("position of {:?} without its edit", arrival.dot),
            });
        };
        let edit = Edit::from_bytes(&stored.bytes).map_err(|error| registry::corrupt(&key, error))?;
        let poison = registry::read::<Poison>(view, &keys.poison(shard, &arrival.dot))?;
        aside.extend(poison.map(|poison| (arrival.dot.clone(), poison)));
        edits.insert(arrival.dot, (stored.hash, edit));
    }
    let records = registry::read_range::<Record>(view, keys.records(shard))?.into_iter().collect();
    Ok(Some(ShardCopy {
        state,
        authors: authors.into_iter().map(|(_, author)| author).collect(),
        edits,
        aside,
        records,
    }))
}

/// The state engine of a machine.
#[must_use]
pub fn engine(country: &Country, node: NodePlace) -> Arc<MemoryState> {
    Arc::clone(&country.machines()[node].state)
}

/// The hashes of the edits of a shard from a position on; what cannot be read is not held.
pub fn arrivals(view: &dyn StateView, group: GroupId, shard: ShardId, from: u64) -> Vec<Hash> {
    let keys = Keys(group);
    let arrivals = registry::read_range::<registry::Arrival>(view, keys.arrivals(shard, from)).unwrap_or_default();
    let hash = |(_, arrival): (Vec<u8>, registry::Arrival)| {
        registry::read::<StoredEdit>(view, &keys.edit(shard, &arrival.dot)).ok().flatten().map(|edit| edit.hash)
    };
    arrivals.into_iter().filter_map(hash).collect()
}

/// The hashes of all edits in a copy of a site's state; what cannot be read is not held.
#[must_use]
pub fn hashes_at(country: &Country, site: SitePlace, state: &MemoryState) -> BTreeSet<Hash> {
    let hosts = country.sites()[site].hosts();
    hosts.flat_map(|(group, shard)| arrivals(state, group, shard, 0)).collect()
}

/// The hashes of all edits that a machine holds.
#[must_use]
pub fn hashes_of_machine(country: &Country, node: NodePlace) -> BTreeSet<Hash> {
    let site = country.machines()[node].site;
    hashes_at(country, site, &engine(country, node))
}
