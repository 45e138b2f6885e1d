//! A node that is not well says so, in the promised time and wherever it is asked; for each illness that the crash tests make,
//! and for those that an operator's word made before.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use dinhba_client::tls::{TlsDialer, named, node_name};
use dinhba_client::transport::{Dial, Line};
use dinhba_client::{Error, Limits};
use dinhba_core::claims::Role;
use dinhba_core::ids::NodeId;
use dinhba_core::schema::RecordKind;
use dinhba_tests::country::{Country, NodePlan, eventually, limits, operating, site};
use dinhba_tests::disk::{Disk, Trouble};
use dinhba_tests::officer::{Ledger, Officer};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Request;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::PROGRAM;

const COMMUNE: &str = "02683";
/// What is promised: two of the longest election timeouts of the stories' sites.
const PROMISED: Duration = Duration::from_millis(2 * 1_500);
/// What a machine that is busy with other tests adds.
const SLACK: Duration = Duration::from_secs(3);
/// How long it may take until a node that was mended is well.
const MENDED_WAIT: Duration = Duration::from_secs(30);

/// A site whose nodes have pages.
struct Watched {
    country: Country,
    pages: BTreeMap<NodeId, u16>,
}

impl Watched {
    /// Not started yet.
    async fn plan(nodes: usize) -> Watched {
        let mut country = Country::plan(PROGRAM, &[site(COMMUNE, nodes, None, &[COMMUNE])]).await;
        let ids: Vec<NodeId> = country.sites[COMMUNE].nodes.iter().map(|node| node.id).collect();
        let pages: BTreeMap<NodeId, u16> = ids.into_iter().map(|id| (id, country.port())).collect();
        country.configure(COMMUNE, |config| {
            let page = format!("127.0.0.1:{}", pages[&config.node.id]);
            config.node.metrics_listen = Some(page.parse().expect("an address"));
        });
        Watched { country, pages }
    }

    async fn start(nodes: usize) -> Watched {
        let mut watched = Watched::plan(nodes).await;
        watched.country.start_all();
        watched.all_well().await;
        watched
    }

    fn nodes(&self) -> Vec<NodePlan> {
        self.country.sites[COMMUNE].nodes.clone()
    }

    async fn page(&self, node: &NodePlan, path: &str) -> Option<(u16, String)> {
        let ask = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.pages[&node.id])).await.ok()?;
            let request = format!("GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.ok()?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await.ok()?;
            let code = text.split(' ').nth(1)?.parse().ok()?;
            Some((code, text.split_once("\r\n\r\n")?.1.to_owned()))
        };
        tokio::time::timeout(Duration::from_secs(2), ask).await.ok()?
    }

    async fn healthz(&self, node: &NodePlan) -> (u16, String) {
        self.page(node, "/healthz").await.unwrap_or_default()
    }

    /// What the metrics, the gRPC health service and the status say: whether each says that the node is well.
    async fn said_elsewhere(&self, node: &NodePlan) -> [Option<bool>; 3] {
        let metrics = self.page(node, "/metrics").await.map(|(_, page)| page.contains("dinhba_healthy 1\n"));
        let dialer = TlsDialer::new(&self.country.credentials(Role::Operator, COMMUNE));
        let ask = async {
            let transport = dialer.dial(named(&node_name(node.id), &node.address())).await.ok()?;
            let reply = HealthClient::new(Line(transport)).check(Request::new(HealthCheckRequest::default())).await;
            Some(reply.ok()?.into_inner().status == 1)
        };
        let service = tokio::time::timeout(Duration::from_secs(2), ask).await.ok().flatten();
        let status = self.country.status(COMMUNE, node).await.map(|status| status.health.is_empty());
        [metrics, service, status]
    }

    /// Waits until `node` says that it is not well, in the promised time, and everywhere; gives why.
    async fn falls_ill(&self, node: &NodePlan, illness: &str) -> String {
        let began = Instant::now();
        let why = loop {
            match self.healthz(node).await {
                (503, why) => break why,
                said => assert!(began.elapsed() < PROMISED + SLACK, "{illness}: after {:?}: {said:?}", began.elapsed()),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        eprintln!("{illness}: {} says so after {:?}: {}", node.id, began.elapsed(), why.trim());
        eventually(&format!("{illness}: it is said everywhere"), SLACK, async || {
            self.said_elsewhere(node).await == [Some(false); 3]
        })
        .await;
        why
    }

    async fn is_well(&self, node: &NodePlan) {
        eventually(&format!("{} is well", node.id), MENDED_WAIT, async || {
            self.healthz(node).await.0 == 200 && self.said_elsewhere(node).await == [Some(true); 3]
        })
        .await;
    }

    async fn all_well(&self) {
        for node in self.nodes() {
            self.is_well(&node).await;
        }
    }

    fn restart(&mut self, node: &NodePlan) {
        self.country.kill(node.id);
        self.country.start_node(node);
    }

    fn officer(&self, ledger: &Ledger) -> Officer {
        let impatient = Limits { attempt: Duration::from_secs(2), deadline: Duration::from_secs(4), ..limits() };
        let client = self.country.site_client(COMMUNE, Role::Registrar, COMMUNE).with_limits(impatient);
        Officer::new(client, self.country.shard(COMMUNE), ledger)
    }

    /// What `dinhba` says to an operator at a node.
    fn command(&self, node: &NodePlan, role: Role, words: &[&str]) -> Output {
        let [ca, certificate, key] = self.country.identity(role, COMMUNE);
        Command::new(PROGRAM)
            .args(words)
            .args([
                "--node",
                &named(&node_name(node.id), &node.address()),
                "--purpose",
                "maintenance",
                "--case",
                "VH-1",
            ])
            .args(["--ca".into(), ca, "--cert".into(), certificate, "--key".into(), key] as [PathBuf; 6])
            .args(["--timeout", "10"])
            .output()
            .expect("the program starts")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn log_of(node: &NodePlan) -> String {
    std::fs::read_to_string(node.log()).unwrap_or_default()
}

fn count(log: &str, words: &str) -> usize {
    log.lines().filter(|line| line.contains(words)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_of_three_is_not_well_whatever_became_of_the_others() {
    let mut site = Watched::start(3).await;
    let nodes = site.nodes();
    // Leader or not, whoever is left.
    for (left, illness) in [(site.country.leader(COMMUNE).await, "killed"), (0, "stopped")] {
        let others: Vec<NodePlan> = nodes.iter().filter(|node| node.id != nodes[left].id).cloned().collect();
        for other in &others {
            match illness {
                "killed" => site.country.kill(other.id),
                _ => site.country.process(other.id).signal(Signal::STOP),
            }
        }
        let why = site.falls_ill(&nodes[left], &format!("a majority is {illness}")).await;
        assert!(why.contains("no majority") || why.contains("leader"), "{why}");
        let shown = site.command(&nodes[left], Role::Operator, &["status"]);
        assert_eq!(shown.status.code(), Some(9), "{shown:?}");
        assert!(text(&shown.stdout).starts_with("NOT WELL: "), "{shown:?}");
        // For as long as it lasts: it was said to be well again before, after two minutes and a half.
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(4) {
            assert_eq!(site.healthz(&nodes[left]).await.0, 503);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let log = log_of(&nodes[left]);
        for other in &others {
            let told = count(&log, &node_name(other.id));
            assert!(told <= 6, "{told} lines of {} in\n{log}", other.id);
            match illness {
                "killed" => site.country.start_node(other),
                _ => site.country.process(other.id).signal(Signal::CONT),
            }
        }
        site.all_well().await;
        eventually("both are said to have been away and to be back", MENDED_WAIT, async || {
            let log = log_of(&nodes[left]);
            count(&log, "is away") >= 2 && count(&log, "is back") >= 2
        })
        .await;
        let log = log_of(&nodes[left]);
        assert!(count(&log, "well again") >= 1, "{log}");
        assert!(log.lines().count() < 80, "{log}");
    }
    // What closes a terminal closes no node.
    site.country.process(nodes[0].id).signal(Signal::HUP);
    eventually("SIGHUP is told of", MENDED_WAIT, async || log_of(&nodes[0]).contains("SIGHUP")).await;
    site.is_well(&nodes[0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_hangs_or_cannot_be_read_makes_its_node_ill() {
    let mut site = Watched::plan(1).await;
    let node = site.nodes()[0].clone();
    let at = site.country.dir().join("disk");
    let mounted = Disk::mount(&at, &site.country.dir().join("flushed"), 1);
    let disk = match mounted {
        Ok(disk) => disk,
        Err(error) => return println!("skipped: no file system can be mounted here: {error}"),
    };
    site.country.configure(COMMUNE, |config| config.node.data_dir = at.join("data"));
    let node = NodePlan { config: site.nodes()[0].config.clone(), ..node };
    site.country.start_all();
    site.all_well().await;
    let ledger = Ledger::default();
    let officer = site.officer(&ledger);
    let record = officer.register("Giàng/Thị/Sai").await.unwrap();

    // Nobody writes meanwhile: what would become of a proposal has to be known all the same.
    disk.set(Trouble { bytes_max: Some(disk.used() + 1_000_000), ..Trouble::default() });
    let why = site.falls_ill(&node, "the disk is full").await;
    assert!(why.contains("full") && why.contains("free some space"), "{why}");
    disk.set(Trouble::default());
    site.is_well(&node).await;
    officer.register("Giàng/Thị/Sai").await.unwrap();

    disk.set(Trouble { hangs: true, ..Trouble::default() });
    let why = site.falls_ill(&node, "the disk hangs").await;
    assert!(why.contains("flush"), "{why}");
    disk.set(Trouble::default());
    site.is_well(&node).await;
    officer.read(record).await.unwrap();

    // So slow that nothing would pass in time.
    disk.set(Trouble { slow: Some(Duration::from_secs(60)), ..Trouble::default() });
    let why = site.falls_ill(&node, "the disk takes a minute for a flush").await;
    assert!(why.contains("flush"), "{why}");
    disk.set(Trouble::default());
    site.restart(&node);
    site.all_well().await;
    officer.read(record).await.unwrap();

    // And with somebody who writes.
    disk.set(Trouble { bytes_max: Some(disk.used() + 1_000), ..Trouble::default() });
    let (long, began) = ("đ".repeat(900), Instant::now());
    loop {
        let mut edit = officer.birth("Giàng/Thị/Sai");
        for _ in 0..20 {
            let part = edit.create(RecordKind::Person);
            edit.set(part, "note", "", &long);
        }
        if officer.send(&edit).await.is_err() {
            break;
        }
        assert!(began.elapsed() < MENDED_WAIT, "a full disk takes everything");
    }
    site.falls_ill(&node, "the disk is full, and somebody writes").await;
    disk.set(Trouble::default());
    site.restart(&node);
    site.all_well().await;

    disk.set(Trouble { unreadable: Some((PathBuf::new(), 1)), ..Trouble::default() });
    // Whoever asks finds it out, or is served from memory.
    let _ = officer.register("Giàng/Thị/Sai").await;
    let _ = officer.read(record).await;
    if site.healthz(&node).await.0 == 200 {
        site.restart(&node);
        // Then it does not even start; nobody says that it is well.
        let began = Instant::now();
        while began.elapsed() < PROMISED {
            assert_ne!(site.healthz(&node).await.0, 200);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    } else {
        stopped_group_is_shown_as_one(&site, &node).await;
    }
    disk.set(Trouble::default());
    site.restart(&node);
    site.all_well().await;
    officer.read(record).await.unwrap();
    drop(site);
    drop(disk);
}

/// A group that has stopped has neither a leader nor a step, and what is asked of it is refused in words that say so.
async fn stopped_group_is_shown_as_one(site: &Watched, node: &NodePlan) {
    let status = site.country.status(COMMUNE, node).await.expect("the node answers");
    let group = &status.groups[0];
    if group.role != "shutdown" {
        println!("skipped: the node is not well, but its group goes on");
        return;
    }
    assert!(group.leader.is_empty() && !group.health.is_empty(), "{group:?}");
    assert!(group.shards.iter().all(|shard| shard.step == "unknown"), "{group:?}");
    let refused = site.command(node, Role::Operator, &["site", "snapshot"]);
    let said = text(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains("has stopped"), "{refused:?}");
    assert!(!said.contains("not known") && !said.contains("another node"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_of_an_operator_makes_no_site_ill_and_leaves_a_trace() {
    let site = Watched::start(1).await;
    let node = site.nodes()[0].clone();
    let group = site.country.sites[COMMUNE].groups[0].0;
    let operator = site.country.site_client(COMMUNE, Role::Operator, COMMUNE);
    let ledger = Ledger::default();
    let officer = site.officer(&ledger);
    let lead = operator.transfer_leader(&operating(), group, node.id).await.unwrap();
    assert_eq!(lead.groups[0].leader, node.id.to_string());
    officer.register("Giàng/Thị/Sai").await.unwrap();
    let refused = operator.transfer_leader(&operating(), group, NodeId(0x999)).await.unwrap_err();
    assert!(matches!(&refused, Error::Refused { text, .. } if text.contains("no member")), "{refused:?}");
    let record = officer.register("Giàng/Thị/Sai").await.unwrap();
    officer.read(record).await.unwrap();
    for (address, why) in [(node.address(), "own address"), ("127.0.0.1:1".to_owned(), "already")] {
        let new = if why == "already" { node.id } else { NodeId(0x998) };
        let refused = operator.add_node(&operating(), new, &address).await.unwrap_err();
        assert!(matches!(&refused, Error::Refused { text, .. } if text.contains(why)), "{refused:?}");
    }
    operator.snapshot(&operating()).await.unwrap();
    operator.raise_level(&operating(), 2).await.unwrap();
    // Of a node that nobody knows: what was tried is told as well.
    let _ = operator.promote_node(&operating(), NodeId(0x997)).await;
    let _ = operator.remove_node(&operating(), NodeId(0x997)).await;
    site.all_well().await;

    // Whoever looks into the log, or is an auditor, finds who did it.
    let log = log_of(&node);
    let acts: Vec<&str> = log.lines().filter(|line| line.contains("operator")).collect();
    for what in ["transfer-leader", "add-node", "promote-node", "remove-node", "snapshot", "raise-level"] {
        let of = |line: &&&str| line.contains(what) && line.contains("VH-1") && line.contains("maintenance");
        assert!(acts.iter().any(|line| of(&line)), "{what} is not in\n{}", acts.join("\n"));
    }
    let auditor = site.country.site_client(COMMUNE, Role::Auditor, COMMUNE);
    let page = auditor.access_log(&operating(), group, 1).await.unwrap();
    let found: Vec<(&str, &str)> =
        page.entries.iter().map(|entry| (entry.looked.as_str(), entry.target.as_str())).collect();
    assert!(found.contains(&("transfer-leader", &node.id.to_string())), "{found:?}");
    assert!(found.contains(&("snapshot", "")), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_removed_while_it_was_away_says_so_when_it_comes_back() {
    let mut site = Watched::start(3).await;
    let nodes = site.nodes();
    let gone = (site.country.leader(COMMUNE).await + 1) % 3;
    let asked = (gone + 1) % 3;
    site.country.kill(nodes[gone].id);
    let began = Instant::now();
    let removed = site.command(&nodes[asked], Role::Operator, &["site", "remove-node", &nodes[gone].id.to_string()]);
    assert!(removed.status.success(), "{removed:?}");
    assert!(began.elapsed() < Duration::from_secs(12), "it took {:?}", began.elapsed());
    assert!(!text(&removed.stdout).contains(&nodes[gone].id.to_string()), "{removed:?}");
    // A second time there is nothing to do.
    let again = site.command(&nodes[asked], Role::Operator, &["site", "remove-node", &nodes[gone].id.to_string()]);
    assert!(again.status.success(), "{again:?}");

    let before = count(&log_of(&nodes[gone]), "the node runs");
    site.country.start_node(&nodes[gone]);
    eventually("it says so", MENDED_WAIT, async || {
        site.healthz(&nodes[gone]).await.1.contains("was removed from its site for good")
    })
    .await;
    let log = log_of(&nodes[gone]);
    assert!(log.lines().any(|line| line.contains("ERROR") && line.contains("was removed from its site")), "{log}");
    assert_eq!(count(&log, "the node runs"), before, "{log}");
    for place in (0..3).filter(|place| *place != gone) {
        site.is_well(&nodes[place]).await;
    }
}
