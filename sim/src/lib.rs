//! The deterministic simulator: it runs the real node's code on one thread, in virtual time, from one seed.

pub mod checks;
pub mod executor;
pub mod history;
pub mod random;
pub mod scenario;
pub mod shrink;

#[cfg(test)]
mod raft_test;
