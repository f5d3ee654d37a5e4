//! The gateway's public certificate: what is a pair, and how one follows another.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::mint::{Ca, DAY, Leaf, serial, valid, write_secret};
use crate::provider::{mesh_provider, public_provider};
use crate::public::{PublicCertificate, PublicError, PublicStore, TlsMin};
use gapura_protocol::clock::Clock;

fn edge(ca: &Ca, days: i64) -> Leaf {
    ca.leaf(
        "spiffe://x/gateway/x",
        &[rcgen::ExtendedKeyUsagePurpose::ServerAuth],
        |params| {
            params.subject_alt_names =
                vec![rcgen::SanType::DnsName("edge.test".try_into().unwrap())];
            valid(-DAY, days * DAY)(params);
        },
    )
}

fn publish(dir: &Path, leaf: &Leaf) {
    write_secret(&dir.join("edge.crt"), &leaf.cert);
    write_secret(&dir.join("edge.key"), &leaf.key);
}

fn load(dir: &Path) -> Result<PublicCertificate, PublicError> {
    PublicCertificate::load(&dir.join("edge.crt"), &dir.join("edge.key"))
}

#[test]
fn its_serial_is_spelled_as_all_others_are() {
    let (ca, dir) = (Ca::root("public"), tempfile::tempdir().unwrap());
    // In DER a zero stands before it, or it would be a negative number.
    let leaf = ca.leaf(
        "spiffe://x/gateway/x",
        &[rcgen::ExtendedKeyUsagePurpose::ServerAuth],
        serial(0x80ff),
    );
    publish(dir.path(), &leaf);
    assert_eq!(load(dir.path()).unwrap().serial_hex(), "80ff");
}

#[test]
fn a_pair_fits_or_says_why_not() {
    let (ca, dir) = (Ca::root("public"), tempfile::tempdir().unwrap());
    publish(dir.path(), &edge(&ca, 30));
    assert!(!load(dir.path()).unwrap().expired(Clock::system().unix()));
    std::fs::set_permissions(
        dir.path().join("edge.key"),
        std::fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    assert!(
        load(dir.path())
            .err()
            .unwrap()
            .to_string()
            .contains("chmod 600")
    );
    write_secret(&dir.path().join("edge.key"), &edge(&ca, 30).key);
    assert!(matches!(
        load(dir.path()).err(),
        Some(PublicError::KeyMismatch(..))
    ));
    publish(dir.path(), &edge(&ca, 0));
    assert!(
        load(dir.path())
            .unwrap()
            .expired(Clock::system().unix() + 60)
    );
    std::fs::remove_file(dir.path().join("edge.crt")).unwrap();
    assert!(
        load(dir.path())
            .err()
            .unwrap()
            .to_string()
            .ends_with("edge.crt is missing")
    );
}

/// The version, group and ALPN that a client of this kind gets, and the serial number it sees.
async fn visit(
    ca: &Ca,
    store: &PublicStore,
    version: &'static SupportedProtocolVersion,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> (String, Option<Vec<u8>>, Vec<u8>) {
    let mut roots = RootCertStore::empty();
    roots.add(ca.der.clone()).unwrap();
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from("edge.test").unwrap();
    let (dialled, answered) = tokio::join!(
        TlsConnector::from(Arc::new(client)).connect(name, near),
        TlsAcceptor::from(store.server_config(None, TlsMin::Tls12).unwrap()).accept(far)
    );
    let (dialled, _answered) = (dialled.unwrap(), answered.unwrap());
    let (_, connection) = dialled.get_ref();
    let group = format!(
        "{:?}",
        connection.negotiated_key_exchange_group().unwrap().name()
    );
    (
        group,
        connection.alpn_protocol().map(<[u8]>::to_vec),
        connection.peer_certificates().unwrap()[0].to_vec(),
    )
}

#[tokio::test]
async fn clients_of_both_versions_are_served_and_the_hybrid_to_who_prefers_it_alone() {
    let (ca, dir) = (Ca::root("public"), tempfile::tempdir().unwrap());
    publish(dir.path(), &edge(&ca, 30));
    let store = PublicStore::new(load(dir.path()).unwrap());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (group, alpn, _) = visit(&ca, &store, version, public_provider()).await;
        assert_eq!(
            (group.as_str(), alpn.as_deref()),
            ("X25519", Some(&b"h2"[..]))
        );
    }
    let mut hybrid = (*mesh_provider()).clone();
    hybrid.kx_groups.truncate(1);
    let (group, ..) = visit(&ca, &store, &rustls::version::TLS13, Arc::new(hybrid)).await;
    assert_eq!(group, "X25519MLKEM768");
    // What is put in force is shown from the next handshake on.
    let next = edge(&ca, 60);
    publish(dir.path(), &next);
    store.swap(load(dir.path()).unwrap());
    let (.., shown) = visit(&ca, &store, &rustls::version::TLS13, public_provider()).await;
    assert_eq!(shown, next.chain[0].to_vec());
}
