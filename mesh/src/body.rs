//! The one body type of a message under way, in either direction.
//!
//! In: bytes from a peer, over whichever protocol. Out: the same bytes, as an `http_body::Body`, with what we owe every body: a
//! count of the bytes, a limit, a deadline between two bytes, and trailers that obey the header rule. Never copied and never
//! collected: a gigabyte passes in the memory of a few frames, since nothing is taken before the receiver asks for it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use crate::access::Record;
use crate::headers::{scrub_request_trailers, scrub_response_trailers};
use crate::streams::HopStream;
use crate::timers::{Sleep, Timers};
use crate::upstream::h1::Lease;

/// A body under way: a pointer, since messages change hands many times before they are read; nothing at all where there is no body.
pub struct Body(Option<Box<State>>);

struct State {
    source: Source,
    left: Option<u64>,
    idle: Option<(Sleep, Duration)>,
    trailers: Trailers,
    upload: Option<Rc<Upload>>,
    record: Option<Box<Record>>,
    lease: Option<Lease>,
    /// When it ends as if the sender had ended it.
    until: Option<End>,
    /// When it ends as if the sender had gone away.
    cut: Option<End>,
}

/// The moment at which a body ends, whatever its sender thinks.
pub type End = Pin<Box<dyn Future<Output = ()>>>;

enum Source {
    End,
    Full(Bytes),
    Incoming(Incoming),
    Hop(Rc<HopStream>),
}

/// Which trailers may pass.
pub enum Trailers {
    /// Those of an answer.
    Response,
    /// Those of a request: `grpc-*`, and those the plugin asks for.
    Request(Rc<dyn Fn(&HeaderName) -> bool>),
}

/// Why a body ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No byte came for too long.
    Idle,
    /// More bytes came than are allowed.
    TooLarge,
    /// The sender went away, or broke the protocol.
    Cut,
    /// The receiver took nothing for too long, or held too much unread.
    Stalled,
}

/// What is known of a request's body while somebody else reads it.
#[derive(Default)]
pub struct Upload {
    bytes: Cell<u64>,
    state: Cell<UploadState>,
    waiting: RefCell<Option<Waker>>,
}

/// How far a request's body has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UploadState {
    /// More may come.
    #[default]
    Flowing,
    /// It has been read to its end.
    Finished,
    /// It broke.
    Failed(Fault),
}

impl Body {
    fn of(source: Source) -> Self {
        Self(Some(Box::new(State::of(source))))
    }

    /// No body.
    #[must_use]
    pub fn empty() -> Self {
        Self(None)
    }

    /// A body that is all there.
    #[must_use]
    pub fn full(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            Self::empty()
        } else {
            Self::of(Source::Full(bytes))
        }
    }

    /// A body that hyper reads.
    #[must_use]
    pub fn incoming(incoming: Incoming) -> Self {
        if http_body::Body::is_end_stream(&incoming) {
            Self::empty()
        } else {
            Self::of(Source::Incoming(incoming))
        }
    }

    /// A body that comes over an HTTP/2 connection of ours.
    #[must_use]
    pub fn hop(stream: Rc<HopStream>) -> Self {
        Self::of(Source::Hop(stream))
    }

    /// Fails once more than `limit` bytes have come.
    #[must_use]
    pub fn limited(mut self, limit: Option<u64>) -> Self {
        if let Some(state) = &mut self.0 {
            state.left = limit;
        }
        self
    }

    /// Fails when no byte comes for `idle`, while somebody waits for one.
    #[must_use]
    pub fn idle_after(mut self, timers: &Timers, idle: Duration) -> Self {
        if let Some(state) = &mut self.0
            && !matches!(state.source, Source::End | Source::Full(_))
        {
            state.idle = Some((timers.unset(), idle));
        }
        self
    }

    /// Ends, as if the sender had, once `end` is ready.
    #[must_use]
    pub fn ending_when(mut self, end: End) -> Self {
        if let Some(state) = &mut self.0 {
            state.until = Some(end);
        }
        self
    }

    /// Breaks off once `end` is ready, so that nobody takes what has come for the whole.
    #[must_use]
    pub fn cut_when(mut self, end: End) -> Self {
        if let Some(state) = &mut self.0 {
            state.cut = Some(end);
        }
        self
    }

    /// Lets through the trailers that a request may have.
    #[must_use]
    pub fn trailers(mut self, trailers: Trailers) -> Self {
        if let Some(state) = &mut self.0 {
            state.trailers = trailers;
        }
        self
    }

    /// Tells `upload` how far the body has come.
    #[must_use]
    pub fn watched(mut self, upload: Rc<Upload>) -> Self {
        match &mut self.0 {
            Some(state) => state.upload = Some(upload),
            None => upload.set(UploadState::Finished),
        }
        self
    }

    /// Carries the request's record, which is finished when the body is dropped, sent or not.
    #[must_use]
    pub fn recorded(mut self, record: Box<Record>) -> Self {
        self.0
            .get_or_insert_with(|| Box::new(State::of(Source::End)))
            .record = Some(record);
        self
    }

    /// Gives the connection back once the body has been read to its end; a body that is dropped before closes it.
    #[must_use]
    pub fn leased(mut self, lease: Lease) -> Self {
        match &mut self.0 {
            Some(state) if !state.is_ended() => state.lease = Some(lease),
            _ => lease.give_back(),
        }
        self
    }

    /// Whether not a byte is left to come.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.0.as_ref().is_none_or(|state| state.is_ended())
    }
}

impl State {
    fn of(source: Source) -> Self {
        Self {
            source,
            left: None,
            idle: None,
            trailers: Trailers::Response,
            upload: None,
            record: None,
            lease: None,
            until: None,
            cut: None,
        }
    }

    fn is_ended(&self) -> bool {
        match &self.source {
            Source::End => true,
            Source::Full(_) => false,
            Source::Incoming(incoming) => http_body::Body::is_end_stream(incoming),
            Source::Hop(stream) => stream.is_end_stream(),
        }
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match &mut self.source {
            Source::End => Poll::Ready(None),
            Source::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.source = Source::End;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Source::Incoming(incoming) => {
                http_body::Body::poll_frame(Pin::new(incoming), cx).map_err(|_| Fault::Cut)
            }
            Source::Hop(stream) => stream.poll_frame(cx),
        }
    }

    fn passed(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Fault> {
        if let Some(data) = frame.data_ref() {
            let count = data.len() as u64;
            if let Some(left) = &mut self.left {
                *left = left.checked_sub(count).ok_or(Fault::TooLarge)?;
            }
            if let Some(upload) = &self.upload {
                upload.count(count);
            }
            if let Some(record) = &mut self.record {
                record.bytes_out += count;
            }
            return Ok(frame);
        }
        match frame.into_trailers() {
            Ok(trailers) => Ok(Frame::trailers(self.scrubbed(trailers))),
            Err(other) => Ok(other),
        }
    }

    fn scrubbed(&mut self, mut trailers: HeaderMap) -> HeaderMap {
        let stripped = match &self.trailers {
            Trailers::Response => scrub_response_trailers(&mut trailers),
            Trailers::Request(forwarded) => {
                scrub_request_trailers(&mut trailers, |name| forwarded(name))
            }
        };
        if let Some(record) = &mut self.record {
            record
                .stripped
                .add(crate::headers::Kind::Trailer, stripped.total());
        }
        trailers
    }

    fn finish(&mut self, state: UploadState) {
        self.source = Source::End;
        self.idle = None;
        match (self.lease.take(), state) {
            (Some(lease), UploadState::Finished) => lease.give_back(),
            (lease, _) => drop(lease),
        }
        if let Some(upload) = self.upload.take() {
            upload.set(state);
        }
    }
}

/// Whether a moment has come; it is forgotten then, since nothing may be asked twice that has answered.
fn is_over(end: &mut Option<End>, cx: &mut Context<'_>) -> bool {
    let is_over = end
        .as_mut()
        .is_some_and(|end| end.as_mut().poll(cx).is_ready());
    if is_over {
        *end = None;
    }
    is_over
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let Some(this) = &mut self.0 else {
            return Poll::Ready(None);
        };
        if is_over(&mut this.cut, cx) {
            drop(this.lease.take());
            this.finish(UploadState::Failed(Fault::Cut));
            return Poll::Ready(Some(Err(Fault::Cut)));
        }
        if is_over(&mut this.until, cx) {
            // The connection behind it is in the middle of an answer and cannot be used again.
            drop(this.lease.take());
            this.finish(UploadState::Finished);
            return Poll::Ready(None);
        }
        let polled = match this.poll_source(cx) {
            Poll::Ready(polled) => polled,
            Poll::Pending => {
                let Some((sleep, idle)) = &this.idle else {
                    return Poll::Pending;
                };
                if !sleep.is_set() {
                    sleep.reset(*idle);
                }
                if sleep.poll_passed(cx).is_pending() {
                    return Poll::Pending;
                }
                Some(Err(Fault::Idle))
            }
        };
        if let Some((sleep, _)) = &this.idle {
            sleep.unset();
        }
        match polled.map(|frame| frame.and_then(|frame| this.passed(frame))) {
            Some(Ok(frame)) => {
                // Trailers are the end: whoever got them asks for nothing more.
                if frame.is_trailers() || this.is_ended() {
                    this.finish(UploadState::Finished);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(fault)) => {
                this.finish(UploadState::Failed(fault));
                Poll::Ready(Some(Err(fault)))
            }
            None => {
                this.finish(UploadState::Finished);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_ended()
    }

    fn size_hint(&self) -> SizeHint {
        let Some(state) = &self.0 else {
            return SizeHint::with_exact(0);
        };
        match &state.source {
            Source::End => SizeHint::with_exact(0),
            Source::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Incoming(incoming) => http_body::Body::size_hint(incoming),
            Source::Hop(stream) => stream.size_hint(),
        }
    }
}

impl Drop for State {
    /// A body that nobody reads any more will not be finished: who waits for that must not wait for ever.
    fn drop(&mut self) {
        if let Some(upload) = self.upload.take() {
            upload.set(if self.is_ended() {
                UploadState::Finished
            } else {
                UploadState::Failed(Fault::Cut)
            });
        }
    }
}

impl Upload {
    /// A body that was never there is at its end.
    #[must_use]
    pub fn finished() -> Self {
        Self {
            state: Cell::new(UploadState::Finished),
            ..Self::default()
        }
    }

    /// Counts bytes that were read.
    pub(crate) fn count(&self, more: u64) {
        self.bytes.set(self.bytes.get() + more);
    }

    /// Bytes read so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// How far the body has come; wakes `cx` when that changes.
    pub fn poll_state(&self, cx: &mut Context<'_>) -> UploadState {
        let state = self.state.get();
        if state == UploadState::Flowing {
            drop(self.waiting.replace(Some(cx.waker().clone())));
        }
        state
    }

    /// How far the body has come.
    #[must_use]
    pub fn state(&self) -> UploadState {
        self.state.get()
    }

    fn set(&self, state: UploadState) {
        if self.state.get() == UploadState::Flowing {
            self.state.set(state);
            let waiting = self.waiting.borrow_mut().take();
            if let Some(waker) = waiting {
                waker.wake();
            }
        }
    }
}

impl fmt::Debug for Body {
    /// Never a byte of what it carries.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("ended", &self.is_ended())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "no byte of the body came for too long",
            Self::TooLarge => "the body is larger than allowed",
            Self::Cut => "the body broke off before its end",
            Self::Stalled => "nobody took the body for too long",
        })
    }
}

impl std::error::Error for Fault {}
