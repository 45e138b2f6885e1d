//! What a node costs over its life: filled, killed, started; and when nothing happens.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dinhba_tests::country::Wish;
use futures::future::try_join_all;

use crate::Options;
use crate::alone::Figure;
use crate::meter::Usage;
use crate::site::{COMMUNE, Site};

/// Streams that fill a node.
const STREAMS: usize = 4;

/// Groups of the idle node: a province's districts and some more.
const IDLE_GROUPS: usize = 63;

/// How long nothing happens.
const IDLE_SPAN: Duration = Duration::from_secs(10);

/// What a start may take before it is called a failure.
const START_WAIT: Duration = Duration::from_secs(120);

/// Fills a site of one node, kills it, and starts it again.
pub async fn start(options: &Options) -> anyhow::Result<Vec<Figure>> {
    eprintln!("start: {} records", options.records);
    let mut site = Site::start(1, options).await?;
    let node = site.nodes[0].clone();
    let before = Usage::of(&site.processes())?;
    let began = Instant::now();
    let each = options.records.div_ceil(STREAMS);
    let loads = (0..STREAMS).map(|_| {
        let caller = site.caller();
        tokio::spawn(async move { caller.load(each).await })
    });
    let mut records = Vec::new();
    for loaded in try_join_all(loads).await? {
        records.extend(loaded?);
    }
    let took = began.elapsed();
    let filled = Usage::of(&site.processes())?;
    site.country.kill(node.id);
    let began = Instant::now();
    site.country.start_node(&node);
    let caller = site.caller();
    while caller.read(&records).await.is_err() {
        ensure!(began.elapsed() < START_WAIT, "the node does not answer {START_WAIT:?} after its start");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let ready = began.elapsed();
    let after = Usage::of(&site.processes())?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let used = filled.since(before);
    let count = records.len() as f64;
    Ok(vec![
        Figure::new("one node: records imported", count, "records of 1 KB", ""),
        Figure::new("one node: import", count / took.as_secs_f64(), "records/s", ""),
        Figure::new("one node: CPU of an imported record", used.cpu.as_secs_f64() * 1e6 / count, "µs", ""),
        Figure::new("one node: written, of a record", used.written as f64 / count, "B", ""),
        Figure::new("one node: memory after the import", mib(filled.resident), "MiB", "400 at 1 million"),
        Figure::new("one node: first answer after kill -9", ready.as_secs_f64(), "s", "2 at 1 million"),
        Figure::new("one node: memory after the start", mib(after.resident), "MiB", ""),
    ])
}

/// Lets a node with many groups alone.
pub async fn idle(options: &Options) -> anyhow::Result<Vec<Figure>> {
    eprintln!("idle: {IDLE_GROUPS} groups");
    let mut figures = Vec::new();
    for (nodes, name) in [(1, "63 idle groups, one node"), (3, "63 idle groups, each of three nodes")] {
        let mut groups = vec![vec![COMMUNE]];
        groups.resize(IDLE_GROUPS, Vec::new());
        let mut site = Site::start_as(Wish { code: COMMUNE, nodes, parent: None, groups }, options).await?;
        let processes = site.processes();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let before = Usage::of(&processes)?;
        tokio::time::sleep(IDLE_SPAN).await;
        let used = Usage::of(&processes)?.since(before);
        let share =
            used.cpu.as_secs_f64() / IDLE_SPAN.as_secs_f64() / f64::from(u32::try_from(nodes).context("nodes")?);
        figures.push(Figure::new(name, share * 100.0, "% of a core", "2"));
    }
    Ok(figures)
}
