//! `dinhba` as the stories run it: the same program, in which `DINHBA_FAULT` arms a deliberate fault by its name.

use std::process::ExitCode;

/// The name of the fault to arm.
const FAULT: &str = "DINHBA_FAULT";

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(FAULT)
        && let Err(error) = dinhba_node::faults::arm(&name)
    {
        eprintln!("{FAULT}: {error}");
        return ExitCode::FAILURE;
    }
    dinhba_node::command_line::main()
}
