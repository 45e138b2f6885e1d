//! What calls alone cost: a server that does nothing but take 1 KB and answer, on the gRPC stack of both sides' servers. No
//! site can take edits faster than this, which neither replicates nor stores.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitCode, Stdio};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::future::{BoxFuture, try_join_all};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::Options;
use crate::alone::Figure;
use crate::etcd::{CONNECTIONS, call, endpoint};
use crate::meter::{Latencies, Usage, repeat};
use crate::population::VALUE_BYTES;

#[derive(Clone, PartialEq, prost::Message)]
struct Payload {
    #[prost(bytes = "vec", tag = "1")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Taken {
    #[prost(uint64, tag = "1")]
    bytes: u64,
}

#[derive(Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "bench.Echo";
}

impl UnaryService<Payload> for Echo {
    type Response = Taken;
    type Future = Ready<Result<Response<Taken>, Status>>;

    fn call(&mut self, request: Request<Payload>) -> Self::Future {
        ready(Ok(Response::new(Taken { bytes: request.into_inner().value.len() as u64 })))
    }
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async { Ok(Grpc::new(ProstCodec::<Taken, Payload>::default()).unary(Echo, request).await) })
    }
}

/// The server's process: says where it listens, and serves until it is killed.
pub fn serve() -> ExitCode {
    let served = tokio::runtime::Builder::new_multi_thread().enable_all().build().and_then(|runtime| {
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            println!("{}", listener.local_addr()?);
            let serving = Server::builder().add_service(Echo).serve_with_incoming(TcpListenerStream::new(listener));
            serving.await.map_err(std::io::Error::other)
        })
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended cannot be killed: fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Calls by as many callers as edits have.
pub async fn bound(options: &Options) -> anyhow::Result<Vec<Figure>> {
    eprintln!("calls alone");
    let mut server = Command::new(std::env::current_exe()?);
    let mut server = Running(server.arg("echo").stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?);
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().context("the server's output")?).read_line(&mut line)?;
    let address: SocketAddr = line.trim().parse().context("the server's address")?;
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        channels.push(endpoint(address.port())?.connect().await?);
    }
    let begin = Instant::now() + Duration::from_secs(1);
    let end = begin + options.span();
    let tasks = (0..options.callers).map(|number| {
        let channel = channels[number % channels.len()].clone();
        tokio::spawn(repeat(begin, end, move || {
            let payload = Payload { value: vec![b'a'; VALUE_BYTES] };
            let channel = channel.clone();
            async move { call::<_, Taken>(channel, "/bench.Echo/Put", payload).await.map(|_| ()) }
        }))
    });
    let calls = try_join_all(tasks);
    let usage = async {
        tokio::time::sleep_until(begin.into()).await;
        let before = (Usage::of(&[server.0.id()])?, Usage::of(&[std::process::id()])?);
        tokio::time::sleep_until(end.into()).await;
        let after = (Usage::of(&[server.0.id()])?, Usage::of(&[std::process::id()])?);
        anyhow::Ok((after.0.since(before.0).cpu, after.1.since(before.1).cpu))
    };
    let (done, usage) = tokio::join!(calls, usage);
    let mut latencies = Latencies::default();
    for caller in done? {
        latencies.extend(caller?);
    }
    let (server_cpu, callers_cpu) = usage?;
    let count = latencies.count().max(1) as f64;
    Ok(vec![
        Figure::new("calls of 1 KB that do nothing, 64 callers", count / options.span().as_secs_f64(), "calls/s", ""),
        Figure::new("their CPU at the server", server_cpu.as_secs_f64() * 1e6 / count, "µs", ""),
        Figure::new("their CPU at the callers", callers_cpu.as_secs_f64() * 1e6 / count, "µs", ""),
    ])
}
