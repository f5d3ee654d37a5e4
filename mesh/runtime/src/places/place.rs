//! What one connection is doing: whether it carries something, since when it idles, and whether it
//! was told to end.
//!
//! In: from its own worker that a request begins or nothing is under way any more; from any thread
//! that it should end. Out: who of the two came first. One atomic number, no lock: this is asked
//! for every request.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::task::AbortHandle;

/// What a connection is doing.
pub struct Place {
    /// Milliseconds since the program began, at which it began to idle.
    pub(super) state: AtomicU64,
    began: Instant,
    task: OnceLock<AbortHandle>,
}

/// The states of a place that are no time.
const BUSY: u64 = 0;
const ENDED: u64 = u64::MAX;

impl Place {
    /// It idles from now on.
    pub(super) fn new(began: Instant) -> Self {
        Self {
            state: AtomicU64::new(now(began)),
            began,
            task: OnceLock::new(),
        }
    }

    /// A request begins on it. False if it was told to end: what begins now is not served.
    #[must_use]
    pub fn begin(&self) -> bool {
        match self.state.load(Ordering::Relaxed) {
            BUSY => true,
            ENDED => false,
            since => {
                let changed =
                    self.state
                        .compare_exchange(since, BUSY, Ordering::Relaxed, Ordering::Relaxed);
                changed.is_ok()
            }
        }
    }

    /// Nothing is under way on it any more.
    pub fn rest(&self) {
        if self.state.load(Ordering::Relaxed) == BUSY {
            self.state.store(now(self.began), Ordering::Relaxed);
        }
    }

    /// The task by which it can be ended.
    pub(crate) fn runs(&self, task: AbortHandle) {
        if self.state.load(Ordering::SeqCst) == ENDED {
            task.abort();
        }
        let _ = self.task.set(task);
        if self.state.load(Ordering::SeqCst) == ENDED
            && let Some(task) = self.task.get()
        {
            task.abort();
        }
    }

    pub(super) fn idles_since(&self) -> Option<u64> {
        let state = self.state.load(Ordering::Relaxed);
        (state != BUSY && state != ENDED).then_some(state)
    }

    /// Ends it if it idles.
    pub(super) fn end(&self) -> bool {
        let Some(since) = self.idles_since() else {
            return false;
        };
        let changed = self
            .state
            .compare_exchange(since, ENDED, Ordering::SeqCst, Ordering::SeqCst);
        if changed.is_err() {
            return false;
        }
        if let Some(task) = self.task.get() {
            task.abort();
        }
        true
    }
}

/// Never one of the states that are no time.
pub(super) fn now(began: Instant) -> u64 {
    let since = began.elapsed().as_millis();
    u64::try_from(since)
        .unwrap_or(ENDED - 1)
        .clamp(1, ENDED - 1)
}
