//! A site goes on under its incarnation unless it lost something: a new one is for those who came back from an old disk.
//!
//! A new name that nobody needed loses nothing, but each costs every site above an author for ever. Does not check: sites that
//! lost a disk or got an old one, from that moment on; that those do take a new name, which the other promises ask for.

use std::collections::BTreeMap;

use dinhba_core::ids::{Incarnation, ShardId};
use dinhba_core::keys::Keys;
use dinhba_core::registry::{self, ShardState};

use super::{Check, World};
use crate::scenario::Promise;
use crate::state::engine;
use crate::trace::SitePlace;

#[derive(Default)]
pub struct NamesStay {
    first: BTreeMap<(SitePlace, ShardId), Incarnation>,
}

impl Check for NamesStay {
    fn promise(&self) -> Promise {
        Promise::NamesStay
    }

    fn look(&mut self, world: &World) -> Vec<String> {
        let mut found = Vec::new();
        for (node, group, _) in world.running() {
            let site = world.country.machines()[node].site;
            if world.was_set_back(site) {
                continue;
            }
            let shards = registry::read_range::<ShardState>(&*engine(&world.country, node), Keys(group).shards());
            for (_, shard) in shards.unwrap_or_default() {
                let (now, shard) = (shard.own.incarnation, shard.info.shard);
                let first = *self.first.entry((site, shard)).or_insert(now);
                if first != now {
                    let name = world.country.name(node);
                    found.push(format!("{name}: {first} became {now} in {shard}, and the site had lost nothing"));
                }
            }
        }
        found
    }
}
