//! The server's side: clients at the gateway, and the gateway at the sidecar.
//!
//! In: a stream, a [`Service`] that answers requests and words refusals, [`Settings`], the
//! connection's [`Share`] of what streams may hold, and a signal to take no further request. Out:
//! an [`End`]. Each stream is served by a task that has it alone and takes the next one after it: a
//! request's future is kilobytes, which this saves from being allocated, copied and freed for each.
//! All tasks belong to the connection and end with it; a panic of one resets its stream and no
//! other.
//! Invariants: who takes a request back takes it from the service too; an answer is whole or its
//! stream is reset; nothing that a client does or fails to do is waited for without bound.

mod ending;
mod exchange;
mod settings;
mod stream_task;
mod times;

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::Connection;
use http::HeaderValue;
use tokio::task::JoinSet;

use super::gather::{Flusher, Gathered, gather};
use super::head::unseen;
use super::held::Share;
use super::watch::{Marked, Refused, Watch};
use super::{MAX_FRAME, SEND_BUFFER};
use gapura_http::Stream;
use gapura_http::http1::RefusalKind;
use gapura_http::http1::server::{AnswerBody, Service};
use gapura_http::http1::write::HttpDate;
use gapura_http::{Deadline, Timer};

use ending::{ended, linger};
use stream_task::StreamTask;
use times::{Act, Moved, Seen, Times};

pub use ending::End;
pub use settings::Settings;

/// Tasks of a connection that wait for their next stream; those beyond end.
const IDLE_STREAM_TASKS: usize = 64;

/// Requests taken before others on this worker have a turn.
const TURN: u32 = 16;

/// As many streams reset by us, over their faults, as `h2` answers before it ends the connection.
const LOCAL_RESETS: usize = 1024;

/// As many streams as a client may open and reset before they are taken.
const PENDING_RESETS: usize = 20;

/// What the tasks of a connection share.
struct Serving<S, T: Timer> {
    service: Rc<S>,
    settings: Settings,
    timer: T,
    share: Rc<Share>,
    /// Streams whose trailers are malformed.
    marked: Marked,
    /// Those that have nothing to do.
    idle: RefCell<Vec<Rc<StreamTask<T::Deadline>>>>,
    open: Cell<usize>,
    served: Cell<u64>,
    /// An answer was the last, by its own word.
    closes: Cell<bool>,
    /// An upload has ended behind its answer: curl 7.88 does not look at what it has until another
    /// frame comes.
    nudge: Cell<bool>,
    date: RefCell<Option<(HttpDate, HeaderValue)>>,
}

/// Counts a stream as open until this is dropped.
struct Open<'a>(&'a Cell<usize>);

/// Carries requests and answers over `io` until its end; `ahead` was read of it before. Once `stop`
/// is ready the client is told to go elsewhere, and those of its requests that are under way are
/// served. Dropping this ends the connection and all its requests.
pub async fn serve<IO, S, T>(
    io: IO,
    ahead: Bytes,
    service: Rc<S>,
    settings: &Settings,
    timer: &T,
    share: &Rc<Share>,
    stop: impl Future<Output = ()>,
) -> End
where
    IO: Stream,
    S: Service + 'static,
    T: Timer + Clone + 'static,
    T::Deadline: 'static,
{
    let watch = Watch::new();
    let marked = watch.marked();
    let (half, flusher) = gather(io, ahead, Some(watch));
    let deadline = timer.unset();
    deadline.reset(settings.head_within.min(PREFACE_WITHIN));
    let connection = match preface(half, &flusher, settings, &deadline).await {
        Ok(connection) => connection,
        Err(end) => {
            linger(&end, &flusher, &deadline).await;
            return end;
        }
    };
    let streams = Rc::new(Serving {
        service,
        settings: settings.clone(),
        timer: timer.clone(),
        share: share.clone(),
        marked,
        idle: RefCell::default(),
        open: Cell::new(0),
        served: Cell::new(0),
        closes: Cell::new(false),
        nudge: Cell::new(false),
        date: RefCell::default(),
    });
    let mut driver = Driver {
        connection,
        flusher,
        streams,
        tasks: JoinSet::new(),
        times: Times::new(settings, deadline),
        before: Moved::default(),
        stopping: false,
        idle: false,
        ping: None,
        beats: 0,
    };
    driver.ping = driver.connection.ping_pong();
    let mut stop = pin!(stop);
    let end = poll_fn(|cx| driver.poll(stop.as_mut(), cx)).await;
    let Driver { flusher, tasks, .. } = driver;
    drop(tasks);
    linger(&end, &flusher, &timer.unset()).await;
    end
}

/// The preface and the settings behind it.
const PREFACE_WITHIN: Duration = Duration::from_secs(10);

async fn preface<IO: Stream>(
    half: Gathered<IO>,
    flusher: &Flusher<IO>,
    settings: &Settings,
    deadline: &impl Deadline,
) -> Result<Connection<Gathered<IO>, Bytes>, End> {
    let mut handshake = h2::server::Builder::new()
        .initial_window_size(settings.stream_window)
        .initial_connection_window_size(settings.connection_window)
        .max_frame_size(MAX_FRAME)
        .max_header_list_size(settings.header_list)
        .max_concurrent_streams(settings.streams)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(Some(LOCAL_RESETS))
        .handshake::<_, Bytes>(half);
    poll_fn(|cx| {
        if let Poll::Ready(result) = Pin::new(&mut handshake).poll(cx) {
            return Poll::Ready(result.map_err(|error| ended(&error, flusher)));
        }
        if let Poll::Ready(Err(error)) = flusher.poll_flush(cx) {
            return Poll::Ready(Err(End::Broken(error)));
        }
        deadline.poll_passed(cx).map(|()| Err(End::NoPreface))
    })
    .await
}

/// Sees one connection through.
struct Driver<IO, S, T: Timer> {
    connection: Connection<Gathered<IO>, Bytes>,
    flusher: Flusher<IO>,
    streams: Rc<Serving<S, T>>,
    tasks: JoinSet<()>,
    times: Times<T::Deadline>,
    /// At the last turn.
    before: Moved,
    stopping: bool,
    /// It is to go because no request came.
    idle: bool,
    ping: Option<h2::PingPong>,
    /// Seconds of work that the allowance of frames was filled up for.
    beats: u32,
}

impl<IO, S, T> Driver<IO, S, T>
where
    IO: Stream,
    S: Service + 'static,
    T: Timer + Clone + 'static,
    T::Deadline: 'static,
{
    /// One turn: what came is handed out, and what the tasks have put into `h2` since the last turn
    /// goes out in one write.
    fn poll(
        &mut self,
        stop: Pin<&mut impl Future<Output = ()>>,
        cx: &mut Context<'_>,
    ) -> Poll<End> {
        if !self.stopping && (self.streams.closes.get() || stop.poll(cx).is_ready()) {
            self.stop();
        }
        while let Poll::Ready(Some(ended)) = self.tasks.poll_join_next(cx) {
            if ended.is_err_and(|error| error.is_panic()) {
                self.streams.service.panicked();
                self.stop();
            }
        }
        if self.streams.nudge.take() {
            self.ask(cx);
        }
        let mut end = self.accept(cx);
        if end.is_none() && self.flusher.watch(|watch| watch.is_flooded()) == Some(true) {
            end = Some(self.flooded(cx));
        }
        let moved = self.moved();
        self.streams
            .share
            .came(moved.read.wrapping_sub(self.before.read));
        let flushed = self.flusher.poll_flush(cx);
        if let Some(end) = end {
            return Poll::Ready(end);
        }
        let blocked = match flushed {
            Poll::Ready(Ok(())) => false,
            Poll::Ready(Err(error)) => {
                let failure = self.flusher.take_failure();
                return Poll::Ready(match self.stopping && self.streams.open.get() == 0 {
                    true => self.closed(),
                    false => End::Broken(failure.unwrap_or(error)),
                });
            }
            Poll::Pending => true,
        };
        let moved = self.moved();
        let written = moved.written.wrapping_sub(self.before.written);
        let waiting = if blocked {
            self.flusher.waiting().max(1)
        } else {
            0
        };
        self.streams.share.sent(written, waiting);
        self.before = moved;
        self.live(blocked, cx)
    }

    /// Hands out the streams that have come.
    fn accept(&mut self, cx: &mut Context<'_>) -> Option<End> {
        for _ in 0..TURN {
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok(stream))) => {
                    let id = stream.1.stream_id().as_u32();
                    self.flusher.watch(|watch| watch.accepted(id));
                    if let Some(task) = self.streams.give(stream) {
                        self.tasks
                            .spawn_local(Box::pin(self.streams.clone().work(task)));
                    }
                }
                Poll::Ready(None) => return Some(self.closed()),
                Poll::Ready(Some(Err(error))) => {
                    self.tell_refused();
                    return Some(self.broken(&error));
                }
                Poll::Pending => {
                    self.tell_refused();
                    return None;
                }
            }
        }
        cx.waker().wake_by_ref();
        None
    }

    /// Words the refusals that `h2` has spoken for us, each as that of a head that is no request.
    fn tell_refused(&mut self) {
        let refused = self.flusher.watch(Watch::take_refused).unwrap_or_default();
        for (_, how) in refused {
            let (kind, reason) = match how {
                Refused::Malformed => (
                    RefusalKind::BadRequest,
                    "a malformed head; its stream was reset",
                ),
                Refused::TooLarge => (
                    RefusalKind::HeadersTooLarge,
                    "the fields are far too large; their stream was answered by the status alone",
                ),
            };
            // For its line: what could be said over the stream has been.
            let refusal = unseen(kind, reason);
            let mut worded = self.streams.service.refuse(refusal);
            worded.body_mut().skip();
        }
    }

    /// Ends the connection of a client that does too much of what costs it nothing.
    fn flooded(&mut self, cx: &mut Context<'_>) -> End {
        let reason = h2::Reason::ENHANCE_YOUR_CALM;
        self.connection.abrupt_shutdown(reason);
        // What comes of it is known.
        let _ = self.connection.poll_closed(cx);
        End::Protocol(reason)
    }

    /// Looks at the time.
    fn live(&mut self, blocked: bool, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let seen = Seen {
                moved: self.before,
                open: self.streams.open.get(),
                blocked,
                stopping: self.stopping,
            };
            let connection = &self.connection;
            let act = self.times.poll(seen, || connection.has_streams(), cx);
            while self.beats != self.times.beats() {
                self.beats = self.beats.wrapping_add(1);
                self.flusher.watch(Watch::a_second_passed);
            }
            let Poll::Ready(act) = act else {
                return Poll::Pending;
            };
            match act {
                Act::Goodbye => {
                    self.idle = true;
                    self.stop();
                    // The goodbye is still to be written.
                    cx.waker().wake_by_ref();
                }
                Act::Rest => {
                    self.flusher.rest();
                    self.streams.dismiss();
                    self.streams.service.idle(self.streams.served.get());
                }
                Act::Ping => {
                    self.ask(cx);
                    cx.waker().wake_by_ref();
                }
                Act::Stalled => {
                    self.flusher.abort();
                    return Poll::Ready(End::Stalled);
                }
                Act::Silent => {
                    self.flusher.abort();
                    return Poll::Ready(End::Silent);
                }
                Act::Over => {
                    self.flusher.close(cx);
                    return Poll::Ready(self.closed());
                }
            }
        }
    }

    /// Asks the client whether it is there.
    fn ask(&mut self, cx: &mut Context<'_>) {
        if let Some(ping) = &mut self.ping {
            // An answer to the last one makes room for the next.
            let _ = ping.poll_pong(cx);
            let _ = ping.send_ping(h2::Ping::opaque());
        }
    }

    /// How it ended that ended well.
    fn closed(&self) -> End {
        if self.idle { End::Idle } else { End::Closed }
    }

    fn broken(&self, error: &h2::Error) -> End {
        let end = ended(error, &self.flusher);
        // Once it is told to go, a client with nothing under way may go as it likes.
        if self.stopping && self.streams.open.get() == 0 && matches!(end, End::Broken(_)) {
            return self.closed();
        }
        end
    }

    /// Takes no further request: the client hears of it twice, the second time after a round trip.
    fn stop(&mut self) {
        if !std::mem::replace(&mut self.stopping, true) {
            self.connection.graceful_shutdown();
        }
    }

    fn moved(&self) -> Moved {
        let traffic = self.flusher.traffic();
        Moved {
            read: traffic.read.get(),
            written: traffic.written.get(),
        }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
