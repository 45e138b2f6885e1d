//! Targets. A province sets one for a commune whose line is cut, and it comes when the line is back; cards are handed over, and how far the
//! commune is reads the same there and above. Nobody sets one for units that are not his; who moved a deadline is in the history.

use std::process::Command;
use std::time::Duration;

use dinhba_client::event::{Birth, EventBuilder};
use dinhba_client::{Client, Context};
use dinhba_core::claims::Role;
use dinhba_core::date::{Date, InstantMs};
use dinhba_core::event::Event;
use dinhba_core::ids::{RecordId, ShardId};
use dinhba_core::number::Sex;
use dinhba_tests::country::{Country, eventually, site};
use dinhba_tests::evidence::{agree, in_step};
use serde_json::Value as Json;

use crate::PROGRAM;

const PROVINCE: &str = "10";
const DISTRICT: &str = "082";
const COMMUNE: &str = "02683";
/// Of the same district, which serves it; nobody works there.
const IDLE: &str = "02686";
const WAIT: Duration = Duration::from_secs(40);

/// What a verb of the command line printed for programs, at a site, as somebody of its unit.
fn dinhba(country: &Country, (role, at): (Role, &str), words: &[&str]) -> Result<Json, (Option<i32>, String)> {
    let [authority, certificate, key] = country.identity(role, at);
    let mut command = Command::new(PROGRAM);
    command.args(words).args(["--json", "--node", &country.node(at, 0).address()]);
    command.args(["--purpose", "statistics", "--case", "KH-12/2026"]);
    command.arg("--cert").arg(certificate).arg("--key").arg(key).arg("--ca").arg(authority);
    let output = command.output().unwrap();
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        false => Err((output.status.code(), String::from_utf8(output.stderr).unwrap())),
    }
}

fn registrar(country: &Country, at: &str, words: &[&str]) -> Result<Json, (Option<i32>, String)> {
    dinhba(country, (Role::Registrar, at), words)
}

/// How far a target is, as a site tells it; nothing if it does not know of it, or only of a part of it.
fn progress(country: &Country, at: &str, record: &str) -> Option<Json> {
    let told = registrar(country, at, &["figures", "--targets"]).unwrap();
    let target = told["targets"].as_array().unwrap().iter().find(|target| target["record"] == record)?.clone();
    Some(target["progress"].clone()).filter(|progress| !progress.is_null())
}

fn set(unit: &str, count: &str, [from, until]: [&str; 2]) -> Vec<String> {
    let words =
        ["target", "set", unit, "card-delivered", count, "--from", from, "--until", until, "--grounds", "KH 12"];
    words.map(str::to_owned).to_vec()
}

/// Somebody is registered, and her card is handed over.
async fn hand_over(client: &Client, context: &Context, number: &str) {
    let mut birth =
        Birth::of("Giàng Thị Mỷ", Sex::Female, "1990-03-08".parse().unwrap()).nationality("VN").build(context);
    birth.set_of(0, "number", number);
    let person = client.file(&client.session(), &birth).await.unwrap().records[0];
    for event in
        [Event::CardRequested, Event::CardCaptured, Event::CardApproved, Event::CardProduced, Event::CardDelivered]
    {
        let record = client.get(context, person).await.unwrap();
        let mut filed = EventBuilder::new(context, event);
        filed.about("person", &record);
        match event {
            Event::CardRequested => drop(filed.set("kind", "căn cước")),
            Event::CardProduced => {
                filed.set("issued", "2026-01-02").set("issued-by", "Cục Cảnh sát").set("valid-to", "2030-03-08");
            }
            _ => {}
        }
        client.file(&client.session(), &filed).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_comes_down_and_how_far_it_is_reads_the_same_everywhere() {
    let homes = [COMMUNE, IDLE];
    let sites = [
        site(PROVINCE, 1, None, &homes),
        site(DISTRICT, 1, Some(PROVINCE), &homes),
        site(COMMUNE, 1, Some(DISTRICT), &homes[..1]),
    ];
    let country = Country::start(PROGRAM, &sites).await;
    let today = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let today = InstantMs(i64::try_from(today).unwrap()).date_in_vietnam();
    let after = |days: i64| Date::from_days(today.days() + days).to_string();
    let days = [today.to_string(), after(30)];
    let days = [days[0].as_str(), days[1].as_str()];
    let [unit, idle, district] = [COMMUNE, IDLE, DISTRICT].map(|code| format!("{code}@2025-06-30"));
    let say =
        |at: &str, words: &[String]| registrar(&country, at, &words.iter().map(String::as_str).collect::<Vec<_>>());

    // Nobody sets one for a unit that is not his, nor for what does not happen.
    for (role, at, words, code, text) in [
        (Role::Registrar, DISTRICT, set("02752@2025-06-30", "5", days), 3, "set-targets needs the role registrar in"),
        (Role::Registrar, DISTRICT, set("10@2025-06-30", "5", days), 3, "set-targets needs the role registrar in"),
        (Role::Registrar, PROVINCE, set("00001@2025-06-30", "5", days), 3, "set-targets needs the role registrar in"),
        (Role::Registrar, COMMUNE, set(&unit, "5", days), 3, "a commune has no units below it"),
        (Role::Operator, PROVINCE, set(&unit, "5", days), 3, "set-targets needs the role registrar, and"),
        (Role::Registrar, PROVINCE, set(&unit, "0", days), 2, "the count must be 1 to"),
        (Role::Registrar, PROVINCE, set(&unit, "5", [days[1], days[0]]), 2, "the last day lies before the first"),
        (Role::Registrar, PROVINCE, set("00001@2099-01-01", "5", days), 2, "no unit is known"),
        (Role::Registrar, PROVINCE, set("02647@2025-06-30", "5", days), 2, "ends on 2025-06-30"),
    ] {
        let refused = dinhba(&country, (role, at), &words.iter().map(String::as_str).collect::<Vec<_>>()).unwrap_err();
        assert!(refused.0 == Some(code) && refused.1.contains(text), "{words:?} at {at}: {refused:?}");
    }

    country.sites[COMMUNE].line.cut();
    let record = say(PROVINCE, &set(&unit, "3", days)).unwrap()["records"][0].as_str().unwrap().to_owned();
    let whole = say(PROVINCE, &set(&district, "10", days)).unwrap()["records"][0].as_str().unwrap().to_owned();
    assert!(progress(&country, COMMUNE, &record).is_none(), "it has not heard of it");
    country.sites[COMMUNE].line.mend();
    eventually("the commune hears of it", WAIT, async || progress(&country, COMMUNE, &record).is_some()).await;

    // The commune works on without its line, and knows how far it is.
    country.sites[COMMUNE].line.cut();
    let context = Context::parse("issuance", "TCC-5/2026").unwrap();
    let client = country.site_client(COMMUNE, Role::Registrar, COMMUNE);
    for number in ["010190000077", "010190000078"] {
        hand_over(&client, &context, number).await;
    }
    let here = progress(&country, COMMUNE, &record).unwrap();
    assert_eq!((&here["done"], &here["outlook"]), (&Json::from(2), &Json::from("expected")), "{here}");
    assert_eq!(progress(&country, PROVINCE, &record).unwrap()["done"], 0);
    country.sites[COMMUNE].line.mend();
    in_step(&country, COMMUNE, country.shard(COMMUNE)).await;
    agree(&country, &[PROVINCE, DISTRICT, COMMUNE], country.shard(COMMUNE)).await;
    for at in [PROVINCE, DISTRICT, COMMUNE] {
        assert_eq!(progress(&country, at, &record).unwrap(), here, "{at}");
    }

    // Above, who is behind comes first; below, of a target of the district, one's own part alone.
    let told = registrar(&country, PROVINCE, &["figures", "--targets", "--unit", &district]).unwrap();
    let of_district = told["targets"].as_array().unwrap().iter().find(|target| target["record"] == whole).unwrap();
    let codes: Vec<&str> =
        of_district["below"].as_array().unwrap().iter().map(|row| row["unit_code"].as_str().unwrap()).collect();
    assert_eq!((codes, &of_district["progress"]["done"]), (vec![IDLE, COMMUNE], &Json::from(2)), "{of_district}");
    assert_eq!(of_district["below"][1]["own"], record);
    assert!(progress(&country, COMMUNE, &whole).is_none());
    let auditor = dinhba(&country, (Role::Auditor, PROVINCE), &["target", "list", "--unit", &idle]).unwrap();
    assert_eq!(auditor["targets"].as_array().unwrap().len(), 1, "{auditor}");
    let operator = dinhba(&country, (Role::Operator, PROVINCE), &["target", "list"]);
    assert_eq!(operator.unwrap_err().0, Some(3));
    let csv = Command::new(PROGRAM)
        .args(["figures", "--targets", "--csv", "--node", &country.node(COMMUNE, 0).address()])
        .args(["--purpose", "statistics", "--case", "KH-12/2026"])
        .args(
            ["--ca", "--cert", "--key"]
                .into_iter()
                .zip(country.identity(Role::Registrar, COMMUNE))
                .flat_map(|(option, path)| [option.to_owned(), path.display().to_string()]),
        )
        .output()
        .unwrap();
    let csv = String::from_utf8(csv.stdout).unwrap();
    assert!(csv.lines().any(|line| line.starts_with(&format!("{record},{COMMUNE},"))), "{csv}");

    // It is changed and withdrawn, and everybody who is told of it sees who did so.
    let later = after(60);
    let change = ["target", "change", &record, "--count", "2", "--until", &later, "--grounds", "KH 13"];
    registrar(&country, PROVINCE, &change).unwrap();
    eventually("it is reached at the commune", WAIT, async || {
        progress(&country, COMMUNE, &record).is_some_and(|progress| progress["outlook"] == "reached")
    })
    .await;
    assert_eq!(progress(&country, COMMUNE, &record).unwrap()["days_early"], 60);
    let refused = registrar(&country, DISTRICT, &["target", "withdraw", &record, "--grounds", "KH 14"]).unwrap_err();
    assert!(refused.0 == Some(3) && refused.1.contains("set-targets"), "{refused:?}");
    registrar(&country, PROVINCE, &["target", "withdraw", &record, "--grounds", "KH 14"]).unwrap();
    eventually("it is withdrawn at the commune", WAIT, async || progress(&country, COMMUNE, &record).is_none()).await;
    let history = client.history(&context, record.parse::<RecordId>().unwrap()).await.unwrap();
    let said: Vec<(&str, &str)> = history
        .iter()
        .map(|entry| {
            let grounds = entry.changes.iter().find(|change| change.field == "grounds").unwrap();
            (entry.subject.as_str(), grounds.value.as_str())
        })
        .collect();
    assert_eq!(said, [("registrar.10", "KH 12"), ("registrar.10", "KH 13"), ("registrar.10", "KH 14")]);
    assert!(history.iter().all(|entry| entry.received_ms > 0 && entry.site_unit.contains("Lào Cai")), "{history:?}");
    agree(&country, &[PROVINCE, DISTRICT, COMMUNE], ShardId::of_unit_above(country.unit(PROVINCE))).await;
}
