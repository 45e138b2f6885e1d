//! The work list of open conflicts, in pages. What a page costs follows what it shows: of the conflicts beyond it nothing is read, and of
//! each record on it no more than once.
//!
//! The list goes by group, shard and record, since what is stored goes so; the conflicts of a page are shown oldest first.

use std::collections::{BTreeMap, BTreeSet};

use dinhba_core::access::Action;
use dinhba_core::command::{ConflictEntry, ConflictKey, Looked};
use dinhba_core::encoding::{Malformed, Wire};
use dinhba_core::ids::{GroupId, RecordId, ShardId};
use dinhba_core::keys::{Keys, suffix};
use dinhba_core::lens;
use dinhba_core::record::Record;
use dinhba_core::registry::{ShardState, corrupt, read};
use dinhba_core::store::{StateView, StoreError};
use dinhba_core::wire_struct;
use dinhba_proto::v1;
use prost::Message;
use tonic::Status;

use super::{Asked, RecordsService, Verdicts, chunk};
use crate::service::answer::{broken, denied};
use crate::service::convert::values_to_wire;
use crate::service::{Caller, all_groups_here, id, marks};

/// Conflicts in one page...
const CONFLICTS_MAX: usize = 500;

/// ...and their bytes as they are shown, but for the last of them: a quarter of what a message takes.
const CONFLICTS_BYTES_MAX: usize = 1 << 20;

/// What is left of a page.
struct Room {
    conflicts: usize,
    bytes: usize,
}

impl Room {
    const ALL: Room = Room { conflicts: CONFLICTS_MAX, bytes: CONFLICTS_BYTES_MAX };

    fn is_used_up(&self) -> bool {
        self.conflicts == 0 || self.bytes == 0
    }
}

/// Where a page ended: the last conflict on it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    group: GroupId,
    shard: ShardId,
    record: RecordId,
    conflict: Vec<u8>,
}

wire_struct! { Mark { group, shard, record, conflict } }

impl Mark {
    /// Before everything in a group.
    fn before(group: GroupId) -> Self {
        Mark { group, shard: ShardId(0), record: RecordId([0; 16]), conflict: Vec::new() }
    }
}

/// An open conflict, as it is found.
struct Found<'a> {
    shard: ShardId,
    id: RecordId,
    record: &'a Record,
    conflict: ConflictKey,
    since_ms: i64,
}

/// The conflicts of a group as one caller may see them.
struct Walk<'a> {
    view: &'a dyn StateView,
    keys: Keys,
    /// What the caller may see.
    may: &'a BTreeMap<ShardId, ShardState>,
}

impl Walk<'_> {
    /// The conflicts from a mark on, as `show` makes them, which says how many bytes each takes: as many as there is room for. And where
    /// that ended, if there are more.
    fn page<T>(
        &self,
        from: Option<&Mark>,
        room: &mut Room,
        mut show: impl FnMut(Found<'_>) -> (usize, T),
    ) -> Result<(Vec<T>, Option<Mark>), StoreError> {
        let (mut shown, mut last) = (Vec::new(), None);
        let start = self.keys.shard(from.map_or(ShardId(0), |mark| mark.shard));
        // By their entries: most shards have no conflict, and that stands there.
        for item in self.view.scan(&start, &self.keys.shards().1) {
            let (key, value) = item?;
            let state = ShardState::from_bytes(&value).map_err(|error| corrupt(&key, error))?;
            let shard = state.info.shard;
            if state.conflicts == 0 || !self.may.contains_key(&shard) {
                continue;
            }
            let (mut start, to) = self.keys.conflicts(shard, None);
            if let Some(mark) = from.filter(|mark| mark.shard == shard) {
                start = [self.keys.conflict(shard, mark.record, &mark.conflict).as_slice(), &[0]].concat();
            }
            let mut kept: Option<(RecordId, Record)> = None;
            for item in self.view.scan(&start, &to) {
                if room.is_used_up() {
                    let last = last.unwrap_or_else(|| from.cloned().unwrap_or_else(|| Mark::before(self.keys.0)));
                    return Ok((shown, Some(last)));
                }
                let (key, value) = item?;
                let entry = ConflictEntry::from_bytes(&value).map_err(|error| corrupt(&key, error))?;
                let (id, conflict) = conflict_key(&key)?;
                if kept.as_ref().is_none_or(|(kept, _)| *kept != id) {
                    let record_key = self.keys.record(shard, id);
                    let record: Option<Record> = read(self.view, &record_key)?;
                    let missing = || corrupt(&record_key, Malformed { what: "conflict: its record is missing" });
                    kept = Some((id, record.ok_or_else(missing)?));
                }
                let Some((_, record)) = &kept else { continue };
                last = Some(Mark { group: self.keys.0, shard, record: id, conflict: suffix(&key, 16).to_vec() });
                let (bytes, one) = show(Found { shard, id, record, conflict, since_ms: entry.since_ms });
                room.conflicts -= 1;
                room.bytes = room.bytes.saturating_sub(bytes);
                shown.push(one);
            }
        }
        Ok((shown, None))
    }
}

/// The record and the conflict of a key of a conflict.
fn conflict_key(key: &[u8]) -> Result<(RecordId, ConflictKey), StoreError> {
    let conflict = ConflictKey::from_bytes(suffix(key, 16)).map_err(|error| corrupt(key, error))?;
    Ok((RecordId(chunk(key, 0)?), conflict))
}

impl RecordsService {
    /// A page of the open conflicts that a caller may see. The question is in the log of each group that it touches, and what the page
    /// shows of a record is a look at it, before it leaves.
    pub(super) async fn open_conflicts(
        &self,
        caller: &Caller,
        request: &v1::ConflictsRequest,
    ) -> Result<v1::ConflictsReply, Status> {
        let only: Option<ShardId> = if request.shard.is_empty() { None } else { Some(id("shard", &request.shard)?) };
        match only {
            Some(shard) => drop(self.place_of(shard).await?),
            None => all_groups_here(&self.0).await?,
        }
        let (index_key, question) = (self.index_key(), marks::asked("conflicts", &request.shard));
        let from: Option<Mark> = marks::open(&request.after, &question, &index_key)?;
        let (mut conflicts, mut verdicts, mut next, mut room) = (Vec::new(), Verdicts::default(), None, Room::ALL);
        let wanted = |shard: &ShardState| !shard.info.is_ancestor() && only.is_none_or(|only| only == shard.info.shard);
        for Asked { hosted, may, .. } in self.asked(caller, Action::Resolve, wanted)? {
            if from.as_ref().is_some_and(|mark| hosted.id() < mark.group) {
                continue;
            }
            if room.is_used_up() {
                next = Some(Mark::before(hosted.id()));
                break;
            }
            if !verdicts.may(self.log_or_denial(caller, Looked::Conflicts, hosted, only, [0; 16]).await?) {
                continue;
            }
            let from = from.as_ref().filter(|mark| mark.group == hosted.id());
            let show = |found: Found<'_>| {
                let (at, conflict) = ((found.shard, found.id), self.conflict_to_wire(found));
                (conflict.encoded_len(), (at, conflict))
            };
            let keys = hosted.keys();
            let page = hosted.look(|view| Walk { view, keys, may: &may }.page(from, &mut room, show));
            let (listed, end) = page.map_err(|error| broken(&error))?;
            let shown: BTreeSet<(ShardId, RecordId)> = listed.iter().map(|(at, _)| *at).collect();
            let shown: Vec<_> = shown.into_iter().collect();
            if self.log_shown(caller, hosted, &shown).await?.contains(&false) {
                return Err(denied("the caller's claims do not reach there; the attempt is logged"));
            }
            conflicts.extend(listed.into_iter().map(|(_, conflict)| conflict));
            if end.is_some() {
                next = end;
                break;
            }
        }
        verdicts.refuse_who_may_look_nowhere()?;
        conflicts.sort_by_key(|conflict| conflict.since_ms);
        let next = next.map(|mark| marks::seal(&mark, &question, &index_key)).unwrap_or_default();
        Ok(v1::ConflictsReply { conflicts, more: !next.is_empty(), next })
    }

    fn conflict_to_wire(&self, found: Found<'_>) -> v1::Conflict {
        let Found { shard, id, record, conflict, since_ms } = found;
        let (field, element, rule, values) = match conflict {
            ConflictKey::Field(key) => {
                let values = values_to_wire(&self.0, record, &key);
                (key.0.to_string(), String::from_utf8_lossy(&key.1).into_owned(), String::new(), values)
            }
            ConflictKey::Rule(rule) => (String::new(), String::new(), lens::rule_text(rule), Vec::new()),
            ConflictKey::Number(_) => (String::new(), String::new(), lens::NUMBER_TWICE.to_owned(), Vec::new()),
        };
        v1::Conflict {
            record: id.to_string(),
            record_kind: record.kind.to_string(),
            shard: shard.to_string(),
            field,
            element,
            rule,
            values,
            since_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use dinhba_core::command::ShardInfo;
    use dinhba_core::edit::Author;
    use dinhba_core::ids::{Incarnation, SiteId};
    use dinhba_core::schema::RecordKind;
    use dinhba_core::store::{Batch, Scan, StateEngine};

    use super::*;
    use crate::raft::test_support::MemoryState;

    const GROUP: GroupId = GroupId(1);

    /// Counts the records that are read, and the entries that a scan gives.
    struct Counted<'a> {
        view: Box<dyn StateView + 'a>,
        looks: AtomicUsize,
        entries: AtomicUsize,
    }

    impl StateView for Counted<'_> {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
            self.looks.fetch_add(1, Ordering::Relaxed);
            self.view.get(key)
        }
        fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> Scan<'a> {
            Box::new(self.view.scan(from, to).inspect(|_| _ = self.entries.fetch_add(1, Ordering::Relaxed)))
        }
    }

    fn shard(number: u64, conflicts: u64) -> ShardState {
        let info = ShardInfo { shard: ShardId(number), path: Vec::new() };
        let own = Author { site: SiteId(1), shard: ShardId(number), incarnation: Incarnation([1; 16]) };
        ShardState { conflicts, ..ShardState::new(info, own, [0; 16]) }
    }

    /// Of each of three shards records with three conflicts, and a shard without any between them.
    fn state(records: u8) -> (MemoryState, BTreeMap<ShardId, ShardState>) {
        let (state, keys, mut may) = (MemoryState::default(), Keys(GROUP), BTreeMap::new());
        let mut batch = Batch::default();
        for number in [1, 2, 3, 4] {
            let count = if number == 2 { 0 } else { 3 * u64::from(records) };
            let shard = shard(number, count);
            batch.put(keys.shard(ShardId(number)), shard.to_bytes());
            may.insert(ShardId(number), shard);
            for record in (0..records).filter(|_| count > 0) {
                let id = RecordId([record; 16]);
                batch.put(keys.record(ShardId(number), id), Record::new(RecordKind::Person).to_bytes());
                for rule in 1..=3 {
                    let conflict = ConflictKey::Rule(rule).to_bytes();
                    let entry = ConflictEntry { since_ms: i64::from(rule) };
                    batch.put(keys.conflict(ShardId(number), id, &conflict), entry.to_bytes());
                }
            }
        }
        state.apply(batch).expect("memory");
        (state, may)
    }

    type Name = (u64, u8, Vec<u8>);

    fn name(found: Found<'_>) -> (usize, Name) {
        (10, (found.shard.0, found.id.0[0], found.conflict.to_bytes()))
    }

    #[test]
    fn pages_show_every_conflict_once_and_end_where_their_bounds_say() {
        let (state, may) = state(10);
        for (conflicts, bytes, page_max) in
            [(7, 10_000, 7), (1, 10_000, 1), (1000, 41, 5), (30, 10_000, 30), (1000, 1, 1)]
        {
            let (mut seen, mut from, mut pages) = (Vec::new(), None, 0);
            loop {
                let walk = Walk { view: &state, keys: Keys(GROUP), may: &may };
                let (page, next) = walk.page(from.as_ref(), &mut Room { conflicts, bytes }, name).unwrap();
                assert!(page.len() <= page_max && !page.is_empty(), "{} on a page", page.len());
                seen.extend(page);
                pages += 1;
                from = next;
                if from.is_none() {
                    break;
                }
            }
            let all: BTreeSet<Name> = seen.iter().cloned().collect();
            assert_eq!((seen.len(), all.len(), pages), (90, 90, 90_usize.div_ceil(page_max)));
        }
    }

    #[test]
    fn what_the_caller_may_not_see_is_on_no_page_and_in_no_mark() {
        let (state, mut may) = state(3);
        may.retain(|shard, _| *shard != ShardId(3));
        let walk = Walk { view: &state, keys: Keys(GROUP), may: &may };
        let (page, next) = walk.page(None, &mut Room { conflicts: 9, ..Room::ALL }, name).unwrap();
        assert!(page.len() == 9 && page.iter().all(|(shard, ..)| *shard == 1));
        let mut room = Room::ALL;
        let (page, next) = walk.page(next.as_ref(), &mut room, name).unwrap();
        assert!(page.len() == 9 && page.iter().all(|(shard, ..)| *shard == 4) && next.is_none());
    }

    #[test]
    fn a_page_reads_what_it_shows_and_no_more() {
        for records in [20, 250] {
            let (state, may) = state(records);
            let view =
                Counted { view: state.snapshot().unwrap(), looks: AtomicUsize::new(0), entries: AtomicUsize::new(0) };
            let walk = Walk { view: &view, keys: Keys(GROUP), may: &may };
            let (page, _) = walk.page(None, &mut Room { conflicts: 30, ..Room::ALL }, name).unwrap();
            let (looks, entries) = (view.looks.into_inner(), view.entries.into_inner());
            assert_eq!((page.len(), looks), (30, 10), "each record once");
            assert!(entries <= 30 + 1 + 2, "{entries} entries, whatever there are of {records} records");
        }
    }
}
