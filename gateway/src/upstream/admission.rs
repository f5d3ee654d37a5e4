//! How many requests may be under way to one plugin, and who waits for a place.
//!
//! In: a request, how many may be under way, and until when it may wait. Out: an [`InFlight`],
//! which is free again when it is dropped, or why there is none. While nobody waits a place costs
//! one change of one number, for whichever worker; the line behind a lock is touched by those alone
//! who find the plugin full, and by those who leave while somebody waits.
//!
//! Both counts, of who is under way and of who waits, are halves of one number, so that they change
//! together. Invariant: while somebody waits only the holder of the lock changes it, and a place
//! that comes free goes to who waits; so nobody who comes later goes first, and nobody waits beside
//! a free place. Nobody is told anything while the lock is held.

use std::future::Future;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gapura_protocol::context::TenantId;
use gapura_transport::fair_queue::{FairQueue, Joined};
use gapura_transport::turns::NoTurn;
use tokio::sync::oneshot;

/// The places of one plugin.
#[derive(Debug)]
pub(crate) struct Admission {
    /// Who is under way in the low half, who waits in the high one.
    counts: AtomicU64,
    line: Mutex<Line>,
}

#[derive(Debug)]
struct Line {
    queue: FairQueue<Party, Sender>,
    /// How many may be under way, by who asked last.
    most: u64,
}

/// Whose turn counts as one: a company, or an address where there is none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Party {
    /// A company.
    Company(TenantId),
    /// The network of a client who has proven nothing.
    Network(IpAddr),
}

/// Leave to be under way until this is dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Admission>);

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overloaded {
    /// As many wait as may, and of nobody more than of this company.
    Shed,
    /// It has waited as long as it may.
    Waited,
    /// The gateway itself has more to do than it can.
    Worker(NoTurn),
}

/// What becomes of who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Go,
    Leave,
}

/// Tells one who waits.
type Sender = oneshot::Sender<Turn>;

/// One who waits. Dropped, it leaves the line; a place that it was given by then is free again.
struct Waiter {
    admission: Arc<Admission>,
    party: Party,
    number: u64,
    turn: oneshot::Receiver<Turn>,
    /// It has heard what became of it.
    heard: bool,
}

/// A second of a plugin that answers a thousand a second; more would be too late for its callers by
/// then.
const WAITING_MOST: usize = 1024;

const ONE_WAITS: u64 = 1 << 32;

const IN_FLIGHT: u64 = ONE_WAITS - 1;

impl Default for Admission {
    fn default() -> Self {
        Self {
            counts: AtomicU64::new(0),
            line: Mutex::new(Line {
                queue: FairQueue::new(WAITING_MOST),
                most: 1,
            }),
        }
    }
}

impl Admission {
    /// A place among `most`; where none is free it waits in the line of its `party` until `over` is
    /// ready.
    ///
    /// # Errors
    /// [`Overloaded`]: why there is none.
    pub(crate) async fn enter<F: Future<Output = ()>>(
        self: &Arc<Self>,
        most: u32,
        party: impl FnOnce() -> Party,
        over: impl FnOnce() -> F,
    ) -> Result<InFlight, Overloaded> {
        if self.take_free(most.into()) {
            return Ok(InFlight(self.clone()));
        }
        // Boxed: it is rare, and the frame would be part of every request's.
        Box::pin(self.wait(most.into(), party(), over())).await
    }

    /// How many are under way.
    pub(crate) fn in_flight(&self) -> u64 {
        self.counts.load(Ordering::Relaxed) & IN_FLIGHT
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> u64 {
        self.counts.load(Ordering::Relaxed) / ONE_WAITS
    }

    /// Takes a free place, if nobody waits for it: whoever does makes the number larger than any
    /// `most`.
    fn take_free(&self, most: u64) -> bool {
        self.change(|counts| (counts < most).then_some(counts + 1))
    }

    async fn wait(
        self: &Arc<Self>,
        most: u64,
        party: Party,
        over: impl Future<Output = ()>,
    ) -> Result<InFlight, Overloaded> {
        let Some(mut waiter) = self.join(most, party)? else {
            return Ok(InFlight(self.clone()));
        };
        let turn = tokio::select! {
            biased;
            turn = &mut waiter.turn => turn,
            () = over => return Err(Overloaded::Waited),
        };
        waiter.heard = true;
        match turn {
            Ok(Turn::Go) => Ok(InFlight(self.clone())),
            Ok(Turn::Leave) | Err(_) => Err(Overloaded::Shed),
        }
    }

    /// Joins the line; `None` if there is a place after all.
    fn join(self: &Arc<Self>, most: u64, party: Party) -> Result<Option<Waiter>, Overloaded> {
        let (sender, turn) = oneshot::channel();
        let mut told = Vec::new();
        let joined = {
            let mut line = self.line();
            if line.most != most {
                // A reload has changed it: there may be room for some who wait.
                line.most = most;
                told = self.admit(&mut line);
            }
            self.line_up(&mut line, party.clone(), sender)
        };
        let number = match joined {
            None => Ok(None),
            Some(Joined::Waits(number)) => Ok(Some(number)),
            Some(Joined::InsteadOf(number, left)) => {
                told.push((left, Turn::Leave));
                Ok(Some(number))
            }
            Some(Joined::Turned(_)) => Err(Overloaded::Shed),
        };
        self.tell(told);
        Ok(number?.map(|number| Waiter {
            admission: self.clone(),
            party,
            number,
            turn,
            heard: false,
        }))
    }

    /// Counts one who waits and puts it in the line; `None` if it has a free place instead.
    fn line_up(&self, line: &mut Line, party: Party, sender: Sender) -> Option<Joined<Sender>> {
        // While nobody waits others change the counts without the lock.
        while line.queue.is_empty() {
            if self.take_free(line.most) {
                return None;
            }
            let one_waits = |counts: u64| (counts >= line.most).then(|| counts + ONE_WAITS);
            if self.change(one_waits) {
                return Some(line.queue.join(party, sender));
            }
        }
        let joined = line.queue.join(party, sender);
        if matches!(joined, Joined::Waits(_)) {
            self.counts.fetch_add(ONE_WAITS, Ordering::AcqRel);
        }
        Some(joined)
    }

    /// One who was under way is no longer.
    fn leave(&self) {
        let one_less = |counts: u64| (counts < ONE_WAITS).then(|| counts.saturating_sub(1));
        if !self.change(one_less) {
            // Somebody waits, or did a moment ago.
            let told = self.release();
            self.tell(told);
        }
    }

    fn release(&self) -> Vec<(Sender, Turn)> {
        let mut line = self.line();
        self.counts.fetch_sub(1, Ordering::AcqRel);
        self.admit(&mut line)
    }

    /// Lets in as many as there is room for; they are to be told once the lock is free.
    fn admit(&self, line: &mut Line) -> Vec<(Sender, Turn)> {
        let mut told = Vec::new();
        while self.in_flight() < line.most
            && let Some(next) = line.queue.go()
        {
            // One fewer waits and one more is under way, in one step.
            self.counts.fetch_sub(ONE_WAITS - 1, Ordering::AcqRel);
            told.push((next, Turn::Go));
        }
        told
    }

    /// Tells each what became of it; the place of one who has stopped listening goes to the next.
    fn tell(&self, mut told: Vec<(Sender, Turn)>) {
        while let Some((sender, turn)) = told.pop() {
            if sender.send(turn) == Err(Turn::Go) {
                told.extend(self.release());
            }
        }
    }

    fn change(&self, change: impl FnMut(u64) -> Option<u64>) -> bool {
        let changed = self
            .counts
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, change);
        changed.is_ok()
    }

    /// Nothing panics while it is held; if something did, the line is still whole.
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if self.heard {
            return;
        }
        let admission = &self.admission;
        let mut line = admission.line();
        let waited = line.queue.give_up(&self.party, self.number);
        if waited.is_some() {
            admission.counts.fetch_sub(ONE_WAITS, Ordering::AcqRel);
        }
        drop(line);
        if waited.is_none() {
            // Either it was told already, or whoever is about to finds that it does not listen.
            self.turn.close();
            if self.turn.try_recv() == Ok(Turn::Go) {
                admission.leave();
            }
        }
    }
}

impl InFlight {
    /// Whether somebody waits for a place at the same plugin.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.0.waiting() > 0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl From<NoTurn> for Overloaded {
    fn from(none: NoTurn) -> Self {
        Self::Worker(none)
    }
}

impl Overloaded {
    /// In words, for the access line.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Shed => {
                "as many requests wait for the plugin as may, most of them this company's"
            }
            Self::Worker(NoTurn::Shed) => {
                "as many requests wait for the gateway itself as may, most of them this company's"
            }
            Self::Worker(NoTurn::Waited) => {
                "the gateway itself had other requests to begin for as long as it could wait"
            }
            Self::Waited => "max_in_flight requests were under way for as long as it could wait",
        }
    }
}

#[cfg(test)]
mod tests;
