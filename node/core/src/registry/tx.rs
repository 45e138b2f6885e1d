//! A view with the writes of the commands so far on top: later commands of a batch see earlier ones.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::{AuthorState, Context, GroupState, ShardState, StoredEdit};
use crate::edit::{Dot, Edit};
use crate::encoding::{Malformed, Wire};
use crate::ids::{AuthorId, Hash, ShardId};
use crate::keys::{Keys, Range, Space, space_of, suffix};
use crate::level::LEVEL_FIRST;
use crate::record::Record;
use crate::store::{Batch, StateView, StoreError};

/// The state as the next command sees it.
pub struct Tx<'a> {
    view: &'a dyn StateView,
    /// What all replicas know beside the state.
    pub context: &'a Context,
    writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// What was read of the view and is asked for by one command after the other.
    held: RefCell<BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
    decoded: RefCell<Decoded>,
}

/// What each edit asks for several times, as it was read or written last: what is written otherwise is forgotten here. Never anything but what
/// the bytes say: builds with debug assertions, all tests and simulations among them, decode it beside at each look.
#[derive(Default)]
struct Decoded {
    group: Option<GroupState>,
    shard: Option<ShardState>,
    /// The first branch of an author.
    author: Option<(ShardId, AuthorId, AuthorState)>,
}

/// A value that passed its checksum and still cannot be read: written by another version, or by a bug.
#[must_use]
pub fn corrupt(key: &[u8], error: Malformed) -> StoreError {
    // A conflict's key ends with the key of an element, which may be the number of a card; and so does its entry of a work list.
    let is_told = ![Some(Space::Conflict as u8), Some(Space::Work as u8)].contains(&space_of(key));
    let end = key.len() - if is_told { 0 } else { suffix(key, 0).len() };
    let place: String = key[..end].iter().map(|byte| format!("{byte:02x}")).collect();
    StoreError::Corrupt { place: format!("key {place}"), detail: error.to_string() }
}

impl<'a> Tx<'a> {
    /// Starts without writes.
    #[must_use]
    pub fn new(view: &'a dyn StateView, context: &'a Context) -> Self {
        Tx { view, context, writes: BTreeMap::new(), held: RefCell::default(), decoded: RefCell::default() }
    }

    /// All writes so far.
    #[must_use]
    pub fn into_batch(self) -> Batch {
        Batch { writes: self.writes.into_iter().collect() }
    }

    /// The keys of the group.
    #[must_use]
    pub fn keys(&self) -> Keys {
        self.context.keys()
    }

    /// The bytes under a key.
    pub fn bytes(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.writes.get(key) {
            Some(written) => Ok(written.clone()),
            None => self.view.get(key),
        }
    }

    /// The value under a key.
    pub fn get<T: Wire>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        let read = |bytes: &[u8]| T::from_bytes(bytes).map_err(|error| corrupt(key, error));
        match self.writes.get(key) {
            Some(written) => written.as_deref().map(read).transpose(),
            None => self.view.get(key)?.as_deref().map(read).transpose(),
        }
    }

    /// The same, read of the view once: for values of which every command of a batch needs the same few.
    pub fn get_held<T: Wire>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        let read = |bytes: &[u8]| T::from_bytes(bytes).map_err(|error| corrupt(key, error));
        if let Some(written) = self.writes.get(key) {
            return written.as_deref().map(read).transpose();
        }
        let mut held = self.held.borrow_mut();
        if let Some(known) = held.get(key) {
            return known.as_deref().map(read).transpose();
        }
        let bytes = self.view.get(key)?;
        let value = bytes.as_deref().map(read).transpose();
        held.insert(key.to_vec(), bytes);
        value
    }

    /// A value that other values say is there.
    pub fn must<T: Wire>(&self, key: &[u8]) -> Result<T, StoreError> {
        self.get(key)?.ok_or_else(|| corrupt(key, Malformed { what: "state: a value is missing" }))
    }

    /// Sets a value.
    pub fn put<T: Wire>(&mut self, key: Vec<u8>, value: &T) {
        self.write(key, Some(value.to_bytes()));
    }

    /// Sets bytes.
    pub fn put_bytes(&mut self, key: Vec<u8>, bytes: Vec<u8>) {
        self.write(key, Some(bytes));
    }

    /// Removes a value.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.write(key, None);
    }

    fn write(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        const GROUP: u8 = Space::Group as u8;
        const SHARD: u8 = Space::Shard as u8;
        const AUTHOR: u8 = Space::Author as u8;
        let decoded = self.decoded.get_mut();
        match space_of(&key) {
            Some(GROUP) => decoded.group = None,
            Some(SHARD) => decoded.shard = None,
            Some(AUTHOR) => decoded.author = None,
            _ => {}
        }
        self.writes.insert(key, value);
    }

    /// All values in a range, in key order.
    pub fn range<T: Wire>(&self, (from, to): Range) -> Result<Vec<(Vec<u8>, T)>, StoreError> {
        let mut found: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
        for item in self.view.scan(&from, &to) {
            let (key, value) = item?;
            found.insert(key, Some(value));
        }
        found.extend(self.writes.range(from..to).map(|(key, value)| (key.clone(), value.clone())));
        found
            .into_iter()
            .filter_map(|(key, value)| value.map(|value| (key, value)))
            .map(|(key, bytes)| {
                let value = T::from_bytes(&bytes).map_err(|error| corrupt(&key, error))?;
                Ok((key, value))
            })
            .collect()
    }

    /// Shows all values in a range, one after the other, and keeps none.
    pub fn each<T: Wire>(
        &self,
        (from, to): Range,
        mut see: impl FnMut(&[u8], T) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut see = |key: &[u8], bytes: &[u8]| see(key, T::from_bytes(bytes).map_err(|error| corrupt(key, error))?);
        for item in self.view.scan(&from, &to) {
            let (key, bytes) = item?;
            if !self.writes.contains_key(&key) {
                see(&key, &bytes)?;
            }
        }
        let written = self.writes.range(from..to).filter_map(|(key, bytes)| Some((key, bytes.as_ref()?)));
        written.into_iter().try_for_each(|(key, bytes)| see(key, bytes))
    }

    /// The first keys in a range, at most `count`; of what this transaction adds there, none.
    pub fn first_keys(&self, (from, to): Range, count: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let is_there = |key: &Vec<u8>| self.writes.get(key).is_none_or(Option::is_some);
        let keys = self.view.scan(&from, &to).map(|item| item.map(|(key, _)| key));
        keys.filter(|key| key.as_ref().map_or(true, is_there)).take(count).collect()
    }

    /// Keys in a range, at most `count`, also of what this transaction adds there.
    pub fn some_keys(&self, (from, to): Range, count: usize) -> Result<BTreeSet<Vec<u8>>, StoreError> {
        let added = self.writes.range(from.clone()..to.clone()).filter(|(_, value)| value.is_some());
        let mut keys: BTreeSet<Vec<u8>> = added.map(|(key, _)| key.clone()).take(count).collect();
        keys.extend(self.first_keys((from, to), count)?);
        while keys.len() > count {
            keys.pop_last();
        }
        Ok(keys)
    }

    /// Whether there is nothing in a range.
    pub fn is_empty(&self, (from, to): Range) -> Result<bool, StoreError> {
        if self.writes.range(from.clone()..to.clone()).any(|(_, value)| value.is_some()) {
            return Ok(false);
        }
        let is_there = |key: &Vec<u8>| !self.writes.contains_key(key);
        let mut keys = self.view.scan(&from, &to).map(|item| item.map(|(key, _)| key));
        Ok(keys.find(|key| key.as_ref().map_or(true, is_there)).transpose()?.is_none())
    }

    /// The group, once formed.
    pub fn group(&self) -> Result<Option<GroupState>, StoreError> {
        let known = self.decoded.borrow().group.clone();
        if known.is_some() {
            debug_assert_eq!(Ok(&known), self.get_held(&self.keys().group()).as_ref());
            return Ok(known);
        }
        let group = self.get_held(&self.keys().group())?;
        self.decoded.borrow_mut().group.clone_from(&group);
        Ok(group)
    }

    /// The feature level at which the next command is decided: the group's.
    pub fn level(&self) -> Result<u16, StoreError> {
        Ok(self.group()?.map_or(LEVEL_FIRST, |group| group.level))
    }

    /// Sets the group.
    pub fn put_group(&mut self, group: &GroupState) {
        self.put(self.keys().group(), group);
        self.decoded.get_mut().group = Some(group.clone());
    }

    /// A hosted shard.
    pub fn shard(&self, shard: ShardId) -> Result<Option<ShardState>, StoreError> {
        let known = self.decoded.borrow().shard.as_ref().filter(|known| known.info.shard == shard).cloned();
        if known.is_some() {
            debug_assert_eq!(Ok(&known), self.get(&self.keys().shard(shard)).as_ref());
            return Ok(known);
        }
        self.get(&self.keys().shard(shard))
    }

    /// Begins to host a shard.
    pub fn host(&mut self, shard: &ShardState) {
        for unit in &shard.info.path {
            self.put_bytes(self.keys().reach(*unit), Vec::new());
        }
        self.put_shard(shard);
    }

    /// Sets a shard.
    pub fn put_shard(&mut self, shard: &ShardState) {
        self.put(self.keys().shard(shard.info.shard), shard);
        self.decoded.get_mut().shard = Some(shard.clone());
    }

    /// An author's first branch, which knows of the others.
    pub(super) fn author(&self, shard: ShardId, author: AuthorId) -> Result<Option<AuthorState>, StoreError> {
        let is_it = |known: &&(ShardId, AuthorId, AuthorState)| (known.0, known.1) == (shard, author);
        let known = self.decoded.borrow().author.as_ref().filter(is_it).map(|(.., state)| state.clone());
        if known.is_some() {
            debug_assert_eq!(Ok(&known), self.get(&self.keys().author(shard, author)).as_ref());
            return Ok(known);
        }
        let state: Option<AuthorState> = self.get(&self.keys().author(shard, author))?;
        self.decoded.borrow_mut().author = state.clone().map(|state| (shard, author, state));
        Ok(state)
    }

    /// Sets an author's first branch.
    pub(super) fn put_author(&mut self, shard: ShardId, author: AuthorId, state: AuthorState) {
        self.put(self.keys().author(shard, author), &state);
        self.decoded.get_mut().author = Some((shard, author, state));
    }

    /// The end of an author's first branch: number and hash, zero if it has no edit here.
    pub fn head(&self, shard: ShardId, author: AuthorId) -> Result<(u64, Hash), StoreError> {
        Ok(self.author(shard, author)?.map_or((0, Hash::default()), |state| (state.number, state.hash)))
    }

    /// The edit that lies at a place.
    pub fn edit(&self, shard: ShardId, place: &Dot) -> Result<Option<StoredEdit>, StoreError> {
        self.get(&self.keys().edit(shard, place))
    }

    /// The edit that lies at a place where one does, and its hash.
    pub(super) fn edit_at(&self, shard: ShardId, place: &Dot) -> Result<(Edit, Hash), StoreError> {
        let key = self.keys().edit(shard, place);
        let stored: StoredEdit = self.must(&key)?;
        let edit = Edit::from_bytes(&stored.bytes).map_err(|error| corrupt(&key, error))?;
        Ok((edit, stored.hash))
    }

    /// A record with its bytes.
    pub fn record(
        &self,
        shard: ShardId,
        record: crate::ids::RecordId,
    ) -> Result<Option<(Record, Vec<u8>)>, StoreError> {
        let key = self.keys().record(shard, record);
        let Some(bytes) = self.bytes(&key)? else { return Ok(None) };
        let record = Record::from_bytes(&bytes).map_err(|error| corrupt(&key, error))?;
        Ok(Some((record, bytes)))
    }
}
