//! Which trailers may pass, and which a message may announce (CONTRACT section 4, rules 1 and 6).
//!
//! In: the trailers of a message, or the head that announces them. Out: what of them may pass.
//! Whatever is no trailer by its nature is none, whoever names it.

use http::header::{HeaderMap, HeaderName, HeaderValue, TRAILER};

use super::{
    Kind, Stripped, folds_to_reserved, is_hop_by_hop, is_plain, is_reserved, remove_where,
};

/// Fields that frame a message, route it or describe its content: as trailers they would change
/// what was already read (RFC 9110, section 6.5.1).
fn may_not_trail(name: &HeaderName) -> bool {
    is_hop_by_hop(name)
        || matches!(
            name.as_str(),
            "host"
                | "content-length"
                | "content-encoding"
                | "content-type"
                | "content-range"
                | "authorization"
                | "cookie"
                | "set-cookie"
        )
}

/// The names that a message announces as trailers (RFC 9110, section 6.6.2) and that may pass:
/// HTTP/1.1 carries no others.
fn announced(headers: &HeaderMap, passes: impl Fn(&HeaderName) -> bool) -> Option<HeaderValue> {
    if !headers.contains_key(TRAILER) {
        return None;
    }
    let lines = headers
        .get_all(TRAILER)
        .into_iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let names = lines
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(passes);
    let joined = names
        .map(|name| name.as_str().to_owned())
        .collect::<Vec<_>>()
        .join(", ");
    HeaderValue::from_str(&joined)
        .ok()
        .filter(|value| !value.is_empty())
}

/// What a request may go on announcing. To be read before the scrub and set after it.
#[must_use]
pub fn announced_by_request(
    headers: &HeaderMap,
    forwarded: impl Fn(&HeaderName) -> bool,
) -> Option<HeaderValue> {
    announced(headers, |name| may_trail_request(name, &forwarded))
}

/// What an answer may go on announcing. To be read before the scrub and set after it.
#[must_use]
pub fn announced_by_response(headers: &HeaderMap) -> Option<HeaderValue> {
    announced(headers, may_trail_response)
}

fn may_trail_request(name: &HeaderName, forwarded: impl Fn(&HeaderName) -> bool) -> bool {
    let text = name.as_str();
    is_plain(text)
        && !is_reserved(text)
        && !may_not_trail(name)
        && (text.starts_with("grpc-") || forwarded(name))
}

fn may_trail_response(name: &HeaderName) -> bool {
    let text = name.as_str();
    !is_reserved(text) && !may_not_trail(name) && (is_plain(text) || !folds_to_reserved(text))
}

/// Rule 1 for trailers of a request: `grpc-*` and what `forwarded` names may pass.
pub fn scrub_request_trailers(
    trailers: &mut HeaderMap,
    forwarded: impl Fn(&HeaderName) -> bool,
) -> Stripped {
    let mut stripped = Stripped::default();
    remove_where(trailers, &mut stripped, |name| {
        (!may_trail_request(name, &forwarded)).then_some(Kind::Trailer)
    });
    stripped
}

/// Rule 6 for trailers of an answer.
pub fn scrub_response_trailers(trailers: &mut HeaderMap) -> Stripped {
    let mut stripped = Stripped::default();
    remove_where(trailers, &mut stripped, |name| {
        (!may_trail_response(name)).then_some(Kind::Trailer)
    });
    stripped
}
