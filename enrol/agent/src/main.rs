//! `gapura-agent`: what it is asked stands in `config`, what it does then in `run`.

use std::process::ExitCode;

use gapura_agent::config::Config;

fn main() -> ExitCode {
    gapura_runtime::cli::main::<Config>()
}
