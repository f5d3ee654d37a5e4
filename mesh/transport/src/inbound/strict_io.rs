//! What hyper does not tell of a client's connection: when a head begins, whether it can be read in one way only, and whether the
//! client takes what we write.
//!
//! In: the client's bytes, on their way to hyper. Out: the same bytes, and a [`Link`] that the connection's driver and the pipeline
//! read. A head that does not come in time is answered here, since hyper would only close.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::messages::Messages;
use crate::io::BoxIo;

/// A client's stream.
pub struct StrictIo {
    io: BoxIo,
    link: Arc<Link>,
    /// None over HTTP/2, whose frames have no lines.
    messages: Option<Messages>,
    late: usize,
}

/// What the connection's driver, its stream and its requests tell each other. One thread uses it; hyper wants it `Send`.
#[derive(Default)]
pub struct Link {
    under_way: Arc<AtomicUsize>,
    served: AtomicUsize,
    in_head: AtomicBool,
    in_body: AtomicBool,
    reads: AtomicU64,
    too_late: AtomicBool,
    blocked: AtomicBool,
    written: AtomicU64,
    ambiguous: AtomicBool,
}

/// One request of a connection, until it is dropped.
#[derive(Debug)]
pub struct UnderWay(Arc<AtomicUsize>);

/// The whole answer to a head that came too slowly: no request, so no id and no envelope (CONTRACT section 5 allows a bare
/// status).
const LATE: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

impl StrictIo {
    /// Looks at the messages of HTTP/1.1.
    #[must_use]
    pub fn http1(io: BoxIo, link: Arc<Link>) -> Self {
        Self {
            io,
            link,
            messages: Some(Messages::default()),
            late: 0,
        }
    }

    /// Looks at how the client takes what we write, and no more.
    #[must_use]
    pub fn http2(io: BoxIo, link: Arc<Link>) -> Self {
        Self {
            io,
            link,
            messages: None,
            late: 0,
        }
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
        let Some(messages) = &mut self.messages else {
            return;
        };
        if messages.are_ambiguous(bytes) {
            self.link.ambiguous.store(true, Ordering::Relaxed);
        }
        self.link.reads.fetch_add(1, Ordering::Relaxed);
        self.link
            .in_head
            .store(messages.is_in_head(), Ordering::Relaxed);
        self.link
            .in_body
            .store(messages.is_in_body(), Ordering::Relaxed);
    }

    fn told<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.link
            .blocked
            .store(result.is_pending(), Ordering::Relaxed);
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

    /// How many heads have come.
    pub(super) fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    /// A request has begun; it ends with what is returned.
    #[must_use]
    pub fn begin(&self) -> UnderWay {
        self.served.fetch_add(1, Ordering::Relaxed);
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(self.under_way.clone())
    }

    /// Bytes of a head have come, and it is not whole.
    pub(super) fn is_in_head(&self) -> bool {
        self.in_head.load(Ordering::Relaxed)
    }

    /// Bytes of a body have come, and it is not whole; its answer may have gone already.
    pub(super) fn is_in_body(&self) -> bool {
        self.in_body.load(Ordering::Relaxed)
    }

    /// A mark that moves whenever bytes have come.
    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// Whether the messages so far could be read in two ways.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        self.ambiguous.load(Ordering::Relaxed)
    }

    /// From now on a read answers that the head came too slowly, and ends.
    pub(super) fn give_up(&self) {
        self.too_late.store(true, Ordering::Relaxed);
    }

    /// Whether the client has stopped taking what we write, and a mark that moves whenever it takes some.
    pub(super) fn write_state(&self) -> (bool, u64) {
        (
            self.blocked.load(Ordering::Relaxed),
            self.written.load(Ordering::Relaxed),
        )
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsyncRead for StrictIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
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
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.told(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
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
