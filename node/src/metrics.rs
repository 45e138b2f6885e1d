//! What a node counts, and the page on which a collector reads it.
//!
//! Owns: the metric families ([`Metrics`]), `/metrics` in the OpenMetrics text format and `/healthz` ([`serve`]).
//! Promises: no label holds personal data or a caller's words: labels are ids of groups, shards and sites, and fixed
//! words. Families do not grow without bound: what leaves a node is forgotten ([`Metrics::forget_group`],
//! [`Metrics::forget_link`]).
//! Leaves to others: when something is counted. In the simulator nothing reads the figures, and counting has no effect.
//! Limits: the page has neither TLS nor callers' identities; listen where only collectors reach it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dinhba_core::ids::{GroupId, ShardId, SiteId};
use dinhba_core::store::StoreError;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tonic::body::Body;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

/// A collector that takes longer is gone.
const PAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// A collector's connection is closed after this, so that forgotten ones do not add up.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(300);
/// What a closing connection gets to finish its page.
const CONNECTION_GRACE: Duration = Duration::from_secs(10);
/// Requests at once on one connection: a collector sends one after the other.
const PAGES_AT_ONCE_MAX: usize = 4;
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// An id as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Id<T>(T);

impl<T: std::fmt::Display> EncodeLabelValue for Id<T> {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        write!(encoder, "{}", self.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabel {
    side: &'static str,
    by: &'static str,
    reason: &'static str,
}

/// Of a figure that is there only on some nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NoLabel {}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GroupLabel {
    group: Id<GroupId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RoleLabel {
    group: Id<GroupId>,
    role: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LinkLabel {
    shard: Id<ShardId>,
    peer: Id<SiteId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LinkStateLabel {
    shard: Id<ShardId>,
    peer: Id<SiteId>,
    state: &'static str,
}

/// What a node is in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RaftRole {
    /// Takes proposals.
    Leader,
    /// Votes.
    Follower,
    /// Stands for election.
    Candidate,
    /// Copies without a vote.
    Learner,
    /// Does not run.
    Stopped,
}

impl RaftRole {
    const ALL: [RaftRole; 5] =
        [RaftRole::Leader, RaftRole::Follower, RaftRole::Candidate, RaftRole::Learner, RaftRole::Stopped];

    fn name(self) -> &'static str {
        match self {
            RaftRole::Leader => "leader",
            RaftRole::Follower => "follower",
            RaftRole::Candidate => "candidate",
            RaftRole::Learner => "learner",
            RaftRole::Stopped => "stopped",
        }
    }
}

/// How one shard's synchronisation over one link stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// No connection.
    Down,
    /// Connected, and edits are on their way.
    Behind,
    /// Proven equal.
    InStep,
}

impl LinkState {
    const ALL: [LinkState; 3] = [LinkState::Down, LinkState::Behind, LinkState::InStep];

    fn name(self) -> &'static str {
        match self {
            LinkState::Down => "down",
            LinkState::Behind => "behind",
            LinkState::InStep => "in_step",
        }
    }
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;
type Seconds = Gauge<f64, AtomicU64>;

/// Half a millisecond to 16 seconds: a flush on a good disk, to what a caller no longer waits for.
fn seconds_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.0, 16))
}

/// 1 to 1024: what one flush may cover.
fn entries_histogram() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 11))
}

/// All figures of a node. A clone counts into the same figures.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    edits: Family<OutcomeLabel, Counter>,
    reads: Family<KindLabel, Counter>,
    proposal_seconds: Histograms<GroupLabel>,
    raft_role: Family<RoleLabel, Gauge>,
    raft_term: Family<GroupLabel, Gauge>,
    raft_applied: Family<GroupLabel, Gauge>,
    link_state: Family<LinkStateLabel, Gauge>,
    link_pending_edits: Family<LinkLabel, Gauge>,
    link_lag_seconds: Family<LinkLabel, Seconds>,
    /// The site above of which the figures of a shard's link speak.
    link_peers: Arc<Mutex<BTreeMap<ShardId, SiteId>>>,
    log_flush_seconds: Histogram,
    log_flush_entries: Histogram,
    store_errors: Family<KindLabel, Counter>,
    handshakes_refused: Family<RefusedLabel, Counter>,
    acts_refused: Counter,
    certificate_expiry_seconds: Family<NoLabel, Seconds>,
    healthy: Gauge,
    disk_proved_seconds: Seconds,
    group_healthy: Family<GroupLabel, Gauge>,
    group_proved_seconds: Family<GroupLabel, Seconds>,
    access_logs_differ: Family<GroupLabel, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Ids and terms are unsigned, gauges are not; what does not fit shows as the largest number.
fn gauge_value(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn proved_value(age: Option<Duration>) -> f64 {
    age.map_or(-1.0, |age| age.as_secs_f64())
}

impl Metrics {
    /// Figures that all begin at nothing.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("dinhba");
        let edits = Family::default();
        registry.register("edits", "Edits that callers sent, by outcome", edits.clone());
        let reads = Family::default();
        registry.register("reads", "Requests that read records, by kind", reads.clone());
        let proposal_seconds = Histograms::new_with_constructor(seconds_histogram as fn() -> Histogram);
        let help = "From a proposal to its outcome";
        registry.register_with_unit("proposal", help, Unit::Seconds, proposal_seconds.clone());
        let raft_role = Family::default();
        registry.register("raft_role", "1 for what this node is in the group, else 0", raft_role.clone());
        let raft_term = Family::default();
        registry.register("raft_term", "The group's term, as this node knows it", raft_term.clone());
        let raft_applied = Family::default();
        registry.register("raft_applied", "The last log index that this node applied", raft_applied.clone());
        let link_state = Family::default();
        registry.register("link_state", "1 for how the shard stands with the peer, else 0", link_state.clone());
        let link_pending_edits = Family::default();
        let help = "Edits of the shard that the peer does not hold yet";
        registry.register("link_pending_edits", help, link_pending_edits.clone());
        let link_lag_seconds = Family::default();
        let help = "Since when the peer, as far as is known, does not hold what is here: the age of its last word";
        registry.register_with_unit("link_lag", help, Unit::Seconds, link_lag_seconds.clone());
        let log_flush_seconds = seconds_histogram();
        let help = "From an append to the flush that covers it";
        registry.register_with_unit("log_flush", help, Unit::Seconds, log_flush_seconds.clone());
        let log_flush_entries = entries_histogram();
        registry.register("log_flush_entries", "Log entries of one append", log_flush_entries.clone());
        let store_errors = Family::default();
        registry.register("store_errors", "Errors of the disk or of what is on it, by kind", store_errors.clone());
        let handshakes_refused = Family::default();
        let help = "Handshakes that did not end well: called or calling, by whom refused, why";
        registry.register("handshakes_refused", help, handshakes_refused.clone());
        let acts_refused = Counter::default();
        let help = "Calls of what operators do by those who may not";
        registry.register("acts_refused", help, acts_refused.clone());
        let certificate_expiry_seconds = Family::default();
        let help = "Until the node's own certificate expires; below 0 since when it has";
        registry.register_with_unit("certificate_expiry", help, Unit::Seconds, certificate_expiry_seconds.clone());
        let healthy = Gauge::default();
        registry.register("healthy", "1 if this node is well, as /healthz says, else 0", healthy.clone());
        let disk_proved_seconds = Seconds::default();
        let help = "Since the disk last answered a flush; -1 if it has not yet";
        registry.register_with_unit("disk_proved", help, Unit::Seconds, disk_proved_seconds.clone());
        let group_healthy = Family::default();
        registry.register("group_healthy", "1 if the group is well at this node, else 0", group_healthy.clone());
        let group_proved_seconds = Family::default();
        let help = "Since it was last proved that a proposal passes; -1 if it has not been yet";
        registry.register_with_unit("group_proved", help, Unit::Seconds, group_proved_seconds.clone());
        let access_logs_differ = Family::default();
        let help = "Access logs of other sites that did not only grow, by those sites' own word";
        registry.register("access_logs_differ", help, access_logs_differ.clone());
        Metrics {
            registry: Arc::new(registry),
            edits,
            reads,
            proposal_seconds,
            raft_role,
            raft_term,
            raft_applied,
            link_state,
            link_peers: Arc::default(),
            link_pending_edits,
            link_lag_seconds,
            log_flush_seconds,
            log_flush_entries,
            store_errors,
            handshakes_refused,
            acts_refused,
            certificate_expiry_seconds,
            healthy,
            disk_proved_seconds,
            group_healthy,
            group_proved_seconds,
            access_logs_differ,
        }
    }

    /// A caller's edit ended with `outcome`: `accepted`, or the word for its refusal.
    pub fn edit(&self, outcome: &'static str) {
        self.edits.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// A request of `kind` (an action's name) read records.
    pub fn read(&self, kind: &'static str) {
        self.reads.get_or_create(&KindLabel { kind }).inc();
    }

    /// A proposal to `group` took so long to come back with its outcome.
    pub fn proposal(&self, group: GroupId, took: Duration) {
        self.proposal_seconds.get_or_create(&GroupLabel { group: Id(group) }).observe(took.as_secs_f64());
    }

    /// Where this node stands in `group`.
    pub fn raft(&self, group: GroupId, role: RaftRole, term: u64, applied: u64) {
        let group = Id(group);
        for other in RaftRole::ALL {
            let gauge = self.raft_role.get_or_create_owned(&RoleLabel { group, role: other.name() });
            gauge.set(i64::from(other == role));
        }
        self.raft_term.get_or_create(&GroupLabel { group }).set(gauge_value(term));
        self.raft_applied.get_or_create(&GroupLabel { group }).set(gauge_value(applied));
    }

    /// Whether this node is well, and since when its disk has not answered.
    pub fn health(&self, is_well: bool, disk_proved: Option<Duration>) {
        self.healthy.set(i64::from(is_well));
        self.disk_proved_seconds.set(proved_value(disk_proved));
    }

    /// Whether `group` is well here, and since when it is not proved again that a proposal passes.
    pub fn group_health(&self, group: GroupId, is_well: bool, proved: Option<Duration>) {
        let label = GroupLabel { group: Id(group) };
        self.group_healthy.get_or_create(&label).set(i64::from(is_well));
        self.group_proved_seconds.get_or_create(&label).set(proved_value(proved));
    }

    /// So many access logs of other sites were found by `group` not to have only grown.
    pub fn access_logs_differ(&self, group: GroupId, logs: u64) {
        self.access_logs_differ.get_or_create(&GroupLabel { group: Id(group) }).set(gauge_value(logs));
    }

    /// `group` is no longer on this node.
    pub fn forget_group(&self, group: GroupId) {
        let group = Id(group);
        for role in RaftRole::ALL {
            self.raft_role.remove(&RoleLabel { group, role: role.name() });
        }
        self.raft_term.remove(&GroupLabel { group });
        self.raft_applied.remove(&GroupLabel { group });
        self.group_healthy.remove(&GroupLabel { group });
        self.group_proved_seconds.remove(&GroupLabel { group });
        self.access_logs_differ.remove(&GroupLabel { group });
        self.proposal_seconds.remove(&GroupLabel { group });
    }

    /// How `shard` stands with the site above, `peer`: its state, the edits that the peer lacks, and how old the peer's last
    /// word is, if it lacks any. Of the site that was above before, nothing is said any more.
    pub fn link(&self, shard: ShardId, peer: SiteId, state: LinkState, pending_edits: u64, lag: Duration) {
        let before = self.link_peers().insert(shard, peer);
        if let Some(before) = before.filter(|before| *before != peer) {
            self.forget_peer(shard, before);
        }
        let (shard, peer) = (Id(shard), Id(peer));
        for other in LinkState::ALL {
            let label = LinkStateLabel { shard, peer, state: other.name() };
            self.link_state.get_or_create(&label).set(i64::from(other == state));
        }
        self.link_pending_edits.get_or_create(&LinkLabel { shard, peer }).set(gauge_value(pending_edits));
        self.link_lag_seconds.get_or_create(&LinkLabel { shard, peer }).set(lag.as_secs_f64());
    }

    /// `shard` no longer goes over a link.
    pub fn forget_link(&self, shard: ShardId) {
        let before = self.link_peers().remove(&shard);
        if let Some(peer) = before {
            self.forget_peer(shard, peer);
        }
    }

    fn link_peers(&self) -> MutexGuard<'_, BTreeMap<ShardId, SiteId>> {
        self.link_peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget_peer(&self, shard: ShardId, peer: SiteId) {
        let (shard, peer) = (Id(shard), Id(peer));
        for state in LinkState::ALL {
            self.link_state.remove(&LinkStateLabel { shard, peer, state: state.name() });
        }
        self.link_pending_edits.remove(&LinkLabel { shard, peer });
        self.link_lag_seconds.remove(&LinkLabel { shard, peer });
    }

    /// An append of so many entries waited so long for the flush that covers it.
    pub fn log_flush(&self, took: Duration, entries: usize) {
        self.log_flush_seconds.observe(took.as_secs_f64());
        // Exact below 2^53, far above what one flush covers.
        self.log_flush_entries.observe(entries as f64);
    }

    /// The disk, or what is on it, failed.
    pub fn store_error(&self, error: &StoreError) {
        let kind = match error {
            StoreError::Io(_) => "io",
            StoreError::Full(_) => "full",
            StoreError::Corrupt { .. } => "corrupt",
            StoreError::Replacing => "replacing",
            StoreError::Newer { .. } => "newer",
            StoreError::Keyed { .. } => "keyed",
            StoreError::Poisoned(_) => "poisoned",
        };
        self.store_errors.get_or_create(&KindLabel { kind }).inc();
    }

    /// A handshake did not end well. All three are fixed words.
    pub fn handshake_refused(&self, side: &'static str, by: &'static str, reason: &'static str) {
        self.handshakes_refused.get_or_create(&RefusedLabel { side, by, reason }).inc();
    }

    /// Somebody asked for what operators do, and may not.
    pub fn act_refused(&self) {
        self.acts_refused.inc();
    }

    /// How long the node's own certificate is still valid, in milliseconds; below 0 since when it is not.
    pub fn certificate_expiry(&self, left_ms: i64) {
        // Exact below 2^53.
        self.certificate_expiry_seconds.get_or_create(&NoLabel {}).set(left_ms as f64 / 1000.0);
    }

    /// All figures in the OpenMetrics text format.
    #[must_use]
    pub fn page(&self) -> String {
        let mut page = String::new();
        encode(&mut page, &self.registry).expect("writing to a string cannot fail");
        page
    }
}

/// Brings the figures that are looked up, not counted, up to date: asked for each time before a page is written.
pub type Refresh = Arc<dyn Fn() + Send + Sync>;

/// Says whether the node is well, or why not, without personal data.
pub type Health = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Answers `/metrics` and `/healthz` over HTTP until `shutdown`.
pub async fn serve(
    incoming: TcpIncoming,
    metrics: Metrics,
    refresh: Refresh,
    health: Health,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let service = tower::service_fn(move |request: Request<Body>| {
        let response = answer(request.method(), request.uri().path(), &metrics, &refresh, &health);
        async move { Ok::<_, Infallible>(response) }
    });
    Server::builder()
        .accept_http1(true)
        .timeout(PAGE_TIMEOUT)
        .concurrency_limit_per_connection(PAGES_AT_ONCE_MAX)
        .max_connection_age(CONNECTION_AGE_MAX)
        .max_connection_age_grace(CONNECTION_GRACE)
        .serve_with_incoming_shutdown(service, incoming, shutdown)
        .await
}

fn answer(method: &Method, path: &str, metrics: &Metrics, refresh: &Refresh, health: &Health) -> Response<String> {
    let plain = "text/plain; charset=utf-8";
    let (status, kind, page) = match path {
        _ if method != Method::GET => (StatusCode::METHOD_NOT_ALLOWED, plain, "use GET\n".to_owned()),
        "/metrics" => {
            refresh();
            (StatusCode::OK, OPEN_METRICS, metrics.page())
        }
        "/healthz" => match health() {
            Ok(()) => (StatusCode::OK, plain, "ok\n".to_owned()),
            Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, plain, format!("{reason}\n")),
        },
        _ => (StatusCode::NOT_FOUND, plain, "there are /metrics and /healthz\n".to_owned()),
    };
    let mut response = Response::new(page);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    const GROUP: GroupId = GroupId(7);
    const SHARD: ShardId = ShardId(3);
    const PEER: SiteId = SiteId(9);

    fn line(metrics: &Metrics, start: &str) -> Option<String> {
        let page = metrics.page();
        let found = page.lines().find_map(|line| line.strip_prefix(start));
        found.map(|value| value.trim().to_owned())
    }

    #[test]
    fn what_is_counted_is_on_the_page() {
        let metrics = Metrics::new();
        metrics.edit("accepted");
        metrics.clone().edit("accepted");
        metrics.edit("stale");
        metrics.read("find");
        metrics.proposal(GROUP, Duration::from_millis(3));
        metrics.log_flush(Duration::from_millis(1), 16);
        metrics.store_error(&StoreError::Io("gone".to_owned()));
        for (start, value) in [
            ("dinhba_edits_total{outcome=\"accepted\"}", "2"),
            ("dinhba_edits_total{outcome=\"stale\"}", "1"),
            ("dinhba_reads_total{kind=\"find\"}", "1"),
            ("dinhba_proposal_seconds_bucket{le=\"0.002\",group=\"g-0000000000000007\"}", "0"),
            ("dinhba_proposal_seconds_bucket{le=\"0.004\",group=\"g-0000000000000007\"}", "1"),
            ("dinhba_log_flush_seconds_count", "1"),
            ("dinhba_log_flush_entries_sum", "16.0"),
            ("dinhba_store_errors_total{kind=\"io\"}", "1"),
        ] {
            assert_eq!(line(&metrics, start).as_deref(), Some(value), "{start} in\n{}", metrics.page());
        }
        assert!(metrics.page().ends_with("# EOF\n"));
    }

    #[test]
    fn a_group_has_one_role_at_a_time_and_is_forgotten_when_it_leaves() {
        let metrics = Metrics::new();
        metrics.raft(GROUP, RaftRole::Candidate, 4, 10);
        metrics.raft(GROUP, RaftRole::Leader, 5, 11);
        let role = |role: &str| format!("dinhba_raft_role{{group=\"{GROUP}\",role=\"{role}\"}}");
        assert_eq!(line(&metrics, &role("leader")).as_deref(), Some("1"));
        assert_eq!(line(&metrics, &role("candidate")).as_deref(), Some("0"));
        assert_eq!(line(&metrics, &format!("dinhba_raft_term{{group=\"{GROUP}\"}}")).as_deref(), Some("5"));
        metrics.proposal(GROUP, Duration::ZERO);
        metrics.forget_group(GROUP);
        assert!(!metrics.page().contains(&GROUP.to_string()), "{}", metrics.page());
    }

    #[test]
    fn a_link_says_how_far_behind_it_is_and_is_forgotten_when_it_ends() {
        let metrics = Metrics::new();
        metrics.link(SHARD, PEER, LinkState::Behind, 12, Duration::from_secs(90));
        let labels = format!("shard=\"{SHARD}\",peer=\"{PEER}\"");
        assert_eq!(line(&metrics, &format!("dinhba_link_pending_edits{{{labels}}}")).as_deref(), Some("12"));
        assert_eq!(line(&metrics, &format!("dinhba_link_lag_seconds{{{labels}}}")).as_deref(), Some("90.0"));
        metrics.link(SHARD, PEER, LinkState::InStep, 0, Duration::ZERO);
        let state = |state: &str| format!("dinhba_link_state{{{labels},state=\"{state}\"}}");
        assert_eq!(line(&metrics, &state("in_step")).as_deref(), Some("1"));
        assert_eq!(line(&metrics, &state("behind")).as_deref(), Some("0"));
        // The site was moved below another one.
        let above = SiteId(PEER.0 + 1);
        metrics.link(SHARD, above, LinkState::Down, 0, Duration::ZERO);
        assert!(!metrics.page().contains(&PEER.to_string()), "{}", metrics.page());
        metrics.forget_link(SHARD);
        assert!(!metrics.page().contains(&SHARD.to_string()), "{}", metrics.page());
    }

    /// What a collector gets: the status line, the content type, the body.
    async fn get(address: SocketAddr, request: &str) -> (String, String, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{request} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().to_owned();
        let kind = lines.find_map(|line| line.strip_prefix("content-type: ")).unwrap().to_owned();
        (status, kind, body.to_owned())
    }

    #[tokio::test]
    async fn a_collector_reads_the_figures_and_the_health() {
        let metrics = Metrics::new();
        let counted = metrics.clone();
        let refresh: Refresh = Arc::new(move || counted.edit("accepted"));
        let well = Arc::new(AtomicBool::new(true));
        let health: Health = {
            let well = well.clone();
            Arc::new(move || if well.load(Ordering::SeqCst) { Ok(()) } else { Err("the disk is full".to_owned()) })
        };
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = incoming.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = crate::runtime::spawn(
            "page",
            serve(incoming, metrics, refresh, health, async move {
                let _ = stopped.await;
            }),
        );

        let (status, kind, page) = get(address, "GET /metrics").await;
        assert_eq!((&*status, &*kind), ("HTTP/1.1 200 OK", OPEN_METRICS));
        assert!(page.contains("dinhba_edits_total{outcome=\"accepted\"} 1\n"), "{page}");
        assert_eq!(get(address, "GET /healthz").await.2, "ok\n");
        well.store(false, Ordering::SeqCst);
        let (status, _, body) = get(address, "GET /healthz").await;
        assert_eq!((&*status, &*body), ("HTTP/1.1 503 Service Unavailable", "the disk is full\n"));
        assert_eq!(get(address, "GET /").await.0, "HTTP/1.1 404 Not Found");
        assert_eq!(get(address, "POST /metrics").await.0, "HTTP/1.1 405 Method Not Allowed");

        stop.send(()).unwrap();
        crate::runtime::timeout(Duration::from_secs(5), server).await.unwrap().unwrap().unwrap();
    }
}
