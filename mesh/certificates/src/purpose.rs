//! For what a certificate is judged, and the roles whose certificates are good for it.
//!
//! A leaf that names and knows nothing else of a judgement, so that a refusal, a failure and the
//! judgement can all speak of it.

use std::fmt;

use gapura_protocol::identity::Role;

/// What a certificate is judged for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// To dial on the hop: a gateway's, with clientAuth.
    Client,
    /// To answer on the hop: a plugin's, with serverAuth.
    Server,
    /// To answer as a CA server: one of the role `pki`, with serverAuth. No other proves that the
    /// roots and CRLs come from the CA.
    Authority,
    /// To renew at a CA server, and nowhere else: a gateway's or a plugin's, with either.
    Renewal,
}

impl Purpose {
    /// Whether the certificates of `role` are good for it.
    #[must_use]
    pub fn takes(self, role: Role) -> bool {
        match self {
            Self::Client => role == Role::Gateway,
            Self::Server => role == Role::Plugin,
            Self::Authority => role == Role::Pki,
            Self::Renewal => matches!(role, Role::Gateway | Role::Plugin),
        }
    }

    /// What the certificates of `role` are there for.
    #[must_use]
    pub fn of(role: Role) -> Self {
        match role {
            Role::Gateway => Self::Client,
            Role::Plugin => Self::Server,
            Role::Pki => Self::Authority,
        }
    }

    /// Whose certificates are good for it, in a word.
    #[must_use]
    pub fn whose(self) -> &'static str {
        match self {
            Self::Client => "gateway",
            Self::Server => "plugin",
            Self::Authority => "CA server (`pki`)",
            Self::Renewal => "gateway or plugin",
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "dialling (clientAuth)",
            Self::Server => "answering (serverAuth)",
            Self::Authority => "answering as a CA server (serverAuth)",
            Self::Renewal => "renewing (clientAuth or serverAuth)",
        })
    }
}
