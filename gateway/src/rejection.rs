//! Why a request got no answer of a plugin's, and what that means to its client: one variant a
//! stage, matched exhaustively.

use gapura_http::http1::RefusalKind;
use gapura_protocol::envelope::Code;
use gapura_transport::tunnel::NotAskedFor;

use crate::authorise::Forbidden;
use crate::upstream::admission::Overloaded;
use crate::{authenticate, logout, rate_limit, route, standing, upstream, ws_token};

/// Why a request got no answer of a plugin's.
#[derive(Debug)]
pub(crate) enum Rejection {
    /// What came is no request.
    Head(RefusalKind),
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
    /// The logout that it tells of is not taken.
    Logout(logout::Error),
    /// Its caller may not.
    Authorise(Forbidden),
    /// Its caller has sent more than a limit allows.
    RateLimit(rate_limit::Exceeded),
    /// Too many requests are under way to the plugin, and too many wait.
    Overloaded(Overloaded),
    /// Its body is announced to be larger than the plugin takes.
    TooLarge,
    /// The plugin gave no answer.
    Forward(upstream::Error),
    /// The plugin switched to a protocol that nobody asked for.
    Switched(NotAskedFor),
    /// The time to drain was over before there was an answer.
    Draining,
    /// A panic was caught.
    Panic,
}

/// Each stage's own error, so that the pipeline reads as its order alone.
macro_rules! rejections {
    ($($error:ty => $variant:ident,)*) => {
        $(impl From<$error> for Rejection {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        })*
    };
}

rejections! {
    Code => Framing,
    route::Error => Route,
    ws_token::Error => WsToken,
    standing::Refusal => Standing,
    Forbidden => Authorise,
    rate_limit::Exceeded => RateLimit,
    Overloaded => Overloaded,
    upstream::Error => Forward,
    NotAskedFor => Switched,
}

impl Rejection {
    /// The same at the end of the program, where every wait ends at once: no client and no plugin
    /// was slow.
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
        use authenticate::Error as Token;
        match self {
            Self::Head(RefusalKind::BadRequest) => Code::BadRequest,
            Self::Head(RefusalKind::UriTooLong) => Code::UriTooLong,
            Self::Head(RefusalKind::HeadersTooLarge) => Code::HeadersTooLarge,
            Self::Head(RefusalKind::Timeout) => Code::RequestTimeout,
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
            Self::Logout(error) => error.code(),
            Self::Authorise(_) => Code::Forbidden,
            Self::RateLimit(_) => Code::RateLimited,
            Self::Overloaded(_) => Code::Overloaded,
            Self::TooLarge => Code::BodyTooLarge,
            Self::Switched(NotAskedFor) => Code::UpstreamProtocol,
            Self::Forward(error) => error.code(),
            Self::Draining => Code::Draining,
            Self::Panic => Code::Internal,
        }
    }

    /// What is wrong in words for the access line, where the code alone does not tell.
    #[must_use]
    pub(crate) fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Forward(upstream::Error::Body(fault)) => Some(fault.reason()),
            Self::RateLimit(exceeded) => Some(exceeded.over.as_str()),
            Self::Overloaded(why) => Some(why.reason()),
            Self::Switched(NotAskedFor) => Some("a switch of protocols that nobody asked for"),
            _ => None,
        }
    }

    /// Why a caller was turned away, for the operator alone: the answer names no rule.
    #[must_use]
    pub(crate) fn turned_away(&self) -> Option<String> {
        match self {
            Self::WsToken(error) => Some(error.to_string()),
            Self::Standing(refusal) => Some(refusal.as_str().to_owned()),
            Self::Logout(error) => Some(error.in_words()),
            Self::Authorise(Forbidden::Rules(refusal)) => Some(refusal.to_string()),
            _ => None,
        }
    }

    /// The error that an operator wants to read about: one on the way to a plugin. Of a client's
    /// faults the access line tells.
    #[must_use]
    pub(crate) fn worth_a_line(&self) -> Option<&upstream::Error> {
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
                | Code::ClientGone
                | Code::RequestTimeout
                | Code::HeadersTooLarge
                | Code::UriTooLong
                | Code::Internal
        )
    }
}
