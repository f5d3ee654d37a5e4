//! What of the gateway's own settings a plugin file is checked against.
//!
//! In: nothing but what the configuration says. Out: the values, for whoever reads a file. No file
//! is known here.

use gapura_protocol::identity::TrustDomain;

/// What a signature on a request to a plain http upstream covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Signing {
    /// There is none.
    #[default]
    Off,
    /// All facts but who acts for the user.
    WithoutActor,
    /// All facts.
    WithActor,
}

/// What of the gateway's own settings decides whether a plugin file is acceptable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// The gateway's own trust domain: no plugin of another is ever dialled.
    pub trust_domain: TrustDomain,
    /// Whether requests to plain http upstreams are signed, and whether that covers who acts.
    pub signing: Signing,
    /// The limit for plugins that set none.
    pub max_body: Option<u64>,
}

impl Rules {
    /// The domain of a gateway whose own is not known: no certificate has it.
    pub(crate) const UNKNOWN_DOMAIN: &str = "unknown.invalid";

    /// Whether an identity of this domain can be dialled, as far as it is known.
    #[must_use]
    pub(crate) fn is_own(&self, domain: &TrustDomain) -> bool {
        self.trust_domain.as_str() == Self::UNKNOWN_DOMAIN || *domain == self.trust_domain
    }
}
