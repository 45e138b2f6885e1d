//! The work list of open conflicts. Of each record on a page no more than one look is had.

use dinhba_core::command::{ConflictEntry, ConflictKey};
use dinhba_core::encoding::{Malformed, Wire};
use dinhba_core::ids::{RecordId, ShardId};
use dinhba_core::keys::{Keys, suffix};
use dinhba_core::record::Record;
use dinhba_core::registry::{corrupt, read};
use dinhba_core::store::{StateView, StoreError};
use dinhba_core::validity;
use dinhba_proto::v1;
use prost::Message;
use tonic::Status;

use super::worklist::{Entry, List, Room, Wanted};
use super::{RecordsService, chunk};
use crate::service::Caller;
use crate::service::convert::values_to_wire;

/// Conflicts in one page...
const CONFLICTS_MAX: usize = 500;

/// ...and their bytes as they are shown, but for the last of them: a quarter of what a message takes.
const CONFLICTS_BYTES_MAX: usize = 1 << 20;

/// An open conflict, as it is found.
struct Found<'a> {
    shard: ShardId,
    id: RecordId,
    record: &'a Record,
    conflict: ConflictKey,
    since_ms: i64,
}

/// Finds the records of conflicts that come in the order of their keys, each once.
struct Records<'a> {
    view: &'a dyn StateView,
    keys: Keys,
    kept: Option<(ShardId, RecordId, Record)>,
}

impl<'a> Records<'a> {
    fn new(view: &'a dyn StateView, keys: Keys) -> Self {
        Records { view, keys, kept: None }
    }

    /// The conflict with this key and value.
    fn found(&mut self, shard: ShardId, key: &[u8], value: &[u8]) -> Result<Found<'_>, StoreError> {
        let entry = ConflictEntry::from_bytes(value).map_err(|error| corrupt(key, error))?;
        let (id, conflict) = conflict_key(key)?;
        let record = match self.kept.take().filter(|(of, kept, _)| (*of, *kept) == (shard, id)) {
            Some((.., record)) => record,
            None => {
                let record_key = self.keys.record(shard, id);
                let record: Option<Record> = read(self.view, &record_key)?;
                record.ok_or_else(|| corrupt(&record_key, Malformed { what: "conflict: its record is missing" }))?
            }
        };
        let (.., record) = self.kept.insert((shard, id, record));
        Ok(Found { shard, id, record, conflict, since_ms: entry.since_ms })
    }
}

/// The record and the conflict of a key of a conflict.
fn conflict_key(key: &[u8]) -> Result<(RecordId, ConflictKey), StoreError> {
    let conflict = ConflictKey::from_bytes(suffix(key, 16)).map_err(|error| corrupt(key, error))?;
    Ok((RecordId(chunk(key, 0)?), conflict))
}

impl RecordsService {
    /// A page of the open conflicts that a caller may see.
    pub(super) async fn open_conflicts(
        &self,
        caller: &Caller,
        request: &v1::ConflictsRequest,
    ) -> Result<v1::ConflictsReply, Status> {
        let wanted = Wanted { list: List::Conflicts, shard: &request.shard, after: &request.after };
        let room = Room { entries: CONFLICTS_MAX, bytes: CONFLICTS_BYTES_MAX };
        let page = self.work_list(caller, wanted, room, |_, walk, from, room| {
            let mut records = Records::new(walk.view, walk.keys);
            walk.page(from, room, |shard, key, value| {
                let found = records.found(shard, key, value)?;
                let (record, shown) = (found.id, self.conflict_to_wire(found));
                Ok((shown.encoded_len(), Entry { shard, record, shown }))
            })
        });
        let (found, next) = page.await?;
        let mut conflicts: Vec<v1::Conflict> = found.into_iter().map(|entry| entry.shown).collect();
        conflicts.sort_by_key(|conflict| conflict.since_ms);
        Ok(v1::ConflictsReply { conflicts, more: !next.is_empty(), next })
    }

    fn conflict_to_wire(&self, found: Found<'_>) -> v1::Conflict {
        let Found { shard, id, record, conflict, since_ms } = found;
        let (field, element, rule, values) = match conflict {
            ConflictKey::Field(key) => {
                let values = values_to_wire(&self.0, record, &key);
                (key.0.to_string(), String::from_utf8_lossy(&key.1).into_owned(), String::new(), values)
            }
            ConflictKey::Rule(rule) => (String::new(), String::new(), validity::rule_text(rule), Vec::new()),
            ConflictKey::Number(_) => (String::new(), String::new(), validity::NUMBER_TWICE.to_owned(), Vec::new()),
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
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use dinhba_core::command::ShardInfo;
    use dinhba_core::edit::Author;
    use dinhba_core::ids::{GroupId, Incarnation, SiteId};
    use dinhba_core::registry::ShardState;
    use dinhba_core::schema::RecordKind;
    use dinhba_core::store::{Batch, Scan, StateEngine};

    use super::super::worklist::{Mark, Walk};
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
    fn state(records: u8) -> (MemoryState, BTreeSet<ShardId>) {
        let (state, keys, mut may) = (MemoryState::default(), Keys(GROUP), BTreeSet::new());
        let mut batch = Batch::default();
        for number in [1, 2, 3, 4] {
            let count = if number == 2 { 0 } else { 3 * u64::from(records) };
            batch.put(keys.shard(ShardId(number)), shard(number, count).to_bytes());
            may.insert(ShardId(number));
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

    fn page(
        view: &dyn StateView,
        may: &BTreeSet<ShardId>,
        from: Option<&Mark>,
        room: &mut Room,
    ) -> (Vec<Name>, Option<Mark>) {
        let (keys, mut records) = (Keys(GROUP), Records::new(view, Keys(GROUP)));
        let walk = Walk { list: List::Conflicts, view, keys, may };
        walk.page(from, room, |shard, key, value| Ok(name(records.found(shard, key, value)?))).unwrap()
    }

    #[test]
    fn pages_show_every_conflict_once_and_end_where_their_bounds_say() {
        let (state, may) = state(10);
        for (conflicts, bytes, page_max) in
            [(7, 10_000, 7), (1, 10_000, 1), (1000, 41, 5), (30, 10_000, 30), (1000, 1, 1)]
        {
            let (mut seen, mut from, mut pages) = (Vec::new(), None, 0);
            loop {
                let (page, next) = page(&state, &may, from.as_ref(), &mut Room { entries: conflicts, bytes });
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
        may.retain(|shard| *shard != ShardId(3));
        let (first, next) = page(&state, &may, None, &mut Room { entries: 9, bytes: 10_000 });
        assert!(first.len() == 9 && first.iter().all(|(shard, ..)| *shard == 1));
        let mut room = Room { entries: 500, bytes: 10_000 };
        let (second, next) = page(&state, &may, next.as_ref(), &mut room);
        assert!(second.len() == 9 && second.iter().all(|(shard, ..)| *shard == 4) && next.is_none());
    }

    #[test]
    fn a_page_reads_what_it_shows_and_no_more() {
        for records in [20, 250] {
            let (state, may) = state(records);
            let view =
                Counted { view: state.snapshot().unwrap(), looks: AtomicUsize::new(0), entries: AtomicUsize::new(0) };
            let (page, _) = page(&view, &may, None, &mut Room { entries: 30, bytes: 10_000 });
            let (looks, entries) = (view.looks.into_inner(), view.entries.into_inner());
            assert_eq!((page.len(), looks), (30, 10), "each record once");
            assert!(entries <= 30 + 1 + 2, "{entries} entries, whatever there are of {records} records");
        }
    }
}
