//! Who may ask on the operator's side.
//!
//! In: a request's method and header fields, and the rules of the listener. Out: nothing, or a
//! status and a sentence. Invariant: the token is compared in constant time, and no web page can
//! have its visitor's browser ask.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, ORIGIN};
use http::{HeaderMap, Method, StatusCode};

/// Who may read.
#[derive(Clone, Default)]
pub struct Rules {
    /// Refuse a `Host` that is a name other than `localhost`.
    pub check_host: bool,
    /// Demand this bearer token.
    pub token: Option<Arc<[u8]>>,
}

/// Why a question is not answered. A form that a foreign page posts has another type, and a
/// script's has an `Origin`.
pub(super) fn refused_question(
    method: &Method,
    headers: &HeaderMap,
    rules: &Rules,
) -> Option<(StatusCode, &'static str)> {
    if method != Method::POST {
        return Some((
            StatusCode::METHOD_NOT_ALLOWED,
            "A question is posted, as JSON.",
        ));
    }
    let refused = refusal(&Method::GET, headers, rules);
    if let Some(refused) = refused.or_else(|| token_refusal(headers, rules)) {
        return Some(refused);
    }
    if !is_ours(headers) {
        return Some((
            StatusCode::FORBIDDEN,
            "The Origin must be the admin side's own.",
        ));
    }
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let bare = kind.and_then(|kind| kind.split(|byte| *byte == b';').next());
    let is_json =
        bare.is_some_and(|bare| bare.trim_ascii().eq_ignore_ascii_case(b"application/json"));
    (!is_json).then_some((
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "A question is posted with Content-Type: application/json.",
    ))
}

/// Whether no page asks, or one of our own: its origin is the host that it asks.
fn is_ours(headers: &HeaderMap) -> bool {
    let mut origins = headers.get_all(ORIGIN).into_iter();
    let (first, second) = (origins.next(), origins.next());
    let Some(origin) = first else { return true };
    let host = headers.get(HOST).map(HeaderValue::as_bytes);
    let origin = origin.as_bytes();
    let bare = origin
        .strip_prefix(b"http://")
        .or_else(|| origin.strip_prefix(b"https://"));
    second.is_none() && bare.is_some() && bare == host
}

/// Why nothing is answered, whoever asks: how it is asked, or where a browser thinks it is.
pub(super) fn refusal(
    method: &Method,
    headers: &HeaderMap,
    rules: &Rules,
) -> Option<(StatusCode, &'static str)> {
    if method != Method::GET && method != Method::HEAD {
        return Some((
            StatusCode::METHOD_NOT_ALLOWED,
            "The admin side answers GET and HEAD.",
        ));
    }
    if rules.check_host && !names_no_site(headers) {
        return Some((
            StatusCode::FORBIDDEN,
            "The Host must be an IP address or localhost.",
        ));
    }
    None
}

/// Why nothing is answered that says something of the program.
pub(super) fn token_refusal(
    headers: &HeaderMap,
    rules: &Rules,
) -> Option<(StatusCode, &'static str)> {
    let token = rules.token.as_ref()?;
    let given = headers
        .get(AUTHORIZATION)
        .map(HeaderValue::as_bytes)
        .and_then(|value| value.strip_prefix(b"Bearer "));
    let fits = given.is_some_and(|given| {
        aws_lc_rs::constant_time::verify_slices_are_equal(given, token).is_ok()
    });
    (!fits).then_some((
        StatusCode::UNAUTHORIZED,
        "The admin token is missing or wrong.",
    ))
}

/// A browser that was lured here by a name of somebody else's says that name.
fn names_no_site(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(HOST).into_iter();
    let (Some(Ok(host)), None) = (lines.next().map(HeaderValue::to_str), lines.next()) else {
        return false;
    };
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
        .map_or(host, |(name, _)| name);
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok()
        || host.parse::<SocketAddr>().is_ok()
}
