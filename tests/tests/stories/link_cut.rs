//! The lines between two communes and their district are cut a hundred times in the middle of messages, while files are
//! imported below and officers register above. In the end all have everything, once.

use std::ffi::OsStr;
use std::time::{Duration, Instant};

use dinhba_core::claims::Role;
use dinhba_tests::country::{Country, site};
use dinhba_tests::evidence::{agree, all_hold, in_step};
use dinhba_tests::officer::{Ledger, Officer};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value as Json;
use tokio::process::Command;

use crate::load::Load;
use crate::{PROGRAM, seed};

const DISTRICT: &str = "082";
const COMMUNES: [&str; 2] = ["02683", "02686"];
/// Cuts of each line.
const CUTS_EACH: u64 = 50;
const PERSONS_EACH: &str = "200";
/// A cut lies anywhere from within the handshake to several batches.
const BYTES: std::ops::Range<u64> = 500..20_000;
const BATCH_BYTES_MAX: u64 = 4096;
const CUTTING_WAIT: Duration = Duration::from_secs(90);

/// Imports a file at a commune whose line is being cut, and goes on registering until it was cut often enough; the number
/// of rows of the file.
async fn import_while_cutting(country: &Country, commune: &str, seed: u64, ledger: &Ledger) -> u64 {
    let line = &country.sites[commune].line;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    line.limit(move || Some(rng.random_range(BYTES)));
    line.break_once();

    let file = country.dir().join(format!("people-{commune}.ndjson"));
    let home = format!("{commune}@2025-06-30");
    let generated = Command::new(PROGRAM)
        .args(["generate", "--persons", PERSONS_EACH, "--seed", "7", "--units", &home, "--output"])
        .arg(&file)
        .status()
        .await
        .unwrap();
    assert!(generated.success());
    let [ca, certificate, key] = country.identity(Role::Registrar, commune);
    let node = country.node(commune, 0);
    let import = Command::new(PROGRAM)
        .args(["import", "--json", "--purpose", "registration", "--case", "HS-9", "--node"])
        .arg(format!("{}.node.dinhba@{}", node.id, node.address()))
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
        .output()
        .await
        .unwrap();
    let told: Json = serde_json::from_slice(&import.stdout).unwrap_or_default();
    assert!(import.status.success(), "{told} {}", String::from_utf8_lossy(&import.stderr));
    assert_eq!(told["accepted"], told["rows"], "{told}");

    let officer = Officer::new(country.site_client(commune, Role::Registrar, commune), country.shard(commune), ledger);
    let began = Instant::now();
    while line.cut_by_limit() < CUTS_EACH {
        assert!(began.elapsed() < CUTTING_WAIT, "only {} cuts", line.cut_by_limit());
        officer.register("Sùng/A/Chớ").await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    eprintln!("{commune}: {} cuts, {} bytes", line.cut_by_limit(), line.bytes());
    line.mend();
    line.break_once();
    told["rows"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_cuts_in_the_middle_of_messages_lose_nothing_and_double_nothing() {
    let seed = seed();
    let [one, two] = COMMUNES;
    let sites = [
        site(DISTRICT, 1, None, &COMMUNES),
        site(one, 1, Some(DISTRICT), &[one]),
        site(two, 1, Some(DISTRICT), &[two]),
    ];
    let mut country = Country::plan(PROGRAM, &sites).await;
    for commune in COMMUNES {
        country.configure(commune, |config| {
            config.link.batch_bytes_max = BATCH_BYTES_MAX;
            config.link.backoff_min_ms = 10;
            config.link.backoff_max_ms = 50;
        });
    }
    country.start_all();
    country.ready().await;
    let ledger = Ledger::default();
    let above: Vec<Load> =
        COMMUNES.iter().map(|commune| Load::start(&country, DISTRICT, DISTRICT, commune, 1, &ledger)).collect();
    let rows = futures::join!(
        import_while_cutting(&country, one, seed, &ledger),
        import_while_cutting(&country, two, seed.wrapping_add(1), &ledger),
    );
    for load in above {
        load.stop().await;
    }
    for (commune, rows) in [(one, rows.0), (two, rows.1)] {
        let shard = country.shard(commune);
        let status = agree(&country, &[DISTRICT, commune], shard).await;
        all_hold(&country, &[DISTRICT, commune], shard, DISTRICT, &ledger).await;
        let told = ledger.told().values().filter(|told| told.shard == shard.to_string()).count() as u64;
        assert_eq!(status.edits, rows + told, "every edit once, and no other");
        assert_eq!((status.set_aside, status.conflicts, status.parked.len()), (0, 0, 0));
        in_step(&country, commune, shard).await;
    }
}
