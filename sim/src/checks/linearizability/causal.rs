//! An explanation of a field's history without a search, if writes of other sites arrived in causal order.
//!
//! Sites send edits in their arrival order, so a write arrives after all that its author had seen. Then what is current
//! tells everything that has arrived: the writes that are seen, all that they replaced, and so on. So each answer demands
//! one exact set of writes, the sets can only grow, and their order is the order of the answers; what is left is whether
//! the times allow it. That takes time in proportion to operations times writes, where a search over what may have arrived
//! doubles with every write of another site.
//!
//! Promises: what it returns is an order that explains all answers. Limit: if it finds none, there may be one with writes
//! that arrived out of order; the search says.

use std::collections::{BTreeMap, BTreeSet};

use super::{Call, FieldCall};
use crate::history::{Answered, Asked, ValueId, Values};

/// A set of writes, as bits by place; and how many they are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Arrived {
    // First, so that smaller sets sort before larger ones.
    count: u32,
    bits: Vec<u64>,
}

impl Arrived {
    fn new(calls: usize) -> Self {
        Arrived { count: 0, bits: vec![0; calls.div_ceil(64)] }
    }
    fn has(&self, call: usize) -> bool {
        self.bits[call / 64] & (1 << (call % 64)) != 0
    }
    fn add(&mut self, call: usize) {
        self.count += u32::from(!self.has(call));
        self.bits[call / 64] |= 1 << (call % 64);
    }
    fn is_within(&self, other: &Self) -> bool {
        self.bits.iter().zip(&other.bits).all(|(mine, theirs)| mine & !theirs == 0)
    }
}

type Calls = [Call<FieldCall, Answered>];

struct Writes<'a> {
    calls: &'a Calls,
    by_id: BTreeMap<ValueId, usize>,
}

fn written(call: &Call<FieldCall, Answered>) -> Option<(&Values, ValueId)> {
    match &call.asked {
        FieldCall::Here(Asked::Write { overwrites, id }) | FieldCall::Foreign { overwrites, id } => {
            Some((overwrites, *id))
        }
        FieldCall::Here(Asked::Read) => None,
    }
}

impl<'a> Writes<'a> {
    /// None if two writes have one name.
    fn new(calls: &'a Calls) -> Option<Self> {
        let mut by_id = BTreeMap::new();
        for (place, call) in calls.iter().enumerate() {
            let without_effect = matches!(call.answered, Some((_, Answered::Stale | Answered::Refused)));
            let Some((_, id)) = written(call).filter(|_| !without_effect) else { continue };
            if by_id.insert(id, place).is_some() {
                return None;
            }
        }
        Some(Writes { calls, by_id })
    }

    /// What has arrived where exactly `seen` is current; none if that cannot be.
    fn behind(&self, seen: &Values) -> Option<Arrived> {
        let mut arrived = Arrived::new(self.calls.len());
        let mut replaced: BTreeSet<ValueId> = BTreeSet::new();
        let mut open: Vec<usize> = seen.iter().map(|id| self.by_id.get(id).copied()).collect::<Option<_>>()?;
        while let Some(write) = open.pop() {
            if arrived.has(write) {
                continue;
            }
            arrived.add(write);
            let (overwrites, _) = written(&self.calls[write])?;
            replaced.extend(overwrites);
            open.extend(overwrites.iter().filter_map(|id| self.by_id.get(id)));
        }
        seen.is_disjoint(&replaced).then_some(arrived)
    }
}

/// What happens between two sets, or at one.
#[derive(Default)]
struct Level {
    /// Requests that saw exactly this.
    saw: Vec<usize>,
    /// The write of this site that leads from here to the next set.
    write: Option<usize>,
}

/// An order of `calls` that explains all answers.
pub(super) fn explain(calls: &Calls) -> Option<Vec<usize>> {
    let writes = Writes::new(calls)?;
    let mut levels: BTreeMap<Arrived, Level> = BTreeMap::new();
    let (mut anywhere, mut stale) = (Vec::new(), Vec::new());
    for (place, call) in calls.iter().enumerate() {
        let write = match (&call.asked, call.answered.as_ref().map(|(_, answer)| answer)) {
            (FieldCall::Here(Asked::Read), Some(Answered::Saw(seen))) => {
                levels.entry(writes.behind(seen)?).or_default().saw.push(place);
                continue;
            }
            (FieldCall::Here(Asked::Write { overwrites, .. }), Some(Answered::Stale)) => {
                stale.push((place, writes.behind(overwrites)));
                continue;
            }
            (FieldCall::Here(Asked::Write { .. }), Some(Answered::Refused)) => {
                anywhere.push(place);
                continue;
            }
            (FieldCall::Here(Asked::Write { overwrites, .. }), Some(Answered::Accepted)) => overwrites,
            (FieldCall::Foreign { .. } | FieldCall::Here(_), None) => continue,
            _ => return None,
        };
        add_write(&mut levels, &writes, place, write)?;
    }
    // A write of this site without an answer was accepted if anything that was seen rests on it.
    let all = levels.last_key_value().map(|(arrived, _)| arrived.clone()).unwrap_or_else(|| Arrived::new(calls.len()));
    for (place, call) in calls.iter().enumerate() {
        if let (FieldCall::Here(Asked::Write { overwrites, .. }), None) = (&call.asked, &call.answered)
            && all.has(place)
        {
            add_write(&mut levels, &writes, place, overwrites)?;
        }
    }
    in_time(calls, &levels, anywhere, &stale)
}

fn add_write(
    levels: &mut BTreeMap<Arrived, Level>,
    writes: &Writes<'_>,
    place: usize,
    overwrites: &Values,
) -> Option<()> {
    let before = writes.behind(overwrites)?;
    let mut after = before.clone();
    after.add(place);
    if before.has(place) || levels.entry(before).or_default().write.replace(place).is_some() {
        return None;
    }
    levels.entry(after).or_default();
    Some(())
}

/// The levels one after the other, each request as early as it may be. Each of `stale` comes with the set that its author
/// took for the present one.
fn in_time(
    calls: &Calls,
    levels: &BTreeMap<Arrived, Level>,
    anywhere: Vec<usize>,
    stale: &[(usize, Option<Arrived>)],
) -> Option<Vec<usize>> {
    // With the moment at which each takes effect, and what has arrived after it.
    let mut order: Vec<(u64, usize, Arrived)> = Vec::with_capacity(calls.len());
    let mut now = 0;
    let mut here = Arrived::new(calls.len());
    let fits = |call: usize, at: u64| calls[call].answered.as_ref().is_none_or(|(moment, _)| at <= *moment);
    let mut by_write = None;
    for (arrived, level) in levels {
        if !here.is_within(arrived) {
            return None;
        }
        let mut arriving: Vec<usize> = (0..calls.len()).filter(|&call| arrived.has(call) && !here.has(call)).collect();
        arriving.sort_by_key(|&call| calls[call].called);
        for call in arriving {
            let is_here = matches!(calls[call].asked, FieldCall::Here(_));
            now = now.max(calls[call].called);
            if (is_here && by_write != Some(call)) || !fits(call, now) {
                return None;
            }
            here.add(call);
            order.push((now, call, here.clone()));
        }
        let begins = now;
        for &call in &level.saw {
            let at = begins.max(calls[call].called);
            if !fits(call, at) {
                return None;
            }
            now = now.max(at);
            order.push((at, call, here.clone()));
        }
        // The order of those that saw the same is that of their moments.
        let from = order.len() - level.saw.len();
        order[from..].sort_unstable();
        by_write = level.write;
    }
    for (call, seen) in stale {
        let Call { called, answered, .. } = &calls[*call];
        let ends = answered.as_ref().map_or(u64::MAX, |(moment, _)| *moment);
        // Between two requests at which something else has arrived than its author saw.
        let first = order.partition_point(|(moment, ..)| moment < called);
        let after = |at: usize| at.checked_sub(1).map(|before| &order[before]);
        let place = (first..=order.len()).find(|&at| match after(at) {
            Some((moment, _, arrived)) => *moment <= ends && seen.as_ref() != Some(arrived),
            None => seen.as_ref().is_some_and(|seen| seen.count > 0),
        })?;
        let (moment, arrived) = match after(place) {
            Some((moment, _, arrived)) => ((*called).max(*moment), arrived.clone()),
            None => (*called, Arrived::new(calls.len())),
        };
        order.insert(place, (moment, *call, arrived));
    }
    // What was refused changes nothing, so it fits where it was called.
    for call in anywhere {
        let at = order.partition_point(|(moment, ..)| *moment < calls[call].called);
        let arrived = at.checked_sub(1).map_or_else(|| Arrived::new(calls.len()), |before| order[before].2.clone());
        order.insert(at, (calls[call].called, call, arrived));
    }
    Some(order.into_iter().map(|(_, call, _)| call).collect())
}
