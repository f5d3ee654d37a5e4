//! `gapura-gateway`: flags and exit codes only. 0 done, 1 failed, 2 wrong usage or configuration.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use gapura_gateway::config::{Config, Invocation};
use gapura_mesh::clock::Clock;
use gapura_mesh::config::NotStarted;
use gapura_mesh::healthcheck;
use gapura_mesh::log::Log;
use gapura_mesh::program::StartError;
use gapura_mesh::systemd::{Manager, Sockets};

fn main() -> ExitCode {
    let env: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    match Invocation::load(std::env::args_os(), &env) {
        Ok(Invocation::Run(config)) => run(*config, &env),
        Ok(Invocation::Check(config)) => check(&config),
        Ok(Invocation::Explain(question)) => {
            match gapura_gateway::explain(&question, &Clock::system()) {
                Ok(told) => {
                    say(&told);
                    ExitCode::SUCCESS
                }
                Err(faults) => fail(2, &faults.join("\n")),
            }
        }
        Ok(Invocation::SigningKey {
            plugin,
            secret_file,
        }) => match gapura_gateway::signing_keys(&plugin, &secret_file) {
            Ok(keys) => {
                for key in keys {
                    say(&key);
                }
                ExitCode::SUCCESS
            }
            Err(fault) => fail(2, &fault),
        },
        Ok(Invocation::Healthcheck { admin, token_file }) => {
            match healthcheck::ask(&admin, token_file.as_deref()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(sentence) => fail(1, &sentence),
            }
        }
        Err(not_started) => told(&not_started),
    }
}

fn run(config: Config, env: &BTreeMap<String, String>) -> ExitCode {
    let manager = Manager::of(env, std::process::id());
    let sockets = Sockets::inherit(env, std::process::id()).map_err(StartError::Config);
    // Each connection is a file; a limit that cannot be raised shows as a refused accept, with a line.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let clock = Clock::system();
    let started = sockets.and_then(|sockets| {
        let log = Log::stdout("gateway", clock.clone())
            .map_err(|error| StartError::System(error.to_string()))?;
        gapura_gateway::start_with(config, sockets, log, clock)
    });
    let (code, sentences) =
        match started.map(|running| gapura_mesh::signals::attend(running, &manager)) {
            Ok(Ok(())) => return ExitCode::SUCCESS,
            Ok(Err(error)) => (1, error.to_string()),
            Err(StartError::System(fault)) => (1, fault),
            Err(StartError::Config(faults)) => (2, faults.join("\n")),
        };
    manager.failed(&sentences);
    fail(code, &sentences)
}

fn check(config: &Config) -> ExitCode {
    match gapura_gateway::check(config) {
        Ok(checked) => {
            say(&checked.lines.join("\n"));
            for warning in checked.warnings {
                let _ = writeln!(std::io::stderr(), "gapura-gateway: warning: {warning}");
            }
            ExitCode::SUCCESS
        }
        Err(faults) => fail(2, &faults.join("\n")),
    }
}

fn told(not_started: &NotStarted) -> ExitCode {
    match not_started {
        NotStarted::Shown(text) => {
            say(text.trim_end());
            ExitCode::SUCCESS
        }
        NotStarted::Usage(text) => fail(2, text.trim_end()),
        NotStarted::Problems(problems) => fail(
            2,
            &problems
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n"),
        ),
    }
}

fn fail(code: u8, sentences: &str) -> ExitCode {
    for sentence in sentences.lines() {
        let _ = writeln!(std::io::stderr(), "gapura-gateway: {sentence}");
    }
    ExitCode::from(code)
}

/// Prints a line. Nobody may be reading any more, which is no failure of ours.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
