//! gRPC's own form of what we say ourselves, and of how long a caller waits.
//!
//! In: a request's head, a [`Code`]. Out: whether the request is gRPC's, the answer that its client
//! understands (HTTP 200 with `grpc-status` and `grpc-message` in a head without a body, which gRPC
//! calls trailers-only), and its `grpc-timeout`. A client of gRPC reads no envelope and guesses a
//! status from the HTTP one: a deadline would look like a server that is away.
//! The forms are those of gRPC over HTTP/2 (`PROTOCOL-HTTP2.md`). Nothing here knows messages of
//! gRPC.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use crate::context::RequestId;
use crate::envelope::{Code, retry_after};
use crate::headers::X_REQUEST_ID;

/// How long the caller waits, from the request's head on.
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// What became of a call.
pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The same in words.
pub(crate) const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// A value is at most so many digits.
const DIGITS_MOST: usize = 8;

/// A media type longer than this is not said back.
const TYPE_MOST: usize = 64;

/// The media type of a gRPC message, as `content-type` has it: `application/grpc`, alone or with a
/// suffix such as `+proto` or `-web`.
#[must_use]
pub fn content_type(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(CONTENT_TYPE).filter(|value| is_type(value))
}

/// Whether a value of `content-type` is such a one.
#[must_use]
pub fn is_type(value: &HeaderValue) -> bool {
    let prefix = b"application/grpc";
    let (kind, rest) = value
        .as_bytes()
        .split_at_checked(prefix.len())
        .unwrap_or_default();
    kind.eq_ignore_ascii_case(prefix)
        && rest
            .first()
            .is_none_or(|next| matches!(next, b'+' | b'-' | b';' | b' '))
}

/// Whether a message is gRPC's.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    content_type(headers).is_some()
}

/// The number of the gRPC status that says what a code says.
#[must_use]
pub fn status(code: Code) -> u8 {
    match code {
        Code::ClientGone => CANCELLED,
        Code::RequestTimeout | Code::UpstreamTimeout => DEADLINE_EXCEEDED,
        Code::TenantMissing | Code::TenantSuspended | Code::Forbidden | Code::PeerDenied => {
            PERMISSION_DENIED
        }
        Code::RateLimited | Code::BodyTooLarge | Code::HeadersTooLarge => RESOURCE_EXHAUSTED,
        Code::NoRoute | Code::MethodNotAllowed | Code::UriTooLong | Code::Misdirected => {
            UNIMPLEMENTED
        }
        Code::BadRequest | Code::Internal | Code::UpstreamProtocol | Code::AnswerCut => INTERNAL,
        Code::UpstreamUnreachable
        | Code::UpstreamIdentity
        | Code::UpstreamUnavailable
        | Code::Overloaded
        | Code::Draining
        | Code::KeysUnavailable => UNAVAILABLE,
        Code::TokenMissing | Code::TokenInvalid | Code::TokenExpired | Code::TokenRevoked => {
            UNAUTHENTICATED
        }
    }
}

/// The whole answer to a gRPC request that we refuse; `kind` is the request's own media type.
#[must_use]
pub fn refusal(code: Code, kind: &HeaderValue, request_id: &RequestId) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    let kind = if kind.len() <= TYPE_MOST {
        kind.clone()
    } else {
        HeaderValue::from_static("application/grpc")
    };
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(status(code))));
    // The sentences need no escape: a test holds them to visible ASCII without `%`.
    headers.insert(GRPC_MESSAGE, HeaderValue::from_static(code.message()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_REQUEST_ID, request_id.header().clone());
    retry_after(headers, code);
    response
}

/// How long the caller of a request waits; `None` where it does not say.
///
/// # Errors
/// If what it says is not at most eight digits and a unit.
pub fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Malformed> {
    let mut values = headers.get_all(GRPC_TIMEOUT).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    match (parse_timeout(value.as_bytes()), values.next()) {
        (Some(timeout), None) => Ok(Some(timeout)),
        _ => Err(Malformed),
    }
}

/// A `grpc-timeout` that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Reads one value: digits and a unit.
#[must_use]
pub fn parse_timeout(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > DIGITS_MOST || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u32 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let (unit, _) = UNITS.iter().find(|(_, letter)| letter == unit)?;
    unit.checked_mul(count)
}

/// Writes what is left, in the finest unit that holds it, rounded down: nobody waits longer than
/// whoever asked.
#[must_use]
pub fn format_timeout(left: Duration) -> HeaderValue {
    let most = 10_u128.pow(8) - 1;
    let text = UNITS.iter().find_map(|(unit, letter)| {
        let count = left.as_nanos() / unit.as_nanos();
        (count <= most).then(|| format!("{count}{}", char::from(*letter)))
    });
    // Longer than eleven thousand years is for ever.
    text.and_then(|text| HeaderValue::from_str(&text).ok())
        .unwrap_or(HeaderValue::from_static("99999999H"))
}

/// The finest first.
const UNITS: [(Duration, u8); 6] = [
    (Duration::from_nanos(1), b'n'),
    (Duration::from_micros(1), b'u'),
    (Duration::from_millis(1), b'm'),
    (Duration::from_secs(1), b'S'),
    (Duration::from_secs(60), b'M'),
    (Duration::from_secs(3600), b'H'),
];

const CANCELLED: u8 = 1;
const DEADLINE_EXCEEDED: u8 = 4;
const PERMISSION_DENIED: u8 = 7;
const RESOURCE_EXHAUSTED: u8 = 8;
const UNIMPLEMENTED: u8 = 12;
const INTERNAL: u8 = 13;
const UNAVAILABLE: u8 = 14;
const UNAUTHENTICATED: u8 = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn typed(kind: &str) -> HeaderMap {
        let kind = HeaderValue::from_str(kind).unwrap();
        HeaderMap::from_iter([(CONTENT_TYPE, kind)])
    }

    #[test]
    fn what_is_grpc_is_told_by_its_type_alone() {
        for kind in [
            "application/grpc",
            "Application/gRPC",
            "application/grpc+proto",
            "application/grpc;a=b",
            "application/grpc-web+proto",
        ] {
            assert!(is_grpc(&typed(kind)), "{kind}");
        }
        for kind in [
            "application/grpcx",
            "application/json",
            "application/gr",
            "",
        ] {
            assert!(!is_grpc(&typed(kind)), "{kind}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn every_sentence_can_stand_in_grpc_message_as_it_is() {
        for code in Code::ALL {
            let plain = code
                .message()
                .bytes()
                .all(|byte| (b' '..=b'~').contains(&byte) && byte != b'%');
            assert!(plain, "{}", code.as_str());
        }
    }

    #[test]
    fn a_refusal_has_no_body_and_says_everything_in_its_head() {
        let id = RequestId::parse(b"a-1").unwrap();
        let kind = HeaderValue::from_static("application/grpc+proto");
        let refusal = refusal(Code::UpstreamTimeout, &kind, &id);
        assert!(refusal.status() == 200 && refusal.body().is_empty());
        let headers = refusal.headers();
        assert_eq!(headers[CONTENT_TYPE], kind);
        assert_eq!(headers[GRPC_STATUS], "4");
        assert_eq!(headers[GRPC_MESSAGE], Code::UpstreamTimeout.message());
        assert_eq!(headers[X_REQUEST_ID], "a-1");
        let long = HeaderValue::from_str(&format!("application/grpc+{}", "x".repeat(99))).unwrap();
        let refusal = super::refusal(Code::Forbidden, &long, &id);
        assert_eq!(refusal.headers()[CONTENT_TYPE], "application/grpc");
    }

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        for (text, nanos) in [
            ("1n", 1),
            ("100m", 100_000_000),
            ("5S", 5_000_000_000),
            ("99999999u", 99_999_999_000),
            ("2M", 120_000_000_000),
            ("1H", 3_600_000_000_000),
            ("0S", 0),
        ] {
            let read = parse_timeout(text.as_bytes());
            assert_eq!(read.map(|read| read.as_nanos()), Some(nanos), "{text}");
        }
        for text in [
            "",
            "S",
            "1",
            "1s",
            "-1S",
            "+1S",
            "1.5S",
            " 1S",
            "123456789S",
            "1SS",
            "\u{661}S",
        ] {
            assert_eq!(parse_timeout(text.as_bytes()), None, "{text}");
        }
        let mut headers = HeaderMap::new();
        assert_eq!(timeout(&headers), Ok(None));
        headers.append(GRPC_TIMEOUT, HeaderValue::from_static("1S"));
        assert_eq!(timeout(&headers), Ok(Some(Duration::from_secs(1))));
        headers.append(GRPC_TIMEOUT, HeaderValue::from_static("1S"));
        assert_eq!(timeout(&headers), Err(Malformed));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again_and_never_longer(nanos in any::<u64>()) {
            let left = Duration::from_nanos(nanos);
            let read = parse_timeout(format_timeout(left).as_bytes()).unwrap();
            prop_assert!(read <= left && left - read <= left / 1_000_000);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let _ = parse_timeout(&bytes);
        }
    }
}
