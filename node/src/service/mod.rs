//! The gRPC services: they parse a request to domain types, resolve the caller to claims, decide, propose or read, and
//! turn what came of it into replies and statuses.

pub(crate) mod answer;
mod backup;
mod convert;
mod directory;
mod find;
mod levels;
mod link;
mod marks;
mod records;
mod site;

use std::fmt::Display;
use std::sync::Arc;

use dinhba_core::access::{Action, decide};
use dinhba_core::access_log::{AccessEntry, Looked};
use dinhba_core::claims::{Case, Claims, Identity, Purpose};
use dinhba_core::edit::Origin;
use dinhba_core::ids::{GroupId, RequestId, ShardId, UnitId};
use dinhba_core::inject::is_armed;
use dinhba_core::place::Place;
use dinhba_proto::v1;
use tonic::{Request, Status};

use answer::{Problem, broken, denied, elsewhere, invalid, no_shard, not_accepted, not_found, wrong};

pub use link::LinkService;
pub use records::RecordsService;
pub use site::SiteService;

use crate::health::LEFT;
use crate::hosted::{Hosted, PROPOSE_WAIT};
use crate::pki::peer_identity;
use crate::runtime;
use crate::shared::Shared;

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

    /// What an edit of the caller's says of where it comes from, received now.
    fn origin(&self, request: RequestId, authored_ms: i64) -> Origin {
        let Caller { claims, purpose, case } = self.clone();
        Origin { request, claims, purpose, case, authored_ms, received_ms: runtime::utc_ms() }
    }

    fn with(claims: Claims, context: Option<&v1::Context>) -> Result<Self, Status> {
        let mut problems = Vec::new();
        match context_from_wire(context, &mut problems) {
            Some((purpose, case)) => Ok(Caller { claims, purpose, case }),
            None => Err(invalid(problems)),
        }
    }

    /// Decides at the door, by the highest level that the node works at; the registry decides again, by the group's.
    fn may(&self, level_max: u16, action: Action, place: &[UnitId]) -> Result<(), Status> {
        decide(level_max, &self.claims, action, place).map_err(denied)
    }

    /// What the access log says of what the caller does now.
    fn entry(&self, looked: Looked, shard: Option<ShardId>, subject: [u8; 16]) -> AccessEntry {
        let Caller { claims, purpose, case } = self.clone();
        AccessEntry { claims, purpose, case, looked, shard, subject, at_ms: runtime::utc_ms() }
    }
}

/// The person who sent a request.
fn person<T>(request: &Request<T>) -> Result<Claims, Status> {
    match peer_identity(request)? {
        Identity::Person(claims) => Ok(claims),
        Identity::Node { .. } => Err(denied("nodes do not ask for records: use a person's identity")),
    }
}

/// Why a request is made; none if it does not say, and then what is wrong.
fn context_from_wire(context: Option<&v1::Context>, problems: &mut Vec<Problem>) -> Option<(Purpose, Case)> {
    let (purpose, case) = context.map_or(("", ""), |context| (&context.purpose, &context.case));
    let purpose = keep(problems, "context.purpose", purpose.parse());
    let case = keep(problems, "context.case", case.parse());
    purpose.zip(case)
}

/// The value, or one problem more.
fn keep<T, E: Display>(problems: &mut Vec<Problem>, field: impl Into<String>, read: Result<T, E>) -> Option<T> {
    read.map_err(|error| problems.push(Problem::new(field, error))).ok()
}

/// An id or a day in its text form.
fn id<T: std::str::FromStr<Err: std::fmt::Display>>(what: &str, text: &str) -> Result<T, Status> {
    text.parse().map_err(|error: T::Err| wrong(what, format!("{what}: {error}")))
}

/// Whether the groups run yet.
fn started(shared: &Shared) -> Result<(), Status> {
    if shared.hosted().next().is_some() {
        return Ok(());
    }
    Err(not_accepted("the node is starting; nothing was accepted, try again in a moment"))
}

/// Whether this node serves: not one that was removed, nor one that has only just started. That one may not have read the
/// directory yet, by whose units and blocks of numbers the door refuses an edit for good, and it would keep callers waiting whom
/// another node answers at once.
///
/// It is no proof that this replica is up to date: one that was may have fallen behind since. Who says that something is
/// not there asks [`up_to_date`].
fn ready(shared: &Shared) -> Result<(), Status> {
    if shared.has_left() {
        return Err(not_accepted(format!("{LEFT}; nothing was accepted, ask another node of the site")));
    }
    if shared.has_caught_up() {
        return Ok(());
    }
    started(shared)?;
    let advice = if shared.has_others() { "ask another one" } else { "try again in a moment" };
    Err(not_accepted(format!("the node has not caught up with its site yet; nothing was accepted, {advice}")))
}

/// Brings this replica of a group up to date with its site. Before it says that something is not there: callers believe that, and
/// what was accepted by way of another node a moment ago may not have come here yet.
async fn up_to_date(hosted: &Hosted) -> Result<(), Status> {
    if is_armed("not-found-local") {
        return Ok(());
    }
    hosted.group.barrier(PROPOSE_WAIT).await.map(|_| ()).map_err(not_accepted)
}

/// The same for the directory.
async fn up_to_date_place(shared: &Shared) -> Result<(), Status> {
    if let Some(first) = shared.site_group() {
        up_to_date(first).await?;
        shared.refresh_place().map_err(|error| broken(&error))?;
    }
    Ok(())
}

/// The directory, if it is whole: who knows only a part of it takes a shard for nowhere that is with another node. Groups
/// are listed when a site is founded, and no more are added.
async fn whole_place(shared: &Shared) -> Result<Arc<Place>, Status> {
    if !shared.is_founded() {
        started(shared)?;
        up_to_date_place(shared).await?;
    }
    let place = shared.place();
    if place.groups.is_empty() {
        return Err(not_accepted("the site is not founded yet; nothing was accepted, try again in a moment"));
    }
    Ok(place)
}

/// The group here that hosts a shard. That there is none is only said by a directory that is up to date, since a caller believes
/// it: shards are taken in while a site runs, and this replica may not have heard of it.
async fn host_of(shared: &Shared, shard: ShardId) -> Result<&Hosted, Status> {
    if let Some(hosted) = shared.host_of(shard) {
        return Ok(hosted);
    }
    whole_place(shared).await?;
    up_to_date_place(shared).await?;
    shared.host_of(shard).ok_or_else(|| match shared.place().shards.get(&shard) {
        Some(entry) => elsewhere(shared, entry.group, format!("shard {shard}")),
        None => no_shard(shard),
    })
}

/// Refuses what only a node with all groups of the site can answer: what lies with another would be missing, and nobody
/// would see that it is.
async fn all_groups_here(shared: &Shared) -> Result<(), Status> {
    let place = whole_place(shared).await?;
    match place.groups.keys().find(|group| shared.group(**group).is_none()) {
        Some(group) => Err(elsewhere(shared, *group, "a part of the site's records")),
        None => Ok(()),
    }
}

/// A group that runs here.
async fn group_here(shared: &Shared, group: GroupId) -> Result<&Hosted, Status> {
    if let Some(hosted) = shared.group(group) {
        return Ok(hosted);
    }
    match whole_place(shared).await?.groups.contains_key(&group) {
        true => Err(elsewhere(shared, group, "what is asked")),
        false => Err(not_found(format!("{group} is no group of this site: see the status for its groups"))),
    }
}
