//! People are found as officers type, a page at a time; and of everybody whom an answer shows the access log says so before
//! the answer comes.

use std::collections::BTreeSet;

use dinhba_client::{Client, Context, EditBuilder, Error, Find};
use dinhba_core::claims::Role;
use dinhba_core::ids::{GroupId, RecordId};
use dinhba_core::schema::RecordKind;
use dinhba_proto::v1;
use dinhba_tests::country::{Country, site};
use dinhba_tests::officer::{Ledger, Officer};
use futures::{StreamExt, TryStreamExt};
use tonic::Code;

use crate::PROGRAM;
use crate::access::log_from;

const DISTRICT: &str = "082";
const COMMUNE: &str = "02683";
const NEIGHBOUR: &str = "02686";

/// A case of its own for each question, with letters that papers have: the log is searched by it.
fn context(case: &str) -> Context {
    Context::parse("verification", case).unwrap()
}

fn ids(records: &[v1::Record]) -> Vec<String> {
    records.iter().map(|record| record.id.clone()).collect()
}

/// What the log has under a case: the kinds of looks, and the targets of those of one kind.
async fn looks(auditor: &Client, group: GroupId, case: &str) -> Vec<(String, String)> {
    let entries = log_from(auditor, group, 1).await;
    let of_case = entries.into_iter().filter(|entry| entry.case == case && entry.allowed);
    of_case.map(|entry| (entry.looked, entry.target)).collect()
}

fn targets(looks: &[(String, String)], kind: &str) -> BTreeSet<String> {
    looks.iter().filter(|(looked, _)| looked == kind).map(|(_, target)| target.clone()).collect()
}

async fn register(officer: &Officer, fields: &[(&str, &str, &str)]) -> RecordId {
    let mut edit = EditBuilder::new(&officer.context);
    edit.shard(officer.shard);
    let part = edit.create(RecordKind::Person);
    for (field, element, value) in fields {
        edit.set(part, field, element, value);
    }
    officer.send(&edit).await.unwrap().records[0]
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Error>, code: Code, words: &str) {
    match answer {
        Err(Error::Refused { code: found, text, .. }) if found == code => assert!(text.contains(words), "{text}"),
        other => panic!("{code:?} was expected, with {words:?}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_of_one_name_are_paged_narrowed_and_logged_one_by_one() {
    let country = Country::start(PROGRAM, &[site(DISTRICT, 1, None, &[COMMUNE, NEIGHBOUR])]).await;
    let ledger = Ledger::default();
    let officer_at = |commune| {
        Officer::new(country.site_client(DISTRICT, Role::Registrar, DISTRICT), country.shard(commune), &ledger)
    };
    let (here, there) = (officer_at(COMMUNE), officer_at(NEIGHBOUR));
    let auditor = country.site_client(DISTRICT, Role::Auditor, DISTRICT);
    let group = country.sites[DISTRICT].groups[0].0;
    let mut all = BTreeSet::new();
    for number in 0..60 {
        let born = ["1990-03-08", "1990-03", "1990", "1991"][number % 4];
        let officer = if number < 57 { &here } else { &there };
        let mother = format!("name=Trần Thị {}", ["Mận", "Đào", "Lê"][number % 3]);
        let fields = [("name", "", "Nguyễn/Thị/Lan"), ("birth_date", "", born), ("relative", "mẹ", &mother)];
        all.insert(register(officer, &fields).await.to_string());
    }
    register(&here, &[("name", "", "Nguyễn/Thị/Mai"), ("birth_date", "", "1990")]).await;

    // Two pages, of everybody once; each of them logged, and each person on it.
    let mut find = Find::by_name("thị lan", "1990-1991");
    let first = here.client.find(&context("Trang/Đầu"), &find).await.unwrap();
    assert_eq!((first.records.len(), first.next.is_empty()), (50, false));
    let logged = looks(&auditor, group, "Trang/Đầu").await;
    assert_eq!(logged[0].0, "find");
    assert_eq!(logged.len(), 51);
    assert_eq!(targets(&logged, "shown"), ids(&first.records).into_iter().collect());
    find.after = first.next.clone();
    let second = here.client.find(&context("TRANG-2"), &find).await.unwrap();
    assert_eq!((second.records.len(), second.next.len()), (10, 0));
    let logged_again = looks(&auditor, group, "TRANG-2").await;
    assert_eq!(logged_again[0], logged[0], "the same search has the same hash, and no word of it");
    assert_eq!(targets(&logged_again, "shown"), ids(&second.records).into_iter().collect());
    let seen: BTreeSet<String> = ids(&first.records).into_iter().chain(ids(&second.records)).collect();
    assert_eq!(seen, all);

    // A mark goes on with its own question only.
    let other = Find { after: first.next.clone(), ..Find::by_name("lan", "1990") };
    refused(here.client.find(&context("KHAC"), &other).await, Code::InvalidArgument, "next");

    // Fewer: by day, by commune, by mother, by both.
    let find = |born: &str, unit: &str, mother: &str| Find {
        unit: unit.into(),
        mother: mother.into(),
        ..Find::by_name("LAN nguyen thi", born)
    };
    for (case, find, count) in [
        ("NGAY", find("08/03/1990", "", ""), 45),
        ("NGAY-KHAC", find("9.3.1990", "", ""), 30),
        ("XA", find("1990..1991", NEIGHBOUR, ""), 3),
        ("XA-NGAY", find("1990..1991", &format!("{NEIGHBOUR}@30/06/2025"), ""), 3),
        ("ME", find("1990..1991", "", "mận"), 20),
        ("ME-XA", find("1990..1991", NEIGHBOUR, "tran thi dao"), 1),
        ("KHONG", find("1989", "", ""), 0),
    ] {
        let found = here.client.find(&context(case), &find).await.unwrap();
        assert_eq!((found.records.len(), found.next.len()), (count, 0), "{case}");
        let logged = looks(&auditor, group, case).await;
        assert_eq!(targets(&logged, "shown"), ids(&found.records).into_iter().collect(), "{case}");
    }
    refused(here.client.find(&context("X"), &find("1990", "99999", "")).await, Code::NotFound, "unit");
    refused(here.client.find(&context("X"), &find("1985..1991", "", "")).await, Code::InvalidArgument, "5 years");
    refused(here.client.find(&context("X"), &Find::by_name("lan", "")).await, Code::InvalidArgument, "birth");

    // A family name is not asked for, and a neighbour sees their own alone.
    let family = here.client.find(&context("HO"), &Find::by_name("nguyễn", "1990")).await.unwrap();
    assert_eq!(family.records, []);
    let neighbour = country.site_client(DISTRICT, Role::Registrar, NEIGHBOUR);
    let found = neighbour.find(&context("BEN"), &Find::by_name("lan", "1990..1991")).await.unwrap();
    assert_eq!(found.records.len(), 3);
    assert_eq!(looks(&auditor, group, "BEN").await.len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_lives_together_is_shown_and_whatever_shows_somebody_is_logged() {
    let country = Country::start(PROGRAM, &[site(COMMUNE, 1, None, &[COMMUNE])]).await;
    let officer = Officer::new(
        country.site_client(COMMUNE, Role::Registrar, COMMUNE),
        country.shard(COMMUNE),
        &Ledger::default(),
    );
    let auditor = country.site_client(COMMUNE, Role::Auditor, COMMUNE);
    let group = country.sites[COMMUNE].groups[0].0;
    let client = &officer.client;

    // A household of three, of which one is head of another one too.
    let mut edit = EditBuilder::new(&officer.context);
    edit.shard(officer.shard);
    let household = edit.create(RecordKind::Household);
    edit.set(household, "head", "", "@1");
    for name in ["Lò/Văn/Ún", "Lò/Thị/Ọi", "//H’Hen Niê"] {
        let part = edit.create(RecordKind::Person);
        edit.set(part, "name", "", name).set(part, "birth_date", "", "1990").set(part, "household", "", "@0");
    }
    let accepted = officer.send(&edit).await.unwrap();
    let [household, head, wife, third] = accepted.records[..] else { panic!("{accepted:?}") };
    let mut edit = EditBuilder::new(&officer.context);
    edit.shard(officer.shard);
    let part = edit.create(RecordKind::Household);
    edit.set(part, "head", "", &head.to_string());
    let second = officer.send(&edit).await.unwrap().records[0];

    let text = |ids: &[RecordId]| ids.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    let members = client.members(&context("HO-1"), household, &[]).await.unwrap();
    assert_eq!(ids(&members.records).into_iter().collect::<BTreeSet<_>>(), text(&[head, wife, third]));
    let logged = looks(&auditor, group, "HO-1").await;
    assert_eq!(targets(&logged, "members"), text(&[household]));
    assert_eq!(targets(&logged, "shown"), text(&[head, wife, third]));
    let households = client.households(&context("HO-2"), head, &[]).await.unwrap();
    assert_eq!(ids(&households.records), [household.to_string(), second.to_string()]);
    let logged = looks(&auditor, group, "HO-2").await;
    assert_eq!(
        (targets(&logged, "households"), targets(&logged, "shown")),
        (text(&[head]), text(&[household, second]))
    );
    assert_eq!(client.households(&context("HO-3"), wife, &[]).await.unwrap().records.len(), 1);
    refused(client.members(&context("HO-4"), wife, &[]).await, Code::InvalidArgument, "person");
    refused(client.households(&context("HO-4"), household, &[]).await, Code::InvalidArgument, "household");
    refused(client.members(&context("HO-4"), RecordId([9; 16]), &[]).await, Code::NotFound, "no record");
    officer.write(third, "household", "", "").await.unwrap();
    assert_eq!(client.members(&context("HO-5"), household, &[]).await.unwrap().records.len(), 2, "one has moved out");

    for typed in ["h'hen niê", "H‘Hen", "hhen nie", "hen", "niê h hen"] {
        let found = client.find(&context("TEN"), &Find::by_name(typed, "1990")).await.unwrap();
        assert_eq!(ids(&found.records), [third.to_string()], "{typed}");
    }

    // A refusal that says what moved, and shows nothing: no look.
    let seen = officer.read(wife).await.unwrap();
    officer.write(wife, "name", "", "Lò/Thị/Oi").await.unwrap();
    let mut stale = EditBuilder::new(&context("CU"));
    let part = stale.change(&seen);
    stale.set(part, "name", "", "Lò/Thị/Ơi");
    let Err(Error::Stale(told)) = client.edit(&client.session(), &stale).await else { panic!("not stale") };
    assert_eq!((told.record.as_str(), told.fields[0].field.as_str()), (&*wife.to_string(), "name"));
    assert_eq!(looks(&auditor, group, "CU").await, []);

    // The change feed.
    let fed: Vec<v1::Entry> =
        client.watch(&context("THEO"), Some(officer.shard), 1).take(7).try_collect().await.unwrap();
    let fed: BTreeSet<String> = fed.into_iter().map(|entry| entry.record).collect();
    let logged = looks(&auditor, group, "THEO").await;
    assert_eq!(logged[0], ("watch".to_owned(), String::new()));
    assert_eq!(targets(&logged[1..], "watch"), fed);
}
