//! The client's side: one connection to a server, one request at a time.
//!
//! In: a stream and requests. Out: answers, whose bodies are read off the connection, and for each
//! failure whether the request can have reached anybody. Which connection to take, how long to wait
//! and what to send again is the caller's.
//! Invariants: what came before a request never answers it; a connection is used again only if its
//! answer ended by its own framing and its request was written whole.

mod exchange;
mod upload;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body;

use super::head::{HOP_LIMITS, Limits};
use super::incoming::Incoming;
use crate::buffers::Buffers;
use crate::stream::Stream;

use exchange::Exchange;

/// A connection to a server. Dropping it while an answer is read leaves the answer readable to its
/// end.
pub struct Connection<IO, B: Body>(Rc<Exchange<IO, B>>);

/// Why there is no answer.
pub enum SendError<B: Body> {
    /// Not a byte of the request was written: it may be sent elsewhere, whatever it asks.
    Unsent {
        /// As it was given.
        request: Box<Request<B>>,
        /// What is wrong with the connection; none if the server had closed it or spoken out of
        /// turn.
        error: Option<io::Error>,
    },
    /// The connection ended before a byte of an answer. Some or all of the request was written.
    Closed {
        /// As it was given, if it has no body: what can be done twice may be sent again.
        request: Option<Box<Request<B>>>,
        /// None if the server closed the connection.
        error: Option<io::Error>,
    },
    /// The connection ended within the head of an answer.
    Cut(Option<io::Error>),
    /// What came is no answer, for this reason.
    Protocol(&'static str),
    /// The body of the request failed, so that the request could not be written whole. Without an
    /// error it ended before the length that its head names.
    Upload(Option<B::Error>),
}

/// The bounds of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Of a head.
    pub limits: Limits,
    /// Interim answers to one request.
    pub interims: u8,
}

impl Default for Settings {
    /// For the hop and the plugin's side (CONTRACT section 5).
    fn default() -> Self {
        Self {
            limits: HOP_LIMITS,
            interims: 8,
        }
    }
}

impl<IO, B> Connection<IO, B>
where
    IO: Stream + 'static,
    B: Body<Data = Bytes> + Unpin + 'static,
{
    /// Speaks HTTP/1.1 on `io`, which nothing was sent on yet.
    #[must_use]
    pub fn new(io: IO, settings: Settings, buffers: &Buffers) -> Self {
        Self(Rc::new(Exchange::new(io, settings, buffers)))
    }

    /// Sends a request and waits for the head of its answer. The request's body goes on while the
    /// answer is waited for, and then while it is read or [`Incoming::poll_upload`] is polled.
    /// `interim` hears of each interim answer but `100 Continue`. Dropped before it is ready, it
    /// leaves a connection that is not used again.
    ///
    /// # Errors
    /// [`SendError`]
    pub async fn send(
        &self,
        request: Request<B>,
        mut interim: impl FnMut(StatusCode, HeaderMap),
    ) -> Result<Response<Incoming>, SendError<B>> {
        let exchange = &self.0;
        let stale = poll_fn(|cx| Poll::Ready(exchange.poll_spoiled(cx))).await;
        if let Poll::Ready(error) = stale {
            return Err(SendError::Unsent {
                request: Box::new(request),
                error,
            });
        }
        let mut request = exchange.begin(request).await?;
        let (parts, message) =
            poll_fn(|cx| exchange.poll_answer(&mut request, &mut interim, cx)).await?;
        let incoming = Incoming::new(exchange.clone(), message);
        Ok(Response::from_parts(parts, incoming))
    }

    /// Whether a further request may be sent now.
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        self.0.is_reusable()
    }

    /// Watches a connection that no request uses and whose last upload is over: ready once the
    /// server has closed it, broken it, or spoken out of turn. It is not used again from then on. A
    /// connection that is watched owns no buffer.
    pub fn poll_idle(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.0.poll_spoiled(cx) {
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => {
                self.0.rest();
                Poll::Pending
            }
        }
    }

    /// The upload of the last request, behind the end of its answer: ready once it is over, one way
    /// or the other.
    pub fn poll_upload(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_carry(cx)
    }

    /// Behind a 101: the stream, and what was read of it.
    #[must_use]
    pub fn upgraded(&self) -> Option<(IO, Bytes)> {
        self.0.upgraded()
    }
}

impl<IO, B: Body> fmt::Debug for Connection<IO, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl<B: Body> fmt::Display for SendError<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsent { .. } => "the connection was closed before the request was sent",
            Self::Closed { .. } => "the connection was closed before an answer",
            Self::Cut(_) => "the answer broke off in its head",
            Self::Protocol(reason) => reason,
            Self::Upload(_) => "the body of the request failed",
        })
    }
}

impl<B: Body> fmt::Debug for SendError<B> {
    /// Never a byte of the request.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SendError({self})")
    }
}

impl<B: Body> std::error::Error for SendError<B>
where
    B::Error: std::error::Error + 'static,
{
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unsent { error, .. } | Self::Closed { error, .. } | Self::Cut(error) => {
                error.as_ref().map(|error| error as _)
            }
            Self::Protocol(_) => None,
            Self::Upload(error) => error.as_ref().map(|error| error as _),
        }
    }
}

/// The state that a connection and the answer being read share.
type Shared<IO, B> = RefCell<exchange::State<IO, B>>;
