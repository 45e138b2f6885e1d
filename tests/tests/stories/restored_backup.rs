//! A commune's disk is replaced by an older copy. Edits that had reached the district come back, those made offline on the
//! copy stay beside them as another branch, and everybody who asks again is told that the request is there.

use std::fs;

use dinhba_core::claims::Role;
use dinhba_tests::country::{Country, copy_dir, site};
use dinhba_tests::evidence::{agree, all_hold, feed, in_step, shard_status};
use dinhba_tests::officer::{Ledger, Officer, values};

use crate::PROGRAM;

const DISTRICT: &str = "082";
const COMMUNE: &str = "02683";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_commune_takes_back_what_the_district_has_and_keeps_what_it_did_since() {
    let sites = [site(DISTRICT, 1, None, &[COMMUNE]), site(COMMUNE, 1, Some(DISTRICT), &[COMMUNE])];
    let mut country = Country::start(PROGRAM, &sites).await;
    let (shard, ledger) = (country.shard(COMMUNE), Ledger::default());
    let node = country.node(COMMUNE, 0);
    let officer = Officer::new(country.site_client(COMMUNE, Role::Registrar, COMMUNE), shard, &ledger);
    let before = officer.register("Vàng/Thị/Dợ").await.unwrap();
    in_step(&country, COMMUNE, shard).await;

    // The copy.
    let (ended, took) = country.terminate(node.id);
    assert!(ended.is_some_and(|status| status.success()), "ended with {ended:?} after {took:?}");
    let backup = country.dir().join("backup");
    copy_dir(&node.data(), &backup);

    // Life goes on, and reaches the district.
    country.start_node(&node);
    country.site_ready(COMMUNE).await;
    let mut known_above = Vec::new();
    for _ in 0..8 {
        known_above.push(officer.register("Lồ/A/Tỏa").await.unwrap());
    }
    officer.write(before, "note", "", "after the copy").await.unwrap();
    in_step(&country, COMMUNE, shard).await;
    let sent_above = ledger.told();

    // The disk is lost, the copy put in its place; the line is down as well.
    country.kill(node.id);
    country.sites[COMMUNE].line.cut();
    fs::remove_dir_all(node.data()).unwrap();
    copy_dir(&backup, &node.data());
    country.start_node(&node);
    country.site_ready(COMMUNE).await;
    assert!(officer.read(known_above[0]).await.is_err(), "the copy should not know what came after it");
    let mut offline = Vec::new();
    for _ in 0..5 {
        offline.push(officer.register("Sùng/Thị/Pà").await.unwrap());
    }
    // The same field as on the lost disk: two officers' words against each other, so both stay.
    officer.write(before, "birth_date", "", "2024-05-09").await.unwrap();
    // A client that heard nothing asks again, for what this disk does not know: accepted a second time.
    let (asked_again, told) = sent_above.last_key_value().unwrap();
    let taken_again = officer.client.edit_as(*asked_again, &told.edit).await.unwrap();
    assert!(!taken_again.replayed && taken_again.receipt.hash != told.hash && taken_again.records == told.records);
    let asked_offline: Vec<_> =
        ledger.told().into_iter().filter(|(request, _)| !sent_above.contains_key(request)).collect();
    assert_eq!(asked_offline.len(), 6);

    // The line returns: both branches used the same numbers of the same author.
    country.sites[COMMUNE].line.mend();
    let merged = agree(&country, &[DISTRICT, COMMUNE], shard).await;
    in_step(&country, COMMUNE, shard).await;
    let status = shard_status(&country, COMMUNE, &node, shard).await.unwrap();
    assert!(status.parked.is_empty() && status.set_aside == 0, "{status:?}");
    assert!(merged.heads.len() > 1, "both branches are there: {:?}", merged.heads);
    assert_eq!(merged.persons, 1 + 8 + 5);
    all_hold(&country, &[DISTRICT, COMMUNE], shard, DISTRICT, &ledger).await;
    let entries = feed(&country, COMMUNE, &node, shard, DISTRICT).await;
    assert_eq!(entries.len() as u64, merged.edits);
    let mut second: Vec<_> =
        entries.iter().filter_map(|entry| entry.dot.clone()).filter(|dot| dot.number == 2).collect();
    second.sort_by(|one, other| one.author.cmp(&other.author));
    second.dedup();
    assert_eq!(second.len(), 2, "the second edit was made twice, on two disks, and both are kept: {second:?}");
    let district = Officer::new(country.site_client(DISTRICT, Role::Registrar, DISTRICT), shard, &ledger);
    for record in known_above.iter().chain(&offline) {
        officer.read(*record).await.unwrap();
        district.read(*record).await.unwrap();
    }
    assert_eq!(values(&officer.read(before).await.unwrap(), "note"), ["after the copy"]);

    // Whoever asks again is told that it is there, and nothing is done twice.
    for (request, told) in ledger.told() {
        let again = officer.client.edit_as(request, &told.edit).await.unwrap();
        assert!(again.replayed, "request {request} was accepted a second time");
        let hash = if request == *asked_again { &taken_again.receipt.hash } else { &told.hash };
        assert_eq!((again.records, &again.receipt.hash), (told.records, hash));
    }
    // What was accepted twice is in the log twice, and counts and is shown once.
    let twice: Vec<_> = entries.iter().filter(|entry| entry.set_aside == "twin").collect();
    assert_eq!(twice.len(), 1, "{twice:?}");
    let context = officer.context.clone();
    for client in [&officer.client, &district.client] {
        let history = client.history(&context, taken_again.records[0]).await.unwrap();
        let shown = history.iter().filter(|entry| entry.request == twice[0].request).count();
        assert_eq!(shown, 1, "{history:?}");
    }
    assert_eq!(agree(&country, &[DISTRICT, COMMUNE], shard).await.edits, merged.edits);
    // And it goes on working.
    officer.register("Giàng/A/Sinh").await.unwrap();
    in_step(&country, COMMUNE, shard).await;
}
