//! The simulator's command line.
//!
//! Exit codes: 0 if every promise was kept (runs were equal, mutants were caught, where that was asked), 1 if not, 2 if the
//! command or a file cannot be understood.

use std::io::{IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use dinhba_node::runtime;
use dinhba_sim::coverage::Coverage;
use dinhba_sim::mutants::{self, Mutant, Verdict};
use dinhba_sim::run::{self, Outcome};
use dinhba_sim::scenario::Scenario;
use dinhba_sim::swarm::{self, Plan, Tally};
use dinhba_sim::{births, golden, report, tables, twice};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

/// A run makes millions of small allocations on one thread.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Without a terminal, progress is told so often.
const PROGRESS_EVERY: Duration = Duration::from_secs(30);
/// And on one.
const PROGRESS_EVERY_ON_TERMINAL: Duration = Duration::from_secs(1);

/// The deterministic simulator of dinhba: the real node's code in virtual time, any disaster, one seed.
#[derive(Parser)]
#[command(name = "dinhba-sim", version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 every promise was kept; 1 one was broken, a mutant got away, or runs that must be \
                          equal were not; 2 the command or a file cannot be understood.";

#[derive(Subcommand)]
enum Command {
    /// Run one random country under random disasters.
    Run {
        /// Decides everything; the same seed is the same run, everywhere.
        #[arg(long)]
        seed: u64,
        #[command(flatten)]
        shows: Shows,
        /// Write the run as a scenario file, to read or to change it, and do not run it.
        #[arg(long, value_name = "FILE.toml")]
        write: Option<PathBuf>,
    },
    /// Run an operator's story.
    Scenario {
        /// The file; or the name of one that comes with the simulator.
        file: PathBuf,
        #[command(flatten)]
        shows: Shows,
    },
    /// Run a province that registers births while its lines and machines fail: no number twice, none lost from the ledger.
    Births {
        /// Of how many communes.
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=births::COMMUNES_MAX as i64))]
        communes: u16,
        /// How many births in all of them.
        #[arg(long, default_value_t = 100_000)]
        births: u32,
        /// Decides everything.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[command(flatten)]
        shows: Shows,
    },
    /// Run random countries on all cores until one breaks a promise; that one is made small.
    Swarm(SwarmArguments),
    /// Run the node's code with each of its deliberate faults, until a check catches it.
    Mutants {
        /// Only this one.
        #[arg(long, value_parser = mutant)]
        name: Option<&'static Mutant>,
        /// Each meets at most so many seeds.
        #[arg(long, default_value_t = mutants::SEEDS_MAX)]
        seeds: u64,
        /// Mutants at once; without it, as many as there are cores.
        #[arg(long)]
        threads: Option<usize>,
    },
    /// Run the fixed list whose hashes are committed, and print name and hash of each.
    Golden {
        /// Write them into the committed file instead of comparing.
        #[arg(long)]
        write: bool,
    },
}

#[derive(Args)]
struct Shows {
    /// Write a page on which a person sees what happened.
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Run twice and show the first difference.
    #[arg(long)]
    check_determinism: bool,
    /// Print everything that happened.
    #[arg(long)]
    trace: bool,
    /// Print which rare branches of the node's code it came to.
    #[arg(long)]
    reached: bool,
    /// Print on stderr what the nodes log, at the run's time: a level, or levels by target (`info,dinhba_node::link=debug`).
    #[arg(long, value_name = "LEVELS")]
    log: Option<EnvFilter>,
    /// With this deliberate fault in the node's code.
    #[arg(long, value_parser = mutant)]
    mutant: Option<&'static Mutant>,
}

#[derive(Args)]
struct SwarmArguments {
    /// For how long runs begin.
    #[arg(long, required_unless_present = "runs")]
    minutes: Option<u64>,
    /// How many runs at most.
    #[arg(long)]
    runs: Option<u64>,
    /// The first seed; the next ones count up. Without it each seed is fresh.
    #[arg(long)]
    seed: Option<u64>,
    /// Runs at once; without it, as many as there are cores.
    #[arg(long)]
    threads: Option<usize>,
    /// Go on after a failure, and list all.
    #[arg(long)]
    keep_going: bool,
    /// Fail too if a branch of the committed list was never reached.
    #[arg(long)]
    must_cover: bool,
    /// With this deliberate fault in the node's code: shows what becomes of a failure.
    #[arg(long, value_parser = mutant)]
    mutant: Option<&'static Mutant>,
    /// How many runs may be spent on making the first failure small; 0 to leave it.
    #[arg(long, default_value_t = 400)]
    shrink_runs: usize,
    /// And how many minutes.
    #[arg(long, default_value_t = 10)]
    shrink_minutes: u64,
    /// Where the small scenario is written.
    #[arg(long, value_name = "DIRECTORY", default_value = ".")]
    out: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match obey(arguments.command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether all is well.
fn obey(command: Command) -> anyhow::Result<bool> {
    match command {
        Command::Run { seed, shows, write: Some(file) } => {
            std::fs::write(&file, mutants::scenario(shows.mutant, seed).to_toml())
                .with_context(|| file.display().to_string())?;
            Ok(true)
        }
        Command::Run { seed, shows, write: None } => {
            run_one(&mutants::scenario(shows.mutant, seed), &shows, &replay_seed(seed, shows.mutant))
        }
        Command::Scenario { file, shows } => run_one(&read(&file)?, &shows, &replay_file(&file, shows.mutant)),
        Command::Births { communes, births, seed, shows } => {
            let replay = format!(
                "cargo run --release -p dinhba-sim -- births --communes {communes} --births {births} --seed {seed}{}",
                armed(shows.mutant)
            );
            run_one(&births::scenario(usize::from(communes), births, seed), &shows, &replay)
        }
        Command::Swarm(arguments) => run_swarm(&arguments),
        Command::Mutants { name, seeds, threads } => run_mutants(name, seeds, threads),
        Command::Golden { write } => run_golden(write),
    }
}

/// The mutant with that name.
fn mutant(name: &str) -> Result<&'static Mutant, String> {
    Mutant::named(name).ok_or_else(|| {
        let names: Vec<&str> = mutants::ALL.iter().map(|mutant| mutant.name).collect();
        format!("there are {}", names.join(", "))
    })
}

/// The command that runs a seed again.
fn replay_seed(seed: u64, mutant: Option<&Mutant>) -> String {
    format!("cargo run --release -p dinhba-sim -- run --seed {seed}{}", armed(mutant))
}

fn replay_file(file: &Path, mutant: Option<&Mutant>) -> String {
    format!("cargo run --release -p dinhba-sim -- scenario {}{}", file.display(), armed(mutant))
}

fn armed(mutant: Option<&Mutant>) -> String {
    mutant.map_or_else(String::new, |mutant| format!(" --mutant {}", mutant.name))
}

fn read(file: &Path) -> anyhow::Result<Scenario> {
    let shipped = dinhba_sim::scenario::SHIPPED.iter().find(|(name, _)| Path::new(name) == file && !file.exists());
    let text = match shipped {
        Some((_, text)) => (*text).to_owned(),
        None => std::fs::read_to_string(file).with_context(|| file.display().to_string())?,
    };
    Scenario::parse(&text).with_context(|| file.display().to_string())
}

/// The run's time, for what nodes log.
struct VirtualTime;

impl FormatTime for VirtualTime {
    fn format_time(&self, out: &mut Writer<'_>) -> std::fmt::Result {
        write!(out, "{:>16}", tables::clock(runtime::now() - runtime::Instant::START))
    }
}

fn run_one(scenario: &Scenario, shows: &Shows, replay: &str) -> anyhow::Result<bool> {
    if let Some(levels) = &shows.log {
        let log = tracing_subscriber::fmt().with_env_filter(levels.clone()).with_writer(std::io::stderr);
        log.with_timer(VirtualTime).with_ansi(false).init();
    }
    let began = Instant::now();
    let outcome = run::guarded(scenario, shows.mutant.map(|mutant| mutant.name));
    let took = began.elapsed();
    if shows.trace {
        let mut out = std::io::stdout().lock();
        for entry in &outcome.entries {
            writeln!(out, "{:>16} {:?}", tables::clock(entry.at), entry.event)?;
        }
    }
    println!("{}", tables::figures(&outcome, took));
    if shows.reached {
        let mut coverage = Coverage::default();
        coverage.add(&outcome);
        println!("{}", tables::coverage(&coverage));
    }
    println!("hash {}", outcome.hash);
    let mut is_well = tell_verdict(scenario, &outcome);
    if let Some(file) = &shows.report {
        let page = report::page(scenario, &outcome, replay);
        std::fs::write(file, page).with_context(|| file.display().to_string())?;
        println!("page {}", file.display());
    }
    if shows.check_determinism {
        match twice::first_difference(&outcome, &run::guarded(scenario, shows.mutant.map(|mutant| mutant.name))) {
            None => println!("run twice: equal"),
            Some(difference) => {
                println!("RUN TWICE, AND NOT EQUAL: {difference}");
                is_well = false;
            }
        }
    }
    if !is_well {
        println!("again: {replay}");
    }
    Ok(is_well)
}

fn tell_verdict(scenario: &Scenario, outcome: &Outcome) -> bool {
    if outcome.holds() {
        println!("{}: every promise was kept", scenario.name);
    } else {
        println!("{}: BROKEN PROMISES\n{}", scenario.name, tables::violations(&outcome.violations));
    }
    outcome.holds()
}

fn run_swarm(arguments: &SwarmArguments) -> anyhow::Result<bool> {
    let plan = Plan {
        first: arguments.seed,
        runs_max: arguments.runs,
        begins_within: arguments.minutes.map(|minutes| Duration::from_secs(60 * minutes)),
        threads: cores(arguments.threads)?,
        keeps_going: arguments.keep_going,
        mutant: arguments.mutant,
    };
    let progress = Progress::begin();
    let tally = swarm::swarm(
        &plan,
        |tally| progress.tell(tally),
        |seed| eprintln!("seed {seed} has run for {} minutes; it may never end", swarm::SLOW.as_secs() / 60),
    );
    progress.end();
    println!("{}\n{}\n{}", tables::coverage(&tally.coverage), tables::faults(&tally), tables::summary(&tally));
    let missing = tally.coverage.missing();
    if !missing.is_empty() {
        println!("never reached: {}", missing.join("; "));
    }
    let Some(first) = tally.failures.first() else {
        println!("every promise was kept in all {} runs", tables::count(tally.runs));
        return Ok(missing.is_empty() || !arguments.must_cover);
    };
    println!("{}", tables::failures(&tally));
    println!("again: {}", replay_seed(first.seed, arguments.mutant));
    if arguments.shrink_runs > 0
        && let Some(violation) = first.violations.first()
    {
        make_small(first.seed, violation.promise, arguments)?;
    }
    Ok(false)
}

/// Makes a failing run small, and writes it where a command can run it.
fn make_small(seed: u64, promise: &str, arguments: &SwarmArguments) -> anyhow::Result<()> {
    eprintln!("making seed {seed} small, which breaks {promise}");
    let limit = Duration::from_secs(60 * arguments.shrink_minutes);
    let failing = mutants::scenario(arguments.mutant, seed);
    let mut small = swarm::smaller(&failing, arguments.mutant, promise, arguments.shrink_runs, limit);
    small.name = format!("shrunk_{seed}");
    small.about = format!("What is left of the random country of seed {seed}: it still breaks {promise}.");
    let file = arguments.out.join(format!("shrunk_{seed}.toml"));
    std::fs::write(&file, small.to_toml()).with_context(|| file.display().to_string())?;
    println!(
        "small: {} nodes, {} faults, {} officers, {}",
        small.tree.nodes_in_all(),
        small.faults.len(),
        small.officers.len(),
        tables::clock(small.lasts)
    );
    println!("again: {} --report shrunk_{seed}.html", replay_file(&file, arguments.mutant));
    Ok(())
}

fn cores(wanted: Option<usize>) -> anyhow::Result<usize> {
    match wanted {
        Some(threads) => Ok(threads),
        None => Ok(std::thread::available_parallelism().context("how many cores there are")?.get()),
    }
}

fn run_mutants(name: Option<&'static Mutant>, seeds: u64, threads: Option<usize>) -> anyhow::Result<bool> {
    let chosen: Vec<&'static Mutant> = name.map_or_else(|| mutants::ALL.iter().collect(), |mutant| vec![mutant]);
    let hunted = swarm::hunt(&chosen, seeds, cores(threads)?, |mutant, verdict| match verdict {
        Verdict::Caught { seed, promise, .. } => eprintln!("{}: caught by {promise} at seed {seed}", mutant.name),
        Verdict::Missed => eprintln!("{}: MISSED in {seeds} seeds", mutant.name),
    });
    println!("{}", tables::mutants(&hunted));
    // One that another check catches is not understood.
    let is_caught = |(mutant, verdict): &(&'static Mutant, Verdict)| match verdict {
        Verdict::Caught { promise, .. } => mutant.may_break(promise),
        Verdict::Missed => false,
    };
    Ok(hunted.iter().all(is_caught))
}

fn run_golden(write: bool) -> anyhow::Result<bool> {
    let (mut lines, mut is_well) = (String::new(), true);
    for case in golden::CASES {
        let outcome = run::guarded(&case.scenario(), None);
        let line = format!("{case} {}", outcome.hash);
        let verdict = match case.committed() {
            _ if write => "",
            Some(hash) if hash == outcome.hash => "",
            Some(_) => "  DIFFERS from the committed hash",
            None => "  has no committed hash",
        };
        println!("{line}{verdict}");
        is_well &= verdict.is_empty();
        lines.push_str(&format!("{line}\n"));
    }
    if write {
        std::fs::write(golden::PATH, lines).context(golden::PATH)?;
    }
    Ok(is_well)
}

/// Tells on stderr how far a swarm is.
struct Progress {
    began: Instant,
    every: Duration,
    told: Mutex<Instant>,
    /// How many failures were told of.
    failures: AtomicUsize,
}

impl Progress {
    fn begin() -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let every = if is_terminal { PROGRESS_EVERY_ON_TERMINAL } else { PROGRESS_EVERY };
        let now = Instant::now();
        Progress { began: now, every, told: Mutex::new(now), failures: AtomicUsize::new(0) }
    }

    fn tell(&self, tally: &Tally) {
        let Ok(mut told) = self.told.lock() else { return };
        // At once: a swarm may be stopped before its end.
        for failure in tally.failures.iter().skip(self.failures.fetch_max(tally.failures.len(), Ordering::Relaxed)) {
            let first = failure.violations.first().map_or("nothing", |violation| violation.promise);
            eprintln!("seed {} breaks {first}", failure.seed);
        }
        if told.elapsed() < self.every {
            return;
        }
        *told = Instant::now();
        let end = if std::io::stderr().is_terminal() { '\r' } else { '\n' };
        eprint!(
            "{}  {} runs, {} failed, {:.0} virtual s/s per core, {} edits accepted {end}",
            tables::clock(Duration::from_secs(self.began.elapsed().as_secs())),
            tables::count(tally.runs),
            tally.failures.len(),
            tally.speed(),
            tables::count(tally.figure("accepted")),
        );
    }

    fn end(&self) {
        if std::io::stderr().is_terminal() {
            eprintln!();
        }
    }
}
