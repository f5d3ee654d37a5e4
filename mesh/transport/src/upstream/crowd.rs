//! How many connections a plugin serves at a time, and who has to go where it is fewer than are
//! open.
//!
//! A plugin with one thread serves one connection until that closes: a request on a second one
//! waits for as long as the first is kept, which is no slowness of the plugin's. In: connections as
//! they open, are answered and close, on all workers. Out: whether a request that gets no answer
//! may be waiting for a place, and the word to all workers that idle connections go.
//! Invariant: what has been served at a time is known to be possible; a plugin that takes many is
//! not told to take fewer.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Context;
use std::time::Duration;

use tokio::sync::watch;

use crate::timers::{STEP, Sleep, Timers};

/// The connections of a whole program to one plugin. Clones are the same.
#[derive(Clone, Debug)]
pub struct Crowd(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Connections that have been answered on and are open.
    served: AtomicUsize,
    /// The most of them at a time.
    proven: AtomicUsize,
    /// Requests that have asked for a place and have none yet.
    asking: AtomicUsize,
    /// To ask has helped before: the next one need not wait to see.
    queues: AtomicBool,
    asks: watch::Sender<u64>,
}

/// One connection's place in the crowd.
#[derive(Debug)]
pub struct Place {
    crowd: Crowd,
    served: Cell<bool>,
}

/// A request on a connection that was not answered on yet.
pub(super) struct Asking {
    crowd: Crowd,
    look: Sleep,
    looks: u32,
    asked: bool,
}

/// For an answer on a new connection, before it is thought to wait for a place: a plugin's usual
/// answer is there by then.
const PATIENCE: Duration = STEP;

/// Whatever was proven: a connection that the plugin has closed may have been counted.
const AT_LAST: u32 = 10;

/// Looks after which an answer is still taken for the effect of having asked.
const EFFECT: u32 = 3;

impl Default for Crowd {
    fn default() -> Self {
        Self::new()
    }
}

impl Crowd {
    /// Nobody yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            served: AtomicUsize::new(0),
            proven: AtomicUsize::new(0),
            asking: AtomicUsize::new(0),
            queues: AtomicBool::new(false),
            asks: watch::channel(0).0,
        }))
    }

    /// The place of a new connection.
    #[must_use]
    pub(super) fn enter(&self) -> Place {
        Place {
            crowd: self.clone(),
            served: Cell::new(false),
        }
    }

    /// Whether a request waits for a place, so that no connection is kept idle.
    #[must_use]
    pub(super) fn is_asked(&self) -> bool {
        self.0.asking.load(Ordering::Relaxed) > 0
    }

    /// Hears of each time that idle connections are to go.
    #[must_use]
    pub(super) fn follow(&self) -> watch::Receiver<u64> {
        self.0.asks.subscribe()
    }

    /// A request is about to go out on a new connection.
    pub(super) fn wait(&self, timers: &Timers) -> Asking {
        let mut asking = Asking {
            crowd: self.clone(),
            look: timers.sleep(PATIENCE),
            looks: 0,
            asked: false,
        };
        if self.0.queues.load(Ordering::Relaxed) && self.is_full() {
            asking.ask();
        }
        asking
    }

    /// Whether one connection more than now would be more than were ever served.
    fn is_full(&self) -> bool {
        let served = self.0.served.load(Ordering::Relaxed);
        served > 0 && served >= self.0.proven.load(Ordering::Relaxed)
    }
}

impl Place {
    /// A byte of an answer has come on it.
    pub(super) fn serve(&self) {
        if self.served.replace(true) {
            return;
        }
        let shared = &self.crowd.0;
        let now = shared.served.fetch_add(1, Ordering::Relaxed) + 1;
        if shared.proven.fetch_max(now, Ordering::Relaxed) < now && now > 1 {
            shared.queues.store(false, Ordering::Relaxed);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.served.get() {
            self.crowd.0.served.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Asking {
    /// Looks whether it is time to ask. Wakes `cx` when it is.
    pub(super) fn look(&mut self, cx: &mut Context<'_>) {
        while self.looks <= AT_LAST {
            if self.look.poll_passed(cx).is_pending() {
                return;
            }
            self.looks += 1;
            self.look.reset(STEP);
            if self.looks == AT_LAST || (!self.asked && self.crowd.is_full()) {
                self.ask();
            }
        }
    }

    fn ask(&mut self) {
        let shared = &self.crowd.0;
        if !std::mem::replace(&mut self.asked, true) {
            shared.asking.fetch_add(1, Ordering::Relaxed);
            self.looks = 0;
        }
        shared.asks.send_modify(|asks| *asks += 1);
    }

    /// The answer has begun.
    pub(super) fn answered(self) {
        if self.asked && self.looks <= EFFECT {
            self.crowd.0.queues.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if self.asked {
            self.crowd.0.asking.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    fn served(crowd: &Crowd) -> Place {
        let place = crowd.enter();
        place.serve();
        place
    }

    /// How often idle connections were told to go while `asking` looked for `steps` steps.
    fn asks(crowd: &Crowd, timers: &Timers, asking: &mut Asking, steps: u32) -> u64 {
        let before = *crowd.follow().borrow();
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..steps {
            asking.look(&mut cx);
            timers.step();
        }
        asking.look(&mut cx);
        *crowd.follow().borrow() - before
    }

    #[test]
    fn who_waits_beyond_what_was_ever_served_makes_idle_connections_go() {
        let (crowd, timers) = (Crowd::new(), Timers::new());
        let first = served(&crowd);
        let mut second = crowd.wait(&timers);
        assert_eq!(asks(&crowd, &timers, &mut second, 1), 0, "not at once");
        assert_eq!(asks(&crowd, &timers, &mut second, 3), 1, "once");
        assert!(crowd.is_asked());
        drop(first);
        second.answered();
        assert!(!crowd.is_asked());
        let _second = served(&crowd);
        let before = *crowd.follow().borrow();
        let _third = crowd.wait(&timers);
        assert_eq!(*crowd.follow().borrow() - before, 1, "it is known by now");
    }

    #[test]
    fn who_serves_many_at_a_time_is_not_told_to_let_any_go() {
        let (crowd, timers) = (Crowd::new(), Timers::new());
        drop((0..4).map(|_| served(&crowd)).collect::<Vec<_>>());
        let _kept: Vec<_> = (0..3).map(|_| served(&crowd)).collect();
        let mut slow = crowd.wait(&timers);
        assert_eq!(asks(&crowd, &timers, &mut slow, 15), 0);
        assert_eq!(asks(&crowd, &timers, &mut slow, 15), 1, "at last, once");
    }

    #[test]
    fn nobody_asks_where_nothing_is_open() {
        let (crowd, timers) = (Crowd::new(), Timers::new());
        let mut alone = crowd.wait(&timers);
        assert_eq!(asks(&crowd, &timers, &mut alone, 5), 0);
    }
}
