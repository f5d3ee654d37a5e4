//! How long one request waits, from its last byte to the head of its answer.
//!
//! In: how long it may take, the plugin's `timeout_ms` at the gateway, and how far the request's
//! body has come. Out: what was waited for, or that the time is over. The time to connect and to
//! shake hands is part of it. A body that flows stops the clock for as long as the next program
//! takes of it; while there is no connection nobody asks the body for anything, and the clock runs.
//! Invariant: no wait for a connection or an answer is without an end.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use super::progress::Progress;
use crate::body::{Upload, UploadState};
use crate::timers::{Sleep, Timers};

/// One request's. It is the same through all of the request's attempts.
pub struct Patience<'a> {
    upload: &'a Rc<Upload>,
    timers: &'a Timers,
    timeout: Duration,
    deadline: Sleep,
    /// The body has been seen under way: the clock has to be set anew at its end.
    flowed: Cell<bool>,
}

/// The time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over;

impl<'a> Patience<'a> {
    /// The clock runs from now, and from the end of the body where that comes later.
    #[must_use]
    pub fn new(upload: &'a Rc<Upload>, timers: &'a Timers, timeout: Duration) -> Self {
        Self {
            upload,
            timers,
            timeout,
            deadline: timers.sleep(timeout),
            flowed: Cell::new(false),
        }
    }

    /// How far the request's body has come.
    #[must_use]
    pub fn upload(&self) -> &'a Rc<Upload> {
        self.upload
    }

    /// Waits for a connection. The work stays where it is, since handed on by value it would have
    /// room twice in every request's future; so it is with an answer.
    ///
    /// # Errors
    /// [`Over`]
    pub async fn connecting<T>(
        &self,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, Over> {
        poll_fn(|cx| match work.as_mut().poll(cx) {
            std::task::Poll::Ready(done) => std::task::Poll::Ready(Ok(done)),
            std::task::Poll::Pending => self.deadline.poll_passed(cx).map(|()| Err(Over)),
        })
        .await
    }

    /// Waits for an answer, and for as long as the request's body still flows. A body that broke is
    /// told by whoever sends it.
    ///
    /// # Errors
    /// [`Over`]
    pub async fn answered<T>(
        &self,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, Over> {
        let mut progress = None;
        poll_fn(|cx| {
            if let std::task::Poll::Ready(done) = work.as_mut().poll(cx) {
                return std::task::Poll::Ready(Ok(done));
            }
            let over = match self.upload.poll_state(cx) {
                UploadState::Flowing => {
                    self.flowed.set(true);
                    progress
                        .get_or_insert_with(|| Progress::new(self.upload, self.timers))
                        .poll_stalled(self.upload, cx)
                }
                UploadState::Finished | UploadState::Failed(_) => {
                    if self.flowed.take() {
                        self.deadline.reset(self.timeout);
                    }
                    self.deadline.poll_passed(cx)
                }
            };
            over.map(|()| Err(Over))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    /// Polls `waiting` after each of `steps` steps of 100 ms; the step at which it was over.
    fn over_after(
        timers: &Timers,
        waiting: impl Future<Output = Result<(), Over>>,
        steps: u32,
    ) -> Option<u32> {
        let mut waiting = pin!(waiting);
        let mut cx = Context::from_waker(Waker::noop());
        (0..steps).find(|_| {
            timers.step();
            waiting.as_mut().poll(&mut cx) == Poll::Ready(Err(Over))
        })
    }

    const TWO: Duration = Duration::from_secs(2);

    #[test]
    fn connecting_takes_of_the_same_time_as_the_answer_whatever_the_body_does() {
        let timers = Timers::new();
        for upload in [Upload::finished(), Upload::default()] {
            let upload = Rc::new(upload);
            let patience = Patience::new(&upload, &timers, TWO);
            let step = over_after(&timers, patience.connecting(pin!(pending())), 100);
            assert!(matches!(step, Some(19..=21)), "{step:?}");
        }
        let upload = Rc::new(Upload::finished());
        let patience = Patience::new(&upload, &timers, TWO);
        assert_eq!(
            over_after(&timers, patience.connecting(pin!(pending())), 10),
            None
        );
        let step = over_after(&timers, patience.answered(pin!(pending())), 100);
        assert!(matches!(step, Some(9..=11)), "what was left: {step:?}");
    }

    #[test]
    fn a_body_that_flows_and_is_not_taken_is_given_up_after_a_minute() {
        let timers = Timers::new();
        let upload = Rc::new(Upload::default());
        let patience = Patience::new(&upload, &timers, TWO);
        let step = over_after(&timers, patience.answered(pin!(pending())), 1000);
        assert!(matches!(step, Some(590..=620)), "{step:?}");
        // One that moves is not, however long it takes.
        let patience = Patience::new(&upload, &timers, TWO);
        let moving = async {
            let mut moves = 0;
            patience
                .answered(pin!(std::future::poll_fn(|_| {
                    moves += 1;
                    if moves % 140 == 0 {
                        upload.count(1);
                    }
                    Poll::Pending
                })))
                .await
        };
        assert_eq!(over_after(&timers, moving, 10_000), None);
    }

    #[test]
    fn who_has_all_the_time_waits_for_ever() {
        let timers = Timers::new();
        let upload = Rc::new(Upload::finished());
        let patience = Patience::new(&upload, &timers, Duration::MAX);
        assert_eq!(
            over_after(&timers, patience.answered(pin!(pending())), 10_000),
            None
        );
    }
}
