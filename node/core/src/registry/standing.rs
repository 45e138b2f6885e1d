//! What the edits of a record count for beside each other: a function of the set of them, so the same in whatever order they came.
//!
//! *Twins* are acceptances of one request by one site that came back from an old copy of its data in between: its client
//! asked again, and nothing there knew the first answer. The one that was received first counts; whoever replaces the
//! other's value has seen the same, and replaces the first's. *Pending* are edits of grave consequence until a second person
//! says something of them: they hold meanwhile. *Rejected* and *held* are those of which officers said so, and no two of
//! them another thing each: what such an edit replaced is there again, and what was built on it stands beside that.
//!
//! What somebody says of an edit of his own, by his name or by his certificate, settles nothing and is *void*, unless he holds it; so is what
//! somebody says who is no registrar of a unit on the record's path, and what is said of saying so. A site's door refuses that; here it
//! is refused for whoever changed his.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use crdts::CmRDT;

use super::branches::{Held, Tree};
use super::{Poison, ShardState, Tx};
use crate::access::Action;
use crate::claims::Claims;
use crate::command::ShardInfo;
use crate::edit::{Change, Dot, Edit, EditKind, Header};
use crate::encoding::Wire;
use crate::ids::{AuthorId, EvidenceId, RequestId, ShardId, SiteId, UnitId};
use crate::inject::{is_armed, sometimes};
use crate::record::{Record, Tagged, Write};
use crate::schema::{FieldId, RecordKind};
use crate::standing::{Standing, is_grave, is_standing, needs_second, standing_field, standing_key};
use crate::store::StoreError;

/// What the edits of a record count for, in their order.
pub(super) struct Judged {
    /// Why each is set aside by the others, if it is.
    pub aside: Vec<Option<Poison>>,
    /// Which wait for a second person.
    pub is_pending: Vec<bool>,
    /// See [`Record::takes_all`].
    pub takes_all: bool,
}

/// Judges the edits of one record of a shard by their present names. Those that are set aside by themselves are
/// known as what others speak of, and count for nothing else. What named a twin names the one that counts afterwards.
pub(super) fn judge(
    tx: &Tx<'_>,
    (info, kind): (&ShardInfo, Option<RecordKind>),
    held: &mut [Held],
    names: &[Dot],
) -> Result<Judged, StoreError> {
    let path = &info.path;
    let mut judged = Judged { aside: vec![None; held.len()], is_pending: vec![false; held.len()], takes_all: false };
    let twins = twins(tx, info.shard, held)?;
    if !twins.is_empty() {
        judged.takes_all = true;
        let counts: BTreeMap<&Dot, &Dot> = twins.iter().map(|(twin, first)| (&names[*twin], &names[*first])).collect();
        let overwrites =
            held.iter_mut().flat_map(|held| &mut held.edit.changes).flat_map(|change| &mut change.overwrites);
        for dot in overwrites {
            if let Some(first) = counts.get(dot) {
                *dot = (*first).clone();
            }
        }
        for (twin, first) in &twins {
            judged.aside[*twin] = Some(Poison::Twin);
            take_over(held, *twin, *first);
        }
    }
    let by_key: BTreeMap<Vec<u8>, usize> =
        held.iter().enumerate().map(|(at, held)| (standing_key(&held.hash), at)).collect();
    let (mut said, mut words) = (Record::new(RecordKind::Person), Vec::new());
    for at in 0..held.len() {
        if held[at].poison.is_some() || judged.aside[at].is_some() {
            continue;
        }
        let Some(change) = held[at].edit.standing_change() else { continue };
        let target = by_key.get(&change.element).copied();
        // What is said of a twin is said of the one that counts.
        let first = target.and_then(|target| twins.get(&target)).copied();
        let targets = target.into_iter().chain(first);
        if is_void(path, &held[at].edit, change, targets.map(|target| &held[target].edit)) {
            judged.aside[at] = Some(Poison::Void);
            continue;
        }
        // Whoever said it may have taken the record for one of another kind: it must not stand where nobody replaces it.
        let field = kind.and_then(standing_field).unwrap_or(change.field);
        let element = first.map_or_else(|| change.element.clone(), |first| standing_key(&held[first].hash));
        for change in held[at].edit.changes.iter_mut().filter(|change| is_standing(change.field)) {
            (change.field, change.element) = (field, element.clone());
        }
        words.push(at);
    }
    untie(held, names, &words);
    words.into_iter().for_each(|at| said.apply(Write::of(&held[at].edit, names[at].clone())));
    let counts_by_itself = |judged: &Judged, at: usize| {
        held[at].poison.is_none() && !matches!(judged.aside[at], Some(Poison::Twin | Poison::Void))
    };
    let mut gone: BTreeSet<(FieldId, &[u8])> = BTreeSet::new();
    for (at, Held { hash, edit, .. }) in held.iter().enumerate() {
        if !counts_by_itself(&judged, at) || edit.standing_change().is_some() {
            continue;
        }
        judged.aside[at] = said_of(said.standing(hash));
        if judged.aside[at].is_some() {
            // Of what replaced something, that is there again, or was the first itself.
            let first = edit.changes.iter().filter(|it| is_grave(it) && it.overwrites.is_empty());
            gone.extend(first.map(|it| (it.field, it.element.as_slice())));
        }
    }
    judged.takes_all |= !gone.is_empty();
    let makes = |at: &usize| counts_by_itself(&judged, *at) && held[*at].edit.makes_record();
    let has_one_maker = (0..held.len()).filter(makes).nth(1).is_none();
    let is_folded = |at: &usize| {
        held[*at].poison.is_none() && judged.aside[*at].is_none() && held[*at].edit.standing_change().is_none()
    };
    let folded: Vec<usize> = (0..held.len()).filter(is_folded).collect();
    for at in folded.iter().copied() {
        let Held { hash, edit, needs_second: by_itself, .. } = &held[at];
        // Who made the record found nothing there; of several that say so, nobody knows who did.
        let makes_it = has_one_maker && edit.makes_record();
        let is_over_gone = |it: &Change| gone.contains(&(it.field, it.element.as_slice()));
        let waits = *by_itself
            || needs_second(edit.header.kind, &edit.changes, || makes_it)
            || (!makes_it && edit.changes.iter().any(is_over_gone));
        judged.is_pending[at] = waits && !is_confirmed(said.standing(hash));
    }
    untie(held, names, &folded);
    Ok(judged)
}

/// Of edits that claim to replace each other, none has seen all others: then none replaces one of these, so that no value goes without
/// one in its place. It takes two lives of a changed program, or one that names what another author will write next. What only lies on
/// a way from some such to others is taken for one of them. Linear in the edits.
fn untie(held: &mut [Held], names: &[Dot], folded: &[usize]) {
    let by_name: BTreeMap<&Dot, usize> = folded.iter().enumerate().map(|(node, at)| (&names[*at], node)).collect();
    let (mut to, mut from) = (vec![Vec::new(); folded.len()], vec![Vec::new(); folded.len()]);
    for (node, at) in folded.iter().enumerate() {
        for dot in held[*at].edit.changes.iter().flat_map(|change| &change.overwrites) {
            let is_later = dot.actor == names[*at].actor && dot.counter >= names[*at].counter;
            if let Some(other) = by_name.get(dot).filter(|_| !is_later) {
                to[node].push(*other);
                from[*other].push(node);
            }
        }
    }
    let mut left: Vec<(usize, usize)> = to.iter().zip(&from).map(|(to, from)| (to.len(), from.len())).collect();
    let mut is_tied = vec![true; folded.len()];
    let mut loose: Vec<usize> = (0..folded.len()).filter(|node| left[*node].0 == 0 || left[*node].1 == 0).collect();
    while let Some(node) = loose.pop() {
        if !std::mem::replace(&mut is_tied[node], false) {
            continue;
        }
        for other in &to[node] {
            left[*other].1 -= 1;
            loose.extend((left[*other].1 == 0).then_some(*other));
        }
        for other in &from[node] {
            left[*other].0 -= 1;
            loose.extend((left[*other].0 == 0).then_some(*other));
        }
    }
    if !is_tied.contains(&true) {
        return;
    }
    for (at, _) in folded.iter().zip(&is_tied).filter(|(_, is_tied)| **is_tied) {
        for change in &mut held[*at].edit.changes {
            change.overwrites.retain(|dot| by_name.get(dot).is_none_or(|other| !is_tied[*other]));
        }
    }
}

/// Lets the acceptance that counts replace what its twin replaced, so that nothing of that comes back.
fn take_over(held: &mut [Held], twin: usize, first: usize) {
    let replaced: Vec<Vec<Dot>> = held[twin].edit.changes.iter().map(|change| change.overwrites.clone()).collect();
    let needs_second = held[twin].needs_second;
    let first = &mut held[first];
    first.needs_second |= needs_second;
    for (change, replaced) in first.edit.changes.iter_mut().zip(replaced) {
        change.overwrites.extend(replaced);
    }
}

/// Whether all that is said of an edit is one of these.
fn all_say<'r>(values: impl Iterator<Item = &'r Tagged>, standings: &[Standing]) -> bool {
    let mut said = values.filter_map(|tagged| Standing::of_value(&tagged.value)).peekable();
    said.peek().is_some() && said.all(|said| standings.contains(&said))
}

/// Why an edit is set aside by the present values of what was said of it, if it is.
fn said_of<'r>(values: impl Iterator<Item = &'r Tagged> + Clone) -> Option<Poison> {
    if all_say(values.clone(), &[Standing::Rejected]) {
        Some(Poison::Rejected)
    } else if all_say(values, &[Standing::Rejected, Standing::Held]) {
        Some(Poison::Held)
    } else {
        None
    }
}

fn is_confirmed<'r>(values: impl Iterator<Item = &'r Tagged>) -> bool {
    all_say(values, &[Standing::Confirmed])
}

/// Whether what an edit says of another settles nothing.
fn is_void<'h>(path: &[UnitId], edit: &Edit, change: &Change, targets: impl IntoIterator<Item = &'h Edit>) -> bool {
    let claims = &edit.header.origin.claims;
    let may = Action::Resolve.roles().contains(&claims.role) && path.contains(&claims.unit);
    let is_of_another = targets.into_iter().all(|target| {
        target.standing_change().is_none()
            && (is_other(claims, &target.header.origin.claims) || !settles(edit.header.kind, change))
    });
    (!may || !is_of_another) && !is_armed("one-person-confirms")
}

/// Whether it takes a second person to say that.
pub(super) fn settles(kind: EditKind, change: &Change) -> bool {
    // A hold that its author could lift himself would be none.
    kind == EditKind::Decision || Standing::of_value(&change.value) != Some(Standing::Held)
}

/// Whether two callers are two persons, each with evidence of his own: who shows none, as on a machine of development, is known by
/// the name alone.
pub(super) fn is_other(one: &Claims, two: &Claims) -> bool {
    let has_own = one.evidence != two.evidence || one.evidence == EvidenceId::default();
    one.subject != two.subject && has_own
}

/// Which edits are acceptances of a request of which another one counts, and that one. Of each request, the one that was
/// received first counts, of several the one with the lowest hash. Linear in the edits.
fn twins(tx: &Tx<'_>, shard: ShardId, held: &[Held]) -> Result<BTreeMap<usize, usize>, StoreError> {
    let mut by_request: BTreeMap<(SiteId, RequestId, u32), Vec<usize>> = BTreeMap::new();
    for (at, Held { edit, poison, .. }) in held.iter().enumerate() {
        if poison.is_none() {
            let Header { author, origin, part, .. } = &edit.header;
            by_request.entry((author.site, origin.request, *part)).or_default().push(at);
        }
    }
    let (mut twins, mut trees) = (BTreeMap::new(), BTreeMap::new());
    for ats in by_request.into_values().filter(|ats| ats.len() > 1) {
        let mut alike: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
        for at in ats {
            alike.entry(content(&held[at].edit)).or_default().push(at);
        }
        for mut ats in alike.into_values() {
            ats.sort_unstable_by_key(|at| (held[*at].edit.header.origin.received_ms, held[*at].hash));
            // All that count are of one author and on one way, so the last one on it speaks for them.
            let Some(mut last) = ats.first().copied() else { continue };
            for at in ats.into_iter().skip(1) {
                if !is_one_way(tx, shard, &mut trees, (&held[last], &held[at]))? {
                    twins.insert(at, last);
                } else if held[at].place.counter > held[last].place.counter {
                    last = at;
                }
            }
        }
    }
    sometimes("a request was accepted twice", !twins.is_empty());
    Ok(if is_armed("twins-stand-twice") { BTreeMap::new() } else { twins })
}

/// Whether one of two edits was written by an author who knew the other: then it is no answer that was forgotten.
fn is_one_way(
    tx: &Tx<'_>,
    shard: ShardId,
    trees: &mut BTreeMap<AuthorId, Option<Tree>>,
    (one, two): (&Held, &Held),
) -> Result<bool, StoreError> {
    let author = one.edit.header.author.id();
    if author != two.edit.header.author.id() {
        return Ok(false);
    }
    if let Entry::Vacant(vacant) = trees.entry(author) {
        vacant.insert(tx.tree(shard, author)?);
    }
    let (low, high) = if one.place.counter <= two.place.counter { (one, two) } else { (two, one) };
    Ok(trees[&author].as_ref().is_none_or(|tree| tree.way(&high.place, low.place.counter) == low.place))
}

/// What an edit says, but for the values that it found: alike for two answers to one request.
fn content(edit: &Edit) -> Vec<u8> {
    let Header { of, kind, event, record_kind, valid_from, origin, .. } = &edit.header;
    let claims = &origin.claims;
    let mut bytes = Vec::new();
    of.encode(&mut bytes);
    kind.encode(&mut bytes);
    event.encode(&mut bytes);
    record_kind.encode(&mut bytes);
    valid_from.encode(&mut bytes);
    claims.subject.encode(&mut bytes);
    claims.role.encode(&mut bytes);
    claims.unit.encode(&mut bytes);
    origin.purpose.encode(&mut bytes);
    origin.case.encode(&mut bytes);
    for change in &edit.changes {
        change.field.encode(&mut bytes);
        change.element.encode(&mut bytes);
        change.value.encode(&mut bytes);
    }
    bytes
}

/// Takes note of an edit of a site that began another life, or whose chain branches there.
pub(super) fn note_life(
    tx: &mut Tx<'_>,
    shard: &mut ShardState,
    (header, author): (&Header, AuthorId),
    place: &Dot,
) -> Result<(), StoreError> {
    let (id, site) = (shard.info.shard, header.author.site);
    let mut is_reborn = place.actor != author;
    if is_reborn {
        tx.put_bytes(tx.keys().beside(id, header.origin.request), Vec::new());
    } else if header.number == 1 {
        let key = tx.keys().lives(id, site);
        let mut lives: Vec<AuthorId> = tx.get_held(&key)?.unwrap_or_default();
        lives.push(author);
        is_reborn = lives.len() > 1;
        tx.put(key, &lives);
    }
    if is_reborn && !shard.reborn.contains(&site) {
        shard.reborn.push(site);
    }
    Ok(())
}

/// Whether another acceptance of an edit's request may be here: its site has had several lives and another one knew the session, or
/// its chain has branched and a branch has the request. Else the edit has no twin, and nothing is looked up for it.
pub(super) fn may_have_twin(
    tx: &Tx<'_>,
    shard: &ShardState,
    (header, author): (&Header, AuthorId),
    place: &Dot,
) -> Result<bool, StoreError> {
    if !shard.reborn.contains(&header.author.site) {
        return Ok(false);
    }
    let (id, request) = (shard.info.shard, header.origin.request);
    // Of two on branches of one chain, one is beside it.
    if place.actor != author || tx.bytes(&tx.keys().beside(id, request))?.is_some() {
        return Ok(true);
    }
    let lives: Vec<AuthorId> = tx.get_held(&tx.keys().lives(id, header.author.site))?.unwrap_or_default();
    for other in lives.into_iter().filter(|other| *other != author) {
        if tx.bytes(&tx.keys().secret(id, other, request.session))?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
