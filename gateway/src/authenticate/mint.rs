//! Makes keys and tokens for this room's tests, good ones and bad ones.

use std::sync::OnceLock;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaEncoding,
};
use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// A moment the tests take place at.
pub(super) const NOW: u64 = 1_700_000_000;

/// A shared secret, long enough for each hash.
pub(super) const SECRET: &[u8] =
    b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Every algorithm but those of a shared secret.
pub(super) const PUBLIC: [&str; 9] = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA",
];

/// Private keys, one of each kind.
pub(super) struct Signers {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

impl Signers {
    fn generate() -> Self {
        Self {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            p384: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
            ed25519: Ed25519KeyPair::generate().unwrap(),
        }
    }

    /// The keys most tests use: making an RSA key takes a while.
    pub(super) fn ours() -> &'static Self {
        static OURS: OnceLock<Signers> = OnceLock::new();
        OURS.get_or_init(Self::generate)
    }

    /// The keys of somebody else.
    pub(super) fn theirs() -> &'static Self {
        static THEIRS: OnceLock<Signers> = OnceLock::new();
        THEIRS.get_or_init(Self::generate)
    }

    /// The signature of `message`; by [`SECRET`] for the shared-secret algorithms.
    pub(super) fn sign(&self, alg: &str, message: &[u8]) -> Vec<u8> {
        let rsa = |encoding: &'static dyn RsaEncoding| {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa
                .sign(encoding, &SystemRandom::new(), message, &mut signature)
                .unwrap();
            signature
        };
        match alg {
            "HS256" | "HS384" | "HS512" => mac(alg, SECRET, message),
            "RS256" => rsa(&RSA_PKCS1_SHA256),
            "RS384" => rsa(&RSA_PKCS1_SHA384),
            "RS512" => rsa(&RSA_PKCS1_SHA512),
            "PS256" => rsa(&RSA_PSS_SHA256),
            "PS384" => rsa(&RSA_PSS_SHA384),
            "PS512" => rsa(&RSA_PSS_SHA512),
            "ES256" => self
                .p256
                .sign(&SystemRandom::new(), message)
                .unwrap()
                .as_ref()
                .to_vec(),
            "ES384" => self
                .p384
                .sign(&SystemRandom::new(), message)
                .unwrap()
                .as_ref()
                .to_vec(),
            "EdDSA" => self.ed25519.sign(message).as_ref().to_vec(),
            other => panic!("no signer for {other}"),
        }
    }

    /// A signed token.
    pub(super) fn token(&self, header: &Value, claims: &Value) -> String {
        self.token_of_text(
            header["alg"].as_str().unwrap(),
            &header.to_string(),
            &claims.to_string(),
        )
    }

    /// A signed token of any two texts.
    pub(super) fn token_of_text(&self, alg: &str, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = self.sign(alg, signed.as_bytes());
        format!("{signed}.{}", encode(signature))
    }

    /// The public key an algorithm is verified with.
    pub(super) fn jwk(&self, alg: &str) -> Value {
        match alg {
            "ES256" => point("P-256", self.p256.public_key().as_ref()),
            "ES384" => point("P-384", self.p384.public_key().as_ref()),
            "EdDSA" => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encode(self.ed25519.public_key().as_ref())})
            }
            _ => {
                let (n, e) = numbers(self.rsa.public_key().as_ref());
                json!({"kty": "RSA", "n": encode(n), "e": encode(e)})
            }
        }
    }

    /// The public RSA key as DER, for those who take it for a secret.
    pub(super) fn rsa_der(&self) -> Vec<u8> {
        self.rsa.public_key().as_der().unwrap().as_ref().to_vec()
    }
}

/// An HMAC with any secret.
pub(super) fn mac(alg: &str, secret: &[u8], message: &[u8]) -> Vec<u8> {
    let hash = match alg {
        "HS256" => hmac::HMAC_SHA256,
        "HS384" => hmac::HMAC_SHA384,
        _ => hmac::HMAC_SHA512,
    };
    hmac::sign(&hmac::Key::new(hash, secret), message)
        .as_ref()
        .to_vec()
}

/// A token signed with any secret.
pub(super) fn token_by(secret: &[u8], header: &Value, claims: &Value) -> String {
    let signed = format!(
        "{}.{}",
        encode(header.to_string()),
        encode(claims.to_string())
    );
    let signature = mac(header["alg"].as_str().unwrap(), secret, signed.as_bytes());
    format!("{signed}.{}", encode(signature))
}

/// A set of keys as it stands in a file.
pub(super) fn jwks(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

/// `value` with some members set.
pub(super) fn with(mut value: Value, changes: &Value) -> Value {
    value
        .as_object_mut()
        .unwrap()
        .extend(changes.as_object().unwrap().clone());
    value
}

/// Claims that are good at [`NOW`].
pub(super) fn claims() -> Value {
    json!({"exp": NOW + 60, "user_id": 7, "company_id": 4, "role": "admin"})
}

/// Base64url without padding.
pub(super) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A `kid` that is the key's own digest.
pub(super) fn thumb(jwk: &Value) -> String {
    encode(digest::digest(&digest::SHA256, jwk.to_string().as_bytes()))
}

fn point(curve: &str, bytes: &[u8]) -> Value {
    let (x, y) = bytes[1..].split_at((bytes.len() - 1) / 2);
    json!({"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)})
}

/// The two integers of an `RSAPublicKey` (RFC 8017, appendix A.1.1).
fn numbers(der: &[u8]) -> (&[u8], &[u8]) {
    fn take(tag: u8, der: &[u8]) -> (&[u8], &[u8]) {
        assert_eq!(der[0], tag);
        let (length, rest) = match der[1] {
            short @ 0..=0x7f => (usize::from(short), &der[2..]),
            0x81 => (usize::from(der[2]), &der[3..]),
            _ => (usize::from(der[2]) << 8 | usize::from(der[3]), &der[4..]),
        };
        rest.split_at(length)
    }
    let (sequence, _) = take(0x30, der);
    let (n, rest) = take(2, sequence);
    let (e, _) = take(2, rest);
    (n.strip_prefix(&[0]).unwrap_or(n), e)
}
