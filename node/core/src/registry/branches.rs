//! Authors whose chains branch. A site whose data came back from an old backup, unnoticed, gives numbers again that its
//! neighbours know by other content. Both branches were acknowledged, so both stay: the edits of one author are a tree,
//! in which each edit names the hash of the one before it. Nothing leaves the log, nothing in it moves, and nobody is
//! asked which branch is right.
//!
//! An edit's *place* is where it lies here: (branch, number). The branch that came first lies under the author's id, each
//! other one under an id derived from its first edit. An edit that follows the end of a branch goes on there, any other
//! begins a branch; so places depend on the order in which edits came, never change, and stay inside a site. Keys, the
//! stream and what a session leaves out go by places.
//!
//! An edit's *name* is what records, answers and heads call it, and depends on the set of edits alone: its dot, where its
//! author's tree holds its number once, else (alias, number), the alias being derived from the author and the hash of that
//! very edit. Edits with a number of their own follow on one another, whatever is beside them: so a record's clock may
//! count them as those of one author. When a number is given a second time, the edit that had it alone goes by its alias
//! from then on and its record is folded anew, and that is all: an edit that arrives has at most two records folded anew,
//! however long the branches are that it grows beside.
//!
//! An edit that overwrites values names them as its author site called them at the time: by their dots before a fork was
//! known there, by aliases after. `resolve` finds the edit that was meant. Where two branches wrote the same field of a
//! record under the same number it cannot know; then nothing is replaced, and the values stay beside each other as a
//! conflict. Of its own author's edits, an edit can have seen only those on its own way down.
//!
//! Limits. How many branches an author may have is not bounded: whichever were left out would depend on the order. Each
//! costs its author's later edits one small value to read, if they lie at numbers where it branched; above these numbers
//! (`AuthorState::aside`), and for authors that never branched, nothing is read beside the head. A record's clock has an
//! entry for each of its edits that goes by an alias: less than the edit itself takes.

use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::{AuthorState, Authors, Context, Poison, StoredEdit, Tx, corrupt, read, read_range};
use crate::command::{Heads, Receipt};
use crate::edit::{Change, Dot, Edit, Header};
use crate::encoding::Malformed;
use crate::ids::{AuthorId, Hash, KeyMark, RequestId, ShardId, SiteId, first_16};
use crate::inject::{is_armed, sometimes};
use crate::keys::Keys;
use crate::schema::FieldId;
use crate::store::{StateView, StoreError};

/// Branches of one site's chains of which heads tell, beside the longest of each author. With as many lives of each of the four
/// sites that write a shard, heads stay below what a session takes.
pub const BRANCHES_TOLD_MAX: usize = 256;

/// Where a branch of `author` lies whose first edit has this hash.
fn branch_id(author: AuthorId, first: &Hash) -> AuthorId {
    derived("dinhba 2026 branch", author, first)
}

/// What stands for `author` in the name of the edit with this hash, where others have its number.
#[must_use]
pub fn alias_id(author: AuthorId, edit: &Hash) -> AuthorId {
    derived("dinhba 2026 alias", author, edit)
}

fn derived(context: &str, author: AuthorId, hash: &Hash) -> AuthorId {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(&author.0).update(&hash.0);
    AuthorId(first_16(&hasher.finalize()))
}

/// The name of an edit where others have its number.
pub(super) fn alias(dot: &Dot, hash: &Hash) -> Dot {
    Dot { actor: alias_id(dot.actor, hash), counter: dot.counter }
}

impl AuthorState {
    /// The number below its first edit: where this branch grew from another, or 0.
    #[must_use]
    pub(crate) fn below(&self) -> u64 {
        self.trunk.as_ref().map_or(0, |trunk| trunk.counter)
    }

    /// Whether an edit with this number lies on this branch.
    pub(crate) fn holds(&self, number: u64) -> bool {
        self.below() < number && number <= self.number
    }
}

/// Where the last edit lies that an accepted request wrote, if the request is known here.
///
/// # Errors
/// What cannot be read.
pub fn place_of_request(
    view: &dyn StateView,
    context: &Context,
    shard: ShardId,
    request: RequestId,
) -> Result<Option<Dot>, StoreError> {
    let tx = Tx::new(view, context);
    let Some(receipt) = tx.get::<Receipt>(&tx.keys().request(shard, request))? else { return Ok(None) };
    let last = receipt.first.counter + u64::from(receipt.count.max(1)) - 1;
    tx.locate(shard, receipt.first.actor, last, &receipt.hash)
}

impl Tx<'_> {
    /// All branches of an author.
    fn branches(&self, shard: ShardId, author: AuthorId) -> Result<Vec<(AuthorId, AuthorState)>, StoreError> {
        let branches = self.range::<AuthorState>(self.keys().branches(shard, author))?;
        Ok(branches.into_iter().map(|(key, state)| (super::branch_of(&key), state)).collect())
    }

    /// The branches on which an author's edits with this number lie.
    fn holders(
        &self,
        shard: ShardId,
        (author, root): (AuthorId, &AuthorState),
        number: u64,
    ) -> Result<Vec<(AuthorId, AuthorState)>, StoreError> {
        let mut branches = match number > root.aside {
            true => vec![(author, root.clone())],
            false => self.branches(shard, author)?,
        };
        branches.retain(|(_, state)| state.holds(number));
        Ok(branches)
    }

    /// The place of the edit of `author` with this number and hash, if it is held.
    pub(crate) fn locate(
        &self,
        shard: ShardId,
        author: AuthorId,
        number: u64,
        hash: &Hash,
    ) -> Result<Option<Dot>, StoreError> {
        let Some(root) = self.author(shard, author)? else { return Ok(None) };
        for (branch, state) in self.holders(shard, (author, &root), number)? {
            let place = Dot { actor: branch, counter: number };
            // Asked for most often: the last one, whose hash the head says.
            let held = match number == state.number {
                true => state.hash,
                false => self.must::<StoredEdit>(&self.keys().edit(shard, &place))?.hash,
            };
            if held == *hash || is_armed("skip-hash-check") {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// Where the edit lies that has a lower number, or the same, on the way down from a place of an author. For several questions,
    /// see [`Tx::tree`].
    pub(super) fn way(&self, shard: ShardId, author: AuthorId, from: &Dot, number: u64) -> Result<Dot, StoreError> {
        Ok(match self.tree(shard, author)? {
            Some(tree) => tree.way(from, number),
            None => Dot { actor: author, counter: number },
        })
    }

    /// An author's tree; none if its chain never branched.
    pub(super) fn tree(&self, shard: ShardId, author: AuthorId) -> Result<Option<Tree>, StoreError> {
        match self.author(shard, author)? {
            Some(root) if root.aside > 0 => Ok(Some(Tree::new(author, self.branches(shard, author)?))),
            _ => Ok(None),
        }
    }
}

/// Where the edit of an author lies that is called so.
///
/// # Errors
/// What cannot be read, and a name that nobody bears.
pub fn place_named(
    view: &dyn StateView,
    context: &Context,
    shard: ShardId,
    author: AuthorId,
    name: &Dot,
) -> Result<Dot, StoreError> {
    let tx = Tx::new(view, context);
    let key = tx.keys().author(shard, author);
    let root: AuthorState = tx.must(&key)?;
    for (branch, state) in tx.holders(shard, (author, &root), name.counter)? {
        let place = Dot { actor: branch, counter: name.counter };
        let stored: StoredEdit = tx.must(&tx.keys().edit(shard, &place))?;
        let dot = Dot { actor: state.author.id(), counter: name.counter };
        if *name == dot || *name == alias(&dot, &stored.hash) {
            return Ok(place);
        }
    }
    Err(corrupt(&key, Malformed { what: "name: no edit bears it" }))
}

/// What became of an edit that grew on its author's tree.
pub(super) struct Grown {
    pub place: Dot,
    pub name: Dot,
    /// The place of the edit that had this number alone, and is called otherwise from now on.
    pub renamed: Option<Dot>,
    /// See [`AuthorState::aside`].
    pub aside: u64,
}

/// Gives an edit, here by what its author calls it and its header, its place in its author's tree. Its predecessor is
/// held, and it is not. What held its author up is over.
pub(super) fn grow(
    tx: &mut Tx<'_>,
    shard: ShardId,
    (dot, header): (&Dot, &Header),
    hash: Hash,
    (from, key): (Option<SiteId>, KeyMark),
) -> Result<Grown, StoreError> {
    let (author, number, keys) = (dot.actor, header.number, tx.keys());
    let before = if number == 1 {
        Dot { actor: author, counter: 0 }
    } else {
        let before = tx.locate(shard, author, number - 1, &header.previous)?;
        before.ok_or_else(|| corrupt(&keys.author(shard, author), NO_PREDECESSOR))?
    };
    let root = tx.author(shard, author)?;
    let key = root.as_ref().map_or(key, |root| root.key);
    let fresh = |trunk| AuthorState { author: header.author, number, hash, from, key, parked: None, trunk, aside: 0 };
    sometimes("a parked author goes on", root.as_ref().is_some_and(|root| root.parked.is_some()));
    let Some(root) = root.filter(|root| root.number > 0) else {
        tx.put_author(shard, author, fresh(None));
        return Ok(Grown { place: dot.clone(), name: dot.clone(), renamed: None, aside: 0 });
    };
    let holders = tx.holders(shard, (author, &root), number)?;
    let lower = if before.actor == author { root.clone() } else { tx.must(&keys.branch(shard, author, before.actor))? };
    let (branch, trunk) = if lower.number == before.counter {
        (before.actor, lower.trunk)
    } else {
        sometimes("a chain branches", true);
        (branch_id(author, &hash), Some(before))
    };
    let aside = if branch == author { root.aside } else { root.aside.max(number) };
    if branch == author {
        tx.put_author(shard, author, AuthorState { aside, ..fresh(None) });
    } else {
        tx.put(keys.branch(shard, author, branch), &fresh(trunk));
        tx.put_author(shard, author, AuthorState { aside, parked: None, ..root });
    }
    let renamed = match holders.as_slice() {
        [(other, _)] => Some(Dot { actor: *other, counter: number }),
        _ => None,
    };
    sometimes("an edit is called otherwise", renamed.is_some());
    let name = if holders.is_empty() { dot.clone() } else { alias(dot, &hash) };
    Ok(Grown { place: Dot { actor: branch, counter: number }, name, renamed, aside })
}

const NO_PREDECESSOR: Malformed = Malformed { what: "chain: the edit before is missing" };

/// Whether only a refold can tell what an edit replaces: it names a number at which a chain branches, or somebody of whom no
/// edit is held, who may be the alias of one that is. `aside` is that of its own author.
pub(super) fn is_entangled(
    tx: &Tx<'_>,
    shard: ShardId,
    (edit, own): (&Edit, AuthorId),
    aside: u64,
) -> Result<bool, StoreError> {
    let mut least: BTreeMap<AuthorId, u64> = BTreeMap::new();
    for dot in edit.changes.iter().flat_map(|change| &change.overwrites) {
        least.entry(dot.actor).and_modify(|least| *least = dot.counter.min(*least)).or_insert(dot.counter);
    }
    for (actor, least) in least {
        let aside = match actor == own {
            true => Some(aside),
            // Whoever is parked without an edit may bear any id.
            false => tx.author(shard, actor)?.filter(|root| root.number > 0).map(|root| root.aside),
        };
        if aside.is_none_or(|aside| least <= aside) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// One of the edits of a record.
pub(super) struct Held {
    pub place: Dot,
    pub hash: Hash,
    pub edit: Edit,
    /// Why it is set aside, if it is.
    pub poison: Option<Poison>,
    /// Whether it waits for a second person, by what its author wrote.
    pub needs_second: bool,
}

impl Held {
    /// An edit as its author wrote it.
    pub fn new(place: Dot, (edit, hash): (Edit, Hash), poison: Option<Poison>) -> Self {
        Held { place, hash, needs_second: edit.needs_second(), edit, poison }
    }
}

/// What one of a record's edits was called by its author, and is called.
struct Called {
    dot: Dot,
    name: Dot,
}

/// A field, and which of its elements.
type Key<'h> = (FieldId, &'h [u8]);

fn key_of(change: &Change) -> Key<'_> {
    (change.field, &change.element)
}

/// The edits of one record, by all that an edit may call them.
struct Family<'h> {
    held: &'h [Held],
    called: Vec<Called>,
    /// The trees of their authors, of those that branch.
    trees: BTreeMap<AuthorId, Option<Tree>>,
    by_place: BTreeMap<&'h Dot, usize>,
    by_alias: BTreeMap<Dot, usize>,
    /// Who writes a field under a dot; none if several do.
    by_dot: BTreeMap<(Dot, Key<'h>), Option<usize>>,
    writes: BTreeSet<(usize, Key<'h>)>,
}

/// The present names of the edits of one record; puts present names into what they overwrite. Linear in the edits.
pub(super) fn resolve(tx: &Tx<'_>, shard: ShardId, held: &mut [Held]) -> Result<Vec<Dot>, StoreError> {
    let family = Family::of(tx, shard, held)?;
    let mut resolved: Vec<Vec<Vec<Dot>>> = Vec::with_capacity(held.len());
    for (at, one) in held.iter().enumerate() {
        let of_change = |change: &Change| {
            change.overwrites.iter().filter_map(|dot| family.meant(at, dot, key_of(change))).collect()
        };
        resolved.push(one.edit.changes.iter().map(of_change).collect());
    }
    let names = family.called.into_iter().map(|called| called.name).collect();
    for (one, resolved) in held.iter_mut().zip(resolved) {
        for (change, overwrites) in one.edit.changes.iter_mut().zip(resolved) {
            change.overwrites = overwrites;
        }
    }
    Ok(names)
}

impl<'h> Family<'h> {
    fn of(tx: &Tx<'_>, shard: ShardId, held: &'h [Held]) -> Result<Self, StoreError> {
        let mut family = Family {
            held,
            called: Vec::with_capacity(held.len()),
            trees: BTreeMap::new(),
            by_place: BTreeMap::new(),
            by_alias: BTreeMap::new(),
            by_dot: BTreeMap::new(),
            writes: BTreeSet::new(),
        };
        for (at, Held { place, hash, edit, .. }) in held.iter().enumerate() {
            let dot = edit.dot();
            if let Entry::Vacant(vacant) = family.trees.entry(dot.actor) {
                vacant.insert(tx.tree(shard, dot.actor)?);
            }
            let alias = alias(&dot, hash);
            let is_alone = family.trees[&dot.actor].as_ref().is_none_or(|tree| tree.holders(dot.counter) < 2);
            let name = if is_alone { dot.clone() } else { alias.clone() };
            for change in &edit.changes {
                // A field that one edit writes twice is still of one edit.
                if family.writes.insert((at, key_of(change))) {
                    let by_dot = family.by_dot.entry((dot.clone(), key_of(change)));
                    by_dot.and_modify(|only| *only = None).or_insert(Some(at));
                }
            }
            family.by_place.insert(place, at);
            family.by_alias.insert(alias, at);
            family.called.push(Called { dot, name });
        }
        Ok(family)
    }

    /// What the edit at `at` means by a dot that it overwrites; none if it cannot have seen it. What no edit of the record
    /// is called stays as it is: the edit may come.
    fn meant(&self, at: usize, dot: &Dot, key: Key<'h>) -> Option<Dot> {
        let writes = |other: &usize| self.writes.contains(&(*other, key));
        let own = &self.called[at];
        let aliased = self.by_alias.get(dot).copied();
        let author = aliased.map_or(dot.actor, |other| self.called[other].dot.actor);
        let meant = if author == own.dot.actor {
            if dot.counter >= own.dot.counter {
                return None;
            }
            let place = match self.trees.get(&author).and_then(Option::as_ref) {
                Some(tree) => tree.way(&self.held[at].place, dot.counter),
                None => Dot { actor: author, counter: dot.counter },
            };
            let on_way = self.by_place.get(&place).copied();
            if aliased.is_some() && aliased != on_way {
                return None;
            }
            on_way.filter(writes)
        } else if aliased.is_some() {
            aliased.filter(writes)
        } else {
            self.by_dot.get(&(dot.clone(), key)).copied().flatten()
        };
        Some(meant.map_or_else(|| dot.clone(), |other| self.called[other].name.clone()))
    }
}

/// A branch in a [`Tree`].
struct Branch {
    id: AuthorId,
    below: u64,
    /// Places of its trunk, and of a branch further down: by these jumps any is reached in a logarithm of steps (Myers, "An
    /// applicative random-access stack", 1983).
    trunk: usize,
    jump: usize,
    depth: usize,
}

/// The branches of one author, made for questions.
pub(super) struct Tree {
    /// Each after its trunk.
    branches: Vec<Branch>,
    by_id: BTreeMap<AuthorId, usize>,
    /// Where they begin and end, rising.
    starts: Vec<u64>,
    ends: Vec<u64>,
}

impl Tree {
    fn new(author: AuthorId, mut all: Vec<(AuthorId, AuthorState)>) -> Self {
        all.sort_by_key(|(id, state)| (state.below(), *id != author));
        let mut starts: Vec<u64> = all.iter().map(|(_, state)| state.below()).collect();
        let mut ends: Vec<u64> = all.iter().map(|(_, state)| state.number).collect();
        starts.sort_unstable();
        ends.sort_unstable();
        let mut tree = Tree { branches: Vec::with_capacity(all.len()), by_id: BTreeMap::new(), starts, ends };
        for (at, (id, state)) in all.into_iter().enumerate() {
            let trunk = state.trunk.as_ref().and_then(|trunk| tree.by_id.get(&trunk.actor)).copied().unwrap_or(0);
            let (jump, depth) = match tree.branches.get(trunk) {
                None => (0, 0),
                Some(below) => {
                    let further = &tree.branches[below.jump];
                    let is_even = below.depth - further.depth == further.depth - tree.branches[further.jump].depth;
                    (if is_even { further.jump } else { trunk }, below.depth + 1)
                }
            };
            tree.by_id.insert(id, at);
            tree.branches.push(Branch { id, below: state.below(), trunk, jump, depth });
        }
        tree
    }

    /// How many edits have this number.
    fn holders(&self, number: u64) -> usize {
        self.starts.partition_point(|below| *below < number) - self.ends.partition_point(|end| *end < number)
    }

    /// The place of the edit with a lower number on the way down from a place.
    pub fn way(&self, from: &Dot, number: u64) -> Dot {
        let mut at = self.by_id.get(&from.actor).copied().unwrap_or(0);
        while let Some(branch) = self.branches.get(at).filter(|branch| branch.below >= number && branch.depth > 0) {
            at = if self.branches[branch.jump].below >= number { branch.jump } else { branch.trunk };
        }
        Dot { actor: self.branches.get(at).map_or(from.actor, |branch| branch.id), counter: number }
    }
}

/// The names of a shard's edits, for whoever shows several.
pub struct Names<'a> {
    view: &'a dyn StateView,
    keys: Keys,
    shard: ShardId,
    trees: BTreeMap<AuthorId, Option<Tree>>,
}

impl<'a> Names<'a> {
    /// As they are in this view.
    #[must_use]
    pub fn new(view: &'a dyn StateView, keys: Keys, shard: ShardId) -> Self {
        Names { view, keys, shard, trees: BTreeMap::new() }
    }

    /// The name of an edit that is held, by the dot that its author gave it and its hash.
    pub fn of(&mut self, dot: &Dot, hash: &Hash) -> Result<Dot, StoreError> {
        if !self.trees.contains_key(&dot.actor) {
            let root: Option<AuthorState> = read(self.view, &self.keys.author(self.shard, dot.actor))?;
            let tree = match root.filter(|root| root.aside > 0) {
                Some(_) => {
                    let branches = read_range::<AuthorState>(self.view, self.keys.branches(self.shard, dot.actor))?;
                    let branches = branches.into_iter().map(|(key, state)| (super::branch_of(&key), state));
                    Some(Tree::new(dot.actor, branches.collect()))
                }
                None => None,
            };
            self.trees.insert(dot.actor, tree);
        }
        let is_alone = self.trees[&dot.actor].as_ref().is_none_or(|tree| tree.holders(dot.counter) < 2);
        Ok(if is_alone { dot.clone() } else { alias(dot, hash) })
    }
}

/// The ends of all branches that hold an edit, as heads call them, each with where it lies. The end of an author's longest
/// branch goes by the author's id (of several, that with the lowest hash), the others by their aliases. So no two have one
/// id: an author has one longest branch, and an alias is of one edit. And since a branch ends exactly where no held edit
/// follows, they depend on the set of edits alone. Of a site whose chains branch more than [`BRANCHES_TOLD_MAX`] times, which
/// only a thief of its key brings about, the longest are told: what is not told may come again.
#[must_use]
pub fn tips<'a>(authors: &'a Authors) -> BTreeMap<AuthorId, (AuthorId, &'a AuthorState)> {
    let mut by_author: BTreeMap<AuthorId, Vec<(AuthorId, &AuthorState)>> = BTreeMap::new();
    for (branch, state) in authors.iter().filter(|(_, state)| state.number > 0) {
        let author = if state.trunk.is_none() { *branch } else { state.author.id() };
        by_author.entry(author).or_default().push((*branch, state));
    }
    let (mut tips, mut by_site) = (BTreeMap::new(), BTreeMap::<SiteId, Vec<_>>::new());
    for (author, mut branches) in by_author {
        branches.sort_unstable_by_key(|(_, state)| (Reverse(state.number), state.hash));
        let mut branches = branches.into_iter();
        tips.extend(branches.next().map(|longest| (author, longest)));
        let told = |tip: (AuthorId, &'a AuthorState)| {
            ((Reverse(tip.1.number), tip.1.hash), alias_id(author, &tip.1.hash), tip)
        };
        by_site.entry(authors[&author].author.site).or_default().extend(branches.map(told));
    }
    for mut branches in by_site.into_values() {
        branches.sort_unstable_by_key(|(order, ..)| *order);
        tips.extend(branches.into_iter().take(BRANCHES_TOLD_MAX).map(|(_, id, tip)| (id, tip)));
    }
    tips
}

/// A shard's heads: where the edits of each author that are held end.
pub fn heads(view: &dyn StateView, keys: Keys, shard: ShardId) -> Result<Heads, StoreError> {
    let authors = super::authors(view, keys, shard)?;
    Ok(tips(&authors).into_iter().map(|(id, (_, state))| (id, (state.number, state.hash))).collect())
}

/// Whether a head with this id speaks of an author: by its id, or as the alias of the edit at the head's end.
pub(crate) fn is_head_of(author: AuthorId, id: AuthorId, hash: &Hash) -> bool {
    id == author || id == alias_id(author, hash)
}

/// The way from a place down to its author's first edit: the highest place that it leads through on each branch.
pub(crate) fn way_down(authors: &Authors, from: Dot) -> impl Iterator<Item = Dot> + '_ {
    std::iter::successors(Some(from), |end| authors.get(&end.actor)?.trunk.clone())
}
