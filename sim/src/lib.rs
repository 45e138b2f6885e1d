//! The deterministic simulator: it runs the real node's code on one thread, in virtual time, from one seed.

pub mod executor;

pub mod disk;

#[cfg(test)]
mod raft_test;
