//! One attempt at a time, shared by all who wait for what it makes: a burst of requests opens one
//! connection.
//!
//! In: the work, which leaves what it made where those who wait look for it. Out: for each of them,
//! once it is over, whether it failed and why. Invariant: an attempt that is over is no longer the
//! current one, and all who waited have been told, however it ended, a panic or being dropped
//! included; so nobody waits for ever, and the next one tries again.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;

use gapura_transport::tasks::Tasks;
use tokio::sync::Notify;

/// The attempts at one thing.
pub(super) struct Attempts<E> {
    current: RefCell<Option<Rc<Attempt<E>>>>,
}

/// One of them.
pub(super) struct Attempt<E> {
    done: Cell<bool>,
    failed: RefCell<Option<E>>,
    ended: Notify,
}

/// Ends an attempt, whatever happens.
struct Ending<E> {
    attempts: Rc<Attempts<E>>,
    attempt: Rc<Attempt<E>>,
    failed: Option<E>,
}

impl<E> Default for Attempts<E> {
    fn default() -> Self {
        Self {
            current: RefCell::default(),
        }
    }
}

impl<E: Clone + 'static> Attempts<E> {
    /// The attempt that is under way, or a new one that does `work`, and fails with `broken` if
    /// that never comes to an end.
    pub(super) fn join<F: Future<Output = Result<(), E>> + 'static>(
        self: &Rc<Self>,
        tasks: &Tasks,
        broken: E,
        work: impl FnOnce() -> F,
    ) -> Rc<Attempt<E>> {
        let mut current = self.current.borrow_mut();
        if let Some(attempt) = &*current {
            return attempt.clone();
        }
        let attempt = Rc::new(Attempt {
            done: Cell::new(false),
            failed: RefCell::default(),
            ended: Notify::new(),
        });
        *current = Some(attempt.clone());
        drop(current); // a task that never begins ends at once, and so does its attempt
        let mut ending = Ending {
            attempts: self.clone(),
            attempt: attempt.clone(),
            failed: Some(broken),
        };
        let work = work();
        tasks.spawn("an attempt to connect", async move {
            ending.is_over(work.await);
        });
        attempt
    }
}

impl<E: Clone> Attempt<E> {
    /// Waits for its end.
    pub(super) async fn over(&self) -> Result<(), E> {
        let ended = self.ended.notified();
        if !self.done.get() {
            ended.await;
        }
        self.failed.borrow().clone().map_or(Ok(()), Err)
    }
}

impl<E> Ending<E> {
    fn is_over(&mut self, result: Result<(), E>) {
        self.failed = result.err();
    }
}

impl<E> Drop for Ending<E> {
    fn drop(&mut self) {
        *self.attempt.failed.borrow_mut() = self.failed.take();
        drop(self.attempts.current.borrow_mut().take());
        self.attempt.done.set(true);
        self.attempt.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::LocalSet;

    async fn try_it(
        attempts: &Rc<Attempts<&'static str>>,
        tasks: &Tasks,
        work: impl Future<Output = Result<(), &'static str>> + 'static,
    ) -> Result<(), &'static str> {
        attempts.join(tasks, "broke off", || work).over().await
    }

    #[tokio::test]
    async fn a_panic_fails_all_who_wait_and_the_next_one_tries_again() {
        let test = async {
            let (attempts, tasks) = (Rc::new(Attempts::default()), Tasks::default());
            let panics = || async {
                tokio::task::yield_now().await;
                panic!("on purpose")
            };
            let never = || async { unreachable!("the attempt under way is joined") };
            let (first, second) = tokio::join!(
                try_it(&attempts, &tasks, panics()),
                try_it(&attempts, &tasks, never())
            );
            assert_eq!((first, second), (Err("broke off"), Err("broke off")));
            assert_eq!(try_it(&attempts, &tasks, async { Ok(()) }).await, Ok(()));
            let refused = async { Err("refused") };
            assert_eq!(try_it(&attempts, &tasks, refused).await, Err("refused"));
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn one_that_is_dropped_in_the_middle_tells_who_waits() {
        let test = async {
            let (attempts, tasks) = (Rc::new(Attempts::default()), Tasks::default());
            let attempt = attempts.join(&tasks, "broke off", std::future::pending);
            tokio::task::yield_now().await;
            drop(tasks);
            assert_eq!(attempt.over().await, Err("broke off"));
        };
        LocalSet::new().run_until(test).await;
    }
}
