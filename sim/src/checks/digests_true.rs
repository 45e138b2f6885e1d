//! What a replica keeps beside its edits follows from them: hashes, running hashes, digests, counts, and each record, which is
//! what its edits make when they are folded anew.
//!
//! Computed here from what lies in the state engine, at every replica apart: equal digests prove nothing if all keep them
//! wrong alike. Does not check: what the edits say (`nothing_lost`); the search index.

use std::collections::{BTreeMap, BTreeSet};

use dinhba_core::blocks::{Granted, number_due, number_lacking};
use dinhba_core::command::{ConflictEntry, ConflictKey, Nothing, PendingEntry};
use dinhba_core::date::Date;
use dinhba_core::digest::Digest;
use dinhba_core::edit::{Change, Dot, Edit};
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{AuthorId, GroupId, Hash, RecordId, ShardId};
use dinhba_core::number::PersonNumber;
use dinhba_core::record::Record;
use dinhba_core::registry::{self, Arrival, Context, GroupState, Poison, ShardState, StoredEdit, conflicts_of};
use dinhba_core::schema::{RecordKind, field};
use dinhba_core::search::{Term, personal_numbers};
use dinhba_core::store::{StateView, StoreError};

use super::never_back::is_replaced;
use super::{Check, World};
use crate::scenario::Promise;
use crate::state::engine;
use crate::trace::NodePlace;

pub struct DigestsTrue;

/// The personal number that a change gives somebody.
fn number_of(change: &Change) -> Option<PersonNumber> {
    (change.field == field::PERSONAL_NUMBER).then(|| PersonNumber::from_bytes(&change.value).ok())?
}

/// A shard as a replica has it.
struct Shard<'a> {
    view: &'a dyn StateView,
    context: &'a Context,
    state: ShardState,
    /// In how many shards of the group records have a personal number.
    homes_of_numbers: &'a BTreeMap<Term, usize>,
}

impl Shard<'_> {
    fn id(&self) -> ShardId {
        self.state.info.shard
    }

    /// What is wrong with it, in words; nothing if all follows from its edits.
    fn faults(&self) -> Result<Vec<String>, StoreError> {
        let (mut found, edited) = self.faults_of_edits()?;
        found.extend(self.faults_of_records(edited)?);
        Ok(found)
    }

    /// The same of the edits alone, and which records they are of.
    fn faults_of_edits(&self) -> Result<(Vec<String>, BTreeSet<RecordId>), StoreError> {
        let (keys, mut found, mut edited) = (self.context.keys(), Vec::new(), BTreeSet::new());
        let (mut digest, mut running, mut count) = (Digest::default(), Hash::default(), 0);
        let mut written = BTreeSet::new();
        for (_, arrival) in registry::read_range::<Arrival>(self.view, keys.arrivals(self.id(), 0))? {
            count += 1;
            let key = keys.edit(self.id(), &arrival.dot);
            let stored = registry::read::<StoredEdit>(self.view, &key)?;
            let Some((edit, stored)) = stored.and_then(|stored| Some((Edit::from_bytes(&stored.bytes).ok()?, stored)))
            else {
                found.push(format!("position {count} without its edit"));
                continue;
            };
            edited.insert(edit.header.record);
            written.extend(edit.changes.iter().filter_map(number_of));
            if !self.is_hash_of(&edit, &stored.hash)? {
                found.push(format!("the hash of the edit at position {count} is that of another"));
            }
            digest.add(Digest::of(&self.context.digest_key.secret, &stored.hash.0));
            running = registry::running_hash(&running, &stored.hash);
            if stored.position != count || arrival.running != running {
                found.push(format!("the running hash at position {count} is not that of the edits up to there"));
            }
        }
        let aside = registry::read_range::<Poison>(self.view, keys.poisons(self.id()))?;
        let poisoned = aside.iter().filter(|(_, poison)| poison.is_counted()).count() as u64;
        let pending = registry::read_range::<PendingEntry>(self.view, keys.all_pending(self.id(), None))?.len() as u64;
        let kept = &self.state;
        let taken = registry::numbers_taken(self.view, keys, self.id())?;
        let (figures, _) = registry::figures(self.view, keys, self.id(), (Date::MIN, Date::MAX), usize::MAX)?;
        let recounted = registry::recount(self.view, self.context, self.id())?;
        let quality = registry::quality_recounted(self.view, keys, self.id())?;
        let stocks = registry::stocks_recounted(self.view, keys, self.id())?;
        let open = registry::work_recounted(self.view, keys, self.id())?;
        found.extend(untrue(&[
            ("figures", figures == recounted),
            ("counts of quality", (kept.quality, registry::coming(self.view, keys, self.id())?) == quality),
            ("stocks", registry::stocks(self.view, keys, self.id(), (Date::MIN, Date::MAX))? == stocks),
            ("work lists", registry::work(self.view, keys, self.id())? == open),
            ("ledger of personal numbers", taken == written),
            ("number of edits", kept.arrivals == count),
            ("running hash", kept.running == running),
            ("digest of the edits", kept.edits_digest == digest),
            ("number of edits that are set aside", kept.poisoned == poisoned),
            ("number of edits that wait for a second person", kept.pending == pending),
        ]));
        Ok((found, edited))
    }

    /// Whether one of its session's secrets gives an edit this hash.
    fn is_hash_of(&self, edit: &Edit, hash: &Hash) -> Result<bool, StoreError> {
        let key = self.context.keys().secret(self.id(), edit.header.author.id(), edit.header.origin.request.session);
        let secrets: Vec<[u8; 32]> = registry::read(self.view, &key)?.unwrap_or_default();
        Ok(secrets.iter().any(|secret| edit.hash(secret) == *hash))
    }

    fn faults_of_records(&self, mut edited: BTreeSet<RecordId>) -> Result<Vec<String>, StoreError> {
        let (keys, mut found) = (self.context.keys(), Vec::new());
        let level = registry::read::<GroupState>(self.view, &keys.group())?.map_or(0, |group| group.level);
        let (mut digest, mut persons, mut households) = (Digest::default(), 0, 0);
        let (mut blocks, mut unnumbered, mut due_to) = (Vec::new(), BTreeSet::new(), 0);
        let (mut conflicts, mut numbers) = (BTreeSet::new(), BTreeMap::<Term, Vec<RecordId>>::new());
        for (key, record) in registry::read_range::<Record>(self.view, keys.records(self.id()))? {
            let id = registry::record_of(&key)?;
            digest.add(Digest::of(&self.context.digest_key.secret, &[&id.0[..], &record.to_bytes()].concat()));
            match record.kind {
                RecordKind::Person => persons += 1,
                RecordKind::Household => households += 1,
                _ => {}
            }
            blocks.extend(Granted::of(&record));
            let home = self.state.info.home();
            due_to += u64::from(number_due(&record, home).is_some());
            if number_lacking(&record, home).is_some() {
                unnumbered.insert(keys.unnumbered(self.id(), id));
            }
            let (folded, is_marked) = registry::folded_anew(self.view, self.context, self.id(), id)?;
            if folded.as_ref() != Some(&record) {
                found.push(format!("record {id} is not what its edits make"));
            }
            if !is_marked {
                found.push(format!("other edits of record {id} are set aside than the others say"));
            }
            let waits = registry::read_range::<PendingEntry>(self.view, keys.all_pending(self.id(), Some(id)))?;
            let waits: BTreeMap<Dot, AuthorId> = waits
                .into_iter()
                .map(|(key, entry)| Ok((registry::pending_of(&key)?.1, entry.author)))
                .collect::<Result<_, StoreError>>()?;
            if waits != *record.pending() {
                found.push(format!("other edits of record {id} are listed as pending than wait"));
            }
            conflicts.extend(conflicts_of(level, &record).into_iter().map(|conflict| (id, conflict)));
            for number in personal_numbers(level, &record, &self.context.index_key.secret) {
                numbers.entry(number).or_default().push(id);
            }
            edited.remove(&id);
        }
        for id in edited {
            if registry::folded_anew(self.view, self.context, self.id(), id)?.0.is_some() {
                found.push(format!("record {id} has edits and is not there"));
            }
        }
        let is_shared = |(number, holders): &(Term, Vec<RecordId>)| {
            // Also where the other one is in another shard of the group.
            holders.len() > 1 || self.homes_of_numbers.get(number).is_some_and(|homes| *homes > 1)
        };
        let shared = numbers.into_iter().filter(is_shared).flat_map(|(_, holders)| holders);
        conflicts.extend(shared.map(|id| (id, ConflictKey::Number(Nothing))));
        let due: BTreeSet<Vec<u8>> =
            conflicts.iter().map(|(id, conflict)| keys.conflict(self.id(), *id, &conflict.to_bytes())).collect();
        let listed = registry::read_range::<ConflictEntry>(self.view, keys.conflicts(self.id(), None))?;
        let listed: BTreeSet<Vec<u8>> = listed.into_iter().map(|(key, _)| key).collect();
        let (missing, invented) = (due.difference(&listed).count(), listed.difference(&due).count());
        if missing + invented > 0 {
            found.push(format!(
                "of {} conflicts {missing} are on no list, and {invented} that there are not are",
                due.len()
            ));
        }
        let mut listed_blocks = registry::blocks(self.view, keys, self.id(), None)?;
        let order = |granted: &Granted| (granted.block, granted.by);
        listed_blocks.sort_by_key(order);
        blocks.sort_by_key(order);
        let (from, to) = keys.all_unnumbered(self.id());
        let listed_unnumbered = self.view.scan(&from, &to).map(|item| item.map(|(key, _)| key));
        let listed_unnumbered: BTreeSet<Vec<u8>> = listed_unnumbered.collect::<Result<_, _>>()?;
        let kept = &self.state;
        found.extend(untrue(&[
            ("digest of the records", kept.state_digest == digest),
            ("blocks that are granted", listed_blocks == blocks),
            ("list of those who lack a number", listed_unnumbered == unnumbered),
            ("number of those to whom a number is due", kept.unnumbered == due_to),
            ("number of persons", kept.persons == persons),
            ("number of households", kept.households == households),
            ("number of conflicts", kept.conflicts == due.len() as u64),
        ]));
        Ok(found)
    }
}

/// What is kept of a shard and is not so.
fn untrue(kept: &[(&str, bool)]) -> Vec<String> {
    kept.iter().filter(|(_, is_true)| !is_true).map(|(what, _)| format!("the {what} is false")).collect()
}

/// In how many shards of a group records have each personal number.
fn homes_of_numbers(
    view: &dyn StateView,
    context: &Context,
    shards: &[(Vec<u8>, ShardState)],
) -> Result<BTreeMap<Term, usize>, StoreError> {
    let level = registry::read::<GroupState>(view, &context.keys().group())?.map_or(0, |group| group.level);
    let mut homes = BTreeMap::new();
    for (_, shard) in shards {
        let mut numbers = BTreeSet::new();
        for (_, record) in registry::read_range::<Record>(view, context.keys().records(shard.info.shard))? {
            numbers.extend(personal_numbers(level, &record, &context.index_key.secret));
        }
        numbers.into_iter().for_each(|number| *homes.entry(number).or_default() += 1);
    }
    Ok(homes)
}

fn faults_of(world: &World, node: NodePlace, group: GroupId) -> Vec<String> {
    let running = world.country.machines()[node].node.clone();
    let Some(context) = running.and_then(|node| node.shared.group(group).map(|hosted| hosted.context.clone())) else {
        return Vec::new();
    };
    let (state, name) = (engine(&world.country, node), world.country.name(node));
    let shards = match registry::read_range::<ShardState>(&*state, context.keys().shards()) {
        Ok(shards) => shards,
        Err(error) => return world.unreadable(node, group, &error).into_iter().collect(),
    };
    let homes_of_numbers = match homes_of_numbers(&*state, &context, &shards) {
        Ok(homes) => homes,
        Err(error) => return world.unreadable(node, group, &error).into_iter().collect(),
    };
    let mut found = Vec::new();
    for (_, shard) in shards {
        let shard = Shard { view: &*state, context: &context, state: shard, homes_of_numbers: &homes_of_numbers };
        match shard.faults() {
            Ok(faults) => found.extend(faults.into_iter().map(|fault| format!("{name}, {}: {fault}", shard.id()))),
            Err(error) => found.extend(world.unreadable(node, group, &error)),
        }
    }
    found
}

fn all_faults(world: &World) -> Vec<String> {
    let running = world.running().into_iter();
    let whole = running.filter(|(node, group, status)| status.stopped.is_none() && !is_replaced(world, *node, *group));
    whole.flat_map(|(node, group, _)| faults_of(world, node, group)).collect()
}

impl Check for DigestsTrue {
    fn promise(&self) -> Promise {
        Promise::DigestsTrue
    }

    /// It reads and hashes all that is there.
    fn every(&self) -> u64 {
        60
    }

    fn look(&mut self, world: &World) -> Vec<String> {
        all_faults(world)
    }

    fn judge(&mut self, world: &World) -> Vec<String> {
        all_faults(world)
    }
}
