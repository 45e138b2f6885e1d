//! `dinhba`: runs a node, a whole country for trying, the development authority, and the verbs of applications and
//! operators.

use std::process::ExitCode;

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    dinhba_node::command_line::main()
}
