//! The one rule of which header may pass, on both ends of the hop (CONTRACT section 4).
//!
//! In: the header map of a message as its sender wrote it. Out: what of it may pass, the same map
//! or its fields one by one, and a count of what was taken, by kind. Pure functions: nothing here
//! knows of connections, tokens or the registry.
//! Invariant: whatever a client or a plugin sends, after `scrub_*` and `pass_*` no name is left
//! that reads as one of ours, in any spelling that WSGI, CGI or PHP would fold to one; so that what
//! is inserted afterwards stands there once and is true.

mod context;
mod proxies;
mod trailers;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, Entry, HOST, HeaderMap, HeaderName,
    HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};

pub use context::{Auth, BadContext, HopContext, hop_context};
pub use proxies::tells_who;
pub use trailers::{
    announced_by_request, announced_by_response, scrub_request_trailers, scrub_response_trailers,
};

/// The name of a request everywhere.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The user of a request.
pub const X_USER_ID: HeaderName = HeaderName::from_static("x-user-id");
/// The tenant of a request.
pub const X_COMPANY_ID: HeaderName = HeaderName::from_static("x-company-id");
/// The caller's roles.
pub const X_ROLE: HeaderName = HeaderName::from_static("x-role");
/// Who acts for the user, where it is not the user.
pub const X_ACTOR_ID: HeaderName = HeaderName::from_static("x-actor-id");
/// What the gateway proved: `verified`, `unverified` or `public`. On the hop only.
pub const X_GAPURA_AUTH: HeaderName = HeaderName::from_static("x-gapura-auth");
/// The further `X-*` headers that the gateway vouches for. On the hop only.
pub const X_GAPURA_VOUCHED: HeaderName = HeaderName::from_static("x-gapura-vouched");
/// Marks the gateway's own probes. On the hop only.
pub const X_GAPURA_PROBE: HeaderName = HeaderName::from_static("x-gapura-probe");
/// The code of an answer that the sidecar made itself. On the hop only.
pub const X_GAPURA_MADE: HeaderName = HeaderName::from_static("x-gapura-made");
/// The client's address, behind those that trusted proxies named.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The scheme the client used.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The host the client asked for.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The mount that was taken off the path.
pub const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
/// How many milliseconds are left for the answer, as Envoy tells its upstreams.
pub const X_ENVOY_EXPECTED_RQ_TIMEOUT_MS: HeaderName =
    HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
/// The proof for plugins behind plain HTTP.
pub const X_INTERNAL_SIGNATURE: HeaderName = HeaderName::from_static("x-internal-signature");
/// W3C Trace Context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// W3C Trace Context, the vendors' part.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

crate::labelled! {
    /// Why a header was taken.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Kind {
        /// A reserved name: it would speak for the gateway.
        Identity = "identity",
        /// Another `X-*` name, `Forwarded` and the like.
        X = "x",
        /// For one connection only (RFC 9110, section 7.6.1).
        HopByHop = "hop_by_hop",
        /// Named by a `Connection` line.
        Nominated = "nominated",
        /// A character outside `[A-Za-z0-9-]` in the name.
        Alias = "alias",
        /// A trailer that is not let through.
        Trailer = "trailer",
    }
}

/// How many headers were taken, by [`Kind`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stripped([u32; 6]);

impl Stripped {
    /// How many of one kind.
    #[must_use]
    pub fn of(&self, kind: Kind) -> u32 {
        self.0[kind as usize]
    }

    /// How many in all.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.0.iter().sum()
    }

    /// Counts `count` more of a kind.
    pub fn add(&mut self, kind: Kind, count: u32) {
        self.0[kind as usize] += count;
    }

    /// Counts one fewer of a kind: what was taken stands in its place again.
    pub fn pardon(&mut self, kind: Kind) {
        let count = &mut self.0[kind as usize];
        *count = count.saturating_sub(1);
    }
}

/// A value that no other message has, which HPACK is told never to index (RFC 7541, section 7.1.3):
/// in the table of a shared connection it would push out what all of them say, and be compared with
/// each of its kind that is still there. HTTP/1.1 writes it as any.
#[must_use]
pub fn unindexed(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

/// Whether a name, in lower case, is one that only Gapura may write.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("x-") else {
        return false;
    };
    matches!(
        rest,
        "user-id" | "company-id" | "role" | "actor-id" | "request-id" | "real-ip"
    ) || ["plugin-", "internal-", "forwarded-", "gapura-"]
        .iter()
        .any(|prefix| rest.starts_with(prefix))
}

/// Whether a name is safe from being folded into another: only letters, digits and `-`.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| PLAIN[usize::from(byte)])
}

/// The characters of such a name, looked up since each one of each field is asked.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 128_u8 {
        plain[byte as usize] = byte.is_ascii_alphanumeric() || byte == b'-';
        byte += 1;
    }
    plain
};

/// The reserved name that a plugin might read a name with odd characters as.
fn folds_to_reserved(name: &str) -> bool {
    let folded: String = name
        .chars()
        .map(|char| {
            if char.is_ascii_alphanumeric() {
                char
            } else {
                '-'
            }
        })
        .collect();
    is_reserved(&folded)
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    *name == CONNECTION
        || *name == TE
        || *name == TRAILER
        || *name == TRANSFER_ENCODING
        || *name == UPGRADE
        || matches!(
            name.as_str(),
            "keep-alive"
                | "proxy-connection"
                | "proxy-authenticate"
                | "proxy-authorization"
                | "http2-settings"
                | "expect"
        )
}

/// The names that all `Connection` lines of a map list, in lower case (RFC 9110, section 7.6.1).
/// Bytes that are no name stay out.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let mut names = Vec::new();
    if !headers.keys().any(|name| *name == CONNECTION) {
        return names;
    }
    for line in headers.get_all(CONNECTION) {
        for option in line.as_bytes().split(|byte| *byte == b',') {
            let option = option.trim_ascii();
            // The two options of every second request name no header.
            if option.eq_ignore_ascii_case(b"keep-alive") || option.eq_ignore_ascii_case(b"close") {
                continue;
            }
            names.extend(HeaderName::from_bytes(option).ok());
        }
    }
    names
}

/// Headers whose going would change what the message is, or whose it is; they are framed, set anew
/// or taken by who reads them. A token that was judged at the door is the one that the plugin
/// judges again.
fn is_never_nominated(name: &HeaderName) -> bool {
    *name == HOST || *name == CONTENT_LENGTH || *name == AUTHORIZATION
}

/// Whether any `Connection` line holds `option`.
#[must_use]
pub fn connection_has(headers: &HeaderMap, option: &str) -> bool {
    let lines = headers.get_all(CONNECTION).into_iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .any(|part| part.trim_ascii().eq_ignore_ascii_case(option.as_bytes()))
}

/// Removes every header for which `judge` finds a kind.
fn remove_where(
    headers: &mut HeaderMap,
    stripped: &mut Stripped,
    judge: impl Fn(&HeaderName) -> Option<Kind>,
) {
    // Nothing is allocated for the usual message, of which one name goes at most: the `Connection`
    // of an answer.
    let (mut first, mut others) = (None, Vec::new());
    for name in headers.keys() {
        if let Some(kind) = judge(name) {
            match first {
                None => first = Some((name.clone(), kind)),
                Some(_) => others.push((name.clone(), kind)),
            }
        }
    }
    for (name, kind) in first.into_iter().chain(others) {
        if let Entry::Occupied(entry) = headers.entry(name) {
            let (_, values) = entry.remove_entry_mult();
            stripped.add(kind, u32::try_from(values.count()).unwrap_or(u32::MAX));
        }
    }
}

/// Rule 1: gives to `pass` each field of a client's request that may go on, and counts the others.
/// `forwarded` says which `X-*` names, and names by which proxies tell who somebody is, the plugin
/// asks for. `Host`, `Content-Length` and `Authorization` are the caller's business. Nothing is
/// removed: what goes on is a map of its own, and the request as it came can be asked again.
pub fn pass_client_request<'h>(
    headers: &'h HeaderMap,
    forwarded: impl Fn(&HeaderName) -> bool,
    mut pass: impl FnMut(&'h HeaderName, &'h HeaderValue),
) -> Stripped {
    let mut stripped = Stripped::default();
    let nominated = nominated(headers);
    for (name, value) in headers {
        match judge_of_client(name, &nominated, &forwarded) {
            None => pass(name, value),
            Some(kind) => stripped.add(kind, 1),
        }
    }
    stripped
}

fn judge_of_client(
    name: &HeaderName,
    nominated: &[HeaderName],
    forwarded: impl Fn(&HeaderName) -> bool,
) -> Option<Kind> {
    let text = name.as_str();
    if !is_plain(text) {
        return Some(Kind::Alias);
    }
    if is_hop_by_hop(name) {
        return Some(Kind::HopByHop);
    }
    if is_reserved(text) {
        return Some(Kind::Identity);
    }
    if nominated.contains(name) {
        return (!is_never_nominated(name)).then_some(Kind::Nominated);
    }
    let x = (text.starts_with("x-") || tells_who(text)) && !forwarded(name);
    (x || matches!(text, "forwarded" | "proxy" | "baggage")).then_some(Kind::X)
}

/// Rule 3: takes from a request on the hop all that the gateway does not vouch for, and our own
/// marks.
pub fn scrub_hop_request(headers: &mut HeaderMap) -> Stripped {
    let mut stripped = Stripped::default();
    let mut marks = Marks::default();
    let mut doubtful = false;
    for name in headers.keys() {
        doubtful |= judge_on_hop(name).is_some() && !marks.note(name);
    }
    // Most requests of a gateway have nothing else to take. What a `Connection` line nominates goes
    // only where there is one, and that is doubtful itself.
    let nominated = if doubtful {
        nominated(headers)
    } else {
        Vec::new()
    };
    let vouched = marks.take(headers);
    if !doubtful {
        return stripped;
    }
    let is_vouched = |text: &str| {
        let names = vouched
            .iter()
            .flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
        !text.starts_with("x-gapura-")
            && names
                .into_iter()
                .any(|name| name.trim_ascii().eq_ignore_ascii_case(text.as_bytes()))
    };
    remove_where(headers, &mut stripped, |name| {
        let text = name.as_str();
        let kind = judge_on_hop(name);
        match kind {
            Some(Kind::Alias | Kind::HopByHop) => kind,
            // No `Connection` line takes from the plugin what the gateway has proven.
            _ if nominated.contains(name) && !is_of_rule_2(text) => {
                (!is_never_nominated(name)).then_some(Kind::Nominated)
            }
            Some(_) if may_be_vouched(text) && is_vouched(text) => None,
            kind => kind,
        }
    });
    stripped
}

/// What a name on the hop is taken for, where nobody vouches for it or nominates it.
fn judge_on_hop(name: &HeaderName) -> Option<Kind> {
    let text = name.as_str();
    // Before all else: what the gateway has proven stays.
    if is_of_rule_2(text) {
        None
    } else if !is_plain(text) {
        Some(Kind::Alias)
    } else if is_hop_by_hop(name) {
        Some(Kind::HopByHop)
    } else if is_reserved(text) {
        Some(Kind::Identity)
    } else if may_be_vouched(text) || is_never_vouched(text) {
        Some(Kind::X)
    } else {
        None
    }
}

/// Names that pass where the gateway vouches for them.
fn may_be_vouched(name: &str) -> bool {
    name.starts_with("x-") || tells_who(name)
}

/// Names that do not, whatever it says.
fn is_never_vouched(name: &str) -> bool {
    matches!(name, "forwarded" | "proxy" | "baggage")
}

/// Which of our own marks a request bears. They have done their work, and are no sign of an attack:
/// they go first and do not count.
#[derive(Default)]
struct Marks {
    auth: bool,
    probe: bool,
    vouched: bool,
}

impl Marks {
    /// Whether a name is one of them.
    fn note(&mut self, name: &HeaderName) -> bool {
        let mark = match name.as_str() {
            "x-gapura-auth" => &mut self.auth,
            "x-gapura-probe" => &mut self.probe,
            "x-gapura-vouched" => &mut self.vouched,
            _ => return false,
        };
        *mark = true;
        true
    }

    /// Takes them, and gives what the gateway vouches for.
    fn take(&self, headers: &mut HeaderMap) -> Vec<HeaderValue> {
        if self.auth {
            headers.remove(X_GAPURA_AUTH);
        }
        if self.probe {
            headers.remove(X_GAPURA_PROBE);
        }
        if self.vouched
            && let Entry::Occupied(entry) = headers.entry(X_GAPURA_VOUCHED)
        {
            return entry.remove_entry_mult().1.collect();
        }
        Vec::new()
    }
}

/// The context and forwarding headers that the gateway adds to every request.
fn is_of_rule_2(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("x-") else {
        return false;
    };
    matches!(
        rest,
        "request-id"
            | "user-id"
            | "company-id"
            | "role"
            | "actor-id"
            | "envoy-expected-rq-timeout-ms"
    ) || rest
        .strip_prefix("forwarded-")
        .is_some_and(|rest| matches!(rest, "for" | "proto" | "host" | "prefix"))
}

/// Rule 6: takes from an answer, on either end, what is for one connection or inside the mesh only.
pub fn scrub_response(headers: &mut HeaderMap) -> Stripped {
    scrub_response_but(headers, |_| false)
}

/// The same for an answer of a sidecar's: the id that each of them carries stays, for the door to
/// write its own over it, and does not count.
pub fn scrub_hop_response(headers: &mut HeaderMap) -> Stripped {
    scrub_response_but(headers, |name| *name == X_REQUEST_ID)
}

fn scrub_response_but(headers: &mut HeaderMap, stays: impl Fn(&HeaderName) -> bool) -> Stripped {
    let mut stripped = Stripped::default();
    let nominated = nominated(headers);
    remove_where(headers, &mut stripped, |name| {
        let text = name.as_str();
        if is_hop_by_hop(name) {
            return Some(Kind::HopByHop);
        }
        if stays(name) {
            return None;
        }
        if nominated.contains(name) && *name != CONTENT_LENGTH {
            return Some(Kind::Nominated);
        }
        if is_reserved(text) {
            return Some(Kind::Identity);
        }
        (!is_plain(text) && folds_to_reserved(text)).then_some(Kind::Alias)
    });
    stripped
}

/// Joins the `Cookie` fields that HTTP/2 may split (RFC 9113, section 8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    let mut fields = headers.get_all(COOKIE).into_iter();
    let (Some(first), Some(_)) = (fields.next(), fields.next()) else {
        return;
    };
    let mut joined = first.as_bytes().to_vec();
    for field in headers.get_all(COOKIE).into_iter().skip(1) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(field.as_bytes());
    }
    if let Ok(value) = HeaderValue::from_bytes(&joined) {
        headers.insert(COOKIE, value);
    }
}

#[cfg(test)]
mod tests;
