//! What a renewal can't do without, measured by itself: a handshake of rustls in which both ends
//! prove themselves, and a signature.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

use super::host::Host;

const TIMES: u32 = 500;

/// What the answering end of a handshake takes of a processor, with the certificate of `ca-1` there
/// and a gateway's at the other end. The time of the other end is not in it.
pub(super) fn handshake(host: &Host, roots: &Arc<RootCertStore>) -> Duration {
    // A gateway's, since rustls by itself takes none of a plugin's to dial with.
    host.pki(&["issue", "gateway", "edge", "--out", &host.text("edge")]);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
    let (chain, key) = own(host, "ca-1");
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    let (chain, key) = own(host, "edge");
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots.clone())
        .with_client_auth_cert(chain, key)
        .unwrap();
    let client = Arc::new(client);
    let server = Arc::new(server);
    let mut took = Duration::ZERO;
    for _ in 0..TIMES {
        let name = ServerName::try_from("ca-1.pki.test.internal").unwrap();
        let mut client = ClientConnection::new(client.clone(), name).unwrap();
        let mut answering = ServerConnection::new(server.clone()).unwrap();
        while client.is_handshaking() || answering.is_handshaking() {
            let mut sent = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut sent).unwrap();
            }
            let (began, mut answer) = (Instant::now(), Vec::new());
            let mut unread = &sent[..];
            while !unread.is_empty() {
                answering.read_tls(&mut unread).unwrap();
                answering.process_new_packets().unwrap();
            }
            while answering.wants_write() {
                answering.write_tls(&mut answer).unwrap();
            }
            took += began.elapsed();
            let mut unread = &answer[..];
            while !unread.is_empty() {
                client.read_tls(&mut unread).unwrap();
                client.process_new_packets().unwrap();
            }
        }
    }
    took / TIMES
}

/// The certificate and key in a mesh directory.
fn own(host: &Host, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_file_iter(host.path(name).join("cert.pem"));
    let key = PrivateKeyDer::from_pem_file(host.path(name).join("key.pem"));
    (chain.unwrap().map(Result::unwrap).collect(), key.unwrap())
}

/// What a signature by a P-256 key takes.
pub(super) fn signature() -> Duration {
    let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_ASN1_SIGNING);
    let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let key = EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref()).unwrap();
    let began = Instant::now();
    for _ in 0..TIMES {
        let _ = key
            .sign(&random, b"a certificate's worth of bytes")
            .unwrap();
    }
    began.elapsed() / TIMES
}
