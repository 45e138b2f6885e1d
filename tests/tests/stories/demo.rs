//! The demonstration keeps its promises, and would say so if it did not.

use std::time::{Duration, Instant};

use serde_json::Value as Json;
use tokio::process::Command;

use crate::PROGRAM;

/// A demonstration that hangs is broken.
const DEMO_WAIT: Duration = Duration::from_secs(150);
/// The fewest that it takes.
const PERSONS: &str = "1000";

/// Its exit code and its facts.
async fn demo(fault: Option<&str>) -> (Option<i32>, Json) {
    let began = Instant::now();
    // It keeps what it made if a promise was broken; the story does not.
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["demo", "--exit", "--json", "--quiet", "--persons", PERSONS, "--dir"]).arg(dir.path());
    command.kill_on_drop(true);
    if let Some(fault) = fault {
        command.env("DINHBA_FAULT", fault);
    }
    let output = tokio::time::timeout(DEMO_WAIT, command.output()).await.expect("the demonstration ends").unwrap();
    let facts = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {} {}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    });
    eprintln!("{fault:?}: {:?} after {:?}", output.status.code(), began.elapsed());
    (output.status.code(), facts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demonstration_loses_nothing_and_notices_a_lost_edit() {
    let (code, facts) = demo(None).await;
    assert_eq!((code, &facts["lost"], &facts["ok"]), (Some(0), &0.into(), &true.into()), "{facts}");
    // A node that acknowledges an edit and forgets it.
    let (code, facts) = demo(Some("drop-edit")).await;
    assert!(code.is_some_and(|code| code != 0), "a swallowed edit went unnoticed: {facts}");
    assert!(facts["lost"].as_u64().is_some_and(|lost| lost > 0), "{facts}");
}
