//! The SDK for applications.

pub mod transport;

pub mod tls;
