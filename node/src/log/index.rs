//! Where each group's log stands, in memory: votes, purge marks, and per entry its place on the disk.
//!
//! Owns the logical state of all groups, the count of live entries per segment, and the cache of recent entries. Staging
//! and recovery change it through the same four calls. An entry's bytes stay here until they are on the disk; from then
//! on they may be evicted, oldest first.
//!
//! Limit: 48 bytes per live entry stay in memory, so logs are to be purged.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use dinhba_core::ids::GroupId;

/// So many entries may be cached, whatever their size: a bound for the queue that evicts.
const CACHED_ENTRIES_MAX: usize = 16_384;

/// One entry: where it lies, and its plain bytes while they are cached.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub segment: u64,
    pub offset: u64,
    pub length: u32,
    pub sequence: u64,
    pub bytes: Option<Arc<[u8]>>,
}

/// One group.
#[derive(Debug, Default)]
pub(super) struct GroupLog {
    pub vote: Option<Vec<u8>>,
    pub purged: Option<(u64, Vec<u8>)>,
    /// The index of the first slot, if there is one.
    pub first: u64,
    pub slots: VecDeque<Slot>,
}

impl GroupLog {
    /// The index after the last entry, present or purged; `None` if there never was one.
    pub fn next(&self) -> Option<u64> {
        if self.slots.is_empty() {
            self.purged.as_ref().map(|(index, _)| index + 1)
        } else {
            Some(self.first + self.slots.len() as u64)
        }
    }

    pub fn slot(&self, index: u64) -> Option<&Slot> {
        self.slots.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }
}

/// All groups.
#[derive(Debug)]
pub(super) struct Index {
    groups: BTreeMap<GroupId, GroupLog>,
    /// Per segment, oldest first, how many entries in it are live.
    live: BTreeMap<u64, u64>,
    cache_bytes_max: usize,
    cached_bytes: usize,
    /// All frames up to this sequence are on the disk: their slots count as cached and may be evicted.
    settled: u64,
    cached: VecDeque<(GroupId, u64, u64)>,
    unsettled: VecDeque<(GroupId, u64, u64)>,
}

impl Index {
    pub fn new(cache_bytes_max: usize) -> Self {
        Index {
            groups: BTreeMap::new(),
            live: BTreeMap::new(),
            cache_bytes_max,
            cached_bytes: 0,
            settled: 0,
            cached: VecDeque::new(),
            unsettled: VecDeque::new(),
        }
    }

    pub fn groups(&self) -> &BTreeMap<GroupId, GroupLog> {
        &self.groups
    }

    /// The group, known from now on.
    pub fn known(&mut self, group: GroupId) -> &mut GroupLog {
        self.groups.entry(group).or_default()
    }

    pub fn add_segment(&mut self, segment: u64) {
        self.live.entry(segment).or_default();
    }

    /// The oldest segment, if it is older than `active` and no entry in it is live.
    pub fn dead_segment(&self, active: u64) -> Option<u64> {
        let (segment, live) = self.live.first_key_value()?;
        (*segment < active && *live == 0).then_some(*segment)
    }

    pub fn remove_segment(&mut self, segment: u64) {
        self.live.remove(&segment);
    }

    /// Adds the entry at `index`, which must be the next one, or any if the group has no entries.
    pub fn push(&mut self, group: GroupId, index: u64, slot: Slot) {
        *self.live.entry(slot.segment).or_default() += 1;
        if slot.bytes.is_some() {
            self.unsettled.push_back((group, index, slot.sequence));
        }
        let log = self.groups.entry(group).or_default();
        if log.slots.is_empty() {
            log.first = index;
        }
        log.slots.push_back(slot);
    }

    pub fn truncate(&mut self, group: GroupId, index: u64) {
        let log = self.groups.entry(group).or_default();
        let keep = usize::try_from(index.saturating_sub(log.first)).unwrap_or(usize::MAX);
        let gone = log.slots.split_off(keep.min(log.slots.len()));
        self.forget(gone);
    }

    pub fn purge(&mut self, group: GroupId, index: u64, mark: Vec<u8>) {
        let log = self.groups.entry(group).or_default();
        log.purged = Some((index, mark));
        let Some(past) = (index + 1).checked_sub(log.first) else { return };
        let count = usize::try_from(past).unwrap_or(usize::MAX).min(log.slots.len());
        let gone: VecDeque<Slot> = log.slots.drain(..count).collect();
        log.first += count as u64;
        self.forget(gone);
    }

    fn forget(&mut self, gone: VecDeque<Slot>) {
        for slot in gone {
            if let Some(live) = self.live.get_mut(&slot.segment) {
                *live -= 1;
            }
            if let Some(bytes) = slot.bytes
                && slot.sequence <= self.settled
            {
                self.cached_bytes -= bytes.len();
            }
        }
    }

    /// Frames up to `sequence` are on the disk. Evicts what the cache cannot hold.
    pub fn settle(&mut self, sequence: u64) {
        self.settled = sequence;
        while let Some((group, index, at)) = self.unsettled.pop_front_if(|(_, _, at)| *at <= sequence) {
            if let Some(bytes) = self.bytes_mut(group, index, at).as_ref().and_then(|bytes| bytes.as_ref()) {
                let length = bytes.len();
                self.cached_bytes += length;
                self.cached.push_back((group, index, at));
            }
        }
        while self.cached_bytes > self.cache_bytes_max || self.cached.len() > CACHED_ENTRIES_MAX {
            let Some((group, index, at)) = self.cached.pop_front() else { break };
            if let Some(bytes) = self.bytes_mut(group, index, at).and_then(Option::take) {
                self.cached_bytes -= bytes.len();
            }
        }
    }

    /// The cached bytes of an entry, if it still is the one that was written as `sequence`.
    fn bytes_mut(&mut self, group: GroupId, index: u64, sequence: u64) -> Option<&mut Option<Arc<[u8]>>> {
        let log = self.groups.get_mut(&group)?;
        let slot = log.slots.get_mut(usize::try_from(index.checked_sub(log.first)?).ok()?)?;
        (slot.sequence == sequence).then_some(&mut slot.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(sequence: u64, length: usize) -> Slot {
        Slot { segment: 1, offset: 0, length: 0, sequence, bytes: Some(vec![0; length].into()) }
    }

    #[test]
    fn the_cache_evicts_the_oldest_that_are_on_the_disk_and_nothing_else() {
        let group = GroupId(1);
        let mut index = Index::new(100);
        for at in 1..=4 {
            index.push(group, at, slot(at, 40));
        }
        let cached =
            |index: &Index| index.groups[&group].slots.iter().map(|slot| slot.bytes.is_some()).collect::<Vec<_>>();
        assert_eq!(cached(&index), [true; 4], "nothing is on the disk yet");
        index.settle(3);
        assert_eq!(cached(&index), [false, true, true, true]);
        index.truncate(group, 3);
        assert_eq!(index.cached_bytes, 40);
        index.push(group, 3, slot(5, 70));
        index.settle(5);
        assert_eq!(cached(&index), [false, false, true]);
        index.purge(group, 9, Vec::new());
        assert_eq!((index.cached_bytes, index.dead_segment(2)), (0, Some(1)));
    }
}
