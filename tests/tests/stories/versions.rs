//! Versions side by side: nodes of one site and sites of one tree run programs of neighbouring feature levels, and are upgraded
//! one after the other. The older program is this one, told to know less (`--level-max`).

use std::time::Duration;

use dinhba_client::{Client, Error};
use dinhba_core::claims::Role;
use dinhba_core::ids::RecordId;
use dinhba_tests::country::{Country, NodePlan, eventually, operating, site};
use dinhba_tests::evidence::{AGREE_WAIT, agree, all_hold, in_step, shard_status};
use dinhba_tests::officer::{Ledger, Officer, values};
use dinhba_tests::process::refusal_of;

use crate::PROGRAM;

const PROVINCE: &str = "10";
const DISTRICT: &str = "082";
const COMMUNE: &str = "02683";
/// The level that a site is founded at, and all that an older program knows.
const OLDER: u16 = 1;
/// The level that has grounds with plain changes.
const NEWER: u32 = 2;
/// How long a node may take to say what it knows, or that it has stopped.
const SAID_WAIT: Duration = Duration::from_secs(15);

/// What a site's nodes are known to know, in their order, as one of them has it.
async fn known(country: &Country, code: &str, asked: &NodePlan) -> Vec<u32> {
    let status = country.status(code, asked).await.map(|status| status.nodes).unwrap_or_default();
    let of =
        |node: &NodePlan| status.iter().find(|said| said.node == node.id.to_string()).map_or(0, |said| said.level_max);
    country.sites[code].nodes.iter().map(of).collect()
}

/// Waits until each node of a site is known to know these levels.
async fn all_say(country: &Country, code: &str, levels: &[u32]) {
    let asked = country.node(code, 0);
    eventually(&format!("the nodes of {code} say {levels:?}"), SAID_WAIT, async || {
        known(country, code, &asked).await == levels
    })
    .await;
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, Error>) -> String {
    match outcome {
        Err(Error::Refused { text, .. }) => text,
        other => panic!("it must be refused: {other:?}"),
    }
}

/// Writes a note with grounds, which only a level above the first has.
async fn note_with_grounds(officer: &Officer, record: RecordId, note: &str) -> Result<(), Error> {
    let current = officer.read(record).await?;
    let mut edit = dinhba_client::EditBuilder::new(&officer.context);
    let part = edit.change(&current);
    edit.set(part, "note", "", note).grounds("as the mother said");
    officer.send(&edit).await.map(drop)
}

async fn levels(country: &Country, code: &str) -> Vec<u32> {
    let mut levels = Vec::new();
    for node in &country.sites[code].nodes {
        levels.extend(country.status(code, node).await.map(|status| status.groups[0].level));
    }
    levels
}

/// Ends a node in order, and starts it as a version that knows levels up to `level_max`.
fn restart(country: &mut Country, code: &str, at: usize, level_max: Option<u16>) {
    let node = country.set_version(code, at, level_max);
    let (ended, _) = country.terminate(node.id);
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    country.start_node(&node);
}

async fn raise(operator: &Client) -> Result<u32, Error> {
    operator.raise_level(&operating(), NEWER).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_is_raised_when_the_last_of_its_nodes_knows_the_level_and_lets_no_older_one_in() {
    let mut country = Country::plan(PROGRAM, &[site(COMMUNE, 3, None, &[COMMUNE])]).await;
    let old = country.set_version(COMMUNE, 2, Some(OLDER));
    country.start_all();
    country.ready().await;
    all_say(&country, COMMUNE, &[2, 2, 1]).await;
    let (shard, ledger) = (country.shard(COMMUNE), Ledger::default());
    let officer = Officer::new(country.site_client(COMMUNE, Role::Registrar, COMMUNE), shard, &ledger);
    let operator = country.site_client(COMMUNE, Role::Operator, COMMUNE);
    let record = officer.register("Tẩn/Thị/Mẩy").await.unwrap();
    officer.write(record, "note", "", "without grounds").await.unwrap();
    let text = refused(note_with_grounds(&officer, record, "too early").await);
    assert!(text.contains("feature level 2"), "{text}");

    let text = refused(raise(&operator).await);
    let group = country.sites[COMMUNE].groups[0].0.to_string();
    assert!(text.contains(&group), "the door says it of a group, before anything is proposed: {text}");
    assert!(text.contains(&old.id.to_string()) && text.contains("up to 1") && text.contains("start it"), "{text}");
    assert_eq!(levels(&country, COMMUNE).await, [1, 1, 1]);
    // Had it been proposed, the older one had stopped.
    let at_old = Officer::new(country.client([&old], Role::Registrar, COMMUNE), shard, &ledger);
    at_old.register("Vàng/A/Páo").await.unwrap();
    agree(&country, &[COMMUNE], shard).await;

    restart(&mut country, COMMUNE, 2, None);
    all_say(&country, COMMUNE, &[2, 2, 2]).await;
    assert_eq!(raise(&operator).await.unwrap(), NEWER);
    for at in 0..3 {
        let here = Officer::new(country.client([&country.node(COMMUNE, at)], Role::Registrar, COMMUNE), shard, &ledger);
        note_with_grounds(&here, record, &format!("at node {at}")).await.unwrap();
    }
    agree(&country, &[COMMUNE], shard).await;
    assert_eq!(levels(&country, COMMUNE).await, [2, 2, 2]);

    let mut new = country.new_node(COMMUNE);
    new.level_max = Some(OLDER);
    country.start_node(&new);
    let text = refused(operator.add_node(&operating(), new.id, &new.address()).await);
    assert!(text.contains(&new.id.to_string()) && text.contains("up to 1"), "{text}");
    let members = country.status(COMMUNE, &country.node(COMMUNE, 0)).await.unwrap().groups[0].clone();
    assert_eq!((members.voters.len(), members.learners.len()), (3, 0), "{members:?}");
    country.kill(new.id);
    new.level_max = None;
    country.start_node(&new);
    operator.add_node(&operating(), new.id, &new.address()).await.unwrap();
    operator.promote_node(&operating(), new.id).await.unwrap();
    country.sites.get_mut(COMMUNE).unwrap().nodes.push(new);
    country.site_ready(COMMUNE).await;
    all_say(&country, COMMUNE, &[2, 2, 2, 2]).await;
    agree(&country, &[COMMUNE], shard).await;
    all_hold(&country, &[COMMUNE], shard, COMMUNE, &ledger).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_program_stops_where_the_site_is_above_it_and_leaves_all_as_it_was() {
    let mut country = Country::start(PROGRAM, &[site(COMMUNE, 3, None, &[COMMUNE])]).await;
    let (shard, ledger) = (country.shard(COMMUNE), Ledger::default());
    let officer = Officer::new(country.site_client(COMMUNE, Role::Registrar, COMMUNE), shard, &ledger);
    let operator = country.site_client(COMMUNE, Role::Operator, COMMUNE);
    let record = officer.register("Lò/Văn/Pha").await.unwrap();
    all_say(&country, COMMUNE, &[2, 2, 2]).await;
    agree(&country, &[COMMUNE], shard).await;

    // It was away, known to know the level, when the site was raised; and comes back with an older program.
    let away = country.set_version(COMMUNE, 2, Some(OLDER));
    country.kill(away.id);
    raise(&operator).await.unwrap();
    note_with_grounds(&officer, record, "while one was away").await.unwrap();
    country.start_node(&away);
    eventually("the older one says why it has stopped", SAID_WAIT, async || {
        let Some(status) = country.status(COMMUNE, &away).await else { return false };
        let says = |text: &str| text.contains("feature level 2") && text.contains("upgrade this node");
        says(&status.health) && status.groups[0].role == "shutdown"
    })
    .await;
    officer.register("Lò/Thị/Say").await.expect("the others go on");
    restart(&mut country, COMMUNE, 2, None);
    country.site_ready(COMMUNE).await;
    agree(&country, &[COMMUNE], shard).await;

    // And with a state that is above it, an older program does not start.
    let raised = country.set_version(COMMUNE, 1, Some(OLDER));
    let (ended, _) = country.terminate(raised.id);
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    for _ in 0..2 {
        let (code, text) = refusal_of(raised.command(country.program()), SAID_WAIT);
        assert_eq!(code, Some(1), "{text}");
        for words in ["at feature level 2", "knows up to 1", "upgrade this node", "its data is not damaged"] {
            assert!(text.contains(words), "{words:?} is not in: {text}");
        }
    }
    let whole = country.set_version(COMMUNE, 1, None);
    country.start_node(&whole);
    country.site_ready(COMMUNE).await;
    note_with_grounds(&officer, record, "and on").await.unwrap();
    agree(&country, &[COMMUNE], shard).await;
    all_hold(&country, &[COMMUNE], shard, COMMUNE, &ledger).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_site_between_two_newer_ones_keeps_and_passes_on_what_it_does_not_know() {
    let sites = [
        site(PROVINCE, 1, None, &[COMMUNE]),
        site(DISTRICT, 1, Some(PROVINCE), &[COMMUNE]),
        site(COMMUNE, 1, Some(DISTRICT), &[COMMUNE]),
    ];
    let mut country = Country::plan(PROGRAM, &sites).await;
    country.set_version(DISTRICT, 0, Some(OLDER));
    country.start_all();
    country.ready().await;
    let (shard, ledger) = (country.shard(COMMUNE), Ledger::default());
    let officer = |code| Officer::new(country.site_client(code, Role::Registrar, code), shard, &ledger);
    let (above, between, below) = (officer(PROVINCE), officer(DISTRICT), officer(COMMUNE));
    let born = below.register("Giàng/Thị/Mỷ").await.unwrap();
    let other = below.register("Giàng/A/Páo").await.unwrap();
    agree(&country, &[PROVINCE, DISTRICT, COMMUNE], shard).await;
    for (code, levels) in [(PROVINCE, 2), (DISTRICT, 1), (COMMUNE, 2)] {
        all_say(&country, code, &[levels]).await;
        let raised = raise(&country.site_client(code, Role::Operator, code)).await;
        assert_eq!(raised.is_ok(), levels == 2, "{code}: {raised:?}");
    }

    // Upwards and downwards through the older one.
    note_with_grounds(&below, born, "from below").await.unwrap();
    note_with_grounds(&above, other, "from above").await.unwrap();
    let note = async |officer: &Officer, record| values(&officer.read(record).await.unwrap(), "note");
    eventually("each newer site has what the other wrote", AGREE_WAIT, async || {
        note(&above, born).await == ["from below"] && note(&below, other).await == ["from above"]
    })
    .await;
    let here = country.node(DISTRICT, 0);
    let aside = shard_status(&country, DISTRICT, &here, shard).await.unwrap();
    assert_eq!((aside.edits, aside.set_aside), (4, 2));
    for record in [born, other] {
        assert_eq!(note(&between, record).await, [""; 0], "it is kept, and not shown as what is so");
    }
    // Everybody has all edits, and goes on.
    between.write(born, "birth_date", "", "2024-05-07").await.unwrap();
    eventually("the edits are everywhere", AGREE_WAIT, async || {
        let mut digests = Vec::new();
        for code in [PROVINCE, DISTRICT, COMMUNE] {
            let status = shard_status(&country, code, &country.node(code, 0), shard).await;
            digests.push(status.map(|status| (status.edits, status.edits_digest)));
        }
        digests.windows(2).all(|two| two[0] == two[1]) && digests[0].as_ref().is_some_and(|(edits, _)| *edits == 5)
    })
    .await;

    let operator = country.site_client(DISTRICT, Role::Operator, DISTRICT);
    restart(&mut country, DISTRICT, 0, None);
    country.site_ready(DISTRICT).await;
    all_say(&country, DISTRICT, &[2]).await;
    raise(&operator).await.unwrap();
    let folded = agree(&country, &[PROVINCE, DISTRICT, COMMUNE], shard).await;
    assert_eq!((folded.edits, folded.set_aside), (5, 0));
    let between = Officer::new(country.site_client(DISTRICT, Role::Registrar, DISTRICT), shard, &ledger);
    assert_eq!(note(&between, born).await, ["from below"]);
    in_step(&country, COMMUNE, shard).await;
    in_step(&country, DISTRICT, shard).await;
    all_hold(&country, &[PROVINCE, DISTRICT, COMMUNE], shard, PROVINCE, &ledger).await;
}
