//! What stands in a certificate, for each sort there is. Nothing else decides a field of one.
//!
//! A gateway's leaf is good for dialling only and a plugin's for answering only, so that a stolen
//! plugin key can't speak to other sidecars even where their allow list is wrong. Names live in the
//! SAN, the subject of a leaf is empty. Every CA has a subject of its own, since verifiers pick
//! CRLs by the issuer's name.

use gapura_protocol::identity::{PeerId, Role};
use gapura_protocol::text::hex;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyUsagePurpose, NameConstraints, SanType,
    SerialNumber,
};
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::error::Error;
use crate::keys::{random, random_hex};
use crate::settings::Settings;
use crate::timestamp::Timestamp;

/// Certificates begin this long before they are made, for verifiers whose clock is behind.
pub(crate) const BACKDATE: u64 = 300;

/// A serial number: 20 octets, of which 158 bits are random, the first bit clear (positive) and the
/// second set (never shorter).
pub(crate) fn serial() -> Result<[u8; 20], Error> {
    let mut serial = random::<20>()?;
    serial[0] = (serial[0] & 0x3f) | 0x40;
    Ok(serial)
}

/// The first and last second of a certificate made at `now` for `ttl` seconds under an issuer that
/// lives in `within`.
pub(crate) fn life(
    now: Timestamp,
    ttl: u64,
    within: Option<(Timestamp, Timestamp)>,
) -> (Timestamp, Timestamp) {
    let (begin, end) = (now.minus(BACKDATE), now.plus(ttl));
    within.map_or((begin, end), |(from, to)| (begin.max(from), end.min(to)))
}

/// A root: may sign issuers and, one level deeper, leaves room for a cross-signed root.
pub(crate) fn root(
    id: &str,
    settings: &Settings,
    life: (Timestamp, Timestamp),
) -> Result<CertificateParams, Error> {
    authority(id, settings, life, 2)
}

/// An issuing CA: signs leaves only, and only names of its own trust domain.
pub(crate) fn issuer(
    id: &str,
    settings: &Settings,
    life: (Timestamp, Timestamp),
) -> Result<CertificateParams, Error> {
    let mut params = authority(id, settings, life, 0)?;
    // Verifiers that demand a purpose of the whole path find it here too.
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::ServerAuth,
    ];
    let domains = std::iter::once(settings.trust_domain.as_str())
        .chain(settings.permitted_dns.iter().map(String::as_str));
    // No constraint on URIs: webpki refuses every leaf under one, and it could name a host only,
    // never a path.
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: domains
            .map(|domain| GeneralSubtree::DnsName(domain.to_owned()))
            .collect(),
        excluded_subtrees: vec![
            GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix(
                Ipv4Addr::UNSPECIFIED.octets(),
                0,
            )),
            GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix(
                Ipv6Addr::UNSPECIFIED.octets(),
                0,
            )),
            GeneralSubtree::Rfc822Name(String::new()),
        ],
    });
    Ok(params)
}

/// A leaf.
pub(crate) fn leaf(
    id: &PeerId,
    dns: &[String],
    life: (Timestamp, Timestamp),
) -> Result<CertificateParams, Error> {
    let mut params = blank(life)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![match id.role() {
        Role::Gateway => ExtendedKeyUsagePurpose::ClientAuth,
        Role::Plugin | Role::Pki => ExtendedKeyUsagePurpose::ServerAuth,
    }];
    params
        .subject_alt_names
        .push(SanType::URI(ia5(&id.to_string())?));
    for name in default_dns(id).iter().chain(dns) {
        params.subject_alt_names.push(SanType::DnsName(ia5(name)?));
    }
    Ok(params)
}

/// The DNS name that every leaf of one who answers carries, for tools that know no SPIFFE.
pub(crate) fn default_dns(id: &PeerId) -> Option<String> {
    let answers = matches!(id.role(), Role::Plugin | Role::Pki);
    answers.then(|| format!("{}.{}.{}", id.name(), id.role(), id.domain()))
}

fn authority(
    id: &str,
    settings: &Settings,
    life: (Timestamp, Timestamp),
    path_length: u8,
) -> Result<CertificateParams, Error> {
    let mut params = blank(life)?;
    // X.520 allows an organisation 64 characters; the trust domain may be longer, and is in every
    // SAN anyway.
    let organisation: String = settings.trust_domain.as_str().chars().take(64).collect();
    params
        .distinguished_name
        .push(DnType::OrganizationName, organisation);
    // Random, because a second installation of the same trust domain must not repeat the first
    // one's subject either.
    params
        .distinguished_name
        .push(DnType::CommonName, format!("{id} {}", random_hex::<4>()?));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// Everything the library would otherwise fill in by itself: a life until 4096, a name, a serial
/// that repeats with the key, no AKI.
fn blank((begin, end): (Timestamp, Timestamp)) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.not_before = begin.to_time();
    params.not_after = end.to_time();
    params.serial_number = Some(SerialNumber::from_slice(&serial()?));
    params.distinguished_name = DistinguishedName::new();
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// The serial in hexadecimal, as it is in the inventory.
pub(crate) fn serial_text(params: &CertificateParams) -> String {
    params
        .serial_number
        .as_ref()
        .map_or_else(String::new, |serial| hex(serial.as_ref()))
}

fn ia5(text: &str) -> Result<Ia5String, Error> {
    Ia5String::try_from(text).map_err(Error::minting)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_are_positive_full_length_and_never_repeat() {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..10_000 {
            let serial = serial().unwrap();
            assert!((0x40..0x80).contains(&serial[0]));
            assert!(seen.insert(serial));
        }
    }

    #[test]
    fn a_life_stays_within_the_issuers() {
        let now = Timestamp(10_000);
        assert_eq!(life(now, 100, None), (Timestamp(9_700), Timestamp(10_100)));
        assert_eq!(
            life(now, 100, Some((Timestamp(9_900), Timestamp(10_050)))),
            (Timestamp(9_900), Timestamp(10_050))
        );
    }
}
