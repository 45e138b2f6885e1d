//! Stories of the pure core: one office, two offices, a row of offices with bad luck, hostile neighbours, what forks cost; scripts.

mod ancestors;
mod convergence;
mod forks;
mod golden;
mod hostile;
mod memory;
mod names;
mod numbers;
mod orders;
mod registry;
mod statements;
mod time;
mod versions;
