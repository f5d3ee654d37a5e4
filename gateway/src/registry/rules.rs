//! What of the gateway's own settings a plugin file is checked against.
//!
//! In: nothing but what the configuration says. Out: the values, for whoever reads a file. No file is known here.

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
