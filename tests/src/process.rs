//! A node's process: started, killed, asked to end.
//!
//! Promises: no process outlives the test. A [`Running`] that is dropped is killed; if the test itself is killed, the
//! process sees its standard input close and ends by itself.

use std::fs::{self, OpenOptions};
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Time between two looks at a process that should end.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Lines of a node's log that a failed test shows.
const TAIL_LINES: usize = 15;

/// A running process.
#[derive(Debug)]
pub struct Running {
    child: Child,
}

/// Names a program that knows no more than the older level, built from another source: it takes the place of `program` told to know
/// less.
const OLDER_PROGRAM: &str = "DINHBA_OLDER_PROGRAM";

/// The command of a node with this configuration, which knows feature levels up to `level_max`, or all that the program knows.
#[must_use]
pub fn node_command(program: &Path, config: &Path, level_max: Option<u16>) -> Command {
    let older = std::env::var_os(OLDER_PROGRAM).filter(|_| level_max.is_some());
    let mut command = Command::new(older.as_deref().map_or(program, Path::new));
    command.args(["node", "--end-with-stdin", "--config"]).arg(config).stdin(Stdio::piped());
    if let (Some(level), None) = (level_max, older) {
        command.arg("--level-max").arg(level.to_string());
    }
    command
}

impl Running {
    /// Starts a node that writes to `log`; `fault` is armed in it.
    #[must_use]
    pub fn start(mut command: Command, log: &Path, fault: Option<&str>) -> Self {
        let log = OpenOptions::new().create(true).append(true).open(log).expect("a node's log can be written");
        command.stdout(log.try_clone().expect("a file has two handles")).stderr(log);
        if let Some(fault) = fault {
            command.env("DINHBA_FAULT", fault);
        }
        Running { child: command.spawn().expect("the program starts") }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it without a warning, as a power cut would end it, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().expect("one's own child can be killed");
        self.child.wait().expect("a killed child ends");
    }

    /// Sends SIGTERM and waits; how it ended, and after how long.
    pub fn terminate(&mut self, limit: Duration) -> (Option<ExitStatus>, Duration) {
        self.signal(Signal::TERM);
        self.ends(limit)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("a process id is small");
        kill_process(Pid::from_raw(id).expect("a process id is positive"), signal).expect("the child is there");
    }

    /// Closes its standard input and waits.
    pub fn close_stdin(&mut self, limit: Duration) -> (Option<ExitStatus>, Duration) {
        drop(self.child.stdin.take());
        self.ends(limit)
    }

    /// Waits until it ends by itself; how, and after how long.
    pub fn ends(&mut self, limit: Duration) -> (Option<ExitStatus>, Duration) {
        let began = Instant::now();
        loop {
            let status = self.child.try_wait().expect("one's own child can be waited for");
            if status.is_some() || began.elapsed() >= limit {
                return (status, began.elapsed());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended cannot be killed: fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a node that should refuse to start: its exit code and what it says.
#[must_use]
pub fn refusal(program: &Path, config: &Path, limit: Duration) -> (Option<i32>, String) {
    refusal_of(node_command(program, config, None), limit)
}

/// The same for any command of a node.
#[must_use]
pub fn refusal_of(mut command: Command, limit: Duration) -> (Option<i32>, String) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let mut stderr = child.stderr.take().expect("it was asked for");
    let mut running = Running { child };
    let (status, _) = running.ends(limit);
    drop(running);
    let mut text = String::new();
    let _ = stderr.read_to_string(&mut text);
    (status.and_then(|status| status.code()), text)
}

/// The last lines of a log that have something to say: warnings and errors, or else the last lines of all.
#[must_use]
pub fn tail(log: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    let matters = |line: &&str| ["WARN", "ERROR", "panicked", "dinhba:"].iter().any(|word| line.contains(word));
    let mut lines: Vec<&str> = text.lines().filter(matters).collect();
    if lines.is_empty() {
        lines = text.lines().collect();
    }
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n  ")
}
