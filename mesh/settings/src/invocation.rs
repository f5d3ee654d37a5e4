//! From a command line to what the program is asked to do.
//!
//! In: arguments, an environment as a map, and a program's [`Settings`]. Out: an [`Invocation`], or
//! all mistakes at once, each where it was made. What both programs are asked for is read here; a
//! subcommand of one program's own is its own business.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::ops::ControlFlow;

use clap::{ArgMatches, Command};

use super::{AdminSide, Layers, NotStarted, Setting, given};

/// What a program is asked to do.
#[derive(Debug)]
pub enum Invocation<S: Settings> {
    /// Serve.
    Run(Box<S>),
    /// Load everything, say everything that is wrong, serve nothing.
    Check(Box<S>),
    /// Ask the running program whether it is well.
    Healthcheck(AdminSide),
    /// What only this program can be asked.
    Own(S::Own),
}

/// The settings of one program, and how they are read.
pub trait Settings: Sized {
    /// What only this program can be asked.
    type Own;

    /// Every setting.
    const TABLE: &'static [Setting];

    /// Keys that only the file of settings can hold.
    const STRUCTURED: &'static [&'static str];

    /// Variables that hold a secret and not where one is: wiped as soon as they are read.
    const SECRETS: &'static [&'static str];

    /// Where its operator's side listens unless told otherwise.
    const ADMIN: SocketAddr;

    /// The command line made from the table.
    fn command() -> Command;

    /// Reads them; mistakes become problems of `layers`, and `None` if without one of them there is
    /// nothing to return.
    fn read(layers: &mut Layers, env: &BTreeMap<String, String>) -> Option<Self>;

    /// Adds what is wrong besides, as far as that can be told although the settings are wrong:
    /// `--check` tells everything at once.
    fn look_further(_: &mut Layers) {}

    /// What the settings ask for instead of serving or a whole check; `Break(None)` if that can't
    /// be read.
    fn instead(_: &mut Layers, _check: bool) -> ControlFlow<Option<Self::Own>> {
        ControlFlow::Continue(())
    }

    /// Reads a subcommand of the program's own.
    fn subcommand(
        name: &str,
        matches: &ArgMatches,
        layers: &mut Layers,
        env: &BTreeMap<String, String>,
    ) -> Option<Invocation<Self>>;
}

impl<S: Settings> Invocation<S> {
    /// Reads the arguments (the program's name first) over `env`.
    ///
    /// # Errors
    /// [`NotStarted`]: help was asked for, the arguments are unknown, or every mistake in the settings.
    pub fn load(
        args: impl IntoIterator<Item = OsString>,
        env: &BTreeMap<String, String>,
    ) -> Result<Self, NotStarted> {
        let matches = S::command().try_get_matches_from(args).map_err(|err| {
            let text = err.to_string();
            if err.use_stderr() {
                NotStarted::Usage(text)
            } else {
                NotStarted::Shown(text)
            }
        })?;
        let (name, inner) = matches.subcommand().unwrap_or(("", &matches));
        let mut layers = Layers::new(S::TABLE, S::STRUCTURED, given(inner, S::TABLE), env);
        let invocation = match name {
            "" => Self::serve(&mut layers, env),
            "healthcheck" => AdminSide::read(&mut layers, S::ADMIN).map(Self::Healthcheck),
            own => S::subcommand(own, inner, &mut layers, env),
        };
        let problems = layers.into_problems();
        match invocation {
            Some(invocation) if problems.is_empty() => Ok(invocation),
            _ => Err(NotStarted::Problems(problems)),
        }
    }

    /// To serve by these settings, or to check them if that is what they say.
    pub fn serve(layers: &mut Layers, env: &BTreeMap<String, String>) -> Option<Self> {
        let check = layers.switch("check");
        if let ControlFlow::Break(own) = S::instead(layers, check) {
            return own.map(Self::Own);
        }
        let settings = S::read(layers, env).map(Box::new);
        if check && (settings.is_none() || layers.has_problems()) {
            S::look_further(layers);
        }
        let settings = settings?;
        Some(if check {
            Self::Check(settings)
        } else {
            Self::Run(settings)
        })
    }
}
