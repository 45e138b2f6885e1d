//! The only machine of a commune keeps its state in sled, of which nothing is trusted after a crash: it is made again from
//! snapshot and log, as often as that is broken off. After an orderly end it is there at once.

use std::fs;
use std::time::Duration;

use dinhba_core::claims::Role;
use dinhba_node::config::Engine;
use dinhba_tests::country::{Country, NodePlan, operating, site};
use dinhba_tests::evidence::{all_hold, shard_status};
use dinhba_tests::officer::{Ledger, Officer};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{PROGRAM, seed};

const COMMUNE: &str = "02683";

/// How often the state was set aside since the node's first start.
fn set_aside(node: &NodePlan) -> usize {
    fs::read_to_string(node.log()).unwrap_or_default().matches("the state is set aside").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sled_state_outlives_an_orderly_end_and_is_made_again_after_a_crash() {
    let mut rng = ChaCha8Rng::seed_from_u64(seed());
    let mut country = Country::plan(PROGRAM, &[site(COMMUNE, 1, None, &[COMMUNE])]).await;
    country.configure(COMMUNE, |config| config.storage.engine = Engine::Sled);
    country.start_all();
    country.ready().await;
    let (shard, ledger, node) = (country.shard(COMMUNE), Ledger::default(), country.node(COMMUNE, 0));
    let officer = Officer::new(country.site_client(COMMUNE, Role::Registrar, COMMUNE), shard, &ledger);
    let operator = country.site_client(COMMUNE, Role::Operator, COMMUNE);
    for _ in 0..20 {
        officer.register("Vàng/Thị/Dợ").await.unwrap();
    }
    // A part comes from the snapshot alone, a part from the log.
    assert!(operator.snapshot(&operating()).await.unwrap().groups[0].purged > 0);
    for _ in 0..5 {
        officer.register("Lồ/A/Tỏa").await.unwrap();
    }
    let status = shard_status(&country, COMMUNE, &node, shard).await.unwrap();
    let mut crashes = 0;
    for breaks in [0, 1, 5, 0] {
        if breaks == 0 {
            let (ended, _) = country.terminate(node.id);
            assert!(ended.is_some_and(|status| status.success()));
        } else {
            country.kill(node.id);
            crashes += 1;
        }
        for _ in 1..breaks {
            country.start_node(&node);
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..400))).await;
            country.kill(node.id);
        }
        country.start_node(&node);
        country.site_ready(COMMUNE).await;
        let after = shard_status(&country, COMMUNE, &node, shard).await.unwrap();
        assert_eq!((after.edits, &after.edits_digest), (status.edits, &status.edits_digest));
        all_hold(&country, &[COMMUNE], shard, COMMUNE, &ledger).await;
        let said = set_aside(&node);
        if breaks > 1 {
            // A start that is killed before its first write leaves nothing to be set aside.
            assert!((crashes..crashes + breaks).contains(&said), "{said} times after {crashes} crashes and a loop");
            crashes = said;
        }
        assert_eq!(said, crashes, "after {breaks} crashes in a row");
    }
    assert!(node.data().join("state.damaged").exists());
}
