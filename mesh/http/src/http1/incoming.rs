//! A body that is read off a connection while somebody reads it: nothing is taken before the reader
//! asks.
//!
//! The connection and the body share one place on one thread; there is no channel between them. A
//! body knows which message of its connection it belongs to, so that one which outlives its
//! exchange reads nothing of the next.

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};

use super::body::BodyError;

/// The body of a message that comes in, a request's or an answer's.
pub struct Incoming {
    source: Option<Rc<dyn Source>>,
    message: u64,
}

/// Sends interim answers to the client of one request.
#[derive(Clone)]
pub struct Interim {
    source: Rc<dyn Source>,
    message: u64,
}

/// What is left of an upload that somebody answers, for who goes on with it when the answer has
/// been read.
pub struct Rest {
    source: Rc<dyn Source>,
    message: u64,
}

/// What is read from, and asked while one reads: the connection, in either HTTP. `message` is the
/// one that the asker belongs to; the connection answers for the one it carries now, and otherwise
/// as for a message that is over.
pub trait Source {
    /// The next piece of the body.
    fn poll_frame(
        &self,
        message: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>>;

    /// How many bytes are to come, where that is known.
    fn left(&self, message: u64) -> Option<u64>;

    /// Nobody reads any more.
    fn release(&self, message: u64);

    /// Goes on with what is sent the other way meanwhile.
    fn poll_upload(&self, message: u64, cx: &mut Context<'_>) -> Poll<()>;

    /// Sends an interim answer; whether it goes out.
    fn send_interim(&self, message: u64, status: StatusCode, headers: &HeaderMap) -> bool;
}

impl Incoming {
    /// The body of the message of this number.
    pub fn new(source: Rc<dyn Source>, message: u64) -> Self {
        Self {
            source: Some(source),
            message,
        }
    }

    /// No body, from nowhere.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            source: None,
            message: 0,
        }
    }

    /// In a request: where interim answers to it are sent. None if there is no connection behind
    /// this.
    #[must_use]
    pub fn interim(&self) -> Option<Interim> {
        let source = self.source.clone()?;
        Some(Interim {
            source,
            message: self.message,
        })
    }

    /// In an answer: goes on with the upload that it answers, which reading the answer does by
    /// itself. For who can't take more of the answer now, and for after its end. Ready once the
    /// upload is over, one way or the other.
    pub fn poll_upload(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.source {
            Some(source) => source.poll_upload(self.message, cx),
            None => Poll::Ready(()),
        }
    }
}

impl Incoming {
    /// In an answer: a hold on what is left of the upload that it answers, which outlasts this.
    /// None if there is no connection behind it.
    #[must_use]
    pub fn rest(&self) -> Option<Rest> {
        let source = self.source.clone()?;
        Some(Rest {
            source,
            message: self.message,
        })
    }
}

impl Rest {
    /// Goes on with the upload. Ready once it is over, one way or the other.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.source.poll_upload(self.message, cx)
    }
}

impl Interim {
    /// Sends an interim answer, 103 in practice, with these fields. Whether it goes out: it does
    /// not to HTTP/1.0, after the answer has begun, or after eight of them.
    #[must_use]
    pub fn send(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        self.source.send_interim(self.message, status, headers)
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &self.source {
            Some(source) => source.poll_frame(self.message, cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.source
            .as_ref()
            .is_none_or(|source| source.left(self.message) == Some(0))
    }

    fn size_hint(&self) -> SizeHint {
        let left = self
            .source
            .as_ref()
            .map_or(Some(0), |source| source.left(self.message));
        left.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(source) = &self.source {
            source.release(self.message);
        }
    }
}

impl fmt::Debug for Incoming {
    /// Never a byte of what it carries.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("left", &self.size_hint().exact())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rest").finish_non_exhaustive()
    }
}

impl fmt::Debug for Interim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interim").finish_non_exhaustive()
    }
}
