//! The log of a node, beside `raft-engine` (TiKV's log) where that is built in: `--features raft-engine`.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use dinhba_core::ids::GroupId;
use dinhba_node::disk::RealDisk;
use dinhba_node::log::GroupCommit;
use dinhba_node::seal::Unsealed;
use rand::RngCore as _;

use crate::Options;
use crate::alone::Figure;
use crate::meter::median;

/// Entries of one append: what a leader gathers under load.
const ENTRIES: u64 = 16;

/// Bytes of an entry.
const ENTRY_BYTES: usize = 1_000;

/// Entries that a log keeps behind; older ones are purged, as after a snapshot.
const KEPT: u64 = 1_280 * ENTRIES;

/// Appends entries to a group's log and returns once they are durable.
type Append = Box<dyn Fn(GroupId, u64, Vec<Vec<u8>>) -> anyhow::Result<()> + Send + Sync>;

/// Opens a log in a directory.
type Open = fn(&Path) -> anyhow::Result<Append>;

fn ours(dir: &Path) -> anyhow::Result<Append> {
    let log = GroupCommit::open(Arc::new(RealDisk), dir, Arc::new(Unsealed))?;
    Ok(Box::new(move |group, first, entries| {
        let (tell, told) = mpsc::channel();
        let entries = (first..).zip(entries).collect();
        log.append(group, entries, Box::new(move |done| _ = tell.send(done)));
        told.recv()??;
        if first > KEPT && (first - 1).is_multiple_of(KEPT) {
            log.purge_to(group, first - KEPT, Vec::new(), Box::new(|_| ()));
        }
        Ok(())
    }))
}

#[cfg(feature = "raft-engine")]
fn theirs(dir: &Path) -> anyhow::Result<Append> {
    use protobuf::well_known_types::Any;
    use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

    /// An entry is a message of theirs; its index travels as text.
    struct Entry;
    impl MessageExt for Entry {
        type Entry = Any;
        fn index(entry: &Any) -> u64 {
            entry.type_url.parse().unwrap_or_default()
        }
    }
    let dir = dir.to_str().context("a path that is no text")?.to_owned();
    // As ours: without compression of what no compression makes smaller than half.
    let config = Config { dir, batch_compression_threshold: ReadableSize(0), ..Config::default() };
    let engine = Engine::open(config)?;
    Ok(Box::new(move |group, first, entries| {
        let mut batch = LogBatch::with_capacity(2);
        let entry = |(index, value): (u64, Vec<u8>)| Any { type_url: index.to_string(), value, ..Any::default() };
        let entries: Vec<Any> = (first..).zip(entries).map(entry).collect();
        batch.add_entries::<Entry>(group.0, &entries)?;
        engine.write(&mut batch, true)?;
        if first > KEPT && (first - 1).is_multiple_of(KEPT) {
            engine.compact_to(group.0, first - KEPT);
            engine.purge_expired_files()?;
        }
        Ok(())
    }))
}

/// Durable entries per second of so many groups, each with one append under way.
fn rate(open: Open, groups: u64, span: Duration) -> anyhow::Result<f64> {
    let dir = tempfile::Builder::new().prefix("dinhba-bench-").tempdir()?;
    let append = open(dir.path())?;
    let mut payload = vec![0; ENTRY_BYTES];
    rand::rng().fill_bytes(&mut payload);
    let (append, payload, began) = (&append, &payload, Instant::now());
    let counted: anyhow::Result<Vec<u64>> = thread::scope(|scope| {
        let group = |group| {
            scope.spawn(move || {
                let mut next = 1;
                while began.elapsed() < span {
                    append(GroupId(group), next, vec![payload.clone(); ENTRIES as usize])?;
                    next += ENTRIES;
                }
                anyhow::Ok(next - 1)
            })
        };
        let threads: Vec<_> = (1..=groups).map(group).collect();
        threads.into_iter().map(|thread| thread.join().ok().context("a thread panicked")?).collect()
    });
    Ok(counted?.into_iter().sum::<u64>() as f64 / began.elapsed().as_secs_f64())
}

/// Both logs in turns.
pub fn logs(options: &Options) -> anyhow::Result<Vec<Figure>> {
    eprintln!("log");
    let mut figures = Vec::new();
    for (groups, name, peer, ratio) in [
        (1, "log: one group, appends of 16 KB", "the same, raft-engine", "the same, of raft-engine's rate"),
        (4, "log: four groups at once", "four groups, raft-engine", "four groups, of raft-engine's rate"),
    ] {
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for _ in 0..options.rounds {
            own.push(rate(ours, groups, options.span())?);
            #[cfg(feature = "raft-engine")]
            others.push(rate(theirs, groups, options.span())?);
        }
        let own = median(own);
        figures.push(Figure::new(name, own, "entries/s", ""));
        if !others.is_empty() {
            let others = median(std::mem::take(&mut others));
            figures.push(Figure::new(peer, others, "entries/s", ""));
            figures.push(Figure::new(ratio, own / others, "", ""));
        }
    }
    Ok(figures)
}
