//! The client's side: one connection that all requests of a worker to one address share, on the hop
//! and to plugins that speak h2c.
//!
//! In: a stream, requests, and the connection's [`Share`] of what streams may hold. Out: answers,
//! and for each failure whether the request can have reached anybody. How long to wait, how many
//! connections to open and what to send again is the caller's. The connection's window is without
//! practical limit, so that a stream whose receiver has stopped holds up none of the others.
//! Invariants: no request is written before the peer's settings have come; an upload belongs to the
//! request, then to the answer's body, and ends with it; nothing waits unbounded but for the answer
//! itself.

mod answer;
mod driver;
mod spare;

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Body;

use super::gather::{Traffic, gather};
use super::head::{check_size, is_bodiless};
use super::held::Share;
use super::length::Left;
use super::owner::Owner;
use super::pump::{Pump, PumpError};
use super::received::Received;
use super::{MAX_FRAME, SEND_BUFFER};
use gapura_http::Stream;
use gapura_http::Timer;
use gapura_http::http1::Incoming;
use gapura_http::http1::head::{HOP_LIMITS, Limits};

use answer::Answer;
pub use driver::Driver;
use spare::Spare;

/// What one stalled stream may hold; 64 KiB would halve the speed of uploads.
pub const STREAM_WINDOW: u32 = 256 * 1024;

/// The largest window there is: each stream's own is the limit that counts.
pub const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// Headers of one message on the hop, as HTTP/2 counts them (RFC 9113, section 6.5.2: 32 bytes on
/// top for each field): 64 KiB of text in 128 fields.
pub const HEADER_LIST: u32 = 64 * 1024 + 128 * 32;

/// The bounds of a connection.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of the head of an answer.
    pub limits: Limits,
    /// Interim answers to one request.
    pub interims: u8,
    /// For the peer to take some of an upload.
    pub stall_within: Duration,
    /// How often the peer is asked whether it is there: a path that died without a word is noticed
    /// after this and `pong_within`.
    pub ping_every: Duration,
    /// For its answer.
    pub pong_within: Duration,
}

impl Default for Settings {
    /// For the hop and the plugin's side (CONTRACT section 5).
    fn default() -> Self {
        Self {
            limits: HOP_LIMITS,
            interims: 8,
            stall_within: Duration::from_secs(60),
            ping_every: Duration::from_secs(20),
            pong_within: Duration::from_secs(10),
        }
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum SendError<B: Body> {
    /// Nothing of the request was written, or the peer has said that it did not look at it: it may
    /// be sent elsewhere.
    Unsent {
        /// As it was given.
        request: Box<Request<B>>,
        /// What is wrong with the connection, if it is known.
        error: Option<io::Error>,
    },
    /// The connection broke or the peer gave up before there was an answer. Some or all of the
    /// request was written.
    Closed {
        /// As it was given, if it has no body, not a byte of an answer to it came, and the
        /// connection is what ended: what can be done twice may be sent again.
        request: Option<Box<Request<B>>>,
        /// None if the peer closed the connection, or if others were told why.
        error: Option<io::Error>,
    },
    /// The connection was ended by [`Handle::cut`], for this reason.
    Ended(&'static str),
    /// What came is no answer, for this reason.
    Protocol(&'static str),
    /// The peer took nothing of the upload for too long.
    Stalled,
    /// The body of the request failed, so that the request could not be written whole.
    Upload(B::Error),
    /// The body of the request ended before it was as long as its head says.
    Short,
}

/// A live connection. Clones share it.
pub struct Connection<T> {
    sender: SendRequest<Bytes>,
    state: Rc<State<T>>,
}

struct State<T> {
    closed: Cell<bool>,
    retired: Cell<bool>,
    open: Rc<Cell<usize>>,
    /// What was sent after a reading of it is known to be unwritten while it stands.
    traffic: Rc<Traffic>,
    failure: RefCell<Option<io::Error>>,
    cut: Cell<Option<&'static str>>,
    settings: Settings,
    timer: T,
    share: Rc<Share>,
}

/// Makes the head of a request once more.
pub type Remake<'a> = dyn Fn() -> Option<Request<()>> + 'a;

/// What the owner of a connection tells its users. Unlike a [`Connection`] it does not keep it
/// open.
pub struct Handle<T>(Rc<State<T>>);

/// Counts a stream as open until its answer has been read to its end or given up.
struct OpenStream(Rc<Cell<usize>>);

impl<T> Connection<T>
where
    T: Timer + Clone + 'static,
{
    /// Speaks HTTP/2 on `io`, and waits for the peer's settings: only with them has a TLS 1.3
    /// server shown that it takes our certificate (its refusal arrives after our handshake has
    /// succeeded), and nothing of a request is written before. For how long is the caller's. The
    /// driver must be polled for anything to move; it belongs to whoever looks after the
    /// connection.
    ///
    /// # Errors
    /// What the stream failed with, an alert of the peer's for example.
    pub async fn handshake<IO: Stream>(
        io: IO,
        settings: Settings,
        timer: &T,
        share: &Rc<Share>,
    ) -> io::Result<(Self, Driver<IO, T>)> {
        let (half, flusher) = gather(io, Bytes::new(), None);
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME)
            .max_header_list_size(HEADER_LIST)
            .max_send_buffer_size(SEND_BUFFER)
            .enable_push(false)
            .initial_max_send_streams(0)
            .handshake(half)
            .await
            .map_err(io::Error::other)?;
        let state = Rc::new(State {
            closed: Cell::new(false),
            retired: Cell::new(false),
            open: Rc::default(),
            traffic: flusher.traffic().clone(),
            failure: RefCell::default(),
            cut: Cell::new(None),
            settings,
            timer: timer.clone(),
            share: share.clone(),
        });
        let mut driver = Driver::new(connection, flusher, &state);
        let this = Self { sender, state };
        poll_fn(|cx| match Pin::new(&mut driver).poll(cx) {
            Poll::Ready(()) => {
                let failure = this.state.failure.borrow_mut().take();
                Poll::Ready(Err(
                    failure.unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
                ))
            }
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

    /// How many requests are under way.
    #[must_use]
    pub fn open(&self) -> usize {
        self.state.open.get()
    }

    /// What its owner keeps of it.
    #[must_use]
    pub fn link(&self) -> Handle<T> {
        Handle(self.state.clone())
    }

    /// Sends a request of `owner` and waits for the head of its answer. The request's body goes on
    /// while the answer is waited for, and then while it is read or [`Incoming::poll_upload`] is
    /// polled. `interim` hears of each interim answer but `100 Continue`. Dropped before it is
    /// ready, it takes the request back from the peer.
    ///
    /// # Errors
    /// [`SendError`]
    pub fn send<B>(
        &self,
        request: Request<B>,
        owner: &Rc<Owner>,
        interim: impl FnMut(StatusCode, HeaderMap),
    ) -> impl Future<Output = Result<Response<Incoming>, SendError<B>>>
    where
        B: Body<Data = Bytes> + Unpin + 'static,
    {
        self.send_as(Box::new(request), None, owner, interim)
    }

    /// The same, of a request whose head can be made once more: where it is given back it is that
    /// of `again`, which is asked then and not before. Without `again` a copy is kept of each head
    /// that has no body behind it. Boxed, since what waits for the connection to take it would hold
    /// its room otherwise, for as long as its answer is waited for.
    ///
    /// # Errors
    /// [`SendError`]
    pub async fn send_as<B>(
        &self,
        request: Box<Request<B>>,
        again: Option<&Remake<'_>>,
        owner: &Rc<Owner>,
        mut interim: impl FnMut(StatusCode, HeaderMap),
    ) -> Result<Response<Incoming>, SendError<B>>
    where
        B: Body<Data = Bytes> + Unpin + 'static,
    {
        let mut sender = self.sender.clone();
        if let Err(error) = poll_fn(|cx| sender.poll_ready(cx)).await {
            // The peer has said goodbye. What is under way goes on, perhaps for hours; nothing new
            // may wait for that.
            self.state.retired.set(true);
            return Err(self.unsent(request, &error));
        }
        let (parts, body) = (*request).into_parts();
        let left = Left::of(&parts.headers).map_err(SendError::Protocol)?;
        let ended = body.is_end_stream() && !left.is_short();
        let head_only = parts.method == Method::HEAD;
        let head = Request::from_parts(parts, ());
        // The connection may have died unseen, or end before an answer; what can be said again is
        // kept for that.
        let written = self.state.traffic.written.get();
        let spare = match again {
            None if ended => Spare::of(&head),
            _ => None,
        };
        let (answer, stream) = sender
            .send_request(head, ended)
            .map_err(|_| SendError::Protocol("the request can't be sent over HTTP/2"))?;
        self.state.share.handed(0);
        let mut sent = Sent {
            connection: self,
            open: OpenStream::new(&self.state.open),
            answer,
            pump: None,
            interims: self.state.settings.interims,
        };
        let whole = if ended {
            Some(body)
        } else {
            let within = self.state.settings.stall_within;
            let (share, timer) = (&self.state.share, &self.state.timer);
            sent.pump = Some(Pump::new(body, left, stream, share, within, timer));
            None
        };
        match poll_fn(|cx| sent.poll(&mut interim, cx)).await {
            Ok(answer) => sent.answered(answer, head_only, owner),
            Err(Failed::Upload(error)) => Err(error),
            Err(Failed::Stream(error)) => {
                // Behind an interim answer somebody is at work on it.
                let silent = sent.interims == self.state.settings.interims;
                let again = whole.filter(|_| silent).and_then(|body| match again {
                    Some(again) => Some(again()?.map(|()| body)),
                    None => spare?.into_request(body),
                });
                match again {
                    Some(again) if self.is_unsent(&error, written) => {
                        Err(self.unsent(Box::new(again), &error))
                    }
                    Some(again) if error.is_io() || error.is_go_away() => {
                        Err(self.why(&error, Some(Box::new(again))))
                    }
                    _ => Err(self.why(&error, None)),
                }
            }
        }
    }

    fn unsent<B: Body>(&self, request: Box<Request<B>>, error: &h2::Error) -> SendError<B> {
        let failure = self.failure();
        SendError::Unsent {
            request,
            error: failure.or_else(|| error.get_io().map(|error| error.kind().into())),
        }
    }

    /// Whether a request that failed like this, `written` bytes into the connection, has reached
    /// nobody.
    fn is_unsent(&self, error: &h2::Error, written: u64) -> bool {
        let never_written = self.state.traffic.written.get() == written
            && (error.is_io() || error.is_go_away())
            && self.state.cut.get().is_none();
        let declined = error.is_remote()
            && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM));
        never_written || declined
    }

    fn why<B: Body>(&self, error: &h2::Error, request: Option<Box<Request<B>>>) -> SendError<B> {
        if let Some(reason) = self.state.cut.get() {
            SendError::Ended(reason)
        } else if error.is_library() && !error.is_io() {
            SendError::Protocol("the answer's frames are malformed")
        } else if error.is_io() || error.is_go_away() || error.is_reset() {
            SendError::Closed {
                request,
                error: self.failure(),
            }
        } else {
            SendError::Protocol("the answer is not HTTP/2")
        }
    }

    fn failure(&self) -> Option<io::Error> {
        self.state.failure.borrow_mut().take()
    }
}

/// A request that waits for its answer.
struct Sent<'a, B, T: Timer> {
    connection: &'a Connection<T>,
    open: OpenStream,
    answer: ResponseFuture,
    pump: Option<Pump<B, T>>,
    interims: u8,
}

enum Failed<B: Body> {
    Stream(h2::Error),
    Upload(SendError<B>),
}

impl<B, T> Sent<'_, B, T>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    T: Timer + Clone + 'static,
{
    fn poll(
        &mut self,
        interim: &mut impl FnMut(StatusCode, HeaderMap),
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<RecvStream>, Failed<B>>> {
        if let Some(pump) = &mut self.pump {
            match pump.poll(cx) {
                Poll::Pending => {}
                // It may refuse the rest of the body and answer all the same.
                Poll::Ready(Ok(()) | Err(PumpError::Refused)) => self.pump = None,
                // Where the request can't become whole there is no answer to it, whatever the other
                // side says meanwhile.
                Poll::Ready(Err(error)) => {
                    let (reason, error) = match error {
                        PumpError::Body(error) => {
                            (Reason::INTERNAL_ERROR, SendError::Upload(error))
                        }
                        PumpError::Short => (Reason::INTERNAL_ERROR, SendError::Short),
                        PumpError::Stalled | PumpError::Refused => {
                            (Reason::CANCEL, SendError::Stalled)
                        }
                    };
                    pump.reset(reason);
                    return Poll::Ready(Err(Failed::Upload(error)));
                }
            }
        }
        loop {
            match self.answer.poll_informational(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(head))) => {
                    let status = head.status();
                    let Some(left) = self.interims.checked_sub(1) else {
                        return self.nonsense("too many interim answers");
                    };
                    self.interims = left;
                    if status == StatusCode::SWITCHING_PROTOCOLS {
                        return self.nonsense("a switch of protocols over HTTP/2");
                    }
                    if status != StatusCode::CONTINUE {
                        interim(status, head.into_parts().0.headers);
                    }
                }
                Poll::Ready(Some(Err(_)) | None) => break,
            }
        }
        Pin::new(&mut self.answer).poll(cx).map_err(Failed::Stream)
    }

    fn nonsense<R>(&self, reason: &'static str) -> Poll<Result<R, Failed<B>>> {
        Poll::Ready(Err(Failed::Upload(SendError::Protocol(reason))))
    }

    /// The answer, with its body and what is left of the upload still under way.
    fn answered(
        self,
        answer: Response<RecvStream>,
        head_only: bool,
        owner: &Rc<Owner>,
    ) -> Result<Response<Incoming>, SendError<B>> {
        let state = &self.connection.state;
        let (parts, stream) = answer.into_parts();
        check_size(&parts.headers, &state.settings.limits).map_err(SendError::Protocol)?;
        let mut left = Left::of(&parts.headers).map_err(SendError::Protocol)?;
        if head_only || is_bodiless(parts.status) {
            left = Left::NONE;
        }
        let fields = state.settings.limits.fields;
        let received = Received::new(stream, left, &parts.headers, fields, true);
        let body = if received.is_end() && received.is_closed() && self.pump.is_none() {
            Incoming::empty()
        } else {
            let answer = Answer::new(received, self.pump, self.open, &state.share, owner);
            Incoming::new(answer, 0)
        };
        Ok(Response::from_parts(parts, body))
    }
}

impl<T> Handle<T> {
    /// Takes no further request; what is under way goes on.
    pub fn retire(&self) {
        self.0.retired.set(true);
    }

    /// Tells those whose requests are under way why their connection is ended, which the owner does
    /// by dropping the driver.
    pub fn cut(&self, reason: &'static str) {
        self.0.cut.set(Some(reason));
        self.0.retired.set(true);
    }

    /// How many requests are under way.
    #[must_use]
    pub fn open(&self) -> usize {
        self.0.open.get()
    }
}

impl OpenStream {
    fn new(open: &Rc<Cell<usize>>) -> Self {
        open.set(open.get() + 1);
        Self(open.clone())
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl<T> Clone for Connection<T> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            state: self.state.clone(),
        }
    }
}

impl<T> fmt::Debug for Connection<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("open", &self.state.open.get())
            .finish_non_exhaustive()
    }
}

impl<B: Body> fmt::Display for SendError<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsent { .. } => f.write_str("the connection closed before the request was sent"),
            Self::Closed { .. } => f.write_str("the connection broke before the answer"),
            Self::Ended(reason) => write!(f, "the connection was ended: {reason}"),
            Self::Protocol(reason) => f.write_str(reason),
            Self::Stalled => f.write_str("nothing of the request's body was taken for too long"),
            Self::Upload(_) => f.write_str("the body of the request failed"),
            Self::Short => f.write_str("the body of the request ended before its length"),
        }
    }
}

impl<B: Body + fmt::Debug> std::error::Error for SendError<B>
where
    B::Error: std::error::Error + 'static,
{
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unsent { error, .. } | Self::Closed { error, .. } => {
                error.as_ref().map(|error| error as _)
            }
            Self::Upload(error) => Some(error),
            Self::Ended(_) | Self::Protocol(_) | Self::Stalled | Self::Short => None,
        }
    }
}
