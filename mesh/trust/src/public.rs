//! The certificate the gateway shows to clients: `--tls-cert` and `--tls-key`, one pair, changed
//! while running.
//!
//! In: two files. Out: a pair that fits, or a [`PublicError`] that says why not; and a rustls
//! configuration that always shows the pair that was put in force last. When to read again is not
//! decided here, and whether clients trust the certificate is not looked at.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{InconsistentKeys, ServerConfig};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::provider::public_provider;
use gapura_certificates::der::trim_zeros;
use gapura_certificates::peer::seconds;
use gapura_files::directory::{
    FileError, Stamp, hash, read_certificate, read_private_key, stamp_of,
};
use gapura_files::pem::{self, PemError};
use gapura_protocol::clock::{Rfc3339, from_unix};
use gapura_protocol::text::hex;

/// One pair that fits.
#[derive(Debug)]
pub struct PublicCertificate {
    certified: Arc<CertifiedKey>,
    serial: String,
    not_before: u64,
    not_after: u64,
    hash: [u8; 32],
    stamp: Stamp,
}

/// The pair that is shown. Cheap to clone; all clones see a swap at once.
#[derive(Clone, Debug)]
pub struct PublicStore(Arc<ArcSwap<PublicCertificate>>);

/// The oldest TLS that clients may speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMin {
    /// 1.2, with forward secrecy alone.
    #[default]
    Tls12,
    /// 1.3 and nothing else.
    Tls13,
}

/// Why two files are not a pair that can be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicError {
    /// A file could not be read.
    File(FileError),
    /// A file is not the PEM it should be.
    Pem(PathBuf, PemError),
    /// The leaf cannot be read.
    Leaf(PathBuf),
    /// The key is not one that can be used.
    Key(PathBuf),
    /// The key is another certificate's.
    KeyMismatch(PathBuf, PathBuf),
    /// The pair fits and has not begun, Unix time; the one in force stays until it has.
    NotBegun(PathBuf, u64),
}

/// Readings until both files stood still.
const READINGS: usize = 8;

impl PublicCertificate {
    /// Reads a pair and checks that it fits. One that has expired is taken: the program starts and
    /// says that it is not ready.
    ///
    /// # Errors
    /// If a file cannot be read, others can read the key, or the two do not belong together.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, PublicError> {
        let both = || stamp_of([cert.to_owned(), key.to_owned()].into_iter());
        for _ in 0..READINGS {
            let stamp = both();
            let read = (
                read_certificate(cert).map_err(PublicError::File),
                read_private_key(key).map_err(PublicError::File),
            );
            if stamp == both() {
                return Self::check(cert, key, &read.0?, &read.1?, stamp);
            }
        }
        Err(PublicError::File(FileError::Changing(cert.to_owned())))
    }

    fn check(
        cert_path: &Path,
        key_path: &Path,
        cert: &[u8],
        key: &[u8],
        stamp: Stamp,
    ) -> Result<Self, PublicError> {
        let chain =
            pem::certificates(cert).map_err(|err| PublicError::Pem(cert_path.to_owned(), err))?;
        let private =
            pem::private_key(key).map_err(|err| PublicError::Pem(key_path.to_owned(), err))?;
        let (serial, not_before, not_after) = chain
            .first()
            .and_then(|leaf| X509Certificate::from_der(leaf).ok())
            .map(|(_, leaf)| {
                (
                    hex(trim_zeros(leaf.raw_serial())),
                    seconds(leaf.validity().not_before.timestamp()),
                    seconds(leaf.validity().not_after.timestamp()),
                )
            })
            .ok_or_else(|| PublicError::Leaf(cert_path.to_owned()))?;
        let certified = CertifiedKey::from_der(chain, private, &public_provider()).map_err(
            |err| match err {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    PublicError::KeyMismatch(key_path.to_owned(), cert_path.to_owned())
                }
                rustls::Error::InvalidCertificate(_) => PublicError::Leaf(cert_path.to_owned()),
                _ => PublicError::Key(key_path.to_owned()),
            },
        )?;
        Ok(Self {
            certified: Arc::new(certified),
            serial,
            not_before,
            not_after,
            hash: hash([cert, key]),
            stamp,
        })
    }

    /// The leaf's last second, Unix time.
    #[must_use]
    pub fn not_after(&self) -> u64 {
        self.not_after
    }

    /// The leaf's serial number as hex digits.
    #[must_use]
    pub fn serial_hex(&self) -> &str {
        &self.serial
    }

    /// The leaf's first second, Unix time.
    #[must_use]
    pub fn not_before(&self) -> u64 {
        self.not_before
    }

    /// SHA-256 over both files.
    #[must_use]
    pub fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// What told the two files apart from later ones.
    #[must_use]
    pub fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// Whether its last second has passed.
    #[must_use]
    pub fn expired(&self, now: u64) -> bool {
        now > self.not_after
    }

    /// Whether its first second is still to come.
    #[must_use]
    pub fn not_yet_valid(&self, now: u64) -> bool {
        now < self.not_before
    }
}

impl TlsMin {
    /// Takes `1.2` or `1.3`.
    ///
    /// # Errors
    /// A sentence that says what is accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "1.2" => Ok(Self::Tls12),
            "1.3" => Ok(Self::Tls13),
            _ => Err("must be 1.2 or 1.3; what is older is broken".to_owned()),
        }
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }
}

impl PublicStore {
    /// A store with its first pair.
    #[must_use]
    pub fn new(first: PublicCertificate) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(first)))
    }

    /// The pair in force.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<PublicCertificate>> {
        self.0.load()
    }

    /// The pair in force, to keep.
    #[must_use]
    pub fn load_full(&self) -> Arc<PublicCertificate> {
        self.0.load_full()
    }

    /// Puts `next` in force: from the next handshake on it is shown.
    pub fn swap(&self, next: PublicCertificate) {
        self.0.store(Arc::new(next));
    }

    /// The configuration of the public listener, made once: TLS 1.3 and, unless `oldest` is that,
    /// 1.2; HTTP/2 and HTTP/1.1. One stateless ticket: two, and a session table, cost a tenth of a
    /// new connection and save a client nothing more. Where clients are asked for a certificate no
    /// session is resumed, so that none skips the judgement.
    ///
    /// # Errors
    /// If rustls refuses the configuration or there is no randomness for ticket keys.
    pub fn server_config(
        &self,
        clients: Option<Arc<dyn ClientCertVerifier>>,
        oldest: TlsMin,
    ) -> Result<Arc<ServerConfig>, rustls::Error> {
        let versions: &[_] = match oldest {
            TlsMin::Tls12 => &[&TLS13, &TLS12],
            TlsMin::Tls13 => &[&TLS13],
        };
        let builder = ServerConfig::builder_with_provider(public_provider())
            .with_protocol_versions(versions)?;
        let asks = clients.is_some();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => builder.with_client_cert_verifier(clients),
        };
        let mut config = builder.with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = [&b"h2"[..], b"http/1.1", b"http/1.0"]
            .map(<[u8]>::to_vec)
            .into();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        if !asks {
            config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
            config.send_tls13_tickets = 1;
        }
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for PublicStore {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.load().certified.clone())
    }
}

impl fmt::Display for PublicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(err) => err.fmt(f),
            Self::Pem(path, err) => write!(f, "{}: {err}", path.display()),
            Self::Leaf(path) => write!(
                f,
                "{}: the first certificate cannot be read",
                path.display()
            ),
            Self::Key(path) => {
                write!(
                    f,
                    "{}: the key cannot be used; wanted is an EC (P-256, P-384, P-521), Ed25519 or RSA key",
                    path.display()
                )
            }
            Self::NotBegun(path, begins) => write!(
                f,
                "{} begins at {}, and the one in force stays until then; check the clock",
                path.display(),
                Rfc3339(from_unix(*begins))
            ),
            Self::KeyMismatch(key, cert) => {
                write!(
                    f,
                    "{} does not belong to the first certificate in {}",
                    key.display(),
                    cert.display()
                )
            }
        }
    }
}

impl std::error::Error for PublicError {}
