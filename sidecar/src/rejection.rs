//! Why a request did not reach the plugin, or came back without an answer: one variant a stage,
//! matched exhaustively.

use gapura_http::http1::RefusalKind;
use gapura_protocol::envelope::Code;
use gapura_transport::body::BodyFault;
use gapura_transport::tunnel::NotAskedFor;

use crate::authorise::Denied;
use crate::forward::Error;

/// Why a request did not reach the plugin, or came back without an answer.
#[derive(Debug)]
pub(crate) enum Rejection {
    /// What came is no request.
    Head(RefusalKind),
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
    /// The time to drain was over before there was an answer.
    Draining,
    /// A panic was caught.
    Panic,
}

impl Rejection {
    /// The same at the end of the program, where every wait ends at once: neither gateway nor
    /// plugin was slow.
    #[must_use]
    pub(crate) fn at_the_end(self) -> Self {
        match self.code() {
            Code::UpstreamTimeout | Code::RequestTimeout => Self::Draining,
            _ => self,
        }
    }

    /// The code it is answered with.
    #[must_use]
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Head(RefusalKind::BadRequest) => Code::BadRequest,
            Self::Head(RefusalKind::UriTooLong) => Code::UriTooLong,
            Self::Head(RefusalKind::HeadersTooLarge) => Code::HeadersTooLarge,
            Self::Head(RefusalKind::Timeout) => Code::RequestTimeout,
            Self::Denied(Denied) => Code::PeerDenied,
            Self::Sanitise(code) => *code,
            Self::Forward(Error::Unreachable(_)) => Code::UpstreamUnreachable,
            Self::Forward(Error::Timeout) => Code::UpstreamTimeout,
            Self::Forward(Error::Body(BodyFault::TooLarge)) => Code::BodyTooLarge,
            Self::Forward(Error::Body(BodyFault::Idle | BodyFault::Slow | BodyFault::Stalled)) => {
                Code::RequestTimeout
            }
            Self::Forward(Error::Body(BodyFault::Malformed(_))) => Code::BadRequest,
            // It broke its own request off; whether anybody reads this is open.
            Self::Forward(Error::Body(BodyFault::Cut | BodyFault::Short | BodyFault::Gone)) => {
                Code::ClientGone
            }
            Self::Forward(Error::Broken(_) | Error::Protocol(_))
            | Self::Unsound
            | Self::Switched(NotAskedFor) => Code::UpstreamProtocol,
            Self::Draining => Code::Draining,
            Self::Panic => Code::Internal,
        }
    }

    /// What is wrong in words for the access line, where the code alone does not tell.
    #[must_use]
    pub(crate) fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Forward(Error::Protocol(reason)) => Some(reason),
            Self::Forward(Error::Body(fault)) => Some(fault.reason()),
            Self::Unsound => {
                Some("the head is too large, or says in two ways how long the body is")
            }
            Self::Switched(NotAskedFor) => Some("a switch of protocols that nobody asked for"),
            _ => None,
        }
    }
}
