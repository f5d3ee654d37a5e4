//! What the HTTP/2 streams of a worker hold in memory, and the end of those that nobody takes from.
//!
//! A connection's window may be without practical limit, so that a stalled stream never holds up its neighbours; what such a
//! stream can hold is its own window. In: what each connection's streams hold unread and for whom, and what was handed to `h2` to
//! send. Out: a sum for each connection, each [`Owner`] and the worker, plain counters that others read, and resets: of a stream
//! from which nobody takes anything for a minute, and, as soon as the worker's sum is past its budget, of the longest stalled of the
//! connection that holds most, of the address that holds most (CONTRACT section 5, "The hop"). Whoever is within its share is never
//! reset for another's sake.
//! Invariants: the worker's sum is that of its connections, and a connection's is that of its streams. What is taken or dropped is
//! gone from the sums at once; what comes is in them once 32 KiB of it have come over the connection, or at the next look; so the
//! sum is past the budget by 32 KiB a connection at most, and by what those hold that are within their shares.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::IpAddr;
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

/// For whom streams hold bytes: a client's connection, wherever those bytes are.
pub struct Owner {
    table: Rc<Inner>,
    /// Connections of one address are one client's; those without one are each their own.
    address: Option<IpAddr>,
    held: Cell<usize>,
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
    budget: usize,
    unread: Cell<usize>,
    unsent: Cell<usize>,
    owners: Cell<usize>,
    connections: RefCell<Slab<Weak<Share>>>,
}

/// A stream that holds bytes, as a relief sees it.
struct Holding {
    client: Client,
    of_owner: usize,
    looks: u32,
    held: usize,
    stream: Rc<dyn Holds>,
}

/// Whose share is measured.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Client {
    Address(IpAddr),
    Owner(*const Owner),
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

/// What anybody may hold, however many there are: a slow reader of a page is no attack.
const SHARE_LEAST: usize = 64 * 1024;

/// What may be handed to `h2` of one connection and not be taken by its peer's system.
const UNSENT_MOST: usize = 256 * 1024;

impl Streams {
    /// A table whose stalled streams may hold `budget` bytes.
    #[must_use]
    pub fn new(budget: usize) -> Self {
        Self {
            inner: Rc::new(Inner {
                budget,
                unread: Cell::new(0),
                unsent: Cell::new(0),
                owners: Cell::new(0),
                connections: RefCell::default(),
            }),
        }
    }

    /// Somebody for whom streams will hold bytes.
    #[must_use]
    pub fn owner(&self, address: Option<IpAddr>) -> Rc<Owner> {
        let owners = &self.inner.owners;
        owners.set(owners.get() + 1);
        Rc::new(Owner {
            table: self.inner.clone(),
            address,
            held: Cell::new(0),
        })
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

    /// What one of so many clients may hold.
    fn fair(&self, clients: usize) -> usize {
        (self.budget / clients.max(1)).max(SHARE_LEAST)
    }

    /// Gives streams up until the sum is within the budget, or whoever holds anything is within its share.
    fn relieve(&self) {
        if self.unread.get() <= self.budget {
            return;
        }
        let mut holding: Vec<Holding> = Vec::new();
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
                    stream: stream.clone(),
                });
            }
        }
        let mut sums: HashMap<Client, usize> = HashMap::new();
        for one in &holding {
            *sums.entry(one.client).or_default() += one.held;
        }
        let fair = self.fair(self.owners.get());
        // The heaviest client first; of its connections the heaviest, and of that the longest stalled.
        holding.sort_by_key(|one| {
            let sum = sums.get(&one.client).copied().unwrap_or_default();
            Reverse((sum, one.of_owner, one.looks, one.held))
        });
        for one in holding {
            if self.unread.get() <= self.budget {
                return;
            }
            if let Some(sum) = sums.get_mut(&one.client).filter(|sum| **sum > fair) {
                *sum -= one.held;
                one.stream.give_up();
            }
        }
    }
}

impl Owner {
    fn client(&self) -> Client {
        match self.address {
            Some(address) => Client::Address(address),
            None => Client::Owner(self),
        }
    }

    /// Whether it holds more than its share while there is little room for anybody.
    #[must_use]
    pub fn is_greedy(&self) -> bool {
        let table = &self.table;
        table.unread.get() > table.budget / 4 * 3
            && self.held.get() > table.fair(table.owners.get())
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let owners = &self.table.owners;
        owners.set(owners.get().saturating_sub(1));
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
        if self.unsent.get() < UNSENT_MOST {
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
        for sum in [&self.unread, &self.table.unread, &owner.held] {
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
            Self::marked(share, held, Mark::default())
        }

        fn marked(share: &Rc<Share>, held: usize, mark: Mark) -> Rc<Self> {
            let fake = Rc::new(Self {
                share: share.clone(),
                key: Cell::new(0),
                held: Cell::new(held),
                given_up: Cell::new(false),
                mark,
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

    const KIB: usize = 1024;

    #[test]
    fn beyond_the_budget_the_longest_stalled_goes_first_and_the_others_stay() {
        let streams = Streams::new(250 * KIB);
        let share = streams.open();
        let old = Fake::new(&share, 100 * KIB);
        streams.look();
        let young = Fake::new(&share, 150 * KIB);
        streams.look();
        assert!(
            !old.given_up.get() && !young.given_up.get(),
            "it is within the budget"
        );
        let next = Fake::new(&share, 50 * KIB);
        share.came(ASK_EVERY);
        assert!(old.given_up.get() && !young.given_up.get() && !next.given_up.get());
        for _ in 0..10 {
            streams.look();
        }
        assert!(!young.given_up.get() && !next.given_up.get());
    }

    #[test]
    fn who_holds_most_pays_by_address_and_who_is_within_its_share_never() {
        let streams = Streams::new(1000 * KIB);
        let hop = streams.open();
        let of = |text: &str| streams.owner(Some(text.parse().unwrap()));
        let (heavy, second, other, slow) = (
            of("10.0.0.1"),
            of("10.0.0.1"),
            of("10.0.0.2"),
            of("10.0.0.3"),
        );
        let for_owner =
            |owner: &Rc<Owner>, held: usize| Fake::marked(&hop, held * KIB, Mark::of(owner));
        let many: Vec<_> = (0..4).map(|_| for_owner(&heavy, 150)).collect();
        let lesser = for_owner(&second, 200);
        let (others, slows) = (for_owner(&other, 150), for_owner(&slow, 60));
        hop.came(ASK_EVERY);
        let given_up = many.iter().filter(|one| one.given_up.get()).count();
        assert_eq!(
            given_up, 1,
            "as much as there was too much, of the heavier connection"
        );
        assert!(!lesser.given_up.get() && !others.given_up.get() && !slows.given_up.get());
        assert_eq!(heavy.held.get(), 450 * KIB);
        assert!(heavy.is_greedy() && !slow.is_greedy() && !other.is_greedy());
        assert_eq!(streams.held().unread, 860 * KIB);
    }

    #[test]
    fn a_share_is_never_less_than_a_page() {
        let streams = Streams::new(100 * KIB);
        let hop = streams.open();
        let owners: Vec<_> = (0..10).map(|_| streams.owner(None)).collect();
        let fakes: Vec<_> = owners
            .iter()
            .map(|owner| Fake::marked(&hop, 60 * KIB, Mark::of(owner)))
            .collect();
        hop.came(ASK_EVERY);
        assert!(fakes.iter().all(|fake| !fake.given_up.get()));
        assert!(owners.iter().all(|owner| !owner.is_greedy()));
        let greedy = streams.owner(None);
        let much = Fake::marked(&hop, 65 * KIB, Mark::of(&greedy));
        hop.came(ASK_EVERY);
        assert!(much.given_up.get());
    }

    #[test]
    fn what_is_handed_on_waits_for_what_was() {
        let streams = Streams::new(usize::MAX);
        let share = streams.open();
        let cx = Context::from_waker(Waker::noop());
        share.handed(UNSENT_MOST - 1);
        assert!(share.poll_room(&cx).is_ready());
        share.handed(1);
        assert!(share.poll_room(&cx).is_pending());
        share.sent(0, 0);
        assert!(share.poll_room(&cx).is_ready());
    }
}
