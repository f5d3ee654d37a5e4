//! Whether a leaf would be let through: asked of every certificate before it leaves this program, and by `verify`.
//!
//! In: a chain, roots, CRLs, which side of the handshake, whom it should speak for, a time. Out: nothing, or a sentence.

use gapura_mesh::identity::{PeerId, Role};
use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use crate::moment::Moment;

const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];

/// Judges `chain` (leaf first) as a peer would that wants exactly `wanted`.
pub(crate) fn judge(chain: &[CertificateDer<'_>], roots: &[CertificateDer<'_>], wanted: &PeerId, now: Moment) -> Result<(), String> {
    let (leaf, intermediates) = chain.split_first().ok_or_else(|| "no certificate".to_owned())?;
    let anchors: Vec<_> = roots.iter().filter_map(|root| webpki::anchor_from_trusted_cert(root).ok()).collect();
    let leaf = EndEntityCert::try_from(leaf).map_err(|why| why.to_string())?;
    let usage = match wanted.role() {
        Role::Gateway => KeyUsage::required(CLIENT_AUTH),
        Role::Plugin => KeyUsage::required(SERVER_AUTH),
    };
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.0));
    leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors, intermediates, at, usage, None, None)
        .map_err(|why| format!("{why:?}"))?;
    let names: Vec<&str> = leaf.valid_uri_names().collect();
    if names != [wanted.to_string()] {
        return Err(format!("it speaks for {names:?}, wanted {wanted}"));
    }
    Ok(())
}
