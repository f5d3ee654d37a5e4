//! What hyper does not tell of a client's connection: when a head begins, whether its lines end as they must, and whether the
//! client takes what we write.
//!
//! In: the client's bytes, on their way to hyper. Out: the same bytes, and a [`Link`] that the connection's driver and the pipeline
//! read. A bare line feed in a head is where two readers may see two different messages: hyper takes it, we refuse it (RFC 9112,
//! section 2.2). A head that does not come in time is answered here, since hyper would only close.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use gapura_mesh::upstream::dial::BoxIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A client's stream.
pub(super) struct StrictIo {
    io: BoxIo,
    link: Arc<Link>,
    lines: Lines,
    late: usize,
}

/// What the connection's driver, its stream and its requests tell each other. One thread uses it; hyper wants it `Send`.
#[derive(Default)]
pub(super) struct Link {
    under_way: Arc<AtomicUsize>,
    served: AtomicUsize,
    head_began: AtomicBool,
    too_late: AtomicBool,
    blocked: AtomicBool,
    written: AtomicU64,
    sound: AtomicBool,
}

/// Where in a head's lines the stream is, and what they say of the body's length: hyper drops a second, equal length and a length
/// beside `chunked` without a word (RFC 9112, section 6.3).
#[derive(Default)]
struct Lines {
    /// The last byte was a carriage return.
    after_return: bool,
    /// How the current line begins, and its length so far.
    start: [u8; START],
    length: usize,
    /// A line with something in it has been seen: empty lines before that are skipped (RFC 9112, section 2.2).
    begun: bool,
    /// The empty line has been seen: the rest is body, or the next head.
    ended: bool,
    lengths: u8,
    coded: bool,
}

const LENGTH: &[u8] = b"content-length:";
const CODING: &[u8] = b"transfer-encoding:";
const START: usize = CODING.len();

/// The whole answer to a head that came too slowly: no request, so no id and no envelope (CONTRACT section 5 allows a bare
/// status).
const LATE: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

impl StrictIo {
    pub(super) fn new(io: BoxIo, link: Arc<Link>) -> Self {
        link.sound.store(true, Ordering::Relaxed);
        Self { io, link, lines: Lines::default(), late: 0 }
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.late < LATE.len() {
            let sent = ready!(Pin::new(&mut self.io).poll_write(cx, &LATE[self.late..]))?;
            if sent == 0 {
                return Poll::Ready(Ok(()));
            }
            self.late += sent;
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn look(&mut self, bytes: &[u8]) {
        if self.link.requests() > 0 || bytes.is_empty() {
            return;
        }
        if !self.link.head_began.swap(true, Ordering::Relaxed) {
            self.lines = Lines::default();
        }
        if self.lines.is_ambiguous(bytes) {
            self.link.sound.store(false, Ordering::Relaxed);
        }
    }

    fn told<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.link.blocked.store(result.is_pending(), Ordering::Relaxed);
        if result.is_ready() {
            self.link.written.fetch_add(1, Ordering::Relaxed);
        }
        result
    }
}

impl Link {
    /// How many requests are under way.
    pub(super) fn requests(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    /// The counter itself, for the records of requests.
    pub(super) fn under_way(&self) -> Arc<AtomicUsize> {
        self.under_way.clone()
    }

    /// How many heads have come.
    pub(super) fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    /// Bytes of a head have come, and it is not whole.
    pub(super) fn is_in_head(&self) -> bool {
        self.head_began.load(Ordering::Relaxed) && self.requests() == 0
    }

    /// A whole head has come.
    pub(super) fn head_is_in(&self) {
        self.head_began.store(false, Ordering::Relaxed);
        self.served.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether every line of the heads so far ended as it must.
    pub(super) fn is_sound(&self) -> &AtomicBool {
        &self.sound
    }

    /// From now on a read answers that the head came too slowly, and ends.
    pub(super) fn give_up(&self) {
        self.too_late.store(true, Ordering::Relaxed);
    }

    /// Whether the client has stopped taking what we write, and a mark that moves whenever it takes some.
    pub(super) fn write_state(&self) -> (bool, u64) {
        (self.blocked.load(Ordering::Relaxed), self.written.load(Ordering::Relaxed))
    }
}

impl Lines {
    /// Goes on over `bytes`; whether the head can be read in two ways: a line feed without a carriage return, or two lengths.
    fn is_ambiguous(&mut self, bytes: &[u8]) -> bool {
        let mut from = 0;
        while !self.ended && from < bytes.len() {
            let Some(at) = memchr::memchr(b'\n', &bytes[from..]).map(|at| from + at) else {
                self.take(&bytes[from..]);
                self.after_return = bytes.last() == Some(&b'\r');
                return false;
            };
            let returned = if at > from { bytes[at - 1] == b'\r' } else { self.after_return };
            self.take(&bytes[from..at]);
            if !returned || self.has_two_lengths() {
                return true;
            }
            let is_empty = self.length == 1;
            self.ended = is_empty && self.begun;
            self.begun |= !is_empty;
            (self.length, self.after_return) = (0, false);
            from = at + 1;
        }
        false
    }

    /// A further part of the current line.
    fn take(&mut self, part: &[u8]) {
        if let Some(room) = self.start.get_mut(self.length..) {
            let count = room.len().min(part.len());
            room[..count].copy_from_slice(&part[..count]);
        }
        self.length += part.len();
    }

    /// Counts what the finished line says of the body's length.
    fn has_two_lengths(&mut self) -> bool {
        let begins = |name: &[u8]| self.length >= name.len() && self.start[..name.len()].eq_ignore_ascii_case(name);
        let (length, coding) = (begins(LENGTH), begins(CODING));
        self.lengths = self.lengths.saturating_add(u8::from(length));
        self.coded |= coding;
        self.lengths > 1 || (self.lengths > 0 && self.coded)
    }
}

impl AsyncRead for StrictIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.link.too_late.load(Ordering::Relaxed) {
            // Nothing read is the end of the stream.
            return this.poll_late(cx);
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        this.look(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StrictIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.told(result)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.told(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_flush(cx);
        self.told(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ambiguous(pieces: &[&str]) -> bool {
        let mut lines = Lines::default();
        pieces.iter().any(|piece| lines.is_ambiguous(piece.as_bytes()))
    }

    #[test]
    fn two_lengths_are_seen_and_one_is_none_of_our_business() {
        let head = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\nContent-Length: 1\r\nContent-Length: 1\r\n");
        for fields in ["Content-Length: 2\r\nContent-Length: 2\r\n", "content-length:2\r\nA: b\r\nTransfer-Encoding: chunked\r\n"] {
            let head = head(fields);
            for cut in 0..head.len() {
                assert!(ambiguous(&[&head[..cut], &head[cut..]]), "{fields:?} {cut}");
            }
        }
        for fields in ["Content-Length: 2\r\n", "Transfer-Encoding: chunked\r\n", "X-Content-Length: 2\r\nContent-Lengths: 3\r\n", ""] {
            let head = head(fields);
            for cut in 0..head.len() {
                assert!(!ambiguous(&[&head[..cut], &head[cut..]]), "{fields:?} {cut}");
            }
        }
    }

    #[test]
    fn a_bare_line_feed_in_a_head_is_seen_however_the_bytes_are_cut() {
        assert!(ambiguous(&["GET / HTTP/1.1\nHost: a\r\n\r\n"]));
        assert!(ambiguous(&["GET / HTTP/1.1\r\nHost: a\n\r\n"]));
        assert!(ambiguous(&["GET / HTTP/1.1\r\nHost: a\r\n\n"]));
        assert!(ambiguous(&["\nGET / HTTP/1.1\r\n"]));
        assert!(ambiguous(&["GET / HTTP/1.1", "\nHost"]));
        let whole = "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nbody\nbody";
        assert!(!ambiguous(&[whole]));
        for cut in 0..whole.len() {
            assert!(!ambiguous(&[&whole[..cut], &whole[cut..]]), "{cut}");
        }
    }
}
