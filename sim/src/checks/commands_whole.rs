//! A command of several edits is nowhere seen in part: no replica, at no moment, holds or shows some of its edits without the
//! others.
//!
//! Looked at is each replica's stream as it grows: the edits of a command stand in it one after the other, all of them, and
//! the record of each has it folded in, unless all of them are set aside. Does not check: that reads of several records, one
//! after the other, see one moment (nobody promises that); commands of a site whose key was stolen are looked at for being
//! whole alone, since a thief may make one of which a part cannot be folded.

use std::collections::{BTreeMap, BTreeSet};

use dinhba_core::edit::{Dot, Edit};
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{GroupId, Hash, ShardId, SiteId};
use dinhba_core::keys::Keys;
use dinhba_core::record::Record;
use dinhba_core::registry::{self, Arrival, Poison, ShardState, StoredEdit, alias_id};
use dinhba_core::store::{StateView, StoreError};

use super::never_back::is_replaced;
use super::{Check, World};
use crate::scenario::Promise;
use crate::state::engine;
use crate::trace::NodePlace;

#[derive(Default)]
pub struct CommandsWhole {
    /// Of each replica's shards, in which life and up to which position they were read.
    read: BTreeMap<(NodePlace, ShardId), (u64, u64)>,
}

/// An edit in a replica's stream.
struct Arrived {
    place: Dot,
    hash: Hash,
    edit: Edit,
}

/// What came after a position.
fn arrived(view: &dyn StateView, keys: Keys, shard: ShardId, after: u64) -> Result<Vec<Arrived>, StoreError> {
    let mut found = Vec::new();
    for (_, arrival) in registry::read_range::<Arrival>(view, keys.arrivals(shard, after + 1))? {
        let key = keys.edit(shard, &arrival.dot);
        // A position without its edit is `digests_true`'s to tell.
        let Some(stored) = registry::read::<StoredEdit>(view, &key)? else { continue };
        let edit = Edit::from_bytes(&stored.bytes).map_err(|error| registry::corrupt(&key, error))?;
        found.push(Arrived { place: arrival.dot, hash: stored.hash, edit });
    }
    Ok(found)
}

/// Whether `next` goes on where a command has come to.
fn goes_on(last: &Arrived, next: &Arrived) -> bool {
    let (last, next) = (&last.edit.header, &next.edit.header);
    next.author == last.author && next.part == last.part + 1 && next.origin.request == last.origin.request
}

/// Commands by their edits; in words, what stands there in part.
fn by_commands(edits: Vec<Arrived>) -> (Vec<Vec<Arrived>>, Vec<String>) {
    let (mut commands, mut found): (Vec<Vec<Arrived>>, _) = (Vec::new(), Vec::new());
    for edit in edits {
        match commands.last_mut() {
            Some(command) if command.last().is_some_and(|last| goes_on(last, &edit)) => command.push(edit),
            _ => commands.push(vec![edit]),
        }
    }
    commands.retain(|command| {
        let header = &command[0].edit.header;
        let is_whole = header.part == 0 && command.len() == header.of as usize;
        if !is_whole {
            let request = header.origin.request;
            found.push(format!(
                "of the {} edits of {request} there are {}, from part {}",
                header.of,
                command.len(),
                header.part
            ));
        }
        is_whole
    });
    (commands, found)
}

/// Whether a replica shows an edit: its record has it folded in, under its name or its alias.
fn is_shown(view: &dyn StateView, keys: Keys, shard: ShardId, one: &Arrived) -> Result<bool, StoreError> {
    let dot = one.edit.dot();
    let Some(record) = registry::read::<Record>(view, &keys.record(shard, one.edit.header.record))? else {
        return Ok(false);
    };
    let alias = alias_id(dot.actor, &one.hash);
    Ok(record.seen(&dot.actor) >= dot.counter || record.seen(&alias) >= dot.counter)
}

/// What a replica shows in part of what came to a shard after a position.
fn in_part(
    view: &dyn StateView,
    keys: Keys,
    (shard, after): (ShardId, u64),
    stolen: &BTreeSet<SiteId>,
) -> Result<Vec<String>, StoreError> {
    let (commands, mut found) = by_commands(arrived(view, keys, shard, after)?);
    for command in commands.iter().filter(|command| command.len() > 1) {
        let header = &command[0].edit.header;
        if stolen.contains(&header.author.site) {
            continue;
        }
        let mut shown = 0;
        for one in command {
            let is_aside = registry::read::<Poison>(view, &keys.poison(shard, &one.place))?.is_some();
            match (is_aside, is_shown(view, keys, shard, one)?) {
                (true, _) => {}
                (false, true) => shown += 1,
                (false, false) => {
                    let (part, request) = (one.edit.header.part, header.origin.request);
                    found.push(format!("part {part} of {request} is neither folded nor set aside"));
                }
            }
        }
        if shown > 0 && shown < command.len() {
            found.push(format!("of the {} parts of {} it shows {shown}", command.len(), header.origin.request));
        }
    }
    Ok(found)
}

impl CommandsWhole {
    fn check(&mut self, world: &World, whole: bool) -> Vec<String> {
        let (stolen, mut found) = (world.stolen(), Vec::new());
        for (node, group, _) in world.running() {
            if !is_replaced(world, node, group) {
                found.extend(self.check_replica(world, (node, group), &stolen, whole));
            }
        }
        found
    }

    /// Of a replica what came since the last look, or all.
    fn check_replica(
        &mut self,
        world: &World,
        (node, group): (NodePlace, GroupId),
        stolen: &BTreeSet<SiteId>,
        whole: bool,
    ) -> Vec<String> {
        let (state, keys, life) = (engine(&world.country, node), Keys(group), world.country.machines()[node].lives);
        let shards = match registry::read_range::<ShardState>(&*state, keys.shards()) {
            Ok(shards) => shards,
            Err(error) => return world.unreadable(node, group, &error).into_iter().collect(),
        };
        let mut found = Vec::new();
        for (_, shard) in shards {
            let id = shard.info.shard;
            let read = self.read.entry((node, id)).or_default();
            // After a restart what was not flushed may be gone, and a state may be made again: from the beginning.
            let after = if !whole && read.0 == life && read.1 <= shard.arrivals { read.1 } else { 0 };
            *read = (life, shard.arrivals);
            if after == shard.arrivals {
                continue;
            }
            match in_part(&*state, keys, (id, after), stolen) {
                Ok(texts) => {
                    found.extend(texts.into_iter().map(|text| format!("{}, {id}: {text}", world.country.name(node))));
                }
                Err(error) => found.extend(world.unreadable(node, group, &error)),
            }
        }
        found
    }
}

impl Check for CommandsWhole {
    fn promise(&self) -> Promise {
        Promise::CommandsWhole
    }

    fn look(&mut self, world: &World) -> Vec<String> {
        self.check(world, false)
    }

    fn judge(&mut self, world: &World) -> Vec<String> {
        self.check(world, true)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{author, edit};
    use super::*;

    fn arrived(number: u64, part: (u32, u32), request: u64) -> Arrived {
        let edit = edit(author(1), number, part, request);
        Arrived { place: edit.dot(), hash: Hash::default(), edit }
    }

    #[test]
    fn whole_commands_stand_together_and_nothing_else_does() {
        let whole = || vec![arrived(1, (0, 1), 1), arrived(2, (0, 2), 2), arrived(3, (1, 2), 2), arrived(4, (0, 1), 3)];
        let (commands, found) = by_commands(whole());
        assert_eq!((commands.iter().map(Vec::len).collect::<Vec<_>>(), found.len()), (vec![1, 2, 1], 0));
        for (missing, wrong) in [(0, 0), (1, 1), (2, 1)] {
            let mut edits = whole();
            edits.remove(missing);
            assert_eq!(by_commands(edits).1.len(), wrong, "without edit {missing}");
        }
        let mut apart = whole();
        apart.swap(2, 3);
        assert_eq!(by_commands(apart).1.len(), 2, "another command lies between the parts");
        let of_two = vec![arrived(1, (0, 2), 1), arrived(2, (1, 2), 2)];
        assert_eq!(by_commands(of_two).1.len(), 2, "parts of two requests make none");
    }
}
