//! How much of a caller's token a plugin asks for and gets to see.
//!
//! In: nothing. Out: the modes, in the order of their strength. How a file is read and what else a
//! plugin has is not known here.
//! Invariant: a weaker mode is less than a stronger one, so that a reload can tell which way a
//! plugin went.

/// Whether a token is needed, and what the plugin gets to see of it. Weaker modes come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum AuthMode {
    /// No token needed; `Authorization` dropped, no context headers.
    Public,
    /// `forward_jwt` with `"verify": false`: a token of an issuer the gateway does not know, passed
    /// on unread.
    ForwardUnverified,
    /// Verified, context headers sent, and the token passed on.
    ForwardJwt,
    /// Verified, context headers sent, `Authorization` dropped.
    GatewayVerified,
}

impl AuthMode {
    /// Whether the gateway verifies the token.
    #[must_use]
    pub(crate) fn is_verified(self) -> bool {
        matches!(self, Self::GatewayVerified | Self::ForwardJwt)
    }

    /// The mode as a file and the admin side write it.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::GatewayVerified => "gateway_verified",
            Self::ForwardJwt => "forward_jwt",
            Self::ForwardUnverified => "forward_jwt, verify: false",
            Self::Public => "public",
        }
    }
}
