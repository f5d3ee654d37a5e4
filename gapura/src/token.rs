//! Tokens for development: who they speak for, and the key that signs them.
//!
//! In: a company, a user, roles, a lifetime. Out: a JWT of issuer `gapura-dev`, signed with ES256
//! by a key that lies in the state folder, whose public half the gateway of `gapura up` reads as
//! `jwks.json`. No other gateway knows the key.

use std::path::Path;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gapura_protocol::context::{Roles, TenantId, UserId};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};

use crate::error::Error;
use crate::state::{self, State};

/// What stands in `iss` and `aud`.
pub const ISSUER: &str = "gapura-dev";

/// How long a token lasts unless asked otherwise.
pub(crate) const LIFETIME: Duration = Duration::from_secs(3600);

/// The longest a token may last: the key lies in a plain file, so what it signs should not outlive
/// the day's work.
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Where the key lies in the state folder.
const KEY: &str = "token-key.pem";

/// Whom a token speaks for.
#[derive(Clone, Debug)]
pub struct Subject {
    company: TenantId,
    user: UserId,
    roles: Option<Roles>,
}

/// The key that signs, and its name.
pub struct Issuer {
    key: EcdsaKeyPair,
    jwk: Value,
    kid: String,
}

impl Subject {
    /// Takes what a gateway would take from a token.
    ///
    /// # Errors
    /// A sentence that names the flag, for a value that every gateway refuses.
    pub fn new(company: &str, user: &str, roles: &[String]) -> Result<Self, Error> {
        let refused = |flag: &str, why: &str| Error::Refused(format!("{flag}: {why}"));
        let company = TenantId::parse(company.as_bytes())
            .ok()
            .filter(|_| company != "0")
            .ok_or_else(|| refused("--company", "must be 1 to 128 of A-Z a-z 0-9 . _ : -, begin with a letter or a digit, and not be 0"))?;
        let user = UserId::parse(user.as_bytes()).ok().filter(|_| user != "0").ok_or_else(|| {
            refused("--user", "must be 1 to 255 of A-Z a-z 0-9 . _ : @ | + = ~ / -, begin with a letter or a digit, and not be 0")
        })?;
        let roles = if roles.is_empty() {
            None
        } else {
            let why = "each must be 1 to 128 of A-Z a-z 0-9 space . _ : @ | + = ~ / - and begin with a letter or a digit";
            Some(
                Roles::join(roles.iter().map(String::as_str))
                    .map_err(|_| refused("--role", why))?,
            )
        };
        Ok(Self {
            company,
            user,
            roles,
        })
    }
}

impl Issuer {
    /// The key of a state folder that `gapura up` has made.
    ///
    /// # Errors
    /// If the folder or the key is not there, or the key is broken.
    pub fn open(state: &Path) -> Result<Self, Error> {
        let path = state.join(KEY);
        let pem = std::fs::read_to_string(&path).map_err(|err| {
            Error::Refused(format!("can't read {}: {err}; run `gapura up` first, or name the folder it uses with --state", path.display()))
        })?;
        Self::from_pem(&pem, &path)
    }

    /// The key of the folder, made if it is not there.
    pub(crate) fn open_or_make(state: &State) -> Result<Self, Error> {
        let pem = match state.read(KEY)? {
            Some(pem) => pem,
            None => {
                let made = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
                    .map_err(|err| Error::Failed(format!("can't make a key for tokens: {err}")))?;
                let pem = made.serialize_pem();
                state.write(KEY, pem.as_bytes())?;
                pem
            }
        };
        Self::from_pem(&pem, &state.path(KEY))
    }

    fn from_pem(pem: &str, path: &Path) -> Result<Self, Error> {
        let broken = || {
            Error::Refused(format!(
                "{} is no P-256 key in PEM; remove it, and `gapura up` makes a new one",
                path.display()
            ))
        };
        let pair = state::key_pair(pem).ok_or_else(broken)?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pair.serialized_der())
            .map_err(|_| broken())?;
        let point = pair.public_key_raw();
        let (Some(x), Some(y)) = (point.get(1..33), point.get(33..65)) else {
            return Err(broken());
        };
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        // RFC 7638: the thumbprint names the key by what it is, so that a new key never answers to
        // the old one's name.
        let thumbprint = digest(
            &SHA256,
            format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#).as_bytes(),
        );
        let kid = URL_SAFE_NO_PAD.encode(&thumbprint.as_ref()[..12]);
        let jwk = json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": kid, "x": x, "y": y });
        Ok(Self { key, jwk, kid })
    }

    /// The key set that a gateway verifies by.
    #[must_use]
    pub fn jwks(&self) -> String {
        format!("{:#}\n", json!({ "keys": [self.jwk] }))
    }

    /// A token for `subject` from `now` (Unix seconds) for as long as `lifetime`.
    ///
    /// # Errors
    /// For a lifetime of less than a second or more than a day, and if the signing fails.
    pub fn token(&self, subject: &Subject, now: u64, lifetime: Duration) -> Result<String, Error> {
        if lifetime.as_secs() == 0 || lifetime > LONGEST {
            return Err(Error::Refused("--ttl: must be from 1s to 24h".to_owned()));
        }
        let mut claims = json!({
            "iss": ISSUER,
            "aud": ISSUER,
            "iat": now,
            "exp": now.saturating_add(lifetime.as_secs()),
            "user_id": number_or_text(subject.user.as_str()),
            "company_id": number_or_text(subject.company.as_str()),
        });
        if let Some(roles) = &subject.roles {
            claims["role"] = roles.as_str().into();
        }
        let header = json!({ "alg": "ES256", "kid": self.kid, "typ": "JWT" });
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let signature = self
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .map_err(|_| Error::Failed("the token could not be signed".to_owned()))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// `42` as a number, as most issuers write it; `007` stays a text, which is another company.
fn number_or_text(text: &str) -> Value {
    match text.parse::<u64>() {
        Ok(number) if number.to_string() == text => number.into(),
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    fn parts(token: &str) -> (Value, Value, Vec<u8>) {
        let parts: Vec<Vec<u8>> = token
            .split('.')
            .map(|part| URL_SAFE_NO_PAD.decode(part).unwrap())
            .collect();
        (
            serde_json::from_slice(&parts[0]).unwrap(),
            serde_json::from_slice(&parts[1]).unwrap(),
            parts[2].clone(),
        )
    }

    fn point(issuer: &Issuer) -> Vec<u8> {
        let coordinate = |name: &str| {
            URL_SAFE_NO_PAD
                .decode(issuer.jwk[name].as_str().unwrap())
                .unwrap()
        };
        [vec![4], coordinate("x"), coordinate("y")].concat()
    }

    #[test]
    fn a_token_says_what_was_asked_and_verifies_under_the_published_key() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("state");
        let made = Issuer::open_or_make(&State::take(&root).unwrap()).unwrap();
        let issuer = Issuer::open(&root).unwrap();
        assert_eq!(issuer.jwks(), made.jwks());

        let subject =
            Subject::new("42", "u-7", &["admin".to_owned(), "auditor".to_owned()]).unwrap();
        let token = issuer.token(&subject, 1000, LIFETIME).unwrap();
        let (header, claims, signature) = parts(&token);
        assert_eq!(
            header,
            json!({"alg": "ES256", "kid": issuer.kid, "typ": "JWT"})
        );
        let wanted = json!({
            "iss": "gapura-dev", "aud": "gapura-dev", "iat": 1000, "exp": 4600, "user_id": "u-7", "company_id": 42, "role": "admin,auditor"
        });
        assert_eq!(claims, wanted);
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point(&issuer));
        let signed = token.rsplit_once('.').unwrap().0;
        assert!(key.verify(signed.as_bytes(), &signature).is_ok());
        assert!(key.verify(b"another", &signature).is_err());

        let no_role = Subject::new("acme", "007", &[]).unwrap();
        let (_, claims, _) = parts(&issuer.token(&no_role, 1000, LONGEST).unwrap());
        assert_eq!(
            (&claims["role"], &claims["company_id"], &claims["user_id"]),
            (&Value::Null, &json!("acme"), &json!("007"))
        );
    }

    #[test]
    fn what_a_gateway_would_refuse_is_refused_here() {
        for company in ["", "0", "-1", "a b", "a\nb"] {
            assert!(
                Subject::new(company, "7", &[])
                    .unwrap_err()
                    .to_string()
                    .contains("--company"),
                "{company:?}"
            );
        }
        assert!(
            Subject::new("42", "0", &[])
                .unwrap_err()
                .to_string()
                .contains("--user")
        );
        assert!(
            Subject::new("42", "7", &["a,b".to_owned()])
                .unwrap_err()
                .to_string()
                .contains("--role")
        );
        let folder = tempfile::tempdir().unwrap();
        let issuer = Issuer::open_or_make(&State::take(&folder.path().join("s")).unwrap()).unwrap();
        let subject = Subject::new("42", "7", &[]).unwrap();
        assert!(
            issuer
                .token(&subject, 0, Duration::from_millis(999))
                .is_err()
        );
        assert!(
            issuer
                .token(&subject, 0, LONGEST + Duration::from_secs(1))
                .is_err()
        );
    }

    #[test]
    fn a_folder_without_a_key_or_with_a_broken_one_is_a_sentence() {
        let folder = tempfile::tempdir().unwrap();
        assert!(
            Issuer::open(folder.path())
                .err()
                .unwrap()
                .to_string()
                .contains("gapura up")
        );
        std::fs::write(
            folder.path().join(KEY),
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        )
        .unwrap();
        assert!(
            Issuer::open(folder.path())
                .err()
                .unwrap()
                .to_string()
                .contains("remove it")
        );
    }
}
