//! Where a plugin's operations are for those who call the gateway.
//!
//! In: where the plugin is mounted, and what its document says of servers. Out: the public path of
//! an operation. Of a server only the path counts: its host is one that clients never see.

use serde_json::{Map, Value};

use crate::document::Document;

/// Where a plugin is mounted, and what its clients may send.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    /// The plugin's name.
    pub plugin: &'a str,
    /// The path prefix that it owns.
    pub mount: &'a str,
    /// Whether it gets paths with the mount still on them.
    pub keeps_mount: bool,
    /// Where it serves its document; relative servers begin there.
    pub found_at: &'a str,
    /// What a caller has to bring.
    pub door: Door,
    /// Whether a client's header of this name reaches it.
    pub passes: &'a dyn Fn(&str) -> bool,
    /// Whether a public path leads to it.
    pub leads_here: &'a dyn Fn(&str) -> bool,
}

/// What a caller has to bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// A bearer token.
    Token,
    /// Nothing.
    Open,
}

impl Site<'_> {
    /// The public path of an operation; `None` where no request reaches it.
    pub(crate) fn public(
        &self,
        document: &Document,
        item: &Map<String, Value>,
        operation: &Map<String, Value>,
        path: &str,
    ) -> Option<String> {
        let root = document.root().get("servers");
        let servers = operation.get("servers").or(item.get("servers")).or(root);
        let first = servers.and_then(|servers| servers.get(0));
        let base = first.map_or(Some(String::new()), |server| base(server, self.found_at))?;
        let public = self.place(&base, path)?;
        (self.leads_here)(&public).then_some(public)
    }

    fn place(&self, base: &str, path: &str) -> Option<String> {
        let below = |path: &str| {
            let rest = path.strip_prefix(self.mount);
            self.mount == "/" || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let own = format!("{base}{path}");
        if self.keeps_mount {
            return below(&own).then_some(own);
        }
        // A document that names the mount itself speaks of public paths already, as those of
        // frameworks behind a prefix do.
        if self.mount == "/" || below(base) {
            return Some(own);
        }
        Some(format!("{}{own}", self.mount))
    }
}

/// A server with a longer one serves nobody: each operation's path would carry it.
const URL_MAX: usize = 1024;

/// The path of a server, without a slash at its end; `None` if it is too long to be one.
fn base(server: &Value, found_at: &str) -> Option<String> {
    let url = server
        .get("url")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let url = match filled(url, server.get("variables")) {
        Filled::Url(url) => url,
        Filled::Unknown => return Some(String::new()),
        Filled::TooLong => return None,
    };
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let behind_host = url.split_once("//").map(|(_, rest)| rest);
    let path = match behind_host {
        Some(rest) => rest.split_once('/').map_or("", |(_, path)| path),
        None => url,
    };
    let mut segments: Vec<&str> = Vec::new();
    if behind_host.is_none() && !url.starts_with('/') {
        segments.extend(found_at.split('/'));
        segments.pop();
    }
    for segment in path.split('/') {
        match segment {
            "." => {}
            ".." => {
                segments.pop();
            }
            _ => segments.push(segment),
        }
    }
    segments.retain(|segment| !segment.is_empty());
    let mut base = String::new();
    for segment in segments {
        base.push('/');
        base.push_str(segment);
    }
    Some(base)
}

/// A server's URL with each variable at its default.
enum Filled {
    Url(String),
    /// A variable has no default.
    Unknown,
    TooLong,
}

fn filled(url: &str, variables: Option<&Value>) -> Filled {
    let default = |name: &str| variables?.get(name)?.get("default")?.as_str();
    if url.len() > URL_MAX {
        return Filled::TooLong;
    }
    let mut parts = url.split('{');
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let known = part.split_once('}');
        let known = known.and_then(|(name, rest)| Some((default(name)?, rest)));
        let Some((value, rest)) = known else {
            return Filled::Unknown;
        };
        if filled.len() + value.len() + rest.len() > URL_MAX {
            return Filled::TooLong;
        }
        filled.push_str(value);
        filled.push_str(rest);
    }
    Filled::Url(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn site<'a>(mount: &'a str, keeps_mount: bool) -> Site<'a> {
        Site {
            plugin: "lab",
            mount,
            keeps_mount,
            found_at: "/api/openapi.json",
            door: Door::Token,
            passes: &|_| true,
            leads_here: &|_| true,
        }
    }

    #[test]
    fn of_a_server_only_the_path_counts() {
        for (url, path) in [
            ("/", ""),
            ("", "/api"),
            ("/v1/", "/v1"),
            ("https://elsewhere:81/v1/x/?a#b", "/v1/x"),
            ("//elsewhere", ""),
            ("http://localhost:5000", ""),
            (".", "/api"),
            ("../v2", "/v2"),
            ("../../../v2", "/v2"),
            ("v3", "/api/v3"),
            ("https://{host}/{base}", "/v4"),
            ("/{unknown}/x", ""),
        ] {
            let server = json!({"url": url, "variables": {"host": {"default": "h"}, "base": {"default": "v4"}}});
            let base = base(&server, "/api/openapi.json");
            assert_eq!(base.as_deref(), Some(path), "{url}");
        }
    }

    #[test]
    fn a_server_is_no_longer_than_one_that_serves() {
        let long = |times: usize| {
            let default = "/a".repeat(URL_MAX / 8);
            let server =
                json!({"url": "{v}".repeat(times), "variables": {"v": {"default": default}}});
            base(&server, "/openapi.json")
        };
        assert!(long(4).is_some());
        assert!(long(5).is_none() && long(100_000).is_none());
    }

    #[test]
    fn a_path_is_below_the_mount_however_the_document_says_it() {
        for (mount, keeps, base, path, public) in [
            ("/v1/lab", false, "", "/reports", Some("/v1/lab/reports")),
            (
                "/v1/lab",
                false,
                "/api",
                "/reports",
                Some("/v1/lab/api/reports"),
            ),
            (
                "/v1/lab",
                false,
                "/v1/lab",
                "/reports",
                Some("/v1/lab/reports"),
            ),
            (
                "/v1/lab",
                false,
                "/v1/labs",
                "/x",
                Some("/v1/lab/v1/labs/x"),
            ),
            (
                "/v1/lab",
                true,
                "",
                "/v1/lab/reports",
                Some("/v1/lab/reports"),
            ),
            (
                "/v1/lab",
                true,
                "/v1/lab",
                "/reports",
                Some("/v1/lab/reports"),
            ),
            ("/v1/lab", true, "", "/reports", None),
            ("/", false, "/api", "/reports", Some("/api/reports")),
            ("/", true, "", "/", Some("/")),
            ("/lab", false, "", "/", Some("/lab/")),
        ] {
            let placed = site(mount, keeps).place(base, path);
            assert_eq!(placed.as_deref(), public, "{mount} {keeps} {base} {path}");
        }
    }
}
