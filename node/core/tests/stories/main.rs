//! Stories of the pure core: one office, two offices, a row of offices with bad luck, hostile neighbours, what forks cost; shards that move; scripts.

mod ancestors;
mod blocks;
mod convergence;
mod floods;
mod forks;
mod golden;
mod hostile;
mod life;
mod many_shards;
mod memory;
mod names;
mod numbers;
mod orders;
mod registry;
mod second;
mod shards;
mod standing;
mod statements;
mod targets;
mod time;
mod versions;
mod work;
