//! A site whose groups are on different nodes: a node that does not run a group says that of its records it cannot know,
//! and who can.

use std::time::Duration;

use dinhba_client::tls::{TlsDialer, named, node_name};
use dinhba_client::transport::{Dial, Line};
use dinhba_client::{Client, Context, Error, Find, Limits};
use dinhba_core::claims::Role;
use dinhba_core::ids::{GroupId, RecordId};
use dinhba_proto::v1;
use dinhba_proto::v1::records_client::RecordsClient;
use dinhba_tests::country::{Country, Wish, eventually, operating};
use dinhba_tests::officer::{Ledger, Officer};
use futures::StreamExt;
use tonic::Code;
use tonic_types::StatusExt;

use crate::PROGRAM;
use crate::access::log_from;

const DISTRICT: &str = "082";
const HERE: &str = "02683";
const ELSEWHERE: &str = "02686";
const WAIT: Duration = Duration::from_secs(20);

/// Asked once or twice, not for half a minute.
fn impatient(client: &Client) -> Client {
    client.with_limits(Limits { deadline: Duration::from_secs(2), ..Limits::default() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_refuses_to_say_what_is_not_there_of_groups_that_it_does_not_run() {
    let groups = vec![vec![HERE], vec![ELSEWHERE]];
    let mut country = Country::plan(PROGRAM, &[Wish { code: DISTRICT, nodes: 3, parent: None, groups }]).await;
    let ids: Vec<GroupId> = country.sites[DISTRICT].groups.iter().map(|(group, _)| *group).collect();
    let partial = country.node(DISTRICT, 2);
    let (partial_id, second) = (partial.id, ids[1]);
    country.configure(DISTRICT, |config| {
        for member in config.site.members.iter_mut().filter(|member| member.id == partial_id) {
            member.groups.retain(|group| *group != second);
        }
    });
    country.start_all();
    country.ready().await;

    let whole = country.site_client(DISTRICT, Role::Registrar, DISTRICT);
    let ledger = Ledger::default();
    let here = Officer::new(whole.clone(), country.shard(HERE), &ledger);
    let elsewhere = Officer::new(whole.clone(), country.shard(ELSEWHERE), &ledger);
    let (near, far) = (here.register("Chảo/Thị/Mẩy").await.unwrap(), elsewhere.register("Lò/Thị/Pha").await.unwrap());

    let context = Context::parse("registration", "HS-1").unwrap();
    let client = impatient(&country.client([&partial], Role::Registrar, DISTRICT));
    let others: Vec<String> = (0..2).map(|at| country.node(DISTRICT, at).id.to_string()).collect();
    let mut wrong = Vec::new();
    let mut unknown = |what: &str, outcome: Result<(), Error>| match outcome {
        Err(Error::Unreachable { text, .. }) if others.iter().any(|node| text.contains(node)) => {}
        other => wrong.push(format!("{what}: {other:?}")),
    };
    unknown("get", client.get(&context, far).await.map(drop));
    unknown("history", client.history(&context, far).await.map(drop));
    unknown("a record that is nowhere", client.get(&context, RecordId([1; 16])).await.map(drop));
    unknown("find", client.find(&context, &Find::by_name("Lò Thị Pha", "2024")).await.map(drop));
    unknown("find somebody near", client.find(&context, &Find::by_name("Chảo Thị Mẩy", "2024")).await.map(drop));
    unknown("all conflicts", client.conflicts(&context, None, &[]).await.map(drop));
    unknown("conflicts", client.conflicts(&context, Some(elsewhere.shard), &[]).await.map(drop));
    unknown("edit", client.edit(&client.session(), &elsewhere.birth("A/Thị/B")).await.map(drop));
    let pages: Vec<_> = client.export(&context, Some(elsewhere.shard)).collect().await;
    unknown("export", pages.into_iter().collect::<Result<Vec<_>, _>>().map(drop));
    let entries: Vec<_> = client.watch(&context, Some(elsewhere.shard), 1).take(1).collect().await;
    unknown("watch", entries.into_iter().collect::<Result<Vec<_>, _>>().map(drop));
    // Who may see what is elsewhere and nothing here is not told that he may not.
    let neighbour = impatient(&country.client([&partial], Role::Registrar, ELSEWHERE));
    unknown("get, by who may see nothing here", neighbour.get(&context, far).await.map(drop));
    let auditor = impatient(&country.client([&partial], Role::Auditor, DISTRICT));
    unknown("the access log", auditor.access_log(&context, second, 1).await.map(drop));
    // Nor does it change by half who the site's members are, or what they understand.
    let operator = country.client([&partial], Role::Operator, DISTRICT);
    let operator = operator.with_limits(Limits { admin: Duration::from_secs(2), ..Limits::default() });
    let new = country.new_node(DISTRICT);
    unknown("add a node", operator.add_node(&operating(), new.id, &new.address()).await.map(drop));
    unknown("promote a node", operator.promote_node(&operating(), partial_id).await.map(drop));
    unknown("remove a node", operator.remove_node(&operating(), country.node(DISTRICT, 0).id).await.map(drop));
    unknown("raise the level", operator.raise_level(&operating(), 2).await.map(drop));
    assert_eq!(wrong, Vec::<String>::new());
    let status = country.status(DISTRICT, &country.node(DISTRICT, 0)).await.unwrap();
    assert!(status.nodes.len() == 3 && status.nodes.iter().all(|node| node.present), "{:?}", status.nodes);
    assert!(status.groups.iter().all(|group| group.level == 1 && group.learners.is_empty()));

    // Who may see what one group has is told that nobody is found, by a node of both; the other group hears nothing of it.
    let nodes = [country.node(DISTRICT, 0), country.node(DISTRICT, 1)];
    let neighbour = country.client(&nodes, Role::Registrar, ELSEWHERE);
    let nobody = neighbour.find(&context, &Find::by_name("Vàng Thị Say", "1950")).await.unwrap();
    assert_eq!(nobody.records, Vec::new());
    assert_eq!(neighbour.conflicts(&context, None, &[]).await.unwrap().conflicts, Vec::new());
    let nowhere = neighbour.get(&context, RecordId([1; 16])).await.unwrap_err();
    assert!(matches!(nowhere, Error::Refused { code: Code::NotFound, .. }), "{nowhere}");
    let auditor = country.client(&nodes, Role::Auditor, DISTRICT);
    for (group, looks) in [(ids[0], 0), (second, 3)] {
        let entries = log_from(&auditor, group, 1).await;
        let of_neighbour = entries.iter().filter(|entry| entry.subject == format!("registrar.{ELSEWHERE}"));
        assert_eq!(of_neighbour.clone().count(), looks, "{:?}", of_neighbour.collect::<Vec<_>>());
        assert!(of_neighbour.clone().all(|entry| entry.allowed));
    }
    // Who may see neither is denied, and the attempt is in the logs.
    let stranger = country.client(&nodes, Role::Registrar, "00001");
    let denied = stranger.find(&context, &Find::by_name("Lò Thị Pha", "2024")).await.unwrap_err();
    assert!(matches!(denied, Error::Refused { code: Code::PermissionDenied, .. }), "{denied}");
    for group in &ids {
        let entries = log_from(&auditor, *group, 1).await;
        let attempts = entries.iter().filter(|entry| entry.subject == "registrar.00001" && !entry.allowed);
        assert_eq!(attempts.count(), 1);
    }

    // What it runs it serves.
    client.get(&context, near).await.unwrap();
    client.conflicts(&context, Some(here.shard), &[]).await.unwrap();
    client.edit(&client.session(), &here.birth("A/Thị/B")).await.unwrap();
    // A client of the whole site is served, whoever it asks first, and hears what is nowhere.
    for _ in 0..4 {
        whole.get(&context, far).await.unwrap();
        assert_eq!(whole.find(&context, &Find::by_name("Lò Thị Pha", "2024")).await.unwrap().records.len(), 1);
    }
    let nowhere = whole.get(&context, RecordId([1; 16])).await.unwrap_err();
    assert!(matches!(nowhere, Error::Refused { code: Code::NotFound, .. }), "{nowhere}");

    // As any client reads it.
    let dialer = TlsDialer::new(&country.credentials(Role::Registrar, DISTRICT));
    let line = dialer.dial(named(&node_name(partial.id), &partial.address())).await.unwrap();
    let request = v1::GetRequest {
        context: Some(v1::Context { purpose: "registration".into(), case: "HS-1".into() }),
        record: far.to_string(),
        ..v1::GetRequest::default()
    };
    let status = RecordsClient::new(Line(line)).get(request).await.unwrap_err();
    let told = status.get_error_details();
    let info = told.error_info().unwrap();
    assert_eq!((status.code(), &*info.domain, &*info.reason), (Code::Unavailable, "dinhba", "NOT_ACCEPTED"));
    assert_eq!(info.metadata.get("group"), Some(&second.to_string()));
    assert!(told.retry_info().is_some() && info.metadata["nodes"].contains(&others[0]), "{info:?}");

    // The one who knows dies: the others go on knowing what they do not know.
    for at in 0..2 {
        country.kill(country.node(DISTRICT, at).id);
    }
    eventually("it is still no refusal", WAIT, async || {
        matches!(client.get(&context, far).await, Err(Error::Unreachable { .. }))
    })
    .await;
}
