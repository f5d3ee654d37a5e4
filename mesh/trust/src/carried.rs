//! A refusal on its way through a handshake: as rustls carries it, whose alert tells the peer as
//! much as it may know.
//!
//! In: a [`Refusal`] of ours. Out: rustls's error, with the refusal itself inside wherever the
//! error's kind has no room for the particulars; `failure` reads both back. Nothing is judged here.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::UnixTime;
use rustls::{CertificateError, ExtendedKeyPurpose, OtherError};

use gapura_certificates::purpose::Purpose;
use gapura_certificates::refusal::{Purposes, Refusal};

/// anyExtendedKeyUsage, RFC 5280 section 4.2.1.12.
const ANY_PURPOSE: &[usize] = &[2, 5, 29, 37, 0];

/// What rustls should make of a refusal: a kind of error whose alert tells the peer as much as it
/// may know, and the refusal wherever the kind has no room for the particulars.
pub(super) fn into_rustls(refusal: Refusal) -> rustls::Error {
    let error = match refusal {
        Refusal::NoCertificate => return rustls::Error::NoCertificatesPresented,
        Refusal::Malformed(_) => CertificateError::BadEncoding,
        Refusal::UnknownIssuer => CertificateError::UnknownIssuer,
        Refusal::BadSignature => CertificateError::BadSignature,
        Refusal::Expired { not_after, now } => CertificateError::ExpiredContext {
            time: at(now),
            not_after: at(not_after),
        },
        Refusal::NotYetValid { not_before, now } => CertificateError::NotValidYetContext {
            time: at(now),
            not_before: at(not_before),
        },
        Refusal::Revoked { .. } => CertificateError::Revoked,
        Refusal::NoCrlForIssuer { .. } => CertificateError::UnknownRevocationStatus,
        Refusal::CrlTooOld { next_update, now } => CertificateError::ExpiredRevocationListContext {
            time: at(now),
            next_update: at(next_update),
        },
        Refusal::Purpose {
            wanted: Purpose::Client,
            found,
        } => CertificateError::InvalidPurposeContext {
            required: ExtendedKeyPurpose::ClientAuth,
            presented: presented(found),
        },
        Refusal::Purpose {
            wanted: Purpose::Server,
            found,
        } => CertificateError::InvalidPurposeContext {
            required: ExtendedKeyPurpose::ServerAuth,
            presented: presented(found),
        },
        other => CertificateError::Other(OtherError(Arc::new(other))),
    };
    rustls::Error::InvalidCertificate(error)
}

fn presented(purposes: Purposes) -> Vec<ExtendedKeyPurpose> {
    let named = [
        (purposes.client, ExtendedKeyPurpose::ClientAuth),
        (purposes.server, ExtendedKeyPurpose::ServerAuth),
        (
            purposes.any,
            ExtendedKeyPurpose::Other(ANY_PURPOSE.to_vec()),
        ),
    ];
    named
        .into_iter()
        .filter_map(|(set, purpose)| set.then_some(purpose))
        .collect()
}

/// The way back of what [`into_rustls`] says of a certificate's purposes.
pub(super) fn purposes(presented: &[ExtendedKeyPurpose]) -> Purposes {
    let has = |wanted: &ExtendedKeyPurpose| presented.contains(wanted);
    Purposes {
        client: has(&ExtendedKeyPurpose::ClientAuth),
        server: has(&ExtendedKeyPurpose::ServerAuth),
        any: has(&ExtendedKeyPurpose::Other(ANY_PURPOSE.to_vec())),
    }
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}
