//! PEM blocks: lenient about blank lines and text around them, strict about what is inside.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{PemObject, SectionKind};

/// One block as DER.
pub(crate) struct Block {
    /// What the block says it is.
    pub(crate) kind: SectionKind,
    /// Its content.
    pub(crate) der: Vec<u8>,
}

/// All blocks of a file.
///
/// # Errors
/// A sentence about a block that is cut or is not base64.
pub(crate) fn blocks(bytes: &[u8]) -> Result<Vec<Block>, String> {
    let mut found = Vec::new();
    for block in <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes) {
        let (kind, der) = block.map_err(|_| "a PEM block is cut or is not base64".to_owned())?;
        found.push(Block { kind, der });
    }
    // The parser gives up silently on a block whose end is missing.
    let begun = bytes
        .windows(11)
        .filter(|window| window == b"-----BEGIN ")
        .count();
    let ended = bytes
        .windows(9)
        .filter(|window| window == b"-----END ")
        .count();
    if begun != ended {
        return Err("a PEM block is cut: its END line is missing".to_owned());
    }
    Ok(found)
}

/// The certificates of a file, of which there must be at least one.
///
/// # Errors
/// A sentence about what was found instead.
pub(crate) fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Vec<_> = of_kind(bytes, SectionKind::Certificate)?
        .into_iter()
        .map(CertificateDer::from)
        .collect();
    if found.is_empty() {
        Err("no CERTIFICATE block found".to_owned())
    } else {
        Ok(found)
    }
}

/// The CRLs of a file.
///
/// # Errors
/// A sentence about a block that is cut.
pub(crate) fn crls(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    of_kind(bytes, SectionKind::Crl)
}

fn of_kind(bytes: &[u8], kind: SectionKind) -> Result<Vec<Vec<u8>>, String> {
    Ok(blocks(bytes)?
        .into_iter()
        .filter(|block| block.kind == kind)
        .map(|block| block.der)
        .collect())
}

/// Writes one block.
pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_back_what_it_wrote_among_other_text() {
        let text = format!(
            "subject: x\r\n{}\n\n{}",
            encode("X509 CRL", &[1; 100]),
            encode("CERTIFICATE", &[2; 3])
        );
        assert_eq!(
            certificates(text.as_bytes()).unwrap(),
            [CertificateDer::from(vec![2; 3])]
        );
        assert_eq!(crls(text.as_bytes()).unwrap(), [vec![1; 100]]);
    }

    #[test]
    fn a_cut_block_is_refused() {
        let text = encode("CERTIFICATE", &[7; 200]);
        assert!(certificates(&text.as_bytes()[..text.len() / 2]).is_err());
        assert!(certificates(b"").is_err());
    }

    proptest! {
        #[test]
        fn nothing_makes_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = blocks(&bytes);
        }
    }
}
