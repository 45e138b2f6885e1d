//! What operators ask of a site, and its status.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dinhba_core::access::Action;
use dinhba_core::access_log::{AccessHead, Looked};
use dinhba_core::claims::Claims;
use dinhba_core::command::{Answer, Command, Forget, Heads, Raise, Statement};
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{AuthorId, GroupId, NodeId, ShardId, SiteId};
use dinhba_core::keys::Keys;
use dinhba_core::place::{NodeEntry, Place, PlaceEntry};
use dinhba_core::registry::{ShardState, authors, corrupt, heard, tips};
use dinhba_core::store::{StateView, StoreError};
use dinhba_core::sync::{Here, are_comparable, proves_in_step};
use dinhba_core::units::Tier;
use dinhba_core::wire_struct;
use dinhba_proto::peer::v1::App as AppFrame;
use dinhba_proto::v1::site_server::Site;
use dinhba_proto::v1::{
    AccessDifference, AddNodeRequest, BackupReply, BackupRequest, GroupStatus, Head, HeldStatus, HolidaysReply,
    HolidaysRequest, LinkStatus, MembersReply, NodeRequest, NodeStatus, ParkedAuthor, RaiseLevelReply,
    RaiseLevelRequest, ReleaseAuthorReply, ReleaseAuthorRequest, ShardStatus, SitesReply, SitesRequest, SnapshotReply,
    SnapshotRequest, StatusReply, StatusRequest, TransferLeaderRequest, UnitsReply, UnitsRequest,
};
use futures::stream::BoxStream;
use prost::Message;
use tonic::{Request, Response, Status};

use super::answer::{
    broken, bug, denied, failed, in_part, not_accepted, not_found, outcome_unknown, precondition, refused, wrong,
};
use super::{Caller, all_groups_here, backup, group_here, host_of, id, marks, person, ready, started, up_to_date};
use crate::call::{CHANGE_WAIT, Change, ChangeKind, Changed, Members};
use crate::hosted::Hosted;
use crate::metrics::{LinkState, RaftRole};
use crate::raft::group::{Role, Status as ReplicaStatus};
use crate::raft::peer::{Body, CallError};
use crate::runtime;
use crate::shared::Shared;

/// How long a purge may take: it rewrites nothing; entries that a follower is still being sent hold it up.
const PURGE_WAIT: Duration = Duration::from_secs(5);

/// How long a reply waits for what was done to show here: an election takes most of it.
const SHOWN_WAIT: Duration = Duration::from_secs(2);

/// Shards in one page of a status...
const SHARDS_PAGE: usize = 500;

/// ...and their bytes, but for the last of them: a quarter of what a message takes, since one that many sites wrote tells of many heads.
const SHARDS_BYTES_MAX: usize = 1 << 20;

/// Where a page of a status ended: the last shard on it, or before all of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    group: GroupId,
    shard: Option<ShardId>,
}

wire_struct! { Mark { group, shard } }

/// The shards of an answer that is a page.
#[derive(Debug)]
struct Page {
    from: Option<Mark>,
    shards_left: usize,
    bytes_left: usize,
    /// Where it ended, once it is full.
    next: Option<Mark>,
}

impl Page {
    fn from(from: Option<Mark>) -> Self {
        Page { from, shards_left: SHARDS_PAGE, bytes_left: SHARDS_BYTES_MAX, next: None }
    }

    /// Whether a group is on this page or on one that follows.
    fn has(&self, group: GroupId) -> bool {
        self.from.is_none_or(|from| from.group <= group)
    }

    /// Takes the shards of a group that belong on this page. `read` gives so many of them, in order, from behind one; `show` makes what is
    /// shown of each, and says how many bytes it takes.
    fn take<S, E>(
        &mut self,
        group: GroupId,
        read: impl FnOnce(Option<ShardId>, usize) -> Result<Vec<ShardState>, E>,
        show: impl Fn(&ShardState) -> Result<(usize, S), E>,
    ) -> Result<Vec<S>, E> {
        let mut shown = Vec::new();
        if self.next.is_some() || !self.has(group) {
            return Ok(shown);
        }
        let behind = self.from.filter(|from| from.group == group).and_then(|from| from.shard);
        let mut last = behind;
        for state in read(behind, self.shards_left + 1)? {
            if self.shards_left == 0 || self.bytes_left == 0 {
                self.next = Some(Mark { group, shard: last });
                break;
            }
            let (bytes, one) = show(&state)?;
            self.shards_left -= 1;
            self.bytes_left = self.bytes_left.saturating_sub(bytes);
            last = Some(state.info.shard);
            shown.push(one);
        }
        Ok(shown)
    }
}

/// The service.
pub struct SiteService(pub Arc<Shared>);

/// How a shard stands towards the parent.
pub(super) struct Step {
    pub pending_up: u64,
    pub word: &'static str,
    pub at_ms: i64,
}

impl Shared {
    /// Brings the gauges up to date.
    pub(crate) fn keep_figures(&self) {
        let parent = self.parent().map(|parent| parent.site);
        self.metrics.health(self.health().is_ok(), self.disk_proof.age());
        for hosted in self.hosted() {
            let status = hosted.group.status();
            let role = match status.role {
                Role::Leader => RaftRole::Leader,
                Role::Follower => RaftRole::Follower,
                Role::Candidate => RaftRole::Candidate,
                Role::Learner => RaftRole::Learner,
                Role::Stopped => RaftRole::Stopped,
            };
            self.metrics.raft(hosted.id(), role, status.term, status.applied.unwrap_or(0));
            self.metrics.group_health(hosted.id(), self.group_health(hosted).is_ok(), hosted.group.proved());
            if let Ok(differing) = differing(hosted) {
                self.metrics.access_logs_differ(hosted.id(), differing.len() as u64);
            }
            let (Some(parent), Ok(shards)) = (parent, hosted.shards()) else { continue };
            let connected = self.links.all().get(&(hosted.id(), parent)).is_some_and(|link| link.connected);
            for shard in &shards {
                // Only the leader has links: what another node says of them is what was once true.
                if status.role != Role::Leader {
                    self.metrics.forget_link(shard.info.shard);
                    continue;
                }
                let Ok((_, step)) = self.statements_and_step(hosted, shard) else { continue };
                let state = match (connected, step.word) {
                    (false, _) => LinkState::Down,
                    (true, "in_step") => LinkState::InStep,
                    (true, _) => LinkState::Behind,
                };
                let lag = Duration::from_millis(u64::try_from(runtime::utc_ms() - step.at_ms).unwrap_or(0));
                let lag = if step.word == "in_step" || step.at_ms == 0 { Duration::ZERO } else { lag };
                self.metrics.link(shard.info.shard, parent, state, step.pending_up, lag);
            }
        }
    }

    /// What others have stated of a shard, each with the number of edits here that it lacks, and whether the parent's
    /// statement proves it in step.
    pub(super) fn statements_and_step(
        &self,
        hosted: &Hosted,
        shard: &ShardState,
    ) -> Result<(Vec<(u64, Statement)>, Step), Status> {
        let now_ms = runtime::utc_ms();
        let id = shard.info.shard;
        let (all, statements, ours) = hosted
            .look(|view| {
                let here = Here { view, keys: hosted.keys() };
                let missing = |said: Statement| Ok((here.edits_above(id, &said.body.heads)?, said));
                let statements: Result<Vec<_>, _> = here.statements(id)?.into_iter().map(missing).collect();
                let ours = here.statement(id, here.heads(id)?, now_ms)?;
                Ok((here.edits_above(id, &Heads::new())?, statements?, ours))
            })
            .map_err(|error| broken(&error))?;
        let Some(parent) = self.parent().map(|parent| parent.site) else {
            return Ok((statements, Step { pending_up: 0, word: "top", at_ms: now_ms }));
        };
        let said = statements.iter().find(|(_, statement)| statement.body.site == parent);
        let step = match (said, ours) {
            (Some((missing, said)), Some(ours)) => {
                let theirs = &said.body;
                let word = if proves_in_step(theirs, &ours) {
                    "in_step"
                } else if are_comparable(theirs, &ours) {
                    "differs"
                } else if theirs.heads == ours.heads {
                    // Under another digest key, or at another level, equal edits have other digests: they show nothing.
                    "unknown"
                } else {
                    "behind"
                };
                Step { pending_up: *missing, word, at_ms: theirs.at_ms }
            }
            _ => Step { pending_up: all, word: "unknown", at_ms: 0 },
        };
        Ok((statements, step))
    }

    /// The tier of a site.
    pub(crate) fn tier_of(&self, place: &Place, site: SiteId) -> Option<Tier> {
        let unit = place.sites.get(&site)?.unit;
        Some(self.units().get(unit)?.tier)
    }
}

/// What other sites said of their access logs that does not fit: which site, how far it had come by its word, and the first word
/// that does not follow.
fn differing(hosted: &Hosted) -> Result<Vec<(SiteId, AccessHead, AccessHead)>, StoreError> {
    let all = hosted.look(|view| heard(view, hosted.keys()))?;
    Ok(all.into_iter().filter_map(|(site, seen)| Some((site, seen.head, seen.differs?))).collect())
}

fn difference((site, head, said): (SiteId, AccessHead, AccessHead)) -> AccessDifference {
    AccessDifference {
        site: site.to_string(),
        group: head.group.to_string(),
        incarnation: head.incarnation.0.to_vec(),
        count: head.count,
        hash: head.hash.0.to_vec(),
        said_incarnation: said.incarnation.0.to_vec(),
        said_count: said.count,
        said_hash: said.hash.0.to_vec(),
        said_ms: said.time_ms,
    }
}

impl SiteService {
    fn shard_status(&self, hosted: &Hosted, place: &Place, state: &ShardState) -> Result<ShardStatus, Status> {
        let shared = &self.0;
        let shard = state.info.shard;
        let known = hosted.look(|view| authors(view, hosted.keys(), shard)).map_err(|error| broken(&error))?;
        let (statements, step) = shared.statements_and_step(hosted, state)?;
        let unit = state.info.path.last().copied().unwrap_or_default();
        let (unit_code, unit_name) = shared.unit_words(unit);
        let held = statements.iter().map(|(missing, statement)| HeldStatus {
            site: statement.body.site.to_string(),
            tier: shared.tier_of(place, statement.body.site).map_or("", Tier::name).to_owned(),
            at_ms: statement.body.at_ms,
            missing: *missing,
        });
        Ok(ShardStatus {
            shard: shard.to_string(),
            unit: unit.to_string(),
            unit_code,
            unit_name,
            persons: state.persons,
            households: state.households,
            edits: state.arrivals,
            heads: tips(&known)
                .into_iter()
                .map(|(id, (_, author))| Head {
                    author: id.0.to_vec(),
                    site: author.author.site.to_string(),
                    number: author.number,
                    hash: author.hash.0.to_vec(),
                })
                .collect(),
            edits_digest: state.edits_digest.0.to_vec(),
            state_digest: state.state_digest.0.to_vec(),
            conflicts: state.conflicts,
            set_aside: state.poisoned,
            parked: known
                .iter()
                .filter_map(|(id, author)| {
                    let reason = author.parked?.name().to_owned();
                    Some(ParkedAuthor { author: id.0.to_vec(), site: author.author.site.to_string(), reason })
                })
                .collect(),
            pending_up: step.pending_up,
            step: step.word.to_owned(),
            step_at_ms: step.at_ms,
            held: held.collect(),
            ancestor: state.info.is_ancestor(),
        })
    }

    /// A group that is sick is shown too, with what can be read of it; with those of its shards that are on the page, if there is one.
    fn group_status(&self, hosted: &Hosted, place: &Place, page: Option<&mut Page>) -> GroupStatus {
        let status = hosted.group.status();
        let read = || {
            let state = hosted.state().map_err(|error| broken(&error))?;
            let differing = differing(hosted).map_err(|error| broken(&error))?;
            let read = |behind, most| {
                hosted.look(|view| shards_behind(view, hosted.keys(), behind, most)).map_err(|error| broken(&error))
            };
            let show = |state: &ShardState| {
                let shown = self.shard_status(hosted, place, state)?;
                Ok((shown.encoded_len(), shown))
            };
            let shards = page.map_or_else(|| Ok(Vec::new()), |page| page.take(hosted.id(), read, show))?;
            Ok::<_, Status>((state, differing, shards))
        };
        let (read, mut health) = (read(), self.0.group_health(hosted).err().unwrap_or_default());
        let (state, differing, mut shards) = read.unwrap_or_else(|error| {
            if health.is_empty() {
                error.message().clone_into(&mut health);
            }
            (None, Vec::new(), Vec::new())
        });
        if status.role == Role::Stopped {
            // What was proved of it was proved of what it was.
            for shard in &mut shards {
                "unknown".clone_into(&mut shard.step);
                shard.step_at_ms = 0;
            }
        }
        let members = |votes: bool| {
            let members = status.members.iter().filter(move |(_, (_, voter))| *voter == votes);
            members.map(|(node, _)| node.to_string()).collect()
        };
        GroupStatus {
            group: hosted.id().to_string(),
            leader: status.leader.map(|node| node.to_string()).unwrap_or_default(),
            term: status.term,
            role: match status.role {
                Role::Leader => "leader",
                Role::Follower => "follower",
                Role::Candidate => "candidate",
                Role::Learner => "learner",
                Role::Stopped => "shutdown",
            }
            .to_owned(),
            last_log: status.last.unwrap_or(0),
            applied: status.applied.unwrap_or(0),
            snapshot: status.snapshot.unwrap_or(0),
            purged: status.purged.unwrap_or(0),
            voters: members(true),
            learners: members(false),
            level: state.as_ref().map_or(0, |state| u32::from(state.level)),
            shards,
            access_count: state.as_ref().map_or(0, |state| state.access_count),
            access_hash: state.as_ref().map(|state| state.access_hash.0.to_vec()).unwrap_or_default(),
            access_incarnation: state.map(|state| state.incarnation.0.to_vec()).unwrap_or_default(),
            access_differences: differing.into_iter().map(difference).collect(),
            health,
        }
    }

    /// The groups, without their shards.
    fn groups_status(&self) -> Vec<GroupStatus> {
        let place = self.0.place();
        self.0.hosted().map(|hosted| self.group_status(hosted, &place, None)).collect()
    }

    fn operator<T>(&self, request: &Request<T>, context: Option<&dinhba_proto::v1::Context>) -> Result<Caller, Status> {
        started(&self.0)?;
        let caller = Caller::resolve(request, context)?;
        let may = caller.may(self.0.level_max, Action::Administer, &self.0.path(self.0.config.site.unit));
        may.inspect_err(|_| self.0.refusals.note_act(&caller.claims))?;
        Ok(caller)
    }

    /// Carries a change out at the leader of every group, or of one; gives the members that each has then. If something of it
    /// has been done already, no error says that nothing changed.
    async fn change(
        &self,
        change: &Change,
        only: Option<GroupId>,
        mut has_begun: bool,
    ) -> Result<BTreeMap<GroupId, Members>, Status> {
        let mut changed = BTreeMap::new();
        for hosted in self.0.hosted().filter(|hosted| only.is_none_or(|only| only == hosted.id())) {
            let members = self.change_one(hosted, change).await;
            let members = members.map_err(|status| if has_begun { in_part(status) } else { status })?;
            changed.insert(hosted.id(), members);
            has_begun = true;
        }
        Ok(changed)
    }

    /// Carries a change out at the leader of a group.
    async fn change_one(&self, hosted: &Hosted, change: &Change) -> Result<Members, Status> {
        if let Some(why) = hosted.group.status().stopped {
            return Err(stopped(hosted, &why));
        }
        let (leader, address) = hosted
            .group
            .leader()
            .ok_or_else(|| not_accepted(format!("{} has no leader now: wait until it has one", hosted.id())))?;
        if leader == self.0.config.node.id {
            return members_of(hosted.id(), change.carry_out(&hosted.group).await.into());
        }
        let frame = Body::App(AppFrame { payload: change.to_call() });
        match self.0.pool.call(leader.0, &address, hosted.id(), frame, CHANGE_WAIT).await {
            Ok(Body::AppAnswer(answer)) => {
                let changed = Changed::from_bytes(&answer.payload).map_err(|error| {
                    bug(format!("{}: the leader's answer: {error}; see the status for what was done", hosted.id()))
                })?;
                members_of(hosted.id(), changed)
            }
            // So a node of an older version tells of whatever came in its way.
            Ok(Body::Failure(failure)) => {
                let text = format!("{}: {}; see the status for what was done", hosted.id(), failure.detail);
                Err(outcome_unknown(text))
            }
            Ok(other) => Err(bug(format!("{}: the leader answered {other:?}; see the status", hosted.id()))),
            Err(CallError::NotSent(why)) => {
                Err(not_accepted(format!("{}: the leader cannot be reached: {why}", hosted.id())))
            }
            Err(CallError::Lost(why)) => {
                Err(outcome_unknown(format!("{}: {why}; see the status for what was done", hosted.id())))
            }
        }
    }

    /// The groups after a change: as this replica has them, but with the members that the leaders have, since the one that was
    /// taken out may never hear of it.
    fn shown(&self, changed: &BTreeMap<GroupId, Members>) -> MembersReply {
        let mut groups = self.groups_status();
        for group in &mut groups {
            let Some(members) = group.group.parse().ok().and_then(|id: GroupId| changed.get(&id)) else { continue };
            let texts = |nodes: &[NodeId]| nodes.iter().map(ToString::to_string).collect();
            (group.voters, group.learners) = (texts(&members.voters), texts(&members.learners));
        }
        MembersReply { groups }
    }

    /// Writes into the access log of each group concerned what an operator is about to do, so that nothing is done of which no
    /// auditor hears. What it is about goes with it.
    async fn log_act(&self, caller: &Caller, act: Looked, about: u128, only: Option<GroupId>) -> Result<(), Status> {
        for hosted in self.0.hosted().filter(|hosted| only.is_none_or(|only| only == hosted.id())) {
            if let Some(why) = hosted.group.status().stopped {
                return Err(stopped(hosted, &why));
            }
            let entry = caller.entry(act, None, about.to_be_bytes());
            if hosted.log_accesses(vec![entry]).await.map_err(failed)? != [true] {
                return Err(denied(format!("this needs an operator of all units of {}: ask one", hosted.id())));
            }
        }
        Ok(())
    }

    /// Says in this node's log who did what, and what came of it.
    fn told<T>(caller: &Caller, act: Looked, target: &str, outcome: Result<T, Status>) -> Result<Response<T>, Status> {
        let Claims { subject, role, unit, .. } = &caller.claims;
        let (purpose, case, what) = (caller.purpose.name(), &caller.case, act.name());
        match &outcome {
            Ok(_) => {
                tracing::info!(%subject, %role, %unit, purpose, %case, what, target, outcome = "done", "an operator acted")
            }
            Err(status) => tracing::warn!(
                %subject, %role, %unit, purpose, %case, what, target, outcome = ?status.code(), why = status.message(),
                "an operator's act came to nothing, or it is not known what came of it"
            ),
        }
        outcome.map(Response::new)
    }

    /// Waits a moment until this replica shows a change that was made: what the reply shows should be what was done.
    async fn wait_for(&self, group: GroupId, shows: impl Fn(&ReplicaStatus) -> bool) {
        if let Some(hosted) = self.0.group(group) {
            hosted.group.wait_for(SHOWN_WAIT, &shows).await;
        }
    }

    /// Whether a group here has the node, as a voter or a learner. That none has is only said once this replica is up to date.
    async fn is_member(&self, node: NodeId) -> Result<bool, Status> {
        if self.0.hosted().any(|hosted| hosted.group.status().members.contains_key(&node)) {
            return Ok(true);
        }
        for hosted in self.0.hosted() {
            up_to_date(hosted).await?;
            if hosted.group.members().await.map_err(not_accepted)?.contains_key(&node) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Where a member of a group here is reached; nowhere, if it is none.
    fn address_of(&self, node: NodeId) -> String {
        let mut members = self.0.hosted().map(|hosted| hosted.group.status().members);
        members.find_map(|mut members| members.remove(&node)).map(|(address, _)| address).unwrap_or_default()
    }

    async fn register(&self, node: NodeId, address: String, present: bool) -> Result<(), Status> {
        let Some(first) = self.0.site_group() else { return Ok(()) };
        let level_max = self.0.place().nodes.get(&node).map_or(0, |entry| entry.level_max);
        let entry = PlaceEntry::Node(NodeEntry { node, address, present, level_max });
        match first.propose(Command::Place(vec![entry])).await.map_err(failed)?.0 {
            Answer::Refused(refusal) => Err(refused("node", &refusal)),
            _ => Ok(()),
        }
    }
}

/// So many of the shards of a group, in order, from behind one.
fn shards_behind(
    view: &dyn StateView,
    keys: Keys,
    behind: Option<ShardId>,
    most: usize,
) -> Result<Vec<ShardState>, StoreError> {
    let (first, to) = keys.shards();
    let from = behind.map_or(first, |behind| [keys.shard(behind).as_slice(), &[0]].concat());
    let states = view.scan(&from, &to).take(most).map(|item| {
        let (key, value) = item?;
        ShardState::from_bytes(&value).map_err(|error| corrupt(&key, error))
    });
    states.collect()
}

/// What became of a change at the leader of a group, as the caller is told.
fn members_of(group: GroupId, changed: Changed) -> Result<Members, Status> {
    match changed {
        Changed::Done(members) => Ok(members),
        Changed::Refused(why) => Err(precondition(format!("{group}: {why}"))),
        Changed::NotLeader(why) => Err(not_accepted(format!("{group}: {why}; nothing was changed, try again"))),
        Changed::Unknown(why) => Err(outcome_unknown(format!("{group}: {why}; see the status for what was done"))),
    }
}

/// A group that does not run here carries nothing out.
fn stopped(hosted: &Hosted, why: &str) -> Status {
    precondition(format!("{} has stopped on this node, and nothing was done: {why}", hosted.id()))
}

/// Whether a group would be without voters if the node left, by the membership that this replica has.
async fn is_only_voter(hosted: &Hosted, node: NodeId) -> Result<bool, Status> {
    let members = hosted.group.members().await.map_err(not_accepted)?;
    let mut voters = members.iter().filter(|(_, (_, votes))| *votes).map(|(voter, _)| *voter);
    Ok(voters.next() == Some(node) && voters.next().is_none())
}

#[tonic::async_trait]
impl Site for SiteService {
    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        started(&self.0)?;
        let caller = Caller::resolve(&request, request.get_ref().context.as_ref())?;
        let (shared, config) = (&self.0, &self.0.config);
        caller.may(shared.level_max, Action::Status, &shared.path(config.site.unit))?;
        let place = shared.place();
        let index_key = shared.secrets.index.secret;
        let question = marks::asked("status", &config.node.id.to_string());
        let after = &request.get_ref().after;
        let mut page = Page::from(marks::open(after, &question, &index_key)?);
        let groups = shared.hosted().filter(|hosted| page.has(hosted.id())).collect::<Vec<_>>();
        let groups = groups.into_iter().map(|hosted| self.group_status(hosted, &place, Some(&mut page))).collect();
        let next = page.next.map(|mark| marks::seal(&mark, &question, &index_key)).unwrap_or_default();
        let (unit_code, unit_name) = shared.unit_words(config.site.unit);
        let mut nodes: BTreeMap<NodeId, NodeStatus> = BTreeMap::new();
        for hosted in shared.hosted() {
            for (node, (address, _)) in hosted.group.status().members {
                nodes.insert(node, NodeStatus { node: node.to_string(), address, present: true, level_max: 0 });
            }
        }
        // Of a sick group what was heard of it last.
        for entry in self.said_of_nodes().unwrap_or_else(|_| place.nodes.clone()).into_values() {
            let NodeEntry { node, address, present, level_max } = entry;
            let shown = NodeStatus { node: node.to_string(), address, present, level_max: level_max.into() };
            nodes.insert(node, shown);
        }
        // A site that was moved has another parent, and its former parent another child.
        let parent = shared.parent().map(|parent| parent.site);
        let is_link = |peer, up| if up { parent == Some(peer) } else { shared.is_child(peer) };
        let mut links = shared.links.all();
        links.retain(|(_, peer), report| is_link(*peer, report.up));
        let links = links.into_iter().map(|((group, peer), report)| LinkStatus {
            direction: if report.up { "up" } else { "down" }.to_owned(),
            peer_site: peer.to_string(),
            group: group.to_string(),
            state: if report.connected { "connected" } else { "waiting" }.to_owned(),
            detail: report.detail,
            since_ms: report.since_ms,
        });
        let is_first = after.is_empty();
        Ok(Response::new(StatusReply {
            node: config.node.id.to_string(),
            site: config.node.site.to_string(),
            unit: config.site.unit.to_string(),
            unit_code,
            unit_name,
            tier: shared.units().get(config.site.unit).map_or("", |unit| unit.tier.name()).to_owned(),
            parent_site: shared.parent().map(|parent| parent.site.to_string()).unwrap_or_default(),
            nodes: nodes.into_values().filter(|_| is_first).collect(),
            groups,
            links: links.filter(|_| is_first).collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            level_max: u32::from(shared.level_max),
            health: shared.health().err().unwrap_or_default(),
            home_shard: place.home_of(caller.claims.unit).map(|shard| shard.to_string()).unwrap_or_default(),
            next,
        }))
    }

    async fn units(&self, request: Request<UnitsRequest>) -> Result<Response<UnitsReply>, Status> {
        started(&self.0)?;
        person(&request)?;
        self.said_units(request.get_ref()).map(Response::new)
    }

    async fn holidays(&self, request: Request<HolidaysRequest>) -> Result<Response<HolidaysReply>, Status> {
        started(&self.0)?;
        person(&request)?;
        Ok(Response::new(self.said_holidays()))
    }

    async fn sites(&self, request: Request<SitesRequest>) -> Result<Response<SitesReply>, Status> {
        ready(&self.0)?;
        let caller = Caller::resolve(&request, request.get_ref().context.as_ref())?;
        self.listed_sites(&caller).await.map(Response::new)
    }

    async fn add_node(&self, request: Request<AddNodeRequest>) -> Result<Response<MembersReply>, Status> {
        let caller = self.operator(&request, request.get_ref().context.as_ref())?;
        let AddNodeRequest { node, address, .. } = request.into_inner();
        let node: NodeId = id("node", &node)?;
        if address.parse::<crate::config::Address>().is_err() {
            return Err(wrong("address", "address: give host:port under which the other nodes reach it"));
        }
        let target = format!("{node} at {address}");
        let doing = async {
            all_groups_here(&self.0).await?;
            if let Some(entry) = self.0.place().nodes.get(&node).filter(|entry| !entry.present) {
                let text = format!("{} left this site for good: start the node with a new id", entry.node);
                return Err(precondition(text));
            }
            self.log_act(&caller, Looked::AddNode, node.0.into(), None).await?;
            let listens = |entry: &&NodeEntry| entry.present && entry.node != node && entry.address == address;
            if let Some(entry) = self.0.place().nodes.values().find(listens) {
                let text = format!("{} listens at {address}: give the new node's own address", entry.node);
                return Err(precondition(text));
            }
            self.check_knows_ours(node, &address).await?;
            let changed = self.change(&Change { kind: ChangeKind::Add, node, address }, None, false).await?;
            Ok(self.shown(&changed))
        };
        Self::told(&caller, Looked::AddNode, &target, doing.await)
    }

    async fn promote_node(&self, request: Request<NodeRequest>) -> Result<Response<MembersReply>, Status> {
        let caller = self.operator(&request, request.get_ref().context.as_ref())?;
        let node: NodeId = id("node", &request.into_inner().node)?;
        let doing = async {
            all_groups_here(&self.0).await?;
            if !self.is_member(node).await? {
                return Err(not_found(format!("{node} is no learner of this site: start it and add it first")));
            }
            self.log_act(&caller, Looked::PromoteNode, node.0.into(), None).await?;
            self.check_knows_ours(node, &self.address_of(node)).await?;
            let change = Change { kind: ChangeKind::Promote, node, address: String::new() };
            let changed = self.change(&change, None, false).await?;
            Ok(self.shown(&changed))
        };
        Self::told(&caller, Looked::PromoteNode, &node.to_string(), doing.await)
    }

    async fn remove_node(&self, request: Request<NodeRequest>) -> Result<Response<MembersReply>, Status> {
        let caller = self.operator(&request, request.get_ref().context.as_ref())?;
        let node: NodeId = id("node", &request.into_inner().node)?;
        let doing = async {
            all_groups_here(&self.0).await?;
            // A mistyped id must neither be spent nor look like a node that is gone.
            let is_known = self.is_member(node).await? || {
                self.0.refresh_place().map_err(|error| broken(&error))?;
                self.0.place().nodes.contains_key(&node)
            };
            if !is_known {
                return Err(not_found(format!("{node} never was a node of this site: see the status for its nodes")));
            }
            self.log_act(&caller, Looked::RemoveNode, node.0.into(), None).await?;
            // The entries in the logs have brought this replica up to date: so these are the leaders' members, a moment ago.
            for hosted in self.0.hosted() {
                if is_only_voter(hosted, node).await? {
                    let text =
                        format!("{node} is the only voter of {}: add and promote another node first", hosted.id());
                    return Err(precondition(text));
                }
            }
            let address = self.0.place().nodes.get(&node).map(|entry| entry.address.clone()).unwrap_or_default();
            // First the directory: from now on the id is spent, whatever becomes of the change.
            self.register(node, address, false).await?;
            let change = Change { kind: ChangeKind::Remove, node, address: String::new() };
            let changed = self.change(&change, None, true).await?;
            Ok(self.shown(&changed))
        };
        Self::told(&caller, Looked::RemoveNode, &node.to_string(), doing.await)
    }

    async fn transfer_leader(&self, request: Request<TransferLeaderRequest>) -> Result<Response<MembersReply>, Status> {
        let caller = self.operator(&request, request.get_ref().context.as_ref())?;
        let TransferLeaderRequest { group, node, .. } = request.into_inner();
        let (group, node): (GroupId, NodeId) = (id("group", &group)?, id("node", &node)?);
        let doing = async {
            let hosted = group_here(&self.0, group).await?;
            if !hosted.group.status().members.contains_key(&node) {
                return Err(not_found(format!("{node} is no member of {group}: see the status for its voters")));
            }
            self.log_act(&caller, Looked::TransferLeader, node.0.into(), Some(group)).await?;
            let change = Change { kind: ChangeKind::Lead, node, address: String::new() };
            let changed = self.change(&change, Some(group), false).await?;
            self.wait_for(group, |status| status.leader == Some(node)).await;
            Ok(self.shown(&changed))
        };
        Self::told(&caller, Looked::TransferLeader, &format!("{group} to {node}"), doing.await)
    }

    async fn snapshot(&self, request: Request<SnapshotRequest>) -> Result<Response<SnapshotReply>, Status> {
        let caller = self.operator(&request, request.get_ref().context.as_ref())?;
        let doing = async {
            self.log_act(&caller, Looked::Snapshot, 0, None).await?;
            for (done, hosted) in self.0.hosted().enumerate() {
                snapshot_of(hosted).await.map_err(|status| if done == 0 { status } else { in_part(status) })?;
            }
            Ok(SnapshotReply { groups: self.groups_status() })
        };
        Self::told(&caller, Looked::Snapshot, "", doing.await)
    }

    async fn raise_level(&self, request: Request<RaiseLevelRequest>) -> Result<Response<RaiseLevelReply>, Status> {
        let caller = self.operator(&request, request.get_ref().context.as_ref())?;
        let level = u16::try_from(request.into_inner().level)
            .map_err(|_| wrong("level", format!("level: at most {}", self.0.level_max)))?;
        let doing = async {
            all_groups_here(&self.0).await?;
            self.log_act(&caller, Looked::RaiseLevel, level.into(), None).await?;
            self.check_all_know(level).await?;
            for (done, hosted) in self.0.hosted().enumerate() {
                let raise = Command::Raise(Raise { level, now_ms: runtime::utc_ms() });
                let raised = match hosted.propose(raise).await {
                    Ok((Answer::Refused(refusal), _)) => Err(refused("level", &refusal)),
                    Ok(_) => Ok(()),
                    Err(error) => Err(failed(error)),
                };
                raised.map_err(|status| if done == 0 { status } else { in_part(status) })?;
            }
            Ok(RaiseLevelReply { level: u32::from(level) })
        };
        Self::told(&caller, Looked::RaiseLevel, &format!("level {level}"), doing.await)
    }

    type BackupStream = BoxStream<'static, Result<BackupReply, Status>>;

    async fn backup(&self, request: Request<BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        ready(&self.0)?;
        let caller = self.operator(&request, request.get_ref().context.as_ref())?;
        backup::stream(Arc::clone(&self.0), &caller, request.into_inner()).await.map(Response::new)
    }

    async fn release_author(
        &self,
        request: Request<ReleaseAuthorRequest>,
    ) -> Result<Response<ReleaseAuthorReply>, Status> {
        let caller = self.operator(&request, request.get_ref().context.as_ref())?;
        let ReleaseAuthorRequest { shard, author, .. } = request.into_inner();
        let shard: ShardId = id("shard", &shard)?;
        let author: [u8; 16] =
            author.try_into().map_err(|_| wrong("author", "author: give its 16 bytes, as the status shows"))?;
        let doing = async {
            let hosted = host_of(&self.0, shard).await?;
            up_to_date(hosted).await?;
            let known = hosted.look(|view| authors(view, hosted.keys(), shard)).map_err(|error| broken(&error))?;
            let state = known
                .get(&AuthorId(author))
                .ok_or_else(|| not_found("no such author in this shard: see the status for the parked ones"))?;
            let peer = state.from.ok_or_else(|| precondition("this site's own author is never parked"))?;
            let about = u128::from_be_bytes(author);
            self.log_act(&caller, Looked::ReleaseAuthor, about, Some(hosted.id())).await?;
            let forget = Command::Forget(Forget { shard, peer, author: Some(AuthorId(author)) });
            match hosted.propose(forget).await.map_err(failed)?.0 {
                Answer::Refused(refusal) => Err(refused("author", &refusal)),
                _ => Ok(ReleaseAuthorReply {}),
            }
        };
        Self::told(&caller, Looked::ReleaseAuthor, &format!("{} in {shard}", AuthorId(author)), doing.await)
    }
}

/// Has a group write a snapshot and purge the log below it, and waits for both. It may be stopped by damage that is met then.
async fn snapshot_of(hosted: &Hosted) -> Result<(), Status> {
    let failed = |why: &str| precondition(format!("{}: no snapshot was written: {why}", hosted.id()));
    let target = hosted.group.status().applied;
    hosted.group.snapshot().await.map_err(|error| failed(&error.to_string()))?;
    let taken = |status: &ReplicaStatus| status.snapshot >= target;
    hosted.group.wait_for(CHANGE_WAIT, |status| status.stopped.is_some() || taken(status)).await;
    let status = hosted.group.status();
    if let Some(why) = status.stopped {
        return Err(failed(&format!("the group has stopped over it ({why})")));
    }
    if !taken(&status) {
        return Err(outcome_unknown(format!("{}: it is still being written: see the status", hosted.id())));
    }
    let Some(target) = target else { return Ok(()) };
    let purged = hosted.group.purge(target).await;
    purged.map_err(|error| {
        outcome_unknown(format!("{}: the snapshot is there, and the log was perhaps not purged: {error}", hosted.id()))
    })?;
    // What the reply shows is what was done: the purge itself happens behind the call.
    hosted.group.wait_for(PURGE_WAIT, |status| status.stopped.is_some() || status.purged >= Some(target)).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeSet;

    use dinhba_core::command::ShardInfo;
    use dinhba_core::edit::Author;
    use dinhba_core::ids::Incarnation;
    use dinhba_proto::v1::Reason;

    use super::super::answer::reason_of;
    use super::*;

    fn states(shards: impl Iterator<Item = u64>) -> Vec<ShardState> {
        let state = |number| {
            let info = ShardInfo { shard: ShardId(number), path: Vec::new() };
            let own = Author { site: SiteId(1), shard: ShardId(number), incarnation: Incarnation([1; 16]) };
            ShardState::new(info, own, [0; 16])
        };
        shards.map(state).collect()
    }

    #[test]
    fn pages_of_a_status_show_every_shard_once_and_read_no_more_than_they_show() {
        // As many as the country has, in groups of which one has none.
        let groups = [states(1..=3_000), states(0..0), states(1..=999), states(5..=2_500), states(1..=1)];
        let all: usize = groups.iter().map(Vec::len).sum();
        for bytes_each in [700, 10_000] {
            let (mut seen, mut from, mut pages) = (Vec::new(), None, 0);
            loop {
                let (mut page, read) = (Page::from(from), Cell::new(0));
                let mut on_page = 0;
                for (number, states) in groups.iter().enumerate() {
                    let group = GroupId(number as u64);
                    let behind = |behind: Option<ShardId>, most: usize| {
                        let rest = states.iter().filter(|state| behind.is_none_or(|behind| state.info.shard > behind));
                        let some: Vec<ShardState> = rest.take(most).cloned().collect();
                        read.set(read.get() + some.len());
                        Ok::<_, StoreError>(some)
                    };
                    let shown = page.take(group, behind, |state| Ok((bytes_each, (number, state.info.shard)))).unwrap();
                    on_page += shown.len();
                    seen.extend(shown);
                }
                assert!(on_page <= SHARDS_PAGE && on_page * bytes_each < SHARDS_BYTES_MAX + bytes_each, "{on_page}");
                assert!(read.get() <= SHARDS_PAGE + groups.len(), "{} read to show {on_page}", read.get());
                pages += 1;
                from = page.next;
                if from.is_none() {
                    break;
                }
            }
            assert_eq!((seen.len(), seen.iter().collect::<BTreeSet<_>>().len()), (all, all));
            let fit = SHARDS_PAGE.min(SHARDS_BYTES_MAX.div_ceil(bytes_each));
            assert_eq!(pages, all.div_ceil(fit));
        }
    }

    #[test]
    fn nothing_changed_is_said_only_of_what_surely_did_not() {
        let group = GroupId(1);
        let told = |changed| reason_of(&members_of(group, changed).unwrap_err());
        assert_eq!(told(Changed::Refused("it is the only voter".into())), Some(Reason::Precondition));
        assert_eq!(told(Changed::NotLeader("another leads".into())), Some(Reason::NotAccepted));
        // A learner that does not catch up is a member all the same.
        assert_eq!(told(Changed::Unknown("it did not catch up".into())), Some(Reason::OutcomeUnknown));
        for status in [not_accepted("no leader"), precondition("the only voter"), denied("not there")] {
            let told = in_part(status.clone());
            assert_eq!(reason_of(&told), Some(Reason::OutcomeUnknown));
            assert!(told.message().contains(status.message()), "{}", told.message());
        }
    }
}
