//! The path prefix a plugin owns.
//!
//! In: the text of a file. Out: a canonical path without a slash at its end, so that two spellings
//! of one mount are equal and a mount is compared with a request's canonical path byte by byte. The
//! gateway's own paths cannot be mounts.

use std::fmt;

use gapura_protocol::path::{CanonicalPath, PathError};

/// A canonical path prefix of whole segments: `/`, or `/v1/lab` without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Mount(Box<str>);

/// The paths the gateway answers by itself (CONTRACT section 6).
pub(crate) const OWN_PATHS: [&str; 5] =
    ["/healthz", "/readyz", "/version", "/openapi.json", "/docs"];

/// Below this the gateway has paths of its own, now or later.
const RESERVED: &str = "/.gapura";

/// A lookup tries one prefix a depth, so depth is bounded.
pub(crate) const MAX_SEGMENTS: usize = 16;

/// Whether a canonical path is `/.gapura` or below it.
#[must_use]
pub(crate) fn is_reserved(path: &str) -> bool {
    path.strip_prefix(RESERVED)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Mount {
    /// Takes a mount as a file writes it.
    ///
    /// # Errors
    /// A clause that says what is wrong, to stand behind the field's name.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let path = CanonicalPath::parse(text.as_bytes()).map_err(|err| match err {
            PathError::NoLeadingSlash => {
                "must begin with /, such as /v1/plugins/billing".to_owned()
            }
            err => format!("can't be a mount: {err}; no request for it would be let in"),
        })?;
        let trimmed = match path.as_str().strip_suffix('/') {
            Some("") | None => path.as_str(),
            Some(trimmed) => trimmed,
        };
        if OWN_PATHS.contains(&trimmed) || is_reserved(trimmed) {
            return Err(format!(
                "can't be {trimmed}: the gateway answers there itself; choose another mount"
            ));
        }
        let mount = Self(trimmed.into());
        if mount.segments() > MAX_SEGMENTS {
            Err(format!("can't have more than {MAX_SEGMENTS} segments"))
        } else {
            Ok(mount)
        }
    }

    /// The path.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// How many segments it has; `/` has none.
    #[must_use]
    pub(crate) fn segments(&self) -> usize {
        if self.is_root() {
            0
        } else {
            self.0.bytes().filter(|byte| *byte == b'/').count()
        }
    }

    /// Whether it takes whatever no other mount takes.
    #[must_use]
    pub(crate) fn is_root(&self) -> bool {
        &*self.0 == "/"
    }

    /// What is left of a path below this mount, `/` where nothing is; `None` if the path is not
    /// below it.
    #[must_use]
    pub(crate) fn rest<'p>(&self, path: &'p str) -> Option<&'p str> {
        if self.is_root() {
            return Some(path);
        }
        match path.strip_prefix(&*self.0)? {
            "" => Some("/"),
            rest if rest.starts_with('/') => Some(rest),
            _ => None,
        }
    }
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_mount_is_one_mount() {
        for (text, mount) in [
            ("/", "/"),
            ("//", "/"),
            ("/a", "/a"),
            ("/a/", "/a"),
            ("//a//", "/a"),
            ("/v1/l%61b", "/v1/lab"),
            ("/a%c3%a9", "/a%C3%A9"),
            ("/healthz/x", "/healthz/x"),
            ("/versions", "/versions"),
            ("/docs/api", "/docs/api"),
        ] {
            assert_eq!(
                Mount::parse(text).map(|mount| mount.to_string()).as_deref(),
                Ok(mount),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_what_no_request_could_reach_or_is_the_gateways_own() {
        for text in [
            "",
            "a",
            "/a/../b",
            "/a;b",
            "/a%2fb",
            "/a\\b",
            "/a?b",
            "/a b",
            "/é",
            "/a%",
            "https://a/b",
        ] {
            assert!(Mount::parse(text).is_err(), "{text}");
        }
        for text in [
            "/healthz",
            "/readyz/",
            "/version",
            "//openapi.json",
            "/%68ealthz",
            "/docs/",
        ] {
            assert!(
                Mount::parse(text)
                    .unwrap_err()
                    .contains("the gateway answers there itself"),
                "{text}"
            );
        }
        assert!(Mount::parse(&"/a".repeat(16)).is_ok());
        assert!(Mount::parse(&"/a".repeat(17)).is_err());
    }

    #[test]
    fn takes_whole_segments_only() {
        let rest = |mount: &str, path: &'static str| Mount::parse(mount).unwrap().rest(path);
        assert_eq!(rest("/v1/lab", "/v1/lab"), Some("/"));
        assert_eq!(rest("/v1/lab", "/v1/lab/"), Some("/"));
        assert_eq!(rest("/v1/lab", "/v1/lab/a/b"), Some("/a/b"));
        assert_eq!(rest("/v1/lab", "/v1/labs"), None);
        assert_eq!(rest("/v1/lab", "/v1"), None);
        assert_eq!(rest("/", "/v1/labs"), Some("/v1/labs"));
        assert_eq!(rest("/", "/"), Some("/"));
    }
}
