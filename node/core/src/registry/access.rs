//! The access log: every read of personal data is an entry here, chained like edits, committed before its answer leaves;
//! refused reads too. So is every act of an operator, before it is done.
//!
//! Where a log stands goes with the site's signed statements to its neighbours, and they keep the furthest of each: so a site that
//! takes entries out is found out by those above and below it.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::{GroupState, ShardState, Tx, corrupt, read_range};
use crate::access::{Action, decide, may_at_all};
use crate::access_log::{AccessEntry, AccessHead, AccessSeen, LoggedAccess, Looked};
use crate::command::Answer;
use crate::encoding::{Malformed, Wire};
use crate::ids::{Domain, GroupId, Hash, RecordId, SiteId, UnitId};
use crate::inject::sometimes;
use crate::keys::{Keys, own_suffix};
use crate::schema::RecordKind;
use crate::store::{StateView, StoreError};

/// Access logs of one other site of which is kept where they stand: a group has a new one when it is made again from an archive, and
/// a site some groups. Beyond that, somebody makes up names.
pub const HEARD_MAX: usize = 256;

/// Where the access log of a group stands.
#[must_use]
pub fn access_head(group: GroupId, state: &GroupState) -> AccessHead {
    AccessHead {
        group,
        incarnation: state.incarnation,
        count: state.access_count,
        hash: state.access_hash,
        time_ms: state.time_ms,
    }
}

/// Takes note of where another site says that its access log stands. A log only grows: fewer entries at a later time of the group,
/// or as many with another hash, are a difference, which stays noted for an auditor whatever is said later. Fewer at no later
/// time is a word that comes late, as of a leader that others replaced.
pub(super) fn hear(tx: &mut Tx<'_>, site: SiteId, said: AccessHead) -> Result<(), StoreError> {
    let key = tx.keys().heard(site, said.group, said.incarnation);
    let Some(mut seen) = tx.get::<AccessSeen>(&key)? else {
        return hear_first(tx, site, key, said);
    };
    let head = seen.head;
    let is_cut = said.count < head.count && said.time_ms > head.time_ms;
    let is_other = said.count == head.count && said.hash != head.hash;
    if sometimes("an access log is found to be cut", is_cut || is_other) {
        if seen.differs.is_some() {
            return Ok(());
        }
        seen.differs = Some(said);
    } else if said.count > head.count || (said.count == head.count && said.time_ms > head.time_ms) {
        seen.head = said;
    } else {
        return Ok(());
    }
    tx.put(key, &seen);
    Ok(())
}

/// The first word of a log. One name too many is a difference of a log that is known.
fn hear_first(tx: &mut Tx<'_>, site: SiteId, key: Vec<u8>, said: AccessHead) -> Result<(), StoreError> {
    let known = tx.range::<AccessSeen>(tx.keys().heard_of(site))?;
    if known.len() < HEARD_MAX {
        tx.put(key, &AccessSeen { head: said, differs: None });
    } else if let Some((first, seen)) = known.into_iter().next().filter(|(_, seen)| seen.differs.is_none()) {
        tx.put(first, &AccessSeen { differs: Some(said), ..seen });
    }
    Ok(())
}

/// What is known of the access logs of other sites.
pub fn heard(view: &dyn StateView, keys: Keys) -> Result<Vec<(SiteId, AccessSeen)>, StoreError> {
    let site = |key: &[u8]| {
        let site = own_suffix(key, 0).first_chunk().copied();
        site.map(u64::from_be_bytes).map(SiteId).ok_or_else(|| corrupt(key, Malformed { what: "key of an access log" }))
    };
    read_range::<AccessSeen>(view, keys.heard_all())?.into_iter().map(|(key, seen)| Ok((site(&key)?, seen))).collect()
}

/// The chain's hash after one more entry.
#[must_use]
pub fn next_access_hash(previous: &Hash, entry: &AccessEntry, allowed: bool) -> Hash {
    static DOMAIN: Domain = Domain::new("dinhba 2026 access log");
    let mut hasher = DOMAIN.hasher();
    hasher.update(&previous.0).update(&[u8::from(allowed)]).update(&entry.to_bytes());
    Hash(*hasher.finalize().as_bytes())
}

pub(super) fn apply(tx: &mut Tx<'_>, mut group: GroupState, entries: Vec<AccessEntry>) -> Result<Answer, StoreError> {
    let (mut verdicts, level) = (Vec::with_capacity(entries.len()), group.level);
    for entry in entries {
        let action = action_of(entry.looked);
        let named = entry.shard.map(|shard| tx.shard(shard)).transpose()?;
        let one = named.as_ref().and_then(Option::as_ref);
        // What a unit says to all below it, whoever looks after one of those may read; and the targets that it sets, whoever works there.
        let is_said = action != Action::Administer && one.is_some_and(|shard| shard.info.is_ancestor());
        let action = match is_said {
            true if is_of_target(tx, &entry)? => Action::ReadTargets,
            true => Action::ReadSites,
            false => action,
        };
        let reaches = |shard: &ShardState| decide(level, &entry.claims, action, &shard.info.path).is_ok();
        let allowed = match (entry.looked, action, entry.shard) {
            // Access log and backup are one for the whole group: who may see it all may have them. A group may have members before it
            // has shards.
            (Looked::AccessLog | Looked::Backup, ..) | (_, Action::Administer, _) => {
                let wanted = match &named {
                    Some(one) => one.clone().into_iter().collect(),
                    None => all_here(tx)?,
                };
                let may = !wanted.is_empty() || (action == Action::Administer && entry.looked != Looked::Backup);
                may && may_at_all(level, &entry.claims, action) && wanted.iter().all(reaches)
            }
            (_, Action::ReadSites, Some(_)) if one.is_none() => false,
            // Other answers show what may be seen.
            (_, Action::ReadSites | Action::ReadTargets, _) | (_, _, None) => {
                may_at_all(level, &entry.claims, action) && tx.bytes(&tx.keys().reach(entry.claims.unit))?.is_some()
            }
            (_, _, Some(_)) => one.is_some_and(reaches),
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

/// Whether an entry is about a target: it, or its history.
fn is_of_target(tx: &Tx<'_>, entry: &AccessEntry) -> Result<bool, StoreError> {
    let (Looked::Record | Looked::History | Looked::Shown, Some(shard)) = (entry.looked, entry.shard) else {
        return Ok(false);
    };
    let record = tx.record(shard, RecordId(entry.subject))?;
    Ok(record.is_some_and(|(record, _)| record.kind == RecordKind::Target))
}

/// The shards that an entry is about which names none and asks for all. A walk over all costs every replica several times what the
/// rest costs; so only what operators and auditors do needs one.
fn all_here(tx: &Tx<'_>) -> Result<Vec<ShardState>, StoreError> {
    // Every site below a unit has its ancestor shard: who may see all that is of a place here may see all.
    let all = hosted(tx)?;
    let paths: BTreeSet<Vec<UnitId>> = all.iter().map(|shard| shard.info.path.clone()).collect();
    let is_above_another = |path: &[UnitId]| {
        let below = paths.range::<[UnitId], _>((Bound::Excluded(path), Bound::Unbounded)).next();
        below.is_some_and(|below| below.starts_with(path))
    };
    Ok(all.into_iter().filter(|shard| !(shard.info.is_ancestor() && is_above_another(&shard.info.path))).collect())
}

fn hosted(tx: &Tx<'_>) -> Result<Vec<ShardState>, StoreError> {
    Ok(tx.range::<ShardState>(tx.keys().shards())?.into_iter().map(|(_, shard)| shard).collect())
}

/// The action that a kind of read needs.
fn action_of(looked: Looked) -> Action {
    match looked {
        Looked::Record | Looked::Shown | Looked::Members | Looked::Households | Looked::Dossiers => Action::Read,
        Looked::Find => Action::Find,
        Looked::History => Action::History,
        Looked::Conflicts | Looked::Pending | Looked::Work => Action::Resolve,
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
        Looked::Figures => Action::Figures,
    }
}
