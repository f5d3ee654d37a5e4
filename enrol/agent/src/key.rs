//! This host's key: made here, written to this host's disk alone, and asked a certificate for.

use std::fmt;

use gapura_protocol::identity::PeerId;
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData, SanType};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::trouble::Trouble;

/// A key and its text.
pub(crate) struct HostKey {
    pair: KeyPair,
    pem: Zeroizing<Vec<u8>>,
}

impl HostKey {
    /// A fresh P-256 key.
    pub(crate) fn generate() -> Result<Self, Trouble> {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
            .map_err(|error| Trouble::Disk(format!("no key can be made: {error}")))?;
        let pem = Zeroizing::new(pair.serialize_pem().into_bytes());
        Ok(Self { pair, pem })
    }

    /// Reads one that was written before.
    pub(crate) fn read(pem: &[u8]) -> Option<Self> {
        let pair = KeyPair::from_pem(std::str::from_utf8(pem).ok()?).ok()?;
        Some(Self {
            pair,
            pem: Zeroizing::new(pem.to_vec()),
        })
    }

    /// As PEM.
    pub(crate) fn pem(&self) -> &Zeroizing<Vec<u8>> {
        &self.pem
    }

    /// Whether a certificate is for this key.
    pub(crate) fn is_of(&self, certificate: &CertificateDer<'_>) -> bool {
        X509Certificate::from_der(certificate).is_ok_and(|(_, found)| {
            found.public_key().raw == self.pair.subject_public_key_info().as_slice()
        })
    }

    /// A request (PKCS#10, DER) for a certificate of `id`. Whatever else the certificate will say
    /// is the CA's to decide.
    pub(crate) fn request(&self, id: &PeerId) -> Result<Vec<u8>, Trouble> {
        let failed = |error: rcgen::Error| {
            Trouble::Disk(format!("the certificate request can't be made: {error}"))
        };
        let mut params = CertificateParams::default();
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, id.name().as_str());
        params.distinguished_name = name;
        let uri = Ia5String::try_from(id.to_string()).map_err(failed)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        let request = params.serialize_request(&self.pair).map_err(failed)?;
        Ok(request.der().to_vec())
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HostKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_nothing_of_it_is_shown() {
        let key = HostKey::generate().unwrap();
        let again = HostKey::read(key.pem()).unwrap();
        let id: PeerId = "spiffe://a.internal/plugin/lab".parse().unwrap();
        let certificate = CertificateParams::default().self_signed(&key.pair).unwrap();
        assert!(again.is_of(certificate.der()));
        assert!(!HostKey::generate().unwrap().is_of(certificate.der()));
        let request = again.request(&id).unwrap();
        let text = String::from_utf8_lossy(&request).into_owned();
        assert!(text.contains("spiffe://a.internal/plugin/lab"), "{text}");
        assert_eq!(format!("{key:?}"), "HostKey");
        assert!(HostKey::read(b"x").is_none());
    }
}
