//! `gapura-sidecar`: flags and exit codes only. 0 done, 1 failed, 2 wrong usage or configuration.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a person at a terminal reads what main says")]

use std::collections::BTreeMap;
use std::process::ExitCode;

use gapura_mesh::clock::Clock;
use gapura_mesh::config::NotStarted;
use gapura_mesh::healthcheck;
use gapura_mesh::log::Log;
use gapura_mesh::program::StartError;
use gapura_sidecar::config::{Config, Invocation};
use gapura_sidecar::run::Loaded;

fn main() -> ExitCode {
    let env: BTreeMap<String, String> =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect();
    match Invocation::load(std::env::args_os(), &env) {
        Ok(Invocation::Run(config)) => run(*config),
        Ok(Invocation::Check(config)) => check(&config),
        Ok(Invocation::Healthcheck { admin, token_file }) => match healthcheck::ask(&admin, token_file.as_deref()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(sentence) => fail(1, &sentence),
        },
        Err(not_started) => told(&not_started),
    }
}

fn run(config: Config) -> ExitCode {
    // Each connection is a file; a limit that cannot be raised shows as a refused accept, with a line.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let clock = Clock::system();
    let started = Log::stdout("sidecar", clock.clone())
        .map_err(|error| StartError::System(error.to_string()))
        .and_then(|log| gapura_sidecar::start(config, log, clock));
    match started.map(gapura_mesh::signals::attend) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => fail(1, &error.to_string()),
        Err(StartError::System(fault)) => fail(1, &fault),
        Err(StartError::Config(faults)) => fail(2, &faults.join("\n")),
    }
}

fn check(config: &Config) -> ExitCode {
    match Loaded::load(config, &Clock::system()) {
        Ok(_) => {
            println!("{:#}", config.to_json());
            ExitCode::SUCCESS
        }
        Err(faults) => fail(2, &faults.join("\n")),
    }
}

fn told(not_started: &NotStarted) -> ExitCode {
    match not_started {
        NotStarted::Shown(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        NotStarted::Usage(text) => fail(2, text.trim_end()),
        NotStarted::Problems(problems) => fail(2, &problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    }
}

fn fail(code: u8, sentences: &str) -> ExitCode {
    for sentence in sentences.lines() {
        eprintln!("gapura-sidecar: {sentence}");
    }
    ExitCode::from(code)
}
