//! Deadlines of a worker, in steps of 100 ms.
//!
//! In: how long to wait. Out: a [`Sleep`] that is ready between that long and one step later. A
//! request arms several of these, and almost none ever fires: so arming, moving and dropping one is
//! a few loads and stores in a table that one task walks ten times a second, where a timer wheel
//! would cost a reordering each. Belongs to one thread; nothing here locks.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;

use gapura_http::{Deadline, Timer};

/// The length of a step.
pub const STEP: Duration = Duration::from_millis(100);

/// No request waits longer than a day.
const ALL: Duration = Duration::from_secs(2 * 86_400);

/// Never fires.
const NEVER: u64 = u64::MAX;

/// The table of one worker's deadlines. Clones share it.
#[derive(Clone, Default)]
pub struct Timers {
    table: Rc<Table>,
}

#[derive(Default)]
struct Table {
    now: Cell<u64>,
    slots: RefCell<Slab<Slot>>,
}

struct Slot {
    deadline: u64,
    waker: Option<Waker>,
}

/// A deadline that can be moved. Ready once it has passed.
pub struct Sleep {
    table: Rc<Table>,
    key: usize,
}

impl Timers {
    /// An empty table; it stands still until [`Timers::run`] is polled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Steps since the table was made.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.table.now.get()
    }

    /// A deadline that lies `after` from now.
    #[must_use]
    pub fn sleep(&self, after: Duration) -> Sleep {
        self.insert(self.table.now.get().saturating_add(steps(after)))
    }

    /// A deadline that is not set yet.
    #[must_use]
    pub fn unset(&self) -> Sleep {
        self.insert(NEVER)
    }

    /// What `work` gives, if that comes within `limit`. It is pinned by the caller, since a future
    /// that is handed on by value lies in each of those it went through, and is copied from one to
    /// the next.
    pub async fn within<F: Future>(
        &self,
        limit: Duration,
        mut work: Pin<&mut F>,
    ) -> Option<F::Output> {
        let deadline = self.sleep(limit);
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => deadline.poll_passed(cx).map(|()| None),
        })
        .await
    }

    fn insert(&self, deadline: u64) -> Sleep {
        let key = self.table.slots.borrow_mut().insert(Slot {
            deadline,
            waker: None,
        });
        Sleep {
            table: self.table.clone(),
            key,
        }
    }

    /// Advances the table as time goes by, for ever. Steps that a busy or suspended machine missed
    /// are made up for.
    pub async fn run(self) {
        let mut interval = tokio::time::interval(STEP);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
        loop {
            interval.tick().await;
            self.step();
        }
    }

    /// Lets every deadline of the next two days pass now: whoever waits ends that wait in its own
    /// words. Deadlines that are set from now on last as long as ever.
    pub fn pass_all(&self) {
        let now = self.table.now.get();
        self.table.now.set(now.saturating_add(steps(ALL)));
        self.step();
    }

    /// One step on; wakes all whose deadline has come.
    pub fn step(&self) {
        let now = self.table.now.get() + 1;
        self.table.now.set(now);
        let mut due = Vec::new();
        for (_, slot) in self.table.slots.borrow_mut().iter_mut() {
            if slot.deadline <= now
                && let Some(waker) = slot.waker.take()
            {
                due.push(waker);
            }
        }
        // Outside the borrow: a waker may run code that arms a timer.
        due.into_iter().for_each(Waker::wake);
    }
}

impl Sleep {
    /// Moves the deadline to `after` from now.
    pub fn reset(&self, after: Duration) {
        self.set(self.table.now.get().saturating_add(steps(after)));
    }

    /// Takes the deadline away; the sleep never ends until it is reset.
    pub fn unset(&self) {
        self.set(NEVER);
    }

    /// Whether there is a deadline.
    #[must_use]
    pub(crate) fn is_set(&self) -> bool {
        self.table
            .slots
            .borrow()
            .get(self.key)
            .is_some_and(|slot| slot.deadline != NEVER)
    }

    /// Whether the deadline has passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.table
            .slots
            .borrow()
            .get(self.key)
            .is_some_and(|slot| slot.deadline <= self.table.now.get())
    }

    fn set(&self, deadline: u64) {
        if let Some(slot) = self.table.slots.borrow_mut().get_mut(self.key) {
            slot.deadline = deadline;
        }
    }

    /// As `Future::poll`, from a shared reference.
    pub fn poll_passed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut slots = self.table.slots.borrow_mut();
        let Some(slot) = slots.get_mut(self.key) else {
            return Poll::Ready(());
        };
        if slot.deadline <= self.table.now.get() {
            return Poll::Ready(());
        }
        if slot
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            return Poll::Pending;
        }
        let before = slot.waker.replace(cx.waker().clone());
        // Outside the borrow: the last of a task's wakers may drop the task, and with it other
        // deadlines.
        drop(slots);
        drop(before);
        Poll::Pending
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_passed(cx)
    }
}

impl Timer for Timers {
    type Deadline = Sleep;

    fn unset(&self) -> Sleep {
        Timers::unset(self)
    }
}

impl Deadline for Sleep {
    fn reset(&self, after: Duration) {
        Sleep::reset(self, after);
    }

    fn unset(&self) {
        Sleep::unset(self);
    }

    fn poll_passed(&self, cx: &mut Context<'_>) -> Poll<()> {
        Sleep::poll_passed(self, cx)
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let slot = self.table.slots.borrow_mut().try_remove(self.key);
        // Outside the borrow: the last of a task's wakers may drop the task, and with it other
        // deadlines.
        drop(slot);
    }
}

/// One more step than the time divides into: the current one has partly gone by already.
fn steps(after: Duration) -> u64 {
    u64::try_from(after.as_millis().div_ceil(STEP.as_millis()))
        .unwrap_or(NEVER)
        .saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn all_that_is_set_passes_at_once_and_what_comes_later_lasts() {
        let timers = Timers::new();
        let (day, never) = (timers.sleep(Duration::from_secs(86_400)), timers.unset());
        timers.step();
        timers.pass_all();
        assert!(day.passed() && !never.passed());
        let later = timers.sleep(Duration::from_millis(250));
        timers.step();
        assert!(!later.passed());
        (0..3).for_each(|_| timers.step());
        assert!(later.passed() && !never.passed());
    }

    #[test]
    fn a_sleep_ends_after_its_time_and_not_before() {
        let timers = Timers::new();
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let mut cx = Context::from_waker(&waker);
        let sleep = timers.sleep(Duration::from_millis(250));
        for _ in 0..3 {
            assert!(sleep.poll_passed(&mut cx).is_pending());
            timers.step();
        }
        assert!(sleep.poll_passed(&mut cx).is_pending());
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        timers.step();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(sleep.poll_passed(&mut cx).is_ready());
    }

    #[test]
    fn a_reset_moves_it_and_unset_stops_it() {
        let timers = Timers::new();
        let sleep = timers.sleep(STEP);
        timers.step();
        sleep.reset(STEP * 5);
        for _ in 0..5 {
            timers.step();
            assert!(!sleep.passed());
        }
        timers.step();
        assert!(sleep.passed());
        sleep.unset();
        assert!(!sleep.passed());
    }

    #[test]
    fn a_dropped_sleep_leaves_no_slot() {
        let timers = Timers::new();
        drop(timers.sleep(STEP));
        assert!(timers.table.slots.borrow().is_empty());
    }
}
