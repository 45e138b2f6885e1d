//! Work lists, in pages: open conflicts, and what waits for a second person. What a page costs follows what it shows: of the entries
//! beyond it nothing is read.
//!
//! A list goes by group, shard and record, since what is stored goes so; the entries of a page are shown oldest first.

use std::collections::BTreeSet;

use dinhba_core::access::Action;
use dinhba_core::access_log::Looked;
use dinhba_core::command::ShardInfo;
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{GroupId, RecordId, ShardId};
use dinhba_core::keys::{Keys, Range, suffix};
use dinhba_core::registry::{ShardState, corrupt};
use dinhba_core::store::{StateView, StoreError};
use dinhba_core::wire_struct;
use tonic::Status;

use super::{Asked, RecordsService, Verdicts};
use crate::hosted::Hosted;
use crate::service::answer::{broken, denied};
use crate::service::{Caller, all_groups_here, id, marks};

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

    fn looked(self) -> Looked {
        match self {
            List::Conflicts => Looked::Conflicts,
            List::Pending => Looked::Pending,
        }
    }
}

/// Which page of a list is asked for.
pub(super) struct Wanted<'r> {
    pub list: List,
    /// Only this shard, by its text; empty for all that the caller may see.
    pub shard: &'r str,
    /// What the page before gave; empty for the first.
    pub after: &'r [u8],
}

/// An entry of a list: a record's, or of something that a record's is.
pub(super) struct Entry<T> {
    pub shard: ShardId,
    pub record: RecordId,
    pub shown: T,
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

/// What is on a page, and where it ended, if there are more.
pub(super) type Page<T> = (Vec<T>, Option<Mark>);

/// A list of a group as one caller may see it.
pub(super) struct Walk<'a> {
    pub list: List,
    pub view: &'a dyn StateView,
    pub keys: Keys,
    /// What the caller may see.
    pub may: &'a BTreeSet<ShardId>,
}

impl Walk<'_> {
    /// The entries from a mark on, as `show` makes them of shard, key and value, which says how many bytes each takes: as many as there
    /// is room for. And where that ended, if there are more.
    pub fn page<T>(
        &self,
        from: Option<&Mark>,
        room: &mut Room,
        mut show: impl FnMut(ShardId, &[u8], &[u8]) -> Result<(usize, T), StoreError>,
    ) -> Result<Page<T>, StoreError> {
        let (mut shown, mut last) = (Vec::new(), None);
        let start = self.keys.shard(from.map_or(ShardId(0), |mark| mark.shard));
        // By their states: most shards have no entry, and that stands there.
        for item in self.view.scan(&start, &self.keys.shards().1) {
            let (key, value) = item?;
            let state = ShardState::from_bytes(&value).map_err(|error| corrupt(&key, error))?;
            let shard = state.info.shard;
            if self.list.count(&state) == 0 || !self.may.contains(&shard) {
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

impl RecordsService {
    /// A page of a work list, as far as the caller may see it, and the mark to go on with, if there may be more. `read` has the
    /// entries of one group. The question is in the log of each group that it touches; and what the page will show of a record is a look at
    /// it, which is in the log too before this returns.
    pub(super) async fn work_list<'a, T>(
        &'a self,
        caller: &Caller,
        Wanted { list, shard, after }: Wanted<'_>,
        mut room: Room,
        mut read: impl FnMut(&'a Hosted, &Walk<'_>, Option<&Mark>, &mut Room) -> Result<Page<Entry<T>>, StoreError>,
    ) -> Result<(Vec<Entry<T>>, Vec<u8>), Status> {
        let only: Option<ShardId> = if shard.is_empty() { None } else { Some(id("shard", shard)?) };
        match only {
            Some(shard) => drop(self.place_of(shard).await?),
            None => all_groups_here(&self.0).await?,
        }
        let (index_key, question) = (self.index_key(), marks::asked(list.looked().name(), shard));
        let from: Option<Mark> = marks::open(after, &question, &index_key)?;
        let (mut found, mut verdicts, mut next) = (Vec::new(), Verdicts::default(), None);
        let wanted = |info: &ShardInfo| !info.is_ancestor() && only.is_none_or(|only| only == info.shard);
        for Asked { hosted, .. } in self.asked(caller, Action::Resolve, &wanted)? {
            if from.as_ref().is_some_and(|mark| hosted.id() < mark.group) {
                continue;
            }
            if room.is_used_up() {
                next = Some(Mark::before(hosted.id()));
                break;
            }
            if !verdicts.may(self.log_or_denial(caller, list.looked(), hosted, only, [0; 16]).await?) {
                continue;
            }
            let asked = self.asked_of(hosted, caller, Action::Resolve, &wanted)?;
            let Some(Asked { may, .. }) = asked else { continue };
            let from = from.as_ref().filter(|mark| mark.group == hosted.id());
            let page = hosted.look(|view| {
                let walk = Walk { list, view, keys: hosted.keys(), may: &may };
                read(hosted, &walk, from, &mut room)
            });
            let (listed, end) = page.map_err(|error| broken(&error))?;
            let shown: BTreeSet<(ShardId, RecordId)> = listed.iter().map(|entry| (entry.shard, entry.record)).collect();
            let shown: Vec<_> = shown.into_iter().collect();
            if self.log_shown(caller, hosted, &shown).await?.contains(&false) {
                return Err(denied("the caller's claims do not reach there; the attempt is logged"));
            }
            found.extend(listed);
            if end.is_some() {
                next = end;
                break;
            }
        }
        verdicts.refuse_who_may_look_nowhere()?;
        Ok((found, next.map(|mark| marks::seal(&mark, &question, &index_key)).unwrap_or_default()))
    }
}
