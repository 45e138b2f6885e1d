//! What operators ask of a site, and its status.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dinhba_core::access::Action;
use dinhba_core::command::{Answer, Command, Forget, Heads, Raise, Statement};
use dinhba_core::ids::{AuthorId, GroupId, NodeId, ShardId, SiteId};
use dinhba_core::place::{NodeEntry, Place, PlaceEntry};
use dinhba_core::registry::{LEVEL_MAX, ShardState, authors};
use dinhba_core::sync::{Here, proves_in_step};
use dinhba_core::units::Tier;
use dinhba_proto::peer::v1::App as AppFrame;
use dinhba_proto::v1::site_server::Site;
use dinhba_proto::v1::{
    AddNodeRequest, BackupReply, BackupRequest, GroupStatus, Head, HeldStatus, LinkStatus, MembersReply, NodeRequest,
    NodeStatus, ParkedAuthor, RaiseLevelReply, RaiseLevelRequest, ReleaseAuthorReply, ReleaseAuthorRequest,
    ShardStatus, SnapshotReply, SnapshotRequest, StatusReply, StatusRequest, TransferLeaderRequest,
};
use futures::stream::BoxStream;
use tonic::{Request, Response, Status};

use super::answer::{
    broken, bug, elsewhere, failed, no_shard, not_accepted, not_found, outcome_unknown, precondition, refused, wrong,
};
use super::{Caller, backup, group_here, id, ready, started, whole_place};
use crate::call::{CHANGE_WAIT, Change, ChangeKind};
use crate::hosted::Hosted;
use crate::metrics::{LinkState, RaftRole};
use crate::node::Shared;
use crate::raft::group::{Role, Status as ReplicaStatus};
use crate::raft::peer::Body;
use crate::runtime;

/// How long a purge may take: it rewrites nothing; entries that a follower is still being sent hold it up.
const PURGE_WAIT: Duration = Duration::from_secs(5);

/// How long a reply waits for what was done to show here: an election takes most of it.
const SHOWN_WAIT: Duration = Duration::from_secs(2);

/// The service.
pub struct SiteService(pub Arc<Shared>);

/// How a shard stands towards the parent.
struct Step {
    pending_up: u64,
    word: &'static str,
    at_ms: i64,
}

impl Shared {
    /// Why this node does not serve, if it does not.
    pub fn health(&self) -> Result<(), String> {
        self.certificate_health()?;
        if self.hosted().next().is_none() {
            return Err("the node is starting".to_owned());
        }
        for hosted in self.hosted() {
            let status = hosted.group.status();
            if let Some(reason) = status.stopped {
                return Err(format!("{} has stopped: {reason}", hosted.id()));
            }
            if status.leader.is_none() {
                return Err(format!("{} has no leader", hosted.id()));
            }
        }
        Ok(())
    }

    /// Brings the gauges up to date.
    pub(crate) fn keep_figures(&self) {
        let parent = self.config.parent.as_ref().map(|parent| parent.site);
        for hosted in self.hosted() {
            let status = hosted.group.status();
            let role = match status.role {
                Role::Leader => RaftRole::Leader,
                Role::Follower => RaftRole::Follower,
                Role::Candidate => RaftRole::Candidate,
                Role::Learner | Role::Stopped => RaftRole::Learner,
            };
            self.metrics.raft(hosted.id(), role, status.term, status.applied.unwrap_or(0));
            let (Some(parent), Ok(shards)) = (parent, hosted.shards()) else { continue };
            let connected = self.links.all().get(&(hosted.id(), parent)).is_some_and(|link| link.connected);
            for shard in &shards {
                // Only the leader has links: what another node says of them is what was once true.
                if status.role != Role::Leader {
                    self.metrics.forget_link(shard.info.shard, parent);
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
    fn statements_and_step(
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
        let Some(parent) = self.config.parent.as_ref().map(|parent| parent.site) else {
            return Ok((statements, Step { pending_up: 0, word: "top", at_ms: now_ms }));
        };
        let said = statements.iter().find(|(_, statement)| statement.body.site == parent);
        let step = match (said, ours) {
            (Some((missing, said)), Some(ours)) => {
                let theirs = &said.body;
                let word = if proves_in_step(theirs, &ours) {
                    "in_step"
                } else if theirs.heads == ours.heads {
                    "differs"
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
        Some(self.directory.get(unit)?.tier)
    }
}

impl SiteService {
    fn shard_status(&self, hosted: &Hosted, place: &Place, state: &ShardState) -> Result<ShardStatus, Status> {
        let shared = &self.0;
        let shard = state.info.shard;
        let known = hosted.look(|view| authors(view, hosted.keys(), shard)).map_err(|error| broken(&error))?;
        let (statements, step) = shared.statements_and_step(hosted, state)?;
        let unit = state.info.path.last().copied().unwrap_or_default();
        let (unit_code, unit_name) = unit_words(shared, unit);
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
            heads: known
                .iter()
                .filter(|(_, author)| author.number > 0)
                .map(|(id, author)| Head {
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
        })
    }

    fn group_status(&self, hosted: &Hosted, place: &Place) -> Result<GroupStatus, Status> {
        let status = hosted.group.status();
        let state = hosted.state().map_err(|error| broken(&error))?;
        let shards = hosted.shards().map_err(|error| broken(&error))?;
        let shards: Result<Vec<_>, _> = shards.iter().map(|shard| self.shard_status(hosted, place, shard)).collect();
        let members = |votes: bool| {
            let members = status.members.iter().filter(move |(_, (_, voter))| *voter == votes);
            members.map(|(node, _)| node.to_string()).collect()
        };
        Ok(GroupStatus {
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
            shards: shards?,
            access_count: state.as_ref().map_or(0, |state| state.access_count),
            access_hash: state.map(|state| state.access_hash.0.to_vec()).unwrap_or_default(),
        })
    }

    fn groups_status(&self) -> Result<Vec<GroupStatus>, Status> {
        let place = self.0.place();
        self.0.hosted().map(|hosted| self.group_status(hosted, &place)).collect()
    }

    fn operator<T>(&self, request: &Request<T>, context: Option<&dinhba_proto::v1::Context>) -> Result<Caller, Status> {
        started(&self.0)?;
        let caller = Caller::resolve(request, context)?;
        caller.may(Action::Administer, &self.0.path(self.0.config.site.unit))?;
        Ok(caller)
    }

    /// Carries a change out at the leader of every group, or of one.
    async fn change(&self, change: &Change, only: Option<GroupId>) -> Result<(), Status> {
        for hosted in self.0.hosted().filter(|hosted| only.is_none_or(|only| only == hosted.id())) {
            let (leader, address) = hosted
                .group
                .leader()
                .ok_or_else(|| not_accepted(format!("{} has no leader now: wait until it has one", hosted.id())))?;
            if leader == self.0.config.node.id {
                change.carry_out(&hosted.group).await.map_err(|error| {
                    precondition(format!("{}: {error}; see the status for what was done", hosted.id()))
                })?;
                continue;
            }
            let frame = Body::App(AppFrame { payload: change.to_call() });
            match self.0.pool.call(leader.0, &address, hosted.id(), frame, CHANGE_WAIT).await {
                Ok(Body::AppAnswer(_)) => {}
                Ok(Body::Failure(failure)) => {
                    let text = format!("{}: {}; see the status for what was done", hosted.id(), failure.detail);
                    return Err(precondition(text));
                }
                Ok(other) => {
                    let text = format!("{}: the leader answered {other:?}; see the status", hosted.id());
                    return Err(bug(text));
                }
                Err(error) => {
                    return Err(outcome_unknown(format!("{}: {error}; see the status for what was done", hosted.id())));
                }
            }
        }
        Ok(())
    }

    /// Waits a moment until this replica shows a change that was made: what the reply shows should be what was done. The one
    /// that was taken out may never hear of it.
    async fn shown(&self, only: Option<GroupId>, shows: impl Fn(&ReplicaStatus) -> bool) {
        for hosted in self.0.hosted().filter(|hosted| only.is_none_or(|only| only == hosted.id())) {
            hosted.group.wait_for(SHOWN_WAIT, &shows).await;
        }
    }

    /// Whether a group here has the node, as a voter or a learner.
    fn is_member(&self, node: NodeId) -> bool {
        self.0.hosted().any(|hosted| hosted.group.status().members.contains_key(&node))
    }

    async fn register(&self, node: NodeId, address: String, present: bool) -> Result<(), Status> {
        let Some(first) = self.0.site_group() else { return Ok(()) };
        let entry = PlaceEntry::Node(NodeEntry { node, address, present });
        match first.propose(Command::Place(vec![entry])).await.map_err(failed)?.0 {
            Answer::Refused(refusal) => Err(refused(&refusal)),
            _ => Ok(()),
        }
    }
}

/// Whether a group would be without voters if the node left.
fn is_only_voter(hosted: &Hosted, node: NodeId) -> bool {
    let members = hosted.group.status().members;
    let mut voters = members.iter().filter(|(_, (_, votes))| *votes).map(|(voter, _)| *voter);
    voters.next() == Some(node) && voters.next().is_none()
}

/// A unit's code and name.
pub(super) fn unit_words(shared: &Shared, unit: dinhba_core::ids::UnitId) -> (String, String) {
    shared.directory.get(unit).map(|unit| (unit.code.clone(), unit.name.clone())).unwrap_or_default()
}

#[tonic::async_trait]
impl Site for SiteService {
    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        started(&self.0)?;
        let caller = Caller::resolve(&request, request.get_ref().context.as_ref())?;
        let (shared, config) = (&self.0, &self.0.config);
        caller.may(Action::Status, &shared.path(config.site.unit))?;
        let place = shared.place();
        let (unit_code, unit_name) = unit_words(shared, config.site.unit);
        let mut nodes: BTreeMap<NodeId, NodeStatus> = BTreeMap::new();
        for hosted in shared.hosted() {
            for (node, (address, _)) in hosted.group.status().members {
                nodes.insert(node, NodeStatus { node: node.to_string(), address, present: true });
            }
        }
        for entry in place.nodes.values() {
            let shown =
                NodeStatus { node: entry.node.to_string(), address: entry.address.clone(), present: entry.present };
            nodes.insert(entry.node, shown);
        }
        let links = shared.links.all().into_iter().map(|((group, peer), report)| LinkStatus {
            direction: if report.up { "up" } else { "down" }.to_owned(),
            peer_site: peer.to_string(),
            group: group.to_string(),
            state: if report.connected { "connected" } else { "waiting" }.to_owned(),
            detail: report.detail,
            since_ms: report.since_ms,
        });
        Ok(Response::new(StatusReply {
            node: config.node.id.to_string(),
            site: config.node.site.to_string(),
            unit: config.site.unit.to_string(),
            unit_code,
            unit_name,
            tier: shared.directory.get(config.site.unit).map_or("", |unit| unit.tier.name()).to_owned(),
            parent_site: config.parent.as_ref().map(|parent| parent.site.to_string()).unwrap_or_default(),
            nodes: nodes.into_values().collect(),
            groups: self.groups_status()?,
            links: links.collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            level_max: u32::from(LEVEL_MAX),
        }))
    }

    async fn add_node(&self, request: Request<AddNodeRequest>) -> Result<Response<MembersReply>, Status> {
        self.operator(&request, request.get_ref().context.as_ref())?;
        let AddNodeRequest { node, address, .. } = request.into_inner();
        let node: NodeId = id("node", &node)?;
        if address.parse::<crate::config::Address>().is_err() {
            return Err(wrong("address", "address: give host:port under which the other nodes reach it"));
        }
        if let Some(entry) = self.0.place().nodes.get(&node).filter(|entry| !entry.present) {
            let text = format!("{} left this site for good: start the node with a new id", entry.node);
            return Err(precondition(text));
        }
        self.change(&Change { kind: ChangeKind::Add, node, address }, None).await?;
        Ok(Response::new(MembersReply { groups: self.groups_status()? }))
    }

    async fn promote_node(&self, request: Request<NodeRequest>) -> Result<Response<MembersReply>, Status> {
        self.operator(&request, request.get_ref().context.as_ref())?;
        let node = id("node", &request.into_inner().node)?;
        if !self.is_member(node) {
            return Err(not_found(format!("{node} is no learner of this site: start it and add it first")));
        }
        self.change(&Change { kind: ChangeKind::Promote, node, address: String::new() }, None).await?;
        Ok(Response::new(MembersReply { groups: self.groups_status()? }))
    }

    async fn remove_node(&self, request: Request<NodeRequest>) -> Result<Response<MembersReply>, Status> {
        self.operator(&request, request.get_ref().context.as_ref())?;
        let node: NodeId = id("node", &request.into_inner().node)?;
        // A mistyped id must neither be spent nor look like a node that is gone.
        if !self.is_member(node) && !self.0.place().nodes.contains_key(&node) {
            return Err(not_found(format!("{node} never was a node of this site: see the status for its nodes")));
        }
        if let Some(hosted) = self.0.hosted().find(|hosted| is_only_voter(hosted, node)) {
            let text = format!("{node} is the only voter of {}: add and promote another node first", hosted.id());
            return Err(precondition(text));
        }
        let address = self.0.place().nodes.get(&node).map(|entry| entry.address.clone()).unwrap_or_default();
        // First the directory: from now on the id is spent, whatever becomes of the change.
        self.register(node, address, false).await?;
        self.change(&Change { kind: ChangeKind::Remove, node, address: String::new() }, None).await?;
        self.shown(None, |status| !status.members.contains_key(&node)).await;
        Ok(Response::new(MembersReply { groups: self.groups_status()? }))
    }

    async fn transfer_leader(&self, request: Request<TransferLeaderRequest>) -> Result<Response<MembersReply>, Status> {
        self.operator(&request, request.get_ref().context.as_ref())?;
        let TransferLeaderRequest { group, node, .. } = request.into_inner();
        let (group, node): (GroupId, NodeId) = (id("group", &group)?, id("node", &node)?);
        group_here(&self.0, group).await?;
        self.change(&Change { kind: ChangeKind::Lead, node, address: String::new() }, Some(group)).await?;
        self.shown(Some(group), |status| status.leader == Some(node)).await;
        Ok(Response::new(MembersReply { groups: self.groups_status()? }))
    }

    async fn snapshot(&self, request: Request<SnapshotRequest>) -> Result<Response<SnapshotReply>, Status> {
        self.operator(&request, request.get_ref().context.as_ref())?;
        for hosted in self.0.hosted() {
            let target = hosted.group.status().applied;
            hosted.group.snapshot().await.map_err(precondition)?;
            let taken = hosted.group.wait_for(CHANGE_WAIT, |status| status.snapshot >= target).await;
            let Some(target) = target.filter(|_| taken) else { continue };
            hosted.group.purge(target).await.map_err(precondition)?;
            // What the reply shows is what was done: the purge itself happens behind the call.
            hosted.group.wait_for(PURGE_WAIT, |status| status.purged >= Some(target)).await;
        }
        Ok(Response::new(SnapshotReply { groups: self.groups_status()? }))
    }

    async fn raise_level(&self, request: Request<RaiseLevelRequest>) -> Result<Response<RaiseLevelReply>, Status> {
        self.operator(&request, request.get_ref().context.as_ref())?;
        let level = u16::try_from(request.into_inner().level)
            .map_err(|_| wrong("level", format!("level: at most {LEVEL_MAX}")))?;
        for hosted in self.0.hosted() {
            let raise = Command::Raise(Raise { level, now_ms: runtime::utc_ms() });
            if let Answer::Refused(refusal) = hosted.propose(raise).await.map_err(failed)?.0 {
                return Err(refused(&refusal));
            }
        }
        Ok(Response::new(RaiseLevelReply { level: u32::from(level) }))
    }

    type BackupStream = BoxStream<'static, Result<BackupReply, Status>>;

    async fn backup(&self, request: Request<BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        // A replica that lacks its shards would neither log the backup nor give them out.
        ready(&self.0)?;
        let caller = self.operator(&request, request.get_ref().context.as_ref())?;
        backup::stream(Arc::clone(&self.0), &caller, request.into_inner()).await.map(Response::new)
    }

    async fn release_author(
        &self,
        request: Request<ReleaseAuthorRequest>,
    ) -> Result<Response<ReleaseAuthorReply>, Status> {
        self.operator(&request, request.get_ref().context.as_ref())?;
        let ReleaseAuthorRequest { shard, author, .. } = request.into_inner();
        let shard: ShardId = id("shard", &shard)?;
        let author: [u8; 16] =
            author.try_into().map_err(|_| wrong("author", "author: give its 16 bytes, as the status shows"))?;
        let hosted = match self.0.host_of(shard) {
            Some(hosted) => hosted,
            None => match whole_place(&self.0).await?.shards.get(&shard) {
                Some(entry) => return Err(elsewhere(&self.0, entry.group, format!("shard {shard}"))),
                None => return Err(no_shard(shard)),
            },
        };
        let known = hosted.look(|view| authors(view, hosted.keys(), shard)).map_err(|error| broken(&error))?;
        let state = known
            .get(&AuthorId(author))
            .ok_or_else(|| not_found("no such author in this shard: see the status for the parked ones"))?;
        let peer = state.from.ok_or_else(|| precondition("this site's own author is never parked"))?;
        let forget = Command::Forget(Forget { shard, peer, author: Some(AuthorId(author)) });
        match hosted.propose(forget).await.map_err(failed)?.0 {
            Answer::Refused(refusal) => Err(refused(&refusal)),
            _ => Ok(Response::new(ReleaseAuthorReply {})),
        }
    }
}
