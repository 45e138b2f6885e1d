//! `dinhba demo`: a country in miniature, on one machine, with real processes and sockets.
//!
//! Eight sites of sixteen processes are started; a synthetic population is registered; a commune's line is cut, and
//! officers there and above work on; the province's leader and the commune are killed in the middle of a batch; the line
//! is mended, conflicts are found and decided; then everything is read back from every node and compared with what
//! clients were told. It ends with a table, and with an error if anything that was acknowledged is lost or any promise was
//! broken. All people are invented.
//!
//! Owns: the whole course, its clean-up, the exit code. Read bottom up: `oracle`, `layout`, `cutter`, `processes`,
//! `officers`, `examine`, `report`, `story`, `counter`.
//! Limits: all sites are on one machine, so nothing is said of slow lines; the kills are of processes, not of power.

mod counter;
mod cutter;
mod examine;
mod layout;
mod officers;
mod oracle;
mod processes;
mod report;
mod story;

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use dinhba_client::cli::sheet::Paper;
use dinhba_core::ids::NodeId;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::Engine;
use crate::runtime;
use cutter::Line;
use layout::Country;
use processes::tails;
use report::{Facts, Say, endpoints, grouped, table};
use story::Story;

/// Persons of the synthetic population: with households, officers and decisions about 5,500 acknowledged edits.
const PERSONS: usize = 3_900;
/// Fewer persons are too few for the story in the commune that is cut off.
const PERSONS_MIN: u64 = 1_000;
/// More persons would take longer than somebody who watches.
const PERSONS_MAX: u64 = 200_000;
/// How often a start is tried anew because somebody took a port between its choice and its use.
const STARTS: usize = 3;
/// Broken promises that are shown at the end: one broken chain shows at many nodes.
const BROKEN_SHOWN_MAX: usize = 20;
/// The exit code of a program that was told to stop, as shells have it.
const INTERRUPTED: u8 = 130;

/// What `dinhba demo` is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Ends after the story, instead of leaving the country up
    #[arg(long)]
    pub exit: bool,
    /// Prints all facts as one JSON object to standard output
    #[arg(long)]
    pub json: bool,
    /// The seed of the ids, the population and the officers' random work
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where everything is put: a new or empty directory, which is kept; without it, a temporary one
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// The state engine of all nodes: lsm, fjall, sled or memory (with memory a killed node begins anew from its log)
    #[arg(long, default_value = "lsm", value_parser = engine)]
    pub engine: Engine,
    /// How many persons the synthetic population has
    #[arg(long, default_value_t = PERSONS as u64, value_parser = clap::value_parser!(u64).range(PERSONS_MIN..=PERSONS_MAX))]
    pub persons: u64,
    /// Shows no progress
    #[arg(long)]
    pub quiet: bool,
}

fn engine(name: &str) -> Result<Engine, String> {
    Engine::from_name(name).ok_or_else(|| format!("{name:?} is no engine: write fjall, lsm, sled or memory"))
}

/// Ctrl-C, SIGTERM and the end of the terminal, heard from the moment it is made.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Stop {
    fn listen() -> Result<Self> {
        Ok(Stop {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

/// Where everything lies.
struct Place {
    dir: PathBuf,
    is_temporary: bool,
}

impl Place {
    fn make(wanted: Option<&Path>) -> Result<Self> {
        let (dir, is_temporary) = match wanted {
            Some(dir) => (std::path::absolute(dir)?, false),
            None => (std::env::temp_dir().join(format!("dinhba-demo-{:016x}", runtime::random_u64())), true),
        };
        // Keys will lie in it.
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).with_context(|| dir.display().to_string())?;
        if fs::read_dir(&dir)?.next().is_some() {
            bail!("{} is not empty: give a new directory", dir.display());
        }
        Ok(Place { dir, is_temporary })
    }

    /// Empties it for another start.
    fn empty(&self) -> Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        }
        Ok(())
    }

    fn remove_if_temporary(&self) {
        if self.is_temporary
            && let Err(error) = fs::remove_dir_all(&self.dir)
        {
            eprintln!("{} could not be removed: {error}", self.dir.display());
        }
    }
}

/// Runs the demonstration. The exit code is 0 only if every promise was kept.
pub async fn run(options: Options) -> ExitCode {
    Paper::take();
    let say = Say::new(options.quiet);
    let (mut stop, place) = match Stop::listen().and_then(|stop| Ok((stop, Place::make(options.dir.as_deref())?))) {
        Ok(ready) => ready,
        Err(error) => {
            eprintln!("demo: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let mut story = None;
    let told = tokio::select! {
        told = tell(&options, &place, &mut story, &say) => Some(told),
        () = stop.asked() => None,
    };
    say.clear();
    let kept = matches!(&told, Some(Ok(true)));
    if let Some(told) = &told {
        report(&options, told, story.as_ref());
        if let (true, Some(story)) = (kept && !options.exit, &mut story) {
            story.stay_up(&say, stop.asked()).await;
        }
    }
    if let Some(story) = &mut story {
        say.step("ending all nodes");
        story.processes.end().await;
    }
    match told {
        Some(_) if !kept => {
            eprintln!("\nLogs and data are kept in {}.", place.dir.display());
            ExitCode::FAILURE
        }
        Some(_) => {
            place.remove_if_temporary();
            ExitCode::SUCCESS
        }
        None => {
            place.remove_if_temporary();
            ExitCode::from(INTERRUPTED)
        }
    }
}

/// The whole course; whether every promise was kept.
async fn tell(options: &Options, place: &Place, slot: &mut Option<Story>, say: &Say) -> Result<bool> {
    for _ in 0..STARTS {
        let country = Country::plan(&place.dir, options.seed)?;
        let (lines, dialed) = lay_lines(&country).await?;
        country.write(options.engine, |site, node| {
            dialed.iter().find(|there| there.0 == (site, node)).map(|there| there.1.clone())
        })?;
        let mut story = Story::new(country, lines, options.seed);
        options.engine.name().clone_into(&mut story.facts.engine);
        // In the caller's hands before anything runs, so that whatever is started is also ended.
        let story = slot.insert(story);
        if story.start(say).await? {
            story.tell(usize::try_from(options.persons)?, say).await?;
            let facts = &mut story.facts;
            facts.seconds = (say.elapsed().as_secs_f64() * 100.0).round() / 100.0;
            facts.ok = facts.lost == 0 && facts.broken.is_empty();
            return Ok(facts.ok);
        }
        say.step("somebody else took a port: starting anew");
        story.processes.end().await;
        place.empty()?;
    }
    bail!("ports were taken at each of {STARTS} starts")
}

/// A line for every site, and at which address each site reaches each node of its parent.
#[allow(clippy::type_complexity, reason = "used once, next to where it is made")]
async fn lay_lines(country: &Country) -> Result<(Vec<Line>, Vec<((usize, NodeId), String)>)> {
    let (mut lines, mut dialed) = (Vec::new(), Vec::new());
    for (at, site) in country.sites.iter().enumerate() {
        let line = Line::default();
        for node in site.parent.iter().flat_map(|&above| &country.sites[above].nodes) {
            let forwarder = line.forward(node.address().parse()?).await?;
            dialed.push(((at, node.id), forwarder.to_string()));
        }
        lines.push(line);
    }
    Ok((lines, dialed))
}

fn report(options: &Options, told: &Result<bool>, story: Option<&Story>) {
    let facts = story.map(|story| &story.facts);
    if let (Some(story), false) = (story, facts.is_none_or(|facts| facts.sites.is_empty())) {
        let text = table(&story.country, &story.facts);
        if options.json { eprintln!("\n{text}") } else { println!("\n{text}") }
    }
    let failure = match told {
        Ok(true) => None,
        Ok(false) => facts.map(in_words),
        Err(error) => Some(format!("{error:#}")),
    };
    if let Some(failure) = &failure {
        eprintln!("\nFAILED: {failure}");
        for (path, lines) in
            story.iter().flat_map(|story| tails(story.country.sites.iter().flat_map(|site| &site.nodes)))
        {
            if !lines.is_empty() {
                eprintln!("\n{}:\n  {}", path.display(), lines.join("\n  "));
            }
        }
    }
    if options.json {
        let mut json = facts.map_or_else(|| serde_json::json!({}), |facts| serde_json::json!(facts));
        if let Some(failure) = failure {
            json["failure"] = failure.into();
            json["ok"] = false.into();
        }
        println!("{json}");
    }
    if let (Ok(true), Some(story), false) = (told, story, options.exit) {
        let program = std::env::current_exe().map_or_else(|_| "dinhba".to_owned(), |path| path.display().to_string());
        let text = endpoints(&story.country, &story.facts, &program);
        if options.json { eprintln!("{text}") } else { println!("{text}") }
    }
}

/// Which promises were broken; the first of them.
fn in_words(facts: &Facts) -> String {
    let Facts { lost, broken, .. } = facts;
    let mut text = format!("{} edits lost, {} promises broken:", grouped(*lost), broken.len());
    for broken in broken.iter().take(BROKEN_SHOWN_MAX) {
        text.push_str("\n  ");
        text.push_str(broken);
    }
    if broken.len() > BROKEN_SHOWN_MAX {
        text.push_str("\n  and more, see --json");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_something_in_it_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("diary");
        fs::write(&file, "x").unwrap();
        assert!(Place::make(Some(dir.path())).is_err());
        assert!(file.exists());
        let new = Place::make(Some(&dir.path().join("new"))).unwrap();
        fs::write(new.dir.join("x"), "x").unwrap();
        new.empty().unwrap();
        assert_eq!(fs::read_dir(&new.dir).unwrap().count(), 0);
        new.remove_if_temporary();
        assert!(new.dir.exists());
    }

    #[test]
    fn a_temporary_directory_is_removed() {
        let place = Place::make(None).unwrap();
        assert!(place.dir.exists());
        place.remove_if_temporary();
        assert!(!place.dir.exists());
    }
}
