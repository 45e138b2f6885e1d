//! Breaks sites of each engine in every way, as often as wished, and says what became of what was acknowledged.
//!
//! ```sh
//! cargo run --release -p dinhba-tests --bin crash                              # everything, each engine: more than an hour
//! cargo run --release -p dinhba-tests --bin crash -- kills power --engine sled --times 50 --seed 7
//! ```
//!
//! All but `kills` need to mount a file system in user space: `/dev/fuse`, and root or `fusermount3`. Ends with 0 if every
//! promise was kept, with 1 if not or if nothing can be mounted.

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use dinhba_node::config::Engine;
use dinhba_tests::crash::{CUTS, Disaster, Plan, run, table};
use dinhba_tests::disk::{Cut, Disk};

/// Rounds of `kills` without `--times`, and of each of the others.
const KILLS: usize = 200;
const OTHERS: usize = 50;

/// Breaks sites, and compares what is left with what was acknowledged.
#[derive(Parser)]
struct Options {
    /// What breaks; everything if nothing is named.
    #[arg(value_enum)]
    disasters: Vec<Disaster>,
    /// Only this state engine: fjall, lsm or sled.
    #[arg(long, value_parser = engine)]
    engine: Option<Engine>,
    /// How often each.
    #[arg(long)]
    times: Option<usize>,
    /// What chooses moments, nodes and kinds.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What becomes of unflushed writes when power is cut. Without it: all kinds.
    #[arg(long, value_enum)]
    cut: Option<Cut>,
    /// Sites at once.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

fn engine(name: &str) -> Result<Engine, String> {
    let found = Engine::from_name(name).filter(|engine| *engine != Engine::Memory);
    found.ok_or_else(|| format!("{name:?} is none of fjall, lsm and sled"))
}

fn main() -> ExitCode {
    // The nodes of the sites are this very program.
    if std::env::args().nth(1).as_deref() == Some("node") {
        return dinhba_node::command_line::main();
    }
    match crash(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("crash: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn crash(options: &Options) -> anyhow::Result<bool> {
    let disasters = if options.disasters.is_empty() { Disaster::value_variants() } else { &options.disasters[..] };
    if disasters.iter().any(|disaster| *disaster != Disaster::Kills) {
        let dir = tempfile::tempdir()?;
        Disk::mount(&dir.path().join("disk"), &dir.path().join("flushed"), 0).map_err(|error| {
            anyhow::anyhow!("a file system in user space cannot be mounted here ({error}): see that /dev/fuse is there, and be root or install fusermount3; kills alone need none")
        })?;
    }
    let program = std::env::current_exe()?;
    let program = program.to_str().ok_or_else(|| anyhow::anyhow!("the program lies at a path that is no text"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let engines = options.engine.map_or_else(|| vec![Engine::Fjall, Engine::Lsm, Engine::Sled], |engine| vec![engine]);
    let mut outcomes = Vec::new();
    for engine in engines {
        for disaster in disasters {
            let rounds = options.times.unwrap_or(if *disaster == Disaster::Kills { KILLS } else { OTHERS });
            let cuts = options.cut.map_or_else(|| CUTS.to_vec(), |cut| vec![cut]);
            let plan = Plan {
                engine,
                disaster: *disaster,
                rounds,
                seed: options.seed,
                cuts,
                jobs: options.jobs,
                lying: false,
            };
            let outcome = runtime.block_on(run(program, &plan));
            for wrong in &outcome.wrong {
                eprintln!("WRONG {} {disaster}: {wrong}", engine.name());
            }
            outcomes.push((plan, outcome));
        }
    }
    println!("{}", table(&outcomes));
    let is_good = outcomes.iter().all(|(plan, outcome)| outcome.is_good() && outcome.rounds == plan.rounds);
    println!("{}", if is_good { "every promise was kept" } else { "PROMISES WERE BROKEN: see the lines with WRONG" });
    Ok(is_good)
}
