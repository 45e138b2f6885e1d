//! A node of dinhba.

pub mod disk;

mod compression;

pub mod seal;

pub mod log;

pub mod state;

pub mod runtime;

pub mod secrets;

pub mod proof;

pub mod config;

pub mod datadir;

pub mod telemetry;

pub mod metrics;

pub mod pki;

pub mod refusals;

pub mod stay;

pub mod tls;

pub mod raft;

pub mod call;

pub mod hosted;

mod sessions;

pub mod shared;

pub mod link;

pub mod place_file;

pub mod moves;

pub mod numbers;

pub mod node;

pub mod health;

pub mod service;

pub mod restore;

pub mod gate;

pub mod server;

pub mod demo;

pub mod command_line;

#[cfg(feature = "faults")]
pub mod faults;
