//! A commune is backed up while its officers work, loses its only machine, and is founded anew from the archive. What had
//! been accepted before the last backup is there, what the district held beyond it comes back, nothing is there twice.
//! A district of three nodes loses all of them, and comes back under a new one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dinhba_client::tls::{named, node_name};
use dinhba_core::claims::Role;
use dinhba_core::ids::ShardId;
use dinhba_node::config::Member;
use dinhba_tests::country::{Country, NodePlan, copy_dir, eventually, operating, site};
use dinhba_tests::evidence::{agree, all_hold, in_step, shard_status};
use dinhba_tests::officer::{Ledger, Officer};
use serde_json::Value as Json;

use crate::PROGRAM;
use crate::full_disk::Disk;

const DISTRICT: &str = "082";
const COMMUNE: &str = "02683";

/// Runs the command line as an operator of a unit.
fn operator(country: &Country, code: &str, words: &[&str]) -> Output {
    let nodes: Vec<String> =
        country.sites[code].nodes.iter().map(|node| named(&node_name(node.id), &node.address())).collect();
    let [ca, cert, key] = country.identity(Role::Operator, code).map(|path| path.display().to_string());
    Command::new(country.program())
        .args(words)
        .args(["--node", &nodes.join(","), "--ca", &ca, "--cert", &cert, "--key", &key, "--json"])
        .args(["--purpose", "maintenance", "--case", "VH-2"])
        .output()
        .unwrap()
}

fn back_up(country: &Country, code: &str, archive: &Path) -> Json {
    let done = operator(country, code, &["backup", &archive.display().to_string()]);
    let text = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{text}");
    serde_json::from_slice(&done.stdout).unwrap()
}

fn restore(country: &Country, config: &Path, archive: &Path, more: &[&str]) -> Result<Json, String> {
    let mut command = Command::new(country.program());
    command.args(["restore", "--json", "--config"]).arg(config).arg(archive).args(more);
    let done = command.output().unwrap();
    let text = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!text.contains("panicked"), "{text}");
    if done.status.success() { Ok(serde_json::from_slice(&done.stdout).unwrap()) } else { Err(text) }
}

/// All files below a directory, with their lengths.
fn files(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push((path, entry.metadata().unwrap().len())) }
    }
    found.sort();
    found
}

async fn own_authors(country: &Country, code: &str, node: &NodePlan, shard: ShardId) -> usize {
    let site = country.sites[code].id.to_string();
    let status = shard_status(country, code, node, shard).await.expect("it serves");
    status.heads.iter().filter(|head| head.site == site).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commune_comes_back_from_its_archive_and_from_its_district() {
    let sites = [site(DISTRICT, 1, None, &[COMMUNE]), site(COMMUNE, 1, Some(DISTRICT), &[COMMUNE])];
    let mut country = Country::start(PROGRAM, &sites).await;
    let (shard, ledger, node) = (country.shard(COMMUNE), Ledger::default(), country.node(COMMUNE, 0));
    let officer = Officer::new(country.site_client(COMMUNE, Role::Registrar, COMMUNE), shard, &ledger);
    let above = Ledger::default();
    let district = Officer::new(country.site_client(DISTRICT, Role::Registrar, DISTRICT), shard, &above);
    let archive = country.dir().join("archive");

    // Three backups, the middle one while edits go on. The line is cut before the last, so some edits only it has.
    let first = officer.register("Vàng/Thị/Dợ").await.unwrap();
    assert_eq!(back_up(&country, COMMUNE, &archive)["edits"], 1);
    let is_over = Arc::new(AtomicBool::new(false));
    let busy = {
        let client = country.site_client(COMMUNE, Role::Registrar, COMMUNE);
        let (officer, is_over) = (Officer::new(client, shard, &ledger), Arc::clone(&is_over));
        tokio::spawn(async move {
            let mut count = 0;
            while !is_over.load(Ordering::Relaxed) {
                officer.register("Lồ/A/Tỏa").await.unwrap();
                count += 1;
            }
            count
        })
    };
    eventually("edits go on", Duration::from_secs(20), async || ledger.told().len() > 20).await;
    let before = ledger.told().len() as u64;
    let during = back_up(&country, COMMUNE, &archive)["edits"].as_u64().unwrap();
    is_over.store(true, Ordering::Relaxed);
    let in_all = 1 + busy.await.unwrap();
    assert!((before..=in_all).contains(&during), "{before} were accepted before, {in_all} in all, {during} are in it");
    in_step(&country, COMMUNE, shard).await;
    district.write(first, "note", "", "from the district").await.unwrap();
    in_step_status(&country, shard).await;
    country.sites[COMMUNE].line.cut();
    let mut only_archived = Vec::new();
    for _ in 0..5 {
        only_archived.push(officer.register("Sùng/Thị/Pà").await.unwrap());
    }
    back_up(&country, COMMUNE, &archive);
    // Beyond the last backup, and known to the district.
    country.sites[COMMUNE].line.mend();
    let mut only_above = Vec::new();
    for _ in 0..5 {
        only_above.push(officer.register("Giàng/A/Sinh").await.unwrap());
    }
    let known = in_step_status(&country, shard).await;
    let verified = Command::new(PROGRAM).args(["backup", "verify", "--json"]).arg(&archive).output().unwrap();
    assert!(verified.status.success());
    let verified: Json = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!(verified["backups"].as_array().unwrap().len(), 3);

    // What people do wrong: over live data, over the data of a node that was stopped.
    let refused = restore(&country, &node.config_file(), &archive, &[]).unwrap_err();
    assert!(refused.contains("never restored over data"), "{refused}");
    country.kill(node.id);
    let data = files(&node.data());
    let refused = restore(&country, &node.config_file(), &archive, &[]).unwrap_err();
    assert!(refused.contains("never restored over data"), "{refused}");
    assert_eq!(files(&node.data()), data);

    // The disaster.
    fs::remove_dir_all(node.data()).unwrap();
    country.sites[COMMUNE].line.cut();

    // Archives that are not whole, and another site's: each is refused and leaves nothing behind.
    let broken = country.dir().join("broken");
    copy_dir(&archive, &broken);
    let second = broken.join("backup-000002");
    let mut bytes = fs::read(&second).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 8;
    fs::write(&second, &bytes).unwrap();
    let refused = restore(&country, &node.config_file(), &broken, &[]).unwrap_err();
    assert!(refused.contains("backup-000002 is damaged at byte"), "{refused}");
    bytes[at] ^= 8;
    fs::write(&second, &bytes[..at]).unwrap();
    let refused = restore(&country, &node.config_file(), &broken, &[]).unwrap_err();
    assert!(
        refused.contains("backup-000002 is damaged at byte") && refused.contains("ends in the middle"),
        "{refused}"
    );
    // The last letter of the magic is the version of the form.
    bytes[7] += 1;
    fs::write(&second, &bytes).unwrap();
    let refused = restore(&country, &node.config_file(), &broken, &[]).unwrap_err();
    assert!(refused.contains("newer version"), "{refused}");
    fs::remove_file(&second).unwrap();
    let refused = restore(&country, &node.config_file(), &broken, &[]).unwrap_err();
    assert!(refused.contains("backup-000002 is missing"), "{refused}");
    let others = country.new_node(DISTRICT);
    let refused = restore(&country, &others.config_file(), &archive, &[]).unwrap_err();
    assert!(refused.contains("the archive is of site"), "{refused}");
    let mut mistaken = node.clone();
    mistaken.dir = country.dir().join("mistaken");
    fs::create_dir_all(&mistaken.dir).unwrap();
    mistaken.config.site.secrets = country.node(DISTRICT, 0).config.site.secrets.clone();
    mistaken.write();
    let refused = restore(&country, &mistaken.config_file(), &archive, &[]).unwrap_err();
    assert!(refused.contains("site.secrets"), "{refused}");
    assert!(!node.data().exists() && !others.data().exists());

    // Back again, without a line: what the archive holds, and a new life.
    let restored = restore(&country, &node.config_file(), &archive, &[]).unwrap();
    assert_eq!((&restored["backups"], &restored["shards"][0]["edits_left_out"]), (&3.into(), &0.into()), "{restored}");
    country.start_node(&node);
    country.site_ready(COMMUNE).await;
    for record in only_archived.iter().chain([&first]) {
        officer.read(*record).await.unwrap();
    }
    assert!(officer.read(only_above[0]).await.is_err(), "the archive cannot know what came after it");
    assert_eq!(own_authors(&country, COMMUNE, &node, shard).await, 1);
    let mut offline = Vec::new();
    for _ in 0..5 {
        offline.push(officer.register("Lý/Thị/Mẩy").await.unwrap());
    }
    assert_eq!(own_authors(&country, COMMUNE, &node, shard).await, 2, "a new incarnation numbers from now on");

    // The line returns.
    country.sites[COMMUNE].line.mend();
    let healed = in_step_status(&country, shard).await;
    assert_eq!(healed.edits, known.edits + 5, "every edit once, those of the new life beside them");
    assert!(healed.parked.is_empty() && healed.set_aside == 0, "{healed:?}");
    assert_eq!(agree(&country, &[DISTRICT, COMMUNE], shard).await.edits, healed.edits);
    for told in [&ledger, &above] {
        all_hold(&country, &[DISTRICT, COMMUNE], shard, DISTRICT, told).await;
    }
    for record in only_archived.iter().chain(&only_above).chain(&offline).chain([&first]) {
        officer.read(*record).await.unwrap();
        district.read(*record).await.unwrap();
    }
    // No number was given twice: nothing had to branch.
    assert_eq!(own_authors(&country, COMMUNE, &node, shard).await, 2);
    for (request, told) in ledger.told() {
        let again = officer.client.edit_as(request, &told.edit).await.unwrap();
        assert!(again.replayed, "request {request} was accepted a second time");
    }
    assert_eq!(agree(&country, &[DISTRICT, COMMUNE], shard).await.edits, healed.edits);

    // The archive goes on: its past is this site's past up to the restore, so the next backup fits or says that it does not.
    let next = back_up(&country, COMMUNE, &archive);
    assert_eq!(next["number"], 4, "{next}");
}

async fn in_step_status(country: &Country, shard: ShardId) -> dinhba_proto::v1::ShardStatus {
    in_step(country, COMMUNE, shard).await;
    agree(country, &[DISTRICT, COMMUNE], shard).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_of_three_nodes_comes_back_under_a_new_one_at_a_point_in_time() {
    let mut country = Country::start(PROGRAM, &[site(COMMUNE, 3, None, &[COMMUNE])]).await;
    let (shard, ledger) = (country.shard(COMMUNE), Ledger::default());
    let officer = Officer::new(country.site_client(COMMUNE, Role::Registrar, COMMUNE), shard, &ledger);
    let archive = country.dir().join("archive");
    for _ in 0..6 {
        officer.register("Tẩn/Thị/Mẩy").await.unwrap();
    }
    back_up(&country, COMMUNE, &archive);
    // Edits carry the time of their site, and so does the backup before them.
    let listed = Command::new(PROGRAM).args(["backup", "verify", "--json"]).arg(&archive).output().unwrap();
    let listed: Json = serde_json::from_slice(&listed.stdout).unwrap();
    let until = listed["backups"][0]["taken_at"].as_str().unwrap().to_owned();
    for _ in 0..4 {
        officer.register("Chảo/Láo/Tả").await.unwrap();
    }
    back_up(&country, COMMUNE, &archive);
    let before = agree(&country, &[COMMUNE], shard).await;

    // All machines are gone.
    let former = country.sites[COMMUNE].nodes.clone();
    for node in &former {
        country.kill(node.id);
        fs::remove_dir_all(node.data()).unwrap();
    }
    // A former name is spent: another node may still know its votes.
    let refused = restore(&country, &former[0].config_file(), &archive, &[]).unwrap_err();
    assert!(refused.contains("give the node a new id"), "{refused}");
    assert!(!former[0].data().exists());
    let earlier = country.new_node(COMMUNE);
    let restored = restore(&country, &earlier.config_file(), &archive, &["--until", &until]).unwrap();
    assert_eq!(restored["shards"][0]["edits"], 6, "{restored}");
    assert_eq!(restored["shards"][0]["edits_left_out"], 4, "{restored}");

    let new = country.new_node(COMMUNE);
    restore(&country, &new.config_file(), &archive, &[]).unwrap();
    country.start_node(&new);
    country.sites.get_mut(COMMUNE).unwrap().nodes = vec![new.clone()];
    country.site_ready(COMMUNE).await;
    let after = shard_status(&country, COMMUNE, &new, shard).await.unwrap();
    assert_eq!(
        (after.edits, &after.edits_digest, &after.state_digest),
        (10, &before.edits_digest, &before.state_digest)
    );

    // And grows to several again, by a snapshot: its log has nothing from before.
    let mut second = country.new_node(COMMUNE);
    // It asks the nodes that there are whether it had joined before, not those that are gone.
    let groups = second.config.site.members[0].groups.clone();
    second.config.site.members = vec![Member { id: new.id, address: new.config.node.advertise.clone(), groups }];
    second.write();
    country.start_node(&second);
    let operator = country.client([&new], Role::Operator, COMMUNE);
    operator.add_node(&operating(), second.id, &second.address()).await.unwrap();
    operator.promote_node(&operating(), second.id).await.unwrap();
    country.sites.get_mut(COMMUNE).unwrap().nodes = vec![new, second];
    country.site_ready(COMMUNE).await;
    let officer = Officer::new(country.site_client(COMMUNE, Role::Registrar, COMMUNE), shard, &ledger);
    officer.register("Giàng/A/Sinh").await.unwrap();
    assert_eq!(agree(&country, &[COMMUNE], shard).await.edits, 11);
    all_hold(&country, &[COMMUNE], shard, COMMUNE, &ledger).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_neither_backup_nor_restore_leaves_anything_by_halves() {
    let mut country = Country::start(PROGRAM, &[site(COMMUNE, 1, None, &[COMMUNE])]).await;
    let (shard, ledger, node) = (country.shard(COMMUNE), Ledger::default(), country.node(COMMUNE, 0));
    let officer = Officer::new(country.site_client(COMMUNE, Role::Registrar, COMMUNE), shard, &ledger);
    for _ in 0..3 {
        officer.register("Tẩn/Thị/Mẩy").await.unwrap();
    }
    let mount = country.dir().join("disk");
    let Some(disk) = Disk::mount(&mount) else { return };
    let archive = mount.join("archive");
    assert_eq!(back_up(&country, COMMUNE, &archive)["number"], 1);
    officer.register("Chảo/Láo/Tả").await.unwrap();
    disk.fill();
    let full = operator(&country, COMMUNE, &["backup", &archive.display().to_string()]);
    let text = String::from_utf8_lossy(&full.stderr);
    assert!(full.status.code() == Some(1) && text.contains("free some space"), "{:?} {text}", full.status);
    let held = Command::new(PROGRAM).args(["backup", "verify"]).arg(&archive).output().unwrap();
    assert!(held.status.success(), "the first backup is still whole");

    let mut elsewhere = country.new_node(COMMUNE);
    elsewhere.config.node.data_dir = mount.join("data");
    elsewhere.write();
    let refused = restore(&country, &elsewhere.config_file(), &archive, &[]).unwrap_err();
    assert!(refused.contains("nothing was restored") || refused.contains("No space left"), "{refused}");
    assert!(!mount.join("data").exists(), "{:?}", files(&mount));

    disk.free();
    assert_eq!(back_up(&country, COMMUNE, &archive)["number"], 2);
    country.kill(node.id);
    let mut alone = node.clone();
    alone.config.node.data_dir = mount.join("data");
    alone.write();
    restore(&country, &alone.config_file(), &archive, &[]).unwrap();
    country.start_node(&alone);
    country.site_ready(COMMUNE).await;
    all_hold(&country, &[COMMUNE], shard, COMMUNE, &ledger).await;
    country.kill(node.id);
    drop(disk);
}
