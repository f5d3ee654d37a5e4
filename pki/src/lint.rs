//! What is unwise or wrong in a certificate, request or CRL, before anybody refuses it.
//!
//! In: one item's DER. Out: findings, each with a fixed code: `E…` is refused by this mesh or by
//! OpenSSL's strict mode, `W…` works and shouldn't be done.

use gapura_protocol::identity::{PeerId, Role};
use rustls::pki_types::pem::SectionKind;
use serde::Serialize;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

use crate::error::Error;
use crate::inspect::moment;
use crate::pem;
use crate::settings::LEAF_TTL_MAX;
use crate::timestamp::{Timestamp, for_people};

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which of the file's items, from 1.
    pub item: usize,
    /// The rule.
    pub code: &'static str,
    /// What was found and what is wanted.
    pub message: String,
}

impl Finding {
    /// Whether it is more than a warning.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.code.starts_with('E')
    }
}

/// Looks through all certificates and CRLs of a file.
///
/// # Errors
/// There are none in it.
pub fn lint(bytes: &[u8], now: Timestamp) -> Result<Vec<Finding>, Error> {
    let mut items: Vec<(SectionKind, Vec<u8>)> = Vec::new();
    if bytes.first() == Some(&0x30) {
        let kind = if X509Certificate::from_der(bytes).is_ok() {
            SectionKind::Certificate
        } else {
            SectionKind::Crl
        };
        items.push((kind, bytes.to_vec()));
    } else {
        let blocks = pem::blocks(bytes).map_err(Error::Failed)?;
        items.extend(blocks.into_iter().map(|block| (block.kind, block.der)));
    }
    items.retain(|(kind, _)| matches!(kind, SectionKind::Certificate | SectionKind::Crl));
    if items.is_empty() {
        return Err(Error::Failed("no certificate and no CRL found".to_owned()));
    }
    let mut findings = Vec::new();
    for (at, (kind, der)) in items.iter().enumerate() {
        let mut note = |code, message: String| {
            findings.push(Finding {
                item: at + 1,
                code,
                message,
            })
        };
        match kind {
            SectionKind::Certificate => certificate(der, now, &mut note),
            _ => crl(der, now, &mut note),
        }
    }
    Ok(findings)
}

type Note<'a> = dyn FnMut(&'static str, String) + 'a;

fn certificate(der: &[u8], now: Timestamp, note: &mut Note<'_>) {
    let Ok((rest, parsed)) = X509Certificate::from_der(der) else {
        return note("E000", "not a certificate".to_owned());
    };
    if !rest.is_empty() {
        note("E000", "bytes follow the certificate".to_owned());
    }
    let facts = Facts::of(&parsed);
    if facts.repeated {
        note("E007", "an extension appears twice".to_owned());
    }
    common(&parsed, now, note);
    if facts.ca {
        authority(&parsed, &facts, note)
    } else {
        leaf(&parsed, &facts, note)
    }
}

/// What the rules look at, gathered in one walk.
#[derive(Default)]
struct Facts {
    ca: bool,
    constraints: bool,
    constraints_critical: bool,
    path_length: Option<u32>,
    usage: Option<(bool, bool, bool, bool)>, // digitalSignature, keyCertSign, cRLSign, critical
    purposes: Option<(bool, bool, bool)>,    // clientAuth, serverAuth, any
    names: Option<bool>,                     // critical
    uris: Vec<String>,
    dns: Vec<String>,
    other_names: usize,
    uri_constraint: bool,
    key_id: bool,
    issuer_key_id: bool,
    unknown_critical: Vec<String>,
    repeated: bool,
}

impl Facts {
    fn of(certificate: &X509Certificate<'_>) -> Self {
        let mut facts = Self {
            repeated: certificate.extensions_map().is_err(),
            ..Self::default()
        };
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::BasicConstraints(found) => {
                    (facts.ca, facts.constraints, facts.constraints_critical) =
                        (found.ca, true, extension.critical);
                    facts.path_length = found.path_len_constraint;
                }
                ParsedExtension::KeyUsage(found) => {
                    facts.usage = Some((
                        found.digital_signature(),
                        found.key_cert_sign(),
                        found.crl_sign(),
                        extension.critical,
                    ));
                }
                ParsedExtension::ExtendedKeyUsage(found) => {
                    facts.purposes = Some((found.client_auth, found.server_auth, found.any))
                }
                ParsedExtension::SubjectAlternativeName(found) => {
                    facts.names = Some(extension.critical);
                    for name in &found.general_names {
                        match name {
                            GeneralName::URI(uri) => facts.uris.push((*uri).to_owned()),
                            GeneralName::DNSName(dns) => facts.dns.push((*dns).to_owned()),
                            _ => facts.other_names += 1,
                        }
                    }
                }
                ParsedExtension::NameConstraints(found) => {
                    let trees = found
                        .permitted_subtrees
                        .iter()
                        .chain(&found.excluded_subtrees)
                        .flatten();
                    facts.uri_constraint = trees
                        .into_iter()
                        .any(|tree| matches!(tree.base, GeneralName::URI(_)));
                }
                ParsedExtension::SubjectKeyIdentifier(_) => facts.key_id = true,
                ParsedExtension::AuthorityKeyIdentifier(_) => facts.issuer_key_id = true,
                ParsedExtension::UnsupportedExtension { .. } if extension.critical => {
                    facts.unknown_critical.push(extension.oid.to_id_string());
                }
                _ => {}
            }
        }
        facts
    }
}

fn common(parsed: &X509Certificate<'_>, now: Timestamp, note: &mut Note<'_>) {
    let (from, to) = (
        moment(parsed.validity().not_before.timestamp()),
        moment(parsed.validity().not_after.timestamp()),
    );
    if now > to {
        note(
            "E020",
            format!("it ended at {to}, {} ago", for_people(now.since(to))),
        );
    }
    if now < from {
        note(
            "E021",
            format!(
                "it is valid from {from}, in {}",
                for_people(from.since(now))
            ),
        );
    }
    if from >= to {
        note("E022", "it ends before it begins".to_owned());
    }
    let serial = parsed.raw_serial();
    if serial.len() > 20
        || serial.first().is_some_and(|first| first & 0x80 != 0)
        || serial.iter().all(|byte| *byte == 0)
    {
        note(
            "E023",
            "its serial is not a positive number of at most 20 octets".to_owned(),
        );
    } else if serial.len() < 8 {
        note(
            "W024",
            format!(
                "its serial has {} octets; 64 random bits are the least",
                serial.len()
            ),
        );
    }
    match parsed.public_key().parsed() {
        Ok(PublicKey::RSA(key)) if key.key_size() < 2048 => note(
            "E025",
            format!("RSA of {} bits; 2048 are the least", key.key_size()),
        ),
        Ok(PublicKey::EC(point)) if point.key_size() < 256 => note(
            "E025",
            format!("EC of {} bits; 256 are the least", point.key_size()),
        ),
        _ => {}
    }
    let algorithm = parsed.signature_algorithm.algorithm.to_id_string();
    if [
        "1.2.840.113549.1.1.5",
        "1.2.840.10045.4.1",
        "1.2.840.113549.1.1.4",
    ]
    .contains(&algorithm.as_str())
    {
        note("E026", "signed with SHA-1 or MD5".to_owned());
    }
}

fn leaf(parsed: &X509Certificate<'_>, facts: &Facts, note: &mut Note<'_>) {
    match facts.names {
        None => note(
            "E001",
            "no subject alternative name; the common name is never looked at".to_owned(),
        ),
        Some(critical) if parsed.subject().iter().next().is_none() && !critical => {
            note(
                "E005",
                "the subject is empty, so the subject alternative name must be critical".to_owned(),
            );
        }
        Some(_) => {}
    }
    let id = match facts.uris.as_slice() {
        [] if facts.names.is_some() => {
            note(
                "E002",
                "no URI among its names, so it speaks for nobody".to_owned(),
            );
            None
        }
        [one] => one
            .parse::<PeerId>()
            .map_err(|why| note("E004", format!("`{one}` is not an identity: {why}")))
            .ok(),
        [] => None,
        more => {
            note(
                "E003",
                format!("{} URIs; exactly one is allowed", more.len()),
            );
            None
        }
    };
    if facts.dns.iter().any(|name| name.contains('*')) {
        note(
            "W006",
            "a wildcard among its DNS names; peers compare identities only".to_owned(),
        );
    }
    if facts.other_names > 0 {
        note("W008", "a name that is neither a URI nor a DNS name; our issuing CA forbids addresses and mail".to_owned());
    }
    match facts.purposes {
        None => note(
            "E010",
            "no extended key usage; a gateway needs clientAuth, a plugin serverAuth".to_owned(),
        ),
        Some((client, server, any)) => {
            if any && !client && !server {
                note("E011", "anyExtendedKeyUsage is not enough".to_owned());
            }
            match id.as_ref().map(PeerId::role) {
                Some(Role::Gateway) if !client => note(
                    "E012",
                    "a gateway's certificate without clientAuth".to_owned(),
                ),
                Some(Role::Plugin) if !server => note(
                    "E012",
                    "a plugin's certificate without serverAuth".to_owned(),
                ),
                Some(Role::Pki) if !server => note(
                    "E012",
                    "a CA server's certificate without serverAuth".to_owned(),
                ),
                Some(_) if client && server => note(
                    "W013",
                    "clientAuth and serverAuth in one; a stolen key could do both".to_owned(),
                ),
                _ => {}
            }
        }
    }
    match facts.usage {
        None => note("E014", "no key usage".to_owned()),
        Some((_, true, _, _) | (_, _, true, _)) => note(
            "E015",
            "a leaf that may sign certificates or CRLs".to_owned(),
        ),
        Some((false, ..)) => note("E014", "its key usage lacks digitalSignature".to_owned()),
        Some((.., false)) => note("W016", "its key usage is not critical".to_owned()),
        Some(_) => {}
    }
    if !facts.constraints {
        note(
            "W017",
            "no basic constraints; CA:FALSE should be spelled out".to_owned(),
        );
    }
    if !facts.key_id {
        note("W018", "no subject key identifier".to_owned());
    }
    if !facts.issuer_key_id {
        note("E019", "no authority key identifier".to_owned());
    }
    for oid in &facts.unknown_critical {
        note(
            "E027",
            format!("the critical extension {oid} is not known here"),
        );
    }
    let life = moment(parsed.validity().not_after.timestamp())
        .since(moment(parsed.validity().not_before.timestamp()));
    if life > LEAF_TTL_MAX.as_secs() + crate::profile::BACKDATE {
        note(
            "W028",
            format!(
                "it lives {}; {} are the most here",
                for_people(life),
                for_people(LEAF_TTL_MAX.as_secs())
            ),
        );
    }
}

fn authority(parsed: &X509Certificate<'_>, facts: &Facts, note: &mut Note<'_>) {
    if !facts.constraints_critical {
        note(
            "E030",
            "a CA whose basic constraints are not critical".to_owned(),
        );
    }
    match facts.usage {
        None => note("E031", "a CA without key usage".to_owned()),
        Some((_, false, ..)) => note("E031", "a CA whose key usage lacks keyCertSign".to_owned()),
        Some((_, _, false, _)) => note(
            "E032",
            "a CA whose key usage lacks cRLSign; its leaves could not be revoked".to_owned(),
        ),
        Some((.., false)) => note("E033", "a CA whose key usage is not critical".to_owned()),
        Some(_) => {}
    }
    if parsed.subject().iter().next().is_none() {
        note("E034", "a CA without a subject".to_owned());
    }
    if !facts.key_id {
        note("E035", "a CA without a subject key identifier".to_owned());
    }
    if facts.uri_constraint {
        note(
            "E036",
            "a name constraint on URIs; every leaf below would be refused".to_owned(),
        );
    }
    let self_issued = parsed.subject().as_raw() == parsed.issuer().as_raw();
    if !self_issued && facts.path_length.is_none() {
        note(
            "W037",
            "an issuing CA without a path length; 0 keeps it from making further CAs".to_owned(),
        );
    }
    if !self_issued && !facts.issuer_key_id {
        note("E019", "no authority key identifier".to_owned());
    }
}

fn crl(der: &[u8], now: Timestamp, note: &mut Note<'_>) {
    let Ok((rest, parsed)) = CertificateRevocationList::from_der(der) else {
        return note("E000", "neither a certificate nor a CRL".to_owned());
    };
    if !rest.is_empty() {
        note("E000", "bytes follow the CRL".to_owned());
    }
    match parsed.next_update().map(|next| moment(next.timestamp())) {
        None => note(
            "E040",
            "no nextUpdate; it could be played back for ever".to_owned(),
        ),
        Some(next) if now > next => note(
            "E041",
            format!("out of date since {next}, {}", for_people(now.since(next))),
        ),
        Some(_) => {}
    }
    if now < moment(parsed.last_update().timestamp()) {
        note("E042", "made in the future".to_owned());
    }
    if parsed.crl_number().is_none() {
        note(
            "W043",
            "no CRL number; an older one can't be told from a newer".to_owned(),
        );
    }
    let key_id = parsed.extensions().iter().any(|extension| {
        matches!(
            extension.parsed_extension(),
            ParsedExtension::AuthorityKeyIdentifier(_)
        )
    });
    if !key_id {
        note("W044", "no authority key identifier".to_owned());
    }
}
