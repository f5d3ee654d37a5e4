//! Real handshakes between our two configurations.

use std::io;
use std::sync::Arc;

use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use rustls::client::Resumption;
use rustls::pki_types::{IpAddr, Ipv4Addr, ServerName};
use rustls::{ClientConfig, HandshakeKind, NamedGroup, ProtocolVersion, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::mint::{Ca, DAY, GATEWAY, PLUGIN, Pair, serial, valid};
use crate::failure::{HandshakeFailure, handshake_refusal};
use crate::set::TrustSet;
use gapura_certificates::peer::Peer;
use gapura_protocol::identity::PeerId;

type Stream = tokio::io::DuplexStream;

fn name() -> ServerName<'static> {
    ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([127, 0, 0, 1])))
}

/// Both ends, each up to the first byte it gets: in TLS 1.3 a client learns only then what the
/// server made of its certificate.
async fn shake(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
) -> (
    io::Result<client::TlsStream<Stream>>,
    io::Result<server::TlsStream<Stream>>,
) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let dial = async {
        let mut stream = TlsConnector::from(client).connect(name(), near).await?;
        stream.read_u8().await?;
        Ok(stream)
    };
    let answer = async {
        let mut stream = TlsAcceptor::from(server).accept(far).await?;
        stream.write_u8(7).await?;
        stream.flush().await?;
        Ok(stream)
    };
    tokio::join!(dial, answer)
}

fn id(text: &str) -> PeerId {
    text.parse().unwrap()
}

async fn meet(
    gateway: &TrustSet,
    sidecar: &TrustSet,
    wanted: &str,
) -> (
    Result<client::TlsStream<Stream>, HandshakeFailure>,
    Result<server::TlsStream<Stream>, HandshakeFailure>,
) {
    let (dialled, answered) = shake(
        gateway.client_config(&id(wanted), &[b"h2"]),
        sidecar.server_config(),
    )
    .await;
    (
        dialled.map_err(|err| gateway.explain(&err)),
        answered.map_err(|err| sidecar.explain(&err)),
    )
}

#[tokio::test]
async fn the_two_ends_agree_on_the_hybrid_group_tls13_and_h2_and_know_each_other() {
    let pair = Pair::new();
    let (gateway, sidecar) = pair.sets();
    let (dialled, answered) = meet(&gateway, &sidecar, PLUGIN).await;
    let (dialled, answered) = (dialled.unwrap(), answered.unwrap());
    for group in [
        dialled.get_ref().1.negotiated_key_exchange_group(),
        answered.get_ref().1.negotiated_key_exchange_group(),
    ] {
        assert_eq!(group.unwrap().name(), NamedGroup::X25519MLKEM768);
    }
    let (_, server) = answered.get_ref();
    assert_eq!(server.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(server.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(server.server_name(), None);
    assert_eq!(server.handshake_kind(), Some(HandshakeKind::Full));
    let peer = Peer::of_judged_chain(server.peer_certificates().unwrap()).unwrap();
    assert_eq!(peer.id.to_string(), GATEWAY);
    assert_eq!(peer, *gateway.own());
    let peer = Peer::of_judged_chain(dialled.get_ref().1.peer_certificates().unwrap()).unwrap();
    assert_eq!(peer, *sidecar.own());
}

#[tokio::test]
async fn http11_is_chosen_where_the_gateway_offers_it_alone_and_a_stranger_protocol_is_refused() {
    let (gateway, sidecar) = Pair::new().sets();
    let (_, answered) = shake(
        gateway.client_config(&id(PLUGIN), &[b"http/1.1"]),
        sidecar.server_config(),
    )
    .await;
    assert_eq!(
        answered.unwrap().get_ref().1.alpn_protocol(),
        Some(&b"http/1.1"[..])
    );
    let (dialled, answered) = shake(
        gateway.client_config(&id(PLUGIN), &[b"smtp"]),
        sidecar.server_config(),
    )
    .await;
    assert_eq!(handshake_refusal(&answered.err().unwrap()).reason, "alpn");
    assert_eq!(
        handshake_refusal(&dialled.err().unwrap()).reason,
        "alert_alpn"
    );
}

#[tokio::test]
async fn another_plugin_than_the_one_dialled_is_refused() {
    let (gateway, sidecar) = Pair::new().sets();
    let (dialled, answered) = meet(&gateway, &sidecar, "spiffe://mesh.test/plugin/other").await;
    let failure = dialled.err().unwrap();
    assert_eq!(
        (
            failure.reason,
            failure.is_peer_alert,
            failure.is_about_certificates
        ),
        ("identity", false, true)
    );
    assert!(
        failure.sentence.contains("plugin/other` was wanted and")
            && failure.sentence.contains("plugin/lab` answered"),
        "{failure:?}"
    );
    let told = answered.err().unwrap();
    assert_eq!((told.reason, told.is_peer_alert), ("alert_identity", true));
}

#[tokio::test]
async fn whoever_shows_no_certificate_is_refused() {
    let (gateway, sidecar) = Pair::new().sets();
    let mut config = (*gateway.client_config(&id(PLUGIN), &[b"h2"])).clone();
    config.client_auth_cert_resolver = Arc::new(NoCertificate);
    let (dialled, answered) = shake(Arc::new(config), sidecar.server_config()).await;
    assert_eq!(
        handshake_refusal(&answered.err().unwrap()).reason,
        "no_certificate"
    );
    let told = handshake_refusal(&dialled.err().unwrap());
    assert_eq!(
        (told.reason, told.is_peer_alert, told.is_about_certificates),
        ("alert_certificate_required", true, true)
    );
}

#[derive(Debug)]
struct NoCertificate;

impl rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(
        &self,
        _: &[&[u8]],
        _: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// What each end says when the gateway's certificate is one that the sidecar refuses.
async fn refused(
    root: &Ca,
    gateway: super::mint::Leaf,
    sidecar_crl: Option<&str>,
) -> (HandshakeFailure, HandshakeFailure) {
    let plugin = root.plugin();
    let pair = Pair::of(root, gateway, plugin);
    if let Some(crl) = sidecar_crl {
        pair.sidecar.1.write("crl.pem", crl);
    }
    let (gateway, sidecar) = pair.sets();
    let (dialled, answered) = meet(&gateway, &sidecar, PLUGIN).await;
    (dialled.err().unwrap(), answered.err().unwrap())
}

#[tokio::test]
async fn each_refusal_has_its_label_here_and_its_alert_there() {
    let root = Ca::root("r");
    let gateway = root.leaf(GATEWAY, &[ClientAuth], valid(-DAY, -60));
    let (there, here) = refused(&root, gateway, None).await;
    assert_eq!((here.reason, there.reason), ("expired", "alert_expired"));
    assert!(here.sentence.contains("before our clock"), "{here:?}");
    assert_eq!(here.peer.as_deref(), Some(GATEWAY));

    let root = Ca::root("r");
    let gateway = root.leaf(GATEWAY, &[ClientAuth], valid(3600, DAY));
    let (there, here) = refused(&root, gateway, None).await;
    assert_eq!(
        (here.reason, there.reason),
        ("not_yet_valid", "alert_expired")
    );

    let root = Ca::root("r");
    let gateway = root.leaf(GATEWAY, &[ClientAuth], serial(77));
    let crl = root.crl(2, &[77]);
    let (there, here) = refused(&root, gateway, Some(&crl)).await;
    assert_eq!((here.reason, there.reason), ("revoked", "alert_revoked"));
    assert!(
        here.sentence
            .contains("the certificate of spiffe://mesh.test/gateway/edge is revoked (serial 4d)"),
        "{here:?}"
    );
    assert_eq!((here.peer.as_deref(), there.peer), (Some(GATEWAY), None));
    assert!(there.is_peer_alert && there.is_about_certificates && here.is_about_certificates);

    let root = Ca::root("r");
    let gateway = root.gateway();
    let crl = root.crl_due(2, &[], super::mint::now() - 25 * 3600);
    let (there, here) = refused(&root, gateway, Some(&crl)).await;
    assert_eq!(
        (here.reason, there.reason),
        ("crl_too_old", "alert_unknown_ca")
    );
}

#[tokio::test]
async fn a_plugin_cannot_dial_another_plugin() {
    let root = Ca::root("r");
    let (one, other) = (
        root.leaf(
            "spiffe://mesh.test/plugin/one",
            &[ClientAuth, ServerAuth],
            |_| {},
        ),
        root.plugin(),
    );
    let crl = root.crl(1, &[]);
    let dialler = super::mint::Dir::of(&one, &root.pem, Some(&crl))
        .load(
            &super::mint::options(gapura_protocol::identity::Role::Plugin),
            None,
        )
        .unwrap();
    let sidecar = super::mint::Dir::of(&other, &root.pem, Some(&crl))
        .load(
            &super::mint::options(gapura_protocol::identity::Role::Plugin),
            None,
        )
        .unwrap();
    let (dialled, answered) = meet(&dialler, &sidecar, PLUGIN).await;
    let refusal = answered.err().unwrap();
    assert_eq!(refusal.reason, "role");
    assert!(
        refusal.sentence.contains("plugin/one` is no gateway"),
        "{refusal:?}"
    );
    assert!(dialled.err().unwrap().is_peer_alert);
}

#[tokio::test]
async fn plain_http_and_a_vanished_peer_are_told_apart() {
    let (_, sidecar) = Pair::new().sets();
    let (mut near, far) = tokio::io::duplex(1024);
    near.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let err = TlsAcceptor::from(sidecar.server_config())
        .accept(far)
        .await
        .err()
        .unwrap();
    assert_eq!(handshake_refusal(&err).reason, "not_tls");
    let (near, far) = tokio::io::duplex(1024);
    drop(near);
    let err = TlsAcceptor::from(sidecar.server_config())
        .accept(far)
        .await
        .err()
        .unwrap();
    assert_eq!(handshake_refusal(&err).reason, "closed");
    assert_eq!(
        handshake_refusal(&io::Error::from(io::ErrorKind::TimedOut)).reason,
        "timeout"
    );
    let wrapped = io::Error::other(io::Error::new(
        io::ErrorKind::InvalidData,
        rustls::Error::NoCertificatesPresented,
    ));
    assert_eq!(handshake_refusal(&wrapped).reason, "no_certificate");
}

#[tokio::test]
async fn a_session_is_never_resumed_even_by_a_client_that_would_like_to() {
    let (gateway, sidecar) = Pair::new().sets();
    let mut eager = (*gateway.client_config(&id(PLUGIN), &[b"h2"])).clone();
    eager.resumption = Resumption::in_memory_sessions(8);
    eager.enable_early_data = true;
    let eager = Arc::new(eager);
    let server = sidecar.server_config();
    assert_eq!(
        (
            server.send_tls13_tickets,
            server.max_early_data_size,
            server.ticketer.enabled()
        ),
        (0, 0, false)
    );
    assert!(!server.session_storage.can_cache());
    for _ in 0..3 {
        let (dialled, answered) = shake(eager.clone(), server.clone()).await;
        let (dialled, answered) = (dialled.unwrap(), answered.unwrap());
        assert_eq!(
            dialled.get_ref().1.handshake_kind(),
            Some(HandshakeKind::Full)
        );
        assert_eq!(
            answered.get_ref().1.handshake_kind(),
            Some(HandshakeKind::Full)
        );
        assert_eq!(dialled.get_ref().1.tls13_tickets_received(), 0);
    }
}

#[tokio::test]
async fn tls12_is_not_spoken_on_the_hop() {
    let (gateway, sidecar) = Pair::new().sets();
    let provider = crate::provider::public_provider();
    let (twelve, thirteen) = (&rustls::version::TLS12, &rustls::version::TLS13);
    for (version, reason) in [(twelve, Some("version")), (thirteen, None)] {
        let mut old = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TakeAll(provider.clone())))
            .with_no_client_auth();
        old.client_auth_cert_resolver = gateway
            .client_config(&id(PLUGIN), &[])
            .client_auth_cert_resolver
            .clone();
        let (_, answered) = shake(Arc::new(old), sidecar.server_config()).await;
        assert_eq!(
            answered.err().map(|err| handshake_refusal(&err).reason),
            reason
        );
    }
}

#[derive(Debug)]
struct TakeAll(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for TakeAll {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[tokio::test]
async fn the_clock_that_judges_is_the_programs_own() {
    let pair = Pair::new();
    let (gateway, sidecar) = pair.sets();
    pair.sidecar.2.clock.shift(31 * DAY);
    let (_, answered) = meet(&gateway, &sidecar, PLUGIN).await;
    assert_eq!(answered.err().unwrap().reason, "expired");
    pair.sidecar.2.clock.shift(0);
    let (dialled, _) = meet(&gateway, &sidecar, PLUGIN).await;
    assert!(dialled.is_ok());
}
