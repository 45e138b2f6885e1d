//! Brings a file of persons in, over one stream of edits.
//!
//! First the whole file is read and judged (`crate::import`), and nothing is sent of one whose structure is in doubt. Then the
//! site is asked whether it knows the personal numbers of the rows, and whether records that were exported are here. Then the
//! rows are sent, each as an edit of its own whose name the row gives, so importing the same rows again finds what was
//! accepted: after a break, run the same command again. In the end each row has a [`Fate`], and the sum of the fates is the
//! number of rows.
//!
//! The file of rejected rows is begun before anything is asked: what cannot be written is found out while nothing has been
//! done. What was done is said whatever becomes of that file afterwards.
//!
//! Limits: numbers are looked up at this site only, one logged search each; two officers who import the same number at the
//! same moment are not told.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dinhba_core::date::InstantMs;
use dinhba_core::ids::{RecordId, ShardId, UnitId};
use dinhba_core::units::Directory;
use dinhba_proto::v1;
use futures::{StreamExt, TryStreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value as Json, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::show::plain;
use super::{Desk, Exit, Failure, Import, export, wording};
use crate::ambient::{Ambient, Machine};
use crate::client::Client;
use crate::draft::DraftRecord;
use crate::error::Error;
use crate::import::plan::{Plan, Planned};
use crate::import::{Format, Problem, Reading, Records, Titles, take_bytes};
use crate::language::{Lang, Message, say};
use crate::request::{Context, EditBuilder, Find};
use crate::streams::Answered;

/// Problems that a summary lists; the others are counted. A file with more is wrong as a whole.
const PROBLEMS_MAX: usize = 1000;
/// Lines that a sentence names.
const LINES_SAID_MAX: usize = 20;
/// Edits that are read ahead of the stream.
const READ_AHEAD: usize = 16;
/// Searches under way at once: they share entries of the log, and leave most of the site's turns to others.
const LOOKUPS_AT_ONCE: usize = 32;

const AGAIN: &str = "run the same import again: it takes only what is not there yet";

/// Names of files that hold a table, but not as text with commas.
const OTHER_TABLES: [&str; 7] = ["xlsx", "xlsm", "xlsb", "xls", "ods", "tsv", "tab"];

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// Not sent: something is wrong with it, or with what it refers to.
    Bad,
    Accepted,
    /// Accepted before, by this row.
    AlreadyThere,
    /// The site refused it.
    Refused,
    /// Not sent, or sent and not answered.
    Unanswered,
}

/// Where the rows go.
enum Target {
    /// All to one shard.
    One(ShardId),
    /// Each to the shard of its home among these; without a home, to that of the caller's unit.
    ByHome { shards: BTreeMap<UnitId, ShardId>, own: Option<ShardId> },
}

fn unit_of(home: &str, directory: &Directory) -> Result<UnitId, String> {
    let text = "home is no known unit: write its code and a day on which it meant the unit (00001@2025-06-30)";
    export::unit_typed(directory, home).ok_or_else(|| text.to_owned())
}

impl Target {
    fn of_status(reply: &v1::StatusReply) -> Self {
        let shards = reply.groups.iter().flat_map(|group| &group.shards);
        let shards = shards.filter(|shard| !shard.ancestor);
        let shards = shards.filter_map(|shard| Some((shard.unit.parse().ok()?, shard.shard.parse().ok()?)));
        Target::ByHome { shards: shards.collect(), own: reply.home_shard.parse().ok() }
    }

    fn shard(&self, home: Option<&str>, directory: &Directory) -> Result<ShardId, String> {
        match (self, home) {
            (Target::One(shard), _) => Ok(*shard),
            (Target::ByHome { own, .. }, None) => own.ok_or_else(|| {
                "has no home, and you act for no commune of this site: give --unit, or a home to each row".to_owned()
            }),
            (Target::ByHome { shards, .. }, Some(home)) => {
                let shard = shards.get(&unit_of(home, directory)?);
                let text = "home is not kept by this site: import it there, or give --unit";
                shard.copied().ok_or_else(|| text.to_owned())
            }
        }
    }
}

/// What was said of rows, as far as a summary lists it.
#[derive(Default)]
struct Said {
    listed: Vec<Problem>,
    unlisted: u64,
}

impl Said {
    fn add(&mut self, problem: Problem, bar: &ProgressBar, desk: &mut Desk<'_>) {
        let said = Message::plain(plain(&Message::of_problem(&problem).text(desk.lang)));
        bar.suspend(|| desk.remark(&said));
        if self.listed.len() < PROBLEMS_MAX {
            self.listed.push(problem);
        } else {
            self.unlisted += 1;
        }
    }

    fn json(&self) -> Vec<Json> {
        self.listed.iter().map(|problem| json!({ "line": problem.line, "reason": problem.reason })).collect()
    }
}

fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn called(file: &Path) -> Message {
    if is_standard(file) { say!("the-standard-input") } else { Message::plain(file.display().to_string()) }
}

/// Reads the file, or says why not, before anything is asked of a site.
fn read(command: &Import) -> Result<Records, Failure> {
    let of = |path: &Path| {
        let what = called(path);
        move |error: io::Error| match error.kind() {
            io::ErrorKind::FileTooLarge => Failure::usage(error.to_string()),
            _ => Failure::File { what, error },
        }
    };
    let mut titles = match &command.columns {
        None => Titles::default(),
        Some(table) => {
            let bytes = File::open(table).and_then(take_bytes).map_err(of(table))?;
            Titles::read(&bytes).map_err(|problem| {
                let fault = Message::of_problem(&problem);
                Failure::usage(say!("fault-of-file", file = table.display(), fault = fault))
            })?
        }
    };
    command.ignore_column.iter().for_each(|title| titles.ignore(title));
    let bytes = match is_standard(&command.file) {
        true => take_bytes(io::stdin().lock()),
        false => File::open(&command.file).and_then(take_bytes),
    };
    let bytes = bytes.map_err(of(&command.file))?;
    let reading = Reading { titles, sheet: command.sheet.clone(), is_whole: command.whole };
    let named = Some(command.file.as_path()).filter(|file| !is_standard(file));
    Records::read(&bytes, named, &reading)
        .map_err(|problems| Failure::Doubtful { what: called(&command.file), problems })
}

/// Says everything that can be said of a file without a site.
pub(super) fn check(command: &Import, desk: &mut Desk<'_>) -> Result<Exit, Failure> {
    let records = read(command)?;
    let directory = export::directory()?;
    let place = |home: Option<&str>| home.map_or(Ok(0), |home| unit_of(home, &directory).map(|unit| unit.0));
    let mut plan = Plan::make(&records, &directory, &place, &list_of(command));
    plan.reject_early(&records, &directory, InstantMs(Machine::default().utc_ms()).date_in_vietnam());
    let columns = records.columns();
    if !columns.is_empty() {
        let taken = columns.iter().map(|column| column.as_deref().unwrap_or("-")).collect::<Vec<_>>().join(", ");
        desk.remark(&say!("columns-taken-for", columns = taken));
    }
    let mut said = Said::default();
    for problem in plan.problems() {
        said.add(problem, &ProgressBar::hidden(), desk);
    }
    remark_on_ids(&plan, &records, desk);
    let (rows, good) = (plan.rows.len(), plan.good().count());
    desk.show(
        |lang| say!("import-checked", rows = rows, good = good, bad = rows - good).text(lang),
        || {
            json!({
                "rows": rows, "good": good, "bad": rows - good, "columns": columns, "without_id": plan.without_id,
                "ids_as_numbers": records.ids_as_numbers(), "problems": said.json(), "problems_unlisted": said.unlisted,
            })
        },
    )?;
    Ok(if good == rows { Exit::Done } else { Exit::BadRows })
}

fn list_of(command: &Import) -> String {
    command.list.clone().unwrap_or_default()
}

fn remark_on_ids(plan: &Plan, records: &Records, desk: &mut Desk<'_>) {
    let numbers = records.ids_as_numbers();
    if numbers > 0 {
        desk.remark(&say!("ids-are-numbers", count = numbers));
    }
    if plan.without_id > 0 {
        desk.remark(&say!("rows-without-id", count = plan.without_id));
    }
}

/// Is done when somebody wants the program to end.
pub(super) async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let wait = |kind| async move {
        match signal(kind) {
            Ok(mut signal) => drop(signal.recv().await),
            // Then the signal ends the program at once, as it does without us.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = wait(SignalKind::interrupt()) => {}
        () = wait(SignalKind::terminate()) => {}
    }
}

pub(super) async fn run(
    command: Import,
    client: &Client,
    context: &Context,
    desk: &mut Desk<'_>,
    interrupted: impl Future<Output = ()>,
) -> Result<Exit, Failure> {
    let command = Arc::new(command);
    let reading = Arc::clone(&command);
    let records = Arc::new(blocking(move || read(&reading)).await??);
    let mut rejected = command.rejected.as_deref().map(|path| begin_rejected(path, &command, &records)).transpose()?;
    let directory = Arc::new(client.units().await?);
    let target = match wording::choose_shard(client, context, command.shard, command.unit.as_deref()).await? {
        Some(shard) => Target::One(shard),
        None => Target::of_status(&client.status(context).await?),
    };
    let mut plan = {
        let (records, list) = (Arc::clone(&records), list_of(&command));
        blocking(move || {
            let place = |home: Option<&str>| target.shard(home, &directory).map(|shard| shard.0);
            Plan::make(&records, &directory, &place, &list)
        })
        .await?
    };

    let mut interrupted = std::pin::pin!(interrupted);
    let bar = bar(desk.lang, plan.rows.len() as u64, command.quiet || desk.json);
    let mut done =
        Done { fates: Vec::new(), problems: Said::default(), warnings: Said::default(), refusals: BTreeMap::new() };
    let mut ending = None;
    let known = tokio::select! {
        biased;
        () = &mut interrupted => { ending = Some(Ending::Interrupted); Vec::new() }
        known = look_up(client, context, &plan, &bar) => match known {
            Ok(known) => known,
            Err(error) => { ending = Some(Ending::Broken(error.into())); Vec::new() }
        },
    };
    for (at, known) in known {
        match known {
            Known::Number(reason) if command.allow_known_numbers => {
                let line = plan.rows[at as usize].line;
                done.warnings.add(Problem { line, reason: format!("{reason}; taken all the same") }, &bar, desk);
            }
            Known::Number(reason) | Known::Record(reason) => plan.reject(at, reason),
        }
    }
    plan.hold_back();
    done.fates = plan.rows.iter().map(|row| if row.bad.is_some() { Fate::Bad } else { Fate::Unanswered }).collect();
    for problem in plan.problems() {
        done.problems.add(problem, &bar, desk);
    }
    remark_on_ids(&plan, &records, desk);

    let plan = Arc::new(plan);
    if ending.is_none() {
        bar.reset();
        let edits = Edits {
            records: Arc::clone(&records),
            plan: Arc::clone(&plan),
            context: context.clone(),
            authored_ms: client.ambient().utc_ms(),
        };
        ending = done.send(client, edits, interrupted, &bar, desk).await;
    }
    for (at, row) in plan.rows.iter().enumerate() {
        let is_refused = |other: &&u32| done.fates[**other as usize] == Fate::Refused;
        if let (Fate::Accepted, Some(other)) = (done.fates[at], row.refers_to.iter().find(is_refused)) {
            let reason =
                format!("was accepted, and refers to line {}, which was refused", plan.rows[*other as usize].line);
            done.problems.add(Problem { line: row.line, reason }, &bar, desk);
        }
    }
    bar.finish_and_clear();
    let written = match rejected.take() {
        Some(file) if done.rejected() > 0 => done.write_rejected(file, &records, &plan).map(Some),
        _ => Ok(None),
    };
    done.summarize(desk, &plan, &records, &written, ending.as_ref())?;
    match ending {
        Some(Ending::Interrupted) => Ok(Exit::Interrupted),
        Some(Ending::Broken(failure)) => Err(go_on(failure)),
        None => match written {
            Err(failure) => Err(failure),
            Ok(_) if done.rejected() > 0 => Ok(Exit::BadRows),
            Ok(_) if done.of(Fate::Unanswered) > 0 => Ok(Exit::Unknown),
            Ok(_) => Ok(Exit::Done),
        },
    }
}

/// A file of rejected rows that has a name, and is not written yet.
struct Rejected {
    path: PathBuf,
    file: export::Extract,
}

/// Begins the file of rejected rows, unless its name is that of something that is read, or of another form.
fn begin_rejected(path: &Path, command: &Import, records: &Records) -> Result<Rejected, Failure> {
    if is_standard(path) {
        return Err(Failure::usage(say!("rejected-takes-a-file")));
    }
    // Through which the standard input may be a file, too.
    let input = if is_standard(&command.file) { Path::new("/dev/stdin") } else { &command.file };
    let (written, part) = export::Extract::paths(path);
    let is_written = |read: &Path| {
        let Ok(read) = fs::canonicalize(read) else { return false };
        written == read || part.as_ref().and_then(|part| fs::canonicalize(part).ok()).is_some_and(|part| part == read)
    };
    if is_written(input) {
        return Err(Failure::usage(say!("rejected-over-imported")));
    }
    if command.columns.as_deref().is_some_and(is_written) {
        return Err(Failure::usage(say!("rejected-over-columns")));
    }
    let form = records.rejected_format();
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let is_other_table = OTHER_TABLES.iter().any(|other| extension.eq_ignore_ascii_case(other));
    if is_other_table || Format::of(path).is_some_and(|named| named != form) {
        return Err(Failure::usage(match form {
            Format::Ndjson => say!("rejected-is-ndjson", file = path.display()),
            Format::Csv => say!("rejected-is-csv", file = path.display()),
        }));
    }
    let file = export::Extract::begin(path).map_err(|error| Failure::of_file(path, error))?;
    Ok(Rejected { path: path.to_owned(), file })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Failure::other(error.to_string()))
}

fn bar(lang: Lang, rows: u64, is_hidden: bool) -> ProgressBar {
    if is_hidden || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = match lang {
        Lang::En => "{bar:40} {pos}/{len} rows, {per_sec}, {eta} left",
        Lang::Vi => "{bar:40} {pos}/{len} dòng, {per_sec}, còn {eta}",
    };
    let style = ProgressStyle::with_template(template);
    ProgressBar::new(rows).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// The same error with what an import does about it.
pub(super) fn go_on(failure: Failure) -> Failure {
    match failure {
        // The fault is said first, and once.
        Failure::Client(Error::Unreachable { text, fault: Some(fault) }) if text == fault.to_string() => {
            Error::Unreachable { text: AGAIN.to_owned(), fault: Some(fault) }.into()
        }
        Failure::Client(Error::Unreachable { text, fault }) => {
            Error::Unreachable { text: format!("{text}; {AGAIN}"), fault }.into()
        }
        Failure::Client(Error::OutcomeUnknown { request, text }) => {
            Error::OutcomeUnknown { request, text: format!("{text}; {AGAIN}") }.into()
        }
        other => other,
    }
}

/// Why an import ended before its last row.
enum Ending {
    Interrupted,
    Broken(Failure),
}

/// What a site knows of a row, and what to do.
enum Known {
    /// The record that it was exported as.
    Record(String),
    /// Another record with its personal number.
    Number(String),
}

/// Asks the site about rows whose personal number or exported record it may know; what it says against them.
async fn look_up(
    client: &Client,
    context: &Context,
    plan: &Plan,
    bar: &ProgressBar,
) -> Result<Vec<(u32, Known)>, Error> {
    let asked = plan.good().filter(|at| {
        let Planned { number, exported, .. } = &plan.rows[*at as usize];
        number.is_some() || exported.is_some()
    });
    let answers = stream::iter(asked).map(|at| async move {
        let known = known(client, context, plan, at).await;
        bar.inc(1);
        Ok(known?.map(|known| (at, known)))
    });
    answers.buffered(LOOKUPS_AT_ONCE).try_filter_map(|found| async { Ok(found) }).try_collect().await
}

async fn known(client: &Client, context: &Context, plan: &Plan, at: u32) -> Result<Option<Known>, Error> {
    let Planned { number, exported, .. } = &plan.rows[at as usize];
    if let Some(record) = exported {
        match client.get(context, *record).await {
            Ok(_) => {
                let text = format!("was exported as {record}, which is here: change that record with edit");
                return Ok(Some(Known::Record(text)));
            }
            Err(Error::Refused { code: Code::NotFound, .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let Some(number) = number else { return Ok(None) };
    let found = client.find(context, &Find::by_number(&number.to_string())).await?;
    let own = plan.record(at);
    let ids: Vec<RecordId> = found.records.iter().filter_map(|record| record.id.parse().ok()).collect();
    Ok(match ids.first() {
        Some(other) if !ids.contains(&own) => Some(Known::Number(format!(
            "its personal number is that of {other}: if that is the same person, change the record with edit; if not, find \
             out whose number it is, or register both with --allow-known-numbers"
        ))),
        _ => None,
    })
}

/// The second look at the rows: those that are sent become edits.
struct Edits {
    records: Arc<Records>,
    plan: Arc<Plan>,
    context: Context,
    authored_ms: i64,
}

impl Edits {
    fn read(&self, sender: &mpsc::Sender<v1::EditRequest>) {
        for (at, (_, row)) in (0..).zip(self.records.rows()) {
            if let (None, Ok(record)) = (&self.plan.rows[at as usize].bad, row) {
                // Nobody listens any more once the stream has ended.
                if sender.blocking_send(self.edit(at, record)).is_err() {
                    return;
                }
            }
        }
    }

    fn edit(&self, at: u32, mut record: DraftRecord) -> v1::EditRequest {
        record.link(|name| self.plan.find(name)).expect("a row that is sent refers to rows that are sent");
        let mut edit = EditBuilder::new(&self.context);
        edit.shard(ShardId(self.plan.rows[at as usize].place));
        let part = edit.create(record.kind);
        for entry in record.fields.iter().filter(|entry| !entry.text.is_empty()) {
            edit.set(part, &entry.field.to_string(), &entry.element, &entry.text);
        }
        edit.build(self.plan.request(at), self.authored_ms)
    }
}

/// What was done so far.
struct Done {
    fates: Vec<Fate>,
    problems: Said,
    warnings: Said,
    /// Why the site refused rows.
    refusals: BTreeMap<u32, String>,
}

impl Done {
    /// Sends the good rows, until all are answered or it ends otherwise.
    async fn send(
        &mut self,
        client: &Client,
        edits: Edits,
        mut interrupted: std::pin::Pin<&mut impl Future<Output = ()>>,
        bar: &ProgressBar,
        desk: &mut Desk<'_>,
    ) -> Option<Ending> {
        let plan = Arc::clone(&edits.plan);
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let reader = tokio::task::spawn_blocking(move || edits.read(&sender));
        let mut answers = std::pin::pin!(client.edit_many(ReceiverStream::new(receiver)));
        let mut sent = plan.good();
        loop {
            let answer = tokio::select! {
                biased;
                () = &mut interrupted => return Some(Ending::Interrupted),
                answer = answers.next() => answer,
            };
            let answered = match answer {
                None => break,
                Some(Err(error)) => return Some(Ending::Broken(error.into())),
                Some(Ok(answered)) => answered,
            };
            let Some(at) = sent.next().filter(|at| plan.request(*at) == answered.request) else {
                return Some(Ending::Broken(Error::Protocol("an answer to another row").into()));
            };
            if let Err(reason) = self.count(at, &plan, answered) {
                self.problems.add(Problem { line: plan.rows[at as usize].line, reason }, bar, desk);
            }
            bar.inc(1);
        }
        reader.await.err().map(|error| Ending::Broken(Failure::other(error.to_string())))
    }

    fn count(&mut self, at: u32, plan: &Plan, answered: Answered) -> Result<(), String> {
        let (row, record) = (&plan.rows[at as usize], plan.record(at));
        let fate = &mut self.fates[at as usize];
        match answered.outcome {
            // After a break the first acceptance may have been a moment ago.
            Ok(accepted) if accepted.replayed && !answered.resent => *fate = Fate::AlreadyThere,
            Ok(_) => *fate = Fate::Accepted,
            // Sent again after a break, and refused then: no row is called refused that may be there.
            Err(Error::OutcomeUnknown { text, .. }) => {
                return Err(format!("it is not known whether it was accepted: {AGAIN} ({text})"));
            }
            Err(error) => {
                *fate = Fate::Refused;
                let is_known = matches!(error, Error::Refused { code: Code::AlreadyExists, .. });
                let advice = match (is_known, row.has_own_id) {
                    (false, _) => String::new(),
                    (true, true) => format!(
                        "; a row with this id was imported before, by somebody else or with other values, as {record}: \
                         change that record with edit; if the id is another list's, give this list a name with --list"
                    ),
                    (true, false) => format!(
                        "; a row that says the same was imported before, by somebody else or with other references, as \
                         {record}: change that record with edit; if it is another person, give each row an id of its own"
                    ),
                };
                let reason = format!("refused: {error}{advice}");
                self.refusals.insert(at, reason.clone());
                return Err(reason);
            }
        }
        Ok(())
    }

    fn of(&self, wanted: Fate) -> usize {
        self.fates.iter().filter(|fate| **fate == wanted).count()
    }

    /// Rows that can be mended.
    fn rejected(&self) -> usize {
        self.of(Fate::Bad) + self.of(Fate::Refused)
    }

    /// Writes the rejected rows.
    fn write_rejected(&self, to: Rejected, records: &Records, plan: &Plan) -> Result<PathBuf, Failure> {
        let Rejected { path, mut file } = to;
        let of_file = |error| Failure::of_file(&path, error);
        let reason = |at: usize| {
            let refused = || self.refusals.get(&(at as u32)).cloned();
            plan.rows[at].bad.clone().or_else(refused)
        };
        // A row that was refused may be mended into another record.
        let find = |name: &str| plan.row(name).filter(|at| reason(*at as usize).is_none()).map(|at| plan.record(at));
        records.write_rejected(&mut file, &reason, &find).map_err(of_file)?;
        file.finish().map_err(of_file)?;
        Ok(path)
    }

    fn summarize(
        &self,
        desk: &mut Desk<'_>,
        plan: &Plan,
        records: &Records,
        written: &Result<Option<PathBuf>, Failure>,
        ending: Option<&Ending>,
    ) -> Result<(), Failure> {
        let [bad, accepted, already_there, refused, unanswered] =
            [Fate::Bad, Fate::Accepted, Fate::AlreadyThere, Fate::Refused, Fate::Unanswered].map(|fate| self.of(fate));
        let rows = plan.rows.len();
        let lines_there: Vec<u64> = (self.fates.iter().zip(&plan.rows))
            .filter(|(fate, _)| **fate == Fate::AlreadyThere)
            .map(|(_, row)| row.line)
            .take(PROBLEMS_MAX)
            .collect();
        let text = |lang| {
            let summary = say!(
                "imported",
                rows = rows,
                accepted = accepted,
                there = already_there,
                refused = refused,
                bad = bad,
            );
            let mut lines = vec![match unanswered {
                0 => summary,
                count => summary.then(say!("imported-unanswered", count = count)),
            }];
            if already_there > 0 && already_there < rows {
                let said: Vec<String> = lines_there.iter().take(LINES_SAID_MAX).map(u64::to_string).collect();
                let more = already_there > said.len();
                let said = said.join(", ");
                lines.push(match more {
                    true => say!("already-there-and-more", lines = said),
                    false => say!("already-there", lines = said),
                });
            }
            match (self.rejected() > 0, written) {
                (true, Ok(Some(path))) => lines.push(say!("rejected-rows-in", file = path.display())),
                (true, Err(failure)) => {
                    lines.push(say!(
                        "rejected-rows-unwritten",
                        failure = failure.message(),
                        again = Message::from(AGAIN)
                    ));
                }
                (true, Ok(None)) => lines.push(say!("mend-rejected-rows")),
                (false, _) => {}
            }
            if matches!(ending, Some(Ending::Interrupted)) {
                lines.push(say!("interrupted", again = Message::from(AGAIN)));
            }
            lines.iter().map(|line| line.text(lang)).collect::<Vec<_>>().join("\n")
        };
        let object = || {
            json!({
                "rows": rows, "accepted": accepted, "already_there": already_there, "refused": refused, "bad": bad,
                "unanswered": unanswered, "already_there_lines": lines_there, "without_id": plan.without_id,
                "ids_as_numbers": records.ids_as_numbers(), "problems": self.problems.json(),
                "problems_unlisted": self.problems.unlisted, "warnings": self.warnings.json(),
                "warnings_unlisted": self.warnings.unlisted, "rejected_file": written.as_ref().ok().and_then(Option::as_ref),
                "rejected_failure": written.as_ref().err().map(ToString::to_string),
                "interrupted": matches!(ending, Some(Ending::Interrupted)),
            })
        };
        desk.show(text, object)
    }
}
