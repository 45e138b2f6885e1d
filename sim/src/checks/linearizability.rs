//! Linearizability of a site: each field behaves, to all its clients together, like one register that is asked one request
//! at a time, each at some moment between its call and its answer (Herlihy and Wing, 1990).
//!
//! The search is that of Wing and Gong (1993) with Lowe's memory of configurations already seen ("Testing for
//! linearizability", 2017), over the list of calls and returns; fields are checked apart, which linearizability allows
//! (P-compositionality, Horn and Kroening, 2015). Most histories need no search (`causal`). A request without an answer may have taken effect at any moment after its
//! call, or never. A write at another site takes effect here when it arrives by merge: at any moment after its call, or
//! never.
//!
//! Does not check: several fields or records together (a birth's three records appear at once: that is the atomicity of a
//! commit); that a write of another site arrives (convergence); that one which arrived here was accepted there (nothing
//! lost). After a site lost its disk or was restored its old history ends: the caller hands in what lies between two such
//! points. Work is bounded; what is not decided within the bound is counted and is neither success nor failure.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::hash::Hash;

use crate::history::{Answered, Asked, History, Key, Operation, ValueId, Values};

mod causal;
#[cfg(test)]
mod tests;

/// Steps of the search for one field at one site. A history without a violation needs some per operation; so many take
/// seconds, and no more than 100 MB of memory.
pub const WORK_MAX: u64 = 200_000;

/// What a thing does when it is asked one request at a time.
pub trait Model {
    /// Its state.
    type State: Clone + Eq + Hash;
    /// A request.
    type Asked;
    /// An answer.
    type Answered;

    /// Its state before the first request.
    fn initial(&self) -> Self::State;

    /// The state after `asked`, if in `state` the answer may be `answered`. With no answer: the state after it, if it has an
    /// effect in `state`.
    fn step(&self, state: &Self::State, asked: &Self::Asked, answered: Option<&Self::Answered>) -> Option<Self::State>;
}

/// A request, when it was called and, if it was answered, when and what. All moments of a history differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call<Q, A> {
    /// When it was called.
    pub called: u64,
    /// What was asked.
    pub asked: Q,
    /// When it was answered and what; absent if it may have taken effect or not.
    pub answered: Option<(u64, A)>,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// There is an order that explains all answers.
    Holds,
    /// There is none.
    Broken(Stuck),
    /// The bound was reached first.
    Undecided,
}

/// How far an explanation got at most. The numbers are places in the history.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stuck {
    /// An order that explains as many answers as any.
    pub explained: Vec<usize>,
    /// The request whose answer cannot follow it, and was given before any other that is left.
    pub unexplained: usize,
}

/// Searches for an order of `calls` that explains all answers, in at most `work_max` steps.
pub fn search<M: Model>(model: &M, calls: &[Call<M::Asked, M::Answered>], work_max: u64) -> Verdict {
    let mut events = Events::new(calls);
    let mut left = calls.iter().filter(|call| call.answered.is_some()).count();
    let mut state = model.initial();
    let mut done = Done::new(calls.len());
    let mut seen: HashSet<(DoneKey, M::State)> = HashSet::new();
    let mut order: Vec<(usize, M::State)> = Vec::new();
    let mut best = (usize::MAX, Stuck::default());
    let mut at = events.first();
    let mut work = 0;
    while left > 0 {
        match events.event(at) {
            Event::Call(call) => {
                work += 1;
                if work > work_max {
                    return Verdict::Undecided;
                }
                let answer = calls[call].answered.as_ref().map(|(_, answer)| answer);
                if let Some(after) = model.step(&state, &calls[call].asked, answer) {
                    done.set(events.rank(call), true);
                    if seen.insert((done.key(), after.clone())) {
                        order.push((call, std::mem::replace(&mut state, after)));
                        events.lift(call);
                        left -= usize::from(answer.is_some());
                        at = events.first();
                        continue;
                    }
                    done.set(events.rank(call), false);
                }
                at = events.next(at);
            }
            // Everything that may come before this answer was tried: another choice must be made earlier.
            Event::Return(unexplained) => {
                if left < best.0 {
                    best = (left, Stuck { explained: order.iter().map(|(call, _)| *call).collect(), unexplained });
                }
                loop {
                    let Some((call, before)) = order.pop() else { return Verdict::Broken(best.1) };
                    let had_effect = state != before;
                    state = before;
                    done.set(events.rank(call), false);
                    events.unlift(call);
                    left += usize::from(calls[call].answered.is_some());
                    at = events.next(events.place(call));
                    // What changed nothing could as well stay where it was: putting it off explains nothing more.
                    if had_effect {
                        break;
                    }
                }
            }
        }
    }
    Verdict::Holds
}

#[derive(Clone, Copy)]
enum Event {
    Call(usize),
    Return(usize),
}

/// Calls and returns in the order of time, as a list from which a request is lifted and put back in constant time.
struct Events {
    /// By place; place 0 is the list's head.
    events: Vec<Event>,
    next: Vec<usize>,
    previous: Vec<usize>,
    /// By request: the places of its call and of its return.
    places: Vec<(usize, Option<usize>)>,
    /// By request: its place in the order of returns, those without one last. So the requests that are done are nearly
    /// a prefix, which [`Done::key`] leaves out.
    ranks: Vec<usize>,
}

impl Events {
    fn new<Q, A>(calls: &[Call<Q, A>]) -> Self {
        let mut in_time: Vec<(u64, Event)> = Vec::with_capacity(2 * calls.len());
        for (call, timed) in calls.iter().enumerate() {
            in_time.push((timed.called, Event::Call(call)));
            in_time.extend(timed.answered.as_ref().map(|(moment, _)| (*moment, Event::Return(call))));
        }
        // Calls before returns: at equal moments two requests overlap, and no violation is made up.
        in_time.sort_by_key(|(moment, event)| (*moment, matches!(event, Event::Return(_))));
        let mut places = vec![(0, None); calls.len()];
        for (place, (_, event)) in in_time.iter().enumerate() {
            match event {
                Event::Call(call) => places[*call].0 = place + 1,
                Event::Return(call) => places[*call].1 = Some(place + 1),
            }
        }
        let count = in_time.len() + 1;
        let mut by_return: Vec<usize> = (0..calls.len()).collect();
        by_return.sort_by_key(|&call| places[call].1.unwrap_or(usize::MAX));
        let mut ranks = vec![0; calls.len()];
        for (rank, call) in by_return.into_iter().enumerate() {
            ranks[call] = rank;
        }
        let events = std::iter::once(Event::Call(0)).chain(in_time.into_iter().map(|(_, event)| event)).collect();
        let next = (0..count).map(|place| (place + 1) % count).collect();
        let previous = (0..count).map(|place| (place + count - 1) % count).collect();
        Events { events, next, previous, places, ranks }
    }

    fn first(&self) -> usize {
        self.next[0]
    }
    fn next(&self, place: usize) -> usize {
        self.next[place]
    }
    /// A return is always ahead while an answer is left, so the search never comes to the list's end.
    fn event(&self, place: usize) -> Event {
        self.events[place]
    }
    fn rank(&self, call: usize) -> usize {
        self.ranks[call]
    }
    fn place(&self, call: usize) -> usize {
        self.places[call].0
    }

    fn unlink(&mut self, place: usize) {
        let (previous, next) = (self.previous[place], self.next[place]);
        self.next[previous] = next;
        self.previous[next] = previous;
    }
    fn link(&mut self, place: usize) {
        let (previous, next) = (self.previous[place], self.next[place]);
        self.next[previous] = place;
        self.previous[next] = place;
    }

    fn lift(&mut self, call: usize) {
        let (call, answer) = self.places[call];
        self.unlink(call);
        if let Some(answer) = answer {
            self.unlink(answer);
        }
    }
    /// The reverse of [`Events::lift`], in reverse order: links remember their neighbours.
    fn unlift(&mut self, call: usize) {
        let (call, answer) = self.places[call];
        if let Some(answer) = answer {
            self.link(answer);
        }
        self.link(call);
    }
}

/// Which requests are in the order so far, by rank.
struct Done(Vec<u64>);

/// The same without the full words in front and the empty ones behind.
type DoneKey = (usize, Box<[u64]>);

impl Done {
    fn new(calls: usize) -> Self {
        Done(vec![0; calls.div_ceil(64)])
    }
    fn set(&mut self, rank: usize, done: bool) {
        let bit = 1 << (rank % 64);
        if done {
            self.0[rank / 64] |= bit;
        } else {
            self.0[rank / 64] &= !bit;
        }
    }
    fn key(&self) -> DoneKey {
        let full = self.0.iter().take_while(|word| **word == u64::MAX).count();
        let end = self.0.iter().rposition(|word| *word != 0).map_or(full, |last| (last + 1).max(full));
        (full, self.0[full..end].into())
    }
}

/// A field of a record at one site.
#[derive(Debug, Clone, Copy, Default)]
pub struct Field;

/// What reaches a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldCall {
    /// An officer of this site.
    Here(Asked),
    /// A write that another site accepted, or may have. It arrives by merge.
    Foreign {
        /// What its author saw there.
        overwrites: Values,
        /// The new value.
        id: ValueId,
    },
}

/// The values, and what a merge knows beyond them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct FieldState {
    current: Values,
    /// Values that something that arrived replaces and that were not current then: one of them that arrives later is
    /// not shown.
    replaced: Values,
}

impl Model for Field {
    type State = FieldState;
    type Asked = FieldCall;
    type Answered = Answered;

    fn initial(&self) -> FieldState {
        FieldState::default()
    }

    fn step(&self, state: &FieldState, asked: &FieldCall, answered: Option<&Answered>) -> Option<FieldState> {
        match (asked, answered) {
            (FieldCall::Here(Asked::Read), Some(Answered::Saw(seen))) if *seen == state.current => Some(state.clone()),
            (FieldCall::Here(Asked::Read), _) => None,
            (FieldCall::Here(Asked::Write { overwrites, id }), None | Some(Answered::Accepted)) => {
                // Nothing replaces a value of this site before it is there.
                let fits = *overwrites == state.current && !state.replaced.contains(id);
                fits.then(|| FieldState { current: Values::from([*id]), replaced: state.replaced.clone() })
            }
            (FieldCall::Here(Asked::Write { overwrites, .. }), Some(Answered::Stale)) => {
                (*overwrites != state.current).then(|| state.clone())
            }
            (FieldCall::Here(Asked::Write { .. }), Some(Answered::Refused)) => Some(state.clone()),
            (FieldCall::Here(Asked::Write { .. }), Some(Answered::Saw(_))) => None,
            (FieldCall::Foreign { overwrites, id }, _) => {
                let mut after = state.clone();
                for value in overwrites {
                    if !after.current.remove(value) {
                        after.replaced.insert(*value);
                    }
                }
                if !after.replaced.remove(id) {
                    after.current.insert(*id);
                }
                Some(after)
            }
        }
    }
}

type FieldHistory = Vec<Call<FieldCall, Answered>>;

/// What reached `operations`' field at `site`: its own operations, and the writes of others; of those without an answer only
/// what was seen, unless `with_unseen`.
fn at_site(operations: &[&Operation], site: &str, with_unseen: bool) -> (FieldHistory, Vec<usize>) {
    let mut calls = FieldHistory::new();
    let mut places = Vec::new();
    for (place, operation) in operations.iter().enumerate() {
        let answer = operation.answered.as_ref().map(|(moment, answer)| (moment.sequence, answer.clone()));
        let (asked, answered) = match (&operation.asked, answer) {
            (asked, answer) if operation.site == site => (FieldCall::Here(asked.clone()), answer),
            (Asked::Write { overwrites, id }, None | Some((_, Answered::Accepted))) => {
                (FieldCall::Foreign { overwrites: overwrites.clone(), id: *id }, None)
            }
            _ => continue,
        };
        calls.push(Call { called: operation.called.sequence, asked, answered });
        places.push(place);
    }
    if !with_unseen {
        drop_unseen(&mut calls, &mut places);
    }
    (calls, places)
}

fn judge(calls: &FieldHistory, work_max: u64) -> Verdict {
    if causal::explain(calls).is_some() { Verdict::Holds } else { search(&Field, calls, work_max) }
}

/// Leaves out what has no answer and need not have had an effect. A read without an answer has none. The value of a write
/// stays current until a request that names it; if none does, then nothing that came after it saw the field: so if there
/// is an order with it there is one without it. But for a stale write, which says that something came and not what: where
/// there is one, no order without it proves nothing.
fn drop_unseen(calls: &mut FieldHistory, places: &mut Vec<usize>) {
    loop {
        let mut named = BTreeSet::new();
        for call in calls.iter() {
            match &call.asked {
                FieldCall::Here(Asked::Write { overwrites, .. }) | FieldCall::Foreign { overwrites, .. } => {
                    named.extend(overwrites.iter().copied());
                }
                FieldCall::Here(Asked::Read) => {}
            }
            if let Some((_, Answered::Saw(values))) = &call.answered {
                named.extend(values.iter().copied());
            }
        }
        let matters = |call: &Call<FieldCall, Answered>| match &call.asked {
            _ if call.answered.is_some() => true,
            FieldCall::Here(Asked::Write { id, .. }) | FieldCall::Foreign { id, .. } => named.contains(id),
            FieldCall::Here(Asked::Read) => false,
        };
        let keep: Vec<bool> = calls.iter().map(matters).collect();
        if keep.iter().all(|keep| *keep) {
            return;
        }
        let mut of_call = keep.iter();
        calls.retain(|_| of_call.next() == Some(&true));
        let mut of_place = keep.iter();
        places.retain(|_| of_place.next() == Some(&true));
    }
}

/// A field of a site that no order explains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Code of the site.
    pub site: String,
    /// The field.
    pub key: Key,
    /// An order of requests that explains as many answers as any; requests of other sites are writes that arrived.
    pub explained: Vec<Operation>,
    /// The request whose answer cannot follow.
    pub unexplained: Operation,
    /// Those that wrote the values in its answer.
    pub writers: Vec<Operation>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Operation { officer, called, asked, answered, .. } = &self.unexplained;
        let (field, element) = &self.key.field;
        write!(f, "{} field {field}", self.key.record)?;
        if !element.is_empty() {
            write!(f, "[{}]", String::from_utf8_lossy(element))?;
        }
        write!(f, " at site {}: officer {officer} asked {asked:?} at {:?}", self.site, called.at)?;
        if let Some((moment, answer)) = answered {
            write!(f, " and was answered {answer:?} at {:?}", moment.at)?;
        }
        write!(f, ", which no order of {} requests before it explains", self.explained.len())?;
        for Operation { site, officer, asked, answered, .. } in &self.writers {
            let answer = answered.as_ref().map(|(_, answer)| answer);
            write!(f, "; officer {officer} of {site} asked {asked:?} and was answered {answer:?}")?;
        }
        Ok(())
    }
}

/// What a check of a whole history found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use]
pub struct Findings {
    /// Fields times sites that were asked.
    pub checked: usize,
    /// Of them, those where the bound of work was reached: nothing is known about them.
    pub undecided: Vec<(String, Key)>,
    /// Of them, those that are not linearizable.
    pub violations: Vec<Violation>,
}

/// Checks every field at every site where an officer asked for it. The search decides what has no explanation with writes
/// of other sites that arrive in causal order; so what stays undecided was at best explained by such that did not.
pub fn check(history: &History, work_max: u64) -> Findings {
    let mut findings = Findings::default();
    for (key, operations) in history.by_key() {
        let sites: BTreeSet<&str> = operations.iter().map(|operation| operation.site.as_str()).collect();
        for site in sites {
            findings.checked += 1;
            let (mut calls, mut places) = at_site(&operations, site, false);
            let mut verdict = judge(&calls, work_max);
            let is_stale = |call: &Call<FieldCall, Answered>| matches!(call.answered, Some((_, Answered::Stale)));
            if verdict != Verdict::Holds && calls.iter().any(is_stale) {
                (calls, places) = at_site(&operations, site, true);
                verdict = judge(&calls, work_max);
            }
            match verdict {
                Verdict::Holds => {}
                Verdict::Undecided => findings.undecided.push((site.to_owned(), key.clone())),
                Verdict::Broken(stuck) => {
                    let operation = |call: usize| operations[places[call]].clone();
                    let unexplained = operation(stuck.unexplained);
                    let shown = match &unexplained.answered {
                        Some((_, Answered::Saw(values))) => values.clone(),
                        _ => Values::new(),
                    };
                    let wrote = |one: &&&Operation| matches!(&one.asked, Asked::Write { id, .. } if shown.contains(id));
                    findings.violations.push(Violation {
                        site: site.to_owned(),
                        key: key.clone(),
                        explained: stuck.explained.into_iter().map(operation).collect(),
                        unexplained,
                        writers: operations.iter().filter(wrote).map(|one| (*one).clone()).collect(),
                    });
                }
            }
        }
    }
    findings
}
