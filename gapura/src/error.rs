//! Why a command did not do what it was asked.

use std::fmt;

/// One sentence that says what, where and what to do.
#[derive(Debug)]
pub enum Error {
    /// What was asked for can't be: wrong usage, a port in use, a state folder that does not serve.
    /// Exit code 2.
    Refused(String),
    /// It could be, but failed. Exit code 1.
    Failed(String),
}

impl Error {
    /// The code the program ends with.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) => 2,
            Self::Failed(_) => 1,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(sentence) | Self::Failed(sentence) => f.write_str(sentence),
        }
    }
}

impl std::error::Error for Error {}
