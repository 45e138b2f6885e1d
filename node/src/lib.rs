//! A node of dinhba.

pub mod disk;

pub mod seal;

pub mod log;

pub mod state;

pub mod runtime;

pub mod raft;
