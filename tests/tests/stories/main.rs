//! Stories with real processes, sockets and disks. Each is a file; each node is a process of its own.

mod access;
mod added_commune;
mod any_client;
mod backup_and_restore;
mod bad_input;
mod certificates;
mod connections;
mod crash;
mod crashed_sled;
mod damaged_beyond_itself;
mod demo;
mod examples;
mod full_disk;
mod groups_apart;
mod health;
mod hostile_child;
mod life;
mod link_cut;
mod load;
mod membership;
mod node_killed_under_load;
mod numbers;
mod offline_commune;
mod readme;
mod rebuilt_node;
mod restored_backup;
mod rotten_state;
mod search;
mod shutdown;
mod targets;
mod two_persons;
mod versions;
mod work;

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_dinhba-tested");

/// A seed of this run's random choices, printed so that a failure can be told again: `DINHBA_SEED=…`.
fn seed() -> u64 {
    let given = std::env::var("DINHBA_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(rand::random);
    eprintln!("DINHBA_SEED={seed}");
    seed
}
