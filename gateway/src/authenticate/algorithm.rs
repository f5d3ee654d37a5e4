//! The signature algorithms of JWS that are spoken here, and what each one asks of a key.
//!
//! RFC 7518, section 3.1, and RFC 8037, section 3.1. The list is closed: `none`, RS1, ES512, ES256K
//! and every name in another case are no algorithm at all.

use aws_lc_rs::hmac;
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
};
use gapura_protocol::labelled;

labelled! {
    /// A JWS `alg`, by its name in a token, in the order of RFC 7518.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    #[allow(missing_docs)] // each is the name it has in RFC 7518
    pub enum Algorithm {
        Hs256 = "HS256",
        Hs384 = "HS384",
        Hs512 = "HS512",
        Rs256 = "RS256",
        Rs384 = "RS384",
        Rs512 = "RS512",
        Ps256 = "PS256",
        Ps384 = "PS384",
        Ps512 = "PS512",
        Es256 = "ES256",
        Es384 = "ES384",
        EdDsa = "EdDSA",
    }
}

labelled! {
    /// A shared secret's algorithm (RFC 7518, section 3.2), by its name in a token.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum HmacAlgorithm {
        /// HMAC with SHA-256.
        #[default]
        Hs256 = "HS256",
        /// HMAC with SHA-384.
        Hs384 = "HS384",
        /// HMAC with SHA-512.
        Hs512 = "HS512",
    }
}

/// A key made ready for one algorithm. The key decides what it verifies: no operation here takes an
/// algorithm from a token.
pub(super) enum Verifier {
    /// Boxed: its prepared state is twenty times the size of the other kind.
    Shared(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

/// What an RSA key verifies when its JWK narrows it no further.
pub(super) const OF_RSA: [Algorithm; 6] = [
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
    Algorithm::Ps256,
    Algorithm::Ps384,
    Algorithm::Ps512,
];

impl Algorithm {
    /// Whether it is one of a shared secret, which no set of public keys can hold.
    #[must_use]
    pub fn is_shared(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }

    /// The algorithm of that name, to the letter.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }

    fn rsa_parameters(self) -> Option<&'static RsaParameters> {
        Some(match self {
            Self::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
            Self::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
            Self::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
            Self::Ps256 => &RSA_PSS_2048_8192_SHA256,
            Self::Ps384 => &RSA_PSS_2048_8192_SHA384,
            Self::Ps512 => &RSA_PSS_2048_8192_SHA512,
            _ => return None,
        })
    }
}

impl HmacAlgorithm {
    /// The fewest bytes a secret may have: those of the hash (RFC 7518, section 3.2).
    #[must_use]
    pub fn shortest_secret(self) -> usize {
        match self {
            Self::Hs256 => 32,
            Self::Hs384 => 48,
            Self::Hs512 => 64,
        }
    }

    pub(super) fn algorithm(self) -> Algorithm {
        match self {
            Self::Hs256 => Algorithm::Hs256,
            Self::Hs384 => Algorithm::Hs384,
            Self::Hs512 => Algorithm::Hs512,
        }
    }
}

impl std::str::FromStr for HmacAlgorithm {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter();
        all.find(|known| known.as_str() == name)
            .ok_or_else(|| "a shared secret is used with HS256, HS384 or HS512".to_owned())
    }
}

impl Verifier {
    /// A shared secret; its length has been checked.
    pub(super) fn shared(algorithm: HmacAlgorithm, secret: &[u8]) -> Self {
        let hash = match algorithm {
            HmacAlgorithm::Hs256 => hmac::HMAC_SHA256,
            HmacAlgorithm::Hs384 => hmac::HMAC_SHA384,
            HmacAlgorithm::Hs512 => hmac::HMAC_SHA512,
        };
        Self::Shared(Box::new(hmac::Key::new(hash, secret)))
    }

    /// An RSA key for one of [`OF_RSA`]. `None` if the library refuses the numbers.
    pub(super) fn rsa(algorithm: Algorithm, n: &[u8], e: &[u8]) -> Option<Self> {
        let parameters = algorithm.rsa_parameters()?;
        let parsed = PublicKeyComponents { n, e }
            .to_parsed_public_key(parameters)
            .ok()?;
        // Built from its numbers a key is first checked when it is first used; parsed from DER it
        // is checked now.
        ParsedPublicKey::new(parameters, parsed.as_ref())
            .ok()
            .map(Self::Public)
    }

    /// A point of the algorithm's curve. JWS signatures are the two numbers side by side, not DER
    /// (RFC 7518, section 3.4).
    pub(super) fn elliptic(algorithm: Algorithm, x: &[u8], y: &[u8]) -> Option<Self> {
        let point = [&[4], x, y].concat();
        match algorithm {
            Algorithm::Es256 => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point),
            Algorithm::Es384 => ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point),
            _ => return None,
        }
        .ok()
        .map(Self::Public)
    }

    /// An Ed25519 key (RFC 8037, section 2).
    pub(super) fn ed25519(x: &[u8; 32]) -> Option<Self> {
        ParsedPublicKey::new(&ED25519, x).ok().map(Self::Public)
    }

    /// Whether `signature` is this key's over `message`. A MAC is compared in constant time.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Shared(key) => hmac::verify(key, message, signature).is_ok(),
            Self::Public(key) => key.verify_sig(message, signature).is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_to_the_letter() {
        for name in [
            "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
            "ES256", "ES384", "EdDSA",
        ] {
            let algorithm = Algorithm::named(name).unwrap();
            assert_eq!(format!("{algorithm:?}").to_uppercase(), name.to_uppercase());
            assert_eq!(algorithm.as_str(), name);
        }
        for name in [
            "none", "None", "NONE", "", "hs256", "HS256 ", "RS1", "ES512", "ES256K", "EDDSA",
            "Ed448", "HS1", "dir", "A128KW",
        ] {
            assert_eq!(Algorithm::named(name), None, "{name}");
        }
    }
}
