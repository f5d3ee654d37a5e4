//! Whose turn it is to have a worker's time, where more of it is wanted than there is.
//!
//! In: work that begins (a request), or whose single steps cost much (a handshake), and for whom it
//! is done. Out: leave to go on, at once while the worker keeps up, so many after a lull; else for
//! fewer between two looks at the sockets, one party after another, and for nobody who waits too
//! long or is one too many. A worker runs what is ready in the order in which it became so: without
//! this a thousand requests that come at once would each be in every other's way from then on, and
//! so would a thousand handshakes, and one client's would keep those of all others behind them.
//! Invariants: while nobody waits a turn costs the comparison of two numbers; whoever waits has its
//! turn after one of each other party.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::hash::Hash;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use tokio::task::yield_now;

use crate::fair_queue::{FairQueue, Joined};

/// How often a worker had nothing left to do. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Lulls(Arc<AtomicU64>);

/// The turns of one worker at one kind of work. Clones are the same.
pub struct Turns<K>(Rc<Inner<K>>);

/// Why somebody has no turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoTurn {
    /// As many wait as may, and of nobody more than of this party.
    Shed,
    /// It has waited as long as it may.
    Waited,
}

/// How many turns are taken before somebody has to wait for one.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Since the worker had nothing left to do: it keeps up with these, and may have them at once.
    pub after_a_lull: u32,
    /// Between two looks at the sockets, where more want to.
    pub a_round: u32,
    /// Who may wait.
    pub waiting: usize,
}

struct Inner<K> {
    lulls: Lulls,
    bounds: Bounds,
    /// The lull, and how many turns are left since, or in this round.
    left: Cell<(u64, u32)>,
    queue: RefCell<FairQueue<K, Rc<Ticket>>>,
    /// Who begins the rounds, where it waits for somebody to wait.
    rounds: Cell<Option<Waker>>,
}

/// One who waits.
struct Ticket {
    turn: Cell<Turn>,
    waker: RefCell<Waker>,
}

/// What becomes of who waits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Waits,
    Goes,
    Leaves,
}

/// A place in the line. Dropped, it is left.
struct Waiting<'a, K: Clone + Eq + Hash> {
    turns: &'a Inner<K>,
    party: K,
    number: u64,
    ticket: Rc<Ticket>,
}

impl Lulls {
    /// There is nothing left to do.
    pub fn note(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl<K> Clone for Turns<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Clone + Eq + Hash> Turns<K> {
    /// The turns of a worker whose lulls these are.
    #[must_use]
    pub fn new(bounds: Bounds, lulls: Lulls) -> Self {
        Self(Rc::new(Inner {
            lulls,
            bounds,
            left: Cell::new((0, bounds.after_a_lull)),
            queue: RefCell::new(FairQueue::new(bounds.waiting)),
            rounds: Cell::default(),
        }))
    }

    /// Waits for a turn of `party`, until `over` is ready.
    ///
    /// # Errors
    /// [`NoTurn`]: why there is none.
    pub async fn turn<F: Future<Output = ()>>(
        &self,
        party: impl FnOnce() -> K,
        over: impl FnOnce() -> F,
    ) -> Result<(), NoTurn> {
        if self.0.take() {
            return Ok(());
        }
        // Boxed: while the worker keeps up nobody waits, and the frame would be part of every
        // request's.
        Box::pin(self.wait(party(), over())).await
    }

    async fn wait(&self, party: K, over: impl Future<Output = ()>) -> Result<(), NoTurn> {
        let mut over = pin!(over);
        let mut waiting: Option<Waiting<'_, K>> = None;
        poll_fn(|cx| {
            let turn = match &waiting {
                Some(waiting) => waiting.turn(cx),
                None => match self.0.join(party.clone(), cx) {
                    Some(joined) => {
                        waiting = Some(joined);
                        Turn::Waits
                    }
                    None => Turn::Leaves,
                },
            };
            match turn {
                Turn::Goes => Poll::Ready(Ok(())),
                Turn::Leaves => Poll::Ready(Err(NoTurn::Shed)),
                Turn::Waits => over.as_mut().poll(cx).map(|()| Err(NoTurn::Waited)),
            }
        })
        .await
    }

    /// What `work` comes to, of which each step is a turn of `party`. Where too many wait it goes
    /// on at once.
    pub async fn paced<F: Future>(&self, party: &K, mut work: Pin<&mut F>) -> F::Output {
        let mut waiting: Option<Waiting<'_, K>> = None;
        poll_fn(|cx| {
            let waits = match &waiting {
                Some(waiting) => waiting.turn(cx) == Turn::Waits,
                None if self.0.take() => false,
                None => {
                    waiting = self.0.join(party.clone(), cx);
                    waiting.is_some()
                }
            };
            if waits {
                return Poll::Pending;
            }
            waiting = None;
            work.as_mut().poll(cx)
        })
        .await
    }

    /// Gives those their turns who wait, for ever.
    pub async fn run(self) {
        loop {
            poll_fn(|cx| self.0.poll_wanted(cx)).await;
            // Until the sockets have been looked at: who came meanwhile is in line.
            yield_now().await;
            self.0.round();
        }
    }
}

impl<K: Clone + Eq + Hash> Inner<K> {
    /// Takes a turn, if one is left.
    fn take(&self) -> bool {
        let lull = self.lulls.count();
        let (seen, left) = self.left.get();
        // In a lull all that was begun has run.
        let left = match seen == lull {
            true => left,
            false => self.bounds.after_a_lull,
        };
        let may = left > 0 && self.queue.borrow().is_empty();
        self.left.set((lull, left - u32::from(may)));
        may
    }

    /// Joins the line; none if too many wait, and of nobody more than of this party.
    fn join(&self, party: K, cx: &Context<'_>) -> Option<Waiting<'_, K>> {
        let ticket = Rc::new(Ticket {
            turn: Cell::new(Turn::Waits),
            waker: RefCell::new(cx.waker().clone()),
        });
        let joined = self.queue.borrow_mut().join(party.clone(), ticket.clone());
        let number = match joined {
            Joined::Waits(number) => number,
            Joined::InsteadOf(number, left) => {
                left.tell(Turn::Leaves);
                number
            }
            Joined::Turned(_) => return None,
        };
        if let Some(rounds) = self.rounds.take() {
            rounds.wake();
        }
        Some(Waiting {
            turns: self,
            party,
            number,
            ticket,
        })
    }

    /// Ready once somebody waits.
    fn poll_wanted(&self, cx: &Context<'_>) -> Poll<()> {
        if self.queue.borrow().is_empty() {
            self.rounds.set(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// A round begins.
    fn round(&self) {
        let mut left = self.bounds.a_round;
        while left > 0 {
            let next = self.queue.borrow_mut().go();
            let Some(ticket) = next else {
                break;
            };
            left -= 1;
            ticket.tell(Turn::Goes);
        }
        self.left.set((self.lulls.count(), left));
    }
}

impl Ticket {
    fn tell(&self, turn: Turn) {
        self.turn.set(turn);
        self.waker.borrow().wake_by_ref();
    }
}

impl<K: Clone + Eq + Hash> Waiting<'_, K> {
    fn turn(&self, cx: &Context<'_>) -> Turn {
        let turn = self.ticket.turn.get();
        if turn == Turn::Waits {
            self.ticket.waker.borrow_mut().clone_from(cx.waker());
        }
        turn
    }
}

impl<K: Clone + Eq + Hash> Drop for Waiting<'_, K> {
    fn drop(&mut self) {
        if self.ticket.turn.get() == Turn::Waits {
            let mut queue = self.turns.queue.borrow_mut();
            queue.give_up(&self.party, self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::{JoinSet, LocalSet};

    /// As many after a lull as in a round.
    fn few(turns: u32, waiting: usize) -> Bounds {
        Bounds {
            after_a_lull: turns,
            a_round: turns,
            waiting,
        }
    }

    /// Work of several steps, each of which leaves its name.
    async fn steps(name: &'static str, count: u32, done: Rc<RefCell<Vec<&'static str>>>) {
        for _ in 0..count {
            done.borrow_mut().push(name);
            // Ready at once for the next.
            let mut polled = false;
            poll_fn(|cx| {
                if std::mem::replace(&mut polled, true) {
                    return Poll::Ready(());
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        }
    }

    /// The order in which the steps of all were done, with a step of somebody else's in each round.
    async fn order(parties: &[(&'static str, u32)], a_round: u32) -> Vec<&'static str> {
        let (turns, done) = (
            Turns::new(few(a_round, 100), Lulls::default()),
            Rc::default(),
        );
        let local = LocalSet::new();
        local
            .run_until(async {
                let mut all = JoinSet::new();
                let rounds = tokio::task::spawn_local(turns.clone().run());
                for (name, count) in parties.iter().copied() {
                    let (turns, done) = (turns.clone(), Rc::clone(&done));
                    all.spawn_local(async move {
                        let work = pin!(steps(name, count, done));
                        turns.paced(&name, work).await;
                    });
                }
                while all.join_next().await.is_some() {}
                rounds.abort();
            })
            .await;
        drop(local);
        Rc::into_inner(done).unwrap().into_inner()
    }

    #[tokio::test]
    async fn each_party_has_its_turn_before_another_has_its_second() {
        let flood = [("flood", 2); 20];
        let all: Vec<_> = flood.into_iter().chain([("quiet", 2)]).collect();
        let order = order(&all, 1).await;
        assert_eq!(order.len(), 42);
        let quiet: Vec<usize> = (0..42).filter(|at| order[*at] == "quiet").collect();
        // Behind the one that came while nobody waited, and one of the flood's each time.
        assert!(quiet[0] <= 2 && quiet[1] <= 5, "{quiet:?}");
    }

    #[tokio::test]
    async fn one_that_is_alone_is_done_in_its_order() {
        assert_eq!(order(&[("a", 3)], 1).await, ["a"; 3]);
    }

    #[test]
    fn so_many_go_between_two_lulls_and_the_rest_in_rounds() {
        let lulls = Lulls::default();
        let turns = Turns::new(few(2, 3), lulls.clone());
        let cx = Context::from_waker(Waker::noop());
        assert!(turns.0.take() && turns.0.take() && !turns.0.take());
        lulls.note();
        assert!(turns.0.take() && turns.0.take() && !turns.0.take());
        let [first, second, third] = [1, 1, 2].map(|party| turns.0.join(party, &cx).unwrap());
        lulls.note();
        assert!(!turns.0.take(), "nobody goes before those who wait");
        turns.0.round();
        let gone = [&first, &second, &third].map(|one| one.turn(&cx) == Turn::Goes);
        assert_eq!(gone, [true, false, true]);
        drop(second);
        assert!(turns.0.queue.borrow().is_empty(), "it has left the line");
        assert!(!turns.0.take(), "this round's are taken");
        turns.0.round();
        assert!(turns.0.take());
    }

    #[test]
    fn more_go_after_a_lull_than_in_a_round() {
        let lulls = Lulls::default();
        let bounds = Bounds {
            after_a_lull: 3,
            ..few(1, 10)
        };
        let turns = Turns::new(bounds, lulls.clone());
        let cx = Context::from_waker(Waker::noop());
        let at_once = || (0..10).take_while(|_| turns.0.take()).count();
        assert_eq!(at_once(), 3);
        let waits = turns.0.join(1, &cx);
        turns.0.round();
        assert_eq!(at_once(), 0, "the round's one has gone");
        drop(waits);
        turns.0.round();
        assert_eq!(at_once(), 1, "the worker does not keep up");
        lulls.note();
        assert_eq!(at_once(), 3);
    }

    #[test]
    fn of_too_many_the_heaviest_party_is_shed_and_who_gives_up_takes_no_turn() {
        let turns = Turns::new(few(1, 2), Lulls::default());
        assert!(turns.0.take());
        let mut cx = Context::from_waker(Waker::noop());
        let wait = |party: u32| Box::pin(turns.turn(move || party, std::future::pending));
        let (mut one, mut two) = (wait(1), wait(1));
        assert!(one.as_mut().poll(&mut cx).is_pending() && two.as_mut().poll(&mut cx).is_pending());
        assert_eq!(
            wait(1).as_mut().poll(&mut cx),
            Poll::Ready(Err(NoTurn::Shed))
        );
        let mut quiet = wait(2);
        assert!(quiet.as_mut().poll(&mut cx).is_pending());
        assert_eq!(two.as_mut().poll(&mut cx), Poll::Ready(Err(NoTurn::Shed)));
        drop(one);
        turns.0.round();
        assert_eq!(quiet.as_mut().poll(&mut cx), Poll::Ready(Ok(())));
        let late = pin!(turns.turn(|| 3, || std::future::ready(())));
        assert_eq!(late.poll(&mut cx), Poll::Ready(Err(NoTurn::Waited)));
        assert!(turns.0.queue.borrow().is_empty());
    }
}
