//! Dialling as nobody: without a certificate of our own, to a CA server that proves itself, or to
//! whoever answers.
//!
//! In: a judgement, or none, and the clock. Out: a rustls configuration. It serves who has no
//! certificate yet, or one that counts no more, and asks for what is public; and who only looks at
//! what a server shows. Of [`anybody`] nothing is proven: nothing secret may go there, and nothing
//! that comes from there is believed by itself.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::configs::Wall;
use super::provider::mesh_provider;
use super::verifier::AnswerVerifier;
use gapura_certificates::purpose::Purpose;
use gapura_certificates::verify::Verifier;
use gapura_protocol::clock::Clock;

/// For asking whoever answers for what is public.
///
/// # Errors
/// No TLS can be spoken.
pub fn unjudged_config(clock: &Clock) -> Result<Arc<ClientConfig>, Error> {
    config(anybody(mesh_provider()), clock)
}

/// For dialling a CA server that `judge` takes.
///
/// # Errors
/// No TLS can be spoken.
pub fn authority_config(judge: Arc<Verifier>, clock: &Clock) -> Result<Arc<ClientConfig>, Error> {
    let verifier = AnswerVerifier {
        purpose: Purpose::Authority,
        judge,
        recent: Arc::default(),
        provider: mesh_provider(),
        wanted: None,
    };
    config(Arc::new(verifier), clock)
}

/// Takes whoever answers; only that they hold the key of the certificate they show is verified.
#[must_use]
pub fn anybody(provider: Arc<CryptoProvider>) -> Arc<dyn ServerCertVerifier> {
    Arc::new(Anybody(provider))
}

/// Shows no certificate, whoever asks for one.
#[must_use]
pub(super) fn no_certificate() -> Arc<dyn ResolvesClientCert> {
    Arc::new(NoCertificate)
}

fn config(
    verifier: Arc<dyn ServerCertVerifier>,
    clock: &Clock,
) -> Result<Arc<ClientConfig>, Error> {
    let time = Arc::new(Wall(clock.clone()));
    let mut config = ClientConfig::builder_with_details(mesh_provider(), time)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(no_certificate());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.enable_early_data = false;
    Ok(Arc::new(config))
}

struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Debug for Anybody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Anybody")
    }
}

#[derive(Debug)]
struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}
