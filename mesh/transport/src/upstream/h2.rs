//! One HTTP/2 connection that all requests of a worker to one address share.
//!
//! The `h2` crate directly, with gathered writes: half the CPU of a general client (docs/performance.md). The connection's window
//! is without practical limit, so that a stream whose receiver has stopped holds up none of the others.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use http::{Request, Response};

use super::{SendError, answered};
use crate::body::{Body, Fault, Upload};
use crate::coalesce::{Coalesced, Flusher, coalesce};
use crate::io::BoxIo;
use crate::pump::{MAX_FRAME, Pump, PumpFault};
use crate::streams::{OpenStream, Streams};
use crate::tasks::Tasks;
use crate::timers::Timers;

/// What one stalled stream may hold; 64 KiB would halve the speed of uploads.
pub const STREAM_WINDOW: u32 = 256 * 1024;

/// The largest window there is: each stream's own is the limit that counts.
pub const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// Headers of one message on the hop, as HTTP/2 counts them (RFC 9113, section 6.5.2: 32 bytes on top for each field): 64 KiB of
/// text in 128 fields.
pub const HEADER_LIST: u32 = 64 * 1024 + 128 * 32;

/// A path that died without a word is noticed after `PING_EVERY` + `PONG_WITHIN`.
const PING_EVERY: Duration = Duration::from_secs(20);
const PONG_WITHIN: Duration = Duration::from_secs(10);

/// A live connection. Clones share it.
#[derive(Clone)]
pub struct H2 {
    sender: SendRequest<Bytes>,
    state: Rc<State>,
}

struct State {
    closed: Cell<bool>,
    retired: Cell<bool>,
    open: Rc<Cell<usize>>,
    /// Rises with each write to the stream: what came after a reading of it is known to be unwritten while it stands.
    writes: Rc<Cell<u64>>,
    failure: RefCell<Option<io::Error>>,
    cut: Cell<Option<&'static str>>,
    timers: Timers,
    streams: Streams,
    tasks: Tasks,
}

/// What a connection's task tells its users. Unlike an [`H2`] it does not keep the connection open.
pub struct Link(Rc<State>);

/// Drives one connection; ready when it is over.
pub struct Driver {
    connection: Connection<Coalesced<BoxIo>, Bytes>,
    flusher: Flusher<BoxIo>,
    state: Rc<State>,
    ping: Option<Ping>,
}

struct Ping {
    pings: h2::PingPong,
    due: crate::timers::Sleep,
    waiting: bool,
}

impl H2 {
    /// Speaks HTTP/2 on `io`, and waits for the peer's settings: only with them has a TLS 1.3 server shown that it takes our
    /// certificate (its refusal arrives after our handshake has succeeded), and nothing of a request is written before. The driver
    /// must be polled for anything to move.
    ///
    /// # Errors
    /// What the stream failed with, an alert of the peer's for example.
    pub async fn handshake(
        io: BoxIo,
        timers: &Timers,
        streams: &Streams,
        tasks: &Tasks,
    ) -> io::Result<(Self, Driver)> {
        let (half, flusher) = coalesce(io);
        let (sender, mut connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME)
            .max_header_list_size(HEADER_LIST)
            .enable_push(false)
            .initial_max_send_streams(0)
            .handshake(half)
            .await
            .map_err(io::Error::other)?;
        let state = Rc::new(State {
            closed: Cell::new(false),
            retired: Cell::new(false),
            open: Rc::default(),
            writes: flusher.writes(),
            failure: RefCell::default(),
            cut: Cell::new(None),
            timers: timers.clone(),
            streams: streams.clone(),
            tasks: tasks.clone(),
        });
        let ping = connection.ping_pong().map(|pings| Ping {
            pings,
            due: timers.sleep(PING_EVERY),
            waiting: false,
        });
        let mut driver = Driver {
            connection,
            flusher,
            state: state.clone(),
            ping,
        };
        let this = Self { sender, state };
        poll_fn(|cx| match Pin::new(&mut driver).poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(this
                .failure()
                .unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()))),
            Poll::Pending if this.sender.current_max_send_streams() > 0 => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        })
        .await?;
        Ok((this, driver))
    }

    /// Whether a new request may go on it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.state.closed.get() && !self.state.retired.get()
    }

    /// Whether the peer takes one more stream.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.state.open.get() < self.sender.current_max_send_streams()
    }

    /// What the connection's task keeps of it.
    #[must_use]
    pub fn link(&self) -> Link {
        Link(self.state.clone())
    }

    /// Sends a request and waits for the head of its answer; `timeout` counts from the request's last byte.
    ///
    /// # Errors
    /// [`SendError`]
    pub async fn send(
        &self,
        request: Request<Body>,
        upload: &Rc<Upload>,
        timeout: Duration,
    ) -> Result<Response<Body>, SendError> {
        let mut sender = self.sender.clone();
        if poll_fn(|cx| sender.poll_ready(cx)).await.is_err() {
            // The peer has said goodbye. What is under way goes on, perhaps for hours; nothing new may wait for that.
            self.state.retired.set(true);
            return Err(SendError::Unsent(Box::new(request)));
        }
        let (parts, body) = request.into_parts();
        let ended = body.is_ended();
        let head = Request::from_parts(parts, ());
        // A connection that was idle may have died unseen. Only then is a copy worth keeping: the head goes again, and nowhere was
        // it written.
        let written = self.state.writes.get();
        let spare = (ended && self.state.open.get() == 0).then(|| head.clone());
        let (mut answer, stream) = sender
            .send_request(head, ended)
            .map_err(|_| SendError::Protocol)?;
        let open = OpenStream::count(&self.state.open);
        let mut pump = (!ended).then(|| Pump::new(body, stream, &self.state.timers));
        let mut refused = None;
        let sending = |cx: &mut Context<'_>| {
            let Some(moving) = &mut pump else { return };
            match Pin::new(moving).poll(cx) {
                Poll::Ready(Ok(())) => pump = None,
                // It may refuse the rest of the body and answer all the same.
                Poll::Ready(Err(fault)) => {
                    refused = Some(fault);
                    pump = None;
                }
                Poll::Pending => {}
            }
        };
        let result = answered(
            Pin::new(&mut answer),
            sending,
            upload,
            &self.state.timers,
            timeout,
        )
        .await;
        let answer = match result {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(self.why(&error, spare, written)),
            Err(SendError::Body(Fault::Cut)) if refused == Some(PumpFault::Refused) => {
                return Err(SendError::Broken(self.failure()));
            }
            Err(SendError::Body(_)) if refused == Some(PumpFault::Stalled) => {
                return Err(SendError::Timeout);
            }
            Err(error) => return Err(error),
        };
        if let Some(pump) = pump {
            // The answer came before the request's end: both go on side by side.
            self.state.tasks.spawn("the rest of an upload", async move {
                let _ = pump.await;
            });
        }
        let length = answer
            .headers()
            .get(http::header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(answer.map(|received| {
            if received.is_end_stream() {
                Body::empty()
            } else {
                Body::hop(self.state.streams.enter(received, length, Some(open)))
            }
        }))
    }

    fn why(&self, error: &h2::Error, spare: Option<Request<()>>, written: u64) -> SendError {
        if let Some(reason) = self.state.cut.get() {
            return SendError::Cut(reason);
        }
        let never_written =
            self.state.writes.get() == written && (error.is_io() || error.is_go_away());
        let declined = error.is_remote()
            && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM));
        if let Some(head) = spare
            && (never_written || declined)
        {
            return SendError::Unsent(Box::new(head.map(|()| Body::empty())));
        }
        if error.is_io() || error.is_go_away() || error.is_reset() {
            SendError::Broken(self.failure())
        } else {
            SendError::Protocol
        }
    }

    fn failure(&self) -> Option<io::Error> {
        self.state.failure.borrow_mut().take()
    }
}

impl Link {
    /// Takes no further request; what is under way goes on.
    pub fn retire(&self) {
        self.0.retired.set(true);
    }

    /// Tells those whose requests are under way why their connection is ended.
    pub fn cut(&self, reason: &'static str) {
        self.0.cut.set(Some(reason));
    }
}

impl Driver {
    /// Asks now and then whether the peer is still there.
    fn poll_ping(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(ping) = &mut self.ping else {
            return Poll::Pending;
        };
        if ping.waiting && ping.pings.poll_pong(cx).is_ready() {
            ping.waiting = false;
            ping.due.reset(PING_EVERY);
        }
        if ping.due.poll_passed(cx).is_pending() {
            return Poll::Pending;
        }
        if ping.waiting {
            return Poll::Ready(());
        }
        if ping.pings.send_ping(h2::Ping::opaque()).is_ok() {
            ping.waiting = true;
        }
        ping.due.reset(PONG_WITHIN);
        let _ = ping.pings.poll_pong(cx);
        let _ = ping.due.poll_passed(cx);
        Poll::Pending
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let silent = this.poll_ping(cx).is_ready();
        let over = Pin::new(&mut this.connection).poll(cx).is_ready();
        let broken = matches!(this.flusher.poll_flush(cx), Poll::Ready(Err(_)));
        if over || broken || silent {
            this.state.closed.set(true);
            if let Some(failure) = this.flusher.take_failure() {
                *this.state.failure.borrow_mut() = Some(failure);
            }
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.state.closed.set(true);
    }
}
