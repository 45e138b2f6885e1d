//! Authors whose chains branch. A site whose data came back from an old backup, unnoticed, gives numbers again that its
//! neighbours know by other content. Both branches were acknowledged, so both stay: the edits of one author are a tree,
//! in which each edit names the hash of the one before it.
//!
//! Where a tree branches, every branch beyond the fork gets a name of its own: an author id derived from the author and
//! the hash of the branch's first edit. An edit's *name* is the dot of (branch, number); it is what records, heads and
//! history call the edit, while its bytes and its hash never change. Names depend on the set of edits alone, so sites
//! that hold the same edits call them alike, whoever saw which branch first and however often a disk was restored.
//! Nothing leaves the log, and nobody is asked which branch is right.
//!
//! An edit that overwrites values names them as its author site called them at the time. `resolve` finds the edit that
//! was meant. Where two branches wrote the same field under the same number it cannot know; then nothing is replaced,
//! and the values stay beside each other as a conflict.

use std::collections::{BTreeMap, BTreeSet};

use super::fold::refold;
use super::{Arrival, AuthorState, Poison, ShardState, StoredEdit, Tx, corrupt};
use crate::command::Receipt;
use crate::edit::{Dot, Edit, Header};
use crate::encoding::Wire;
use crate::ids::{AuthorId, Hash, RecordId, ShardId, SiteId, first_16};
use crate::inject::{is_armed, sometimes};
use crate::store::StoreError;

/// The name of the branch of `author` whose first edit has this hash.
#[must_use]
pub fn branch_id(author: AuthorId, first: &Hash) -> AuthorId {
    let mut hasher = blake3::Hasher::new_derive_key("dinhba 2026 branch");
    hasher.update(&author.0).update(&first.0);
    AuthorId(first_16(&hasher.finalize()))
}

impl Tx<'_> {
    /// All branches of all authors of a shard.
    pub(super) fn authors(&self, shard: ShardId) -> Result<BTreeMap<AuthorId, AuthorState>, StoreError> {
        let named = |(key, state): (Vec<u8>, AuthorState)| (super::author_of(&key), state);
        Ok(self.range::<AuthorState>(self.keys().authors(shard))?.into_iter().map(named).collect())
    }

    pub(super) fn author(&self, shard: ShardId, author: AuthorId) -> Result<Option<AuthorState>, StoreError> {
        self.get(&self.keys().author(shard, author))
    }

    /// The name of the edit of `author` with this number and hash, if it is held.
    pub(crate) fn locate(
        &self,
        shard: ShardId,
        author: AuthorId,
        number: u64,
        hash: &Hash,
    ) -> Result<Option<Dot>, StoreError> {
        let is_at = |dot: &Dot| {
            Ok::<bool, StoreError>(
                self.edit(shard, dot)?.is_some_and(|held| held.hash == *hash || is_armed("skip-hash-check")),
            )
        };
        let plain = Dot { actor: author, counter: number };
        let tip = self.author(shard, author)?;
        // Asked for most often: the last one, whose hash the head says.
        if tip.as_ref().is_some_and(|tip| (tip.number, &tip.hash) == (number, hash)) || is_at(&plain)? {
            return Ok(Some(plain));
        }
        if !tip.is_some_and(|tip| tip.forked) {
            return Ok(None);
        }
        for (branch, state) in self.authors(shard)? {
            let dot = Dot { actor: branch, counter: number };
            if state.author.id() == author && is_at(&dot)? {
                return Ok(Some(dot));
            }
        }
        Ok(None)
    }
}

/// Gives an edit, here by what its author calls it and its header, its place in its author's tree. Its predecessor is
/// held, and it is not.
pub(super) fn grow(
    tx: &mut Tx<'_>,
    shard: &mut ShardState,
    (dot, header): (&Dot, &Header),
    hash: Hash,
    from: Option<SiteId>,
    now_ms: i64,
) -> Result<Dot, StoreError> {
    let (id, author) = (shard.info.shard, dot.actor);
    let before = if header.number == 1 {
        Dot { actor: author, counter: 0 }
    } else {
        let before = tx.locate(id, author, header.number - 1, &header.previous)?;
        before.ok_or_else(|| corrupt(&tx.keys().author(id, author), NO_PREDECESSOR))?
    };
    let tip = tx.author(id, before.actor)?;
    let (number, forked) = tip.as_ref().map_or((0, false), |tip| (tip.number, tip.forked));
    sometimes("a parked author goes on", tip.as_ref().is_some_and(|tip| tip.parked.is_some()));
    let mut state = AuthorState {
        author: header.author,
        number: header.number,
        hash,
        from,
        parked: None,
        trunk: tip.as_ref().and_then(|tip| tip.trunk.clone()),
        forked: false,
    };
    let branch = if number == before.counter && !forked {
        before.actor
    } else {
        sometimes("a chain branches", true);
        if sometimes("a branch is renamed", number > before.counter) {
            split(tx, shard, &before, now_ms)?;
        }
        state.trunk = Some(before);
        branch_id(author, &hash)
    };
    tx.put(tx.keys().author(id, branch), &state);
    release(tx, id, author)?;
    Ok(Dot { actor: branch, counter: header.number })
}

const NO_PREDECESSOR: crate::encoding::Malformed =
    crate::encoding::Malformed { what: "chain: the edit before is missing" };

/// An edit that fits has come: what held the author up is over.
fn release(tx: &mut Tx<'_>, shard: ShardId, author: AuthorId) -> Result<(), StoreError> {
    if let Some(root) = tx.author(shard, author)?.filter(|root| root.parked.is_some()) {
        tx.put(tx.keys().author(shard, author), &AuthorState { parked: None, ..root });
    }
    Ok(())
}

/// Ends a branch at `fork`; what was above it becomes a branch of its own.
fn split(tx: &mut Tx<'_>, shard: &mut ShardState, fork: &Dot, now_ms: i64) -> Result<(), StoreError> {
    let (id, keys) = (shard.info.shard, tx.keys());
    let lower: AuthorState = tx.must(&keys.author(id, fork.actor))?;
    let hash_at = |tx: &Tx<'_>, counter| -> Result<Hash, StoreError> {
        Ok(tx.must::<StoredEdit>(&keys.edit(id, &Dot { actor: fork.actor, counter }))?.hash)
    };
    let branch = branch_id(lower.author.id(), &hash_at(tx, fork.counter + 1)?);
    let hash = if fork.counter == 0 { Hash::default() } else { hash_at(tx, fork.counter)? };

    let mut records: BTreeSet<RecordId> = BTreeSet::new();
    for counter in fork.counter + 1..=lower.number {
        let (old, new) = (Dot { actor: fork.actor, counter }, Dot { actor: branch, counter });
        records.insert(rename(tx, id, &old, &new, fork.counter)?);
    }
    let end = Dot { actor: fork.actor, counter: lower.number };
    for (name, child) in tx.authors(id)?.into_iter().filter(|(_, state)| state.trunk.as_ref() == Some(&end)) {
        let trunk = Some(Dot { actor: branch, counter: end.counter });
        tx.put(keys.author(id, name), &AuthorState { trunk, ..child });
    }
    tx.put(keys.author(id, branch), &AuthorState { parked: None, trunk: Some(fork.clone()), ..lower.clone() });
    tx.put(keys.author(id, fork.actor), &AuthorState { number: fork.counter, hash, forked: true, ..lower });
    for record in records {
        refold(tx, shard, record, now_ms)?;
    }
    Ok(())
}

/// Moves an edit above a fork to another name; returns its record.
fn rename(tx: &mut Tx<'_>, shard: ShardId, old: &Dot, new: &Dot, fork: u64) -> Result<RecordId, StoreError> {
    let keys = tx.keys();
    let key = keys.edit(shard, old);
    let stored: StoredEdit = tx.must(&key)?;
    let header = Edit::from_bytes(&stored.bytes).map_err(|error| corrupt(&key, error))?.header;
    tx.delete(key);
    tx.put(keys.edit(shard, new), &stored);
    let arrival_key = keys.arrival(shard, stored.position);
    let arrival: Arrival = tx.must(&arrival_key)?;
    tx.put(arrival_key, &Arrival { dot: new.clone(), ..arrival });
    tx.put(keys.history_entry(shard, header.record, stored.position), new);
    if let Some(poison) = tx.get::<Poison>(&keys.poison(shard, old))? {
        tx.delete(keys.poison(shard, old));
        tx.put(keys.poison(shard, new), &poison);
    }
    let request_key = keys.request(header.origin.request);
    if let Some(mut receipt) = tx.get::<Receipt>(&request_key)?
        && receipt.hash == stored.hash
        // A chain may fork within a command.
        && receipt.first.counter > fork
    {
        receipt.first.actor = new.actor;
        tx.put(request_key, &receipt);
    }
    Ok(header.record)
}

/// Whether an edit overwrites a value of an author whose chain branches: then only a refold can tell what it replaces.
/// That of its own author does not, if its name is what its author calls it.
pub(super) fn is_entangled(tx: &Tx<'_>, shard: ShardId, edit: &Edit, name: &Dot) -> Result<bool, StoreError> {
    let named: BTreeSet<AuthorId> =
        edit.changes.iter().flat_map(|change| change.overwrites.iter().map(|dot| dot.actor)).collect();
    for author in named.into_iter().filter(|author| *author != name.actor) {
        if tx.author(shard, author)?.is_some_and(|state| state.forked || state.trunk.is_some()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Puts the present names into what the edits of one record overwrite.
pub(super) fn resolve(tx: &Tx<'_>, shard: ShardId, edits: &mut [(Dot, Edit)]) -> Result<(), StoreError> {
    if edits.iter().all(|(name, edit)| *name == edit.dot()) {
        return Ok(());
    }
    let authors = tx.authors(shard)?;
    let mut ways: BTreeMap<AuthorId, Way> = BTreeMap::new();
    for (name, _) in edits.iter() {
        let tip = Dot { actor: name.actor, counter: u64::MAX };
        ways.entry(name.actor).or_insert_with(|| Way::down_from(&authors, tip));
    }
    let names: Vec<Dot> = edits.iter().map(|(name, _)| name.clone()).collect();
    let writes: Vec<BTreeSet<(crate::schema::FieldId, Vec<u8>)>> = edits
        .iter()
        .map(|(_, edit)| edit.changes.iter().map(|change| (change.field, change.element.clone())).collect())
        .collect();
    for (name, edit) in edits.iter_mut() {
        for change in &mut edit.changes {
            let key = (change.field, change.element.clone());
            for dot in &mut change.overwrites {
                if names.contains(dot) {
                    continue;
                }
                // Those that were called so before a fork became known.
                let meant = || {
                    names.iter().zip(&writes).filter_map(|(candidate, written)| {
                        let was_called_so =
                            candidate.counter == dot.counter && ways[&candidate.actor].leads_through(dot.actor);
                        (was_called_so && written.contains(&key)).then_some(candidate)
                    })
                };
                let below = |candidate: &&Dot| ways[&name.actor].at(candidate.counter).as_ref() == Some(*candidate);
                let mut all = meant();
                let only = all.next().filter(|_| all.next().is_none());
                let found = meant().find(below).or(only);
                if let Some(found) = found {
                    *dot = found.clone();
                }
            }
        }
    }
    Ok(())
}

/// The way from an edit down to its author's first: each branch on it, under the last number that is on the way.
#[derive(Debug, Default)]
pub(crate) struct Way(BTreeMap<u64, AuthorId>);

impl Way {
    pub(crate) fn down_from(authors: &BTreeMap<AuthorId, AuthorState>, tip: Dot) -> Self {
        let mut way = BTreeMap::new();
        let mut next = Some(tip);
        while let Some(Dot { actor, counter }) = next {
            way.insert(counter, actor);
            next = authors.get(&actor).and_then(|state| state.trunk.clone());
        }
        Way(way)
    }

    /// The name of the edit with this number on the way.
    pub(crate) fn at(&self, number: u64) -> Option<Dot> {
        self.0.range(number..).next().map(|(_, branch)| Dot { actor: *branch, counter: number })
    }

    fn leads_through(&self, branch: AuthorId) -> bool {
        self.0.values().any(|other| *other == branch)
    }

    /// Each branch on the way with its last number.
    pub(crate) fn ends(&self) -> impl Iterator<Item = Dot> + '_ {
        self.0.iter().map(|(counter, branch)| Dot { actor: *branch, counter: *counter })
    }
}
