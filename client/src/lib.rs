//! The SDK for applications, and the verbs of the command line.
//!
//! # From nothing to a registered birth
//!
//! A [`Client`] talks to the nodes of one site: a commune's application asks the commune's nodes, whether their line to the district is up
//! or not. It fails over among them, and asks again until an answer comes or its patience ends ([`Limits`]).
//!
//! ```no_run
//! # async fn counter() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use dinhba_client::event::Birth;
//! use dinhba_client::person::Person;
//! use dinhba_client::{Client, Context, Error};
//! use dinhba_core::number::Sex;
//! use dinhba_core::units::Tier;
//!
//! // Who asks is in the certificate, why in the context: both are logged with every look at a record.
//! let client = Client::of_environment()?;
//! let context = Context::parse("registration", "12/2026")?;
//!
//! // A request has its name before it is sent: sent again after a break, it is the same request, and is applied once.
//! let birth = Birth::of("Nguyễn Thị Mai", Sex::Female, "2026-06-01".parse()?).nationality("VN");
//! let accepted = client.file(&client.session(), &birth.build(&context)).await?;
//!
//! // What was accepted is on the disks of a majority of the site's nodes. How far up it is held, is another question.
//! let held = client.wait_until_held(accepted.request, None, Tier::District, Duration::from_secs(30)).await?;
//! println!("held by {} sites", held.sites.len());
//!
//! // Records come as they are on the wire, and are read as persons.
//! let record = client.get(&context, accepted.records[0]).await?;
//! let child = Person::of(&record, &client.units().await?)?;
//! assert!(child.is_settled());
//! # Ok(()) }
//! ```
//!
//! # When it does not go well
//!
//! | [`Error`] | what it means | what to do |
//! |---|---|---|
//! | `Stale` | somebody was faster: nothing changed | read the record again, look, and edit what is there now |
//! | `Refused` | the rules or the caller's rights are against it: nothing changed | the text says which, and who may; the same request is refused again |
//! | `Unreachable` | no node was reached: nothing changed | try again later |
//! | `OutcomeUnknown` | it may have been accepted | the same request again, under its name ([`Client::edit_again`], [`Client::file_again`]) |
//! | `Protocol` | the other end is no such node | look at the versions |
//!
//! A grave change (birth date, sex, number, death) holds at once, and [`Accepted::pending`] says that it waits for a second person:
//! [`Client::pending`] lists what waits, [`Client::judge`] settles it. Values that two offices wrote without knowing of each other stand beside each other until an
//! officer decides ([`Client::conflicts`], [`Client::resolve`]).
//!
//! # What else there is
//!
//! [`Client::find`] and [`Client::members`] look for people, [`Client::history`] tells what became of a record, in events;
//! [`Client::watch`] follows a commune's edits, [`Client::export`] takes all of its records, [`Client::figures`] counts, and [`targets`] says how far that is of what was set; [`event`] has the commonest events as builders and the
//! others by name. `client/examples` has a registration counter, a clerk with a work list and a reader of statistics.
//!
//! Of the modules below each rests on those before it.

pub mod transport;

pub mod ambient;

pub mod handshake;

pub mod tls;

pub mod language;

pub mod error;

pub mod request;

pub mod event;

pub mod receipt;

pub mod person;

pub mod archive;

pub mod client;

mod streams;

pub mod sites;

pub mod units;

pub mod holidays;
pub mod targets;

pub mod standing;

mod figures;

pub mod work;

pub mod draft;

pub mod import;

pub mod generate;

pub mod cli;

#[cfg(test)]
mod testing;

pub use client::{Client, Limits};
pub use error::{Error, Problem};
pub use language::Lang;
pub use request::{Accepted, Context, EditBuilder, Find, Session};
pub use streams::Answered;
