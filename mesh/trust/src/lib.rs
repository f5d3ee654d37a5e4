//! What a program holds so that others believe it, and by which it believes others: keys,
//! certificates, roots, CRLs, kept as one set.
//!
//! In: paths and bytes, and the clock. Out: what may be relied on, or one sentence that says why
//! not: a [`set::TrustSet`] that was built whole and checked, the rustls configurations that belong
//! to it, the certificate that clients see, and what a failed handshake failed of. It never watches
//! a file; it refuses to know runtimes, logs, counters, HTTP, and which proven peer may do what.
//!
//! Who a chain proves is judged in `gapura_certificates`: here that judgement is given its roots
//! and CRLs, and rustls its verifiers.

mod before;
mod carried;
mod configs;
pub mod failure;
pub mod nobody;
pub mod provider;
pub mod public;
pub mod set;
pub mod state;
pub mod unfit;
mod verifier;

#[cfg(test)]
mod tests;
