//! A record: for each field its current values, each tagged with the dot of the edit that wrote it; a dotted
//! multi-value register per field (Preguiça et al., "Dotted Version Vectors", 2010; MV-register: Shapiro et al., 2011).
//!
//! A write replaces exactly the values whose dots it names; what its author had not seen stays beside it. So two
//! concurrent writes leave two values, and nobody's edit is lost. The causality types and traits are those of the crate
//! `crdts`; its `Map` and `Orswot` are not used (their merges diverge with removals, and their bytes differ between
//! replicas).
//!
//! `clock` says, per author, the last edit of this record that is folded in: an author's edits arrive in the order of
//! its chain, so one number per author is enough; an edit that goes by an alias has an entry of its own. Edits of
//! different authors may arrive in any order: a write may name a dot that is not here yet, and `awaited` remembers it until
//! it comes. `shares` say how much of it each site wrote.
//!
//! The bytes: most fields of a record were written by few edits, so these are named once and each value points to its own.
//!
//! ```text
//! record = kind shares clock edits fields awaited pending takes_all
//! edits  = count (dot received)*                          rising; each is pointed to
//! fields = count (field element count (place value)*)*    keys rising; `place` in `edits`, rising
//! awaited = count (dot field element)*                    rising
//! pending = count (dot author)*                           rising
//! takes_all = whether one more edit needs all of them to be folded
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use crdts::{CmRDT, CvRDT, VClock};

use crate::edit::{Change, DOT_BYTES, Dot, Edit, GROUNDS};
use crate::encoding::{Malformed, Reader, Wire};
use crate::ids::{AuthorId, Hash};
use crate::inject::is_armed;
use crate::schema::{FieldId, RecordKind, Value};
use crate::share::Shares;
use crate::standing::{standing_field, standing_key};

/// A field, and which of its elements if it repeats.
pub type FieldKey = (FieldId, Vec<u8>);

/// Room for what most records have; longer ones grow.
const FIELDS_USUAL: usize = 32;

/// Sorts before every other one.
const FIRST_KEY: FieldKey = (FieldId(0), Vec::new());

/// One current value of a field.
#[derive(Clone, PartialEq, Eq)]
pub struct Tagged {
    /// The edit that wrote it.
    pub dot: Dot,
    /// When its author site received it, UTC milliseconds: orders the values of `latest` fields, and nothing else.
    pub received_ms: i64,
    /// Canonical bytes; empty if the field was cleared.
    pub value: Vec<u8>,
}

impl std::fmt::Debug for Tagged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {} B", self.dot, self.value.len())
    }
}

/// Whether the current values of a field differ; equal ones written twice are in no dispute.
#[must_use]
pub fn are_disputed(values: &[Tagged]) -> bool {
    values.windows(2).any(|two| two[0].value != two[1].value)
}

/// A person or a household.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// What it is.
    pub kind: RecordKind,
    /// How much each site wrote into it.
    pub shares: Shares,
    clock: VClock<AuthorId>,
    fields: BTreeMap<FieldKey, Vec<Tagged>>,
    awaited: BTreeSet<(Dot, FieldKey)>,
    /// The edits by which some of it is what it is and that wait for a second person, by name; and their authors.
    pending: BTreeMap<Dot, AuthorId>,
    /// Whether it takes all of its edits to say what one more counts for, or replaces: of some requests that were accepted twice only
    /// one acceptance is folded in, and an edit may name the other; or some of what was there is held or rejected.
    pub(crate) takes_all: bool,
}

impl std::fmt::Debug for Record {
    /// No values, and no keys of elements: one may be the number of a card.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fields = self.fields.iter().map(|((field, element), values)| (field, element.len(), values));
        write!(f, "{} of {:?}, awaits {}: ", self.kind, self.clock, self.awaited.len())?;
        f.debug_list().entries(fields).finish()
    }
}

/// An edit as the record sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The edit's name.
    pub dot: Dot,
    /// See [`Tagged::received_ms`].
    pub received_ms: i64,
    /// What it writes.
    pub changes: Vec<Change>,
}

impl Write {
    /// An edit, under its name.
    #[must_use]
    pub fn of(edit: &Edit, name: Dot) -> Self {
        Write::new(name, edit.header.origin.received_ms, &edit.changes)
    }

    /// What changes write: all but the grounds. Nobody has seen the edit itself, or what its author wrote after it: that it
    /// claims to replace these is passed over, so that no value goes without one in its place.
    #[must_use]
    pub fn new(dot: Dot, received_ms: i64, changes: &[Change]) -> Self {
        let mut changes: Vec<Change> = changes.iter().filter(|change| change.field != GROUNDS).cloned().collect();
        for change in &mut changes {
            let is_any = is_armed("replace-the-unseen");
            change.overwrites.retain(|seen| is_any || seen.actor != dot.actor || seen.counter < dot.counter);
        }
        Write { dot, received_ms, changes }
    }
}

impl Record {
    /// A record without any edit.
    #[must_use]
    pub fn new(kind: RecordKind) -> Self {
        Record {
            kind,
            shares: Shares::default(),
            clock: VClock::new(),
            fields: BTreeMap::new(),
            awaited: BTreeSet::new(),
            pending: BTreeMap::new(),
            takes_all: false,
        }
    }

    /// Every field that has a value, with its current values in the order of their dots.
    pub fn fields(&self) -> impl Iterator<Item = (&FieldKey, &[Tagged])> {
        self.fields.iter().map(|(key, values)| (key, values.as_slice()))
    }

    /// The current values of one field; none if it was never written.
    #[must_use]
    pub fn values(&self, key: &FieldKey) -> &[Tagged] {
        self.fields.get(key).map_or(&[], Vec::as_slice)
    }

    /// The dots that a write must name to replace all it can see of a field.
    #[must_use]
    pub fn dots(&self, key: &FieldKey) -> Vec<Dot> {
        self.values(key).iter().map(|tagged| tagged.dot.clone()).collect()
    }

    /// The value that a reader is shown: the only one, or of several the latest by (time, author).
    #[must_use]
    pub fn shown(&self, key: &FieldKey) -> Option<&Tagged> {
        self.values(key).iter().max_by_key(|tagged| (tagged.received_ms, &tagged.dot))
    }

    /// The same, decoded: nothing if it was cleared, or is of a newer level than this program knows.
    #[must_use]
    pub fn value(&self, field: FieldId, element: &[u8]) -> Option<Value> {
        let shown = self.shown(&(field, element.to_vec()))?;
        Value::decode(field, &shown.value).ok().filter(|value| !value.is_cleared())
    }

    /// The text of a field, if it has one.
    #[must_use]
    pub fn text(&self, field: FieldId) -> Option<String> {
        self.value(field, b"")?.spoken()
    }

    /// Whether any edit has been folded in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clock.is_empty()
    }

    /// The last edit of `author` that is folded in; 0 for none.
    #[must_use]
    pub fn seen(&self, author: &AuthorId) -> u64 {
        self.clock.get(author)
    }

    /// The edits that wait for a second person and of which the record still shows something, by name; and their authors.
    #[must_use]
    pub fn pending(&self) -> &BTreeMap<Dot, AuthorId> {
        &self.pending
    }

    /// What the record says of an edit's standing: the present values, several if they were written concurrently. Whoever wrote
    /// them may have taken the record for one of another kind.
    pub fn standing(&self, hash: &Hash) -> impl Iterator<Item = &Tagged> + Clone {
        let key = standing_key(hash);
        let fields = RecordKind::ALL.into_iter().filter_map(standing_field);
        fields.flat_map(move |field| self.values(&(field, key.clone())))
    }

    /// Takes note that an edit which was folded in waits for a second person.
    pub(crate) fn waits(&mut self, name: Dot, author: AuthorId) {
        self.pending.insert(name, author);
    }

    /// What is replaced waits for nobody any more.
    pub(crate) fn forget_replaced(&mut self) {
        if !self.pending.is_empty() {
            let shown: BTreeSet<&Dot> = self.fields.values().flatten().map(|tagged| &tagged.dot).collect();
            self.pending.retain(|name, _| shown.contains(name));
        }
    }

    /// Whether it was overwritten under this name before it came.
    pub(crate) fn awaits(&self, name: impl FnOnce() -> Dot) -> bool {
        // Asked of every edit that comes, while hardly a record awaits any.
        !self.awaited.is_empty() && {
            let name = name();
            self.awaited.range((name.clone(), FIRST_KEY)..).next().is_some_and(|(dot, _)| *dot == name)
        }
    }

    fn remove(&mut self, key: &FieldKey, dot: &Dot) {
        if let Some(values) = self.fields.get_mut(key)
            && let Ok(place) = values.binary_search_by(|tagged| tagged.dot.cmp(dot))
        {
            values.remove(place);
        }
    }

    /// Nothing awaited stays that has come, or that an author whose edit came now has passed over.
    fn passed(&mut self, now: &Dot) {
        let first = Dot { actor: now.actor, counter: 0 };
        while let Some(passed) = self.awaited.range((first.clone(), FIRST_KEY)..).next()
            && passed.0 <= *now
        {
            let passed = passed.clone();
            self.awaited.remove(&passed);
        }
    }
}

impl CmRDT for Record {
    type Op = Write;
    type Validation = Infallible;

    fn validate_op(&self, _: &Write) -> Result<(), Infallible> {
        Ok(())
    }

    /// Folds one edit in. An edit that is in already changes nothing.
    fn apply(&mut self, write: Write) {
        if write.dot.counter <= self.clock.get(&write.dot.actor) {
            return;
        }
        for change in write.changes {
            let key = (change.field, change.element);
            for dot in change.overwrites {
                if dot.counter <= self.clock.get(&dot.actor) {
                    self.remove(&key, &dot);
                } else {
                    crate::inject::sometimes("a value is overwritten before it comes", true);
                    self.awaited.insert((dot, key.clone()));
                }
            }
            let coming = (write.dot.clone(), key);
            if !self.awaited.contains(&coming) {
                let (dot, key) = coming;
                // Nearly all fields have one value.
                let values = self.fields.entry(key).or_insert_with(|| Vec::with_capacity(1));
                let place = values.partition_point(|tagged| tagged.dot < dot);
                values.insert(place, Tagged { dot, received_ms: write.received_ms, value: change.value });
            } else if self.fields.get(&coming.1).is_some_and(Vec::is_empty) {
                self.fields.remove(&coming.1);
            }
        }
        self.passed(&write.dot);
        self.clock.apply(write.dot.into());
    }
}

impl CvRDT for Record {
    type Validation = Infallible;

    fn validate_merge(&self, _: &Self) -> Result<(), Infallible> {
        Ok(())
    }

    /// A value stays if both have it, or if one has it and the other has neither seen nor overwritten it.
    fn merge(&mut self, other: Self) {
        let here = Seen { clock: &self.clock, awaited: &self.awaited };
        let there = Seen { clock: &other.clock, awaited: &other.awaited };
        let mut theirs = other.fields;
        for (key, values) in &mut self.fields {
            merge_values(key, values, theirs.remove(key).unwrap_or_default(), here, there);
        }
        for (key, values) in theirs {
            let mut merged = Vec::new();
            merge_values(&key, &mut merged, values, here, there);
            self.fields.insert(key, merged);
        }
        self.fields.retain(|_, values| !values.is_empty());
        self.clock.merge(other.clock);
        self.awaited.extend(other.awaited);
        let clock = &self.clock;
        self.awaited.retain(|(dot, _)| dot.counter > clock.get(&dot.actor));
        self.pending.extend(other.pending);
        self.forget_replaced();
        self.takes_all |= other.takes_all;
        self.shares.merge(other.shares);
    }
}

/// The edits that a state of a record knows of.
#[derive(Clone, Copy)]
struct Seen<'a> {
    clock: &'a VClock<AuthorId>,
    awaited: &'a BTreeSet<(Dot, FieldKey)>,
}

impl Seen<'_> {
    fn has(&self, key: &FieldKey, dot: &Dot) -> bool {
        dot.counter <= self.clock.get(&dot.actor) || self.awaited.contains(&(dot.clone(), key.clone()))
    }
}

/// Merges the values of one field of two states, each in the order of their dots.
fn merge_values(key: &FieldKey, mine: &mut Vec<Tagged>, theirs: Vec<Tagged>, here: Seen<'_>, there: Seen<'_>) {
    debug_assert!(mine.iter().all(|tagged| tagged.dot.counter <= here.clock.get(&tagged.dot.actor)));
    debug_assert!(theirs.iter().all(|tagged| tagged.dot.counter <= there.clock.get(&tagged.dot.actor)));
    if mine.iter().map(|tagged| &tagged.dot).eq(theirs.iter().map(|tagged| &tagged.dot)) {
        return;
    }
    let (at_both, new): (Vec<_>, Vec<_>) =
        theirs.into_iter().partition(|tagged| mine.iter().any(|other| other.dot == tagged.dot));
    mine.retain(|tagged| at_both.iter().any(|other| other.dot == tagged.dot) || !there.has(key, &tagged.dot));
    mine.extend(new.into_iter().filter(|tagged| !here.has(key, &tagged.dot)));
    mine.sort_unstable_by(|one, two| one.dot.cmp(&two.dot));
}

impl Wire for Record {
    fn encode(&self, out: &mut Vec<u8>) {
        self.kind.encode(out);
        self.shares.encode(out);
        self.clock.dots.encode(out);
        let mut edits: Vec<(&Dot, i64)> = Vec::new();
        for tagged in self.fields.values().flatten() {
            let edit = (&tagged.dot, tagged.received_ms);
            // One edit wrote most fields.
            if edits.last() != Some(&edit) {
                edits.push(edit);
            }
        }
        edits.sort_unstable();
        edits.dedup();
        (edits.len() as u64).encode(out);
        for (dot, received_ms) in &edits {
            dot.encode(out);
            received_ms.encode(out);
        }
        (self.fields.len() as u64).encode(out);
        for (key, values) in &self.fields {
            key.encode(out);
            (values.len() as u64).encode(out);
            for tagged in values {
                let place = edits.partition_point(|edit| *edit < (&tagged.dot, tagged.received_ms));
                (place as u64).encode(out);
                tagged.value.encode(out);
            }
        }
        self.awaited.iter().cloned().collect::<Vec<_>>().encode(out);
        self.pending.encode(out);
        self.takes_all.encode(out);
    }

    fn bytes_hint(&self) -> usize {
        let of_field = |((_, element), values): (&FieldKey, &Vec<Tagged>)| {
            element.len() + values.iter().map(|tagged| tagged.value.len() + 5).sum::<usize>() + 5
        };
        let of_awaited = |(_, (_, element)): &(Dot, FieldKey)| element.len() + DOT_BYTES + 5;
        // Few edits wrote what a record shows; more of them make it grow.
        8 * DOT_BYTES
            + self.fields.iter().map(of_field).sum::<usize>()
            + self.awaited.iter().map(of_awaited).sum::<usize>()
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (kind, shares) = (Wire::decode(input)?, Wire::decode(input)?);
        let clock = VClock { dots: Wire::decode(input)? };
        let edits: Vec<(Dot, i64)> = Wire::decode(input)?;
        if !edits.is_sorted_by(|one, next| one < next) {
            return Err(Malformed { what: "record: edits out of order" });
        }
        let mut pointed = vec![false; edits.len()];
        let count = input.length()?;
        let mut fields: Vec<(FieldKey, Vec<Tagged>)> = Vec::with_capacity(count.min(FIELDS_USUAL));
        for _ in 0..count {
            let key = FieldKey::decode(input)?;
            if fields.last().is_some_and(|(last, _)| *last >= key) {
                return Err(Malformed { what: "record: fields out of order" });
            }
            let values = decode_values(&edits, &mut pointed, input)?;
            fields.push((key, values));
        }
        if pointed.contains(&false) {
            return Err(Malformed { what: "record: an edit without a value" });
        }
        let awaited: Vec<(Dot, FieldKey)> = Wire::decode(input)?;
        if !awaited.is_sorted_by(|one, next| one < next) {
            return Err(Malformed { what: "record: what it waits for is out of order" });
        }
        let awaited = awaited.into_iter().collect();
        Ok(Record {
            kind,
            shares,
            clock,
            // From a list in order a map is made at once, without a search for each place.
            fields: fields.into_iter().collect(),
            awaited,
            pending: Wire::decode(input)?,
            takes_all: Wire::decode(input)?,
        })
    }
}

/// The values of one field; marks the edits that they point to.
fn decode_values(edits: &[(Dot, i64)], pointed: &mut [bool], input: &mut Reader<'_>) -> Result<Vec<Tagged>, Malformed> {
    let (mut values, mut least) = (Vec::with_capacity(1), 0);
    for _ in 0..input.length()? {
        let place = usize::try_from(u64::decode(input)?).unwrap_or(usize::MAX);
        let edit = edits.get(place).filter(|_| place >= least);
        let (dot, received_ms) = edit.ok_or(Malformed { what: "record: place of an edit" })?;
        (pointed[place], least) = (true, place + 1);
        values.push(Tagged { dot: dot.clone(), received_ms: *received_ms, value: Wire::decode(input)? });
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use crdts::MVReg;
    use proptest::prelude::*;

    use super::*;

    fn author(name: u8) -> AuthorId {
        AuthorId([name; 16])
    }

    fn dot(name: u8, counter: u64) -> Dot {
        Dot { actor: author(name), counter }
    }

    fn key(field: u16) -> FieldKey {
        (FieldId(field), Vec::new())
    }

    fn write(dot: Dot, field: u16, value: &str, overwrites: &[Dot]) -> Write {
        let change = Change {
            field: FieldId(field),
            element: Vec::new(),
            value: value.as_bytes().to_vec(),
            overwrites: overwrites.to_vec(),
        };
        Write { received_ms: dot.counter as i64, dot, changes: vec![change] }
    }

    fn record(writes: &[Write]) -> Record {
        let mut record = Record::new(RecordKind::Person);
        writes.iter().cloned().for_each(|write| record.apply(write));
        record
    }

    #[test]
    fn concurrent_writes_stay_beside_each_other_until_a_write_names_both() {
        let (first, second) = (write(dot(1, 1), 1, "An", &[]), write(dot(2, 1), 1, "Ân", &[]));
        let decision = write(dot(1, 2), 1, "An", &[dot(1, 1), dot(2, 1)]);
        let mut record = record(&[first, second]);
        assert!(are_disputed(record.values(&key(1))));
        record.apply(decision);
        assert_eq!(record.dots(&key(1)), [dot(1, 2)]);
    }

    #[test]
    fn an_overwrite_that_arrives_before_what_it_overwrites_still_counts() {
        let (first, second) = (write(dot(1, 1), 1, "old", &[]), write(dot(2, 1), 1, "new", &[dot(1, 1)]));
        assert_eq!(record(&[second.clone(), first.clone()]), record(&[first, second]));
    }

    #[test]
    fn equal_values_are_not_in_dispute() {
        let record = record(&[write(dot(1, 1), 1, "An", &[]), write(dot(2, 1), 1, "An", &[])]);
        assert_eq!(record.dots(&key(1)).len(), 2);
        assert!(!are_disputed(record.values(&key(1))));
    }

    #[test]
    fn a_record_has_one_byte_string_alone() {
        let record = record(&[write(dot(1, 1), 1, "An", &[]), write(dot(2, 7), 2, "Ba", &[])]);
        let bytes = record.to_bytes();
        let edits = 1 + 1 + 1 + 2 * 17;
        assert_eq!(bytes[edits], 2, "two edits, each a dot and a time");
        let [first, second] = [edits + 1, edits + 1 + 18].map(|at| bytes[at..at + 18].to_vec());
        let mut swapped = bytes.clone();
        swapped[edits + 1..edits + 37].copy_from_slice(&[second, first.clone()].concat());
        assert!(Record::from_bytes(&swapped).is_err(), "edits out of order");
        let mut idle = bytes.clone();
        idle[edits] = 3;
        let more = [&[9; 16][..], &[1, 1]].concat();
        idle.splice(edits + 37..edits + 37, more);
        assert!(Record::from_bytes(&idle).is_err(), "an edit to which nothing points");
        let mut astray = bytes.clone();
        // After the last value nothing is awaited, nothing waits, and it does not take all of its edits.
        let place = bytes.len() - 3 - "Ba".len() - 1 - 1;
        assert_eq!(bytes[place], 1, "the second value was written by the second edit");
        astray[place] = 2;
        assert!(Record::from_bytes(&astray).is_err(), "a place behind the last edit");
    }

    /// What one of three replicas does next.
    #[derive(Debug, Clone)]
    enum Step {
        /// Writes a value over what the replica sees of one of three fields.
        Write { at: usize, field: u16, value: u8 },
        /// Takes over another replica's state.
        Merge { at: usize, from: usize },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let write = (0..3_usize, 1..4_u16, any::<u8>()).prop_map(|(at, field, value)| Step::Write { at, field, value });
        let merge = (0..3_usize, 0..3_usize).prop_map(|(at, from)| Step::Merge { at, from });
        prop::collection::vec(prop_oneof![2 => write, 1 => merge], 0..40)
    }

    /// Plays the steps; returns the three replicas and every write in the order it was made.
    fn play(steps: &[Step]) -> (Vec<Record>, Vec<Write>) {
        let mut replicas = vec![Record::new(RecordKind::Person); 3];
        let mut writes = Vec::new();
        for step in steps {
            match *step {
                Step::Write { at, field, value } => {
                    let next = dot(at as u8, replicas[at].seen(&author(at as u8)) + 1);
                    let seen = replicas[at].dots(&key(field));
                    let write = write(next, field, &value.to_string(), &seen);
                    replicas[at].apply(write.clone());
                    writes.push(write);
                }
                Step::Merge { at, from } => {
                    let other = replicas[from].clone();
                    replicas[at].merge(other);
                }
            }
        }
        (replicas, writes)
    }

    fn merged(left: &Record, right: &Record) -> Record {
        let mut merged = left.clone();
        merged.merge(right.clone());
        merged
    }

    proptest! {
        #[test]
        fn merging_is_commutative_associative_and_idempotent(steps in steps()) {
            let (replicas, _) = play(&steps);
            let [a, b, c] = [&replicas[0], &replicas[1], &replicas[2]];
            prop_assert_eq!(merged(a, b), merged(b, a));
            prop_assert_eq!(merged(&merged(a, b), c), merged(a, &merged(b, c)));
            prop_assert_eq!(merged(a, a), a.clone());
            prop_assert_eq!(merged(&merged(a, b), b), merged(a, b));
        }

        #[test]
        fn folding_edits_in_any_order_that_keeps_the_chains_equals_merging_states(steps in steps(), turns: Vec<u8>) {
            let (replicas, writes) = play(&steps);
            let mut queues: Vec<Vec<Write>> = (0..3)
                .map(|at| writes.iter().rev().filter(|w| w.dot.actor == author(at)).cloned().collect())
                .collect();
            let mut folded = Record::new(RecordKind::Person);
            let turns = turns.into_iter().map(|turn| usize::from(turn) % 3).chain([0, 1, 2].repeat(40));
            for turn in turns {
                if let Some(write) = queues[turn].pop() {
                    folded.apply(write.clone());
                    folded.apply(write);
                }
            }
            prop_assert_eq!(folded.clone(), merged(&merged(&replicas[0], &replicas[1]), &replicas[2]));
            prop_assert!(folded.awaited.is_empty());
            prop_assert_eq!(Record::from_bytes(&folded.to_bytes()), Ok(folded));
        }

        /// One field against `crdts::MVReg`, which tags each value with a whole clock: the same values survive.
        #[test]
        fn a_field_holds_what_an_mv_register_holds(steps in steps()) {
            let (replicas, _) = play(&steps);
            let mut registers: Vec<MVReg<u8, u8>> = vec![MVReg::new(); 3];
            for step in &steps {
                match *step {
                    Step::Write { at, field: 1, value } => {
                        let context = registers[at].read_ctx().derive_add_ctx(at as u8);
                        let op = registers[at].write(value, context);
                        CmRDT::apply(&mut registers[at], op);
                    }
                    Step::Write { .. } => {}
                    Step::Merge { at, from } => {
                        let other = registers[from].clone();
                        CvRDT::merge(&mut registers[at], other);
                    }
                }
            }
            for (record, register) in replicas.iter().zip(&registers) {
                let mut ours: Vec<Vec<u8>> = record.values(&key(1)).iter().map(|t| t.value.clone()).collect();
                let mut theirs: Vec<Vec<u8>> =
                    register.read().val.iter().map(|value| value.to_string().into_bytes()).collect();
                ours.sort();
                theirs.sort();
                prop_assert_eq!(ours, theirs);
            }
        }
    }
}
