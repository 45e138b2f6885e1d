//! Officers: what they send, and the ledger of what they were told.
//!
//! Promises: nothing is sent without being known here first, so that whatever the nodes keep can be accounted for; an edit
//! enters the oracle as acknowledged only with its receipt in hand. An edit without an answer is sent again, under its
//! name, until there is one or patience ends.
//! Leaves to others: who edits what and when (`story`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use dinhba_client::draft::Draft;
use dinhba_client::event::EventBuilder;
use dinhba_client::request::field_of;
use dinhba_client::standing::Judgement;
use dinhba_client::{Accepted, Client, Context, EditBuilder, Error, Session};
use dinhba_core::ids::{AuthorId, RecordId, RequestId, SessionId, ShardId};
use dinhba_core::schema::{FieldId, RecordKind, parse};
use dinhba_core::standing::is_standing;
use dinhba_core::units::Directory;
use dinhba_proto::v1;
use futures::{Stream, StreamExt, stream};

use super::oracle::{Cell, Change, Dot, Oracle, Sent};
use crate::runtime::{sleep, timeout};

/// How often one edit is tried anew after it was found stale: each time somebody else was faster.
const STALE_ROUNDS: usize = 5;
/// Sends of one request before its outcome counts as unknown; each takes the client's whole patience.
const SEND_ROUNDS: usize = 3;

/// What clients were told, and a count that can be watched meanwhile.
pub struct Ledger {
    directory: Arc<Directory>,
    oracle: Mutex<Oracle>,
    complaints: Mutex<Vec<String>>,
    acknowledged: AtomicU64,
}

impl Ledger {
    /// An empty ledger.
    #[must_use]
    pub fn new(directory: Arc<Directory>) -> Self {
        Ledger { directory, oracle: Mutex::default(), complaints: Mutex::default(), acknowledged: AtomicU64::new(0) }
    }

    /// How many edits were acknowledged until now.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// All that was told.
    pub fn oracle(&self) -> MutexGuard<'_, Oracle> {
        // A poisoned lock guards plain data, and whoever panicked is not forgotten by the caller.
        self.oracle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was wrong with receipts.
    pub fn complaints(&self) -> Vec<String> {
        self.complaints.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn sent(&self, edit: &v1::EditRequest) -> Result<(RequestId, Vec<Sent>)> {
        let request = request_of(edit.request.as_ref()).context("an edit without a name")?;
        let shard: ShardId = edit.shard.parse()?;
        let mut sent = Vec::with_capacity(edit.parts.len());
        for (part, index) in edit.parts.iter().zip(0..) {
            let record = match part.record.as_str() {
                "" => RecordId::derive(request, index),
                id => id.parse()?,
            };
            let mut changes = changes(&part.kind, &part.changes)?;
            for ((field, _), change) in &mut changes {
                // What nodes will show: the one form of a value. An error names the field, never the value.
                let value = parse(*field, &change.value, &*self.directory).map_err(|error| anyhow!("{error}"))?;
                change.value = value.display(&*self.directory);
            }
            sent.push(Sent { shard, record, request, changes });
        }
        Ok((request, sent))
    }

    fn acknowledge(&self, sent: Vec<Sent>, accepted: &Accepted) -> Result<()> {
        let receipt = &accepted.receipt;
        let first = dot_of(receipt.first.as_ref().context("a receipt without a name")?)?;
        let expected: Vec<RecordId> = sent.iter().map(|part| part.record).collect();
        if receipt.count as usize != sent.len() || accepted.records != expected {
            // A false receipt is one nevertheless: its holder believes that the edit is safe.
            let text = format!("the receipt of request {} does not fit what was sent", accepted.request);
            self.complaints.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        }
        self.acknowledged.fetch_add(sent.len() as u64, Ordering::Relaxed);
        self.oracle().acknowledge(first, sent);
        Ok(())
    }
}

/// The changes of an edit, from the wire.
pub fn changes(kind: &str, wire: &[v1::FieldChange]) -> Result<BTreeMap<Cell, Change>> {
    let mut changes = BTreeMap::new();
    for change in wire {
        let field = field_named(kind, &change.field)?;
        // How an edit stands is no value of the record that is shown.
        if is_standing(field) {
            continue;
        }
        let overwrites = change.overwrites.iter().map(dot_of).collect::<Result<BTreeSet<Dot>>>()?;
        changes.insert((field, change.element.clone()), Change { value: change.value.clone(), overwrites });
    }
    Ok(changes)
}

/// A field of a kind of record, by its name.
pub fn field_named(kind: &str, field: &str) -> Result<FieldId> {
    let kind = RecordKind::named(kind).with_context(|| format!("{kind:?} is no kind of record"))?;
    FieldId::named(kind, field).with_context(|| format!("{field:?} is no field of a {kind}"))
}

/// A dot, from the wire.
pub fn dot_of(wire: &v1::Dot) -> Result<Dot> {
    let author: [u8; 16] = wire.author.as_slice().try_into().context("an author of other than 16 bytes")?;
    Ok((AuthorId(author), wire.number))
}

/// A request's name, from the wire.
#[must_use]
pub fn request_of(wire: Option<&v1::RequestId>) -> Option<RequestId> {
    let wire = wire?;
    Some(RequestId { session: SessionId(wire.session.as_slice().try_into().ok()?), counter: wire.counter })
}

/// An officer at one site.
pub struct Officer {
    /// The way to the site.
    pub client: Client,
    session: Session,
    ledger: Arc<Ledger>,
    acknowledged: AtomicU64,
}

impl Officer {
    /// An officer who uses `client`.
    #[must_use]
    pub fn new(client: Client, ledger: Arc<Ledger>) -> Self {
        let session = client.session();
        Officer { client, session, ledger, acknowledged: AtomicU64::new(0) }
    }

    /// How many of this officer's edits were acknowledged until now.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    fn acknowledge(&self, sent: Vec<Sent>, accepted: &Accepted) -> Result<()> {
        let count = sent.len() as u64;
        self.ledger.acknowledge(sent, accepted)?;
        self.acknowledged.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }

    /// The edit that registers a household with its people in `shard`.
    pub fn registration(&self, context: &Context, shard: ShardId, draft: &Draft) -> Result<v1::EditRequest> {
        let request = self.session.next();
        // The records' ids are known beforehand, so they can name each other.
        let ids: BTreeMap<&str, RecordId> = draft
            .records
            .iter()
            .zip(0..)
            .map(|(record, part)| (record.id.as_str(), RecordId::derive(request, part)))
            .collect();
        let mut edit = EditBuilder::new(context);
        edit.shard(shard);
        for record in &draft.records {
            let mut linked = record.clone();
            linked.link(|temporary| ids.get(temporary).copied())?;
            let part = edit.create(linked.kind);
            for value in &linked.fields {
                edit.set(part, &value.field.to_string(), &value.element, &value.text);
            }
        }
        Ok(edit.build(request, self.client.ambient().utc_ms()))
    }

    /// Sends edits over one stream, one every `pace`, again after every break, until each has an answer. All must be
    /// accepted.
    pub async fn send_all(&self, edits: Vec<v1::EditRequest>, pace: Option<Duration>) -> Result<()> {
        let mut unanswered = BTreeMap::new();
        for edit in edits {
            let (request, sent) = self.ledger.sent(&edit)?;
            unanswered.insert(request, (edit, sent));
        }
        let mut last = String::new();
        for _ in 0..SEND_ROUNDS {
            if unanswered.is_empty() {
                return Ok(());
            }
            let edits: Vec<v1::EditRequest> = unanswered.values().map(|(edit, _)| edit.clone()).collect();
            let paced = stream::iter(edits).then(|edit| async move {
                if let Some(pace) = pace {
                    sleep(pace).await;
                }
                edit
            });
            let mut answers = std::pin::pin!(self.client.edit_many(paced.boxed()));
            while let Some(answer) = answers.next().await {
                let answered = match answer {
                    Ok(answered) => answered,
                    Err(error) => {
                        last = error.to_string();
                        break;
                    }
                };
                let is_open = matches!(answered.outcome, Err(Error::OutcomeUnknown { .. }));
                if is_open {
                    continue;
                }
                let (_, sent) = unanswered.remove(&answered.request).context("an answer to no request")?;
                match answered.outcome {
                    Ok(accepted) => self.acknowledge(sent, &accepted)?,
                    Err(error) => bail!("a registration was refused: {error}"),
                }
            }
        }
        if unanswered.is_empty() {
            return Ok(());
        }
        let count = unanswered.len();
        for (request, (_, sent)) in unanswered {
            self.ledger.oracle().leave_open(request, sent);
        }
        bail!("{count} registrations have no answer: {last}")
    }

    /// Reads a record, writes a value into one of its fields, and does so again if somebody else was faster. Returns
    /// false, having changed nothing, if the field is in dispute or holds that value already.
    pub async fn change(
        &self,
        context: &Context,
        record: RecordId,
        field: &str,
        element: &str,
        value: &str,
    ) -> Result<bool> {
        for _ in 0..STALE_ROUNDS {
            let current = self.client.get(context, record).await?;
            if let Some(found) = field_of(&current, field, element)
                && (found.disputed || found.values.iter().any(|there| there.value == value))
            {
                return Ok(false);
            }
            let mut edit = EditBuilder::new(context);
            let part = edit.change(&current);
            edit.set(part, field, element, value);
            match self.send(&edit).await? {
                Some(()) => return Ok(true),
                None => continue,
            }
        }
        Ok(false)
    }

    /// Decides a conflict: of the values in the field, that at place `choice` (counted round) is right. Returns the value.
    pub async fn decide(&self, conflict: &v1::Conflict, choice: usize, grounds: &str) -> Result<String> {
        let context = Context::parse("adjudication", "XD-2024-017")?;
        let record = self.client.get(&context, conflict.record.parse()?).await?;
        let found = field_of(&record, &conflict.field, &conflict.element).context("the disputed field is not there")?;
        let value = found.values[choice % found.values.len().max(1)].value.clone();
        let mut edit = EditBuilder::new(&context);
        let part = edit.change(&record);
        edit.set(part, &conflict.field, &conflict.element, &value).decision().grounds(grounds);
        self.send(&edit).await?.context("the record changed while its conflict was being decided")?;
        Ok(value)
    }

    /// Files an event. What it came to is believed as the site shows it then, and must be so everywhere from then on.
    pub async fn file(&self, event: &EventBuilder) -> Result<Accepted> {
        let request = self.session.next();
        let (mut last, mut is_open) = (String::new(), false);
        for _ in 0..SEND_ROUNDS {
            let outcome = match is_open {
                false => self.client.file_as(request, event).await,
                true => self.client.file_again(request, event).await,
            };
            is_open |= matches!(outcome, Err(Error::OutcomeUnknown { .. }));
            match outcome {
                Ok(accepted) => return self.note(&accepted).await.map(|()| accepted),
                Err(error @ (Error::OutcomeUnknown { .. } | Error::Unreachable { .. })) => last = error.to_string(),
                Err(error) => bail!("an event was refused: {error}"),
            }
        }
        bail!("an event has no answer: {last}")
    }

    /// Says how an edit stands, as a second person.
    pub async fn judge(&self, context: &Context, judgement: &Judgement) -> Result<()> {
        let accepted = self.client.judge(self.session.next(), context, judgement).await?;
        self.note(&accepted).await
    }

    /// Takes what the histories of an acceptance's records show of it for what was sent.
    async fn note(&self, accepted: &Accepted) -> Result<()> {
        let context = Context::parse("verification", "KT-2024-003")?;
        let mut shown = BTreeMap::new();
        let records: BTreeSet<RecordId> = accepted.records.iter().copied().collect();
        for record in records {
            for entry in self.client.history(&context, record).await? {
                if request_of(entry.request.as_ref()) != Some(accepted.request) {
                    continue;
                }
                let dot = dot_of(entry.dot.as_ref().context("an edit without a dot")?)?;
                let changes = changes(&entry.record_kind, &entry.changes)?;
                let shard = accepted.receipt.shard.parse()?;
                shown.insert(dot, Sent { shard, record, request: accepted.request, changes });
            }
        }
        let first = dot_of(accepted.receipt.first.as_ref().context("a receipt without a name")?)?;
        let names = (first.1..).take(accepted.receipt.count as usize).map(|number| (first.0, number));
        if !shown.keys().copied().eq(names) {
            bail!("the histories do not show the edits of request {}", accepted.request);
        }
        let sent: Vec<Sent> = shown.into_values().collect();
        let count = sent.len() as u64;
        self.ledger.acknowledged.fetch_add(count, Ordering::Relaxed);
        self.acknowledged.fetch_add(count, Ordering::Relaxed);
        self.ledger.oracle().acknowledge(first, sent);
        Ok(())
    }

    /// Sends one edit until there is an answer; none if it was stale.
    async fn send(&self, edit: &EditBuilder) -> Result<Option<()>> {
        let request = self.session.next();
        let (_, sent) = self.ledger.sent(&edit.build(request, 0))?;
        let (mut last, mut is_open) = (String::new(), false);
        for _ in 0..SEND_ROUNDS {
            let outcome = match is_open {
                false => self.client.edit_as(request, edit).await,
                true => self.client.edit_again(request, edit).await,
            };
            is_open |= matches!(outcome, Err(Error::OutcomeUnknown { .. }));
            match outcome {
                Ok(accepted) => return self.acknowledge(sent, &accepted).map(Some),
                Err(Error::Stale(_)) => return Ok(None),
                Err(error @ (Error::OutcomeUnknown { .. } | Error::Unreachable { .. })) => last = error.to_string(),
                Err(error) => bail!("an edit was refused: {error}"),
            }
        }
        self.ledger.oracle().leave_open(request, sent);
        bail!("an edit has no answer: {last}")
    }
}

/// The next item, if one comes within `wait`.
pub async fn next_within<T>(stream: &mut (impl Stream<Item = T> + Unpin), wait: Duration) -> Option<T> {
    timeout(wait, stream.next()).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use dinhba_client::Limits;
    use dinhba_client::ambient::Machine;
    use dinhba_client::generate::generate;
    use dinhba_client::tls::LoopbackDialer;
    use dinhba_core::claims::{Claims, Identity, Role};
    use dinhba_core::ids::{EvidenceId, UnitId};
    use dinhba_core::units::BEFORE_REFORM;

    use super::*;

    fn officer() -> Officer {
        let claims = Claims::new("lan", Role::Registrar, UnitId(1), EvidenceId::default()).unwrap();
        let dial = Arc::new(LoopbackDialer::new(&Identity::Person(claims)));
        let client = Client::new(dial, [], Arc::new(Machine::default()), Limits::default());
        Officer::new(client, Arc::new(Ledger::new(Arc::new(Directory::vietnam().unwrap()))))
    }

    fn receipt(request: RequestId, count: u32, records: Vec<RecordId>) -> Accepted {
        let first = Some(v1::Dot { author: vec![3; 16], number: 5 });
        let receipt = v1::Receipt { shard: ShardId(1).to_string(), first, count, hash: vec![] };
        Accepted { request, receipt, replayed: false, pending: false, records, number: None }
    }

    #[test]
    fn every_part_of_a_registration_is_in_the_ledger_once_it_is_acknowledged() {
        let officer = officer();
        let ledger = &officer.ledger;
        let commune = ledger.directory.by_code("02683", BEFORE_REFORM).unwrap().id;
        let context = Context::parse("registration", "HS-1").unwrap();
        let draft =
            generate(&ledger.directory, &[commune], 20, 1).unwrap().find(|draft| draft.records.len() > 2).unwrap();
        let edit = officer.registration(&context, ShardId(1), &draft).unwrap();
        let (request, sent) = ledger.sent(&edit).unwrap();
        assert_eq!(sent.len(), draft.records.len());
        let ids: Vec<RecordId> = sent.iter().map(|part| part.record).collect();

        let count = sent.len();
        ledger.acknowledge(sent.clone(), &receipt(request, count as u32, ids.clone())).unwrap();
        assert_eq!(ledger.complaints(), Vec::<String>::new());
        assert_eq!(ledger.acknowledged(), count as u64);
        assert_eq!(ledger.oracle().acknowledged(), count);
        let short = receipt(request, 1, ids[..1].to_vec());
        ledger.acknowledge(sent, &short).unwrap();
        assert_eq!(ledger.complaints().len(), 1);
    }
}
