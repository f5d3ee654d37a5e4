//! What stands in a file: certificates, requests, CRLs and keys, as facts for `--json` and as lines
//! for people.
//!
//! Of a private key only what its public half tells is ever shown.

use gapura_protocol::identity::PeerId;
use gapura_protocol::text::hex;
use rcgen::PublicKeyData;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::SectionKind;
use serde_json::{Value, json};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate, X509Extension};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::error::Error;
use crate::keys::{self, sha256_hex};
use crate::pem;
use crate::timestamp::{Timestamp, for_people};

/// One thing found in a file.
#[derive(Clone, Debug)]
pub struct Item {
    /// `certificate`, `crl`, `request`, `private_key`, `encrypted_private_key` or `unknown`.
    pub kind: &'static str,
    /// All that was read, with stable keys.
    pub facts: Value,
    /// The same as pairs of label and text.
    pub lines: Vec<(&'static str, String)>,
}

/// How many serials of a CRL are listed for people.
const SHOWN_SERIALS: usize = 20;

/// Everything in `bytes`, PEM or DER.
///
/// # Errors
/// Nothing in it can be read.
pub fn inspect(bytes: &[u8], now: Timestamp) -> Result<Vec<Item>, Error> {
    if bytes.first() == Some(&0x30) {
        let tries = [certificate(bytes, now), crl(bytes, now), request(bytes)];
        let found = tries.into_iter().flatten().next();
        return found.map(|item| vec![item]).ok_or_else(|| {
            Error::Failed("DER, but neither a certificate, a CRL nor a request".to_owned())
        });
    }
    let blocks = pem::blocks(bytes).map_err(Error::Failed)?;
    let mut items: Vec<Item> = Vec::new();
    for block in &blocks {
        let item = match block.kind {
            SectionKind::Certificate => certificate(&block.der, now),
            SectionKind::Crl => crl(&block.der, now),
            SectionKind::Csr => request(&block.der),
            SectionKind::PrivateKey | SectionKind::EcPrivateKey | SectionKind::RsaPrivateKey => {
                private_key(&block.der)
            }
            _ => None,
        };
        items.push(
            item.unwrap_or_else(|| {
                unknown(&format!("a {:?} block that can't be read", block.kind))
            }),
        );
    }
    if keys::is_encrypted(&String::from_utf8_lossy(bytes)) {
        let lines = vec![(
            "key",
            "encrypted (PKCS#8); it is not opened to be shown".to_owned(),
        )];
        items.push(Item {
            kind: "encrypted_private_key",
            facts: json!({ "kind": "encrypted_private_key" }),
            lines,
        });
    }
    if items.is_empty() {
        Err(Error::Failed("no PEM block found".to_owned()))
    } else {
        Ok(items)
    }
}

/// Certificates that a server showed.
#[must_use]
pub fn inspect_chain(chain: &[CertificateDer<'_>], now: Timestamp) -> Vec<Item> {
    chain
        .iter()
        .map(|der| {
            certificate(der, now).unwrap_or_else(|| unknown("a certificate that can't be read"))
        })
        .collect()
}

fn unknown(what: &str) -> Item {
    Item {
        kind: "unknown",
        facts: json!({ "kind": "unknown", "found": what }),
        lines: vec![("unknown", what.to_owned())],
    }
}

fn certificate(der: &[u8], now: Timestamp) -> Option<Item> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    let (from, to) = (
        moment(parsed.validity().not_before.timestamp()),
        moment(parsed.validity().not_after.timestamp()),
    );
    let names = names(parsed.extensions());
    let (usage, purposes) = usages(parsed.extensions());
    let constraints = parsed
        .basic_constraints()
        .ok()
        .flatten()
        .map(|found| (found.value.ca, found.value.path_len_constraint));
    let (subject, issuer, serial) = (
        parsed.subject().to_string(),
        parsed.issuer().to_string(),
        serial(parsed.raw_serial()),
    );
    let state = if now < from {
        format!("not valid for another {}", for_people(from.since(now)))
    } else if now > to {
        format!("ended {} ago", for_people(now.since(to)))
    } else {
        format!("{} left", for_people(to.since(now)))
    };
    let id = names
        .iter()
        .find_map(|name| name.strip_prefix("URI:")?.parse::<PeerId>().ok());
    let facts = json!({
        "kind": "certificate", "subject": subject, "issuer": issuer, "serial": serial, "id": id.map(|id| id.to_string()), "names": names,
        "not_before": from, "not_after": to, "expired": now > to, "ca": constraints.is_some_and(|(ca, _)| ca),
        "path_length": constraints.and_then(|(_, length)| length), "key_usage": usage, "extended_key_usage": purposes,
        "public_key": public_key(parsed.public_key()), "public_key_sha256": sha256_hex(parsed.public_key().raw), "sha256": sha256_hex(der),
    });
    let ca = match constraints {
        Some((true, Some(length))) => format!("yes, path length {length}"),
        Some((true, None)) => "yes, any path length".to_owned(),
        Some((false, _)) => "no".to_owned(),
        None => "no (not said)".to_owned(),
    };
    let lines = vec![
        (
            "certificate",
            if subject.is_empty() {
                names.first().cloned().unwrap_or_default()
            } else {
                subject
            },
        ),
        ("issuer", issuer),
        ("serial", serial),
        ("names", names.join(", ")),
        ("valid", format!("{from} to {to} ({state})")),
        ("CA", ca),
        ("usage", [usage, purposes].concat().join(", ")),
        ("key", public_key(parsed.public_key())),
        ("sha256", sha256_hex(der)),
    ];
    Some(Item {
        kind: "certificate",
        facts,
        lines,
    })
}

fn crl(der: &[u8], now: Timestamp) -> Option<Item> {
    let (_, parsed) = CertificateRevocationList::from_der(der).ok()?;
    let (made, next) = (
        moment(parsed.last_update().timestamp()),
        parsed.next_update().map(|next| moment(next.timestamp())),
    );
    let number = parsed.crl_number().map(ToString::to_string);
    let revoked: Vec<Value> = parsed
        .iter_revoked_certificates()
        .map(|entry| {
            let reason = entry.reason_code().map(|(_, code)| code.to_string());
            json!({ "serial": serial(entry.raw_serial()), "revoked_at": moment(entry.revocation_date.timestamp()), "reason": reason })
        })
        .collect();
    let state = match next {
        Some(next) if now > next => format!("out of date for {}", for_people(now.since(next))),
        Some(next) => format!("{} left", for_people(next.since(now))),
        None => "no nextUpdate".to_owned(),
    };
    let mut lines = vec![
        ("CRL", parsed.issuer().to_string()),
        (
            "number",
            number.clone().unwrap_or_else(|| "none".to_owned()),
        ),
        (
            "valid",
            format!(
                "{made} to {} ({state})",
                next.map_or_else(|| "?".to_owned(), |next| next.to_string())
            ),
        ),
        ("entries", revoked.len().to_string()),
    ];
    for entry in revoked.iter().take(SHOWN_SERIALS) {
        lines.push((
            "revoked",
            format!(
                "{} at {}",
                entry["serial"].as_str().unwrap_or("?"),
                entry["revoked_at"].as_str().unwrap_or("?")
            ),
        ));
    }
    if revoked.len() > SHOWN_SERIALS {
        lines.push((
            "revoked",
            format!(
                "and {} more; --json lists all",
                revoked.len() - SHOWN_SERIALS
            ),
        ));
    }
    let facts = json!({
        "kind": "crl", "issuer": parsed.issuer().to_string(), "number": number, "this_update": made, "next_update": next,
        "entries": revoked.len(), "revoked": revoked,
    });
    Some(Item {
        kind: "crl",
        facts,
        lines,
    })
}

fn request(der: &[u8]) -> Option<Item> {
    let (_, parsed) = X509CertificationRequest::from_der(der).ok()?;
    let info = &parsed.certification_request_info;
    let mut asked = Vec::new();
    for extension in parsed.requested_extensions().into_iter().flatten() {
        match extension {
            ParsedExtension::SubjectAlternativeName(san) => {
                asked.extend(san.general_names.iter().map(general_name))
            }
            ParsedExtension::BasicConstraints(constraints) if constraints.ca => {
                asked.push("CA:TRUE".to_owned())
            }
            _ => {}
        }
    }
    let signed = crate::csr::is_self_signed(der);
    let facts = json!({
        "kind": "request", "subject": info.subject.to_string(), "asks_for": asked, "signature_ok": signed,
        "public_key": public_key(&info.subject_pki), "public_key_sha256": sha256_hex(info.subject_pki.raw),
    });
    let lines = vec![
        ("request", info.subject.to_string()),
        ("asks for", asked.join(", ")),
        (
            "signature",
            if signed { "by its own key" } else { "WRONG" }.to_owned(),
        ),
        ("key", public_key(&info.subject_pki)),
    ];
    Some(Item {
        kind: "request",
        facts,
        lines,
    })
}

fn private_key(der: &[u8]) -> Option<Item> {
    let key = rcgen::KeyPair::try_from(der).ok()?;
    let spki = key.subject_public_key_info();
    let (_, parsed) = SubjectPublicKeyInfo::from_der(&spki).ok()?;
    let (what, print) = (public_key(&parsed), sha256_hex(&spki));
    let facts = json!({ "kind": "private_key", "public_key": what, "public_key_sha256": print });
    Some(Item {
        kind: "private_key",
        facts,
        lines: vec![
            ("private key", what),
            ("of public key", format!("sha256 {print}")),
        ],
    })
}

/// The subject alternative names, each with its sort in front.
pub(crate) fn names(extensions: &[X509Extension<'_>]) -> Vec<String> {
    let found = extensions
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(san) => {
                Some(san.general_names.iter().map(general_name).collect())
            }
            _ => None,
        });
    found.unwrap_or_default()
}

fn general_name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::URI(uri) => format!("URI:{}", printable(uri)),
        GeneralName::DNSName(dns) => format!("DNS:{}", printable(dns)),
        GeneralName::RFC822Name(mail) => format!("email:{}", printable(mail)),
        GeneralName::IPAddress(address) => format!("IP:{}", hex(address)),
        other => format!("other:{}", printable(&format!("{other:?}"))),
    }
}

/// A stranger's text must not move the cursor of whoever reads it.
fn printable(text: &str) -> String {
    text.chars()
        .take(300)
        .map(|char| if char.is_control() { '\u{fffd}' } else { char })
        .collect()
}

fn usages(extensions: &[X509Extension<'_>]) -> (Vec<&'static str>, Vec<&'static str>) {
    let (mut usage, mut purposes) = (Vec::new(), Vec::new());
    for extension in extensions {
        match extension.parsed_extension() {
            ParsedExtension::KeyUsage(found) => {
                let all = [
                    (found.digital_signature(), "digitalSignature"),
                    (found.non_repudiation(), "nonRepudiation"),
                    (found.key_encipherment(), "keyEncipherment"),
                    (found.data_encipherment(), "dataEncipherment"),
                    (found.key_agreement(), "keyAgreement"),
                    (found.key_cert_sign(), "keyCertSign"),
                    (found.crl_sign(), "cRLSign"),
                ];
                usage.extend(
                    all.into_iter()
                        .filter_map(|(set, name)| set.then_some(name)),
                );
            }
            ParsedExtension::ExtendedKeyUsage(found) => {
                let all = [
                    (found.client_auth, "clientAuth"),
                    (found.server_auth, "serverAuth"),
                    (found.any, "anyExtendedKeyUsage"),
                    (found.code_signing, "codeSigning"),
                    (found.email_protection, "emailProtection"),
                    (found.time_stamping, "timeStamping"),
                    (found.ocsp_signing, "OCSPSigning"),
                ];
                purposes.extend(
                    all.into_iter()
                        .filter_map(|(set, name)| set.then_some(name)),
                );
            }
            _ => {}
        }
    }
    (usage, purposes)
}

fn public_key(spki: &SubjectPublicKeyInfo<'_>) -> String {
    match spki.parsed() {
        Ok(PublicKey::EC(point)) => format!("EC, {} bits", point.key_size()),
        Ok(PublicKey::RSA(key)) => format!("RSA, {} bits", key.key_size()),
        _ if spki.algorithm.algorithm.to_id_string() == "1.3.101.112" => "Ed25519".to_owned(),
        _ => format!("algorithm {}", spki.algorithm.algorithm.to_id_string()),
    }
}

/// A serial in hexadecimal as the inventory has it: without the zero that only keeps it positive.
pub(crate) fn serial(raw: &[u8]) -> String {
    let trimmed = raw
        .iter()
        .position(|byte| *byte != 0)
        .map_or(&[0][..], |at| raw.get(at..).unwrap_or_default());
    hex(trimmed)
}

/// A certificate's date; what lies before 1970 is 1970.
pub(crate) fn moment(seconds: i64) -> Timestamp {
    Timestamp(u64::try_from(seconds).unwrap_or(0))
}
