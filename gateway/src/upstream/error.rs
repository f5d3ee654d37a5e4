//! Why a plugin gave no answer, as far as it concerns the request: with which code its client is
//! told; what else of it that may know, `rejection` decides.

use std::fmt;
use std::io;

use gapura_protocol::envelope::Code;
use gapura_transport::body::BodyFault;

/// Why a request got no answer.
#[derive(Debug)]
pub(crate) enum Error {
    /// No address of the plugin can be connected to, or the connection broke.
    Unreachable(io::Error),
    /// Who answers is not who should, or refuses us.
    Identity(String),
    /// What came back is no answer.
    Protocol,
    /// Too many requests are under way to one plugin.
    Overloaded,
    /// Every instance of the plugin is out.
    AllOut,
    /// The time ran out.
    Timeout,
    /// The request's body broke.
    Body(BodyFault),
    /// The request cannot be written as the next protocol wants it.
    Unwritable,
}

impl Error {
    /// Nobody knows where the plugin is.
    pub(super) fn nowhere() -> Self {
        let text = "the upstream's name has no address";
        Self::Unreachable(io::Error::new(io::ErrorKind::NotFound, text))
    }

    /// The code that a request is answered with which it befell.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Body(BodyFault::TooLarge) => Code::BodyTooLarge,
            Self::Body(BodyFault::Idle | BodyFault::Slow | BodyFault::Stalled) => {
                Code::RequestTimeout
            }
            Self::Body(BodyFault::Malformed(_)) | Self::Unwritable => Code::BadRequest,
            // It broke its own request off; whether anybody reads this is open.
            Self::Body(BodyFault::Cut | BodyFault::Short | BodyFault::Gone) => Code::ClientGone,
            Self::Unreachable(_) => Code::UpstreamUnreachable,
            Self::Identity(_) => Code::UpstreamIdentity,
            Self::Protocol => Code::UpstreamProtocol,
            Self::Overloaded => Code::Overloaded,
            Self::AllOut => Code::UpstreamUnavailable,
            Self::Timeout => Code::UpstreamTimeout,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(_) => f.write_str("the plugin cannot be reached"),
            Self::Identity(sentence) => f.write_str(sentence),
            Self::Protocol => f.write_str("what came back is no answer"),
            Self::Overloaded => f.write_str("too many requests are under way to this plugin"),
            Self::AllOut => f.write_str("every instance of the plugin is out"),
            Self::Timeout => f.write_str("the plugin did not answer in time"),
            Self::Body(_) => f.write_str("the request's body did not come to its end"),
            Self::Unwritable => f.write_str("the request cannot be written in the next protocol"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreachable(error) => Some(error),
            Self::Body(fault) => Some(fault),
            _ => None,
        }
    }
}
