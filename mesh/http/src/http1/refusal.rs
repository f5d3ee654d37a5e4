//! Why there is no request, and what is known of it all the same.
//!
//! A refusal is a value, so that it gets its envelope, its id and its access line like any other
//! answer. What is known is read leniently, from bytes that were found wanting: it may be shown and
//! logged, it never decides anything.

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Version};

use super::head::METHOD_MOST;

/// What is wrong with a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// It is malformed, or can be read in more than one way.
    BadRequest,
    /// Its target is longer than allowed.
    UriTooLong,
    /// Its fields are larger or more than allowed.
    HeadersTooLarge,
    /// It did not come in time.
    Timeout,
}

/// A head that is no request.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// What is wrong, as a client is told.
    pub kind: RefusalKind,
    /// What is wrong, in words for the log: a clause without a full stop.
    pub reason: &'static str,
    /// What could be read.
    pub seen: Seen,
}

/// What could be read of a head that was refused.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The method; without one there is no readable request line.
    pub method: Option<Method>,
    /// The target, or its beginning: printable ASCII.
    pub target: Option<Bytes>,
    /// The version, if the request line is whole.
    pub version: Option<Version>,
    /// `X-Request-Id`, where it stands once.
    pub request_id: Option<HeaderValue>,
    /// `Origin`, where it stands once: its page may read why it was refused.
    pub origin: Option<HeaderValue>,
}

/// No more of a target is kept than this: a line in the log is no place for 8 KiB of nonsense.
const TARGET_SHOWN: usize = 1024;

impl RefusalKind {
    /// The status that says so.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
        }
    }
}

/// A reason for a refusal, without what is known of the message it concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    pub(crate) kind: RefusalKind,
    pub(crate) reason: &'static str,
}

impl Malformed {
    pub(crate) const fn bad(reason: &'static str) -> Self {
        Self {
            kind: RefusalKind::BadRequest,
            reason,
        }
    }

    pub(crate) const fn large(reason: &'static str) -> Self {
        Self {
            kind: RefusalKind::HeadersTooLarge,
            reason,
        }
    }
}

impl Refusal {
    /// A refusal of the head that begins, or should begin, with `bytes`.
    pub(crate) fn of(fault: Malformed, bytes: &[u8]) -> Self {
        Self {
            kind: fault.kind,
            reason: fault.reason,
            seen: Seen::read(bytes),
        }
    }
}

impl Seen {
    /// Reads what can be read of `bytes`, whether they are a whole head or the beginning of one.
    #[must_use]
    pub fn read(mut bytes: &[u8]) -> Self {
        while let Some(rest) = bytes.strip_prefix(b"\r\n") {
            bytes = rest;
        }
        let mut lines = bytes
            .split(|byte| *byte == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let mut seen = Self::default();
        let mut words = lines
            .next()
            .unwrap_or_default()
            .split(|byte| matches!(byte, b' ' | b'\t'));
        let Some(method) = words
            .next()
            .filter(|word| word.len() <= METHOD_MOST)
            .and_then(|word| Method::from_bytes(word).ok())
        else {
            return seen;
        };
        let Some(target) = words.next().filter(|word| !word.is_empty()) else {
            return seen;
        };
        let shown = target
            .iter()
            .take(TARGET_SHOWN)
            .take_while(|byte| byte.is_ascii_graphic())
            .count();
        seen.method = Some(method);
        seen.target = (shown > 0).then(|| Bytes::copy_from_slice(&target[..shown]));
        seen.version = match words.next() {
            Some(b"HTTP/1.0") => Some(Version::HTTP_10),
            Some(b"HTTP/1.1") => Some(Version::HTTP_11),
            _ => None,
        };
        let fields = lines.take_while(|line| !line.is_empty());
        seen.request_id = only(fields.clone(), b"x-request-id");
        seen.origin = only(fields, b"origin");
        seen
    }
}

/// The value of a field that stands once.
fn only<'a>(lines: impl Iterator<Item = &'a [u8]>, name: &[u8]) -> Option<HeaderValue> {
    let mut values = lines.filter_map(|line| {
        let (begin, value) = line.split_at_checked(name.len())?;
        begin
            .eq_ignore_ascii_case(name)
            .then(|| value.strip_prefix(b":"))?
    });
    match (values.next(), values.next()) {
        (Some(value), None) => HeaderValue::from_bytes(value.trim_ascii()).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_readable_is_known() {
        let seen = Seen::read(
            b"\r\nPOST /a?b HTTP/1.0\r\nX-Request-ID:  r-1 \r\nbad line\r\norigin:https://a\r\n",
        );
        assert_eq!(seen.method, Some(Method::POST));
        assert_eq!(seen.target.as_deref(), Some(&b"/a?b"[..]));
        assert_eq!(seen.version, Some(Version::HTTP_10));
        assert_eq!(seen.request_id.unwrap(), "r-1");
        assert_eq!(seen.origin.unwrap(), "https://a");
    }

    #[test]
    fn what_is_not_readable_is_not_guessed() {
        for bytes in [
            &b""[..],
            b"\x16\x03\x01\x02",
            b"GET",
            b"GET ",
            b"G@T / HTTP/1.1\r\n",
        ] {
            assert!(Seen::read(bytes).method.is_none(), "{bytes:?}");
        }
        let long = [b"a".repeat(METHOD_MOST + 1), b" / HTTP/1.1\r\n".to_vec()].concat();
        assert!(Seen::read(&long).method.is_none());
        let two = Seen::read(b"GET / HTTP/1.1\r\nx-request-id: a\r\nx-request-id: b\r\n\r\n");
        assert!(two.request_id.is_none());
        let body = Seen::read(b"GET / HTTP/1.1\r\n\r\nx-request-id: a\r\n");
        assert!(body.request_id.is_none());
        let long = [b"GET /".to_vec(), vec![b'a'; 9000]].concat();
        assert_eq!(Seen::read(&long).target.unwrap().len(), TARGET_SHOWN);
    }
}
