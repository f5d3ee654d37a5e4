//! `gapura-sidecar`: what each invocation leads to. Exit codes are `gapura_mesh::cli`'s, and those of a plugin that it started.

use std::process::ExitCode;

use gapura_mesh::cli::{Cli, Failed};
use gapura_sidecar::config::{Config, Invocation, Wrapped};
use gapura_sidecar::{check, start_with, wrap};

fn main() -> ExitCode {
    let mut cli = Cli::of("sidecar");
    match cli.read::<Config>() {
        Ok(Invocation::Run(config)) => {
            cli.serve(|sockets, log, clock| start_with(*config, sockets, log, clock))
        }
        Ok(Invocation::Own(Wrapped { config, command })) => {
            let patience = config.drain_timeout();
            cli.serve_with(
                |sockets, log, clock| start_with(*config, sockets, log, clock),
                |running, manager, log| {
                    wrap::attend(running, &command, patience, manager, log)
                        .map_err(|error| Failed(error.exit_code(), error.to_string()))
                },
            )
        }
        Ok(Invocation::Check(config)) => cli.checked(check(&config)),
        Ok(Invocation::Healthcheck(admin)) => cli.healthcheck(&admin),
        Err(why) => cli.not_started(&why),
    }
}
