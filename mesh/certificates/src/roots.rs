//! The trust anchors of `ca.pem`.
//!
//! In: CA certificates. Out: [`Roots`], against which chains are built. A self-issued certificate,
//! or one whose issuer is not in the file, is an anchor. One whose issuer is in the file as well is
//! an issuing CA that stands there so that its CRL can be verified and peers that forgot to send it
//! are understood: it helps to build a chain and vouches for nothing by itself.
//! Invariant: an anchor is never used outside its own dates, though webpki does not look at an
//! anchor's dates.

use std::fmt;
use std::ops::RangeInclusive;

use rustls_pki_types::{CertificateDer, TrustAnchor};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::form::{self, Form};
use super::peer::{seconds, sha256};
use super::refusal::shown;
use gapura_protocol::text::hex;

/// A CA as far as a CRL needs it: its name, its key and whether it may sign one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// Its name, DER, without the outer header.
    pub(super) subject: Box<[u8]>,
    /// Its key, DER `SubjectPublicKeyInfo` with the header.
    pub(super) key: Box<[u8]>,
    /// Its name for people.
    pub(super) label: String,
    /// Its key usage forbids signing CRLs.
    pub(super) no_crl_sign: bool,
    /// Its first second, Unix time.
    pub(super) not_before: u64,
    /// Its last second, Unix time.
    pub(super) not_after: u64,
    /// How many CAs may stand below it in a chain.
    pub(super) path_length: Option<u32>,
}

/// The CAs of one `ca.pem`.
#[derive(Clone, Debug)]
pub struct Roots {
    anchors: Vec<Anchor>,
    /// Of all anchors, in the same order: what webpki takes as a slice.
    all: Vec<TrustAnchor<'static>>,
    helpers: Vec<CertificateDer<'static>>,
    helper_issuers: Vec<Issuer>,
    /// The first second of the anchor that begins last, and the last of the one that ends first.
    all_in_date: RangeInclusive<u64>,
}

#[derive(Clone, Debug)]
struct Anchor {
    issuer: Issuer,
    fingerprint: [u8; 32],
}

/// Why a set of CA certificates is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootsError {
    /// A certificate cannot be read.
    Unreadable {
        /// Which, from 1.
        number: usize,
    },
    /// A certificate is no CA's.
    NotACa {
        /// Which, from 1.
        number: usize,
        /// Its name.
        subject: String,
    },
    /// A certificate breaks a rule of form.
    Form {
        /// Which, from 1.
        number: usize,
        /// The rule.
        form: Form,
    },
}

impl Issuer {
    /// Reads a CA certificate from DER; `None` if it cannot be read or is no CA's.
    #[must_use]
    pub fn from_der(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der)
            .ok()
            .filter(|(rest, _)| rest.is_empty())?;
        Self::of(&certificate)
    }

    /// Reads a CA certificate; `None` if it cannot be read or is no CA's.
    fn of(certificate: &X509Certificate<'_>) -> Option<Self> {
        let constraints = certificate.basic_constraints().ok()?;
        if !constraints
            .as_ref()
            .is_some_and(|constraints| constraints.value.ca)
        {
            return None;
        }
        Some(Self {
            subject: content(certificate.subject().as_raw()).into(),
            key: certificate.public_key().raw.into(),
            label: shown(&certificate.subject().to_string()),
            // What cannot be read allows nothing; that it cannot be read is for `form` to say.
            no_crl_sign: match certificate.key_usage() {
                Ok(usage) => usage.is_some_and(|usage| !usage.value.crl_sign()),
                Err(_) => true,
            },
            not_before: seconds(certificate.validity().not_before.timestamp()),
            not_after: seconds(certificate.validity().not_after.timestamp()),
            path_length: constraints.and_then(|constraints| constraints.value.path_len_constraint),
        })
    }

    /// Its name for people.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Its last second, Unix time.
    #[must_use]
    pub fn not_after(&self) -> u64 {
        self.not_after
    }
}

impl Roots {
    /// Sorts CA certificates into anchors and issuing CAs.
    ///
    /// # Errors
    /// If a certificate cannot be read or is no CA's.
    pub fn new(certificates: &[CertificateDer<'static>]) -> Result<Self, RootsError> {
        let mut parsed: Vec<(&CertificateDer<'static>, X509Certificate<'_>, Issuer)> = Vec::new();
        for (at, der) in certificates.iter().enumerate() {
            let number = at + 1;
            let (rest, certificate) =
                X509Certificate::from_der(der).map_err(|_| RootsError::Unreadable { number })?;
            if !rest.is_empty() {
                return Err(RootsError::Unreadable { number });
            }
            let name = || shown(&certificate.subject().to_string());
            form::authority(der, name).map_err(|form| RootsError::Form { number, form })?;
            let issuer = Issuer::of(&certificate).ok_or_else(|| RootsError::NotACa {
                number,
                subject: shown(&certificate.subject().to_string()),
            })?;
            if !parsed.iter().any(|(known, ..)| *known == der) {
                parsed.push((der, certificate, issuer));
            }
        }
        let mut roots = Self {
            anchors: Vec::new(),
            all: Vec::new(),
            helpers: Vec::new(),
            helper_issuers: Vec::new(),
            all_in_date: 0..=u64::MAX,
        };
        for (at, (der, certificate, issuer)) in parsed.iter().enumerate() {
            let self_issued = certificate.issuer().as_raw() == certificate.subject().as_raw();
            let issued_here = parsed.iter().any(|(_, other, _)| {
                other.subject().as_raw() == certificate.issuer().as_raw()
                    && certificate
                        .verify_signature(Some(other.public_key()))
                        .is_ok()
            });
            let certifies = form::certifier(der, || issuer.label.clone());
            if issued_here && !self_issued {
                // One that may sign CRLs and no certificates has a say about its CRL alone.
                if certifies.is_ok() {
                    roots.helpers.push((*der).clone());
                }
                roots.helper_issuers.push(issuer.clone());
            } else {
                let number = at + 1;
                certifies.map_err(|form| RootsError::Form { number, form })?;
                let anchor = webpki::anchor_from_trusted_cert(der)
                    .map_err(|_| RootsError::Unreadable { number: at + 1 })?;
                roots.all.push(anchor.to_owned());
                let (from, to) = roots.all_in_date.clone().into_inner();
                roots.all_in_date = from.max(issuer.not_before)..=to.min(issuer.not_after);
                roots.anchors.push(Anchor {
                    issuer: issuer.clone(),
                    fingerprint: sha256(der),
                });
            }
        }
        Ok(roots)
    }

    /// Every CA of the file: those that may have signed a CRL.
    pub fn issuers(&self) -> impl Iterator<Item = &Issuer> {
        self.anchors
            .iter()
            .map(|anchor| &anchor.issuer)
            .chain(&self.helper_issuers)
    }

    /// Each anchor: its name, its last second, its SHA-256.
    pub fn anchors(&self) -> impl Iterator<Item = (&str, u64, String)> {
        self.anchors.iter().map(|anchor| {
            (
                anchor.issuer.label.as_str(),
                anchor.issuer.not_after,
                hex(&anchor.fingerprint),
            )
        })
    }

    pub(super) fn helpers(&self) -> &[CertificateDer<'static>] {
        &self.helpers
    }

    /// All anchors, whatever their dates.
    pub(super) fn all(&self) -> &[TrustAnchor<'static>] {
        &self.all
    }

    /// The anchors that have begun and not ended, where that is not all of them.
    pub(super) fn in_date(&self, now: u64) -> Option<Vec<TrustAnchor<'static>>> {
        if self.all_in_date.contains(&now) {
            return None;
        }
        let in_date = self
            .anchors
            .iter()
            .zip(&self.all)
            .filter(|(Anchor { issuer, .. }, _)| {
                (issuer.not_before..=issuer.not_after).contains(&now)
            });
        Some(in_date.map(|(_, anchor)| anchor.clone()).collect())
    }

    /// The root that allows too few CAs for `found` of them below it; several roots may share a
    /// name and a key.
    pub(super) fn too_short(&self, anchor: &TrustAnchor<'_>, found: usize) -> Option<&Issuer> {
        let mut same = self
            .anchors
            .iter()
            .zip(&self.all)
            .filter(|(_, known)| {
                known.subject == anchor.subject
                    && known.subject_public_key_info == anchor.subject_public_key_info
            })
            .map(|(known, _)| &known.issuer);
        let allows = |issuer: &Issuer| {
            issuer
                .path_length
                .is_none_or(|most| usize::try_from(most).is_ok_and(|most| found <= most))
        };
        let first = same.next()?;
        (!allows(first) && !same.any(allows)).then_some(first)
    }

    /// The issuer behind an anchor that webpki found.
    pub(super) fn issuer_of(&self, anchor: &TrustAnchor<'_>) -> Option<&Issuer> {
        let at = self.all.iter().position(|known| {
            known.subject == anchor.subject
                && known.subject_public_key_info == anchor.subject_public_key_info
        })?;
        self.anchors.get(at).map(|anchor| &anchor.issuer)
    }
}

/// The value of a DER element: webpki compares names without their outer header.
pub(super) fn content(element: &[u8]) -> &[u8] {
    super::der::Reader(element)
        .any()
        .map_or(&[], |(_, value)| value)
}

impl fmt::Display for RootsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { number } => write!(f, "certificate {number} cannot be read"),
            Self::Form { number, form } => write!(f, "certificate {number} is refused: {form}"),
            Self::NotACa { number, subject } => {
                write!(
                    f,
                    "certificate {number} ({subject}) is no CA's; only roots and issuing CAs belong here"
                )
            }
        }
    }
}

impl std::error::Error for RootsError {}
