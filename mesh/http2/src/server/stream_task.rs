//! One stream of a client at a time: what the task that serves it, the body of its request and the
//! table of streams share.
//!
//! A task serves one stream after another, so that a request costs neither a task nor an allocation
//! of its own. A body knows which of the task's streams it belongs to: one that outlives its
//! exchange reads nothing of the next.
//! Invariant: no borrow of the state is held over a poll or the drop of anything that could come
//! back here.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;

use crate::head::drop_connection_fields;
use crate::held::{Holds, Mark, Share};
use crate::received::Received;
use gapura_http::Deadline;
use gapura_http::http1::Source;
use gapura_http::http1::body::BodyError;

pub(super) type Stream = (Request<RecvStream>, SendResponse<Bytes>);

pub(super) struct StreamTask<D> {
    share: Rc<Share>,
    key: usize,
    mark: Mark,
    next: RefCell<Option<Stream>>,
    dismissed: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
    state: RefCell<State>,
    deadline: D,
}

struct State {
    /// Counts the streams.
    message: u64,
    received: Option<Received>,
    respond: Option<SendResponse<Bytes>>,
    /// What a body is told that can't be read any more.
    gone: BodyError,
    /// Somebody holds the request's body.
    held: bool,
    /// The client waits for a 100.
    expects: bool,
    interims_left: u8,
    body_idle: Option<Duration>,
    armed: bool,
    /// Bytes of an upload that nobody reads that are read past.
    drain_left: u64,
    /// Who waits for the reader of the upload to come to an end.
    watching: Option<Waker>,
}

/// Interim answers to one request: beyond these the other side is playing.
const INTERIMS: u8 = 8;

impl<D: Deadline + 'static> StreamTask<D> {
    pub(super) fn new(share: &Rc<Share>, deadline: D) -> Rc<Self> {
        Rc::new_cyclic(|this: &std::rc::Weak<Self>| Self {
            share: share.clone(),
            key: share.enter(this.clone()),
            mark: Mark::default(),
            next: RefCell::new(None),
            dismissed: Cell::new(false),
            waiting: RefCell::new(None),
            state: RefCell::new(State {
                message: 0,
                received: None,
                respond: None,
                gone: BodyError::Cut,
                held: false,
                expects: false,
                interims_left: 0,
                body_idle: None,
                armed: false,
                drain_left: 0,
                watching: None,
            }),
            deadline,
        })
    }

    /// Gives it a stream to serve.
    pub(super) fn give(&self, stream: Stream) {
        *self.next.borrow_mut() = Some(stream);
        self.wake();
    }

    /// It is not needed any more.
    pub(super) fn dismiss(&self) {
        self.dismissed.set(true);
        self.wake();
    }

    fn wake(&self) {
        let waiting = self.waiting.borrow_mut().take();
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    /// Waits for a stream; none once it was dismissed.
    pub(super) async fn take(&self) -> Option<Stream> {
        poll_fn(|cx| match self.next.borrow_mut().take() {
            Some(stream) => Poll::Ready(Some(stream)),
            None if self.dismissed.get() => Poll::Ready(None),
            None => {
                *self.waiting.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    /// A request begins; which one it is.
    pub(super) fn begin(
        &self,
        received: Received,
        respond: SendResponse<Bytes>,
        expects: bool,
        body_idle: Option<Duration>,
        drain_most: u64,
    ) -> u64 {
        let state = &mut *self.state.borrow_mut();
        state.message += 1;
        state.received = Some(received);
        state.respond = Some(respond);
        state.gone = BodyError::Cut;
        state.held = true;
        state.expects = expects;
        state.interims_left = INTERIMS;
        state.body_idle = body_idle;
        state.drain_left = drain_most;
        state.watching = None;
        state.message
    }

    /// What `work` comes to, unless the client takes the request back first.
    pub(super) async fn unless_reset<F: Future>(&self, mut work: Pin<&mut F>) -> Option<F::Output> {
        poll_fn(|cx| {
            if let Poll::Ready(output) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            self.read_past(cx);
            match &mut self.state.borrow_mut().respond {
                Some(respond) => respond.poll_reset(cx).map(|_| None),
                None => Poll::Ready(None),
            }
        })
        .await
    }

    /// Sends the head of the answer. None if the stream is gone.
    pub(super) fn answer(&self, head: Response<()>, ended: bool) -> Option<SendStream<Bytes>> {
        let mut respond = self.state.borrow_mut().respond.take()?;
        // A switch of protocols is nothing that HTTP/2 has.
        if !head.status().is_informational()
            && let Ok(stream) = respond.send_response(head, ended)
        {
            self.share.handed(0);
            return Some(stream);
        }
        respond.send_reset(h2::Reason::INTERNAL_ERROR);
        None
    }

    /// Waits until the upload goes on no more: it has ended, or nothing of it came for `within`.
    /// `carry` moves it.
    pub(super) async fn carried(
        &self,
        within: Duration,
        mut carry: impl FnMut(&mut Context<'_>) -> Poll<()>,
    ) {
        let mut taken = None;
        poll_fn(|cx| {
            // Who reads the upload may be a task of its own.
            let _ = carry(cx);
            if self.is_uploaded() {
                return Poll::Ready(());
            }
            self.state.borrow_mut().watching = Some(cx.waker().clone());
            let now = Some(self.taken());
            if now != taken {
                taken = now;
                self.deadline.reset(within);
            }
            self.deadline.poll_passed(cx)
        })
        .await;
        if taken.is_some() {
            self.deadline.unset();
        }
    }

    /// Nobody will read the request's body.
    pub(super) fn disown(&self) {
        self.state.borrow_mut().held = false;
    }

    /// Reads past what has come of an upload that nobody reads, while its answer is on its way:
    /// what stands unread takes room that is meant for the connection's other streams.
    pub(super) fn read_past(&self, cx: &mut Context<'_>) {
        let state = &mut *self.state.borrow_mut();
        if let Some(received) = &mut state.received
            && !state.held
            && !received.is_closed()
        {
            let _ = received.poll_drain(&mut state.drain_left, cx);
            self.share.dropped(&self.mark);
        }
    }

    /// Reads past the rest of an upload that nobody reads, for `within` at most. The stream, if its
    /// end had to be waited for and came.
    pub(super) async fn drain(&self, within: Duration) -> Option<Received> {
        let (received, mut most) = {
            let mut state = self.state.borrow_mut();
            (state.received.take(), state.drain_left)
        };
        let mut received = received?;
        self.share.dropped(&self.mark);
        self.deadline.reset(within);
        let mut waited = false;
        let ended = poll_fn(|cx| match received.poll_drain(&mut most, cx) {
            Poll::Ready(ended) => Poll::Ready(ended),
            Poll::Pending => {
                waited = true;
                self.deadline.poll_passed(cx).map(|()| false)
            }
        })
        .await;
        self.deadline.unset();
        (waited && ended).then_some(received)
    }

    /// Whether there is an upload that has not ended, and a client that was not told to wait with
    /// it.
    pub(super) fn may_drain(&self) -> bool {
        let state = self.state.borrow();
        !state.expects
            && state
                .received
                .as_ref()
                .is_some_and(|received| !received.is_closed())
    }

    /// Whether all of the upload that is of interest has come.
    fn is_uploaded(&self) -> bool {
        let state = self.state.borrow();
        !state.held || state.received.as_ref().is_none_or(Received::is_end)
    }

    fn taken(&self) -> u64 {
        let state = self.state.borrow();
        state.received.as_ref().map_or(0, |received| received.taken)
    }

    /// The exchange is over, one way or the other: lets go of the stream.
    pub(super) fn finish(&self) {
        let mut state = self.state.borrow_mut();
        state.message += 1;
        let (received, respond) = (state.received.take(), state.respond.take());
        if std::mem::take(&mut state.armed) {
            self.deadline.unset();
        }
        drop(state);
        drop((received, respond));
        self.share.dropped(&self.mark);
    }
}

impl<D: Deadline + 'static> Source for StreamTask<D> {
    fn poll_frame(
        &self,
        message: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let state = &mut *self.state.borrow_mut();
        if state.message != message {
            return Poll::Ready(Some(Err(BodyError::Cut)));
        }
        let Some(received) = &mut state.received else {
            return Poll::Ready(Some(Err(state.gone)));
        };
        let before = received.taken;
        let polled = received.poll_frame(cx);
        if polled.is_pending() {
            if state.expects {
                state.expects = false;
                if let Some(respond) = &mut state.respond {
                    let _ = respond.send_informational(interim(StatusCode::CONTINUE));
                }
            }
            if let Some(idle) = state.body_idle {
                if !std::mem::replace(&mut state.armed, true) {
                    self.deadline.reset(idle);
                }
                if self.deadline.poll_passed(cx).is_ready() {
                    received.fail(BodyError::Idle);
                    return Poll::Ready(Some(Err(BodyError::Idle)));
                }
            }
            return Poll::Pending;
        }
        state.expects = false;
        if received.malformed
            && let Some(mut respond) = state.respond.take()
        {
            respond.send_reset(h2::Reason::PROTOCOL_ERROR);
        }
        if std::mem::take(&mut state.armed) {
            self.deadline.unset();
        }
        let taken = usize::try_from(received.taken - before).unwrap_or(usize::MAX);
        if received.is_end()
            && let Some(watching) = state.watching.take()
        {
            watching.wake();
        }
        self.share.taken(&self.mark, taken);
        polled
    }

    fn left(&self, message: u64) -> Option<u64> {
        let state = self.state.borrow();
        let received = state.received.as_ref().filter(|_| state.message == message);
        received.and_then(Received::left)
    }

    fn release(&self, message: u64) {
        let mut state = self.state.borrow_mut();
        if state.message == message {
            state.held = false;
            if let Some(watching) = state.watching.take() {
                watching.wake();
            }
        }
    }

    fn poll_upload(&self, _: u64, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn send_interim(&self, message: u64, status: StatusCode, headers: &HeaderMap) -> bool {
        let state = &mut *self.state.borrow_mut();
        let fits = state.message == message
            && status.is_informational()
            && !matches!(
                status,
                StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS
            );
        let (Some(respond), Some(left)) = (
            state.respond.as_mut().filter(|_| fits),
            state.interims_left.checked_sub(1),
        ) else {
            return false;
        };
        state.interims_left = left;
        let mut head = interim(status);
        *head.headers_mut() = headers.clone();
        drop_connection_fields(StatusCode::NO_CONTENT, head.headers_mut());
        respond.send_informational(head).is_ok()
    }
}

impl<D: Deadline + 'static> Holds for StreamTask<D> {
    fn held(&self) -> usize {
        let mut state = self.state.borrow_mut();
        state.received.as_mut().map_or(0, Received::held)
    }

    fn give_up(&self) {
        let mut state = self.state.borrow_mut();
        let received = state.received.take();
        state.gone = BodyError::Stalled;
        drop(state);
        drop(received);
        self.share.dropped(&self.mark);
    }

    fn mark(&self) -> &Mark {
        &self.mark
    }
}

impl<D> Drop for StreamTask<D> {
    fn drop(&mut self) {
        self.share.leave(self.key, &self.mark);
    }
}

fn interim(status: StatusCode) -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = status;
    *head.version_mut() = http::Version::HTTP_2;
    head
}
