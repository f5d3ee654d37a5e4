//! For how long an answer holds its place among those under way to its plugin.
//!
//! In: a place, and the answer that holds it. Out: the same answer, which lets the place go with
//! its body; or before, where others wait for one and it is the reader that has been waited for,
//! without a pause and for longer than a moment. Such an answer lasts for as long as its reader
//! likes, as an event stream does, and some hundreds of them would shut the plugin to everybody.
//! Invariant: an answer that waits for its plugin keeps its place. While nobody waits, nobody loses
//! one.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use gapura_transport::body::{Attachment, Body};
use gapura_transport::timers::{STEP, Timers};
use http::Response;
use slab::Slab;

use super::admission::InFlight;

/// What one worker's answers hold.
pub(crate) struct Holdings {
    table: Rc<Table>,
}

struct Table {
    timers: Timers,
    entries: RefCell<Slab<Entry>>,
}

struct Entry {
    /// None once it was let go.
    place: Option<InFlight>,
    /// Since when its reader is waited for, in steps of the timers; none while its plugin is.
    since: Option<u64>,
}

/// Goes with an answer's body.
struct Held {
    table: Rc<Table>,
    key: usize,
}

/// A reader that is waited for so long is a slow one.
const MOMENT: Duration = Duration::from_millis(500);

/// Others wait for a second at most.
const LOOK_EVERY: Duration = Duration::from_millis(200);

impl Holdings {
    pub(crate) fn new(timers: &Timers) -> Self {
        Self {
            table: Rc::new(Table {
                timers: timers.clone(),
                entries: RefCell::default(),
            }),
        }
    }

    /// The answer, which holds `place`.
    pub(crate) fn hold(&self, place: InFlight, answer: Response<Body>) -> Response<Body> {
        let entry = Entry {
            place: Some(place),
            since: None,
        };
        let key = self.table.entries.borrow_mut().insert(entry);
        let table = self.table.clone();
        answer.map(|body| body.with(Box::new(Held { table, key })))
    }

    /// Looks who holds others up, for ever.
    pub(crate) async fn run(self: Rc<Self>) {
        loop {
            self.table.timers.sleep(LOOK_EVERY).await;
            self.look();
        }
    }

    /// Lets the places go of answers that wait for their readers, the longest first, for as long as
    /// somebody waits for one.
    fn look(&self) {
        let now = self.table.timers.now();
        let mut slow: Vec<(u64, usize)> = Vec::new();
        for (key, entry) in self.table.entries.borrow().iter() {
            let waited = |since: &u64| now.saturating_sub(*since) >= steps(MOMENT);
            if let Some(since) = entry.since.filter(waited)
                && entry.place.as_ref().is_some_and(InFlight::is_waited_for)
            {
                slow.push((since, key));
            }
        }
        slow.sort_unstable();
        for (_, key) in slow {
            let place = self
                .table
                .entries
                .borrow_mut()
                .get_mut(key)
                .and_then(|entry| entry.place.take_if(|place| place.is_waited_for()));
            // Whoever waits for it is told when it is dropped, and no borrow is held then.
            drop(place);
        }
    }
}

fn steps(time: Duration) -> u64 {
    u64::try_from(time.as_millis() / STEP.as_millis()).unwrap_or(u64::MAX)
}

impl Held {
    fn since(&self, change: impl FnOnce(&mut Option<u64>, u64)) {
        if let Some(entry) = self.table.entries.borrow_mut().get_mut(self.key) {
            change(&mut entry.since, self.table.timers.now());
        }
    }
}

impl Attachment for Held {
    /// Until it asks for more, its reader is what is waited for.
    fn bytes(&mut self, _: u64) {
        self.since(|since, now| {
            since.get_or_insert(now);
        });
    }

    fn waits(&mut self) {
        self.since(|since, _| *since = None);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let entry = self.table.entries.borrow_mut().try_remove(self.key);
        drop(entry);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};

    use gapura_protocol::context::TenantId;

    use super::super::admission::{Admission, Party};
    use super::*;

    fn party() -> Party {
        Party::Company(TenantId::parse(b"42").unwrap())
    }

    fn place(admission: &Arc<Admission>) -> InFlight {
        let entering = std::pin::pin!(admission.enter(1, party, pending));
        match entering.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(place)) => place,
            other => panic!("{other:?}"),
        }
    }

    /// Holds the only place in this state, lets half a second pass, and tells whether who waits
    /// then has it.
    fn is_let_go(tell: impl FnOnce(&mut Held), someone_waits: bool) -> bool {
        let (timers, admission) = (Timers::new(), Arc::<Admission>::default());
        let holdings = Holdings::new(&timers);
        let entry = Entry {
            place: Some(place(&admission)),
            since: None,
        };
        let key = holdings.table.entries.borrow_mut().insert(entry);
        let table = holdings.table.clone();
        let mut held = Held { table, key };
        tell(&mut held);
        let mut waiting = Box::pin(admission.enter(1, party, pending));
        let mut cx = Context::from_waker(Waker::noop());
        if someone_waits {
            assert!(waiting.as_mut().poll(&mut cx).is_pending());
        }
        for _ in 0..4 {
            timers.step();
        }
        holdings.look();
        assert_eq!(admission.in_flight(), 1, "not before its time");
        timers.step();
        holdings.look();
        if someone_waits {
            waiting.as_mut().poll(&mut cx).is_ready()
        } else {
            admission.in_flight() == 0
        }
    }

    #[test]
    fn a_place_goes_on_when_its_reader_is_waited_for_and_somebody_wants_it() {
        assert!(is_let_go(|held| held.bytes(7), true));
        assert!(!is_let_go(|held| held.bytes(7), false), "nobody wants it");
        assert!(!is_let_go(|_| {}, true), "nothing has come yet");
        let plugin_is_slow = |held: &mut Held| {
            held.bytes(7);
            held.waits();
        };
        assert!(!is_let_go(plugin_is_slow, true));
    }

    #[test]
    fn a_place_is_let_go_once() {
        let (timers, admission) = (Timers::new(), Arc::<Admission>::default());
        let holdings = Holdings::new(&timers);
        let answer = holdings.hold(place(&admission), Response::new(Body::empty()));
        assert_eq!(admission.in_flight(), 1);
        drop(answer);
        assert_eq!(admission.in_flight(), 0);
        assert!(holdings.table.entries.borrow().is_empty());
    }
}
