//! Which certificates are revoked, known before any handshake asks.
//!
//! In: CRLs and the CAs that may have signed them. Out: a [`RevocationSet`]. Each signature is
//! verified once, here: webpki would verify it again in every handshake (41 microseconds, 2.4 ms
//! for a long list) and would let the first list that matches win, stale or not. Invariants: of an
//! issuer's lists the one with the highest number that has begun counts; two with one number count
//! together; a list of a named distribution point clears only certificates of that point, and what
//! any list names is revoked; a set that follows another never goes back.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use rustls_pki_types::{CertificateRevocationListDer, SignatureVerificationAlgorithm};

use super::crl::{self, Crl, CrlError, Signed};
use super::marks::{ListId, Mark, Marks, less};
use super::refusal::{Span, day};
use super::roots::Issuer;

/// How long after its next update was due a list still clears certificates: long enough to notice
/// and mend, under an alarm.
pub(crate) const STALE_GRACE: u64 = 24 * 3600;

/// A serial number: its length, then its bytes; fixed in size so that 100,000 of them are one
/// allocation.
type Serial = [u8; 21];

/// The revocations of one `crl.pem`.
#[derive(Clone, Debug)]
pub struct RevocationSet {
    sources: Vec<Source>,
}

/// An issuer's lists of one distribution point, or of all its certificates.
#[derive(Clone, Debug)]
struct Source {
    id: ListId,
    issuer: Issuer,
    /// The names of the distribution point; none: all certificates.
    points: Box<[Box<[u8]>]>,
    /// At least one, the oldest first.
    lists: Vec<List>,
}

#[derive(Clone, Debug)]
struct List {
    number: Option<Box<[u8]>>,
    this_update: u64,
    next_update: u64,
    /// Sorted.
    revoked: Arc<[Serial]>,
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
    /// No list of the issuer has begun.
    NotBegun {
        /// The name.
        issuer: String,
        /// When the first one begins, Unix time.
        begins: u64,
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
    /// There are lists of its issuer, all of other distribution points.
    OtherPoint,
    /// No list that could clear it has begun.
    NotBegun { this_update: u64 },
    /// The list is too long past its next update to clear anything.
    TooOld { next_update: u64 },
}

impl RevocationSet {
    /// Verifies each list under one of `issuers` and sorts them; with marks and a time, compares
    /// what is in force then with how far each issuer's lists had come.
    ///
    /// # Errors
    /// If a list cannot be gone by, has not begun, or is older than the one that was in force.
    pub fn new(
        ders: &[CertificateRevocationListDer<'_>],
        issuers: &[&Issuer],
        algorithms: &[&dyn SignatureVerificationAlgorithm],
        before: Option<(&Marks, u64)>,
    ) -> Result<Self, RevocationError> {
        let mut set = Self {
            sources: Vec::new(),
        };
        for (at, der) in ders.iter().enumerate() {
            let bad = |issuer, why| RevocationError::Crl {
                number: at + 1,
                issuer,
                why,
            };
            let crl = Crl::read(der).map_err(|why| bad(None, why))?;
            let issuer = signer(&crl, issuers, algorithms)?;
            let mut revoked = Vec::new();
            crl.for_each_revoked(|entry| revoked.push(fixed(entry.serial)))
                .map_err(|why| bad(Some(crl.issuer_label()), why))?;
            revoked.sort_unstable();
            let list = List {
                number: crl.number.map(Into::into),
                this_update: crl.this_update,
                next_update: crl.next_update,
                revoked: revoked.into(),
            };
            set.add(issuer, &crl.points, list);
        }
        if let Some((marks, now)) = before {
            set.goes_on_from(marks, now)?;
        }
        Ok(set)
    }

    /// The same lists, which never grow old: whom they name is revoked, and for the others they say
    /// no more than that. For asking a CA server for newer ones; who gave them is judged by them
    /// afterwards.
    pub fn ageless(&self) -> Self {
        let mut set = self.clone();
        for list in set.sources.iter_mut().flat_map(|source| &mut source.lists) {
            list.next_update = u64::MAX;
        }
        set
    }

    fn add(&mut self, issuer: &Issuer, points: &[&[u8]], list: List) {
        let id = list_id(issuer, points);
        let Some(source) = self.sources.iter_mut().find(|source| source.id == id) else {
            return self.sources.push(Source {
                id,
                issuer: issuer.clone(),
                points: points.iter().map(|point| (*point).into()).collect(),
                lists: vec![list],
            });
        };
        match source.lists.iter_mut().find(|known| known.is_beside(&list)) {
            // One number twice: neither is known to be the whole truth, so a certificate is clear
            // if both say so.
            Some(known) => known.join(&list),
            None => {
                let newer = source
                    .lists
                    .iter()
                    .position(|known| list.is_older_than(known));
                source
                    .lists
                    .insert(newer.unwrap_or(source.lists.len()), list);
            }
        }
    }

    /// Refuses to go back behind `before`.
    ///
    /// # Errors
    /// If a list has not begun, or is older than the one that was in force.
    pub fn goes_on_from(&self, before: &Marks, now: u64) -> Result<(), RevocationError> {
        for source in &self.sources {
            let Some(mark) = before.of(&source.id) else {
                continue;
            };
            let goes_back =
                |list: &List| mark.is_newer_than(list.number.as_deref(), list.this_update);
            let issuer = || source.issuer.label.clone();
            match source.at(now) {
                Ok(list) if !goes_back(list) => {}
                Ok(list) => {
                    // One that is new enough may stand beside it and be still to begin.
                    let later = source.lists.iter().find(|list| !goes_back(list));
                    return Err(match later {
                        Some(later) => RevocationError::NotBegun {
                            issuer: issuer(),
                            begins: later.this_update,
                        },
                        None => RevocationError::GoesBack {
                            issuer: issuer(),
                            from: described(mark.number.as_deref(), mark.this_update),
                            to: described(list.number.as_deref(), list.this_update),
                        },
                    });
                }
                Err(begins) => {
                    return Err(RevocationError::NotBegun {
                        issuer: issuer(),
                        begins,
                    });
                }
            }
        }
        Ok(())
    }

    /// How far each issuer's lists have come that are in force.
    #[must_use]
    pub fn marks(&self, now: u64) -> Marks {
        let mut marks = Marks::default();
        for source in &self.sources {
            if let Ok(list) = source.at(now) {
                let mark = Mark {
                    issuer: source.issuer.label.clone(),
                    number: list.number.clone(),
                    this_update: list.this_update,
                };
                marks.advance(source.id, mark);
            }
        }
        marks
    }

    /// The first moment at which an issuer that has no list in force has one, and the issuer.
    #[must_use]
    pub fn not_begun(&self, now: u64) -> Option<(&Issuer, u64)> {
        let waiting = |source: &Source| source.at(now).err();
        self.sources
            .iter()
            .filter_map(|source| Some((&source.issuer, waiting(source)?)))
            .min_by_key(|(_, begins)| *begins)
    }

    /// What the set says of the certificate that `issuer` (name and key) gave this serial number.
    pub(super) fn status(
        &self,
        issuer: (&[u8], &[u8]),
        serial: &[u8],
        certificate: &[u8],
        now: u64,
    ) -> Status {
        let is_issuers =
            |source: &&Source| (&*source.issuer.subject, &*source.issuer.key) == issuer;
        let mut status = Status::NoList;
        let mut points = None;
        for source in self.sources.iter().filter(is_issuers) {
            let list = source.at(now);
            // Revoked stays revoked, however old the list, and wherever it lies: a serial number is
            // its issuer's alone.
            if list.is_ok_and(|list| list.revoked.binary_search(&fixed(serial)).is_ok()) {
                return Status::Revoked;
            }
            let names: &Vec<&[u8]> = points.get_or_insert_with(|| crl::points_of(certificate));
            let says = match list {
                _ if !source.covers(names) => Status::OtherPoint,
                Err(this_update) => Status::NotBegun { this_update },
                Ok(list) if now > list.next_update.saturating_add(STALE_GRACE) => Status::TooOld {
                    next_update: list.next_update,
                },
                Ok(_) => Status::Clear,
            };
            // One list that clears is enough, and any other says more than a list of another point.
            if status != Status::Clear && (status == Status::NoList || says != Status::OtherPoint) {
                status = says;
            }
        }
        status
    }

    fn in_force(&self, now: u64) -> impl Iterator<Item = (&Issuer, &List)> {
        self.sources
            .iter()
            .filter_map(move |source| Some((&source.issuer, source.at(now).ok()?)))
    }

    /// The earliest time at which a next list is due, Unix time.
    #[must_use]
    pub fn next_update(&self, now: u64) -> Option<u64> {
        self.in_force(now).map(|(_, list)| list.next_update).min()
    }

    /// Each issuer's list.
    #[must_use]
    pub fn lists(&self, now: u64) -> Vec<ListFacts> {
        let facts = |(issuer, list): (&Issuer, &List)| ListFacts {
            issuer: issuer.label.clone(),
            number: list.number.as_deref().map(number_hex),
            this_update: list.this_update,
            next_update: list.next_update,
            revoked: list.revoked.len(),
        };
        self.in_force(now).map(facts).collect()
    }

    /// A sentence for the alarm, if a list is past its next update.
    #[must_use]
    pub fn stale(&self, now: u64) -> Option<String> {
        let (issuer, list) = self
            .in_force(now)
            .filter(|(_, list)| now > list.next_update)
            .min_by_key(|(_, list)| list.next_update)?;
        let ago = Span((now - list.next_update) / 3600 * 3600);
        let issuer = &issuer.label;
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

impl Source {
    /// The list in force, or when the first one begins.
    fn at(&self, now: u64) -> Result<&List, u64> {
        let begun = self.lists.iter().rev().find(|list| list.this_update <= now);
        begun.ok_or_else(|| {
            let begins = self.lists.iter().map(|list| list.this_update).min();
            begins.unwrap_or(u64::MAX)
        })
    }

    fn covers(&self, certificate: &[&[u8]]) -> bool {
        let mut own = self.points.iter();
        self.points.is_empty() || own.any(|point| certificate.contains(&&**point))
    }
}

impl List {
    /// Without both numbers the time decides.
    fn is_older_than(&self, other: &Self) -> bool {
        match (self.number.as_deref(), other.number.as_deref()) {
            (Some(own), Some(other)) => less(own, other),
            (None, Some(_)) => true,
            (Some(_), None) => false,
            (None, None) => self.this_update < other.this_update,
        }
    }

    /// Whether neither is older than the other.
    fn is_beside(&self, other: &Self) -> bool {
        !self.is_older_than(other) && !other.is_older_than(self)
    }

    fn join(&mut self, other: &Self) {
        let mut revoked = [&*self.revoked, &*other.revoked].concat();
        revoked.sort_unstable();
        revoked.dedup();
        self.revoked = revoked.into();
        // What one names counts from the earlier beginning, and what neither names is clear as long
        // as both may clear.
        self.this_update = self.this_update.min(other.this_update);
        self.next_update = self.next_update.min(other.next_update);
    }
}

fn list_id(issuer: &Issuer, points: &[&[u8]]) -> ListId {
    let mut points = points.to_vec();
    points.sort_unstable();
    let mut context = Context::new(&SHA256);
    // Each part with its length. State directories hold the sum, so it stays what it is.
    for part in [&*issuer.subject, &*issuer.key, &points.concat()] {
        context.update(&part.len().to_be_bytes());
        context.update(part);
    }
    let mut id = [0; 32];
    id.copy_from_slice(context.finish().as_ref());
    id
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

/// A serial number of any length; beyond 20 bytes it is nobody's: such a certificate is refused and
/// such a CRL too.
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
        gapura_protocol::text::hex(number)
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
            Self::NotBegun { issuer, begins } => write!(
                f,
                "its CRL of {issuer} begins at {}, so it is not taken before; check the clock here and the CA's",
                day(*begins)
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
