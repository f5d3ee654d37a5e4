//! Why a request got no answer of a plugin's, and what that means to its client: one variant a stage, matched exhaustively.

use gapura_protocol::envelope::Code;
use gapura_transport::body::Fault;
use gapura_transport::tunnel::NotAskedFor;

use crate::authorise::Forbidden;
use crate::{authenticate, forward, route, standing, ws_token};

/// Why a request got no answer of a plugin's.
#[derive(Debug)]
pub(crate) enum Rejection {
    /// It is ambiguous, malformed or too large.
    Framing(Code),
    /// It is for another host.
    Misdirected,
    /// The gateway's own paths are for reading.
    ReadOnly,
    /// Nobody takes its path.
    Route(route::Error),
    /// Its caller is not who they say.
    Authenticate(authenticate::Error),
    /// A page's WebSocket brings its token in a way that is not taken.
    WsToken(ws_token::Error),
    /// Its caller is no longer welcome.
    Standing(standing::Refusal),
    /// Its caller may not.
    Authorise(Forbidden),
    /// Its body is announced to be larger than the plugin takes.
    TooLarge,
    /// The plugin gave no answer.
    Forward(forward::Error),
    /// The plugin switched to a protocol that nobody asked for.
    Switched(NotAskedFor),
    /// A panic was caught.
    Panic,
}

impl Rejection {
    /// The code it is answered with.
    #[must_use]
    pub(crate) fn code(&self) -> Code {
        use authenticate::Error as Token;
        match self {
            Self::Framing(code) => *code,
            Self::Misdirected => Code::Misdirected,
            Self::ReadOnly => Code::MethodNotAllowed,
            Self::Route(error) => error.code(),
            Self::Authenticate(Token::TokenMissing) => Code::TokenMissing,
            Self::Authenticate(Token::TokenInvalid(_)) => Code::TokenInvalid,
            Self::Authenticate(Token::TokenExpired) => Code::TokenExpired,
            Self::Authenticate(Token::TenantMissing) => Code::TenantMissing,
            Self::Authenticate(Token::KeysUnavailable) => Code::KeysUnavailable,
            Self::WsToken(error) => error.code(),
            Self::Standing(refusal) => refusal.code(),
            Self::Authorise(_) => Code::Forbidden,
            Self::TooLarge | Self::Forward(forward::Error::Body(Fault::TooLarge)) => {
                Code::BodyTooLarge
            }
            Self::Forward(forward::Error::Body(Fault::Idle | Fault::Stalled)) => {
                Code::RequestTimeout
            }
            // The client broke its own request off; nobody is there to read this.
            Self::Forward(forward::Error::Body(
                Fault::Cut | Fault::Short | Fault::Gone | Fault::Malformed(_),
            )) => Code::BadRequest,
            Self::Forward(forward::Error::Unreachable(_)) => Code::UpstreamUnreachable,
            Self::Forward(forward::Error::Identity(_)) => Code::UpstreamIdentity,
            Self::Forward(forward::Error::Protocol) | Self::Switched(NotAskedFor) => {
                Code::UpstreamProtocol
            }
            Self::Forward(forward::Error::Overloaded) => Code::Overloaded,
            Self::Forward(forward::Error::Timeout) => Code::UpstreamTimeout,
            Self::Forward(forward::Error::Unwritable) => Code::BadRequest,
            Self::Panic => Code::Internal,
        }
    }

    /// Why a caller was turned away, for the operator alone: the answer names no rule.
    #[must_use]
    pub(crate) fn turned_away(&self) -> Option<String> {
        match self {
            Self::WsToken(error) => Some(error.to_string()),
            Self::Standing(refusal) => Some(refusal.as_str().to_owned()),
            Self::Authorise(Forbidden::Rules(refusal)) => Some(refusal.to_string()),
            _ => None,
        }
    }

    /// The error that an operator wants to read about: one on the way to a plugin. Of a client's faults the access line tells.
    #[must_use]
    pub(crate) fn worth_a_line(&self) -> Option<&forward::Error> {
        match self {
            Self::Forward(error) if self.code().status().is_server_error() => Some(error),
            _ => None,
        }
    }

    /// Whether the connection cannot go on: its next byte may belong to this request.
    #[must_use]
    pub(crate) fn ends_connection(&self) -> bool {
        let code = self.code();
        matches!(
            code,
            Code::BadRequest
                | Code::MethodNotAllowed
                | Code::RequestTimeout
                | Code::BodyTooLarge
                | Code::HeadersTooLarge
                | Code::UriTooLong
                | Code::Internal
        )
    }
}
