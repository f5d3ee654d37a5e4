//! Whom a host believes that has nothing yet but a join token.
//!
//! In: the token's fingerprint of the root. Out: two TLS configurations. Under [`unjudged`] whoever answers may, and may be asked for
//! the certificates of the CAs alone, which are public. Among those [`Root::among`] finds the one root that the operator meant, or
//! says that it is not there; and under [`Root::config`] only a CA server whose chain leads to exactly that root may answer. The
//! token is shown to nobody before. Revocation is not known at that time: it is judged once the CRLs are there.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use gapura_certificates::purpose::Purpose;
use gapura_certificates::roots::Roots;
use gapura_certificates::verify::Verifier;
use gapura_protocol::clock::Clock;
use gapura_protocol::identity::TrustDomain;
use gapura_protocol::text::hex;
use gapura_trust::provider::mesh_provider;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, PeerIncompatible,
    SignatureScheme,
};

use crate::trouble::Trouble;

/// The root that the join token names.
pub(crate) struct Root {
    der: CertificateDer<'static>,
    judge: Arc<Verifier>,
}

/// Takes whoever answers, or only who a judgement takes.
#[derive(Debug)]
struct Bootstrap {
    judge: Option<Arc<Verifier>>,
    provider: Arc<CryptoProvider>,
}

/// The agent's clock, for rustls.
#[derive(Debug)]
struct Wall(Clock);

impl TimeProvider for Wall {
    fn current_time(&self) -> Option<UnixTime> {
        let since = self.0.now().duration_since(UNIX_EPOCH).ok()?;
        Some(UnixTime::since_unix_epoch(since))
    }
}

/// For asking whoever answers for what is public.
pub(crate) fn unjudged(clock: &Clock) -> Result<Arc<ClientConfig>, Trouble> {
    config(None, clock)
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
        config(Some(self.judge.clone()), clock)
    }
}

fn config(judge: Option<Arc<Verifier>>, clock: &Clock) -> Result<Arc<ClientConfig>, Trouble> {
    let provider = mesh_provider();
    let verifier = Bootstrap {
        judge,
        provider: provider.clone(),
    };
    let time = Arc::new(Wall(clock.clone()));
    let mut config = ClientConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| Trouble::Unreachable(format!("no TLS can be spoken: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.enable_early_data = false;
    Ok(Arc::new(config))
}

impl ServerCertVerifier for Bootstrap {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(judge) = &self.judge else {
            return Ok(ServerCertVerified::assertion());
        };
        let chain: Vec<CertificateDer<'_>> = std::iter::once(end_entity)
            .chain(intermediates)
            .map(|der| CertificateDer::from(der.as_ref()))
            .collect();
        let now = UNIX_EPOCH
            .checked_add(Duration::from_secs(now.as_secs()))
            .unwrap_or(UNIX_EPOCH);
        match judge.judge(&chain, Purpose::Authority, now) {
            Ok(_) => Ok(ServerCertVerified::assertion()),
            Err(refusal) => Err(Error::InvalidCertificate(CertificateError::Other(
                OtherError(Arc::new(refusal)),
            ))),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13,
        ))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
