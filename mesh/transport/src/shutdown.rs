//! How a program ends: it says so, stops accepting, finishes what is in flight, and only then goes.
//!
//! In: one call of [`Stop::signal`], perhaps a second that ends at once. Out: a [`Phase`] that
//! every owner of a loop or a connection follows. A connection looks at the flag for each request,
//! which is one load; who waits is woken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::watch;

/// How far the end has come. Only ever rises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not at all.
    Run,
    /// Not ready any more; connections are told to go elsewhere, new ones are still served.
    Draining,
    /// Nothing new is accepted, idle connections close, requests in flight go on.
    Closing,
    /// Whatever is left is cut.
    Cut,
}

/// Raises the phase. Clones are the same.
#[derive(Clone, Debug)]
pub struct Stop {
    sender: Arc<watch::Sender<Phase>>,
    flag: Arc<AtomicU8>,
}

/// Follows the phase.
#[derive(Clone, Debug)]
pub struct Stopping {
    receiver: watch::Receiver<Phase>,
    flag: Arc<AtomicU8>,
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

impl Stop {
    /// A program that runs.
    #[must_use]
    pub fn new() -> Self {
        Self {
            sender: Arc::new(watch::channel(Phase::Run).0),
            flag: Arc::default(),
        }
    }

    /// Raises the phase; never lowers it.
    pub fn raise(&self, phase: Phase) {
        self.sender.send_if_modified(|now| {
            let rises = phase > *now;
            if rises {
                *now = phase;
                self.flag.store(phase as u8, Ordering::Relaxed);
            }
            rises
        });
    }

    /// What the next signal means: drain first, then end at once.
    pub fn signal(&self) {
        let next = if *self.sender.borrow() == Phase::Run {
            Phase::Draining
        } else {
            Phase::Cut
        };
        self.raise(next);
    }

    /// A follower.
    #[must_use]
    pub fn follow(&self) -> Stopping {
        Stopping {
            receiver: self.sender.subscribe(),
            flag: self.flag.clone(),
        }
    }
}

impl Stopping {
    /// The phase now, at the cost of one load.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.flag.load(Ordering::Relaxed) {
            0 => Phase::Run,
            1 => Phase::Draining,
            2 => Phase::Closing,
            _ => Phase::Cut,
        }
    }

    /// Waits until the phase has reached `phase`; a program whose `Stop` is gone is cut.
    pub async fn reached(&mut self, phase: Phase) {
        let _ = self.receiver.wait_for(|now| *now >= phase).await;
    }

    /// Waits for the next rise and tells what it rose to.
    pub async fn rises(&mut self) -> Phase {
        match self.receiver.changed().await {
            Ok(()) => *self.receiver.borrow_and_update(),
            Err(_) => Phase::Cut,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_signal_drains_and_the_second_cuts() {
        let stop = Stop::new();
        let mut stopping = stop.follow();
        assert_eq!(stopping.phase(), Phase::Run);
        stop.signal();
        stopping.reached(Phase::Draining).await;
        assert_eq!(stopping.phase(), Phase::Draining);
        stop.signal();
        stop.raise(Phase::Closing);
        stopping.reached(Phase::Closing).await;
        assert_eq!(stopping.phase(), Phase::Cut);
    }
}
