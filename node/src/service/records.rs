//! What applications and officers do with records: who may look where, what is logged first, and each call. An edit and the
//! pages of what is long have files of their own.

mod conflicts;
mod edit;
mod event;
mod figures;
mod held;
mod numbers;
mod pages;
mod quality;
mod receipt;
mod roll;
mod standing;
mod stocks;
mod targets;
mod work;
mod worklist;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dinhba_core::access::Action;
use dinhba_core::access_log::{AccessEntry, LoggedAccess, Looked};
use dinhba_core::claims::Claims;
use dinhba_core::command::ShardInfo;
use dinhba_core::date::{Date, InstantMs};
use dinhba_core::edit::Dot;
use dinhba_core::encoding::{Malformed, Wire};
use dinhba_core::ids::{AuthorId, GroupId, NodeId, RecordId, ShardId};
use dinhba_core::keys::{own_suffix, suffix};
use dinhba_core::record::Record;
use dinhba_core::registry::{self, AsOf, Past, Poison, ShardState, corrupt, homes, read};
use dinhba_core::store::StoreError;
use dinhba_proto::v1;
use dinhba_proto::v1::records_server::Records;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Response, Status, Streaming};

use edit::answered_in_turn;
use pages::{HISTORY_PAGE, history_from};

use super::answer::{
    beyond_end, broken, bug, denied, failed, no_record, not_accepted, not_found, precondition, unread, wrong,
};
use super::convert::{record_to_wire, request_from_wire, request_to_wire, status_to_refused};
use super::{
    Caller, all_groups_here, group_here, host_of, id, person, ready, up_to_date, up_to_date_place, whole_place,
};
use crate::gate::Budget;
use crate::hosted::Hosted;
use crate::shared::Shared;

/// Entries of the access log in one page.
const ACCESS_PAGE: usize = 500;

/// Stored bytes of the edits in one page, but for the last of them: as text, with names and labels, they grow several times,
/// and a message takes 4 MiB.
pub(super) const PAGE_BYTES: usize = 256 * 1024;

/// Bytes of the records in one answer or page as they are shown, but for the last of them, which may take 2 MiB if a site
/// wrote into it what it could: together they fit a message.
pub(super) const SHOWN_BYTES_MAX: usize = 1024 * 1024;

/// Of no more shards each is asked for a term: a district's communes. Beyond, its signposts say which have it.
pub(super) const SHARDS_ASKED_MAX: usize = 16;

/// Bytes of a stream's edits under way: four of the largest, and all that are usual.
const EDIT_BYTES_AT_ONCE: usize = 2 << 20;

/// The service; clones are the same.
#[derive(Clone)]
pub struct RecordsService(pub Arc<Shared>);

/// A hosted shard that a caller reads.
pub(super) struct Place<'a> {
    pub(super) hosted: &'a Hosted,
    pub(super) shard: ShardState,
}

/// A group that is asked for several records, as one caller may see it.
pub(super) struct Asked<'a> {
    pub(super) hosted: &'a Hosted,
    /// The only one of them that the question is about, if it is one.
    pub(super) only: Option<ShardId>,
    /// Those of them that the question is about and the caller may see.
    pub(super) may: BTreeSet<ShardId>,
    /// Where the shards of the group have their homes.
    pub(super) homes: Arc<BTreeMap<ShardId, ShardInfo>>,
}

/// What the groups that were asked said of whether the caller may look.
#[derive(Default)]
pub(super) struct Verdicts {
    may_look: bool,
    denial: Option<Status>,
}

impl Verdicts {
    /// Takes what one of them said; whether the caller may look there.
    pub(super) fn may(&mut self, denial: Option<Status>) -> bool {
        let may = denial.is_none();
        self.may_look |= may;
        self.denial = denial.or(self.denial.take());
        may
    }

    /// The denial, if nobody said yes: who may see nothing here is not told what there is either. Who may look somewhere and
    /// finds nothing has an answer.
    pub(super) fn refuse_who_may_look_nowhere(self) -> Result<(), Status> {
        match self.denial {
            Some(denial) if !self.may_look => Err(denial),
            _ => Ok(()),
        }
    }
}

/// Those that may be seen somewhere; if that is none, all of them: an attempt is logged where it was made.
fn worth_asking<T>(all: Vec<T>, may_see: impl Fn(&T) -> bool) -> Vec<T> {
    match all.iter().any(&may_see) {
        true => all.into_iter().filter(may_see).collect(),
        false => all,
    }
}

impl RecordsService {
    /// The groups that a question about `wanted` shards is put to. Those in which the caller may see nothing are not asked: a
    /// refused look in their access logs would tell of one that nobody wanted.
    pub(super) fn asked(
        &self,
        caller: &Caller,
        action: Action,
        wanted: &impl Fn(&ShardInfo) -> bool,
    ) -> Result<Vec<Asked<'_>>, Status> {
        let all = self.0.hosted().filter_map(|hosted| self.asked_of(hosted, caller, action, wanted).transpose());
        Ok(worth_asking(all.collect::<Result<_, _>>()?, |asked: &Asked<'_>| !asked.may.is_empty()))
    }

    /// A group that is asked, if it has a shard that is wanted. Asked again once the question is in its log, which has brought this
    /// replica up to date, it also has what was taken in until then.
    pub(super) fn asked_of<'a>(
        &self,
        hosted: &'a Hosted,
        caller: &Caller,
        action: Action,
        wanted: &impl Fn(&ShardInfo) -> bool,
    ) -> Result<Option<Asked<'a>>, Status> {
        let homes = hosted.homes().map_err(|error| broken(&error))?;
        let mut shards = homes.values().filter(|info| wanted(info)).peekable();
        let Some(first) = shards.next() else { return Ok(None) };
        let only = shards.peek().is_none().then_some(first.shard);
        let may = std::iter::once(first).chain(shards);
        let may = may.filter(|info| caller.may(self.0.level_max, action, &info.path).is_ok());
        let may = may.map(|info| info.shard).collect();
        Ok(Some(Asked { hosted, only, may, homes }))
    }

    /// The groups with records of people in a unit, each with the shards that the caller may see, once the question is in the log of each:
    /// also who asks for one commune in vain is in its log.
    pub(super) async fn asked_within(
        &self,
        caller: &Caller,
        (action, looked): (Action, Looked),
        unit: &str,
    ) -> Result<Vec<Asked<'_>>, Status> {
        all_groups_here(&self.0).await?;
        let is_within = self.within_here(unit).await?;
        let wanted = |info: &ShardInfo| !info.is_ancestor() && is_within(info);
        let (mut found, mut verdicts) = (Vec::new(), Verdicts::default());
        for Asked { hosted, only, .. } in self.asked(caller, action, &wanted)? {
            if verdicts.may(self.log_or_denial(caller, looked, hosted, only, [0; 16]).await?) {
                found.extend(self.asked_of(hosted, caller, action, &wanted)?);
            }
        }
        verdicts.refuse_who_may_look_nowhere()?;
        Ok(found)
    }

    /// Writes one read into the access log of each group that it touches, before anything is read.
    async fn log(
        &self,
        caller: &Caller,
        looked: Looked,
        group: &Hosted,
        shard: Option<ShardId>,
        subject: [u8; 16],
    ) -> Result<(), Status> {
        let entry = self.entry(caller, looked, shard, subject);
        match group.log_accesses(vec![entry]).await.map_err(failed)?.as_slice() {
            [true] => Ok(()),
            _ => Err(denied("the caller's claims do not reach there; the attempt is logged")),
        }
    }

    /// Like [`log`](Self::log), for several groups in turn: a denial in one of them is returned and is no error, since
    /// the others may allow it. That a group cannot be asked is one: its records would be missing from the answer.
    pub(super) async fn log_or_denial(
        &self,
        caller: &Caller,
        looked: Looked,
        group: &Hosted,
        shard: Option<ShardId>,
        subject: [u8; 16],
    ) -> Result<Option<Status>, Status> {
        match self.log(caller, looked, group, shard, subject).await {
            Ok(()) => Ok(None),
            Err(denial) if denial.code() == tonic::Code::PermissionDenied => Ok(Some(denial)),
            Err(error) => Err(error),
        }
    }

    /// A shard that runs here. Of one that does not, only a directory that is up to date can tell where it is, or that it is
    /// nowhere: a caller believes that.
    async fn place_of(&self, shard: ShardId) -> Result<Place<'_>, Status> {
        let hosted = host_of(&self.0, shard).await?;
        match hosted.shard(shard).map_err(|error| broken(&error))? {
            Some(shard) => Ok(Place { hosted, shard }),
            None => Err(not_accepted(format!("shard {shard} is only just taken in here: try again in a moment"))),
        }
    }

    /// The shard that a record lives in, among those that run here.
    pub(super) fn find_record(&self, record: RecordId) -> Result<Option<Place<'_>>, Status> {
        for hosted in self.0.hosted() {
            let shards = hosted.look(|view| homes(view, hosted.keys(), record)).map_err(|error| broken(&error))?;
            let Some(&shard) = shards.first() else { continue };
            let state = hosted.shard(shard).map_err(|error| broken(&error))?;
            return Ok(state.map(|shard| Place { hosted, shard }));
        }
        Ok(None)
    }

    /// The shard that a record lives in, once the read is in the access log; an attempt that finds nothing is logged too.
    pub(super) async fn find_logged(
        &self,
        caller: &Caller,
        looked: Looked,
        record: RecordId,
    ) -> Result<Place<'_>, Status> {
        let mut found = self.find_record(record)?;
        if found.is_none() {
            // What is not here may be with another node, and what may not be seen here may be there.
            all_groups_here(&self.0).await?;
            let action = if looked == Looked::History { Action::History } else { Action::Read };
            let (mut verdicts, mut asked) = (Verdicts::default(), BTreeSet::new());
            for Asked { hosted, .. } in self.asked(caller, action, &|_: &ShardInfo| true)? {
                // This replica may lag: the entry's place in the log is also the barrier that brings it up to date.
                if verdicts.may(self.log_or_denial(caller, looked, hosted, None, record.0).await?) {
                    found = self.find_record(record)?;
                }
                asked.insert(hosted.id());
                if found.is_some() {
                    break;
                }
            }
            verdicts.refuse_who_may_look_nowhere()?;
            // That it is nowhere must hold for the other groups too; one that has it logs the attempt below.
            for hosted in self.0.hosted().filter(|hosted| !asked.contains(&hosted.id())) {
                if found.is_none() {
                    up_to_date(hosted).await?;
                    found = self.find_record(record)?;
                }
            }
        }
        let place = found.ok_or_else(|| no_record(record))?;
        self.log(caller, looked, place.hosted, Some(place.shard.info.shard), record.0).await?;
        self.refuse_doubled(record)?;
        Ok(place)
    }

    /// Refuses a record that several shards have: one commune made it, whoever writes another's shard wrote under its id, and who
    /// is who cannot be told here.
    pub(super) fn refuse_doubled(&self, record: RecordId) -> Result<(), Status> {
        let mut found = Vec::new();
        for hosted in self.0.hosted() {
            let shards = hosted.look(|view| homes(view, hosted.keys(), record)).map_err(|error| broken(&error))?;
            found.extend(shards.iter().map(ToString::to_string));
        }
        if found.len() < 2 {
            return Ok(());
        }
        let shards = found.join(" and ");
        tracing::error!(%record, shards, "several shards have this record: somebody wrote under an id that is not his");
        Err(precondition(format!(
            "record {record} is in {shards}: somebody wrote under an id that is not his. Ask the site of its commune, which has \
             its own alone, and tell the operators"
        )))
    }

    /// The shard that is meant: named, or the home of the caller's unit.
    async fn shard_of(&self, text: &str, claims: &Claims) -> Result<ShardId, Status> {
        if !text.is_empty() {
            return id("shard", text);
        }
        if let Some(home) = self.0.place().home_of(claims.unit) {
            return Ok(home);
        }
        whole_place(&self.0).await?;
        // A commune's shard may be taken in while the site runs.
        up_to_date_place(&self.0).await?;
        let home = self.0.place().home_of(claims.unit);
        home.ok_or_else(|| not_found("shard: name the shard; the caller's unit is not a commune here"))
    }

    /// A record at a place, after its access was logged.
    fn record_at(&self, place: &Place<'_>, record: RecordId) -> Result<v1::Record, Status> {
        let shard = place.shard.info.shard;
        let found: Option<Record> = place
            .hosted
            .look(|view| read(view, &place.hosted.keys().record(shard, record)))
            .map_err(|error| broken(&error))?;
        let found = found.ok_or_else(|| no_record(record))?;
        let level = place.hosted.level().map_err(|error| broken(&error))?;
        Ok(record_to_wire(&self.0, (&place.shard.info, level), record, &found))
    }

    /// A record as it was.
    fn past_of(&self, place: &Place<'_>, record: RecordId, as_of: AsOf) -> Result<v1::Record, Status> {
        let (hosted, shard) = (place.hosted, place.shard.info.shard);
        let found = hosted.look(|view| registry::as_of(view, &hosted.context, shard, record, as_of));
        let found = match found.map_err(|error| broken(&error))? {
            Past::Record(found) => found,
            Past::Nothing => return Err(not_found("there was nothing of this record then: ask for a later day")),
            Past::TooLong => {
                return Err(precondition("this record has too many edits to be made anew: read its history, in pages"));
            }
        };
        let level = hosted.level().map_err(|error| broken(&error))?;
        Ok(record_to_wire(&self.0, (&place.shard.info, level), record, &found))
    }
}

fn chunk<const N: usize>(key: &[u8], at: usize) -> Result<[u8; N], StoreError> {
    let part = suffix(key, at).first_chunk::<N>().copied();
    part.ok_or_else(|| corrupt(key, Malformed { what: "key" }))
}

/// The number of an entry of the access log, by its key.
fn access_number(key: &[u8]) -> Result<u64, StoreError> {
    let number = own_suffix(key, 0).first_chunk().copied();
    number.map(u64::from_be_bytes).ok_or_else(|| corrupt(key, Malformed { what: "key of an access" }))
}

/// As of when a record is asked for.
fn as_of_from_wire(request: &v1::GetRequest) -> Result<AsOf, Status> {
    let v1::GetRequest { in_law_on, known_on, .. } = request;
    let in_law = match in_law_on.as_str() {
        "" => None,
        day => Some(id("in_law_on", day)?),
    };
    let known = match known_on.as_str() {
        "" => None,
        text => Some(match text.parse::<Date>() {
            // All of the day.
            Ok(day) => InstantMs(InstantMs::start_of(Date::from_days(day.days() + 1)).0 - 1),
            Err(_) => text.parse::<InstantMs>().map_err(|_| {
                wrong("known_on", "known_on: write a day (2026-01-31) or a moment (2026-01-31T12:00:00Z)")
            })?,
        }),
    };
    Ok(AsOf { known, in_law })
}

/// What was looked at: a record, the keyed hash of a search's terms, or nothing for the whole of a unit. Or what an operator's
/// act was about.
fn target_text(entry: &AccessEntry) -> String {
    match entry.looked {
        _ if entry.subject == [0; 16] => String::new(),
        Looked::AddNode | Looked::PromoteNode | Looked::RemoveNode | Looked::TransferLeader => {
            NodeId(number_in(&entry.subject)).to_string()
        }
        Looked::RaiseLevel => format!("level {}", number_in(&entry.subject)),
        Looked::ReleaseAuthor => AuthorId(entry.subject).to_string(),
        Looked::Find => entry.subject.iter().map(|byte| format!("{byte:02x}")).collect(),
        _ => RecordId(entry.subject).to_string(),
    }
}

/// The number with which a subject ends.
fn number_in(subject: &[u8; 16]) -> u64 {
    u128::from_be_bytes(*subject) as u64
}

#[tonic::async_trait]
impl Records for RecordsService {
    async fn edit(&self, request: Request<v1::EditRequest>) -> Result<Response<v1::EditReply>, Status> {
        ready(&self.0)?;
        let claims = person(&request)?;
        Ok(Response::new(self.edit_one(&claims, request.into_inner()).await?))
    }

    type EditManyStream = BoxStream<'static, Result<v1::EditManyReply, Status>>;

    async fn edit_many(
        &self,
        request: Request<Streaming<v1::EditRequest>>,
    ) -> Result<Response<Self::EditManyStream>, Status> {
        ready(&self.0)?;
        let claims = person(&request)?;
        let (service, budget) = (self.clone(), request.extensions().get::<Budget>().cloned());
        let decide = move |(request, room): (v1::EditRequest, OwnedSemaphorePermit)| {
            let (service, claims) = (service.clone(), claims.clone());
            // As one of many streams it may be too much. That is said of this edit alone.
            let held = budget.as_ref().map(|budget| budget.hold(room.num_permits())).transpose();
            async move {
                let name = request_from_wire(request.request.clone()).map(request_to_wire).ok();
                let outcome = match held {
                    Ok(until_answered) => {
                        let outcome = service.edit_one(&claims, request).await;
                        drop((until_answered, room));
                        outcome
                    }
                    Err(status) => Err(status),
                };
                let outcome = match outcome {
                    Ok(reply) => v1::edit_many_reply::Outcome::Accepted(reply),
                    Err(status) => v1::edit_many_reply::Outcome::Refused(status_to_refused(&status)),
                };
                v1::EditManyReply { request: name, outcome: Some(outcome) }
            }
        };
        let room = Arc::new(Semaphore::new(EDIT_BYTES_AT_ONCE));
        let find_room = move |request: v1::EditRequest| {
            let bytes = request.encoded_len().min(EDIT_BYTES_AT_ONCE);
            let room = Arc::clone(&room).acquire_many_owned(u32::try_from(bytes).unwrap_or(u32::MAX));
            async move { Ok((request, room.await.map_err(|_| bug("the room for edits was closed"))?)) }
        };
        let edits = request.into_inner().map_err(unread).and_then(find_room);
        Ok(Response::new(answered_in_turn(edits, decide)))
    }

    async fn file(&self, request: Request<v1::FileRequest>) -> Result<Response<v1::EditReply>, Status> {
        ready(&self.0)?;
        let claims = person(&request)?;
        Ok(Response::new(self.file_one(&claims, request.into_inner()).await?))
    }

    async fn judge(&self, request: Request<v1::JudgeRequest>) -> Result<Response<v1::EditReply>, Status> {
        ready(&self.0)?;
        let claims = person(&request)?;
        Ok(Response::new(self.judge_one(&claims, request.into_inner()).await?))
    }

    async fn pending(&self, request: Request<v1::PendingRequest>) -> Result<Response<v1::PendingReply>, Status> {
        ready(&self.0)?;
        let caller = Caller::resolve(&request, request.get_ref().context.as_ref())?;
        Ok(Response::new(self.pending_for(&caller, request.get_ref()).await?))
    }

    async fn events(&self, request: Request<v1::EventsRequest>) -> Result<Response<v1::EventsReply>, Status> {
        // It says nothing of anybody.
        person(&request)?;
        Ok(Response::new(event::forms()))
    }

    async fn receipt(&self, request: Request<v1::ReceiptRequest>) -> Result<Response<v1::ReceiptReply>, Status> {
        ready(&self.0)?;
        let caller = Caller::resolve(&request, request.get_ref().context.as_ref())?;
        Ok(Response::new(self.receipt_of(&caller, request.into_inner()).await?))
    }

    async fn held(&self, request: Request<v1::HeldRequest>) -> Result<Response<v1::HeldReply>, Status> {
        ready(&self.0)?;
        let claims = person(&request)?;
        Ok(Response::new(self.wait_until_held(&claims, request.into_inner()).await?))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetReply>, Status> {
        ready(&self.0)?;
        let caller = Caller::resolve(&request, request.get_ref().context.as_ref())?;
        let record: RecordId = id("record", &request.get_ref().record)?;
        let as_of = as_of_from_wire(request.get_ref())?;
        let looked = if as_of.is_past() { Looked::History } else { Looked::Record };
        let place = self.find_logged(&caller, looked, record).await?;
        let found = match as_of.is_past() {
            true => self.past_of(&place, record, as_of)?,
            false => self.record_at(&place, record)?,
        };
        Ok(Response::new(v1::GetReply { record: Some(found) }))
    }

    async fn find(&self, request: Request<v1::FindRequest>) -> Result<Response<v1::FindReply>, Status> {
        ready(&self.0)?;
        let caller = Caller::resolve(&request, request.get_ref().context.as_ref())?;
        all_groups_here(&self.0).await?;
        Ok(Response::new(self.search(&caller, request.into_inner()).await?))
    }

    async fn members_of(&self, request: Request<v1::MembersOfRequest>) -> Result<Response<v1::FindReply>, Status> {
        ready(&self.0)?;
        let caller = Caller::resolve(&request, request.get_ref().context.as_ref())?;
        all_groups_here(&self.0).await?;
        Ok(Response::new(self.members(&caller, request.get_ref()).await?))
    }

    async fn households_of(
        &self,
        request: Request<v1::HouseholdsOfRequest>,
    ) -> Result<Response<v1::FindReply>, Status> {
        ready(&self.0)?;
        let caller = Caller::resolve(&request, request.get_ref().context.as_ref())?;
        all_groups_here(&self.0).await?;
        Ok(Response::new(self.households(&caller, request.get_ref()).await?))
    }

    async fn dossiers_of(&self, request: Request<v1::DossiersOfRequest>) -> Result<Response<v1::FindReply>, Status> {
        ready(&self.0)?;
        let caller = Caller::resolve(&request, request.get_ref().context.as_ref())?;
        all_groups_here(&self.0).await?;
        Ok(Response::new(self.dossiers(&caller, request.get_ref()).await?))
    }

    async fn history(&self, request: Request<v1::HistoryRequest>) -> Result<Response<v1::HistoryReply>, Status> {
        ready(&self.0)?;
        let caller = Caller::resolve(&request, request.get_ref().context.as_ref())?;
        let record: RecordId = id("record", &request.get_ref().record)?;
        let place = self.find_logged(&caller, Looked::History, record).await?;
        let shard = place.shard.info.shard;
        let (hosted, from) = (place.hosted, request.get_ref().from);
        let found = hosted.look(|view| history_from(view, hosted.keys(), shard, record, from));
        let (positions, places): (Vec<u64>, Vec<Dot>) = found.map_err(|error| broken(&error))?.into_iter().unzip();
        let mut entries = self.entries(hosted, shard, (&places[..places.len().min(HISTORY_PAGE)], Some(record)))?;
        let next = positions.get(entries.len()).copied().unwrap_or_default();
        // What was asked once is shown once.
        entries.retain(|entry| entry.set_aside != Poison::Twin.name());
        Ok(Response::new(v1::HistoryReply { entries, next }))
    }

    async fn conflicts(&self, request: Request<v1::ConflictsRequest>) -> Result<Response<v1::ConflictsReply>, Status> {
        ready(&self.0)?;
        let caller = Caller::resolve(&request, request.get_ref().context.as_ref())?;
        Ok(Response::new(self.open_conflicts(&caller, request.get_ref()).await?))
    }

    async fn work(&self, request: Request<v1::WorkRequest>) -> Result<Response<v1::WorkReply>, Status> {
        ready(&self.0)?;
        let caller = Caller::resolve(&request, request.get_ref().context.as_ref())?;
        Ok(Response::new(self.work_of(&caller, request.get_ref()).await?))
    }

    async fn figures(&self, request: Request<v1::FiguresRequest>) -> Result<Response<v1::FiguresReply>, Status> {
        ready(&self.0)?;
        let caller = Caller::resolve(&request, request.get_ref().context.as_ref())?;
        Ok(Response::new(self.figures_of(&caller, request.get_ref()).await?))
    }

    async fn quality(&self, request: Request<v1::QualityRequest>) -> Result<Response<v1::QualityReply>, Status> {
        ready(&self.0)?;
        let caller = Caller::resolve(&request, request.get_ref().context.as_ref())?;
        Ok(Response::new(self.quality_of(&caller, request.get_ref()).await?))
    }

    async fn stocks(&self, request: Request<v1::StocksRequest>) -> Result<Response<v1::StocksReply>, Status> {
        ready(&self.0)?;
        let caller = Caller::resolve(&request, request.get_ref().context.as_ref())?;
        Ok(Response::new(self.stocks_of(&caller, request.get_ref()).await?))
    }

    async fn targets(&self, request: Request<v1::TargetsRequest>) -> Result<Response<v1::TargetsReply>, Status> {
        ready(&self.0)?;
        let caller = Caller::resolve(&request, request.get_ref().context.as_ref())?;
        Ok(Response::new(self.targets_of(&caller, request.get_ref()).await?))
    }

    async fn numbers(&self, request: Request<v1::NumbersRequest>) -> Result<Response<v1::NumbersReply>, Status> {
        ready(&self.0)?;
        let caller = Caller::resolve(&request, request.get_ref().context.as_ref())?;
        Ok(Response::new(self.numbers_of(&caller, request.get_ref()).await?))
    }

    type WatchStream = BoxStream<'static, Result<v1::WatchReply, Status>>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        ready(&self.0)?;
        let caller = Caller::resolve(&request, request.get_ref().context.as_ref())?;
        let shard: ShardId = self.shard_of(&request.get_ref().shard, &caller.claims).await?;
        let place = self.place_of(shard).await?;
        self.log(&caller, Looked::Watch, place.hosted, Some(shard), [0; 16]).await?;
        let next = place.hosted.shard(shard).map_err(|error| broken(&error))?.map_or(0, |state| state.arrivals) + 1;
        let from = match request.get_ref().from {
            0 => next,
            from if from > next => return Err(beyond_end(shard, next)),
            from => from,
        };
        let (service, hosted) = (self.clone(), place.hosted.clone());
        let moved = hosted.follow();
        let feed = stream::try_unfold((from, moved), move |(from, mut moved)| {
            let (service, hosted, caller) = (service.clone(), hosted.clone(), caller.clone());
            async move {
                loop {
                    let entries = service.feed(&hosted, shard, from)?;
                    if let Some(next) = entries.last().map(|last| last.position + 1) {
                        service.log_page(&caller, &hosted, shard, &entries).await?;
                        return Ok::<_, Status>(Some((stream::iter(entries), (next, moved))));
                    }
                    if !service.has_moved(&hosted, &mut moved).await? {
                        return Ok(None);
                    }
                }
            }
        });
        let replies = feed.map_ok(|page| page.map(|entry| Ok(v1::WatchReply { entry: Some(entry) }))).try_flatten();
        Ok(Response::new(replies.boxed()))
    }

    type ExportStream = BoxStream<'static, Result<v1::ExportReply, Status>>;

    async fn export(&self, request: Request<v1::ExportRequest>) -> Result<Response<Self::ExportStream>, Status> {
        ready(&self.0)?;
        let caller = Caller::resolve(&request, request.get_ref().context.as_ref())?;
        let shard: ShardId = self.shard_of(&request.get_ref().shard, &caller.claims).await?;
        let place = self.place_of(shard).await?;
        self.log(&caller, Looked::Export, place.hosted, Some(shard), [0; 16]).await?;
        // Before the first page is read: later pages may show more than this, never less.
        let watch_from =
            place.hosted.shard(shard).map_err(|error| broken(&error))?.map_or(0, |state| state.arrivals) + 1;
        let (service, hosted, state) = (self.clone(), place.hosted.clone(), place.shard);
        let pages = stream::try_unfold(Some(None), move |from| {
            let page = match from {
                None => Ok(None),
                Some(from) => service
                    .export_page(&hosted, &state, from)
                    .map(|(records, next)| Some((v1::ExportReply { records, watch_from }, next.map(Some)))),
            };
            async move { page }
        });
        Ok(Response::new(pages.boxed()))
    }

    type RollStream = BoxStream<'static, Result<v1::RollReply, Status>>;

    async fn roll(&self, request: Request<v1::RollRequest>) -> Result<Response<Self::RollStream>, Status> {
        ready(&self.0)?;
        let caller = Caller::resolve(&request, request.get_ref().context.as_ref())?;
        let roll = roll::roll_from_wire(request.get_ref())?;
        let shard: ShardId = self.shard_of(&request.get_ref().shard, &caller.claims).await?;
        let place = self.place_of(shard).await?;
        self.log(&caller, Looked::Export, place.hosted, Some(shard), [0; 16]).await?;
        let (service, hosted, state) = (self.clone(), place.hosted.clone(), place.shard);
        let pages = stream::try_unfold(Some(None), move |from| {
            let page = match from {
                None => Ok(None),
                Some(from) => service
                    .roll_page(&hosted, &state, roll, from)
                    .map(|(entries, next)| Some((v1::RollReply { entries }, next.map(Some)))),
            };
            async move { page }
        });
        Ok(Response::new(pages.boxed()))
    }

    async fn access_log(&self, request: Request<v1::AccessLogRequest>) -> Result<Response<v1::AccessLogReply>, Status> {
        ready(&self.0)?;
        let caller = Caller::resolve(&request, request.get_ref().context.as_ref())?;
        let group: GroupId = id("group", &request.get_ref().group)?;
        let hosted = group_here(&self.0, group).await?;
        self.log(&caller, Looked::AccessLog, hosted, None, [0; 16]).await?;
        let from = request.get_ref().from.max(1);
        let (state, page) = hosted
            .look(|view| {
                let state = read(view, &hosted.keys().group())?;
                let (from, to) = hosted.keys().access_from(from);
                let page: Result<Vec<(u64, LoggedAccess)>, StoreError> = view
                    .scan(&from, &to)
                    .take(ACCESS_PAGE)
                    .map(|item| {
                        let (key, value) = item?;
                        let logged = LoggedAccess::from_bytes(&value).map_err(|error| corrupt(&key, error))?;
                        Ok((access_number(&key)?, logged))
                    })
                    .collect();
                Ok((state, page?))
            })
            .map_err(|error| broken(&error))?;
        let state: dinhba_core::registry::GroupState =
            state.ok_or_else(|| not_accepted("the group is not formed yet"))?;
        let entries = page.into_iter().map(|(number, logged)| v1::Access {
            number,
            subject: logged.entry.claims.subject.to_string(),
            role: logged.entry.claims.role.to_string(),
            unit: logged.entry.claims.unit.to_string(),
            purpose: logged.entry.purpose.to_string(),
            case: logged.entry.case.to_string(),
            looked: logged.entry.looked.name().to_owned(),
            shard: logged.entry.shard.map(|shard| shard.to_string()).unwrap_or_default(),
            target: target_text(&logged.entry),
            at_ms: logged.entry.at_ms,
            allowed: logged.allowed,
            hash: logged.hash.0.to_vec(),
        });
        Ok(Response::new(v1::AccessLogReply {
            entries: entries.collect(),
            count: state.access_count,
            head: state.access_hash.0.to_vec(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_look_somewhere_is_told_that_there_is_nothing_and_who_may_look_nowhere_is_denied() {
        let told = |groups: &[bool]| {
            let mut verdicts = Verdicts::default();
            for may in groups {
                assert_eq!(verdicts.may((!may).then(|| denied("not there"))), *may);
            }
            verdicts.refuse_who_may_look_nowhere().is_ok()
        };
        assert!(told(&[true]) && told(&[false, true]) && told(&[true, false]) && told(&[]));
        assert!(!told(&[false]) && !told(&[false, false]));
        // Where nothing may be seen nothing is asked, unless that is everywhere.
        assert_eq!(worth_asking(vec![false, true], |may| *may), [true]);
        assert_eq!(worth_asking(vec![false, false], |may| *may), [false, false]);
    }
}
