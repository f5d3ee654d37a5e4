//! Decides whom this program trusts, as whom it speaks, and for how long a connection may live on that word.
//!
//! In: a mesh directory (`cert.pem`, `key.pem`, `ca.pem`, `crl.pem`), the clock, and the chain a peer shows. Out: a [`trust::TrustSet`]
//! that was built whole, checked and swapped as one, the rustls configurations that belong to it, a [`peer::Peer`] for each
//! handshake that passed, and a [`refusal::Refusal`] with its reason for each that did not. Nothing here reads HTTP or decides which
//! proven peer may do what.
//!
//! One judgement ([`verify::Judge`]) serves the gateway, the sidecar and `gapura-pki verify`; one registry ([`live::LiveConnections`])
//! serves revocation, expiry, age and drain. Invariant: a connection in the registry was judged under the newest set, or is judged
//! again by the next sweep.

mod before;
pub mod clients;
mod configs;
pub mod crl;
mod der;
pub mod directory;
pub mod failure;
pub mod form;
pub mod live;
pub mod marks;
pub mod peer;
pub mod pem;
pub mod provider;
pub mod public;
mod reasons;
pub mod refusal;
pub mod revocation;
pub mod roots;
pub mod trust;
pub mod unfit;
mod verifier;
pub mod verify;
pub mod watch;

#[cfg(test)]
mod tests;
