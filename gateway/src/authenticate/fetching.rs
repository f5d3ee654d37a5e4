//! How the keys of one issuer are fetched: from their address, or from the one that its OpenID
//! metadata names.
//!
//! In: the issuer's settings. Out: the bytes of a JWK set and how long they may be kept, or a
//! sentence for the operator. The address that the operator wrote may resolve to anything, a
//! private provider is a usual one. An address that the provider wrote could name any service of
//! our own network: it must be public at every connect, unless its host is configured itself.

use std::time::{Duration, Instant};

use gapura_fetch::{Bounds, Client, Reach, Url};

use super::json::Json;
use super::settings::{IssuerSettings, KeySource};

/// Fetches one issuer's keys again and again.
pub(super) struct Fetching {
    entry: IssuerSettings,
    /// Hosts that the operator wrote, of any issuer.
    configured: Vec<String>,
    discovered: Option<(Url, Instant)>,
}

/// A JWK set as it came.
pub(super) struct Fetched {
    pub(super) bytes: Vec<u8>,
    pub(super) keep: Duration,
}

/// What an answer may be: 256 KiB are 300 RSA keys.
const BOUNDS: Bounds = Bounds {
    bytes: 256 * 1024,
    within: Duration::from_secs(10),
};

/// For how long keys are kept where `Cache-Control` says nothing.
const KEEP: Duration = Duration::from_secs(600);

/// `Cache-Control` may say no less, so that a provider isn't asked without end, and no more, so
/// that a key taken out goes.
const KEEP_LEAST: Duration = Duration::from_secs(5);
const KEEP_MOST: Duration = Duration::from_secs(24 * 3600);

impl Fetching {
    pub(super) fn new(entry: &IssuerSettings, all: &[IssuerSettings]) -> Self {
        let hosts = all.iter().filter_map(|entry| match &entry.keys {
            KeySource::Url(url) | KeySource::Oidc(url) => Some(url.host().to_owned()),
            _ => None,
        });
        Self {
            entry: entry.clone(),
            configured: hosts.collect(),
            discovered: None,
        }
    }

    /// Fetches. Roots are read anew each time: those of a private provider change too.
    pub(super) async fn fetch(&mut self) -> Result<Fetched, String> {
        let client = Client::new(self.entry.roots.as_deref());
        let (url, reach) = match &self.entry.keys {
            KeySource::Url(url) => (url.clone(), Reach::Anywhere),
            KeySource::Oidc(issuer) => {
                let issuer = issuer.clone();
                let url = self.keys_of(&client, &issuer).await?;
                let known = self.configured.iter().any(|host| host == url.host());
                let reach = if known {
                    Reach::Anywhere
                } else {
                    Reach::Public
                };
                (url, reach)
            }
            _ => return Err("its keys are not fetched".to_owned()),
        };
        let answer = client.get(&url, reach, &BOUNDS).await;
        let answer = answer.map_err(|error| {
            self.discovered = None; // the provider may have moved its keys
            error.to_string()
        })?;
        Ok(Fetched {
            bytes: answer.body,
            keep: answer.keep.unwrap_or(KEEP).clamp(KEEP_LEAST, KEEP_MOST),
        })
    }

    /// Where the provider says its keys are.
    async fn keys_of(&mut self, client: &Client, issuer: &Url) -> Result<Url, String> {
        if let Some((url, until)) = &self.discovered
            && *until > Instant::now()
        {
            return Ok(url.clone());
        }
        let text = format!(
            "{}/.well-known/openid-configuration",
            issuer.as_str().trim_end_matches('/')
        );
        let at = Url::parse(&text)?;
        let answer = client.get(&at, Reach::Anywhere, &BOUNDS).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let url =
            read_metadata(&answer.body, issuer.as_str()).map_err(|why| format!("{at}: {why}"))?;
        let keep = answer.keep.unwrap_or(KEEP).clamp(KEEP_LEAST, KEEP_MOST);
        self.discovered = Some((url.clone(), Instant::now() + keep));
        Ok(url)
    }
}

/// OpenID Connect Discovery 1.0, section 4.3: `issuer` must be the one that was asked, to the
/// letter.
fn read_metadata(body: &[u8], issuer: &str) -> Result<Url, String> {
    let metadata = Json::parse(body).map_err(|fault| format!("the metadata is {fault}"))?;
    match metadata.get("issuer").and_then(Json::text) {
        Some(named) if named == issuer => {}
        Some(named) => {
            let named: String = named.chars().take(200).collect();
            return Err(format!(
                "the metadata is of the issuer {named:?}; write that as --oidc-issuer if it is the one you mean"
            ));
        }
        None => return Err("the metadata names no issuer".to_owned()),
    }
    let uri = metadata.get("jwks_uri").and_then(Json::text);
    let uri = uri.ok_or("the metadata names no jwks_uri")?;
    Url::parse(uri).map_err(|why| format!("its jwks_uri {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_must_be_of_the_very_issuer() {
        let read = |text: &str| {
            read_metadata(text.as_bytes(), "https://id.test/a").map(|url| url.as_str().to_owned())
        };
        assert_eq!(
            read(r#"{"issuer":"https://id.test/a","jwks_uri":"https://keys.test/k?v=1"}"#).unwrap(),
            "https://keys.test/k?v=1"
        );
        for (bad, says) in [
            (
                r#"{"issuer":"https://id.test/a/","jwks_uri":"https://k.test/"}"#,
                "of the issuer",
            ),
            (r#"{"jwks_uri":"https://keys.test/"}"#, "no issuer"),
            (r#"{"issuer":"https://id.test/a"}"#, "no jwks_uri"),
            (
                r#"{"issuer":"https://id.test/a","jwks_uri":"http://keys.test/"}"#,
                "jwks_uri",
            ),
            (
                r#"{"issuer":"https://id.test/a","jwks_uri":"file:///etc/passwd"}"#,
                "jwks_uri",
            ),
            ("<html>", "not valid JSON"),
            (
                r#"{"issuer":"https://id.test/a","issuer":"b"}"#,
                "named twice",
            ),
        ] {
            let said = read(bad).unwrap_err();
            assert!(said.contains(says), "{bad}: {said}");
        }
    }
}
