//! What a node answers when it does not do what it was asked: every status of every service is made here, in the form that
//! `proto/dinhba/v1/errors.proto` promises.
//!
//! A status has a message for people, a code, and in its details a `google.rpc.Status`: an `ErrorInfo` with a [`Reason`],
//! and what the reason brings. It travels in HTTP/2 headers, of which a client takes 8 KiB at worst (C core and Java; ours
//! takes 16), so all of it is bounded here, whatever the caller sent. Nothing in it is a value of a record that the caller did
//! not send: what is wrong with a request may quote it, and a stale edit is told the keys of the elements that it named, one of
//! which may be the number of a card. So details go to the caller alone, and into no log.

use std::collections::HashMap;
use std::fmt::Display;
use std::time::Duration;

use dinhba_client::error::MOVE_ON;
use dinhba_core::command::{Refusal, RefusalCode, Stale};
use dinhba_core::edit::Dot;
use dinhba_core::ids::{GroupId, NodeId, RecordId, ShardId};
use dinhba_core::store::StoreError;
use dinhba_proto::v1::{self, ERROR_DOMAIN, Reason};
use prost::Message;
use prost_types::Any;
use tonic::{Code, Status};
use tonic_types::pb::bad_request::FieldViolation;
use tonic_types::pb::{BadRequest, ErrorInfo, RetryInfo, Status as RichStatus};

use crate::hosted::ProposalFailed;
use crate::pki::PeerError;
use crate::shared::Shared;

/// Bytes of a message: two or three sentences. A header holds each byte that is not ASCII as three.
pub(super) const TEXT_BYTES_MAX: usize = 512;

/// Bytes of all details, message included. A header holds three as four.
pub(super) const DETAILS_BYTES_MAX: usize = 4 * 1024;

/// Bytes of an id or a name in details, and of what is wrong with one field.
const NAME_BYTES_MAX: usize = 96;
const PROBLEM_BYTES_MAX: usize = 256;

// What a client counts for the two headers, and for their names and the few others.
const _: () = assert!(3 * TEXT_BYTES_MAX + DETAILS_BYTES_MAX.div_ceil(3) * 4 + 512 <= 8 * 1024);

/// When to try again what this node did not accept: an election takes a second or two, another node none.
const RETRY_SOON: Duration = Duration::from_millis(100);

/// When to try again what was too much: by then a queue has emptied.
const RETRY_LATER: Duration = Duration::from_secs(1);

/// Something that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// The path of the field: `parts[0].changes[birth_date]`.
    pub field: String,
    /// What to do about it.
    pub text: String,
}

impl Problem {
    pub(super) fn new(field: impl Into<String>, text: impl Display) -> Self {
        Problem { field: field.into(), text: text.to_string() }
    }
}

/// A status on its way.
pub(crate) struct Answer {
    reason: Reason,
    code: Code,
    text: String,
    metadata: HashMap<String, String>,
    detail: Option<Any>,
}

/// An answer for a reason, with what is wrong and what to do.
pub(crate) fn answer(reason: Reason, text: impl Display) -> Answer {
    let code = match reason {
        Reason::Invalid | Reason::RuleBroken => Code::InvalidArgument,
        Reason::Denied => Code::PermissionDenied,
        Reason::NotFound => Code::NotFound,
        Reason::Exists => Code::AlreadyExists,
        Reason::Stale => Code::Aborted,
        Reason::LevelTooLow | Reason::Precondition => Code::FailedPrecondition,
        Reason::BeyondEnd => Code::OutOfRange,
        Reason::NotAccepted => Code::Unavailable,
        Reason::Overloaded => Code::ResourceExhausted,
        Reason::OutcomeUnknown => Code::Unknown,
        Reason::Damaged => Code::DataLoss,
        Reason::Bug | Reason::Unspecified => Code::Internal,
    };
    Answer { reason, code, text: text.to_string(), metadata: HashMap::new(), detail: None }
}

impl Answer {
    /// Names what it is about: an id, or ids.
    pub(crate) fn about(mut self, what: &str, id: impl Display) -> Self {
        self.metadata.insert(what.to_owned(), cut(&id.to_string(), NAME_BYTES_MAX));
        self
    }

    fn retry(&self) -> Option<Duration> {
        match self.reason {
            Reason::NotAccepted | Reason::OutcomeUnknown => Some(RETRY_SOON),
            Reason::Overloaded => Some(RETRY_LATER),
            _ => None,
        }
    }
}

impl From<Answer> for Status {
    fn from(answer: Answer) -> Status {
        let retry = answer.retry();
        let Answer { reason, code, text, metadata, detail } = answer;
        let message = cut(&text, TEXT_BYTES_MAX);
        let info = ErrorInfo { reason: reason.as_str_name().to_owned(), domain: ERROR_DOMAIN.to_owned(), metadata };
        let mut details = vec![packed("google.rpc.ErrorInfo", &info)];
        if let Some(retry) = retry {
            let delay = prost_types::Duration::try_from(retry).ok();
            details.push(packed("google.rpc.RetryInfo", &RetryInfo { retry_delay: delay }));
        }
        details.extend(detail);
        let rich = RichStatus { code: code as i32, message: message.clone(), details };
        Status::with_details(code, message, rich.encode_to_vec().into())
    }
}

fn packed(name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

/// The beginning of a text, in at most so many bytes.
fn cut(text: &str, bytes_max: usize) -> String {
    const MARK: &str = "…";
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes_max - MARK.len());
    format!("{}{MARK}", &text[..end])
}

/// The first of `all` that fit beside the message and the other details, and how many do not.
fn that_fit<T: Message>(all: impl IntoIterator<Item = T>) -> (Vec<T>, usize) {
    // The message, the other details with their names, and a line that counts what is left out.
    const OTHERS: usize = TEXT_BYTES_MAX + 1_024;
    let (mut left, mut fit, mut more) = (DETAILS_BYTES_MAX - OTHERS, Vec::new(), 0);
    for item in all {
        // A tag and a length beside each.
        let bytes = item.encoded_len() + 4;
        if more == 0 && bytes <= left {
            left -= bytes;
            fit.push(item);
        } else {
            more += 1;
        }
    }
    (fit, more)
}

/// A request that breaks rules by itself, with all of them by field; there is at least one.
pub(super) fn invalid(problems: Vec<Problem>) -> Status {
    wrongs(Reason::Invalid, problems)
}

/// A request that breaks rules as things are now.
pub(super) fn rules_broken(problems: Vec<Problem>) -> Status {
    wrongs(Reason::RuleBroken, problems)
}

/// A request of which one field is wrong.
pub(super) fn wrong(field: impl Into<String>, text: impl Display) -> Status {
    invalid(vec![Problem::new(field, text)])
}

fn wrongs(reason: Reason, problems: Vec<Problem>) -> Status {
    let count = problems.len();
    let text = match &problems[..] {
        [] => "the request is not valid".to_owned(),
        [only] => only.text.clone(),
        all => {
            let (shown, texts) = (3.min(count), all.iter().map(|problem| problem.text.as_str()));
            let first = texts.take(shown).collect::<Vec<_>>().join("; ");
            let rest = if shown < count { format!("; and {} more", count - shown) } else { String::new() };
            format!("{count} things are wrong: {first}{rest}")
        }
    };
    let violations = problems.iter().map(|problem| FieldViolation {
        field: cut(&problem.field, NAME_BYTES_MAX),
        description: cut(&problem.text, PROBLEM_BYTES_MAX),
        reason: reason.as_str_name().to_owned(),
        ..FieldViolation::default()
    });
    let (mut field_violations, more) = that_fit(violations);
    if more > 0 {
        let description = format!("and {more} more");
        field_violations.push(FieldViolation { description, ..FieldViolation::default() });
    }
    let detail = Some(packed("google.rpc.BadRequest", &BadRequest { field_violations }));
    Answer { detail, ..answer(reason, text) }.into()
}

/// The caller may not.
pub(crate) fn denied(text: impl Display) -> Status {
    answer(Reason::Denied, text).into()
}

/// The connection shows no identity.
fn unidentified(text: impl Display) -> Status {
    Answer { code: Code::Unauthenticated, ..answer(Reason::Denied, text) }.into()
}

impl From<PeerError> for Status {
    fn from(error: PeerError) -> Self {
        unidentified(error)
    }
}

/// There is no such thing at this site, and this node can tell.
pub(super) fn not_found(text: impl Display) -> Status {
    answer(Reason::NotFound, text).into()
}

/// Nothing was accepted, and nothing will be.
pub(super) fn not_accepted(text: impl Display) -> Status {
    answer(Reason::NotAccepted, text).into()
}

/// The connection has had its time, and nothing is wrong: what has no end of its own is to go on, on another one.
pub(crate) fn move_on() -> Status {
    let text = "this connection has had its time: go on from where you were, on another one";
    answer(Reason::NotAccepted, text).about(MOVE_ON, "over").into()
}

/// Too much waits or comes already. Nothing was accepted.
pub(crate) fn overloaded(text: impl Display) -> Status {
    answer(Reason::Overloaded, text).into()
}

/// The site is not in the state that this needs.
pub(super) fn precondition(text: impl Display) -> Status {
    answer(Reason::Precondition, text).into()
}

/// It may have been done.
pub(crate) fn outcome_unknown(text: impl Display) -> Status {
    answer(Reason::OutcomeUnknown, text).into()
}

/// A part of what was asked was done before this came in the way: from then on nobody may be told that nothing changed.
pub(super) fn in_part(status: Status) -> Status {
    outcome_unknown(format!(
        "a part of it was done; do it again, and see the status for what is so: {}",
        status.message()
    ))
}

/// The node contradicts itself.
pub(super) fn bug(text: impl Display) -> Status {
    answer(Reason::Bug, text).into()
}

/// This node's storage failed: it stops serving until an operator looks. A client asks the others by itself, if there are any.
pub(super) fn broken(error: &StoreError) -> Status {
    not_accepted(format!(
        "this node's storage: {error}; tell its operator, whom `dinhba status` at this node tells what to do"
    ))
}

/// A proposal without an answer, as the caller is told.
pub(super) fn failed(error: ProposalFailed) -> Status {
    match error {
        ProposalFailed::Overloaded => overloaded(error),
        ProposalFailed::NotAccepted(_) => not_accepted(error),
        ProposalFailed::Unknown(_) => outcome_unknown(error),
        ProposalFailed::Store(error) => broken(&error),
    }
}

/// A refusal that all replicas agree on; `field` of the request is what it is about, if it breaks a rule.
pub(super) fn refused(field: &str, refusal: &Refusal) -> Status {
    let reason = match refusal.code {
        RefusalCode::Denied => Reason::Denied,
        RefusalCode::Unknown => Reason::NotFound,
        RefusalCode::Invalid => Reason::Invalid,
        RefusalCode::Level => Reason::LevelTooLow,
        RefusalCode::Exists => Reason::Exists,
        RefusalCode::Rule => Reason::RuleBroken,
    };
    match reason {
        Reason::Invalid | Reason::RuleBroken => wrongs(reason, vec![Problem::new(field, &refusal.text)]),
        _ => answer(reason, &refusal.text).into(),
    }
}

/// A stale edit: which fields moved on, under which names.
pub(super) fn stale(stale: &Stale) -> Status {
    let fields = stale.fields.iter().map(|moved| v1::Moved {
        field: moved.key.0.to_string(),
        element: String::from_utf8_lossy(&moved.key.1).into_owned(),
        dots: moved.dots.iter().map(dot_to_wire).collect(),
    });
    let (fields, left_out) = that_fit(fields);
    let more = stale.more.saturating_add(u32::try_from(left_out).unwrap_or(u32::MAX));
    // The key of an element may be the number of a card: it is in the details, where its owner looks for it.
    let mut names: Vec<String> = stale.fields.iter().map(|moved| moved.key.0.to_string()).collect();
    names.dedup();
    let text = format!(
        "stale: {} of {} moved on since you read them; read the record again and decide anew",
        cut(&names.join(", "), TEXT_BYTES_MAX / 2),
        stale.record
    );
    let detail = packed("dinhba.v1.Stale", &v1::Stale { record: stale.record.to_string(), fields, more });
    Answer { detail: Some(detail), ..answer(Reason::Stale, text) }.about("record", stale.record).into()
}

/// A group of this site that other nodes run: ask one of them.
pub(super) fn elsewhere(shared: &Shared, group: GroupId, what: impl Display) -> Status {
    let place = shared.place();
    let members = place.groups.get(&group).map(|entry| entry.members.as_slice()).unwrap_or_default();
    let present: Vec<(NodeId, &str)> = members
        .iter()
        .filter_map(|node| place.nodes.get(node))
        .filter(|entry| entry.present && entry.node != shared.config.node.id)
        .map(|entry| (entry.node, entry.address.as_str()))
        .collect();
    let ask: Vec<String> = present.iter().map(|(node, address)| format!("{node} at {address}")).collect();
    let ask = if ask.is_empty() { "another node of the site".to_owned() } else { ask.join(", or ") };
    let nodes: Vec<String> = present.iter().map(|(node, _)| node.to_string()).collect();
    let text = format!("{what} is kept by {group}, which this node does not run; nothing was accepted: ask {ask}");
    answer(Reason::NotAccepted, text).about("group", group).about("nodes", nodes.join(",")).into()
}

/// A shard that is nowhere at this site.
pub(super) fn no_shard(shard: ShardId) -> Status {
    let text = format!("shard {shard} is not hosted by this site: ask a site of its area or one above it");
    answer(Reason::NotFound, text).about("shard", shard).into()
}

/// A position in the feed of a shard behind the one that comes next.
pub(super) fn beyond_end(shard: ShardId, next: u64) -> Status {
    let text = format!(
        "from: the next edit of {shard} comes at position {next}, and nothing is beyond it: watch from 1 to {next}, or from \
         0 for what comes from now on"
    );
    answer(Reason::BeyondEnd, text).about("shard", shard).about("next", next).into()
}

/// A record that is nowhere at this site.
pub(super) fn no_record(record: RecordId) -> Status {
    let text = format!("no record {record} at this site: ask a site above it, or check the id");
    answer(Reason::NotFound, text).about("record", record).into()
}

/// A status of the transport's for a message that could not be read, with the code and the advice that a refusal has: there
/// was nothing in it that could have been accepted.
pub(crate) fn unread(status: Status) -> Status {
    const UNREADABLE: [&str; 3] = ["failed to decode", "protocol error: received message", "Unexpected EOF decoding"];
    let text = status.message();
    let advice = match status.code() {
        Code::Internal if UNREADABLE.iter().any(|start| text.starts_with(start)) => {
            "send a message as the .proto files say, with texts in UTF-8"
        }
        Code::OutOfRange if text.contains("too large") => "split it",
        _ => return status,
    };
    answer(Reason::Invalid, format!("the message cannot be read ({text}): {advice}")).into()
}

/// The details of a status, for a reply that carries it inside a stream.
pub(super) fn details_of(status: &Status) -> Vec<Any> {
    RichStatus::decode(status.details()).map(|rich| rich.details).unwrap_or_default()
}

/// The reason that a status gives.
/// The name of an edit on the wire.
pub(super) fn dot_to_wire(dot: &Dot) -> v1::Dot {
    v1::Dot { author: dot.actor.0.to_vec(), number: dot.counter }
}

#[cfg(test)]
pub(super) fn reason_of(status: &Status) -> Option<Reason> {
    Reason::from_str_name(&tonic_types::StatusExt::get_details_error_info(status)?.reason)
}

#[cfg(test)]
mod tests {
    use dinhba_core::command::Moved;
    use dinhba_core::ids::AuthorId;
    use dinhba_core::schema::{ELEMENT_BYTES_MAX, FIELDS};

    use super::*;

    /// What a client counts: names and values as they travel, and 32 bytes for each header (RFC 7541, 4.1).
    fn header_bytes(status: &Status) -> usize {
        let headers = status.clone().into_http::<tonic::body::Body>();
        headers.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
    }

    fn detail<T: Message + Default>(status: &Status, name: &str) -> T {
        let all = details_of(status);
        let found = all.iter().find(|any| any.type_url.ends_with(name)).expect(name);
        T::decode(&found.value[..]).unwrap()
    }

    #[test]
    fn the_largest_answers_fit_what_any_client_takes() {
        let vietnamese = "ặ".repeat(100_000);
        let problems = (0..5_000).map(|at| Problem::new(format!("parts[{at}]{vietnamese}"), &vietnamese)).collect();
        let key = |at: u16| (FIELDS[usize::from(at) % FIELDS.len()].id, vec![0xe1; ELEMENT_BYTES_MAX]);
        let dots = |_| Dot { actor: AuthorId([0xff; 16]), counter: u64::MAX };
        let moved = (0..64).map(|at| Moved { key: key(at), dots: (0..16).map(dots).collect() }).collect();
        let stale_edit = Stale { record: RecordId([7; 16]), fields: moved, more: 3 };
        let long = [
            invalid(problems),
            denied(&vietnamese),
            stale(&stale_edit),
            answer(Reason::NotAccepted, &vietnamese).about("nodes", &vietnamese).about("group", &vietnamese).into(),
        ];
        for status in long {
            assert!(status.details().len() <= DETAILS_BYTES_MAX, "{}", status.details().len());
            assert!(header_bytes(&status) <= 8 * 1024, "{}: {:?}", header_bytes(&status), status.code());
            let rich = RichStatus::decode(status.details()).unwrap();
            assert_eq!((rich.code, rich.message.as_str()), (status.code() as i32, status.message()));
        }
        let status = stale(&stale_edit);
        let told: v1::Stale = detail(&status, "dinhba.v1.Stale");
        assert!(!told.fields.is_empty() && told.fields.len() as u32 + told.more == 64 + 3, "{told:?}");
    }

    #[test]
    fn each_problem_is_told_by_its_field() {
        let status = invalid(vec![
            Problem::new("parts[0].changes[birth_date]", "birth_date: there is no such day"),
            Problem::new("parts[1].kind", "kind: write person, household or site"),
        ]);
        assert!(status.message().starts_with("2 things are wrong: birth_date"), "{}", status.message());
        let told: BadRequest = detail(&status, "google.rpc.BadRequest");
        let fields: Vec<&str> = told.field_violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, ["parts[0].changes[birth_date]", "parts[1].kind"]);
        // As the library for rich errors reads it, which knows nothing of us.
        let read = tonic_types::StatusExt::get_error_details(&status);
        assert_eq!(read.error_info().map(|info| (&*info.domain, &*info.reason)), Some(("dinhba", "INVALID")));
        assert_eq!(read.bad_request().map(|bad| bad.field_violations.len()), Some(2));
    }

    #[test]
    fn what_was_surely_not_accepted_says_so_and_when_to_come_back() {
        let status = not_accepted("no leader");
        let read = tonic_types::StatusExt::get_error_details(&status);
        assert_eq!(read.error_info().map(|info| &*info.reason), Some("NOT_ACCEPTED"));
        assert_eq!(read.retry_info().and_then(|retry| retry.retry_delay), Some(RETRY_SOON));
        let read = tonic_types::StatusExt::get_error_details(&failed(ProposalFailed::Overloaded));
        assert_eq!(read.retry_info().and_then(|retry| retry.retry_delay), Some(RETRY_LATER));
    }
}
