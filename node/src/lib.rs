//! A node of dinhba.

pub mod disk;
pub mod log;
pub mod seal;
pub mod state;
