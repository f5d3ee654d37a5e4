//! Whatever stands in the files of a mesh directory: it is read or refused, and nothing stumbles.

use gapura_certificates::peer::Peer;
use gapura_files::pem;

/// Holds the file's sentence to one input.
pub fn check(bytes: &[u8]) {
    if let Ok(chain) = pem::certificates(bytes) {
        let _ = Peer::of_judged_chain(&chain);
    }
    let _ = pem::crls(bytes);
    let _ = pem::private_key(bytes);
    let _ = Peer::of_judged_chain(&[bytes.into()]);
}
