//! Which side of a handshake a certificate stands on, and the role whose certificates stand there.
//!
//! A leaf that names and knows nothing else of a judgement, so that a refusal, a failure and the judgement can all speak of it.

use std::fmt;

use gapura_protocol::identity::Role;

/// Which side of a handshake a judged certificate stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// It dials: a gateway's, with clientAuth.
    Client,
    /// It answers: a plugin's, with serverAuth.
    Server,
}

impl Purpose {
    /// The role whose certificates stand on this side.
    #[must_use]
    pub fn role(self) -> Role {
        match self {
            Self::Client => Role::Gateway,
            Self::Server => Role::Plugin,
        }
    }

    /// The side on which the certificates of `role` stand.
    #[must_use]
    pub fn of(role: Role) -> Self {
        match role {
            Role::Gateway => Self::Client,
            Role::Plugin => Self::Server,
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "dialling (clientAuth)",
            Self::Server => "answering (serverAuth)",
        })
    }
}
