//! A node of dinhba.

pub mod disk;
pub mod raft;
pub mod runtime;
