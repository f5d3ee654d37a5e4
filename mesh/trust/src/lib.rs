//! Whom a program believes: keys that are what they seem, certificates, CRLs, and which peer a certificate proves.
//!
//! In: paths and bytes, the clock, and the chain a peer shows. Out: what may be relied on, or one sentence that says why not: a
//! [`set::TrustSet`] that was built whole and checked, the rustls configurations that belong to it, a [`peer::Peer`] for each handshake
//! that passed, a [`refusal::Refusal`] for each that did not. It never watches a file; it refuses to know runtimes, logs,
//! counters, HTTP, and which proven peer may do what.
//!
//! One judgement ([`verify::Verifier`]) serves the gateway, the sidecar and `gapura-pki verify`.

mod before;
mod configs;
pub mod crl;
pub mod der;
pub mod ed25519;
pub mod failure;
pub mod forgotten;
pub mod form;
pub mod marks;
pub mod nobody;
pub mod peer;
pub mod provider;
pub mod public;
pub mod purpose;
mod reasons;
pub mod refusal;
pub mod revocation;
pub mod roots;
pub mod set;
pub mod unfit;
mod verifier;
pub mod verify;

#[cfg(test)]
mod tests;
