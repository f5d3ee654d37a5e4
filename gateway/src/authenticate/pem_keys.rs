//! Reads public keys in PEM: `-----BEGIN PUBLIC KEY-----`, as `openssl pkey -pubout` writes them.
//!
//! In: the bytes of a file. Out: the numbers of each key (RFC 5280, section 4.1; RFC 8017, appendix
//! A.1.1; RFC 5480; RFC 8410), for `jwk` to make ready: what a key is good for is judged in one
//! place. A private key is refused by name: it has no business here.

use gapura_files::pem::{self, Kind};

/// A public key's numbers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Numbers {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256 { x: Vec<u8>, y: Vec<u8> },
    P384 { x: Vec<u8>, y: Vec<u8> },
    Ed25519(Vec<u8>),
}

/// Whether a file is PEM and not JSON.
pub(super) fn is_pem(bytes: &[u8]) -> bool {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    text.trim_ascii_start().starts_with(b"-----BEGIN ")
}

const PRIVATE: &[u8] = b"PRIVATE KEY-----";

/// Every key of a file; the error is a sentence without its subject.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Numbers>, String> {
    let blocks = pem::blocks(bytes);
    let is_private = match &blocks {
        Ok(blocks) => blocks.iter().any(|block| block.kind.is_private_key()),
        // What is damaged as well is still called by its name.
        Err(_) => bytes.windows(PRIVATE.len()).any(|part| part == PRIVATE),
    };
    if is_private {
        return Err("holds a private key, which only the issuer should have; give its public half: openssl pkey -in KEY -pubout".to_owned());
    }
    let mut keys = Vec::new();
    let blocks = blocks.map_err(|why| format!("cannot be used: {why}"))?;
    for block in blocks.iter().filter(|block| block.kind == Kind::PublicKey) {
        let key = numbers(&block.der).ok_or_else(|| {
            format!(
                "holds a key (line {}) that is not RSA, P-256, P-384 or Ed25519",
                block.line
            )
        })?;
        keys.push(key);
    }
    if keys.is_empty() {
        return Err(
            "holds no -----BEGIN PUBLIC KEY----- block; give a public key, or a JWK set".to_owned(),
        );
    }
    Ok(keys)
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;

const RSA: &[u8] = &[
    0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 0x05, 0,
];
const P256: &[u8] = &[
    0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7,
];
const P384: &[u8] = &[
    0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 0x06, 5, 0x2b, 0x81, 4, 0, 0x22,
];
const ED25519: &[u8] = &[0x06, 3, 0x2b, 0x65, 0x70];

fn numbers(spki: &[u8]) -> Option<Numbers> {
    let (spki, rest) = take(SEQUENCE, spki)?;
    let (algorithm, key) = take(SEQUENCE, spki)?;
    let (key, after) = take(BIT_STRING, key)?;
    let (0, key) = key.split_first()? else {
        return None;
    };
    if !rest.is_empty() || !after.is_empty() {
        return None;
    }
    let point = |length: usize| {
        let coordinates = key.strip_prefix(&[4])?;
        let (x, y) = coordinates.split_at_checked(length)?;
        (y.len() == length).then(|| (x.to_vec(), y.to_vec()))
    };
    match algorithm {
        RSA => {
            let (sequence, rest) = take(SEQUENCE, key)?;
            let (n, e) = take(INTEGER, sequence)?;
            let (e, end) = take(INTEGER, e)?;
            let whole = rest.is_empty() && end.is_empty();
            whole.then(|| Numbers::Rsa {
                n: n.to_vec(),
                e: e.to_vec(),
            })
        }
        P256 => point(32).map(|(x, y)| Numbers::P256 { x, y }),
        P384 => point(48).map(|(x, y)| Numbers::P384 { x, y }),
        ED25519 => Some(Numbers::Ed25519(key.to_vec())),
        _ => None,
    }
}

/// The content of the first element, if it has that tag, and what follows it.
fn take(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, der) = der.split_first()?;
    let (first, der) = der.split_first()?;
    let (length, der) = match *first {
        short @ 0..=0x7f => (usize::from(short), der),
        long @ (0x81 | 0x82) => {
            let (digits, der) = der.split_at_checked(usize::from(long & 0x7f))?;
            (
                digits
                    .iter()
                    .fold(0, |sum, digit| sum << 8 | usize::from(*digit)),
                der,
            )
        }
        _ => return None,
    };
    let (content, rest) = der.split_at_checked(length)?;
    (*found == tag).then_some((content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with `openssl genpkey` and `openssl pkey -pubout`.
    const ED: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";

    #[test]
    fn a_key_is_read_and_what_is_none_is_refused() {
        let found = read(ED.as_bytes()).unwrap();
        assert!(matches!(&found[..], [Numbers::Ed25519(x)] if x.len() == 32 && x[0] == 0xd7));
        assert_eq!(read(ED.repeat(2).as_bytes()).unwrap().len(), 2);
        // As `cat` joins files without a last line end, and as an editor of another system saves
        // them.
        assert_eq!(read(ED.trim_end().repeat(2).as_bytes()).unwrap().len(), 2);
        let marked = format!("\u{feff}{}", ED.replace('\n', "\r\n"));
        assert!(is_pem(marked.as_bytes()) && read(marked.as_bytes()).unwrap().len() == 1);
        for (bad, says) in [
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
                "no -----BEGIN PUBLIC KEY",
            ),
            (ED.replace("PUBLIC", "PRIVATE"), "private key"),
            (ED.replace("MCow", "MCox"), "not RSA"),
            (ED.replace("VwAyEA", "VxAyEA"), "not RSA"),
            (ED.replace("11qY", "1!qY"), "damaged"),
            (ED.replace("-----END", "----END"), "damaged"),
        ] {
            let said = read(bad.as_bytes()).unwrap_err();
            assert!(said.contains(says), "{bad}: {said}");
        }
    }

    #[test]
    fn no_bytes_make_it_stumble() {
        for length in 0..44 {
            let der = [
                0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
            ];
            let _ = numbers(&der[..der.len().min(length)]);
            let _ = numbers(&vec![0x30; length]);
            let _ = numbers(&vec![0x82; length]);
        }
    }
}
