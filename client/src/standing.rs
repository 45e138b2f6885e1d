//! How edits stand: what waits for a second person, and what is said of an edit.

use dinhba_core::ids::{RecordId, RequestId, ShardId};
use dinhba_core::standing::Standing;
use dinhba_core::text::tidy;
use dinhba_proto::v1;

use crate::client::{Client, records, shard_text};
use crate::error::Error;
use crate::request::{Accepted, Context, wire_request};

/// What is said of an edit, and so of all edits of its command.
#[derive(Debug, Clone)]
pub struct Judgement {
    /// The record that the edit is of.
    pub record: RecordId,
    /// The edit's hash, or the first 16 bytes of it or more.
    pub edit: Vec<u8>,
    /// How it stands from now on.
    pub standing: Standing,
    /// Why; needed to take one out of its record.
    pub grounds: String,
}

impl Client {
    /// Confirms or rejects what waits for a second person, holds an edit or releases it, as [`edit_as`](Self::edit_as) sends an edit.
    ///
    /// # Errors
    /// As of [`edit_as`](Self::edit_as); whoever wrote the edit may only hold it.
    pub async fn judge(&self, request: RequestId, context: &Context, judgement: &Judgement) -> Result<Accepted, Error> {
        self.send_judgement(request, context, judgement, false).await
    }

    /// Says so once more when it is not known what came of the first time, as [`edit_again`](Self::edit_again) does with an edit.
    ///
    /// # Errors
    /// As of [`judge`](Self::judge).
    pub async fn judge_again(
        &self,
        request: RequestId,
        context: &Context,
        judgement: &Judgement,
    ) -> Result<Accepted, Error> {
        self.send_judgement(request, context, judgement, true).await
    }

    async fn send_judgement(
        &self,
        request: RequestId,
        context: &Context,
        Judgement { record, edit, standing, grounds }: &Judgement,
        is_open: bool,
    ) -> Result<Accepted, Error> {
        let message = v1::JudgeRequest {
            context: context.wire(),
            request: Some(wire_request(request)),
            shard: String::new(),
            record: record.to_string(),
            edit: edit.clone(),
            standing: standing.name().to_owned(),
            grounds: tidy(grounds),
            authored_ms: self.ambient().utc_ms(),
        };
        let send = |transport, request| async move { records(transport).judge(request).await };
        self.write(request, is_open, message, send).await
    }

    /// The edits that wait for a second person, of one shard or of all that the caller may see: a page of at most 200, the oldest of them
    /// first; `after` is empty for the first. If its `next` is not empty there may be more: ask again with it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn pending(
        &self,
        context: &Context,
        shard: Option<ShardId>,
        after: &[u8],
    ) -> Result<v1::PendingReply, Error> {
        let (context, after) = (context.wire(), after.to_vec());
        self.ask_pending(v1::PendingRequest { context, shard: shard_text(shard), after, record: String::new() }).await
    }

    /// Those of one record.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn pending_of(&self, context: &Context, record: RecordId) -> Result<Vec<v1::Entry>, Error> {
        let (context, record) = (context.wire(), record.to_string());
        let message = v1::PendingRequest { context, record, ..v1::PendingRequest::default() };
        Ok(self.ask_pending(message).await?.entries)
    }

    async fn ask_pending(&self, message: v1::PendingRequest) -> Result<v1::PendingReply, Error> {
        self.read(message, |transport, request| async move { records(transport).pending(request).await }).await
    }
}
