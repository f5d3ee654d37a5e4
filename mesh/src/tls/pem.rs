//! Reads certificates, keys and CRLs from PEM.
//!
//! Lenient to what editors and tools do around the blocks: CRLF, blanks, a byte order mark, text between blocks, blocks of another
//! kind. Strict to what is in them: a block that is cut off or not base64 is an error that says which, never skipped, since a
//! skipped root or CRL would be a silent change of trust.

use std::fmt;

use rustls::pki_types::pem::{self, PemObject, SectionKind};
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs1KeyDer,
    PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};
use zeroize::Zeroizing;

/// Why a text is not the PEM that was wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PemError {
    /// There is no block of the wanted kind.
    Nothing {
        /// What was looked for.
        wanted: &'static str,
    },
    /// A block could not be read.
    Block {
        /// Which block of the wanted kind, from 1.
        number: usize,
        /// What is wrong with it.
        why: String,
    },
    /// The key is encrypted; a program that starts unattended cannot ask for its passphrase.
    EncryptedKey,
    /// More than one private key: which one is meant is a guess.
    SeveralKeys,
}

/// Every certificate, in order; at least one.
///
/// # Errors
/// If there is none, or a block is damaged.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let ders = blocks(
        text,
        SectionKind::Certificate,
        "-----BEGIN CERTIFICATE-----",
    )?;
    Ok(ders.into_iter().map(CertificateDer::from).collect())
}

/// Every CRL, in order; at least one.
///
/// # Errors
/// If there is none, or a block is damaged.
pub fn crls(text: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, PemError> {
    let ders = blocks(text, SectionKind::Crl, "-----BEGIN X509 CRL-----")?;
    Ok(ders
        .into_iter()
        .map(CertificateRevocationListDer::from)
        .collect())
}

/// The one private key: PKCS#8, SEC1 or PKCS#1, not encrypted.
///
/// # Errors
/// If there is none, more than one, an encrypted one, or a damaged block.
pub fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    let text = Zeroizing::new(tidy(text));
    // `Proc-Type` is how OpenSSL marks an encrypted key of the two older kinds; it stands where base64 is due.
    if contains(&text, b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
        || contains(&text, b"Proc-Type: 4,ENCRYPTED")
    {
        return Err(PemError::EncryptedKey);
    }
    let mut found = None;
    for (at, section) in <(SectionKind, Vec<u8>)>::pem_slice_iter(&text).enumerate() {
        let (kind, der) = section.map_err(|err| PemError::Block {
            number: at + 1,
            why: describe(&err),
        })?;
        let key: PrivateKeyDer<'static> = match kind {
            SectionKind::PrivateKey => PrivatePkcs8KeyDer::from(der).into(),
            SectionKind::EcPrivateKey => PrivateSec1KeyDer::from(der).into(),
            SectionKind::RsaPrivateKey => PrivatePkcs1KeyDer::from(der).into(),
            _ => continue,
        };
        if found.replace(key).is_some() {
            return Err(PemError::SeveralKeys);
        }
    }
    found.ok_or(PemError::Nothing {
        wanted: "-----BEGIN PRIVATE KEY-----",
    })
}

/// The content of every block of one kind.
fn blocks(text: &[u8], kind: SectionKind, wanted: &'static str) -> Result<Vec<Vec<u8>>, PemError> {
    let text = tidy(text);
    let mut ders = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(&text) {
        let (found, der) = section.map_err(|err| PemError::Block {
            number: ders.len() + 1,
            why: describe(&err),
        })?;
        if found == kind {
            ders.push(der);
        }
    }
    if ders.is_empty() {
        Err(PemError::Nothing { wanted })
    } else {
        Ok(ders)
    }
}

/// The text without what editors add: blanks at both ends of each line, a byte order mark, carriage returns.
fn tidy(text: &[u8]) -> Vec<u8> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut tidied = Vec::with_capacity(text.len() + 1);
    for line in text.split(|byte| matches!(byte, b'\n' | b'\r')) {
        tidied.extend_from_slice(line.trim_ascii());
        tidied.push(b'\n');
    }
    tidied
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}

/// rustls's own words hold whole lines of the file, which may be a key.
fn describe(err: &pem::Error) -> String {
    match err {
        pem::Error::MissingSectionEnd { .. } => "it has no end line: the file is cut off",
        pem::Error::IllegalSectionStart { .. } => "its begin line is damaged",
        pem::Error::Base64Decode(_) => "it is not base64",
        _ => "it cannot be read",
    }
    .to_owned()
}

impl fmt::Display for PemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing { wanted } => write!(f, "holds no `{wanted}` block"),
            Self::Block { number, why } => write!(f, "block {number} is damaged: {why}"),
            Self::EncryptedKey => {
                f.write_str("the key is encrypted; decrypt it with `openssl pkey -in OLD -out NEW`")
            }
            Self::SeveralKeys => f.write_str(
                "holds more than one private key; leave the one that belongs to the certificate",
            ),
        }
    }
}

impl std::error::Error for PemError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOCK: &str = "-----BEGIN CERTIFICATE-----\nMAMCAQU=\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMAMCAQU=\n-----END PRIVATE KEY-----\n";

    #[test]
    fn reads_what_editors_and_tools_leave_around_a_block() {
        let crlf = BLOCK.replace('\n', "\r\n");
        let indented = BLOCK
            .lines()
            .map(|line| format!("  {line}\t\n"))
            .collect::<String>();
        for text in [
            BLOCK.to_owned(),
            crlf,
            indented,
            format!("\u{feff}{BLOCK}"),
            format!("subject=CN = x\n\n{BLOCK}\n\n{KEY}"),
        ] {
            assert_eq!(
                certificates(text.as_bytes()).unwrap(),
                [CertificateDer::from(vec![0x30, 3, 2, 1, 5])],
                "{text:?}"
            );
        }
        assert_eq!(certificates(BLOCK.repeat(3).as_bytes()).unwrap().len(), 3);
    }

    #[test]
    fn a_damaged_block_is_an_error_and_not_skipped() {
        let cut = &BLOCK[..BLOCK.len() - 30];
        let dirty = BLOCK.replace("MAMC", "M!MC");
        for text in [cut, &dirty] {
            let both = format!("{BLOCK}{text}");
            assert!(
                matches!(
                    certificates(both.as_bytes()),
                    Err(PemError::Block { number: 2, .. })
                ),
                "{both:?}"
            );
        }
        assert!(matches!(certificates(b""), Err(PemError::Nothing { .. })));
        assert!(matches!(
            certificates(KEY.as_bytes()),
            Err(PemError::Nothing { .. })
        ));
        assert!(matches!(
            crls(BLOCK.as_bytes()),
            Err(PemError::Nothing { .. })
        ));
    }

    #[test]
    fn takes_one_plain_key_and_says_why_not_another() {
        assert!(private_key(KEY.as_bytes()).is_ok());
        assert!(
            private_key(
                format!(
                    "-----BEGIN EC PARAMETERS-----\nMAMCAQU=\n-----END EC PARAMETERS-----\n{KEY}"
                )
                .as_bytes()
            )
            .is_ok()
        );
        assert_eq!(
            private_key(KEY.repeat(2).as_bytes()).unwrap_err(),
            PemError::SeveralKeys
        );
        let encrypted = KEY.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        assert_eq!(
            private_key(encrypted.as_bytes()).unwrap_err(),
            PemError::EncryptedKey
        );
        let old = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nMAMCAQU=\n-----END EC PRIVATE KEY-----\n";
        assert_eq!(
            private_key(old.as_bytes()).unwrap_err(),
            PemError::EncryptedKey
        );
        assert!(matches!(
            private_key(BLOCK.as_bytes()),
            Err(PemError::Nothing { .. })
        ));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0_usize..100) {
            let mut text = KEY.as_bytes()[..cut.min(KEY.len())].to_vec();
            text.extend(&bytes);
            let _ = private_key(&text);
            let _ = certificates(&text);
            let _ = crls(&text);
        }
    }
}
