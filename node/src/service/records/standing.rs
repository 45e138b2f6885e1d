//! How edits stand: what officers say of them, and the list of those that wait for a second person.

use dinhba_core::access::Action;
use dinhba_core::claims::Claims;
use dinhba_core::command::{Command, EditCommand, Looked, PartDraft, PendingEntry};
use dinhba_core::edit::{Change, Dot, Origin};
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{RecordId, ShardId};
use dinhba_core::registry::{ToJudge, pending_of, place_named, read_range, to_judge};
use dinhba_core::standing::{Standing, standing_field};
use dinhba_proto::v1;
use prost::Message;
use tonic::Status;

use super::{Asked, CONFLICTS_BYTES_MAX, RecordsService, Verdicts, that_fit};
use crate::hosted::{Hosted, PROPOSE_WAIT};
use crate::runtime;
use crate::service::answer::{Problem, broken, denied, invalid, not_accepted, not_found, wrong};
use crate::service::convert::{grounds_change, request_from_wire, shard_named};
use crate::service::{Caller, all_groups_here, context_from_wire, id, keep};

/// Edits in one list of what waits: a morning's work.
const PENDING_MAX: usize = 200;

/// An edit that waits for a second person, and where it is.
struct Waiting<'h> {
    since_ms: i64,
    hosted: &'h Hosted,
    shard: ShardId,
    record: RecordId,
    place: Dot,
}

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
        let named = Standing::ALL.into_iter().find(|standing| standing.name() == request.standing);
        let standing = named.ok_or("standing: one of confirmed, rejected, held, released");
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
        let caller = Caller { claims: claims.clone(), purpose, case: case.clone() };
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
        let origin = Origin {
            request: name,
            claims: claims.clone(),
            purpose,
            case,
            authored_ms: request.authored_ms,
            received_ms: runtime::utc_ms(),
        };
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
        hosted.group.barrier(PROPOSE_WAIT).await.map_err(not_accepted)?;
        look()
    }

    /// What waits for a second person, as far as the caller may see it. Each record that is shown is in the access log before.
    pub(super) async fn pending_for(
        &self,
        caller: &Caller,
        request: &v1::PendingRequest,
    ) -> Result<v1::PendingReply, Status> {
        let only = if request.shard.is_empty() { None } else { Some(id::<ShardId>("shard", &request.shard)?) };
        let of = if request.record.is_empty() { None } else { Some(id::<RecordId>("record", &request.record)?) };
        match only {
            Some(shard) => drop(self.place_of(shard).await?),
            None => all_groups_here(&self.0).await?,
        }
        let (mut waiting, mut verdicts) = (Vec::new(), Verdicts::default());
        let wanted = |shard: &_| is_wanted(shard, only);
        for Asked { hosted, may, .. } in self.asked(caller, Action::Resolve, wanted)? {
            let subject = of.map_or([0; 16], |record| record.0);
            if verdicts.may(self.log_or_denial(caller, Looked::Pending, hosted, only, subject).await?) {
                for shard in may.keys() {
                    waiting.extend(waiting_in(hosted, *shard, of)?);
                }
            }
        }
        verdicts.refuse_who_may_look_nowhere()?;
        waiting.sort_by_key(|waiting| waiting.since_ms);
        let count = waiting.len();
        waiting.truncate(PENDING_MAX);
        let mut entries = Vec::with_capacity(waiting.len());
        for Waiting { hosted, shard, record, place, .. } in &waiting {
            entries.extend(self.entries(hosted, *shard, (std::slice::from_ref(place), Some(*record)))?);
        }
        entries.truncate(that_fit(entries.iter().map(Message::encoded_len), CONFLICTS_BYTES_MAX));
        waiting.truncate(entries.len());
        for hosted in self.0.hosted() {
            let here = waiting.iter().filter(|waiting| waiting.hosted.id() == hosted.id());
            let mut shown: Vec<(ShardId, RecordId)> = here.map(|waiting| (waiting.shard, waiting.record)).collect();
            shown.sort_unstable();
            shown.dedup();
            if self.log_shown(caller, hosted, &shown).await?.contains(&false) {
                return Err(denied("the caller's claims do not reach there; the attempt is logged"));
            }
        }
        let more = entries.len() < count;
        Ok(v1::PendingReply { entries, more })
    }
}

fn is_wanted(shard: &dinhba_core::registry::ShardState, only: Option<ShardId>) -> bool {
    !shard.info.is_ancestor() && only.is_none_or(|only| only == shard.info.shard)
}

/// What waits in a shard, or of one of its records.
fn waiting_in(hosted: &Hosted, shard: ShardId, of: Option<RecordId>) -> Result<Vec<Waiting<'_>>, Status> {
    let found = hosted.look(|view| {
        let mut found = Vec::new();
        for (key, entry) in read_range::<PendingEntry>(view, hosted.keys().all_pending(shard, of))? {
            let (record, name) = pending_of(&key)?;
            let place = place_named(view, &hosted.context, shard, entry.author, &name)?;
            found.push(Waiting { since_ms: entry.since_ms, hosted, shard, record, place });
        }
        Ok(found)
    });
    found.map_err(|error| broken(&error))
}
