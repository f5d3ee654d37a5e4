//! Writes messages: heads, bodies in their framing, trailers.
//!
//! In: what a message says, as typed values. Out: bytes that our own reader reads back equal.
//! Framing and the connection's options are this module's alone: whatever the fields say of them is
//! left out, but for a length, which is held to. Names are in lower case; a field that can't stand
//! in a message of its kind is left out.

use bytes::{Buf, Bytes, BytesMut};
use http::header::{
    CONNECTION, CONTENT_LENGTH, DATE, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, Method, StatusCode, Uri};

use super::fields::{ConnectionOptions, digits, may_trail};
use super::outbox::Outbox;
use crate::buffers::Buffers;

/// A date as messages carry it: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub type HttpDate = [u8; 29];

/// How a body is framed, and what the head says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body, and nothing said of one.
    None,
    /// No body, but the length that there would be.
    Described(u64),
    /// So many bytes.
    Exact(u64),
    /// In chunks.
    Chunked,
    /// Until the stream ends: answers to HTTP/1.0 alone.
    UntilClose,
}

/// What a head says of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// Nothing: it goes on.
    Implied,
    /// That it goes on, which HTTP/1.0 has to be told.
    KeepAlive,
    /// That it ends behind this message.
    Close,
}

/// Puts a body into its framing.
#[derive(Debug)]
pub(crate) enum Encoder {
    /// There is none.
    None,
    /// So many bytes to go.
    Exact(u64),
    /// In chunks.
    Chunked,
    /// As it is.
    UntilClose,
}

/// A body that does not keep to its framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EncodeError {
    /// More came than its head says. What fits was written.
    TooLong,
    /// Less came than its head says.
    TooShort,
}

impl Framing {
    /// That of an answer with this status and these fields; `exact` is what its body says of its
    /// length.
    #[must_use]
    pub(crate) fn of_answer(
        to: &Method,
        status: StatusCode,
        modern: bool,
        headers: &HeaderMap,
        exact: Option<u64>,
    ) -> Self {
        if status.is_informational() || status == StatusCode::NO_CONTENT {
            return Self::None;
        }
        // The head is what other programs act on: where both speak, it is the body that has to keep
        // to it.
        let length = stated(headers);
        if *to == Method::HEAD || status == StatusCode::NOT_MODIFIED {
            let described = exact.filter(|exact| *exact > 0 && *to == Method::HEAD);
            return length.or(described).map_or(Self::None, Self::Described);
        }
        match length.or(exact) {
            Some(length) => Self::Exact(length),
            None if modern => Self::Chunked,
            None => Self::UntilClose,
        }
    }

    /// That of a request; `exact` is what its body says of its length.
    #[must_use]
    pub(crate) fn of_request(method: &Method, headers: &HeaderMap, exact: Option<u64>) -> Self {
        match (stated(headers), exact) {
            (Some(length), _) => Self::Exact(length),
            // Methods that mean nothing without a body say that theirs is empty (RFC 9110, section
            // 8.6).
            (None, Some(0)) if !matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {
                Self::None
            }
            (None, Some(length)) => Self::Exact(length),
            (None, None) => Self::Chunked,
        }
    }

    /// What writes a body so framed.
    #[must_use]
    pub(crate) fn encoder(self) -> Encoder {
        match self {
            Self::None | Self::Described(_) => Encoder::None,
            Self::Exact(length) => Encoder::Exact(length),
            Self::Chunked => Encoder::Chunked,
            Self::UntilClose => Encoder::UntilClose,
        }
    }

    fn write(self, out: &mut BytesMut) {
        match self {
            Self::None | Self::UntilClose => {}
            Self::Described(length) | Self::Exact(length) => {
                out.extend_from_slice(b"content-length: ");
                decimal(length, out);
                out.extend_from_slice(b"\r\n");
            }
            Self::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        }
    }
}

/// The one length that the fields name.
fn stated(headers: &HeaderMap) -> Option<u64> {
    let mut values = headers.get_all(CONTENT_LENGTH).into_iter();
    match (values.next(), values.next()) {
        (Some(value), None) => digits(value.as_bytes()),
        _ => None,
    }
}

/// Writes the head of an answer.
pub(crate) fn answer_head(
    status: StatusCode,
    headers: &HeaderMap,
    framing: Framing,
    persistence: Persistence,
    date: Option<&HttpDate>,
    out: &mut BytesMut,
) {
    status_line(status, out);
    for (name, value) in headers {
        let ours = is_ours(name)
            || (*name == UPGRADE && !switches(status))
            || (*name == TRAILER && framing != Framing::Chunked);
        if !ours {
            line(name, value.as_bytes(), out);
        }
    }
    if let Some(date) = date
        && !headers.contains_key(DATE)
    {
        line(&DATE, date, out);
    }
    framing.write(out);
    if switches(status) && headers.contains_key(UPGRADE) {
        out.extend_from_slice(match persistence {
            Persistence::Close => b"connection: upgrade, close\r\n".as_slice(),
            _ => b"connection: upgrade\r\n",
        });
    } else {
        match persistence {
            Persistence::Implied => {}
            Persistence::KeepAlive => out.extend_from_slice(b"connection: keep-alive\r\n"),
            Persistence::Close => out.extend_from_slice(b"connection: close\r\n"),
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes an interim answer, whole.
pub(super) fn interim_head(status: StatusCode, headers: &HeaderMap, out: &mut BytesMut) {
    status_line(status, out);
    for (name, value) in headers {
        if !is_ours(name) && *name != UPGRADE {
            line(name, value.as_bytes(), out);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the head of a request. Its target is written in the form that every server takes, and
/// `Host` is made of an address in `uri` only where the fields have none.
pub(crate) fn request_head(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    framing: Framing,
    out: &mut BytesMut,
) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.extend_from_slice(b" ");
    match uri.path_and_query().map(http::uri::PathAndQuery::as_str) {
        None | Some("") => out.extend_from_slice(b"/"),
        Some(target) => {
            if target.starts_with('?') {
                out.extend_from_slice(b"/");
            }
            out.extend_from_slice(target.as_bytes());
        }
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if let Some(authority) = uri.authority()
        && !headers.contains_key(HOST)
    {
        line(&HOST, authority.as_str().as_bytes(), out);
    }
    let (mut upgrade, mut te) = (false, false);
    for (name, value) in headers {
        if is_ours(name)
            || *name == EXPECT
            || (*name == TRAILER && framing != Framing::Chunked)
            || (*name == UPGRADE && !ConnectionOptions::of(headers).upgrade)
        {
            continue;
        }
        upgrade |= *name == UPGRADE;
        te |= *name == TE;
        line(name, value.as_bytes(), out);
    }
    framing.write(out);
    out.extend_from_slice(match (upgrade, te) {
        (true, true) => b"connection: upgrade, te\r\n".as_slice(),
        (true, false) => b"connection: upgrade\r\n",
        (false, true) => b"connection: te\r\n",
        (false, false) => b"",
    });
    out.extend_from_slice(b"\r\n");
}

/// Fields that say how a message is framed or what becomes of its connection.
fn is_ours(name: &HeaderName) -> bool {
    *name == CONTENT_LENGTH
        || *name == TRANSFER_ENCODING
        || *name == CONNECTION
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// Whether an answer with this status may speak of another protocol.
fn switches(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::SWITCHING_PROTOCOLS | StatusCode::UPGRADE_REQUIRED
    )
}

fn status_line(status: StatusCode, out: &mut BytesMut) {
    if status == StatusCode::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn line(name: &HeaderName, value: &[u8], out: &mut BytesMut) {
    let name = name.as_str().as_bytes();
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

impl Encoder {
    /// Whether all that the head promises has been written; a body in chunks or until the close
    /// never is before its end.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self, Self::None | Self::Exact(0))
    }

    /// Writes a piece.
    pub(super) fn data(
        &mut self,
        mut data: Bytes,
        out: &mut Outbox,
        buffers: &Buffers,
    ) -> Result<(), EncodeError> {
        if data.is_empty() {
            return Ok(());
        }
        match self {
            Self::None => return Err(EncodeError::TooLong),
            Self::UntilClose => out.push(data, buffers),
            Self::Exact(left) => {
                let fits = usize::try_from(*left).map_or(data.len(), |left| left.min(data.len()));
                *left -= fits as u64;
                let whole = fits == data.len();
                data.truncate(fits);
                out.push(data, buffers);
                if !whole {
                    return Err(EncodeError::TooLong);
                }
            }
            Self::Chunked => {
                let tail = out.tail(buffers);
                hexadecimal(data.remaining(), tail);
                tail.extend_from_slice(b"\r\n");
                out.push(data, buffers);
                out.tail(buffers).extend_from_slice(b"\r\n");
            }
        }
        Ok(())
    }

    /// Writes the end, with trailers where the framing has a place for them.
    pub(super) fn end(
        &mut self,
        trailers: Option<&HeaderMap>,
        out: &mut Outbox,
        buffers: &Buffers,
    ) -> Result<(), EncodeError> {
        match self {
            Self::Exact(1..) => return Err(EncodeError::TooShort),
            Self::None | Self::Exact(0) | Self::UntilClose => {}
            Self::Chunked => {
                let tail = out.tail(buffers);
                tail.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flatten() {
                    if may_trail(name) {
                        line(name, value.as_bytes(), tail);
                    }
                }
                tail.extend_from_slice(b"\r\n");
            }
        }
        *self = Self::None;
        Ok(())
    }
}

fn decimal(number: u64, out: &mut BytesMut) {
    write_number(number, 10, out);
}

fn hexadecimal(number: usize, out: &mut BytesMut) {
    write_number(number as u64, 16, out);
}

fn write_number(mut number: u64, base: u64, out: &mut BytesMut) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 20];
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = DIGITS[(number % base) as usize];
        number /= base;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    fn answer(
        status: u16,
        lines: &[(&'static str, &'static str)],
        framing: Framing,
        persistence: Persistence,
    ) -> String {
        let mut out = BytesMut::new();
        let status = StatusCode::from_u16(status).unwrap();
        answer_head(status, &map(lines), framing, persistence, None, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn numbers_are_written_whole() {
        for number in [0, 9, 10, 1234, u64::MAX] {
            let mut out = BytesMut::new();
            decimal(number, &mut out);
            assert_eq!(out, number.to_string());
            let mut out = BytesMut::new();
            write_number(number, 16, &mut out);
            assert_eq!(out, format!("{number:x}"));
        }
    }

    #[test]
    fn framing_and_connection_are_ours() {
        let text = answer(
            200,
            &[
                ("Content-Length", "9"),
                ("Transfer-Encoding", "gzip"),
                ("Connection", "x-a"),
                ("Keep-Alive", "timeout=5"),
                ("Upgrade", "h2c"),
                ("Trailer", "x"),
                ("X-A", "b"),
            ],
            Framing::Exact(3),
            Persistence::Close,
        );
        assert_eq!(
            text,
            "HTTP/1.1 200 OK\r\nx-a: b\r\ncontent-length: 3\r\nconnection: close\r\n\r\n"
        );
        let text = answer(
            101,
            &[("upgrade", "websocket"), ("connection", "upgrade")],
            Framing::None,
            Persistence::Implied,
        );
        assert_eq!(
            text,
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
        );
        let text = answer(
            299,
            &[("trailer", "x")],
            Framing::Chunked,
            Persistence::KeepAlive,
        );
        assert_eq!(
            text,
            "HTTP/1.1 299 \r\ntrailer: x\r\ntransfer-encoding: chunked\r\nconnection: keep-alive\r\n\r\n"
        );
    }

    #[test]
    fn a_date_is_added_where_there_is_none() {
        let date = b"Sun, 06 Nov 1994 08:49:37 GMT";
        let write = |headers: &HeaderMap| {
            let mut out = BytesMut::new();
            answer_head(
                StatusCode::OK,
                headers,
                Framing::None,
                Persistence::Implied,
                Some(date),
                &mut out,
            );
            String::from_utf8(out.to_vec()).unwrap()
        };
        assert!(write(&map(&[])).contains("date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"));
        assert_eq!(write(&map(&[("date", "old")])).matches("date").count(), 1);
    }

    #[test]
    fn an_answer_is_framed_by_its_head_first_and_its_body_second() {
        let of =
            |to: &Method, status: u16, modern, lines: &[(&'static str, &'static str)], exact| {
                Framing::of_answer(
                    to,
                    StatusCode::from_u16(status).unwrap(),
                    modern,
                    &map(lines),
                    exact,
                )
            };
        let five = &[("content-length", "5")][..];
        for (framing, wanted) in [
            (of(&Method::GET, 200, true, &[], Some(3)), Framing::Exact(3)),
            (
                of(&Method::GET, 200, true, five, Some(3)),
                Framing::Exact(5),
            ),
            (of(&Method::GET, 200, true, five, None), Framing::Exact(5)),
            (of(&Method::GET, 200, true, &[], None), Framing::Chunked),
            (of(&Method::GET, 200, false, &[], None), Framing::UntilClose),
            (of(&Method::GET, 200, true, &[], Some(0)), Framing::Exact(0)),
            (
                of(&Method::HEAD, 200, true, five, Some(0)),
                Framing::Described(5),
            ),
            (
                of(&Method::HEAD, 200, true, &[], Some(3)),
                Framing::Described(3),
            ),
            (of(&Method::HEAD, 200, true, &[], Some(0)), Framing::None),
            (of(&Method::HEAD, 200, true, &[], None), Framing::None),
            (
                of(&Method::GET, 304, true, five, Some(0)),
                Framing::Described(5),
            ),
            (of(&Method::GET, 304, true, &[], Some(3)), Framing::None),
            (of(&Method::GET, 204, true, five, Some(0)), Framing::None),
            (of(&Method::GET, 101, true, five, None), Framing::None),
        ] {
            assert_eq!(framing, wanted);
        }
    }

    #[test]
    fn a_request_says_that_it_is_empty_where_that_means_something() {
        let of = |method: &Method, lines: &[(&'static str, &'static str)], exact| {
            Framing::of_request(method, &map(lines), exact)
        };
        assert_eq!(of(&Method::GET, &[], Some(0)), Framing::None);
        assert_eq!(of(&Method::POST, &[], Some(0)), Framing::Exact(0));
        assert_eq!(of(&Method::GET, &[], None), Framing::Chunked);
        assert_eq!(of(&Method::GET, &[], Some(2)), Framing::Exact(2));
        assert_eq!(
            of(&Method::PUT, &[("content-length", "5")], None),
            Framing::Exact(5)
        );
    }

    #[test]
    fn a_request_line_has_a_path() {
        let write = |uri: &'static str, lines: &[(&'static str, &'static str)]| {
            let mut out = BytesMut::new();
            request_head(
                &Method::GET,
                &Uri::from_static(uri),
                &map(lines),
                Framing::None,
                &mut out,
            );
            String::from_utf8(out.to_vec()).unwrap()
        };
        assert_eq!(
            write("/a?b", &[("host", "c")]),
            "GET /a?b HTTP/1.1\r\nhost: c\r\n\r\n"
        );
        assert_eq!(
            write("http://c?b", &[]),
            "GET /?b HTTP/1.1\r\nhost: c\r\n\r\n"
        );
        assert_eq!(write("*", &[]), "GET * HTTP/1.1\r\n\r\n");
        assert_eq!(
            write(
                "/",
                &[
                    ("expect", "100-continue"),
                    ("connection", "upgrade, x"),
                    ("upgrade", "websocket"),
                    ("te", "trailers")
                ]
            ),
            "GET / HTTP/1.1\r\nupgrade: websocket\r\nte: trailers\r\nconnection: upgrade, te\r\n\r\n"
        );
        assert_eq!(
            write("/", &[("upgrade", "websocket")]),
            "GET / HTTP/1.1\r\n\r\n"
        );
    }

    #[test]
    fn bodies_keep_to_their_framing() {
        let buffers = Buffers::new();
        let mut out = Outbox::default();
        let mut encoder = Encoder::Exact(3);
        assert_eq!(
            encoder.data(Bytes::from_static(b"ab"), &mut out, &buffers),
            Ok(())
        );
        assert_eq!(
            encoder.end(None, &mut out, &buffers),
            Err(EncodeError::TooShort)
        );
        assert_eq!(
            encoder.data(Bytes::from_static(b"cd"), &mut out, &buffers),
            Err(EncodeError::TooLong)
        );
        assert!(encoder.is_complete());
        assert_eq!(out.tail(&buffers), "abc");
        let mut out = Outbox::default();
        let mut encoder = Encoder::Chunked;
        encoder
            .data(Bytes::from_static(b"0123456789abcdef"), &mut out, &buffers)
            .unwrap();
        encoder.data(Bytes::new(), &mut out, &buffers).unwrap();
        encoder
            .end(
                Some(&map(&[("x-a", "1"), ("content-length", "3")])),
                &mut out,
                &buffers,
            )
            .unwrap();
        assert_eq!(
            out.tail(&buffers),
            "10\r\n0123456789abcdef\r\n0\r\nx-a: 1\r\n\r\n"
        );
    }
}
