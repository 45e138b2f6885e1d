//! How a verb ended: its exit code, and what people and programs are told if it did not end well.

use std::process::ExitCode;

use serde_json::{Value as Json, json};
use tonic::Code;

use super::show;
use crate::archive::ArchiveError;
use crate::error::{Error, Problem};
use crate::import as files;
use crate::language::{Lang, Message, say};

/// The exit codes, for the end of the help of the top command.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  anything else, such as a full disk
  2  wrong usage, or input that breaks a rule; nothing changed
  3  denied: the caller's role or unit does not allow it
  4  no such record, shard or group here
  5  stale: somebody else was faster, or the record exists already
  6  no node could be reached; nothing was accepted
  7  the outcome is not known: do the same again, under the same request
  8  a file was imported but for some rows
  9  status: the node is not well; why is in the first line
 10  held: nobody of that tier holds it yet
130  interrupted; what was done until then is said";

/// How a verb ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Anything that has no code of its own.
    Other = 1,
    /// Wrong usage or invalid input.
    Usage = 2,
    /// Not allowed.
    Denied = 3,
    /// Not there.
    NotFound = 4,
    /// Somebody else was faster.
    Stale = 5,
    /// Nobody reached, nothing accepted.
    Unreachable = 6,
    /// Perhaps accepted.
    Unknown = 7,
    /// Some rows of a file were not taken.
    BadRows = 8,
    /// The node that was asked is not well.
    Unwell = 9,
    /// What was waited for has not come.
    NotYet = 10,
    /// Somebody wanted it to end.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

impl Exit {
    /// The code that an error of the client ends with.
    #[must_use]
    pub fn of(error: &Error) -> Self {
        match error {
            Error::Stale(_) => Exit::Stale,
            Error::Unreachable { .. } => Exit::Unreachable,
            Error::OutcomeUnknown { .. } => Exit::Unknown,
            Error::Protocol(_) => Exit::Other,
            Error::Refused { code, .. } => match code {
                Code::InvalidArgument | Code::OutOfRange => Exit::Usage,
                Code::PermissionDenied | Code::Unauthenticated => Exit::Denied,
                Code::NotFound => Exit::NotFound,
                Code::Aborted | Code::AlreadyExists => Exit::Stale,
                _ => Exit::Other,
            },
        }
    }
}

/// Why a verb did not end well.
#[derive(Debug)]
pub(crate) enum Failure {
    Client(Error),
    Usage(Message),
    File {
        what: Message,
        error: std::io::Error,
    },
    /// A file whose structure is in doubt.
    Doubtful {
        what: Message,
        problems: Vec<files::Problem>,
    },
    Archive(ArchiveError),
    /// What is written to has gone away, or is full.
    Output(std::io::Error),
    Other(Message),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Client(error)
    }
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        Failure::Archive(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::Output(error)
    }
}

/// In English, as programs get it.
impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message().text(Lang::En))
    }
}

impl Failure {
    pub(super) fn usage(text: impl Into<Message>) -> Self {
        Failure::Usage(text.into())
    }

    pub(super) fn other(text: impl Into<Message>) -> Self {
        Failure::Other(text.into())
    }

    /// Of a file, by its path.
    pub(super) fn of_file(path: &std::path::Path, error: std::io::Error) -> Self {
        Failure::File { what: Message::plain(path.display().to_string()), error }
    }

    pub(crate) fn message(&self) -> Message {
        match self {
            Failure::Client(error) => error.message(),
            Failure::Usage(message) | Failure::Other(message) => message.clone(),
            Failure::File { what, error } => {
                say!("failure-file", what = what.clone(), error = Message::from(error.to_string()))
            }
            Failure::Doubtful { what, problems } => {
                let line = |problem| Message::plain("\n  ").then(Message::of_problem(problem));
                let listed = Message::row(problems.iter().map(line));
                say!("failure-doubtful", what = what.clone(), problems = listed)
            }
            Failure::Archive(error) => error.to_string().into(),
            Failure::Output(error) => say!("failure-output", error = Message::from(error.to_string())),
        }
    }

    pub(super) fn exit(&self) -> Exit {
        match self {
            Failure::Client(error) => Exit::of(error),
            Failure::Usage(_) | Failure::Doubtful { .. } => Exit::Usage,
            // Files in a directory are what was given, and nothing changed.
            Failure::Archive(error) if !matches!(error, ArchiveError::Io { .. } | ArchiveError::Busy { .. }) => {
                Exit::Usage
            }
            Failure::Archive(_) => Exit::Other,
            Failure::File { .. } | Failure::Output(_) | Failure::Other(_) => Exit::Other,
        }
    }

    /// For people: what is wrong, and of several things each.
    pub(super) fn text(&self, lang: Lang) -> String {
        let mut text = self.message().text(lang);
        match self {
            Failure::Client(Error::Refused { problems, .. }) if problems.len() > 1 => {
                for problem in problems {
                    let (place, said) = (problem.place_in(lang), problem.text_in(lang));
                    // In English what is wrong is told behind its place, whatever it begins with.
                    let is_told = place.is_empty() || (lang != Lang::En && said.starts_with(&place));
                    text.push_str(&if is_told { format!("\n  {said}") } else { format!("\n  {place}: {said}") });
                }
            }
            Failure::Client(Error::Stale(stale)) => text.push_str(&format!("\n  dinhba get {}", stale.record)),
            _ => {}
        }
        text
    }

    pub(super) fn json(&self) -> Json {
        let name = match self.exit() {
            Exit::Usage => "invalid",
            Exit::Denied => "denied",
            Exit::NotFound => "not_found",
            Exit::Stale => "stale",
            Exit::Unreachable => "unreachable",
            Exit::Unknown => "outcome_unknown",
            Exit::Done | Exit::Other | Exit::BadRows | Exit::Unwell | Exit::NotYet | Exit::Interrupted => "other",
        };
        let mut object = json!({ "error": name, "message": self.to_string() });
        match self {
            Failure::Client(Error::Stale(stale)) => {
                object["record"] = json!(stale.record);
                object["fields"] = stale.fields.iter().map(show::moved_json).collect();
                object["more"] = json!(stale.more);
            }
            Failure::Client(Error::Refused { problems, .. }) if !problems.is_empty() => {
                let problem = |problem: &Problem| json!({ "field": problem.field, "problem": problem.text });
                object["problems"] = problems.iter().map(problem).collect();
            }
            Failure::Client(Error::OutcomeUnknown { request: Some(request), .. }) => {
                object["request"] = json!(request.to_string());
            }
            Failure::Doubtful { problems, .. } => {
                let listed = problems.iter().map(|found| json!({ "line": found.line, "reason": found.reason }));
                object["problems"] = listed.collect();
            }
            _ => {}
        }
        object
    }
}
