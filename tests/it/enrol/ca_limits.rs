//! What one asker may have, and what many cost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gapura_pki::enrol::{Ask, JoinRequest, Registrar};
use gapura_pki::{KeyProtection, Pki};
use gapura_protocol::clock::Clock;
use gapura_protocol::identity::Role;
use gapura_tests::program::Program;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::host::{Host, metric};
use super::yardstick;

#[test]
fn who_asks_too_often_is_told_to_come_later_and_nobody_else_is() {
    let host = Host::new();
    let ca = host.start();
    host.join(&ca, "billing");
    host.join(&ca, "orders");
    host.request("next", &[]);
    std::fs::write(host.path("junk.csr"), "AAAA").unwrap();
    // What is refused counts as well.
    let shown = host.shown("billing");
    let (body, url) = (
        format!("@{}", host.text("junk.csr")),
        "/.well-known/est/simplereenroll",
    );
    let mut words: Vec<&str> = shown.iter().map(String::as_str).collect();
    words.extend(["--data-binary", &body]);
    let mut codes = Vec::new();
    for _ in 0..2000 {
        let answer = host.curl(&ca, url, &words);
        codes.push(answer.status);
        if answer.status == 429 {
            assert_eq!(answer.refused(429).0, "too_many");
            break;
        }
    }
    assert!(codes.len() > 50 && codes.ends_with(&[429]), "{codes:?}");
    assert_eq!(host.renew(&ca, "orders", "next").status, 200);
}

/// A host that has joined, as a client of our own.
struct Agent {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

fn request(key: &KeyPair) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serialize_request(key).unwrap().der().to_vec()
}

/// So many hosts that have joined, without a network.
fn joined(host: &Host, count: usize) -> Vec<Agent> {
    let pki = || {
        Pki::open(
            &host.path("pki"),
            KeyProtection::Plaintext,
            &Clock::system(),
        )
        .unwrap()
    };
    let wanted = |number| JoinRequest {
        role: Role::Plugin,
        name: format!("p{number}").parse().unwrap(),
        dns: Vec::new(),
        ttl: Duration::from_secs(3600),
        url: None,
    };
    let wanted: Vec<JoinRequest> = (0..count).map(wanted).collect();
    let tokens = pki().make_joins(&wanted).unwrap();
    let mut registrar = Registrar::new(pki(), Duration::from_secs(86_400)).unwrap();
    let mut agents = Vec::new();
    for some in tokens.chunks(100) {
        let made = some.iter().map(|token| {
            let key = KeyPair::generate().unwrap();
            let ask = Ask::Join {
                role: token.role,
                name: token.name.clone(),
                secret_sha256: token.secret.sha256(),
                csr: request(&key),
            };
            (ask, key)
        });
        let (asks, keys): (Vec<Ask>, Vec<KeyPair>) = made.unzip();
        let granted = registrar.answer(&asks).unwrap();
        agents.extend(granted.into_iter().zip(keys).map(|(granted, key)| Agent {
            chain: granted.unwrap().chain,
            key: key.serialize_der(),
        }));
    }
    agents
}

impl Agent {
    fn config(&self, roots: &Arc<RootCertStore>) -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::Pkcs8(self.key.clone().into());
        ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_client_auth_cert(self.chain.clone(), key)
            .unwrap()
            .into()
    }

    async fn connect(&self, roots: &Arc<RootCertStore>, port: u16) -> TlsStream<TcpStream> {
        let name = ServerName::try_from("ca-1.pki.test.internal").unwrap();
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let tls = TlsConnector::from(self.config(roots));
        tls.connect(name, stream).await.unwrap()
    }
}

fn roots(host: &Host) -> Arc<RootCertStore> {
    let pem = std::fs::read(host.path("ca-1/ca.pem")).unwrap();
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(&pem).unwrap())
        .unwrap();
    roots.into()
}

/// What the program has used of the processor, in seconds.
fn cpu(program: &Program) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", program.id())).unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

/// In a build for release: `cargo test --release -p gapura-tests -- --ignored ca_limits
/// --nocapture`.
#[test]
#[ignore = "a fleet of a thousand, for its figures; the rest of the suite need not wait for it"]
fn a_thousand_renew_within_a_minute_and_wait_for_news_in_forty_mebibytes() {
    const HOSTS: u16 = 1000;
    let host = Host::new();
    let agents = joined(&host, usize::from(HOSTS));
    let (ca, roots) = (host.start(), roots(&host));
    let port = ca.address("enrol").port();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let local = tokio::task::LocalSet::new();
    let agents: Vec<std::rc::Rc<Agent>> = agents.into_iter().map(std::rc::Rc::new).collect();

    let (begun, before) = (Instant::now(), cpu(&ca));
    let failed = local.block_on(&runtime, async {
        let mut tasks = tokio::task::JoinSet::<bool>::new();
        let mut failed = 0;
        for (at, agent) in agents.iter().enumerate() {
            // One thread plays all of them: more than so many at once would wait for it, and not
            // for the server.
            if at >= 64
                && let Some(done) = tasks.join_next().await
            {
                failed += usize::from(!done.unwrap());
            }
            let (agent, roots) = (agent.clone(), roots.clone());
            tasks.spawn_local(async move {
                let body = gapura_enrol::payload::encode(&request(&KeyPair::generate().unwrap()));
                let mut stream = agent.connect(&roots, port).await;
                let head = format!(
                    "POST /.well-known/est/simplereenroll HTTP/1.1\r\nHost: ca\r\nContent-Type: application/pkcs10\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                stream.write_all(head.as_bytes()).await.unwrap();
                stream.write_all(body.as_bytes()).await.unwrap();
                let mut answer = Vec::new();
                let _ = stream.read_to_end(&mut answer).await;
                answer.starts_with(b"HTTP/1.1 200")
            });
        }
        while let Some(done) = tasks.join_next().await {
            failed += usize::from(!done.unwrap());
        }
        failed
    });
    let (took, used) = (begun.elapsed(), cpu(&ca) - before);
    let changes = metric(&ca, "gapura_ca_changes_total ");
    println!(
        "{HOSTS} renewals in {took:?}, {failed} failed; {:.2} ms of processor each, {changes} changes of the inventory",
        used * 1000.0 / f64::from(HOSTS)
    );
    println!(
        "beside a bare handshake of rustls at the answering end of {:?}, and a P-256 signature of {:?}",
        yardstick::handshake(&host, &roots),
        yardstick::signature()
    );
    assert_eq!(failed, 0);
    assert!(took < Duration::from_secs(60), "{took:?}");

    let before = ca.resident_kib();
    let held = local.block_on(&runtime, async {
        let mut held = Vec::new();
        for agent in &agents {
            let mut stream = agent.connect(&roots, port).await;
            stream
                .write_all(b"GET /v1/trust HTTP/1.1\r\nHost: ca\r\n\r\n")
                .await
                .unwrap();
            let mut answer = vec![0; 64 << 10];
            let mut length = 0;
            let text = loop {
                length += stream.read(&mut answer[length..]).await.unwrap();
                let text = String::from_utf8_lossy(&answer[..length]).into_owned();
                if text.ends_with('}') {
                    break text;
                }
            };
            let (_, json) = text.split_once("\r\n\r\n").unwrap();
            let news: serde_json::Value = serde_json::from_str(json).unwrap();
            let head = format!(
                "GET /v1/trust?after={} HTTP/1.1\r\nHost: ca\r\n\r\n",
                news["generation"].as_str().unwrap()
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            held.push(stream);
        }
        held
    });
    gapura_tests::eventually("all wait", || {
        (metric(&ca, "gapura_ca_polls ") >= 1000.0).then_some(())
    });
    let resident = ca.resident_kib();
    println!(
        "{} long polls: {resident} KiB resident, {} KiB more than before",
        held.len(),
        resident.saturating_sub(before)
    );
    let polls = resident.saturating_sub(before);
    assert!(polls < 40 << 10, "{polls} KiB");
}
