//! What takes two persons. At a commune whose line is cut a registrar corrects a birth date and registers a death: both hold at once,
//! and are pending. When the line is back, a colleague of the district confirms the one and rejects the other.

use std::process::Command;

use dinhba_client::event::{Birth, Death};
use dinhba_client::{Context, EditBuilder};
use dinhba_core::claims::Role;
use dinhba_core::ids::RecordId;
use dinhba_core::number::Sex;
use dinhba_tests::country::{Country, site};
use dinhba_tests::evidence::{agree, in_step};
use dinhba_tests::officer::values;
use serde_json::Value as Json;

use crate::PROGRAM;

const DISTRICT: &str = "082";
const COMMUNE: &str = "02683";

/// What a verb printed for programs, asked at a site by a registrar of its unit; or its exit code and what it said.
fn dinhba(country: &Country, code: &str, words: &[&str]) -> Result<Json, (Option<i32>, String)> {
    let [authority, certificate, key] = country.identity(Role::Registrar, code);
    let node = country.node(code, 0).address();
    let mut command = Command::new(PROGRAM);
    command.args(words).args(["--json", "--node", &node, "--purpose", "correction", "--case", "HS-2"]);
    command.arg("--cert").arg(certificate).arg("--key").arg(key).arg("--ca").arg(authority);
    let output = command.output().unwrap();
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        false => Err((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())),
    }
}

/// The names of the fields of a record whose value waits for a second person.
fn pending(record: &Json) -> Vec<&str> {
    let fields = record["fields"].as_array().unwrap().iter();
    fields.filter(|field| field["values"][0]["pending"] == true).map(|field| field["field"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_two_persons_waits_for_the_second_at_another_tier() {
    let sites = [site(DISTRICT, 1, None, &[COMMUNE]), site(COMMUNE, 1, Some(DISTRICT), &[COMMUNE])];
    let country = Country::start(PROGRAM, &sites).await;
    let shard = country.shard(COMMUNE);
    let context = Context::parse("registration", "HS-2026/9").unwrap();
    let client = country.site_client(COMMUNE, Role::Registrar, COMMUNE);
    country.sites[COMMUNE].line.cut();

    let born = |name: &str| Birth::of(name, Sex::Female, "1990-03-08".parse().unwrap()).build(&context);
    let lan = client.file(&client.session(), &born("Trần Thị Lan")).await.unwrap();
    assert!(!lan.pending, "a birth is registered by one officer");
    let (lan, mai) = (lan.records[0], client.file(&client.session(), &born("Lê Thị Mai")).await.unwrap().records[0]);
    let read = |record: RecordId| client.get(&context, record);

    // She corrects a birth date; and somebody is registered as dead.
    let mut correction = EditBuilder::new(&context);
    let part = correction.change(&read(lan).await.unwrap());
    correction.set(part, "birth_date", "", "1991-03-08");
    let corrected = client.edit(&client.session(), &correction).await.unwrap();
    assert!(corrected.pending);
    let death = Death::of(&read(mai).await.unwrap(), "2026-01-03".parse().unwrap()).build(&context);
    assert!(client.file(&client.session(), &death).await.unwrap().pending);
    let shown = dinhba(&country, COMMUNE, &["get", &lan.to_string()]).unwrap();
    assert_eq!(pending(&shown), ["birth_date"]);
    assert_eq!(values(&read(lan).await.unwrap(), "birth_date"), ["1991-03-08"]);

    // Who wrote it does not confirm it.
    let waits = dinhba(&country, COMMUNE, &["pending"]).unwrap();
    assert_eq!(waits["entries"].as_array().unwrap().len(), 2);
    let (code, why) = dinhba(&country, COMMUNE, &["confirm", &lan.to_string()]).unwrap_err();
    assert!(code == Some(3) && why.contains("a second person"), "{why}");
    // What is held is out for everybody who reads, until another one releases it.
    let hash = waits["entries"][0]["hash"].as_str().unwrap();
    dinhba(&country, COMMUNE, &["hold", &lan.to_string(), &hash[..8], "--grounds", "thẻ bị mất"]).unwrap();
    assert_eq!(values(&read(lan).await.unwrap(), "birth_date"), ["1990-03-08"]);
    let (code, why) = dinhba(&country, COMMUNE, &["release", &lan.to_string()]).unwrap_err();
    assert!(code == Some(3) && why.contains("a second person"), "{why}");

    // Above, another day: one is confirmed, and one was a mistake.
    country.sites[COMMUNE].line.mend();
    in_step(&country, COMMUNE, shard).await;
    dinhba(&country, DISTRICT, &["release", &lan.to_string()]).unwrap();
    let waits = dinhba(&country, DISTRICT, &["pending"]).unwrap();
    let listed: Vec<_> = waits["entries"].as_array().unwrap().iter().map(|entry| &entry["record"]).collect();
    assert_eq!(listed.len(), 2, "{waits}");
    dinhba(&country, DISTRICT, &["confirm", &lan.to_string()]).unwrap();
    let (code, why) = dinhba(&country, DISTRICT, &["reject", &mai.to_string()]).unwrap_err();
    assert!(code == Some(2) && why.contains("--grounds"), "{why}");
    let grounds = "nhầm người, bà Mai còn sống";
    let rejected = dinhba(&country, DISTRICT, &["reject", &mai.to_string(), "--grounds", grounds]).unwrap();
    assert_eq!(rejected["pending"], false);
    let nothing = dinhba(&country, DISTRICT, &["pending"]).unwrap();
    assert!(nothing["entries"].as_array().unwrap().is_empty());

    in_step(&country, COMMUNE, shard).await;
    agree(&country, &[DISTRICT, COMMUNE], shard).await;
    assert!(values(&read(mai).await.unwrap(), "death_date").is_empty(), "she lives");
    let history = client.history(&context, mai).await.unwrap();
    let told: Vec<_> =
        history.iter().map(|it| (it.kind.as_str(), it.set_aside.as_str(), it.grounds.as_str())).collect();
    assert_eq!(told, [("change", "", ""), ("proposal", "rejected", ""), ("reject", "", grounds)]);
    let of_lan = client.history(&context, lan).await.unwrap();
    assert_eq!(of_lan[1].standing, "confirmed");
    let shown = dinhba(&country, COMMUNE, &["get", &lan.to_string()]).unwrap();
    assert_eq!(pending(&shown), Vec::<&str>::new());
}
