//! Personal numbers. Blocks come down the tree by themselves; a commune whose line is cut gives its numbers to the children that are
//! born there, also after its only node was killed, and another one far from it never gives the same. Whoever is born when there are
//! none left waits, and has one when the line is back.

use std::collections::BTreeSet;
use std::time::Duration;

use dinhba_client::event::{Birth, EventBuilder};
use dinhba_client::{Client, Context};
use dinhba_core::claims::Role;
use dinhba_core::event::Event;
use dinhba_core::number::{PersonNumber, Sex};
use dinhba_proto::v1;
use dinhba_tests::country::{Country, eventually, site};
use dinhba_tests::evidence::{agree, in_step};

use crate::PROGRAM;

const HOMES: [&str; 2] = ["02683", "02752"];
const WAIT: Duration = Duration::from_secs(60);

async fn ledger(client: &Client) -> v1::NumbersReply {
    client.numbers(&Context::parse("statistics", "TK-1").unwrap(), "", None).await.unwrap()
}

/// Numbers of girls of this year that a commune has left.
async fn left(client: &Client, year: u16) -> u32 {
    let girls = |series: &str| {
        series
            .parse()
            .is_ok_and(|series: dinhba_core::number::Series| series.sex() == Sex::Female && series.birth_year() == year)
    };
    let reply = ledger(client).await;
    reply.units.iter().flat_map(|unit| &unit.left).filter(|left| girls(&left.series)).map(|left| left.left).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_is_born_far_from_the_line_has_a_number_that_nobody_else_has() {
    let sites = [
        site("00", 1, None, &HOMES),
        site("10", 1, Some("00"), &HOMES),
        site("082", 1, Some("10"), &HOMES[..1]),
        site("083", 1, Some("10"), &HOMES[1..]),
        site(HOMES[0], 1, Some("082"), &HOMES[..1]),
        site(HOMES[1], 1, Some("083"), &HOMES[1..]),
    ];
    let mut country = Country::start(PROGRAM, &sites).await;
    let context = Context::parse("registration", "HS-2026/1").unwrap();
    let today = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let today = dinhba_core::date::InstantMs(i64::try_from(today).unwrap()).date_in_vietnam();
    let born = |name: &str| {
        let day = today.to_string().parse().unwrap();
        Birth::of(name, Sex::Female, day).nationality("VN").build(&context)
    };
    let mut given: BTreeSet<PersonNumber> = BTreeSet::new();
    for (before, home) in (77..).zip(HOMES) {
        let client = country.site_client(home, Role::Registrar, home);
        eventually("blocks come down", WAIT, async || left(&client, today.year()).await > 0).await;
        country.sites[home].line.cut();
        let mut ahead = left(&client, today.year()).await;
        while ahead > 0 {
            let child = client.file(&client.session(), &born("Giàng Thị Mỷ")).await.unwrap();
            assert!(given.insert(child.number.expect("there are numbers left")), "given twice");
            ahead -= 1;
            if ahead == 5 {
                let node = country.node(home, 0);
                country.kill(node.id);
                country.start_node(&node);
                country.site_ready(home).await;
            }
        }
        let last = client.file(&client.session(), &born("Vàng Thị Súa")).await.unwrap();
        assert_eq!(last.number, None, "none is left, and none is made up");
        assert_eq!(ledger(&client).await.units[0].waiting, 1);
        // One of another office, or of nobody yet; and one that was given before there were blocks.
        let series = given.first().unwrap().series();
        for (serial, is_taken) in [(given.first().unwrap().serial(), false), (999_999, false), (before, true)] {
            let number = series.number(serial).unwrap();
            let mut typed = born("Lý Thị Pà");
            typed.set_of(0, "number", &number.to_string());
            let answer = client.file(&client.session(), &typed).await;
            let is_given = answer.is_ok_and(|accepted| accepted.number == Some(number));
            assert_eq!(is_given, is_taken, "{serial}");
        }

        country.sites[home].line.mend();
        eventually("nobody waits", WAIT, async || ledger(&client).await.units[0].waiting == 0).await;
        let waited = client.get(&context, last.records[0]).await.unwrap();
        let number = dinhba_tests::officer::values(&waited, "personal_number")[0].parse().unwrap();
        assert!(given.insert(number), "given twice");
        // Her number was wrong, and another one is given for it: by a decision, and not typed in.
        let wrong = given.first().unwrap().to_owned();
        for event in [Event::NumberCancelled, Event::NumberReestablished] {
            eventually("the event is filed", WAIT, async || {
                let read = client.get(&context, last.records[0]).await.unwrap();
                let mut filed = EventBuilder::new(&context, event);
                filed.about("person", &read);
                filed.grounds("Quyết định 9/QĐ-UBND");
                if event == Event::NumberCancelled {
                    filed.set("reason", "wrongly_collected");
                }
                client.file(&client.session(), &filed).await.is_ok_and(|accepted| {
                    let number = accepted.number;
                    event == Event::NumberCancelled
                        || (number.is_some_and(|number| given.insert(number)) && number != Some(wrong))
                })
            })
            .await;
        }
        let shard = country.shard(home);
        in_step(&country, home, shard).await;
        let way = if home == HOMES[0] { ["00", "10", "082", home] } else { ["00", "10", "083", home] };
        agree(&country, &way, shard).await;
    }
    let centre = country.site_client("00", Role::Registrar, "00");
    let ledger = ledger(&centre).await;
    assert!(ledger.series.iter().all(|series| series.complete && series.total == 1_000_000), "{ledger:?}");
    // Of each number the centre tells the whole way; of one that nobody was granted that it is free.
    let counting = Context::parse("statistics", "TK-1").unwrap();
    for number in &given {
        let way = centre.way_of_number(&counting, *number).await.unwrap();
        let steps: Vec<(&str, &str)> =
            way.grants.iter().map(|grant| (grant.by_code.as_str(), grant.to_code.as_str())).collect();
        assert_eq!((way.state.as_str(), steps.len(), steps[0]), ("assigned", 3, ("00", "10")), "{way:?}");
    }
    let never = given.first().unwrap().series().number(999_999).unwrap();
    let way = centre.way_of_number(&counting, never).await.unwrap();
    assert_eq!((way.state.as_str(), way.grants.len()), ("free", 0), "{way:?}");
    let assigned: u64 = ledger.series.iter().map(|series| series.assigned).sum();
    assert_eq!(assigned, given.len() as u64, "{ledger:?}");
    assert!(ledger.series.iter().all(|series| series.void == 0));
}
