//! What our checks cost, and what a first handshake waits for. Measured by
//! `cargo test --release -p gapura-trust tests::cost -- --ignored --nocapture`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use rcgen::SerialNumber;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

use super::mint::{Ca, DAY, Dir, GATEWAY, Leaf, PLUGIN, now, options};
use crate::provider::mesh_provider;
use gapura_files::pem;
use gapura_protocol::identity::Role;

/// One whole handshake in memory, both ends on this thread.
fn shake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Duration {
    let name = ServerName::try_from("lab.mesh.test").unwrap();
    let begun = Instant::now();
    let mut client = ClientConnection::new(client.clone(), name).unwrap();
    let mut server = ServerConnection::new(server.clone()).unwrap();
    let mut wire = Vec::with_capacity(16 * 1024);
    while client.is_handshaking() || server.is_handshaking() {
        wire.clear();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets().unwrap();
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets().unwrap();
    }
    begun.elapsed()
}

/// rustls's own verifiers on the same certificates, without CRLs and without resumption.
fn plain(root: &Ca, gateway: &Leaf, plugin: &Leaf) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let mut roots = RootCertStore::empty();
    roots.add(root.der.clone()).unwrap();
    let roots = Arc::new(roots);
    let provider = mesh_provider();
    let key = |leaf: &Leaf| pem::private_key(leaf.key.as_bytes()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .unwrap();
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(plugin.chain.clone(), key(plugin))
        .unwrap();
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(gateway.chain.clone(), key(gateway))
        .unwrap();
    client.resumption = Resumption::disabled();
    (Arc::new(client), Arc::new(server))
}

/// What this thread has had of a processor.
fn worked() -> Duration {
    let all = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanos = all.split(' ').next().and_then(|text| text.parse().ok());
    Duration::from_nanos(nanos.unwrap())
}

#[test]
fn the_first_random_bytes_of_a_program_are_there_at_once() {
    let before = worked();
    let random = mesh_provider().secure_random;
    random.fill(&mut [0; 32]).unwrap();
    let took = worked() - before;
    // A tenth of a millisecond; 20 where AWS-LC times the memory for them.
    assert!(took < Duration::from_millis(5), "{took:?}");
}

#[test]
#[ignore = "a measurement; means something in release on a quiet machine only"]
fn a_handshake_costs_hardly_more_than_rustls_alone_and_a_long_list_adds_nothing() {
    let root = Ca::root("r");
    let with_name = |leaf: &str, purpose| {
        root.leaf(leaf, &[purpose], |params| {
            params
                .subject_alt_names
                .push(rcgen::SanType::DnsName("lab.mesh.test".try_into().unwrap()))
        })
    };
    let (gateway, plugin) = (
        with_name(GATEWAY, ClientAuth),
        with_name(PLUGIN, ServerAuth),
    );
    let serials = (0..100_000_u64)
        .map(|number| SerialNumber::from(number * 3 + 1))
        .collect();
    let long = root
        .crl_params(1, serials, now() + DAY)
        .signed_by(&root.crl_issuer())
        .unwrap()
        .pem()
        .unwrap();
    let ours = |crl: &str| {
        let dirs = (
            Dir::of(&gateway, &root.pem, Some(crl)),
            Dir::of(&plugin, &root.pem, Some(crl)),
        );
        let begun = Instant::now();
        let gateway = dirs.0.load(&options(Role::Gateway), None).unwrap();
        let loaded = begun.elapsed();
        let sidecar = dirs.1.load(&options(Role::Plugin), None).unwrap();
        (
            gateway.client_config(&PLUGIN.parse().unwrap(), &[]),
            sidecar.server_config(),
            loaded,
        )
    };
    let (short, long) = (ours(&root.crl(1, &[])), ours(&long));
    println!(
        "load: empty CRL {:?}, 100,000 entries {:?}",
        short.2, long.2
    );
    assert!(long.2 < Duration::from_millis(300));
    let bare = plain(&root, &gateway, &plugin);
    let pairs = [(&bare.0, &bare.1), (&short.0, &short.1), (&long.0, &long.1)];
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..2000 {
        for (times, (client, server)) in times.iter_mut().zip(pairs) {
            times.push(shake(client, server));
        }
    }
    let [bare, short, long] = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 4]
    });
    println!(
        "handshake, both ends, lower quartile: rustls alone {bare:?}, ours {short:?}, ours with 100,000 entries {long:?}"
    );
    assert!(short < bare * 105 / 100 && long < short * 105 / 100);
}
