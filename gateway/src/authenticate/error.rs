//! Why a caller is not let in, and what it is told.
//!
//! The caller learns which of the codes of the contract applies, in the words of RFC 6750, section
//! 3; the exact reason goes to the log and to a metric as a label from a fixed list. Nothing of the
//! token is in either.

use std::fmt;

use gapura_protocol::labelled;
use http::HeaderValue;

/// Why a request has no verified caller although its route asks for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// No `Authorization: Bearer`: 401 `token_missing`.
    TokenMissing,
    /// A token that is not good, whatever the time: 401 `token_invalid`.
    TokenInvalid(Reason),
    /// A good token whose time has passed: 401 `token_expired`.
    TokenExpired,
    /// A good token that names no tenant: 403 `tenant_missing`.
    TenantMissing,
    /// Our fault: there are no keys to verify with: 503 `keys_unavailable`.
    KeysUnavailable,
}

labelled! {
    /// What is wrong with a token.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum Reason {
        /// Two `Authorization` headers, or more than one space after the scheme.
        Header = "header",
        /// Longer than 8 KiB.
        TooLong = "too_long",
        /// Not three parts of base64url, or not JSON within.
        Malformed = "malformed",
        /// A member is named twice.
        DuplicateName = "duplicate_name",
        /// A `typ` that is neither `JWT` nor `at+jwt`.
        Type = "type",
        /// A `crit` header.
        Critical = "critical",
        /// An `alg` that no key of the issuer takes.
        Algorithm = "algorithm",
        /// A `kid` that no key of the issuer has.
        UnknownKid = "unknown_kid",
        /// No `kid`, and several keys would fit.
        AmbiguousKey = "ambiguous_key",
        /// The signature does not verify.
        Signature = "signature",
        /// `iss` is not one that is configured.
        Issuer = "issuer",
        /// `aud` is not the one that is configured.
        Audience = "audience",
        /// No `exp`, or one that is no time.
        Expiry = "expiry",
        /// An `nbf` that is no time.
        NotBefore = "not_before",
        /// `nbf` has not come yet.
        NotYetValid = "not_yet_valid",
        /// No user, or one of another form.
        User = "user",
        /// A tenant of another form.
        Tenant = "tenant",
        /// A role of another form.
        Role = "role",
        /// A scope of another form.
        Scope = "scope",
        /// An `act` without a readable `sub`.
        Actor = "actor",
        /// Bound to a key that this connection has not proven.
        BoundToken = "bound_token",
        /// It has `events`: a logout token or another notice, never an access token.
        Events = "events",
        /// Its issuer may not speak for its tenant.
        TenantNotIssuers = "tenant_not_issuers",
        /// It lives longer than a logout of its user is remembered.
        Lifetime = "lifetime",
    }
}

impl Error {
    /// What is wrong with other things than the token that came.
    const OTHERS: [Self; 4] = [
        Self::TokenMissing,
        Self::TokenExpired,
        Self::TenantMissing,
        Self::KeysUnavailable,
    ];

    /// Every label that [`Error::label`] can give, for metrics that begin at 0.
    pub(crate) const LABELS: [&'static str; Self::OTHERS.len() + Reason::ALL.len()] = {
        let mut labels = [""; Self::OTHERS.len() + Reason::ALL.len()];
        let mut at = 0;
        while at < labels.len() {
            labels[at] = if at < Self::OTHERS.len() {
                Self::OTHERS[at].label()
            } else {
                Reason::ALL[at - Self::OTHERS.len()].as_str()
            };
            at += 1;
        }
        labels
    };

    /// The label of `gapura_tokens_rejected_total{reason}`.
    #[must_use]
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::TokenMissing => "missing",
            Self::TokenInvalid(reason) => reason.as_str(),
            Self::TokenExpired => "expired",
            Self::TenantMissing => "tenant_missing",
            Self::KeysUnavailable => "keys_unavailable",
        }
    }

    /// The `WWW-Authenticate` of a 401 (RFC 6750, section 3): without an error code where no token
    /// came, and never with a word of the request in it. `None` for the answers that are not 401.
    #[must_use]
    pub(crate) fn www_authenticate(self) -> Option<HeaderValue> {
        let text = match self {
            Self::TokenMissing => r#"Bearer realm="gapura""#,
            Self::TokenInvalid(_) => {
                r#"Bearer realm="gapura", error="invalid_token", error_description="the token is not valid here""#
            }
            Self::TokenExpired => {
                r#"Bearer realm="gapura", error="invalid_token", error_description="the token has expired""#
            }
            Self::TenantMissing | Self::KeysUnavailable => return None,
        };
        Some(HeaderValue::from_static(text))
    }
}

impl From<Reason> for Error {
    fn from(reason: Reason) -> Self {
        Self::TokenInvalid(reason)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TokenMissing => f.write_str("the request carries no bearer token"),
            Self::TokenInvalid(reason) => write!(f, "the token is not valid: {reason}"),
            Self::TokenExpired => f.write_str("the token has expired"),
            Self::TenantMissing => f.write_str("the token names no tenant"),
            Self::KeysUnavailable => f.write_str("there are no keys to verify a token with"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "the authorization header is not one scheme, one space and one token",
            Self::TooLong => "it is longer than 8 KiB",
            Self::Malformed => "it is not three parts of base64url with JSON within",
            Self::DuplicateName => "a member of its header or claims is named twice",
            Self::Type => "its typ is neither JWT nor at+jwt",
            Self::Critical => "its header has crit",
            Self::Algorithm => "its alg is not one that the issuer's keys take",
            Self::UnknownKid => "its kid is not one of the issuer's keys",
            Self::AmbiguousKey => "it has no kid and several keys would fit",
            Self::Signature => "its signature does not verify",
            Self::Issuer => "its iss is not a configured issuer",
            Self::Audience => "its aud is not the configured audience",
            Self::Expiry => "its exp is missing or not a time",
            Self::NotBefore => "its nbf is not a time",
            Self::NotYetValid => "its nbf has not come yet",
            Self::User => "its user is missing or not of the allowed form",
            Self::Tenant => "its tenant is not of the allowed form",
            Self::Role => "a role in it is not of the allowed form",
            Self::Scope => "a scope in it is not of the allowed form",
            Self::Actor => "its act has no sub of the allowed form",
            Self::BoundToken => "it is bound to a key that this connection has not proven",
            Self::Events => "it has events, so it is a notice and no access token",
            Self::TenantNotIssuers => "its issuer may not speak for its tenant",
            Self::Lifetime => "it lives longer than a logout of its user is remembered",
        })
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_is_listed_once() {
        let all = Error::OTHERS.into_iter();
        let all = all.chain(Reason::ALL.map(Error::from));
        let labels: Vec<_> = all.map(Error::label).collect();
        assert_eq!(labels, Error::LABELS);
        let once: std::collections::BTreeSet<_> = labels.iter().collect();
        assert_eq!(once.len(), labels.len());
    }

    #[test]
    fn a_401_has_a_challenge_and_nothing_else_has() {
        let text = |error: Error| {
            error
                .www_authenticate()
                .map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(
            text(Error::TokenMissing).unwrap(),
            r#"Bearer realm="gapura""#
        );
        for error in [Error::TokenExpired, Error::from(Reason::Signature)] {
            assert!(text(error).unwrap().starts_with(
                r#"Bearer realm="gapura", error="invalid_token", error_description=""#
            ));
        }
        assert_eq!(text(Error::TenantMissing), None);
        assert_eq!(text(Error::KeysUnavailable), None);
    }
}
