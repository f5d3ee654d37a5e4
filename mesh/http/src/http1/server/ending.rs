//! Behind an answer: the rest of an upload, and the end of a connection.
//!
//! An answer arrives. While its client still sends, closing would reset the connection and take the
//! answer with it; so what comes is read past, within a bound of bytes and time, before the writing
//! half is closed and then the socket.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::shared::Expect;
use super::{AnswerBody, Driver, Service, Why};
use crate::http1::write::Framing;
use crate::stream::Stream;
use crate::timer::Deadline;

/// How the rest of an upload came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Ended,
    Failed,
}

impl<IO, S, D, F> Driver<'_, IO, S, D, F>
where
    IO: Stream + 'static,
    S: Service,
    D: Deadline + 'static,
    F: Future<Output = ()>,
{
    /// Behind an answer that leaves the connection open: the upload it answered goes on to its end,
    /// or is read past.
    pub(super) async fn settle(&mut self, body: S::Body) -> Result<(), Why> {
        if self.is_body_ended() {
            self.outlast(body).await;
            return Ok(());
        }
        match self.rest(body).await {
            Rest::Ended => Ok(()),
            Rest::Failed => {
                self.close(false).await;
                Err(Why::Upload)
            }
        }
    }

    /// Behind an answer that ends the connection.
    pub(super) async fn end(&mut self, body: S::Body) -> Why {
        let (ended, readable) = self.connection.with(|state| {
            let unclear = state.expect == Expect::Waiting;
            let failed = state.decoder.failure().is_some();
            (state.decoder.is_ended(), !unclear && !failed)
        });
        if ended {
            self.outlast(body).await;
            self.close(false).await;
        } else if readable {
            let rest = self.rest(body).await;
            self.close(rest == Rest::Failed).await;
        } else {
            drop(body);
            let waits = self
                .connection
                .with(|state| state.expect == Expect::Waiting);
            self.close(!waits).await;
        }
        Why::Answered
    }

    fn is_body_ended(&self) -> bool {
        self.connection.with(|state| state.decoder.is_ended())
    }

    /// The rest of an upload: its reader goes on while there is one, then it is read past.
    async fn rest(&mut self, body: S::Body) -> Rest {
        let mut body = Some(body);
        let mut mark = None;
        let carried = poll_fn(|cx| self.poll_carried(&mut body, &mut mark, cx)).await;
        self.deadline.unset();
        if let (Some(Rest::Ended), Some(body)) = (carried, body) {
            self.outlast(body).await;
        }
        match carried {
            Some(rest) => rest,
            None if !self.service.may_drain() => Rest::Failed,
            None => {
                self.deadline.reset(self.settings.drain_within);
                let mut left = self.settings.drain_most;
                let rest = poll_fn(|cx| self.poll_drain(&mut left, cx)).await;
                self.deadline.unset();
                rest
            }
        }
    }

    /// Keeps a body whose upload is not all written yet; it goes on beside what comes next on the
    /// connection.
    async fn outlast(&mut self, mut body: S::Body) {
        let over = poll_fn(|cx| {
            let upload = self
                .connection
                .inside(|| Pin::new(&mut body).poll_upload(cx));
            Poll::Ready(upload.is_ready())
        })
        .await;
        // One at a time: who answers early again and again without taking the uploads is not waited
        // for.
        if !over {
            self.outlasting = Some(body);
        }
    }

    /// Goes on with an upload that outlasts its answer.
    pub(super) fn poll_outlasting(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(body) = &mut self.outlasting {
            ready!(self.connection.inside(|| Pin::new(body).poll_upload(cx)));
            self.outlasting = None;
        }
        Poll::Ready(())
    }

    /// Behind the end of the connection: gives an upload that outlasts it a little time.
    pub(super) async fn last_words(&mut self) {
        if self.outlasting.is_none() {
            return;
        }
        self.deadline.reset(self.settings.drain_within);
        poll_fn(|cx| match self.poll_outlasting(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => self.deadline.poll_passed(cx),
        })
        .await;
        self.deadline.unset();
        self.outlasting = None;
    }

    /// Ready without a verdict once nobody reads the upload any more and it is not at its end.
    fn poll_carried(
        &mut self,
        body: &mut Option<S::Body>,
        mark: &mut Option<u64>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Rest>> {
        if let Some(carrier) = body
            && self
                .connection
                .inside(|| Pin::new(carrier).poll_upload(cx))
                .is_ready()
        {
            *body = None;
        }
        let (rest, read) = self.connection.with(|state| {
            state.wait(cx);
            let Some(wire) = state.wire.as_mut() else {
                return (Some(Some(Rest::Failed)), 0);
            };
            let flushed = wire.poll_flush(cx);
            let rest = if matches!(flushed, Poll::Ready(Err(_))) {
                Some(Some(Rest::Failed))
            } else if state.decoder.is_ended() {
                Some(Some(Rest::Ended))
            } else if state.decoder.failure().is_some() || state.expect == Expect::Waiting {
                Some(Some(Rest::Failed))
            } else if !state.held {
                Some(None)
            } else {
                None
            };
            (rest, wire.read)
        });
        if let Some(rest) = rest {
            return Poll::Ready(rest);
        }
        if *mark != Some(read) {
            *mark = Some(read);
            self.deadline.reset(self.settings.stall_within);
        }
        ready!(self.deadline.poll_passed(cx));
        Poll::Ready(Some(Rest::Failed))
    }

    fn poll_drain(&mut self, left: &mut u64, cx: &mut Context<'_>) -> Poll<Rest> {
        let drained = self.connection.with(|state| {
            let Some(wire) = state.wire.as_mut() else {
                return Poll::Ready(Rest::Failed);
            };
            if matches!(wire.poll_flush(cx), Poll::Ready(Err(_))) {
                return Poll::Ready(Rest::Failed);
            }
            loop {
                wire.read_little();
                match ready!(wire.poll_body(&mut state.decoder, cx)) {
                    None => return Poll::Ready(Rest::Ended),
                    Some(Err(_)) => return Poll::Ready(Rest::Failed),
                    Some(Ok(frame)) => {
                        let count = frame.data_ref().map_or(0, |data| data.len() as u64);
                        match left.checked_sub(count) {
                            Some(rest) => *left = rest,
                            None => return Poll::Ready(Rest::Failed),
                        }
                    }
                }
            }
        });
        if drained.is_ready() {
            return drained;
        }
        self.deadline.poll_passed(cx).map(|()| Rest::Failed)
    }

    /// Ends an answer that broke off, so that it can't be taken for whole.
    pub(super) async fn cut(&mut self, framing: Framing) {
        if framing == Framing::UntilClose {
            // An end is just what would make it look whole.
            self.connection.with(|state| {
                if let Some(wire) = state.wire.as_mut() {
                    wire.io.abort();
                }
            });
        } else {
            let unread = !self.is_body_ended();
            self.close(unread).await;
        }
    }

    /// Closes the writing half behind all that was said; with `linger`, reads past what still comes
    /// before the socket is closed.
    pub(super) async fn close(&mut self, linger: bool) {
        self.deadline.reset(self.settings.drain_within);
        let shut = poll_fn(|cx| {
            let shut = self.connection.with(|state| {
                let Some(wire) = state.wire.as_mut() else {
                    return Poll::Ready(false);
                };
                match ready!(wire.poll_flush(cx)) {
                    Ok(()) => Pin::new(&mut wire.io)
                        .poll_shutdown(cx)
                        .map(|shut| shut.is_ok()),
                    Err(_) => Poll::Ready(false),
                }
            });
            if shut.is_ready() {
                return shut;
            }
            self.deadline.poll_passed(cx).map(|()| false)
        })
        .await;
        if shut && linger && self.service.may_drain() {
            self.deadline.reset(self.settings.drain_within);
            let mut left = self.settings.drain_most;
            poll_fn(|cx| self.poll_discard(&mut left, cx)).await;
        }
        self.deadline.unset();
    }

    /// Reads past whatever comes, until the client's end.
    fn poll_discard(&mut self, left: &mut u64, cx: &mut Context<'_>) -> Poll<()> {
        let ended = self.connection.with(|state| {
            let Some(wire) = state.wire.as_mut() else {
                return Poll::Ready(());
            };
            loop {
                match left.checked_sub(wire.bytes.len() as u64) {
                    Some(rest) => *left = rest,
                    None => return Poll::Ready(()),
                }
                wire.bytes.clear();
                wire.read_little();
                match ready!(wire.poll_fill(cx)) {
                    Ok(true) => {}
                    Ok(false) | Err(_) => return Poll::Ready(()),
                }
            }
        });
        if ended.is_ready() {
            return ended;
        }
        self.deadline.poll_passed(cx)
    }
}
