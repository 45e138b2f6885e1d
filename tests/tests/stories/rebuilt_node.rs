//! A node loses its disk. It is not let in under its old name; under a new one it is built from a snapshot, because the log
//! that it would need is gone, and then answers like the others.

use std::fs;
use std::time::Duration;

use dinhba_core::claims::Role;
use dinhba_tests::country::{Country, eventually, operating, site};
use dinhba_tests::evidence::{agree, all_hold};
use dinhba_tests::officer::{Ledger, Officer, values};
use dinhba_tests::process::refusal;

use crate::PROGRAM;

const COMMUNE: &str = "02683";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_its_disk_comes_back_under_a_new_name_from_a_snapshot() {
    let mut country = Country::start(PROGRAM, &[site(COMMUNE, 3, None, &[COMMUNE])]).await;
    let (shard, ledger) = (country.shard(COMMUNE), Ledger::default());
    let officer = Officer::new(country.site_client(COMMUNE, Role::Registrar, COMMUNE), shard, &ledger);
    let mut records = Vec::new();
    for _ in 0..40 {
        records.push(officer.register("Tẩn/Thị/Mẩy").await.unwrap());
    }
    agree(&country, &[COMMUNE], shard).await;
    for node in &country.sites[COMMUNE].nodes {
        let operator = country.client([node], Role::Operator, COMMUNE);
        let groups = operator.snapshot(&operating()).await.unwrap().groups;
        assert!(groups[0].snapshot > 0 && groups[0].purged > 0, "{}: {:?}", node.id, groups[0].purged);
    }

    let lost = country.node(COMMUNE, 2);
    country.kill(lost.id);
    fs::remove_dir_all(lost.data()).unwrap();
    let (code, text) = refusal(country.program(), &lost.config_file(), Duration::from_secs(10));
    assert_eq!(code, Some(1), "{text}");
    for word in ["has joined this site before", "dinhba site remove-node", "start with a new id and add it"] {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
    // Nor a second time, now that the refused start has left a directory.
    let (code, text) = refusal(country.program(), &lost.config_file(), Duration::from_secs(10));
    assert_eq!(code, Some(1), "started under its old name at the second attempt: {text}");

    let rest = country.sites[COMMUNE].nodes[..2].to_vec();
    let operator = country.client(&rest, Role::Operator, COMMUNE);
    operator.remove_node(&operating(), lost.id).await.unwrap();
    let new = country.new_node(COMMUNE);
    country.start_node(&new);
    operator.add_node(&operating(), new.id, &new.address()).await.unwrap();
    operator.promote_node(&operating(), new.id).await.unwrap();
    country.sites.get_mut(COMMUNE).unwrap().nodes = rest.into_iter().chain([new.clone()]).collect();
    country.site_ready(COMMUNE).await;
    let mut voters: Vec<String> = country.sites[COMMUNE].nodes.iter().map(|node| node.id.to_string()).collect();
    voters.sort();
    eventually("the new node votes, and was built from a snapshot", Duration::from_secs(10), async || {
        let Some(status) = country.status(COMMUNE, &new).await else { return false };
        status.groups[0].voters == voters && status.groups[0].snapshot > 0 && status.groups[0].purged > 0
    })
    .await;

    let there = Officer::new(country.client([&new], Role::Registrar, COMMUNE), shard, &ledger);
    let here = Officer::new(country.client([&country.node(COMMUNE, 0)], Role::Registrar, COMMUNE), shard, &ledger);
    for (number, record) in records.iter().take(20).enumerate() {
        let note = format!("seen {number}");
        here.write(*record, "note", "", &note).await.unwrap();
        assert_eq!(values(&there.read(*record).await.unwrap(), "note"), [note]);
    }
    // It counts: with one of the others gone, the two still decide.
    let gone = country.node(COMMUNE, 1);
    country.kill(gone.id);
    there.write(records[0], "note", "", "two of three").await.unwrap();
    country.start_node(&gone);
    agree(&country, &[COMMUNE], shard).await;
    all_hold(&country, &[COMMUNE], shard, COMMUNE, &ledger).await;
}
