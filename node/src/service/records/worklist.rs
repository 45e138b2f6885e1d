//! Work lists, in pages: open conflicts, and what waits for a second person. What a page costs follows what it shows: of the entries
//! beyond it nothing is read.
//!
//! A list goes by group, shard and record, since what is stored goes so; the entries of a page are shown oldest first.

use std::collections::BTreeMap;

use dinhba_core::encoding::Wire;
use dinhba_core::ids::{GroupId, ShardId};
use dinhba_core::keys::{Keys, Range, suffix};
use dinhba_core::registry::{ShardState, corrupt};
use dinhba_core::store::{StateView, StoreError};
use dinhba_core::wire_struct;

/// What is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    Conflicts,
    Pending,
}

impl List {
    fn count(self, shard: &ShardState) -> u64 {
        match self {
            List::Conflicts => shard.conflicts,
            List::Pending => shard.pending,
        }
    }

    fn range(self, keys: Keys, shard: ShardId) -> Range {
        match self {
            List::Conflicts => keys.conflicts(shard, None),
            List::Pending => keys.all_pending(shard, None),
        }
    }
}

/// What is left of a page.
pub(super) struct Room {
    pub entries: usize,
    pub bytes: usize,
}

impl Room {
    pub fn is_used_up(&self) -> bool {
        self.entries == 0 || self.bytes == 0
    }
}

/// Where a page ended: the last entry on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub group: GroupId,
    shard: ShardId,
    /// What its key ends with.
    entry: Vec<u8>,
}

wire_struct! { Mark { group, shard, entry } }

impl Mark {
    /// Before everything in a group.
    pub fn before(group: GroupId) -> Self {
        Mark { group, shard: ShardId(0), entry: Vec::new() }
    }
}

/// A list of a group as one caller may see it.
pub(super) struct Walk<'a> {
    pub list: List,
    pub view: &'a dyn StateView,
    pub keys: Keys,
    /// What the caller may see.
    pub may: &'a BTreeMap<ShardId, ShardState>,
}

impl Walk<'_> {
    /// The entries from a mark on, as `show` makes them of shard, key and value, which says how many bytes each takes: as many as there
    /// is room for. And where that ended, if there are more.
    pub fn page<T>(
        &self,
        from: Option<&Mark>,
        room: &mut Room,
        mut show: impl FnMut(ShardId, &[u8], &[u8]) -> Result<(usize, T), StoreError>,
    ) -> Result<(Vec<T>, Option<Mark>), StoreError> {
        let (mut shown, mut last) = (Vec::new(), None);
        let start = self.keys.shard(from.map_or(ShardId(0), |mark| mark.shard));
        // By their states: most shards have no entry, and that stands there.
        for item in self.view.scan(&start, &self.keys.shards().1) {
            let (key, value) = item?;
            let state = ShardState::from_bytes(&value).map_err(|error| corrupt(&key, error))?;
            let shard = state.info.shard;
            if self.list.count(&state) == 0 || !self.may.contains_key(&shard) {
                continue;
            }
            let (mut start, to) = self.list.range(self.keys, shard);
            if let Some(mark) = from.filter(|mark| mark.shard == shard) {
                start.extend_from_slice(&mark.entry);
                start.push(0);
            }
            for item in self.view.scan(&start, &to) {
                if room.is_used_up() {
                    let last = last.unwrap_or_else(|| from.cloned().unwrap_or_else(|| Mark::before(self.keys.0)));
                    return Ok((shown, Some(last)));
                }
                let (key, value) = item?;
                let (bytes, one) = show(shard, &key, &value)?;
                last = Some(Mark { group: self.keys.0, shard, entry: suffix(&key, 0).to_vec() });
                room.entries -= 1;
                room.bytes = room.bytes.saturating_sub(bytes);
                shown.push(one);
            }
        }
        Ok((shown, None))
    }
}
