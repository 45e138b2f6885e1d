//! Officers, and the ledger of what they were told.
//!
//! An edit enters the ledger only with its receipt in hand: from then on it must be found everywhere, once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use dinhba_client::request::field_of;
use dinhba_client::{Accepted, Client, Context, EditBuilder, Error, Session};
use dinhba_core::ids::{RecordId, RequestId, ShardId};
use dinhba_core::schema::RecordKind;
use dinhba_proto::v1;

/// How often an edit is made anew after it was found stale: each time somebody else was faster.
const STALE_ROUNDS: usize = 20;

/// An edit's author and number.
pub type Dot = (Vec<u8>, u64);

/// A dot, from the wire.
#[must_use]
pub fn dot_of(wire: Option<&v1::Dot>) -> Dot {
    wire.map(|dot| (dot.author.clone(), dot.number)).unwrap_or_default()
}

/// What one request was told.
#[derive(Debug, Clone)]
pub struct Told {
    /// The shard.
    pub shard: String,
    /// The first of its edits.
    pub first: Dot,
    /// How many.
    pub count: u32,
    /// The hash of the last of them.
    pub hash: Vec<u8>,
    /// Their records.
    pub records: Vec<RecordId>,
    /// What was sent, to be sent again.
    pub edit: EditBuilder,
}

/// What all officers were told. Clones are the same ledger.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<BTreeMap<RequestId, Told>>>);

impl Ledger {
    /// Everything until now.
    #[must_use]
    pub fn told(&self) -> BTreeMap<RequestId, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many requests.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether nobody was told anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps an acceptance.
    pub fn keep(&self, accepted: &Accepted, edit: &EditBuilder) {
        let told = Told {
            shard: accepted.receipt.shard.clone(),
            first: dot_of(accepted.receipt.first.as_ref()),
            count: accepted.receipt.count,
            hash: accepted.receipt.hash.clone(),
            records: accepted.records.clone(),
            edit: edit.clone(),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(accepted.request, told);
    }
}

/// A registrar at one site.
pub struct Officer {
    /// The way to the site.
    pub client: Client,
    /// Why.
    pub context: Context,
    /// The shard that is worked on.
    pub shard: ShardId,
    session: Session,
    ledger: Ledger,
}

impl Officer {
    /// An officer who works on `shard`.
    #[must_use]
    pub fn new(client: Client, shard: ShardId, ledger: &Ledger) -> Self {
        let session = client.session();
        let context = Context::parse("registration", "HS-2024-1").expect("a purpose and a case");
        Officer { client, context, shard, session, ledger: ledger.clone() }
    }

    /// The edit that registers a person.
    #[must_use]
    pub fn birth(&self, name: &str) -> EditBuilder {
        let mut edit = EditBuilder::new(&self.context);
        edit.shard(self.shard);
        let part = edit.create(RecordKind::Person);
        edit.set(part, "name", "", name).set(part, "birth_date", "", "2024-05-06").set(part, "sex", "", "female");
        edit
    }

    /// Registers a person.
    pub async fn register(&self, name: &str) -> Result<RecordId, Error> {
        let accepted = self.send(&self.birth(name)).await?;
        Ok(accepted.records[0])
    }

    /// Sends an edit under its own name until there is an answer, and keeps the answer.
    pub async fn send(&self, edit: &EditBuilder) -> Result<Accepted, Error> {
        let request = self.session.next();
        // The outcome of a request whose node was killed is not known: it is asked for again, under the same name.
        let mut outcome = self.client.edit_as(request, edit).await;
        for _ in 0..3 {
            if !matches!(outcome, Err(Error::OutcomeUnknown { .. })) {
                break;
            }
            outcome = self.client.edit_again(request, edit).await;
        }
        let accepted = outcome?;
        self.ledger.keep(&accepted, edit);
        Ok(accepted)
    }

    /// Reads a record.
    pub async fn read(&self, record: RecordId) -> Result<v1::Record, Error> {
        self.client.get(&self.context, record).await
    }

    /// Reads a record, writes a field, and does so again if somebody else was faster.
    pub async fn write(&self, record: RecordId, field: &str, element: &str, value: &str) -> Result<Accepted, Error> {
        let mut rounds = 0;
        loop {
            let current = self.read(record).await?;
            let mut edit = EditBuilder::new(&self.context);
            let part = edit.change(&current);
            edit.set(part, field, element, value);
            match self.send(&edit).await {
                Err(Error::Stale(_)) if rounds < STALE_ROUNDS => rounds += 1,
                other => return other,
            }
        }
    }
}

/// The values of a field of a record.
#[must_use]
pub fn values(record: &v1::Record, field: &str) -> Vec<String> {
    let found = field_of(record, field, "");
    found.map(|field| field.values.iter().map(|value| value.value.clone()).collect()).unwrap_or_default()
}
