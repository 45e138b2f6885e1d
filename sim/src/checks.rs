//! One file per promise. Each says what it does not check.

pub mod linearizability;
