//! Where a client's bytes stand among the messages of HTTP/1.1, apart from what hyper makes of them.
//!
//! In: the bytes, cut anywhere. Out: whether a head has begun and is not whole, whether a body is under way, and whether the bytes
//! can be read in two ways: a line feed without its carriage return, or two lengths. Hyper takes the one and hides the other
//! (RFC 9112, sections 2.2 and 6.3). Bodies are stepped over by their length, so that a request which came in the same flight as
//! another, or behind a body that was answered early, is looked at like the first.
//! Invariant: what hyper refuses anyway may be misread here; what it takes is not.

/// The place in a stream of messages.
#[derive(Default)]
pub(super) struct Messages {
    at: At,
    /// How the current line begins, and how long it is so far.
    start: [u8; START],
    length: usize,
    after_return: bool,
    head: Head,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum At {
    /// In a head, or before it.
    #[default]
    Head,
    /// In a body, with so many bytes to come.
    Body(u64),
    /// In the line that says how long a chunk is.
    Size,
    /// In a chunk, with so many bytes to come, its line end among them.
    Chunk(u64),
    /// Behind the last chunk.
    Trailers,
    /// Behind something that hyper refuses.
    Lost,
}

/// What the lines of the current head have said.
#[derive(Default)]
struct Head {
    /// A line with something in it has been seen: empty lines before that are skipped (RFC 9112, section 2.2).
    begun: bool,
    size: Option<u64>,
    coded: bool,
}

const LENGTH: &[u8] = b"content-length:";
const CODING: &[u8] = b"transfer-encoding:";

/// Room for a length of sixteen digits behind its name: ten petabytes.
const START: usize = 32;

impl Messages {
    /// Whether a head has begun and is not whole.
    pub(super) fn is_in_head(&self) -> bool {
        self.at == At::Head && (self.head.begun || self.length > 0)
    }

    /// Whether a body has begun and is not whole.
    pub(super) fn is_in_body(&self) -> bool {
        !matches!(self.at, At::Head | At::Lost)
    }

    /// Goes on over `bytes`; whether they can be read in two ways.
    pub(super) fn are_ambiguous(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            match self.at {
                At::Lost => return false,
                At::Body(left) => self.at = step(left, &mut bytes).map_or(At::Head, At::Body),
                At::Chunk(left) => self.at = step(left, &mut bytes).map_or(At::Size, At::Chunk),
                At::Head | At::Size | At::Trailers => {
                    let Some(end) = memchr::memchr(b'\n', bytes) else {
                        self.push(bytes);
                        return false;
                    };
                    self.push(&bytes[..end]);
                    bytes = &bytes[end + 1..];
                    if !self.after_return || self.line_is_ambiguous() {
                        return true;
                    }
                    (self.length, self.after_return) = (0, false);
                }
            }
        }
        false
    }

    /// A further part of the current line.
    fn push(&mut self, part: &[u8]) {
        if let Some(room) = self.start.get_mut(self.length..) {
            let count = room.len().min(part.len());
            room[..count].copy_from_slice(&part[..count]);
        }
        self.length += part.len();
        self.after_return = part.last().map_or(self.after_return, |last| *last == b'\r');
    }

    /// Takes in the finished line; whether it says a second time how long the body is.
    fn line_is_ambiguous(&mut self) -> bool {
        let whole = self.length - 1; // without its carriage return
        let line = &self.start[..whole.min(START)];
        match self.at {
            At::Head if whole == 0 && self.head.begun => {
                let Head { size, coded, .. } = std::mem::take(&mut self.head);
                self.at = match size {
                    _ if coded => At::Size,
                    Some(size @ 1..) => At::Body(size),
                    Some(0) | None => At::Head,
                };
            }
            At::Head if whole > 0 => {
                self.head.begun = true;
                if let Some(value) = after(line, LENGTH) {
                    let size = std::str::from_utf8(value)
                        .ok()
                        .filter(|_| whole <= START)
                        .and_then(|text| text.trim().parse().ok());
                    // A length that cannot be read, or stands a second time, is one that two readers may read differently.
                    if size.is_none() || self.head.size.is_some() {
                        return true;
                    }
                    self.head.size = size;
                }
                self.head.coded |= after(line, CODING).is_some();
                return self.head.coded && self.head.size.is_some();
            }
            At::Size => self.at = chunk(line),
            At::Trailers if whole == 0 => self.at = At::Head,
            _ => {}
        }
        false
    }
}

/// Steps over what `bytes` hold of `left`; what is still to come, if anything.
fn step(left: u64, bytes: &mut &[u8]) -> Option<u64> {
    let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    *bytes = &bytes[count..];
    Some(left - count as u64).filter(|left| *left > 0)
}

/// What stands behind `name`, in any case, at the beginning of a line.
fn after<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, value) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then_some(value)
}

/// What follows the line that says how long a chunk is (RFC 9112, section 7.1).
fn chunk(line: &[u8]) -> At {
    let digits = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let size = std::str::from_utf8(&line[..digits])
        .ok()
        .and_then(|digits| u64::from_str_radix(digits, 16).ok());
    match size {
        Some(0) => At::Trailers,
        Some(size) => size.checked_add(2).map_or(At::Lost, At::Chunk),
        None => At::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ambiguous(pieces: &[&str]) -> bool {
        let mut messages = Messages::default();
        pieces
            .iter()
            .any(|piece| messages.are_ambiguous(piece.as_bytes()))
    }

    /// Whether `text` is ambiguous; cut anywhere, it has to be as much.
    #[track_caller]
    fn ambiguous_however_cut(text: &str) -> bool {
        let whole = ambiguous(&[text]);
        for cut in 0..text.len() {
            assert_eq!(
                ambiguous(&[&text[..cut], &text[cut..]]),
                whole,
                "{text:?} cut at {cut}"
            );
        }
        whole
    }

    #[test]
    fn two_lengths_are_seen_and_one_is_none_of_our_business() {
        let head = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        for fields in [
            "Content-Length: 2\r\nContent-Length: 2\r\n",
            "CONTENT-LENGTH:2\r\nA: b\r\nTransfer-Encoding: chunked\r\n",
            "transfer-encoding: chunked\r\ncontent-length: 2\r\n",
            "Content-Length: 2, 2\r\n",
            "Content-Length:                                                     2\r\n",
        ] {
            assert!(ambiguous_however_cut(&head(fields)), "{fields:?}");
        }
        for fields in [
            "Content-Length: 2\r\n",
            "Transfer-Encoding: chunked\r\n",
            "X-Content-Length: 2\r\nContent-Lengths: 3\r\n",
            "",
        ] {
            assert!(!ambiguous_however_cut(&head(fields)), "{fields:?}");
        }
    }

    #[test]
    fn a_bare_line_feed_in_a_head_is_seen() {
        for text in [
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "\nGET / HTTP/1.1\r\n",
            "\r\n\r\nGET / HTTP/1.1\n",
        ] {
            assert!(ambiguous_however_cut(text), "{text:?}");
        }
        assert!(!ambiguous_however_cut(
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"
        ));
    }

    const FIRST: [&str; 4] = [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nlines\nmore",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\na\nb\nc\r\n1\r\n\n\r\n0\r\nTrailer: d\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    ];

    #[test]
    fn the_next_message_is_looked_at_like_the_first_and_no_body_is() {
        for first in FIRST {
            for second in FIRST {
                assert!(
                    !ambiguous_however_cut(&format!("{first}{second}")),
                    "{first:?} {second:?}"
                );
            }
            assert!(
                ambiguous_however_cut(&format!("{first}GET / HTTP/1.1\nHost: a\r\n\r\n")),
                "{first:?}"
            );
            assert!(
                ambiguous_however_cut(&format!(
                    "{first}POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n"
                )),
                "{first:?}"
            );
        }
    }

    #[test]
    fn tells_a_head_and_a_body_that_are_under_way() {
        for message in FIRST {
            let mut messages = Messages::default();
            assert!(!messages.is_in_head() && !messages.is_in_body());
            let body = message.find("\r\n\r\n").unwrap() + 4;
            for (at, byte) in message.bytes().enumerate() {
                assert!(!messages.are_ambiguous(&[byte]));
                let (head, rest) = (at + 1 < body, at + 1 < message.len());
                assert_eq!(
                    (messages.is_in_head(), messages.is_in_body()),
                    (head, rest && !head),
                    "{message:?} at {at}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_no_cut_changes_the_verdict(text in "([a-f0-9: ;]|\r\n|\n|\r|content-length:|transfer-encoding:){0,40}", cut in 0..200_usize) {
            let cut = cut.min(text.len());
            prop_assert_eq!(ambiguous(&[&text]), ambiguous(&[&text[..cut], &text[cut..]]));
        }
    }
}
