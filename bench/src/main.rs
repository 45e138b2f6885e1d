//! Measures dinhba: a site of three processes beside an etcd of three, in turns on the same disk, and parts of it alone.
//!
//! ```sh
//! cargo run --release -p dinhba-bench                       # everything, some minutes
//! cargo run --release -p dinhba-bench -- edits reads        # some parts
//! cargo run --release -p dinhba-bench -- --json
//! ```
//!
//! etcd is used if it is installed (Debian: `etcd-server`), raft-engine if it is built in (`--features raft-engine`). A shared machine is noisy: what counts are the ratios, which come
//! from medians over rounds in turns. Run it by `-p dinhba-bench`: with the whole workspace, the tests' faults are built in, and it refuses.

mod alone;
mod dictionary;
mod echo;
mod etcd;
mod large;
mod load;
mod log;
mod meter;
mod nodes;
mod population;
mod site;
mod table;
mod works;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use dinhba_core::inject::IS_BUILT_IN;
use dinhba_node::config::Engine;
use mimalloc::MiMalloc;
use serde::Serialize;

use crate::works::Outcome;

/// As in `dinhba`.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Edits of 1 KB, one call each, by many callers.
    Edits,
    /// Edits of 1 KB over streams.
    Streamed,
    /// Edits of 1 KB by one caller.
    One,
    /// Linearizable reads by many callers, each in the access log.
    Reads,
    /// Linearizable reads while 64 callers write.
    Mixed,
    /// Calls that do nothing: what no site can be faster than.
    Calls,
    /// `apply` without Raft: in memory, on the engine, and the engine alone with the same bytes.
    Apply,
    /// Merging of states of a record, and of a neighbour's stream.
    Merge,
    /// The log of a node, beside raft-engine if that is built in.
    Log,
    /// Bytes of a record at rest.
    Rest,
    /// Import into one node, kill -9, start; memory.
    Start,
    /// 63 idle groups.
    Idle,
    /// A record of 10,000 edits, and a site of 10,035 shards.
    Large,
    /// Twice the load that a site of three can serve.
    Overload,
    /// Memory under a steady load, for `--minutes`. Only if it is named.
    Memory,
    /// Trains the dictionary of the state's values, into the file `--out`. Only if it is named.
    Dictionary,
}

/// Measures dinhba, beside etcd where it is installed.
#[derive(Parser)]
struct Options {
    /// What to measure; everything if nothing is named.
    parts: Vec<Part>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Rounds of each work, in turns with etcd; medians are printed.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each round, after one second of running in.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Callers of the works with many callers.
    #[arg(long, default_value_t = 64)]
    callers: usize,
    /// Records of the parts without a peer.
    #[arg(long, default_value_t = 100_000)]
    records: usize,
    /// For how long memory is looked at.
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// Where the dictionary goes.
    #[arg(long, default_value = "node/src/values.dict")]
    out: PathBuf,
    /// Mutual TLS at dinhba, as in production. Without it neither side has TLS.
    #[arg(long)]
    tls: bool,
    /// The state engine: lsm, fjall, sled, or memory to see what the engine costs.
    #[arg(long, value_parser = engine, default_value = "lsm")]
    engine: Engine,
    /// Leave etcd out.
    #[arg(long)]
    no_etcd: bool,
}

fn engine(name: &str) -> Result<Engine, String> {
    Engine::from_name(name).ok_or_else(|| format!("{name:?} is no engine: fjall, lsm, sled or memory"))
}

impl Options {
    fn wants(&self, part: Part) -> bool {
        self.parts.contains(&part) || self.parts.is_empty() && !matches!(part, Part::Memory | Part::Dictionary)
    }

    fn span(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// Everything that was measured.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// Beside etcd.
    works: Vec<Outcome>,
    /// Alone: name, value, unit.
    alone: Vec<alone::Figure>,
}

fn main() -> ExitCode {
    // The nodes of the sites are this very program.
    if std::env::args().nth(1).as_deref() == Some("node") {
        return dinhba_node::command_line::main();
    }
    if std::env::args().nth(1).as_deref() == Some("echo") {
        return echo::serve();
    }
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let measured = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(measure(&options)));
    match measured {
        Ok(report) if options.json => match serde_json::to_string_pretty(&report) {
            Ok(text) => println!("{text}"),
            Err(error) => eprintln!("{error}"),
        },
        Ok(report) => println!("{}", table::human(&report)),
        Err(error) => {
            eprintln!("bench: {error:#}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

async fn measure(options: &Options) -> anyhow::Result<Report> {
    anyhow::ensure!(
        !IS_BUILT_IN,
        "this was built together with the tests' faults, which cost time: build it alone, with `-p dinhba-bench`"
    );
    let mut report = Report { works: works::run(options).await?, ..Report::default() };
    for (part, measure) in alone::PARTS {
        if options.wants(*part) {
            report.alone.extend(measure(options)?);
        }
    }
    if options.wants(Part::Calls) {
        report.alone.extend(echo::bound(options).await?);
    }
    if options.wants(Part::Log) {
        report.alone.extend(log::logs(options)?);
    }
    if options.wants(Part::Start) {
        report.alone.extend(nodes::start(options).await?);
    }
    if options.wants(Part::Idle) {
        report.alone.extend(nodes::idle(options).await?);
    }
    if options.wants(Part::Large) {
        report.alone.extend(large::record(options).await?);
        report.alone.extend(large::site(options).await?);
    }
    if options.wants(Part::Overload) {
        report.alone.extend(load::overload(options).await?);
    }
    if options.wants(Part::Memory) {
        report.alone.extend(load::memory(options).await?);
    }
    if options.wants(Part::Dictionary) {
        report.alone.extend(dictionary::train(&options.out)?);
    }
    Ok(report)
}
