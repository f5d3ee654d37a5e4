//! What the loop of a connection and the body of its request share: the stream, and how far its
//! reading has come.
//!
//! All of it lives on one thread, and no borrow is held over anything that could come back here:
//! neither over a poll of the service or of a body, nor over the drop of one.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::Frame;

use crate::buffers::Buffers;
use crate::http1::body::{BodyError, Decoder};
use crate::http1::head::{Length, Limits};
use crate::http1::incoming::{Incoming, Source};
use crate::http1::wire::Wire;
use crate::http1::write::interim_head;
use crate::stream::Stream;
use crate::timer::Deadline;

pub(super) struct Connection<IO, D>(RefCell<State<IO, D>>);

pub(super) struct State<IO, D> {
    /// None once it was handed over or closed.
    pub(super) wire: Option<Wire<IO>>,
    /// Of the request that is under way.
    pub(super) decoder: Decoder,
    pub(super) expect: Expect,
    /// The head of the answer has been written.
    pub(super) answered: bool,
    /// Somebody holds the request's body.
    pub(super) held: bool,
    /// How much may be read ahead of the answer.
    pub(super) ahead: usize,
    /// Counts the requests, so that a body knows its own.
    message: u64,
    interims_left: u8,
    body_idle: Option<Duration>,
    deadline: D,
    armed: bool,
    /// The connection's loop, when it waits for what the body's reader does.
    waiting: Option<Waker>,
    /// The loop is polling the service or a body, and with it maybe the reader.
    inside: bool,
}

/// Whether the client waits for a 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    Nothing,
    Waiting,
    Told,
}

/// Interim answers to one request: beyond these the other side is playing.
const INTERIMS: u8 = 8;

/// The next request may be read while this one is answered, as far as a usual head; the rest waits
/// in the socket.
const AHEAD: usize = 16 * 1024;

/// What a client may send behind a request for another protocol before the answer to it (CONTRACT
/// section 5).
const AHEAD_OF_UPGRADE: usize = 64 * 1024;

impl<IO, D> Connection<IO, D>
where
    IO: Stream + 'static,
    D: Deadline + 'static,
{
    pub(super) fn new(io: IO, buffers: &Buffers, deadline: D, body_idle: Option<Duration>) -> Self {
        Self(RefCell::new(State {
            wire: Some(Wire::new(io, buffers.clone())),
            decoder: Decoder::new(Length::None, crate::http1::head::CLIENT_LIMITS),
            expect: Expect::Nothing,
            answered: true,
            held: false,
            ahead: AHEAD,
            message: 0,
            interims_left: 0,
            body_idle,
            deadline,
            armed: false,
            waiting: None,
            inside: false,
        }))
    }

    /// A request begins: its body.
    pub(super) fn begin(
        self: &Rc<Self>,
        length: Length,
        limits: Limits,
        expects_continue: bool,
        modern: bool,
        upgrade: bool,
    ) -> Incoming {
        let mut state = self.0.borrow_mut();
        state.message += 1;
        state.decoder = Decoder::new(length, limits);
        state.expect = if expects_continue {
            Expect::Waiting
        } else {
            Expect::Nothing
        };
        state.answered = false;
        state.held = true;
        state.ahead = if upgrade { AHEAD_OF_UPGRADE } else { AHEAD };
        state.interims_left = if modern { INTERIMS } else { 0 };
        if state.armed {
            state.armed = false;
            state.deadline.unset();
        }
        let message = state.message;
        drop(state);
        Incoming::new(self.clone(), message)
    }

    /// Takes the stream away, with what was read of it.
    pub(super) fn take(&self) -> Option<(IO, Bytes)> {
        let mut state = self.0.borrow_mut();
        state.message += 1;
        let wire = state.wire.take()?;
        Some((wire.io, wire.bytes.freeze()))
    }

    /// Polls what may poll the request's body in turn.
    pub(super) fn inside<R>(&self, poll: impl FnOnce() -> R) -> R {
        self.0.borrow_mut().inside = true;
        let polled = poll();
        self.0.borrow_mut().inside = false;
        polled
    }

    /// Works on the state. `work` must not come back here.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut State<IO, D>) -> R) -> R {
        work(&mut self.0.borrow_mut())
    }
}

impl<IO, D> State<IO, D> {
    /// The loop wants to hear when the body's reader has come to an end, or wants something
    /// written.
    pub(super) fn wait(&mut self, cx: &Context<'_>) {
        match &self.waiting {
            Some(waiting) if waiting.will_wake(cx.waker()) => {}
            _ => self.waiting = Some(cx.waker().clone()),
        }
    }
}

impl<IO, D> Source for Connection<IO, D>
where
    IO: Stream + 'static,
    D: Deadline + 'static,
{
    fn poll_frame(
        &self,
        message: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut state = self.0.borrow_mut();
        let state = &mut *state;
        let Some(wire) = state.wire.as_mut().filter(|_| state.message == message) else {
            return Poll::Ready(Some(Err(BodyError::Cut)));
        };
        let mut tell = false;
        if state.expect == Expect::Waiting {
            if state.answered && wire.bytes.is_empty() {
                // It was not told to send its body, and need not.
                return Poll::Ready(Some(Err(BodyError::Cut)));
            }
            state.expect = Expect::Told;
            if wire.bytes.is_empty() {
                wire.tail()
                    .extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                // Where it does not go out at once, the loop goes on with it; where it can't,
                // reading tells.
                let _ = wire.poll_flush(cx);
                tell = !wire.out.is_flushed();
            }
        }
        let polled = wire.poll_body(&mut state.decoder, cx);
        let polled = match (polled, state.body_idle) {
            (Poll::Pending, Some(idle)) => {
                if !state.armed {
                    state.armed = true;
                    state.deadline.reset(idle);
                }
                if state.deadline.poll_passed(cx).is_ready() {
                    state.decoder.fail(BodyError::Idle);
                    Poll::Ready(Some(Err(BodyError::Idle)))
                } else {
                    Poll::Pending
                }
            }
            (polled, _) => polled,
        };
        if polled.is_ready() && state.armed {
            state.armed = false;
            state.deadline.unset();
        }
        if tell || state.decoder.is_ended() || state.decoder.failure().is_some() {
            // Where it is the loop that polls, it looks for itself right behind this.
            let waiting = state.waiting.take_if(|_| !state.inside);
            if let Some(waiting) = waiting {
                waiting.wake();
            }
        }
        polled
    }

    fn left(&self, message: u64) -> Option<u64> {
        let state = self.0.borrow();
        if state.message == message {
            state.decoder.left()
        } else {
            None
        }
    }

    fn release(&self, message: u64) {
        let mut state = self.0.borrow_mut();
        if state.message != message {
            return;
        }
        state.held = false;
        if state.decoder.is_ended() {
            return;
        }
        let waiting = state.waiting.take();
        drop(state);
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }

    fn poll_upload(&self, _: u64, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn send_interim(&self, message: u64, status: StatusCode, headers: &HeaderMap) -> bool {
        let mut state = self.0.borrow_mut();
        let state = &mut *state;
        let fits = state.message == message
            && !state.answered
            && state.interims_left > 0
            && status.is_informational()
            && !matches!(
                status,
                StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS
            );
        let Some(wire) = state.wire.as_mut().filter(|_| fits) else {
            return false;
        };
        state.interims_left -= 1;
        interim_head(status, headers, wire.tail());
        if let Some(waiting) = state.waiting.take() {
            waiting.wake();
        }
        true
    }
}
