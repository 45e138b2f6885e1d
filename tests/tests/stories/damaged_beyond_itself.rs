//! A node of a commune's three comes back with a disk on which state and snapshots are damaged, and its log is not. Nobody does
//! anything but start it: it has a snapshot from another node, and goes on with its own log and vote, while the others serve.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dinhba_core::claims::Role;
use dinhba_node::config::Engine;
use dinhba_tests::country::{Country, NodePlan, operating, site};
use dinhba_tests::evidence::{agree, all_hold};
use dinhba_tests::officer::{Ledger, Officer};

use crate::PROGRAM;

const COMMUNE: &str = "02683";

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// Flips bits all over the files below `dir`, as far as something is written in them; how many were hit.
fn damage(dir: &Path) -> usize {
    let mut found = Vec::new();
    files(dir, &mut found);
    let mut hit = 0;
    for path in found {
        let mut bytes = fs::read(&path).unwrap();
        let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        // Sparse enough that the beginning still looks like what it is.
        for place in (written / 16..written).step_by(509) {
            bytes[place] ^= 0x10;
        }
        if written > 0 {
            fs::write(&path, bytes).unwrap();
            hit += 1;
        }
    }
    hit
}

fn said(node: &NodePlan, what: &str) -> usize {
    fs::read_to_string(node.log()).unwrap_or_default().matches(what).count()
}

async fn comes_back(engine: Engine) {
    let mut country = Country::plan(PROGRAM, &[site(COMMUNE, 3, None, &[COMMUNE])]).await;
    country.configure(COMMUNE, |config| config.storage.engine = engine);
    country.start_all();
    country.ready().await;
    let (shard, ledger) = (country.shard(COMMUNE), Ledger::default());
    let officer = Officer::new(country.site_client(COMMUNE, Role::Registrar, COMMUNE), shard, &ledger);
    for _ in 0..40 {
        officer.register("Tẩn/Thị/Mẩy").await.unwrap();
    }
    agree(&country, &[COMMUNE], shard).await;
    for node in &country.sites[COMMUNE].nodes {
        let operator = country.client([node], Role::Operator, COMMUNE);
        let groups = operator.snapshot(&operating()).await.unwrap().groups;
        assert!(groups[0].snapshot > 0 && groups[0].purged > 0, "{}: {:?}", node.id, groups[0].purged);
    }
    // In every log, and in no snapshot.
    for _ in 0..10 {
        officer.register("Lồ/A/Tỏa").await.unwrap();
    }
    agree(&country, &[COMMUNE], shard).await;

    // The one who leads: the others are in a later term when it comes back.
    let victim = country.node(COMMUNE, country.leader(COMMUNE).await);
    country.kill(victim.id);
    let rest: Vec<NodePlan> =
        country.sites[COMMUNE].nodes.iter().filter(|node| node.id != victim.id).cloned().collect();
    assert!(damage(&victim.data().join("snapshots")) > 0 && damage(&victim.data().join("state")) > 0);

    let stop = Arc::new(AtomicBool::new(false));
    let busy = Officer::new(country.client(&rest, Role::Registrar, COMMUNE), shard, &ledger);
    let working = tokio::spawn({
        let stop = Arc::clone(&stop);
        async move {
            let mut served = 0;
            while !stop.load(Ordering::Relaxed) {
                busy.register("Sùng/Thị/Pà").await.unwrap();
                served += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            served
        }
    });
    tokio::time::sleep(Duration::from_secs(3)).await;
    country.start_node(&victim);
    let ready = tokio::time::timeout(Duration::from_secs(60), country.site_ready(COMMUNE)).await;
    let log = fs::read_to_string(victim.log()).unwrap_or_default();
    assert!(ready.is_ok(), "it does not come back by itself:\n{log}");
    stop.store(true, Ordering::Relaxed);
    let served = working.await.unwrap();
    assert!(served > 0, "the others did not serve");
    assert_eq!(said(&victim, "fetched its snapshot"), 1, "{log}");
    assert_eq!(said(&victim, "this replica runs again"), 1, "{log}");
    println!("{engine:?}: {served} registrations were accepted by the others meanwhile");

    // It votes again: with one of the others gone, the two decide.
    let gone = rest[0].clone();
    country.kill(gone.id);
    for _ in 0..5 {
        officer.register("Vàng/Thị/Dợ").await.unwrap();
    }
    country.start_node(&gone);
    country.site_ready(COMMUNE).await;
    agree(&country, &[COMMUNE], shard).await;
    all_hold(&country, &[COMMUNE], shard, COMMUNE, &ledger).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_fjall_and_nothing_whole_but_its_log_is_mended_by_the_others() {
    comes_back(Engine::Fjall).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_lsm_and_nothing_whole_but_its_log_is_mended_by_the_others() {
    comes_back(Engine::Lsm).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_sled_and_nothing_whole_but_its_log_is_mended_by_the_others() {
    comes_back(Engine::Sled).await;
}
