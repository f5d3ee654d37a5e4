//! Drives one connection: frames in and out, one write a turn, and now and then a question whether
//! the peer is still there.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::PingPong;

use super::State;
use crate::gather::{Flusher, Gathered};
use gapura_http::Stream;
use gapura_http::{Deadline, Timer};

/// Ready when the connection is over. Dropped, it ends the connection and all that is under way on
/// it.
pub struct Driver<IO, T: Timer> {
    connection: h2::client::Connection<Gathered<IO>, Bytes>,
    flusher: Flusher<IO>,
    state: Rc<State<T>>,
    ping: Option<PingPong>,
    due: T::Deadline,
    /// The peer has been asked.
    asked: bool,
    /// Bytes read when it was.
    heard: u64,
    /// Bytes moved at the last turn.
    before: (u64, u64),
}

impl<IO: Stream, T: Timer> Driver<IO, T> {
    pub(super) fn new(
        mut connection: h2::client::Connection<Gathered<IO>, Bytes>,
        flusher: Flusher<IO>,
        state: &Rc<State<T>>,
    ) -> Self {
        let due = state.timer.unset();
        due.reset(state.settings.ping_every);
        Self {
            ping: connection.ping_pong(),
            connection,
            flusher,
            state: state.clone(),
            due,
            asked: false,
            heard: 0,
            before: (0, 0),
        }
    }

    /// Ready when the peer is there no more.
    fn poll_silent(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.due.poll_passed(cx).is_ready() {
            let read = self.state.traffic.read.get();
            if std::mem::replace(&mut self.asked, false) {
                // Whatever it says is an answer.
                if self.heard == read {
                    return Poll::Ready(());
                }
                self.due.reset(self.state.settings.ping_every);
                continue;
            }
            (self.asked, self.heard) = (true, read);
            if self.state.open.get() == 0 {
                self.flusher.rest();
            }
            if let Some(ping) = &mut self.ping {
                // An answer to the last one makes room for the next.
                let _ = ping.poll_pong(cx);
                let _ = ping.send_ping(h2::Ping::opaque());
            }
            self.due.reset(self.state.settings.pong_within);
        }
        Poll::Pending
    }

    /// Tells the table what came and what went.
    fn account(&mut self, flushed: bool) {
        let traffic = &self.state.traffic;
        let now = (traffic.read.get(), traffic.written.get());
        let waiting = if flushed {
            0
        } else {
            self.flusher.waiting().max(1)
        };
        let share = &self.state.share;
        share.came(now.0.wrapping_sub(self.before.0));
        share.sent(now.1.wrapping_sub(self.before.1), waiting);
        self.before = now;
    }
}

/// Nothing in it is pinned.
impl<IO, T: Timer> Unpin for Driver<IO, T> {}

impl<IO: Stream, T: Timer> Future for Driver<IO, T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let silent = this.poll_silent(cx).is_ready();
        let over = Pin::new(&mut this.connection).poll(cx).is_ready();
        let flushed = this.flusher.poll_flush(cx);
        let broken = matches!(flushed, Poll::Ready(Err(_)));
        if over || broken || silent {
            this.state.closed.set(true);
            if let Some(failure) = this.flusher.take_failure() {
                *this.state.failure.borrow_mut() = Some(failure);
            }
            return Poll::Ready(());
        }
        this.account(flushed.is_ready());
        Poll::Pending
    }
}

impl<IO, T: Timer> Drop for Driver<IO, T> {
    fn drop(&mut self) {
        self.state.closed.set(true);
        self.state.share.sent(0, 0);
    }
}
