//! Snapshots for ordered maps that have none of their own.
//!
//! Each open view keeps the values that later batches replace (its *overlay*); reading through a view looks there first.
//! A write costs one look-up per key and open view, a snapshot costs nothing until something is written, and closing it
//! frees what it kept. A walk over a live engine is a view that closes with the walk.
//!
//! Promises the isolation of [`StateEngine`]; leaves atomicity across power loss and durability to the [`Base`].
//! Limit: an overlay is memory; a view is meant to be closed within the time of a snapshot transfer.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use dinhba_core::store::{Batch, Scan, ScanItem, StateEngine, StateView, StoreError};

use super::{CLEAR_BATCH_KEYS, Poison, Writes, fold};
use crate::seal::Codec;

/// A walk fetches this many pairs under one lock: at about 1 KB each, 64 KB per walk.
const PAGE_PAIRS: usize = 64;

/// Stored pairs, in order of their keys.
pub(super) type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// An ordered map of stored bytes, without snapshots.
pub(super) trait Base: Send + Sync {
    /// Its name and place, for messages.
    fn place(&self) -> String;
    /// The stored bytes under `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
    /// Up to `limit` pairs of `from..to`: the first ones, or with `backwards` the last ones; in order of their keys.
    fn page(&self, from: &[u8], to: &[u8], backwards: bool, limit: usize) -> Result<Pairs, StoreError>;
    /// Refuses writes that this map cannot hold, before anything is changed.
    fn admit(&self, writes: &Writes) -> Result<(), StoreError>;
    /// All of `writes` or none, across power loss too; or the next opening reports damage.
    fn write(&mut self, writes: &Writes) -> Result<(), StoreError>;
    /// Makes everything earlier durable, with the same exception. Others may read meanwhile, none writes.
    fn sync(&self) -> Result<(), StoreError>;
    /// Ends it in order, with everything durable. Not called twice, nor after a failure.
    fn close(&mut self) -> Result<(), StoreError> {
        self.sync()
    }
}

/// A [`Base`] with views.
pub(super) struct Overlaid<B: Base> {
    inner: RwLock<Inner<B>>,
    codec: Codec,
    poison: Poison,
    place: String,
}

struct Inner<B> {
    base: B,
    next_view: u64,
    views: BTreeMap<u64, Writes>,
}

impl<B: Base> Inner<B> {
    /// Writes, and keeps for every view what it still has to see.
    fn write(&mut self, writes: &Writes) -> Result<(), StoreError> {
        if !self.views.is_empty() {
            for key in writes.keys() {
                let before = self.base.get(key)?;
                for overlay in self.views.values_mut() {
                    overlay.entry(key.clone()).or_insert_with(|| before.clone());
                }
            }
        }
        self.base.write(writes)
    }
}

impl<B: Base> Overlaid<B> {
    pub(super) fn new(base: B, codec: Codec) -> Self {
        let place = base.place();
        let inner = Inner { base, next_view: 0, views: BTreeMap::new() };
        Overlaid { inner: RwLock::new(inner), codec, poison: Poison::default(), place }
    }

    /// Runs `work` on the base, past the codec and the views: for what only one engine can do.
    pub(super) fn with_base<T>(&self, work: impl FnOnce(&mut B) -> T) -> T {
        work(&mut self.exclusive().base)
    }

    /// Makes every later call an error.
    pub(super) fn stop(&self, reason: &str) {
        let _stopped_earlier = self.poison.0.set(reason.to_owned());
    }

    pub(super) fn codec(&self) -> &Codec {
        &self.codec
    }

    // A panic under the lock has poisoned the engine through `Poison`, so the lock's own poison adds nothing.
    fn shared(&self) -> RwLockReadGuard<'_, Inner<B>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }
    fn exclusive(&self) -> RwLockWriteGuard<'_, Inner<B>> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_view(&self) -> View<'_, B> {
        let mut inner = self.exclusive();
        let id = inner.next_view;
        inner.next_view += 1;
        inner.views.insert(id, Writes::new());
        View { engine: self, id }
    }
}

impl<B: Base> StateView for Overlaid<B> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let stored = self.poison.read(&self.place, || self.shared().base.get(key))?;
        stored.map(|stored| self.codec.decode(key, &stored)).transpose()
    }

    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> Scan<'a> {
        let view = self.open_view();
        let id = view.id;
        Box::new(Walk::new(self, id, Some(view), from, to))
    }
}

impl<B: Base> StateEngine for Overlaid<B> {
    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        let writes = fold(batch, &self.codec)?;
        let mut inner = self.exclusive();
        inner.base.admit(&writes)?;
        self.poison.write(&self.place, || inner.write(&writes))
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.poison.write(&self.place, || self.shared().base.sync())
    }

    fn snapshot(&self) -> Result<Box<dyn StateView + '_>, StoreError> {
        self.poison.read(&self.place, || Ok(()))?;
        Ok(Box::new(self.open_view()))
    }

    fn clear(&self, from: &[u8], to: &[u8]) -> Result<(), StoreError> {
        let mut inner = self.exclusive();
        self.poison.write(&self.place, || {
            loop {
                let page = inner.base.page(from, to, false, CLEAR_BATCH_KEYS)?;
                if page.is_empty() {
                    break;
                }
                inner.write(&page.into_iter().map(|(key, _)| (key, None)).collect())?;
            }
            Ok(())
        })
    }

    fn close(&self) -> Result<(), StoreError> {
        self.poison.write(&self.place, || self.exclusive().base.close())?;
        self.stop("it was closed");
        Ok(())
    }
}

struct View<'a, B: Base> {
    engine: &'a Overlaid<B>,
    id: u64,
}

impl<B: Base> Drop for View<'_, B> {
    fn drop(&mut self) {
        self.engine.exclusive().views.remove(&self.id);
    }
}

impl<B: Base> StateView for View<'_, B> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let engine = self.engine;
        let stored = engine.poison.read(&engine.place, || {
            let inner = engine.shared();
            match inner.views.get(&self.id).and_then(|overlay| overlay.get(key)) {
                Some(before) => Ok(before.clone()),
                None => inner.base.get(key),
            }
        })?;
        stored.map(|stored| engine.codec.decode(key, &stored)).transpose()
    }

    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> Scan<'a> {
        Box::new(Walk::new(self.engine, self.id, None, from, to))
    }
}

/// A walk through the view `id`, a page at a time from either end. What lies in `from..to` is not fetched yet.
struct Walk<'a, B: Base> {
    engine: &'a Overlaid<B>,
    id: u64,
    _own: Option<View<'a, B>>,
    from: Vec<u8>,
    to: Vec<u8>,
    front: VecDeque<(Vec<u8>, Vec<u8>)>,
    back: VecDeque<(Vec<u8>, Vec<u8>)>,
}

impl<'a, B: Base> Walk<'a, B> {
    fn new(engine: &'a Overlaid<B>, id: u64, own: Option<View<'a, B>>, from: &[u8], to: &[u8]) -> Self {
        let (front, back) = (VecDeque::new(), VecDeque::new());
        Walk { engine, id, _own: own, from: from.to_vec(), to: to.to_vec(), front, back }
    }

    /// Fetches the next page that is not empty from the given end, if there is any.
    fn fetch(&mut self, backwards: bool) -> Result<(), StoreError> {
        while self.from < self.to {
            let (from, to) = (&self.from, &self.to);
            let engine = self.engine;
            let (window_from, window_to, pairs) = engine.poison.read(&engine.place, || {
                let inner = engine.shared();
                let page = inner.base.page(from, to, backwards, PAGE_PAIRS)?;
                let (mut window_from, mut window_to) = (from.clone(), to.clone());
                if page.len() == PAGE_PAIRS {
                    match (backwards, page.first(), page.last()) {
                        (true, Some((first, _)), _) => window_from = first.clone(),
                        // The least key above `last`.
                        (false, _, Some((last, _))) => window_to = [last.as_slice(), &[0]].concat(),
                        _ => {}
                    }
                }
                let mut pairs: BTreeMap<_, _> = page.into_iter().collect();
                if let Some(overlay) = inner.views.get(&self.id) {
                    let window = (Bound::Included(&window_from), Bound::Excluded(&window_to));
                    for (key, before) in overlay.range::<Vec<u8>, _>(window) {
                        match before {
                            Some(value) => pairs.insert(key.clone(), value.clone()),
                            None => pairs.remove(key),
                        };
                    }
                }
                Ok((window_from, window_to, pairs))
            })?;
            if backwards {
                self.to = window_from;
            } else {
                self.from = window_to;
            }
            if !pairs.is_empty() {
                if backwards { &mut self.back } else { &mut self.front }.extend(pairs);
                break;
            }
        }
        Ok(())
    }

    fn decode(&self, (key, stored): (Vec<u8>, Vec<u8>)) -> ScanItem {
        let value = self.engine.codec.decode(&key, &stored)?;
        Ok((key, value))
    }

    /// Ends the walk after an error.
    fn fail(&mut self, error: StoreError) -> ScanItem {
        self.from.clone_from(&self.to);
        self.front.clear();
        self.back.clear();
        Err(error)
    }
}

impl<B: Base> Iterator for Walk<'_, B> {
    type Item = ScanItem;
    fn next(&mut self) -> Option<ScanItem> {
        if self.front.is_empty()
            && let Err(error) = self.fetch(false)
        {
            return Some(self.fail(error));
        }
        let pair = self.front.pop_front().or_else(|| self.back.pop_front())?;
        Some(self.decode(pair).or_else(|error| self.fail(error)))
    }
}

impl<B: Base> DoubleEndedIterator for Walk<'_, B> {
    fn next_back(&mut self) -> Option<ScanItem> {
        if self.back.is_empty()
            && let Err(error) = self.fetch(true)
        {
            return Some(self.fail(error));
        }
        let pair = self.back.pop_back().or_else(|| self.front.pop_back())?;
        Some(self.decode(pair).or_else(|error| self.fail(error)))
    }
}

impl<B: Base> Drop for Overlaid<B> {
    /// An orderly end loses nothing. Who cares whether it worked calls `close` and looks.
    fn drop(&mut self) {
        if !self.poison.is_set()
            && let Err(error) = self.close()
        {
            tracing::error!(place = %self.place, %error, "state not closed in order at shutdown");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::seal::Unsealed;

    /// A disk that is full.
    struct Full;

    impl Base for Full {
        fn place(&self) -> String {
            "full".to_owned()
        }
        fn get(&self, _key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
            Ok(None)
        }
        fn page(&self, _from: &[u8], _to: &[u8], _backwards: bool, _limit: usize) -> Result<Pairs, StoreError> {
            Ok(Pairs::new())
        }
        fn admit(&self, _writes: &Writes) -> Result<(), StoreError> {
            Ok(())
        }
        fn write(&mut self, _writes: &Writes) -> Result<(), StoreError> {
            Ok(())
        }
        fn sync(&self) -> Result<(), StoreError> {
            Err(StoreError::Full("no space".to_owned()))
        }
    }

    #[test]
    fn a_failed_sync_stops_the_engine() {
        let state = Overlaid::new(Full, Codec::new(Arc::new(Unsealed)));
        state.apply(Batch::default()).unwrap();
        assert!(matches!(state.sync(), Err(StoreError::Full(_))));
        let poisoned = |error: StoreError| matches!(error, StoreError::Poisoned(_));
        assert!(state.sync().is_err_and(poisoned) && state.apply(Batch::default()).is_err_and(poisoned));
        assert!(state.get(b"a").is_err_and(poisoned) && state.clear(b"a", b"b").is_err_and(poisoned));
        assert!(state.snapshot().map(drop).is_err_and(poisoned));
        assert!(state.scan(b"a", b"b").next().is_some_and(|item| item.is_err_and(poisoned)));
    }
}
