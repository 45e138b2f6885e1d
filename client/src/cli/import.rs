//! Brings a file of records in, over one stream of edits.
//!
//! The session is named by the content of the file and each edit by its line, so importing the same file again sends the
//! same requests, and what was accepted is found to be there: after a break, run the same command again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dinhba_core::date::Date;
use dinhba_core::ids::{RequestId, SessionId, ShardId, UnitId};
use dinhba_core::units::{Directory, Resolve};
use dinhba_proto::v1;
use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::rows::{Groups, Piece, Plan, Problem};
use super::show::{plain, session_hex};
use super::{Desk, Exit, Failure, Import, export, verbs};
use crate::client::Client;
use crate::error::Error;
use crate::generate::DraftRecord;
use crate::request::{Context, EditBuilder};
use crate::streams::Answered;

/// Problems that a summary lists; the others are counted. A file with more is wrong as a whole.
const PROBLEMS_MAX: usize = 1000;
/// Edits that are read ahead of the stream.
const READ_AHEAD: usize = 16;

/// The session of a file: the same for the same content.
fn session_of(path: &Path) -> std::io::Result<SessionId> {
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut std::fs::File::open(path)?, &mut hasher)?;
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    Ok(SessionId(id))
}

/// Where the rows go.
#[derive(Debug, Clone)]
enum Target {
    /// All to one shard.
    One(ShardId),
    /// Each to the shard of its home among these; without a home, to the shard of the caller's unit.
    ByHome(BTreeMap<UnitId, ShardId>),
}

impl Target {
    fn shard(&self, home: Option<&str>, directory: &Directory) -> Result<Option<ShardId>, String> {
        match (self, home) {
            (Target::One(shard), _) => Ok(Some(*shard)),
            (Target::ByHome(_), None) => Ok(None),
            (Target::ByHome(shards), Some(home)) => {
                let by_code = || {
                    let (code, day) = home.split_once('@')?;
                    directory.unit(code, day.parse::<Date>().ok()?)
                };
                let unit: UnitId = home.parse().ok().or_else(by_code).ok_or(
                    "home is no known unit: write its code and a day on which it meant the unit (00001@2025-06-30)",
                )?;
                let shard =
                    shards.get(&unit).ok_or("home is not kept by this site: import it there, or give --unit")?;
                Ok(Some(*shard))
            }
        }
    }

    fn of_status(reply: &v1::StatusReply) -> Self {
        let shards = reply.groups.iter().flat_map(|group| &group.shards);
        Target::ByHome(shards.filter_map(|shard| Some((shard.unit.parse().ok()?, shard.shard.parse().ok()?))).collect())
    }
}

#[derive(Debug, Default)]
struct Tally {
    accepted: u64,
    already_there: u64,
    refused: u64,
    problems: Vec<Problem>,
    problems_unlisted: u64,
    /// Counters of edits that the site refused.
    refused_edits: BTreeSet<u64>,
}

impl Tally {
    fn problem(&mut self, line: u64, reason: String, bar: &ProgressBar, desk: &mut Desk<'_>) {
        bar.suspend(|| desk.remark(&plain(&format!("line {line}: {reason}"))));
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem { line, reason });
        } else {
            self.problems_unlisted += 1;
        }
    }
}

pub(super) async fn run(
    command: Import,
    client: &Client,
    context: &Context,
    desk: &mut Desk<'_>,
) -> Result<Exit, Failure> {
    let Import { file, shard, unit, session, quiet } = command;
    let what = file.display().to_string();
    let of_file = |error| Failure::File { what: what.clone(), error };
    let target = match verbs::choose_shard(client, context, shard, unit.as_deref()).await? {
        Some(shard) => Target::One(shard),
        None => Target::of_status(&client.status(context).await?),
    };
    let directory = Arc::new(export::directory()?);
    let session = match session {
        Some(session) => session,
        None => session_of(&file).map_err(of_file)?,
    };

    let plan = {
        let (file, directory, target) = (file.clone(), Arc::clone(&directory), target.clone());
        blocking(move || {
            let check_home = |home: Option<&str>| target.shard(home, &directory).err();
            Ok(Plan::make(Groups::open(&file)?, &directory, &check_home))
        })
        .await?
        .map_err(of_file)?
    };
    let plan = Arc::new(plan);
    let bar = bar(plan.rows, quiet || desk.json);
    let mut tally = Tally::default();
    for Problem { line, reason } in &plan.problems {
        tally.problem(*line, reason.clone(), &bar, desk);
    }

    let edits = Edits {
        file,
        plan: Arc::clone(&plan),
        session,
        target: target.clone(),
        directory,
        context: context.clone(),
        authored_ms: client.ambient().utc_ms(),
    };
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    let reader = tokio::task::spawn_blocking(move || edits.read(&sender));
    let mut answers = std::pin::pin!(client.edit_many(ReceiverStream::new(receiver)));
    let mut broken = None;
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(answered) => {
                let counter = answered.request.counter;
                let rows = plan.edits.get(&counter).map_or(0, |planned| u64::from(planned.rows));
                if let Err(reason) = tally.count(answered, rows, &target) {
                    tally.problem(counter, reason, &bar, desk);
                }
                bar.inc(rows);
            }
            Err(error) => broken = Some(error),
        }
    }
    if broken.is_none() {
        reader.await.map_err(|error| Failure::Other(error.to_string()))?.map_err(of_file)?;
    }
    for (counter, planned) in &plan.edits {
        let Some(other) = planned.refers_to.iter().find(|other| tally.refused_edits.contains(other)) else { continue };
        if planned.bad.is_none() && !tally.refused_edits.contains(counter) {
            let reason = format!("was accepted, and refers to a row of the refused edit of line {other}");
            tally.problem(*counter, reason, &bar, desk);
        }
    }
    bar.finish_and_clear();
    summarize(desk, &plan, &tally, session, broken.is_some())?;
    match broken {
        Some(error) => Err(go_on(error)),
        None if plan.rows_bad() > 0 || tally.refused > 0 || !tally.problems.is_empty() => Ok(Exit::BadRows),
        None => Ok(Exit::Done),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Failure::Other(error.to_string()))
}

fn bar(rows: u64, is_hidden: bool) -> ProgressBar {
    if is_hidden || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} rows, {per_sec}, {eta} left");
    ProgressBar::new(rows).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// The same error with what an import does about it.
fn go_on(error: Error) -> Failure {
    const AGAIN: &str = "run the same import again: it goes on where it stopped";
    Failure::Client(match error {
        Error::Unreachable { text, fault } => Error::Unreachable { text: format!("{text}; {AGAIN}"), fault },
        Error::OutcomeUnknown { request, text } => Error::OutcomeUnknown { request, text: format!("{text}; {AGAIN}") },
        error => error,
    })
}

impl Tally {
    /// Counts an answer; says what is odd about it.
    fn count(&mut self, answered: Answered, rows: u64, target: &Target) -> Result<(), String> {
        let Answered { request, resent, outcome } = answered;
        let accepted = match outcome {
            Ok(accepted) => accepted,
            // Sent again after a break, and refused then: no row is called refused that may be there.
            Err(Error::OutcomeUnknown { text, .. }) => {
                return Err(format!("it is not known whether its {rows} rows were accepted: import again ({text})"));
            }
            Err(error) => {
                self.refused += rows;
                self.refused_edits.insert(request.counter);
                return Err(format!("refused, with all {rows} rows of the same edit: {error}"));
            }
        };
        // After a break the first acceptance may have been a moment ago.
        if accepted.replayed && !resent {
            self.already_there += rows;
        } else {
            self.accepted += rows;
        }
        let receipt = &accepted.receipt;
        if u64::from(receipt.count) != rows {
            return Err(format!(
                "this edit was accepted before with {} rows, and now has {rows}: import the others in a file of their own",
                receipt.count
            ));
        }
        match target {
            Target::One(shard) if receipt.shard.parse() != Ok(*shard) => {
                Err(format!("is already in shard {}: to have it in two, give --session anew", receipt.shard))
            }
            _ => Ok(()),
        }
    }
}

/// The second reading: edits, in the order of the file.
struct Edits {
    file: PathBuf,
    plan: Arc<Plan>,
    session: SessionId,
    target: Target,
    directory: Arc<Directory>,
    context: Context,
    authored_ms: i64,
}

impl Edits {
    fn read(&self, sender: &mpsc::Sender<v1::EditRequest>) -> std::io::Result<()> {
        for piece in Groups::open(&self.file)? {
            let Piece::Group(group) = piece else { continue };
            let request = RequestId { session: self.session, counter: group.counter() };
            let Some(rows) = self.plan.linked(self.session, group) else { continue };
            let edit = self.edit(request, &rows);
            // Nobody listens any more once the stream has ended.
            if sender.blocking_send(edit).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn edit(&self, request: RequestId, rows: &[DraftRecord]) -> v1::EditRequest {
        let mut edit = EditBuilder::new(&self.context);
        let home = rows.first().and_then(|row| row.home.as_deref());
        if let Ok(Some(shard)) = self.target.shard(home, &self.directory) {
            edit.shard(shard);
        }
        for row in rows {
            let part = edit.create(row.kind);
            for entry in row.fields.iter().filter(|entry| !entry.text.is_empty()) {
                edit.set(part, &entry.field.to_string(), &entry.element, &entry.text);
            }
        }
        edit.build(request, self.authored_ms)
    }
}

fn summarize(
    desk: &mut Desk<'_>,
    plan: &Plan,
    tally: &Tally,
    session: SessionId,
    is_broken: bool,
) -> Result<(), Failure> {
    let (rows, bad, session) = (plan.rows, plan.rows_bad(), session_hex(session));
    let unanswered = rows - bad - tally.accepted - tally.already_there - tally.refused;
    let text = || {
        let mut text = format!(
            "{rows} rows: {} accepted, {} already there, {} refused, {bad} bad",
            tally.accepted, tally.already_there, tally.refused
        );
        if is_broken {
            text.push_str(&format!(", {unanswered} not answered"));
        }
        if bad + tally.refused > 0 {
            text.push_str(&format!(
                "\nmend them in their places, leave all other lines where they are, and import again with --session {session}"
            ));
        }
        text
    };
    let problems = || {
        tally
            .problems
            .iter()
            .map(|problem| json!({ "line": problem.line, "reason": problem.reason }))
            .collect::<Vec<_>>()
    };
    let object = || {
        json!({
            "rows": rows, "accepted": tally.accepted, "already_there": tally.already_there, "refused": tally.refused,
            "bad": bad, "unanswered": unanswered, "session": session, "problems": problems(),
            "problems_unlisted": tally.problems_unlisted,
        })
    };
    desk.show(text, object)
}
