//! A request as a plugin reads it: leniently, because what a lenient reader takes for something
//! else is what is to be found out.
//!
//! In: a connection. Out: the next request with its body read, or the end. Lines may end with LF
//! alone; a coding goes before a length; nothing is kept of a body. Bounded in everything.

use std::io::{BufRead, Error, ErrorKind, Read, Result};

use crate::prove::mark::{self, HEADER};
use crate::prove::seen::{Framing, Seen, kept, kept_target};

/// A head may be so long, of so many fields, and a body: more than doors let through.
const HEAD_MOST: u64 = 128 * 1024;
const FIELDS_MOST: usize = 1000;
const BODY_MOST: u64 = 64 << 20;

/// One request.
#[derive(Default)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    /// Bytes as they came, for the mark.
    raw_target: Vec<u8>,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    trailers: Vec<(Vec<u8>, Vec<u8>)>,
    framing: Framing,
    complete: bool,
    /// The connection ends with it.
    pub(super) last: bool,
}

impl Request {
    /// What is kept of it; `None` without a mark.
    pub(super) fn seen(&self) -> Option<Seen> {
        let header = self.all(HEADER).find_map(mark::find);
        // The target goes first: what hides in a message has no header that anybody else wrote.
        let mark = mark::find(&self.raw_target).or(header)?.to_owned();
        let fields = |fields: &[(Vec<u8>, Vec<u8>)]| {
            fields
                .iter()
                .map(|(name, value)| kept(name, value))
                .collect()
        };
        Some(Seen {
            mark,
            method: self.method.clone(),
            target: kept_target(&self.raw_target),
            headers: fields(&self.headers),
            trailers: fields(&self.trailers),
            framing: self.framing,
            complete: self.complete,
        })
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let named = self
            .headers
            .iter()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name.as_bytes()));
        named.map(|(_, value)| value.as_slice())
    }
}

/// Reads the next request; `None` at the end of the connection.
pub(super) fn read(reader: &mut impl BufRead) -> Result<Option<Request>> {
    let mut left = HEAD_MOST;
    let Some(first) = line(reader, &mut left)? else {
        return Ok(None);
    };
    let mut words = first.split(|byte| *byte == b' ');
    let method = String::from_utf8_lossy(words.next().unwrap_or_default()).into_owned();
    let raw_target = words.next().unwrap_or_default().to_vec();
    let version = words.next().unwrap_or_default().to_vec();
    let mut request = Request {
        method,
        target: String::from_utf8_lossy(&raw_target).into_owned(),
        raw_target,
        headers: fields(reader, &mut left)?,
        ..Request::default()
    };
    let closes = request
        .all("connection")
        .any(|value| value.eq_ignore_ascii_case(b"close"));
    request.last = closes || version != b"HTTP/1.1";
    body(reader, &mut request)?;
    Ok(Some(request))
}

fn body(reader: &mut impl BufRead, request: &mut Request) -> Result<()> {
    let coding = request.all("transfer-encoding").next().is_some();
    let lengths: Vec<Option<u64>> = request
        .all("content-length")
        .map(|value| std::str::from_utf8(value).ok()?.trim().parse().ok())
        .collect();
    request.framing = match (coding, lengths.len()) {
        (false, 0) => Framing::None,
        (false, 1) => Framing::Length,
        (true, 0) => Framing::Chunked,
        _ => Framing::Both,
    };
    if coding {
        request.complete = chunks(reader, request)?;
    } else if let Some(length) = lengths.first() {
        let length = length.filter(|length| *length <= BODY_MOST);
        request.complete = length.is_some_and(|length| skip(reader, length));
    } else {
        request.complete = true;
    }
    request.last |= !request.complete;
    Ok(())
}

/// Whether all chunks came.
fn chunks(reader: &mut impl BufRead, request: &mut Request) -> Result<bool> {
    let mut all = 0_u64;
    loop {
        let mut left = HEAD_MOST;
        let Ok(Some(line)) = line(reader, &mut left) else {
            return Ok(false);
        };
        let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let size = std::str::from_utf8(size)
            .ok()
            .and_then(|size| u64::from_str_radix(size.trim(), 16).ok());
        let Some(size) = size else { return Ok(false) };
        if size == 0 {
            request.trailers = fields(reader, &mut left)?;
            return Ok(true);
        }
        all = all.saturating_add(size);
        let ended = |reader: &mut _| {
            self::line(reader, &mut HEAD_MOST.clone())
                .is_ok_and(|line| line.is_some_and(|line| line.is_empty()))
        };
        if all > BODY_MOST || !skip(reader, size) || !ended(reader) {
            return Ok(false);
        }
    }
}

fn skip(reader: &mut impl BufRead, length: u64) -> bool {
    std::io::copy(&mut reader.take(length), &mut std::io::sink())
        .is_ok_and(|copied| copied == length)
}

fn fields(reader: &mut impl BufRead, left: &mut u64) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut all = Vec::new();
    loop {
        let line = line(reader, left)?.ok_or(ErrorKind::UnexpectedEof)?;
        if line.is_empty() {
            return Ok(all);
        }
        if all.len() == FIELDS_MOST {
            return Err(Error::from(ErrorKind::InvalidData));
        }
        let colon = line
            .iter()
            .position(|byte| *byte == b':')
            .unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        all.push((
            line[..colon].trim_ascii().to_vec(),
            value.trim_ascii().to_vec(),
        ));
    }
}

/// The next line without its end; `None` at the end of the connection.
fn line(reader: &mut impl BufRead, left: &mut u64) -> Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = reader.by_ref().take(*left).read_until(b'\n', &mut line)?;
    *left -= u64::try_from(read).unwrap_or(*left).min(*left);
    if line.pop() != Some(b'\n') {
        return if read == 0 && *left > 0 {
            Ok(None)
        } else {
            Err(Error::from(ErrorKind::InvalidData))
        };
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(text: &str) -> Vec<Seen> {
        let mut reader = text.as_bytes();
        let mut all = Vec::new();
        while let Ok(Some(request)) = read(&mut reader) {
            all.extend(request.seen());
            if request.last {
                break;
            }
        }
        all
    }

    #[test]
    fn a_lenient_reader_finds_what_hides() {
        let mark = format!("pv{}-1", "a".repeat(32));
        let hidden = requests(&format!(
            "POST /{mark} HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /{mark}s HTTP/1.1\r\n\r\n"
        ));
        assert_eq!(hidden.len(), 2);
        assert_eq!(
            (hidden[0].framing, hidden[1].mark.ends_with('s')),
            (Framing::Both, true)
        );
        let bare = requests(&format!("GET /{mark} HTTP/1.1\nX-Role : a\n\n"));
        assert_eq!(bare[0].all("x-role"), ["a"]);
        let cut = requests(&format!(
            "POST /{mark} HTTP/1.1\r\nContent-Length: 9\r\n\r\nhi"
        ));
        assert!(!cut[0].complete);
        assert!(requests("GET / HTTP/1.1\r\n\r\n").is_empty());
        assert!(requests(&"a".repeat(300 * 1024)).is_empty());
        assert!(
            requests(&format!(
                "POST /{mark} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
            ))[0]
                .framing
                == Framing::Chunked
        );
    }
}
