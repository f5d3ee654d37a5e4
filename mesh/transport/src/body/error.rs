//! Why a body broke.

use std::fmt;

/// Why a body ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No byte came for too long.
    Idle,
    /// More bytes came than are allowed.
    TooLarge,
    /// The sender went away, or broke the protocol.
    Cut,
    /// The receiver took nothing for too long, or held too much unread.
    Stalled,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "no byte of the body came for too long",
            Self::TooLarge => "the body is larger than allowed",
            Self::Cut => "the body broke off before its end",
            Self::Stalled => "nobody took the body for too long",
        })
    }
}

impl std::error::Error for Fault {}
