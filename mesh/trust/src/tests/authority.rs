//! Whom somebody dials who asks a CA server: with a certificate, or as nobody, also when the CRLs
//! here are long out of date.

use std::io;
use std::sync::Arc;

use rcgen::ExtendedKeyUsagePurpose::ServerAuth;
use rustls::pki_types::{IpAddr, Ipv4Addr, ServerName};
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::mint::{Ca, DAY, Dir, now, options, serial};
use crate::failure::handshake_refusal;
use crate::nobody;
use crate::provider::mesh_provider;
use crate::set::TrustSet;
use gapura_certificates::purpose::Purpose;
use gapura_certificates::roots::Roots;
use gapura_certificates::verify::Verifier;
use gapura_protocol::clock::Clock;
use gapura_protocol::identity::Role;

const AUTHORITY: &str = "spiffe://mesh.test/pki/ca-1";

/// Out: why the client refuses, or how many certificates it has shown.
async fn dial(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Result<usize, &'static str> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([127, 0, 0, 1])));
    let dial = async {
        let mut stream = TlsConnector::from(client).connect(name, near).await?;
        stream.read_u8().await.map(drop)
    };
    let answer = async {
        let mut stream = TlsAcceptor::from(server).accept(far).await?;
        stream.write_u8(7).await?;
        stream.flush().await?;
        let shown = stream.get_ref().1.peer_certificates();
        Ok::<_, io::Error>(shown.map_or(0, <[_]>::len))
    };
    let (dialled, answered) = tokio::join!(dial, answer);
    dialled.map_err(|error| handshake_refusal(&error).reason)?;
    Ok(answered.unwrap())
}

fn of_authority(root: &Ca, id: &str) -> (Dir, TrustSet) {
    let leaf = root.leaf(id, &[ServerAuth], serial(40));
    let dir = Dir::of(&leaf, &root.pem, Some(&root.crl(1, &[])));
    let role = id.split('/').nth(3).unwrap().parse().unwrap();
    let set = dir.load(&options(role), None).unwrap();
    (dir, set)
}

fn of_host(root: &Ca, crl: &str) -> TrustSet {
    let dir = Dir::of(&root.plugin(), &root.pem, Some(crl));
    dir.load(&options(Role::Plugin), None).unwrap()
}

#[tokio::test]
async fn lists_that_are_out_of_date_keep_nobody_from_asking_for_newer_ones() {
    let root = Ca::root("r");
    let (_dir, authority) = of_authority(&root, AUTHORITY);
    let server = authority.server_config();
    let old = |revoked: &[u64]| of_host(&root, &root.crl_due(1, revoked, now() - 40 * DAY));
    let host = old(&[]);
    assert_eq!(dial(host.authority_config(), server.clone()).await, Ok(1));
    // Judged by the very same lists it is refused: nothing else is let in by them.
    let chain = [root
        .leaf(AUTHORITY, &[ServerAuth], serial(40))
        .chain
        .remove(0)];
    let refusal = host.judge(&chain, Purpose::Authority, Clock::system().now());
    assert_eq!(refusal.unwrap_err().reason(), "crl_too_old");
    // What they name stays revoked, however old they are.
    let host = old(&[40]);
    assert_eq!(dial(host.authority_config(), server).await, Err("revoked"));
}

#[tokio::test]
async fn whoever_asks_as_nobody_shows_nothing_and_believes_a_ca_server_alone() {
    let root = Ca::root("r");
    let host = of_host(&root, &root.crl(1, &[]));
    let (_dir, authority) = of_authority(&root, AUTHORITY);
    let server = authority.server_config();
    assert_eq!(dial(host.authority_config(), server.clone()).await, Ok(1));
    let as_nobody = host.authority_config_of_nobody();
    assert_eq!(dial(as_nobody.clone(), server.clone()).await, Ok(0));
    let named = of_host(&root, &root.crl(1, &[40]));
    let refused = dial(named.authority_config_of_nobody(), server.clone()).await;
    assert_eq!(refused, Err("revoked"));
    let (_dir, elsewhere) = of_authority(&Ca::root("other"), AUTHORITY);
    let refused = dial(as_nobody, elsewhere.server_config()).await;
    assert_eq!(refused, Err("unknown_issuer"));
    // With a root and nothing else, as before a join token is shown.
    let roots = Roots::new(std::slice::from_ref(&root.der)).unwrap();
    let domain = "mesh.test".parse().unwrap();
    let judge = Arc::new(Verifier::new(
        roots,
        None,
        domain,
        mesh_provider().signature_verification_algorithms.all,
    ));
    let by_root = nobody::authority_config(judge, &Clock::system()).unwrap();
    assert_eq!(dial(by_root.clone(), server).await, Ok(0));
    let refused = dial(by_root, elsewhere.server_config()).await;
    assert_eq!(refused, Err("unknown_issuer"));
    // Who believes anybody gets to see their certificates, and no more is meant by it.
    let unjudged = nobody::unjudged_config(&Clock::system()).unwrap();
    assert_eq!(dial(unjudged, elsewhere.server_config()).await, Ok(0));
}
