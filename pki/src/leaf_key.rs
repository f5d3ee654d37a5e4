//! Which keys of leaves a handshake takes. One rule for requests, for `verify`, and for what is
//! issued.
//!
//! In: a public key. Out: yes, or what it is and what is wanted. The answer is read off the
//! provider that gateway and sidecar shake hands with, so the two can't come to differ: a curve it
//! verifies no TLS signature of is not taken here either.

use gapura_trust::provider::mesh_provider;
use rustls::SignatureScheme;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Fewer bits than this are refused by every signature algorithm of the provider, more than
/// [`RSA_MOST`] too.
const RSA_LEAST: usize = 2048;
const RSA_MOST: usize = 8192;

/// What is taken, for the refusals.
const WANTED: &str = "P-256, P-384, P-521, Ed25519 or RSA of 2048 to 8192 bits";

/// Curves and algorithms that people bring and no handshake takes, by their object identifiers.
const KNOWN: [(&str, &str); 10] = [
    ("1.2.840.10045.3.1.1", "P-192"),
    ("1.3.132.0.33", "P-224"),
    ("1.3.132.0.10", "secp256k1"),
    ("1.3.36.3.3.2.8.1.1.7", "brainpoolP256r1"),
    ("1.3.101.113", "Ed448"),
    ("1.3.101.110", "X25519"),
    ("1.3.101.111", "X448"),
    ("1.2.840.10040.4.1", "DSA"),
    ("1.2.840.113549.1.1.10", "RSA for PSS alone"),
    ("2.16.840.1.101.3.4.3.18", "ML-DSA-65"),
];

/// Whether the key of the certificate `leaf` can be used in a handshake.
///
/// # Errors
/// A sentence about what it is and what is wanted.
pub(crate) fn check_certificate(leaf: &[u8]) -> Result<(), String> {
    let (_, parsed) =
        X509Certificate::from_der(leaf).map_err(|_| "it is not a certificate".to_owned())?;
    check(parsed.public_key())
}

/// Whether `key` can be used in a handshake.
///
/// # Errors
/// A sentence about what it is and what is wanted.
pub(crate) fn check(key: &SubjectPublicKeyInfo<'_>) -> Result<(), String> {
    let refused = |what: &str| Err(format!("its key is {what}; a handshake takes {WANTED}"));
    let algorithms = mesh_provider().signature_verification_algorithms;
    let wanted = content(key.raw)
        .and_then(element)
        .map(|(algorithm, _)| algorithm);
    let takes = |scheme: &SignatureScheme| !is_of_tls12(*scheme);
    let taken = algorithms
        .mapping
        .iter()
        .filter(|(scheme, _)| takes(scheme))
        .flat_map(|(_, algorithms)| algorithms.iter())
        .any(|algorithm| Some(algorithm.public_key_alg_id().as_ref()) == wanted);
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) if !(RSA_LEAST..=RSA_MOST).contains(&bits(rsa.modulus)) => {
            refused(&format!("RSA of {} bits", bits(rsa.modulus)))
        }
        _ if taken => Ok(()),
        _ => refused(&named(key)),
    }
}

/// RSA with PKCS#1 padding and SHA-1 do not sign a handshake of TLS 1.3.
fn is_of_tls12(scheme: SignatureScheme) -> bool {
    matches!(
        scheme,
        SignatureScheme::RSA_PKCS1_SHA1
            | SignatureScheme::RSA_PKCS1_SHA256
            | SignatureScheme::RSA_PKCS1_SHA384
            | SignatureScheme::RSA_PKCS1_SHA512
            | SignatureScheme::ECDSA_SHA1_Legacy
    )
}

fn named(key: &SubjectPublicKeyInfo<'_>) -> String {
    let algorithm = key.algorithm.algorithm.to_id_string();
    let curve = key
        .algorithm
        .parameters
        .as_ref()
        .and_then(|parameters| parameters.as_oid().ok())
        .map(|curve| curve.to_id_string());
    let id = curve.unwrap_or(algorithm);
    KNOWN.iter().find(|(known, _)| *known == id).map_or_else(
        || format!("of the sort {id}"),
        |(_, name)| (*name).to_owned(),
    )
}

/// The length of an unsigned number in bits.
fn bits(number: &[u8]) -> usize {
    let start = number.iter().position(|byte| *byte != 0);
    let rest = start.and_then(|at| number.get(at..)).unwrap_or_default();
    let Some(first) = rest.first() else { return 0 };
    rest.len() * 8 - first.leading_zeros() as usize
}

/// What is inside a DER element.
fn content(der: &[u8]) -> Option<&[u8]> {
    element(der).map(|(content, _)| content)
}

/// The content of the first element of `der`, and what follows it.
fn element(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (rest, any) = x509_parser::asn1_rs::Any::from_der(der).ok()?;
    Some((any.data, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{KeyPair, PublicKeyData};

    #[test]
    fn the_keys_that_a_handshake_takes_are_taken() {
        for algorithm in [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ECDSA_P521_SHA512,
            &rcgen::PKCS_ED25519,
        ] {
            let spki = KeyPair::generate_for(algorithm)
                .unwrap()
                .subject_public_key_info();
            let (_, key) = SubjectPublicKeyInfo::from_der(&spki).unwrap();
            assert_eq!(check(&key), Ok(()), "{algorithm:?}");
        }
    }

    #[test]
    fn a_length_in_bits_is_that_of_the_number() {
        assert_eq!(bits(&[0, 0x80, 0]), 16);
        assert_eq!(bits(&[1]), 1);
        assert_eq!(bits(&[]), 0);
    }
}
