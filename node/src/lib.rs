//! A node of dinhba.

pub mod config;
pub mod datadir;
pub mod disk;
pub mod metrics;
pub mod pki;
pub mod telemetry;
pub mod tls;
