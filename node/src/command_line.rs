//! The command line of `dinhba`: the node's own subcommands here, the client's verbs from the SDK.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use dinhba_client::cli::{Connection, EXIT_CODES, Line, language_of, misused, translate};
use dinhba_core::claims::Role;
use dinhba_core::date::InstantMs;
use dinhba_core::ids::{NodeId, SiteId, UnitId};
use dinhba_core::level::{LEVEL_FIRST, LEVEL_MAX};
use dinhba_core::units::Directory;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::pki::{DevAuthority, read_signing_key};
use crate::secrets::Secrets;
use crate::{demo, node, place_file, restore, telemetry};

/// Threads that a node's tasks run on: sixteen nodes share a laptop, and a commune's computer is small.
const WORKERS: usize = 2;

#[derive(Parser)]
#[command(name = "dinhba", version, about = "A distributed, replicated store of population records", after_help = EXIT_CODES)]
struct CommandLine {
    #[command(flatten, next_help_heading = "Options of the verbs that ask a site, before or after the verb")]
    before: Connection,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Runs one node until SIGTERM or Ctrl-C; SIGHUP is ignored.
    Node(NodeOptions),
    /// Founds a site anew from an archive of its backups, in an empty data directory
    Restore(RestoreOptions),
    /// Runs a country of eight sites on this machine, and shows that nothing is lost.
    Demo(demo::Options),
    /// Makes keys and certificates.
    #[command(subcommand)]
    Pki(Pki),
    /// Writes what a shell needs to complete the words of this program: `dinhba completions bash > ...`
    Completions {
        /// The shell
        shell: Shell,
    },
    #[command(flatten)]
    Verb(Box<Line>),
}

#[derive(Args)]
struct NodeOptions {
    /// The node's configuration; `node/dinhba.example.toml` documents every key.
    #[arg(long)]
    config: PathBuf,
    /// Stop when standard input ends: for a parent process whose death must end this one.
    #[arg(long)]
    end_with_stdin: bool,
    /// Works as a version would that knows feature levels up to this one and no more: to try an upgrade of a site or a country
    /// before it is done. It is this program that is told to know less, not the older one.
    #[arg(long, value_name = "LEVEL", default_value_t = LEVEL_MAX, hide = true,
          value_parser = clap::value_parser!(u16).range(i64::from(LEVEL_FIRST)..=i64::from(LEVEL_MAX)))]
    level_max: u16,
}

#[derive(Args)]
struct RestoreOptions {
    /// The configuration of the site's first node; its data directory must be absent or empty
    #[arg(long)]
    config: PathBuf,
    /// The directory of the archive
    archive: PathBuf,
    /// Leaves out what any site received later (2026-01-31T12:00:00Z). The access log is put back whole
    #[arg(long, value_name = "TIME")]
    until: Option<InstantMs>,
    /// Writes JSON for programs
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Pki {
    /// A development authority: good for one laptop, never for real data.
    #[command(subcommand)]
    Dev(Dev),
}

#[derive(Subcommand)]
enum Dev {
    /// Makes the authority.
    Create {
        /// Where its files go.
        dir: PathBuf,
    },
    /// Makes a node's certificate.
    Node {
        /// The authority's directory.
        dir: PathBuf,
        /// The node's site.
        #[arg(long)]
        site: SiteId,
        /// The node.
        #[arg(long = "id")]
        id: NodeId,
    },
    /// Makes a person's certificate.
    Person {
        /// The authority's directory.
        dir: PathBuf,
        /// The account: 1 to 64 of a-z, 0-9, dot, underscore and dash.
        #[arg(long)]
        subject: String,
        /// operator, registrar or auditor.
        #[arg(long)]
        role: Role,
        /// The unit for which the person acts.
        #[arg(long = "for-unit")]
        for_unit: UnitId,
    },
    /// Makes a site's signing key and its secrets.
    Site {
        /// The authority's directory.
        dir: PathBuf,
        /// The site.
        #[arg(long)]
        site: SiteId,
    },
}

/// Reads the command line and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    // The language of the help is known before the line is read.
    let lang = language_of(std::env::args_os());
    let CommandLine { before, action } = match read(translate(CommandLine::command(), lang)) {
        Ok(line) => line,
        Err(error) => return misused(&error, std::env::args_os()),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error.into()),
    };
    let code = match action {
        Action::Node(options) => {
            runtime.block_on(run_node(options)).map_or_else(|error| complain(&error), |()| ExitCode::SUCCESS)
        }
        Action::Restore(options) => restore_site(options).map_or_else(|error| complain(&error), |()| ExitCode::SUCCESS),
        Action::Demo(options) => runtime.block_on(demo::run(options)),
        Action::Pki(Pki::Dev(dev)) => make_keys(dev).map_or_else(|error| complain(&error), |()| ExitCode::SUCCESS),
        Action::Completions { shell } => {
            let mut program = translate(CommandLine::command(), lang);
            clap_complete::generate(shell, &mut program, "dinhba", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
        Action::Verb(line) => {
            let Line { verb, connection } = *line;
            runtime.block_on(dinhba_client::cli::run(verb, connection.or(before)))
        }
    };
    // Not dropped: that would wait for the thread that reads standard input, for as long as it stays open.
    runtime.shutdown_background();
    code
}

fn read(mut program: clap::Command) -> Result<CommandLine, clap::Error> {
    let mut found = program.try_get_matches_from_mut(std::env::args_os())?;
    CommandLine::from_arg_matches_mut(&mut found).map_err(|error| error.format(&mut program))
}

fn complain(error: &anyhow::Error) -> ExitCode {
    eprintln!("dinhba: {error:#}");
    ExitCode::FAILURE
}

async fn run_node(options: NodeOptions) -> anyhow::Result<()> {
    let config = Config::load(&options.config)?;
    let signing_key = read_signing_key(&config.site.signing_key).context("site.signing_key")?;
    Secrets::read(&config.site.secrets).context("site.secrets")?;
    place_file::check(&config, &Directory::vietnam()?, &signing_key.verifying_key().to_bytes())?;
    telemetry::init(&config.log)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let stop = async move {
        let stdin_ends = async {
            if !options.end_with_stdin {
                return std::future::pending().await;
            }
            let mut ignored = tokio::io::sink();
            let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut ignored).await;
        };
        let mut stdin_ends = std::pin::pin!(stdin_ends);
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                () = &mut stdin_ends => return,
                // A terminal that closes, or somebody who means "read your configuration again".
                _ = hangup.recv() => {
                    tracing::warn!("SIGHUP: nothing is read again, the node goes on; restart it for a new configuration");
                }
            }
        }
    };
    node::run(config, options.level_max, stop).await
}

fn restore_site(options: RestoreOptions) -> anyhow::Result<()> {
    let config = Config::load(&options.config)?;
    let secrets = Secrets::read(&config.site.secrets).context("site.secrets")?;
    let restored = restore::restore(&config, &secrets, &options.archive, options.until)?;
    if options.json {
        println!("{}", restored.json());
    } else {
        println!("{}", restored.text(&options.config));
    }
    Ok(())
}

fn make_keys(dev: Dev) -> anyhow::Result<()> {
    match dev {
        Dev::Create { dir } => println!("{}", DevAuthority::create(&dir)?.ca_path().display()),
        Dev::Node { dir, site, id } => {
            let paths = DevAuthority::open(&dir)?.issue_node(site, id)?;
            println!("{}\n{}", paths.certificate.display(), paths.key.display());
        }
        Dev::Person { dir, subject, role, for_unit } => {
            let paths = DevAuthority::open(&dir)?.issue_person(&subject, role, for_unit)?;
            println!("{}\n{}", paths.certificate.display(), paths.key.display());
        }
        Dev::Site { dir, site } => {
            let paths = DevAuthority::open(&dir)?.issue_site_key(site)?;
            println!("{}\n{}\n{}", paths.signing.display(), paths.public.display(), paths.secrets.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use dinhba_client::Lang;

    use super::*;

    #[test]
    fn every_command_has_a_help_of_its_own_options() {
        let mut program = CommandLine::command();
        program.build();
        program.clone().debug_assert();
        for name in ["node", "restore", "demo", "pki", "completions"] {
            let help = program.find_subcommand_mut(name).expect(name).render_help().to_string();
            assert!(!help.contains("--node ") && !help.contains("--purpose"), "{name}: {help}");
        }
        assert!(program.find_subcommand_mut("get").expect("get").render_help().to_string().contains("--purpose"));
    }

    #[test]
    fn every_command_is_told_in_vietnamese() {
        fn abouts(command: &clap::Command, found: &mut Vec<(String, String)>) {
            for below in command.get_subcommands() {
                let about = below.get_about().map(ToString::to_string).unwrap_or_default();
                found.push((below.get_name().to_owned(), about));
                abouts(below, found);
            }
        }
        let all = |lang| {
            let mut program = CommandLine::command();
            program.build();
            let mut found = Vec::new();
            abouts(&translate(program, lang), &mut found);
            found.retain(|(name, _)| name != "help");
            found
        };
        let (english, vietnamese) = (all(Lang::En), all(Lang::Vi));
        assert!(english.len() > 80 && english.len() == vietnamese.len());
        // The verb `help` has a copy of all, which is never shown.
        for (one, other) in english.iter().zip(&vietnamese).take_while(|((name, _), _)| name != "help") {
            assert!(one.0 == other.0 && !other.1.is_empty(), "{one:?} {other:?}");
        }
        for name in ["node", "restore", "demo", "pki", "completions"] {
            let about = |all: &[(String, String)]| all.iter().find(|(one, _)| one == name).cloned();
            assert_ne!(about(&english), about(&vietnamese), "{name}");
        }
    }

    #[test]
    fn shells_are_told_the_verbs_and_their_options() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut CommandLine::command(), "dinhba", &mut script);
            let script = String::from_utf8(script).expect("text");
            for word in ["conflicts", "add-node", "purpose", "completions"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}
