//! HTTP/2 by hand: frames as they are wished for, however wrong, and of what comes back the status,
//! the body and the end.
//!
//! In: fields, bodies. Out: bytes for the wire, and an [`Answer`] for stream 1. Header blocks are
//! literals without indexing and without Huffman coding (RFC 7541, section 6.2.2), because a
//! library would refuse to send what is to be tried.

use std::time::Instant;

use super::answer::{Answer, End};
use super::wire::{Got, Wire};

/// The preface, and settings that forbid pushes and a table of header fields.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x0c\x04\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00";

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RESET: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const CONTINUATION: u8 = 9;

/// The flags of a head or body that ends its stream, and of a head that is whole.
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// What every peer takes without having said more.
const FRAME_MOST: usize = 16 * 1024;
const BODY_MOST: usize = 4 << 20;

/// One frame.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .unwrap_or(u32::MAX)
        .to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A head in as many frames as it takes.
pub(super) fn head(stream: u32, fields: &[(Vec<u8>, Vec<u8>)], end: bool) -> Vec<u8> {
    let block = block(fields);
    let count = block.len().div_ceil(FRAME_MOST).max(1);
    let mut out = Vec::new();
    for number in 0..count {
        let part = &block[number * FRAME_MOST..block.len().min((number + 1) * FRAME_MOST)];
        let kind = if number == 0 { HEADERS } else { CONTINUATION };
        let mut flags = if number == 0 && end { END_STREAM } else { 0 };
        if number + 1 == count {
            flags |= END_HEADERS;
        }
        out.extend(frame(kind, flags, stream, part));
    }
    out
}

/// A header block of these fields.
pub(super) fn block(fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        text(&mut out, name);
        text(&mut out, value);
    }
    out
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    integer(out, text.len());
    out.extend(text);
}

/// An integer with a prefix of seven bits (RFC 7541, section 5.1).
fn integer(out: &mut Vec<u8>, number: usize) {
    if number < 127 {
        out.extend(u8::try_from(number));
        return;
    }
    out.push(127);
    let mut rest = number - 127;
    while rest >= 128 {
        out.extend(u8::try_from(rest % 128 + 128));
        rest /= 128;
    }
    out.extend(u8::try_from(rest));
}

/// A frame that came.
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

/// The next frame, until `until` at the latest. Settings are acknowledged on the way.
pub(super) fn next(wire: &mut Wire, until: Instant) -> Result<Frame, End> {
    let header = take(wire, 9, until)?;
    let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
    if length > BODY_MOST {
        return Err(End::Nonsense);
    }
    let frame = Frame {
        kind: header[3],
        flags: header[4],
        stream: u32::from_be_bytes([header[5], header[6], header[7], header[8]]),
        payload: take(wire, length, until)?,
    };
    if frame.kind == SETTINGS && frame.flags & 1 == 0 {
        wire.send(&self::frame(SETTINGS, 1, 0, &[]));
    }
    Ok(frame)
}

fn take(wire: &mut Wire, length: usize, until: Instant) -> Result<Vec<u8>, End> {
    while wire.unread.len() < length {
        match wire.more(until) {
            Got::Bytes => {}
            Got::Closed => return Err(End::Closed),
            Got::Nothing => return Err(End::Silent),
        }
    }
    Ok(wire.unread.drain(..length).collect())
}

/// Reads the answer on `stream`: its status and body, or how it ended without one. A reset is an
/// end like a close.
pub(super) fn answer(wire: &mut Wire, stream: u32, until: Instant) -> Result<Answer, End> {
    let mut answer = Answer::default();
    loop {
        let frame = next(wire, until)?;
        match frame.kind {
            HEADERS if frame.stream == stream => {
                // Trailers have no status, and an interim answer is not the last.
                let status = status(unpadded(&frame)).unwrap_or_default();
                if answer.status < 200 && status != 0 {
                    answer.status = status;
                }
            }
            DATA if frame.stream == stream && answer.body.len() < BODY_MOST => {
                answer.body.extend_from_slice(unpadded(&frame));
            }
            RESET if frame.stream == stream => {
                return if answer.status >= 200 {
                    Ok(answer)
                } else {
                    Err(End::Closed)
                };
            }
            GOAWAY => {
                return if answer.status >= 200 {
                    Ok(answer)
                } else {
                    Err(End::Closed)
                };
            }
            _ => {}
        }
        if frame.stream == stream
            && matches!(frame.kind, HEADERS | DATA)
            && frame.flags & END_STREAM != 0
        {
            return Ok(answer);
        }
    }
}

/// The payload without padding and priority.
fn unpadded(frame: &Frame) -> &[u8] {
    let mut payload = frame.payload.as_slice();
    if frame.flags & 0x8 != 0 {
        let (length, rest) = payload.split_first().unwrap_or((&0, &[]));
        payload = rest
            .get(..rest.len().saturating_sub(usize::from(*length)))
            .unwrap_or_default();
    }
    if frame.kind == HEADERS && frame.flags & 0x20 != 0 {
        payload = payload.get(5..).unwrap_or_default();
    }
    payload
}

/// The status of an answer's block: its first field, indexed in the static table or a literal under
/// one of its names.
fn status(block: &[u8]) -> Option<u16> {
    // A block may begin with updates of the table's size.
    let block = block.get(block.iter().position(|byte| byte & 0xe0 != 0x20)?..)?;
    let (first, rest) = block.split_first()?;
    if first & 0x80 != 0 {
        let known = [200, 204, 206, 304, 400, 404, 500];
        return known
            .get(usize::from(first & 0x7f).checked_sub(8)?)
            .copied();
    }
    let (length, rest) = rest.split_first()?;
    let value = rest.get(..usize::from(length & 0x7f))?;
    if length & 0x80 == 0 {
        return std::str::from_utf8(value).ok()?.parse().ok();
    }
    digits(value)
}

/// Three digits in Huffman's code (RFC 7541, appendix B): `0`, `1`, `2` have five bits, the others
/// six.
fn digits(value: &[u8]) -> Option<u16> {
    let bits = value
        .iter()
        .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
    let width = u32::try_from(value.len() * 8)
        .ok()
        .filter(|width| *width <= 24)?;
    let (mut at, mut number) = (0, 0);
    for _ in 0..3 {
        let peek = |count: u32| {
            bits.checked_shr(width.checked_sub(at + count)?)
                .map(|left| left & ((1 << count) - 1))
        };
        let (digit, count) = match (peek(5)?, peek(6)) {
            (short @ 0..=2, _) => (short, 5),
            (_, Some(long @ 0x19..=0x1f)) => (long - 0x19 + 3, 6),
            _ => return None,
        };
        at += count;
        number = number * 10 + u16::try_from(digit).ok()?;
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_status_in_each_form_a_block_may_have_it() {
        assert_eq!(status(&[0x88]), Some(200));
        assert_eq!(status(&[0x48, 0x03, b'4', b'0', b'3']), Some(403));
        assert_eq!(
            status(&[0x48, 0x82, 0x64, 0x02]),
            Some(302),
            "RFC 7541, appendix C.6.1"
        );
        assert_eq!(status(&[0x20, 0x88]), Some(200));
        assert_eq!(status(&[]), None);
        assert_eq!(status(&[0x48, 0x82, 0xff, 0xff]), None);
    }

    #[test]
    fn a_long_head_goes_on_in_further_frames() {
        let fields = [(b"a".to_vec(), vec![b'b'; 40_000])];
        let bytes = head(1, &fields, true);
        assert_eq!((bytes[3], bytes[4]), (HEADERS, END_STREAM));
        let second = 9 + FRAME_MOST;
        assert_eq!((bytes[second + 3], bytes[second + 4]), (CONTINUATION, 0));
        let third = 2 * second;
        assert_eq!(
            (bytes[third + 3], bytes[third + 4]),
            (CONTINUATION, END_HEADERS)
        );
        assert_eq!(bytes.len(), 3 * 9 + block(&fields).len());
    }
}
