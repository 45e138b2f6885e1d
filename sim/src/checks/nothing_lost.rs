//! Every edit that somebody was told is accepted is held at every site of its shard, and none is set aside for good unless its
//! site's key was stolen, or officers said so, or another acceptance of its request counts (`standing`); and every value of a field is what the edits say: written, and overwritten by nobody who had seen it.
//! So an accepted value is visible, replaced by one whose author had seen it, or in conflict.
//!
//! Does not check: nodes that left their group; edits that were alone on a disk that the scenario took away beyond the
//! promises; of a record on which a chain that branches bears, which of the values that somebody named are replaced (there, names
//! are resolved by rules of their own).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use dinhba_core::edit::{Change, Dot, Edit, GROUNDS};
use dinhba_core::ids::{AuthorId, Hash, RecordId, SiteId};
use dinhba_core::record::Record;
use dinhba_core::registry::{self, Poison, alias_id};
use dinhba_core::schema::FieldId;
use dinhba_core::standing::{is_standing, standing_key};

use super::converges::is_member;
use super::{Check, World, standing};
use crate::country::Power;
use crate::scenario::Promise;
use crate::state::ShardCopy;

pub struct NothingLost;

/// One of the edits of a record that are folded.
struct Folded<'c> {
    /// What its author calls it.
    dot: Dot,
    /// What it is called where others have its number.
    alias: Dot,
    /// What it is called here.
    name: Dot,
    /// What other acceptances of its request are called, which count as it.
    twins: Vec<Dot>,
    /// What it changes: what it says of another acceptance is said of the one that counts.
    changes: Cow<'c, [Change]>,
}

/// A field of one record.
type Field<'c> = (FieldId, &'c [u8]);

impl Folded<'_> {
    /// What it replaces of a field. Nobody has seen the edit itself, nor what its author wrote after it.
    fn replaces(&self, field: Field<'_>) -> impl Iterator<Item = &Dot> {
        let changes = self.changes.iter().filter(move |change| (change.field, &*change.element) == field);
        let own = &self.dot;
        let is_seen = move |old: &&Dot| old.actor != own.actor || old.counter < own.counter;
        changes.flat_map(|change| &change.overwrites).filter(is_seen)
    }
}

/// Of a shard, what its edits can be called.
struct Names {
    /// How many edits have a number of an author.
    of_dot: BTreeMap<Dot, usize>,
    /// Authors whose chains branch.
    branching: BTreeSet<AuthorId>,
    authors: BTreeSet<AuthorId>,
}

impl Names {
    fn of(copy: &ShardCopy) -> Self {
        let mut of_dot = BTreeMap::new();
        copy.edits.values().for_each(|(_, edit)| *of_dot.entry(edit.dot()).or_default() += 1);
        let branches = copy.authors.iter().filter(|author| author.trunk.is_some());
        let branching = branches.map(|author| author.author.id()).collect();
        Names { of_dot, branching, authors: copy.authors.iter().map(|author| author.author.id()).collect() }
    }

    /// Whether what an edit is called, and what it replaces, can be read off it: no chain that bears on it branches. Who is
    /// unknown may be an alias then.
    fn are_plain(&self, folded: &[Folded<'_>]) -> bool {
        let is_plain = |actor: &AuthorId| {
            !self.branching.contains(actor) && (self.branching.is_empty() || self.authors.contains(actor))
        };
        let names = |one: &Folded<'_>| {
            let replaced = one.changes.iter().flat_map(|change| &change.overwrites);
            is_plain(&one.dot.actor) && replaced.map(|dot| &dot.actor).all(is_plain)
        };
        folded.iter().all(names)
    }
}

/// The edits of each record that are folded.
fn by_records<'c>(copy: &'c ShardCopy, names: &Names) -> BTreeMap<RecordId, Vec<Folded<'c>>> {
    let mut found: BTreeMap<RecordId, Vec<Folded<'c>>> = BTreeMap::new();
    let called = |hash: &Hash, edit: &Edit| {
        let dot = edit.dot();
        let alias = Dot { actor: alias_id(dot.actor, hash), counter: dot.counter };
        (dot, alias)
    };
    let mut twins: BTreeMap<_, Vec<Dot>> = BTreeMap::new();
    for (place, _) in copy.aside.iter().filter(|(_, poison)| **poison == Poison::Twin) {
        let (hash, edit) = &copy.edits[place];
        let (dot, alias) = called(hash, edit);
        twins.entry(standing::accepted_as(edit)).or_default().extend([dot, alias]);
    }
    let counts_as = counts_as(copy);
    let folded = copy.edits.iter().filter(|(place, _)| !copy.aside.contains_key(*place));
    for (_, (hash, edit)) in folded {
        let (dot, alias) = called(hash, edit);
        let name = if names.of_dot[&dot] > 1 { alias.clone() } else { dot.clone() };
        let twins = twins.get(&standing::accepted_as(edit)).cloned().unwrap_or_default();
        let changes = changes_of(edit, &counts_as);
        found.entry(edit.header.record).or_default().push(Folded { dot, alias, name, twins, changes });
    }
    found
}

/// By the elements of what is said of other acceptances of a request, that of the one that counts.
fn counts_as(copy: &ShardCopy) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let is_twin = |place: &Dot| copy.aside.get(place) == Some(&Poison::Twin);
    let (twins, others): (Vec<_>, Vec<_>) = copy.edits.iter().partition(|(place, _)| is_twin(place));
    // The last one of those on its author's way speaks for them.
    let mut counting: BTreeMap<_, (u64, &Hash)> = BTreeMap::new();
    for (_, (hash, edit)) in others {
        let last = counting.entry(standing::accepted_as(edit)).or_insert((edit.header.number, hash));
        *last = (*last).max((edit.header.number, hash));
    }
    let key_of = |(_, (hash, edit)): (_, &(Hash, Edit))| {
        let (_, counts) = counting.get(&standing::accepted_as(edit))?;
        Some((standing_key(hash), standing_key(counts)))
    };
    twins.into_iter().filter_map(key_of).collect()
}

fn changes_of<'c>(edit: &'c Edit, counts_as: &BTreeMap<Vec<u8>, Vec<u8>>) -> Cow<'c, [Change]> {
    let other = |change: &Change| counts_as.get(&change.element).filter(|_| is_standing(change.field)).cloned();
    if !edit.changes.iter().any(|change| other(change).is_some()) {
        return Cow::Borrowed(&edit.changes);
    }
    let counted = |change: &Change| {
        let element = other(change).unwrap_or_else(|| change.element.clone());
        Change { element, ..change.clone() }
    };
    edit.changes.iter().map(counted).collect::<Vec<_>>().into()
}

/// What is wrong with a field of a record, by the names of the values that are shown and the edits that wrote them.
fn misshown(field: Field<'_>, shown: &BTreeSet<Dot>, folded: &[Folded<'_>], is_plain: bool) -> Option<String> {
    let replaced: BTreeSet<&Dot> = folded.iter().flat_map(|one| one.replaces(field)).collect();
    let writes = |one: &&Folded<'_>| one.changes.iter().any(|change| (change.field, &*change.element) == field);
    let written: Vec<&Folded<'_>> = folded.iter().filter(writes).collect();
    // Where names may mean several, a value that nobody names at all is still owed, and none that nobody wrote is shown.
    let is_named = |one: &Folded<'_>| {
        let mut names = [&one.dot, &one.alias].into_iter().chain(&one.twins);
        names.any(|name| replaced.contains(name))
    };
    let owed: BTreeSet<&Dot> = written.iter().filter(|one| !is_named(one)).map(|one| &one.name).collect();
    let may: BTreeSet<&Dot> = written.iter().map(|one| &one.name).collect();
    let lost = owed.iter().filter(|name| !shown.contains(**name)).count();
    let invented = shown.iter().filter(|name| !may.contains(name)).count();
    let risen = if is_plain { shown.iter().filter(|name| !owed.contains(name)).count() } else { 0 };
    (lost + invented + risen > 0).then(|| {
        format!("field {:?}: {lost} values are missing, {invented} nobody wrote, {risen} were replaced", field.0)
    })
}

/// The fields of records that do not follow from their edits, those that are set aside left out.
fn misfolded(copy: &ShardCopy) -> Vec<String> {
    let names = Names::of(copy);
    let mut found = Vec::new();
    let mut records: BTreeMap<RecordId, &Record> = BTreeMap::new();
    for (key, record) in &copy.records {
        records.extend(registry::record_of(key).ok().map(|id| (id, record)));
    }
    for (id, folded) in by_records(copy, &names) {
        let Some(record) = records.remove(&id) else {
            found.push(format!("record {id} has edits and is not there"));
            continue;
        };
        let is_plain = names.are_plain(&folded);
        let mut shown: BTreeMap<Field<'_>, BTreeSet<Dot>> = BTreeMap::new();
        for ((field, element), values) in record.fields() {
            shown.insert((*field, element), values.iter().map(|value| value.dot.clone()).collect());
        }
        let written = folded.iter().flat_map(|one| &*one.changes).filter(|change| change.field != GROUNDS);
        let fields: BTreeSet<Field<'_>> =
            written.map(|change| (change.field, &*change.element)).chain(shown.keys().copied()).collect();
        for field in fields {
            let there = shown.get(&field).cloned().unwrap_or_default();
            found.extend(misshown(field, &there, &folded, is_plain).map(|text| format!("record {id}, {text}")));
        }
    }
    found.extend(records.keys().map(|id| format!("record {id} is there, and no edit makes it")));
    found
}

/// What is set aside of sites that nobody else speaks for. All levels are those of the highest by now, so each of their edits
/// is one that every site knows.
fn set_aside(copy: &ShardCopy, stolen: &BTreeSet<SiteId>) -> Vec<String> {
    let mut aside: BTreeMap<SiteId, u64> = BTreeMap::new();
    // What the others say of an edit `standing` looks at.
    for place in copy.aside.iter().filter(|(_, poison)| poison.is_counted()).map(|(place, _)| place) {
        let site = copy.edits[place].1.header.author.site;
        *aside.entry(site).or_default() += u64::from(!stolen.contains(&site));
    }
    aside.retain(|_, count| *count > 0);
    aside.into_iter().map(|(site, count)| format!("{count} accepted edits of {site} are set aside")).collect()
}

impl Check for NothingLost {
    fn promise(&self) -> Promise {
        Promise::NothingLost
    }

    fn judge(&mut self, world: &World) -> Vec<String> {
        let country = &world.country;
        let (ledger, stolen) = (world.oracle.ledger(), world.stolen());
        let mut found = ledger.contradictions.clone();
        found.extend(world.copies(|at, copy| {
            if country.machines()[at.node].power != Power::On || !is_member(world, at.group, at.node) {
                return Vec::new();
            }
            let held: BTreeSet<Hash> = copy.edits.values().map(|(hash, _)| *hash).collect();
            let due = ledger.told.iter().filter(|(_, told)| told.shard == at.shard && ledger.is_covered(told));
            let lacking = due.filter(|(_, told)| !held.contains(&told.hash)).map(|(request, told)| {
                let by = &country.sites()[told.site].code;
                format!("edit {} ({request}) is missing, accepted by {by} at {:?}", told.hash, told.at)
            });
            lacking
                .chain(set_aside(copy, &stolen))
                .chain(standing::faults(copy, &stolen))
                .chain(misfolded(copy))
                .collect()
        }));
        found
    }
}

#[cfg(test)]
mod tests {
    use crdts::CmRDT;
    use dinhba_core::command::ShardInfo;
    use dinhba_core::edit::Author;
    use dinhba_core::ids::{GroupId, Incarnation, KeyMark, ShardId};
    use dinhba_core::keys::Keys;
    use dinhba_core::record::Write;
    use dinhba_core::registry::{AuthorState, ShardState};
    use dinhba_core::schema::{RecordKind, field};

    use super::super::testing::{self, author};
    use super::*;

    /// An edit of a note that replaces what these numbers of the same author wrote.
    fn edit(site: u64, number: u64, record: u8, replaces: &[u64]) -> Edit {
        let mut edit = testing::edit(author(site), number, (0, 1), number);
        let actor = edit.header.author.id();
        let overwrites = replaces.iter().map(|counter| Dot { actor, counter: *counter }).collect();
        edit.header.record = RecordId([record; 16]);
        edit.changes = vec![Change { field: field::NOTE, element: Vec::new(), value: vec![1], overwrites }];
        edit
    }

    fn state(author: Author, trunk: Option<Dot>) -> AuthorState {
        AuthorState {
            author,
            number: 1,
            hash: Hash::default(),
            from: None,
            key: KeyMark::default(),
            parked: None,
            trunk,
            aside: 1,
        }
    }

    /// A shard with these edits; the records are folded from those that `folds` names.
    fn copy(edits: Vec<(Dot, Edit)>, authors: Vec<AuthorState>, folds: impl Fn(&Edit) -> bool) -> ShardCopy {
        let mut records: BTreeMap<Vec<u8>, Record> = BTreeMap::new();
        for (_, edit) in edits.iter().filter(|(_, edit)| folds(edit)) {
            let key = Keys(GroupId(1)).record(ShardId(2), edit.header.record);
            let record = records.entry(key).or_insert_with(|| Record::new(RecordKind::Person));
            record.apply(Write::of(edit, edit.dot()));
        }
        let info = ShardInfo { shard: ShardId(2), path: Vec::new() };
        let state = ShardState::new(info, author(1), [0; 16]);
        let edits = edits.into_iter().map(|(place, edit)| (place, (Hash::default(), edit))).collect();
        ShardCopy { state, authors, edits, aside: BTreeMap::new(), records }
    }

    fn lies_at(site: u64, number: u64) -> Dot {
        Dot { actor: author(site).id(), counter: number }
    }

    #[test]
    fn a_chain_that_branches_hides_no_loss_elsewhere() {
        // Site 1 gave number 1 twice; site 2 wrote on another record, which is as if its second edit had never come.
        let branch = Dot { actor: AuthorId([9; 16]), counter: 1 };
        let edits = || {
            vec![
                (lies_at(1, 1), edit(1, 1, 1, &[])),
                (branch.clone(), edit(1, 1, 4, &[])),
                (lies_at(2, 1), edit(2, 1, 2, &[])),
                (lies_at(2, 2), edit(2, 2, 2, &[1])),
            ]
        };
        let authors = || vec![state(author(1), None), state(author(1), Some(lies_at(1, 1))), state(author(2), None)];
        let of_site_two = |text: &String| text.contains(&RecordId([2; 16]).to_string());
        let whole = misfolded(&copy(edits(), authors(), |_| true));
        assert!(!whole.iter().any(of_site_two), "{whole:?}");
        let lacking = misfolded(&copy(edits(), authors(), |edit| edit.header.number == 1));
        assert!(lacking.iter().any(of_site_two), "{lacking:?}");
    }

    #[test]
    fn what_is_replaced_is_not_owed_and_what_replaces_itself_is() {
        let edits = || vec![(lies_at(2, 1), edit(2, 1, 2, &[])), (lies_at(2, 2), edit(2, 2, 2, &[1, 2, 3]))];
        let authors = || vec![state(author(2), None)];
        assert_eq!(misfolded(&copy(edits(), authors(), |_| true)), Vec::<String>::new());
        assert_eq!(misfolded(&copy(edits(), authors(), |_| false)).len(), 1);
        let mut aside = copy(edits(), authors(), |edit| edit.header.number == 1);
        assert_eq!(misfolded(&aside).len(), 1, "the second was not folded");
        aside.aside.insert(lies_at(2, 2), Poison::Value);
        assert_eq!(misfolded(&aside), Vec::<String>::new(), "and need not be, since it is set aside");
        assert_eq!(set_aside(&aside, &BTreeSet::from([SiteId(1)])).len(), 1, "which it may not be");
        assert_eq!(set_aside(&aside, &BTreeSet::from([SiteId(2)])), Vec::<String>::new(), "unless it may be a thief's");
    }

    #[test]
    fn what_is_said_of_an_acceptance_is_said_of_the_one_that_counts_and_replaced_there() {
        // Site 1 came back from an old copy and took a request again; site 2 rejected that acceptance, and later the one that counts.
        let again = Author { incarnation: Incarnation([4; 16]), ..author(1) };
        let (first, second, of_second, of_first) =
            (lies_at(1, 1), Dot { actor: again.id(), counter: 1 }, lies_at(2, 1), lies_at(2, 2));
        let says = |number: u64, hash: &Hash, overwrites: &[Dot]| {
            let mut edit = edit(2, number, 1, &[]);
            edit.changes[0].field = field::STANDING;
            edit.changes[0].element = standing_key(hash);
            edit.changes[0].overwrites = overwrites.to_vec();
            edit
        };
        let hashes = [1, 2, 3, 4].map(|byte| Hash([byte; 32]));
        let mut accepted_again = edit(1, 1, 1, &[]);
        accepted_again.header.author = again;
        let edits = [
            (first.clone(), edit(1, 1, 1, &[])),
            (second.clone(), accepted_again),
            (of_second.clone(), says(1, &hashes[1], &[])),
            (of_first, says(2, &hashes[0], &[of_second])),
        ];
        let authors = [author(1), again, author(2)].map(|author| state(author, None)).to_vec();
        // Both acceptances are set aside: one counts as the other, and that one is rejected.
        let mut copy =
            copy(edits.to_vec(), authors, |edit| edit.header.author.site == SiteId(2) && edit.header.number == 2);
        for ((place, _), hash) in edits.iter().zip(hashes) {
            copy.edits.get_mut(place).expect("it is there").0 = hash;
        }
        copy.aside = [(first, Poison::Rejected), (second, Poison::Twin)].into();
        assert_eq!(misfolded(&copy), Vec::<String>::new());
        let last = copy.edits.get_mut(&lies_at(2, 2)).expect("the later word");
        last.1.changes[0].overwrites.clear();
        assert_eq!(misfolded(&copy).len(), 1, "if it replaces nothing, the earlier word stands beside it");
    }
}
