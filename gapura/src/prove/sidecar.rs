//! Knocking at a sidecar without leave: nobody without a certificate of this installation gets an
//! answer in HTTP.
//!
//! In: the sidecar's address, a knock. Out: a finding. The name an impostor bears is taken from the
//! certificate the sidecar shows: its trust domain, with a gateway's name, signed by an authority
//! made for the purpose.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gapura_trust::nobody::anybody;
use gapura_trust::provider::public_provider;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, SanType};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection};
use x509_parser::extensions::GeneralName;

use super::answer::{self, End};
use super::attack::Knock;
use super::frames::{self, PREFACE};
use super::judge::{Finding, cannot_tell, held, not_held};
use super::wire::{Wire, tcp};

const PATIENCE: Duration = Duration::from_secs(3);

/// A leaf and its key, to show.
type Own = (CertificateDer<'static>, PrivateKeyDer<'static>);

/// Knocks in each way that belongs to `knock`; the worst finding counts.
pub(super) fn knock(knock: Knock, at: SocketAddr) -> Finding {
    let ways: Vec<(&str, Result<Finding, String>)> = match knock {
        Knock::Nameless => vec![
            ("in two records", nameless_in_two_records(at)),
            ("in plain HTTP", plain(at)),
        ],
        Knock::EachProtocol => [&b""[..], b"http/1.1", b"h2"]
            .into_iter()
            .map(|alpn| {
                (
                    "without a certificate",
                    session(alpn, None).and_then(|session| over(session, at, alpn)),
                )
            })
            .collect(),
        Knock::Impostor => match impostor(at) {
            Ok(own) => {
                let session = session(b"http/1.1", Some(own));
                vec![(
                    "another authority's",
                    session.and_then(|session| over(session, at, b"http/1.1")),
                )]
            }
            Err(why) => return cannot_tell(why),
        },
    };
    let mut last = cannot_tell("not tried");
    for (what, way) in ways {
        match way {
            Ok(finding) if finding == held("refused") => last = finding,
            Ok(finding) => return not_held(format!("{what}: {}", finding.seen)),
            Err(why) => return cannot_tell(format!("{what}: {why}")),
        }
    }
    last
}

/// A session that believes anybody: whom it talks to is not the question here.
fn session(alpn: &[u8], own: Option<Own>) -> Result<ClientConnection, String> {
    let provider = public_provider();
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|err| err.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(anybody(provider));
    let mut config = match own {
        Some((leaf, key)) => builder
            .with_client_auth_cert(vec![leaf], key)
            .map_err(|err| err.to_string())?,
        None => builder.with_no_client_auth(),
    };
    if !alpn.is_empty() {
        config.alpn_protocols = vec![alpn.to_vec()];
    }
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    let name = ServerName::try_from("sidecar.invalid").map_err(|err| err.to_string())?;
    ClientConnection::new(Arc::new(config), name).map_err(|err| err.to_string())
}

/// Shakes hands and asks. TLS 1.3 lets a client finish before it was judged: the answer tells.
fn over(session: ClientConnection, at: SocketAddr, alpn: &[u8]) -> Result<Finding, String> {
    let Ok(wire) = Wire::tls(session, tcp(at)?) else {
        return Ok(held("refused"));
    };
    Ok(asked(wire, alpn == b"h2"))
}

fn asked(mut wire: Wire, http2: bool) -> Finding {
    let until = Instant::now() + PATIENCE;
    let answer = if http2 {
        let fields = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "a"),
            (":path", "/"),
        ];
        let fields =
            fields.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        wire.send(&[PREFACE, &frames::head(1, &fields, true)].concat());
        frames::answer(&mut wire, 1, until)
    } else {
        wire.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: prove\r\nX-User-Id: 1\r\nX-Company-Id: 1\r\nX-Gapura-Auth: verified\r\n\r\n");
        answer::next(&mut wire, false, until)
    };
    match answer {
        Ok(answer) => not_held(format!("answered {}", answer.status)),
        Err(End::Closed) => held("refused"),
        // An alert in front of a close, which is no HTTP.
        Err(End::Nonsense) => held("refused"),
        Err(End::Silent) => not_held("was let in and waited"),
    }
}

/// A greeting whose record was cut in two (each half in a record of its own), without a server's
/// name.
fn nameless_in_two_records(at: SocketAddr) -> Result<Finding, String> {
    let mut session = session(b"http/1.1", None)?;
    let mut hello = Vec::new();
    session
        .write_tls(&mut hello)
        .map_err(|err| err.to_string())?;
    let mut socket: TcpStream = tcp(at)?;
    let body = hello.get(5..).ok_or("no greeting was made")?;
    for part in body.chunks(body.len().div_ceil(2).max(1)) {
        let mut record = hello[..3].to_vec();
        record.extend(
            u16::try_from(part.len())
                .map_err(|_| "a greeting too long")?
                .to_be_bytes(),
        );
        record.extend(part);
        socket.write_all(&record).map_err(|err| err.to_string())?;
    }
    let Ok(wire) = Wire::tls(session, socket) else {
        return Ok(held("refused"));
    };
    Ok(asked(wire, false))
}

/// Who waits for a greeting in TLS answers nothing, which is a refusal too.
fn plain(at: SocketAddr) -> Result<Finding, String> {
    let mut wire = Wire::plain(at)?;
    wire.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-User-Id: 1\r\nX-Company-Id: 1\r\n\r\n");
    Ok(
        match answer::next(&mut wire, false, Instant::now() + PATIENCE) {
            Ok(answer) => not_held(format!("answered {}", answer.status)),
            Err(_) => held("refused"),
        },
    )
}

/// A gateway's name in the sidecar's own trust domain, signed by nobody it knows.
fn impostor(at: SocketAddr) -> Result<Own, String> {
    let session = session(b"http/1.1", None)?;
    let shown = Wire::tls(session, tcp(at)?)?.shown();
    let leaf = shown.first().ok_or("the sidecar shows no certificate")?;
    let domain = trust_domain(leaf).ok_or("the sidecar's certificate bears no SPIFFE id")?;
    let failed = |err: rcgen::Error| err.to_string();
    let mut params = CertificateParams::default();
    let name = format!("spiffe://{domain}/gateway/prove");
    params.subject_alt_names = vec![SanType::URI(name.try_into().map_err(failed)?)];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().map_err(failed)?;
    let leaf = params.self_signed(&key).map_err(failed)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok((leaf.der().clone(), key))
}

fn trust_domain(leaf: &[u8]) -> Option<String> {
    let (_, leaf) = x509_parser::parse_x509_certificate(leaf).ok()?;
    let names = leaf.subject_alternative_name().ok()??;
    names
        .value
        .general_names
        .iter()
        .find_map(|name| match name {
            GeneralName::URI(uri) => {
                Some(uri.strip_prefix("spiffe://")?.split('/').next()?.to_owned())
            }
            _ => None,
        })
}
