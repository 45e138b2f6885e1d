//! The SDK for applications.

pub mod generate;
pub mod transport;

pub mod tls;
