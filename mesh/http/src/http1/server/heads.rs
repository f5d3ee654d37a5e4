//! Between two requests: waits for the next head, with nothing in hand until its first byte.

use std::future::{Future, poll_fn};
use std::task::{Context, Poll};

use super::{Driver, Service, Why};
use crate::http1::Malformed;
use crate::http1::head::{HTTP2_PREFACE, RequestHead, RequestReader};
use crate::http1::refusal::{Refusal, RefusalKind};
use crate::stream::Stream;
use crate::timer::Deadline;

/// What comes next on a connection.
#[expect(
    clippy::large_enum_variant,
    reason = "moved once a request, where a box would be an allocation more"
)]
pub(super) enum Next {
    Request(RequestHead),
    Refused(Box<Refusal>),
    Http2,
}

/// What the connection is waited on for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Nothing,
    First,
    Idle,
    Head,
    /// For the client to take what was written, so many bytes so far.
    Stalled(u64),
}

const LATE: Malformed = Malformed {
    kind: RefusalKind::Timeout,
    reason: "the head did not come in time",
};

impl<IO, S, D, F> Driver<'_, IO, S, D, F>
where
    IO: Stream + 'static,
    S: Service,
    D: Deadline + 'static,
    F: Future<Output = ()>,
{
    pub(super) async fn next_head(&mut self) -> Result<Next, Why> {
        let mut reader = RequestReader::default();
        let mut waiting = Waiting::Nothing;
        let next = poll_fn(|cx| {
            let polled = self.poll_head(&mut reader, &mut waiting, cx);
            if polled.is_pending() {
                self.turn = 0;
            }
            polled
        })
        .await;
        if waiting != Waiting::Nothing {
            self.deadline.unset();
        }
        next
    }

    fn poll_head(
        &mut self,
        reader: &mut RequestReader,
        waiting: &mut Waiting,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Next, Why>> {
        let first = self.served == 0;
        let _ = self.poll_outlasting(cx);
        let read = self.connection.with(|state| {
            let wire = state.wire.as_mut().ok_or(Why::Gone)?;
            loop {
                if !wire.bytes.is_empty() {
                    if first && begins_http2(&wire.bytes) {
                        if wire.bytes.len() >= HTTP2_LINE {
                            return Ok(Some(Next::Http2));
                        }
                    } else {
                        match reader.read(&mut wire.bytes, &self.settings.limits) {
                            Ok(Some(head)) => return Ok(Some(Next::Request(head))),
                            Ok(None) => {}
                            Err(refusal) => return Ok(Some(Next::Refused(refusal))),
                        }
                    }
                }
                match wire.poll_fill(cx) {
                    Poll::Ready(Ok(true)) => {}
                    // Part of a head is no request, and nobody to be told so.
                    Poll::Ready(Ok(false)) if wire.out.is_flushed() => return Err(Why::Client),
                    Poll::Ready(Err(error)) => return Err(Why::Broken(error.kind())),
                    Poll::Ready(Ok(false)) | Poll::Pending => return Ok(None),
                }
            }
        });
        match read {
            Ok(Some(next)) => return Poll::Ready(Ok(next)),
            Err(why) => return Poll::Ready(Err(why)),
            Ok(None) => {}
        }
        // Nothing is waited for before all that was said has gone out.
        let (flushed, begun, written, ended) = self.connection.with(|state| {
            let Some(wire) = state.wire.as_mut() else {
                return (Poll::Ready(Ok(())), false, 0, true);
            };
            let flushed = wire.poll_flush(cx);
            if flushed.is_ready() {
                wire.rest();
            }
            (
                flushed,
                !wire.bytes.is_empty(),
                wire.out.written(),
                wire.eof,
            )
        });
        let now = match flushed {
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Why::Gone)),
            Poll::Ready(Ok(())) if ended => return Poll::Ready(Err(Why::Client)),
            Poll::Ready(Ok(())) if begun => Waiting::Head,
            Poll::Ready(Ok(())) if first => Waiting::First,
            Poll::Ready(Ok(())) => Waiting::Idle,
            Poll::Pending => Waiting::Stalled(written),
        };
        if self.is_stopping(cx) && !begun && !matches!(now, Waiting::Stalled(_)) {
            return Poll::Ready(Err(Why::Stopped));
        }
        if now != *waiting {
            // The first byte of a connection and the rest of its first head are one time.
            if !matches!((*waiting, now), (Waiting::First, Waiting::Head)) {
                self.deadline.reset(match now {
                    Waiting::Idle => self.settings.idle_within,
                    Waiting::Stalled(_) => self.settings.stall_within,
                    _ => self.settings.head_within,
                });
            }
            if now == Waiting::Idle {
                self.service.idle(self.served);
            }
            *waiting = now;
        }
        if self.deadline.poll_passed(cx).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(match now {
            Waiting::Head => {
                let refusal = self.connection.with(|state| {
                    let bytes = state.wire.as_ref().map(|wire| &wire.bytes[..]);
                    Refusal::of(LATE, bytes.unwrap_or_default())
                });
                Ok(Next::Refused(Box::new(refusal)))
            }
            Waiting::Stalled(_) => Err(Why::Stalled),
            _ => Err(Why::Idle),
        })
    }

    /// Whether no further request is taken.
    pub(super) fn is_stopping(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.stopping && self.stop.as_mut().poll(cx).is_ready() {
            self.stopping = true;
        }
        self.stopping
    }

    /// Lets others on this worker have a turn, with all that was said on its way.
    pub(super) async fn give_way(&mut self) -> Result<(), Why> {
        self.turn = 0;
        let mut given = false;
        poll_fn(|cx| {
            if given {
                return Poll::Ready(Ok(()));
            }
            given = true;
            let flushed = self.connection.with(|state| match state.wire.as_mut() {
                Some(wire) => wire.poll_flush(cx),
                None => Poll::Ready(Ok(())),
            });
            if let Poll::Ready(Err(_)) = flushed {
                return Poll::Ready(Err(Why::Gone));
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }
}

/// The line that no request of HTTP/1 can begin with.
const HTTP2_LINE: usize = "PRI * HTTP/2.0\r\n\r\n".len();

/// Whether these are, as far as they go, the first bytes of an HTTP/2 connection. `P` alone may
/// still become a POST.
fn begins_http2(bytes: &[u8]) -> bool {
    let length = bytes.len().min(HTTP2_LINE);
    bytes[..length] == HTTP2_PREFACE[..length]
}
