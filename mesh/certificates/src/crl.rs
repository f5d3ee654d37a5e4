//! Reads one certificate revocation list (RFC 5280, section 5) and verifies who signed it.
//!
//! In: DER. Out: a [`Crl`] that borrows from it. Only full, direct lists are understood: a delta,
//! indirect or partial list, or any critical extension we do not know, is refused, since reading it
//! as a full one would let a revoked certificate pass. One that names its distribution point is
//! read together with that name: it speaks of the certificates that name the same point.

use std::fmt;

use rustls_pki_types::SignatureVerificationAlgorithm;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Name;

use super::der::{self, Reader, trim_zeros};
use super::peer::seconds;
use super::refusal::shown;
use super::roots::Issuer;

/// A list as read; nothing is proven until [`Crl::signed_by`].
#[derive(Clone, Debug)]
pub struct Crl<'a> {
    signed: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
    issuer: &'a [u8],
    issuer_whole: &'a [u8],
    entries: &'a [u8],
    /// The names of its distribution point, each a whole DER element; empty: it speaks of all
    /// certificates of its issuer.
    pub(super) points: Vec<&'a [u8]>,
    /// When it was made, Unix time.
    pub this_update: u64,
    /// When the next one is due, Unix time.
    pub next_update: u64,
    /// Its number, big-endian without leading zeros, if it has one.
    pub number: Option<&'a [u8]>,
}

/// A revocation.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The serial number, big-endian without leading zeros.
    pub serial: &'a [u8],
    /// When it was revoked, as a whole DER element.
    at: &'a [u8],
}

/// Why a list is not one we can go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrlError {
    /// It is not a CRL in DER.
    Malformed,
    /// It does not say when the next one is due.
    NoNextUpdate,
    /// It tells only the difference to another list.
    Delta,
    /// It speaks of certificates of other issuers.
    Indirect,
    /// It covers only some certificates or reasons of its issuer.
    Partial(Part),
    /// It names its distribution point in a way that cannot be compared.
    RelativePoint,
    /// It ends before it begins.
    Dates,
    /// It has an extension twice.
    Repeated,
    /// It has a critical extension that is not known here.
    CriticalExtension,
    /// A serial number in it is longer than 20 bytes.
    Serial,
}

/// What a partial list is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// onlyContainsUserCerts.
    Users,
    /// onlyContainsCACerts.
    Cas,
    /// onlyContainsAttributeCerts.
    Attributes,
    /// onlySomeReasons.
    Reasons,
}

/// Whether an issuer signed a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signed {
    /// It did.
    Yes,
    /// It has another name.
    OtherName,
    /// The name is the same, the signature is not this key's.
    OtherKey,
    /// Its own certificate forbids it to sign CRLs.
    NotAllowed,
}

const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 0x14];
const REASON_CODE: &[u8] = &[0x55, 0x1d, 0x15];
const INVALIDITY_DATE: &[u8] = &[0x55, 0x1d, 0x18];
const DELTA_INDICATOR: &[u8] = &[0x55, 0x1d, 0x1b];
const ISSUING_POINT: &[u8] = &[0x55, 0x1d, 0x1c];
const CERTIFICATE_ISSUER: &[u8] = &[0x55, 0x1d, 0x1d];
const DISTRIBUTION_POINTS: &[u8] = &[0x55, 0x1d, 0x1f];
const AUTHORITY_KEY: &[u8] = &[0x55, 0x1d, 0x23];

/// RFC 5280, section 5.2.3.
const LONGEST_NUMBER: usize = 20;

impl<'a> Crl<'a> {
    /// Reads a list.
    ///
    /// # Errors
    /// If it is not a full, direct CRL.
    pub fn read(der: &'a [u8]) -> Result<Self, CrlError> {
        let mut outer = Reader(der);
        let mut list = Reader(outer.value(der::SEQUENCE).ok_or(CrlError::Malformed)?);
        let (tbs, signed) = list.whole(der::SEQUENCE).ok_or(CrlError::Malformed)?;
        let algorithm = list.value(der::SEQUENCE).ok_or(CrlError::Malformed)?;
        let signature = list
            .value(der::BIT_STRING)
            .and_then(|bits| bits.strip_prefix(&[0]))
            .ok_or(CrlError::Malformed)?;
        if !outer.at_end() || !list.at_end() {
            return Err(CrlError::Malformed);
        }
        let mut tbs = Reader(tbs);
        // Version 1 has no extensions, so no number: nothing we issue and nothing OpenSSL makes by
        // default, yet a CRL.
        let version = tbs.value(der::INTEGER);
        if version.is_some_and(|version| version != [1]) {
            return Err(CrlError::Malformed);
        }
        if tbs.value(der::SEQUENCE) != Some(algorithm) {
            return Err(CrlError::Malformed);
        }
        let (issuer, issuer_whole) = tbs.whole(der::SEQUENCE).ok_or(CrlError::Malformed)?;
        let this_update = time(&mut tbs).ok_or(CrlError::Malformed)?;
        let next_update = time(&mut tbs).ok_or(CrlError::NoNextUpdate)?;
        let entries = tbs.value(der::SEQUENCE).unwrap_or(&[]);
        let extensions = tbs.value(0xa0);
        if !tbs.at_end() || (version.is_none() && extensions.is_some()) {
            return Err(CrlError::Malformed);
        }
        if next_update < this_update {
            return Err(CrlError::Dates);
        }
        let mut crl = Self {
            signed,
            algorithm,
            signature,
            issuer,
            issuer_whole,
            entries,
            points: Vec::new(),
            this_update,
            next_update,
            number: None,
        };
        if let Some(extensions) = extensions {
            crl.read_extensions(extensions)?;
        }
        Ok(crl)
    }

    fn read_extensions(&mut self, wrapped: &'a [u8]) -> Result<(), CrlError> {
        let mut wrapped = Reader(wrapped);
        let extensions = wrapped.value(der::SEQUENCE).ok_or(CrlError::Malformed)?;
        if !wrapped.at_end() {
            return Err(CrlError::Malformed);
        }
        for_each_extension(extensions, |id, critical, value| {
            match id {
                CRL_NUMBER => {
                    let mut inner = Reader(value);
                    let number = inner
                        .value(der::INTEGER)
                        .filter(|_| inner.at_end())
                        .ok_or(CrlError::Malformed)?;
                    // A negative number, an overlong one or a second one would make "never goes
                    // back" a matter of opinion.
                    let trimmed = trim_zeros(number);
                    if number.first().is_none_or(|first| *first >= 0x80)
                        || trimmed.len() > LONGEST_NUMBER
                        || self.number.is_some()
                    {
                        return Err(CrlError::Malformed);
                    }
                    self.number = Some(trimmed);
                }
                DELTA_INDICATOR => return Err(CrlError::Delta),
                ISSUING_POINT => self.points = scope(value)?,
                AUTHORITY_KEY => {} // the issuer is found by its name and its signature
                _ if critical => return Err(CrlError::CriticalExtension),
                _ => {}
            }
            Ok(())
        })
    }

    /// The issuer's name for people.
    #[must_use]
    pub fn issuer_label(&self) -> String {
        X509Name::from_der(self.issuer_whole).map_or_else(
            |_| "an unreadable name".to_owned(),
            |(_, name)| shown(&name.to_string()),
        )
    }

    /// What tells lists of one issuer and distribution point from others.
    pub(super) fn key(&self) -> (&'a [u8], Vec<&'a [u8]>) {
        let mut points = self.points.clone();
        points.sort_unstable();
        (self.issuer, points)
    }

    /// Hands each revocation to `each`.
    ///
    /// # Errors
    /// If an entry cannot be read or speaks of another issuer's certificate; some entries may have
    /// been handed over by then.
    pub fn for_each_revoked(&self, mut each: impl FnMut(Entry<'a>)) -> Result<usize, CrlError> {
        let mut entries = Reader(self.entries);
        let mut count = 0;
        while !entries.at_end() {
            let mut entry = Reader(entries.value(der::SEQUENCE).ok_or(CrlError::Malformed)?);
            let serial = trim_zeros(entry.value(der::INTEGER).ok_or(CrlError::Malformed)?);
            if serial.len() > LONGEST_NUMBER {
                return Err(CrlError::Serial);
            }
            let at = match entry.any_whole() {
                Some((der::UTC_TIME | der::GENERALIZED_TIME, whole)) => whole,
                _ => return Err(CrlError::Malformed),
            };
            if let Some(extensions) = entry.value(der::SEQUENCE) {
                for_each_extension(extensions, |id, critical, _| match id {
                    REASON_CODE | INVALIDITY_DATE => Ok(()),
                    CERTIFICATE_ISSUER => Err(CrlError::Indirect),
                    _ if critical => Err(CrlError::CriticalExtension),
                    _ => Ok(()),
                })?;
            }
            if !entry.at_end() {
                return Err(CrlError::Malformed);
            }
            each(Entry { serial, at });
            count += 1;
        }
        Ok(count)
    }

    /// Whether `issuer` signed it, with one of `algorithms`.
    #[must_use]
    pub fn signed_by(
        &self,
        issuer: &Issuer,
        algorithms: &[&dyn SignatureVerificationAlgorithm],
    ) -> Signed {
        if *self.issuer != *issuer.subject {
            return Signed::OtherName;
        }
        let mut spki = Reader(super::roots::content(&issuer.key));
        let (Some(key_algorithm), Some(key)) =
            (spki.value(der::SEQUENCE), spki.value(der::BIT_STRING))
        else {
            return Signed::OtherKey;
        };
        let Some(key) = key.strip_prefix(&[0]) else {
            return Signed::OtherKey;
        };
        let fits = algorithms.iter().any(|algorithm| {
            algorithm.signature_alg_id().as_ref() == self.algorithm
                && algorithm.public_key_alg_id().as_ref() == key_algorithm
                && algorithm
                    .verify_signature(key, self.signed, self.signature)
                    .is_ok()
        });
        match (fits, issuer.no_crl_sign) {
            (true, false) => Signed::Yes,
            (true, true) => Signed::NotAllowed,
            (false, _) => Signed::OtherKey,
        }
    }
}

impl Entry<'_> {
    /// When it was revoked, Unix time; `None` where that is no time. Not read before somebody asks:
    /// a list may have 100,000.
    #[must_use]
    pub fn revoked_at(&self) -> Option<u64> {
        time(&mut Reader(self.at))
    }
}

/// The names of an issuing distribution point; any other field of it narrows what the list covers.
fn scope(value: &[u8]) -> Result<Vec<&[u8]>, CrlError> {
    let mut outer = Reader(value);
    let mut point = Reader(
        outer
            .value(der::SEQUENCE)
            .filter(|_| outer.at_end())
            .ok_or(CrlError::Malformed)?,
    );
    let mut names = Vec::new();
    while !point.at_end() {
        let part = match point.any() {
            Some((0xa0, name)) if names.is_empty() => {
                names = full_names(name)?;
                continue;
            }
            Some((0x81 | 0x82 | 0x84 | 0x85, [0])) => continue,
            Some((0x84, [_])) => return Err(CrlError::Indirect),
            Some((0x81, [_])) => Part::Users,
            Some((0x82, [_])) => Part::Cas,
            Some((0x83, _)) => Part::Reasons,
            Some((0x85, [_])) => Part::Attributes,
            _ => return Err(CrlError::Malformed),
        };
        return Err(CrlError::Partial(part));
    }
    Ok(names)
}

/// The names in a `DistributionPointName`: at least one.
fn full_names(value: &[u8]) -> Result<Vec<&[u8]>, CrlError> {
    let mut choice = Reader(value);
    let mut names = match choice.any() {
        Some((0xa0, names)) if choice.at_end() => Reader(names),
        Some((0xa1, _)) => return Err(CrlError::RelativePoint),
        _ => return Err(CrlError::Malformed),
    };
    let mut found = Vec::new();
    while !names.at_end() {
        let (_, name) = names.any_whole().ok_or(CrlError::Malformed)?;
        found.push(name);
    }
    if found.is_empty() {
        return Err(CrlError::Malformed);
    }
    Ok(found)
}

/// The names of the distribution points that a certificate gives for the lists of its own issuer;
/// what cannot be read names nothing.
pub(super) fn points_of(certificate: &[u8]) -> Vec<&[u8]> {
    let Some(value) = super::form::extension(certificate, DISTRIBUTION_POINTS) else {
        return Vec::new();
    };
    let mut outer = Reader(value);
    let mut points = Reader(outer.value(der::SEQUENCE).unwrap_or(&[]));
    let mut found = Vec::new();
    while let Some(point) = points.value(der::SEQUENCE) {
        let mut point = Reader(point);
        let name = point.value(0xa0);
        let _reasons = point.value(0x81);
        // A point with an issuer of its own is one of indirect lists, which are not taken.
        if let (Some(name), true) = (name, point.at_end()) {
            found.extend(full_names(name).unwrap_or_default());
        }
    }
    found
}

fn for_each_extension<'a>(
    extensions: &'a [u8],
    mut each: impl FnMut(&'a [u8], bool, &'a [u8]) -> Result<(), CrlError>,
) -> Result<(), CrlError> {
    let mut extensions = Reader(extensions);
    let mut seen: Vec<&[u8]> = Vec::new();
    while !extensions.at_end() {
        let mut extension = Reader(extensions.value(der::SEQUENCE).ok_or(CrlError::Malformed)?);
        let id = extension.value(der::OID).ok_or(CrlError::Malformed)?;
        let critical = extension
            .value(der::BOOLEAN)
            .is_some_and(|value| value != [0]);
        let value = extension
            .value(der::OCTET_STRING)
            .ok_or(CrlError::Malformed)?;
        if !extension.at_end() {
            return Err(CrlError::Malformed);
        }
        if seen.contains(&id) {
            return Err(CrlError::Repeated);
        }
        seen.push(id);
        each(id, critical, value)?;
    }
    Ok(())
}

fn time(reader: &mut Reader<'_>) -> Option<u64> {
    let tag = reader
        .next_tag()
        .filter(|tag| matches!(*tag, der::UTC_TIME | der::GENERALIZED_TIME))?;
    let (_, whole) = reader.whole(tag)?;
    let (_, time) = ASN1Time::from_der(whole).ok()?;
    Some(seconds(time.timestamp()))
}

impl fmt::Display for CrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "it cannot be read as a CRL",
            Self::NoNextUpdate => "it does not say when the next one is due (nextUpdate)",
            Self::Delta => "it is a delta CRL; a full one is wanted",
            Self::Indirect => {
                "it is an indirect CRL; one of the issuer's own certificates is wanted"
            }
            Self::Partial(Part::Users) => {
                "it covers only leaves (onlyContainsUserCerts); a full one is wanted"
            }
            Self::Partial(Part::Cas) => {
                "it covers only CAs (onlyContainsCACerts); a full one is wanted"
            }
            Self::Partial(Part::Attributes) => {
                "it covers only attribute certificates (onlyContainsAttributeCerts); a full one is wanted"
            }
            Self::Partial(Part::Reasons) => {
                "it covers only some reasons (onlySomeReasons); a full one is wanted"
            }
            Self::RelativePoint => {
                "it names its distribution point relative to its issuer's name, which is not understood here"
            }
            Self::Dates => "its next update is due before it was made",
            Self::Repeated => "it has an extension twice",
            Self::CriticalExtension => "it has a critical extension that is not known here",
            Self::Serial => "a serial number in it is longer than 20 bytes",
        })
    }
}

impl std::error::Error for CrlError {}
