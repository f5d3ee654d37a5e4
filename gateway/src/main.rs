//! `gapura-gateway`: what each invocation leads to. Exit codes are `gapura_mesh::cli`'s.

use std::process::ExitCode;

use gapura_gateway::config::{Config, Invocation, Question};
use gapura_gateway::{check, explain, signing_keys, start_with};
use gapura_mesh::cli::Cli;
use gapura_mesh::clock::Clock;

fn main() -> ExitCode {
    let mut cli = Cli::of("gateway");
    match cli.read::<Config>() {
        Ok(Invocation::Run(config)) => {
            cli.serve(|sockets, log, clock| start_with(*config, sockets, log, clock))
        }
        Ok(Invocation::Own(Question::Explain(question))) => {
            cli.answer(explain(&question, &Clock::system()))
        }
        Ok(Invocation::Own(Question::SigningKey { plugin, secret })) => {
            let keys = signing_keys(&plugin, &secret).map(|keys| keys.join("\n"));
            cli.answer(keys.map_err(|fault| vec![fault]))
        }
        Ok(Invocation::Check(config)) => cli.checked(check(&config)),
        Ok(Invocation::Healthcheck(admin)) => cli.healthcheck(&admin),
        Err(why) => cli.not_started(&why),
    }
}
