//! What becomes of streams that stand: when their connection has had its time, and when their caller left the site.

use tonic::{Request, Status, Streaming};

use super::*;
use crate::raft::peer::Admit;
use crate::runtime::watch::{self, WatchReceiver, WatchSender};
use crate::stay::{Ending, Stay};

/// Answers what it is asked, after a while.
struct Slow;

impl App for Slow {
    fn app(&self, _: GroupId, request: Vec<u8>) -> BoxFuture<'static, Result<Vec<u8>, String>> {
        async move {
            runtime::sleep(Duration::from_millis(150)).await;
            Ok(request)
        }
        .boxed()
    }
}

/// Knows its callers as node 7, and that it left when it is told so.
struct Seven(watch::Receiver<bool>);

impl Admit for Seven {
    fn admit(&self, _: &Request<Streaming<wire::Frame>>) -> Result<Option<NodeId>, Status> {
        Ok(Some(NodeId(7)))
    }
    fn may_call(&self, _: NodeId, _: GroupId, _: &Body) -> Result<(), String> {
        Ok(())
    }
    fn left(&self, _: NodeId) -> BoxFuture<'static, Status> {
        let mut left = self.0.clone();
        async move {
            while !*left.borrow_watched() {
                left.changed().await.expect("the test goes on");
            }
            Status::permission_denied("it left")
        }
        .boxed()
    }
}

/// Serves peers on connections that stay for as long as the test likes.
struct Door {
    address: String,
    stay: Arc<Mutex<(Stay, Ending)>>,
    dial: Arc<PlainDial>,
    pool: PeerPool,
}

impl Door {
    async fn open(app: impl App, admit: impl Admit) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let stay = Arc::new(Mutex::new(Stay::begin()));
        let marking = Arc::clone(&stay);
        let mark = move |mut request: Request<()>| {
            let stay = marking.lock().expect("no panic").0.clone();
            request.extensions_mut().insert(stay);
            Ok(request)
        };
        let service = PeerService::new(Groups::default(), Arc::new(app), Arc::new(admit)).into_server();
        runtime::spawn("server", async move {
            let server = Server::builder().layer(tonic::service::InterceptorLayer::new(mark)).add_service(service);
            server.serve_with_incoming(TcpListenerStream::new(listener)).await
        });
        let dial = Arc::new(PlainDial::default());
        let pool = PeerPool::new(Arc::clone(&dial) as Arc<dyn Dial>);
        Door { address, stay, dial, pool }
    }

    async fn call(&self, number: u64) -> Result<Body, CallError> {
        let body = Body::App(wire::App { payload: number.to_be_bytes().to_vec() });
        self.pool.call(1, &self.address, GROUP, body, WAIT).await
    }

    fn dialled(&self) -> usize {
        self.dial.dialled.lock().expect("no panic").get(&self.address).copied().unwrap_or_default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_has_had_its_time_is_followed_by_another_one_and_no_call_is_lost() {
    let door = Arc::new(Door::open(Slow, AdmitAll).await);
    let mut calls = Vec::new();
    for number in 0..400 {
        if number == 100 || number == 250 {
            let (_, ending) = std::mem::replace(&mut *door.stay.lock().expect("no panic"), Stay::begin());
            ending.end();
        }
        let door = Arc::clone(&door);
        calls.push(runtime::spawn("call", async move { door.call(number).await }));
        runtime::sleep(Duration::from_millis(2)).await;
    }
    for (number, call) in (0_u64..).zip(calls) {
        match call.await.expect("no panic") {
            Ok(Body::AppAnswer(answer)) => assert_eq!(answer.payload, number.to_be_bytes()),
            other => panic!("call {number}: {other:?}"),
        }
    }
    assert_eq!(door.dialled(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_left_is_cut_while_its_stream_stands_and_is_heard_once_when_it_comes_again() {
    let (leave, left) = watch::channel(false);
    let door = Door::open(Echo(AtomicUsize::new(0)), Seven(left)).await;
    assert!(door.call(0).await.is_ok());
    let _ = leave.send(true);
    // Nothing that was under way is answered, and nothing more is.
    let began = runtime::now();
    let (mut answered, mut refused) = (0, 0);
    while runtime::now() - began < Duration::from_secs(3) {
        match door.call(1).await {
            Ok(_) => answered += 1,
            Err(_) => refused += 1,
        }
        runtime::sleep(Duration::from_millis(2)).await;
    }
    // Each answer costs it a connection, and those come ever more rarely.
    assert!((1..=door.dialled()).contains(&answered), "{answered} answers, {} connections", door.dialled());
    assert!(door.dialled() <= 12 && refused > 50, "{} connections, {refused} refused", door.dialled());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connection_to_a_node_that_left_is_closed_from_here_too() {
    let door = Door::open(Echo(AtomicUsize::new(0)), AdmitAll).await;
    assert!(door.call(0).await.is_ok());
    door.pool.forget(NodeId(2));
    assert!(door.call(1).await.is_ok());
    assert_eq!(door.dialled(), 1, "it is another one's");
    door.pool.forget(NodeId(1));
    assert!(door.call(2).await.is_ok());
    assert_eq!(door.dialled(), 2);
}
