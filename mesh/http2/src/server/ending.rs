//! How a connection ends, and that the reason of an end that is ours arrives.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::Duration;

use gapura_http::{Deadline, Stream};

use crate::gather::Flusher;

/// How a connection ended.
#[derive(Debug)]
pub enum End {
    /// The client closed it, or it closed after it was told to stop.
    Closed,
    /// No request came in time.
    Idle,
    /// The client did not begin to speak HTTP/2 in time.
    NoPreface,
    /// The client took nothing for too long.
    Stalled,
    /// The client did not answer when asked whether it is there.
    Silent,
    /// The client broke the protocol, or did too much of what it costs nothing to do.
    Protocol(h2::Reason),
    /// The stream broke.
    Broken(io::Error),
}

/// How a connection ended that failed with this.
pub(super) fn ended<IO>(error: &h2::Error, flusher: &Flusher<IO>) -> End {
    if let Some(failure) = flusher.take_failure() {
        return End::Broken(failure);
    }
    match error.get_io() {
        Some(error) => End::Broken(error.kind().into()),
        // The client may say goodbye for whatever reason it has.
        None if error.is_remote() => End::Closed,
        None => End::Protocol(error.reason().unwrap_or(h2::Reason::PROTOCOL_ERROR)),
    }
}

/// For who broke the protocol to read why.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// And so much of what is under way from there is read past meanwhile: unread, it would reset the
/// connection and take our words with it.
const LAST_BYTES: usize = 1024 * 1024;

/// Sees that the reason of the end arrives, where the end is ours.
pub(super) async fn linger<IO: Stream>(end: &End, flusher: &Flusher<IO>, deadline: &impl Deadline) {
    if !matches!(end, End::Protocol(_)) {
        return;
    }
    deadline.reset(LAST_WORDS);
    let mut most = LAST_BYTES;
    poll_fn(|cx| {
        flusher.close(cx);
        match flusher.poll_discard(&mut most, cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => deadline.poll_passed(cx),
        }
    })
    .await;
    deadline.unset();
}
