//! The tasks of one worker that outlive the call that began them: the rest of an upload, an attempt
//! to connect, a connection's driver.
//!
//! In: a task and what it is called. Out: each runs to its end, and one that panics is told by its
//! name; none is left without an owner that hears of it. All end with the worker's runtime.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use tokio::task::JoinSet;

use crate::catch_panic::catch_panic;

/// The tasks of one worker. Clones are the same.
#[derive(Clone, Default)]
pub struct Tasks(Rc<Inner>);

#[derive(Default)]
struct Inner {
    set: RefCell<JoinSet<Option<&'static str>>>,
    /// The owner, where it waits for a first task.
    owner: Cell<Option<Waker>>,
}

impl Tasks {
    /// Begins a task; `what` it is called where it panics.
    pub fn spawn(&self, what: &'static str, task: impl Future<Output = ()> + 'static) {
        self.0.set.borrow_mut().spawn_local(async move {
            let ended = catch_panic(pin!(task)).await;
            ended.is_none().then_some(what)
        });
        if let Some(owner) = self.0.owner.take() {
            owner.wake();
        }
    }

    /// How many have not ended, or ended and were not yet heard of.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.set.borrow().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hears how each ends, for ever; calls `panicked` with the name of one that did.
    pub async fn run(self, panicked: impl Fn(&'static str)) {
        loop {
            let ended = poll_fn(|cx| match self.0.set.borrow_mut().poll_join_next(cx) {
                Poll::Ready(Some(ended)) => Poll::Ready(ended),
                Poll::Ready(None) | Poll::Pending => {
                    self.0.owner.set(Some(cx.waker().clone()));
                    Poll::Pending
                }
            })
            .await;
            // A panic was caught in the task; what is left is one that was ended, with the worker.
            if let Ok(Some(what)) = ended {
                panicked(what);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::LocalSet;

    #[tokio::test]
    async fn each_end_is_heard_and_a_panic_is_told_by_its_name() {
        let heard = Rc::new(RefCell::new(Vec::new()));
        let test = async {
            let tasks = Tasks::default();
            let told = heard.clone();
            let owner = tokio::task::spawn_local(
                tasks.clone().run(move |what| told.borrow_mut().push(what)),
            );
            tokio::task::yield_now().await; // the owner waits before there is a task
            tasks.spawn("good", async {});
            tasks.spawn("bad", async { panic!("on purpose") });
            while !tasks.is_empty() {
                tokio::task::yield_now().await;
            }
            owner.abort();
        };
        LocalSet::new().run_until(test).await;
        assert_eq!(*heard.borrow(), ["bad"]);
    }
}
