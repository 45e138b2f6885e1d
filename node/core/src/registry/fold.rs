//! The one place where an edit enters log, chain, record, indexes and digests; and the refolding of a record from its
//! edits, which gives the same state as if they had come in any other order.

use std::collections::{BTreeMap, BTreeSet};

use crdts::CmRDT;

use super::branches::{Grown, Held, alias, grow, is_entangled, resolve};
use super::ledger;
use super::standing::{Judged, judge, may_have_twin, note_life};
use super::{
    Arrival, Context, Poison, ShardState, StoredEdit, Tx, figures, numbers, quality, signposts, stock, time, work,
};
use crate::blocks::{DUE_BY, Granted, number_due, number_lacking};
use crate::command::{ConflictEntry, ConflictKey, PendingEntry, Receipt, ShardInfo};
use crate::date::Date;
use crate::digest::Digest;
use crate::edit::{Dot, Edit, EditKind, Header};
use crate::encoding::Wire;
use crate::ids::{AuthorId, Domain, Hash, KeyMark, RecordId, ShardId, SiteId, UnitId};
use crate::inject::{is_armed, sometimes};
use crate::keys::suffix;
use crate::quality::{Fullness, bears};
use crate::record::{Record, Write, are_disputed};
use crate::schema::{FIELDS, FieldId, RecordKind, field};
use crate::search::{self, Term};
use crate::share::{Rank, Shares, Weight};
use crate::standing::check_kind;
use crate::stock::{Counted, counted};
use crate::store::{StateView, StoreError};
use crate::targets::Target;
use crate::validity;
use crate::work::{Entry, Work};

/// The running hash of a stream after one more edit.
#[must_use]
pub fn running_hash(before: &Hash, edit: &Hash) -> Hash {
    static DOMAIN: Domain = Domain::new("dinhba 2026 stream");
    let mut hasher = DOMAIN.hasher();
    hasher.update(&before.0).update(&edit.0);
    Hash(*hasher.finalize().as_bytes())
}

/// An edit that is ready to enter: decoded, chained, hashed.
pub(crate) struct Entering<'e> {
    pub edit: &'e Edit,
    /// What its author calls it.
    pub dot: Dot,
    pub bytes: Vec<u8>,
    pub hash: Hash,
    /// The neighbour it came from, if any.
    pub from: Option<SiteId>,
    /// With which key its site gave its word for it.
    pub key: KeyMark,
    /// Set if it must not be folded, whatever else there is.
    pub poison: Option<Poison>,
    /// What it makes of its record, if that was found out when it was decided.
    pub transition: Option<Transition>,
}

/// What became of edits that come together; and which records are to be folded anew once all of them are in: each once, however many
/// of the edits bear on it.
#[derive(Debug, Default)]
pub(crate) struct Entered {
    /// How many count.
    pub folded: u32,
    /// How many are set aside.
    pub poisoned: u32,
    due: BTreeSet<RecordId>,
    /// Where the edits lie of which only that can say whether they are set aside.
    open: Vec<Dot>,
}

impl Entered {
    fn count(&mut self, poison: Option<Poison>) {
        sometimes("an edit is set aside", poison.is_some());
        *(if poison.is_some_and(Poison::is_counted) { &mut self.poisoned } else { &mut self.folded }) += 1;
    }

    /// Folds what is due.
    pub fn settle(mut self, tx: &mut Tx<'_>, shard: &mut ShardState, now_ms: i64) -> Result<Self, StoreError> {
        for record in std::mem::take(&mut self.due) {
            refold(tx, shard, record, now_ms)?;
        }
        for place in std::mem::take(&mut self.open) {
            let poison: Option<Poison> = tx.get(&tx.keys().poison(shard.info.shard, &place))?;
            self.count(poison);
        }
        Ok(self)
    }
}

/// What derives from a record at a feature level, as far as fields that an edit touches bear on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Derived {
    conflicts: BTreeSet<ConflictKey>,
    terms: BTreeSet<Term>,
    numbers: BTreeSet<Term>,
    pending: BTreeMap<Dot, AuthorId>,
    /// The block that it grants.
    granted: Option<Granted>,
    /// The target that it sets.
    target: Option<Target>,
    /// Whether it lacks a personal number, and whether one is due.
    lacks_number: bool,
    is_unnumbered: bool,
    /// What is to be done of a dossier, and since when.
    steps: BTreeSet<(Work, Date)>,
    /// What it must have, and has of that; nothing if neither changed.
    fullness: Option<Fullness>,
    /// As what it counts among the stocks.
    stock: BTreeMap<Counted, u64>,
}

/// What it takes to say what derives from a record: the group's level, the shard's home, the key of the index.
#[derive(Clone, Copy)]
pub(crate) struct Basis<'a> {
    pub level: u16,
    pub home: UnitId,
    pub index_key: &'a [u8; 32],
}

impl Derived {
    pub fn of(basis: Basis<'_>, record: &Record, touches: impl Fn(FieldId) -> bool) -> Self {
        let Basis { level, home, index_key } = basis;
        let is_searched = search::SEARCHED.iter().any(|field| touches(*field));
        let terms = if is_searched { search::terms(level, record, index_key) } else { BTreeSet::new() };
        let is_numbered = touches(field::PERSONAL_NUMBER);
        let numbers = if is_numbered { search::personal_numbers(level, record, index_key) } else { BTreeSet::new() };
        let pending = record.pending().clone();
        let (granted, target) = (Granted::of(record), Target::of(record));
        let bears = DUE_BY.into_iter().any(&touches);
        let is_stock =
            touches(field::IDENTITY_CARD) || touches(field::E_IDENTIFICATION) || record.kind == RecordKind::Dossier;
        let lacks_number = bears && number_lacking(record, home).is_some();
        let is_unnumbered = lacks_number && number_due(record, home).is_some();
        Derived {
            terms,
            numbers,
            pending,
            granted,
            target,
            lacks_number,
            is_unnumbered,
            steps: work::steps(record),
            stock: if is_stock { counted(record) } else { BTreeMap::new() },
            ..Derived::disputes(level, record, touches)
        }
    }

    /// The conflicts alone.
    pub fn disputes(level: u16, record: &Record, touches: impl Fn(FieldId) -> bool) -> Self {
        Derived { conflicts: conflicts_among(level, record, touches), ..Derived::default() }
    }
}

/// A record before and after an edit, with what derives from it. Fields that the edit does not touch are as they were, so
/// what derives from them alone is left out on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transition {
    /// Kind and bytes.
    old: Option<(RecordKind, Vec<u8>)>,
    before: Derived,
    new: Option<Record>,
    after: Derived,
}

impl Transition {
    /// By one edit that is folded into the record.
    pub fn by_edit(
        basis: Basis<'_>,
        old: Option<(Record, Vec<u8>)>,
        kinds: Kinds,
        weight: &Weight,
        write: Write,
    ) -> Self {
        let touched: Vec<FieldId> = write.changes.iter().map(|change| change.field).collect();
        // Rules depend on the kind.
        let is_other = old.as_ref().is_some_and(|(old, _)| kinds.record < old.kind);
        let touches = |field| is_other || touched.contains(&field);
        Transition::of(basis, old, touches, |record| {
            let mut new = record.unwrap_or_else(|| Record::new(kinds.record));
            if !is_armed("unbounded-shares") {
                new.shares.add(weight);
            }
            fold_in(&mut new, kinds, write);
            new.forget_replaced();
            Some(new)
        })
    }

    /// By folding all of the record anew.
    fn whole(basis: Basis<'_>, old: Option<(Record, Vec<u8>)>, new: Option<Record>) -> Self {
        Transition::of(basis, old, |_| true, |_| new)
    }

    fn of(
        basis: Basis<'_>,
        old: Option<(Record, Vec<u8>)>,
        touches: impl Fn(FieldId) -> bool,
        fold: impl FnOnce(Option<Record>) -> Option<Record>,
    ) -> Self {
        let (record, bytes) = old.unzip();
        let bears = record.is_none() || FIELDS.iter().any(|field| touches(field.id) && bears(field.id));
        let derived = |record: &Record| Derived {
            fullness: if bears { Fullness::of(record) } else { None },
            ..Derived::of(basis, record, &touches)
        };
        let before = record.as_ref().map(derived).unwrap_or_default();
        let old = record.as_ref().map(|record| record.kind).zip(bytes);
        let new = fold(record);
        let after = new.as_ref().map(derived).unwrap_or_default();
        Transition { old, before, new, after }
    }

    /// See [`Record::takes_all`].
    pub fn takes_all(&self) -> bool {
        self.new.as_ref().is_some_and(|record| record.takes_all)
    }

    /// The size of the record after it, if that is above a bound and more than it was before.
    pub fn outgrows(&self, bytes_max: usize) -> Option<usize> {
        let new = self.new.as_ref()?;
        // Most are far below. What the hint leaves out of a record is at most three times what it counts.
        if new.bytes_hint() < bytes_max / 4 {
            return None;
        }
        let bytes = new.to_bytes().len();
        let before = self.old.as_ref().map_or(0, |(_, bytes)| bytes.len());
        (bytes > bytes_max.max(before)).then_some(bytes)
    }

    /// A rule that holds before and is broken after.
    pub fn breaks(&self) -> Option<u16> {
        self.after.conflicts.difference(&self.before.conflicts).find_map(|conflict| match conflict {
            ConflictKey::Rule(rule) => Some(*rule),
            ConflictKey::Field(_) | ConflictKey::Number(_) => None,
        })
    }
}

/// Enters one edit that follows its author's head, by itself.
pub(crate) fn enter_alone(
    tx: &mut Tx<'_>,
    shard: &mut ShardState,
    entering: Entering<'_>,
    now_ms: i64,
) -> Result<(), StoreError> {
    let mut entered = Entered::default();
    enter(tx, shard, entering, &mut entered, now_ms)?;
    entered.settle(tx, shard, now_ms)?;
    Ok(())
}

/// Enters one edit that follows its author's head, and folds it into its record, unless that is to be folded anew.
pub(crate) fn enter(
    tx: &mut Tx<'_>,
    shard: &mut ShardState,
    entering: Entering<'_>,
    entered: &mut Entered,
    now_ms: i64,
) -> Result<(), StoreError> {
    let Entering { edit, dot, bytes, hash, from, key, poison, transition } = entering;
    let (id, header) = (shard.info.shard, &edit.header);
    let Grown { place, name, renamed, aside } = grow(tx, id, (&dot, header), hash, (from, key))?;
    note_life(tx, shard, (header, dot.actor), &place)?;

    append(tx, shard, (edit, hash, bytes), from, &place);
    ledger::note(tx, id, &edit.changes)?;
    figures::count(tx, id, header, true)?;
    if header.part + 1 == header.of {
        remember_request(tx, id, (edit, &dot), hash, transition.is_some())?;
    }
    // An edit that is made here replaces what is shown here, and nobody can have named its alias before.
    let is_due = |entered: &Entered| entered.due.contains(&header.record);
    let old = if transition.is_some() || is_due(entered) { None } else { tx.record(id, header.record)? };
    let weight = Weight::new(header.author.site, dot.actor, &edit.changes);
    let rank = (header.number, hash);
    let is_out = |(record, _): &(Record, _)| record.shares.is_out(&weight, &rank) && record.kind <= header.record_kind;
    let is_flood = poison.is_none() && old.as_ref().is_some_and(is_out);
    let poison = if is_flood { Some(Poison::Flood) } else { poison };
    if let Some(poison) = poison {
        mark(tx, shard, (&place, header), (None, Some(poison)))?;
    }
    if let Some(other) = renamed {
        entered.due.extend(renamed_in(tx, id, &other)?);
    }
    // What was replaced before it came may claim to replace that in turn.
    let replaces = edit.changes.iter().any(|change| !change.overwrites.is_empty());
    let is_awaited = || {
        let awaits =
            |record: &Record| record.awaits(|| alias(&dot, &hash)) || (replaces && record.awaits(|| dot.clone()));
        old.as_ref().is_some_and(|(record, _)| awaits(record))
    };
    let is_apart = match poison {
        _ if is_due(entered) => true,
        Some(Poison::Flood) => false,
        // Also for one that is set aside: what other edits overwrite may mean it, whether it is folded or not.
        Some(_) => name != dot || is_awaited() || is_spoken_of(&old, &hash),
        None => {
            name != dot
                || is_awaited()
                || is_spoken_of(&old, &hash)
                || bears_on_others(&old, edit)
                || transition.as_ref().is_some_and(Transition::takes_all)
                || edit.standing_change().is_some()
                || may_have_twin(tx, shard, (header, dot.actor), &place)?
                || is_entangled(tx, id, (edit, dot.actor), aside)?
        }
    };
    let is_taken = || match &old {
        _ if poison.is_some() || transition.is_some() => true,
        Some((record, _)) => record.shares.takes(&weight),
        None => Shares::default().takes(&weight),
    };
    if sometimes("a record is folded anew", is_apart || !is_taken()) {
        entered.due.insert(header.record);
        entered.open.push(place);
        return Ok(());
    }
    entered.count(poison);
    if poison.is_some() {
        return Ok(());
    }
    let (level, home) = (tx.level()?, shard.info.home());
    let by_edit = |tx: &Tx<'_>, old| {
        let write = Write::of(edit, name.clone());
        Transition::by_edit(
            Basis { level, home, index_key: &tx.context.index_key.secret },
            old,
            Kinds::of(edit),
            &weight,
            write,
        )
    };
    let transition = transition.unwrap_or_else(|| by_edit(tx, old));
    debug_assert_eq!(transition, by_edit(tx, tx.record(id, header.record)?));
    replace(tx, shard, header.record, transition, now_ms)
}

/// Whether it takes all edits of a record to say what one with this hash counts for: something was said of it before it came, or
/// it may replace what is not folded in.
fn is_spoken_of(old: &Option<(Record, Vec<u8>)>, hash: &Hash) -> bool {
    old.as_ref().is_some_and(|(record, _)| record.takes_all || record.standing(hash).next().is_some())
}

/// Whether it takes all edits of a record to say what those that are there count for beside a new one: it says of itself that it
/// makes the record too, or takes it for one of a kind that goes before.
fn bears_on_others(old: &Option<(Record, Vec<u8>)>, edit: &Edit) -> bool {
    old.as_ref().is_some_and(|(record, _)| record.kind > edit.header.record_kind || edit.makes_record())
}

/// Appends an edit to the stream and to its record's history.
fn append(
    tx: &mut Tx<'_>,
    shard: &mut ShardState,
    (edit, hash, bytes): (&Edit, Hash, Vec<u8>),
    from: Option<SiteId>,
    place: &Dot,
) {
    let (id, header, keys) = (shard.info.shard, &edit.header, tx.keys());
    shard.arrivals += 1;
    shard.running = running_hash(&shard.running, &hash);
    shard.edits_digest.add(Digest::of(&tx.context.digest_key.secret, &hash.0));
    let is_end = header.part + 1 == header.of;
    let arrival = Arrival { dot: place.clone(), from, running: shard.running, last: from.is_none() && is_end };
    tx.put(keys.arrival(id, shard.arrivals), &arrival);
    tx.put(keys.edit(id, place), &StoredEdit { position: shard.arrivals, hash, bytes });
    tx.put(keys.history_entry(id, header.record, shard.arrivals), place);
}

/// Puts why an edit that lies at a place is kept out of its record, and so out of the figures, in the place of why it was.
fn mark(
    tx: &mut Tx<'_>,
    shard: &mut ShardState,
    (place, header): (&Dot, &Header),
    (was, is): (Option<Poison>, Option<Poison>),
) -> Result<(), StoreError> {
    if was == is {
        return Ok(());
    }
    let counted = |poison: Option<Poison>| u64::from(poison.is_some_and(Poison::is_counted));
    shard.poisoned = shard.poisoned + counted(is) - counted(was);
    let key = tx.keys().poison(shard.info.shard, place);
    match is {
        Some(poison) => tx.put(key, &poison),
        None => tx.delete(key),
    }
    if was.is_some() != is.is_some() {
        figures::count(tx, shard.info.shard, header, is.is_none())?;
    }
    Ok(())
}

/// The record of an edit that is called otherwise from now on; what is set aside by a flood is called by nobody.
fn renamed_in(tx: &Tx<'_>, shard: ShardId, place: &Dot) -> Result<Option<RecordId>, StoreError> {
    if tx.get(&tx.keys().poison(shard, place))? == Some(Poison::Flood) {
        return Ok(None);
    }
    Ok(Some(tx.edit_at(shard, place)?.0.header.record))
}

/// An edit for whoever folds its record anew, and why the others set it aside; none of one that a flood set aside.
pub(super) fn held_at(tx: &Tx<'_>, shard: ShardId, place: Dot) -> Result<Option<(Held, Option<Poison>)>, StoreError> {
    let poison: Option<Poison> = tx.get(&tx.keys().poison(shard, &place))?;
    if poison == Some(Poison::Flood) {
        return Ok(None);
    }
    let edit = tx.edit_at(shard, &place)?;
    let by_others = poison.filter(|poison| poison.is_by_others());
    Ok(Some((Held::new(place, edit, poison.filter(|_| by_others.is_none())), by_others)))
}

/// What an edit is, and what its record is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kinds {
    pub edit: EditKind,
    pub record: RecordKind,
    /// Its author, if it waits for a second person.
    pub waits: Option<AuthorId>,
}

impl Kinds {
    /// Of an edit of which nobody has said anything.
    fn of(edit: &Edit) -> Self {
        let Header { kind, record_kind, author, .. } = &edit.header;
        Kinds { edit: *kind, record: *record_kind, waits: edit.needs_second().then(|| author.id()) }
    }
}

/// Folds an edit into its record under its name. If edits disagree about the record's kind, the lowest counts, so that
/// the order in which they came does not.
fn fold_in(record: &mut Record, kinds: Kinds, mut write: Write) {
    record.kind = record.kind.min(kinds.record);
    if is_armed("decision-overwrites-unseen") && kinds.edit == EditKind::Decision {
        for change in &mut write.changes {
            change.overwrites = record.dots(&(change.field, change.element.clone()));
        }
    }
    let name = write.dot.clone();
    record.apply(write);
    if let Some(author) = kinds.waits {
        record.waits(name, author);
    }
}

/// The first acceptance of a request that comes here is the one that a retry is told. It names its edits as they were
/// numbered, whatever they are called by then.
fn remember_request(
    tx: &mut Tx<'_>,
    shard: ShardId,
    (edit, dot): (&Edit, &Dot),
    hash: Hash,
    is_surely_first: bool,
) -> Result<(), StoreError> {
    let key = tx.keys().request(shard, edit.header.origin.request);
    if (is_surely_first || tx.get::<Receipt>(&key)?.is_none()) && !is_armed("lose-request-id") {
        let first = Dot { actor: dot.actor, counter: dot.counter - u64::from(edit.header.part) };
        tx.put(key, &Receipt { shard, first, count: edit.header.of, hash });
        time::used(tx, shard, edit.header.origin.request.session, edit.header.origin.received_ms)?;
    }
    Ok(())
}

/// Puts a record in the place of its former state, with everything that derives from it.
fn replace(
    tx: &mut Tx<'_>,
    shard: &mut ShardState,
    id: RecordId,
    transition: Transition,
    now_ms: i64,
) -> Result<(), StoreError> {
    let Transition { old, before, new, after } = transition;
    let (keys, home) = (tx.keys(), shard.info.shard);
    let digest = |bytes: &[u8]| {
        let member = [&id.0[..], bytes].concat();
        Digest::of(&tx.context.digest_key.secret, &member)
    };
    if let Some((_, bytes)) = &old
        && !is_armed("keep-old-digest")
    {
        shard.state_digest.subtract(digest(bytes));
    }
    let new = new.map(|record| (record.kind, record.to_bytes()));
    if let Some((_, bytes)) = &new {
        shard.state_digest.add(digest(bytes));
    }

    let is_new = old.is_none();
    if let Some((kind, _)) = old
        && let Some(counter) = shard.counter(kind)
    {
        *counter -= 1;
    }
    match new {
        Some((kind, bytes)) => {
            if let Some(counter) = shard.counter(kind) {
                *counter += 1;
            }
            tx.put_bytes(keys.record(home, id), bytes);
            if is_new {
                signposts::put_home(tx, home, id)?;
            }
        }
        None => {
            tx.delete(keys.record(home, id));
            signposts::take_home(tx, home, id)?;
        }
    }
    replace_derived(tx, shard, id, (&before, &after), now_ms)
}

/// Puts what derives from a record in the place of what did. The record's bytes are stored already.
pub(super) fn replace_derived(
    tx: &mut Tx<'_>,
    shard: &mut ShardState,
    id: RecordId,
    (before, after): (&Derived, &Derived),
    now_ms: i64,
) -> Result<(), StoreError> {
    let (keys, home) = (tx.keys(), shard.info.shard);
    for term in before.terms.difference(&after.terms) {
        tx.delete(keys.index(home, term, id));
        signposts::take_term(tx, home, term)?;
    }
    for term in after.terms.difference(&before.terms) {
        tx.put_bytes(keys.index(home, term, id), Vec::new());
        signposts::put_term(tx, home, term);
    }
    let was_disputed = match before.conflicts == after.conflicts {
        true => None,
        false => Some(quality::is_disputed(tx, home, id)?),
    };
    sometimes("a conflict opens", after.conflicts.difference(&before.conflicts).next().is_some());
    for conflict in before.conflicts.difference(&after.conflicts) {
        let key = keys.conflict(home, id, &conflict.to_bytes());
        let ConflictEntry { since_ms } = tx.must(&key)?;
        tx.delete(key);
        work::close(tx, home, &work::conflict(id, conflict, since_ms))?;
    }
    for conflict in after.conflicts.difference(&before.conflicts) {
        tx.put(keys.conflict(home, id, &conflict.to_bytes()), &ConflictEntry { since_ms: now_ms });
        work::open(tx, home, &work::conflict(id, conflict, now_ms));
    }
    shard.conflicts = shard.conflicts + after.conflicts.len() as u64 - before.conflicts.len() as u64;
    if let Some(was) = was_disputed {
        quality::judge(tx, shard, id, was)?;
    }
    quality::replace(tx, shard, (before.fullness.as_ref(), after.fullness.as_ref()))?;
    stock::replace(tx, home, (&before.stock, &after.stock))?;
    for name in before.pending.keys().filter(|name| !after.pending.contains_key(name)) {
        let key = keys.pending(home, id, name);
        let PendingEntry { since_ms, .. } = tx.must(&key)?;
        work::close(tx, home, &work::second(id, key_of_name(&key), since_ms))?;
        tx.delete(key);
    }
    for (name, author) in after.pending.iter().filter(|(name, _)| !before.pending.contains_key(name)) {
        let key = keys.pending(home, id, name);
        work::open(tx, home, &work::second(id, key_of_name(&key), now_ms));
        tx.put(key, &PendingEntry { since_ms: now_ms, author: *author });
    }
    shard.pending = shard.pending + after.pending.len() as u64 - before.pending.len() as u64;
    if before.granted != after.granted {
        if let Some(granted) = &before.granted {
            tx.delete(keys.block(home, &granted.block, id));
        }
        if let Some(granted) = &after.granted {
            tx.put(keys.block(home, &granted.block, id), granted);
        }
    }
    if before.target != after.target {
        if let Some(target) = &before.target {
            tx.delete(keys.target(home, target.unit, id));
        }
        if let Some(target) = &after.target {
            tx.put(keys.target(home, target.unit, id), target);
        }
    }
    if (before.lacks_number, before.is_unnumbered) != (after.lacks_number, after.is_unnumbered) {
        let key = keys.unnumbered(home, id);
        let since: Option<i64> = if before.lacks_number { tx.must(&key)? } else { None };
        match (since, after.is_unnumbered) {
            (Some(since_ms), false) => work::close(tx, home, &work::number(id, since_ms))?,
            (None, true) => work::open(tx, home, &work::number(id, now_ms)),
            _ => {}
        }
        match after.lacks_number {
            true => tx.put(key, &after.is_unnumbered.then(|| since.unwrap_or(now_ms))),
            false => tx.delete(key),
        }
    }
    let entry = |(work, since): &(Work, Date)| Entry { work: *work, since: *since, record: id, item: Vec::new() };
    for step in before.steps.difference(&after.steps) {
        work::close(tx, home, &entry(step))?;
    }
    for step in after.steps.difference(&before.steps) {
        work::open(tx, home, &entry(step));
    }
    shard.unnumbered = shard.unnumbered + u64::from(after.is_unnumbered) - u64::from(before.is_unnumbered);
    numbers::held(tx, shard, id, (&before.numbers, &after.numbers), now_ms)
}

/// The end of the key of what waits: its edit's name.
fn key_of_name(key: &[u8]) -> Vec<u8> {
    suffix(key, 16).to_vec()
}

/// What an officer must decide about a record at a feature level: legal fields with several different values, and rules that do
/// not hold.
#[must_use]
pub fn conflicts_of(level: u16, record: &Record) -> BTreeSet<ConflictKey> {
    conflicts_among(level, record, |_| true)
}

/// Of those, what touched fields may have brought or ended.
fn conflicts_among(level: u16, record: &Record, touches: impl Fn(FieldId) -> bool) -> BTreeSet<ConflictKey> {
    let fields = record
        .fields()
        .filter(|(key, values)| touches(key.0) && validity::is_adjudicated(level, key.0) && are_disputed(values))
        .map(|(key, _)| ConflictKey::Field(key.clone()));
    fields.chain(validity::broken_rules(level, record, &touches).into_iter().map(ConflictKey::Rule)).collect()
}

/// Folds a record anew from those of its edits that are not set aside. Linear in all of its edits, though those that a flood set
/// aside are only told by their marks, and not read: they stay so, and bear on nothing.
pub(super) fn refold(tx: &mut Tx<'_>, shard: &mut ShardState, id: RecordId, now_ms: i64) -> Result<(), StoreError> {
    let home = shard.info.shard;
    let old = tx.record(home, id)?;
    let (mut held, mut marked) = (Vec::new(), BTreeMap::new());
    for (_, place) in tx.range::<Dot>(tx.keys().history(home, id))? {
        // What the others say of it is found out anew.
        let Some((one, by_others)) = held_at(tx, home, place)? else { continue };
        marked.extend(by_others.map(|poison| (one.place.clone(), poison)));
        held.push(one);
    }
    // Of what kind a record is, edits that a flood set aside say too: what was there before has heard them.
    let sound = held.iter().filter(|held| held.poison.is_none()).map(|held| held.edit.header.record_kind);
    let kind = sound.chain(old.as_ref().map(|(record, _)| record.kind)).min();
    let before = old.as_ref().map(|(record, _)| record.shares.clone()).unwrap_or_default();
    let shares = share_out(tx, shard, &before, (&mut held, &marked))?;
    let names = resolve(tx, home, &mut held)?;
    let Judged { aside, is_pending, takes_all } = judge(tx, (&shard.info, kind), &mut held, &names)?;
    for (Held { place, edit, poison, .. }, is) in held.iter().zip(&aside) {
        if poison.is_none() {
            mark(tx, shard, (place, &edit.header), (marked.get(place).copied(), *is))?;
        }
    }
    let new = kind.map(|kind| {
        let mut new = Record::new(kind);
        new.shares = shares;
        new.takes_all = takes_all;
        for (at, (Held { edit, poison, .. }, name)) in held.iter().zip(names).enumerate() {
            if poison.is_none() && aside[at].is_none() {
                let waits = is_pending[at].then(|| edit.header.author.id());
                let kinds = Kinds { edit: edit.header.kind, record: edit.header.record_kind, waits };
                fold_in(&mut new, kinds, Write::of(edit, name));
            }
        }
        new.forget_replaced();
        new
    });
    let basis = Basis { level: tx.level()?, home: shard.info.home(), index_key: &tx.context.index_key.secret };
    let transition = Transition::whole(basis, old, new);
    replace(tx, shard, id, transition, now_ms)
}

/// A record as its edits alone make it, and whether those of them are marked that the others set aside: for whoever checks a
/// state. What is stored of either must be this, and bears no witness for itself.
///
/// # Errors
/// What cannot be read, and an edit that is named and is not there.
pub fn folded_anew(
    view: &dyn StateView,
    context: &Context,
    shard: ShardId,
    record: RecordId,
) -> Result<(Option<Record>, bool), StoreError> {
    let (mut tx, keys) = (Tx::new(view, context), context.keys());
    let Some(mut state) = tx.shard(shard)? else { return Ok((None, true)) };
    let places: BTreeSet<Dot> = tx.range(keys.history(shard, record))?.into_iter().map(|(_, place)| place).collect();
    tx.delete(keys.record(shard, record));
    let marked = marks(&tx, shard, &places)?;
    for (place, poison) in &marked {
        let (edit, _) = tx.edit_at(shard, place)?;
        mark(&mut tx, &mut state, (place, &edit.header), (Some(*poison), None))?;
    }
    refold(&mut tx, &mut state, record, 0)?;
    let is_marked = marks(&tx, shard, &places)? == marked;
    Ok((tx.record(shard, record)?.map(|(record, _)| record), is_marked))
}

/// Why those of these edits are set aside that others of their record set aside.
fn marks(tx: &Tx<'_>, shard: ShardId, places: &BTreeSet<Dot>) -> Result<BTreeMap<Dot, Poison>, StoreError> {
    let mut found = BTreeMap::new();
    for place in places {
        let poison: Option<Poison> = tx.get(&tx.keys().poison(shard, place))?;
        found.extend(
            poison.filter(|poison| poison.is_by_others() || *poison == Poison::Flood).map(|it| (place.clone(), it)),
        );
    }
    Ok(found)
}

/// What each site wrote into a record of which these edits are held. Sets aside what is too much, and drops it from them.
fn share_out(
    tx: &mut Tx<'_>,
    shard: &mut ShardState,
    before: &Shares,
    (held, marked): (&mut Vec<Held>, &BTreeMap<Dot, Poison>),
) -> Result<Shares, StoreError> {
    if is_armed("unbounded-shares") {
        return Ok(Shares::default());
    }
    let sound = held.iter().filter(|held| held.poison.is_none());
    let weights: Vec<(Weight, Rank)> =
        sound.map(|Held { hash, edit, .. }| (Weight::of(edit), (edit.header.number, *hash))).collect();
    let (shares, counts) = Shares::count(before, &weights);
    let begins = |site| before.written(site).is_some() && shares.written(site).is_none();
    sometimes("a site floods a record", weights.iter().any(|(weight, _)| begins(weight.site)));
    let mut counts = counts.into_iter();
    let (stay, flood): (Vec<Held>, Vec<Held>) =
        held.drain(..).partition(|held| held.poison.is_some() || counts.next().unwrap_or(true));
    for Held { place, edit, .. } in &flood {
        mark(tx, shard, (place, &edit.header), (marked.get(place).copied(), Some(Poison::Flood)))?;
    }
    *held = stay;
    Ok(shares)
}

/// Why an edit must be set aside in a shard of a group of this level, if it must. A function of these alone, and the same in every
/// version that knows the level: what came later is above it, for those that know it too.
pub(crate) fn poison_of(edit: &Edit, info: &ShardInfo, level: u16) -> Option<Poison> {
    let header = &edit.header;
    if header.level > level {
        return Some(Poison::Level);
    }
    if !edit.is_known(level) || !info.takes(header.record_kind) {
        return Some(Poison::Kind);
    }
    // Blocks are granted by edits of their own, once: none is changed.
    if (header.kind == EditKind::Grant) != (header.record_kind == RecordKind::Block) {
        return Some(Poison::Kind);
    }
    let valid = edit.changes.iter().all(|change| validity::validate(level, header.record_kind, change).is_ok());
    let is_of_kind = check_kind(header.kind, &edit.changes).is_ok();
    (!valid || !is_of_kind).then_some(Poison::Value)
}
