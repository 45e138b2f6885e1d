//! The gRPC services: they parse a request to domain types, resolve the caller to claims, decide, propose or read, and
//! turn what came of it into replies and statuses.

mod backup;
mod convert;
mod find;
mod link;
mod records;
mod site;

use dinhba_core::access::{Action, decide};
use dinhba_core::claims::{Case, Claims, Identity, Purpose};
use dinhba_core::command::{Refusal, RefusalCode};
use dinhba_core::ids::UnitId;
use dinhba_core::inject::is_armed;
use dinhba_core::store::StoreError;
use dinhba_proto::v1;
use tonic::{Code, Request, Status};

pub use link::LinkService;
pub use records::RecordsService;
pub use site::SiteService;

use crate::hosted::ProposalFailed;
use crate::node::Shared;
use crate::pki::peer_identity;

/// A caller of the records or site service: who, why, for which case.
#[derive(Debug, Clone)]
struct Caller {
    claims: Claims,
    purpose: Purpose,
    case: Case,
}

impl Caller {
    /// Resolves the connection's identity and the request's context.
    fn resolve<T>(request: &Request<T>, context: Option<&v1::Context>) -> Result<Self, Status> {
        let claims = person(request)?;
        Caller::with(claims, context)
    }

    fn with(claims: Claims, context: Option<&v1::Context>) -> Result<Self, Status> {
        let invalid = |error: dinhba_core::claims::ClaimsError| Status::invalid_argument(format!("context: {error}"));
        let (purpose, case) = context.map_or(("", ""), |context| (&context.purpose, &context.case));
        Ok(Caller { claims, purpose: purpose.parse().map_err(invalid)?, case: case.parse().map_err(invalid)? })
    }

    /// Decides at the door; the registry decides again.
    fn may(&self, action: Action, place: &[UnitId]) -> Result<(), Status> {
        decide(&self.claims, action, place).map_err(|denied| Status::permission_denied(denied.to_string()))
    }
}

/// The person who sent a request.
fn person<T>(request: &Request<T>) -> Result<Claims, Status> {
    match peer_identity(request)? {
        Identity::Person(claims) => Ok(claims),
        Identity::Node { .. } => {
            Err(Status::permission_denied("nodes do not ask for records: use a person's identity"))
        }
    }
}

/// A proposal without an answer, as the caller is told.
fn failed(error: ProposalFailed) -> Status {
    match error {
        ProposalFailed::Overloaded => Status::resource_exhausted(error.to_string()),
        ProposalFailed::NotAccepted(_) => Status::unavailable(error.to_string()),
        ProposalFailed::Unknown(_) => Status::unknown(error.to_string()),
        ProposalFailed::Store(error) => broken(&error),
    }
}

/// This node's storage failed: it stops serving until an operator looks.
fn broken(error: &StoreError) -> Status {
    Status::unavailable(format!("this node's storage: {error}; ask another node of the site"))
}

/// A status of the transport's for a message that could not be read, with the code and the advice that a refusal has: there
/// was nothing in it that could have been accepted.
pub(crate) fn unread(status: Status) -> Status {
    const UNREADABLE: [&str; 3] = ["failed to decode", "protocol error: received message", "Unexpected EOF decoding"];
    let text = status.message();
    let advice = match status.code() {
        Code::Internal if UNREADABLE.iter().any(|start| text.starts_with(start)) => {
            "send a message as the .proto files say, with texts in UTF-8"
        }
        Code::OutOfRange if text.contains("too large") => "split it",
        _ => return status,
    };
    Status::invalid_argument(format!("the message cannot be read ({text}): {advice}"))
}

/// A refusal that all replicas agree on.
fn refused(refusal: &Refusal) -> Status {
    let code = match refusal.code {
        RefusalCode::Denied => Code::PermissionDenied,
        RefusalCode::Unknown => Code::NotFound,
        RefusalCode::Invalid => Code::InvalidArgument,
        RefusalCode::Level => Code::FailedPrecondition,
        RefusalCode::Exists => Code::AlreadyExists,
    };
    Status::new(code, &refusal.text)
}

/// An id in its text form.
fn id<T: std::str::FromStr<Err: std::fmt::Display>>(what: &str, text: &str) -> Result<T, Status> {
    text.parse().map_err(|error: T::Err| Status::invalid_argument(format!("{what}: {error}")))
}

/// Whether the groups run yet.
fn started(shared: &Shared) -> Result<(), Status> {
    if shared.hosted().next().is_some() {
        return Ok(());
    }
    Err(Status::unavailable("the node is starting; nothing was accepted, try again in a moment"))
}

/// Whether this node can tell what there is from what there is not: callers believe a refusal.
fn ready(shared: &Shared) -> Result<(), Status> {
    if shared.has_caught_up() || is_armed("answer-before-caught-up") {
        return Ok(());
    }
    started(shared)?;
    Err(Status::unavailable("the node has not caught up with its site yet; nothing was accepted, ask another one"))
}
