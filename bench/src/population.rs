//! Invented people as commands of the registry, and a state in memory to fold them into.

use std::collections::BTreeMap;

use anyhow::Context as _;
use dinhba_client::generate::generate;
use dinhba_core::claims::{Claims, Purpose, Role};
use dinhba_core::command::{Adopt, Command, EditCommand, Form, PartDraft, Proposal, ShardInfo};
use dinhba_core::edit::{Change, EditKind, Origin};
use dinhba_core::encoding::Wire as _;
use dinhba_core::ids::{EvidenceId, GroupId, Incarnation, RecordId, RequestId, SessionId, ShardId, SiteId, UnitId};
use dinhba_core::level::LEVEL_MAX;
use dinhba_core::registry::{Context, Key, apply};
use dinhba_core::schema::{FieldId, RecordKind, field, parse};
use dinhba_core::store::{Batch, Scan, StateView, StoreError};
use dinhba_core::units::{BEFORE_REFORM, Directory};

use crate::site::COMMUNE;

/// Bytes of values in what both sides write.
pub const VALUE_BYTES: usize = 1024;

/// The shard.
pub const SHARD: ShardId = ShardId(0xc000_0a7b);

/// Requests of one session: about an officer's day.
const SESSION_REQUESTS: u64 = 1_000;

/// Officers' names.
const SURNAMES: [&str; 8] = ["le", "nguyen", "tran", "pham", "hoang", "vu", "dang", "bui"];

/// What the replicas of a group know.
pub fn context(site: u64) -> Context {
    Context {
        group: GroupId(u64::from_be_bytes(drawn("group", site))),
        index_key: Key { id: 1, secret: [7; 32] },
        digest_key: Key { id: 1, secret: [9; 32] },
        level_max: LEVEL_MAX,
    }
}

/// What the group of a site begins with.
pub fn founding(site: u64, shard: ShardId, unit: UnitId) -> Vec<Command> {
    let info = ShardInfo { shard, path: vec![unit] };
    let incarnation = Incarnation(drawn("incarnation", site));
    vec![
        Command::Form(Form {
            site: SiteId(u64::from_be_bytes(drawn("site", site))),
            level: 2,
            index_key: 1,
            digest_key: 1,
            incarnation,
        }),
        Command::Adopt(Adopt { info, incarnation, epoch: drawn("epoch", site) }),
    ]
}

/// Bytes without a pattern, the same each time: ids must not look alike where something is compressed.
fn drawn<const N: usize>(what: &str, number: u64) -> [u8; N] {
    let mut bytes = [0; N];
    blake3::Hasher::new_derive_key(what).update(&number.to_be_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// People and their edits.
pub struct Population {
    pub shard: ShardId,
    pub unit: UnitId,
    /// Which one: its sessions have ids of their own.
    number: u64,
    claims: Claims,
    /// The registrations.
    pub created: Vec<EditCommand>,
    /// Bytes of values in them.
    pub value_bytes: usize,
}

impl Population {
    /// As many records as wanted, the same each time.
    pub fn invent(records: usize) -> anyhow::Result<Self> {
        let directory = Directory::vietnam()?;
        let unit = directory.by_code(COMMUNE, BEFORE_REFORM).context("the commune")?.id;
        Self::of(&directory, (SHARD, unit), records, 1)
    }

    /// People of some commune, other ones for each number.
    pub fn of(
        directory: &Directory,
        (shard, unit): (ShardId, UnitId),
        records: usize,
        number: u64,
    ) -> anyhow::Result<Self> {
        let officer = format!("{}.{}", SURNAMES[number as usize % SURNAMES.len()], number % 10);
        let claims = Claims::new(&officer, Role::Registrar, unit, EvidenceId(drawn("evidence", number)))?;
        let created = Vec::with_capacity(records);
        let mut population = Population { shard, unit, number, claims, created, value_bytes: 0 };
        // Household and people of one draft refer to each other.
        'all: for draft in generate(directory, &[unit], records, number)? {
            let first = population.created.len() as u64 + 1;
            let ids: BTreeMap<String, RecordId> = (first..)
                .zip(&draft.records)
                .map(|(number, record)| (record.id.clone(), RecordId::derive(population.request(1, number), 0)))
                .collect();
            for (mut record, number) in draft.records.into_iter().zip(first..) {
                record.link(|temporary| ids.get(temporary).copied())?;
                let mut changes = Vec::with_capacity(record.fields.len());
                for entry in &record.fields {
                    let value = parse(entry.field, &entry.text, directory)?.encode();
                    population.value_bytes += value.len();
                    let element = entry.element.clone().into_bytes();
                    changes.push(Change { field: entry.field, element, value, overwrites: Vec::new() });
                }
                let request = population.request(1, number);
                let command = population.command(request, RecordId::derive(request, 0), record.kind, true, changes);
                population.created.push(command);
                if population.created.len() == records {
                    break 'all;
                }
            }
        }
        Ok(population)
    }

    /// One change of one field of each person, over what was registered. The dots are those of a single author.
    pub fn change_each(&self, author: dinhba_core::ids::AuthorId) -> Vec<EditCommand> {
        let text = "HS-2026-17: đã đối chiếu".as_bytes().to_vec();
        let note = |kind| if kind == RecordKind::Person { field::NOTE } else { field::HOUSEHOLD_NOTE };
        (1..)
            .zip(&self.created)
            .map(|(number, created)| {
                let part = &created.parts[0];
                let field: FieldId = note(part.record_kind);
                let is_there = part.changes.iter().any(|change| change.field == field);
                let dot = dinhba_core::edit::Dot { actor: author, counter: number };
                let overwrites = if is_there { vec![dot] } else { Vec::new() };
                let change = Change { field, element: Vec::new(), value: text.clone(), overwrites };
                self.command(self.request(2, number), part.record, part.record_kind, false, vec![change])
            })
            .collect()
    }

    fn command(
        &self,
        request: RequestId,
        record: RecordId,
        record_kind: RecordKind,
        create: bool,
        mut changes: Vec<Change>,
    ) -> EditCommand {
        changes.sort_by(|one, two| (one.field, &one.element).cmp(&(two.field, &two.element)));
        let part = PartDraft { record, record_kind, create, valid_from: Vec::new(), changes };
        EditCommand {
            shard: self.shard,
            kind: EditKind::Change,
            origin: Origin {
                request,
                claims: self.claims.clone(),
                purpose: Purpose::Registration,
                case: "HS-2026-1".parse().expect("a case"),
                authored_ms: 1_780_000_000_000,
                received_ms: 1_780_000_000_000 + request.counter as i64,
            },
            secret: [3; 32],
            parts: vec![part],
        }
    }

    /// The `number`th request of a life of work, from 1.
    fn request(&self, life: u64, number: u64) -> RequestId {
        let day = (number - 1) / SESSION_REQUESTS;
        let session = SessionId(drawn("session", (self.number << 40) | (life << 32) | day));
        RequestId { session, counter: (number - 1) % SESSION_REQUESTS + 1 }
    }
}

/// A state that is nothing but a sorted map.
#[derive(Default)]
pub struct Map(pub BTreeMap<Vec<u8>, Vec<u8>>);

impl StateView for Map {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.get(key).cloned())
    }
    fn scan<'a>(&'a self, from: &[u8], to: &[u8]) -> Scan<'a> {
        let range = self.0.range(from.to_vec()..to.to_vec());
        Box::new(range.map(|(key, value)| Ok((key.clone(), value.clone()))))
    }
}

impl Map {
    pub fn write(&mut self, batch: Batch) {
        for (key, value) in batch.writes {
            match value {
                Some(value) => drop(self.0.insert(key, value)),
                None => drop(self.0.remove(&key)),
            }
        }
    }

    /// Folds commands in, as one entry.
    pub fn run(&mut self, context: &Context, commands: &[Command]) -> anyhow::Result<Vec<Vec<u8>>> {
        let (answers, batch) =
            apply(self, context, &[(1, Proposal { at_ms: 1, commands: commands.to_vec() }.to_bytes())])?;
        self.write(batch);
        Ok(answers)
    }
}
