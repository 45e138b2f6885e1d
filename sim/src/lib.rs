//! The deterministic simulator: it runs the real node's code on one thread, in virtual time, from one seed.
//!
//! Everything that happens in a run is data ([`scenario::Scenario`]) and a seed; equal scenarios give equal runs. Read
//! bottom-up: `executor` (time, tasks), `disk`, `wire` (what machines stand on), `trace` (what happened), `scenario` (a run
//! as data), `country` (machines and nodes), `looks`, `oracle`, `officers`, `thieves`, `faults` (who does what to it), `state` and `checks`
//! (whether the promises hold), `run`.

pub mod ambient;
pub mod births;
pub mod checks;
pub mod country;
pub mod coverage;
pub mod disk;
pub mod executor;
pub mod faults;
pub mod golden;
pub mod history;
pub mod looks;
pub mod mutants;
pub mod officers;
pub mod oracle;
pub mod panics;
pub mod random;
pub mod report;
pub mod run;
pub mod scenario;
pub mod shrink;
pub mod state;
pub mod swarm;
pub mod tables;
pub mod thieves;
pub mod trace;
pub mod twice;
pub mod watchdog;
pub mod wire;

#[cfg(test)]
mod raft_test;
