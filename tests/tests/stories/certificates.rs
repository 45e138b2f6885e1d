//! A certificate that is not valid: said at both ends, in the first words, once.

use std::fs;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use dinhba_client::ambient::{Ambient, Machine};
use dinhba_client::handshake::Validity;
use dinhba_core::claims::Role;
use dinhba_core::date::InstantMs;
use dinhba_node::pki::DevAuthority;
use dinhba_tests::country::{Country, NodePlan, eventually, site};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::PROGRAM;

const DISTRICT: &str = "082";
const COMMUNE: &str = "02683";
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// The country's authority, whose certificates ended yesterday, or begin in a year.
fn authority(country: &Country, is_expired: bool) -> DevAuthority {
    let now = Machine::default().utc_ms();
    let day = |days: i64| InstantMs(now + days * DAY_MS);
    let (from, until) = if is_expired { (day(-30), day(-1)) } else { (day(365), day(730)) };
    DevAuthority::open(&country.dir().join("pki")).unwrap().replacing().valid(Validity { from, until })
}

async fn page(port: u16, path: &str) -> Option<String> {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

fn status(country: &Country, node: &NodePlan, identity: &[std::path::PathBuf; 3]) -> Output {
    let [ca, cert, key] = identity;
    Command::new(country.program())
        .args(["status", "--purpose", "maintenance", "--case", "1", "--timeout", "30", "--node", &node.address()])
        .arg("--ca")
        .arg(ca)
        .arg("--cert")
        .arg(cert)
        .arg("--key")
        .arg(key)
        .output()
        .unwrap()
}

/// The lines of its log that say `what` for the reason that is in `why`.
fn lines(node: &NodePlan, what: &str, why: &str) -> Vec<String> {
    let log = fs::read_to_string(node.log()).unwrap_or_default();
    log.lines().filter(|line| line.contains(what) && line.contains(why)).map(ToOwned::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_certificate_is_not_valid_is_red_and_both_ends_know_why() {
    for (is_expired, words) in [(true, " expired on 2"), (false, " is not valid before 2")] {
        let sites = [site(DISTRICT, 1, None, &[COMMUNE]), site(COMMUNE, 1, Some(DISTRICT), &[COMMUNE])];
        let mut country = Country::plan(PROGRAM, &sites).await;
        let port = country.port();
        country.configure(COMMUNE, |config| {
            config.node.metrics_listen = Some(format!("127.0.0.1:{port}").parse().unwrap());
        });
        let (node, parent) = (country.node(COMMUNE, 0), country.node(DISTRICT, 0));
        authority(&country, is_expired).issue_node(node.config.node.site, node.id).unwrap();
        country.start_all();
        country.site_ready(DISTRICT).await;

        // The node: red, and one line that a person must look at.
        let red = format!("this end's own certificate{words}");
        eventually("health is red", Duration::from_secs(20), async || {
            page(port, "/healthz").await.is_some_and(|page| page.contains(" 503 ") && page.contains(&red))
        })
        .await;
        let figures = page(port, "/metrics").await.unwrap();
        assert_eq!(figures.contains("\ndinhba_certificate_expiry_seconds{} -"), is_expired, "{figures}");
        // Its link tries again and again, and each end says once why it is down.
        let tried = "dinhba_handshakes_refused_total{side=\"dial\",by=\"them\",reason=\"expired_or_not_yet_valid\"} ";
        eventually("the link has tried several times", Duration::from_secs(40), async || {
            let figures = page(port, "/metrics").await.unwrap_or_default();
            let times = figures.lines().find_map(|line| line.strip_prefix(tried)?.parse::<u32>().ok());
            times.is_some_and(|times| times >= 3)
        })
        .await;
        for (node, what, says) in [
            (&node, "nobody can call this node", &*red),
            (&node, "a node could not be called", &*red),
            (&node, "link is down", &*red),
            (&parent, "a caller did not get in", words),
        ] {
            let found = lines(node, what, says);
            assert_eq!(found.len(), 1, "{what}: {found:?}");
        }
        assert!(lines(&parent, "a caller did not get in", words)[0].contains(&node.id.to_string()), "who it was");

        // Who calls the node hears it first, and at once.
        let began = Instant::now();
        let called = status(&country, &node, &country.identity(Role::Operator, COMMUNE));
        let text = String::from_utf8(called.stderr).unwrap();
        assert_eq!(called.status.code(), Some(6), "{text}");
        assert!(text.contains(&format!("the certificate of {}{words}", node.address())), "{text}");
        assert!(!text.contains("check the link") && began.elapsed() < Duration::from_secs(10), "{text}");

        // So does a caller whose own certificate is not valid, before anybody is called.
        let mine = authority(&country, is_expired).issue_person("lan", Role::Operator, country.unit(DISTRICT)).unwrap();
        let called = status(&country, &parent, &[mine.ca, mine.certificate, mine.key]);
        let text = String::from_utf8(called.stderr).unwrap();
        assert_eq!(called.status.code(), Some(6), "{text}");
        let begins = text.trim_start_matches("error: ").trim_start_matches("dinhba: ");
        assert!(begins.starts_with(&red), "{text}");
        assert_eq!(lines(&parent, "a caller did not get in", words).len(), 1, "nobody was called");
    }
}
