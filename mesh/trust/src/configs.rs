//! The rustls configurations of a trust set: TLS 1.3 only, both ends prove who they are, nothing is
//! resumed.
//!
//! In: the set's judgement, certificate and clock. Out: a configuration for either end. What a
//! peer's certificate is worth is not decided here. Invariant: no resumption, which would skip the
//! judgement, no early data, no server name.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};

use super::verifier::{AnswerVerifier, DialVerifier, RecentRefusals};
use gapura_certificates::purpose::Purpose;
use gapura_certificates::verify::Verifier;
use gapura_protocol::clock::Clock;
use gapura_protocol::identity::{PeerId, Role};

/// The program's clock, for rustls.
#[derive(Debug)]
pub(super) struct Wall(pub(super) Clock);

impl TimeProvider for Wall {
    fn current_time(&self) -> Option<UnixTime> {
        self.0
            .now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .map(UnixTime::since_unix_epoch)
    }
}

/// What both configurations are made of.
pub(super) struct Parts<'a> {
    pub(super) judge: &'a Arc<Verifier>,
    pub(super) recent: &'a Arc<RecentRefusals>,
    pub(super) certified: &'a Arc<CertifiedKey>,
    pub(super) provider: &'a Arc<CryptoProvider>,
}

/// For whoever answers. Gateways come to us, and to a CA server whoever has a certificate, or wants
/// one.
pub(super) fn server_config(
    parts: &Parts<'_>,
    time: Arc<Wall>,
    own: Role,
) -> Result<ServerConfig, rustls::Error> {
    let verifier = DialVerifier {
        purpose: if own == Role::Pki {
            Purpose::Renewal
        } else {
            Purpose::Client
        },
        strangers: own == Role::Pki,
        judge: parts.judge.clone(),
        recent: parts.recent.clone(),
        provider: parts.provider.clone(),
    };
    let mut config = ServerConfig::builder_with_details(parts.provider.clone(), time)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(parts.certified.clone())));
    config.alpn_protocols = match own {
        Role::Pki => vec![b"http/1.1".to_vec()],
        Role::Gateway | Role::Plugin => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// For whoever dials; refuses everybody until a verifier for one identity is put in.
pub(super) fn client_config(
    parts: &Parts<'_>,
    time: Arc<Wall>,
    nobody: PeerId,
) -> Result<ClientConfig, rustls::Error> {
    let verifier = AnswerVerifier {
        judge: parts.judge.clone(),
        recent: parts.recent.clone(),
        provider: parts.provider.clone(),
        purpose: Purpose::Server,
        wanted: Some(nobody),
    };
    let mut config = ClientConfig::builder_with_details(parts.provider.clone(), time)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(parts.certified.clone())));
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.enable_early_data = false;
    Ok(config)
}
