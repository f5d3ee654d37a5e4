//! The edge between a program and whoever called it: what is printed where, and with which exit
//! code.
//!
//! In: what the arguments ask for, and how the program does it. Out: an `ExitCode`: 0 done, 1
//! failed, 2 wrong usage or configuration. Refuses to know what any program does. Every sentence
//! goes to standard error under the program's name, a line each; answers go to standard output.
//! Nobody may be reading either, which is no failure.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use gapura_operator::healthcheck;
use gapura_protocol::clock::Clock;
use gapura_settings::{AdminSide, Invocation, NotStarted, Settings};
use gapura_telemetry::log::Log;
use zeroize::Zeroize;

use crate::program::{Running, StartError};
use crate::signals;
use crate::systemd::{Manager, Sockets};

/// A program as it was called.
#[derive(Debug)]
pub struct Cli {
    service: &'static str,
    env: BTreeMap<String, String>,
}

/// What `--check` found good.
#[derive(Debug, Default)]
pub struct Checked {
    /// The settings in force and all that was loaded by them, a line each or more.
    pub lines: Vec<String>,
    /// What is allowed and hardly meant, a sentence each.
    pub warnings: Vec<String>,
}

/// One of the programs.
pub trait Program: Settings {
    /// What it is called in its log.
    const SERVICE: &'static str;

    /// Loads everything as a start would, and serves nothing.
    ///
    /// # Errors
    /// Every fault, a sentence each.
    fn check(&self) -> Result<Checked, Vec<String>>;

    /// Starts it on listeners that were bound for it; those that are not among them it binds
    /// itself.
    ///
    /// # Errors
    /// [`StartError`]: what the operator has to mend, or what the system refused.
    fn start_with(self, sockets: Sockets, log: Log, clock: Clock) -> Result<Running, StartError>;

    /// Starts it on listeners of its own.
    ///
    /// # Errors
    /// As [`Program::start_with`].
    fn start(self, log: Log, clock: Clock) -> Result<Running, StartError> {
        self.start_with(Sockets::default(), log, clock)
    }

    /// Does what only this program can be asked.
    fn answer(own: Self::Own, cli: &Cli) -> ExitCode;
}

/// All that `main` of a program is: does what the arguments of this process ask for.
#[must_use]
pub fn main<P: Program>() -> ExitCode {
    let mut cli = Cli::of(P::SERVICE);
    match cli.read::<P>() {
        Ok(Invocation::Run(config)) => {
            cli.serve(|sockets, log, clock| config.start_with(sockets, log, clock))
        }
        Ok(Invocation::Check(config)) => cli.checked(config.check()),
        Ok(Invocation::Healthcheck(admin)) => cli.healthcheck(&admin),
        Ok(Invocation::Own(own)) => P::answer(own, &cli),
        Err(why) => cli.not_started(&why),
    }
}

/// Why a program that had started ended badly: its exit code, and a sentence.
#[derive(Debug)]
pub struct Failed(pub u8, pub String);

impl Cli {
    /// The program of this `service`, with the environment of its process. What is not text there
    /// is no setting of ours.
    fn of(service: &'static str) -> Self {
        let env = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { service, env }
    }

    /// What the arguments ask for, over the environment. A secret in there lives on in what was
    /// made of it alone.
    ///
    /// # Errors
    /// [`NotStarted`]
    fn read<S: Settings>(&mut self) -> Result<Invocation<S>, NotStarted> {
        let invocation = Invocation::load(std::env::args_os(), &self.env);
        self.wipe(S::SECRETS);
        invocation
    }

    fn wipe(&mut self, secrets: &[&str]) {
        for name in secrets {
            if let Some(mut secret) = self.env.remove(*name) {
                secret.zeroize();
            }
        }
    }

    /// Serves until signals have ended the program.
    fn serve(
        &self,
        start: impl FnOnce(Sockets, Log, Clock) -> Result<Running, StartError>,
    ) -> ExitCode {
        self.serve_with(start, |running, manager, _| {
            signals::attend(running, manager)
                .map(|()| 0)
                .map_err(|error| Failed(1, error.to_string()))
        })
    }

    /// Serves for as long as `attend` stays with the program; what it gives back is the exit code.
    pub fn serve_with(
        &self,
        start: impl FnOnce(Sockets, Log, Clock) -> Result<Running, StartError>,
        attend: impl FnOnce(Running, &Manager, &Log) -> Result<u8, Failed>,
    ) -> ExitCode {
        let manager = Manager::of(&self.env, std::process::id());
        let Failed(code, sentences) = match self.started(start) {
            Ok((running, log)) => match attend(running, &manager, &log) {
                Ok(code) => return ExitCode::from(code),
                Err(failed) => failed,
            },
            Err(StartError::System(fault)) => Failed(1, fault),
            Err(StartError::Config(faults)) => Failed(2, faults.join("\n")),
        };
        manager.failed(&sentences);
        self.fail(code, &sentences)
    }

    fn started(
        &self,
        start: impl FnOnce(Sockets, Log, Clock) -> Result<Running, StartError>,
    ) -> Result<(Running, Log), StartError> {
        let sockets =
            Sockets::inherit(&self.env, std::process::id()).map_err(StartError::Config)?;
        // Each connection is a file; a limit that cannot be raised shows as a refused accept, with
        // a line.
        let _ = rlimit::increase_nofile_limit(u64::MAX);
        let clock = Clock::system();
        let log = Log::stdout(self.service, clock.clone())
            .map_err(|error| StartError::System(error.to_string()))?;
        // What was told on the way says more of it than the fault.
        let started = start(sockets, log.clone(), clock).inspect_err(|_| log.close());
        Ok((started?, log))
    }

    /// Tells what `--check` found.
    pub fn checked(&self, found: Result<Checked, Vec<String>>) -> ExitCode {
        match found {
            Ok(checked) => {
                for warning in &checked.warnings {
                    self.complain(&format!("warning: {warning}"));
                }
                print(&checked.lines.join("\n"))
            }
            Err(faults) => self.fail(2, &faults.join("\n")),
        }
    }

    /// Prints an answer, or says why there is none: the question was wrong.
    pub fn print(&self, answer: Result<String, Vec<String>>) -> ExitCode {
        self.checked(answer.map(|line| Checked {
            lines: vec![line],
            warnings: Vec::new(),
        }))
    }

    /// Prints what was done, or says why it was not.
    pub fn done(&self, done: Result<String, Failed>) -> ExitCode {
        match done {
            Ok(text) => print(&text),
            Err(Failed(code, sentences)) => self.fail(code, &sentences),
        }
    }

    /// Asks the running program behind `admin` whether it is well.
    fn healthcheck(&self, admin: &AdminSide) -> ExitCode {
        match healthcheck::ask(admin) {
            Ok(()) => ExitCode::SUCCESS,
            Err(sentence) => self.fail(1, &sentence),
        }
    }

    /// Says why the arguments led to nothing; help that was asked for is no failure.
    fn not_started(&self, why: &NotStarted) -> ExitCode {
        match why {
            NotStarted::Shown(text) => print(text.trim_end()),
            other => self.fail(other.exit_code(), &other.to_string()),
        }
    }

    fn fail(&self, code: u8, sentences: &str) -> ExitCode {
        for sentence in sentences.lines() {
            self.complain(sentence);
        }
        ExitCode::from(code)
    }

    fn complain(&self, sentence: &str) {
        let _ = writeln!(std::io::stderr(), "gapura-{}: {sentence}", self.service);
    }
}

fn print(text: &str) -> ExitCode {
    let _ = writeln!(std::io::stdout(), "{text}");
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_of_the_environment_is_gone_once_it_was_read_and_all_else_stays() {
        let env = ["JWT_SECRET", "NOTIFY_SOCKET"].map(|name| (name.to_owned(), "x".to_owned()));
        let mut cli = Cli {
            service: "gateway",
            env: env.into(),
        };
        cli.wipe(&["JWT_SECRET", "OTHER"]);
        assert_eq!(cli.env.keys().collect::<Vec<_>>(), ["NOTIFY_SOCKET"]);
    }
}
