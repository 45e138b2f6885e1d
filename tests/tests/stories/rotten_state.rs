//! The only machine of a commune has a bad disk: bits flip in the files of its state, all of them. Log and snapshot are whole,
//! so nobody has to do anything but start it again where it says so.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dinhba_core::claims::Role;
use dinhba_tests::country::{Country, operating, site};
use dinhba_tests::evidence::{all_hold, shard_status};
use dinhba_tests::officer::{Ledger, Officer};

use crate::PROGRAM;

const COMMUNE: &str = "02683";

/// Starts that it may take: one meets the damage where the engine's files cannot be written over, the next has new ones.
const STARTS_MAX: usize = 3;

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commune_with_rotten_state_files_comes_back_by_itself() {
    let mut country = Country::start(PROGRAM, &[site(COMMUNE, 1, None, &[COMMUNE])]).await;
    let (shard, ledger, node) = (country.shard(COMMUNE), Ledger::default(), country.node(COMMUNE, 0));
    let officer = Officer::new(country.site_client(COMMUNE, Role::Registrar, COMMUNE), shard, &ledger);
    let operator = country.site_client(COMMUNE, Role::Operator, COMMUNE);
    let (mut mended, mut told) = (0, 0);
    for round in 1..=6 {
        for _ in 0..15 {
            officer.register("Vàng/Thị/Dợ").await.unwrap();
        }
        if round % 2 == 1 {
            let groups = operator.snapshot(&operating()).await.unwrap().groups;
            assert!(groups[0].purged > 0);
        }
        for _ in 0..5 {
            officer.register("Lồ/A/Tỏa").await.unwrap();
        }
        let before = shard_status(&country, COMMUNE, &node, shard).await.unwrap();
        let (ended, _) = country.terminate(node.id);
        assert!(ended.is_some_and(|status| status.success()));
        let mut state = Vec::new();
        files(&node.data().join("state"), &mut state);
        for path in &state {
            let mut bytes = fs::read(path).unwrap();
            let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            if written > 0 {
                bytes[written * round / 7] ^= 1 << round;
                fs::write(path, bytes).unwrap();
            }
        }
        let mut healthy = false;
        for _ in 0..STARTS_MAX {
            country.start_node(&node);
            let limit = tokio::time::timeout(Duration::from_secs(20), country.site_ready(COMMUNE)).await;
            if limit.is_ok() && officer.register("Sùng/Thị/Pà").await.is_ok() {
                healthy = true;
                break;
            }
            country.kill(node.id);
        }
        let said = fs::read_to_string(node.log()).unwrap_or_default();
        assert!(healthy, "round {round}: it does not serve:\n{said}");
        let tells = said.matches("made again").count();
        mended += usize::from(tells > told);
        told = tells;
        let after = shard_status(&country, COMMUNE, &node, shard).await.unwrap();
        assert!(after.edits > before.edits, "{} edits, before {}", after.edits, before.edits);
        all_hold(&country, &[COMMUNE], shard, COMMUNE, &ledger).await;
    }
    // Where a bit flips in what the engine does not read any more, nothing has to be made again.
    assert!(mended > 0, "no round met the damage");
    println!("in {mended} of 6 rounds the log told of a state that was made again");
}
