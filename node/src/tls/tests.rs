use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use dinhba_client::tls::{CONNECT_TIMEOUT, IDENTITY_HEADER, named, node_name, site_name};
use dinhba_client::transport::Transport;
use dinhba_core::claims::Role;
use dinhba_core::date::InstantMs;
use dinhba_core::ids::{NodeId, SiteId, UnitId};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tonic::codegen::http;
use tonic::transport::Certificate;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health, HealthServer};
use tower::ServiceExt;

use super::porter::{CONNECTIONS_OF_ONE_MAX, HANDSHAKES_OF_ONE_MAX};
use super::*;
use crate::metrics::Metrics;
use crate::pki::{CertPaths, DevAuthority, peer_identity};
use crate::refusals::Telling;
use crate::runtime::JoinHandle;
use crate::runtime::watch::{self, WatchSender};
use crate::stay::Stay;

const SITE: SiteId = SiteId(0x51);
const NODE: NodeId = NodeId(0x11);
const UNIT: UnitId = UnitId(0xc3);

/// A health service that resolves every caller, as a node's services do.
struct Caller {
    seen: mpsc::UnboundedSender<Identity>,
}

#[tonic::async_trait]
impl Health for Caller {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<tonic_health::pb::HealthCheckResponse>, Status> {
        self.seen.send(peer_identity(&request)?).expect("the test listens");
        Ok(tonic::Response::new(tonic_health::pb::HealthCheckResponse { status: ServingStatus::Serving as i32 }))
    }

    type WatchStream = tokio_stream::Empty<Result<tonic_health::pb::HealthCheckResponse, Status>>;
    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<tonic::Response<Self::WatchStream>, Status> {
        Ok(tonic::Response::new(tokio_stream::empty()))
    }
}

/// A node that serves, and whom it saw.
struct Served {
    port: u16,
    seen: mpsc::UnboundedReceiver<Identity>,
    metrics: Metrics,
    _stop: oneshot::Sender<()>,
    _task: JoinHandle<()>,
}

impl Served {
    /// The node's address, for dialers that expect `name` there.
    fn address(&self, name: &str) -> String {
        named(name, &format!("127.0.0.1:{}", self.port))
    }
}

fn serve(door: &Door) -> Served {
    let (sender, seen) = mpsc::unbounded_channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = incoming.local_addr().unwrap().port();
    let metrics = Metrics::new();
    let callers = door.admit(incoming, Arc::new(Refusals::new(metrics.clone()))).unwrap();
    let router = door.server().add_service(HealthServer::new(Caller { seen: sender }));
    let task = crate::runtime::spawn("server", async move {
        let until = async {
            let _ = stopped.await;
        };
        router.serve_with_incoming_shutdown(callers, until).await.unwrap();
    });
    Served { port, seen, metrics, _stop: stop, _task: task }
}

async fn call(transport: Transport) -> Result<(), Status> {
    let mut client = HealthClient::new(transport);
    let call = client.check(HealthCheckRequest { service: String::new() });
    crate::runtime::timeout(Duration::from_secs(5), call).await.expect("an answer or a refusal").map(|_| ())
}

async fn dial_and_call(dialer: &dyn Dial, address: String) -> Result<(), String> {
    let transport = dialer.dial(address).await.map_err(|error| error.to_string())?;
    call(transport).await.map_err(|status| format!("{status:?}"))
}

fn door_of(paths: &CertPaths) -> Door {
    Door::Mutual(paths.read().unwrap())
}

#[tokio::test]
async fn an_officer_gets_in_as_what_the_certificate_says() {
    let dir = tempfile::tempdir().unwrap();
    let authority = DevAuthority::create(dir.path()).unwrap();
    let mut served = serve(&door_of(&authority.issue_node(SITE, NODE).unwrap()));
    let lan = authority.issue_person("lan", Role::Registrar, UNIT).unwrap();
    // By the node's name, by its site's, and by the host alone.
    for address in [
        served.address(&node_name(NODE)),
        served.address(&site_name(SITE)),
        format!("127.0.0.1:{}", served.port),
        format!("localhost:{}", served.port),
    ] {
        dial_and_call(&TlsDialer::new(&lan.read().unwrap()), address).await.unwrap();
        let Identity::Person(claims) = served.seen.recv().await.unwrap() else { panic!("a person is no node") };
        assert_eq!((&*claims.subject, claims.role, claims.unit), ("lan", Role::Registrar, UNIT));
        let der = certificates(&lan.read().unwrap().certificate).unwrap().remove(0);
        assert_eq!(claims.evidence.0, blake3::hash(&der).as_bytes()[..16]);
    }
}

#[tokio::test]
async fn a_node_gets_in_as_a_node() {
    let dir = tempfile::tempdir().unwrap();
    let authority = DevAuthority::create(dir.path()).unwrap();
    let mut served = serve(&door_of(&authority.issue_node(SITE, NODE).unwrap()));
    let peer = door_of(&authority.issue_node(SITE, NodeId(0x12)).unwrap());
    dial_and_call(&*peer.dialer(), served.address(&node_name(NODE))).await.unwrap();
    assert_eq!(served.seen.recv().await, Some(Identity::Node { site: SITE, node: NodeId(0x12) }));
}

#[tokio::test]
async fn a_caller_of_another_authority_does_not_get_in() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let authority = DevAuthority::create(dir.path()).unwrap();
    let other = DevAuthority::create(elsewhere.path()).unwrap();
    let node = authority.issue_node(SITE, NODE).unwrap();
    let mut served = serve(&door_of(&node));
    let address = served.address(&node_name(NODE));

    // It does not believe the node, and would not get in if it did.
    let stranger = other.issue_person("lan", Role::Operator, UNIT).unwrap().read().unwrap();
    let error = dial_and_call(&TlsDialer::new(&stranger), address.clone()).await.unwrap_err();
    assert!(error.contains("is of another authority"), "{error}");
    let believing = Credentials { ca: node.read().unwrap().ca, ..stranger };
    let refused = dial_and_call(&TlsDialer::new(&believing), address.clone()).await;
    assert!(refused.is_err());

    // Nor does anybody without a certificate, or without TLS, whatever they say that they are.
    let nameless = tonic::transport::Endpoint::from_shared(format!("https://localhost:{}", served.port)).unwrap();
    let tls = tonic::transport::ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&believing.ca));
    if let Ok(channel) = nameless.tls_config(tls).unwrap().connect().await {
        let status = HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap_err();
        // The handshake refuses, not the service: that would say "unauthenticated".
        assert_ne!(status.code(), tonic::Code::Unauthenticated, "{status:?}");
    }
    let own = Identity::Node { site: SITE, node: NODE };
    assert!(dial_and_call(&LoopbackDialer::new(&own), address).await.is_err());
    assert!(served.seen.try_recv().is_err(), "nobody was seen inside");
}

#[tokio::test]
async fn a_dialer_leaves_when_another_node_answers() {
    let dir = tempfile::tempdir().unwrap();
    let authority = DevAuthority::create(dir.path()).unwrap();
    let served = serve(&door_of(&authority.issue_node(SITE, NODE).unwrap()));
    let peer = door_of(&authority.issue_node(SITE, NodeId(0x12)).unwrap()).dialer();
    for name in [node_name(NodeId(0x13)), site_name(SiteId(0x52)), "example.org".to_owned()] {
        let error = dial_and_call(&*peer, served.address(&name)).await.unwrap_err();
        assert!(error.contains(&format!("is not that of \"{name}\"")), "{error}");
    }
}

#[tokio::test]
async fn an_officers_certificate_cannot_play_a_node() {
    let dir = tempfile::tempdir().unwrap();
    let authority = DevAuthority::create(dir.path()).unwrap();
    let served = serve(&door_of(&authority.issue_person("lan", Role::Operator, UNIT).unwrap()));
    let peer = door_of(&authority.issue_node(SITE, NODE).unwrap()).dialer();
    let error = dial_and_call(&*peer, format!("127.0.0.1:{}", served.port)).await.unwrap_err();
    assert!(error.contains("nodes serve with certificates of nodes"), "{error}");
}

impl Served {
    /// Waits until so many handshakes were refused by `by` for `reason`.
    async fn refused(&self, by: &str, reason: &str, times: u32) {
        let line =
            format!("dinhba_handshakes_refused_total{{side=\"door\",by=\"{by}\",reason=\"{reason}\"}} {times}\n");
        for _ in 0..500 {
            if self.metrics.page().contains(&line) {
                return;
            }
            runtime::sleep(Duration::from_millis(20)).await;
        }
        panic!("{line} is not in {}", self.metrics.page());
    }
}

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Valid from so many days after today until so many days after it.
fn days(from: i64, until: i64) -> Validity {
    let now = runtime::utc_ms();
    Validity { from: InstantMs(now + from * DAY_MS), until: InstantMs(now + until * DAY_MS) }
}

#[tokio::test]
async fn a_caller_whose_certificate_is_not_valid_is_told_so_first_and_the_node_knows() {
    let dir = tempfile::tempdir().unwrap();
    let authority = DevAuthority::create(dir.path()).unwrap();
    let served = serve(&door_of(&authority.issue_node(SITE, NODE).unwrap()));
    let address = served.address(&node_name(NODE));
    for (subject, validity, start, reason) in [
        ("old", days(-30, -1), "this end's own certificate expired on ", "expired"),
        ("early", days(365, 730), "this end's own certificate is not valid before ", "not_yet_valid"),
    ] {
        let authority = DevAuthority::open(dir.path()).unwrap().valid(validity);
        let credentials = authority.issue_person(subject, Role::Registrar, UNIT).unwrap().read().unwrap();
        let dialer = TlsDialer::new(&credentials);
        let error = dial_and_call(&dialer, address.clone()).await.unwrap_err();
        assert!(error.starts_with(start), "{error}");
        assert!(error.contains("is this machine's clock right? (it says 2") && error.contains("refuses it"), "{error}");
        // Known before anybody is dialed, too.
        assert!(dialer.check().unwrap_err().to_string().starts_with(start));
        served.refused("us", reason, 1).await;
    }
    let other = tempfile::tempdir().unwrap();
    let stranger = DevAuthority::create(other.path()).unwrap().issue_person("lan", Role::Registrar, UNIT).unwrap();
    let stranger =
        Credentials { ca: std::fs::read_to_string(authority.ca_path()).unwrap(), ..stranger.read().unwrap() };
    let error = dial_and_call(&TlsDialer::new(&stranger), address.clone()).await.unwrap_err();
    assert_eq!(
        error,
        format!(
            "{address} refuses this end: its certificate is of another authority: give both ends certificates of one, \
             and its certificate as `ca`"
        )
    );
    served.refused("us", "other_authority", 1).await;
    let mixed = Credentials { key: authority.issue_node(SITE, NodeId(0x13)).unwrap().read().unwrap().key, ..stranger };
    let error = dial_and_call(&TlsDialer::new(&mixed), address).await.unwrap_err();
    assert!(error.starts_with("the key does not match the certificate: "), "{error}");
}

#[tokio::test]
async fn a_node_that_callers_refuse_is_told_so_and_they_know_why() {
    let dir = tempfile::tempdir().unwrap();
    let authority = DevAuthority::create(dir.path()).unwrap();
    let dialer = TlsDialer::new(&authority.issue_person("lan", Role::Registrar, UNIT).unwrap().read().unwrap());
    let elsewhere = tempfile::tempdir().unwrap();
    let issue = |authority: DevAuthority, node| authority.issue_node(SITE, node).unwrap().read().unwrap();
    let valid = |validity| DevAuthority::open(dir.path()).unwrap().valid(validity);
    let stranger = Credentials {
        // It would let the caller in.
        ca: std::fs::read_to_string(authority.ca_path()).unwrap(),
        ..issue(DevAuthority::create(elsewhere.path()).unwrap(), NODE)
    };
    for (credentials, says, reason) in [
        (issue(valid(days(-30, -1)), NodeId(1)), "expired on ", "expired_or_not_yet_valid"),
        (issue(valid(days(365, 730)), NodeId(2)), "is not valid before ", "expired_or_not_yet_valid"),
        (stranger, "is of another authority: ", "other_authority"),
        (issue(valid(days(-1, 1)), NodeId(3)), "is not that of \"example.org\" but of ", "other_name"),
    ] {
        let served = serve(&Door::Mutual(credentials));
        let name = if reason == "other_name" { "example.org".to_owned() } else { site_name(SITE) };
        let address = served.address(&name);
        let error = dial_and_call(&dialer, address.clone()).await.unwrap_err();
        assert!(error.starts_with(&format!("the certificate of {address} {says}")), "{error}");
        let asks = error.contains("is this machine's clock right? (it says 2");
        assert_eq!(asks, reason == "expired_or_not_yet_valid", "{error}");
        served.refused("them", reason, 1).await;
    }
}

#[tokio::test]
async fn who_shows_nothing_says_nothing_or_speaks_otherwise_is_counted_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let authority = DevAuthority::create(dir.path()).unwrap();
    let node = authority.issue_node(SITE, NODE).unwrap();
    let served = serve(&door_of(&node));
    let address = format!("127.0.0.1:{}", served.port);
    let mut silent = TcpStream::connect(&address).await.unwrap();

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = tls.with_root_certificates(authorities(&node.read().unwrap().ca).unwrap()).with_no_client_auth();
    let stream = TcpStream::connect(&address).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let _nameless = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, stream).await;
    served.refused("us", "no_certificate", 1).await;

    let own = Identity::Node { site: SITE, node: NODE };
    assert!(dial_and_call(&LoopbackDialer::new(&own), address).await.is_err());
    served.refused("us", "no_tls", 1).await;

    // Cut after a while: it holds a place of the handshakes under way.
    let mut answer = Vec::new();
    let cut = tokio::io::AsyncReadExt::read_to_end(&mut silent, &mut answer);
    let cut = runtime::timeout(CONNECT_TIMEOUT + Duration::from_secs(5), cut).await;
    assert!(cut.is_ok() && answer.is_empty(), "{cut:?}");
    served.refused("us", "slow", 1).await;
}

#[tokio::test]
async fn one_address_does_not_fill_the_door_and_it_is_free_again() {
    let dir = tempfile::tempdir().unwrap();
    let authority = DevAuthority::create(dir.path()).unwrap();
    let served = serve(&door_of(&authority.issue_node(SITE, NODE).unwrap()));
    let address = format!("127.0.0.1:{}", served.port);
    let mut silent = Vec::new();
    for _ in 0..HANDSHAKES_OF_ONE_MAX + 3 {
        silent.push(TcpStream::connect(&address).await.unwrap());
    }
    served.refused("us", "too_many", 3).await;
    served.refused("us", "slow", u32::try_from(HANDSHAKES_OF_ONE_MAX).unwrap()).await;
    let lan = authority.issue_person("lan", Role::Registrar, UNIT).unwrap();
    dial_and_call(&TlsDialer::new(&lan.read().unwrap()), address).await.unwrap();
}

#[tokio::test]
async fn one_caller_does_not_take_all_places_inside() {
    let dir = tempfile::tempdir().unwrap();
    let authority = DevAuthority::create(dir.path()).unwrap();
    let served = serve(&door_of(&authority.issue_node(SITE, NODE).unwrap()));
    let address = format!("127.0.0.1:{}", served.port);
    let dialer = |subject: &str| {
        TlsDialer::new(&authority.issue_person(subject, Role::Registrar, UNIT).unwrap().read().unwrap())
    };
    let (lan, hoa) = (dialer("lan"), dialer("hoa"));
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS_OF_ONE_MAX {
        open.push(lan.dial(address.clone()).await.unwrap());
    }
    let error = lan.dial(address.clone()).await.map(drop).unwrap_err().to_string();
    assert!(error.contains("broke off in the handshake"), "{error}");
    served.refused("us", "too_many", 1).await;
    dial_and_call(&hoa, address.clone()).await.unwrap();
    drop(open);
    for _ in 0..100 {
        if lan.dial(address.clone()).await.is_ok() {
            return;
        }
        runtime::sleep(Duration::from_millis(20)).await;
    }
    panic!("the places are not free again");
}

#[tokio::test]
async fn twenty_refusals_are_one_line_of_the_log_at_either_end() {
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let page = Page::default();
    let writer = page.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _logged = tracing::subscriber::set_default(subscriber);

    let dir = tempfile::tempdir().unwrap();
    let authority = DevAuthority::create(dir.path()).unwrap();
    let served = serve(&door_of(&authority.issue_node(SITE, NODE).unwrap()));
    let old = DevAuthority::open(dir.path()).unwrap().valid(days(-30, -1)).issue_node(SITE, NodeId(0x12)).unwrap();
    let metrics = Metrics::new();
    let dialer = Telling::new(door_of(&old).dialer(), Arc::new(Refusals::new(metrics.clone())));
    for _ in 0..20 {
        dialer.dial(served.address(&node_name(NODE))).await.map(drop).unwrap_err();
    }
    served.refused("us", "expired", 20).await;
    let counted = "{side=\"dial\",by=\"them\",reason=\"expired_or_not_yet_valid\"} 20";
    assert!(metrics.page().contains(counted), "{}", metrics.page());
    let page = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
    let lines = |what: &str| page.lines().filter(|line| line.contains(what)).collect::<Vec<_>>();
    let (door, dial) = (lines("a caller did not get in"), lines("a node could not be called"));
    assert_eq!((door.len(), dial.len()), (1, 1), "{page}");
    let whom = "127.0.0.1 (spiffe://dinhba/site/s-0000000000000051/n-0000000000000012)";
    assert!(door[0].contains(&format!("the certificate of {whom} expired on 2")), "{page}");
    assert!(dial[0].contains("this end's own certificate expired on 2"), "{page}");
}

/// Adds a header of its own to what another dialer sends.
struct Claiming {
    inner: TlsDialer,
    uri: &'static str,
}

impl Dial for Claiming {
    fn dial(&self, address: String) -> BoxFuture<'static, Result<Transport, dinhba_client::transport::TransportError>> {
        let (dialed, uri) = (self.inner.dial(address), self.uri);
        Box::pin(async move {
            Ok(Transport::new(dialed.await?.map_request(move |mut request: http::Request<tonic::body::Body>| {
                request.headers_mut().insert(IDENTITY_HEADER, http::HeaderValue::from_static(uri));
                request
            })))
        })
    }
}

#[tokio::test]
async fn a_header_does_not_make_an_officer_somebody_else() {
    let dir = tempfile::tempdir().unwrap();
    let authority = DevAuthority::create(dir.path()).unwrap();
    let mut served = serve(&door_of(&authority.issue_node(SITE, NODE).unwrap()));
    let lan = authority.issue_person("lan", Role::Auditor, UNIT).unwrap();
    let claiming = Claiming {
        inner: TlsDialer::new(&lan.read().unwrap()),
        uri: "spiffe://dinhba/person/chief/registrar/u-0000000000000001",
    };
    dial_and_call(&claiming, served.address(&node_name(NODE))).await.unwrap();
    let seen = served.seen.recv().await.unwrap();
    assert_eq!(seen.uri(), "spiffe://dinhba/person/lan/auditor/u-00000000000000c3");
}

#[tokio::test]
async fn without_tls_callers_on_this_machine_say_who_they_are() {
    let own = Identity::Node { site: SITE, node: NODE };
    let mut served = serve(&Door::UnsafeLoopback(own.clone()));
    let address = served.address(&node_name(NODE));
    dial_and_call(&*Door::UnsafeLoopback(own.clone()).dialer(), address).await.unwrap();
    assert_eq!(served.seen.recv().await, Some(own));

    let silent = tonic::transport::Endpoint::from_shared(format!("http://127.0.0.1:{}", served.port)).unwrap();
    let mut client = HealthClient::new(silent.connect().await.unwrap());
    let status = client.check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
}

#[tokio::test]
async fn without_tls_no_other_machine_is_listened_to() {
    let door = Door::UnsafeLoopback(Identity::Node { site: SITE, node: NODE });
    let refused = door.listen(&"0.0.0.0:7400".parse().unwrap()).err().unwrap();
    assert!(matches!(refused, DoorError::NotLoopback { .. }), "{refused}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address: Address = taken.local_addr().unwrap().to_string().parse().unwrap();
    let refused = door.listen(&address).err().unwrap().to_string();
    assert!(refused.contains("stop what uses the port"), "{refused}");
    drop(taken);
    assert!(door.listen(&address).is_ok());
}

fn config(paths: &CertPaths) -> Config {
    let text = format!(
        "[node]\nid = \"{NODE}\"\nsite = \"{SITE}\"\ndata_dir = \"d\"\nlisten = \"127.0.0.1:7400\"\n\
         [tls]\nca = {:?}\ncertificate = {:?}\nkey = {:?}\n[site]\nunit = \"{UNIT}\"\nsigning_key = \"k\"\nsecrets = \"s\"\n",
        paths.ca, paths.certificate, paths.key
    );
    Config::parse(&text, Path::new("/")).unwrap()
}

#[test]
fn files_that_do_not_fit_each_other_are_named_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let authority = DevAuthority::create(dir.path()).unwrap();
    let own = authority.issue_node(SITE, NODE).unwrap();
    let other = authority.issue_node(SITE, NodeId(0x12)).unwrap();
    assert!(matches!(Door::open(&config(&own)), Ok(Door::Mutual(_))));

    let misfit = |paths: &CertPaths| match Door::open(&config(paths)).unwrap_err() {
        DoorError::Misfit { key, reason, .. } => (key, reason),
        error => panic!("{error}"),
    };
    assert_eq!(
        misfit(&other),
        (
            "tls.certificate",
            "it is the certificate of spiffe://dinhba/site/s-0000000000000051/n-0000000000000012, and this node \
             is spiffe://dinhba/site/s-0000000000000051/n-0000000000000011"
                .to_owned()
        )
    );
    assert_eq!(misfit(&CertPaths { key: other.key.clone(), ..own.clone() }).0, "tls.key");
    // A node of another country's authority would be well by itself, and refused by everybody.
    let foreign = tempfile::tempdir().unwrap();
    let foreign = DevAuthority::create(foreign.path()).unwrap().issue_node(SITE, NODE).unwrap();
    let (key, reason) = misfit(&CertPaths { ca: own.ca.clone(), ..foreign });
    assert!(key == "tls.certificate" && reason.contains("did not issue it"), "{reason}");
    let absent = CertPaths { key: PathBuf::from("/nowhere/node.key"), ..own };
    let error = Door::open(&config(&absent)).unwrap_err().to_string();
    assert!(error.starts_with("[tls] /nowhere/node.key: "), "{error}");
}

/// A door whose visits are bounded, with a feed that nobody ends; counts the connections.
struct Bounded {
    port: u16,
    connections: Arc<AtomicUsize>,
    leave: watch::Sender<BTreeSet<NodeId>>,
    _stop: oneshot::Sender<()>,
}

impl Bounded {
    fn open(door: &Door, age_max: Duration) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = incoming.local_addr().unwrap().port();
        let callers = door.admit(incoming, Arc::new(Refusals::new(Metrics::new()))).unwrap();
        let (leave, left) = watch::channel(BTreeSet::new());
        let (_, health) = tonic_health::server::health_reporter();
        let (door, connections) = (door.clone(), Arc::<AtomicUsize>::default());
        let counted = Arc::clone(&connections);
        let serve = move |_: Stay, visitor: Visitor, closing: BoxFuture<'static, ()>| {
            counted.fetch_add(1, Ordering::Relaxed);
            door.server().add_service(health.clone()).serve_with_incoming_shutdown(visitor, closing)
        };
        let closing = stopped.map(drop).shared();
        crate::runtime::spawn("server", receive(callers, Bounds { age_max, site: SITE, left }, closing, serve));
        Bounded { port, connections, leave, _stop: stop }
    }

    async fn client(&self, caller: &Credentials) -> HealthClient<Transport> {
        let address = named(&node_name(NODE), &format!("127.0.0.1:{}", self.port));
        HealthClient::new(TlsDialer::new(caller).dial(address).await.unwrap())
    }

    /// How long a feed of this caller lasts from now on.
    async fn feed(&self, caller: &Credentials) -> impl Future<Output = Duration> + use<> {
        let request = HealthCheckRequest { service: String::new() };
        let mut feed = self.client(caller).await.watch(request).await.unwrap().into_inner();
        feed.message().await.unwrap().expect("how it is now");
        let began = crate::runtime::now();
        async move {
            let ended = crate::runtime::timeout(Duration::from_secs(20), feed.message()).await.expect("it ends");
            assert!(ended.is_err(), "{ended:?}");
            crate::runtime::now() - began
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_loses_no_call_to_a_connection_that_has_had_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let authority = DevAuthority::create(dir.path()).unwrap();
    let age_max = Duration::from_millis(600);
    let served = Bounded::open(&door_of(&authority.issue_node(SITE, NODE).unwrap()), age_max);
    let lan = authority.issue_person("lan", Role::Registrar, UNIT).unwrap().read().unwrap();
    let client = served.client(&lan).await;
    let began = crate::runtime::now();
    let mut calls = 0;
    while crate::runtime::now() - began < 6 * age_max {
        let mut client = client.clone();
        // One that comes just as the connection ends is not sent, and surely so: the SDK sends it again, whatever it is.
        match client.check(HealthCheckRequest { service: String::new() }).await {
            Ok(_) => calls += 1,
            Err(status) => assert!(dinhba_client::error::was_not_sent(&status), "{status:?}"),
        }
    }
    let connections = served.connections.load(Ordering::Relaxed);
    assert!((6..=19).contains(&connections), "{connections} connections for {calls} calls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_end_when_its_connection_has_had_its_time_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let authority = DevAuthority::create(dir.path()).unwrap();
    let age_max = Duration::from_millis(600);
    let served = Bounded::open(&door_of(&authority.issue_node(SITE, NODE).unwrap()), age_max);
    let lan = authority.issue_person("lan", Role::Registrar, UNIT).unwrap().read().unwrap();
    let lasted = served.feed(&lan).await.await;
    assert!(lasted > age_max && lasted < 2 * age_max + Duration::from_secs(2), "{lasted:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_the_site_is_cut_off_at_once_and_its_namesakes_elsewhere_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let authority = DevAuthority::create(dir.path()).unwrap();
    let served = Bounded::open(&door_of(&authority.issue_node(SITE, NODE).unwrap()), Duration::from_secs(3));
    let authority = authority.replacing();
    let node = |site, node| authority.issue_node(site, node).unwrap().read().unwrap();
    let leaving = node(SITE, NodeId(0x12));
    let (of_it, of_another, of_a_namesake) = (
        served.feed(&leaving).await,
        served.feed(&node(SITE, NodeId(0x13))).await,
        served.feed(&node(SiteId(0x52), NodeId(0x12))).await,
    );
    served.leave.send_if_modified(|left| left.insert(NodeId(0x12)));
    let (of_it, of_another, of_a_namesake) = tokio::join!(of_it, of_another, of_a_namesake);
    assert!(of_it < Duration::from_secs(1), "{of_it:?}");
    for lasted in [of_another, of_a_namesake] {
        assert!(lasted > Duration::from_secs(3), "{lasted:?}");
    }
    // It may come again, and ask.
    served.client(&leaving).await.check(HealthCheckRequest { service: String::new() }).await.unwrap();
}
