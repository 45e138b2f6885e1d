//! Synthetic populations.
//!
//! [`generate`] invents [`Draft`](crate::draft::Draft)s: the same for the same seed, on every machine.
//!
//! Everybody here is invented. Telephone numbers have the eleven digits that Vietnam gave up in 2018, so nobody answers them;
//! e-mail addresses are of `example.com`. Personal numbers have the form of real ones, as they must: they prove nothing.

mod holidays;
mod names;
mod people;
#[cfg(test)]
mod tests;

pub use holidays::holidays;
pub use people::{Generate, GenerateError, generate};
