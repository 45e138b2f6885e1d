//! The parent's end of the links.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dinhba_core::claims::Identity;
use dinhba_core::command::ShardInfo;
use dinhba_core::ids::{GroupId, ShardId, SiteId};
use dinhba_proto::v1::link_server::Link;
use dinhba_proto::v1::{LinkFrame, LocateReply, LocateRequest, LocatedGroup};
use futures::channel::{mpsc, oneshot};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt, future};
use tonic::{Request, Response, Status, Streaming};

use super::answer::{broken, denied, move_on, not_accepted, not_found, wrong};
use super::{id, ready};
use crate::link::{ABOUT_BYTES_MAX, Conversation, End, GREETING_WAIT, Held};
use crate::pki::peer_identity;
use crate::runtime;
use crate::shared::Shared;
use crate::stay::Stay;

/// Shards that one question may name: all communes of the country, with room.
const SHARDS_MAX: usize = 20_000;

/// The service.
pub struct LinkService(pub Arc<Shared>);

impl LinkService {
    /// The child site that calls, by its certificate and the directory.
    fn child<T>(&self, request: &Request<T>) -> Result<SiteId, Status> {
        let Identity::Node { site, .. } = peer_identity(request)? else {
            return Err(denied("links are for the nodes of child sites"));
        };
        if self.0.may_be_child(site) {
            return Ok(site);
        }
        Err(denied(format!("{site} is neither a child of {} in the directory nor in its area", self.0.site())))
    }

    /// The shards of a group here that lie in the child's area, and the ancestor shards of the units above it.
    fn shards_of_child(&self, group: GroupId, child: SiteId) -> Result<BTreeSet<ShardId>, Status> {
        let hosted = self.0.group(group).ok_or_else(|| not_found(format!("{group} does not run here")))?;
        let place = self.0.place();
        let Some(unit) = place.sites.get(&child).map(|listed| listed.unit) else { return Ok(BTreeSet::new()) };
        let (shards, above) = (hosted.shards().map_err(|error| broken(&error))?, self.0.path(unit));
        let is_of_child =
            |info: &ShardInfo| info.path.contains(&unit) || (info.is_ancestor() && above.contains(&info.home()));
        Ok(shards.into_iter().filter(|shard| is_of_child(&shard.info)).map(|shard| shard.info.shard).collect())
    }
}

#[tonic::async_trait]
impl Link for LinkService {
    async fn locate(&self, request: Request<LocateRequest>) -> Result<Response<LocateReply>, Status> {
        ready(&self.0)?;
        let child = self.child(&request)?;
        let shards = request.into_inner().shards;
        if shards.len() > SHARDS_MAX {
            return Err(wrong("shards", format!("at most {SHARDS_MAX} shards at once")));
        }
        let place = self.0.place();
        let mut groups: BTreeMap<GroupId, Vec<ShardId>> = BTreeMap::new();
        for text in shards {
            let shard: ShardId = id("shards", &text)?;
            if let Some(entry) = place.shards.get(&shard) {
                groups.entry(entry.group).or_default().push(shard);
            }
        }
        let mut located = Vec::new();
        for (group, wanted) in groups {
            let Some(hosted) = self.0.group(group) else { continue };
            let allowed = self.shards_of_child(group, child)?;
            let shards: Vec<String> =
                wanted.iter().filter(|shard| allowed.contains(shard)).map(ToString::to_string).collect();
            let (leader, address) = match hosted.group.leader() {
                Some((node, address)) => (node.to_string(), address),
                None => (String::new(), String::new()),
            };
            if !shards.is_empty() {
                located.push(LocatedGroup { group: group.to_string(), shards, leader, address });
            }
        }
        Ok(Response::new(LocateReply { groups: located }))
    }

    type SessionStream = BoxStream<'static, Result<LinkFrame, Status>>;

    async fn session(&self, request: Request<Streaming<LinkFrame>>) -> Result<Response<Self::SessionStream>, Status> {
        ready(&self.0)?;
        let child = self.child(&request)?;
        let over = Stay::over(request.extensions());
        let mut incoming = request.into_inner();
        let shared = Arc::clone(&self.0);
        let first = runtime::timeout(GREETING_WAIT, incoming.message())
            .await
            .map_err(|_| not_accepted("the first frame, which names the group, did not come in time"))??
            .ok_or_else(|| wrong("group", "the first frame names the group"))?;
        let group: GroupId = id("group", &first.group)?;
        let offered = self.shards_of_child(group, child)?;
        let hosted = shared.group(group).ok_or_else(|| not_found(format!("{group} does not run here")))?.clone();
        if !hosted.group.is_leader() {
            return Err(not_accepted(format!("this node does not lead {group}: locate its leader again")));
        }
        // It is kept for as long as the session lives.
        if first.about.len() > ABOUT_BYTES_MAX {
            return Err(wrong("about", format!("about: at most {ABOUT_BYTES_MAX} bytes")));
        }
        let (outgoing, frames) = mpsc::unbounded();
        let held = Held { seated: shared.sessions.sit(group, child, &first.about), over };
        let conversation = Conversation::new(shared, hosted, child, true, offered, outgoing, Some(held));
        let (tell, told) = oneshot::channel();
        runtime::spawn("session", async move {
            let last = match conversation.run(incoming.into_stream().boxed()).await {
                End::MoveOn => Some(move_on()),
                End::Replaced => Some(not_accepted("another session of this child is about the same shards")),
                End::Why(_) => None,
            };
            // The child may be gone.
            let _ = tell.send(last);
        });
        let last = told.into_stream().filter_map(|last| future::ready(last.ok().flatten().map(Err)));
        Ok(Response::new(frames.map(Ok).chain(last).boxed()))
    }
}
