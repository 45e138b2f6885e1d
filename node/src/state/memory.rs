//! State in memory: a sorted map. For tests and the simulator; the same calls give the same bytes.
//!
//! It forgets like a disk. [`MemoryState::lose_unsynced`] is a power cut: batches applied since the last `sync` are gone,
//! but for as many of the oldest as the caller lets survive (a real engine may have written them back). A batch survives
//! whole or not at all. [`MemoryState::rot`] flips a bit of a stored value.
//!
//! Between two processes of a machine stand [`MemoryState::after_power_cut`] and [`MemoryState::after_kill`]: the next
//! process gets a state of its own, and whatever is left of the old one can neither read nor write any more.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

use dinhba_core::store::{Batch, Scan, StateEngine, StateView, StoreError};

use super::Writes;
use super::overlaid::{Base, Overlaid, Pairs};
use crate::seal::{Codec, Sealer};

/// So many unsynced batches can be lost. Older ones count as written back, as they would be on any disk in time.
const UNSYNCED_BATCHES_MAX: usize = 16_384;

#[derive(Default)]
struct MemoryBase {
    pairs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Per unsynced batch, oldest first, what it replaced. Behind a lock only because `sync` shares the map with readers.
    undo: Mutex<VecDeque<Writes>>,
}

impl MemoryBase {
    fn undo(&mut self) -> &mut VecDeque<Writes> {
        self.undo.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) -> Option<Vec<u8>> {
        match value {
            Some(value) => self.pairs.insert(key, value),
            None => self.pairs.remove(&key),
        }
    }
}

impl Base for MemoryBase {
    fn place(&self) -> String {
        "memory".to_owned()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.pairs.get(key).cloned())
    }

    fn page(&self, from: &[u8], to: &[u8], backwards: bool, limit: usize) -> Result<Pairs, StoreError> {
        if from >= to {
            return Ok(Pairs::new());
        }
        let range = self.pairs.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        let copy = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
        Ok(if backwards {
            let mut page: Pairs = range.rev().take(limit).map(copy).collect();
            page.reverse();
            page
        } else {
            range.take(limit).map(copy).collect()
        })
    }

    fn admit(&self, _writes: &Writes) -> Result<(), StoreError> {
        Ok(())
    }

    fn write(&mut self, writes: &Writes) -> Result<(), StoreError> {
        let mut replaced = Writes::new();
        for (key, value) in writes {
            replaced.insert(key.clone(), self.set(key.clone(), value.clone()));
        }
        let undo = self.undo();
        undo.push_back(replaced);
        if undo.len() > UNSYNCED_BATCHES_MAX {
            undo.pop_front();
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.undo.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }
}

/// State in memory, which can forget and rot.
pub struct MemoryState(Overlaid<MemoryBase>);

impl MemoryState {
    /// An empty state.
    #[must_use]
    pub fn new(sealer: Arc<dyn Sealer>) -> Self {
        MemoryState(Overlaid::new(MemoryBase::default(), Codec::uncompressed(sealer)))
    }

    /// How many batches a power cut could take now.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.0.with_base(|base| base.undo().len())
    }

    /// A power cut: undoes the batches since the last `sync`, newest first, until only the `keep` oldest of them are
    /// left. Those then count as synced. A view that is still open means nothing any more: no reader outlives a power
    /// cut, and [`after_power_cut`](Self::after_power_cut) sees to that.
    pub fn lose_unsynced(&self, keep: usize) {
        self.0.with_base(|base| {
            while base.undo().len() > keep {
                for (key, value) in base.undo().pop_back().unwrap_or_default() {
                    base.set(key, value);
                }
            }
            base.undo().clear();
        });
    }

    /// The state that the next process finds after a power cut which the `keep` oldest unsynced batches survived; this one
    /// is empty, and each call on it is an error. At most [`unsynced`](Self::unsynced) can be kept.
    #[must_use]
    pub fn after_power_cut(&self, keep: usize) -> MemoryState {
        self.lose_unsynced(keep);
        self.after_kill()
    }

    /// The state that the next process finds after this one was killed: everything, what is unsynced still so. This one
    /// is empty, and each call on it is an error.
    #[must_use]
    pub fn after_kill(&self) -> MemoryState {
        self.0.stop("the process of this state is dead");
        self.with(self.0.with_base(std::mem::take))
    }

    /// A backup: everything that can be read now, all of it synced there.
    #[must_use]
    pub fn copy(&self) -> MemoryState {
        let pairs = self.0.with_base(|base| base.pairs.clone());
        self.with(MemoryBase { pairs, undo: Mutex::default() })
    }

    fn with(&self, base: MemoryBase) -> MemoryState {
        MemoryState(Overlaid::new(base, self.0.codec().clone()))
    }

    /// Flips one bit of some stored value and returns its key; `pick` chooses both. `None` if the state is empty.
    pub fn rot_any(&self, pick: u64) -> Option<Vec<u8>> {
        let (key, bit) = self.0.with_base(|base| {
            let count = base.pairs.len() as u64;
            let place = usize::try_from(pick.checked_rem(count)?).ok()?;
            let (key, stored) = base.pairs.iter().nth(place)?;
            let bit = (pick / count).checked_rem(stored.len() as u64 * 8)?;
            Some((key.clone(), usize::try_from(bit).ok()?))
        })?;
        self.rot(&key, bit).then_some(key)
    }

    /// Flips one bit of what is stored under `key`; `bit` counts from the start of the stored bytes and wraps around at
    /// their end. False if the key is not there.
    pub fn rot(&self, key: &[u8], bit: usize) -> bool {
        self.0.with_base(|base| match base.pairs.get_mut(key) {
            Some(stored) => {
                let bit = bit % (stored.len() * 8);
                stored[bit / 8] ^= 1 << (bit % 8);
                true
            }
            None => false,
        })
    }
}

impl StateView for MemoryState {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.get(key)
    }
    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> Scan<'a> {
        self.0.scan(from, to)
    }
}

impl StateEngine for MemoryState {
    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        self.0.apply(batch)
    }
    fn sync(&self) -> Result<(), StoreError> {
        self.0.sync()
    }
    fn snapshot(&self) -> Result<Box<dyn StateView + '_>, StoreError> {
        self.0.snapshot()
    }
    fn clear(&self, from: &[u8], to: &[u8]) -> Result<(), StoreError> {
        self.0.clear(from, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::Unsealed;

    fn put(key: u8, value: u8) -> Batch {
        Batch { writes: vec![(vec![key], Some(vec![value])), (vec![0], Some(vec![value]))] }
    }

    #[test]
    fn a_power_cut_takes_the_newest_batches_whole() {
        let state = MemoryState::new(Arc::new(Unsealed));
        state.apply(put(1, 1)).unwrap();
        state.sync().unwrap();
        for value in 2..5 {
            state.apply(put(value, value)).unwrap();
        }
        state.clear(&[1], &[2]).unwrap();
        assert_eq!(state.unsynced(), 4);
        state.lose_unsynced(1);
        assert_eq!(state.unsynced(), 0);
        let keys: Vec<_> = state.scan(&[0], &[9]).map(|item| item.unwrap()).collect();
        assert_eq!(keys, [(vec![0], vec![2]), (vec![1], vec![1]), (vec![2], vec![2])]);
    }

    #[test]
    fn rot_is_damage_and_names_the_key() {
        let state = MemoryState::new(Arc::new(Unsealed));
        state.apply(put(171, 1)).unwrap();
        assert!(!state.rot(&[1], 0));
        assert!(state.rot(&[171], 77));
        assert!(matches!(state.get(&[171]), Err(StoreError::Corrupt { place, .. }) if place == "key ab"));
        let walked: Vec<_> = state.scan(&[0], &[255]).map(|item| item.is_ok()).collect();
        assert_eq!(walked, [true, false]);
    }

    fn pairs(state: &MemoryState) -> Vec<(Vec<u8>, Vec<u8>)> {
        state.scan(&[0], &[255]).map(|item| item.unwrap()).collect()
    }

    #[test]
    fn the_next_process_has_what_survived_and_the_old_one_nothing() {
        let old = MemoryState::new(Arc::new(Unsealed));
        old.apply(put(1, 1)).unwrap();
        old.sync().unwrap();
        old.apply(put(2, 2)).unwrap();
        old.apply(put(3, 3)).unwrap();
        let everything = pairs(&old);
        let view = old.snapshot().unwrap();

        let killed = old.after_kill();
        let dead = |error: StoreError| matches!(error, StoreError::Poisoned(_));
        assert!(old.apply(put(4, 4)).is_err_and(dead) && old.sync().is_err_and(dead) && old.get(&[1]).is_err_and(dead));
        assert!(view.get(&[1]).is_err_and(dead) && old.scan(&[0], &[9]).next().is_some_and(|item| item.is_err()));
        drop(view);
        drop(old);
        assert_eq!(pairs(&killed), everything);
        assert_eq!(killed.unsynced(), 2);

        let cut = killed.after_power_cut(1);
        assert!(killed.apply(put(4, 4)).is_err_and(dead));
        assert_eq!(pairs(&cut), [(vec![0], vec![2]), (vec![1], vec![1]), (vec![2], vec![2])]);
        assert_eq!(cut.unsynced(), 0);
        cut.apply(put(5, 5)).unwrap();
    }

    #[test]
    fn a_backup_goes_its_own_way_and_any_value_rots() {
        let state = MemoryState::new(Arc::new(Unsealed));
        assert_eq!(state.rot_any(7), None);
        state.apply(put(1, 1)).unwrap();
        let backup = state.copy();
        state.apply(put(2, 2)).unwrap();
        assert_eq!(backup.unsynced(), 0);
        assert_eq!(pairs(&backup), [(vec![0], vec![1]), (vec![1], vec![1])]);
        for pick in 0..100 {
            let state = state.copy();
            let key = state.rot_any(pick).unwrap();
            let damaged: Vec<u8> = (0..3).filter(|key| state.get(&[*key]).is_err()).collect();
            assert_eq!(damaged, key, "pick {pick}");
        }
        let keys: Vec<Vec<u8>> = (0..3).filter_map(|pick| state.copy().rot_any(pick)).collect();
        assert_eq!(keys, [[0], [1], [2]]);
    }
}
