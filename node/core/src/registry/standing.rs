//! What the edits of a record count for beside each other: a function of the set of them, so the same in whatever order they came.
//!
//! *Twins* are acceptances of one request by one site that came back from an old copy of its data in between: its client
//! asked again, and nothing there knew the first answer. The one that was received first counts; whoever replaces the
//! other's value has seen the same, and replaces the first's. *Pending* are edits of grave consequence until a second person
//! says something of them: they hold meanwhile. *Rejected* and *held* are those of which officers said so, and no two of
//! them another thing each: what such an edit replaced is there again, and what was built on it stands beside that.
//!
//! What somebody says of an edit of his own, by his name or by his certificate, settles nothing and is *void*; so is what
//! nobody of a unit above the record says, or somebody of no fitting role, and what is said of saying so. A site's door refuses
//! that; here it is refused for whoever changed his.

use std::collections::BTreeMap;

use crdts::CmRDT;

use super::family::Held;
use super::{Poison, ShardState, Tx};
use crate::access::Action;
use crate::claims::Claims;
use crate::command::ShardInfo;
use crate::edit::{Change, Dot, Edit, EditKind, Header};
use crate::ids::{AuthorId, EvidenceId, RequestId, ShardId, SiteId, UnitId};
use crate::inject::{is_armed, sometimes};
use crate::record::{Record, Tagged, Write};
use crate::schema::RecordKind;
use crate::standing::{Standing, standing_key};
use crate::store::StoreError;

/// What the edits of a record count for, in their order.
pub(super) struct Judged {
    /// Why each is set aside by the others, if it is.
    pub aside: Vec<Option<Poison>>,
    /// Which wait for a second person.
    pub is_pending: Vec<bool>,
    /// Whether there are twins.
    pub has_twins: bool,
}

/// Judges the edits of one record of a shard by their present names. Those that are set aside by themselves are
/// known as what others speak of, and count for nothing else. What named a twin names the one that counts afterwards.
pub(super) fn judge(tx: &Tx<'_>, info: &ShardInfo, held: &mut [Held], names: &[Dot]) -> Result<Judged, StoreError> {
    let path = &info.path;
    let mut judged = Judged { aside: vec![None; held.len()], is_pending: vec![false; held.len()], has_twins: false };
    let twins = twins(tx, info.shard, held)?;
    if !twins.is_empty() {
        judged.has_twins = true;
        let counts: BTreeMap<&Dot, &Dot> = twins.iter().map(|(twin, first)| (&names[*twin], &names[*first])).collect();
        let overwrites =
            held.iter_mut().flat_map(|held| &mut held.edit.changes).flat_map(|change| &mut change.overwrites);
        for dot in overwrites {
            if let Some(first) = counts.get(dot) {
                *dot = (*first).clone();
            }
        }
        twins.keys().for_each(|twin| judged.aside[*twin] = Some(Poison::Twin));
    }
    let by_key: BTreeMap<Vec<u8>, usize> =
        held.iter().enumerate().map(|(at, held)| (standing_key(&held.hash), at)).collect();
    let mut said = Record::new(RecordKind::Person);
    for (at, one) in held.iter().enumerate() {
        if one.poison.is_some() || judged.aside[at].is_some() {
            continue;
        }
        let Some(change) = one.edit.standing_change() else { continue };
        let target = by_key.get(&change.element).map(|target| &held[*target].edit);
        if is_void(path, &one.edit, change, target) {
            judged.aside[at] = Some(Poison::Void);
        } else {
            said.apply(Write::of(&one.edit, names[at].clone()));
        }
    }
    for (at, Held { hash, edit, poison, needs_second, .. }) in held.iter().enumerate() {
        if poison.is_some() || judged.aside[at].is_some() || edit.standing_change().is_some() {
            continue;
        }
        match said_of(said.standing(hash), *needs_second) {
            Counts::Pending => judged.is_pending[at] = true,
            Counts::Aside(poison) => judged.aside[at] = Some(poison),
            Counts::Whole => {}
        }
    }
    Ok(judged)
}

enum Counts {
    Whole,
    Pending,
    Aside(Poison),
}

/// What an edit counts for by the present values of what was said of it.
fn said_of<'r>(values: impl Iterator<Item = &'r Tagged>, needs_second: bool) -> Counts {
    let said: Vec<Standing> = values.filter_map(|tagged| Standing::of_value(&tagged.value)).collect();
    let all = |standings: &[Standing]| !said.is_empty() && said.iter().all(|said| standings.contains(said));
    if all(&[Standing::Rejected]) {
        Counts::Aside(Poison::Rejected)
    } else if all(&[Standing::Rejected, Standing::Held]) {
        Counts::Aside(Poison::Held)
    } else if needs_second && !all(&[Standing::Confirmed]) {
        Counts::Pending
    } else {
        Counts::Whole
    }
}

/// Whether what an edit says of another settles nothing.
fn is_void(path: &[UnitId], edit: &Edit, change: &Change, target: Option<&Edit>) -> bool {
    let claims = &edit.header.origin.claims;
    let may = Action::Resolve.roles().contains(&claims.role) && path.contains(&claims.unit);
    let is_of_another = target.is_none_or(|target| {
        target.standing_change().is_none() && (may_say(edit, target) || !settles(edit.header.kind, change))
    });
    (!may || !is_of_another) && !is_armed("one-person-confirms")
}

/// Whether it takes a second person to say that.
pub(super) fn settles(kind: EditKind, change: &Change) -> bool {
    kind == EditKind::Decision
        || matches!(Standing::of_value(&change.value), Some(Standing::Confirmed | Standing::Rejected) | None)
}

/// Whether an edit's author is another person than that of the edit which it speaks of, with another certificate.
fn may_say(edit: &Edit, target: &Edit) -> bool {
    is_other(&edit.header.origin.claims, &target.header.origin.claims)
}

/// Whether two callers are two persons, each with evidence of his own: who shows none, as on a machine of development, is known by
/// the name alone.
pub(super) fn is_other(one: &Claims, two: &Claims) -> bool {
    let has_own = one.evidence != two.evidence || one.evidence == EvidenceId::default();
    one.subject != two.subject && has_own
}

/// Which edits are acceptances of a request of which another one counts, and that one. Of each request, the one that was
/// received first counts, of several the one with the lowest hash.
fn twins(tx: &Tx<'_>, shard: ShardId, held: &[Held]) -> Result<BTreeMap<usize, usize>, StoreError> {
    let mut by_request: BTreeMap<(SiteId, RequestId, u32), Vec<usize>> = BTreeMap::new();
    for (at, Held { edit, poison, .. }) in held.iter().enumerate() {
        if poison.is_none() {
            let Header { author, origin, part, .. } = &edit.header;
            by_request.entry((author.site, origin.request, *part)).or_default().push(at);
        }
    }
    let mut twins = BTreeMap::new();
    for mut ats in by_request.into_values().filter(|ats| ats.len() > 1) {
        ats.sort_unstable_by_key(|at| (held[*at].edit.header.origin.received_ms, held[*at].hash));
        let mut firsts: Vec<usize> = Vec::new();
        for at in ats {
            let mut first = None;
            for one in &firsts {
                let (first_held, again) = (&held[*one], &held[at]);
                if are_alike(&first_held.edit, &again.edit) && !is_one_way(tx, shard, first_held, again)? {
                    first = Some(*one);
                    break;
                }
            }
            match first {
                Some(first) => drop(twins.insert(at, first)),
                None => firsts.push(at),
            }
        }
    }
    sometimes("a request was accepted twice", !twins.is_empty());
    Ok(if is_armed("twins-stand-twice") { BTreeMap::new() } else { twins })
}

/// Whether one of two edits was written by an author who knew the other: then it is no answer that was forgotten.
fn is_one_way(tx: &Tx<'_>, shard: ShardId, one: &Held, two: &Held) -> Result<bool, StoreError> {
    let (low, high) = if one.place.counter <= two.place.counter { (one, two) } else { (two, one) };
    let author = one.edit.header.author.id();
    Ok(author == two.edit.header.author.id() && tx.way(shard, author, &high.place, low.place.counter)? == low.place)
}

/// Whether two edits of one name of a request say the same, each of the values that it found.
fn are_alike(one: &Edit, two: &Edit) -> bool {
    let of_header = |edit: &Edit| {
        let Header { of, kind, event, record_kind, valid_from, origin, .. } = &edit.header;
        let claims = &origin.claims;
        let who = (claims.subject.clone(), claims.role, claims.unit, origin.purpose, origin.case.clone());
        (*of, *kind, *event, *record_kind, valid_from.clone(), who)
    };
    let of_changes = |edit: &Edit| -> Vec<_> {
        edit.changes.iter().map(|change| (change.field, change.element.clone(), change.value.clone())).collect()
    };
    of_header(one) == of_header(two) && of_changes(one) == of_changes(two)
}

/// Takes note of an edit of a site that began another life, or whose chain branches there.
pub(super) fn note_life(
    tx: &mut Tx<'_>,
    shard: &mut ShardState,
    header: &Header,
    place: &Dot,
) -> Result<(), StoreError> {
    let (id, site, author) = (shard.info.shard, header.author.site, header.author.id());
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
pub(super) fn may_have_twin(tx: &Tx<'_>, shard: &ShardState, header: &Header, place: &Dot) -> Result<bool, StoreError> {
    if !shard.reborn.contains(&header.author.site) {
        return Ok(false);
    }
    let (id, author, request) = (shard.info.shard, header.author.id(), header.origin.request);
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
