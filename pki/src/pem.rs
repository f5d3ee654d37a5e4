//! PEM blocks as this program wants them. They are read and written as gateway and sidecar do it.

use gapura_files::pem::{self, Kind};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::SectionKind;

pub(crate) use gapura_files::pem::encode;

/// One block as DER.
pub(crate) struct Block {
    /// What the block says it is.
    pub(crate) kind: SectionKind,
    /// Its content.
    pub(crate) der: Vec<u8>,
}

/// All blocks of a file of a kind that is known here; keys that a passphrase protects are not among
/// them.
///
/// # Errors
/// A sentence about a block that is cut or is not base64, with its line.
pub(crate) fn blocks(bytes: &[u8]) -> Result<Vec<Block>, String> {
    let found = pem::blocks(bytes).map_err(|why| why.to_string())?;
    let known = found.into_iter().filter_map(|mut block| {
        let kind = match block.kind {
            Kind::Certificate => SectionKind::Certificate,
            Kind::Crl => SectionKind::Crl,
            Kind::Request => SectionKind::Csr,
            Kind::PrivateKey => SectionKind::PrivateKey,
            Kind::EcPrivateKey => SectionKind::EcPrivateKey,
            Kind::RsaPrivateKey => SectionKind::RsaPrivateKey,
            Kind::PublicKey => SectionKind::PublicKey,
            _ => return None,
        };
        let der = std::mem::take(&mut *block.der);
        Some(Block { kind, der })
    });
    Ok(known.collect())
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
    fn joined_files_and_requests_under_their_other_name_are_read() {
        let both = encode("CERTIFICATE", &[2; 3]).trim_end().repeat(2);
        assert_eq!(certificates(both.as_bytes()).unwrap().len(), 2);
        let request = blocks(encode("NEW CERTIFICATE REQUEST", &[3; 3]).as_bytes()).unwrap();
        assert_eq!(request[0].kind, SectionKind::Csr);
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
