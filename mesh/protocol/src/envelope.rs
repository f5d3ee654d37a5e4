//! The answers that Gapura makes itself: one code, one status, one plain sentence each.
//!
//! In: a [`Code`], who says it and the request's id. Out: the body and headers of CONTRACT
//! section 5. The sentence names no file, address or library: what an operator needs stands in the log
//! under the same request id.

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER,
};
use http::{Response, StatusCode};

use crate::codes;
use crate::context::RequestId;
use crate::headers::{X_REQUEST_ID, unindexed};

/// The program that made an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// `gapura-gateway`.
    Gateway,
    /// `gapura-sidecar`.
    Sidecar,
}

codes! {
    /// Why a request was answered by us and not by its plugin.
    pub enum Code {
        BadRequest "bad_request" BAD_REQUEST "The request is ambiguous or malformed.";
        TokenMissing "token_missing" UNAUTHORIZED "A bearer token is required.";
        TokenInvalid "token_invalid" UNAUTHORIZED "The bearer token is not valid.";
        TokenExpired "token_expired" UNAUTHORIZED "The bearer token has expired.";
        TokenRevoked "token_revoked" UNAUTHORIZED "The bearer token no longer counts.";
        TenantMissing "tenant_missing" FORBIDDEN "The request acts for no company.";
        TenantSuspended "tenant_suspended" FORBIDDEN "The company is suspended.";
        Forbidden "forbidden" FORBIDDEN "The caller may not do this.";
        PeerDenied "peer_denied" FORBIDDEN "This peer may not use the plugin.";
        NoRoute "no_route" NOT_FOUND "Nothing is served at this path.";
        MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED "This method is not served.";
        RequestTimeout "request_timeout" REQUEST_TIMEOUT "The request came too slowly.";
        BodyTooLarge "body_too_large" PAYLOAD_TOO_LARGE "The request body is too large.";
        UriTooLong "uri_too_long" URI_TOO_LONG "The request target is too long.";
        HeadersTooLarge "headers_too_large" REQUEST_HEADER_FIELDS_TOO_LARGE "The request headers are too large.";
        Misdirected "misdirected" MISDIRECTED_REQUEST "This host is not served here.";
        RateLimited "rate_limited" TOO_MANY_REQUESTS "Too many requests; try again later.";
        Internal "internal" INTERNAL_SERVER_ERROR "Something went wrong on our side.";
        UpstreamUnreachable "upstream_unreachable" BAD_GATEWAY "The service cannot be reached.";
        UpstreamIdentity "upstream_identity" BAD_GATEWAY "The service could not prove its identity.";
        UpstreamProtocol "upstream_protocol" BAD_GATEWAY "The service gave an answer that makes no sense.";
        UpstreamUnavailable "upstream_unavailable" SERVICE_UNAVAILABLE "The service is not available; try again later.";
        Overloaded "overloaded" SERVICE_UNAVAILABLE "Too much is going on; try again later.";
        Draining "draining" SERVICE_UNAVAILABLE "This instance is going down; try again.";
        KeysUnavailable "keys_unavailable" SERVICE_UNAVAILABLE "Tokens cannot be verified now; try again later.";
        UpstreamTimeout "upstream_timeout" GATEWAY_TIMEOUT "The service took too long to answer.";
        AnswerCut "answer_cut" BAD_GATEWAY "The service's answer broke off.";
        ClientGone "client_gone" BAD_REQUEST "The request broke off.";
    }
}

impl Code {
    /// Whether it stands in logs and metrics alone: no answer carries it (CONTRACT section 5).
    #[must_use]
    pub fn is_silent(self) -> bool {
        matches!(self, Self::AnswerCut | Self::ClientGone)
    }

    /// Its place in [`Code::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// The code of a word, as another program wrote it on the hop.
    #[must_use]
    pub fn from_word(word: &[u8]) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.as_str().as_bytes() == word)
    }
}

impl By {
    /// The word in the envelope.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Sidecar => "sidecar",
        }
    }
}

/// The body of a refusal. Everything in it is of our own making or was checked: nothing needs
/// escaping.
#[must_use]
fn refusal_body(code: Code, by: By, request_id: &RequestId) -> Bytes {
    format!(
        r#"{{"ok": false, "message": "{}", "errors": {{"code": "{}", "by": "{}", "request_id": "{}"}}}}"#,
        code.message(),
        code.as_str(),
        by.as_str(),
        request_id.as_str(),
    )
    .into()
}

/// The whole answer.
#[must_use]
pub fn refusal(code: Code, by: By, request_id: &RequestId) -> Response<Bytes> {
    let mut response = Response::new(refusal_body(code, by, request_id));
    *response.status_mut() = code.status();
    let length = response.body().len();
    refusal_headers(response.headers_mut(), code, length, request_id);
    response
}

/// Names the request that an answer is for.
#[must_use]
pub fn with_id<B>(mut answer: Response<B>, request_id: &RequestId) -> Response<B> {
    let id = unindexed(request_id.header().clone());
    answer.headers_mut().insert(X_REQUEST_ID, id);
    answer
}

/// Sets the headers that every refusal has; `Retry-After` too (RFC 9110, section 10.2.3).
fn refusal_headers(headers: &mut HeaderMap, code: Code, body_len: usize, request_id: &RequestId) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body_len));
    headers.insert(X_REQUEST_ID, request_id.header().clone());
    retry_after(headers, code);
    if code == Code::MethodNotAllowed {
        // RFC 9110, section 15.5.6 demands it of every 405. What a plugin serves at its paths is
        // for it to say.
        headers.insert(ALLOW, HeaderValue::from_static(SERVED));
    }
}

/// Says when to come again, where waiting helps.
pub(crate) fn retry_after(headers: &mut HeaderMap, code: Code) {
    if code.status() == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
}

/// The methods that a plugin may see.
const SERVED: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_word_and_its_place_in_the_list() {
        for (index, code) in Code::ALL.iter().enumerate() {
            assert_eq!(code.index(), index);
            assert_eq!(Code::from_word(code.as_str().as_bytes()), Some(*code));
            assert!(code.status().is_client_error() || code.status().is_server_error());
        }
        assert_eq!(Code::from_word(b"teapot"), None);
    }

    #[test]
    fn the_body_is_the_envelope() {
        let id = RequestId::parse(b"abc-1").unwrap();
        let body = refusal_body(Code::NoRoute, By::Gateway, &id);
        let seen: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let wanted = serde_json::json!({"ok": false, "message": "Nothing is served at this path.",
            "errors": {"code": "no_route", "by": "gateway", "request_id": "abc-1"}});
        assert_eq!(seen, wanted);
    }

    #[test]
    fn every_405_says_what_is_served_and_nothing_else_does() {
        let id = RequestId::parse(b"a").unwrap();
        for code in Code::ALL {
            let refusal = refusal(*code, By::Sidecar, &id);
            let allowed = refusal.headers().contains_key(ALLOW);
            assert_eq!(allowed, code.status() == StatusCode::METHOD_NOT_ALLOWED);
        }
    }

    #[test]
    fn only_what_passes_by_itself_invites_another_try() {
        let id = RequestId::parse(b"a").unwrap();
        let mut headers = HeaderMap::new();
        refusal_headers(&mut headers, Code::Overloaded, 2, &id);
        assert_eq!(headers[RETRY_AFTER], "1");
        let mut headers = HeaderMap::new();
        refusal_headers(&mut headers, Code::Forbidden, 2, &id);
        assert!(!headers.contains_key(RETRY_AFTER));
        assert_eq!(headers[CACHE_CONTROL], "no-store");
    }
}
