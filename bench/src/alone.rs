//! What one thread does in this process, without Raft and without a peer, per second of its CPU time. What an engine's own
//! threads do meanwhile is not in it, on either side of a comparison, but where a figure says *all threads*.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use crdts::CvRDT as _;
use dinhba_core::command::{Answer, Command, Cursor, EditCommand, Item, Proposal, Seal, Tip};
use dinhba_core::digest::Digest;
use dinhba_core::edit::Edit;
use dinhba_core::encoding::Wire as _;
use dinhba_core::ids::{KeyMark, SiteId};
use dinhba_core::keys::{Space, space_of};
use dinhba_core::record::Record;
use dinhba_core::registry::{Arrival, ShardState, StoredEdit, apply, read, read_range, running_hash};
use dinhba_core::store::{Batch, StateEngine};
use dinhba_core::sync::Batch as Piece;
use dinhba_core::validity;
use dinhba_node::seal::{Unsealed, stored};
use dinhba_node::state::{EngineKind, PacedFjall, UnjournaledLsm, is_grown, open};
use serde::Serialize;

use crate::meter::{Busy, Usage};
use crate::population::{Map, Population, SHARD, context, founding};
use crate::{Options, Part};

/// Commands of one log entry, and entries of one engine batch: what many callers make of them.
const ENTRY_COMMANDS: usize = 64;

/// Edits of one merged batch: some 48 kB of them, as links carry.
const PIECE_EDITS: usize = 64;

/// A figure.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// What.
    pub name: &'static str,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// What to reach.
    pub target: &'static str,
}

impl Figure {
    pub fn new(name: &'static str, value: f64, unit: &'static str, target: &'static str) -> Self {
        Figure { name, value, unit, target }
    }

    /// For people.
    pub fn text(&self) -> String {
        if self.value.abs() >= 100.0 { format!("{:.0}", self.value) } else { format!("{:.2}", self.value) }
    }
}

/// Measures one part.
type Measure = fn(&Options) -> anyhow::Result<Vec<Figure>>;

/// The parts of this file.
pub const PARTS: &[(Part, Measure)] = &[(Part::Apply, applies), (Part::Merge, merges), (Part::Rest, rest)];

fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// The bytes of log entries.
pub fn entries(commands: &[EditCommand]) -> Vec<Vec<u8>> {
    let entry = |commands: &[EditCommand]| {
        let commands: Vec<Command> = commands.iter().map(|command| Command::Edit(Box::new(command.clone()))).collect();
        Proposal { at_ms: 1, commands }.to_bytes()
    };
    commands.chunks(ENTRY_COMMANDS).map(entry).collect()
}

/// Fails unless every edit of an entry was accepted.
fn all_accepted(answers: &[Vec<u8>]) -> anyhow::Result<()> {
    for answers in answers {
        for answer in Vec::<Answer>::from_bytes(answers)? {
            ensure!(matches!(answer, Answer::Accepted(_)), "an edit was answered by {answer:?}");
        }
    }
    Ok(())
}

/// Folds entries into a state in memory; keeps the batches if asked to.
pub fn in_memory(
    state: &mut Map,
    site: u64,
    entries: Vec<Vec<u8>>,
    mut keep: impl FnMut(&Batch),
) -> anyhow::Result<Duration> {
    let (context, mut took) = (context(site), Duration::ZERO);
    for entry in entries {
        let began = Busy::begin();
        let (answers, batch) = apply(state, &context, &[(1, entry)])?;
        took += began.elapsed();
        all_accepted(&answers)?;
        keep(&batch);
        let began = Busy::begin();
        state.write(batch);
        took += began.elapsed();
    }
    Ok(took)
}

/// The same on an engine.
fn on_engine(engine: &dyn StateEngine, entries: Vec<Vec<u8>>) -> anyhow::Result<Duration> {
    let (context, mut took) = (context(1), Duration::ZERO);
    for entry in entries {
        let began = Busy::begin();
        let (answers, batch) = apply(&*engine.snapshot()?, &context, &[(1, entry)])?;
        engine.apply(batch)?;
        took += began.elapsed();
        all_accepted(&answers)?;
    }
    Ok(took)
}

/// An engine with a node's settings, and nothing of ours above it.
enum Bare {
    Fjall(PacedFjall),
    Lsm(UnjournaledLsm),
}

impl Bare {
    fn open(kind: EngineKind, dir: &Path) -> anyhow::Result<Option<Self>> {
        Ok(match kind {
            EngineKind::Fjall => Some(Bare::Fjall(PacedFjall::open(dir)?)),
            EngineKind::Lsm => Some(Bare::Lsm(UnjournaledLsm::open(dir, Arc::new(Unsealed))?)),
            EngineKind::Sled | EngineKind::Memory => None,
        })
    }

    fn commit(&self, pairs: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> anyhow::Result<()> {
        match self {
            Bare::Fjall(fjall) => fjall.commit(|batch, state| {
                for (key, value) in pairs {
                    match value {
                        Some(value) => batch.insert(state, key, value),
                        None => batch.remove(state, key),
                    }
                }
            })?,
            Bare::Lsm(tree) => tree.commit(pairs)?,
        }
        Ok(())
    }
}

/// What an engine alone costs.
struct BareCost {
    /// Of the thread that commits.
    took: Duration,
    /// Of all threads, until the engine is closed; with what encodes the values.
    all: Usage,
}

/// Commits to an engine alone what a node stores in it.
fn bare(kind: EngineKind, dir: &Path, batches: Vec<Batch>) -> anyhow::Result<Option<BareCost>> {
    let before = Usage::of(&[std::process::id()])?;
    let Some(engine) = Bare::open(kind, dir)? else { return Ok(None) };
    let mut took = Duration::ZERO;
    for batch in batches {
        let store = |(key, value): (Vec<u8>, Option<Vec<u8>>)| {
            let is_plain = kind == EngineKind::Lsm && is_grown(&key);
            let stored = value.map(|value| if is_plain { value } else { stored(&key, &value) });
            (key, stored)
        };
        let pairs: Vec<_> = batch.writes.into_iter().map(store).collect();
        let began = Busy::begin();
        engine.commit(pairs)?;
        took += began.elapsed();
    }
    drop(engine);
    Ok(Some(BareCost { took, all: Usage::of(&[std::process::id()])?.since(before) }))
}

/// What no `apply` of registrations can do without: the commands decoded, their values checked, edits and records encoded,
/// and hashed as chain, stream and digests ask for it. No key is read, nothing is folded, kept or indexed.
fn least(state: &Map, entries: &[Vec<u8>]) -> anyhow::Result<Duration> {
    let (keys, digest_key, mut took) = (context(1).keys(), context(1).digest_key, Duration::ZERO);
    let mut position = 0;
    for entry in entries {
        let began = Busy::begin();
        let commands = Proposal::from_bytes(entry)?.commands;
        took += began.elapsed();
        for command in commands {
            let Command::Edit(command) = command else { bail!("{command:?} is no edit") };
            ensure!(command.parts.len() == 1, "a registration has one part");
            position += 1;
            let arrival: Arrival = read(state, &keys.arrival(SHARD, position))?.context("an arrival")?;
            let kept: StoredEdit = read(state, &keys.edit(SHARD, &arrival.dot))?.context("an edit")?;
            let edit = Edit::from_bytes(&kept.bytes)?;
            let record: Record = read(state, &keys.record(SHARD, edit.header.record))?.context("a record")?;
            let began = Busy::begin();
            for change in &edit.changes {
                validity::validate(edit.header.level, edit.header.record_kind, change).map_err(anyhow::Error::msg)?;
            }
            let (edit_bytes, record_bytes, hash) = (edit.to_bytes(), record.to_bytes(), edit.hash(&command.secret));
            let members = [&hash.0[..], &record_bytes].map(|member| Digest::of(&digest_key.secret, member));
            black_box((edit_bytes, members, running_hash(&arrival.running, &hash)));
            took += began.elapsed();
        }
    }
    Ok(took)
}

fn temporary() -> anyhow::Result<tempfile::TempDir> {
    Ok(tempfile::Builder::new().prefix("dinhba-bench-").tempdir()?)
}

fn founded(people: &Population) -> anyhow::Result<Map> {
    let mut state = Map::default();
    state.run(&context(1), &founding(1, people.shard, people.unit))?;
    Ok(state)
}

fn shard_of(state: &Map) -> anyhow::Result<ShardState> {
    read(state, &context(1).keys().shard(SHARD))?.context("the shard was adopted")
}

fn applies(options: &Options) -> anyhow::Result<Vec<Figure>> {
    eprintln!("apply");
    let people = Population::invent(options.records)?;
    let count = people.created.len();
    let mut state = founded(&people)?;
    let author = shard_of(&state)?.own.id();
    let changes = people.change_each(author);
    let mut batches = Vec::new();
    let created = in_memory(&mut state, 1, entries(&people.created), |batch| batches.push(batch.clone()))?;
    let least = least(&state, &entries(&people.created))?;
    let changed = in_memory(&mut state, 1, entries(&changes), |_| {})?;
    drop(state);

    let dir = temporary()?;
    let kind: EngineKind = options.engine.name().parse()?;
    let engine = open(kind, dir.path(), Arc::new(Unsealed))?;
    let founding = Proposal { at_ms: 1, commands: founding(1, people.shard, people.unit) };
    let (_, batch) = apply(&*engine.snapshot()?, &context(1), &[(1, founding.to_bytes())])?;
    engine.apply(batch)?;
    let stored = on_engine(&*engine, entries(&people.created))?;
    drop(engine);
    let bare_dir = temporary()?;
    let bare = bare(kind, bare_dir.path(), batches)?;
    let mut figures = vec![
        Figure::new("apply in memory, registrations", per_second(count, created), "edits/s", "100,000"),
        Figure::new("apply in memory, changes of one field", per_second(count, changed), "edits/s", "100,000"),
        Figure::new("of a registration: decode, check, encode, hash", per_second(count, least), "edits/s", ""),
        Figure::new("apply on the engine, registrations", per_second(count, stored), "edits/s", ""),
    ];
    if let Some(BareCost { took, all }) = bare {
        let share = took.as_secs_f64() / stored.as_secs_f64();
        let written = all.written as f64 / count as f64;
        figures.extend([
            Figure::new("the engine alone, the same bytes", per_second(count, took), "edits/s", ""),
            Figure::new("apply on the engine, share of the engine alone", share, "", "0.70"),
            Figure::new("the engine alone, all threads", all.cpu.as_secs_f64() * 1e6 / count as f64, "µs/edit", ""),
            Figure::new("the engine alone, written", written, "B/edit", ""),
            Figure::new("of a byte of values, written", written * count as f64 / people.value_bytes as f64, "B", "3"),
        ]);
    }
    figures.push(Figure::new("values of a record", people.value_bytes as f64 / count as f64, "B", ""));
    Ok(figures)
}

fn merges(options: &Options) -> anyhow::Result<Vec<Figure>> {
    eprintln!("merge");
    let people = Population::invent(options.records)?;
    let count = people.created.len();
    let mut state = founded(&people)?;
    in_memory(&mut state, 1, entries(&people.created), |_| {})?;
    let (keys, shard) = (context(1).keys(), shard_of(&state)?);
    let before: Vec<Record> = read_range(&state, keys.records(SHARD))?.into_iter().map(|(_, record)| record).collect();

    // The stream of this site, as its parent takes it.
    let mut pieces = Vec::new();
    let mut cursor = Cursor::start(shard.epoch);
    let arrivals: Vec<Arrival> =
        read_range(&state, keys.arrivals(SHARD, 1))?.into_iter().map(|(_, arrival)| arrival).collect();
    for arrivals in arrivals.chunks(PIECE_EDITS) {
        let (mut items, mut secrets, mut seals) = (Vec::new(), std::collections::BTreeMap::new(), Vec::new());
        let start = cursor;
        for arrival in arrivals {
            let stored: StoredEdit = read(&state, &keys.edit(SHARD, &arrival.dot))?.context("an edit that arrived")?;
            let edit = dinhba_core::edit::Edit::from_bytes(&stored.bytes)?;
            secrets.insert((arrival.dot.actor, edit.header.origin.request.session), [3; 32]);
            let running = running_hash(&cursor.running, &stored.hash);
            cursor = Cursor { position: cursor.position + 1, running, ..cursor };
            // Checked at the door, which is not measured here.
            let tip = Tip { author: edit.header.author, number: edit.header.number, hash: stored.hash };
            seals = vec![Seal { tip, signature: [0; 64] }];
            items.push(Item { dot: arrival.dot.clone(), bytes: stored.bytes });
        }
        let secrets = secrets.into_iter().map(|((author, session), secret)| (author, session, secret)).collect();
        let batch = Piece { shard: SHARD, start, end: cursor, items, secrets, seals };
        let commands = vec![Command::Merge(Box::new(batch.into_command(SiteId(1), 5, |_| Some(KeyMark(1)))))];
        pieces.push(Proposal { at_ms: 5, commands }.to_bytes());
    }

    // Each record with one field written at another site, merged with itself before that.
    in_memory(&mut state, 1, entries(&people.change_each(shard.own.id())), |_| {})?;
    let after: Vec<Record> = read_range(&state, keys.records(SHARD))?.into_iter().map(|(_, record)| record).collect();
    drop(state);
    let mut merged = before;
    let others = after.clone();
    let began = Busy::begin();
    for (record, other) in merged.iter_mut().zip(others) {
        record.merge(other);
    }
    let states = began.elapsed();
    ensure!(merged == after, "merging lost something");

    let mut parent = Map::default();
    parent.run(&context(2), &founding(2, people.shard, people.unit))?;
    let mut stream = Duration::ZERO;
    for piece in pieces {
        let began = Busy::begin();
        let (answers, batch) = apply(&parent, &context(2), &[(1, piece)])?;
        parent.write(batch);
        stream += began.elapsed();
        let answers = Vec::<Answer>::from_bytes(&answers[0])?;
        ensure!(
            matches!(answers.as_slice(), [Answer::Merged(merged)] if merged.taken && merged.parked.is_empty()),
            "a batch was answered by {answers:?}"
        );
    }
    Ok(vec![
        Figure::new("merging two states of a record", per_second(count, states), "records/s", "300,000"),
        Figure::new("taking a neighbour's edits, in memory", per_second(count, stream), "edits/s", ""),
    ])
}

/// The spaces of the key space that hold something of every record or edit.
const SPACES: &[(u8, &str)] = &[
    (Space::Edit as u8, "at rest: edit"),
    (Space::Arrival as u8, "at rest: place in the stream"),
    (Space::Record as u8, "at rest: folded record"),
    (Space::History as u8, "at rest: history"),
    (Space::Request as u8, "at rest: receipt"),
    (Space::Secret as u8, "at rest: secrets"),
    (Space::Index as u8, "at rest: search index"),
    (Space::Term as u8, "at rest: signposts of terms"),
    (Space::Home as u8, "at rest: signposts of records"),
];

fn rest(options: &Options) -> anyhow::Result<Vec<Figure>> {
    eprintln!("rest");
    let people = Population::invent(options.records)?;
    let count = people.created.len() as f64;
    let mut state = founded(&people)?;
    in_memory(&mut state, 1, entries(&people.created), |_| {})?;
    let mut figures = Vec::new();
    for (space, name) in SPACES {
        let of_space = state.0.iter().filter(|(key, _)| space_of(key) == Some(*space));
        let bytes: usize = of_space.map(stored_bytes).sum();
        figures.push(Figure::new(name, bytes as f64 / count, "B/record", ""));
    }
    let all: usize = state.0.iter().map(stored_bytes).sum();
    figures.push(Figure::new("at rest: all keys and values", all as f64 / count, "B/record", ""));
    let dir = temporary()?;
    let engine = open(options.engine.name().parse()?, dir.path(), Arc::new(Unsealed))?;
    let mut pairs = state.0.into_iter().peekable();
    while pairs.peek().is_some() {
        let writes = pairs.by_ref().take(4_096).map(|(key, value)| (key, Some(value))).collect();
        engine.apply(Batch { writes })?;
    }
    engine.sync()?;
    drop(engine);
    // Without fjall's journal, which is bounded and holds what the tables will.
    let bytes = tables(dir.path())?;
    figures.push(Figure::new(
        "at rest: the engine's tables on the disk",
        bytes as f64 / count,
        "B/record",
        "280 + history",
    ));
    figures.push(Figure::new("values of a record", people.value_bytes as f64 / count, "B", ""));
    Ok(figures)
}

/// Bytes of a key and of what is stored under it, before the engine lays them out.
fn stored_bytes((key, value): (&Vec<u8>, &Vec<u8>)) -> usize {
    key.len() + stored(key, value).len()
}

/// Bytes of the files of tables below a directory.
fn tables(dir: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        if path.is_dir() {
            bytes += tables(&path)?;
        } else if path.extension().is_none_or(|extension| extension != "jnl") {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}
