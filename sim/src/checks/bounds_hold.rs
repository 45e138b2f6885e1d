//! What callers and thieves leave behind stays within the bounds that the node names: lives of a site as an author, secrets of a
//! session, heads of a shard, and records that one office writes.
//!
//! Looked at from time to time and at the end, at every replica. Does not check: how long a record grows that several offices write at
//! once, or one whose key was stolen: a merge takes what came; and what is in memory.

use std::collections::{BTreeMap, BTreeSet};

use dinhba_core::edit::Author;
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{AuthorId, GroupId, RecordId, SessionId, SiteId};
use dinhba_core::keys::Keys;
use dinhba_core::level::{LEVEL_MAX, limits};
use dinhba_core::registry::{self, LIVES_MAX, SECRETS_MAX};
use dinhba_core::store::StateView;
use dinhba_core::sync::HEADS_MAX;

use super::{Check, World};
use crate::scenario::Promise;
use crate::state::{ShardCopy, engine, shard_copy};

/// While a run goes on, so many looks pass between two of this check.
const LOOKS_PER_CHECK: u64 = 60;

#[derive(Default)]
pub struct BoundsHold {
    looks: u64,
}

/// Sites with more lives than are taken.
fn too_many_lives(copy: &ShardCopy) -> Vec<String> {
    let mut lives: BTreeMap<SiteId, BTreeSet<Author>> = BTreeMap::new();
    for state in &copy.authors {
        lives.entry(state.author.site).or_default().insert(state.author);
    }
    let beyond = lives.into_iter().filter(|(_, lives)| lives.len() > LIVES_MAX);
    beyond.map(|(site, lives)| format!("{site} has {} lives, and {LIVES_MAX} are taken", lives.len())).collect()
}

/// Sessions with more secrets than are taken.
fn too_many_secrets(view: &dyn StateView, group: GroupId, copy: &ShardCopy) -> Vec<String> {
    let session = |edit: &dinhba_core::edit::Edit| (edit.header.author.id(), edit.header.origin.request.session);
    let sessions: BTreeSet<(AuthorId, SessionId)> = copy.edits.values().map(|(_, edit)| session(edit)).collect();
    let secrets = |(author, session): &(AuthorId, SessionId)| {
        let key = Keys(group).secret(copy.state.info.shard, *author, *session);
        registry::read::<Vec<[u8; 32]>>(view, &key).ok().flatten().map_or(0, |secrets| secrets.len())
    };
    let beyond = sessions.iter().map(secrets).filter(|count| *count > SECRETS_MAX);
    beyond.map(|count| format!("a session has {count} secrets, and {SECRETS_MAX} are taken")).collect()
}

/// Records above their bound that one honest office wrote alone.
fn too_large(world: &World, copy: &ShardCopy) -> Vec<String> {
    let stolen = |id: SiteId| {
        let place = world.country.sites().iter().position(|site| site.id == id);
        place.is_none_or(|place| world.country.was_stolen(place))
    };
    let mut writers: BTreeMap<RecordId, BTreeSet<Author>> = BTreeMap::new();
    for (_, edit) in copy.edits.values() {
        writers.entry(edit.header.record).or_default().insert(edit.header.author);
    }
    let is_ones_own = |id: &RecordId| {
        writers.get(id).is_some_and(|all| all.len() == 1 && all.iter().all(|author| !stolen(author.site)))
    };
    let mut found = Vec::new();
    for (key, record) in &copy.records {
        let bytes = record.to_bytes().len();
        let bytes_max = limits(LEVEL_MAX).record_bytes;
        if bytes > bytes_max && registry::record_of(key).is_ok_and(|id| is_ones_own(&id)) {
            found.push(format!("a record takes {bytes} bytes, and may take {bytes_max}"));
        }
    }
    found
}

fn beyond(world: &World) -> Vec<String> {
    let (country, mut found) = (&world.country, Vec::new());
    for (node, group, _) in world.running() {
        let (state, name) = (engine(country, node), country.name(node));
        for shard in country.sites()[country.machines()[node].site].shards() {
            let Ok(Some(copy)) = shard_copy(&*state, group, shard) else { continue };
            let mut texts = too_many_lives(&copy);
            texts.extend(too_many_secrets(&*state, group, &copy));
            texts.extend(too_large(world, &copy));
            let heads = registry::heads(&*state, Keys(group), shard).map_or(0, |heads| heads.len());
            if heads > HEADS_MAX {
                texts.push(format!("its heads tell of {heads} branches, and {HEADS_MAX} are taken"));
            }
            found.extend(texts.into_iter().map(|text| format!("{name}, {shard}: {text}")));
        }
    }
    found
}

impl Check for BoundsHold {
    fn promise(&self) -> Promise {
        Promise::BoundsHold
    }

    fn look(&mut self, world: &World) -> Vec<String> {
        self.looks += 1;
        if self.looks.is_multiple_of(LOOKS_PER_CHECK) { beyond(world) } else { Vec::new() }
    }

    fn judge(&mut self, world: &World) -> Vec<String> {
        beyond(world)
    }
}
