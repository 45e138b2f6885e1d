//! The SDK for applications.

pub mod transport;
