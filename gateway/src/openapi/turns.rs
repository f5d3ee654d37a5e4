//! Whose turn it is to have work done on another thread.
//!
//! In: work for the processor. Out: what it came to, or that too many wait for theirs. It is done
//! by a few threads at a time, whoever asked and has gone since: a place among them belongs to the
//! work and not to who asked for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Semaphore;

/// Those who may have something done.
pub(super) struct Turns {
    threads: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// Threads at a time: the processor is there for requests.
const THREADS: usize = 2;

/// More do not wait for one of them, nor longer.
const WAITING_MOST: usize = 256;
const WAIT_MOST: Duration = Duration::from_secs(10);

impl Turns {
    pub(super) fn new() -> Self {
        Self {
            threads: Arc::new(Semaphore::new(THREADS)),
            waiting: AtomicUsize::new(0),
        }
    }

    /// What `work` comes to; `None` if too many ask at a time.
    pub(super) async fn done<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let waiting = Waiting::one(&self.waiting)?;
        let turn = self.threads.clone().acquire_owned();
        let turn = tokio::time::timeout(WAIT_MOST, turn).await.ok()?.ok()?;
        drop(waiting);
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        done.await.ok()
    }
}

/// One who waits, until this is dropped.
struct Waiting<'w>(&'w AtomicUsize);

impl<'w> Waiting<'w> {
    fn one(waiting: &'w AtomicUsize) -> Option<Self> {
        let before = waiting.fetch_add(1, Relaxed);
        let one = Self(waiting);
        (before < WAITING_MOST).then_some(one)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Future, poll_fn};
    use std::pin::pin;
    use std::sync::{Condvar, Mutex};
    use std::task::Poll;

    use super::*;

    /// Work that is done once the gate is open; how many are at it, and how many ever were at a
    /// time.
    #[derive(Default)]
    struct Gate {
        open: Mutex<bool>,
        opened: Condvar,
        at_work: AtomicUsize,
        most: AtomicUsize,
    }

    impl Gate {
        fn work(gate: &Arc<Self>) -> impl FnOnce() -> &'static str + Send + 'static {
            let gate = gate.clone();
            move || {
                let now = gate.at_work.fetch_add(1, Relaxed) + 1;
                gate.most.fetch_max(now, Relaxed);
                let shut = gate.open.lock().unwrap();
                drop(gate.opened.wait_while(shut, |open| !*open).unwrap());
                gate.at_work.fetch_sub(1, Relaxed);
                "done"
            }
        }

        fn open(&self) {
            *self.open.lock().unwrap() = true;
            self.opened.notify_all();
        }
    }

    /// Asks, and goes.
    async fn asked<T>(asking: impl Future<Output = T>) {
        let mut asking = pin!(asking);
        poll_fn(|context| {
            assert!(asking.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn who_asks_and_goes_leaves_work_that_is_bounded() {
        let (turns, gate) = (Turns::new(), Arc::<Gate>::default());
        for _ in 0..50 {
            asked(turns.done(Gate::work(&gate))).await;
        }
        while gate.at_work.load(Relaxed) < THREADS {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            turns.threads.available_permits(),
            0,
            "the work has the places"
        );
        assert_eq!(turns.waiting.load(Relaxed), 0, "who went does not wait");
        gate.open();
        assert_eq!(turns.done(Gate::work(&gate)).await, Some("done"));
        assert_eq!(gate.most.load(Relaxed), THREADS);
    }

    #[tokio::test]
    async fn whoever_comes_on_top_is_told_so_at_once_and_who_waits_has_their_turn() {
        let (turns, gate) = (Arc::new(Turns::new()), Arc::<Gate>::default());
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..THREADS + WAITING_MOST {
            let (turns, work) = (turns.clone(), Gate::work(&gate));
            all.spawn(async move { turns.done(work).await });
        }
        while turns.waiting.load(Relaxed) < WAITING_MOST || gate.at_work.load(Relaxed) < THREADS {
            tokio::task::yield_now().await;
        }
        assert_eq!(turns.done(|| "done").await, None);
        gate.open();
        while let Some(done) = all.join_next().await {
            assert_eq!(done.unwrap(), Some("done"));
        }
        assert_eq!(turns.waiting.load(Relaxed), 0);
    }
}
