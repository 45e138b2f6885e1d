//! The README's commands, as they stand there: whoever copies them sees what it says.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use dinhba_tests::country::eventually;
use tokio::process::Command;

use crate::PROGRAM;

const README: &str = include_str!("../../../README.md");
/// What the demonstration takes on a busy machine.
const DEMO_WAIT: Duration = Duration::from_secs(150);
/// What the commands take after it.
const TOUR_WAIT: Duration = Duration::from_secs(90);

/// The shell blocks between two headings, one after the other.
fn commands(from: &str, to: &str) -> String {
    let start = README.find(from).expect("the heading");
    let section = &README[start..start + README[start..].find(to).expect("the next heading")];
    let blocks = section.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap_or_default());
    blocks.collect()
}

/// Runs a script in a directory in which the program is where a build puts it; tells of each command that fails.
async fn run(dir: &Path, script: &str) -> (Output, Vec<String>) {
    fs::create_dir_all(dir.join("target/release")).unwrap();
    symlink(PROGRAM, dir.join("target/release/dinhba")).unwrap();
    let script = format!(
        "export PATH=$PWD/target/release:$PATH\ntrap 'echo \"FAILED $? $BASH_COMMAND\" >&2' ERR\n{script}\n\
         trap - ERR\nkill $(jobs -p) 2>/dev/null\nwait\n"
    );
    let child = Command::new("bash")
        .args(["-c", &script])
        .current_dir(dir)
        .env_remove("DINHBA_NODE")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(TOUR_WAIT, child).await.expect("the commands end").unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let failed = said.lines().filter_map(|line| line.strip_prefix("FAILED ")).map(str::to_owned).collect();
    (output, failed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_tour_goes_as_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let began = Instant::now();
    // Fewer people than the README has: this is not about them.
    let mut demo = Command::new(PROGRAM);
    demo.args(["demo", "--quiet", "--persons", "1000", "--dir"]).arg(dir.path().join("country"));
    let log = dir.path().join("demo.out");
    demo.stdin(Stdio::null()).stdout(fs::File::create(&log).unwrap()).kill_on_drop(true);
    let mut demo = demo.spawn().unwrap();
    eventually("the country stays up", DEMO_WAIT, async || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("The country stays up"))
    })
    .await;
    eprintln!("the demonstration took {:?}", began.elapsed());

    let tour = commands("## A first tour", "### Exit codes").replace("cargo run --release -- demo --dir country\n", "");
    let (output, failed) = run(dir.path(), &tour).await;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(failed.len(), 1, "{failed:?}\n{out}\n{err}");
    assert!(failed[0].starts_with("3 ") && failed[0].contains("operator-02683"), "{failed:?}");
    for words in [
        "Nguyễn Thị Lan",
        "PENDING UP",
        "0 accepted, 70 already there",
        "because as in the birth register of 1990",
        "denied",
        "Xã Bát Xát",
        "family/middle/given",
    ] {
        assert!(out.contains(words), "{words} is not in\n{out}\n{err}");
    }
    assert!(out.contains("70 accepted, 0 already there, 0 refused, 0 bad"), "{out}");

    // A node that somebody ends is not left among the processes, and none is when the demonstration ends.
    let nodes: Vec<u32> = fs::read_dir(dir.path().join("country/nodes"))
        .unwrap()
        .filter_map(|node| fs::read_to_string(node.unwrap().path().join("data/lock")).ok()?.trim().parse().ok())
        .collect();
    assert_eq!(nodes.len(), 16);
    let is_there = |node: &u32| Path::new(&format!("/proc/{node}")).exists();
    let signal = |process: u32, signal| {
        let process = rustix::process::Pid::from_raw(process.try_into().unwrap()).unwrap();
        rustix::process::kill_process(process, signal).unwrap();
    };
    assert!(nodes.iter().all(is_there));
    signal(nodes[0], rustix::process::Signal::KILL);
    eventually("the dead are buried", Duration::from_secs(10), async || !is_there(&nodes[0])).await;
    signal(demo.id().unwrap(), rustix::process::Signal::TERM);
    assert!(demo.wait().await.unwrap().success());
    assert_eq!(nodes.iter().filter(|node| is_there(node)).count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_of_ones_own_is_set_up_from_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let script = commands("## Running a site of your own", "**Adding and removing nodes.**");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let wait = "until dinhba status --node 127.0.0.1:7400 --identity lan --purpose registration --case 1 >/dev/null; \
                do sleep 0.5; done\n";
    assert!(script.contains("sleep 3\n"));
    let script = script.replace("sleep 3\n", wait).replace("7400", &port.to_string());
    let (output, failed) = run(dir.path(), &script).await;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(failed, Vec::<String>::new(), "{out}\n{err}");
    assert!(out.contains("Phường Cốc Lếu") && out.contains("u-d3e3493909ea6b7b"), "{out}\n{err}");
}
