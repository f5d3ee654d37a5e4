//! Keys, JWK sets and tokens: signed by the crypto library alone, so that a token can say anything
//! at all.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256, RsaKeyPair,
};
use aws_lc_rs::{hmac, rsa};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

/// The issuer the gateways of the tests are told of.
pub const ISSUER: &str = "https://issuer.test";
/// The audience they are told of.
pub const AUDIENCE: &str = "test-api";

/// One signing key and its name.
pub struct Signer {
    kid: String,
    key: Key,
}

enum Key {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(RsaKeyPair),
    Ps256(RsaKeyPair),
    Hs256(Vec<u8>),
}

impl Signer {
    /// P-256; the quickest to make.
    #[must_use]
    pub fn es256(kid: &str) -> Self {
        Self {
            kid: kid.to_owned(),
            key: Key::Es256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()),
        }
    }

    /// Ed25519.
    #[must_use]
    pub fn eddsa(kid: &str) -> Self {
        Self {
            kid: kid.to_owned(),
            key: Key::EdDsa(Ed25519KeyPair::generate().unwrap()),
        }
    }

    /// RSA of 2048 bits, PKCS#1 v1.5.
    #[must_use]
    pub fn rs256(kid: &str) -> Self {
        Self {
            kid: kid.to_owned(),
            key: Key::Rs256(RsaKeyPair::generate(rsa::KeySize::Rsa2048).unwrap()),
        }
    }

    /// RSA of 2048 bits, PSS.
    #[must_use]
    pub fn ps256(kid: &str) -> Self {
        Self {
            kid: kid.to_owned(),
            key: Key::Ps256(RsaKeyPair::generate(rsa::KeySize::Rsa2048).unwrap()),
        }
    }

    /// A shared secret.
    #[must_use]
    pub fn hs256(secret: &[u8]) -> Self {
        Self {
            kid: String::new(),
            key: Key::Hs256(secret.to_vec()),
        }
    }

    /// The name of the algorithm.
    #[must_use]
    pub fn alg(&self) -> &'static str {
        match &self.key {
            Key::Es256(_) => "ES256",
            Key::EdDsa(_) => "EdDSA",
            Key::Rs256(_) => "RS256",
            Key::Ps256(_) => "PS256",
            Key::Hs256(_) => "HS256",
        }
    }

    /// The public half, as an entry of a JWK set.
    #[must_use]
    pub fn jwk(&self) -> Value {
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match &self.key {
            Key::Es256(pair) => {
                let point = pair.public_key().as_ref(); // 0x04, x, y
                json!({"kty": "EC", "crv": "P-256", "x": b64(&point[1..33]), "y": b64(&point[33..65])})
            }
            Key::EdDsa(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key().as_ref())})
            }
            Key::Rs256(pair) | Key::Ps256(pair) => {
                let (n, e) = rsa_numbers(pair.public_key().as_ref());
                json!({"kty": "RSA", "n": b64(n), "e": b64(e)})
            }
            Key::Hs256(secret) => json!({"kty": "oct", "k": b64(secret)}),
        };
        jwk["kid"] = json!(self.kid);
        jwk["alg"] = json!(self.alg());
        jwk["use"] = json!("sig");
        jwk
    }

    /// The private half of a P-256 key, in PEM.
    #[must_use]
    pub fn private_pem(&self) -> String {
        let Key::Es256(pair) = &self.key else {
            panic!("{} has no key that is written here", self.alg());
        };
        let der = pair.to_pkcs8v1().unwrap();
        pem("PRIVATE KEY", der.as_ref())
    }

    /// The public half of a P-256 key, in PEM.
    #[must_use]
    pub fn public_pem(&self) -> String {
        let Key::Es256(pair) = &self.key else {
            panic!("{} has no key that is written here", self.alg());
        };
        let der = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap();
        pem("PUBLIC KEY", der.as_ref())
    }

    /// The header this signer's tokens bear.
    #[must_use]
    pub fn header(&self) -> Value {
        if self.kid.is_empty() {
            json!({"alg": self.alg(), "typ": "JWT"})
        } else {
            json!({"alg": self.alg(), "typ": "JWT", "kid": self.kid})
        }
    }

    /// A token of exactly these two texts, be they JSON or not.
    #[must_use]
    pub fn sign(&self, header: &str, claims: &str) -> String {
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(claims)
        );
        let message = signed.as_bytes();
        let random = SystemRandom::new();
        let signature = match &self.key {
            Key::Es256(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Key::EdDsa(pair) => pair.sign(message).as_ref().to_vec(),
            Key::Rs256(pair) => {
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut out)
                    .unwrap();
                out
            }
            Key::Ps256(pair) => {
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PSS_SHA256, &random, message, &mut out)
                    .unwrap();
                out
            }
            Key::Hs256(secret) => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message)
                .as_ref()
                .to_vec(),
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// A good token of these claims.
    #[must_use]
    pub fn token(&self, claims: &Value) -> String {
        self.sign(&self.header().to_string(), &claims.to_string())
    }

    /// A good token of `user` at `company`, with the role `member`, for ten minutes.
    #[must_use]
    pub fn token_of(&self, user: &str, company: &str) -> String {
        self.token(&claims_of(user, company))
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    let body = lines.join("\n");
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

/// A JWK set of these signers.
#[must_use]
pub fn jwks(signers: &[&Signer]) -> String {
    json!({"keys": signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>()}).to_string()
}

/// The claims of [`Signer::token_of`].
#[must_use]
pub fn claims_of(user: &str, company: &str) -> Value {
    json!({"iss": ISSUER, "aud": AUDIENCE, "exp": unix_now() + 600, "user_id": user, "company_id": company, "role": "member"})
}

/// Good claims, changed: `null` takes a claim away.
#[must_use]
pub fn claims_with(changes: &Value) -> Value {
    let mut claims: Map<String, Value> = claims_of("7", "42").as_object().unwrap().clone();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.remove(name)
        } else {
            claims.insert(name.clone(), value.clone())
        };
    }
    Value::Object(claims)
}

/// Seconds since 1970.
#[must_use]
pub fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// The modulus and the exponent of an `RSAPublicKey` (RFC 8017, appendix A.1.1): a sequence of two
/// integers.
fn rsa_numbers(der: &[u8]) -> (&[u8], &[u8]) {
    fn value(der: &[u8]) -> (&[u8], &[u8]) {
        let long = usize::from(der[1] & 0x7f);
        let (length, start) = match der[1] {
            short @ 0..0x80 => (usize::from(short), 2),
            _ => (
                der[2..2 + long]
                    .iter()
                    .fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
                2 + long,
            ),
        };
        der[start..].split_at(length)
    }
    fn unsigned(integer: &[u8]) -> &[u8] {
        integer.strip_prefix(&[0]).unwrap_or(integer)
    }
    let (numbers, _) = value(der);
    let (n, rest) = value(numbers);
    (unsigned(n), unsigned(value(rest).0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};

    #[test]
    fn the_numbers_of_an_rsa_key_verify_what_it_signed() {
        let signer = Signer::rs256("k");
        let token = signer.token_of("7", "42");
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let jwk = signer.jwk();
        let number = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
        let key = RsaPublicKeyComponents {
            n: number("n"),
            e: number("e"),
        };
        key.verify(
            &RSA_PKCS1_2048_8192_SHA256,
            signed.as_bytes(),
            &URL_SAFE_NO_PAD.decode(signature).unwrap(),
        )
        .unwrap();
    }
}
