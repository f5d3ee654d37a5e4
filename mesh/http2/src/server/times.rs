//! The times of one connection: its first request, its rest between requests, a client that takes
//! nothing or is there no more, and its end.
//!
//! In: what a turn of the connection's loop saw. Out: when to say goodbye, when to ask whether the
//! client is there, and when to end. While nothing is under way one deadline is set; while
//! something is, a pulse a second looks whether it still moves, so that a request costs no timer.

use std::task::{Context, Poll};
use std::time::Duration;

use super::Settings;
use crate::{PULSE, pulses};
use gapura_http::Deadline;

pub(super) struct Times<D> {
    deadline: D,
    at: At,
    before: Moved,
    /// Pulses in which nothing was written though something waited.
    blocked: u32,
    /// Pulses in which nothing was read though streams were open.
    silent: u32,
    /// Pulses since the last stream ended, on a connection that is to go.
    last_words: u32,
    /// Pulses so far.
    beats: u32,
    limits: Limits,
}

struct Limits {
    idle: Duration,
    stall: u32,
    ping: u32,
    pong: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Nothing is under way; one deadline.
    Rest,
    /// Something is, or the connection is to go; a pulse.
    Busy,
}

/// Bytes moved so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) read: u64,
    pub(super) written: u64,
}

/// What a turn saw.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) moved: Moved,
    /// Streams that are served.
    pub(super) open: usize,
    /// The stream beneath did not take all of what waits.
    pub(super) blocked: bool,
    /// It was told to take no further request.
    pub(super) stopping: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// It has been idle for long enough.
    Goodbye,
    /// Nothing is under way any more: memory may be given back.
    Rest,
    /// Ask whether the client is there.
    Ping,
    /// The client takes nothing.
    Stalled,
    /// The client is there no more.
    Silent,
    /// It was told to go, and had its time.
    Over,
}

/// For a connection that was told to close, to do so.
const LAST_WORDS: u32 = 2;

impl<D: Deadline> Times<D> {
    /// Of a connection that has `settings.head_within` for its first request.
    pub(super) fn new(settings: &Settings, deadline: D) -> Self {
        deadline.reset(settings.head_within);
        Self {
            deadline,
            at: At::Rest,
            before: Moved::default(),
            blocked: 0,
            silent: 0,
            last_words: 0,
            beats: 0,
            limits: Limits {
                idle: settings.idle_within,
                stall: pulses(settings.stall_within),
                ping: pulses(settings.ping_after),
                pong: pulses(settings.pong_within),
            },
        }
    }

    /// Pulses so far: one for each second in which something was under way.
    pub(super) fn beats(&self) -> u32 {
        self.beats
    }

    /// Looks at a turn; `held` says whether `h2` still has streams, and is asked once a pulse.
    pub(super) fn poll(
        &mut self,
        seen: Seen,
        held: impl Fn() -> bool,
        cx: &mut Context<'_>,
    ) -> Poll<Act> {
        if self.at == At::Rest && (seen.open > 0 || seen.blocked || seen.stopping) {
            self.at = At::Busy;
            self.before = seen.moved;
            (self.blocked, self.silent, self.last_words) = (0, 0, 0);
            self.deadline.reset(PULSE);
        }
        while self.deadline.poll_passed(cx).is_ready() {
            if self.at == At::Rest {
                // Whoever is told so ends it; here nothing happens any more but the pulse.
                self.at = At::Busy;
                self.deadline.reset(PULSE);
                return Poll::Ready(Act::Goodbye);
            }
            self.deadline.reset(PULSE);
            if let Some(act) = self.beat(seen, &held) {
                return Poll::Ready(act);
            }
        }
        Poll::Pending
    }

    fn beat(&mut self, seen: Seen, held: &impl Fn() -> bool) -> Option<Act> {
        self.beats = self.beats.wrapping_add(1);
        let before = std::mem::replace(&mut self.before, seen.moved);
        let (wrote, read) = (
            before.written != seen.moved.written,
            before.read != seen.moved.read,
        );
        // What `h2` holds for streams that nobody serves any more waits for the client's windows.
        let waits = seen.blocked || (seen.open == 0 && held());
        self.blocked = if waits && !wrote { self.blocked + 1 } else { 0 };
        if self.blocked >= self.limits.stall {
            return Some(Act::Stalled);
        }
        if seen.open > 0 {
            self.last_words = 0;
            self.silent = if read { 0 } else { self.silent + 1 };
            if self.silent >= self.limits.ping + self.limits.pong {
                return Some(Act::Silent);
            }
            return (self.silent == self.limits.ping).then_some(Act::Ping);
        }
        self.silent = 0;
        if seen.stopping {
            self.last_words += 1;
            return (self.last_words >= LAST_WORDS && !waits).then_some(Act::Over);
        }
        if waits {
            return None;
        }
        self.at = At::Rest;
        self.deadline.reset(self.limits.idle);
        Some(Act::Rest)
    }
}
