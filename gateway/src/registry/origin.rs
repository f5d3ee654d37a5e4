//! Origins of pages in browsers, as files list them and as requests say them.
//!
//! In: the texts of a list. Out: an [`OriginSet`] that compares whole origins, as RFC 6454 writes
//! them: a scheme, a host and a port that is not the scheme's own. A text that no browser would
//! ever send is a mistake and is told what to write instead; `https://*.example.com` stands for one
//! label, and never for a part of one.

use std::collections::HashSet;

use gapura_protocol::host;
use gapura_settings::json::Position;

/// The origins of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OriginSet {
    any: bool,
    exact: HashSet<Box<str>>,
    /// What stands before and behind the one label.
    labels: Vec<(Box<str>, Box<str>)>,
}

impl OriginSet {
    /// Reads a list; `any` says whether `"*"` may stand in it.
    ///
    /// # Errors
    /// Each entry that is no origin: where it stands, and a clause that says what is wrong.
    pub(crate) fn read<'t>(
        texts: impl IntoIterator<Item = (&'t str, Position)>,
        any: bool,
    ) -> Result<Self, Vec<(Position, String)>> {
        let mut set = Self::default();
        let mut faults = Vec::new();
        for (text, position) in texts {
            match set.add(text, any) {
                Ok(()) => {}
                Err(message) => faults.push((position, message)),
            }
        }
        if faults.is_empty() {
            Ok(set)
        } else {
            Err(faults)
        }
    }

    /// Whether a page of this origin is meant.
    #[must_use]
    pub(crate) fn has(&self, origin: &str) -> bool {
        self.any
            || self.exact.contains(origin)
            || self.labels.iter().any(|(before, behind)| {
                origin
                    .strip_prefix(&**before)
                    .and_then(|rest| rest.strip_suffix(&**behind))
                    .is_some_and(is_label)
            })
    }

    /// Whether every origin is meant.
    #[must_use]
    pub(crate) fn is_any(&self) -> bool {
        self.any
    }

    /// Takes another list's origins in.
    pub(crate) fn extend(&mut self, other: &Self) {
        self.any |= other.any;
        self.exact.extend(other.exact.iter().cloned());
        self.labels.extend(other.labels.iter().cloned());
    }

    /// Whether every origin of `other` is one of these, as they are written.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let label = |(before, behind): &(Box<str>, Box<str>)| {
            self.labels
                .iter()
                .any(|mine| *mine.0 == **before && *mine.1 == **behind)
        };
        self.any
            || (!other.any
                && other.exact.iter().all(|origin| self.has(origin))
                && other.labels.iter().all(label))
    }

    fn add(&mut self, text: &str, any: bool) -> Result<(), String> {
        if text == "*" {
            self.any = true;
            return if any {
                Ok(())
            } else {
                Err("can't hold \"*\" here: name the origins".to_owned())
            };
        }
        if text == "null" {
            return Err(
                "can't hold null: every sandboxed page and local file has that origin".to_owned(),
            );
        }
        let Some((scheme, host)) = text.split_once("://") else {
            return Err(format!(
                "holds {}, which is no origin; write the scheme too, such as https://app.example.com",
                shown(text)
            ));
        };
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(format!(
                "holds {}; browsers send it as {}",
                shown(text),
                shown(&text.to_ascii_lowercase())
            ));
        }
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
        if !is_scheme || host.contains(['/', '?', '#', '@']) {
            let bare = host.split(['/', '?', '#']).next().unwrap_or_default();
            return Err(format!(
                "holds {}; an origin has no path, query or user, write {scheme}://{}",
                shown(text),
                shown(bare)
            ));
        }
        let (host, port) = split_port(host);
        if let Some(port) = port {
            let own = match scheme {
                "https" => "443",
                "http" => "80",
                _ => "",
            };
            let number = port.parse::<u16>().ok().map(|port| port.to_string());
            if port == own {
                return Err(format!(
                    "holds {}; browsers leave the scheme's own port out, write {scheme}://{}",
                    shown(text),
                    shown(host)
                ));
            }
            if number.as_deref() != Some(port) || port == "0" {
                return Err(format!("holds {}, whose port is none", shown(text)));
            }
        }
        if let Some(rest) = host.strip_prefix("*.") {
            if !is_host(rest) || rest.parse::<std::net::IpAddr>().is_ok() {
                return Err(no_host(text));
            }
            if !rest.contains('.') && rest != "localhost" {
                return Err(format!(
                    "holds {}, which would take the pages of strangers; name a domain of your own behind the *",
                    shown(text)
                ));
            }
            let behind = text
                .split_once('*')
                .map(|(_, behind)| behind)
                .unwrap_or_default();
            self.labels
                .push((format!("{scheme}://").into_boxed_str(), behind.into()));
            return Ok(());
        }
        if host.contains('*') {
            return Err(format!(
                "holds {}; a * stands for the whole first label only, such as https://*.example.com",
                shown(text)
            ));
        }
        if !is_host(host) {
            return Err(no_host(text));
        }
        self.exact.insert(text.into());
        Ok(())
    }
}

fn no_host(text: &str) -> String {
    format!(
        "holds {}, whose host is none; write it as browsers send it, names beyond ASCII as xn--…",
        shown(text)
    )
}

fn split_port(text: &str) -> (&str, Option<&str>) {
    let end = host::split_port(text.as_bytes()).0.len();
    (text.get(..end).unwrap_or_default(), text.get(end + 1..))
}

fn is_host(text: &str) -> bool {
    if text.starts_with('[') {
        return host::bracketed(text).is_some();
    }
    host::is_name(text) && is_lower(text)
}

fn is_label(text: &str) -> bool {
    host::is_label(text) && is_lower(text)
}

/// Browsers send names in lower case.
fn is_lower(text: &str) -> bool {
    !text.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(texts: &[&str]) -> Result<OriginSet, String> {
        OriginSet::read(texts.iter().map(|text| (*text, Position::START)), true)
            .map_err(|faults| faults[0].1.clone())
    }

    #[test]
    fn origins_are_compared_whole() {
        let set = set(&[
            "https://app.example.com",
            "http://localhost:3000",
            "http://[::1]:8080",
            "app://x",
        ])
        .unwrap();
        for origin in [
            "https://app.example.com",
            "http://localhost:3000",
            "http://[::1]:8080",
            "app://x",
        ] {
            assert!(set.has(origin), "{origin}");
        }
        for origin in [
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com.evil.com",
            "https://evil-app.example.com",
            "https://APP.example.com",
            "http://localhost",
            "null",
            "",
        ] {
            assert!(!set.has(origin), "{origin}");
        }
    }

    #[test]
    fn a_star_is_one_whole_label() {
        let set = set(&["https://*.example.com", "https://*.shop.test:8443"]).unwrap();
        for origin in ["https://a.example.com", "https://a-1.shop.test:8443"] {
            assert!(set.has(origin), "{origin}");
        }
        for origin in [
            "https://example.com",
            "https://a.b.example.com",
            "https://.example.com",
            "https://evil.com/.example.com",
            "https://evil.com#.example.com",
            "https://user@.example.com",
            "http://a.example.com",
            "https://a.example.com:8443",
            "https://a.shop.test",
            "https://aexample.com",
        ] {
            assert!(!set.has(origin), "{origin}");
        }
    }

    #[test]
    fn what_no_browser_sends_is_told_what_to_write() {
        for (text, says) in [
            ("null", "can't hold null"),
            ("app.example.com", "write the scheme too"),
            (
                "https://App.example.com",
                "browsers send it as https://app.example.com",
            ),
            ("https://a.example.com/", "write https://a.example.com"),
            ("https://a.example.com/x", "write https://a.example.com"),
            ("https://u@a.example.com", "no path, query or user"),
            ("https://a.example.com:443", "write https://a.example.com"),
            ("http://a:80", "write http://a"),
            ("http://a:x", "port is none"),
            ("http://a:08", "port is none"),
            ("http://a:*", "port is none"),
            ("https://*.com", "the pages of strangers"),
            ("https://*", "the whole first label only"),
            ("https://a*.example.com", "the whole first label only"),
            ("https://a.*.example.com", "the whole first label only"),
            ("https://*.*.example.com", "whose host is none"),
            ("https://é.example.com", "whose host is none"),
            ("https://", "whose host is none"),
            ("https://a..b", "whose host is none"),
        ] {
            let said = set(&[text]).unwrap_err();
            assert!(said.contains(says), "{text}: {said}");
        }
        assert!(set(&["*"]).unwrap().has("https://any"));
        assert!(OriginSet::read([("*", Position::START)], false).is_err());
    }

    #[test]
    fn a_wider_list_is_told_from_a_narrower_one() {
        let covers =
            |mine: &[&str], theirs: &[&str]| set(mine).unwrap().covers(&set(theirs).unwrap());
        assert!(covers(&["https://a.b.c", "https://d.e"], &["https://d.e"]));
        assert!(!covers(&["https://d.e"], &["https://a.b.c", "https://d.e"]));
        assert!(covers(&["https://*.b.c"], &["https://a.b.c"]));
        assert!(!covers(&["https://a.b.c"], &["https://*.b.c"]));
        assert!(covers(&["*"], &["https://*.b.c"]) && !covers(&["https://a.b.c"], &["*"]));
    }
}
