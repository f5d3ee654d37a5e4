//! A gRPC caller's own deadline, held at the door: it counts from the request's head, whatever of
//! the request is still to come.
//!
//! In: a request's head, and the work of getting an answer to it. Out: the answer, or that the time
//! is over, which the client is told as `DEADLINE_EXCEEDED`. `timeout_ms` runs beside it, and
//! whichever ends first ends the wait. Once an answer has begun its stream is the caller's to end:
//! a client of gRPC does so by itself.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use gapura_protocol::grpc;
use gapura_transport::timers::Timers;
use http::HeaderMap;

use crate::rejection::Rejection;
use crate::upstream;

/// How long the caller waits; `None` where it does not say, or speaks no gRPC.
///
/// # Errors
/// If what it says cannot be read: it would wait for less than we do.
pub(crate) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, grpc::Malformed> {
    if grpc::is_grpc(headers) {
        grpc::timeout(headers)
    } else {
        Ok(None)
    }
}

/// What `work` gives, if that comes in time. Pinned by the caller, as it is large
/// (`Timers::within`).
///
/// # Errors
/// Those of `work`, and that the time is over.
pub(crate) async fn within<T>(
    timers: &Timers,
    waits: Option<Duration>,
    work: Pin<&mut impl Future<Output = Result<T, Rejection>>>,
) -> Result<T, Rejection> {
    let Some(waits) = waits else {
        return work.await;
    };
    let late = Err(Rejection::Forward(upstream::Error::Timeout));
    timers.within(waits, work).await.unwrap_or(late)
}
