//! Moves a body into an HTTP/2 stream, as fast as its receiver takes it and no faster.
//!
//! In: a [`Body`] and the stream's sending half. Out: `Ok` once the end of the stream has been handed to `h2`. Never holds more
//! than one frame of the body. A receiver that takes nothing for a minute ends it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body as _;

use crate::body::{Body, Fault};
use crate::timers::{Sleep, Timers};

/// How long a receiver may take nothing.
const STALL_LIMIT: Duration = Duration::from_secs(60);

/// One piece of DATA: with its 9 bytes of frame header it fills two TLS records to the byte, which saves a fifth of the CPU of an
/// upload against pieces of 16 KiB.
const PIECE: usize = MAX_FRAME as usize - 9;

/// The largest frame that both ends of the hop take.
pub const MAX_FRAME: u32 = 32 * 1024;

/// The move of one body.
pub struct Pump {
    body: Body,
    stream: SendStream<Bytes>,
    pending: Bytes,
    ended: bool,
    stall: Option<Sleep>,
    timers: Timers,
}

/// Why the move ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PumpFault {
    /// The body broke.
    Body(Fault),
    /// The receiver took nothing for too long.
    Stalled,
    /// The receiver wants no more: it reset the stream, or its connection is gone.
    Refused,
}

impl Pump {
    /// Ready to move `body` into `stream`.
    #[must_use]
    pub fn new(body: Body, stream: SendStream<Bytes>, timers: &Timers) -> Self {
        Self {
            body,
            stream,
            pending: Bytes::new(),
            ended: false,
            stall: None,
            timers: timers.clone(),
        }
    }

    /// Hands what is pending to h2; ready when nothing is left of it.
    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PumpFault>> {
        while !self.pending.is_empty() {
            self.stream.reserve_capacity(self.pending.len().min(PIECE));
            let mut capacity = self.stream.capacity();
            if capacity == 0 {
                match self.stream.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(granted))) => capacity = granted,
                    Poll::Ready(Some(Err(_)) | None) => {
                        return Poll::Ready(Err(PumpFault::Refused));
                    }
                    Poll::Pending => return self.poll_stall(cx),
                }
            }
            if capacity == 0 {
                continue;
            }
            self.stall = None;
            let piece = self
                .pending
                .split_to(capacity.min(self.pending.len()).min(PIECE));
            let last = self.ended && self.pending.is_empty();
            self.stream
                .send_data(piece, last)
                .map_err(|_| PumpFault::Refused)?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PumpFault>> {
        if let Poll::Ready(_reset) = self.stream.poll_reset(cx) {
            return Poll::Ready(Err(PumpFault::Refused));
        }
        let stall = self
            .stall
            .get_or_insert_with(|| self.timers.sleep(STALL_LIMIT));
        if stall.poll_passed(cx).is_ready() {
            self.stream.send_reset(Reason::CANCEL);
            return Poll::Ready(Err(PumpFault::Stalled));
        }
        Poll::Pending
    }
}

impl Future for Pump {
    type Output = Result<(), PumpFault>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            std::task::ready!(this.poll_pending(cx))?;
            if this.ended {
                return Poll::Ready(Ok(()));
            }
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        this.ended = this.body.is_ended();
                        if data.is_empty() && this.ended {
                            this.stream
                                .send_data(data, true)
                                .map_err(|_| PumpFault::Refused)?;
                        } else {
                            this.pending = data;
                        }
                    }
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        this.ended = true;
                        this.stream
                            .send_trailers(trailers)
                            .map_err(|_| PumpFault::Refused)?;
                    }
                },
                Poll::Ready(Some(Err(fault))) => {
                    this.stream.send_reset(Reason::INTERNAL_ERROR);
                    return Poll::Ready(Err(PumpFault::Body(fault)));
                }
                Poll::Ready(None) => {
                    this.ended = true;
                    this.stream
                        .send_data(Bytes::new(), true)
                        .map_err(|_| PumpFault::Refused)?;
                }
                Poll::Pending => {
                    // The receiver may give up while we wait for more.
                    if let Poll::Ready(_reset) = this.stream.poll_reset(cx) {
                        return Poll::Ready(Err(PumpFault::Refused));
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}
