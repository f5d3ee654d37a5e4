//! Whatever stands in a mesh directory: a set fits or is refused with a sentence, and one that fits
//! is what it says it is.
//!
//! The input is `cert.pem`, `key.pem`, `ca.pem` and `crl.pem`, parted by NUL; the last may be
//! missing.

use std::path::Path;

use gapura_files::directory::{MeshFiles, Stamp, hash};
use gapura_protocol::clock::Clock;
use gapura_protocol::identity::Role;
use gapura_trust::set::{TrustOptions, TrustSet};
use zeroize::Zeroizing;

/// Holds the file's sentence to one input.
pub fn check(bytes: &[u8]) {
    let mut parts = bytes.splitn(4, |byte| *byte == 0);
    let mut part = || parts.next().unwrap_or_default().to_vec();
    let (cert, key, ca) = (part(), part(), part());
    let crl = parts.next().map(<[u8]>::to_vec);
    let files = MeshFiles {
        hash: hash([&cert, &key, &ca, crl.as_deref().unwrap_or_default()]),
        cert,
        key: Zeroizing::new(key),
        ca,
        crl,
        stamp: Stamp::default(),
    };
    let no_crl = files.crl.is_none();
    let build = |own_role, no_crl| {
        let options = TrustOptions {
            own_role,
            no_crl,
            clock: Clock::system(),
        };
        TrustSet::build(Path::new("mesh"), &files, &options, None)
    };
    match build(Role::Gateway, no_crl) {
        Ok(set) => {
            assert_eq!(set.own().id.role(), Role::Gateway);
            let other = build(Role::Plugin, no_crl);
            assert!(other.is_err(), "another's certificate was taken");
            if no_crl {
                let unasked = build(Role::Gateway, false);
                assert!(unasked.is_err(), "no list, and no leave to go without");
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
