//! The tree as a state engine: what is under a key is encoded on its way in, and decoded on its way out; what is written once is had from segments.

use std::path::Path;
use std::sync::Arc;

use dinhba_core::store::{Batch, Scan, ScanItem, StateEngine, StateView, StoreError};
use lsm_tree::{AbstractTree, Guard, IterGuardImpl};

use super::{END_KEY, Moment, Shared, Unjournaled, is_grown};
use crate::seal::{Codec, Sealer};
use crate::state::{CLEAR_BATCH_KEYS, in_order};

/// A node's state in a tree without a journal.
pub(in crate::state) struct LsmState {
    pub(super) tree: Unjournaled,
    pub(super) codec: Codec,
}

impl LsmState {
    /// Opens or makes a tree in `dir`.
    pub(in crate::state) fn open(dir: &Path, sealer: Arc<dyn Sealer>) -> Result<Self, StoreError> {
        Ok(LsmState { tree: Unjournaled::open(dir, Arc::clone(&sealer))?, codec: Codec::new(sealer) })
    }

    fn decode(&self, key: &[u8], stored: &[u8]) -> Result<Vec<u8>, StoreError> {
        if is_grown(key) { self.shared().grown(key, stored) } else { self.codec.decode(key, stored) }
    }

    fn shared(&self) -> &Shared {
        &self.tree.shared
    }

    fn get_at(&self, moment: &Moment, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        // A key that is not there may be empty, or longer than any that is.
        if key.is_empty() {
            return Ok(None);
        }
        let stored = self.shared().get(moment, key)?;
        stored.map(|stored| self.decode(key, &stored)).transpose()
    }

    fn walk<'a>(&'a self, moment: &Arc<Moment>, from: &[u8], to: &[u8]) -> Scan<'a> {
        let to = to.min(&END_KEY[..]);
        if from >= to {
            return Box::new(std::iter::empty());
        }
        match self.shared().read(|| Ok(self.shared().tree.range(from..to, moment.number, None))) {
            Ok(iter) => Box::new(Walk { engine: self, iter: Some(iter), _moment: Arc::clone(moment) }),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }
}

impl StateView for LsmState {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.get_at(&self.shared().latest(), key)
    }

    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> Scan<'a> {
        self.walk(&self.shared().latest(), from, to)
    }
}

impl StateEngine for LsmState {
    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        self.tree.commit(in_order(
            batch,
            |key, value| {
                if is_grown(key) { value } else { self.codec.encode(key, &value) }
            },
        )?)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.tree.sync()
    }

    fn snapshot(&self) -> Result<Box<dyn StateView + '_>, StoreError> {
        let moment = self.shared().read(|| Ok(self.shared().latest()))?;
        Ok(Box::new(View { engine: self, moment }))
    }

    fn clear(&self, from: &[u8], to: &[u8]) -> Result<(), StoreError> {
        let (mut from, to) = (from.to_vec(), to.min(&END_KEY[..]));
        while from.as_slice() < to {
            let keys = self.shared().read(|| {
                let range = self.shared().tree.range(from.as_slice()..to, self.shared().latest().number, None);
                let keys = range.take(CLEAR_BATCH_KEYS).map(|guard| guard.key().map(|key| key.to_vec()));
                keys.collect::<lsm_tree::Result<Vec<_>>>()
            })?;
            // The next walk starts above the tombstones of this one, not in front of them.
            let Some(last) = keys.last() else { break };
            from = [last.as_slice(), &[0]].concat();
            self.tree.commit(keys.into_iter().map(|key| (key, None)).collect())?;
        }
        Ok(())
    }

    fn close(&self) -> Result<(), StoreError> {
        self.tree.sync()?;
        self.tree.end();
        Ok(())
    }
}

struct View<'a> {
    engine: &'a LsmState,
    moment: Arc<Moment>,
}

impl StateView for View<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.engine.get_at(&self.moment, key)
    }

    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> Scan<'a> {
        self.engine.walk(&self.moment, from, to)
    }
}

/// A walk that ends after its first error.
struct Walk<'a> {
    engine: &'a LsmState,
    iter: Option<Box<dyn DoubleEndedIterator<Item = IterGuardImpl> + Send>>,
    _moment: Arc<Moment>,
}

impl Walk<'_> {
    fn step(
        &mut self,
        step: impl FnOnce(&mut (dyn DoubleEndedIterator<Item = IterGuardImpl> + Send)) -> Option<IterGuardImpl>,
    ) -> Option<ScanItem> {
        let iter = self.iter.as_mut()?;
        let pair = self.engine.shared().read(|| step(&mut **iter).map(Guard::into_inner).transpose()).transpose()?;
        let item = pair.and_then(|(key, stored)| Ok((key.to_vec(), self.engine.decode(&key, &stored)?)));
        if item.is_err() {
            self.iter = None;
        }
        Some(item)
    }
}

impl Iterator for Walk<'_> {
    type Item = ScanItem;
    fn next(&mut self) -> Option<ScanItem> {
        self.step(|iter| iter.next())
    }
}

impl DoubleEndedIterator for Walk<'_> {
    fn next_back(&mut self) -> Option<ScanItem> {
        self.step(|iter| iter.next_back())
    }
}
