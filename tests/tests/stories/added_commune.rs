//! What a unit above says goes to all below it: a commune is added from the centre by one command, and gets another key,
//! while an officer of the next commune works on and notices nothing. And nobody below can speak for those above.

use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use dinhba_client::tls::{named, node_name};
use dinhba_client::{Context, EditBuilder, Error};
use dinhba_core::claims::Role;
use dinhba_core::ids::ShardId;
use dinhba_core::schema::RecordKind;
use dinhba_core::units::{Tier, Unit};
use dinhba_proto::v1;
use dinhba_tests::country::{Country, Wish, eventually, operating, site};
use dinhba_tests::evidence::{AGREE_WAIT, agree, all_hold, in_step, shard_status};
use dinhba_tests::officer::{Ledger, Officer, values};

use crate::PROGRAM;
use crate::load::Load;

const CENTRE: &str = "00";
const PROVINCE: &str = "10";
const DISTRICT: &str = "082";
const COMMUNE: &str = "02683";
/// Of the same district, and not there at first.
const NEW: &str = "02686";

fn tree() -> [Wish<'static>; 4] {
    [
        site(CENTRE, 1, None, &[COMMUNE]),
        site(PROVINCE, 1, Some(CENTRE), &[COMMUNE]),
        site(DISTRICT, 1, Some(PROVINCE), &[COMMUNE]),
        site(COMMUNE, 1, Some(DISTRICT), &[COMMUNE]),
    ]
}

/// Runs the command line at a site, as an operator of its unit.
fn operator(country: &Country, code: &str, words: &[&str]) -> Output {
    speaks(country, code, &[&["site"], words].concat())
}

/// The same, of anything.
fn speaks(country: &Country, code: &str, words: &[&str]) -> Output {
    let nodes: Vec<String> =
        country.sites[code].nodes.iter().map(|node| named(&node_name(node.id), &node.address())).collect();
    let [ca, cert, key] = country.identity(Role::Operator, code).map(|path| path.display().to_string());
    Command::new(country.program())
        .args(words)
        .args(["--node", &nodes.join(","), "--ca", &ca, "--cert", &cert, "--key", &key, "--json"])
        .args(["--purpose", "maintenance", "--case", "VH-3"])
        .output()
        .unwrap()
}

fn says(country: &Country, code: &str, words: &[&str]) -> serde_json::Value {
    done(operator(country, code, words), words)
}

fn done(done: Output, words: &[&str]) -> serde_json::Value {
    assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

/// What a site's directory says of another site.
async fn listed(country: &Country, at: &str, code: &str) -> Option<v1::ListedSite> {
    let reply = country.site_client(at, Role::Operator, at).sites(&operating()).await.ok()?;
    let id = country.sites[code].id.to_string();
    reply.sites.into_iter().find(|listed| listed.site == id)
}

fn above(country: &Country, code: &str) -> ShardId {
    ShardId::of_unit_above(country.unit(code))
}

/// Stops the only node of a site and starts it again, as it is configured now.
fn restart(country: &mut Country, code: &str) {
    let node = country.node(code, 0);
    country.terminate(node.id);
    country.start_node(&node);
}

async fn reads_at(country: &Country, code: &str, officer: &Officer, name: &str) -> dinhba_core::ids::RecordId {
    let record = officer.register(name).await.unwrap();
    let reader = Officer::new(country.site_client(code, Role::Registrar, code), officer.shard, &Ledger::default());
    eventually(&format!("{code} shows it"), AGREE_WAIT, async || reader.read(record).await.is_ok()).await;
    record
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commune_is_added_and_given_another_key_while_everything_runs() {
    let mut country = Country::start(PROGRAM, &tree()).await;
    let (ledger, other) = (Ledger::default(), Ledger::default());
    let load = Load::start(&country, COMMUNE, COMMUNE, COMMUNE, 1, &ledger);
    for code in [CENTRE, PROVINCE, DISTRICT] {
        let below: &[&str] = match code {
            CENTRE => &[CENTRE, PROVINCE, DISTRICT, COMMUNE],
            PROVINCE => &[CENTRE, PROVINCE, DISTRICT, COMMUNE],
            _ => &[CENTRE, PROVINCE, DISTRICT, COMMUNE],
        };
        agree(&country, below, above(&country, code)).await;
    }

    country.lay_added(&site(NEW, 1, Some(DISTRICT), &[NEW])).await;
    let [id, parent] = [NEW, DISTRICT].map(|code| country.sites[code].id.to_string());
    let (key, unit) = (country.public_key(NEW), country.unit(NEW).to_string());
    let words = ["add-child", "--unit", &unit, "--site", &id, "--public-key", &key, "--parent", &parent];
    // What the command prints is what the new site is founded with.
    let place = country.dir().join(format!("place-{NEW}.csv"));
    let printed = says(&country, CENTRE, &words);
    assert_eq!(printed["shard"], country.shard(NEW).to_string());
    fs::write(&place, printed["place_file"].as_str().unwrap()).unwrap();
    for code in [DISTRICT, COMMUNE] {
        eventually(&format!("{code} hears of it"), AGREE_WAIT, async || {
            listed(&country, code, NEW)
                .await
                .is_some_and(|listed| listed.parent == parent && listed.keys == [key.clone()])
        })
        .await;
    }
    for code in [CENTRE, PROVINCE, DISTRICT] {
        eventually(&format!("{code} hosts its shard"), AGREE_WAIT, async || {
            shard_status(&country, code, &country.node(code, 0), country.shard(NEW)).await.is_some()
        })
        .await;
    }
    let twice = operator(&country, CENTRE, &words);
    assert!(!twice.status.success() && String::from_utf8_lossy(&twice.stderr).contains("already"), "{twice:?}");

    let node = country.node(NEW, 0);
    country.start_node(&node);
    country.site_ready(NEW).await;
    let shard = country.shard(NEW);
    let officer = Officer::new(country.site_client(NEW, Role::Registrar, NEW), shard, &other);
    let first = reads_at(&country, CENTRE, &officer, "Giàng/Thị/Mỷ").await;
    in_step(&country, NEW, shard).await;
    in_step(&country, NEW, above(&country, CENTRE)).await;
    agree(&country, &[CENTRE, PROVINCE, DISTRICT, COMMUNE, NEW], above(&country, CENTRE)).await;

    // Another key: it takes the place of the former one in what the site signs, and not in what it signed.
    country.rekey(NEW);
    let fresh = country.public_key(NEW);
    says(&country, CENTRE, &["rekey", &id, &fresh]);
    restart(&mut country, NEW);
    country.site_ready(NEW).await;
    let second = reads_at(&country, CENTRE, &officer, "Vàng/A/Páo").await;
    // The index is still keyed with the first key: who was there before is found.
    let find =
        dinhba_client::Find { name: "Giàng Thị Mỷ".to_owned(), born: "2024".to_owned(), ..Default::default() };
    let found = officer.client.find(&officer.context, &find).await.unwrap();
    assert_eq!(found.records.iter().map(|record| record.id.clone()).collect::<Vec<_>>(), [first.to_string()]);

    // A site that begins later, knowing one key alone, is told of the others by what it hears from above.
    country.kill(node.id);
    fs::remove_dir_all(node.data()).unwrap();
    fs::write(&place, fs::read_to_string(&place).unwrap().replace(&key, &fresh)).unwrap();
    country.start_node(&country.node(NEW, 0));
    country.site_ready(NEW).await;
    eventually("all comes back", AGREE_WAIT, async || {
        officer.read(first).await.is_ok() && officer.read(second).await.is_ok()
    })
    .await;
    reads_at(&country, CENTRE, &officer, "Lý/Thị/Mai").await;
    all_hold(&country, &[CENTRE, PROVINCE, DISTRICT, NEW], shard, CENTRE, &other).await;

    // A key that was stolen: nothing that is signed with it alone is taken.
    says(&country, CENTRE, &["revoke", &id, &fresh]);
    eventually("the district hears of it", AGREE_WAIT, async || {
        listed(&country, DISTRICT, NEW).await.is_some_and(|listed| !listed.keys.contains(&fresh))
    })
    .await;
    let refused = officer.register("Sùng/A/Chá").await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let reader = Officer::new(country.site_client(DISTRICT, Role::Registrar, DISTRICT), shard, &other);
    assert!(reader.read(refused).await.is_err());
    let log = fs::read_to_string(country.node(DISTRICT, 0).log()).unwrap();
    assert!(log.contains("a false signature"), "{log}");

    load.stop().await;
    assert!(ledger.len() > 20, "only {} edits", ledger.len());
    agree(&country, &[CENTRE, PROVINCE, DISTRICT, COMMUNE], country.shard(COMMUNE)).await;
    all_hold(&country, &[CENTRE, COMMUNE], country.shard(COMMUNE), CENTRE, &ledger).await;
}

/// Waits until a site knows a unit by this name, with what ends it.
async fn hears(country: &Country, at: &str, unit: &str, (name, to): (&str, &str)) {
    let client = country.site_client(at, Role::Registrar, at);
    eventually(&format!("{at} hears of {name}"), AGREE_WAIT, async || {
        let units = client.said_units().await.unwrap_or_default();
        units.iter().any(|said| said.unit == unit && said.name == name && said.to == to && said.misfit.is_empty())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_that_no_list_has_is_made_at_the_centre_and_served() {
    const MADE: &str = "02999";
    let mut country = Country::start(PROGRAM, &tree()).await;
    let grounds = ["--grounds", "Nghị quyết 12/2026/UBTVQH"];
    let add = |code: &'static str, parent: &'static str, from: &'static str| {
        let of = ["unit", "add", "--code", code, "--name", "Xã Tân Lập", "--parent", parent, "--from", from];
        [&of[..], &grounds].concat()
    };
    for (at, words, text) in [
        (DISTRICT, add(MADE, DISTRICT, "2025-01-01"), "edit-sites needs the role operator"),
        (CENTRE, add(COMMUNE, DISTRICT, "2025-01-01"), "has the code of another one in its time"),
        (CENTRE, add(MADE, COMMUNE, "2025-01-01"), "has a parent that is not above it"),
        (CENTRE, add(MADE, DISTRICT, "2027-01-01"), "no unit is known as 082@2027-01-01"),
        (CENTRE, add("0299", DISTRICT, "2025-01-01"), "write two digits"),
        (CENTRE, [&["unit", "end", "082@2025-06-30", "--last", "2025-05-31"][..], &grounds].concat(), "is below it"),
    ] {
        let refused = speaks(&country, at, &words);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && said.contains(text), "{words:?}: {said}");
    }
    let words = add(MADE, DISTRICT, "2025-01-01");
    let made = done(speaks(&country, CENTRE, &words), &words)["unit"].as_str().unwrap().to_owned();
    for code in [DISTRICT, COMMUNE] {
        hears(&country, code, &made, ("Xã Tân Lập", "")).await;
    }

    // A site serves it: what it is founded with says where it lies.
    country.learn(&Unit {
        id: made.parse().unwrap(),
        tier: Tier::Commune,
        code: MADE.to_owned(),
        name: "Xã Tân Lập".to_owned(),
        parent: Some(country.unit(DISTRICT)),
        valid_from: "2025-01-01".parse().unwrap(),
        valid_to: None,
    });
    country.lay_added(&site(MADE, 1, Some(DISTRICT), &[MADE])).await;
    let [id, parent] = [MADE, DISTRICT].map(|code| country.sites[code].id.to_string());
    let key = country.public_key(MADE);
    let by_code = format!("{MADE}@2025-06-30");
    let words = ["add-child", "--unit", &by_code, "--site", &id, "--public-key", &key, "--parent", &parent];
    let printed = says(&country, CENTRE, &words);
    let place = country.dir().join(format!("place-{MADE}.csv"));
    fs::write(&place, printed["place_file"].as_str().unwrap()).unwrap();
    let node = country.node(MADE, 0);
    country.start_node(&node);
    country.site_ready(MADE).await;
    let (shard, ledger) = (country.shard(MADE), Ledger::default());
    let officer = Officer::new(country.site_client(MADE, Role::Registrar, MADE), shard, &ledger);
    let mut birth = officer.birth("Giàng/Thị/Mỷ");
    birth.set(0, "origin", "", &format!("unit={by_code}; line=bản Mới"));
    let born = officer.send(&birth).await.unwrap().records[0];
    let reader = Officer::new(country.site_client(CENTRE, Role::Registrar, CENTRE), shard, &ledger);
    eventually("the centre shows it", AGREE_WAIT, async || reader.read(born).await.is_ok()).await;
    let seen = reader.read(born).await.unwrap();
    assert_eq!((seen.unit_code.as_str(), seen.unit_name.as_str()), (MADE, "Xã Tân Lập"));
    assert_eq!(values(&seen, "origin"), ["unit=02999@2025-01-01; line=bản Mới"]);
    // Beside it, nobody is there; but its unit is known.
    let beside = Officer::new(
        country.site_client(COMMUNE, Role::Registrar, COMMUNE),
        country.shard(COMMUNE),
        &Ledger::default(),
    );
    let mut elsewhere = beside.birth("Vàng/A/Páo");
    elsewhere.set(0, "origin", "", &by_code);
    beside.send(&elsewhere).await.unwrap();

    // It is called otherwise, ends, and its site starts again: all of it is known from what the site holds.
    let rename = [&["unit", "rename", &made, "Xã Tân Lập Thượng"][..], &grounds].concat();
    done(speaks(&country, CENTRE, &rename), &rename);
    let end = [&["unit", "end", &by_code, "--last", "2025-06-30"][..], &grounds].concat();
    done(speaks(&country, CENTRE, &end), &end);
    hears(&country, MADE, &made, ("Xã Tân Lập Thượng", "2025-06-30")).await;
    restart(&mut country, MADE);
    country.site_ready(MADE).await;
    reads_at(&country, CENTRE, &officer, "Lý/Thị/Mai").await;
    let status = country.status(MADE, &country.node(MADE, 0)).await.unwrap();
    assert_eq!((status.unit_code.as_str(), status.tier.as_str()), (MADE, "commune"));
    agree(&country, &[CENTRE, PROVINCE, DISTRICT, COMMUNE, MADE], above(&country, CENTRE)).await;
    all_hold(&country, &[CENTRE, PROVINCE, DISTRICT, MADE], shard, CENTRE, &ledger).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commune_is_linked_below_another_site_and_the_one_between_ends() {
    let sites = [
        site(PROVINCE, 1, None, &[COMMUNE]),
        site(DISTRICT, 1, Some(PROVINCE), &[COMMUNE]),
        site(COMMUNE, 1, Some(DISTRICT), &[COMMUNE]),
    ];
    let mut country = Country::start(PROGRAM, &sites).await;
    let (shard, ledger) = (country.shard(COMMUNE), Ledger::default());
    let officer = Officer::new(country.site_client(COMMUNE, Role::Registrar, COMMUNE), shard, &ledger);
    reads_at(&country, PROVINCE, &officer, "Giàng/Thị/Mỷ").await;
    let [province, district, commune] = [PROVINCE, DISTRICT, COMMUNE].map(|code| country.sites[code].id.to_string());

    // A site between is not ended while another is below it, and nobody is moved below one that is not above them.
    for words in [&["retire", &district][..], &["move", &district, "--parent", &commune]] {
        assert!(!operator(&country, PROVINCE, words).status.success(), "{words:?}");
    }
    says(&country, PROVINCE, &["reach", &province, &country.node(PROVINCE, 0).address()]);
    says(&country, PROVINCE, &["move", &commune, "--parent", &province]);
    eventually("the commune speaks with the province", AGREE_WAIT, async || {
        let status = country.status(COMMUNE, &country.node(COMMUNE, 0)).await;
        status.is_some_and(|status| {
            let linked = |link: &v1::LinkStatus| link.peer_site == province && link.state == "connected";
            status.parent_site == province && status.links.iter().any(linked)
        })
    })
    .await;
    says(&country, PROVINCE, &["retire", &district]);
    let between = country.node(DISTRICT, 0);
    country.kill(between.id);
    reads_at(&country, PROVINCE, &officer, "Vàng/A/Páo").await;
    in_step(&country, COMMUNE, shard).await;
    let ended = listed(&country, COMMUNE, DISTRICT).await.unwrap();
    assert_eq!((ended.state.as_str(), ended.said_in), ("retired", above(&country, PROVINCE).to_string()));
    all_hold(&country, &[PROVINCE, COMMUNE], shard, PROVINCE, &ledger).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_below_speaks_for_those_above() {
    let sites = [site(DISTRICT, 1, None, &[COMMUNE]), site(COMMUNE, 1, Some(DISTRICT), &[COMMUNE])];
    let mut country = Country::start(PROGRAM, &sites).await;
    let (shard, ancestor, ledger) = (country.shard(COMMUNE), above(&country, DISTRICT), Ledger::default());
    agree(&country, &[DISTRICT, COMMUNE], ancestor).await;
    let forged = |country: &Country| {
        let mut edit = EditBuilder::new(&operating());
        edit.shard(ancestor);
        let part = edit.create(RecordKind::Site);
        edit.set(part, "site", "", &country.sites[DISTRICT].id.to_string());
        edit.set(part, "unit", "", &country.unit(DISTRICT).to_string()).set(part, "state", "", "active");
        edit.set(part, "key", "stolen", &country.public_key(COMMUNE));
        edit
    };

    // By its door: an operator of the unit above, at a site below it.
    let client = country.site_client(COMMUNE, Role::Operator, DISTRICT);
    let Err(Error::Refused { text, .. }) = client.edit(&client.session(), &forged(&country)).await else {
        panic!("a commune's site wrote what its district says")
    };
    assert!(text.contains("ask that unit's site"), "{text}");
    // By those who may not, and by what belongs elsewhere.
    let registrar = country.site_client(DISTRICT, Role::Registrar, DISTRICT);
    assert!(
        registrar.edit(&registrar.session(), &forged(&country)).await.unwrap_err().to_string().contains("edit-sites")
    );
    let chief = country.site_client(DISTRICT, Role::Operator, DISTRICT);
    let mut person = EditBuilder::new(&operating());
    person.shard(ancestor);
    let part = person.create(RecordKind::Person);
    person.set(part, "name", "", "Lê/Thị/Hoa");
    assert!(chief.edit(&chief.session(), &person).await.unwrap_err().to_string().contains("shard of a commune"));
    let officer = Officer::new(country.site_client(COMMUNE, Role::Registrar, COMMUNE), shard, &ledger);
    let mut misplaced = forged(&country);
    misplaced.shard(shard);
    assert!(
        officer
            .client
            .edit(&officer.client.session(), &misplaced)
            .await
            .unwrap_err()
            .to_string()
            .contains("ancestor shard")
    );

    // By a program that was changed: it numbers such an edit, and nobody takes it.
    let node = country.node(COMMUNE, 0);
    country.terminate(node.id);
    country.start_faulty(&node, Some("write-ancestors"));
    country.site_ready(COMMUNE).await;
    client.edit(&client.session(), &forged(&country)).await.unwrap();
    officer.register("Giàng/Thị/Mỷ").await.unwrap();
    agree(&country, &[DISTRICT, COMMUNE], shard).await;
    let log = country.node(DISTRICT, 0).log();
    eventually("the district refuses it", AGREE_WAIT, async || {
        fs::read_to_string(&log).unwrap().contains("edits of a site that does not write this shard")
    })
    .await;
    let held = shard_status(&country, DISTRICT, &country.node(DISTRICT, 0), ancestor).await.unwrap();
    assert_eq!((held.edits, held.heads.len(), held.parked.len()), (0, 0, 0));
    let keys = listed(&country, DISTRICT, DISTRICT).await.unwrap().keys;
    assert_eq!(keys, [country.public_key(DISTRICT)]);
    // What the commune may write goes on.
    let record = officer.register("Vàng/A/Páo").await.unwrap();
    let district = Officer::new(country.site_client(DISTRICT, Role::Registrar, DISTRICT), shard, &ledger);
    eventually("its people are seen above", AGREE_WAIT, async || district.read(record).await.is_ok()).await;
    assert_eq!(values(&district.read(record).await.unwrap(), "sex"), ["female"]);
    // An operator still sees nobody.
    let context = Context::parse("maintenance", "VH-4").unwrap();
    assert!(chief.get(&context, record).await.is_err());
}
