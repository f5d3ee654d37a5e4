//! Why a mesh directory is not a set that fits: which file, what was found, what was wanted, and
//! what to do.

use std::fmt;
use std::path::PathBuf;

use gapura_certificates::refusal::Refusal;
use gapura_certificates::revocation::RevocationError;
use gapura_certificates::roots::RootsError;
use gapura_files::directory::FileError;
use gapura_files::pem::PemError;
use gapura_protocol::clock::{Rfc3339, from_unix};
use gapura_protocol::identity::{PeerId, Role};

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
    /// It fits and has not begun; the set in force stays until it has.
    NotBegun(PathBuf, String, u64),
    /// rustls refused the configuration.
    Config(String),
}

impl From<FileError> for TrustError {
    fn from(err: FileError) -> Self {
        Self::File(err)
    }
}

impl TrustError {
    /// When the set begins that is whole but for its time, Unix time.
    #[must_use]
    pub fn begins(&self) -> Option<u64> {
        match self {
            Self::NotBegun(_, _, begins) => Some(*begins),
            _ => None,
        }
    }
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(err @ FileError::Missing(_)) => {
                write!(
                    f,
                    "{err}; a mesh directory is made by `gapura-pki issue gateway|plugin|pki NAME --out DIR`"
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
            Self::NotBegun(path, what, begins) => write!(
                f,
                "{}: {what} begins at {}, and the set in force stays until then; check the clock here and the CA's",
                path.display(),
                Rfc3339(from_unix(*begins))
            ),
            Self::Config(why) => write!(f, "no TLS configuration can be made of the set: {why}"),
        }
    }
}

impl std::error::Error for TrustError {}
