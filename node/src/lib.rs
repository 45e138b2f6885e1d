//! A node of dinhba.

pub mod disk;

pub mod pki;
