//! Stories of the pure core: one office, two offices, a row of offices with bad luck.

mod convergence;
mod memory;
mod registry;
