//! Certificates in the wrapping that EST demands: a PKCS#7 message of certificates only, signed by
//! nobody (RFC 5652, section 5).
//!
//! Written and read by hand: it is five nested elements around certificates that stay as they are,
//! and the libraries that do it bring a second reader of X.509. It proves nothing: whoever reads it
//! judges each certificate as if it had come by itself.

use gapura_certificates::der::{CONTEXT_0, INTEGER, OID, Reader, SEQUENCE, SET};
use rustls_pki_types::CertificateDer;

/// `signedData`, 1.2.840.113549.1.7.2.
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// `data`, 1.2.840.113549.1.7.1: what would be signed, if anything were.
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// Roots and issuing CAs of an installation in the midst of every rotation there is are under ten.
const MOST_CERTIFICATES: usize = 64;

/// A message of `certificates`, in their order, as DER.
#[must_use]
pub fn certs_only(certificates: &[CertificateDer<'_>]) -> Vec<u8> {
    let all: Vec<u8> = certificates
        .iter()
        .flat_map(|certificate| certificate.iter().copied())
        .collect();
    let nothing_signed = element(SEQUENCE, &element(OID, DATA));
    let signed_data = [
        element(INTEGER, &[1]),
        element(SET, &[]), // no digest algorithms
        nothing_signed,
        element(CONTEXT_0, &all),
        element(SET, &[]), // no signers
    ]
    .concat();
    let content = element(CONTEXT_0, &element(SEQUENCE, &signed_data));
    element(SEQUENCE, &[element(OID, SIGNED_DATA), content].concat())
}

/// The certificates of a message, in its order: at least one, each a whole DER element, none of
/// them judged.
///
/// # Errors
/// A sentence about what it is not.
pub fn certificates(message: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    read(message)
        .ok_or_else(|| format!("it is no PKCS#7 message of 1 to {MOST_CERTIFICATES} certificates"))
}

fn read(message: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let mut message = Reader(message);
    let mut info = Reader(message.value(SEQUENCE)?);
    if !message.at_end() || info.value(OID)? != SIGNED_DATA {
        return None;
    }
    let mut content = Reader(info.value(CONTEXT_0)?);
    let mut signed = Reader(content.value(SEQUENCE)?);
    if !info.at_end() || !content.at_end() {
        return None;
    }
    signed.value(INTEGER)?;
    signed.value(SET)?;
    signed.value(SEQUENCE)?;
    let mut inside = Reader(signed.value(CONTEXT_0)?);
    let mut found = Vec::new();
    while !inside.at_end() {
        let (_, certificate) = inside.whole(SEQUENCE)?;
        found.push(CertificateDer::from(certificate.to_vec()));
    }
    // CRLs may follow, and signers; what is asked for here is neither.
    (1..=MOST_CERTIFICATES)
        .contains(&found.len())
        .then_some(found)
}

/// Tag, length in its shortest form, value.
fn element(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u8::try_from(value.len()) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let digits = value.len().to_be_bytes();
            let zeros = digits.iter().take_while(|digit| **digit == 0).count();
            let digits = digits.get(zeros..).unwrap_or_default();
            out.push(0x80 | u8::try_from(digits.len()).unwrap_or(8));
            out.extend_from_slice(digits);
        }
    }
    out.extend_from_slice(value);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    fn of(length: usize) -> CertificateDer<'static> {
        CertificateDer::from(element(SEQUENCE, &vec![7; length]))
    }

    #[test]
    fn what_is_written_is_read_back_at_every_length_of_a_length() {
        for lengths in [&[0][..], &[5, 0x7f], &[0x80, 0xff], &[0x100, 0x1_0000]] {
            let all: Vec<_> = lengths.iter().map(|length| of(*length)).collect();
            assert_eq!(certificates(&certs_only(&all)).unwrap(), all);
        }
    }

    #[test]
    fn what_is_cut_longer_or_empty_is_refused() {
        let whole = certs_only(&[of(200), of(3)]);
        for end in 0..whole.len() {
            assert!(certificates(&whole[..end]).is_err(), "{end}");
        }
        assert!(certificates(&[&whole[..], &[0]].concat()).is_err());
        assert!(certificates(&certs_only(&[])).is_err());
        let many = vec![of(1); MOST_CERTIFICATES + 1];
        assert!(certificates(&certs_only(&many)).is_err());
        assert!(certificates(&certs_only(&many[1..])).is_ok());
    }

    /// What OpenSSL writes is read, and what is written here OpenSSL reads.
    #[test]
    fn openssl_reads_and_writes_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let run = |command: &str| {
            let done = Command::new("sh")
                .current_dir(dir.path())
                .args(["-c", command])
                .output()
                .unwrap();
            assert!(
                done.status.success(),
                "{command}: {}",
                String::from_utf8_lossy(&done.stderr)
            );
            done.stdout
        };
        for name in ["a", "b"] {
            run(&format!(
                "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.pem -subj /CN={name} -days 2 2>&1"
            ));
            run(&format!(
                "openssl x509 -in {name}.pem -outform DER -out {name}.der"
            ));
        }
        let ders = ["a.der", "b.der"]
            .map(|name| CertificateDer::from(std::fs::read(dir.path().join(name)).unwrap()));
        run(
            "openssl crl2pkcs7 -nocrl -certfile a.pem -certfile b.pem -outform DER -out theirs.p7b",
        );
        let theirs = std::fs::read(dir.path().join("theirs.p7b")).unwrap();
        assert_eq!(certificates(&theirs).unwrap(), ders);
        std::fs::write(dir.path().join("ours.p7b"), certs_only(&ders)).unwrap();
        let shown = run("openssl pkcs7 -inform DER -in ours.p7b -print_certs");
        let shown = String::from_utf8_lossy(&shown);
        assert!(
            shown.contains("CN = a") && shown.contains("CN = b"),
            "{shown}"
        );
        assert_eq!(shown.matches("BEGIN CERTIFICATE").count(), 2);
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = certificates(&bytes);
        }
    }
}
