//! What several verbs share: how a field and a unit are written, how an edit is sent again, and how an acceptance is shown.

use dinhba_core::ids::{RequestId, ShardId, UnitId};
use dinhba_proto::v1;

use super::{Desk, Failure, export, show};
use crate::client::Client;
use crate::error::Error;
use crate::language::say;
use crate::request::{Accepted, Context, EditBuilder};

pub(super) fn show_accepted(desk: &mut Desk<'_>, accepted: &Accepted) -> Result<(), Failure> {
    desk.show(|lang| show::accepted(lang, accepted), || show::accepted_json(accepted))
}

/// Reads `field` and `field[element]`.
pub(super) fn field_and_element(name: &str) -> Result<(&str, &str), Failure> {
    let wrong = || Failure::usage(say!("field-is-written"));
    let (field, element) = match name.strip_suffix(']') {
        Some(name) => name.split_once('[').filter(|(_, element)| !element.is_empty()).ok_or_else(wrong)?,
        None => (name, ""),
    };
    let is_name = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    // A relation may be named in Vietnamese; what is no key is refused with what may be.
    if field.is_empty() || !is_name(field) || element.contains(['[', ']']) {
        return Err(wrong());
    }
    Ok((field, element))
}

/// Sends an edit, or does so again under the name of one whose outcome was not known.
pub(super) async fn send(client: &Client, again: Option<RequestId>, edit: &EditBuilder) -> Result<Accepted, Failure> {
    let sent = match again {
        Some(request) => client.edit_again(request, edit).await,
        None => client.edit(&client.session(), edit).await,
    };
    sent.map_err(with_request)
}

/// The same error with what to write on the command line.
pub(super) fn with_request(error: Error) -> Failure {
    Failure::Client(match error {
        Error::OutcomeUnknown { request: Some(request), text } => {
            let text = format!("{text}; on the command line: the same with --request {request}");
            Error::OutcomeUnknown { request: Some(request), text }
        }
        error => error,
    })
}

/// The shard that is named, or that of the unit that is named; none leaves it to the caller's claims.
pub(super) async fn choose_shard(
    client: &Client,
    context: &Context,
    shard: Option<ShardId>,
    code: Option<&str>,
) -> Result<Option<ShardId>, Failure> {
    let (None, Some(code)) = (shard, code) else { return Ok(shard) };
    let reply = client.status(context).await?;
    // A code alone is the site's own word.
    let id = match code.contains('@') {
        true => export::unit_typed(&client.units().await?, code),
        false => code.parse().ok(),
    };
    shard_of(&reply, code, id).map(Some).ok_or_else(|| {
        let text = format!("this site keeps no records of unit {code}: look at its status, or ask the site above");
        Failure::Client(Error::refusal(tonic::Code::NotFound, text))
    })
}

/// The shard of a unit, by its id, or by the code that the site uses today.
pub(super) fn shard_of(reply: &v1::StatusReply, code: &str, id: Option<UnitId>) -> Option<ShardId> {
    let id = id.map(|id| id.to_string());
    let mut shards = reply.groups.iter().flat_map(|group| &group.shards);
    let found = shards.find(|shard| match &id {
        _ if shard.ancestor => false,
        Some(id) => shard.unit == *id,
        None => shard.unit_code == code,
    });
    found?.shard.parse().ok()
}
