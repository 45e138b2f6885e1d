//! The help of the command line, and what is wrong with one, in another language than English.
pub fn translate(program: clap::Command, _lang: crate::language::Lang) -> clap::Command { program }
pub(super) fn misuse(error: &clap::Error, _lang: crate::language::Lang) -> String { error.to_string() }
