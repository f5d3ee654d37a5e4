//! The gateway's public certificate: what is a pair, and how one follows another.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::sync::watch;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::mint::{Ca, DAY, Leaf, valid, write_secret};
use super::watching::{Lines, eventually};
use crate::alarms::Alarms;
use crate::clock::Clock;
use crate::log::Log;
use crate::tls::provider::{mesh_provider, public_provider};
use crate::tls::public::{PublicCertificate, PublicError, PublicKeeper, PublicStore, keep};

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
        TlsAcceptor::from(store.server_config(None).unwrap()).accept(far)
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
}

#[tokio::test]
async fn files_replaced_one_by_one_are_taken_once_they_fit() {
    let (ca, dir) = (Ca::root("public"), tempfile::tempdir().unwrap());
    publish(dir.path(), &edge(&ca, 30));
    let store = PublicStore::new(load(dir.path()).unwrap());
    let (first, lines, clock) = (
        store.load().serial_hex().to_owned(),
        Lines::default(),
        Clock::system(),
    );
    let log = Log::to("gateway", clock.clone(), Box::new(lines.clone())).unwrap();
    let alarms = Alarms::new(log.clone());
    let (_reload, asked) = watch::channel(0);
    let keeper = PublicKeeper {
        store: store.clone(),
        cert: dir.path().join("edge.crt"),
        key: dir.path().join("edge.key"),
        clock: clock.clone(),
        alarms: alarms.clone(),
        log,
        reload: asked,
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let task = tokio::spawn(keep(keeper, |_| {}, async {
        let _ = stopped.await;
    }));
    let next = edge(&ca, 60);
    write_secret(&dir.path().join("edge.crt"), &next.cert);
    eventually("the misfit is told", || {
        lines.have("public_certificate_refused")
    })
    .await;
    assert_eq!(store.load().serial_hex(), first);
    write_secret(&dir.path().join("edge.key"), &next.key);
    let took = eventually("the new pair is in force", || {
        store.load().serial_hex() != first
    })
    .await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    let (.., shown) = visit(&ca, &store, &rustls::version::TLS13, public_provider()).await;
    assert_eq!(shown, next.chain[0].to_vec());
    // One that has not begun is waited for.
    let current = store.load().serial_hex().to_owned();
    let early = ca.leaf(
        "spiffe://x/gateway/x",
        &[rcgen::ExtendedKeyUsagePurpose::ServerAuth],
        valid(300, 60 * DAY),
    );
    publish(dir.path(), &early);
    eventually("the wait is told", || lines.have("begins at")).await;
    assert_eq!(store.load().serial_hex(), current);
    clock.shift(400);
    eventually("it has begun", || store.load().serial_hex() != current).await;
    clock.shift(61 * DAY);
    eventually("it has ended", || {
        alarms
            .raised()
            .iter()
            .any(|(name, _)| *name == "public_certificate")
    })
    .await;
    publish(dir.path(), &edge(&ca, 90));
    eventually("it is mended", || alarms.raised().is_empty()).await;
    let _ = stop.send(());
    task.await.unwrap();
}
