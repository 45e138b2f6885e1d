//! The part that the simulator leaves out: real HTTP/2 between real nodes, over turmoil's TCP, while hosts crash and lines
//! are cut. One site of three nodes; what an officer was told is read back at each of them.
//!
//! Left out: TLS, and equal traces of equal seeds (hyper's tasks run on tokio). The simulator proper has those promises.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dinhba_client::tls::{IDENTITY_HEADER, split_name};
use dinhba_client::transport::{Dial, Transport, TransportError};
use dinhba_client::{Client, Context, EditBuilder, Limits};
use dinhba_core::claims::{Claims, Identity, Role};
use dinhba_core::ids::{EvidenceId, GroupId, NodeId, RecordId, ShardId, SiteId};
use dinhba_core::level::LEVEL_MAX;
use dinhba_core::schema::RecordKind;
use dinhba_node::config::{self, Config};
use dinhba_node::disk::Disk;
use dinhba_node::log::{LogOptions, Tasked};
use dinhba_node::node::{Node, Seams};
use dinhba_node::pki::SiteKeys;
use dinhba_node::runtime;
use dinhba_node::seal::Unsealed;
use dinhba_node::secrets::Secrets;
use dinhba_node::server;
use dinhba_node::state::MemoryState;
use dinhba_node::tls::Door;
use dinhba_sim::ambient::VirtualAmbient;
use dinhba_sim::disk::SimDisk;
use dinhba_sim::scenario::{directory, unit};
use ed25519_dalek::SigningKey;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderValue, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::Endpoint;
use tonic::transport::server::Connected;
use tower::{ServiceExt, service_fn};
use turmoil::net::{TcpListener, TcpStream};

const COMMUNE: &str = "02683";
const SITE: SiteId = SiteId(0x51);
const GROUP: GroupId = GroupId(1);
const SHARD: ShardId = ShardId(1);
const PORT: u16 = 7400;
const NODES: u64 = 3;
const PEOPLE: usize = 40;
const PLACE_FILE: &str = "/data/place.csv";

fn host(number: u64) -> String {
    format!("node-{number}")
}

/// Dials over turmoil's network as somebody.
struct TurmoilDialer(Identity);

impl Dial for TurmoilDialer {
    fn dial(&self, address: String) -> BoxFuture<'static, Result<Transport, TransportError>> {
        let identity = HeaderValue::from_str(&self.0.uri()).expect("an identity's URI is printable ASCII");
        async move {
            let host_port = split_name(&address).1.to_owned();
            let endpoint = Endpoint::from_shared(format!("http://{host_port}"))?
                .connect_timeout(Duration::from_secs(5))
                .http2_keep_alive_interval(Duration::from_secs(5))
                .keep_alive_timeout(Duration::from_secs(5))
                .keep_alive_while_idle(true);
            let connector = tower::service_fn(|uri: Uri| async move {
                let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
                Ok::<_, std::io::Error>(TokioIo::new(TcpStream::connect(authority).await?))
            });
            let channel = endpoint.connect_with_connector(connector).await?;
            let add_identity = move |mut request: http::Request<tonic::body::Body>| {
                request.headers_mut().insert(IDENTITY_HEADER, identity.clone());
                request
            };
            let line = channel.map_request(add_identity).map_err(TransportError::from);
            Ok(Transport::new(service_fn(move |request| line.clone().oneshot(request))))
        }
        .boxed()
    }
}

/// A connection that came in.
struct Accepted(TcpStream);

impl Connected for Accepted {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        task: &mut std::task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_read(task, buffer)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        task: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.0).poll_write(task, bytes)
    }
    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        task: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(task)
    }
    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        task: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_shutdown(task)
    }
}

/// What of a node outlives its process.
struct Machine {
    number: u64,
    disk: SimDisk,
    state: Mutex<Arc<MemoryState>>,
    lives: AtomicUsize,
}

fn signing_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn config(number: u64) -> Config {
    let address = |number| format!("{}:{PORT}", host(number)).parse::<config::Address>().expect("host and port");
    let members =
        (1..=NODES).map(|member| config::Member { id: NodeId(member), address: address(member), groups: vec![GROUP] });
    Config {
        node: config::Node {
            id: NodeId(number),
            site: SITE,
            data_dir: PathBuf::from("/data"),
            listen: address(number),
            advertise: address(number),
            metrics_listen: None,
            connection_age_ms: config::CONNECTION_AGE_MS,
        },
        tls: config::Tls::UnsafeLoopback,
        site: config::Site {
            unit: unit(COMMUNE).expect("it exists").id,
            code: Some(COMMUNE.to_owned()),
            signing_key: PathBuf::from("/unused"),
            secrets: PathBuf::from("/unused"),
            bootstrap: number == 1,
            members: members.collect(),
            groups: vec![config::Group { id: GROUP, shards: vec![SHARD] }],
        },
        parent: None,
        storage: config::Storage { engine: config::Engine::Memory },
        raft: config::Raft { snapshot_every_entries: 20, keep_entries: 5, ..config::Raft::default() },
        link: config::Link::default(),
        numbers: config::Numbers::default(),
        log: config::Log::default(),
        place: Some(config::Place { file: PathBuf::from(PLACE_FILE) }),
    }
}

fn place_file() -> String {
    let home = unit(COMMUNE).expect("it exists").id;
    let key: String = signing_key().verifying_key().to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("kind,id,unit,parent,public_key\nsite,{SITE},{home},,{key}\nshard,{SHARD},{home},,\n")
}

impl Machine {
    /// The process: as `dinhba node` runs it, over turmoil's sockets.
    async fn run(&self) -> anyhow::Result<()> {
        let disk = self.disk.mount();
        let path = Path::new(PLACE_FILE);
        disk.create_dir(path.parent().expect("it has one"))?;
        let file = disk.open(path, true)?;
        file.write_at(0, place_file().as_bytes())?;
        file.sync()?;
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let own = Identity::Node { site: SITE, node: NodeId(self.number) };
        let log = Tasked::open_with(
            Arc::clone(&disk),
            Path::new("/data/log"),
            Arc::new(Unsealed),
            LogOptions { segment_bytes: 16_384, cache_bytes: 65_536 },
            Arc::new(|| Duration::from_millis(2)),
        )?;
        let seams = Seams {
            state: self.state.lock().expect("nobody panics with it").clone(),
            log,
            disk,
            snapshots: PathBuf::from("/data/snapshots"),
            dial: Arc::new(TurmoilDialer(own.clone())),
            is_new: self.lives.fetch_add(1, Ordering::SeqCst) == 0,
            directory: Arc::new(directory().clone()),
            level_max: LEVEL_MAX,
        };
        let secrets = Secrets::first([2; 32], [3; 32], [4; 32]);
        let keys = SiteKeys { signing: signing_key(), secrets };
        let node = Node::prepare(config(self.number), &seams, keys);
        let listener = TcpListener::bind((IpAddr::from([0, 0, 0, 0]), PORT)).await?;
        let incoming = futures::stream::unfold(listener, |listener| async {
            let accepted = listener.accept().await.map(|(stream, _)| Accepted(stream));
            Some((accepted, listener))
        });
        let server = Door::UnsafeLoopback(own).server().add_routes(server::routes(&node));
        let served = server.serve_with_incoming(Box::pin(incoming));
        let started = async {
            node.start(seams).await?;
            std::future::pending::<anyhow::Result<()>>().await
        };
        tokio::select! {
            ended = served => Ok(ended?),
            failed = started => failed,
        }
    }

    /// What the disk had not flushed is gone, and so is what the state engine had not.
    fn lose_power(&self) {
        self.disk.power_cut();
        let mut state = self.state.lock().expect("nobody panics with it");
        *state = Arc::new(state.after_power_cut(0));
    }
}

fn client(addresses: Vec<String>) -> Client {
    let home = unit(COMMUNE).expect("it exists").id;
    let claims = Claims::new("lan", Role::Registrar, home, EvidenceId::default()).expect("a subject is well-formed");
    let limits = Limits { attempt: Duration::from_secs(3), deadline: Duration::from_secs(60), ..Limits::default() };
    Client::new(
        Arc::new(TurmoilDialer(Identity::Person(claims))),
        addresses,
        Arc::new(VirtualAmbient::default()),
        limits,
    )
}

fn address(number: u64) -> String {
    format!("{}:{PORT}", host(number))
}

fn number_of(place: usize) -> String {
    format!("TEST-{place:04}")
}

/// An officer registers people; then each is read at each node.
async fn work(done: Arc<AtomicUsize>) -> turmoil::Result {
    let context = Context::parse("registration", "HS-2026-1")?;
    let office = client((1..=NODES).map(address).collect());
    let session = office.session();
    let mut registered = Vec::new();
    for place in 0..PEOPLE {
        let request = session.next();
        let mut edit = EditBuilder::new(&context);
        edit.shard(SHARD);
        let part = edit.create(RecordKind::Person);
        edit.set(part, "name", "", "Nguyễn/Thị/Lan")
            .set(part, "birth_date", "", "1990-03-08")
            .set(part, "sex", "", "female")
            .set(part, "residence_file_number", "", &number_of(place));
        // As an officer would: the same request until there is an answer.
        while office.edit_as(request, &edit).await.is_err() {
            runtime::sleep(Duration::from_secs(1)).await;
        }
        registered.push(RecordId::derive(request, 0));
        done.store(place + 1, Ordering::SeqCst);
        runtime::sleep(Duration::from_millis(500)).await;
    }
    for number in 1..=NODES {
        let one = client(vec![address(number)]);
        for (place, record) in registered.iter().enumerate() {
            let found = one.get(&context, *record).await?;
            let field = dinhba_client::request::field_of(&found, "residence_file_number", "").ok_or("no number")?;
            assert_eq!(field.values.len(), 1, "node {number}");
            assert_eq!(field.values[0].value, number_of(place), "node {number}");
        }
    }
    Ok(())
}

#[test]
fn an_office_goes_on_over_real_http2_while_nodes_crash_and_lines_are_cut() {
    let mut simulation = turmoil::Builder::new()
        .simulation_duration(Duration::from_secs(900))
        .tick_duration(Duration::from_millis(5))
        .max_message_latency(Duration::from_millis(20))
        .rng_seed(7)
        .build();
    let machines: Vec<Arc<Machine>> = (1..=NODES)
        .map(|number| {
            let state = Mutex::new(Arc::new(MemoryState::new(Arc::new(Unsealed))));
            Arc::new(Machine { number, disk: SimDisk::new(number), state, lives: AtomicUsize::new(0) })
        })
        .collect();
    for machine in &machines {
        let machine = Arc::clone(machine);
        simulation.host(host(machine.number), move || {
            let machine = Arc::clone(&machine);
            async move { machine.run().await.map_err(Into::into) }
        });
    }
    let done = Arc::new(AtomicUsize::new(0));
    simulation.client("officer", work(Arc::clone(&done)));

    // Each node in turn loses its power for a while, then each its line to the others.
    let (mut next, mut crashed, mut cut) = (5, None, None);
    let mut faults = 0;
    while !simulation.step().expect("the officer's work succeeds") {
        let (done, now) = (done.load(Ordering::SeqCst), simulation.elapsed());
        if let Some((number, since)) = crashed
            && now - since > Duration::from_secs(8)
        {
            simulation.bounce(host(number));
            crashed = None;
        }
        if let Some((number, since)) = cut
            && now - since > Duration::from_secs(8)
        {
            (1..=NODES).filter(|other| *other != number).for_each(|other| simulation.repair(host(number), host(other)));
            cut = None;
        }
        if done < next || crashed.is_some() || cut.is_some() {
            continue;
        }
        next += 5;
        let number = faults % NODES + 1;
        if faults < NODES {
            simulation.crash(host(number));
            machines[usize::try_from(number - 1).expect("small")].lose_power();
            crashed = Some((number, now));
        } else {
            (1..=NODES)
                .filter(|other| *other != number)
                .for_each(|other| simulation.partition(host(number), host(other)));
            cut = Some((number, now));
        }
        faults += 1;
    }
    assert_eq!(done.load(Ordering::SeqCst), PEOPLE);
    assert!(faults >= 2 * NODES, "only {faults} faults happened");
}
