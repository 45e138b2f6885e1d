//! A group's feature level rises: what was set aside is looked at again, and what derives from records is made anew where the
//! new level derives otherwise.
//!
//! All in one command, so no replica is ever between two levels; it is paid for with one pause. What was set aside costs a
//! fold of its records. If a rule, a class or the folding of names differs, every record of the group is read and decoded
//! once; what that takes stands in `ARCHITECTURE.md` at "Versions side by side".
//!
//! What may stand at a level may stand at the next ([`validate`](crate::schema::validate)), so of what is folded nothing
//! is judged again; and what derives is a function of record and level. So a group that rose has what one has that was
//! made at the higher level from the same edits; but for since when a conflict is known.

use std::collections::BTreeSet;

use super::fold::{Basis, Derived, poison_of, refold, replace_derived};
use super::{GroupState, Poison, ShardState, Tx, corrupt, dot_in, figures, record_of};
use crate::command::{Answer, Nothing, Raise, RefusalCode};
use crate::edit::Dot;
use crate::encoding::Malformed;
use crate::ids::RecordId;
use crate::inject::sometimes;
use crate::level::folding;
use crate::place::{PlaceEntry, knows};
use crate::record::Record;
use crate::schema::{FIELDS, FieldId, RULES};
use crate::store::StoreError;

/// Raises the group's feature level by one.
pub(super) fn apply(tx: &mut Tx<'_>, mut group: GroupState, raise: &Raise) -> Result<Answer, StoreError> {
    let Raise { level, now_ms } = *raise;
    let before = group.level;
    if level == before {
        return Ok(Answer::Done(Nothing));
    }
    if level != before.saturating_add(1) {
        let text = format!("the level can rise by one: this group is at {before}");
        return Ok(Answer::refused(RefusalCode::Level, text));
    }
    if let Some(text) = too_old(tx, level)? {
        return Ok(Answer::refused(RefusalCode::Level, text));
    }
    tx.context.check_level(level)?;
    group.level = level;
    tx.put_group(&group);
    for (_, mut shard) in tx.range::<ShardState>(tx.keys().shards())? {
        derive_anew(tx, &mut shard, (before, level), now_ms)?;
        for record in released(tx, &mut shard, level)? {
            refold(tx, &mut shard, record, now_ms)?;
        }
        tx.put_shard(&shard);
    }
    Ok(Answer::Done(Nothing))
}

/// Who of the nodes in the group's directory does not know a level. The proposer has asked of all members in force; this is the
/// last word of what it may not have heard of. Groups beside a site's first have no directory, or a part of it.
fn too_old(tx: &Tx<'_>, level: u16) -> Result<Option<String>, StoreError> {
    let entries = tx.range::<PlaceEntry>(tx.keys().places())?;
    Ok(entries.into_iter().find_map(|(_, entry)| match entry {
        PlaceEntry::Node(node) if node.present => knows(node.node, node.level_max, level).err(),
        _ => None,
    }))
}

/// The fields over which there may be another conflict at one level than at another.
fn judged_anew(before: u16, after: u16) -> BTreeSet<FieldId> {
    let rules = RULES.iter().filter(|rule| rule.since > before && rule.since <= after);
    let fields = FIELDS.iter().map(|field| field.id).filter(|field| field.at(before).is_some());
    let fields = fields.filter(|field| field.class(before) != field.class(after));
    rules.flat_map(|rule| rule.fields.iter().copied()).chain(fields).collect()
}

/// Puts what derives from each record of a shard at the new level in the place of what did at the old one, as far as it
/// differs. Values read alike at both: what a level adds to them stands in no record below it.
fn derive_anew(
    tx: &mut Tx<'_>,
    shard: &mut ShardState,
    (before, after): (u16, u16),
    now_ms: i64,
) -> Result<(), StoreError> {
    let (judged, is_found_anew) = (judged_anew(before, after), folding(before) != folding(after));
    if judged.is_empty() && !is_found_anew {
        return Ok(());
    }
    let (index_key, home) = (tx.context.index_key.secret, shard.info.home());
    let derived = |level, record: &Record| {
        let touches = |field: FieldId| judged.contains(&field);
        if is_found_anew {
            Derived::of(Basis { level, home, index_key: &index_key }, record, |_| true)
        } else {
            Derived::disputes(level, record, touches)
        }
    };
    let mut changed: Vec<(RecordId, Derived, Derived)> = Vec::new();
    tx.each::<Record>(tx.keys().records(shard.info.shard), |key, record| {
        let (was, is) = (derived(before, &record), derived(after, &record));
        if was != is {
            changed.push((record_of(key)?, was, is));
        }
        Ok(())
    })?;
    sometimes("a rise of the level shows a conflict", !changed.is_empty());
    for (id, was, is) in changed {
        replace_derived(tx, shard, id, (&was, &is), now_ms)?;
    }
    Ok(())
}

/// Takes out of what is set aside what the new level has; the records that those edits are of.
fn released(tx: &mut Tx<'_>, shard: &mut ShardState, level: u16) -> Result<BTreeSet<RecordId>, StoreError> {
    let home = shard.info.shard;
    let mut waiting = BTreeSet::new();
    for (key, poison) in tx.range::<Poison>(tx.keys().poisons(home))? {
        // No level brings back what other edits set aside: that is judged where its record is folded anew.
        if poison == Poison::Flood || poison.is_by_others() {
            continue;
        }
        let (edit, _) = tx.edit_at(home, &poison_place(&key)?)?;
        match poison_of(&edit, &shard.info, level) {
            Some(same) if same == poison => {}
            Some(other) => tx.put(key, &other),
            None => {
                sometimes("an edit that was set aside is folded", true);
                tx.delete(key);
                shard.poisoned -= 1;
                figures::count(tx, home, &edit.header, true)?;
                waiting.insert(edit.header.record);
            }
        }
    }
    Ok(waiting)
}

/// The place in the key of an edit that is set aside.
fn poison_place(key: &[u8]) -> Result<Dot, StoreError> {
    dot_in(crate::keys::suffix(key, 0)).ok_or_else(|| corrupt(key, Malformed { what: "key of an edit set aside" }))
}
