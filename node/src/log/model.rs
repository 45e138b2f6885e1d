//! What a log should hold: a `Vec` per group. The property test and the crash tests compare with it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use dinhba_core::ids::GroupId;
use dinhba_core::store::{LogState, StoreError};
use proptest::prelude::*;

use super::faulty::FaultyDisk;
use super::{LogOptions, SegmentLog};
use crate::seal::Unsealed;

/// Small enough that a few ops rotate, free and recycle segments.
pub(super) const SMALL: LogOptions = LogOptions { segment_bytes: 512, cache_bytes: 128 };
pub(super) const DIR: &str = "log";

pub(super) fn open(disk: &FaultyDisk) -> Result<SegmentLog, StoreError> {
    SegmentLog::open_with(Arc::new(disk.clone()), Path::new(DIR), Arc::new(Unsealed), SMALL)
}

/// One call. Indexes are relative to where the group's log ends, so that any list of ops makes sense.
#[derive(Debug, Clone)]
pub(super) enum Op {
    /// So many entries of so many bytes.
    Append(u64, usize, usize),
    Vote(u64, u8),
    /// Drops so many entries from the end.
    Truncate(u64, u64),
    /// Purges up to so many entries above the first one; may go beyond the end.
    Purge(u64, u64),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ModelGroup {
    pub vote: Option<Vec<u8>>,
    pub purged: Option<(u64, Vec<u8>)>,
    pub entries: Vec<(u64, Vec<u8>)>,
}

impl ModelGroup {
    pub fn next(&self) -> u64 {
        let last = self.entries.last().map(|(index, _)| *index);
        last.or(self.purged.as_ref().map(|(index, _)| *index)).map_or(0, |index| index + 1)
    }
    pub fn first(&self) -> u64 {
        self.entries.first().map_or(self.next(), |(index, _)| *index)
    }
}

/// All groups, and a counter that makes every value different.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    pub groups: BTreeMap<GroupId, ModelGroup>,
    pub values: u64,
}

/// One durable step of an op, with absolute indexes.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Entry(GroupId, u64, Vec<u8>),
    Vote(GroupId, Vec<u8>),
    Truncate(GroupId, u64),
    Purge(GroupId, u64, Vec<u8>),
}

impl Model {
    pub fn steps(&mut self, op: &Op) -> Vec<Step> {
        self.values += 1;
        let values = self.values;
        let group = |id: u64| self.groups.get(&GroupId(id)).cloned().unwrap_or_default();
        match *op {
            Op::Append(id, count, length) => {
                let entry = |at: u64| {
                    let mut bytes = format!("{values}/{at}").into_bytes();
                    bytes.resize(bytes.len().max(length), b'.');
                    bytes
                };
                let next = group(id).next();
                (0..count as u64).map(|at| Step::Entry(GroupId(id), next + at, entry(at))).collect()
            }
            Op::Vote(id, vote) => vec![Step::Vote(GroupId(id), vec![vote, values as u8])],
            Op::Truncate(id, count) => {
                let log = group(id);
                vec![Step::Truncate(GroupId(id), log.next().saturating_sub(count).max(log.first()))]
            }
            Op::Purge(id, above) => {
                vec![Step::Purge(GroupId(id), group(id).first() + above, format!("mark {values}").into_bytes())]
            }
        }
    }

    pub fn apply(&mut self, step: &Step) {
        match step {
            Step::Entry(id, index, bytes) => self.groups.entry(*id).or_default().entries.push((*index, bytes.clone())),
            Step::Vote(id, vote) => self.groups.entry(*id).or_default().vote = Some(vote.clone()),
            Step::Truncate(id, from) => {
                if let Some(group) = self.groups.get_mut(id) {
                    group.entries.retain(|(index, _)| index < from);
                }
            }
            Step::Purge(id, to, mark) => {
                let group = self.groups.entry(*id).or_default();
                group.entries.retain(|(index, _)| index > to);
                group.purged = Some((*to, mark.clone()));
            }
        }
    }
}

/// Gives one op's steps to the log as one call.
pub(super) fn stage(log: &mut SegmentLog, steps: &[Step]) -> Result<(), StoreError> {
    match steps {
        [Step::Vote(group, vote)] => log.save_vote(*group, vote.clone()),
        [Step::Truncate(group, from)] => log.truncate_from(*group, *from),
        [Step::Purge(group, to, mark)] => log.purge_to(*group, *to, mark.clone()),
        entries => {
            let mut groups: BTreeMap<GroupId, Vec<(u64, Vec<u8>)>> = BTreeMap::new();
            for step in entries {
                if let Step::Entry(group, index, bytes) = step {
                    groups.entry(*group).or_default().push((*index, bytes.clone()));
                }
            }
            groups.into_iter().try_for_each(|(group, entries)| log.append(group, entries))
        }
    }
}

/// Everything that the log says.
pub(super) fn observe(log: &SegmentLog) -> Result<BTreeMap<GroupId, ModelGroup>, StoreError> {
    let mut groups = BTreeMap::new();
    for group in log.groups()? {
        let LogState { vote, purged, last } = log.state(group)?;
        let entries = log.read(group, 0, u64::MAX)?;
        assert_eq!(last.as_ref(), entries.last(), "state and read agree on the last entry");
        groups.insert(group, ModelGroup { vote, purged, entries });
    }
    Ok(groups)
}

fn any_op() -> impl Strategy<Value = Op> {
    let group = 1..4_u64;
    prop_oneof![
        5 => (group.clone(), 1..6_usize, 0..90_usize).prop_map(|(group, count, length)| Op::Append(group, count, length)),
        1 => (group.clone(), 0..9_u8).prop_map(|(group, vote)| Op::Vote(group, vote)),
        2 => (group.clone(), 0..5_u64).prop_map(|(group, count)| Op::Truncate(group, count)),
        2 => (group, 0..9_u64).prop_map(|(group, above)| Op::Purge(group, above)),
    ]
}

#[derive(Debug, Clone)]
enum Act {
    Do(Op),
    Flush,
    Reopen,
    PowerCut(u64),
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => any_op().prop_map(Act::Do),
        3 => Just(Act::Flush),
        1 => Just(Act::Reopen),
        1 => (0..64_u64).prop_map(Act::PowerCut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is done, flushed, closed and cut off after a flush, the log holds what a `Vec` per group would.
    #[test]
    fn a_log_is_a_vec_per_group(acts in prop::collection::vec(any_act(), 1..80)) {
        let mut disk = FaultyDisk::default();
        let mut log = open(&disk).unwrap();
        let mut model = Model::default();
        for act in &acts {
            match act {
                Act::Do(op) => {
                    let steps = model.steps(op);
                    stage(&mut log, &steps).unwrap();
                    steps.iter().for_each(|step| model.apply(step));
                }
                Act::Flush => log.flush().unwrap(),
                Act::Reopen => {
                    log.close().unwrap();
                    log = open(&disk).unwrap();
                }
                Act::PowerCut(seed) => {
                    log.flush().unwrap();
                    disk = disk.after_power_cut(*seed);
                    log = open(&disk).unwrap();
                }
            }
            prop_assert_eq!(&observe(&log).unwrap(), &model.groups);
        }
        log.close().unwrap();
        prop_assert_eq!(&observe(&open(&disk).unwrap()).unwrap(), &model.groups);
    }
}
