//! Certificate signing requests. Only the public key of one is ever used; what else it asks for
//! must not contradict what it will get.
//!
//! In: bytes from a plugin's host, and the identity the operator named. Out: the public key, or a
//! sentence about what doesn't fit.

use std::path::{Path, PathBuf};

use gapura_protocol::identity::PeerId;
use gapura_trust::provider::mesh_provider;
use rcgen::{KeyPair, PublicKeyData};
use rustls::pki_types::pem::SectionKind;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::error::Error;
use crate::held_dir;
use crate::keys::{self, sha256_hex};
use crate::leaf_key;
use crate::mesh_dir;
use crate::pem;
use crate::profile;
use crate::store::{Access, Durability};
use crate::timestamp::Timestamp;

/// What is wrong with a request.
#[derive(Debug)]
pub(crate) enum Unfit {
    /// It asks for another name than the one it is made for.
    OtherName(String),
    /// Anything else.
    Form(String),
}

/// The public key (as SPKI) of a request for `wanted`.
pub(crate) fn public_key(bytes: &[u8], wanted: &PeerId, dns: &[String]) -> Result<Vec<u8>, Error> {
    judge(bytes, wanted, dns).map_err(|unfit| match unfit {
        Unfit::OtherName(why) | Unfit::Form(why) => {
            Error::Refused(format!("the request is refused: {why}"))
        }
    })
}

/// The same, with the sort of what is wrong.
pub(crate) fn judge(bytes: &[u8], wanted: &PeerId, dns: &[String]) -> Result<Vec<u8>, Unfit> {
    let refused = Unfit::Form;
    let der = to_der(bytes).map_err(refused)?;
    let (rest, request) = X509CertificationRequest::from_der(&der).map_err(|_| {
        refused(
            "it is not a PKCS#10 request; make one with `gapura-pki csr NAME --out DIR`".to_owned(),
        )
    })?;
    if !rest.is_empty() {
        return Err(refused("bytes follow it".to_owned()));
    }
    let info = &request.certification_request_info;
    leaf_key::check(&info.subject_pki).map_err(refused)?;
    check_signature(&der, &request).map_err(refused)?;
    let mut names: Vec<String> = vec![wanted.to_string(), wanted.name().to_string()];
    names.extend(profile::default_dns(wanted));
    names.extend(dns.iter().cloned());
    let other = |what: &str, found: &str| {
        let found = shown(found);
        Unfit::OtherName(format!(
            "it asks for the {what} `{found}`, but the certificate will speak for {wanted}; make the request for that name"
        ))
    };
    for common_name in info.subject.iter_common_name() {
        let text = common_name.as_str().unwrap_or("?");
        if !names.iter().any(|name| name == text) {
            return Err(other("name", text));
        }
    }
    for extension in request.requested_extensions().into_iter().flatten() {
        match extension {
            ParsedExtension::BasicConstraints(constraints) if constraints.ca => {
                return Err(refused(
                    "it asks to be a CA (CA:TRUE); leaves are all that is issued to a request"
                        .to_owned(),
                ));
            }
            ParsedExtension::KeyUsage(usage) if usage.key_cert_sign() || usage.crl_sign() => {
                return Err(refused(
                    "it asks for the right to sign certificates or CRLs".to_owned(),
                ));
            }
            ParsedExtension::SubjectAlternativeName(san) => {
                for name in &san.general_names {
                    match name {
                        GeneralName::URI(uri) if *uri == wanted.to_string() => {}
                        GeneralName::URI(uri) => return Err(other("identity", uri)),
                        GeneralName::DNSName(name) if names.iter().any(|known| known == name) => {}
                        GeneralName::DNSName(name) => return Err(other("DNS name", name)),
                        _ => {
                            return Err(refused(
                                "it asks for a name that is neither a URI nor a DNS name"
                                    .to_owned(),
                            ));
                        }
                    }
                }
            }
            _ => {}
        }
    }
    Ok(info.subject_pki.raw.to_vec())
}

/// A name from a stranger's request, fit for a line of a log.
fn shown(name: &str) -> String {
    let plain = name.chars().filter(|c| !c.is_control());
    plain.take(200).collect()
}

/// Whether the request `der` was signed by the key it asks for.
pub(crate) fn is_self_signed(der: &[u8]) -> bool {
    X509CertificationRequest::from_der(der)
        .is_ok_and(|(_, request)| check_signature(der, &request).is_ok())
}

/// Whether the request was signed by the key it asks for: by the algorithms of the handshake, which
/// know more than the parser's own.
fn check_signature(der: &[u8], request: &X509CertificationRequest<'_>) -> Result<(), String> {
    let element =
        |der| x509_parser::asn1_rs::Any::from_der(der).map(|(rest, any)| (any.data, rest));
    let cut = |_| "it is not a PKCS#10 request".to_owned();
    let info = request.certification_request_info.raw;
    let (whole, _) = element(der).map_err(cut)?;
    let after_info = whole.get(info.len()..).unwrap_or_default();
    let (signed_by, _) = element(after_info).map_err(cut)?;
    let key = &request.certification_request_info.subject_pki;
    let (of_key, _) = element(key.raw).map_err(cut)?;
    let (of_key, _) = element(of_key).map_err(cut)?;
    let algorithms = mesh_provider().signature_verification_algorithms;
    let mut fitting = algorithms
        .all
        .iter()
        .filter(|algorithm| {
            algorithm.signature_alg_id().as_ref() == signed_by
                && algorithm.public_key_alg_id().as_ref() == of_key
        })
        .peekable();
    if fitting.peek().is_none() {
        return Err(format!(
            "it is signed by an algorithm that is not taken here ({}); sign it with SHA-256, SHA-384 or SHA-512",
            request.signature_algorithm.algorithm.to_id_string()
        ));
    }
    let (key, signature) = (&key.subject_public_key.data, &request.signature_value.data);
    if fitting.any(|algorithm| algorithm.verify_signature(key, info, signature).is_ok()) {
        Ok(())
    } else {
        Err("its signature is not by its own key".to_owned())
    }
}

/// A request that was made, and where it is.
#[derive(Clone, Debug)]
pub struct Made {
    /// The request, to be sent to the CA.
    pub request: PathBuf,
    /// The key, which stays.
    pub key: PathBuf,
    /// SHA-256 of the public key.
    pub public_key: String,
}

/// Makes `key.pem` and `request.csr` in `out`.
///
/// # Errors
/// A key is there already (or, with `reuse_key`, none), or something can't be written.
pub fn create(id: &PeerId, out: &Path, reuse_key: bool) -> Result<Made, Error> {
    let (key_path, request_path) = (out.join("key.pem"), out.join("request.csr"));
    let dir = held_dir::create(out)?;
    let key = match (mesh_dir::key_that(out, |_| true)?, reuse_key) {
        (None, false) => {
            let key = keys::generate()?;
            let pem = keys::to_plain_pem(&key);
            dir.write_new("key.pem", pem.as_bytes(), Access::Owner, Durability::Now)?;
            key
        }
        (Some(_), false) => {
            let way = "make the request for it with --reuse-key, or give another --out";
            return Err(Error::Refused(format!(
                "{} is there already; {way}",
                key_path.display()
            )));
        }
        (Some(pem), true) => {
            let text =
                std::str::from_utf8(&pem).map_err(|_| Error::damaged(&key_path, "not PEM"))?;
            keys::from_plain_pem(text).map_err(|why| Error::damaged(&key_path, why.to_string()))?
        }
        (None, true) => {
            return Err(Error::Refused(format!(
                "there is no {}; leave out --reuse-key",
                key_path.display()
            )));
        }
    };
    dir.replace("request.csr", make(id, &key)?.as_bytes(), Access::Everyone)?;
    dir.sync()?;
    Ok(Made {
        request: request_path,
        key: key_path,
        public_key: sha256_hex(&key.subject_public_key_info()),
    })
}

/// Makes a request for `id`, signed by `key`, as PEM.
pub(crate) fn make(id: &PeerId, key: &KeyPair) -> Result<String, Error> {
    let mut params = profile::leaf(id, &[], (Timestamp(0), Timestamp(0)))?;
    // A request can't carry these.
    params.serial_number = None;
    params.use_authority_key_identifier_extension = false;
    params
        .serialize_request(key)
        .and_then(|request| request.pem())
        .map_err(Error::minting)
}

/// The one identity of our sort that a certificate speaks for.
pub(crate) fn identity_of(certificate: &[u8]) -> Option<PeerId> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let san = parsed.subject_alternative_name().ok()??;
    let mut uris = san
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
    let only = uris.next()?;
    if uris.next().is_some() {
        None
    } else {
        only.parse().ok()
    }
}

fn to_der(bytes: &[u8]) -> Result<Vec<u8>, String> {
    if bytes.first() == Some(&0x30) {
        return Ok(bytes.to_vec());
    }
    let mut found: Vec<_> = pem::blocks(bytes)?
        .into_iter()
        .filter(|block| block.kind == SectionKind::Csr)
        .collect();
    match (found.pop(), found.len()) {
        (Some(block), 0) => Ok(block.der),
        (Some(_), _) => Err("more than one request in the file".to_owned()),
        (None, _) => Err("no CERTIFICATE REQUEST block found".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn billing() -> PeerId {
        "spiffe://mylab.internal/plugin/billing".parse().unwrap()
    }

    #[test]
    fn our_own_request_is_taken_for_its_name_and_for_no_other() {
        let key = keys::generate().unwrap();
        let request = make(&billing(), &key).unwrap();
        assert_eq!(
            public_key(request.as_bytes(), &billing(), &[]).unwrap(),
            key.subject_public_key_info()
        );
        let other = "spiffe://mylab.internal/plugin/orders".parse().unwrap();
        let why = public_key(request.as_bytes(), &other, &[])
            .unwrap_err()
            .to_string();
        assert!(
            why.contains("spiffe://mylab.internal/plugin/billing") && why.contains("plugin/orders"),
            "{why}"
        );
    }

    #[test]
    fn a_request_to_be_a_ca_is_refused() {
        let key = keys::generate().unwrap();
        for (params, wanted) in [(ca_params(), "CA:TRUE"), (usage_params(), "right to sign")] {
            let request = params.serialize_request(&key).unwrap().pem().unwrap();
            let why = public_key(request.as_bytes(), &billing(), &[])
                .unwrap_err()
                .to_string();
            assert!(why.contains(wanted), "{why}");
        }
    }

    fn bare() -> rcgen::CertificateParams {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
    }

    fn ca_params() -> rcgen::CertificateParams {
        let mut params = bare();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params
    }

    fn usage_params() -> rcgen::CertificateParams {
        let mut params = bare();
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        params
    }

    #[test]
    fn a_request_of_every_curve_of_the_handshake_is_taken_and_a_forged_one_is_not() {
        for algorithm in [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ECDSA_P521_SHA256,
            &rcgen::PKCS_ECDSA_P521_SHA512,
            &rcgen::PKCS_ED25519,
        ] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let request = make(&billing(), &key).unwrap();
            let mut der = to_der(request.as_bytes()).unwrap();
            assert_eq!(
                public_key(&der, &billing(), &[]).unwrap(),
                key.subject_public_key_info(),
                "{algorithm:?}"
            );
            // The same request under the signature of something else.
            let last = der.len() - 1;
            der[last] ^= 1;
            let why = public_key(&der, &billing(), &[]).unwrap_err().to_string();
            assert!(why.contains("not by its own key"), "{algorithm:?}: {why}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(public_key(&bytes, &billing(), &[]).is_err());
        }
    }
}
