//! The pure core of dinhba: what a record is, what an edit is, what a replica answers to a command, what two sites say
//! to each other. Everything comes in as an argument (time, chance, bytes) and goes out as a value; nothing here knows a
//! clock, a disk or a network. Read it bottom up, in the order of the modules below.

pub mod ids;

pub mod inject;

pub mod level;

pub mod encoding;

pub mod text;

pub mod date;

pub mod number;

pub mod schema;

pub mod units;

pub mod calendar;

pub mod claims;

pub mod access;

pub mod access_log;
pub mod digest;

pub mod store;

pub mod event;

pub mod edit;

pub mod standing;

pub mod share;

pub mod record;

pub mod blocks;

pub mod dossier;

pub mod work;

pub mod quality;
pub mod stock;
pub mod targets;

pub mod place;

pub mod command;

pub mod signed_receipt;

pub mod filing;

pub mod keys;

pub mod validity;

pub mod roll;

pub mod search;

pub mod registry;
pub mod sync;

pub mod archive;
