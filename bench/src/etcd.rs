//! The other side: an etcd of three processes with its usual settings, driven over its gRPC interface.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use http::uri::PathAndQuery;
use rand::RngCore as _;
use tempfile::TempDir;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use crate::population::VALUE_BYTES;

/// Connections to the leader, on either side: each carries the calls of some callers.
pub const CONNECTIONS: usize = 8;

/// How long an etcd may take to elect its leader.
const READY_WAIT: Duration = Duration::from_secs(30);

/// The ids of its members are theirs to choose; a response names the one that answered.
#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(uint64, tag = "2")]
    member: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusReply {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutReply {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
}

/// Linearizable, since `serializable` is absent.
#[derive(Clone, PartialEq, prost::Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeReply {
    #[prost(message, repeated, tag = "2")]
    pairs: Vec<Pair>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Pair {
    #[prost(bytes = "vec", tag = "5")]
    value: Vec<u8>,
}

/// An etcd that runs.
pub struct Etcd {
    members: Vec<Child>,
    channels: Vec<Channel>,
    _dir: TempDir,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &mut self.members {
            // One that has ended cannot be killed: fine.
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

/// Whether it is installed.
pub fn is_installed() -> bool {
    Command::new("etcd").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

fn start_member(dir: &Path, at: usize, ports: &[(u16, u16)]) -> anyhow::Result<Child> {
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let all: Vec<String> = ports.iter().enumerate().map(|(at, (_, peer))| format!("m{at}={}", url(*peer))).collect();
    let (client, peer) = ports[at];
    let log = File::create(dir.join(format!("m{at}.log")))?;
    let child = Command::new("etcd")
        .args(["--name", &format!("m{at}"), "--data-dir"])
        .arg(dir.join(format!("m{at}")))
        .args(["--listen-client-urls", &url(client), "--advertise-client-urls", &url(client)])
        .args(["--listen-peer-urls", &url(peer), "--initial-advertise-peer-urls", &url(peer)])
        .args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new", "--log-level", "warn"])
        // The default of 2 GiB would end a long run.
        .args(["--quota-backend-bytes", "8589934592"])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn();
    child.context("etcd could not be started: install the package etcd-server, or say --no-etcd")
}

/// One unary call.
pub async fn call<Q, R>(channel: Channel, path: &'static str, request: Q) -> anyhow::Result<R>
where
    Q: prost::Message + Send + Sync + 'static,
    R: prost::Message + Default + Send + Sync + 'static,
{
    let mut grpc = Grpc::new(channel);
    grpc.ready().await?;
    let codec: ProstCodec<Q, R> = ProstCodec::default();
    Ok(grpc.unary(tonic::Request::new(request), PathAndQuery::from_static(path), codec).await?.into_inner())
}

impl Etcd {
    /// Starts one with these ports for clients and peers, on the disk where temporary files are.
    pub async fn start(ports: &[(u16, u16)]) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("dinhba-bench-etcd-").tempdir()?;
        let members = (0..ports.len()).map(|at| start_member(dir.path(), at, ports)).collect::<Result<_, _>>()?;
        let mut etcd = Etcd { members, channels: Vec::new(), _dir: dir };
        let leader = etcd.leader(ports).await?;
        for _ in 0..CONNECTIONS {
            etcd.channels.push(endpoint(leader)?.connect().await?);
        }
        Ok(etcd)
    }

    async fn leader(&mut self, ports: &[(u16, u16)]) -> anyhow::Result<u16> {
        let began = Instant::now();
        while began.elapsed() < READY_WAIT {
            for (client, _) in ports {
                let Ok(channel) = endpoint(*client)?.connect().await else { continue };
                let asked = call(channel, "/etcdserverpb.Maintenance/Status", StatusRequest {}).await;
                let status: StatusReply = match asked {
                    Ok(status) => status,
                    Err(_) => continue,
                };
                if status.leader != 0 && status.header.is_some_and(|header| header.member == status.leader) {
                    return Ok(*client);
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("etcd has no leader after {READY_WAIT:?}")
    }

    /// The ids of its processes.
    pub fn processes(&self) -> Vec<u32> {
        self.members.iter().map(Child::id).collect()
    }

    /// Its connections.
    pub fn connections(&self) -> Vec<Caller> {
        let keys = Arc::new(AtomicU64::new(0));
        self.channels.iter().map(|channel| Caller { channel: channel.clone(), keys: Arc::clone(&keys) }).collect()
    }
}

/// A server on this machine.
pub fn endpoint(port: u16) -> anyhow::Result<Endpoint> {
    Ok(Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?.tcp_nodelay(true))
}

/// One of the callers' connections.
#[derive(Clone)]
pub struct Caller {
    channel: Channel,
    /// Counts the keys of this run.
    keys: Arc<AtomicU64>,
}

/// Sixteen bytes, as the ids of records have.
fn key_of(number: u64) -> Vec<u8> {
    format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).into_bytes()
}

impl Caller {
    /// Writes a new key with [`VALUE_BYTES`] at random.
    pub async fn put(&self) -> anyhow::Result<()> {
        let mut value = vec![0; VALUE_BYTES];
        rand::rng().fill_bytes(&mut value);
        let key = key_of(self.keys.fetch_add(1, Ordering::Relaxed));
        let _: PutReply = call(self.channel.clone(), "/etcdserverpb.KV/Put", PutRequest { key, value }).await?;
        Ok(())
    }

    /// Reads one of the first `count` keys.
    pub async fn read(&self, count: usize) -> anyhow::Result<()> {
        let key = key_of(rand::rng().next_u64() % count.max(1) as u64);
        let found: RangeReply = call(self.channel.clone(), "/etcdserverpb.KV/Range", RangeRequest { key }).await?;
        ensure!(found.pairs.len() == 1 && found.pairs[0].value.len() == VALUE_BYTES, "etcd lost a key");
        Ok(())
    }
}
