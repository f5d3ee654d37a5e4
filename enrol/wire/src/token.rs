//! The join token: what an operator carries from the CA's host to a new one, once, within an hour.
//!
//! In: text, from a file. Out: a [`JoinToken`] whose every part has been checked. It is bound to
//! one identity, and carries the SHA-256 of the root, by which the agent knows the CA server before
//! it shows the secret to anybody. Invariant: the secret has no way out but [`Secret::to_text`]; on
//! the CA's disk only its SHA-256 is kept.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gapura_protocol::clock::{Rfc3339, from_unix, parse_rfc3339, unix};
use gapura_protocol::identity::{Name, PeerId, Role, TrustDomain};
use gapura_protocol::text::{hex, unhex};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

/// What every token begins with.
pub const PREFIX: &str = "gapura-join-v1.";
/// No token is longer.
const MOST_BYTES: usize = 4096;

/// A join token.
pub struct JoinToken {
    /// Which one: for lists and logs; it opens nothing.
    pub id: String,
    /// What proves it.
    pub secret: Secret,
    /// What its bearer may become.
    pub role: Role,
    /// Which one.
    pub name: Name,
    /// The installation.
    pub trust_domain: TrustDomain,
    /// SHA-256 of the root's certificate (DER), under which the CA server must stand.
    pub root_sha256: [u8; 32],
    /// When it ends, Unix time.
    pub expires: u64,
    /// Where the CA server is, `https://host:port`, if the operator said so.
    pub url: Option<String>,
}

/// Thirty-two random bytes.
pub struct Secret([u8; 32]);

/// The JSON inside.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    id: String,
    secret: String,
    identity: String,
    trust_domain: String,
    root_sha256: String,
    expires: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
}

impl Secret {
    /// The secret of these bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads base64url without padding, exactly 32 bytes; `None` for all else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).ok()?);
        <[u8; 32]>::try_from(bytes.as_slice()).ok().map(Self)
    }

    /// As base64url.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(self.0))
    }

    /// What the CA keeps of it.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &self.0).as_ref());
        hash
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl JoinToken {
    /// Whom its bearer may become.
    #[must_use]
    pub fn identity(&self) -> PeerId {
        PeerId::new(self.trust_domain.clone(), self.role, self.name.clone())
    }

    /// Whether its time is over.
    #[must_use]
    pub fn expired(&self, now: u64) -> bool {
        now > self.expires
    }

    /// The text that an operator carries.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut written = Written {
            id: self.id.clone(),
            secret: self.secret.to_text().to_string(),
            identity: format!("{}/{}", self.role, self.name),
            trust_domain: self.trust_domain.to_string(),
            root_sha256: hex(&self.root_sha256),
            expires: Rfc3339(from_unix(self.expires)).to_string(),
            url: self.url.clone(),
        };
        let json = Zeroizing::new(serde_json::to_vec(&written).unwrap_or_default());
        written.secret.zeroize();
        let encoded = Zeroizing::new(URL_SAFE_NO_PAD.encode(&*json));
        Zeroizing::new(format!("{PREFIX}{}", *encoded))
    }

    /// Reads a token; spaces and line ends around it count for nothing.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what to do, without any part of it.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let again = "copy the whole line that `gapura-pki token` printed, or make a new one";
        let text = text.trim_ascii();
        if text.len() > MOST_BYTES {
            return Err(format!("it is longer than a join token can be; {again}"));
        }
        let inside = text.strip_prefix(PREFIX.as_bytes()).ok_or_else(|| {
            format!("it does not begin with `{PREFIX}`, so it is no join token; {again}")
        })?;
        let cut = || format!("the join token was cut or changed on its way; {again}");
        let json = Zeroizing::new(URL_SAFE_NO_PAD.decode(inside).map_err(|_| cut())?);
        let written: Written = serde_json::from_slice(&json).map_err(|_| cut())?;
        let secret = Zeroizing::new(written.secret);
        let part = |what: &str| format!("the join token's {what} makes no sense; {again}");
        let (role, name) = identity(&written.identity).ok_or_else(|| part("identity"))?;
        let root = unhex(&written.root_sha256).and_then(|bytes| bytes.try_into().ok());
        Ok(Self {
            id: Some(written.id)
                .filter(|id| is_id(id))
                .ok_or_else(|| part("id"))?,
            secret: Secret::parse(&secret).ok_or_else(|| part("secret"))?,
            role,
            name,
            trust_domain: written
                .trust_domain
                .parse()
                .map_err(|_| part("trust domain"))?,
            root_sha256: root.ok_or_else(|| part("root"))?,
            expires: parse_rfc3339(&written.expires)
                .map(unix)
                .ok_or_else(|| part("end"))?,
            url: written.url,
        })
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({} for {})", self.id, self.identity())
    }
}

/// `plugin/lab-reporting` in its two parts; a CA server's identity is no host's to join as.
#[must_use]
pub fn identity(text: &str) -> Option<(Role, Name)> {
    let (role, name) = text.split_once('/')?;
    let role: Role = role.parse().ok()?;
    let joins = matches!(role, Role::Gateway | Role::Plugin);
    Some((role, name.parse().ok()?)).filter(|_| joins)
}

/// Whether a text can be a token's id: it stands in logs and lists.
fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            id: "0a1b2c".to_owned(),
            secret: Secret::new([9; 32]),
            role: Role::Plugin,
            name: "lab-reporting".parse().unwrap(),
            trust_domain: "mylab.internal".parse().unwrap(),
            root_sha256: [0xab; 32],
            expires: 1_800_000_000,
            url: Some("https://ca.mylab.internal:7443".to_owned()),
        }
    }

    #[test]
    fn what_is_printed_is_read_back() {
        let text = token().to_text();
        let read = JoinToken::parse(format!(" {}\r\n", *text).as_bytes()).unwrap();
        assert_eq!(*read.to_text(), *text);
        assert_eq!(
            read.identity().to_string(),
            "spiffe://mylab.internal/plugin/lab-reporting"
        );
        assert_eq!(read.root_sha256, [0xab; 32]);
        assert!(!read.expired(1_800_000_000) && read.expired(1_800_000_001));
    }

    #[test]
    fn what_was_cut_changed_or_is_something_else_is_named_and_shows_nothing() {
        let text = token().to_text();
        let sentence = |text: &str| JoinToken::parse(text.as_bytes()).unwrap_err();
        assert!(sentence("").contains("no join token"));
        assert!(sentence("eyJhbGciOiJFUzI1NiJ9.e30.x").contains("no join token"));
        assert!(sentence(&text[..text.len() - 9]).contains("cut or changed"));
        assert!(sentence(&format!("{}!", *text)).contains("cut or changed"));
        assert!(sentence(&format!("{PREFIX}{}", "A".repeat(5000))).contains("longer"));
        let other = |change: fn(&mut serde_json::Value)| {
            let inside = URL_SAFE_NO_PAD.decode(&text[PREFIX.len()..]).unwrap();
            let mut json = serde_json::from_slice(&inside).unwrap();
            change(&mut json);
            sentence(&format!(
                "{PREFIX}{}",
                URL_SAFE_NO_PAD.encode(json.to_string())
            ))
        };
        assert!(other(|json| json["identity"] = "pki/a".into()).contains("identity"));
        assert!(other(|json| json["root_sha256"] = "ab".into()).contains("root"));
        assert!(other(|json| json["expires"] = "tomorrow".into()).contains("end"));
        assert!(other(|json| json["secret"] = "AAAA".into()).contains("secret"));
        assert!(other(|json| json["id"] = "a b".into()).contains("id"));
        assert!(other(|json| json["more"] = "x".into()).contains("cut or changed"));
    }

    #[test]
    fn it_is_never_printed_by_accident() {
        let token = token();
        let shown = format!("{token:?} {:?}", token.secret);
        assert!(!shown.contains(token.secret.to_text().as_str()), "{shown}");
    }
}
