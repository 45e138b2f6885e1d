//! How edits stand: what officers say of them, and the list of those that wait for a second person.

use dinhba_core::access::Action;
use dinhba_core::access_log::Looked;
use dinhba_core::claims::Claims;
use dinhba_core::command::{Command, EditCommand, PartDraft, PendingEntry};
use dinhba_core::edit::{Change, Dot};
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{RecordId, ShardId};
use dinhba_core::registry::{StoredEdit, ToJudge, corrupt, pending_of, place_named, read, to_judge};
use dinhba_core::standing::{Standing, standing_field};
use dinhba_core::store::{StateView, StoreError};
use dinhba_proto::v1;
use tonic::Status;

use super::worklist::{Entry, List, Room, Wanted};
use super::{Place, RecordsService};
use crate::hosted::Hosted;
use crate::runtime;
use crate::service::answer::{Problem, broken, invalid, not_found, wrong};
use crate::service::convert::{grounds_change, request_from_wire, shard_named};
use crate::service::{Caller, context_from_wire, id, keep, up_to_date};

/// Edits in one page of what waits: a morning's work...
const PENDING_MAX: usize = 200;

/// ...and their bytes as they are shown, but for the last of them: a quarter of what a message takes.
const PENDING_BYTES_MAX: usize = 1 << 20;

/// How many times as long as it is stored an edit is as it is shown, with names and labels.
const SHOWN_TIMES: usize = 4;

impl RecordsService {
    /// Says how an edit stands, and what became of that.
    pub(super) async fn judge_one(&self, claims: &Claims, request: v1::JudgeRequest) -> Result<v1::EditReply, Status> {
        self.counted(self.judge_uncounted(claims, request).await)
    }

    async fn judge_uncounted(&self, claims: &Claims, request: v1::JudgeRequest) -> Result<v1::EditReply, Status> {
        let mut problems = Vec::new();
        let shard = shard_named(&request.shard, ShardId::default(), &mut problems);
        let context = context_from_wire(request.context.as_ref(), &mut problems);
        let name = keep(&mut problems, "request", request_from_wire(request.request));
        let record = request.record.parse::<RecordId>().map_err(|error| format!("record: {error}"));
        let record = keep(&mut problems, "record", record);
        let key = request.edit.get(..16).ok_or("edit: give its hash, 32 hexadecimal digits of it or more");
        let key = keep(&mut problems, "edit", key);
        let standing = Standing::named(&request.standing).ok_or("standing: one of confirmed, rejected, held, released");
        let standing = keep(&mut problems, "standing", standing);
        let grounds = keep(&mut problems, "grounds", grounds_change(&request.grounds)).flatten();
        if standing.is_some_and(Standing::needs_grounds) && grounds.is_none() {
            problems.push(Problem::new("grounds", "grounds: say why, since the edit is taken out of its record"));
        }
        let (true, Some((purpose, case)), Some(name), Some(record), Some(key), Some(standing)) =
            (problems.is_empty(), context, name, record, key, standing)
        else {
            return Err(invalid(problems));
        };
        let caller = Caller { claims: claims.clone(), purpose, case };
        let place = match request.shard.is_empty() {
            true => self.find_logged(&caller, Looked::History, record).await?,
            false => self.place_of(shard).await?,
        };
        let shard = place.shard.info.shard;
        caller.may(self.0.level_max, Action::Resolve, &place.shard.info.path)?;
        let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let found = self.edits_to_judge(place.hosted, shard, record, key.as_bytes()).await?;
        let Some(edits) = found else {
            return Err(not_found("this record has no such edit here: `history` shows them, with their hashes"));
        };
        let part = |edit: &ToJudge| {
            let field = standing_field(edit.record_kind)?;
            let said =
                Change { field, element: edit.key.clone(), value: standing.value(), overwrites: edit.said.clone() };
            Some(PartDraft {
                record: edit.record,
                record_kind: edit.record_kind,
                create: false,
                valid_from: Vec::new(),
                changes: grounds.iter().cloned().chain([said]).collect(),
            })
        };
        let parts: Option<Vec<PartDraft>> = edits.iter().map(part).collect();
        let parts = parts.ok_or_else(|| wrong("record", "nobody judges what is said of sites: correct it"))?;
        let records = parts.iter().map(|part| part.record.to_string()).collect();
        let origin = caller.origin(name, request.authored_ms);
        let edit = EditCommand { shard, kind: standing.kind(), origin, secret: runtime::random(), parts };
        self.proposed(&place, "edit", Command::Edit(Box::new(edit)).to_bytes(), records).await
    }

    /// The edits of a command that is to be judged. This replica may lag.
    async fn edits_to_judge(
        &self,
        hosted: &Hosted,
        shard: ShardId,
        record: RecordId,
        key: &[u8],
    ) -> Result<Option<Vec<ToJudge>>, Status> {
        let look = || {
            let found = hosted.look(|view| to_judge(view, &hosted.context, shard, record, key));
            found.map_err(|error| broken(&error))
        };
        if let Some(found) = look()? {
            return Ok(Some(found));
        }
        up_to_date(hosted).await?;
        look()
    }

    /// A page of what waits for a second person, as far as the caller may see it.
    pub(super) async fn pending_for(
        &self,
        caller: &Caller,
        request: &v1::PendingRequest,
    ) -> Result<v1::PendingReply, Status> {
        if !request.record.is_empty() {
            return self.pending_of(caller, id("record", &request.record)?).await;
        }
        let wanted = Wanted { list: List::Pending, shard: &request.shard, after: &request.after };
        let room = Room { entries: PENDING_MAX, bytes: PENDING_BYTES_MAX };
        let page = self.work_list(caller, wanted, room, |hosted, walk, from, room| {
            walk.page(from, room, |shard, key, value| {
                let (record, place) = waiting(walk.view, hosted, shard, (key, value))?;
                let stored = read::<StoredEdit>(walk.view, &walk.keys.edit(shard, &place))?;
                let bytes = stored.map_or(0, |stored| SHOWN_TIMES * stored.bytes.len());
                Ok((bytes, Entry { shard, record, shown: (hosted, place) }))
            })
        });
        let (found, next) = page.await?;
        let mut entries = Vec::with_capacity(found.len());
        for Entry { shard, record, shown: (hosted, place) } in found {
            entries.extend(self.entries(hosted, shard, (&[place], Some(record)))?);
        }
        entries.sort_by_key(|entry| entry.received_ms);
        Ok(v1::PendingReply { entries, next })
    }

    /// What of one record waits: a look into its history.
    async fn pending_of(&self, caller: &Caller, record: RecordId) -> Result<v1::PendingReply, Status> {
        let Place { hosted, shard } = self.find_logged(caller, Looked::History, record).await?;
        let shard = shard.info.shard;
        let found = hosted.look(|view| {
            let (from, to) = hosted.keys().all_pending(shard, Some(record));
            let all = view.scan(&from, &to).take(PENDING_MAX).map(|item| {
                let (key, value) = item?;
                Ok(waiting(view, hosted, shard, (&key, &value))?.1)
            });
            all.collect::<Result<Vec<Dot>, _>>()
        });
        let places = found.map_err(|error| broken(&error))?;
        let entries = self.entries(hosted, shard, (&places, Some(record)))?;
        Ok(v1::PendingReply { entries, next: Vec::new() })
    }
}

/// The record of an edit that waits, and where it lies, by its key and value in the list.
pub(super) fn waiting(
    view: &dyn StateView,
    hosted: &Hosted,
    shard: ShardId,
    (key, value): (&[u8], &[u8]),
) -> Result<(RecordId, Dot), StoreError> {
    let entry = PendingEntry::from_bytes(value).map_err(|error| corrupt(key, error))?;
    let (record, name) = pending_of(key)?;
    let place = place_named(view, &hosted.context, shard, entry.author, &name)?;
    Ok((record, place))
}
