//! Requests towards the plugin, over connections that one worker keeps.
//!
//! In: a request whose headers are final and whose body is a [`Body`], and a way to open a connection. Out:
//! the answer with its body still under way, or a [`SendError`] that says whether a single byte may have been written. Both
//! programs send this way: the gateway over the hop, the sidecar to its plugin. Nothing here knows of routes, tokens or TLS.

pub mod crowd;
pub mod dial;
pub mod kept;
pub mod lifeline;

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;

use crate::body::{Body, BodyFault, Upload, UploadState};
use crate::timers::{Sleep, Timers};

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
    Body(BodyFault),
}

/// How often a body that flows is looked at, and for how many looks the next program may take none of it: a minute.
const LOOK_EVERY: Duration = Duration::from_secs(15);
const LOOKS: u8 = 4;

/// Notices that the next program takes nothing of a body that flows. A sender that is too slow is the body's own business.
pub struct Progress {
    look: Sleep,
    passed: u64,
    stalled: u8,
}

impl Progress {
    /// Looks at `upload` from now on.
    #[must_use]
    pub fn new(upload: &Upload, timers: &Timers) -> Self {
        Self {
            look: timers.sleep(LOOK_EVERY),
            passed: upload.bytes(),
            stalled: 0,
        }
    }

    /// Ready once nothing has passed for a minute.
    pub fn poll_stalled(&mut self, upload: &Upload, cx: &mut Context<'_>) -> Poll<()> {
        while self.stalled < LOOKS {
            std::task::ready!(self.look.poll_passed(cx));
            let before = std::mem::replace(&mut self.passed, upload.bytes());
            self.stalled = if self.passed == before {
                self.stalled + 1
            } else {
                0
            };
            self.look.reset(LOOK_EVERY);
        }
        Poll::Ready(())
    }
}

/// Waits for `answer` and for as long as the request's body still flows; once that is over, for `timeout`.
pub(crate) async fn answered<T, E>(
    mut answer: Pin<&mut impl Future<Output = Result<T, E>>>,
    mut sending: impl FnMut(&mut Context<'_>),
    upload: &Rc<Upload>,
    timers: &Timers,
    timeout: Duration,
) -> Result<Result<T, E>, SendError> {
    let (mut progress, mut deadline) = (None, None);
    std::future::poll_fn(|cx| {
        sending(cx);
        if let Poll::Ready(result) = answer.as_mut().poll(cx) {
            // A body that broke is why the answer failed, and not the other way round.
            if let (
                Err(_),
                UploadState::Failed(
                    fault @ (BodyFault::Idle | BodyFault::Slow | BodyFault::TooLarge),
                ),
            ) = (&result, upload.state())
            {
                return Poll::Ready(Err(SendError::Body(fault)));
            }
            return Poll::Ready(Ok(result));
        }
        let over = match upload.poll_state(cx) {
            UploadState::Flowing => progress
                .get_or_insert_with(|| Progress::new(upload, timers))
                .poll_stalled(upload, cx),
            UploadState::Finished => deadline
                .get_or_insert_with(|| timers.sleep(timeout))
                .poll_passed(cx),
            UploadState::Failed(fault) => return Poll::Ready(Err(SendError::Body(fault))),
        };
        over.map(|()| Err(SendError::Timeout))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use std::task::Waker;

    /// Polls `answered` with an answer that never comes after each of `steps` steps of 100 ms; the step at which it gave up.
    fn gives_up_after(
        upload: &Rc<Upload>,
        timeout: Duration,
        steps: u32,
        mut before: impl FnMut(u32),
    ) -> Option<(u32, SendError)> {
        let timers = Timers::new();
        let never = std::pin::pin!(pending::<Result<(), ()>>());
        let mut waiting = std::pin::pin!(answered(never, |_| {}, upload, &timers, timeout));
        let mut cx = Context::from_waker(Waker::noop());
        (0..steps).find_map(|step| {
            before(step);
            timers.step();
            match waiting.as_mut().poll(&mut cx) {
                Poll::Ready(result) => result.err().map(|error| (step, error)),
                Poll::Pending => None,
            }
        })
    }

    #[test]
    fn the_time_for_an_answer_begins_with_the_requests_last_byte() {
        let given_up = gives_up_after(
            &Rc::new(Upload::finished()),
            Duration::from_secs(2),
            100,
            |_| {},
        );
        assert!(
            matches!(given_up, Some((20..=22, SendError::Timeout))),
            "{given_up:?}"
        );
        let forever = gives_up_after(&Rc::new(Upload::finished()), Duration::MAX, 10_000, |_| {});
        assert!(forever.is_none(), "{forever:?}");
    }

    #[test]
    fn a_body_that_nobody_takes_is_given_up_and_one_that_moves_is_not() {
        let stalled = gives_up_after(
            &Rc::new(Upload::default()),
            Duration::from_secs(2),
            1000,
            |_| {},
        );
        assert!(
            matches!(stalled, Some((590..=620, SendError::Timeout))),
            "{stalled:?}"
        );
        let upload = Rc::new(Upload::default());
        let moving = gives_up_after(&upload, Duration::from_secs(2), 10_000, |step| {
            if step % 140 == 0 {
                upload.count(1);
            }
        });
        assert!(moving.is_none(), "{moving:?}");
    }
}
