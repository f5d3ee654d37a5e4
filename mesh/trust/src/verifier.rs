//! The judgement as rustls wants to call it, on either side of the hop.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, UNIX_EPOCH};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, SignatureScheme};

use super::carried;
use gapura_certificates::peer::Peer;
use gapura_certificates::purpose::Purpose;
use gapura_certificates::refusal::Refusal;
use gapura_certificates::verify::Verifier;
use gapura_protocol::identity::PeerId;

/// At whoever answers: whoever dials must prove to be good for one purpose in our own trust domain.
/// A sidecar takes gateways.
pub(super) struct DialVerifier {
    pub(super) purpose: Purpose,
    /// Whether one who shows no certificate is let in, to be served as nobody.
    pub(super) strangers: bool,
    pub(super) judge: Arc<Verifier>,
    pub(super) recent: Arc<RecentRefusals>,
    pub(super) provider: Arc<CryptoProvider>,
}

/// At whoever dials: whoever answers must prove to be exactly who was dialled. A gateway dials
/// plugins.
pub(super) struct AnswerVerifier {
    pub(super) purpose: Purpose,
    pub(super) judge: Arc<Verifier>,
    pub(super) recent: Arc<RecentRefusals>,
    pub(super) provider: Arc<CryptoProvider>,
    /// `None`: any that is good for the purpose.
    pub(super) wanted: Option<PeerId>,
}

/// The last refusal of each thread, until it is told. rustls carries an error out of a handshake
/// but for some kinds not the particulars; it calls the verifier in the very poll that then fails,
/// so a thread and a reason find the refusal again. As long as the threads that shake hands are
/// many.
#[derive(Default)]
pub(super) struct RecentRefusals(Mutex<HashMap<ThreadId, RecentRefusal>>);

/// A refusal, and whom the leaf claims to be.
pub(super) struct RecentRefusal {
    pub(super) refusal: Refusal,
    pub(super) leaf: Option<String>,
}

impl RecentRefusals {
    fn note(&self, refusal: Refusal, leaf: &CertificateDer<'_>) -> Error {
        let claimed = Peer::claimed(leaf).ok().map(|peer| peer.id.to_string());
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recent.insert(
            std::thread::current().id(),
            RecentRefusal {
                refusal: refusal.clone(),
                leaf: claimed,
            },
        );
        carried::into_rustls(refusal)
    }

    /// This thread's last refusal, if it was for this reason.
    pub(super) fn take(&self, reason: &str) -> Option<RecentRefusal> {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recent
            .remove(&std::thread::current().id())
            .filter(|recent| recent.refusal.reason() == reason)
    }
}

fn judge(
    judge: &Verifier,
    leaf: &CertificateDer<'_>,
    rest: &[CertificateDer<'_>],
    purpose: Purpose,
    now: UnixTime,
) -> Result<Peer, Refusal> {
    let chain: Vec<CertificateDer<'_>> = std::iter::once(leaf)
        .chain(rest)
        .map(|der| CertificateDer::from(der.as_ref()))
        .collect();
    let now = UNIX_EPOCH
        .checked_add(Duration::from_secs(now.as_secs()))
        .unwrap_or(UNIX_EPOCH);
    judge.judge(&chain, purpose, now)
}

impl ClientCertVerifier for DialVerifier {
    fn client_auth_mandatory(&self) -> bool {
        !self.strangers
    }

    /// None: the list would tell strangers the names of our CAs and can confuse clients in the
    /// middle of a rotation.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match judge(&self.judge, end_entity, intermediates, self.purpose, now) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(refusal) => Err(self.recent.note(refusal, end_entity)),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(
            PeerIncompatible::SupportedVersionsExtensionRequired,
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

impl ServerCertVerifier for AnswerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match judge(&self.judge, end_entity, intermediates, self.purpose, now) {
            Ok(peer) => match self.wanted.as_ref().filter(|wanted| peer.id != **wanted) {
                None => Ok(ServerCertVerified::assertion()),
                Some(wanted) => {
                    let refusal = Refusal::WrongIdentity {
                        wanted: wanted.clone(),
                        found: peer.id,
                    };
                    Err(self.recent.note(refusal, end_entity))
                }
            },
            Err(refusal) => Err(self.recent.note(refusal, end_entity)),
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

impl fmt::Debug for DialVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DialVerifier")
    }
}

impl fmt::Debug for AnswerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnswerVerifier")
    }
}
