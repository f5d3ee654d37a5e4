//! Finds the end of a head in bytes as they come, and the first of them that no head can have.
//!
//! Each byte is looked at once for its line end, however many pieces it comes in. What a line says
//! is the parse's business; here are what the parse could not tell any more: that a line feed has
//! its carriage return, and that the lines are not too many or too long, which has to be known
//! before they are all there.

use std::ops::Range;

use super::{Limits, METHOD_MOST};
use crate::http1::{Malformed, RefusalKind};

/// What kind of lines they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http1) enum Lines {
    Request,
    Response,
    /// Fields alone.
    Trailers,
}

/// How far a head has been looked at.
#[derive(Clone, Debug)]
pub(in crate::http1) struct Scan {
    kind: Lines,
    /// The first byte that was not looked at.
    at: usize,
    /// Where the current line begins.
    line: usize,
    /// The start line, once it is whole.
    start: Option<Range<usize>>,
    count: usize,
    empty: u8,
}

/// Where the parts of a whole head are.
#[derive(Debug)]
pub(in crate::http1) struct Extent {
    /// The start line without its end; nothing in trailers.
    pub(in crate::http1) start: Range<usize>,
    /// The fields and the empty line.
    pub(in crate::http1) fields: Range<usize>,
    /// How many fields there are.
    pub(in crate::http1) count: usize,
}

/// Empty lines before a request that are passed over: some old clients send one behind a body (RFC
/// 9112, section 2.2).
const EMPTY_LINES: u8 = 2;

impl Scan {
    pub(in crate::http1) fn new(kind: Lines) -> Self {
        Self {
            kind,
            at: 0,
            line: 0,
            start: (kind == Lines::Trailers).then_some(0..0),
            count: 0,
            empty: 0,
        }
    }

    /// Goes on over `bytes`, which begin where they did before; the head's extent once it is whole.
    pub(in crate::http1) fn step(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<Option<Extent>, Malformed> {
        while let Some(found) = memchr::memchr(b'\n', bytes.get(self.at..).unwrap_or_default()) {
            let end = self.at + found;
            let line = &bytes[self.line..end];
            self.check_size(line, limits)?;
            let Some(text) = line.strip_suffix(b"\r") else {
                return Err(Malformed::bad("a line ends without its carriage return"));
            };
            let begin = std::mem::replace(&mut self.line, end + 1);
            self.at = end + 1;
            match &self.start {
                None if text.is_empty() && self.kind == Lines::Request => {
                    self.empty += 1;
                    if self.empty > EMPTY_LINES {
                        return Err(Malformed::bad("more than two empty lines before a request"));
                    }
                }
                None => {
                    // Who speaks something else entirely is not made to wait for the end of a head.
                    if self.kind == Lines::Request && !names_version(text) {
                        return Err(Malformed::bad("the version is none of HTTP/1"));
                    }
                    self.start = Some(begin..end - 1);
                }
                Some(start) if text.is_empty() => {
                    return Ok(Some(Extent {
                        fields: self.fields_at(start)..end + 1,
                        start: start.clone(),
                        count: self.count,
                    }));
                }
                Some(_) => {
                    self.count += 1;
                    if self.count > limits.fields {
                        return Err(Malformed::large("too many fields"));
                    }
                }
            }
        }
        self.at = bytes.len();
        self.check_size(&bytes[self.line..], limits)?;
        Ok(None)
    }

    /// Where the fields begin: behind the end of the start line.
    fn fields_at(&self, start: &Range<usize>) -> usize {
        match self.kind {
            Lines::Trailers => 0,
            Lines::Request | Lines::Response => start.end + 2,
        }
    }

    /// Looks at a line, whole or not, with its carriage return if that has come.
    fn check_size(&self, line: &[u8], limits: &Limits) -> Result<(), Malformed> {
        match (&self.start, self.kind) {
            (Some(start), _) => {
                // The carriage return of the empty line is no field's.
                if self.line + line.len() - self.fields_at(start) > limits.head + 1 {
                    return Err(Malformed::large("the fields are larger than allowed"));
                }
                Ok(())
            }
            (None, Lines::Request) => check_request_line(line, limits),
            (None, _) => check_status_line(line, limits),
        }
    }
}

fn check_request_line(line: &[u8], limits: &Limits) -> Result<(), Malformed> {
    if matches!(line, [] | [b'\r']) {
        return Ok(());
    }
    let begin = &line[..line.len().min(METHOD_MOST + 1)];
    let method = begin
        .iter()
        .position(|byte| *byte == b' ')
        .unwrap_or(begin.len());
    if method == 0 || !begin[..method].iter().copied().all(is_token) {
        return Err(Malformed::bad(
            "the request line does not begin with a method",
        ));
    }
    if method > METHOD_MOST {
        return Err(Malformed::bad("the method is longer than any"));
    }
    if line.len() > METHOD_MOST + limits.target + " ".len() + " HTTP/1.1\r".len() {
        return Err(Malformed {
            kind: RefusalKind::UriTooLong,
            reason: "the target is longer than allowed",
        });
    }
    Ok(())
}

/// Whether a request line ends with a version of HTTP/1.
fn names_version(line: &[u8]) -> bool {
    matches!(
        line,
        [
            ..,
            b' ',
            b'H',
            b'T',
            b'T',
            b'P',
            b'/',
            b'1',
            b'.',
            b'0'..=b'9'
        ]
    )
}

fn check_status_line(line: &[u8], limits: &Limits) -> Result<(), Malformed> {
    const BEGIN: &[u8] = b"HTTP/1.";
    let begin = &line[..line.len().min(BEGIN.len())];
    if *begin != BEGIN[..begin.len()] {
        return Err(Malformed::bad("the answer does not begin with HTTP/1"));
    }
    if line.len() > limits.target {
        return Err(Malformed::large("the status line is longer than allowed"));
    }
    Ok(())
}

/// A character of a method or of a field's name (RFC 9110, section 5.6.2).
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::head::CLIENT_LIMITS;

    fn scan(kind: Lines, text: &[u8]) -> Result<Option<Extent>, Malformed> {
        Scan::new(kind).step(text, &CLIENT_LIMITS)
    }

    #[test]
    fn finds_the_parts_of_a_head() {
        let extent = scan(Lines::Request, b"\r\nGET / HTTP/1.1\r\na: b\r\n\r\nrest")
            .unwrap()
            .unwrap();
        assert_eq!((extent.start, extent.fields), (2..16, 18..26));
        assert_eq!(extent.count, 1);
        let extent = scan(Lines::Trailers, b"a: b\r\n\r\n").unwrap().unwrap();
        assert_eq!((extent.fields, extent.count), (0..8, 1));
        let extent = scan(Lines::Trailers, b"\r\n").unwrap().unwrap();
        assert_eq!((extent.fields, extent.count), (0..2, 0));
    }

    #[test]
    fn refuses_as_soon_as_it_can() {
        for bytes in [
            &b"\x16\x03\x01"[..],
            b" GET",
            b"\rG",
            b"GET / HTTP/1.1\n",
            b"GET / HTTP/1.1\r\na\n",
            b"\n",
            b"\r\n\r\n\r\n",
        ] {
            let fault = scan(Lines::Request, bytes).unwrap_err();
            assert_eq!(fault.kind, RefusalKind::BadRequest, "{bytes:?}");
        }
        for bytes in [&b"HTTQ"[..], b"\r\n", b"HTTP/2", b"H\n"] {
            assert!(scan(Lines::Response, bytes).is_err(), "{bytes:?}");
        }
        for bytes in [
            &b"\r\n\r\n"[..],
            b"\r",
            b"GET",
            b"GET / HTTP/1.1\r\na: b\r\n",
        ] {
            assert!(scan(Lines::Request, bytes).unwrap().is_none(), "{bytes:?}");
        }
    }
}
