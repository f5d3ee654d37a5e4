//! One request and its answer, which flow side by side: waiting for the service, and writing what
//! it answered.
//!
//! The head of an answer is on its way before its body's fault can be: what came goes out, and the
//! connection then ends in a way that no reader takes for the end of the message.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode};
use http_body::Body;

use super::shared::Expect;
use super::{AnswerBody, Asked, Driver, Service, Why};
use crate::http1::fields::ConnectionOptions;
use crate::http1::incoming::Incoming;
use crate::http1::outbox::GATHERED;
use crate::http1::write::{Encoder, Framing, Persistence, answer_head};
use crate::pace::Pace;
use crate::stream::Stream;
use crate::timer::Deadline;

/// What becomes of the connection behind an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// It may carry a further request.
    Next,
    Close,
    Upgrade,
}

/// How far the body of an answer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Running,
    Ended,
    /// More came than was announced: the answer is whole, and what made it is not to be trusted
    /// further.
    EndedOdd,
    Cut,
}

/// How often a client that has closed its sending half is looked after, since no read tells that it
/// is gone.
const LOOK_AFTER: Duration = Duration::from_millis(500);

/// Turns of reading and writing before others on this worker have theirs.
const ROUNDS: u32 = 16;

impl<IO, S, D, F> Driver<'_, IO, S, D, F>
where
    IO: Stream + 'static,
    S: Service,
    D: Deadline + 'static,
    F: Future<Output = ()>,
{
    /// Waits for the service's answer, while its reader of the body takes what it wants and interim
    /// answers go out.
    pub(super) async fn called(
        &mut self,
        request: Request<Incoming>,
    ) -> Result<Response<S::Body>, Why> {
        let service = self.service;
        let mut call = pin!(service.call(request));
        let mut looking = false;
        let answer = poll_fn(|cx| {
            if let Poll::Ready(response) = self.connection.inside(|| call.as_mut().poll(cx)) {
                return Poll::Ready(Ok(response));
            }
            self.turn = 0;
            let _ = self.poll_outlasting(cx);
            let flushed = self.connection.with(|state| {
                state.wait(cx);
                match state.wire.as_mut() {
                    Some(wire) => wire.poll_flush(cx),
                    None => Poll::Ready(Ok(())),
                }
            });
            if matches!(flushed, Poll::Ready(Err(_))) || self.is_gone(&mut looking, cx) {
                return Poll::Ready(Err(Why::Gone));
            }
            Poll::Pending
        })
        .await;
        if looking {
            self.deadline.unset();
        }
        answer
    }

    /// Whether the client is gone, as far as reading ahead tells; reads no further than the bound,
    /// and nothing of a body.
    fn is_gone(&mut self, looking: &mut bool, cx: &mut Context<'_>) -> bool {
        let ended = self.connection.with(|state| {
            if !state.decoder.is_ended() {
                return Some(false);
            }
            let wire = state.wire.as_mut()?;
            while wire.bytes.len() < state.ahead {
                match wire.poll_fill(cx) {
                    Poll::Ready(Ok(true)) => {}
                    Poll::Ready(Ok(false)) => return Some(true),
                    Poll::Ready(Err(_)) => return None,
                    Poll::Pending => break,
                }
            }
            Some(false)
        });
        match ended {
            None => return true,
            Some(false) => return false,
            Some(true) => {}
        }
        if !*looking {
            *looking = true;
            self.deadline.reset(LOOK_AFTER);
        }
        while self.deadline.poll_passed(cx).is_ready() {
            let gone = self
                .connection
                .with(|state| state.wire.as_ref().is_none_or(|wire| wire.io.is_gone()));
            if gone {
                return true;
            }
            self.deadline.reset(LOOK_AFTER);
        }
        false
    }

    /// Writes an answer. What is left of its body, which may carry the upload on, comes back.
    pub(super) async fn answer(
        &mut self,
        asked: &Asked,
        response: Response<S::Body>,
    ) -> Result<(After, S::Body), Why> {
        let (mut parts, mut body) = response.into_parts();
        if parts.status.is_informational() && parts.status != StatusCode::SWITCHING_PROTOCOLS {
            // An interim answer is none: the next answer would be taken for the one to this
            // request.
            parts.status = StatusCode::INTERNAL_SERVER_ERROR;
        }
        let options = ConnectionOptions::of(&parts.headers);
        let upgrades = parts.status == StatusCode::SWITCHING_PROTOCOLS;
        let stopping = poll_fn(|cx| Poll::Ready(self.is_stopping(cx))).await;
        let framing = Framing::of_answer(
            &asked.method,
            parts.status,
            asked.modern,
            &parts.headers,
            body.size_hint().exact(),
        );
        let date = self.service.date();
        let mut after = self.connection.with(|state| {
            state.answered = true;
            // Who waits for a 100 and gets an answer may send its body all the same, or the next
            // request: nobody can tell.
            let unclear = state.expect == Expect::Waiting && !state.decoder.is_ended();
            let Some(wire) = state.wire.as_mut() else {
                return After::Close;
            };
            let last = options.close
                || !asked.keep_alive
                || stopping
                || unclear
                || framing == Framing::UntilClose
                || state.decoder.failure().is_some()
                || (wire.eof && wire.bytes.is_empty());
            let (after, persistence) = match (upgrades, last) {
                // What follows a body that is not read is no other protocol yet.
                (true, _) if state.decoder.is_ended() => (After::Upgrade, Persistence::Implied),
                (true, _) => (After::Close, Persistence::Close),
                (false, true) => (After::Close, Persistence::Close),
                (false, false) if !asked.modern => (After::Next, Persistence::KeepAlive),
                (false, false) => (After::Next, Persistence::Implied),
            };
            answer_head(
                parts.status,
                &parts.headers,
                framing,
                persistence,
                date.as_ref(),
                wire.tail(),
            );
            after
        });
        let pace = self
            .settings
            .least
            .and_then(|least| least.of(&parts.headers));
        drop(parts);
        let mut writing = Writing {
            encoder: framing.encoder(),
            flow: Flow::Running,
            trailers: asked.wants_trailers,
            stalled_at: None,
            pace,
            looking: false,
        };
        if matches!(framing, Framing::None | Framing::Described(_)) {
            writing.flow = Flow::Ended;
            body.skip();
        }
        poll_fn(|cx| self.poll_answer(&mut writing, &mut body, after, cx)).await?;
        if writing.looking || writing.stalled_at.is_some() {
            self.deadline.unset();
        }
        match writing.flow {
            Flow::Cut => {
                self.cut(framing).await;
                Err(Why::Cut)
            }
            Flow::EndedOdd => {
                after = After::Close;
                Ok((after, body))
            }
            Flow::Running | Flow::Ended => Ok((after, body)),
        }
    }

    fn poll_answer(
        &mut self,
        writing: &mut Writing,
        body: &mut S::Body,
        after: After,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Why>> {
        for _ in 0..ROUNDS {
            let waiting = self.gather(writing, body, cx);
            let _ = self.poll_outlasting(cx);
            let upload = self.connection.inside(|| body.poll_upload(cx));
            let flushed = self.connection.with(|state| {
                if upload.is_pending() {
                    state.wait(cx);
                }
                let wire = state.wire.as_mut()?;
                // Answers to requests that have come already go out together.
                let more = after == After::Next
                    && writing.flow == Flow::Ended
                    && !wire.bytes.is_empty()
                    && wire.out.len() < GATHERED
                    && state.decoder.is_ended();
                Some((
                    if more {
                        Poll::Ready(Ok(()))
                    } else {
                        wire.poll_flush(cx)
                    },
                    wire.out.written(),
                ))
            });
            match flushed {
                None | Some((Poll::Ready(Err(_)), _)) => return Poll::Ready(Err(Why::Gone)),
                Some((Poll::Pending, written)) => {
                    if writing.stalled_at != Some(written) {
                        // It has taken some: what follows is looked at anew.
                        self.service.unsent(0);
                        if writing.is_too_slow(written) {
                            return Poll::Ready(Err(Why::Stalled));
                        }
                        if let Some(pace) = &mut writing.pace {
                            pace.waits(Instant::now);
                        }
                        writing.stalled_at = Some(written);
                        writing.looking = false;
                        self.deadline.reset(self.settings.stall_within);
                    }
                    self.service.unsent(self.waiting_bytes());
                    return self.deadline.poll_passed(cx).map(|()| Err(Why::Stalled));
                }
                Some((Poll::Ready(Ok(())), written)) => {
                    if writing.is_too_slow(written) {
                        return Poll::Ready(Err(Why::Stalled));
                    }
                }
            }
            if writing.stalled_at.take().is_some() {
                self.service.unsent(0);
                self.deadline.unset();
            }
            if writing.flow != Flow::Running {
                return Poll::Ready(Ok(()));
            }
            if waiting {
                self.turn = 0;
                if self.is_gone(&mut writing.looking, cx) {
                    return Poll::Ready(Err(Why::Gone));
                }
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes what there is of the body, as much as is written at a time; whether its next piece is
    /// waited for.
    fn gather(&mut self, writing: &mut Writing, body: &mut S::Body, cx: &mut Context<'_>) -> bool {
        let mut waiting_bytes = self.waiting_bytes();
        let most = if self.service.is_crowded() {
            1
        } else {
            GATHERED
        };
        while writing.flow == Flow::Running && waiting_bytes < most {
            let complete = writing.encoder.is_complete();
            let polled = self
                .connection
                .inside(|| Pin::new(&mut *body).poll_frame(cx));
            let frame = match polled {
                Poll::Ready(frame) => frame,
                // All bytes of a known length are there: nothing else that may come is waited for.
                Poll::Pending if complete => {
                    writing.flow = Flow::Ended;
                    return false;
                }
                Poll::Pending => return true,
            };
            let encoder = &mut writing.encoder;
            let trailers = writing.trailers;
            let flow = &mut writing.flow;
            waiting_bytes = self.connection.with(|state| {
                let Some(wire) = state.wire.as_mut() else {
                    *flow = Flow::Cut;
                    return 0;
                };
                let (out, buffers) = (&mut wire.out, &wire.buffers);
                *flow = match frame.map(|frame| frame.map(http_body::Frame::into_data)) {
                    Some(Ok(Ok(data))) => match encoder.data(data, out, buffers) {
                        Ok(()) => Flow::Running,
                        Err(_) => Flow::EndedOdd,
                    },
                    Some(Ok(Err(frame))) => match frame.into_trailers() {
                        Ok(fields) => {
                            ended(encoder.end(Some(&fields).filter(|_| trailers), out, buffers))
                        }
                        Err(_) => Flow::Running,
                    },
                    None => ended(encoder.end(None, out, buffers)),
                    Some(Err(_)) if complete => Flow::EndedOdd,
                    Some(Err(_)) => Flow::Cut,
                };
                out.len()
            });
        }
        false
    }

    fn waiting_bytes(&self) -> usize {
        self.connection
            .with(|state| state.wire.as_ref().map_or(0, |wire| wire.out.len()))
    }
}

/// The state of writing one answer.
struct Writing {
    encoder: Encoder,
    flow: Flow,
    trailers: bool,
    /// Bytes written when the client took no more.
    stalled_at: Option<u64>,
    pace: Option<Pace>,
    looking: bool,
}

impl Writing {
    /// Whether the client, which has taken some of what it was waited for with, takes too little.
    fn is_too_slow(&mut self, written: u64) -> bool {
        match (&mut self.pace, self.stalled_at) {
            (Some(pace), Some(before)) => pace.moved(written.saturating_sub(before), Instant::now),
            _ => false,
        }
    }
}

fn ended<E>(result: Result<(), E>) -> Flow {
    match result {
        Ok(()) => Flow::Ended,
        Err(_) => Flow::Cut,
    }
}
