//! What a caller may do and nobody should: each must be borne by the site, and cost nobody else anything.
//!
//! Promises: what is asked is legal, or must be refused with a definite answer; what must not happen is told to the oracle.

use std::time::Duration;

use dinhba_client::{EditBuilder, Error};
use dinhba_core::ids::{RecordId, ShardId};
use dinhba_core::level::{LEVEL_MAX, limits};
use dinhba_core::schema::RecordKind;
use dinhba_node::runtime;
use futures::StreamExt;
use futures::stream;

use super::{Became, FILE_NUMBER, MOBILE, Officer, Sent};
use crate::history::{Asked, Values};

/// Letters of a paper's kind and of its issuer, as many as they take, of three bytes each.
const KIND_LETTERS: usize = 100;
const ISSUER_LETTERS: usize = 200;

/// Papers that one piece of work adds to a record: after a few it has come to its bound.
const PAPERS_AT_ONCE: usize = 25;

/// How often that is tried at once: more often than a record can bear.
const GROWTHS_MAX: usize = 6;

/// Streams that stand unread at once, and for how long.
const STREAMS: usize = 8;
const UNREAD: Duration = Duration::from_secs(20);

/// Edits under way at once, on one stream.
const MANY: usize = 100;

impl Officer {
    pub(super) async fn do_worst(&self, shard: ShardId, known: &[RecordId]) {
        // Nobody else writes it in these minutes, so that it comes to the bound of its one site.
        let request = self.session.next();
        if self.register_as(request, shard).await {
            self.grow(RecordId::derive(request, 0)).await;
        }
        self.use_a_name_again(shard, known).await;
        self.send_many(shard).await;
        self.leave_unread(shard).await;
    }

    /// Adds papers to a record until it may take no more.
    async fn grow(&self, record: RecordId) {
        for _ in 0..GROWTHS_MAX {
            if !self.add_papers(record).await {
                return;
            }
        }
    }

    /// Whether a record took some more papers.
    async fn add_papers(&self, record: RecordId) -> bool {
        let Some(found) = self.read(record, MOBILE).await else { return false };
        let mut edit = EditBuilder::new(&self.context);
        let part = edit.change(&found);
        for _ in 0..PAPERS_AT_ONCE {
            let number = self.value().0;
            let (kind, issuer) = ("ữ".repeat(KIND_LETTERS), "ữ".repeat(ISSUER_LETTERS));
            edit.set(part, "document", &number.to_string(), &format!("kind={kind}; issued_by={issuer}"));
        }
        let shard = found.shard.parse().unwrap_or_default();
        let bytes: usize = found.fields.iter().flat_map(|field| &field.values).map(|value| value.value.len()).sum();
        let was_taken =
            matches!(self.send(self.session.next(), Sent::Edit(&edit), shard, "growth").await, Became::Accepted);
        if was_taken && bytes > limits(LEVEL_MAX).record_bytes {
            let text = format!("a record of {bytes} bytes and more was let grow");
            self.oracle.ledger().contradictions.push(text);
        }
        was_taken
    }

    /// Registers somebody, then sends other content under the name of that request: by itself, and changing one record.
    async fn use_a_name_again(&self, shard: ShardId, known: &[RecordId]) {
        let request = self.session.next();
        if !self.register_as(request, shard).await {
            return;
        }
        let mut other = EditBuilder::new(&self.context);
        other.shard(shard);
        match self.pick(2) {
            0 => {
                let part = other.create(RecordKind::Person);
                other.set(part, "name", "", "Trần/Văn/An").set(part, "birth_date", "", "1980-01-01");
            }
            _ => {
                let Some(found) = self.read(known[self.pick(known.len())], MOBILE).await else { return };
                let part = other.change(&found);
                other.set(part, "note", "", "another request");
            }
        }
        let told = match self.client.edit_as(request, &other).await {
            Ok(_) => "accepted",
            Err(Error::Stale(_)) => "stale",
            Err(
                Error::Refused { .. } | Error::OutcomeUnknown { .. } | Error::Unreachable { .. } | Error::Protocol(_),
            ) => return,
        };
        let text = format!("other content under the name of {request} was told to be {told}");
        self.oracle.ledger().contradictions.push(text);
    }

    /// Opens streams, and reads only the beginning of each.
    async fn leave_unread(&self, shard: ShardId) {
        let mut feeds: Vec<_> =
            (0..STREAMS).map(|_| Box::pin(self.client.watch(&self.context, Some(shard), 1))).collect();
        let mut extracts: Vec<_> =
            (0..STREAMS).map(|_| Box::pin(self.client.export(&self.context, Some(shard)))).collect();
        let first = futures::future::join_all(feeds.iter_mut().map(|feed| feed.next()));
        let _ = runtime::timeout(UNREAD, first).await;
        let first = futures::future::join_all(extracts.iter_mut().map(|pages| pages.next()));
        let _ = runtime::timeout(UNREAD, first).await;
        runtime::sleep(UNREAD).await;
    }

    /// Sends many registrations over one stream, all under way at once.
    async fn send_many(&self, shard: ShardId) {
        let (mut edits, mut sent) = (Vec::new(), Vec::new());
        for _ in 0..MANY {
            let ((edit, value), request) = (self.birth(shard), self.session.next());
            let record = RecordId::derive(request, 0);
            let asked = Asked::Write { overwrites: Values::new(), id: value };
            sent.push((request, record, self.called(FILE_NUMBER.key(record), asked)));
            edits.push(edit.build(request, self.client.ambient().utc_ms()));
        }
        let asked = self.now();
        let mut answers = std::pin::pin!(self.client.edit_many(stream::iter(edits)));
        for (request, record, operation) in sent {
            let Some(Ok(answered)) = answers.next().await else { return };
            let became = match answered.outcome {
                Ok(accepted) if answered.request == request => {
                    self.keep((request, Some(1)), &accepted, shard, "many", asked);
                    Became::Accepted
                }
                Ok(_) => {
                    let text = format!("{request} was asked, and {} answered", answered.request);
                    self.oracle.ledger().contradictions.push(text);
                    Became::Unknown
                }
                Err(Error::Refused { .. }) => Became::Refused,
                Err(_) => Became::Unknown,
            };
            self.born(operation, shard, record, &became);
        }
    }
}
