//! Reads and writes PEM: the one reader of the programs and of the CA tool.
//!
//! Lenient to what editors and tools do around the blocks: CRLF, blanks, a byte order mark, text
//! between blocks, blocks of another kind, an end and a begin on one line where two files were
//! joined. Strict to what is in them: a block that is cut off, has no begin, or is not base64, is
//! an error that names its line, never skipped, since a skipped root or CRL would be a silent
//! change of trust.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject;
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
        /// The line on which it begins, from 1.
        line: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The key is encrypted; a program that starts unattended cannot ask for its passphrase.
    EncryptedKey,
    /// More than one private key: which one is meant is a guess.
    SeveralKeys,
}

/// What a block is, by the label of its begin line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// `CERTIFICATE`, or `X509 CERTIFICATE` as it was called once.
    Certificate,
    /// `X509 CRL`.
    Crl,
    /// `CERTIFICATE REQUEST`, or `NEW CERTIFICATE REQUEST` as some tools write.
    Request,
    /// `PRIVATE KEY`, PKCS#8.
    PrivateKey,
    /// `EC PRIVATE KEY`, SEC1.
    EcPrivateKey,
    /// `RSA PRIVATE KEY`, PKCS#1.
    RsaPrivateKey,
    /// A private key of any of the three forms that a passphrase protects. Of the two older ones
    /// the content is not decoded.
    EncryptedKey,
    /// `PUBLIC KEY`.
    PublicKey,
    /// Anything else.
    Other,
}

impl Kind {
    /// Whether it is a private key, encrypted or not.
    #[must_use]
    pub fn is_private_key(self) -> bool {
        matches!(
            self,
            Self::PrivateKey | Self::EcPrivateKey | Self::RsaPrivateKey | Self::EncryptedKey
        )
    }
}

/// One block.
pub struct Block {
    /// What it is.
    pub kind: Kind,
    /// Its content; wiped when it is dropped, since it may be a key.
    pub der: Zeroizing<Vec<u8>>,
    /// The line on which it begins, from 1.
    pub line: usize,
}

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";
/// PKCS#8 with its encryption inside the ASN.1, so that the block itself is base64 like others.
const SEALED: &[u8] = b"ENCRYPTED PRIVATE KEY";

/// Every block of a text, in order.
///
/// # Errors
/// If one is damaged.
pub fn blocks(text: &[u8]) -> Result<Vec<Block>, PemError> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut found = Vec::new();
    let mut open: Option<Open<'_>> = None;
    for (at, line) in lines(text).enumerate() {
        let number = at + 1;
        let mut rest = line.trim_ascii();
        // An end, and then the next begin, may stand on one line.
        while !rest.is_empty() {
            rest = match &mut open {
                Some(block) => match find(rest, DASHES) {
                    None => {
                        block.take(rest);
                        &[]
                    }
                    Some(at) => {
                        let (before, marker) = rest.split_at(at);
                        block.take(before);
                        let after = block.end(marker)?;
                        found.extend(open.take().map(Open::close).transpose()?);
                        after.trim_ascii()
                    }
                },
                None if rest.starts_with(BEGIN) => {
                    let (label, after) = labelled(rest, BEGIN).ok_or(PemError::Block {
                        line: number,
                        why: "its begin line is damaged",
                    })?;
                    open = Some(Open::new(label, number));
                    after.trim_ascii()
                }
                None if rest.starts_with(END) => {
                    return Err(PemError::Block {
                        line: number,
                        why: "it has an end line and no begin line",
                    });
                }
                None => &[],
            };
        }
    }
    match open {
        Some(block) => Err(block.cut_off()),
        None => Ok(found),
    }
}

/// The lines of a text, whichever way they end. A line that ends with both is followed by no empty
/// one, so that numbers are right.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let by_newline = text.contains(&b'\n');
    text.split(move |byte| *byte == if by_newline { b'\n' } else { b'\r' })
}

/// A block whose end has not come yet.
struct Open<'a> {
    label: &'a [u8],
    line: usize,
    body: Zeroizing<Vec<u8>>,
    encrypted: bool,
}

impl<'a> Open<'a> {
    fn new(label: &'a [u8], line: usize) -> Self {
        Self {
            label,
            line,
            body: Zeroizing::default(),
            encrypted: label == SEALED,
        }
    }

    fn take(&mut self, line: &[u8]) {
        // `Proc-Type` is how OpenSSL marks an encrypted key of the two older kinds; it stands where
        // base64 is due.
        self.encrypted |= line.starts_with(b"Proc-Type:") && find(line, b"ENCRYPTED").is_some();
        self.body.extend_from_slice(line);
        self.body.push(b'\n');
    }

    /// What follows the end line, whose label must be this block's.
    fn end<'t>(&self, marker: &'t [u8]) -> Result<&'t [u8], PemError> {
        if marker.starts_with(BEGIN) {
            return Err(self.cut_off());
        }
        match labelled(marker, END) {
            Some((label, after)) if label == self.label => Ok(after),
            Some(_) => Err(self.damaged("its end line is another block's")),
            None => Err(self.damaged("its end line is damaged")),
        }
    }

    fn close(self) -> Result<Block, PemError> {
        let kind = match self.label {
            _ if self.encrypted => Kind::EncryptedKey,
            b"CERTIFICATE" | b"X509 CERTIFICATE" => Kind::Certificate,
            b"X509 CRL" => Kind::Crl,
            b"CERTIFICATE REQUEST" | b"NEW CERTIFICATE REQUEST" => Kind::Request,
            b"PRIVATE KEY" => Kind::PrivateKey,
            b"EC PRIVATE KEY" => Kind::EcPrivateKey,
            b"RSA PRIVATE KEY" => Kind::RsaPrivateKey,
            b"PUBLIC KEY" => Kind::PublicKey,
            b"TRUSTED CERTIFICATE" => {
                return Err(self.damaged(
                    "it is in OpenSSL's own form; write it anew with `openssl x509 -in OLD -out NEW`",
                ));
            }
            _ => Kind::Other,
        };
        let der = if self.encrypted && self.label != SEALED {
            Zeroizing::default()
        } else {
            self.decode()?
        };
        Ok(Block {
            kind,
            der,
            line: self.line,
        })
    }

    /// By the library's decoder, whose time does not depend on a key's bytes.
    fn decode(&self) -> Result<Zeroizing<Vec<u8>>, PemError> {
        let (begin, end) = (
            &b"-----BEGIN CERTIFICATE-----\n"[..],
            &b"-----END CERTIFICATE-----\n"[..],
        );
        let clean = Zeroizing::new([begin, &self.body, end].concat());
        let der =
            CertificateDer::from_pem_slice(&clean).map_err(|_| self.damaged("it is not base64"))?;
        if der.is_empty() {
            return Err(self.damaged("it is empty"));
        }
        Ok(Zeroizing::new(der.to_vec()))
    }

    fn cut_off(&self) -> PemError {
        self.damaged("it has no end line: the file is cut off")
    }

    fn damaged(&self, why: &'static str) -> PemError {
        PemError::Block {
            line: self.line,
            why,
        }
    }
}

/// The label of a begin or end line, and what follows the line's dashes.
fn labelled<'t>(line: &'t [u8], kind: &[u8]) -> Option<(&'t [u8], &'t [u8])> {
    let line = line.strip_prefix(kind)?;
    let at = find(line, DASHES)?;
    Some((&line[..at], &line[at + DASHES.len()..]))
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len())
        .position(|window| window == wanted)
}

/// Every certificate, in order; at least one.
///
/// # Errors
/// If there is none, or a block is damaged.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let ders = of_kind(text, Kind::Certificate, "-----BEGIN CERTIFICATE-----")?;
    Ok(ders.into_iter().map(CertificateDer::from).collect())
}

/// Every CRL, in order; at least one.
///
/// # Errors
/// If there is none, or a block is damaged.
pub fn crls(text: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, PemError> {
    let ders = of_kind(text, Kind::Crl, "-----BEGIN X509 CRL-----")?;
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
    let mut found = None;
    for block in blocks(text)? {
        let der = || block.der.to_vec();
        let key: PrivateKeyDer<'static> = match block.kind {
            Kind::PrivateKey => PrivatePkcs8KeyDer::from(der()).into(),
            Kind::EcPrivateKey => PrivateSec1KeyDer::from(der()).into(),
            Kind::RsaPrivateKey => PrivatePkcs1KeyDer::from(der()).into(),
            Kind::EncryptedKey => return Err(PemError::EncryptedKey),
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

/// Writes one block.
#[must_use]
pub fn encode(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// The content of every block of one kind.
fn of_kind(text: &[u8], kind: Kind, wanted: &'static str) -> Result<Vec<Vec<u8>>, PemError> {
    let blocks = blocks(text)?.into_iter();
    let ders: Vec<_> = blocks
        .filter(|block| block.kind == kind)
        .map(|mut block| std::mem::take(&mut *block.der))
        .collect();
    if ders.is_empty() {
        Err(PemError::Nothing { wanted })
    } else {
        Ok(ders)
    }
}

impl fmt::Display for PemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing { wanted } => write!(f, "holds no `{wanted}` block"),
            Self::Block { line, why } => write!(f, "the block at line {line} is damaged: {why}"),
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
    fn files_that_were_joined_without_a_newline_are_read_whole() {
        let joined = BLOCK.trim_end().repeat(3);
        assert!(joined.contains("-----END CERTIFICATE----------BEGIN CERTIFICATE-----"));
        assert_eq!(certificates(joined.as_bytes()).unwrap().len(), 3);
        let on_one_line = BLOCK.replace('\n', "");
        assert_eq!(certificates(on_one_line.as_bytes()).unwrap().len(), 1);
        let old_mac = BLOCK.repeat(2).replace('\n', "\r");
        assert_eq!(certificates(old_mac.as_bytes()).unwrap().len(), 2);
        let commented: String = BLOCK.lines().map(|line| format!("# {line}\n")).collect();
        let both = format!("{commented}{BLOCK}");
        assert_eq!(certificates(both.as_bytes()).unwrap().len(), 1);
    }

    #[test]
    fn a_block_is_known_by_each_of_its_labels() {
        for (label, kind) in [
            ("CERTIFICATE", Kind::Certificate),
            ("X509 CERTIFICATE", Kind::Certificate),
            ("X509 CRL", Kind::Crl),
            ("CERTIFICATE REQUEST", Kind::Request),
            ("NEW CERTIFICATE REQUEST", Kind::Request),
            ("ENCRYPTED PRIVATE KEY", Kind::EncryptedKey),
            ("DH PARAMETERS", Kind::Other),
        ] {
            let text = BLOCK.replace("CERTIFICATE", label);
            let found = blocks(format!("\n{text}").as_bytes()).unwrap();
            assert_eq!(
                (found.len(), found[0].kind, found[0].line),
                (1, kind, 2),
                "{label}"
            );
        }
    }

    #[test]
    fn a_damaged_block_is_an_error_and_not_skipped() {
        let cut = BLOCK[..BLOCK.len() - 30].to_owned();
        let dirty = BLOCK.replace("MAMC", "M!MC");
        let empty = BLOCK.replace("MAMCAQU=\n", "");
        let other_end = BLOCK.replace("END CERTIFICATE", "END X509 CRL");
        let no_begin = BLOCK.replace("-----BEGIN CERTIFICATE-----", "");
        let begun_twice = format!("-----BEGIN CERTIFICATE-----\nMAMC\n{BLOCK}");
        let dashes = BLOCK.replace("CERTIFICATE-----\nM", "CERTIFICATE--\nM");
        let trusted = BLOCK.replace("CERTIFICATE", "TRUSTED CERTIFICATE");
        for (text, at) in [
            (&cut, 4),
            (&dirty, 4),
            (&empty, 4),
            (&other_end, 4),
            (&no_begin, 6),
            (&begun_twice, 4),
            (&dashes, 4),
            (&trusted, 4),
        ] {
            let both = format!("{BLOCK}{text}");
            assert!(
                matches!(certificates(both.as_bytes()), Err(PemError::Block { line, .. }) if line == at),
                "{both:?}"
            );
            let crlf = both.replace('\n', "\r\n");
            assert_eq!(certificates(crlf.as_bytes()), certificates(both.as_bytes()));
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
            let _ = blocks(&text);
            let _ = crls(&text);
        }
    }
}
