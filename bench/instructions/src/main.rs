//! Counts the instructions that the core takes for one registration, change, birth, merged edit and read, and compares them with the
//! table beside this program, `table.txt`. On a machine that is shared with others times say little; instructions are the same each
//! time.
//!
//! ```sh
//! cargo run --profile profiling -p dinhba-instructions              # counts, and compares
//! cargo run --profile profiling -p dinhba-instructions -- birth     # of some works
//! cargo run --profile profiling -p dinhba-instructions -- shares    # what figures, work lists, quality and the ledger take of each
//! cargo run --profile profiling -p dinhba-instructions -- table     # counts, and prints the table anew
//! ```
//!
//! It runs itself under valgrind's callgrind, once for each work, and counts inside one function alone, so that whatever a work needs
//! beforehand is left out. The state is a sorted map in memory: what is read of it is counted, what an engine would do is not.
//! Counts hold for one compiler, one version of it, and one kind of processor: copying and hashing have code of their own for each. On
//! another compiler than that of the table they are told and nothing fails.

mod counts;
mod table;
mod works;

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, ensure};
use dinhba_core::inject::IS_BUILT_IN;
use mimalloc::MiMalloc;

use crate::counts::Counts;
use crate::table::{RISE_MAX, Table, Verdict, line, rise};
use crate::works::{COUNTED, WORKS, Work};

/// As in `dinhba`.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The committed table.
const TABLE: &str = include_str!("../table.txt");

/// Where it stands.
const TABLE_PLACE: &str = "bench/instructions/table.txt";

/// The compiler that built this program.
const COMPILER: &str = env!("BUILT_BY");

/// What is counted: the inside of this function.
const MEASURED: &str = "*works::measured*";

/// What keeps figures, work lists and the ledger of numbers: the functions by which `apply` enters each. They are never inlined, so that
/// they can be told apart.
const BESIDE: &[(&str, &[&str])] = &[
    ("figures", &["registry::figures::count"]),
    ("work lists", &["registry::work::open", "registry::work::close", "registry::work::steps"]),
    ("ledger", &["registry::ledger::note", "registry::ledger::next_number"]),
];

fn main() -> anyhow::Result<ExitCode> {
    ensure!(!IS_BUILT_IN, "the faults of the tests are built in: run it by -p dinhba-instructions");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => compare(WORKS.iter().collect()),
        ["table"] => {
            print!("{}", anew(&Table::parse(TABLE)?)?);
            Ok(ExitCode::SUCCESS)
        }
        ["shares"] => shares(),
        ["work", name] => {
            work_named(name)?.run()?;
            Ok(ExitCode::SUCCESS)
        }
        _ => compare(arguments.iter().map(|name| work_named(name)).collect::<anyhow::Result<_>>()?),
    }
}

fn work_named(name: &str) -> anyhow::Result<&'static Work> {
    let names = || WORKS.iter().map(|work| work.name).collect::<Vec<_>>().join(", ");
    WORKS.iter().find(|work| work.name == name).with_context(|| format!("{name:?} is none of {}", names()))
}

/// Counts all of a work.
fn count(work: &Work) -> anyhow::Result<Counts> {
    let dir = std::env::temp_dir().join(format!("dinhba-instructions-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let counted = count_into(&dir.join("counts"), work);
    std::fs::remove_dir_all(&dir)?;
    counted
}

fn count_into(file: &Path, work: &Work) -> anyhow::Result<Counts> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--quiet"]).arg(format!("--callgrind-out-file={}", file.display()));
    command.arg(format!("--toggle-collect={MEASURED}"));
    command.arg(std::env::current_exe()?).args(["work", work.name]);
    // Memory that is free goes back to the system by the clock: then no two runs were alike.
    command.env_clear().env("MIMALLOC_PURGE_DELAY", "-1");
    command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    let output = command.output().context("valgrind: install it")?;
    ensure!(output.status.success(), "{}: {}", work.name, String::from_utf8_lossy(&output.stderr));
    let counts = Counts::read(&std::fs::read_to_string(file)?)?;
    let hint = "is the program without symbols? Build it with --profile profiling";
    ensure!(counts.total > 0, "{}: nothing was counted, {hint}", work.name);
    Ok(counts)
}

/// Counts works, tells, and compares.
fn compare(works: Vec<&Work>) -> anyhow::Result<ExitCode> {
    let table = Table::parse(TABLE)?;
    let mut dearer = Vec::new();
    for work in works {
        let counted = count(work)?.total / COUNTED;
        let before = table.counts.get(work.name).copied().unwrap_or(counted);
        let verdict = table.judge(work.name, counted);
        let told = match verdict {
            Verdict::AsBefore => "",
            Verdict::Cheaper => "cheaper: change its line, so that the gain stays",
            Verdict::Dearer => "dearer",
            Verdict::Unknown => "not in the table",
        };
        println!("{:<22} {counted:>8} instructions {:>+6.1} % {told}", work.name, rise(before, counted));
        if verdict != Verdict::AsBefore {
            dearer.extend(matches!(verdict, Verdict::Dearer | Verdict::Unknown).then(|| line(work.name, counted)));
        }
    }
    if table.compiler != COMPILER {
        println!("the table was made by {}, this program by {COMPILER}: nothing is compared", table.compiler);
        return Ok(ExitCode::SUCCESS);
    }
    if dearer.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("more than {RISE_MAX} % above {TABLE_PLACE}. If that is meant, its lines are to be:");
    dearer.iter().for_each(|line| println!("{line}"));
    Ok(ExitCode::FAILURE)
}

/// The table as it would be now, with the remarks of the old one.
fn anew(table: &Table) -> anyhow::Result<String> {
    let remarks = TABLE.lines().take_while(|line| line.starts_with('#') || line.is_empty());
    let mut text: String = remarks.map(|line| format!("{line}\n")).collect();
    text += &format!("compiler {COMPILER}\n");
    for work in WORKS {
        let counted = count(work)?.total / COUNTED;
        let is_as_before = table.compiler == COMPILER && table.judge(work.name, counted) == Verdict::AsBefore;
        let kept = table.counts.get(work.name).copied().filter(|_| is_as_before);
        text += &format!("{}\n", line(work.name, kept.unwrap_or(counted)));
    }
    Ok(text)
}

/// Tells what figures, work lists and the ledger take of each work.
fn shares() -> anyhow::Result<ExitCode> {
    for work in WORKS {
        let counts = count(work)?;
        let percent = |taken: u64| taken as f64 / counts.total as f64 * 100.0;
        print!("{:<22} {:>8} instructions", work.name, counts.total / COUNTED);
        let mut together = 0;
        for (name, functions) in BESIDE {
            let taken: u64 = functions.iter().map(|function| counts.inside(function)).sum();
            print!(", {name} {} ({:.1} %)", taken / COUNTED, percent(taken));
            together += taken;
        }
        println!(", together {} ({:.1} %)", together / COUNTED, percent(together));
    }
    Ok(ExitCode::SUCCESS)
}
