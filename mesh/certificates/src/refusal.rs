//! Why a certificate is refused: the sentence for the log, the label for the metrics. What the peer
//! hears is TLS's to say.

use std::fmt;

use super::form::Form;
use super::purpose::Purpose;
use gapura_protocol::clock::{Rfc3339, from_unix};
use gapura_protocol::identity::{InvalidId, PeerId, TrustDomain};

/// What of a certificate cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The certificate as a whole.
    Certificate,
    /// Its subject alternative names.
    Names,
    /// Its extended key usage.
    KeyUsage,
    /// Its serial number is longer than the 20 bytes RFC 5280 allows.
    Serial,
}

/// Which sides of a handshake a certificate's extended key usage names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purposes {
    /// clientAuth.
    pub client: bool,
    /// serverAuth.
    pub server: bool,
    /// anyExtendedKeyUsage, which is not enough for us.
    pub any: bool,
}

/// Why a certificate is refused. Times are Unix seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The peer showed none.
    NoCertificate,
    /// Something in it cannot be read.
    Malformed(Malformed),
    /// No chain leads from it to a root of ours.
    UnknownIssuer,
    /// A signature in the chain is not the alleged issuer's.
    BadSignature,
    /// Its last second, or that of an issuer in its chain, has passed.
    Expired {
        /// That second.
        not_after: u64,
        /// Our clock.
        now: u64,
    },
    /// The only root it leads to has expired.
    RootExpired {
        /// The root's last second.
        not_after: u64,
        /// Our clock.
        now: u64,
    },
    /// Its first second, or that of an issuer in its chain, is still to come.
    NotYetValid {
        /// That second.
        not_before: u64,
        /// Our clock.
        now: u64,
    },
    /// A CRL names it, or an issuer in its chain.
    Revoked {
        /// The serial number that the CRL names.
        serial: String,
        /// Whom the leaf speaks for.
        leaf: String,
    },
    /// The issuer's CRLs are of named distribution points, and none is the certificate's.
    CrlOfOtherPoint {
        /// The issuer's name.
        issuer: String,
    },
    /// The CRL that would clear it has not begun.
    CrlNotBegun {
        /// When it was made.
        this_update: u64,
        /// Our clock.
        now: u64,
    },
    /// The set in force is older than one that was in force before, so it clears nobody.
    CrlWentBack {
        /// The sentence that says whose list, from where to where.
        what: String,
    },
    /// A certificate of the chain breaks a rule of form.
    Form(Form),
    /// The set has CRLs, but none of the issuer of this leaf.
    NoCrlForIssuer {
        /// The issuer's name.
        issuer: String,
    },
    /// The CRL that would clear it is more than a day past its next update.
    CrlTooOld {
        /// When the next one was due.
        next_update: u64,
        /// Our clock.
        now: u64,
    },
    /// Its extended key usage does not allow this side of a handshake.
    Purpose {
        /// What is wanted.
        wanted: Purpose,
        /// What it allows.
        found: Purposes,
    },
    /// A constraint in the chain (name, path length, CA flag, an algorithm or critical extension we
    /// don't know) is not met.
    Constraint(String),
    /// It has no URI name.
    NoIdentity,
    /// It has two URI names or more.
    SeveralIdentities {
        /// One.
        first: String,
        /// Another.
        second: String,
    },
    /// Its URI name is not an identity.
    InvalidIdentity {
        /// The name.
        found: String,
        /// Why it is none.
        why: InvalidId,
    },
    /// Its identity belongs to another installation.
    WrongTrustDomain {
        /// Our own.
        wanted: TrustDomain,
        /// Its identity.
        found: PeerId,
    },
    /// A plugin where a gateway is due, and the like.
    WrongRole {
        /// For what it was judged.
        wanted: Purpose,
        /// Its identity.
        found: PeerId,
    },
    /// Another plugin than the one that was dialled.
    WrongIdentity {
        /// The one that was dialled.
        wanted: PeerId,
        /// Its identity.
        found: PeerId,
    },
}

impl Refusal {
    /// A short fixed label for metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::Malformed(_) => "malformed",
            Self::UnknownIssuer => "unknown_issuer",
            Self::BadSignature => "bad_signature",
            Self::Expired { .. } => "expired",
            Self::RootExpired { .. } => "root_expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::Revoked { .. } => "revoked",
            Self::NoCrlForIssuer { .. } => "no_crl",
            Self::CrlTooOld { .. } => "crl_too_old",
            Self::CrlOfOtherPoint { .. } => "crl_other_point",
            Self::CrlNotBegun { .. } => "crl_not_begun",
            Self::CrlWentBack { .. } => "crl_went_back",
            Self::Form(_) => "form",
            Self::Purpose { .. } => "purpose",
            Self::Constraint(_) => "constraint",
            Self::NoIdentity
            | Self::SeveralIdentities { .. }
            | Self::InvalidIdentity { .. }
            | Self::WrongIdentity { .. } => "identity",
            Self::WrongTrustDomain { .. } => "trust_domain",
            Self::WrongRole { .. } => "role",
        }
    }
}

impl Purposes {
    pub(super) fn allows(self, purpose: Purpose) -> bool {
        match purpose {
            Purpose::Client => self.client,
            Purpose::Server | Purpose::Authority => self.server,
            Purpose::Renewal => self.client || self.server,
        }
    }
}

/// A moment for people; a certificate's `99991231235959Z` must not overflow.
pub(super) fn day(seconds: u64) -> Rfc3339 {
    Rfc3339(from_unix(seconds))
}

/// A text from a stranger's certificate, short enough for a log line and without control
/// characters.
#[must_use]
pub fn shown(text: &str) -> String {
    let end = text
        .char_indices()
        .nth(200)
        .map_or(text.len(), |(at, _)| at);
    text[..end]
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// A length of time for people: the two largest units.
pub struct Span(pub u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, hours, minutes, seconds) = (
            self.0 / 86_400,
            self.0 / 3600 % 24,
            self.0 / 60 % 60,
            self.0 % 60,
        );
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{seconds} s"),
            (0, 0, _) => write!(f, "{minutes} min {seconds} s"),
            (0, _, _) => write!(f, "{hours} h {minutes} min"),
            _ => write!(f, "{days} d {hours} h"),
        }
    }
}

impl fmt::Display for Purposes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.client, self.server, self.any) {
            (true, true, _) => "clientAuth and serverAuth",
            (true, false, _) => "clientAuth only",
            (false, true, _) => "serverAuth only",
            (false, false, true) => "anyExtendedKeyUsage only",
            (false, false, false) => "neither clientAuth nor serverAuth",
        })
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "the certificate cannot be read",
            Self::Names => "the certificate's subject alternative names cannot be read",
            Self::KeyUsage => "the certificate's extended key usage cannot be read",
            Self::Serial => "the certificate's serial number is longer than 20 bytes",
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCertificate => f.write_str("the peer showed no certificate"),
            Self::Malformed(what) => what.fmt(f),
            Self::UnknownIssuer => {
                f.write_str("no chain leads from the certificate to a root in ca.pem")
            }
            Self::BadSignature => {
                f.write_str("a signature in the certificate's chain is not its issuer's")
            }
            Self::Expired { not_after, now } => {
                let ago = Span(now.saturating_sub(*not_after));
                write!(
                    f,
                    "the certificate ended at {}, {ago} before our clock, {}",
                    day(*not_after),
                    day(*now)
                )
            }
            Self::RootExpired { not_after, now } => {
                let ago = Span(now.saturating_sub(*not_after));
                write!(
                    f,
                    "the certificate's root ended at {}, {ago} before our clock, {}",
                    day(*not_after),
                    day(*now)
                )
            }
            Self::NotYetValid { not_before, now } => {
                let ahead = Span(not_before.saturating_sub(*now));
                write!(
                    f,
                    "the certificate begins at {}, {ahead} after our clock, {}",
                    day(*not_before),
                    day(*now)
                )
            }
            Self::Revoked { serial, leaf } if serial.is_empty() => write!(f, "{leaf} is revoked"),
            Self::Revoked { serial, leaf } => {
                write!(f, "the certificate of {leaf} is revoked (serial {serial})")
            }
            Self::NoCrlForIssuer { issuer } => {
                write!(
                    f,
                    "crl.pem has no CRL of the certificate's issuer ({issuer}), so nobody can tell whether it is revoked"
                )
            }
            Self::CrlTooOld { next_update, now } => {
                let ago = Span(now.saturating_sub(*next_update));
                write!(
                    f,
                    "the issuer's CRL was to be renewed by {}, {ago} before our clock, {}",
                    day(*next_update),
                    day(*now)
                )
            }
            Self::CrlOfOtherPoint { issuer } => write!(
                f,
                "the CRLs of the certificate's issuer ({issuer}) in crl.pem are of distribution points that the certificate does not name, so nobody can tell whether it is revoked"
            ),
            Self::CrlNotBegun { this_update, now } => {
                let ahead = Span(this_update.saturating_sub(*now));
                write!(
                    f,
                    "the issuer's CRL begins at {}, {ahead} after our clock, {}",
                    day(*this_update),
                    day(*now)
                )
            }
            Self::CrlWentBack { what } => write!(f, "nobody is let in: {what}"),
            Self::Form(form) => form.fmt(f),
            Self::Purpose { wanted, found } => write!(
                f,
                "the certificate is not good for {wanted}: its extended key usage has {found}"
            ),
            Self::Constraint(what) => write!(f, "the certificate's chain breaks a rule: {what}"),
            Self::NoIdentity => f.write_str("the certificate has no URI name, so it is nobody's"),
            Self::SeveralIdentities { first, second } => {
                write!(
                    f,
                    "the certificate has more than one URI name (`{first}`, `{second}`), so whose it is would be a guess"
                )
            }
            Self::InvalidIdentity { found, why } => write!(
                f,
                "the certificate's URI name `{found}` is no identity: {why}"
            ),
            Self::WrongTrustDomain { wanted, found } => {
                write!(f, "`{found}` is not of our trust domain, `{wanted}`")
            }
            Self::WrongRole { wanted, found } => write!(f, "`{found}` is no {}", wanted.whose()),
            Self::WrongIdentity { wanted, found } => {
                write!(f, "`{wanted}` was wanted and `{found}` answered")
            }
        }
    }
}

impl std::error::Error for Refusal {}
