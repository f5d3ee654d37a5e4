//! Moves a body into an HTTP/2 stream, as fast as its receiver takes it and no faster.
//!
//! In: a body, the length that its head announced, and the stream's sending half. Out: `Ok` once
//! the end of the stream has been handed to `h2`, or why there is none; the reset is the owner's.
//! Never holds more than one frame of the body. What was announced is sent, and no more; an end
//! before that is a cut. A receiver that takes nothing for a minute ends it.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::HeaderMap;
use http_body::Body;

use super::held::Share;
use super::length::Left;
use gapura_http::pace::Pace;
use gapura_http::{Deadline, Timer};

/// One piece of DATA: with its 9 bytes of frame header it fills two TLS records to the byte, which
/// saves a fifth of the CPU of an upload against pieces of 16 KiB.
const PIECE: usize = super::MAX_FRAME as usize - 9;

/// The move of one body.
pub(super) struct Pump<B, T: Timer> {
    body: B,
    stream: SendStream<Bytes>,
    share: Rc<Share>,
    left: Left,
    pending: Bytes,
    trailers: Option<HeaderMap>,
    /// The body has said all that it has to say.
    ended: bool,
    /// The end has been handed on.
    sent: bool,
    stall: Option<T::Deadline>,
    stall_within: Duration,
    pace: Option<Pace>,
    timer: T,
}

/// Why the move ended early.
#[derive(Debug)]
pub(super) enum PumpError<E> {
    /// The body broke.
    Body(E),
    /// The body ended before it was as long as announced.
    Short,
    /// The receiver took nothing for too long.
    Stalled,
    /// The receiver wants no more: it reset the stream, or its connection is gone.
    Refused,
}

impl<B, T> Pump<B, T>
where
    B: Body<Data = Bytes> + Unpin,
    T: Timer + Clone,
{
    /// Ready to move `body`, of the length that its head announced, into `stream`.
    pub(super) fn new(
        body: B,
        left: Left,
        stream: SendStream<Bytes>,
        share: &Rc<Share>,
        stall_within: Duration,
        timer: &T,
    ) -> Self {
        Self {
            body,
            stream,
            share: share.clone(),
            left,
            pending: Bytes::new(),
            trailers: None,
            ended: false,
            sent: false,
            stall: None,
            stall_within,
            pace: None,
            timer: timer.clone(),
        }
    }

    /// The same, of which the receiver takes no less than this.
    pub(super) fn paced(mut self, pace: Option<Pace>) -> Self {
        self.pace = pace;
        self
    }

    /// Whether the receiver has to take something before the body is asked again.
    pub(super) fn is_blocked(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(super) fn body(&mut self) -> &mut B {
        &mut self.body
    }

    pub(super) fn into_body(self) -> B {
        self.body
    }

    /// Ends the stream for this reason: what was not sent yet is not sent.
    pub(super) fn reset(&mut self, reason: Reason) {
        self.stream.send_reset(reason);
    }

    /// Goes on.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PumpError<B::Error>>> {
        loop {
            ready!(self.poll_pending(cx))?;
            if self.sent {
                return Poll::Ready(Ok(()));
            }
            if self.ended {
                self.send_end()?;
                continue;
            }
            ready!(self.poll_body(cx))?;
        }
    }

    /// Asks the body for its next frame.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PumpError<B::Error>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                match frame.into_data() {
                    Ok(mut data) => {
                        data.truncate(self.left.pass(data.len()));
                        self.pending = data;
                        if self.body.is_end_stream() {
                            self.ended = true;
                        } else if self.left.is_whole() {
                            self.hear_out(cx);
                        }
                    }
                    Err(frame) => {
                        self.trailers = frame.into_trailers().ok();
                        self.ended = true;
                    }
                }
                if self.ended && self.left.is_short() {
                    // What came of it goes out, and no end behind it.
                    self.ended = false;
                    ready!(self.poll_pending(cx))?;
                    return Poll::Ready(Err(PumpError::Short));
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(PumpError::Body(error))),
            Poll::Ready(None) if self.left.is_short() => Poll::Ready(Err(PumpError::Short)),
            Poll::Ready(None) => {
                self.ended = true;
                Poll::Ready(Ok(()))
            }
            Poll::Pending => {
                // The receiver may give up while we wait for more.
                match self.stream.poll_reset(cx) {
                    Poll::Ready(_reset) => Poll::Ready(Err(PumpError::Refused)),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }

    /// All that was announced has come. Trailers that the body has at hand go out behind it, and a
    /// body that only has to say that it is over says so, so that it does not take itself for one
    /// that was cut.
    fn hear_out(&mut self, cx: &mut Context<'_>) {
        self.ended = true;
        if let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut self.body).poll_frame(cx) {
            self.trailers = frame.into_trailers().ok();
        }
    }

    /// Hands what is pending to `h2`; ready when nothing is left of it.
    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PumpError<B::Error>>> {
        while !self.pending.is_empty() {
            if self.share.poll_room(cx).is_pending() {
                return self.poll_stall(cx);
            }
            self.stream.reserve_capacity(self.pending.len().min(PIECE));
            let mut capacity = self.stream.capacity();
            if capacity == 0 {
                match self.stream.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(granted))) => capacity = granted,
                    Poll::Ready(Some(Err(_)) | None) => {
                        return Poll::Ready(Err(PumpError::Refused));
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
            let last = self.ended && self.trailers.is_none() && self.pending.is_empty();
            if let Some(pace) = &mut self.pace
                && pace.moved(piece.len() as u64, Instant::now)
            {
                return Poll::Ready(Err(PumpError::Stalled));
            }
            self.share.handed(piece.len());
            self.stream
                .send_data(piece, last)
                .map_err(|_| PumpError::Refused)?;
            self.sent = last;
        }
        Poll::Ready(Ok(()))
    }

    fn send_end(&mut self) -> Result<(), PumpError<B::Error>> {
        let handed = match self.trailers.take() {
            Some(trailers) => self.stream.send_trailers(trailers),
            None => self.stream.send_data(Bytes::new(), true),
        };
        self.sent = true;
        handed.map_err(|_| PumpError::Refused)
    }

    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PumpError<B::Error>>> {
        if let Poll::Ready(_reset) = self.stream.poll_reset(cx) {
            return Poll::Ready(Err(PumpError::Refused));
        }
        if let Some(pace) = &mut self.pace {
            pace.waits(Instant::now);
        }
        let (timer, within) = (&self.timer, self.stall_within);
        let stall = self.stall.get_or_insert_with(|| {
            let stall = timer.unset();
            stall.reset(within);
            stall
        });
        match stall.poll_passed(cx) {
            Poll::Ready(()) => Poll::Ready(Err(PumpError::Stalled)),
            Poll::Pending => Poll::Pending,
        }
    }
}
