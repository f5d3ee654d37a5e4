//! The certificates of one mesh: a root, an issuing CA, a leaf for every gateway and plugin, CRLs,
//! and the record of them all.
//!
//! [`Pki`] is one installation's state directory; `gapura-pki` is the program around it. Nothing
//! here runs beside a plugin: the code that holds a CA key stays on the operator's machine.

mod adopt;
mod adopted;
pub mod backup;
mod ca;
pub mod check;
mod clock_gate;
pub mod crl;
pub mod csr;
pub mod deliver;
mod disk;
pub mod enrol;
pub mod ensure;
pub mod error;
pub mod forget;
pub mod given;
mod held_dir;
pub mod inspect;
mod inventory;
pub mod issue;
mod judge;
mod key_rules;
mod keys;
mod leaf_key;
pub mod ledger;
pub mod lint;
mod mesh_dir;
mod metrics;
mod parallel;
pub mod passphrase;
mod pem;
mod pki;
pub mod probe;
mod profile;
pub mod publish;
pub mod renew;
pub mod revoke;
pub mod rotate;
pub mod seal;
pub mod settings;
mod standing;
mod store;
pub mod target;
#[cfg(test)]
mod tests;
pub mod timestamp;
pub mod unknown;
mod upkeep;
pub mod verify;

pub use error::Error;
pub use issue::{IssueRequest, Issued, KeyWanted};
pub use ledger::Reason;
pub use passphrase::KeyProtection;
pub use pki::Pki;
pub use publish::{Outcome, Republished};
pub use renew::{RenewRequest, Renewed};
pub use revoke::{RevocationDone, RevokeRequest};
pub use rotate::{RotateRequest, Rotated, Step};
pub use target::Target;
