//! One trust set: everything that decides a handshake, built whole, checked, and swapped as one.
//!
//! In: a mesh directory, the program's role, its clock, and the set before it. Out: a [`TrustSet`] that fits, or a [`TrustError`] that
//! says which file, what was found, what was wanted and what to do. Invariant: a set never holds a key without its certificate, a
//! certificate without its root, or a CRL that nobody here signed; and rustls configurations of one set judge by that set alone.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::{ArcSwap, Guard};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, InconsistentKeys, ServerConfig};
use serde_json::json;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::der::trim_zeros;
use super::directory::{FileError, MeshFiles, Stamp};
use super::failure::{HandshakeFailure, handshake_refusal};
use super::peer::{self, Peer, hex, seconds};
use super::pem::{self, PemError};
use super::provider::mesh_provider;
use super::refusal::{Refusal, shown};
use super::revocation::{RevocationError, RevocationSet};
use super::roots::{Issuer, Roots, RootsError};
use super::verifier::{GatewayVerifier, PluginVerifier, RecentRefusals};
use super::verify::{Judge, Purpose};
use crate::clock::{Clock, Rfc3339, unix};
use crate::identity::{PeerId, Role};

/// How a program wants its set.
#[derive(Clone, Debug)]
pub struct TrustOptions {
    /// What the program is: its certificate must say the same.
    pub own_role: Role,
    /// Do without `crl.pem`; where there is one it counts all the same.
    pub no_crl: bool,
    /// The clock that judges.
    pub clock: Clock,
}

/// A set that fits.
pub struct TrustSet {
    generation: u64,
    hash: [u8; 32],
    stamp: Stamp,
    own: Peer,
    own_chain: Vec<CertificateDer<'static>>,
    judge: Arc<Judge>,
    recent: Arc<RecentRefusals>,
    provider: Arc<CryptoProvider>,
    server: Arc<ServerConfig>,
    /// Presents our leaf and refuses everybody until a verifier for one identity is put in.
    client: ClientConfig,
}

/// The set in force. Cheap to clone; all clones see a swap at once.
#[derive(Clone)]
pub struct TrustStore(Arc<ArcSwap<TrustSet>>);

/// Why a mesh directory is not a set that fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustError {
    /// A file could not be read.
    File(FileError),
    /// A file is not the PEM it should be.
    Pem(PathBuf, PemError),
    /// A certificate of `ca.pem` does not belong there.
    Roots(PathBuf, RootsError),
    /// A certificate of `cert.pem` behind the leaf is no CA's or cannot be read.
    Intermediate(PathBuf, usize),
    /// The key is not one that can be used.
    Key(PathBuf),
    /// The key is another certificate's.
    KeyMismatch(PathBuf),
    /// The leaf would be refused by everybody.
    Leaf(PathBuf, Refusal),
    /// The leaf is another role's.
    Role(PathBuf, Role, PeerId),
    /// There is no `crl.pem`.
    NoCrl(PathBuf),
    /// `crl.pem` was there and is gone.
    CrlGone(PathBuf),
    /// `crl.pem` cannot be gone by.
    Crl(PathBuf, RevocationError),
    /// rustls refused the configuration.
    Config(String),
}

impl TrustSet {
    /// Reads and checks the set in `dir`. An own certificate that has expired or is not valid yet is no error: the program starts,
    /// says that it is not ready, and heals when a new one comes.
    ///
    /// # Errors
    /// If the set does not fit.
    pub fn load(
        dir: &Path,
        options: &TrustOptions,
        previous: Option<&Self>,
    ) -> Result<Self, TrustError> {
        Self::build(dir, &MeshFiles::read(dir)?, options, previous)
    }

    /// Checks a snapshot of `dir`.
    ///
    /// # Errors
    /// If the set does not fit.
    pub fn build(
        dir: &Path,
        files: &MeshFiles,
        options: &TrustOptions,
        previous: Option<&Self>,
    ) -> Result<Self, TrustError> {
        let [cert_path, key_path, ca_path, crl_path] =
            super::directory::FILES.map(|name| dir.join(name));
        let provider = mesh_provider();
        let chain = pem::certificates(&files.cert)
            .map_err(|err| TrustError::Pem(cert_path.clone(), err))?;
        let key =
            pem::private_key(&files.key).map_err(|err| TrustError::Pem(key_path.clone(), err))?;
        let certified =
            CertifiedKey::from_der(chain.clone(), key, &provider).map_err(|err| match err {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    TrustError::KeyMismatch(key_path.clone())
                }
                rustls::Error::InvalidCertificate(_) => TrustError::Leaf(
                    cert_path.clone(),
                    Refusal::Malformed(super::refusal::Malformed::Certificate),
                ),
                _ => TrustError::Key(key_path.clone()),
            })?;
        let roots =
            pem::certificates(&files.ca).map_err(|err| TrustError::Pem(ca_path.clone(), err))?;
        let roots = Roots::new(&roots).map_err(|err| TrustError::Roots(ca_path, err))?;
        let (facts, _) = peer::read(leaf(&chain)?)
            .map_err(|refusal| TrustError::Leaf(cert_path.clone(), refusal))?;
        if facts.id.role() != options.own_role {
            return Err(TrustError::Role(cert_path, options.own_role, facts.id));
        }
        let intermediates = issuers_behind(&chain, &cert_path)?;
        let judge = Judge::new(roots, None, facts.id.domain().clone(), provider.clone());
        // Judged inside its own dates, so that only dates can be wrong with a set that was taken; and without the CRLs, since one that
        // names us is no reason to stay down: it is an alarm, and others refuse us.
        let at = options
            .clock
            .unix()
            .clamp(facts.not_before.min(facts.not_after), facts.not_after);
        let own = judge
            .judge_at(&chain, Purpose::of(options.own_role), at)
            .map_err(|refusal| TrustError::Leaf(cert_path, refusal))?;
        let revocation = match &files.crl {
            Some(text) => {
                let ders = pem::crls(text).map_err(|err| TrustError::Pem(crl_path.clone(), err))?;
                let issuers: Vec<&Issuer> = judge.roots().issuers().chain(&intermediates).collect();
                let algorithms = provider.signature_verification_algorithms.all;
                let before = previous.and_then(|previous| previous.judge.revocation());
                Some(
                    RevocationSet::new(&ders, &issuers, algorithms, before)
                        .map_err(|err| TrustError::Crl(crl_path, err))?,
                )
            }
            None if !options.no_crl => return Err(TrustError::NoCrl(crl_path)),
            None if previous.is_some_and(|previous| previous.judge.revocation().is_some()) => {
                return Err(TrustError::CrlGone(crl_path));
            }
            None => None,
        };
        let judge = Arc::new(judge.with_revocation(revocation));
        let certified = Arc::new(certified);
        let time = Arc::new(Wall(options.clock.clone()));
        let recent = Arc::new(RecentRefusals::default());
        let parts = Parts {
            judge: &judge,
            recent: &recent,
            certified: &certified,
            provider: &provider,
        };
        let server = server_config(&parts, time.clone())
            .map_err(|err| TrustError::Config(err.to_string()))?;
        let client = client_config(&parts, time, own.id.clone())
            .map_err(|err| TrustError::Config(err.to_string()))?;
        let generation = previous.map_or(1, |previous| previous.generation + 1);
        let (hash, stamp) = (files.hash, files.stamp.clone());
        Ok(Self {
            generation,
            hash,
            stamp,
            own,
            own_chain: chain,
            judge,
            recent,
            provider,
            server: Arc::new(server),
            client,
        })
    }

    /// Which set this is: one more than the set it was loaded to follow.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// SHA-256 of the files it was made of.
    #[must_use]
    pub fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    pub(super) fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// Our own identity and certificate.
    #[must_use]
    pub fn own(&self) -> &Peer {
        &self.own
    }

    /// Whether our own certificate is in date; while it is not, the program is not ready.
    #[must_use]
    pub fn is_in_date(&self, now: SystemTime) -> bool {
        let now = unix(now);
        !self.own.expired(now) && !self.own.not_yet_valid(now)
    }

    /// Why the other end would refuse us now, by what this set says: expired, revoked, no CRL of our issuer.
    #[must_use]
    pub fn own_refusal(&self, now: SystemTime) -> Option<Refusal> {
        self.judge(&self.own_chain, Purpose::of(self.own.id.role()), now)
            .err()
    }

    /// Judges a chain: the very judgement of the handshake.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn judge(
        &self,
        chain: &[CertificateDer<'_>],
        purpose: Purpose,
        now: SystemTime,
    ) -> Result<Peer, Refusal> {
        self.judge.judge(chain, purpose, now)
    }

    /// For whoever answers: TLS 1.3 only; a certificate of a gateway of our own trust domain is required; no resumption (a resumed
    /// session would skip the judgement) and no early data.
    #[must_use]
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// For dialling the plugin `wanted`, offering `alpn`: TLS 1.3 only, our leaf, no resumption, no server name.
    #[must_use]
    pub fn client_config(&self, wanted: &PeerId, alpn: &[&[u8]]) -> Arc<ClientConfig> {
        let mut config = self.client.clone();
        let verifier = PluginVerifier {
            judge: self.judge.clone(),
            recent: self.recent.clone(),
            provider: self.provider.clone(),
            wanted: wanted.clone(),
        };
        config
            .dangerous()
            .set_certificate_verifier(Arc::new(verifier));
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    }

    /// What [`handshake_refusal`] says, and whose certificate it was: several kinds of rustls's errors have no room for that. To be
    /// called where a handshake under this set's configuration has just failed, before the next await.
    #[must_use]
    pub fn explain(&self, error: &std::io::Error) -> HandshakeFailure {
        let failure = handshake_refusal(error);
        if !failure.is_about_certificates || failure.is_peer_alert {
            return failure;
        }
        match self.recent.take(failure.reason) {
            Some(recent) => HandshakeFailure {
                sentence: recent.refusal.to_string(),
                peer: recent.leaf,
                ..failure
            },
            None => failure,
        }
    }

    /// The earliest time at which a next CRL is due, Unix time.
    #[must_use]
    pub fn crl_next_update(&self) -> Option<u64> {
        self.judge.revocation().and_then(RevocationSet::next_update)
    }

    /// A sentence for the alarm, if a CRL is past its next update.
    #[must_use]
    pub fn crl_stale(&self, now: SystemTime) -> Option<String> {
        self.judge
            .revocation()
            .and_then(|revocation| revocation.stale(unix(now)))
    }

    /// The set for the admin side: names, numbers and dates, never a key.
    #[must_use]
    pub fn certificates(&self) -> serde_json::Value {
        let chain: Vec<_> = self
            .own_chain
            .iter()
            .filter_map(|der| described(der))
            .collect();
        let roots: Vec<_> = self
            .judge
            .roots()
            .anchors()
            .map(|(subject, not_after, sha256)| json!({"subject": subject, "not_after": moment(not_after), "sha256": sha256}))
            .collect();
        let crls: Option<Vec<_>> = self.judge.revocation().map(|revocation| {
            let lists = revocation.lists().into_iter();
            lists
                .map(|list| {
                    json!({"issuer": list.issuer, "number": list.number, "this_update": moment(list.this_update),
                        "next_update": moment(list.next_update), "revoked": list.revoked})
                })
                .collect()
        });
        json!({
            "generation": self.generation,
            "own": {"id": self.own.id.to_string(), "serial": self.own.serial_hex(), "not_before": moment(self.own.not_before),
                "not_after": moment(self.own.not_after), "not_after_seconds": self.own.not_after},
            "chain": chain,
            "roots": roots,
            "crls": crls,
        })
    }
}

impl TrustStore {
    /// A store with its first set.
    #[must_use]
    pub fn new(first: TrustSet) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(first)))
    }

    /// The set in force.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<TrustSet>> {
        self.0.load()
    }

    /// The set in force, to keep.
    #[must_use]
    pub fn load_full(&self) -> Arc<TrustSet> {
        self.0.load_full()
    }

    /// Puts `next` in force. Whoever swaps sweeps the live connections next.
    pub fn swap(&self, next: Arc<TrustSet>) {
        self.0.store(next);
    }
}

/// The program's clock, for rustls.
#[derive(Debug)]
struct Wall(Clock);

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
struct Parts<'a> {
    judge: &'a Arc<Judge>,
    recent: &'a Arc<RecentRefusals>,
    certified: &'a Arc<CertifiedKey>,
    provider: &'a Arc<CryptoProvider>,
}

fn server_config(parts: &Parts<'_>, time: Arc<Wall>) -> Result<ServerConfig, rustls::Error> {
    let verifier = GatewayVerifier {
        judge: parts.judge.clone(),
        recent: parts.recent.clone(),
        provider: parts.provider.clone(),
    };
    let mut config = ServerConfig::builder_with_details(parts.provider.clone(), time)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(parts.certified.clone())));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

fn client_config(
    parts: &Parts<'_>,
    time: Arc<Wall>,
    nobody: PeerId,
) -> Result<ClientConfig, rustls::Error> {
    let verifier = PluginVerifier {
        judge: parts.judge.clone(),
        recent: parts.recent.clone(),
        provider: parts.provider.clone(),
        wanted: nobody,
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

fn leaf<'a>(
    chain: &'a [CertificateDer<'static>],
) -> Result<&'a CertificateDer<'static>, TrustError> {
    chain
        .first()
        .ok_or_else(|| TrustError::Config("the chain is empty".to_owned()))
}

/// The issuing CAs behind our leaf: their CRLs can be verified as well.
fn issuers_behind(
    chain: &[CertificateDer<'static>],
    path: &Path,
) -> Result<Vec<Issuer>, TrustError> {
    let read = |(at, der)| {
        Issuer::from_der(der).ok_or_else(|| TrustError::Intermediate(path.to_owned(), at + 1))
    };
    chain.iter().enumerate().skip(1).map(read).collect()
}

fn described(der: &CertificateDer<'_>) -> Option<serde_json::Value> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(json!({
        "subject": shown(&certificate.subject().to_string()),
        "issuer": shown(&certificate.issuer().to_string()),
        "serial": hex(trim_zeros(certificate.raw_serial())),
        "not_after": moment(seconds(certificate.validity().not_after.timestamp())),
    }))
}

fn moment(seconds: u64) -> String {
    let time = UNIX_EPOCH
        .checked_add(std::time::Duration::from_secs(seconds))
        .unwrap_or(UNIX_EPOCH);
    Rfc3339(time).to_string()
}

impl From<FileError> for TrustError {
    fn from(err: FileError) -> Self {
        Self::File(err)
    }
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(err @ FileError::Missing(_)) => {
                write!(
                    f,
                    "{err}; a mesh directory is made by `gapura-pki issue gateway|plugin NAME --out DIR`"
                )
            }
            Self::File(err) => err.fmt(f),
            Self::Pem(path, err) => write!(f, "{}: {err}", path.display()),
            Self::Roots(path, err) => write!(f, "{}: {err}", path.display()),
            Self::Intermediate(path, number) => {
                write!(
                    f,
                    "{}: certificate {number} is no CA's; wanted is the leaf, then the CAs that lead to a root",
                    path.display()
                )
            }
            Self::Key(path) => {
                write!(
                    f,
                    "{}: the key cannot be used; wanted is an EC (P-256, P-384, P-521), Ed25519 or RSA key",
                    path.display()
                )
            }
            Self::KeyMismatch(path) => {
                write!(
                    f,
                    "{} does not belong to the certificate in cert.pem beside it; publish both together",
                    path.display()
                )
            }
            Self::Leaf(path, refusal @ (Refusal::UnknownIssuer | Refusal::BadSignature)) => {
                let path = path.display();
                write!(
                    f,
                    "{path} does not fit ca.pem beside it: {refusal}; cert.pem is the leaf, then the CAs that lead to a root"
                )
            }
            Self::Leaf(path, refusal) => {
                write!(
                    f,
                    "{} would be refused by every other program: {refusal}; issue a new one with `gapura-pki issue`",
                    path.display()
                )
            }
            Self::Role(path, wanted, found) => write!(
                f,
                "{} is the certificate of {found}, and this program wants one of a {wanted}; \
                 issue it with `gapura-pki issue {wanted} NAME --out DIR`",
                path.display()
            ),
            Self::NoCrl(path) => write!(
                f,
                "{} is missing, so no certificate could be revoked; publish one with `gapura-pki crl refresh`, or start with --no-crl",
                path.display()
            ),
            Self::CrlGone(path) => {
                write!(
                    f,
                    "{} is gone, which would undo every revocation; put it back, or restart with --no-crl",
                    path.display()
                )
            }
            Self::Crl(path, err) => write!(f, "{}: {err}", path.display()),
            Self::Config(why) => write!(f, "no TLS configuration can be made of the set: {why}"),
        }
    }
}

impl std::error::Error for TrustError {}
