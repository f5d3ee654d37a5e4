//! Why a request did not reach the plugin, or came back without an answer: one variant a stage, matched exhaustively.

use gapura_protocol::envelope::Code;
use gapura_transport::body::Fault;
use gapura_transport::tunnel::NotAskedFor;

use crate::authorise::Denied;
use crate::forward::Error;

/// Why a request did not reach the plugin, or came back without an answer.
#[derive(Debug)]
pub(crate) enum Rejection {
    /// The peer is not on the list.
    Denied(Denied),
    /// The request is not one to trust.
    Sanitise(Code),
    /// The plugin gave no answer.
    Forward(Error),
    /// The plugin's answer can be read in two ways.
    Unsound,
    /// The plugin switched to a protocol that nobody asked for.
    Switched(NotAskedFor),
    /// A panic was caught.
    Panic,
}

impl Rejection {
    /// The code it is answered with.
    #[must_use]
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Denied(Denied) => Code::PeerDenied,
            Self::Sanitise(code) => *code,
            Self::Forward(Error::Unreachable(_)) => Code::UpstreamUnreachable,
            Self::Forward(Error::Timeout) => Code::UpstreamTimeout,
            Self::Forward(Error::Body(Fault::TooLarge)) => Code::BodyTooLarge,
            Self::Forward(Error::Body(Fault::Idle | Fault::Cut | Fault::Stalled)) => {
                Code::RequestTimeout
            }
            Self::Forward(Error::Protocol(_)) | Self::Unsound | Self::Switched(NotAskedFor) => {
                Code::UpstreamProtocol
            }
            Self::Panic => Code::Internal,
        }
    }
}
