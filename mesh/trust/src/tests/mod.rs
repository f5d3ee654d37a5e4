//! The crate's promises, with certificates minted for each test by a CA that is not `gapura-pki`,
//! and once by OpenSSL.

mod authority;
mod beginnings;
mod cost;
mod forgotten;
mod handshake;
mod mint;
mod openssl;
mod public;
mod refusals;
mod revocations;
mod sets;

use crate as trust;
