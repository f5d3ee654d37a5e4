//! Why a body broke.

use std::fmt;

use gapura_http::http1::body::BodyError;

/// Why a body ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// No byte came for too long.
    Idle,
    /// Too few bytes came for too long.
    Slow,
    /// More bytes came than are allowed.
    TooLarge,
    /// The sender ended before the end of the body, or took it back.
    Cut,
    /// The sender ended before all bytes of the announced length had come.
    Short,
    /// The sender's connection broke.
    Gone,
    /// What came can't be read in one way, for this reason.
    Malformed(&'static str),
    /// The receiver took nothing for too long, or held too much unread.
    Stalled,
}

impl BodyFault {
    /// What a message's own error comes to; `measured` says whether the message has a length.
    pub(super) fn of(error: BodyError, measured: bool) -> Self {
        match error {
            BodyError::Cut if measured => Self::Short,
            BodyError::Cut => Self::Cut,
            BodyError::Bad(reason) => Self::Malformed(reason),
            BodyError::Gone(_) => Self::Gone,
            BodyError::Idle => Self::Idle,
            BodyError::Stalled => Self::Stalled,
        }
    }

    /// The same in words, for a log.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Idle => "no byte of the body came for too long",
            Self::Slow => "the body came too slowly",
            Self::TooLarge => "the body is larger than allowed",
            Self::Cut => "the body broke off before its end",
            Self::Short => "fewer bytes came than the length says",
            Self::Gone => "the connection broke in the body",
            Self::Malformed(reason) => reason,
            Self::Stalled => "nobody took the body for too long",
        }
    }
}

impl fmt::Display for BodyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for BodyFault {}
