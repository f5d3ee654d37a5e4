//! Revocations that newer lists have lost: a CA that was put back to an older backup no longer
//! knows whom it revoked since, and its next list, whose number is higher all the same, would let
//! them in again.
//!
//! In: the lists in force, those that are to follow, and from when on a revocation must still be
//! named. Out: what the former name and the latter do not. An issuer of which no list follows has
//! lost nothing: without a list nobody is let in by it. Signatures and numbers are judged where the
//! set is made.

use std::collections::{BTreeMap, BTreeSet};

use rustls_pki_types::CertificateRevocationListDer;

use super::crl::{Crl, CrlError};
use gapura_protocol::text::hex;

/// A revocation that was there and is not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Forgotten {
    /// The issuer's name for people.
    pub issuer: String,
    /// The serial number, in hexadecimal.
    pub serial: String,
}

/// What a list is known by: its issuer, and its distribution point.
type Key<'a> = (&'a [u8], Vec<&'a [u8]>);

/// Revocations of `since` (Unix time) or later that `before` names and `after` does not.
///
/// # Errors
/// A list cannot be read.
pub fn forgotten(
    before: &[CertificateRevocationListDer<'_>],
    after: &[CertificateRevocationListDer<'_>],
    since: u64,
) -> Result<BTreeSet<Forgotten>, CrlError> {
    let mut named: BTreeMap<Key<'_>, BTreeSet<&[u8]>> = BTreeMap::new();
    for der in after {
        let list = Crl::read(der)?;
        let serials = named.entry(list.key()).or_default();
        list.for_each_revoked(|entry| {
            serials.insert(entry.serial);
        })?;
    }
    let mut lost = BTreeSet::new();
    for der in before {
        let list = Crl::read(der)?;
        let Some(known) = named.get(&list.key()) else {
            continue;
        };
        list.for_each_revoked(|entry| {
            if !known.contains(entry.serial) && entry.revoked_at().is_some_and(|at| at >= since) {
                lost.insert(Forgotten {
                    issuer: list.issuer_label(),
                    serial: hex(entry.serial),
                });
            }
        })?;
    }
    Ok(lost)
}
