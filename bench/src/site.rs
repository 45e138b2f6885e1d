//! Our side: a site of three processes.

use std::sync::Arc;

use anyhow::Context as _;
use dinhba_client::{Client, Context, EditBuilder, Error, Limits, Session};
use dinhba_core::claims::Role;
use dinhba_core::ids::{RecordId, ShardId};
use dinhba_core::schema::RecordKind;
use dinhba_tests::country::{Country, NodePlan, Wish, site};
use futures::{StreamExt, stream};
use rand::RngCore as _;
use rand::seq::IndexedRandom as _;

use crate::Options;
use crate::etcd::CONNECTIONS;
use crate::population::VALUE_BYTES;

/// The commune.
pub const COMMUNE: &str = "02683";

/// A site that runs.
pub struct Site {
    pub country: Country,
    pub nodes: Vec<NodePlan>,
    pub shard: ShardId,
    pub context: Context,
}

/// One of the callers' connections.
#[derive(Clone)]
pub struct Caller {
    client: Client,
    session: Arc<Session>,
    shard: ShardId,
    context: Context,
}

impl Site {
    /// Starts one of `nodes` nodes; the node that leads comes first.
    pub async fn start(nodes: usize, options: &Options) -> anyhow::Result<Self> {
        Self::start_as(site(COMMUNE, nodes, None, &[COMMUNE]), options).await
    }

    /// Starts one as wished.
    pub async fn start_as(wish: Wish<'_>, options: &Options) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?;
        let program = program.to_str().context("the program lies at a path that is no text")?;
        let mut country = Country::plan(program, &[wish]).await;
        if !options.tls {
            country.unprotected();
        }
        country.configure(COMMUNE, |config| config.storage.engine = options.engine);
        country.start_all();
        country.ready().await;
        let mut nodes = country.sites[COMMUNE].nodes.clone();
        nodes.rotate_left(country.leader(COMMUNE).await);
        let shard = country.shard(COMMUNE);
        let context = Context::parse("registration", "HS-2026-1")?;
        Ok(Site { country, nodes, shard, context })
    }

    /// The ids of its processes.
    pub fn processes(&mut self) -> Vec<u32> {
        self.nodes.iter().map(|node| self.country.process(node.id).id()).collect()
    }

    /// As many connections to the leader as the other side has.
    pub fn connections(&self) -> Vec<Caller> {
        (0..CONNECTIONS).map(|_| self.caller()).collect()
    }

    pub fn caller(&self) -> Caller {
        let client = self.country.client(&self.nodes, Role::Registrar, COMMUNE);
        let session = Arc::new(client.session());
        Caller { client, session, shard: self.shard, context: self.context.clone() }
    }
}

impl Caller {
    /// On the same connection, with requests of its own.
    pub fn another(&self) -> Self {
        Caller { session: Arc::new(self.client.session()), ..self.clone() }
    }

    /// A person of [`VALUE_BYTES`] of values, most of them in a note.
    pub fn person(&self) -> EditBuilder {
        let fixed = [("name", "Hà/Thị/Tải"), ("birth_date", "1990-03-08"), ("sex", "female"), ("nationality", "VN")];
        let mut edit = EditBuilder::new(&self.context);
        edit.shard(self.shard);
        let part = edit.create(RecordKind::Person);
        let mut left = VALUE_BYTES;
        for (field, text) in fixed {
            edit.set(part, field, "", text);
            left -= text.len();
        }
        edit.set(part, "note", "", &note(left));
        edit
    }

    /// The same with other patience.
    pub fn with_limits(&self, limits: Limits) -> Self {
        Caller { client: self.client.with_limits(limits), ..self.another() }
    }

    /// Registers a person.
    pub async fn register(&self) -> anyhow::Result<()> {
        Ok(self.try_register().await?)
    }

    /// Registers a person, or says what the client says.
    pub async fn try_register(&self) -> Result<(), Error> {
        self.client.edit(&self.session, &self.person()).await.map(|_| ())
    }

    /// Registers persons over one stream; `each` is told of every one, and says whether to go on.
    pub async fn register_many(&self, mut each: impl FnMut(RecordId) -> bool) -> anyhow::Result<()> {
        let more = std::sync::atomic::AtomicBool::new(true);
        let edits = stream::iter(std::iter::from_fn(|| {
            let is_wanted = more.load(std::sync::atomic::Ordering::Relaxed);
            is_wanted.then(|| self.person().build(self.session.next(), 0))
        }));
        let mut answers = std::pin::pin!(self.client.edit_many(edits));
        while let Some(answered) = answers.next().await {
            let record = answered?.outcome?.records.first().copied().context("an acceptance without a record")?;
            if !each(record) {
                more.store(false, std::sync::atomic::Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Registers `count` persons; returns their ids.
    pub async fn load(&self, count: usize) -> anyhow::Result<Vec<RecordId>> {
        let mut records = Vec::with_capacity(count);
        self.register_many(|record| {
            records.push(record);
            records.len() < count
        })
        .await?;
        Ok(records)
    }

    /// Reads one of `records`.
    pub async fn read(&self, records: &[RecordId]) -> anyhow::Result<()> {
        let record = *records.choose(&mut rand::rng()).context("nothing to read")?;
        self.client.get(&self.context, record).await?;
        Ok(())
    }
}

/// Text that no compression makes smaller than half.
fn note(bytes: usize) -> String {
    let mut random = vec![0; bytes.div_ceil(2)];
    rand::rng().fill_bytes(&mut random);
    let mut text: String = random.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(letter).collect();
    text.truncate(bytes);
    text
}

fn letter(half: u8) -> char {
    char::from(b'a' + half)
}
