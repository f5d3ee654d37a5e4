//! The judgement as rustls wants to call it, on either side of the hop.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, SignatureScheme};

use super::peer::Peer;
use super::refusal::Refusal;
use super::verify::{Judge, Purpose};
use crate::identity::PeerId;

/// At a sidecar: whoever dials must prove to be a gateway of our own trust domain.
pub(super) struct GatewayVerifier {
    pub(super) judge: Arc<Judge>,
    pub(super) provider: Arc<CryptoProvider>,
}

/// At a gateway: whoever answers must prove to be exactly the plugin that was dialled.
pub(super) struct PluginVerifier {
    pub(super) judge: Arc<Judge>,
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) wanted: PeerId,
}

fn judge(judge: &Judge, leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>], purpose: Purpose, now: UnixTime) -> Result<Peer, Refusal> {
    let chain: Vec<CertificateDer<'_>> = std::iter::once(leaf).chain(rest).map(|der| CertificateDer::from(der.as_ref())).collect();
    let now = UNIX_EPOCH.checked_add(Duration::from_secs(now.as_secs())).unwrap_or(UNIX_EPOCH);
    judge.judge(&chain, purpose, now)
}

impl ClientCertVerifier for GatewayVerifier {
    /// None: the list would tell strangers the names of our CAs and can confuse clients in the middle of a rotation.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match judge(&self.judge, end_entity, intermediates, Purpose::Client, now) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(refusal) => Err(refusal.into_rustls()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::SupportedVersionsExtensionRequired))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for PluginVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match judge(&self.judge, end_entity, intermediates, Purpose::Server, now) {
            Ok(peer) if peer.id == self.wanted => Ok(ServerCertVerified::assertion()),
            Ok(peer) => Err(Refusal::WrongIdentity { wanted: self.wanted.clone(), found: peer.id }.into_rustls()),
            Err(refusal) => Err(refusal.into_rustls()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Debug for GatewayVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GatewayVerifier")
    }
}

impl fmt::Debug for PluginVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PluginVerifier")
    }
}
