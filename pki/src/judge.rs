//! Whether a certificate would be let through: asked of every leaf before it leaves this program,
//! and by `verify` and `check`.
//!
//! The judgement itself is `gapura_certificates::verify`, the code that gateway and sidecar run in
//! a handshake; this file only brings it roots and CRLs from files.

use gapura_certificates::peer::Peer;
use gapura_certificates::purpose::Purpose;
use gapura_certificates::revocation::RevocationSet;
use gapura_certificates::roots::{Issuer, Roots};
use gapura_certificates::verify::Verifier;
use gapura_protocol::identity::{PeerId, TrustDomain};
use gapura_trust::provider::mesh_provider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};

use crate::leaf_key;
use crate::timestamp::Timestamp;

/// Roots and CRLs, checked and ready to judge by.
pub(crate) struct BundleVerifier(Verifier);

impl BundleVerifier {
    /// Takes roots and, unless revocation is not to be asked about, CRLs. `issuers` are CA
    /// certificates that may have signed a CRL; they vouch for nothing.
    pub(crate) fn new(
        roots: &[CertificateDer<'static>],
        crls: Option<&[Vec<u8>]>,
        issuers: &[CertificateDer<'static>],
        domain: &TrustDomain,
    ) -> Result<Self, String> {
        let algorithms = mesh_provider().signature_verification_algorithms.all;
        let anchors = Roots::new(roots).map_err(|why| why.to_string())?;
        let revocation = match crls {
            None => None,
            Some(crls) => {
                // What is no CA's signs no list; the judgement says so of a chain that it stands
                // in.
                let signers: Vec<Issuer> = roots
                    .iter()
                    .chain(issuers)
                    .filter_map(Issuer::from_der)
                    .collect();
                let signers: Vec<&Issuer> = signers.iter().collect();
                let lists: Vec<CertificateRevocationListDer<'_>> = crls
                    .iter()
                    .map(|der| CertificateRevocationListDer::from(der.as_slice()))
                    .collect();
                Some(
                    RevocationSet::new(&lists, &signers, algorithms, None)
                        .map_err(|why| why.to_string())?,
                )
            }
        };
        Ok(Self(Verifier::new(
            anchors,
            revocation,
            domain.clone(),
            algorithms,
        )))
    }

    /// Judges `chain` (leaf first) as the peer on the other side would; `wanted` is the identity it
    /// insists on, if it does.
    pub(crate) fn judge(
        &self,
        chain: &[CertificateDer<'_>],
        purpose: Purpose,
        wanted: Option<&PeerId>,
        now: Timestamp,
    ) -> Result<Peer, String> {
        let peer = self
            .0
            .judge(chain, purpose, now.to_system())
            .map_err(|why| why.to_string())?;
        // The chain says nothing of the leaf's own key; a handshake would fail on it.
        if let Some(leaf) = chain.first() {
            leaf_key::check_certificate(leaf)?;
        }
        match wanted.filter(|wanted| **wanted != peer.id) {
            Some(wanted) => Err(format!("it speaks for {}, wanted {wanted}", peer.id)),
            None => Ok(peer),
        }
    }
}
