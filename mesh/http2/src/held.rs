//! What the HTTP/2 streams of a worker hold in memory, and the end of those that nobody takes from.
//!
//! A connection's window may be without practical limit, so that a stalled stream never holds up its neighbours; what such a
//! stream can hold is its own window. In: what each connection's streams hold unread, and what was handed to `h2` to send. Out: a
//! sum for each connection and one for the worker, plain counters that others read, and resets: a stream from which nobody takes
//! anything for a minute, and, where the stalled ones of the worker hold more than its budget, the longest stalled first (CONTRACT
//! section 5, "The hop").
//! Invariants: the worker's sum is that of its connections, and a connection's is that of its streams. What is taken or dropped is
//! gone from the sums at once; what comes is in them once 32 KiB of it have come over the connection, or at the next look.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;

use super::PULSE;
use gapura_http::{Deadline, Timer};

/// The table of one worker. Clones share it.
#[derive(Clone)]
pub struct Streams {
    inner: Rc<Inner>,
}

/// Bytes in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// They came, and nobody has taken them.
    pub unread: usize,
    /// They were handed on to be sent, and the peer has not taken them.
    pub unsent: usize,
}

/// One connection's part.
pub struct Share {
    table: Rc<Inner>,
    key: usize,
    unread: Cell<usize>,
    unsent: Cell<usize>,
    /// Bytes that came since the streams were last asked.
    came: Cell<u64>,
    open: RefCell<Slab<Weak<dyn Holds>>>,
    /// Something was handed on that has not gone out.
    dirty: Cell<bool>,
    /// How often all that was handed on has gone out.
    flushes: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

struct Inner {
    budget: usize,
    unread: Cell<usize>,
    unsent: Cell<usize>,
    connections: RefCell<Slab<Weak<Share>>>,
}

/// Something that holds bytes of a stream.
pub(super) trait Holds {
    /// Bytes that nobody has taken, as `h2` knows it now.
    fn held(&self) -> usize;

    /// Gives the bytes up; whoever reads on is told that it stalled.
    fn give_up(&self);

    fn mark(&self) -> &Mark;
}

/// What the table remembers of a stream.
#[derive(Debug, Default)]
pub(super) struct Mark {
    /// Its part in the sums.
    counted: Cell<usize>,
    /// Looks at which it held bytes, since the last were taken.
    stalled: Cell<u32>,
}

/// How long a stream may hold bytes that nobody takes.
const STALL_LIMIT: Duration = Duration::from_secs(60);

/// Streams are asked what they hold once so much has come: a fraction of the cost of reading it.
const ASK_EVERY: u64 = 32 * 1024;

impl Streams {
    /// A table whose stalled streams may hold `budget` bytes.
    #[must_use]
    pub fn new(budget: usize) -> Self {
        Self {
            inner: Rc::new(Inner {
                budget,
                unread: Cell::new(0),
                unsent: Cell::new(0),
                connections: RefCell::default(),
            }),
        }
    }

    /// The part of a new connection.
    #[must_use]
    pub fn open(&self) -> Rc<Share> {
        Rc::new_cyclic(|this| Share {
            table: self.inner.clone(),
            key: self.inner.connections.borrow_mut().insert(this.clone()),
            unread: Cell::new(0),
            unsent: Cell::new(0),
            came: Cell::new(0),
            open: RefCell::default(),
            dirty: Cell::new(false),
            flushes: Cell::new(0),
            waiting: RefCell::default(),
        })
    }

    /// What all of them hold.
    #[must_use]
    pub fn held(&self) -> Held {
        Held {
            unread: self.inner.unread.get(),
            unsent: self.inner.unsent.get(),
        }
    }

    /// Looks at the streams once a second, for ever.
    pub async fn run(self, timer: &impl Timer) {
        let next = timer.unset();
        loop {
            next.reset(PULSE);
            poll_fn(|cx| next.poll_passed(cx)).await;
            self.look();
        }
    }

    /// Asks all streams what they hold, and ends those that have stalled. To be called once a second.
    pub fn look(&self) {
        let connections: Vec<Rc<Share>> = {
            let connections = self.inner.connections.borrow();
            connections
                .iter()
                .filter_map(|(_, share)| share.upgrade())
                .collect()
        };
        let mut stalled: Vec<(u32, usize, Rc<dyn Holds>)> = Vec::new();
        for share in connections {
            for stream in share.streams() {
                let held = share.ask(&*stream);
                let mark = stream.mark();
                if held == 0 {
                    mark.stalled.set(0);
                    continue;
                }
                mark.stalled.set(mark.stalled.get().saturating_add(1));
                // Once is no stall: it may have come just now.
                if mark.stalled.get() > 1 {
                    stalled.push((mark.stalled.get(), held, stream));
                }
            }
            share.came.set(0);
        }
        stalled.sort_by_key(|(looks, ..)| std::cmp::Reverse(*looks));
        let limit = super::pulses(STALL_LIMIT);
        let mut held: usize = stalled.iter().map(|(_, held, _)| held).sum();
        for (looks, bytes, stream) in stalled {
            if held > self.inner.budget || looks > limit {
                held -= bytes;
                stream.give_up();
            }
        }
    }
}

impl Share {
    /// What this connection holds.
    #[must_use]
    pub fn held(&self) -> Held {
        Held {
            unread: self.unread.get(),
            unsent: self.unsent.get(),
        }
    }

    /// Enters a stream; [`Share::leave`] takes it out.
    pub(super) fn enter(&self, stream: Weak<dyn Holds>) -> usize {
        self.open.borrow_mut().insert(stream)
    }

    pub(super) fn leave(&self, key: usize, mark: &Mark) {
        self.count(mark, 0);
        self.open.borrow_mut().try_remove(key);
    }

    /// So many bytes of a stream were taken.
    pub(super) fn taken(&self, mark: &Mark, bytes: usize) {
        mark.stalled.set(0);
        let counted = mark.counted.get();
        if counted > 0 {
            self.count(mark, counted.saturating_sub(bytes));
        }
    }

    /// Nothing of the stream is held any more.
    pub(super) fn dropped(&self, mark: &Mark) {
        mark.stalled.set(0);
        self.count(mark, 0);
    }

    /// So many bytes have come over the connection.
    pub(super) fn came(&self, bytes: u64) {
        let came = self.came.get() + bytes;
        self.came.set(came);
        if came >= ASK_EVERY {
            self.came.set(0);
            for stream in self.streams() {
                self.ask(&*stream);
            }
        }
    }

    /// Something was handed on to be sent: a head, or so many bytes of a body.
    pub(super) fn handed(&self, bytes: usize) {
        self.dirty.set(true);
        self.unsent.set(self.unsent.get() + bytes);
        let sum = &self.table.unsent;
        sum.set(sum.get() + bytes);
    }

    /// Of what was handed on, `written` bytes have gone out, and `waiting` are known to wait; none if all has gone out.
    pub(super) fn sent(&self, written: u64, waiting: usize) {
        let before = self.unsent.get();
        let now = if waiting == 0 {
            self.dirty.set(false);
            self.flushes.set(self.flushes.get() + 1);
            if !self.waiting.borrow().is_empty() {
                for waker in self.waiting.take() {
                    waker.wake();
                }
            }
            0
        } else {
            let written = usize::try_from(written).unwrap_or(usize::MAX);
            before.saturating_sub(written).max(waiting)
        };
        self.unsent.set(now);
        let sum = &self.table.unsent;
        sum.set((sum.get() + now).saturating_sub(before));
    }

    /// What [`Share::poll_flushed`] waits for; nothing if all has gone out.
    pub(super) fn unflushed(&self) -> Option<u64> {
        self.dirty.get().then(|| self.flushes.get())
    }

    /// Ready once all that was handed on at `since` has gone out.
    pub(super) fn poll_flushed(&self, since: u64, cx: &Context<'_>) -> Poll<()> {
        if self.flushes.get() > since {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    fn streams(&self) -> Vec<Rc<dyn Holds>> {
        let open = self.open.borrow();
        open.iter()
            .filter_map(|(_, stream)| stream.upgrade())
            .collect()
    }

    fn ask(&self, stream: &dyn Holds) -> usize {
        let held = stream.held();
        self.count(stream.mark(), held);
        held
    }

    fn count(&self, mark: &Mark, held: usize) {
        let before = mark.counted.replace(held);
        if before == held {
            return;
        }
        for sum in [&self.unread, &self.table.unread] {
            sum.set((sum.get() + held).saturating_sub(before));
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let sum = &self.table.unread;
        sum.set(sum.get().saturating_sub(self.unread.get()));
        let sum = &self.table.unsent;
        sum.set(sum.get().saturating_sub(self.unsent.get()));
        self.table.connections.borrow_mut().try_remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake {
        share: Rc<Share>,
        key: Cell<usize>,
        held: Cell<usize>,
        given_up: Cell<bool>,
        mark: Mark,
    }

    impl Fake {
        fn new(share: &Rc<Share>, held: usize) -> Rc<Self> {
            let fake = Rc::new(Self {
                share: share.clone(),
                key: Cell::new(0),
                held: Cell::new(held),
                given_up: Cell::new(false),
                mark: Mark::default(),
            });
            let weak: Weak<Self> = Rc::downgrade(&fake);
            fake.key.set(share.enter(weak));
            fake
        }
    }

    impl Holds for Fake {
        fn held(&self) -> usize {
            self.held.get()
        }

        fn give_up(&self) {
            self.given_up.set(true);
            self.held.set(0);
            self.share.dropped(&self.mark);
        }

        fn mark(&self) -> &Mark {
            &self.mark
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            self.share.leave(self.key.get(), &self.mark);
        }
    }

    #[test]
    fn the_sums_follow_what_comes_is_taken_and_goes() {
        let streams = Streams::new(usize::MAX);
        let (one, two) = (streams.open(), streams.open());
        let (a, b) = (Fake::new(&one, 100), Fake::new(&two, 10));
        assert_eq!(streams.held(), Held::default());
        one.came(ASK_EVERY);
        assert_eq!((one.held().unread, streams.held().unread), (100, 100));
        streams.look();
        assert_eq!((two.held().unread, streams.held().unread), (10, 110));
        one.taken(&a.mark, 40);
        assert_eq!((one.held().unread, streams.held().unread), (60, 70));
        one.taken(&a.mark, 1000);
        assert_eq!((one.held().unread, streams.held().unread), (0, 10));
        drop(b);
        assert_eq!(streams.held().unread, 0);
        one.handed(500);
        two.handed(5);
        assert_eq!((one.held().unsent, streams.held().unsent), (500, 505));
        one.sent(200, 100);
        assert_eq!((one.held().unsent, streams.held().unsent), (300, 305));
        one.sent(290, 100);
        assert_eq!(one.held().unsent, 100);
        one.sent(100, 0);
        assert_eq!((one.held().unsent, streams.held().unsent), (0, 5));
        drop((a, one, two));
        assert_eq!(streams.held(), Held::default());
    }

    #[test]
    fn a_stream_that_nobody_takes_from_goes_after_a_minute_and_one_that_moves_stays() {
        let streams = Streams::new(usize::MAX);
        let share = streams.open();
        let (stalled, moving) = (Fake::new(&share, 100), Fake::new(&share, 100));
        for _ in 0..60 {
            streams.look();
            share.taken(&moving.mark, 1);
        }
        assert!(!stalled.given_up.get());
        streams.look();
        assert!(stalled.given_up.get() && !moving.given_up.get());
        assert_eq!(share.held().unread, 100);
    }

    #[test]
    fn beyond_the_budget_the_longest_stalled_goes_first_and_the_others_stay() {
        let streams = Streams::new(250);
        let share = streams.open();
        let old = Fake::new(&share, 100);
        streams.look();
        let young = Fake::new(&share, 200);
        streams.look();
        assert!(!old.given_up.get() && !young.given_up.get());
        streams.look();
        assert!(old.given_up.get() && !young.given_up.get());
        for _ in 0..10 {
            streams.look();
        }
        assert!(!young.given_up.get());
    }
}
