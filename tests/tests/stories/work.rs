//! What is to be done. Deadlines are counted by the holidays that the centre says. A dossier that lay on paper while a commune's line was
//! cut is late, and shows further up once the line is back; its steps go from hand to hand, and one that fails shows to the owner's
//! superior at once.

use std::time::Duration;

use dinhba_client::event::{Birth, EventBuilder};
use dinhba_client::generate::holidays;
use dinhba_client::work::WorkQuery;
use dinhba_client::{Client, Context, EditBuilder, Error};
use dinhba_core::claims::Role;
use dinhba_core::date::Date;
use dinhba_core::event::Event;
use dinhba_core::ids::RecordId;
use dinhba_core::number::Sex;
use dinhba_proto::v1;
use dinhba_tests::country::{Country, eventually, operating, site};
use dinhba_tests::evidence::{agree, in_step};
use dinhba_tests::officer::values;
use tonic::Code;

use crate::PROGRAM;

const COMMUNE: &str = "02683";
const WAY: [&str; 4] = ["00", "10", "082", COMMUNE];
const WAIT: Duration = Duration::from_secs(60);

fn working() -> Context {
    Context::parse("registration", "HS-2026/5").unwrap()
}

async fn listed(client: &Client, query: WorkQuery) -> Result<Vec<v1::WorkItem>, Error> {
    Ok(client.work(&working(), &query, &[]).await?.items)
}

/// The steps on the list of a client's unit.
async fn steps(client: &Client) -> Vec<(String, String)> {
    let items = listed(client, WorkQuery::default()).await.unwrap();
    items.into_iter().filter(|item| !item.step.is_empty()).map(|item| (item.kind, item.step)).collect()
}

fn is(kind: &str, step: &str) -> (String, String) {
    (kind.to_owned(), step.to_owned())
}

async fn say(client: &Client, record: RecordId, event: Event, words: &[(&str, &str)], grounds: &str) {
    let read = client.get(&working(), record).await.unwrap();
    let mut said = EventBuilder::new(&working(), event);
    said.about("dossier", &read);
    for (name, text) in words {
        said.set(name, text);
    }
    said.grounds(grounds);
    client.file(&client.session(), &said).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dossier_goes_from_hand_to_hand_and_shows_further_up_once_it_is_late() {
    let sites = [
        site(WAY[0], 1, None, &[COMMUNE]),
        site(WAY[1], 1, Some(WAY[0]), &[COMMUNE]),
        site(WAY[2], 1, Some(WAY[1]), &[COMMUNE]),
        site(WAY[3], 1, Some(WAY[2]), &[COMMUNE]),
    ];
    let country = Country::start(PROGRAM, &sites).await;
    let registrar = |code: &str| country.site_client(code, Role::Registrar, code);
    let [centre, province, district, commune] = WAY.map(registrar);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let today = dinhba_core::date::InstantMs(i64::try_from(now).unwrap()).date_in_vietnam();

    // The operator of the centre says the holidays; a list with a hole says nothing.
    let operator = country.site_client("00", Role::Operator, "00");
    let administration = operating();
    let mut with_hole = holidays(today.year());
    with_hole.off.remove(2);
    let refused = operator.set_holidays(&administration, &with_hole, "QĐ 9").await.unwrap_err();
    assert!(refused.to_string().contains("hole"), "{refused}");
    for year in [today.year(), today.year() + 1, today.year() - 1] {
        eventually("what was said before is known", WAIT, async || {
            operator.set_holidays(&administration, &holidays(year), "QĐ 9").await.is_ok()
        })
        .await;
    }
    eventually("the commune knows the holidays", WAIT, async || commune.holidays().await.unwrap().len() == 3).await;
    // Nor can a hole be made by an edit of what was said.
    let said = operator.holidays().await.unwrap().remove(0);
    let record = operator.get(&administration, said.record.parse().unwrap()).await.unwrap();
    let mut hole = EditBuilder::new(&administration);
    let part = hole.change(&record);
    hole.set(part, "off", &format!("{}-09-03", said.year), "");
    let refused = operator.edit(&operator.session(), &hole).await.unwrap_err();
    assert!(refused.to_string().contains("national_day has 2 days"), "{refused}");
    let far = operator.set_holidays(&administration, &holidays(today.year() + 3), "QĐ 9").await.unwrap_err();
    assert!(far.to_string().contains("between"), "{far}");

    // Handed in on paper six weeks ago, typed in far from the line.
    country.sites[COMMUNE].line.cut();
    let handed_in = Date::from_days(today.days() - 42).to_string();
    let mut opened = EventBuilder::new(&working(), Event::DossierOpened);
    opened.create("dossier");
    opened.set("service", "khai sinh").set("applicant", "Giàng Thị Dợ").set("date", &handed_in);
    let dossier = commune.file(&commune.session(), &opened).await.unwrap().records[0];
    let items = listed(&commune, WorkQuery::default()).await.unwrap();
    assert_eq!(items.len(), 1, "{items:?}");
    let item = &items[0];
    assert_eq!((item.kind.as_str(), item.step.as_str(), item.event.as_str()), ("step", "birth_registration", "birth"));
    assert_eq!((item.since.as_str(), item.owner_code.as_str()), (handed_in.as_str(), COMMUNE));
    // The same day or the first working one after it, which the holidays that were said may put off.
    let due: Date = item.due.parse().unwrap();
    assert!(item.due_is_sure && item.due >= handed_in && item.late > 0, "{item:?}");
    assert_eq!(i64::from(item.late), today.days() - due.days());
    country.sites[COMMUNE].line.mend();
    for above in [&district, &province, &centre] {
        eventually("it shows further up", WAIT, async || steps(above).await == [is("step", "birth_registration")])
            .await;
    }

    // The birth ends the step, and two others begin: one at the commune, one at the district.
    let read = commune.get(&working(), dossier).await.unwrap();
    let born = Date::from_days(today.days() - 43).to_string().parse().unwrap();
    let mut birth = Birth::of("Giàng Thị Mỷ", Sex::Female, born).nationality("VN").build(&working());
    birth.about("dossier", &read);
    let child = commune.file(&commune.session(), &birth).await.unwrap().records[0];
    assert_eq!(steps(&commune).await, [is("step", "permanent_residence")]);
    let all = WorkQuery { all: true, kind: "step".to_owned(), ..WorkQuery::default() };
    assert_eq!(listed(&commune, all).await.unwrap().len(), 2, "with what others have to do");
    eventually("the district has its own", WAIT, async || steps(&district).await == [is("step", "health_insurance")])
        .await;
    eventually("nothing is late any more", WAIT, async || {
        steps(&province).await.is_empty() && steps(&centre).await.is_empty()
    })
    .await;
    let read = commune.dossiers(&working(), child, &[]).await.unwrap().records;
    assert_eq!((read.len(), read[0].id.as_str()), (1, dossier.to_string().as_str()));
    assert_eq!(values(&read[0], "about"), [child.to_string()]);

    // The district refuses it: the province hears at once. Taken up again and done, it is gone.
    let step = [("step", "Cấp thẻ bảo hiểm y tế")];
    say(&district, dossier, Event::DossierStepRejected, &step, "Công văn 5/BHXH").await;
    assert_eq!(steps(&district).await, [is("step-failed", "health_insurance")]);
    eventually("the province hears of it", WAIT, async || {
        steps(&province).await == [is("step-failed", "health_insurance")]
    })
    .await;
    assert!(steps(&centre).await.is_empty());
    say(&district, dossier, Event::DossierStepReopened, &step, "Đã sửa địa chỉ").await;
    say(&district, dossier, Event::DossierStepDone, &[step[0], ("result", "GD 4 01 0123456789")], "").await;
    assert!(steps(&district).await.is_empty());
    in_step(&country, WAY[3], country.shard(COMMUNE)).await;
    agree(&country, &WAY, country.shard(COMMUNE)).await;
    assert_eq!(steps(&commune).await, [is("step", "permanent_residence")]);

    // Every tier counts alike how good the records are: of the child that is known which was filled in, and little else.
    let statistics = Context::parse("statistics", "TK-1").unwrap();
    let quality = async |client: &Client| {
        let unit = client.quality(&statistics, "").await.unwrap().remove(0);
        (unit.records, unit.disputed, unit.doubled, unit.required, unit.filled)
    };
    let counted = quality(&commune).await;
    assert!(counted.0 == 2 && counted.1 == 0 && counted.3 > counted.4 && counted.4 > 4, "{counted:?}");
    for above in [&district, &province, &centre] {
        assert_eq!(quality(above).await, counted);
    }

    // And what there is in which state: of the three steps the birth is registered, the residence not yet, and the insurance given.
    let days = ("2020-01-01".parse().unwrap(), "2100-01-01".parse().unwrap());
    let stocks = async |client: &Client| {
        let stocks = client.stocks(&statistics, "", days).await.unwrap().remove(0).stocks;
        let row = |stock: v1::Stock| (stock.of, stock.step, stock.state, stock.count);
        stocks.into_iter().map(row).collect::<Vec<_>>()
    };
    let step = |step: &str, state: &str| ("step".to_owned(), step.to_owned(), state.to_owned(), 1);
    let states =
        [step("permanent_residence", "open"), step("birth_registration", "done"), step("health_insurance", "done")];
    for tier in [&commune, &district, &province, &centre] {
        assert_eq!(stocks(tier).await, states);
    }
    let unknown = commune.stocks(&statistics, "99999", days).await.unwrap_err();
    assert!(matches!(unknown, Error::Refused { code: Code::NotFound, .. }), "{unknown}");

    // Nobody sees the list of a unit that is not his; and what was shown of the dossier is in the log.
    let elsewhere = country.site_client(WAY[2], Role::Registrar, COMMUNE);
    let of_district = WorkQuery { unit: WAY[2].to_owned(), ..WorkQuery::default() };
    let denied = listed(&elsewhere, of_district).await.unwrap_err();
    assert!(matches!(denied, Error::Refused { .. }), "{denied}");
    let auditor = country.site_client(COMMUNE, Role::Auditor, COMMUNE);
    let inspection = Context::parse("inspection", "TT-1").unwrap();
    let status = commune.status(&working()).await.unwrap();
    let log = auditor.access_log(&inspection, status.groups[0].group.parse().unwrap(), 1).await.unwrap();
    let has = |looked: &str, target: &str| log.entries.iter().any(|one| one.looked == looked && one.target == target);
    assert!(has("work", "") && has("shown", &dossier.to_string()) && has("dossiers", &child.to_string()));
}
