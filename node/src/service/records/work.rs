//! The list of all that is to be done, those things first that are due first. What a page costs follows what it shows: the lists that
//! `apply` keeps go by kind and day, and deadlines rise with the day, so a page is put together from the beginnings of some of them.

use std::collections::{BTreeMap, BTreeSet};

use dinhba_core::access::Action;
use dinhba_core::access_log::Looked;
use dinhba_core::calendar::{Calendar, Deadline};
use dinhba_core::claims::Role;
use dinhba_core::command::ConflictKey;
use dinhba_core::date::{Date, InstantMs};
use dinhba_core::edit::{Dot, Edit};
use dinhba_core::encoding::{Malformed, Wire};
use dinhba_core::ids::{AuthorId, GroupId, RecordId, ShardId, UnitId};
use dinhba_core::keys::Keys;
use dinhba_core::registry::{StoredEdit, corrupt, due_of, entry_of, read};
use dinhba_core::schema::codes::DOSSIER_STEP;
use dinhba_core::store::{StateView, StoreError};
use dinhba_core::validity;
use dinhba_core::wire_struct;
use dinhba_core::work::{Entry, ShowsSince, Work};
use dinhba_proto::v1;
use tonic::Status;

use super::standing::waiting;
use super::{Asked, RecordsService};
use crate::hosted::Hosted;
use crate::runtime;
use crate::service::answer::{broken, denied, wrong};
use crate::service::{Caller, marks};

/// Entries in one page: a look at each is logged.
const WORK_MAX: usize = 100;

/// Of no more shards each is asked; beyond, the signposts say which have something.
const SHARDS_ASKED_MAX: usize = 64;

/// Where a page ended: its last entry, by what the list goes by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Mark {
    /// The day on which it is due.
    due: i64,
    work: Work,
    /// The day since when it is open.
    since: i64,
    group: GroupId,
    shard: ShardId,
    record: RecordId,
    item: Vec<u8>,
}

wire_struct! { Mark { due, work, since, group, shard, record, item } }

/// An entry of a list, as it is found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    mark: Mark,
    deadline: Deadline,
    entry: Entry,
}

/// What is asked for.
struct Question<'a> {
    calendar: &'a Calendar,
    today: Date,
    kinds: Vec<Work>,
    all: bool,
    overdue: bool,
    from: Option<Mark>,
}

impl Question<'_> {
    /// The days since when entries of a kind are open that show in the list of the unit so far above their home; none, if none does.
    fn days(&self, work: Work, above: usize) -> Option<(Date, Date)> {
        let mut last = match work.shows(self.calendar, above, self.today) {
            _ if self.all => Date::MAX,
            ShowsSince::Never => return None,
            ShowsSince::Always => Date::MAX,
            ShowsSince::UpTo(last) => last,
        };
        if self.overdue {
            last = last.min(self.calendar.last_overdue(self.today, work.days())?);
        }
        let first = match &self.from {
            None => Date::MIN,
            Some(mark) if mark.work == work => Date::from_days(mark.since),
            Some(mark) => {
                let due = Date::from_days(mark.due + i64::from(work.code() < mark.work.code()));
                self.calendar.first_due_from(due, work.days())
            }
        };
        (first <= last).then_some((first, last))
    }
}

/// The lists of a group as one caller may see them.
struct Walk<'a> {
    view: &'a dyn StateView,
    keys: Keys,
    /// How far the unit whose list it is lies above the homes of the shards that may be seen.
    above: &'a BTreeMap<ShardId, usize>,
}

impl Walk<'_> {
    /// The first entries of each kind, as many of each as may be wanted.
    fn first(&self, question: &Question<'_>, room: usize) -> Result<Vec<Found>, StoreError> {
        let mut found = Vec::new();
        for &work in &question.kinds {
            if self.above.len() > SHARDS_ASKED_MAX {
                self.by_signposts(question, work, room, &mut found)?;
                continue;
            }
            for (&shard, &above) in self.above {
                if let Some(days) = question.days(work, above) {
                    self.of_shard(question, (shard, work, days), room, &mut found)?;
                }
            }
        }
        Ok(found)
    }

    /// Signposts go by day, so the first that lead to enough are enough.
    fn by_signposts(
        &self,
        question: &Question<'_>,
        work: Work,
        room: usize,
        found: &mut Vec<Found>,
    ) -> Result<(), StoreError> {
        let distances: BTreeSet<usize> = self.above.values().copied().collect();
        let days: BTreeMap<usize, (Date, Date)> =
            distances.into_iter().filter_map(|above| Some((above, question.days(work, above)?))).collect();
        let Some((first, last)) = days.values().copied().reduce(|one, two| (one.0.min(two.0), one.1.max(two.1))) else {
            return Ok(());
        };
        let (from, to) = self.keys.dues_between(work, (first, last));
        let enough = found.len() + room;
        for item in self.view.scan(&from, &to) {
            if found.len() >= enough {
                break;
            }
            let (day, shard) = due_of(&item?.0)?;
            let shows = self.above.get(&shard).and_then(|above| days.get(above));
            if shows.is_some_and(|(first, last)| (*first..=*last).contains(&day)) {
                self.of_shard(question, (shard, work, (day, day)), room, found)?;
            }
        }
        Ok(())
    }

    fn of_shard(
        &self,
        question: &Question<'_>,
        (shard, work, days): (ShardId, Work, (Date, Date)),
        room: usize,
        found: &mut Vec<Found>,
    ) -> Result<(), StoreError> {
        let (from, to) = self.keys.work_between(shard, work, days);
        let enough = found.len() + room;
        for item in self.view.scan(&from, &to) {
            if found.len() >= enough {
                break;
            }
            let entry = entry_of(&item?.0)?;
            let deadline = work.deadline(question.calendar, entry.since);
            let (due, since) = (deadline.day.days(), entry.since.days());
            let (record, item) = (entry.record, entry.item.clone());
            let mark = Mark { due, work, since, group: self.keys.0, shard, record, item };
            if question.from.as_ref().is_none_or(|from| *from < mark) {
                found.push(Found { mark, deadline, entry });
            }
        }
        Ok(())
    }
}

/// The first of what was found, in their order; and whether there are more.
fn cut(found: &mut Vec<Found>, room: usize) -> bool {
    found.sort_by(|one, two| one.mark.cmp(&two.mark));
    let is_more = found.len() > room;
    found.truncate(room);
    is_more
}

/// The kinds of that name; all, if it is empty.
fn kinds(name: &str) -> Result<Vec<Work>, Status> {
    let found: Vec<Work> = Work::all().filter(|work| name.is_empty() || work.name() == name).collect();
    if found.is_empty() {
        let names: BTreeSet<&str> = Work::all().map(Work::name).collect();
        let names: Vec<&str> = names.into_iter().collect();
        return Err(wrong("kind", format!("kind: one of {}", names.join(", "))));
    }
    Ok(found)
}

impl RecordsService {
    /// A page of what is to be done, as far as the caller may see it. The question is in the log of each group that it touches; and what
    /// the page shows of a record is a look at it.
    pub(super) async fn work_of(&self, caller: &Caller, request: &v1::WorkRequest) -> Result<v1::WorkReply, Status> {
        let kinds = kinds(&request.kind)?;
        let lists = self.asked_within(caller, (Action::Resolve, Looked::Work), &request.unit).await?;
        let root = self.root(&request.unit, caller)?;
        let v1::WorkRequest { all, overdue, kind, .. } = request;
        let of = marks::asked("work", &format!("{root} {all} {overdue} {kind}"));
        let index_key = self.index_key();
        let from: Option<Mark> = marks::open(&request.after, &of, &index_key)?;
        let (place, today) = (self.0.place(), InstantMs(runtime::utc_ms()).date_in_vietnam());
        let question = Question { calendar: &place.calendar, today, kinds, all: *all, overdue: *overdue, from };
        let (mut found, mut groups) = (Vec::new(), BTreeMap::new());
        for Asked { hosted, may, homes, .. } in lists {
            let distance = |shard: &ShardId| homes[shard].path.iter().rev().position(|unit| *unit == root);
            let above = may.iter().filter_map(|shard| Some((*shard, distance(shard)?))).collect();
            let first =
                hosted.look(|view| Walk { view, keys: hosted.keys(), above: &above }.first(&question, WORK_MAX + 1));
            found.extend(first.map_err(|error| broken(&error))?);
            groups.insert(hosted.id(), (hosted, homes));
        }
        let is_more = cut(&mut found, WORK_MAX);
        for (group, (hosted, _)) in &groups {
            let here = found.iter().filter(|found| found.mark.group == *group);
            let shown: BTreeSet<(ShardId, RecordId)> =
                here.map(|found| (found.mark.shard, found.mark.record)).collect();
            if self.log_shown(caller, hosted, &shown.into_iter().collect::<Vec<_>>()).await?.contains(&false) {
                return Err(denied("the caller's claims do not reach there; the attempt is logged"));
            }
        }
        let next = found.last().filter(|_| is_more).map(|last| marks::seal(&last.mark, &of, &index_key));
        let mut items = Vec::with_capacity(found.len());
        for one in found {
            let (hosted, homes) = &groups[&one.mark.group];
            let path = &homes[&one.mark.shard].path;
            let item = self.work_to_wire(hosted, path, today, one).map_err(|error| broken(&error))?;
            // What was done since the list was read stands on it no more.
            items.extend(item);
        }
        let (unit_code, unit_name) = self.0.unit_words(root);
        let next = next.unwrap_or_default();
        Ok(v1::WorkReply { items, next, today: today.to_string(), unit: root.to_string(), unit_code, unit_name })
    }

    fn work_to_wire(
        &self,
        hosted: &Hosted,
        path: &[UnitId],
        today: Date,
        Found { mark, deadline, entry }: Found,
    ) -> Result<Option<v1::WorkItem>, StoreError> {
        let Mark { work, shard, record, .. } = mark;
        let above =
            |levels: u8| path.iter().rev().nth(usize::from(levels)).or(path.first()).copied().unwrap_or_default();
        let (home, owner) = (above(0), above(work.owner()));
        let ((unit_code, unit_name), (owner_code, owner_name)) = (self.0.unit_words(home), self.0.unit_words(owner));
        let mut item = v1::WorkItem {
            kind: work.name().to_owned(),
            label: work.label().to_owned(),
            law: work.law().to_owned(),
            shard: shard.to_string(),
            unit: home.to_string(),
            unit_code,
            unit_name,
            record: record.to_string(),
            since: entry.since.to_string(),
            due: deadline.day.to_string(),
            due_is_sure: deadline.is_sure,
            late: u32::try_from(today.days() - deadline.day.days()).unwrap_or(0),
            owner: owner.to_string(),
            owner_code,
            owner_name,
            owner_role: Role::Registrar.name().to_owned(),
            ..v1::WorkItem::default()
        };
        match work {
            Work::Conflict | Work::Rule | Work::NumberTwice => {
                let key = hosted.keys().conflict(shard, record, &entry.item);
                match ConflictKey::from_bytes(&entry.item).map_err(|error| corrupt(&key, error))? {
                    ConflictKey::Field((field, element)) => {
                        item.field = field.to_string();
                        item.element = String::from_utf8_lossy(&element).into_owned();
                    }
                    ConflictKey::Rule(rule) => item.rule = validity::rule_text(rule),
                    ConflictKey::Number(_) => item.rule = validity::NUMBER_TWICE.to_owned(),
                }
            }
            Work::Second => {
                let found = hosted.look(|view| waiting_edit(view, hosted, (shard, record), &entry.item))?;
                let Some((hash, edit)) = found else { return Ok(None) };
                item.edit = hash;
                item.event = edit.header.event.name().to_owned();
            }
            Work::Number => item.event = dinhba_core::event::Event::NumberAssigned.name().to_owned(),
            Work::Step(..) => {
                if let Some((service, step)) = work.step() {
                    item.service = service.name.to_owned();
                    item.step = step.name.to_owned();
                    let code = DOSSIER_STEP.iter().find(|code| code.name == step.name);
                    item.step_label = code.map_or("", |code| code.label).to_owned();
                    item.event = step.event.map(|event| event.name().to_owned()).unwrap_or_default();
                }
            }
        }
        Ok(Some(item))
    }
}

/// The edit that waits for a second person, by its name in the list, if it still does.
fn waiting_edit(
    view: &dyn StateView,
    hosted: &Hosted,
    (shard, record): (ShardId, RecordId),
    name: &[u8],
) -> Result<Option<(Vec<u8>, Edit)>, StoreError> {
    let (actor, counter) = name.split_at_checked(16).unwrap_or_default();
    let name = actor.try_into().ok().zip(counter.try_into().ok());
    let Some((actor, counter)) = name.map(|(actor, counter)| (AuthorId(actor), u64::from_be_bytes(counter))) else {
        return Err(corrupt(&[], Malformed { what: "work list: an edit's name" }));
    };
    let key = hosted.keys().pending(shard, record, &Dot { actor, counter });
    let Some(value) = view.get(&key)? else { return Ok(None) };
    let (_, place) = waiting(view, hosted, shard, (&key, &value))?;
    let key = hosted.keys().edit(shard, &place);
    let Some(stored) = read::<StoredEdit>(view, &key)? else { return Ok(None) };
    let edit = Edit::from_bytes(&stored.bytes).map_err(|error| corrupt(&key, error))?;
    Ok(Some((stored.hash.0.to_vec(), edit)))
}

#[cfg(test)]
mod tests {
    use dinhba_core::store::{Batch, StateEngine};

    use super::*;
    use crate::raft::test_support::MemoryState;

    const GROUP: GroupId = GroupId(1);

    fn today() -> Date {
        "2026-06-15".parse().unwrap()
    }

    /// So many shards, each with some entries of each kind since days that lie up to two months back; and how far each lies below the asker.
    fn state(shards: u64) -> (MemoryState, BTreeMap<ShardId, usize>, Vec<(ShardId, Entry)>) {
        let (state, keys, mut batch) = (MemoryState::default(), Keys(GROUP), Batch::default());
        let (mut above, mut all) = (BTreeMap::new(), Vec::new());
        for shard in 1..=shards {
            above.insert(ShardId(shard), (shard % 4) as usize);
            for (at, work) in (0..).zip(Work::all()) {
                for count in 0..shard % 3 {
                    let since = Date::from_days(today().days() - ((shard * 7 + at * 5 + count * 11) % 60) as i64);
                    let record = RecordId([(shard % 5 + count) as u8; 16]);
                    let entry = Entry { work, since, record, item: vec![count as u8] };
                    batch.put(keys.work(ShardId(shard), &entry), Vec::new());
                    batch.put(keys.due(work, since, ShardId(shard)), Vec::new());
                    all.push((ShardId(shard), entry));
                }
            }
        }
        state.apply(batch).expect("memory");
        (state, above, all)
    }

    #[test]
    fn pages_show_once_and_in_order_what_is_that_units_to_do_by_signposts_and_without() {
        let calendar = Calendar::default();
        for shards in [5, SHARDS_ASKED_MAX as u64 + 30] {
            let (state, above, entries) = state(shards);
            let view = state.snapshot().unwrap();
            let walk = Walk { view: &*view, keys: Keys(GROUP), above: &above };
            for (all, overdue, room) in [(false, false, 7), (true, false, 100), (false, true, 1), (true, true, 30)] {
                let mut wanted: Vec<Mark> = Vec::new();
                for (shard, Entry { work, since, record, item }) in &entries {
                    let deadline = work.deadline(&calendar, *since);
                    let shows = match work.shows(&calendar, above[shard], today()) {
                        _ if all => true,
                        ShowsSince::Never => false,
                        ShowsSince::Always => true,
                        ShowsSince::UpTo(last) => *since <= last,
                    };
                    if shows && !(overdue && deadline.day >= today()) {
                        let (due, since) = (deadline.day.days(), since.days());
                        let (work, record, item) = (*work, *record, item.clone());
                        wanted.push(Mark { due, work, since, group: GROUP, shard: *shard, record, item });
                    }
                }
                wanted.sort();
                wanted.dedup();
                let (mut seen, mut from) = (Vec::new(), None);
                loop {
                    let kinds = Work::all().collect();
                    let question = Question { calendar: &calendar, today: today(), kinds, all, overdue, from };
                    let mut page = walk.first(&question, room + 1).unwrap();
                    let is_more = cut(&mut page, room);
                    seen.extend(page.into_iter().map(|found| found.mark));
                    from = seen.last().cloned();
                    if !is_more {
                        break;
                    }
                }
                assert!(!wanted.is_empty());
                assert_eq!(seen, wanted, "{shards} shards, all {all}, overdue {overdue}");
            }
        }
    }

    #[test]
    fn kinds_are_asked_for_by_their_words() {
        assert_eq!(kinds("conflict").unwrap(), [Work::Conflict]);
        assert!(kinds("step").unwrap().len() > 1 && kinds("").unwrap().len() == Work::all().count());
        assert!(kinds("steps").is_err());
    }
}
