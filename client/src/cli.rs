//! The verbs of the command line.
//!
//! [`Verb`] is what is asked, [`Connection`] whom and why, [`run`] does it and gives the exit code. People get tables, with
//! the Vietnamese names of the fields; programs ask for `--json` and get one object, or NDJSON where a verb streams. Keys
//! are snake_case and stay. Errors go to stderr, with `--json` as `{"error":…,"message":…}`, a wrong command line too
//! ([`misused`]). People are told in their language (`crate::language`: `--lang`, else the environment), the help too
//! ([`translate`]); programs in English.
//!
//! Exit codes:
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | anything else, such as a full disk |
//! | 2 | wrong usage, or input that breaks a rule; nothing changed |
//! | 3 | denied: the caller's role or unit does not allow it |
//! | 4 | no such record, shard or group here |
//! | 5 | stale: somebody else was faster, or the record exists already |
//! | 6 | no node could be reached; nothing was accepted |
//! | 7 | the outcome is not known: do the same again, under the same request |
//! | 8 | a file was imported but for some rows |
//! | 9 | `status`: the node is not well; why is in the first line |
//! | 10 | `held`: nobody of that tier holds it yet |
//! | 130 | interrupted; what was done until then is said |
//!
//! A verb takes the options that it uses and no others ([`Line`]): those that ask a site whom and why, all of them how to
//! write. A program may take these before the verb too, and puts both together ([`Connection::or`]).

mod backup;
mod connection;
mod event;
mod exit;
mod export;
mod fields;
mod figures;
mod held;
mod help;
mod holidays;
mod import;
mod numbers;
mod quality;
mod receipt;
mod roll;
pub mod sheet;
mod show;
mod standing;
mod status;
mod stocks;
mod target;
#[cfg(test)]
pub(crate) mod tests;
mod unit;
mod verbs;
mod wording;
mod work;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args as _;
use clap::error::ErrorKind;
use dinhba_core::event::Event;
use dinhba_core::ids::{AuthorId, GroupId, NodeId, RecordId, RequestId, ShardId, SiteId};
use dinhba_core::schema::{RecordKind, key_of};
use serde_json::Value as Json;

use crate::import::Format;
use crate::language::{Lang, Message};
use crate::request::parse_request;

pub use connection::Connection;
pub(crate) use exit::Failure;
pub use exit::{EXIT_CODES, Exit};
pub use help::translate;

/// A verb as it is written: with the options that it uses.
pub struct Line {
    /// What is asked.
    pub verb: Verb,
    /// Whom and why.
    pub connection: Connection,
}

/// How to write, for verbs that ask no site.
#[derive(clap::Args)]
struct Writing {
    /// Writes JSON for programs
    #[arg(long)]
    json: bool,
    /// The language of messages to people [env: DINHBA_LANG, else LC_ALL, LC_MESSAGES or LANG]
    #[arg(long, value_name = "LANGUAGE", value_enum)]
    lang: Option<Lang>,
}

/// Verbs that ask no site, by their names.
const WITHOUT_SITE: [&str; 6] = ["units", "fields", "generate", "verify", "events", "rules"];

/// A verb, and the verbs below it, with their options.
fn with_options(verb: clap::Command) -> clap::Command {
    let verb = verb.mut_subcommands(with_options);
    // What the options are is no word about the verb.
    let about = verb.get_about().cloned().unwrap_or_default();
    let long_about = verb.get_long_about().cloned().unwrap_or_else(|| about.clone());
    let verb = if WITHOUT_SITE.contains(&verb.get_name()) {
        Writing::augment_args(verb)
    } else if verb.is_subcommand_required_set() {
        verb
    } else {
        Connection::augment_args(verb)
    };
    verb.about(about).long_about(long_about)
}

impl clap::Subcommand for Line {
    fn augment_subcommands(program: clap::Command) -> clap::Command {
        // Not those that the program has beside them.
        let verbs = Verb::augment_subcommands(clap::Command::new("verbs"));
        let verbs = verbs.get_subcommands().cloned().chain(event::commands());
        verbs.fold(program, |program, verb| program.subcommand(with_options(verb)))
    }
    fn augment_subcommands_for_update(program: clap::Command) -> clap::Command {
        Self::augment_subcommands(program)
    }
    fn has_subcommand(name: &str) -> bool {
        Verb::has_subcommand(name) || Event::named(name).is_some()
    }
}

impl clap::FromArgMatches for Line {
    fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
        let verb = match matches.subcommand().and_then(|(name, of)| Some((Event::named(name)?, of))) {
            Some((event, of)) => Verb::File { event, file: event::File::from_arg_matches(of)? },
            None => Verb::from_arg_matches(matches)?,
        };
        let (mut options, mut name) = (matches, "");
        while let Some((below, matches)) = options.subcommand() {
            (options, name) = (matches, below);
        }
        let connection = match WITHOUT_SITE.contains(&name) {
            true => {
                let Writing { json, lang } = Writing::from_arg_matches(options)?;
                Connection { json, lang, ..Connection::default() }
            }
            false => Connection::from_arg_matches(options)?,
        };
        Ok(Line { verb, connection })
    }
    fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// What a caller may ask. Not `Debug`: what is written may be values of a record.
#[derive(clap::Subcommand)]
pub enum Verb {
    /// How the site is doing, as one of its nodes sees it: whether that node is well, its shards, groups, nodes and links
    Status,
    /// Shows a record
    Get {
        /// The record (r-…)
        record: RecordId,
        /// As it was in law on that day (2026-01-31), whenever it was written down
        #[arg(long, value_name = "DAY")]
        in_law_on: Option<String>,
        /// As it was known at the end of that day, or at a moment (2026-01-31T12:00:00Z)
        #[arg(long, value_name = "DAY")]
        known_on: Option<String>,
    },
    /// Finds records by number, or by a name or a part of it with what is known of the birth date
    Find(Find),
    /// The members of a household
    Members {
        /// The household (r-…)
        household: RecordId,
        /// Goes on where a page ended, as it said
        #[arg(long, value_parser = mark)]
        after: Option<Mark>,
    },
    /// The households of a person: the one they live in, and those they are the head of
    Households {
        /// The person (r-…)
        person: RecordId,
        /// Goes on where a page ended, as it said
        #[arg(long, value_parser = mark)]
        after: Option<Mark>,
    },
    /// The dossiers of a person: services that were asked for, and how far they are
    Dossiers {
        /// The person (r-…)
        person: RecordId,
        /// Goes on where a page ended, as it said
        #[arg(long, value_parser = mark)]
        after: Option<Mark>,
    },
    /// What is to be done, by whom and until when; what is due first stands first
    Work(work::Work),
    /// Changes a record, or creates one with --create
    Edit(Edit),
    /// The rules that records and events keep, with the articles that they implement
    Rules,
    /// Births, deaths, marriages, moves, cards: what may be filed, each with a verb of its own (`dinhba birth --help`)
    Events {
        /// The event whose form is wanted; without it, all are listed
        #[arg(value_parser = event::event)]
        event: Option<Event>,
    },
    /// An event that is filed, by its own verb
    #[command(skip)]
    File {
        /// Which.
        event: Event,
        /// What is filled in.
        file: event::File,
    },
    /// Every edit of a record, with how far up each is held
    History {
        /// The record (r-…)
        record: RecordId,
    },
    /// Open conflicts, a page of them, oldest first
    Conflicts {
        /// Only this shard (h-…)
        #[arg(long)]
        shard: Option<ShardId>,
        /// Goes on where a page ended, as it said
        #[arg(long, value_parser = mark)]
        after: Option<Mark>,
    },
    /// Decides a conflict: the value replaces all values of the field
    Resolve {
        /// The record (r-…)
        record: RecordId,
        /// The field, or `field[element]`
        field: String,
        /// The right value; empty clears the field
        value: String,
        /// Why this value is right
        #[arg(long)]
        grounds: String,
        /// The request to do again, after an outcome that was not known (q-…/1)
        #[arg(long, value_parser = request)]
        request: Option<RequestId>,
    },
    /// Edits that wait for a second person, oldest first
    Pending {
        /// Only this record (r-…)
        #[arg(conflicts_with_all = ["shard", "after"])]
        record: Option<RecordId>,
        /// Only this shard (h-…)
        #[arg(long)]
        shard: Option<ShardId>,
        /// Goes on where a page ended, as it said
        #[arg(long, value_parser = mark)]
        after: Option<Mark>,
    },
    /// Confirms, as a second person, an edit that waits for one
    Confirm(standing::Judge),
    /// Rejects an edit that waits for a second person, or that is held: what it replaced is there again
    Reject(standing::Judge),
    /// Takes an edit out of its record until it is released: its author's authority is in doubt
    Hold(standing::Judge),
    /// Puts an edit that is held back in
    Release(standing::Judge),
    /// Follows edits as they arrive
    Watch {
        /// The shard (h-…); without it, the one of the caller's unit
        #[arg(long)]
        shard: Option<ShardId>,
        /// The first position wanted; 0 for what comes from now on
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Ends after so many edits
        #[arg(long)]
        count: Option<usize>,
    },
    /// Brings in a file of records; run again after a break, it takes only what is not there yet
    Import(Import),
    /// Shows the permanent id, name and place of units, by code
    Units {
        /// Codes, each with a day if not today's is meant (00001@2025-06-30), or ids (u-…)
        #[arg(required = true)]
        units: Vec<String>,
    },
    /// Lists the fields of records and how their values are written
    Fields {
        /// person, household, site, unit, block or target; without it, all
        #[arg(value_parser = kind)]
        kind: Option<RecordKind>,
    },
    /// Writes all records of a unit as a file that import reads; after a break, begin anew
    Export {
        /// Whose records
        #[command(flatten)]
        of: ShardChoice,
        /// The file (.ndjson or .csv), which gets its name once it is whole; without it, or as -, the standard output
        #[arg(long, short)]
        output: Option<PathBuf>,
        /// ndjson or csv; without it, by the file's name
        #[arg(long, value_parser = format)]
        format: Option<Format>,
    },
    /// A receipt for others of an accepted request, signed by this site
    Receipt(receipt::Receipt),
    /// Who lives in a commune on a day, by age, as CSV: the roll of an election
    Roll(roll::Roll),
    /// Which sites hold an accepted request, by their signed words; waits for one if that is wished
    Held(held::Held),
    /// How many births, deaths, marriages and other events there were, by unit, day or month
    Figures(figures::Figures),
    /// How good the records are: correct, complete, clean and live, by commune
    Quality(quality::Quality),
    /// How many of an event a unit is to reach by a day
    #[command(subcommand)]
    Target(target::Target),
    /// The ledger of personal numbers: where those of each series are, and how long each commune's will last
    Numbers(numbers::Numbers),
    /// Who read what, for auditors
    AccessLog {
        /// The group (g-…); without it, all groups of the site
        #[arg(long)]
        group: Option<GroupId>,
        /// The first entry wanted
        #[arg(long, default_value_t = 1)]
        from: u64,
    },
    /// Adds what a running site accepted since the last backup to an archive, sealed
    Backup(Backup),
    /// Invents a population; needs no connection
    Generate(Generate),
    /// Looks after the site
    #[command(subcommand)]
    Site(Site),
    /// Says, at the central site, which administrative units there are beside those that are built in
    #[command(subcommand)]
    Unit(unit::Unit),
    /// Says, at the central site, which days are public holidays: deadlines are counted by them
    #[command(subcommand)]
    Holidays(holidays::Holidays),
}

/// What `find` takes.
#[derive(Debug, clap::Args)]
pub struct Find {
    /// The personal number (twelve digits), or the old identity number (nine)
    #[arg(long, conflicts_with_all = ["name", "born", "unit", "mother"])]
    number: Option<String>,
    /// The name in any order and spelling, or some of its words with the given name among them: lan, thị lan
    #[arg(long, requires = "born")]
    name: Option<String>,
    /// The birth date, its month or year (1990-03-08, 08/03/1990, 03/1990, 1990), or up to five years (1988..1992)
    #[arg(long, requires = "name")]
    born: Option<String>,
    /// Only whose home is there: a unit's code, code and day (02683@2025-06-30) or id (u-…)
    #[arg(long, requires = "name")]
    unit: Option<String>,
    /// Only whose mother has such a name, or a part of it
    #[arg(long, requires = "name")]
    mother: Option<String>,
    /// Goes on where a page ended, as it said
    #[arg(long, value_parser = mark)]
    after: Option<Mark>,
}

/// Where a page ended, as hex digits.
#[derive(Debug, Clone)]
pub struct Mark(Vec<u8>);

/// Which shard a command is about.
#[derive(clap::Args)]
pub struct ShardChoice {
    /// The shard (h-…); without it, the one of the caller's unit
    #[arg(long, conflicts_with = "unit")]
    shard: Option<ShardId>,
    /// The unit, by its code (00001), code and day (00001@2025-06-30) or id (u-…)
    #[arg(long)]
    unit: Option<String>,
}

/// What `edit` takes.
#[derive(clap::Args)]
pub struct Edit {
    /// The record (r-…), unless --create is given; then field=value or field[element]=value, a value at least once
    #[arg(required = true, value_name = "RECORD | FIELD=VALUE")]
    words: Vec<String>,
    /// Creates a record: person, household or site
    #[arg(long, value_parser = kind)]
    create: Option<RecordKind>,
    /// From when it holds in law; without it, from today
    #[arg(long)]
    valid_from: Option<String>,
    /// Why
    #[arg(long)]
    grounds: Option<String>,
    /// The shard of the new record (h-…); without it, the one of the caller's unit
    #[arg(long, requires = "create")]
    shard: Option<ShardId>,
    /// The request to do again, after an outcome that was not known (q-…/1)
    #[arg(long, value_parser = request)]
    request: Option<RequestId>,
}

/// What `import` takes.
#[derive(clap::Args)]
#[command(after_help = ABOUT_FILES)]
pub struct Import {
    /// The file: a table (.csv, .tsv, .xlsx) or NDJSON; - for the standard input
    file: PathBuf,
    /// Says what can be said without a node, and sends nothing
    #[arg(long, conflicts_with_all = ["rejected", "shard", "unit"])]
    check: bool,
    /// Writes the rejected rows, each with its reason, into a file that can be mended and imported by itself
    #[arg(long, value_name = "FILE")]
    rejected: Option<PathBuf>,
    /// A table with the columns `column` and `field`, which says what the file's columns are; `-` passes over one
    #[arg(long, value_name = "FILE")]
    columns: Option<PathBuf>,
    /// Passes over the column of that title; may be given several times
    #[arg(long, value_name = "TITLE")]
    ignore_column: Vec<String>,
    /// The sheet of a workbook, if it has several
    #[arg(long, value_name = "NAME")]
    sheet: Option<String>,
    /// The file's last line has no line end, and is whole all the same
    #[arg(long)]
    whole: bool,
    /// The name of the list that the rows' ids belong to, if other lists use the same ids; give it each time
    #[arg(long, value_name = "NAME", value_parser = list)]
    list: Option<String>,
    /// Takes rows whose personal number another record of the site has, with a warning for each
    #[arg(long)]
    allow_known_numbers: bool,
    /// The shard of all rows (h-…), whatever their home
    #[arg(long, conflicts_with = "unit")]
    shard: Option<ShardId>,
    /// The unit of all rows, whatever their home: its code (00001), code and day (00001@2025-06-30) or id (u-…)
    #[arg(long)]
    unit: Option<String>,
    /// Shows no progress
    #[arg(long, short)]
    quiet: bool,
}

/// What there is to know of files before the first is imported.
const ABOUT_FILES: &str = "\
A table has a first line that names its columns: the fields of `dinhba fields`, by name or Vietnamese label, and `kind`
(person, or household), `id` and `home` (00001@2025-06-30). Nothing is taken from a file whose structure is in doubt: a
quote without an end, a row with more or fewer cells than the header, an unknown column, a last line without an end.

A row with an `id` of its own (a number of the list) is registered once, and a later row of that id with other values is
refused. A row without one is known by what it says: the same row again is found to be there, a changed one is another
person. An id with @ in front is a name inside the file, by which other rows refer to it (household = @h1); but @r-… of
an extract is the row's own everywhere, and a record that is here already is not registered again.

Run the same import again after a break or Ctrl-C: it takes only what is not there yet.";

/// What `backup` takes.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Backup {
    #[command(subcommand)]
    look: Option<LookAtBackup>,
    /// The directory of the archive: one site's, nothing else in it
    #[arg(required = true)]
    archive: Option<PathBuf>,
}

/// What can be asked of an archive.
#[derive(Debug, clap::Subcommand)]
pub enum LookAtBackup {
    /// Reads every byte of an archive and lists its backups, or names file and place of the first damage; needs no connection
    Verify {
        /// The directory of the archive
        archive: PathBuf,
    },
}

/// What `generate` takes.
#[derive(Debug, clap::Args)]
pub struct Generate {
    /// Persons
    #[arg(long, default_value_t = 100)]
    persons: usize,
    /// The same seed gives the same people
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Their communes, by code and day (00001@2025-06-30); a code alone means today's unit
    #[arg(long, required = true, value_delimiter = ',')]
    units: Vec<String>,
    /// The file (.ndjson or .csv); without it, or as -, the standard output
    #[arg(long, short)]
    output: Option<PathBuf>,
    /// ndjson or csv; without it, by the file's name
    #[arg(long, value_parser = format)]
    format: Option<Format>,
}

/// What an operator asks.
#[derive(Debug, clap::Subcommand)]
pub enum Site {
    /// Makes a started node a learner of all groups: it receives everything and does not vote
    AddNode {
        /// The node (n-…)
        member: NodeId,
        /// Where the others reach it (host:port)
        address: String,
    },
    /// Makes a learner a voter
    PromoteNode {
        /// The node (n-…)
        member: NodeId,
    },
    /// Takes a node out for good; its id is never used again
    RemoveNode {
        /// The node (n-…)
        member: NodeId,
    },
    /// Hands the leadership of a group to another voter
    TransferLeader {
        /// The group (g-…)
        group: GroupId,
        /// The node (n-…)
        member: NodeId,
    },
    /// Takes a snapshot of every group now
    Snapshot,
    /// Raises the feature level of all groups by one
    RaiseLevel {
        /// The level, one above the present one
        level: u32,
    },
    /// The directory of the country's sites, as the site that is asked has it
    List,
    /// Adds a site below another: all sites of its way, and all below the one that is asked, learn of it
    AddChild {
        /// The unit that it will serve, by code and day (02683@2025-06-30); a code alone means today's unit
        #[arg(long)]
        unit: String,
        /// Its id (s-…), as in its nodes' certificates
        #[arg(long)]
        site: SiteId,
        /// The key that verifies what it signs: 64 hex digits
        #[arg(long, value_parser = verifying_key)]
        public_key: String,
        /// The site above it (s-…)
        #[arg(long)]
        parent: SiteId,
        /// Where a node of it is reached (host:port), if sites will be below it; may be given several times
        #[arg(long)]
        address: Vec<String>,
        /// Does it again, under a request whose outcome was not known
        #[arg(long, value_parser = request)]
        request: Option<RequestId>,
    },
    /// Gives a site another key; what it signed with the former ones stays signed
    Rekey {
        /// The site (s-…)
        site: SiteId,
        /// 64 hex digits
        #[arg(value_parser = verifying_key)]
        public_key: String,
    },
    /// Takes a key from a site: nothing that is signed with it alone is taken any more, also not what is old
    Revoke {
        /// The site (s-…)
        site: SiteId,
        /// 64 hex digits
        #[arg(value_parser = verifying_key)]
        public_key: String,
    },
    /// Links a site below another
    Move {
        /// The site (s-…)
        site: SiteId,
        /// The site above it from now on (s-…)
        #[arg(long)]
        parent: SiteId,
    },
    /// Says where the nodes of a site are reached, for those that will be below it
    Reach {
        /// The site (s-…)
        site: SiteId,
        /// host:port of its nodes
        #[arg(required = true)]
        addresses: Vec<String>,
    },
    /// Ends a site: it serves its unit no more, and what it wrote stays
    Retire {
        /// The site (s-…)
        site: SiteId,
    },
    /// Takes a parked author's edits again, from the neighbour that has them
    ReleaseAuthor {
        /// The shard (h-…)
        shard: ShardId,
        /// The author (a-…)
        author: AuthorId,
    },
}

fn verifying_key(text: &str) -> Result<String, String> {
    let small = text.to_lowercase();
    key(&small).map(|_| small)
}

fn key(text: &str) -> Result<[u8; 32], String> {
    key_of(&text.to_lowercase()).ok_or_else(|| "write the 64 hex digits of an Ed25519 key".to_owned())
}

fn kind(text: &str) -> Result<RecordKind, String> {
    RecordKind::named(text).ok_or_else(|| "write person, household, site, unit, block or target".to_owned())
}

fn request(text: &str) -> Result<RequestId, String> {
    parse_request(text).ok_or_else(|| "write it as it was printed: q-<32 hex digits>/<number>".to_owned())
}

fn mark(text: &str) -> Result<Mark, String> {
    show::bytes_of(text).map(Mark).ok_or_else(|| "write it as it was printed: hex digits".to_owned())
}

/// Letters of a list's name: it is typed again with each import.
const LIST_CHARS_MAX: usize = 100;

fn list(text: &str) -> Result<String, String> {
    let name = dinhba_core::text::tidy(text);
    let fits = (1..=LIST_CHARS_MAX).contains(&name.chars().count());
    if fits { Ok(name) } else { Err(format!("a list's name has 1 to {LIST_CHARS_MAX} letters")) }
}

fn format(text: &str) -> Result<Format, String> {
    Format::named(text).ok_or_else(|| "write ndjson or csv".to_owned())
}

/// Where a verb writes to, and how.
pub(crate) struct Desk<'a> {
    pub(crate) out: &'a mut (dyn Write + Send),
    pub(crate) err: &'a mut (dyn Write + Send),
    pub(crate) json: bool,
    /// The language of people.
    pub(crate) lang: Lang,
}

impl Desk<'_> {
    /// A table for people, one object for programs.
    fn show(&mut self, table: impl FnOnce(Lang) -> String, object: impl FnOnce() -> Json) -> Result<(), Failure> {
        if self.json {
            writeln!(self.out, "{}", object())?;
        } else {
            writeln!(self.out, "{}", table(self.lang).trim_end())?;
        }
        Ok(self.out.flush()?)
    }

    /// A remark for people.
    fn remark(&mut self, message: &Message) {
        if !self.json {
            // Nobody is left to be told if stderr is gone.
            let _ = writeln!(self.err, "{}", message.text(self.lang));
        }
    }

    /// What programs want to know beside the records that stand on the standard output.
    fn aside(&mut self, object: &Json) -> Result<(), Failure> {
        Ok(writeln!(self.err, "{object}")?)
    }

    fn fail(&mut self, failure: &Failure) -> Exit {
        let is_pipe = |error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
        match failure {
            // Whoever read has seen enough.
            Failure::Output(error) if is_pipe(error) => {}
            _ => self.say(failure),
        }
        failure.exit()
    }

    fn say(&mut self, failure: &Failure) {
        let _ = if self.json {
            writeln!(self.err, "{}", failure.json())
        } else {
            writeln!(self.err, "{}", show::plain(&failure.text(self.lang)))
        };
    }
}

/// The language that a command line or the environment asks for, as it is needed before the line is read.
#[must_use]
pub fn language_of(words: impl IntoIterator<Item = std::ffi::OsString>) -> Lang {
    let words: Vec<String> = words.into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
    // Programs are answered in English.
    if words.iter().any(|word| word == "--json") {
        return Lang::En;
    }
    Lang::of_words(words, &environment)
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Says what is wrong with a command line, or shows the help that it asks for; `words` are all of it, which tell who reads.
#[must_use]
pub fn misused(error: &clap::Error, words: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    let words: Vec<_> = words.into_iter().collect();
    let lang = language_of(words.iter().cloned());
    if error.use_stderr() && words.iter().any(|word| word == "--json") {
        eprintln!("{}", misuse(error).json());
    } else if lang != Lang::En
        && error.use_stderr()
        && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    {
        eprintln!("{}", help::misuse(error, lang));
    } else if let Err(unwritten) = error.print() {
        tracing::debug!(%unwritten, "nobody is left to be told");
    }
    if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() }
}

/// The first paragraph of what the parser says; what follows is the way the command is written.
fn misuse(error: &clap::Error) -> Failure {
    let text = error.to_string();
    let first = text.strip_prefix("error: ").unwrap_or(&text).split("\n\n").next().unwrap_or_default();
    Failure::usage(first.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Does what is asked, writes to the standard output and error, and returns the exit code (see the module).
pub async fn run(verb: Verb, connection: Connection) -> ExitCode {
    sheet::Paper::take();
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let lang = connection.lang.unwrap_or_else(|| Lang::of_environment(&environment));
    let mut desk = Desk { out: &mut out, err: &mut err, json: connection.json, lang };
    let done = async {
        if let Some(done) = verbs::here(&verb, &connection, &mut desk) {
            return done;
        }
        let (client, context) = connection.open(&environment)?;
        verbs::run(verb, &client, &context, &mut desk).await
    };
    let done = done.await;
    let exit = done.unwrap_or_else(|failure| desk.fail(&failure));
    exit.into()
}
