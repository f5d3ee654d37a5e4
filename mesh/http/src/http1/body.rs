//! The body of a message, in either direction: of a length, in chunks, until the stream ends, or
//! none.
//!
//! In: the bytes behind a head, cut anywhere. Out: data as slices of the buffer they came in,
//! trailers, and how the body ended.
//! Invariant: a body of known length is whole when its bytes are, whatever the stream says next;
//! every other end than the one its framing names is an error that says whose fault it is.

use std::fmt;
use std::io;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::Malformed;
use super::fields;
use super::head::{Length, Limits, Lines, Scan, take_block};

/// Why a body ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// The stream ended in its middle, or the exchange that it belongs to did.
    Cut,
    /// It is malformed: its sender's fault, in these words.
    Bad(&'static str),
    /// The connection broke.
    Gone(io::ErrorKind),
    /// No byte came for too long.
    Idle,
    /// Nobody took what had come for too long, or too much of it stood unread: over HTTP/2, where
    /// it is kept for the reader.
    Stalled,
}

/// Reads one body.
#[derive(Debug)]
pub struct Decoder {
    at: At,
    limits: Limits,
    /// Bytes of data so far.
    data: u64,
    /// Bytes of chunk extensions so far.
    extensions: u64,
}

/// A piece of a body.
#[derive(Debug)]
pub enum Piece {
    /// Bytes of it, at least one.
    Data(Bytes),
    /// What stood behind the last chunk: the end, if it is there.
    Trailers(HeaderMap),
    /// The end.
    End,
    /// More has to be read.
    More,
}

#[derive(Debug)]
enum At {
    End,
    /// So many bytes to come.
    Exact(u64),
    UntilClose,
    /// The line that says how long a chunk is.
    Size,
    /// In a chunk, with so many bytes to come.
    Chunk(u64),
    /// The line end behind a chunk.
    ChunkEnd,
    Trailers(Scan),
    Failed(BodyError),
}

/// A size of sixteen digits and an extension such as a signature of a chunk.
const SIZE_LINE_MOST: usize = 512;

/// All extensions of a message together, beyond one byte for sixteen of data: nobody may make us
/// read past more than is sent.
const EXTENSIONS_MOST: u64 = 16 * 1024;

impl Decoder {
    /// Reads a body of this length; `limits` are those of its trailers.
    #[must_use]
    pub fn new(length: Length, limits: Limits) -> Self {
        let at = match length {
            Length::None | Length::Exact(0) => At::End,
            Length::Exact(length) => At::Exact(length),
            Length::Chunked => At::Size,
            Length::UntilClose => At::UntilClose,
        };
        Self {
            at,
            limits,
            data: 0,
            extensions: 0,
        }
    }

    /// Whether the end has been read.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(self.at, At::End)
    }

    /// Why there will be no end, if that is known.
    #[must_use]
    pub fn failure(&self) -> Option<BodyError> {
        match self.at {
            At::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// How many bytes are to come, where the framing says it.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        match self.at {
            At::End => Some(0),
            At::Exact(left) => Some(left),
            _ => None,
        }
    }

    /// There will be no more of it, for this reason.
    pub fn fail(&mut self, error: BodyError) {
        if !self.is_ended() && self.failure().is_none() {
            self.at = At::Failed(error);
        }
    }

    /// The stream has ended, and nothing is left in the buffer.
    pub fn end_of_stream(&mut self) {
        match self.at {
            At::UntilClose => self.at = At::End,
            _ => self.fail(BodyError::Cut),
        }
    }

    /// Takes the next piece off `bytes`.
    ///
    /// # Errors
    /// [`BodyError`], the same one again and again.
    pub fn read(&mut self, bytes: &mut BytesMut) -> Result<Piece, BodyError> {
        loop {
            match &mut self.at {
                At::End => return Ok(Piece::End),
                At::Failed(error) => return Err(*error),
                At::UntilClose if bytes.is_empty() => return Ok(Piece::More),
                At::UntilClose => return Ok(Piece::Data(bytes.split().freeze())),
                At::Exact(left) => {
                    let Some(data) = take(bytes, left) else {
                        return Ok(Piece::More);
                    };
                    if *left == 0 {
                        self.at = At::End;
                    }
                    return Ok(Piece::Data(data));
                }
                At::Chunk(left) => {
                    let Some(data) = take(bytes, left) else {
                        return Ok(Piece::More);
                    };
                    self.data += data.len() as u64;
                    if *left == 0 {
                        self.at = At::ChunkEnd;
                    }
                    return Ok(Piece::Data(data));
                }
                At::ChunkEnd => match &bytes[..] {
                    [] | [b'\r'] => return Ok(Piece::More),
                    [b'\r', b'\n', ..] => {
                        let _ = bytes.split_to(2);
                        self.at = At::Size;
                    }
                    _ => return self.bad("a chunk is longer than its size"),
                },
                At::Size => {
                    let Some(end) = size_line(bytes).or_else(|reason| self.bad(reason))? else {
                        return Ok(Piece::More);
                    };
                    let line = bytes.split_to(end + 2);
                    self.at = self
                        .chunk(&line[..end])
                        .or_else(|reason| self.bad(reason))?;
                }
                At::Trailers(scan) => {
                    let found = scan.step(bytes, &self.limits);
                    let extent = found.or_else(|fault| self.bad(fault.reason))?;
                    let Some(extent) = extent else {
                        return Ok(Piece::More);
                    };
                    let block = take_block(bytes, extent.fields.end);
                    let trailers =
                        trailers(&block, extent.count).or_else(|fault| self.bad(fault.reason))?;
                    self.at = At::End;
                    if !trailers.is_empty() {
                        return Ok(Piece::Trailers(trailers));
                    }
                }
            }
        }
    }

    fn bad<T>(&mut self, reason: &'static str) -> Result<T, BodyError> {
        let error = BodyError::Bad(reason);
        self.at = At::Failed(error);
        Err(error)
    }

    /// What follows the line that says how long a chunk is (RFC 9112, section 7.1).
    fn chunk(&mut self, line: &[u8]) -> Result<At, &'static str> {
        let digits = line
            .iter()
            .position(|byte| !byte.is_ascii_hexdigit())
            .unwrap_or(line.len());
        if digits == 0 || digits > 16 {
            return Err("a chunk's size is no number");
        }
        let size = line[..digits].iter().fold(0_u64, |size, digit| {
            size << 4 | u64::from(char::from(*digit).to_digit(16).unwrap_or_default())
        });
        let extension = &line[digits..];
        if !matches!(extension, [] | [b';', ..]) {
            return Err("a chunk's size has something else than `;` behind it");
        }
        if extension
            .iter()
            .any(|byte| byte.is_ascii_control() && *byte != b'\t')
        {
            return Err("a chunk's extension has a control character");
        }
        self.extensions += extension.len() as u64;
        if self.extensions > EXTENSIONS_MOST + self.data / 16 {
            return Err("the chunks' extensions are larger than allowed");
        }
        Ok(match size {
            0 => At::Trailers(Scan::new(Lines::Trailers)),
            size => At::Chunk(size),
        })
    }
}

/// At most `left` bytes; nothing if there are none.
fn take(bytes: &mut BytesMut, left: &mut u64) -> Option<Bytes> {
    let count = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
    if count == 0 {
        return None;
    }
    *left -= count as u64;
    Some(bytes.split_to(count).freeze())
}

/// Where the line of a chunk's size ends, if it does.
fn size_line(bytes: &[u8]) -> Result<Option<usize>, &'static str> {
    let begin = &bytes[..bytes.len().min(SIZE_LINE_MOST)];
    match memchr::memchr(b'\n', begin) {
        Some(end) => match begin[..end].strip_suffix(b"\r") {
            Some(line) => Ok(Some(line.len())),
            None => Err("the line of a chunk's size ends without its carriage return"),
        },
        None if bytes.len() >= SIZE_LINE_MOST => Err("the line of a chunk's size is too long"),
        None => match bytes.first() {
            // Waiting for more of a line that can't become one would blame time for what is
            // malformed.
            Some(first) if !first.is_ascii_hexdigit() => Err("a chunk's size is no number"),
            _ => Ok(None),
        },
    }
}

/// The trailers that may pass; others are left out, as a field that nobody may rely on there.
fn trailers(block: &Bytes, count: usize) -> Result<HeaderMap, Malformed> {
    if count == 0 {
        return Ok(HeaderMap::new());
    }
    let all = fields::parse(block, count)?.map;
    if all.keys().all(fields::may_trail) {
        return Ok(all);
    }
    let mut passing = HeaderMap::new();
    for (name, value) in &all {
        if fields::may_trail(name) {
            passing.append(name, value.clone());
        }
    }
    Ok(passing)
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut => f.write_str("the body broke off before its end"),
            Self::Bad(reason) => f.write_str(reason),
            Self::Gone(kind) => write!(f, "the connection broke in the body: {kind}"),
            Self::Idle => f.write_str("no byte of the body came for too long"),
            Self::Stalled => f.write_str("nobody took the body for too long"),
        }
    }
}

impl std::error::Error for BodyError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::head::CLIENT_LIMITS;

    /// The data, the trailers and the end of `text`, read in pieces of `step` bytes; what is left
    /// over is counted.
    fn read(
        length: Length,
        text: &[u8],
        step: usize,
    ) -> (Vec<u8>, usize, Result<usize, BodyError>) {
        let mut decoder = Decoder::new(length, CLIENT_LIMITS);
        let (mut data, mut trailing) = (Vec::new(), 0);
        let mut bytes = BytesMut::new();
        let mut rest = text;
        loop {
            match decoder.read(&mut bytes) {
                Ok(Piece::Data(piece)) => data.extend_from_slice(&piece),
                Ok(Piece::Trailers(trailers)) => trailing = trailers.len(),
                Ok(Piece::End) => return (data, trailing, Ok(bytes.len() + rest.len())),
                Err(error) => return (data, trailing, Err(error)),
                Ok(Piece::More) if rest.is_empty() => decoder.end_of_stream(),
                Ok(Piece::More) => {
                    let (next, later) = rest.split_at(step.min(rest.len()));
                    bytes.extend_from_slice(next);
                    rest = later;
                }
            }
        }
    }

    #[track_caller]
    fn however_cut(length: Length, text: &[u8]) -> (Vec<u8>, usize, Result<usize, BodyError>) {
        let whole = read(length, text, usize::MAX);
        for step in 1..=text.len().min(40) {
            assert_eq!(read(length, text, step), whole, "in pieces of {step}");
        }
        whole
    }

    #[test]
    fn a_known_length_is_whole_when_its_bytes_are() {
        assert_eq!(
            however_cut(Length::Exact(3), b"abcdef"),
            (b"abc".to_vec(), 0, Ok(3))
        );
        assert_eq!(however_cut(Length::None, b"abc").2, Ok(3));
        assert_eq!(
            however_cut(Length::Exact(4), b"abc"),
            (b"abc".to_vec(), 0, Err(BodyError::Cut))
        );
    }

    #[test]
    fn until_close_is_whole_at_the_end_of_the_stream() {
        assert_eq!(
            however_cut(Length::UntilClose, b"abc"),
            (b"abc".to_vec(), 0, Ok(0))
        );
    }

    #[test]
    fn chunks_with_extensions_and_trailers() {
        let text = b"3;a=\"b c\"\r\nabc\r\n00000000000000aA\r\n".to_vec();
        let text = [
            text,
            vec![b'x'; 0xaa],
            b"\r\n0;z\r\nx-a: 1\r\nx-a: 2\r\nhost: evil\r\n\r\nnext".to_vec(),
        ]
        .concat();
        let (data, trailers, end) = however_cut(Length::Chunked, &text);
        assert_eq!((data.len(), trailers, end), (3 + 0xaa, 2, Ok(4)));
        assert_eq!(
            however_cut(Length::Chunked, b"0\r\n\r\n"),
            (vec![], 0, Ok(0))
        );
    }

    #[test]
    fn broken_chunks_are_their_senders_fault() {
        for text in [
            &b"g\r\n"[..],
            b"\r\n",
            b"-1\r\n",
            b"+1\r\n",
            b"0x1\r\n",
            b" 1\r\n",
            b"1 \r\na\r\n",
            b"1 ;a\r\na\r\n",
            b"1\na\r\n",
            b"1\r\nab\r\n",
            b"1\r\na\n0\r\n\r\n",
            b"1\r\na0\r\n\r\n",
            b"1;a\rb\r\na\r\n",
            b"1;a\0\r\na\r\n",
            b"11111111111111111\r\n",
            b"0\r\na\r\n\r\n",
            b"0\r\na : b\r\n\r\n",
            b"0\r\na: b\n\r\n",
            b"0\r\na: b\r\n c\r\n\r\n",
        ] {
            let (_, _, end) = however_cut(Length::Chunked, text);
            assert!(matches!(end, Err(BodyError::Bad(_))), "{text:?}: {end:?}");
        }
        for text in [
            &b""[..],
            b"1",
            b"1\r\n",
            b"1\r\na",
            b"1\r\na\r\n",
            b"1\r\na\r\n0\r\n",
            b"0\r\na: b\r\n",
        ] {
            let (_, _, end) = however_cut(Length::Chunked, text);
            assert_eq!(end, Err(BodyError::Cut), "{text:?}");
        }
    }

    #[test]
    fn extensions_are_read_past_within_a_bound() {
        let long = [b"1;".to_vec(), vec![b'a'; SIZE_LINE_MOST]].concat();
        assert!(matches!(
            read(Length::Chunked, &long, 100).2,
            Err(BodyError::Bad(_))
        ));
        let chunk = [b"1;".to_vec(), vec![b'a'; 300], b"\r\nx\r\n".to_vec()].concat();
        let (data, _, end) = read(Length::Chunked, &chunk.repeat(1000), 1000);
        assert!(data.len() < 100 && matches!(end, Err(BodyError::Bad(_))));
        let signed = [
            b"10000;".to_vec(),
            vec![b'a'; 100],
            b"\r\n".to_vec(),
            vec![b'x'; 0x10000],
            b"\r\n".to_vec(),
        ]
        .concat();
        let text = [signed.repeat(300), b"0\r\n\r\n".to_vec()].concat();
        assert_eq!(read(Length::Chunked, &text, 30_000).2, Ok(0));
    }
}
