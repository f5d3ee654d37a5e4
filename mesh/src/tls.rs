//! The trust of a program, by the names it had before it was spread over the libraries.

pub use gapura_runtime::reload::{clients, public as watch_public, trust as watch};
pub use gapura_transport::live;
pub use gapura_trust::{
    crl, directory, failure, form, marks, peer, pem, provider, public, purpose, refusal,
    revocation, roots, set as trust, unfit, verify,
};
