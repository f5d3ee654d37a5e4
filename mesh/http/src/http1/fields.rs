//! The fields of a head or of trailers, and what they say of the message's framing and connection.
//!
//! In: a block of lines that [`Scan`](super::head) found whole, each ended by CR LF. Out: a map
//! whose values are slices of the block, and the few facts that reading on depends on. A field is
//! refused, never skipped.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::Malformed;

/// Fields, and what they say.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) map: HeaderMap,
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
    pub(super) connection: ConnectionOptions,
    pub(super) expects_continue: bool,
    pub(super) wants_trailers: bool,
}

/// What `Connection` lists that concerns us.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectionOptions {
    /// The connection ends behind this message.
    pub close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
}

/// Room for the fields of nearly every message; the most we ever take is [`MOST`].
const USUAL: usize = 32;

/// As many fields as the widest of our limits lets through.
pub(super) const MOST: usize = 128;

/// Reads `count` fields from `block`, which ends with its empty line.
pub(super) fn parse(block: &Bytes, count: usize) -> Result<Fields, Malformed> {
    if count <= USUAL {
        parse_with(block, &mut [httparse::EMPTY_HEADER; USUAL])
    } else {
        parse_with(block, &mut [httparse::EMPTY_HEADER; MOST])
    }
}

fn parse_with<'a>(
    block: &'a Bytes,
    room: &mut [httparse::Header<'a>],
) -> Result<Fields, Malformed> {
    let lines = match httparse::parse_headers(block, room) {
        Ok(httparse::Status::Complete((read, lines))) if read == block.len() => lines,
        Ok(_) => return Err(Malformed::bad("the fields do not end where their lines do")),
        Err(error) => return Err(fault(error)),
    };
    let mut fields = Fields {
        map: HeaderMap::with_capacity(lines.len()),
        ..Fields::default()
    };
    for line in lines {
        let name = HeaderName::from_bytes(line.name.as_bytes())
            .map_err(|_| Malformed::bad("a field's name is not a token"))?;
        let value = if line.value.is_empty() {
            HeaderValue::from_static("")
        } else {
            HeaderValue::from_maybe_shared(block.slice_ref(line.value))
                .map_err(|_| Malformed::bad("a field's value has a control character"))?
        };
        fields.note(&name, value.as_bytes())?;
        fields
            .map
            .try_append(name, value)
            .map_err(|_| Malformed::large("too many fields"))?;
    }
    if fields.chunked && fields.length.is_some() {
        return Err(Malformed::bad("Content-Length beside Transfer-Encoding"));
    }
    Ok(fields)
}

impl Fields {
    fn note(&mut self, name: &HeaderName, value: &[u8]) -> Result<(), Malformed> {
        if *name == CONTENT_LENGTH {
            let length = digits(value).ok_or(Malformed::bad("Content-Length is not a number"))?;
            if self.length.replace(length).is_some() {
                return Err(Malformed::bad("two Content-Length fields"));
            }
        } else if *name == TRANSFER_ENCODING {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed::bad("Transfer-Encoding is not one `chunked`"));
            }
            self.chunked = true;
        } else if *name == CONNECTION {
            self.connection.note(value);
        } else if *name == EXPECT {
            self.expects_continue |= value.eq_ignore_ascii_case(b"100-continue");
        } else if *name == TE {
            self.wants_trailers |= list(value).any(|item| item.eq_ignore_ascii_case(b"trailers"));
        }
        Ok(())
    }
}

impl ConnectionOptions {
    /// Of the fields of a message.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut options = Self::default();
        for value in headers.get_all(CONNECTION) {
            options.note(value.as_bytes());
        }
        options
    }

    fn note(&mut self, value: &[u8]) {
        for option in list(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            self.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
        }
    }
}

fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// A length: digits, and nothing but digits (RFC 9110, section 8.6).
#[must_use]
pub fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// Whether a field may stand in trailers: nothing that frames, routes or authenticates a message,
/// or says what its body is (RFC 9110, section 6.5.1).
#[must_use]
pub fn may_trail(name: &HeaderName) -> bool {
    !matches!(
        name.as_str(),
        "transfer-encoding"
            | "host"
            | "authorization"
            | "proxy-authorization"
            | "proxy-authenticate"
            | "www-authenticate"
            | "connection"
            | "keep-alive"
            | "proxy-connection"
            | "upgrade"
            | "te"
            | "trailer"
            | "cookie"
            | "set-cookie"
            | "expect"
            | "cache-control"
            | "max-forwards"
            | "range"
    ) && !name.as_str().starts_with("content-")
}

fn fault(error: httparse::Error) -> Malformed {
    match error {
        httparse::Error::TooManyHeaders => Malformed::large("too many fields"),
        httparse::Error::HeaderValue => Malformed::bad("a field's value has a control character"),
        httparse::Error::HeaderName => Malformed::bad(
            "a field's name is not a token with its colon behind it, or a line is folded",
        ),
        _ => Malformed::bad("a field's line does not end in CR LF"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Fields, Malformed> {
        let block = Bytes::from(format!("{text}\r\n"));
        parse(&block, text.matches("\r\n").count())
    }

    #[test]
    fn a_length_is_digits_alone() {
        for (text, number) in [
            ("0", Some(0)),
            ("007", Some(7)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("", None),
            ("+1", None),
            ("-1", None),
            ("1 1", None),
            ("0x1", None),
            ("1, 1", None),
            ("000000000000000000001", None),
        ] {
            assert_eq!(digits(text.as_bytes()), number, "{text:?}");
        }
    }

    #[test]
    fn values_are_slices_of_the_block() {
        let block = Bytes::from_static(b"Host: a\r\nX-Name:\tvalue \t\r\nEmpty:\r\n\r\n");
        let fields = parse(&block, 3).unwrap();
        assert_eq!(fields.map["x-name"], "value");
        assert_eq!(fields.map["empty"], "");
        let range = block.as_ptr_range();
        assert!(range.contains(&fields.map["x-name"].as_bytes().as_ptr()));
    }

    #[test]
    fn what_the_fields_say_is_noted() {
        let fields = read("Connection: Close, upgrade\r\nConnection: keep-alive\r\nTE: gzip, Trailers\r\nExpect: 100-Continue\r\n").unwrap();
        assert!(
            fields.connection.close && fields.connection.upgrade && fields.connection.keep_alive
        );
        assert!(fields.wants_trailers && fields.expects_continue);
        let fields = read("Connection: closed\r\nTE: trailer\r\nExpect: 200-ok\r\n").unwrap();
        assert!(!fields.connection.close && !fields.wants_trailers && !fields.expects_continue);
    }

    #[test]
    fn more_fields_than_usual_are_read_as_well() {
        let text = "a: b\r\n".repeat(MOST);
        assert_eq!(read(&text).unwrap().map.len(), MOST);
        let fault = read(&"a: b\r\n".repeat(MOST + 1)).unwrap_err();
        assert_eq!(fault.kind, super::super::RefusalKind::HeadersTooLarge);
    }

    #[test]
    fn trailers_never_frame_or_authenticate() {
        for name in [
            "content-length",
            "transfer-encoding",
            "host",
            "authorization",
            "content-type",
        ] {
            assert!(!may_trail(&HeaderName::from_static(name)), "{name}");
        }
        for name in ["grpc-status", "x-checksum", "server-timing"] {
            assert!(may_trail(&HeaderName::from_static(name)), "{name}");
        }
    }
}
