//! What becomes of a site under load: twice what it can serve, and an hour of what it can.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use dinhba_client::{Error, Limits};
use futures::future::try_join_all;
use tokio::task::JoinSet;

use crate::Options;
use crate::alone::Figure;
use crate::meter::{Latencies, Usage, repeat};
use crate::site::{Caller, Site};

/// Calls per second beyond what the site can serve, as a multiple of that.
const OVERLOAD: f64 = 2.0;

/// How long the overload lasts, in rounds: long enough for every queue to fill.
const OVERLOAD_ROUNDS: u32 = 4;

/// What a caller under overload waits for an answer, attempts again included.
const PATIENCE: Duration = Duration::from_secs(10);

/// New calls are begun so often.
const BEAT: Duration = Duration::from_millis(5);

/// Writes and reads per second of the long load: a million of records in an hour.
const STEADY_WRITES: u64 = 300;
const STEADY_READS: u64 = 100;

/// Between two looks at the memory.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What became of the calls.
#[derive(Default)]
struct Outcomes {
    accepted: Latencies,
    /// Surely not accepted, and said so.
    refused: Latencies,
    unknown: Latencies,
}

impl Outcomes {
    fn add(&mut self, outcome: &Result<(), Error>, took: Duration) {
        match outcome {
            Ok(()) => self.accepted.add(took),
            Err(Error::OutcomeUnknown { .. }) => self.unknown.add(took),
            Err(_) => self.refused.add(took),
        }
    }

    fn of(all: Vec<(Result<(), Error>, Duration)>) -> Self {
        let mut outcomes = Outcomes::default();
        all.iter().for_each(|(outcome, took)| outcomes.add(outcome, *took));
        outcomes
    }
}

/// Begins calls at a rate, whether or not earlier ones are answered, and waits for all answers.
async fn begin_at<C: Clone + Send + 'static, Call>(
    rate: f64,
    span: Duration,
    callers: &[C],
    call: impl Fn(C) -> Call + Clone + Send + 'static,
) -> anyhow::Result<Vec<(Call::Output, Duration)>>
where
    Call: Future + Send + 'static,
    Call::Output: Send,
{
    let (mut tasks, mut begun, began) = (JoinSet::new(), 0_usize, Instant::now());
    let mut beat = tokio::time::interval(BEAT);
    while began.elapsed() < span {
        beat.tick().await;
        let due = (began.elapsed().min(span).as_secs_f64() * rate) as usize;
        while begun < due {
            let (caller, call) = (callers[begun % callers.len()].clone(), call.clone());
            tasks.spawn(async move {
                let at = Instant::now();
                (call(caller).await, at.elapsed())
            });
            begun += 1;
        }
    }
    let mut all = Vec::with_capacity(begun);
    while let Some(done) = tasks.join_next().await {
        all.push(done.context("a caller")?);
    }
    Ok(all)
}

/// Finds out what a site of three serves, then asks twice as much of it.
pub async fn overload(options: &Options) -> anyhow::Result<Vec<Figure>> {
    eprintln!("overload");
    let mut site = Site::start(3, options).await?;
    let callers = site.connections();
    let began = Instant::now();
    let end = began + options.span();
    let tasks = (0..options.callers).map(|number| {
        let caller = callers[number % callers.len()].another();
        tokio::spawn(async move { repeat(began, end, || caller.register()).await })
    });
    let mut served = Latencies::default();
    for done in try_join_all(tasks).await? {
        served.extend(done?);
    }
    let capacity = served.count() as f64 / began.elapsed().as_secs_f64();

    let limits = Limits { attempt: PATIENCE, deadline: PATIENCE, ..Limits::default() };
    let patient: Vec<Caller> = callers.iter().map(|caller| caller.with_limits(limits)).collect();
    let span = options.span() * OVERLOAD_ROUNDS;
    let began = Instant::now();
    let calls = begin_at(capacity * OVERLOAD, span, &patient, |caller| async move { caller.try_register().await });
    let mut outcomes = Outcomes::of(calls.await?);
    let took = began.elapsed();
    let resident = Usage::of(&site.processes())?.resident;
    let after = Instant::now();
    callers[0].register().await?;
    let ms = |took: Duration| took.as_secs_f64() * 1e3;
    Ok(vec![
        Figure::new("overload: served to 64 callers before", capacity, "edits/s", ""),
        Figure::new(
            "overload: twice as many begun; accepted",
            outcomes.accepted.count() as f64 / took.as_secs_f64(),
            "edits/s",
            "",
        ),
        Figure::new("overload: p50 of the accepted", ms(outcomes.accepted.quantile(0.5)), "ms", ""),
        Figure::new("overload: p99 of the accepted", ms(outcomes.accepted.quantile(0.99)), "ms", "bounded"),
        Figure::new("overload: slowest of the accepted", ms(outcomes.accepted.quantile(1.0)), "ms", "bounded"),
        Figure::new("overload: refused, nothing was accepted", outcomes.refused.count() as f64, "calls", ""),
        Figure::new("overload: outcome unknown", outcomes.unknown.count() as f64, "calls", "0"),
        Figure::new("overload: one call right after it", ms(after.elapsed()), "ms", ""),
        Figure::new("overload: memory of all three nodes", mib(resident), "MiB", ""),
    ])
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Writes and reads at a steady rate for `--minutes`, and looks at the memory of the nodes meanwhile.
pub async fn memory(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let minutes = Duration::from_secs(options.minutes * 60);
    eprintln!("memory: {} minutes, {STEADY_WRITES} edits and {STEADY_READS} reads a second", options.minutes);
    let mut site = Site::start(3, options).await?;
    let callers = site.connections();
    let processes = site.processes();
    let records = Arc::new(site.caller().load(10_000).await?);
    let writes =
        begin_counted(STEADY_WRITES, minutes, callers.clone(), |caller| async move { caller.register().await });
    let reads = begin_counted(STEADY_READS, minutes, callers, move |caller| {
        let records = Arc::clone(&records);
        async move { caller.read(&records).await }
    });
    let looks = tokio::spawn(looks(processes, minutes));
    let (written, _) = tokio::try_join!(writes, reads)?;
    let looks = looks.await??;
    let largest = |at: &[u64]| mib(at.iter().copied().max().unwrap_or_default());
    let quarter = looks.len() / 4;
    let most = |looks: &[Vec<u64>]| looks.iter().map(|look| largest(look)).fold(0.0, f64::max);
    Ok(vec![
        Figure::new("steady load: minutes", options.minutes as f64, "", ""),
        Figure::new("steady load: records in the end", (written + 10_000) as f64, "of 1 KB", ""),
        Figure::new("steady load: largest node, first quarter", most(&looks[..quarter.max(1)]), "MiB", ""),
        Figure::new(
            "steady load: largest node, second quarter",
            most(&looks[quarter..(2 * quarter).max(1)]),
            "MiB",
            "",
        ),
        Figure::new(
            "steady load: largest node, third quarter",
            most(&looks[2 * quarter..(3 * quarter).max(1)]),
            "MiB",
            "",
        ),
        Figure::new("steady load: largest node, last quarter", most(&looks[3 * quarter..]), "MiB", "400, and flat"),
    ])
}

/// Calls at a steady rate, from a task for each caller; how many there were. The first failure ends it.
async fn begin_counted<Call>(
    rate: u64,
    span: Duration,
    callers: Vec<Caller>,
    call: impl Fn(Caller) -> Call + Clone + Send + 'static,
) -> anyhow::Result<usize>
where
    Call: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let (began, count) = (Instant::now(), callers.len() as u32);
    let pause = Duration::from_secs(1) * count / u32::try_from(rate).context("rate")?;
    let tasks = callers.into_iter().map(|caller| {
        let (caller, call) = (caller.another(), call.clone());
        tokio::spawn(async move {
            let mut beat = tokio::time::interval(pause);
            let mut done = 0;
            while began.elapsed() < span {
                beat.tick().await;
                call(caller.clone()).await?;
                done += 1;
            }
            anyhow::Ok(done)
        })
    });
    try_join_all(tasks).await?.into_iter().sum()
}

/// The memory of each process, from time to time.
async fn looks(processes: Vec<u32>, span: Duration) -> anyhow::Result<Vec<Vec<u64>>> {
    let (mut looks, began) = (Vec::new(), Instant::now());
    let every = LOOK_EVERY.min(span / 8);
    while began.elapsed() + every <= span {
        tokio::time::sleep(every).await;
        let look: anyhow::Result<Vec<u64>> = processes.iter().map(|id| Ok(Usage::of(&[*id])?.resident)).collect();
        let look = look?;
        let text: Vec<String> = look.iter().map(|bytes| format!("{:.0}", mib(*bytes))).collect();
        eprintln!("{:>5} s  {} MiB", began.elapsed().as_secs(), text.join(" "));
        looks.push(look);
    }
    Ok(looks)
}
