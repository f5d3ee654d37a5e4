//! For whom a worker holds bytes, and what all of it comes to.
//!
//! In: what is counted for a client's connection, wherever those bytes lie: in streams that nobody
//! has read, and in answers that are written and that the client has not taken. Out: the sums,
//! whether a connection is greedy, and the end of one that was told to go.
//! Invariant: what a connection holds unsent is in the worker's sum for as long as it holds it.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use slab::Slab;

/// What a worker holds in all.
pub(super) struct Sums {
    /// No more is to be held than this.
    pub(super) budget: usize,
    pub(super) unread: Cell<usize>,
    pub(super) unsent: Cell<usize>,
    owners: RefCell<Slab<Weak<Owner>>>,
}

/// For whom streams hold bytes: a client's connection, wherever those bytes are.
pub struct Owner {
    sums: Rc<Sums>,
    key: usize,
    /// Connections of one address are one client's; those without one are each their own.
    address: Option<IpAddr>,
    /// Unread, in streams.
    pub(super) held: Cell<usize>,
    /// Written, and not taken.
    unsent: Cell<usize>,
    /// Looks since the client last took some of that.
    stalled: Cell<u32>,
    over: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

/// Whose share is measured.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Client {
    Address(IpAddr),
    Owner(*const Owner),
}

/// What anybody may hold, however many there are: a slow reader of a page is no attack.
const SHARE_LEAST: usize = 64 * 1024;

impl Sums {
    pub(super) fn new(budget: usize) -> Rc<Self> {
        Rc::new(Self {
            budget,
            unread: Cell::new(0),
            unsent: Cell::new(0),
            owners: RefCell::default(),
        })
    }

    /// Somebody for whom bytes will be held.
    pub(super) fn owner(self: &Rc<Self>, address: Option<IpAddr>) -> Rc<Owner> {
        Rc::new_cyclic(|this: &Weak<Owner>| Owner {
            sums: self.clone(),
            key: self.owners.borrow_mut().insert(this.clone()),
            address,
            held: Cell::new(0),
            unsent: Cell::new(0),
            stalled: Cell::new(0),
            over: Cell::new(false),
            waiting: RefCell::default(),
        })
    }

    /// Whose connections there are.
    pub(super) fn owners(&self) -> Vec<Rc<Owner>> {
        let owners = self.owners.borrow();
        owners
            .iter()
            .filter_map(|(_, owner)| owner.upgrade())
            .collect()
    }

    /// What one of those may hold that there are.
    pub(super) fn fair(&self) -> usize {
        (self.budget / self.owners.borrow().len().max(1)).max(SHARE_LEAST)
    }

    /// How much more is held than may be.
    pub(super) fn over(&self) -> usize {
        (self.unread.get() + self.unsent.get()).saturating_sub(self.budget)
    }
}

impl Owner {
    pub(super) fn client(&self) -> Client {
        match self.address {
            Some(address) => Client::Address(address),
            None => Client::Owner(self),
        }
    }

    /// Whether it holds more than its share while there is little room for anybody.
    #[must_use]
    pub(crate) fn is_greedy(&self) -> bool {
        let sums = &self.sums;
        sums.unread.get() > sums.budget / 4 * 3 && self.held.get() > sums.fair()
    }

    /// Whether more is held for all together than may be: who writes for it takes a piece at a
    /// time.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.sums.over() > 0
    }

    /// So much is written for it now that it has not taken, in place of what was before.
    pub fn unsent(&self, bytes: usize) {
        let before = self.unsent.replace(bytes);
        let sum = &self.sums.unsent;
        sum.set((sum.get() + bytes).saturating_sub(before));
        if bytes < before || before == 0 {
            self.stalled.set(0);
        }
    }

    /// What is written for it and it has not taken.
    pub(super) fn unsent_now(&self) -> usize {
        self.unsent.get()
    }

    /// One more look at what it does not take; how many there were.
    pub(super) fn look(&self) -> u32 {
        let looks = match self.unsent.get() {
            0 => 0,
            _ => self.stalled.get().saturating_add(1),
        };
        self.stalled.set(looks);
        looks
    }

    /// Whether its connection may be ended for what it does not take: a client's, and never one of
    /// the hop, which is many clients'.
    pub(super) fn may_end(&self) -> bool {
        self.address.is_some()
    }

    /// Its connection is to end.
    pub(super) fn end(&self) {
        self.over.set(true);
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }

    /// Ready once its connection is to end, for holding what others need.
    pub fn poll_ended(&self, cx: &Context<'_>) -> Poll<()> {
        if self.over.get() {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        match &mut *waiting {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            waiting => *waiting = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.unsent(0);
        self.sums.owners.borrow_mut().try_remove(self.key);
    }
}
