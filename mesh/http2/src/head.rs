//! Heads as `h2` hands them over: counted by us, and given the fields that a head of HTTP/2 may
//! have.
//!
//! In: the head of a request or of an answer. Out: its length, or why it is refused. `h2` has
//! bounded what it decodes and refused what is malformed by the frame; a head that can be read is
//! refused here as a value, so that it gets its answer. Which host and path a request is for is not
//! known here.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, StatusCode, Version};

use super::length::Left;
use gapura_http::http1::fields::ConnectionOptions;
use gapura_http::http1::head::Limits;
use gapura_http::http1::{Refusal, RefusalKind, Seen};

/// No more of a target is kept for the log than this.
const TARGET_SHOWN: usize = 1024;

/// The length of a request's body, if its head is one that we take.
pub(super) fn check(parts: &Parts, limits: &Limits) -> Result<Left, Box<Refusal>> {
    let refused = |kind, reason| Box::new(refusal(kind, reason, parts));
    let target = parts
        .uri
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    if target > limits.target {
        return Err(refused(RefusalKind::UriTooLong, "the target is too long"));
    }
    check_size(&parts.headers, limits)
        .map_err(|reason| refused(RefusalKind::HeadersTooLarge, reason))?;
    Left::of(&parts.headers).map_err(|reason| refused(RefusalKind::BadRequest, reason))
}

/// The size of the fields: 4 bytes on top of each name and value, as HTTP/1 writes them. Each crumb
/// of a cookie is a field.
pub(super) fn check_size(headers: &HeaderMap, limits: &Limits) -> Result<(), &'static str> {
    if headers.len() > limits.fields {
        return Err("too many fields");
    }
    let size: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    if size > limits.head {
        return Err("the fields are too large");
    }
    Ok(())
}

/// Takes out of the head of an answer what HTTP/2 has no place for. Whether it asks for the
/// connection's end.
pub(super) fn drop_connection_fields(status: StatusCode, headers: &mut HeaderMap) -> bool {
    let mut closes = false;
    // Where one of them is, the others may be.
    if headers.keys().any(is_of_connection) {
        closes = ConnectionOptions::of(headers).close;
        headers.remove(CONNECTION);
        headers.remove(TRANSFER_ENCODING);
        headers.remove(UPGRADE);
        headers.remove(HeaderName::from_static("keep-alive"));
        headers.remove(HeaderName::from_static("proxy-connection"));
    }
    if status == StatusCode::NO_CONTENT {
        headers.remove(CONTENT_LENGTH);
    }
    closes
}

fn is_of_connection(name: &HeaderName) -> bool {
    *name == CONNECTION || *name == TRANSFER_ENCODING || *name == UPGRADE
}

/// Whether an answer of this status never has a body.
pub(super) fn is_bodiless(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// A refusal of a head that nobody could read.
pub(super) fn unseen(kind: RefusalKind, reason: &'static str) -> Refusal {
    let seen = Seen {
        version: Some(Version::HTTP_2),
        ..Seen::default()
    };
    Refusal { kind, reason, seen }
}

/// A refusal with what is known of the request.
fn refusal(kind: RefusalKind, reason: &'static str, parts: &Parts) -> Refusal {
    let target = parts.uri.path_and_query().map(|target| {
        let text = target.as_str().as_bytes();
        let shown = text
            .iter()
            .take(TARGET_SHOWN)
            .take_while(|byte| byte.is_ascii_graphic())
            .count();
        Bytes::copy_from_slice(&text[..shown])
    });
    let only = |name| {
        let mut values = parts.headers.get_all(name).into_iter();
        match (values.next(), values.next()) {
            (Some(value), None) => Some(value.clone()),
            _ => None,
        }
    };
    Refusal {
        kind,
        reason,
        seen: Seen {
            method: Some(parts.method.clone()),
            target: target.filter(|target| !target.is_empty()),
            version: Some(Version::HTTP_2),
            request_id: only("x-request-id"),
            origin: only("origin"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gapura_http::http1::head::CLIENT_LIMITS;
    use http::Request;

    fn verdict(target: &str, lines: &[(&str, &str)]) -> Result<Left, RefusalKind> {
        let mut request = Request::builder().uri(target);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        check(&parts, &CLIENT_LIMITS).map_err(|refusal| refusal.kind)
    }

    #[test]
    fn crumbs_of_cookies_count_as_fields() {
        let crumbs = vec![("cookie", "a=b"); 101];
        assert_eq!(verdict("/", &crumbs), Err(RefusalKind::HeadersTooLarge));
        assert_eq!(verdict("/", &crumbs[1..]), Ok(Left::UNKNOWN));
    }

    #[test]
    fn what_is_too_large_says_so_and_what_is_known_is_kept() {
        let value = "b".repeat(32 * 1024 - 5);
        assert_eq!(verdict("/", &[("a", &value)]), Ok(Left::UNKNOWN));
        let value = "b".repeat(32 * 1024 - 4);
        assert_eq!(
            verdict("/", &[("a", &value)]),
            Err(RefusalKind::HeadersTooLarge)
        );
        let long = format!("/{}", "a".repeat(8 * 1024 - 1));
        assert_eq!(verdict(&long, &[]), Ok(Left::UNKNOWN));
        assert_eq!(
            verdict(&format!("{long}a"), &[]),
            Err(RefusalKind::UriTooLong)
        );
        let request = Request::builder()
            .uri("https://a/b?c")
            .header("x-request-id", "r-1")
            .header("content-length", "");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let refusal = check(&parts, &CLIENT_LIMITS).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::BadRequest);
        assert_eq!(refusal.seen.target.as_deref(), Some(&b"/b?c"[..]));
        assert_eq!(refusal.seen.request_id.unwrap(), "r-1");
    }

    #[test]
    fn what_http2_has_no_place_for_goes_and_the_rest_stays() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, Close"),
            ("keep-alive", "timeout=1"),
            ("transfer-encoding", "chunked"),
            ("content-length", "3"),
            ("x-a", "1"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        assert!(drop_connection_fields(StatusCode::OK, &mut headers));
        assert_eq!(headers.len(), 2);
        assert!(!drop_connection_fields(
            StatusCode::NO_CONTENT,
            &mut headers
        ));
        assert_eq!(headers.keys().next().unwrap(), "x-a");
        assert_eq!(headers.len(), 1);
    }
}
