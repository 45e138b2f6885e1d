//! What shows several records: searches, the members of a household, the households of a person.
//!
//! The order is always the same: the question is in the access log of each group that it touches; the index is asked, and
//! each record that it points to is read and compared; those that will be shown are in the log, one entry for each; then
//! they are shown. So whoever asks "who looked at me" is told, and what was read and not shown was seen by nobody.
//!
//! An answer is a page. Where it ended is a [`Mark`], which the caller brings back to go on (`marks`).

use std::collections::{BTreeMap, BTreeSet};

use dinhba_core::access::Action;
use dinhba_core::access_log::{AccessEntry, Looked};
use dinhba_core::command::ShardInfo;
use dinhba_core::encoding::{Malformed, Wire};
use dinhba_core::ids::{GroupId, RecordId, ShardId, UnitId};
use dinhba_core::keys::{Keys, own_suffix};
use dinhba_core::level::LEVEL_FIRST;
use dinhba_core::record::Record;
use dinhba_core::registry::{corrupt, indexed_record, read};
use dinhba_core::schema::RecordKind;
use dinhba_core::search::{self, Search, SearchError, Term};
use dinhba_core::store::{StateView, StoreError};
use dinhba_core::units::Resolve;
use dinhba_core::wire_struct;
use dinhba_proto::v1;
use tonic::Status;

use super::answer::{broken, denied, failed, no_record, not_found, wrong as wrong_field};
use super::convert::{record_to_wire, shown_bytes};
use super::records::{Asked, RecordsService, SHARDS_ASKED_MAX, SHOWN_BYTES_MAX, Verdicts};
use super::{Caller, id, marks, up_to_date_place};
use crate::hosted::Hosted;

/// Records in one page: more is a list, and there is no "list all".
const FOUND_MAX: usize = 50;

/// Entries of the index that one page looks at: the people of a large province who were born in one year and have one
/// given name. What is beyond is looked at when the caller goes on.
const LOOKED_AT_MAX: usize = 2_000;

/// What is left of a page. It ends by bytes too, beside its number of records: what a message takes is bounded.
struct Left {
    /// Entries of the index to look at.
    entries: usize,
    /// Bytes of the records as they are shown; the last of them may have more.
    bytes: usize,
}

impl Left {
    const ALL: Left = Left { entries: LOOKED_AT_MAX, bytes: SHOWN_BYTES_MAX };

    fn is_used_up(&self) -> bool {
        self.entries == 0 || self.bytes == 0
    }
}

/// Entries of the access log in one command: some 30 kB, so that others' reads need not wait for it.
const LOGGED_AT_ONCE: usize = 100;

/// Where a page ended: the last entry of the index that it looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    group: GroupId,
    /// The place of the term among those of the question.
    term: u16,
    shard: ShardId,
    record: RecordId,
}

wire_struct! { Mark { group, term, shard, record } }

impl Mark {
    /// Before everything in a group.
    fn before(group: GroupId) -> Self {
        Mark { group, term: 0, shard: ShardId(0), record: RecordId([0; 16]) }
    }
}

/// What is asked of the index.
struct Question<'a> {
    /// As what it stands in the access log, and under which subject.
    looked: Looked,
    subject: [u8; 16],
    /// The groups in whose logs it stands already.
    logged: BTreeSet<GroupId>,
    /// At which feature level.
    level: u16,
    terms: Vec<Term>,
    /// Whether a shard is looked at.
    within: &'a (dyn Fn(&ShardInfo) -> bool + Sync),
    /// Whether a record that the terms point to is meant.
    matches: &'a (dyn Fn(RecordId, &Record) -> bool + Sync),
}

impl Question<'_> {
    /// Whether a shard is asked for: one with records of people.
    fn wanted(&self) -> impl Fn(&ShardInfo) -> bool + Sync {
        |shard| !shard.is_ancestor() && (self.within)(shard)
    }
}

/// A record to be shown.
struct Found {
    shard: ShardId,
    id: RecordId,
    record: Record,
}

/// The index of a group as one caller may see it.
struct Walk<'a> {
    view: &'a dyn StateView,
    keys: Keys,
    index_key: &'a [u8; 32],
    /// What the caller may see. What lies elsewhere takes nobody's place.
    may: &'a BTreeSet<ShardId>,
}

impl Walk<'_> {
    /// Whom a question means, from a mark on: as many as there is room for in what is left. And where the page ended, if there
    /// may be more.
    fn page(
        &self,
        question: &Question<'_>,
        from: Option<&Mark>,
        room: usize,
        left: &mut Left,
    ) -> Result<(Vec<Found>, Option<Mark>), StoreError> {
        let (mut found, mut last) = (Vec::new(), None);
        let first = from.map_or(0, |mark| usize::from(mark.term));
        for (number, term) in question.terms.iter().enumerate().skip(first) {
            let passed = from.filter(|mark| usize::from(mark.term) == number);
            for shard in self.shards(term, passed.map_or(ShardId(0), |mark| mark.shard)) {
                let shard = shard?;
                let (mut start, to) = self.keys.index_term(shard, term);
                if let Some(mark) = passed.filter(|mark| mark.shard == shard) {
                    start = [self.keys.index(shard, term, mark.record).as_slice(), &[0]].concat();
                }
                for item in self.view.scan(&start, &to) {
                    if found.len() == room || left.is_used_up() {
                        return Ok((found, last));
                    }
                    left.entries -= 1;
                    let id = indexed_record(&item?.0)?;
                    // A question has at most a hundred terms.
                    last = Some(Mark { group: self.keys.0, term: number as u16, shard, record: id });
                    if let Some(record) = self.look_at(question, number, shard, id)? {
                        left.bytes = left.bytes.saturating_sub(shown_bytes(&record));
                        found.push(Found { shard, id, record });
                    }
                }
            }
        }
        Ok((found, None))
    }

    /// The shards whose index is looked at for a term, from one on: each of few, or those of many to which a signpost leads.
    fn shards(&self, term: &Term, from: ShardId) -> Box<dyn Iterator<Item = Result<ShardId, StoreError>> + '_> {
        if self.may.len() <= SHARDS_ASKED_MAX {
            return Box::new(self.may.range(from..).map(|shard| Ok(*shard)));
        }
        let (start, to) = self.keys.terms_from(term, from);
        let signed = self.view.scan(&start, &to).map(|item| signed_shard(&item?.0));
        Box::new(signed.filter(|shard| shard.as_ref().map_or(true, |shard| self.may.contains(shard))))
    }

    /// The record to which the question's term of that number points, if it is meant and no earlier term points to it.
    fn look_at(
        &self,
        question: &Question<'_>,
        number: usize,
        shard: ShardId,
        id: RecordId,
    ) -> Result<Option<Record>, StoreError> {
        let key = self.keys.record(shard, id);
        let stored = self.view.get(&key)?;
        let stored = stored.ok_or_else(|| corrupt(&key, Malformed { what: "index: its record is missing" }))?;
        let record = Record::from_bytes(&stored).map_err(|error| corrupt(&key, error))?;
        if !(question.matches)(id, &record) {
            return Ok(None);
        }
        let came = number > 0 && {
            let pointing = search::terms(question.level, &record, self.index_key);
            question.terms[..number].iter().any(|term| pointing.contains(term))
        };
        Ok((!came).then_some(record))
    }
}

/// The shard of a term's signpost.
fn signed_shard(key: &[u8]) -> Result<ShardId, StoreError> {
    let shard = own_suffix(key, 8).first_chunk().copied();
    shard.map(u64::from_be_bytes).map(ShardId).ok_or_else(|| corrupt(key, Malformed { what: "signpost of a term" }))
}

impl RecordsService {
    /// The feature level at which is searched: where not all groups of the site have it yet, the one that all have.
    fn level(&self) -> Result<u16, Status> {
        let levels: Result<Vec<u16>, StoreError> = self.0.hosted().map(Hosted::level).collect();
        Ok(levels.map_err(|error| broken(&error))?.into_iter().min().unwrap_or(LEVEL_FIRST))
    }

    /// Records by number or name.
    pub(super) async fn search(&self, caller: &Caller, request: v1::FindRequest) -> Result<v1::FindReply, Status> {
        let v1::FindRequest { number, name, birth_date, unit, mother, after, context: _ } = request;
        let invalid = |error: SearchError| wrong_field("name", error);
        let level = self.level()?;
        let search = match (number.is_empty(), name.is_empty() || birth_date.is_empty()) {
            (false, _) if [&name, &birth_date, &mother].iter().all(|text| text.is_empty()) => {
                Search::by_number(level, &number).map_err(invalid)?
            }
            (true, false) => Search::by_name(level, &name, &birth_date, &mother).map_err(invalid)?,
            _ => {
                let text = "find by a number alone, or by a name or a part of it together with a birth date or year; \
                            whoever is found so may be narrowed by unit and by the mother's name";
                return Err(wrong_field("name", text));
            }
        };
        let index_key = self.index_key();
        let within = self.within_here(&unit).await?;
        if !self.hosts_people(&within)? {
            return Err(not_found(
                "unit: this site keeps no records of it; write its code, its code and a day (02683@2025-06-30) or its id",
            ));
        }
        let question = Question {
            looked: Looked::Find,
            subject: search.hash(&index_key, &unit),
            logged: BTreeSet::new(),
            level,
            terms: search.terms(&index_key),
            within: &within,
            matches: &|_, record| search.matches(record),
        };
        self.page(caller, &question, &after, Vec::new()).await
    }

    /// The persons who name a household as theirs.
    pub(super) async fn members(
        &self,
        caller: &Caller,
        request: &v1::MembersOfRequest,
    ) -> Result<v1::FindReply, Status> {
        let household: RecordId = id("household", &request.household)?;
        let (place, record) = self.read_logged(caller, Looked::Members, household).await?;
        if record.kind != RecordKind::Household {
            return Err(wrong_field("household", format!("{household} is a {}, not a household", record.kind)));
        }
        let question = Question {
            looked: Looked::Members,
            subject: household.0,
            logged: BTreeSet::from([place]),
            level: self.level()?,
            terms: vec![search::members_term(&self.index_key(), household)],
            within: &|_| true,
            matches: &|_, _| true,
        };
        self.page(caller, &question, &request.after, Vec::new()).await
    }

    /// The households that a person names, and those whose head the person is.
    pub(super) async fn households(
        &self,
        caller: &Caller,
        request: &v1::HouseholdsOfRequest,
    ) -> Result<v1::FindReply, Status> {
        let person: RecordId = id("person", &request.person)?;
        let (place, record) = self.read_logged(caller, Looked::Households, person).await?;
        if record.kind != RecordKind::Person {
            return Err(wrong_field("person", format!("{person} is a {}, not a person", record.kind)));
        }
        let level = self.level()?;
        let named = search::households_of(level, &record);
        let mut question = Question {
            looked: Looked::Households,
            subject: person.0,
            logged: BTreeSet::from([place]),
            level,
            terms: vec![search::headed_term(&self.index_key(), person)],
            within: &|_| true,
            matches: &|household, _| !named.contains(&household),
        };
        let mut first = Vec::new();
        if request.after.is_empty() {
            // Where a household is that is not in the person's group only that group can say, once this replica is up to date.
            let mut are_here = true;
            for household in &named {
                are_here &= self.find_record(*household)?.is_some_and(|found| found.hosted.id() == place);
            }
            if !are_here {
                let all = self.asked(caller, Action::Find, &question.wanted())?;
                for asked in all {
                    let group = asked.hosted.id();
                    if !question.logged.contains(&group) && self.ask(caller, &question, &asked).await?.is_none() {
                        question.logged.insert(group);
                    }
                }
            }
            first = self.those(caller, &named).await?;
        }
        self.page(caller, &question, &request.after, first).await
    }

    /// The dossiers about a person.
    pub(super) async fn dossiers(
        &self,
        caller: &Caller,
        request: &v1::DossiersOfRequest,
    ) -> Result<v1::FindReply, Status> {
        let person: RecordId = id("person", &request.person)?;
        let (place, record) = self.read_logged(caller, Looked::Dossiers, person).await?;
        if record.kind != RecordKind::Person {
            return Err(wrong_field("person", format!("{person} is a {}, not a person", record.kind)));
        }
        let question = Question {
            looked: Looked::Dossiers,
            subject: person.0,
            logged: BTreeSet::from([place]),
            level: self.level()?,
            terms: vec![search::dossiers_term(&self.index_key(), person)],
            within: &|_| true,
            matches: &|_, _| true,
        };
        self.page(caller, &question, &request.after, Vec::new()).await
    }

    /// One page of an answer: what `first` holds already, then what the index points to.
    async fn page(
        &self,
        caller: &Caller,
        question: &Question<'_>,
        after: &[u8],
        first: Vec<v1::Record>,
    ) -> Result<v1::FindReply, Status> {
        let index_key = self.index_key();
        let from: Option<Mark> = marks::open(after, &question.subject, &index_key)?;
        let shown: usize = first.iter().map(prost::Message::encoded_len).sum();
        let mut left = Left { bytes: SHOWN_BYTES_MAX.saturating_sub(shown), ..Left::ALL };
        let (mut records, mut verdicts, mut next) = (first, Verdicts::default(), None);
        let wanted = question.wanted();
        for asked in self.asked(caller, Action::Find, &wanted)? {
            let hosted = asked.hosted;
            if from.is_some_and(|mark| hosted.id() < mark.group) {
                continue;
            }
            if records.len() >= FOUND_MAX || left.is_used_up() {
                next = Some(Mark::before(hosted.id()));
                break;
            }
            let is_logged = question.logged.contains(&hosted.id());
            let denial = if is_logged { None } else { self.ask(caller, question, &asked).await? };
            if !verdicts.may(denial) {
                continue;
            }
            let Some(Asked { may, homes, .. }) = self.asked_of(hosted, caller, Action::Find, &wanted)? else {
                continue;
            };
            let from = from.as_ref().filter(|mark| mark.group == hosted.id());
            let (room, keys) = (FOUND_MAX - records.len(), hosted.keys());
            let page = hosted.look(|view| {
                Walk { view, keys, index_key: &index_key, may: &may }.page(question, from, room, &mut left)
            });
            let (found, end) = page.map_err(|error| broken(&error))?;
            records.extend(self.show(caller, hosted, &homes, found).await?);
            if end.is_some() {
                next = end;
                break;
            }
        }
        if records.is_empty() && next.is_none() {
            verdicts.refuse_who_may_look_nowhere()?;
        }
        let next = next.map(|mark| marks::seal(&mark, &question.subject, &index_key)).unwrap_or_default();
        Ok(v1::FindReply { records, next })
    }

    /// Writes a question into the access log of a group; the denial, if it may not be put there.
    async fn ask(&self, caller: &Caller, question: &Question<'_>, asked: &Asked<'_>) -> Result<Option<Status>, Status> {
        self.log_or_denial(caller, question.looked, asked.hosted, asked.only, question.subject).await
    }

    /// Records by their ids, where they are here and may be seen; what of them is shown is logged.
    async fn those(&self, caller: &Caller, ids: &[RecordId]) -> Result<Vec<v1::Record>, Status> {
        let mut shown = Vec::new();
        for &id in ids.iter().take(FOUND_MAX) {
            let Some(place) = self.find_record(id)? else { continue };
            if caller.may(self.0.level_max, Action::Read, &place.shard.info.path).is_err() {
                continue;
            }
            self.refuse_doubled(id)?;
            let (hosted, shard) = (place.hosted, place.shard.info.shard);
            let record = hosted.look(|view| read(view, &hosted.keys().record(shard, id)));
            let Some(record) = record.map_err(|error| broken(&error))? else { continue };
            let homes = BTreeMap::from([(shard, place.shard.info)]);
            shown.extend(self.show(caller, hosted, &homes, vec![Found { shard, id, record }]).await?);
        }
        Ok(shown)
    }

    /// Records as they are shown, once each of them is in the access log.
    async fn show(
        &self,
        caller: &Caller,
        hosted: &Hosted,
        homes: &BTreeMap<ShardId, ShardInfo>,
        found: Vec<Found>,
    ) -> Result<Vec<v1::Record>, Status> {
        let shown: Vec<(ShardId, RecordId)> = found.iter().map(|found| (found.shard, found.id)).collect();
        let allowed = self.log_shown(caller, hosted, &shown).await?;
        let allowed = found.into_iter().zip(allowed).filter(|(_, allowed)| *allowed);
        let level = hosted.level().map_err(|error| broken(&error))?;
        let shown = |Found { shard, id, record }: Found| record_to_wire(&self.0, (&homes[&shard], level), id, &record);
        Ok(allowed.map(|(found, _)| shown(found)).collect())
    }

    /// Writes records that an answer will show into the access log, and returns which of them it may.
    pub(super) async fn log_shown(
        &self,
        caller: &Caller,
        hosted: &Hosted,
        shown: &[(ShardId, RecordId)],
    ) -> Result<Vec<bool>, Status> {
        let mut allowed = Vec::with_capacity(shown.len());
        for some in shown.chunks(LOGGED_AT_ONCE) {
            let entries = some.iter().map(|&(shard, record)| self.entry(caller, Looked::Shown, Some(shard), record.0));
            allowed.extend(hosted.log_accesses(entries.collect()).await.map_err(failed)?);
        }
        Ok(allowed)
    }

    /// Writes the records of a page of the change feed into the access log. Nobody waits at a counter for it, so it takes its
    /// turn among the edits.
    pub(super) async fn log_page(
        &self,
        caller: &Caller,
        hosted: &Hosted,
        shard: ShardId,
        page: &[v1::Entry],
    ) -> Result<(), Status> {
        let mut records: Vec<RecordId> = page.iter().filter_map(|entry| entry.record.parse().ok()).collect();
        records.sort_unstable();
        records.dedup();
        let entries = records.into_iter().map(|record| self.entry(caller, Looked::Watch, Some(shard), record.0));
        let allowed = hosted.log_accesses_in_turn(entries.collect()).await.map_err(failed)?;
        if allowed.iter().all(|allowed| *allowed) {
            return Ok(());
        }
        Err(denied("the caller's claims do not reach there any more; the attempt is logged"))
    }

    /// One entry of the access log, counted.
    pub(super) fn entry(
        &self,
        caller: &Caller,
        looked: Looked,
        shard: Option<ShardId>,
        subject: [u8; 16],
    ) -> AccessEntry {
        self.0.metrics.read(looked.name());
        caller.entry(looked, shard, subject)
    }

    /// A record once the look at it is logged, and its group.
    async fn read_logged(
        &self,
        caller: &Caller,
        looked: Looked,
        record: RecordId,
    ) -> Result<(GroupId, Record), Status> {
        let place = self.find_logged(caller, looked, record).await?;
        let (hosted, shard) = (place.hosted, place.shard.info.shard);
        let found: Option<Record> =
            hosted.look(|view| read(view, &hosted.keys().record(shard, record))).map_err(|error| broken(&error))?;
        let found = found.ok_or_else(|| no_record(record))?;
        Ok((hosted.id(), found))
    }

    pub(super) fn index_key(&self) -> [u8; 32] {
        self.0.secrets.index.secret
    }

    /// A unit by its id, or by code and day.
    pub(super) fn unit_named(&self, text: &str) -> Option<UnitId> {
        let by_code_and_day = || {
            let (code, day) = text.split_once('@')?;
            self.0.units().unit(code, day.parse().ok()?)
        };
        text.parse().ok().or_else(by_code_and_day)
    }

    /// Whether a shard with records of people is hosted here, of those that are meant.
    fn hosts_people(&self, is_meant: &impl Fn(&ShardInfo) -> bool) -> Result<bool, Status> {
        for hosted in self.0.hosted() {
            let homes = hosted.homes().map_err(|error| broken(&error))?;
            if homes.values().any(|info| !info.is_ancestor() && is_meant(info)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// As [`within`](Self::within), by a directory that is up to date if nothing here seems to lie there: units are made, and the
    /// shards of communes taken in, while a site runs, and this replica may not have heard of it. A unit that nobody knows is refused.
    pub(super) async fn within_here(&self, unit: &str) -> Result<impl Fn(&ShardInfo) -> bool + Sync + use<>, Status> {
        let within = self.within(unit);
        if self.hosts_people(&within)? {
            return Ok(within);
        }
        up_to_date_place(&self.0).await?;
        let units = self.0.units();
        let is_known = match self.unit_named(unit) {
            Some(id) => units.get(id).is_some(),
            None => unit.is_empty() || units.iter().any(|known| known.code == unit),
        };
        if !is_known {
            return Err(not_found("unit: none of that code, code and day or id is known here"));
        }
        Ok(self.within(unit))
    }

    /// Whether a shard's home is a unit, or lies in it: by its id, by code and day, or by the code that this site uses.
    fn within(&self, unit: &str) -> impl Fn(&ShardInfo) -> bool + Sync + use<> {
        let directory = self.0.units();
        let (known, unit) = (self.unit_named(unit), unit.to_owned());
        move |shard| {
            let mut path = shard.path.iter();
            match known {
                _ if unit.is_empty() => true,
                Some(known) => path.any(|id| *id == known),
                None => path.any(|id| directory.get(*id).is_some_and(|above| above.code == unit)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use dinhba_core::edit::{Change, Dot};
    use dinhba_core::ids::AuthorId;
    use dinhba_core::record::Write;
    use dinhba_core::schema::field;
    use dinhba_core::store::{Batch, Scan, StateEngine};

    use super::*;
    use crate::raft::test_support::MemoryState;
    use crate::runtime;
    use crate::seal::Unsealed;
    use crate::state::EngineKind;

    const KEY: [u8; 32] = [3; 32];
    const TERMS: [Term; 2] = [[7; 16], [8; 16]];

    /// With one field.
    fn person() -> Record {
        let mut record = Record::new(RecordKind::Person);
        let change = Change { field: field::NOTE, element: Vec::new(), value: b"An".to_vec(), overwrites: Vec::new() };
        crdts::CmRDT::apply(&mut record, Write::new(Dot { actor: AuthorId([1; 16]), counter: 1 }, 1, &[change]));
        record
    }

    /// 200 records of one shard and one of another, under both terms.
    fn state() -> MemoryState {
        let (state, keys) = (MemoryState::default(), Keys(GroupId(1)));
        let mut batch = Batch::default();
        let mut put = |shard, number: u8| {
            let record = RecordId([number; 16]);
            TERMS.iter().for_each(|term| {
                batch.put(keys.index(ShardId(shard), term, record), Vec::new());
                batch.put(keys.term(term, ShardId(shard)), Vec::new());
            });
            batch.put(keys.record(ShardId(shard), record), person().to_bytes());
        };
        (0..200).for_each(|number| put(1, number));
        put(2, 201);
        state.apply(batch).expect("memory");
        state
    }

    fn question() -> Question<'static> {
        Question {
            looked: Looked::Find,
            subject: [9; 16],
            logged: BTreeSet::new(),
            level: LEVEL_FIRST,
            terms: vec![TERMS[0]],
            within: &|_| true,
            matches: &|_, _| true,
        }
    }

    fn page(
        state: &MemoryState,
        question: &Question<'_>,
        shards: &[u64],
        from: Option<&Mark>,
        left: &mut Left,
    ) -> (Vec<u8>, Option<Mark>) {
        let may = shards.iter().map(|number| ShardId(*number)).collect();
        let walk = Walk { view: state, keys: Keys(GroupId(1)), index_key: &KEY, may: &may };
        let (found, mark) = walk.page(question, from, FOUND_MAX, left).unwrap();
        (found.iter().map(|found| found.id.0[0]).collect(), mark)
    }

    fn left(entries: usize) -> Left {
        Left { entries, ..Left::ALL }
    }

    #[test]
    fn what_a_caller_may_not_see_does_not_crowd_out_what_it_may() {
        let (state, question) = (state(), question());
        assert_eq!(page(&state, &question, &[2], None, &mut left(9)), (vec![201], None));
        assert_eq!(page(&state, &question, &[], None, &mut left(9)), (vec![], None));
        // With many shards the signposts say which have the term.
        let many: Vec<u64> = (2..30).collect();
        assert_eq!(page(&state, &question, &many, None, &mut left(1000)), (vec![201], None));
    }

    #[test]
    fn pages_show_everybody_once_whatever_ends_them() {
        let (state, mut question) = (state(), question());
        question.matches = &|id, _| id.0[0] % 2 == 1;
        let all = Left::ALL.bytes;
        // Of as many bytes as these a page has two records.
        let two = 2 * shown_bytes(&person()) - 1;
        for (shards, entries, bytes) in [
            (vec![1, 2], 1000, all),
            (vec![1, 2], 7, all),
            (vec![1, 2], 50, all),
            ((1..30).collect(), 13, all),
            (vec![1, 2], 1000, two),
            ((1..30).collect(), 13, 1),
        ] {
            let (mut seen, mut from, mut pages) = (Vec::new(), None, 0);
            loop {
                let (some, next) = page(&state, &question, &shards, from.as_ref(), &mut Left { entries, bytes });
                assert!(some.len() <= if bytes == all { FOUND_MAX } else { 2 });
                seen.extend(some);
                pages += 1;
                from = next;
                if from.is_none() {
                    break;
                }
            }
            assert_eq!(seen, (0..=201).filter(|number| number % 2 == 1).collect::<Vec<u8>>());
            assert!(pages > 1, "left {entries}, {bytes}");
        }
    }

    /// Counts what is asked of a view.
    struct Counted<'a>(Box<dyn StateView + 'a>, AtomicUsize);

    impl StateView for Counted<'_> {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.get(key)
        }
        fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> Scan<'a> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.scan(from, to)
        }
    }

    /// The centre: ten thousand shards with 20 people each, all of one name that every shard has, each of a number of their own.
    #[test]
    fn who_asks_for_one_person_of_ten_thousand_shards_is_not_led_through_all_of_them() {
        let (dir, keys, shards) = (tempfile::tempdir().unwrap(), Keys(GroupId(1)), 10_000_u64);
        let engine = crate::state::open(EngineKind::Fjall, dir.path(), Arc::new(Unsealed)).unwrap();
        let number_of = |shard: u64, person: u64| -> Term {
            *blake3::hash(&(shard, person).to_bytes()).as_bytes().first_chunk().unwrap()
        };
        for shard in 1..=shards {
            let mut batch = Batch::default();
            for person in 0..20 {
                let term = number_of(shard, person);
                for term in [&term, &TERMS[0]] {
                    batch.put(keys.index(ShardId(shard), term, RecordId(number_of(shard, person))), Vec::new());
                    batch.put(keys.term(term, ShardId(shard)), Vec::new());
                }
                batch.put(
                    keys.record(ShardId(shard), RecordId(number_of(shard, person))),
                    Record::new(RecordKind::Person).to_bytes(),
                );
            }
            engine.apply(batch).unwrap();
        }
        let may: BTreeSet<ShardId> = (1..=shards).map(ShardId).collect();
        let asked = |term: Term, from: Option<&Mark>| {
            let view = Counted(engine.snapshot().unwrap(), AtomicUsize::new(0));
            let (began, question) = (runtime::now(), Question { terms: vec![term], ..question() });
            let walk = Walk { view: &view, keys, index_key: &KEY, may: &may };
            let (found, mark) = walk.page(&question, from, FOUND_MAX, &mut left(LOOKED_AT_MAX)).unwrap();
            eprintln!(
                "{} found by {} looks in {:?}",
                found.len(),
                view.1.load(Ordering::Relaxed),
                runtime::now() - began
            );
            (found, mark, view.1.load(Ordering::Relaxed))
        };
        for shard in [1, 5_000, shards] {
            let (found, mark, looks) = asked(number_of(shard, 7), None);
            assert_eq!((found.len(), found[0].shard, mark), (1, ShardId(shard), None));
            assert_eq!(looks, 3, "the signposts, the index of the one shard, the record");
        }
        assert_eq!(asked(number_of(shards + 1, 7), None).2, 1, "who is nowhere is looked for nowhere");
        // A name that all have: each shard that a page comes to is one look more.
        let (found, mark, looks) = asked(TERMS[0], None);
        assert_eq!((found.len(), looks), (FOUND_MAX, 1 + 3 + FOUND_MAX));
        let (found, _, _) = asked(TERMS[0], mark.as_ref());
        assert_eq!(found[0].shard, ShardId(3), "the next page goes on in the shard where the first ended");
    }
}
