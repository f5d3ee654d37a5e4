//! A stream with what was read ahead of it and what waits to be written: the ground that servers
//! and clients share.
//!
//! Invariant: the buffer is taken from the worker's when something is to be read, and given back by
//! [`Wire::rest`]; a connection that rests owns none.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use tokio::io::AsyncReadExt;

use super::body::{BodyError, Decoder, Piece};
use super::outbox::Outbox;
use crate::buffers::{Buffers, SIZE};
use crate::stream::Stream;

pub(super) struct Wire<IO> {
    pub(super) io: IO,
    /// What has come and is not taken.
    pub(super) bytes: BytesMut,
    pub(super) out: Outbox,
    pub(super) buffers: Buffers,
    /// The peer has closed its sending half.
    pub(super) eof: bool,
    /// Bytes read so far.
    pub(super) read: u64,
    failed: Option<io::ErrorKind>,
    /// How much the next read takes at most.
    reading: usize,
    /// `bytes` is one of the worker's buffers as they are.
    usual: bool,
}

/// With less room than this a read is not worth its while.
const LEAST: usize = 1024;

/// A read of a body that comes fast. On the hop it is two DATA frames of at most 32 KiB, which with
/// their heads of 9 bytes fill four TLS records; more would be a record and a system call for the
/// rest.
const READ_MOST: usize = 2 * (32 * 1024 - 9);

impl<IO: Stream> Wire<IO> {
    pub(super) fn new(io: IO, buffers: Buffers) -> Self {
        Self {
            io,
            bytes: BytesMut::new(),
            out: Outbox::default(),
            buffers,
            eof: false,
            read: 0,
            failed: None,
            reading: SIZE,
            usual: false,
        }
    }

    /// Reads more, once; whether anything came, or else the stream has ended.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if let Some(kind) = self.failed {
            return Poll::Ready(Err(kind.into()));
        }
        if self.eof {
            return Poll::Ready(Ok(false));
        }
        if self.bytes.capacity() - self.bytes.len() < LEAST && !self.bytes.try_reclaim(self.reading)
        {
            self.usual = self.bytes.is_empty() && self.reading == SIZE;
            match (self.bytes.is_empty(), self.reading) {
                (true, SIZE) => self.bytes = self.buffers.take(),
                (true, reading) => self.bytes = BytesMut::with_capacity(reading),
                (false, reading) => self.bytes.reserve(reading),
            }
        }
        let room = self.bytes.capacity() - self.bytes.len();
        let read = pin!(self.io.read_buf(&mut self.bytes)).poll(cx);
        match ready!(read) {
            Ok(0) => {
                self.eof = true;
                Poll::Ready(Ok(false))
            }
            Ok(count) => {
                self.read += count as u64;
                // A sender that fills what it is given has more; one that does not needs no more
                // than usual.
                self.reading = if count == room {
                    (self.reading * 2).min(READ_MOST)
                } else if count < SIZE {
                    SIZE
                } else {
                    self.reading
                };
                Poll::Ready(Ok(true))
            }
            Err(error) => {
                self.failed = Some(error.kind());
                Poll::Ready(Err(error))
            }
        }
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.out.poll_flush(&mut self.io, &self.buffers, cx)
    }

    /// The next piece of the body that `decoder` reads.
    pub(super) fn poll_body(
        &mut self,
        decoder: &mut Decoder,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match decoder.read(&mut self.bytes) {
                Ok(Piece::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Piece::Trailers(trailers)) => {
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Ok(Piece::End) => return Poll::Ready(None),
                Err(error) => return Poll::Ready(Some(Err(error))),
                Ok(Piece::More) => match ready!(self.poll_fill(cx)) {
                    Ok(true) => {}
                    Ok(false) => decoder.end_of_stream(),
                    Err(error) => decoder.fail(BodyError::Gone(error.kind())),
                },
            }
        }
    }

    /// Where heads and small things are written.
    pub(super) fn tail(&mut self) -> &mut BytesMut {
        self.out.tail(&self.buffers)
    }

    /// What comes next is read past: it need not come fast.
    pub(super) fn read_little(&mut self) {
        self.reading = SIZE;
    }

    /// Nothing is under way: gives back what memory is not in use.
    pub(super) fn rest(&mut self) {
        if self.bytes.is_empty() {
            let bytes = std::mem::take(&mut self.bytes);
            // The end of a body may not have gone out yet.
            if std::mem::take(&mut self.usual) {
                self.buffers.lend(bytes);
            } else {
                self.buffers.give(bytes);
            }
        }
        self.out.rest();
        self.reading = SIZE;
    }
}
