//! How a program learns its settings: a flag beats the environment, the environment beats `--config
//! FILE`, the file beats the default.
//!
//! In: the program's table of [`Setting`]s, its arguments, an environment as a map, and the file
//! the `config` setting names. Out: for each setting its text and where it came from, so that a
//! mistake is named where it was made. The programs turn those texts into checked types; nothing
//! here knows what any setting means. One table row makes the flag, the variable, the key of the
//! file and the help, so that they cannot drift apart. [`json`] reads the files that people write,
//! and knows line and column.
//!
//! It refuses to know what runs: no runtime, no socket, no certificate. It opens the file of
//! settings and no other.

mod common;
mod effective;
mod flags;
mod invocation;
pub mod json;
mod layers;
mod otel;
pub mod rows;
mod state;
mod values;

use std::fmt;

use crate::json::Position;

pub use common::{AdminSide, Common, Drain, required, seconds};
pub use effective::Effective;
pub use flags::{command, given};
pub use gapura_telemetry::access::AccessLog;
pub use invocation::{Invocation, Settings};
pub use layers::{Found, Layers, switched};
pub use otel::{OTEL_SECRETS, Traces};
pub use state::state;
pub use values::{AdminAddress, address, duration, exposed, workers};

/// One row of a program's table of settings.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The name, in kebab-case: `plugin-dir` is `--plugin-dir`, `GAPURA_PLUGIN_DIR`, and
    /// `"plugin-dir"` or `"plugin_dir"` in the file.
    pub name: &'static str,
    /// How often it may be given, and what its value is called in the help.
    pub kind: Kind,
    /// One sentence.
    pub help: &'static str,
    /// A second variable that existing installations use.
    pub also_env: Option<&'static str>,
    /// Whether it restricts, so that a variable which is set to nothing is a mistake and not the
    /// same as none.
    pub never_empty: bool,
    /// Whether an empty list of it in the file is a mistake, whatever an empty variable is.
    pub filled: bool,
}

/// How often a setting may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One value.
    One(&'static str),
    /// Several; joined by commas in the environment, a list in the file.
    Many(&'static str),
    /// On or off.
    Switch,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The flag of this setting.
    Flag(&'static str),
    /// This argument of a subcommand.
    Argument(&'static str),
    /// This variable.
    Env(String),
    /// This place in the file.
    File(String, Position),
    /// Nobody gave one.
    Default,
}

/// One mistake in a program's settings: where it was made, and what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `--listen`, `GAPURA_LISTEN` or `gapura.json:3:12`.
    pub at: String,
    /// A sentence that says what to do; never the value of a secret.
    pub message: String,
}

/// Why a program does not start on these arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotStarted {
    /// `--help` or `--version` was asked for: this text, and exit code 0.
    Shown(String),
    /// The arguments are not ones the program knows: this text, and exit code 2.
    Usage(String),
    /// The settings have mistakes: all of them, and exit code 2.
    Problems(Vec<Problem>),
}

impl Setting {
    /// A setting with one value.
    #[must_use]
    pub const fn one(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self {
            name,
            kind: Kind::One(value),
            help,
            also_env: None,
            never_empty: false,
            filled: false,
        }
    }

    /// A setting that may be given several times.
    #[must_use]
    pub const fn many(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self {
            name,
            kind: Kind::Many(value),
            help,
            also_env: None,
            never_empty: false,
            filled: false,
        }
    }

    /// A setting that is on or off.
    #[must_use]
    pub const fn switch(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            kind: Kind::Switch,
            help,
            also_env: None,
            never_empty: false,
            filled: false,
        }
    }

    /// The same, for a setting that restricts: whoever empties its variable by mistake must not
    /// open a door.
    #[must_use]
    pub const fn never_empty(mut self) -> Self {
        self.never_empty = true;
        self.filled = true;
        self
    }

    /// The same, for a list that restricts and whose variable many a compose file sets to nothing.
    #[must_use]
    pub const fn filled(mut self) -> Self {
        self.filled = true;
        self
    }

    /// The same, also read from a variable that existing installations use.
    #[must_use]
    pub const fn or_env(mut self, variable: &'static str) -> Self {
        self.also_env = Some(variable);
        self
    }

    /// The setting's own variable.
    #[must_use]
    pub fn variable(&self) -> String {
        format!(
            "GAPURA_{}",
            self.name.replace('-', "_").to_ascii_uppercase()
        )
    }
}

impl Problem {
    /// A mistake in what came from `origin`, or would have come from the flag `name`.
    #[must_use]
    pub fn new(name: &str, origin: &Origin, message: impl Into<String>) -> Self {
        let at = if *origin == Origin::Default {
            format!("--{name}")
        } else {
            origin.to_string()
        };
        Self {
            at,
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.message)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "--{name}"),
            Self::Argument(name) => f.write_str(name),
            Self::Env(variable) => f.write_str(variable),
            Self::File(file, position) => write!(f, "{file}:{position}"),
            Self::Default => f.write_str("default"),
        }
    }
}

impl NotStarted {
    /// The exit code that goes with it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Shown(_) => 0,
            Self::Usage(_) | Self::Problems(_) => 2,
        }
    }
}

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shown(text) | Self::Usage(text) => f.write_str(text.trim_end()),
            Self::Problems(problems) => {
                for (at, problem) in problems.iter().enumerate() {
                    write!(f, "{}{problem}", if at == 0 { "" } else { "\n" })?;
                }
                Ok(())
            }
        }
    }
}
