//! What an officer does in a day, at a commune whose line is cut: births, a household, a marriage, a death. With the SDK and by
//! the command line; asked again after an answer that was lost; and read above when the line is back.

use std::collections::BTreeMap;
use std::process::Command;

use dinhba_client::event::{Birth, Death, EventBuilder, Marriage};
use dinhba_client::request::field_of;
use dinhba_client::{Client, Context, Error};
use dinhba_core::claims::Role;
use dinhba_core::date::{Date, PartialDate};
use dinhba_core::event::Event;
use dinhba_core::ids::RecordId;
use dinhba_core::number::Sex;
use dinhba_proto::v1;
use dinhba_tests::country::{Country, site};
use dinhba_tests::evidence::{agree, in_step};
use dinhba_tests::officer::values;
use futures::StreamExt;
use serde_json::Value as Json;
use tonic::Code;

use crate::PROGRAM;

const DISTRICT: &str = "082";
const COMMUNE: &str = "02683";

fn day(text: &str) -> PartialDate {
    text.parse().unwrap()
}

struct Counter {
    client: Client,
    context: Context,
}

impl Counter {
    async fn read(&self, record: RecordId) -> v1::Record {
        self.client.get(&self.context, record).await.unwrap()
    }

    async fn file(&self, event: &EventBuilder) -> Result<Vec<RecordId>, Error> {
        Ok(self.client.file(&self.client.session(), event).await?.records)
    }

    async fn born(&self, birth: Birth) -> RecordId {
        self.file(&birth.build(&self.context)).await.unwrap()[0]
    }
}

/// What a verb of the command line printed, for programs.
fn dinhba(country: &Country, words: &[&str]) -> Result<Json, (Option<i32>, Json)> {
    let [authority, certificate, key] = country.identity(Role::Registrar, COMMUNE);
    let node = country.node(COMMUNE, 0).address();
    let mut command = Command::new(PROGRAM);
    command.args(words).args(["--json", "--node", &node, "--purpose", "registration", "--case", "HS-1"]);
    command.arg("--cert").arg(certificate).arg("--key").arg(key).arg("--ca").arg(authority);
    let output = command.output().unwrap();
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        false => Err((output.status.code(), serde_json::from_slice(&output.stderr).unwrap())),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_at_a_commune_without_a_line() {
    let sites = [site(DISTRICT, 1, None, &[COMMUNE]), site(COMMUNE, 1, Some(DISTRICT), &[COMMUNE])];
    let country = Country::start(PROGRAM, &sites).await;
    let shard = country.shard(COMMUNE);
    let context = Context::parse("registration", "HS-2026/7").unwrap();
    let counter = Counter { client: country.site_client(COMMUNE, Role::Registrar, COMMUNE), context: context.clone() };
    country.sites[COMMUNE].line.cut();

    // A family.
    let man = counter.born(Birth::of("Nguyễn Văn Hùng", Sex::Male, day("1990-03-08")).nationality("VN")).await;
    let woman = counter.born(Birth::of("Trần Thị Lan", Sex::Female, day("1992")).nationality("VN")).await;
    let wedding = Marriage::of(&counter.read(man).await, &counter.read(woman).await, day("2020-05-01"));
    counter.file(&wedding.build(&context)).await.unwrap();
    let mother = counter.read(woman).await;
    let child = Birth::of("Nguyễn Thị Mai", Sex::Female, day("2026-01-02")).ethnicity("Kinh").mother(&mother);
    let child = counter.born(child.paper("Giấy chứng sinh", "5/2026")).await;
    let born = counter.read(child).await;
    let relative = &field_of(&born, "relative", "mother").unwrap().values[0].value;
    assert!(relative.contains("Trần Thị Lan") && relative.contains(&woman.to_string()), "{relative}");

    // A household, by the command line, with what the form asks.
    let words = [format!("head={woman}"), format!("member={man}"), format!("member={child}")];
    let founded = dinhba(
        &country,
        &[
            "household-founded",
            &words[0],
            &words[1],
            "relation=chồng",
            &words[2],
            "relation=con",
            "unit=02683@2025-06-30",
            "since=2020-05-01",
        ],
    );
    let founded = founded.unwrap();
    assert_eq!(founded["event"], "household-founded");
    let household: RecordId = founded["subjects"][0]["record"].as_str().unwrap().parse().unwrap();
    let members = counter.client.members(&context, household, &[]).await.unwrap();
    assert_eq!(members.records.len(), 3);
    // What is wrong is told with the law, or all at once; and nothing changed.
    let (code, refused) =
        dinhba(&country, &["household-dissolved", &format!("household={household}"), "date=2026-01-03"]).unwrap_err();
    assert!(code == Some(2) && refused["message"].as_str().unwrap().contains("household_has_members"), "{refused}");
    let (code, refused) = dinhba(&country, &["birth", "name=Lê An", "sex=khác", "birth-date=hôm qua"]).unwrap_err();
    assert!(code == Some(2) && refused["problems"].as_array().unwrap().len() == 2, "{refused}");
    let (code, refused) = dinhba(&country, &["birth", "name=Lê An", "sex=nam"]).unwrap_err();
    assert!(code == Some(2) && refused["problems"][0]["field"] == "subjects[0].inputs.birth-date", "{refused}");

    // A death, which ends what the dead had; sent again, it is the same though the record moved on.
    let request = counter.client.session().next();
    let (gone, widow) = (counter.read(man).await, counter.read(woman).await);
    let death = Death::of(&gone, day("2026-01-03")).spouse(&widow).build(&context);
    let accepted = counter.client.file_as(request, &death).await.unwrap();
    assert_eq!((accepted.receipt.count, accepted.replayed), (2, false));
    let again = counter.client.file_as(request, &death).await.unwrap();
    assert!(again.replayed && again.receipt == accepted.receipt);
    let later = Death::of(&gone, day("2026-01-04")).spouse(&widow).build(&context);
    match counter.client.file_as(request, &later).await {
        Err(Error::Refused { code: Code::AlreadyExists, text, .. }) => {
            assert!(text.contains("other content"), "{text}")
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(values(&counter.read(woman).await, "marital_status"), ["status=widowed; since=2026-01-03"]);
    assert_eq!(counter.client.members(&context, household, &[]).await.unwrap().records.len(), 2);
    // Who looked earlier, and not since, is told so.
    let mut correction = EventBuilder::new(&context, Event::Correction);
    let person = correction.about("person", &widow);
    correction.correct(person, "marital_status", "", "single").grounds("Giấy xác nhận 3/2026");
    match counter.file(&correction).await {
        Err(Error::Stale(stale)) => assert_eq!(stale.fields[0].field, "marital_status"),
        other => panic!("{other:?}"),
    }

    // A receipt for somebody else: the day of death is shown, and nothing else of him. Without a connection, with the key alone.
    let file = country.dir().join("receipt");
    let path = file.to_str().unwrap();
    dinhba(&country, &["receipt", &request.to_string(), "--show", "death_date", "-o", path]).unwrap();
    let misspelt = dinhba(&country, &["receipt", &request.to_string(), "--show", "deathdate"]);
    assert_eq!(misspelt.unwrap_err().0, Some(2));
    let site = country.sites[COMMUNE].id.to_string();
    let verify = |key: &str| {
        let mut command = Command::new(PROGRAM);
        command.args(["receipt", "verify", path, "--site", &site, "--public-key", key, "--json"]).output().unwrap()
    };
    let key = country.public_key(COMMUNE);
    let proved: Json = serde_json::from_slice(&verify(&key).stdout).unwrap();
    assert_eq!((&proved[0]["event"], &proved[0]["record"]), (&Json::from("death"), &Json::from(man.to_string())));
    assert_eq!(proved[0]["changes"][0]["value"], "2026-01-03");
    assert_eq!((proved.as_array().unwrap().len(), proved[1]["changes"].as_array().unwrap().len()), (2, 0));
    assert!(proved[0]["withheld"].as_u64().unwrap() > 0);
    let other = verify(&country.public_key(DISTRICT));
    assert!(
        other.status.code() == Some(2) && String::from_utf8_lossy(&other.stderr).contains("did not sign it"),
        "{other:?}"
    );
    let mut changed = std::fs::read_to_string(&file).unwrap();
    let at = changed.len() - 20;
    let digit = if changed.as_bytes()[at] == b'0' { "1" } else { "0" };
    changed.replace_range(at..=at, digit);
    std::fs::write(&file, changed).unwrap();
    assert_eq!(verify(&key).status.code(), Some(2));

    // Above, when the line is back: the same people, and a history of events.
    country.sites[COMMUNE].line.mend();
    in_step(&country, COMMUNE, shard).await;
    agree(&country, &[DISTRICT, COMMUNE], shard).await;
    let district = country.site_client(DISTRICT, Role::Registrar, DISTRICT);
    let history = district.history(&context, man).await.unwrap();
    let events: Vec<(&str, &str)> =
        history.iter().map(|entry| (entry.event.as_str(), entry.event_label.as_str())).collect();
    assert_eq!(
        events,
        [
            ("birth", "Đăng ký khai sinh"),
            ("marriage", "Đăng ký kết hôn"),
            ("household-founded", "Lập hộ"),
            ("death", "Đăng ký khai tử"),
        ]
    );
    assert_eq!(history[3].valid_from, "2026-01-03");
    // Figures, which nobody typed in: the same at both.
    let auditor = country.site_client(DISTRICT, Role::Auditor, DISTRICT);
    let days = (Date::from_days(0), Date::MAX);
    let figures = |units: Vec<v1::UnitFigures>| -> BTreeMap<String, u64> {
        units.into_iter().flat_map(|unit| unit.figures).map(|figure| (figure.event, figure.count)).collect()
    };
    let above = figures(auditor.figures(&context, COMMUNE, days).await.unwrap());
    let expected = [("birth", 3), ("death", 1), ("household-founded", 1), ("marriage", 1)];
    assert_eq!(above, expected.map(|(event, count)| (event.to_owned(), count)).into());
    assert_eq!(figures(counter.client.figures(&context, "", days).await.unwrap()), above);
    let operator = country.site_client(COMMUNE, Role::Operator, COMMUNE).figures(&context, "", days).await;
    assert!(matches!(operator, Err(Error::Refused { code: Code::PermissionDenied, .. })));
    let shown = dinhba(&country, &["figures", "--by", "month"]).unwrap();
    assert_eq!(shown["figures"].as_array().unwrap().len(), 4);
    // As it was in law on a day, by the command line and above.
    let married = dinhba(&country, &["get", &man.to_string(), "--in-law-on", "2020-05-01"]).unwrap();
    let fields = |record: &Json| -> Vec<String> {
        record["fields"].as_array().unwrap().iter().map(|field| field["field"].as_str().unwrap().to_owned()).collect()
    };
    assert!(
        fields(&married).contains(&"marital_status".to_owned()) && !fields(&married).contains(&"death_date".to_owned())
    );
    let single = district.get_as_of(&context, man, "2020-04-30", "").await.unwrap();
    assert!(values(&single, "marital_status").is_empty() && values(&single, "name") == ["Nguyễn/Văn/Hùng"]);
    let unknown = district.get_as_of(&context, man, "", "2019-12-31").await;
    assert!(matches!(unknown, Err(Error::Refused { code: Code::NotFound, .. })), "nobody had written him down");
}

#[test]
fn each_event_is_a_verb_that_says_what_it_asks() {
    let forms: Json =
        serde_json::from_slice(&Command::new(PROGRAM).args(["events", "--json"]).output().unwrap().stdout).unwrap();
    let forms = forms.as_array().unwrap();
    assert!(forms.len() > 40);
    for form in forms {
        let event = form["event"].as_str().unwrap();
        let help = Command::new(PROGRAM).args([event, "--help"]).output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        assert!(help.contains(form["label"].as_str().unwrap()) && !help.contains("Whom to ask"), "{help}");
        for input in form["inputs"].as_array().unwrap() {
            assert!(help.contains(&format!("{}=…", input["name"].as_str().unwrap())), "{event}: {help}");
        }
        let shown = Command::new(PROGRAM).args(["events", event]).output().unwrap();
        assert!(shown.status.success(), "{event}");
    }
    let rules = Command::new(PROGRAM).args(["rules", "--json"]).output().unwrap();
    let rules: Json = serde_json::from_slice(&rules.stdout).unwrap();
    for rule in rules.as_array().unwrap() {
        assert!(rule["law"].as_str().unwrap().len() > 10 && rule["text_vi"] != rule["text"], "{rule}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_roll_of_an_election_has_who_is_of_age_and_lives_there_on_the_day() {
    let country = Country::start(PROGRAM, &[site(COMMUNE, 1, None, &[COMMUNE])]).await;
    let client = country.site_client(COMMUNE, Role::Registrar, COMMUNE);
    let context = Context::parse("registration", "BC-2026-1").unwrap();
    let home = "unit=02683@2025-06-30; line=thôn 3";
    let register = async |name: &str, born: &str, more: &[(&str, &str)]| {
        let mut edit = dinhba_client::EditBuilder::new(&context);
        edit.shard(country.shard(COMMUNE));
        let part = edit.create(dinhba_core::schema::RecordKind::Person);
        edit.valid_from(part, "2000-01-01");
        edit.set(part, "name", "", name).set(part, "birth_date", "", born).set(part, "permanent_residence", "", home);
        more.iter().for_each(|(field, value)| _ = edit.set(part, field, "", value));
        client.edit(&client.session(), &edit).await.unwrap().records[0]
    };
    let of_age = register("Giàng/Thị/Mỷ", "2006-05-24", &[("sex", "female")]).await;
    register("Vàng/A/Páo", "2006-05-25", &[]).await;
    let doubtful = register("Lý/Thị/Mai", "2006", &[]).await;
    register("Sùng/A/Chá", "1950-01-01", &[("death_date", "2024-01-02")]).await;
    register("Hà/Thị/Tải", "1990-03-08", &[("permanent_residence", "unit=02686@2025-06-30")]).await;
    // Who dies after the day was alive on it.
    let later = register("Lê/Thị/Hoa", "1980-01-01", &[]).await;
    let record = client.get(&context, later).await.unwrap();
    client.file(&client.session(), &Death::of(&record, day("2025-01-01")).build(&context)).await.unwrap();

    let on: Date = "2024-05-24".parse().unwrap();
    let pages: Vec<_> = client.roll(&context, None, on, Some((18, 200))).collect().await;
    let mut listed: Vec<v1::RollEntry> = pages.into_iter().flat_map(Result::unwrap).collect();
    listed.sort_by(|one, two| one.birth_date.cmp(&two.birth_date));
    let shown: Vec<(RecordId, bool)> =
        listed.iter().map(|entry| (entry.record.parse().unwrap(), entry.doubtful)).collect();
    assert_eq!(shown, [(later, false), (doubtful, true), (of_age, false)]);
    assert_eq!((listed[2].name.as_str(), listed[2].line.as_str()), ("Giàng Thị Mỷ", "thôn 3"));
    let rows = country.dir().join("roll.csv");
    let file = rows.display().to_string();
    let told = dinhba(&country, &["roll", "--on", "2024-05-24", "--age-min", "18", "--output", &file]).unwrap();
    assert_eq!((told["persons"].as_u64(), told["doubtful"].as_u64()), (Some(3), Some(1)));
    let text = std::fs::read_to_string(&rows).unwrap();
    assert!(text.lines().any(|line| line.starts_with("Giàng Thị Mỷ,2006-05-24,female,,thôn 3,,r-")), "{text}");

    // It is an extract: for those who may read there, and in the access log.
    let stranger = country.site_client(COMMUNE, Role::Operator, COMMUNE);
    let refused: Vec<_> = stranger.roll(&context, Some(country.shard(COMMUNE)), on, None).collect().await;
    assert!(matches!(refused[..], [Err(Error::Refused { code: Code::PermissionDenied, .. })]), "{refused:?}");
    let wrong = dinhba(&country, &["roll", "--on", "2024-05-24", "--age-min", "30", "--age-max", "20"]).unwrap_err();
    assert_eq!(wrong.0, Some(2), "{wrong:?}");
}
