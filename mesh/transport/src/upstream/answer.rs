//! An answer as it comes off a connection, and why there is none.
//!
//! In: what our HTTP says of one request on one connection, over either version. Out: an
//! [`Answer`], or a [`Failed`] that says whether the request can have reached anybody.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::{HeaderMap, Request, Response, StatusCode};

use super::patience::Over;
use super::progress::Progress;
use crate::body::{Attachment, Body, BodyFault, Upload};
use crate::timers::Timers;
use crate::tunnel::TunnelEnd;
use gapura_http::http1::Rest;
use gapura_http::http1::client::SendError as Http1;
use gapura_http2::client::SendError as Http2;

/// An answer.
pub struct Answer {
    /// Its head, and its body under way.
    pub response: Response<Body>,
    /// Behind a 101: the connection, which speaks another protocol from now on.
    pub switched: Option<TunnelEnd>,
}

/// Hears of each interim answer.
pub type Hint<'a> = dyn FnMut(StatusCode, HeaderMap) + 'a;

/// Why one connection gave no answer.
#[derive(Debug)]
pub enum Failed {
    /// Nothing of the request was written; here it is.
    Unsent(Box<Request<Body>>, Option<io::Error>),
    /// The connection ended before an answer. The request is here if it has no body.
    Closed(Option<Box<Request<Body>>>, Option<io::Error>),
    /// The trust in force ended the connection, for this reason.
    Cut(&'static str),
    /// What came is no answer, for this reason.
    Protocol(&'static str),
    /// The time is over, or nothing of the request's body was taken for too long.
    Over,
    /// The request's own body broke.
    Body(BodyFault),
}

impl Answer {
    /// The same, whose body carries something to its end. Behind a 101 there is none, and what it
    /// would carry is let go.
    pub fn with(self, attachment: Box<dyn Attachment>) -> Self {
        let Self { response, switched } = self;
        let response = response.map(|body| match switched {
            None => body.with(attachment),
            Some(_) => body,
        });
        Self { response, switched }
    }
}

impl From<Response<Body>> for Answer {
    fn from(response: Response<Body>) -> Self {
        Self {
            response,
            switched: None,
        }
    }
}

impl From<Http1<Body>> for Failed {
    fn from(error: Http1<Body>) -> Self {
        match error {
            Http1::Unsent { request, error } => Self::Unsent(request, error),
            Http1::Closed { request, error } => Self::Closed(request, error),
            Http1::Cut(error) => Self::Closed(None, error),
            Http1::Protocol(reason) => Self::Protocol(reason),
            Http1::Upload(fault) => Self::Body(fault.unwrap_or(BodyFault::Short)),
        }
    }
}

impl From<Http2<Body>> for Failed {
    fn from(error: Http2<Body>) -> Self {
        match error {
            Http2::Unsent { request, error } => Self::Unsent(request, error),
            Http2::Closed { request, error } => Self::Closed(request, error),
            Http2::Ended(reason) => Self::Cut(reason),
            Http2::Protocol(reason) => Self::Protocol(reason),
            Http2::Stalled => Self::Over,
            Http2::Upload(fault) => Self::Body(fault),
            Http2::Short => Self::Body(BodyFault::Short),
        }
    }
}

impl From<Over> for Failed {
    fn from(_: Over) -> Self {
        Self::Over
    }
}

/// Goes on with an upload whose answer has been read, until it is over or nobody takes of it any
/// more.
pub async fn carry_on(rest: Rest, upload: Rc<Upload>, timers: Timers) {
    let mut progress = Progress::new(&upload, &timers);
    poll_fn(|cx: &mut Context<'_>| match rest.poll(cx) {
        Poll::Ready(()) => Poll::Ready(()),
        Poll::Pending => progress.poll_stalled(&upload, cx),
    })
    .await;
}
