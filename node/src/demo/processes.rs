//! The processes of the country's nodes: started, killed, restarted, ended.
//!
//! Promises: no child outlives the demonstration, and none that has ended stays in the list of processes. It ends them with SIGTERM, and with SIGKILL those that do not follow in
//! time; if the demonstration itself is killed, each child sees its standard input close (`--end-with-stdin`) and ends.
//! Children are in process groups of their own, so that Ctrl-C reaches the demonstration alone, which then ends them in
//! order. Their output goes to a file each, `node.log`.
//! Leaves to others: whether a node works (`watch`).

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use dinhba_core::ids::NodeId;
use futures::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin, Command};

use super::layout::NodePlan;
use crate::runtime::timeout;

/// How long a node may take to end: its last flush, and what it waits for open connections.
const END_WAIT: Duration = Duration::from_secs(5);
/// Lines at the end of a log that are shown when something went wrong.
const TAIL_LINES: usize = 6;
/// Of a longer line, the beginning.
const LINE_CHARS_MAX: usize = 240;
/// What a node says when somebody else has its port.
const PORT_TAKEN: &str = "cannot listen at";

struct Running {
    child: Child,
    /// Held open: the child ends when it closes.
    _stdin: Option<ChildStdin>,
}

/// The nodes' processes.
#[derive(Default)]
pub struct Processes {
    running: BTreeMap<NodeId, Running>,
}

impl Processes {
    /// Starts a node.
    pub fn start(&mut self, node: &NodePlan) -> Result<()> {
        let program = std::env::current_exe().context("this program's own path")?;
        let log = OpenOptions::new().create(true).append(true).open(node.log())?;
        let mut child = Command::new(program)
            .args(["node", "--end-with-stdin", "--config"])
            .arg(node.config())
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting node {}", node.id))?;
        let stdin = child.stdin.take();
        self.running.insert(node.id, Running { child, _stdin: stdin });
        Ok(())
    }

    /// Kills a node without a warning, as a power cut would, and waits until it is gone.
    pub async fn kill(&mut self, node: NodeId) -> Result<()> {
        let mut running = self.running.remove(&node).ok_or_else(|| anyhow!("node {node} does not run"))?;
        running.child.kill().await.with_context(|| format!("killing node {node}"))
    }

    /// Nodes that have ended although nobody asked them to, and how.
    pub fn ended(&mut self) -> Vec<(NodeId, String)> {
        let mut ended = Vec::new();
        for (node, running) in &mut self.running {
            match running.child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => ended.push((*node, status.to_string())),
                Err(error) => ended.push((*node, error.to_string())),
            }
        }
        ended
    }

    /// The same, once for each: they are no longer among those that run.
    pub fn bury(&mut self) -> Vec<(NodeId, String)> {
        let ended = self.ended();
        ended.iter().for_each(|(node, _)| drop(self.running.remove(node)));
        ended
    }

    /// Ends all nodes: asks them, and kills those that do not follow.
    pub async fn end(&mut self) {
        for running in self.running.values() {
            let pid = running.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
            if let Some(pid) = pid {
                // One that has just ended cannot be asked: fine.
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        join_all(self.running.values_mut().map(|running| async {
            if timeout(END_WAIT, running.child.wait()).await.is_err() {
                let _ = running.child.kill().await;
            }
        }))
        .await;
        self.running.clear();
    }
}

/// Whether a node's log says that its port was taken.
#[must_use]
pub fn port_was_taken(node: &NodePlan) -> bool {
    fs::read_to_string(node.log()).is_ok_and(|log| log.contains(PORT_TAKEN))
}

/// The last lines of the nodes' logs that matter: errors, and warnings of our own. Where none does, the very last ones.
#[must_use]
pub fn tails<'a>(nodes: impl Iterator<Item = &'a NodePlan>) -> Vec<(PathBuf, Vec<String>)> {
    let logs: Vec<(PathBuf, String)> = nodes
        .map(|node| (node.log(), String::from_utf8_lossy(&fs::read(node.log()).unwrap_or_default()).into_owned()))
        .collect();
    // Raft's library warns of every message that a busy machine was late with.
    let matters = |line: &&str| {
        line.contains("ERROR") || line.contains("panicked") || (line.contains("WARN") && !line.contains(" openraft::"))
    };
    let tail = |lines: Vec<&str>| -> Vec<String> {
        let from = lines.len().saturating_sub(TAIL_LINES);
        lines[from..].iter().map(|line| line.chars().take(LINE_CHARS_MAX).collect()).collect()
    };
    let worried: Vec<_> = logs
        .iter()
        .map(|(path, log)| (path.clone(), tail(log.lines().filter(matters).collect())))
        .filter(|(_, lines)| !lines.is_empty())
        .collect();
    if !worried.is_empty() {
        return worried;
    }
    logs.iter().map(|(path, log)| (path.clone(), tail(log.lines().collect()))).collect()
}
