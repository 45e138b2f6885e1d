//! A disk runs full under a node. What was acknowledged is there once there is space again; what could not be kept was never
//! acknowledged, and the node said why.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use dinhba_client::{EditBuilder, Error, Limits};
use dinhba_core::claims::Role;
use dinhba_core::schema::RecordKind;
use dinhba_tests::country::{Country, limits, site};
use dinhba_tests::evidence::{agree, all_hold};
use dinhba_tests::officer::{Ledger, Officer};
use dinhba_tests::process::tail;

use crate::PROGRAM;

const COMMUNE: &str = "02683";
/// Room for a new node's files, and some more.
const DISK: &str = "size=160m";
/// How long officers go on until the disk is full.
const FILL_WAIT: Duration = Duration::from_secs(30);

/// A file system in memory, gone when dropped.
pub(crate) struct Disk(PathBuf);

impl Disk {
    pub(crate) fn mount(at: &Path) -> Result<Self, String> {
        fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(at).output();
        match mounted {
            Ok(output) if output.status.success() => Ok(Disk(at.to_owned())),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Takes all the space that is left.
    pub(crate) fn fill(&self) {
        let mut ballast = fs::File::create(self.0.join("ballast")).unwrap();
        for block in [1 << 20, 4096] {
            while ballast.write_all(&vec![0; block]).is_ok() {}
        }
    }

    pub(crate) fn free(&self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_nothing_that_was_acknowledged() {
    let mut country = Country::plan(PROGRAM, &[site(COMMUNE, 1, None, &[COMMUNE])]).await;
    let mount = country.dir().join("disk");
    let disk = match Disk::mount(&mount) {
        Ok(disk) => disk,
        Err(reason) => {
            println!("skipped: no file system of a limited size can be mounted here: {}", reason.trim());
            return;
        }
    };
    country.configure(COMMUNE, |config| config.node.data_dir = mount.join("data"));
    country.start_all();
    country.ready().await;
    let (shard, ledger, node) = (country.shard(COMMUNE), Ledger::default(), country.node(COMMUNE, 0));
    let client = country.site_client(COMMUNE, Role::Registrar, COMMUNE);
    let impatient = Limits { attempt: Duration::from_secs(2), deadline: Duration::from_secs(4), ..limits() };
    let officer = Officer::new(client.with_limits(impatient), shard, &ledger);
    for _ in 0..10 {
        officer.register("Giàng/Thị/Sai").await.unwrap();
    }
    disk.fill();
    let began = Instant::now();
    let long = "đ".repeat(900);
    let session = officer.client.session();
    let (request, edit, error) = loop {
        assert!(began.elapsed() < FILL_WAIT, "{} edits went to a full disk", ledger.len());
        let mut edit: EditBuilder = officer.birth("Giàng/Thị/Sai");
        for _ in 0..20 {
            let part = edit.create(RecordKind::Person);
            edit.set(part, "note", "", &long);
        }
        let request = session.next();
        match officer.client.edit_as(request, &edit).await {
            Ok(accepted) => ledger.keep(&accepted, &edit),
            Err(error) => break (request, edit, error),
        }
    };
    eprintln!("full after {} requests: {error}", ledger.len());
    // Whoever asks meanwhile is told why, and what to do.
    let next = officer.client.edit(&session, &officer.birth("Giàng/Thị/Sai")).await.unwrap_err().to_string();
    assert!(next.contains("the disk is full") && next.contains("free some space"), "{next}");
    let log = tail(&node.log());
    assert!(log.contains("space") || log.contains("full"), "the node does not say that the disk is full:\n{log}");

    // The operator makes room and restarts the node.
    disk.free();
    let (ended, took) = country.terminate(node.id);
    eprintln!("ended after {took:?}: {ended:?}");
    assert!(ended.is_some(), "the node did not end");
    country.start_node(&node);
    country.site_ready(COMMUNE).await;
    agree(&country, &[COMMUNE], shard).await;
    all_hold(&country, &[COMMUNE], shard, COMMUNE, &ledger).await;
    // What was said of the edit that met the full disk is true.
    let again = officer.client.edit_as(request, &edit).await.unwrap();
    match error {
        Error::OutcomeUnknown { request: named, .. } => assert_eq!(named, Some(request)),
        Error::Unreachable { .. } => assert!(!again.replayed, "it was said that nothing was accepted: {error}"),
        other => panic!("not an answer to a full disk: {other}"),
    }
    ledger.keep(&again, &edit);
    officer.register("Giàng/Thị/Sai").await.unwrap();
    all_hold(&country, &[COMMUNE], shard, COMMUNE, &ledger).await;
}
