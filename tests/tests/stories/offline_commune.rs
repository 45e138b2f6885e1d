//! A commune without its line goes on registering, while the district edits the same records. When the line is mended
//! everything arrives, the one field that both wrote is one conflict, and the commune decides it for all.

use std::time::Duration;

use dinhba_client::Context;
use dinhba_core::claims::Role;
use dinhba_core::units::Tier;
use dinhba_proto::v1;
use dinhba_tests::country::{Country, eventually, site};
use dinhba_tests::evidence::{AGREE_WAIT, agree, all_hold, in_step, shard_status};
use dinhba_tests::officer::{Ledger, Officer, values};

use crate::PROGRAM;

const DISTRICT: &str = "082";
const COMMUNE: &str = "02683";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commune_without_a_line_works_on_and_nothing_is_lost() {
    let sites = [site(DISTRICT, 1, None, &[COMMUNE]), site(COMMUNE, 1, Some(DISTRICT), &[COMMUNE])];
    let country = Country::start(PROGRAM, &sites).await;
    let (shard, ledger) = (country.shard(COMMUNE), Ledger::default());
    let commune = Officer::new(country.site_client(COMMUNE, Role::Registrar, COMMUNE), shard, &ledger);
    let district = Officer::new(country.site_client(DISTRICT, Role::Registrar, DISTRICT), shard, &ledger);

    let disputed = commune.register("Giàng/Thị/Mỷ").await.unwrap();
    let other = commune.register("Vàng/A/Páo").await.unwrap();
    in_step(&country, COMMUNE, shard).await;
    agree(&country, &[DISTRICT, COMMUNE], shard).await;

    country.sites[COMMUNE].line.cut();
    let mut born_offline = Vec::new();
    for number in 0..30 {
        born_offline.push(commune.register(&format!("Lý/Thị/{}", "a".repeat(1 + number))).await.unwrap());
    }
    commune.write(disputed, "birth_date", "", "2024-05-07").await.unwrap();
    commune.write(other, "note", "", "at the commune").await.unwrap();
    district.write(disputed, "birth_date", "", "2024-05-08").await.unwrap();
    // A field without legal weight: the later one counts, and nobody is bothered.
    district.write(other, "note", "", "at the district").await.unwrap();
    district.write(other, "birth_date", "", "2024-05").await.unwrap();

    // Who waits for the district is told that it does not hold it, and nothing is lost by asking.
    let told = ledger.told();
    let (request, _) = told.iter().find(|(_, told)| told.records.contains(&born_offline[29])).unwrap();
    let early =
        commune.client.wait_until_held(*request, Some(shard), Tier::District, Duration::from_secs(1)).await.unwrap();
    let tiers = |reply: &v1::HeldReply| reply.sites.iter().map(|by| (by.tier.clone(), by.holds)).collect::<Vec<_>>();
    assert_eq!((early.reached, tiers(&early)), (false, vec![("commune".to_owned(), true)]));
    assert!(district.client.held(*request, Some(shard)).await.unwrap_err().to_string().contains("no such request"));

    // Apart, each sees its own; and the commune does not claim that anybody above has what it did.
    assert_eq!(values(&commune.read(disputed).await.unwrap(), "birth_date"), ["2024-05-07"]);
    assert_eq!(values(&district.read(disputed).await.unwrap(), "birth_date"), ["2024-05-08"]);
    assert!(district.read(born_offline[0]).await.is_err());
    let alone = shard_status(&country, COMMUNE, &country.node(COMMUNE, 0), shard).await.unwrap();
    assert_eq!((alone.pending_up, alone.conflicts), (32, 0));

    let waits = commune.client.wait_until_held(*request, Some(shard), Tier::District, AGREE_WAIT);
    let mends = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        country.sites[COMMUNE].line.mend();
    };
    let (held, ()) = tokio::join!(waits, mends);
    let held = held.unwrap();
    let both = ["commune", "district"].map(|tier| (tier.to_owned(), true));
    assert!(held.reached && tiers(&held) == both && held.sites[1].said_ms > 0, "{held:?}");
    let merged = agree(&country, &[DISTRICT, COMMUNE], shard).await;
    assert_eq!((merged.edits, merged.conflicts, merged.persons), (37, 1, 32));
    all_hold(&country, &[DISTRICT, COMMUNE], shard, DISTRICT, &ledger).await;
    assert!(district.read(born_offline[29]).await.is_ok());
    assert_eq!(values(&commune.read(other).await.unwrap(), "birth_date"), ["2024-05"]);

    let adjudication = Context::parse("adjudication", "XD-1").unwrap();
    let conflicts = commune.client.conflicts(&adjudication, Some(shard), &[]).await.unwrap().conflicts;
    assert_eq!(conflicts.len(), 1);
    assert_eq!(
        (conflicts[0].record.as_str(), conflicts[0].field.as_str()),
        (disputed.to_string().as_str(), "birth_date")
    );
    let mut both: Vec<&str> = conflicts[0].values.iter().map(|value| value.value.as_str()).collect();
    both.sort_unstable();
    assert_eq!(both, ["2024-05-07", "2024-05-08"]);

    let record = commune.read(disputed).await.unwrap();
    let (request, client) = (commune.client.session().next(), &commune.client);
    let decision =
        client.resolve(request, &adjudication, &record, "birth_date", "", "2024-05-08", "the hospital's paper");
    decision.await.unwrap();
    eventually("the decision arrives above", AGREE_WAIT, async || {
        let seen = values(&district.read(disputed).await.unwrap(), "birth_date");
        seen == ["2024-05-08"]
    })
    .await;
    let decided = agree(&country, &[DISTRICT, COMMUNE], shard).await;
    assert_eq!((decided.edits, decided.conflicts), (38, 0));
    in_step(&country, COMMUNE, shard).await;
    let held = commune.client.history(&commune.context, disputed).await.unwrap();
    assert!(held.iter().all(|entry| entry.held_by == ["commune", "district"]), "{held:?}");
}
