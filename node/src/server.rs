//! The node's door: one gRPC server with all services, and the page of metrics.

use std::sync::Arc;
use std::time::Duration;

use dinhba_client::handshake::Validity;
use dinhba_client::tls::MESSAGE_BYTES_MAX;
use dinhba_core::claims::Identity;
use dinhba_core::command::{Command, Proposal};
use dinhba_core::date::InstantMs;
use dinhba_core::encoding::Wire;
use dinhba_core::ids::{GroupId, NodeId};
use dinhba_proto::peer::v1::Frame;
use dinhba_proto::v1::link_server::LinkServer;
use dinhba_proto::v1::records_server::RecordsServer;
use dinhba_proto::v1::site_server::SiteServer;
use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{self, BoxFuture};
use openraft_rt::watch::WatchReceiver;
use tonic::codegen::http;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Status, Streaming};
use tonic_health::ServingStatus;
use tower::util::{MapRequestLayer, MapResponseLayer};

use crate::call::Call;
use crate::gate::Gate;
use crate::node::Node;
use crate::pki::peer_identity;
use crate::raft::peer::{Admit, Body, PeerService};
use crate::service::answer::{denied, unread};
use crate::service::{LinkService, RecordsService, SiteService};
use crate::shared::Shared;
use crate::stay::Stay;
use crate::tls::{Bounds, Door, Visitor, listen_plain};
use crate::{health, metrics, runtime, tls};

/// How often the health that callers see is looked after.
const HEALTH_EVERY: Duration = Duration::from_millis(500);

/// How often the node's own certificate is compared with the clock, which may be set meanwhile.
const CERTIFICATE_EVERY: Duration = Duration::from_secs(10);

/// A certificate that ends within this is warned of, once a day: time enough to have another one made and to start the node again.
const CERTIFICATE_WARNING_MS: i64 = 30 * DAY_MS;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Lets the nodes of this site in to the peer stream, and nobody else; what each of them may call there depends on where it
/// stands now, whatever its certificate says.
struct SameSite(Arc<Shared>);

/// Where a node of this site stands, as far as is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// In the membership in force of the group, or in the directory.
    Member,
    /// Neither: it is only about to join, or this replica has not heard of it yet.
    Stranger,
    /// Taken out for good. Who is still a member is no such one yet: a leader takes itself out.
    Left,
}

impl SameSite {
    fn standing(&self, node: NodeId, group: GroupId) -> Standing {
        if self.0.group(group).is_some_and(|hosted| hosted.group.has_member(node)) {
            return Standing::Member;
        }
        match self.0.place().nodes.get(&node) {
            Some(entry) if entry.present => Standing::Member,
            Some(_) => Standing::Left,
            None => Standing::Stranger,
        }
    }
}

impl Admit for SameSite {
    fn admit(&self, request: &Request<Streaming<Frame>>) -> Result<Option<NodeId>, Status> {
        match peer_identity(request)? {
            Identity::Node { site, node } if site == self.0.site() => Ok(Some(node)),
            _ => Err(denied("only the nodes of this site speak here: use the records service")),
        }
    }

    fn may_call(&self, caller: NodeId, group: GroupId, body: &Body) -> Result<(), String> {
        may_call(caller, self.standing(caller, group), body, self.0.level_max)
    }

    fn left(&self, caller: NodeId) -> BoxFuture<'static, Status> {
        let mut gone = self.0.gone();
        async move {
            if WatchReceiver::wait_until(&mut gone, |gone| gone.contains(&caller)).await.is_err() {
                // The node ends.
                future::pending::<()>().await;
            }
            denied(left_for_good(caller))
        }
        .boxed()
    }
}

fn left_for_good(caller: NodeId) -> String {
    format!("{caller} left this site for good: a new node needs a new id")
}

fn may_call(caller: NodeId, standing: Standing, body: &Body, level_max: u16) -> Result<(), String> {
    // Who leads may be somebody that this replica has not heard of yet.
    let is_of_raft = matches!(
        body,
        Body::Append(_) | Body::Vote(_) | Body::PreVote(_) | Body::Transfer(_) | Body::Snapshot(_) | Body::Fetch(_)
    );
    // Who is about to join asks of everybody whether it has, and so does who was away, to hear whether it was taken out
    // meanwhile; and who is to be let in is asked by members of whom it has not heard yet what it knows.
    let is_of_joining = matches!(body, Body::App(app)
        if matches!(Call::from_bytes(&app.payload), Ok(Call::Joined(_) | Call::LevelMax(_))));
    match standing {
        _ if is_of_joining => return Ok(()),
        Standing::Member => {}
        Standing::Stranger if is_of_raft => {}
        Standing::Stranger => return Err(format!("{caller} is no member of this site, as far as is known here")),
        Standing::Left => return Err(left_for_good(caller)),
    }
    match body {
        // Every replica would stop at it, and again after each restart.
        Body::Propose(proposed) => {
            let read = Proposal::from_bytes(&proposed.command).map_err(|error| {
                format!("a command that cannot be read is not proposed ({error}): upgrade this node")
            })?;
            let is_above = |command: &Command| matches!(command, Command::Raise(raise) if raise.level > level_max);
            match read.commands.iter().any(is_above) {
                true => Err(format!("no level above {level_max} is known here: upgrade this node first")),
                false => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// The services of a node. Callers are who their certificates say, or, in requests that carry
/// [`TrustHeader`](crate::pki::TrustHeader), who a header says.
#[must_use]
pub fn routes(node: &Node) -> Routes {
    let shared = &node.shared;
    let peers = PeerService::new(shared.groups.clone(), node.calls(), Arc::new(SameSite(Arc::clone(shared))));
    Routes::new(peers.into_server())
        .add_service(
            RecordsServer::new(RecordsService(Arc::clone(shared)))
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX),
        )
        .add_service(SiteServer::new(SiteService(Arc::clone(shared))))
        .add_service(
            LinkServer::new(LinkService(Arc::clone(shared)))
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX),
        )
}

/// Serves until `closing`.
pub async fn serve(node: Arc<Node>, door: Door, incoming: TcpIncoming, closing: oneshot::Receiver<()>) {
    let shared = Arc::clone(&node.shared);
    let closing = closing.map(|_| ()).shared();
    if let Some(validity) = door.validity() {
        let _ = shared.certificate.set(validity);
        runtime::spawn("certificate", watch_certificate(Arc::clone(&shared), validity));
    }
    if let Some(address) = &shared.config.node.metrics_listen {
        match listen_plain(address) {
            Ok(incoming) => {
                let (figures, well) = (Arc::clone(&shared), Arc::clone(&shared));
                let page = metrics::serve(
                    incoming,
                    shared.metrics.clone(),
                    Arc::new(move || {
                        figures.keep_figures();
                        figures.keep_certificate_figure();
                    }),
                    Arc::new(move || well.health()),
                    closing.clone(),
                );
                runtime::spawn("metrics", page);
            }
            Err(error) => tracing::error!(%error, "node.metrics_listen: no metrics page"),
        }
    }
    let (reporter, health_service) = tonic_health::server::health_reporter();
    runtime::spawn("health", health::keep(Arc::clone(&shared)));
    runtime::spawn("health service", keep_health(Arc::clone(&shared), reporter));
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(dinhba_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let callers = door.admit(incoming, Arc::clone(&shared.refusals)).map_err(|error| error.to_string());
    // Both versions: Python's own client, for one, knows the older alone.
    let (callers, reflection, reflection_old) = match (callers, reflection().build_v1(), reflection().build_v1alpha()) {
        (Ok(callers), Ok(reflection), Ok(reflection_old)) => (callers, reflection, reflection_old),
        (callers, reflection, reflection_old) => {
            let error = callers.err();
            let error = error.or_else(|| reflection.err().map(|e| e.to_string()));
            let error = error.or_else(|| reflection_old.err().map(|e| e.to_string()));
            tracing::error!(error, "the door cannot open");
            return;
        }
    };
    let routes = routes(&node).add_service(health_service).add_service(reflection).add_service(reflection_old);
    let age_max = Duration::from_millis(shared.config.node.connection_age_ms);
    let bounds = Bounds { age_max, site: shared.site(), left: shared.gone() };
    // A server for each connection, since each has an end of its own; what callers have under way counts for all together.
    let gate = Gate::default();
    let serve = |stay: Stay, visitor: Visitor, closing: BoxFuture<'static, ()>| {
        let mark = move |mut request: http::Request<tonic::body::Body>| {
            request.extensions_mut().insert(stay.clone());
            request
        };
        door.server()
            .layer(MapRequestLayer::new(mark))
            .layer(MapResponseLayer::new(clarify))
            .layer(gate.clone())
            .add_routes(routes.clone())
            .serve_with_incoming_shutdown(visitor, closing)
    };
    tls::receive(callers, bounds, closing, serve).await;
}

/// The one place where what the transport says of a call that reached no service is put into our words.
fn clarify(response: http::Response<tonic::body::Body>) -> http::Response<tonic::body::Body> {
    match Status::from_header_map(response.headers()) {
        Some(status) if [Code::Internal, Code::OutOfRange].contains(&status.code()) => unread(status).into_http(),
        _ => response,
    }
}

/// Tells the standard health service whether this node serves.
async fn keep_health(shared: Arc<Shared>, reporter: tonic_health::server::HealthReporter) {
    while !shared.is_stopping() {
        let status = if shared.health().is_ok() { ServingStatus::Serving } else { ServingStatus::NotServing };
        reporter.set_service_status("", status).await;
        runtime::sleep(HEALTH_EVERY).await;
    }
    reporter.set_service_status("", ServingStatus::NotServing).await;
}

impl Shared {
    /// What is wrong with the node's own certificate now: nobody can call it then, and it can call nobody.
    pub(crate) fn certificate_health(&self) -> Result<(), String> {
        let complaint = self.certificate.get().and_then(|validity| validity.complaint(InstantMs(runtime::utc_ms())));
        complaint.map_or(Ok(()), Err)
    }

    fn keep_certificate_figure(&self) {
        if let Some(validity) = self.certificate.get() {
            self.metrics.certificate_expiry(validity.until.0.saturating_sub(runtime::utc_ms()));
        }
    }
}

/// Says when the node's own certificate is no longer valid, or not yet, or soon no longer; and when it is again.
async fn watch_certificate(shared: Arc<Shared>, validity: Validity) {
    let mut stopping = shared.stopping();
    let (mut was_well, mut warned_ms) = (true, None::<i64>);
    loop {
        let now = InstantMs(runtime::utc_ms());
        match (validity.complaint(now), was_well) {
            (Some(complaint), true) => {
                tracing::error!(from = %validity.from, until = %validity.until, "nobody can call this node: {complaint}");
            }
            (None, false) => tracing::info!(until = %validity.until, "this node's certificate is valid now"),
            _ => {}
        }
        was_well = validity.check(now).is_ok();
        // A clock that was set back warns again too.
        let is_due = warned_ms.is_none_or(|warned| !(0..DAY_MS).contains(&(now.0 - warned)));
        if was_well && validity.until.0 - now.0 < CERTIFICATE_WARNING_MS && is_due {
            warned_ms = Some(now.0);
            let days = (validity.until.0 - now.0) / DAY_MS;
            tracing::warn!(until = %validity.until, days, "this node's certificate expires soon: have a new one made");
        }
        if runtime::timeout(CERTIFICATE_EVERY, WatchReceiver::changed(&mut stopping)).await.is_ok() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use dinhba_core::command::{Forget, Nothing, Raise};
    use dinhba_core::ids::{ShardId, SiteId};
    use dinhba_core::level::LEVEL_MAX;
    use dinhba_proto::peer::v1 as wire;

    use super::*;
    use crate::call::{Change, ChangeKind};

    fn may_call(caller: NodeId, standing: Standing, body: &Body) -> Result<(), String> {
        super::may_call(caller, standing, body, LEVEL_MAX)
    }

    fn app(call: &Call) -> Body {
        Body::App(wire::App { payload: call.to_bytes() })
    }

    #[test]
    fn who_is_no_member_may_ask_to_join_and_follow_raft_and_nothing_else() {
        let node = NodeId(7);
        let change = Change { kind: ChangeKind::Promote, node, address: String::new() };
        let command =
            |level| Proposal { at_ms: 1, commands: vec![Command::Raise(Raise { level, now_ms: 1 })] }.to_bytes();
        let propose = |level| Body::Propose(wire::ProposeRequest { command: command(level), wait_ms: 1 });
        assert!(may_call(node, Standing::Member, &propose(LEVEL_MAX + 1)).unwrap_err().contains("no level above"));
        let propose = propose(LEVEL_MAX);
        let read_index = Body::ReadIndex(wire::ReadIndexRequest {});
        for body in [&app(&Call::Change(change)), &propose, &read_index, &Body::App(wire::App { payload: vec![0xff] })]
        {
            let refused = may_call(node, Standing::Stranger, body).unwrap_err();
            assert!(refused.contains("no member"), "{refused}");
            assert_eq!(may_call(node, Standing::Member, body), Ok(()));
        }
        for body in
            [&app(&Call::Joined(node)), &app(&Call::LevelMax(Nothing)), &Body::Vote(wire::VoteRequest::default())]
        {
            assert_eq!(may_call(node, Standing::Stranger, body), Ok(()));
        }
        let vote = Body::Vote(wire::VoteRequest::default());
        assert!(may_call(node, Standing::Left, &vote).unwrap_err().contains("for good"));
        assert_eq!(may_call(node, Standing::Left, &app(&Call::Joined(node))), Ok(()), "it may ask whether it left");
    }

    #[test]
    fn what_cannot_be_read_is_not_proposed() {
        let forget = Command::Forget(Forget { shard: ShardId(1), peer: SiteId(2), author: None });
        let whole = Proposal { at_ms: 1, commands: vec![forget] }.to_bytes();
        let proposed = |command: Vec<u8>| {
            may_call(NodeId(7), Standing::Member, &Body::Propose(wire::ProposeRequest { command, wait_ms: 1 }))
        };
        assert_eq!(proposed(whole.clone()), Ok(()));
        let mut of_a_newer_version = whole.clone();
        of_a_newer_version[1] = 200;
        for unreadable in
            [of_a_newer_version, whole[..whole.len() - 1].to_vec(), [&whole[..], &[0]].concat(), vec![9; 40]]
        {
            assert!(proposed(unreadable).unwrap_err().contains("not proposed"));
        }
    }
}
