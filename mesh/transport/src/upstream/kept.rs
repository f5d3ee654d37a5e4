//! HTTP/1.1 connections that a worker keeps for one address, on our own client: each carries one request at a time, without a task.
//!
//! In: requests whose headers are final, and a way to open a connection. Out: answers with their bodies under way, or an [`Error`].
//! The connection that was used last is taken first, so that those beyond the need grow old and go. One comes back when its answer
//! has been read to the end and its request written whole, never at the head.
//! Invariants: a request that may have reached the other end goes again only if it may be done twice, once, on a new connection;
//! an idle connection that closes or speaks is not used again.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Body as _;

use super::crowd::{Asking, Crowd, Place};
use super::{SendError, answered};
use crate::body::{Attachment, Body, BodyFault, End, Upload};
use crate::tasks::Tasks;
use crate::timers::{STEP, Timers};
use gapura_http::BoxStream;
use gapura_http::Buffers;
use gapura_http::http1::Incoming;
use gapura_http::http1::client::{self, Connection, Settings};

/// The idle connections of one worker to one address.
pub struct Pool {
    idle: RefCell<Vec<Idle>>,
    keep: Duration,
    timers: Timers,
    buffers: Buffers,
    crowd: Crowd,
}

/// A connection that was just opened, and what is held for as long as it lives.
pub struct Opened {
    /// The stream.
    pub io: BoxStream,
    /// What counts it.
    pub held: Box<dyn Any>,
}

/// An answer.
pub struct Answer {
    /// Its head, and its body under way.
    pub response: Response<Body>,
    /// Behind a 101: the connection, which is the caller's from now on.
    pub switched: Option<Switched>,
}

/// A connection that speaks another protocol from now on.
pub struct Switched {
    /// The stream.
    pub io: BoxStream,
    /// What was read of it behind the head.
    pub read: Bytes,
    /// What counts it.
    pub held: Box<dyn Any>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Error {
    /// No connection could be opened.
    Connect(io::Error),
    /// The connection broke before an answer.
    Closed(Option<io::Error>),
    /// What came is no answer, for this reason.
    Protocol(&'static str),
    /// Nothing of the request's body was taken for too long, or no answer came in time.
    Timeout,
    /// The request's own body broke.
    Body(BodyFault),
}

struct Idle {
    kept: Kept,
    since: u64,
}

/// A connection, and what goes with it.
struct Kept {
    /// Left before the connection closes, so that whoever is served next does not count it.
    place: Place,
    connection: Connection<BoxStream, Body>,
    held: Box<dyn Any>,
}

/// A connection that goes back to its pool once its answer has been read; one whose answer is dropped before closes.
struct Lease(Option<(Rc<Pool>, Kept)>);

/// Idle connections beyond these are closed: as many as a small plugin can have of anything.
const KEPT_MOST: usize = 256;

impl Pool {
    /// An empty pool whose connections may idle for `keep`; `crowd` is what all pools to the same address share.
    #[must_use]
    pub fn new(
        timers: &Timers,
        tasks: &Tasks,
        buffers: &Buffers,
        crowd: Crowd,
        keep: Duration,
    ) -> Rc<Self> {
        let mut asks = crowd.follow();
        let pool = Rc::new(Self {
            idle: RefCell::default(),
            keep,
            timers: timers.clone(),
            buffers: buffers.clone(),
            crowd,
        });
        let of = Rc::downgrade(&pool);
        tasks.spawn("letting idle connections go", async move {
            while asks.changed().await.is_ok() {
                let Some(pool) = of.upgrade() else { return };
                pool.let_go();
            }
        });
        pool
    }

    /// Closes what has idled too long, was closed or broke its silence. Called about once a second.
    pub fn sweep(&self) {
        let idle = self.idle.take();
        let fresh = idle
            .into_iter()
            .filter(|idle| self.is_fresh(idle))
            .collect();
        // Nothing has come back meanwhile: all of this is one turn of one thread.
        self.idle.replace(fresh);
    }

    /// Sends a request and waits for the head of its answer; `timeout` counts from the request's last byte. `connect` opens a
    /// connection where none is kept, `interim` hears of interim answers.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn send<C: Future<Output = io::Result<Opened>>>(
        self: &Rc<Self>,
        mut request: Request<Body>,
        upload: &Rc<Upload>,
        timeout: Duration,
        connect: impl Fn() -> C,
        mut interim: impl FnMut(StatusCode, HeaderMap),
    ) -> Result<Answer, Error> {
        let mut from_kept = true;
        loop {
            let kept = if from_kept { self.take() } else { None };
            let (kept, asking) = match kept {
                Some(kept) => (kept, None),
                None => self.open(&connect).await?,
            };
            let is_new = asking.is_some();
            let repeatable = is_repeatable(request.method());
            let sent = self.on(kept, request, upload, timeout, asking, &mut interim);
            match sent.await {
                Err(Failed::Unsent(unsent, _)) if !is_new => request = *unsent,
                Err(Failed::Closed(Some(unanswered), _)) if !is_new && repeatable => {
                    request = *unanswered;
                    from_kept = false;
                }
                result => return result.map_err(Error::from),
            }
        }
    }

    async fn open<C: Future<Output = io::Result<Opened>>>(
        &self,
        connect: &impl Fn() -> C,
    ) -> Result<(Kept, Option<Asking>), Error> {
        let mut asking = self.crowd.wait(&self.timers);
        // Boxed, since its frame would be part of every request's and most need none.
        let mut connect = Box::pin(connect());
        let opened = std::future::poll_fn(|cx| {
            let polled = connect.as_mut().poll(cx);
            if polled.is_pending() {
                asking.look(cx);
            }
            polled
        })
        .await
        .map_err(Error::Connect)?;
        let kept = Kept {
            place: self.crowd.enter(),
            connection: Connection::new(opened.io, Settings::default(), &self.buffers),
            held: opened.held,
        };
        Ok((kept, Some(asking)))
    }

    /// A connection that was kept, if any is still good as far as is known.
    fn take(&self) -> Option<Kept> {
        loop {
            let idle = self.idle.borrow_mut().pop()?;
            if self.age(&idle) < self.keep {
                return Some(idle.kept);
            }
        }
    }

    async fn on(
        self: &Rc<Self>,
        kept: Kept,
        request: Request<Body>,
        upload: &Rc<Upload>,
        timeout: Duration,
        mut asking: Option<Asking>,
        interim: &mut impl FnMut(StatusCode, HeaderMap),
    ) -> Result<Answer, Failed> {
        let place = &kept.place;
        let sending = kept.connection.send(request, |status, headers| {
            place.serve();
            interim(status, headers);
        });
        let looking = |cx: &mut Context<'_>| {
            if let Some(asking) = &mut asking {
                asking.look(cx);
            }
        };
        let answer = answered(pin!(sending), looking, upload, &self.timers, timeout)
            .await?
            .map_err(Failed::from)?;
        kept.place.serve();
        if let Some(asking) = asking {
            asking.answered();
        }
        Ok(self.leased(answer, kept))
    }

    fn leased(self: &Rc<Self>, answer: Response<Incoming>, kept: Kept) -> Answer {
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let switched = kept.connection.upgraded().map(|(io, read)| Switched {
                io,
                read,
                held: kept.held,
            });
            return Answer {
                response: answer.map(|_| Body::empty()),
                switched,
            };
        }
        let response = answer.map(|incoming| {
            if incoming.is_end_stream() && kept.connection.is_reusable() {
                drop(incoming);
                self.give_back(kept);
                return Body::empty();
            }
            Body::answer(incoming).with(Box::new(Lease(Some((self.clone(), kept)))))
        });
        Answer {
            response,
            switched: None,
        }
    }

    /// Takes back a connection that can carry a further request.
    fn give_back(&self, kept: Kept) {
        if self.crowd.is_asked() || self.idle.borrow().len() >= KEPT_MOST || is_spoiled(&kept) {
            return;
        }
        let since = self.timers.now();
        self.idle.borrow_mut().push(Idle { kept, since });
    }

    /// Somebody waits for a place.
    fn let_go(&self) {
        drop(self.idle.take());
    }

    fn is_fresh(&self, idle: &Idle) -> bool {
        self.age(idle) < self.keep && !is_spoiled(&idle.kept)
    }

    fn age(&self, idle: &Idle) -> Duration {
        STEP * u32::try_from(self.timers.now().saturating_sub(idle.since)).unwrap_or(u32::MAX)
    }
}

/// Whether an idle connection has been closed, has broken, or has spoken; one that has not gives its buffers back.
fn is_spoiled(kept: &Kept) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    kept.connection.poll_idle(&mut cx).is_ready()
}

/// What may be done twice (RFC 9110, section 9.2.2).
fn is_repeatable(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

impl Attachment for Lease {
    fn ended(&mut self, end: End) {
        if end == End::Whole {
            self.give_back();
        }
    }
}

impl Lease {
    fn give_back(&mut self) {
        // One whose upload is still under way waits until that is over, or is dropped.
        let done = self.0.take_if(|(_, kept)| kept.connection.is_reusable());
        if let Some((pool, kept)) = done {
            pool.give_back(kept);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Why one connection gave no answer.
enum Failed {
    Unsent(Box<Request<Body>>, Option<io::Error>),
    Closed(Option<Box<Request<Body>>>, Option<io::Error>),
    Other(Error),
}

impl From<client::SendError<Body>> for Failed {
    fn from(error: client::SendError<Body>) -> Self {
        use client::SendError as Sent;
        match error {
            Sent::Unsent { request, error } => Self::Unsent(request, error),
            Sent::Closed { request, error } => Self::Closed(request, error),
            Sent::Cut(error) => Self::Other(Error::Closed(error)),
            Sent::Protocol(reason) => Self::Other(Error::Protocol(reason)),
            Sent::Upload(fault) => Self::Other(Error::Body(fault.unwrap_or(BodyFault::Short))),
        }
    }
}

impl From<SendError> for Failed {
    fn from(error: SendError) -> Self {
        Self::Other(match error {
            SendError::Body(fault) => Error::Body(fault),
            SendError::Timeout => Error::Timeout,
            // The rest is never said of time and uploads.
            _ => Error::Closed(None),
        })
    }
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Unsent(_, error) | Failed::Closed(_, error) => Self::Closed(error),
            Failed::Other(error) => error,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect(_) => "no connection could be opened",
            Self::Closed(_) => "the connection was closed before an answer",
            Self::Protocol(reason) => reason,
            Self::Timeout => "no answer in time",
            Self::Body(_) => "the request's body did not come to its end",
        })
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect(error) => Some(error),
            Self::Closed(error) => error.as_ref().map(|error| error as _),
            Self::Body(fault) => Some(fault),
            Self::Protocol(_) | Self::Timeout => None,
        }
    }
}

#[cfg(test)]
mod tests;
