//! A node is asked to end: it does, soon and with nothing lost. And sites of two adjacent feature levels work together.

use std::time::Duration;

use dinhba_client::EditBuilder;
use dinhba_core::claims::Role;
use dinhba_tests::country::{Country, eventually, operating, site};
use dinhba_tests::evidence::{AGREE_WAIT, agree, all_hold, in_step, shard_status};
use dinhba_tests::officer::{Ledger, Officer, values};

use crate::PROGRAM;
use crate::load::Load;

const DISTRICT: &str = "082";
const COMMUNE: &str = "02683";
/// What whoever stops a machine may count on.
const END_MAX: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_ends_soon_when_it_is_asked_to_and_loses_nothing() {
    let sites = [site(DISTRICT, 1, None, &[COMMUNE]), site(COMMUNE, 1, Some(DISTRICT), &[COMMUNE])];
    let mut country = Country::start(PROGRAM, &sites).await;
    let (shard, ledger) = (country.shard(COMMUNE), Ledger::default());
    // In the middle of work, with a link up and streams open.
    let load = Load::start(&country, COMMUNE, COMMUNE, COMMUNE, 3, &ledger);
    for code in [COMMUNE, DISTRICT] {
        let node = country.node(code, 0);
        tokio::time::sleep(Duration::from_millis(700)).await;
        let (ended, took) = country.terminate(node.id);
        assert!(ended.is_some_and(|status| status.success()), "{code}: SIGTERM ended with {ended:?}");
        assert!(took < END_MAX, "{code}: SIGTERM took {took:?}");
        country.start_node(&node);
        country.site_ready(code).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let (ended, took) = country.process(node.id).close_stdin(Duration::from_secs(10));
        assert!(ended.is_some_and(|status| status.success()), "{code}: end of input ended with {ended:?}");
        assert!(took < END_MAX, "{code}: end of input took {took:?}");
        country.start_node(&node);
        country.site_ready(code).await;
    }
    load.stop().await;
    assert!(ledger.len() > 10, "only {} edits", ledger.len());
    agree(&country, &[DISTRICT, COMMUNE], shard).await;
    all_hold(&country, &[DISTRICT, COMMUNE], shard, DISTRICT, &ledger).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_waits_for_the_others_of_its_site_ends_too() {
    let mut country = Country::plan(PROGRAM, &[site(COMMUNE, 3, None, &[COMMUNE])]).await;
    let node = country.node(COMMUNE, 0);
    country.start_node(&node);
    eventually("it waits", Duration::from_secs(10), async || {
        std::fs::read_to_string(node.log()).is_ok_and(|log| log.contains("waiting for the other nodes"))
    })
    .await;
    let (ended, took) = country.terminate(node.id);
    assert!(ended.is_some_and(|status| status.success()) && took < END_MAX, "ended with {ended:?} after {took:?}");
    // What it did not learn then it asks again.
    country.start_all();
    country.ready().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_of_a_newer_level_waits_where_the_level_is_not_raised_yet() {
    let sites = [site(DISTRICT, 1, None, &[COMMUNE]), site(COMMUNE, 1, Some(DISTRICT), &[COMMUNE])];
    let country = Country::start(PROGRAM, &sites).await;
    let (shard, ledger, node) = (country.shard(COMMUNE), Ledger::default(), country.node(COMMUNE, 0));
    let commune = Officer::new(country.site_client(COMMUNE, Role::Registrar, COMMUNE), shard, &ledger);
    let district = Officer::new(country.site_client(DISTRICT, Role::Registrar, DISTRICT), shard, &ledger);
    let record = commune.register("Phàn/Tả/Mẩy").await.unwrap();
    agree(&country, &[DISTRICT, COMMUNE], shard).await;

    // Grounds with a plain change are what level 2 brings.
    let reasoned = async |officer: &Officer, date: &str| {
        let current = officer.read(record).await?;
        let mut edit = EditBuilder::new(&officer.context);
        let part = edit.change(&current);
        edit.set(part, "birth_date", "", date).grounds("the hospital's paper");
        officer.send(&edit).await
    };
    let refused = reasoned(&district, "2024-05-07").await.unwrap_err().to_string();
    assert!(refused.contains("level 2") && refused.contains("raise"), "{refused}");
    let above = country.site_client(DISTRICT, Role::Operator, DISTRICT);
    assert_eq!(above.raise_level(&operating(), 2).await.unwrap(), 2);
    reasoned(&district, "2024-05-07").await.unwrap();

    eventually("the edit waits at the commune", AGREE_WAIT, async || {
        shard_status(&country, COMMUNE, &node, shard).await.is_some_and(|status| status.set_aside == 1)
    })
    .await;
    assert_eq!(values(&commune.read(record).await.unwrap(), "birth_date"), ["2024-05-06"]);
    let waiting = commune.client.history(&commune.context, record).await.unwrap();
    assert!(waiting.iter().any(|entry| entry.set_aside.contains("level")), "{waiting:?}");
    // What waits stops nothing else, in either direction.
    let other = commune.register("Phàn/Láo/San").await.unwrap();
    commune.write(record, "note", "", "meanwhile").await.unwrap();
    eventually("the commune's work arrives above", AGREE_WAIT, async || {
        district.read(other).await.is_ok()
            && values(&district.read(record).await.expect("a known record"), "note") == ["meanwhile"]
    })
    .await;
    let status = shard_status(&country, COMMUNE, &node, shard).await.unwrap();
    assert_ne!(status.step, "differs", "a level that is to be raised is no damage");
    assert_ne!(status.step, "in_step", "what is set aside here is not so above");

    let below = country.site_client(COMMUNE, Role::Operator, COMMUNE);
    below.raise_level(&operating(), 2).await.unwrap();
    assert_eq!(values(&commune.read(record).await.unwrap(), "birth_date"), ["2024-05-07"]);
    let folded = agree(&country, &[DISTRICT, COMMUNE], shard).await;
    assert_eq!((folded.set_aside, folded.conflicts), (0, 0));
    in_step(&country, COMMUNE, shard).await;
    all_hold(&country, &[DISTRICT, COMMUNE], shard, DISTRICT, &ledger).await;
    let refused = below.raise_level(&operating(), 4).await.unwrap_err().to_string();
    assert!(refused.contains("level"), "{refused}");
}
