//! Why a CA server refuses: one code, one status, one sentence each, in the envelope that all of
//! Gapura answers with.
//!
//! The sentence may say more than the code's own (which serial, which identity, what to do); it
//! never shows a secret, a path or an address.

use std::fmt;

use gapura_protocol::codes;
use http::StatusCode;
use serde_json::{Value, json};

/// No sentence is longer when it comes from the other end.
const MOST_MESSAGE: usize = 1000;

codes! {
    /// Why a request was refused.
    pub enum Code {
        TokenMissing "token_missing" UNAUTHORIZED "A join token is required; make one with `gapura-pki token`.";
        TokenUnknown "token_unknown" UNAUTHORIZED "This CA has made no such join token; make a new one with `gapura-pki token`.";
        TokenUsed "token_used" UNAUTHORIZED "The join token has been used; each is good for one host. Make a new one with `gapura-pki token`.";
        TokenExpired "token_expired" UNAUTHORIZED "The join token has expired; make a new one with `gapura-pki token`.";
        TokenIdentity "token_identity" FORBIDDEN "The join token is for another identity.";
        CsrInvalid "csr_invalid" BAD_REQUEST "The certificate request can't be taken.";
        CsrIdentity "csr_identity" FORBIDDEN "The certificate request asks for another identity.";
        KeyTaken "key_taken" FORBIDDEN "The key of the certificate request may not be certified; make a new key.";
        CertificateMissing "certificate_missing" UNAUTHORIZED "A certificate of this installation must be presented in the handshake.";
        CertificateUnknown "certificate_unknown" FORBIDDEN "This CA's record doesn't know the certificate: it was restored from an older backup. Make a new join token with `gapura-pki token`.";
        Revoked "revoked" FORBIDDEN "The certificate is revoked and never renews.";
        Forgotten "forgotten" FORBIDDEN "The identity was said to be gone for good and never renews; if it is back, make a join token with `gapura-pki token`.";
        Expired "expired" FORBIDDEN "The certificate has expired; make a new join token with `gapura-pki token`.";
        NotEnrolled "not_enrolled" FORBIDDEN "The certificate was issued by hand; make a join token with `gapura-pki token`.";
        Role "role" FORBIDDEN "A certificate of this role is not served here.";
        TooMany "too_many" TOO_MANY_REQUESTS "Too many requests; try again later.";
        Overloaded "overloaded" SERVICE_UNAVAILABLE "Too much is going on; try again later.";
        Unavailable "unavailable" SERVICE_UNAVAILABLE "This CA can't issue at present; its operator's log says why.";
        Draining "draining" SERVICE_UNAVAILABLE "This CA server is going down; try again.";
        BadRequest "bad_request" BAD_REQUEST "The request is malformed.";
        BodyTooLarge "body_too_large" PAYLOAD_TOO_LARGE "The request body is too large.";
        RequestTimeout "request_timeout" REQUEST_TIMEOUT "The request came too slowly.";
        NotFound "not_found" NOT_FOUND "Nothing is served at this path.";
        MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED "This method is not served at this path.";
        Internal "internal" INTERNAL_SERVER_ERROR "Something went wrong on the CA's side.";
    }
}

impl Code {
    /// The code of a word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == word)
    }

    /// Whether the same request may succeed later by itself.
    #[must_use]
    pub fn passes(self) -> bool {
        self.status().is_server_error() || matches!(self, Self::TooMany | Self::RequestTimeout)
    }
}

/// A refusal, as it is answered and as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub code: Code,
    /// The sentence.
    pub message: String,
}

impl Refused {
    /// A refusal with a sentence of its own.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// The body of the answer.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let envelope =
            json!({"ok": false, "message": self.message, "errors": {"code": self.code.as_str()}});
        envelope.to_string().into_bytes()
    }

    /// Reads the body of an answer; `None` if it is no refusal of a CA server, or one with a code
    /// that is not known here.
    #[must_use]
    pub fn parse(body: &[u8]) -> Option<Self> {
        let envelope: Value = serde_json::from_slice(body).ok()?;
        let code = Code::from_word(envelope.get("errors")?.get("code")?.as_str()?)?;
        let message = envelope.get("message").and_then(Value::as_str);
        let message: String = message
            .unwrap_or(code.message())
            .chars()
            .filter(|c| !c.is_control())
            .take(MOST_MESSAGE)
            .collect();
        Some(Self { code, message })
    }
}

impl From<Code> for Refused {
    fn from(code: Code) -> Self {
        Self::new(code, code.message())
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code.as_str())
    }
}

impl std::error::Error for Refused {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_word_and_reads_back() {
        for code in Code::ALL {
            assert_eq!(Code::from_word(code.as_str()), Some(*code));
            assert!(code.status().is_client_error() || code.status().is_server_error());
            let refused = Refused::from(*code);
            assert_eq!(Refused::parse(&refused.to_json()), Some(refused));
        }
        assert_eq!(Code::from_word("teapot"), None);
    }

    #[test]
    fn what_comes_from_the_other_end_fits_a_log_line() {
        let body =
            json!({"message": format!("a\n{}", "b".repeat(5000)), "errors": {"code": "revoked"}});
        let read = Refused::parse(body.to_string().as_bytes()).unwrap();
        assert_eq!(read.message.chars().count(), MOST_MESSAGE);
        assert!(!read.message.contains('\n'));
        assert_eq!(Refused::parse(b"<html>"), None);
        assert_eq!(Refused::parse(br#"{"errors":{"code":"teapot"}}"#), None);
    }

    #[test]
    fn only_what_passes_by_itself_is_tried_again() {
        assert!(Code::Unavailable.passes() && Code::TooMany.passes() && Code::Internal.passes());
        assert!(!Code::Revoked.passes() && !Code::TokenUsed.passes() && !Code::CsrInvalid.passes());
    }
}
