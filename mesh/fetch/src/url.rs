//! The address of a document: `https`, a host, perhaps a port, a path, perhaps a query.
//!
//! In: a text that an operator or a provider wrote. Out: a [`Url`] that can be fetched, or what is
//! wrong with it. Plain `http` is for this machine alone: keys that came over a network unprotected
//! could be anybody's. No user, no password, no fragment.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use http::Uri;

/// The address of a document.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    text: Box<str>,
    tls: bool,
    /// In lower case; an IPv6 address without its brackets.
    host: Box<str>,
    port: u16,
    target: Box<str>,
}

/// The longest address.
const LONGEST: usize = 2048;

impl Url {
    /// Reads an address; the error is a sentence without its subject.
    ///
    /// # Errors
    /// If it is no address that is fetched here.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Self::parse_plain(text)?;
        if !url.tls && !url.is_here() {
            return Err("is plain http, and what comes over a network unprotected could be anybody's; use https".to_owned());
        }
        Ok(url)
    }

    /// The same, in plain http to any host too: for what is sent there and not believed from there.
    ///
    /// # Errors
    /// If it is no address.
    pub fn parse_plain(text: &str) -> Result<Self, String> {
        let lower = text.get(..8).unwrap_or(text).to_ascii_lowercase();
        if !lower.starts_with("https://") && !lower.starts_with("http://") {
            return Err("is no https:// address".to_owned());
        }
        if text.len() > LONGEST
            || text.contains('#')
            || !text.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err("is no address: write https://HOST/PATH, without a fragment".to_owned());
        }
        let uri: Uri = text
            .parse()
            .map_err(|_| "is no address: write https://HOST/PATH".to_owned())?;
        let authority = uri
            .authority()
            .map(http::uri::Authority::as_str)
            .unwrap_or_default();
        if authority.contains('@') {
            return Err("holds a user or a password, which are not sent".to_owned());
        }
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let bare = bare.unwrap_or(&host);
        if bare.is_empty() {
            return Err("has no host".to_owned());
        }
        let tls = lower.starts_with("https://");
        // What follows the host is read here: the library takes a port that is none for no port at
        // all.
        let port = match authority.get(host.len()..).unwrap_or_default() {
            "" => Some(if tls { 443 } else { 80 }),
            rest => rest
                .strip_prefix(':')
                .and_then(|port| port.parse::<u16>().ok()),
        };
        let port = port
            .filter(|port| *port != 0)
            .ok_or("has a port that is none")?;
        Ok(Self {
            tls,
            host: bare.into(),
            port,
            target: uri
                .path_and_query()
                .map_or("/", |target| target.as_str())
                .into(),
            text: text.into(),
        })
    }

    /// The address as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host, in lower case, an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it is fetched over TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Whether its host is this machine by its very name.
    #[must_use]
    pub fn is_here(&self) -> bool {
        is_here(&self.host)
    }

    /// The address for a sentence: a query may hold a key.
    #[must_use]
    pub fn without_query(&self) -> String {
        let end = self.text.find('?').unwrap_or(self.text.len());
        self.text.get(..end).unwrap_or_default().to_owned()
    }

    /// Path and query.
    pub(super) fn target(&self) -> &str {
        if self.target.is_empty() {
            "/"
        } else {
            &self.target
        }
    }

    /// What `Host` says.
    pub(super) fn authority(&self) -> String {
        let usual = if self.tls { 443 } else { 80 };
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.to_string()
        };
        if self.port == usual {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }

    /// Whether both are of one scheme, host and port.
    pub(super) fn is_same_origin(&self, other: &Self) -> bool {
        (self.tls, &self.host, self.port) == (other.tls, &other.host, other.port)
    }

    /// Where a `Location` leads from here: an address, or a path of this host.
    pub(super) fn join(&self, location: &str) -> Result<Self, String> {
        let scheme = if self.tls { "https" } else { "http" };
        let whole = if location.starts_with("//") {
            format!("{scheme}:{location}")
        } else if location.starts_with('/') {
            format!("{scheme}://{}{location}", self.authority())
        } else {
            location.to_owned()
        };
        Self::parse(&whole).map_err(|why| format!("it redirects to what {why}"))
    }
}

fn is_here(host: &str) -> bool {
    host == "localhost"
        || host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
        || host.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_loopback())
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        for (text, host, port, target, authority) in [
            ("https://id.test", "id.test", 443, "/", "id.test"),
            (
                "HTTPS://ID.test:8443/a?b=c",
                "id.test",
                8443,
                "/a?b=c",
                "id.test:8443",
            ),
            (
                "https://[2001:db8::1]/k",
                "2001:db8::1",
                443,
                "/k",
                "[2001:db8::1]",
            ),
            (
                "http://127.0.0.1:8080/k",
                "127.0.0.1",
                8080,
                "/k",
                "127.0.0.1:8080",
            ),
            ("http://localhost/k", "localhost", 80, "/k", "localhost"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.host(), url.port()), (host, port), "{text}");
            assert_eq!(
                (url.target(), &*url.authority()),
                (target, authority),
                "{text}"
            );
            assert_eq!(url.as_str(), text);
        }
    }

    #[test]
    fn what_is_not_fetched_is_refused() {
        for bad in [
            "",
            "id.test",
            "ftp://id.test/",
            "file:///etc/passwd",
            "https://",
            "https:///k",
            "https://u:p@id.test/",
            "https://id.test/#f",
            "https://id.test:0/",
            "https://id.test:99999/",
            "https://id test/",
            "https://id.test/\r\nX: y",
            "https://é.test/",
            "http://id.test/",
            "http://10.0.0.1/",
            "http://localhost.evil/",
            "http://169.254.169.254/",
            "gopher://x",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_only_sent_may_go_in_plain_http_and_is_told_without_its_query() {
        let url = Url::parse_plain("http://collector:4318/v1/traces?key=1").unwrap();
        assert!(!url.is_tls() && !url.is_here());
        assert_eq!(url.without_query(), "http://collector:4318/v1/traces");
        assert!(Url::parse_plain("http://localhost:4318").unwrap().is_here());
        for bad in [
            "collector:4318",
            "grpc://collector:4317",
            "http://u:p@collector/",
        ] {
            assert!(Url::parse_plain(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_redirect_is_an_address_or_a_path_of_the_same_host() {
        let url = Url::parse("https://id.test:8443/a").unwrap();
        let to = |location: &str| {
            let next = url.join(location)?;
            Ok::<_, String>((next.as_str().to_owned(), next.is_same_origin(&url)))
        };
        assert_eq!(
            to("/b").unwrap(),
            ("https://id.test:8443/b".to_owned(), true)
        );
        assert!(to("https://ID.test:8443/b").unwrap().1);
        for elsewhere in [
            "https://id.test/b",
            "//evil.test/b",
            "https://id.test.evil:8443/",
        ] {
            assert!(!to(elsewhere).unwrap().1, "{elsewhere}");
        }
        for bad in ["b", "http://id.test:8443/b", "", "javascript:1"] {
            assert!(to(bad).is_err(), "{bad}");
        }
    }
}
