//! What of a request that failed may be sent again, and where it has been.
//!
//! In: a request before it is sent, and how sending it ended. Out: the same request for another
//! instance, or nothing. What was not written goes again in any case. What may have arrived goes
//! again only if doing it twice does no harm (RFC 9110, section 9.2.2), its body is empty or small,
//! not a byte of an answer came, and the budget allows it.
//! Invariant: a POST that may have arrived is never sent again.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use gapura_protocol::grpc::{GRPC_TIMEOUT, format_timeout, parse_timeout};
use gapura_protocol::headers::X_ENVOY_EXPECTED_RQ_TIMEOUT_MS;
use gapura_transport::body::{Body, BodyFault};
use http::header::{CONTENT_LENGTH, TRAILER};
use http::{HeaderMap, Request};
use http_body::Body as _;

use super::instance::Instance;

/// One request on its way through several instances.
pub(super) struct Tries {
    /// Where it has been.
    pub(super) tried: Vec<Arc<Instance>>,
    /// How often it was sent again that may have arrived.
    pub(super) again: u32,
    /// How often it was sent again of which nothing had been written.
    pub(super) unsent: u32,
    /// When it was sent for the first time.
    begun: Instant,
}

/// A body up to this is kept until the answer comes, so that it can be sent again.
const SMALL: usize = 16 * 1024;

impl Tries {
    pub(super) fn new(begun: Instant) -> Self {
        Self {
            tried: Vec::new(),
            again: 0,
            unsent: 0,
            begun,
        }
    }

    /// It goes once more: what it says of the time left becomes true again.
    pub(super) fn once_more(&self, headers: &mut HeaderMap) {
        let passed = self.begun.elapsed();
        let said = headers.get(GRPC_TIMEOUT);
        if let Some(wait) = said.and_then(|said| parse_timeout(said.as_bytes())) {
            headers.insert(GRPC_TIMEOUT, format_timeout(wait.saturating_sub(passed)));
        }
        if let Some(left) = headers
            .get(X_ENVOY_EXPECTED_RQ_TIMEOUT_MS)
            .and_then(|value| {
                let left: u64 = value.to_str().ok()?.parse().ok()?;
                let passed = u64::try_from(passed.as_millis()).ok()?;
                Some(left.saturating_sub(passed).max(1))
            })
        {
            headers.insert(X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, left.into());
        }
    }
}

/// Whether doing this twice does no harm, and its body is empty or small enough to be kept.
pub(super) fn may_repeat(request: &Request<Body>) -> bool {
    if !request.method().is_idempotent() {
        return false;
    }
    // Trailers would have to be kept too.
    let headers = request.headers();
    let is_small = || length(headers).is_some_and(|length| length <= SMALL);
    request.body().is_ended() || (!headers.contains_key(TRAILER) && is_small())
}

fn length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// All of a small body.
///
/// # Errors
/// Why it broke.
pub(super) async fn collect(mut body: Body) -> Result<Bytes, BodyFault> {
    let mut all = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(data) = frame?.into_data() {
            if all.len() + data.len() > SMALL {
                return Err(BodyFault::TooLarge);
            }
            all.extend_from_slice(&data);
        }
        if body.is_end_stream() {
            break;
        }
    }
    Ok(all.freeze())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use http::{HeaderValue, Method};

    fn request(method: Method, length: Option<usize>, body: Body) -> Request<Body> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        if let Some(length) = length {
            request.headers_mut().insert(CONTENT_LENGTH, length.into());
        }
        request
    }

    #[test]
    fn only_what_can_be_done_twice_and_is_small_is_kept() {
        let full = || Body::full(Bytes::from_static(b"x"));
        for (method, length, body, may) in [
            (Method::GET, None, Body::empty(), true),
            (Method::HEAD, None, Body::empty(), true),
            (Method::PUT, Some(1), full(), true),
            (Method::DELETE, Some(SMALL), full(), true),
            (Method::PUT, Some(SMALL + 1), full(), false),
            (Method::PUT, None, full(), false),
            (Method::POST, None, Body::empty(), false),
            (Method::POST, Some(1), full(), false),
            (Method::PATCH, None, Body::empty(), false),
        ] {
            let request = request(method.clone(), length, body);
            assert_eq!(may_repeat(&request), may, "{method} {length:?}");
        }
    }

    #[test]
    fn the_time_left_shrinks_and_nonsense_passes_as_it_came() {
        let tries = Tries::new(Instant::now() - Duration::from_millis(200));
        for (text, most) in [
            ("1S", 800_000),
            ("1000m", 800_000),
            ("100m", 0),
            ("1M", 59_800_000),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(GRPC_TIMEOUT, HeaderValue::from_static(text));
            tries.once_more(&mut headers);
            let left = parse_timeout(headers[GRPC_TIMEOUT].as_bytes()).unwrap();
            let most = Duration::from_micros(most);
            let least = most.saturating_sub(Duration::from_secs(5));
            assert!((least..=most).contains(&left), "{text}: {left:?}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, 1000_u64.into());
        tries.once_more(&mut headers);
        let left = headers[X_ENVOY_EXPECTED_RQ_TIMEOUT_MS].to_str().unwrap();
        assert!((1..=800).contains(&left.parse::<u64>().unwrap()), "{left}");
        for text in ["", "S", "1", "1x", "123456789S", "-1S"] {
            let mut headers = HeaderMap::new();
            headers.insert(GRPC_TIMEOUT, HeaderValue::from_static(text));
            tries.once_more(&mut headers);
            assert_eq!(headers[GRPC_TIMEOUT], text);
        }
    }
}
