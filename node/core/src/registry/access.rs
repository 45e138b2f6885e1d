//! The access log: every read of personal data is an entry here, chained like edits, committed before its answer leaves;
//! refused reads too. So is every act of an operator, before it is done.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::{GroupState, ShardState, Tx};
use crate::access::{Action, decide, may_at_all};
use crate::command::{AccessEntry, Answer, LoggedAccess, Looked};
use crate::encoding::Wire;
use crate::ids::{Hash, UnitId};
use crate::store::StoreError;

/// The chain's hash after one more entry.
#[must_use]
pub fn next_access_hash(previous: &Hash, entry: &AccessEntry, allowed: bool) -> Hash {
    let mut hasher = blake3::Hasher::new_derive_key("dinhba 2026 access log");
    hasher.update(&previous.0).update(&[u8::from(allowed)]).update(&entry.to_bytes());
    Hash(*hasher.finalize().as_bytes())
}

pub(super) fn apply(tx: &mut Tx<'_>, mut group: GroupState, entries: Vec<AccessEntry>) -> Result<Answer, StoreError> {
    let (mut verdicts, level) = (Vec::with_capacity(entries.len()), group.level);
    for entry in entries {
        let action = action_of(entry.looked);
        let mut wanted = wanted(tx, &entry)?;
        let is_of_sites =
            action == Action::ReadSites || wanted.iter().any(|shard| entry.shard.is_some() && shard.info.is_ancestor());
        let action = if is_of_sites && action != Action::Administer { Action::ReadSites } else { action };
        if action == Action::ReadSites && !wanted.is_empty() {
            // What a unit says to all below it, whoever looks after one of those may read.
            wanted = hosted(tx)?;
        }
        let reaches = |shard: &ShardState| decide(level, &entry.claims, action, &shard.info.path).is_ok();
        // Access log and backup are one for the whole group: who may see it all may have them. Other answers show what may
        // be seen.
        let allowed = match entry.looked {
            Looked::AccessLog | Looked::Backup => !wanted.is_empty() && wanted.iter().all(reaches),
            // A group may have members before it has shards.
            _ if action == Action::Administer => may_at_all(level, &entry.claims, action) && wanted.iter().all(reaches),
            _ => wanted.iter().any(reaches),
        };
        group.access_count += 1;
        group.access_hash = next_access_hash(&group.access_hash, &entry, allowed);
        let key = tx.keys().access(group.access_count);
        tx.put(key, &LoggedAccess { entry, allowed, hash: group.access_hash });
        verdicts.push(allowed);
    }
    tx.put_group(&group);
    Ok(Answer::Access(verdicts))
}

/// The shards that an entry is about, among those hosted here. Most name one: a walk over all would cost every replica
/// several times what the rest of a read costs.
fn wanted(tx: &Tx<'_>, entry: &AccessEntry) -> Result<Vec<ShardState>, StoreError> {
    match entry.shard {
        Some(shard) => Ok(tx.shard(shard)?.into_iter().collect()),
        None => {
            // Every site below a unit has its ancestor shard: who may see all that is of a place here may see all.
            let all = hosted(tx)?;
            let paths: BTreeSet<Vec<UnitId>> = all.iter().map(|shard| shard.info.path.clone()).collect();
            let is_above_another = |path: &[UnitId]| {
                let below = paths.range::<[UnitId], _>((Bound::Excluded(path), Bound::Unbounded)).next();
                below.is_some_and(|below| below.starts_with(path))
            };
            Ok(all
                .into_iter()
                .filter(|shard| !(shard.info.is_ancestor() && is_above_another(&shard.info.path)))
                .collect())
        }
    }
}

fn hosted(tx: &Tx<'_>) -> Result<Vec<ShardState>, StoreError> {
    Ok(tx.range::<ShardState>(tx.keys().shards())?.into_iter().map(|(_, shard)| shard).collect())
}

/// The action that a kind of read needs.
fn action_of(looked: Looked) -> Action {
    match looked {
        Looked::Record | Looked::Shown | Looked::Members | Looked::Households => Action::Read,
        Looked::Find => Action::Find,
        Looked::History => Action::History,
        Looked::Conflicts => Action::Resolve,
        Looked::Export => Action::Export,
        Looked::Watch => Action::Watch,
        Looked::AccessLog => Action::AccessLog,
        Looked::Backup
        | Looked::AddNode
        | Looked::PromoteNode
        | Looked::RemoveNode
        | Looked::TransferLeader
        | Looked::Snapshot
        | Looked::RaiseLevel
        | Looked::ReleaseAuthor => Action::Administer,
        Looked::Sites => Action::ReadSites,
    }
}
