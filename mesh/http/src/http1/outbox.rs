//! What waits to be written: heads and small pieces in one buffer, large pieces as they are, all in
//! one gathered write.
//!
//! Invariant: bytes go out in the order in which they were put in, and none twice.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;

use crate::buffers::{Buffers, SIZE};

/// Bytes on their way out.
#[derive(Default)]
pub(super) struct Outbox {
    /// What goes first.
    queue: VecDeque<Bytes>,
    /// What goes last, and grows.
    tail: BytesMut,
    /// Bytes in `queue`.
    queued: usize,
    /// Bytes written so far.
    written: u64,
    /// Something was written since the last flush.
    unflushed: bool,
}

/// Copying a piece up to this costs less than a slice of its own.
const COPIED: usize = 2 * 1024;

/// Slices of one write.
const SLICES: usize = 16;

/// Slots kept when the queue is empty.
const SLOTS_KEPT: usize = 32;

impl Outbox {
    pub(super) fn len(&self) -> usize {
        self.queued + self.tail.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Nothing waits, not even for a flush.
    pub(super) fn is_flushed(&self) -> bool {
        self.is_empty() && !self.unflushed
    }

    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// The end of what waits, to write behind.
    pub(super) fn tail(&mut self, buffers: &Buffers) -> &mut BytesMut {
        if self.tail.capacity() == 0 {
            self.tail = buffers.take();
        }
        &mut self.tail
    }

    pub(super) fn push(&mut self, bytes: Bytes, buffers: &Buffers) {
        if bytes.len() <= COPIED {
            self.tail(buffers).extend_from_slice(&bytes);
            return;
        }
        if !self.tail.is_empty() {
            let before = self.tail.split().freeze();
            self.queued += before.len();
            self.queue.push_back(before);
        }
        self.queued += bytes.len();
        self.queue.push_back(bytes);
    }

    /// Writes all that waits, and flushes.
    pub(super) fn poll_flush<W: AsyncWrite + Unpin>(
        &mut self,
        io: &mut W,
        buffers: &Buffers,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let count = if self.queue.is_empty() {
                ready!(Pin::new(&mut *io).poll_write(cx, &self.tail))?
            } else {
                ready!(self.poll_gathered(io, cx))?
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(count);
        }
        if self.tail.capacity() > 0 {
            buffers.give(std::mem::take(&mut self.tail));
        }
        if self.queue.capacity() > SLOTS_KEPT {
            self.queue = VecDeque::new();
        }
        if self.unflushed {
            ready!(Pin::new(io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_gathered<W: AsyncWrite + Unpin>(
        &self,
        io: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let waiting = self
            .queue
            .iter()
            .map(|bytes| &bytes[..])
            .chain((!self.tail.is_empty()).then_some(&self.tail[..]));
        let mut count = 0;
        for (slot, bytes) in slices.iter_mut().zip(waiting) {
            *slot = IoSlice::new(bytes);
            count += 1;
        }
        Pin::new(io).poll_write_vectored(cx, &slices[..count])
    }

    fn advance(&mut self, mut count: usize) {
        self.written += count as u64;
        self.unflushed = true;
        while count > 0 {
            let Some(first) = self.queue.front_mut() else {
                self.tail.advance(count.min(self.tail.len()));
                return;
            };
            let step = count.min(first.len());
            first.advance(step);
            self.queued -= step;
            count -= step;
            if first.is_empty() {
                self.queue.pop_front();
            }
        }
    }

    /// Forgets what waits.
    pub(super) fn clear(&mut self) {
        let written = self.written;
        *self = Self {
            written,
            ..Self::default()
        };
    }

    /// Gives memory back when nothing waits.
    pub(super) fn rest(&mut self) {
        if self.is_empty() && self.queue.capacity() > 0 {
            self.queue = VecDeque::new();
        }
    }
}

/// More is not gathered before it is written: a turn's worth of a fast peer.
pub(super) const GATHERED: usize = 8 * SIZE;

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn all_goes_out_in_order_however_little_is_taken_at_a_time() {
        let (mut near, mut far) = tokio::io::duplex(7);
        let buffers = Buffers::new();
        let mut outbox = Outbox::default();
        let mut wanted = Vec::new();
        for number in 0..40_u8 {
            let size = if number % 3 == 0 { COPIED + 1 } else { 5 };
            let piece = vec![number; size];
            wanted.extend_from_slice(&piece);
            outbox.push(piece.into(), &buffers);
        }
        assert_eq!(outbox.len(), wanted.len());
        let write = async {
            poll_fn(|cx| outbox.poll_flush(&mut near, &buffers, cx))
                .await
                .unwrap();
            drop(near);
        };
        let mut seen = Vec::new();
        let ((), read) = tokio::join!(write, far.read_to_end(&mut seen));
        read.unwrap();
        assert!(seen == wanted);
        assert!(outbox.is_flushed() && outbox.written() == wanted.len() as u64);
    }
}
