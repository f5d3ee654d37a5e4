//! Tokens that should not be taken, made from the one that was given.
//!
//! In: the given token, a forgery, and for some the key that signs. Out: a text for
//! `Authorization`, or what is missing for it. A forged token is never one that a careful reader of
//! it could take.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use super::mark::CANARY;

/// A token that was given, taken apart.
#[derive(Clone)]
pub(super) struct Given {
    pub(super) whole: String,
    header: Map<String, Value>,
    claims: Map<String, Value>,
    signature: String,
}

/// A key that signs as the issuer does: of a door for tests.
pub(super) enum TokenKey {
    Secret(Vec<u8>),
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(RsaKeyPair),
}

/// A way to make one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Forgery {
    /// Which one this is, in a few words.
    pub(super) what: &'static str,
    pub(super) how: How,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum How {
    /// The header's `alg` is this, or as it was for an empty one, and there is no signature.
    Unsigned(&'static str),
    /// Another user and company under the good signature.
    Tampered,
    /// HS256 with this text as the secret; `kid` replaced if one is given.
    Hs256 {
        secret: &'static str,
        kid: Option<&'static str>,
    },
    /// HS256 with the issuer's public key, in PEM, as the secret.
    PublicKeyAsSecret,
    /// A key of our own, named or shown in the header.
    OwnKey(&'static str),
    /// The good token with so many further bytes in its header.
    Padded(usize),
    /// No token, but this in its place: a line, or nothing.
    Line(&'static str),
    /// No token in the head, but in the query.
    Query(&'static str),
    /// Signed by the issuer's key: with these members of the header replaced.
    Header(&'static str),
    /// Signed by the issuer's key: with these claims replaced; `null` takes one away.
    Claims(&'static str),
    /// Signed by the issuer's key: with this text before the first claim.
    Before(&'static str),
    /// Signed by the issuer's key: `claim` lies so many seconds after now.
    At(&'static str, i64),
}

impl Given {
    /// Takes a token apart; `None` if it is no JWT with a signature.
    pub(super) fn read(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let (header, claims, signature) = (parts.next()?, parts.next()?, parts.next()?);
        let object = |part: &str| match serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?)
        {
            Ok(Value::Object(object)) => Some(object),
            _ => None,
        };
        (parts.next().is_none() && !signature.is_empty()).then_some(())?;
        Some(Self {
            whole: token.to_owned(),
            header: object(header)?,
            claims: object(claims)?,
            signature: signature.to_owned(),
        })
    }

    /// Its signing algorithm.
    pub(super) fn alg(&self) -> &str {
        self.header
            .get("alg")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }
}

impl TokenKey {
    /// Reads a key for `alg`: a secret as it stands, or a private key in PEM.
    pub(super) fn read(bytes: &[u8], alg: &str) -> Result<Self, String> {
        if alg == "HS256" {
            return Ok(Self::Secret(
                bytes.strip_suffix(b"\n").unwrap_or(bytes).to_vec(),
            ));
        }
        let key = gapura_files::pem::private_key(bytes).map_err(|err| err.to_string())?;
        let der = key.secret_der();
        let unfit = |_| format!("is no key in PKCS#8 for {alg}");
        match alg {
            "ES256" => EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
                .map(Self::Es256)
                .map_err(unfit),
            "EdDSA" => Ed25519KeyPair::from_pkcs8(der)
                .map(Self::EdDsa)
                .map_err(unfit),
            "RS256" => RsaKeyPair::from_pkcs8(der).map(Self::Rs256).map_err(unfit),
            other => Err(format!(
                "the token is signed with {other}, and tokens are made here with HS256, ES256, EdDSA and RS256"
            )),
        }
    }

    /// The public half, as it is published; `None` for a secret.
    fn public_pem(&self) -> Option<String> {
        let der = match self {
            Self::Secret(_) => return None,
            Self::Es256(key) => key.public_key().as_der().ok()?.as_ref().to_vec(),
            Self::EdDsa(key) => key.public_key().as_der().ok()?.as_ref().to_vec(),
            Self::Rs256(key) => AsDer::<PublicKeyX509Der<'_>>::as_der(key.public_key())
                .ok()?
                .as_ref()
                .to_vec(),
        };
        let base64 = STANDARD.encode(der);
        let lines: Vec<&str> = base64
            .as_bytes()
            .chunks(64)
            .filter_map(|line| std::str::from_utf8(line).ok())
            .collect();
        Some(format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            lines.join("\n")
        ))
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Self::Secret(secret) => Some(hmac_of(secret, message)),
            Self::Es256(key) => Some(key.sign(&random, message).ok()?.as_ref().to_vec()),
            Self::EdDsa(key) => Some(key.sign(message).as_ref().to_vec()),
            Self::Rs256(key) => {
                let mut out = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut out)
                    .ok()?;
                Some(out)
            }
        }
    }
}

/// A forged token's place in a request: the line that says it, and what follows the target.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Forged {
    /// `("Authorization", value)`, or another field, or none.
    pub(super) field: Option<(String, String)>,
    /// A query with its `?`, or nothing.
    pub(super) query: String,
}

/// Makes it; the error is what is missing for it.
pub(super) fn forge(
    how: How,
    given: &Given,
    key: Option<&TokenKey>,
    now: u64,
) -> Result<Forged, &'static str> {
    let token = match how {
        How::Line("") => {
            return Ok(Forged {
                field: None,
                query: String::new(),
            });
        }
        How::Line(line) => {
            let (name, value) = line.split_once(": ").unwrap_or((line, ""));
            let field = Some((name.to_owned(), value.replace("{good}", &given.whole)));
            return Ok(Forged {
                field,
                query: String::new(),
            });
        }
        How::Query(query) => {
            return Ok(Forged {
                field: None,
                query: query.replace("{good}", &given.whole),
            });
        }
        other => token(other, given, key, now)?,
    };
    Ok(Forged {
        field: Some(("Authorization".to_owned(), format!("Bearer {token}"))),
        query: String::new(),
    })
}

fn token(
    how: How,
    given: &Given,
    key: Option<&TokenKey>,
    now: u64,
) -> Result<String, &'static str> {
    let (mut header, mut claims) = (given.header.clone(), given.claims.clone());
    match how {
        How::Unsigned(alg) => {
            if !alg.is_empty() {
                header.insert("alg".to_owned(), alg.into());
            }
            Ok(format!("{}.", signed(&header, &text(&claims))))
        }
        How::Tampered => {
            for name in ["sub", "user_id", "company_id", "role"] {
                claims.insert(name.to_owned(), CANARY.into());
            }
            Ok(format!(
                "{}.{}",
                signed(&header, &text(&claims)),
                given.signature
            ))
        }
        How::Hs256 { secret, kid } => {
            header.insert("alg".to_owned(), "HS256".into());
            if let Some(kid) = kid {
                header.insert(
                    "kid".to_owned(),
                    kid.replace("{10k}", &"k".repeat(10 << 10)).into(),
                );
            }
            let signed = signed(&header, &text(&claims));
            let mac = hmac_of(secret.as_bytes(), signed.as_bytes());
            Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac)))
        }
        How::PublicKeyAsSecret => {
            let pem = key
                .ok_or("takes --token-key")?
                .public_pem()
                .ok_or("the issuer's key is a secret")?;
            header.insert("alg".to_owned(), "HS256".into());
            let signed = signed(&header, &text(&claims));
            let mac = hmac_of(pem.as_bytes(), signed.as_bytes());
            Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac)))
        }
        How::OwnKey(member) => own_key(header, &claims, member),
        How::Padded(length) => {
            header.insert("pad".to_owned(), "p".repeat(length).into());
            Ok(format!(
                "{}.{}",
                signed(&header, &text(&claims)),
                given.signature
            ))
        }
        How::Header(changes) => {
            change(&mut header, changes);
            by_issuer(&header, &text(&claims), key)
        }
        How::Claims(changes) => {
            change(&mut claims, changes);
            by_issuer(&header, &text(&claims), key)
        }
        How::Before(member) => by_issuer(
            &header,
            &text(&claims).replacen('{', &format!("{{{member},"), 1),
            key,
        ),
        How::At(claim, offset) => {
            claims.insert(claim.to_owned(), now.saturating_add_signed(offset).into());
            by_issuer(&header, &text(&claims), key)
        }
        How::Line(_) | How::Query(_) => Err("no token"),
    }
}

fn change(object: &mut Map<String, Value>, changes: &str) {
    let Ok(Value::Object(changes)) = serde_json::from_str(changes) else {
        return;
    };
    for (name, value) in changes {
        if value.is_null() {
            object.remove(&name);
        } else {
            object.insert(name, value);
        }
    }
}

fn by_issuer(
    header: &Map<String, Value>,
    claims: &str,
    key: Option<&TokenKey>,
) -> Result<String, &'static str> {
    let key = key.ok_or("takes --token-key")?;
    let signed = signed(header, claims);
    let signature = key.sign(signed.as_bytes()).ok_or("the key does not sign")?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// Signed by a key that the token brings along.
fn own_key(
    mut header: Map<String, Value>,
    claims: &Map<String, Value>,
    member: &str,
) -> Result<String, &'static str> {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
        .map_err(|_| "no key could be made")?;
    let point = key.public_key().as_ref();
    let coordinate =
        |from: usize| URL_SAFE_NO_PAD.encode(point.get(from..from + 32).unwrap_or_default());
    let jwk = json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "x": coordinate(1), "y": coordinate(33)});
    header.insert("alg".to_owned(), "ES256".into());
    header.remove("kid");
    match member {
        "jwk" => header.insert(member.to_owned(), jwk),
        "x5c" => header.insert(member.to_owned(), json!([STANDARD.encode(point)])),
        _ => header.insert(member.to_owned(), "https://spoofed.invalid/keys".into()),
    };
    let signed = signed(&header, &text(claims));
    let signature = key
        .sign(&SystemRandom::new(), signed.as_bytes())
        .map_err(|_| "no signature could be made")?;
    Ok(format!(
        "{signed}.{}",
        URL_SAFE_NO_PAD.encode(signature.as_ref())
    ))
}

fn text(object: &Map<String, Value>) -> String {
    Value::Object(object.clone()).to_string()
}

fn signed(header: &Map<String, Value>, claims: &str) -> String {
    format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(text(header)),
        URL_SAFE_NO_PAD.encode(claims)
    )
}

fn hmac_of(secret: &[u8], message: &[u8]) -> Vec<u8> {
    // HMAC with an empty key is HMAC with a block of zeros; the library takes no empty one.
    let zeros = [0; 64];
    let secret = if secret.is_empty() {
        &zeros[..]
    } else {
        secret
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    debug_assert_eq!(digest::SHA256.block_len(), zeros.len());
    hmac::sign(&key, message).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given() -> Given {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","kid":"k"}"#);
        let claims = URL_SAFE_NO_PAD.encode(r#"{"iss":"i","company_id":"42"}"#);
        Given::read(&format!("{header}.{claims}.c2ln")).unwrap()
    }

    fn made(how: How, key: Option<&TokenKey>) -> Given {
        let forged = forge(how, &given(), key, 1000).unwrap();
        let token = forged.field.unwrap().1;
        Given::read(token.strip_prefix("Bearer ").unwrap()).unwrap()
    }

    #[test]
    fn a_forgery_is_what_it_says() {
        let key = TokenKey::read(b"secret\n", "HS256").unwrap();
        assert_eq!(made(How::Tampered, None).claims["company_id"], CANARY);
        assert_eq!(made(How::Tampered, None).signature, "c2ln");
        assert_eq!(
            made(How::Header(r#"{"crit":["x"]}"#), Some(&key)).header["crit"],
            json!(["x"])
        );
        assert_eq!(
            made(How::Claims(r#"{"iss":null}"#), Some(&key))
                .claims
                .get("iss"),
            None
        );
        assert_eq!(made(How::At("exp", -600), Some(&key)).claims["exp"], 400);
        assert_eq!(made(How::OwnKey("jwk"), None).header["jwk"]["kty"], "EC");
        assert_eq!(
            forge(How::Claims("{}"), &given(), None, 0),
            Err("takes --token-key")
        );
        let unsigned = forge(How::Unsigned("none"), &given(), None, 0).unwrap();
        assert!(unsigned.field.unwrap().1.ends_with('.'));
        let query = forge(How::Query("?access_token={good}"), &given(), None, 0).unwrap();
        assert_eq!(
            (query.field, query.query.contains(&given().whole)),
            (None, true)
        );
        let twice = forge(How::Before(r#""company_id":"9""#), &given(), Some(&key), 0).unwrap();
        assert!(twice.field.is_some());
    }

    #[test]
    fn what_is_no_token_is_not_taken_apart() {
        for text in ["", "a.b", "a.b.c", "e30.e30.", "e30.e30.a.b"] {
            assert!(Given::read(text).is_none(), "{text}");
        }
    }
}
