use std::path::Path;

use dinhba_client::transport::{Transport, TransportError};
use dinhba_core::command::Command;
use dinhba_core::ids::NodeId;
use dinhba_core::level::LEVEL_MAX;
use ed25519_dalek::SigningKey;

use super::process::with_remedy;
use super::*;
use crate::call::Joined;
use crate::hosted::{ENTRIES_IN_FLIGHT_MAX, ProposalFailed, QUEUE_MAX};
use crate::pki::SiteKeys;
use crate::raft::group::StartError;
use crate::raft::test_support::{MemoryDisk, MemoryLog, MemoryState};
use crate::secrets::Secrets;

const GROUP: GroupId = GroupId(1);
const CONFIG: &str = r#"[node]
id = "n-0000000000000011"
site = "s-0000000000000051"
data_dir = "data"
listen = "127.0.0.1:7400"
[tls]
unsafe_loopback = true
[site]
unit = "u-00000000000000c3"
signing_key = "site.key"
secrets = "site.secrets"
[[site.members]]
id = "n-0000000000000011"
address = "127.0.0.1:7400"
groups = ["g-0000000000000001"]
[[site.groups]]
id = "g-0000000000000001"
shards = ["h-0000000000000001"]
"#;

/// Reaches nobody.
struct Alone;

impl Dial for Alone {
    fn dial(&self, _: String) -> BoxFuture<'static, Result<Transport, TransportError>> {
        async { Err(TransportError::from("nobody is there")) }.boxed()
    }
}

async fn node(is_new: bool) -> (Node, Seams) {
    let config = Config::parse(CONFIG, Path::new("/nowhere")).expect("a good configuration");
    let seams = Seams {
        directory: Arc::new(Directory::vietnam().expect("the units are built in")),
        state: Arc::new(MemoryState::default()),
        log: Arc::new(MemoryLog::default()),
        disk: Arc::new(MemoryDisk::default()),
        snapshots: PathBuf::from("snapshots"),
        dial: Arc::new(Alone),
        is_new,
        level_max: LEVEL_MAX,
    };
    let secrets = Secrets::first([2; 32], [3; 32], [4; 32]);
    let keys = SiteKeys { signing: SigningKey::from_bytes(&[1; 32]), secrets };
    let node = Node::prepare(config, &seams, keys);
    (node, seams)
}

#[test]
fn what_is_to_be_done_about_damage_depends_on_who_else_has_the_data() {
    let config = Config::parse(CONFIG, Path::new("/nowhere")).expect("a good configuration");
    let damage = || StoreError::Corrupt { place: "log".to_owned(), detail: "a bad frame".to_owned() }.into();
    let alone = with_remedy(&config, damage()).to_string();
    assert!(alone.starts_with("damaged data at log: a bad frame; "), "{alone}");
    assert!(alone.contains("dinhba restore") && !alone.contains("remove-node") && !alone.contains("parent"), "{alone}");
    let below = CONFIG.to_owned() + "[parent]\nsite = \"s-0000000000000050\"\naddresses = [\"127.0.0.1:7300\"]\n";
    let below = Config::parse(&below, Path::new("/nowhere")).expect("a good configuration");
    assert!(with_remedy(&below, damage()).to_string().contains("its parent s-0000000000000050 gives back"));
    let others = CONFIG.replace(
        "[[site.groups]]",
        "[[site.members]]\nid = \"n-0000000000000012\"\naddress = \"127.0.0.1:7402\"\n\
         groups = [\"g-0000000000000001\"]\n[[site.groups]]",
    );
    let others = Config::parse(&others, Path::new("/nowhere")).expect("a good configuration");
    for error in [damage(), StartError::Store(StoreError::Io("gone".to_owned())).into()] {
        let is_damage = error.to_string().contains("damaged");
        let told = with_remedy(&others, error).to_string();
        assert_eq!(told.contains("dinhba site remove-node n-0000000000000011"), is_damage, "{told}");
    }
}

#[tokio::test]
async fn beyond_its_queue_a_group_takes_no_command() {
    let (node, seams) = node(true).await;
    node.start(seams).await.expect("there is nobody to wait for");
    let hosted = node.shared.group(GROUP).expect("it runs");
    // Nothing runs between these, and nobody leads.
    let propose = || hosted.propose(Command::Place(Vec::new())).now_or_never();
    let mut waiting: Vec<_> = (0..QUEUE_MAX).map(|_| Box::pin(hosted.propose(Command::Place(Vec::new())))).collect();
    assert!(waiting.iter_mut().all(|proposal| proposal.now_or_never().is_none()));
    assert_eq!(propose(), Some(Err(ProposalFailed::Overloaded)));
    node.stop().await;
}

#[tokio::test]
async fn what_waits_for_longer_than_its_caller_is_not_proposed() {
    let (node, seams) = node(true).await;
    node.start(seams).await.expect("there is nobody to wait for");
    let hosted = node.shared.group(GROUP).expect("it runs");
    // Nobody leads, so that an entry is given up after a while, and those behind it have waited by then.
    let propose = || hosted.propose(Command::Place(Vec::new()));
    let mut all: Vec<_> = Vec::new();
    for _ in 0..ENTRIES_IN_FLIGHT_MAX {
        let mut proposal = Box::pin(propose());
        assert!((&mut proposal).now_or_never().is_none());
        runtime::sleep(Duration::from_millis(1)).await;
        all.push(proposal);
    }
    let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(propose())).collect();
    assert!(waiting.iter_mut().all(|proposal| proposal.now_or_never().is_none()));
    for outcome in futures::future::join_all(all).await {
        assert!(matches!(outcome, Err(ProposalFailed::NotAccepted(_))), "{outcome:?}");
    }
    for outcome in futures::future::join_all(waiting).await {
        assert_eq!(outcome, Err(ProposalFailed::Overloaded));
    }
    node.stop().await;
}

#[tokio::test]
async fn a_read_does_not_wait_for_others_to_be_proposed_and_few_others_are_under_way_beside_it() {
    let (node, seams) = node(true).await;
    node.start(seams).await.expect("there is nobody to wait for");
    let hosted = node.shared.group(GROUP).expect("it runs");
    // Nobody leads: what is proposed is given up after a while, and what waits has waited for too long by then.
    let read = || Box::pin(hosted.propose(Command::Access(Vec::new())));
    let other = || Box::pin(hosted.propose(Command::Place(Vec::new())));
    let mut all = Vec::new();
    for mut pair in [[read(), other()], [read(), other()]] {
        assert!(pair.iter_mut().all(|proposal| proposal.now_or_never().is_none()));
        runtime::sleep(Duration::from_millis(1)).await;
        all.extend(pair);
    }
    for _ in 2..ENTRIES_IN_FLIGHT_MAX {
        let mut proposal = read();
        assert!((&mut proposal).now_or_never().is_none());
        runtime::sleep(Duration::from_millis(1)).await;
        all.push(proposal);
    }
    for (place, outcome) in futures::future::join_all(all).await.into_iter().enumerate() {
        let is_late = outcome == Err(ProposalFailed::Overloaded);
        assert_eq!(is_late, place == 3, "only the second of the others had to wait, {place}: {outcome:?}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_has_joined_as_soon_as_the_log_names_it_and_nobody_is_called_new_by_one_who_cannot_know() {
    let (returning, _) = node(false).await;
    assert!(returning.shared.joined(NodeId(0x12)).await.is_err(), "it has data, and has not looked yet");

    let (founder, seams) = node(true).await;
    let said = |joined, formed, running| Ok(Joined { joined, formed, running, left: false });
    assert_eq!(founder.shared.joined(NodeId(0x12)).await, said(false, false, false));
    founder.start(seams).await.expect("there is nobody to wait for");
    assert_eq!(founder.shared.joined(NodeId(0x12)).await, said(false, false, true));

    // The other voter has not said a word yet, so there is no leader, and nothing is in the directory.
    let group = founder.shared.group(GROUP).expect("it runs").group.clone();
    let voters = [0x11, 0x12].map(|id| (NodeId(id), format!("127.0.0.1:74{id:02}"))).into();
    group.initialize(voters).await.expect("it is new");
    assert_eq!(founder.shared.joined(NodeId(0x12)).await, said(true, true, true));
    assert!(founder.shared.joined(NodeId(0x13)).await.is_err(), "without a leader it cannot know who else joined");
    founder.stop().await;
}
