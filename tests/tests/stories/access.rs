//! Who may read what, and what is kept of it. Every node answers linearizably while the lead changes; each answer is in the
//! access log before it is given; and nobody sees what lies outside their unit or their role.

use dinhba_client::{Client, Context, Error, Find};
use dinhba_core::claims::Role;
use dinhba_core::ids::GroupId;
use dinhba_proto::v1;
use dinhba_tests::country::{Country, operating, site};
use dinhba_tests::officer::{Ledger, Officer, values};
use futures::StreamExt;
use tonic::Code;

use crate::PROGRAM;

const COMMUNE: &str = "02683";
const NEIGHBOUR: &str = "02686";
const ROUNDS: usize = 30;

fn auditing() -> Context {
    Context::parse("inspection", "TTRA-1").unwrap()
}

/// The access log of a group, from an entry on.
pub async fn log_from(client: &Client, group: GroupId, from: u64) -> Vec<v1::Access> {
    let mut entries: Vec<v1::Access> = Vec::new();
    let mut next = from;
    loop {
        let page = client.access_log(&auditing(), group, next).await.unwrap();
        let Some(last) = page.entries.last() else { return entries };
        next = last.number + 1;
        let is_last = last.number == page.count;
        if is_last {
            assert_eq!(last.hash, page.head, "the head of the log is the hash of its last entry");
        }
        entries.extend(page.entries);
        if is_last {
            return entries;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_answers_with_the_latest_and_only_after_the_read_is_logged() {
    let country = Country::start(PROGRAM, &[site(COMMUNE, 3, None, &[COMMUNE])]).await;
    let (shard, ledger) = (country.shard(COMMUNE), Ledger::default());
    let nodes = country.sites[COMMUNE].nodes.clone();
    let group = country.sites[COMMUNE].groups[0].0;
    let officers: Vec<Officer> = nodes
        .iter()
        .map(|node| Officer::new(country.client([node], Role::Registrar, COMMUNE), shard, &ledger))
        .collect();
    let operator = country.site_client(COMMUNE, Role::Operator, COMMUNE);
    let auditor = country.site_client(COMMUNE, Role::Auditor, COMMUNE);
    let record = officers[0].register("Lò/Thị/Tẩn").await.unwrap();
    let mut logged = log_from(&auditor, group, 1).await.len() as u64;
    for round in 0..ROUNDS {
        if round % 5 == 4 {
            let next = nodes[(country.leader(COMMUNE).await + 1) % 3].id;
            operator.transfer_leader(&operating(), group, next).await.unwrap();
        }
        let (writer, reader) = (&officers[round % 3], &officers[(round + 1 + round / 3 % 2) % 3]);
        let note = format!("round {round}");
        writer.write(record, "note", "", &note).await.unwrap();
        let case = format!("DOC-{round}");
        let context = Context::parse("verification", &case).unwrap();
        let seen = reader.client.get(&context, record).await.unwrap();
        assert_eq!(values(&seen, "note"), [note], "round {round}: an old value was read at another node");
        let new = log_from(&auditor, group, logged + 1).await;
        assert_eq!(new.first().map(|entry| entry.number), Some(logged + 1));
        logged = new.last().map_or(logged, |entry| entry.number);
        let of_case: Vec<_> = new.iter().filter(|entry| entry.case == case).collect();
        assert!(!of_case.is_empty(), "round {round}: the answer came, and the log does not have the read");
        for entry in of_case {
            let said = (entry.looked.as_str(), entry.subject.as_str(), entry.role.as_str(), entry.allowed);
            assert_eq!(said, ("record", "registrar.02683", "registrar", true));
            assert_eq!((entry.target.clone(), entry.purpose.as_str()), (record.to_string(), "verification"));
        }
    }
    // One chain, the same at every node; the reading of the log is in it too.
    let mut chains = Vec::new();
    for node in &nodes {
        let entries = log_from(&country.client([node], Role::Auditor, COMMUNE), group, 1).await;
        assert!(entries.iter().zip(1..).all(|(entry, number)| entry.number == number), "numbers without gaps");
        chains.push(entries);
    }
    let shortest = chains[0].len();
    assert!(chains.iter().all(|chain| chain.len() >= shortest && chain[..shortest] == chains[0]));
    assert!(chains[2].iter().any(|entry| entry.looked == "access_log" || entry.looked == "access-log"));
}

fn denied<T: std::fmt::Debug>(what: &str, answer: Result<T, Error>, wrong: &mut Vec<String>) {
    match answer {
        Err(Error::Refused { code: Code::PermissionDenied, .. }) => {}
        other => wrong.push(format!("{what}: {other:?}")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_sees_what_lies_outside_their_role_and_their_unit() {
    let district = "082";
    let country = Country::start(PROGRAM, &[site(district, 1, None, &[COMMUNE, NEIGHBOUR])]).await;
    let (shard, ledger) = (country.shard(COMMUNE), Ledger::default());
    let officer = Officer::new(country.site_client(district, Role::Registrar, COMMUNE), shard, &ledger);
    let record = officer.register("Lò/Thị/Tẩn").await.unwrap();
    let group = country.sites[district].groups[0].0;
    let context = Context::parse("verification", "DOC-X").unwrap();
    let mut wrong = Vec::new();

    let neighbour = country.site_client(district, Role::Registrar, NEIGHBOUR);
    let operator = country.site_client(district, Role::Operator, district);
    let below = country.site_client(district, Role::Operator, COMMUNE);
    let auditor = country.site_client(district, Role::Auditor, district);
    for (who, client) in [("a neighbour", &neighbour), ("an operator", &operator), ("an auditor", &auditor)] {
        denied(&format!("{who} gets"), client.get(&context, record).await, &mut wrong);
        if who != "an auditor" {
            denied(&format!("{who} reads history"), client.history(&context, record).await, &mut wrong);
        }
        denied(&format!("{who} edits"), client.edit(&client.session(), &officer.birth("A/Thị/B")).await, &mut wrong);
        let exported = client.export(&context, Some(shard)).collect::<Vec<_>>().await;
        denied(&format!("{who} exports"), exported.into_iter().collect::<Result<Vec<_>, _>>(), &mut wrong);
        let watched = client.watch(&context, Some(shard), 1).take(1).collect::<Vec<_>>().await;
        denied(&format!("{who} watches"), watched.into_iter().collect::<Result<Vec<_>, _>>(), &mut wrong);
        let conflicts = client.conflicts(&context, Some(shard), &[]).await;
        if !conflicts.as_ref().is_ok_and(|reply| reply.conflicts.is_empty()) {
            denied(&format!("{who} lists conflicts"), conflicts, &mut wrong);
        }
        // A search may end in nothing, as if nobody were there; or in a refusal.
        let found = client.find(&context, &Find::by_name("lo thi tan", "2024")).await;
        if !found.as_ref().is_ok_and(|reply| reply.records.is_empty()) {
            denied(&format!("{who} finds"), found, &mut wrong);
        }
    }
    for (who, client) in [("a registrar", &officer.client), ("an operator", &operator), ("a neighbour", &neighbour)] {
        denied(&format!("{who} reads the access log"), client.access_log(&context, group, 1).await, &mut wrong);
    }
    for (who, client) in [("a registrar", &officer.client), ("an auditor", &auditor), ("an operator below", &below)] {
        denied(&format!("{who} administers"), client.snapshot(&operating()).await, &mut wrong);
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(officer.client.find(&context, &Find::by_name("lo thi tan", "2024")).await.unwrap().records.len(), 1);
    officer.write(record, "personal_number", "", "010324000001").await.unwrap();
    for number in ["010324000001", "010 324 000001"] {
        assert_eq!(officer.client.find(&context, &Find::by_number(number)).await.unwrap().records.len(), 1, "{number}");
    }

    // What was refused is in the log as well.
    let entries = log_from(&auditor, group, 1).await;
    for subject in ["registrar.02686", "operator.082", "auditor.082"] {
        let refused =
            entries.iter().filter(|entry| entry.subject == subject && !entry.allowed && entry.looked == "record");
        assert_eq!(refused.count(), 1, "the refused read of {subject}");
    }
    // A refusal tells nothing: no record, and a record that is not theirs, look alike to the neighbour.
    let nobody = "r-00000000000000000000000000000001".parse().unwrap();
    let (theirs, none) = (neighbour.get(&context, record).await, neighbour.get(&context, nobody).await);
    eprintln!("to a neighbour: {theirs:?} / {none:?}");
}
