//! Reads from a leaf certificate who it speaks for and until when.
//!
//! In: DER. Out: a [`Peer`], or the reason why the certificate names nobody. Signature, chain and
//! revocation are judged in `verify`; reading proves nothing by itself.

use aws_lc_rs::digest;
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::der::trim_zeros;
use super::form::{self, Form, Whose};
use super::refusal::{Malformed, Purposes, Refusal, shown};
use gapura_protocol::identity::PeerId;
use gapura_protocol::text::hex;

/// Who a certificate speaks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Peer {
    /// Its identity.
    pub id: PeerId,
    /// The certificate's serial number, big-endian, without leading zeros.
    pub serial: Box<[u8]>,
    /// SHA-256 of the issuer's name as DER: with the serial it names one certificate.
    pub issuer: [u8; 32],
    /// Its first second, Unix time.
    pub not_before: u64,
    /// Its last second, Unix time.
    pub not_after: u64,
}

impl Peer {
    /// Reads the leaf of a chain that a handshake has already judged, so that a connection costs
    /// one verification, not two.
    ///
    /// # Errors
    /// If the leaf is missing, malformed, or does not hold exactly one URI name that is an
    /// identity.
    pub fn of_judged_chain(chain: &[CertificateDer<'_>]) -> Result<Self, Refusal> {
        Self::claimed(chain.first().ok_or(Refusal::NoCertificate)?)
    }

    /// Whom a leaf claims to speak for; nothing of that is proven.
    ///
    /// # Errors
    /// As [`Self::of_judged_chain`].
    pub fn claimed(leaf: &CertificateDer<'_>) -> Result<Self, Refusal> {
        read(leaf).map(|(peer, _)| peer)
    }

    /// The serial number as hex digits.
    #[must_use]
    pub fn serial_hex(&self) -> String {
        hex(&self.serial)
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

/// Identity, serial, validity and purposes of a leaf.
pub(super) fn read(leaf: &CertificateDer<'_>) -> Result<(Peer, Purposes), Refusal> {
    // An extension that says two things is named as that, before one of the two is looked at.
    if let Some(extension) = form::repeated(leaf) {
        return Err(Refusal::Form(Form::Repeated {
            of: Whose::Leaf,
            extension,
        }));
    }
    let (rest, certificate) =
        X509Certificate::from_der(leaf).map_err(|_| Refusal::Malformed(Malformed::Certificate))?;
    if !rest.is_empty() {
        return Err(Refusal::Malformed(Malformed::Certificate));
    }
    let purposes = match certificate.extended_key_usage() {
        Ok(Some(usage)) => {
            let usage = usage.value;
            Purposes {
                client: usage.client_auth,
                server: usage.server_auth,
                any: usage.any,
            }
        }
        Ok(None) => Purposes::default(),
        Err(_) => return Err(Refusal::Malformed(Malformed::KeyUsage)),
    };
    let peer = Peer {
        id: identity(&certificate)?,
        serial: trim_zeros(certificate.raw_serial()).into(),
        issuer: sha256(certificate.issuer().as_raw()),
        not_before: seconds(certificate.validity().not_before.timestamp()),
        not_after: seconds(certificate.validity().not_after.timestamp()),
    };
    Ok((peer, purposes))
}

/// Exactly one URI name, and it is an identity. Two would let whoever signs a request for one
/// smuggle in another.
fn identity(certificate: &X509Certificate<'_>) -> Result<PeerId, Refusal> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| Refusal::Malformed(Malformed::Names))?;
    let names = names.map_or(&[][..], |names| &names.value.general_names);
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(Ok(*uri)),
        GeneralName::Invalid(..) => Some(Err(Refusal::Malformed(Malformed::Names))),
        _ => None,
    });
    let first = uris.next().ok_or(Refusal::NoIdentity)??;
    match uris.next() {
        None => first.parse().map_err(|why| Refusal::InvalidIdentity {
            found: shown(first),
            why,
        }),
        Some(Ok(second)) => Err(Refusal::SeveralIdentities {
            first: shown(first),
            second: shown(second),
        }),
        Some(Err(refusal)) => Err(refusal),
    }
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

/// A time before 1970 is as good as 1970: long past.
pub fn seconds(timestamp: i64) -> u64 {
    u64::try_from(timestamp).unwrap_or(0)
}
