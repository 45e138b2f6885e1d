//! The SDK for applications, and the verbs of the command line.
//!
//! [`Client`] talks to the nodes of one site. A request is named before it is sent ([`Session`]), so it can be sent again
//! until an answer comes, and is applied once. Read bottom up, in the order of the modules below.

pub mod transport;

pub mod ambient;

pub mod handshake;

pub mod tls;

pub mod error;

pub mod request;

pub mod event;

pub mod receipt;

pub mod archive;

pub mod client;

mod streams;

pub mod sites;

pub mod units;

pub mod standing;

pub mod draft;

pub mod import;

pub mod generate;

pub mod cli;

#[cfg(test)]
mod testing;

pub use client::{Client, Limits};
pub use error::{Error, Problem};
pub use request::{Accepted, Context, EditBuilder, Find, Session};
pub use streams::Answered;
