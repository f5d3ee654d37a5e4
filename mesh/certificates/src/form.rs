//! What a certificate must look like whatever its signatures say: the rules of form that webpki
//! leaves open.
//!
//! In: DER. Out: nothing, or the [`Form`] that is broken. Chains, dates and revocation are judged
//! in `verify`; here each certificate stands alone. Invariant: a leaf that may sign, a CA that may
//! not, a serial number that names no certificate, or an extension that says two things, is refused
//! by the same words in a handshake, by `gapura-pki verify` and at a start.

use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ECDSA_P521_SHA512_ASN1, ED25519,
    ParsedPublicKey, RSA_PSS_2048_8192_SHA256, VerificationAlgorithm,
};

use super::der::{self, Reader};
use crate::ed25519;

/// A rule of form that a certificate breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Form {
    /// A CA whose key usage lacks keyCertSign.
    MayNotCertify {
        /// Its name.
        ca: String,
    },
    /// A root that allows fewer CAs below it than there are.
    RootPathLength {
        /// Its name.
        root: String,
        /// How many it allows.
        allowed: u32,
        /// How many there are.
        found: usize,
    },
    /// A leaf whose key usage has keyCertSign or cRLSign.
    LeafMaySign {
        /// Which of the two.
        usage: &'static str,
    },
    /// A leaf whose key usage lacks digitalSignature.
    LeafMayNotSign,
    /// A serial number of zero or below.
    Serial {
        /// Whose.
        of: Whose,
    },
    /// An extension that appears twice.
    Repeated {
        /// Whose.
        of: Whose,
        /// Which extension, as numbers.
        extension: String,
    },
    /// A key usage that is no bit string.
    KeyUsage {
        /// Whose.
        of: Whose,
    },
    /// It is no certificate in DER.
    Unreadable {
        /// Whose.
        of: Whose,
    },
    /// A leaf's key that no handshake could be signed with.
    LeafKey {
        /// What it is.
        found: String,
    },
}

/// Which certificate of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The leaf.
    Leaf,
    /// A CA of this name.
    Ca(String),
}

/// What a certificate's key usage says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) digital_signature: bool,
    pub(super) cert_sign: bool,
    pub(super) crl_sign: bool,
}

/// The parts of a certificate that the rules look at.
struct Outline<'a> {
    serial: &'a [u8],
    key: &'a [u8],
    extensions: Vec<(&'a [u8], &'a [u8])>,
}

const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const DSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x01];
const ED25519_KEY: &[u8] = &[0x2b, 0x65, 0x70];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];

/// Names for what is met in the field and not taken.
const OTHER_KEYS: [(&[u8], &str); 4] = [
    (RSA_PSS, "RSA for PSS only"),
    (DSA, "DSA"),
    (&[0x2b, 0x65, 0x71], "Ed448"),
    (&[0x2b, 0x65, 0x6e], "X25519"),
];
const OTHER_CURVES: [(&[u8], &str); 4] = [
    (&[0x2b, 0x81, 0x04, 0x00, 0x21], "P-224"),
    (&[0x2b, 0x81, 0x04, 0x00, 0x0a], "secp256k1"),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x01], "P-192"),
    (
        &[0x2b, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01, 0x07],
        "brainpoolP256r1",
    ),
];

/// The fewest and the most bits of an RSA key that TLS 1.3 is spoken with here.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The most bytes of an RSA exponent: 33 bits, as the library takes them.
const RSA_EXPONENT_MAX: usize = 5;

/// Judges the form of a leaf.
pub(super) fn leaf(certificate: &[u8]) -> Result<(), Form> {
    let outline = Outline::of(certificate).ok_or(Form::Unreadable { of: Whose::Leaf })?;
    outline.common(|| Whose::Leaf)?;
    // No key usage at all restricts nothing (RFC 5280, section 4.2.1.3); `lint` speaks of it.
    if let Some(usage) = outline.usage(|| Whose::Leaf)? {
        if usage.cert_sign {
            let usage = "keyCertSign";
            return Err(Form::LeafMaySign { usage });
        }
        if usage.crl_sign {
            let usage = "cRLSign";
            return Err(Form::LeafMaySign { usage });
        }
        if !usage.digital_signature {
            return Err(Form::LeafMayNotSign);
        }
    }
    leaf_key(outline.key).map_err(|found| Form::LeafKey { found })
}

/// Judges the form of a CA's certificate, and tells its key usage; `None` where it has none.
pub(super) fn authority(
    certificate: &[u8],
    name: impl Fn() -> String,
) -> Result<Option<Usage>, Form> {
    let of = || Whose::Ca(name());
    let outline = Outline::of(certificate).ok_or_else(|| Form::Unreadable { of: of() })?;
    outline.common(of)?;
    outline.usage(|| Whose::Ca(name()))
}

/// The same for a CA that certifies others.
pub(super) fn certifier(certificate: &[u8], name: impl Fn() -> String) -> Result<(), Form> {
    match authority(certificate, &name)? {
        Some(usage) if !usage.cert_sign => Err(Form::MayNotCertify { ca: name() }),
        _ => Ok(()),
    }
}

/// The extension that a certificate has twice, as numbers.
pub(super) fn repeated(certificate: &[u8]) -> Option<String> {
    Outline::of(certificate).and_then(|outline| outline.repeated())
}

/// The value of an extension of a certificate.
pub(super) fn extension<'a>(certificate: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let outline = Outline::of(certificate)?;
    let found = outline.extensions.iter().find(|(id, _)| *id == wanted);
    found.map(|(_, value)| *value)
}

impl<'a> Outline<'a> {
    /// `None` if it is no certificate.
    fn of(certificate: &'a [u8]) -> Option<Self> {
        let mut whole = Reader(Reader(certificate).value(der::SEQUENCE)?);
        let mut fields = Reader(whole.value(der::SEQUENCE)?);
        let _version = fields.value(0xa0);
        let serial = fields.value(der::INTEGER)?;
        for _algorithm_issuer_validity_subject in 0..4 {
            fields.value(der::SEQUENCE)?;
        }
        let key = fields.value(der::SEQUENCE)?;
        let mut extensions = Vec::new();
        while let Some((tag, value)) = fields.any() {
            if tag != 0xa3 {
                continue;
            }
            let mut list = Reader(Reader(value).value(der::SEQUENCE)?);
            while !list.at_end() {
                let mut extension = Reader(list.value(der::SEQUENCE)?);
                let id = extension.value(der::OID)?;
                let _critical = extension.value(der::BOOLEAN);
                extensions.push((id, extension.value(der::OCTET_STRING)?));
                if !extension.at_end() {
                    return None;
                }
            }
        }
        if !fields.at_end() {
            return None;
        }
        Some(Self {
            serial,
            key,
            extensions,
        })
    }

    fn common(&self, of: impl Fn() -> Whose) -> Result<(), Form> {
        let negative = self.serial.first().is_none_or(|first| *first >= 0x80);
        if negative || der::trim_zeros(self.serial).is_empty() {
            return Err(Form::Serial { of: of() });
        }
        match self.repeated() {
            Some(extension) => Err(Form::Repeated {
                of: of(),
                extension,
            }),
            None => Ok(()),
        }
    }

    fn repeated(&self) -> Option<String> {
        let twice = |(at, (id, _)): &(usize, &(&[u8], &[u8]))| {
            self.extensions[..*at].iter().any(|(known, _)| known == id)
        };
        let (_, (id, _)) = self.extensions.iter().enumerate().find(twice)?;
        Some(numbers(id))
    }

    fn usage(&self, of: impl Fn() -> Whose) -> Result<Option<Usage>, Form> {
        let Some((_, value)) = self.extensions.iter().find(|(id, _)| *id == KEY_USAGE) else {
            return Ok(None);
        };
        let mut reader = Reader(value);
        let bits = reader.value(der::BIT_STRING).filter(|_| reader.at_end());
        let Some([unused @ 0..=7, bits @ ..]) = bits else {
            return Err(Form::KeyUsage { of: of() });
        };
        let first = match bits {
            [] if *unused == 0 => 0,
            [] => return Err(Form::KeyUsage { of: of() }),
            [first, ..] => *first,
        };
        Ok(Some(Usage {
            digital_signature: first & 0x80 != 0,
            cert_sign: first & 0x04 != 0,
            crl_sign: first & 0x02 != 0,
        }))
    }
}

/// What a key is called if it is not one that a handshake can be signed with.
fn leaf_key(info: &[u8]) -> Result<(), String> {
    let mut info = Reader(info);
    let unreadable = || "a key that cannot be read".to_owned();
    let mut algorithm = Reader(info.value(der::SEQUENCE).ok_or_else(unreadable)?);
    let id = algorithm.value(der::OID).ok_or_else(unreadable)?;
    let key = info
        .value(der::BIT_STRING)
        .and_then(|bits| bits.strip_prefix(&[0]))
        .ok_or_else(unreadable)?;
    let named = |names: &[(&[u8], &'static str)], id: &[u8]| {
        let found = names.iter().find(|(known, _)| *known == id);
        found.map(|(_, name)| *name)
    };
    let (kind, parser): (&str, &'static dyn VerificationAlgorithm) = match id {
        RSA => {
            rsa(key)?;
            ("RSA", &RSA_PSS_2048_8192_SHA256)
        }
        EC => match algorithm.value(der::OID) {
            Some(P256) => ("P-256", &ECDSA_P256_SHA256_ASN1),
            Some(P384) => ("P-384", &ECDSA_P384_SHA384_ASN1),
            Some(P521) => ("P-521", &ECDSA_P521_SHA512_ASN1),
            Some(curve) => {
                let curve = named(&OTHER_CURVES, curve)
                    .map_or_else(|| format!("curve {}", numbers(curve)), str::to_owned);
                return Err(format!("EC on {curve}"));
            }
            None => return Err("EC on a curve without a name".to_owned()),
        },
        ED25519_KEY if ed25519::is_small_order(key) => {
            return Err("an Ed25519 point of small order, for which anybody can sign".to_owned());
        }
        ED25519_KEY => ("Ed25519", &ED25519),
        other => {
            return Err(named(&OTHER_KEYS, other)
                .map_or_else(|| format!("of algorithm {}", numbers(other)), str::to_owned));
        }
    };
    match ParsedPublicKey::new(parser, key) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("no valid {kind} key")),
    }
}

fn rsa(key: &[u8]) -> Result<(), String> {
    let unreadable = || "no valid RSA key".to_owned();
    let mut numbers = Reader(Reader(key).value(der::SEQUENCE).ok_or_else(unreadable)?);
    let modulus = der::trim_zeros(numbers.value(der::INTEGER).ok_or_else(unreadable)?);
    let exponent = der::trim_zeros(numbers.value(der::INTEGER).ok_or_else(unreadable)?);
    let zeros = modulus.first().map_or(0, |first| first.leading_zeros());
    let bits = modulus.len() * 8 - zeros as usize;
    if !RSA_BITS.contains(&bits) {
        return Err(format!("RSA of {bits} bits"));
    }
    let odd = exponent.last().is_some_and(|last| last % 2 == 1);
    if !odd || exponent == [1] || exponent.len() > RSA_EXPONENT_MAX {
        return Err("RSA with an exponent that is not an odd number from 3 to 2^33".to_owned());
    }
    Ok(())
}

/// An object identifier as people write it.
fn numbers(id: &[u8]) -> String {
    let mut parts: Vec<u64> = Vec::new();
    let mut part: u64 = 0;
    for byte in id {
        part = part.saturating_mul(128) + u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if parts.is_empty() {
                let first = (part / 40).min(2);
                parts.push(first);
                part -= first * 40;
            }
            parts.push(part);
            part = 0;
        }
    }
    let parts: Vec<String> = parts.iter().map(u64::to_string).collect();
    parts.join(".")
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leaf => f.write_str("the certificate"),
            Self::Ca(name) => write!(f, "the certificate of the CA {name}"),
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MayNotCertify { ca } => write!(
                f,
                "the CA {ca} may not sign certificates: its key usage lacks keyCertSign"
            ),
            Self::RootPathLength {
                root,
                allowed,
                found,
            } => write!(
                f,
                "the root {root} allows {allowed} CAs below it (its path length) and the chain has {found}"
            ),
            Self::LeafMaySign { usage } => write!(
                f,
                "the certificate is a leaf's and its key usage has {usage}, which is for CAs"
            ),
            Self::LeafMayNotSign => f.write_str(
                "the certificate's key usage lacks digitalSignature, without which no handshake can be signed",
            ),
            Self::Serial { of } => write!(f, "{of} has a serial number of zero or below"),
            Self::Repeated { of, extension } => {
                write!(f, "{of} has the extension {extension} twice")
            }
            Self::Unreadable { of } => write!(f, "{of} cannot be read"),
            Self::KeyUsage { of } => write!(f, "{of} has a key usage that cannot be read"),
            Self::LeafKey { found } => write!(
                f,
                "the certificate's key is {found}; a handshake takes RSA of 2048 to 8192 bits, EC on P-256, P-384 or P-521, or Ed25519"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_identifiers_are_written_as_numbers() {
        assert_eq!(numbers(KEY_USAGE), "2.5.29.15");
        assert_eq!(numbers(RSA), "1.2.840.113549.1.1.1");
        assert_eq!(numbers(&[0x88, 0x37]), "2.999");
        assert_eq!(numbers(&[]), "");
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_bytes_judging_a_form_never_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = leaf(&bytes);
            let _ = certifier(&bytes, String::new);
            let _ = leaf_key(&bytes);
            let _ = rsa(&bytes);
        }
    }
}
