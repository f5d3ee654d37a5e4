//! The judgement on certificates: the families of the public suites (NIST PKITS, x509-limbo,
//! BetterTLS) as rows of our own with SPIFFE identities, each asked of `gapura-pki verify`, of a
//! program's start, and of a real handshake.
//!
//! A row changes one thing of a good chain, root → issuing CA → leaf with a CRL of each, and says
//! what becomes of it and by which words. The three must agree, but for what a start forgives:
//! dates heal, and a revoked program stays up and says so.

mod mint;
mod rows;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gapura_certificates::purpose::Purpose;
use gapura_certificates::roots::Issuer;
use gapura_pki::timestamp::Timestamp;
use gapura_pki::verify::{VerifyRequest, verify};
use gapura_protocol::clock::{Clock, unix};
use gapura_protocol::identity::Role;
use gapura_tests::certs::write_private;
use gapura_trust::set::{TrustOptions, TrustSet};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{default_provider, sign::any_supported_type};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, ServerConnection,
    SignatureScheme,
};

use mint::{
    CERTS, CLIENT, CRLS, Cert, Crl, DIGITAL, Der, K, SERVER, Sig, basic, key, name, names, number,
    purposes, uri, usage,
};

const GATEWAY: &str = "spiffe://lab.test/gateway/edge";
const PLUGIN: &str = "spiffe://lab.test/plugin/billing";
const DAY: i64 = 86_400;

/// What becomes of a row's chain.
#[derive(Clone, Copy, Debug)]
enum Want {
    /// It is let in.
    Taken,
    /// It is refused: the label of the handshake's metric, and words of the sentence.
    Refused(&'static str, &'static str),
    /// The same, and no program starts with it, though only a date is wrong.
    RefusedAtStart(&'static str, &'static str),
    /// No program takes the lists, as words of its sentence say; `verify`, which is asked about one
    /// certificate, passes them over.
    OnlyVerified(&'static str),
    /// Nobody could judge by the row's roots and lists: words of the sentence.
    NoSet(&'static str),
}

/// One thing changed, and what comes of it.
struct Row {
    family: &'static str,
    name: &'static str,
    change: fn(&mut Case),
    want: Want,
}

/// A good chain with its lists, to be changed.
struct Case {
    now: i64,
    purpose: Purpose,
    /// What is trusted.
    roots: Vec<Cert>,
    /// From the leaf's issuer upwards, as the peer sends them.
    cas: Vec<Cert>,
    leaf: Cert,
    crls: Vec<Crl>,
    /// How far the clock is from now when it is judged.
    later: i64,
}

fn certificate(issuer: &str, by: K, subject: &str, of: K, serial: u8, now: i64) -> Cert {
    Cert {
        version: mint::tlv(0xa0, &[2, 1, 2]),
        serial: vec![0x11, serial],
        issuer: name(issuer),
        subject: name(subject),
        from: now - DAY,
        to: now + 30 * DAY,
        info: key(of).info.clone(),
        exts: Vec::new(),
        by,
        sig: Sig::Usual,
        inner: None,
        spoil: None,
    }
}

fn authority(issuer: &str, by: K, subject: &str, of: K, serial: u8, now: i64) -> Cert {
    let mut cert = certificate(issuer, by, subject, of, serial, now);
    cert.exts = vec![basic(true, None), usage(CERTS | CRLS)];
    cert
}

fn list(issuer: &str, by: K, now: i64) -> Crl {
    Crl {
        version: Some(1),
        issuer: name(issuer),
        from: now - 3600,
        next: Some(now + 7 * DAY),
        revoked: Vec::new(),
        exts: vec![number(&[5])],
        by,
        sig: Sig::Usual,
        spoil: None,
    }
}

impl Case {
    fn new(now: i64) -> Self {
        let mut leaf = certificate("issuing", K::Ca(0), "", K::Leaf, 0x77, now);
        leaf.exts = vec![
            basic(false, None),
            usage(DIGITAL),
            purposes(&[CLIENT]),
            names(&[uri(GATEWAY)]),
        ];
        Self {
            now,
            purpose: Purpose::Client,
            roots: vec![authority("root", K::Root, "root", K::Root, 1, now)],
            cas: vec![authority("root", K::Root, "issuing", K::Ca(0), 2, now)],
            leaf,
            crls: vec![list("issuing", K::Ca(0), now), list("root", K::Root, now)],
            later: 0,
        }
    }

    /// The leaf right under the root.
    fn flat(&mut self) {
        self.cas.clear();
        self.crls.remove(0);
        (self.leaf.issuer, self.leaf.by) = (name("root"), K::Root);
    }

    /// So many CAs between root and leaf, named `ca0` (the leaf's issuer) and on; without CRLs of
    /// theirs but the first.
    fn deep(&mut self, levels: usize) {
        let named = |at: usize| {
            if at == levels {
                "root".to_owned()
            } else {
                format!("ca{at}")
            }
        };
        let by = |at: usize| if at == levels { K::Root } else { K::Ca(at) };
        self.cas = (0..levels)
            .map(|at| {
                let serial = 0x20 + u8::try_from(at).unwrap();
                authority(
                    &named(at + 1),
                    by(at + 1),
                    &named(at),
                    K::Ca(at),
                    serial,
                    self.now,
                )
            })
            .collect();
        (self.leaf.issuer, self.leaf.by) = (name("ca0"), K::Ca(0));
        self.crls[0] = list("ca0", K::Ca(0), self.now);
    }

    /// A plugin's leaf, which answers.
    fn plugin(&mut self) {
        self.purpose = Purpose::Server;
        self.leaf.set(purposes(&[SERVER]));
        self.leaf.set(names(&[uri(PLUGIN)]));
    }

    /// Changes the issuing CA so that it is none, of which nobody has a list.
    fn no_ca(&mut self, change: impl FnOnce(&mut Cert)) {
        change(&mut self.cas[0]);
        self.crls.remove(0);
    }

    /// Signed by this key, whose CA is the leaf's issuer.
    fn issuer_key(&mut self, of: K, sig: Sig) {
        self.cas[0].info.clone_from(&key(of).info);
        (self.leaf.by, self.leaf.sig, self.crls[0].by) = (of, sig, of);
    }

    /// The leaf's own key, and with which it shakes hands.
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        std::iter::once(&self.leaf)
            .chain(&self.cas)
            .map(|cert| cert.der().into())
            .collect()
    }

    /// The key whose certificate the leaf is, as far as it is one of the pool.
    fn leaf_key(&self) -> K {
        let pool = [K::Leaf, K::P384, K::P521, K::Ed, K::Rsa, K::Rsa3072];
        let quick = pool.iter().take(4);
        let large = pool.iter().skip(4).filter(|_| self.leaf.info.len() > 200);
        let mut all = quick.chain(large);
        *all.find(|of| key(**of).info == self.leaf.info)
            .unwrap_or(&K::Leaf)
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        STANDARD.encode(der)
    )
}

fn all_pem(label: &str, ders: &[Der]) -> String {
    ders.iter().map(|der| pem(label, der)).collect()
}

fn write_set(dir: &Path, chain: &[Der], of: K, roots: &[Der], crls: &[Der]) {
    fs::write(dir.join("cert.pem"), all_pem("CERTIFICATE", chain)).unwrap();
    write_private(&dir.join("key.pem"), &pem("PRIVATE KEY", &key(of).pkcs8));
    fs::write(dir.join("ca.pem"), all_pem("CERTIFICATE", roots)).unwrap();
    fs::write(dir.join("crl.pem"), all_pem("X509 CRL", crls)).unwrap();
}

fn clock(later: i64) -> Clock {
    let clock = Clock::system();
    clock.shift(later);
    clock
}

fn options(own_role: Role, later: i64) -> TrustOptions {
    TrustOptions {
        own_role,
        no_crl: false,
        clock: clock(later),
    }
}

/// What `gapura-pki verify` says: nothing if it is let in.
fn verified(case: &Case, roots: &[Der], crls: &[Der]) -> Option<String> {
    let id = match case.purpose {
        Purpose::Client => GATEWAY,
        Purpose::Server => PLUGIN,
        Purpose::Authority | Purpose::Renewal => unreachable!("nothing of the hop"),
    };
    let request = VerifyRequest {
        chain: case.chain(),
        purpose: case.purpose,
        id: Some(id.parse().unwrap()),
        domain: None,
        roots: roots.iter().cloned().map(CertificateDer::from).collect(),
        crls: Some(crls.to_vec()),
        issuers: Vec::new(),
        at: Timestamp((case.now + case.later).unsigned_abs()),
    };
    match verify(&request) {
        Ok(verdict) => verdict.refusal,
        Err(fault) => Some(fault.to_string()),
    }
}

/// Whose certificates are judged for it on the hop.
fn role_of(purpose: Purpose) -> Role {
    match purpose {
        Purpose::Client => Role::Gateway,
        Purpose::Server => Role::Plugin,
        Purpose::Authority | Purpose::Renewal => unreachable!("nothing of the hop"),
    }
}

/// What a program says that starts with the chain as its own.
fn started(case: &Case, roots: &[Der], crls: &[Der]) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let chain: Vec<Der> = case.chain().iter().map(|der| der.to_vec()).collect();
    write_set(dir.path(), &chain, case.leaf_key(), roots, crls);
    TrustSet::load(
        dir.path(),
        &options(role_of(case.purpose), case.later),
        None,
    )
    .err()
    .map(|fault| fault.to_string())
}

/// What the other end of a handshake says, with the metric's label; no label where it could not
/// even start.
fn shaken(case: &Case, roots: &[Der], crls: &[Der]) -> Option<(&'static str, String)> {
    let dir = tempfile::tempdir().unwrap();
    let now = case.now;
    let (own_role, own_id, own_purpose) = match case.purpose {
        Purpose::Client => (Role::Plugin, PLUGIN, SERVER),
        Purpose::Server => (Role::Gateway, GATEWAY, CLIENT),
        Purpose::Authority | Purpose::Renewal => unreachable!("nothing of the hop"),
    };
    let home = authority("home", K::Home, "home", K::Home, 3, now);
    let mut own = certificate("home", K::Home, "", K::HomeLeaf, 4, now);
    (own.from, own.to) = (now - 400 * DAY, now + 40_000 * DAY);
    own.exts = vec![
        usage(DIGITAL),
        purposes(&[own_purpose]),
        names(&[uri(own_id)]),
    ];
    let mut home_list = list("home", K::Home, now);
    home_list.next = Some(now + 40_000 * DAY);
    let mut home = home;
    (home.from, home.to) = (own.from, own.to);
    let roots = [&[home.der()], roots].concat();
    let crls = [&[home_list.der()], crls].concat();
    // As where one authority issued both: its issuing CAs stand behind our own leaf, so that their
    // lists are understood.
    let cas = case.cas.iter().map(Cert::der);
    let cas = cas.filter(|der| Issuer::from_der(&der.as_slice().into()).is_some());
    let chain: Vec<Der> = std::iter::once(own.der()).chain(cas).collect();
    write_set(dir.path(), &chain, K::HomeLeaf, &roots, &crls);
    let set = match TrustSet::load(dir.path(), &options(own_role, case.later), None) {
        Ok(set) => set,
        Err(fault) => return Some(("", fault.to_string())),
    };
    let secret = PrivateKeyDer::Pkcs8(key(case.leaf_key()).pkcs8.clone().into());
    let certified = CertifiedKey::new(case.chain(), any_supported_type(&secret).unwrap());
    let shown = Arc::new(SingleCertAndKey::from(certified));
    let tls13 = [&rustls::version::TLS13];
    let peer = "127.0.0.1".try_into().unwrap();
    let failed = match case.purpose {
        Purpose::Client => {
            let client = ClientConfig::builder_with_provider(default_provider().into())
                .with_protocol_versions(&tls13)
                .unwrap()
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anybody))
                .with_client_cert_resolver(shown);
            let mut client = ClientConnection::new(client.into(), peer).unwrap();
            let mut server = ServerConnection::new(set.server_config()).unwrap();
            shake(&mut client, &mut server).1
        }
        Purpose::Server => {
            let server = ServerConfig::builder_with_provider(default_provider().into())
                .with_protocol_versions(&tls13)
                .unwrap()
                .with_no_client_auth()
                .with_cert_resolver(shown);
            let config = set.client_config(&PLUGIN.parse().unwrap(), &[]);
            let mut client = ClientConnection::new(config, peer).unwrap();
            let mut server = ServerConnection::new(server.into()).unwrap();
            shake(&mut client, &mut server).0
        }
        Purpose::Authority | Purpose::Renewal => unreachable!("nothing of the hop"),
    };
    let failure = set.explain(&io::Error::new(io::ErrorKind::InvalidData, failed?));
    Some((failure.reason, failure.sentence))
}

/// Lets both ends talk until they are done, or one refuses; what each refused the other for.
fn shake(
    client: &mut ClientConnection,
    server: &mut ServerConnection,
) -> (Option<rustls::Error>, Option<rustls::Error>) {
    let mut wire = Vec::new();
    for _ in 0..10 {
        wire.clear();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut bytes = wire.as_slice();
        while !bytes.is_empty() {
            server.read_tls(&mut bytes).unwrap();
            if let Err(refused) = server.process_new_packets() {
                return (None, Some(refused));
            }
        }
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut bytes = wire.as_slice();
        while !bytes.is_empty() {
            client.read_tls(&mut bytes).unwrap();
            if let Err(refused) = client.process_new_packets() {
                return (Some(refused), None);
            }
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    (None, None)
}

/// A peer that does not care whom it speaks to.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// What a start forgives, since it heals or is for others to say.
fn starts_all_the_same(label: &str) -> bool {
    matches!(
        label,
        "expired" | "not_yet_valid" | "revoked" | "no_crl" | "trust_domain"
    ) || label.starts_with("crl_")
}

/// Everything that a row's three answers have wrong.
fn faults(row: &Row, now: i64) -> Vec<String> {
    let mut case = Case::new(now);
    (row.change)(&mut case);
    let roots: Vec<Der> = case.roots.iter().map(Cert::der).collect();
    let crls: Vec<Der> = case.crls.iter().map(Crl::der).collect();
    let (verified, started, shaken) = (
        verified(&case, &roots, &crls),
        started(&case, &roots, &crls),
        shaken(&case, &roots, &crls),
    );
    let mut faults = Vec::new();
    let mut expect = |what: &str, said: Option<&str>, words: Option<&str>| {
        let right = match (said, words) {
            (None, None) => true,
            (Some(said), Some(words)) => said.contains(words),
            _ => false,
        };
        if !right {
            let said = said.unwrap_or("(let in)");
            let words = words.unwrap_or("(let in)");
            faults.push(format!(
                "{}: {}: {what} says: {said}; wanted: {words}",
                row.family, row.name
            ));
        }
    };
    let label = shaken.as_ref().map(|(label, _)| *label);
    let shaken = shaken.as_ref().map(|(_, sentence)| sentence.as_str());
    match row.want {
        Want::Taken => {
            expect("verify", verified.as_deref(), None);
            expect("a start", started.as_deref(), None);
            expect("a handshake", shaken, None);
        }
        Want::Refused(reason, words) | Want::RefusedAtStart(reason, words) => {
            expect("verify", verified.as_deref(), Some(words));
            let strict = matches!(row.want, Want::RefusedAtStart(..));
            let at_start = (strict || !starts_all_the_same(reason)).then_some(words);
            expect("a start", started.as_deref(), at_start);
            expect("a handshake", shaken, Some(words));
            expect("the metric", label, Some(reason));
        }
        Want::OnlyVerified(words) => {
            expect("verify", verified.as_deref(), None);
            expect("a start", started.as_deref(), Some(words));
            expect("a handshake", shaken, Some(words));
        }
        Want::NoSet(words) => {
            expect("verify", verified.as_deref(), Some(words));
            expect("a start", started.as_deref(), Some(words));
            expect("a handshake", shaken, Some(words));
            expect("the metric", label, Some(""));
        }
    }
    faults
}

#[test]
fn verify_a_start_and_a_handshake_judge_alike_and_by_the_same_words() {
    let now = i64::try_from(unix(SystemTime::now())).unwrap();
    let rows = rows::all();
    let threads = 2;
    let faults: Vec<String> = std::thread::scope(|scope| {
        let parts: Vec<_> = rows
            .chunks(rows.len().div_ceil(threads))
            .map(|part| {
                scope.spawn(move || {
                    part.iter()
                        .flat_map(|row| faults(row, now))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        parts
            .into_iter()
            .flat_map(|part| part.join().unwrap())
            .collect()
    });
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

#[test]
fn there_are_at_least_two_hundred_rows_and_each_family_takes_and_refuses() {
    let rows = rows::all();
    assert!(rows.len() >= 200, "{}", rows.len());
    let mut names: Vec<_> = rows.iter().map(|row| (row.family, row.name)).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), rows.len(), "two rows have one name");
    let mut families: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for row in &rows {
        let (taken, refused) = families.entry(row.family).or_default();
        match row.want {
            Want::Taken => *taken += 1,
            _ => *refused += 1,
        }
    }
    for (family, (taken, refused)) in families {
        assert!(
            taken > 0 && refused > 0,
            "{family}: {taken} taken, {refused} refused"
        );
    }
}
