//! Which of a client's headers that could speak for somebody a plugin gets to see, and which fixed
//! ones are added for it.
//!
//! In: the fields `forward_headers` and `inject_headers`. Out: [`HeaderPatterns`], and headers that
//! are safe to add to any request. No setting lets a reserved name through: the patterns hold them
//! back even where a `*` would take them.

use std::collections::BTreeSet;

use gapura_protocol::headers::{is_reserved, tells_who};
use gapura_settings::json::{Fields, Value};
use http::{HeaderName, HeaderValue};

use super::auth_mode::AuthMode;
use super::fields::{INJECTED_MAX, PATTERNS_MAX};

/// The `X-*` headers of a client that may pass to one plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeaderPatterns {
    exact: Vec<Box<str>>,
    prefixes: Vec<Box<str>>,
}

/// Names that decide how a message is framed, belong to one connection, or that the gateway writes
/// or drops by itself.
const NEVER_INJECTED: [&str; 16] = [
    "connection",
    "content-length",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What frames a message or says whom it is for: no setting drops it.
const FRAMING: [&str; 8] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// All injected values together; the hop takes 64 KiB of head, of which a client may use 32.
const INJECTED_BYTES_MAX: usize = 8 * 1024;

impl HeaderPatterns {
    /// Reads the field `forward_headers`.
    pub(super) fn read(fields: &mut Fields<'_, '_>) -> Self {
        let mut patterns = Self::default();
        let texts = fields.texts("forward_headers");
        if texts.len() > PATTERNS_MAX {
            fields.fault(
                "forward_headers",
                format_args!("lists more than {PATTERNS_MAX} names"),
            );
        }
        for (text, position) in texts {
            if let Err(message) = patterns.add(text) {
                fields.fault_at(position, "forward_headers", message);
            }
        }
        patterns
    }

    /// Reads the field `strip_headers`: of it [`Self::names_it`] tells what is meant.
    pub(super) fn read_stripped(fields: &mut Fields<'_, '_>) -> Self {
        let mut patterns = Self::default();
        let texts = fields.texts("strip_headers");
        if texts.len() > PATTERNS_MAX {
            fields.fault(
                "strip_headers",
                format_args!("lists more than {PATTERNS_MAX} names"),
            );
        }
        for (text, position) in texts {
            if let Err(message) = patterns.add_stripped(text) {
                fields.fault_at(position, "strip_headers", message);
            }
        }
        patterns
    }

    fn add_stripped(&mut self, text: &str) -> Result<(), String> {
        let lower = text.to_ascii_lowercase();
        let (name, open) = match lower.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (lower.as_str(), false),
        };
        let is_name = name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if name.is_empty() || !is_name || name.len() > 128 {
            return Err("takes names of A-Z a-z 0-9 -, with one * at the end at most".to_owned());
        }
        let framing = FRAMING
            .iter()
            .find(|framing| **framing == name || (open && framing.starts_with(name)));
        if let Some(framing) = framing {
            return Err(format!(
                "can't drop {framing}: it says where a request ends or whom it is for, and the gateway writes it anew"
            ));
        }
        let list = if open {
            &mut self.prefixes
        } else {
            &mut self.exact
        };
        list.push(name.into());
        Ok(())
    }

    /// Whether a name, in lower case, is one of those listed.
    #[must_use]
    pub(crate) fn names_it(&self, name: &str) -> bool {
        self.exact.iter().any(|exact| **exact == *name)
            || self
                .prefixes
                .iter()
                .any(|prefix| name.starts_with(&**prefix))
    }

    fn add(&mut self, text: &str) -> Result<(), String> {
        let lower = text.to_ascii_lowercase();
        let (name, open) = match lower.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (lower.as_str(), false),
        };
        let least = if open {
            format!("{name}a")
        } else {
            name.to_owned()
        };
        if !name.starts_with("x-") && !tells_who(&least) {
            return Err("takes names that begin with X-, and those by which proxies tell who somebody is; all others pass anyway".to_owned());
        }
        if !name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            || name.len() > 128
        {
            return Err("takes names of A-Z a-z 0-9 -, with one * at the end at most".to_owned());
        }
        if name == "x-" && !open {
            return Err("names no header; write X-* for all of them".to_owned());
        }
        // Rule 4 of section 4 says what becomes of a client's request id, whether it is named here
        // or not.
        if name == "x-request-id" && !open {
            return Ok(());
        }
        // Of a `*` only what it takes at the least is looked at; what more of reserved names it
        // takes is held back in `takes`.
        if is_reserved(&least) {
            return Err(format!(
                "can't let {text} through: the name is reserved for what Gapura itself says"
            ));
        }
        let list = if open {
            &mut self.prefixes
        } else {
            &mut self.exact
        };
        list.push(name.into());
        Ok(())
    }

    /// Whether a client's header of this name may pass. Never a reserved name, nor one with a
    /// character that some plugins read as another.
    #[must_use]
    pub(crate) fn takes(&self, name: &HeaderName) -> bool {
        let name = name.as_str();
        self.names_it(name)
            && !is_reserved(name)
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    }

    /// The same of a client that may be a `proxy` to believe: only such a one may tell who somebody
    /// is.
    #[must_use]
    pub(crate) fn takes_from(&self, name: &HeaderName, is_proxy: bool) -> bool {
        (is_proxy || !tells_who(name.as_str())) && self.takes(name)
    }

    /// The names and, with their `*`, the beginnings of names.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        let exact = self.exact.iter().map(ToString::to_string);
        exact.chain(self.prefixes.iter().map(|prefix| format!("{prefix}*")))
    }
}

/// Reads the field `inject_headers`. No fault ever holds a value: they may be secrets.
pub(super) fn read_injected(
    fields: &mut Fields<'_, '_>,
    auth: Option<AuthMode>,
) -> Vec<(HeaderName, HeaderValue)> {
    let members = fields.object("inject_headers").unwrap_or_default();
    let mut injected = Vec::new();
    let mut seen = BTreeSet::new();
    let mut bytes = 0;
    for member in members {
        let lower = member.name.to_ascii_lowercase();
        let passes_token = matches!(
            auth,
            Some(AuthMode::ForwardJwt | AuthMode::ForwardUnverified)
        );
        let wrong_name = if lower.is_empty()
            || !lower
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        {
            Some("takes names of A-Z a-z 0-9 -".to_owned())
        } else if is_reserved(&lower) && !lower.starts_with("x-plugin-") {
            Some(format!(
                "can't set {lower}: the name is reserved for what Gapura itself says; of those only X-Plugin-* may be set"
            ))
        } else if NEVER_INJECTED.contains(&lower.as_str()) {
            Some(format!(
                "can't set {lower}: it belongs to one connection or is written by the gateway"
            ))
        } else if lower == "authorization" && passes_token {
            Some("can't set authorization: with \"auth_mode\": \"forward_jwt\" the token passes there untouched".to_owned())
        } else if !seen.insert(lower.clone()) {
            Some(format!("names {lower} twice; keep one"))
        } else {
            None
        };
        if let Some(message) = wrong_name {
            fields.fault_at(member.position, "inject_headers", message);
            continue;
        }
        let Value::Text(text) = &member.value.value else {
            let message = format_args!("must give {lower} a string, found {}", member.value.kind());
            fields.fault_at(member.value.position, "inject_headers", message);
            continue;
        };
        bytes += text.len();
        let visible =
            text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) && text.trim_ascii() == text;
        match (
            HeaderName::from_bytes(lower.as_bytes()),
            HeaderValue::from_str(text),
        ) {
            (Ok(name), Ok(mut value)) if visible => {
                value.set_sensitive(true);
                injected.push((name, value));
            }
            _ => {
                let message = format_args!(
                    "must give {lower} visible ASCII characters, without a space at either end"
                );
                fields.fault_at(member.value.position, "inject_headers", message);
            }
        }
    }
    if members.len() > INJECTED_MAX || bytes > INJECTED_BYTES_MAX {
        fields.fault(
            "inject_headers",
            format_args!(
                "may hold {INJECTED_MAX} headers and 8 KiB of values; use fewer or shorter ones"
            ),
        );
    }
    injected
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(json: &str) -> Result<HeaderPatterns, Vec<String>> {
        let mut faults = Vec::new();
        let text = format!("{{\"forward_headers\": {json}}}");
        let node = gapura_settings::json::parse(text.as_bytes(), &mut faults).unwrap();
        let read = HeaderPatterns::read(
            &mut Fields::open(&node, "", &["forward_headers"], &mut faults).unwrap(),
        );
        if faults.is_empty() {
            Ok(read)
        } else {
            Err(faults.iter().map(ToString::to_string).collect())
        }
    }

    fn injected(json: &str, auth: AuthMode) -> Result<Vec<(HeaderName, HeaderValue)>, Vec<String>> {
        let mut faults = Vec::new();
        let text = format!("{{\"inject_headers\": {json}}}");
        let node = gapura_settings::json::parse(text.as_bytes(), &mut faults).unwrap();
        let read = read_injected(
            &mut Fields::open(&node, "", &["inject_headers"], &mut faults).unwrap(),
            Some(auth),
        );
        if faults.is_empty() {
            Ok(read)
        } else {
            Err(faults.iter().map(ToString::to_string).collect())
        }
    }

    fn takes(patterns: &HeaderPatterns, name: &str) -> bool {
        patterns.takes(&HeaderName::from_bytes(name.as_bytes()).unwrap())
    }

    #[test]
    fn drops_what_is_named_and_never_the_framing() {
        let read = |json: &str| {
            let mut faults = Vec::new();
            let text = format!("{{\"strip_headers\": {json}}}");
            let node = gapura_settings::json::parse(text.as_bytes(), &mut faults).unwrap();
            let read = HeaderPatterns::read_stripped(
                &mut Fields::open(&node, "", &["strip_headers"], &mut faults).unwrap(),
            );
            faults
                .first()
                .map_or(Ok(read), |fault| Err(fault.to_string()))
        };
        let stripped = read("[\"Accept-Language\", \"Sec-*\"]").unwrap();
        for (name, is_named) in [
            ("accept-language", true),
            ("accept", false),
            ("sec-fetch-site", true),
            ("secret", false),
        ] {
            assert_eq!(stripped.names_it(name), is_named, "{name}");
        }
        for (json, says) in [
            ("[\"Host\"]", "can't drop host"),
            ("[\"content-length\"]", "can't drop content-length"),
            ("[\"Content-*\"]", "can't drop content-length"),
            ("[\"*\"]", "takes names of"),
            ("[\"a_b\"]", "takes names of"),
        ] {
            let said = read(json).unwrap_err();
            assert!(said.contains(says), "{json}: {said}");
        }
    }

    #[test]
    fn takes_what_is_named_and_nothing_reserved() {
        let named = patterns("[\"X-Locale\", \"X-Shop-*\", \"X-Request-Id\"]").unwrap();
        for name in ["x-locale", "x-shop-", "x-shop-a"] {
            assert!(takes(&named, name), "{name}");
        }
        for name in [
            "x-local",
            "x-locale-a",
            "x-shop",
            "x-request-id",
            "x-shop-a_b",
            "x-shop-a.b",
        ] {
            assert!(!takes(&named, name), "{name}");
        }
        let all = patterns("[\"X-*\", \"x-forw*\"]").unwrap();
        assert!(takes(&all, "x-anything") && takes(&all, "x-forwards"));
        for name in [
            "x-user-id",
            "x-company-id",
            "x-role",
            "x-request-id",
            "x-real-ip",
            "x-plugin-a",
            "x-internal-a",
            "x-forwarded-for",
            "x-gapura-auth",
        ] {
            assert!(!takes(&all, name) && is_reserved(name), "{name}");
        }
        assert!(!takes(&HeaderPatterns::default(), "x-a"));
    }

    #[test]
    fn refuses_patterns_that_would_let_a_reserved_name_through() {
        for name in [
            "X-User-Id",
            "x-company-id",
            "X-ROLE",
            "X-Real-Ip",
            "X-Plugin-A",
            "X-Plugin-*",
            "X-Internal-Sig*",
            "X-Forwarded-For",
            "X-Gapura-*",
        ] {
            let faults = patterns(&format!("[\"X-Ok\", \"{name}\"]")).unwrap_err();
            assert!(
                faults.len() == 1 && faults[0].starts_with("1:30: \"forward_headers\" can't let"),
                "{faults:?}"
            );
        }
        for name in [
            "Accept", "*", "", "X", "X-", "X-a b", "X-A_B", "X-*-a", "X-**", "X-é",
        ] {
            assert_eq!(
                patterns(&format!("[\"{name}\"]")).unwrap_err().len(),
                1,
                "{name}"
            );
        }
        assert!(
            patterns("[1]").is_err() && patterns("\"X-A\"").is_err() && patterns("{}").is_err()
        );
        assert!(patterns(&format!("[{}\"X-A\"]", "\"X-A\",".repeat(64))).is_err());
    }

    #[test]
    fn injects_fixed_headers_and_never_shows_them() {
        let headers = injected(
            "{\"X-Plugin-Key\": \"s3cret\", \"Authorization\": \"Basic abc\", \"X-Empty\": \"\"}",
            AuthMode::GatewayVerified,
        )
        .unwrap();
        assert_eq!(headers.len(), 3);
        assert_eq!(headers[0].0, "x-plugin-key");
        assert_eq!(headers[0].1, "s3cret");
        assert!(!format!("{headers:?}").contains("s3cret"));
    }

    #[test]
    fn refuses_headers_that_are_not_a_files_to_set() {
        for name in [
            "X-User-Id",
            "x-company-id",
            "X-Role",
            "X-Request-Id",
            "X-Internal-A",
            "X-Forwarded-For",
            "X-Real-Ip",
            "X-Gapura-Auth",
            "Host",
            "Cookie",
            "Forwarded",
            "Content-Length",
            "Transfer-Encoding",
            "Connection",
            "Keep-Alive",
            "TE",
            "Trailer",
            "Upgrade",
            "Proxy",
            "Proxy-Connection",
            "",
            "X_User_Id",
            "a b",
            "é",
        ] {
            let faults = injected(
                &format!("{{\"{name}\": \"s3cret\"}}"),
                AuthMode::GatewayVerified,
            )
            .unwrap_err();
            assert!(
                faults.len() == 1 && !faults[0].contains("s3cret"),
                "{faults:?}"
            );
        }
        assert!(injected("{\"Authorization\": \"a\"}", AuthMode::ForwardJwt).is_err());
        assert!(
            injected("{\"X-A\": \"a\", \"x-a\": \"b\"}", AuthMode::Public).unwrap_err()[0]
                .contains("twice")
        );
        for value in [
            "\"s3crét\"",
            "\"s3cret\\n\"",
            "\" s3cret\"",
            "\"s3cret \"",
            "\"s3cret\\u007f\"",
            "7",
            "[\"s3cret\"]",
        ] {
            let faults = injected(&format!("{{\"X-A\": {value}}}"), AuthMode::Public).unwrap_err();
            assert!(
                faults.len() == 1 && !faults[0].contains("s3cr"),
                "{faults:?}"
            );
        }
        let many: Vec<String> = (0..13).map(|at| format!("\"X-A{at}\": \"a\"")).collect();
        assert!(injected(&format!("{{{}}}", many.join(",")), AuthMode::Public).is_err());
        assert!(injected(&format!("{{{}}}", many[..12].join(",")), AuthMode::Public).is_ok());
        assert!(
            injected(
                &format!("{{\"X-A\": \"{}\"}}", "a".repeat(8193)),
                AuthMode::Public
            )
            .is_err()
        );
    }
}
