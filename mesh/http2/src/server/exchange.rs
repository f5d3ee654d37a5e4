//! One request and its answer on one stream, and what they leave behind.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use h2::Reason;
use http::header::{CONTENT_TYPE, DATE, EXPECT};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version};
use http_body::Body;

use super::stream_task::{Stream, StreamTask};
use super::{IDLE_STREAM_TASKS, Open, Serving};
use crate::head::{check, drop_connection_fields, is_bodiless};
use crate::length::Left;
use crate::pump::{Pump, PumpError};
use crate::received::Received;
use gapura_http::http1::Incoming;
use gapura_http::http1::server::{AnswerBody, Service};
use gapura_http::{Deadline, Timer};

impl<S, T> Serving<S, T>
where
    S: Service + 'static,
    T: Timer + Clone + 'static,
    T::Deadline: 'static,
{
    /// Gives a stream to a task that is idle; a new one, if there is none, is yet to be set to
    /// work.
    pub(super) fn give(&self, stream: Stream) -> Option<Rc<StreamTask<T::Deadline>>> {
        // From now on, and not from when the task runs: the connection looks at the time in
        // between.
        self.open.set(self.open.get() + 1);
        let idle = self.idle.borrow_mut().pop();
        if let Some(task) = idle {
            task.give(stream);
            return None;
        }
        let task = StreamTask::new(&self.share, self.timer.unset());
        task.give(stream);
        Some(task)
    }

    /// Sends those that have nothing to do home: a connection that rests holds no kilobytes of a
    /// request's future.
    pub(super) fn dismiss(&self) {
        for task in self.idle.take() {
            task.dismiss();
        }
    }

    pub(super) async fn work(self: Rc<Self>, task: Rc<StreamTask<T::Deadline>>) {
        while let Some(stream) = task.take().await {
            let open = Open(&self.open);
            self.exchange(&task, stream).await;
            task.finish();
            drop(open);
            self.served.set(self.served.get() + 1);
            let mut idle = self.idle.borrow_mut();
            if idle.len() >= IDLE_STREAM_TASKS {
                return;
            }
            idle.push(task.clone());
        }
    }

    async fn exchange(&self, task: &Rc<StreamTask<T::Deadline>>, (request, mut respond): Stream) {
        if self.share.is_greedy() {
            // What it has is not read; whoever is told so may ask again, and nothing was done.
            respond.send_reset(Reason::REFUSED_STREAM);
            return;
        }
        let (parts, stream) = request.into_parts();
        let head_only = parts.method == Method::HEAD;
        let checked = check(&parts, &self.settings.limits);
        let left = checked.as_ref().map_or(Left::UNKNOWN, |left| *left);
        let fields = self.settings.limits.fields;
        let received = Received::new(stream, left, &parts.headers, fields, false);
        let received = received.watched(&self.marked);
        let has_body = !received.is_end();
        let message = task.begin(
            received,
            respond,
            has_body && expects_continue(&parts.headers),
            self.body_idle(&parts, has_body),
            self.settings.drain_most,
        );
        let response = match checked {
            Ok(_) => {
                let incoming = Incoming::new(task.clone(), message);
                let request = Request::from_parts(parts, incoming);
                let handled = pin!(self.service.call(request));
                let Some(response) = task.unless_reset(handled).await else {
                    return;
                };
                response
            }
            Err(refusal) => {
                task.disown();
                self.service.refuse(*refusal)
            }
        };
        let Some(mut body) = self.answer(task, response, head_only).await else {
            return;
        };
        // The answer has ended. What it still does with the upload goes on, and then the rest is
        // read past, so that the answer arrives before the reset does.
        task.carried(self.settings.stall_within, |cx| body.poll_upload(cx))
            .await;
        drop(body);
        if task.may_drain() && self.service.may_drain() {
            let drained = task.drain(self.settings.drain_within).await;
            if drained.is_some() {
                self.nudge.set(true);
            }
            // The connection's loop wakes when this goes.
            drop(drained);
        }
    }

    /// Sends the answer. Its body comes back once its end is on its way; none if it was cut, or the
    /// client wants no more of it.
    async fn answer(
        &self,
        task: &StreamTask<T::Deadline>,
        response: Response<S::Body>,
        head_only: bool,
    ) -> Option<S::Body> {
        let (mut head, mut body) = response.into_parts();
        if drop_connection_fields(head.status, &mut head.headers) {
            self.closes.set(true);
        }
        head.version = Version::HTTP_2;
        self.add_date(&mut head.headers);
        let bodiless = head_only || is_bodiless(head.status);
        // Two lengths, or one that is none, would be ours: whoever reads it may take it for what he
        // likes.
        let left = match Left::of(&head.headers) {
            Ok(left) => left,
            Err(_) => {
                head.headers.remove(http::header::CONTENT_LENGTH);
                Left::UNKNOWN
            }
        };
        let ended = bodiless || (body.is_end_stream() && !left.is_short());
        let pace = self
            .settings
            .least
            .and_then(|least| least.of(&head.headers));
        let stream = task.answer(Response::from_parts(head, ()), ended)?;
        if ended {
            body.skip();
            return Some(body);
        }
        let share = &self.share;
        let within = self.settings.stall_within;
        let pump = Pump::new(body, left, stream, share, within, &self.timer);
        let mut pump = pump.paced(pace);
        let moved = poll_fn(|cx| {
            let polled = pump.poll(cx);
            if polled.is_pending() && pump.is_blocked() {
                // A client that takes no more of the answer may still send.
                let _ = pump.body().poll_upload(cx);
            }
            task.read_past(cx);
            polled
        })
        .await;
        match moved {
            Ok(()) => return Some(pump.into_body()),
            Err(PumpError::Refused) => {}
            // What waits for the client is thrown away with the stream.
            Err(PumpError::Stalled) => pump.reset(Reason::CANCEL),
            // The head is out before its body's fault is, and so is what came.
            Err(PumpError::Body(_) | PumpError::Short) => {
                self.flushed(within).await;
                pump.reset(Reason::INTERNAL_ERROR);
            }
        }
        None
    }

    /// Waits until all that was handed to `h2` has gone out, for `within` at most.
    async fn flushed(&self, within: Duration) {
        let Some(since) = self.share.unflushed() else {
            return;
        };
        let deadline = self.timer.unset();
        deadline.reset(within);
        poll_fn(|cx| match self.share.poll_flushed(since, cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => deadline.poll_passed(cx),
        })
        .await;
    }

    /// Adds the date to an answer that has none.
    fn add_date(&self, headers: &mut HeaderMap) {
        let Some(date) = self.service.date() else {
            return;
        };
        if headers.contains_key(DATE) {
            return;
        }
        let mut cached = self.date.borrow_mut();
        if cached.as_ref().is_none_or(|(text, _)| *text != date) {
            *cached = HeaderValue::from_bytes(&date)
                .ok()
                .map(|value| (date, value));
        }
        if let Some((_, value)) = &*cached {
            headers.insert(DATE, value.clone());
        }
    }

    fn body_idle(&self, parts: &Parts, has_body: bool) -> Option<Duration> {
        let idle = self.settings.body_idle.filter(|_| has_body)?;
        let grpc = parts
            .headers
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        (!grpc).then_some(idle)
    }
}

fn expects_continue(headers: &HeaderMap) -> bool {
    headers
        .get(EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}
