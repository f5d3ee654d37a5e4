//! What the token stage is told: whose tokens count, with which keys, and which claims hold the
//! facts.
//!
//! Made by the configuration, checked when the keys are loaded. Neither `Debug` nor an error ever
//! shows a secret.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use gapura_fetch::Url;
use zeroize::Zeroizing;

pub(crate) use super::algorithm::Algorithm;
pub use super::algorithm::HmacAlgorithm;
use super::issuer_name::IssuerName;
use super::json::Json;
use super::tenants::Tenants;

/// The whole of the token stage's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whose tokens are taken. With one entry its `issuer` may be left open; with several a token's
    /// `iss` picks the entry.
    pub issuers: Vec<IssuerSettings>,
    /// How far the clocks of an issuer and of this machine may be apart, in whole seconds.
    pub leeway: Duration,
    /// Which claims hold the facts, for issuers that say nothing else.
    pub claims: ClaimNames,
    /// How logout tokens are taken, if they are.
    pub logout: Option<LogoutSettings>,
}

/// How logout tokens are taken, for every issuer that is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogoutSettings {
    /// What `aud` must name at least one of: our name at the provider.
    pub audience: Vec<String>,
    /// For how long a logout counts, in whole seconds; no token may live longer.
    pub keep: Duration,
}

/// One issuer.
#[derive(Clone, Debug)]
pub struct IssuerSettings {
    /// What `iss` must be.
    pub issuer: Option<IssuerName>,
    /// What `aud` must name at least one of (RFC 7519, section 4.1.3); empty: `aud` is not looked
    /// at.
    pub audience: Vec<String>,
    /// Where its keys come from.
    pub keys: KeySource,
    /// Narrows what the keys take by themselves; `None`: it does not.
    pub algorithms: Option<Vec<Algorithm>>,
    /// Which claims of its tokens hold the facts; `None`: the usual ones.
    pub claims: Option<ClaimNames>,
    /// The companies it may speak for.
    pub tenants: Tenants,
    /// Whether a template may speak for the rest of the companies.
    pub any_tenant: bool,
    /// Whether fetched keys may do without an issuer and an audience.
    pub any_audience: bool,
    /// Who vouches for the certificate of where keys are fetched; `None`: the system's roots.
    pub roots: Option<PathBuf>,
}

/// Where an issuer's keys come from.
#[derive(Clone)]
pub enum KeySource {
    /// A shared secret, as it stands (`JWT_SECRET`).
    Secret {
        /// The secret itself.
        bytes: Zeroizing<Vec<u8>>,
        /// The one algorithm it is used with.
        algorithm: HmacAlgorithm,
    },
    /// A file that holds a shared secret; one trailing newline is not part of it.
    SecretFile {
        /// The file.
        path: PathBuf,
        /// The one algorithm it is used with.
        algorithm: HmacAlgorithm,
    },
    /// A file that holds a JWK set (RFC 7517, section 5), or public keys in PEM.
    JwksFile(PathBuf),
    /// Where a JWK set is fetched.
    Url(Url),
    /// The issuer whose metadata says where its JWK set is (OpenID Connect Discovery 1.0, section
    /// 4).
    Oidc(Url),
}

/// Which claims hold the facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimNames {
    /// The user; `None` for the usual: `user_id`, or where a token has none, `sub`.
    pub user: Option<ClaimPath>,
    /// The company.
    pub tenant: ClaimPath,
    /// The role or roles.
    pub role: ClaimPath,
}

/// Where a claim stands: a top-level name, or a JSON pointer (RFC 6901) if it begins with `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath(Vec<Box<str>>);

/// The usual leeway.
pub(crate) const LEEWAY: Duration = Duration::from_secs(30);

impl Default for Settings {
    fn default() -> Self {
        Self {
            issuers: Vec::new(),
            leeway: LEEWAY,
            claims: ClaimNames::default(),
            logout: None,
        }
    }
}

impl IssuerSettings {
    /// An issuer of which nothing is said but where its keys are.
    #[must_use]
    pub fn new(keys: KeySource) -> Self {
        Self {
            issuer: None,
            audience: Vec::new(),
            keys,
            algorithms: None,
            claims: None,
            tenants: Tenants::default(),
            any_tenant: false,
            any_audience: false,
            roots: None,
        }
    }

    /// How the issuer is called in a sentence for the operator.
    pub(super) fn label(&self) -> String {
        match &self.issuer {
            Some(name) => format!("the issuer {:?}", name.as_str()),
            None => self.keys.label(),
        }
    }
}

impl KeySource {
    /// Whether the keys are fetched over the network.
    pub(super) fn is_fetched(&self) -> bool {
        matches!(self, Self::Url(_) | Self::Oidc(_))
    }

    /// How the source is called in a sentence for the operator.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Secret { .. } => "the shared secret (JWT_SECRET)".to_owned(),
            Self::SecretFile { path, .. } => format!("the secret file {}", path.display()),
            Self::JwksFile(path) => format!("the JWKS file {}", path.display()),
            Self::Url(url) => format!("the JWKS at {url}"),
            Self::Oidc(url) => format!("the OpenID provider {url}"),
        }
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret { algorithm, .. } => f
                .debug_struct("Secret")
                .field("algorithm", algorithm)
                .finish_non_exhaustive(),
            Self::SecretFile { path, algorithm } => f
                .debug_struct("SecretFile")
                .field("path", path)
                .field("algorithm", algorithm)
                .finish(),
            Self::JwksFile(path) => f.debug_tuple("JwksFile").field(path).finish(),
            Self::Url(url) => f.debug_tuple("Url").field(url).finish(),
            Self::Oidc(url) => f.debug_tuple("Oidc").field(url).finish(),
        }
    }
}

impl Default for ClaimNames {
    fn default() -> Self {
        let top = |name: &str| ClaimPath(vec![name.into()]);
        Self {
            user: None,
            tenant: top("company_id"),
            role: top("role"),
        }
    }
}

impl ClaimPath {
    /// The value that stands there.
    pub(super) fn find<'j, 'a>(&self, claims: &'j Json<'a>) -> Option<&'j Json<'a>> {
        self.0.iter().try_fold(claims, |at, token| at.step(token))
    }
}

impl FromStr for ClaimPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a claim's name is empty: write the name of a top-level claim, or a JSON pointer such as /org/id".to_owned());
        }
        let Some(pointer) = text.strip_prefix('/') else {
            return Ok(Self(vec![text.into()]));
        };
        pointer.split('/').map(unescape).collect::<Option<_>>().map(Self).ok_or_else(|| {
            format!(
                "the JSON pointer {text:?} has a ~ that is neither ~0 (for ~) nor ~1 (for /): write the claim's path with these two escapes"
            )
        })
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [name] if !name.is_empty() && !name.starts_with('/') => f.write_str(name),
            tokens => tokens.iter().try_for_each(|token| {
                write!(f, "/{}", token.replace('~', "~0").replace('/', "~1"))
            }),
        }
    }
}

/// RFC 6901, section 4: `~1` is `/`, then `~0` is `~`; any other `~` is an error (section 3).
fn unescape(token: &str) -> Option<Box<str>> {
    let mut pieces = token.split('~');
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (escape, rest) = piece.split_at_checked(1)?;
        plain.push(match escape {
            "0" => '~',
            "1" => '/',
            _ => return None,
        });
        plain.push_str(rest);
    }
    Some(plain.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_named_by_a_top_level_name_or_a_pointer() {
        let json = Json::parse(br#"{"a":"1","https://x/y":"2","b":{"c":["3"]},"d/e":{"f~g":"4"},"b/c":"5","":{"":"6"}}"#).unwrap();
        let found = |path: &str| {
            path.parse::<ClaimPath>()
                .unwrap()
                .find(&json)
                .and_then(Json::text)
                .map(str::to_owned)
        };
        for (path, value) in [
            ("a", "1"),
            ("/a", "1"),
            ("https://x/y", "2"),
            ("/b/c/0", "3"),
            ("/d~1e/f~0g", "4"),
            ("b/c", "5"),
            ("//", "6"),
        ] {
            assert_eq!(found(path).as_deref(), Some(value), "{path}");
        }
        for path in ["c", "/b/c/1", "/b/c/00", "/a/x", "/b/x/y", "d~1e"] {
            assert_eq!(found(path), None, "{path}");
        }
    }

    #[test]
    fn a_broken_name_is_refused_with_a_sentence() {
        for bad in ["", "/a~", "/a~2", "/~é"] {
            assert!(bad.parse::<ClaimPath>().is_err(), "{bad}");
        }
    }

    #[test]
    fn prints_as_it_was_written() {
        for path in ["a", "/a/b", "https://x/y", "/d~1e/f~0g", "//"] {
            assert_eq!(path.parse::<ClaimPath>().unwrap().to_string(), path);
        }
    }

    #[test]
    fn a_secret_is_never_printed() {
        let source = KeySource::Secret {
            bytes: Zeroizing::new(b"very secret".to_vec()),
            algorithm: HmacAlgorithm::Hs256,
        };
        let settings = Settings {
            issuers: vec![IssuerSettings::new(source.clone())],
            ..Settings::default()
        };
        let shown = format!("{settings:?} {}", source.label());
        assert!(!shown.contains("very") && !shown.contains("118"), "{shown}");
    }
}
