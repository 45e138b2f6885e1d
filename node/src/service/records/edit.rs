//! An edit at the door: from the wire to a command, proposed, and what became of it.

use std::future::Future;

use dinhba_core::calendar::Year;
use dinhba_core::claims::Claims;
use dinhba_core::command::{Answer, Command, EditCommand, PartDraft};
use dinhba_core::edit::{COMMAND_BYTES_MAX, Change, EditKind};
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{RecordId, RequestId, SessionId, ShardId};
use dinhba_core::inject::is_armed;
use dinhba_core::record::Record;
use dinhba_core::registry::{FormError, FormPlace, ShardState, action_of, check_form, misplaced, read};
use dinhba_core::schema::RecordKind;
use dinhba_core::store::StoreError;
use dinhba_proto::v1;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use tonic::Status;

use super::{Place, RecordsService};
use crate::hosted::{Kind, ProposalFailed};
use crate::runtime;
use crate::service::answer::{
    Problem, broken, bug, failed, invalid, precondition, refused, rules_broken, stale, wrong,
};
use crate::service::convert::{
    change_from_wire, change_path, date_from_wire, grounds_change, kind_from_wire, receipt_to_wire, request_from_wire,
    shard_named,
};
use crate::service::{Caller, context_from_wire, keep};

/// Edits of a stream that are decided at once: as many as one log entry takes.
const EDITS_AT_ONCE: usize = 128;

impl RecordsService {
    /// An edit from the wire to a command, stamped; or all that is wrong with it, whatever the records are.
    /// `home` is its shard if it names none.
    fn edit_command(&self, claims: &Claims, home: ShardId, request: v1::EditRequest) -> Result<EditCommand, Status> {
        let mut problems = Vec::new();
        let shard = shard_named(&request.shard, home, &mut problems);
        let context = context_from_wire(request.context.as_ref(), &mut problems);
        let named = keep(&mut problems, "request", request_from_wire(request.request));
        // Only so that what comes after it can be looked at too.
        let request_id = named.unwrap_or(RequestId { session: SessionId::default(), counter: 1 });
        let kind = if request.decision { EditKind::Decision } else { EditKind::Change };
        let grounds = keep(&mut problems, "grounds", grounds_change(&request.grounds)).flatten();
        let mut records = Vec::with_capacity(request.parts.len());
        for (index, part) in request.parts.iter().enumerate() {
            records.push(match part.record.is_empty() {
                true => RecordId::derive(request_id, u32::try_from(index).unwrap_or(u32::MAX)),
                false => {
                    let read = part.record.parse::<RecordId>().map_err(|error| format!("record: {error}"));
                    keep(&mut problems, format!("parts[{index}].record"), read).unwrap_or_default()
                }
            });
        }
        let mut parts = Vec::with_capacity(request.parts.len());
        // What this day's date alone forbids: another day, or another node's clock, need not.
        let mut by_day = Vec::new();
        // For each part, where its changes stood; and whether all of it could be read.
        let (mut places, mut are_whole) = (Vec::new(), Vec::new());
        for (index, (part, record)) in request.parts.iter().zip(&records).enumerate() {
            let before = problems.len();
            let date = date_from_wire("valid_from", &part.valid_from);
            let valid_from = keep(&mut problems, format!("parts[{index}].valid_from"), date).unwrap_or_default();
            let named = keep(&mut problems, format!("parts[{index}].kind"), kind_from_wire(&part.kind));
            let record_kind = named.unwrap_or(RecordKind::Person);
            let mut changes: Vec<(Change, usize)> = Vec::with_capacity(part.changes.len() + 1);
            changes.extend(grounds.clone().map(|grounds| (grounds, usize::MAX)));
            for at in 0..if named.is_some() { part.changes.len() } else { 0 } {
                let path = || change_path(index, record_kind, &part.changes, at);
                match change_from_wire(&self.0, record_kind, &part.changes[at], &records) {
                    Ok((change, early)) => {
                        changes.push((change, at));
                        by_day.extend(early.map(|text| Problem { field: path(), text }));
                    }
                    Err(text) => problems.push(Problem { field: path(), text }),
                }
            }
            changes.sort_by(|(one, _), (two, _)| (one.field, &one.element).cmp(&(two.field, &two.element)));
            let (changes, stood): (Vec<_>, Vec<_>) = changes.into_iter().unzip();
            let create = part.record.is_empty();
            parts.push(PartDraft { record: *record, record_kind, create, valid_from, changes });
            places.push(stood);
            are_whole.push(problems.len() == before);
        }
        // Whether the group's level allows it only the group can say.
        for FormError { place, text, .. } in check_form(self.0.level_max, kind, false, request_id, &parts) {
            let field = match place {
                FormPlace::Edit => "parts".to_owned(),
                FormPlace::Grounds => "grounds".to_owned(),
                // What could not be read is missing here, and was said.
                FormPlace::Part(part) | FormPlace::ValidFrom(part) if !are_whole[part] => continue,
                FormPlace::Part(part) => format!("parts[{part}]"),
                FormPlace::ValidFrom(part) => format!("parts[{part}].valid_from"),
                FormPlace::Change(part, at) => {
                    change_path(part, parts[part].record_kind, &request.parts[part].changes, places[part][at])
                }
            };
            problems.push(Problem { field, text });
        }
        let (true, Some((purpose, case))) = (problems.is_empty(), context) else {
            problems.extend(by_day);
            return Err(invalid(problems));
        };
        if !by_day.is_empty() {
            return Err(rules_broken(by_day));
        }
        let secret = runtime::random();
        let caller = Caller { claims: claims.clone(), purpose, case };
        let origin = caller.origin(request_id, request.authored_ms);
        Ok(EditCommand { shard, kind, origin, secret, parts })
    }

    /// Decides one edit at the door, proposes it, and says what became of it.
    pub(super) async fn edit_one(&self, claims: &Claims, request: v1::EditRequest) -> Result<v1::EditReply, Status> {
        self.counted(self.edit_uncounted(claims, request).await)
    }

    /// Counts what became of an edit.
    pub(super) fn counted(&self, outcome: Result<v1::EditReply, Status>) -> Result<v1::EditReply, Status> {
        self.0.metrics.edit(match &outcome {
            Ok(reply) if reply.replayed => "replayed",
            Ok(_) => "accepted",
            Err(status) => match status.code() {
                tonic::Code::Aborted => "stale",
                tonic::Code::PermissionDenied => "denied",
                tonic::Code::InvalidArgument => "invalid",
                tonic::Code::NotFound => "unknown",
                tonic::Code::ResourceExhausted => "overloaded",
                _ => "failed",
            },
        });
        outcome
    }

    async fn edit_uncounted(&self, claims: &Claims, request: v1::EditRequest) -> Result<v1::EditReply, Status> {
        let sets_target = || request.parts.iter().any(|part| part.kind == RecordKind::Target.name());
        let home = match request.shard.is_empty() {
            true if sets_target() => self.shard_of_targets(claims),
            true => self.shard_of("", claims).await,
            false => Ok(ShardId::default()),
        };
        // What is wrong with the edit comes before where it goes, and is all said at once.
        let edit = self.edit_command(claims, home.as_ref().copied().unwrap_or_default(), request)?;
        home?;
        let command = Command::Edit(Box::new(edit));
        let bytes = command.to_bytes();
        let Command::Edit(command) = command else { return Err(bug("an edit is an edit")) };
        if bytes.len() > COMMAND_BYTES_MAX {
            let text =
                format!("an edit may have {COMMAND_BYTES_MAX} bytes in all, this one has {}: split it", bytes.len());
            return Err(wrong("parts", text));
        }
        let place = self.place_of(command.shard).await?;
        let caller =
            Caller { claims: claims.clone(), purpose: command.origin.purpose, case: command.origin.case.clone() };
        let action = action_of(&place.shard.info, command.kind, &command.parts);
        caller.may(self.0.level_max, action, &place.shard.info.path)?;
        if let Some(text) = misplaced(&place.shard.info, &command.parts) {
            return Err(wrong("parts", text));
        }
        self.check_targets(&caller, &place, &command.parts)?;
        check_holidays(&place, &command.parts)?;
        let records = command.parts.iter().map(|part| part.record.to_string()).collect();
        self.proposed(&place, "parts", bytes, records).await
    }

    /// Proposes an edit that the caller may make; `what` of a request is to blame if it is refused.
    pub(super) async fn proposed(
        &self,
        place: &Place<'_>,
        what: &str,
        bytes: Vec<u8>,
        records: Vec<String>,
    ) -> Result<v1::EditReply, Status> {
        self.may_write(&place.shard)?;
        #[cfg(feature = "faults")]
        if crate::faults::swallows_edit() {
            let receipt = crate::faults::receipt_of_nothing(place.shard.own.id());
            return Ok(v1::EditReply { receipt: Some(receipt), records, ..v1::EditReply::default() });
        }
        let proposed = place.hosted.propose_encoded(bytes, Kind::Edit).await;
        if is_armed("unacknowledged-told-accepted") && matches!(proposed, Err(ProposalFailed::Unknown(_))) {
            return Ok(v1::EditReply { receipt: Some(v1::Receipt::default()), records, ..v1::EditReply::default() });
        }
        match proposed.map_err(failed)?.0 {
            Answer::Accepted(accepted) => Ok(v1::EditReply {
                receipt: Some(receipt_to_wire(&accepted.receipt)),
                replayed: accepted.replayed,
                records,
                pending: accepted.pending,
                personal_number: accepted.number.map(|number| number.to_string()).unwrap_or_default(),
            }),
            Answer::Stale(moved) => Err(stale(&moved)),
            Answer::Refused(refusal) => Err(refused(what, &refusal)),
            other => Err(bug(format!("an edit was answered with {other:?}"))),
        }
    }

    /// Whether this site may write a shard: nobody else would take its edits, and its copy would stand apart for ever.
    fn may_write(&self, shard: &ShardState) -> Result<(), Status> {
        #[cfg(feature = "faults")]
        if crate::faults::writes_ancestors() {
            return Ok(());
        }
        match shard.info.path.contains(&self.0.config.site.unit) {
            true => Ok(()),
            false => Err(precondition(format!(
                "shard {} is what the unit {} says to all below it, and this site is one of those: ask that unit's site, or one \
                 above it",
                shard.info.shard,
                shard.info.home()
            ))),
        }
    }
}

/// Refuses holidays of a year that would have a hole: they would count for nothing, and all deadlines with them.
fn check_holidays(place: &Place<'_>, parts: &[PartDraft]) -> Result<(), Status> {
    for (at, part) in parts.iter().enumerate().filter(|(_, part)| part.record_kind == RecordKind::Calendar) {
        let known = known(place, part).map_err(|error| broken(&error))?;
        let wrong_in = |text: String| Err(wrong(format!("parts[{at}]"), text));
        match Year::after(known, &part.changes) {
            Some((_, Ok(_))) => {}
            Some((year, Err(misfits))) => return wrong_in(format!("{year}: {}", misfits.join("; "))),
            None => return wrong_in("year: say which year's holidays these are".to_owned()),
        }
    }
    Ok(())
}

/// The record of a part as it is; an empty one, if the part makes it.
pub(super) fn known(place: &Place<'_>, part: &PartDraft) -> Result<Record, StoreError> {
    let key = place.hosted.keys().record(place.shard.info.shard, part.record);
    let known: Option<Record> = place.hosted.look(|view| read(view, &key))?;
    Ok(known.unwrap_or_else(|| Record::new(part.record_kind)))
}

/// The answers to what comes, in its order, several at a time under way. What cannot be read ends it, after the answers to all
/// that came before.
pub(super) fn answered_in_turn<T, R, F>(
    requests: impl Stream<Item = Result<T, Status>> + Send + 'static,
    answer: impl Fn(T) -> F + Send + 'static,
) -> BoxStream<'static, Result<R, Status>>
where
    F: Future<Output = R> + Send + 'static,
    T: Send + 'static,
    R: Send + 'static,
{
    let up_to_an_error = requests.scan(false, |is_over, request| {
        let was_over = std::mem::replace(is_over, request.is_err());
        std::future::ready((!was_over).then_some(request))
    });
    up_to_an_error
        .map(move |request| match request {
            Ok(request) => answer(request).map(Ok).boxed(),
            Err(error) => std::future::ready(Err(error)).boxed(),
        })
        .buffered(EDITS_AT_ONCE)
        .boxed()
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;
    use crate::service::answer::unread;

    #[tokio::test]
    async fn what_cannot_be_read_ends_a_stream_after_the_answers_to_what_came_before() {
        let unreadable = || Err(unread(Status::out_of_range("Error, decoded message length too large")));
        // The caller goes on waiting: its side of the stream stays open.
        let requests = stream::iter([Ok(1), Ok(2), unreadable(), Ok(3)]).chain(stream::pending());
        let answers = answered_in_turn(requests, |request: u64| async move {
            runtime::sleep(std::time::Duration::from_millis(20 * request)).await;
            request
        });
        let answers: Vec<Result<u64, Status>> = answers.take(3).collect().await;
        assert!(matches!(answers[..], [Ok(1), Ok(2), Err(_)]), "{answers:?}");
    }
}
