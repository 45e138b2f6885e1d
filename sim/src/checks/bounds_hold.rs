//! What callers and thieves leave behind stays within the bounds that the node names: lives of a site as an author, secrets of a
//! session, heads of a shard, and what sites write into a record: each what its share may make of it, whoever has its key, and an
//! honest one that writes alone no more than an officer may.
//!
//! Looked at from time to time and at the end, at every replica. Does not check: what is in memory; how much of its share a site
//! that was set back may leave alone in a record, where what it wrote twice comes together.

use std::collections::{BTreeMap, BTreeSet};

use dinhba_core::edit::{Author, Edit};
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{AuthorId, KeyMark, RecordId, SessionId, SiteId};
use dinhba_core::keys::Keys;
use dinhba_core::level::{LEVEL_MAX, limits};
use dinhba_core::registry::{self, LIVES_MAX, LIVES_OF_KEY_MAX, SECRETS_MAX};
use dinhba_core::share::FLOOD_BYTES;
use dinhba_core::store::StoreError;
use dinhba_core::sync::HEADS_MAX;

use super::{Check, CopyPlace, World};
use crate::scenario::Promise;
use crate::state::{ShardCopy, engine};

/// What a site's share may take of a record, as a value of an engine: four times what it counts.
const SITE_BYTES_MAX: usize = 4 * FLOOD_BYTES as usize;

pub struct BoundsHold;

/// Sites with more lives than are taken.
fn too_many_lives(copy: &ShardCopy) -> Vec<String> {
    let mut lives: BTreeMap<(SiteId, KeyMark), BTreeSet<Author>> = BTreeMap::new();
    for state in &copy.authors {
        lives.entry((state.author.site, state.key)).or_default().insert(state.author);
    }
    let mut all: BTreeMap<SiteId, usize> = BTreeMap::new();
    lives.iter().for_each(|((site, _), lives)| *all.entry(*site).or_default() += lives.len());
    let of_keys = lives.into_iter().map(|((site, _), lives)| (site, lives.len(), LIVES_OF_KEY_MAX));
    let counts = of_keys.chain(all.into_iter().map(|(site, count)| (site, count, LIVES_MAX)));
    let beyond = counts.filter(|(_, count, most)| count > most);
    beyond.map(|(site, count, most)| format!("{site} has {count} lives, and {most} are taken")).collect()
}

/// Sessions with more secrets, and shards with more heads, than are taken.
fn too_many_beside(world: &World, at: &CopyPlace, copy: &ShardCopy) -> Result<Vec<String>, StoreError> {
    let (view, keys, mut found) = (engine(&world.country, at.node), Keys(at.group), Vec::new());
    let session = |edit: &Edit| (edit.header.author.id(), edit.header.origin.request.session);
    let sessions: BTreeSet<(AuthorId, SessionId)> = copy.edits.values().map(|(_, edit)| session(edit)).collect();
    for (author, session) in sessions {
        let secrets: Option<Vec<[u8; 32]>> = registry::read(&*view, &keys.secret(at.shard, author, session))?;
        let count = secrets.map_or(0, |secrets| secrets.len());
        if count > SECRETS_MAX {
            found.push(format!("a session has {count} secrets, and {SECRETS_MAX} are taken"));
        }
    }
    let heads = registry::heads(&*view, keys, at.shard)?.len();
    if heads > HEADS_MAX {
        found.push(format!("its heads tell of {heads} branches, and {HEADS_MAX} are taken"));
    }
    Ok(found)
}

/// Records above their bounds.
fn too_large(world: &World, copy: &ShardCopy) -> Vec<String> {
    let (stolen, sites) = (world.stolen(), world.country.sites());
    let was_set_back = |id: SiteId| {
        let place = sites.iter().position(|site| site.id == id);
        place.is_none_or(|place| world.was_set_back(place))
    };
    let mut writers: BTreeMap<RecordId, BTreeSet<Author>> = BTreeMap::new();
    for (_, edit) in copy.edits.values() {
        writers.entry(edit.header.record).or_default().insert(edit.header.author);
    }
    let mut found = Vec::new();
    for (key, record) in &copy.records {
        let authors = registry::record_of(key).ok().and_then(|id| writers.remove(&id)).unwrap_or_default();
        let by: BTreeSet<SiteId> = authors.iter().map(|author| author.site).collect();
        let is_ones_own = by.len() == 1
            && by.is_disjoint(&stolen)
            && (authors.len() == 1 || !by.iter().any(|site| was_set_back(*site)));
        let bytes_max = if is_ones_own { limits(LEVEL_MAX).record_bytes } else { by.len() * SITE_BYTES_MAX };
        let bytes = record.to_bytes().len();
        if bytes > bytes_max {
            found.push(format!("a record that {} sites wrote takes {bytes} bytes, and may take {bytes_max}", by.len()));
        }
    }
    found
}

fn beyond(world: &World) -> Vec<String> {
    world.copies(|at, copy| {
        let beside = too_many_beside(world, at, copy);
        let beside = beside.unwrap_or_else(|error| world.unreadable(at.node, at.group, &error).into_iter().collect());
        too_many_lives(copy).into_iter().chain(beside).chain(too_large(world, copy)).collect()
    })
}

impl Check for BoundsHold {
    fn promise(&self) -> Promise {
        Promise::BoundsHold
    }

    fn every(&self) -> u64 {
        60
    }

    fn look(&mut self, world: &World) -> Vec<String> {
        beyond(world)
    }

    fn judge(&mut self, world: &World) -> Vec<String> {
        beyond(world)
    }
}
