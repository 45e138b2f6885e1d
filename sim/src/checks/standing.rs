//! Whether edits are set aside, and count, as the others say: a part of `nothing_lost`, judged from the edits alone.
//!
//! Does not check: two acceptances of one request on branches of one chain under different numbers, of which one may follow the
//! other.

use std::collections::{BTreeMap, BTreeSet};

use dinhba_core::edit::{Dot, Edit, EditKind};
use dinhba_core::ids::{EvidenceId, Hash, RequestId, SiteId};
use dinhba_core::registry::Poison;
use dinhba_core::standing::{Standing, standing_key};

use crate::state::ShardCopy;

/// What two acceptances of one request have alike: who took it, its name, the part, and what it says.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AcceptedAs<'e> {
    site: SiteId,
    request: RequestId,
    part: u32,
    said: Vec<(u16, &'e [u8], &'e [u8])>,
}

pub(super) fn accepted_as(edit: &Edit) -> AcceptedAs<'_> {
    let header = &edit.header;
    let said = edit.changes.iter().map(|change| (change.field.0, &*change.element, &*change.value));
    let (site, request, part) = (header.author.site, header.origin.request, header.part);
    AcceptedAs { site, request, part, said: said.collect() }
}

/// What is wrong with how the edits of a copy stand.
pub(super) fn faults(copy: &ShardCopy, stolen: &BTreeSet<SiteId>) -> Vec<String> {
    let by_key: BTreeMap<Vec<u8>, &Edit> = copy.edits.values().map(|(hash, edit)| (standing_key(hash), edit)).collect();
    let counts = |place: &Dot| !copy.aside.contains_key(place);
    let counting = || copy.edits.iter().filter(|(place, _)| counts(place)).map(|(_, (hash, edit))| (hash, edit));
    let mut said: BTreeMap<&[u8], BTreeSet<Standing>> = BTreeMap::new();
    for (_, edit) in counting() {
        let Some(change) = edit.standing_change() else { continue };
        said.entry(&change.element).or_default().extend(Standing::of_value(&change.value));
    }
    let mut found = Vec::new();
    // What is said of one of two acceptances is said of the one that counts.
    let mut alike: BTreeMap<_, Vec<&Hash>> = BTreeMap::new();
    for (hash, edit) in copy.edits.values() {
        alike.entry(accepted_as(edit)).or_default().push(hash);
    }
    let is_said_of = |hash: &Hash, standings: &[Standing]| {
        said.get(&*standing_key(hash)).is_some_and(|said| standings.iter().any(|standing| said.contains(standing)))
    };
    let is_said =
        |edit: &Edit, standings: &[Standing]| alike[&accepted_as(edit)].iter().any(|hash| is_said_of(hash, standings));
    let mut taken: BTreeMap<_, Vec<&Edit>> = BTreeMap::new();
    counting().for_each(|(_, edit)| taken.entry(accepted_as(edit)).or_default().push(edit));
    for (place, poison) in &copy.aside {
        let (hash, edit) = &copy.edits[place];
        let is_right = match poison {
            Poison::Twin => taken.contains_key(&accepted_as(edit)) || is_said(edit, &Standing::ALL),
            Poison::Rejected => is_said(edit, &[Standing::Rejected]),
            Poison::Held => is_said(edit, &[Standing::Held, Standing::Rejected]),
            // No door lets anybody say such a thing.
            Poison::Void => stolen.contains(&edit.header.author.site),
            _ => true,
        };
        if !is_right {
            found.push(format!("edit {hash} is set aside as {}, and nothing says so", poison.name()));
        }
    }
    for (hash, edit) in counting() {
        let settles = matches!(edit.header.kind, EditKind::Confirmation | EditKind::Reject | EditKind::Release);
        let target = edit.standing_change().and_then(|change| by_key.get(&change.element));
        let own = &edit.header.origin.claims;
        let is_own = target.is_some_and(|target| {
            let other = &target.header.origin.claims;
            other.subject == own.subject || (other.evidence == own.evidence && own.evidence != EvidenceId::default())
        });
        if settles && is_own {
            found.push(format!("edit {hash} settles what its own author wrote"));
        }
    }
    let is_twice = |edits: &Vec<&Edit>| {
        let mut pairs = edits.iter().enumerate().flat_map(|(at, one)| edits[..at].iter().map(move |two| (one, two)));
        pairs.any(|(one, two)| {
            let (one, two) = (&one.header, &two.header);
            one.author != two.author || one.number == two.number
        })
    };
    let twice = taken.values().filter(|edits| is_twice(edits)).filter_map(|edits| edits.first());
    found.extend(
        twice.map(|edit| {
            format!("request {} counts twice in record {}", edit.header.origin.request, edit.header.record)
        }),
    );
    found
}
