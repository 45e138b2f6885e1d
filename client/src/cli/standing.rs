//! How edits stand, on the command line: what waits for a second person, and what is said of an edit.

use dinhba_core::ids::{RecordId, RequestId, ShardId};
use dinhba_core::standing::Standing;
use dinhba_proto::v1;
use serde_json::json;

use super::wording::{show_accepted, with_request};
use super::{Desk, Failure, Mark, request, show};
use crate::client::Client;
use crate::error::Error;
use crate::language::{Lang, Message, say};
use crate::request::Context;
use crate::standing::Judgement;

/// Digits of a hash that name an edit without a look at the others.
const DIGITS_ENOUGH: usize = 32;

/// What `confirm`, `reject`, `hold` and `release` take.
#[derive(clap::Args)]
pub struct Judge {
    /// The record (r-…)
    record: RecordId,
    /// The edit, by its hash or the first digits of it, as `pending` and `history` show them; without it, the only one that it can be
    edit: Option<String>,
    /// Why; needed to reject and to hold
    #[arg(long, default_value = "")]
    grounds: String,
    /// The request to do again, after an outcome that was not known (q-…/1); with the same EDIT
    #[arg(long, value_parser = request, requires = "edit")]
    request: Option<RequestId>,
}

/// Lists what waits.
pub(super) async fn pending(
    client: &Client,
    context: &Context,
    desk: &mut Desk<'_>,
    (record, shard): (Option<RecordId>, Option<ShardId>),
    after: Option<Mark>,
) -> Result<(), Failure> {
    let reply = match record {
        Some(record) => {
            v1::PendingReply { entries: client.pending_of(context, record).await?, ..v1::PendingReply::default() }
        }
        None => client.pending(context, shard, &after.map(|mark| mark.0).unwrap_or_default()).await?,
    };
    let entries = || reply.entries.iter().map(show::entry_json).collect::<Vec<_>>();
    let next = show::hex(&reply.next);
    desk.show(|lang| show::pending(lang, &reply.entries), || json!({ "entries": entries(), "next": next }))?;
    match (reply.entries.is_empty(), reply.next.is_empty()) {
        (true, true) => desk.remark(&say!("nothing-pending")),
        (false, true) => {}
        (_, false) => desk.remark(&say!("there-may-be-more", next = next)),
    }
    Ok(())
}

/// Says how an edit stands.
pub(super) async fn judge(
    client: &Client,
    context: &Context,
    desk: &mut Desk<'_>,
    (standing, command): (Standing, Judge),
) -> Result<(), Failure> {
    let Judge { record, edit, grounds, request } = command;
    if standing.needs_grounds() && grounds.is_empty() {
        return Err(Failure::usage(say!("say-why")));
    }
    let digits = edit.unwrap_or_default().to_lowercase();
    if !digits.chars().all(|c| c.is_ascii_hexdigit()) {
        return Err(Failure::usage(say!("edit-is-named-by")));
    }
    let hash = match show::bytes_of(&digits) {
        Some(bytes) if digits.len() >= DIGITS_ENOUGH => bytes,
        _ => {
            let entry = meant(client, context, record, (standing, &digits), desk.lang).await?;
            if !desk.json {
                let standing = Message::word("standing", standing.name());
                desk.remark(&say!("to-be-said", standing = standing, edit = show::entry_line(desk.lang, &entry)));
            }
            entry.hash
        }
    };
    let judgement = Judgement { record, edit: hash, standing, grounds };
    let said = match request {
        Some(again) => client.judge_again(again, context, &judgement).await,
        None => client.judge(client.session().next(), context, &judgement).await,
    };
    match said {
        Ok(accepted) => show_accepted(desk, &accepted),
        Err(Error::OutcomeUnknown { request, text }) => {
            let text = format!("{text}; the edit is {}", show::hex(&judgement.edit));
            Err(with_request(Error::OutcomeUnknown { request, text }))
        }
        Err(error) => Err(error.into()),
    }
}

/// The edit of a record that is meant by the first digits of its hash, among those of which that may be said.
async fn meant(
    client: &Client,
    context: &Context,
    record: RecordId,
    (standing, digits): (Standing, &str),
    lang: Lang,
) -> Result<v1::Entry, Failure> {
    let entries = match standing {
        Standing::Confirmed => client.pending_of(context, record).await?,
        _ => client.history(context, record).await?,
    };
    let fits = |entry: &v1::Entry| match standing {
        Standing::Confirmed => true,
        Standing::Rejected => entry.standing == "pending" || entry.set_aside == "held",
        Standing::Held => {
            entry.set_aside.is_empty() && Standing::ALL.iter().all(|said| said.kind().name() != entry.kind)
        }
        Standing::Released => entry.set_aside == "held",
    };
    let mut found: Vec<v1::Entry> = entries.into_iter().filter(fits).collect();
    found.retain(|entry| show::hex(&entry.hash).starts_with(digits));
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => {
            let standing = Message::word("standing", standing.name());
            Err(Failure::usage(say!("no-such-edit", standing = standing, record = record)))
        }
        _ => {
            let all: Vec<String> = found
                .iter()
                .map(|entry| format!("\n  {} {}", show::short(&entry.hash), show::entry_line(lang, entry)))
                .collect();
            Err(Failure::usage(say!("say-which-edit", edits = all.concat())))
        }
    }
}
