//! Private keys: made, read, and kept under a passphrase as PKCS#8 with PBES2 (PBKDF2-HMAC-SHA256,
//! AES-256-CBC), which OpenSSL reads.
//!
//! The derivation runs in aws-lc and not in the `pkcs8` crate, which would need seconds of it in a
//! debug build; that crate writes and reads the ASN.1 around it, and opens what other tools
//! encrypted with scrypt.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{
    AES_256, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey,
    PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::{digest, pbkdf2};
use gapura_files::pem::{self, Kind};
use gapura_protocol::text;
use pkcs8::der::pem::PemLabel;
use pkcs8::pkcs5::{EncryptionScheme, pbes2};
use pkcs8::{EncryptedPrivateKeyInfo, LineEnding, SecretDocument};
use rcgen::{KeyPair, PublicKeyData};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::{Zeroize, Zeroizing};

use crate::error::Error;

/// What OWASP asks of PBKDF2-HMAC-SHA256, and what OpenSSL 3 opens in a fraction of a second.
const ROUNDS: u32 = if cfg!(test) { 1_000 } else { 600_000 };
/// More rounds than this is not a key file but an attempt to keep us busy.
const MOST_ROUNDS: u32 = 50_000_000;

/// A fresh P-256 key.
pub(crate) fn generate() -> Result<KeyPair, Error> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(Error::minting)
}

/// A leaf's or an unprotected CA's key as PEM.
pub(crate) fn to_plain_pem(key: &KeyPair) -> Zeroizing<String> {
    Zeroizing::new(key.serialize_pem())
}

/// A CA's key as PEM that only the passphrase opens.
pub(crate) fn to_encrypted_pem(
    key: &KeyPair,
    passphrase: &str,
) -> Result<Zeroizing<String>, Error> {
    let (salt, iv) = (random::<16>()?, random::<16>()?);
    let failed = || Error::Failed("the key could not be encrypted".to_owned());
    let mut sealed = key.serialized_der().to_vec();
    PaddedBlockEncryptingKey::cbc_pkcs7(cipher_key(passphrase, &salt, ROUNDS)?)
        .and_then(|cipher| {
            cipher.less_safe_encrypt(&mut sealed, EncryptionContext::Iv128((&iv).into()))
        })
        .map_err(|_| failed())?;
    let scheme =
        pbes2::Parameters::pbkdf2_sha256_aes256cbc(ROUNDS, &salt, &iv).map_err(|_| failed())?;
    let document = SecretDocument::try_from(EncryptedPrivateKeyInfo {
        encryption_algorithm: scheme.into(),
        encrypted_data: &sealed,
    });
    let pem = document
        .map_err(|_| failed())?
        .to_pem(EncryptedPrivateKeyInfo::PEM_LABEL, LineEnding::LF);
    pem.map_err(|_| failed())
}

/// Whether a PEM file holds an encrypted key.
pub(crate) fn is_encrypted(pem: &str) -> bool {
    pem.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----")
}

/// Whether a PEM file holds a key in the clear.
pub(crate) fn is_plain(pem: &str) -> bool {
    pem.contains("PRIVATE KEY-----") && !is_encrypted(pem)
}

/// Whether a CA's key file is whole, as far as that can be seen without its passphrase: it can be
/// read, and a key in the clear is the one of `certificate`.
pub(crate) fn examine(pem: &[u8], certificate: Option<&[u8]>) -> Result<(), String> {
    if pem.is_empty() {
        return Err("it is empty".to_owned());
    }
    let text = std::str::from_utf8(pem).map_err(|_| "it is not a PEM file".to_owned())?;
    if is_encrypted(text) {
        let cut = "it is not a whole ENCRYPTED PRIVATE KEY block";
        let sealed = the_one(text, &[Kind::EncryptedKey]).ok_or_else(|| cut.to_owned())?;
        return EncryptedPrivateKeyInfo::try_from(sealed.as_slice())
            .map(|_| ())
            .map_err(|_| cut.to_owned());
    }
    let key = from_plain_pem(text).map_err(|why| why.to_string())?;
    let fits = certificate
        .and_then(|der| X509Certificate::from_der(der).ok())
        .is_none_or(|(_, found)| {
            found.public_key().raw == key.subject_public_key_info().as_slice()
        });
    if fits {
        Ok(())
    } else {
        Err("it is not the key of cert.pem".to_owned())
    }
}

/// Reads a private key that is not encrypted.
pub(crate) fn from_plain_pem(pem: &str) -> Result<KeyPair, Error> {
    let plain = [Kind::PrivateKey, Kind::EcPrivateKey, Kind::RsaPrivateKey];
    the_one(pem, &plain)
        .and_then(|der| KeyPair::try_from(der.as_slice()).ok())
        .ok_or_else(|| Error::Failed("not one private key in PEM that is whole".to_owned()))
}

/// The content of the only block of these kinds, if the whole text can be read.
fn the_one(pem: &str, kinds: &[Kind]) -> Option<Zeroizing<Vec<u8>>> {
    let blocks = pem::blocks(pem.as_bytes()).ok()?.into_iter();
    let mut found = blocks.filter(|block| kinds.contains(&block.kind));
    let first = found.next()?;
    found.next().is_none().then_some(first.der)
}

/// Opens an encrypted key: [`Error::Failed`] for a file that is not whole, [`Error::Passphrase`]
/// for one that does not open.
pub(crate) fn from_encrypted_pem(pem: &str, passphrase: &str) -> Result<KeyPair, Error> {
    let cut = || {
        Error::Failed(
            "not a whole ENCRYPTED PRIVATE KEY block: the file is cut or was changed".to_owned(),
        )
    };
    let refused = || Error::Passphrase("the passphrase does not open the CA key".to_owned());
    let sealed = the_one(pem, &[Kind::EncryptedKey]).ok_or_else(cut)?;
    let info = EncryptedPrivateKeyInfo::try_from(sealed.as_slice()).map_err(|_| cut())?;
    let mut der = match ours(&info.encryption_algorithm) {
        Some((salt, rounds, iv)) => {
            let mut opened = Zeroizing::new(info.encrypted_data.to_vec());
            let cipher = PaddedBlockDecryptingKey::cbc_pkcs7(cipher_key(passphrase, salt, rounds)?)
                .map_err(|_| refused())?;
            let plain = cipher
                .decrypt(&mut opened, DecryptionContext::Iv128(iv.into()))
                .map_err(|_| refused())?;
            plain.to_vec()
        }
        None => info
            .decrypt(passphrase)
            .map_err(|_| refused())?
            .as_bytes()
            .to_vec(),
    };
    let key = KeyPair::try_from(der.as_slice()).map_err(|_| refused());
    der.zeroize();
    key
}

/// The parameters of an encryption as we write it; `None` for any other that the `pkcs8` crate may
/// know.
fn ours<'a>(scheme: &EncryptionScheme<'a>) -> Option<(&'a [u8], u32, &'a [u8; 16])> {
    let pbes2 = scheme.pbes2()?;
    let derivation = pbes2.kdf.pbkdf2()?;
    let pbes2::EncryptionScheme::Aes256Cbc { iv } = pbes2.encryption else {
        return None;
    };
    let fits = derivation.prf == pbes2::Pbkdf2Prf::HmacWithSha256
        && (1..=MOST_ROUNDS).contains(&derivation.iteration_count);
    fits.then_some((derivation.salt, derivation.iteration_count, iv))
}

fn cipher_key(passphrase: &str, salt: &[u8], rounds: u32) -> Result<UnboundCipherKey, Error> {
    let rounds = NonZeroU32::new(rounds).unwrap_or(NonZeroU32::MIN);
    let mut derived = Zeroizing::new([0_u8; 32]);
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        rounds,
        salt,
        passphrase.as_bytes(),
        derived.as_mut_slice(),
    );
    UnboundCipherKey::new(&AES_256, derived.as_slice())
        .map_err(|_| Error::Failed("the key could not be derived".to_owned()))
}

/// `N` random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::Failed("the system gives no random numbers".to_owned()))?;
    Ok(bytes)
}

/// `N` random bytes in hexadecimal.
pub(crate) fn random_hex<const N: usize>() -> Result<String, Error> {
    Ok(text::hex(&random::<N>()?))
}

/// Hexadecimal of a serial number, with or without colons, back to bytes.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    text::unhex(&text.replace(':', "")).filter(|bytes| !bytes.is_empty())
}

/// SHA-256 in hexadecimal.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    text::hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_passphrase_opens_an_encrypted_key() {
        let key = generate().unwrap();
        let pem = to_encrypted_pem(&key, "correct horse").unwrap();
        assert!(is_encrypted(&pem) && !is_encrypted(&to_plain_pem(&key)));
        assert_eq!(
            from_encrypted_pem(&pem, "correct horse")
                .unwrap()
                .serialized_der(),
            key.serialized_der()
        );
        assert!(matches!(
            from_encrypted_pem(&pem, "wrong horse"),
            Err(Error::Passphrase(_))
        ));
        let cut = &pem[..pem.len() / 2];
        assert!(matches!(
            from_encrypted_pem(cut, "correct horse"),
            Err(Error::Failed(_))
        ));
    }

    #[test]
    fn hexadecimal_reads_back_with_and_without_colons() {
        assert_eq!(unhex("0a:FF"), Some(vec![10, 255]));
        assert_eq!(unhex(&text::hex(&[1, 2, 3])), Some(vec![1, 2, 3]));
        for bad in ["", "0", "0g", "é0", "+1"] {
            assert_eq!(unhex(bad), None, "{bad}");
        }
    }
}
