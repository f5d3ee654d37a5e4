//! What the HTTP/2 streams of a worker hold in memory, and the end of those that nobody takes from.
//!
//! A connection's window may be without practical limit, so that a stalled stream never holds up
//! its neighbours; what such a stream can hold is its own window. In: what each connection's
//! streams hold unread and for whom, and what was handed to `h2` to send. Out: a sum for each
//! connection, each [`Owner`] and the worker, plain counters that others read, and resets: of a
//! stream from which nobody takes anything for a minute, and, as soon as the worker's sum is past
//! its budget, of those that `relief` names (CONTRACT section 5, "The hop"). Answers that clients
//! do not take are in the sum, over either HTTP: while it is past the budget who writes takes a
//! piece at a time, and of the heaviest clients the connections end that have stalled for seconds.
//! Invariants: the worker's sum is that of its connections, and a connection's is that of its
//! streams. What is taken or dropped is gone from the sums at once; what comes is in them once 32
//! KiB of it have come over the connection, or at the next look; so the sum is past the budget by a
//! piece a connection at most, and by what those hold that are within their shares.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;

use super::PULSE;
use super::owner::{Client, Owner, Sums};
use super::relief::{Holding, heaviest};
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
    owner: Rc<Owner>,
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
    sums: Rc<Sums>,
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
#[derive(Default)]
pub(super) struct Mark {
    /// For whom it holds them; for whoever owns the connection, if none.
    owner: Option<Rc<Owner>>,
    /// Its part in the sums.
    counted: Cell<usize>,
    /// Looks at which it held bytes, since the last were taken.
    stalled: Cell<u32>,
}

/// How long a stream may hold bytes that nobody takes.
const STALL_LIMIT: Duration = Duration::from_secs(60);

/// Streams are asked what they hold once so much has come: a fraction of the cost of reading it.
const ASK_EVERY: u64 = 32 * 1024;

/// Looks after which a client that takes nothing has stalled, where there is no room for what it
/// does not take.
const UNTAKEN_LOOKS: u32 = 3;

/// What may be handed on of one connection while too much is held in all: a piece, so that who
/// takes it goes on.
const UNSENT_CROWDED: usize = 32 * 1024;

/// What may be handed to `h2` of one connection and not be taken by its peer's system.
const UNSENT_MOST: usize = 256 * 1024;

impl Streams {
    /// A table whose stalled streams may hold `budget` bytes.
    #[must_use]
    pub fn new(budget: usize) -> Self {
        Self {
            inner: Rc::new(Inner {
                sums: Sums::new(budget),
                connections: RefCell::default(),
            }),
        }
    }

    /// Somebody for whom streams will hold bytes.
    #[must_use]
    pub fn owner(&self, address: Option<IpAddr>) -> Rc<Owner> {
        self.inner.sums.owner(address)
    }

    /// The part of a new connection, whose streams hold bytes for nobody else.
    #[must_use]
    pub fn open(&self) -> Rc<Share> {
        self.open_for(&self.owner(None))
    }

    /// The part of a new connection of `owner`.
    #[must_use]
    pub fn open_for(&self, owner: &Rc<Owner>) -> Rc<Share> {
        Rc::new_cyclic(|this| Share {
            table: self.inner.clone(),
            owner: owner.clone(),
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
            unread: self.inner.sums.unread.get(),
            unsent: self.inner.sums.unsent.get(),
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

    /// Asks all streams what they hold, and ends those that have stalled. To be called once a
    /// second.
    pub fn look(&self) {
        let limit = super::pulses(STALL_LIMIT);
        let mut stalled: Vec<Rc<dyn Holds>> = Vec::new();
        for share in self.inner.shares() {
            for stream in share.streams() {
                let held = share.ask(&*stream);
                let mark = stream.mark();
                if held == 0 {
                    mark.stalled.set(0);
                    continue;
                }
                mark.stalled.set(mark.stalled.get().saturating_add(1));
                if mark.stalled.get() > limit {
                    stalled.push(stream);
                }
            }
            share.came.set(0);
        }
        stalled.iter().for_each(|stream| stream.give_up());
        self.inner.relieve();
        self.inner.look_at_untaken();
    }
}

impl Inner {
    fn shares(&self) -> Vec<Rc<Share>> {
        let connections = self.connections.borrow();
        connections
            .iter()
            .filter_map(|(_, share)| share.upgrade())
            .collect()
    }

    /// Gives streams up until what they hold is within the budget, or whoever holds anything is
    /// within its share.
    fn relieve(&self) {
        let (sum, budget) = (&self.sums.unread, self.sums.budget);
        if sum.get() <= budget {
            return;
        }
        let mut holding: Vec<Holding<Client, Rc<dyn Holds>>> = Vec::new();
        for share in self.shares() {
            for stream in share.streams() {
                let held = share.ask(&*stream);
                if held == 0 {
                    continue;
                }
                let owner = stream.mark().owner.as_ref().unwrap_or(&share.owner);
                holding.push(Holding {
                    client: owner.client(),
                    of_owner: owner.held.get(),
                    looks: stream.mark().stalled.get(),
                    held,
                    what: stream.clone(),
                });
            }
        }
        let over = sum.get().saturating_sub(budget);
        for stream in heaviest(holding, over, self.sums.fair()) {
            stream.give_up();
        }
    }

    /// Ends connections whose clients have stopped taking what is written for them, while it is too
    /// much with all else.
    fn look_at_untaken(&self) {
        let mut holding = Vec::new();
        for owner in self.sums.owners() {
            let looks = owner.look();
            if looks >= UNTAKEN_LOOKS && owner.may_end() {
                let held = owner.unsent_now();
                holding.push(Holding {
                    client: owner.client(),
                    of_owner: held + owner.held.get(),
                    looks,
                    held,
                    what: owner,
                });
            }
        }
        for owner in heaviest(holding, self.sums.over(), self.sums.fair()) {
            owner.end();
        }
    }
}

impl Mark {
    /// Of a stream that holds bytes for `owner`.
    pub(super) fn of(owner: &Rc<Owner>) -> Self {
        Self {
            owner: Some(owner.clone()),
            ..Self::default()
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

    /// Whether a new stream is refused: its owner holds more than its share.
    pub(super) fn is_greedy(&self) -> bool {
        self.owner.is_greedy()
    }

    /// Ready once more may be handed on to be sent; wakes `cx` when all of what was has gone out.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let most = match self.owner.is_crowded() {
            true => UNSENT_CROWDED,
            false => UNSENT_MOST,
        };
        if self.unsent.get() < most {
            return Poll::Ready(());
        }
        self.wait(cx);
        Poll::Pending
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
            self.table.relieve();
        }
    }

    /// Something was handed on to be sent: a head, or so many bytes of a body.
    pub(super) fn handed(&self, bytes: usize) {
        self.dirty.set(true);
        self.unsent.set(self.unsent.get() + bytes);
        self.owner.unsent(self.unsent.get());
    }

    /// Of what was handed on, `written` bytes have gone out, and `waiting` are known to wait; none
    /// if all has gone out.
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
        if now != before {
            self.unsent.set(now);
            self.owner.unsent(now);
        }
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
        self.wait(cx);
        Poll::Pending
    }

    /// Wakes `cx` once all that was handed on has gone out.
    fn wait(&self, cx: &Context<'_>) {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
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
        let owner = mark.owner.as_ref().unwrap_or(&self.owner);
        for sum in [&self.unread, &self.table.sums.unread, &owner.held] {
            sum.set((sum.get() + held).saturating_sub(before));
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let sum = &self.table.sums.unread;
        sum.set(sum.get().saturating_sub(self.unread.get()));
        self.owner.unsent(0);
        self.table.connections.borrow_mut().try_remove(self.key);
    }
}

#[cfg(test)]
mod tests;
