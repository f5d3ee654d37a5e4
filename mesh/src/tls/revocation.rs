//! Which certificates are revoked, known before any handshake asks.
//!
//! In: CRLs and the CAs that may have signed them. Out: a [`RevocationSet`]. Each signature is verified once, here: webpki would
//! verify it again in every handshake (41 microseconds, 2.4 ms for a long list) and would let the first list that matches win,
//! stale or not. Invariants: per issuer the list with the highest number counts, and a set that follows another never goes back.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::{CertificateRevocationListDer, SignatureVerificationAlgorithm};

use super::crl::{Crl, CrlError, Signed};
use super::refusal::Span;
use super::roots::Issuer;

/// How long after its next update was due a list still clears certificates: long enough to notice and mend, under an alarm.
pub const STALE_GRACE: u64 = 24 * 3600;

/// A serial number: its length, then its bytes; fixed in size so that 100,000 of them are one allocation.
type Serial = [u8; 21];

/// The revocations of one `crl.pem`, and how far each issuer's lists have come.
#[derive(Clone, Debug)]
pub struct RevocationSet {
    lists: Vec<List>,
    /// The newest list ever in force of each issuer, of this set or one before it.
    newest: Vec<Seen>,
}

#[derive(Clone, Debug)]
struct List {
    issuer: Issuer,
    number: Option<Box<[u8]>>,
    this_update: u64,
    next_update: u64,
    /// Sorted.
    revoked: Arc<[Serial]>,
}

#[derive(Clone, Debug)]
struct Seen {
    subject: Box<[u8]>,
    key: Box<[u8]>,
    number: Option<Box<[u8]>>,
    this_update: u64,
}

/// What a set says of one issuer's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListFacts {
    /// The issuer's name for people.
    pub issuer: String,
    /// The list's number, as hex digits.
    pub number: Option<String>,
    /// When it was made, Unix time.
    pub this_update: u64,
    /// When the next one is due, Unix time.
    pub next_update: u64,
    /// How many serial numbers it names.
    pub revoked: usize,
}

/// Why a `crl.pem` is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevocationError {
    /// A list cannot be gone by.
    Crl {
        /// Which, from 1.
        number: usize,
        /// Its issuer, where it could be read.
        issuer: Option<String>,
        /// Why.
        why: CrlError,
    },
    /// No CA of the set has the name of a list's issuer.
    UnknownIssuer {
        /// The name.
        issuer: String,
    },
    /// The name is known, the signature is not that CA's.
    BadSignature {
        /// The name.
        issuer: String,
    },
    /// The CA's own certificate forbids it to sign CRLs.
    MayNotSign {
        /// The name.
        issuer: String,
    },
    /// A newer list of the issuer is or was in force.
    GoesBack {
        /// The name.
        issuer: String,
        /// What is in force.
        from: String,
        /// What was found.
        to: String,
    },
}

/// What the set says of one certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// A list in force does not name it.
    Clear,
    /// A list names it.
    Revoked,
    /// There is no list of its issuer.
    NoList,
    /// The list is too long past its next update to clear anything.
    TooOld { next_update: u64 },
}

impl RevocationSet {
    /// Verifies each list under one of `issuers`, keeps the newest of each, and compares with the set before.
    ///
    /// # Errors
    /// If a list cannot be gone by, or is older than the one in force.
    pub fn new(
        ders: &[CertificateRevocationListDer<'_>],
        issuers: &[&Issuer],
        algorithms: &[&dyn SignatureVerificationAlgorithm],
        previous: Option<&Self>,
    ) -> Result<Self, RevocationError> {
        let mut lists: Vec<List> = Vec::new();
        for (at, der) in ders.iter().enumerate() {
            let bad = |issuer, why| RevocationError::Crl {
                number: at + 1,
                issuer,
                why,
            };
            let crl = Crl::read(der).map_err(|why| bad(None, why))?;
            let issuer = signer(&crl, issuers, algorithms)?;
            let mut revoked = Vec::new();
            crl.for_each_revoked(|serial| revoked.push(fixed(serial)))
                .map_err(|why| bad(Some(crl.issuer_label()), why))?;
            revoked.sort_unstable();
            let list = List {
                issuer: issuer.clone(),
                number: crl.number.map(Into::into),
                this_update: crl.this_update,
                next_update: crl.next_update,
                revoked: revoked.into(),
            };
            match lists.iter_mut().find(|known| {
                known.issuer.subject == issuer.subject && known.issuer.key == issuer.key
            }) {
                Some(known) if older(known.number.as_deref(), known.this_update, &list) => {
                    *known = list
                }
                Some(_) => {}
                None => lists.push(list),
            }
        }
        let newest = match previous {
            Some(previous) => previous.followed_by(&lists)?,
            None => lists.iter().map(Seen::of).collect(),
        };
        Ok(Self { lists, newest })
    }

    /// The high-water marks after `lists`, or the first list that goes back.
    fn followed_by(&self, lists: &[List]) -> Result<Vec<Seen>, RevocationError> {
        let mut newest = self.newest.clone();
        for list in lists {
            match newest
                .iter_mut()
                .find(|seen| seen.subject == list.issuer.subject && seen.key == list.issuer.key)
            {
                Some(seen) if newer(seen, list) => {
                    return Err(RevocationError::GoesBack {
                        issuer: list.issuer.label.clone(),
                        from: described(seen.number.as_deref(), seen.this_update),
                        to: described(list.number.as_deref(), list.this_update),
                    });
                }
                Some(seen) => *seen = Seen::of(list),
                None => newest.push(Seen::of(list)),
            }
        }
        Ok(newest)
    }

    /// What the set says of the certificate that `issuer` (name and key) gave this serial number.
    pub(super) fn status(&self, subject: &[u8], key: &[u8], serial: &[u8], now: u64) -> Status {
        let Some(list) = self
            .lists
            .iter()
            .find(|list| *list.issuer.subject == *subject && *list.issuer.key == *key)
        else {
            return Status::NoList;
        };
        // Revoked stays revoked, however old the list.
        if list.revoked.binary_search(&fixed(serial)).is_ok() {
            Status::Revoked
        } else if now > list.next_update.saturating_add(STALE_GRACE) {
            Status::TooOld {
                next_update: list.next_update,
            }
        } else {
            Status::Clear
        }
    }

    /// The earliest time at which a next list is due, Unix time.
    #[must_use]
    pub fn next_update(&self) -> Option<u64> {
        self.lists.iter().map(|list| list.next_update).min()
    }

    /// Each issuer's list.
    #[must_use]
    pub fn lists(&self) -> Vec<ListFacts> {
        let facts = |list: &List| ListFacts {
            issuer: list.issuer.label.clone(),
            number: list.number.as_deref().map(number_hex),
            this_update: list.this_update,
            next_update: list.next_update,
            revoked: list.revoked.len(),
        };
        self.lists.iter().map(facts).collect()
    }

    /// A sentence for the alarm, if a list is past its next update.
    #[must_use]
    pub fn stale(&self, now: u64) -> Option<String> {
        let list = self
            .lists
            .iter()
            .filter(|list| now > list.next_update)
            .min_by_key(|list| list.next_update)?;
        let ago = Span((now - list.next_update) / 3600 * 3600);
        let issuer = &list.issuer.label;
        Some(if now > list.next_update.saturating_add(STALE_GRACE) {
            format!(
                "the CRL of {issuer} is {ago} past its next update: every handshake under it is refused; run `gapura-pki crl refresh`"
            )
        } else {
            format!(
                "the CRL of {issuer} is past its next update; 24 h after it handshakes are refused; run `gapura-pki crl refresh`"
            )
        })
    }
}

impl Seen {
    fn of(list: &List) -> Self {
        Self {
            subject: list.issuer.subject.clone(),
            key: list.issuer.key.clone(),
            number: list.number.clone(),
            this_update: list.this_update,
        }
    }
}

/// The CA of the set that signed a list.
fn signer<'i>(
    crl: &Crl<'_>,
    issuers: &[&'i Issuer],
    algorithms: &[&dyn SignatureVerificationAlgorithm],
) -> Result<&'i Issuer, RevocationError> {
    let mut worst = Signed::OtherName;
    for issuer in issuers {
        match crl.signed_by(issuer, algorithms) {
            Signed::Yes => return Ok(issuer),
            Signed::OtherName => {}
            Signed::OtherKey if worst == Signed::NotAllowed => {}
            seen => worst = seen,
        }
    }
    let issuer = crl.issuer_label();
    Err(match worst {
        Signed::NotAllowed => RevocationError::MayNotSign { issuer },
        Signed::OtherKey => RevocationError::BadSignature { issuer },
        Signed::OtherName | Signed::Yes => RevocationError::UnknownIssuer { issuer },
    })
}

/// Whether (number, time) is older than `list`. Without both numbers the time decides.
fn older(number: Option<&[u8]>, this_update: u64, list: &List) -> bool {
    match (number, list.number.as_deref()) {
        (Some(known), Some(new)) if known != new => less(known, new),
        (None, Some(_)) => true,
        (Some(_), None) => false,
        _ => this_update < list.this_update,
    }
}

/// Whether what was seen is newer than `list`: the same number twice is not going back, since a CA may sign one list again.
fn newer(seen: &Seen, list: &List) -> bool {
    match (seen.number.as_deref(), list.number.as_deref()) {
        (Some(seen), Some(new)) => less(new, seen),
        (Some(_), None) => true,
        (None, Some(_)) => false,
        (None, None) => list.this_update < seen.this_update,
    }
}

/// Compares two numbers without leading zeros.
fn less(a: &[u8], b: &[u8]) -> bool {
    (a.len(), a) < (b.len(), b)
}

/// A serial number of any length; beyond 20 bytes it is nobody's: such a certificate is refused and such a CRL too.
fn fixed(serial: &[u8]) -> Serial {
    let mut fixed = [0; 21];
    let length = serial.len().min(20);
    fixed[0] = u8::try_from(length).unwrap_or(20);
    fixed[1..=length].copy_from_slice(&serial[..length]);
    fixed
}

fn number_hex(number: &[u8]) -> String {
    if number.is_empty() {
        "00".to_owned()
    } else {
        super::peer::hex(number)
    }
}

fn described(number: Option<&[u8]>, this_update: u64) -> String {
    number.map_or_else(
        || format!("none (made at Unix time {this_update})"),
        |number| format!("0x{}", number_hex(number)),
    )
}

impl fmt::Display for RevocationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crl {
                number,
                issuer: Some(issuer),
                why,
            } => write!(f, "CRL {number}, of {issuer}, cannot be used: {why}"),
            Self::Crl {
                number,
                issuer: None,
                why,
            } => write!(f, "CRL {number} cannot be used: {why}"),
            Self::UnknownIssuer { issuer } => {
                write!(
                    f,
                    "it has a CRL of {issuer}, which is no CA of this set; add that CA's certificate to ca.pem or take the CRL out"
                )
            }
            Self::BadSignature { issuer } => {
                write!(
                    f,
                    "its CRL of {issuer} is not signed by that CA's key; make a new one with `gapura-pki crl refresh`"
                )
            }
            Self::MayNotSign { issuer } => write!(
                f,
                "its CRL of {issuer} is signed by a CA whose key usage lacks cRLSign"
            ),
            Self::GoesBack { issuer, from, to } => {
                write!(
                    f,
                    "its CRL of {issuer} has number {to} and number {from} is in force: CRLs never go back; publish the newest one"
                )
            }
        }
    }
}

impl std::error::Error for RevocationError {}
