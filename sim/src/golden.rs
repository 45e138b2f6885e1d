//! The committed hashes of a few runs: every process on every machine must come to the same.
//!
//! A change of the node, of the simulator or of a library that changes what runs when changes them. Whoever means it to
//! writes them anew (`golden --write`); whoever does not has found something out.

use std::fmt;

use crate::random;
use crate::scenario::{SHIPPED, Scenario};

/// The runs: short ones, with faults of all sorts, in which no promise breaks: the assertions of debug builds end others early.
pub const CASES: [Case; 3] = [Case::Seed(25), Case::Seed(26), Case::Seed(79)];

/// The committed file.
pub const FILE: &str = include_str!("../golden.txt");
/// Where it lies in the repository.
pub const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/golden.txt");

/// A run whose hash is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// The random country of a seed.
    Seed(u64),
    /// A scenario that comes with the simulator.
    Shipped(&'static str),
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Case::Seed(seed) => write!(f, "seed_{seed}"),
            Case::Shipped(name) => f.write_str(name),
        }
    }
}

impl Case {
    /// What is run.
    ///
    /// # Panics
    /// If no scenario of that name comes with the simulator, or it cannot be read.
    #[must_use]
    pub fn scenario(self) -> Scenario {
        match self {
            Case::Seed(seed) => random::scenario(seed),
            Case::Shipped(name) => {
                let (_, text) = SHIPPED.iter().find(|(other, _)| *other == name).expect("a scenario that is shipped");
                Scenario::parse(text).expect("shipped scenarios are tested")
            }
        }
    }

    /// Its committed hash.
    #[must_use]
    pub fn committed(self) -> Option<&'static str> {
        let name = self.to_string();
        FILE.lines()
            .filter_map(|line| line.split_once(' '))
            .find(|(case, _)| *case == name)
            .map(|(_, hash)| hash.trim())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::run::guarded;

    #[test]
    fn the_hashes_are_those_that_were_committed() {
        let run = |case: Case| (case.to_string(), guarded(&case.scenario(), None).hash);
        let hashes: Vec<(String, String)> = thread::scope(|scope| {
            let threads: Vec<_> = CASES.map(|case| scope.spawn(move || run(case))).into_iter().collect();
            threads.into_iter().map(|thread| thread.join().expect("runs are guarded")).collect()
        });
        for (case, (name, hash)) in CASES.iter().zip(hashes) {
            assert_eq!(case.committed(), Some(hash.as_str()), "{name}: if this is meant, `dinhba-sim golden --write`");
        }
    }
}
