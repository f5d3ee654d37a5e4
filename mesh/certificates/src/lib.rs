//! What certificates and CRLs say, and the one judgement on a chain.
//!
//! In: DER, the roots and CRLs to go by, and the time. Out: the [`peer::Peer`] that a chain proves,
//! or the [`refusal::Refusal`] that says in one sentence why it proves nobody. [`verify::Verifier`]
//! serves the gateway, the sidecar, the agents and `gapura-pki verify` alike. It refuses to know
//! files, keys of our own, TLS, and which proven peer may do what.

pub mod crl;
pub mod der;
pub mod ed25519;
pub mod forgotten;
pub mod form;
pub mod marks;
pub mod peer;
pub mod purpose;
mod reasons;
pub mod refusal;
pub mod revocation;
pub mod roots;
pub mod verify;
