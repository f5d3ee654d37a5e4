//! The head of an answer.
//!
//! As strict as that of a request: an answer that two programs could read in two ways is none. The
//! words behind a status are checked and dropped; they say nothing that the status does not.

use bytes::{Bytes, BytesMut};
use http::response::Parts;
use http::{Method, Response, StatusCode, Version};

use super::scan::{Lines, Scan};
use super::{Length, Limits, take_block};
use crate::http1::{Malformed, fields};

/// Reads one head, of an interim answer or of the last. A new one for each.
#[derive(Debug)]
pub struct ResponseReader(Scan);

/// A whole head.
#[derive(Debug)]
pub struct ResponseHead {
    /// Status, version and fields, those of the connection among them.
    pub parts: Parts,
    /// What follows.
    pub body: Length,
    /// Whether the connection may carry a further request once this answer has ended.
    pub keep_alive: bool,
    /// Whether it says that it switches protocols.
    pub upgrade: bool,
}

impl Default for ResponseReader {
    fn default() -> Self {
        Self(Scan::new(Lines::Response))
    }
}

impl ResponseReader {
    /// Takes a whole head, the answer to a request with `method`, off `bytes`, or nothing while it
    /// is not whole.
    ///
    /// # Errors
    /// What is wrong with it, as a clause.
    pub fn read(
        &mut self,
        bytes: &mut BytesMut,
        method: &Method,
        limits: &Limits,
    ) -> Result<Option<ResponseHead>, &'static str> {
        let Some(extent) = self.0.step(bytes, limits).map_err(reason)? else {
            return Ok(None);
        };
        let block = take_block(bytes, extent.fields.end);
        let start = &block[extent.start];
        let head = parse(start, &block.slice(extent.fields), extent.count, method);
        head.map(Some).map_err(reason)
    }
}

fn reason(fault: Malformed) -> &'static str {
    fault.reason
}

fn parse(
    start: &[u8],
    block: &Bytes,
    count: usize,
    method: &Method,
) -> Result<ResponseHead, Malformed> {
    let (version, status) = status_line(start)?;
    let fields = fields::parse(block, count)?;
    let modern = version == Version::HTTP_11;
    if fields.chunked && !modern {
        return Err(Malformed::bad("Transfer-Encoding in HTTP/1.0"));
    }
    let bodiless = status.is_informational() || status == StatusCode::NO_CONTENT;
    let body = match fields.length {
        _ if bodiless || status == StatusCode::NOT_MODIFIED || *method == Method::HEAD => {
            Length::None
        }
        _ if fields.chunked => Length::Chunked,
        Some(0) => Length::None,
        Some(length) => Length::Exact(length),
        None => Length::UntilClose,
    };
    // A body announced where there can be none: whoever wrote that may well send one.
    let doubtful = bodiless && (fields.chunked || fields.length.is_some_and(|length| length > 0));
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = status;
    parts.version = version;
    parts.headers = fields.map;
    let connection = fields.connection;
    Ok(ResponseHead {
        parts,
        body,
        keep_alive: !connection.close
            && (modern || connection.keep_alive)
            && body != Length::UntilClose
            && !doubtful,
        upgrade: connection.upgrade,
    })
}

fn status_line(line: &[u8]) -> Result<(Version, StatusCode), Malformed> {
    let (version, rest) = match line {
        [
            b'H',
            b'T',
            b'T',
            b'P',
            b'/',
            b'1',
            b'.',
            minor,
            b' ',
            rest @ ..,
        ] => (
            match minor {
                b'0' => Version::HTTP_10,
                b'1'..=b'9' => Version::HTTP_11,
                _ => return Err(Malformed::bad("the version is none of HTTP/1")),
            },
            rest,
        ),
        _ => return Err(Malformed::bad("the status line has no version and status")),
    };
    let (status, words) = rest.split_at_checked(3).unwrap_or((rest, b""));
    let status = StatusCode::from_bytes(status)
        .map_err(|_| Malformed::bad("the status is not of three digits, or below 100"))?;
    let sound = match words {
        [] => true,
        [b' ', words @ ..] => words
            .iter()
            .all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..)),
        _ => false,
    };
    if !sound {
        return Err(Malformed::bad(
            "the status has more behind it than a blank and words",
        ));
    }
    Ok((version, status))
}
