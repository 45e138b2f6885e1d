//! The line between a commune and its district is cut a hundred times in the middle of messages, while a file is imported
//! below and officers register above. In the end both have everything, once.

use std::ffi::OsStr;
use std::time::{Duration, Instant};

use dinhba_core::claims::Role;
use dinhba_tests::country::{Country, site};
use dinhba_tests::evidence::{agree, all_hold, feed, in_step};
use dinhba_tests::officer::{Ledger, Officer};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value as Json;
use tokio::process::Command;

use crate::load::Load;
use crate::{PROGRAM, seed};

const DISTRICT: &str = "082";
const COMMUNE: &str = "02683";
const CUTS: u64 = 100;
const PERSONS: &str = "400";
/// A cut lies anywhere from within the handshake to several batches.
const BYTES: std::ops::Range<u64> = 500..20_000;
const CUTTING_WAIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_cuts_in_the_middle_of_messages_lose_nothing_and_double_nothing() {
    let mut rng = ChaCha8Rng::seed_from_u64(seed());
    let sites = [site(DISTRICT, 1, None, &[COMMUNE]), site(COMMUNE, 1, Some(DISTRICT), &[COMMUNE])];
    let mut country = Country::plan(PROGRAM, &sites).await;
    country.configure(COMMUNE, |config| {
        config.link.batch_bytes_max = 4096;
        config.link.backoff_min_ms = 10;
        config.link.backoff_max_ms = 50;
    });
    country.start_all();
    country.ready().await;
    let (shard, ledger) = (country.shard(COMMUNE), Ledger::default());
    let line = country.sites[COMMUNE].line.clone();

    let file = country.dir().join("people.ndjson");
    let home = format!("{COMMUNE}@2025-06-30");
    let generated = Command::new(PROGRAM)
        .args(["generate", "--persons", PERSONS, "--seed", "7", "--units", &home, "--output"])
        .arg(&file)
        .status()
        .await
        .unwrap();
    assert!(generated.success());

    line.limit(move || Some(rng.random_range(BYTES)));
    line.break_once();
    let [ca, certificate, key] = country.identity(Role::Registrar, COMMUNE);
    let node = country.node(COMMUNE, 0);
    let import = Command::new(PROGRAM)
        .args(["import", "--json", "--purpose", "registration", "--case", "HS-9"])
        .args(["--node", &format!("{}.node.dinhba@{}", node.id, node.address())])
        .args([
            OsStr::new("--ca"),
            ca.as_ref(),
            "--cert".as_ref(),
            certificate.as_ref(),
            "--key".as_ref(),
            key.as_ref(),
        ])
        .arg(&file)
        .kill_on_drop(true)
        .output();
    let above = Load::start(&country, DISTRICT, DISTRICT, COMMUNE, 1, &ledger);
    let import = import.await.unwrap();
    let told: Json = serde_json::from_slice(&import.stdout).unwrap_or_default();
    assert!(import.status.success(), "{told} {}", String::from_utf8_lossy(&import.stderr));
    assert_eq!(told["accepted"], told["rows"], "{told}");

    let below = Officer::new(country.site_client(COMMUNE, Role::Registrar, COMMUNE), shard, &ledger);
    let began = Instant::now();
    while line.cut_by_limit() < CUTS {
        assert!(began.elapsed() < CUTTING_WAIT, "only {} cuts", line.cut_by_limit());
        below.register("Sùng/A/Chớ").await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    above.stop().await;
    eprintln!("{} cuts, {} bytes, {} edits beside the import", line.cut_by_limit(), line.bytes(), ledger.len());
    line.mend();
    line.break_once();

    let status = agree(&country, &[DISTRICT, COMMUNE], shard).await;
    all_hold(&country, &[DISTRICT, COMMUNE], shard, DISTRICT, &ledger).await;
    let rows = told["rows"].as_u64().unwrap();
    assert_eq!(status.edits, rows + ledger.len() as u64, "every edit once, and no other");
    assert_eq!((status.set_aside, status.conflicts, status.parked.len()), (0, 0, 0));
    let entries = feed(&country, DISTRICT, &country.node(DISTRICT, 0), shard, DISTRICT).await;
    assert_eq!(entries.len() as u64, status.edits);
    in_step(&country, COMMUNE, shard).await;
}
