//! Whatever stands in the files of a mesh directory: it is read or refused, and nothing stumbles.
#![no_main]

use gapura_mesh::tls::peer::Peer;
use gapura_mesh::tls::pem;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(chain) = pem::certificates(bytes) {
        let _ = Peer::of_judged_chain(&chain);
    }
    let _ = pem::crls(bytes);
    let _ = pem::private_key(bytes);
    let _ = Peer::of_judged_chain(&[bytes.into()]);
});
