//! The deterministic simulator: it runs the real node's code on one thread, in virtual time, from one seed.

pub mod checks;
pub mod executor;
<<<<<<< HEAD
=======
pub mod history;
>>>>>>> w-simscen
pub mod scenario;

pub mod disk;

#[cfg(test)]
mod raft_test;
