//! Requests towards the plugin, over connections that one worker keeps.
//!
//! In: a request whose headers are final and whose body is a [`Body`](crate::body::Body), and a way to open a connection. Out:
//! the answer with its body still under way, or a [`SendError`] that says whether a single byte may have been written. Both
//! programs send this way: the gateway over the hop, the sidecar to its plugin. Nothing here knows of routes, tokens or TLS.

pub mod dial;
pub mod h1;
pub mod h2;

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;

use crate::body::{Body, Fault, Upload, UploadState};
use crate::timers::Timers;

/// Why a request got no answer.
#[derive(Debug)]
pub enum SendError {
    /// Nothing of it was written: another connection may try. The request comes back whole.
    Unsent(Box<Request<Body>>),
    /// The connection broke, with the cause where it is known.
    Broken(Option<io::Error>),
    /// The trust in force ended the connection, for this reason.
    Cut(&'static str),
    /// What came back is not HTTP, or more than we take.
    Protocol,
    /// The time from the request's last byte ran out.
    Timeout,
    /// The request's own body broke.
    Body(Fault),
}

/// Waits for `answer` and for as long as the request's body still flows; once that is over, for `timeout`.
pub(crate) async fn answered<T, E>(
    answer: impl Future<Output = Result<T, E>>,
    mut sending: impl FnMut(&mut Context<'_>),
    upload: &Rc<Upload>,
    timers: &Timers,
    timeout: Duration,
) -> Result<Result<T, E>, SendError> {
    let mut answer = std::pin::pin!(answer);
    let deadline = timers.unset();
    std::future::poll_fn(|cx| {
        sending(cx);
        if let Poll::Ready(result) = Pin::as_mut(&mut answer).poll(cx) {
            // A body that broke is why the answer failed, and not the other way round.
            if let (Err(_), UploadState::Failed(fault @ (Fault::Idle | Fault::TooLarge))) = (&result, upload.state()) {
                return Poll::Ready(Err(SendError::Body(fault)));
            }
            return Poll::Ready(Ok(result));
        }
        match upload.poll_state(cx) {
            UploadState::Flowing => return Poll::Pending,
            UploadState::Failed(fault) => return Poll::Ready(Err(SendError::Body(fault))),
            UploadState::Finished if !deadline.is_set() => deadline.reset(timeout),
            UploadState::Finished => {}
        }
        deadline.poll_passed(cx).map(|()| Err(SendError::Timeout))
    })
    .await
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsent(_) => f.write_str("the connection closed before the request was written"),
            Self::Broken(_) => f.write_str("the connection broke before the answer"),
            Self::Cut(reason) => write!(f, "the peer is trusted no longer: {reason}"),
            Self::Protocol => f.write_str("what came back is no answer"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::Body(_) => f.write_str("the request's body did not come to its end"),
        }
    }
}

impl std::error::Error for SendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Broken(cause) => cause.as_ref().map(|cause| cause as _),
            Self::Body(fault) => Some(fault),
            _ => None,
        }
    }
}
