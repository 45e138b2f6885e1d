//! The works beside etcd, in turns.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use dinhba_core::ids::RecordId;
use futures::future::try_join_all;
use serde::Serialize;

use crate::etcd::{self, CONNECTIONS, Etcd};
use crate::meter::{Latencies, Usage, median, repeat};
use crate::population::VALUE_BYTES;
use crate::site::{self, Site};
use crate::{Options, Part};

/// Runs before the figures count: connections are open, caches warm.
const RUN_IN: Duration = Duration::from_secs(1);

/// Callers of etcd where edits are streamed to us: with more it is no faster.
const STREAM_PEER_CALLERS: usize = 256;

/// Streams of edits, each with 128 edits under way.
const STREAMS: usize = 4;

/// Records that are there to be read.
const READ_RECORDS: usize = 10_000;

/// Readers beside the writers.
const MIXED_READERS: usize = 8;

/// What one side did in one work: medians over its rounds.
#[derive(Debug, Clone, Serialize)]
pub struct Side {
    /// Operations per second.
    pub rate: f64,
    /// Milliseconds; none for a stream, whose edits do not wait for each other.
    pub p50_ms: Option<f64>,
    /// Milliseconds; as above.
    pub p99_ms: Option<f64>,
    /// CPU time of all server processes per operation, in microseconds.
    pub cpu_us: f64,
    /// Bytes written by each server per byte of values; none where nothing is.
    pub written: Option<f64>,
}

/// A work, done by both.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Its name.
    pub work: &'static str,
    /// dinhba.
    pub dinhba: Side,
    /// etcd, if it was there.
    pub etcd: Option<Side>,
    /// What to reach.
    pub target: &'static str,
}

/// A work and what to reach.
type Work = (&'static str, &'static str);

/// The works of each part, with their callers on either side; those of one part run at once.
const WORKS: [(Part, &[Work]); 5] = [
    (Part::Edits, &[("edits of 1 KB", "3 x rate, 1/3 CPU")]),
    (Part::Streamed, &[("edits of 1 KB, streamed", "10 x rate of etcd at 256 callers")]),
    (Part::One, &[("edits of 1 KB, one caller", "0.7 x p50")]),
    (Part::Reads, &[("linearizable reads", "2 x rate")]),
    (Part::Mixed, &[("reads beside a full write load", "0.5 x p99"), ("the writes of that load", "")]),
];

/// The calls of one work in one round.
struct Round {
    latencies: Latencies,
    usage: Usage,
    span: Duration,
    writes: bool,
    is_stream: bool,
}

impl Round {
    fn side(mut self) -> Side {
        let (count, servers) = (self.latencies.count().max(1) as f64, 3.0);
        let mut ms = |share| {
            let took = self.latencies.quantile(share);
            (!self.is_stream).then_some(took.as_secs_f64() * 1e3)
        };
        let (p50_ms, p99_ms) = (ms(0.5), ms(0.99));
        Side {
            rate: count / self.span.as_secs_f64(),
            p50_ms,
            p99_ms,
            cpu_us: self.usage.cpu.as_secs_f64() * 1e6 / count,
            written: self.writes.then(|| self.usage.written as f64 / servers / (count * VALUE_BYTES as f64)),
        }
    }
}

/// The works of a part, by their calls and what the servers used for all of them.
fn rounds(part: Part, calls: Vec<Latencies>, usage: Usage, is_stream: bool, options: &Options) -> Vec<Round> {
    let writes = matches!(part, Part::Edits | Part::One | Part::Streamed);
    let round = |latencies| Round { latencies, usage, span: options.span(), writes, is_stream };
    calls.into_iter().map(round).collect()
}

fn medians(rounds: &[Side]) -> Side {
    let of = |get: fn(&Side) -> f64| median(rounds.iter().map(get).collect());
    let optional = |get: fn(&Side) -> Option<f64>| rounds.iter().map(get).collect::<Option<Vec<f64>>>().map(median);
    Side {
        rate: of(|side| side.rate),
        p50_ms: optional(|side| side.p50_ms),
        p99_ms: optional(|side| side.p99_ms),
        cpu_us: of(|side| side.cpu_us),
        written: optional(|side| side.written),
    }
}

/// Drives both sides through the wanted works.
pub async fn run(options: &Options) -> anyhow::Result<Vec<Outcome>> {
    let wanted: Vec<_> = WORKS.into_iter().filter(|(part, _)| options.wants(*part)).collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut ours = Ours::start(options).await?;
    let theirs =
        if !options.no_etcd && etcd::is_installed() { Some(Theirs::start(&mut ours.site).await?) } else { None };
    if theirs.is_none() && !options.no_etcd {
        eprintln!("etcd is not installed (Debian: etcd-server): no ratios");
    }
    if wanted.iter().any(|(part, _)| matches!(part, Part::Reads | Part::Mixed)) {
        ours.records = Arc::new(ours.site.caller().load(READ_RECORDS).await?);
        if let Some(theirs) = &theirs {
            theirs.load(READ_RECORDS).await?;
        }
    }
    let mut outcomes = Vec::new();
    for (part, works) in wanted {
        let (mut dinhba, mut etcd) = (vec![Vec::new(); works.len()], vec![Vec::new(); works.len()]);
        for round in 1..=options.rounds {
            eprintln!("{}: round {round}", works[0].0);
            let sides = ours.round(part, options).await.context("dinhba")?;
            dinhba.iter_mut().zip(sides).for_each(|(sides, round)| sides.push(round.side()));
            if let Some(theirs) = &theirs {
                let sides = theirs.round(part, options).await.context("etcd")?;
                etcd.iter_mut().zip(sides).for_each(|(sides, round)| sides.push(round.side()));
            }
        }
        for ((work, target), (dinhba, etcd)) in works.iter().zip(dinhba.iter().zip(&etcd)) {
            let etcd = (!etcd.is_empty()).then(|| medians(etcd));
            outcomes.push(Outcome { work, dinhba: medians(dinhba), etcd, target });
        }
    }
    Ok(outcomes)
}

/// A stretch of time in which calls count.
#[derive(Clone, Copy)]
struct Window {
    begin: Instant,
    end: Instant,
}

impl Window {
    fn next(options: &Options) -> Self {
        let begin = Instant::now() + RUN_IN;
        Window { begin, end: begin + options.span() }
    }

    /// What the processes use while it lasts.
    async fn usage(self, processes: Vec<u32>) -> anyhow::Result<Usage> {
        tokio::time::sleep_until(self.begin.into()).await;
        let before = Usage::of(&processes)?;
        tokio::time::sleep_until(self.end.into()).await;
        Ok(Usage::of(&processes)?.since(before))
    }
}

/// So many callers over the connections, each in a task of its own, repeat a call.
async fn callers<C, Call>(
    window: Window,
    count: usize,
    connections: &[C],
    another: impl Fn(&C) -> C,
    call: impl Fn(C) -> Call + Clone + Send + Sync + 'static,
) -> anyhow::Result<Latencies>
where
    C: Clone + Send + Sync + 'static,
    Call: Future<Output = anyhow::Result<()>> + Send,
{
    let tasks = (0..count).map(|number| {
        let (caller, call) = (another(&connections[number % connections.len()]), call.clone());
        tokio::spawn(async move { repeat(window.begin, window.end, || call(caller.clone())).await })
    });
    let mut all = Latencies::default();
    for done in try_join_all(tasks).await? {
        all.extend(done?);
    }
    Ok(all)
}

struct Ours {
    site: Site,
    records: Arc<Vec<RecordId>>,
}

impl Ours {
    async fn start(options: &Options) -> anyhow::Result<Self> {
        Ok(Ours { site: Site::start(3, options).await?, records: Arc::default() })
    }

    async fn round(&mut self, part: Part, options: &Options) -> anyhow::Result<Vec<Round>> {
        let (connections, processes) = (self.site.connections(), self.site.processes());
        let records = Arc::clone(&self.records);
        let window = Window::next(options);
        let measuring = tokio::spawn(window.usage(processes));
        let write = |count| {
            callers(window, count, &connections, site::Caller::another, |caller| async move { caller.register().await })
        };
        let read = |count| {
            let records = Arc::clone(&records);
            callers(window, count, &connections, site::Caller::another, move |caller: site::Caller| {
                let records = Arc::clone(&records);
                async move { caller.read(&records).await }
            })
        };
        let calls = match part {
            Part::Edits => vec![write(options.callers).await?],
            Part::One => vec![write(1).await?],
            Part::Reads => vec![read(options.callers).await?],
            Part::Streamed => vec![streams(window, &connections).await?],
            _ => {
                let (reads, writes) = tokio::try_join!(read(MIXED_READERS), write(options.callers))?;
                vec![reads, writes]
            }
        };
        Ok(rounds(part, calls, measuring.await??, part == Part::Streamed, options))
    }
}

/// Edits over streams, of which only the answers are counted: edits under way do not wait for each other.
async fn streams(window: Window, connections: &[site::Caller]) -> anyhow::Result<Latencies> {
    let tasks = connections.iter().take(STREAMS).map(|caller| {
        let caller = caller.another();
        tokio::spawn(async move {
            let (mut latencies, mut last) = (Latencies::default(), Instant::now());
            caller
                .register_many(|_| {
                    let now = Instant::now();
                    if now >= window.begin && now < window.end {
                        latencies.add(now - last);
                    }
                    last = now;
                    now < window.end
                })
                .await?;
            anyhow::Ok(latencies)
        })
    });
    let mut all = Latencies::default();
    for done in try_join_all(tasks).await? {
        all.extend(done?);
    }
    Ok(all)
}

struct Theirs {
    etcd: Etcd,
    connections: Vec<etcd::Caller>,
}

impl Theirs {
    /// On ports of the country's lease.
    async fn start(site: &mut Site) -> anyhow::Result<Self> {
        let ports: Vec<(u16, u16)> = (0..3).map(|_| (site.country.port(), site.country.port())).collect();
        let etcd = Etcd::start(&ports).await?;
        let connections = etcd.connections();
        Ok(Theirs { etcd, connections })
    }

    async fn load(&self, count: usize) -> anyhow::Result<()> {
        let each = count.div_ceil(CONNECTIONS * 32);
        let loads = (0..CONNECTIONS * 32).map(|number| {
            let caller = self.connections[number % CONNECTIONS].clone();
            async move {
                for _ in 0..each {
                    caller.put().await?;
                }
                anyhow::Ok(())
            }
        });
        try_join_all(loads).await?;
        Ok(())
    }

    async fn round(&self, part: Part, options: &Options) -> anyhow::Result<Vec<Round>> {
        let window = Window::next(options);
        let measuring = tokio::spawn(window.usage(self.etcd.processes()));
        let write =
            |count| {
                callers(window, count, &self.connections, Clone::clone, |caller: etcd::Caller| async move {
                    caller.put().await
                })
            };
        let read = |count| {
            callers(window, count, &self.connections, Clone::clone, |caller: etcd::Caller| async move {
                caller.read(READ_RECORDS).await
            })
        };
        let calls = match part {
            Part::Edits => vec![write(options.callers).await?],
            Part::One => vec![write(1).await?],
            Part::Reads => vec![read(options.callers).await?],
            Part::Streamed => vec![write(STREAM_PEER_CALLERS).await?],
            _ => {
                let (reads, writes) = tokio::try_join!(read(MIXED_READERS), write(options.callers))?;
                vec![reads, writes]
            }
        };
        Ok(rounds(part, calls, measuring.await??, false, options))
    }
}
