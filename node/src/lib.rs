//! A node of dinhba.

pub mod disk;
