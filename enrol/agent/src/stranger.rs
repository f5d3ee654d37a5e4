//! Whom a host believes that has nothing yet but a join token.
//!
//! In: the token's fingerprint of the root. Out: two TLS configurations. Under [`unjudged`] whoever
//! answers may, and may be asked for the certificates of the CAs alone, which are public. Among
//! those [`Root::among`] finds the one root that the operator meant, or says that it is not there;
//! and under [`Root::config`] only a CA server whose chain leads to exactly that root may answer.
//! The token is shown to nobody before. Revocation is not known at that time: it is judged once the
//! CRLs are there.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use gapura_certificates::roots::Roots;
use gapura_certificates::verify::Verifier;
use gapura_protocol::clock::Clock;
use gapura_protocol::identity::TrustDomain;
use gapura_protocol::text::hex;
use gapura_trust::nobody;
use gapura_trust::provider::mesh_provider;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;

use crate::trouble::Trouble;

/// The root that the join token names.
pub(crate) struct Root {
    der: CertificateDer<'static>,
    judge: Arc<Verifier>,
}

/// For asking whoever answers for what is public.
pub(crate) fn unjudged(clock: &Clock) -> Result<Arc<ClientConfig>, Trouble> {
    nobody::unjudged_config(clock).map_err(|error| no_tls(&error))
}

impl Root {
    /// The root with that fingerprint among `certificates`, for identities of `domain`.
    ///
    /// # Errors
    /// It is not among them, or is no CA's.
    pub(crate) fn among(
        certificates: &[CertificateDer<'static>],
        wanted: &[u8; 32],
        domain: &TrustDomain,
    ) -> Result<Self, Trouble> {
        let is_wanted = |der: &&CertificateDer<'static>| digest(&SHA256, der).as_ref() == wanted;
        let der = certificates.iter().find(is_wanted).ok_or_else(|| {
            Trouble::Distrusted(format!(
                "none of the {} CA certificates it shows has the SHA-256 {} that the join token names; check --ca, or make a token at that CA",
                certificates.len(),
                hex(wanted)
            ))
        })?;
        let roots = Roots::new(std::slice::from_ref(der))
            .map_err(|why| Trouble::Distrusted(why.to_string()))?;
        let algorithms = mesh_provider().signature_verification_algorithms.all;
        let judge = Verifier::new(roots, None, domain.clone(), algorithms);
        Ok(Self {
            der: der.clone(),
            judge: Arc::new(judge),
        })
    }

    /// Its certificate.
    pub(crate) fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// For showing the join token to a CA server under this root, and to nobody else.
    pub(crate) fn config(&self, clock: &Clock) -> Result<Arc<ClientConfig>, Trouble> {
        let config = nobody::authority_config(self.judge.clone(), clock);
        config.map_err(|error| no_tls(&error))
    }
}

fn no_tls(error: &rustls::Error) -> Trouble {
    Trouble::Unreachable(format!("no TLS can be spoken: {error}"))
}
