//! Stories of the pure core: one office, two offices, a row of offices with bad luck, hostile neighbours; scripts.

mod ancestors;
mod convergence;
mod golden;
mod hostile;
mod memory;
mod names;
mod orders;
mod registry;
mod statements;
