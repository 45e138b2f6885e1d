//! The programs in `client/examples`, as somebody runs them who begins with them: a counter, a clerk, a reader of statistics.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dinhba_client::tls::{named, node_name};
use dinhba_core::claims::Role;
use dinhba_tests::country::{Country, site};
use dinhba_tests::evidence::in_step;
use dinhba_tests::officer::{Ledger, Officer};

use crate::PROGRAM;

const DISTRICT: &str = "082";
const COMMUNE: &str = "02683";

/// Where a build of the whole workspace puts them.
fn program(name: &str) -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let program = here.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(program.exists(), "{} is not built: `cargo build -p dinhba-client --examples`", program.display());
    program
}

fn run(country: &Country, (at, role): (&str, Role), name: &str, words: &[&str]) -> Output {
    let nodes = country.sites[at].nodes.iter().map(|node| named(&node_name(node.id), &node.address()));
    let [ca, ..] = country.identity(role, at);
    Command::new(program(name))
        .args(words)
        .env("DINHBA_NODE", nodes.collect::<Vec<_>>().join(","))
        .env("DINHBA_IDENTITY", ca.parent().unwrap_or(Path::new(".")))
        .output()
        .unwrap()
}

fn says(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_of_the_sdk_do_what_they_say() {
    let sites = [site(DISTRICT, 1, None, &[COMMUNE]), site(COMMUNE, 1, Some(DISTRICT), &[COMMUNE])];
    let country = Country::start(PROGRAM, &sites).await;
    let shard = country.shard(COMMUNE);
    in_step(&country, COMMUNE, shard).await;

    let counter = (COMMUNE, Role::Registrar);
    let born = says(&run(&country, counter, "registration_counter", &["Giàng Thị Mỷ", "female", "2026-06-01"]));
    assert!(born.starts_with("registered Giàng Thị Mỷ as r-"), "{born}");
    assert!(born.contains("the district holds it"), "{born}");
    let refused = run(&country, counter, "registration_counter", &["Giàng Thị Mỷ", "female", "2126-06-01"]);
    assert!(!refused.status.success() && refused.stdout.is_empty(), "a birth to come");

    // A grave change of one officer is confirmed by another one.
    let officer = Officer::new(country.site_client(COMMUNE, Role::Registrar, COMMUNE), shard, &Ledger::default());
    let record = officer.register("Vàng/A/Páo").await.unwrap();
    officer.write(record, "birth_date", "", "2024-05-07").await.unwrap();
    in_step(&country, COMMUNE, shard).await;
    let clerk = (DISTRICT, Role::Registrar);
    let list = says(&run(&country, clerk, "work_list_clerk", &[]));
    assert!(list.contains("1 edits wait") && list.contains(&record.to_string()), "{list}");
    // It shows at the unit above its author's from its first day on: he may be alone in his office.
    assert!(list.contains("1 things are to be done") && list.contains("second-person until"), "{list}");
    let done = says(&run(&country, clerk, "work_list_clerk", &[&record.to_string()]));
    assert!(done.contains(&format!("confirmed {record}")), "{done}");
    assert!(says(&run(&country, clerk, "work_list_clerk", &[])).contains("0 edits wait"));

    let statistics = says(&run(&country, counter, "statistics_reader", &["2026-01-01", "2099-12-31"]));
    assert!(statistics.contains("1 births, 0 deaths"), "{statistics}");
}
