//! Connections come to an end: those of a node that was removed at once, while its certificate still holds, and all others after a
//! while, which nobody notices.

use std::fs;
use std::time::{Duration, Instant};

use dinhba_client::tls::{Credentials, TlsDialer, named, node_name};
use dinhba_client::transport::{Dial, Line};
use dinhba_core::claims::Role;
use dinhba_core::encoding::Wire;
use dinhba_node::call::{Call, Joined};
use dinhba_node::config::Tls;
use dinhba_proto::peer::v1::frame::Body;
use dinhba_proto::peer::v1::peer_client::PeerClient;
use dinhba_proto::peer::v1::{App, Frame, ReadIndexRequest};
use dinhba_tests::country::{Country, NodePlan, operating, site};
use dinhba_tests::evidence::{agree, all_hold, in_step};
use dinhba_tests::officer::{Ledger, Officer};
use futures::StreamExt;
use futures::channel::mpsc;
use tonic::Streaming;

use crate::PROGRAM;
use crate::load::Load;

const DISTRICT: &str = "082";
const COMMUNE: &str = "02683";

/// A stream to a node, with the certificate of another one of its site.
struct Stolen {
    calls: mpsc::UnboundedSender<Frame>,
    answers: Streaming<Frame>,
    group: u64,
}

impl Stolen {
    async fn open(country: &Country, whose: &NodePlan, to: &NodePlan) -> Self {
        let Tls::Mutual { ca, certificate, key } = &whose.config.tls else { panic!("stories are protected") };
        let [ca, certificate, key] = [ca, certificate, key].map(|path| fs::read_to_string(path).unwrap());
        let dialer = TlsDialer::new(&Credentials { ca, certificate, key });
        let transport = dialer.dial(named(&node_name(to.id), &to.address())).await.unwrap();
        let (calls, frames) = mpsc::unbounded();
        let answers = PeerClient::new(Line(transport)).stream(frames).await.unwrap().into_inner();
        Stolen { calls, answers, group: country.sites[DISTRICT].groups[0].0.0 }
    }

    /// What a call is answered with; none if the stream has ended.
    async fn call(&mut self, body: Body) -> Option<Body> {
        self.calls.unbounded_send(Frame { call: 1, group: self.group, body: Some(body) }).ok()?;
        self.answers.next().await?.ok()?.body
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_removed_is_cut_off_while_its_stream_stands() {
    let mut country = Country::start(PROGRAM, &[site(DISTRICT, 3, None, &[COMMUNE])]).await;
    let leader = country.leader(DISTRICT).await;
    let (leaving, to) = (country.node(DISTRICT, (leader + 1) % 3), country.node(DISTRICT, leader));
    let read_index = || Body::ReadIndex(ReadIndexRequest {});
    let mut standing = Stolen::open(&country, &leaving, &to).await;
    let answer = standing.call(read_index()).await;
    assert!(matches!(answer, Some(Body::ReadIndexAnswer(_))), "it is a member: {answer:?}");

    let stay: Vec<_> = country.sites[DISTRICT].nodes.iter().filter(|node| node.id != leaving.id).cloned().collect();
    let began = Instant::now();
    country.client(&stay, Role::Operator, DISTRICT).remove_node(&operating(), leaving.id).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(10), standing.answers.next()).await;
    assert!(!matches!(ended, Ok(Some(Ok(_))) | Err(_)), "nothing was asked, and it ends: {ended:?}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());

    // Whoever has its certificate is told what became of it, and a stream is worth no more than that.
    let mut again = Stolen::open(&country, &leaving, &to).await;
    let Some(Body::Failure(refused)) = again.call(read_index()).await else { panic!("it is no member any more") };
    assert!(refused.detail.contains("left this site for good"), "{refused:?}");
    assert_eq!(again.call(read_index()).await, None);
    let mut asking = Stolen::open(&country, &leaving, &to).await;
    let joined = Body::App(App { payload: Call::Joined(leaving.id).to_bytes() });
    let Some(Body::AppAnswer(answer)) = asking.call(joined.clone()).await else { panic!("it may ask") };
    assert!(Joined::from_bytes(&answer.payload).unwrap().left);
    assert_eq!(asking.call(joined).await, None);

    // Its own process is not at work any more, and says why; the others said so once, and serve.
    dinhba_tests::country::eventually("the one that left knows", Duration::from_secs(20), async || {
        fs::read_to_string(leaving.log()).unwrap().contains("was removed from its site for good")
    })
    .await;
    for node in &stay {
        let log = fs::read_to_string(node.log()).unwrap();
        assert_eq!(log.matches("its connections are cut").count(), 1, "{log}");
    }
    country.sites.get_mut(DISTRICT).unwrap().nodes = stay;
    let ledger = Ledger::default();
    let registrar = country.site_client(DISTRICT, Role::Registrar, DISTRICT);
    Officer::new(registrar, country.shard(COMMUNE), &ledger).register("Lò/Thị/Pha").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_have_had_their_time_are_followed_by_others_and_nobody_notices() {
    const AGE_MS: u64 = 3_000;
    let wishes = [site(DISTRICT, 3, None, &[COMMUNE]), site(COMMUNE, 1, Some(DISTRICT), &[COMMUNE])];
    let mut country = Country::plan(PROGRAM, &wishes).await;
    for code in [DISTRICT, COMMUNE] {
        country.configure(code, |config| config.node.connection_age_ms = AGE_MS);
    }
    country.start_all();
    country.ready().await;
    in_step(&country, COMMUNE, country.shard(COMMUNE)).await;
    // What was said while all of them started is not meant.
    let nodes: Vec<NodePlan> = country.sites.values().flat_map(|site| site.nodes.clone()).collect();
    let said = |node: &NodePlan| fs::read_to_string(node.log()).unwrap();
    let before: Vec<usize> = nodes.iter().map(|node| said(node).len()).collect();

    let ledger = Ledger::default();
    let load = [
        Load::start(&country, COMMUNE, COMMUNE, COMMUNE, 1, &ledger),
        Load::start(&country, DISTRICT, DISTRICT, COMMUNE, 2, &ledger),
    ];
    let watching = country.site_client(DISTRICT, Role::Registrar, DISTRICT);
    let mut feed = Box::pin(watching.watch(&operating(), Some(country.shard(COMMUNE)), 1));
    let (mut position, until) = (0, Instant::now() + Duration::from_millis(5 * AGE_MS));
    while Instant::now() < until {
        let entry = feed.next().await.expect("a feed has no end").expect("a feed goes on");
        assert_eq!(entry.position, position + 1, "none is left out, and none comes twice");
        position = entry.position;
    }
    for load in load {
        load.stop().await;
    }
    assert!(ledger.len() > 20 && position > 20, "only {} edits and {position} entries", ledger.len());
    in_step(&country, COMMUNE, country.shard(COMMUNE)).await;
    agree(&country, &[DISTRICT, COMMUNE], country.shard(COMMUNE)).await;
    all_hold(&country, &[DISTRICT], country.shard(COMMUNE), DISTRICT, &ledger).await;
    for (node, before) in nodes.iter().zip(before) {
        let log = said(node);
        let since = &log[before..];
        for unwanted in ["ERROR", "WARN", "link is down", "is away", "cut off"] {
            assert!(!since.contains(unwanted), "{unwanted} at {}:\n{since}", node.id);
        }
    }
}
